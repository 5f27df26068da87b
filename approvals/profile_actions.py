"""Keeps what people set for themselves. It concerns nobody else, so nothing of it is audited."""

from typing import Any

from approvals.models import Profile


def set_profile(user: Any, **fields: Any) -> Profile:
    """Changes these fields of the person's profile, and leaves the rest."""
    profile, _is_new = Profile.objects.update_or_create(user=user, defaults=fields)
    return profile
