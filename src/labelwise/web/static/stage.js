// The image with its boxes, as one SVG whose user units are pixels of the original image: zooming and panning change
// the viewBox and nothing else, so that a box is edited exactly at any zoom. Mouse, pen and touch are pointers alike.

import { Layer, make } from "./layer.js";
import { Tiles } from "./tiles.js";

const HANDLES = ["nw", "n", "ne", "e", "se", "s", "sw", "w"];
const LEAST = 1; // pixels: the smallest side of a box
const SLACK = 80; // pixels of the screen: so far an edge of the image may be moved into the view
export const OPEN = "open"; // a suggestion that is neither "taken" nor "refused", nor "gone" (no longer suggested)

const area = ([x1, y1, x2, y2]) => (x2 - x1) * (y2 - y1);

export const NOTHING = { image: { number: -1, size: [100, 100] }, url: "", focus: null, known: [], covered: [], boxes: [], offers: [], limit: null, draws: false };

export class Stage {
  /** `changed`: called when a person has moved, drawn or selected a box. */
  constructor(svg, changed) {
    this.svg = svg;
    this.changed = changed;
    this.pointers = new Map();
    this.image = make("image", { preserveAspectRatio: "none" }, svg);
    this.tiles = new Tiles(make("g", { class: "tiles" }, svg));
    this.dim = make("path", { class: "dim", "fill-rule": "evenodd" }, svg);
    this.back = make("g", {}, svg);
    this.area = make("g", {}, this.back);
    this.layers = { known: new Layer(make("g", {}, this.back)), offers: new Layer(make("g", { class: "boxes" }, svg)), own: new Layer(make("g", { class: "boxes" }, svg)) };
    this.front = make("g", { class: "boxes" }, svg);
    this.reset(NOTHING);
    svg.addEventListener("pointerdown", (event) => this.down(event));
    svg.addEventListener("pointermove", (event) => this.move(event));
    for (const name of ["pointerup", "pointercancel"]) svg.addEventListener(name, (event) => this.up(event));
    // or the browser takes a quick drag for a fling and swallows the tap that follows it
    svg.addEventListener("touchstart", (event) => event.preventDefault(), { passive: false });
    svg.addEventListener("wheel", (event) => { event.preventDefault(); this.zoom(2 ** (event.deltaY / 400), this.at(event)); }, { passive: false });
    svg.addEventListener("contextmenu", (event) => event.preventDefault());
    new ResizeObserver(() => this.resize()).observe(svg);
  }

  /** `image`: its number and size; `focus`: the rectangle that stays bright; `limit`: where boxes may be; `boxes`:
   * [{box, label, tag, from}] to edit, `from`: the suggestion that one was made of, by its place in `offers`: [{box, label, tag, origin, image, state}]. */
  reset({ image, url, focus, known, covered, boxes, offers = [], limit, draws }) {
    const { size } = image;
    Object.assign(this, { of: image, size, url, focus, known, covered, boxes, offers, draws, drag: null, away: null });
    this.limit = limit ?? [0, 0, ...size];
    this.selected = boxes.length === 1 && !draws ? 0 : -1;
    this.marked = offers.findIndex((offer) => this.isOpen(offer));
    this.image.setAttribute("width", size[0]);
    this.image.setAttribute("height", size[1]);
    this.picture(url, image);
    this.measure();
    this.fit();
  }

  /** Whether a suggestion is shown: nothing was said of it, and the model is as sure as a person wants (`threshold`). */
  isOpen(offer) { return offer?.state === OPEN && (offer.score ?? 1) >= (this.threshold ?? 0); }

  picture(url, image) {
    this.tiles.of(url ? image : null);
    if (url) this.image.setAttribute("href", url);
    else this.image.removeAttribute("href");
  }

  /** Another image in place of this one, with what is known of it, and nothing to edit; null: back to this one. */
  lookAway(there) {
    this.away = there;
    this.drag = null;
    this.picture(there ? there.url : this.url, there ? there.image : this.of);
    this.tiles.look(this.view, this.unit);
    this.draw();
  }

  // ---- the view

