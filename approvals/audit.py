"""The audit trail's one door: every action records itself here, in its own transaction."""

import ipaddress
from dataclasses import dataclass
from typing import Any

from approvals.models import AuditEntry, Decision, Review


@dataclass(frozen=True)
class Actor:
    """Who acts, and from where. `user` is None for the machine's own acts."""

    user: Any = None
    name: str = ""
    address: str | None = None

    @classmethod
    def of(cls, request: Any, user: Any = None) -> "Actor":
        """The person behind a request, or `user` while they are just signing in or out."""
        user = user or (request.user if request.user.is_authenticated else None)
        name = (user.get_full_name() or user.get_username()) if user else ""
        return cls(user, name, address_of(request))


def address_of(request: Any) -> str | None:
    """The client's address; None when a proxy passed on something that is none."""
    try:
        return str(ipaddress.ip_address(request.META.get("REMOTE_ADDR", "")))
    except (AttributeError, ValueError):
        return None


CAPTURE = Actor(name="capture")
WORKER = Actor(name="worker")


def record(
    actor: Actor,
    action: AuditEntry.Action,
    *,
    review: Review | None = None,
    decision: Decision | None = None,
    **details: Any,
) -> AuditEntry:
    """Writes one entry. `details` are AuditEntry's own fields (before, after, note, …)."""
    if decision is not None and review is None:
        review = decision.review
    if review is not None:
        details.setdefault("thread_id", review.thread_id)
        details.setdefault("checkpoint_before", review.checkpoint_id)
    return AuditEntry.objects.create(
        actor=actor.user,
        actor_name=actor.name,
        address=actor.address,
        action=action,
        review=review,
        decision=decision,
        **details,
    )
