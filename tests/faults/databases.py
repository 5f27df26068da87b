"""Postgres goes away, comes back, and its last word is lost."""

import asyncio
import datetime as dt
import html
import json
import random
import re
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import httpx
import psycopg
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from websockets.sync.client import ClientConnection, connect

from tests.faults.agent import first
from tests.faults.catalogue import Result, case
from tests.faults.house import House, Web, eventually, names
from tests.faults.oracle import judge
from tests.faults.proxy import Proxy
from tests.faults.workers import captured, decide_all
from tests.graphs.scripted import builder

AWAY = (psycopg.OperationalError, psycopg.InterfaceError)
SOON = 10.0  # seconds in which everything is as it was, once Postgres is back


def reply(thread: str) -> str:
    return f"Reply of <{thread}>"


def waiting(house: House, threads: Sequence[str], **env: str) -> dict[str, int]:
    """thread: review; the worker that captured them goes on working."""
    house.worker(**env)
    house.run(threads, durability="exit")
    return house.reviews(threads)


# Its last word is lost: the COMMIT is done, and the connection cut before the client hears of it

DECIDES = 'INSERT INTO "approvals_decision"'
APPLYING = (
    "\"state\" = 'applied'",  # the decision into its thread
    "INSERT INTO checkpoints",  # and each step of its run
    "INSERT INTO checkpoint_writes",  # what a node did
    "\"state\" = 'finished'",  # how it ended
    "DELETE FROM approvals_threadchange",  # the capture's
)


@case("web: COMMIT is done, and its answer lost", rounds=20, short=1)
def commits_of_web(house: House, rounds: int, chance: random.Random) -> Result:
    reviews, keys, other = waiting(house, names(rounds)), [], []
    with Proxy(house.url) as proxy:
        client = house.person(house.web(DATABASE_URL=proxy.url).address)
        for n, (thread, pk) in enumerate(reviews.items(), 1):
            form = house.form(client, pk)
            proxy.cut_commits(DECIDES)
            other += _is_a_page(house.approve(client, pk, reply(thread), form), reply(thread))
            if len(proxy.cuts) != n:
                other.append(f"{thread}: nothing was cut")
            again = house.approve(client, pk, reply(thread), form)
            if again.status_code == 302:
                keys.append(form["key"])
            else:
                other.append(f"{thread}: the same form again was answered {again.status_code}")
        result = judge(house, rounds, keys=keys)
    result.other += [*other, *_decisions_are(house, rounds)]
    return result


def _is_a_page(answer: httpx.Response, text: str) -> list[str]:
    """What is wrong with the page that a person gets whose decision may, or may not, be made."""
    wrong = [] if answer.status_code == 503 else [f"answered {answer.status_code}, not 503"]
    if html.escape(text) not in answer.text:
        wrong.append("what was written is not on the page")
    if "Traceback" in answer.text:
        wrong.append("the page is a traceback")
    if "Nothing was recorded" in answer.text:
        wrong.append("the page says that nothing was recorded, and it was")
    return wrong


def _decisions_are(house: House, number: int) -> list[str]:
    ((found,),) = house.sql("SELECT count(*) FROM approvals_decision")
    return [] if found == number else [f"{found} decisions, not {number}"]


