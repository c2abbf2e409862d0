// The queue of one person: shows a query, takes the answer by one key, and goes on at once. The next queries and their
// images are here already; answers travel behind the person's back and are kept until the server has stored them.
import { account } from "./account.js";
import { Outbox, Refused, get, login, post } from "./api.js";
import { Grid } from "./grid.js";
import { asked } from "./classes.js";
import { Editor } from "./editor.js";
import { Film } from "./film.js";
import { keysOf } from "./help.js";
import { History, forget } from "./history.js";

const AHEAD = 3; // the query that is shown and two more
const TILES = 12; // the queries of a grid: as many as one person may hold
const IDLE_MS = 60_000; // a longer pause is no labelling time
const SKIPS = ["cannot tell what it is", "the image is broken or missing", "the rules do not say", "too many objects to label"];
const $ = (id) => document.getElementById(id);
const tab = sessionStorage.getItem("tab") ?? crypto.getRandomValues(new Uint32Array(4)).join("-");
sessionStorage.setItem("tab", tab);

let me = null, queue = [], label = 0, gridded = false, progress = null, found = [], unsent = false, left = false;
let clock = { spent: 0, last: 0 };
const pictures = new Map();
const stage = new Editor($("stage"), edited);
const history = new History(stage);
const grid = new Grid($("grid"), described);
const outbox = new Outbox({ stored, refused, waiting });

const current = () => queue[0];
const draws = (query) => query.kind === "image" || query.kind === "region";
const nameOf = (k) => me.classes[k] ?? `class ${k}`;
const keyOf = (k) => (k < 9 ? String(k + 1) : k === 9 ? "0" : "");
const url = ({ number, size }) => `/api/images/${number}/${Math.max(...size) > 1280 ? 2560 : 1280}`;
const film = new Film(stage, { strip: $("strip"), nameOf, url, told: (text) => { $("where").hidden = !text; $("where").textContent = text; }, offered, failed });
stage.tagOf = nameOf;
stage.threshold = 0.5;

// ---- the queue

function prefetch({ image }) {
  if (pictures.has(url(image))) return pictures.get(url(image));
  const picture = new Image();
  picture.src = url(image);
  const ready = picture.decode().then(() => picture, () => null);
  pictures.set(url(image), ready);
  if (pictures.size > 40) pictures.delete(pictures.keys().next().value);
  return ready;
}

function take(reply) {
  progress = reply.progress ?? progress;
  if (progress?.classes > me.classes.length) renewed().catch(failed);
  for (const query of reply.queries ?? []) {
    if (queue.some((other) => other.query === query.query)) continue;
    queue.push(query);
    if (!gridded) prefetch(query);
  }
}

async function fill() {
  const reply = await post("/api/next", { tab, holding: held(), most: gridded ? TILES : AHEAD + outbox.size, alike: gridded });
  const before = queue.length;
  take(reply);
  if (!before || (gridded && queue.length > before)) show();
  standing();
}

const held = () => [...queue, ...outbox.items.map((item) => item.query)].map((query) => query.query);

function answer(verdict, boxes = [], labels = [], note = "") {
  const query = current();
  if (!query || query.shown === undefined) return;
  query.draft = { ...stage.state, label };
  const offers = stage.suggested, suggested = draws(query) ? offers : offers.filter((offer) => offer.number !== null);
  send(query, verdict, boxes, labels, note, seconds(), boxes.length || draws(query) && verdict === "all" ? suggested : []);
  history.close();
  show();
}

function send(query, verdict, boxes, labels, note, seconds, suggested = []) {
  const body = { tab, query: query.query, lease: query.lease, verdict, boxes, labels, note, seconds, suggested, classes: me.classes.length };
  queue = queue.filter((other) => other !== query);
  outbox.add({
    query,
    body: (rest) => ({
      ...body, alike: gridded, most: gridded ? TILES : Math.min(6, AHEAD + rest.length),
      holding: [...queue, ...rest.map((item) => item.query)].map((q) => q.query).slice(0, TILES),
    }),
  });
  if (progress?.state === "open") progress = { ...progress, mine: (progress.mine ?? 0) + 1 };
  $("said").textContent = `${wording(verdict)}.`;
}

