// Why a query is asked, in one line above its numbers. Made here, so that the page's own script has one call to it.
import { reason } from "./texts.js";

/** Shows the reason of a query, or nothing where none is told. */
export function why(query) {
  let line = document.getElementById("because");
  if (!line) {
    line = document.createElement("p");
    line.id = "because";
    document.getElementById("why").before(line);
  }
  line.textContent = reason(query?.because);
  line.hidden = !line.textContent;
}
