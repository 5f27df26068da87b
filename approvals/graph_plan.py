"""What of a graph is drawn: its nodes in reading order, their edges, the subgraphs inside."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from langchain_core.runnables.graph import Graph

Edge = tuple[str, str, bool]  # source, target, conditional
Pair = tuple[str, str]
ENDS = {"__start__", "__end__"}


@dataclass(frozen=True)
class Plan:
    """`inside` has the plan of each node that is a subgraph."""

    nodes: list[str]
    edges: Mapping[Pair, bool] = field(default_factory=dict)
    inside: Mapping[str, "Plan"] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return len(self.nodes) + sum(plan.size for plan in self.inside.values())


def plan_of(compiled: Any) -> Plan:
    """Of a compiled graph, its subgraphs included."""
    nodes, edges = from_drawable(compiled.get_graph())
    inside = {name: plan_of(graph) for name, graph in compiled.get_subgraphs()}
    return planned(nodes, edges, inside)


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


def planned(
    nodes: Iterable[str], edges: Iterable[Edge], inside: Mapping[str, Plan] | None = None
) -> Plan:
    """In reading order; two nodes are joined by one edge at most, in each direction."""
    names = list(dict.fromkeys(nodes))
    joined = _joined(edges, set(names))
    return Plan(_reading_order(names, joined), joined, inside or {})


def _joined(edges: Iterable[Edge], names: set[str]) -> dict[Pair, bool]:
    """Conditional only if every such edge is."""
    joined: dict[Pair, bool] = {}
    for source, target, conditional in edges:
        if source in names and target in names:
            joined[source, target] = conditional and joined.get((source, target), True)
    return joined


def _reading_order(names: list[str], edges: Iterable[Pair]) -> list[str]:
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


def _targets(names: list[str], edges: Iterable[Pair]) -> dict[str, list[str]]:
    rank = {name: place for place, name in enumerate(names)}
    after: dict[str, list[str]] = {name: [] for name in names}
    for source, target in sorted(edges, key=lambda edge: rank[edge[1]]):
        after[source].append(target)
    return after


def _back_edges(names: list[str], after: Mapping[str, list[str]]) -> set[Pair]:
    """The edges that close a loop, seen from the nodes in their given order."""
    back: set[Pair] = set()
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


@dataclass(frozen=True)
class Progress:
    """How far a run has come: where it waits, where it has been."""

    waiting: frozenset[str] = frozenset()
    visited: frozenset[str] = frozenset()

    def of_node(self, plan: Plan, name: str) -> str:
        """here, done, next (after where it waits) or todo."""
        if name in self.waiting:
            return "here"
        if name in self.visited:
            return "done"
        return "next" if name in self.coming(plan) else "todo"

    def coming(self, plan: Plan) -> set[str]:
        """What may run next, whether or not it has run before."""
        return {target for source, target in plan.edges if source in self.waiting}

    def of_edge(self, plan: Plan, pair: Pair) -> str:
        """taken, next, maybe (a choice that this run has not made, a way back) or todo.

        That both ends of a way back were visited does not say that it was taken.
        """
        source, target = pair
        if source in self.waiting:
            return "next"
        back = plan.nodes.index(target) <= plan.nodes.index(source)
        if not back and source in self.visited and target in self.visited | self.waiting:
            return "taken"
        return "maybe" if back or plan.edges[pair] else "todo"
