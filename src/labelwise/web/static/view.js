// How a person wants to see things: theme, language, what lies on the image, brightness and contrast, own keys of classes.
// Kept in this browser, but for what is hidden.
import { list, ownKeys, setKey } from "./class_list.js";
import { stage } from "./editing.js";
import { $, button, node } from "./elements.js";
import { state } from "./state.js";
import { LANGUAGES, language, t } from "./texts.js";

const PLACE = "labelwise look", BRIGHT = ["brightness", "contrast"];
export const look = { theme: "", language: "", colours: true, likeliest: null, brightness: 100, contrast: 100, ...kept() };
const hidden = { names: false, boxes: false };

function kept() {
  try { return JSON.parse(localStorage.getItem(PLACE)) ?? {}; } catch { return {}; }
}

function change(changed) {
  Object.assign(look, changed);
  try { localStorage.setItem(PLACE, JSON.stringify(look)); } catch { /* it is full: it holds for now */ }
  apply();
}

function apply() {
  if (look.theme) document.documentElement.dataset.theme = look.theme;
  else delete document.documentElement.dataset.theme;
  const plain = BRIGHT.every((name) => look[name] === 100);
  stage.svg.style.setProperty("--light", plain ? "none" : `brightness(${look.brightness}%) contrast(${look.contrast}%)`);
  for (const name of BRIGHT) [$(name).value, $(`${name}-at`).textContent] = [look[name], `${look[name]} %`];
  stage.svg.classList.toggle("no-names", hidden.names);
  stage.svg.classList.toggle("no-boxes", hidden.boxes);
  $("hidden").hidden = !hidden.names && !hidden.boxes;
  $("hidden").textContent = hidden.boxes ? t("Boxes are hidden (H)") : t("Names are hidden (H)");
  $("names-shown").checked = !hidden.names;
  $("boxes-shown").checked = !hidden.boxes;
  stage.draw();
}

/** Everything, no names, no boxes, everything. */
export function hideMore() {
  if (hidden.boxes) hidden.names = hidden.boxes = false;
  else if (hidden.names) hidden.boxes = true;
  else hidden.names = true;
  apply();
}

/** What a person has just changed is seen. */
export function showBoxes() {
  if (!hidden.boxes) return;
  hidden.boxes = false;
  apply();
}

export function openView() {
  $("theme").value = look.theme;
  $("language").value = language;
  $("colours").checked = look.colours;
  $("likeliest").checked = look.likeliest ?? state.me.classes.length > 10;
  $("own-class").replaceChildren(...state.me.classes.map((name) => node("option", name)));
  showKeys("");
  $("view").showModal();
}

function showKeys(problem) {
  $("own-problem").textContent = problem;
  $("own-keys").replaceChildren(...ownKeys().map(([key, name]) => {
    const made = node("li", `${key.toUpperCase()}: ${name} `), out = button(t("Remove"), "", () => showKeys(setKey(key, null)));
    out.setAttribute("aria-label", t("Remove the key {key}", { key: key.toUpperCase() }));
    made.append(out);
    return made;
  }));
}

export function startView() {
  $("language").replaceChildren(...Object.entries(LANGUAGES).map(([tag, name]) => Object.assign(node("option", name), { value: tag })));
  $("theme").addEventListener("change", () => change({ theme: $("theme").value }));
  $("language").addEventListener("change", () => { change({ language: $("language").value }); location.reload(); });
  $("colours").addEventListener("change", () => { change({ colours: $("colours").checked }); list(); });
  $("likeliest").addEventListener("change", () => { change({ likeliest: $("likeliest").checked }); list(); });
  for (const name of BRIGHT) $(name).addEventListener("input", () => change({ [name]: Number($(name).value) }));
  $("names-shown").addEventListener("change", () => { hidden.names = !$("names-shown").checked; apply(); });
  $("boxes-shown").addEventListener("change", () => { hidden.boxes = !$("boxes-shown").checked; apply(); });
  $("as-it-is").addEventListener("click", () => change({ brightness: 100, contrast: 100 }));
  $("own").addEventListener("submit", (event) => {
    event.preventDefault();
    showKeys(setKey($("own-key").value.toLowerCase(), $("own-class").value));
    $("own-key").value = "";
  });
  $("view-close").addEventListener("click", () => $("view").close());
  apply();
}
