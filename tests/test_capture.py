"""Checkpoints → reviews: whatever writes them, however often, nothing waits that does not."""

import asyncio
import json
import os
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from django.db import connections, transaction
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command
from psycopg.conninfo import make_conninfo

from approvals import capture
from approvals.clock import database_now
from approvals.install import TRIGGERS, after_migrate
from approvals.models import AuditEntry, Decision, Review, ThreadChange
from approvals.registry import registry
from approvals.savers import joined
from approvals.threads import note_all_threads
from graphs.support import compile_graph
from tests.children import ran
from tests.conftest import (
    _input,
    capture_all,
    direct,
    empty,
    eventually,
    form_of,
    pause,
    resume,
    test_url,
    waiting,
)
from tests.graphs import scripted
from tests.postgres import ROOT
from tests.shapes import decide, order_of, settle

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("clean")]


def outsider(url: str = "") -> PostgresSaver:
    """The saver of some other program: a connection of its own, nothing of ours."""
    conn = psycopg.connect(url or test_url(), autocommit=True, row_factory=psycopg.rows.dict_row)
    return PostgresSaver(conn)


def thread_config(thread_id: str, **metadata: str) -> dict:
    return {"configurable": {"thread_id": thread_id}, "metadata": metadata}


def waiting_threads() -> list[str]:
    return sorted(Review.objects.waiting().values_list("thread_id", flat=True))


def appears(graph_id: str = "support", **state: object) -> Review:
    """A review of a real paused run, captured by a worker or by us, whoever is first."""
    thread_id = pause(graph_id, **state)
    capture_all()
    return eventually(lambda: Review.objects.waiting().filter(thread_id=thread_id).first())


# Where the threads come from


def intake(folder: Path, conversation_id: str, url: str = "") -> None:
    """`python -m graphs.intake`: the agent's own program, with one message that needs a person."""
    lines = (ROOT / "graphs" / "data" / "messages.jsonl").read_text("utf-8").splitlines()
    message = json.loads(next(line for line in lines if "Missed payment" in line))
    file = folder / "one.jsonl"
    file.write_text(json.dumps({**message, "conversation_id": conversation_id}))
    environment = {"PATH": os.environ["PATH"], "DATABASE_URL": url or test_url()}
    ended = ran(["graphs.intake", "--file", str(file)], environment)
    assert "1 wait for a person" in ended.stdout, ended.stderr


def test_a_run_of_a_plain_langgraph_program_appears_by_itself(processes, tmp_path):
    processes.worker()
    intake(tmp_path, "plain-1")
    review = eventually(lambda: Review.objects.waiting().first(), what="the review appears")
    assert (review.thread_id, review.graph, review.node) == ("plain-1", "support", "human_approval")
    assert review.title == "Missed payment this month"
    assert review.values["agent_response"]


def test_threads_that_were_there_before_us_appear():
    tables = dict.fromkeys(TRIGGERS, "checkpoints") | {"countersign_write": "checkpoint_writes"}
    try:
        for name, table in tables.items():
            direct(f"DROP TRIGGER {name} ON {table}")
        old = sorted(pause() for _ in range(2))
        assert not ThreadChange.objects.exists()  # or this test says nothing
    finally:
        after_migrate(sender=None)
    capture_all()
    assert waiting_threads() == old


def test_a_second_migrate_notes_nothing_again():
    waiting()
    after_migrate(sender=None)
    assert not ThreadChange.objects.exists()


def reconcile() -> str:
    ended = ran(["manage.py", "reconcile"], {**os.environ, "DATABASE_URL": test_url()})
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


EVIDENCE = ("thread_id", "checkpoint_id", "graph", "node", "title", "snapshot", "digest")


def test_reconcile_rebuilds_lost_reviews_with_the_same_evidence():
    for _ in range(3):
        waiting()
    before = list(Review.objects.order_by("thread_id").values_list(*EVIDENCE))
    empty(["approvals_review"])
    assert "3 reviews wait" in reconcile()
    assert list(Review.objects.order_by("thread_id").values_list(*EVIDENCE)) == before


def test_reconcile_takes_away_what_does_not_wait_any_more():
    review = waiting()
    direct("DELETE FROM checkpoints")
    direct("TRUNCATE approvals_threadchange")  # as if the note had been lost
    assert "0 reviews wait" in reconcile()
    review.refresh_from_db()
    assert review.status == Review.Status.SUPERSEDED


