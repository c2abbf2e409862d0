// Elements of the page, made; everything that comes from data is text, never HTML.
import { state } from "./state.js";
import { active } from "./clock.js";

export const $ = (id) => document.getElementById(id);

export function node(name, text = "", kind = "") {
  const made = document.createElement(name);
  made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

/** A button with its key; after it the keys mean the image again. */
export function button(text, key, act, main = false, what = "") {
  const made = node("button");
  made.type = "button";
  made.append(node("span", text), ...(key ? [node("kbd", key)] : []));
  made.classList.toggle("main", main);
  if (what) made.dataset.verdict = what;
  made.addEventListener("click", () => { active(); act(); toStage(); });
  return made;
}

export const toStage = () => $(state.gridded ? "grid" : "stage").focus({ preventScroll: true });
