"""Who may what. One object answers both "may this person …?" and "which rows may they see?"."""

from functools import cached_property
from typing import Any

from django.contrib.auth import get_user_model
from django.db.models import Q

from approvals.models import AuditEntry, Decision, Review, ReviewQuerySet
from approvals.registry import registry

AUDITORS = "auditors"


class Policy:
    """What one signed-in person may see and do.

    - Reviewers, by group: see and decide the queues whose table in reviews.toml names the group.
    - Auditors: read every review and the audit trail, decide nothing, whatever else they are.
    - Admins (superusers): see everything, manage accounts; decide only as members of a group.
    """

    def __init__(self, user: Any) -> None:
        self.user = user

    @cached_property
    def groups(self) -> set[str]:
        return set(self.user.groups.values_list("name", flat=True))

    @property
    def is_auditor(self) -> bool:
        return AUDITORS in self.groups

    @property
    def sees_all(self) -> bool:
        return bool(self.user.is_superuser) or self.is_auditor

    @cached_property
    def queues(self) -> list[str]:
        """Graphs whose reviews this person belongs to."""
        return [graph.id for graph in registry() if graph.review.group in self.groups]

    @property
    def listed_queues(self) -> list[str]:
        """The queues whose reviews this person sees, decided by them or not."""
        return [graph.id for graph in registry()] if self.sees_all else self.queues

    @property
    def sees_overview(self) -> bool:
        """Members of a queue see their own queues'."""
        return self.sees_all or bool(self.queues)

    @property
    def sees_audit(self) -> bool:
        return self.sees_all

    def reviews(self) -> ReviewQuerySet:
        everything = Review.objects.all()
        if self.sees_all:
            return everything
        return everything.filter(graph__in=self.queues).exclude(kind=Review.Kind.STALLED)

    def sees_queue(self, graph: str) -> bool:
        return self.sees_all or graph in self.queues

    def audit(self) -> Any:
        return AuditEntry.objects.all() if self.sees_audit else AuditEntry.objects.none()

    def may_decide(self, review: Review) -> bool:
        """Whether the person may decide reviews of this queue; not whether this one still waits."""
        return not self.is_auditor and review.pause_is_known and review.graph in self.queues

    def may_arrange(self, review: Review) -> bool:
        """Whether the person may assign a review or put it off: who may decide it, and admins."""
        return self.may_decide(review) or (self.tends_runs and review.pause_is_known)

    @property
    def tends_runs(self) -> bool:
        """Whether the person may continue, end, delete and fork runs."""
        return bool(self.user.is_superuser) and not self.is_auditor

    def may_undo(self, decision: Decision) -> bool:
        """Their own; and one that failed before it was applied, if they could decide it anew."""
        own = bool(decision.actor_id == self.user.pk)
        return own or (decision.is_stuck and self.may_decide(decision.review))

    def may_retry(self, decision: Decision) -> bool:
        return self.may_decide(decision.review) or self.tends_runs


def people_who_see(review: Review) -> Any:
    """The accounts whose `Policy.reviews()` holds this review."""
    graph = registry().get(review.graph)
    groups = [AUDITORS]
    if graph is not None and review.kind != Review.Kind.STALLED:
        groups.append(graph.review.group)
    sees = Q(is_superuser=True) | Q(groups__name__in=groups)
    return get_user_model().objects.filter(sees, is_active=True).distinct()
