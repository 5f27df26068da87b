"""The pages that say what went wrong: what happened, then what follows."""

import sys
from typing import Any

from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.utils.translation import gettext as _

from approvals.errors import AWAY


def problem(
    status: int, title: str, text: str, *, kept: dict[str, str] | None = None, **headers: str
) -> HttpResponse:
    """A whole page that needs neither a session nor a database."""
    body = render_to_string("problem.html", {"title": title, "text": text, "kept": kept or {}})
    return HttpResponse(body, status=status, headers=headers)


@login_not_required
def bad_request(request: HttpRequest, exception: Any = None) -> HttpResponse:
    return problem(
        400, _("This request cannot be read"), _("Go back, reload the page and try again.")
    )


@login_not_required
def forbidden(request: HttpRequest, exception: Any = None) -> HttpResponse:
    return problem(
        403, _("Not allowed"), _("This is for other accounts. An admin can change that.")
    )


@login_not_required
def out_of_date(request: HttpRequest, reason: str = "") -> HttpResponse:
    """A form without a valid CSRF token: mostly one that waited through a sign-out."""
    return problem(
        403,
        _("This form is out of date"),
        _(
            "It was made before you last signed in. Nothing was recorded, and what you wrote is "
            "below. Open the page again, then send it."
        ),
        kept=written(request),
    )


def signed_out(request: HttpRequest) -> HttpResponse:
    """A text that was sent after the session had ended: kept, and the way back."""
    return problem(
        401,
        _("You are signed out"),
        _(
            "Nothing was recorded. What you wrote is below: copy it, sign in, and open the case "
            "again."
        ),
        kept=written(request),
    )


@login_not_required
def not_found(request: HttpRequest, exception: Any = None) -> HttpResponse:
    return problem(
        404,
        _("There is no such page for you"),
        _(
            "It may have gone, or belong to a queue that you are not in. An admin can add you to "
            "it."
        ),
    )


@login_not_required
def server_error(request: HttpRequest) -> HttpResponse:
    """An unreachable database is 503 and says so; anything else is a defect of ours."""
    if isinstance(sys.exc_info()[1], AWAY):
        return problem(
            503,
            _("The database did not answer"),
            _(
                "What you wrote is below. Send this page again in a moment: if it was recorded "
                "after all, it counts once."
            )
            if request.method == "POST"
            else _("Nothing was lost. Reload this page in a moment."),
            kept=written(request),
            **{"Retry-After": "5"},
        )
    return problem(
        500,
        _("Something broke on our side"),
        _("It was logged. If you were deciding, open the review again to see what was recorded."),
        kept=written(request),
    )


def written(request: HttpRequest) -> dict[str, str]:
    """What a refused form held of the person's own words."""
    prefix = "edit."
    return {
        name[len(prefix) :]: text
        for name, text in request.POST.items()
        if name.startswith(prefix) and isinstance(text, str) and text
    }
