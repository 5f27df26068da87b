"""Django's migrate, one at a time: thirty containers may start at once on an empty database."""

from typing import Any

from django.core.management.commands.migrate import Command as Migrate

from approvals.install import MIGRATE_LOCK, alone


class Command(Migrate):
    def handle(self, *args: Any, **options: Any) -> None:
        with alone(options["database"], MIGRATE_LOCK):
            super().handle(*args, **options)
