"""Many rows at once: what was selected, what can be done with each, and what became of it."""

import uuid
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.db.models.functions import Now
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from approvals import assignees, later, queue_actions
from approvals.answers import WORDS_FOR
from approvals.audit import Actor
from approvals.clock import database_now
from approvals.errors import Invalid
from approvals.models import Decision, Draft, Review
from approvals.paging import as_int
from approvals.policies import Policy
from approvals.queue_actions import MOST_AT_ONCE, Result, Shown
from approvals.storable import Refused, one_newline, refuse_broken_text

ACTS = {
    "approve": gettext_lazy("Approve"),
    "reject": gettext_lazy("Reject"),
    "assign": gettext_lazy("Assign"),
    "snooze": gettext_lazy("Snooze"),
}
DECIDING = ("approve", "reject")


@dataclass(frozen=True)
class Row:
    """One selected row as the page that asks first shows it. `why_not` is what stands against."""

    value: str
    review: Review | None
    why_not: str = ""
    has_draft: bool = False


@dataclass(frozen=True)
class Done:
    review: Review | None
    result: Result


def selected(values: list[str]) -> dict[str, Shown]:
    """The rows as a form sends them, each once; what is none is left out."""
    found: dict[str, Shown] = {}
    for value in values:
        number, _digest, rest = value.replace("\x00", "").partition(":")
        digest, _colon, checkpoint = rest.partition(":")
        pk = as_int(number)
        if pk is not None and digest and checkpoint:
            found.setdefault(value, Shown(pk, digest, checkpoint))
    return found


def reviews_of(policy: Policy, shown: dict[str, Shown]) -> dict[int, Review]:
    rows = policy.reviews().listed().select_related("claimed_by")
    return rows.in_bulk([one.pk for one in shown.values()])


def looked_at(policy: Policy, act: str, shown: dict[str, Shown]) -> list[Row]:
    """What would be done, before it is: each row with what stands against it, as far as one can
    see that now. The action itself looks again."""
    reviews = reviews_of(policy, shown)
    drafts = Draft.objects.filter(user=policy.user, review__in=reviews).exclude(fields={})
    drafted = set(drafts.values_list("review_id", flat=True)) if act == "approve" else set()
    return [
        Row(value, review, _against(policy, act, one, review), one.pk in drafted)
        for value, one in shown.items()
        for review in [reviews.get(one.pk)]
    ]


def _against(policy: Policy, act: str, shown: Shown, review: Review | None) -> str:
    if review is None:
        return _("There is no such case for you.")
    if review.status != Review.Status.WAITING:
        return _("This case does not wait any more.")
    if act not in DECIDING:
        may = policy.may_arrange(review)
        return "" if may else _("This is for reviewers of its queue, and admins.")
    if not policy.may_decide(review):
        return _("You may look at this review, but not decide it.")
    if review.is_question:
        return _("A question is answered one by one: open it.")
    if (review.digest, review.checkpoint_id) != (shown.digest, shown.checkpoint_id):
        return _("It has changed since the list was shown: open it.")
    holder = review.holder
    if holder is not None and holder.pk != policy.user.pk:
        return _("%(name)s has this case.") % {
            "name": holder.get_full_name() or holder.get_username()
        }
    return ""


def carry_out(request: HttpRequest, act: str, shown: dict[str, Shown]) -> list[Done]:
    """Each row by itself: one that is refused holds up no other. Raises Invalid when the form
    lacks what all of them need; then nothing was done."""
    actor, sent = Actor.of(request), request.POST
    if len(shown) > MOST_AT_ONCE:
        raise Invalid("At most 100 cases can be done at once. Select fewer.")
    if act in DECIDING:
        text = _reason(sent.get("text", "")) if act == "reject" else ""
        results = queue_actions.decide_each(actor, _key(sent), shown.values(), act, text)
    else:
        results = queue_actions.arrange_each(actor, shown.values(), _how(actor, act, sent))
    reviews = reviews_of(Policy(request.user), shown)
    return [Done(reviews.get(result.pk), result) for result in results]


def _reason(text: str) -> str:
    try:
        refuse_broken_text(text)
    except Refused as wrong:
        raise Invalid(str(wrong)) from wrong
    if not text.strip():
        raise Invalid(WORDS_FOR[Decision.Action.REJECT])
    return one_newline(text)


def _how(actor: Actor, act: str, sent: Any) -> Any:
    if act == "assign":
        to, group = assignees.chosen(sent.get("to", ""))
        return partial(_assign, to=to, group=group)
    zone = later.zone_of(sent.get("zone", ""))
    until = later.moment(sent.get("until", ""), sent.get("own", ""), zone, database_now())
    return partial(_snooze, until=until)


def _assign(actor: Actor, pk: int, *, to: Any, group: Any) -> None:
    queue_actions.assign(actor, pk, to, group)


def _snooze(actor: Actor, pk: int, *, until: Any) -> None:
    queue_actions.snooze(actor, pk, until)


def _key(sent: Any) -> uuid.UUID:
    key = _uuid(sent.get("key", ""))
    if key is None:
        raise Invalid("The form is incomplete. Select the cases again.")
    return key


def _uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


def take_back(request: HttpRequest, ids: list[str]) -> list[Done]:
    """What was decided at once, taken back at once. Raises Invalid where there is none of it."""
    policy = Policy(request.user)
    known = [pk for pk in map(_uuid, ids[:MOST_AT_ONCE]) if pk]
    decisions = Decision.objects.filter(pk__in=known, review__in=policy.reviews())
    if not decisions:
        raise Invalid("The form is incomplete. Select the cases again.")
    results = queue_actions.undo_each(Actor.of(request), decisions.order_by("decided_at"))
    reviews = policy.reviews().listed().in_bulk([result.pk for result in results])
    return [Done(reviews.get(result.pk), result) for result in results]


def can_be_undone(done: list[Done]) -> dict[int, Decision]:
    """Of the decisions that were just made, by review: those whose window is still open."""
    ids = [one.result.decision.pk for one in done if one.result.decision]
    pending = Decision.objects.filter(pk__in=ids, state=Decision.State.PENDING)
    return {one.review_id: one for one in pending.filter(apply_after__gt=Now())}
