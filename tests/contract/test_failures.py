"""A task that failed and one that asks, and how to tell which came last."""

from typing import Any

import pytest
from pydantic import ValidationError

from tests.contract.recipes import newer, place, still_open, write_answer
from tests.contract.test_written_answers import paused
from tests.contract.threads import Thread


def fails(call: Any) -> None:
    with pytest.raises(RuntimeError, match="is broken"):
        call()


def test_a_run_that_failed_in_its_gate_shows_the_error_there() -> None:
    thread = paused("before")
    thread.break_("gate")
    fails(lambda: thread.run(None))
    (task,) = thread.state().tasks
    assert (task.name, task.interrupts) == ("gate", ())
    assert "gate is broken" in str(task.error)
    assert thread.next() == ["gate"]


def test_a_failed_gate_is_run_again_without_another_pause() -> None:
    thread = paused("before")
    thread.break_("gate")
    fails(lambda: thread.run(None))
    thread.mend("gate")
    thread.run(None)
    assert thread.next() == []
    assert (thread.ran("gate"), thread.ran("draft")) == (2, 1)


def test_a_sibling_that_finished_is_not_run_again() -> None:
    thread = paused("gate_beside_another")
    thread.break_("gate")
    fails(lambda: thread.run(None))
    assert {task.name: task.result for task in thread.state().tasks} == {
        "gate": None,
        "other": {"log": ["other"]},
    }
    assert thread.next() == ["gate"]
    thread.mend("gate")
    thread.run(None)
    assert thread.ran("other") == 1


def test_a_question_stays_open_beside_a_sibling_that_failed() -> None:
    thread = Thread("asks_beside_another")
    thread.break_("other")
    fails(thread.start)
    by_name = {task.name: task for task in thread.state().tasks}
    assert [one.value for one in by_name["ask"].interrupts] == ["send it?"]
    assert by_name["ask"].error is None
    assert "other is broken" in str(by_name["other"].error)


def test_failed_after_it_was_answered_shows_both_and_the_question_as_open() -> None:
    thread = paused("asks")
    (question,) = thread.open()
    thread.break_("ask answered")
    fails(lambda: thread.answer("yes"))
    (task,) = thread.state().tasks
    assert "broken" in str(task.error)
    assert task.interrupts == (question,)
    assert newer(thread, task.id) == "__error__"
    assert not still_open(place(thread, question), "ask", question)


def test_failed_and_then_asked_keeps_the_old_error() -> None:
    thread = Thread("asks")
    thread.break_("ask")
    fails(thread.start)
    thread.mend("ask")
    thread.run(None)
    (task,) = thread.state().tasks
    assert "broken" in str(task.error)
    assert [one.value for one in task.interrupts] == ["send it?"]
    assert newer(thread, task.id) == "__interrupt__"
    thread.break_("ask")
    fails(lambda: thread.run(None))
    assert newer(thread, task.id) == "__error__"


def test_failed_and_then_asked_is_answered_as_ever() -> None:
    thread = Thread("asks")
    thread.break_("ask")
    fails(thread.start)
    thread.mend("ask")
    thread.run(None)
    write_answer(thread, thread.open()[0], "yes")
    thread.run(None)
    assert (thread.next(), thread.answers()) == ([], ["yes"])


INSIDE_AND_OUT = [
    "asks_in_turn",
    "asks_in_subgraph",
    "asks_deep",
    "asks_in_called",
    "asks_in_called_twice",
    "asks_in_keeping_subgraph",
]


def test_a_question_is_open_until_its_task_has_its_answer() -> None:
    for name in INSIDE_AND_OUT:
        thread = paused(name)
        while asked := thread.open():
            assert still_open(place(thread, asked[0]), "ask", asked[0])
            write_answer(thread, asked[0], "yes")
            assert not still_open(place(thread, asked[0]), "ask", asked[0])
            thread.run(None)


def test_a_subgraphs_error_shows_at_its_caller_too() -> None:
    thread = Thread("asks_in_subgraph")
    thread.break_("ask")
    fails(thread.start)
    (task,) = thread.state().tasks
    assert "broken" in str(task.error)
    assert "broken" in str(task.state.tasks[0].error)  # type: ignore[union-attr]


def test_an_error_is_stored_as_text() -> None:
    thread = paused("before")
    thread.break_("gate")
    fails(lambda: thread.run(None))
    error: object = thread.state().tasks[0].error
    assert error == "RuntimeError('gate is broken')"


# Answers that a response_schema refuses


def test_a_command_that_the_model_refuses_saves_no_answer() -> None:
    thread = paused("asks_a_model")
    (question,) = thread.open()
    with pytest.raises(ValidationError):
        thread.answer({"amount": "much"})
    assert place(thread, question).answered == []
    assert "validation error" in str(thread.state().tasks[0].error)
    thread.answer({"approved": True, "amount": 1})
    assert thread.next() == []


def test_a_row_that_the_model_refuses_stays_until_it_is_replaced() -> None:
    thread = paused("asks_a_model")
    (question,) = thread.open()
    at = place(thread, question)
    write_answer(thread, question, {"amount": "much"})
    for _ in range(2):
        with pytest.raises(ValidationError):
            thread.run(None)
    thread.put_writes(at.config, [("__resume__", [{"approved": True, "amount": 1}])], at.task_id)
    thread.run(None)
    assert thread.next() == []


def test_a_row_can_be_taken_back_by_an_empty_list() -> None:
    thread = paused("asks_a_model")
    (question,) = thread.open()
    at = place(thread, question)
    write_answer(thread, question, "nonsense")
    thread.put_writes(at.config, [("__resume__", [])], at.task_id)
    thread.run(None)
    assert thread.open() == [question]


def test_a_dict_schema_checks_nothing() -> None:
    thread = paused("asks_a_schema")
    thread.answer("nonsense")
    assert thread.answers() == ["nonsense"]


def test_a_model_reaches_the_reader_as_json_schema() -> None:
    (question,) = paused("asks_a_model").open()
    schema: Any = question.response_schema
    assert schema["required"] == ["approved", "amount"]
    (question,) = paused("asks_a_schema").open()
    assert question.response_schema["required"] == ["approved"]  # type: ignore[index]
