// What goes wrong on the owner's pages, and that the server cannot be reached: said as long as that is so.
import { Unreachable, connection, get } from "./api.js";
import { said, t } from "./texts.js";

const AGAIN_MS = 3000;
let lost = false, timer = 0;

/** Shown until the next message, or for a time. */
export function message(text, for_ms = 6000) {
  const shown = document.getElementById("message");
  clearTimeout(timer);
  shown.hidden = !text;
  shown.textContent = text;
  if (for_ms) timer = setTimeout(() => message("", 0), for_ms);
}

export function failed(problem) {
  if (!(problem instanceof Unreachable)) message(said(problem.message), 12_000); // else it is said already
}

connection((reachable) => {
  if (lost === !reachable) return;
  lost = !reachable;
  message(lost ? t("The server cannot be reached. Try again when this message goes.") : "", 0);
  if (lost) setTimeout(again, AGAIN_MS);
});

async function again() {
  await get("/api/progress").catch(() => {});
  if (lost) setTimeout(again, AGAIN_MS);
}
