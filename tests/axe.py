"""What axe finds on a page, and what it cannot see: sideways scroll, requests that leave, CSP."""

from pathlib import Path
from typing import Any

import axe_playwright_python
from playwright.sync_api import Page

SOURCE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
RUN = """async ([tags, rules]) => {
  const only = rules ? { type: "rule", values: rules } : { type: "tag", values: tags };
  const own = rules ? {} : { "target-size": { enabled: true } };
  const found = await axe.run(document, {
    runOnly: only, rules: own, resultTypes: ["violations"],
  });
  const why = (node) => node.any.map((one) => one.message).join(" ").slice(0, 160);
  const where = (node) => `${node.target.join(" ")} ${node.html.slice(0, 160)} (${why(node)})`;
  return found.violations.map((one) =>
    `${one.id}: ${one.help}: ${one.nodes.slice(0, 3).map(where).join(" | ")}`);
}"""
# Reads the widest thing on the page, so that a failure names it.
SIDEWAYS = """() => {
  const room = document.documentElement.clientWidth;
  const wide = Math.max(document.documentElement.scrollWidth, document.body.scrollWidth);
  if (wide <= room) return "";
  const over = [...document.querySelectorAll("body *")].filter((each) => {
    const box = each.getBoundingClientRect();
    return box.width && (box.right > room + 1 || box.left < -1);
  });
  const last = over.at(-1);
  return `${wide} px: ${last ? last.outerHTML.slice(0, 160) : ""}`;
}"""
# With reduced motion nothing takes time to come, go or turn.
MOVING = """() => [...document.querySelectorAll("body *")].filter((each) => {
  const { transitionDuration, animationDuration, animationName } = getComputedStyle(each);
  const long = (times) => times.split(",").some((time) => parseFloat(time) > 0.01);
  return long(transitionDuration) || (animationName !== "none" && long(animationDuration));
}).slice(0, 3).map((each) => each.outerHTML.slice(0, 120))"""
# Chromium tells of what the policy refused by an event, whatever the console says.
REFUSED = """document.addEventListener("securitypolicyviolation", (event) => {
  (window.refused ??= []).push(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`);
});"""


def violations(page: Page, *rules: str) -> list[str]:
    """By these rules alone, or by all of WCAG 2.2 AA and axe's own best practice."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(SOURCE)
    found: list[str] = page.evaluate(RUN, [TAGS, list(rules) or None])
    return found


def sideways(page: Page, direction: str = "") -> str:
    """What makes the page scroll sideways; "" when nothing does."""
    if direction:
        page.evaluate("(dir) => { document.documentElement.dir = dir }", direction)
    return str(page.evaluate(SIDEWAYS))


def moving(page: Page) -> list[str]:
    """What would still move on a page that was asked not to."""
    found: list[str] = page.evaluate(MOVING)
    return found


def refused(page: Page) -> list[Any]:
    """What the content security policy refused since the page came."""
    found: list[Any] = page.evaluate("window.refused ?? []")
    return found
