// What every page needs: nudges, refreshes, and words for screen readers. Everything works without.
"use strict";

// Read out, whether or not anything on the page changes.
function say(text) {
  document.getElementById("announce").textContent = text;
}

// A case has come onto the screen, with the page or after it: its scripts begin on `event.detail`.
// The one before it hears "countersign:leaving", and saves what it has.
function shown(root) {
  document.dispatchEvent(new CustomEvent("countersign:shown", { detail: root }));
}

// What has no answer by then never gets one, from a frozen process or a dead line: it is asked again.
function patience(milliseconds = 30_000) {
  const control = new AbortController();
  setTimeout(() => control.abort(), milliseconds);
  return control.signal;
}

// From the cookie: a page outlives a sign-in, its own token does not. So each request says whose page
// it is: nothing of it may be done in the name of whoever signed in since.
const csrfToken = () => /(?:^|; )csrftoken=([^;]+)/.exec(document.cookie)?.[1] ?? "";
document.addEventListener("htmx:configRequest", ({ detail: { headers, parameters } }) => {
  headers["X-CSRFToken"] = csrfToken();
  if (parameters.csrfmiddlewaretoken) parameters.csrfmiddlewaretoken = csrfToken();
  headers["X-Person"] = document.body.dataset.user;
});

// The text of a part of a page; undefined where it did not come, or came as the sign-in page.
async function partOf(address, options = {}) {
  const answer = await fetch(address, { signal: patience(), ...options }).catch(() => undefined);
  return answer?.ok && !answer.redirected ? answer.text().catch(() => undefined) : undefined;
}

// What the eye does not wait for. A page in the background is not painted: there, soon.
function afterPaint(act) {
  let done = false;
  const once = () => { if (!done) { done = true; act(); } };
  requestAnimationFrame(() => setTimeout(once, 0));
  setTimeout(once, 200);
}

// The socket says which reviews changed; what changed is asked for over HTTP by hx-get.
document.addEventListener("htmx:wsBeforeMessage", (event) => {
  event.preventDefault();
  const said = JSON.parse(event.detail.message);
  const here = Number(document.body.dataset.review);
  if (said.refresh || said.reviews.length) soon("nudge:queue", 250);
  if (said.refresh || said.reviews.includes(here)) soon("nudge:review", 80);
  document.dispatchEvent(new CustomEvent("countersign:nudged", { detail: said }));
});

// Nudges of a burst become one request, and the last of them is never the one left out.
const due = new Map();
function soon(name, milliseconds) {
  if (due.has(name)) return;
  due.set(name, setTimeout(() => {
    due.delete(name);
    htmx.trigger(document.body, name);
  }, milliseconds));
}

// A refresh that did not get through, while its process was exchanged or had too much to do.
for (const failed of ["htmx:sendError", "htmx:responseError", "htmx:timeout"]) {
  document.addEventListener(failed, (event) => {
    const { elt, xhr } = event.detail;
    if (![0, 502, 503, 504].includes(xhr.status)) return;
    const name = /nudge:\w+/.exec(elt.getAttribute("hx-trigger"));
    if (name) soon(name[0], 2000);
  });
}

// A press on what is replaced before it is let go would be lost without a word: the refresh waits. So
// it does while a menu is open in its place.
function isHeld(target) {
  return target.matches(":active") || Boolean(target.querySelector(":popover-open"));
}
document.addEventListener("htmx:oobBeforeSwap", (event) => {
  if (!isHeld(event.detail.target)) return;
  event.detail.shouldSwap = false;
  soon("nudge:review", 500);
});
document.addEventListener("htmx:beforeSwap", ({ detail }) => {
  const name = /nudge:\w+/.exec(detail.requestConfig.elt.getAttribute("hx-trigger"));
  if (!name || !isHeld(detail.target)) return;
  detail.shouldSwap = false;
  soon(name[0], 500);
});

// A refresh leaves open what a person opened, and chosen what they chose.
let left = [];
document.addEventListener("htmx:oobBeforeSwap", (event) => {
  const old = event.detail.target;
  left = [
    ...[...old.querySelectorAll("details[open]")].map((each) => [`[data-key="${each.dataset.key}"]`, "open"]),
    ...[...old.querySelectorAll("input:checked")].map((each) => [`[name="${each.name}"][value="${each.value}"]`, "checked"]),
  ];
});
document.addEventListener("htmx:oobAfterSwap", (event) => {
  for (const [selector, state] of left) {
    for (const each of event.detail.elt.parentNode?.querySelectorAll(selector) ?? []) each[state] = true;
  }
});

// Back soon: the next process may be there in a second. Spread out: so is everybody else.
htmx.config.wsReconnectDelay = (tries) => 200 + Math.random() * Math.min(500 * 2 ** tries, 4000);

let drop;
document.addEventListener("htmx:wsClose", (event) => {
  if (event.detail.event && event.detail.event.code === 4401) location.reload();
  // A blink is not worth a word; a real outage is.
  drop = drop || setTimeout(() => { document.getElementById("lost").hidden = false; }, 2000);
});
document.addEventListener("htmx:wsOpen", () => {
  clearTimeout(drop);
  drop = undefined;
  document.getElementById("lost").hidden = true;
});

function copy(button) {
  const source = document.querySelector(button.dataset.copy);
  source.select();
  navigator.clipboard.writeText(source.value).then(() => { button.textContent = button.dataset.copied; }, () => {});
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy]");
  if (button) copy(button);
  for (const menu of document.querySelectorAll(".menu[open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
});

// Deferred scripts run before this event; htmx, which came first, has then read the page.
document.addEventListener("DOMContentLoaded", () => shown(document.body));
