import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from langgraph.graph import END, START, MessagesState, StateGraph

from approvals.flow import flow_svg, from_drawable

SVG = "{http://www.w3.org/2000/svg}"


def drawn(nodes: list[str], edges: list[tuple[str, str, bool]] = (), **more) -> ElementTree.Element:
    settings = {"waiting": set(), "label": "Graph"} | more
    svg = flow_svg(nodes, edges, **settings)
    named = svg.replace("<svg ", f'<svg xmlns="{SVG[1:-1]}" ', 1)
    return ElementTree.fromstring(named)  # noqa: S314 - our own drawing


def names(svg: ElementTree.Element) -> list[str]:
    """From top to bottom."""
    texts = [text for text in svg.iter(f"{SVG}text") if "text-anchor" not in text.attrib]
    return [
        "".join(text.itertext()) for text in sorted(texts, key=lambda text: float(text.get("y")))
    ]


def arcs(svg: ElementTree.Element) -> list[str]:
    return [path.get("d") for path in svg.iter(f"{SVG}path") if "Q" in path.get("d")]


def kinds(svg: ElementTree.Element) -> list[str | None]:
    return [circle.get("class") for circle in svg.iter(f"{SVG}circle")]


def chain(*nodes: str) -> list[tuple[str, str, bool]]:
    return [(source, target, False) for source, target in pairwise(nodes)]


def test_without_nodes_nothing_is_drawn():
    assert flow_svg([], [], waiting=set(), label="Graph") == ""


def test_a_single_node_waits_alone():
    svg = drawn(["approve"], waiting={"approve"})
    assert kinds(svg) == ["halo", "here"]
    assert svg.get("viewBox") == "0 0 272 30"


def test_a_chain_runs_down_one_straight_line():
    svg = drawn(["send", "draft", "triage"], chain("triage", "draft", "send"))
    assert names(svg) == ["triage", "draft", "send"]
    assert len(list(svg.iter(f"{SVG}path"))) == 2
    assert arcs(svg) == []


def test_the_label_says_the_order_and_where_it_waits():
    svg = drawn(["draft", "approve"], chain("draft", "approve"), waiting={"approve"})
    assert svg.get("role") == "img"
    assert svg.get("aria-label") == "Graph: draft, approve. Waiting at approve."


def test_visited_waiting_and_coming_nodes_look_different():
    svg = drawn(["a", "b", "c"], chain("a", "b", "c"), waiting={"b"}, visited={"a"})
    assert kinds(svg) == [None, "halo", "here", "todo"]
    assert [text.get("class") for text in svg.iter(f"{SVG}text")] == [None, "on", None]


def test_notes_stand_at_the_right_and_the_waiting_one_is_due():
    svg = drawn(["a", "b"], waiting={"b"}, notes={"a": "0.8 s", "b": "waits 2 h 14"})
    notes = [text for text in svg.iter(f"{SVG}text") if text.get("text-anchor") == "end"]
    assert [(note.get("class"), note.text) for note in notes] == [
        ("note", "0.8 s"),
        ("due", "waits 2 h 14"),
    ]


def test_an_edge_that_skips_a_row_is_an_arc():
    svg = drawn(["a", "b", "c"], [*chain("a", "b", "c"), ("a", "c", False)])
    assert len(arcs(svg)) == 1


def test_an_edge_back_is_a_dashed_arc():
    svg = drawn(["agent", "tools"], [("agent", "tools", False), ("tools", "agent", False)])
    assert names(svg) == ["agent", "tools"]
    dashed = [path for path in svg.iter(f"{SVG}path") if path.get("class") == "back"]
    assert [path.get("d") for path in dashed] == arcs(svg)


def test_a_choice_not_made_is_dashed_and_a_choice_made_is_not():
    edges = [("a", "b", True), ("b", "c", True)]
    svg = drawn(["a", "b", "c"], edges, visited={"a"}, waiting={"b"})
    assert [path.get("class") for path in svg.iter(f"{SVG}path")] == ["back", None]


