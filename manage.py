#!/usr/bin/env python
"""Countersign's commands. Every failure that an operator can cause ends in one readable line."""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "console.settings")
    from console.failures import one_line

    with one_line():
        if sys.argv[1:2] == ["demo"]:
            from console.demo import prepare

            prepare(sys.argv[2:])
        from django.core.management import execute_from_command_line

        execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
