"""Where a thread waits for a person: LangGraph's own answer, graph by graph, subgraphs included.

A graph that has started a subgraph waits where the subgraph does. At one level of a thread either
the whole step waits to begin (a static pause), or its tasks ask one by one with `interrupt()`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from langgraph._internal._constants import PUSH
from langgraph.types import Interrupt, PregelTask, StateSnapshot

from approvals import threads
from approvals.last_run import ran_last
from graphs.registry import Compiled, Graph, Nodes, subgraph

Kind = Literal["before", "after", "question"]
HIDDEN = "langsmith:hidden"
CANCELLED = "CancelledError"


@dataclass(frozen=True)
class Level:
    """A thread's graph, or one subgraph that it is in the middle of."""

    compiled: Compiled
    before: Nodes
    after: Nodes
    state: StateSnapshot

    @property
    def place(self) -> dict[str, str]:
        return {**self.state.config["configurable"]}

    @property
    def checkpoint_ns(self) -> str:
        return str(self.place.get("checkpoint_ns", ""))

    @property
    def checkpoint_id(self) -> str:
        return str(self.place.get("checkpoint_id", ""))

    @cached_property
    def unfinished(self) -> list[PregelTask]:
        return [task for task in self.state.tasks if task.result is None]

    @property
    def has_begun(self) -> bool:
        """Whether a task of the coming step has run, if only in part."""
        return any(
            task.result is not None or task.error or task.interrupts or under_way(self, task)
            for task in self.state.tasks
        )


@dataclass(frozen=True)
class Waiting:
    """One pause that a person can answer."""

    kind: Kind
    level: Level
    node: str
    nodes: tuple[str, ...]  # of a static pause: those that the answer lets run
    question: Interrupt | None = None

    @property
    def interrupt_id(self) -> str:
        return self.question.id if self.question else ""

    @property
    def key(self) -> tuple[str, str, str]:
        return (self.level.checkpoint_ns, self.level.checkpoint_id, self.interrupt_id)


def inner(task: PregelTask) -> StateSnapshot | None:
    """The state of the subgraph that a task is in the middle of."""
    state = task.state
    return state if isinstance(state, StateSnapshot) and state.next else None


def under_way(level: Level, task: PregelTask) -> StateSnapshot | None:
    """The same; or that of a subgraph which has ended where its task has not: it may pause there.

    One that keeps its checkpoints from call to call may have ended in an earlier one.
    """
    state = task.state
    if not isinstance(state, StateSnapshot) or task.result is not None or state.next:
        return inner(task)
    parents = (state.metadata or {}).get("parents", {})
    return state if parents.get(level.checkpoint_ns) == level.checkpoint_id else None


def levels(graph: Graph, state: StateSnapshot) -> list[Level]:
    """The graph's own level first, then those of the subgraphs that are under way.

    `state` is of `get_state(…, subgraphs=True)`.
    """
    return list(_levels(graph.compiled, Level(graph.compiled, graph.before, graph.after, state)))


def _levels(root: Compiled, level: Level) -> Iterator[Level]:
    yield level
    for task in level.state.tasks:
        state = under_way(level, task)
        if state is None:
            continue
        sub = subgraph(root, str(state.config["configurable"]["checkpoint_ns"]))
        if sub is not None:
            nodes = (sub.interrupt_before_nodes, sub.interrupt_after_nodes)
            yield from _levels(root, Level(sub, *nodes, state))


def waiting(graph: Graph, state: StateSnapshot) -> list[Waiting]:
    """Every pause of the thread, the deepest first. A task that failed is no pause."""
    found: list[Waiting] = []
    below: set[str] = set()
    for level in reversed(levels(graph, state)):
        known = {one.interrupt_id for one in found}
        found += [one for one in _asked(level, below) if one.interrupt_id not in known]
        static = _static(graph, level)
        found += static
        if level.state.next or static:  # else it has ended, and the node went on to ask elsewhere
            below.add(level.checkpoint_ns)
    return found


