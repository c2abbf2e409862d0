// Progress for the owner: learning curve, people, what is being asked and why. Everything from data is text, never HTML.
import { get, login, post } from "./api.js";
import { asked } from "./classes.js";
import { failed } from "./problems.js";
import { count, reason, said, t, translate } from "./texts.js";

const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
let me = null;

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

/** The curve as the report draws it. Its styles are set one by one: the page's policy takes none in a text. */
function draw(chart) {
  if (!chart) return $("curve").replaceChildren(node("p", t("No round has been measured yet: the curve begins with the first one.")));
  const svg = document.importNode(new DOMParser().parseFromString(chart.replace("<svg ", `<svg xmlns="${SVG}" xmlns:xlink="http://www.w3.org/1999/xlink" `), "image/svg+xml").documentElement, true);
  for (const part of svg.querySelectorAll("[data-style]")) {
    part.style.cssText = part.dataset.style;
    delete part.dataset.style;
  }
  $("curve").replaceChildren(svg);
}

/** How the model of this round gets on while people answer, where it learns meanwhile. */
function follow(found) {
  const points = found.updates.filter((one) => one.quality !== null && one.quality !== undefined);
  $("live").hidden = !points.length;
  if (!points.length) return;
  const first = points[0], last = points[points.length - 1], low = Math.min(...points.map((p) => p.quality)), high = Math.max(...points.map((p) => p.quality));
  const svg = shape("svg", { viewBox: "0 0 100 40", preserveAspectRatio: "none", "aria-hidden": "true" });
  const at = (p) => `${(98 * (p.answers - first.answers)) / (last.answers - first.answers || 1) + 1},${38 - (36 * (p.quality - low)) / (high - low || 1)}`;
  svg.append(shape("polyline", { points: points.map(at).join(" ") }));
  $("live").replaceChildren(node("span", t("Live: {metric} {value} after {n} answers", { metric: said(last.metric), value: (100 * last.quality).toFixed(1), n: last.answers })), svg);
}

