"""`manage.py check`: every fault of langgraph.json and reviews.toml, at once."""

from typing import Any

from django.core.checks import Error, register

from approvals.registry import registry
from graphs.registry import RegistryError


@register
def registry_is_sound(app_configs: Any, **kwargs: Any) -> list[Error]:
    try:
        registry()
    except RegistryError as error:
        return [Error(str(fault), id="approvals.E001") for fault in error.faults]
    return []
