// The tracks of a class as strips of crops through time; a click shows the frame at full size, among its neighbours.
import { get, login } from "./api.js";
import { failed } from "./problems.js";
import { count, said, t, translate } from "./texts.js";

const SVG = "http://www.w3.org/2000/svg", AROUND = 1.8, LEAST_PX = 16;
const KINDS = { found: t("found"), false: t("likely false"), missed: t("likely missed") };
const $ = (id) => document.getElementById(id);
let me = null, shown = 0, turn = 0, at = null, track = null, busy = false;

function node(name, attributes = {}, text = "") {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}

function drawn(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

const looked = new IntersectionObserver((seen) => {
  for (const { target, isIntersecting } of seen) {
    if (!isIntersecting) continue;
    looked.unobserve(target);
    for (const picture of target.querySelectorAll("image")) picture.setAttribute("href", target.dataset.strip);
  }
}, { rootMargin: "300px" });

const seconds = (value) => `${value.toFixed(2)} s`;
const named = ({ time_s, kind, score }) => {
  const time = seconds(time_s);
  return kind === "missed" ? `${time}, ${KINDS[kind]}` : t("{time}, {kind} with {score}", { time, kind: KINDS[kind], score: score.toFixed(2) });
};

function rectangle([x1, y1, x2, y2], kind) {
  return drawn("rect", { x: x1, y: y1, width: x2 - x1, height: y2 - y1, class: kind });
}

/** A crop of the strip, which is one picture of all stills side by side. */
function still(one, frame, k, n) {
  const [x1, y1, x2, y2] = frame.box, side = AROUND * Math.max(x2 - x1, y2 - y1, LEAST_PX), scale = 100 / side;
  const w = (x2 - x1) * scale, h = (y2 - y1) * scale;
  const made = node("button", { type: "button", class: `still ${frame.kind}`, "aria-label": t("the frame at {time}", { time: named(frame) }) });
  const view = drawn("svg", { viewBox: "0 0 100 100" });
  view.append(drawn("image", { x: -100 * k, y: 0, width: 100 * n, height: 100, preserveAspectRatio: "none" }));
  view.append(rectangle([50 - w / 2, 50 - h / 2, 50 + w / 2, 50 + h / 2], frame.kind));
  made.append(view, node("span", {}, seconds(frame.time_s)));
  made.addEventListener("click", () => open(one, frame.number).catch(failed));
  return made;
}

function strip(one, round) {
  const { frames, stills } = one, n = frames.length, made = node("section", { class: "track" }), row = node("div", { class: "stills" });
  const counted = ["false", "missed"].map((kind) => [frames.filter((frame) => frame.kind === kind).length, KINDS[kind]]).filter(([many]) => many);
  const errors = counted.map(([many, kind]) => `, ${many} ${kind}`).join("");
  const [from, to] = [frames[0], frames[n - 1]].map((frame) => seconds(frame.time_s));
  made.append(node("h2", {}, `${one.film}: ${count(n, "{n} frame, {from}", "{n} frames, {from} to {to}", { from, to })}${errors}`));
  row.dataset.strip = `/api/tracks/${round}/${one.track}?${stills.map((place) => `frames=${frames[place].number}`).join("&")}`;
  row.append(...stills.map((place, k) => still(one, frames[place], k, stills.length)));
  made.append(row);
  looked.observe(row);
  return made;
}

async function show(from) {
  const mine = ++turn, label = Number($("class").value), found = await get(`/api/tracks/${label}?start=${from}`);
  if (mine !== turn) return; // another class was chosen meanwhile
  if (!from) $("tracks").replaceChildren();
  $("tracks").append(...found.tracks.map((one) => strip(one, found.round)));
  shown = from + (found.sent ?? 0);
  $("more").hidden = shown >= found.total;
  $("state").textContent = found.problem ? said(found.problem) : count(found.total, "Round {round}: {n} track of {class}", "Round {round}: {n} tracks of {class}", { round: found.round, class: me.classes[label] });
}

async function open(one, number, beside = false) {
  const frame = await get(`/api/frames/${number}`);
  if (beside && !$("frame").open) return; // closed meanwhile
  const [width, height] = frame.size, picture = $("picture");
  track = one;
  at = frame;
  const box = one.frames.find((found) => found.number === number), url = `/api/images/${number}/${Math.max(width, height) > 1280 ? 2560 : 1280}`;
  picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
  picture.replaceChildren(drawn("image", { href: url, width, height, preserveAspectRatio: "none" }));
  for (const known of frame.boxes) {
    const text = drawn("text", { x: known.box[0], y: known.box[1] - height / 150, "font-size": height / 40, "stroke-width": height / 200 });
    text.textContent = me.classes[known.label];
    picture.append(rectangle(known.box, "known"), text);
  }
  if (box) picture.append(rectangle(box.box, box.kind));
  $("frame-title").textContent = `${frame.name}: ${box ? named(box) : t("{time}, the track is not here", { time: seconds(frame.time_s) })}`;
  $("before").disabled = frame.before < 0;
  $("after").disabled = frame.after < 0;
  if (!$("frame").open) $("frame").showModal();
}

async function step(way) {
  const next = way < 0 ? at.before : at.after;
  if (busy || next < 0) return;
  busy = true;
  try { await open(track, next, true); } catch (problem) { failed(problem); } finally { busy = false; }
}

$("before").addEventListener("click", () => step(-1));
$("after").addEventListener("click", () => step(1));
$("close").addEventListener("click", () => $("frame").close());
$("frame").addEventListener("keydown", (event) => {
  if (event.key === "," || event.key === ".") step(event.key === "," ? -1 : 1);
});
$("class").addEventListener("change", () => show(0).catch(failed));
$("more").addEventListener("click", () => show(shown).catch(failed));

async function begin() {
  translate(document.body);
  me = await login();
  $("project").textContent = me.project;
  $("class").replaceChildren(...me.classes.map((name, k) => node("option", { value: k }, name)));
  await show(0);
}
begin().catch(failed);
