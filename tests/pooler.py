"""A real PgBouncer in transaction mode before the tests' Postgres, for as long as a test runs."""

import getpass
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

BINARY = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
HOW = "there is no pgbouncer here: apt-get install pgbouncer, or brew install pgbouncer"
SETTINGS = """
[databases]
* = {server}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
admin_users = admin
pool_mode = transaction
default_pool_size = {size}
max_client_conn = 200
query_wait_timeout = 5
server_login_retry = 1
logfile = {folder}/log
pidfile = {folder}/pid
{user}
"""


@dataclass
class Pooler:
    port: int
    database: str

    @property
    def url(self) -> str:
        return f"postgresql://anyone@127.0.0.1:{self.port}/{self.database}"

    def show(self, what: str) -> list[dict[str, Any]]:
        """A table of PgBouncer's own console, of our database."""
        admin = f"postgresql://admin@127.0.0.1:{self.port}/pgbouncer"
        with psycopg.connect(
            admin, autocommit=True, cursor_factory=psycopg.ClientCursor, client_encoding="utf8"
        ) as conn:
            cursor = conn.execute(f"SHOW {what}")
            names = [column.name for column in cursor.description or []]
            rows = [dict(zip(names, row, strict=True)) for row in cursor]
        return [row for row in rows if row.get("database") == self.database]


@contextmanager
def pooler(server: str, *, port: int, size: int) -> Iterator[Pooler]:
    """`server` is the URL of the real one."""
    assert BINARY, HOW
    known = {k: v for k, v in conninfo_to_dict(server).items() if v}
    database = str(known.pop("dbname"))
    known.setdefault("user", getpass.getuser())
    folder = Path(tempfile.mkdtemp(prefix="cs-pooler-"))
    owner = owner_of(known.get("host", ""))
    settings = SETTINGS.format(
        server=" ".join(f"{k}={v}" for k, v in known.items()),
        port=port,
        size=size,
        folder=folder,
        user=f"user = {owner}" if os.geteuid() == 0 else "",
    )
    (folder / "pgbouncer.ini").write_text(settings)
    if os.geteuid() == 0:
        shutil.chown(folder, owner)
    child = subprocess.Popen([BINARY, "-q", str(folder / "pgbouncer.ini")])
    try:
        yield Pooler(port, database)
    finally:
        child.terminate()
        child.wait(10)
        shutil.rmtree(folder, ignore_errors=True)


def owner_of(host: str) -> str:
    """PgBouncer will not run as root, and only the server's own user may see its socket."""
    return Path(host).owner() if host.startswith("/") else "nobody"
