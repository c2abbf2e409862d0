// The queue of one person: the next queries and their images are here already; answers travel behind the person's back
// and are kept until the server has stored them.
import { Outbox, login, post } from "./api.js";
import * as clock from "./clock.js";
import { $ } from "./elements.js";
import { described, film, grid, history, stage } from "./editing.js";
import { list, used } from "./class_list.js";
import { show } from "./question.js";
import { failed, leave, message, standing, waiting } from "./standing.js";
import { called, current, draws, nameOf, state, tab, url } from "./state.js";
import { count, said, t } from "./texts.js";
import { keep } from "./unsent.js";

const AHEAD = 3; // the query that is shown and two more
const TILES = 12; // the queries of a grid: as many as one person may hold
const pictures = new Map();
const ANSWERS = { object: t("Object"), background: t("No object"), duplicate: t("Duplicate"), all: t("Labelled"), skipped: t("Skipped") };
const wording = (verdict) => ANSWERS[verdict] ?? verdict;

export const outbox = new Outbox({
  stored,
  refused,
  waiting,
  keep,
  wants: (rest) => ({
    alike: state.gridded, most: !state.begun ? 0 : state.gridded ? TILES : Math.min(6, AHEAD + rest.length),
    holding: [...state.queue, ...rest.map((item) => item.query)].map((query) => query.query).slice(0, TILES),
  }),
});

export function prefetch({ image }) {
  if (pictures.has(url(image))) return pictures.get(url(image));
  const picture = new Image();
  picture.src = url(image);
  const ready = picture.decode().then(() => picture, () => null);
  pictures.set(url(image), ready);
  if (pictures.size > 40) pictures.delete(pictures.keys().next().value);
  return ready;
}

function take(reply) {
  state.progress = reply.progress ?? state.progress;
  if (state.progress?.classes > state.me.classes.length) renewed().catch(failed);
  for (const query of reply.queries ?? []) {
    if (state.queue.some((other) => other.query === query.query)) continue;
    state.queue.push(query);
    if (!state.gridded) prefetch(query);
  }
}

export async function fill() {
  const reply = await post("/api/next", { tab, holding: held(), most: state.gridded ? TILES : AHEAD + outbox.size, alike: state.gridded });
  const before = state.queue.length;
  take(reply);
  if (!before || (state.gridded && state.queue.length > before)) show();
  standing();
}

/** Asks for more where there is room; every few seconds. */
export function refill() {
  if (state.queue.length < (state.gridded ? TILES : AHEAD) && !outbox.size && !document.hidden && !state.left) fill().catch(failed);
}

const held = () => [...state.queue, ...outbox.items.map((item) => item.query)].map((query) => query.query);

export function answer(verdict, boxes = [], labels = [], note = "") {
  const query = current();
  if (!query || query.shown === undefined) return;
  query.draft = { ...stage.state, label: state.label };
  const offers = stage.suggested, suggested = draws(query) ? offers : offers.filter((offer) => offer.number !== null);
  send(query, verdict, boxes, labels, note, clock.seconds(), boxes.length || draws(query) && verdict === "all" ? suggested : []);
  history.close();
  show();
}

function send(query, verdict, boxes, labels, note, seconds, suggested = []) {
  const said = { tab, query: query.query, lease: query.lease, verdict, boxes, labels, note, seconds, suggested, classes: state.me.classes.length };
  state.queue = state.queue.filter((other) => other !== query);
  for (const label of labels) used(label);
  const { progress } = state;
  if (progress?.state === "open") state.progress = { ...progress, mine: (progress.mine ?? 0) + 1, answered: progress.answered + 1 };
  standing();
  outbox.add({ query, said });
  $("said").textContent = `${wording(verdict)}.`;
}

/** Answers all that are chosen in the grid; `labelOf`: of each its class, or null where there is none to say. */
export function answerChosen(verdict, labelOf, note = "") {
  const chosen = grid.chosen.filter((query) => verdict === "skipped" || labelOf(query) !== null), each = clock.seconds() / Math.max(1, chosen.length);
  for (const query of chosen) {
    if (verdict === "skipped") send(query, verdict, [], [], note, each);
    else send(query, verdict, [[0, 0, ...query.image.size]], [labelOf(query)], "", each);
  }
  $("said").textContent = t("{n} answered.", { n: chosen.length });
  clock.start();
  show();
}

