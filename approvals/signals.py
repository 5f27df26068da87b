"""Sign-in, its failure and sign-out go into the audit trail."""

from typing import Any

from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.dispatch import receiver

from approvals import audit
from approvals.audit import Actor
from approvals.models import AuditEntry


def _actor(request: Any, user: Any = None) -> Actor:
    address = request.META.get("REMOTE_ADDR") if request is not None else None
    name = (user.get_full_name() or user.get_username()) if user else ""
    return Actor(user, name, address or None)


@receiver(user_logged_in)
def signed_in(sender: Any, request: Any, user: Any, **kwargs: Any) -> None:
    audit.record(_actor(request, user), AuditEntry.Action.SIGNED_IN)


@receiver(user_logged_out)
def signed_out(sender: Any, request: Any, user: Any, **kwargs: Any) -> None:
    if user is not None:
        audit.record(_actor(request, user), AuditEntry.Action.SIGNED_OUT)


@receiver(user_login_failed)
def sign_in_failed(sender: Any, credentials: Any, request: Any = None, **kwargs: Any) -> None:
    """The name that was tried, never the password: Django has already taken it out."""
    tried = str(credentials.get("username", ""))[:150].replace("\x00", "\ufffd")
    actor = _actor(request)
    audit.record(
        Actor(None, tried, actor.address),
        AuditEntry.Action.SIGN_IN_FAILED,
        note="Wrong name or password.",
    )
