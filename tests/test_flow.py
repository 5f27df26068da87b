"""The drawings of a graph: rows with lanes, and layers; what they say to who does not see them."""

import re
from itertools import combinations, pairwise
from xml.etree import ElementTree

import pytest
from langgraph.graph import END, START, MessagesState, StateGraph

from approvals.flow import clipped, flow_of, in_words
from approvals.flow_large import large_flow
from approvals.graph_plan import Plan, Progress, from_drawable, plan_of, planned
from approvals.layers import place

SVG = "{http://www.w3.org/2000/svg}"
SIZE = (100.0, 30.0)


def parsed(svg: str) -> ElementTree.Element:
    named = svg.replace("<svg ", f'<svg xmlns="{SVG[1:-1]}" ', 1)
    root = ElementTree.fromstring(named)  # noqa: S314 - our own drawing
    assert not [each for each in root.iter() if "style" in each.attrib]
    assert {each.tag[len(SVG) :] for each in root.iter()} <= {
        *("svg", "g", "path", "circle", "rect", "text", "title"),
    }
    return root


def rows(nodes, edges, *, waiting, visited=(), **more) -> str:
    return flow_of(planned(nodes, edges), Progress(frozenset(waiting), frozenset(visited)), **more)


def drawn(nodes: list[str], edges: list[tuple[str, str, bool]] = (), **more) -> ElementTree.Element:
    settings = {"waiting": set(), "label": "Graph"} | more
    return parsed(rows(nodes, edges, **settings))


def names(svg: ElementTree.Element) -> list[str]:
    """From top to bottom."""
    texts = [text for text in svg.iter(f"{SVG}text") if text.get("class") not in ("due", "note")]
    return [
        "".join(text.itertext()) for text in sorted(texts, key=lambda text: float(text.get("y")))
    ]


def dots(svg: ElementTree.Element) -> list[tuple[str, float]]:
    """(kind, x) of each node, from top to bottom."""
    found = [each for each in svg.iter(f"{SVG}circle") if each.get("class") != "halo"]
    found.sort(key=lambda each: float(each.get("cy")))
    return [(each.get("class"), float(each.get("cx"))) for each in found]


def kinds(svg: ElementTree.Element) -> list[str]:
    return [path.get("class") for path in svg.iter(f"{SVG}path") if path.get("class") != "arrow"]


def chain(*nodes: str) -> list[tuple[str, str, bool]]:
    return [(source, target, False) for source, target in pairwise(nodes)]


def run_to(plan: Plan, name: str) -> Progress:
    before = plan.nodes[: plan.nodes.index(name)]
    return Progress(frozenset({name}), frozenset(before))


BRANCHES = ["web", "shop", "ledger", "crm"]
FORK = planned(
    ["plan", *BRANCHES, "crm_more", "join", "approve", "send"],
    [
        *(edge for name in BRANCHES[:3] for edge in chain("plan", name, "join")),
        *chain("plan", "crm", "crm_more", "join", "approve", "send"),
    ],
)
FORTY = planned(
    [f"n{i}" for i in range(40)],
    [
        *chain(*(f"n{i}" for i in range(40))),
        *((f"n{i}", f"n{i + 7}", True) for i in range(0, 33, 3)),
        *((f"n{i}", f"n{i - 4}", True) for i in range(8, 40, 9)),
        ("n5", "n5", True),
    ],
)


# In words


def test_the_words_say_what_ran_what_waits_what_comes_next_and_what_has_not_run():
    plan = planned(list("abcde"), [*chain("a", "b", "c", "e"), ("b", "d", True)])
    assert in_words(plan, run_to(plan, "b")) == [
        "Ran: a.",
        "Waits: b.",
        "Next: c, d.",
        "Not run: e.",
    ]
    again = Progress(frozenset("b"), frozenset("abc"))  # a loop: c comes next, and ran before
    assert in_words(plan, again)[:3] == ["Ran: a, c.", "Waits: b.", "Next: c, d."]
    assert again.of_edge(plan, ("b", "c")) == "next"
    svg = parsed(flow_of(plan, run_to(plan, "b"), label="Graph x"))
    assert svg.get("role") == "img"
    assert svg.get("aria-label") == "Graph x: Ran: a. Waits: b. Next: c, d. Not run: e."


