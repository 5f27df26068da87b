"""Nothing that somebody types or chooses is lost: in Chromium, with whatever comes between."""

import re
from typing import Any

import pytest
from django.contrib.sessions.models import Session
from playwright.sync_api import Page, expect

from approvals.models import Decision, Draft, Review, SavedReply
from tests.conftest import PASSWORD, eventually
from tests.test_capture import appears
from tests.test_end_to_end import PHONE, aside, overflow, stayed, stays
from tests.test_question_page import CLOSE, FIELDS, REFUND, batch
from tests.test_rolling import NOT_THERE, Web

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("cast")]
WHY = "She did not ask for it.\nSee her letter."


def asked(question: Any = None, schema: Any = None) -> Review:
    question = question or batch(REFUND, CLOSE)
    return aside(lambda: appears("asking", question=question, schema=schema))


def drafted(**state: Any) -> Review:
    return aside(lambda: appears("scripted", **state))


def opened(person: Any, address: str, review: Review, name: str = "rita", **options: Any) -> Page:
    page = person(address, name, **options)
    page.goto(f"/reviews/{review.pk}/")
    return page


def choose(page: Page, call: int, action: str) -> None:
    page.locator(f'[name="call.{call}.action"][value="{action}"]').locator("..").click()


def chosen(page: Page, call: int) -> str:
    radio = f'[name="call.{call}.action"]:checked'
    return page.evaluate("(one) => document.querySelector(one)?.value ?? ''", radio)


def field(page: Page, name: str) -> Any:
    return page.locator(f'[name="{name}"]')


def work_on_the_calls(page: Page) -> None:
    choose(page, 0, "edit")
    field(page, "call.0.args.amount").fill("20.50")
    choose(page, 1, "reject")
    field(page, "call.1.reject").fill(WHY)


def is_still_there(page: Page) -> None:
    for call, action in ((0, "edit"), (1, "reject")):  # on a page that may just be coming
        expect(page.locator(f'[name="call.{call}.action"][value="{action}"]')).to_be_checked()
    expect(field(page, "call.0.args.amount")).to_have_value("20.50")
    expect(field(page, "call.0.args.amount")).to_be_visible()
    expect(field(page, "call.1.reject")).to_have_value(WHY)


# A reload, a nudge, a lost connection


class Line:
    """The socket of a page, which can be cut, as by a server that restarts."""

    def __init__(self, page: Page) -> None:
        self.cut, self.sockets = False, []
        page.route_web_socket("**/nudges", self._open)

    def _open(self, socket: Any) -> None:
        if self.cut:
            socket.close(code=1012)
            return
        socket.connect_to_server()
        self.sockets.append(socket)

    def lose(self) -> None:
        self.cut = True
        self.sockets[-1].close(code=1012)


def test_calls_survive_a_reload_a_nudge_and_a_lost_connection(site, person):
    address = site(worker=False)
    review, other = asked(), drafted()
    rita = person(address, "rita")
    line = Line(rita)
    rita.goto(f"/reviews/{review.pk}/")
    work_on_the_calls(rita)
    rita.reload()
    is_still_there(rita)

    row = rita.locator(f"#row-{other.pk}")
    expect(row).to_be_visible()
    stays(rita)
    tom = opened(person, address, other, "tom")
    tom.locator("#approve").click()
    expect(row).to_have_count(0)
    is_still_there(rita)

    line.lose()
    expect(rita.locator("#lost")).to_be_visible()
    is_still_there(rita)
    line.cut = False
    expect(rita.locator("#lost")).to_be_hidden(timeout=60_000)
    is_still_there(rita)
    assert stayed(rita)


def test_what_was_sent_into_a_dead_connection_is_still_there(site, person):
    address = site(worker=False)
    rita = opened(
        person,
        address,
        asked(),
        expected=("net::ERR_INTERNET_DISCONNECTED", "htmx:afterRequest", "htmx:sendError"),
    )
    work_on_the_calls(rita)
    here = rita.url
    rita.context.set_offline(True)
    rita.locator("#approve").click(no_wait_after=True)
    rita.wait_for_timeout(500)
    rita.context.set_offline(False)
    rita.goto(here)
    is_still_there(rita)
    rita.locator("#approve").click()
    expect(rita.locator("#standing h2")).to_contain_text("You decided its calls one by one")


