"""A small model of the console: what each review and decision must be, and what was delivered.

It knows LangGraph's own answer for a thread (`Truth`), and nothing of how the product comes by its
own. Where another program wrote to a thread while a decision's run was under way, the model leaves
open how that run ends (`fouled`); where a worker froze, how often its effect was tried (`frozen`).
"""

from dataclasses import dataclass, field
from typing import Any

from langgraph.types import StateSnapshot

ENDED = {"undone", "finished", "paused", "failed", "superseded"}
RUN_ENDS = {"finished", "paused", "failed", "superseded"}
OPEN = {"waiting", "stalled"}


@dataclass(frozen=True)
class Truth:
    """Where a thread stands, as LangGraph's own saver tells it."""

    head: str | None
    at: str  # the node of its coming step; "" at its end
    done: bool  # that node has left its result, without the next checkpoint
    error: bool
    text: str
    delivered: int

    @property
    def waits(self) -> bool:
        return self.at == "human_approval" and not self.done

    @property
    def failed(self) -> bool:
        return self.error and not self.done

    @property
    def leads_to_deliver(self) -> bool:
        return self.at == "human_approval" or (self.at == "deliver" and not self.done)


def truth_of(state: StateSnapshot) -> Truth:
    tasks = state.tasks
    head = state.config["configurable"].get("checkpoint_id") if state.created_at else None
    return Truth(
        head,
        tasks[0].name if tasks else "",
        any(task.result is not None for task in tasks),
        any(task.error for task in tasks),
        state.values.get("agent_response", ""),
        state.values.get("log", []).count("deliver"),
    )


@dataclass
class Thread:
    id: str
    queue: str
    rounds: int
    fails: bool
    mended: bool = False
    foreign: list[str] = field(default_factory=list)  # texts that other programs delivered

    @property
    def lets_pass(self) -> bool:
        return self.mended or not self.fails


@dataclass
class Case:
    """A review."""

    pk: int
    thread: Thread
    checkpoint: str
    kind: str
    status: str
    digest: str
    text: str
    had: str | None = None  # whose claim is noted
    lapsed: bool = False  # it is noted, and counts no more
    asked: str | None = None  # who asked for it

    @property
    def is_open(self) -> bool:
        return self.status in OPEN

    @property
    def holder(self) -> str | None:
        return None if self.lapsed else self.had

    def claimed(self, who: str | None) -> None:
        self.had, self.lapsed, self.asked = who, False, None

    def ends(self, status: str) -> None:
        """It waits no more, and is nobody's."""
        self.status = status
        self.claimed(None)


@dataclass
class Form:
    """A review page as somebody was shown it."""

    case: Case
    key: str
    digest: str
    checkpoint: str


@dataclass
class Said:
    """A decision."""

    pk: str
    case: Case
    form: Form
    who: str
    action: str
    text: str  # the reply, or the reason
    state: str = "pending"
    undoable: bool = False
    overdue: bool = False
    job_lost: bool = False
    delivered: int = 0
    more_rounds: bool = False
    fouled: bool = False
    frozen: int = 0

    @property
    def thread(self) -> Thread:
        return self.case.thread

    @property
    def is_open(self) -> bool:
        return self.state in {"pending", "applied"}

    @property
    def delivers(self) -> bool:
        return self.action in {"approve", "continue"}

    def outcomes(self) -> set[str]:
        """How a run of it may end that nobody else meddles with."""
        if self.fouled:
            return RUN_ENDS
        if not self.delivers:
            return {"paused" if self.action == "send_back" else "finished"}
        well = "paused" if self.more_rounds else "finished"
        if not self.thread.lets_pass:
            return {"failed"}
        # Frozen after its node had failed, it is told as failed though it was mended since.
        return {well, "failed"} if self.frozen and self.thread.fails else {well}

    def deliveries(self) -> range:
        """How many rows it may have left."""
        if not self.delivers:
            return range(1)
        if self.fouled:
            return range(2 + self.frozen)
        if not self.frozen:
            return range(self.delivered, self.delivered + 1)
        least = 1 if self.state in {"finished", "paused"} else 0
        return range(least, 2 + self.frozen)


@dataclass
class World:
    """Everything of one example."""

    threads: list[Thread] = field(default_factory=list)
    cases: list[Case] = field(default_factory=list)
    forms: list[Form] = field(default_factory=list)
    said: list[Said] = field(default_factory=list)

    def of(self, thread: Thread) -> list[Said]:
        return [one for one in self.said if one.thread is thread]

    def standing(self, case: Case) -> list[Said]:
        return [one for one in self.said if one.case is case and one.state != "undone"]

    def by_key(self, key: str) -> Said | None:
        return next((one for one in self.said if one.form.key == key), None)

    def meddled(self, thread: Thread) -> None:
        """Another program wrote to the thread: no run of ours there is what it was."""
        for one in self.of(thread):
            one.fouled |= one.state in {"applied", "failed"}

    def should_be_open(self, thread: Thread, truth: Truth, applied: set[str]) -> set[Any]:
        """(checkpoint, kind) of each review that a capture should find."""
        runs = any(one.state == "applied" for one in self.of(thread))
        if truth.waits and truth.head not in applied:
            return {(truth.head, "before")}
        return {(truth.head, "stalled")} if truth.failed and not runs else set()
