"""A graph in layers, branches side by side and subgraphs opened one level; SVG of its own size."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from approvals.flow import in_words, short
from approvals.graph_plan import Pair, Plan, Progress
from approvals.layers import GAP_Y, Placed, Point, Size, place

CHAR = 7.3
NAME = 24  # characters
HIGH = 34.0
PAD = 14.0
HEAD = 22.0  # of an opened subgraph, for its name
SIDE = 12.0  # between two loops at the side
MARGIN = 10.0  # for rings and strokes


def large_flow(plan: Plan, progress: Progress, label: str) -> SafeString:
    """In its own size, for a frame that scrolls."""
    if not plan.nodes:
        return SafeString("")
    drawing = _Layout(plan, progress, opened=True)
    width, height = drawing.size[0] + 2 * MARGIN, drawing.size[1] + 2 * MARGIN
    return format_html(
        '<svg class="flow large" width="{0}" height="{1}" viewBox="-{2} -{2} {0} {1}" role="img"'
        ' aria-label="{3}">{4}</svg>',
        f"{width:g}",
        f"{height:g}",
        f"{MARGIN:g}",
        f"{label}: {' '.join(in_words(plan, progress))}",
        _together(drawing.parts()),
    )


def _together(parts: Iterator[SafeString]) -> SafeString:
    return format_html_join("", "{}", ((part,) for part in parts))


@dataclass
class _Layout:
    """One level; an opened subgraph is a level inside a node."""

    plan: Plan
    progress: Progress
    opened: bool
    inner: dict[str, "_Layout"] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.opened:
            self.inner = {
                name: _Layout(each, Progress(), opened=False)
                for name, each in self.plan.inside.items()
            }
        self.sizes = {name: self._size_of(name) for name in self.plan.nodes}
        pairs = [pair for pair in self.plan.edges if pair[0] != pair[1]]
        self.placed: Placed = place(self.plan.nodes, pairs, self.sizes)
        self.backs = [pair for pair in pairs if pair not in self.placed.ways]
        room = SIDE * (len(self.backs) + 1) if self.backs else 0
        self.size: Size = (self.placed.width + room, self.placed.height)

    def _size_of(self, name: str) -> Size:
        wide = min(len(name), NAME) * CHAR + 2 * PAD
        if name in self.progress.waiting or name in self.plan.inside:
            wide += 48
        if name not in self.inner:
            return max(wide, 64), HIGH
        width, height = self.inner[name].size
        return max(wide, width + 2 * PAD), height + HEAD + 2 * PAD

    def parts(self) -> Iterator[SafeString]:
        rank = ["todo", "maybe", "next", "taken"]
        for pair in sorted(self.placed.ways, key=lambda pair: rank.index(self._kind(pair))):
            yield _edge(_through(self._ends(pair)), self._kind(pair))
            yield _edge(_arrow(*self._end(pair[1], -1)), "arrow")
        for number, pair in enumerate(self.backs):
            yield from self._back(number, pair)
        for name in self.plan.nodes:
            if (name, name) in self.plan.edges:
                yield _edge(self._loop(name), self._kind((name, name)))
            yield from self._box(name)

    def _kind(self, pair: Pair) -> str:
        return self.progress.of_edge(self.plan, pair)

    def _ends(self, pair: Pair) -> list[Point]:
        """The way of an edge, from the lower side of its source to the upper one of its target."""
        source, target = pair
        return [self._end(source, 1), *self.placed.ways[pair][1:-1], self._end(target, -1)]

    def _end(self, name: str, side: int) -> Point:
        x, y = self.placed.at[name]
        return x, y + side * (self.sizes[name][1] / 2 + (3 if name in self.progress.waiting else 0))

    def _back(self, number: int, pair: Pair) -> Iterator[SafeString]:
        """Round the right side."""
        far = self.placed.width + SIDE * (number + 1)
        (x1, y1), (x2, y2) = (self._right(name) for name in pair)
        y1, y2, r = y1 - 5, y2 + 5, 8.0
        turn = r if y1 > y2 else -r
        yield _edge(
            f"M{x1:g} {y1:g}H{far - r:g}Q{far:g} {y1:g} {far:g} {y1 - turn:g}"
            f"V{y2 + turn:g}Q{far:g} {y2:g} {far - r:g} {y2:g}H{x2:g}",
            self._kind(pair),
        )
        yield _edge(f"M{x2 + 4:g} {y2 - 3.5:g}L{x2:g} {y2:g}L{x2 + 4:g} {y2 + 3.5:g}", "arrow")

    def _right(self, name: str) -> Point:
        x, y = self.placed.at[name]
        return x + self.sizes[name][0] / 2 + (3 if name in self.progress.waiting else 0), y

    def _loop(self, name: str) -> str:
        x, y = self._right(name)
        return f"M{x:g} {y - 5:g}h5a5 5 0 0 1 0 10h-5"

    def _box(self, name: str) -> Iterator[SafeString]:
        (x, y), (width, height) = self.placed.at[name], self.sizes[name]
        left, top = x - width / 2, y - height / 2
        state = self.progress.of_node(self.plan, name)
        if state == "here":
            yield _rect("halo", left - 3, top - 3, width + 6, height + 6, 9)
        kind = f"box {state}{' group' if name in self.plan.inside else ''}"
        yield _rect(kind, left, top, width, height, 6)
        if name in self.inner:
            yield self._text(name, left + PAD, top + HEAD - 4, "start")
            inside = self.inner[name]
            dx = left + (width - inside.size[0]) / 2
            yield format_html(
                '<g transform="translate({} {})">{}</g>',
                f"{dx:g}",
                f"{top + HEAD + PAD:g}",
                _together(inside.parts()),
            )
        else:
            yield from self._named(name, x, y, width)

    def _named(self, name: str, x: float, y: float, width: float) -> Iterator[SafeString]:
        note = self._note(name)
        if not note:
            yield self._text(name, x, y + 4, "middle")
            return
        yield self._text(name, x - width / 2 + PAD, y + 4, "start")
        kind = "due" if name in self.progress.waiting else "note"
        yield format_html(
            '<text class="{}" x="{}" y="{}" text-anchor="end">{}</text>',
            kind,
            f"{x + width / 2 - PAD:g}",
            f"{y + 4:g}",
            note,
        )

    def _note(self, name: str) -> str:
        if name in self.progress.waiting:
            return _("waits")
        if name in self.plan.inside:
            return _("%(n)s inside") % {"n": self.plan.inside[name].size}
        return ""

    def _text(self, name: str, x: float, y: float, anchor: str) -> SafeString:
        on = SafeString(' class="on"') if name in self.progress.waiting else ""
        text = '<text{} x="{}" y="{}" text-anchor="{}">{}</text>'
        return format_html(text, on, f"{x:g}", f"{y:g}", anchor, short(name, NAME))


def _rect(kind: str, x: float, y: float, width: float, height: float, round_: float) -> SafeString:
    sides: Mapping[str, float] = {"x": x, "y": y, "width": width, "height": height, "rx": round_}
    written = format_html_join("", ' {}="{}"', ((key, f"{side:g}") for key, side in sides.items()))
    return format_html('<rect class="{}"{}/>', kind, written)


def _edge(shape: str, kind: str) -> SafeString:
    return format_html('<path class="{}" d="{}"/>', kind, shape)


def _through(points: Sequence[Point]) -> str:
    """From point to point, upright at each of them."""
    (x, y), *rest = points
    drawn = f"M{x:g} {y:g}"
    for to_x, to_y in rest:
        reach = min(abs(to_y - y) / 2, GAP_Y)
        drawn += f"C{x:g} {y + reach:g} {to_x:g} {to_y - reach:g} {to_x:g} {to_y:g}"
        x, y = to_x, to_y
    return drawn


def _arrow(x: float, y: float) -> str:
    return f"M{x - 3.5:g} {y - 4:g}L{x:g} {y:g}L{x + 3.5:g} {y - 4:g}"
