"""A decision's values into the thread, in such a way that the same nodes still come next.

`aupdate_state` asks the edges of the last node again. Where that node routes on what an approval
sets (`is_compliant`), or routed with `Command(goto=…)`, the approval node silently drops out of
`next`, and with a careless repair the node after it would run twice.
"""

from collections.abc import Iterator
from typing import Any

from django.db import transaction
from langgraph._internal._constants import PUSH
from langgraph.errors import InvalidUpdateError
from langgraph.types import Command, StateSnapshot

from approvals.savers import run_here
from graphs.registry import Compiled


class Dropped(Exception):
    """LangGraph would not run the same nodes after this update, so nothing was written. The edges
    out of the node before the pause do not lead here again."""


class SentApart(Exception):
    """This pause was reached by Send: its node runs with what it was sent, which an edit would not
    reach. Nothing was written."""


class _NotThisWay(Exception):
    """Rolls one attempt back."""


def update(compiled: Compiled, config: Any, values: dict[str, Any]) -> tuple[str, StateSnapshot]:
    """Inside a transaction: the new checkpoint's id and its snapshot.

    Tries the plain update first, then ones that name where to go. Each is a savepoint of its own,
    and the first after which exactly the same nodes come next is kept. Raises Dropped.
    """
    before = compiled.get_state(config)
    if any(task.path and task.path[0] == PUSH for task in before.tasks):
        raise SentApart
    for written, as_node in _ways(compiled, before, values):
        try:
            with transaction.atomic():
                return _attempt(compiled, config, written, as_node, before)
        except (_NotThisWay, InvalidUpdateError):
            continue
    raise Dropped


def _attempt(
    compiled: Compiled, config: Any, written: Any, as_node: str | None, before: StateSnapshot
) -> tuple[str, StateSnapshot]:
    applied = run_here(lambda: compiled.aupdate_state(config, written, as_node=as_node))
    after = compiled.get_state(config)
    if sorted(after.next) != sorted(before.next):
        raise _NotThisWay
    return applied["configurable"]["checkpoint_id"], after


def _ways(
    compiled: Compiled, before: StateSnapshot, values: dict[str, Any]
) -> Iterator[tuple[Any, str | None]]:
    yield values, None
    there = Command(update=values, goto=list(before.next))
    for node in _ending_nodes(compiled):
        yield there, node
    for node in compiled.nodes:
        yield there, node


def _ending_nodes(compiled: Compiled) -> list[str]:
    """Nodes that lead nowhere: acting as one of them triggers nothing but the goto itself."""
    drawn = compiled.get_graph()
    leading = {edge.source for edge in drawn.edges if edge.target != "__end__"}
    return [name for name in compiled.nodes if name not in leading and name != "__start__"]
