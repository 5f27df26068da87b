"""Graphs that nobody thought of: the reviews are what LangGraph waits for, whatever the graph is.

COUNTERSIGN_EXAMPLES makes it longer; HYPOTHESIS_SEED has Hypothesis look elsewhere.
"""

import json
import os
import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, example, given, note, seed, settings
from hypothesis import strategies as st
from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Send, StateSnapshot, interrupt

from approvals import actions
from approvals.answers import Order
from approvals.audit import Actor
from approvals.errors import ApprovalError, Conflict
from approvals.models import Decision, Review
from approvals.registry import registry
from approvals.run_actions import Sight, continue_run
from approvals.savers import joined
from tests.conftest import capture_all, resume
from tests.contract.graphs import RAN, Given, State
from tests.shapes import TABLE, decide, order_of, reviews_of, settle, state_of

EXAMPLES = int(os.environ.get("COUNTERSIGN_EXAMPLES", "3"))
ELSEWHERE = os.environ.get("HYPOTHESIS_SEED")
pytestmark = [pytest.mark.usefixtures("clean"), pytest.mark.timeout(240 + 10 * EXAMPLES)]

# What graphs are made of. A plan is a list of parts, one after another.

LEAVES = ["step", "before", "after", "asks", "asks 2", "asks 3", "fails", "breaks", "before asks"]
leaves = st.sampled_from(LEAVES).map(lambda kind: (kind,))


def beside(parts: Any) -> Any:
    return st.lists(parts, min_size=2, max_size=3).map(lambda inside: ("beside", *inside))


def parts(depth: int) -> Any:
    subgraph = st.deferred(lambda: plans(depth - 1)).map(lambda plan: ("sub", *plan))
    within = leaves | subgraph if depth else leaves
    return st.one_of(
        within,
        beside(within),
        leaves.map(lambda leaf: ("loop", leaf)),
        leaves.map(lambda leaf: ("sends", leaf)),
        st.tuples(leaves, leaves).map(lambda both: ("branch", *both)),
    )


def plans(depth: int) -> Any:
    return st.lists(parts(depth), min_size=1, max_size=3)


# Nodes


def leaf(name: str, kind: str) -> Any:
    questions = int(kind.split(" ")[-1]) if kind.startswith("asks ") else 1
    if "asks" not in kind and kind != "breaks":
        questions = 0

    def node(state: State, config: RunnableConfig) -> dict[str, Any]:
        begin(config, name, fails=kind == "fails")
        texts = [f"{name} {state.get('draft')} {number}" for number in range(questions)]
        answers = []
        for text in texts:
            answers.append([text, interrupt(text)])
            begin(config, f"{name} answered", fails=kind == "breaks")
        return {"log": [name], "answers": answers}

    return node


def begin(config: RunnableConfig, name: str, fails: bool) -> None:
    """What fails does so the first time that its thread comes to it."""
    ran = RAN[config["configurable"]["thread_id"]]
    ran.append(name)
    if fails and ran.count(name) == 1:
        raise RuntimeError(f"{name} fails at first")


