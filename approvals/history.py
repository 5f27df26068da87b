"""A thread's checkpoints as a person reads them: a tree, newest first, and any two compared.

Where a checkpoint hangs is read for the whole thread at once, without its states; the states are
then fetched for one page and the parents of its rows, wherever those lie.
"""

import logging
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal

from django.db import connection
from django.utils.translation import gettext as _
from langgraph.types import StateSnapshot

from approvals.changes import Change, changes
from approvals.errors import AWAY
from approvals.lanes import Gutter, Row, gutter, lanes
from approvals.models import Decision, Review
from approvals.plain import JSON, as_text, canonical, jsonable
from approvals.redline import Piece, Redline, redline
from approvals.savers import JoiningSaver, raw_connection, with_saver
from approvals.tolerant import reading
from graphs.registry import Graph

logger = logging.getLogger(__name__)
PAGE = 20
OUTLINE = 5_000  # checkpoints whose tree is drawn; they cost 45 ms
MAX_FIELDS = 20  # changed fields shown of one checkpoint
MAX_TEXT = 2_000  # characters shown of one field
LEAD = 200  # characters before the first change, where a field is too long to show

Kind = Literal["input", "loop", "update", "fork", "replay"]


# Where the checkpoints hang


@dataclass(frozen=True)
class Point:
    """A checkpoint without its state."""

    id: str
    parent: str
    source: str
    step: int


def outline(review: Review, before: str = "") -> list[Point]:
    """The thread's checkpoints, or those older than `before`, newest first.

    OUTLINE of them, and one more where there are more.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT checkpoint_id, coalesce(parent_checkpoint_id, ''), "
            "coalesce(metadata->>'source', ''), metadata->>'step' FROM checkpoints "
            "WHERE thread_id = %s AND checkpoint_ns = %s AND (%s = '' OR checkpoint_id < %s) "
            "ORDER BY checkpoint_id DESC LIMIT %s",
            [review.thread_id, review.checkpoint_ns, before, before, OUTLINE + 1],
        )
        rows = cursor.fetchall()
    return [Point(id_, parent, source, _number(step)) for id_, parent, source, step in rows]


def _number(value: object) -> int:
    text = str(value or 0)
    return int(text) if text.removeprefix("-").isdecimal() else 0


class Tree:
    """How a thread's checkpoints descend from each other."""

    def __init__(self, points: Sequence[Point]) -> None:
        self.by_id = {point.id: point for point in points}
        cut = len(points) > OUTLINE
        self._pairs = [(p.id, p.parent if cut or p.parent in self.by_id else "") for p in points]
        self._older = {newer.id: older.id for newer, older in pairwise(points)}
        self._eldest = {point.parent: point.id for point in points}

    def rows(self, points: Iterable[Point]) -> dict[str, Row]:
        """Their places in the drawing of the whole tree."""
        return {row.id: row for row in lanes(self._pairs, {point.id for point in points})}

    def parent(self, point: Point) -> Point | None:
        return self.by_id.get(point.parent)

    def forked(self, point: Point) -> bool:
        """Whether it was not written on what was then the newest checkpoint.

        Two runs of one thread at once take turns at being newest; of those, only the checkpoint
        that parts them counts.
        """
        if self.parent(point) is None or self._older.get(point.id) == point.parent:
            return False
        return point.source != "loop" or self._eldest[point.parent] != point.id

    def is_copy(self, point: Point) -> bool:
        """`as_node="__copy__"` hangs its copy on the parent of what it copied, one step later."""
        parent = self.parent(point)
        return point.source == "fork" and point.step > (parent.step + 1 if parent else -1)

    def kind(self, point: Point) -> Kind:
        if point.source == "fork":
            return "fork" if self.is_copy(point) else "replay"
        if point.source == "update":
            return "fork" if self.forked(point) else "update"
        return "input" if point.source == "input" else "loop"

    def ancestors(self, point: Point) -> Iterator[Point]:
        """The point itself first."""
        found: Point | None = point
        while found is not None:
            yield found
            above = self.parent(found)
            found = above if above and above.id < found.id else None

    def path(self, start: Point | None, end: Point) -> list[Point]:
        """From below `start` to `end`, oldest first."""
        line = list(self.ancestors(end))
        ids = [point.id for point in line]
        cut = ids.index(start.id) if start and start.id in ids else len(line)
        return line[:cut][::-1]

    def common(self, one: Point, other: Point) -> Point | None:
        """The newest checkpoint that both descend from, or that one of them is."""
        line = {point.id for point in self.ancestors(one)}
        return next((point for point in self.ancestors(other) if point.id in line), None)


# Their states


class _Chosen(JoiningSaver):
    """Lists the checkpoints with these ids, in one query, wherever in the thread they lie."""

    ids: Sequence[str] = ()

    def _search_where(self, *args: Any, **kwargs: Any) -> tuple[str, list[Any]]:
        where, values = super()._search_where(*args, **kwargs)
        return f"{where} AND checkpoint_id = ANY(%s) ", [*values, list(self.ids)]


