"""The pages. Each view reads as: fetch, guard, act, answer."""

import functools
import uuid
from typing import Any

from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.views import LoginView
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.http import urlencode
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from approvals import actions, desk, editing, wording
from approvals.answers import WORDS_FOR, approval_values, editable, offered, unreadable
from approvals.audit import Actor
from approvals.claims import FIELDS, name_of
from approvals.conversation import Message, messages
from approvals.errors import AlreadyDecided, ApprovalError, Conflict, NotAllowed
from approvals.forms import TEXT, DecideForm
from approvals.graph_views import small_graph
from approvals.hints import hints
from approvals.history import history, progress
from approvals.models import AuditEntry, Decision, Draft, Review
from approvals.paths import pick
from approvals.plain import as_text
from approvals.policies import Policy
from approvals.question_form import QuestionForm, drafts_of, tell
from approvals.queue_page import queue_context, row_query
from approvals.redline import redline as word_diff
from approvals.registry import graph as registered
from approvals.sentences import told as told_in_words
from approvals.state_tree import tree
from approvals.strip import strip
from approvals.visible import visible

AnyForm = DecideForm | QuestionForm
# Sent by flow.js, which puts the answer into the page that is there.
IN_PAGE = "X-Flow"
OF_PERSON = "X-Person"


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


def told(
    request: HttpRequest, message: str = "", *, fresh: bool = False, status: int = 200
) -> HttpResponse:
    """The strip as it is now, with what has to be said besides. `fresh`: signed this moment."""
    context = {**strip(Policy(request.user)), "message": message, "fresh": fresh}
    answer = render(request, "_strip.html", context, status=status)
    answer["X-Strip"] = "1"  # tells it from the sign-in page, which also comes with 200
    return answer


def is_anothers(request: HttpRequest) -> bool:
    """Whether a page of somebody else asks, who has signed out since in the same browser."""
    # A beacon, sent as a page closes, has no headers of its own.
    said = request.headers.get(OF_PERSON) or request.POST.get("person")
    return said is not None and said != str(request.user.pk)


# Review


@require_safe
def review(request: HttpRequest, pk: int) -> HttpResponse:
    found, policy = visible(request, pk)
    part = request.GET.get("part", "")
    # What somebody has, and a script fetches anew before it is shown, they have not looked at.
    if not ("ahead" in request.GET and part == "work" and found.holder == request.user):
        actions.open_review(Actor.of(request), found)
    if part == "state":
        live = {"policy": policy, "row_query": row_query(request)}
        live |= _standing(request, found, policy)
        return render(request, "review.html#live", live)
    if part == "history":
        return render(request, "review.html#history", _history(request, found))
    if part == "work":
        return HttpResponse(status=401) if is_anothers(request) else work(request, found, policy)
    return _review_page(request, found, policy)


def work(request: HttpRequest, found: Review, policy: Policy) -> HttpResponse:
    """The case alone, to be put into a page that is there. Nobody has looked at it yet."""
    answer = render(request, "review.html#work", _review_context(request, found, policy))
    answer["X-Case"] = str(found.pk)
    return answer


def _review_page(
    request: HttpRequest,
    found: Review,
    policy: Policy,
    form: AnyForm | None = None,
    status: int = 200,
) -> HttpResponse:
    queue = queue_context(request, policy, found.pk)
    context = {
        **queue,
        **strip(policy, queue["nav_count"]),
        **_review_context(request, found, policy, form),
    }
    return render(request, "review.html", context, status=status)


def _review_context(
    request: HttpRequest, found: Review, policy: Policy, form: AnyForm | None = None
) -> dict[str, Any]:
    graph = registered(found.graph)
    settings = graph.review if graph else None
    standing = _standing(request, found, policy)
    mine = editing.draft_for(policy, found, standing["decision"])
    form = form or _form_of(request, found, graph, standing["taken_back"], mine)
    if standing["decision"] and isinstance(form, QuestionForm):
        tell(form, standing["decision"])
    response = settings.response if settings else ""
    original = as_text(pick(found.values, response)) if response else ""
    values = {**(found.snapshot.get("around") or {}), **found.values}
    return {
        "policy": policy,
        "row_query": row_query(request),
        **standing,
        "form": form,
        **editing.about(policy, found, standing["decision"], form, settings, mine, values),
        "settings": settings,
        "sets": approval_values(graph, found) if graph else {},
        "actions": _actions(graph, found, form),
        "unreadable": unreadable(found),
        "earlier": _earlier(found, response),
        "original_text": original,
        "response_text": form.text,
        "conversation": _conversation(values, settings, form),
        "findings": _findings(values, settings),
        "draft": pick(found.values, response) if response else None,
        "drafted_by": pick(values, settings.drafted_by) if settings else None,
        "tree": tree(found.values),
        "around": tree(found.snapshot.get("around") or {}, "/around"),
        "metadata": tree(found.snapshot.get("metadata") or {}, "/metadata"),
        **_texts(form, standing["decision"], original, response),
    }


