"""Reject, send back and respond by their pages: each with its words, which are never lost."""

import re
from typing import Any

import psycopg
import pytest
from pytest_django.asserts import assertContains, assertNotContains

from approvals.events import CHANNEL, payload
from approvals.models import AuditEntry, Decision, Review
from approvals.registry import registry
from approvals.savers import joined
from tests.conftest import capture_all, resume, test_url, waiting
from tests.posting import Sent
from tests.queries import counted_queries, listed
from tests.test_question_page import page_of, read_only
from tests.test_review_page import HOSTILE, MOST_QUERIES, alive, words

pytestmark = pytest.mark.django_db
WHY = "The sum is wrong: see her letter of the 3rd."
REPLY = "edit.agent_response"
ACTIONS = ["reject", "send_back", "respond"]


def state_of(review: Review) -> dict[str, Any]:
    config: Any = {"configurable": {"thread_id": review.thread_id}}
    return dict(joined(registry().graphs["scripted"]).get_state(config).values)


def act(client: Any, review: Review, action: str, text: str = WHY, **more: str) -> Any:
    """Presses the button of an action on the page, its words filled in."""
    page = page_of(client, review)
    assert ("action", action) in Sent(page).buttons
    return press(client, page, {f"text.{action}": text, **more}, action)


def press(client: Any, page: Any, given: dict[str, str], action: str = "") -> Any:
    form = Sent(page)
    return client.post(form.action, {**form.also(given), **({"action": action} if action else {})})


def second_round(as_: Any, text: str = WHY, **state: Any) -> Review:
    """The review that comes of sending the first back."""
    review = waiting("scripted", **state)
    assert act(as_("rita"), review, "send_back", text).status_code == 302
    resume(Decision.objects.get(review=review))
    capture_all()
    return Review.objects.waiting().get(thread_id=review.thread_id)


def entry_of(as_: Any, **about: Any) -> str:
    entry = AuditEntry.objects.filter(**about).latest("pk")
    return words(as_("ada").get(f"/audit/{entry.pk}/"))


# What the page has


def test_the_page_offers_what_reviews_toml_configures(as_):
    page = page_of(as_("rita"), waiting("scripted"))
    html = page.content.decode()
    for action in ACTIONS:
        assert f'popovertarget="say-{action}"' in html
        assert re.search(rf'id="say-{action}"[^>]* popover', html)
    assert sorted(Sent(page).buttons) == sorted(
        [("", ""), ("", ""), *(("action", a) for a in ACTIONS)]
    )  # Approve is there twice: hidden before all others, for Enter


def test_a_graph_that_configures_none_offers_approval_alone(as_):
    review = waiting()
    page = page_of(as_("rita"), review)
    assertNotContains(page, 'popovertarget="say-')
    form = Sent(page)
    sent = {**form.fields, "action": "reject", "text.reject": WHY}
    refused = as_("rita").post(form.action, sent)
    assertContains(refused, "This graph does not offer that here.", status_code=422)
    assert not Decision.objects.exists()


def test_enter_in_a_field_approves(as_):
    """A browser presses the first submit button of the form for it."""
    assert Sent(page_of(as_("rita"), waiting("scripted"))).buttons[0] in [
        ("", ""),
        ("action", "approve"),
    ]


def test_an_unknown_action_is_refused(as_):
    page = page_of(as_("rita"), waiting("scripted"))
    refused = press(as_("rita"), page, {REPLY: "Mine."}, "shred")
    assertContains(refused, "There is no such action.", status_code=422)
    assert Sent(refused).fields[REPLY] == "Mine."


# What each does


@pytest.mark.usefixtures("clean")
def test_a_rejection_ends_the_run_and_says_why(as_):
    review = waiting("scripted")
    assert act(as_("rita"), review, "reject").status_code == 302
    decision = Decision.objects.get()
    resume(decision)
    state = state_of(review)
    assert (state["note"], state["status"]) == (WHY, "rejected")
    assert "deliver" not in state["log"]
    page = page_of(as_("rita"), review)
    assertContains(page, "Rejected, and the run finished")
    assertContains(page, WHY)
    assertContains(page, "The draft that was rejected")
    assertContains(page, "no node runs after this")
    assert "Rita Osei rejected it" in words(as_("ada").get("/audit/"))
    assert WHY in entry_of(as_, action="decided")


