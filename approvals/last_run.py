"""Which nodes ran just before a checkpoint, for graphs that pause after a node.

LangGraph does not say. While the checkpoint before it is there, its tasks tell by their results,
those reached by Send included. A run with durability="exit" kept only its last checkpoint; there
the versions that each node has seen tell: a node that ran in the last step saw the newest of them.
"""

from typing import Any

from langgraph.checkpoint.base import CheckpointTuple
from langgraph.types import StateSnapshot

from approvals.savers import joined
from approvals.tolerant import reading
from graphs.registry import Graph

EDITED = {"update", "fork"}  # checkpoints that no node made


def ran_last(graph: Graph, state: StateSnapshot) -> list[str]:
    """The nodes whose writes made the newest checkpoint of `state` that a step made."""
    compiled = reading(joined(graph))
    saver: Any = compiled.checkpointer
    made = saver.get_tuple(state.config)
    while made and made.metadata.get("source") in EDITED and made.parent_config:
        made = saver.get_tuple(made.parent_config)
    if made is None or made.metadata.get("source") != "loop":
        return []
    before = saver.get_tuple(made.parent_config) if made.parent_config else None
    if before is None or before.metadata.get("step") != made.metadata.get("step", 0) - 1:
        return _saw_the_newest(made)
    tasks = compiled.get_state(before.config).tasks
    return [task.name for task in tasks if task.result is not None]


def _saw_the_newest(made: CheckpointTuple) -> list[str]:
    seen = {
        name: max((_number(version) for version in versions.values()), default=0)
        for name, versions in made.checkpoint["versions_seen"].items()
        if not name.startswith("__")
    }
    newest = max(seen.values(), default=0)
    return [name for name, version in seen.items() if version == newest]


def _number(version: Any) -> int:
    """Versions are integers, or text that begins with one."""
    return version if isinstance(version, int) else int(str(version).split(".")[0])
