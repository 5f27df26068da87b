"""Everybody at once: people, the worker and other programs on one review at the same instant."""

import json
import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.faults.catalogue import Result, case
from tests.faults.house import Child, House, eventually, names
from tests.faults.oracle import judge
from tests.faults.workers import QUICK, captured

MAKE_PEOPLE = """
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.test import Client
for n in range({people}):
    person, _ = get_user_model().objects.get_or_create(username=f"person-{{n}}")
    person.groups.set(Group.objects.filter(name="scripted-reviewers"))
    client = Client()
    client.force_login(person)
    print(client.cookies["sessionid"].value)
"""


def crowd(house: House, addresses: Sequence[str], people: int) -> list[httpx.Client]:
    """So many people, each with a session of their own, spread over the webs."""
    told = MAKE_PEOPLE.format(people=people)
    child = house.start("manage.py", "shell", "-v", "0", "-c", told)
    assert child.wait(60) == 0, child.log.read_text()[-2000:]
    sessions = child.log.read_text().split()[-people:]
    token = "t" * 32
    return [
        httpx.Client(
            base_url=addresses[n % len(addresses)],
            cookies={"sessionid": session, "csrftoken": token},
            headers={"X-CSRFToken": token},
            trust_env=False,
            verify=False,  # noqa: S501  - there is no TLS here; a context for it takes 30 ms
            timeout=60,
        )
        for n, session in enumerate(sessions)
    ]


def patient(send: Callable[[], httpx.Response], busy: list[float]) -> httpx.Response:
    """As a person does whom a busy web asks to try again: the same form once more."""
    while (answer := send()).status_code == 503:
        busy.append(time.monotonic())
        time.sleep(0.2)
    return answer


def sleep_until(moment: float) -> None:
    """`moment` is of time.time(), which is Postgres's clock too: it runs on this machine."""
    time.sleep(max(0.0, moment - time.time()))


# Fifty people, one review


@case("fifty people decide one review at the same instant", rounds=100, short=1)
def fifty_people(house: House, rounds: int, chance: random.Random) -> Result:
    people = 50 if rounds > 2 else 20
    reviews = captured(house, names(rounds))
    webs = [house.web() for _ in range(4 if rounds > 2 else 2)]
    clients = crowd(house, [web.address for web in webs], people)
    house.worker()
    wrong: list[str] = []
    busy: list[float] = []
    keys = []
    spread = []
    with ThreadPoolExecutor(people) as threads:
        for pk in reviews.values():
            began = time.monotonic()
            forms = _forms(house, clients, pk)
            barrier = threading.Barrier(people)

            def press(n: int, pk: int = pk, forms: Any = forms, barrier: Any = barrier) -> Any:
                barrier.wait()
                send = lambda: house.approve(clients[n], pk, _text(n), forms[n])  # noqa: E731
                return patient(send, busy)

            answers = list(threads.map(press, range(people)))
            keys += [forms[n]["key"] for n, one in enumerate(answers) if one.status_code == 302]
            wrong += _told_apart(answers, pk)
            spread.append(time.monotonic() - began)
    result = judge(house, rounds, keys=keys)
    result.other += wrong
    result.other += _one_decision_each(house, reviews.values())
    result.note = f"{people} people, {len(webs)} webs, {max(spread):.2f} s at most, {len(busy)}×503"
    return result


def _text(n: int) -> str:
    return f"Person {n} wrote exactly this."


def _forms(house: House, clients: list[httpx.Client], pk: int) -> list[dict[str, str]]:
    """The page is the same for all but for its key, so one opens it and all have keys of theirs."""
    seen = house.form(clients[pk % len(clients)], pk)
    return [{**seen, "key": str(uuid.uuid4())} for _ in clients]


def _told_apart(answers: list[httpx.Response], pk: int) -> list[str]:
    counted = Counter(answer.status_code for answer in answers)
    wrong = []
    if counted != {302: 1, 409: len(answers) - 1}:
        wrong.append(f"review {pk} was answered {dict(counted)}")
    for n, answer in enumerate(answers):
        if answer.status_code == 409 and _text(n) not in answer.text:
            wrong.append(f"review {pk}: the text of person {n} was lost")
    return wrong


