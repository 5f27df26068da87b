"""The agents' own program: it knows LangGraph and nothing of ours. Told what to do on its argv."""

import asyncio
import json
import os
import sys
import time
from typing import Any

from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver

from tests.graphs.scripted import builder


async def main(
    threads: list[str],
    given: dict[str, Any],
    script: dict[str, Any],
    every: float,
    durability: Any,
    onward: bool,
) -> None:
    """Runs each thread to its first pause, one after the other, at most one in `every` seconds.

    With `onward` it runs them on from where they pause, and asks no people.
    """
    async with AsyncPostgresSaver.from_conn_string(os.environ["DATABASE_URL"]) as saver:
        graph = builder.compile(saver, interrupt_before=["human_approval"])
        due = time.monotonic()
        for thread in threads:
            await asyncio.sleep(max(0, due - time.monotonic()))
            due += every
            config: Any = {"configurable": {"thread_id": thread}}
            state: Any = {**first(thread), **given, "script": script}
            await graph.ainvoke(None if onward else state, config, durability=durability)


def first(thread: str) -> dict[str, Any]:
    return {
        "conversation_id": thread,
        "title": f"Case {thread}",
        "who": "Maeve Kilbride",
        "risk": "medium",
        "agent_response": "Dear Maeve,\n\nWe have noted your plan.\n\nCustomer Care",
        "amount": 60,
        "log": [],
    }


if __name__ == "__main__":
    asyncio.run(main(**json.loads(sys.argv[1])))
