"""A web process holds as many connections as it was told to, and nobody slow keeps one."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import httpx
import psycopg
import pytest
from websockets.sync.client import connect

from console.database import django_database
from tests.conftest import Processes, direct, eventually, form_of, test_url, waiting
from tests.test_operator_errors import manage, the_line

PLACES = 3
SOCKETS = 1  # the connection on which all sockets sign in, if there ever was one
NAME = "countersign-counted"
# On the database of this process alone: another may be at the same tests.
OURS = "FROM pg_stat_activity WHERE datname = current_database() AND application_name = %s"

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("clean")]


@pytest.fixture(scope="module")
def address(django_db_setup, django_db_blocker) -> Iterator[str]:
    """A web process of three places, whose connections can be told from all others."""
    started = Processes()
    with django_db_blocker.unblock():
        url = f"{test_url()}{'&' if '?' in test_url() else '?'}application_name={NAME}"
        yield started.web(DATABASE_URL=url, WEB_CONNECTIONS=str(PLACES))
    started.stop_all()


@pytest.fixture
def rita(address, as_) -> Iterator[httpx.Client]:
    cookies = {"sessionid": as_("rita").cookies["sessionid"].value}
    with httpx.Client(base_url=address, cookies=cookies, trust_env=False, timeout=30) as client:
        yield client


def held() -> set[int]:
    """The pids of the server's processes that serve the web process."""
    return {pid for (pid,) in direct(f"SELECT pid {OURS}", NAME)}


def together(number: int, call: Callable[[], httpx.Response]) -> list[int]:
    with ThreadPoolExecutor(number) as people:
        return [answer.status_code for answer in people.map(lambda _: call(), range(number))]