/** Answers all that are chosen in the grid; `labels`: of each its class, or null where there is none to say. */
function answerChosen(verdict, labelOf, note = "") {
  const chosen = grid.chosen.filter((query) => verdict === "skipped" || labelOf(query) !== null), each = seconds() / Math.max(1, chosen.length);
  for (const query of chosen) {
    if (verdict === "skipped") send(query, verdict, [], [], note, each);
    else send(query, verdict, [[0, 0, ...query.image.size]], [labelOf(query)], "", each);
  }
  $("said").textContent = `${chosen.length} answered.`;
  clock = { spent: 0, last: Date.now() };
  show();
}

async function toggleGrid() {
  if (me.kind !== "class") return;
  await outbox.running;
  gridded = !gridded;
  clock = { spent: 0, last: Date.now() };
  $("grid-button").setAttribute("aria-pressed", String(gridded));
  if (gridded) { // what this window holds goes back: the grid takes images that are alike
    queue = [];
    await post("/api/release", { tab });
  }
  await fill();
  show();
}

const wording = (verdict) => ({ object: "Object", background: "No object", duplicate: "Duplicate", all: "Labelled", skipped: "Skipped" })[verdict] ?? verdict;

function waiting(n) {
  if (n) message(`${n} answer${n > 1 ? "s" : ""} not stored yet: the server cannot be reached. Keep this page open.`);
  else if (unsent) message("");
  unsent = n > 0;
}

function stored(item, reply) {
  if (reply.counts === false && !reply.repeated && me.overlap === 1) message("Somebody else had answered this one; your answer is kept as a second opinion.", 5000);
  if (reply.feedback) message(reply.feedback.right ? "Right. The answer to your last question was known." : `The answer to your last question was known: ${wording(reply.feedback.verdict)}${reply.feedback.labels.map((k) => ` ${me.classes[k]}`).join(",")}.`, 8000);
  if (reply.told?.length) message(`Of your last answer ${reply.told.join("; ")}. Undo (Z) takes it back.`, 8000);
  const before = queue.length;
  take(reply);
  if (!before || (gridded && queue.length > before)) show();
  else if (item.query.strip.length) film.ask(); // the next frame may have been shown before this label was there
  standing();
}

async function refused(item, problem) {
  if (problem.status === 401 || problem.status === 403) return leave(problem.message);
  if (problem.stands) { // this query was answered before, otherwise: to ask it again would end here again
    message(`Not stored: ${problem.message}.`, 12_000);
    return fill().catch(failed);
  }
  queue.unshift(item.query);
  show();
  await renewed().catch(failed); // it may be that a class was added
  message(`Not stored: ${problem.message}. Please answer it again.`, 12_000);
}

/** The last edit, or where there is none the last answer. */
async function undo() {
  if (history.go(-1)) return described();
  await outbox.running;
  try {
    const reply = await post("/api/undo", { tab });
    queue = [reply.query, ...queue.filter((query) => query.query !== reply.query.query)];
    progress = reply.progress;
    message("Taken back: answer it again.", 2500);
    show();
    standing();
  } catch (problem) { failed(problem); }
}

// ---- showing a query

