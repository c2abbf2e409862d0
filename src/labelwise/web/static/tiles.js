// The image's own pixels where a person zooms in: the page's copies have at most 2560 pixels a side, so that of a larger
// image squares at its full size are laid over the copy, those that are seen alone.
import { make } from "./layer.js";

const SIDE = 1024; // as `tiles.py` cuts them
const COPY = 2560, WAIT_MS = 80, MOST = 80, CRISP = 4; // pixels of the screen per pixel of the image from which on these are squares

export class Tiles {
  constructor(parent) { Object.assign(this, { parent, image: null, nodes: new Map(), timer: 0 }); }

  /** From now on the squares are of this image: {number, size}, or null. */
  of(image) {
    clearTimeout(this.timer);
    this.image = image;
    this.nodes.clear();
    this.parent.replaceChildren();
  }

  /** `view`: what is seen, in pixels of the image; `unit`: of these, how many a pixel of the screen takes. */
  look(view, unit) {
    this.parent.parentNode.classList.toggle("crisp", devicePixelRatio / unit >= CRISP);
    clearTimeout(this.timer);
    const longest = Math.max(...(this.image?.size ?? [0])), wanted = longest > COPY && devicePixelRatio / unit > COPY / longest;
    this.parent.style.display = wanted ? "" : "none";
    if (wanted) this.timer = setTimeout(() => this.fetch(view), WAIT_MS); // not for every step on the way
  }

  fetch({ x, y, w, h }) {
    const { number, size: [width, height] } = this.image, seen = new Set();
    for (let row = Math.max(0, Math.floor(y / SIDE)); row * SIDE < Math.min(y + h, height); row++) {
      for (let column = Math.max(0, Math.floor(x / SIDE)); column * SIDE < Math.min(x + w, width); column++) {
        const key = `${column}/${row}`;
        seen.add(key);
        if (!this.nodes.has(key)) this.nodes.set(key, this.tile(number, column, row, width, height));
      }
    }
    for (const [key, node] of this.nodes) {
      if (this.nodes.size <= MOST) break;
      if (!seen.has(key)) { node.remove(); this.nodes.delete(key); }
    }
  }

  tile(number, column, row, width, height) {
    const [x, y] = [column * SIDE, row * SIDE], size = { width: Math.min(SIDE, width - x), height: Math.min(SIDE, height - y) };
    const node = make("image", { x, y, ...size, preserveAspectRatio: "none", href: `/api/images/${number}/tiles/${column}/${row}` }, this.parent);
    node.addEventListener("error", () => node.remove()); // the copy below is still there
    return node;
  }
}
