"""A decision's values into the thread, in such a way that the right nodes come next.

`aupdate_state` asks the edges of the last node again. Where that node routes on what an approval
sets (`is_compliant`), or routed with `Command(goto=…)`, the approval node silently drops out of
`next`, and with a careless repair the node after it would run twice. So every way of updating is
tried until one leaves exactly the nodes that were meant to come next.
"""

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.db import transaction
from langgraph._internal._constants import TASKS
from langgraph.channels.binop import BinaryOperatorAggregate
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.errors import InvalidUpdateError
from langgraph.graph import END
from langgraph.types import Command, Overwrite, Send, StateSnapshot

from approvals.ids import uuid6
from approvals.pauses import is_over, is_sent
from approvals.savers import run_here
from graphs.fields import coerce
from graphs.registry import Compiled

MOST_WAYS = 30  # nodes to act as; each try writes a checkpoint and takes it back
Step = tuple[Any, str | None]  # values, and the node to act as


class Dropped(Exception):
    """LangGraph would not run the right nodes after this update, so nothing was written. The edges
    out of the node before the pause do not lead here again."""


class SentApart(Exception):
    """This pause was reached by Send: its node runs with what it was sent, which a change of the
    state would not reach. Nothing was written. Approve it as it is."""


class _NotThisWay(Exception):
    """Rolls one attempt back."""


@dataclass(frozen=True)
class Update:
    """What an answer changes. `edits` replace a field, reducers or not; `values` go through them.

    `instead_of` are the nodes in whose place `goto` runs; "" leaves what comes next as it is.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    edits: Mapping[str, Any] = field(default_factory=dict)
    goto: str = ""
    instead_of: tuple[str, ...] = ()


def update(
    compiled: Compiled, level: Compiled, config: Any, change: Update
) -> tuple[str, StateSnapshot]:
    """Inside a transaction: the new checkpoint's id and its snapshot.

    `compiled` has the saver; `level` is the graph, or subgraph, that `config` names. Each way is a
    savepoint of its own, and the first that leads where it should is kept. Raises Dropped,
    SentApart; ValueError for an edit that its field cannot hold.
    """
    before = compiled.get_state(config)
    sent = [task for task in before.tasks if is_sent(task)]
    if sent and change.edits:
        raise SentApart
    written = _written(level, change)
    if not written and not change.goto:
        return before.config["configurable"]["checkpoint_id"], before
    coming = _coming(compiled, before, change)
    for steps in _ways(level, coming, written, plain=not change.goto and not sent):
        try:
            with transaction.atomic():
                return _attempt(compiled, config, steps, coming)
        except (_NotThisWay, InvalidUpdateError):
            continue
    raise Dropped


def _written(level: Compiled, change: Update) -> dict[str, Any]:
    typed = {name: coerce(level, name, value) for name, value in change.edits.items()}
    return {
        **change.values,
        **{name: _in_place(level, name, value) for name, value in typed.items()},
    }


def _in_place(level: Compiled, name: str, value: Any) -> Any:
    reduced = isinstance(level.channels.get(name), BinaryOperatorAggregate)
    return Overwrite(value) if reduced else value


def _coming(compiled: Compiled, before: StateSnapshot, change: Update) -> list[str | Send]:
    """What should run next: nodes by name, and the Sends of the step as they were sent."""
    kept = list(before.next)
    sends: list[Send] = []
    if any(is_sent(task) for task in before.tasks):
        sends = [one for one in _sent(compiled, before) if one.node in kept]
        for one in sends:
            kept.remove(one.node)
    if not change.goto:
        return [*kept, *sends]
    stays = [name for name in kept if name not in change.instead_of]
    onward = [one for one in sends if one.node not in change.instead_of]
    there = [] if change.goto == END else [change.goto]
    return [*stays, *onward, *there]


def _sent(compiled: Compiled, state: StateSnapshot) -> list[Send]:
    saver: Any = compiled.checkpointer
    found = saver.get_tuple(state.config)
    return list(found.checkpoint["channel_values"].get(TASKS, []) if found else [])


def _attempt(
    compiled: Compiled, config: Any, steps: Iterable[Step], coming: list[str | Send]
) -> tuple[str, StateSnapshot]:
    for values, as_node in steps:
        applied = _put(compiled, config, values, as_node)
    after = compiled.get_state(config)
    if sorted(after.next) != sorted(map(_name, coming)):
        raise _NotThisWay
    return applied["configurable"]["checkpoint_id"], after


def _put(compiled: Compiled, config: Any, values: Any, as_node: str | None) -> Any:
    return run_here(lambda: compiled.aupdate_state(config, values, as_node=as_node))


def _name(one: str | Send) -> str:
    return one if isinstance(one, str) else one.node


def _ways(
    level: Compiled, coming: list[str | Send], written: dict[str, Any], plain: bool
) -> Iterator[list[Step]]:
    if plain:
        yield [(written, None)]
    elsewhere = list(dict.fromkeys([*_ending_nodes(level), *level.nodes]))[:MOST_WAYS]
    if not coming:  # acting as a node that leads nowhere, or writing first and ending then
        for node in elsewhere if written else []:
            yield [(written, node)]
        yield [(written, None), (None, END)] if written else [(None, END)]
        for node in elsewhere if written else []:
            yield [(None, END), (written, node)]
        return
    there = Command(update=written, goto=coming)
    for node in elsewhere:
        yield [(there, node)]
    # A node that several edges join at stays triggered until the step it waits in is cleared.
    for node in elsewhere:
        yield [(None, END), (there, node)]


def _ending_nodes(level: Compiled) -> list[str]:
    """Nodes that lead nowhere: acting as one of them triggers nothing but the goto itself."""
    drawn = level.get_graph()
    leading = {edge.source for edge in drawn.edges if edge.target != "__end__"}
    return [name for name in level.nodes if name not in leading and name != "__start__"]


def end(compiled: Compiled, config: Any) -> str:
    """Inside a transaction: nothing comes next any more; the new checkpoint's id.

    Twice where it must be: LangGraph first writes what tasks beside a failed one did, and that
    may lead on to others.
    """
    for _ in range(2):
        at = _put(compiled, config, None, END)["configurable"]["checkpoint_id"]
        if is_over(compiled.get_state(config)):
            return str(at)
    raise Dropped


def fork(compiled: Compiled, old: CheckpointTuple, decision_id: str) -> str:
    """Inside a transaction: a checkpoint once more, as its thread's newest; the new one's id.

    As `aupdate_state(…, as_node="__copy__")` does it, which forgets what the run was started with.
    """
    saver: Any = compiled.checkpointer
    place = {"thread_id": old.config["configurable"]["thread_id"], "checkpoint_ns": ""}
    saver.get_tuple({"configurable": place})  # the head: what is read is what ids sort after
    now = dt.datetime.now(dt.UTC).isoformat()
    copied = {**old.checkpoint, "id": str(uuid6(clock_seq=-2)), "ts": now}
    step = int(old.metadata.get("step", 0)) + 1
    metadata = {**old.metadata, "source": "fork", "step": step, "decision_id": decision_id}
    put = saver.put(old.parent_config or {"configurable": place}, copied, metadata, {})
    return str(put["configurable"]["checkpoint_id"])