  fit() {
    if (!this.focus) return this.whole();
    const [x1, y1, x2, y2] = this.focus;
    const margin = this.draws ? 0.06 : 1;
    const w = Math.max((x2 - x1) * (1 + 2 * margin), this.draws ? 1 : 48);
    const h = Math.max((y2 - y1) * (1 + 2 * margin), this.draws ? 1 : 48);
    this.look((x1 + x2) / 2 - w / 2, (y1 + y2) / 2 - h / 2, w, h);
  }

  whole() {
    this.look(0, 0, ...this.size);
    this.view.whole = true;
  }

  measure() {
    const { width, height } = this.svg.getBoundingClientRect();
    this.screen = [Math.max(1, width), Math.max(1, height)];
  }

  resize() {
    const { x, y, w, h, fits, whole } = this.view, k = this.unit;
    this.measure();
    const [width, height] = this.screen;
    if (fits) whole ? this.whole() : this.fit();
    else this.look(x + (w - k * width) / 2, y + (h - k * height) / 2, k * width, k * height, SLACK);
  }

  /** Shows a rectangle of the image, and around it what the stage has room for. Without `slack` nothing beyond the image
   * is seen, unless all of it is: its edges fill the view. */
  look(x, y, w, h, slack = 0) {
    const [width, height] = this.screen, k = Math.max(w / width, h / height);
    const place = (start, span, seen, full) => {
      const free = full - seen, least = free < 0 ? free / 2 : 0, most = free < 0 ? free / 2 : free;
      return Math.min(Math.max(start - (seen - span) / 2, least - slack * k), most + slack * k);
    };
    const [seenW, seenH] = [k * width, k * height];
    this.view = { x: place(x, w, seenW, this.size[0]), y: place(y, h, seenH, this.size[1]), w: seenW, h: seenH, fits: !slack };
    this.unit = k;
    this.svg.setAttribute("viewBox", `${this.view.x} ${this.view.y} ${seenW} ${seenH}`);
    this.tiles.look(this.view, k);
    this.draw();
  }

  zoom(factor, about = null) {
    const { x, y, w, h } = this.view;
    const least = 8 / Math.max(w, h), most = 1.5 * Math.max(this.size[0] / w, this.size[1] / h);
    const k = Math.min(Math.max(factor, least), Math.max(most, least));
    const [px, py] = about ?? [x + w / 2, y + h / 2];
    this.look(px - (px - x) * k, py - (py - y) * k, w * k, h * k, SLACK);
  }

  /** Image pixels per pixel of the screen. */
  get scale() { return this.unit; }

  at(event) {
    const matrix = this.svg.getScreenCTM();
    const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(matrix.inverse());
    return [point.x, point.y];
  }

  // ---- drawing

  draw() {
    if (!this.view) return;
    const unit = this.unit, top = this.view.y, path = ([x1, y1, x2, y2]) => `M${x1} ${y1}H${x2}V${y2}H${x1}Z`;
    const lit = this.draws || !this.boxes.length ? this.focus : this.boxes[0].box; // a candidate stays lit as it moves
    this.dim.setAttribute("d", lit ? path([-1e5, -1e5, 1e5, 1e5]) + path(lit) : "");
    this.dim.classList.toggle("strong", this.draws);
    this.area.replaceChildren();
    this.front.replaceChildren();
    const known = (this.away ?? this).known.map(({ box, tag }) => ({ box, kind: "known", text: tag }));
    this.layers.known.show(known, unit, top);
    this.layers.offers.show(this.away ? [] : this.drawnOffers(), unit, top);
    this.layers.own.show(this.away ? [] : this.drawnBoxes(), unit, top);
    if (this.away) return;
    for (const box of this.covered) this.rect(box, "covered");
    if (this.focus && this.draws) this.rect(this.focus, "focus");
    if (this.selected >= 0) this.handles(this.boxes[this.selected].box, unit);
  }

  drawnOffers() {
    return this.offers.map((offer, k) => ({
      box: offer.box,
      at: k,
      kind: k === this.marked ? "offer marked" : "offer",
      text: offer.score === undefined ? `${offer.tag}?` : `${offer.tag}? ${Math.round(100 * offer.score)} %`,
      colour: this.colourOf?.(offer.label),
    })).filter((item) => this.isOpen(this.offers[item.at]));
  }

