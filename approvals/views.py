"""The pages. Each view reads as: fetch, guard, act, answer."""

import functools
import uuid
from typing import Any

from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.views import LoginView
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.decorators import method_decorator
from django.utils.http import urlencode
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from approvals import actions, wording
from approvals.audit import Actor
from approvals.conversation import messages
from approvals.errors import AlreadyDecided, ApprovalError, Conflict, NotAllowed
from approvals.flow import flow_svg, from_drawable
from approvals.forms import EDIT, DecideForm, one_newline
from approvals.history import history, progress
from approvals.models import AuditEntry, Decision, Review
from approvals.paging import ROWS, as_int, capped, cursor, next_cursor
from approvals.paths import pick
from approvals.plain import as_text
from approvals.policies import Policy
from approvals.redline import redline as word_diff
from approvals.registry import graph as registered
from approvals.state_tree import tree


@method_decorator(never_cache, name="dispatch")
class SignInView(LoginView):
    """Sign-in and its audit entry commit together."""

    template_name = "sign_in.html"
    redirect_authenticated_user = True

    @transaction.atomic
    def form_valid(self, form: AuthenticationForm) -> HttpResponse:
        return super().form_valid(form)


def _person(request: HttpRequest) -> Any:
    """The signed-in user; LoginRequiredMiddleware lets nobody else come here."""
    return request.user


# Inbox


@require_safe
def inbox(request: HttpRequest) -> HttpResponse:
    context = _queue(request, Policy(request.user))
    if request.htmx:  # type: ignore[attr-defined]
        return render(request, "inbox.html#list", context)
    failed = context["policy"].reviews().filter(decisions__state=Decision.State.FAILED)
    context["failed"] = failed.listed().order_by("id")[:20]
    return render(request, "inbox.html", {**context, **_strip(request)})


def _queue(request: HttpRequest, policy: Policy, current: int | None = None) -> dict[str, Any]:
    """The waiting reviews as the address says: one keyset page, a capped count."""
    graph, text = (request.GET.get(key, "").replace("\x00", "") for key in ("graph", "q"))
    reviews = policy.reviews()
    waiting = reviews.waiting().listed()
    if graph:
        waiting = waiting.filter(graph=graph)
    waiting = waiting.search(text)
    rows = list(waiting.oldest_first(cursor(request.GET.get("after", "")))[: ROWS + 1])
    filters = {key: value for key, value in (("graph", graph), ("q", text)) if value}
    shown = current or as_int(request.GET.get("current", ""))
    place = {"after": request.GET.get("after"), "current": shown}
    return {
        "policy": policy,
        "rows": rows[:ROWS],
        "older": next_cursor(rows),
        "paged": bool(request.GET.get("after")),
        "count": (count := capped(waiting)),
        "nav_count": "" if filters else count,
        "graph": graph,
        "graphs": policy.listed_queues,
        "q": text,
        "row_query": urlencode(filters),
        "list_query": urlencode({**filters, **{k: v for k, v in place.items() if v}}),
        "current": shown,
        "next_row": _after(rows[:ROWS], shown),
        "section": "queue",
    }


def _after(rows: list[Review], current: int | None) -> Review | None:
    """The row under the current one; from the last, or from none of them, the first."""
    places = [row.pk for row in rows]
    at = places.index(current) + 1 if current in places else 0
    following = rows[at:] + rows[:at]
    return next((row for row in following if row.pk != current), None)


def _strip(request: HttpRequest) -> dict[str, Any]:
    """The person's own last decision while it can still be undone."""
    last = (
        Decision.objects.filter(
            actor=_person(request), state=Decision.State.PENDING, apply_after__gt=Now()
        )
        .annotate(left=F("apply_after") - Now())
        .select_related("review")
        .defer("review__snapshot", "review__search")
        .order_by("-decided_at")
        .first()
    )
    # The strip closes a second before the server's window does, so that its button keeps its word.
    left = last.left.total_seconds() - 1 if last else 0
    return {"undoable": last, "undo_left": max(0, round(left))}


# Review


def _visible(request: HttpRequest, pk: int) -> tuple[Review, Policy]:
    """The review, if this person may see it. An attempt to act on another's is audited."""
    policy = Policy(request.user)
    found = policy.reviews().defer("search").filter(pk=pk).first()
    if found is None:
        if request.method == "POST":
            error = NotAllowed("Not a review of this person's queues.")
            actions.refuse(Actor.of(request), error, review=Review.objects.filter(pk=pk).first())
        raise Http404
    return found, policy