@dataclass(frozen=True, eq=False)
class _Loaded:
    state: StateSnapshot

    @cached_property
    def values(self) -> dict[str, JSON]:
        found = jsonable(self.state.values)
        return found if isinstance(found, dict) else {}


def _load(review: Review, graph: Graph, ids: Iterable[str]) -> dict[str, _Loaded]:
    """Those that are still there. LangGraph finds the subgraph of a namespace itself."""
    saver = _Chosen(raw_connection())
    saver.ids = sorted({id_ for id_ in ids if id_})
    config: Any = {
        "configurable": {"thread_id": review.thread_id, "checkpoint_ns": review.checkpoint_ns}
    }
    found = reading(with_saver(graph, saver)).get_state_history(config)
    try:
        return {state.config["configurable"]["checkpoint_id"]: _Loaded(state) for state in found}
    except AWAY:
        raise
    except Exception:  # state classes and reducers of other people
        logger.warning("The history of thread %s is unreadable", review.thread_id, exc_info=True)
        return {}


# Steps


@dataclass(frozen=True)
class Difference:
    """One field's change as it is shown; `cut` when it is too long to be shown whole."""

    key: str
    kind: str
    diff: Redline
    cut: bool


@dataclass(frozen=True, eq=False)
class Step:
    """One checkpoint. `wrote` are the nodes whose writes made it."""

    checkpoint_id: str
    parent_id: str
    step: int
    source: str
    kind: Kind
    created_at: str
    wrote: list[str]
    next: list[str]
    errors: list[tuple[str, str]]
    decision_id: str
    from_step: int | None  # the step it was forked, copied or replayed from
    is_copy: bool
    row: Row
    loaded: _Loaded = field(repr=False)
    parent: _Loaded | None = field(repr=False)

    @property
    def current(self) -> bool:
        """Whether it lies on the line that leads to the newest checkpoint."""
        return self.row.current

    @property
    def branch(self) -> int:
        """1 is the line that leads to the newest checkpoint."""
        return self.row.branch

    @property
    def gutter(self) -> Gutter:
        return gutter(self.row)

    @property
    def orphan(self) -> bool:
        """Its parent was deleted, so nobody can say what it changed."""
        return bool(self.parent_id) and self.parent is None

    @cached_property
    def changes(self) -> list[Change]:
        """Against its parent, not against the row below it."""
        if self.orphan:
            return []
        return changes(self.parent.values if self.parent else {}, self.loaded.values)

    @cached_property
    def differences(self) -> list[Difference]:
        return [difference(change) for change in self.changes[:MAX_FIELDS]]

    @property
    def more(self) -> int:
        """Changed fields that are not among `differences`."""
        return max(0, len(self.changes) - MAX_FIELDS)

    @property
    def by(self) -> str:
        """Who wrote it, in words, or what it did."""
        if self.source == "update":
            return _("decision") if self.decision_id else _("another program")
        return {"input": _("starts a run"), "fork": _("runs again")}.get(self.source, "")

    @property
    def said(self) -> str:
        """Beside its kind, in as few words as a narrow column has room for."""
        if self.wrote:
            return ", ".join(self.wrote)
        if self.kind in ("fork", "replay") and self.from_step is not None:
            said = _("copy of step %(step)s") if self.is_copy else _("from step %(step)s")
            return said % {"step": self.from_step}
        return self.by or self.source

    @property
    def place(self) -> str:
        """What the drawing beside it shows, for those who cannot see it."""
        branch = _("abandoned branch %(number)s") % {"number": self.branch}
        words = _("current line") if self.current else branch
        if self.from_step is None:
            return words
        made = _("copied") if self.is_copy else _("forked")
        verb = _("replayed") if self.kind == "replay" else made
        said = _("%(line)s, %(verb)s from step %(step)s")
        return said % {"line": words, "verb": verb, "step": self.from_step}


@dataclass(frozen=True)
class History:
    steps: list[Step]
    older: str = ""  # the checkpoint id before which the next page begins

    @property
    def visited(self) -> set[str]:
        """The nodes that ran on the line to the newest checkpoint."""
        return {node for step in self.steps if step.current for node in step.wrote}

    @property
    def lanes(self) -> int:
        return max((step.row.width for step in self.steps), default=1)

    @property
    def pair(self) -> tuple[str, str]:
        """The two newest: what is chosen for a comparison until somebody chooses."""
        ids = [step.checkpoint_id for step in self.steps[:2]]
        return (ids[-1], ids[0]) if ids else ("", "")


def history(review: Review, graph: Graph, before: str = "") -> History:
    """A page of at most PAGE checkpoints of the review's thread, older than `before`."""
    points = outline(review)
    below = [point for point in points if not before or point.id < before]
    if len(points) > OUTLINE and len(below) <= PAGE:
        points = below = outline(review, before)  # so deep that the tree is drawn from here on
    steps = _steps(Tree(points), below[:PAGE], review, graph)
    return History(steps, below[PAGE - 1].id if len(below) > PAGE else "")


