"""Writing into a paused thread: what comes next, and what is lost."""

import asyncio
from typing import Any

import pytest
from django.db import transaction
from langgraph.errors import InvalidUpdateError
from langgraph.types import Command, Send

from approvals.savers import JoiningSaver, raw_connection, run_here
from tests.contract.graphs import SHAPES
from tests.contract.recipes import write_answer
from tests.contract.test_written_answers import paused
from tests.contract.threads import NULL_TASK, Thread

KEPT = ["before", "after", "deferred", "loop", "two_gates", "sent", "before_and_asks"]
STATIC = [name for name, shape in SHAPES.items() if shape.waits and not shape.asks]
EDIT = {"draft": "edited", "approved": True}


@pytest.mark.parametrize("name", KEPT)
def test_an_update_keeps_what_comes_next(name: str) -> None:
    thread = paused(name)
    thread.update({"draft": "edited"})
    assert thread.next() == thread.shape.waits
    assert thread.state().values["draft"] == "edited"


def test_an_update_after_goto_drops_the_gate() -> None:
    thread = paused("goto")
    thread.update({"draft": "edited"})
    assert thread.next() == []
    thread.run(None)
    assert thread.ran("gate") == 0


def test_an_update_asks_the_edge_again() -> None:
    thread = paused("routed")
    thread.update({"approved": True})
    assert thread.next() == ["send"]


@pytest.mark.parametrize("name", ["join", "gates_side_by_side", "gate_beside_another"])
def test_after_parallel_nodes_an_update_must_say_as_whom(name: str) -> None:
    thread = paused(name)
    if name == "join":
        with pytest.raises(InvalidUpdateError, match="Ambiguous"):
            thread.update(EDIT)
    else:
        thread.update(EDIT)
        assert thread.next() == thread.shape.waits


@pytest.mark.parametrize("name", ["goto", "routed"])
def test_a_goto_as_a_node_that_leads_nowhere_keeps_the_gate(name: str) -> None:
    thread = paused(name)
    thread.update(Command(update=EDIT, goto="gate"), as_node="send")
    assert thread.next() == ["gate"]
    thread.run(None)
    assert (thread.ran("gate"), thread.ran("send")) == (1, 1)


def test_as_the_gate_itself_skips_it() -> None:
    thread = paused("before")
    thread.update({"draft": "edited"}, as_node="gate")
    assert thread.next() == ["send"]
    thread.run(None)
    assert thread.ran("gate") == 0


def test_an_update_does_not_pause_again() -> None:
    thread = paused("before")
    thread.update({"draft": "edited"})
    thread.run(None)
    assert thread.next() == []


def test_a_stale_update_is_accepted_and_becomes_the_head() -> None:
    thread = paused("before")
    pause = thread.state().config
    thread.run(None)
    thread.update({"draft": "late"}, config=pause)
    assert thread.next() == ["gate"]


def test_five_updates_at_once_make_five_siblings() -> None:
    thread = paused("before")
    pause = thread.state().config

    async def update(graph: Any) -> None:
        calls = [graph.aupdate_state(pause, {"draft": str(n)}) for n in range(5)]
        await asyncio.gather(*calls)

    thread.with_graph(update)
    parents = [it.parent_config for it in thread.tuples() if it.metadata["source"] == "update"]
    assert [parent and parent["configurable"]["checkpoint_id"] for parent in parents] == [
        pause["configurable"]["checkpoint_id"]
    ] * 5


def test_an_update_erases_the_open_questions() -> None:
    thread = paused("asks")
    (before,) = thread.open()
    thread.update({"draft": "edited"})
    assert (thread.open(), thread.next()) == ([], ["ask"])
    thread.run(None)
    (after,) = thread.open()
    assert after.id != before.id


def test_a_resume_with_an_update_keeps_the_question() -> None:
    thread = paused("asks")
    (question,) = thread.open()
    thread.run(Command(resume={question.id: "yes"}, update={"draft": "edited"}))
    assert thread.answers() == ["yes"]
    assert thread.state().values["draft"] == "edited"


# Values as rows of the null task: what Command(update=…) leaves at the paused checkpoint


def write_values(thread: Thread, values: dict[str, Any], ns: str = "") -> None:
    thread.put_writes(thread.checkpoint(ns).config, list(values.items()), NULL_TASK)


