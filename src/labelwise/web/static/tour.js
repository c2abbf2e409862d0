// Four sentences for who is here for the first time, above the work and never in its way: no key is taken.
import { $ } from "./elements.js";
import { state } from "./state.js";
import { t } from "./texts.js";

const PLACE = "labelwise tour";

function sentences() {
  const classes = state.me.kind === "class";
  if (matchMedia("(pointer: coarse)").matches) {
    return [
      t("One question at a time: it stands below the image, and every answer is a button."),
      classes ? t("The class that the model expects is the first button; any other one is below it.")
        : t("Dashed boxes are suggestions: a tap takes one; only what you take or draw yourself counts."),
      t("Nothing is lost: Undo takes back an edit or the last answer, and answers wait in this browser while you are offline."),
      t("Two fingers zoom and move the image; if you cannot tell, skip."),
    ];
  }
  return [
    t("One question at a time: it stands beside the image, and every answer has a key, which stands on its button."),
    classes ? t("The class that the model expects is one key (A); any other has a key of its own or is found by typing (C).")
      : t("Dashed boxes are suggestions: E takes all of them, X refuses one; only what you take or draw yourself counts."),
    t("Nothing is lost: Z takes back an edit or the last answer, and answers wait in this browser while you are offline."),
    state.me.guidelines ? t("If you cannot tell, skip (S); the guidelines (I) say what counts, and ? lists all keys.")
      : t("If you cannot tell, skip (S); ? lists all keys."),
  ];
}

export function startTour() {
  let seen = false;
  try { seen = localStorage.getItem(PLACE) !== null; } catch { /* it is shown again */ }
  if (seen) return;
  const said = sentences();
  let at = 0;
  const show = () => {
    $("tour-at").textContent = t("{k} of {n}", { k: at + 1, n: said.length });
    $("tour-text").textContent = said[at];
    $("tour-next").hidden = at === said.length - 1;
  };
  const close = () => {
    $("tour").hidden = true;
    try { localStorage.setItem(PLACE, "seen"); } catch { /* it is shown again */ }
    $("stage").focus({ preventScroll: true });
  };
  $("tour-next").addEventListener("click", () => { at++; show(); if (at === said.length - 1) $("tour-close").focus(); });
  $("tour-close").addEventListener("click", close);
  show();
  $("tour").hidden = false;
}
