"""Workers die, freeze, are told to stop, and come back."""

import random
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from tests.faults.catalogue import Result, case
from tests.faults.house import Child, House, eventually, names
from tests.faults.oracle import judge
from tests.faults.points import FREEZE, WORKER
from tests.faults.supervised import Supervised, wait_ready

# Nobody is declared dead before the sound workers come, and nothing is taken over by the doomed.
DOOMED = {"WORKER_CONCURRENCY": "1", "WORKER_DEAD_AFTER": "600"}
QUICK = {"WORKER_DEAD_AFTER": "2"}


def captured(house: House, threads: Sequence[str], **script: object) -> dict[str, int]:
    """thread: review; the worker that captured them is gone again."""
    worker = house.worker()
    house.run(threads, script, durability="exit")
    found = house.reviews(threads)
    worker.kill()
    return found


def decide_all(house: House, address: str, reviews: dict[str, int], people: int = 8) -> list[str]:
    """Approves each with a text of its own; the keys that were answered 302."""
    client = house.person(address)

    def one(item: tuple[str, int]) -> str:
        thread, pk = item
        form = house.form(client, pk)
        answer = house.approve(client, pk, f"Reply of {thread}", form)
        assert answer.status_code == 302, answer.text[:1000]
        return form["key"]

    with ThreadPoolExecutor(people) as pool:
        return list(pool.map(one, reviews.items()))


def until_dead(house: House, points: Sequence[str], at_once: int = 6) -> list[Child]:
    """One doomed worker for each of `points`, a few at once, until all have killed themselves."""
    left, alive, dead = list(points), [], []
    deadline = time.monotonic() + 60 + 2 * len(left)
    while left or alive:
        while left and len(alive) < at_once:
            alive.append(house.worker(at=left.pop(0), **DOOMED))
        gone = [child for child in alive if not child.alive]
        for child in gone:
            assert child.code == -9, f"it did not kill itself: {child.log.read_text()[-2000:]}"
        dead += gone
        alive = [child for child in alive if child not in gone]
        if time.monotonic() > deadline:
            raise TimeoutError(f"{len(alive)} workers never came to the point: {alive[0].log}")
        time.sleep(0.02)
    return dead


# Where a decision stands when its worker died at the point: state, update checkpoints, all
# checkpoints of its run, effects
STANDS = {
    "before claim": ("pending", 0, 0, 0),
    "after claim": ("pending", 0, 0, 0),
    "inside apply": ("pending", 0, 0, 0),
    "after apply": ("applied", 1, 1, 0),
    "inside the node": ("applied", 1, 1, 0),
    "before its checkpoint": ("applied", 1, 1, 0),
    "between nodes": ("applied", 1, 2, 0),
    "before the effect": ("applied", 1, 2, 0),
    "after the effect": ("applied", 1, 2, 1),
    "before the job is done": ("finished", 1, 3, 1),
}


def stands(house: House) -> list[tuple[str, int, int, int]]:
    return house.sql(  # type: ignore[return-value]
        "SELECT d.state, (SELECT count(*) FROM checkpoints c WHERE c.thread_id = r.thread_id "
        "AND c.metadata->>'decision_id' = d.id::text AND c.metadata->>'source' = 'update'), "
        "(SELECT count(*) FROM checkpoints c WHERE c.thread_id = r.thread_id "
        "AND c.metadata->>'decision_id' = d.id::text), "
        "(SELECT count(*) FROM effects e WHERE e.decision_id = d.id::text) "
        "FROM approvals_decision d JOIN approvals_review r ON r.id = d.review_id"
    )


def killed_at(house: House, points: Sequence[str], **sound: str) -> Result:
    reviews = captured(house, names(len(points)))
    keys = decide_all(house, house.web().address, reviews)
    until_dead(house, points)
    expected, there = sorted(STANDS[p] for p in points), sorted(stands(house))
    for _ in range(2):
        house.worker(**sound)
    repeats = points.count("after the effect")
    result = judge(house, len(points), keys=keys, may_repeat=bool(repeats))
    if expected != there:
        result.other.append(f"killed elsewhere: {there}, not {expected}")
    if result.repeats != repeats:
        result.other.append(f"{result.repeats} repeats of effects, not {repeats}")
    return result


def _register(point: str) -> None:
    @case(f"kill -9 of the worker {point}", rounds=100, short=0)
    def play(house: House, rounds: int, chance: random.Random) -> Result:
        return killed_at(house, [point] * rounds)


for _point in WORKER:
    _register(_point)


@case("kill -9 of workers at ten points, side by side", rounds=2, short=1)
def ten_points(house: House, rounds: int, chance: random.Random) -> Result:
    points = WORKER * rounds
    chance.shuffle(points)
    return killed_at(house, points, **QUICK)


# Killed at random


