"""What is noted of one call while it runs: on the caller's own path, so as little as can be.

Laws: nothing here waits, nothing here raises into the call, and the caller gets what it would have got. What can be
worked out later (the agent, the codes, the state) is left to the recorder's thread: references are kept until then,
and let go of there.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from time import monotonic, perf_counter_ns, time_ns
from types import TracebackType
from typing import Any, Final, Protocol, Self

from call_initiation.endpoints import Endpoint
from call_initiation.events import BodyState
from call_initiation.failures import Failure, failure_of
from call_initiation.tracing import Tracing

KEPT_BODY: Final = 65_536
"""How many wire bytes of an error's body are kept."""

_FIRST_ERROR: Final = 400


class Body:
    """What the caller has read of an answer's body: how far it came and, of an error's, a bounded copy."""

    __slots__ = ("_keeps", "chunks", "is_open", "size", "state")

    def __init__(self, *, keeps: bool) -> None:
        self._keeps = keeps
        self.chunks: list[bytes] = []
        self.size = 0
        self.state = BodyState.UNREAD
        self.is_open = True

    def read(self, stream: Iterator[bytes]) -> Iterator[bytes]:
        """Pass a body on chunk by chunk, noting each."""
        try:
            for chunk in stream:
                self._take(chunk)
                yield chunk
        except Exception:
            self._break_off()
            raise
        self._end()

    async def aread(self, stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Pass a body on chunk by chunk, noting each."""
        try:
            async for chunk in stream:
                self._take(chunk)
                yield chunk
        except Exception:
            self._break_off()
            raise
        self._end()

    def close(self) -> None:
        """Note that the caller reads no more of it."""
        self.is_open = False

    def content(self) -> bytes:
        """Return what was kept."""
        return b"".join(self.chunks)

    def _take(self, chunk: bytes) -> None:
        room = KEPT_BODY - self.size
        self.size += len(chunk)
        if self._keeps and room > 0:
            self.chunks.append(chunk if len(chunk) <= room else bytes(chunk[:room]))

    def _end(self) -> None:
        self.state = BodyState.OVERSIZED if self.size > KEPT_BODY else BodyState.WHOLE
        self.is_open = False

    def _break_off(self) -> None:
        self.state = BodyState.TRUNCATED
        self.is_open = False


class Recording(Protocol):
    """Where observations go; neither method waits, neither raises."""

    def submit(self, observation: "Observation", /) -> None:
        """Take a finished observation."""

    def fault(self, stage: str, /) -> None:
        """Count a fault of our own."""


class Streams(Protocol):
    """Makes the byte streams that stand in for a client's own; each httpx asserts on stream classes of its own."""

    def sent(self, stream: Any, begin: Callable[[Any], Any], /) -> Any:
        """Return a request's stream that tells when it begins to be read."""

    def read(self, stream: Any, body: Body, /) -> Any:
        """Return an answer's stream that tells `body` what passes."""


class Observation:
    """One call start, from the moment that the transport is asked until its answer or its failure.

    A context manager around the inner transport's work; since it never waits, it serves both doors, sync and async.
    Leaving it hands it to the recorder, whatever happened.

    Attributes:
        endpoint: Which endpoint is called.
        url: The request's URL, httpx's object.
        authorization: The request's token, kept for masking until the call is recorded.
        content: The request's body; None where only the transport may read it.
        extension: What the dialer said for this call.
        started_at: Nanoseconds since the epoch, by the wall clock.
        started_ns: The same moment by `time.perf_counter_ns`, which no clock change moves.
        sent_ns: When the request's body began to be sent, by the same clock; None where it never was.
        duration: Seconds to the answer's headers, or to the failure.
        finished: When it was handed over, on the monotonic clock.
        status_code: The answer's status.
        response_headers: The answer's headers, httpx's object.
        body: The answer's body.
        failure: Why there is no answer.
        span: Its place in a trace.
    """

    __slots__ = (
        "_recording",
        "_request",
        "_stream",
        "_streams",
        "authorization",
        "body",
        "content",
        "duration",
        "endpoint",
        "extension",
        "failure",
        "finished",
        "response_headers",
        "sent_ns",
        "span",
        "started_at",
        "started_ns",
        "status_code",
        "url",
    )

    def __init__(
        self, endpoint: Endpoint, request: Any, streams: Streams, tracing: Tracing | None, recording: Recording
    ) -> None:
        self._recording = recording
        self._streams = streams
        self._request = request
        self._stream = request.stream
        self.endpoint = endpoint
        self.url = request.url
        self.authorization: str | None = request.headers.get("authorization")
        self.content = _content(request)
        self.extension = request.extensions.get("call_initiation")
        self.sent_ns: int | None = None
        self.duration = 0.0
        self.finished = 0.0
        self.status_code: int | None = None
        self.response_headers: Any = None
        self.body: Body | None = None
        self.failure: Failure | None = None
        self.span = tracing.open(endpoint.template, request.url) if tracing else None
        self.started_at = time_ns()
        self.started_ns = perf_counter_ns()

    def __enter__(self) -> Self:
        """Watch for the moment at which the request's body begins to be sent."""
        self._request.stream = self._streams.sent(self._stream, self._begin)
        return self

    def answered(self, response: Any) -> Any:
        """Note the answer's headers and set a watch on its body; return the same response."""
        try:
            self.duration = (perf_counter_ns() - self.started_ns) / 1e9
            self.status_code = response.status_code
            self.response_headers = response.headers
            self.body = Body(keeps=response.status_code >= _FIRST_ERROR)
            response.stream = self._streams.read(response.stream, self.body)
        except Exception:  # noqa: BLE001 - a fault of ours must not become the call's
            self._recording.fault("observe")
        return response

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Give the request back as it was and hand the observation to the recorder."""
        try:
            self._request.stream = self._stream
            if error is not None:
                self.duration = (perf_counter_ns() - self.started_ns) / 1e9
                self.failure = failure_of(error, is_sent=self.sent_ns is not None)
            if self.span is not None:
                self.span.close()
            del self._request, self._stream
            self.finished = monotonic()
            self._recording.submit(self)
        except Exception:  # noqa: BLE001 - a fault of ours must not become the call's
            self._recording.fault("observe")

    def _begin(self, stream: Any) -> Any:
        if self.sent_ns is None:
            self.sent_ns = perf_counter_ns()
        return stream


class Unobserved:
    """Stands in for an observation where there is nothing to observe: a request that starts no call."""

    __slots__ = ()

    def __enter__(self) -> Self:
        """Do nothing."""
        return self

    def answered(self, response: Any) -> Any:
        """Return the response, untouched."""
        return response

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Do nothing."""


UNOBSERVED: Final = Unobserved()


def _content(request: Any) -> bytes | None:
    """Return the request's body where it is at hand; a stream that only the transport may read is left alone."""
    try:
        content: bytes = request.content
    except Exception:  # noqa: BLE001 - httpx's and httpx2's RequestNotRead are different classes
        return None
    return content
