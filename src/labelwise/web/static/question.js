// Shows a query: the image with what is known of it, the question, its buttons, why it is asked.
import * as clock from "./clock.js";
import { $, button, node } from "./elements.js";
import { choose, described, film, grid, history, offering, stage } from "./editing.js";
import { list } from "./class_list.js";
import { passOver, prefetch, unreadable } from "./queue.js";
import { perform } from "./actions.js";
import { cover, idle, unreachable } from "./standing.js";
import { NOTHING } from "./stage.js";
import { called, current, draws, nameOf, state, url } from "./state.js";
import { t } from "./texts.js";
import { UNITS } from "./units.js";
import { why } from "./why.js";

const LATE_MS = 300, AGAIN_MS = 2000;

export async function show() {
  const query = current();
  $("grid").hidden = !state.gridded || !query;
  $("tools").hidden = state.gridded;
  for (const part of ["verdicts", "classes", "why", "file", "strip"]) $(part).hidden = !query || (part === "strip" && query.strip.length < 2);
  why(state.gridded ? null : query);
  document.querySelector("[data-do=skip]").disabled = !query;
  $("loading").hidden = true;
  cover(query ? null : idle());
  film.open(null);
  for (const made of document.querySelectorAll("[data-film]")) made.hidden = !query || state.gridded || query.strip.length < 2;
  if (!query) {
    history.close();
    stage.reset(NOTHING);
    offering(null);
    $("question").textContent = t("Nothing to answer now");
    $("hint").textContent = "";
    return;
  }
  if (state.gridded) return tiles();
  open(query);
  query.shown = Date.now();
  clock.start();
  const late = setTimeout(() => { $("loading").hidden = query !== current(); }, LATE_MS), picture = await prefetch(query);
  clearTimeout(late);
  if (query === current()) $("loading").hidden = true;
  if (picture || query !== current()) return;
  unreadable(query);
  const reply = await fetch(url(query.image)).catch(() => null);
  if (query !== current()) return;
  if (reply?.status === 410) passOver(query);
  else if (!reply || (reply.ok && !query.again)) { // out of reach, or back: what was drawn is kept
    query.again = Boolean(reply);
    cover(unreachable());
    setTimeout(() => { if (query === current()) show(); }, AGAIN_MS);
  } else cover(t("This image cannot be read.\nPress S to skip it."));
}

/** The query as it was answered before, or as its draft is, or untouched. */
function open(query) {
  const { image, box, before } = query, made = before?.verdict === "skipped" ? null : before, whole = query.kind === "class";
  choose(made?.labels?.[0] ?? query.label ?? state.label);
  const offers = (made?.suggested ?? []).map(({ number, ...offer }) => ({ ...offer, tag: nameOf(offer.label), state: number === null ? "refused" : "taken" }));
  const said = (made?.boxes ?? []).map((one, k) => ({ box: [...one], label: made.labels[k], tag: nameOf(made.labels[k]), from: made.suggested.findIndex((offer) => offer.number === k) }));
  const asked = query.kind === "box" ? [{ box: [...box], label: state.label, tag: nameOf(state.label) }] : [];
  stage.reset({
    image,
    url: url(image),
    focus: whole || query.kind === "image" ? null : box,
    known: whole ? [] : query.boxes.map((known) => ({ box: known.box, tag: nameOf(known.label) })),
    covered: whole ? [] : query.covered,
    limit: query.kind === "region" ? box : null,
    boxes: whole ? [] : said.length ? said : asked,
    offers: whole ? [] : offers,
    draws: draws(query),
  });
  if (query.draft) stage.restore(query.draft);
  history.open(state.me.project, query);
  film.open(query);
  ask(query);
  if (stage.boxes.length) described();
  else offering(query);
  $("find").value = "";
  list();
}

function ask(query) {
  const values = { class: nameOf(query.label ?? state.label) }, kind = query.kind === "image" && query.strip.length > 1 ? "film" : query.reviews ? `${query.kind} to review` : query.kind;
  const [question, hint] = UNITS.questions[kind].map((text) => text && t(text, values));
  const buttons = UNITS.buttons[query.kind].filter(([what]) => query.kind !== "class" || what !== "accept" || query.label !== null);
  $("question").textContent = $("said").textContent = question;
  $("hint").textContent = query.kind === "class" && query.label !== null && !query.reviews ? t("Predicted: {class}", values) : hint;
  query.keys = new Map(buttons.map(([what, , key]) => [key.toLowerCase(), what]));
  $("verdicts").replaceChildren(...buttons.map(([what, text, key, main]) => button(t(text, values), key, () => perform(what), main, what)));
  $("why").open = false;
  const parts = [...(query.score === null ? [] : [[t("score"), query.score]]), ...Object.entries(query.reason)];
  $("reasons").replaceChildren(...parts.flatMap(([name, value]) => [node("dt", name), node("dd", typeof value === "number" ? value.toPrecision(4) : value)]));
  $("file").textContent = t("{image} · round {round}, rank {rank}", { image: called(query), round: query.round, rank: query.rank + 1 });
}

function tiles() {
  for (const query of state.queue) query.shown ??= Date.now();
  grid.show(state.queue, nameOf);
  const predicted = current().label;
  cover(null);
  $("question").textContent = t("Which class are these images?");
  const accept = predicted === null ? [] : [button(t("They are {class}", { class: nameOf(predicted) }), "A", () => perform("accept"), true, "accept")];
  $("verdicts").replaceChildren(...accept, button(t("All / none"), "E", () => grid.all(), false, "all"));
  for (const part of ["why", "strip"]) $(part).hidden = true;
  $("file").textContent = t("{n} images · round {round}", { n: state.queue.length, round: current().round });
  if (predicted !== null) choose(predicted);
  list();
}
