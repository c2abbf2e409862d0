// A grid of images for which one class is asked, of one predicted class each time: choose several, one key answers all.
// A list box: the arrow keys move, the space bar chooses; a click or a tap does both.

import { t } from "./texts.js";

export class Grid {
  /** `changed`: called when a person has moved or chosen. */
  constructor(box, changed) {
    Object.assign(this, { box, changed, queries: [], picked: new Set(), at: 0 });
    box.addEventListener("click", (event) => {
      const tile = event.target.closest("[role=option]");
      if (!tile) return;
      this.at = Number(tile.dataset.at);
      this.toggle();
    });
  }

  /** What is chosen, or where the cursor is when nothing is. */
  get chosen() {
    const picked = this.queries.filter((query) => this.picked.has(query.query));
    return picked.length ? picked : this.queries.slice(this.at, this.at + 1);
  }

  show(queries, nameOf) {
    this.queries = [...queries];
    this.picked = new Set(queries.map((query) => query.query).filter((id) => this.picked.has(id)));
    const known = new Map([...this.box.children].map((tile) => [tile.dataset.query, tile]));
    const stay = queries.some((query) => known.has(String(query.query))); // else these are other images: from the beginning
    this.at = stay ? Math.max(0, Math.min(this.at, queries.length - 1)) : 0;
    this.box.replaceChildren(...queries.map((query, k) => {
      const tile = known.get(String(query.query)) ?? this.tile(query, nameOf);
      tile.id = `tile-${k}`;
      tile.dataset.at = k;
      return tile;
    }));
    this.mark();
  }

  tile(query, nameOf) {
    const tile = document.createElement("div"), picture = document.createElement("img"), text = document.createElement("p");
    tile.setAttribute("role", "option");
    tile.dataset.query = query.query;
    picture.src = `/api/images/${query.image.number}/320`;
    picture.alt = t("image {number}", { number: query.image.number }); // its name could give the class away
    picture.draggable = false;
    text.textContent = query.label === null ? picture.alt : `${nameOf(query.label)}?`;
    tile.append(picture, text);
    return tile;
  }

  mark() {
    [...this.box.children].forEach((tile, k) => {
      tile.setAttribute("aria-selected", String(this.picked.has(this.queries[k].query)));
      tile.classList.toggle("here", k === this.at);
    });
    this.box.setAttribute("aria-activedescendant", `tile-${this.at}`);
    this.box.children[this.at]?.scrollIntoView({ block: "nearest" });
    this.changed();
  }

  toggle() {
    const id = this.queries[this.at]?.query;
    if (id === undefined) return;
    if (!this.picked.delete(id)) this.picked.add(id);
    this.mark();
  }

  all() {
    const every = this.picked.size === this.queries.length;
    this.picked = new Set(every ? [] : this.queries.map((query) => query.query));
    this.mark();
  }

  move(dx, dy) {
    const tiles = [...this.box.children], row = tiles.filter((tile) => tile.offsetTop === tiles[0].offsetTop).length || 1;
    this.at = Math.max(0, Math.min(this.at + dx + dy * row, tiles.length - 1));
    this.mark();
  }
}
