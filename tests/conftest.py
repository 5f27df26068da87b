"""The cast, the graphs and the processes. Everything is real, the browser included."""

import asyncio
import functools
import itertools
import os
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import psycopg
import pytest
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import Group
from django.db import connection, transaction
from django.test import Client, TransactionTestCase
from django.utils import translation
from hypothesis import HealthCheck
from hypothesis import settings as property_settings
from playwright.sync_api import Page, expect, sync_playwright
from procrastinate.contrib.django.utils import connector_params
from psycopg_pool import AsyncConnectionPool

from approvals import capture, runner
from approvals.install import CHECKPOINT_TABLES
from approvals.models import Decision, Profile, Review
from approvals.registry import registry
from approvals.savers import joined
from tests.browser import Chromium
from tests.children import Child, born
from tests.graphs.scripted import EFFECTS

PASSWORD = "correct horse battery"
HASHED = make_password(PASSWORD, hasher="pbkdf2_sha256")
MESSAGE = "I missed October's payment because my hours were cut. Can I pay the rest after the 28th?"
_numbers = itertools.count(1)
# A property holds on a slow machine too; and what CI finds, it finds again.
property_settings.register_profile(
    "here", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
property_settings.load_profile("here")
KEPT = {"django_migrations", "django_content_type", "auth_permission", "checkpoint_migrations"}


def test_url() -> str:
    """The test database as a URL, for programs that are told where to work."""
    s = connection.settings_dict
    auth = s["USER"] + (f":{s['PASSWORD']}" if s["PASSWORD"] else "")
    if s["HOST"].startswith("/"):
        return f"postgresql://{auth}@/{s['NAME']}?host={s['HOST']}"
    return f"postgresql://{auth}@{s['HOST']}:{s['PORT'] or 5432}/{s['NAME']}"


test_url.__test__ = False  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def english() -> Iterator[None]:
    """A request of a test's client leaves its language to the thread."""
    translation.deactivate()
    yield
    translation.deactivate()


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> None:
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        cursor.execute(EFFECTS)
        os.environ["EFFECTS_URL"] = test_url()


@pytest.fixture
def clean(transactional_db: None) -> None:
    """A committed database without runs or jobs at the start; at the end it is emptied."""
    empty([*CHECKPOINT_TABLES[:3], "approvals_threadchange", "procrastinate_jobs"])


def empty(tables: Iterable[str]) -> None:
    """As a replica does it, without triggers; only a superuser may.

    What the audit trail refuses, and the order of foreign keys, are not at stake here.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute(";".join(f'DELETE FROM "{table}"' for table in tables))


@functools.cache
def _tables() -> set[str]:
    """All but those by which migrations know themselves."""
    return set(connection.introspection.table_names()) - KEPT


# The cast


@pytest.fixture
def cast(db: None) -> SimpleNamespace:
    """One account per role: rita and tom review, ada audits, mara administers, stan is outside."""
    made = [
        _account("rita", "Rita Osei"),
        _account("tom", "Tom Achebe"),
        _account("ada", "Ada Lindqvist"),
        _account("mara", "Mara Quist", is_staff=True, is_superuser=True),
        _account("stan", "Stan Moor"),
    ]
    users = {user.username: user for user in get_user_model().objects.bulk_create(made)}
    Group.objects.bulk_create([Group(name=name) for name in MEMBERS], ignore_conflicts=True)
    member = get_user_model().groups.through
    member.objects.bulk_create(
        member(group=group, user=users[name])
        for group in Group.objects.filter(name__in=MEMBERS)
        for name in MEMBERS[group.name]
    )
    return SimpleNamespace(**users)


MEMBERS = {
    "support-reviewers": ["rita", "tom"],
    "scripted-reviewers": ["rita", "tom"],
    "auditors": ["ada"],
    "others": ["stan"],
}


def _account(username: str, name: str, **flags: bool) -> Any:
    first, last = name.split()
    return get_user_model()(
        username=username, first_name=first, last_name=last, password=HASHED, **flags
    )


@pytest.fixture
def as_(cast: SimpleNamespace) -> Callable[[str], Client]:
    """`as_("rita")` is a signed-in HTTP client of that person. Its errors become answers."""

    def client(name: str) -> Client:
        made = Client(raise_request_exception=False)
        made.force_login(getattr(cast, name))
        return made

    return client


# Runs and reviews


def pause(graph_id: str = "support", thread_id: str = "", **state: Any) -> str:
    """Runs a graph until it pauses, on Django's connection; returns the thread's id."""
    number = next(_numbers)
    thread_id = thread_id or f"{graph_id}-{number}-{uuid.uuid4().hex[:6]}"
    graph = registry().graphs[graph_id]
    given = {**_input(graph_id, thread_id), **state}
    config = {"configurable": {"thread_id": thread_id}, "metadata": {"graph_id": graph_id}}
    joined(graph).invoke(given, config) if graph_id == "support" else asyncio.run(
        joined(graph).ainvoke(given, config)
    )
    return thread_id


def _input(graph_id: str, thread_id: str) -> dict[str, Any]:
    if graph_id == "scripted":
        return {
            "conversation_id": thread_id,
            "title": f"Case {thread_id}",
            "who": "Maeve Kilbride",
            "risk": "medium",
            "agent_response": "Dear Maeve,\n\nWe have noted your plan.\n\nCustomer Care",
            "amount": 60,
            "script": {},
            "log": [],
        }
    return {
        "conversation_id": thread_id,
        "customer": {
            "name": "Maeve Kilbride",
            "email": "maeve@example.com",
            "product": "Flex loan",
            "language": "en",
            "reference": "7741",
        },
        "subject": "Missed payment and credit file",
        "messages": [{"role": "human", "content": MESSAGE}],
    }


def capture_all() -> None:
    """What the worker's capture loop does, until there is nothing left to capture."""
    while capture.capture_batch():
        pass


def waiting(graph_id: str = "support", **state: Any) -> Review:
    """A review that waits, of a real paused run."""
    thread_id = pause(graph_id, **state)
    capture_all()
    return Review.objects.get(thread_id=thread_id)


def form_of(review: Review, text: str | None = None, **fields: Any) -> dict[str, Any]:
    """What the review page's form posts; `text` is the reply, if it was changed."""
    field_name = registry().graphs[review.graph].review.response
    return {
        "digest": review.digest,
        "checkpoint": review.checkpoint_id,
        "key": str(uuid.uuid4()),
        f"edit.{field_name}": review.values[field_name] if text is None else text,
        **fields,
    }


def resume(decision: Decision) -> None:
    """What the worker does with a decision's job, in this process. Needs `clean`."""

    async def run() -> None:
        kwargs = {**connector_params(), "autocommit": True, "prepare_threshold": None}
        async with AsyncConnectionPool(kwargs=kwargs, min_size=0, max_size=4, open=False) as pool:
            await runner.resume(str(decision.pk), pool)

    asyncio.run(run())


def take_up(decision: Decision) -> runner.Lease | None:
    """What a worker does before it runs the thread on; it then dies, or is told to go on."""
    return runner.take_up(str(decision.pk), uuid.uuid4())


def effects(thread_id: str) -> list[tuple[Any, ...]]:
    """(decision_id, body) of each delivery of a scripted run."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT decision_id, body FROM effects WHERE conversation_id = %s ORDER BY id",
            [thread_id],
        )
        return cursor.fetchall()


def eventually(condition: Callable[[], Any], seconds: float = 20, what: str = "") -> Any:
    """The condition's first true value; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s: {what or condition}")


# Processes


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Processes:
    """Real web and worker processes on the test database."""

    running: list[Child] = field(default_factory=list)

    def start(self, *command: str, **environment: str) -> Child:
        child = born(
            ["manage.py", *command], {**os.environ, "DATABASE_URL": test_url()} | environment
        )
        self.running.append(child)
        return child

    def worker(self, **environment: str) -> Child:
        return self.start("worker", **environment)

    def web(self, **environment: str) -> str:
        """The address of a new web process that answers."""
        port = free_port()
        self.start("web", "--port", str(port), **environment)
        address = f"http://127.0.0.1:{port}"
        eventually(lambda: _answers(address), what="the web process answers")
        return address

    def kill(self, child: Child) -> None:
        child.send_signal(signal.SIGKILL)
        child.wait()

    def stop_all(self) -> None:
        for child in self.running:
            if child.poll() is None:
                child.terminate()
        for child in self.running:
            try:
                child.wait(15)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def _answers(address: str) -> bool:
    try:
        return httpx.get(address + "/health", trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.fixture
def processes(clean: None) -> Iterator[Processes]:
    started = Processes()
    yield started
    started.stop_all()


# In a browser

BUSY = """
    SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
    AND application_name = 'countersign' AND state <> 'idle'
"""
# Chromium notes every answer of 400 and more in the console, and htmx every request that the page
# itself gave up, as by a reload; these are such by design.
REFUSED = "Failed to load resource: the server responded with a status of "
BY_DESIGN = (
    *(f"{REFUSED}{code}" for code in (404, 409, 422)),
    "htmx:sendAbort",
    "htmx:afterRequest",  # it comes with each: one that fails brings htmx:sendError too
)
# A test that commits is followed by an empty database. Django's flush truncates every table, which
# makes each anew on the disk, and does part of the migration again: a quarter of its time.
TransactionTestCase._fixture_teardown = lambda self: empty(_tables())  # type: ignore[method-assign]
# To look for the static files takes each Client 20 ms; the web processes serve them.
settings.WHITENOISE_USE_FINDERS = False
# CI does several things at once. What has to be quick is measured in `make bench`.
expect.set_options(timeout=20_000)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    with sync_playwright() as playwright:
        browser = Chromium(playwright)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def webs(django_db_setup: None, tmp_path_factory: Any) -> Iterator[Callable[[float], Any]]:
    """`webs(2)` is a web process with that undo window: its address and its settings.

    One for all tests of a session, which is as it should be: no state lives in it.
    """
    started, known = Processes(), {}

    def web(undo: float) -> Any:
        if undo not in known:
            text = Path(os.environ["REVIEWS_TOML"]).read_text(encoding="utf-8")
            changed = text.replace("undo_window = 8", f"undo_window = {undo}")
            assert changed != text
            reviews = tmp_path_factory.mktemp("web") / "reviews.toml"
            reviews.write_text(changed, encoding="utf-8")
            environment = {"REVIEWS_TOML": str(reviews)}
            known[undo] = started.web(**environment), environment
        return known[undo]

    yield web
    started.stop_all()


@pytest.fixture
def site(processes: Processes, webs: Any) -> Callable[..., str]:
    """`site(undo=2)` is the address of a web process with that undo window, beside a worker."""

    def start(undo: float = 2, worker: bool = True) -> str:
        address, environment = webs(undo)
        if worker:
            processes.worker(**environment)
        return str(address)

    return start


@pytest.fixture
def person(chromium: Chromium, as_) -> Iterator[Callable[..., Page]]:
    """`person(address, "rita")` is the inbox in a browser of their own, signed in.

    At the end no page of any of them may have broken a rule or thrown an error, but for those that
    name one of `expected`.
    """
    contexts, complaints, by_design = [], [], list(BY_DESIGN)

    def complain(message: Any) -> None:
        expected = any(words in message.text for words in by_design)
        if message.type in ("error", "warning") and not expected:
            complaints.append(f"{message.text} ({message.location})")

    def open_browser(
        address: str,
        name: str,
        by_hand: bool = False,
        expected: Any = (),
        stays: bool = True,
        **options: Any,
    ) -> Page:
        # Most tests look at what becomes of a decision; those of the flow go on to the next case.
        user = get_user_model().objects.get(username=name)
        Profile.objects.update_or_create(user=user, defaults={"stays": stays})
        by_design.extend(expected)
        context = chromium.context(base_url=address, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", complain)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.set_default_timeout(20_000)
        if not by_hand:
            session = as_(name).cookies["sessionid"].value
            context.add_cookies([{"name": "sessionid", "value": session, "url": address}])
        page.goto("/")
        if by_hand:
            page.get_by_label("Name").fill(name)
            page.get_by_label("Password").fill(PASSWORD)
            page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("heading", name="Waiting for a person")).to_be_visible()
        return page

    yield open_browser
    for context in contexts:
        chromium.close(context)
    # What their pages had asked for is answered before the tables are emptied.
    eventually(lambda: direct(BUSY) == [(0,)])
    assert complaints == []


def sign_in(address: str, username: str) -> httpx.Client:
    """A real HTTP client, signed in through the page as a person would be."""
    client = httpx.Client(base_url=address, trust_env=False, timeout=30)
    client.get("/sign-in")
    token = client.cookies["csrftoken"]
    answer = client.post(
        "/sign-in",
        data={"username": username, "password": PASSWORD, "csrfmiddlewaretoken": token},
    )
    assert answer.status_code == 302, answer.text
    client.headers["X-CSRFToken"] = client.cookies["csrftoken"]
    return client


def direct(sql: str, *params: Any) -> list[tuple[Any, ...]]:
    """SQL on a connection that is nobody's, committed at once."""
    with psycopg.connect(test_url(), autocommit=True) as conn:
        cursor = conn.execute(sql, params)
        return cursor.fetchall() if cursor.description else []
