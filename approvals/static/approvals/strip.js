// The quiet strip under the queue: the last decision while it can be undone, and what a person is told.
"use strict";

const strip = (() => {
  const place = () => document.getElementById("strip");

  // A page's own in place of the one that is here, but for what is still to be done of that one.
  function put(page) {
    const old = place();
    const node = page.getElementById("strip");
    if (!old || !node) return;
    if (isHeld(old)) { renew(); return; } // which waits until it is let go
    old.replaceWith(document.adoptNode(node));
    carry(old);
    htmx.process(node);
    begin();
  }

  // What a person is told

  // What they have to do something about has a button, a line of its own, and stays until it is done.
  const lines = (from) => [...from.querySelectorAll(".told")];
  const isStanding = (line) => Boolean(line.querySelector("button"));
  const carry = (old) => place().prepend(...lines(old).filter(isStanding));
  const heal = () => place()?.querySelector(".told[data-passing]")?.remove();

  // `act`: the button to go with it. `passing`: until something is answered again.
  function tell(text, act, passing = false) {
    if (!place()) return;
    say(text);
    const there = lines(place());
    if (passing && there.some(isStanding)) return;
    let line = there.find((each) => (act ? each.firstChild.textContent === text : !isStanding(each)));
    if (!line) {
      line = document.createElement("p");
      line.className = "told";
      place().prepend(line);
    }
    line.toggleAttribute("data-passing", passing);
    line.replaceChildren(text);
    if (act) line.append(" ", act);
  }

  // What is not answered yet, newest last. Until it is, Undo is about the newest of these, and about
  // none before it.
  const sent = [];
  function sending(title) {
    const one = { title, isTakenBack: false };
    sent.push(one);
    begin();
    return () => {
      sent.splice(sent.indexOf(one), 1);
      document.querySelector("#strip .sending")?.remove();
      begin();
      return one.isTakenBack;
    };
  }

  function showSending(one) {
    if (!place()) return;
    const words = document.getElementById("flow-words").dataset;
    const box = document.createElement("div");
    box.className = "undo sending";
    const [text, title, button] = ["p", "b", "button"].map((name) => document.createElement(name));
    title.className = "cut";
    title.textContent = one.title;
    text.append(title, one.isTakenBack ? words.back : words.sending);
    box.append(text);
    if (!one.isTakenBack) {
      button.type = "button";
      button.className = "btn";
      button.dataset.act = "undo";
      button.textContent = words.undo;
      button.addEventListener("click", () => { one.isTakenBack = true; say(words.back); begin(); });
      box.append(button);
    }
    const old = place().querySelector("#undo, .sending");
    if (old) old.replaceWith(box);
    else place().querySelector(".progress")?.before(box);
  }

  // Undo was asked for, and there is none any more.
  function tooLate() {
    if (document.getElementById("undo")) tell(document.getElementById("flow-words").dataset.late, undefined, true);
  }

  // How long it can still be undone

  let ticking;
  let later;
  let watched;
  function begin() {
    clearTimeout(ticking);
    clearTimeout(later);
    tellEnds();
    if (sent.length) { showSending(sent.at(-1)); return; }
    const undo = document.getElementById("undo");
    if (!undo) return;
    const total = Number(undo.dataset.left);
    if (total > 0) countDown(undo, total, performance.now() + total * 1000);
    else if (undo.dataset.state === "finished" || undo.dataset.state === "paused") later = setTimeout(renew, 12_500);
    else if (watched !== undo.dataset.decided) { // its end may have been told before it was here
      watched = undo.dataset.decided;
      later = setTimeout(renew, 3000);
    }
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
    const own = (place()?.dataset.own ?? "").split(",").filter(Boolean).map(Number);
    if (own.length && (detail.refresh || own.some((id) => detail.reviews.includes(id)))) soon("nudge:strip", 100);
  });

  // An end that is bad is read out once, and stays until its case has been looked at.
  const noted = (name) => (sessionStorage.getItem(name) ?? "").split(" ");
  const note = (name, id) => sessionStorage.setItem(name, [...noted(name), id].slice(-50).join(" "));
  function tellEnds() {
    for (const end of place()?.querySelectorAll(".undo.bad") ?? []) {
      const { end: which } = end.dataset;
      if (noted("looked").includes(which)) { end.remove(); continue; }
      if (noted("heard").includes(which) || end.hasAttribute("role")) continue;
      say(end.textContent);
      note("heard", which);
    }
  }
  document.addEventListener("countersign:shown", () => {
    const here = `.undo.bad[data-decided="${document.body.dataset.review}"]`;
    for (const end of place()?.querySelectorAll(here) ?? []) note("looked", end.dataset.end);
    tellEnds();
  });
  document.addEventListener("DOMContentLoaded", begin);

  return { put, tell, heal, renew, sending, tooLate, text: () => place()?.textContent ?? "" };
})();