function shape(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

const about = (query) => (query.label === null ? t("the whole {unit}", { unit: said(query.unit) }) : me.classes[query.label]);

/** An open question as its picture: what it is about, near and framed, and why it is asked. */
function thumbnail(query) {
  const made = node("li"), [w, h] = query.size, box = query.box;
  const side = box ? Math.max(box[2] - box[0], box[3] - box[1], 24) * 1.6 : 0;
  const view = box ? [(box[0] + box[2]) / 2 - side, (box[1] + box[3]) / 2 - side * 0.75, 2 * side, 1.5 * side] : [0, 0, w, h];
  const svg = shape("svg", { viewBox: (side > Math.max(w, h) / 2 ? [0, 0, w, h] : view).join(" "), role: "img", "aria-label": t("{what} in {image}", { what: about(query), image: query.image }) });
  const scale = box ? 1280 : 320;
  if (query.number >= 0) svg.append(shape("image", { href: `/api/images/${query.number}/${scale}`, width: w, height: h, preserveAspectRatio: "none" }));
  if (box) for (const kind of ["halo", "box"]) svg.append(shape("rect", { x: box[0], y: box[1], width: box[2] - box[0], height: box[3] - box[1], class: kind }));
  const words = node("div");
  words.append(node("strong", about(query)), node("p", reason(query.because) || t("Its score, {score}, is among the highest.", { score: query.score.toPrecision(3) })),
    node("small", query.holder ? t("question {n}, with {who}", { n: query.rank + 1, who: query.holder }) : t("question {n}", { n: query.rank + 1 })));
  made.append(svg, words);
  return made;
}

/** Hours as a person says them. */
function hours(value) {
  if (value === null || value === undefined) return "–";
  const minutes = Math.round(60 * value);
  return minutes < 1 ? t("none") : minutes < 60 ? `${minutes} min` : value < 10 ? `${Math.floor(minutes / 60)} h ${minutes % 60} min` : `${Math.round(value)} h`;
}

function tiles(found) {
  const measured = found.curve.filter((p) => p.quality !== null && p.quality !== undefined), last = measured[measured.length - 1];
  const lately = found.pace.reduce((sum, one) => sum + one.lately, 0), working = found.pace.filter((one) => one.lately).length, metric = said(found.metric);
  const rows = [
    [last ? (100 * last.quality).toFixed(1) : "–", last ? t("{metric}, after round {round}", { metric, round: last.round }) : t("{metric}: not measured yet", { metric })],
    [hours(found.left.round), t("of work left in this round")],
    [hours(found.left.all), t("of work left to the end of the budget")],
    [String(lately), count(working, "answers in the last hour, by {n} person", "answers in the last hour, by {n} people")],
  ];
  $("tiles").replaceChildren(...rows.map(([value, name]) => { const made = node("div"); made.append(node("dt", name), node("dd", value)); return made; }));
  const now = found.standing;
  $("spent").hidden = now.state !== "open";
  if (now.state === "open") [$("spent").max, $("spent").value] = [now.budget || 1, Math.min(now.spent, now.budget)];
}

const MOST_THUMBNAILS = 12;

function showAsked(found) {
  $("no-questions").hidden = found.asked.length > 0;
  $("every").hidden = !found.asked.length;
  const key = (query) => `${query.rank} ${query.image} ${query.holder}`, few = found.asked.slice(0, MOST_THUMBNAILS), keys = few.map(key).join();
  if ($("thumbnails").dataset.keys !== keys) $("thumbnails").replaceChildren(...few.map(thumbnail));
  $("thumbnails").dataset.keys = keys;
  const parts = (reason) => Object.entries(reason).map(([k, v]) => `${k} ${typeof v === "number" ? v.toPrecision(3) : v}`).join(", ");
  table("asked", [[t("rank"), (r) => String(r.rank + 1), true], [t("image"), (r) => r.image], [t("about"), about], [t("why"), (r) => reason(r.because)],
    [t("score"), (r) => r.score.toPrecision(3), true], [t("its parts"), (r) => parts(r.reason)], [t("with"), (r) => r.holder ?? t("nobody")]], found.asked);
}

/** Everybody who is invited or has answered: pace, agreement with others, invitation. */
function showPeople(found) {
  const by = (rows) => new Map(rows.map((row) => [row.who, row]));
  const pace = by(found.pace), agree = by(found.agreement.by_person), right = by(found.quality);
  const invited = new Map(found.people.map((p) => [p.name, p])), names = [...new Set([...invited.keys(), ...pace.keys()])];
  const percent = (value) => (value === undefined ? null : `${(100 * value).toFixed(0)} %`);
  table("people", [[t("name"), (n) => n], [t("role"), (n) => said(invited.get(n)?.role ?? t("not invited"))], [t("invitation"), (n) => (invited.has(n) ? (invited.get(n).invited ? t("valid") : t("revoked")) : t("none"))],
    [t("password"), (n) => (invited.get(n)?.password ? t("set") : t("none"))], [t("answers"), (n) => String(pace.get(n)?.answers ?? 0), true], [t("last hour"), (n) => String(pace.get(n)?.lately ?? 0), true],
    [t("seconds each"), (n) => pace.get(n)?.seconds?.toFixed(1) ?? null, true], [t("agree with others"), (n) => percent(agree.get(n)?.share), true], [t("right"), (n) => percent(right.get(n)?.right), true],
    ["", (n) => (n === me.name || !invited.has(n) ? "" : actions(n))]], names);
}

async function show() {
  const found = await get("/api/owner/overview");
  draw(found.forecast.chart);
  tiles(found);
  follow(await get("/api/live"));
  const lines = [...found.forecast.lines, found.forecast.stopped].filter(Boolean);
  $("forecast").replaceChildren(...lines.map((line) => node("p", said(line))));
  const invited = found.people.filter((p) => p.invited).length;
  const few = found.overlap > invited ? `. ${t("Every query waits for {n} people and {invited} are invited: invite more", { n: found.overlap, invited })}` : "";
  $("state").textContent = found.forecast.stopped ? t("Stopped") : standing(found.standing) + few;
  const whole = (name) => (row) => String(Math.round(row[name]));
  table("rounds", [[t("round"), (r) => String(r.round), true], [said(found.metric), (r) => (r.quality == null ? null : (100 * r.quality).toFixed(1)), true],
    [t("boxes"), whole("boxes"), true], [t("queries"), whole("queries"), true], [t("images"), whole("images"), true], [t("minutes"), (r) => (r.seconds / 60).toFixed(1), true]], found.curve);
  showPeople(found);
  table("work", [[t("person"), (r) => r.who], [t("asked about"), (r) => said(r.unit)], [t("verdict"), (r) => said(r.verdict)], [t("answers"), whole("answers"), true],
    [t("second opinions"), (r) => String(r.answers - r.counting), true], [t("seconds each"), (r) => r.seconds.toFixed(1), true]], found.work);
  $("offered").hidden = !found.suggested.length;
  table("suggested", [[t("person"), (r) => r.who], [t("taken as they were"), whole("verify"), true], [t("mended"), whole("mend"), true], [t("refused"), whole("reject"), true], [t("drawn anew"), whole("draw"), true]], found.suggested);
  const { agreement, missing } = found, share = (r) => `${(100 * r.share).toFixed(0)} %`;
  $("agreement").hidden = found.overlap === 1 && !agreement.queries;
  $("agreed").textContent = t("{n} people are asked every query; {several} queries have several answers. Share of objects on which two people agree (same class, IoU at least 0.5):", { n: found.overlap, several: agreement.queries });
  table("agree-people", [[t("person"), (r) => r.who], [t("compared with others"), (r) => String(r.pairs), true], [t("agree"), share, true]], agreement.by_person);
  table("agree-classes", [[t("class"), (r) => me.classes[r.label]], [t("objects compared"), whole("objects"), true], [t("agree"), share, true]], agreement.by_class);
  $("quality").hidden = !found.quality.length;
  const percent = (name) => (r) => (100 * r[name]).toFixed(0);
  table("good", [[t("person"), (r) => r.who], [t("answers compared"), whole("answers"), true], [t("of known questions"), whole("known"), true], [t("right, %"), percent("right"), true],
    [t("95 % interval"), (r) => t("{low} to {high}", { low: percent("low")(r), high: percent("high")(r) })], ["", (r) => (r.noise ? t("hardly better than guessing: look at some answers (they stay), or ask somebody else") : "")]], found.quality);
  $("missing").hidden = !missing.length;
  table("missed", [[t("name"), (r) => r.name], [t("queries skipped for it"), whole("answers"), true], ["", (r) => addButton(r.name)]], missing);
  showAsked(found);
}

function standing(now) {
  const round = t("Round {round} of {last}", { round: now.round, last: now.rounds - 1 });
  if (now.state !== "open") return now.state === "done" ? t("All rounds are done") : `${round}: ${now.stage ? said(now.stage) : t("waiting")}`;
  const owed = now.owed ? `, ${t("{n} second opinions to come", { n: now.owed })}` : "";
  return `${round}: ${t("{answered} of {asked} open queries answered, {held} in somebody's hands", now)}${owed}`;
}

function actions(name) {
  const both = node("div", "", "row"), link = node("button", t("New link")), out = node("button", t("Revoke"));
  link.addEventListener("click", () => invite(name));
  out.addEventListener("click", () => post("/api/owner/revoke", { name }).then(show).catch(failed));
  both.append(link, out);
  return both;
}

function addButton(name) {
  const made = node("button", t("Add …"));
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
  $("link").textContent = t("Send this to {name}, and to nobody else: {link}", { name: made.name, link: `${location.origin}${made.link}` });
  await show();
}

async function start() {
  translate(document.body);
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
  await show().catch(failed);
  setInterval(() => { if (!document.hidden) show().catch(failed); }, 10_000);
}

start().catch(failed);