@case("worker: COMMIT is done, and its answer lost", rounds=20, short=1)
def commits_of_a_worker(house: House, rounds: int, chance: random.Random) -> Result:
    reviews = captured(house, names(rounds))
    keys = decide_all(house, house.web().address, reviews)
    with Proxy(house.url) as proxy:
        for text in APPLYING:
            proxy.cut_commits(text, times=max(1, rounds // len(APPLYING)))
        began = time.monotonic()
        house.worker(DATABASE_URL=proxy.url)
        result = judge(house, rounds, keys=keys, may_repeat=True)
        result.note = f"{len(proxy.cuts)} cut, all done in {time.monotonic() - began:.1f} s"
    for text in set(APPLYING) - set(proxy.cuts):
        result.other.append(f"nothing was cut after {text}")
    return result


@case("every connection is cut, and none is taken for 2 s", rounds=5, short=1)
def cut_off(house: House, rounds: int, chance: random.Random) -> Result:
    with Proxy(house.url) as proxy:
        reviews, slowest = waiting(house, names(4 * rounds), DATABASE_URL=proxy.url), 0.0
        web = house.web(DATABASE_URL=proxy.url)
        client, items = house.person(web.address), list(reviews.items())
        keys: list[str] = []
        for n in range(rounds):
            proxy.refuse(2)
            began = time.monotonic()
            for thread, pk in items[4 * n : 4 * n + 4]:
                keys.append(_stubborn(client, pk, reply(thread), began + 60))
            eventually(lambda: _open(house) == 0, 60, "all runs end")
            slowest = max(slowest, time.monotonic() - began - 2)
        result = judge(house, rounds, keys=keys, may_repeat=True)
    return _soon(result, {"all": [slowest]})


def _open(house: House) -> int:
    return int(house.sql("SELECT count(*) FROM approvals_decision WHERE ended_at IS NULL")[0][0])


def _stubborn(client: httpx.Client, pk: int, text: str, deadline: float) -> str:
    """Opens the page and posts its form, both until they are taken; the form's key."""
    page = _until(lambda: client.get(f"/reviews/{pk}/"), {200}, deadline)
    form = _fields(page.text)
    told = {**form, "edit.agent_response": text}
    _until(lambda: client.post(f"/reviews/{pk}/decide", data=told), {302}, deadline)
    return form["key"]


def _until(ask: Callable[[], httpx.Response], codes: set[int], deadline: float) -> httpx.Response:
    """The first answer of these codes; until then only 503 is borne. Raises Answered."""
    while time.monotonic() < deadline:
        try:
            answer = ask()
        except httpx.TransportError as error:
            raise Answered(f"no answer at all: {error!r}") from error
        if answer.status_code in codes:
            return answer
        if answer.status_code != 503:
            raise Answered(f"{answer.status_code}: {answer.text[:300]}")
        time.sleep(0.1)
    raise TimeoutError(f"not answered {codes} in time")


def _fields(page: str) -> dict[str, str]:
    return {
        name: re.search(rf'name="{name}" value="([^"]+)"', page)[1]  # type: ignore[index]
        for name in ("digest", "checkpoint", "key")
    }


class Answered(Exception):
    """Otherwise than a person may be, when the database is away."""


def _soon(result: Result, took: dict[str, list[float]]) -> Result:
    """Judges how long each part took to recover, and notes the worst."""
    worst = {name: max(times, default=0.0) for name, times in took.items()}
    result.note = ", ".join(f"{name} back in {most:.1f} s at worst" for name, most in worst.items())
    result.note += "".join(
        f" (mostly {median(times):.1f} s)" for times in list(took.values())[-1:] if len(times) > 2
    )
    for name, times in took.items():
        for late in (seconds for seconds in times if seconds > SOON):
            result.stuck += 1
            result.details.append(f"stuck: {name} needed {late:.1f} s to recover")
    return result


# It is ended at once, as by a power cut, and started again

# A node that meets the restart itself fails with the database's error; it may be tried again.
TRIED_AGAIN = {"retry": {"times": 8, "wait": 0.5, "on": ["psycopg.Error"]}}


@case("Postgres restarts again and again under load", rounds=14, short=1)
def restarts(house: House, rounds: int, chance: random.Random) -> Result:
    settings = house.settings(**TRIED_AGAIN)
    for _ in range(2):
        house.worker(**settings)
    webs = [house.web(**settings) for _ in range(2)]
    load = Load(house, webs)
    took: dict[str, list[float]] = {"web": [], "worker": []}
    with load:
        eventually(lambda: len(load.keys) > 2, 30, "the load begins")
        for _ in range(rounds):
            time.sleep(chance.uniform(5, 20) if rounds > 1 else 0.5)
            for name, seconds in _restarted(house, webs).items():
                took[name] += seconds
    result = judge(house, rounds, keys=load.keys, may_repeat=True)
    result.other += load.other
    _soon(result, took)
    result.note += f"; {len(load.keys)} decisions"
    return result


def _restarted(house: House, webs: Sequence[Web]) -> dict[str, list[float]]:
    """Seconds from the start of the new server until each web answers, and until a run ends."""
    house.stop_postgres("immediate")
    began, at = time.monotonic(), dt.datetime.now(dt.UTC)

    def page(web: Web) -> float:
        with closing(house.person(web.address)) as client:
            _until(lambda: client.get("/"), {200}, began + 60)
        return time.monotonic() - began

    def run() -> float:
        ended = "SELECT 1 FROM approvals_decision WHERE ended_at > %s LIMIT 1"
        eventually(lambda: _asked(house, ended, at), 60, "a run ends", 0.02)
        return time.monotonic() - began

    with ThreadPoolExecutor(len(webs) + 1) as pool:
        worker = pool.submit(run)
        pages = [pool.submit(page, web) for web in webs]
        house.start_postgres()
        return {"web": [each.result() for each in pages], "worker": [worker.result()]}


def _asked(house: House, query: str, *params: Any) -> list[tuple[Any, ...]]:
    """Nothing while Postgres is away."""
    with suppress(*AWAY):
        return house.sql(query, *params)
    return []


@dataclass
class Load:
    """An agent that pauses runs, and a person at each web who decides them; all of them try again
    when Postgres was away. Between `with` and its end."""

    house: House
    webs: Sequence[Web]
    keys: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)
    seen: set[int] = field(default_factory=set)
    over: threading.Event = field(default_factory=threading.Event)
    threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> "Load":
        work: list[Callable[[], None]] = [lambda: asyncio.run(self._pause_runs())]
        for n, web in enumerate(self.webs):
            work.append(lambda n=n, web=web: self._decide(n, web))  # type: ignore[misc]
        self.threads = [threading.Thread(target=self._whole, args=[each]) for each in work]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join(90)

    def _whole(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            self.other.append(f"the load broke off: {error!r}"[:500])

    async def _pause_runs(self) -> None:
        while not self.over.is_set():
            (thread,) = names(1, "load")
            while not await _paused(self.house.url, thread):
                await asyncio.sleep(0.1)
            await asyncio.sleep(0.2)

    def _decide(self, nth: int, web: Web) -> None:
        asked = (
            "SELECT id, thread_id FROM approvals_review WHERE status = 'waiting' "
            "AND kind = 'before' AND id %% %s = %s ORDER BY id LIMIT 20"
        )
        with closing(self.house.person(web.address)) as client:
            while not self.over.is_set():
                for pk, thread in _asked(self.house, asked, len(self.webs), nth):
                    if pk not in self.seen and not self.over.is_set():
                        self.seen.add(pk)
                        self._decide_one(client, pk, thread)
                time.sleep(0.1)

    def _decide_one(self, client: httpx.Client, pk: int, thread: str) -> None:
        try:
            self.keys.append(_stubborn(client, pk, reply(thread), time.monotonic() + 60))
        except (Answered, TimeoutError) as error:
            self.other.append(f"{thread}: {error}")


async def _paused(url: str, thread: str) -> bool:
    """The agent's program: begins the run, or goes on where Postgres left it in the middle."""
    config: Any = {"configurable": {"thread_id": thread}}
    try:
        async with AsyncPostgresSaver.from_conn_string(url) as saver:
            graph = builder.compile(saver, interrupt_before=["human_approval"])
            state = await graph.aget_state(config)
            if state.created_at is None:
                await graph.ainvoke({**first(thread), "script": {}}, config)
            elif (state.metadata or {}).get("decision_id") or state.next == ("human_approval",):
                return True  # it had paused, and was not told so; somebody may have decided
            else:
                await graph.ainvoke(None, config)
    except AWAY:
        return False
    return True


@case("idle while Postgres restarts: the first request is answered", rounds=8, short=1)
def idle(house: House, rounds: int, chance: random.Random) -> Result:
    reviews, other = waiting(house, names(2 * rounds)), []
    reading, writing = house.web(), house.web()
    reader, writer = house.person(reading.address), house.person(writing.address)
    keys, items = [], list(reviews.items())
    for n in range(rounds):
        (_, seen), (thread, pk) = items[2 * n : 2 * n + 2]
        form = house.form(writer, pk)
        house.form(reader, seen)
        time.sleep(chance.uniform(1, 4) if rounds > 1 else 0.5)
        house.restart_postgres()
        if (page := reader.get(f"/reviews/{seen}/")).status_code != 200:
            other.append(f"the first page was answered {page.status_code}")
        answer = house.approve(writer, pk, reply(thread), form)
        if answer.status_code != 302:
            other.append(f"the first form was answered {answer.status_code}")
            answer = house.approve(writer, pk, reply(thread), form)
        keys += [form["key"]] if answer.status_code == 302 else []
    result = judge(house, rounds, keys=keys, may_repeat=True)
    result.other += other
    return result


# Nobody hears it: notifications are lost


@case("notifications are lost: runs end all the same", rounds=20, short=1)
def deaf_worker(house: House, rounds: int, chance: random.Random) -> Result:
    with Proxy(house.url) as proxy:
        proxy.deaf = True
        reviews = waiting(house, names(rounds), DATABASE_URL=proxy.url)
        web = house.web(DATABASE_URL=proxy.url)
        keys = decide_all(house, web.address, reviews)
        result = judge(house, rounds, keys=keys)
    ((late,),) = house.sql("SELECT max(extract(epoch FROM ended_at - decided_at)) "
                           "FROM approvals_decision")  # fmt: skip
    if not proxy.swallowed:
        result.other.append("no notification was lost")
    return _soon(result, {"runs": [float(late)]})


LISTENERS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN %countersign%'"
)


@case("open pages catch up when their listener comes back", rounds=10, short=1)
def deaf_pages(house: House, rounds: int, chance: random.Random) -> Result:
    """Each round something happens unheard; then the listener is ended from outside."""
    reviews, took, keys = waiting(house, names(rounds)), [], []
    with Proxy(house.url) as proxy:
        web = house.web(DATABASE_URL=proxy.url)
        client = house.person(web.address)
        with _tab(house, web) as tab:
            for thread, pk in reviews.items():
                _quiet(tab)
                proxy.deaf = True
                keys.append(_stubborn(client, pk, reply(thread), time.monotonic() + 30))
                eventually(lambda: _open(house) == 0, 30, "the run ends")
                proxy.deaf = False
                began = time.monotonic()
                house.sql(LISTENERS)
                _refreshed(tab)
                took.append(time.monotonic() - began)
        result = judge(house, rounds, keys=keys)
    if not proxy.swallowed:
        result.other.append("no notification was lost")
    return _soon(result, {"pages": took})


def _tab(house: House, web: Web) -> ClientConnection:
    """The socket of a browser tab of rita's."""
    headers = {"Cookie": f"sessionid={house.cookies['rita']['sessionid']}"}
    address = web.address.replace("http", "ws", 1) + "/nudges"
    return connect(address, additional_headers=headers, origin=web.address, proxy=None)


def _quiet(tab: ClientConnection) -> None:
    with suppress(TimeoutError):
        while True:
            tab.recv(timeout=0.3)


def _refreshed(tab: ClientConnection) -> None:
    """Waits until the page is told to look at everything anew. Raises TimeoutError."""
    while not json.loads(tab.recv(timeout=30))["refresh"]:
        pass
