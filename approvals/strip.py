"""The quiet strip under the queue: a person's last decision, while it can still be undone and until
it has ended, and how far they have come today."""

import datetime as dt
from typing import Any

from django.db.models import Count, F, OuterRef, QuerySet, Subquery
from django.db.models.functions import Now
from django.utils import timezone

from approvals.models import Decision
from approvals.paging import capped
from approvals.policies import Policy

# The strip closes before the server's window does, so that its button keeps its word.
MARGIN = 2
# How long an end is told: one that went well, and one that somebody has to look at.
GOOD_NEWS, BAD_NEWS = dt.timedelta(seconds=12), dt.timedelta(hours=1)
TOLD = 20  # of a person's decisions, those that are watched for their end
MOST = 3  # bad ends at a time: a phone has no room for more
BAD = {Decision.State.FAILED, Decision.State.SUPERSEDED}


def strip(policy: Policy, waiting: str = "") -> dict[str, Any]:
    """The template's context. `undo_left` is in seconds, 0 when it is too late.

    `waiting` is how many wait, as the list beside it says, where it was counted already.
    """
    newest = _newest(policy.user)
    last = next((one for one in newest if _is_told(one)), None)
    left = last.left.total_seconds() - MARGIN if last and _is_pending(last) else 0
    return {
        "policy": policy,
        "last": last,
        "last_is_bad": last is not None and last.state in BAD,
        "bad": [one for one in newest if one != last and one.state in BAD and _is_told(one)][:MOST],
        "own": ",".join(str(one.review_id) for one in newest if one.is_open),
        "undo_left": max(0, round(left)),
        "decided_today": (last.today or 0) if last else decided_today(policy.user),
        "left_in_queue": waiting or capped(policy.reviews().awake()),
    }


def decided_today(user: Any) -> int:
    """How many this person has decided since midnight here, but for those they took back."""
    return _today().filter(actor=user).count()


def _today() -> QuerySet[Decision]:
    midnight = timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0)
    since = Decision.objects.filter(decided_at__gte=midnight)
    return since.exclude(state=Decision.State.UNDONE)


def _newest(user: Any) -> list[Any]:
    """This person's last decisions, newest first."""
    lately = Decision.objects.filter(actor=user, decided_at__gt=Now() - dt.timedelta(hours=1))
    return list(
        lately.exclude(state=Decision.State.UNDONE)
        .annotate(left=F("apply_after") - Now(), ended_ago=Now() - F("ended_at"))
        .annotate(
            today=Subquery(
                _today()
                .filter(actor=OuterRef("actor"))
                .order_by()
                .values("actor")
                .annotate(n=Count("pk"))
                .values("n")
            )
        )
        .select_related("review")
        .defer("review__snapshot", "review__search")
        .order_by("-decided_at")[:TOLD]
    )


def _is_pending(decision: Any) -> bool:
    return bool(decision.state == Decision.State.PENDING)


def _is_told(decision: Any) -> bool:
    if decision.is_open:
        return True
    bound = BAD_NEWS if decision.state in BAD else GOOD_NEWS
    return decision.ended_ago is not None and decision.ended_ago < bound
