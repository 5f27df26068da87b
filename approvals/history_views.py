"""Two checkpoints of a thread beside each other."""

from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from approvals import actions
from approvals.audit import Actor
from approvals.history import comparison
from approvals.models import Review
from approvals.registry import graph as registered
from approvals.threads import head
from approvals.visible import visible


@require_safe
def compare(request: HttpRequest, pk: int) -> HttpResponse:
    """`?a=` and `?b=` are checkpoint ids of the review's thread, in any order."""
    found, policy = visible(request, pk)
    actions.open_review(Actor.of(request), found)
    shown = _shown(found, *(request.GET.get(key, "").replace("\x00", "") for key in "ab"))
    context = {"policy": policy, "review": found, "section": "queue", **shown}
    return render(request, "compare.html", context)


def _shown(found: Review, one: str, other: str) -> dict[str, Any]:
    """The comparison, or what to do instead."""
    graph = registered(found.graph)
    if graph is None:
        return {
            "problem": _("The history needs the graph, and no graph of this name is registered.")
        }
    if head(found.thread_id, found.checkpoint_ns) is None:
        return {"problem": _("The thread has no checkpoints any more: it was deleted.")}
    if not one or not other:
        return {"problem": _("Choose two checkpoints in the history, then press Compare.")}
    compared = comparison(found, graph, one, other)
    if compared is None:
        raise Http404
    if one == other:
        return {"problem": _("That is one checkpoint twice. Choose two different ones.")}
    return {"compared": compared}
