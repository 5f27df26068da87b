"""Web processes die while a person waits for the answer; the person's browser asks again."""

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import httpx

from tests.faults.catalogue import Result, case
from tests.faults.house import House, Web, eventually, names
from tests.faults.oracle import judge
from tests.faults.points import WEB


def killed_web(house: House, points: Sequence[str], at_once: int = 4) -> Result:
    """For each point: a web that dies there of its first decision, and the same form once more."""
    house.worker()
    threads, wrong = names(len(points)), Counter()
    house.run(threads, durability="exit")
    living, reviews = house.web(), house.reviews(threads)
    client = house.person(living.address)

    def one(item: tuple[str, str]) -> str:
        point, thread = item
        pk, text = reviews[thread], f"Reply of {thread}"
        doomed = house.web(at=point)
        form = house.form(client, pk)
        answered = answer(lambda: house.approve(house.person(doomed.address), pk, text, form))
        there = house.sql(
            "SELECT 1 FROM approvals_decision WHERE idempotency_key = %s", form["key"]
        )
        wrong[f"an answer {answered} of a web that dies {point}"] += answered is not None
        wrong[f"a web ended otherwise than by SIGKILL {point}"] += doomed.wait(10) != -9
        wrong[f"{len(there)} decisions in the house {point}"] += bool(there) != (point != WEB[0])
        for _ in range(2):  # again, and once more by an impatient finger
            again = house.approve(client, pk, text, form)
            wrong[f"{again.status_code} for the same form again, {point}"] += not again.is_redirect
        return form["key"]

    with ThreadPoolExecutor(at_once) as people:
        keys = list(people.map(one, zip(points, threads, strict=True)))
    return told(judge(house, len(points), keys=keys), wrong)


def answer(ask: Callable[[], httpx.Response]) -> int | None:
    """Its status, or None where the connection broke off."""
    try:
        return ask().status_code
    except httpx.TransportError:
        return None


def told(result: Result, wrong: Counter[str]) -> Result:
    result.other += [f"{words} ({times} times)" for words, times in wrong.items() if times]
    return result


def _register(point: str) -> None:
    @case(f"kill -9 of the web {point}", rounds=100, short=0)
    def play(house: House, rounds: int, chance: random.Random) -> Result:
        return killed_web(house, [point] * rounds)


for _point in WEB:
    _register(_point)


@case("kill -9 of webs at three points, side by side", rounds=2, short=1)
def three_points(house: House, rounds: int, chance: random.Random) -> Result:
    return killed_web(house, WEB * rounds)


@case("kill -9 of the web while eight clients decide", rounds=30, short=1)
def under_way(house: House, rounds: int, chance: random.Random) -> Result:
    """Each client sends its form to the web that is killed, and then to another."""
    house.worker()
    threads = names(8 * rounds)
    house.run(threads, durability="exit")
    reviews, living = house.reviews(threads), house.web()
    cut_off: Counter[str] = Counter()
    keys: list[str] = []
    for n in range(rounds):
        victim = house.web()
        client, sound = house.person(victim.address), house.person(living.address)
        eight = {thread: reviews[thread] for thread in threads[8 * n : 8 * n + 8]}
        forms = {pk: house.form(sound, pk) for pk in eight.values()}

        def one(item: tuple[str, int], forms=forms, sound=sound, client=client) -> str:  # type: ignore[no-untyped-def]
            thread, pk = item
            text, form = f"Reply of {thread}", forms[pk]
            first = answer(lambda: house.approve(client, pk, text, form))
            cut_off["cut off" if first is None else f"answered {first}"] += 1
            again = house.approve(sound, pk, text, form)
            cut_off[f"then answered {again.status_code}"] += 1
            return form["key"]

        with ThreadPoolExecutor(8) as people:
            asked = [people.submit(one, item) for item in eight.items()]
            kill_once_decided(house, victim, 8 * n + chance.randint(0, 4), chance.uniform(0, 0.03))
            keys += [each.result() for each in asked]
    result = judge(house, rounds, keys=keys)
    result.note = ", ".join(f"{times} {words}" for words, times in sorted(cut_off.items()))
    if cut_off["then answered 302"] != len(threads):
        result.other.append(result.note)
    if rounds > 4 and not cut_off["cut off"]:  # of two kills both may come late
        result.other.append("not one request was cut off")
    return result


def kill_once_decided(house: House, victim: Web, decisions: int, seconds: float) -> None:
    """A moment after so many decisions are in the house: the next are under way."""
    eventually(lambda: decided(house) >= decisions, 30, f"{decisions} decisions are made", 0.002)
    time.sleep(seconds)
    victim.kill()


def decided(house: House) -> int:
    return int(house.sql("SELECT count(*) FROM approvals_decision")[0][0])
