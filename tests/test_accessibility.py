"""For everyone: WCAG 2.2 AA by axe, no sideways scroll, no GET that acts, little to load."""

import gzip
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.contrib.auth import get_user_model
from django.contrib.staticfiles import finders
from django.urls import URLPattern, URLResolver, get_resolver
from playwright.sync_api import Page
from playwright.sync_api import TimeoutError as PlaywrightTimeout

from approvals.models import (
    AuditEntry,
    Decision,
    Draft,
    Mention,
    Note,
    Profile,
    Review,
    SavedReply,
    SavedView,
)
from tests import axe
from tests.conftest import form_of, resume, waiting
from tests.test_end_to_end import aside
from tests.test_question_page import asked
from tests.test_stalled_page import stalled

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("clean")]
LONG = bool(os.environ.get("COUNTERSIGN_AXE"))  # every theme, language and width by every rule
KEEP = 12  # of the pages in German, each so many: their words are judged by test_languages.py
SHADE = 3  # of the pages in the other theme, each so many
NARROW = {"width": 320, "height": 640}
WIDE = {"width": 1280, "height": 800}
JAVASCRIPT, STYLES = 60_000, 20_000  # bytes, gzipped, of all that a page loads


@dataclass
class World:
    """Reviews in every state; addresses by name."""

    waits: Review
    question: Review
    pending: Review
    finished: Review
    failed: Review
    superseded: Review
    broken: Review
    taken: Review
    offers: Review
    checkpoint: str = ""


def decided(client: Any, review: Review, run: bool = True, **fields: Any) -> Review:
    assert client.post(f"/reviews/{review.pk}/decide", form_of(review, **fields)).status_code == 302
    decision = Decision.objects.get(review=review)
    Decision.objects.filter(pk=decision.pk).update(apply_after=decision.decided_at)
    if run:
        resume(decision)
    else:
        Decision.objects.filter(pk=decision.pk).update(apply_after="2099-01-01T00:00Z")
    return review


@pytest.fixture
def world(cast, as_) -> World:
    """Beside the browser, whose loop is in this thread."""
    return aside(lambda: build(cast, as_("rita")))


def build(cast: Any, rita: Any) -> World:
    made = World(
        waits=waiting(),
        question=asked(),
        pending=decided(rita, waiting("scripted"), run=False),
        finished=decided(rita, waiting("scripted"), text="Dear Maeve,\n\nThat is settled."),
        failed=decided(rita, waiting("scripted", script={"fail": "no post today"})),
        superseded=waiting("scripted"),
        broken=stalled(),
        taken=waiting("scripted"),
        offers=waiting("scripted"),
    )
    Review.objects.filter(pk=made.superseded.pk).update(
        status="superseded", ended_because="The thread was deleted by another program."
    )
    Review.objects.filter(pk=made.taken.pk).update(
        claimed_by=cast.tom, claimed_until="2099-01-01T00:00Z"
    )
    made.checkpoint = made.broken.checkpoint_id
    note = Note.objects.create(review=made.waits, author=cast.tom, text="@rita look at the date")
    Mention.objects.create(note=note, user=cast.rita)
    SavedReply.objects.create(title="Thanks", text="Dear {{customer.name}}, thank you.")
    SavedView.objects.create(name="Risky", query="risk=high", owner=cast.rita)
    return made


# Stops of the walk: who, where, and what is done there first


Stop = tuple[str, str, Callable[[Page], Any] | None]


def click(selector: str) -> Callable[[Page], Any]:
    return lambda page: page.locator(selector).first.click()


def press(key: str) -> Callable[[Page], Any]:
    return lambda page: page.keyboard.press(key)


def write(page: Page) -> None:
    page.locator("#reply").fill("Dear Maeve,\n\nYou can pay the rest until the 28th.")
    page.locator("#redline ins").first.wait_for()


def outrun(page: Page) -> None:
    """Another state of the case than the page was made from: the conflict."""
    page.locator("#reply").fill("Dear Maeve,\n\nYou can pay the rest until the 28th.")
    page.evaluate("""() => {
      const form = document.getElementById("decide");
      form.elements.digest.value = "x";
      form.submit();
    }""")
    page.locator("[role=alert]").first.wait_for()


