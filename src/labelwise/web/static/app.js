// The labelling page begins here. Its parts: the queue (queue.js), the query that is shown (question.js, editing.js), what
// keys do (keys.js, actions.js), the classes (class_list.js), the look (view.js), how things stand (standing.js).
import { account } from "./account.js";
import { login, post } from "./api.js";
import { perform } from "./actions.js";
import { startClasses, list } from "./class_list.js";
import * as clock from "./clock.js";
import { $, toStage } from "./elements.js";
import { startGuidelines } from "./guidelines.js";
import { forget } from "./history.js";
import { onKey } from "./keys.js";
import { show } from "./question.js";
import { beat, fill, leaving, outbox, refill } from "./queue.js";
import { startSkip } from "./skip.js";
import { failed, leave, message } from "./standing.js";
import { state, tab } from "./state.js";
import { translate } from "./texts.js";
import { startTour } from "./tour.js";
import { leftBehind } from "./unsent.js";
import { startView } from "./view.js";

const BEAT_MS = 30_000, REFILL_MS = 2_000;

/** A button of the page; after it the keys mean the image again. */
function pressed(what) {
  perform(what);
  if (!document.querySelector("dialog[open]")) toStage();
}

function startPage() {
  const { me } = state;
  $("project").textContent = me.project;
  $("who").textContent = me.name;
  $("grid-button").hidden = me.kind !== "class";
  $("owner-link").hidden = me.role !== "owner";
  $("tracks-link").hidden = !me.films || me.kind === "class";
  for (const made of document.querySelectorAll("[data-do]")) made.addEventListener("click", () => pressed(made.dataset.do));
  $("stage").addEventListener("pointerdown", clock.active);
  for (const dialog of ["help", "guide", "view", "skip"]) $(dialog).addEventListener("close", toStage);
  document.addEventListener("keydown", onKey);
  document.addEventListener("visibilitychange", () => { if (document.hidden) clock.active(); else clock.passed(); });
  addEventListener("beforeunload", (event) => { if (outbox.size) event.preventDefault(); });
  addEventListener("pagehide", () => { if (!state.left) post("/api/release", { tab }, true).catch(() => {}); });
  addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
  account(me, { message: (text) => message(text, 10_000), leaving, failed });
}

async function start() {
  translate(document.body);
  try { state.me = await login(); } catch (problem) { return leave(problem.message); }
  startPage();
  startClasses();
  startGuidelines();
  startSkip();
  startView();
  startTour();
  forget();
  list();
  for (const item of leftBehind()) outbox.add(item);
  await outbox.running; // else what was answered would be asked again
  state.begun = true;
  await fill().catch(failed);
  show();
  setInterval(() => beat().catch(failed), BEAT_MS);
  setInterval(refill, REFILL_MS);
}

start();
