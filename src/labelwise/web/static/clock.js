// The seconds that a person works on a query: pauses of more than a minute are none.

const IDLE_MS = 60_000;
let spent = 0, last = Date.now();

export function start() { [spent, last] = [0, Date.now()]; }

export function active() {
  const now = Date.now();
  spent += Math.min(now - last, IDLE_MS);
  last = now;
}

/** The page was out of sight. */
export function passed() { last = Date.now(); }

export function seconds() {
  active();
  return Math.round(spent) / 1000;
}
