"""Each answer to a static pause does what reviews.toml says, once, and leaves its trail."""

import datetime as dt
import json
import operator
import re
import threading
import uuid
from collections.abc import Iterator
from datetime import date
from enum import Enum
from html import escape, unescape
from typing import Annotated, Any, TypedDict

import pytest
from django.db import connections
from django.utils import timezone
from langgraph.graph import END, START, StateGraph
from pytest_django.asserts import assertContains

from approvals.answers import WORDS_FOR
from approvals.forms import UNKNOWN
from approvals.models import AuditEntry, Decision, Review
from approvals.registry import registry
from approvals.savers import joined
from tests.conftest import capture_all as capture
from tests.conftest import effects, form_of, pause, resume, waiting
from tests.shapes import decide, order_of, settle

pytestmark = pytest.mark.usefixtures("clean")
WHY = "Nobody may promise that, Maeve's plan is not agreed."
HERS = "Dear Maeve, these are the words of Rita."
SAID = {"reject": WHY, "send_back": WHY, "respond": HERS}


def post(client, review: Review, action: str, text: str | None = None, **fields: Any) -> Any:
    said = SAID[action] if text is None and action in SAID else text
    words = {} if said is None else {f"text.{action}": said}
    form = form_of(review, **{"action": action, **words, **fields})
    return client.post(f"/reviews/{review.pk}/decide", form)


def decided(client, review: Review, action: str, text: str | None = None, **fields: Any) -> Any:
    answer = post(client, review, action, text, **fields)
    assert answer.status_code == 302, answer.content.decode()[:3000]
    return Decision.objects.exclude(state="undone").get(review=review)


def state_of(review: Review) -> Any:
    place: Any = {"configurable": {"thread_id": review.thread_id}}
    return joined(registry().graphs[review.graph]).get_state(place)


def trail(review: Review) -> list[str]:
    entries = AuditEntry.objects.filter(review=review).order_by("id")
    return list(entries.exclude(action="opened").values_list("action", flat=True))


def texts(answer: Any) -> list[str]:
    html = answer.content.decode()
    areas = re.findall(r"<textarea[^>]*>\n?(.*?)</textarea>", html, re.S)
    inputs = re.findall(r'<input[^>]* value="([^"]*)"', html)
    return [unescape(text) for text in (*areas, *inputs)]


# What each does


def test_an_approval_runs_the_approval_node_and_delivers_the_draft(as_):
    review = waiting("scripted")
    decision = settle(decided(as_("rita"), review, "approve"))
    assert (decision.action, decision.state) == ("approve", "finished")
    assert effects(review.thread_id) == [(str(decision.pk), review.values["agent_response"])]
    values = state_of(review).values
    assert values["log"] == ["draft", "human_approval", "deliver"]
    assert values["agent_type"] == "human_admin"
    assert trail(review) == ["paused", "decided", "applied", "finished"]


def test_an_edit_delivers_the_persons_text(as_):
    review = waiting("scripted")
    fields = {"edit.agent_response": HERS, "edit.amount": "75"}
    decision = settle(decided(as_("rita"), review, "approve", **fields))
    assert (decision.action, decision.state) == ("edit", "finished")
    assert decision.edits == {"agent_response": HERS, "amount": 75}
    assert effects(review.thread_id) == [(str(decision.pk), HERS)]
    assert state_of(review).values["amount"] == 75
    assert trail(review) == ["paused", "decided", "applied", "finished"]


def test_a_rejection_ends_the_thread_with_the_reason_and_delivers_nothing(as_):
    review = waiting("scripted")
    decision = settle(decided(as_("rita"), review, "reject"))
    assert (decision.action, decision.state) == ("reject", "finished")
    state = state_of(review)
    assert state.next == ()
    assert (state.values["note"], state.values["status"]) == (WHY, "rejected")
    assert state.values["log"] == ["draft"]
    assert "agent_type" not in state.values
    assert effects(review.thread_id) == []
    assert trail(review) == ["paused", "decided", "applied", "finished"]
    assert not Review.objects.waiting().exists()


