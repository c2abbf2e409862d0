// From a key to what it does; digits and a person's own keys are classes.
import * as clock from "./clock.js";
import { classify, perform } from "./actions.js";
import { classOf, finding } from "./class_list.js";
import { $ } from "./elements.js";
import { film, grid, stage } from "./editing.js";
import { current, state } from "./state.js";
import { UNITS } from "./units.js";

const KEYS = {
  a: "accept", enter: "accept", r: "reject", x: "reject", d: "duplicate", s: "skip", z: "undo", u: "undo", y: "redo", n: "nothing", t: "take", e: "take-all", l: "lend", ",": "before", ".": "after", "<": "looser", ">": "stricter",
  f: "fit", w: "whole", "+": "zoom-in", "=": "zoom-in", "-": "zoom-out", h: "hide", v: "view", i: "guidelines",
  b: "add", delete: "remove", backspace: "remove", "]": "next-box", "[": "last-box", escape: "no-box", c: "find", "/": "find", "?": "help", g: "grid",
};
const REPEATS = new Set(["zoom-in", "zoom-out", "before", "after", "looser", "stricter", "next-box", "last-box"]);
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** Whether a key has no meaning yet: a digit or a letter that a person may give a class. */
export const isFree = (key) => /^[0-9]$/.test(key) || (/^\p{L}$/u.test(key) && !(key in KEYS) && !Object.values(UNITS.buttons).flat().some(([, , own]) => own.toLowerCase() === key));

export function onKey(event) {
  if (document.querySelector("dialog[open]") || event.isComposing) return;
  if (event.target === $("find")) return finding(event);
  const key = event.key.toLowerCase();
  if (event.ctrlKey || event.metaKey) {
    const step = key === "y" || (key === "z" && event.shiftKey) ? "redo" : key === "z" ? "undo" : "";
    if (!step) return;
    event.preventDefault();
    return perform(step);
  }
  if (event.target.closest("button, a, summary, input") && (key === "enter" || key === " ")) return; // the control that has the focus is meant
  if (state.gridded && current() && (ARROWS[event.key] || key === " " || key === "e")) return inGrid(event, key);
  if (ARROWS[event.key]) return arrow(event);
  if (event.altKey) return;
  const own = classOf(key);
  if (own !== undefined || /^[0-9]$/.test(key)) {
    if (event.repeat) return;
    clock.active();
    return classify(own);
  }
  const what = (!state.gridded && current()?.keys?.get(key)) || KEYS[key];
  if (!what || (event.repeat && !REPEATS.has(what))) return;
  event.preventDefault();
  perform(what);
}

function inGrid(event, key) {
  event.preventDefault();
  if (ARROWS[event.key]) grid.move(...ARROWS[event.key]);
  else if (!event.repeat) key === "e" ? grid.all() : grid.toggle();
  clock.active();
}

function arrow(event) {
  const [dx, dy] = ARROWS[event.key], step = event.altKey ? 10 : 1;
  if (film.away) {
    event.preventDefault();
    return film.step(dx || dy);
  }
  if (current() && stage.nudge(dx * step, dy * step, event.shiftKey)) event.preventDefault();
  clock.active();
}
