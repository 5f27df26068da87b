"""What the review page's form says of the person's draft."""

from typing import Any

from django.http import HttpRequest

from approvals import draft_actions, drafts
from approvals.forms import DecideForm
from approvals.hints import hints, language_of
from approvals.models import Decision, Draft, Review
from approvals.policies import Policy
from approvals.question_form import QuestionForm
from graphs.registry import ReviewSettings


def draft_for(policy: Policy, review: Review, decision: Decision | None) -> Draft | None:
    """The person's own, where they can go on with it."""
    if decision is not None or not review.is_open or not policy.may_decide(review):
        return None
    return drafts.draft_of(policy.user, review)


def about(
    policy: Policy,
    review: Review,
    decision: Decision | None,
    form: DecideForm | QuestionForm,
    settings: ReviewSettings | None,
    draft: Draft | None,
    values: Any,
) -> dict[str, Any]:
    """For the templates: the draft, the language, hints, and what an untouched form would hold."""
    original = form.original if isinstance(form, DecideForm) else ""
    return {
        "mine": draft,
        "left_over": drafts.left_over(policy.user, review, decision),
        "typed_before": _holds_edits(form),
        "language": language_of(values, settings),
        "hints": hints(settings, form.text, original),
    }


def _holds_edits(form: DecideForm | QuestionForm) -> bool:
    """Whether the form comes with edits besides the reply's."""
    return isinstance(form, DecideForm) and any(one.changed for one in form.typed.values())


def keep(
    request: HttpRequest, policy: Policy, review: Review, blank: DecideForm | QuestionForm
) -> None:
    """Keeps what a decision says as the person's draft, before it is one: whatever refuses it, and
    an undo, find it as it was typed. `blank` is the form without data."""
    fields = drafts.sent_fields(request.POST, blank)
    if policy.may_decide(review) and drafts.size(fields) <= drafts.MOST:
        draft_actions.keep(policy.user, review, fields, review.digest)
