"""The shape of a tree as columns beside a list: which lane each row has, and which lines pass it.

Rows come newest first, children before their parents. The newest row is the head: its line keeps
lane 0 all the way down, so branch 1 is the line that leads to it.
"""

from collections.abc import Container, Iterable
from dataclasses import dataclass
from heapq import heappop, heappush

MAX_DRAWN = 6  # lanes; those further right share the last one
LANE = 9  # px from lane to lane
MIDDLE = 13  # px from a row's top to its dot


@dataclass(frozen=True)
class Line:
    """A lane that somebody's parent is still looked for in."""

    lane: int
    branch: int


@dataclass(frozen=True)
class Row:
    """`joins` come from above and end in this row's dot, `passes` go by, `goes_on` leaves it."""

    id: str
    lane: int
    branch: int
    joins: tuple[Line, ...]
    passes: tuple[Line, ...]
    goes_on: bool

    @property
    def current(self) -> bool:
        """Whether the head descends from it, or it is the head."""
        return self.branch == 1

    @property
    def width(self) -> int:
        """In lanes, as drawn."""
        lanes = [self.lane, *(line.lane for line in (*self.joins, *self.passes))]
        return min(max(lanes) + 1, MAX_DRAWN)


def lanes(pairs: Iterable[tuple[str, str]], only: Container[str] | None = None) -> list[Row]:
    """A row for each (id, parent), newest first; for those in `only`, if it is given.

    A parent of "" is none. One that never comes keeps its line open to the last row: it is on an
    older page. One that came before its child (two machines' clocks) is not looked for.
    """
    found, tree = [], _Open()
    for id_, parent in pairs:
        before = tree.lines() if only is None or id_ in only else None
        joined = tree.close(id_)
        line = joined[0] if joined else tree.tip()
        goes_on = bool(parent) and parent not in tree.seen
        if goes_on:
            tree.open(line, parent)
        else:
            tree.free(line)
        if before is not None:
            ended = set(joined)
            passes = tuple(each for each in before if each not in ended)
            found.append(Row(id_, line.lane, line.branch, tuple(joined), passes, goes_on))
    return found


class _Open:
    """The lanes in use while rows are read from the newest down."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self._towards: dict[str, list[Line]] = {}  # by the id that is looked for
        self._unused: list[int] = []  # a heap; never lane 0, which stays the head's
        self._width = self._tips = 0

    def lines(self) -> list[Line]:
        return sorted((each for some in self._towards.values() for each in some), key=_lane)

    def tip(self) -> Line:
        """A new branch, in the leftmost lane that nothing runs in."""
        self._tips += 1
        if self._unused:
            return Line(heappop(self._unused), self._tips)
        self._width += 1
        return Line(self._width - 1, self._tips)

    def open(self, line: Line, parent: str) -> None:
        self._towards.setdefault(parent, []).append(line)

    def close(self, id_: str) -> list[Line]:
        """The lines that end here, the leftmost first: its lane is the one that goes on."""
        self.seen.add(id_)
        joined = sorted(self._towards.pop(id_, []), key=_lane)
        for line in joined[1:]:
            self.free(line)
        return joined

    def free(self, line: Line) -> None:
        if line.lane:
            heappush(self._unused, line.lane)


def _lane(line: Line) -> int:
    return line.lane


# Drawing


@dataclass(frozen=True)
class Stroke:
    """A path in px, or a straight line down to the row's end, however high the row is."""

    current: bool
    path: str = ""
    x: int = 0
    top: int = 0


@dataclass(frozen=True)
class Gutter:
    x: int
    strokes: list[Stroke]


def gutter(row: Row) -> Gutter:
    """What to draw beside a row; what is dim first, so that the head's line lies on top."""
    x = _x(row.lane)
    strokes = [Stroke(line.branch == 1, _curve(_x(line.lane), x)) for line in row.joins]
    strokes += [Stroke(line.branch == 1, x=_x(line.lane)) for line in row.passes]
    if row.goes_on:
        strokes.append(Stroke(row.current, x=x, top=MIDDLE))
    unique = dict.fromkeys(strokes)  # lanes that share the last column
    return Gutter(x, sorted(unique, key=lambda stroke: stroke.current))


def _x(lane: int) -> int:
    return min(lane, MAX_DRAWN - 1) * LANE + LANE // 2 + 1


def _curve(start: int, end: int) -> str:
    if start == end:
        return f"M{start} 0V{MIDDLE}"
    return f"M{start} 0C{start} {MIDDLE - 3} {end} 2 {end} {MIDDLE}"
