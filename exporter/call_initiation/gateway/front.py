"""A dialer's connection: bytes in, one request at a time to whoever serves it, bytes out.

httptools (llhttp, the parser of Node.js and of aiohttp) reads the bytes, strictly; `admission` judges the head; what
is left for here is when to stop listening. A web framework would put itself between a dialer and what the API said:
it adds a Date and a Server, folds names and merges values, and none tells when a request's head began.

Laws:

1. A request is served when it is whole, and never before.
2. One request at a time: what a dialer sends behind it, before it is answered, is not read; the connection is closed
   after the answer, as RFC 9112, 9.3.2, allows.
3. What isn't one clear request is answered and the connection closed, after a moment in which the dialer's rest is
   thrown away: closing at once would reset the connection and with it take the answer away.
4. Whoever takes too long is cut; which time that is, depends on what is waited for.
"""

import asyncio
from dataclasses import dataclass
from enum import Enum, auto
from http import HTTPStatus
from typing import Final, NoReturn, Protocol

import httptools

from call_initiation.calls.endpoints import MAX_PAYLOAD
from call_initiation.gateway import admission, answers
from call_initiation.gateway.admission import Head, Header, Passage, Reason, Refusal, Rules, bad_request

_MAX_HEAD: Final = 16_384
_MAX_FIELDS: Final = 100
_MAX_TARGET: Final = 4_096
_MAX_WIRE: Final = 2 * MAX_PAYLOAD + _MAX_HEAD
"""How many bytes a request may be long with all the chunking around its body."""

_HEAD_TOO_LARGE: Final = Refusal(
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, Reason.HEAD_TOO_LARGE, "The request's head is too large."
)
_TARGET_TOO_LONG: Final = Refusal(HTTPStatus.REQUEST_URI_TOO_LONG, Reason.TARGET_TOO_LONG, "The target is too long.")
_TOO_SLOW: Final = Refusal(HTTPStatus.REQUEST_TIMEOUT, Reason.TOO_SLOW, "The request did not come in whole in time.")
_NOT_HTTP: Final = bad_request("The request is no well-formed HTTP/1.1.")
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Patience:
    """How many seconds are waited for a dialer.

    Attributes:
        idle: For its next request to begin.
        head: For a head that has begun, and before it for TLS's hands to be shaken.
        body: For the body after it.
        reader: For an answer to be taken.
        lingering: For a dialer to go that has been refused.
    """

    idle: float = 30.0
    head: float = 10.0
    body: float = 10.0
    reader: float = 30.0
    lingering: float = 2.0


class Server(Protocol):
    """Who serves the requests of connections."""

    rules: Rules
    patience: Patience

    def opened(self, front: "Front", /) -> bool:
        """Take note of a connection; tell whether there is room for it."""
        ...

    def closed(self, front: "Front", /) -> None:
        """Take note that a connection is gone."""

    def left(self, front: "Front", /) -> None:
        """Take note that a dialer no longer waits for its answer."""

    def refused(self, refusal: Refusal, /) -> None:
        """Take note that a request was refused."""

    def serve(self, front: "Front", passage: Passage, content: bytes, /) -> None:
        """Take a whole request, and answer it by and by."""


class Phase(Enum):
    """What a connection waits for."""

    IDLE = auto()
    HEAD = auto()
    BODY = auto()
    ANSWER = auto()
    LINGERING = auto()
    GONE = auto()


