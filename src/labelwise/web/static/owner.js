// Progress for the owner: learning curve, people, what is being asked and why. Everything from data is text, never HTML.
import { get, login, post } from "./api.js";
import { asked } from "./classes.js";

const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const LIVE_MS = 2000;
let me = null, last = null;  // the last overview

function node(name, text = "", kind = "") {
  const made = document.createElement(name);
  made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function table(id, columns, rows) {
  const head = node("tr"), body = node("tbody"), top = node("thead");
  head.append(...columns.map(([name, , number]) => { const th = node("th", name, number ? "number" : ""); th.scope = "col"; return th; }));
  top.append(head);
  for (const row of rows) {
    const line = node("tr");
    for (const [, read, number] of columns) {
      const value = read(row), cell = value instanceof Node ? node("td") : node("td", value ?? "–", number ? "number" : "");
      if (value instanceof Node) cell.append(value);
      line.append(cell);
    }
    body.append(line);
  }
  $(id).replaceChildren(top, body);
}

async function drawLive() {
  const live = await get("/api/live"), rounds = last.curve, found = live.updates.filter((u) => u.quality !== null);
  const points = [...rounds, ...found.map((u) => ({ boxes: u.spent.boxes, quality: u.quality, update: true }))];
  draw(points.sort((a, b) => a.boxes - b.boxes), last.metric, last.forecast.points);
  const newest = live.updates[live.updates.length - 1];
  $("live").textContent = newest ? `${live.updates.length} updates; the last one after ${newest.answers} answers took ${newest.seconds.toFixed(1)} s` : "";
}

function draw(curve, metric, ahead) {
  const points = curve.filter((p) => p.quality !== null && p.quality !== undefined);
  const svg = $("curve"), make = (name, attributes, text = "") => {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.textContent = text;
    svg.append(made);
  };
  svg.replaceChildren();
  if (!points.length) return make("text", { x: 20, y: 40 }, "No round has been measured yet.");
  const most = Math.max(...[...points, ...ahead].map((p) => p.boxes), 1), top = Math.max(...points.map((p) => p.quality), ...ahead.map((p) => p.high), 0.01) * 1.1;
  const at = (p) => [50 + (p.boxes / most) * 560, 220 - (p.quality / top) * 190];
  make("line", { x1: 50, y1: 220, x2: 620, y2: 220 });
  make("line", { x1: 50, y1: 20, x2: 50, y2: 220 });
  if (ahead.length) {
    const last = points[points.length - 1], all = [{ boxes: last.boxes, low: last.quality, value: last.quality, high: last.quality }, ...ahead];
    const line = (key, rows) => rows.map((p) => at({ boxes: p.boxes, quality: p[key] }).join(",")).join(" ");
    make("polygon", { points: `${line("low", all)} ${line("high", [...all].reverse())}` });
    make("polyline", { points: line("value", all), class: "ahead" });
  }
  make("polyline", { points: points.map((p) => at(p).join(",")).join(" ") });
  for (const p of points) {
    const [x, y] = at(p);
    make("circle", { cx: x, cy: y, r: p.update ? 2 : 4 });
    if (!p.update) make("text", { x: Math.min(x, 580), y: y - 10 }, (100 * p.quality).toFixed(1));
  }
  make("text", { x: 50, y: 246 }, `labelled boxes, up to ${Math.round(most)}`);
  make("text", { x: 8, y: 14 }, `${metric}, %`);
}

async function show() {
  const found = await get("/api/owner/overview");
  last = found;
  await drawLive();
  const said = [...found.forecast.lines, found.forecast.stopped].filter(Boolean);
  $("forecast").replaceChildren(...said.map((line) => node("p", line)));
  const invited = found.people.filter((p) => p.invited).length;
  const few = found.overlap > invited ? `. Every query waits for ${found.overlap} people and ${invited} are invited: invite more` : "";
  $("state").textContent = found.forecast.stopped ? "Stopped" : standing(found.standing) + few;
  const whole = (name) => (row) => String(Math.round(row[name]));
  table("rounds", [["round", (r) => String(r.round), true], [found.metric, (r) => (r.quality == null ? null : (100 * r.quality).toFixed(1)), true],
    ["boxes", whole("boxes"), true], ["queries", whole("queries"), true], ["images", whole("images"), true], ["minutes", (r) => (r.seconds / 60).toFixed(1), true]], found.curve);
  table("people", [["name", (r) => r.name], ["role", (r) => r.role], ["invitation", (r) => (r.invited ? "valid" : "revoked")], ["password", (r) => (r.password ? "set" : "none")], ["", (r) => (r.name === me.name ? "" : actions(r.name))]], found.people);
  table("work", [["person", (r) => r.who], ["asked about", (r) => r.unit], ["verdict", (r) => r.verdict], ["answers", whole("answers"), true],
    ["second opinions", (r) => String(r.answers - r.counting), true], ["seconds each", (r) => r.seconds.toFixed(1), true]], found.work);
  $("offered").hidden = !found.suggested.length;
  table("suggested", [["person", (r) => r.who], ["taken as they were", whole("verify"), true], ["mended", whole("mend"), true], ["refused", whole("reject"), true], ["drawn anew", whole("draw"), true]], found.suggested);
  const { agreement, missing } = found, share = (r) => `${(100 * r.share).toFixed(0)} %`;
  $("agreement").hidden = found.overlap === 1 && !agreement.queries;
  $("agreed").textContent = `${found.overlap} people are asked every query; ${agreement.queries} queries have several answers. Share of objects on which two people agree (same class, IoU at least 0.5):`;
  table("agree-people", [["person", (r) => r.who], ["compared with others", (r) => String(r.pairs), true], ["agree", share, true]], agreement.by_person);
  table("agree-classes", [["class", (r) => me.classes[r.label]], ["objects compared", whole("objects"), true], ["agree", share, true]], agreement.by_class);
  $("quality").hidden = !found.quality.length;
  const percent = (name) => (r) => (100 * r[name]).toFixed(0);
  table("good", [["person", (r) => r.who], ["answers compared", whole("answers"), true], ["of known questions", whole("known"), true], ["right, %", percent("right"), true],
    ["95 % interval", (r) => `${percent("low")(r)} to ${percent("high")(r)}`], ["", (r) => (r.noise ? "hardly better than guessing: look at some answers (they stay), or ask somebody else" : "")]], found.quality);
  $("missing").hidden = !missing.length;
  table("missed", [["name", (r) => r.name], ["queries skipped for it", whole("answers"), true], ["", (r) => addButton(r.name)]], missing);
  const parts = (reason) => Object.entries(reason).map(([k, v]) => `${k} ${typeof v === "number" ? v.toPrecision(3) : v}`).join(", ");
  table("asked", [["rank", (r) => String(r.rank + 1), true], ["image", (r) => r.image], ["about", (r) => (r.label === null ? r.unit : `${r.unit}: ${me.classes[r.label]}`)],
    ["score", (r) => r.score.toPrecision(3), true], ["its parts", (r) => parts(r.reason)], ["with", (r) => r.holder ?? "nobody"]], found.asked);
}

function standing(now) {
  if (now.state !== "open") return now.state === "done" ? "All rounds are done" : `Round ${now.round} of ${now.rounds - 1}: ${now.stage || "waiting"}`;
  const owed = now.owed ? `, ${now.owed} second opinions to come` : "";
  return `Round ${now.round} of ${now.rounds - 1}: ${now.answered} of ${now.asked} open queries answered, ${now.held} in somebody's hands${owed}`;
}

function actions(name) {
  const both = node("div", "", "row"), link = node("button", "New link"), out = node("button", "Revoke");
  link.addEventListener("click", () => invite(name));
  out.addEventListener("click", () => post("/api/owner/revoke", { name }).then(show).catch(failed));
  both.append(link, out);
  return both;
}

function addButton(name) {
  const made = node("button", "Add …");
  made.addEventListener("click", () => addClass(name).catch(failed));
  return made;
}

async function addClass(name) {
  if (!(await asked(name, me.kind))) return;
  me = await login();
  $("class-name").value = "";
  await show();
}

async function invite(name) {
  const made = await post("/api/owner/invite", { name }).catch(failed);
  if (!made) return;
  $("link").textContent = `Send this to ${made.name}, and to nobody else: ${location.origin}${made.link}`;
  await show();
}

function failed(problem) {
  $("message").hidden = false;
  $("message").textContent = problem.message;
}

async function start() {
  me = await login();
  $("project").textContent = me.project;
  $("invite").addEventListener("submit", (event) => {
    event.preventDefault();
    invite($("name").value.trim()).then(() => { $("name").value = ""; });
  });
  $("new-class").addEventListener("submit", (event) => {
    event.preventDefault();
    addClass($("class-name").value.trim()).catch(failed);
  });
  await show();
  setInterval(() => { if (!document.hidden) show().catch(failed); }, 10_000);
  setInterval(() => { if (!document.hidden) drawLive().catch(failed); }, LIVE_MS);
}

start().catch(failed);
