"""What an operator sees when something is wrong: one readable line, never a password.

Then Postgres going away and coming back under running processes, on a server of the test's own.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from console import embedded
from tests.children import Child, ran
from tests.conftest import Processes, direct, eventually, sign_in, test_url
from tests.postgres import ROOT
from tests.test_capture import intake
from tests.test_migrate import url as database_url

SECRET = "hunter2secret"


def manage(*command: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Runs a command as an operator would; an empty value takes the variable away."""
    known = {**os.environ, **environment}
    kept = {name: value for name, value in known.items() if value}
    return ran(["manage.py", *command], kept)


def the_line(ended: "subprocess.CompletedProcess[str]") -> str:
    """The one line of a command that failed as it should."""
    assert ended.returncode == 1, (ended.stdout, ended.stderr)
    assert "Traceback" not in ended.stderr
    assert SECRET not in ended.stdout + ended.stderr
    lines = ended.stderr.strip().splitlines()
    assert len(lines) == 1, ended.stderr
    return lines[0]


# DATABASE_URL

URLS = {
    "an unknown scheme": (f"mysql://ann:{SECRET}@db/agents", "must start with postgres://"),
    "no database": (f"postgres://ann:{SECRET}@127.0.0.1", "names no database: end it with /name"),
    "a space": (f"postgres://ann:{SECRET} x@127.0.0.1/agents", "DATABASE_URL"),
    "a slash in the password": (f"postgres://ann:{SECRET}/x@127.0.0.1/agents", "DATABASE_URL"),
    "nobody listens": (
        f"postgres://ann:{SECRET}@127.0.0.1:9/agents",
        "Check that it runs and that DATABASE_URL names it.",
    ),
    "no such host": (f"postgres://ann:{SECRET}@nowhere.invalid/agents", "nowhere.invalid"),
}


@pytest.mark.parametrize("case", URLS)
def test_a_database_that_cannot_be_reached_is_one_line_of_migrate(case):
    url, says = URLS[case]
    assert says in the_line(manage("migrate", DATABASE_URL=url))


def test_a_database_that_cannot_be_reached_is_one_line_of_reconcile():
    line = the_line(manage("reconcile", DATABASE_URL="postgres://ann@127.0.0.1:9/agents"))
    assert "Postgres did not answer" in line


# What a process needs


def test_web_without_a_secret_key_says_how_to_make_one():
    assert "secrets.token_urlsafe" in the_line(manage("web", SECRET_KEY=""))


@pytest.mark.parametrize("port", ["eighty", "99999"])
def test_a_port_that_is_none_is_named(port):
    line = the_line(manage("web", PORT=port))
    assert "PORT" in line
    assert port in line


def test_a_port_that_is_none_is_named_by_the_demo(tmp_path):
    line = the_line(manage("demo", PORT="99999", COUNTERSIGN_DATA=str(tmp_path)))
    assert "PORT must be a number" in line
    assert "99999" in line


@pytest.fixture
def taken_port() -> Iterator[str]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield str(taken.getsockname()[1])


@pytest.mark.parametrize("command", ["demo", "web"])
def test_a_taken_port_is_named(command, taken_port, tmp_path):
    line = the_line(manage(command, PORT=taken_port, COUNTERSIGN_DATA=str(tmp_path)))
    assert taken_port in line


@pytest.fixture
def empty_database(db) -> Iterator[str]:
    direct("DROP DATABASE IF EXISTS nobody_migrated")
    direct("CREATE DATABASE nobody_migrated")
    yield database_url(test_url(), "nobody_migrated")
    direct("DROP DATABASE nobody_migrated WITH (FORCE)")


def test_a_database_that_was_not_migrated_is_one_line_that_says_so(empty_database):
    assert "manage.py migrate" in the_line(manage("reconcile", DATABASE_URL=empty_database))


