"""People, a worker and other programs do whatever they can think of; a model says what must be.

Hypothesis chooses the steps, and shrinks those that tell the model and the product apart. People
speak HTTP; the worker is the runner in this process, which can be frozen at any of its turns to the
database, and woken later or never; other programs are LangGraph on the same Postgres.

    DATABASE_URL=… python -m tests.faults.steps --seed 7 --examples 125 --steps 40
"""

import argparse
import asyncio
import functools
import json
import os
import re
import sys
import threading
import traceback
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "console.settings")
django.setup()

import psycopg  # noqa: E402
from django.contrib.auth import get_user_model  # noqa: E402
from django.db import connection  # noqa: E402
from django.test import Client  # noqa: E402
from hypothesis import HealthCheck, Phase, note, settings  # noqa: E402
from hypothesis import seed as seeded  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from hypothesis.stateful import (  # noqa: E402
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from procrastinate.contrib.django.utils import connector_params  # noqa: E402
from psycopg_pool import AsyncConnectionPool  # noqa: E402

from approvals import actions, capture, desk_actions, runner  # noqa: E402
from approvals.models import Decision, Review  # noqa: E402
from tests.faults.foreign import Foreign, foreign  # noqa: E402
from tests.faults.model import (  # noqa: E402
    ENDED,
    Case,
    Form,
    Said,
    Thread,
    Truth,
    World,
    truth_of,
)

MOST_THREADS = 4
BLOCKED = 1.0  # seconds after which another program is taken to wait for us
MOST_FROZEN = 3  # runs of one decision: five that die in a row set it aside
LIVE = "status IN ('todo', 'doing') AND task_name = %s AND args->>'decision_id' = %s"
COUNTS: Counter[str] = Counter()

any_one = st.integers(0, 99)
reviewers = st.sampled_from(["rita", "tom"])
people = st.sampled_from(["rita", "rita", "tom", "tom", "mara"])
queues = st.sampled_from(["slow", "quick"])
ACTS = ["updates", "updates", "resumes", "resumes", "new input", "new input", "forks", "deletes"]
acts = st.sampled_from(ACTS)
WAYS = ["once", "once", "twice", "frozen", "frozen", "between", "between", "between"]
INTERLOPES = ["resume", "resume", "update", "passes", "delete"]
ways = st.tuples(st.sampled_from(WAYS), st.integers(0, 60), st.sampled_from(INTERLOPES))
decisions = st.sampled_from(["approve", "approve", "approve", "reject", "send_back"])
desk = st.sampled_from(
    ["claim", "claim", "release", "ask", "ask", "keep", "give", "take", "take", "here"]
)
RACES = ["claim", "claim", "take", "release", "expires", "a program"]


class FreezablePool(AsyncConnectionPool):
    """A worker's pool that stops whoever comes for its connections after `turns` of them."""

    def __init__(self, turns: int) -> None:
        super().__init__(**pool_settings())
        self.turns = turns
        self.frozen, self.woken = asyncio.Event(), asyncio.Event()

    @asynccontextmanager
    async def connection(self, timeout: float | None = None) -> AsyncIterator[Any]:
        if self.turns <= 0:
            self.frozen.set()
            await self.woken.wait()
        self.turns -= 1
        async with super().connection(timeout) as conn:
            yield conn


class Interloper:
    """Another program that comes in between two statements of ours, whichever they are.

    It wraps psycopg's `execute`, and replaces nothing. Its own statements do not count.
    """

    def __init__(self) -> None:
        self.left, self.act = -1, _nothing
        self.there: list[threading.Thread] = []
        self._wrap(psycopg.Cursor, "execute")
        self._wrap(psycopg.Cursor, "executemany")
        self._wrap_async(psycopg.AsyncCursor, "execute")
        self._wrap_async(psycopg.AsyncCursor, "executemany")

    def arm(self, statements: int, act: Callable[[], None]) -> None:
        self.left, self.act = statements, act

    def disarm(self) -> bool:
        """Whether it has come; it is gone again then."""
        came, self.left = self.left < 0, -1
        for thread in self.there:
            thread.join()
        self.there.clear()
        return came

    def comes_now(self) -> bool:
        if self.left < 0:
            return False
        self.left -= 1
        return self.left < 0

    def comes(self) -> None:
        """On a thread of its own, while who was interrupted waits; but not for ever: it may itself
        wait for a row that our transaction has written."""
        thread = threading.Thread(target=self.act)
        thread.start()
        thread.join(BLOCKED)
        self.there.append(thread)

    def _wrap(self, kind: Any, name: str) -> None:
        real = getattr(kind, name)

        @functools.wraps(real)
        def call(cursor: Any, *args: Any, **kwargs: Any) -> Any:
            if self.comes_now():
                self.comes()
            return real(cursor, *args, **kwargs)

        setattr(kind, name, call)

    def _wrap_async(self, kind: Any, name: str) -> None:
        real = getattr(kind, name)

        @functools.wraps(real)
        async def call(cursor: Any, *args: Any, **kwargs: Any) -> Any:
            if self.comes_now():
                self.comes()
            return await real(cursor, *args, **kwargs)

        setattr(kind, name, call)


def _nothing() -> None:
    return


def pool_settings() -> dict[str, Any]:
    kwargs = {**connector_params(), "autocommit": True, "prepare_threshold": None}
    return {"kwargs": kwargs, "min_size": 0, "max_size": 8, "open": False}


class Ground:
    """What all examples share: a loop, the worker's pool, other programs, four people."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.pool = self.do(_opened(AsyncConnectionPool(**pool_settings())))
        url = os.environ["DATABASE_URL"]
        self.foreign: dict[str, Foreign] = {}
        self.ends: list[Any] = []
        for queue in ("slow", "quick"):
            program = foreign(url, queue)
            self.foreign[queue] = self.do(program.__aenter__())
            self.ends.append(program)
        self.interloper = Interloper()
        self.sql = psycopg.connect(url, autocommit=True)
        self.people = {name: _signed_in(name) for name in ("rita", "tom", "mara")}

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    def close(self) -> None:
        for program in self.ends:
            self.do(program.__aexit__(None, None, None))
        self.do(self.pool.close())
        self.sql.close()
        self.loop.close()


async def _opened(pool: Any) -> Any:
    await pool.open(wait=False)
    return pool


def _signed_in(name: str) -> Client:
    client = Client(SERVER_NAME="localhost")
    client.force_login(get_user_model().objects.get(username=name))
    return client


ground: Ground


def pick(rows: list[Any], number: int) -> Any:
    return rows[number % len(rows)]


class Machine(RuleBasedStateMachine):
    """One example: up to four threads, and all that happens to them."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.mark = uuid.uuid4().hex[:8]
        self.number = 0
        self.sleepers: list[tuple[Said, FreezablePool, asyncio.Task[None]]] = []
        COUNTS["examples"] += 1

    def words(self, who: str) -> str:
        self.number += 1
        return f"{who} writes {self.number}"

    def told(self, what: str, *more: Any) -> None:
        COUNTS["steps"] += 1
        COUNTS[what] += 1
        note(f"{what} {' '.join(map(str, more))}")

    def truth(self, thread: Thread) -> Truth:
        return truth_of(ground.do(ground.foreign[thread.queue].state(thread.id)))

    def program(self, thread: Thread) -> Foreign:
        self.world.meddled(thread)
        return ground.foreign[thread.queue]

    # The agent's own program, and others

    @precondition(lambda self: len(self.world.threads) < MOST_THREADS)
    @rule(queue=queues, rounds=st.integers(1, 2), fails=st.booleans(), seen=st.booleans())
    def pauses(self, queue: str, rounds: int, fails: bool, seen: bool) -> None:
        thread = Thread(f"m-{self.mark}-{len(self.world.threads)}", queue, rounds, fails)
        self.world.threads.append(thread)
        self.told("pauses", thread.id, queue, f"rounds={rounds} fails={fails}")
        self.begin(thread)
        if seen:
            self.capture()

    def begin(self, thread: Thread) -> None:
        script = {"rounds": thread.rounds, **({"fail": "out of order"} if thread.fails else {})}
        ground.do(self.program(thread).pause(thread.id, self.words("the agent"), **script))

    @precondition(lambda self: self.world.threads)
    @rule(n=any_one, act=acts)
    def another_program_meddles(self, n: int, act: str) -> None:
        thread = pick(self.world.threads, n)
        before = self.truth(thread)
        if act == "new input":
            self.told(act, thread.id)
            return self.begin(thread)
        if before.head is None:
            return None
        self.told(f"foreign {act}", thread.id)
        return getattr(self, f"program_{act}")(thread, before)

    def program_updates(self, thread: Thread, before: Truth) -> None:
        ground.do(self.program(thread).update(thread.id, self.words("a program")))

    def program_resumes(self, thread: Thread, before: Truth) -> None:
        program = self.program(thread) if before.at else ground.foreign[thread.queue]
        ground.do(program.resume(thread.id))
        if before.leads_to_deliver and thread.lets_pass:
            thread.foreign.append(before.text)

    def program_deletes(self, thread: Thread, before: Truth) -> None:
        ground.do(self.program(thread).delete(thread.id))

    def program_forks(self, thread: Thread, before: Truth) -> None:
        pauses = [c for c in self.world.cases if c.thread is thread and c.kind == "before"]
        for case in filter(self.is_there, pauses[:1]):
            words = self.words("a fork")
            ground.do(self.program(thread).fork(thread.id, case.checkpoint, words))

    def is_there(self, case: Case) -> bool:
        asked = "SELECT 1 FROM checkpoints WHERE thread_id = %s AND checkpoint_id = %s"
        return bool(ground.sql.execute(asked, [case.thread.id, case.checkpoint]).fetchone())

    @precondition(lambda self: any(not t.lets_pass for t in self.world.threads))
    @rule(n=any_one)
    def what_fails_is_mended(self, n: int) -> None:
        thread = pick([t for t in self.world.threads if not t.lets_pass], n)
        self.told("mended", thread.id)
        self.mend(thread)

    def mend(self, thread: Thread) -> None:
        ground.sql.execute("INSERT INTO gates VALUES (%s) ON CONFLICT DO NOTHING", [thread.id])
        thread.mended = True

    # The capture

    @precondition(lambda self: self.world.threads)
    @rule()
    def captures(self) -> None:
        self.told("capture")
        self.capture()

    def capture(self) -> None:
        while capture.capture_batch():
            pass
        for thread in self.world.threads:
            self.compare_reviews(thread)

    def compare_reviews(self, thread: Thread) -> None:
        ours = Decision.objects.filter(review__thread_id=thread.id).exclude(checkpoint_applied="")
        applied = set(ours.exclude(action="continue").values_list("checkpoint_applied", flat=True))
        truth = self.truth(thread)
        for said in self.world.of(thread):
            if said.state == "pending" and said.case.checkpoint != truth.head:
                said.state, said.case.status, said.undoable = "superseded", "superseded", False
        due = self.world.should_be_open(thread, truth, applied)
        for case in self.world.cases:
            if case.thread is thread:
                self.recapture(case, due)
        known = {(c.checkpoint, c.kind) for c in self.world.cases if c.thread is thread}
        for row in Review.objects.filter(thread_id=thread.id).order_by("pk"):
            if (row.checkpoint_id, row.kind) not in known:
                self.learn(thread, row)
        opened = {
            (case.checkpoint, case.kind)
            for case in self.world.cases
            if case.thread is thread and case.is_open and not self.still_stalled(case)
        }
        standing = {(s.case.checkpoint, s.case.kind) for s in self.world.of(thread)} & due
        assert opened | standing == due, f"open {opened}, should be {due}"
        self.every_fork_is_told(thread)

    def every_fork_is_told(self, thread: Thread) -> None:
        asked = (
            "SELECT DISTINCT ours.metadata->>'decision_id' FROM checkpoints ours "
            "JOIN checkpoints theirs USING (thread_id, checkpoint_ns, parent_checkpoint_id) "
            "WHERE thread_id = %s AND theirs.metadata->>'decision_id' IS NULL "
            "AND ours.metadata->>'decision_id' IS NOT NULL"
        )
        forked = {row[0] for row in ground.sql.execute(asked, [thread.id])}
        rows = Decision.objects.filter(review__thread_id=thread.id).exclude(forked_at="")
        told = {str(pk) for pk in rows.values_list("pk", flat=True)}
        assert forked <= told, f"{forked - told} forked, and nobody is told"

    def recapture(self, case: Case, due: set[Any]) -> None:
        is_due = (case.checkpoint, case.kind) in due
        if is_due and case.status == "superseded" and not self.world.standing(case):
            case.status = "stalled" if case.kind == "stalled" else "waiting"
        elif not is_due and case.is_open and not self.still_stalled(case):
            case.ends("superseded")

    def still_stalled(self, case: Case) -> bool:
        """A retry writes nothing to the thread before a worker does, so the capture may not look:
        until then the broken run stays listed, and cannot be tended."""
        busy = any(one.state == "applied" for one in self.world.of(case.thread))
        rows = Review.objects.filter(pk=case.pk, status="stalled")
        return case.kind == "stalled" and busy and rows.exists()

    def learn(self, thread: Thread, row: Review) -> None:
        text = row.values.get("agent_response", "")
        self.world.cases.append(
            Case(row.pk, thread, row.checkpoint_id, row.kind, row.status, row.digest, text)
        )
        assert row.status in {"waiting", "stalled"}, f"a new review is {row.status}"
        assert row.graph == thread.queue

    # Claims

    def cases_to_claim(self) -> list[Case]:
        return [case for case in self.world.cases if case.kind == "before"]

    @precondition(lambda self: self.cases_to_claim())
    @rule(n=any_one, who=people, act=desk, patient=st.booleans())
    def claims(self, n: int, who: str, act: str, patient: bool) -> None:
        """Everything one can do about having a case, whoever has it."""
        case = pick(self.cases_to_claim(), n)
        if patient and case.asked:
            self.half_a_minute_passes(case)
        due, then = self.answer_to_desk(case, who, act, patient)
        self.told(f"{'take over' if act == 'take' else act} {due}", who, case.pk)
        answer = self.at_the_desk(case, who, act)
        assert answer == due, f"answered {answer}, should be {due}"
        then()

    def at_the_desk(self, case: Case, who: str, act: str) -> int:
        said = {"tab": str(uuid.uuid5(uuid.NAMESPACE_OID, who)), "doing": "reading", "active": "0"}
        posted = said if act == "here" else {}
        return int(ground.people[who].post(f"/reviews/{case.pk}/{act}", posted).status_code)

    def half_a_minute_passes(self, case: Case) -> None:
        ground.sql.execute(
            "UPDATE approvals_review SET claim_asked_at = claim_asked_at - interval '31 seconds' "
            "WHERE id = %s",
            [case.pk],
        )

    def answer_to_desk(
        self, case: Case, who: str, act: str, patient: bool
    ) -> tuple[int, Callable[[], None]]:
        """What a button answers, and what it does to the model."""
        waits, theirs = case.status == "waiting", case.holder not in {None, who}
        mine, admin = case.had == who, who == "mara"
        take = _nothing if case.holder == who else functools.partial(case.claimed, who)
        if act == "here":
            return 204, functools.partial(self.worked, case, who)
        if act in {"release", "keep"}:
            free = functools.partial(case.claimed, None)
            kept = functools.partial(setattr, case, "asked", None)
            return 302, (free if act == "release" else kept) if mine else _nothing
        if act == "take" and admin and theirs:
            return 302, functools.partial(case.claimed, None)
        if admin or not waits:
            return 403 if admin else 409, _nothing
        if act == "give":
            asker = functools.partial(case.claimed, case.asked)
            return 302, asker if mine and case.asked else _nothing
        if not theirs:
            return 302, take
        if act == "ask":
            return 302, functools.partial(setattr, case, "asked", who)
        allowed = act == "take" and case.asked == who and patient
        return (302, take) if allowed else (409, _nothing)

    def worked(self, case: Case, who: str) -> None:
        """A page that is open keeps what is theirs, and brings back what nobody took since."""
        if case.had == who and case.status == "waiting":
            case.lapsed = False

    @precondition(lambda self: any(case.holder for case in self.world.cases))
    @rule(n=any_one)
    def claim_expires(self, n: int) -> None:
        case = pick([one for one in self.world.cases if one.holder], n)
        self.told("claim expires", case.pk)
        self.expire(case.pk)
        case.lapsed = True

    def expire(self, pk: int) -> None:
        with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as conn:
            conn.execute(
                "UPDATE approvals_review SET claimed_until = now() - interval '1 second' "
                "WHERE id = %s AND claimed_until IS NOT NULL",
                [pk],
            )

    @precondition(lambda self: self.open_cases())
    @rule(n=any_one, who=reviewers, act=st.sampled_from(RACES), statements=st.integers(0, 60))
    def decides_while_others_are_at_it(self, n: int, who: str, act: str, statements: int) -> None:
        """Between two statements of a decision somebody claims, frees, lets lapse or moves on."""
        case = pick(self.open_cases(), n)
        if case.holder not in {None, who} or self.truth(case.thread).head != case.checkpoint:
            return
        form, had = self.open(case, who), case.holder
        self.told("races", f"{who} decides {case.pk}, {act} after {statements}")
        other = "tom" if who == "rita" else "rita"
        theirs: list[int] = []
        ground.interloper.arm(statements, lambda: self.rival(case, act, who, other, theirs))
        posted = {"digest": form.digest, "checkpoint": form.checkpoint, "key": form.key}
        posted |= {"edit.agent_response": case.text, "action": "approve"}
        answer = ground.people[who].post(f"/reviews/{case.pk}/decide", posted).status_code
        came = ground.interloper.disarm()
        if came and act == "a program":
            self.world.meddled(case.thread)
        self.settle_race(form, who, answer, act, theirs, had)

    def rival(self, case: Case, act: str, who: str, other: str, answers: list[int]) -> None:
        """On a thread of its own, and so on a connection of its own."""
        try:
            if act == "a program":
                self.interlope(case.thread, "update")
            elif act == "expires":
                self.expire(case.pk)
            else:
                by = {"claim": other, "take": "mara", "release": who}[act]
                client = _signed_in(by)
                answers.append(client.post(f"/reviews/{case.pk}/{act}").status_code)
        finally:
            connection.close()

    def settle_race(
        self, form: Form, who: str, answer: int, act: str, theirs: list[int], had: str | None
    ) -> None:
        """Both cannot have it, and one of them does."""
        case = form.case
        lost = act == "claim" and theirs == [302]
        may_lose = lost or act == "a program"
        assert answer in ({302, 409} if act == "a program" else {409} if lost else {302}), (
            f"{who}'s decision was answered {answer}, the other's {act} {theirs}"
        )
        assert not (lost and had), "somebody else claimed what was held"
        assert answer == 302 or may_lose
        if answer == 302:
            self.note_decision(form, who, "approve", case.text)
        elif lost:
            case.claimed("tom" if who == "rita" else "rita")

    # People

    def open_cases(self) -> list[Case]:
        return [case for case in self.world.cases if case.status == "waiting"]

    @precondition(lambda self: self.open_cases())
    @rule(n=any_one, who=reviewers)
    def opens(self, n: int, who: str) -> None:
        """Looks, and keeps the page."""
        self.told("open", who)
        self.open(pick(self.open_cases(), n), who)

    def open(self, case: Case, who: str) -> Form:
        page = ground.people[who].get(f"/reviews/{case.pk}/")
        assert page.status_code == 200, page.status_code
        html = page.content.decode()
        found = {
            name: re.search(rf'name="{name}" value="([^"]+)"', html).group(1)
            for name in ("digest", "checkpoint", "key")
        }
        form = Form(case, **found)
        assert (form.digest, form.checkpoint) == (case.digest, case.checkpoint)
        self.world.forms.append(form)
        return form

    @precondition(lambda self: self.open_cases())
    @rule(n=any_one, who=reviewers, action=st.sampled_from(["approve", "approve", "edit"]))
    def approves_what_waits(self, n: int, who: str, action: str) -> None:
        form = self.open(pick(self.open_cases(), n), who)
        self.decide(form, who, "approve", form.case.text if action == "approve" else "")

    @precondition(lambda self: self.world.forms)
    @rule(
        n=any_one,
        who=people,
        action=st.sampled_from(["approve", "approve", "reject", "send_back"]),
        edits=st.booleans(),
    )
    def sends_a_form_kept_from_before(self, n: int, who: str, action: str, edits: bool) -> None:
        form = pick(self.world.forms, n)
        self.decide(form, who, action, "" if edits or action != "approve" else form.case.text)

    @precondition(lambda self: self.world.said)
    @rule(n=any_one)
    def sends_the_same_form_again(self, n: int) -> None:
        said = pick([s for s in self.world.said if s.action != "continue"] or [None], n)
        if said:
            self.decide(said.form, said.who, said.action, said.text)

    @precondition(lambda self: self.world.forms and self.open_cases())
    @rule(n=any_one, m=any_one, who=reviewers)
    def sends_an_old_page_to_a_newer_review(self, n: int, m: int, who: str) -> None:
        old, case = pick(self.world.forms, n), pick(self.open_cases(), m)
        if old.case is not case:
            form = Form(case, str(uuid.uuid4()), old.digest, old.checkpoint)
            self.decide(form, who, "approve", "")

    def decide(self, form: Form, who: str, action: str, text: str) -> None:
        text = text or self.words(who)
        due = self.answer_to(form, who, action, text)
        self.told(f"{action} {due}", who, form.case.thread.id, form.case.checkpoint, repr(text))
        fields = {"edit.agent_response" if action == "approve" else f"text.{action}": text}
        told = {"digest": form.digest, "checkpoint": form.checkpoint, "key": form.key}
        posted = {**told, **fields, "action": action}
        answer = ground.people[who].post(f"/reviews/{form.case.pk}/decide", posted)
        assert answer.status_code == due, f"answered {answer.status_code}, should be {due}"
        if due == 409:
            assert text in answer.content.decode(), "the text was lost"
        if due == 302 and self.world.by_key(form.key) is None:
            self.note_decision(form, who, action, text)

    def note_decision(self, form: Form, who: str, action: str, text: str) -> None:
        made = Decision.objects.get(idempotency_key=form.key)
        said = Said(str(made.pk), form.case, form, who, action, text)
        said.undoable = form.case.thread.queue == "slow" and action != "continue"
        self.world.said.append(said)
        form.case.ends("decided")

    def answer_to(self, form: Form, who: str, action: str, text: str) -> int:
        """What the page must answer to this form."""
        if known := self.world.by_key(form.key):
            same = (known.who, known.action, known.text) == (who, action, text)
            return 302 if same and known.state != "undone" else 409
        if who == "mara":
            return 403
        moved = self.truth(form.case.thread).head != form.case.checkpoint
        if form.case.status != "waiting" or moved or form.case.holder not in {None, who}:
            return 409
        return 302 if form.checkpoint == form.case.checkpoint else 409

    @precondition(lambda self: self.world.said)
    @rule(n=any_one, who=people)
    def undoes(self, n: int, who: str) -> None:
        said = pick(self.world.said, n)
        self.undo(said, who)

    @precondition(lambda self: any(s.undoable for s in self.world.said))
    @rule(n=any_one)
    def undoes_in_time(self, n: int) -> None:
        said = pick([s for s in self.world.said if s.undoable], n)
        self.undo(said, said.who)

    def undo(self, said: Said, who: str) -> None:
        due = self.answer_to_undo(said, who)
        self.told(f"undo {due}", who, said.pk)
        answer = ground.people[who].post(f"/decisions/{said.pk}/undo")
        assert answer.status_code == due, f"answered {answer.status_code}, should be {due}"
        if due == 302 and said.state == "pending":
            moved = self.truth(said.thread).head != said.case.checkpoint
            said.state, said.undoable = "undone", False
            said.case.status = "superseded" if moved else "waiting"
            said.case.claimed(None if moved else who)

    def answer_to_undo(self, said: Said, who: str) -> int:
        if who != said.who:
            return 404 if said.case.kind == "stalled" else 403
        return 302 if said.state == "undone" or said.undoable else 409

    @precondition(lambda self: any(s.state == "pending" for s in self.world.said))
    @rule(n=any_one)
    def time_passes(self, n: int) -> None:
        """A minute more than the window of one decision."""
        self.pass_time(pick([s for s in self.world.said if s.state == "pending"], n))

    def pass_time(self, said: Said) -> None:
        self.told("time passes", said.pk)
        ground.sql.execute(
            "UPDATE approvals_decision SET apply_after = now() - interval '1 minute', "
            "decided_at = decided_at - interval '1 hour' WHERE id = %s",
            [said.pk],
        )
        said.undoable, said.overdue = False, True

    @precondition(lambda self: self.world.said)
    @rule(n=any_one, who=people)
    def retries(self, n: int, who: str) -> None:
        said = pick(self.world.said, n)
        self.retry(said, who)

    @precondition(lambda self: any(s.state == "failed" for s in self.world.said))
    @rule(n=any_one, who=people)
    def retries_what_failed(self, n: int, who: str) -> None:
        self.retry(pick([s for s in self.world.said if s.state == "failed"], n), who)

    def retry(self, said: Said, who: str) -> None:
        hidden = said.case.kind == "stalled" and who != "mara"
        due = 404 if hidden else 302 if said.state == "failed" else 409
        self.told(f"retry {due}", who, said.pk)
        answer = ground.people[who].post(f"/decisions/{said.pk}/retry")
        assert answer.status_code == due, f"answered {answer.status_code}, should be {due}"
        if due == 302:
            said.state, said.job_lost = "applied", False

    @precondition(lambda self: any(c.kind == "stalled" for c in self.world.cases))
    @rule(n=any_one)
    def the_admin_has_a_broken_run_go_on(self, n: int) -> None:
        case = pick([c for c in self.world.cases if c.kind == "stalled"], n)
        form = Form(case, str(uuid.uuid4()), case.digest, case.checkpoint)
        thread = case.thread
        busy = any(one.is_open for one in self.world.of(thread))
        moved = self.truth(thread).head != case.checkpoint
        due = 409 if case.status != "stalled" or moved or busy else 302
        self.told(f"continue {due}", thread.id)
        posted = {"digest": form.digest, "key": form.key}
        answer = ground.people["mara"].post(f"/reviews/{case.pk}/continue", posted)
        assert answer.status_code == due, f"answered {answer.status_code}, should be {due}"
        if due == 302:
            for one in self.world.of(thread):
                one.state = "superseded" if one.state == "failed" else one.state
            self.note_decision(form, "mara", "continue", "")

    # The worker

    @precondition(lambda self: self.world.said)
    @rule(n=any_one)
    def the_worker_takes(self, n: int) -> None:
        """Any job: due, early, stale, or done before."""
        self.take(pick(self.world.said, n))

    @precondition(lambda self: self.ready())
    @rule(n=any_one, how=ways)
    def the_worker_takes_what_is_due(self, n: int, how: tuple[str, int, str]) -> None:
        self.work(pick(self.ready(), n), *how)

    @precondition(lambda self: self.open_cases())
    @rule(n=any_one, who=reviewers, action=decisions, how=ways)
    def a_case_goes_its_way(self, n: int, who: str, action: str, how: tuple[str, int, str]) -> None:
        """Opened, decided, out of its window and taken: without which few examples get far."""
        form = self.open(pick(self.open_cases(), n), who)
        self.decide(form, who, action, "")
        for said in self.world.standing(form.case):
            self.pass_time(said)
            self.work(said, *how)

    def work(self, said: Said, how: str, number: int, act: str) -> None:
        """The worker takes it; once or twice, to freeze after `number` turns, or with another
        program that comes in between after so many statements."""
        if how == "frozen" and said.frozen < MOST_FROZEN:
            self.freeze(said, number // 4)
        elif how == "between":
            self.take_with_another(said, number, act)
        else:
            for _ in range(2 if how == "twice" else 1):
                self.take(said)

    def ready(self) -> list[Said]:
        return [s for s in self.world.said if s.is_open and not s.undoable]

    def take(self, said: Said) -> None:
        self.told("take", said.pk, said.state)
        if said.undoable:
            try:
                ground.do(runner.resume(said.pk, ground.pool))
            except actions.NotYet:
                return
            raise AssertionError("was taken in its window")
        begun = self.begin_run(said)
        ground.do(runner.resume(said.pk, ground.pool))
        if begun:
            self.end_run(said)
        if not said.job_lost:
            self.job_is_done(said)

    def job_is_done(self, said: Said) -> None:
        """As Procrastinate notes it."""
        ground.sql.execute(
            "UPDATE procrastinate_jobs SET status = 'succeeded' WHERE id = "
            f"(SELECT min(id) FROM procrastinate_jobs WHERE {LIVE})",
            [actions.RESUME_TASK, said.pk],
        )

    def begin_run(self, said: Said) -> bool:
        """Whether there is something to run, as the model sees it just before."""
        if not said.is_open:
            return False
        before = self.truth(said.thread)
        if said.state == "pending":
            if before.head != said.case.checkpoint:
                said.state, said.case.status = "superseded", "superseded"
                return False
            said.state = "applied"
            said.more_rounds = before.delivered + 1 < said.thread.rounds
            if said.action == "continue":
                said.text = before.text
        return True

    def end_run(self, said: Said) -> None:
        row = Decision.objects.get(pk=said.pk)
        state, outcomes = row.state, said.outcomes()
        assert state in outcomes, f"{said.pk} is {state}, should be {outcomes}"
        early = state == "failed" and not row.checkpoint_applied
        assert not early, f"was beaten to it, and is told as failed: {row.error}"
        said.state = state
        exact = not (said.frozen or said.fouled)
        said.delivered = int(exact and said.delivers and state in {"finished", "paused"})

    def freeze(self, said: Said, turns: int) -> None:
        """After so many of its turns to the database; to whoever looks, it has died."""
        self.told("freeze", said.pk, f"after {turns} turns")
        if not self.begin_run(said):
            ground.do(runner.resume(said.pk, ground.pool))
            return self.job_is_done(said)
        said.frozen += 1
        pool = FreezablePool(turns)
        task = ground.do(self.run_until_frozen(said, pool))
        if task.done():
            said.frozen -= 1
            self.end_sleeper(pool, task)
            self.end_run(said)
            return self.job_is_done(said)
        self.sleepers.append((said, pool, task))
        return None

    def take_with_another(self, said: Said, statements: int, act: str) -> None:
        """While the worker applies and runs, between two of its statements."""
        self.told(f"in between: {act}", said.pk, f"after {statements} statements")
        begun = self.begin_run(said)
        ground.interloper.arm(statements, lambda: self.interlope(said.thread, act))
        ground.do(runner.resume(said.pk, ground.pool))
        if not ground.interloper.disarm():
            self.end_run(said) if begun else None
            return self.job_is_done(said)
        COUNTS["came in between"] += 1
        self.world.meddled(said.thread)
        said.thread.foreign = self.delivered_by_others(said.thread)
        if begun:
            self.end_run(said)
            self.adopt_review(said)
        return self.job_is_done(said)

    def interlope(self, thread: Thread, act: str) -> None:
        words = {"update": ["a program's words"], "passes": ["a running program's words"]}

        async def there() -> None:
            async with foreign(os.environ["DATABASE_URL"], thread.queue) as program:
                if (await program.state(thread.id)).created_at or act == "delete":
                    await getattr(program, act)(thread.id, *words.get(act, []))

        asyncio.run(there())

    def delivered_by_others(self, thread: Thread) -> list[str]:
        asked = (
            "SELECT body FROM effects WHERE conversation_id = %s AND decision_id IS NULL "
            "ORDER BY id"
        )
        return [row[0] for row in ground.sql.execute(asked, [thread.id])]

    def adopt_review(self, said: Said) -> None:
        """A decision that came too late to be applied takes its review with it."""
        row = Decision.objects.get(pk=said.pk)
        if row.state == "superseded" and not row.checkpoint_applied:
            said.case.status = "superseded"

    async def run_until_frozen(self, said: Said, pool: FreezablePool) -> "asyncio.Task[None]":
        await pool.open(wait=False)
        task = asyncio.ensure_future(runner.resume(said.pk, pool))
        frozen = asyncio.ensure_future(pool.frozen.wait())
        await asyncio.wait({task, frozen}, return_when="FIRST_COMPLETED")
        # What runs beside what is frozen, a node on a thread of its own, comes to its end.
        await asyncio.sleep(0.05)
        frozen.cancel()
        return task

    def end_sleeper(self, pool: FreezablePool, task: "asyncio.Task[None]") -> None:
        async def end() -> None:
            await task
            await pool.close()

        ground.do(end())

    @precondition(lambda self: self.sleepers)
    @rule(n=any_one)
    def a_frozen_worker_wakes(self, n: int) -> None:
        self.wake(self.sleepers.pop(n % len(self.sleepers)))

    def wake(self, sleeper: tuple[Said, FreezablePool, "asyncio.Task[None]"]) -> None:
        said, pool, task = sleeper
        self.told("wake", said.pk, said.state)
        pool.turns = 1_000_000
        pool.woken.set()
        self.end_sleeper(pool, task)
        if said.state == "applied":
            self.may_have_ended(said)

    def may_have_ended(self, said: Said) -> None:
        """It went on, unless another had taken its run over, or frozen after it."""
        state = Decision.objects.values_list("state", flat=True).get(pk=said.pk)
        outcomes = said.outcomes() | {"applied"}
        assert state in outcomes, f"{said.pk} is {state}, should be {outcomes}"
        said.state = state

    # The queue

    @precondition(lambda self: any(s.is_open for s in self.world.said))
    @rule(n=any_one)
    def a_job_is_lost(self, n: int) -> None:
        said = pick([s for s in self.world.said if s.is_open], n)
        self.told("job lost", said.pk)
        named = [actions.RESUME_TASK, said.pk]
        ground.sql.execute(f"DELETE FROM procrastinate_jobs WHERE {LIVE}", named)
        said.job_lost = True

    @precondition(lambda self: self.world.said)
    @rule()
    def the_sweeper_looks(self) -> None:
        self.told("sweep")
        self.sweep()

    def sweep(self) -> None:
        actions.requeue_lost()
        desk_actions.free_ended()
        for case in self.world.cases:
            case.claimed(None) if case.lapsed else None
        for said in self.world.said:
            said.job_lost &= not said.overdue

    # What must hold after each step

    @invariant()
    def decisions_are_what_the_model_says(self) -> None:
        threads = [thread.id for thread in self.world.threads]
        rows = Decision.objects.filter(review__thread_id__in=threads).select_related("review")
        found = {str(row.pk): row for row in rows}
        assert found.keys() == {said.pk for said in self.world.said}
        for said in self.world.said:
            self.compare(said, found[said.pk])

    def compare(self, said: Said, row: Decision) -> None:
        assert row.state == said.state, f"{said.pk} is {row.state}, should be {said.state}"
        assert (row.ended_at is not None) == (row.state in ENDED)
        jobs = self.jobs(said)
        if said.is_open:
            assert bool(jobs) != said.job_lost, f"{said.pk} has {jobs} jobs"
        if said.state in {"undone", "pending"}:
            assert not row.checkpoint_applied
        if row.checkpoint_applied and said.action != "continue":
            self.was_applied_to_what_was_seen(said, row.checkpoint_applied)

    def jobs(self, said: Said) -> int:
        asked = f"SELECT count(*) FROM procrastinate_jobs WHERE {LIVE}"
        return int(ground.sql.execute(asked, [actions.RESUME_TASK, said.pk]).fetchone()[0])

    def was_applied_to_what_was_seen(self, said: Said, applied: str) -> None:
        asked = (
            "SELECT parent_checkpoint_id, metadata->>'decision_id' FROM checkpoints "
            "WHERE thread_id = %s AND checkpoint_ns = '' AND checkpoint_id = %s"
        )
        found = ground.sql.execute(asked, [said.thread.id, applied]).fetchone()
        if found is not None:  # else another program has deleted the thread
            way_back = self.way_back(said, found[0])
            assert said.case.checkpoint in way_back, f"{said.pk} is applied to {found[0]}"
            assert found[1] == said.pk

    def way_back(self, said: Said, checkpoint: str) -> set[str]:
        """The checkpoint, and those before it that this very decision wrote."""
        asked = (
            "SELECT parent_checkpoint_id FROM checkpoints WHERE thread_id = %s "
            "AND checkpoint_id = %s AND metadata->>'decision_id' = %s"
        )
        passed, at = {checkpoint}, [said.thread.id, checkpoint, said.pk]
        while found := ground.sql.execute(asked, at).fetchone():
            passed.add(found[0])
            at[1] = found[0]
        return passed

    @invariant()
    def reviews_are_what_the_model_says(self) -> None:
        asked = [case.pk for case in self.world.cases]
        rows = dict(Review.objects.filter(pk__in=asked).values_list("pk", "status"))
        for case in self.world.cases:
            assert rows[case.pk] == case.status, (
                f"review {case.pk} of {case.thread.id} {case.checkpoint} is {rows[case.pk]}, "
                f"should be {case.status}"
            )
        self.claims_are_what_the_model_says(asked)

    def claims_are_what_the_model_says(self, asked: list[int]) -> None:
        rows = ground.sql.execute(
            "SELECT r.id, u.username, r.claimed_until > clock_timestamp(), a.username "
            "FROM approvals_review r LEFT JOIN auth_user u ON u.id = r.claimed_by_id "
            "LEFT JOIN auth_user a ON a.id = r.claim_asked_by_id WHERE r.id = ANY(%s)",
            [asked],
        ).fetchall()
        found = {pk: (had, bool(had and not counts), by) for pk, had, counts, by in rows}
        for case in self.world.cases:
            due = (case.had, case.lapsed, case.asked)
            assert found[case.pk] == due, f"review {case.pk}: {found[case.pk]}, should be {due}"

    @invariant()
    def what_was_delivered_is_what_was_decided(self) -> None:
        for thread in self.world.threads:
            rows = ground.sql.execute(
                "SELECT decision_id, body FROM effects WHERE conversation_id = %s ORDER BY id",
                [thread.id],
            ).fetchall()
            theirs = [body for key, body in rows if key is None]
            assert theirs == thread.foreign, f"others delivered {theirs}, not {thread.foreign}"
            ours = [(key, body) for key, body in rows if key is not None]
            assert {key for key, _ in ours} <= {said.pk for said in self.world.of(thread)}
            for said in self.world.of(thread):
                self.compare_deliveries(said, [body for key, body in ours if key == said.pk])

    def compare_deliveries(self, said: Said, texts: list[str]) -> None:
        if said.state in {"pending", "undone"} or (said.state == "superseded" and not said.fouled):
            continued = said.state == "superseded" and said.delivered
            assert not texts or continued, f"{said.state}, and delivered {texts}"
            return
        assert set(texts) <= {said.text}, f"delivered {texts}, decided {said.text!r}"
        due = said.deliveries()
        assert len(texts) in due, (
            f"{said.pk} ({said.state}) delivered {len(texts)} times, not {due}"
        )
        COUNTS["repeats"] += max(0, len(texts) - 1) if said.state in ENDED else 0

    # The end of an example

    def teardown(self) -> None:
        """Everything is run to its end, unless a step has failed: every question has been answered
        then."""
        try:
            if self.world.threads and sys.exc_info()[0] is None:
                self.settle()
        finally:
            for _, pool, task in self.sleepers:
                ground.do(_dropped(pool, task))

    def settle(self) -> None:
        for _ in range(6):
            for said in self.world.said:
                if said.state == "pending":
                    self.pass_time(said)
            self.catch_up()
            self.check()
            if not self.open_cases():
                break
            for case in self.open_cases():
                who = case.holder or "rita"
                self.decide(self.open(case, who), who, "approve", case.text)
        assert not self.open_cases(), "it never ends"
        while self.sleepers:
            self.wake(self.sleepers.pop())
        self.check()
        self.capture()
        self.check()
        assert all(said.state in ENDED for said in self.world.said)

    def catch_up(self) -> None:
        """What a worker does that has time: sweeps, takes every job that is due, captures."""
        for said in self.world.said:
            if said.is_open and not said.overdue:
                self.pass_time(said)
        self.sweep()
        for said in self.world.said:
            while self.jobs(said):
                self.take(said)
        for said in self.world.said:
            assert said.state in ENDED, f"{said.pk} is {said.state} for ever"
        self.capture()

    def check(self) -> None:
        self.decisions_are_what_the_model_says()
        self.reviews_are_what_the_model_says()
        self.what_was_delivered_is_what_was_decided()


async def _dropped(pool: FreezablePool, task: "asyncio.Task[None]") -> None:
    task.cancel()
    with suppress(BaseException):
        await task
    await pool.close()


# The program


def run(seed: int, examples: int, steps: int) -> str:
    """What told the model and the product apart, with the steps that do it; "" if nothing did."""
    told = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    try:
        run_state_machine_as_test(seeded(seed)(Machine), settings=told)
    except BaseException as error:
        notes = "\n".join(getattr(error, "__notes__", []))
        return f"{traceback.format_exc(limit=-2, chain=False)}\n{notes}"
    return ""


def main() -> None:
    global ground
    asked = argparse.ArgumentParser()
    asked.add_argument("--seed", type=int, default=1)
    asked.add_argument("--examples", type=int, default=125)
    asked.add_argument("--steps", type=int, default=40)
    told = asked.parse_args()
    ground = Ground()
    wrong = run(told.seed, told.examples, told.steps)
    ground.close()
    print(json.dumps({"wrong": wrong, "counts": COUNTS}))


if __name__ == "__main__":
    main()
