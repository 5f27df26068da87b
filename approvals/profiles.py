"""How a person wants the console to be, as pages ask for it."""

from typing import Any

from django.db import DatabaseError
from django.utils.functional import SimpleLazyObject

from approvals import keymap
from approvals.models import Profile


def profile_of(user: Any) -> Profile:
    """One query for a request, however often it is asked; the usual one for somebody unknown."""
    return getattr(user, "profile", None) or Profile()


def for_page(user: Any) -> dict[str, Any]:
    """What every page's template has; read when a template first asks for it."""
    profile = SimpleLazyObject(lambda: _profile_if_there(user))
    return {
        "profile": profile,
        "keymap": SimpleLazyObject(lambda: keymap.shown(profile.keys)),
    }


def _profile_if_there(user: Any) -> Profile:
    """No page is lost for the want of a theme."""
    try:
        return profile_of(user)
    except DatabaseError:
        return Profile()
