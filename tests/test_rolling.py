"""Web processes are exchanged while people work: nobody loses anything, nothing happens twice."""

import itertools
import queue
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import httpx
import psycopg
import pytest
from playwright.sync_api import expect
from websockets.exceptions import ConnectionClosed

from approvals.models import AuditEntry, Decision, Review
from tests.children import Child
from tests.conftest import (
    Processes,
    capture_all,
    direct,
    eventually,
    form_of,
    free_port,
    pause,
    sign_in,
    test_url,
    waiting,
)
from tests.test_live import heard, socket

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("clean")]

# What Chromium and htmx note of a socket that is not there yet.
NOT_THERE = [
    "WebSocket connection",
    "[object Event]",
    "net::ERR_",  # a refresh that was due when its process went
    "htmx:afterRequest",
    "htmx:sendError",
]

LOCKED = (
    "SELECT 1 FROM pg_stat_activity "
    "WHERE wait_event_type = 'Lock' AND application_name = 'countersign' "
    "AND datname = current_database()"
)


class Web:
    """A web process at an address that it may leave to the next."""

    def __init__(self, processes: Processes) -> None:
        self.processes, self.port = processes, free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.child = self.begin()

    def begin(self) -> Child:
        self.child = self.processes.start("web", "--port", str(self.port))
        return self.child

    def wait(self) -> None:
        eventually(self.answers, what="the web process answers")

    def answers(self) -> bool:
        try:
            return httpx.get(f"{self.address}/health", trust_env=False).is_success
        except httpx.HTTPError:
            return False

    def stop(self) -> None:
        self.child.send_signal(signal.SIGTERM)
        self.child.wait(12)


@pytest.fixture
def web(processes) -> Web:
    begun = Web(processes)
    begun.wait()
    return begun


def test_a_page_lives_on_at_the_next_process_and_shows_what_it_missed(web, person, cast):
    first = waiting("support")
    page = person(web.address, "rita", expected=NOT_THERE)
    page.goto(f"/reviews/{first.pk}/")
    page.evaluate("window.sameDocument = true")
    reply, lost = page.locator("#reply"), page.locator("#lost")
    reply.fill("Dear Maeve,\n\nhalf a sent")
    expect(page.locator("#redline ins").first).to_be_visible()
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    went = time.monotonic()
    web.stop()
    missed = waiting("support", subject="What nobody heard of")
    expect(lost).to_be_visible()
    assert time.monotonic() - went > 1.9  # a blink is not worth a word
    web.begin()
    web.wait()
    expect(page.locator("#q-rows")).to_contain_text(missed.title)
    expect(lost).to_be_hidden()
    assert reply.input_value() == "Dear Maeve,\n\nhalf a sent"
    assert page.evaluate("window.sameDocument")
    assert dialogs == []


@pytest.mark.usefixtures("cast")
def test_what_is_under_way_at_sigterm_is_answered_and_sockets_are_told_to_come_back(web):
    """The process outlives the longest wait for a lock: who waited in vain gets their text back."""
    quick, long = waiting("support"), waiting("support")
    rita = sign_in(web.address, "rita")
    with psycopg.connect(test_url()) as released, psycopg.connect(test_url()) as kept:
        cookie = {"Cookie": f"sessionid={rita.cookies['sessionid']}"}
        with socket(web.address, cookie) as tab, ThreadPoolExecutor(2) as people:
            posted = []
            for holder, review in ((released, quick), (kept, long)):
                holder.execute(
                    "SELECT 1 FROM approvals_review WHERE id = %s FOR UPDATE", [review.pk]
                )
                form = form_of(review, f"Dear Maeve, of {review.pk}.")
                path = f"/reviews/{review.pk}/decide"
                posted.append(people.submit(rita.post, path, data=form))
            eventually(lambda: len(direct(LOCKED)) == 2)
            web.child.send_signal(signal.SIGTERM)
            with suppress(ConnectionClosed):
                while heard(tab):
                    pass
            assert tab.close_code == 1012  # "service restart", after which htmx reconnects
            assert not web.answers(), "somebody new was let in"
            assert not any(one.done() for one in posted)
            released.rollback()
            first, second = (one.result() for one in posted)
    assert first.status_code == 302
    assert second.status_code == 503
    assert f"Dear Maeve, of {long.pk}." in second.text
    assert [d.review_id for d in Decision.objects.all()] == [quick.pk]
    web.child.wait(20)


class Person:
    """Decides at whichever address answers, and sends a form again that got no answer."""

    def __init__(self, webs: list[Web]) -> None:
        self.clients = [sign_in(web.address, "rita") for web in webs]
        self.repeated = 0

    def decide(self, review: Review) -> int:
        form = form_of(review, f"Reply to {review.thread_id}")
        for client in itertools.cycle(self.clients):
            try:
                return client.post(f"/reviews/{review.pk}/decide", data=form).status_code
            except httpx.TransportError:
                self.repeated += 1
                time.sleep(0.05)
        raise AssertionError


@pytest.mark.usefixtures("cast")
def test_two_processes_are_exchanged_under_a_load_of_decisions(processes):
    webs = [Web(processes), Web(processes)]
    for _ in range(40):
        pause("support")
    capture_all()
    for web in webs:
        web.wait()
    people, ended = [Person(webs), Person(webs[::-1])], threading.Event()
    left, told = queue.SimpleQueue(), Counter()
    for review in Review.objects.all():
        left.put(review)

    def work(person: Person) -> None:
        while not left.empty():
            told[person.decide(left.get())] += 1
            ended.wait(0.1 if left.qsize() > 12 else 1)  # the load outlasts the exchange

    with ThreadPoolExecutor(2) as pool:
        working = [pool.submit(work, person) for person in people]
        for web in webs:
            web.stop()
            web.begin()
        ended.set()
    for one in working:
        one.result()
    assert told == {302: 40}
    assert sum(person.repeated for person in people) > 0
    decided = {d.review.thread_id: d.edits for d in Decision.objects.select_related("review")}
    assert decided == {
        r.thread_id: {"agent_response": f"Reply to {r.thread_id}"} for r in Review.objects.all()
    }
    assert AuditEntry.objects.filter(action="decided").count() == 40