@case("kill -9 of the run's worker at random, up to three times", rounds=200, short=2)
def random_kills(house: House, rounds: int, chance: random.Random) -> Result:
    reviews = captured(house, names(rounds))
    client = house.person(house.web().address)
    plans = {
        pk: [chance.uniform(0, 0.15) for _ in range(chance.randint(1, 3))]
        for pk in reviews.values()
    }
    killed = []
    env = {"WORKER_CONCURRENCY": "1", "WORKER_DEAD_AFTER": "1" if rounds < 50 else "2"}
    with Supervised(house, min(8, rounds), **env) as workers:
        for worker in list(workers.workers):
            wait_ready(worker)

        def one(item: tuple[str, int]) -> str:
            thread, pk = item
            form = house.form(client, pk)
            answer = house.approve(client, pk, f"Reply of {thread}", form)
            assert answer.status_code == 302, answer.text[:1000]
            for delay in plans[pk]:
                if not kill_holder(house, workers, pk, delay):
                    break
                killed.append(pk)
            return form["key"]

        with ThreadPoolExecutor(min(6, rounds)) as people:
            keys = list(people.map(one, reviews.items()))
        result = judge(house, rounds, keys=keys, may_repeat=True)
    most = Counter(Counter(killed).values())
    result.note = f"{len(killed)} kills; runs by kills: {dict(sorted(most.items()))}"
    if not killed:
        result.other.append("not one kill hit a run")
    return result


def kill_holder(house: House, workers: Supervised, review: int, delay: float) -> bool:
    """Kills the worker that holds the run, `delay` after it is seen to; False if it ended first."""
    asked = "SELECT ended_at IS NOT NULL FROM approvals_decision WHERE review_id = %s"
    deadline = time.monotonic() + 30
    while (holder := workers.holder(review)) is None:
        if house.sql(asked, review)[0][0] or time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    time.sleep(delay)
    if workers.holder(review) is not holder:
        return False
    holder.kill()
    return True


# Frozen and woken up

ZOMBIES = ("inside the node", "after apply", "after claim", "before the job is done")
EFFECTS = {"effects", "received"}


@case("SIGSTOP past the heartbeat, taken over, SIGCONT", rounds=20, short=1)
def zombies(house: House, rounds: int, chance: random.Random) -> Result:
    points = [ZOMBIES[n % len(ZOMBIES)] for n in range(rounds)]
    points[2::10] = ["inside apply"] * len(points[2::10])  # these hold locks until Postgres acts
    result, written = woken(house, points)
    result.other += written
    return result


@case("SIGSTOP before the effect, taken over, SIGCONT", rounds=10, short=0)
def late_effects(house: House, rounds: int, chance: random.Random) -> Result:
    """A node that has begun asks nobody: the effect goes out again, and the receiver knows it."""
    points = [("before the effect", "between nodes")[n % 2] for n in range(rounds)]
    result, written = woken(house, points, may_repeat=True)
    result.other += [line for line in written if line.split()[0] not in EFFECTS]
    if result.repeats != rounds:
        result.other.append(f"{result.repeats} repeats of effects, not {rounds}")
    return result


@case("SIGSTOP, taken over, SIGCONT while the taker is at work", rounds=20, short=1)
def early_zombies(house: House, rounds: int, chance: random.Random) -> Result:
    """Both are in the same node of the same run, and the one that lost it is the first to end."""
    reviews = captured(house, names(rounds), sleep=5 if rounds < 10 else 12)
    keys = decide_all(house, house.web().address, reviews)
    frozen = [house.worker(at=FREEZE + "after the node", **DOOMED) for _ in range(rounds)]
    for child in frozen:
        eventually(lambda c=child: c.stopped, 60, f"{child.log} freezes")
    for _ in range(2):
        house.worker(WORKER_CONCURRENCY=str(rounds), **(QUICK if rounds < 10 else {}))
    taken = "SELECT count(*) FROM approvals_decision WHERE crashes > 0"
    eventually(lambda: house.sql(taken)[0][0] == rounds, 30, "all are taken over")
    for child in frozen:
        child.thaw()
    time.sleep(1)  # they find that they have lost their runs
    for child in frozen:
        child.kill()
    running = "SELECT count(*) FROM approvals_decision WHERE ended_at IS NULL"
    there = house.sql(running)[0][0]
    # One epoch for the worker that froze, one that shut it out, one for the taker.
    result = untouched(house, judge(house, rounds, keys=keys), epoch=3, crashes=1)
    result.note = f"{there} takers were at work"
    if not there:
        result.other.append("not one taker was at work any more")
    late = house.sql(
        "SELECT DISTINCT pid FROM effects WHERE pid = ANY(%s)", [child.pid for child in frozen]
    )
    if late:
        result.other.append(f"{len(late)} workers delivered what they had lost")
    return result


