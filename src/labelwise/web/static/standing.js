// What the page says beside the question: how the round stands, messages, whether the server can be reached, why it ends.
import { Refused, Unreachable, connection } from "./api.js";
import { $, node } from "./elements.js";
import { state } from "./state.js";
import { count, said, t } from "./texts.js";

const BUDGETS = { boxes: t("boxes"), queries: t("questions"), images: t("images"), frames: t("frames"), seconds: t("seconds") };
let timer = 0, unsent = 0;

/** Answers of everyone and of this person are counted at once, here as on the server; the budget by the server alone. */
export function standing() {
  const { progress } = state;
  if (!progress) return;
  const open = progress.state === "open", round = progress.round;
  $("bar").hidden = $("budget").hidden = !open;
  $("counts").textContent = open
    ? t("Round {round}: {answered} answered, {mine} by you", { round, answered: progress.answered, mine: progress.mine ?? 0 })
    : t("Round {round}: {stage}", { round, stage: progress.state === "done" ? t("all done") : said(progress.stage) || t("waiting") });
  if (open) {
    $("bar").max = progress.budget || 1;
    $("bar").value = Math.min(progress.spent, progress.budget);
    const [spent, budget] = [progress.spent, progress.budget].map(Math.round);
    $("budget").textContent = t("{spent} of {budget} {unit}", { spent, budget, unit: BUDGETS[progress.unit] ?? progress.unit });
  }
  if (!state.queue.length) cover(idle());
}

export const unreachable = () => t("The server cannot be reached.\nYour answers are kept here; it goes on by itself.");

export function idle() {
  const { progress, me } = state;
  if (!state.reachable) return unreachable();
  if (!progress) return t("Loading …");
  if (me.answered_by !== "people") return t("This project is answered by the simulated oracle.\nStart it with: labelwise run --oracle people");
  if (progress.state === "done") return t("All rounds are done. Thank you!");
  if (progress.state === "busy") return `${progress.stage ? t("The model is busy ({stage}).", { stage: said(progress.stage) }) : t("The model is busy.")}\n${t("The next questions come by themselves.")}`;
  return t("Nothing is open for you now: every question is answered, or somebody has it.\nMore come by themselves.");
}

export function cover(text) {
  $("cover").hidden = text === null;
  $("cover").textContent = text ?? "";
}

/** Shown until the next message, or for a time. */
export function message(text, for_ms = 0) {
  clearTimeout(timer);
  $("message").hidden = !text;
  $("message").textContent = text;
  if (for_ms) timer = setTimeout(() => message(""), for_ms);
}

/** The badge stays as long as the server cannot be reached, or an answer is not stored. */
function badge() {
  $("offline").hidden = state.reachable && !unsent;
  const kept = unsent ? count(unsent, "1 answer is kept here", "{n} answers are kept here") : t("answers are kept here");
  const text = state.reachable ? t("Not stored yet: {kept}", { kept }) : t("Offline: {kept}", { kept });
  if ($("offline").textContent !== text) $("offline").textContent = text;
  if (!state.queue.length && state.me) cover(idle());
}

export function waiting(n) {
  unsent = n;
  badge();
}

connection((reachable) => {
  if (state.reachable === reachable || state.left) return;
  state.reachable = reachable;
  badge();
});

export function failed(problem) {
  if (problem instanceof Refused && problem.status === 401) return leave(problem.message);
  if (problem instanceof Refused) message(said(problem.message), 6000); // else the badge says it
  else if (!(problem instanceof Unreachable)) throw problem;
}

export function leave(why) {
  state.queue = [];
  cover(`${said(why)}.`);
  const link = node("a", t("Enter with your password"));
  link.href = "/enter";
  $("cover").append(link);
  $("panel").inert = true;
}
