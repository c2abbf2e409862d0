// What the owner wrote about what is to be labelled: headings, lists and paragraphs of Markdown, as text and never as HTML.
import { $, node } from "./elements.js";
import { state } from "./state.js";

/** The elements of a text. Lists are flat; of emphasis the marks go. */
function rendered(text) {
  const made = [];
  let list = null, lines = [];
  const flush = () => {
    if (lines.length) made.push(node("p", lines.join(" ")));
    lines = [];
  };
  for (const line of text.replace(/(\*\*|__|`)/g, "").split(/\r?\n/)) {
    const heading = /^(#{1,6})\s+(.*?)\s*#*$/.exec(line), item = /^\s*(?:[-*+]|\d+[.)])\s+(.*)$/.exec(line);
    if (!item && (heading || !line.trim())) list = null;
    if (item || heading || !line.trim()) flush();
    if (heading) made.push(node(heading[1].length === 1 ? "h3" : "h4", heading[2]));
    else if (item) {
      if (!list) made.push(list = node(/^\s*\d/.test(line) ? "ol" : "ul"));
      list.append(node("li", item[1]));
    } else if (line.trim() && list) list.lastChild.textContent += ` ${line.trim()}`;
    else if (line.trim()) lines.push(line.trim());
  }
  flush();
  return made;
}

export function openGuidelines() {
  if (state.me.guidelines) $("guide").showModal();
}

export function startGuidelines() {
  $("guidelines-button").hidden = !state.me.guidelines;
  $("guidelines").replaceChildren(...rendered(state.me.guidelines));
}
