"""What a person asks for and the server does not answer: said, asked again, and nothing lost."""

import pytest
from django.contrib.sessions.models import Session
from playwright.sync_api import expect

from approvals.models import Decision, Note
from tests.conftest import PASSWORD, eventually
from tests.test_next_case import aged, fetched_ahead

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("clean", "cast")]
NO_ANSWER = "The server does not answer"
OFFLINE = ["net::ERR_", "htmx:", "[object Event]"]


def test_what_a_dead_connection_keeps_from_a_person_is_said_and_works_when_it_is_back(site, person):
    first, second = aged(2)
    rita = person(site(worker=False), "rita", stays=False, expected=OFFLINE)
    rita.goto(second.get_absolute_url())
    fetched_ahead(rita, first)
    rita.get_by_role("button", name="Next").click()
    expect(rita.locator("h1")).to_have_text(first.title)
    told = rita.locator(".told")
    rita.wait_for_load_state("networkidle")

    def fails(act):
        rita.evaluate("document.querySelector('.told')?.remove()")
        act()
        expect(told).to_contain_text(NO_ANSWER)
        expect(rita.locator("h1")).to_have_text(first.title)
        assert "busy" not in rita.evaluate("Object.keys(document.body.dataset)")

    rita.context.set_offline(True)
    rita.fill("#note", "Ask Tom.")
    fails(lambda: rita.get_by_role("button", name="Add note").click())
    fails(lambda: rita.get_by_role("button", name="Next").click())
    fails(lambda: rita.click(f"#row-{second.pk}"))
    fails(lambda: rita.go_back())
    assert rita.url.endswith(first.get_absolute_url())

    rita.context.set_offline(False)
    rita.get_by_role("button", name="Add note").click()
    expect(rita.locator("#note-list .pre")).to_have_text("Ask Tom.")
    rita.click(f"#row-{second.pk}")
    expect(rita.locator("h1")).to_have_text(second.title)


def test_a_note_loses_nothing_to_a_sign_out_or_to_what_is_typed_while_it_is_sent(site, person):
    (only,) = aged(1)
    rita = person(site(worker=False), "rita", expected=["WebSocket", "[object Event]"])
    rita.goto(only.get_absolute_url())
    rita.wait_for_load_state("networkidle")  # nothing under way will find out
    rita.fill("#note", "Ask Tom")
    Session.objects.all().delete()
    rita.get_by_role("button", name="Add note").click()
    rita.get_by_label("Name").fill("rita")
    rita.get_by_label("Password").fill(PASSWORD)
    rita.get_by_role("button", name="Sign in").click()
    expect(rita.locator("#note")).to_have_value("Ask Tom")

    sent = []
    rita.route("**/notes", lambda route: sent.append(route))
    rita.locator("#note").press("Control+Enter")
    while not sent:
        rita.wait_for_timeout(20)
    rita.locator("#note").press_sequentially(", or Ann.")
    sent[0].continue_()
    expect(rita.locator("#note")).to_have_value(", or Ann.")
    rita.reload()
    expect(rita.locator("#note")).to_have_value(", or Ann.")
    assert [one.text for one in Note.objects.all()] == ["Ask Tom"]


def test_a_decision_that_a_frozen_process_holds_is_sent_again(site, person):
    first, second = aged(2)
    rita = person(site(undo=9, worker=False), "rita", stays=False, expected=OFFLINE)
    rita.clock.install()
    rita.goto(first.get_absolute_url())
    fetched_ahead(rita, second)
    held = []
    rita.route("**/decide", lambda route: route.continue_() if held else held.append(route))
    rita.click("#approve")
    expect(rita.locator("h1")).to_have_text(second.title)
    while not held:
        rita.wait_for_timeout(20)
    rita.clock.fast_forward(31_000)
    expect(rita.locator(".told")).to_contain_text("Not sent yet")
    rita.clock.fast_forward(2_000)
    expect(rita.locator("#undo")).to_contain_text("Applied in")
    eventually(lambda: Decision.objects.get().review == first)
