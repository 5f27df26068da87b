"""A thread's checkpoints as a person reads them: newest first, what each wrote, what it changed."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from langgraph.types import StateSnapshot

from approvals.changes import Change, changes
from approvals.models import Decision, Review
from approvals.plain import jsonable
from approvals.savers import joined
from graphs.registry import Graph

PAGE = 20


@dataclass(frozen=True)
class Step:
    """One checkpoint. `wrote` are the nodes whose writes made it."""

    checkpoint_id: str
    step: int
    source: str
    created_at: str
    wrote: list[str]
    changes: list[Change]
    next: list[str]
    errors: list[tuple[str, str]]
    decision_id: str


@dataclass(frozen=True)
class History:
    steps: list[Step]
    older: str = ""  # the checkpoint id before which the next page begins

    @property
    def visited(self) -> set[str]:
        return {node for step in self.steps for node in step.wrote}


def history(review: Review, graph: Graph, before: str = "") -> History:
    """A page of at most PAGE checkpoints of the review's thread, older than `before`."""
    config: Any = {
        "configurable": {"thread_id": review.thread_id, "checkpoint_ns": review.checkpoint_ns}
    }
    cursor: Any = {"configurable": {**config["configurable"], "checkpoint_id": before}}
    found = list(
        joined(graph).get_state_history(config, before=cursor if before else None, limit=PAGE + 1)
    )
    steps = list(_steps(found))
    return (
        History(steps[:PAGE], found[PAGE - 1].config["configurable"]["checkpoint_id"])
        if len(found) > PAGE
        else History(steps)
    )


def _steps(found: list[StateSnapshot]) -> Iterable[Step]:
    by_id = {_id(state.config): state for state in found}
    plain = {key: _values(state) for key, state in by_id.items()}
    for state in found:
        parent = by_id.get(_id(state.parent_config))
        metadata: dict[str, Any] = dict(state.metadata or {})
        yield Step(
            checkpoint_id=_id(state.config),
            step=int(metadata.get("step", 0)),
            source=str(metadata.get("source", "")),
            created_at=state.created_at or "",
            wrote=[task.name for task in parent.tasks if task.result is not None]
            if parent and metadata.get("source") == "loop"
            else [],
            changes=changes(plain[_id(parent.config)] if parent else {}, plain[_id(state.config)]),
            next=list(state.next),
            errors=[(task.name, str(task.error)) for task in state.tasks if task.error],
            decision_id=str(metadata.get("decision_id", "")),
        )


def _id(config: Any) -> str:
    return str(config["configurable"].get("checkpoint_id", "")) if config else ""


def _values(state: StateSnapshot) -> dict[str, Any]:
    found = jsonable(state.values)
    return found if isinstance(found, dict) else {}


@dataclass(frozen=True)
class NodeProgress:
    name: str
    state: str  # done, running, failed


def progress(decision: Decision, steps: list[Step]) -> list[NodeProgress]:
    """The nodes that this decision's resumption ran, in order, and the one it runs now."""
    if not decision.checkpoint_applied:
        return []
    since = [s for s in reversed(steps) if s.checkpoint_id >= decision.checkpoint_applied]
    if decision.checkpoint_after:
        since = [s for s in since if s.checkpoint_id <= decision.checkpoint_after]
    ran = [s for s in since if s.checkpoint_id != decision.checkpoint_applied]
    found = [NodeProgress(name, "done") for step in ran for name in step.wrote]
    if len(ran) == len(since) and len(steps) == PAGE:
        found.insert(0, NodeProgress("…", "done"))  # more ran before than this page of history
    if since and decision.state == Decision.State.APPLIED:
        found += [NodeProgress(name, "running") for name in since[-1].next]
    if since and decision.state == Decision.State.FAILED:
        found += [NodeProgress(name, "failed") for name, _ in since[-1].errors]
    return found
