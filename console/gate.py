"""How many requests one web process serves at a time, and so how many connections it holds.

Django has a connection per thread, and under ASGI a thread per request: without bound. Here a
request runs on one of a fixed number of threads, each with a connection that it keeps. Slow
clients hold none: a request has come in whole before it takes a place, and its answer goes out
after the place was given back.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from asgiref.sync import ThreadSensitiveContext
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _

from approvals.pages import problem, written

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Any, Any, Any], Awaitable[None]]

TURNED_AWAY = "countersign.turned_away"
BUSY, TOO_LONG = "busy", "too long"
NO_DATABASE = ("/health", "/static/")
MARGIN = 1024 * 1024  # of a request over what Django takes as a form, which has a page for that


class Gate:
    """At most `places` requests at a time; another waits `patience` seconds for a place."""

    def __init__(
        self, application: Application, *, places: int, patience: float, longest: int
    ) -> None:
        self.application, self.patience = application, patience
        self.longest = longest + MARGIN
        # Last in, first out: few requests at a time use few connections.
        self.free: asyncio.LifoQueue[ThreadPoolExecutor] = asyncio.LifoQueue()
        for number in range(places):
            self.free.put_nowait(ThreadPoolExecutor(1, thread_name_prefix=f"place-{number}"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"].startswith(NO_DATABASE):
            return await self.application(scope, receive, send)
        request = await self._whole(receive)
        if request is None:
            return None
        answer = await self._answer(scope, request, receive)
        for message in answer:
            await send(message)
        return None

    async def _whole(self, receive: Receive) -> list[Message] | None:
        """All messages of a request; none of them where it is too long; None: the client left.

        A slow client is waited for here, where it keeps nobody out.
        """
        messages: list[Message] = []
        length = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            length += len(message.get("body", b""))
            if length <= self.longest:
                messages.append(message)
            if not message.get("more_body", False):
                return messages if length <= self.longest else []

    async def _answer(
        self, scope: Scope, request: list[Message], receive: Receive
    ) -> list[Message]:
        answer: list[Message] = []

        async def keep(message: Message) -> None:
            answer.append(message)

        if not request:
            nothing: Message = {"type": "http.request"}
            turned_away = {**scope, TURNED_AWAY: TOO_LONG}
            await self.application(turned_away, again([nothing], receive), keep)
            return answer
        async with self._place() as thread:
            if thread is None:
                turned_away = {**scope, TURNED_AWAY: BUSY}
                await self.application(turned_away, again(request, receive), keep)
            else:
                async with ThreadSensitiveContext(executor=thread):
                    await self.application(scope, again(request, receive), keep)
        return answer

    @contextlib.asynccontextmanager
    async def _place(self) -> AsyncIterator[ThreadPoolExecutor | None]:
        try:
            async with asyncio.timeout(self.patience):
                thread = await self.free.get()
        except TimeoutError:
            yield None
            return
        try:
            yield thread
        finally:
            self.free.put_nowait(thread)


def again(messages: list[Message], receive: Receive) -> Receive:
    """`receive` for who comes after the one that took these messages."""
    left = iter(messages)

    async def told() -> Message:
        return next(left, None) or await receive()

    return told


def turn_away(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """What the gate did not let through gets its page before anything asks the database."""

    def middleware(request: HttpRequest) -> HttpResponse:
        scope = getattr(request, "scope", {})
        if TURNED_AWAY not in scope:
            return get_response(request)
        return busy(request) if scope[TURNED_AWAY] == BUSY else too_long()

    return middleware


def busy(request: HttpRequest) -> HttpResponse:
    return problem(
        503,
        _("Too many people at once"),
        _("Nothing was recorded. What you wrote is below; send this page again in a moment."),
        kept=written(request),
        **{"Retry-After": "2"},
    )


def too_long() -> HttpResponse:
    return problem(413, _("This is too long"), _("Nothing was recorded. Go back and send less."))