def test_a_rejection_is_audited_with_its_reason(as_):
    review = waiting("scripted")
    settle(decided(as_("rita"), review, "reject"))
    said = AuditEntry.objects.get(action="decided")
    assert (said.note, said.actor.username) == ("reject", "rita")
    assert said.before == {"agent_response": review.values["agent_response"]}
    assert said.after == {"agent_response": review.values["agent_response"], "said": WHY}
    applied = AuditEntry.objects.get(action="applied")
    assert applied.before == {"status": None, "note": None}
    assert applied.after == {"status": "rejected", "note": WHY}
    assert applied.checkpoint_before == review.checkpoint_id


def test_what_is_sent_back_is_drafted_again_by_the_note(as_):
    review = waiting("scripted")
    decision = settle(decided(as_("rita"), review, "send_back", "shorter, please"))
    assert (decision.action, decision.state) == ("send_back", "paused")
    assert decision.goto == "draft"
    assert effects(review.thread_id) == []
    state = state_of(review)
    assert (state.next, state.values["log"]) == (("human_approval",), ["draft", "draft"])
    following = Review.objects.waiting().get()
    assert following.values["agent_response"] == "By your note: shorter, please"
    assert trail(review) == ["paused", "decided", "applied", "paused_again"]
    assert trail(following) == ["paused"]


def test_a_response_stands_in_for_the_draft_and_passes_over_the_approval_node(as_):
    review = waiting("scripted")
    decision = settle(decided(as_("rita"), review, "respond"))
    assert (decision.action, decision.state) == ("respond", "finished")
    assert effects(review.thread_id) == [(str(decision.pk), HERS)]
    values = state_of(review).values
    assert values["log"] == ["draft", "deliver"]
    assert (values["agent_response"], values["agent_type"]) == (HERS, "human")
    assert trail(review) == ["paused", "decided", "applied", "finished"]
    said = AuditEntry.objects.get(action="decided")
    assert said.before == {"agent_response": review.values["agent_response"]}
    assert said.after["agent_response"] == HERS


@pytest.mark.parametrize("action", ["approve", "reject", "send_back", "respond"])
def test_a_repeated_job_does_none_of_it_twice(as_, action):
    review = waiting("scripted")
    decision = settle(decided(as_("rita"), review, action))
    before = (state_of(review).config, effects(review.thread_id), trail(review))
    resume(decision)
    resume(decision)
    assert (state_of(review).config, effects(review.thread_id), trail(review)) == before


# What is refused


@pytest.mark.parametrize("text", ["", " \n\t "])
@pytest.mark.parametrize("action", ["reject", "send_back", "respond"])
def test_an_answer_without_its_words_is_refused_and_says_what_to_write(as_, action, text):
    review = waiting("scripted")
    answer = post(as_("rita"), review, action, text, **{"edit.agent_response": HERS})
    assertContains(answer, escape(WORDS_FOR[Decision.Action(action)]), status_code=422)
    assert HERS in texts(answer)
    assert not Decision.objects.exists()
    review.refresh_from_db()
    assert review.status == "waiting"


def test_words_that_were_written_for_another_answer_are_kept(as_):
    review = waiting("scripted")
    answer = post(as_("rita"), review, "reject", "", **{"text.send_back": "Warmer, please."})
    assert answer.status_code == 422
    assert "Warmer, please." in texts(answer)


def test_words_that_are_too_long_are_refused_and_kept(as_):
    review = waiting("scripted")
    answer = post(as_("rita"), review, "reject", "x" * 501)
    assertContains(answer, "at most 500 can be sent. Shorten it.", status_code=422)
    assert "x" * 501 in texts(answer)
    assert not Decision.objects.exists()


@pytest.mark.parametrize("text", ["no \x00 way", "no \ufffd way"])
def test_words_that_cannot_be_stored_are_refused_with_what_to_do(as_, text):
    review = waiting("scripted")
    answer = post(as_("rita"), review, "reject", text)
    assertContains(answer, "This holds a", status_code=422)
    assert text in texts(answer)
    assert not Decision.objects.exists()


@pytest.mark.parametrize("action", ["reject", "send_back", "respond"])
def test_an_answer_that_the_graph_does_not_offer_is_refused(as_, action):
    review = waiting()  # support configures none in tests/reviews.toml
    answer = post(as_("rita"), review, action)
    assertContains(answer, "This graph does not offer that here.", status_code=422)
    assert not Decision.objects.exists()
    review.refresh_from_db()
    assert review.status == "waiting"
    assert trail(review) == ["paused", "refused"]