export async function toggleGrid() {
  if (state.me.kind !== "class") return;
  await outbox.running;
  state.gridded = !state.gridded;
  clock.start();
  $("grid-button").setAttribute("aria-pressed", String(state.gridded));
  if (state.gridded) { // what this window holds goes back: the grid takes images that are alike
    state.queue = [];
    await post("/api/release", { tab });
  }
  await fill();
  show();
}

function stored(item, reply) {
  if (reply.counts === false && !reply.repeated && state.me.overlap === 1) message(t("Somebody else had answered this one; your answer is kept as a second opinion."), 5000);
  if (reply.feedback) {
    const { right, verdict, labels } = reply.feedback, known = `${wording(verdict)}${labels.map((k) => ` ${nameOf(k)}`).join(",")}`;
    message(right ? t("Right. The answer to your last question was known.") : t("The answer to your last question was known: {known}.", { known }), 8000);
  }
  if (reply.told?.length) message(t("Of your last answer {told}. Undo (Z) takes it back.", { told: reply.told.map(said).join("; ") }), 8000);
  const before = state.queue.length;
  take(reply);
  if (!before || (state.gridded && state.queue.length > before)) show();
  else if (item.query.strip.length) film.ask(); // the next frame may have been shown before this label was there
  standing();
}

async function refused(item, problem) {
  if (problem.status === 401 || problem.status === 403) return leave(problem.message);
  if (problem.stands) { // this query was answered before, otherwise: to ask it again would end here again
    message(t("Not stored: {problem}.", { problem: said(problem.message) }), 12_000);
    return fill().catch(failed);
  }
  state.queue.unshift(item.query);
  show();
  await renewed().catch(failed); // it may be that a class was added
  message(t("Not stored: {problem}. Please answer it again.", { problem: said(problem.message) }), 12_000);
}

/** The last edit, or where there is none the last answer. */
export async function undo() {
  if (history.go(-1)) return described();
  await outbox.running;
  try {
    const reply = await post("/api/undo", { tab });
    state.queue = [reply.query, ...state.queue.filter((query) => query.query !== reply.query.query)];
    state.progress = reply.progress;
    message(t("Taken back: answer it again."), 2500);
    show();
    standing();
  } catch (problem) { failed(problem); }
}

/** The image cannot be shown: the server asks about it again when its file is back. */
export function passOver(query) {
  pictures.delete(url(query.image));
  state.queue = state.queue.filter((other) => other !== query);
  $("said").textContent = t("{image} cannot be shown now: passed over.", { image: called(query) });
  show();
  fill().catch(failed);
}

export const unreadable = (query) => pictures.delete(url(query.image));

/** Somebody has added a class: it is on the list now, and what is shown may be answered with it. */
export async function renewed() {
  const before = state.me.classes.length;
  state.me = await login();
  if (state.me.classes.length === before) return;
  message(t("There is a new class: {names}. Look for it from now on.", { names: state.me.classes.slice(before).join(", ") }), 8000);
  list();
}

/** This window is alive: what it holds stays its own. */
export async function beat() {
  if (!state.queue.length) return;
  const reply = await post("/api/heartbeat", { tab });
  take(reply);
  state.queue = state.queue.filter((query, k) => (k === 0 && !state.gridded) || reply.held.includes(query.query));
  if (state.gridded) show();
  standing();
}

/** Before this person leaves: whether nothing is lost, and what this window holds goes back. */
export async function leaving() {
  if (outbox.size) {
    message(count(outbox.size, "{n} answer is not stored yet. Leave when it is.", "{n} answers are not stored yet. Leave when they are."), 5000);
    return false;
  }
  state.left = true;
  state.queue = [];
  await post("/api/release", { tab }).catch((problem) => { state.left = false; throw problem; });
  return true;
}
