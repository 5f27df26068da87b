"""`manage.py migrate`: once per deploy, however many containers start at the same time."""

import os
import re
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from langgraph.checkpoint.postgres import PostgresSaver
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from approvals import install
from tests.children import ran
from tests.conftest import direct, test_url

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(scope="module")
def server(django_db_setup: None, django_db_blocker) -> str:
    with django_db_blocker.unblock():
        return test_url()


def url(server: str, name: str) -> str:
    """The URL of another database of the same server."""
    known = {**conninfo_to_dict(server), "dbname": name}
    host = known.pop("host")
    return f"postgresql:///{known.pop('dbname')}?host={host}" + "".join(
        f"&{key}={value}" for key, value in known.items()
    )


@pytest.fixture(scope="module")
def fresh(server: str) -> Iterator[str]:
    """The URL of a newly created, empty database."""
    name = f"fresh_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(server, autocommit=True) as conn:
        conn.execute(f"CREATE DATABASE {name}")
        yield url(server, name)
        conn.execute(f"DROP DATABASE {name} WITH (FORCE)")


def migrate(database: str) -> None:
    ended = ran(["manage.py", "migrate"], {**os.environ, "DATABASE_URL": database})
    assert (ended.stderr, ended.returncode) == ("", 0)


@pytest.fixture(scope="module")
def migrated(fresh: str) -> str:
    """The same database, migrated; each test leaves it so."""
    migrate(fresh)
    return fresh


def ask(database: str, sql: str) -> list[tuple]:
    with psycopg.connect(database, autocommit=True) as conn:
        cursor = conn.execute(sql)
        return cursor.fetchall() if cursor.description else []


INDEXES = "SELECT indexrelid::regclass::text FROM pg_index WHERE {} AND indrelid IN " + (
    "('checkpoints'::regclass, 'checkpoint_writes'::regclass, 'checkpoint_blobs'::regclass)"
)


def test_ten_migrations_at_once_of_an_empty_database_all_end_well(fresh):
    with ThreadPoolExecutor(10) as operators:
        list(operators.map(migrate, [fresh] * 10))
    tables = {row[0] for row in ask(fresh, "SELECT tablename FROM pg_tables")}
    assert {*install.CHECKPOINT_TABLES, "approvals_review", "procrastinate_jobs"} <= tables
    triggers = ask(fresh, "SELECT tgname FROM pg_trigger WHERE tgname LIKE 'countersign%'")
    assert {*install.TRIGGERS, "countersign_append_only"} <= {row[0] for row in triggers}
    assert ask(fresh, INDEXES.format("NOT indisvalid")) == []
    assert len(ask(fresh, INDEXES.format("indisvalid"))) >= 6  # three keys, three by thread
    reached = ask(fresh, "SELECT max(v) FROM checkpoint_migrations")
    assert reached == [(len(PostgresSaver.MIGRATIONS) - 1,)]


def test_a_second_migrate_changes_nothing(migrated):
    before = ask(migrated, "SELECT oid, xmin::text FROM pg_class ORDER BY 1")
    migrate(migrated)
    assert ask(migrated, "SELECT oid, xmin::text FROM pg_class ORDER BY 1") == before
    assert ask(migrated, "SELECT count(*) FROM approvals_threadchange") == [(0,)]


# A CREATE INDEX CONCURRENTLY that is cut off leaves an index that no query uses

INDEX = "checkpoints_thread_id_idx"


def leave_invalid_index(database: str) -> None:
    """As a setup() that ran into a lock timeout leaves it: there, and good for nothing."""
    ask(database, f"DROP INDEX {INDEX}")
    with psycopg.connect(database) as writer, psycopg.connect(database, autocommit=True) as builder:
        writer.execute("LOCK TABLE checkpoints IN ROW EXCLUSIVE MODE")  # an agent, mid-transaction
        builder.execute("SET lock_timeout = '200ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            builder.execute(f"CREATE INDEX CONCURRENTLY {INDEX} ON checkpoints (thread_id)")
    assert ask(database, INDEXES.format("NOT indisvalid")) == [(INDEX,)]


def test_an_invalid_index_is_built_again_when_setup_has_yet_to_pass_it(migrated):
    leave_invalid_index(migrated)
    number = next(n for n, sql in enumerate(PostgresSaver.MIGRATIONS) if INDEX in str(sql))
    ask(migrated, f"DELETE FROM checkpoint_migrations WHERE v >= {number}")
    migrate(migrated)
    assert (INDEX,) in ask(migrated, INDEXES.format("indisvalid"))


def test_an_invalid_index_is_built_again_even_when_setup_has_passed_it_over(migrated):
    """An agent's own setup() after the timeout: IF NOT EXISTS, so it counts the step as done."""
    leave_invalid_index(migrated)
    migrate(migrated)
    assert ask(migrated, INDEXES.format("NOT indisvalid")) == []
    assert (INDEX,) in ask(migrated, INDEXES.format("indisvalid"))


def test_disabled_or_lost_triggers_are_put_back(migrated):
    ask(migrated, "DROP TRIGGER countersign_write ON checkpoint_writes")
    ask(migrated, "ALTER TABLE checkpoints DISABLE TRIGGER countersign_put")
    migrate(migrated)
    assert ask(
        migrated,
        "SELECT tgname, tgenabled::text FROM pg_trigger "
        "WHERE tgname IN ('countersign_put', 'countersign_write') ORDER BY 1",
    ) == [("countersign_put", "O"), ("countersign_write", "O")]


# Somebody else holds the lock


@pytest.fixture
def one_second(monkeypatch):
    monkeypatch.setattr(install, "LOCK_SECONDS", 1)


@pytest.fixture
def holder(db) -> Iterator[psycopg.Connection]:
    with psycopg.connect(make_conninfo(test_url(), application_name="another deploy")) as conn:
        yield conn


@pytest.mark.usefixtures("one_second")
@pytest.mark.parametrize("lock", [install.MIGRATE_LOCK, install.SETUP_LOCK])
def test_a_migrate_that_waits_in_vain_names_the_holder(holder, lock):
    holder.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", [lock])
    with pytest.raises(CommandError) as caught:
        call_command("migrate", verbosity=0)
    assert f"process {holder.info.backend_pid} (another deploy)" in str(caught.value)
    assert f"Waited 1 s for a lock of the database ({lock})" in str(caught.value)
    holder.rollback()


@pytest.mark.usefixtures("one_second")
def test_bystanders_are_not_blamed(holder):
    holder.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", [install.MIGRATE_LOCK])
    named = make_conninfo(test_url(), application_name="an agent at work")
    with psycopg.connect(named) as bystander:
        bystander.execute("LOCK TABLE effects IN ROW EXCLUSIVE MODE")
        with pytest.raises(CommandError) as caught:
            call_command("migrate", verbosity=0)
        assert re.findall(r"process (\d+)", str(caught.value)) == [str(holder.info.backend_pid)]
    holder.rollback()


@pytest.mark.usefixtures("one_second")
def test_an_agent_that_sits_on_a_table_is_named_when_it_is_in_the_way(holder):
    direct("DROP TRIGGER countersign_put ON checkpoints")
    holder.execute("LOCK TABLE checkpoints IN ROW EXCLUSIVE MODE")
    try:
        with pytest.raises(CommandError) as caught:
            call_command("migrate", verbosity=0)
        assert f"process {holder.info.backend_pid} (another deploy)" in str(caught.value)
    finally:
        holder.rollback()
        call_command("migrate", verbosity=0)
    assert direct("SELECT count(*) FROM pg_trigger WHERE tgname = 'countersign_put'") == [(1,)]
