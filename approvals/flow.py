"""A graph as rows of nodes with a lane for each branch, for a narrow column; SVG.

overview.css `.flow` gives ink. `flow_large` draws the same graph in layers, with room.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from approvals.graph_plan import Pair, Plan, Progress

Span = tuple[int, int]  # upper row, lower row

# Lengths are in viewBox units, which are CSS pixels at the width the drawing is made for.
WIDTH = 272
ROW = 26
TOP = 14
NAME_CHAR = 7.3  # of 12px mono
NOTE_CHAR = 6.6  # of 11px sans, bold
NOTE_CHARS = 18
LANE = 13
LANES_MAX = 91  # many branches share this much
BACK = 7
BACKS_MAX = 28  # and loops this much, at the left


def flow_of(
    plan: Plan, progress: Progress, *, notes: Mapping[str, str] | None = None, label: str
) -> SafeString:
    """`label` opens the text alternative; `notes` stand at the right of their node.

    Solid: the way that was taken. Dashed: what comes next, and choices not made. Empty without
    nodes.
    """
    if not plan.nodes:
        return SafeString("")
    told = {name: _("%(n)s inside") % {"n": each.size} for name, each in plan.inside.items()}
    told |= {name: _("waits") for name in plan.nodes if name in progress.waiting}
    drawing = _Drawing(plan, progress, told | dict(notes or {}))
    return format_html(
        '<svg class="flow" viewBox="0 0 {} {}" role="img" aria-label="{}">{}{}</svg>',
        WIDTH,
        ROW * len(plan.nodes) + 4,
        f"{label}: {' '.join(in_words(plan, progress))}",
        _together(drawing.lines()),
        _together(drawing.marks()),
    )


def in_words(plan: Plan, progress: Progress) -> list[str]:
    """What ran, what waits, what comes next, and the rest; in reading order, for who sees none."""
    states = {name: progress.of_node(plan, name) for name in plan.nodes}
    coming = progress.coming(plan)
    named = {
        state: ", ".join(n for n in plan.nodes if states[n] == state or state in _also(n, coming))
        for state in ("done", "here", "next", "todo")
    }
    sentences = {
        "done": _("Ran: %(nodes)s."),
        "here": _("Waits: %(nodes)s."),
        "next": _("Next: %(nodes)s."),
        "todo": _("Not run: %(nodes)s."),
    }
    return [said % {"nodes": named[state]} for state, said in sentences.items() if named[state]]


def _also(name: str, coming: set[str]) -> set[str]:
    return {"next"} if name in coming else set()


def _together(parts: Iterable[SafeString]) -> SafeString:
    return format_html_join("", "{}", ((part,) for part in parts))


@dataclass
class _Drawing:
    plan: Plan
    progress: Progress
    notes: Mapping[str, str]

    def __post_init__(self) -> None:
        self.row = {name: place for place, name in enumerate(self.plan.nodes)}
        pairs = [pair for pair in self.plan.edges if pair[0] != pair[1]]
        self.forward = [pair for pair in pairs if self.row[pair[0]] < self.row[pair[1]]]
        self.lane, self.way = _lanes(self.plan.nodes, self.forward)
        self.backs = _sides([self._span(*p) for p in pairs if p not in set(self.forward)])
        used = 1 + max([*self.lane.values(), *self.way.values()])
        self.pitch = min(LANE, LANES_MAX / used)
        self.side = min(BACK, BACKS_MAX / len(set(self.backs.values()))) if self.backs else 0
        self.left = 12 + self.side * len(set(self.backs.values()))
        self.names = self.left + self.pitch * (used - 1) + 18

    # Lines

    def lines(self) -> Iterator[SafeString]:
        """The taken ones last: where two lines share a stretch, they are seen."""
        rank = ["todo", "maybe", "next", "taken"]
        for pair in sorted(self.plan.edges, key=lambda pair: rank.index(self._kind(pair))):
            yield _path(self._shape(*pair), self._kind(pair))
            if self._goes_back(pair):
                yield _path(self._arrow(pair[1]), "arrow")

    def _kind(self, pair: Pair) -> str:
        return self.progress.of_edge(self.plan, pair)

    def _goes_back(self, pair: Pair) -> bool:
        return self.row[pair[1]] < self.row[pair[0]]

    def _shape(self, source: str, target: str) -> str:
        if source == target:
            return self._loop(source)
        return (
            self._back(source, target)
            if self._goes_back((source, target))
            else (self._forward(source, target))
        )

    def _forward(self, source: str, target: str) -> str:
        """Down its lane, with a bend into it at its source and out of it at its target."""
        way = self._lane_x(self.way[source, target])
        (x1, y1), (x2, y2) = self._place(source), self._place(target)
        y1, y2 = y1 + self._gap(source), y2 - self._gap(target)
        bend = min(ROW * 0.8, (y2 - y1) / 2)
        half = bend / 2
        drawn = f"M{x1:g} {y1:g}"
        if way == x1 == x2 or self.row[target] == self.row[source] + 1:
            return drawn + (f"V{y2:g}" if x1 == x2 else _curve(x1, y1, x2, y2))
        if way != x1:
            drawn += f"C{x1:g} {y1 + half:g} {way:g} {y1 + half:g} {way:g} {y1 + bend:g}"
        if way == x2:
            return drawn + f"V{y2:g}"
        turn = y2 - bend
        return drawn + f"V{turn:g}C{way:g} {turn + half:g} {x2:g} {y2 - half:g} {x2:g} {y2:g}"

    def _back(self, source: str, target: str) -> str:
        lane = self.left - 6 - self.side * (1 + self.backs[self._span(source, target)])
        (x1, y1), (x2, y2) = self._port(target, 3), self._port(source, -3)
        r = min(6.0, x1 - lane, x2 - lane)
        return (
            f"M{x2:g} {y2:g}H{lane + r:g}Q{lane:g} {y2:g} {lane:g} {y2 - r:g}"
            f"V{y1 + r:g}Q{lane:g} {y1:g} {lane + r:g} {y1:g}H{x1:g}"
        )

    def _arrow(self, target: str) -> str:
        x, y = self._port(target, 3)
        return f"M{x - 3:g} {y - 2.5:g}L{x:g} {y:g}L{x - 3:g} {y + 2.5:g}"

    def _loop(self, name: str) -> str:
        x, y = self._place(name)
        x += self._gap(name) - 1
        return f"M{x:g} {y - 3:g}h3a3 3 0 0 1 0 6h-3"

    def _span(self, source: str, target: str) -> Span:
        low, high = sorted((self.row[source], self.row[target]))
        return low, high

    def _port(self, name: str, drop: float) -> tuple[float, float]:
        """Where a loop meets its node. Up and down apart, so that lines of one lane don't join."""
        x, y = self._place(name)
        return x - self._gap(name) - 1, y + drop

    def _place(self, name: str) -> tuple[float, float]:
        return self._lane_x(self.lane[name]), TOP + ROW * self.row[name]

    def _lane_x(self, lane: int) -> float:
        return self.left + self.pitch * lane

    def _gap(self, name: str) -> float:
        return 9 if name in self.progress.waiting else 5

    # Nodes

    def marks(self) -> Iterator[SafeString]:
        for name in self.plan.nodes:
            yield self._dot(name)
            yield self._name(name)
            if self.notes.get(name):
                yield self._note(name)

    def _dot(self, name: str) -> SafeString:
        x, y = self._place(name)
        state = self.progress.of_node(self.plan, name)
        halo = format_html('<circle class="halo" cx="{}" cy="{}" r="8"/>', f"{x:g}", y)
        if name in self.plan.inside:
            box = '<rect class="{}" x="{}" y="{}" width="8" height="8" rx="1.5"/>'
            dot = format_html(box, state, f"{x - 4:g}", y - 4)
        else:
            radius = 4.5 if state == "here" else 3.5
            circle = '<circle class="{}" cx="{}" cy="{}" r="{}"/>'
            dot = format_html(circle, state, f"{x:g}", y, radius)
        return halo + dot if state == "here" else dot

    def _name(self, name: str) -> SafeString:
        note = len(clipped(self.notes.get(name, ""), NOTE_CHARS)) * NOTE_CHAR
        room = int((WIDTH - self.names - note - 8) / NAME_CHAR)
        on = SafeString(' class="on"') if name in self.progress.waiting else ""
        y = self._place(name)[1] + 4
        text = '<text{} x="{}" y="{}">{}</text>'
        return format_html(text, on, f"{self.names:g}", y, short(name, room))

    def _note(self, name: str) -> SafeString:
        return format_html(
            '<text class="{}" x="{}" y="{}" text-anchor="end">{}</text>',
            "due" if name in self.progress.waiting else "note",
            WIDTH,
            self._place(name)[1] + 4,
            short(self.notes[name], NOTE_CHARS),
        )