@require_safe
def review(request: HttpRequest, pk: int) -> HttpResponse:
    found, policy = _visible(request, pk)
    part = request.GET.get("part", "")
    actions.open_review(Actor.of(request), found)
    if part == "state":
        live = {**_queue(request, policy, found.pk), **_standing(request, found, policy)}
        return render(request, "review.html#live", live)
    if part == "history":
        return render(request, "review.html#history", _history(request, found))
    return _review_page(request, found, policy)


def _review_page(
    request: HttpRequest,
    found: Review,
    policy: Policy,
    form: DecideForm | None = None,
    status: int = 200,
) -> HttpResponse:
    graph = registered(found.graph)
    settings = graph.review if graph else None
    standing = _standing(request, found, policy)
    form = form or DecideForm(found, graph, drafts=_taken_back(request, standing))
    response = form.response
    original = as_text(pick(found.values, settings.response)) if settings else ""
    text = form.text(response) if response else original
    if standing["decision"]:
        text = as_text(standing["decision"].edits.get(response, original))
    context = {
        **_queue(request, policy, found.pk),
        **standing,
        **_strip(request),
        "form": form,
        "settings": settings,
        "original_text": original,
        "response_text": form.text(response) if response else "",
        "approved_text": text,
        "diff": word_diff(original, text),
        "conversation": messages(found.values, settings.messages) if settings else [],
        "findings": _findings(found, settings),
        "draft": pick(found.values, settings.response) if settings else None,
        "drafted_by": pick(found.values, settings.drafted_by) if settings else None,
        "tree": tree(found.values),
        "metadata": tree(found.snapshot.get("metadata") or {}),
    }
    return render(request, "review.html", context, status=status)


def _taken_back(request: HttpRequest, standing: dict[str, Any]) -> dict[str, Any]:
    """The edits of this person's last decision here that they took back: theirs to go on with."""
    mine = [one for one in standing["taken_back"] if one.actor_id == request.user.pk]
    return mine[-1].edits if mine else {}


def _findings(found: Review, settings: Any) -> list[dict[str, str]]:
    """What the agent's own check noted, in whichever words the graph has for it."""
    listed = pick(found.values, settings.findings) if settings else None
    return [_finding(one) for one in listed] if isinstance(listed, list) else []


def _finding(one: Any) -> dict[str, str]:
    if not isinstance(one, dict):
        return {"text": str(one)}
    said = {key: str(one[key]) for key in ("rule", "quote", "severity") if one.get(key)}
    return {**said, "text": str(one.get("text") or one.get("message") or one.get("rule") or one)}


def _standing(request: HttpRequest, found: Review, policy: Policy) -> dict[str, Any]:
    """Where the review stands now: what the page asks for again at every nudge."""
    decision, taken_back = _decisions(found)
    shown = _history(request, found)
    pending = decision is not None and decision.state == Decision.State.PENDING
    return {
        **shown,
        "decision": decision,
        "taken_back": taken_back,
        "progress": _progress(request, found, decision, shown["history"]),
        "may_decide": policy.may_decide(found),
        "may_undo": decision is not None and pending and policy.may_undo(decision),
        "may_take_back": decision is not None and decision.is_stuck and policy.may_undo(decision),
        "may_retry": decision is not None and policy.may_retry(decision),
        "flow": _flow(found, shown["history"], pending),
        "thread_query": urlencode({"q": f'thread:"{found.thread_id}"'}),
    }


def _decisions(found: Review) -> tuple[Decision | None, list[Decision]]:
    """The decision that stands, if any, and those that were taken back, oldest first."""
    every = list(found.decisions.select_related("actor").order_by("decided_at"))
    for one in every:
        one.review = found
    undone = [one for one in every if one.state == Decision.State.UNDONE]
    return next((one for one in every if one not in undone), None), undone


def _progress(request: HttpRequest, found: Review, decision: Decision | None, shown: Any) -> Any:
    graph = registered(found.graph)
    if decision is None or graph is None:
        return []
    newest = history(found, graph) if request.GET.get("before") else shown
    return progress(decision, newest.steps)


def _history(request: HttpRequest, found: Review) -> dict[str, Any]:
    graph = registered(found.graph)
    before = request.GET.get("before", "").replace("\x00", "")
    return {"review": found, "history": history(found, graph, before) if graph else None}