def _conversation(values: Any, settings: Any, form: AnyForm) -> list[Message]:
    """The messages so far; the calls that are asked about stand below them, not among them."""
    said = messages(values, settings.messages) if settings else []
    asked = [call.name for call in form.question.calls] if isinstance(form, QuestionForm) else []
    if said and asked and not said[-1].text and _calls(said[-1]) == asked:
        return said[:-1]
    return said


def _calls(message: Message) -> list[str]:
    return [call.name for call in message.tool_calls]


def _texts(form: AnyForm, decision: Decision | None, original: str, response: str) -> Any:
    """What goes out, or went out, against the draft."""
    text = form.text if form.response else original
    if decision is not None:
        text = as_text(decision.values.get(response, original)) if response else ""
    return {"approved_text": text, "diff": word_diff(original, text)}


def form_for(
    found: Review, graph: Any, data: Any = None, drafts: Any = None, kept: Any = None
) -> AnyForm:
    """The form that this pause is decided with."""
    if graph is not None and found.is_question and "question" in found.pause:
        return QuestionForm(found, graph, data, drafts, kept)
    return DecideForm(found, graph, data, drafts, kept)


def _form_of(
    request: HttpRequest, found: Review, graph: Any, taken_back: list[Decision], mine: Draft | None
) -> AnyForm:
    """The form with what this person had in it: their draft, which holds what they sent as well, or
    the edits of a decision that they took back."""
    last = next((one for one in reversed(taken_back) if one.actor_id == request.user.pk), None)
    drafts = _taken_back(found, last) if last and not mine else {}
    return form_for(found, graph, drafts=drafts, kept=mine.fields if mine else {})


def _actions(graph: Any, found: Review, form: AnyForm) -> list[dict[str, Any]]:
    """What can be done besides approving, each with the words that the person gave for it."""
    if graph is None or not isinstance(form, DecideForm) or not found.pause_is_known:
        return []
    answers = graph.review.answers()
    return [
        {
            "name": name,
            "field": form[TEXT + name],
            "wanted": told_in_words(WORDS_FOR[Decision.Action(name)]),
            "goto": answers[name].goto,
            "open": form.is_bound and form.chosen == name,
        }
        for name in offered(graph, found)
        if name in answers
    ]


def _earlier(found: Review, response: str) -> dict[str, Any] | None:
    """The round before, if this one is what came of sending it back."""
    before = found.follows
    if before is None or before.action != Decision.Action.SEND_BACK:
        return None
    draft = as_text(pick(before.review.values, response)) if response else ""
    now = as_text(pick(found.values, response)) if response else ""
    return {
        "decision": before,
        "feedback": before.said.get("text", ""),
        "draft": draft,
        "diff": word_diff(draft, now),
    }


def _taken_back(found: Review, last: Decision) -> dict[str, Any]:
    """The edits of a decision that was taken back: its person's to go on with."""
    if found.is_question:
        return drafts_of(last)
    said = {TEXT + last.said["action"]: last.said["text"]} if last.said.get("text") else {}
    return {**last.edits, **last.said.get("unsent", {}), **said}


def _findings(values: Any, settings: Any) -> list[dict[str, str]]:
    """What the agent's own check noted, in whichever words the graph has for it."""
    listed = pick(values, settings.findings) if settings else None
    return [_finding(one) for one in listed] if isinstance(listed, list) else []


def _finding(one: Any) -> dict[str, str]:
    if not isinstance(one, dict):
        return {"text": str(one)}
    said = {key: str(one[key]) for key in ("rule", "quote", "severity") if one.get(key)}
    return {**said, "text": str(one.get("text") or one.get("message") or one.get("rule") or one)}


def _retry_times(found: Review) -> int:
    graph = registered(found.graph)
    return graph.review.retry.times if graph and graph.review.retry else 0


def _standing(request: HttpRequest, found: Review, policy: Policy) -> dict[str, Any]:
    """Where the review stands now: what the page asks for again at every nudge."""
    decision, taken_back = _decisions(found)
    shown = _history(request, found)
    pending = decision is not None and decision.state == Decision.State.PENDING
    return {
        **shown,
        "decision": decision,
        "heading": wording.standing(decision, decision.actor_id == request.user.pk)
        if decision
        else "",
        "waits": wording.waits(found),
        **desk.of_case(found, policy),
        "next_round": _next_round(decision),
        "taken_back": taken_back,
        "progress": _progress(request, found, decision, shown["history"]),
        **_offers(found),
        "may_tend": policy.tends_runs,
        "may_arrange": policy.may_arrange(found),
        "retry_times": _retry_times(found),
        "may_decide": policy.may_decide(found),
        "may_undo": decision is not None and _in_window(decision) and policy.may_undo(decision),
        "may_take_back": decision is not None and decision.is_stuck and policy.may_undo(decision),
        "may_retry": decision is not None and policy.may_retry(decision),
        "flow": _flow(found, shown["history"], pending),
        "thread_query": urlencode({"q": f'thread:"{found.thread_id}"'}),
    }


def _in_window(decision: Decision) -> bool:
    """By this process's clock, for the button; the database's refuses."""
    return decision.state == Decision.State.PENDING and decision.apply_after > timezone.now()


