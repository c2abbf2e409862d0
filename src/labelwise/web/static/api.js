// Talks to the server: JSON with the session's CSRF token, and an outbox that keeps an answer until it is stored.

export class Refused extends Error {
  constructor(status, message, stands = false) { super(message); Object.assign(this, { status, stands }); }
}

let csrf = "";

export async function get(path) {
  return read(await fetch(path, { headers: { accept: "application/json" } }));
}

export async function post(path, body, keepalive = false) {
  return read(await fetch(path, {
    method: "POST",
    headers: { "content-type": "application/json", "x-csrf-token": csrf },
    body: JSON.stringify(body),
    keepalive,
  }));
}

async function read(reply) {
  const found = await reply.json().catch(() => ({ error: `the server said ${reply.status}` }));
  if (!reply.ok) throw new Refused(reply.status, found.error, found.stands);
  return found;
}

export async function login() {
  const me = await get("/api/me");
  csrf = me.csrf;
  return me;
}

/** Sends answers one after the other. An answer whose reply was lost is sent again: the server stores it once. */
export class Outbox {
  constructor({ stored, refused, waiting }) {
    Object.assign(this, { stored, refused, waiting, items: [], running: null });
  }

  get size() { return this.items.length; }

  add(item) {
    this.items.push(item);
    this.running ??= this.run().finally(() => { this.running = null; });
    return this.running;
  }

  async run() {
    let pause = 500;
    while (this.items.length) {
      const item = this.items[0];
      try {
        const reply = await post("/api/answers", item.body(this.items.slice(1)));
        this.items.shift();
        pause = 500;
        this.stored(item, reply);
      } catch (problem) {
        const again = !(problem instanceof Refused) || problem.status >= 500 || problem.status === 429;
        if (!again) {
          this.items.shift();
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
