"""Every statement of a decision fails once: on a full disk, and by a timeout.

Real errors of the real server, in the very transaction that the statement is part of. They are
made in the process that acts, which is a child of the house, or pytest itself: as a module this is
that child's program.
"""

import html
import json
import os
import random
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg

from tests.faults.catalogue import Result, case
from tests.faults.house import House
from tests.faults.oracle import judge

FAULTS = {
    "a full disk": "DO $$ BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' "
    "USING ERRCODE = '53100'; END $$",
    "a timeout": "SET LOCAL statement_timeout = 10; SELECT pg_sleep(5)",
}
# The node's own statements: what they raise is an outcome of the run.
OF_NODES = ("INTO effects", "INTO received", "FROM gates")
TABLES = (
    *("approvals_review", "approvals_decision", "approvals_auditentry", "approvals_threadchange"),
    *("procrastinate_jobs", "checkpoints", "checkpoint_writes", "checkpoint_blobs"),
)
TEXT = "What <Rita> wrote, at length"
KINDS = ("decide", "apply")


# Which statement fails


@dataclass
class Breaker:
    """Counts the statements of this process, and has the `nth` fail; none if that is 0."""

    fault: str
    nth: int
    seen: int = 0
    broke: str = ""  # the statement that failed
    counting: threading.Lock = field(default_factory=threading.Lock)
    passed_over: int = 0  # a thread that only watches

    def fails(self, query: Any) -> bool:
        said = query if isinstance(query, str) else repr(query)
        if any(words in said for words in OF_NODES):
            return False
        if threading.get_ident() == self.passed_over:
            return False
        with self.counting:
            self.seen += 1
            if self.seen == self.nth:
                self.broke = said
            return self.seen == self.nth