def test_a_raw_answer_and_a_schemas_survive_a_reload(site, person):
    address = site(worker=False)
    raw, typed = asked("Which warehouse?"), asked({"question": "How is it sent?"}, FIELDS)
    rita = opened(person, address, raw)
    field(rita, "answer").fill('{"go": "no')
    rita.reload()
    expect(field(rita, "answer")).to_have_value('{"go": "no')
    rita.goto(f"/reviews/{typed.pk}/")
    rita.wait_for_timeout(600)
    assert not Draft.objects.filter(review=typed).exists()  # who only looks writes nothing
    field(rita, "answer.days").fill("3")
    field(rita, "answer.insured").select_option("true")
    field(rita, "answer.carrier").select_option("courier")
    field(rita, "answer.remark").fill("By noon.")
    rita.reload()
    for name, value in {"days": "3", "insured": "true", "carrier": "courier"}.items():
        expect(field(rita, f"answer.{name}")).to_have_value(value)
    expect(field(rita, "answer.remark")).to_have_value("By noon.")


def test_reasons_survive_escape_a_reload_and_somebody_elses_decision(site, person):
    address = site(worker=False)
    review, other = drafted(), drafted()
    rita = opened(person, address, review)
    for action, button in {"reject": "Reject", "send_back": "Send back"}.items():
        rita.locator("#dock").get_by_role("button", name=button, exact=True).click()
        words = field(rita, f"text.{action}")
        expect(words).to_be_focused()
        words.fill(f"{action}: {WHY}")
        rita.keyboard.press("Escape")
        expect(words).to_be_hidden()
        expect(words).to_have_value(f"{action}: {WHY}")
    rita.locator("#reply").fill("Dear Maeve, mine.")
    rita.reload()
    stays(rita)
    tom = opened(person, address, other, "tom")
    tom.locator("#approve").click()
    expect(rita.locator(f"#row-{other.pk}")).to_have_count(0)
    for action in ("reject", "send_back"):
        expect(field(rita, f"text.{action}")).to_have_value(f"{action}: {WHY}")
    expect(rita.locator("#reply")).to_have_value("Dear Maeve, mine.")
    assert stayed(rita)


def test_what_is_typed_in_an_open_sheet_stays_while_somebody_else_decides(site, person):
    address = site()
    review = drafted()
    rita = opened(person, address, review)
    rita.locator("#dock").get_by_role("button", name="Reject", exact=True).click()
    field(rita, "text.reject").fill(WHY)
    expect(rita.locator("#kept")).to_contain_text("saved ")
    let_go = Review.objects.filter(pk=review.pk).update  # what she types on, she holds
    aside(lambda: let_go(claimed_by=None, claimed_until=None))
    tom = opened(person, address, review, "tom")
    tom.locator("#approve").click()
    expect(rita.locator("#run-h")).to_be_visible(timeout=20_000)
    expect(field(rita, "text.reject")).to_have_value(WHY)
    expect(field(rita, "text.reject")).to_be_visible()


# Drafts on the server


def saved_as(review: Review, text: str) -> Any:
    """Once the server has it."""
    has = Draft.objects.filter(review=review, **{"fields__edit.agent_response": text}).exists
    return aside(lambda: eventually(has, what=f"{text!r} is on the server"))


def test_a_reload_while_typing_loses_no_character_and_another_device_has_them(site, person):
    address, review, text = site(worker=False), drafted(), "Dear Maeve, not a letter is lost."
    rita = opened(person, address, review)
    reply = rita.locator("#reply")
    reply.fill("")
    reply.press_sequentially(text[:20])
    rita.reload()
    expect(reply).to_have_value(text[:20])
    reply.press("End")
    rita.keyboard.type(text[20:])
    saved_as(review, text)
    expect(rita.locator("#kept")).to_have_text(re.compile(r"^saved \d\d:\d\d:\d\d$"))
    other = opened(person, address, review, java_script_enabled=False)
    expect(other.locator("#reply")).to_have_value(text)


def test_a_web_process_killed_while_somebody_types_costs_no_character(processes, person):
    web, review, text = Web(processes), drafted(), "Dear Maeve, nothing of this is lost."
    web.wait()
    rita = opened(person, web.address, review, expected=NOT_THERE)
    reply, note = rita.locator("#reply"), rita.locator("#kept")
    reply.fill("")
    reply.press_sequentially(text[:18])
    processes.kill(web.child)
    rita.keyboard.type(text[18:])
    expect(note).to_have_text("Not saved on the server yet; kept in this tab")
    web.begin()
    web.wait()
    expect(note).to_contain_text("saved ", timeout=10_000)
    saved_as(review, text)
    expect(reply).to_have_value(text)