@pytest.mark.parametrize("action", ["delete", "edit", "continue", "mixed", "approve; reject"])
def test_an_action_that_does_not_exist_is_refused(as_, action):
    review = waiting("scripted")
    answer = post(as_("rita"), review, action)
    assertContains(answer, "Not recorded.", status_code=422)
    assert answer.context["form"].errors["action"] == [UNKNOWN]
    assert not Decision.objects.exists()


@pytest.mark.parametrize(("name", "status"), [("ada", 403), ("mara", 403), ("stan", 404)])
@pytest.mark.parametrize("action", ["reject", "send_back", "respond"])
def test_who_may_not_approve_may_not_answer_otherwise(as_, name, status, action):
    review = waiting("scripted")
    assert post(as_(name), review, action).status_code == status
    assert not Decision.objects.exists()


def test_edits_typed_before_a_rejection_are_kept_and_not_applied(as_):
    review = waiting("scripted")
    decision = settle(decided(as_("rita"), review, "reject", **{"edit.agent_response": HERS}))
    assert decision.said["unsent"] == {"agent_response": HERS}
    assert (decision.edits, decision.said["text"]) == ({}, WHY)
    assert state_of(review).values["agent_response"] == review.values["agent_response"]


def test_edits_that_could_not_be_sent_do_not_stand_in_the_way_of_a_rejection(as_):
    review = waiting("scripted")
    decision = settle(decided(as_("rita"), review, "reject", **{"edit.agent_response": ""}))
    assert decision.state == "finished"
    assert state_of(review).values["agent_response"] == review.values["agent_response"]


# Taken back, sent twice, two at once


@pytest.mark.parametrize("action", ["approve", "reject", "send_back", "respond"])
def test_an_answer_that_was_taken_back_does_nothing_and_another_can_be_given(as_, action):
    review = waiting("scripted")
    decision = decided(as_("rita"), review, action)
    within = timezone.now() + dt.timedelta(seconds=60)
    Decision.objects.filter(pk=decision.pk).update(apply_after=within)
    assert as_("rita").post(f"/decisions/{decision.pk}/undo").status_code == 302
    settle(decision)
    review.refresh_from_db()
    assert (decision.state, review.status) == ("undone", "waiting")
    assert (effects(review.thread_id), state_of(review).values["log"]) == ([], ["draft"])
    assert state_of(review).config["configurable"]["checkpoint_id"] == review.checkpoint_id
    as_("rita").post(f"/reviews/{review.pk}/release")  # who takes a decision back has the case
    second = settle(decided(as_("tom"), review, "respond", "Tom's own answer."))
    assert effects(review.thread_id) == [(str(second.pk), "Tom's own answer.")]


@pytest.mark.parametrize("action", ["approve", "reject", "send_back", "respond"])
def test_the_same_form_twice_is_one_decision(as_, action):
    review, key = waiting("scripted"), str(uuid.uuid4())
    first = decided(as_("rita"), review, action, key=key)
    assert post(as_("rita"), review, action, key=key).status_code == 302
    settle(first)
    assert post(as_("rita"), review, action, key=key).status_code == 302
    assert Decision.objects.get().pk == first.pk
    assert AuditEntry.objects.filter(action="decided").count() == 1


@pytest.mark.parametrize(("first", "second"), [("approve", "reject"), ("reject", "send_back")])
def test_the_same_form_with_another_action_is_a_conflict(as_, first, second):
    review, key = waiting("scripted"), str(uuid.uuid4())
    decided(as_("rita"), review, first, key=key)
    assert post(as_("rita"), review, second, key=key).status_code == 409
    assert Decision.objects.get().action == first


def test_the_same_form_with_another_reason_is_a_conflict(as_):
    review, key = waiting("scripted"), str(uuid.uuid4())
    decided(as_("rita"), review, "reject", key=key)
    assert post(as_("rita"), review, "reject", "Another reason.", key=key).status_code == 409
    assert Decision.objects.get().said["text"] == WHY


