"""The way to the API: one httpx transport that sends a request once, over connections that it keeps.

httpx's own pool was made for clients that share it among threads and protocols; measured beside it, writing a head,
handing the rest to a parser and keeping a stack of connections costs a fraction. What is here is what a gateway needs
to promise: a request's bytes are written once, in one piece, and never again, whatever comes back.

Laws:

1. The request's stream is read at the very moment at which its bytes are written, with nothing awaited in between:
   a request whose stream wasn't read has not been sent, and one that is cancelled before is never sent.
2. Nothing is tried twice: no redirect, no retry, no second address for a request that was written.
3. An idle connection is closed before the server would close it, and never used if the server has said a word.
4. An answer ends by its deadline, whatever it drips; headers and bytes are handed on as they came.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final

import httptools
import httpx

from call_initiation.authority import authority

_MAX_HEAD: Final = 65_536
_BUFFER: Final = 262_144  # bytes of an answer that may wait for its reader

_FINAL: Final = 200
_HTTP: Final = 80
_HTTPS: Final = 443
_CLOSED: Final = "the server closed the connection before anything was sent"
_NO_CONNECTION: Final = "no connection"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where requests go.

    Attributes:
        host: A name or an address.
        port: The port.
        tls: How to speak TLS; None for plain HTTP.
    """

    host: str
    port: int
    tls: ssl.SSLContext | None = None

    @property
    def authority(self) -> bytes:
        """What the Host header says: the port only where it isn't the scheme's own."""
        is_implied = self.port == (_HTTPS if self.tls else _HTTP)
        return authority(self.host, None if is_implied else self.port).encode()

    @property
    def url(self) -> httpx.URL:
        """Its base URL."""
        return httpx.URL(scheme="https" if self.tls else "http", host=self.host, port=self.port, path="/")


class Upstream(httpx.AsyncBaseTransport):
    """Sends requests to one origin.

    A request's target is its extension `target` (as httpcore has it), its headers are written as they are.

    Args:
        origin: Where to.
        deadline: Seconds from the request to the end of its answer.
        connect: Seconds for a connection, within the deadline.
        idle: Seconds after which a connection that isn't used is closed.

    Attributes:
        reads_stream_at_send: The first law, as `client` asks for it.
    """

    reads_stream_at_send: Final = True

    def __init__(self, origin: Origin, *, deadline: float = 30.0, connect: float = 5.0, idle: float = 10.0) -> None:
        self._origin = origin
        self._deadline = deadline
        self._connect_within = connect
        self._idle_for = idle
        self._idle: deque[_Connection] = deque()
        self._is_closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and return its answer, whose body is still to be read.

        Raises:
            httpx.TransportError: There is no answer; nothing has been sent if the request's stream wasn't read.
        """
        deadline = asyncio.get_running_loop().time() + self._deadline
        connection = self._kept() or await self._connected(deadline)
        if not connection.is_usable:
            raise httpx.ConnectError(_CLOSED)
        try:
            answer = connection.send(request.method, _head(request) + await _content(request.stream), deadline)
            await answer.begun
        except BaseException:
            connection.abort()
            raise
        return httpx.Response(
            answer.status,
            headers=answer.headers,
            stream=answer,
            extensions={"http_version": b"HTTP/1.1", "reason_phrase": answer.reason},
        )

    def sweep(self, now: float) -> None:
        """Close the connections that have been idle for too long, `now` being the loop's time."""
        while self._idle and self._idle[0].idle_until <= now:
            self._idle.popleft().abort()

    async def aclose(self) -> None:
        """Close the idle connections, and keep none from now on."""
        self._is_closed = True
        while self._idle:
            self._idle.pop().abort()

    def _kept(self) -> "_Connection | None":
        """Return the idle connection that was used last, if it can still be used."""
        now = asyncio.get_running_loop().time()
        while self._idle:
            connection = self._idle.pop()
            if connection.is_usable and connection.idle_until > now:
                return connection
            connection.abort()
        return None

    async def _connected(self, deadline: float) -> "_Connection":
        loop, origin = asyncio.get_running_loop(), self._origin
        try:
            async with asyncio.timeout_at(min(deadline, loop.time() + self._connect_within)):
                _, connection = await loop.create_connection(
                    lambda: _Connection(self._keep),
                    origin.host,
                    origin.port,
                    ssl=origin.tls,
                    happy_eyeballs_delay=_HAPPY_EYEBALLS,
                )
        except TimeoutError as error:
            raise httpx.ConnectTimeout(_NO_CONNECTION) from error
        except (OSError, UnicodeError) as error:  # the latter is for a name that can't be one
            raise httpx.ConnectError(_NO_CONNECTION) from error
        return connection

    def _keep(self, connection: "_Connection") -> None:
        if self._is_closed:
            connection.abort()
            return
        connection.idle_until = asyncio.get_running_loop().time() + self._idle_for
        self._idle.append(connection)


_HAPPY_EYEBALLS: Final = 0.25
"""Seconds until the next address is tried, too (RFC 8305)."""


def _head(request: httpx.Request) -> bytes:
    target: bytes = request.extensions["target"]
    lines = [b"%b %b HTTP/1.1" % (request.method.encode(), target)]
    lines += [b"%b: %b" % header for header in request.headers.raw]
    return b"\r\n".join([*lines, b"", b""])