def _lanes(order: list[str], forward: list[Pair]) -> tuple[dict[str, int], dict[Pair, int]]:
    """The lane of each node and of each edge.

    A node's first edge goes on in its lane; every other one takes a free lane, where nothing else
    is until its target, which stands in the leftmost lane that leads to it.
    """
    row = {name: place for place, name in enumerate(order)}
    lane: dict[str, int] = {}
    way: dict[Pair, int] = {}
    waiting: dict[Pair, int] = {}  # edges on their way at this row
    for name in order:
        mine = [pair for pair in waiting if pair[1] == name]
        taken = set(waiting.values())
        lane[name] = min((waiting[pair] for pair in mine), default=_free(taken))
        for pair in mine:
            way[pair] = waiting.pop(pair)
        goes = sorted((pair for pair in forward if pair[0] == name), key=lambda pair: row[pair[1]])
        for place, pair in enumerate(goes):
            shared = [waiting[other] for other in waiting if other[1] == pair[1]]
            side = min((each for each in shared if each != lane[name]), default=None)
            if place == 0:
                waiting[pair] = lane[name]
            else:
                taken = {*waiting.values(), lane[name]}
                waiting[pair] = side if side is not None else _free(taken)
    return lane, way


def _free(taken: set[int]) -> int:
    return next(lane for lane in count() if lane not in taken)


def _sides(spans: list[Span]) -> dict[Span, int]:
    """Short loops inside, long ones outside; in one lane they may touch but not overlap."""
    lanes: dict[Span, int] = {}
    for span in sorted(spans, key=lambda span: (span[1] - span[0], span)):
        taken = {lane for other, lane in lanes.items() if other[0] < span[1] and span[0] < other[1]}
        lanes[span] = _free(taken)
    return lanes


def _curve(x1: float, y1: float, x2: float, y2: float) -> str:
    middle = (y1 + y2) / 2
    return f"C{x1:g} {middle:g} {x2:g} {middle:g} {x2:g} {y2:g}"


def _path(shape: str, kind: str = "") -> SafeString:
    return format_html('<path{} d="{}"/>', SafeString(f' class="{kind}"' if kind else ""), shape)


def short(text: str, room: int) -> SafeString:
    """Cut to `room` characters; the whole of it is in a tooltip."""
    cut = clipped(text, room)
    title = format_html("<title>{}</title>", text) if cut != text else ""
    return format_html("{}{}", title, cut)


def clipped(text: str, room: int) -> str:
    return text if len(text) <= room else text[: max(room - 1, 1)] + "…"
