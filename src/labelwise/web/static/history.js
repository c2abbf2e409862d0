// The edits of one query, back and forth. They stay in this browser until the query is answered: a reload loses none.

const PREFIX = "labelwise draft", KEEP_MS = 7 * 86_400_000, MOST = 300;

export class History {
  /** `editor` has a `state` and can `restore` one. */
  constructor(editor) { Object.assign(this, { editor, key: null, states: [], at: 0 }); }

  /** Begins with a query as it is shown; a draft of it from before is what it shows now. */
  open(project, query) {
    this.key = `${PREFIX} ${project} ${query.query} ${query.image.name}`;
    this.states = [JSON.stringify(this.editor.state)];
    this.at = 0;
    const kept = this.kept();
    if (!kept || kept === this.states[0]) return;
    this.editor.restore(JSON.parse(kept));
    this.states.push(kept);
    this.at = 1;
  }

  kept() {
    try { return JSON.parse(localStorage.getItem(this.key))?.state ?? null; } catch { return null; }
  }

  /** After a change. Suggestions that come are no edit (`silent`): they are part of the state that is there, and what a
   * person is drawing meanwhile is not. */
  note(silent = false) {
    if (!this.key) return;
    const { state } = this.editor, now = JSON.stringify(silent ? { ...JSON.parse(this.states[this.at]), offers: state.offers } : state);
    if (now === this.states[this.at]) return;
    if (silent) this.states[this.at] = now;
    else {
      this.states = [...this.states.slice(Math.max(0, this.at + 1 - MOST), this.at + 1), now];
      this.at = this.states.length - 1;
    }
    if (this.at) this.keep(now);
  }

  keep(state) {
    try { localStorage.setItem(this.key, JSON.stringify({ at: Date.now(), state })); } catch { /* it is full: the page works without */ }
  }

  /** One edit back (-1) or forth (1); whether there was one. */
  go(step) {
    const to = this.at + step;
    if (!this.key || to < 0 || to >= this.states.length) return false;
    this.at = to;
    this.editor.restore(JSON.parse(this.states[to]));
    this.keep(this.states[to]);
    return true;
  }

  /** The query is answered. */
  close() {
    if (this.key) localStorage.removeItem(this.key);
    this.key = null;
  }
}

/** Drafts that nobody came back to for a week go. */
export function forget() {
  for (const key of Object.keys(localStorage)) {
    if (!key.startsWith(PREFIX)) continue;
    let at = 0;
    try { at = JSON.parse(localStorage.getItem(key)).at; } catch { /* no draft of ours */ }
    if (at < Date.now() - KEEP_MS) localStorage.removeItem(key);
  }
}
