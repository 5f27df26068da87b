// Who else is here: claims, presence, notes.
"use strict";
{
  const EVERY = 15_000;
  const WRITING = 5_000; // without a key, an editor is a reader again
  const AWAY = 5 * 60_000; // as long as a claim goes on without a key
  // Of this page, not of the tab: a tab that is copied would bring its id along.
  const tab = uuid();
  let at = null; // the case on the screen: where to tell of it, and what was told
  let active = Date.now();
  let quiet;

  function uuid() { // crypto.randomUUID is for secure origins alone
    const hex = [...crypto.getRandomValues(new Uint8Array(16))].map((n) => n.toString(16).padStart(2, "0")).join("");
    return hex.replace(/(.{8})(.{4})(.{4})(.{4})(.{12})/, "$1-$2-$3-$4-$5");
  }

  function told(more) {
    const form = new FormData();
    const said = { csrfmiddlewaretoken: csrfToken(), person: document.body.dataset.user, tab, ...more };
    for (const [name, value] of Object.entries(said)) if (value) form.set(name, value);
    return form;
  }

  function here() {
    if (!at) return;
    const idle = String(Math.floor((Date.now() - active) / 1000));
    const looks = document.hidden ? "" : "1";
    const body = told({ doing: at.doing, active: idle, looks, ahead: document.body.dataset.ahead });
    fetch(at.here, { method: "POST", body, redirect: "manual" }).catch(() => {});
  }

  function does(doing) {
    if (!at || at.doing === doing) return;
    at.doing = doing;
    here();
  }

  function leave(more) {
    if (at) navigator.sendBeacon(at.leave, told(more));
  }

  function worked() {
    const away = Date.now() - active > 30_000;
    active = Date.now();
    if (!away) return;
    if (at) at.away = false;
    here();
  }

  for (const name of ["keydown", "pointerdown", "wheel", "touchmove"]) {
    document.addEventListener(name, worked, { capture: true, passive: true });
  }
  document.addEventListener("input", (event) => {
    if (!event.target.closest("#decide")) return;
    does("editing");
    clearTimeout(quiet);
    quiet = setTimeout(() => does("reading"), WRITING);
  });
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) does("reading");
  });
  // Whoever has gone is not there, whatever is on their screen; the first key brings them back.
  setInterval(() => {
    if (Date.now() - active < AWAY) here();
    else if (at && !at.away) { at.away = true; leave(); }
  }, EVERY);
  addEventListener("pagehide", () => leave({ ahead: document.body.dataset.ahead }));
  addEventListener("pageshow", (event) => { if (event.persisted) here(); });

  document.addEventListener("countersign:shown", (event) => {
    const people = event.detail.querySelector("#people");
    if (!people) return;
    clearTimeout(quiet);
    active = Date.now();
    at = { here: people.dataset.here, leave: people.dataset.leave, doing: "reading", ...seen() };
    keepNote();
    afterPaint(here);
  });
  document.addEventListener("countersign:leaving", () => {
    const { leave: address } = at ?? {};
    if (address) afterPaint(() => navigator.sendBeacon(address, told()));
    at = null;
  });

  document.addEventListener("countersign:nudged", (event) => {
    const { presence = [], refresh } = event.detail;
    if (refresh || presence.includes(Number(document.body.dataset.review))) soon("nudge:presence", 80);
    for (const id of presence) if (document.getElementById(`marks-${id}`)) stale.add(id);
    if (stale.size) marking ??= setTimeout(mark, 300);
  });

  // The same in the rows of the queue, without asking for the queue.
  const stale = new Set();
  let marking;

  async function mark() {
    const ids = [...stale].join(",");
    const address = document.querySelector("[data-marks]")?.dataset.marks;
    stale.clear();
    const made = document.createElement("template");
    made.innerHTML = (address && await partOf(`${address}?ids=${ids}`)) ?? "";
    for (const each of [...made.content.children]) document.getElementById(each.id)?.replaceWith(each);
    // One at a time: an older answer would undo a newer one.
    marking = stale.size ? setTimeout(mark, 300) : undefined;
  }

  // What changed of it is read out, once.
  function seen() {
    return {
      claim: document.getElementById("claim")?.dataset.said ?? "",
      editing: [...document.querySelectorAll("#people .edits")].map((each) => each.textContent),
    };
  }

  document.addEventListener("htmx:afterSettle", () => {
    if (!at) return;
    const now = seen();
    const begun = now.editing.filter((each) => !at.editing.includes(each));
    if (begun.length) say(begun.join(", "));
    if (now.claim && now.claim !== at.claim) say(now.claim);
    Object.assign(at, now);
  });

  // Who stood in what a refresh replaced stands in its like.
  const PLACES = { claim: "turn", notes: "note" };
  let stood = "";
  for (const name of ["htmx:beforeSwap", "htmx:oobBeforeSwap"]) {
    document.addEventListener(name, ({ detail: { target } }) => {
      stood = target.id in PLACES && target.contains(document.activeElement) ? PLACES[target.id] : "";
    });
  }
  for (const name of ["htmx:afterSwap", "htmx:oobAfterSwap"]) {
    document.addEventListener(name, () => {
      if (stood && document.activeElement === document.body) document.getElementById(stood)?.focus();
      stood = "";
    });
  }

  // Notes: what is typed outlives a reload and a sign-out, and @ offers whom one can name.
  const place = (form) => `note:${document.body.dataset.user}:${form.dataset.people}`;

  function keep(form, text) {
    sessionStorage.removeItem(place(form));
    try { if (text) sessionStorage.setItem(place(form), text); } catch { /* full: it stays in its field */ }
  }

  function keepNote() {
    const form = document.getElementById("note-new");
    const typed = form && sessionStorage.getItem(place(form));
    if (typed) form.note.value = typed;
  }

  // What was typed while a note was on its way is the beginning of another. htmx has by then put
  // the form there anew; or the case has left the screen.
  document.addEventListener("htmx:beforeRequest", ({ detail: { elt, xhr, requestConfig } }) => {
    if (elt.id !== "note-new") return;
    xhr.addEventListener("load", () => {
      if (xhr.status === 200 && !xhr.getResponseHeader("HX-Redirect")) {
        const [typed, sent] = [elt.note.value, requestConfig.parameters.note];
        keep(elt, typed.startsWith(sent) ? typed.slice(sent.length) : typed);
      }
      keepNote();
    });
  });
  document.addEventListener("input", (event) => {
    if (event.target.id !== "note") return;
    keep(event.target.form, event.target.value);
    offer(event.target);
  });

  let asked = 0; // an answer to an older question is too late
  let list = null;

  function begun(note) {
    if (note.selectionStart !== note.selectionEnd) return null;
    return /(?:^|[^\w@])@([\w.+-]{0,60})$/.exec(note.value.slice(0, note.selectionStart));
  }

  async function offer(note) {
    const match = begun(note);
    const mine = ++asked;
    if (!match) return close();
    const json = await partOf(`${note.form.dataset.people}?q=${encodeURIComponent(match[1])}`);
    if (mine !== asked || json === undefined || !note.isConnected) return undefined;
    return begun(note) ? open(note, JSON.parse(json).people) : close();
  }

  function open(note, people) {
    close();
    if (!people.length) return;
    list = document.createElement("ul");
    Object.assign(list, { id: "named", className: "named sheet" });
    list.setAttribute("role", "listbox");
    list.setAttribute("aria-label", note.form.dataset.who);
    people.forEach((person, index) => {
      const item = document.createElement("li");
      item.id = `named-${index}`;
      item.setAttribute("role", "option");
      item.dataset.username = person.username;
      const username = document.createElement("span");
      username.className = "quiet";
      username.textContent = `@${person.username}`;
      item.append(`${person.name} `, username);
      item.addEventListener("pointerdown", (event) => { event.preventDefault(); put(note, item); });
      list.append(item);
    });
    note.after(list);
    note.setAttribute("aria-controls", "named");
    choose(note, 0);
  }

  function choose(note, index) {
    const items = [...list.children];
    const chosen = items[(index + items.length) % items.length];
    for (const each of items) each.setAttribute("aria-selected", String(each === chosen));
    note.setAttribute("aria-activedescendant", chosen.id);
    chosen.scrollIntoView({ block: "nearest" });
  }

  function close() {
    asked += 1;
    if (!list) return;
    const note = document.getElementById("note");
    for (const name of ["aria-controls", "aria-activedescendant"]) note?.removeAttribute(name);
    list.remove();
    list = null;
  }

  function put(note, item) {
    const match = begun(note);
    if (match) note.setRangeText(`${item.dataset.username} `, note.selectionStart - match[1].length, note.selectionStart, "end");
    close();
    note.dispatchEvent(new Event("input", { bubbles: true }));
  }

  document.addEventListener("keydown", (event) => {
    const note = event.target;
    if (note.id !== "note") return;
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      event.stopPropagation();
      note.form.requestSubmit();
      return;
    }
    if (!list || event.isComposing) return;
    const chosen = list.querySelector('[aria-selected="true"]');
    const index = [...list.children].indexOf(chosen);
    const acts = {
      ArrowDown: () => choose(note, index + 1),
      ArrowUp: () => choose(note, index - 1),
      Enter: () => put(note, chosen),
      Tab: () => put(note, chosen),
      Escape: close,
    };
    if (!(event.key in acts)) return;
    event.preventDefault();
    event.stopPropagation();
    acts[event.key]();
  }, true);
  document.addEventListener("focusout", (event) => { if (event.target.id === "note") close(); });
}
