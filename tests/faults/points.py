"""Where a process kills (or freezes) itself, the first time it gets there.

A point wraps one function of the program; it replaces nothing. The kill is the kernel's: no
handler, no `finally`, no flush, no goodbye to Postgres.
"""

import functools
import importlib
import inspect
import os
import signal
from collections.abc import Callable
from typing import Any

RESUME = "approvals.resume"


FREEZE = "freeze "
_signal = signal.SIGKILL
_there: list[bool] = []


def die() -> None:
    """Once: a frozen process that is woken up goes on."""
    if not _there:
        _there.append(True)
        os.kill(os.getpid(), _signal)


def before(when: Callable[..., Any] = lambda *a, **k: True) -> Callable[[Any], Any]:
    """Dies instead of calling the function, when `when` says so of the arguments."""

    def wrap(function: Any) -> Any:
        @functools.wraps(function)
        async def later(*args: Any, **kwargs: Any) -> Any:
            said = when(*args, **kwargs)
            if (await said) if inspect.isawaitable(said) else said:
                die()
            return await function(*args, **kwargs)

        @functools.wraps(function)
        def now(*args: Any, **kwargs: Any) -> Any:
            if when(*args, **kwargs):
                die()
            return function(*args, **kwargs)

        return later if inspect.iscoroutinefunction(function) else now

    return wrap


def after(when: Callable[[Any], bool] = lambda answer: True) -> Callable[[Any], Any]:
    """Dies when the function has returned, when `when` says so of its answer."""

    def wrap(function: Any) -> Any:
        @functools.wraps(function)
        async def later(*args: Any, **kwargs: Any) -> Any:
            answer = await function(*args, **kwargs)
            if when(answer):
                die()
            return answer

        @functools.wraps(function)
        def now(*args: Any, **kwargs: Any) -> Any:
            answer = function(*args, **kwargs)
            if when(answer):
                die()
            return answer

        return later if inspect.iscoroutinefunction(function) else now

    return wrap


async def _a_job_is_there(manager: Any, *args: Any, **kwargs: Any) -> bool:
    row = await manager.connector.execute_query_one_async(
        query="SELECT count(*) AS due FROM procrastinate_jobs WHERE status = 'todo' "
        "AND task_name = 'approvals.resume' "
        "AND (scheduled_at IS NULL OR scheduled_at <= clock_timestamp())"
    )
    return bool(row["due"])


def _ours_and_done(manager: Any, job: Any, status: Any, *args: Any, **kwargs: Any) -> bool:
    return bool(job.task_name == RESUME and status.value == "succeeded")


_decided: list[bool] = []


def _note_decided(function: Any) -> Any:
    @functools.wraps(function)
    def noting(*args: Any, **kwargs: Any) -> Any:
        answer = function(*args, **kwargs)
        _decided.append(True)
        return answer

    return noting


JOBS, SAVER = "procrastinate.manager:JobManager", "approvals.savers:FencedSaver"
SCRIPTED = "tests.graphs.scripted"

# name: the functions that are wrapped, and how
POINTS: dict[str, list[tuple[str, Callable[[Any], Any]]]] = {
    # of a worker
    "before claim": [(f"{JOBS}.fetch_job", before(_a_job_is_there))],
    "after claim": [(f"{JOBS}.fetch_job", after(lambda job: job and job.task_name == RESUME))],
    "inside apply": [("approvals.actions:mark_applied", before())],
    "after apply": [("approvals.runner:take_up", after(lambda lease: lease is not None))],
    "inside the node": [(f"{SCRIPTED}:act_out", before())],
    "after the node": [(f"{SCRIPTED}:act_out", after())],
    "before its checkpoint": [(f"{SAVER}.aput", before())],
    "between nodes": [(f"{SAVER}.aput", after())],
    "before the effect": [(f"{SCRIPTED}:send", before())],
    "after the effect": [(f"{SCRIPTED}:send", after())],
    "before the job is done": [(f"{JOBS}.finish_job", before(_ours_and_done))],
    # of a web process
    "before commit": [("approvals.actions:_decide", after())],
    "after commit": [("approvals.actions:decide", after())],
    "before the answer": [
        ("approvals.actions:decide", _note_decided),
        (
            "django.core.handlers.asgi:ASGIHandler.send_response",
            before(lambda *a, **k: bool(_decided)),
        ),
    ],
    # of the capture
    "inside capture": [("approvals.actions:project", after())],
}
WORKER = [
    *("before claim", "after claim", "inside apply", "after apply", "inside the node"),
    *(
        "before its checkpoint",
        "between nodes",
        "before the effect",
        "after the effect",
        "before the job is done",
    ),
]
WEB = ["before commit", "after commit", "before the answer"]


def apply(name: str) -> None:
    """In the process that is to die, or with "freeze " before the point's name, to freeze.

    Raises where the program has no such function any more.
    """
    global _signal
    if name.startswith(FREEZE):
        name, _signal = name.removeprefix(FREEZE), signal.SIGSTOP
    if name not in POINTS:
        raise SystemExit(f"There is no point {name!r}; there are: {', '.join(POINTS)}")
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "console.settings")
    import django

    django.setup()
    for place, wrap in POINTS[name]:
        module, _, path = place.partition(":")
        *outer, last = path.split(".")
        owner = functools.reduce(getattr, outer, importlib.import_module(module))
        setattr(owner, last, wrap(getattr(owner, last)))
