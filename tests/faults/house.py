"""A house of its own for the suite: a Postgres, webs, workers, agents and four people.

Everything in it is a real process. Only what a person, an agent or an operator could do is done
from here: pages over HTTP, SQL from outside, signals.
"""

import itertools
import json
import os
import re
import shutil
import signal
import socket
import ssl
import sys
import tempfile
import time
import tomllib
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg

from console import embedded
from tests.faults.nursery import QUIET, ROOT, Nursery
from tests.graphs.scripted import EFFECTS

PASSWORD = "correct horse battery"
# Commits must reach the kernel, which no kill of ours ends; they need not reach the disk.
POSTGRES = {"fsync": "off", "full_page_writes": "off", "log_min_messages": "fatal"}
PEOPLE = f"""
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
groups = [Group.objects.create(name=n) for n in ("scripted-reviewers", "support-reviewers")]
auditors = Group.objects.create(name="auditors")
for name in ("rita", "tom", "ada"):
    person = get_user_model().objects.create_user(name, password={PASSWORD!r}, first_name=name)
    person.groups.set([auditors] if name == "ada" else groups)
get_user_model().objects.create_superuser("mara", password={PASSWORD!r})
"""
TABLES = """
approvals_auditentry, approvals_decision, approvals_review, procrastinate_jobs,
procrastinate_workers, checkpoints, checkpoint_writes, checkpoint_blobs, effects, received, gates,
kills
"""
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # made once: each costs more than a request
NOTHING: Mapping[str, Any] = {}
ENDING = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}