@case("SIGSTOP inside the apply transaction, SIGCONT before it is cut", rounds=10, short=1)
def frozen_in_apply(house: House, rounds: int, chance: random.Random) -> Result:
    """Nobody gets at the thread meanwhile. Then its heart beats again, and its run is its own."""
    reviews, keys, waited = captured(house, names(rounds)), [], 0
    address, items = house.web().address, list(reviews.items())
    for n in range(0, rounds, 2):  # by twos: Postgres ends a transaction that is idle for 15 s
        keys += decide_all(house, address, dict(items[n : n + 2]))
        living = {**DOOMED, **QUICK}  # their hearts beat as those do that judge them
        pair = [house.worker(at=FREEZE + "inside apply", **living) for _ in items[n : n + 2]]
        for child in pair:
            eventually(lambda c=child: c.stopped, 60, f"{child.log} freezes")
        takers = [house.worker(**QUICK) for _ in pair]
        waited += locks_waited_for(house, 5)
        for child in pair:
            child.thaw()
        house.settle(30)
        for child in (*takers, *pair):
            child.kill()
    house.worker()
    result = judge(house, rounds, keys=keys)
    result.note = f"takers waited for the lock in {waited} of {(rounds + 1) // 2} waves"
    if not waited:
        result.other.append("no taker waited for the lock")
    return result


def locks_waited_for(house: House, seconds: float) -> bool:
    asked = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'advisory'"
    try:
        return bool(eventually(lambda: house.sql(asked)[0][0], seconds, "a taker waits"))
    except TimeoutError:
        return False


def woken(
    house: House, points: Sequence[str], may_repeat: bool = False
) -> tuple[Result, list[str]]:
    """The verdict, and every row that was written after the frozen workers woke up."""
    reviews = captured(house, names(len(points)))
    keys = decide_all(house, house.web().address, reviews)
    frozen = [house.worker(at=FREEZE + point, **DOOMED) for point in points]
    for child in frozen:
        eventually(lambda c=child: c.stopped, 60, f"{child.log} freezes")
    before = sorted(state for state, *_ in stands(house))
    for _ in range(2):
        house.worker(**(QUICK if len(points) < 10 else {}))
    settled, kept = house.settle(60), rows(house)
    for child in frozen:
        child.thaw()
    time.sleep(2.5)
    changed = rows(house) ^ kept
    result = judge(house, len(points), keys=keys, may_repeat=may_repeat)
    if not settled:
        result.other.append("the frozen workers' runs were not taken over within 60 s")
    expected = sorted(STANDS[point][0] for point in points)
    if before != expected:
        result.other.append(f"frozen elsewhere: {before}, not {expected}")
    for child in frozen:
        child.terminate()
    codes = Counter(child.wait(30) for child in frozen)
    if set(codes) != {0}:
        result.other.append(f"woken workers ended with {dict(codes)}")
    return result, [f"{table} was written by one that woke up: {row}" for table, row in changed]


def rows(house: House) -> set[tuple[str, str]]:
    """Every row of every run, whole: one more, one less or another is seen."""
    tables = ("checkpoints", "checkpoint_writes", "checkpoint_blobs", "approvals_decision")
    return {
        (table, row)
        for table in (*tables, "approvals_auditentry", *EFFECTS)
        for (row,) in house.sql(f"SELECT left(t::text, 300) || md5(t::text) FROM {table} t")
    }


# Poison


@case("a run that kills its worker each time, beside ten innocents", rounds=3, short=1)
def poison(house: House, rounds: int, chance: random.Random) -> Result:
    limit = 5 if rounds > 1 else 3
    env = {**house.settings(crash_limit=limit), "WORKER_DEAD_AFTER": "1"}
    address = house.web(**env).address
    with Supervised(house, 2, **env) as workers:
        ill, well = names(rounds, "poison"), names(10 * rounds, "innocent")
        house.run(ill, {"kill": limit}, durability="exit")
        house.run(well, {"sleep": 0.3}, durability="exit")
        keys = []
        for n in range(rounds):
            reviews = house.reviews([ill[n], *well[10 * n : 10 * n + 10]])
            keys += decide_all(house, address, reviews)
            house.settle(90)
        result = judge(house, rounds, keys=keys, may_repeat=True, failed=ill)
        result.other += retried(house, address, ill, limit)
        again = judge(house, rounds, keys=keys, may_repeat=True)
        result.note = f"{workers.deaths} workers died of {rounds} poisons, {result.repeats} repeats"
    for name in ("lost", "doubled", "stuck"):
        setattr(result, name, getattr(result, name) + getattr(again, name))
    result.other += again.other
    result.details += again.details
    return result