def stops(world: World) -> list[Stop]:
    pages = {
        name: f"/reviews/{one.pk}/" for name, one in vars(world).items() if name != "checkpoint"
    }
    last = AuditEntry.objects.latest("pk").pk
    return [
        ("rita", "/", None),
        ("rita", "/?q=nothing-is-called-that", None),
        ("rita", pages["waits"], write),
        ("rita", pages["offers"], click("[data-act=reject]")),
        ("rita", pages["waits"], press("?")),
        ("rita", pages["waits"], press("Control+k")),
        ("rita", pages["waits"], outrun),
        ("rita", pages["finished"], click("#history details summary")),
        ("rita", pages["question"], None),
        ("rita", pages["pending"], None),
        ("rita", pages["failed"], None),
        ("rita", pages["superseded"], None),
        ("rita", pages["taken"], None),
        ("rita", f"{pages['finished']}compare", None),
        ("rita", "/profile/", None),
        ("rita", "/replies", None),
        ("rita", "/mentions", None),
        ("rita", "/views/", None),
        ("rita", f"{pages['waits']}notes", None),
        ("rita", f"{pages['waits']}drafts", None),
        ("rita", f"{pages['waits']}snooze", None),
        ("rita", f"{pages['waits']}assign", None),
        ("rita", f"{pages['finished']}graph", None),
        ("rita", f"{pages['waits']}value?path=/values", None),
        ("rita", "/nowhere", None),
        ("mara", "/overview", None),
        ("mara", "/stalled/", None),
        ("mara", pages["broken"], None),
        ("mara", f"{pages['broken']}delete", None),
        ("mara", f"{pages['broken']}again/{world.checkpoint}", None),
        ("ada", "/audit/", None),
        ("ada", f"/audit/{last}/?q=nonsense:x", None),
    ]


@pytest.fixture
def walkers(site, person, world) -> dict[str, Page]:
    address = site(undo=600, worker=False)
    made = {}
    for name in ("rita", "mara", "ada"):
        page = person(address, name, viewport=WIDE, reduced_motion="reduce", color_scheme="light")
        page.add_init_script(axe.REFUSED)
        made[name] = page
    return made


def speak(walkers: dict[str, Page], language: str) -> None:
    for page in walkers.values():
        cookie = {"name": "django_language", "value": language, "url": page.url}
        page.context.add_cookies([cookie])


def test_no_page_has_anything_that_axe_or_the_policy_complains_of(walkers, world):
    found: list[str] = []
    strays: set[str] = set()
    for page in walkers.values():
        page.on("request", lambda request: strays.add(urlsplit(request.url).netloc))
    home = urlsplit(walkers["rita"].url).netloc
    places = aside(lambda: stops(world))
    for language in ("en-gb", "de"):
        speak(walkers, language)
        chosen = places if LONG or language == "en-gb" else places[::KEEP]
        for number, (name, path, act) in enumerate(chosen):
            page = walkers[name]
            page.goto(path)
            if act:
                act(page)
            seen = looked_at(page, language, both=LONG or not number % SHADE)
            found += [f"{language} {path}: {one}" for one in seen]
    if found:
        pytest.fail("\n".join(found))
    assert strays - {""} == {home}


def looked_at(page: Page, language: str, both: bool) -> list[str]:
    """All rules in one theme, colours in the other, and a narrow screen, either way round."""
    first, other = ("light", "dark") if language == "en-gb" else ("dark", "light")
    page.emulate_media(color_scheme=first)
    found = axe.violations(page)
    if both:
        page.emulate_media(color_scheme=other)
        rules = [] if LONG else ["color-contrast"]
        found += [f"{other}: {one}" for one in axe.violations(page, *rules)]
    page.set_viewport_size(NARROW)
    found += [
        f"narrow, {way}: {wide}" for way in ("ltr", "rtl") if (wide := axe.sideways(page, way))
    ]
    page.set_viewport_size(WIDE)
    found += [f"moves: {one}" for one in axe.moving(page)]
    return found + [f"refused: {one}" for one in axe.refused(page)]


# Nothing is decided by looking


ROLES = ["rita", "ada", "mara", "stan"]
PART = re.compile(r"<(?:\w+:)?(\w+)>|\(\?P<(\w+)>((?:\([^)]*\)|[^()])*)\)")


def routes(patterns: Any, before: str = "") -> list[str]:
    found = []
    for one in patterns:
        path = before + str(one.pattern).removeprefix("^").removesuffix("$").removesuffix(r"\Z")
        if isinstance(one, URLResolver):
            found += routes(one.url_patterns, path)
        elif isinstance(one, URLPattern):
            found.append(path)
    return found


