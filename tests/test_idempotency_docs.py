"""What docs/idempotency.md tells people to write runs, and a second try has no second effect."""

import json
import re
import socketserver
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any, TypedDict

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph

from tests.conftest import direct, test_url
from tests.postgres import ROOT

TEXT = (ROOT / "docs" / "idempotency.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def examples() -> SimpleNamespace:
    """The page's code, in the order in which it is read."""
    space: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL):
        exec(compile(block, "docs/idempotency.md", "exec"), space)  # noqa: S102
    return SimpleNamespace(**space)


class State(TypedDict, total=False):
    email: str
    subject: str
    agent_response: str
    order: str
    cents: int
    mail_id: str
    refund_id: str
    rounds: int


GIVEN: State = {
    "email": "maeve@example.com",
    "subject": "Your order",
    "agent_response": "Dear Maeve, it is on its way.",
    "order": "A-17",
    "cents": 1250,
    "rounds": 0,
}


class Crash(Exception):
    """Between a node's effect and its checkpoint."""


def crashing(node: Callable[..., dict], times: int = 1) -> Callable[..., dict]:
    """The node, whose first runs have their effect and are then lost."""
    left = [times]

    def run(state: State, config: RunnableConfig) -> dict:
        changes = node(state, config)
        if left[0]:
            left[0] -= 1
            raise Crash
        return {**changes, "rounds": state["rounds"] + 1}

    return run


def carry_out(*nodes: Callable[..., dict], rounds: int = 1, decision: str = "", crashes: int = 1):
    """Runs a graph of these nodes, again after each crash, as a worker's successor does."""
    builder = StateGraph(State)
    names = [f"node_{number}" for number in range(len(nodes))]
    for name, node in zip(names, nodes, strict=True):
        builder.add_node(name, crashing(node, crashes))
    for before, after in zip([START, *names], names, strict=False):
        builder.add_edge(before, after)
    builder.add_conditional_edges(
        names[-1], lambda state: END if state["rounds"] >= rounds * len(nodes) else names[0]
    )
    graph = builder.compile(InMemorySaver())
    run = {"thread_id": uuid.uuid4().hex, "decision_id": decision or str(uuid.uuid4())}
    given: State | None = GIVEN
    while True:
        try:
            return graph.invoke(given, {"configurable": run}, durability="sync")
        except Crash:
            given = None


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, str, dict]]]:
    """An API that keeps to its keys: (path, key, what was sent) of each thing that it did."""
    done: list[tuple[str, str, dict]] = []
    known: dict[str, tuple[dict, dict]] = {}
    tries: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            key = self.headers["Idempotency-Key"]
            tries.append(key)
            if key not in known:
                done.append((self.path, key, sent))
                known[key] = (sent, {"id": f"done-{len(done)}"})
            same, answer = known[key]
            self.send_response(201 if same == sent else 409)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *args: Any) -> None:
            """Quiet."""

    with served(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as port:
        for name in ("MAIL_API", "PAYMENTS_API"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
        yield done
    assert len(tries) > len(done), "nothing was tried again, so nothing was shown"


@contextmanager
def served(server: socketserver.BaseServer) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


def test_a_mail_whose_run_crashed_is_sent_once(examples, receiver):
    ended = carry_out(examples.send_mail, crashes=3)
    sent = {"to": GIVEN["email"], "text": GIVEN["agent_response"]}
    ((path, _, body),) = receiver
    assert (path, body, ended["mail_id"]) == ("/messages", sent, "done-1")


def test_several_effects_of_one_decision_each_happen_once(examples, receiver):
    def both(state: State, config: Any) -> dict:
        return examples.send_mail(state, config) | examples.refund(state, config)

    carry_out(both)
    assert [path for path, _, _ in receiver] == ["/messages", "/refunds"]
    assert len({key for _, key, _ in receiver}) == 2


def test_a_loop_has_its_effect_once_in_each_of_its_turns(examples, receiver):
    carry_out(examples.refund, rounds=3)
    assert len({key for _, key, _ in receiver}) == len(receiver) == 3


def test_two_decisions_are_two_effects(examples, receiver):
    for _ in range(2):
        carry_out(examples.refund)
    assert len(receiver) == 2


def test_a_run_that_nobody_decided_has_its_effects_once_too(examples):
    """Agents run such threads themselves, without our config."""
    config = {"configurable": {"thread_id": "t-1"}, "metadata": {"langgraph_step": 3}}
    other = {"configurable": {"thread_id": "t-2"}, "metadata": {"langgraph_step": 3}}
    key = examples.effect_key(config, "mail")
    assert key == examples.effect_key(config, "mail") != examples.effect_key(other, "mail")


@pytest.mark.django_db(transaction=True)
def test_an_outbox_holds_one_row(examples, monkeypatch):
    monkeypatch.setenv("OUTBOX_URL", test_url())
    direct(examples.OUTBOX)
    try:
        carry_out(examples.put_in_outbox, crashes=2)
        assert direct("SELECT recipient, body FROM outbox") == [
            (GIVEN["email"], GIVEN["agent_response"])
        ]
    finally:
        direct("DROP TABLE outbox")


class Mailbox(socketserver.StreamRequestHandler):
    """As much of SMTP as it takes to be handed a mail."""

    mails: list[str]

    def handle(self) -> None:
        self.say("220 here")
        while line := self.rfile.readline().decode().strip():
            verb = line.upper()
            if verb == "DATA":
                self.say("354 go on")
                self.mails.append("".join(self.data()))
            self.say("221 bye" if verb == "QUIT" else "250 ok")

    def data(self) -> Iterator[str]:
        while (line := self.rfile.readline()) != b".\r\n":
            yield line.decode()

    def say(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())


def test_a_mail_by_smtp_keeps_its_message_id(examples, monkeypatch):
    mails: list[str] = []
    handler = type("Handler", (Mailbox,), {"mails": mails})
    with served(socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler)) as port:
        monkeypatch.setenv("SMTP_HOST", "127.0.0.1")
        monkeypatch.setenv("SMTP_PORT", str(port))
        carry_out(examples.send_by_smtp)
        carry_out(examples.send_by_smtp, crashes=0)
    first, again, other = (re.search(r"Message-ID: (\S+)", mail).group(1) for mail in mails)
    assert first == again != other
