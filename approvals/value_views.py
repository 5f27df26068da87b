"""One value of a review's checkpoint, opened on demand and a page at a time.

The review keeps a state in part where it is long; the rest is read from the checkpoint itself.
"""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop as noop
from django.views.decorators.http import require_safe

from approvals.errors import AWAY
from approvals.models import Review
from approvals.paging import as_int
from approvals.plain import JSON, jsonable, measured
from approvals.registry import graph as registered
from approvals.savers import JoiningSaver, joined, raw_connection
from approvals.snapshots import at, everything, is_cut
from approvals.state_tree import entries, tree
from approvals.tolerant import reading, tolerant
from approvals.visible import visible
from approvals.wording import number

ITEMS = 200
CHARACTERS = 20_000
GONE = noop(
    "This checkpoint is no longer in the database, so no more can be opened than the review keeps."
)
NOTHING = noop("There is no such value in this state. Open the review again and follow its links.")
OTHER = noop("The checkpoint holds something else here now than the review was shown with.")


@require_safe
def value(request: HttpRequest, pk: int) -> HttpResponse:
    """`path` is a JSON pointer into the snapshot; `from` and `to` count items or characters."""
    found, policy = visible(request, pk)
    path = request.GET.get("path", "")
    context, status = _opened(found, path, _count(request, "from") or 0, _count(request, "to"))
    # Two answers at one address: a cache must not give the part for the page.
    template = "value.html#value" if request.htmx else "value.html"  # type: ignore[attr-defined]
    context |= {"review": found, "policy": policy, "path": path[:500], "section": "queue"}
    # htmx puts no 404 on a page: there the part that says why is an answer like any other.
    return render(
        request,
        template,
        context,
        status=200 if request.htmx else status,  # type: ignore[attr-defined]
    )


def _count(request: HttpRequest, name: str) -> int | None:
    number = as_int(request.GET.get(name, ""))
    return None if number is None else max(0, number)


def _opened(found: Review, path: str, start: int, end: int | None) -> tuple[dict[str, Any], int]:
    state = _checkpoint(found)
    try:
        opened = at(state if state is not None else found.snapshot, path)
    except LookupError:
        return {"note": _(NOTHING if state is not None else GONE)}, 404
    if state is None and is_cut(opened):
        return {"note": _(GONE)}, 404
    page = _page(opened, path, start, end)
    return page | ({"note": _(OTHER)} if _differs(found, path, opened) else {}), 200


def _checkpoint(found: Review) -> dict[str, Any] | None:
    """The review's snapshot as its checkpoint has it, uncut; None when the checkpoint is gone."""
    place: Any = {
        "thread_id": found.thread_id,
        "checkpoint_ns": found.checkpoint_ns,
        "checkpoint_id": found.checkpoint_id,
    }
    graph = registered(found.graph)
    if graph is None:
        return _unregistered(found, {"configurable": place})
    try:
        state = reading(joined(graph)).get_state({"configurable": place})
    except AWAY:
        raise
    except Exception:  # LangGraph cannot read it: its bare checkpoint can still be opened
        return _unregistered(found, {"configurable": place})
    if state.created_at is None:
        return None
    return {**found.snapshot, **everything(state)}


def _unregistered(found: Review, config: Any) -> dict[str, Any] | None:
    head = tolerant(JoiningSaver(raw_connection())).get_tuple(config)
    if head is None:
        return None
    held = head.checkpoint["channel_values"]
    values = {k: v for k, v in held.items() if not k.startswith(("__", "branch:"))}
    return {**found.snapshot, "values": jsonable(values)}


def _differs(found: Review, path: str, opened: JSON) -> bool:
    """Whether a value that was shown in part is another now: another allow-list, another key."""
    try:
        shown = at(found.snapshot, path)
    except LookupError:
        return False
    return isinstance(shown, dict) and is_cut(shown) and shown["sha256"] != measured(opened)[1]


def _page(opened: JSON, path: str, start: int, end: int | None) -> dict[str, Any]:
    if not isinstance(opened, str | list | dict):
        return {"nodes": tree(opened, path), "shown": "", "text": None}
    size = CHARACTERS if isinstance(opened, str) else ITEMS
    total = len(opened)
    start = min(start, max(0, total - 1))
    stop = min(total, start + size, total if end is None else max(end, start))
    return {
        "text": opened[start:stop] if isinstance(opened, str) else None,
        "nodes": () if isinstance(opened, str) else entries(opened, path, start, stop),
        "shown": _extent(isinstance(opened, str), start + 1, stop, total),
        "earlier": max(0, start - size) if start else None,
        "later": stop if stop < total else None,
    }


def _extent(is_text: bool, first: int, last: int, total: int) -> str:
    if not total:
        return _("no characters") if is_text else _("no entries")
    characters = _("characters %(first)s to %(last)s of %(total)s")
    said = characters if is_text else _("entries %(first)s to %(last)s of %(total)s")
    return said % {"first": number(first), "last": number(last), "total": number(total)}
