"""Every shape of tests/contract as a target of langgraph.json: `tests.graphs.shapes:<name>`."""

from typing import Any

from tests.contract.graphs import SHAPES


def __getattr__(name: str) -> Any:
    if name not in SHAPES:
        raise AttributeError(name)
    return SHAPES[name].compile()
