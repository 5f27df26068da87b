"""The pages on which admins tend runs that broke off. Each act asks first; only its POST acts."""

import uuid
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext
from django.utils.translation import gettext_noop as noop
from django.views.decorators.http import require_http_methods, require_safe

from approvals import run_actions
from approvals.actions import refuse
from approvals.audit import Actor
from approvals.errors import ApprovalError, Conflict, NotAllowed
from approvals.models import Review
from approvals.paging import ROWS, cursor, next_cursor
from approvals.policies import Policy
from approvals.run_actions import Sight

ASKED = {
    "continue": noop("Have this run go on?"),
    "end": noop("End this run?"),
    "delete": noop("Delete this thread?"),
    "again": noop("Run this thread again from here?"),
}
ACTS = {
    "continue": run_actions.continue_run,
    "end": run_actions.end_run,
    "delete": run_actions.delete_thread,
}


@require_safe
def stalled(request: HttpRequest) -> HttpResponse:
    policy = Policy(request.user)
    if not policy.sees_all:
        raise Http404
    runs = policy.reviews().filter(status=Review.Status.STALLED).listed()
    rows = list(runs.oldest_first(cursor(request.GET.get("after", "")))[: ROWS + 1])
    context = {
        "policy": policy,
        "section": "stalled",
        "rows": rows[:ROWS],
        "older": next_cursor(rows),
        "paged": bool(request.GET.get("after")),
    }
    return render(request, "stalled.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
def tend(request: HttpRequest, pk: int, act: str) -> HttpResponse:
    """Continue, end or delete a stalled run."""
    found, policy = _tended(request, pk)
    if request.method != "POST":
        return _ask(request, found, policy, act)
    sight = Sight(request.POST.get("digest", ""), _key(request))
    try:
        ACTS[act](Actor.of(request), found.pk, sight)
    except ApprovalError as error:
        return _refused(request, found, policy, act, error)
    return redirect(found if act == "continue" else "stalled")


@require_http_methods(["GET", "HEAD", "POST"])
def run_again(request: HttpRequest, pk: int, checkpoint_id: str) -> HttpResponse:
    found, policy = _tended(request, pk)
    if request.method != "POST":
        return _ask(request, found, policy, "again", checkpoint_id)
    try:
        made = run_actions.run_again(Actor.of(request), found.pk, checkpoint_id, _key(request))
    except ApprovalError as error:
        return _refused(request, found, policy, "again", error, checkpoint_id)
    return redirect(made.review)


def _tended(request: HttpRequest, pk: int) -> tuple[Review, Policy]:
    """The review, for admins. An attempt of anybody else is audited, and told nothing."""
    policy = Policy(request.user)
    found = policy.reviews().defer("search").filter(pk=pk).first()
    if found is None or not policy.tends_runs:
        if request.method == "POST":
            error = NotAllowed("Only admins tend runs.")
            refuse(Actor.of(request), error, review=Review.objects.filter(pk=pk).first())
        raise Http404
    return found, policy


def _key(request: HttpRequest) -> uuid.UUID:
    try:
        return uuid.UUID(request.POST.get("key", ""))
    except ValueError:
        return uuid.uuid4()  # a form that was made by hand: it cannot be told from another


def _ask(
    request: HttpRequest, found: Review, policy: Policy, act: str, checkpoint_id: str = ""
) -> HttpResponse:
    return render(request, "tend.html", _shown(found, policy, act, checkpoint_id))


def _shown(found: Review, policy: Policy, act: str, checkpoint_id: str) -> dict[str, Any]:
    return {
        "policy": policy,
        "section": "stalled" if found.kind == Review.Kind.STALLED else "queue",
        "review": found,
        "act": act,
        "question": gettext(ASKED[act]),
        "checkpoint_id": checkpoint_id,
        "key": uuid.uuid4(),
    }


def _refused(
    request: HttpRequest,
    found: Review,
    policy: Policy,
    act: str,
    error: ApprovalError,
    checkpoint_id: str = "",
) -> HttpResponse:
    found.refresh_from_db(fields=["status", "ended_because"])
    context = {**_shown(found, policy, act, checkpoint_id), "error": str(error)}
    status = 409 if isinstance(error, Conflict) else 422
    return render(request, "tend.html", context, status=status)