def test_two_tabs_keep_both_texts_and_the_person_chooses(site, person):
    address, review = site(worker=False), drafted()
    here = opened(person, address, review)
    there = here.context.new_page()
    there.goto(here.url)
    here.locator("#reply").fill("Written here.")
    saved_as(review, "Written here.")
    there.locator("#reply").fill("Written there.")
    both = there.get_by_role("heading", name="You have written here in another tab as well")
    expect(both).to_be_visible()
    expect(there.locator("#reply")).to_have_value("Written there.")
    there.get_by_role("button", name="Use the other").click()
    expect(both).to_be_hidden()
    expect(there.locator("#reply")).to_have_value("Written here.")
    expect(there.locator("#reply")).to_be_focused()
    there.get_by_text("Earlier versions", exact=True).click()
    there.locator(".earlier summary").first.click()
    expect(there.locator(".earlier .letter").first).to_have_text("Written there.")
    there.get_by_role("button", name="Use this one").first.click()
    expect(there.locator("#reply")).to_have_value("Written there.")
    saved_as(review, "Written there.")


def test_a_sign_out_in_another_tab_keeps_what_is_typed_until_the_next_sign_in(site, person):
    address, review, text = site(worker=False), drafted(), "Typed after the sign-out."
    noise = ["WebSocket", "[object Event]", "net::ERR_FAILED"]
    rita = opened(person, address, review, by_hand=True, expected=noise)
    line = Line(rita)  # the socket would tell it at once
    rita.reload()
    rita.wait_for_load_state("networkidle")  # nothing under way will find out
    assert line.sockets
    rita.route("**/draft", lambda route: route.abort())  # nor is anything saved before it goes
    signed_in = {one["name"]: one["value"] for one in rita.context.cookies()}
    aside(lambda: Session.objects.filter(pk=signed_in["sessionid"]).delete())
    rita.locator("#reply").fill(text)
    rita.get_by_label("Name").fill("rita")
    rita.get_by_label("Password").fill(PASSWORD)
    rita.unroute("**/draft")
    rita.get_by_role("button", name="Sign in").click()
    expect(rita.locator("#reply")).to_have_value(text)
    saved_as(review, text)


# What helps with typing


def test_a_saved_reply_is_picked_by_typing_and_taken_back_by_the_browsers_undo(site, person):
    address, review = site(worker=False), drafted()
    aside(lambda: SavedReply.objects.create(title="Late", text="{{who}}, your order is late."))
    aside(lambda: SavedReply.objects.create(title="Closed", text="It is closed."))
    rita = opened(person, address, review)
    reply, options = rita.locator("#reply"), rita.locator("#replies [role=option]")
    reply.fill("")
    rita.keyboard.type("Hello. and/or /")
    expect(options).to_have_count(2)
    rita.keyboard.type("lat")
    expect(options).to_have_count(1)
    expect(reply).to_have_attribute("aria-activedescendant", re.compile("reply-"))
    rita.keyboard.press("Enter")
    whole = "Hello. and/or Maeve Kilbride, your order is late."
    expect(reply).to_have_value(whole)
    rita.keyboard.press("ControlOrMeta+z")
    expect(reply).to_have_value("Hello. and/or /lat")
    rita.get_by_role("button", name="Saved replies").click()
    expect(options).to_have_count(2)
    rita.keyboard.press("Escape")
    expect(options.first).to_be_hidden()
    expect(reply).to_have_value("Hello. and/or /lat")


def test_a_reason_is_asked_for_in_its_sheet_and_can_be_picked(site, person):
    rita = opened(person, site(worker=False), drafted())
    rita.locator("#dock").get_by_role("button", name="Send back", exact=True).click()
    sheet = rita.locator("#say-send_back")
    sheet.locator("[data-act=confirm]").click()
    expect(sheet.get_by_role("alert")).to_contain_text("Say what should be different")
    expect(field(rita, "text.send_back")).to_be_focused()
    sheet.get_by_role("button", name="Shorter.").click()
    expect(field(rita, "text.send_back")).to_have_value("Shorter.")
    expect(sheet.get_by_role("alert")).to_be_hidden()
    rita.keyboard.press("ControlOrMeta+Enter")
    expect(sheet).to_be_hidden()
    aside(lambda: eventually(Decision.objects.filter(action="send_back").exists))


