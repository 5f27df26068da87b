"""Pictures of the running demo: `make demo` in one terminal, `make shots` in another.

Takes every page at the widths and themes asked for, and writes PNG files to a folder; with
`--every` at four widths and in both themes, and a page that shows them all. It decides, snoozes and
claims cases of the demo as it goes: what a second run finds is what the first one left.
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
HEIGHTS = {1920: 1080, 1440: 900, 1280: 800, 768: 1024, 320: 640}
# What a scene is about moves out of sight when the width changes.
IN_VIEW = """() => {
  const here = document.querySelector("#replies:not([hidden]), #versions[open], #history:target");
  here?.scrollIntoView({ block: "nearest" });
}"""
Scenes = Iterator[tuple[str, Any]]


def main() -> None:
    args = arguments()
    args.to.mkdir(parents=True, exist_ok=True)
    logins = json.loads(args.logins.read_text())
    with sync_playwright() as playwright:
        browser = launch(playwright)
        for theme in args.themes:
            context = browser.new_context(color_scheme=theme, reduced_motion="reduce")
            every = chain(
                scenes(context, args.address, logins),
                more_scenes(context, args, logins),
                desk_scenes(context, args.address, logins),
            )
            for name, page in every:
                if args.only and name not in args.only:
                    continue
                for width in args.widths:
                    page.set_viewport_size({"width": width, "height": HEIGHTS.get(width, 900)})
                    page.evaluate(IN_VIEW)
                    page.wait_for_timeout(150)
                    page.screenshot(path=args.to / f"{name}-{theme}-{width}.png")
                widen(page)
            context.close()
        if args.every:
            contact_sheet(browser, args.to)
        browser.close()


def contact_sheet(browser: Any, folder: Path) -> None:
    """All pictures of the folder on one page, a row each scene: index.html, and a picture of it."""
    rows: dict[str, list[str]] = {}
    for picture in sorted(folder.glob("*-*-*.png")):
        rows.setdefault(picture.name.rsplit("-", 2)[0], []).append(picture.name)
    pictures = "".join(
        f"<h2>{scene}</h2><p>{''.join(f'<img height=300 src={name}> ' for name in names)}</p>"
        for scene, names in rows.items()
    )
    style = "body{font:14px sans-serif;background:#ddd}p{white-space:nowrap}"
    (folder / "index.html").write_text(f"<!doctype html><style>{style}</style>{pictures}")
    page = browser.new_page(viewport={"width": 2400, "height": 1000})
    page.goto((folder / "index.html").resolve().as_uri())
    page.screenshot(path=folder / "contact-sheet.png", full_page=True)
    page.close()


def scenes(context: Any, address: str, logins: dict[str, str]) -> Scenes:
    """Every page in the order of a case's life. Decides one case of the demo, with an edit."""
    page = context.new_page()
    page.goto(address)
    yield "sign-in", page
    page.fill("#id_username", "rita")
    page.fill("#id_password", "not it")
    page.click("text=Sign in >> nth=-1")
    yield "sign-in-wrong", page
    sign_in(page, "rita", logins)
    stay(page, address, on=True)
    page.goto(address)
    yield "inbox", page
    told = page.locator(".row", has_text="Complaint")  # a case with findings, where one waits
    (told.first if told.count() else page.locator(".row").first).click()
    yield "review", page
    late = other_window(context, address, logins, page.url)  # before she has it by writing
    edit(page)
    page.wait_for_timeout(1500)  # until it is kept
    page.evaluate("document.getElementById('main').scrollTo(0, 0)")
    yield "edited", page
    page.click("#approve")
    page.wait_for_selector(".run")
    yield "decided", page
    late.click("#approve")
    late.wait_for_selector("#mine")
    yield "conflict", late
    page.wait_for_selector("text=Approved, and the run finished", timeout=30_000)
    yield "finished", page
    stay(page, address, on=False)
    enter(page, address, "ada", logins)
    page.goto(address + "audit/?q=action:decided")
    yield "audit", page
    page.click(".hit >> nth=0")
    yield "audit-entry", page