def is_over(state: StateSnapshot) -> bool:
    """Whether nothing comes after this checkpoint.

    Not `next`: that is empty, too, where a run was cut off when its tasks had ended and the
    checkpoint after them was not written yet. What comes next is not known there, and does come.
    """
    return not state.tasks


def stands_before(state: StateSnapshot) -> list[str]:
    """The nodes that a run which goes on from here runs, or has just run."""
    return list(state.next) or [task.name for task in state.tasks]


def failures(graph: Graph, state: StateSnapshot) -> list[tuple[str, str]]:
    """(node, error) of each task that failed, the deepest first.

    A task that failed and ended well when it was tried again keeps its error for the whole step,
    and so does one around a subgraph that is under way again: what is inside tells.
    """
    return [
        (task.name, str(task.error))
        for level in reversed(levels(graph, state))
        for task in level.unfinished
        if not inner(task) and _failed(level, task)
    ]


def can_run(graph: Graph, state: StateSnapshot, held: list[Waiting]) -> bool:
    """Whether a resumed run has anything to do but to ask again what `held` already asks.

    LangGraph resumes a whole thread: it would push every static pause in it through. So none is
    resumed while one is held.
    """
    if is_over(state) or any(one.kind != "question" for one in held):
        return False
    every = levels(graph, state)
    if not every[0].unfinished:
        return True
    asked = {one.interrupt_id for one in held}
    tasks = [(level, task) for level in every for task in level.unfinished if not inner(task)]
    if any(_failed(*one) for one in tasks):
        return False
    return any(not asked.intersection(i.id for i in task.interrupts) for _, task in tasks)


def _failed(level: Level, task: PregelTask) -> bool:
    """Cancelled, by a task that failed beside it or with its worker, it can simply run again."""
    if not task.error or str(task.error).startswith(CANCELLED):
        return False
    return not (task.interrupts and _asks(level, task))


def _asked(level: Level, below: set[str]) -> Iterator[Waiting]:
    """`below` are the namespaces whose own questions are known: what a graph around them noted of
    them is older, and stays when they have been answered."""
    for task in level.state.tasks:
        state = under_way(level, task)
        if state and str(state.config["configurable"].get("checkpoint_ns", "")) in below:
            continue
        if task.error and not _asks(level, task):
            continue
        for question in task.interrupts:
            yield Waiting("question", level, task.name, (task.name,), question)


def _asks(level: Level, task: PregelTask) -> bool:
    """Whether a task with an error asks all the same.

    It may have asked since it failed: LangGraph keeps both, without their order. Or it was
    cancelled, because a task beside it failed before it could ask again.
    """
    place = level.place
    return str(task.error).startswith(CANCELLED) or threads.asked_since_it_failed(
        place["thread_id"], level.checkpoint_ns, level.checkpoint_id, task.id
    )


def _static(graph: Graph, level: Level) -> list[Waiting]:
    if level.has_begun or not (level.state.next or level.checkpoint_ns):
        return []
    coming = list(level.state.next)
    before = [name for name in coming if _among(level, name, level.before)]
    if before:
        return [Waiting("before", level, before[0], tuple(before))]
    after = [name for name in _ran(graph, level) if _among(level, name, level.after)]
    return [Waiting("after", level, after[0], tuple(coming))] if after else []


def _ran(graph: Graph, level: Level) -> list[str]:
    return ran_last(graph, level.state) if level.after else []


def _among(level: Level, name: str, nodes: Nodes) -> bool:
    if nodes == "*":
        node = level.compiled.nodes.get(name)
        return HIDDEN not in (getattr(node, "tags", None) or ())
    return name in nodes


def is_sent(task: PregelTask) -> bool:
    """Whether a task was reached by Send: it runs with what it was sent, not with the state."""
    return bool(task.path) and task.path[0] == PUSH