async function show() {
  const query = current();
  $("grid").hidden = !gridded || !query;
  $("tools").hidden = gridded;
  for (const part of ["verdicts", "classes", "why", "file", "strip"]) $(part).hidden = !query || (part === "strip" && query.strip.length < 2);
  document.querySelector("[data-do=skip]").disabled = !query;
  cover(query ? null : idle());
  film.open(null);
  for (const made of document.querySelectorAll("[data-film]")) made.hidden = !query || gridded || query.strip.length < 2;
  if (!query) {
    history.close();
    stage.reset({ size: [100, 100], url: "", focus: null, known: [], covered: [], boxes: [], limit: null, draws: false });
    $("question").textContent = "Nothing to answer now";
    $("hint").textContent = "";
    return;
  }
  if (gridded) return tiles();
  const { image, box, before } = query, made = before?.verdict === "skipped" ? null : before;
  label = made?.labels?.[0] ?? query.label ?? label;
  stage.label = label;
  const offers = (made?.suggested ?? []).map(({ number, ...offer }) => ({ ...offer, tag: nameOf(offer.label), state: number === null ? "refused" : "taken" }));
  const said = (made?.boxes ?? []).map((one, k) => ({ box: [...one], label: made.labels[k], tag: nameOf(made.labels[k]), from: made.suggested.findIndex((offer) => offer.number === k) }));
  const asked = query.kind === "box" ? [{ box: [...box], label, tag: nameOf(label) }] : [];
  stage.reset({
    size: image.size,
    url: url(image),
    focus: query.kind === "class" || query.kind === "image" ? null : box,
    known: query.kind === "class" ? [] : query.boxes.map((known) => ({ box: known.box, tag: nameOf(known.label) })),
    covered: query.kind === "class" ? [] : query.covered,
    limit: query.kind === "region" ? box : null,
    boxes: query.kind === "class" ? [] : said.length ? said : asked,
    offers: query.kind === "class" ? [] : offers,
    draws: draws(query),
  });
  if (query.draft) stage.restore(query.draft);
  history.open(me.project, query);
  film.open(query);
  offering(query);
  ask(query);
  $("find").value = "";
  list();
  query.shown = Date.now();
  clock = { spent: 0, last: Date.now() };
  const picture = await prefetch(query);
  if (query !== current()) return;
  if (picture) return;
  pictures.delete(url(query.image));
  const reply = await fetch(url(query.image)).catch(() => null);
  if (query !== current()) return;
  if (reply?.status !== 410) return cover("This image cannot be read.\nPress S to skip it.");
  queue.shift(); // the server asks about it again when its file is back
  $("said").textContent = `${query.image.name} cannot be shown now: passed over.`;
  show();
  fill().catch(failed);
}

function tiles() {
  for (const query of queue) query.shown ??= Date.now();
  grid.show(queue, nameOf);
  const predicted = current().label;
  cover(null);
  $("question").textContent = "Which class are these images?";
  $("verdicts").replaceChildren(...(predicted === null ? [] : [button(`They are ${nameOf(predicted)}`, "A", () => perform("accept"), true, "accept")]), button("All / none", "E", () => grid.all(), false, "all"));
  for (const part of ["why", "strip"]) $(part).hidden = true;
  $("file").textContent = `${queue.length} images · round ${current().round}`;
  if (predicted !== null) label = predicted;
  list();
}

function ask(query) {
  const kinds = {
    box: [query.reviews ? `Is this label right: ${nameOf(label)}?` : `Is this: ${nameOf(label)}?`, "Mend the box by dragging or with the arrow keys, then accept."],
    image: [`Label every object in the ${query.strip.length > 1 ? "frame" : "image"}`, "Drag to draw a box. When everything is labelled, say so."],
    region: ["Label every object in the lit region", "Drag to draw a box. When everything in the region is labelled, say so."],
    class: query.reviews ? ["Is this label right?", `Labelled: ${nameOf(query.label)}`] : ["Which class is this image?", query.label === null ? "" : `Predicted: ${nameOf(query.label)}`],
  };
  [$("question").textContent, $("hint").textContent] = kinds[query.kind];
  const buttons = {
    box: [["accept", "Accept", "A", true], ["reject", "No object", "R"], ["duplicate", "Duplicate", "D"]],
    image: [["accept", "Everything is labelled", "A", true], ["nothing", "Nothing in here", "N"], ["add", "New box", "B"], ["remove", "Remove", "Del"]],
    region: [["accept", "Everything in here is labelled", "A", true], ["nothing", "Nothing in here", "N"], ["add", "New box", "B"], ["remove", "Remove", "Del"]],
    class: query.label === null ? [] : [["accept", `It is ${nameOf(query.label)}`, "A", true]],
  };
  query.keys = new Map(buttons[query.kind].map(([what, , key]) => [key.toLowerCase(), what]));
  $("verdicts").replaceChildren(...buttons[query.kind].map(([what, text, key, main]) => button(text, key, () => perform(what), main, what)));
  $("why").open = false;
  const parts = [["score", query.score], ...Object.entries(query.reason)];
  $("reasons").replaceChildren(...parts.flatMap(([name, value]) => [node("dt", name), node("dd", typeof value === "number" ? value.toPrecision(4) : value)]));
  $("file").textContent = `${query.image.name} · round ${query.round}, rank ${query.rank + 1}`;
  $("said").textContent = kinds[query.kind][0];
}