def test_a_worker_on_a_database_that_was_not_migrated_says_so(empty_database, tmp_path):
    """It may wait for the migration or end; either way its operator is told what to do."""
    log = tmp_path / "stderr"
    environment = {**os.environ, "DATABASE_URL": empty_database}
    with log.open("w") as stderr:
        command = [sys.executable, "manage.py", "worker"]
        worker = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=stderr)
    try:
        eventually(lambda: "manage.py migrate" in log.read_text(), 8, "the worker says migrate")
    finally:
        worker.terminate()
        worker.wait(15)
    assert "Traceback" not in log.read_text()


# langgraph.json and reviews.toml

TABLE = """
[graphs.{name}]
approval_nodes = ["human_approval"]
response = "agent_response"
group = "reviewers"
"""
IN_MEMORY = """
from langgraph.checkpoint.memory import InMemorySaver
from tests.graphs.scripted import builder
graph = builder.compile(checkpointer=InMemorySaver())
"""


@pytest.fixture
def files(tmp_path) -> dict[str, str]:
    """An environment that names a langgraph.json and a reviews.toml of the test's own."""
    (tmp_path / "langgraph.json").write_text(
        json.dumps({"graphs": {"mine": "tests.graphs.scripted:builder"}})
    )
    (tmp_path / "reviews.toml").write_text(TABLE.format(name="mine"))
    return {
        "LANGGRAPH_JSON": str(tmp_path / "langgraph.json"),
        "REVIEWS_TOML": str(tmp_path / "reviews.toml"),
    }


def check(files: dict[str, str], command: str = "check") -> str:
    """What the command says of files that cannot be used."""
    ended = manage(command, **files)
    assert ended.returncode == 1, (ended.stdout, ended.stderr)
    assert "Traceback" not in ended.stderr
    return ended.stderr


def target(files: dict[str, str], text: str, attribute: str = "graph") -> None:
    """Makes `mine` a graph file of this text."""
    folder = Path(files["LANGGRAPH_JSON"]).parent
    (folder / "mine.py").write_text(text)
    langgraph_json = {"graphs": {"mine": f"./mine.py:{attribute}"}}
    Path(files["LANGGRAPH_JSON"]).write_text(json.dumps(langgraph_json))


def test_files_without_a_fault_pass(files):
    assert manage("check", **files).returncode == 0


def test_a_langgraph_json_that_is_not_there_is_named(files):
    Path(files["LANGGRAPH_JSON"]).unlink()
    assert "langgraph.json: the file is not there" in check(files)


def test_a_langgraph_json_that_is_no_json_is_named(files):
    Path(files["LANGGRAPH_JSON"]).write_text("{graphs: 1}")
    assert "langgraph.json: not a JSON object" in check(files)


def test_graphs_that_cannot_be_used_are_named_with_the_reason(files):
    graphs = {"sick": "raise RuntimeError('no key')", "bare": "other = 1", "mortal": IN_MEMORY}
    folder = Path(files["LANGGRAPH_JSON"]).parent
    for name, text in graphs.items():
        (folder / f"{name}.py").write_text(text)
    targets = {name: f"./{name}.py:graph" for name in graphs}
    Path(files["LANGGRAPH_JSON"]).write_text(json.dumps({"graphs": targets}))
    Path(files["REVIEWS_TOML"]).write_text("".join(TABLE.format(name=name) for name in graphs))
    errors = check(files)
    assert re.search(r"json: graphs.sick: ./sick.py:graph .* RuntimeError: no key", errors)
    assert re.search(r"json: graphs.bare: ./bare.py:graph .* has no 'graph'", errors)
    assert re.search(r"json: graphs.mortal: ./mortal.py:graph .* thirty workers would", errors)


@pytest.mark.parametrize("command", ["web", "worker", "migrate"])
def test_no_command_starts_on_a_graph_that_does_not_import(files, command):
    target(files, "raise RuntimeError('no key')")
    assert "langgraph.json: graphs.mine: " in check(files, command)


