// What the parts of the page share: who is here, the queries that this window holds (the first is shown), the class.
import { t } from "./texts.js";
import { DRAWN } from "./units.js";

export const state = { me: null, queue: [], label: 0, gridded: false, progress: null, begun: false, left: false, reachable: true };

export const tab = sessionStorage.getItem("tab") ?? crypto.getRandomValues(new Uint32Array(4)).join("-");
sessionStorage.setItem("tab", tab);

export const current = () => state.queue[0];
export const draws = (query) => DRAWN.has(query.kind);
export const nameOf = (k) => state.me.classes[k] ?? `class ${k}`;
export const url = ({ number, size }) => `/api/images/${number}/${Math.max(...size) > 1280 ? 2560 : 1280}`;

/** How a person knows an image: by its name, unless that could give its class away. */
export const called = (query) => (query.kind === "class" ? t("image {number}", { number: query.image.number }) : query.image.name);
