// The owner's gallery: labels as crops. What is wrong is marked by one key each, and sent as answers that supersede.
// Everything from data is text, never HTML.
import { Refused, get, login, post } from "./api.js";
import { Editor } from "./editor.js";
import { failed, message } from "./problems.js";
import { count, said as told, t, translate } from "./texts.js";

const IDLE_MS = 60_000; // a longer pause is no labelling time
const FILTERS = ["label", "verdict", "origin", "round", "agreement"];
const $ = (id) => document.getElementById(id);
const nameOf = (k) => me.classes[k] ?? t("class {k}", { k });
const keyOf = (k) => (k < 9 ? String(k + 1) : k === 9 ? "0" : "");
const classifies = () => me.kind === "class";

let me = null, items = [], total = 0, most = 60, start = 0, at = 0, last = [], editing = null, asking = 0;
let clock = { spent: 0, last: Date.now() };
const marks = new Map(); // of an item what is wrong: { verdict, label, box }
const stage = new Editor($("stage"), () => {});
stage.tagOf = (k) => nameOf(k);

function node(name, text = "", kind = "") {
  const made = document.createElement(name);
  made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function active() {
  const now = Date.now();
  clock.spent += Math.min(now - clock.last, IDLE_MS);
  clock.last = now;
}

// ---- which labels

function wanted() {
  const found = new URLSearchParams();
  for (const name of FILTERS) if ($(name).value !== "") found.set(name, $(name).value);
  if ($("doubtful").checked) found.set("doubtful", "true");
  return found;
}

function options(id, first, rows, text) {
  const before = $(id).value;
  $(id).replaceChildren(new Option(first, ""), ...rows.map(({ value, many }) => new Option(`${text(value)} (${many})`, value)));
  $(id).value = [...$(id).options].some((option) => option.value === before) ? before : "";
}

const WORDS = { background: t("no object"), duplicate: t("labelled twice"), skipped: t("skipped"), all: t("nothing in here") };
const person = (origin) => (origin.startsWith("person ") ? origin.slice("person ".length) : told(origin));
const inRound = (round) => (Number(round) < 0 ? t("before the first") : t("round {round}", { round }));

async function filters() {
  const found = await get("/api/owner/labels/filters");
  options("label", t("all"), found.label, (k) => nameOf(k));
  options("verdict", t("labels"), found.verdict, (word) => WORDS[word] ?? word);
  options("origin", t("anybody"), found.origin, person);
  options("round", t("all"), found.round, inRound);
}

async function load(from = start) {
  const mine = ++asking, query = wanted();
  query.set("start", from);
  const found = await get(`/api/owner/labels?${query}`);
  if (mine !== asking) return; // something else was wanted meanwhile
  ({ items, total, most } = found);
  if (!items.length && total) return load(Math.max(0, Math.ceil(total / most) - 1) * most);
  start = from;
  at = Math.min(at, Math.max(0, items.length - 1));
  marks.clear();
  show();
}

/** Marks that were not sent are not lost by a filter or another page. */
function free() {
  if (!marks.size) return true;
  message(count(marks.size, "{n} mark is not sent: S sends, Escape forgets it.", "{n} marks are not sent: S sends, Escape forgets them."));
  return false;
}

async function filtered() {
  if (!free()) { restore(); return; }
  remember();
  at = 0;
  await load(0);
}

let chosen = [];
const remember = () => { chosen = [...FILTERS.map((name) => $(name).value), $("doubtful").checked]; };
const restore = () => { FILTERS.forEach((name, k) => { $(name).value = chosen[k]; }); $("doubtful").checked = chosen.at(-1); };

function turn(step) {
  const to = start + step * most;
  if (to < 0 || to >= total || !free()) return;
  at = 0;
  load(to).catch(failed);
}

// ---- the grid

function picture(item) {
  const { number, size } = item.image;
  const [x1, y1, x2, y2] = item.box ?? [0, 0, ...size];
  const whole = x1 <= 0 && y1 <= 0 && x2 >= size[0] && y2 >= size[1];
  return whole ? `/api/images/${number}/320` : `/api/owner/crops/${number}?${new URLSearchParams({ x1, y1, x2, y2 })}`;
}

function said(item) {
  if (item.verdict) return `${WORDS[item.verdict] ?? item.verdict}${item.label === null ? "" : `: ${nameOf(item.label)}?`}`;
  if (item.label === null) return t("no label");
  return item.merged !== null && item.merged !== item.label ? t("{merged} (first: {first})", { merged: nameOf(item.merged), first: nameOf(item.label) }) : nameOf(item.label);
}

function more(item) {
  const parts = [person(item.origin), item.round === null || item.round < 0 ? "" : t("round {round}", { round: item.round })];
  if (item.agree !== null && item.agree !== undefined) parts.push(item.agree ? t("people agree") : t("people differ"));
  if (item.doubt) parts.push(`${told(item.doubt.kind.replace("_", " "))}${item.doubt.kind === "badly_located" ? "" : `: ${nameOf(item.doubt.likely)}?`}`);
  return parts.filter(Boolean).join(" · ");
}

function tile(item, k) {
  const made = node("figure"), image = node("img"), text = node("figcaption", said(item));
  made.setAttribute("role", "option");
  made.id = `tile-${k}`;
  image.src = picture(item);
  image.loading = "lazy";
  image.alt = item.image.name;
  image.draggable = false;
  text.append(node("small", more(item)));
  made.append(image, text);
  made.addEventListener("click", () => { active(); at = k; if (marks.delete(item) || item.annotation == null) draw(); else wrong(); $("tiles").focus({ preventScroll: true }); });
  made.addEventListener("dblclick", () => { at = k; marks.delete(item); open(); });
  return made;
}

function show() {
  $("tiles").replaceChildren(...items.map(tile));
  $("tiles").hidden = !items.length;
  $("empty").hidden = !!items.length;
  $("empty").textContent = $("doubtful").checked ? t("Nothing is doubtful here: every label is one that the model believes, or nothing was predicted yet.") : t("There is nothing here.");
  const pages = Math.ceil(total / most) || 1;
  $("page").textContent = t("page {k} of {n}", { k: start / most + 1, n: pages });
  $("earlier").disabled = start === 0;
  $("later").disabled = start + most >= total;
  draw();
}

function draw() {
  [...$("tiles").children].forEach((made, k) => {
    const mark = marks.get(items[k]);
    made.setAttribute("aria-selected", String(!!mark));
    made.classList.toggle("here", k === at);
    made.querySelector(".mark")?.remove();
    if (mark) made.append(node("span", mark.verdict === null ? t("wrong: which class?") : mark.label === null ? WORDS[mark.verdict] : `→ ${nameOf(mark.label)}`, mark.label === null ? "mark" : "mark rather"));
  });
  if (items.length) {
    $("tiles").setAttribute("aria-activedescendant", `tile-${at}`);
    $("tiles").children[at]?.scrollIntoView({ block: "nearest" });
  } else $("tiles").removeAttribute("aria-activedescendant");
  const n = marks.size, item = items[at], box = item && !classifies();
  $("counts").textContent = `${$("verdict").value ? count(total, "{n} answer", "{n} answers") : count(total, "{n} label", "{n} labels")}${n ? ` · ${t("{n} marked", { n })}` : ""}`;
  $("about").textContent = item ? `${item.image.name}: ${said(item)} · ${more(item)}` : "";
  const send = document.querySelector("[data-do=send]");
  send.disabled = !n;
  send.firstChild.textContent = `${n ? t("Send {n}", { n }) : t("Send")} `;
  document.querySelector("[data-do=undo]").disabled = !last.length;
  document.querySelector("[data-do=duplicate]").hidden = classifies();
  document.querySelector("[data-do=duplicate]").disabled = !box || item.annotation == null;
  document.querySelector("[data-do=wrong]").disabled = !item || (item.annotation == null);
  document.querySelector("[data-do=wrong]").firstChild.textContent = `${classifies() ? t("Wrong") : t("No object")} `;
  document.querySelector("[data-do=open]").disabled = !item;
}

function mark(item, verdict, label = null) {
  const now = marks.get(item);
  if (now && now.verdict === verdict && now.label === label) marks.delete(item);
  else marks.set(item, { verdict, label });
  draw();
}

/** No object; of a whole image's class: wrong, and a class key says what it is. */
function wrong() {
  const item = items[at];
  if (item && item.annotation != null) mark(item, classifies() ? null : "background");
}

function duplicate() {
  const item = items[at];
  if (item && item.annotation != null && !classifies()) mark(item, "duplicate");
}

/** What it is rather: of what is wrong without a class yet, or else of the label at the cursor. */
function classify(k) {
  if (k >= me.classes.length || !items.length) return;
  const some = [...marks].filter(([, { verdict }]) => verdict === null).map(([item]) => item), item = items[at];
  if (some.length) for (const one of some) marks.set(one, { verdict: "all", label: k });
  else if (item.annotation == null && !item.box && !classifies()) return message(t("Open it (O) and draw the box."));
  else mark(item, classifies() ? "all" : "object", k);
  draw();
}

function body(item, { verdict, label }, box = item.box) {
  const boxed = !classifies() && label !== null ? box : null;
  return { image: item.image.number, verdict, annotation: item.annotation ?? null, about: item.query ?? null, box: boxed, label };
}

let storing = null; // what is on its way is not sent twice
const store = (some) => (storing ??= put(some).finally(() => { storing = null; }));

async function put(some) {
  active();
  const reply = await post("/api/owner/corrections", { items: some, seconds: clock.spent / 1000 });
  clock = { spent: 0, last: Date.now() };
  last.push(reply.answers);
  marks.clear();
  message(count(some.length, "{n} corrected. Undo (Z) takes it back.", "{n} corrected. Undo (Z) takes them back."), 4000);
  await filters();
  await load();
}

async function send() {
  if ([...marks.values()].some(({ verdict }) => verdict === null)) return message(t("Say which class they are: a class key answers for all that are marked as wrong."));
  if (marks.size) await store([...marks].map(([item, one]) => body(item, one)));
}

async function undo() {
  if (marks.size) { marks.clear(); return draw(); }
  if (!last.length) return;
  const answers = last.pop();
  try { await post("/api/owner/corrections/undo", { answers }); } catch (problem) {
    if (!(problem instanceof Refused) || problem.status >= 500) last.push(answers); // it may be tried again
    throw problem;
  }
  message(t("Taken back."), 3000);
  await filters();
  await load();
}

// ---- one label, large

async function open() {
  const item = items[at];
  if (!item || !free()) return;
  const { number, name } = item.image;
  const rest = classifies() ? [] : (await get(`/api/owner/labels?image=${number}`)).items.filter((other) => other.annotation !== item.annotation);
  const label = item.label ?? item.doubt?.likely ?? 0, boxed = !classifies() && item.box;
  editing = { item, label };
  $("item-title").textContent = `${name}: ${said(item)}`;
  for (const button of document.querySelectorAll("[data-item=wrong], [data-item=duplicate]")) button.hidden = classifies() || item.annotation == null;
  $("item").showModal();
  stage.label = label;
  stage.reset({
    image: item.image, url: `/api/images/${number}/${Math.max(...item.image.size) > 1280 ? 2560 : 1280}`, focus: boxed ? item.box : null, limit: null,
    known: rest.map((other) => ({ box: other.box, tag: nameOf(other.merged ?? other.label) })), covered: [],
    boxes: boxed ? [{ box: [...item.box], label, tag: nameOf(label) }] : [], draws: !boxed && !classifies(),
  });
  classes();
  $("stage").focus({ preventScroll: true });
}

function classes() {
  $("item-classes").replaceChildren(...me.classes.map((name, k) => {
    const made = classButton(name, k, () => itemClass(k));
    made.setAttribute("aria-pressed", String(k === editing?.label));
    return made;
  }));
}

function itemClass(k) {
  if (!editing || k >= me.classes.length) return;
  editing.label = stage.label = k;
  const box = stage.boxes[Math.max(0, stage.selected)];
  if (box && (stage.selected >= 0 || !stage.draws)) Object.assign(box, { label: k, tag: nameOf(k) });
  stage.draw();
  classes();
}

const inItem = {
  async save() {
    const { item, label } = editing, whole = [{ label }];
    const boxes = classifies() ? whole : stage.boxes;
    if (!boxes.length) return message(t("Draw a box first, or close."));
    const verdict = classifies() ? "all" : "object";
    await store(boxes.map((one, k) => body(k ? { ...item, annotation: null } : item, { verdict, label: one.label }, one.box)));
    $("item").close();
  },
  async wrong() { await store([body(editing.item, { verdict: "background", label: null })]); $("item").close(); },
  async duplicate() { await store([body(editing.item, { verdict: "duplicate", label: null })]); $("item").close(); },
  fit: () => stage.fit(),
  whole: () => stage.whole(),
  close: () => $("item").close(),
};

function doItem(what) {
  active();
  Promise.resolve(inItem[what]()).catch(failed);
}

// ---- keys

const actions = { wrong, duplicate, open, send, undo };
const pressed = { x: "wrong", r: "wrong", d: "duplicate", o: "open", enter: "open", s: "send", z: "undo" };
const itemKeys = { a: "save", enter: "save", x: "wrong", r: "wrong", d: "duplicate", f: "fit", w: "whole" };
const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function perform(what) {
  active();
  Promise.resolve(actions[what]()).catch(failed);
}

function move([dx, dy]) {
  const tiles = [...$("tiles").children], row = tiles.filter((made) => made.offsetTop === tiles[0].offsetTop).length || 1;
  at = Math.max(0, Math.min(at + dx + dy * row, tiles.length - 1));
  draw();
}

document.addEventListener("keydown", (event) => {
  if (event.isComposing || event.ctrlKey || event.metaKey || event.altKey) return;
  const key = event.key.toLowerCase(), control = event.target.closest("button, a, select, input");
  if (event.target.closest("select, input:not([type=checkbox])") || (control && (key === "enter" || key === " "))) return;
  const inside = $("item").open, number = /^[0-9]$/.test(key) ? (key === "0" ? 9 : Number(key) - 1) : -1;
  if (arrows[event.key]) {
    const [dx, dy] = arrows[event.key];
    if (!inside) move(arrows[event.key]);
    else if (!stage.nudge(dx, dy, event.shiftKey)) return;
  } else if (event.repeat) return;
  else if (number >= 0) (inside ? itemClass : classify)(number);
  else if (inside && itemKeys[key]) doItem(itemKeys[key]);
  else if (inside) return;
  else if (key === " ") wrong();
  else if (key === "escape") { marks.clear(); draw(); }
  else if (key === "[" || key === "]") turn(key === "]" ? 1 : -1);
  else if (pressed[key]) perform(pressed[key]);
  else return;
  active();
  event.preventDefault();
});

function classButton(name, k, act) {
  const made = node("button");
  made.type = "button";
  made.append(node("span", name), ...(keyOf(k) ? [node("kbd", keyOf(k))] : []));
  made.addEventListener("click", () => { active(); act(); });
  return made;
}

async function begin() {
  translate(document.body);
  me = await login();
  $("project").textContent = me.project;
  $("who").textContent = me.name;
  $("class-list").replaceChildren(...me.classes.map((name, k) => classButton(name, k, () => classify(k))));
  for (const made of document.querySelectorAll("[data-do]")) made.addEventListener("click", () => perform(made.dataset.do));
  for (const made of document.querySelectorAll("[data-item]")) made.addEventListener("click", () => doItem(made.dataset.item));
  for (const name of [...FILTERS, "doubtful"]) $(name).addEventListener("change", () => filtered().catch(failed));
  $("filters").addEventListener("submit", (event) => event.preventDefault());
  $("earlier").addEventListener("click", () => turn(-1));
  $("later").addEventListener("click", () => turn(1));
  addEventListener("beforeunload", (event) => { if (marks.size) event.preventDefault(); });
  await filters();
  const asked = new URLSearchParams(location.search);
  for (const name of FILTERS) if (asked.has(name)) $(name).value = asked.get(name);
  $("doubtful").checked = asked.get("doubtful") === "true";
  remember();
  await load(0);
  $("tiles").focus({ preventScroll: true });
}

begin().catch(failed);
