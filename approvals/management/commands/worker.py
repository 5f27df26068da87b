"""`manage.py worker`: resumes decided runs and captures paused ones. Run as many as you like."""

import asyncio
import contextlib
import os
import signal
from typing import Any

from django.core.management.base import BaseCommand
from django.db import connection

from approvals import work
from approvals.errors import AWAY
from approvals.pace import Pace
from approvals.registry import registry
from approvals.threads import note_unknown_threads


class Command(BaseCommand):
    help = "Resumes decided runs and captures paused ones, until it is told to stop."

    def handle(self, *args: Any, **options: Any) -> None:
        registry()
        pace = Pace.from_environment()
        # Postgres may be away at the start, and is waited for; tables that are not there are not.
        with contextlib.suppress(*AWAY):
            note_unknown_threads()
        connection.close()  # this thread asks nothing more
        self.stdout.write("Worker started.")
        self.stdout.flush()
        asyncio.run(self.until_stopped(pace))

    async def until_stopped(self, pace: Pace) -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        cut_off = await work.run(stop, pace)
        left = f"{len(cut_off)} runs were handed back" if cut_off else "nothing was left half done"
        self.stdout.write(f"Worker stopped; {left}.")
        self.stdout.flush()
        # A node that is a plain function cannot be cancelled, and Python would wait for its thread,
        # while another worker is about to run it.
        os._exit(0)
