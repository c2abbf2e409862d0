// The classes: their keys, the list, finding one by typing, one that is missing.
// With ten classes or fewer every class has its own key. With more, 1 to 5 are the model's likeliest for this query, and
// 6 to 0 those that were used last: each stays on its key until it is the one that was used longest ago.
import { classify } from "./actions.js";
import { asked } from "./classes.js";
import { colourOf } from "./colours.js";
import { $, button, node } from "./elements.js";
import { isFree } from "./keys.js";
import { answer, answerChosen, renewed } from "./queue.js";
import { current, nameOf, state } from "./state.js";
import { t } from "./texts.js";
import { look } from "./view.js";

const DIGITS = "1234567890", LIKELY = 5, FEW = 10, MOST = 200;
let recent = [], ages = [], turn = 0, found = [], drawn = "";
let own = new Map(); // a person's own keys: key -> name of a class

const place = () => `labelwise keys ${state.me.project}`;

export function startClasses() {
  try { own = new Map(JSON.parse(localStorage.getItem(place())) ?? []); } catch { /* nothing that we have kept */ }
  recent = Array.from({ length: DIGITS.length - LIKELY }, (_none, k) => LIKELY + k);
  ages = recent.map(() => 0);
  $("find").addEventListener("input", list);
}

export const ownKeys = () => [...own];

/** Gives a class a key of its own, or takes the key away (`name` null); what stands against it, or "". */
export function setKey(key, name) {
  if (name !== null && !isFree(key)) return t("This key does something else already.");
  if (name !== null && !state.me.classes.includes(name)) return t("There is no such class.");
  if (name === null) own.delete(key);
  else own.set(key, name);
  localStorage.setItem(place(), JSON.stringify([...own]));
  list();
  return "";
}

const likeliestFirst = () => look.likeliest ?? state.me.classes.length > FEW;

/** The classes of the keys 1 … 9, 0; undefined where a key has none. */
function slots() {
  const all = state.me.classes.map((_name, k) => k);
  if (!likeliestFirst()) return all.slice(0, DIGITS.length);
  const likely = (current()?.likely ?? []).map(([k]) => k), first = [...likely, ...all.slice(0, 2 * LIKELY).filter((k) => !likely.includes(k))];
  return [...first.slice(0, LIKELY), ...recent.map((k) => (k < all.length ? k : undefined))];
}

/** The class of a key. */
export function classOf(key) {
  const name = own.get(key), at = DIGITS.indexOf(key);
  if (name !== undefined && state.me.classes.includes(name)) return state.me.classes.indexOf(name);
  return at < 0 || key === "" ? undefined : slots()[at];
}

/** A class was given: it takes the place of the one that was used longest ago. */
export function used(k) {
  let at = recent.indexOf(k);
  if (at < 0 && slots().slice(0, LIKELY).includes(k)) return;
  if (at < 0) at = ages.indexOf(Math.min(...ages));
  recent[at] = k;
  ages[at] = ++turn;
}

/** Class -> the key that is shown for it. */
function keys() {
  const shown = new Map();
  slots().forEach((k, at) => { if (k !== undefined && !shown.has(k) && !own.has(DIGITS[at])) shown.set(k, DIGITS[at]); });
  for (const [key, name] of own) if (state.me.classes.includes(name)) shown.set(state.me.classes.indexOf(name), key.toUpperCase());
  return shown;
}

export function list() {
  const { classes } = state.me, typed = $("find").value.trim().toLowerCase(), keyed = keys(), likely = new Map(current()?.likely ?? []);
  const rank = (name) => (name.toLowerCase().startsWith(typed) ? 0 : name.toLowerCase().includes(typed) ? 1 : 2);
  const first = likeliestFirst() ? [...keyed.keys()] : [], rest = classes.map((_name, k) => k).filter((k) => !first.includes(k));
  found = [...first, ...rest].map((k) => [rank(classes[k]), k]).filter(([r]) => r < 2).sort((a, b) => a[0] - b[0]).map(([, k]) => k);
  const shown = found.slice(0, MOST), sign = JSON.stringify([typed, shown, shown.map((k) => [classes[k], keyed.get(k), likely.get(k)]), look.colours, Boolean(current())]);
  if (sign !== drawn) {
    drawn = sign;
    $("class-list").classList.toggle("many", classes.length > 20);
    $("class-list").replaceChildren(...shown.map((k) => choice(k, keyed.get(k), likely.get(k))));
    if (found.length > MOST) $("class-list").append(node("p", t("{n} more: type to find them.", { n: found.length - MOST })));
    if (!found.length) $("class-list").replaceChildren(...nothing());
  }
  for (const made of $("class-list").querySelectorAll("[data-class]")) made.setAttribute("aria-pressed", String(Number(made.dataset.class) === state.label));
}

function choice(k, key = "", share = undefined) {
  const made = button(nameOf(k), key, () => classify(k));
  made.dataset.class = k;
  if (share !== undefined) made.querySelector("span").append(node("small", `${Math.round(100 * share)} %`));
  if (!look.colours) return made;
  const colour = node("i");
  colour.style.background = colourOf(k);
  made.prepend(colour);
  return made;
}

function nothing() {
  const skip = button(t("Skip: its class is missing"), "Enter", missing), add = button(t("Add this class …"), "", adding);
  for (const made of [skip, add]) made.classList.add("why");
  const more = state.me.role === "owner" ? add : node("p", t("The owner sees which classes people miss."));
  return [node("p", t("“{name}” is no class of this project.", { name: $("find").value.trim() })), ...(current() ? [skip] : []), more];
}

async function adding() {
  const name = $("find").value.trim();
  if (!(await asked(name, state.me.kind))) return;
  $("find").value = "";
  await renewed();
}

/** A class that the project lacks: the query is skipped, and the owner is told the name. */
function missing() {
  const note = `missing class: ${$("find").value.trim().slice(0, 100)}`;
  $("find").value = "";
  $("find").blur();
  if (state.gridded) answerChosen("skipped", () => null, note);
  else answer("skipped", [], [], note);
}

/** A key while a class is typed. */
export function finding(event) {
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
