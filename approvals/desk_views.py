"""Who has a case, and who is at it: the buttons of the claim, and what open tabs say."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from approvals import claims, desk_actions, draft_actions, note_actions, presence
from approvals.audit import Actor
from approvals.errors import ApprovalError, Conflict, Invalid, NotAllowed
from approvals.models import Presence, Review
from approvals.paging import MOST_ROWS, as_int
from approvals.policies import Policy
from approvals.views import posted
from approvals.visible import visible

_STATUS = {NotAllowed: 403, Conflict: 409}
Act = Callable[[Actor, int], Any]


def _button(act: Act) -> Any:
    """A view of one button: acts, and shows who has the case then."""

    @posted
    def view(request: HttpRequest, pk: int) -> HttpResponse:
        found, policy = visible(request, pk)
        try:
            act(Actor.of(request), found.pk)
        except ApprovalError as error:
            return _refused(request, found, policy, error)
        if request.htmx:  # type: ignore[attr-defined]
            return _line(request, *visible(request, pk))
        return redirect(found)

    return view


claim = _button(desk_actions.claim)
release = _button(desk_actions.release)
ask = _button(desk_actions.ask)
keep = _button(desk_actions.keep)
give = _button(desk_actions.give)
take = _button(desk_actions.take)


def _refused(
    request: HttpRequest, found: Review, policy: Policy, error: ApprovalError
) -> HttpResponse:
    status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 422)
    if request.htmx:  # type: ignore[attr-defined]
        # 409, which the page takes in: who may not act has lost a right since it was made.
        return _line(request, *visible(request, found.pk), told=str(error), status=409)
    text = _("Nothing was changed. Open the case again to see who has it.")
    return render(request, "problem.html", {"title": str(error), "text": text}, status=status)


def _looked_up(request: HttpRequest, pk: int) -> tuple[Review, Policy]:
    """As `visible`, for what is asked every few seconds: without the snapshot."""
    policy = Policy(request.user)
    found = policy.reviews().listed().filter(pk=pk).first()
    if found is None:
        raise Http404
    return found, policy


def _line(
    request: HttpRequest, found: Review, policy: Policy, told: str = "", status: int = 200
) -> HttpResponse:
    claim = claims.claim_of(found, policy)
    context = {"review": found, "policy": policy, "claim": claim, "told": told}
    return render(request, "_claim.html", context, status=status)


@require_safe
def holder(request: HttpRequest, pk: int) -> HttpResponse:
    """Who has it now, and what one may do about it."""
    return _line(request, *_looked_up(request, pk))


@require_safe
def people(request: HttpRequest, pk: int) -> HttpResponse:
    """The line that says who else is here."""
    found, policy = _looked_up(request, pk)
    context = {"review": found, "people": presence.people_at(found, policy.user)}
    return render(request, "_presence.html", context)


@require_safe
def marks(request: HttpRequest) -> HttpResponse:
    """The marks of those rows of the queue that somebody came to or left."""
    asked = filter(None, map(as_int, request.GET.get("ids", "").split(",")[:MOST_ROWS]))
    rows = list(Policy(request.user).reviews().listed().filter(pk__in=list(asked)))
    presence.mark(rows, request.user)
    return render(request, "_marks_of.html", {"rows": rows})


@posted
def here(request: HttpRequest, pk: int) -> HttpResponse:
    """A tab says that it shows this case, whether somebody writes in it, and when they last did
    anything: while they work, their claim goes on, and that of the case fetched ahead. With
    `looks` the tab is in front, and what it shows is seen."""
    found = _looked_up(request, pk)[0]
    try:
        tab, doing = _tab(request), _doing(request)
        presence.here(request.user, found, tab, doing)
    except Invalid as error:
        return HttpResponse(str(error), status=422, content_type="text/plain")
    idle = as_int(request.POST.get("active", ""))
    if idle is not None and idle < claims.AT_WORK.total_seconds():
        desk_actions.renew(request.user, _cases(request, found))
        if "looks" in request.POST:
            note_actions.see(request.user, found.pk)
    return HttpResponse(status=204)


@posted
def leave(request: HttpRequest, pk: int) -> HttpResponse:
    """A tab was closed, or goes on to something else."""
    found = _looked_up(request, pk)[0]
    try:
        presence.gone(request.user, found, _tab(request))
    except Invalid as error:
        return HttpResponse(str(error), status=422, content_type="text/plain")
    left = [pk for pk in _cases(request, found) if not presence.is_here(request.user, pk)]
    desk_actions.say_goodbye(request.user, left)
    return HttpResponse(status=204)


@posted
def set_aside(request: HttpRequest, pk: int) -> HttpResponse:
    """After a conflict: on with the case as it is. One's own text stays among its versions."""
    found, policy = visible(request, pk)
    if policy.may_decide(found):
        draft_actions.keep(request.user, found, {}, found.digest)
    return redirect(found)


def _tab(request: HttpRequest) -> UUID:
    try:
        return UUID(request.POST.get("tab", ""))
    except ValueError:
        raise Invalid("A tab has a UUID.") from None


def _doing(request: HttpRequest) -> str:
    doing = request.POST.get("doing", "")
    if doing not in Presence.Doing.values:
        raise Invalid("One reads, or edits.")
    return doing


def _cases(request: HttpRequest, found: Review) -> list[int]:
    ahead = as_int(request.POST.get("ahead", ""))
    return [found.pk] if ahead is None else [found.pk, ahead]