def eventually(condition: Callable[[], Any], seconds: float, what: str, every: float = 0.05) -> Any:
    """The condition's first true value; raises TimeoutError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds} s: {what}")
        time.sleep(every)
    return value


@dataclass
class Child:
    """A process of the house, in a session of its own."""

    nursery: Nursery
    pid: int
    log: Path

    @property
    def code(self) -> int | None:
        """-9 is a SIGKILL; None while it lives."""
        state = self.nursery.state(self.pid)
        return state if isinstance(state, int) else None

    @property
    def stopped(self) -> bool:
        """Whether a SIGSTOP holds it."""
        return self.nursery.state(self.pid) == "stopped"

    @property
    def alive(self) -> bool:
        return self.code is None

    def signal(self, number: int) -> None:
        if self.alive:  # the nursery reaps when it is asked: the pid is nobody else's before
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.wait(10)

    def freeze(self) -> None:
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)

    def terminate(self) -> None:
        self.signal(signal.SIGTERM)

    def wait(self, seconds: float) -> int:
        """Its exit code. Raises TimeoutError."""
        eventually(lambda: not self.alive, seconds, f"process {self.pid} ends ({self.log})", 0.02)
        return int(self.code)  # type: ignore[arg-type]


@dataclass
class Web(Child):
    address: str = ""


@dataclass
class House:
    """`House()` builds it, in some seconds; `stop()` takes it down and removes its folder."""

    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="cs-", dir="/tmp")))
    url: str = ""
    children: list[Child] = field(default_factory=list)
    cookies: dict[str, dict[str, str]] = field(default_factory=dict)
    numbers: Any = field(default_factory=itertools.count)
    nursery: Any = None

    def __post_init__(self) -> None:
        try:
            self._build()
        except BaseException:
            self.stop(keep=True)
            raise

    def _build(self) -> None:
        self.nursery = Nursery(self.folder / "nursery.log")
        self.url = embedded.start(self.folder / "pg", settings=POSTGRES)
        self._command("manage.py", "migrate", "--verbosity", "0")
        self._command("manage.py", "shell", "-v", "0", "-c", PEOPLE)
        self.sql(EFFECTS)
        # Only the TRUNCATE by which cases start clean; UPDATE and DELETE stay refused.
        self.sql("ALTER TABLE approvals_auditentry DISABLE TRIGGER countersign_never_emptied")

    # Processes

    def start(self, *command: str, at: str = "", **env: str) -> Child:
        """Any command of ours as a child: `manage.py` with its arguments, or a module's name."""
        name = next((word for word in reversed(command) if word.isalpha()), "agent")
        log = self.folder / f"{next(self.numbers):04}-{name}.log"
        log.touch()
        pid = self.nursery.start(list(command), {**self._environment(), **env}, at, log)
        self.children.append(Child(self.nursery, pid, log))
        return self.children[-1]

    def worker(self, *, at: str = "", **env: str) -> Child:
        """A worker; `at` is a point (see points.py) where it kills itself."""
        return self.start("manage.py", "worker", at=at, **env)

    def web(self, *, at: str = "", **env: str) -> Web:
        """A web process that answers."""
        port = _free_port()
        child = self.start("manage.py", "web", "--port", str(port), at=at, **env)
        web = Web(self.nursery, child.pid, child.log, f"http://127.0.0.1:{port}")
        self.children[-1] = web
        eventually(lambda: _answers(web), 30, f"the web answers ({web.log})")
        return web

    def settings(self, **changes: Any) -> dict[str, str]:
        """An environment whose graph `scripted` has other settings: crash_limit=3, retry={…}."""
        read = tomllib.loads((ROOT / "tests" / "reviews.toml").read_text(encoding="utf-8"))
        path = self.folder / f"reviews-{next(self.numbers)}.toml"
        read["graphs"]["scripted"].update(changes)
        path.write_text(_as_toml(read), encoding="utf-8")
        return {"REVIEWS_TOML": str(path)}

    def _environment(self) -> dict[str, str]:
        inherited = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV", "PYTHONPATH")
        return {
            **{name: os.environ[name] for name in inherited if name in os.environ},
            "DATABASE_URL": self.url,
            "EFFECTS_URL": self.url,
            "SECRET_KEY": "only for the faults",
            "LANGGRAPH_JSON": str(ROOT / "tests" / "langgraph.json"),
            "REVIEWS_TOML": str(ROOT / "tests" / "reviews.toml"),
            "COUNTERSIGN_DATA": str(self.folder / "data"),
            **QUIET,
            "PYTHONUNBUFFERED": "1",
        }

    def _command(self, *command: str) -> None:
        child = self.start(*command)
        if child.wait(120):
            raise RuntimeError(f"{' '.join(command[:2])} failed: {child.log.read_text()[-2000:]}")

    # What agents do

    def run(
        self, threads: Sequence[str], script: Mapping[str, Any] = NOTHING, **given: Any
    ) -> None:
        """The agent's own program pauses these threads of the graph "scripted", and ends."""
        child = self.agent(threads, script, **given)
        if child.wait(60 + len(threads)):
            raise RuntimeError(f"the agent failed: {child.log.read_text()[-2000:]}")

    def agent(
        self,
        threads: Sequence[str],
        script: Mapping[str, Any] = NOTHING,
        *,
        every: float = 0,
        durability: str = "async",
        onward: bool = False,
        **given: Any,
    ) -> Child:
        """The same, while it runs: at most one pause in `every` seconds.

        With `onward` it runs threads on that pause already, and asks nobody.
        """
        told = {"threads": list(threads), "script": dict(script), "given": given}
        told |= {"every": every, "durability": durability, "onward": onward}
        return self.start("tests.faults.agent", json.dumps(told))

    # What people do

    def reviews(self, threads: Sequence[str], seconds: float = 60) -> dict[str, int]:
        """thread: review, once all of them are captured. Needs a worker that lives."""
        asked = (
            "SELECT thread_id, max(id) FROM approvals_review "
            "WHERE status = 'waiting' AND thread_id = ANY(%s) GROUP BY 1"
        )
        found: dict[str, int] = {}

        def all_there() -> bool:
            found.update(self.sql(asked, list(threads)))
            return len(found) == len(threads)

        eventually(all_there, seconds, f"{len(threads)} reviews are captured")
        return {thread: found[thread] for thread in threads}

    def person(self, address: str, name: str = "rita") -> httpx.Client:
        """A client that is signed in; the session is made once, by the page, and shared."""
        client = httpx.Client(base_url=address, trust_env=False, verify=NO_TLS, timeout=30)
        if name not in self.cookies:
            client.get("/sign-in")
            token = client.cookies["csrftoken"]
            told = {"username": name, "password": PASSWORD, "csrfmiddlewaretoken": token}
            answer = client.post("/sign-in", data=told)
            assert answer.status_code == 302, answer.text
            self.cookies[name] = dict(client.cookies)
        client.cookies.update(self.cookies[name])
        client.headers["X-CSRFToken"] = self.cookies[name]["csrftoken"]
        return client

    def form(self, client: httpx.Client, pk: int) -> dict[str, str]:
        """The fields of the review page's form as the page sent them."""
        page = client.get(f"/reviews/{pk}/")
        assert page.status_code == 200, page.text[:2000]
        return {
            name: re.search(rf'name="{name}" value="([^"]+)"', page.text)[1]  # type: ignore[index]
            for name in ("digest", "checkpoint", "key")
        }

    def approve(
        self, client: httpx.Client, pk: int, text: str, form: dict[str, str] | None = None
    ) -> httpx.Response:
        form = form or self.form(client, pk)
        return client.post(f"/reviews/{pk}/decide", data={**form, "edit.agent_response": text})

    # What an operator does

    def sql(self, query: str, *params: Any) -> list[tuple[Any, ...]]:
        """On a connection that is nobody's, committed at once."""
        with psycopg.connect(self.url, autocommit=True) as conn:
            cursor = conn.execute(query, params or None)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []

    def settle(self, seconds: float = 90) -> bool:
        """Whether all decisions end, and all notes of the capture are taken, in this time."""
        asked = (
            "SELECT (SELECT count(*) FROM approvals_decision WHERE ended_at IS NULL) + "
            "(SELECT count(*) FROM approvals_threadchange WHERE not_before <= clock_timestamp())"
        )
        try:
            eventually(lambda: self.sql(asked)[0][0] == 0, seconds, "all ends", 0.1)
        except TimeoutError:
            return False
        return True

    def restart_postgres(self, mode: str = "immediate") -> None:
        """`immediate` ends it without a checkpoint: what was committed must come back."""
        self.stop_postgres(mode)
        self.start_postgres()

    def stop_postgres(self, mode: str = "immediate") -> None:
        note = self.folder / "pg" / "postmaster.pid"
        pid = int(note.read_text().splitlines()[0])
        os.kill(pid, ENDING[mode])
        eventually(lambda: not note.exists() and not _is_there(pid), 60, "Postgres stops", 0.02)

    def start_postgres(self) -> None:
        assert embedded.start(self.folder / "pg") == self.url

    # The house itself

    def clean(self) -> None:
        """As if nothing had happened; the people, and their sessions, stay."""
        self.end_children()
        if not embedded.answers(self.url):
            self.start_postgres()  # a case broke off in the middle
        self.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
            "AND backend_type = 'client backend'"
        )
        self.sql(f"TRUNCATE {TABLES} CASCADE")
        self.sql("TRUNCATE approvals_threadchange")

    def end_children(self) -> None:
        for child in self.children:
            child.signal(signal.SIGKILL)
        for child in self.children:
            child.wait(10)
        self.children.clear()

    def stop(self, keep: bool = False) -> None:
        """Ends everything; removes the folder unless the logs in it are to be read."""
        if self.nursery:
            self.nursery.stop()
        embedded.stop(self.folder / "pg")
        if not keep:
            shutil.rmtree(self.folder, ignore_errors=True)


def names(number: int, stem: str = "run") -> list[str]:
    """So many names of threads that no other case has."""
    mark = uuid.uuid4().hex[:6]
    return [f"{stem}-{mark}-{n:03}" for n in range(number)]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(web: Web) -> bool:
    if not web.alive:
        raise RuntimeError(f"the web ended with {web.code}: {web.log.read_text()[-2000:]}")
    try:
        return httpx.get(web.address + "/health", trust_env=False, verify=NO_TLS).is_success
    except httpx.HTTPError:
        return False


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # The embedded server's own starter may not have waited for it.
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.exists() and ") Z " in stat.read_text())


def _as_toml(read: dict[str, Any]) -> str:
    """The tables of reviews.toml as TOML again; a JSON value of theirs is one of TOML."""
    lines = [f"{k} = {_value(v)}" for k, v in read.items() if not isinstance(v, dict)]
    for name, table in read.get("graphs", {}).items():
        lines += ["", f"[graphs.{name}]", *(f"{k} = {_value(v)}" for k, v in table.items())]
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{k} = {_value(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    return json.dumps(value)


if __name__ == "__main__":  # a house to look at: its address, until Enter
    house = House()
    print(house.url, house.web().address, flush=True)
    sys.stdin.readline()
    house.stop()
