"""`make bench`: from a key press to the next case on the screen, in Chromium, with 1,000 waiting.

Not collected by `make test`. Measured in the page, from the key's event to the frame in which the
next case's heading is seen; as ratios to the load of the same server's empty page.
"""

import os
import re
import statistics
from typing import Any

import pytest
from playwright.sync_api import expect

from approvals.models import Review
from tests.bench_pages import fill
from tests.conftest import capture_all, pause

CASES = int(os.environ.get("CASES", "100"))

# Of each key press: from its event to the time at which the browser showed another heading, which
# is the frame's own, by the Element Timing API. The attribute is there before the frame is made.
WATCH = """() => {
  let began = 0;
  document.addEventListener("keydown", (event) => {
    if (["a", "n"].includes(event.key)) began = event.timeStamp;
  }, true);
  const heading = () => document.querySelector("#review h1");
  let last = heading().textContent;
  new MutationObserver(() => {
    if (!began || !heading() || heading().textContent === last) return;
    last = heading().textContent;
    heading().setAttribute("elementtiming", began);
    began = 0;
  }).observe(document.body, { childList: true, subtree: true });
  new PerformanceObserver((list) => {
    for (const each of list.getEntries()) window.painted.push(each.renderTime - each.identifier);
  }).observe({ type: "element" });
}"""


def figures(taken: list[float]) -> tuple[float, float, float]:
    """(median, 95th percentile, worst) in milliseconds."""
    return statistics.median(taken), statistics.quantiles(taken, n=20)[-1], max(taken)


def empty_page(page: Any) -> float:
    """The median load of /health in the same browser, from its request to its end, in ms."""
    script = "() => { const [e] = performance.getEntriesByType('navigation'); return e.duration }"
    taken = []
    for _ in range(20):
        page.goto("/health")
        taken.append(page.evaluate(script))
    return statistics.median(taken)


def pressed(page: Any, key: str, ahead: bool, rest: int) -> list[float]:
    """`rest`: milliseconds in which the person looks at a case, before the next press."""
    page.evaluate("window.painted = []")
    for done in range(CASES):
        heading = page.locator("#review h1").text_content()
        if ahead:
            expect(page.locator("body")).to_have_attribute("data-ahead", re.compile(r"\d"))
        page.wait_for_timeout(rest)
        page.keyboard.press(key)
        expect(page.locator("#review h1")).not_to_have_text(heading)
        for _ in range(20):  # cold: before the one after it is fetched ahead
            page.wait_for_timeout(20)
            if page.evaluate("window.painted.length") > done:
                break
        assert page.evaluate("window.painted.length") == done + 1
    return list(page.evaluate("window.painted"))


@pytest.mark.timeout(900)
@pytest.mark.django_db(transaction=True)
def test_from_a_key_to_the_next_case(site: Any, person: Any, clean: None, cast: object) -> None:
    for number in range(2 * CASES + 20):  # these are decided: real threads
        pause("support", subject=f"Real {number}")
    capture_all()
    fill(1_000)
    page = person(site(undo=600, worker=False), "rita", stays=False)
    empty = empty_page(page)
    print(f"\n\n1,000 waiting; empty page (/health) in the same Chromium: {empty:.1f} ms median")
    page.goto(Review.objects.waiting().oldest_first().first().get_absolute_url())
    page.evaluate(WATCH)
    for name, key, ahead, rest in (
        ("approve, next fetched ahead", "a", True, 1000),
        ("the same, without a rest", "a", True, 0),
        ("Next, cold", "n", False, 0),
    ):
        median, p95, worst = figures(pressed(page, key, ahead, rest))
        print(
            f"{name:<30} median {median:6.1f} ms ({median / empty:4.1f}), p95 {p95:6.1f} ms"
            f" ({p95 / empty:4.1f}), worst {worst:6.1f} ms"
        )