def addresses(world: World, review: Review) -> list[str]:
    """Every route of the project, its parts filled in with what is there."""
    decision = Decision.objects.get(review=world.pending)
    own = {"checkpoint_id": review.checkpoint_id, "act": "end", "app_label": "approvals"}
    rows = {
        "reviews": review.pk,
        "decisions": decision.pk,
        "replies": SavedReply.objects.get().pk,
        "views": SavedView.objects.get().pk,
        "audit": AuditEntry.objects.earliest("pk").pk,
    }

    def filled(path: str) -> str:
        others = {"object_id": review.pk, "content_type_id": 1, "id": 1, "url": "x"}
        own["pk"] = rows.get(path.partition("/")[0], review.pk)
        return "/" + PART.sub(lambda part: str({**others, **own}[part[1] or part[2]]), path)

    return [filled(path) for path in routes(get_resolver().url_patterns)]


def kept() -> dict[str, Any]:
    """All that people's acts change. Opening a review, and seeing that one was named, is a look."""
    deferred = {"snapshot", "search"}
    columns = [f.attname for f in Review._meta.concrete_fields if f.name not in deferred]
    tables = (Decision, Draft, Note, SavedReply, SavedView, Profile, get_user_model())
    return {
        "reviews": list(Review.objects.order_by("pk").values(*columns)),
        "audit": list(AuditEntry.objects.exclude(action="opened").values_list("pk", "action")),
        **{one.__name__: list(one.objects.order_by("pk").values()) for one in tables},
    }


def test_no_get_changes_anything_whoever_asks_and_whatever_it_carries(world, as_):
    carried = {
        **form_of(world.waits),
        "action": "approve",
        "until": "hour",
        "text": "x",
        "to": "me",
    }
    clients = {name: as_(name) for name in ROLES}
    before = kept()
    assert before["Decision"]
    acts = {path.rpartition("/")[2] for path in addresses(world, world.waits)}
    assert acts >= {"decide", "claim", "undo", "snooze", "end", "next", "notes", "draft"}
    walked = [(name, world.waits, "get") for name in ROLES]
    walked += [("rita", world.question, "get"), ("mara", world.broken, "head")]
    for name, review, method in walked:
        for path in addresses(world, review):
            if name == "mara" or not path.startswith("/admin/"):
                answer = getattr(clients[name], method)(path, carried)
                assert answer.status_code != 500, path
    assert kept() == before


# What is sent


def test_a_page_loads_little_all_of_it_from_here(cast, as_):
    review = waiting()
    page = as_("rita").get(f"/reviews/{review.pk}/").content.decode()
    tags = re.findall(r'<(?:script|link|img)[^>]*(?:src|href)="([^"]+)"', page)
    assert all(address.startswith("/static/") for address in tags)
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*src=)", page)
    scripts = [one for one in tags if one.endswith(".js")]
    sheets = [one for one in tags if one.endswith(".css")]
    assert len(scripts) > 5
    assert sum(map(zipped, scripts)) <= JAVASCRIPT
    assert sum(map(zipped, sheets)) <= STYLES


def zipped(address: str) -> int:
    found = finders.find(address.removeprefix("/static/"))
    assert found, address
    return len(gzip.compress(Path(found).read_bytes()))


# What is said


HEARD = """window.heard = [];
document.addEventListener("DOMContentLoaded", () => {
  const hear = () => {
    const said = document.querySelectorAll("#announce, [role=alert], [role=status], [aria-live]");
    window.heard.push(...[...said].map((each) => each.textContent.trim()).filter(Boolean));
  };
  new MutationObserver(hear).observe(document.body,
    { childList: true, subtree: true, characterData: true });
  hear();
});"""


def heard(page: Page, words: str) -> None:
    said = "(words) => window.heard.some((one) => one.includes(words))"
    try:
        page.wait_for_function(said, arg=words)
    except PlaywrightTimeout:
        pytest.fail(f"{words!r} was not said, but {page.evaluate('[...new Set(heard)]')}")


def test_a_decision_its_undo_and_a_conflict_are_said_in_the_readers_language(site, person, cast):
    review = aside(lambda: (waiting(), waiting())[0])
    page = person(site(undo=600, worker=False), "rita", stays=False, viewport=WIDE)
    speak({"rita": page}, "de")
    page.add_init_script(HEARD)
    page.goto(f"/reviews/{review.pk}/")
    page.locator("#approve").click()
    heard(page, "Aufgezeichnet. Der nächste Fall ist offen.")
    page.locator("#strip [data-act=undo]").click()
    heard(page, "Zurückgenommen")
    page.goto(f"/reviews/{review.pk}/")
    outrun(page)
    heard(page, "Diese Seite zeigt einen älteren Stand des Falls.")
