"""No answer ever reaches a question that its person did not see, whatever is repeated or too late.

COUNTERSIGN_REPEATS makes it longer; `make repeats` has 100 of each shape.
"""

import asyncio
import json
import os
import random
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command, StateSnapshot, interrupt
from procrastinate.contrib.django.utils import connector_params
from psycopg_pool import AsyncConnectionPool
from pydantic import BaseModel, field_validator

from approvals import actions, runner
from approvals.answers import Order
from approvals.audit import Actor
from approvals.errors import Conflict, Invalid
from approvals.models import AuditEntry, Decision, Review
from approvals.registry import registry
from approvals.savers import LeaseLost, joined
from tests.conftest import capture_all, resume, take_up
from tests.contract.graphs import BROKEN, RAN, SHAPES, State, asking, begin, beside, inner, step
from tests.shapes import (
    TABLE,
    decide,
    langgraphs_answer,
    order_of,
    reviews_of,
    run_shape,
    settle,
    shapes,
    state_of,
)

__all__ = ["shapes"]
REPEATS = int(os.environ.get("COUNTERSIGN_REPEATS", "1"))

pytestmark = [
    pytest.mark.usefixtures("clean", "shapes"),
    pytest.mark.timeout(240 + 30 * REPEATS),
]

QUESTIONS = {
    "asks_in_turn": ["one?", "two?", "three?"],
    "asks_side_by_side": ["finance?", "legal?"],
    "asks_in_sends": ["send a?", "send b?"],
    "asks_in_loop": ["again?", "again?"],
    "asks_in_subgraph": ["inside?", "still?"],
}
IN_ORDER = {"asks_in_turn", "asks_in_loop", "asks_in_subgraph"}


# How a job can go


def run_on(lease: runner.Lease) -> BaseException | None:
    """The run of a worker, which then dies before it can say how the run ended."""

    async def run() -> BaseException | None:
        kwargs = {**connector_params(), "autocommit": True, "prepare_threshold": None}
        async with AsyncConnectionPool(kwargs=kwargs, min_size=0, max_size=4, open=False) as pool:
            return await runner._run_on(lease, pool)

    return asyncio.run(run())


def applied(decision: Decision) -> runner.Lease:
    lease = take_up(decision)
    assert lease is not None
    return lease


def as_usual(decision: Decision) -> None:
    resume(decision)


def died_before_the_run(decision: Decision) -> None:
    applied(decision)
    resume(decision)


def died_after_the_run(decision: Decision) -> None:
    assert run_on(applied(decision)) is None
    resume(decision)


def by_two_at_once(decision: Decision) -> None:
    with ThreadPoolExecutor(2) as workers:
        list(workers.map(resume, [decision, decision]))
    resume(decision)  # each may have left it to the other


def by_a_sleeper_too(decision: Decision) -> None:
    """Its lease is taken over while it sleeps; then it runs what it believes to be its run."""
    sleeper = applied(decision)
    resume(decision)
    with pytest.raises(LeaseLost):
        run_on(sleeper)
    runner.record_outcome(sleeper, None)
    runner.record_outcome(sleeper, RuntimeError("a sleeper's"))


JOBS = [as_usual, died_before_the_run, died_after_the_run, by_two_at_once, by_a_sleeper_too]


# What is repeated


