"""Drafts over HTTP: saved from the page as a person types, and their earlier versions."""

import datetime as dt
import uuid
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.template.loader import render_to_string
from django.utils import formats, timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from approvals import desk_actions, draft_actions, drafts
from approvals.audit import Actor
from approvals.draft_actions import Save
from approvals.errors import ApprovalError
from approvals.models import Draft, Review
from approvals.paging import as_int
from approvals.reasons import reasons_for
from approvals.registry import graph as registered
from approvals.saved_replies import found_for
from approvals.views import form_for, posted
from approvals.visible import visible


@posted
def draft(request: HttpRequest, pk: int) -> HttpResponse:
    """Saves what the form holds. Answers in JSON; see editor.js for what each status means."""
    if request.POST.get("owner") != str(request.user.pk):
        return _refusal(403, _("Somebody else is signed in here now"))
    try:
        found, policy = visible(request, pk)
    except Http404:
        return _refusal(403, _("This case is not yours to work on any more"))
    if not policy.may_decide(found):
        return _refusal(403, _("This case is not yours to work on any more"))
    sent = _sent(request, found)
    if sent is None:
        return _refusal(400, _("The form is incomplete; reload the page"))
    if drafts.size(sent.fields) > drafts.MOST:
        return _refusal(413, _("Over 1 MB, too much to be saved"))
    saved = draft_actions.autosave(request.user, found, sent)
    if saved.conflict:
        return JsonResponse(_both(request, found, saved.draft, sent), status=409)
    # What a page sends as it goes, perhaps after its decision, is no beginning of work.
    is_going = "going" in request.POST
    holder = _claimed(Actor.of(request), found, saved.draft.saved_at, is_going)
    return JsonResponse({**_told(saved.draft), "holder": holder})


def _refusal(status: int, said: str) -> HttpResponse:
    return JsonResponse({"said": said}, status=status)


def _sent(request: HttpRequest, found: Review) -> Save | None:
    data = request.POST
    base, version = as_int(data.get("base", "")), as_int(data.get("version", ""))
    try:
        tab = uuid.UUID(data.get("tab", ""))
    except ValueError:
        return None
    if base is None or version is None or version > 2**30:  # which leaves room to count on
        return None
    fields = drafts.sent_fields(data, form_for(found, registered(found.graph)))
    return Save(fields, data.get("digest", "")[:64].replace("\x00", ""), tab, base, version)


def _told(saved: Draft) -> dict[str, Any]:
    at = formats.date_format(timezone.localtime(saved.saved_at), "H:i:s")
    said = _("saved %(time)s") % {"time": at}
    return {"version": saved.version, "said": said}


def _both(request: HttpRequest, found: Review, saved: Draft, sent: Save) -> dict[str, Any]:
    pairs = [
        (drafts.label(name), saved.fields.get(name), sent.fields.get(name))
        for name in sorted({*saved.fields, *sent.fields})
        if saved.fields.get(name) != sent.fields.get(name)
    ]
    context = {"draft": saved, "pairs": pairs, "review": found}
    html = render_to_string("_draft_both.html", context, request)
    before = drafts.untouched(form_for(found, registered(found.graph)))
    told = {"html": html, "said": _("kept, beside the other text")}
    return {**_told(saved), **told, "fields": {**before, **saved.fields}}


def _claimed(actor: Actor, found: Review, now: dt.datetime, is_going: bool) -> str:
    """Whoever else holds the review. Nobody: then the person who writes does, from now on."""
    if is_going or found.status != Review.Status.WAITING:
        return ""
    if found.claimed_until is None or found.claimed_until <= now:
        try:
            desk_actions.claim(actor, found.pk)
        except ApprovalError:  # somebody was faster, or it was decided: the page learns of it
            found.refresh_from_db(fields=["claimed_by", "claimed_until"])
        else:
            return ""
    holder = found.claimed_by
    if holder is None or holder.pk == actor.user.pk:
        return ""
    return str(holder.get_full_name() or holder.get_username())


@require_safe
def versions(request: HttpRequest, pk: int) -> HttpResponse:
    """The person's earlier texts of a review, a part of its page or a page of its own."""
    found, policy = visible(request, pk)
    mine = drafts.draft_of(request.user, found) if policy.may_decide(found) else None
    context = {
        "review": found,
        "policy": policy,
        "mine": mine,
        "latest": drafts.by_label(mine.fields) if mine else {},
        "versions": drafts.versions(mine) if mine else [],
        "section": "queue",
    }
    name = "_draft_versions.html" if request.htmx else "draft_versions.html"  # type: ignore[attr-defined]
    return render(request, name, context)


@posted
def restore(request: HttpRequest, pk: int) -> HttpResponse:
    """Makes an earlier text the present one again."""
    found, policy = visible(request, pk)
    if not policy.may_decide(found):
        raise Http404
    revision = as_int(request.POST.get("revision", ""))
    if revision is None or draft_actions.restore(request.user, found, revision) is None:
        raise Http404
    return redirect(found)


@require_safe
def replies(request: HttpRequest, pk: int) -> HttpResponse:
    """The saved replies that a search finds for this review, filled from its state."""
    found, policy = visible(request, pk)
    listed = found_for(policy, found, request.GET.get("q", "")[:100])
    return render(request, "_draft_replies.html", {"found": listed})


@require_safe
def reasons(request: HttpRequest, pk: int) -> HttpResponse:
    """The reasons to pick from: the person's last ones, and those of reviews.toml."""
    found = visible(request, pk)[0]
    listed = reasons_for(request.user, found, request.GET.get("action", ""))
    return render(request, "_draft_reasons.html", {"reasons": listed})