def _steps(tree: Tree, points: Sequence[Point], review: Review, graph: Graph) -> list[Step]:
    loaded = _load(review, graph, (id_ for point in points for id_ in (point.id, point.parent)))
    rows = tree.rows(points)
    return [_step(tree, p, rows[p.id], loaded) for p in points if p.id in loaded]


def _step(tree: Tree, point: Point, row: Row, loaded: dict[str, _Loaded]) -> Step:
    state, parent = loaded[point.id].state, loaded.get(point.parent)
    metadata: dict[str, Any] = dict(state.metadata or {})
    ran = parent.state.tasks if parent and point.source == "loop" else ()
    return Step(
        checkpoint_id=point.id,
        parent_id=point.parent,
        step=point.step,
        source=point.source,
        kind=tree.kind(point),
        created_at=state.created_at or "",
        wrote=[task.name for task in ran if task.result is not None],
        next=list(state.next),
        errors=[(task.name, str(task.error)) for task in state.tasks if task.error],
        decision_id=str(metadata.get("decision_id", "")),
        from_step=_from_step(tree, point),
        is_copy=tree.is_copy(point),
        row=row,
        loaded=loaded[point.id],
        parent=parent,
    )


def _from_step(tree: Tree, point: Point) -> int | None:
    if tree.is_copy(point):
        return point.step - 1
    parent = tree.parent(point)
    return parent.step if parent and (point.source == "fork" or tree.forked(point)) else None


def difference(change: Change) -> Difference:
    """A change as marked text, cut to MAX_TEXT characters around where it begins."""
    if change.kind == "appended":
        before, after = "", as_text(change.after)
    else:
        before, after = as_text(change.before), as_text(change.after)
        if before == after:  # 1 and "1", null and ""
            before, after = canonical(change.before), canonical(change.after)
    start = 0
    if max(len(before), len(after)) > MAX_TEXT:
        start = max(0, _alike(before, after) - LEAD)
    end = start + MAX_TEXT
    cut = start > 0 or max(len(before), len(after)) > end
    return Difference(change.key, change.kind, _marked(before[start:end], after[start:end]), cut)


def _alike(before: str, after: str) -> int:
    """How many characters the two begin with alike; by halves, for texts of megabytes."""
    most = min(len(before), len(after))
    return bisect_left(range(most), True, key=lambda n: before[: n + 1] != after[: n + 1])


def _marked(before: str, after: str) -> Redline:
    if before and after:
        return redline(before, after)
    return Redline(tuple(p for p in (Piece("del", before), Piece("ins", after)) if p.text))


# Two checkpoints


@dataclass(frozen=True)
class Way:
    """The checkpoints by which one came about, oldest first; `left_out` are too many to read."""

    steps: list[Step]
    left_out: int

    @property
    def nodes(self) -> list[str]:
        return [node for step in self.steps for node in step.wrote]

    @property
    def told(self) -> list[str]:
        """What happened, in order: nodes, and what no node wrote."""
        return [name for s in self.steps for name in (s.wrote or [f"{s.kind} ({s.said})"])]


@dataclass(frozen=True)
class Comparison:
    """Two checkpoints of one thread, the older one first.

    `base` is what both came from where they lie on two branches; None where the newer descends
    from the older, or where nothing that is left joins them.
    """

    older: Step
    newer: Step
    descends: bool
    base: Point | None
    to_older: Way
    to_newer: Way

    @cached_property
    def changes(self) -> list[Change]:
        return changes(self.older.loaded.values, self.newer.loaded.values)

    @cached_property
    def differences(self) -> list[Difference]:
        return [difference(change) for change in self.changes[:MAX_FIELDS]]

    @property
    def more(self) -> list[str]:
        """Changed fields that are not among `differences`."""
        return [change.key for change in self.changes[MAX_FIELDS:]]

    @property
    def same(self) -> list[str]:
        changed = {change.key for change in self.changes}
        return [key for key in self.newer.loaded.values if key not in changed]


def comparison(review: Review, graph: Graph, one: str, other: str) -> Comparison | None:
    """None where the review's thread has no such checkpoints, or the graph cannot read them."""
    first, last = sorted((one, other))
    tree = Tree(outline(review))
    if last not in tree.by_id:  # deeper than the outline: it begins with the newer one then
        tree = Tree(outline(review, last + "0"))
    if first not in tree.by_id or last not in tree.by_id:
        return None
    older, newer = tree.by_id[first], tree.by_id[last]
    base = tree.common(older, newer)
    descends = base == older
    ways = [] if descends else tree.path(base, older), tree.path(base, newer)
    wanted = [older, newer, *ways[0][:PAGE], *ways[1][:PAGE]]
    steps = {s.checkpoint_id: s for s in _steps(tree, wanted, review, graph)}
    if older.id not in steps or newer.id not in steps:
        return None
    found = [_way(way, steps) for way in ways]
    return Comparison(
        steps[older.id], steps[newer.id], descends, None if descends else base, *found
    )


def _way(points: list[Point], steps: dict[str, Step]) -> Way:
    read = [steps[point.id] for point in points[:PAGE] if point.id in steps]
    return Way(read, len(points) - len(read))


# A decision's run


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
