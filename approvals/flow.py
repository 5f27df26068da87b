"""A graph as one line of nodes, drawn on the server as SVG; countersign.css `.flow` gives ink."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from langchain_core.runnables.graph import Graph

Edge = tuple[str, str, bool]  # source, target, conditional
Span = tuple[int, int, bool]  # upper row, lower row, goes back

# Lengths are in viewBox units, which are CSS pixels at the width the drawing is made for.
WIDTH = 272
ROW = 26
TOP = 14
NAME_CHAR = 7.3  # of 12px mono
NOTE_CHAR = 6.6  # of 11px sans, bold
NOTE_CHARS = 18
LANE = 10
GUTTER_MAX = 100  # many arcs share this much
ENDS = {"__start__", "__end__"}


def from_drawable(drawable: Graph) -> tuple[list[str], list[Edge]]:
    """Nodes and edges of `get_graph()`, without its two ends; where a run enters comes first."""
    entries = {edge.target for edge in drawable.edges if edge.source == "__start__"}
    nodes = [node for node in drawable.nodes if node not in ENDS]
    edges = [
        (edge.source, edge.target, edge.conditional)
        for edge in drawable.edges
        if not {edge.source, edge.target} & ENDS
    ]
    return sorted(nodes, key=lambda node: node not in entries), edges


def flow_svg(
    nodes: Iterable[str],
    edges: Iterable[Edge],
    *,
    waiting: Collection[str],
    visited: Collection[str] = frozenset(),
    notes: Mapping[str, str] | None = None,
    label: str,
) -> SafeString:
    """`label` opens the text alternative; `notes` stand at the right of their node.

    Dashed: an edge that goes back, or a choice this run has not made. Empty without nodes.
    """
    names = list(dict.fromkeys(nodes))
    if not names:
        return SafeString("")
    joined = _joined(edges, names)
    order = _reading_order(names, joined)
    drawing = _Drawing(order, joined, frozenset(waiting), frozenset(visited), notes or {})
    return format_html(
        '<svg class="flow" viewBox="0 0 {} {}" role="img" aria-label="{}">{}{}</svg>',
        WIDTH,
        ROW * len(order) + 4,
        _described(label, order, waiting),
        _together(drawing.lines()),
        _together(drawing.marks()),
    )


def _described(label: str, order: list[str], waiting: Collection[str]) -> str:
    here = ", ".join(node for node in order if node in waiting)
    return f"{label}: {', '.join(order)}." + (f" Waiting at {here}." if here else "")


def _joined(edges: Iterable[Edge], names: list[str]) -> dict[tuple[str, str], bool]:
    """Two nodes are joined by one line; it is conditional only if every such edge is."""
    joined: dict[tuple[str, str], bool] = {}
    for source, target, conditional in edges:
        if source in names and target in names:
            joined[source, target] = conditional and joined.get((source, target), True)
    return joined


def _together(parts: Iterable[SafeString]) -> SafeString:
    return format_html_join("", "{}", ((part,) for part in parts))


# Order


def _reading_order(names: list[str], edges: Iterable[tuple[str, str]]) -> list[str]:
    """Topological once loops are cut; a branch is followed to its end before the next begins."""
    after = _targets(names, edges)
    for source, target in _back_edges(names, after):
        after[source].remove(target)
    unmet = Counter(target for targets in after.values() for target in targets)
    ready = [name for name in reversed(names) if not unmet[name]]
    order = []
    while ready:
        order.append(name := ready.pop())
        unmet.subtract(after[name])
        ready += [target for target in reversed(after[name]) if not unmet[target]]
    return order


def _targets(names: list[str], edges: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    rank = {name: place for place, name in enumerate(names)}
    after: dict[str, list[str]] = {name: [] for name in names}
    for source, target in sorted(edges, key=lambda edge: rank[edge[1]]):
        after[source].append(target)
    return after


def _back_edges(names: list[str], after: Mapping[str, list[str]]) -> set[tuple[str, str]]:
    """The edges that close a loop, seen from the nodes in their given order."""
    back: set[tuple[str, str]] = set()
    path: set[str] = set()
    done: set[str] = set()

    def visit(name: str) -> None:
        path.add(name)
        for target in after[name]:
            if target in path:
                back.add((name, target))
            elif target not in done:
                visit(target)
        path.discard(name)
        done.add(name)

    for name in names:
        if name not in done:
            visit(name)
    return back


# Drawing


@dataclass
class _Drawing:
    order: list[str]
    edges: Mapping[tuple[str, str], bool]
    waiting: frozenset[str]
    visited: frozenset[str]
    notes: Mapping[str, str]

    def __post_init__(self) -> None:
        self.row = {name: place for place, name in enumerate(self.order)}
        self.lanes = _lanes([self._span(*ends) for ends in self.edges if self._is_arc(*ends)])
        used = 1 + max(self.lanes.values(), default=-1)
        gutter = min(LANE * used, GUTTER_MAX)
        self.step = gutter / used if used else LANE
        self.x = max(12.0, 10 + gutter)

    # Lines

    def lines(self) -> Iterator[SafeString]:
        """Dashed ones first: where two lines share a stretch, the solid one is seen."""
        for ends in sorted(self.edges, key=self._is_dashed, reverse=True):
            yield _path(self._shape(*ends), "back" if self._is_dashed(ends) else "")
            if self._is_arc(*ends):
                yield _path(self._arrow(*ends))

    def _shape(self, source: str, target: str) -> str:
        if source == target:
            return self._loop(source)
        return (self._arc if self._is_arc(source, target) else self._straight)(source, target)

    def _is_arc(self, source: str, target: str) -> bool:
        return self.row[target] - self.row[source] not in (0, 1)

    def _is_dashed(self, ends: tuple[str, str]) -> bool:
        source, target = ends
        goes_back = self.row[target] <= self.row[source]
        taken = source in self.visited and target in self.visited | self.waiting
        return goes_back or (self.edges[ends] and not taken)

    def _span(self, source: str, target: str) -> Span:
        low, high = sorted((self.row[source], self.row[target]))
        return low, high, self.row[source] > self.row[target]

    def _straight(self, source: str, target: str) -> str:
        start = self._y(source) + (9 if source in self.waiting else 0)
        end = self._y(target) - (9 if target in self.waiting else 0)
        return f"M{self.x:g} {start:g}V{end:g}"

    def _loop(self, name: str) -> str:
        x, y = self.x + (7 if name in self.waiting else 3), self._y(name)
        return f"M{x:g} {y - 3:g}h3a3 3 0 0 1 0 6h-3"

    def _arc(self, source: str, target: str) -> str:
        upper, lower = sorted((source, target), key=self.row.__getitem__)
        (x1, y1), (x2, y2) = self._port(upper, 3), self._port(lower, -3)
        lane = self._lane_x(source, target)
        r1, r2 = min(6, x1 - lane), min(6, x2 - lane)
        return (
            f"M{x1:g} {y1:g}H{lane + r1:g}Q{lane:g} {y1:g} {lane:g} {y1 + r1:g}"
            f"V{y2 - r2:g}Q{lane:g} {y2:g} {lane + r2:g} {y2:g}H{x2:g}"
        )

    def _arrow(self, source: str, target: str) -> str:
        x, y = self._port(target, 3 if self.row[target] < self.row[source] else -3)
        return f"M{x - 3:g} {y - 2.5:g}L{x:g} {y:g}L{x - 3:g} {y + 2.5:g}"

    def _port(self, name: str, drop: float) -> tuple[float, float]:
        """Where an arc meets its node. Up and down apart, so that arcs in one lane don't join."""
        return self.x - (10 if name in self.waiting else 6), self._y(name) + drop

    def _lane_x(self, source: str, target: str) -> float:
        return self.x - 6 - self.step * (1 + self.lanes[self._span(source, target)])

    def _y(self, name: str) -> float:
        return TOP + ROW * self.row[name]

    # Nodes

    def marks(self) -> Iterator[SafeString]:
        for name in self.order:
            yield self._circle(name)
            yield self._name(name)
            if self.notes.get(name):
                yield self._note(name)

    def _circle(self, name: str) -> SafeString:
        x, y = f"{self.x:g}", self._y(name)
        if name in self.waiting:
            return format_html(
                '<circle class="halo" cx="{0}" cy="{1}" r="8"/>'
                '<circle class="here" cx="{0}" cy="{1}" r="4.5"/>',
                x,
                y,
            )
        todo = "" if name in self.visited else SafeString(' class="todo"')
        return format_html('<circle{} cx="{}" cy="{}" r="3.5"/>', todo, x, y)

    def _name(self, name: str) -> SafeString:
        left = self.x + 18
        note = len(_clipped(self.notes.get(name, ""), NOTE_CHARS)) * NOTE_CHAR
        room = int((WIDTH - left - note - 8) / NAME_CHAR)
        on = SafeString(' class="on"') if name in self.waiting else ""
        return format_html(
            '<text{} x="{}" y="{}">{}</text>',
            on,
            f"{left:g}",
            self._y(name) + 4,
            _short(name, room),
        )

    def _note(self, name: str) -> SafeString:
        return format_html(
            '<text class="{}" x="{}" y="{}" text-anchor="end">{}</text>',
            "due" if name in self.waiting else "note",
            WIDTH,
            self._y(name) + 4,
            _short(self.notes[name], NOTE_CHARS),
        )


def _lanes(spans: list[Span]) -> dict[Span, int]:
    """Short arcs inside, long ones outside; in one lane they may touch but not overlap."""
    lanes: dict[Span, int] = {}
    for span in sorted(spans, key=lambda span: (span[1] - span[0], span)):
        taken = {lane for other, lane in lanes.items() if other[0] < span[1] and span[0] < other[1]}
        lanes[span] = next(lane for lane in count() if lane not in taken)
    return lanes


def _path(shape: str, kind: str = "") -> SafeString:
    return format_html('<path{} d="{}"/>', SafeString(f' class="{kind}"' if kind else ""), shape)


def _short(text: str, room: int) -> SafeString:
    """Cut to `room` characters; the whole of it is in a tooltip."""
    clipped = _clipped(text, room)
    title = format_html("<title>{}</title>", text) if clipped != text else ""
    return format_html("{}{}", title, clipped)


def _clipped(text: str, room: int) -> str:
    return text if len(text) <= room else text[: max(room - 1, 1)] + "…"