def test_whose_rejection_comes_second_keeps_the_reason_and_is_told_who_was_first(as_):
    review = waiting("scripted")
    decided(as_("rita"), review, "approve")
    answer = post(as_("tom"), review, "reject")
    assertContains(answer, "Decided by Rita Osei", status_code=409)
    assert WHY in texts(answer)
    refused = AuditEntry.objects.get(action="refused", actor__username="tom")
    assert refused.after["said"] == WHY


def test_whose_approval_comes_second_is_told_that_it_was_rejected(as_):
    review = waiting("scripted")
    decided(as_("rita"), review, "reject")
    answer = post(as_("tom"), review, "approve", **{"edit.agent_response": HERS})
    assertContains(answer, "Decided by Rita Osei", status_code=409)
    assertContains(answer, "Rita Osei rejected it", status_code=409)
    assert HERS in texts(answer)


@pytest.mark.parametrize("turn", range(3))
def test_of_an_approval_and_a_rejection_at_once_one_stands(as_, turn):
    review = waiting("scripted")
    clients = {"approve": as_("rita"), "reject": as_("tom")}
    start, answers = threading.Barrier(2), {}

    def send(action: str) -> None:
        start.wait()
        answers[action] = post(clients[action], review, action).status_code
        connections.close_all()

    threads = [threading.Thread(target=send, args=(action,)) for action in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers.values()) == [302, 409]
    decision = Decision.objects.get()
    assert answers[decision.action] == 302
    settle(decision)
    assert decision.state == "finished"
    assert len(effects(review.thread_id)) == (1 if decision.action == "approve" else 0)
    assert AuditEntry.objects.filter(action="refused").count() == 1


# Graphs of other shapes

RAN: list[str] = []
SEEN: list[dict[str, str]] = []


class State(TypedDict, total=False):
    reply: str
    note: str
    status: str
    log: Annotated[list[str], operator.add]


class Given(TypedDict, total=False):
    reply: str
    note: str


class Logged(TypedDict, total=False):
    log: Annotated[list[str], operator.add]


def step(name: str) -> Any:
    def node(state: State) -> dict[str, Any]:
        RAN.append(name)
        return {"log": [name]}

    return node


def drafting(state: State) -> dict[str, Any]:
    RAN.append("draft")
    return {"log": ["draft"], "reply": f"By note {state.get('note')}"}


def graph_of(edges: list[tuple[Any, str]], takes: Any = State, gives: Any = State) -> StateGraph:
    graph = StateGraph(State, input_schema=takes, output_schema=gives)
    named = {end for edge in edges for end in (*_many(edge[0]), edge[1])} - {START, END}
    for name in sorted(named):
        graph.add_node(name, drafting if name == "draft" else step(name))
    for start, end in edges:
        graph.add_edge(start, end)
    return graph


def _many(start: Any) -> list[str]:
    return start if isinstance(start, list) else [start]


def chain(*names: str) -> list[tuple[Any, str]]:
    return list(zip([START, *names], [*names, END], strict=True))


inner = graph_of(chain("draft", "gate", "tidy"), Given).compile(interrupt_before=["gate"])
nested = graph_of([(START, "plan"), ("file", END)])
nested.add_node("desk", inner)
nested.add_edge("plan", "desk")
nested.add_edge("desk", "file")
pair = StateGraph(State)
pair.add_node("file", step("file"))
for side in ("left", "right"):
    # Only the log comes out: two subgraphs at once could not both write the reply.
    two = graph_of(chain("draft", "gate"), Given, Logged)
    pair.add_node(side, two.compile(interrupt_before=["gate"]))
    pair.add_edge(START, side)
pair.add_edge(["left", "right"], "file")
after = graph_of(chain("draft", "send")).compile(interrupt_after=["draft"])
# `gate` and `other` come in one step; `other` is not what the person speaks of.
beside = graph_of(
    [
        (START, "draft"),
        (START, "look"),
        ("draft", "gate"),
        ("look", "other"),
        (["gate", "other"], "send"),
        ("send", END),
    ]
).compile(interrupt_before=["gate"])
escalating = graph_of(
    [(START, "draft"), ("draft", "clerk"), ("clerk", "send"), ("manager", "send"), ("send", END)]
).compile(interrupt_before=["clerk", "manager"])


