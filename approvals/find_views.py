"""From an id that somebody has at hand to its case."""

from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.http import urlencode
from django.views.decorators.http import require_safe

from approvals.paging import as_int
from approvals.policies import Policy


@require_safe
def find(request: HttpRequest) -> HttpResponse:
    """The newest case of a thread, or the case of that number; else what the search finds."""
    text = request.GET.get("id", "").replace("\x00", "").strip()
    named = Q(thread_id=text) | Q(pk=as_int(text))
    found = Policy(request.user).reviews().listed().filter(named).order_by("-pk").first()
    if text and found is not None:
        return redirect(found)
    return redirect(f"{reverse('inbox')}?{urlencode({'q': text})}")