# Undo


def test_undo_of_a_rejection_brings_the_reason_and_the_edits_back(site, person):
    address = site(worker=False, undo=20)
    review = asked()
    rita = opened(person, address, review)
    work_on_the_calls(rita)
    rita.locator("#approve").click()
    rita.locator("#undo").get_by_role("button", name="Undo").click()
    is_still_there(rita)


def test_another_choice_than_the_one_taken_back_survives_a_reload(site, person):
    """The page comes with the old choices made; the new ones of this tab count."""
    address = site(worker=False, undo=20)
    rita = opened(person, address, asked())
    choose(rita, 0, "approve")
    choose(rita, 1, "approve")
    rita.locator("#approve").click()
    rita.locator("#undo").get_by_role("button", name="Undo").click()
    choose(rita, 0, "edit")
    choose(rita, 1, "reject")
    rita.reload()
    assert (chosen(rita, 0), chosen(rita, 1)) == ("edit", "reject")


# What the browser itself might get in the way of


def test_enter_in_a_field_never_rejects(site, person):
    address = site(worker=False)
    rita = opened(person, address, drafted())
    rita.locator("#dock").get_by_role("button", name="Reject", exact=True).click()
    field(rita, "text.reject").fill(WHY)
    rita.keyboard.press("Escape")
    field(rita, "edit.amount").fill("75")
    rita.keyboard.press("Enter")
    rita.wait_for_url(re.compile(r"/reviews/\d+/"))
    expect(rita.locator("#standing h2")).to_contain_text("pproved")
    assert Decision.objects.get().action == "edit"


def test_a_field_that_is_not_asked_for_does_not_hold_up_the_form(site, person):
    """An argument that was emptied, and then the call rejected: the browser has no say in it."""
    address = site(worker=False)
    rita = opened(person, address, asked())
    choose(rita, 0, "edit")
    field(rita, "call.0.args.amount").fill("")
    choose(rita, 0, "reject")
    field(rita, "call.0.reject").fill(WHY)
    choose(rita, 1, "approve")
    rita.locator("#approve").click()
    expect(rita.locator("#standing h2")).to_contain_text("You decided")


def test_the_copy_button_after_a_conflict_works_or_is_not_there(site, person):
    address = site(worker=False)
    review = asked("Which warehouse?")
    rita, tom = opened(person, address, review), person(address, "tom")
    tom.route_web_socket("**/nudges", lambda socket: None)
    tom.goto(f"/reviews/{review.pk}/")
    for page, text in ((rita, '"hers"'), (tom, '"his"')):
        field(page, "answer").fill(text)
        page.locator("#approve").click()
        if page == rita:
            expect(rita.locator("#standing h2")).to_contain_text("You")
    expect(tom.get_by_role("alert")).to_contain_text("Decided by Rita Osei")
    for button in tom.locator("[data-copy]").all():
        button.click()


# Without JavaScript


def test_calls_are_decided_without_javascript(site, person):
    address = site(worker=False)
    review = asked()
    rita = opened(person, address, review, java_script_enabled=False)
    for radio, value in (("call.0.action", "edit"), ("call.1.action", "reject")):
        rita.locator(f'[name="{radio}"][value="{value}"]').locator("..").click()
    field(rita, "call.0.args.amount").fill("20.5")
    field(rita, "call.1.reject").fill("")
    rita.locator("#approve").click()
    expect(rita.locator("#call-1-wrong")).to_contain_text("Say why")
    expect(field(rita, "call.0.args.amount")).to_have_value("20.5")
    field(rita, "call.1.reject").fill(WHY)
    rita.locator("#approve").click()
    expect(rita.locator("#standing h2")).to_contain_text("You decided its calls one by one")
    decision = Decision.objects.get()
    assert decision.answer["decisions"][1] == {"type": "reject", "message": WHY}


