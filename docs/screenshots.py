"""Pictures of the running demo: `make demo` in one terminal, `make shots` in another.

Takes every page at the widths and themes asked for, and writes PNG files to a folder.
"""

import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from tests.browser import launch

HEIGHTS = {1440: 900, 1280: 800, 768: 1024, 320: 640}


def main() -> None:
    args = arguments()
    args.to.mkdir(parents=True, exist_ok=True)
    logins = json.loads(args.logins.read_text())
    with sync_playwright() as playwright:
        browser = launch(playwright)
        for theme in args.themes:
            context = browser.new_context(color_scheme=theme, reduced_motion="reduce")
            for name, page in scenes(context, args.address, logins):
                if args.only and name not in args.only:
                    continue
                for width in args.widths:
                    page.set_viewport_size({"width": width, "height": HEIGHTS.get(width, 900)})
                    page.wait_for_timeout(150)
                    page.screenshot(path=args.to / f"{name}-{theme}-{width}.png")
            context.close()
        browser.close()


def scenes(context: Any, address: str, logins: dict[str, str]) -> Iterator[tuple[str, Any]]:
    """Every page in the order of a case's life. Decides one case of the demo, with an edit."""
    page = context.new_page()
    page.goto(address)
    yield "sign-in", page
    sign_in(page, "rita", logins)
    yield "inbox", page
    told = page.locator(".row", has_text="Complaint")  # a case with findings, where one waits
    (told.first if told.count() else page.locator(".row").first).click()
    yield "review", page
    edit(page)
    yield "edited", page
    late = other_window(context, address, logins, page.url)
    page.click("#approve")
    page.wait_for_selector(".run")
    yield "decided", page
    late.click("#approve")
    late.wait_for_selector("#mine")
    yield "conflict", late
    page.wait_for_selector("text=Approved, and the run finished", timeout=30_000)
    yield "finished", page
    page.context.clear_cookies()
    page.goto(address)
    sign_in(page, "ada", logins)
    page.goto(address + "audit/?q=action:decided")
    yield "audit", page
    page.click(".hit >> nth=0")
    yield "audit-entry", page


def other_window(context: Any, address: str, logins: dict[str, str], url: str) -> Any:
    """Tom, with the same case open and an edit of his own. Without scripts: not told in time."""
    dark = "matchMedia('(prefers-color-scheme: dark)').matches"
    theme = "dark" if context.pages[0].evaluate(dark) else "light"
    other = context.browser.new_context(color_scheme=theme, java_script_enabled=False)
    page = other.new_page()
    page.goto(address)
    sign_in(page, "tom", logins)
    page.goto(url)
    page.fill("#reply", page.input_value("#reply").replace(",", " again,", 1))
    return page


def edit(page: Any) -> None:
    text = page.input_value("#reply")
    page.fill(
        "#reply",
        text.replace("promise", "will make sure", 1).replace(
            "\n\n", "\n\nThank you for your patience. ", 1
        ),
    )
    page.wait_for_selector('[data-changed="yes"]')


def sign_in(page: Any, name: str, logins: dict[str, str]) -> None:
    page.fill("#id_username", name)
    page.fill("#id_password", logins[name])
    page.click("text=Sign in >> nth=-1")
    page.wait_for_selector(".nav")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", default=f"http://127.0.0.1:{os.environ.get('PORT', 8000)}/")
    parser.add_argument("--logins", type=Path, default=Path(".data/demo-logins.json"))
    parser.add_argument("--to", type=Path, default=Path("docs/pictures"))
    parser.add_argument("--widths", type=int, nargs="+", default=[1440])
    parser.add_argument("--themes", nargs="+", default=["light"])
    parser.add_argument("--only", nargs="+", default=[], help="names of scenes to keep")
    return parser.parse_args()


if __name__ == "__main__":
    main()
