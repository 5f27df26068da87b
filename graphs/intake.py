"""Run a reference graph over a file of customer messages: `python -m graphs.intake`.

The support graph, or with `--graph refunds` the refunds agent. A plain LangGraph program: it
knows where the checkpoints go and nothing of who approves them. Run it again and it goes on where
it stopped: threads that are there already are left alone, unless their run broke off before the
pause.
"""

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import StateSnapshot

from graphs import ledger, refunds, support
from graphs.support import Incoming, libpq_url

DATA = Path(__file__).parent / "data"
MESSAGES = DATA / "messages.jsonl"
BEFORE_THE_PAUSE = {"__start__", "classify", "retrieve", "draft", "compliance_check"}


@dataclass(frozen=True)
class Program:
    """What the intake needs to know of a graph; `effects` names the variable with their URL."""

    messages: Path
    compile_graph: Callable[[PostgresSaver], CompiledStateGraph[Any, Any, Any, Any]]
    broke_off: Callable[[StateSnapshot], bool]
    effects: str
    create_effects: Callable[[psycopg.Connection], None]


def conversations(file: Path) -> list[Incoming]:
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
        return [conversation(json.loads(line)) for line in lines if line.strip()]
    except (KeyError, TypeError, ValueError) as error:
        raise RuntimeError(f"{file} is not a file of customer messages: {error!r}") from error


def conversation(row: dict[str, Any]) -> Incoming:
    return {
        "conversation_id": row["conversation_id"],
        "customer": row["customer"],
        "subject": row["subject"],
        "messages": row["messages"],
    }


def run(
    program: Program, saver: PostgresSaver, incoming: list[Incoming], graph_id: str
) -> Counter[str]:
    graph = program.compile_graph(saver)
    tally: Counter[str] = Counter()
    for each in incoming:
        config: RunnableConfig = {
            "configurable": {"thread_id": each["conversation_id"]},
            "metadata": {"graph_id": graph_id},
        }
        before = graph.get_state(config)
        if before.created_at is not None and not program.broke_off(before):
            tally["there"] += 1
            continue
        graph.invoke(None if before.created_at else each, config, durability="sync")
        tally["waiting" if graph.get_state(config).next else "finished"] += 1
    return tally


def broke_off(thread: StateSnapshot) -> bool:
    """A draft sent back by a reviewer is on its way too, but somebody else's to run."""
    return bool(BEFORE_THE_PAUSE.intersection(thread.next)) and not thread.values.get(
        "reviewer_note"
    )


PROGRAMS = {
    "support": Program(
        MESSAGES, support.compile_graph, broke_off, "SUPPORT_OUTBOX", support.create_outbox
    ),
    "refunds": Program(
        DATA / "refund_requests.jsonl",
        refunds.compile_graph,
        refunds.broke_off,
        "REFUNDS_LEDGER",
        ledger.create_ledger,
    ),
}


def summary(tally: Counter[str]) -> str:
    runs = tally["finished"] + tally["waiting"]
    return (
        f"{runs} runs: {tally['finished']} finished, {tally['waiting']} wait for a person, "
        f"{tally['there']} were there already."
    )


def intake(args: argparse.Namespace) -> str:
    url = os.environ.get("DATABASE_URL", "")
    if not url:
        raise RuntimeError("DATABASE_URL is not set.")
    program = PROGRAMS[args.graph]
    incoming = conversations(args.file or program.messages)
    if effects := os.environ.get(program.effects):
        with psycopg.connect(libpq_url(effects)) as conn:
            program.create_effects(conn)
    with PostgresSaver.from_conn_string(libpq_url(url)) as saver:
        if args.setup:
            saver.setup()
        return summary(run(program, saver, incoming, args.graph_id or args.graph))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m graphs.intake", description=__doc__)
    parser.add_argument("--graph", choices=PROGRAMS, default="support", help="which one runs")
    parser.add_argument("--file", type=Path, help="customer messages, JSON lines")
    parser.add_argument("--graph-id", help="written to the runs' metadata; the graph's own name")
    parser.add_argument("--setup", action="store_true", help="create the checkpoint tables first")
    return parser.parse_args()


def main() -> int:
    args = arguments()
    os.environ.setdefault("PGCONNECT_TIMEOUT", "10")
    try:
        print(intake(args))
    except psycopg.errors.UndefinedTable as error:
        return failed(f"{first_line(error)}; create LangGraph's tables with --setup.")
    except psycopg.Error as error:
        return failed(f"the database does not answer as it should: {first_line(error)}")
    except (OSError, RuntimeError) as error:
        return failed(first_line(error))
    return 0


def failed(why: str) -> int:
    print(f"intake: {why}", file=sys.stderr)
    return 1


def first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


if __name__ == "__main__":
    sys.exit(main())
