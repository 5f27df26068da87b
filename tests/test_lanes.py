"""Which lane of the gutter each checkpoint has, and which lines pass it."""

import random

import pytest

from approvals.lanes import MAX_DRAWN, MIDDLE, gutter, lanes


def rows(*pairs: str):
    """`rows("c<b", "b<a", "a")`, newest first."""
    return lanes([tuple((pair + "<").split("<")[:2]) for pair in pairs])


def columns(found) -> dict[str, int]:
    return {row.id: row.lane for row in found}


def test_a_line_without_forks_is_one_lane():
    found = rows("c<b", "b<a", "a")
    assert columns(found) == {"c": 0, "b": 0, "a": 0}
    assert [row.goes_on for row in found] == [True, True, False]
    assert [len(row.joins) for row in found] == [0, 1, 1]
    assert all(row.current and not row.passes for row in found)


def test_the_newest_line_keeps_the_first_lane_and_what_it_left_stands_beside_it():
    found = rows("e<b", "d<c", "c<b", "b<a", "a")
    assert columns(found) == {"e": 0, "d": 1, "c": 1, "b": 0, "a": 0}
    assert [row.id for row in found if not row.current] == ["d", "c"]
    assert [line.lane for line in found[1].passes] == [0]
    assert sorted(line.lane for line in found[3].joins) == [0, 1]


def test_two_forks_of_one_checkpoint_are_three_branches():
    found = rows("d<a", "c<a", "b<a", "a")
    assert columns(found) == {"d": 0, "c": 1, "b": 2, "a": 0}
    assert [row.branch for row in found] == [1, 2, 3, 1]
    assert sorted(line.lane for line in found[3].joins) == [0, 1, 2]


def test_a_lane_is_used_again_once_its_branch_has_joined():
    found = rows("g<f", "f<c", "e<c", "c<b", "b<a", "x<a", "a")
    assert columns(found)["e"] == columns(found)["x"] == 1
    assert next(row for row in found if row.id == "x").branch == 3


def test_a_parent_on_an_older_page_leaves_its_line_open_to_the_last_row():
    found = rows("d<c", "z<old", "c<b", "b<a")
    assert [line.lane for line in found[-1].passes] == [1]
    assert found[-1].goes_on


def test_no_other_tree_takes_the_first_lane_where_the_head_s_line_ended():
    found = rows("b<a", "a", "y<x", "x")
    assert columns(found) == {"b": 0, "a": 0, "y": 1, "x": 1}
    assert [row.current for row in found] == [True, True, False, False]


def test_a_child_with_an_older_id_than_its_parent_draws_no_line_into_nowhere():
    found = rows("parent<root", "child<parent", "root")
    assert not found[1].goes_on
    assert [line.lane for line in found[2].joins] == [0]
    assert not found[2].passes


def test_no_rows_at_all():
    assert lanes([]) == []


@pytest.mark.parametrize("seed", range(20))
def test_every_line_that_leaves_a_row_arrives_at_its_parent_and_the_head_descends_from_lane_0(seed):
    chance = random.Random(seed)
    parents = {n: chance.randrange(n) if n else None for n in range(40)}
    pairs = [(str(n), "" if parents[n] is None else str(parents[n])) for n in reversed(range(40))]
    found = lanes(pairs)
    line, at = set(), 39
    while at is not None:
        line.add(str(at))
        at = parents[at]
    assert {row.id for row in found if row.current} == line
    below: set[int] = set()
    for row in found:
        assert {each.lane for each in (*row.joins, *row.passes)} == below
        assert row.lane not in {each.lane for each in row.passes}
        children = [n for n, parent in parents.items() if str(parent) == row.id]
        assert len(row.joins) == len(children)
        below = {each.lane for each in row.passes} | ({row.lane} if row.goes_on else set())
    assert below == set()


def test_what_is_drawn_is_bounded_however_many_branches_there_are():
    found = lanes([*((f"{n:03}", "root") for n in range(60)), ("root", "")])
    assert max(row.width for row in found) == MAX_DRAWN
    assert max(len(gutter(row).strokes) for row in found) <= 2 * MAX_DRAWN
    assert len({gutter(row).x for row in found}) == MAX_DRAWN


def test_some_rows_are_as_they_are_among_all_of_them():
    pairs = [("e", "b"), ("d", "c"), ("c", "b"), ("b", "a"), ("a", "")]
    every = {row.id: row for row in lanes(pairs)}
    assert lanes(pairs, {"c", "a"}) == [every["c"], every["a"]]


def test_the_head_s_line_is_drawn_over_the_others():
    joined = gutter(rows("c<a", "b<a", "a")[2])
    assert [stroke.current for stroke in joined.strokes] == [False, True]
    assert all(stroke.path.endswith(str(MIDDLE)) for stroke in joined.strokes)