@pytest.mark.parametrize("action", ["reject", "send_back", "respond"])
def test_each_sheet_opens_and_sends_without_javascript(site, person, action):
    address = site(worker=False)
    button = {"reject": "Reject", "send_back": "Send back", "respond": "Respond"}[action]
    rita = opened(person, address, drafted(), java_script_enabled=False)
    rita.locator("#dock").get_by_role("button", name=button, exact=True).click()
    sheet = rita.locator(f"#say-{action}")
    expect(sheet).to_be_visible()
    sheet.get_by_role("button").click()  # nothing written yet
    expect(rita.locator(f"#say-{action}-wrong")).to_be_visible()
    field(rita, f"text.{action}").fill(WHY)
    rita.locator(f"#say-{action}").get_by_role("button").click()
    expect(rita.locator("#standing h2")).to_be_visible()
    assert Decision.objects.get().said["text"] == WHY


# The keyboard and the phone

FOCUSED = """() => {
    const one = document.activeElement, shown = one.closest("label") || one;
    const seen = [one, shown].some((each) => {
        const style = getComputedStyle(each);
        return style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0;
    });
    const words = one.firstChild?.nodeType === 3 ? one.firstChild : one; // without its key
    return [one.name || one.id || words.textContent.trim().slice(0, 30), seen];
}"""


def walk(page: Page, most: int = 120) -> dict[str, bool]:
    """Every control that Tab comes to, and whether one sees that it is there."""
    found: dict[str, bool] = {}
    for _ in range(most):
        page.keyboard.press("Tab")
        name, seen = page.evaluate(FOCUSED)
        found[name] = found.get(name, True) and seen
    return found


def test_every_control_of_a_question_is_reached_by_tab_and_seen(site, person):
    rita = opened(person, site(worker=False), asked())
    choose(rita, 0, "edit")
    choose(rita, 1, "reject")
    found = walk(rita)
    controls = {"call.0.action", "call.1.action", "call.0.args.amount", "call.0.args.order_id"}
    assert {*controls, "call.1.reject", "approve"} <= set(found)
    assert [
        name for name, seen in found.items() if not seen and name in {*controls, "approve"}
    ] == []


def test_a_call_is_decided_by_keyboard_alone(site, person):
    rita = opened(person, site(worker=False), asked(batch(REFUND)))
    rita.locator('[name="call.0.action"]').first.focus()
    rita.keyboard.press("Space")
    rita.keyboard.press("ArrowRight")
    assert chosen(rita, 0) == "edit"
    rita.keyboard.press("ArrowRight")
    assert chosen(rita, 0) == "reject"
    rita.keyboard.press("Tab")
    rita.keyboard.type("No.")
    rita.keyboard.press("Tab")
    expect(field(rita, "call.0.reject")).to_have_value("No.")


def test_the_sheets_are_reached_by_tab_and_give_the_focus_back(site, person):
    rita = opened(person, site(worker=False), drafted())
    found = walk(rita)
    assert {"do-reject", "do-send_back", "do-respond", "approve"} <= set(found)
    button = rita.locator("#dock").get_by_role("button", name="Reject", exact=True)
    button.focus()
    rita.keyboard.press("Enter")
    expect(field(rita, "text.reject")).to_be_focused()
    rita.keyboard.press("Escape")
    expect(button).to_be_focused()


def test_the_window_itself_does_not_scroll_while_calls_are_decided(site, person):
    """The queue and the case have scrollbars of their own; the dock stays where it is."""
    screen = {"viewport": {"width": 1440, "height": 900}}
    rita = opened(person, site(worker=False), asked(batch(*[REFUND] * 6)), **screen)
    for call in range(6):
        choose(rita, call, "edit")
    height = "document.scrollingElement.scrollHeight - window.innerHeight"
    assert rita.evaluate(height) <= 0


def test_no_new_page_scrolls_sideways_on_a_phone(site, person):
    address = site(worker=False)
    long = {
        "name": "issue_refund_for_a_customer_of_the_mail_order_shop",
        "args": {"o" * 60: "x" * 90},
    }
    reviews = [asked(batch(REFUND, long)), asked({"question": "How?"}, FIELDS), asked("W" * 90)]
    rita = person(address, "rita", **PHONE)
    assert overflow(rita) == ""
    for review in reviews:
        rita.goto(f"/reviews/{review.pk}/")
        assert overflow(rita) == "", review.pk
        for radio in rita.locator('[value="edit"]').all():
            radio.locator("..").click()
        assert overflow(rita) == "", review.pk
    rita.goto(f"/reviews/{drafted().pk}/")
    for name in ("Reject", "Send back", "Respond"):
        rita.locator("#dock").get_by_role("button", name=name, exact=True).click()
        assert overflow(rita) == "", name
        rita.keyboard.press("Escape")
