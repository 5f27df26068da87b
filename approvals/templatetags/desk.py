"""What every page's bar says of the people: notes that name the one who looks."""

from typing import Any

from django import template

from approvals import notes
from approvals.policies import Policy

register = template.Library()


@register.simple_tag(takes_context=True)
def unseen_mentions(context: Any) -> int:
    """How many the reader has not seen."""
    user = context["request"].user
    return notes.unseen(context.get("policy") or Policy(user)) if user.is_authenticated else 0
