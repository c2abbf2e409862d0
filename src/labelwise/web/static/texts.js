// The catalogue: English texts are the keys, and what they are in another language stands in a file of that language.
// `{name}` is a place for a value. A text that the catalogue lacks (a unit of one's own) stays as it is.
import { german } from "./german.js";
import { ofOwner } from "./german_owner.js";
import { PARTS, ofReasons } from "./german_reasons.js";
import { ofServer } from "./german_server.js";

export const LANGUAGES = { en: "English", de: "Deutsch" };
const CATALOGUES = { de: { ...german, ...ofOwner } }, SERVER = { de: ofServer }, REASONS = { de: ofReasons };

function chosen() {
  let kept = "";
  try { kept = JSON.parse(localStorage.getItem("labelwise look"))?.language ?? ""; } catch { /* nothing that we have kept */ }
  return [kept, ...navigator.languages.map((tag) => tag.slice(0, 2))].find((tag) => tag in LANGUAGES) ?? "en";
}

export const language = chosen();
document.documentElement.lang = language;

export function t(text, values = {}) {
  const said = CATALOGUES[language]?.[text] ?? text;
  return said.replace(/\{(\w+)\}/g, (place, name) => values[name] ?? place);
}

/** Patterns of the server's texts: its values are found by what stands between them. */
const patternsOf = (texts) => Object.entries(texts ?? {}).map(([text, own]) => {
  const names = [...text.matchAll(/\{(\w+)\}/g)].map(([, name]) => name), parts = text.split(/\{\w+\}/);
  return [new RegExp(`^${parts.map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join("([^]*?)")}$`), names, own];
});
const ofServerNow = patternsOf(SERVER[language]), ofReasonsNow = patternsOf(REASONS[language]), WORDS = { ...PARTS, amount: said };

function found(text, patterns) {
  for (const [pattern, names, own] of patterns) {
    const values = pattern.exec(text)?.slice(1);
    if (!values) continue;
    return own.replace(/\{(\w+)\}/g, (_place, name) => (WORDS[name] ?? String)(values[names.indexOf(name)]));
  }
  return text;
}

/** A text of the server. */
export function said(text) { return found(text ?? "", ofServerNow); }

/** Why a question is asked: every sentence for itself. */
export const reason = (text) => (text ?? "").split(/(?<=\.) (?=\S)/).map((one) => found(one, ofReasonsNow)).join(" ");

/** One of them, or `n`. */
export const count = (n, one, many, values = {}) => t(n === 1 ? one : many, { n, ...values });

/** What stands in the page itself: its texts, labels and placeholders. */
export function translate(root) {
  if (!(language in CATALOGUES)) return;
  const texts = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const text = texts.currentNode.data.replace(/\s+/g, " "), bare = text.trim();
    if (bare) texts.currentNode.data = text.replace(bare, () => t(bare));
  }
  for (const name of ["aria-label", "placeholder", "title"]) {
    for (const made of root.querySelectorAll(`[${name}]`)) made.setAttribute(name, t(made.getAttribute(name)));
  }
}
