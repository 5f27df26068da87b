"""A reviewer's five minutes, recorded: `make demo` in one terminal, `make recording` in another.

Signs in as rita and works through the queue by keyboard alone, as a person would. Writes a
Playwright trace, to be opened with `playwright show-trace`, and prints what each step took from the
key press until the page showed its answer.
"""

import argparse
import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import expect, sync_playwright

from docs.screenshots import sign_in
from tests.browser import launch

A_NUMBER = re.compile(r"\d")
READING = 2_000  # milliseconds that the recorded person looks before they act


class Day:
    """One page and its person; `steps` are (what, milliseconds)."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.steps: list[tuple[str, float]] = []

    def press(self, what: str, key: str, shown: Callable[[], object]) -> None:
        self.page.wait_for_timeout(READING)
        began = time.perf_counter()
        self.page.keyboard.press(key)
        shown()
        self.steps.append((what, (time.perf_counter() - began) * 1000))

    def another_case(self) -> Callable[[], object]:
        heading = self.page.locator("#review h1")
        before = heading.text_content()
        return lambda: expect(heading).not_to_have_text(before)

    def type(self, text: str) -> None:
        self.page.keyboard.type(text, delay=25)


def morning(day: Day) -> None:
    """Next, a clean approval, an edit, an undo, a rejection, and a word to a colleague."""
    page = day.page
    heading = page.locator("#review h1")
    day.press("N: the first case", "n", lambda: expect(heading).to_be_visible())
    expect(page.locator("body")).to_have_attribute("data-ahead", A_NUMBER)
    day.press("A: approved, the next is open", "a", day.another_case())
    reply = page.locator("#reply")
    day.press("E: into the reply", "e", lambda: expect(reply).to_be_focused())
    day.type("\n\nIf anything is unclear, write to us again.")
    expect(page.locator("#redline ins").first).to_be_visible()
    expect(page.locator("body")).to_have_attribute("data-ahead", A_NUMBER)
    title = heading.text_content()
    day.press("Ctrl+Enter: edit approved", "Control+Enter", day.another_case())
    back = lambda: expect(heading).to_have_text(title)  # noqa: E731
    day.press("Ctrl+Z: taken back, with its text", "Control+z", back)
    expect(reply).to_have_value(re.compile("write to us again"))
    day.press("A: approved after all", "a", day.another_case())
    day.press("R: why not?", "r", lambda: expect(page.locator("#say-reject")).to_be_visible())
    day.type("It promises an outcome that nobody has checked.")
    day.press("Ctrl+Enter: rejected", "Control+Enter", day.another_case())
    note = page.locator("#notes textarea, textarea[name=text]").last
    day.press("M: a note", "m", lambda: expect(note).to_be_focused())


def afternoon(day: Day) -> None:
    """The list, the palette, the sheet of keys."""
    page = day.page
    page.keyboard.press("Escape")
    page.locator("body").click(position={"x": 4, "y": 300})
    sheet = page.locator("dialog[open]")
    day.press("?: every key", "?", lambda: expect(sheet).to_be_visible())
    day.press("Escape", "Escape", lambda: expect(sheet).to_be_hidden())
    day.press("J: the case below", "j", day.another_case())
    day.press("Ctrl+K: the palette", "Control+k", lambda: expect(sheet).to_be_visible())
    day.type("overview")
    day.press("Enter: how the team does", "Enter", lambda: page.wait_for_url("**/overview*"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", default=f"http://127.0.0.1:{os.environ.get('PORT', 8000)}/")
    parser.add_argument("--logins", type=Path, default=Path(".data/demo-logins.json"))
    parser.add_argument("--to", type=Path, default=Path("five-minutes.zip"))
    args = parser.parse_args()
    with sync_playwright() as playwright:
        browser = launch(playwright)
        context = browser.new_context(viewport={"width": 1280, "height": 800})
        context.tracing.start(screenshots=True, snapshots=True, title="A reviewer's five minutes")
        page = context.new_page()
        page.goto(args.address)
        sign_in(page, "rita", json.loads(args.logins.read_text()))
        day = Day(page)
        try:
            morning(day)
            afternoon(day)
        finally:
            context.tracing.stop(path=args.to)
            browser.close()
    for what, milliseconds in day.steps:
        print(f"{milliseconds:8.0f} ms  {what}")
    print(f"\nTrace: {args.to}; open it with: python -m playwright show-trace {args.to}")


if __name__ == "__main__":
    main()