class Front(asyncio.Protocol):
    """One connection of one dialer.

    Attributes:
        deadline: When it is to be cut, on the loop's clock.
        is_last: The connection ends with this answer.
        takes_chunks: The dialer speaks HTTP/1.1.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport
        self._writable: asyncio.Future[None] | None = None
        self.is_last = False
        self.takes_chunks = True
        self.deadline = float("inf")
        self._reset()

    def _reset(self) -> None:
        self._phase = Phase.IDLE
        self._target = b""
        self._headers: list[Header] = []
        self._head_size = 0
        self._wire_size = 0
        self._parts: list[bytes] = []
        self._size = 0
        self._is_whole = False
        self._passage: Passage | None = None
        self._refusal: Refusal | None = None
        self._method = b""

    # -- for the event loop -------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait, or say that there is no room."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - what a stream's transport is
        self._transport = transport
        self._wait(Phase.IDLE, self._server.patience.idle)
        if not self._server.opened(self):
            self._refuse(_FULL)

    def data_received(self, data: bytes) -> None:
        """Read on."""
        if self._phase in {Phase.ANSWER, Phase.LINGERING, Phase.GONE}:
            self.is_last = True
            return
        if self._phase is Phase.IDLE:
            self._wait(Phase.HEAD, self._server.patience.head)
        self._wire_size += len(data)
        refusal = self._read(data)
        if refusal is not None:
            self._refuse(refusal)
        elif self._is_whole:
            self._begin()

    def _read(self, data: bytes) -> Refusal | None:
        """Parse; return why the request can't go on."""
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if not self._is_whole:
                return self._refusal or _NOT_HTTP
            self.is_last = True  # the request is whole and clear; what follows it isn't read
        if self._phase is Phase.HEAD and self._wire_size > _MAX_HEAD:
            return _HEAD_TOO_LARGE
        return admission.TOO_LARGE if self._wire_size > _MAX_WIRE else None

    def _begin(self) -> None:
        assert self._passage is not None  # noqa: S101 - a whole request has one
        self._wait(Phase.ANSWER, float("inf"))
        self._server.serve(self, self._passage, b"".join(self._parts))

    def eof_received(self) -> bool:
        """Take it that the dialer left; yet one that only has no more to say may still be answered."""
        self.is_last = True
        if self._phase is Phase.ANSWER:
            self._server.left(self)
            return not self._transport.get_extra_info("sslcontext")  # TLS has no half-closed connections
        return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the name is the base class's
        """Forget the dialer."""
        was_served = self._phase is Phase.ANSWER
        self._phase, self.deadline = Phase.GONE, float("inf")
        self.resume_writing()
        if was_served:
            self._server.left(self)
        self._server.closed(self)

    def pause_writing(self) -> None:
        """Wait for a slow reader, and take no further request of it meanwhile."""
        self._transport.pause_reading()
        self._writable = self._loop.create_future()
        self.deadline = self._loop.time() + self._server.patience.reader

    def resume_writing(self) -> None:
        """Go on."""
        self._transport.resume_reading()
        if self._phase is Phase.ANSWER:
            self.deadline = float("inf")
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    # -- for the parser; what these raise ends the parsing -----------------------------------------------------------

    def on_message_begin(self) -> None:
        """Refuse to read a second request before the first is answered."""
        if self._is_whole:
            raise _Enough

    def on_url(self, part: bytes) -> None:
        """Collect the target."""
        self._target += part
        if len(self._target) > _MAX_TARGET:
            self._stop(_TARGET_TOO_LONG)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a header; what comes after the body is a trailer, and dropped."""
        if self._phase is not Phase.HEAD:
            return
        self._headers.append((name, value.rstrip(b" \t")))
        self._head_size += len(name) + len(value)
        if self._head_size > _MAX_HEAD or len(self._headers) > _MAX_FIELDS:
            self._stop(_HEAD_TOO_LARGE)

    def on_headers_complete(self) -> None:
        """Have the head judged, before a body is asked for."""
        head = Head(self._parser.get_method(), self._target, self._parser.get_http_version(), self._headers)
        admitted = admission.admit(head, self._server.rules)
        self._method = head.method
        if isinstance(admitted, Refusal):
            self._stop(admitted)
        self._passage = admitted
        self.takes_chunks = head.version == "1.1"
        self.is_last |= not self.takes_chunks or not self._parser.should_keep_alive()
        self._wait(Phase.BODY, self._server.patience.body)
        if admitted.is_awaiting:
            self._transport.write(_CONTINUE)

    def on_body(self, part: bytes) -> None:
        """Collect the body."""
        self._parts.append(part)
        self._size += len(part)
        if self._size > MAX_PAYLOAD:
            self._stop(admission.TOO_LARGE)

    def on_message_complete(self) -> None:
        """Note that the request is whole."""
        self._is_whole = True

    def _stop(self, refusal: Refusal) -> NoReturn:
        self._refusal = refusal
        raise _Enough

    # -- for the server -----------------------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether the dialer is there to be answered."""
        return self._phase is Phase.ANSWER and not self._transport.is_closing()

    def sweep(self, now: float) -> None:
        """Cut a dialer that has had its time, `now` being the loop's."""
        if self.deadline > now:
            return
        match self._phase:
            case Phase.HEAD | Phase.BODY:
                self._refuse(_TOO_SLOW)
            case _:
                self._transport.abort()

    def write(self, part: bytes) -> None:
        """Write a part of the answer."""
        if self.is_open:
            self._transport.write(part)

    async def drained(self) -> None:
        """Wait until the dialer has taken most of what was written."""
        if self._writable is not None:
            await self._writable

    def done(self) -> None:
        """Go on to the next request, or end the connection after all that was written."""
        if not self.is_open:
            return
        if self.is_last:
            self.close()
            return
        self._reset()
        self._wait(Phase.IDLE, self._server.patience.idle)

    def wind_up(self) -> None:
        """End the connection as soon as nothing of it is under way."""
        self.is_last = True
        if self._phase is Phase.IDLE:
            self.close()

    def close(self) -> None:
        """End the connection after all that was written."""
        self._wait(Phase.LINGERING, self._server.patience.reader)
        self._transport.close()

    def cut(self) -> None:
        """End the connection at once."""
        self._transport.abort()

    def _refuse(self, refusal: Refusal) -> None:
        """Answer, and throw away what else comes."""
        self._server.refused(refusal)
        answer = answers.refused(refusal)
        self.is_last = True
        self._transport.write(
            answer.head((b"Connection", b"close")) + (b"" if self._method == b"HEAD" else answer.content)
        )
        if self._transport.can_write_eof():  # over TLS that would end both directions
            self._transport.write_eof()
        self._wait(Phase.LINGERING, self._server.patience.lingering)

    def _wait(self, phase: Phase, seconds: float) -> None:
        self._phase = phase
        self.deadline = self._loop.time() + seconds


class _Enough(Exception):  # noqa: N818 - no error: it ends the parsing
    """Nothing more is to be read."""


_FULL: Final = Refusal(HTTPStatus.SERVICE_UNAVAILABLE, Reason.OVERLOADED, "There are too many connections.")