function edited() {
  stage.settle();
  stage.draw();
  history.note();
  if (current()) current().sure = false;
  described();
}

let wish = null; // the query for which labels to lend were wanted before they had come

/** Suggestions of the film have come. */
function offered(query, { offers, waits, problem }) {
  const overlaps = ({ box: [a, b, c, d] }) => a < query.box[2] && c > query.box[0] && b < query.box[3] && d > query.box[1];
  stage.suggest(query.kind === "box" ? offers.filter(overlaps) : offers);
  history.note(true);
  query.waits = waits && !problem ? "Looking for suggestions (the motion of this film is being computed) …" : problem;
  described();
  if (wish === query && !film.waiting) { wish = null; actions.lend(query); }
}

function described() {
  const query = current();
  offering(query);
  if (gridded && query) {
    const n = grid.picked.size;
    $("hint").textContent = n ? `${n} of ${queue.length} chosen: a class answers them all.` : "Choose images (space bar or click); a class answers them all.";
    return;
  }
  if (query && draws(query)) {
    const n = stage.boxes.length;
    $("hint").textContent = n ? `${n} box${n > 1 ? "es" : ""} drawn${stage.selected >= 0 ? `; chosen: ${nameOf(stage.boxes[stage.selected].label)}` : ""}.` : "No box drawn yet.";
    if (stage.selected >= 0) { label = stage.boxes[stage.selected].label; stage.label = label; list(); }
  }
}

function offering(query) {
  const open = stage.open, n = open.length, by = open.filter((offer) => offer.origin === "model").length, from = new Set(open.filter((offer) => offer.origin !== "model").map((offer) => offer.image)).size;
  const modelled = stage.offers.some((offer) => offer.origin === "model");
  $("offers").hidden = gridded || !query || !(draws(query) ? film.shows || modelled : query.kind === "box" && film.shows);
  if ($("offers").hidden) return;
  const some = (many) => `${many} suggestion${many > 1 ? "s" : ""}`;
  const parts = [...(from ? [`${some(n - by)} of ${from} labelled frame${from > 1 ? "s" : ""}`] : []), ...(by ? [`${some(by)} of the model`] : [])];
  $("offered").textContent = query.waits || parts.join(", ") || (film.shows && !modelled ? "No suggestion of a labelled frame" : "No suggestion");
  $("threshold").hidden = !modelled;
  $("threshold-at").textContent = `${Math.round(100 * stage.threshold)} %`;
  for (const made of document.querySelectorAll("#offers button")) {
    const lends = made.dataset.do === "lend";
    made.hidden = !(lends ? film.lent.length : n) || (!draws(query) && made.dataset.do !== "take");
  }
}

function idle() {
  if (!progress) return "Loading …";
  if (me.answered_by !== "people") return "This project is answered by the simulated oracle.\nStart it with: labelwise run --oracle people";
  if (progress.state === "done") return "All rounds are done. Thank you!";
  if (progress.state === "busy") return `The model is busy${progress.stage ? ` (${progress.stage})` : ""}.\nThe next questions come by themselves.`;
  return "Nothing is open for you now: every question is answered, or somebody has it.\nMore come by themselves.";
}

function cover(text) {
  $("cover").hidden = text === null;
  $("cover").textContent = text ?? "";
}

// ---- classes

function list() {
  const typed = $("find").value.trim().toLowerCase();
  const rank = (name) => (name.toLowerCase().startsWith(typed) ? 0 : name.toLowerCase().includes(typed) ? 1 : 2);
  found = me.classes.map((name, k) => [rank(name), k]).filter(([r]) => r < 2).sort((a, b) => a[0] - b[0] || a[1] - b[1]).map(([, k]) => k);
  $("class-list").replaceChildren(...found.slice(0, 60).map((k) => {
    const made = button(nameOf(k), keyOf(k), () => classify(k));
    made.setAttribute("aria-pressed", String(k === label));
    return made;
  }));
  if (!found.length) {
    const skip = button("Skip: its class is missing", "Enter", missing), add = button("Add this class …", "", adding);
    for (const made of [skip, add]) made.classList.add("why");
    const more = me.role === "owner" ? add : node("p", "The owner sees which classes people miss.");
    $("class-list").replaceChildren(node("p", `“${$("find").value.trim()}” is no class of this project.`), ...(current() ? [skip] : []), more);
  }
}