@dataclass
class Level:
    """A graph under construction, and what it is meant to do."""

    path: str
    graph: StateGraph
    before: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)
    leads: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    inside: dict[str, "Level"] = field(default_factory=dict)
    does: Counter[str] = field(default_factory=Counter)
    kinds: dict[str, str] = field(default_factory=dict)
    exit: str = START

    def edge(self, source: str, target: str) -> None:
        self.graph.add_edge(source, target)
        self.leads[target].add(source)

    def put(self, name: str, part: Any, times: int = 1) -> str:
        """A node for the part, with no edges yet."""
        kind = part[0]
        if kind == "sub":
            sub = build(part[1:], name, takes=Given)
            self.inside[name] = sub
            self.graph.add_node(name, sub.compile())
            self.does.update(sub.does)
            self.kinds.update(sub.kinds)
            return name
        self.graph.add_node(name, leaf(name, kind))
        self.does[name] += times
        self.kinds[name] = kind
        if kind.startswith("before"):
            self.before.append(name)
        if kind == "after":
            self.after.append(name)
        return name

    def junction(self, name: str) -> str:
        self.put(name, ("step",))
        return name

    def add(self, name: str, part: Any) -> None:
        kind = part[0]
        if kind not in {"beside", "loop", "sends", "branch"}:
            self.edge(self.exit, self.put(name, part))
            self.exit = name
            return
        way_in, way_out = self.junction(f"{name}_in"), self.junction(f"{name}_out")
        self.edge(self.exit, way_in)
        getattr(self, f"add_{kind}")(name, part[1:], way_in, way_out)
        self.exit = way_out

    def add_beside(self, name: str, inside: Any, way_in: str, way_out: str) -> None:
        names = [self.put(f"{name}_{number}", part) for number, part in enumerate(inside)]
        for one in names:
            self.edge(way_in, one)
            self.leads[way_out].add(one)
        self.graph.add_edge(names, way_out)

    def add_loop(self, name: str, inside: Any, way_in: str, way_out: str) -> None:
        self.edge(way_in, self.put(name, inside[0], times=2))
        self.graph.add_conditional_edges(
            name,
            lambda state: name if state["log"].count(name) < 2 else way_out,
            [name, way_out],
        )
        self.leads[name].add(name)
        self.leads[way_out].add(name)

    def add_sends(self, name: str, inside: Any, way_in: str, way_out: str) -> None:
        self.put(name, inside[0], times=2)
        self.graph.add_conditional_edges(
            way_in, lambda state: [Send(name, {"draft": one}) for one in "ab"], [name]
        )
        self.leads[name].add(way_in)
        self.edge(name, way_out)

    def add_branch(self, name: str, inside: Any, way_in: str, way_out: str) -> None:
        taken = self.put(f"{name}_yes", inside[0])
        other = self.put(f"{name}_no", inside[1], times=0)
        self.graph.add_conditional_edges(way_in, lambda state: taken, [taken, other])
        for one in (taken, other):
            self.leads[one].add(way_in)
            self.edge(one, way_out)

    def compile(self) -> CompiledStateGraph:
        return self.graph.compile(interrupt_before=self.before, interrupt_after=self.after)


def build(plan: Any, path: str = "n", takes: Any = State) -> Level:
    level = Level(path, StateGraph(State, input_schema=takes))
    for number, part in enumerate(plan):
        level.add(f"{path}{number}", part)
    level.edge(level.exit, END)
    return level


BUILT: dict[str, Level] = {}
"""The graphs of this process, each a target of langgraph.json by its name."""


def __getattr__(name: str) -> Any:
    if name not in BUILT:
        raise AttributeError(name)
    return BUILT[name].compile()


# The invariant, written from the plan and from LangGraph's snapshot


Key = tuple[str, str, str]


def waits(level: Level, state: StateSnapshot, answered: set[Key], failed: bool) -> set[Key]:
    """What a thread waits for that nobody runs. A failed task is no pause."""
    place = state.config["configurable"]
    here = (str(place.get("checkpoint_ns", "")), str(place["checkpoint_id"]))
    found: set[Key] = set()
    inside = {task.id for task in state.tasks if task.result is None and is_inside(task)}
    for task in state.tasks:
        if task.id in inside:
            found |= waits(level.inside[task.name], task.state, answered, failed)
    said = {one for _, _, one in answered | found}
    asking = [task for task in state.tasks if task.result is None and task.id not in inside]
    found |= {(*here, i.id) for t in asking for i in t.interrupts if i.id not in said}
    begun = any(t.result is not None or t.error or t.interrupts for t in state.tasks) or inside
    if begun or (*here, "") in answered or not (state.next or place.get("checkpoint_ns")):
        return found
    gate = is_gate(level, state)
    assert gate or failed, f"stands before {state.next}, where it should not"
    return found | {(*here, "")} if gate else found