def more_scenes(context: Any, args: argparse.Namespace, logins: dict[str, str]) -> Scenes:
    """Questions, rounds, stalled runs and forks: of the same demo, by real runs and clicks."""
    page = context.new_page()
    enter(page, args.address, "rita", logins)
    stay(page, args.address, on=True)
    yield from question(page, args.address)
    yield from round_two(page, args.address)
    stay(page, args.address, on=False)
    enter(page, args.address, "admin", logins)
    if args.database:
        break_a_run_off(args.database)
        yield from stalled(page, args.address)
    yield from forked(page, args.address)


def desk_scenes(context: Any, address: str, logins: dict[str, str]) -> Scenes:
    """The reviewer's day: lists, sheets, colleagues, the strip; then pages of one's own."""
    page = context.new_page()
    enter(page, address, "rita", logins)
    yield from at_the_list(page, address)
    yield from at_a_case(page, address)
    yield from together(page, other_page(context, address, logins), address)
    yield from strip(page, address)
    yield from of_ones_own(page, address)


def at_the_list(page: Any, address: str) -> Scenes:
    page.goto(address + "?q=risk:high")
    page.click(".q-tools summary >> nth=0")
    yield "inbox-filtered", page
    page.goto(address + "?q=nobody-writes-this")
    yield "inbox-empty", page
    page.goto(address)
    if not page.locator(".sel").first.is_visible():
        page.check("#selecting")
    for row in (1, 2):
        page.locator(".sel input").nth(row).check()
    yield "inbox-selected", page
    page.click(".q-bulk >> text=Approve")
    page.wait_for_selector(".results")
    yield "bulk-confirm", page


def at_a_case(page: Any, address: str) -> Scenes:
    """Its sheets: why it is rejected, until when it is put off, for whom, which saved reply."""
    page.goto(address + "replies")
    page.fill('[name="title"]', "We call you back")
    page.fill('[name="text"]', "Dear {{customer.name}},\n\nWe call you back within a day.")
    page.click("#main .btn.pri")
    open_case(page, address, "support", CRITICISED)
    if page.locator('[data-act="claim"]').count():  # else a run before this one left it hers
        page.click('[data-act="claim"]')
    page.wait_for_selector(".turn")
    yield "mine", page
    page.click('[data-act="reject"]')
    yield "reason", page
    page.keyboard.press("Escape")
    for act in ("snooze", "assign"):
        widen(page)
        page.click(f'[data-act="{act}"]')
        page.wait_for_selector("dialog[open]")
        yield act, page
        page.keyboard.press("Escape")
    edit(page)
    page.wait_for_timeout(1500)
    page.click('[data-act="replies"]')
    page.wait_for_selector("#replies [role=option]")
    yield "saved-replies-picker", page
    page.keyboard.press("Escape")
    page.click("#versions summary")
    page.wait_for_timeout(600)
    yield "earlier-versions", page
    page.keyboard.press("Control+k")
    page.wait_for_selector("#palette[open]")
    yield "palette", page
    page.keyboard.press("Escape")
    page.locator("h1").click()
    page.keyboard.press("?")
    page.wait_for_selector("#keys[open]")
    yield "keys", page
    page.keyboard.press("Escape")
    page.click(".enlarge a")
    page.wait_for_selector(".graph-frame")
    yield "graph", page
    page.go_back()


def together(page: Any, other: Any, address: str) -> Scenes:
    """Rita holds the case; Tom sees so, asks for it, and writes her a note."""
    page.wait_for_selector(".turn")
    other.goto(page.url)
    yield "held", other
    other.fill("#note", "@rita the branch has answered; see the complaint file.")
    other.click("text=Add note")
    other.wait_for_selector(".note-list > *")
    yield "notes", other
    other.click('[data-act="ask"]')
    other.wait_for_selector(".claim-note")
    yield "asking", other
    page.wait_for_selector(".asks")
    yield "asked", page
    page.click('[data-act="keep"]')
    page.goto(address + "mentions")
    yield "mentions", page
    other.context.close()