@dataclass
class Story:
    """One thread, and what its people said so far."""

    shape: str
    thread_id: str
    rita: Any
    sent: list[dict[str, Any]] = field(default_factory=list)
    last: tuple[Review, Order, Decision] | None = None

    @property
    def state(self) -> StateSnapshot:
        return state_of(self.shape, self.thread_id)

    @property
    def waiting(self) -> list[Review]:
        return list(Review.objects.waiting().filter(thread_id=self.thread_id).order_by("pk"))

    def answer(self, review: Review, job: Any) -> None:
        """Decides, has the job done in its way, and repeats whatever can be repeated."""
        value = {"to": review.pause["question"], "number": len(self.sent), "of": self.thread_id}
        order = order_of(review, value)
        self.refuses_the_one_before(review)
        decision = decide(self.rita, review, order)
        self.sent.append(value)
        self.last = (review, order, decision)
        self.repeat_post(review, order, decision)
        job(decision)
        capture_all()
        self.repeat_everything()

    def repeat_everything(self) -> None:
        """The job, the POST, and a form that is late: none changes what LangGraph waits for."""
        assert self.last is not None
        review, order, decision = self.last
        before = self.as_it_is()
        resume(decision)
        with ThreadPoolExecutor(2) as workers:
            list(workers.map(resume, [decision, decision]))
        self.repeat_post(review, order, decision)
        for other in self.waiting:
            if other.follows_id is not None:
                self.refuses_the_one_before(other)
        capture_all()
        assert self.as_it_is() == before
        decision.refresh_from_db()
        assert decision.state in {"paused", "finished"}, decision.error

    def repeat_post(self, review: Review, order: Order, decision: Decision) -> None:
        assert decide(self.rita, review, order).pk == decision.pk
        with pytest.raises(Conflict):
            decide(self.rita, review, replace(order, key=uuid4()))
        assert Decision.objects.filter(review=review).count() == 1

    def refuses_the_one_before(self, review: Review) -> None:
        """The form of the question before, sent to this one: with its key, and with a new one."""
        if self.last is None:
            return
        seen, order, _ = self.last
        if (order.digest, order.checkpoint_id) == (review.digest, review.checkpoint_id):
            return  # asked side by side: both were on the same page
        for key in (order.key, uuid4()):
            with pytest.raises((Conflict, Invalid)):
                decide(self.rita, review, replace(order, key=key))
        assert seen.pk != review.pk
        assert not Decision.objects.filter(review=review).exists()

    def as_it_is(self) -> Any:
        """What waits, what has been answered and what ran to its end."""
        state = self.state
        questions = sorted((i.id, str(i.value)) for i in state.interrupts)
        return state.next, questions, state.values, reviews_of(self.thread_id)

    def check(self) -> None:
        state, questions = self.state, QUESTIONS[self.shape]
        assert reviews_of(self.thread_id) == langgraphs_answer(state)
        asked = Counter(str(one.value) for one in state.interrupts)
        answered = Counter(one["to"] for one in self.sent)
        if self.shape in IN_ORDER:
            assert list(asked) == questions[len(self.sent) :][:1]
        else:
            assert asked + answered == Counter(questions)

    def check_end(self) -> None:
        """Each question has the answer that was given to it, and no other came anywhere."""
        got = self.state.values["answers"]
        if self.shape == "asks_in_sends":
            assert all(value["to"] == f"send {draft}?" for draft, value in got)
            got = [value for _, value in got]
        by_number = got if self.shape in IN_ORDER else sorted(got, key=lambda one: one["number"])
        assert by_number == self.sent
        assert sorted(self.state.values["log"]) == SHAPES[self.shape].does
        decisions = Decision.objects.filter(review__thread_id=self.thread_id)
        assert decisions.count() == len(QUESTIONS[self.shape])
        applied = AuditEntry.objects.filter(thread_id=self.thread_id, action="applied")
        assert applied.count() == decisions.count()


@pytest.mark.parametrize("shape", QUESTIONS)
def test_what_is_repeated_or_late_answers_no_question_that_was_not_seen(shape, cast):
    chance = random.Random(shape)
    for number in range(REPEATS):
        story = Story(shape, run_shape(shape), cast.rita)
        story.check()
        while story.waiting:
            job = JOBS[(number + len(story.sent)) % len(JOBS)]
            story.answer(chance.choice(story.waiting), job)
            story.check()
        story.check_end()


def post(client: Any, review: Review, order: Order) -> int:
    form = {"digest": order.digest, "checkpoint": order.checkpoint_id, "key": str(order.key)}
    return int(client.post(f"/reviews/{review.pk}/decide", form).status_code)


@pytest.mark.usefixtures("cast")
def test_what_is_repeated_or_late_lets_pass_no_round_of_a_loop_that_was_not_seen(as_):
    """Over HTTP: the pause is a static one, which a bare run would push through."""
    rita = as_("rita")
    for number in range(REPEATS):
        thread_id, late, doubled = run_shape("loop"), [], 0
        for rounds in (1, 2):
            review = Review.objects.waiting().get(thread_id=thread_id)
            for order in late:
                assert post(rita, review, order) in {409, 422}
                assert post(rita, review, replace(order, key=uuid4())) == 409
            order, job = order_of(review), JOBS[(number + rounds) % len(JOBS)]
            assert post(rita, review, order) == 302
            decision = Decision.objects.get(review=review)
            job(decision)
            capture_all()
            doubled += job is by_two_at_once
            for again in (as_usual, by_two_at_once):
                again(decision)
                assert post(rita, review, order) == 302
                assert post(rita, review, replace(order, key=uuid4())) == 409
            late.append(order)
            state = state_of("loop", thread_id)
            assert state.values["log"] == ["draft", "gate", "draft", "gate"][: 2 * rounds + 1]
            assert reviews_of(thread_id) == langgraphs_answer(state)
            # Two workers that hold one run may both begin its node; none begins the next one's.
            assert RAN[thread_id].count("gate") - rounds in range(doubled + 1)
        assert state.next == ()
        assert Decision.objects.filter(review__thread_id=thread_id).count() == 2


