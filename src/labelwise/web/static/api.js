// Talks to the server: JSON with the session's CSRF token, and an outbox that keeps an answer until it is stored.
import { t } from "./texts.js";

export class Refused extends Error {
  constructor(status, message, stands = false) { super(message); Object.assign(this, { status, stands }); }
}

/** No reply came. */
export class Unreachable extends Error {}

let csrf = "", told = () => {};

/** `tell` is told after every request whether the server can be reached. */
export function connection(tell) {
  told = tell;
  addEventListener("offline", () => told(false));
}

async function reach(path, how) {
  try {
    const reply = await fetch(path, how);
    told(reply.status !== 502 && reply.status !== 504); // what a proxy says of a server that is gone
    return reply;
  } catch {
    told(false);
    throw new Unreachable(t("The server cannot be reached. Try again in a moment"));
  }
}

export async function get(path) {
  return read(await reach(path, { headers: { accept: "application/json" } }));
}

export async function post(path, body, keepalive = false) {
  return read(await reach(path, {
    method: "POST",
    headers: { "content-type": "application/json", "x-csrf-token": csrf },
    body: JSON.stringify(body),
    keepalive,
  }));
}

async function read(reply) {
  const found = await reply.json().catch(() => ({ error: t("the server said {status}", { status: reply.status }) }));
  if (!reply.ok) throw new Refused(reply.status, found.error, found.stands);
  return found;
}

export async function login() {
  const me = await get("/api/me");
  csrf = me.csrf;
  return me;
}

/** Sends answers {query, said} one after the other. An answer whose reply was lost is sent again: the server stores it
 * once. `wants(rest)`: what is asked for with an answer that `rest` follow; `keep(items)`: keeps what is not stored yet. */
export class Outbox {
  constructor({ stored, refused, waiting, wants, keep }) {
    Object.assign(this, { stored, refused, waiting, wants, keep, items: [], running: null });
  }

  get size() { return this.items.length; }

  add(item) {
    this.items.push(item);
    this.keep(this.items);
    this.running ??= this.run().finally(() => { this.running = null; });
    return this.running;
  }

  async run() {
    let pause = 500;
    while (this.items.length) {
      const item = this.items[0];
      try {
        const reply = await post("/api/answers", { ...item.said, ...this.wants(this.items.slice(1)) });
        this.items.shift();
        this.keep(this.items);
        pause = 500;
        this.stored(item, reply);
      } catch (problem) {
        const again = !(problem instanceof Refused) || problem.status >= 500 || problem.status === 429;
        if (!again) {
          this.items.shift();
          this.keep(this.items);
          this.refused(item, problem);
          continue;
        }
        this.waiting(this.items.length);
        await new Promise((go) => setTimeout(go, pause));
        pause = Math.min(pause * 2, 8000);
      }
    }
    this.waiting(0);
  }
}