def test_check_reports_every_fault_of_both_files_at_once(files):
    target(files, IN_MEMORY)
    targets = {
        "mine": "./mine.py:graph",
        "away": "./nowhere.py:graph",
        "bare": "no colon",
        "other": "tests.graphs.scripted:builder",
        "lone": "tests.graphs.scripted:builder",
    }
    Path(files["LANGGRAPH_JSON"]).write_text(json.dumps({"graphs": targets}))
    tables = "".join(TABLE.format(name=name) for name in ("mine", "away", "bare", "extra"))
    wrong = TABLE.format(name="other").replace('"human_approval"', '"humans"')
    wrong = wrong.replace('"agent_response"', '"reply"')
    wrong += 'undo_window = -1\ncolour = "red"\neditable = ["nope"]\napprove = { nix = 1 }\n'
    Path(files["REVIEWS_TOML"]).write_text(tables + wrong)
    errors = check(files)
    for where in (
        "langgraph.json: graphs.mine: ",
        "langgraph.json: graphs.away: ",
        "langgraph.json: graphs.bare: ",
        "reviews.toml: graphs.lone: no table",
        "reviews.toml: graphs.extra: ",
        "reviews.toml: graphs.other.undo_window: ",
        "reviews.toml: graphs.other.colour: ",
    ):
        assert where in errors, f"{where} is missing from:\n{errors}"


def test_check_reports_every_key_that_does_not_fit_its_graph(files):
    wrong = TABLE.format(name="mine").replace('"human_approval"', '"humans"')
    wrong = wrong.replace('"agent_response"', '"reply"')
    wrong += 'editable = ["nope"]\napprove = { nix = 1 }\n'
    Path(files["REVIEWS_TOML"]).write_text(wrong)
    errors = check(files)
    for key in ("approval_nodes", "response", "editable", "approve.nix"):
        assert f"reviews.toml: graphs.mine.{key}: " in errors, errors


# Postgres goes away, and comes back

