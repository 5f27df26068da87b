"""The parent of every web and worker of the suite: it has the heavy modules, and forks.

A worker takes three seconds to start, of which two and a half go into other people's imports. A
child that is forked from here starts in half a second, and is a process as any other: a session,
an environment and a log of its own, and `manage.py` from its first line. Nothing of ours that reads
settings or environment is imported here.

The nursery itself stays with one thread, since a fork copies no other.
"""

import gc
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
HEAVY = """
channels.routing channels.auth channels.security.websocket csp django_htmx markdown_it nh3
django.contrib.staticfiles.storage django.core.handlers.asgi django.core.management
django.core.management.base django.db.models django.forms django.shortcuts django.template
django.urls django.db.backends.postgresql.base django.middleware.csrf
jsonschema langchain.agents langchain_core.messages langgraph.checkpoint.postgres.aio
langgraph.graph langgraph.types procrastinate.worker procrastinate.builtin_tasks psycopg
psycopg_pool pydantic template_partials tomllib uvicorn uvloop websockets whitenoise
django.contrib.postgres.indexes django.contrib.postgres.search django.db.migrations.loader
django.views.i18n langchain_core.documents langgraph.checkpoint.memory
""".split()  # noqa: SIM905
QUIET = {"LANGGRAPH_STRICT_MSGPACK": "true", "LANGSMITH_TRACING": "false"}


class Nursery:
    """The suite's side of it. May be asked from several threads."""

    def __init__(self, log: Path) -> None:
        self.lock = threading.Lock()
        ours, theirs = socket.socketpair()
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.nursery", str(theirs.fileno())],
                cwd=ROOT,
                env={
                    **os.environ,
                    "LANGGRAPH_STRICT_MSGPACK": "true",
                    "LANGSMITH_TRACING": "false",
                },
                pass_fds=[theirs.fileno()],
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        theirs.close()
        self.wire = ours.makefile("rw")

    def ask(self, **question: Any) -> Any:
        with self.lock:
            self.wire.write(json.dumps(question) + "\n")
            self.wire.flush()
            answer = self.wire.readline()
        if not answer:
            raise RuntimeError("The nursery has ended; its log is nursery.log")
        return json.loads(answer)

    def start(
        self, command: list[str], env: dict[str, str], at: str, log: Path, out: Path | None = None
    ) -> int:
        """The pid of a new `manage.py`, or `python -m` module, with this environment alone.

        What it writes goes to `log`, or its standard output to `out`.
        """
        return int(self.ask(command=command, env=env, at=at, log=str(log), out=str(out or log)))

    def state(self, pid: int) -> int | str:
        """How a child ended, as `subprocess` says it: -9 is a SIGKILL. Else "runs" or "stopped"."""
        return self.ask(pid=pid)  # type: ignore[no-any-return]

    def stop(self) -> None:
        """Ends it with all its children."""
        with suppress(OSError):
            self.wire.close()
        self.process.kill() if self._outlives(20) else None

    def _outlives(self, seconds: float) -> bool:
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return True
        return False


# In the nursery's own process


def main(wire: socket.socket) -> None:
    for name in HEAVY:
        with suppress(ImportError):  # then it is imported where it is needed, or not at all
            __import__(name)
    gc.collect()
    gc.freeze()
    children: dict[int, int | str] = {}
    try:
        serve(wire, children)
    except OSError:
        pass  # the suite has ended, and not by its own will
    finally:
        look(children)
        for pid in [pid for pid, state in children.items() if isinstance(state, str)]:
            os.kill(pid, signal.SIGKILL)


def serve(wire: socket.socket, children: dict[int, int | str]) -> None:
    requests = wire.makefile("rw")
    for line in requests:
        asked = json.loads(line)
        look(children)
        answer: int | str
        if "pid" in asked:
            answer = children[asked["pid"]]
        else:
            answer = fork(asked, wire)
            children[answer] = "runs"
        requests.write(json.dumps(answer) + "\n")
        requests.flush()


def look(children: dict[int, int | str]) -> None:
    """Notes what became of them. Only here are the dead buried."""
    with suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG | os.WUNTRACED | os.WCONTINUED))[0]:
            pid, status = found
            if os.WIFSTOPPED(status) or os.WIFCONTINUED(status):
                children[pid] = "stopped" if os.WIFSTOPPED(status) else "runs"
            else:
                children[pid] = os.waitstatus_to_exitcode(status)


def fork(asked: dict[str, Any], wire: socket.socket) -> int:
    threads = os.listdir("/proc/self/task") if os.path.isdir("/proc/self/task") else ["one"]
    assert len(threads) == 1, "the nursery has threads"
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        wire.detach()
        code = grow_up(asked)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def grow_up(asked: dict[str, Any]) -> int:
    """Becomes the process that was asked for; the exit code."""
    os.setsid()
    log, out = (
        os.open(asked[name], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for name in ("log", "out")
    )
    empty = os.open(os.devnull, os.O_RDONLY)
    for number, target in ((0, empty), (1, out), (2, log)):
        os.dup2(number if target == number else target, number)
    os.closerange(3, 1000)  # the wire too: the nursery's end must be seen by nobody else
    os.environ.clear()
    os.environ.update(asked["env"])
    program, *arguments = asked["command"]
    sys.argv = [program, *arguments]
    try:
        if asked["at"]:
            from tests.faults import points

            points.apply(asked["at"])
        if program.endswith(".py"):
            runpy.run_path(str(ROOT / program), run_name="__main__")
        else:
            runpy.run_module(program, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if isinstance(end.code, str):  # as the interpreter would
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
