"""Fifty people work through two thousand cases by *Next*, all at once: run by `make bench`."""

import os
import time
from collections import Counter
from statistics import median, quantiles
from typing import Any

import pytest

from approvals import desk_actions
from approvals.audit import Actor
from approvals.models import AuditEntry, Review
from tests.queries import crowd
from tests.test_claims import at_once, crew

PEOPLE = int(os.environ.get("BENCH_PEOPLE", "50"))
CASES = int(os.environ.get("BENCH_CASES", "2000"))


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("clean")
def test_two_thousand_cases_none_twice_none_left(cast):
    crowd(CASES)
    taken, took = [], []

    def work(user: Any) -> None:
        mine: list[int] = []
        while True:
            began = time.perf_counter()
            actor = Actor(user, user.username)
            found = desk_actions.next_review(actor, Review.objects.all(), besides=mine)
            if found is None:
                break
            took.append(time.perf_counter() - began)
            mine.append(found.pk)
        taken.extend(mine)

    began = time.perf_counter()
    at_once(work, crew(cast, PEOPLE))
    every = time.perf_counter() - began
    times = Counter(taken)
    print(
        f"\nnext: {PEOPLE} people, {CASES} cases in {every:.1f} s, {CASES / every:.0f} a second; "
        f"one takes {1000 * median(took):.0f} ms (median), {1000 * quantiles(took, n=20)[-1]:.0f} "
        f"ms (p95); twice: {sum(n > 1 for n in times.values())}, left: {CASES - len(times)}"
    )
    assert sorted(times.values()) == [1] * CASES
    assert AuditEntry.objects.filter(action="claimed").count() == CASES