# Another program answers first


def outside(shape: str, thread_id: str, given: Any = None) -> None:
    """The agent's own program resumes its thread."""
    config: Any = {"configurable": {"thread_id": thread_id}, "metadata": {"graph_id": shape}}
    asyncio.run(joined(registry().graphs[shape]).ainvoke(given, config))


def asked_by(thread_id: str, shape: str = "asks_in_turn") -> list[str]:
    assert reviews_of(thread_id) == langgraphs_answer(state_of(shape, thread_id))
    return [str(one.value) for one in state_of(shape, thread_id).interrupts]


def only_review(thread_id: str) -> Review:
    return Review.objects.waiting().get(thread_id=thread_id)


def by_id(shape: str, thread_id: str, value: Any) -> Command:
    (asked,) = state_of(shape, thread_id).interrupts
    return Command(resume={asked.id: value})


@pytest.mark.parametrize("named", [False, True], ids=["a bare resume", "a resume by id"])
def test_an_answer_that_another_program_outran_is_given_to_no_later_question(named, cast):
    thread_id = run_shape("asks_in_turn")
    late = decide(cast.rita, only_review(thread_id), order_of(only_review(thread_id), "ours"))
    command = by_id("asks_in_turn", thread_id, "theirs") if named else Command(resume="theirs")
    outside("asks_in_turn", thread_id, command)
    assert settle(late).state == "superseded"
    settle(late)
    assert asked_by(thread_id) == ["two?"]
    for answer, left in (("second", ["three?"]), ("third", [])):
        review = only_review(thread_id)
        assert settle(decide(cast.rita, review, order_of(review, answer))).state != "superseded"
        assert asked_by(thread_id) == left
    assert state_of("asks_in_turn", thread_id).values["answers"] == ["theirs", "second", "third"]


@pytest.mark.parametrize("shape", ["asks_in_turn", "asks_in_loop", "asks_in_subgraph"])
def test_a_program_that_resumes_with_nothing_takes_nothing_from_our_answer(shape, cast):
    thread_id = run_shape(shape)
    review = only_review(thread_id)
    decision = decide(cast.rita, review, order_of(review, "ours"))
    outside(shape, thread_id)
    capture_all()
    assert settle(decision).state == "paused"
    settle(decision)
    assert asked_by(thread_id, shape) == QUESTIONS[shape][1:2]


@pytest.mark.parametrize("shape", ["asks_in_turn", "asks_in_loop", "asks_in_subgraph"])
def test_a_program_that_runs_what_our_dead_worker_left_gives_our_answer_once(shape, cast):
    thread_id = run_shape(shape)
    review = only_review(thread_id)
    decision = decide(cast.rita, review, order_of(review, "ours"))
    applied(decision)
    outside(shape, thread_id)
    settle(decision)
    assert asked_by(thread_id, shape) == QUESTIONS[shape][1:2]
    while Review.objects.waiting().filter(thread_id=thread_id).exists():
        review = only_review(thread_id)
        settle(decide(cast.rita, review, order_of(review, f"to {review.interrupt_id}")))
    answers = state_of(shape, thread_id).values["answers"]
    assert answers.count("ours") == 1
    assert len(answers) == len(set(answers)) == len(QUESTIONS[shape])


def test_a_bare_resume_of_another_program_that_has_arrived_answers_no_later_question(cast):
    thread_id = run_shape("asks_in_turn")
    outside("asks_in_turn", thread_id, Command(resume="theirs"))
    capture_all()
    review = only_review(thread_id)
    decision = settle(decide(cast.rita, review, order_of(review, "ours")))
    assert decision.state == "paused"
    assert asked_by(thread_id) == ["three?"]


# Graphs of this file, each a target of langgraph.json by its name