/** Somebody has added a class: it is on the list now, and what is shown may be answered with it. */
async function renewed() {
  const before = me.classes.length;
  me = await login();
  if (me.classes.length === before) return;
  message(`There is a new class: ${me.classes.slice(before).join(", ")}. Look for it from now on.`, 8000);
  list();
}

async function adding() {
  const name = $("find").value.trim();
  if (!(await asked(name, me.kind))) return;
  $("find").value = "";
  await renewed();
}

/** A class that the project lacks: the query is skipped, and the owner is told the name. */
function missing() {
  const note = `missing class: ${$("find").value.trim().slice(0, 100)}`;
  $("find").value = "";
  $("find").blur();
  if (gridded) answerChosen("skipped", () => null, note);
  else answer("skipped", [], [], note);
}

/** For a box and for an image's class this is the answer; where boxes are drawn it is their class. */
function classify(k) {
  const query = current();
  if (!query || k >= me.classes.length) return;
  if (film.away) return film.back();
  label = k;
  stage.label = k;
  if (query.kind === "box") answer("object", [stage.boxes[0].box], [k]);
  else if (gridded) answerChosen("all", () => k);
  else if (query.kind === "class") answer("all", [[0, 0, ...query.image.size]], [k]);
  else {
    const item = stage.boxes[stage.selected];
    if (item) Object.assign(item, { label: k, tag: nameOf(k) });
    stage.draw();
    edited();
    list();
  }
}

// ---- what keys and buttons do

const actions = {
  accept(query) {
    if (query.kind === "box") answer("object", [stage.boxes[0].box], [label]);
    else if (gridded) answerChosen("all", (chosen) => chosen.label);
    else if (query.kind === "class") { if (query.label !== null) classify(query.label); }
    else if (draws(query) && !stage.boxes.length && !query.sure) {
      query.sure = true;
      message("No box is drawn. Once more, or N: there is nothing in here.", 5000);
    } else if (draws(query)) answer("all", stage.boxes.map((item) => item.box), stage.boxes.map((item) => item.label));
  },
  nothing(query) {
    if (draws(query) && stage.boxes.length) message("There are boxes. Remove them, or say that everything is labelled (A).", 5000);
    else if (draws(query)) answer("all");
  },
  take(query) {
    stage.take();
    if (query.kind === "box") [label, stage.label] = [stage.boxes[0].label, stage.boxes[0].label];
    list();
  },
  "take-all"(query) { if (draws(query)) stage.takeAll(); },
  lend(query) {
    if (draws(query) && film.lent.length) stage.lend(film.lent);
    else if (draws(query) && film.waiting) wish = query; // as soon as it is known what there is
    else if (draws(query)) message("No frame of this film is labelled yet: there is nothing to lend.", 4000);
  },
  reject(query) { if (query.kind === "box") answer("background"); else if (draws(query)) stage.refuse(); },
  duplicate(query) { if (query.kind === "box") answer("duplicate"); },
  skip() { $("skip-note").value = ""; $("skip").showModal(); },
  add(query) { if (draws(query)) stage.add(); },
  remove() { stage.remove(); },
  "no-box"() { if (draws(current())) { stage.selected = -1; stage.draw(); described(); } },
  "next-box"() { stage.choose(1); },
  "last-box"() { stage.choose(-1); },
  find() { $("find").focus(); $("find").select(); },
};
const views = { before: () => film.step(-1), after: () => film.step(1), redo: () => { if (history.go(1)) described(); }, looser: () => raise(-0.05), stricter: () => raise(0.05), fit: () => stage.fit(), whole: () => stage.whole(), "zoom-in": () => stage.zoom(0.75), "zoom-out": () => stage.zoom(4 / 3), undo, help, grid: () => toggleGrid().catch(failed) };

