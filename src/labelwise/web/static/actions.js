// What keys and buttons do. A class is an answer of its own where one is asked for.
import * as clock from "./clock.js";
import { $ } from "./elements.js";
import { choose, described, film, grid, stage, wishFor, history } from "./editing.js";
import { list } from "./class_list.js";
import { openGuidelines } from "./guidelines.js";
import { openHelp } from "./help.js";
import { answer, answerChosen, toggleGrid, undo } from "./queue.js";
import { openSkip } from "./skip.js";
import { failed, message } from "./standing.js";
import { current, draws, nameOf, state } from "./state.js";
import { t } from "./texts.js";
import { hideMore, openView } from "./view.js";

const actions = {
  accept(query) {
    if (query.kind === "box") answer("object", [stage.boxes[0].box], [state.label]);
    else if (state.gridded) answerChosen("all", (chosen) => chosen.label);
    else if (query.kind === "class") { if (query.label !== null) classify(query.label); }
    else if (draws(query) && !stage.boxes.length && !query.sure) {
      query.sure = true;
      message(t("No box is drawn. Once more, or N: there is nothing in here."), 5000);
    } else if (draws(query)) answer("all", stage.boxes.map((item) => item.box), stage.boxes.map((item) => item.label));
  },
  nothing(query) {
    if (draws(query) && stage.boxes.length) message(t("There are boxes. Remove them, or say that everything is labelled (A)."), 5000);
    else if (draws(query)) answer("all");
  },
  take(query) {
    stage.take();
    if (query.kind === "box") choose(stage.boxes[0].label);
    list();
  },
  "take-all"(query) { if (draws(query)) stage.takeAll(); },
  lend(query) {
    if (draws(query) && film.lent.length) stage.lend(film.lent);
    else if (draws(query) && film.waiting) wishFor(query);
    else if (draws(query)) message(t("No frame of this film is labelled yet: there is nothing to lend."), 4000);
  },
  reject(query) { if (query.kind === "box") answer("background"); else if (draws(query)) stage.refuse(); },
  duplicate(query) { if (query.kind === "box") answer("duplicate"); },
  skip() { openSkip(); },
  add(query) { if (draws(query)) stage.add(); },
  remove() { stage.remove(); },
  "no-box"() { if (draws(current())) { stage.selected = -1; stage.draw(); described(); } },
  "next-box"() { stage.choose(1); },
  "last-box"() { stage.choose(-1); },
  find() { $("find").focus(); $("find").select(); },
};

/** What needs no query, or shows it otherwise. */
const views = {
  before: () => film.step(-1), after: () => film.step(1), fit: () => stage.fit(), whole: () => stage.whole(), "zoom-in": () => stage.zoom(0.75), "zoom-out": () => stage.zoom(4 / 3),
  looser: () => raise(-0.05), stricter: () => raise(0.05), undo, redo: () => { if (history.go(1)) described(); }, hide: hideMore, view: openView, help: openHelp, guidelines: openGuidelines,
  grid: () => toggleGrid().catch(failed),
};

/** What is no action is a verdict of the unit, which goes without a box. */
export function perform(what) {
  clock.active();
  if (views[what]) views[what]();
  else if (film.away) film.back();
  else if (current()) (actions[what] ?? (() => answer(what)))(current());
}

export const lend = (query) => actions.lend(query);

function raise(step) {
  stage.raise(step);
  described();
}

/** For a box and for an image's class this is the answer; where boxes are drawn it is their class. */
export function classify(k) {
  const query = current();
  if (!query || k === undefined || k >= state.me.classes.length) return;
  if (film.away) return film.back();
  choose(k);
  if (query.kind === "box") answer("object", [stage.boxes[0].box], [k]);
  else if (state.gridded) answerChosen("all", () => k);
  else if (query.kind === "class") answer("all", [[0, 0, ...query.image.size]], [k]);
  else {
    const item = stage.boxes[stage.selected];
    if (item) {
      Object.assign(item, { label: k, tag: nameOf(k) });
      stage.changed();
    }
    list();
  }
}
