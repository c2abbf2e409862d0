// Answers that the server has not stored yet are kept in this browser: a crash or a reload while it is out of reach loses none.
import { state, tab } from "./state.js";

const ours = () => `labelwise unsent ${state.me.project} ${state.me.name} `;

export function keep(items) {
  try {
    if (items.length) localStorage.setItem(ours() + tab, JSON.stringify(items));
    else localStorage.removeItem(ours() + tab);
  } catch { /* it is full: the page works without */ }
}

/** What this person's windows have left behind. Another window may be alive and send it, too: it is stored once. */
export function leftBehind() {
  const found = [];
  for (const key of Object.keys(localStorage)) {
    if (!key.startsWith(ours())) continue;
    try { found.push(...JSON.parse(localStorage.getItem(key))); } catch { /* no answers of ours */ }
    localStorage.removeItem(key);
  }
  return found;
}
