"""Which review a page is about, if the person behind the request may see it."""

from django.http import Http404, HttpRequest

from approvals import actions
from approvals.audit import Actor
from approvals.errors import NotAllowed
from approvals.models import Review
from approvals.policies import Policy


def visible(request: HttpRequest, pk: int) -> tuple[Review, Policy]:
    """The review, if this person may see it. An attempt to act on another's is audited."""
    policy = Policy(request.user)
    reviews = policy.reviews().defer("search", "follows__review__search")
    people = ("claimed_by", "claim_asked_by", "follows__actor")
    found = reviews.select_related(*people, "follows__review").filter(pk=pk).first()
    if found is None:
        if request.method == "POST":
            error = NotAllowed("Not a review of this person's queues.")
            actions.refuse(Actor.of(request), error, review=Review.objects.filter(pk=pk).first())
        raise Http404
    return found, policy
