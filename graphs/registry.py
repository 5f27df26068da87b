"""Which graphs there are (langgraph.json) and what their reviews look like (reviews.toml).

`load` never stops at the first mistake: a `RegistryError` holds every fault, each with its
file, table and key, so that one `manage.py check` shows all there is to mend.
"""

import asyncio
import importlib
import importlib.util
import inspect
import json
import os
import re
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeAlias

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END
from langgraph.graph.state import CompiledStateGraph, StateGraph
from pydantic import BaseModel, ConfigDict, Field, ValidationError

Compiled = CompiledStateGraph
Nodes: TypeAlias = Literal["*"] | Sequence[str]
HIDDEN_CHANNELS = ("__", "branch:")


@dataclass(frozen=True)
class Fault:
    """One mistake in one place of a file."""

    file: str
    where: str
    message: str

    def __str__(self) -> str:
        return (
            f"{self.file}: {self.where}: {self.message}"
            if self.where
            else (f"{self.file}: {self.message}")
        )


class RegistryError(Exception):
    """langgraph.json or reviews.toml cannot be used; `faults` says why, in full."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("; ".join(map(str, faults)))
        self.faults = faults


class Answer(BaseModel):
    """What one answer to a static pause does: `[graphs.<name>.reject]` and its like."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    set: dict[str, Any] = {}
    """Fields of the state and the values they get."""
    reason: str = ""
    """The field that gets the person's words; "" keeps them in the audit trail alone."""
    goto: str = ""
    """The node that runs next, or `__end__`; "" goes on as an approval does."""
    reasons: list[str] = []
    """Words that the page offers for it, besides the person's own last ones."""


class Retry(BaseModel):
    """`[graphs.<name>.retry]`: a run whose node raised is tried again by itself."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    times: int = Field(ge=1, le=20)
    wait: float = Field(default=5, ge=0, le=3600)
    """Seconds before the first try; each later one waits twice as long, an hour at most."""
    on: list[str] = []
    """Names of the exceptions that are tried again, bare or dotted; a base class stands for those
    derived from it. Empty: any."""

    def covers(self, error: BaseException) -> bool:
        names = {
            name
            for kind in type(error).__mro__
            for name in (kind.__name__, f"{kind.__module__}.{kind.__qualname__}")
        }
        return not self.on or bool(names & set(self.on))


class Hint(BaseModel):
    """`[[graphs.<name>.hints]]`: what a reviewer is told while they write a reply.

    `pattern` is a Python regular expression, sought in the first 20,000 characters at each pause in
    typing. Keep it simple: one that tries every way to split a text, as `(a+)+b` does, would hold
    up the process that runs it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    pattern: re.Pattern[str]
    text: str = Field(min_length=1)
    when: Literal["present", "missing"] = "present"

    def applies(self, text: str) -> bool:
        return (self.pattern.search(text) is not None) == (self.when == "present")


class ReviewSettings(BaseModel):
    """One table `[graphs.<name>]` of reviews.toml. Paths are dotted, as in `customer.name`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    approval_nodes: list[str] = []
    """Nodes it pauses before, besides those that the compiled graph names itself."""
    approval_after: list[str] = []
    """Nodes it pauses after, besides those that the compiled graph names itself."""
    response: str = ""
    group: str = Field(min_length=1)
    editable: list[str] | None = None
    approve: dict[str, Any] = {}
    reject: Answer | None = None
    send_back: Answer | None = None
    respond: Answer | None = None
    title: str = "{conversation_id}"
    who: str = "customer.name"
    risk: str = "risk"
    findings: str = "compliance_findings"
    messages: str = "messages"
    drafted_by: str = "drafted_by"
    language: str = ""
    """Where the state names the conversation's language, as `en` or `de-AT`: for spelling."""
    hints: list[Hint] = []
    tags: str = ""
    """Where the state has its topics: a list of texts, or a text with commas. Lists show them."""
    deadline: str = ""
    """Where the state says until when it has to be answered: an ISO time, or a date, whose end it
    then is, in the server's time zone."""
    respond_within: float | None = Field(default=None, gt=0, le=525_600)
    """Minutes from the pause until an answer is due, where the state names no deadline."""
    undo_window: float = Field(default=8, ge=0, le=600)
    """Seconds in which a decision can be taken back before the worker applies it."""
    max_length: int = Field(default=20_000, ge=1, le=1_000_000)
    """Characters that an edited text may have."""
    rename_tools: bool = False
    """Whether an edit may make a tool call into one of another tool of the same agent."""
    stalled_after: float = Field(default=600, ge=1)
    """Seconds without a checkpoint after which an unfinished run counts as stalled."""
    crash_limit: int = Field(default=5, ge=1, le=100)
    """Workers that a run may end, one after the other, before it is set aside as failed."""
    retry: Retry | None = None
    allowed_msgpack_modules: list[tuple[str, str]] = []

    @property
    def editable_fields(self) -> list[str]:
        if self.editable is None:
            return [self.response] if self.response else []
        return self.editable

    def answers(self) -> dict[str, Answer]:
        """What a person can do with a static pause besides approving it."""
        named = {"reject": self.reject, "send_back": self.send_back, "respond": self.respond}
        return {name: answer for name, answer in named.items() if answer is not None}


