// The owner's question before a class is added: what does everything that was looked over so far say of it?
import { post } from "./api.js";
import { said, t } from "./texts.js";

const $ = (id) => document.getElementById(id);

/** Asks, and adds the class; whether it was added. An image's class holds as it is: there is nothing to ask. */
export function asked(name, kind) {
  const dialog = $("add-class");
  $("add-name").textContent = t("Add “{name}” as a class?", { name });
  $("add-looked").hidden = kind === "class";
  $("add-problem").textContent = "";
  $("add-again").checked = true;
  dialog.showModal();
  return new Promise((done) => {
    $("add-go").onclick = async () => {
      try {
        await post("/api/owner/classes", { name, none_so_far: $("add-none").checked });
        dialog.close("added");
      } catch (problem) { $("add-problem").textContent = said(problem.message); }
    };
    $("add-back").onclick = () => dialog.close("");
    dialog.onclose = () => { done(dialog.returnValue === "added"); dialog.returnValue = ""; };
    dialog.oncancel = () => { dialog.returnValue = ""; };
  });
}