@pytest.mark.parametrize("name", STATIC)
def test_values_as_rows_keep_what_comes_next_whatever_led_there(name: str) -> None:
    thread = paused(name)
    write_values(thread, {**EDIT, "log": ["edit"]})
    assert thread.next() == thread.shape.waits
    assert thread.state().values["draft"] == "edited"
    thread.to_the_end()
    assert thread.state().values["log"].count("edit") == 1


def test_values_as_rows_leave_the_questions_open() -> None:
    thread = paused("asks_side_by_side")
    before = thread.open()
    write_values(thread, EDIT)
    assert thread.open() == before
    write_answer(thread, before[0], "yes")
    thread.run(None)
    assert thread.open() == before[1:]
    assert thread.state().values["draft"] == "edited"


def test_values_as_rows_reach_a_node_that_was_sent_nothing_of_them() -> None:
    thread = paused("sent")
    write_values(thread, EDIT)
    thread.run(None)
    assert thread.log() == thread.shape.does


def test_values_as_rows_count_once_through_a_reducer_even_if_the_run_fails() -> None:
    thread = paused("before")
    write_values(thread, {"log": ["edit"]})
    thread.break_("gate")
    with pytest.raises(RuntimeError, match="broken"):
        thread.run(None)
    thread.mend("gate")
    thread.run(None)
    assert thread.log() == ["draft", "edit", "gate", "send"]


def test_a_second_set_of_rows_is_lost_without_a_word() -> None:
    """Rows of ordinary channels are kept by position, and the first one there stays."""
    thread = paused("before")
    write_values(thread, {"draft": "first"})
    write_values(thread, {"draft": "second"})
    assert thread.state().values["draft"] == "first"


def test_more_rows_go_behind_those_that_are_there() -> None:
    thread = paused("before")
    write_values(thread, {"amount": 5})
    there = [(c, v) for t, c, v in thread.checkpoint().pending_writes or [] if t == NULL_TASK]
    thread.put_writes(thread.checkpoint().config, [*there, ("draft", "edited")], NULL_TASK)
    thread.run(None)
    assert thread.state().values["amount"] == 5
    assert thread.state().values["draft"] == "edited"


def test_two_rows_for_one_plain_field_make_the_thread_unreadable_until_one_is_deleted() -> None:
    thread = paused("before")
    thread.put_writes(thread.checkpoint().config, [("draft", "one"), ("draft", "two")], NULL_TASK)
    with pytest.raises(InvalidUpdateError, match="only one value"):
        thread.state()
    with pytest.raises(InvalidUpdateError, match="only one value"):
        thread.run(None)
    thread.sql(
        "DELETE FROM checkpoint_writes WHERE thread_id = %s AND task_id = %s AND idx = 0",
        thread.id,
        NULL_TASK,
    )
    thread.run(None)
    assert thread.state().values["draft"] == "two"


def test_a_row_for_a_field_that_the_graph_does_not_have_is_passed_over() -> None:
    thread = paused("before")
    write_values(thread, {"unheard_of": 1})
    thread.run(None)
    assert "unheard_of" not in thread.state().values


def test_a_row_can_route_as_goto_does() -> None:
    thread = paused("before")
    write_values(thread, {"branch:to:send": None})
    assert thread.next() == ["gate"]
    thread.run(None)
    assert (thread.ran("gate"), thread.ran("send")) == (1, 2)


def test_an_update_forgets_values_that_were_rows() -> None:
    thread = paused("before")
    write_values(thread, {"amount": 5})
    thread.update({"draft": "edited"})
    assert "amount" not in thread.state().values


# The end of a thread, and copies


@pytest.mark.parametrize("name", SHAPES)
def test_as_end_nothing_comes_next(name: str) -> None:
    thread = paused(name)
    before = sum(map(thread.ran, ("gate", "ask", "look", "send")))
    thread.update(None, as_node="__end__")
    thread.run(None)
    assert (thread.next(), thread.open()) == ([], [])
    assert sum(map(thread.ran, ("gate", "ask", "look", "send"))) == before


def test_as_end_takes_no_values() -> None:
    thread = paused("before")
    with pytest.raises(InvalidUpdateError, match="__end__ does not exist"):
        thread.update({"draft": "edited"}, as_node="__end__")


def test_as_end_keeps_values_that_were_rows_and_what_had_finished() -> None:
    thread = paused("asks_beside_another")
    write_values(thread, {"draft": "edited"})
    thread.update(None, as_node="__end__")
    assert thread.state().values["draft"] == "edited"
    assert thread.log() == ["other"]


