// Turns the secret of an invitation link into a session, and removes it from the address bar.
const state = document.getElementById("state");
const secret = location.hash.slice(1);
history.replaceState(null, "", "/enter");

async function enter() {
  if (!secret) {
    state.textContent = "Open the invitation link that you were sent; it ends in # and a long word.";
    return;
  }
  const reply = await fetch("/api/enter", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ secret }),
  });
  if (reply.ok) location.replace("/");
  else state.textContent = (await reply.json()).error;
}

enter().catch(() => { state.textContent = "The server cannot be reached. Try again in a moment."; });
