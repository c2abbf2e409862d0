// Rectangles with their names as SVG nodes that stay: of 500 boxes only those that have changed are touched.

const SVG = "http://www.w3.org/2000/svg";

export function make(name, attributes = {}, parent = null) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  parent?.append(node);
  return node;
}

export class Layer {
  constructor(parent) { Object.assign(this, { parent, slots: [] }); }

  /** `items`: [{box, kind, text, colour, at}] from below to above, `at`: which box or suggestion it is; `unit`: pixels of
   * the image per pixel of the screen; `top`: the upper edge of what is seen. */
  show(items, unit, top) {
    this.fit(items);
    items.forEach((item, k) => {
      const slot = this.slots[k] ??= this.slot(), [x1, y1, x2, y2] = item.box, size = 13 * unit;
      const below = y1 - 4 * unit < top + size, at = below ? y1 + size + 2 * unit : y1 - 4 * unit; // the name stays in view
      const shape = [x1, y1, x2, y2, item.kind, item.colour].join(), name = [x1, at, unit, item.kind, item.text].join();
      if (slot.shape !== shape) this.shape(slot, item);
      if (slot.name !== name) this.name(slot, item, x1 + 2 * unit, at, unit);
      if (slot.at !== item.at) slot.rect.dataset[item.kind.startsWith("own") ? "box" : "offer"] = item.at;
      Object.assign(slot, { shape, name, at: item.at });
    });
    while (this.slots.length > items.length) this.slots.pop().group.remove();
  }

  /** Where one has come or gone, its node does: those that follow stay as they are. */
  fit(items) {
    const more = items.length - this.slots.length, first = Math.abs(more) === 1 ? items.findIndex(({ box }, k) => !this.slots[k]?.shape.startsWith(`${box},`)) : -1;
    if (first < 0) return;
    if (more < 0) this.slots.splice(first, 1)[0].group.remove();
    else this.slots.splice(first, 0, this.slot(this.slots[first]?.group ?? null));
  }

  shape({ group, under, rect }, { box: [x1, y1, x2, y2], kind, colour }) {
    for (const one of [under, rect]) {
      one.setAttribute("x", x1);
      one.setAttribute("y", y1);
      one.setAttribute("width", Math.max(0, x2 - x1));
      one.setAttribute("height", Math.max(0, y2 - y1));
    }
    rect.setAttribute("class", kind);
    group.style.setProperty("--colour", colour ?? "");
  }

  name({ text }, item, x, y, unit) {
    text.setAttribute("class", item.kind.split(" ")[0]);
    text.setAttribute("x", x);
    text.setAttribute("y", y);
    text.setAttribute("font-size", 13 * unit);
    text.setAttribute("stroke-width", 3 * unit);
    if (text.textContent !== item.text) text.textContent = item.text;
  }

  slot(before = null) {
    const group = make("g");
    this.parent.insertBefore(group, before);
    return { group, under: make("rect", { class: "under" }, group), rect: make("rect", {}, group), text: make("text", {}, group), shape: "", name: "" };
  }
}
