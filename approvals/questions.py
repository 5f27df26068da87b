"""What a paused run asks of a person, and their answer as the value that resumes it.

`read` finds the dialect of an interrupt; where it knows none, the answer is whatever fits the
response schema (`schema`) or any JSON at all (`raw`). `answer` refuses what the run would choke on.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from approvals.dialects import ACTIONS, DIALECTS, Call, Choice, Schemas
from approvals.plain import JSON, canonical
from approvals.schema_words import ARGUMENTS, MAX_SHOWN, fault
from approvals.schemas import Schema, is_sound

__all__ = [
    "ACTIONS",
    "Call",
    "Choice",
    "Question",
    "QuestionError",
    "answer",
    "args_schema",
    "read",
    "summary",
]

TEXT_KEYS = ("question", "description", "message", "text")


class QuestionError(ValueError):
    """The choices can't be the answer. `index` is the call's, None where it is all of them."""

    def __init__(self, index: int | None, message: str) -> None:
        super().__init__(message)
        self.index, self.message = index, message


@dataclass(frozen=True)
class Question:
    """What one interrupt asks. `calls` is empty where the answer is one JSON value."""

    dialect: str  # agent_inbox, hitl, tool_approval, schema or raw
    calls: tuple[Call, ...]
    text: str
    value: JSON
    schema: Schema | None  # the interrupt's response_schema
    tools: Schemas = field(default_factory=dict)  # to which an edit may change, where it may

    @property
    def is_batch(self) -> bool:
        return len(self.calls) > 1

    @property
    def allowed(self) -> tuple[str, ...]:
        """What may be said of every call at once."""
        if not self.calls:
            return ("respond",)
        return tuple(a for a in ACTIONS if all(a in call.allowed for call in self.calls))

    @property
    def unanswerable(self) -> tuple[int, ...]:
        """The calls of which nothing may be said: while there is one, no answer can be given."""
        return tuple(i for i, call in enumerate(self.calls) if not call.allowed)


def read(value: JSON, schema: Schema | None, tool_schemas: Schemas | None = None) -> Question:
    """Never raises. `tool_schemas` are JSON Schemas of the agent's tools, by name.

    They should be those of `tool.tool_call_schema`, which leaves out what LangChain injects. A
    HITLRequest carries none, and only the tools given here can be named by its edits.
    """
    for dialect, known in DIALECTS.items():
        tools = dict(tool_schemas or {}) if dialect == "hitl" else {}
        if calls := known.read(value, schema if isinstance(schema, dict) else None, tools):
            question = Question(dialect, calls, _text(value), value, schema, tools)
            if _schema_agrees(question):
                return question
    return Question("schema" if is_sound(schema) else "raw", (), _text(value), value, schema)


def answer(question: Question, choices: Sequence[Choice]) -> JSON:
    """The value to resume with; send it as `Command(resume={interrupt_id: value})`.

    Raises QuestionError, whose message says what to do.
    """
    expected = len(question.calls) or 1
    if len(choices) != expected:
        raise QuestionError(None, _count(expected, len(choices)))
    if not question.calls:
        return _plain_answer(question, choices[0])
    for index, choice in enumerate(choices):
        _check(question, index, choice)
    resume = DIALECTS[question.dialect].write(question.calls, choices)
    if wrong := fault(resume, question.schema):
        raise QuestionError(None if question.is_batch else 0, f"{wrong} {AGAIN}")
    return resume


def summary(choices: Sequence[Choice]) -> str:
    """One word for all of them; "mixed" where no action describes them, "" where there are none."""
    actions = {choice.action for choice in choices}
    if actions == {"approve", "edit"}:
        return "edit"
    return "mixed" if len(actions) > 1 else "".join(actions)


def args_schema(question: Question, index: int, name: str = "") -> Schema | None:
    """The JSON Schema of a call's args, or of the tool `name` where an edit changes it to that."""
    if not 0 <= index < len(question.calls):
        return None
    return _schema_of(question, question.calls[index], name)


# Reading


