"""The capture dies while agents pause, many a second."""

import random
import time
from concurrent.futures import ThreadPoolExecutor

from tests.faults.catalogue import Result, case
from tests.faults.house import House, eventually, names
from tests.faults.oracle import judge
from tests.faults.points import FREEZE
from tests.faults.workers import locks_waited_for

AGENTS = 3
A_SECOND = 50


@case("kill -9 of the capture at random, under fifty pauses a second", rounds=30, short=1)
def under_load(house: House, rounds: int, chance: random.Random) -> Result:
    """Every third worker dies inside the capture's transaction, the others when it comes."""
    seconds = 1.5 * rounds + 1
    threads = names(int(A_SECOND * seconds))
    agents = [
        house.agent(threads[n::AGENTS], every=AGENTS / A_SECOND, durability="exit")
        for n in range(AGENTS)
    ]
    began = time.monotonic()
    inside = sum(kill_one(house, chance, n) for n in range(rounds))
    running = [agent for agent in agents if agent.alive]
    paused = house.sql("SELECT count(DISTINCT thread_id) FROM checkpoints")[0][0]
    rate = paused / (time.monotonic() - began)
    house.worker()
    with ThreadPoolExecutor(AGENTS) as waiting:
        codes = list(waiting.map(lambda agent: agent.wait(3 * seconds + 60), agents))
    result = judge(house, rounds, seconds=300)
    reviews = house.sql("SELECT count(*) FROM approvals_review WHERE status = 'waiting'")[0][0]
    result.note = (
        f"{rate:.0f} pauses a second while {rounds} workers died, {inside} of them inside the "
        f"transaction; {len(running)} of {AGENTS} agents still ran at the last; "
        f"{reviews} reviews of {len(threads)} threads"
    )
    if reviews != len(threads) or any(codes):
        result.other.append(f"{result.note}; the agents' codes: {codes}")
    return result


def kill_one(house: House, chance: random.Random, n: int) -> bool:
    """Whether it died inside the capture's transaction."""
    if n % 3 == 1:
        worker = house.worker(at="inside capture")
        eventually(lambda: not worker.alive, 60, "the capture has something to capture", 0.01)
        return True
    worker = house.worker()
    eventually(lambda: "started" in worker.log.read_text(), 30, f"{worker.log} starts", 0.01)
    time.sleep(chance.uniform(0, 1.2))
    worker.kill()
    return False


@case("SIGSTOP inside the capture, the thread moves on, SIGCONT", rounds=20, short=1)
def moving(house: House, rounds: int, chance: random.Random) -> Result:
    """What it has read is over when it commits; another, that sees the end, must come after it."""
    threads, waited = names(rounds), 0
    for thread in threads:
        house.run([thread])
        frozen = house.worker(at=FREEZE + "inside capture")
        eventually(lambda c=frozen: c.stopped, 60, f"{frozen.log} freezes")
        agent = house.agent([thread], onward=True)
        assert agent.wait(60) == 0, agent.log.read_text()[-2000:]
        sound = house.worker()
        waited += locks_waited_for(house, 5)
        frozen.thaw()
        house.settle(30)
        for child in (frozen, sound):
            child.kill()
    house.worker()
    result = judge(house, rounds, foreign=threads)
    result.note = f"the other capture waited for the lock {waited} times"
    if not waited:
        result.other.append("no capture waited for the lock")
    return result