CAST = """
import django; django.setup()
import psycopg
from django.contrib.auth.models import Group
from tests.conftest import _account, capture_all, pause, test_url
from tests.graphs.scripted import EFFECTS
rita = _account("rita", "Rita Osei")
rita.save()
rita.groups.add(Group.objects.create(name="scripted-reviewers"))
psycopg.connect(test_url(), autocommit=True).execute(EFFECTS)
for name in ("typed", "later"):
    pause("scripted", name)
pause("scripted", "running", script={"sleep": 2})
capture_all()
"""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A short path: a socket's may have about 100 characters."""
    made = Path(tempfile.mkdtemp(prefix="cs-", dir="/tmp"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


class Server:
    """A Postgres that may be stopped."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.url = embedded.start(data, settings={"fsync": "off"})

    def start(self) -> None:
        assert embedded.start(self.data) == self.url

    def stop(self) -> None:
        embedded.stop(self.data)
        assert not embedded.answers(self.url)

    def ask(self, sql: str, *params: object) -> list[tuple]:
        with psycopg.connect(self.url, autocommit=True) as conn:
            return conn.execute(sql, params).fetchall()

    def state(self, thread_id: str) -> str:
        rows = self.ask(
            "SELECT d.state FROM approvals_decision d JOIN approvals_review r "
            "ON r.id = d.review_id WHERE r.thread_id = %s",
            thread_id,
        )
        return rows[0][0] if rows else ""


@pytest.fixture(scope="module")
def own_server(folder: Path) -> Iterator[Server]:
    server = Server(folder / "pg")
    try:
        assert manage("migrate", DATABASE_URL=server.url).returncode == 0
        environment = {**os.environ, "DATABASE_URL": server.url, "EFFECTS_URL": server.url}
        subprocess.run([sys.executable, "-c", CAST], cwd=ROOT, env=environment, check=True)
        yield server
    finally:
        server.stop()


@pytest.fixture
def server(own_server: Server) -> Server:
    own_server.start()
    return own_server


@pytest.fixture
def on(server: Server) -> Iterator["On"]:
    started = On(server)
    yield started
    started.processes.stop_all()


class On:
    """Processes on the test's own server."""

    def __init__(self, server: Server) -> None:
        self.processes = Processes()
        self.environment = {"DATABASE_URL": server.url, "EFFECTS_URL": server.url}

    def worker(self) -> Child:
        return self.processes.worker(**self.environment)

    def web(self) -> str:
        return self.processes.web(**self.environment)


def status(address: str, path: str) -> int:
    return httpx.get(address + path, trust_env=False, timeout=20).status_code


def form_on(page: str) -> dict[str, str]:
    """The hidden fields of a review page's form."""
    return {
        name: re.search(rf'name="{name}" value="([^"]+)"', page).group(1)
        for name in ("digest", "checkpoint", "key")
    }


def review_page(client: httpx.Client, server: Server, thread_id: str) -> tuple[str, dict[str, str]]:
    ((pk,),) = server.ask("SELECT id FROM approvals_review WHERE thread_id = %s", thread_id)
    return f"/reviews/{pk}/", form_on(client.get(f"/reviews/{pk}/").text)


TYPED = "Dear Maeve,\n\nthis took me ten minutes to <write>."


def test_web_outlives_its_database_and_keeps_what_was_typed(server, on):
    address = on.web()
    rita = sign_in(address, "rita")
    page, form = review_page(rita, server, "typed")
    form["edit.agent_response"] = TYPED
    server.stop()
    answer = rita.post(f"{page}decide", data=form)
    assert answer.status_code == 503
    assert "this took me ten minutes to &lt;write&gt;." in answer.text
    assert "it counts once" in answer.text
    assert rita.get("/").status_code == 503
    assert status(address, "/health") == 200
    refused = httpx.get(f"{address}/ready", trust_env=False)
    assert refused.status_code == 503
    assert refused.json()["reasons"] == ["the database cannot be reached"]
    server.start()
    assert rita.post(f"{page}decide", data=form).status_code == 302  # the same form, sent again
    assert rita.get(page).status_code == 200
    assert server.state("typed") == "pending"


def test_a_worker_outlives_its_database_and_so_does_the_run_in_its_hands(server, on, tmp_path):
    worker = on.worker()
    rita = sign_in(on.web(), "rita")
    page, form = review_page(rita, server, "running")
    assert rita.post(f"{page}decide", data=form).status_code == 302
    eventually(lambda: server.state("running") == "applied")
    server.stop()
    server.start()
    eventually(lambda: server.state("running") == "finished", 40, "the run finishes")
    assert server.ask("SELECT count(*) FROM effects WHERE conversation_id = 'running'") == [(1,)]
    applied = "SELECT count(*) FROM checkpoints WHERE thread_id = 'running' AND {}"
    assert server.ask(applied.format("metadata->>'source' = 'update'")) == [(1,)]
    intake(tmp_path, "after", server.url)
    eventually(lambda: server.ask("SELECT 1 FROM approvals_review WHERE thread_id = 'after'"))
    assert worker.poll() is None


def test_processes_that_start_before_postgres_come_up_and_recover(server, on):
    server.stop()
    address, worker = on.web(), on.worker()
    assert status(address, "/ready") == 503
    assert status(address, "/") == 302  # to the sign-in page, which needs no database
    assert status(address, "/sign-in") == 200
    server.start()
    eventually(lambda: status(address, "/ready") == 200, 20, "ready, worker and all")
    rita = sign_in(address, "rita")
    page, form = review_page(rita, server, "later")
    assert rita.post(f"{page}decide", data=form).status_code == 302
    eventually(lambda: server.state("later") == "finished")
    assert worker.poll() is None


def test_a_wrong_password_is_told_without_it(server):
    with psycopg.connect(server.url, autocommit=True) as conn:
        conn.execute(f"CREATE ROLE ann LOGIN PASSWORD '{SECRET}x'")
    rules = server.data / "pg_hba.conf"
    kept = rules.read_text()
    rules.write_text(f"local all ann scram-sha-256\n{kept}")
    try:
        server.ask("SELECT pg_reload_conf()")
        url = make_conninfo(server.url, user="ann", password=SECRET)
        eventually(lambda: not _connects(url))
        socket_dir = server.url.partition("host=")[2]
        mine = f"postgresql://ann:{SECRET}@/countersign?host={socket_dir}"
        for command in ("migrate", "reconcile"):
            line = the_line(manage(command, DATABASE_URL=mine))
            assert "password authentication failed" in line
    finally:
        rules.write_text(kept)
        server.ask("SELECT pg_reload_conf()")


def _connects(url: str) -> bool:
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True
