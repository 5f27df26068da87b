"""Charts as SVG that stretches with the page while its text does not; overview.css gives ink.

pygal lays the columns out. What it draws has its own style, script and width; of that only the
rectangles are kept, in percent of the width.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element, SubElement, tostring

import pygal  # type: ignore[import-untyped]
from django.utils.safestring import SafeString

HEIGHT = 180.0
_SCALE = 1000  # pygal's width, which becomes a hundred percent


@dataclass(frozen=True)
class Series:
    """One colour of columns: the class that gives it, its name, and a value for each slot."""

    ink: str
    name: str
    values: Sequence[float]


@dataclass(frozen=True)
class Slot:
    """One place on the axis: the words under it, if any, and its name in full."""

    label: str
    name: str


@dataclass(frozen=True)
class Columns:
    """A drawn chart and what stands around it, from the top down and from the left."""

    svg: SafeString
    ticks: list[str]
    slots: Sequence[Slot]
    series: Sequence[Series]


class _Flush:
    """pygal leaves a margin around the bars that its axes would use."""

    def _compute(self) -> None:
        super()._compute()  # type: ignore[misc]
        self._box.margin = 0  # type: ignore[attr-defined]


class _Beside(_Flush, pygal.Bar):  # type: ignore[misc]
    _series_margin, _serie_margin = 0.12, 0.04


class _Stacked(_Flush, pygal.StackedBar):  # type: ignore[misc]
    _series_margin = 0.24


def columns(
    slots: Sequence[Slot],
    series: Sequence[Series],
    labelled_by: str,
    *,
    stacked: bool = False,
    numbers: bool = False,
    said: Sequence[Sequence[str]] = (),
) -> Columns:
    """`said` are the values in words, where they differ; `numbers` stand on top of the columns."""
    words = said or [[f"{value:g}" for value in each.values] for each in series]
    top, ticks = scale(_tallest(series, stacked))
    svg = Element("svg", {"class": "columns", "width": "100%", "height": f"{HEIGHT:g}"})
    svg.attrib |= {"role": "img", "aria-labelledby": labelled_by}
    for tick in ticks:
        y = f"{HEIGHT * (1 - tick / top):g}"
        SubElement(
            svg, "line", {"class": "base" if tick == 0 else "grid", "x2": "100%", "y1": y, "y2": y}
        )
    chart = _laid_out(_Stacked if stacked else _Beside, series, top)
    for number, each in enumerate(series):
        for place, box in enumerate(_boxes(chart, number)):
            if each.values[place] > 0:
                name = f"{slots[place].name}, {each.name}: {words[number][place]}"
                on_top = numbers and (not stacked or number == len(series) - 1)
                svg.extend(_column(box, each.ink, name, words[number][place] if on_top else ""))
    drawn = SafeString(tostring(svg, encoding="unicode"))
    return Columns(drawn, [f"{tick:g}" for tick in reversed(ticks)], slots, series)


def _tallest(series: Sequence[Series], stacked: bool) -> float:
    heights = zip(*(each.values for each in series), strict=True)
    return max((sum(each) if stacked else max(each) for each in heights), default=0)


def scale(tallest: float) -> tuple[float, list[float]]:
    """The top of an axis that this fits under, and two to six round ticks from 0 up to it."""
    if tallest <= 0:
        return 1, [0, 1]
    rough = tallest / 5
    power = 10 ** math.floor(math.log10(rough))
    step = next(each * power for each in (1, 2, 5, 10) if each * power >= rough)
    step = max(1, step)
    steps = math.ceil(tallest / step)
    return steps * step, [step * n for n in range(steps + 1)]


def _laid_out(kind: type, series: Sequence[Series], top: float) -> Element:
    chart = kind(
        **{"js": [], "css": [], "width": _SCALE, "height": HEIGHT, "margin": 0, "range": (0, top)},
        **dict.fromkeys(("show_legend", "show_x_labels", "show_y_labels"), False),
    )
    for each in series:
        chart.add(each.name, list(each.values))
    drawn: Element = chart.render_tree()
    return drawn


def _boxes(chart: Element, number: int) -> Iterable[dict[str, float]]:
    """The bars of one series, in the order of their slots."""
    group = next(g for g in chart.iter("g") if f"serie-{number}" in g.get("class", "").split())
    for rect in group.iter("rect"):
        yield {key: float(rect.attrib[key]) for key in ("x", "y", "width", "height")}


def _column(box: dict[str, float], ink: str, name: str, number: str) -> list[Element]:
    x, width = 100 * box["x"] / _SCALE, 100 * box["width"] / _SCALE
    # One that is too short to be seen is still one.
    height = max(box["height"], 1.5)
    place = {"x": f"{x:.3f}%", "width": f"{width:.3f}%"}
    rect = Element(
        "rect",
        {"class": ink, **place, "y": f"{box['y'] - height + box['height']:.2f}"}
        | {"height": f"{height:.2f}"},
    )
    SubElement(rect, "title").text = name
    if not number:
        return [rect]
    text = Element("text", {"x": f"{x + width / 2:.3f}%", "y": f"{box['y'] - 5:.2f}"})
    text.text = number
    return [rect, text]


def bar(parts: Iterable[tuple[str, float, str]], whole: float) -> SafeString:
    """A bar in a row of a table: (ink, value, words) of each part, the bar as long as `whole`."""
    svg = Element("svg", {"class": "bar-line", "aria-hidden": "true"})
    x = 0.0
    for ink, value, name in parts:
        width = 100 * value / whole if whole else 0
        if width:
            place = {"x": f"{x:.2f}%", "width": f"{width:.2f}%", "height": "100%"}
            SubElement(SubElement(svg, "rect", {"class": ink, **place}), "title").text = name
        x += width
    return SafeString(tostring(svg, encoding="unicode"))
