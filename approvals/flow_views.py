"""From one case to the next: *Next*, and the strip that tells of the last decision."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_POST, require_safe

from approvals import claims, desk_actions
from approvals.audit import Actor
from approvals.models import Review
from approvals.paging import as_int
from approvals.policies import Policy
from approvals.queue_page import among
from approvals.views import IN_PAGE, is_anothers, told, work

BESIDES = 60


@require_POST
def next_case(request: HttpRequest) -> HttpResponse:
    """The oldest waiting case that nobody has, now this person's. 204 to a script: there is none.

    `besides` are the cases to pass over; `ahead` claims for a minute only, what is looked at later.
    """
    if is_anothers(request):
        return HttpResponse(status=401)
    policy = Policy(request.user)
    passed = [as_int(pk) for pk in request.POST.getlist("besides")[-BESIDES:]]
    ahead = "ahead" in request.POST
    found = desk_actions.next_review(
        Actor.of(request),
        among(request, policy),
        besides=[pk for pk in passed if pk is not None],
        lease=desk_actions.AHEAD if ahead else claims.LEASE,
    )
    if IN_PAGE not in request.headers:
        return redirect(_address(request, found) if found else "inbox")
    if found is None:
        return HttpResponse(status=204)
    # Whole, with its snapshot: what was claimed came without it.
    return work(request, policy.reviews().select_related("claimed_by").get(pk=found.pk), policy)


def _address(request: HttpRequest, found: Review) -> str:
    kept = request.GET.urlencode()
    return found.get_absolute_url() + (f"?{kept}" if kept else "")


@require_safe
def strip(request: HttpRequest) -> HttpResponse:
    return told(request)
