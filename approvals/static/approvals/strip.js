// The quiet strip under the queue: the last decision while it can be undone, and what a person is told.
"use strict";

const strip = (() => {
  const place = () => document.getElementById("strip");

  // A page's own in place of the one that is here. `keep`: with what is still to be done of that one.
  function put(page, keep = true) {
    const old = place();
    const node = page.getElementById("strip");
    if (!old || !node) return;
    old.replaceWith(document.adoptNode(node));
    if (keep) carry(old);
    htmx.process(node);
    begin();
  }

  // What a person is told

  // What they have to do something about stays, whatever else is said.
  const standing = (from) => from?.querySelector(".told:has(button)");
  function carry(old) {
    const told = standing(old);
    if (told && !place().querySelector(".told")) place().prepend(told);
  }
  const heal = () => place()?.querySelector(".told[data-passing]")?.remove();

  // `act`: the button to go with it. `passing`: until something is answered again.
  function tell(text, act, passing = false) {
    if (!place()) return;
    if (passing && standing(place())) { say(text); return; }
    let told = place().querySelector(".told");
    if (!told) {
      told = document.createElement("p");
      told.className = "told";
      place().prepend(told);
    }
    told.toggleAttribute("data-passing", passing);
    told.replaceChildren(text);
    if (act) told.append(" ", act);
    say(text);
  }

  // How long it can still be undone

  let ticking;
  let later;
  function begin() {
    clearTimeout(ticking);
    clearTimeout(later);
    const undo = document.getElementById("undo");
    if (!undo) return;
    const total = Number(undo.dataset.left);
    if (total > 0) countDown(undo, total, performance.now() + total * 1000);
    else if (undo.dataset.state === "finished" || undo.dataset.state === "paused") later = setTimeout(renew, 12_500);
  }
  const renew = () => htmx.trigger(document.body, "nudge:strip");

  function countDown(undo, total, ends) {
    const left = Math.max(0, (ends - performance.now()) / 1000);
    if (left <= 0) { undo.querySelector("form")?.remove(); renew(); return; }
    for (const element of undo.querySelectorAll(".secs, text")) element.textContent = Math.ceil(left);
    const ticks = Math.ceil((40 * left) / total);
    undo.querySelector(".left").setAttribute("stroke-dasharray", `${".35 .65 ".repeat(ticks)}0 ${40 - ticks}`);
    ticking = setTimeout(countDown, 250, undo, total, ends);
  }

  // Refreshed

  let before;
  document.addEventListener("htmx:beforeSwap", ({ detail: { target } }) => { if (target.id === "strip") before = target; });
  document.addEventListener("htmx:afterSettle", (event) => {
    if (event.target.id !== "strip") return;
    if (before) carry(before);
    before = undefined;
    begin();
  });
  document.addEventListener("countersign:nudged", ({ detail }) => {
    const mine = Number(document.getElementById("undo")?.dataset.decided);
    if (mine && (detail.refresh || detail.reviews.includes(mine))) soon("nudge:strip", 100);
  });
  document.addEventListener("DOMContentLoaded", begin);

  return { put, tell, heal, text: () => place()?.textContent ?? "" };
})();