class Even(BaseModel):
    """What JSON Schema cannot say of it: a form lets 3 pass, the node does not."""

    amount: int

    @field_validator("amount")
    @classmethod
    def is_even(cls, amount: int) -> int:
        if amount % 2:
            raise ValueError("must be even")
        return amount


def gated(side: str) -> CompiledStateGraph:
    names = [f"{side}_{name}" for name in ("look", "gate", "tidy")]
    nodes = [(name, step(name)) for name in names]
    return inner(*nodes, interrupt_before=[f"{side}_gate"])


def asked(side: str) -> CompiledStateGraph:
    return inner((f"{side}_look", step(f"{side}_look")), (f"{side}_ask", asking(f"{side}_ask", 1)))


def asks(*questions: Any, schema: Any = None) -> Any:
    return beside(ask=asking("ask", *questions, schema=schema))


def asks_on_and_on(state: State, config: RunnableConfig) -> dict[str, Any]:
    """Three questions; it can break between two of them."""
    answers = []
    for number in range(3):
        answers.append(interrupt(number))
        begin(config, f"after {number}")
    return {"log": ["ask"], "answers": answers}


LOCAL = {
    "breaks_between": lambda: beside(ask=asks_on_and_on),
    "breaks_between_inside": lambda: beside(sub=inner(("ask", asks_on_and_on))),
    "static_twice": lambda: beside(left=gated("left"), right=gated("right")),
    "static_and_asking": lambda: beside(left=gated("left"), right=asked("right")),
    "asks_the_same": lambda: asks("sure?", "sure?", "sure?"),
    "refuses": lambda: asks("how much?", "and then?", schema=Even),
    "refuses_inside": lambda: beside(
        sub=inner(("ask", asking("ask", "how much?", "and then?", schema=Even)))
    ),
}


def __getattr__(name: str) -> Any:
    if name not in LOCAL:
        raise AttributeError(name)
    return LOCAL[name]().compile()


@pytest.fixture
def local(settings: Any, shapes: None) -> Iterator[None]:
    targets = {name: f"{__name__}:{name}" for name in LOCAL}
    settings.LANGGRAPH_JSON.write_text(json.dumps({"graphs": targets}))
    settings.REVIEWS_TOML.write_text("".join(TABLE.format(name=name) for name in LOCAL))
    registry.cache_clear()
    yield
    registry.cache_clear()


def start(name: str) -> str:
    thread_id = f"{name}-{uuid4().hex[:8]}"
    config: Any = {"configurable": {"thread_id": thread_id}, "metadata": {"graph_id": name}}
    joined(registry().graphs[name]).invoke({"log": []}, config)
    capture_all()
    return thread_id


def of_node(thread_id: str, node: str) -> Review:
    return Review.objects.waiting().get(thread_id=thread_id, node=node)


@pytest.mark.usefixtures("local")
@pytest.mark.parametrize("edits", [{}, {"draft": "better"}], ids=["as it is", "edited"])
@pytest.mark.parametrize("first", ["left", "right"])
def test_approving_one_of_two_subgraphs_pushes_the_other_through_nothing(first, edits, cast):
    thread_id = start("static_twice")
    last = {"left": "right", "right": "left"}[first]
    one, other = of_node(thread_id, f"{first}_gate"), of_node(thread_id, f"{last}_gate")
    early = settle(decide(cast.rita, one, order_of(one, edits=edits)))
    settle(early)
    assert early.state == "paused"
    assert not {"left_gate", "right_gate"} & set(RAN[thread_id])
    assert only_review(thread_id) == other
    late = settle(decide(cast.rita, other, order_of(other)))
    assert late.state == "finished", late.error
    for decision in (early, late):
        settle(decision)
    sides = [f"{side}_{node}" for side in ("left", "right") for node in ("look", "gate", "tidy")]
    assert Counter(RAN[thread_id]) == Counter([*sides, "send"])
    assert sorted(state_of("static_twice", thread_id).values["log"]) == sorted([*sides, "send"])


