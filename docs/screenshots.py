"""Pictures of the running demo: `make demo` in one terminal, `make shots` in another.

Takes every page at the widths and themes asked for, and writes PNG files to a folder.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from tests.browser import launch

# Cases of which the compliance check found something that a second draft does better.
CRITICISED = re.compile("Charged twice|Long trip, card limit|Fixed rate ends|Fee refund|Dispo")
HEIGHTS = {1440: 900, 1280: 800, 768: 1024, 320: 640}


def main() -> None:
    args = arguments()
    args.to.mkdir(parents=True, exist_ok=True)
    logins = json.loads(args.logins.read_text())
    with sync_playwright() as playwright:
        browser = launch(playwright)
        for theme in args.themes:
            context = browser.new_context(color_scheme=theme, reduced_motion="reduce")
            every = chain(scenes(context, args.address, logins), more_scenes(context, args, logins))
            for name, page in every:
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
    enter(page, address, "ada", logins)
    page.goto(address + "audit/?q=action:decided")
    yield "audit", page
    page.click(".hit >> nth=0")
    yield "audit-entry", page


def more_scenes(
    context: Any, args: argparse.Namespace, logins: dict[str, str]
) -> Iterator[tuple[str, Any]]:
    """Questions, rounds, stalled runs and forks: of the same demo, by real runs and clicks."""
    page = context.new_page()
    enter(page, args.address, "rita", logins)
    yield from question(page, args.address)
    yield from round_two(page, args.address)
    enter(page, args.address, "admin", logins)
    if args.database:
        break_a_run_off(args.database)
        yield from stalled(page, args.address)
    yield from forked(page, args.address)


def question(page: Any, address: str) -> Iterator[tuple[str, Any]]:
    """A batch of tool calls, one edited and one rejected; then an edit of its own. Sends none."""
    open_case(page, address, "refunds", "issue_refund, cancel_account")
    yield "question", page
    choose(page, 0, "edit")
    page.fill('[name="call.0.args.amount"]', "12.50")
    choose(page, 1, "reject")
    page.fill('[name="call.1.reject"]', "She asks about closing it; she does not ask for it yet.")
    page.locator('[name="call.1.reject"]').scroll_into_view_if_needed()
    yield "question-edited", page
    open_case(page, address, "refunds", "issue_refund, issue_refund")
    choose(page, 0, "edit")
    page.locator('[name="call.0.action"]').first.scroll_into_view_if_needed()
    yield "schema-form", page


def round_two(page: Any, address: str) -> Iterator[tuple[str, Any]]:
    """Sends a draft back, and opens what the agent makes of it."""
    open_case(page, address, "support", CRITICISED)
    page.click("#dock >> text=Send back")
    page.fill("#say-send_back textarea", "No promises, please, and nothing from old passages.")
    yield "send-back", page
    page.click("#say-send_back button")
    page.wait_for_selector("#standing a.link", timeout=60_000)
    yield "sent-back", page
    page.click("#standing a.link")
    page.wait_for_selector(".round-before")
    yield "round-2", page


def stalled(page: Any, address: str) -> Iterator[tuple[str, Any]]:
    page.goto(address + "stalled/")
    for _ in range(60):
        if page.locator(".stalls .link").count():
            break
        page.wait_for_timeout(1000)
        page.reload()
    yield "stalled", page
    page.click(".stalls .link >> nth=0")
    yield "stalled-run", page
    page.click("#dock >> text=Continue")
    yield "stalled-continue", page


def forked(page: Any, address: str) -> Iterator[tuple[str, Any]]:
    """Runs a case again from its draft, and compares what came of it with what there was."""
    open_case(page, address, "support", "Thank you")
    page.locator("#history .log details", has_text="retrieve").first.locator("summary").click()
    page.locator(".again .link:visible").first.click()
    yield "run-again", page
    page.click("text=Run again >> nth=-1")
    page.wait_for_selector("#standing a.link", timeout=60_000)
    page.click("#standing a.link")
    page.wait_for_selector("#history .gone")
    page.locator("#history").scroll_into_view_if_needed()
    page.click(".comparing summary")
    yield "history", page
    page.locator('.gone [name="a"]').first.check(force=True)
    page.locator('[name="b"]').first.check(force=True)
    page.click("text=Compare >> nth=-1")
    page.wait_for_selector(".compare")
    yield "compare", page


def open_case(page: Any, address: str, graph: str, words: str | re.Pattern[str]) -> None:
    page.goto(f"{address}?graph={graph}")
    page.locator(".row", has_text=words).first.click()
    page.wait_for_selector("#standing", state="attached")


def choose(page: Any, call: int, action: str) -> None:
    page.locator(f'[name="call.{call}.action"][value="{action}"]').locator("..").click()


def enter(page: Any, address: str, name: str, logins: dict[str, str]) -> None:
    page.context.clear_cookies()
    page.goto(address)
    sign_in(page, name, logins)


def break_a_run_off(database: str) -> None:
    """An agent of its own whose chat model gives no answer: its run fails before any pause."""
    customer = {
        "name": "Orla Tennant",
        "email": "orla.tennant@brightmail.example",
        "language": "en",
        "reference": "C-2291",
    }
    said = {"role": "human", "content": "My teapot came in pieces. Please refund order FH-10412."}
    incoming = {
        "conversation_id": f"shots-{uuid.uuid4().hex[:6]}",
        "customer": customer,
        "subject": "Teapot in pieces, again",
        "messages": [said],
    }
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        file.write(json.dumps(incoming))
        file.flush()
        command = [sys.executable, "-m", "graphs.intake", "--graph", "refunds", "--file", file.name]
        environment = {"DATABASE_URL": database, "REFUNDS_MODEL": "a model that is not there"}
        subprocess.run(command, env={**os.environ, **environment}, check=False)  # noqa: S603


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
    parser.add_argument(
        "--database",
        default=os.environ.get("DATABASE_URL", ""),
        help="the demo's, for the pictures of a run that broke off; without it there are none",
    )
    parser.add_argument("--to", type=Path, default=Path("docs/pictures"))
    parser.add_argument("--widths", type=int, nargs="+", default=[1440])
    parser.add_argument("--themes", nargs="+", default=["light"])
    parser.add_argument("--only", nargs="+", default=[], help="names of scenes to keep")
    return parser.parse_args()


if __name__ == "__main__":
    main()
