"""The socket: ids only, of one's own queues only, and it heals by itself."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest
from django.db import transaction
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from approvals.events import nudge
from tests.conftest import Processes, direct, eventually, waiting

LISTENING = (
    "SELECT pid FROM pg_stat_activity "
    "WHERE datname = current_database() AND query LIKE 'LISTEN %%countersign%%'"
)
JOINED = {"reviews": [], "refresh": True}


pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("clean")]


@pytest.fixture(scope="module")
def address(django_db_setup, django_db_blocker) -> Iterator[str]:
    """One web process for all: it keeps nothing between two tests."""
    started = Processes()
    with django_db_blocker.unblock():
        yield started.web()
    started.stop_all()


@pytest.fixture
def cookie(as_) -> Callable[[str], dict[str, str]]:
    """The header of a person who has signed in."""
    return lambda name: {"Cookie": f"sessionid={as_(name).cookies['sessionid'].value}"}


def socket(address: str, headers: dict[str, str], origin: str = "") -> ClientConnection:
    """A browser tab's socket."""
    target = address.replace("http", "ws", 1) + "/nudges"
    return connect(target, additional_headers=headers, origin=origin or address, proxy=None)


def heard(tab: ClientConnection, seconds: float = 20) -> dict:
    return json.loads(tab.recv(timeout=seconds))


def silent(tab: ClientConnection, seconds: float = 0.6) -> bool:
    try:
        tab.recv(timeout=seconds)
    except TimeoutError:
        return True
    return False


@contextmanager
def settled(address: str, headers: dict[str, str]) -> Iterator[ClientConnection]:
    """A socket that has been told to look at everything once, and is quiet now."""
    with socket(address, headers) as tab:
        assert heard(tab) == JOINED
        eventually(lambda: direct(LISTENING))
        while not silent(tab, 0.3):
            pass
        yield tab


def test_a_stranger_is_turned_away_with_a_code_that_the_page_knows(address):
    with socket(address, {}) as tab, pytest.raises(ConnectionClosed) as caught:
        tab.recv(timeout=20)
    assert caught.value.rcvd.code == 4401
    assert not direct(LISTENING)


def test_a_page_of_another_site_gets_no_socket(address, cookie):
    with pytest.raises(InvalidStatus) as caught:
        socket(address, cookie("rita"), origin="http://evil.example")
    assert caught.value.response.status_code == 403


def test_a_reviewer_hears_the_ids_of_their_own_queue_and_nothing_of_another(address, cast, cookie):
    cast.tom.groups.set(cast.tom.groups.filter(name="scripted-reviewers"))
    with settled(address, cookie("rita")) as rita, settled(address, cookie("tom")) as tom:
        support = waiting("support")
        assert heard(rita) == {"reviews": [support.pk], "refresh": False}
        assert silent(tom)
        own = waiting("scripted")
        assert heard(tom) == {"reviews": [own.pk], "refresh": False}
        assert heard(rita) == {"reviews": [own.pk], "refresh": False}


def test_a_stranger_to_every_queue_hears_nothing_and_an_auditor_all(address, cookie):
    with settled(address, cookie("stan")) as stan, settled(address, cookie("ada")) as ada:
        review = waiting("support")
        assert heard(ada) == {"reviews": [review.pk], "refresh": False}
        assert silent(stan)


def test_what_is_rolled_back_is_not_said(address, cookie):
    with settled(address, cookie("rita")) as rita:
        with transaction.atomic():
            nudge(1, "support")
            transaction.set_rollback(True)
        assert silent(rita)
        with transaction.atomic():
            nudge(2, "support")
        assert heard(rita) == {"reviews": [2], "refresh": False}


def test_a_burst_is_gathered_and_nothing_of_it_is_lost(address, cookie):
    with settled(address, cookie("rita")) as rita:
        for n in range(1, 201):
            nudge(n, "support")
        told, messages = [], 0
        while len(told) < 200:
            told += heard(rita)["reviews"]
            messages += 1
        assert sorted(told) == list(range(1, 201))
        assert messages < 50


def test_a_listen_connection_that_is_cut_heals_and_says_to_look_again(address, cookie):
    with settled(address, cookie("rita")) as rita:
        ((pid,),) = direct(LISTENING)
        direct("SELECT pg_terminate_backend(%s)", pid)
        assert heard(rita) == JOINED
        assert direct(LISTENING) != [(pid,)]
        nudge(7, "support")
        assert heard(rita) == {"reviews": [7], "refresh": False}


def test_twenty_sockets_of_one_process_need_one_listen_connection(address, cookie):
    rita = cookie("rita")
    with ExitStack() as tabs:
        opened = [tabs.enter_context(socket(address, rita)) for _ in range(20)]
        for tab in opened:
            assert heard(tab) == JOINED
        eventually(lambda: direct(LISTENING))
        for wait, tab in zip([1.0] + [0.1] * 19, opened, strict=True):
            while not silent(tab, wait):
                pass
        nudge(9, "support")
        assert [heard(tab)["reviews"] for tab in opened] == [[9]] * 20
        assert len(direct(LISTENING)) == 1
    eventually(lambda: not direct(LISTENING), what="the last socket takes the connection with it")