def test_a_self_loop_is_drawn_without_moving_its_node():
    svg = drawn(["a", "b"], [("a", "a", True), *chain("a", "b")])
    assert names(svg) == ["a", "b"]
    assert len(list(svg.iter(f"{SVG}path"))) == 2


def test_parallel_branches_stay_in_one_piece_each():
    edges = [
        *chain("plan", "a1", "a2", "join"),
        *chain("plan", "b1", "b2", "join"),
    ]
    svg = drawn(["plan", "a1", "b1", "a2", "b2", "join"], edges)
    assert names(svg) == ["plan", "a1", "a2", "b1", "b2", "join"]


def test_arcs_that_overlap_in_height_run_in_different_lanes():
    nodes = [f"n{i}" for i in range(20)]
    edges = [*chain(*nodes), *(("n0", node, True) for node in nodes[2:])]
    lanes = [re.search(r"Q(\S+)", arc)[1] for arc in arcs(drawn(nodes, edges))]
    assert len(set(lanes)) == len(lanes) == 18


def test_arcs_that_only_meet_share_a_lane_and_do_not_touch():
    edges = [*chain("a", "b", "c", "d", "e"), ("a", "c", False), ("c", "e", False)]
    first, second = arcs(drawn(list("abcde"), edges))
    assert re.search(r"Q(\S+)", first)[1] == re.search(r"Q(\S+)", second)[1]
    assert first.split()[-1].split("H")[0] != second.split()[1].split("H")[0]


@pytest.mark.parametrize("arc_count", [0, 1, 3, 18])
def test_nothing_leaves_the_drawing_on_the_left(arc_count: int):
    nodes = [f"n{i}" for i in range(20)]
    edges = [*chain(*nodes), *(("n0", node, True) for node in nodes[2 : 2 + arc_count])]
    svg = drawn(nodes, edges, waiting={"n0"})
    assert all(float(re.search(r"Q(\S+)", arc)[1]) >= 0 for arc in arcs(svg))
    assert all(float(dot.get("cx")) >= float(dot.get("r")) for dot in svg.iter(f"{SVG}circle"))


def test_a_long_name_is_cut_and_told_in_full_by_its_tooltip():
    name = "subgraph:a_very_long_node_name_that_nobody_should_choose"
    svg = drawn([name], waiting={name}, notes={name: "waits 2 h 14"})
    text = next(svg.iter(f"{SVG}text"))
    assert text.find(f"{SVG}title").text == name
    assert text.find(f"{SVG}title").tail.endswith("…")
    assert len(text.find(f"{SVG}title").tail) < 22


def test_a_hostile_name_is_only_text():
    name = '"><script>alert(1)</script>'
    svg = flow_svg([name], [(name, name, True)], waiting=set(), notes={name: name}, label=name)
    assert "<script" not in svg
    assert '"><s' not in svg


def test_unknown_and_double_edges_draw_nothing_more():
    svg = drawn(["a", "b"], [*chain("a", "b"), ("a", "b", True), ("a", "gone", False)])
    assert len(list(svg.iter(f"{SVG}path"))) == 1


def test_disconnected_nodes_keep_their_place():
    assert names(drawn(["a", "lone", "b"], chain("a", "b"))) == ["a", "b", "lone"]


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


def test_a_subgraph_seen_inside_keeps_its_qualified_names():
    inner = StateGraph(MessagesState).add_node("search", lambda state: {})
    inner.add_edge(START, "search").add_edge("search", END)
    outer = StateGraph(MessagesState).add_node("research", inner.compile())
    outer.add_node("plan", lambda state: {})
    outer.add_edge(START, "plan").add_edge("plan", "research").add_edge("research", END)
    nodes, edges = from_drawable(outer.compile().get_graph(xray=True))
    assert names(drawn(nodes, edges)) == ["plan", "research:search"]
