// The list: what is new, taken or gone moves nothing that is being read; selecting rows; the tab's
// own count; and the small sheets that ask until when, and for whom.
"use strict";

(() => {
  const pane = () => document.getElementById("q-pane");
  const rows = () => document.getElementById("q-rows");
  const parsed = (html) => new DOMParser().parseFromString(html, "text/html");
  const idle = 4000; // ms after which a pointer that rests on the list reads nothing there

  // Whatever scrolls the list: itself beside a case, the page on the inbox.
  function scroller() {
    const list = rows()?.parentElement;
    return list && list.scrollHeight > list.clientHeight + 1 ? list : document.scrollingElement;
  }
  const fold = () => Math.max(scroller() === document.scrollingElement ? 0 : scroller().getBoundingClientRect().top, 0);

  // Browsers also tell of moves when only the page moved, under a pointer that rests.
  let moved = -idle;
  let spot = "";
  document.addEventListener("pointermove", (event) => {
    if (event.pointerType === "touch" || !rows()?.contains(event.target)) return;
    const now = `${event.clientX} ${event.clientY}`;
    if (now !== spot) moved = performance.now();
    spot = now;
  }, { passive: true });
  const pointed = () => (performance.now() - moved < idle ? rows()?.querySelector("li:hover") : null);
  const focused = () => document.activeElement?.closest("#q-rows li") ?? null;

  // What must stay where it is: the row under the pointer, else the one with the focus, else the
  // first that can be seen.
  function anchor(stays) {
    const seen = (item) => item.getBoundingClientRect().bottom > fold() + 1;
    const every = [...rows().querySelectorAll("li")].filter(stays);
    const item = [pointed(), focused()].find((each) => each && every.includes(each) && seen(each)) ?? every.find(seen);
    return item && { item, top: item.getBoundingClientRect().top };
  }

  function hold(kept) {
    if (!kept?.item.isConnected) return;
    const by = kept.item.getBoundingClientRect().top - kept.top;
    if (by) scroller().scrollTop += by;
  }

  // A row that has gone stays, marked so, for as long as somebody reads the list: under a pointer
  // nothing closes up.
  function leave(item) {
    if (item.classList.contains("gone")) return;
    item.classList.add("gone");
    const box = item.querySelector(".sel input");
    if (box) { box.checked = false; box.disabled = true; }
    const age = item.querySelector(".row-a");
    if (age) age.textContent = pane().dataset.gone;
  }

  let sweeps;
  function sweep() {
    clearTimeout(sweeps);
    const gone = [...(rows()?.querySelectorAll("li.gone") ?? [])];
    if (!gone.length || focused()) return;
    if (pointed()) { sweeps = setTimeout(sweep, idle); return; }
    const kept = anchor((item) => !item.classList.contains("gone"));
    for (const item of gone) item.remove();
    hold(kept);
  }
  document.addEventListener("pointerout", (event) => {
    if (rows()?.contains(event.target) && !rows().contains(event.relatedTarget)) setTimeout(sweep, 50);
  });
  document.addEventListener("focusout", () => setTimeout(sweep, 50));

  function renew(item, next) {
    item.className = next.className;
    const [row, wanted] = [item.querySelector(".row"), next.querySelector(".row")];
    if (!row || !wanted) { if (item.innerHTML !== next.innerHTML) item.innerHTML = next.innerHTML; return; }
    if (row.innerHTML !== wanted.innerHTML) row.innerHTML = wanted.innerHTML;
    row.className = wanted.className;
    row.href = wanted.href;
    const [box, other] = [item.querySelector(".sel input"), next.querySelector(".sel input")];
    if (!box || !other) return;
    box.disabled = false;
    if (box.value === other.value) return;
    // What was selected is not what stands there now.
    box.value = other.value;
    if (box.checked) { box.checked = false; say(pane().dataset.changed); }
  }

  // The list becomes what the server says, row by row: what stays keeps its element, and with it
  // focus, selection and place.
  function merge(next) {
    const old = rows();
    const [list, wanted] = [old.querySelector("ol"), next.querySelector("ol")];
    if (!list || !wanted) {
      if (old.innerHTML !== next.innerHTML) old.replaceChildren(...next.childNodes);
      return;
    }
    const ids = new Set([...wanted.children].map((item) => item.id));
    const reading = Boolean(pointed() || focused());
    const kept = anchor((item) => ids.has(item.id) || reading);
    const focus = document.activeElement;
    for (const item of [...list.children]) {
      if (ids.has(item.id)) continue;
      if (reading && item.classList.contains("q-i")) leave(item);
      else item.remove();
    }
    const fresh = [];
    let place = list.firstElementChild;
    for (const item of [...wanted.children]) {
      while (place?.classList.contains("gone")) place = place.nextElementSibling;
      const known = document.getElementById(item.id);
      if (known) renew(known, item);
      else if (item.classList.contains("q-i")) fresh.push(item);
      const node = known ?? item;
      if (node === place) place = place.nextElementSibling;
      else list.insertBefore(node, place);
    }
    old.querySelector(".pages")?.remove();
    const pages = next.querySelector(".pages");
    if (pages) old.append(pages);
    hold(kept);
    if (focus !== document.activeElement && focus.isConnected) focus.focus({ preventScroll: true });
    tellAbove(fresh);
    picked();
  }

  // New rows above what is seen: said, not shown.
  const above = new Set();
  function tellAbove(fresh) {
    for (const item of fresh) above.add(item);
    for (const item of above) {
      if (!item.isConnected || item.getBoundingClientRect().bottom > fold()) above.delete(item);
    }
    const button = document.getElementById("q-new");
    button.hidden = above.size === 0;
    button.textContent = (above.size === 1 ? button.dataset.one : button.dataset.many).replace("%s", above.size);
  }
  document.addEventListener("scroll", () => { if (above.size) tellAbove([]); }, { passive: true, capture: true });

  document.addEventListener("htmx:beforeSwap", ({ detail }) => {
    if (detail.target.id !== "q-rows" || !detail.shouldSwap) return;
    const page = parsed(detail.serverResponse);
    const next = page.getElementById("q-rows");
    if (!next) return;
    detail.swapOverride = "none"; // what is out of band is still swapped
    merge(next);
    const views = page.getElementById("q-views");
    if (views) mergeViews(views);
    const [number, other] = [document.getElementById("q-count"), page.getElementById("q-count")];
    if (number && other) number.textContent = other.textContent;
    heard(page);
  });
  document.addEventListener("htmx:afterSettle", count);

  function mergeViews(next) {
    const old = document.getElementById("q-views");
    const at = old.contains(document.activeElement) ? document.activeElement.dataset.view : "";
    if (old.innerHTML !== next.innerHTML) old.innerHTML = next.innerHTML;
    if (at) old.querySelector(`[data-view="${at}"]`)?.focus({ preventScroll: true });
  }

  // New rows push none that is shown off the page, and none that is selected.
  document.addEventListener("htmx:configRequest", ({ detail: { elt, parameters } }) => {
    if (elt.id !== "q-pane") return;
    parameters.shown = [...document.querySelectorAll("#q-rows li.q-i:not(.gone)")].map((item) => item.id.slice(2)).join(",");
  });

  // A tab that nobody sees asks seldom.
  let asked = 0;
  let later;
  document.addEventListener("htmx:beforeRequest", (event) => {
    if (event.detail.elt.id !== "q-pane") return;
    const wait = document.hidden ? asked + 3000 - performance.now() : 0;
    if (wait <= 0) { asked = performance.now(); return; }
    event.preventDefault();
    later ??= setTimeout(again, wait);
  });
  function again() {
    clearTimeout(later);
    later = undefined;
    htmx.trigger(document.body, "nudge:queue");
  }
  document.addEventListener("visibilitychange", () => { if (!document.hidden && later) again(); });

  // The count, in the tab

  const icon = document.querySelector("link[rel=icon]");
  const plain = icon?.href;
  function count() {
    const text = document.getElementById("nav-count")?.textContent.trim() ?? "";
    const some = text && text !== "0";
    const { style } = document.documentElement;
    const tall = `${document.getElementById("strip")?.offsetHeight ?? 0}px`;
    if (style.getPropertyValue("--strip-h") !== tall) style.setProperty("--strip-h", tall); // else all is styled anew
    document.title = (some ? `(${text}) ` : "") + document.title.replace(/^\([\d.,+\s’]+\) /, "");
    if (!icon) return;
    const number = text.length > 2 ? "99+" : text;
    const badge = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><circle cx="16" cy="16" r="16" fill="#2b468f"/><text x="16" y="${number.length > 2 ? 20.5 : 22.5}" font-family="system-ui,sans-serif" font-weight="700" font-size="${number.length > 2 ? 13 : 18}" fill="#fff" text-anchor="middle">${number}</text></svg>`;
    const href = some ? `data:image/svg+xml,${encodeURIComponent(badge)}` : plain;
    if (icon.href !== href) icon.href = href;
  }

  // A new case, told to who looks elsewhere and asked to be told

  let newest = Number(pane()?.dataset.newest ?? 0);
  function heard(page) {
    const came = Number(page.getElementById("q-pane")?.dataset.newest ?? 0);
    if (came <= newest) return;
    newest = came;
    if (!document.hidden || localStorage.getItem("told") === String(came)) return;
    localStorage.setItem("told", String(came)); // one of several tabs
    const data = document.body.dataset;
    if ("notify" in data && "Notification" in window && Notification.permission === "granted") {
      const title = document.querySelector(`#i-${came} .row-t`)?.textContent;
      const body = title ?? pane().dataset.waiting.replace("%s", page.getElementById("nav-count")?.textContent ?? "");
      const note = new Notification(pane().dataset.new, { body, tag: "countersign", silent: true });
      note.addEventListener("click", () => { window.focus(); note.close(); });
    }
    if ("sound" in data) chime();
  }

  function chime() {
    const audio = new AudioContext();
    for (const [start, pitch] of [[0, 660], [0.14, 880]]) {
      const [tone, loud] = [audio.createOscillator(), audio.createGain()];
      const at = audio.currentTime + start;
      tone.frequency.value = pitch;
      loud.gain.setValueAtTime(0, at);
      loud.gain.linearRampToValueAtTime(0.08, at + 0.02);
      loud.gain.exponentialRampToValueAtTime(0.0005, at + 0.35);
      tone.connect(loud).connect(audio.destination);
      tone.start(at);
      tone.stop(at + 0.4);
    }
    setTimeout(() => audio.close(), 900);
  }

  // The connection

  let since;
  document.addEventListener("htmx:wsClose", () => {
    const note = document.querySelector("#lost b");
    if (!note || since) return;
    since = new Date();
    const time = new Intl.DateTimeFormat(document.documentElement.lang, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
    note.textContent = note.dataset.since.replace("%s", time.format(since));
  });
  document.addEventListener("htmx:wsOpen", () => { since = undefined; });

  // Selecting

  let last;
  const boxes = () => [...document.querySelectorAll("#q-rows .sel input:not(:disabled)")];
  function picked() {
    const place = document.getElementById("q-picked");
    const number = boxes().filter((box) => box.checked).length;
    if (place && place.textContent !== String(number)) place.textContent = number;
  }
  document.addEventListener("click", (event) => {
    const box = event.target.closest?.("#q-rows .sel input");
    if (box) {
      const every = boxes();
      const [from, to] = [every.indexOf(last), every.indexOf(box)].sort((a, b) => a - b);
      if (event.shiftKey && from >= 0) for (const each of every.slice(from, to + 1)) each.checked = box.checked;
      last = box;
      picked();
    } else if (event.target.closest?.("#q-all")) {
      for (const each of boxes()) each.checked = true;
      picked();
    } else if (event.target.closest?.("#q-new")) {
      scroller().scrollTo({ top: 0 });
      tellAbove([]);
    }
  });
  document.addEventListener("reset", (event) => { if (event.target.id === "bulk") setTimeout(picked); });
  // A filter that is not set has no place in the address.
  document.addEventListener("submit", ({ target }) => {
    if (target.id !== "q-form") return;
    const empty = [...target.elements].filter((each) => each.name && !each.value && !each.disabled);
    for (const each of empty) each.disabled = true;
    setTimeout(() => { for (const each of empty) each.disabled = false; }); // for the way back
  });

  // Until when, for whom: the page that asks, as a sheet over this one

  const here = Intl.DateTimeFormat().resolvedOptions().timeZone;
  function localTimes(root) {
    for (const field of root.querySelectorAll("input[name=zone]")) field.value = here;
  }

  async function ask(link) {
    const form = parsed(await partOf(link.href) ?? "").querySelector(".asked-form");
    if (!form) { location.assign(link.href); return; }
    const dialog = document.createElement("dialog");
    dialog.className = "ask-dialog";
    dialog.setAttribute("aria-labelledby", "ask-h");
    dialog.append(document.adoptNode(form));
    document.body.append(dialog);
    localTimes(dialog);
    dialog.addEventListener("click", (event) => {
      if (event.target !== dialog && !event.target.closest("[data-close]")) return;
      event.preventDefault();
      dialog.close();
    });
    dialog.addEventListener("close", () => { dialog.remove(); if (link.isConnected) link.focus(); });
    dialog.showModal();
  }
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("[data-ask]");
    if (!link || event.metaKey || event.ctrlKey || event.shiftKey) return;
    event.preventDefault();
    ask(link);
  });

  document.addEventListener("countersign:shown", ({ detail }) => {
    localTimes(detail);
    afterPaint(() => { count(); picked(); });
  });
})();