def test_as_end_in_a_subgraph_ends_only_that() -> None:
    thread = paused("subgraph_before")
    ns = thread.namespaces()[-1]
    inner: Any = {"configurable": {"thread_id": thread.id, "checkpoint_ns": ns}}
    thread.update(None, as_node="__end__", config=inner)
    assert thread.next() == ["sub"]
    thread.run(None)
    assert thread.log() == ["draft", "look", "send"]


@pytest.mark.parametrize("name", [name for name in SHAPES if name != "asks_beside_another"])
def test_a_copy_is_a_sibling_where_the_same_comes_next(name: str) -> None:
    thread = paused(name)
    original = thread.state()
    thread.update(None, as_node="__copy__")
    copy = thread.state()
    assert sorted(copy.next) == thread.shape.waits
    assert copy.parent_config == original.parent_config
    assert (copy.metadata or {})["source"] == "fork"
    assert copy.interrupts == ()


def test_a_copy_forgets_what_had_finished_beside_a_question() -> None:
    thread = paused("asks_beside_another")
    thread.update(None, as_node="__copy__")
    assert thread.next() == ["ask", "other"]


def test_a_copy_of_an_old_checkpoint_forks_the_thread_there() -> None:
    thread = paused("sent")
    pause = thread.state().config
    thread.run(None)
    thread.update(None, as_node="__copy__", config=pause)
    assert thread.next() == ["gate", "gate"]
    thread.run(None)
    assert thread.log() == thread.shape.does
    assert (thread.ran("draft"), thread.ran("gate")) == (1, 4)


def test_a_copy_asks_its_question_anew() -> None:
    thread = paused("asks")
    (before,) = thread.open()
    thread.update(None, as_node="__copy__")
    thread.run(None)
    (after,) = thread.open()
    assert before.id != after.id


@pytest.mark.parametrize("as_node", ["__copy__", None])
def test_a_new_checkpoint_above_a_subgraph_starts_that_over(as_node: str | None) -> None:
    thread = paused("subgraph_before")
    thread.update(None if as_node else {"draft": "edited"}, as_node=as_node)
    assert thread.next() == ["sub"]
    assert thread.state().tasks[0].state.next == ()  # type: ignore[union-attr]
    thread.run(None)
    assert thread.ran("look") == 2


# Sends


def sends(thread: Thread) -> list[Any]:
    return list(thread.checkpoint().checkpoint["channel_values"]["__pregel_tasks"])


NEW = [Send("gate", {"draft": "a2"}), Send("gate", {"draft": "b2"})]
OLD = [Send("gate", {"draft": "a"}), Send("gate", {"draft": "b"})]


def test_an_update_sends_again_what_the_edge_says() -> None:
    thread = paused("sent")
    thread.update({"draft": "edited"})
    assert sends(thread) == OLD


def test_a_goto_as_a_node_that_leads_nowhere_replaces_the_sends() -> None:
    thread = paused("sent")
    thread.update(Command(update={"approved": True}, goto=NEW), as_node="send")
    assert sends(thread) == NEW
    thread.run(None)
    assert thread.log() == ["draft", "gate a2", "gate b2", "send"]


@pytest.mark.parametrize("as_node", ["draft", None])
def test_a_goto_as_the_node_that_sent_sends_twice(as_node: str | None) -> None:
    thread = paused("sent")
    thread.update(Command(goto=NEW), as_node=as_node)
    assert sends(thread) == [*NEW, *OLD]


# In a transaction of Django's


def test_an_update_and_its_rows_are_undone_with_the_transaction(clean: None) -> None:
    thread = paused("before")
    count = len(thread.tuples())
    with transaction.atomic():
        saver = JoiningSaver(raw_connection())
        graph = thread.compiled.copy({"checkpointer": saver})
        saver.put_writes(thread.checkpoint().config, [("amount", 5)], NULL_TASK)
        run_here(lambda: graph.aupdate_state(thread.config, {"draft": "edited"}))
        transaction.set_rollback(True)
    assert len(thread.tuples()) == count
    assert "amount" not in thread.state().values


def test_an_answers_row_commits_with_the_transaction(clean: None) -> None:
    thread = paused("asks")
    saved = thread.checkpoint()
    (task,) = thread.state().tasks
    with transaction.atomic():
        saver = JoiningSaver(raw_connection())
        saver.put_writes(saved.config, [("__resume__", ["yes"])], task.id)
    thread.run(None)
    assert thread.answers() == ["yes"]
