#!/usr/bin/env python
"""Countersign's commands. Every failure that an operator can cause ends in one readable line."""

import gc
import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "console.settings")
    gc.disable()  # nothing of what is imported is garbage, and there is much of it
    from console.failures import one_line

    work_directly(sys.argv[1:2])
    with one_line():
        (run_demo if sys.argv[1:2] == ["demo"] else run)()


def work_directly(command: list[str]) -> None:
    """All but `web` hold locks, listen or outlast a transaction, which no pooler allows."""
    if command != ["web"] and (direct := os.environ.get("DIRECT_DATABASE_URL")):
        os.environ["DATABASE_URL"] = direct


def run() -> None:
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)


def run_demo() -> None:
    """The demo's Postgres must run before the settings are read, and end with the demo."""
    from console import demo

    demo.prepare(sys.argv[2:])
    try:
        run()
    finally:
        demo.finish()


if __name__ == "__main__":
    main()
