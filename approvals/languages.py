"""Which language a browser asks for: kept in Django's own cookie, so that no request reads it."""

from django.conf import settings
from django.http import HttpResponseBase


def remember(response: HttpResponseBase, language: str) -> None:
    """Has the browser ask for this language from now on; "" is the browser's own."""
    name = settings.LANGUAGE_COOKIE_NAME
    if language not in dict(settings.LANGUAGES):
        response.delete_cookie(name, samesite="Lax")
        return
    response.set_cookie(
        name,
        language,
        max_age=365 * 24 * 3600,
        secure=settings.HTTPS,
        httponly=True,
        samesite="Lax",
    )
