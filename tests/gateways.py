"""A gateway on loopback for tests, in a thread of its own, and raw sockets to speak to it."""

import asyncio
import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import trustme

from call_initiation import Exporter
from call_initiation.catalogue import GATEWAY_REFUSALS
from call_initiation.events import Attempt
from call_initiation.gateway.front import Patience
from call_initiation.gateway.gateway import Gateway, Plan
from call_initiation.gateway.relay import Origin
from servers import PATIENCE, Server, answer
from twins import Listed, faults, listening

CALLS = "/api/v2/conversations/calls"
BODY = b'{"phoneNumber": "+33199000000"}'
ACCEPTED = answer(202, b'{"id": "c"}', ("Content-Type", "application/json"))
QUICK = Patience(idle=0.3, head=0.3, body=0.3, reader=0.3, lingering=0.2)
"""A dialer is cut within a second."""

_LOOK = 0.005  # seconds

Result = TypeVar("Result")


@dataclass
class Running:
    """A running gateway and what its exporter recorded."""

    gateway: Gateway
    exporter: Exporter
    listed: Listed
    loop: asyncio.AbstractEventLoop

    @property
    def port(self) -> int:
        """Where it listens."""
        return urlsplit(self.gateway.url).port or 0

    def attempts(self) -> list[Attempt]:
        """Return the calls recorded so far, all of them."""
        assert self.exporter.flush()
        assert not faults(self.exporter)
        return self.listed.attempts

    def refused(self) -> dict[str, int]:
        """What the gateway itself refused so far, by code."""
        return {
            code: int(number.value)
            for family in self.exporter.aggregate.snapshot()
            if family.metric is GATEWAY_REFUSALS
            for (code,), number in family.numbers.items()
            if number.value
        }

    def until(self, is_so: Callable[[], bool]) -> None:
        """Wait until something is so in the gateway."""
        look, waited = threading.Event(), 0.0
        while not is_so():
            look.wait(_LOOK)
            waited += _LOOK
            assert PATIENCE > waited

    def do(self, step: Callable[[], Awaitable[Result]]) -> Result:
        """Run something in the gateway's thread."""
        return asyncio.run_coroutine_threadsafe(_awaited(step), self.loop).result(PATIENCE)


async def _awaited(step: Callable[[], Awaitable[Result]]) -> Result:
    return await step()


@contextlib.contextmanager
def running(
    upstream: Server | Origin, observer: tuple[Exporter, Listed] | None = None, **options: Any
) -> Iterator[Running]:
    """Run a gateway to an upstream, on loopback and any free port."""
    origin = upstream if isinstance(upstream, Origin) else Origin("127.0.0.1", upstream.port)
    exporter, listed = observer or listening()
    ready: Future[Running] = Future()
    with exporter:
        thread = threading.Thread(target=lambda: asyncio.run(_run(Plan(upstream=origin, port=0, **options))))
        stop = asyncio.Event()

        async def _run(plan: Plan) -> None:
            gateway = Gateway(plan, exporter)
            await gateway.start()
            ready.set_result(Running(gateway, exporter, listed, asyncio.get_running_loop()))
            await stop.wait()
            await gateway.stop()

        thread.start()
        one = ready.result(PATIENCE)
        try:
            yield one
        finally:
            one.loop.call_soon_threadsafe(stop.set)
            thread.join(PATIENCE)
            assert not thread.is_alive()


def post(path: str = CALLS, body: bytes = BODY, *headers: str, host: str = "gateway.test") -> bytes:
    """Return the bytes of a POST."""
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


@dataclass(frozen=True)
class Said:
    """An answer, read by hand."""

    raw: bytes
    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """Return a header's value; None where it isn't there."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    @property
    def error(self) -> dict[str, Any]:
        """The body as JSON."""
        found: dict[str, Any] = json.loads(self.body)
        return found


class Client:
    """A dialer's raw connection."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self._ahead = b""

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Hang up."""
        self.socket.close()

    def send(self, data: bytes) -> "Client":
        """Send bytes."""
        self.socket.sendall(data)
        return self

    def rest(self) -> bytes:
        """Return what comes until the gateway closes."""
        parts = [self._ahead]
        with contextlib.suppress(ConnectionResetError):
            while part := self.socket.recv(65_536):
                parts.append(part)
        self._ahead = b""
        return b"".join(parts)

    def answer(self) -> Said:
        """Read one answer with a Content-Length."""
        while b"\r\n\r\n" not in self._ahead:
            self._more()
        head, _, self._ahead = self._ahead.partition(b"\r\n\r\n")
        said = _said(head)
        length = int(said.header("content-length") or 0)
        while len(self._ahead) < length:
            self._more()
        body, self._ahead = self._ahead[:length], self._ahead[length:]
        return replace(said, raw=head + b"\r\n\r\n" + body, body=body)

    def exactly(self, size: int) -> bytes:
        """Read that many bytes of whatever comes."""
        while len(self._ahead) < size:
            self._more()
        taken, self._ahead = self._ahead[:size], self._ahead[size:]
        return taken

    def _more(self) -> None:
        part = self.socket.recv(1_000_000)
        assert part, f"the gateway closed after {self._ahead[-1000:]!r}"
        self._ahead += part


def _said(head: bytes) -> Said:
    start, *lines = head.decode("latin-1").split("\r\n")
    _, status, reason = start.split(" ", 2)
    headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    return Said(head, int(status), reason, headers, b"")


def ask(port: int, request: bytes) -> Said:
    """Send a request on a connection of its own and return its answer."""
    with Client(port) as client:
        return client.send(request).answer()


def call() -> bytes:
    """Return the bytes of a call start whose id, `1`, is counted at the API."""
    return post(CALLS, BODY, "X-Request-Id: 1")


def is_error(said: Said, status: int, code: str, outcome: str) -> bool:
    """Tell whether an answer is the gateway's own error, in the API's shape."""
    error = said.error
    assert {"message", "code", "status", "contextId", "messageParams", "details", "errors"} == set(error)
    assert status == error["status"]
    assert 36 == len(error["contextId"])
    return (status, f"call_initiation.gateway.{code}", outcome) == (
        said.status,
        error["code"],
        said.header("X-Call-Initiation-Outcome"),
    )


@contextlib.contextmanager
def stalled() -> Iterator[int]:
    """Yield a port that takes no connection: its queue is full, so a connect stalls."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        port: int = listener.getsockname()[1]
        for _ in range(4):
            one = stack.enter_context(socket.socket())
            one.settimeout(0)
            with contextlib.suppress(BlockingIOError):
                one.connect(("127.0.0.1", port))
        yield port


def closed() -> int:
    """Return a port at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def certified(
    name: str = "localhost", *, is_expired: bool = False, is_trusted: bool = True
) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return how an API speaks TLS that has a certificate for a name, and how one speaks that may trust it."""
    ca, stranger, past = trustme.CA(), trustme.CA(), datetime(2020, 1, 1, tzinfo=UTC)
    theirs, ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    validity: dict[str, datetime] = {"not_before": past, "not_after": past.replace(year=2021)} if is_expired else {}
    ca.issue_cert(name, **validity).configure_cert(theirs)
    (ca if is_trusted else stranger).configure_trust(ours)
    return theirs, ours
