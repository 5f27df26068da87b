// Keys, the sheet that lists them, and the palette. A key presses the button that says data-act="…",
// so a key can do nothing that a pointer cannot.
"use strict";

(() => {
  const body = document.body;
  const sheet = document.getElementById("keys");
  const palette = document.getElementById("palette");
  const MAC = /Mac|iPhone|iPad/.test(navigator.platform);
  const WRITES = "textarea, select, [contenteditable]:not([contenteditable=false]), input:not([type=radio], [type=checkbox], [type=button], [type=submit], [type=reset], [type=range], [type=color])";
  const on = body.dataset.keys !== "off";

  // One key for what a claim can come to next.
  const CLAIMS = ["claim", "ask", "release"];

  // A person's keys, both ways, as the help sheet lists them.
  const actionOf = new Map();
  const keyOf = new Map();
  for (const { dataset } of sheet.querySelectorAll("[data-key]:not([data-key=''])")) {
    actionOf.set(dataset.key, dataset.action);
    keyOf.set(dataset.action, dataset.key);
  }

  // When keys are dead

  // A case has come onto the screen: until every key was let go and a frame was painted, none counts.
  let unseen = true;
  let turn = 0;
  const down = new Set();
  function settle() {
    if (!unseen || down.size) return;
    const mine = ++turn;
    requestAnimationFrame(() => requestAnimationFrame(() => {
      if (mine === turn && !down.size) unseen = false;
    }));
  }
  document.addEventListener("countersign:shown", () => { unseen = true; turn += 1; settle(); });

  const MODIFIERS = new Set(["Shift", "Control", "Alt", "AltGraph", "Meta", "CapsLock", "Fn"]);
  function pressed(event) {
    if (MODIFIERS.has(event.key)) return;
    if (!event.repeat && down.has(event.code)) down.clear(); // its letting go was never told
    down.add(event.code);
  }
  function released(event) {
    // macOS tells nothing of keys that are let go while Command is down.
    if (event.key === "Meta") down.clear();
    down.delete(event.code);
    settle();
  }
  const allReleased = () => { down.clear(); settle(); };

  // The page is being left, by a link or a form that nobody's script has taken over.
  let leaving = false;
  const sameFrame = (element) => !element.target || element.target === "_self";
  document.addEventListener("submit", (event) => {
    if (!event.defaultPrevented && event.target.method !== "dialog" && sameFrame(event.target)) leaving = true;
  });
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[href]");
    const plain = event.button === 0 && !(event.metaKey || event.ctrlKey || event.shiftKey || event.altKey);
    if (!link || event.defaultPrevented || !plain || link.hasAttribute("download") || !sameFrame(link)) return;
    if (!link.protocol.startsWith("http")) return;
    leaving = link.href.split("#")[0] !== location.href.split("#")[0] || !link.hash;
  });
  window.addEventListener("pageshow", (event) => {
    leaving = false;
    if (!event.persisted) return;
    unseen = true;
    settle();
  });

  // The main pane is on its way.
  const requests = new Set();
  document.addEventListener("htmx:beforeSend", ({ detail }) => {
    if (detail.target.contains(document.getElementById("main"))) requests.add(detail.xhr);
  });
  document.addEventListener("htmx:afterRequest", ({ detail }) => requests.delete(detail.xhr));

  const busy = () => unseen || leaving || requests.size > 0 || "busy" in body.dataset;
  const covered = () => document.querySelector("dialog[open], [popover]:popover-open");
  const dead = () => busy() || Boolean(covered());

  // Finding and pressing

  const isLive = (element) => (element.checkVisibility({ visibilityProperty: true }) || element.closest("#rest")) && !element.disabled
    && element.getAttribute("aria-disabled") !== "true" && !element.closest("[inert]");
  const find = (name) => [...document.querySelectorAll(`[data-act~="${name}"]`)].find(isLive);
  const fields = (root, selector = WRITES) =>
    [...(root?.querySelectorAll(selector) ?? [])].find((each) => isLive(each) && each.type !== "hidden");

  function write(field) {
    field.focus();
    const end = field.value?.length;
    // Some kinds of input have no cursor to be placed.
    try { field.setSelectionRange?.(end, end); } catch { field.select?.(); }
  }

  function press(element) {
    if (!element) return false;
    if (element.matches(WRITES)) write(element);
    else if (element.matches("a[href], button, input, label, summary")) element.click();
    else show(element);
    return true;
  }

  function show(section) {
    const fold = section.closest("details");
    if (fold) fold.open = true;
    section.tabIndex = -1;
    section.scrollIntoView({ block: "start" });
    section.focus({ preventScroll: true });
  }

  // A question is decided call by call.

  const calls = () => [...document.querySelectorAll("#decide .call")];
  const radio = (call, action) => call.querySelector(`.choose [value="${action}"]`);
  const isOpen = (call) => !call.querySelector(".choose :checked");
  const callHere = () => calls().find((call) => call.contains(document.activeElement));
  function toCall(call) {
    const choice = call?.querySelector(".choose :checked") ?? call?.querySelector(".choose input");
    call?.scrollIntoView({ block: "nearest" });
    choice?.focus({ preventScroll: true });
    return Boolean(choice);
  }

  // Approves the call that has the focus; else all of them, if none is decided; else sends.
  function approve() {
    const open = calls().filter(isOpen);
    const here = callHere();
    if (here && open.includes(here)) {
      radio(here, "approve")?.click();
      return toCall(calls().find(isOpen)) || find("approve")?.focus();
    }
    if (open.length && open.length === calls().length && open.every((call) => radio(call, "approve"))) {
      for (const call of open) radio(call, "approve").click();
    }
    return send();
  }

  // What is not decided yet is gone to instead.
  function send() {
    const open = calls().find(isOpen);
    return open ? toCall(open) : press(find("approve"));
  }

  const saysIn = (action) => () => {
    const call = callHere() ?? calls().find(isOpen) ?? calls()[0];
    if (!call) return press(find(action));
    radio(call, action)?.click();
    const field = fields(call.querySelector(`.then-${action}`));
    return field ? press(field) : false;
  };

  function edit() {
    if (calls().length) return saysIn("edit")();
    return press(find("edit") ?? fields(document.getElementById("decide"), '[name^="edit."], .typed :is(input, textarea, select)'));
  }

  function beside() {
    const other = document.querySelector('[name="beside"]:not(:checked)');
    other?.click();
    return Boolean(other);
  }

  // The list

  const rows = () => [...document.querySelectorAll("#q-rows a.row")];
  function step(by) {
    const every = rows();
    const focused = every.findIndex((row) => row.parentElement.contains(document.activeElement));
    const current = every.findIndex((row) => row.hasAttribute("aria-current"));
    const opens = Boolean(document.getElementById("review"));
    const at = opens ? current : focused;
    const row = every[at < 0 ? 0 : at + by];
    if (!row) say(palette.dataset.end);
    else if (opens) row.click();
    else row.focus();
    row?.scrollIntoView({ block: "nearest" });
  }

  function select() {
    const row = rows().find((each) => each.parentElement.contains(document.activeElement))
      ?? rows().find((each) => each.hasAttribute("aria-current"));
    return press(row?.parentElement.querySelector("input[type=checkbox]"));
  }

  // On a phone the queue is a pane of its own.
  function search() {
    if (press(find("search"))) return;
    if (document.querySelector("#queue #q")) location.hash = "queue";
    press(find("search"));
  }

  // Theme: at once here, and on the server for the next page.

  const themes = document.getElementById("theme-form");
  function setTheme(theme) {
    const root = document.documentElement;
    if (theme) root.dataset.theme = theme;
    else delete root.dataset.theme;
    for (const each of themes.elements.theme) each.setAttribute("aria-pressed", String(each.value === theme));
    const fields = new FormData(themes);
    fields.set("theme", theme);
    fetch(themes.action, { method: "POST", body: fields, redirect: "manual" })
      .then((answer) => { if (answer.status >= 400) throw new Error(answer.status); })
      .catch(() => say(themes.dataset.unkept));
  }
  function otherTheme() {
    const now = document.documentElement.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
    setTheme(now === "dark" ? "light" : "dark");
  }
  themes.addEventListener("submit", (event) => {
    event.preventDefault();
    setTheme(event.submitter.value);
  });

  // What is more than pressing a button, and whether it can be done here.

  const claim = () => CLAIMS.map(find).find(Boolean);
  const own = {
    claim: () => press(claim()), approve, edit, beside, select, search, send,
    reject: saysIn("reject"), respond: saysIn("respond"),
    down: () => step(1), up: () => step(-1),
    theme: otherTheme, help: () => sheet.showModal(), palette: openPalette,
    call: () => toCall(calls()[0]),
    undo: () => (find("undo") ? press(find("undo")) : strip.tooLate()),
  };
  const could = {
    edit: () => find("edit") || document.querySelector("#decide .call, #decide .typed"),
    reject: () => find("reject") || document.querySelector("#decide .then-reject"),
    respond: () => find("respond") || document.querySelector("#decide .then-respond"),
    send: () => false, palette: () => false, call: () => calls().length > 1,
    claim, down: () => rows().length, up: () => rows().length,
    select: () => rows().some((row) => row.parentElement.querySelector("input[type=checkbox]")),
    search: () => document.querySelector('[data-act~="search"]'),
    beside: () => document.querySelector('[name="beside"]'),
    theme: () => true, help: () => true,
  };
  const can = (name) => (could[name] ?? (() => find(name)))();
  const run = (name) => (own[name] ? own[name]() : press(find(name)));

  // Keys

  // The character; on a keyboard of another alphabet, the Latin letter of that key.
  function letter(event) {
    if (actionOf.has(event.key.toLowerCase())) return event.key.toLowerCase();
    const foreign = /^\p{L}$/u.test(event.key) && !/\p{Script=Latin}/u.test(event.key);
    const place = foreign && !event.getModifierState("AltGraph") && /^Key([A-Z])$/.exec(event.code);
    return (place ? place[1] : event.key).toLowerCase();
  }

  const isLetter = (key) => key.toLowerCase() !== key.toUpperCase();
  function single(event) {
    const other = event.getModifierState("AltGraph");
    if (event.metaKey || ((event.ctrlKey || event.altKey) && !other)) return undefined;
    if (isLetter(event.key) && event.shiftKey && !event.getModifierState("CapsLock")) return undefined;
    const key = letter(event);
    const nth = /^[1-9]$/.test(key) && calls()[key - 1];
    if (nth) return () => toCall(nth);
    const name = actionOf.get(key);
    return name && (() => run(name));
  }

  const mod = (event) => (MAC ? event.metaKey && !event.ctrlKey : event.ctrlKey && !event.metaKey) && !event.altKey && !event.shiftKey;

  // Ctrl or Cmd with Enter in a text: the main button of what it is written in.
  function confirm(field) {
    const around = field.closest("dialog, [popover], .saying");
    if (around) return press(fields(around, '[data-act~="confirm"]') ?? fields(around, "button.pri"));
    if (field.form?.id === "decide") return send();
    return field.form?.method === "post" ? field.form.requestSubmit() : false;
  }

  // Returns what the event asks for, if that may be done now.
  function asked(event, field) {
    const key = letter(event);
    if (mod(event)) {
      if (key === "enter" && field) return busy() ? () => {} : () => confirm(field);
      if (key === "k" && !covered()) return leaving ? () => {} : openPalette; // it looks again before it runs anything
      if (key === "z" && !field && document.querySelector("#undo, .sending")) return dead() ? undefined : own.undo;
      return undefined;
    }
    if (key === "escape" && field && !covered()) return leave(field);
    if (field || !on || dead()) return undefined;
    return single(event);
  }

  // The first Escape empties a search, as everywhere; the next leaves it.
  function leave(field) {
    return field.type === "search" && field.value ? undefined : () => field.blur();
  }

  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.isComposing || event.keyCode === 229 || event.key === "Dead") return;
    const act = asked(event, event.target.closest?.(WRITES));
    if (!act) return;
    event.preventDefault();
    if (!event.repeat) act();
  });

  // A held Enter or space presses no button twice, and none that came under it.
  function heldDown(event) {
    if (event.key !== "Enter" && event.key !== " ") return;
    const pressable = event.target.closest?.("button, a[href], input:not([type=radio], [type=checkbox]), summary");
    const isText = event.key === " " && event.target.closest?.(WRITES);
    if (pressable && !isText && (event.repeat || unseen)) event.preventDefault();
  }
  document.addEventListener("keydown", (event) => {
    // Before it is counted: the press that is the first since the case was shown is looked at as such.
    heldDown(event);
    pressed(event);
    if (event.key === "Escape") leaving = false; // it stops what is being loaded
  }, true);
  document.addEventListener("keyup", released, true);
  window.addEventListener("blur", allReleased);
  document.addEventListener("visibilitychange", allReleased);

  // Hints on the buttons

  const MOD = MAC ? "⌘" : "Ctrl";
  for (const cap of document.querySelectorAll("kbd[data-mod]")) cap.textContent = MOD;

  const caps = (key) => (key.toUpperCase().length === 1 ? key.toUpperCase() : key);
  function hint(element) {
    const said = element.dataset.act.split(" ")[0];
    const name = CLAIMS.includes(said) ? "claim" : said;
    const combined = name === "palette" ? `${MOD} K` : "";
    const key = combined || (on && keyOf.get(name));
    const place = element.matches("textarea, input") ? element.labels?.[0] : element.closest("a, button, summary");
    const old = place?.querySelector("kbd");
    if (!key || !place || place.classList.contains("link")) {
      old?.remove();
      return;
    }
    element.setAttribute("aria-keyshortcuts", combined ? (MAC ? "Meta+K" : "Control+K") : caps(key));
    const cap = old ?? place.appendChild(document.createElement("kbd"));
    cap.ariaHidden = "true";
    if (cap.textContent !== (combined || caps(key))) cap.textContent = combined || caps(key);
  }
  const hints = (root) => {
    if (root.matches?.("[data-act]")) hint(root);
    for (const each of root.querySelectorAll?.("[data-act]") ?? []) hint(each);
  };
  hints(body);
  new MutationObserver((changes) => {
    for (const change of changes) for (const node of change.addedNodes) hints(node);
  }).observe(body, { childList: true, subtree: true });

  // The palette

  const ask = document.getElementById("palette-ask");
  const list = document.getElementById("palette-list");
  let about; // the case that it was opened over
  let commands = [];
  let found = [];
  let at = 0;

  function everything() {
    const actions = [...sheet.querySelectorAll("[data-action]")].filter((row) => can(row.dataset.action)).map((row) => ({
      label: row.querySelector("dt").textContent,
      caps: on || !row.dataset.key ? row.querySelector("dd").cloneNode(true) : undefined,
      run: () => run(row.dataset.action),
    }));
    const links = [...document.querySelectorAll(".nav a, .views a, [data-run]")].map((element) => ({
      label: element.dataset.run || words(element),
      run: () => element.click(),
    }));
    const seen = new Set();
    return [...actions, ...links].filter(({ label }) => label && !seen.has(label) && seen.add(label));
  }

  // Without counts and key caps.
  function words(element) {
    const copy = element.cloneNode(true);
    for (const each of copy.querySelectorAll(".n, kbd, .sr, svg")) each.remove();
    return copy.textContent.replace(/\s+/g, " ").trim();
  }

  function openPalette() {
    commands = everything();
    about = body.dataset.review;
    ask.value = "";
    palette.showModal();
    filter();
  }

  function filter() {
    const text = ask.value.trim();
    const parts = text.toLowerCase().split(/\s+/);
    found = commands.filter(({ label }) => parts.every((part) => label.toLowerCase().includes(part)));
    if (text) found.sort((one, other) => rank(one, text) - rank(other, text));
    if (text) found.push(goes(palette.dataset.search, ask.dataset.queue, "q", text), goes(palette.dataset.open, ask.dataset.find, "id", text));
    list.replaceChildren(...found.map(option));
    choose(0);
    palette.querySelector("[role=status]").textContent = palette.dataset.found.replace("%s", found.length);
  }

  // What begins with the words comes before what has a word that does.
  const rank = ({ label }, text) => {
    const place = ` ${label.toLowerCase()}`.indexOf(` ${text.toLowerCase()}`);
    return place < 0 ? 2 : Math.sign(place);
  };

  const goes = (label, address, name, text) => ({
    label: label.replace("%s", () => text),
    run: () => { leaving = true; location.assign(`${address}?${new URLSearchParams({ [name]: text })}`); },
  });

  function option(command, number) {
    const item = document.createElement("li");
    item.id = `palette-${number}`;
    item.role = "option";
    item.append(command.label);
    if (command.caps) {
      const caps = document.createElement("span");
      caps.ariaHidden = "true";
      caps.append(...command.caps.querySelectorAll("kbd"));
      item.append(caps);
    }
    item.addEventListener("pointermove", () => choose(number));
    item.addEventListener("click", () => runFound(command));
    return item;
  }

  function choose(number) {
    at = (number + found.length) % found.length || 0;
    [...list.children].forEach((item, place) => { item.ariaSelected = String(place === at); });
    const item = list.children[at];
    if (item) ask.setAttribute("aria-activedescendant", item.id);
    else ask.removeAttribute("aria-activedescendant");
    item?.scrollIntoView({ block: "nearest" });
  }

  function runFound(command) {
    palette.close(); // which gives the focus back to where it was
    if (!busy() && body.dataset.review === about) command?.run(); // else another case came under it
  }

  ask.addEventListener("input", filter);
  ask.addEventListener("keydown", (event) => {
    if (event.isComposing) return;
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, PageDown: Math.min(at + 8, found.length - 1), PageUp: Math.max(at - 8, 0) }[event.key];
    if (to !== undefined) { event.preventDefault(); choose(to); }
    if (event.key !== "Enter") return;
    event.preventDefault();
    if (!event.repeat) runFound(found[at]);
  });

  // Both dialogs close by a click beside them, and are opened by their buttons.
  document.addEventListener("click", (event) => {
    if (event.target === palette || event.target === sheet) event.target.close();
    const opener = event.target.closest('[data-act="palette"], [data-act="help"]');
    if (opener) run(opener.dataset.act);
  });

  // On the profile page a key is changed by pressing it, and the browser asked for what it has to allow.
  document.addEventListener("focusin", (event) => {
    if (event.target.closest(".key-field")) event.target.select?.();
  });
  const notify = document.getElementById("id_notify");
  async function allowed() {
    const answer = !notify.checked || ("Notification" in window && await Notification.requestPermission());
    document.getElementById("not-allowed").hidden = answer === true || answer === "granted";
  }
  notify?.addEventListener("change", allowed);
})();