def _flow(found: Review, shown: Any, pending: bool) -> str:
    graph = registered(found.graph)
    if graph is None or shown is None:
        return ""
    nodes, edges = from_drawable(graph.compiled.get_graph())
    here = {found.node} if pending or found.status == Review.Status.WAITING else set()
    label = f"Graph {graph.id}"
    return flow_svg(nodes, edges, waiting=here, visited=shown.visited, label=label)


# Decide


def posted(view: Any) -> Any:
    """Only a POST acts. A GET, which a sign-in in between makes of it, shows the review."""

    @functools.wraps(view)
    def wrapped(request: HttpRequest, pk: Any) -> HttpResponse:
        if request.method == "POST":
            answer: HttpResponse = view(request, pk)
            return answer
        if isinstance(pk, uuid.UUID):
            pk = get_object_or_404(Decision, pk=pk).review_id
        return redirect(_visible(request, pk)[0])

    return wrapped


@posted
def decide(request: HttpRequest, pk: int) -> HttpResponse:
    found, policy = _visible(request, pk)
    graph = registered(found.graph)
    form = DecideForm(found, graph, request.POST)
    if not form.is_valid():
        if form.forbidden:
            error = NotAllowed(f"Tried to edit {form.forbidden[:80]}.")
            actions.refuse(Actor.of(request), error, review=found)
        return _review_page(request, found, policy, form, status=422)
    try:
        actions.decide(Actor.of(request), found.pk, form.order)
    except Conflict as error:
        return _conflict_page(request, found, policy, form, error)
    except ApprovalError as error:
        form.add_error(None, str(error))
        status = 403 if isinstance(error, NotAllowed) else 422
        return _review_page(request, found, policy, form, status=status)
    return redirect(_address(request, found))


def _address(request: HttpRequest, found: Review) -> str:
    kept = request.GET.urlencode()
    return found.get_absolute_url() + (f"?{kept}" if kept else "")


def _conflict_page(
    request: HttpRequest, found: Review, policy: Policy, form: DecideForm, error: Conflict
) -> HttpResponse:
    """Who or what was first, and both texts. Nothing typed is lost."""
    found.refresh_from_db(fields=["status", "ended_because"])
    standing = _standing(request, found, policy)
    decision, response = standing["decision"], form.response
    draft = form.originals.get(response, "")
    theirs = decision.edits.get(response, draft) if decision else draft
    context = {
        **_queue(request, policy, found.pk),
        **standing,
        "error": error,
        "is_decided": isinstance(error, AlreadyDecided) and decision is not None,
        "draft": draft,
        "theirs": theirs,
        "mine": form.text(response) if response else "",
        "others": {name: text for name, text in form.texts().items() if name != response},
        "told": [
            (entry, wording.headline(entry))
            for entry in reversed(AuditEntry.objects.filter(review=found).order_by("-id")[:8])
        ],
    }
    return render(request, "conflict.html", context, status=409)


@posted
def redline(request: HttpRequest, pk: int) -> HttpResponse:
    """The word diff of a text that is being written. Records nothing."""
    found, policy = _visible(request, pk)
    graph = registered(found.graph)
    if graph is None:
        raise Http404
    form = DecideForm(found, graph, request.POST)
    if not request.htmx:  # type: ignore[attr-defined]
        actions.open_review(Actor.of(request), found)
        return _review_page(request, found, policy, form)
    name = form.response
    text = one_newline(request.POST.get(EDIT + name, ""))[: graph.review.max_length]
    diff = word_diff(form.originals.get(name, ""), text)
    return render(request, "review.html#redline", {"diff": diff})


@posted
def undo(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    return _on_decision(request, pk, actions.undo)


@posted
def retry(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    return _on_decision(request, pk, actions.retry)


def _on_decision(request: HttpRequest, pk: uuid.UUID, act: Any) -> HttpResponse:
    decision = get_object_or_404(Decision, pk=pk)
    found, policy = _visible(request, decision.review_id)
    try:
        act(Actor.of(request), decision.pk)
    except ApprovalError as error:
        graph = registered(found.graph)
        form = DecideForm(found, graph)
        return _conflict_or_refusal(request, found, policy, form, error)
    return redirect(found)


def _conflict_or_refusal(
    request: HttpRequest, found: Review, policy: Policy, form: DecideForm, error: ApprovalError
) -> HttpResponse:
    if isinstance(error, Conflict):
        return _conflict_page(request, found, policy, form, error)
    return render(request, "problem.html", {"title": "Not allowed", "text": str(error)}, status=403)