@pytest.mark.usefixtures("clean")
def test_an_answer_goes_out_in_the_agents_place(as_):
    review = waiting("scripted")
    assert act(as_("rita"), review, "respond", "Dear Maeve,\n\nI answer you.").status_code == 302
    resume(Decision.objects.get())
    state = state_of(review)
    assert state["agent_response"] == "Dear Maeve,\n\nI answer you."
    assert state["log"] == ["draft", "deliver"]
    page = page_of(as_("rita"), review)
    assertContains(page, "Answered, and the run finished")
    assertContains(page, "As answered")
    assertContains(page, "I answer you.")
    assert "Rita Osei answered it" in words(as_("ada").get("/audit/"))


@pytest.mark.usefixtures("clean")
def test_what_was_sent_back_returns_as_a_second_round_with_the_feedback(as_):
    review = waiting("scripted")
    second = second_round(as_)
    first = Review.objects.exclude(pk=second.pk).get(thread_id=second.thread_id)
    page = page_of(as_("tom"), second)
    said = words(page)
    assert "Round 2" in said
    assert "Round 1, sent back by Rita Osei" in said
    assertContains(page, f'<blockquote dir="auto" class="note">{WHY}</blockquote>')
    assert "What the agent changed" in said
    assert "Dear Maeve, We have noted your plan." in said  # the earlier draft
    assert Sent(page).fields[REPLY] == f"By your note: {WHY}"
    before = page_of(as_("rita"), first)
    assertContains(before, "Sent back; the run paused again")
    assertContains(before, f'href="/reviews/{second.pk}/">round 2</a>')
    assert review.pk != second.pk


@pytest.mark.usefixtures("clean")
def test_the_page_of_the_first_round_is_told_when_the_second_is_there(as_):
    """The run has paused by then, and nothing else would make the page look again."""
    review = waiting("scripted")
    act(as_("rita"), review, "send_back")
    resume(Decision.objects.get())
    with psycopg.connect(test_url(), autocommit=True) as conn:
        conn.execute(f"LISTEN {CHANNEL}")
        capture_all()
        told = [note.payload for note in conn.notifies(timeout=1)]
    second = Review.objects.waiting().get(thread_id=review.thread_id)
    assert {payload(one.pk, "scripted") for one in (review, second)} <= set(told)


@pytest.mark.usefixtures("clean")
def test_the_queue_says_that_it_is_the_second_round(as_):
    second_round(as_)
    assert "Round 2" in words(as_("rita").get("/"))


@pytest.mark.usefixtures("clean")
def test_a_round_in_which_the_agent_changed_nothing_says_so(as_):
    second = second_round(as_)
    act(as_("tom"), second, "send_back", WHY)
    resume(Decision.objects.get(review=second))
    capture_all()
    third = Review.objects.waiting().get(thread_id=second.thread_id)
    page = page_of(as_("rita"), third)
    assertContains(page, "The agent changed nothing in its draft.")
    assert "Round 2, sent back by Tom Achebe" in words(page)
    assert "Round 3" in words(page)


@pytest.mark.usefixtures("clean")
def test_a_second_round_costs_no_more_queries_than_a_page_may(as_):
    second = second_round(as_)
    rita = as_("rita")
    page_of(rita, second)
    for address in (f"/reviews/{second.pk}/", f"/reviews/{second.pk}/?part=state"):
        with counted_queries() as seen:
            assert rita.get(address).status_code == 200
        assert len(seen) <= MOST_QUERIES, listed(seen)


# What is refused, and kept


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("text", ["", "  \r\n "])
def test_without_words_nothing_is_done_and_the_sheet_stays_open(as_, action, text):
    review = waiting("scripted")
    given = {REPLY: "Dear Maeve, mine.", "edit.amount": "75"}
    refused = act(as_("rita"), review, action, text, **given)
    assert refused.status_code == 422
    html = refused.content.decode()
    assert re.search(rf'class="saying sheet shown" id="say-{action}" role', html)
    assert f'aria-describedby="say-{action}-wrong"' in html
    assert {name: Sent(refused).fields[name] for name in given} == given
    assert not Decision.objects.exists()
    again = press(as_("rita"), refused, {f"text.{action}": WHY}, action)
    assert again.status_code == 302


def test_words_for_another_action_stay_where_they_were_written(as_):
    review = waiting("scripted")
    given = {"text.send_back": "Shorter, please.", "text.respond": "Dear Maeve, no."}
    refused = act(as_("rita"), review, "reject", "", **given)
    assert {name: Sent(refused).fields[name] for name in given} == given


