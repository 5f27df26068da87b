// Next, decide and undo without waiting: what comes next was fetched ahead.
"use strict";

(() => {
  const SEND_AGAIN = 10 * 60 * 1000; // ms in which a decision that did not get through is sent by itself
  const PASSED = "passed"; // cases that were left undecided with Next, in this tab
  const KEEP_AHEAD = 2 * 60 * 1000; // ms
  const { tell } = strip;

  const pane = () => document.getElementById("review");
  const words = () => document.getElementById("flow-words").dataset;
  const here = () => Number(document.body.dataset.review);
  const headers = () => ({ "X-Flow": "1", "X-Person": document.body.dataset.user });
  const post = (address, fields, options = {}) => {
    fields.set("csrfmiddlewaretoken", csrfToken());
    return fetch(address, { method: "POST", body: fields, headers: headers(), signal: patience(), ...options });
  };
  const pause = (milliseconds) => new Promise((done) => { setTimeout(done, milliseconds); });
  const parsed = (html) => new DOMParser().parseFromString(html, "text/html");

  function busy(is) {
    if (is) document.body.dataset.busy = "";
    else delete document.body.dataset.busy;
    pane()?.setAttribute("aria-busy", String(is));
  }

  // What comes next

  let ahead; // { id, node }: claimed for this person, and not yet looked at
  let fetching;
  let letting;

  function keepAhead(found) {
    ahead = found;
    clearTimeout(letting);
    // Nobody else gets it meanwhile, and who thinks for long needs it in no hurry.
    if (found) letting = setTimeout(keepAhead, KEEP_AHEAD);
    document.body.dataset.ahead = found ? found.id : "";
    return found;
  }

  // Decided, and not yet known to be: the server would give them again, being this person's.
  const underWay = new Set();
  // What is typed there meanwhile would not be sent.
  function hold() {
    const form = document.getElementById("decide");
    if (form) form.inert = underWay.has(String(here()));
  }
  const passed = () => JSON.parse(sessionStorage.getItem(PASSED) || "[]");
  const passBy = (id) => sessionStorage.setItem(PASSED, JSON.stringify([...passed(), id].slice(-50)));

  const SIGNED_OUT = new Error("signed out");
  const isOut = (answer) => answer.status === 401 || answer.redirected;

  async function workOf(answer) {
    if (isOut(answer)) throw SIGNED_OUT;
    if (answer.status >= 500) throw new Error(answer.status);
    const id = Number(answer.headers.get("X-Case"));
    if (!answer.ok || !id) return undefined;
    return { id, node: document.adoptNode(parsed(await answer.text()).getElementById("review")) };
  }

  async function askForNext() {
    const form = document.getElementById("next-form");
    if (!form) return undefined;
    const fields = new FormData(form);
    for (const id of [...passed(), ...underWay, here()]) fields.append("besides", id);
    fields.set("ahead", "1");
    return workOf(await post(form.getAttribute("action"), fields));
  }

  // One at a time: two would claim two cases.
  function fetchAhead() {
    return fetching ?? fetchInstead(askForNext());
  }

  let lost; // why it is not known whether something comes next
  function fetchInstead(asked) {
    fetching = asked.then((found) => [found], (error) => [undefined, error]).then(([found, error]) => {
      fetching = undefined;
      lost = error;
      // What is on the screen by now comes not after itself.
      return found?.id === here() ? fetchInstead(askForNext()) : keepAhead(found);
    });
    return fetching;
  }

  const part = async (address) => workOf(await fetch(address, { headers: headers(), signal: patience() }));
  const read = (id, query = "") => part(`/reviews/${id}/?part=work${query}`);

  // What was fetched ahead has changed since: it is shown as it is, or not at all.
  let renewing;
  document.addEventListener("countersign:nudged", ({ detail }) => {
    const id = ahead?.id;
    if (!id || renewing || !(detail.refresh || detail.reviews.includes(id))) return;
    renewing = setTimeout(async () => {
      renewing = undefined;
      const found = await read(id, `&ahead=1&${new URLSearchParams(location.search)}`).catch(() => undefined);
      const isMine = found && "decidable" in found.node.dataset && found.node.querySelector("#claim[data-mine]");
      if (ahead?.id === id) keepAhead(isMine ? found : undefined);
    }, 800);
  });

  // Onto the screen

  function mark() {
    for (const row of document.querySelectorAll("#q-rows .row[aria-current]")) row.removeAttribute("aria-current");
    document.getElementById(`row-${here()}`)?.setAttribute("aria-current", "true");
  }
  document.addEventListener("htmx:afterSettle", (event) => { if (event.target.closest("#q-pane")) mark(); });

  // The second click of a double one was meant for what was there before.
  let painted = 0;
  document.addEventListener("click", (event) => {
    if (event.detail < 2 || event.timeStamp - painted > 700 || !event.target.closest(".desk .work")) return;
    event.preventDefault();
    event.stopPropagation();
  }, true);

  function paint(found, push = true) {
    const { node } = found;
    painted = performance.now();
    document.dispatchEvent(new CustomEvent("countersign:leaving", { detail: pane() }));
    document.body.classList.remove("edited");
    pane().replaceWith(node);
    document.body.dataset.review = found.id;
    if (ahead === found) keepAhead(undefined);
    busy(false);
    strip.heal();
    mark();
    htmx.process(node);
    shown(node);
    hold();
    const heading = node.querySelector("h1");
    heading.tabIndex = -1;
    heading.focus({ preventScroll: true });
    afterPaint(() => {
      if (here() !== found.id) return;
      const [count] = /^\(.*?\) /.exec(document.title) ?? [""]; // queue.js keeps it
      document.title = `${count}${node.dataset.title} · Countersign`;
      if (push) history.pushState({}, "", node.dataset.address);
      // As it is now; and from now on this person has seen it.
      htmx.trigger(document.body, "nudge:review");
    });
  }

  // Whatever the server answered instead, in place of the case: a conflict, a form that lacks something.
  // The queue beside it stays: what it has asked for meanwhile would find nothing to go into.
  function paintPage(html) {
    const page = parsed(html);
    const found = page.getElementById("review");
    if (!pane()) { location.reload(); return; }
    // A page that is none of a case, as of an error: this one stays, with what is written in it.
    if (!found) { busy(false); tellPage(page); return; }
    painted = performance.now();
    document.dispatchEvent(new CustomEvent("countersign:leaving", { detail: pane() }));
    const node = document.adoptNode(found);
    pane().replaceWith(node);
    document.body.dataset.review = page.body.dataset.review;
    document.title = page.title;
    busy(false);
    mark();
    htmx.process(node);
    strip.renew();
    shown(node);
    (node.querySelector("[role=alert]") ?? node).scrollIntoView?.({ block: "nearest" });
    say(node.querySelector("[role=alert]")?.textContent ?? page.title);
  }

  // Whoever went elsewhere while a case was on its way is not taken to it any more.
  let going = 0;

  async function goNext(leave) {
    const mine = ++going;
    busy(true);
    let found = ahead ?? await fetchAhead();
    // Nobody goes back to what is decided: what comes next is asked for until there is an answer.
    for (let tries = 0; leave && lost && lost !== SIGNED_OUT && mine === going; tries += 1) {
      if (!tries) tellLost(lost);
      await pause(2000);
      found = ahead ?? await fetchAhead();
    }
    if (!found && !lost && passed().length) { // all others were passed by: round again, from the oldest
      sessionStorage.removeItem(PASSED);
      found = await fetchAhead();
    }
    if (mine !== going) return;
    if (found) paint(found);
    else if (leave && !lost) await leave();
    else {
      busy(false);
      if (lost) tellLost(lost);
      else tell(words().none);
    }
  }

  async function open(address, push = true) {
    const mine = ++going;
    busy(true);
    const asked = part(`${address}${address.includes("?") ? "&" : "?"}part=work`);
    const [found, error] = await asked.then((work) => [work], (reason) => [undefined, reason]);
    if (mine !== going) return;
    if (found) paint(found, push);
    else if (error && error !== SIGNED_OUT) {
      busy(false);
      tellLost(error);
    } else location.assign(address);
    return Boolean(found);
  }

  // What is told

  const tellLost = (error) => (error === SIGNED_OUT ? tellSignedOut(words().out) : tell(words().unanswered, undefined, true));
  const tellSignedOut = (text) => tell(text, button(words().signIn, () => location.reload()));
  const tellPage = (page) => tell(page.querySelector("h1")?.textContent ?? page.title);

  function button(label, act) {
    const made = document.createElement("button");
    made.type = "button";
    made.className = "btn";
    made.textContent = label;
    made.addEventListener("click", act);
    return made;
  }

  // Deciding. What was sent is kept until the server has answered, whatever dies in between.

  const name = (record) => `unsent:${document.body.dataset.user}:${record.key}`;
  function keep(record) {
    try { localStorage.setItem(name(record), JSON.stringify(record)); } catch { /* full: it is sent all the same */ }
  }
  const forget = (record) => localStorage.removeItem(name(record));

  function recordOf(form, submitter) {
    const fields = [...new FormData(form, submitter)].filter(([key]) => key !== "csrfmiddlewaretoken");
    const key = new Map(fields).get("key");
    const address = form.getAttribute("action"); // a field named so hides the property
    return { key, address, title: pane().dataset.title, fields, at: Date.now() };
  }

  const fieldsOf = (record) => {
    const fields = new FormData();
    for (const [key, value] of record.fields) fields.append(key, value);
    return fields;
  };

  // Repeated until it is answered.
  async function insist(address, fields, options) {
    for (let tries = 0; ; tries += 1) {
      // A browser lets little through that is to outlive its page; the second time nothing needs to.
      const answer = await post(address, fields, tries ? {} : options).catch(() => undefined);
      const html = await answer?.text().catch(() => undefined);
      if (html !== undefined && ![502, 503, 504].includes(answer.status)) return { answer, html };
      if (!tries) tell(words().unsent, undefined, true);
      await pause(Math.min(1000 * 2 ** tries, 8000));
    }
  }

  // Its key makes it count once.
  async function send(record) {
    const answered = strip.sending(record.title);
    const small = new Blob([JSON.stringify(record)]).size < 30_000; // what a page may send as it closes
    const [, id] = /reviews\/(\d+)/.exec(record.address);
    underWay.add(id);
    hold();
    const { answer, html } = await insist(record.address, fieldsOf(record), { keepalive: small });
    underWay.delete(id);
    const isTakenBack = answered();
    if (answer.headers.has("X-Strip")) {
      forget(record);
      const page = parsed(html);
      const form = page.getElementById("undo-form");
      strip.put(page);
      if (isTakenBack && form) undo(form);
      return true;
    }
    hold();
    if (isOut(answer)) {
      tellSignedOut(words().signedOut);
      return false;
    }
    forget(record);
    strip.renew();
    return html;
  }

  // Too old to count without being asked: its words are kept as a draft, and the person is told.
  async function shelve(record) {
    const fields = fieldsOf(record);
    const more = { owner: document.body.dataset.user, tab: record.key, base: 0, version: 1, going: 1 };
    for (const [name, value] of Object.entries(more)) fields.set(name, value);
    const place = placeOf(record);
    tell(words().unrecorded.replace("%s", record.title), button(words().see, () => location.assign(place)));
    const answer = await post(`${place}draft`, fields).catch(() => undefined);
    if (answer && !answer.redirected && answer.status < 500) forget(record);
  }

  async function decide(form, submitter) {
    const record = recordOf(form, submitter);
    keep(record);
    busy(true);
    const from = here();
    const mine = ++going;
    const sent = send(record);
    // Only what cannot lack anything goes on before the answer: else the person is needed here.
    if (isWhole(form, submitter) && (ahead ?? await fetchAhead())) {
      if (mine === going) paint(ahead);
      const outcome = await sent;
      if (typeof outcome === "string") bad(record, from, outcome);
      else if (outcome) {
        say(words().decided);
        renew(from);
      }
      return;
    }
    const outcome = await sent;
    if (typeof outcome === "string") bad(record, from, outcome);
    else if (mine !== going) renew(from);
    else if (outcome) await goNext(() => { location.assign(document.body.dataset.queue); });
    else busy(false);
  }

  // Whoever came back to a case before its decision had got through sees it as it is now.
  const renew = (id) => { if (here() === id) open(pane()?.dataset.address ?? `/reviews/${id}/`, false); };

  function isWhole(form, submitter) {
    if (form.classList.contains("question")) return false;
    const reply = form.querySelector("#reply");
    if (reply && !submitter?.closest(".saying") && !reply.value.trim()) return false;
    const reason = submitter?.closest(".saying")?.querySelector("textarea");
    return !reason || reason.value.trim() !== "";
  }

  function bad(record, from, html) {
    const text = words().unrecorded.replace("%s", record.title);
    if (here() === from) { paintPage(html); return; }
    tell(text, button(words().see, (event) => {
      event.target.closest(".told").remove();
      const left = "decidable" in (pane()?.dataset ?? {}) ? here() : undefined;
      history.pushState({}, "", placeOf(record));
      paintPage(html);
      if (left) fetchInstead(claimAgain(left)); // and back to it, with Next
    }));
  }

  const placeOf = (record) => record.address.replace(/decide.*/, "");

  async function undo(form) {
    const back = Number(form.closest("#undo").dataset.decided);
    const { answer, html } = await insist(form.getAttribute("action"), new FormData(form));
    if (isOut(answer)) { location.reload(); return; }
    if (!answer.headers.has("X-Strip")) { tellPage(parsed(html)); return; }
    strip.put(parsed(html));
    hold();
    if (!answer.ok) { say(strip.text()); return; }
    say(words().undone);
    const left = "decidable" in (pane()?.dataset ?? {}) && here() !== back ? here() : undefined;
    if (!pane()) { location.assign(`/reviews/${back}/`); return; }
    const opened = open(`/reviews/${back}/`);
    if (left) fetchInstead(opened.then(() => claimAgain(left)));
    await opened;
  }

  // What an undo interrupted comes next, and stays this person's: leaving it had all but freed it.
  async function claimAgain(id) {
    await post(`/reviews/${id}/claim`, new FormData(), { redirect: "manual" });
    return read(id);
  }

  document.addEventListener("submit", (event) => {
    const form = event.target;
    const sender = event.submitter;
    const isDead = document.body.dataset.busy !== undefined || form.inert;
    if (isDead && ["decide", "next-form"].includes(form.id)) event.preventDefault();
    else if (form.id === "undo-form") { event.preventDefault(); undo(form); }
    else if (form.id === "next-form" && pane()) {
      event.preventDefault();
      passBy(here());
      goNext();
    } else if (form.id === "decide" && !("stay" in document.body.dataset) && !sender?.hasAttribute("formaction")) {
      event.preventDefault();
      decide(form, sender);
    }
  });

  // What a person asked for and did not get, even where a refresh has taken away what they asked
  // with. Refreshes are asked for again by themselves.
  document.addEventListener("htmx:beforeRequest", ({ detail: { xhr, requestConfig } }) => {
    if (!["click", "submit"].includes(requestConfig.triggeringEvent?.type)) return;
    xhr.addEventListener("loadend", () => {
      if (xhr.status === 401) tellSignedOut(words().out);
      else if (!xhr.status || xhr.status >= 500) tell(words().unanswered, undefined, true);
      else if (xhr.status >= 400 && ![409, 422].includes(xhr.status)) tellPage(parsed(xhr.responseText));
      else strip.heal();
    });
  });

  document.addEventListener("click", (event) => {
    const row = event.target.closest("a.row");
    const plain = event.button === 0 && !(event.metaKey || event.ctrlKey || event.shiftKey || event.altKey);
    if (!row || !pane() || !plain || event.defaultPrevented) return;
    event.preventDefault();
    open(row.getAttribute("href"));
  });
  window.addEventListener("popstate", async () => {
    if (!pane()) return;
    const stays = pane().dataset.address;
    if (await open(location.pathname + location.search, false) === false && stays) history.pushState({}, "", stays);
  });

  // Begin

  let soonAhead;
  document.addEventListener("countersign:shown", () => {
    clearTimeout(soonAhead);
    if (ahead?.id === here()) keepAhead(undefined);
    if ("decidable" in (pane()?.dataset ?? {}) && !("stay" in document.body.dataset) && !ahead) {
      soonAhead = setTimeout(fetchAhead, 150);
    }
  });

  document.addEventListener("DOMContentLoaded", () => {
    const mine = `unsent:${document.body.dataset.user}:`;
    for (const key of Object.keys(localStorage).filter((each) => each.startsWith(mine))) {
      const record = JSON.parse(localStorage.getItem(key));
      if (Date.now() - record.at > SEND_AGAIN) shelve(record);
      else {
        send(record).then((outcome) => {
          if (typeof outcome === "string") bad(record, 0, outcome);
          else if (outcome) renew(Number(/reviews\/(\d+)/.exec(record.address)[1]));
        });
      }
    }
  });
})();
