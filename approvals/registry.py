"""The registry of this process, read once from the files that the settings name."""

from functools import cache

from django.conf import settings

from graphs.registry import Graph, Registry, load


@cache
def registry() -> Registry:
    """Raises graphs.registry.RegistryError with every fault of the two files."""
    return load(settings.LANGGRAPH_JSON, settings.REVIEWS_TOML)


def graph(graph_id: str) -> Graph | None:
    return registry().get(graph_id)