def is_inside(task: Any) -> bool:
    return isinstance(task.state, StateSnapshot) and task.state.created_at is not None


def is_gate(level: Level, state: StateSnapshot) -> bool:
    coming = state.next or (END,)
    ran = {one for name in coming for one in level.leads[name] if one in state.values["log"]}
    return bool(set(state.next) & set(level.before) or ran & set(level.after))


def any_failed(state: StateSnapshot) -> bool:
    inner = [task.state for task in state.tasks if isinstance(task.state, StateSnapshot)]
    return any(task.error for task in state.tasks) or any(any_failed(one) for one in inner)


# What people say

ANSWERS: list[Any] = [None, False, True, "", 0, 0.5, {}, [], "yes", "ü\n", [None], {"a": {"b": []}}]


def some_answer(chance: random.Random) -> Any:
    looks_like_ids = {uuid4().hex: "yes"}, {"a" * 32: None, "b" * 32: {}}
    return chance.choice([*ANSWERS, *looks_like_ids])


@dataclass
class Run:
    """One thread of a random graph, and its people, who decide by chance."""

    name: str
    cast: Any
    chance: random.Random
    thread_id: str = field(default_factory=lambda: f"random-{uuid4().hex[:8]}")
    sent: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))
    answered: set[Key] = field(default_factory=set)
    orders: list[tuple[Review, Order]] = field(default_factory=list)

    @property
    def level(self) -> Level:
        return BUILT[self.name]

    @property
    def state(self) -> StateSnapshot:
        return state_of(self.name, self.thread_id)

    @property
    def waiting(self) -> list[Review]:
        return list(Review.objects.waiting().filter(thread_id=self.thread_id).order_by("pk"))

    def begin(self) -> None:
        config: Any = {
            "configurable": {"thread_id": self.thread_id},
            "metadata": {"graph_id": self.name},
        }
        compiled = joined(registry().graphs[self.name])
        try:
            how: Any = self.chance.choice(["sync", "async", "exit"])
            compiled.invoke({"log": []}, config, durability=how)
        except RuntimeError as error:
            note(f"begun, and {error}")
        capture_all()

    def to_the_end(self) -> None:
        self.begin()
        for _ in range(80):
            self.check()
            if not self.state.next:
                return
            self.go_on()
        raise AssertionError("no end to it")

    def check(self) -> None:
        state = self.state
        expected = waits(self.level, state, self.answered, any_failed(state) or self.has_failed)
        assert reviews_of(self.thread_id) == expected
        asked = Review.objects.waiting().filter(thread_id=self.thread_id)
        assert all(one.is_question == bool(one.interrupt_id) for one in asked)

    @property
    def has_failed(self) -> bool:
        kinds = set(self.level.kinds.values())
        return bool(kinds & {"fails", "breaks"})

    def go_on(self) -> None:
        """One thing that somebody can do now."""
        reviews = self.waiting
        failed = Decision.objects.filter(review__thread_id=self.thread_id, state="failed")
        stalled = Review.objects.filter(thread_id=self.thread_id, status="stalled")
        ways = [self.decides] * (3 * len(reviews))
        ways += [self.retries] if failed.exists() else []
        ways += [self.continues] if stalled.exists() else []
        assert ways, f"waits before {self.state.next}, and nobody can do anything"
        self.chance.choice(ways)()

    def decides(self) -> None:
        review = self.chance.choice(self.waiting)
        value = some_answer(self.chance)
        order = order_of(review, value)
        self.sends_something_stale(review)
        decision = decide(self.cast.rita, review, order)
        if review.is_question:
            self.sent[review.pause["question"]].append(value)
        self.answered.add((review.checkpoint_ns, review.checkpoint_id, review.interrupt_id))
        self.orders.append((review, order))
        note(f"{review.node} {review.kind} {review.pause.get('question')!r}: {value!r}")
        self.settles(decision)
        if self.chance.random() < 0.3:
            assert decide(self.cast.rita, review, order).pk == decision.pk

    def settles(self, decision: Decision) -> None:
        settle(decision)
        note(f"  {decision.state} {decision.error_node} {decision.error}")
        if self.chance.random() < 0.5:
            resume(decision)
            capture_all()
        assert decision.state in {"paused", "finished", "failed"}
        if decision.state == "failed":
            assert "fails at first" in decision.error

    def sends_something_stale(self, review: Review) -> None:
        if not self.orders or self.chance.random() < 0.5:
            return
        seen, late = self.chance.choice(self.orders)
        with pytest.raises(Conflict):
            decide(self.cast.rita, seen, replace(late, key=uuid4()))
        if (late.digest, late.checkpoint_id) != (review.digest, review.checkpoint_id):
            with pytest.raises(ApprovalError):
                decide(self.cast.rita, review, late)

    def retries(self) -> None:
        failed = Decision.objects.filter(review__thread_id=self.thread_id, state="failed")
        decision = failed.order_by("-ended_at")[0]
        note(f"retries {decision.review.node}")
        actions.retry(Actor(self.cast.mara, "Mara Quist"), decision.pk)
        settle(decision)
        note(f"  {decision.state} {decision.error_node} {decision.error}")

    def continues(self) -> None:
        review = Review.objects.get(thread_id=self.thread_id, status="stalled")
        note(f"continues {review.node}")
        mara = Actor(self.cast.mara, "Mara Quist")
        settle(continue_run(mara, review.pk, Sight(review.digest, uuid4())))

    def check_end(self) -> None:
        values = self.state.values
        assert Counter(values["log"]) == +self.level.does
        got: dict[str, list[Any]] = defaultdict(list)
        for text, value in values.get("answers", []):
            got[text].append(value)
        assert exactly(got) == exactly(self.sent)
        open_ones = Decision.objects.filter(
            review__thread_id=self.thread_id, state__in=["pending", "applied"]
        )
        assert not open_ones.exists()
        if not self.has_failed:
            begun = Counter(RAN[self.thread_id])
            once = [
                n for n, kind in self.level.kinds.items() if kind in {"step", "before", "after"}
            ]
            assert {n: begun[n] for n in once} == {n: self.level.does[n] for n in once}