class ReviewsFile(BaseModel):
    """reviews.toml as a whole."""

    model_config = ConfigDict(extra="forbid")

    default_graph: str | None = None
    graphs: dict[str, ReviewSettings] = {}


@dataclass(frozen=True)
class Graph:
    """A registered graph: LangGraph's compiled graph and the reviewers' settings for it."""

    id: str
    compiled: Compiled
    review: ReviewSettings

    @property
    def before(self) -> Nodes:
        """The nodes it pauses before; "*" is all."""
        return self.compiled.interrupt_before_nodes

    @property
    def after(self) -> Nodes:
        return self.compiled.interrupt_after_nodes

    @cached_property
    def allowed_types(self) -> set[tuple[str, ...]]:
        """The types that its checkpoints, and its subgraphs', may be read back as."""
        declared = (
            one._serde_allowlist or () for one in [self.compiled, *subgraphs(self.compiled)]
        )
        return {
            *(name for names in declared for name in names),
            *self.review.allowed_msgpack_modules,
        }

    @property
    def channels(self) -> set[str]:
        return {name for name in self.compiled.channels if not name.startswith(HIDDEN_CHANNELS)}


@dataclass(frozen=True)
class Registry:
    graphs: Mapping[str, Graph] = field(default_factory=dict)
    default_graph: str | None = None

    def get(self, graph_id: str) -> Graph | None:
        return self.graphs.get(graph_id)

    def __iter__(self) -> Iterator[Graph]:
        return iter(self.graphs.values())

    def approval_nodes(self) -> set[str]:
        """Nodes that some graph pauses before by name."""
        return {node for graph in self if graph.before != "*" for node in graph.before}


def load(langgraph_json: Path, reviews_toml: Path) -> Registry:
    """Reads both files and imports every graph they name. Raises RegistryError with all faults."""
    faults: list[Fault] = []
    targets = _targets(langgraph_json, faults)
    reviews, tables = _reviews(reviews_toml, faults)
    _compare(targets, tables, reviews, langgraph_json, reviews_toml, faults)
    graphs = {}
    for name, target in (targets or {}).items():
        compiled = _compiled(name, target, langgraph_json, faults) if target else None
        review = reviews.graphs.get(name)
        if compiled and review:
            found = list(_settings_faults(name, compiled, review, reviews_toml.name))
            faults += found
            if not found:
                graphs[name] = Graph(name, pausing(compiled, review), review)
    if faults:
        raise RegistryError(faults)
    return Registry(dict(sorted(graphs.items())), reviews.default_graph)


def _targets(path: Path, faults: list[Fault]) -> dict[str, str] | None:
    """The target of each graph, "" for one that reads wrong; None where the file does."""
    try:
        listed = json.loads(path.read_text(encoding="utf-8")).get("graphs")
    except OSError:
        faults.append(Fault(path.name, "", f"the file is not there ({path})"))
        return None
    except (ValueError, AttributeError) as error:
        faults.append(Fault(path.name, "", f"not a JSON object: {error}"))
        return None
    if not isinstance(listed, dict):
        faults.append(Fault(path.name, "graphs", "must be an object of name: target"))
        return None
    found = {}
    for name, value in listed.items():
        target = value.get("path") if isinstance(value, dict) else value
        found[name] = target if isinstance(target, str) and ":" in target else ""
        if not found[name]:
            faults.append(
                Fault(path.name, f"graphs.{name}", 'must read "./file.py:name" or "module:name"')
            )
    return found


