// The theme that a person has chosen (view.js), before anything is painted; without a choice the system's holds.
{
  let look = {};
  try { look = JSON.parse(localStorage.getItem("labelwise look")) ?? {}; } catch { /* nothing that we have kept */ }
  if (look.theme) document.documentElement.dataset.theme = look.theme;
}
