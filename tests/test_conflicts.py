"""Somebody or something was first: one decision stands; the other is told, and keeps the text."""

import asyncio
import datetime as dt
import re
from html import unescape

import pytest
from django.utils import timezone
from procrastinate.contrib.django.models import ProcrastinateJob
from pytest_django.asserts import assertContains, assertNotContains

from approvals.models import AuditEntry, Decision, Review
from approvals.registry import registry
from approvals.savers import JoiningSaver, joined, raw_connection
from tests.conftest import capture_all, effects, form_of, resume, waiting

pytestmark = pytest.mark.django_db
HERS = "Dear Maeve, these are the words of Rita."
HIS = "Dear Maeve, these are the words of Tom."


def decide(client, review, text=None, **fields):
    return client.post(f"/reviews/{review.pk}/decide", form_of(review, text, **fields))


def undo(client, decision):
    return client.post(f"/decisions/{decision.pk}/undo")


def texts(answer) -> list[str]:
    html = answer.content.decode()
    return [unescape(text) for text in re.findall(r"<textarea[^>]*>\n(.*?)</textarea>", html, re.S)]


def other_program_updates(review: Review, **values) -> None:
    """As an agent's own program does: LangGraph on the same Postgres, and no word to us."""
    config = {"configurable": {"thread_id": review.thread_id}}
    asyncio.run(joined(registry().graphs[review.graph]).aupdate_state(config, values))


def refusal(name: str) -> AuditEntry:
    return AuditEntry.objects.get(action="refused", actor__username=name)


def end_window(decision: Decision) -> None:
    """As if the window had passed."""
    past = timezone.now() - dt.timedelta(seconds=1)
    Decision.objects.filter(pk=decision.pk).update(apply_after=past)


# Two people


def test_the_second_is_told_who_was_first_and_keeps_the_text(as_):
    review = waiting()
    assert decide(as_("rita"), review, HERS).status_code == 302
    answer = decide(as_("tom"), review, HIS)
    assertContains(answer, "Decided by Rita Osei", status_code=409)
    assertContains(answer, HERS, status_code=409)
    assert HIS in texts(answer)
    assert Decision.objects.get().actor.username == "rita"
    assert ProcrastinateJob.objects.count() == 1
    entry = refusal("tom")
    assert entry.after == {"agent_response": HIS}
    assert (entry.review_id, entry.thread_id) == (review.pk, review.thread_id)
    assert entry.note


def test_the_second_is_told_the_same_once_the_first_is_applied(as_):
    review = waiting("scripted")
    decide(as_("rita"), review, HERS)
    Decision.objects.update(state="finished")
    assertContains(decide(as_("tom"), review, HIS), "Decided by Rita Osei", status_code=409)


def test_deciding_twice_in_two_windows_of_ones_own_is_one_decision(as_):
    review = waiting()
    decide(as_("rita"), review, HERS)
    answer = decide(as_("rita"), review, "Dear Maeve, my other window.")
    assertContains(answer, "Decided by you, in another window", status_code=409)
    assert Decision.objects.get().edits == {"agent_response": HERS}


# One form, sent twice


