"""Four web processes, two workers, one database: every run finishes, each is delivered once.

COUNTERSIGN_RUNS and COUNTERSIGN_ROUNDS make it longer; `make repeats` does.
"""

import os
import random
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from approvals.models import AuditEntry, Decision, Review
from tests.conftest import direct, eventually, sign_in, test_url
from tests.postgres import ROOT
from tests.test_capture import appears

RUNS = int(os.environ.get("COUNTERSIGN_RUNS", "40"))
ROUNDS = int(os.environ.get("COUNTERSIGN_ROUNDS", "10"))

pytestmark = pytest.mark.timeout(600)


# The agents' own program, which knows LangGraph and nothing of ours.
AGENT = """
import asyncio, os, sys
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from tests.graphs.scripted import builder

async def main(number):
    async with AsyncPostgresSaver.from_conn_string(os.environ["DATABASE_URL"]) as saver:
        graph = builder.compile(saver, interrupt_before=["human_approval"])
        for n in range(number):
            thread = f"run-{n:04}"
            given = {"conversation_id": thread, "title": thread, "agent_response": "Draft"}
            config = {"configurable": {"thread_id": thread}}
            await graph.ainvoke({**given, "log": [], "script": {}}, config)

asyncio.run(main(int(sys.argv[1])))
"""


def form_on(client: httpx.Client, pk: int) -> dict[str, str]:
    """The fields of the review page's form, as a browser would send them back."""
    page = client.get(f"/reviews/{pk}/")
    assert page.status_code == 200, page.text
    return {
        name: re.search(rf'name="{name}" value="([^"]+)"', page.text).group(1)
        for name in ("digest", "checkpoint", "key")
    }


def approve(client: httpx.Client, pk: int, form: dict[str, str], text: str) -> httpx.Response:
    return client.post(f"/reviews/{pk}/decide", data={**form, "edit.agent_response": text})


def delivered() -> dict[str, list[tuple[str, str]]]:
    """thread: (decision, text) of each delivery."""
    found: dict[str, list[tuple[str, str]]] = {}
    for thread, *rest in direct("SELECT conversation_id, decision_id, body FROM effects"):
        found.setdefault(thread, []).append(tuple(rest))
    return found


STORY = ["paused", "decided", "applied", "finished"]


@pytest.mark.usefixtures("cast")
def test_runs_of_one_process_approved_through_others_all_finish_delivered_once(processes):
    began = time.monotonic()
    for _ in range(2):
        processes.worker()
    webs = [processes.web() for _ in range(4)]
    clients = [sign_in(web, name) for web in webs for name in ("rita", "tom")]
    ready = time.monotonic()
    subprocess.run(
        [sys.executable, "-c", AGENT, str(RUNS)],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": test_url()},
        check=True,
    )
    eventually(lambda: Review.objects.waiting().count() == RUNS, 60, "all are captured")
    assert Review.objects.count() == RUNS
    captured = time.monotonic()

    def work(review: tuple[int, str]) -> int:
        pk, thread = review
        asked, answered = random.choice(clients), random.choice(clients)
        return approve(answered, pk, form_on(asked, pk), f"Reply of {thread}").status_code

    reviews = list(Review.objects.values_list("pk", "thread_id"))
    with ThreadPoolExecutor(8) as people:
        assert Counter(people.map(work, reviews)) == {302: RUNS}
    decided = time.monotonic()
    open_ones = Decision.objects.filter(ended_at=None)
    eventually(lambda: not open_ones.exists(), 120, "every run ends")
    ended = time.monotonic()
    assert Counter(Decision.objects.values_list("state", flat=True)) == {"finished": RUNS}
    assert delivered() == {
        decision.review.thread_id: [(str(decision.pk), f"Reply of {decision.review.thread_id}")]
        for decision in Decision.objects.select_related("review")
    }
    for pk, _ in reviews:
        told = AuditEntry.objects.filter(review_id=pk).exclude(action="opened").order_by("id")
        assert list(told.values_list("action", flat=True)) == STORY
    workers = direct("SELECT count(DISTINCT pid) FROM effects")[0][0]
    assert workers == 2
    print(
        f"\n{RUNS} runs through 4 web processes and {workers} workers: {RUNS} finished, each "
        f"delivered once. Captured in {captured - ready:.1f} s, decided in "
        f"{decided - captured:.1f} s, finished {ended - decided:.1f} s later; "
        f"{time.monotonic() - began:.1f} s in all."
    )


@pytest.mark.usefixtures("cast")
def test_two_reviewers_approve_one_review_at_the_same_instant(processes):
    pair = [sign_in(processes.web(), "rita"), sign_in(processes.web(), "tom")]
    processes.worker()
    told = Counter()
    for n in range(ROUNDS):
        review = appears("scripted", thread_id=f"both-{n}")
        barrier = threading.Barrier(2)

        def press(client: httpx.Client, text: str, review=review, barrier=barrier):
            form = form_on(client, review.pk)
            barrier.wait()
            return approve(client, review.pk, form, text)

        with ThreadPoolExecutor(2) as people:
            answers = list(people.map(press, pair, ("Rita wrote this.", "Tom wrote that.")))
        statuses = [answer.status_code for answer in answers]
        assert sorted(statuses) == [302, 409]
        first, second = ("Rita", "Tom") if statuses[0] == 302 else ("Tom", "Rita")
        lost = answers[statuses.index(409)].text
        assert f"{first} wrote" in lost  # both texts
        assert f"{second} wrote" in lost
        assert f"Decided by {first}" in lost
        decision = Decision.objects.get(review=review)
        assert decision.actor.first_name == first
        refused = AuditEntry.objects.get(review=review, action="refused")
        assert refused.after == {"agent_response": f"{second} wrote {_rest(second)}"}
        told[first] += 1
    eventually(lambda: not Decision.objects.filter(ended_at=None).exists(), 60)
    assert Counter(Decision.objects.values_list("state", flat=True)) == {"finished": ROUNDS}
    assert delivered() == {
        decision.review.thread_id: [(str(decision.pk), decision.edits["agent_response"])]
        for decision in Decision.objects.select_related("review")
    }
    print(
        f"\n{ROUNDS} rounds of two approvals at the same instant: one decision, one delivery and "
        f"one 409 each (first: {dict(told)})."
    )


def _rest(name: str) -> str:
    return {"Rita": "this.", "Tom": "that."}[name]
