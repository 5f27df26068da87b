"""Reasons to pick from when a review is rejected, sent back or answered."""

from typing import Any

from approvals.models import Decision, Review
from approvals.registry import graph as registered

OWN = 5
LOOKED_AT = 60  # decisions of the person: the same few reasons come again and again
LONGEST = 300  # characters: what is longer was about that one case


def reasons_for(user: Any, review: Review, action: str) -> list[str]:
    """The person's last distinct reasons for this graph and action, then those of reviews.toml."""
    graph = registered(review.graph)
    answer = graph.review.answers().get(action) if graph else None
    if answer is None or action == Decision.Action.RESPOND:
        return []
    own = [text.strip() for text in _own(user, review.graph, action)]
    short = [text for text in own if text and len(text) <= LONGEST]
    return list(dict.fromkeys([*list(dict.fromkeys(short))[:OWN], *answer.reasons]))


def _own(user: Any, graph: str, action: str) -> list[str]:
    mine = Decision.objects.filter(actor=user, action=action, review__graph=graph)
    texts = mine.order_by("-decided_at").values_list("said__text", flat=True)[:LOOKED_AT]
    return [str(text or "") for text in texts]
