from typing import Any

from django.http import HttpRequest

from approvals.profiles import for_page


def csp_nonce(request: HttpRequest) -> dict[str, Any]:
    """Under the name by which django-htmx's script tags look for it."""
    return {"csp_nonce": getattr(request, "csp_nonce", "")}


def profile(request: HttpRequest) -> dict[str, Any]:
    """The person's profile and keys."""
    return for_page(getattr(request, "user", None))