@contextmanager
def watched() -> Iterator[list[int]]:
    """How many connections the web process held, seen again and again meanwhile."""
    seen, ended = [len(held())], threading.Event()

    def watch() -> None:
        while not ended.wait(0.01):
            seen.append(len(held()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        ended.set()
        watcher.join()


@contextmanager
def every_request_waits() -> Iterator[None]:
    """Nobody gets past the reading of their session."""
    with psycopg.connect(test_url()) as conn:
        conn.execute("LOCK TABLE django_session IN ACCESS EXCLUSIVE MODE")
        yield


def blocked() -> int:
    """Requests that wait in the database."""
    return len(direct(f"SELECT 1 {OURS} AND wait_event_type = 'Lock'", NAME))


def test_a_burst_is_served_on_no_more_connections_than_there_are_places(rita):
    with watched() as seen:
        assert together(30, lambda: rita.get("/")) == [200] * 30
    assert PLACES <= max(seen) <= PLACES + SOCKETS


def test_a_socket_more_or_less_costs_no_connection(rita, address):
    cookie = {"Cookie": f"sessionid={rita.cookies['sessionid']}"}
    target = address.replace("http", "ws", 1) + "/nudges"
    with ExitStack() as tabs, watched() as seen:
        for _ in range(10):
            tabs.enter_context(
                connect(target, additional_headers=cookie, origin=address, proxy=None)
            )
        assert together(20, lambda: rita.get("/")) == [200] * 20
    assert max(seen) <= PLACES + SOCKETS + 1  # and one that listens for all of them


def test_requests_one_after_the_other_keep_to_one_connection(rita):
    rita.get("/")
    before = held()
    for _ in range(5):
        rita.get("/")
    assert held() == before
    last = f"SELECT pid {OURS} ORDER BY query_start DESC LIMIT 1"
    used = {direct(last, NAME)[0][0] for _ in range(3) if rita.get("/").is_success}
    assert len(used) == 1


def test_connections_that_died_while_nobody_used_them_fail_no_request(rita):
    assert together(PLACES * 2, lambda: rita.get("/")) == [200] * PLACES * 2
    dead = held()
    assert PLACES <= len(dead) <= PLACES + SOCKETS
    for pid in dead:
        direct("SELECT pg_terminate_backend(%s)", pid)
    eventually(lambda: not held())
    assert together(PLACES * 2, lambda: rita.get("/")) == [200] * PLACES * 2
    assert held().isdisjoint(dead)


def test_when_all_places_are_taken_a_text_comes_back_after_seconds_and_not_never(rita, address):
    review = waiting()
    form = form_of(review, "Dear Maeve,\n\nten minutes of <my> work.")
    with ThreadPoolExecutor(PLACES) as others, every_request_waits():
        first = [others.submit(rita.get, "/") for _ in range(PLACES)]
        eventually(lambda: blocked() == PLACES)
        began = time.monotonic()
        answer = rita.post(f"/reviews/{review.pk}/decide", data=form)
        assert 4 < time.monotonic() - began < 20
        assert answer.status_code == 503
        assert answer.headers["Retry-After"] == "2"
        assert "script-src" in answer.headers["Content-Security-Policy"]
        assert "ten minutes of &lt;my&gt; work." in answer.text
        assert "Nothing was recorded" in answer.text
        for path in ("/health", "/static/approvals/countersign.js"):
            began = time.monotonic()
            assert httpx.get(address + path, trust_env=False).status_code == 200
            assert time.monotonic() - began < 4
        assert blocked() == PLACES
    direct("SELECT 1")
    assert [one.result().status_code for one in first] == [200] * PLACES
    token = rita.get(f"/reviews/{review.pk}/")
    assert token.status_code == 200
    assert rita.post(f"/reviews/{review.pk}/decide", data=form).status_code == 403  # no CSRF token


def raw(address: str, text: str) -> socket.socket:
    """A client that sends this and then neither sends nor reads; its buffer is small."""
    host, port = address.removeprefix("http://").split(":")
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect((host, int(port)))
    client.sendall(text.replace("\n", "\r\n").encode())
    return client


def test_who_reads_slowly_keeps_no_place(rita, address):
    long = [{"role": "human", "content": "So be it. " * 1000} for _ in range(40)]
    review = waiting("support", messages=long)
    cookie = f"Cookie: sessionid={rita.cookies['sessionid']}"
    page = f"/reviews/{review.pk}/"
    assert len(rita.get(page).content) > 300_000  # more than the buffers on the way take
    ask = f"GET {page} HTTP/1.1\nHost: localhost\n{cookie}\n\n"
    with ExitStack() as slow:
        for client in [slow.enter_context(raw(address, ask)) for _ in range(PLACES)]:
            assert client.recv(12) == b"HTTP/1.1 200"
        assert together(PLACES, lambda: rita.get("/")) == [200] * PLACES


def test_who_writes_slowly_keeps_no_place(rita, address):
    begun = "POST /sign-in HTTP/1.1\nHost: localhost\nContent-Length: 1000\n\nusername=ri"
    with ExitStack() as slow:
        for _ in range(PLACES):
            slow.enter_context(raw(address, begun))
        time.sleep(0.3)
        assert together(PLACES, lambda: rita.get("/")) == [200] * PLACES


def test_who_leaves_gives_the_place_back(rita, address):
    cookie = f"Cookie: sessionid={rita.cookies['sessionid']}"
    with every_request_waits(), ExitStack() as people:
        for _ in range(PLACES * 3):
            ask = f"GET / HTTP/1.1\nHost: localhost\n{cookie}\n\n"
            people.enter_context(raw(address, ask))
        eventually(lambda: blocked() == PLACES)
    with watched() as seen:
        assert together(PLACES * 3, lambda: rita.get("/")) == [200] * PLACES * 3
    assert max(seen) <= PLACES + SOCKETS


def test_what_is_too_long_to_be_a_form_is_refused_before_it_takes_a_place(rita):
    with every_request_waits():
        answer = rita.post("/sign-in", content=b"a" * 6_000_000)
    assert answer.status_code == 413
    assert "This is too long" in answer.text


@pytest.mark.parametrize("number", ["many", "0", "2.5", "100000"])
def test_a_number_of_connections_that_is_none_is_said(number):
    line = the_line(manage("web", WEB_CONNECTIONS=number))
    assert line.startswith("countersign: WEB_CONNECTIONS must be a whole number from 1 to ")
    assert number in line


def test_a_server_that_vanished_is_noticed_within_half_a_minute():
    """As libpq understands it; the system's own defaults are quarters of an hour."""
    options = django_database("postgresql://ann@db.example/agents")["OPTIONS"]
    silence = (
        options["keepalives_idle"] + options["keepalives_interval"] * options["keepalives_count"]
    )
    assert silence <= 30
    assert options["tcp_user_timeout"] <= 30_000  # milliseconds