/** What is no action is a verdict of the unit, which goes without a box. */
function perform(what) {
  active();
  if (views[what]) views[what]();
  else if (film.away) film.back();
  else if (current()) (actions[what] ?? (() => answer(what)))(current());
}

function raise(step) {
  stage.raise(step);
  described();
}

const pressed = {
  a: "accept", enter: "accept", r: "reject", x: "reject", d: "duplicate", s: "skip", z: "undo", u: "undo", y: "redo", n: "nothing", t: "take", e: "take-all", l: "lend", ",": "before", ".": "after", "<": "looser", ">": "stricter", f: "fit", w: "whole", "+": "zoom-in", "=": "zoom-in", "-": "zoom-out",
  b: "add", delete: "remove", backspace: "remove", "]": "next-box", "[": "last-box", escape: "no-box", c: "find", "/": "find", "?": "help", g: "grid",
};
const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

document.addEventListener("keydown", (event) => {
  if (document.querySelector("dialog[open]") || event.isComposing) return;
  if (event.target === $("find")) return finding(event);
  const key = event.key.toLowerCase();
  if (event.ctrlKey || event.metaKey) {
    const step = key === "y" || (key === "z" && event.shiftKey) ? "redo" : key === "z" ? "undo" : "";
    if (!step) return;
    event.preventDefault();
    return perform(step);
  }
  const control = event.target.closest("button, a, summary, input");
  if (control && (key === "enter" || key === " ")) return; // the control that has the focus is meant
  if (gridded && current() && (arrows[event.key] || key === " " || key === "e")) {
    event.preventDefault();
    if (arrows[event.key]) grid.move(...arrows[event.key]);
    else if (!event.repeat) key === "e" ? grid.all() : grid.toggle();
    return active();
  }
  if (arrows[event.key] && film.away) {
    event.preventDefault();
    return film.step(arrows[event.key][0] || arrows[event.key][1]);
  }
  if (arrows[event.key]) {
    const step = event.altKey ? 10 : 1;
    if (current() && stage.nudge(arrows[event.key][0] * step, arrows[event.key][1] * step, event.shiftKey)) event.preventDefault();
    return active();
  }
  if (event.altKey) return;
  if (/^[0-9]$/.test(key)) {
    if (event.repeat) return;
    active();
    return classify(key === "0" ? 9 : Number(key) - 1);
  }
  const what = (!gridded && current()?.keys?.get(key)) || pressed[key];
  if (!what || (event.repeat && !["zoom-in", "zoom-out", "before", "after", "looser", "stricter"].includes(what))) return;
  event.preventDefault();
  perform(what);
});

function finding(event) {
  if (event.key === "Enter" && !event.repeat) {
    event.preventDefault();
    if (!found.length) return current() ? missing() : undefined;
    $("find").blur();
    classify(found[0]);
  } else if (event.key === "Escape") {
    $("find").value = "";
    $("find").blur();
    list();
  }
}

function help() {
  const query = current();
  $("keys").replaceChildren(...keysOf(query?.kind ?? "box", query ? draws(query) : false, film.shows).map(([key, what]) => {
    const row = node("tr");
    row.append(node("th", key), node("td", what));
    return row;
  }));
  $("guidelines").textContent = me.guidelines;
  $("guidelines").hidden = !me.guidelines;
  $("help").showModal();
}

function skipping() {
  $("skip-reasons").replaceChildren(...SKIPS.map((text, k) => button(text, String(k + 1), () => skipped(text))));
  $("skip").addEventListener("keydown", (event) => {
    if (!$("skip").open) return; // it was closed a moment ago and still has the focus
    event.stopPropagation(); // or the key would answer the next query as well
    const k = Number(event.key) - 1;
    if (event.target !== $("skip-note") && SKIPS[k]) { event.preventDefault(); skipped(SKIPS[k]); }
  });
  $("skip").querySelector("form").addEventListener("submit", (event) => {
    event.preventDefault();
    const note = $("skip-note").value.trim();
    if (note) skipped(note);
    else $("skip-note").focus();
  });
  $("skip-back").addEventListener("click", () => $("skip").close());
}

