"""An answer written as the asking task's `__resume__` row, and a bare run after it.

That is what `Command(resume={id: value})` leaves behind, too. The row can commit together with an
audit entry; the command cannot.
"""

from typing import Any

import pytest
from langgraph.types import Command

from tests.contract.graphs import SHAPES
from tests.contract.recipes import ns_of, place, places, write_answer
from tests.contract.threads import ANSWER, DURABILITIES, Thread

ASKING = [name for name, shape in SHAPES.items() if shape.asks]
VALUES = ["yes", None, False, "", {}, [], 0, {"a" * 32: 1}, [[1]], {"approved": True}]


def paused(name: str, **options: Any) -> Thread:
    thread = Thread(name)
    thread.start(**options)
    return thread


@pytest.mark.parametrize("durability", DURABILITIES)
@pytest.mark.parametrize("name", ASKING)
def test_the_row_answers_its_question_and_no_other(name: str, durability: Any) -> None:
    thread = paused(name, durability=durability)
    first, *others = thread.open()
    write_answer(thread, first, ANSWER)
    thread.run(None)
    still_open = {question.id for question in thread.open()}
    assert first.id not in still_open
    assert {question.id for question in others} <= still_open


@pytest.mark.parametrize("name", ASKING)
def test_a_run_of_rows_ends_as_a_run_of_commands_does(name: str) -> None:
    by_row, by_command = paused(name), paused(name)
    for number in range(6):
        if rows := by_row.open():
            write_answer(by_row, rows[0], {**ANSWER, "amount": number})
            by_row.run(None)
        if asked := by_command.open():
            by_command.run(Command(resume={asked[0].id: {**ANSWER, "amount": number}}))
    assert by_row.next() == by_command.next() == []
    assert by_row.log() == by_command.log() == by_row.shape.does
    assert by_row.answers() == by_command.answers() != []


@pytest.mark.parametrize("value", VALUES, ids=repr)
@pytest.mark.parametrize("name", ["asks", "asks_in_subgraph", "asks_in_called"])
def test_any_value_arrives_as_it_is(name: str, value: Any) -> None:
    thread = paused(name)
    while asked := thread.open():
        write_answer(thread, asked[0], value)
        thread.run(None)
    got = thread.answers()
    assert got
    assert all(answer == value and type(answer) is type(value) for answer in got)


def test_the_next_question_has_a_new_id_and_is_asked_again_and_again() -> None:
    thread = paused("asks_in_turn")
    (first,) = thread.open()
    write_answer(thread, first, "a")
    thread.run(None)
    (second,) = thread.open()
    assert (second.value, second.id != first.id) == ("two?", True)
    thread.run(None)
    thread.run(None)
    assert thread.open() == [second]


def test_the_row_holds_all_answers_of_its_task() -> None:
    thread = paused("asks_in_turn")
    for value in ("a", "b"):
        (question,) = thread.open()
        write_answer(thread, question, value)
        thread.run(None)
    (third,) = thread.open()
    assert place(thread, third).answered == ["a", "b"]


def test_before_the_run_the_question_still_looks_open() -> None:
    thread = paused("asks")
    (question,) = thread.open()
    write_answer(thread, question, "a")
    assert thread.open() == [question]
    assert thread.next() == ["ask"]


def test_the_same_row_written_twice_is_one_answer() -> None:
    thread = paused("asks_in_turn")
    (question,) = thread.open()
    at = place(thread, question)
    for value in ("a", "b"):
        thread.put_writes(at.config, [("__resume__", [value])], at.task_id)
    thread.run(None)
    (second,) = thread.open()
    assert second.value == "two?"
    assert place(thread, second).answered == ["b"]


def test_an_answer_in_a_subgraph_stands_in_its_own_namespace() -> None:
    for name, depth in (("asks_in_subgraph", 1), ("asks_deep", 2), ("asks_in_called", 1)):
        thread = paused(name)
        (question,) = thread.open()
        held = sorted(places(thread, question), key=lambda one: len(ns_of(one)))
        assert [ns_of(one).count(":") for one in held] == list(range(depth + 1))


def test_a_row_at_the_callers_task_answers_nothing() -> None:
    thread = paused("asks_in_subgraph")
    (question,) = thread.open()
    outer = min(places(thread, question), key=lambda one: len(ns_of(one)))
    thread.put_writes(outer.config, [("__resume__", ["a"])], outer.task_id)
    thread.run(None)
    assert thread.open() == [question]


def test_a_node_that_fails_after_its_answer_keeps_it() -> None:
    thread = paused("asks")
    (question,) = thread.open()
    thread.break_("ask answered")
    write_answer(thread, question, "a")
    with pytest.raises(RuntimeError, match="broken"):
        thread.run(None)
    thread.mend("ask answered")
    thread.run(None)
    assert thread.answers() == ["a"]


def test_a_row_for_a_checkpoint_that_is_past_does_nothing() -> None:
    thread = paused("asks_in_loop")
    (first,) = thread.open()
    at = place(thread, first)
    write_answer(thread, first, "a")
    thread.run(None)
    (second,) = thread.open()
    thread.put_writes(at.config, [("__resume__", ["b"])], at.task_id)
    thread.run(None)
    assert thread.open() == [second]
    assert thread.answers() == ["a"]
