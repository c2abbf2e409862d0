// A film: the frames before and after, at full size and as a strip; and what is suggested for the frame, or any image.
import { get } from "./api.js";
import { make } from "./layer.js";
import { count, t } from "./texts.js";

const AGAIN_MS = 600; // the flow is being computed: ask again

const signed = (late) => `${late < 0 ? "−" : "+"}${Math.abs(late).toFixed(2)}`;

export class Film {
  /** `url` of an image; `told`: where the page looks, "" when at the frame that is asked about; `offered`: suggestions came. */
  constructor(editor, { strip, nameOf, url, told, offered, failed }) {
    Object.assign(this, { editor, strip, nameOf, url, told, offered, failed, query: null, at: -1, turn: 0, busy: false, track: [], lent: [], frames: new Map() });
  }

  /** Whether there are other frames. */
  get shows() { return (this.query?.strip.length ?? 0) > 0; }

  /** Whether the page shows another frame, or is on the way to one. */
  get away() { return this.query !== null && (this.busy || this.at !== this.query.image.number); }

  /** The query that is shown from now on; null or one of an image: there is no film. */
  open(query) {
    clearTimeout(this.timer);
    this.query = query;
    Object.assign(this, { at: query?.image.number ?? -1, track: [], lent: [], problem: "", waiting: false });
    this.told("");
    if (!this.query) return;
    this.draw();
    this.ask();
    if (this.shows) this.prefetch(this.at);
  }

  /** What its labelled frames suggest, now or (a label has come) by now. */
  async ask() {
    const query = this.query;
    if (!query || !(this.shows || this.editor.draws) || query.kind === "class") return;
    clearTimeout(this.timer);
    this.frames.clear();
    this.waiting = true;
    try {
      const reply = await get(`/api/queries/${query.query}/offers`);
      if (query !== this.query) return;
      Object.assign(this, { track: reply.track, lent: reply.lent, problem: reply.problem, waiting: false });
      this.draw();
      this.offered(query, reply);
      if (reply.waits) this.timer = setTimeout(() => this.ask(), AGAIN_MS);
    } catch (problem) {
      if (query === this.query) this.waiting = false;
      this.failed(problem);
    }
  }

  frame(number) {
    if (!this.frames.has(number)) this.frames.set(number, get(`/api/frames/${number}`));
    return this.frames.get(number);
  }

  async step(way) {
    if (!this.shows || this.busy) return;
    this.busy = true;
    try {
      const here = await this.frame(this.at), next = way < 0 ? here.before : here.after;
      if (next >= 0) await this.go(next);
      else this.told(way < 0 ? t("The film begins here") : t("The film ends here"));
    } catch (problem) { this.failed(problem); } finally { this.busy = false; }
  }

  async go(number) {
    const query = this.query, turn = this.turn;
    if (number === query.image.number) return this.back();
    const there = await this.frame(number), picture = new Image(), url = this.url(there);
    picture.src = url;
    await picture.decode();
    if (query !== this.query || turn !== this.turn) return; // another query, or back meanwhile
    this.at = number;
    this.editor.lookAway({ url, image: there, known: query.kind === "class" ? [] : there.boxes.map(({ box, label }) => ({ box, tag: this.nameOf(label) })) });
    const own = query.strip.find((frame) => frame.number === query.image.number).time_s, late = there.time_s - own;
    const n = Math.abs(number - query.image.number);
    const where = number < query.image.number ? count(n, "{n} frame before", "{n} frames before") : count(n, "{n} frame after", "{n} frames after");
    this.told(`${where} (${signed(late)} s)`);
    this.draw();
    this.prefetch(number);
  }

  async prefetch(number) {
    const here = await this.frame(number).catch(() => null);
    for (const near of [here?.before ?? -1, here?.after ?? -1]) if (near >= 0) new Image().src = this.url({ number: near, size: here.size });
  }

  back() {
    this.turn++;
    this.at = this.query.image.number;
    this.editor.lookAway(null);
    this.told("");
    this.draw();
  }

  /** The frames beside it; where one object is asked about, that object in each of them. */
  draw() {
    if (!this.shows) return;
    const { query, track } = this, own = query.strip.find((frame) => frame.number === query.image.number).time_s;
    this.strip.replaceChildren(...query.strip.map(({ number, time_s }) => {
      const made = document.createElement("figure"), go = document.createElement("button"), text = document.createElement("figcaption");
      const late = time_s - own, box = track.find((one) => one.number === number)?.box, lost = track.length > 0 && !box;
      go.type = "button";
      go.setAttribute("aria-label", late ? t("the frame at {time} s", { time: signed(late) }) : t("this frame"));
      go.addEventListener("click", () => this.go(number).catch(this.failed));
      if (!lost) go.append(this.crop(number, box));
      text.textContent = lost ? t("out of sight") : late ? `${signed(late)} s` : t("this one");
      made.classList.toggle("this", number === query.image.number);
      made.classList.toggle("here", number === this.at);
      made.append(go, text);
      return made;
    }));
  }

  crop(number, box) {
    const { image } = this.query, [width, height] = image.size;
    let view = [0, 0, width, height];
    if (box) {
      const side = 1.8 * Math.max(box[2] - box[0], box[3] - box[1], 16);
      view = [(box[0] + box[2] - side) / 2, (box[1] + box[3] - side) / 2, side, side];
    }
    const made = make("svg", { viewBox: view.join(" ") }), href = box ? this.url({ number, size: image.size }) : `/api/images/${number}/320`;
    make("image", { href, width, height, preserveAspectRatio: "none" }, made);
    if (box) make("rect", { x: box[0], y: box[1], width: box[2] - box[0], height: box[3] - box[1], class: "own" }, made);
    return made;
  }
}