class Level(Enum):
    LOW = "low"
    HIGH = "high"


class Typed(TypedDict, total=False):
    reply: str
    due: date
    level: Level
    amount: int
    tags: Annotated[list[str], operator.add]
    seen: dict[str, str]


def look(state: Typed) -> dict[str, Any]:
    return {"tags": ["drafted"], "level": state.get("level", Level.LOW)}


def gate(state: Typed) -> dict[str, Any]:
    SEEN.append({name: type(value).__name__ for name, value in state.items()})
    return {"seen": SEEN[-1]}


typed = StateGraph(Typed)
typed.add_node("look", look)
typed.add_node("gate", gate)
typed.add_edge(START, "look")
typed.add_edge("look", "gate")
inside = StateGraph(State)  # no type of its own
inside.add_node("sub", typed.compile(interrupt_before=["gate"]))
inside.add_edge(START, "sub")
TYPED = {
    "reply": "Dear Maeve",
    "due": date(2026, 11, 19),
    "level": Level.LOW,
    "amount": 5,
    "tags": ["vip"],
}
typed_paused = typed.compile(interrupt_before=["gate"])

TABLES = """
[graphs.nested]
group = "scripted-reviewers"
response = "reply"
undo_window = 0
[graphs.nested.reject]
reason = "note"
set = { status = "rejected" }
goto = "__end__"
[graphs.nested.send_back]
reason = "note"
goto = "draft"
[graphs.nested.respond]
goto = "tidy"

[graphs.pair]
group = "scripted-reviewers"
undo_window = 0
[graphs.pair.reject]
goto = "__end__"
[graphs.pair.send_back]
goto = "draft"

[graphs.after]
group = "scripted-reviewers"
response = "reply"
undo_window = 0
[graphs.after.reject]
reason = "note"
goto = "__end__"
[graphs.after.send_back]
reason = "note"
goto = "draft"

[graphs.beside]
group = "scripted-reviewers"
response = "reply"
undo_window = 0
[graphs.beside.reject]
goto = "__end__"
[graphs.beside.send_back]
reason = "note"
goto = "draft"

[graphs.escalating]
group = "scripted-reviewers"
response = "reply"
undo_window = 0
[graphs.escalating.send_back]
reason = "note"
goto = "manager"

[graphs.inside]
group = "scripted-reviewers"
response = "reply"
editable = ["reply", "level"]
undo_window = 0

[graphs.typed]
group = "scripted-reviewers"
response = "reply"
editable = ["reply", "due", "level", "amount", "tags"]
undo_window = 0
"""
TARGETS = {"typed": "typed_paused"}


@pytest.fixture
def shaped(settings: Any, tmp_path: Any) -> Iterator[None]:
    """The graphs above, registered in place of the others."""
    names = ("nested", "pair", "inside", "after", "beside", "escalating", "typed")
    graphs = {name: f"{__name__}:{TARGETS.get(name, name)}" for name in names}
    settings.LANGGRAPH_JSON = tmp_path / "langgraph.json"
    settings.REVIEWS_TOML = tmp_path / "reviews.toml"
    settings.LANGGRAPH_JSON.write_text(json.dumps({"graphs": graphs}))
    settings.REVIEWS_TOML.write_text(TABLES)
    registry.cache_clear()
    RAN.clear()
    yield
    registry.cache_clear()


def run(name: str, **given: Any) -> Review:
    """The review at which a run of this graph waits first."""
    thread_id, config = f"{name}-{uuid.uuid4().hex[:8]}", {"metadata": {"graph_id": name}}
    place: Any = {**config, "configurable": {"thread_id": thread_id}}
    joined(registry().graphs[name]).invoke(given, place)
    capture()
    RAN.clear()
    return Review.objects.waiting().get(thread_id=thread_id)


@pytest.mark.usefixtures("shaped")
def test_a_rejection_in_a_subgraph_ends_the_subgraph_and_the_graph_around_it_goes_on(as_):
    review = run("nested", reply="Dear Maeve")
    assert review.checkpoint_ns
    decision = settle(decided(as_("rita"), review, "reject"))
    assert decision.state == "finished", decision.error
    assert RAN == ["file"]
    values = state_of(review).values
    assert (values["note"], values["status"]) == (WHY, "rejected")
    assert state_of(review).next == ()