def _text(value: JSON) -> str:
    if isinstance(value, list) and len(value) == 1:
        return _text(value[0]) if isinstance(value[0], dict) else ""
    if isinstance(value, dict):
        found = (value.get(key) for key in TEXT_KEYS)
        return next((text for text in found if isinstance(text, str) and text), "")
    return value if isinstance(value, str) else ""


def _schema_agrees(question: Question) -> bool:
    """Whether a response schema has room for the dialect's answer: what the schema says wins.

    Not asked of a tool approval: there the dialect was read out of the schema itself.
    """
    if question.dialect == "tool_approval":
        return True
    sample = [_sample(call) for call in question.calls]
    return not fault(DIALECTS[question.dialect].write(question.calls, sample), question.schema)


def _sample(call: Call) -> Choice:
    simplest = ("approve", "reject", "respond", "edit")
    action = next((a for a in simplest if a in call.allowed), "approve")
    return Choice(action, args=call.args, text="…")


# Checking a choice

AGAIN = "Correct it, then send it again."


def _count(expected: int, given: int) -> str:
    if expected == 1:
        return f"This takes one decision, and {given} arrived. Decide once, then send again."
    return (
        f"Each of the {expected} calls takes one decision, in their order, and {given} arrived. "
        "Decide every call, then send again."
    )


def _plain_answer(question: Question, choice: Choice) -> JSON:
    if choice.action != "respond":
        raise QuestionError(0, f"This can only be answered, not {_past(choice.action)}. Answer it.")
    if wrong := fault(choice.args, question.schema):
        raise QuestionError(0, f"{wrong} {AGAIN}")
    return choice.args


def _check(question: Question, index: int, choice: Choice) -> None:
    call = question.calls[index]
    rules = (_not_allowed, _renamed, _unseen, _badly_edited, _wordless)
    for rule in rules:
        if wrong := rule(question, call, choice):
            raise QuestionError(index, wrong)


def _not_allowed(question: Question, call: Call, choice: Choice) -> str:
    if choice.action in call.allowed:
        return ""
    if not call.allowed:
        return (
            f"The run allows no decision on “{call.name}” that is known here, so it can't be "
            "answered. Tell whoever looks after this agent."
        )
    known = " or ".join(call.allowed)
    return f"“{call.name}” can't be {_past(choice.action)} here. Choose {known}."


def _past(action: str) -> str:
    verbs = {"approve": "approved", "edit": "edited", "reject": "rejected"}
    return verbs.get(action, "answered that way")


def _renamed(question: Question, call: Call, choice: Choice) -> str:
    if choice.name in ("", call.name):
        return ""
    if not call.may_rename or choice.action != "edit":
        return (
            f"The tool must stay “{call.name}”. Change its arguments, or choose another decision."
        )
    if question.tools and choice.name not in question.tools:
        known = ", ".join(sorted(question.tools))
        return f"This agent has no tool “{choice.name[:MAX_SHOWN]}”. Choose one of: {known}."
    return ""


def _unseen(question: Question, call: Call, choice: Choice) -> str:
    """An approval sends the call as it was shown: changes that came with it would be lost."""
    if choice.action != "approve" or choice.args is None:
        return ""
    if canonical(choice.args) == canonical(call.args):
        return ""
    return f"The arguments of “{call.name}” were changed. Choose edit to run it with the changes."


def _badly_edited(question: Question, call: Call, choice: Choice) -> str:
    if choice.action != "edit":
        return ""
    if isinstance(call.args, dict) and not isinstance(choice.args, dict):
        return f"The arguments of “{call.name}” must be an object, {{ … }}. {AGAIN}"
    wrong = fault(choice.args, _schema_of(question, call, choice.name), ARGUMENTS)
    return wrong and f"{wrong} {AGAIN}"


def _schema_of(question: Question, call: Call, name: str) -> Schema | None:
    return call.schema if name in ("", call.name) else question.tools.get(name, call.schema)


def _wordless(question: Question, call: Call, choice: Choice) -> str:
    if choice.text.strip():
        return ""
    if choice.action == "respond":
        return f"The response to “{call.name}” is empty. Write it, then send it again."
    if choice.action == "reject" and DIALECTS[question.dialect].reason_is_sent:
        return f"Say why “{call.name}” is rejected: the agent reads the reason. Then send again."
    return ""
