"""Between a process of the house and its Postgres: loses answers, notifications, connections.

It reads just enough of the protocol (version 3) to know a COMMIT that the server has done, and
which statements it was that it committed. All else goes through untouched.
"""

import asyncio
import struct
import threading
import time
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

CANCEL, SSL, GSS = 80877102, 80877103, 80877104  # what a client may say before it starts
LARGEST = 1 << 14  # bytes of a statement that are looked through
GONE = (OSError, asyncio.IncompleteReadError, EOFError)


@dataclass
class Cut:
    """The next `times` commits of transactions in which a statement had this text."""

    text: bytes
    times: int


@dataclass(eq=False)
class Line:
    """One client's connection, through to the server."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    server_reader: asyncio.StreamReader
    server_writer: asyncio.StreamWriter
    known: dict[bytes, bytes] = field(default_factory=dict)  # prepared statements by their names
    said: list[bytes] = field(default_factory=list)  # statements of this transaction

    def cut(self) -> None:
        for writer in (self.writer, self.server_writer):
            writer.transport.abort()


class Proxy:
    """Listens on loopback from `with Proxy(house.url) as proxy` to its end; `proxy.url` is for
    DATABASE_URL. What it is told to do it does from any thread."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.socket = f"{parse_qs(parts.query)['host'][0]}/.s.PGSQL.5432"
        self.url = f"postgresql://{parts.username}@127.0.0.1:{{}}{parts.path}"
        self.deaf = False  # whether notifications are swallowed
        self.swallowed = 0
        self.cuts: list[str] = []  # the text by which each commit was cut, in order
        self._due: list[Cut] = []
        self._closed_until = 0.0
        self._lines: set[Line] = set()
        self._taken: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._up = threading.Event()

    def __enter__(self) -> "Proxy":
        self._thread.start()
        assert self._up.wait(10), "the proxy does not listen"
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(10)

    # What it is told to do

    def cut_commits(self, after: str, times: int = 1) -> None:
        """Cuts the connection once the server has committed, before the client hears of it, for
        the next `times` transactions that hold a statement with this text."""
        self._due.append(Cut(after.encode(), times))

    def cut_all(self) -> None:
        """Ends every connection as it stands."""
        self._loop.call_soon_threadsafe(lambda: [line.cut() for line in list(self._lines)])

    def refuse(self, seconds: float) -> None:
        """The same, and none is taken for a while."""
        self._closed_until = time.monotonic() + seconds
        self.cut_all()

    # What it does

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        self._stopped = asyncio.Event()
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = self.url.format(server.sockets[0].getsockname()[1])
        self._up.set()
        await self._stopped.wait()
        server.close()
        for taken in list(self._taken):
            taken.cancel()
        await asyncio.gather(*self._taken, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        mine: Any = asyncio.current_task()
        self._taken.add(mine)
        try:
            if time.monotonic() >= self._closed_until:
                await self._take(reader, writer)
        except (*GONE, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
            self._taken.discard(mine)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        start = await _start(reader, writer)
        server_reader, server_writer = await asyncio.open_unix_connection(self.socket)
        server_writer.write(start)
        line = Line(reader, writer, server_reader, server_writer)
        self._lines.add(line)
        try:
            await _first(self._to_server(line), self._to_client(line))
        finally:
            self._lines.discard(line)
            line.cut()

    async def _to_server(self, line: Line) -> None:
        while True:
            kind, body = await _message(line.reader)
            _listen(line, kind, body)
            await _pass_on(line.server_writer, kind, body)

    async def _to_client(self, line: Line) -> None:
        while True:
            kind, body = await _message(line.server_reader)
            if kind == b"A" and self.deaf:
                self.swallowed += 1
                continue
            if kind == b"C" and body == b"COMMIT\0" and self._is_due(line):
                return
            if kind == b"Z" and body == b"I":  # no transaction is open any more
                line.said.clear()
            await _pass_on(line.writer, kind, body)

    def _is_due(self, line: Line) -> bool:
        for cut in self._due:
            if cut.times and any(cut.text in statement for statement in line.said):
                cut.times -= 1
                self.cuts.append(cut.text.decode())
                return True
        return False


async def _start(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """The packet by which a client starts, or by which it cancels a statement of another."""
    while True:
        size = await reader.readexactly(4)
        packet = await reader.readexactly(struct.unpack("!I", size)[0] - 4)
        if struct.unpack("!I", packet[:4])[0] not in (SSL, GSS):
            return size + packet
        writer.write(b"N")


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    kind, size = struct.unpack("!cI", await reader.readexactly(5))
    return kind, await reader.readexactly(size - 4)


async def _pass_on(writer: asyncio.StreamWriter, kind: bytes, body: bytes) -> None:
    writer.write(struct.pack("!cI", kind, len(body) + 4) + body)
    await writer.drain()


def _listen(line: Line, kind: bytes, body: bytes) -> None:
    """Notes what a client has run: as it is, prepared, or prepared before."""
    if kind == b"Q":
        line.said.append(body[:LARGEST])
    elif kind == b"P":
        name, _, rest = body.partition(b"\0")
        line.known[name] = rest[:LARGEST]
    elif kind == b"B":
        line.said.append(line.known.get(body.split(b"\0", 2)[1], b""))


async def _first(*works: Coroutine[Any, Any, None]) -> None:
    """Until one of them ends."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.wait(tasks, return_when="FIRST_COMPLETED")
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError, *GONE):
                await task
