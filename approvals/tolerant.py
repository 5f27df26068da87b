"""Reading checkpoints that this installation cannot wholly decode. For looking, never for running.

A type that is not allowed, an encrypted value or broken bytes become an `Undecodable` in place of
the value. LangGraph's own serializer raises for the latter two, so that one value hides the whole
thread; and for the first it quietly returns what was inside: a claim comes back as a dict, and the
next write stores it as one. Nothing here can be written back: an Undecodable has no stored form.
"""

import copy
import importlib
import logging
from collections.abc import Callable, Mapping
from inspect import isclass
from typing import Any, TypeVar

import ormsgpack
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.serde import _msgpack
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import EXT_DELTA_SNAPSHOT, JsonPlusSerializer
from langgraph.checkpoint.serde.types import _DeltaSnapshot

from approvals.undecodable import Undecodable
from graphs.registry import Compiled

logger = logging.getLogger(__name__)
Saver = TypeVar("Saver", bound=BaseCheckpointSaver[Any])
BUILT = range(6)  # jsonplus' codes for values that are built by importing their type
BY_METHOD = 3  # the one of them that calls a method of the type
UNPACK = ormsgpack.OPT_NON_STR_KEYS
PLAIN_TYPES = {"null", "bytes", "bytearray", "json", "msgpack", "pickle"}


class TolerantSerde(SerializerProtocol):
    """A serializer that reads what it can. It writes as the one it wraps."""

    def __init__(self, serde: SerializerProtocol) -> None:
        self.serde = _marking(serde)

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        return self.serde.dumps_typed(obj)

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        kind, stored = data
        try:
            return self.serde.loads_typed(data)
        except Exception as error:  # ciphers and constructors raise whatever they like
            logger.debug("A value stored as %s cannot be read", kind, exc_info=True)
            return Undecodable(_reason(kind, error), kind, len(stored))


def tolerant(saver: Saver) -> Saver:
    """The saver, reading what it can."""
    reading = copy.copy(saver)
    reading.serde = TolerantSerde(saver.serde)
    # LangGraph would add a subgraph's types, which the saver has already, and warn that it cannot.
    reading.with_allowlist = lambda extra_allowlist: reading  # type: ignore[method-assign]
    return reading


def reading(compiled: Compiled) -> Compiled:
    """The graph on its saver, for `get_state` and `get_state_history` only.

    Nodes get no typed input here: where the state is a pydantic model, validating it would fail on
    the first value that could not be read.
    """
    saver: Any = compiled.checkpointer
    nodes = {name: node.copy({"mapper": None}) for name, node in compiled.nodes.items()}
    return compiled.copy({"checkpointer": tolerant(saver), "nodes": nodes})


def _reason(kind: str, error: Exception) -> str:
    if "+" in kind and isinstance(error, NotImplementedError):
        cipher = kind.split("+", 1)[1]
        return f"It is encrypted ({cipher}), and this installation has no key for it."
    if "+" in kind:
        return f"It is encrypted, and could not be decrypted here ({type(error).__name__})."
    if kind == "pickle":
        return "It is stored as a pickle, which is never opened here: it could run any code."
    if kind not in PLAIN_TYPES:
        return f"It is stored as “{kind}”, by a serializer that this installation does not have."
    return f"Its stored bytes are broken ({type(error).__name__})."


def _marking(serde: SerializerProtocol) -> SerializerProtocol:
    """The serializer with a hook that marks what it would have passed over in silence."""
    if isinstance(serde, EncryptedSerializer):
        return EncryptedSerializer(serde.cipher, _marking(serde.serde))
    if not isinstance(serde, JsonPlusSerializer):
        return serde
    marking = copy.copy(serde)
    marking._unpack_ext_hook = _hook(serde)
    marking._custom_unpack_ext_hook = True
    return marking


def _hook(serde: JsonPlusSerializer) -> Callable[[int, bytes], Any]:
    allowed = serde._allowed_msgpack_modules

    def hook(code: int, data: bytes) -> Any:
        if code == EXT_DELTA_SNAPSHOT:
            return _DeltaSnapshot(ormsgpack.unpackb(data, ext_hook=hook, option=UNPACK))
        if code not in BUILT:
            return serde._unpack_ext_hook(code, data)
        module, name, inside, *method = ormsgpack.unpackb(data, ext_hook=hook, option=UNPACK)
        kind = f"{module}.{name}"
        called = method[:1] if code == BY_METHOD else []
        if not _is_allowed(allowed, (module, name, *called)):
            return Undecodable(_not_allowed(module, name), kind, len(data), _shown(kind, inside))
        value = serde._unpack_ext_hook(code, data)
        found = next(_marks(inside), None)
        if found and not _is_whole(serde, value, data):
            return Undecodable(f"It holds a {found.kind}. {found}", kind, len(data), inside)
        if why := _not_built(module, name, value):
            return Undecodable(why, kind, len(data), _shown(kind, inside))
        return value

    return hook


def _is_whole(serde: JsonPlusSerializer, value: object, data: bytes) -> bool:
    """Whether nothing was lost: a pydantic model makes its fields' types anew from the inside."""
    try:
        return serde.dumps_typed(value)[1].endswith(data)
    except Exception:
        return False


def _is_allowed(allowed: Any, key: tuple[str, ...]) -> bool:
    if len(key) == 3:  # a method of a type, which no allow-list opens
        return key in _msgpack.SAFE_MSGPACK_METHODS
    return key in _msgpack.SAFE_MSGPACK_TYPES or allowed is True or key in (allowed or ())


def _not_allowed(module: str, name: str) -> str:
    return (
        f"The type {module}.{name} is not allowed here. An admin can add "
        f'["{module}", "{name}"] to allowed_msgpack_modules in reviews.toml.'
    )


def _not_built(module: str, name: str, value: object) -> str:
    """Why an allowed type did not come back as itself; "" when it did."""
    try:
        kind = getattr(importlib.import_module(module), name)
    except Exception as error:
        return f"The type {module}.{name} cannot be imported here ({type(error).__name__})."
    if isclass(kind) and not isinstance(value, kind):
        return f"A {module}.{name} could not be made of what is stored: the type has changed."
    return ""


def _shown(kind: str, inside: object) -> object:
    """A secret is stored in the clear, and only its type would have kept it covered."""
    return None if kind.startswith("pydantic") and "Secret" in kind else inside


def _marks(value: object) -> Any:
    if isinstance(value, Undecodable):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _marks(key)
            yield from _marks(item)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from _marks(item)
