"""`manage.py web`: one web process. Run as many as you like behind any balancer."""

import os
from typing import Any

import uvicorn
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandParser

from approvals.registry import registry
from console.ports import refuse_taken_port

# Seconds for the requests under way at SIGTERM: the longest that one waits for a lock, and a
# little to answer.
STOP_WITHIN = 7


class Command(BaseCommand):
    help = "Serves the pages and the live updates."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default=os.environ.get("HOST", "127.0.0.1"))
        parser.add_argument("--port", default=os.environ.get("PORT", "8000"))

    def handle(self, *args: Any, **options: Any) -> None:
        if not os.environ.get("SECRET_KEY"):
            raise ImproperlyConfigured(
                "SECRET_KEY is not set. Every web process needs the same long random value; "
                "make one with: python -c 'import secrets; print(secrets.token_urlsafe(50))'"
            )
        registry()
        refuse_taken_port(options["host"], options["port"])
        uvicorn.run(
            "console.asgi:application",
            host=options["host"],
            port=int(options["port"]),
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            ws="websockets-sansio",
            timeout_graceful_shutdown=STOP_WITHIN,
        )
