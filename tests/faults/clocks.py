"""Clocks that are five minutes off, each way, in workers and webs. The agent's is right."""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from tests.faults.catalogue import Result, case
from tests.faults.house import Child, House, Web, _answers, _free_port, eventually, names
from tests.faults.oracle import judge
from tests.faults.workers import QUICK, captured, decide_all, until_dead

FIVE_MINUTES = 300
BOTH = (-FIVE_MINUTES, FIVE_MINUTES)
WINDOW = 1.0  # seconds in which a decision can be undone
SOON = 15.0


@dataclass
class Street:
    """A worker and a web that are behind, and a worker and a web that are ahead."""

    workers: list[Child]
    webs: list[Web]


def street(house: House, **env: str) -> Street:
    workers = [shifted(house, off, "worker", **env) for off in BOTH]
    webs = []
    for off in BOTH:
        port = _free_port()
        child = shifted(house, off, "web", "--port", str(port), **env)
        webs.append(Web(house.nursery, child.pid, child.log, f"http://127.0.0.1:{port}"))
    for web in webs:
        eventually(lambda web=web: _answers(web), 60, f"the web answers ({web.log})")
    return Street(workers, webs)


def shifted(house: House, off: int, *command: str, **env: str) -> Child:
    return house.start("tests.faults.shifted", str(off), *command, **env)


@case("clocks five minutes behind and ahead", rounds=40, short=2)
def clocks(house: House, rounds: int, chance: random.Random) -> Result:
    there = street(house, **house.settings(undo_window=WINDOW))
    clients = [house.person(web.address) for web in there.webs]
    threads, keys, other = names(rounds), [], []
    for _ in range(2):  # the agent's own next turn comes after the first
        house.run(threads, durability="exit")
        began = time.monotonic()
        for n, (thread, pk) in enumerate(house.reviews(threads).items()):
            client = clients[n % 2]
            if n % 4 == 3 and not taken_back(house, client, pk, other):
                continue
            form = house.form(client, pk)
            answer = house.approve(client, pk, f"Reply of {thread}", form)
            keys += [form["key"]] if answer.status_code == 302 else []
            if answer.status_code != 302:
                other.append(f"{thread}: answered {answer.status_code}")
        house.settle(60)
        if time.monotonic() - began > SOON + rounds:
            other.append(f"a turn took {time.monotonic() - began:.0f} s")
    result = judge(house, rounds, keys=keys)
    result.note = shares(house, there.workers)
    result.other += [*other, *in_time(house), *told(there)]
    return result


def taken_back(house: House, client: httpx.Client, pk: int, other: list[str]) -> bool:
    """Decides, and takes it back at once; whether that was in time."""
    form, began = house.form(client, pk), time.monotonic()
    house.approve(client, pk, "Not what was meant", form)
    ((decision,),) = house.sql("SELECT id FROM approvals_decision ORDER BY decided_at DESC LIMIT 1")
    answer = client.post(f"/decisions/{decision}/undo")
    took = time.monotonic() - began
    ((state,),) = house.sql("SELECT state FROM approvals_decision WHERE id = %s", decision)
    if state != "undone" and took < WINDOW:
        other.append(f"taken back after {took:.2f} s: {answer.status_code}, and {state}")
    return bool(state == "undone")


def in_time(house: House) -> list[str]:
    """Windows are as long as they are meant to be, and nothing waits long after them."""
    asked = (
        "SELECT id::text, extract(epoch FROM apply_after - decided_at)::float, "
        "extract(epoch FROM applied_at - apply_after)::float, "
        "extract(epoch FROM ended_at - apply_after)::float "
        "FROM approvals_decision WHERE state <> 'undone'"
    )
    wrong = []
    for decision, window, late, all_of_it in house.sql(asked):
        if abs(window - WINDOW) > 0.01 or late is None or late < 0:
            wrong.append(f"{decision}: a window of {window} s, applied {late} s after it")
        elif all_of_it > SOON:
            wrong.append(f"{decision}: ended {all_of_it:.0f} s after its window")
    return wrong


def shares(house: House, workers: Sequence[Child]) -> str:
    """How many runs each worker delivered."""
    did = dict(house.sql("SELECT pid, count(*) FROM effects GROUP BY 1"))
    return " and ".join(
        f"{did.get(worker.pid, 0)} runs by the one {'behind' if off < 0 else 'ahead'}"
        for worker, off in zip(workers, BOTH, strict=True)
    )


def told(there: Street) -> list[str]:
    """Each process has told its operator, once."""
    wrong = []
    for children in (there.workers, there.webs):
        for child, words in zip(children, ("behind", "ahead of"), strict=True):
            said = child.log.read_text().count(f"clock is 300.0 s {words} the database's")
            if said != 1:
                wrong.append(f"{child.log.name}: told {said} times that its clock is {words}")
    return wrong


@case("a run is taken over by a worker whose clock is off", rounds=10, short=1)
def taken_over(house: House, rounds: int, chance: random.Random) -> Result:
    """Half of the runs by one that is behind, half by one that is ahead."""
    reviews, slowest = captured(house, names(rounds)), 0.0
    address, keys, items = house.web().address, [], list(reviews.items())
    for off, share in zip(BOTH, (items[: rounds // 2], items[rounds // 2 :]), strict=True):
        keys += decide_all(house, address, dict(share))
        until_dead(house, ["inside the node"] * len(share))
        worker = shifted(house, off, "worker", **QUICK)
        began = time.monotonic()
        if not house.settle(120):
            break
        slowest = max(slowest, time.monotonic() - began)
        worker.kill()
    house.worker()
    result = judge(house, rounds, keys=keys)
    result.note = f"at worst {slowest:.1f} s from the start of the other worker"
    if slowest > SOON + rounds:
        result.other.append(f"a takeover took {slowest:.0f} s")
    return result