def test_one_form_sent_twice_is_one_decision_and_the_same_answer(as_):
    review = waiting()
    rita, form = as_("rita"), form_of(review, HERS)
    answers = [rita.post(f"/reviews/{review.pk}/decide", form) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [302, 302]
    assert answers[0]["Location"] == answers[1]["Location"]
    assert Decision.objects.count() == ProcrastinateJob.objects.count() == 1
    assert AuditEntry.objects.filter(action="decided").count() == 1
    assert not AuditEntry.objects.filter(action="refused").exists()


def test_another_persons_key_is_refused(as_):
    review = waiting()
    form = form_of(review, HERS)
    as_("rita").post(f"/reviews/{review.pk}/decide", form)
    answer = as_("tom").post(f"/reviews/{review.pk}/decide", {**form, "edit.agent_response": HIS})
    assertContains(answer, "Decided by Rita Osei", status_code=409)
    assert HIS in texts(answer)
    assert Decision.objects.get().actor.username == "rita"
    assert refusal("tom").after == {"agent_response": HIS}


def test_a_key_that_was_used_on_another_review_is_refused(as_):
    first, second = waiting(), waiting()
    form = form_of(first)
    as_("rita").post(f"/reviews/{first.pk}/decide", form)
    answer = decide(as_("rita"), second, HERS, key=form["key"])
    assertContains(answer, "This form was used for another review", status_code=422)
    assert Decision.objects.get().review_id == first.pk


# The thread moved, or the page is old


def test_a_page_of_an_older_state_is_refused(as_):
    review = waiting()
    answer = decide(as_("rita"), review, HERS, digest="0" * 64)
    assertContains(answer, "This page shows an older state of the review.", status_code=409)
    assert HERS in texts(answer)
    assert refusal("rita").after == {"agent_response": HERS}
    review.refresh_from_db()
    assert review.status == Review.Status.WAITING


def test_a_thread_that_moved_behind_our_back_is_not_decided(as_):
    review = waiting()
    other_program_updates(review, agent_response="Dear Maeve, the agent thought again.")
    answer = decide(as_("rita"), review, HERS)
    assertContains(answer, "moved the thread on", status_code=409)
    assert HERS in texts(answer)
    assert not Decision.objects.exists()
    assert refusal("rita").after == {"agent_response": HERS}


def test_a_thread_that_moved_and_was_captured_is_not_decided_either(as_):
    review = waiting()
    other_program_updates(review, agent_response="Dear Maeve, the agent thought again.")
    capture_all()
    assertContains(decide(as_("rita"), review, HERS), "moved the thread on", status_code=409)
    new = Review.objects.waiting().get()
    assert new.pk != review.pk
    assert decide(as_("rita"), new, HERS).status_code == 302


def test_a_thread_that_was_deleted_is_not_decided(as_):
    review = waiting()
    JoiningSaver(raw_connection()).delete_thread(review.thread_id)
    answer = decide(as_("rita"), review, HERS)
    assertContains(answer, "The thread was deleted by another program.", status_code=409)
    assert HERS in texts(answer)
    assert not Decision.objects.exists()
    capture_all()
    page = as_("rita").get(f"/reviews/{review.pk}/")
    assertContains(page, "The thread was deleted by another program.")
    assertContains(page, "This no longer waits")


# Undo


def test_undo_within_the_window_gives_the_review_and_the_text_back(as_):
    review = waiting()
    decide(as_("rita"), review, HERS)
    decision = Decision.objects.get()
    assertContains(as_("rita").get(f"/reviews/{review.pk}/"), ">Undo</button>")
    answer = undo(as_("rita"), decision)
    assert answer.status_code == 302
    decision.refresh_from_db()
    review.refresh_from_db()
    assert (decision.state, review.status) == ("undone", "waiting")
    assert ProcrastinateJob.objects.get().status == "cancelled"
    assert HERS in texts(as_("rita").get(answer["Location"]))
    assert review.pk in [row.pk for row in Review.objects.waiting()]
    assert HERS not in texts(as_("tom").get(f"/reviews/{review.pk}/"))


def test_undo_twice_is_undo_once(as_):
    review = waiting()
    decide(as_("rita"), review)
    decision = Decision.objects.get()
    assert [undo(as_("rita"), decision).status_code for _ in range(2)] == [302, 302]
    assert AuditEntry.objects.filter(action="undone").count() == 1


@pytest.mark.parametrize("name", ["tom", "ada", "mara"])
def test_nobody_undoes_anothers_decision(as_, name):
    review = waiting()
    decide(as_("rita"), review, HERS)
    decision = Decision.objects.get()
    assertNotContains(as_(name).get(f"/reviews/{review.pk}/"), ">Undo</button>")
    answer = undo(as_(name), decision)
    assertContains(answer, "Only the person who decided can take it back.", status_code=403)
    decision.refresh_from_db()
    assert decision.state == "pending"
    assert refusal(name).decision_id == decision.pk


def test_a_stranger_is_told_nothing_of_a_decision(as_):
    review = waiting()
    decide(as_("rita"), review, HERS)
    decision = Decision.objects.get()
    for path in ("undo", "retry"):
        assert as_("stan").post(f"/decisions/{decision.pk}/{path}").status_code == 404
    decision.refresh_from_db()
    assert decision.state == "pending"


def test_undo_after_the_window_is_too_late(as_):
    review = waiting()
    decide(as_("rita"), review, HERS)
    decision = Decision.objects.get()
    end_window(decision)
    assertContains(undo(as_("rita"), decision), "Too late to undo", status_code=409)
    decision.refresh_from_db()
    assert decision.state == "pending"
    assert refusal("rita").decision_id == decision.pk


@pytest.mark.usefixtures("clean")
def test_undo_after_it_was_applied_is_too_late(as_):
    review = waiting("scripted")
    decide(as_("rita"), review, HERS)
    decision = Decision.objects.get()
    resume(decision)
    assertContains(undo(as_("rita"), decision), "Too late to undo", status_code=409)
    decision.refresh_from_db()
    assert decision.state == "finished"


@pytest.mark.usefixtures("clean")
def test_after_an_undo_it_can_be_decided_again_and_the_second_is_what_goes_out(as_):
    review = waiting("scripted")
    first, second = decide_undo_decide(as_, review)
    resume(first)
    assert effects(review.thread_id) == []
    resume(second)
    assert effects(review.thread_id) == [(str(second.pk), HIS)]


def decide_undo_decide(as_, review: Review) -> tuple[Decision, Decision]:
    """Rita decides and takes it back in a window that is given to her, then Tom decides."""
    decide(as_("rita"), review, HERS)
    first = Decision.objects.get()
    later = timezone.now() + dt.timedelta(seconds=60)
    Decision.objects.filter(pk=first.pk).update(apply_after=later)
    assert undo(as_("rita"), first).status_code == 302
    as_("rita").post(f"/reviews/{review.pk}/release")
    assert decide(as_("tom"), review, HIS).status_code == 302
    return first, Decision.objects.exclude(pk=first.pk).get()


def test_undo_of_a_thread_that_moved_meanwhile_does_not_bring_the_review_back(as_):
    review = waiting()
    decide(as_("rita"), review, HERS)
    other_program_updates(review, agent_response="Dear Maeve, the agent thought again.")
    undo(as_("rita"), Decision.objects.get())
    capture_all()
    review.refresh_from_db()
    assert review.status == Review.Status.SUPERSEDED
    assert Review.objects.waiting().get().thread_id == review.thread_id
    page = as_("rita").get(f"/reviews/{review.pk}/")
    assertContains(page, "This no longer waits")


# The thread moves inside the window


@pytest.mark.usefixtures("clean")
def test_a_decision_whose_thread_moved_in_its_window_is_not_applied_and_its_author_is_told(as_):
    review = waiting("scripted")
    decide(as_("rita"), review, HERS)
    other_program_updates(review, agent_response="Dear Maeve, the agent thought again.")
    decision = Decision.objects.get()
    resume(decision)
    decision.refresh_from_db()
    review.refresh_from_db()
    assert (decision.state, decision.checkpoint_applied) == ("superseded", "")
    assert review.status == Review.Status.SUPERSEDED
    assert effects(review.thread_id) == []
    state = joined(registry().graphs["scripted"]).get_state(
        {"configurable": {"thread_id": review.thread_id}}
    )
    assert state.values["agent_response"] == "Dear Maeve, the agent thought again."
    page = as_("rita").get(f"/reviews/{review.pk}/")
    assertContains(page, "Not applied: the thread had moved")
    assertContains(page, "The thread moved on before the decision could be applied")
    assertContains(page, HERS)
    assert AuditEntry.objects.filter(action="superseded", decision=decision).count() == 1


@pytest.mark.usefixtures("clean")
def test_a_decision_whose_thread_was_deleted_in_its_window_says_so(as_):
    review = waiting("scripted")
    decide(as_("rita"), review, HERS)
    JoiningSaver(raw_connection()).delete_thread(review.thread_id)
    resume(Decision.objects.get())
    page = as_("rita").get(f"/reviews/{review.pk}/")
    assertContains(page, "The thread was deleted before the decision could be applied")
    assert effects(review.thread_id) == []