def retried(house: House, address: str, threads: Sequence[str], limit: int) -> list[str]:
    """Retries the poisoned runs, whose poison is used up; what is wrong with how they had ended."""
    wrong, admin = [], house.person(address, "mara")
    for thread in threads:
        ((pk, state, crashes, told, died),) = house.sql(
            "SELECT d.id, d.state, d.crashes, (SELECT count(*) FROM approvals_auditentry a "
            "WHERE a.decision_id = d.id AND a.action = 'failed'), "
            "(SELECT count(*) FROM kills k WHERE k.conversation_id = r.thread_id) "
            "FROM approvals_decision d JOIN approvals_review r ON r.id = d.review_id "
            "WHERE r.thread_id = %s",
            thread,
        )
        if (state, crashes, told, died) != ("failed", limit, 1, limit):
            wrong.append(f"{thread}: {state} after {crashes} crashes, {told} entries, {died} kills")
        answer = admin.post(f"/decisions/{pk}/retry")
        if answer.status_code != 302:
            wrong.append(f"{thread}: its Retry answers {answer.status_code}: {answer.text[:300]}")
    return wrong


# Slow nodes, and workers that are told to stop


@case("a node that sleeps, or holds up the loop, longer than the lease", rounds=4, short=1)
def slow_nodes(house: House, rounds: int, chance: random.Random) -> Result:
    env, seconds = (QUICK, 4) if rounds < 4 else ({}, 9)
    threads = names(rounds)
    for _ in range(2):
        house.worker(WORKER_CONCURRENCY="2", **env)
    house.run(threads[::2], {"sleep": seconds})
    house.run(threads[1::2], {"block": seconds})
    keys = decide_all(house, house.web().address, house.reviews(threads))
    result = judge(house, rounds, keys=keys)
    return untouched(house, result)


def untouched(house: House, result: Result, epoch: int = 1, crashes: int = 0) -> Result:
    """No run was taken from anybody who lives."""
    for pk, had, died in house.sql("SELECT id, epoch, crashes FROM approvals_decision"):
        if (had, died) != (epoch, crashes):
            result.other.append(f"decision {pk}: epoch {had}, {died} crashes")
    return result


@case("SIGTERM while a node outlasts the grace: handed back", rounds=10, short=1)
def handed_back(house: House, rounds: int, chance: random.Random) -> Result:
    """Every second node is a plain function, which nothing can cancel."""
    seconds = 8 if rounds > 2 else 4
    threads = names(rounds)
    house.run(threads[::2], {"sleep": seconds})
    house.run(threads[1::2], {"linger": seconds})
    leaving = [
        house.worker(WORKER_GRACE="1", WORKER_CONCURRENCY="1", QUEUE_LOG_LEVEL="DEBUG")
        for _ in threads
    ]
    for worker in leaving:
        wait_ready(worker)
    keys = decide_all(house, house.web().address, house.reviews(threads))
    at_work = "SELECT count(*) FROM approvals_decision WHERE state = 'applied'"
    eventually(lambda: house.sql(at_work)[0][0] == rounds, 30, "all nodes are at work")
    time.sleep(0.3)
    told = time.monotonic()
    for worker in leaving:
        worker.terminate()
    codes = Counter(worker.wait(20) for worker in leaving)
    took = time.monotonic() - told
    ended = house.sql("SELECT count(*) FROM approvals_decision WHERE ended_at IS NOT NULL")[0][0]
    house.worker()
    result = untouched(house, judge(house, rounds, keys=keys), epoch=2)
    result.note = f"the last of {rounds} workers ended {took:.1f} s after SIGTERM"
    if set(codes) != {0} or took > 3.5 or ended:
        result.other.append(f"codes {dict(codes)}, {took:.1f} s, {ended} runs ended meanwhile")
    return result


@case("rolling restarts of two workers by SIGTERM under load", rounds=20, short=2)
def rolling(house: House, rounds: int, chance: random.Random) -> Result:
    threads = names(10 * rounds)
    workers = [house.worker(QUEUE_LOG_LEVEL="DEBUG") for _ in range(2)]
    for part in range(4):
        house.run(threads[part::4], {"sleep": round(chance.uniform(0, 0.5), 2)}, durability="exit")
    reviews, address = house.reviews(threads), house.web().address
    codes: Counter[int] = Counter()
    with ThreadPoolExecutor(1) as load:
        deciding = load.submit(decide_all, house, address, reviews, 3)
        for _ in range(rounds):
            time.sleep(chance.uniform(0, 0.3))
            workers.append(house.worker(QUEUE_LOG_LEVEL="DEBUG"))
            wait_ready(workers[-1])
            oldest = workers.pop(0)
            oldest.terminate()
            codes[oldest.wait(40)] += 1
        keys = deciding.result()
    result = untouched(house, judge(house, rounds, keys=keys))
    result.note = f"{len(threads)} runs"
    if set(codes) != {0}:
        result.other.append(f"workers ended with {dict(codes)}")
    return result
