from typing import Any

from django.http import HttpRequest


def csp_nonce(request: HttpRequest) -> dict[str, Any]:
    """Under the name by which django-htmx's script tags look for it."""
    return {"csp_nonce": getattr(request, "csp_nonce", "")}