def strip(page: Any, address: str) -> Scenes:
    """What the strip says of the case before, while the next one is open."""
    open_case(page, address, "support", re.compile("."))
    page.click("#approve")
    page.wait_for_selector("#undo[data-left]:not([data-left='0'])")
    yield "strip-countdown", page
    page.wait_for_selector("#undo[data-state='finished']", timeout=60_000)
    yield "strip-finished", page
    deaf = page.context.new_page()
    deaf.route_web_socket("**/nudges", lambda socket: socket.close())
    deaf.goto(page.url)
    deaf.wait_for_selector("#lost:not([hidden])", timeout=60_000)
    yield "not-live", deaf
    deaf.close()


def of_ones_own(page: Any, address: str) -> Scenes:
    for name, path in {
        "overview": "overview",
        "profile": "profile/",
        "replies": "replies",
        "views": "views/",
        "not-found": "not-here",
    }.items():
        page.goto(address + path)
        yield name, page


def question(page: Any, address: str) -> Scenes:
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


def round_two(page: Any, address: str) -> Scenes:
    """Sends a draft back, and opens what the agent makes of it."""
    open_case(page, address, "support", CRITICISED)
    page.click("#dock >> text=Send back")
    page.fill("#say-send_back textarea", "No promises, please, and nothing from old passages.")
    yield "send-back", page
    page.click("#say-send_back [data-act=confirm]")
    page.wait_for_selector("#standing a.link", timeout=60_000)
    yield "sent-back", page
    page.click("#standing a.link")
    page.wait_for_selector(".round-before")
    yield "round-2", page


def stalled(page: Any, address: str) -> Scenes:
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


def forked(page: Any, address: str) -> Scenes:
    """Runs a case again from its draft, and compares what came of it with what there was."""
    open_case(page, address, "support", "Thank you")
    page.locator("#history .log details", has_text="retrieve").first.locator("summary").click()
    page.locator(".again .link:visible").first.click()
    yield "run-again", page
    page.click("text=Run again >> nth=-1")
    page.wait_for_selector("#standing a.link", timeout=60_000)
    page.click("#standing a.link")
    page.wait_for_selector("#history .gone")
    page.evaluate("document.getElementById('history').scrollIntoView()")
    page.click(".comparing summary")
    yield "history", page
    page.locator('.gone [name="a"]').first.check(force=True)
    page.locator('[name="b"]').first.check(force=True)
    page.click("text=Compare >> nth=-1")
    page.wait_for_selector(".compare")
    yield "compare", page


def open_case(page: Any, address: str, graph: str, words: str | re.Pattern[str]) -> None:
    page.goto(f"{address}?graph={graph}")
    page.locator(".row:not(.theirs)", has_text=words).first.click()
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


def other_page(context: Any, address: str, logins: dict[str, str]) -> Any:
    """Tom's window, in the same theme."""
    dark = context.pages[0].evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    page = context.browser.new_context(color_scheme="dark" if dark else "light").new_page()
    enter(page, address, "tom", logins)
    return page


def stay(page: Any, address: str, *, on: bool) -> None:
    """Whether a decision leaves its case open, to look at its run, or moves on to the next one."""
    page.goto(address + "profile/")
    page.get_by_label("Stay on a case that I decided").set_checked(on)
    page.click("#main .btn.pri")


def widen(page: Any) -> None:
    """Where every button of the dock is in sight."""
    page.set_viewport_size({"width": 1440, "height": 900})


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
    parser.add_argument(
        "--every", action="store_true", help="four widths, both themes, and a page of them all"
    )
    args = parser.parse_args()
    if args.every:
        args.widths, args.themes = [1920, 1280, 768, 320], ["light", "dark"]
    return args


if __name__ == "__main__":
    main()
