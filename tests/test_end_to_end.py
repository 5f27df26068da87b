"""The whole job in Chromium: a paused run is found, edited, approved, resumed and audited."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connections
from playwright.sync_api import Page, expect

from approvals.models import AuditEntry, Decision, Review
from tests.conftest import direct
from tests.test_capture import appears

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("cast")]

TYPED = "Dear Maeve,\n\nyes, pay the rest after the 28th; your credit file stays as it is."


def decided(text: str) -> Decision:
    decision = Decision.objects.get()
    assert decision.edits == {"agent_response": text}
    return decision


def stays(page: Page) -> None:
    """Marks the page as it is; `stayed` fails if it was loaded anew since."""
    page.evaluate("window.never_reloaded = true")


def stayed(page: Page) -> bool:
    return page.evaluate("window.never_reloaded === true")


def steps(page: Page) -> list[str]:
    return page.locator("#standing .nodes li > :first-child").all_inner_texts()


def test_the_main_job(site, person):
    address = site()
    review = appears()
    draft = review.values["agent_response"]
    rita, tom = person(address, "rita", by_hand=True), person(address, "tom")
    row = tom.locator(f"#row-{review.pk}")
    expect(row).to_be_visible()
    stays(tom)

    rita.locator(f"#row-{review.pk}").click()
    expect(rita.get_by_role("heading", level=1)).to_have_text("Missed payment and credit file")
    expect(rita.locator("#reply")).to_have_value(draft)
    expect(rita.locator("#approve")).to_have_accessible_name("Approve")
    rita.locator("#reply").fill(TYPED)
    expect(rita.locator("#redline ins").first).to_be_visible()  # the redline, as one writes
    expect(rita.locator("#redline del").first).to_be_visible()
    rita.locator(".beside label", has_text="Draft").click()  # the original, beside the edit
    expect(rita.locator("#draft .letter")).to_have_text(draft)
    expect(rita.locator("#redline")).to_be_hidden()
    expect(rita.locator("#approve")).to_have_accessible_name("Approve edit")
    rita.locator("#approve").click()

    expect(rita.locator("#undo")).to_be_visible()
    expect(rita.locator("#standing h2")).to_contain_text("pproved")
    stays(rita)
    expect(row).to_have_count(0)  # at tom's, by itself
    expect(rita.locator("#standing h2")).to_have_text("Approved, and the run finished")
    assert steps(rita) == ["approval", "human_approval", "deliver", "Finished"]
    assert stayed(rita)
    assert stayed(tom)
    assert decided(TYPED).state == Decision.State.FINISHED

    ada = person(address, "ada")
    ada.get_by_role("link", name="Audit").click()
    ada.get_by_label("Search the audit").fill("actor:rita action:decided")
    ada.get_by_label("Search the audit").press("Enter")
    ada.get_by_role("link", name="Rita Osei approved with an edit").click()
    change = ada.get_by_role("region", name="Change of agent_response")
    expect(change.locator("ins").first).to_be_visible()
    before, after = _sides(change.locator(".letter"))
    assert " ".join(draft.split()) == before
    assert " ".join(TYPED.split()) == after
    expect(ada.locator(".story")).to_contain_text("Run finished")

    stan = person(address, "stan")
    answer = stan.goto(f"/reviews/{review.pk}/")
    assert answer is not None
    assert answer.status == 404
    assert draft[:30] not in stan.content()


def _sides(letter: Any) -> tuple[str, str]:
    """The text before and the text after, as a redline shows both."""
    sides = []
    for gone in ("ins", "del"):
        text = letter.evaluate(
            """(letter, gone) => {
                const copy = letter.cloneNode(true);
                for (const part of copy.querySelectorAll(gone)) part.remove();
                return copy.textContent;
            }""",
            gone,
        )
        sides.append(" ".join(text.split()))
    return sides[0], sides[1]


def test_a_run_is_seen_node_by_node(site, person):
    address = site()
    review = aside(lambda: appears("scripted", script={"sleep": 4}))
    rita = person(address, "rita")
    rita.goto(f"/reviews/{review.pk}/")
    rita.locator("#approve").click()
    expect(rita.locator("#standing li.running")).to_contain_text("human_approval")
    stays(rita)
    expect(rita.locator("#standing h2")).to_have_text("Approved, and the run finished")
    assert steps(rita) == ["approval", "human_approval", "deliver", "Finished"]
    assert stayed(rita)


def aside(work: Callable[[], Review]) -> Review:
    """On another thread: sync Playwright keeps an event loop in this one."""

    def run() -> Review:
        try:
            return work()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result()


REFUND = {
    "subject": "Teapot in pieces",
    "customer": {
        "name": "Orla Tennant",
        "email": "orla.tennant@brightmail.example",
        "language": "en",
        "reference": "C-2291",
    },
    "messages": [
        {"role": "human", "content": "Please refund order FH-10412 and close my account."}
    ],
}


def test_a_batch_of_tool_calls_is_edited_in_part_and_the_agent_goes_on(site, person):
    address = site()
    review = aside(lambda: appears("refunds", **REFUND))
    rita = person(address, "rita")
    row = rita.locator(f"#row-{review.pk}")
    expect(row).to_contain_text("issue_refund, cancel_account")
    row.click()
    refund = rita.get_by_role("region", name="issue_refund")
    close = rita.get_by_role("region", name="cancel_account")
    refund.locator("label", has_text="Edit").click()
    refund.get_by_label("Amount").fill("12.50")
    close.locator("label", has_text="Reject").click()
    close.get_by_label("Why?").fill("She may keep it.")
    rita.get_by_role("button", name="Send answer").click()
    expect(rita.locator("#standing h2")).to_have_text("Decided, and the run finished")
    expect(refund.locator(".decided")).to_contain_text("Edited")
    expect(refund.locator(".decided ins")).to_contain_text("12.5")
    expect(close.locator(".decided")).to_contain_text("She may keep it.")
    decision = Decision.objects.get()
    edited, rejected = decision.answer["decisions"]
    assert (edited["edited_action"]["args"]["amount"], rejected["type"]) == (12.5, "reject")
    assert decision.state == Decision.State.FINISHED

    ada = person(address, "ada")
    ada.get_by_role("link", name="Audit").click()
    ada.get_by_role("link", name="Rita Osei decided its calls one by one").click()
    expect(ada.locator("#entry")).to_contain_text("She may keep it.")
    expect(ada.locator("#entry")).to_contain_text("12.5")


def test_a_draft_that_was_sent_back_returns_as_a_second_round(site, person):
    address = site()
    review = aside(lambda: appears("scripted"))
    rita = person(address, "rita")
    rita.goto(f"/reviews/{review.pk}/")
    rita.locator("#dock").get_by_role("button", name="Send back").click()
    rita.get_by_role("textbox", name="What should be different?").fill("Name the date.")
    rita.locator("#say-send_back").get_by_role("button", name="Send back").click()
    expect(rita.locator("#standing h2")).to_have_text("Sent back; the run paused again")
    rita.locator("#standing").get_by_role("link", name="round 2").click()
    expect(rita.locator("#main .round")).to_have_text("Round 2")
    expect(rita.locator(".round-before")).to_contain_text("Round 1, sent back by Rita Osei")
    expect(rita.locator(".round-before .note")).to_have_text("Name the date.")
    expect(rita.locator("#reply")).to_have_value("By your note: Name the date.")
    rita.locator("#approve").click()
    expect(rita.locator("#standing h2")).to_have_text("Approved, and the run finished")


def test_a_failed_run_shows_its_error_and_a_retry_that_works(site, person):
    address = site()
    review = aside(lambda: appears("scripted", script={"fail": "The mail gateway is closed."}))
    rita = person(address, "rita")
    rita.goto(f"/reviews/{review.pk}/")
    rita.locator("#approve").click()
    expect(rita.locator("#standing h2")).to_have_text("Approved, but the run failed")
    expect(rita.locator("#standing")).to_contain_text("The mail gateway is closed.")
    direct("INSERT INTO gates VALUES (%s)", review.thread_id)
    rita.get_by_role("button", name="Retry").click()
    expect(rita.locator("#standing h2")).to_have_text("Approved, and the run finished")


def test_undo_in_the_browser_brings_the_text_back(site, person):
    address = site(undo=20)
    review = appears()
    rita = person(address, "rita")
    rita.goto(f"/reviews/{review.pk}/")
    rita.locator("#reply").fill(TYPED)
    rita.locator("#approve").click()
    rita.locator("#undo").get_by_role("button", name="Undo").click()
    expect(rita.locator("#reply")).to_have_value(TYPED)
    expect(rita.locator("#approve")).to_be_visible()
    assert decided(TYPED).state == Decision.State.UNDONE
    review.refresh_from_db()
    assert review.status == Review.Status.WAITING


def test_typed_text_survives_a_reload(site, person):
    address = site()
    review = appears()
    rita = person(address, "rita")
    rita.goto(f"/reviews/{review.pk}/")
    rita.locator("#reply").fill(TYPED)
    rita.reload()
    expect(rita.locator("#reply")).to_have_value(TYPED)
    expect(rita.locator("#redline ins").first).to_be_visible()
    expect(rita.locator("#approve")).to_have_accessible_name("Approve edit")


def test_a_new_review_appears_by_itself_and_a_deleted_thread_leaves(site, person):
    rita = person(site(), "rita")
    expect(rita.get_by_text("Nothing waits")).to_be_visible()
    stays(rita)
    review = appears()
    expect(rita.locator(f"#row-{review.pk}")).to_be_visible()
    direct("DELETE FROM checkpoints WHERE thread_id = %s", review.thread_id)
    expect(rita.get_by_text("Nothing waits")).to_be_visible()
    assert stayed(rita)


def takes(page: Page) -> None:
    """Claims the case: else whoever types first has it."""
    page.locator('[data-act="claim"]:visible').click()
    expect(page.locator("header.case")).to_contain_text("Your turn")


def test_what_one_writes_stays_while_somebody_else_decides(site, person):
    address = site()
    review = appears()
    rita, tom = person(address, "rita"), person(address, "tom")
    for page in (rita, tom):
        page.goto(f"/reviews/{review.pk}/")
    takes(rita)
    tom.locator("#reply").fill(TYPED)
    rita.locator("#approve").click()
    expect(tom.locator("#standing h2")).to_contain_text("pproved")
    expect(tom.locator("#approve")).to_have_count(0)
    expect(tom.locator("#reply")).to_have_value(TYPED)


def conflict(address: str, person: Callable[..., Page], review: Review, **options: Any) -> Page:
    """The page of tom, who was second; rita approved another text a moment ago."""
    rita, tom = person(address, "rita"), person(address, "tom", **options)
    # Tom's live updates are late, else his page would have told him before he pressed.
    tom.route_web_socket("**/nudges", lambda socket: None)
    for page in (rita, tom):
        page.goto(f"/reviews/{review.pk}/")
    takes(rita)
    rita.locator("#reply").fill("Rita wrote this.")
    tom.locator("#reply").fill("Tom wrote that.")
    rita.locator("#approve").click()
    expect(rita.locator("#standing h2")).to_contain_text("pproved")
    tom.locator("#approve").click()
    return tom


def test_the_second_of_two_reviewers_sees_who_was_first_and_both_texts(site, person):
    tom = conflict(site(), person, appears())
    expect(tom.get_by_role("alert")).to_contain_text("Decided by Rita Osei")
    expect(tom.get_by_role("alert")).to_contain_text("your text is kept")
    expect(tom.get_by_role("region", name="Both texts")).to_contain_text("Rita wrote this.")
    expect(tom.get_by_label("Your text, kept")).to_have_value("Tom wrote that.")
    assert decided("Rita wrote this.").actor.username == "rita"
    assert AuditEntry.objects.get(action="refused").actor.username == "tom"


def test_the_core_path_works_without_javascript(site, person):
    address = site()
    review = appears()
    rita = person(address, "rita", by_hand=True, java_script_enabled=False)
    rita.locator(f"#row-{review.pk}").click()
    rita.locator("#reply").fill(TYPED)
    rita.get_by_role("button", name="Show changes").click()
    expect(rita.locator("#redline ins").first).to_be_visible()
    expect(rita.locator("#reply")).to_have_value(TYPED)
    rita.get_by_role("button", name="Approve").click()
    expect(rita.locator("#standing h2")).to_have_text("You approved with an edit")
    # the page asks again by itself while the run goes on
    expect(rita.locator("#standing h2")).to_have_text("Approved, and the run finished")
    assert decided(TYPED).state == Decision.State.FINISHED


PHONE = {"viewport": {"width": 320, "height": 640}}


def overflow(page: Page) -> str:
    """What sticks out to the right, where the page can be scrolled sideways."""
    return page.evaluate(
        """() => document.documentElement.scrollWidth <= window.innerWidth ? "" :
            [...document.querySelectorAll("body *")]
                .filter((one) => one.getBoundingClientRect().right > window.innerWidth + 1)
                .map((one) => `${one.tagName}.${one.className} #${one.id}`).slice(0, 5).join(", ")
                || "something" """
    )
