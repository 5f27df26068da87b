"""What Countersign's design asks of LangGraph's tables, as short as it can be said."""

from dataclasses import dataclass
from typing import Any

from langgraph.checkpoint.base import Checkpoint
from langgraph.types import Interrupt, StateSnapshot, _interrupt_id

from tests.contract.threads import Thread


@dataclass(frozen=True)
class Place:
    """Where a question was asked: the task, its checkpoint and namespace."""

    config: Any
    task_id: str
    answered: list[Any]
    """The answers that this task already has."""


def places(thread: Thread, question: Interrupt) -> list[Place]:
    """Every checkpoint that holds the question: the asking task's own, and each caller's."""
    found = []
    for ns in thread.namespaces():
        saved = thread.checkpoint(ns)
        writes = saved.pending_writes or []
        for task_id, channel, value in writes:
            if channel == "__interrupt__" and question.id in [one.id for one in value]:
                answered: list[Any] = next(
                    (v for t, c, v in writes if t == task_id and c == "__resume__"), []
                )
                found.append(Place(saved.config, task_id, answered))
    return found


def place(thread: Thread, question: Interrupt) -> Place:
    """The asking task's own: the innermost."""
    return max(places(thread, question), key=lambda one: len(ns_of(one)))


def ns_of(place: Place) -> str:
    return str(place.config["configurable"]["checkpoint_ns"])


def write_answer(thread: Thread, question: Interrupt, value: Any) -> None:
    """The answer as a row. Nothing runs; the next run of the thread finds it."""
    at = place(thread, question)
    thread.put_writes(at.config, [("__resume__", [*at.answered, value])], at.task_id)


def still_open(place: Place, node: str, question: Interrupt) -> bool:
    """False once the asking task has an answer for it, also when the task failed after that.

    A question's id is made of how many answers its task had when it asked. Not for a task that
    asks several at once (the functional API).
    """
    ns = "|".join(part for part in (ns_of(place), f"{node}:{place.task_id}") if part)
    return question.id == _interrupt_id(ns, len(place.answered))


def newer(thread: Thread, task_id: str) -> str:
    """`__error__` or `__interrupt__`: which of the two a task wrote last.

    LangGraph keeps both. Each is one row that is updated in place, so the row with the younger
    transaction is the news. A dump and restore gives all rows one age.
    """
    rows = thread.sql(
        "SELECT channel FROM checkpoint_writes WHERE thread_id = %s AND task_id = %s "
        "AND channel IN ('__error__', '__interrupt__') ORDER BY age(xmin) LIMIT 1",
        thread.id,
        task_id,
    )
    return str(rows[0]["channel"])


def ran_last(thread: Thread) -> list[str] | None:
    """The nodes of the step before the head, sorted; None where the tables do not say.

    The checkpoint one step before knows them all. Where it was not written (`durability="exit"`)
    the head still says which nodes saw the channel versions of the step before, but nothing of
    nodes that were run by Send.
    """
    head = thread.state(subgraphs=False)
    while head.parent_config and head.metadata and head.metadata["source"] == "update":
        head = thread.state(head.parent_config, subgraphs=False)
    before = thread.state(head.parent_config, subgraphs=False) if head.parent_config else None
    if before and step_of(before) == step_of(head) - 1:
        return sorted(task.name for task in before.tasks)
    return saw_last(thread.checkpoint(checkpoint_id=id_of(head)).checkpoint)


def step_of(snapshot: StateSnapshot) -> int:
    return snapshot.metadata["step"] if snapshot.metadata else -1


def id_of(snapshot: StateSnapshot) -> str:
    return str(snapshot.config["configurable"]["checkpoint_id"])


def saw_last(checkpoint: Checkpoint) -> list[str] | None:
    """From one checkpoint alone: each step numbers the channels that it writes one higher."""
    newest = max(number(version) for version in checkpoint["channel_versions"].values())
    seen = {
        node: max(map(number, versions.values()), default=0)
        for node, versions in checkpoint["versions_seen"].items()
        if not node.startswith("__")
    }
    return sorted(node for node, version in seen.items() if version == newest - 1) or None


def number(version: Any) -> int:
    return int(str(version).split(".")[0])


def stops_here(checkpoint: Checkpoint) -> bool:
    """Whether anything was written since the thread was last let past a static pause."""
    passed = checkpoint["versions_seen"].get("__interrupt__", {})
    return any(
        number(version) > number(passed.get(channel, 0))
        for channel, version in checkpoint["channel_versions"].items()
    )
