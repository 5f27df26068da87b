#!/usr/bin/env python
"""Countersign's commands. Every failure that an operator can cause ends in one readable line."""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "console.settings")
    from console.failures import one_line

    with one_line():
        if sys.argv[1:2] == ["demo"]:
            prepare_demo()
        from django.core.management import execute_from_command_line

        execute_from_command_line(sys.argv)


def prepare_demo() -> None:
    """Before settings are read: the embedded Postgres, unless DATABASE_URL names another."""
    import secrets
    from pathlib import Path

    from console import embedded

    here = Path(__file__).resolve().parent
    data = Path(os.environ.setdefault("COUNTERSIGN_DATA", str(here / ".data")))
    if not os.environ.get("DATABASE_URL"):
        os.environ["DATABASE_URL"] = embedded.start(data / "postgres")
        os.environ["COUNTERSIGN_EMBEDDED"] = "1"
    host = os.environ.get("HOST", "")
    if host and not os.environ.get("ALLOWED_HOSTS"):
        everywhere = host in {"0.0.0.0", "::"}  # noqa: S104 - compared, not bound
        os.environ["ALLOWED_HOSTS"] = "*" if everywhere else f"localhost,127.0.0.1,{host}"
    key = data / "secret_key"
    if not os.environ.get("SECRET_KEY"):
        if not key.exists():
            data.mkdir(parents=True, exist_ok=True)
            key.touch(mode=0o600)
            key.write_text(secrets.token_urlsafe(50))
        os.environ["SECRET_KEY"] = key.read_text()


if __name__ == "__main__":
    main()
