// What is typed is kept on the server within a second; saved replies, hints, earlier versions.
"use strict";

(() => {
  const KEPT = /^(edit|text|call|answer)\b/;
  const WAIT = 400; // ms without a key before a save
  const MOST = 800; // ms that typing on can put it off
  const BODY = 60_000; // bytes that a closing page may still send
  const LATE = 120_000; // ms that an answer may be on its way while the page goes on

  const words = () => document.getElementById("draft-words").dataset;
  const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);

  function newId() {
    const [...bytes] = crypto.getRandomValues(new Uint8Array(16));
    return bytes.map((each) => each.toString(16).padStart(2, "0")).join("");
  }

  // A reload keeps the tab's name; a duplicate of the tab, which copies its storage, must not have
  // it: so it lies there only from the page's end to the next one's beginning.
  const tab = sessionStorage.getItem("tab") ?? newId();
  const put = () => sessionStorage.setItem("tab", tab);
  const take = () => sessionStorage.removeItem("tab");
  take();
  window.addEventListener("pagehide", put);
  window.addEventListener("pageshow", take);

  // What the server has not confirmed lies in this tab too, to be sent when it answers again.

  const kept = (name) => JSON.parse(sessionStorage.getItem(name) || "null");
  const forget = (name, version) => {
    if ((kept(name)?.version ?? Infinity) <= version) sessionStorage.removeItem(name);
  };

  function post(record, options, more) {
    const body = new URLSearchParams({ ...record.fields, ...more, owner: record.owner, digest: record.digest, tab,
      base: record.base, version: record.version, csrfmiddlewaretoken: csrfToken() });
    return fetch(record.address, { method: "POST", body, redirect: "manual", signal: patience(), ...options });
  }

  // What the server has of this tab's cases. One may come as it was before its last save: fetched
  // ahead, or a reload that the server answered first and that came while the page still saved.
  const confirmed = new Map(Object.entries(kept("confirmed") ?? {}));
  const confirm = (name, { fields, version: sent }, { version }) => {
    if ((confirmed.get(name)?.sent ?? 0) <= sent) confirmed.set(name, { fields, sent, version, at: Date.now() });
  };
  sessionStorage.removeItem("confirmed");
  window.addEventListener("pagehide", () => {
    const late = [...confirmed].filter(([, { at }]) => Date.now() - at < LATE);
    try { sessionStorage.setItem("confirmed", JSON.stringify(Object.fromEntries(late))); } catch { /* full: an old page may come */ }
  });
  // What was answered, whole or not at all.
  async function ask(...what) {
    try {
      const answer = await post(...what);
      const told = answer.headers.get("Content-Type")?.startsWith("application/json") ? await answer.json() : undefined;
      return { answer, told };
    } catch { return {}; }
  }

  // What was typed on cases that are not on the screen any more.
  async function sendLeft() {
    const mine = `draft:${document.body.dataset.user}-`;
    for (const name of Object.keys(sessionStorage)) {
      if (!name.startsWith(mine) || name === editor?.name) continue;
      const record = kept(name);
      const { answer, told } = await ask(record);
      if (told && answer.ok) confirm(name, record, told);
      if (told && (answer.ok || answer.status === 409)) forget(name, record.version);
    }
  }

  // What two made of one text, the other of them by typing in one place: its words stand where they
  // were typed, if that place is still there, and else at the end. With the place that they end at.
  function joined(before, text, other) {
    const isPair = (place) => /^[\ud800-\udbff]$/.test(other.charAt(place - 1)); // nothing is cut in two
    const most = Math.min(before.length, other.length);
    let from = 0;
    while (from < most && before[from] === other[from]) from += 1;
    if (isPair(from)) from -= 1;
    let after = 0;
    while (after < most - from && before.at(-1 - after) === other.at(-1 - after)) after += 1;
    if (isPair(other.length - after)) after -= 1;
    const words = other.slice(from, other.length - after);
    if (text === other || text === before) return [other, from + words.length];
    const place = text.startsWith(before.slice(0, from)) ? from
      : text.endsWith(before.slice(before.length - after)) ? text.length - after : text.length;
    return [text.slice(0, place) + words + text.slice(place), place + words.length];
  }

  let editor; // of the case on the screen

  class Editor {
    constructor(form) {
      this.form = form;
      this.name = `draft:${form.dataset.draft}`;
      this.reply = form.querySelector("#reply");
      this.original = form.querySelector("#original");
      this.note = form.querySelector("#kept");
      this.both = form.querySelector("#draft-both");
      this.base = this.version = Number(form.dataset.version);
      this.dirty = this.failing = this.stopped = this.saving = false;
      this.tries = 0;
      // Typed while the page was coming: before this script, and into a text that may not be the last.
      const texts = this.inputs().filter((each) => each.matches("textarea, input:not([type=radio], [type=checkbox])"));
      const early = texts.filter((each) => each.value !== each.defaultValue);
      this.first = { ...this.read(), ...Object.fromEntries(texts.map((each) => [each.name, each.defaultValue])) };
      form.autocomplete = "off"; // else a reload brings texts of the browser's own
      this.restore(early);
      this.mark();
      form.addEventListener("input", (event) => { if (KEPT.test(event.target.name)) this.typed(); });
      form.addEventListener("submit", () => { this.submitted = true; });
      this.both.addEventListener("click", (event) => {
        const button = event.target.closest("[data-use]");
        if (button) this.choose(button.dataset.use);
      });
    }

    inputs() { return [...this.form.elements].filter((each) => KEPT.test(each.name)); }
    read() { return Object.fromEntries([...new FormData(this.form)].filter(([name]) => KEPT.test(name))); }

    // Whether Approve would send something else than the agent's draft.
    mark() {
      const changed = "edited" in this.form.dataset || this.inputs().some((each) =>
        each.name.startsWith("edit.") && each !== this.reply && each.value !== this.first[each.name]);
      document.body.classList.toggle("edited", changed || Boolean(this.reply && this.reply.value !== this.original.value));
    }

    fill(fields) {
      for (const input of this.inputs()) {
        if (input.type === "radio") input.checked = input.value === fields[input.name];
        else input.value = fields[input.name] ?? "";
      }
      if (this.reply) htmx.trigger(this.reply, "redline");
      this.mark();
    }

    say(text) { if (this.note) this.note.textContent = text; }

    record(version) {
      const { base, form } = this;
      return { fields: this.read(), base, version, address: form.dataset.save, owner: form.dataset.owner,
        digest: form.elements.digest.value };
    }

    keepHere(version = this.version) {
      const record = this.record(version);
      try { sessionStorage.setItem(this.name, JSON.stringify(record)); } catch { /* full: the server has it soon */ }
      return record;
    }

    // What this tab had not brought to the server when its page went.
    restore(early) {
      const record = kept(this.name);
      const arrived = record && this.form.dataset.tab.replaceAll("-", "") === tab && this.base >= record.version;
      if (arrived) forget(this.name, this.base);
      const unsaved = record && !arrived;
      const last = unsaved ? record : this.newer(confirmed.get(this.name));
      if (last) {
        this.version = Math.max(this.version, last.version);
        this.base = last.base ?? last.version;
        const fields = { ...this.first, ...last.fields };
        const here = document.activeElement;
        let caret = here?.selectionStart; // null or undefined where there is none
        for (const input of early) {
          const { name, value } = input;
          const [text, end] = input.matches("textarea") ? joined(this.first[name], fields[name] ?? "", value) : [value];
          fields[name] = text;
          if (input === here) caret = end;
        }
        this.fill(fields);
        if (Number.isInteger(caret) && this.inputs().includes(here)) here.setSelectionRange(caret, caret);
        this.say(words().restored);
      }
      if (!unsaved && !early.length) return;
      this.dirty = true;
      this.keepHere();
      this.soon();
    }

    newer(saved) { return saved && saved.version > this.base ? saved : undefined; }

    typed() {
      this.dirty = true;
      this.mark();
      this.keepHere(this.version + 1); // newer than what is on its way
      if (!this.failing && !this.stopped) this.say(words().saving);
      this.soon();
    }

    soon() {
      this.since ??= performance.now();
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.save(), Math.max(0, Math.min(WAIT, this.since + MOST - performance.now())));
    }

    async save() {
      clearTimeout(this.timer);
      if (!this.dirty || this.saving || this.stopped) return;
      this.since = undefined;
      this.version += 1;
      const record = this.keepHere();
      this.saving = true;
      const answered = await ask(record);
      this.saving = false;
      this.answered(record, answered);
    }

    answered(record, { answer, told }) {
      if (told && answer.ok) confirm(this.name, record, told);
      if (editor !== this) {
        if (told && (answer.ok || answer.status === 409)) forget(this.name, record.version);
      } else if (!told) this.failed(answer);
      else if (answer.ok) this.saved(record, told);
      else if (answer.status === 409) this.twofold(record, told);
      else {
        this.stopped = answer.status === 403;
        this.failing = true;
        this.say(words().here.replace("%s", told.said));
      }
    }

    saved(record, told) {
      this.base = told.version;
      this.version = Math.max(this.version, told.version);
      this.failing = false;
      this.tries = 0;
      this.both.replaceChildren();
      this.say(told.holder ? `${told.said} · ${words().held.replace("%s", told.holder)}` : told.said);
      this.form.querySelector("#versions")?.removeAttribute("hidden");
      if (same(this.read(), record.fields)) {
        this.dirty = false;
        forget(this.name, record.version);
      } else this.soon();
    }

    // No answer, or none of ours: the network, a restart, a sign-in that ended.
    failed(answer) {
      const out = Boolean(answer) && (answer.type === "opaqueredirect" || [401, 403].includes(answer.status));
      this.out = out;
      const final = !out && answer && answer.status < 500; // until something else is typed
      if (!this.failing) say(out ? words().signedOut : words().unsaved);
      this.failing = true;
      this.say(out ? words().signedOut : words().unsaved);
      this.tries += 1;
      clearTimeout(this.timer);
      if (!final) this.timer = setTimeout(() => this.save(), Math.min(500 * 2 ** this.tries, 8000));
    }

    // Another tab was first. Both texts are on the server; this one is kept up to date beside it.
    twofold(record, told) {
      this.other = told;
      this.failing = false;
      this.say(told.said);
      if (!same(this.read(), record.fields)) this.soon();
      if (this.both.contains(document.activeElement)) return;
      if (!this.both.firstElementChild) say(words().both);
      this.both.innerHTML = told.html;
    }

    choose(which) {
      this.base = this.other.version;
      this.version = Math.max(this.version, this.base);
      if (which === "other") this.fill(this.other.fields);
      this.both.replaceChildren();
      this.dirty = true;
      (this.reply ?? this.inputs()[0]).focus();
      this.save();
    }

    // The page, or the case, is going.
    flush() {
      clearTimeout(this.timer);
      if (!this.dirty || this.stopped) return Promise.resolve();
      this.version += 1;
      const record = this.keepHere();
      const small = JSON.stringify(record).length * 3 < BODY;
      return ask(record, { keepalive: small }, { going: 1 }).then((answered) => this.answered(record, answered));
    }
  }

  function leave() {
    editor?.flush();
    editor = undefined;
  }
  document.addEventListener("countersign:leaving", leave);
  window.addEventListener("pagehide", () => editor?.flush());
  document.addEventListener("visibilitychange", () => { if (document.visibilityState === "hidden") editor?.flush(); });
  window.addEventListener("beforeunload", (event) => {
    if (editor?.dirty && editor.failing && !editor.submitted && !editor.out) event.preventDefault();
  });
  for (const back of ["online", "focus"]) window.addEventListener(back, () => again());
  document.addEventListener("htmx:wsOpen", () => again());
  function again() {
    if (editor?.failing) editor.save();
    sendLeft();
  }

  // An earlier version takes the place of what is there now, which is saved before.
  document.addEventListener("submit", (event) => {
    if (!event.target.matches("[data-restores]") || !editor?.dirty) return;
    event.preventDefault();
    const mine = editor;
    mine.flush().then(() => { if (editor === mine && !mine.dirty) event.target.requestSubmit(event.submitter); });
  });

  async function showVersions(details) {
    const link = details.querySelector("a");
    const address = link?.href ?? details.dataset.from;
    details.dataset.from = address;
    const html = await partOf(address, { headers: { "HX-Request": "true" } });
    if (html !== undefined) details.querySelector(".versions-list").innerHTML = html;
  }

  // Saved replies: a listbox under the caret, filtered by what is typed after the slash

  class Picker {
    constructor(reply, list, address) {
      Object.assign(this, { reply, list, address, asked: 0 });
      reply.addEventListener("input", (event) => this.typed(event));
      reply.addEventListener("keydown", (event) => this.pressed(event));
      reply.addEventListener("blur", () => setTimeout(() => this.close(), 150));
      list.addEventListener("pointerdown", (event) => event.preventDefault()); // the focus stays
      list.addEventListener("click", (event) => this.insert(event.target.closest("[data-text]")));
    }

    get isOpen() { return !this.list.hidden; }

    typed(event) {
      const { value, selectionStart: caret } = this.reply;
      const before = value.slice(0, caret);
      if (!this.isOpen && event.data === "/" && /(^|\s)\/$/.test(before)) this.open(caret - 1, 1);
      else if (this.isOpen) {
        const query = value.slice(this.from + this.skip, caret);
        if (caret < this.from + this.skip || /^\s|\n/.test(query) || query.length > 40) this.close();
        else this.search(query);
      }
    }

    // `from` is where the inserted text goes; `skip` is the slash.
    open(from, skip) {
      Object.assign(this, { from, skip });
      this.reply.focus();
      this.search("");
    }

    async search(query) {
      this.asked += 1;
      const mine = this.asked;
      const html = await partOf(`${this.address}?q=${encodeURIComponent(query)}`);
      if (mine !== this.asked || html === undefined) return;
      this.list.innerHTML = html;
      this.list.hidden = false;
      this.list.style.top = `${under(this.reply, this.from)}px`;
      this.reply.setAttribute("aria-controls", this.list.id);
      this.reply.setAttribute("aria-autocomplete", "list");
      this.point(0);
      this.list.scrollIntoView({ block: "nearest" });
    }

    options() { return [...this.list.querySelectorAll("[data-text]")]; }

    point(to) {
      const options = this.options();
      this.at = options.length ? (to + options.length) % options.length : -1;
      options.forEach((each, place) => each.setAttribute("aria-selected", String(place === this.at)));
      const here = options[this.at];
      if (!here) { this.reply.removeAttribute("aria-activedescendant"); say(this.list.textContent); return; }
      this.reply.setAttribute("aria-activedescendant", here.id);
      here.scrollIntoView({ block: "nearest" });
    }

    pressed(event) {
      if (!this.isOpen) return;
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      const here = this.options()[this.at];
      const plain = !event.ctrlKey && !event.metaKey && !event.shiftKey;
      if (step) this.point(this.at + step);
      else if (["Enter", "Tab"].includes(event.key) && plain && here) this.insert(here);
      else if (event.key === "Escape") this.close();
      else return;
      event.preventDefault();
      event.stopPropagation();
    }

    insert(option) {
      if (!option) return;
      const { reply, from } = this;
      const { selectionEnd } = reply;
      this.close();
      reply.focus();
      reply.setSelectionRange(from, Math.max(from, selectionEnd));
      type(reply, option.dataset.text);
    }

    close() {
      this.asked += 1;
      this.list.hidden = true;
      for (const name of ["activedescendant", "controls", "autocomplete"]) this.reply.removeAttribute(`aria-${name}`);
    }
  }

  // As if it were typed, so that the browser's own undo takes it back.
  function type(area, text) {
    if (document.execCommand("insertText", false, text)) return;
    area.setRangeText(text, area.selectionStart, area.selectionEnd, "end");
    area.dispatchEvent(new Event("input", { bubbles: true }));
  }

  // How far down the line of a place in a textarea ends, in the box that both stand in.
  function under(area, place) {
    const mirror = document.createElement("div");
    const style = getComputedStyle(area);
    for (const name of ["font", "lineHeight", "letterSpacing", "padding", "width", "boxSizing", "textAlign", "direction"]) {
      mirror.style[name] = style[name];
    }
    Object.assign(mirror.style, { position: "absolute", visibility: "hidden", whiteSpace: "pre-wrap", overflowWrap: "anywhere" });
    const end = document.createElement("span");
    end.textContent = "/";
    mirror.append(area.value.slice(0, place), end);
    area.parentNode.append(mirror);
    const down = area.offsetTop + end.offsetTop + end.offsetHeight - area.scrollTop;
    mirror.remove();
    return down + 4;
  }

  // Reasons: quick picks, and no empty one

  async function showPicks(picks) {
    if (!picks || picks.childElementCount) return;
    picks.innerHTML = await partOf(picks.dataset.from) ?? "";
  }

  function pick(button) {
    const area = button.closest(".saying").querySelector("textarea");
    area.focus();
    area.setSelectionRange(area.value.length, area.value.length);
    type(area, (area.value.trim() ? "\n" : "") + button.textContent);
  }

  function tellEmpty(sheet, is) {
    const area = sheet.querySelector("textarea");
    const wrong = sheet.querySelector(".wrong");
    wrong.hidden = !is;
    if (is) wrong.textContent = wrong.dataset.empty;
    if (is) area.setAttribute("aria-invalid", "true");
    else area.removeAttribute("aria-invalid");
    if (is) area.focus();
  }

  function sayings(form) {
    for (const sheet of form.querySelectorAll(".saying")) {
      const area = sheet.querySelector("textarea");
      const confirm = sheet.querySelector("[data-act=confirm]");
      sheet.addEventListener("toggle", (event) => { if (event.newState === "open") showPicks(sheet.querySelector(".picks")); });
      confirm.addEventListener("click", (event) => {
        if (area.value.trim()) return;
        event.preventDefault();
        tellEmpty(sheet, true);
      });
      area.addEventListener("input", () => { if (area.value.trim()) tellEmpty(sheet, false); });
      sheet.addEventListener("click", (event) => { if (event.target.matches(".pick")) pick(event.target); });
      if (!sheet.hasAttribute("popover")) showPicks(sheet.querySelector(".picks"));
    }
  }

  // A hint that stands as it stood is not read out again.
  document.addEventListener("htmx:oobBeforeSwap", (event) => {
    const { target, fragment } = event.detail;
    if (target.id !== "hints" || !fragment) return;
    const next = fragment.querySelector("#hints") ?? fragment;
    if (next.textContent.trim() === target.textContent.trim()) event.detail.shouldSwap = false;
  });

  document.addEventListener("countersign:shown", (event) => {
    const form = event.detail.querySelector("#decide");
    if (!form?.dataset.draft) { sendLeft(); return; }
    editor = new Editor(form);
    sendLeft();
    sayings(form);
    const versions = form.querySelector("#versions");
    versions?.addEventListener("toggle", () => { if (versions.open) showVersions(versions); });
    const button = form.querySelector("[data-act=replies]");
    if (!button || !editor.reply) return;
    const picker = new Picker(editor.reply, form.querySelector("#replies"), form.dataset.replies);
    button.hidden = false;
    button.addEventListener("pointerdown", (press) => press.preventDefault());
    button.addEventListener("click", () => {
      if (picker.isOpen) picker.close();
      else picker.open(editor.reply.selectionStart, 0);
    });
  });
})();
