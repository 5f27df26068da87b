"""The list's pages: the inbox, assigning, putting off, many at once, saved views."""

import uuid
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from approvals import assignees, bulk, later, queue, queue_actions
from approvals.audit import Actor
from approvals.clock import database_now
from approvals.errors import ApprovalError, Conflict, NotAllowed
from approvals.models import Decision, Review
from approvals.paging import capped
from approvals.policies import Policy
from approvals.queue_page import among, asked_of, queue_context, saved_views
from approvals.sentences import told
from approvals.strip import strip
from approvals.visible import visible


@require_safe
def inbox(request: HttpRequest) -> HttpResponse:
    policy = Policy(request.user)
    context = queue_context(request, policy)
    if request.htmx:  # type: ignore[attr-defined]
        return render(request, "inbox.html#list", context)
    failed = policy.reviews().filter(decisions__state=Decision.State.FAILED)
    context["failed"] = failed.listed().order_by("id")[:20]
    return render(request, "inbox.html", {**context, **strip(policy, context["nav_count"])})


@require_safe
def count(request: HttpRequest) -> HttpResponse:
    """How many wait, for the pages beside the queue."""
    on = urlsplit(request.headers.get("HX-Current-URL", "")).path
    section = "mentions" if on == reverse("mentions") else ""
    waiting = capped(Policy(request.user).reviews().awake())
    return render(request, "_count.html", {"nav_count": waiting, "section": section})


# One case


def snooze(request: HttpRequest, pk: int) -> HttpResponse:
    """The form; sent, it puts the case off and goes on with the one after it."""
    context = {"choices": later.CHOICES}
    return _arranged(request, pk, "put_off.html", context, _snooze)


def _snooze(request: HttpRequest, found: Review) -> None:
    sent, zone = request.POST, later.zone_of(request.POST.get("zone", ""))
    until = later.moment(sent.get("until", ""), sent.get("own", ""), zone, database_now())
    queue_actions.snooze(Actor.of(request), found.pk, until)


def assign(request: HttpRequest, pk: int) -> HttpResponse:
    return _arranged(request, pk, "assign.html", {}, _assign)


def _assign(request: HttpRequest, found: Review) -> None:
    to, group = assignees.chosen(request.POST.get("to", ""))
    queue_actions.assign(Actor.of(request), found.pk, to, group)


def wake(request: HttpRequest, pk: int) -> HttpResponse:
    found, _policy = visible(request, pk)
    if request.method != "POST":
        return redirect(found)
    try:
        queue_actions.wake(Actor.of(request), found.pk)
    except ApprovalError as error:
        return _refused(request, error)
    return redirect(_case(request, found))


def _arranged(
    request: HttpRequest,
    pk: int,
    template: str,
    context: dict[str, Any],
    act: Callable[[HttpRequest, Review], None],
) -> HttpResponse:
    found, policy = visible(request, pk)
    context = {**context, "policy": policy, "review": found, "asked": asked_of(request)}
    if request.method == "POST":
        rows, sort = among(request, policy), asked_of(request).sort
        following = queue.following(rows, sort, found, request.user)
        try:
            act(request, found)
        except ApprovalError as error:
            context["error"] = told(str(error))
            return render(request, template, {**context, **_people(found)}, status=_status(error))
        stays = "stay" in request.POST
        return redirect(_case(request, found if stays else following))
    if not policy.may_arrange(found):
        return _refused(request, NotAllowed())
    return render(request, template, {**context, **_people(found)})


def _people(found: Review) -> dict[str, Any]:
    people = assignees.people_of([found.graph])
    return {"people": people, "groups": assignees.groups_of(people)}


def _case(request: HttpRequest, found: Review | None) -> str:
    query = asked_of(request).query
    return (found.get_absolute_url() if found else "/") + (f"?{query}" if query else "")


def _status(error: ApprovalError) -> int:
    if isinstance(error, NotAllowed):
        return 403
    return 409 if isinstance(error, Conflict) else 422


def _refused(request: HttpRequest, error: ApprovalError) -> HttpResponse:
    title = _("Not allowed") if isinstance(error, NotAllowed) else _("Nothing was changed")
    context = {"title": title, "text": told(str(error))}
    return render(request, "problem.html", context, status=_status(error))


# Many at once


