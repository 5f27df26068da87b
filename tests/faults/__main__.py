"""`python -m tests.faults`: the catalogue on a house of its own, and one table at the end."""

import argparse
import os
import random
import signal
import sys
import time
import traceback
from dataclasses import dataclass

from tests.faults.catalogue import Case, Result, catalogue, row, table
from tests.faults.house import House


@dataclass
class Played:
    case: Case
    result: Result
    seconds: float


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the house is taken down
    given = arguments()
    cases = [one for one in catalogue() if chosen(one, given)]
    if given.list or not cases:
        print("\n".join(f"{one.rounds:>6} {one.short:>4}  {one.name}" for one in cases))
        return 0 if cases else nothing_chosen()
    began, house = time.monotonic(), House()
    done: list[Played] = []
    try:
        for one in cases:
            done.append(play(one, house, given))
            print(line(done[-1]), file=sys.stderr)
    except KeyboardInterrupt:
        print("\nInterrupted: this is what was done by then.", file=sys.stderr)
    finally:
        bad = [one for one in done if one.result.bad]
        house.stop(keep=bool(bad))
    print(table([row(one.case.name, one.result, one.seconds) for one in done]))
    print(
        f"\n{len(done)} of {len(cases)} cases, {sum(one.result.rounds for one in done)} rounds, "
        f"{len(bad)} bad. Seed {given.seed}. {time.monotonic() - began:.0f} s on "
        f"{os.cpu_count()} cores."
    )
    for one in bad:
        print(f"\n{one.case.name}:")
        print("\n".join(f"  {words}" for words in [*one.result.details, *one.result.other][:40]))
    if bad:
        print(f"\nThe logs of all processes are kept in {house.folder}")
    return 1 if bad or len(done) < len(cases) else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--short", action="store_true", help="few rounds of each case")
    parser.add_argument("--only", nargs="+", default=[], metavar="PART", help="parts of names")
    parser.add_argument("--list", action="store_true", help="full rounds, short rounds, name")
    return parser.parse_args()


def nothing_chosen() -> int:
    print("No such case in this run; --list shows the names and the rounds.", file=sys.stderr)
    return 2


def chosen(one: Case, given: argparse.Namespace) -> bool:
    named = not given.only or any(part.lower() in one.id.lower() for part in given.only)
    return named and (given.list or bool(one.short if given.short else one.rounds))


def play(one: Case, house: House, given: argparse.Namespace) -> Played:
    began = time.monotonic()
    try:
        house.clean()
        rounds = one.short if given.short else one.rounds
        result = one.play(house, rounds, random.Random(f"{given.seed} {one.name}"))
    except Exception as error:
        traceback.print_exc()
        result = Result(0, other=[f"broke off: {type(error).__name__}: {error}"])
    return Played(one, result, time.monotonic() - began)


def line(one: Played) -> str:
    said = f"  [{one.result.note}]" if one.result.note else ""
    return f"{one.seconds:6.1f} s  {'BAD' if one.result.bad else 'ok '}  {one.case.name}{said}"


if __name__ == "__main__":
    sys.exit(main())
