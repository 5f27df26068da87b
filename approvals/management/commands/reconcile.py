"""`manage.py reconcile`: rebuilds the reviews from the checkpoints."""

from typing import Any

from django.core.management.base import BaseCommand

from approvals import capture
from approvals.models import Review
from approvals.registry import registry


class Command(BaseCommand):
    help = "Rebuilds the reviews from the checkpoints, on an old database or after doubt."

    def handle(self, *args: Any, **options: Any) -> None:
        registry()
        done = 0
        for done in capture.reconcile():
            self.stdout.write(f"{done} threads looked at", ending="\r")
        waiting = Review.objects.waiting().count()
        self.stdout.write(f"{done} threads looked at; {waiting} reviews wait.")
