// Turns the secret of an invitation link, or a name and its password, into a session. The secret is removed from the
// address bar.
import { said, t, translate } from "./texts.js";

const $ = (id) => document.getElementById(id);
translate(document.body);
const secret = location.hash.slice(1);
history.replaceState(null, "", "/enter");
addEventListener("hashchange", () => location.reload()); // another link, opened in this very window

async function send(path, body) {
  const reply = await fetch(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) })
    .catch(() => { throw new Error(t("The server cannot be reached. Try again in a moment")); });
  if (!reply.ok) throw new Error((await reply.json().catch(() => ({ error: t("the server said {status}", { status: reply.status }) }))).error);
  location.replace("/");
}

function ask(why) {
  $("state").textContent = `${why} ${t("If you have set a password, enter with it here.")}`;
  $("login").hidden = false;
  $("name").focus();
}

let sending = false;
$("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (sending) return;
  sending = true;
  $("refused").hidden = true;
  try {
    await send("/api/login", { name: $("name").value.trim(), password: $("password").value });
  } catch (problem) {
    $("refused").textContent = said(problem.message);
    $("refused").hidden = false;
    $("password").select();
    sending = false;
  }
});

if (secret) send("/api/enter", { secret }).catch((problem) => ask(`${said(problem.message)}.`));
else ask(t("Open the invitation link that you were sent; it ends in # and a long word."));