def test_what_is_not_sent_need_not_be_fit_for_it(as_):
    """A reply that could not be approved does not stand in the way of rejecting it."""
    review = waiting("scripted")
    assert act(as_("rita"), review, "reject", **{REPLY: "", "edit.amount": "no"}).status_code == 302


@pytest.mark.parametrize("text", ["a\x00b", "x" * 501])
def test_words_that_cannot_be_kept_are_refused_and_stay(as_, text):
    review = waiting("scripted")
    refused = act(as_("rita"), review, "reject", text)
    assert refused.status_code == 422
    assert Sent(refused).fields["text.reject"] == text
    assert not Decision.objects.exists()


@pytest.mark.parametrize("action", ACTIONS)
def test_the_second_of_two_keeps_the_words_and_the_edits(as_, action):
    review = waiting("scripted")
    page = page_of(as_("tom"), review)
    assert act(as_("rita"), review, "reject", "Rita's reason.").status_code == 302
    given = {REPLY: "Tom's reply.", "edit.amount": "75", f"text.{action}": "Tom's words."}
    told = press(as_("tom"), page, given, action)
    assertContains(told, "Decided by Rita Osei", status_code=409)
    assertContains(told, "Rita Osei rejected it", status_code=409)
    assert {"Tom's reply.", "Tom's words.", "75"} <= set(read_only(told))
    attempt = AuditEntry.objects.get(action="refused")
    assert "Tom's words." in str(attempt.after)
    assert Decision.objects.get().actor.username == "rita"


@pytest.mark.parametrize("action", ACTIONS)
def test_undo_brings_the_words_and_the_edits_back(as_, action):
    review = waiting("scripted")
    give_time(review)
    rita = as_("rita")
    given = {f"text.{action}": WHY, REPLY: "Dear Maeve, mine.", "edit.amount": "75"}
    assert press(rita, page_of(rita, review), given, action).status_code == 302
    decision = Decision.objects.get()
    assert rita.post(f"/decisions/{decision.pk}/undo").status_code == 302
    form = Sent(page_of(rita, review))
    assert {name: form.fields[name] for name in given} == given
    others = Sent(page_of(as_("tom"), review))
    assert others.fields[f"text.{action}"] == ""


def give_time(review: Review) -> None:
    """Undo is open for as long as the window of its graph, which in these tests has none."""
    registry().graphs[review.graph].review.__dict__["undo_window"] = 60


@pytest.fixture(autouse=True)
def windows() -> Any:
    yield
    registry.cache_clear()


# Who may


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize(("name", "status"), [("ada", 403), ("mara", 403), ("stan", 404)])
def test_who_may_not_decide_sees_no_button_and_is_refused(as_, action, name, status):
    review = waiting("scripted")
    form = Sent(page_of(as_("rita"), review))
    shown = page_of(as_(name), review)
    for control in ('popovertarget="say-', "text.reject", 'id="decide"', 'id="approve"'):
        assertNotContains(shown, control, status_code=shown.status_code)
    given = {**form.fields, "action": action, f"text.{action}": WHY}
    assert as_(name).post(form.action, given).status_code == status
    assert not Decision.objects.exists()
    assert AuditEntry.objects.get(action="refused").actor.username == name


# What people and agents write is hostile


@pytest.mark.usefixtures("clean")
def test_no_feedback_and_no_reason_comes_alive(as_):
    text = HOSTILE + " \r\n</textarea></blockquote><script>"
    second = second_round(as_, text, agent_response=HOSTILE, title=HOSTILE)
    first = Review.objects.exclude(pk=second.pk).get(thread_id=second.thread_id)
    rita, tom = as_("rita"), as_("tom")
    late = page_of(tom, second)
    shown = [page_of(rita, second), page_of(rita, first), rita.get("/")]
    shown.append(act(rita, second, "reject", text, digest=""))
    assert act(rita, second, "reject", text).status_code == 302
    shown += [page_of(rita, second), press(tom, late, {"text.respond": text}, "respond")]
    entries = AuditEntry.objects.filter(thread_id=second.thread_id)
    shown += [as_("ada").get(f"/audit/{entry.pk}/") for entry in entries]
    assert [page.status_code for page in shown[:6]] == [200, 200, 200, 422, 200, 409]
    for page in shown:
        assert alive(page) == []
        assert "unsafe" not in page["Content-Security-Policy"]
        assertContains(page, "&lt;script&gt;", status_code=page.status_code)
