// Why a query cannot be answered: one of four reasons by a key, or one's own.
import { answer, answerChosen } from "./queue.js";
import { $, button, toStage } from "./elements.js";
import { state } from "./state.js";
import { t } from "./texts.js";

const REASONS = ["cannot tell what it is", "the image is broken or missing", "the rules do not say", "too many objects to label"]; // the ledger's words
const SHOWN = [t("cannot tell what it is"), t("the image is broken or missing"), t("the rules do not say"), t("too many objects to label")];

export function openSkip() {
  $("skip-note").value = "";
  $("skip").showModal();
}

export function skipped(note) {
  $("skip").close();
  toStage();
  if (state.gridded) answerChosen("skipped", () => null, note);
  else answer("skipped", [], [], note);
}

export function startSkip() {
  $("skip-reasons").replaceChildren(...REASONS.map((reason, k) => button(SHOWN[k], String(k + 1), () => skipped(reason))));
  $("skip").addEventListener("keydown", (event) => {
    if (!$("skip").open) return; // it was closed a moment ago and still has the focus
    event.stopPropagation(); // or the key would answer the next query as well
    const k = Number(event.key) - 1;
    if (event.target !== $("skip-note") && REASONS[k]) { event.preventDefault(); skipped(REASONS[k]); }
  });
  $("skip").querySelector("form").addEventListener("submit", (event) => {
    event.preventDefault();
    const note = $("skip-note").value.trim();
    if (note) skipped(note);
    else $("skip-note").focus();
  });
  $("skip-back").addEventListener("click", () => $("skip").close());
}