  drawnBoxes() {
    const areas = this.boxes.map(({ box }) => area(box)), below = areas.map((_area, k) => k).sort((a, b) => areas[b] - areas[a]); // nested ones on top
    return below.map((k) => {
      const { box, tag, label } = this.boxes[k];
      return { box, at: k, kind: k === this.selected ? "own chosen" : "own", text: tag ?? "", colour: this.colourOf?.(label) };
    });
  }

  rect([x1, y1, x2, y2], kind) {
    make("rect", { x: x1, y: y1, width: Math.max(0, x2 - x1), height: Math.max(0, y2 - y1), class: kind }, this.area);
  }

  handles([x1, y1, x2, y2], unit) {
    const wide = 9 * unit, grip = Math.min(26 * unit, Math.max(14 * unit, Math.min(x2 - x1, y2 - y1) / 2));
    for (const name of HANDLES) {
      const x = name.includes("w") ? x1 : name.includes("e") ? x2 : (x1 + x2) / 2;
      const y = name.includes("n") ? y1 : name.includes("s") ? y2 : (y1 + y2) / 2;
      make("rect", { x: x - wide / 2, y: y - wide / 2, width: wide, height: wide, class: "handle" }, this.front);
      const out = [x + (name.includes("w") ? -grip * 0.3 : name.includes("e") ? grip * 0.3 : 0), y + (name.includes("n") ? -grip * 0.3 : name.includes("s") ? grip * 0.3 : 0)];
      const node = make("rect", { x: out[0] - grip / 2, y: out[1] - grip / 2, width: grip, height: grip, class: `grip ${name}` }, this.front);
      node.dataset.handle = name;
    }
  }

  // ---- pointers

