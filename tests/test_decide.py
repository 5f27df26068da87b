"""Deciding: one decision, once, on what was seen."""

import pytest

from approvals.models import AuditEntry, Decision, Review
from tests.conftest import effects, form_of, resume, waiting

pytestmark = pytest.mark.django_db


def test_an_approval_is_recorded_and_touches_no_checkpoint_yet(as_):
    review = waiting()
    answer = as_("rita").post(f"/reviews/{review.pk}/decide", form_of(review))
    assert answer.status_code == 302
    decision = Decision.objects.get()
    assert (decision.action, decision.state, decision.edits) == ("approve", "pending", {})
    assert decision.values == {"is_compliant": True, "agent_type": "human_admin"}
    review.refresh_from_db()
    assert review.status == Review.Status.DECIDED
    entry = AuditEntry.objects.get(action="decided")
    assert (entry.actor.username, entry.decision_id) == ("rita", decision.pk)


@pytest.mark.usefixtures("clean")
def test_an_edit_reaches_the_agent_and_is_delivered_once(as_):
    review = waiting("scripted")
    as_("rita").post(f"/reviews/{review.pk}/decide", form_of(review, "Dear Maeve, yes."))
    decision = Decision.objects.get()
    resume(decision)
    resume(decision)
    decision.refresh_from_db()
    assert decision.state == Decision.State.FINISHED, decision.error
    assert effects(review.thread_id) == [(str(decision.pk), "Dear Maeve, yes.")]
    assert list(
        AuditEntry.objects.filter(review=review).order_by("id").values_list("action", flat=True)
    ) == ["paused", "decided", "applied", "finished"]