@pytest.mark.usefixtures("local")
@pytest.mark.parametrize("first", ["left_gate", "right_ask"])
def test_a_question_beside_a_static_pause_pushes_it_through_nothing(first, cast):
    thread_id = start("static_and_asking")
    nodes = ["left_gate", "right_ask"] if first == "left_gate" else ["right_ask", "left_gate"]
    for node in nodes:
        assert "left_gate" not in RAN[thread_id] or node == "right_ask"
        review = of_node(thread_id, node)
        decision = settle(decide(cast.rita, review, order_of(review, "yes")))
        settle(decision)
        assert decision.state == ("finished" if node == nodes[-1] else "paused"), decision.error
    values = state_of("static_and_asking", thread_id).values
    assert values["answers"] == ["yes"]
    begun = Counter(RAN[thread_id])
    once = ["left_look", "left_gate", "left_tidy", "right_look", "right_ask answered", "send"]
    assert {node: begun[node] for node in once} == dict.fromkeys(once, 1)


@pytest.mark.usefixtures("local")
def test_of_three_questions_in_the_same_words_each_gets_its_own_answer(cast):
    thread_id, late = start("asks_the_same"), []
    for number in range(3):
        review = only_review(thread_id)
        for order in late:
            with pytest.raises((Conflict, Invalid)):
                decide(cast.rita, review, replace(order, key=uuid4()))
        late.append(order_of(review, number))
        decision = settle(decide(cast.rita, review, late[-1]))
        settle(decision)
    assert state_of("asks_the_same", thread_id).values["answers"] == [0, 1, 2]


def said(value: Any) -> int:
    return int(value.amount if isinstance(value, Even) else value["amount"])


@pytest.mark.usefixtures("local")
@pytest.mark.parametrize("name", ["refuses", "refuses_inside"])
@pytest.mark.parametrize("refused_at", [0, 1])
def test_an_answer_that_the_node_refuses_is_taken_out_and_can_be_given_anew(name, refused_at, cast):
    thread_id, rita = start(name), Actor(cast.rita, "Rita Osei")
    for number in range(2):
        review = only_review(thread_id)
        if number == refused_at:
            wrong = settle(decide(cast.rita, review, order_of(review, {"amount": 3})))
            assert (wrong.state, wrong.checkpoint_applied) == ("failed", "")
            assert "must be even" in wrong.error
            assert reviews_of(thread_id) == set()
            settle(wrong)
            actions.undo(rita, wrong.pk)
            capture_all()
            assert only_review(thread_id) == review
            assert reviews_of(thread_id) == langgraphs_answer(state_of(name, thread_id))
        right = settle(decide(cast.rita, review, order_of(review, {"amount": 4 + 2 * number})))
        assert right.state == ["paused", "finished"][number], right.error
    state = state_of(name, thread_id)
    assert state.next == ()
    assert [said(one) for one in state.values["answers"]] == [4, 6]


@pytest.mark.usefixtures("local")
def test_a_refused_answer_that_is_tried_again_is_refused_again_and_answers_nothing(cast):
    thread_id, rita = start("refuses"), Actor(cast.rita, "Rita Osei")
    review = only_review(thread_id)
    wrong = settle(decide(cast.rita, review, order_of(review, {"amount": 3})))
    actions.retry(rita, wrong.pk)
    assert settle(wrong).state == "failed"
    assert state_of("refuses", thread_id).values["answers"] == []
    actions.undo(rita, wrong.pk)
    capture_all()
    assert reviews_of(thread_id) == langgraphs_answer(state_of("refuses", thread_id)) != set()


@pytest.mark.usefixtures("local")
@pytest.mark.parametrize("name", ["breaks_between", "breaks_between_inside"])
@pytest.mark.parametrize(("breaks_at", "breaks_after"), [(1, 0), (2, 0), (2, 1), (2, 2)])
def test_an_answer_outlives_a_failure_before_the_node_came_to_it(
    name, breaks_at, breaks_after, cast
):
    """LangGraph itself keeps of a failed node only the answers up to where it failed."""
    thread_id, rita = start(name), Actor(cast.rita, "Rita Osei")
    for number in range(3):
        fails = number == breaks_at and breaks_after <= number
        review = only_review(thread_id)
        if fails:
            BROKEN.add((thread_id, f"after {breaks_after}"))
        decision = settle(decide(cast.rita, review, order_of(review, f"answer {number}")))
        if fails:
            assert (decision.state, bool(decision.checkpoint_applied)) == ("failed", True)
            assert reviews_of(thread_id) == set()
            BROKEN.clear()
            actions.retry(rita, decision.pk)
            settle(decision)
        assert decision.state == ("finished" if number == 2 else "paused"), decision.error
    answers = state_of(name, thread_id).values["answers"]
    assert answers == ["answer 0", "answer 1", "answer 2"]
