"""Real servers on loopback for tests: what they answer, how and when, is a script; what they get, they keep.

A script is a sequence of acts for one request: bytes are written as one piece, an `Event` is waited for, a `Cut` ends
the connection. Nothing sleeps: where order matters, the test sets the events. The same server is the fault proxy:
it drips, truncates, stalls, closes and resets.
"""

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from threading import Condition, Event, Thread
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

PATIENCE = 20.0
"""Seconds after which a wait that a test should have ended is given up, and fails."""


class Cut(Enum):
    """How a server ends a connection."""

    CLOSE = auto()
    RESET = auto()


@dataclass(frozen=True)
class Received:
    """One request as it came.

    Attributes:
        raw: Every byte of it.
        target: What stood in the request line.
        headers: Names in lower case.
        body: Chunking undone.
        connection: Which connection it came on, counted from 0.
    """

    raw: bytes
    target: str
    headers: dict[str, str]
    body: bytes
    connection: int

    @property
    def id(self) -> str:
        """The id that the test gave it."""
        return self.headers.get("x-request-id", "")


Act = bytes | Event | Cut
Script = Callable[[Received], Iterable[Act]]


def answer(status: int, body: bytes = b"", *headers: tuple[str, str], reason: str = "Because") -> bytes:
    """Return a whole answer with a Content-Length."""
    return head(status, ("Content-Length", str(len(body))), *headers, reason=reason) + body


def head(status: int, *headers: tuple[str, str], reason: str = "Because") -> bytes:
    """Return the head of an answer."""
    lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in headers), "", ""]
    return "\r\n".join(lines).encode("latin-1")


def chunk(content: bytes) -> bytes:
    """Return one chunk of a chunked body; an empty one ends it."""
    return b"%x\r\n%b\r\n" % (len(content), content)


def always(*acts: Act) -> Script:
    """Return the script that does the same for every request."""
    return lambda _: acts


@dataclass
class Server:
    """A server that follows a script and keeps what it was sent.

    Attributes:
        script: What to do for each request.
        tls: Speaks TLS where given.
        greeting: What it says before it is spoken to.
        received: The requests, in the order in which they were whole.
    """

    script: Script
    tls: ssl.SSLContext | None = None
    greeting: bytes = b""
    received: list[Received] = field(default_factory=list[Received])

    def __post_init__(self) -> None:
        """Listen."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._connections: list[socket.socket] = []
        self._news = Condition()
        self._threads = [Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def port(self) -> int:
        """Where it listens."""
        port: int = self._listener.getsockname()[1]
        return port

    @property
    def url(self) -> str:
        """Its base URL; by name where it speaks TLS."""
        return f"https://localhost:{self.port}" if self.tls else f"http://127.0.0.1:{self.port}"

    def count(self, request_id: str) -> int:
        """Return how often a request came."""
        return sum(request.id == request_id for request in self.received)

    def wait(self, requests: int = 1, connections: int = 1) -> None:
        """Wait until that many requests came whole, on that many connections."""
        with self._news:
            is_there = self._news.wait_for(
                lambda: len(self.received) >= requests and len(self._connections) >= connections, PATIENCE
            )
        assert is_there, f"{len(self.received)} of {requests} requests came"

    def __enter__(self) -> Self:
        """Return the server, which listens already."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop: cut every connection and wait for every thread."""
        _shut(self._listener)
        for connection in self._connections:
            _shut(connection)
        for thread in self._threads:
            thread.join(PATIENCE)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with self._news:
                    number = len(self._connections)
                    self._connections.append(connection)
                    self._news.notify_all()
                thread = Thread(target=self._serve, args=(connection, number), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        with contextlib.suppress(OSError):
            if self.tls is not None:
                connection = self._connections[number] = self.tls.wrap_socket(connection, server_side=True)
            connection.sendall(self.greeting)
            for request in _requests(connection, number):
                with self._news:
                    self.received.append(request)
                    self._news.notify_all()
                if not _perform(self.script(request), connection):
                    break
        _shut(connection)


def _perform(acts: Iterable[Act], connection: socket.socket) -> bool:
    """Follow a script; tell whether the connection goes on."""
    for act in acts:
        match act:
            case bytes():
                connection.sendall(act)
            case Event():
                if not act.wait(PATIENCE):
                    return False
            case Cut.RESET:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.close()
                return False
            case Cut.CLOSE:
                return False
    return True


def _requests(connection: socket.socket, number: int) -> Iterator[Received]:
    """Yield the requests of a connection until it ends."""
    reader = _Reader(connection)
    while start := reader.line():
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in _lines(reader))}
        if headers.get("transfer-encoding") == "chunked":
            body = b"".join(iter(reader.chunk, b""))
        else:
            body = reader.exactly(int(headers.get("content-length", "0")))
        yield Received(reader.taken(), start.split()[1].decode("latin-1"), headers, body, number)


def _lines(reader: "_Reader") -> Iterator[str]:
    return (line.decode("latin-1") for line in iter(reader.line, b"\r\n"))


class _Reader:
    """Reads a connection piece by piece and keeps every byte that it gave out."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._ahead = b""
        self._given = bytearray()

    def line(self) -> bytes:
        """Return the next line with its end; empty where the connection ends."""
        while b"\n" not in self._ahead and self._fill():
            pass
        return self._give(self._ahead.find(b"\n") + 1)

    def exactly(self, size: int) -> bytes:
        """Return that many bytes; less where the connection ends."""
        while len(self._ahead) < size and self._fill():
            pass
        return self._give(size)

    def chunk(self) -> bytes:
        """Return the next chunk of a chunked body; empty at its end."""
        return self.exactly(int(self.line(), 16) + 2)[:-2]

    def taken(self) -> bytes:
        """Return every byte given out since last asked."""
        taken, self._given = bytes(self._given), bytearray()
        return taken

    def _fill(self) -> bool:
        more = self._connection.recv(65_536)
        self._ahead += more
        return bool(more)

    def _give(self, size: int) -> bytes:
        given, self._ahead = self._ahead[:size], self._ahead[size:]
        self._given += given
        return given


def _shut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


@contextlib.asynccontextmanager
async def behind_tls(url: str, tls: ssl.SSLContext) -> AsyncGenerator[str]:
    """Stand before a server on this machine and speak TLS; yield the URL."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError), contextlib.closing(writer):
            while some := await reader.read(65_536):
                writer.write(some)
                await writer.drain()

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pipes.append(asyncio.current_task())
        theirs, ours = await asyncio.open_connection("127.0.0.1", urlsplit(url).port)
        await asyncio.gather(pump(reader, ours), pump(theirs, writer))

    pipes: list[asyncio.Task[None] | None] = []
    async with await asyncio.start_server(pipe, "127.0.0.1", 0, ssl=tls) as server:
        yield f"https://localhost:{server.sockets[0].getsockname()[1]}"
    await asyncio.gather(*filter(None, pipes))