@pytest.fixture
def agent_url():
    """The URL of a role that knows LangGraph's tables and not ours."""
    name = f"agent_{uuid.uuid4().hex[:8]}"
    direct(f"CREATE ROLE {name} LOGIN PASSWORD 'agent'")
    direct(
        "GRANT SELECT, INSERT, UPDATE, DELETE ON checkpoints, checkpoint_writes, "
        f"checkpoint_blobs, checkpoint_migrations TO {name}"
    )
    yield make_conninfo(test_url(), user=name, password="agent")
    direct(f"DROP OWNED BY {name}")
    direct(f"DROP ROLE {name}")


def test_agents_need_no_rights_on_our_tables(agent_url):
    saver = outsider(agent_url)
    with saver.conn:
        for table in ("approvals_review", "approvals_threadchange", "approvals_decision"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                saver.conn.execute(f"SELECT * FROM {table}")
        state = {**_input("support", "narrow"), "subject": "From a role of its own"}
        compile_graph(saver).invoke(state, thread_config("narrow"))
        capture_all()
        assert waiting_threads() == ["narrow"]
        saver.delete_thread("narrow")
        capture_all()
        assert waiting_threads() == []


# What happens behind our back


def left(review: Review) -> str:
    """Why the review left the queue, as the page and the trail say it."""
    capture_all()
    review.refresh_from_db()
    assert review.status == Review.Status.SUPERSEDED
    entry = AuditEntry.objects.get(review=review, action=AuditEntry.Action.MOVED)
    assert entry.note == review.ended_because
    return review.ended_because


def test_a_thread_that_is_resumed_behind_our_back_leaves():
    review = waiting()
    with (saver := outsider()).conn:
        compile_graph(saver).invoke(None, thread_config(review.thread_id))
    assert "moved the thread on" in left(review)
    assert waiting_threads() == []


def test_a_thread_that_is_updated_behind_our_back_waits_with_its_new_text():
    review = waiting()
    with (saver := outsider()).conn:
        config = thread_config(review.thread_id)
        compile_graph(saver).update_state(config, {"agent_response": "Written by a cron job."})
    assert "moved the thread on" in left(review)
    new = Review.objects.waiting().get()
    assert new.thread_id == review.thread_id
    assert new.values["agent_response"] == "Written by a cron job."
    assert new.digest != review.digest


def test_a_thread_that_is_deleted_behind_our_back_leaves():
    review = waiting()
    with (saver := outsider()).conn:
        saver.delete_thread(review.thread_id)
    assert "deleted" in left(review)


def test_emptied_tables_empty_the_inbox():
    reviews = [waiting(), waiting()]
    direct("TRUNCATE checkpoints, checkpoint_blobs, checkpoint_writes")
    assert all("deleted" in left(review) for review in reviews)


def test_a_thread_that_comes_back_is_one_review_again():
    review = waiting()
    direct("CREATE TABLE kept AS SELECT * FROM checkpoints")
    try:
        direct("DELETE FROM checkpoints")
        left(review)
        direct("INSERT INTO checkpoints SELECT * FROM kept")
    finally:
        direct("DROP TABLE kept")
    capture_all()
    assert Review.objects.waiting().get() == review
    assert Review.objects.get().ended_because == ""


def test_a_checkpoint_that_is_rolled_back_leaves_nothing():
    with transaction.atomic():
        pause()
        transaction.set_rollback(True)
    assert capture.capture_batch() == 0
    assert not Review.objects.exists()


def test_a_run_that_finishes_by_itself_is_never_shown():
    pause("scripted", "quick")
    asyncio.run(_invoke_scripted("quick"))
    capture_all()
    assert not Review.objects.exists()


async def _invoke_scripted(thread_id: str, given: object = None, before: str = "") -> None:
    """Somebody else's program runs the scripted thread on; a pause is not paused at twice."""
    from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver

    async with AsyncPostgresSaver.from_conn_string(test_url()) as saver:
        compiled = scripted.builder.compile(saver, interrupt_before=[before or "human_approval"])
        await compiled.ainvoke(given, thread_config(thread_id, graph_id="scripted"))


# What is no pause


def test_a_failed_task_is_not_waiting():
    review = waiting("scripted", script={"sleep": "not a number"})
    with pytest.raises(TypeError):
        asyncio.run(_invoke_scripted(review.thread_id))
    # the head is the same checkpoint, next is still the approval node: only the task tells
    state = joined(registry().graphs["scripted"]).get_state(thread_config(review.thread_id))
    assert state.next == ("human_approval",)
    assert state.config["configurable"]["checkpoint_id"] == review.checkpoint_id
    capture_all()
    assert waiting_threads() == []


def test_a_thread_that_our_worker_is_resuming_is_not_shown_as_waiting(processes, as_):
    review = waiting("scripted", script={"sleep": 3.0})
    as_("rita").post(f"/reviews/{review.pk}/decide", form_of(review))
    processes.worker()
    decision = Decision.objects.get()
    looks = 0
    while not _refreshed(decision).ended_at:
        note_all_threads()
        capture_all()
        assert waiting_threads() == []
        looks += decision.state == Decision.State.APPLIED
    assert looks >= 3, "never looked while it ran"
    assert decision.state == Decision.State.FINISHED
    capture_all()
    assert Review.objects.count() == 1


def _refreshed(decision: Decision) -> Decision:
    decision.refresh_from_db()
    return decision


def test_a_run_that_pauses_again_is_a_review_of_its_own(as_):
    review = waiting("scripted", script={"rounds": 2})
    as_("rita").post(f"/reviews/{review.pk}/decide", form_of(review))
    resume(Decision.objects.get())
    capture_all()
    second = Review.objects.waiting().get()
    assert second.thread_id == review.thread_id
    assert second.pk != review.pk
    assert Decision.objects.get().state == Decision.State.PAUSED


# Trouble


@pytest.fixture
def poison() -> Iterator[str]:
    """A thread whose checkpoints LangGraph itself cannot make a state of, as it stands."""
    thread_id = pause(thread_id="a-poison")
    direct("CREATE TABLE kept AS SELECT * FROM checkpoints WHERE thread_id = %s", thread_id)
    broken = "UPDATE checkpoints SET checkpoint = checkpoint - 'versions_seen' WHERE thread_id = %s"
    direct(broken, thread_id)
    yield thread_id
    direct("DROP TABLE kept")


def mend(thread_id: str) -> None:
    direct(
        "UPDATE checkpoints c SET checkpoint = kept.checkpoint FROM kept "
        "WHERE c.checkpoint_id = kept.checkpoint_id AND c.thread_id = %s",
        thread_id,
    )


def test_a_thread_that_cannot_be_read_holds_up_no_other_and_is_tried_again(poison):
    sound = pause(thread_id="b-sound")
    capture_all()
    assert waiting_threads() == [sound]
    note = ThreadChange.objects.get()
    assert (note.thread_id, note.attempts) == (poison, 1)
    direct("ALTER TABLE checkpoints DISABLE TRIGGER USER")  # no note but the one that is there
    try:
        mend(poison)
    finally:
        direct("ALTER TABLE checkpoints ENABLE TRIGGER USER")
    eventually(capture.capture_batch, 5, "it is tried again by itself")
    assert waiting_threads() == [poison, sound]
    assert not ThreadChange.objects.exists()


def test_a_poisoned_thread_is_tried_ever_more_rarely_and_keeps_one_note(poison):
    pauses = []
    for _ in range(4):
        assert capture.capture_batch() == 1
        note = ThreadChange.objects.get()
        pauses.append(round((note.not_before - database_now()).total_seconds()))
        direct("UPDATE approvals_threadchange SET not_before = now()")
    assert pauses == [1, 2, 4, 8]


def test_a_poisoned_thread_is_taken_up_at_once_when_its_agent_writes_again(poison):
    capture_all()
    assert ThreadChange.objects.get().not_before > database_now()
    mend(poison)
    capture_all()
    assert waiting_threads() == [poison]


def test_a_thread_whose_values_cannot_be_decoded_waits_all_the_same(as_):
    thread_id = pause("scripted")
    direct("UPDATE checkpoint_blobs SET blob = '\\xc1' WHERE thread_id = %s", thread_id)
    capture_all()
    review = Review.objects.waiting().get(thread_id=thread_id)
    assert not ThreadChange.objects.exists()
    assert review.values["script"]["__type__"] == "undecodable"
    answer = as_("rita").post(f"/reviews/{review.pk}/decide", form_of(review, "anything"))
    assert answer.status_code == 422
    assert not Decision.objects.exists()


def test_text_that_postgres_cannot_store_holds_up_nothing():
    # LangGraph keeps it in a blob, where Postgres does not look at it
    thread = pause("scripted", script={"note": "N\x00L", "broken\x00key": float("nan")})
    other = pause("scripted")
    capture_all()
    assert waiting_threads() == sorted([thread, other])
    script = Review.objects.get(thread_id=thread).values["script"]
    assert script["note"] == "N\ufffdL"


def loops(number: int, until: threading.Event) -> list[threading.Thread]:
    """Capture loops as workers run them, each on a connection of its own."""

    def loop() -> None:
        try:
            while not until.is_set():
                capture_all()
                time.sleep(0.01)
        finally:
            connections.close_all()

    started = [threading.Thread(target=loop) for _ in range(number)]
    for thread in started:
        thread.start()
    return started


def test_two_capture_loops_over_a_hundred_threads_make_a_hundred_reviews():
    threads = [pause("scripted") for _ in range(100)]
    until = threading.Event()
    running = loops(2, until)
    for _ in range(3):  # the same threads over and over, while both work on them
        note_all_threads()
        time.sleep(0.1)
    eventually(lambda: not ThreadChange.objects.exists(), 60)
    until.set()
    for thread in running:
        thread.join()
    assert waiting_threads() == sorted(threads)
    assert AuditEntry.objects.filter(action=AuditEntry.Action.PAUSED).count() == 100


def test_a_slow_capture_does_not_bring_back_what_a_later_one_saw_end():
    thread_id = pause("scripted")
    with psycopg.connect(test_url()) as holder:
        holder.execute("LOCK TABLE approvals_review IN SHARE MODE")
        first = capture_in_thread()  # reads the pause, then waits with its insert
        eventually(lambda: len(waiting_for_locks()) == 1)
        asyncio.run(_invoke_scripted(thread_id))
        later = capture_in_thread()  # must not read before the first has written
        eventually(lambda: len(waiting_for_locks()) == 2 or not later.is_alive())
    first.join()
    later.join()
    assert waiting_threads() == []
    assert not ThreadChange.objects.exists()


def test_a_run_that_moves_while_it_is_read_is_shown_where_it_stopped():
    given, config = _input("scripted", "moves"), thread_config("moves", graph_id="scripted")
    asyncio.run(_invoke_scripted("moves", given, before="draft"))
    with psycopg.connect(test_url()) as holder:
        holder.execute("LOCK TABLE approvals_decision IN ACCESS EXCLUSIVE MODE")
        reader = capture_in_thread()  # has read the head, and waits to ask whether it is ours
        eventually(lambda: len(waiting_for_locks()) == 1)
        asyncio.run(_invoke_scripted("moves"))
    reader.join()
    capture_all()
    head = joined(registry().graphs["scripted"]).get_state(config)
    review = Review.objects.get()
    assert review.status == Review.Status.WAITING
    assert review.checkpoint_id == head.config["configurable"]["checkpoint_id"]
    assert review.checkpoint_id == review.snapshot["checkpoint_id"]
    assert AuditEntry.objects.filter(action=AuditEntry.Action.MOVED).count() == 0


def capture_in_thread() -> threading.Thread:
    def work() -> None:
        capture.capture_batch()
        connections.close_all()

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def waiting_for_locks() -> list[tuple]:
    return direct(
        "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
        "AND datname = current_database()"
    )


# Whose thread it is


def test_the_graph_id_in_the_metadata_decides():
    # every field of this state is one that both graphs have
    thread_id = _shared_thread(graph_id="scripted")
    assert Review.objects.get(thread_id=thread_id).graph == "scripted"


def test_without_a_graph_id_the_graph_that_has_the_fields_is_it():
    with (saver := outsider()).conn:
        compile_graph(saver).invoke(_input("support", "nameless"), thread_config("nameless"))
    capture_all()
    assert Review.objects.get().graph == "support"
    with (saver := outsider()).conn:
        compiled = scripted.builder.compile(saver, interrupt_before=["human_approval"])
        compiled.invoke({"title": "t", "amount": 3, "agent_response": "x"}, thread_config("other"))
    capture_all()
    assert Review.objects.get(thread_id="other").graph == "scripted"


def test_where_several_graphs_might_be_meant_it_is_the_default():
    assert registry().default_graph == "support"
    assert Review.objects.get(thread_id=_shared_thread()).graph == "support"


def _shared_thread(**metadata: str) -> str:
    """A thread that waits before human_approval, with fields that both graphs know."""
    builder = StateGraph(scripted.State)
    builder.add_node("human_approval", lambda state: {})
    builder.add_edge(START, "human_approval")
    builder.add_edge("human_approval", END)
    thread_id = f"shared-{uuid.uuid4().hex[:6]}"
    with (saver := outsider()).conn:
        compiled = builder.compile(saver, interrupt_before=["human_approval"])
        given = {"conversation_id": thread_id, "agent_response": "Dear customer"}
        compiled.invoke(given, thread_config(thread_id, **metadata))
    capture_all()
    return thread_id


def test_a_graph_that_nobody_registered_is_shown_to_admins_and_decided_by_nobody(as_):
    review = Review.objects.get(thread_id=_shared_thread(graph_id="elsewhere"))
    assert (review.graph, review.title) == ("", "Unknown graph: elsewhere")
    assert review.values["agent_response"] == "Dear customer"
    address = f"/reviews/{review.pk}/"
    assert as_("rita").get(address).status_code == 404
    assert "Unknown graph: elsewhere" in as_("mara").get(address).content.decode()
    form = {"digest": review.digest, "checkpoint": review.checkpoint_id, "key": str(uuid.uuid4())}
    assert as_("mara").post(f"{address}decide", form).status_code == 403
    assert not Decision.objects.exists()


# interrupt()

ASKING = """
import operator
from typing import Annotated, TypedDict
from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt

class State(TypedDict, total=False):
    agent_response: str
    log: Annotated[list, operator.add]

def ask(name):
    def node(state):
        return {"log": [f"{name}: {interrupt({'question': name})}"]}
    return node

builder = StateGraph(State)
for name in ("first", "second"):
    builder.add_node(name, ask(name))
    builder.add_edge(START, name)
    builder.add_edge(name, "human_approval")
builder.add_node("human_approval", lambda state: {})
builder.add_edge("human_approval", END)
"""


@pytest.fixture
def asking(settings, tmp_path):
    """A registered graph `asking`, which asks two questions at once with interrupt()."""
    (tmp_path / "asking_graph.py").write_text(ASKING)
    targets = {"graphs": {"asking": f"{tmp_path}/asking_graph.py:builder"}}
    (tmp_path / "langgraph.json").write_text(json.dumps(targets))
    (tmp_path / "reviews.toml").write_text(
        '[graphs.asking]\napproval_nodes = ["human_approval"]\n'
        'response = "agent_response"\ngroup = "scripted-reviewers"\n'
    )
    settings.LANGGRAPH_JSON = tmp_path / "langgraph.json"
    settings.REVIEWS_TOML = tmp_path / "reviews.toml"
    registry.cache_clear()
    with (saver := outsider()).conn:
        yield registry().graphs["asking"].compiled.copy({"checkpointer": saver})
    registry.cache_clear()


def test_a_question_asked_with_interrupt_is_shown_and_can_be_answered(asking, as_, cast):
    config = thread_config("asks", graph_id="asking")
    asking.invoke({"agent_response": "x"}, config)
    capture_all()
    review = Review.objects.waiting().filter(node="first").get()
    assert (review.kind, review.pause["question"]) == ("question", {"question": "first"})
    asked = {task["name"]: task["interrupts"] for task in review.snapshot["tasks"]}
    assert asked["first"] == [{"id": review.interrupt_id, "value": {"question": "first"}}]
    order = order_of(review, "Yes, she may.")
    decision = decide(cast.rita, review, order)
    Decision.objects.update(apply_after=database_now())
    settle(decision)
    assert (decision.state, decision.error) == (Decision.State.PAUSED, "")
    second = Review.objects.waiting().get()
    assert second.node == "second"
    asking.invoke(Command(resume={second.interrupt_id: "no"}), config)
    assert "first: Yes, she may." in asking.get_state(config).values["log"]


def test_a_form_of_a_static_pause_does_not_answer_a_question(asking, as_):
    asking.invoke({"agent_response": "x"}, thread_config("asks", graph_id="asking"))
    capture_all()
    review = Review.objects.waiting().filter(node="first").get()
    answer = as_("rita").post(f"/reviews/{review.pk}/decide", form_of(review))
    assert answer.status_code == 422
    assert not Decision.objects.exists()
    assert as_("stan").post(f"/reviews/{review.pk}/decide", form_of(review)).status_code == 404


def test_of_two_questions_the_answered_one_leaves_though_no_checkpoint_is_written(asking):
    config = thread_config("asks", graph_id="asking")
    asking.invoke({"agent_response": "x"}, config)
    capture_all()
    first = Review.objects.waiting().get(node="first")
    head = asking.get_state(config).config["configurable"]["checkpoint_id"]
    asking.invoke(Command(resume={first.interrupt_id: "yes"}), config)
    assert asking.get_state(config).config["configurable"]["checkpoint_id"] == head
    capture_all()
    assert [review.node for review in Review.objects.waiting()] == ["second"]


def test_a_static_pause_and_a_question_in_another_thread_do_not_mix(asking):
    config = thread_config("mixed", graph_id="asking")
    asking.invoke({"agent_response": "x"}, config)
    ids = {task.name: task.interrupts[0].id for task in asking.get_state(config).tasks}
    asking.invoke(Command(resume=dict.fromkeys(ids.values(), "yes")), config)
    capture_all()
    review = Review.objects.waiting().get()
    assert (review.node, review.interrupt_id) == ("human_approval", "")
