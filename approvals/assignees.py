"""Who a review may be meant for: the people who may decide its queue, and their groups."""

from collections.abc import Iterable
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group

from approvals.errors import Invalid
from approvals.policies import AUDITORS
from approvals.registry import registry

NOBODY = "nobody"
CHOOSE = "Choose for whom it is meant."


def people_of(graphs: Iterable[str]) -> Any:
    """The active accounts that may decide one of these queues at least, by name."""
    known = [registry().get(name) for name in set(graphs)]
    groups = [graph.review.group for graph in known if graph]
    people = get_user_model().objects.filter(is_active=True, groups__name__in=groups)
    people = people.exclude(groups__name=AUDITORS).distinct()
    return people.order_by("first_name", "last_name", "username")


def groups_of(people: Any) -> Any:
    """The groups that some of them are in."""
    ids = people.order_by().values("pk")
    return Group.objects.filter(user__in=ids).distinct().order_by("name")


def chosen(text: str) -> tuple[Any, Group | None]:
    """The person, or the group, that a form's `person-5` or `group-3` means. Raises Invalid."""
    kind, _, number = text.partition("-")
    if text == NOBODY:
        return None, None
    if number.isascii() and number.isdigit() and len(number) < 10:
        if kind == "person" and (to := get_user_model().objects.filter(pk=int(number)).first()):
            return to, None
        if kind == "group" and (group := Group.objects.filter(pk=int(number)).first()):
            return None, group
    raise Invalid(CHOOSE)