async def _content(stream: object) -> bytes:
    """Return a request's body, having awaited nothing: it is there in one piece."""
    assert isinstance(stream, httpx.ByteStream)  # noqa: S101 - what the gateway makes
    return b"".join([part async for part in stream])


class _Answer(httpx.AsyncByteStream):
    """An answer as it comes: its head, then its bytes to whoever reads them; to be closed by the reader.

    Attributes:
        begun: Done when the head is there.
        status: The status.
        reason: The reason phrase.
        headers: Names and values as they came, in their order.
    """

    def __init__(self, connection: "_Connection", method: str) -> None:
        self.begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.method = method
        self.status = 0
        self.reason = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.head_size = 0
        self.is_delimited = False
        self._connection: _Connection | None = connection
        self._parts: deque[bytes] = deque()
        self._size = 0
        self._error: httpx.TransportError | None = None
        self._news: asyncio.Future[None] | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the body's bytes as they came.

        Raises:
            httpx.TransportError: It broke off.
        """
        while self._parts or self._connection is not None:
            if not self._parts:
                self._news = asyncio.get_running_loop().create_future()
                await self._news
                continue
            part = self._parts.popleft()
            self._size -= len(part)
            if self._connection is not None and self._size < _BUFFER:
                self._connection.read_on()
            yield part
        if self._error is not None:
            raise self._error

    async def aclose(self) -> None:
        """Take no more of it: what hasn't come by now ends with the connection."""
        if self._connection is not None:
            self._connection.abort()

    def add(self, part: bytes) -> bool:
        """Take the next bytes; tell whether there is room for more."""
        self._parts.append(part)
        self._size += len(part)
        self._wake()
        return self._size < _BUFFER

    def end(self, error: httpx.TransportError | None = None) -> None:
        """Take it that no more comes: it is whole, or it broke off."""
        self._connection, self._error = None, error
        if error is not None and not self.begun.done():
            self.begun.set_exception(error)
        self._wake()

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)


class _Connection(asyncio.Protocol):
    """A connection to the origin: one request at a time, each answered before the next."""

    def __init__(self, keep: "Callable[[_Connection], None]") -> None:
        self.idle_until = 0.0
        self._keep = keep
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._answer: _Answer | None = None

    # -- for the transport --------------------------------------------------------------------------------------------

    @property
    def is_usable(self) -> bool:
        """Whether it is open: it ends where the server says a word that nobody has asked for."""
        return not self._transport.is_closing()

    def send(self, method: str, request: bytes, deadline: float) -> _Answer:
        """Write a request, once; return its answer, which is still to come."""
        self._answer = answer = _Answer(self, method)
        self._timer = self._loop.call_at(deadline, self._expire)
        self._transport.write(request)
        return answer

    def read_on(self) -> None:
        """Read on, after the answer had no more room."""
        self._transport.resume_reading()

    def abort(self) -> None:
        """End the connection at once."""
        self._transport.abort()

    # -- for the event loop -------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - what a stream's transport is
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(httpx.RemoteProtocolError("the answer is no HTTP/1.1"), error)
            self.abort()

    def eof_received(self) -> None:
        answer = self._answer
        if answer is not None and answer.begun.done() and not answer.is_delimited:
            self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is None:
            self._fail(httpx.RemoteProtocolError("the connection was closed before the answer was whole"))
        else:
            self._fail(httpx.ReadError("the connection was lost before the answer was whole"), exc)

    # -- for the parser -----------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Begin anew, after an interim answer too; what nobody asked for ends the parsing."""
        if self._answer is None:
            raise ValueError
        self._answer.reason, self._answer.headers = b"", []

    def on_status(self, reason: bytes) -> None:
        self._waiting.reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        answer = self._waiting
        answer.head_size += len(name) + len(value)
        if answer.head_size > _MAX_HEAD:
            raise ValueError
        if not answer.begun.done():  # else it is a trailer
            answer.headers.append((name, value.rstrip(b" \t")))
            answer.is_delimited |= _delimits(name.lower(), value)

    def on_headers_complete(self) -> None:
        answer = self._waiting
        answer.status = self._parser.get_status_code()
        if answer.status < _FINAL:
            return
        if not answer.begun.done():
            answer.begun.set_result(None)
        if answer.method == "HEAD":  # the parser waits for a body
            self._end()
            self._transport.close()

    def on_body(self, body: bytes) -> None:
        if self._answer is not None and not self._answer.add(body):
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        answer = self._answer
        if answer is None or answer.status < _FINAL:
            return
        self._end()
        if self._parser.should_keep_alive():
            self._transport.resume_reading()
            self._keep(self)
        else:
            self._transport.close()

    @property
    def _waiting(self) -> _Answer:
        assert self._answer is not None  # noqa: S101 - without one, the parsing has ended
        return self._answer

    def _expire(self) -> None:
        self._fail(httpx.ReadTimeout("no whole answer by the deadline"))
        self._transport.abort()

    def _fail(self, error: httpx.TransportError, cause: BaseException | None = None) -> None:
        error.__cause__ = cause
        self._end(error)

    def _end(self, error: httpx.TransportError | None = None) -> None:
        self._stop_timer()
        if self._answer is not None:
            self._answer.end(error)
            self._answer = None

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _delimits(name: bytes, value: bytes) -> bool:
    """Tell whether a header says where the body ends; else the connection's end does."""
    return name == b"content-length" or (name == b"transfer-encoding" and value.lower().endswith(b"chunked"))