def _next_round(decision: Decision | None) -> Review | None:
    if decision is None or decision.state != Decision.State.PAUSED:
        return None
    return decision.next_reviews.listed().order_by("pk").first()


def _offers(found: Review) -> dict[str, Any]:
    """What the dock has buttons for."""
    graph = registered(found.graph)
    if graph is None or not found.pause_is_known or found.is_question:
        return {"offers": [], "has_reply": False}
    others = [name for name in offered(graph, found) if name != Decision.Action.APPROVE]
    return {"offers": others, "has_reply": graph.review.response in editable(graph, found)}


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
    return {
        "review": found,
        "history": history(found, graph, before) if graph else None,
        "may_run_again": Policy(request.user).tends_runs,
    }


def _flow(found: Review, shown: Any, pending: bool) -> str:
    """The graph that pauses: of a pause in a subgraph, that one."""
    graph = registered(found.graph)
    if graph is None or shown is None:
        return ""
    return small_graph(found, frozenset(shown.visited), still=pending or found.is_open)


# Decide


def posted(view: Any) -> Any:
    """Only a POST acts. A GET, which a sign-in in between makes of it, shows the review."""

    @functools.wraps(view)
    def wrapped(request: HttpRequest, pk: Any) -> HttpResponse:
        if request.method == "POST":
            answer: HttpResponse = (
                HttpResponse(status=401) if is_anothers(request) else view(request, pk)
            )
            return answer
        if isinstance(pk, uuid.UUID):
            pk = get_object_or_404(Decision, pk=pk).review_id
        return redirect(visible(request, pk)[0])

    return wrapped


@posted
def decide(request: HttpRequest, pk: int) -> HttpResponse:
    found, policy = visible(request, pk)
    graph = registered(found.graph)
    form = form_for(found, graph, request.POST)
    editing.keep(request, policy, found, form_for(found, graph))
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
    if IN_PAGE in request.headers:
        return told(request, fresh=True)
    return redirect(_address(request, found))


def _address(request: HttpRequest, found: Review) -> str:
    kept = request.GET.urlencode()
    return found.get_absolute_url() + (f"?{kept}" if kept else "")


def _conflict_page(
    request: HttpRequest, found: Review, policy: Policy, form: AnyForm, error: Conflict
) -> HttpResponse:
    """Who or what was first, and both texts. Nothing typed is lost."""
    found.refresh_from_db(fields=["status", "ended_because", *FIELDS])
    standing = _standing(request, found, policy)
    decision = standing["decision"]
    draft = form.original if isinstance(form, DecideForm) else ""
    theirs = as_text(decision.values.get(form.response, draft)) if decision else draft
    queue = queue_context(request, policy, found.pk)
    context = {
        **queue,
        **strip(policy, queue["nav_count"]),
        **standing,
        "error": error,
        "is_decided": isinstance(error, AlreadyDecided) and decision is not None,
        "draft": draft,
        "theirs": theirs,
        "diff": word_diff(theirs, form.text),
        "mine": form.text,
        "others": form.kept(),
        "did": wording.did(name_of(decision.actor), decision.action) if decision else "",
        "happened": [
            (entry, wording.headline(entry))
            for entry in reversed(AuditEntry.objects.filter(review=found).order_by("-id")[:8])
        ],
    }
    return render(request, "conflict.html", context, status=409)


@posted
def redline(request: HttpRequest, pk: int) -> HttpResponse:
    """The word diff of a text that is being written. Records nothing."""
    found, policy = visible(request, pk)
    graph = registered(found.graph)
    if graph is None:
        raise Http404
    form = form_for(found, graph, request.POST)
    if not request.htmx:  # type: ignore[attr-defined]
        actions.open_review(Actor.of(request), found)
        return _review_page(request, found, policy, form)
    if not isinstance(form, DecideForm):
        raise Http404
    diff = word_diff(form.original, form.text[: graph.review.max_length])
    said = hints(graph.review, form.text, form.original)
    return render(request, "_draft_live.html", {"diff": diff, "hints": said})


@posted
def undo(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    return _on_decision(request, pk, actions.undo)


@posted
def retry(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    return _on_decision(request, pk, actions.retry)


def _on_decision(request: HttpRequest, pk: uuid.UUID, act: Any) -> HttpResponse:
    decision = get_object_or_404(Decision, pk=pk)
    found, policy = visible(request, decision.review_id)
    try:
        act(Actor.of(request), decision.pk)
    except ApprovalError as error:
        if IN_PAGE in request.headers:
            return told(request, str(error), status=409)
        graph = registered(found.graph)
        form = form_for(found, graph)
        return _conflict_or_refusal(request, found, policy, form, error)
    if IN_PAGE in request.headers:
        return told(request)
    return redirect(found)


def _conflict_or_refusal(
    request: HttpRequest, found: Review, policy: Policy, form: AnyForm, error: ApprovalError
) -> HttpResponse:
    if isinstance(error, Conflict):
        return _conflict_page(request, found, policy, form, error)
    return render(request, "problem.html", {"title": "Not allowed", "text": str(error)}, status=403)
