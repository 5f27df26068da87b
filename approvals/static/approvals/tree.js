// The state's tree: a box that narrows it to some keys, and the path of a line to copy.
"use strict";
{
  const FEWEST = 12; // lines, from which a box is worth its room
  const key = (line) => line.querySelector(".k")?.textContent ?? "";

  function path(line) {
    const keys = [];
    for (let at = line; at; at = at.parentElement.closest(".tree li")) keys.unshift(key(at));
    return keys.join(".");
  }

  // A line stays when its key has the word, when it is inside such a line, or leads to one.
  function narrow(box) {
    const word = box.value.trim().toLowerCase();
    const lines = [...document.getElementById(box.dataset.narrows).querySelectorAll("li")];
    const found = lines.filter((line) => word && key(line).toLowerCase().includes(word));
    for (const line of lines) {
      const leads = found.some((each) => line !== each && line.contains(each));
      line.hidden = Boolean(word) && !leads && !found.some((each) => each.contains(line));
      const fold = line.querySelector(":scope > details");
      if (fold && leads) fold.open = true;
    }
    if (word) say(`${box.dataset.said} ${found.length}`);
  }

  document.addEventListener("countersign:shown", (event) => {
    for (const box of event.detail.querySelectorAll("[data-narrows]")) {
      const tree = document.getElementById(box.dataset.narrows);
      box.parentElement.hidden = tree.querySelectorAll("li").length < FEWEST;
    }
  });
  document.addEventListener("input", (event) => {
    if (event.target.matches("[data-narrows]")) narrow(event.target);
  });
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-path]");
    if (!button) return;
    const copied = await navigator.clipboard.writeText(path(button.closest("li"))).then(() => true, () => false);
    if (!copied) return;
    button.textContent = button.dataset.path;
    say(button.dataset.path);
  });
}
