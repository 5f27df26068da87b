"""Thirty web processes, two workers, one database: whichever is asked, each run ends once."""

import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from httpx import Client

from tests.faults.catalogue import Result, case
from tests.faults.house import House, eventually, names
from tests.faults.oracle import judge

PEOPLE = 12  # at once, as clients of this process


@case("a thousand runs through thirty webs and two workers", rounds=1000, short=20)
def thirty_webs(house: House, rounds: int, chance: random.Random) -> Result:
    threads = names(rounds)
    for _ in range(2):
        house.worker()
    webs = [house.web().address for _ in range(30 if rounds > 30 else 5)]
    clients = [house.person(web, name) for web in webs for name in ("rita", "tom")]
    agents = [house.agent(threads[n::2]) for n in range(2)]
    for agent in agents:
        assert agent.wait(60 + rounds) == 0, agent.log.read_text()[-2000:]
    reviews = house.reviews(threads, 120)
    began = time.monotonic()
    plans = [(pk, thread, *chance.sample(clients, 2)) for thread, pk in reviews.items()]
    with ThreadPoolExecutor(PEOPLE) as people:
        told = list(people.map(lambda plan: _approve(house, *plan), plans))
    decided = time.monotonic()
    eventually(lambda: not _open(house), 120 + rounds, "every run ends", 0.2)
    ended = time.monotonic()
    result = judge(house, rounds, keys=[key for key, status in told if status == 302])
    result.other += [f"answered {status}" for _, status in told if status != 302]
    result.other += _not_finished(house, rounds)
    workers = house.sql("SELECT count(DISTINCT pid) FROM effects")[0][0]
    result.note = (
        f"{len(webs)} webs, {workers} workers, {rounds / (decided - began):.0f} decisions/s, "
        f"all finished {ended - began:.1f} s after "
        f"the first and {ended - decided:.1f} s after the last"
    )
    return result


def _approve(house: House, pk: int, thread: str, asked: Client, answered: Client) -> Any:
    """The form of one web, sent to another: its key, and how it was answered."""
    form = house.form(asked, pk)
    answer = house.approve(answered, pk, f"Reply of {thread}", form)
    return form["key"], answer.status_code


def _open(house: House) -> int:
    return int(house.sql("SELECT count(*) FROM approvals_decision WHERE ended_at IS NULL")[0][0])


def _not_finished(house: House, rounds: int) -> list[str]:
    """All are finished, with no error; each has its own text."""
    states = Counter(dict(house.sql("SELECT state, count(*) FROM approvals_decision GROUP BY 1")))
    wrong = [] if states == {"finished": rounds} else [f"states {dict(states)}"]
    for thread, body in house.sql("SELECT conversation_id, body FROM effects"):
        if body != f"Reply of {thread}":
            wrong.append(f"{thread} was sent {body!r}")
    return wrong
