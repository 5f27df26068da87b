"""interrupt_before and interrupt_after: which pause it is, and after whom."""

from dataclasses import replace
from typing import Any

import pytest
from langgraph.types import Command

from tests.contract.graphs import SHAPES, Shape, naming, sending
from tests.contract.recipes import ran_last, stops_here
from tests.contract.test_written_answers import paused
from tests.contract.threads import DURABILITIES, Thread


def after_every_node(name: str) -> Thread:
    return Thread(replace(SHAPES[name], before=None, after="*"))


def steps(thread: Thread, **options: Any) -> list[list[str] | None]:
    """What `ran_last` says at each pause, until the end."""
    found = []
    thread.start(**options)
    while thread.next():
        found.append(ran_last(thread))
        thread.run(None, **options)
    return found


def test_a_static_pause_leaves_nothing_but_its_checkpoint() -> None:
    for name in ("before", "after", "join", "sent"):
        thread = paused(name)
        assert thread.checkpoint().pending_writes == []
        assert [(task.error, task.interrupts) for task in thread.state().tasks] == [
            (None, ())
        ] * len(thread.shape.waits)


def test_before_any_pauses_before_each_node_and_after_any_not_after_the_last() -> None:
    assert pauses("before_any") == [["draft"], ["gate"], ["send"]]
    assert pauses("after_any") == [["gate"], ["send"]]


def test_before_and_after_between_the_same_nodes_are_one_pause() -> None:
    assert pauses("before_and_after") == [["gate"]]


def pauses(name: str) -> list[list[str]]:
    thread = paused(name)
    found = []
    while thread.next():
        found.append(thread.next())
        thread.run(None)
    return found


def test_a_pause_asked_for_at_run_time_looks_like_a_compiled_one() -> None:
    thread = Thread(replace(SHAPES["before"], before=None))
    thread.start(interrupt_before=["gate"])
    assert thread.next() == ["gate"]
    assert thread.checkpoint().pending_writes == []
    assert stops_here(thread.checkpoint().checkpoint)
    thread.run(None)
    assert thread.next() == []


def test_a_resume_at_a_static_pause_answers_the_question_behind_it() -> None:
    thread = paused("before_and_asks")
    thread.run(Command(resume="a"))
    assert (thread.next(), thread.answers()) == ([], ["a"])


def test_a_loop_pauses_again_at_a_checkpoint_of_its_own() -> None:
    thread = paused("loop")
    first = thread.state()
    thread.run(None)
    assert thread.next() == ["gate"]
    assert thread.state().config != first.config
    assert thread.state().tasks[0].id != first.tasks[0].id


def test_gates_side_by_side_are_one_pause_and_one_run_passes_both() -> None:
    assert pauses("gates_side_by_side") == [["finance", "legal"]]


def test_gates_in_turn_are_two_pauses() -> None:
    assert pauses("two_gates") == [["legal"], ["finance"]]


def test_sends_are_tasks_of_their_own_with_one_name() -> None:
    tasks = paused("sent").state().tasks
    assert [(task.name, task.path) for task in tasks] == [
        ("gate", ("__pregel_push", 0, False)),
        ("gate", ("__pregel_push", 1, False)),
    ]
    assert len({task.id for task in tasks}) == 2


def test_a_question_in_a_gate_comes_after_its_static_pause() -> None:
    thread = paused("before_and_asks")
    assert thread.open() == []
    thread.run(None)
    assert [one.value for one in thread.open()] == ["send it?"]
    assert thread.next() == ["ask"]


RUNS = {
    "before": [["draft"], ["gate"]],
    "join": [["left", "right"], ["gate"]],
    "deferred": [["left", "right"], ["far"]],
    "goto": [["draft"], ["gate"]],
    "loop": [["draft"], ["gate"], ["draft"]],
    "gates_side_by_side": [["finance", "legal"]],
    "sent": [["draft"], ["gate", "gate"]],
}


@pytest.mark.parametrize("durability", ["sync", "async"])
@pytest.mark.parametrize("name", RUNS)
def test_the_checkpoint_before_says_who_ran_last(name: str, durability: Any) -> None:
    assert steps(after_every_node(name), durability=durability) == RUNS[name]


@pytest.mark.parametrize("name", [name for name in RUNS if name != "sent"])
def test_with_exit_the_versions_seen_say_who_ran_last(name: str) -> None:
    assert steps(after_every_node(name), durability="exit") == RUNS[name]


def test_with_exit_a_first_pause_has_no_checkpoint_before_it() -> None:
    thread = paused("after", durability="exit")
    assert thread.state().parent_config is None
    assert len(thread.tuples()) == 1
    assert ran_last(thread) == ["draft"]


def test_with_exit_nobody_says_that_sends_ran_last() -> None:
    thread = Thread(Shape(lambda: sending(naming("gate")), [], after=["gate"]))
    thread.start(durability="exit")
    assert thread.next() == ["send"]
    assert ran_last(thread) is None


def test_an_update_does_not_hide_who_ran_last() -> None:
    thread = paused("after")
    thread.update({"draft": "edited"})
    thread.update({"draft": "edited again"})
    assert ran_last(thread) == ["draft"]


def test_a_pause_is_passed_only_in_the_checkpoints_that_follow() -> None:
    thread = paused("two_gates")
    assert stops_here(thread.checkpoint().checkpoint)
    thread.break_("legal")
    with pytest.raises(RuntimeError, match="broken"):
        thread.run(None)
    assert stops_here(thread.checkpoint().checkpoint)
    assert thread.checkpoint().checkpoint["versions_seen"].get("__interrupt__") is None
    thread.mend("legal")
    thread.run(None)
    assert thread.checkpoint().checkpoint["versions_seen"]["__interrupt__"]
    assert stops_here(thread.checkpoint().checkpoint)


@pytest.mark.parametrize("durability", DURABILITIES)
def test_what_the_tables_hold_at_a_pause(durability: Any) -> None:
    thread = paused("asks", durability=durability)
    assert len(thread.tuples()) == (1 if durability == "exit" else 3)
    assert [channel for _, channel, _ in thread.checkpoint().pending_writes or []] == [
        "__interrupt__"
    ]
    earlier = [write for it in thread.tuples()[1:] for write in it.pending_writes or []]
    assert bool(earlier) == (durability != "exit")


def test_a_node_that_ran_before_the_gate_is_never_run_again() -> None:
    for name in ("before", "after", "goto", "routed"):
        thread = paused(name)
        thread.run(None)
        assert thread.ran("draft") == 1


def test_a_step_is_not_a_pause() -> None:
    """Where a process died between two nodes the tables look as after a static pause."""
    thread = Thread(Shape(lambda: SHAPES["before"].build(), []))
    thread.break_("gate")
    with pytest.raises(RuntimeError, match="broken"):
        thread.start()
    thread.sql("DELETE FROM checkpoint_writes WHERE thread_id = %s AND idx < 0", thread.id)
    dead, waits = thread.state(), paused("before").state()
    assert dead.next == waits.next == ("gate",)
    assert dead.interrupts == waits.interrupts == ()
    assert dead.tasks[0].error is waits.tasks[0].error is None
