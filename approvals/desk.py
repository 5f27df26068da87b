"""What the page of a case says of the people around it."""

from typing import Any

from approvals import claims, notes, presence
from approvals.models import Review
from approvals.policies import Policy


def of_case(found: Review, policy: Policy) -> dict[str, Any]:
    return {
        "claim": claims.claim_of(found, policy),
        "people": presence.people_at(found, policy.user),
        "notes": notes.notes_of(found),
        "most": notes.MOST,
    }
