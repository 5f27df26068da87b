"""`make bench`: how soon a screen shows what others do, in Chromium, with 1,000 waiting.

Not collected by `make test`. From the change in the database, or from a page that opens or a key
that is pressed elsewhere, to the page that shows it; as ratios to the load of the same server's
empty page.
"""

import os
import time
from collections.abc import Callable
from statistics import median, quantiles
from typing import Any

import pytest

from approvals.events import nudge
from approvals.models import Review
from tests.bench_flow import empty_page
from tests.conftest import waiting
from tests.queries import crowd

ROUNDS = int(os.environ.get("ROUNDS", "20"))


@pytest.mark.timeout(900)
@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("clean")
def test_from_a_change_to_the_screen(site: Any, person: Any, cast: Any) -> None:
    rows = crowd(1_000)
    review = waiting()
    address = site(worker=False)
    rita, tom = person(address, "rita"), person(address, "tom")
    empty = empty_page(rita)
    print(f"\n\n1,000 waiting; empty page (/health) in the same Chromium: {empty:.1f} ms median")

    rita.goto("/?sort=oldest")
    rita.locator(f"#row-{rows[0].pk}").wait_for()
    ids = rita.eval_on_selector_all(".row", "rows => rows.map(row => row.id)")
    there = [int(row.split("-")[1]) for row in ids]

    def taken(number: int) -> None:
        pk = there[number]
        Review.objects.filter(pk=pk).update(claimed_by=cast.tom, claimed_until="2099-01-01T00:00Z")
        nudge(pk, "support")
        seen(rita, f"document.querySelector('#row-{pk}.theirs')")

    tell("a case taken by another shows in the list", taken, empty)

    rita.goto(f"/reviews/{review.pk}/")
    rita.locator("#approve").wait_for()
    here = "document.getElementById('people').textContent.includes('Tom Achebe')"

    def comes_and_goes(number: int) -> None:
        tom.goto(f"/reviews/{review.pk}/", wait_until="commit")
        seen(rita, here)
        tom.goto("/health", wait_until="commit")
        seen(rita, f"!{here}")

    tell("a person comes to a case and leaves it, both seen", comes_and_goes, empty)


def seen(page: Any, condition: str) -> None:
    """Asked at each of the page's frames; a locator asks more seldom the longer it waits."""
    page.wait_for_function(f"() => {condition}", polling="raf")


def tell(what: str, act: Callable[[int], None], empty: float) -> None:
    took = []
    for number in range(ROUNDS):
        began = time.perf_counter()
        act(number)
        took.append(1000 * (time.perf_counter() - began))
    middle, p95 = median(took), quantiles(took, n=20)[-1]
    print(
        f"{what:<52} median {middle:6.1f} ms ({middle / empty:4.1f}), p95 {p95:6.1f} ms"
        f" ({p95 / empty:4.1f}), worst {max(took):6.1f} ms"
    )