def exactly(answers: dict[str, list[Any]]) -> dict[str, str]:
    """0, False and 0.0 are equal in Python, and not the same answer."""
    return {text: json.dumps(values) for text, values in answers.items()}


@pytest.fixture
def registered(settings: Any, tmp_path: Any) -> Iterator[Any]:
    settings.LANGGRAPH_JSON = tmp_path / "langgraph.json"
    settings.REVIEWS_TOML = tmp_path / "reviews.toml"

    def register(plan: Any) -> str:
        name = f"graph_{len(BUILT)}"
        BUILT[name] = build(plan)
        target = {name: f"{__name__}:{name}"}
        settings.LANGGRAPH_JSON.write_text(json.dumps({"graphs": target}))
        settings.REVIEWS_TOML.write_text(TABLE.format(name=name))
        registry.cache_clear()
        return name

    yield register
    registry.cache_clear()


def elsewhere(test: Any) -> Any:
    return seed(int(ELSEWHERE))(test) if ELSEWHERE else test


@elsewhere
@settings(
    max_examples=EXAMPLES,
    derandomize=not ELSEWHERE,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@example(plan=[("sub", ("sub", ("loop", ("before asks",))))], number=0)
@example(plan=[("sub", ("after",))], number=0)
@example(plan=[("sub", ("asks 2",), ("after",))], number=0)
@example(plan=[("beside", ("fails",), ("sub", ("breaks",), ("after",)))], number=1)
@given(plan=plans(2), number=st.integers(0, 10_000))
def test_the_reviews_of_any_graph_are_what_it_waits_for_and_each_answer_arrives(
    plan, number, registered, cast
):
    run = Run(registered(plan), cast, random.Random(number))
    run.to_the_end()
    run.check_end()