@contextmanager
def breaking(fault: str, nth: int) -> Iterator[Breaker]:
    """The cursors of psycopg, which are Django's, the savers' and the queue's as well."""
    breaker = Breaker(fault, nth)
    kept = {
        (cursor, name): getattr(cursor, name)
        for cursor in (psycopg.Cursor, psycopg.AsyncCursor)
        for name in ("execute", "executemany")
    }
    raw, araw = psycopg.Cursor.execute, psycopg.AsyncCursor.execute

    def sync(function: Any) -> Any:
        def run(self: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
            if breaker.fails(query):
                raw(psycopg.Cursor(self.connection), FAULTS[fault])
            return function(self, query, *args, **kwargs)

        return run

    def later(function: Any) -> Any:
        async def run(self: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
            if breaker.fails(query):
                await araw(psycopg.AsyncCursor(self.connection), FAULTS[fault])
            return await function(self, query, *args, **kwargs)

        return run

    for (cursor, name), function in kept.items():
        wrap = later if cursor is psycopg.AsyncCursor else sync
        setattr(cursor, name, wrap(function))
    try:
        yield breaker
    finally:
        for (cursor, name), function in kept.items():
            setattr(cursor, name, function)


def everywhere(one: Callable[[str, int], tuple[Breaker, list[str]]], at_most: int) -> "Told":
    """Each fault at each statement; at no more than `at_most` places in all, spread evenly."""
    whole, wrong = one("a full disk", 0)
    told = Told(0, whole.seen, wrong)
    step = max(1, -(-len(FAULTS) * whole.seen // at_most))
    for turn, fault in enumerate(FAULTS):
        for nth in range(1 + turn * step // len(FAULTS), whole.seen + 1, step):
            breaker, wrong = one(fault, nth)
            told.faults += bool(breaker.broke)
            told.wrong += [f"{fault} at {nth}, {breaker.broke[:90]}: {each}" for each in wrong]
    return told


@dataclass
class Told:
    faults: int
    statements: int
    wrong: list[str]


# What a person sees of it


def decide(sign_in: Callable[[], Any], at_most: int) -> Told:
    """`sign_in` gives Django's test client of a reviewer."""
    from approvals.models import Decision, Review
    from tests.conftest import form_of, waiting

    def one(fault: str, nth: int) -> tuple[Breaker, list[str]]:
        review = waiting("scripted")
        page, form, client = f"/reviews/{review.pk}/decide", form_of(review, TEXT), sign_in()
        before = rows()
        with breaking(fault, nth) as breaker:
            answer = client.post(page, form)
        wrong = []
        if breaker.broke:
            wrong += _is_readable(answer)
            if rows() != before:
                wrong.append("something of it was recorded")
            answer = client.post(page, form)
        if answer.status_code != 302:
            wrong.append(f"the form was answered {answer.status_code} where nothing fails")
        if Decision.objects.filter(review=review).count() != 1:
            wrong.append("the review has not one decision")
        if Review.objects.get(pk=review.pk).status != "decided":
            wrong.append("the review is not decided")
        return breaker, wrong

    return everywhere(one, at_most)


def _is_readable(answer: Any) -> list[str]:
    page = answer.content.decode()
    wrong = [] if answer.status_code == 503 else [f"answered {answer.status_code}"]
    if html.escape(TEXT) not in page:
        wrong.append("what was written is not on the page")
    if "Traceback" in page:
        wrong.append("the page is a traceback")
    return wrong


def rows() -> dict[str, str]:
    """Each table, row for row."""
    from django.db import connection

    with connection.cursor() as cursor:
        found = {}
        for table in TABLES:
            cursor.execute(f"SELECT coalesce(string_agg(t::text, '|' ORDER BY t::text), '') "
                           f"FROM {table} t")  # fmt: skip
            found[table] = cursor.fetchone()[0]
    return found


# What a worker does about it


def apply(sign_in: Callable[[], Any], at_most: int) -> Told:
    from approvals.models import Decision
    from tests.conftest import form_of, waiting

    def one(fault: str, nth: int) -> tuple[Breaker, list[str]]:
        review = waiting("scripted")
        sign_in().post(f"/reviews/{review.pk}/decide", form_of(review, TEXT))
        decision = Decision.objects.get(review=review)
        with breaking(fault, nth) as breaker, Watch(str(decision.pk), breaker) as watch:
            wrong = _run(decision)
        decision.refresh_from_db()
        if decision.state != "finished":
            wrong.append(f"ended as {decision.state}: {decision.error}")
        return breaker, [*wrong, *watch.wrong, *watch.look(), *_delivered(review.thread_id)]

    return everywhere(one, at_most)


def _run(decision: Any) -> list[str]:
    """As the queue does it: again, where the task says so of the exception."""
    from approvals.tasks import ResumeRetry
    from tests.conftest import resume

    for _ in range(4):
        try:
            resume(decision)
        except Exception as error:
            again = ResumeRetry().get_retry_decision(exception=error, job=None)  # type: ignore[arg-type]
            if again is None:
                return [f"the job is given up: {error!r}"]
        else:
            return []
    return ["the job failed four times"]


def _delivered(thread_id: str) -> list[str]:
    from tests.conftest import effects

    bodies = {body for _, body in effects(thread_id)}
    return [] if bodies == {TEXT} else [f"delivered {bodies}"]


WHOLE = """
SELECT d.checkpoint_applied <> '' AS applied,
  (SELECT count(*) FROM approvals_auditentry a WHERE a.decision_id = d.id
   AND a.action = 'applied') AS told,
  (SELECT count(*) FROM checkpoints c WHERE c.metadata->>'decision_id' = d.id::text
   AND c.metadata->>'source' = 'update') AS updates,
  d.ended_at IS NOT NULL AS ended,
  (SELECT count(*) FROM approvals_auditentry a WHERE a.decision_id = d.id
   AND a.action IN ('finished', 'failed', 'superseded', 'paused_again')) AS outcomes
FROM approvals_decision d WHERE d.id = %s
"""


class Watch:
    """Looks at a decision all the time, from a thread and a connection of its own: whatever fails,
    nobody may ever see half of what belongs together."""

    def __init__(self, decision_id: str, breaker: Breaker) -> None:
        from tests.conftest import test_url

        self.decision_id, self.breaker, self.url = decision_id, breaker, test_url()
        self.wrong: list[str] = []
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "Watch":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join(10)

    def _watch(self) -> None:
        self.breaker.passed_over = threading.get_ident()
        while not self.over.wait(0.02) and not self.wrong:
            self.wrong += self.look()

    def look(self) -> list[str]:
        with psycopg.connect(self.url) as conn:
            applied, told, updates, ended, outcomes = conn.execute(
                WHOLE, [self.decision_id]
            ).fetchone()
        if (told, updates) != (int(applied), int(applied)):
            return [f"half applied: {applied}, {told} audit entries, {updates} checkpoints"]
        return [] if outcomes == int(ended) else [f"half ended: {ended}, {outcomes} entries"]


# In the house


def play(house: House, rounds: int, kind: str) -> Result:
    child = house.start("tests.faults.statements", kind, str(rounds))
    code = child.wait(60 + rounds)
    said = child.log.read_text().strip().splitlines()
    if code:
        return Result(0, other=[f"the child ended with {code}: {said[-5:]}"])
    told = Told(**json.loads(said[-1]))
    house.worker()
    result = judge(house, told.faults, may_repeat=True)
    result.note = f"{told.faults} faults at {told.statements} statements"
    result.other += told.wrong
    return result


@case("a full disk or a timeout at each statement of decide", rounds=400, short=4)
def each_of_decide(house: House, rounds: int, chance: random.Random) -> Result:
    return play(house, rounds, "decide")


@case("a full disk or a timeout at each statement of apply and run", rounds=600, short=4)
def each_of_apply(house: House, rounds: int, chance: random.Random) -> Result:
    return play(house, rounds, "apply")


def main(kind: str, at_most: str) -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "console.settings")
    import django

    django.setup()
    from django.contrib.auth import get_user_model
    from django.test import Client
    from django.test.utils import setup_test_environment

    setup_test_environment()

    def sign_in() -> Client:
        client = Client(raise_request_exception=False)
        client.force_login(get_user_model().objects.get(username="rita"))
        return client

    told = {"decide": decide, "apply": apply}[kind](sign_in, int(at_most))
    print(json.dumps(vars(told)))


if __name__ == "__main__":
    main(*sys.argv[1:])