function skipped(note) {
  $("skip").close();
  $(gridded ? "grid" : "stage").focus({ preventScroll: true });
  if (gridded) answerChosen("skipped", () => null, note);
  else answer("skipped", [], [], note);
}

// ---- time, progress, messages

function active() {
  const now = Date.now();
  clock.spent += Math.min(now - clock.last, IDLE_MS);
  clock.last = now;
}

function seconds() {
  active();
  return Math.round(clock.spent) / 1000;
}

function standing() {
  if (!progress) return;
  if (progress.state !== "open") $("counts").textContent = `Round ${progress.round}: ${progress.state === "done" ? "all done" : progress.stage || "waiting"}`;
  else {
    $("bar").max = progress.budget || 1;
    $("bar").value = Math.min(progress.spent, progress.budget);
    $("counts").textContent = `Round ${progress.round}: ${Math.round(progress.spent)} of ${Math.round(progress.budget)} ${progress.unit} · you: ${progress.mine ?? 0}`;
  }
  if (!queue.length) cover(idle());
}

let timer = 0;
function message(text, for_ms = 0) {
  clearTimeout(timer);
  $("message").hidden = !text;
  $("message").textContent = text;
  if (for_ms) timer = setTimeout(() => message(""), for_ms);
}

function failed(problem) {
  if (problem instanceof Refused && problem.status === 401) return leave(problem.message);
  message(problem.message, 6000);
}

function leave(why) {
  queue = [];
  cover(`${why}.`);
  const link = node("a", "Enter with your password");
  link.href = "/enter";
  $("cover").append(link);
  $("panel").inert = true;
}

/** Before this person leaves: whether nothing is lost, and what this window holds goes back. */
async function leaving() {
  if (outbox.size) {
    message(`${outbox.size} answer${outbox.size > 1 ? "s are" : " is"} not stored yet. Leave when they are.`, 5000);
    return false;
  }
  left = true;
  queue = [];
  await post("/api/release", { tab }).catch((problem) => { left = false; throw problem; });
  return true;
}

function node(name, text = "") {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}

function button(text, key, act, main = false, what = "") {
  const made = node("button");
  made.type = "button";
  made.append(node("span", text), ...(key ? [node("kbd", key)] : []));
  made.classList.toggle("main", main);
  if (what) made.dataset.verdict = what;
  made.addEventListener("click", () => { active(); act(); $(gridded ? "grid" : "stage").focus({ preventScroll: true }); });
  return made;
}

async function beat() {
  if (!queue.length) return;
  const reply = await post("/api/heartbeat", { tab });
  take(reply);
  queue = queue.filter((query, k) => (k === 0 && !gridded) || reply.held.includes(query.query));
  if (gridded) show();
  standing();
}

async function start() {
  try { me = await login(); } catch (problem) { return leave(problem.message); }
  $("project").textContent = me.project;
  $("who").textContent = me.name;
  $("grid-button").hidden = me.kind !== "class";
  $("owner-link").hidden = me.role !== "owner";
  $("tracks-link").hidden = !me.films || me.kind === "class";
  $("help-button").addEventListener("click", help);
  for (const made of document.querySelectorAll("[data-do]")) made.addEventListener("click", () => perform(made.dataset.do));
  $("find").addEventListener("input", list);
  $("stage").addEventListener("pointerdown", active);
  document.addEventListener("visibilitychange", () => { if (document.hidden) active(); else clock.last = Date.now(); });
  addEventListener("beforeunload", (event) => { if (outbox.size) event.preventDefault(); });
  addEventListener("pagehide", () => { if (!left) post("/api/release", { tab }, true).catch(() => {}); });
  addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
  account(me, { message: (text) => message(text, 10_000), leaving, failed });
  skipping();
  forget();
  list();
  await fill().catch(failed);
  show();
  setInterval(() => beat().catch(failed), 30_000);
  setInterval(() => { if (queue.length < (gridded ? TILES : AHEAD) && !outbox.size && !document.hidden && !left) fill().catch(failed); }, 2_000);
}

start();