def _reviews(path: Path, faults: list[Fault]) -> tuple[ReviewsFile, set[str] | None]:
    """The tables that are sound, and the names of all; None for those where the file is not."""
    try:
        read = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError:
        faults.append(Fault(path.name, "", f"the file is not there ({path})"))
        return ReviewsFile(), None
    except ValueError as error:
        faults.append(Fault(path.name, "", f"not TOML: {error}"))
        return ReviewsFile(), None
    listed = read.get("graphs")
    tables: dict[str, Any] = listed if isinstance(listed, dict) else {}
    wrong: set[str] = set()
    try:
        return ReviewsFile.model_validate(read), set(tables)
    except ValidationError as error:
        for one in error.errors():
            faults.append(Fault(path.name, ".".join(map(str, one["loc"])), one["msg"]))
            if one["loc"][0] == "graphs" and len(one["loc"]) > 1:
                wrong.add(str(one["loc"][1]))
    sound = {k: ReviewSettings.model_validate(v) for k, v in tables.items() if k not in wrong}
    default = read.get("default_graph")
    known = default if isinstance(default, str) else None
    return ReviewsFile(default_graph=known, graphs=sound), set(tables)


def _compare(
    targets: Mapping[str, str] | None,
    tables: set[str] | None,
    reviews: ReviewsFile,
    langgraph_json: Path,
    reviews_toml: Path,
    faults: list[Fault],
) -> None:
    if targets is None or tables is None:
        return  # one file could not be read: every name would look missing from it
    for name in targets.keys() - tables:
        faults.append(
            Fault(
                reviews_toml.name,
                f"graphs.{name}",
                f"no table for this graph of {langgraph_json.name}",
            )
        )
    for name in tables - targets.keys():
        faults.append(
            Fault(reviews_toml.name, f"graphs.{name}", f"{langgraph_json.name} names no such graph")
        )
    if reviews.default_graph and reviews.default_graph not in tables:
        faults.append(
            Fault(
                reviews_toml.name, "default_graph", f"no graph is called {reviews.default_graph!r}"
            )
        )


def _compiled(name: str, target: str, file: Path, faults: list[Fault]) -> Compiled | None:
    where = f"graphs.{name}"
    try:
        compiled = compile_target(load_target(target, file.parent))
    except (Exception, SystemExit) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else ""
        said = f"{target} cannot be imported: {type(error).__name__}: {reason}"
        faults.append(Fault(file.name, where, said))
        return None
    if isinstance(compiled.checkpointer, InMemorySaver):
        faults.append(
            Fault(
                file.name,
                where,
                f"{target} has an in-memory checkpointer: thirty workers would have thirty "
                "memories, and none would find another's run. Compile it without a checkpointer; "
                "Countersign puts Postgres there",
            )
        )
        return None
    return compiled


def load_target(target: str, root: Path) -> Any:
    """The object that a target of langgraph.json names, as LangGraph's own tools find it.

    A `/` means a file, else a module; the last `:` splits off the attribute. A file that can
    also be imported by name is imported by name, because the types of a state are stored in
    checkpoints under their module's name.
    """
    place, _, attribute = target.rpartition(":")
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    module = (
        _import_file((root / place).resolve(), root)
        if "/" in place
        else (importlib.import_module(place))
    )
    try:
        return getattr(module, attribute)
    except AttributeError:
        raise AttributeError(f"{place} has no {attribute!r}") from None