  down(event) {
    this.svg.focus({ preventScroll: true });
    this.svg.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, [event.clientX, event.clientY]);
    if (this.pointers.size > 1) { // the second finger: zoom, and what the first one began does not count
      if (this.drag?.undo) this.drag.undo();
      this.drag = null;
      this.draw();
      return;
    }
    const start = this.at(event), { handle, box, offer } = event.target.dataset;
    const pans = event.button === 1 || event.button === 2 || this.away, draws = this.draws && event.shiftKey && this.inside(start);
    if (pans) this.drag = { kind: "pan", start: [event.clientX, event.clientY], from: { ...this.view } };
    else if (draws) this.begin(start);
    else if (handle) this.drag = { kind: "resize", handle, start, from: [...this.boxes[this.selected].box] };
    else if (box !== undefined && Number(box) === this.selected) this.drag = { kind: "shift", start, from: [...this.boxes[this.selected].box] };
    else if (box !== undefined || offer !== undefined) this.drag = { kind: "press", start, box, offer }; // chosen, unless it is dragged: then drawn
    else if (this.draws && this.inside(start)) this.begin(start);
    else this.drag = { kind: "pan", start: [event.clientX, event.clientY], from: { ...this.view } };
    if (this.drag.from && this.drag.kind !== "pan") {
      const target = this.boxes[this.selected], from = [...this.drag.from];
      this.drag.undo = () => { target.box = from; };
    }
    this.draw();
  }

  begin(start) {
    const before = this.selected;
    this.boxes.push({ box: [...start, ...start], label: this.label ?? 0, tag: this.tagOf?.(this.label ?? 0) ?? "" });
    this.selected = this.boxes.length - 1;
    this.drag = { kind: "draw", start, undo: () => { this.boxes.pop(); this.selected = before; } };
  }

  move(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    if (this.pointers.size === 2) this.pinch(event, before);
    this.pointers.set(event.pointerId, [event.clientX, event.clientY]);
    if (!this.drag || this.pointers.size > 1) return;
    const { kind, start, from, handle } = this.drag;
    if (kind === "pan") {
      const k = this.scale;
      this.look(from.x - (event.clientX - start[0]) * k, from.y - (event.clientY - start[1]) * k, from.w, from.h, SLACK);
      return;
    }
    const [x, y] = this.at(event);
    if (kind === "press") {
      if (!this.draws || !this.inside(start) || Math.hypot(x - start[0], y - start[1]) < 4 * this.scale) return;
      this.begin(start);
      return this.move(event);
    }
    const item = this.boxes[this.selected];
    if (kind === "shift") item.box = this.held(from.map((v, k) => v + (k % 2 ? y - start[1] : x - start[0])));
    else if (kind === "draw") item.box = this.cut([Math.min(x, start[0]), Math.min(y, start[1]), Math.max(x, start[0]), Math.max(y, start[1])]);
    else item.box = this.pulled(from, handle, x - start[0], y - start[1]);
    this.draw();
  }

  up(event) {
    if (!this.pointers.delete(event.pointerId)) return;
    const drag = this.drag;
    this.drag = null;
    if (!drag || drag.kind === "pan") return;
    if (drag.kind === "press") {
      if (drag.offer !== undefined) return this.take(Number(drag.offer)); // `editor.js`
      this.selected = Number(drag.box);
    }
    if (drag.kind === "draw") {
      const [x1, y1, x2, y2] = this.boxes[this.selected].box, least = Math.max(LEAST, 4 * this.scale);
      if (x2 - x1 < least || y2 - y1 < least) drag.undo(); // a tap
    }
    this.draw();
    this.changed();
  }

  pinch(event, before) {
    const other = [...this.pointers].find(([id]) => id !== event.pointerId)[1];
    const span = (p) => Math.hypot(p[0] - other[0], p[1] - other[1]);
    const now = [event.clientX, event.clientY];
    const about = this.at({ clientX: (now[0] + other[0]) / 2, clientY: (now[1] + other[1]) / 2 });
    if (span(now) > 0) this.zoom(span(before) / span(now), about);
    const k = this.scale / 2;
    this.look(this.view.x - (now[0] - before[0]) * k, this.view.y - (now[1] - before[1]) * k, this.view.w, this.view.h, SLACK);
  }

  // ---- boxes

  inside([x, y]) {
    const [x1, y1, x2, y2] = this.limit;
    return x >= x1 && x <= x2 && y >= y1 && y <= y2;
  }

  cut([x1, y1, x2, y2]) {
    const [a, b, c, d] = this.limit;
    return [Math.max(a, x1), Math.max(b, y1), Math.min(c, x2), Math.min(d, y2)].map((v) => Math.round(100 * v) / 100);
  }

  held([x1, y1, x2, y2]) { // moved as a whole, kept inside
    const [a, b, c, d] = this.limit;
    const dx = Math.max(a - x1, 0) || Math.min(c - x2, 0), dy = Math.max(b - y1, 0) || Math.min(d - y2, 0);
    return this.cut([x1 + dx, y1 + dy, x2 + dx, y2 + dy]);
  }

  pulled(box, handle, dx, dy) {
    let [x1, y1, x2, y2] = box;
    if (handle.includes("w")) x1 = Math.min(x1 + dx, x2 - LEAST);
    if (handle.includes("e")) x2 = Math.max(x2 + dx, x1 + LEAST);
    if (handle.includes("n")) y1 = Math.min(y1 + dy, y2 - LEAST);
    if (handle.includes("s")) y2 = Math.max(y2 + dy, y1 + LEAST);
    return this.cut([x1, y1, x2, y2]);
  }

  /** Moves the chosen box, or its lower right corner, by whole pixels. */
  nudge(dx, dy, resize) {
    const item = this.boxes[this.selected];
    if (!item) return false;
    item.box = resize ? this.pulled(item.box, "se", dx, dy) : this.held(item.box.map((v, k) => v + (k % 2 ? dy : dx)));
    this.draw();
    this.changed();
    return true;
  }

  /** A new box in the middle of the view, for those who draw by the keyboard. */
  add() {
    const { x, y, w, h } = this.view;
    const box = this.cut([x + w * 0.4, y + h * 0.4, x + w * 0.6, y + h * 0.6].map(Math.round));
    if (box[2] - box[0] < LEAST || box[3] - box[1] < LEAST) return;
    this.boxes.push({ box, label: this.label ?? 0, tag: this.tagOf?.(this.label ?? 0) ?? "" });
    this.selected = this.boxes.length - 1;
    this.draw();
    this.changed();
  }

  remove() {
    if (!this.draws || this.selected < 0) return;
    this.boxes.splice(this.selected, 1);
    this.selected = this.boxes.length - 1;
    this.draw();
    this.changed();
  }

  choose(step) {
    if (!this.boxes.length) return;
    this.selected = (this.selected + step + this.boxes.length) % this.boxes.length;
    this.draw();
    this.changed();
  }
}
