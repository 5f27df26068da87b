"""/health: this process lives. /ready: it can do its work, or why not."""

import datetime as dt
from collections.abc import Iterator

from django.contrib.auth.decorators import login_not_required
from django.db import Error as DatabaseError
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, JsonResponse
from langgraph.checkpoint.postgres import PostgresSaver
from procrastinate.contrib.django.models import ProcrastinateWorker

from approvals.clock import database_now
from approvals.install import invalid_indexes, missing_triggers
from approvals.registry import registry
from graphs.registry import RegistryError

AWAY = "the database cannot be reached"
POOLER = "DATABASE_URL leads to a pooler: set DIRECT_DATABASE_URL to the server's own address"
WORKER_SEEN = dt.timedelta(seconds=30)


@login_not_required
def health(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"status": "ok"})


@login_not_required
def ready(request: HttpRequest) -> JsonResponse:
    """503 with every reason found. The database's own words stay out: they may name hosts."""
    try:
        reasons = list(_reasons())
    except DatabaseError as error:
        reasons = [POOLER if "startup parameter" in str(error) else AWAY]
    if reasons:
        return JsonResponse({"status": "not ready", "reasons": reasons}, status=503)
    return JsonResponse({"status": "ready"})


def _reasons() -> Iterator[str]:
    try:
        registry()
    except RegistryError as error:
        yield from map(str, error.faults)
    executor = MigrationExecutor(connection)
    if executor.migration_plan(executor.loader.graph.leaf_nodes()):
        yield "migrations are missing: run manage.py migrate"
        return
    yield from _checkpointer_reasons()
    alive = ProcrastinateWorker.objects.filter(last_heartbeat__gt=database_now() - WORKER_SEEN)
    if not alive.exists():
        yield "no worker was seen in the last 30 s: run manage.py worker"


def _checkpointer_reasons() -> Iterator[str]:
    if _checkpointer_version() < len(PostgresSaver.MIGRATIONS) - 1:
        yield "the checkpointer's tables are older than this LangGraph: run manage.py migrate"
        return
    if broken := invalid_indexes(connection):
        yield f"invalid indexes {', '.join(broken)}: run manage.py migrate"
    if missing := missing_triggers(connection):
        yield f"capture triggers {', '.join(missing)} are missing: run manage.py migrate"


def _checkpointer_version() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass('checkpoint_migrations') IS NOT NULL")
        if not cursor.fetchone()[0]:
            return -1
        cursor.execute("SELECT coalesce(max(v), -1) FROM checkpoint_migrations")
        return int(cursor.fetchone()[0])
