// What can be done to the boxes of one query beside dragging them: suggestions become boxes, or are refused.
import { OPEN, Stage } from "./stage.js";

const SAME = 0.5; // from this IoU on two boxes of one class are one object

function iou([a, b, c, d], [e, f, g, h]) {
  const shared = Math.max(0, Math.min(c, g) - Math.max(a, e)) * Math.max(0, Math.min(d, h) - Math.max(b, f));
  return shared / ((c - a) * (d - b) + (g - e) * (h - f) - shared) || 0;
}

const key = ({ box, label, origin, image }) => [label, origin, image, ...box].join();

export class Editor extends Stage {
  get open() { return this.offers.filter((offer) => this.isOpen(offer)); }

  /** What is suggested now: those that were taken or refused stay so, what is no longer suggested goes. */
  suggest(offers) {
    const known = new Map(this.offers.map((offer) => [key(offer), offer]));
    const now = new Set(offers.map(key));
    for (const offer of this.offers) if (offer.state === OPEN && !now.has(key(offer))) offer.state = "gone";
    for (const offer of offers) {
      const before = known.get(key(offer));
      const state = this.settled(offer) ? "gone" : OPEN;
      if (!before) this.offers.push({ ...offer, tag: this.tagOf?.(offer.label) ?? "", state });
      else if (before.state === "gone") before.state = state;
    }
    this.mark();
    this.draw();
  }

  /** Suggests what the model is more (less) sure of alone. */
  raise(step) {
    this.threshold = Math.min(0.95, Math.max(0.05, Math.round(20 * (this.threshold + step)) / 20));
    this.mark();
    this.draw();
  }

  /** Suggestions of what was drawn meanwhile go. */
  settle() {
    for (const offer of this.offers) if (offer.state === OPEN && this.settled(offer)) offer.state = "gone";
    this.mark();
  }

  /** Whether a person has said already what a suggestion would ask: there is such a box, or it was refused. */
  settled(offer) {
    const said = [...this.boxes, ...this.offers.filter((other) => other.state === "refused")];
    return this.draws && said.some((other) => other.label === offer.label && iou(other.box, offer.box) >= SAME);
  }

  /** The next suggestion from this one on is the one that the keys mean. */
  mark(from = this.marked) {
    const n = this.offers.length;
    this.marked = n ? this.offers.findIndex((_offer, k) => this.isOpen(this.offers[(k + Math.max(0, from)) % n])) : -1;
    if (this.marked >= 0) this.marked = (this.marked + Math.max(0, from)) % n;
  }

  /** A suggestion becomes a box; where one box is asked about, this box. */
  take(k = this.marked) {
    if (!this.isOpen(this.offers[k])) return;
    this.accept(k);
    this.draw();
    this.changed();
  }

  accept(k) {
    const offer = this.offers[k];
    if (!this.draws) this.offers.forEach((other) => { if (other.state === "taken") other.state = OPEN; });
    offer.state = "taken";
    const made = { box: this.cut(offer.box), label: offer.label, tag: offer.tag, from: k };
    if (this.draws) this.boxes.push(made);
    else this.boxes = [made];
    this.selected = this.boxes.length - 1;
    this.settle();
  }

  /** All at once: one edit. */
  takeAll(wanted = () => true) {
    const before = this.boxes.length;
    this.offers.forEach((offer, k) => { if (this.isOpen(offer) && wanted(offer)) this.accept(k); });
    if (this.boxes.length === before) return;
    this.selected = -1;
    this.draw();
    this.changed();
  }

  /** Takes what another frame lends, suggested before or not. */
  lend(lent) {
    const wanted = new Set(lent.map(key)), before = this.offers.filter((offer) => offer.state !== "gone" && !wanted.has(key(offer)));
    this.suggest([...before, ...lent]);
    this.takeAll((offer) => wanted.has(key(offer)));
  }

  refuse(k = this.marked) {
    if (!this.isOpen(this.offers[k])) return;
    this.offers[k].state = "refused";
    this.mark(k);
    this.draw();
    this.changed();
  }

  /** Which suggestions there were, and which box was made of each (null: none). */
  get suggested() {
    return this.offers.map((offer, k) => {
      const number = this.boxes.findIndex((item) => item.from === k);
      return { box: offer.box, label: offer.label, origin: offer.origin, image: offer.image, number: number < 0 ? null : number, shown: offer.state === "taken" || offer.state === "refused" || this.isOpen(offer) };
    }).filter((offer) => offer.shown || offer.number !== null).map(({ shown, ...offer }) => offer);
  }

  get state() {
    return { boxes: this.boxes.map(({ box, label, from }) => ({ box, label, from })), offers: this.offers.map(({ tag, ...offer }) => offer) };
  }

  /** As `state` had it. */
  restore({ boxes, offers }) {
    const tagged = (items) => items.map((item) => ({ ...item, box: [...item.box], tag: this.tagOf?.(item.label) ?? "" }));
    this.boxes = tagged(boxes);
    this.offers = tagged(offers);
    this.selected = this.draws ? Math.min(this.selected, this.boxes.length - 1) : 0;
    this.mark();
    this.draw();
  }
}
