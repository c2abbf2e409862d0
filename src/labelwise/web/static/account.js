// The person's own password, and the way out.
import { post } from "./api.js";
import { said, t } from "./texts.js";

const $ = (id) => document.getElementById(id);

/** `message` shows a message; `leaving` gives back what this window holds, and says whether it may be left. */
export function account(me, { message, leaving, failed }) {
  $("account-name").value = me.name;
  $("account-where").textContent = `${location.origin}/enter`;
  $("password-button").addEventListener("click", () => {
    $("new-password").value = "";
    $("password-problem").textContent = "";
    show(false);
    $("account").showModal();
  });
  $("account-back").addEventListener("click", () => $("account").close());
  $("password-shown").addEventListener("change", () => show($("password-shown").checked));
  $("account").querySelector("form").addEventListener("submit", set);
  $("leave-button").addEventListener("click", () => leave().catch(failed));
  $("password-button").hidden = $("leave-button").hidden = false;

  function show(plainly) {
    $("password-shown").checked = plainly;
    $("new-password").type = plainly ? "text" : "password";
  }

  let sending = false;
  async function set(event) {
    event.preventDefault();
    if (sending) return;
    sending = true;
    try {
      await post("/api/password", { password: $("new-password").value });
      $("new-password").value = "";
      $("account").close();
      message(t("Your password is set: enter as {name} at {address}", { name: me.name, address: `${location.origin}/enter` }));
    } catch (problem) {
      $("password-problem").textContent = said(problem.message);
      $("new-password").focus();
    } finally { sending = false; }
  }

  async function leave() {
    if (!(await leaving())) return;
    await post("/api/leave", {});
    location.replace("/enter");
  }
}
