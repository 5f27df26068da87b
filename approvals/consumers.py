"""The socket of one browser tab: nudges out, nothing in."""

import asyncio
import contextlib
from typing import Any

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from django.conf import settings
from procrastinate.contrib.django.utils import connector_params

from approvals.events import PRESENCE, Nudge, hub
from approvals.policies import Policy

NOT_SIGNED_IN = 4401
GATHER = 0.05  # seconds in which nudges of a burst become one message


class NudgeConsumer(AsyncJsonWebsocketConsumer):
    """Sends `{"reviews": [ids], "refresh": bool}` for the queues that its person sees.

    Where only who looks at them has changed: `"presence": [ids]`.
    """

    async def connect(self) -> None:
        user = self.scope.get("user")
        if user is None or not user.is_authenticated:
            await self.accept()
            await self.close(code=NOT_SIGNED_IN)
            return
        self.policy = await database_sync_to_async(_policy)(user)
        self.pending: set[int] = set()
        self.presences: set[int] = set()
        self.refresh = False
        self.wake = asyncio.Event()
        await self.accept()
        self.sender = asyncio.create_task(self._send_gathered())
        hub().join(self.deliver, settings.DIRECT_DATABASE or connector_params())

    async def disconnect(self, code: int) -> None:
        if hasattr(self, "sender"):
            self.sender.cancel()
            # The sender may have ended in an error of its own: the browser had gone.
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await self.sender
            await hub().leave(self.deliver)

    async def receive(self, text_data: Any = None, bytes_data: Any = None, **kwargs: Any) -> None:
        """Nothing is decided over a socket."""

    def deliver(self, nudge: Nudge) -> None:
        if nudge.get("refresh"):
            self.refresh = True
        elif self.policy.sees_queue(nudge["graph"]):
            about = nudge.get("about")
            (self.presences if about == PRESENCE else self.pending).add(nudge["review"])
        else:
            return
        self.wake.set()

    async def _send_gathered(self) -> None:
        while True:
            await self.wake.wait()
            await asyncio.sleep(GATHER)
            self.wake.clear()
            reviews, self.pending = sorted(self.pending), set()
            refresh, self.refresh = self.refresh, False
            presences, self.presences = sorted(self.presences), set()
            who = {"presence": presences} if presences else {}
            await self.send_json({"reviews": reviews, "refresh": refresh, **who})


def _policy(user: Any) -> Policy:
    policy = Policy(user)
    _ = policy.sees_all, policy.queues  # read while database access is allowed
    return policy
