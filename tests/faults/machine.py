"""The console against a small model of it: see steps.py, which runs as a process of its own."""

import json
import random
from pathlib import Path
from typing import Any

from tests.faults.catalogue import Result, case
from tests.faults.house import Child, House
from tests.faults.oracle import judge

HERE = Path(__file__).resolve().parent
STEPS = 40
TOLD = (
    *("approve 302", "undo 302", "take", "freeze", "wake", "came in between", "retry 302"),
    *("claim 302", "take over 302", "claim expires", "races"),
)


@case("people, a worker and other programs against a model", rounds=125, short=2)
def against_a_model(house: House, rounds: int, chance: random.Random) -> Result:
    child = house.start(
        "tests.faults.steps",
        *("--seed", str(chance.randrange(2**32))),
        *("--examples", str(rounds), "--steps", str(STEPS)),
        LANGGRAPH_JSON=str(HERE / "machine.json"),
        REVIEWS_TOML=str(HERE / "machine.toml"),
        DJANGO_SETTINGS_MODULE="console.settings",
        LOG_LEVEL="CRITICAL",
    )
    child.wait(120 + 20 * rounds)
    told = _told(child)
    if told["wrong"]:
        return Result(rounds, other=_in_short(told["wrong"]))
    result = _judged(house, rounds)
    counts = told["counts"]
    shown = ", ".join(f"{counts[name]} {name}" for name in TOLD if name in counts)
    result.note = f"{counts['steps']} steps: {shown}"
    return result


def _in_short(wrong: str) -> list[str]:
    """The shrunk steps and the error, without Hypothesis's word that it looked after each."""
    checks = ("decisions_are", "reviews_are", "what_was_delivered")
    noise = tuple(f"state.{name}" for name in checks)
    return [line for line in wrong.splitlines() if not line.startswith(noise)]


def _told(child: Child) -> Any:
    lines = child.log.read_text().splitlines()
    if child.code or not lines or not lines[-1].startswith("{"):
        return {"wrong": "the machine broke off:\n" + "\n".join(lines[-40:])}
    return json.loads(lines[-1])


def _judged(house: House, rounds: int) -> Result:
    """The oracle's questions of all that the examples have left."""
    every = "SELECT thread_id FROM approvals_review UNION SELECT conversation_id FROM effects"
    threads = [row[0] for row in house.sql(every)]
    meddled = {"foreign": threads, "failed": threads, "superseded": threads}
    return judge(house, rounds, may_repeat=True, **meddled)
