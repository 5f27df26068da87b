"""Web through a real PgBouncer in transaction mode, everything else past it."""

import re
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from types import SimpleNamespace

import httpx
import psycopg
import pytest
from django.test import Client

from approvals.models import AuditEntry, Decision, Review
from tests.conftest import (
    Processes,
    capture_all,
    direct,
    eventually,
    free_port,
    pause,
    sign_in,
    test_url,
)
from tests.pooler import BINARY, HOW, Pooler, pooler
from tests.posting import approve, form_on
from tests.test_live import LISTENING, heard, silent, socket

SIZE = 4
BEATING = (
    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() "
    "AND query LIKE '%%update_heartbeat%%' AND pid <> pg_backend_pid()"
)

pytestmark = [
    pytest.mark.skipif(BINARY is None, reason=HOW),
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("clean", "cast"),
]


@pytest.fixture(scope="module")
def house(django_db_setup, django_db_blocker) -> Iterator[SimpleNamespace]:
    """A pooler with two webs behind it, and a worker that is told of both addresses."""
    started = Processes()
    with django_db_blocker.unblock(), pooler(test_url(), port=free_port(), size=SIZE) as one:
        eventually(lambda: answers(one), 5, "PgBouncer answers")
        environment = {"DATABASE_URL": one.url, "DIRECT_DATABASE_URL": test_url()}
        webs = [started.web(**environment, WEB_CONNECTIONS="20") for _ in range(2)]
        yield SimpleNamespace(pooler=one, webs=webs, environment=environment)
        started.stop_all()


def answers(one: Pooler) -> bool:
    try:
        one.show("POOLS")
    except psycopg.OperationalError:
        return False
    return True


def cookied(web: str, known: Client) -> httpx.Client:
    """A client of a session that was made already: signing in is slow."""
    cookies = {"sessionid": known.cookies["sessionid"].value}
    return httpx.Client(base_url=web, cookies=cookies, trust_env=False, timeout=30)


def backends(one: Pooler) -> set[int]:
    """The pids of the server's processes that the pooler has."""
    return {row["remote_pid"] for row in one.show("SERVERS")}


def clients(one: Pooler) -> int:
    return len(one.show("CLIENTS"))


def test_a_startup_option_would_be_refused(house):
    """Else nothing here would show that web sends none."""
    with pytest.raises(psycopg.OperationalError, match="unsupported startup parameter"):
        psycopg.connect(f"{house.pooler.url}?options=-cidle_in_transaction_session_timeout%3D15s")


def test_a_case_from_sign_in_to_the_trail(house, processes, as_):
    processes.worker(**house.environment)
    rita, thread = sign_in(house.webs[0], "rita"), pause("scripted")
    pause("support")  # which can be undone for eight seconds
    cookie = {"Cookie": f"sessionid={rita.cookies['sessionid']}"}
    eventually(lambda: Review.objects.waiting().count() == 2, what="captured past the pooler")
    approved, undone = Review.objects.order_by("graph")
    with socket(house.webs[1], cookie) as tab:
        eventually(lambda: silent(tab, 0.4), 10)
        answer = approve(rita, approved.pk, form_on(rita, approved.pk), "Through the pooler.")
        assert answer.status_code == 302
        assert approved.pk in heard(tab)["reviews"]  # said by one web, heard at the other
        assert {pid for (pid,) in direct(LISTENING)}.isdisjoint(backends(house.pooler))
    approve(rita, undone.pk, form_on(rita, undone.pk), "Taken back.")
    decision = Decision.objects.get(review=undone)
    assert rita.post(f"/decisions/{decision.pk}/undo").status_code == 302
    finished = Decision.objects.filter(review=approved, state="finished")
    eventually(finished.exists, what="the run finishes")
    undone.refresh_from_db()
    assert undone.status == "waiting"
    assert thread in rita.get(f"/reviews/{approved.pk}/").text
    assert rita.get(f"/reviews/{approved.pk}/compare").status_code in (200, 404)
    ada = cookied(house.webs[1], as_("ada"))
    decided = AuditEntry.objects.get(review=approved, action="decided")
    assert "Through the pooler." in ada.get(f"/audit/{decided.pk}/").text
    mara = cookied(house.webs[0], as_("mara"))
    assert mara.get("/admin/auth/user/").status_code == 200
    changed = mara.get("/admin/auth/group/add/")
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', changed.text).group(1)
    made = {"name": "made through the pooler", "csrfmiddlewaretoken": token}
    assert mara.post("/admin/auth/group/add/", data=made).status_code == 302
    hearts = {
        pid for (pid,) in eventually(lambda: direct(BEATING), what="the heart's own connection")
    }
    assert hearts.isdisjoint(backends(house.pooler))


def test_forty_pages_at_once_through_two_webs_and_four_connections(house, as_):
    for _ in range(4):
        pause("scripted")
    capture_all()
    people = [cookied(web, as_("rita")) for web in house.webs]
    reviews = list(Review.objects.values_list("pk", flat=True))
    paths = ["/", "/?q=Case", *(f"/reviews/{pk}/" for pk in reviews)]

    def load(number: int) -> int:
        return people[number % 2].get(paths[number % len(paths)]).status_code

    began = time.monotonic()
    with ThreadPoolExecutor(40) as pool:
        assert Counter(pool.map(load, range(40))) == {200: 40}
    assert len(backends(house.pooler)) == SIZE
    assert clients(house.pooler) > SIZE
    print(f"\n40 pages in {time.monotonic() - began:.1f} s on {SIZE} connections")
    assert_no_session_was_left(house.pooler)


SESSION = {
    "prepared statements": "SELECT count(*) FROM pg_prepared_statements",
    "advisory locks": "SELECT count(*) FROM pg_locks "
    "WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
    "channels": "SELECT count(*) FROM pg_listening_channels()",
    "cursors": "SELECT count(*) FROM pg_cursors WHERE is_holdable",
    "settings": "SELECT count(*) FROM pg_settings WHERE source = 'session' "
    "AND name NOT IN ('application_name', 'client_encoding', 'TimeZone', 'DateStyle', "
    "'standard_conforming_strings', 'IntervalStyle')",  # which the pooler itself keeps apart
}


def assert_no_session_was_left(one: Pooler) -> None:
    """Looks at every one of the pooler's connections, each held by a transaction meanwhile."""
    with ExitStack() as opened:
        seen = set()
        for _ in range(SIZE):
            conn = opened.enter_context(psycopg.connect(one.url, prepare_threshold=None))
            seen.add(conn.execute("SELECT pg_backend_pid()").fetchone())
            left = {name: conn.execute(query).fetchone()[0] for name, query in SESSION.items()}
            assert left == dict.fromkeys(SESSION, 0)
        assert len(seen) == SIZE


def test_connections_of_the_pooler_that_died_fail_no_request(house, as_):
    """As a restart of Postgres behind it leaves them."""
    rita = cookied(house.webs[0], as_("rita"))
    assert rita.get("/").status_code == 200
    for pid in backends(house.pooler):
        direct("SELECT pg_terminate_backend(%s)", pid)
    time.sleep(0.3)
    with ThreadPoolExecutor(8) as pool:
        assert {a.status_code for a in pool.map(lambda _: rita.get("/"), range(16))} == {200}


def test_a_web_that_was_not_told_of_its_pooler_says_what_to_set(house, processes):
    web = processes.web(DATABASE_URL=house.pooler.url)
    answer = httpx.get(f"{web}/ready", trust_env=False)
    assert answer.status_code == 503
    assert "set DIRECT_DATABASE_URL" in answer.json()["reasons"][0]
