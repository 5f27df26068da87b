"""A machine whose clock is off loses no edit, and hides no turn of the agent's."""

import asyncio
import contextvars
import logging
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from langgraph.checkpoint.base import id as langgraphs

from approvals import actions, ids, run_actions
from approvals.audit import Actor
from approvals.models import Decision, Review
from approvals.registry import registry
from approvals.savers import joined
from approvals.threads import head
from tests.conftest import capture_all, effects, form_of, pause, resume, waiting

pytestmark = pytest.mark.usefixtures("clean")
FIVE_MINUTES = 300
BOTH_WAYS = pytest.mark.parametrize("off", [-FIVE_MINUTES, FIVE_MINUTES], ids=["behind", "ahead"])


@pytest.fixture(autouse=True)
def a_line_of_its_own() -> None:
    """Each test reads and writes as a request of its own would."""
    ids._line.set(ids._Line())


def on_a_machine(off: float, work: Callable[..., Any], *args: Any, asked: bool = True) -> Any:
    """Does the work as a process would whose clock is `off` seconds ahead; `asked` is False where
    the clock was set wrong after that process last asked the database."""
    real = time.time_ns
    with pytest.MonkeyPatch.context() as machine:
        machine.setattr(time, "time_ns", lambda: real() + int(off * 1e9))
        machine.setattr(ids, "_clock", None if asked else _wrong_since(off))
        machine.setattr(ids, "_told", 0)
        machine.setattr(ids._process, "last", 0)
        machine.setattr(langgraphs, "_last_v6_timestamp", None)
        return contextvars.Context().run(work, *args)


def _wrong_since(off: float) -> ids._Clock:
    return ids._Clock(time.time_ns() + int(off * 1e9), time.monotonic_ns())


def time_of(checkpoint_id: str) -> float:
    """Seconds since 1970."""
    return (ids._steps(checkpoint_id) - ids.GREGORIAN) / 1e7


def decided(as_: Any, review: Review, text: str) -> Decision:
    answer = as_("rita").post(f"/reviews/{review.pk}/decide", form_of(review, text))
    assert answer.status_code == 302, answer.content.decode()
    return Decision.objects.select_related("review").get(review=review)


def a_turn(thread_id: str) -> None:
    """The agent's own next turn, from a program whose clock is right and which knows no ids."""
    graph = registry().graphs["scripted"]
    place: Any = {"configurable": {"thread_id": thread_id}, "metadata": {"graph_id": "scripted"}}
    given = {"agent_response": "The next draft", "log": ["asked again"]}
    with pytest.MonkeyPatch.context() as program:
        for module in (ids.base, ids._checkpoint):
            program.setattr(module, "uuid6", ids._langgraphs_uuid6)
        program.setattr(langgraphs, "_last_v6_timestamp", None)
        asyncio.run(joined(graph).ainvoke(given, place))


# Decisions


@BOTH_WAYS
@pytest.mark.parametrize("asked", [True, False], ids=["known", "not known yet"])
def test_what_was_decided_is_what_a_worker_with_a_wrong_clock_sends(as_, off, asked):
    review = waiting("scripted")
    decision = decided(as_, review, "What Rita wrote")
    on_a_machine(off, resume, decision, asked=asked)
    decision.refresh_from_db()
    assert decision.state == "finished"
    assert effects(review.thread_id) == [(str(decision.pk), "What Rita wrote")]
    state = registry().graphs["scripted"]
    values = joined(state).get_state({"configurable": {"thread_id": review.thread_id}}).values
    assert values["agent_response"] == "What Rita wrote"


@BOTH_WAYS
def test_a_web_process_with_a_wrong_clock_takes_decisions_as_any_other(as_, off):
    review = waiting("scripted")
    decision = on_a_machine(off, decided, as_, review, "What Rita wrote")
    resume(decision)
    assert effects(review.thread_id) == [(str(decision.pk), "What Rita wrote")]


@BOTH_WAYS
def test_the_agents_next_turn_is_seen_at_once(as_, off):
    review = waiting("scripted")
    decision = decided(as_, review, "What Rita wrote")
    on_a_machine(off, resume, decision)
    ours = head(review.thread_id)
    contextvars.Context().run(a_turn, review.thread_id)
    assert head(review.thread_id) > ours
    capture_all()
    again = Review.objects.get(thread_id=review.thread_id, status="waiting")
    assert again.values["agent_response"] == "The next draft"


# What admins do


