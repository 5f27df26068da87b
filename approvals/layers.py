"""Places the nodes of a graph in layers, from the top down, with few crossings.

Sugiyama's way: loops are turned round, each node stands below all that lead to it, long edges get a
bend in every layer they pass, and layers are sorted by the middle of their neighbours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, zip_longest
from statistics import mean

from approvals.graph_plan import Pair

Size = tuple[float, float]
Point = tuple[float, float]

GAP_X = 24.0
GAP_Y = 34.0
BEND = 14.0  # the room that a long edge takes in a layer
SWEEPS = 8


@dataclass(frozen=True)
class Placed:
    """Middles of the nodes, the points that each edge passes, and the size of it all."""

    at: Mapping[str, Point]
    ways: Mapping[Pair, Sequence[Point]]
    width: float
    height: float


@dataclass(frozen=True)
class _Bend:
    """Where an edge passes a layer without stopping."""

    pair: Pair
    layer: int


_Item = str | _Bend


def place(order: Sequence[str], pairs: Sequence[Pair], sizes: Mapping[str, Size]) -> Placed:
    """`order` is a reading order: an edge to an earlier node is one that goes back."""
    rank = {name: number for number, name in enumerate(order)}
    forward = [pair for pair in pairs if rank[pair[0]] < rank[pair[1]]]
    depth = _depths(order, forward)
    layers, links = _layered(order, forward, depth)
    for sweep in range(SWEEPS):
        _sort(layers, links, down=sweep % 2 == 0)
    widths = {
        item: sizes[item][0] if isinstance(item, str) else BEND for one in layers for item in one
    }
    x = _columns(layers, links, widths)
    middles, height = _rows(layers, sizes)
    at = {name: (x[name], middles[depth[name]]) for name in order}
    ways = {pair: _way(pair, at, depth, x, middles) for pair in forward}
    right = max(x[item] + widths[item] / 2 for item in x)
    return Placed(at, ways, right, height)


def _depths(order: Sequence[str], forward: Sequence[Pair]) -> dict[str, int]:
    """The longest way to each node."""
    depth = dict.fromkeys(order, 0)
    for name in order:
        for source, target in forward:
            if source == name:
                depth[target] = max(depth[target], depth[name] + 1)
    return depth


def _layered(
    order: Sequence[str], forward: Sequence[Pair], depth: Mapping[str, int]
) -> tuple[list[list[_Item]], list[tuple[_Item, _Item]]]:
    """Layers of nodes and bends, and the links of one layer to the next."""
    layers: list[list[_Item]] = [[] for _ in range(1 + max(depth.values()))]
    for name in order:
        layers[depth[name]].append(name)
    links: list[tuple[_Item, _Item]] = []
    for source, target in forward:
        bends = [_Bend((source, target), n) for n in range(depth[source] + 1, depth[target])]
        for bend in bends:
            layers[bend.layer].append(bend)
        chain: list[_Item] = [source, *bends, target]
        links += pairwise(chain)
    return layers, links


def _sort(layers: list[list[_Item]], links: Sequence[tuple[_Item, _Item]], down: bool) -> None:
    """Each layer by the mean place of its neighbours in the layer before."""
    for layer, before in _steps(layers, down):
        places = {item: number for number, item in enumerate(before)}
        now = {item: number for number, item in enumerate(layer)}
        near = _neighbours(links, down)
        layer.sort(
            key=lambda item: mean(
                [places[each] for each in near.get(item, ()) if each in places] or [now[item]]
            )
        )


def _steps(layers: list[list[_Item]], down: bool) -> list[tuple[list[_Item], list[_Item]]]:
    ordered = layers if down else layers[::-1]
    return list(zip(ordered[1:], ordered, strict=False))


def _neighbours(links: Sequence[tuple[_Item, _Item]], down: bool) -> dict[_Item, list[_Item]]:
    near: dict[_Item, list[_Item]] = {}
    for upper, lower in links:
        item, other = (lower, upper) if down else (upper, lower)
        near.setdefault(item, []).append(other)
    return near


def _columns(
    layers: list[list[_Item]],
    links: Sequence[tuple[_Item, _Item]],
    widths: Mapping[_Item, float],
) -> dict[_Item, float]:
    """Each under the middle of its neighbours, as far as its layer has room; from 0 on."""
    x: dict[_Item, float] = {}
    for layer in layers:
        _spread(layer, dict.fromkeys(layer, 0.0), widths, x)
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        near = _neighbours(links, down)
        for layer, _before in _steps(layers, down):
            wish = {item: _middle(near.get(item) or [item], x) for item in layer}
            _spread(layer, wish, widths, x)
    left = min(x[item] - widths[item] / 2 for item in x)
    return {item: place - left for item, place in x.items()}


def _middle(items: Sequence[_Item], x: Mapping[_Item, float]) -> float:
    weights = [_weight(item) for item in items]
    return sum(x[i] * w for i, w in zip(items, weights, strict=True)) / sum(weights)


def _weight(item: _Item) -> float:
    """Bends give way to nodes."""
    return 1.0 if isinstance(item, str) else 0.05


def _spread(
    layer: Sequence[_Item],
    wish: Mapping[_Item, float],
    widths: Mapping[_Item, float],
    x: dict[_Item, float],
) -> None:
    """As near to their wishes as their widths allow, by least squares.

    Taken off the room that those before it need, each wish must not be less than the one before:
    where it is, the two become one block at their mean (isotonic regression).
    """
    offsets, offset = [], 0.0
    for item, following in zip_longest(layer, layer[1:]):
        offsets.append(offset)
        offset += (widths[item] + widths.get(following, 0)) / 2 + GAP_X
    blocks: list[tuple[float, float, int]] = []  # mean, weight, items
    for item, offset in zip(layer, offsets, strict=True):
        block = (wish[item] - offset, _weight(item), 1)
        while blocks and blocks[-1][0] > block[0]:
            block = _merged(blocks.pop(), block)
        blocks.append(block)
    means = [mean for mean, _weight, items in blocks for _ in range(items)]
    x.update({i: m + o for i, m, o in zip(layer, means, offsets, strict=True)})


def _merged(
    one: tuple[float, float, int], other: tuple[float, float, int]
) -> tuple[float, float, int]:
    weight = one[1] + other[1]
    return (one[0] * one[1] + other[0] * other[1]) / weight, weight, one[2] + other[2]


def _rows(layers: list[list[_Item]], sizes: Mapping[str, Size]) -> tuple[list[float], float]:
    """The middle of each layer, and the height of all."""
    middles, top = [], 0.0
    for layer in layers:
        height = max((sizes[item][1] for item in layer if isinstance(item, str)), default=0)
        middles.append(top + height / 2)
        top += height + GAP_Y
    return middles, top - GAP_Y


def _way(
    pair: Pair,
    at: Mapping[str, Point],
    depth: Mapping[str, int],
    x: Mapping[_Item, float],
    middles: Sequence[float],
) -> list[Point]:
    source, target = pair
    passed = range(depth[source] + 1, depth[target])
    return [at[source], *((x[_Bend(pair, n)], middles[n]) for n in passed), at[target]]