@pytest.mark.usefixtures("shaped")
def test_what_is_sent_back_in_a_subgraph_is_drafted_again_there(as_):
    review = run("nested")
    decision = settle(decided(as_("rita"), review, "send_back", "shorter"))
    assert decision.state == "paused", decision.error
    assert RAN == ["draft"]
    following = Review.objects.waiting().get()
    assert following.checkpoint_ns == review.checkpoint_ns
    assert following.values["reply"] == "By note shorter"
    settle(decided(as_("rita"), following, "approve"))
    assert RAN == ["draft", "gate", "tidy", "file"]


@pytest.mark.usefixtures("shaped")
def test_a_response_in_a_subgraph_goes_on_at_the_node_of_the_subgraph(as_):
    review = run("nested")
    decision = settle(decided(as_("rita"), review, "respond"))
    assert decision.state == "finished", decision.error
    assert RAN == ["tidy", "file"]
    assert state_of(review).values["reply"] == HERS


def both() -> tuple[Review, Review]:
    """Two cases of one thread, in subgraphs that run side by side."""
    thread_id = f"pair-{uuid.uuid4().hex[:8]}"
    place: Any = {"configurable": {"thread_id": thread_id}, "metadata": {"graph_id": "pair"}}
    joined(registry().graphs["pair"]).invoke({"log": []}, place)
    capture()
    RAN.clear()
    left, right = Review.objects.waiting().order_by("checkpoint_ns")
    return left, right


@pytest.mark.usefixtures("shaped")
def test_of_two_subgraphs_one_is_rejected_and_the_other_approved(cast):
    left, right = both()
    first = settle(decide(cast.rita, left, order_of(left, action="reject", text=WHY)))
    assert (first.state, RAN) == ("paused", []), first.error
    assert list(Review.objects.waiting()) == [right]
    second = settle(decide(cast.tom, right, order_of(right)))
    assert second.state == "finished", second.error
    assert RAN == ["gate", "file"]


@pytest.mark.usefixtures("shaped")
def test_of_two_subgraphs_one_is_sent_back_and_comes_again_in_its_own_round(cast):
    left, right = both()
    first = settle(decide(cast.rita, left, order_of(left, action="send_back", text="shorter")))
    assert (first.state, RAN) == ("paused", []), first.error
    second = settle(decide(cast.tom, right, order_of(right)))
    assert second.state == "paused", second.error
    assert sorted(RAN) == ["draft", "gate"]
    again = Review.objects.waiting().get()
    assert again.checkpoint_ns == left.checkpoint_ns
    assert (again.round, again.follows) == (2, first)
    last = settle(decide(cast.rita, again, order_of(again)))
    assert last.state == "finished", last.error
    assert sorted(RAN) == ["draft", "file", "gate", "gate"]


@pytest.mark.usefixtures("shaped")
def test_what_comes_in_the_same_step_runs_on_while_the_draft_is_sent_back(as_):
    review = run("beside")
    decision = settle(decided(as_("rita"), review, "send_back", "shorter"))
    assert decision.state == "paused", decision.error
    assert sorted(RAN) == ["draft", "other"]
    following = Review.objects.waiting().get()
    assert following.values["reply"] == "By note shorter"
    settle(decided(as_("rita"), following, "approve"))
    assert sorted(RAN) == ["draft", "gate", "other", "send"]


@pytest.mark.usefixtures("shaped")
def test_what_comes_in_the_same_step_runs_on_after_a_rejection(as_):
    review = run("beside")
    decision = settle(decided(as_("rita"), review, "reject"))
    assert decision.state == "finished", decision.error
    assert RAN == ["other"]


@pytest.mark.usefixtures("shaped")
def test_a_pause_after_a_node_is_rejected_before_the_next_runs(as_):
    review = run("after")
    assert review.kind == "after"
    decision = settle(decided(as_("rita"), review, "reject"))
    assert decision.state == "finished", decision.error
    assert (RAN, state_of(review).next) == ([], ())
    assert state_of(review).values["note"] == WHY


