"""What keys do: one list, for the help sheet, the palette, the profile page and keys.js.

An action presses the button on the page that says `data-act="<name>"`; a few are keys.js's own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext_lazy as _

Words = Any  # a text, or one that is translated when it is shown
DECIDE, MOVE, CASE, EVERYWHERE = _("Decide"), _("Move"), _("This case"), _("Everywhere")


@dataclass(frozen=True)
class Action:
    """`key` is one character, or the words of a combination, which nobody can change."""

    name: str
    key: str
    label: Words
    group: Words
    in_text: bool = False  # works where somebody writes

    @property
    def fixed(self) -> bool:
        return len(self.key) > 1


ACTIONS = (
    Action("approve", "a", _("Approve"), DECIDE),
    Action("edit", "e", _("Edit"), DECIDE),
    Action("send", "Mod Enter", _("Approve the edit, send what is written"), DECIDE, in_text=True),
    Action("reject", "r", _("Reject, with a reason"), DECIDE),
    Action("send_back", "b", _("Send back"), DECIDE),
    Action("respond", "w", _("Write the answer yourself"), DECIDE),
    Action("call", "1 … 9", _("Go to a call of a question"), DECIDE),
    Action("undo", "z", _("Undo the last decision"), DECIDE),
    Action("undo_too", "Mod Z", _("Undo, with the usual combination"), DECIDE),
    Action("next", "n", _("Next case that nobody has"), MOVE),
    Action("down", "j", _("Next row of the list"), MOVE),
    Action("up", "k", _("Previous row of the list"), MOVE),
    Action("select", "x", _("Select the row"), MOVE),
    Action("search", "/", _("Search"), MOVE),
    Action("claim", "c", _("Claim, ask for it, or hand back"), CASE),
    Action("snooze", "s", _("Snooze"), CASE),
    Action("assign", "g", _("Assign"), CASE),
    Action("notes", "m", _("Notes"), CASE),
    Action("history", "h", _("History"), CASE),
    Action("state", "t", _("State"), CASE),
    Action("beside", "d", _("Redline or draft beside the reply"), CASE),
    Action("theme", "l", _("Light or dark"), EVERYWHERE),
    Action("help", "?", _("List the keys"), EVERYWHERE),
    Action("palette", "Mod K", _("Find or run a command"), EVERYWHERE, in_text=True),
    Action("leave", "Escape", _("Leave the text, close what is open"), EVERYWHERE, in_text=True),
)
CHANGEABLE = tuple(action for action in ACTIONS if not action.fixed)


@dataclass(frozen=True)
class Shown:
    """An action with the key that one person has for it; "" is none."""

    action: Action
    key: str

    @property
    def caps(self) -> list[str]:
        """What is printed on the keys."""
        return [key.upper() if len(key.upper()) == 1 else key for key in self.key.split(" ") if key]


def keys_of(own: Any) -> dict[str, str]:
    """The key of each action that can have another, with a person's `own` where they chose it.

    A usual key that they gave to another action is that one's alone.
    """
    chosen = _readable(own)
    taken = set(chosen.values())
    usual = {one.name: "" if one.key in taken else one.key for one in CHANGEABLE}
    return usual | chosen


def _readable(own: Any) -> dict[str, str]:
    names = {action.name for action in CHANGEABLE}
    pairs = own.items() if isinstance(own, dict) else ()
    return {n: key for n, key in pairs if n in names and isinstance(key, str) and len(key) <= 1}


def unusual(keys: Mapping[str, str]) -> dict[str, str]:
    """What of these has to be kept: the keys that are not the usual ones."""
    return {one.name: keys[one.name] for one in CHANGEABLE if keys[one.name] != one.key}


def shown(own: Any) -> list[tuple[Words, list[Shown]]]:
    """Every action with its key, in groups, in the order of the list."""
    keys = keys_of(own)
    groups: dict[Any, list[Shown]] = {}
    for action in ACTIONS:
        groups.setdefault(action.group, []).append(Shown(action, keys.get(action.name, action.key)))
    return list(groups.items())
