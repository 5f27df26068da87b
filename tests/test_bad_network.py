"""Whatever the network does to a page, what was typed is kept and what was decided counts once.

One person at work in Chromium, at random and in haste, while requests are late, lost on the way
there or answered in vain. Each character and each decision is told to the test as it happens.
"""

import asyncio
import contextlib
import os
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from playwright.async_api import Page, Response, Route, async_playwright

from approvals.models import AuditEntry, Decision, Draft, DraftRevision
from tests import browser
from tests.test_next_case import aged

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("clean", "cast")]
TEXT = "edit.agent_response"
SEEDS = int(os.environ.get("COUNTERSIGN_SEEDS", "1"))
STEPS = 20 if SEEDS == 1 else 60

# What is typed, case by case; and what is sent, once the page has taken it on.
WATCH = """
  const here = () => Number(document.body.dataset.review);
  document.addEventListener("input", ({ target }) => {
    if (target.id === "reply") happened("typed", here(), target.value, "");
  }, true);
  document.addEventListener("submit", ({ target }) => {
    if (target.id !== "decide") return;
    const [of, text, key] = [here(), target.elements.reply.value, target.elements.key.value];
    setTimeout(() => {
      const isKept = Object.keys(localStorage).some((each) => each.endsWith(key));
      if (isKept) happened("sent", of, text, key);
    });
  }, true);
"""
KEPT_HERE = """() => [...Object.keys(localStorage).filter((each) => each.startsWith("unsent:")),
  ...Object.keys(sessionStorage).filter((each) => each.startsWith("draft:"))]"""


class Hasty:
    """A person who waits for nothing, on a network that may be anything."""

    def __init__(self, page: Page, seed: int) -> None:
        self.page, self.chance = page, random.Random(seed)
        self.typed: dict[int, str] = {}
        self.sent: dict[str, tuple[int, str]] = {}
        self.did: list[str] = []
        self.calm = False

    def happened(self, what: str, case: int, text: str, key: str) -> None:
        self.did.append(f"{what} {case} {text[:20].replace(chr(10), '')!r}")
        if what == "typed":
            self.typed[case] = text
        else:
            self.sent.setdefault(key, (case, text))

    def answered(self, response: Response) -> None:
        if response.request.method == "POST" and "here" not in response.url:
            self.did.append(f"{response.status} {response.url.split('/', 3)[3]}")

    async def network(self, route: Route) -> None:
        kind, luck = route.request.resource_type, self.chance.random()
        pause = self.chance.choice([0.05, 0.3, 0.9, 1.6])
        with contextlib.suppress(Exception):  # the page that asked has gone
            if self.calm or luck < 0.4:
                await route.continue_()
            elif luck < 0.55 or kind == "document":
                await asyncio.sleep(pause)
                await route.continue_()
            elif luck < 0.8:
                answer = await route.fetch()
                await asyncio.sleep(pause)
                await route.fulfill(response=answer)
            elif luck < 0.9:
                await route.abort()
            else:
                await route.fetch()
                await route.abort()

    async def steps(self, number: int) -> None:
        ways = [self.type] * 5 + [self.approve] * 3 + [self.next, self.row, self.undo, self.undo]
        ways += [self.reload, self.back]
        for _ in range(number):
            way = self.chance.choice(ways)
            with contextlib.suppress(Exception):  # not there, covered, or the page is going
                if not await self.page.locator("#review").count():
                    way = self.row
                self.did.append(way.__name__)
                await way()
            await asyncio.sleep(self.chance.choice([0, 0.02, 0.1, 0.5, 1]))

    async def click(self, selector: str) -> None:
        await self.page.locator(selector).first.click(timeout=1000, no_wait_after=True)

    async def type(self) -> None:
        await self.page.locator("#reply").focus(timeout=1000)
        for letter in f" {self.chance.randrange(1000)}":
            await self.page.keyboard.type(letter)
            await asyncio.sleep(self.chance.choice([0, 0.05, 0.2]))

    async def approve(self) -> None:
        await self.click("#approve")

    async def next(self) -> None:
        await self.click("[data-act=next]")

    async def row(self) -> None:
        rows = self.page.locator("a.row")
        await rows.nth(self.chance.randrange(await rows.count())).click(timeout=1000)

    async def undo(self) -> None:
        await self.click("#strip [data-act=undo]")

    async def reload(self) -> None:
        await self.page.reload(wait_until="commit", timeout=4000)

    async def back(self) -> None:
        await self.page.go_back(wait_until="commit", timeout=4000)
        if self.page.url == "about:blank":
            await self.page.goto("/")

    async def rest(self) -> None:
        """The network is well again, and the page opened once more: all is sent."""
        self.calm = True
        await asyncio.sleep(2)
        await self.page.goto("/")
        for _ in range(200):
            if not await self.page.evaluate(KEPT_HERE):
                return
            await asyncio.sleep(0.1)
        raise AssertionError(f"never sent: {await self.page.evaluate(KEPT_HERE)}")


async def work(address: str, session: str, first: str, seed: int) -> Hasty:
    async with async_playwright() as playwright:
        chromium = await browser.launch(playwright)
        context = await chromium.new_context(base_url=address)
        await context.add_cookies([{"name": "sessionid", "value": session, "url": address}])
        page = await context.new_page()
        hasty = Hasty(page, seed)
        await page.expose_function("happened", hasty.happened)
        await page.add_init_script(WATCH)
        await page.goto(first)
        page.on("response", hasty.answered)
        await page.route(lambda url: "/static/" not in url, hasty.network)
        await hasty.steps(STEPS)
        await hasty.rest()
        await chromium.close()
    return hasty


@pytest.mark.parametrize("seed", range(SEEDS))
def test_what_is_typed_is_kept_and_what_is_decided_counts_once(site, as_, cast, seed):
    cases = aged(8)
    session = as_("rita").cookies["sessionid"].value
    address = site(undo=9, worker=False)
    first = cases[0].get_absolute_url()
    with ThreadPoolExecutor(1) as pool:
        hasty = pool.submit(asyncio.run, work(address, session, first, seed)).result()
    wrong = [*unrecorded(hasty), *lost(hasty)]
    standing = list(Decision.objects.exclude(state="undone").values_list("review_id", flat=True))
    if len(standing) != len(set(standing)):
        wrong.append(f"decided twice: {standing}")
    assert not wrong, "\n".join([*wrong, *hasty.did])
    assert hasty.typed


def unrecorded(hasty: Hasty) -> Iterator[str]:
    """What was sent and is no decision with that text, unless it was refused, and so told."""
    for key, (case, text) in hasty.sent.items():
        made = Decision.objects.filter(idempotency_key=key).first()
        if made is None:
            if not AuditEntry.objects.filter(action="refused", review=case):
                yield f"not recorded: {case} {text}"
        elif made.edits.get("agent_response", made.review.values["agent_response"]) != text:
            yield f"another text: {case} {text}"


def lost(hasty: Hasty) -> Iterator[str]:
    """What was typed last in a case and is in no decision, draft or earlier version of one."""
    for case, text in hasty.typed.items():
        kept = [one.edits.get("agent_response") for one in Decision.objects.filter(review=case)]
        kept += [one.fields.get(TEXT) for one in Draft.objects.filter(review=case)]
        kept += [one.fields.get(TEXT) for one in DraftRevision.objects.filter(draft__review=case)]
        if text not in kept:
            yield f"lost: {case} {text}"
