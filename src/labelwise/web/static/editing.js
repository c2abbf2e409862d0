// The boxes of the query that is shown: the editor with its history, the film, and what the panel says of both.
import { $ } from "./elements.js";
import { Editor } from "./editor.js";
import { Film } from "./film.js";
import { Grid } from "./grid.js";
import { History } from "./history.js";
import { colourOf } from "./colours.js";
import { current, draws, nameOf, state, url } from "./state.js";
import { failed } from "./standing.js";
import { list } from "./class_list.js";
import { count, said, t } from "./texts.js";
import { look, showBoxes } from "./view.js";
import { lend } from "./actions.js";

export const stage = new Editor($("stage"), edited);
export const history = new History(stage);
export const grid = new Grid($("grid"), described);
export const film = new Film(stage, { strip: $("strip"), nameOf, url, told: (text) => { $("where").hidden = !text; $("where").textContent = text; }, offered, failed });
stage.tagOf = nameOf;
stage.colourOf = (label) => (look.colours ? colourOf(label) : undefined);
stage.threshold = 0.5;
let wish = null; // the query for which labels to lend were wanted before they had come

export function choose(label) { state.label = stage.label = label; }

function edited() {
  showBoxes();
  stage.settle();
  stage.draw();
  history.note();
  if (current()) current().sure = false;
  described();
}

/** Suggestions of the film or the model have come. */
function offered(query, { offers, waits, problem }) {
  const overlaps = ({ box: [a, b, c, d] }) => a < query.box[2] && c > query.box[0] && b < query.box[3] && d > query.box[1];
  stage.suggest(query.kind === "box" ? offers.filter(overlaps) : offers);
  history.note(true);
  query.waits = waits && !problem ? t("Looking for suggestions (the motion of this film is being computed) …") : said(problem);
  described();
  if (wish === query && !film.waiting) { wish = null; lend(query); }
}

/** Labels are to be lent as soon as it is known what there is. */
export function wishFor(query) { wish = query; }

export function described() {
  const query = current();
  offering(query);
  if (state.gridded && query) {
    const n = grid.picked.size;
    $("hint").textContent = n ? t("{n} of {all} chosen: a class answers them all.", { n, all: state.queue.length }) : t("Choose images (space bar or click); a class answers them all.");
    return;
  }
  if (!query || !draws(query)) return;
  const n = stage.boxes.length, chosen = stage.boxes[stage.selected];
  $("hint").textContent = !n ? t("No box drawn yet.") : chosen ? count(n, "{n} box drawn; chosen: {class}.", "{n} boxes drawn; chosen: {class}.", { class: nameOf(chosen.label) }) : count(n, "{n} box drawn.", "{n} boxes drawn.");
  if (chosen && chosen.label !== state.label) { choose(chosen.label); list(); }
}

export function offering(query) {
  const open = stage.open, n = open.length, by = open.filter((offer) => offer.origin === "model").length, from = new Set(open.filter((offer) => offer.origin !== "model").map((offer) => offer.image)).size;
  const modelled = stage.offers.some((offer) => offer.origin === "model");
  $("offers").hidden = state.gridded || !query || !(draws(query) ? film.shows || modelled : query.kind === "box" && film.shows);
  if ($("offers").hidden) return;
  const some = (many) => count(many, "{n} suggestion", "{n} suggestions");
  const parts = [...(from ? [count(from, "{some} of {n} labelled frame", "{some} of {n} labelled frames", { some: some(n - by) })] : []), ...(by ? [t("{some} of the model", { some: some(by) })] : [])];
  $("offered").textContent = query.waits || parts.join(", ") || (film.shows && !modelled ? t("No suggestion of a labelled frame") : t("No suggestion"));
  $("threshold").hidden = !modelled;
  $("threshold-at").textContent = `${Math.round(100 * stage.threshold)} %`;
  for (const made of document.querySelectorAll("#offers button[data-do]")) {
    if (made.closest("#threshold")) continue;
    const lends = made.dataset.do === "lend";
    made.hidden = !(lends ? film.lent.length : n) || (!draws(query) && made.dataset.do !== "take");
  }
}
