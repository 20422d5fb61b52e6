// Comfort, and nothing else: every page works without it.
"use strict";

// Language and colours change at once.
for (const select of document.querySelectorAll("select[data-send]")) {
  select.addEventListener("change", () => select.form.requestSubmit());
  for (const button of select.form.querySelectorAll("button[data-unneeded]")) button.hidden = true;
}

// A form is sent once.
for (const form of document.querySelectorAll("form[method=post]")) {
  form.addEventListener("submit", (event) => {
    if (form.dataset.sent) event.preventDefault();
    form.dataset.sent = "yes";
    window.setTimeout(() => delete form.dataset.sent, 5000);
  });
}
window.addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
});

// What was typed is not lost by a slip.
let typed = false;
for (const area of document.querySelectorAll("textarea")) area.addEventListener("input", () => { typed = true; });
document.addEventListener("submit", () => { typed = false; });
window.addEventListener("beforeunload", (event) => { if (typed) event.preventDefault(); });

// Work under way is looked at again by itself.
const waiting = document.querySelector("[data-again]");
if (waiting) window.setTimeout(() => window.location.reload(), Number(waiting.dataset.again) * 1000);

// Rows of the inbox by keyboard: j and k move, Enter opens.
const rows = [...document.querySelectorAll("table[data-keys] tbody tr a:first-of-type")];
if (rows.length) {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
    const step = { j: 1, k: -1 }[event.key];
    if (!step) return;
    const at = rows.indexOf(document.activeElement);
    rows[Math.min(rows.length - 1, Math.max(0, at + step))].focus();
    event.preventDefault();
  });
}