def many(request: HttpRequest) -> HttpResponse:
    """Asks first; with `sure`, does it, and says of each row what became of it."""
    if request.method != "POST":
        return redirect("inbox")
    policy, act = Policy(request.user), request.POST.get("act", "")
    shown = bulk.selected(request.POST.getlist("row"))
    if act not in bulk.ACTS or not shown:
        problem = {"title": _("Nothing is selected"), "text": _("Select cases in the list first.")}
        return render(request, "problem.html", problem, status=422)
    context = {"policy": policy, "act": act, "asked": asked_of(request), "section": "queue"}
    if "sure" not in request.POST:
        return _ask_first(request, policy, shown, context)
    try:
        done = bulk.carry_out(request, act, shown)
    except ApprovalError as error:
        context["error"] = told(str(error))
        return _ask_first(request, policy, shown, context, status=_status(error))
    return _say_what_was_done(request, done, context)


def _say_what_was_done(
    request: HttpRequest, done: list[bulk.Done], context: dict[str, Any]
) -> HttpResponse:
    undoable = bulk.can_be_undone(done)
    context |= {
        "done": [(one, undoable.get(one.result.pk), told(one.result.why_not)) for one in done],
        "undoable": len(undoable),
        "number": sum(one.result.is_done for one in done),
        "refused": sum(not one.result.is_done for one in done),
    }
    return render(request, "bulk.html", context)


def undo_many(request: HttpRequest) -> HttpResponse:
    """Takes back all that were decided at once and still can be, and says what became of each."""
    if request.method != "POST":
        return redirect("inbox")
    policy, asked = Policy(request.user), asked_of(request)
    try:
        done = bulk.take_back(request, request.POST.getlist("decision"))
    except ApprovalError as error:
        return _refused(request, error)
    context = {"policy": policy, "act": "undo", "asked": asked, "section": "queue"}
    return _say_what_was_done(request, done, context)


def _ask_first(
    request: HttpRequest,
    policy: Policy,
    shown: Any,
    context: dict[str, Any],
    status: int = 200,
) -> HttpResponse:
    rows = bulk.looked_at(policy, context["act"], shown)
    graphs = {row.review.graph for row in rows if row.review}
    people = assignees.people_of(graphs)
    able = [row for row in rows if not row.why_not]
    context |= {
        "rows": rows,
        "able": len(able),
        "choices": later.CHOICES,
        "people": people,
        "groups": assignees.groups_of(people),
        "key": request.POST.get("key") or uuid.uuid4(),
        "text": request.POST.get("text", ""),
        "most": queue_actions.MOST_AT_ONCE,
        "too_many": len(shown) > queue_actions.MOST_AT_ONCE,
    }
    return render(request, "bulk.html", context, status=status)


# Saved views


@require_safe
def views(request: HttpRequest) -> HttpResponse:
    return _views_page(request)


def _views_page(request: HttpRequest, error: str = "", status: int = 200) -> HttpResponse:
    policy = Policy(request.user)
    listed = [
        {
            "view": one,
            "asked": queue.parse(QueryDict(one.query), request.user),
            "mine": one.owner_id == request.user.pk,
            "may_change": one.owner_id == request.user.pk or (one.shared and policy.tends_runs),
        }
        for one in saved_views(request.user)
    ]
    context = {
        "policy": policy,
        "section": "queue",
        "listed": listed,
        "asked": asked_of(request),
        "error": error,
    }
    return render(request, "views.html", context, status=status)


@require_POST
def save_view(request: HttpRequest) -> HttpResponse:
    asked = asked_of(request)
    try:
        queue_actions.save_view(
            Actor.of(request), request.POST.get("name", ""), asked.query, "shared" in request.POST
        )
    except ApprovalError as error:
        return _views_page(request, told(str(error)), _status(error))
    return redirect("/" + (f"?{asked.query}" if asked.query else ""))


@require_POST
def change_view(request: HttpRequest, pk: int) -> HttpResponse:
    """Renames, shares or deletes it."""
    sent, actor = request.POST, Actor.of(request)
    try:
        if "delete" in sent:
            queue_actions.delete_view(actor, pk)
        else:
            queue_actions.rename_view(actor, pk, sent.get("name", ""), "shared" in sent)
    except ApprovalError as error:
        return _views_page(request, told(str(error)), _status(error))
    return redirect("views")