@pytest.mark.usefixtures("shaped")
def test_a_pause_after_a_node_is_sent_back_to_that_node(as_):
    review = run("after")
    decision = settle(decided(as_("rita"), review, "send_back", "shorter"))
    assert decision.state == "paused", decision.error
    assert RAN == ["draft"]
    following = Review.objects.waiting().get()
    assert following.values["reply"] == "By note shorter"
    settle(decided(as_("rita"), following, "approve"))
    assert RAN == ["draft", "send"]


@pytest.mark.usefixtures("shaped")
def test_an_answer_that_leads_to_another_approval_node_runs_nothing_until_that_is_approved(as_):
    review = run("escalating")
    decision = settle(decided(as_("rita"), review, "send_back"))
    assert (decision.state, RAN) == ("paused", []), decision.error
    following = Review.objects.waiting().get()
    assert following.node == "manager"
    assert following.values["note"] == WHY
    settle(decided(as_("tom"), following, "approve"))
    assert RAN == ["manager", "send"]


@pytest.mark.usefixtures("shaped")
def test_an_edit_of_a_typed_field_keeps_its_type_in_the_state(as_):
    review = run("typed", **TYPED)
    edits = {"edit.due": "2026-12-01", "edit.level": "high", "edit.amount": "7"}
    decision = settle(decided(as_("rita"), review, "approve", **edits))
    assert decision.state == "finished", decision.error
    values = state_of(review).values
    assert (values["due"], values["level"]) == (date(2026, 12, 1), Level.HIGH)
    assert (values["amount"], type(values["amount"])) == (7, int)
    kinds = {"due": "date", "level": "Level", "amount": "int", "tags": "list", "reply": "str"}
    assert values["seen"] == kinds


@pytest.mark.usefixtures("shaped")
def test_a_type_that_only_a_subgraph_declares_can_be_seen_and_edited(as_):
    review = run("inside", reply="Dear Maeve")
    assert review.values["level"] == "low"
    decision = settle(decided(as_("rita"), review, "approve", **{"edit.level": "high"}))
    assert decision.state == "finished", decision.error
    assert decision.edits == {"level": "high"}
    assert SEEN[-1]["level"] == "Level"


@pytest.mark.usefixtures("shaped")
def test_an_edit_of_a_field_with_a_reducer_replaces_it(as_):
    review = run("typed", **TYPED)
    assert review.values["tags"] == ["vip", "drafted"]
    settle(decided(as_("rita"), review, "approve", **{"edit.tags": "late"}))
    assert state_of(review).values["tags"] == ["late"]


@pytest.mark.usefixtures("shaped")
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("due", "soon"),
        ("due", "2026-02-30"),
        ("due", "1764547200"),
        ("level", "purple"),
        ("amount", "many"),
        ("amount", "7.5"),
        ("amount", "true"),
        ("amount", '"7"'),
        ("amount", str(2**70)),
    ],
)
def test_a_value_that_its_field_cannot_hold_is_refused_and_kept(as_, name, text):
    review = run("typed", **TYPED)
    answer = post(as_("rita"), review, "approve", **{f"edit.{name}": text})
    assert answer.status_code == 422
    assertContains(answer, "Not recorded.", status_code=422)
    assert any(name in error for error in answer.context["form"].non_field_errors())
    if name != "level":  # a select holds what it offers
        assert text in texts(answer)
    assert not Decision.objects.exists()


def test_a_pause_is_refused_to_a_graph_that_is_not_registered_any_more(as_, settings, tmp_path):
    """Decided, then its table was taken out: the worker says so, and nothing is sent."""
    thread_id = pause("scripted")
    capture()
    review = Review.objects.get(thread_id=thread_id)
    decision = decided(as_("rita"), review, "reject")
    settings.LANGGRAPH_JSON = tmp_path / "langgraph.json"
    settings.REVIEWS_TOML = tmp_path / "reviews.toml"
    settings.LANGGRAPH_JSON.write_text('{"graphs": {}}')
    settings.REVIEWS_TOML.write_text("")
    registry.cache_clear()
    try:
        resume(decision)
    finally:
        registry.cache_clear()
    decision.refresh_from_db()
    assert decision.state == "failed"
    assert "not registered here any more" in decision.error
