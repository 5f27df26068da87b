"""What a resume answers, and what it does besides."""

import pytest
from langgraph.errors import UnknownInterruptError
from langgraph.types import Command

from tests.contract.recipes import write_answer
from tests.contract.test_written_answers import paused
from tests.contract.threads import NULL_TASK, Thread


def test_a_bare_resume_answers_whatever_is_open_now() -> None:
    thread = paused("asks_in_turn")
    thread.run(Command(resume="a"))
    thread.run(Command(resume="a"))
    assert [question.value for question in thread.open()] == ["three?"]


def test_a_bare_resume_is_refused_where_two_questions_are_open() -> None:
    with pytest.raises(RuntimeError, match="multiple pending interrupts"):
        paused("asks_side_by_side").run(Command(resume="a"))


def test_repeating_the_first_questions_id_answers_the_second() -> None:
    """The table says: resume by id, always. It is not enough: the first id stands for any."""
    thread = paused("asks_in_turn")
    (first,) = thread.open()
    thread.run(Command(resume={first.id: "a"}))
    thread.run(Command(resume={first.id: "a"}))
    assert [question.value for question in thread.open()] == ["three?"]


def test_repeating_a_later_questions_id_answers_nothing() -> None:
    thread = paused("asks_in_turn")
    thread.answer("a")
    (second,) = thread.open()
    thread.run(Command(resume={second.id: "b"}))
    (third,) = thread.open()
    thread.run(Command(resume={second.id: "b"}))
    assert thread.open() == [third]


def test_strict_resume_refuses_an_id_that_is_not_open() -> None:
    thread = paused("asks_in_turn")
    (first,) = thread.open()
    thread.run(Command(resume={first.id: "a"}))
    strict = {"configurable": {"thread_id": thread.id, "__pregel_strict_resume": True}}
    for resume in ({first.id: "a"}, {"f" * 32: "a"}, {}):
        with pytest.raises(UnknownInterruptError):
            thread.run(Command(resume=resume), strict)
    assert [question.value for question in thread.open()] == ["two?"]


def test_an_unknown_id_asks_again() -> None:
    thread = paused("asks")
    before = thread.open()
    thread.run(Command(resume={"f" * 32: "a"}))
    assert thread.open() == before
    assert thread.ran("ask") == 2


@pytest.mark.parametrize("given", [None, Command(resume={})], ids=["nothing", "an empty map"])
def test_no_answer_asks_again(given: Command | None) -> None:
    thread = paused("asks")
    before = thread.open()
    thread.run(given)
    assert thread.open() == before
    assert thread.ran("ask") == 2


def test_a_bare_none_crashes() -> None:
    with pytest.raises(UnboundLocalError):
        paused("asks").run(Command(resume=None))


def test_none_by_id_is_an_answer() -> None:
    thread = paused("asks")
    thread.answer(None)
    assert thread.answers() == [None]


def test_new_input_starts_a_paused_thread_over() -> None:
    thread = paused("asks")
    (before,) = thread.open()
    thread.start()
    (after,) = thread.open()
    assert before.id != after.id
    assert thread.ran("draft") == 2


def test_a_dict_is_a_map_only_if_every_key_is_an_id() -> None:
    thread = paused("asks")
    (question,) = thread.open()
    mixed = {question.id: "a", "note": "b"}
    thread.run(Command(resume=mixed))
    assert thread.answers() == [mixed]


def test_a_dict_that_looks_like_a_map_is_wrapped_by_the_questions_id() -> None:
    thread = paused("asks")
    thread.answer({"f" * 32: "a"})
    assert thread.answers() == [{"f" * 32: "a"}]


def test_an_old_checkpoint_id_runs_what_followed_once_more() -> None:
    thread = paused("before")
    pause = thread.state().config
    thread.run(None)
    thread.run(None, pause)
    assert (thread.ran("gate"), thread.ran("send")) == (2, 2)


def test_a_finished_thread_stays_finished() -> None:
    thread = paused("before")
    thread.run(None)
    thread.run(None)
    assert thread.ran("send") == 1


def test_answering_one_of_two_writes_no_checkpoint() -> None:
    thread = paused("asks_side_by_side")
    count = len(thread.tuples())
    one, other = thread.open()
    thread.run(Command(resume={one.id: "yes"}))
    assert len(thread.tuples()) == count
    assert thread.open() == [other]
    assert thread.next() == ["legal"]
    assert thread.answers() == ["yes"]


def test_an_answer_runs_the_other_questions_nodes_again_too() -> None:
    thread = paused("asks_side_by_side")
    thread.run(Command(resume={thread.open()[0].id: "yes"}))
    assert (thread.ran("finance"), thread.ran("legal")) == (2, 2)
    thread.answer("yes")
    assert (thread.ran("finance"), thread.ran("legal")) == (2, 3)


def test_answers_for_all_at_once() -> None:
    thread = paused("asks_in_sends")
    thread.run(Command(resume={one.id: one.value for one in thread.open()}))
    assert sorted(thread.answers()) == [["a", "send a?"], ["b", "send b?"]]


# A bare resume of another program


def test_a_bare_resume_leaves_its_answer_for_later_questions() -> None:
    """The third is answered with what somebody said to the first."""
    thread = paused("asks_in_turn")
    thread.run(Command(resume="a"))
    write_answer(thread, thread.open()[0], "b")
    thread.run(None)
    assert thread.next() == []
    assert thread.answers() == ["a", "b", "a"]


def test_after_a_bare_resume_even_nothing_answers() -> None:
    thread = paused("asks_in_turn")
    thread.run(Command(resume="a"))
    thread.run(None)
    assert [question.value for question in thread.open()] == ["three?"]


@pytest.mark.parametrize("name", ["asks_in_turn", "asks_in_subgraph", "asks_deep"])
@pytest.mark.parametrize("how", ["deleted", "set to None"])
def test_without_that_row_nothing_is_answered(name: str, how: str) -> None:
    thread = paused(name)
    thread.run(Command(resume="a"))
    (question,) = thread.open()
    clear(thread, how)
    thread.run(None)
    assert thread.open() == [question]


def clear(thread: Thread, how: str) -> None:
    if how == "deleted":
        thread.sql(
            "DELETE FROM checkpoint_writes WHERE thread_id = %s AND task_id = %s "
            "AND channel = '__resume__'",
            thread.id,
            NULL_TASK,
        )
    else:
        thread.put_writes(thread.checkpoint().config, [("__resume__", None)], NULL_TASK)


def test_a_resume_by_id_leaves_no_such_row() -> None:
    thread = paused("asks_in_turn")
    thread.answer("a")
    assert NULL_TASK not in [task for task, _, _ in thread.checkpoint().pending_writes or []]