# Rows


def test_without_nodes_nothing_is_drawn():
    assert rows([], [], waiting=set(), label="Graph") == ""
    assert large_flow(planned([], []), Progress(), "Graph") == ""


def test_a_chain_runs_down_one_lane():
    svg = drawn(["send", "draft", "triage"], chain("triage", "draft", "send"))
    assert names(svg) == ["triage", "draft", "send"]
    assert len({x for _, x in dots(svg)}) == 1


def test_visited_waiting_next_and_coming_nodes_look_different():
    svg = drawn(["a", "b", "c", "d"], chain("a", "b", "c", "d"), waiting={"b"}, visited={"a"})
    assert [kind for kind, _ in dots(svg)] == ["done", "here", "next", "todo"]
    assert [text.text for text in svg.iter(f"{SVG}text")] == ["a", "b", "waits", "c", "d"]
    assert kinds(svg) == ["todo", "next", "taken"]


def test_a_choice_not_made_and_a_way_back_are_told_from_the_way_taken():
    edges = [*chain("a", "b", "c"), ("a", "c", True), ("b", "a", True)]
    svg = drawn(["a", "b", "c"], edges, visited={"a", "b"}, waiting={"c"})
    assert sorted(kinds(svg)) == ["maybe", "taken", "taken", "taken"]
    assert sorted(kinds(drawn(["a", "b", "c"], edges, waiting={"b"}))) == [
        *("maybe", "next", "next", "todo"),
    ]


def test_four_branches_stand_in_four_lanes_and_join_in_the_first():
    svg = parsed(flow_of(FORK, run_to(FORK, "approve"), label="Graph"))
    assert names(svg) == ["plan", *BRANCHES, "crm_more", "join", "approve", "send"]
    lanes = [x for _, x in dots(svg)]
    assert len(set(lanes[1:5])) == 4
    assert lanes[5] == lanes[4]
    assert lanes[0] == lanes[1] == lanes[6] == lanes[7]


def test_what_skips_the_main_line_goes_round_it_and_leaves_it_straight():
    svg = drawn(list("abcd"), [*chain("a", "b", "c", "d"), ("a", "d", True), ("b", "d", True)])
    assert len({x for _, x in dots(svg)}) == 1


@pytest.mark.parametrize("plan", [FORK, FORTY], ids=["fork", "forty"])
def test_no_line_leaves_the_drawing_or_runs_into_the_names(plan):
    svg = parsed(flow_of(plan, Progress(), label="Graph"))
    x_of_names = min(float(text.get("x")) for text in svg.iter(f"{SVG}text"))
    for path in svg.iter(f"{SVG}path"):
        shape = path.get("d")
        pairs = [part.split() for part in re.findall(r"[MCLQ]([-\d. ]+)", shape)]
        absolute = [float(x) for part in pairs for x in part[::2]]
        assert absolute, shape
        assert all(0 <= x < x_of_names - 4 for x in absolute), shape
    assert x_of_names < 150


def test_a_long_name_is_cut_and_told_in_full_by_its_tooltip():
    name = "subgraph:a_very_long_node_name_that_nobody_should_choose"
    for svg in (
        drawn([name], waiting={name}, notes={name: "waits 2 h 14"}),
        parsed(large_flow(planned([name], []), Progress(), "Graph")),
    ):
        text = next(svg.iter(f"{SVG}text"))
        assert text.find(f"{SVG}title").text == name
        assert text.find(f"{SVG}title").tail.endswith("…")
        assert len(text.find(f"{SVG}title").tail) <= 24
    assert clipped("abc", 3) == "abc"


def test_a_hostile_name_is_only_text():
    name = '"><script>alert(1)</script>'
    plan = planned([name], [(name, name, True)], {name: planned([name], [])})
    for svg in (
        flow_of(plan, Progress(), notes={name: name}, label=name),
        large_flow(plan, Progress(frozenset({name})), name),
    ):
        assert "<script" not in svg
        assert '"><s' not in svg
        parsed(svg)


def test_unknown_and_double_edges_draw_nothing_more():
    svg = drawn(["a", "b"], [*chain("a", "b"), ("a", "b", True), ("a", "gone", False)])
    assert kinds(svg) == ["todo"]