def _import_file(path: Path, root: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    for entry in [str(root.resolve()), *sys.path]:
        if entry and path.is_relative_to(entry):
            dotted = ".".join(path.relative_to(entry).with_suffix("").parts)
            spec = _find_spec(dotted)
            if spec and spec.origin and os.path.samefile(spec.origin, path):
                return importlib.import_module(dotted)
    name = f"__graphs__{path.stem}"
    while name in sys.modules and sys.modules[name].__file__ != str(path):
        name += "_"  # another folder's file of this name: its types must stay its own
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _find_spec(dotted: str) -> Any:
    try:
        return importlib.util.find_spec(dotted)
    except (ImportError, ValueError):
        return None


def compile_target(target: Any) -> Compiled:
    """A builder, a compiled graph or a factory of either, compiled."""
    if callable(target) and not isinstance(target, StateGraph | CompiledStateGraph):
        target = _call_factory(target)
    if isinstance(target, StateGraph):
        target = target.compile()
    if not isinstance(target, CompiledStateGraph):
        raise TypeError(f"a {type(target).__name__} is neither a StateGraph nor compiled")
    compiled: Compiled = target
    return compiled


def pausing(compiled: Compiled, review: ReviewSettings) -> Compiled:
    """The graph, pausing where reviews.toml says and wherever it paused already."""
    made: Compiled = compiled.copy(
        {
            "interrupt_before_nodes": _both(compiled.interrupt_before_nodes, review.approval_nodes),
            "interrupt_after_nodes": _both(compiled.interrupt_after_nodes, review.approval_after),
        }
    )
    # copy() forgets which types of the state may be read back: enums would come as text.
    made._serde_allowlist = compiled._serde_allowlist
    return made


def _both(own: Nodes, named: list[str]) -> Nodes:
    return "*" if own == "*" else list(dict.fromkeys([*own, *named]))


def subgraph(compiled: Compiled, checkpoint_ns: str) -> Compiled | None:
    """The subgraph that keeps its checkpoints under this namespace; None if LangGraph sees none."""
    path = "|".join(p.split(":")[0] for p in checkpoint_ns.split("|") if not p.isdigit())
    for _, found in compiled.get_subgraphs(namespace=path, recurse=True):
        return found if isinstance(found, CompiledStateGraph) else None
    return None


def _call_factory(factory: Callable[..., Any]) -> Any:
    # LangGraph's server passes a config and a runtime to factories that ask for them.
    wanted = [
        p
        for p in inspect.signature(factory).parameters.values()
        if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    if len(wanted) > 2:
        raise TypeError("a factory takes at most a config and a runtime")
    made = factory(*[{"configurable": {}}, None][: len(wanted)])
    return asyncio.run(made) if inspect.iscoroutine(made) else made


def _settings_faults(
    name: str, compiled: Compiled, review: ReviewSettings, file: str
) -> Iterator[Fault]:
    table = f"graphs.{name}"
    fields, given = _all_fields(compiled), review.model_fields_set
    for key in ("approval_nodes", "approval_after"):
        for node in getattr(review, key):
            if node not in compiled.nodes:
                yield Fault(file, f"{table}.{key}", f"the graph has no node {node!r}")
    if review.response and review.response not in fields:
        yield Fault(file, f"{table}.response", f"the state has no field {review.response!r}")
    for key in review.editable or []:
        if key not in fields:
            yield Fault(file, f"{table}.editable", f"the state has no field {key!r}")
    yield from _set_faults(f"{table}.approve", review.approve, fields, file)
    for name, answer in review.answers().items():
        yield from _answer_faults(f"{table}.{name}", answer, compiled, fields, file)
    if review.respond and not review.response:
        yield Fault(file, f"{table}.respond", "needs `response`, the field that the text goes to")
    if review.language and review.language.split(".")[0] not in fields:
        yield Fault(file, f"{table}.language", f"the state has no field {review.language!r}")
    for path in re.findall(r"\{([^{}]*)\}", review.title if "title" in given else ""):
        if path.split(".")[0] not in fields:
            yield Fault(file, f"{table}.title", f"the state has no field {path!r}")


def _set_faults(table: str, values: dict[str, Any], fields: set[str], file: str) -> Iterator[Fault]:
    for key, value in values.items():
        if key not in fields:
            yield Fault(file, f"{table}.{key}", f"the state has no field {key!r}")
        if not _is_json(value):
            yield Fault(file, f"{table}.{key}", "must be a value that JSON can hold")


def _answer_faults(
    table: str, answer: Answer, compiled: Compiled, fields: set[str], file: str
) -> Iterator[Fault]:
    yield from _set_faults(f"{table}.set", answer.set, fields, file)
    if answer.reason and answer.reason not in fields:
        yield Fault(file, f"{table}.reason", f"the state has no field {answer.reason!r}")
    if answer.goto and answer.goto != END and answer.goto not in _all_nodes(compiled):
        yield Fault(file, f"{table}.goto", f"the graph has no node {answer.goto!r}")


def _all_nodes(compiled: Compiled) -> set[str]:
    """The graph's nodes and those of its subgraphs: a pause may be in either."""
    return set(compiled.nodes).union(*(set(sub.nodes) for sub in subgraphs(compiled)))


def _all_fields(compiled: Compiled) -> set[str]:
    """The fields of its state and of its subgraphs'. Each pause uses those that it has."""
    found = set(compiled.channels).union(*(set(sub.channels) for sub in subgraphs(compiled)))
    return {name for name in found if not name.startswith(HIDDEN_CHANNELS)}


def subgraphs(compiled: Compiled) -> list[Compiled]:
    """Every subgraph that LangGraph sees, at any depth."""
    found = [sub for _, sub in compiled.get_subgraphs(recurse=True)]
    return [sub for sub in found if isinstance(sub, CompiledStateGraph)]


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True
