// The keys, as the page's help lists them.
import { $, node } from "./elements.js";
import { film } from "./editing.js";
import { current, draws } from "./state.js";
import { t } from "./texts.js";

const DRAW = [
  ["drag", "draw a box; Shift + drag: also inside the chosen one"], ["B", "a new box by the keyboard"], ["1 … 9, 0", "class of the chosen box and of the next"],
  ["C", "find a class by typing"], ["[ ]", "choose another box"], ["Esc", "choose no box: a class is then for the next one"],
  ["Del", "remove the chosen box"], ["A, Enter", "everything in here is labelled"], ["N", "nothing in here"],
];
const OFFERS = [["T", "take the marked suggestion"], ["E", "take every suggestion"], ["X, R", "refuse the marked one"], ["< >", "suggest what the model is less, more sure of"]];
const KEYS = {
  box: [["A, Enter", "there is such an object: accept"], ["1 … 9, 0", "there is an object of this class"], ["C", "find a class by typing"], ["R, X", "reject: no object here"], ["D", "duplicate: labelled before"]],
  draw: DRAW,
  class: [["1 … 9, 0", "this is the class"], ["A, Enter", "the class that was predicted"], ["C", "find a class by typing"], ["G", "a grid of images of one predicted class; G again: one by one"], ["in the grid: arrows, space", "move, choose"], ["E", "choose all or none"], ["then a class, A, S", "answers all that are chosen"]],
  lend: [["L", "lend: the boxes of the nearest labelled frame, all at once"]],
  track: [["T", "take the box that a labelled frame suggests in place of this one"]],
  film: [[", .", "the frame before, the frame after; Esc: back"]],
  all: [["arrows", "move the box by a pixel"], ["Shift + arrows", "resize it"], ["Alt with these", "by 10 pixels"], ["S", "skip, with a reason"], ["Z, Ctrl + Z", "undo the last edit; if there is none, the last answer"], ["Y, Ctrl + Y", "redo"], ["F, W", "show the query, the whole image"], ["+ −, wheel", "zoom"], ["H", "hide names, then boxes; show them again"], ["V", "view: theme, language, brightness, own keys"], ["I", "the guidelines"], ["?", "this list"]],
};

/** The rows [key, what it does] of a query of this kind. */
function keysOf(kind, drawn, shows) {
  const offers = drawn ? [...OFFERS, ...(shows ? KEYS.lend : [])] : shows ? KEYS.track : [];
  return [...(drawn ? KEYS.draw : KEYS[kind] ?? []), ...offers, ...(shows ? KEYS.film : []), ...KEYS.all];
}

export function openHelp() {
  const query = current();
  $("keys").replaceChildren(...keysOf(query?.kind ?? "box", query ? draws(query) : false, film.shows).map(([key, what]) => {
    const row = node("tr");
    row.append(node("th", t(key)), node("td", t(what)));
    return row;
  }));
  $("help").showModal();
}