def test_disconnected_nodes_keep_their_place():
    assert names(drawn(["a", "lone", "b"], chain("a", "b"))) == ["a", "b", "lone"]


# Layers


@pytest.mark.parametrize("plan", [FORK, FORTY], ids=["fork", "forty"])
def test_in_layers_no_two_nodes_overlap_and_every_edge_goes_down(plan):
    pairs = [pair for pair in plan.edges if pair[0] != pair[1]]
    placed = place(plan.nodes, pairs, dict.fromkeys(plan.nodes, SIZE))
    for (ax, ay), (bx, by) in combinations(placed.at.values(), 2):
        assert abs(ax - bx) >= SIZE[0] or abs(ay - by) >= SIZE[1]
    for points in placed.ways.values():
        assert all(lower[1] > upper[1] for upper, lower in pairwise(points))
    assert all(50 <= x <= placed.width - 50 for x, _ in placed.at.values())
    assert all(15 <= y <= placed.height - 15 for _, y in placed.at.values())


def test_branches_stand_side_by_side_and_do_not_cross():
    placed = place(FORK.nodes, list(FORK.edges), dict.fromkeys(FORK.nodes, SIZE))
    at = [placed.at[name] for name in BRANCHES]
    assert len({y for _, y in at}) == 1
    tangled = planned(list("abcdef"), [(s, t, False) for s, t in ("ae", "ad", "be", "bf", "cd")])
    placed = place(tangled.nodes, list(tangled.edges), dict.fromkeys("abcdef", SIZE))
    crossings = [
        (one, other)
        for one, other in combinations(placed.ways.values(), 2)
        if (one[0][0] - other[0][0]) * (one[-1][0] - other[-1][0]) < 0
    ]
    assert not crossings


def test_forty_nodes_are_all_drawn_in_both_ways():
    progress = run_to(FORTY, "n20")
    small = parsed(flow_of(FORTY, progress, label="Graph"))
    large = parsed(large_flow(FORTY, progress, "Graph"))
    assert set(names(small)) == set(names(large)) == set(FORTY.nodes)
    assert sorted(kinds(small)) == sorted(kinds(large))


# Subgraphs


def nested():
    inner = StateGraph(MessagesState).add_node("search", lambda state: {})
    inner.add_node("rank", lambda state: {})
    inner.add_edge(START, "search").add_edge("search", "rank").add_edge("rank", END)
    middle = StateGraph(MessagesState).add_node("deep", inner.compile())
    middle.add_edge(START, "deep").add_edge("deep", END)
    outer = StateGraph(MessagesState).add_node("research", middle.compile())
    outer.add_node("plan", lambda state: {})
    outer.add_edge(START, "plan").add_edge("plan", "research").add_edge("research", END)
    return outer.compile()


def test_a_subgraph_is_marked_in_rows_and_opened_one_level_in_layers():
    plan = plan_of(nested())
    assert plan.size == 5
    small = parsed(flow_of(plan, Progress(), label="Graph"))
    assert names(small) == ["plan", "research"]
    assert [text.text for text in small.iter(f"{SVG}text") if text.get("class") == "note"] == [
        "3 inside"
    ]
    large = parsed(large_flow(plan, Progress(), "Graph"))
    said = ["".join(text.itertext()) for text in large.iter(f"{SVG}text")]
    assert said == ["plan", "research", "deep", "2 inside"]


def test_a_compiled_graph_is_read_without_its_two_ends():
    builder = StateGraph(MessagesState)
    for name in ("tools", "agent", "send"):
        builder.add_node(name, lambda state: {})
    builder.add_edge(START, "agent")
    builder.add_conditional_edges("agent", lambda state: "tools", ["tools", "send"])
    builder.add_edge("tools", "agent")
    builder.add_edge("send", END)
    nodes, edges = from_drawable(builder.compile().get_graph())
    assert nodes == ["agent", "tools", "send"]
    assert sorted(edges) == [
        ("agent", "send", True),
        ("agent", "tools", True),
        ("tools", "agent", False),
    ]
    assert names(drawn(nodes, edges)) == ["agent", "tools", "send"]
