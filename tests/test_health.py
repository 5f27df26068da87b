"""/health: the process lives. /ready: it can do its work, or says why not."""

import datetime as dt
import json

import pytest
from django.db import connection
from django.test import Client
from procrastinate.contrib.django.models import ProcrastinateWorker

from approvals.clock import database_now
from approvals.registry import registry
from tests.conftest import direct, waiting
from tests.queries import counted_queries

pytestmark = pytest.mark.django_db


def ready() -> tuple[int, str]:
    """The status and the reasons, in one line."""
    answer = Client().get("/ready")
    assert answer["Content-Type"] == "application/json"
    return answer.status_code, "; ".join(json.loads(answer.content).get("reasons", []))


def worker(seconds_ago: float) -> None:
    """A worker whose heart beat that long ago, as Procrastinate itself records it."""
    at = database_now() - dt.timedelta(seconds=seconds_ago)
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO procrastinate_workers (last_heartbeat) VALUES (%s)", [at])


def run(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        assert cursor.rowcount != 0, "the statement changed nothing"


def test_health_answers_anyone_without_a_query():
    with counted_queries() as seen:
        answer = Client().get("/health")
    assert (answer.status_code, seen) == (200, [])
    assert json.loads(answer.content) == {"status": "ok"}


def test_health_answers_while_nothing_is_ready():
    worker(3600)
    assert Client().get("/health").status_code == 200
    assert ready()[0] == 503


def test_not_ready_without_a_worker_and_says_so():
    assert not ProcrastinateWorker.objects.exists()
    assert ready() == (503, "no worker was seen in the last 30 s: run manage.py worker")


def test_ready_with_a_worker_that_is_alive():
    worker(0)
    assert ready() == (200, "")


@pytest.mark.parametrize(("seconds_ago", "status"), [(28, 200), (31, 503)])
def test_a_worker_counts_for_thirty_seconds(seconds_ago, status):
    worker(seconds_ago)
    assert ready()[0] == status


def test_one_worker_alive_among_dead_ones_is_enough():
    for seconds_ago in (3600, 31, 1):
        worker(seconds_ago)
    assert ready() == (200, "")


@pytest.mark.parametrize(
    ("trigger", "table"),
    [
        ("countersign_put", "checkpoints"),
        ("countersign_gone", "checkpoints"),
        ("countersign_emptied", "checkpoints"),
        ("countersign_write", "checkpoint_writes"),
    ],
)
@pytest.mark.parametrize("how", ["DROP TRIGGER {0} ON {1}", "ALTER TABLE {1} DISABLE TRIGGER {0}"])
def test_not_ready_without_a_capture_trigger(how, trigger, table):
    worker(0)
    run(how.format(trigger, table))
    assert ready() == (503, f"capture triggers {trigger} are missing: run manage.py migrate")


def test_not_ready_with_a_migration_missing():
    worker(0)
    newest = "SELECT max(name) FROM django_migrations WHERE app = 'approvals'"
    run(f"DELETE FROM django_migrations WHERE app = 'approvals' AND name = ({newest})")
    assert ready() == (503, "migrations are missing: run manage.py migrate")


def test_not_ready_with_a_checkpointer_older_than_langgraph():
    worker(0)
    run("DELETE FROM checkpoint_migrations WHERE v = (SELECT max(v) FROM checkpoint_migrations)")
    status, reasons = ready()
    assert status == 503
    assert "the checkpointer's tables are older than this LangGraph" in reasons


def test_not_ready_without_the_checkpointers_tables():
    worker(0)
    run("ALTER TABLE checkpoint_migrations RENAME TO gone")
    assert ready()[0] == 503


@pytest.mark.usefixtures("clean")
def test_not_ready_with_an_index_that_was_cut_off():
    """As a lock timeout leaves it: there, and never used."""
    worker(0)
    waiting()
    with pytest.raises(Exception, match="could not create unique index"):
        direct("CREATE UNIQUE INDEX CONCURRENTLY cut_off ON checkpoints (checkpoint_ns)")
    try:
        assert ready() == (503, "invalid indexes cut_off: run manage.py migrate")
    finally:
        direct("DROP INDEX cut_off")
    assert ready() == (200, "")


def test_not_ready_with_a_graph_that_does_not_import(settings, tmp_path):
    worker(0)
    settings.LANGGRAPH_JSON = tmp_path / "langgraph.json"
    settings.LANGGRAPH_JSON.write_text('{"graphs": {"support": "no.such.module:graph"}}')
    registry.cache_clear()
    try:
        status, reasons = ready()
    finally:
        registry.cache_clear()
    assert status == 503
    assert "no.such.module" in reasons


def test_every_reason_is_said_at_once():
    run("DROP TRIGGER countersign_gone ON checkpoints")
    status, reasons = ready()
    assert status == 503
    assert "countersign_gone" in reasons
    assert "no worker was seen" in reasons