def _one_decision_each(house: House, reviews: Any) -> list[str]:
    counted = dict(
        house.sql("SELECT review_id, count(*) FROM approvals_decision GROUP BY review_id")
    )
    return [f"review {pk}: {counted.get(pk)} decisions" for pk in reviews if counted.get(pk) != 1]


# Approve, undo, and the worker's take

WINDOW = 1.0


@dataclass
class Tale:
    """One review: what was sent by whom, and how it was answered."""

    thread: str
    pk: int
    decision: str = ""
    undo: int = 0
    second: int = 0
    keys: tuple[str, ...] = ()
    words: str = ""


@case("approve, undo and the worker's take, in all orders", rounds=120, short=3)
def all_orders(house: House, rounds: int, chance: random.Random) -> Result:
    """Rita decides; then her undo, Tom's approval of the same page and the worker's take come in
    each of the six orders, some milliseconds apart. A take that is too early is told to wait."""
    env = house.settings(undo_window=WINDOW)
    reviews = captured(house, names(rounds))
    webs = [house.web(**env).address for _ in range(2)]
    for _ in range(2):
        house.worker(**env, **QUICK)
    orders = [["undo", "tom", "take"], ["undo", "take", "tom"], ["tom", "undo", "take"]]
    orders += [["tom", "take", "undo"], ["take", "undo", "tom"], ["take", "tom", "undo"]]
    plans = [
        (thread, pk, orders[n % 6], chance.uniform(0.1, 0.9), chance.uniform(0, 0.03))
        for n, (thread, pk) in enumerate(reviews.items())
    ]
    rita = [house.person(web, "rita") for web in webs]
    tom = [house.person(web, "tom") for web in webs]

    def one(plan: Any) -> Tale:
        thread, pk, order, wait, apart = plan
        return _one_order(house, rita[pk % 2], tom[pk // 2 % 2], thread, pk, order, wait, apart)

    with ThreadPoolExecutor(min(8, rounds)) as pool:
        tales = list(pool.map(one, plans))
    result = judge(house, rounds, keys=[key for tale in tales for key in tale.keys])
    result.other += [wrong for tale in tales for wrong in _ends_as_told(house, tale)]
    told = Counter(tale.words for tale in tales)
    result.note = ", ".join(f"{number}× {words}" for words, number in sorted(told.items()))
    return result


def _one_order(
    house: House, rita: Any, tom: Any, thread: str, pk: int, order: Any, wait: float, apart: float
) -> Tale:
    tale = Tale(thread, pk)
    his = house.form(tom, pk)
    hers = house.form(rita, pk)
    answer = house.approve(rita, pk, "Rita's words", hers)
    assert answer.status_code == 302, answer.text[:1000]
    tale.keys = (hers["key"],)
    tale.decision = house.sql(
        "SELECT id::text FROM approvals_decision WHERE idempotency_key = %s", hers["key"]
    )[0][0]

    def undo() -> None:
        tale.undo = rita.post(f"/decisions/{tale.decision}/undo").status_code

    def second() -> None:
        tale.second = house.approve(tom, pk, "Tom's words", his).status_code
        if tale.second == 302:
            tale.keys += (his["key"],)

    acts = {"undo": undo, "tom": second, "take": lambda: _due_now(house, tale.decision)}
    time.sleep(wait)
    with ThreadPoolExecutor(3) as pool:
        moment = time.time() + 0.01
        waits = [pool.submit(_at, moment + n * apart, acts[name]) for n, name in enumerate(order)]
        for one in waits:
            one.result()
    return tale


def _at(moment: float, act: Callable[[], Any]) -> None:
    sleep_until(moment)
    act()


def _due_now(house: House, decision: str) -> None:
    """Has the worker look at a job before its time, as one with a clock that is ahead would."""
    house.sql(
        "UPDATE procrastinate_jobs SET scheduled_at = NULL "
        "WHERE status = 'todo' AND args->>'decision_id' = %s",
        decision,
    )
    house.sql(
        "SELECT pg_notify('procrastinate_any_queue_v1', "
        """'{"type": "job_inserted", "job_id": 0}')"""
    )


def _ends_as_told(house: House, tale: Tale) -> list[str]:
    """What the three were told is what came of it."""
    states = [
        row[0]
        for row in house.sql(
            "SELECT state FROM approvals_decision WHERE review_id = %s ORDER BY decided_at", tale.pk
        )
    ]
    taken_back = tale.undo == 302
    bodies = [
        row[0]
        for row in house.sql("SELECT body FROM effects WHERE conversation_id = %s", tale.thread)
    ]
    tale.words = (
        "undone, then Tom's" if tale.second == 302 else "undone" if taken_back else "Rita's"
    )
    due = {
        "undone, then Tom's": (["undone", "finished"], ["Tom's words"]),
        "undone": (["undone"], []),
        "Rita's": (["finished"], ["Rita's words"]),
    }[tale.words]
    wrong = []
    if (states, bodies) != due:
        wrong.append(f"{tale.thread}: {tale.words}, and it is {states} with {bodies}")
    if tale.undo not in {302, 409} or tale.second not in {302, 409}:
        wrong.append(f"{tale.thread}: answered {tale.undo} and {tale.second}")
    if tale.second == 302 and not taken_back:
        wrong.append(f"{tale.thread}: two people were told that they decided it")
    return wrong


# Undo at the very edge of its window


@case("undo at the edge of its window, against the job that starts", rounds=200, short=3)
def undo_at_the_edge(house: House, rounds: int, chance: random.Random) -> Result:
    """An undo is on its way for some milliseconds: each is sent so much earlier than it should
    arrive as the ones before it took, then −40 to +40 ms at random."""
    env = house.settings(undo_window=WINDOW)
    reviews = captured(house, names(rounds))
    webs = [house.web(**env).address for _ in range(2)]
    for _ in range(2):
        house.worker(**env, **QUICK)
    clients = [house.person(web) for web in webs]
    took = [0.03]
    plans = [(thread, pk, chance.uniform(-0.04, 0.04)) for thread, pk in reviews.items()]

    def one(plan: tuple[str, int, float]) -> tuple[str, str, int, str]:
        thread, pk, off = plan
        client = clients[pk % 2]
        form = house.form(client, pk)
        assert house.approve(client, pk, f"Reply of {thread}", form).status_code == 302
        decision, ends = house.sql(
            "SELECT id::text, extract(epoch FROM apply_after)::float8 FROM approvals_decision "
            "WHERE idempotency_key = %s",
            form["key"],
        )[0]
        early = sorted(took)[len(took) // 2]
        sleep_until(ends + off - early)
        sent = time.time()
        answer = client.post(f"/decisions/{decision}/undo")
        took.append((time.time() - sent) / 2)
        return thread, decision, answer.status_code, form["key"]

    with ThreadPoolExecutor(min(8, rounds)) as pool:
        told = list(pool.map(one, plans))
    result = judge(house, rounds, keys=[key for *_, key in told])
    result.other += _undone_or_applied(house, told)
    counted = Counter("undone" if status == 302 else "too late" for _, _, status, _ in told)
    result.note = ", ".join(f"{number} {words}" for words, number in sorted(counted.items()))
    return result


def _undone_or_applied(house: House, told: Any) -> list[str]:
    rows = house.sql("SELECT id::text, state, checkpoint_applied FROM approvals_decision")
    states = {pk: (state, bool(applied)) for pk, state, applied in rows}
    sent = Counter(row[0] for row in house.sql("SELECT decision_id FROM effects"))
    wrong = []
    for thread, decision, status, _ in told:
        due = {302: ("undone", False, 0), 409: ("finished", True, 1)}.get(status)
        found = (*states[decision], sent[decision])
        if found != due:
            wrong.append(f"{thread}: the undo was answered {status}, and it is {found}")
    return wrong


# Other programs, at a random moment


WHEN = {
    "decided": "SELECT 1 FROM approvals_decision WHERE idempotency_key = %s",
    "taken": "SELECT 1 FROM approvals_decision WHERE idempotency_key = %s AND epoch > 0",
    "applied": "SELECT 1 FROM approvals_decision WHERE idempotency_key = %s AND state <> 'pending'",
}


@dataclass(frozen=True)
class Meddling:
    """What another program does to the thread of a review: so long after the decision was made,
    taken by a worker, or applied."""

    thread: str
    pk: int
    act: str
    when: str
    delay: float  # seconds; before the decision where it is negative


@case("another program resumes or updates the thread while it is decided", rounds=100, short=4)
def foreign_programs(house: House, rounds: int, chance: random.Random) -> Result:
    threads = names(rounds)
    reviews = captured(house, threads, sleep=0.1)
    web = house.web().address
    for _ in range(2):
        house.worker(**QUICK)
    client = house.person(web)
    acts, whens = [chance.choice(["resume", "update"]) for _ in threads], [*WHEN, "applied"]
    delays = {"decided": (-0.05, 0.05), "taken": (0.0, 0.04), "applied": (0.0, 0.25)}
    plans = [
        Meddling(thread, pk, act, when := whens[n % 4], chance.uniform(*delays[when]))
        for n, ((thread, pk), act) in enumerate(zip(reviews.items(), acts, strict=True))
    ]
    with ThreadPoolExecutor(min(6, rounds)) as pool:
        keys = list(pool.map(lambda plan: _decide_meanwhile(house, client, plan), plans))
    result = judge(house, rounds, keys=[k for k in keys if k], foreign=threads, superseded=threads)
    told = Counter(_outcome(house, client, result, plan) for plan in plans)
    result.note = ", ".join(f"{number}× {words}" for words, number in sorted(told.items()))
    return result


def _decide_meanwhile(house: House, client: httpx.Client, plan: Meddling) -> str:
    """The decision's key, if it was taken."""
    form = house.form(client, plan.pk)
    go = house.folder / f"go-{plan.thread}"
    other = _meddler(house, plan, str(go))
    ready = lambda: other.log.exists() and "ready" in other.log.read_text()  # noqa: E731
    eventually(ready, 30, f"the other program is ready ({other.log})", 0.01)
    with ThreadPoolExecutor(1) as pool:
        signal = pool.submit(_give_the_sign, house, plan, form["key"], go)
        time.sleep(max(0.0, -plan.delay))
        answer = house.approve(client, plan.pk, f"Reply of {plan.thread}", form)
        signal.result()
    assert other.wait(30) == 0, other.log.read_text()[-2000:]
    assert answer.status_code in {302, 409}, answer.text[:1000]
    return form["key"] if answer.status_code == 302 else ""


def _give_the_sign(house: House, plan: Meddling, key: str, go: Path) -> None:
    """Also where it never comes to that: the other program acts in any case."""
    if plan.delay > 0:
        with suppress(TimeoutError):
            eventually(lambda: house.sql(WHEN[plan.when], key), 10, plan.when, 0.001)
        time.sleep(plan.delay)
    go.touch()


def _meddler(house: House, plan: Meddling, go: str) -> Child:
    told = {"act": plan.act, "thread": plan.thread, "go": go}
    if plan.act == "update":
        told["text"] = "Another program's words"
    return house.start("tests.faults.foreign", json.dumps(told))


def _outcome(house: House, client: Any, result: Result, plan: Meddling) -> str:
    """What became of it, in a word; whatever nobody was told of is added to the result."""
    thread, pk, act = plan.thread, plan.pk, plan.act
    rows = house.sql(
        "SELECT state, checkpoint_applied, forked_at, id::text FROM approvals_decision "
        "WHERE review_id = %s",
        pk,
    )
    if not rows:
        return f"{act}: refused"
    state, applied, forked_at, decision = rows[0]
    forked = _forks(house, thread, decision)
    if forked and not forked_at:
        result.other.append(f"{thread}: a fork at {forked} that nobody was told of ({state})")
    if forked_at and not forked:
        result.other.append(f"{thread}: told of a fork that is none")
    page = client.get(f"/reviews/{pk}/").text
    if forked_at and "This thread forked" not in page:
        result.other.append(f"{thread}: the page of review {pk} does not tell of the fork")
    if not applied:
        return f"{act}: not applied"
    return f"{act}: {state}{', forked' if forked else ''}"


def _forks(house: House, thread: str, decision: str) -> list[str]:
    """Checkpoints that both the decision's run and another program went on from."""
    rows = house.sql(
        "SELECT a.parent_checkpoint_id FROM checkpoints a JOIN checkpoints b "
        "ON a.thread_id = b.thread_id AND a.checkpoint_ns = b.checkpoint_ns "
        "AND a.parent_checkpoint_id = b.parent_checkpoint_id "
        "WHERE a.thread_id = %s AND a.metadata->>'decision_id' = %s "
        "AND b.metadata->>'decision_id' IS DISTINCT FROM %s",
        *(thread, decision, decision),
    )
    return [row[0] for row in rows]
