"""What other programs do to a thread: LangGraph's own calls on the same Postgres, no word to us.

    DATABASE_URL=… python -m tests.faults.foreign '{"act": "resume", "thread": "t", "go": "/tmp/f"}'

does one act as a process of its own, as soon as the file `go` is there.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.types import StateSnapshot

from tests.graphs.scripted import builder


class Foreign:
    """An agent's own program, with a saver of its own."""

    def __init__(self, saver: AsyncPostgresSaver, graph_id: str = "scripted") -> None:
        self.saver, self.graph_id = saver, graph_id
        self.graph = builder.compile(saver, interrupt_before=["human_approval"])

    async def state(self, thread: str) -> StateSnapshot:
        return await self.graph.aget_state(self._at(thread))

    async def pause(self, thread: str, text: str, **script: Any) -> None:
        """Runs the thread from its beginning to its pause; as new input, where it stood before."""
        given = {"conversation_id": thread, "title": thread, "agent_response": text}
        await self.graph.ainvoke({**given, "script": script, "log": []}, self._at(thread))

    async def update(self, thread: str, text: str) -> None:
        await self.graph.aupdate_state(self._at(thread), {"agent_response": text})

    async def passes(self, thread: str, text: str) -> None:
        """As one that is in the middle of a run of its own: deliver comes next."""
        await self.graph.aupdate_state(
            self._at(thread), {"agent_response": text}, as_node="human_approval"
        )

    async def fork(self, thread: str, checkpoint: str, text: str) -> None:
        """Writes to an older checkpoint, which makes its child the thread's head."""
        place = self._at(thread, checkpoint_id=checkpoint, checkpoint_ns="")
        await self.graph.aupdate_state(place, {"agent_response": text})

    async def resume(self, thread: str) -> str:
        """Runs the thread on from wherever it stands; what a node of it raised, if one did."""
        try:
            await self.graph.ainvoke(None, self._at(thread))
        except RuntimeError as error:
            return str(error)
        return ""

    async def delete(self, thread: str) -> None:
        await self.saver.adelete_thread(thread)

    def _at(self, thread: str, **more: str) -> Any:
        place = {"configurable": {"thread_id": thread, **more}}
        return {**place, "metadata": {"graph_id": self.graph_id}}


@asynccontextmanager
async def foreign(url: str, graph_id: str = "scripted") -> AsyncIterator[Foreign]:
    async with AsyncPostgresSaver.from_conn_string(url) as saver:
        yield Foreign(saver, graph_id)


async def main(act: str, thread: str, go: str, **given: str) -> None:
    async with foreign(os.environ["DATABASE_URL"]) as program:
        print("ready", flush=True)
        while not os.path.exists(go):
            await asyncio.sleep(0.001)
        await getattr(program, act)(thread, **given)


if __name__ == "__main__":
    asyncio.run(main(**json.loads(sys.argv[1])))
