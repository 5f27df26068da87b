"""Notes on a case, and where somebody was named in one."""

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_safe

from approvals import note_actions
from approvals.audit import Actor
from approvals.errors import Invalid
from approvals.models import Review
from approvals.notes import MOST, mentions_of, notes_of, offered
from approvals.policies import Policy
from approvals.visible import visible

LISTED = 100


@require_http_methods(["GET", "HEAD", "POST"])
def notes(request: HttpRequest, pk: int) -> HttpResponse:
    """The notes of a case; a POST adds one. What is refused stays in its field."""
    found = visible(request, pk)[0]
    text = request.POST.get("note", "")
    if request.method != "POST":
        return _shown(request, found) if request.htmx else redirect(_place(found))  # type: ignore[attr-defined]
    try:
        note_actions.add(Actor.of(request), found, text)
    except Invalid as error:
        return _shown(request, found, text, str(error))
    return _shown(request, found) if request.htmx else redirect(_place(found))  # type: ignore[attr-defined]


def _place(found: Review) -> str:
    return f"{found.get_absolute_url()}#notes"


def _shown(request: HttpRequest, found: Review, text: str = "", wrong: str = "") -> HttpResponse:
    context = {
        "review": found,
        "notes": notes_of(found),
        "note_text": text,
        "note_wrong": wrong,
        "most": MOST,
        "policy": Policy(request.user),
    }
    part = "_notes.html" if request.htmx else "notes.html"  # type: ignore[attr-defined]
    return render(request, part, context, status=422 if wrong else 200)


@require_safe
def people(request: HttpRequest, pk: int) -> HttpResponse:
    """Who can be named, by the beginning of their name or username."""
    found = visible(request, pk)[0]
    typed = request.GET.get("q", "").replace("\x00", "")[:150]
    named = [
        {"username": one.get_username(), "name": one.get_full_name() or one.get_username()}
        for one in offered(found, typed)
    ]
    return JsonResponse({"people": named})


@require_http_methods(["GET", "HEAD", "POST"])
def mentions(request: HttpRequest) -> HttpResponse:
    """Where one was named; a POST marks all as seen."""
    if request.method == "POST":
        note_actions.see(request.user)
        return redirect("mentions")
    policy = Policy(request.user)
    rows = list(mentions_of(policy)[:LISTED])
    context = {"policy": policy, "rows": rows, "section": "mentions"}
    return render(request, "mentions.html", context)
