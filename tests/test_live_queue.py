"""The list in a browser: what comes, is taken or goes moves nothing; many decided by keyboard."""

import re

import pytest
from playwright.sync_api import Page, expect

from approvals.events import nudge
from approvals.models import Decision, Profile, Review
from tests.conftest import form_of, waiting
from tests.queries import crowd
from tests.test_end_to_end import aside
from tests.test_keyboard import press, ready
from tests.test_next_case import aged

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("clean")]


def top_of(page: Page, pk: int) -> float:
    return page.locator(f"#row-{pk}").bounding_box()["y"]


def changed(pk: int, **columns) -> None:
    """A row that another person or program changes."""
    Review.objects.filter(pk=pk).update(**columns)
    nudge(pk, "support")


def test_news_arrive_and_move_nothing_that_is_read(site, person, cast):
    rows = crowd(30)
    page = person(site(worker=False), "rita", viewport={"width": 1280, "height": 700})
    page.goto("/?sort=newest")
    read, selected, above = rows[10].pk, rows[8].pk, rows[25].pk
    page.locator(f"#i-{selected} .sel").click()
    page.locator(f"#row-{read}").focus()
    page.locator(f"#row-{read}").scroll_into_view_if_needed()
    at = top_of(page, read)

    fresh = crowd(1, thread_id="fresh", title="Fresh")[0]
    Review.objects.filter(pk=fresh.pk).update(waiting_since=rows[-1].waiting_since)
    nudge(fresh.pk, "support")
    expect(page.get_by_role("button", name="1 new above")).to_be_visible()
    expect(page.locator("#q-rows li.q-i:not(.gone)")).to_have_count(31)  # none is pushed off
    expect(page).to_have_title("(31) Waiting for a person · Countersign")
    assert page.locator("link[rel=icon]").get_attribute("href").startswith("data:image/svg")
    assert abs(top_of(page, read) - at) <= 1

    for pk in (rows[12].pk, rows[11].pk, rows[9].pk):
        changed(pk, claimed_by=cast.tom, claimed_until="2099-01-01T00:00Z")
        page.locator(f"#row-{pk}.theirs").wait_for()

    changed(above, status="decided")
    expect(page.locator(f"#i-{above}")).to_have_class("q-i gone")  # it stays while this is read
    expect(page).to_have_title("(30) Waiting for a person · Countersign")
    assert abs(top_of(page, read) - at) <= 1
    assert page.evaluate("document.activeElement.id") == f"row-{read}"
    assert page.locator(f"#i-{selected} input").is_checked()

    page.mouse.move(5, 5)
    page.evaluate("document.activeElement.blur()")
    expect(page.locator(f"#i-{above}")).to_have_count(0)
    assert abs(top_of(page, read) - at) <= 1


def test_news_that_come_while_the_page_is_refreshed_are_not_lost(site, person, as_):
    (only,) = aged(1)
    page = person(site(worker=False, undo=9), "rita")
    first = []

    def hold(route):
        if first:
            route.continue_()
        else:
            first.append((route, route.fetch()))

    page.route("**part=state*", hold)
    page.goto(only.get_absolute_url())
    while not first:
        page.wait_for_timeout(20)
    sent = aside(lambda: as_("tom").post(f"{only.get_absolute_url()}decide", form_of(only)))
    assert sent.status_code == 302
    page.wait_for_timeout(400)  # the nudge comes while the answer from before is on its way
    route, answer = first[0]
    route.fulfill(response=answer)
    expect(page.locator("#standing")).to_contain_text("Tom")
    alone = page.locator('[hx-trigger*="nudge:"]:not([hx-target])')
    expect(alone).to_have_count(0)  # what replaces itself forgets what it was asked meanwhile


# The machine's own ways of telling, and a tab that nobody looks at.
ELSEWHERE = """
  window.told = [];
  Object.defineProperty(document, "hidden", { get: () => true });
  window.Notification = class extends EventTarget {
    static permission = "granted";
    constructor(title, { body }) { super(); told.push(`${title}: ${body}`); }
  };
  window.AudioContext = class extends AudioContext {
    constructor() { super(); told.push("sound"); }
  };
"""


def test_who_asked_for_it_is_told_of_a_new_case_while_they_look_elsewhere(site, person, cast):
    page = person(site(worker=False), "rita")
    Profile.objects.filter(user=cast.rita).update(notify=True, sound=True)
    page.context.add_init_script(ELSEWHERE)
    page.reload()
    (fresh,) = crowd(1, title="Charged twice")
    nudge(fresh.pk, "support")
    page.locator(f"#row-{fresh.pk}").wait_for()
    page.wait_for_function("told.length === 2")
    assert page.evaluate("told") == ["A new case waits: Charged twice", "sound"]


def test_two_are_approved_by_keyboard_alone(site, person):
    first, second, third = (waiting() for _ in range(3))
    page = ready(person(site(worker=False), "rita"))
    press(page, "j", "x", "j", "x")
    expect(page.locator("#bulk")).to_contain_text("2 selected")
    page.keyboard.press("a")
    expect(page.get_by_role("heading", name="Approve 2 cases as drafted?")).to_be_visible()
    assert not Decision.objects.exists()
    page.wait_for_function("document.activeElement.textContent === 'Approve them'")
    press(ready(page), "Enter")
    expect(page.get_by_role("heading", name="2 cases approved")).to_be_visible()
    decided = set(Decision.objects.values_list("review_id", "action"))
    assert decided == {(first.pk, "approve"), (second.pk, "approve")}
    assert Review.objects.waiting().get() == third


def test_pages_beside_the_queue_keep_its_count(site, person):
    crowd(3)
    page = person(site(worker=False), "rita")
    page.goto("/profile/")
    expect(page.locator("#nav-count")).to_have_text("3")
    expect(page).to_have_title(re.compile(r"^\(3\) "))
    (fresh,) = crowd(1, title="Fresh", thread_id="fresh")
    nudge(fresh.pk, "support")
    expect(page.locator("#nav-count")).to_have_text("4")
    expect(page).to_have_title(re.compile(r"^\(4\) "))
