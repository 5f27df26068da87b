"""The graph of a review: small, beside its state, and large on a page of its own."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from approvals.answers import level_of
from approvals.flow import flow_of, in_words
from approvals.flow_large import large_flow
from approvals.graph_plan import Plan, Progress, plan_of
from approvals.history import history
from approvals.models import Decision, Review
from approvals.paths import ns_path
from approvals.registry import graph as registered
from approvals.visible import visible


def small_graph(found: Review, visited: frozenset[str], still: bool) -> SafeString:
    """Of a pause in a subgraph, that one. `still`: whether it waits, or might again by an undo."""
    graph = registered(found.graph)
    if graph is None:
        return SafeString("")
    plan, progress = _drawn(graph, found, visited, still)
    return flow_of(plan, progress, label=_label(found))


@require_safe
def graph_page(request: HttpRequest, pk: int) -> HttpResponse:
    found, policy = visible(request, pk)
    context: dict[str, Any] = {"policy": policy, "review": found, "section": "queue"}
    graph = registered(found.graph)
    shown = history(found, graph) if graph else None
    if graph is not None and shown is not None:
        pending = found.decisions.filter(state=Decision.State.PENDING).exists()
        plan, progress = _drawn(graph, found, frozenset(shown.visited), found.is_open or pending)
        context["graph"] = large_flow(plan, progress, _label(found))
        context["words"] = in_words(plan, progress)
    return render(request, "graph.html", context)


def _drawn(
    graph: Any, found: Review, visited: frozenset[str], still: bool
) -> tuple[Plan, Progress]:
    waits = frozenset(found.pause.get("nodes") or [found.node]) if still else frozenset()
    return plan_of(level_of(graph, found)), Progress(waits, visited)


def _label(found: Review) -> str:
    name = f"{found.graph} {ns_path(found.checkpoint_ns)}".strip()
    return _("Graph %(name)s") % {"name": name}