@BOTH_WAYS
def test_a_run_that_is_run_again_stands_where_the_admin_put_it(as_, cast, off):
    review = waiting("scripted")
    graph = joined(registry().graphs["scripted"])
    place: Any = {"configurable": {"thread_id": review.thread_id}}
    drafted = next(one for one in graph.get_state_history(place) if one.next == ("draft",))
    at = drafted.config["configurable"]["checkpoint_id"]
    again = (run_actions.run_again, Actor(cast.mara), review.pk, at, uuid.uuid4())
    made = on_a_machine(off, *again)
    assert head(review.thread_id) == made.review.checkpoint_id
    assert graph.get_state(place).next == ("draft",)
    assert actions.stands(made.review)


# The ids themselves


def test_an_agent_that_is_a_year_ahead_costs_its_own_threads_alone(as_):
    review = waiting("scripted")
    year = 365 * 86400
    ahead = on_a_machine(year, pause, "scripted", asked=False)
    assert time_of(head(ahead)) > time.time() + year - 60

    def read_and_write() -> str:
        ids.after(head(ahead))
        return str(ids.uuid6())

    assert contextvars.Context().run(read_and_write) > head(ahead)
    resume(decided(as_, review, "What Rita wrote"))
    assert abs(time_of(head(review.thread_id)) - time.time()) < 5


def test_ids_of_one_line_of_work_ascend_whatever_the_clock_does():
    made = []

    def make() -> None:
        ids.after(str(ids.uuid6()))
        for off in (0, 400, -400, 0):
            ids._clock = _wrong_since(off)
            made.append(str(ids.uuid6(clock_seq=-2)))

    on_a_machine(0, make)
    assert made == sorted(set(made))


def test_threads_that_share_a_line_never_make_the_same_time_twice():
    made: list[int] = []
    first = contextvars.Context()
    first.run(ids.after, str(ids.uuid6()))

    def make() -> None:
        made.extend(ids._steps(str(ids.uuid6())) for _ in range(500))

    threads = [threading.Thread(target=first.copy().run, args=(make,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 2000


@pytest.mark.parametrize(
    "foreign",
    [
        "1",
        "",
        "not-an-id",
        str(uuid.UUID(int=7, version=4)),
        "ffffffff-ffff-6fff-bfff-ffffffffffff",
    ],
)
def test_an_id_that_says_no_time_is_passed_over(foreign):
    def make() -> str:
        ids.after(foreign)
        return str(ids.uuid6())

    assert abs(time_of(contextvars.Context().run(make)) - time.time()) < 5


# The clock


def test_a_clock_that_is_off_is_told_once_and_told_again_when_it_is_right(caplog):
    caplog.set_level(logging.WARNING, "approvals.ids")

    def a_day() -> None:
        real = time.time_ns
        for off in (-FIVE_MINUTES, -FIVE_MINUTES, 0, 0, 7):
            with pytest.MonkeyPatch.context() as clock:
                clock.setattr(time, "time_ns", lambda off=off: real() + off * 1_000_000_000)
                clock.setattr(ids, "_clock", None)
                ids.keep_time()

    on_a_machine(0, a_day)
    said = [record.getMessage() for record in caplog.records]
    assert [line.partition(";")[0] for line in said] == [
        "This machine's clock is 300.0 s behind the database's",
        "This machine's clock agrees with the database's again.",
        "This machine's clock is 7.0 s ahead of the database's",
    ]


def test_a_clock_that_is_a_little_off_is_left_as_it_is(caplog):
    def make() -> str:
        ids.keep_time()
        return str(ids.uuid6())

    made = on_a_machine(0.3, make)
    assert time_of(made) > time.time() + 0.2
    assert caplog.records == []


def test_a_clock_that_is_set_between_two_looks_changes_no_id():
    def make() -> str:
        ids.keep_time()
        real = time.time_ns
        with pytest.MonkeyPatch.context() as clock:
            clock.setattr(time, "time_ns", lambda: real() + 400 * 1_000_000_000)
            ids.keep_time()
            return str(ids.uuid6())

    assert abs(time_of(on_a_machine(0, make)) - time.time()) < 1


def test_the_database_is_asked_once_a_minute(django_assert_num_queries):
    def ask() -> None:
        with django_assert_num_queries(3):
            ids.keep_time()
        with django_assert_num_queries(0):
            ids.keep_time()
        ids._clock = ids._Clock(ids._clock.then, ids._clock.at - int(ids.AGAIN_AFTER * 1e9))
        with django_assert_num_queries(3):
            ids.keep_time()

    on_a_machine(0, ask)


@BOTH_WAYS
def test_now_is_the_databases_time(off):
    def ask() -> float:
        ids.keep_time()
        return ids._now() / 1e9

    assert abs(on_a_machine(off, ask) - time.time()) < 1
