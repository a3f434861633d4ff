"""What is noted of one call while it runs: on the caller's own path, so as little as can be.

Laws: nothing here waits, nothing here raises into the call, and the caller gets what it would have got. What can be
worked out later (the agent, the codes, the state) is left to the recorder's thread: references are kept until then,
and let go of there.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from time import monotonic, perf_counter_ns, time_ns
from types import TracebackType
from typing import Any, Final, Protocol, Self

from call_initiation.endpoints import Endpoint
from call_initiation.events import BodyState, Outcome, TransportFailure
from call_initiation.failures import Failure, failure_of
from call_initiation.tracing import OpenSpan, Tracing

KEPT_BODY: Final = 65_536
"""How many wire bytes of an error's body are kept."""

_FIRST_ERROR: Final = 400
_UNJUDGED: Final = Failure(Outcome.AMBIGUOUS, TransportFailure.OTHER)


class Body:
    """What the caller has read of an answer's body: how far it came and, of an error's, a bounded copy.

    Attributes:
        chunks: What was kept.
        size: How many bytes have passed.
        state: How far it came.
        is_open: Whether more may follow.
        is_decoded: What was kept is content; else it is what came over the wire, still encoded.
    """

    __slots__ = ("_at_end", "_fault", "_keeps", "chunks", "is_decoded", "is_open", "size", "state")

    def __init__(self, fault: Callable[[str], None], *, keeps: bool) -> None:
        self._fault = fault
        self._keeps = keeps
        self._at_end: Callable[[], None] | None = None
        self.chunks: list[bytes] = []
        self.size = 0
        self.state = BodyState.UNREAD
        self.is_open = True
        self.is_decoded = False

    def tell(self, at_end: Callable[[], None]) -> None:
        """Call `at_end` once the body has been read to its end; it must not raise."""
        self._at_end = at_end

    def fill(self, content: bytes) -> None:
        """Take the content of an answer that was read before it came to us, as `httpx.MockTransport`'s are."""
        self.is_decoded = True
        self._take(content)
        self._end()

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
        try:
            room = KEPT_BODY - self.size
            self.size += len(chunk)
            if self._keeps and room > 0:
                self.chunks.append(bytes(chunk[:room]))
        except Exception:  # noqa: BLE001 - a fault of ours must not become the call's
            self._fault("observe")

    def _end(self) -> None:
        self.state = BodyState.OVERSIZED if self.size > KEPT_BODY else BodyState.WHOLE
        self.is_open = False
        if self._at_end is not None:
            self._at_end()

    def _break_off(self) -> None:
        self.state = BodyState.TRUNCATED
        self.is_open = False


class Recording(Protocol):
    """Where observations go; neither method waits, neither raises."""

    def submit(self, observation: "Observation", /) -> None:
        """Take a finished observation."""

    def fault(self, stage: str, /) -> None:
        """Count a fault of our own."""


@dataclass(slots=True)
class Streams:
    """Makes the byte streams that stand in for a client's own; each httpx asserts on stream classes of its own.

    Attributes:
        sent: Takes a request's stream and a callback; returns a stream that tells when it begins to be read.
        read: Takes an answer's stream and its `Body`; returns a stream that tells the body what passes.
        are_sent: Whether the transport is known to read a request's body from its stream. Some (httpx-aiohttp's, a
            mock's) take it from the request instead: then a stream that wasn't read doesn't mean that nothing was sent.
    """

    sent: Callable[[Any, Callable[[Any], Any]], Any]
    read: Callable[[Any, Body], Any]
    are_sent: bool


class Observation:
    """One call start, from the moment that the transport is asked until its answer or its failure.

    A context manager around the inner transport's work; since it never waits, it serves both doors, sync and async.
    Leaving it hands it to the recorder, whatever happened.

    Attributes:
        endpoint: Which endpoint is called.
        url: The request's URL, httpx's object.
        headers: The request's headers as they were sent; the token among them is for masking, and let go of after.
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
        "_watched",
        "body",
        "content",
        "duration",
        "endpoint",
        "extension",
        "failure",
        "finished",
        "headers",
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
        self._stream = self._watched = request.stream
        self.endpoint = endpoint
        self.url = request.url
        self.headers: list[tuple[bytes, bytes]] = request.headers.raw
        self.content = _content(request)
        self.extension = request.extensions.get("call_initiation")
        self.sent_ns: int | None = None
        self.duration = 0.0
        self.finished = 0.0
        self.status_code: int | None = None
        self.response_headers: Any = None
        self.body: Body | None = None
        self.failure: Failure | None = None
        self.span = None if tracing is None else self._span(tracing)
        self.started_at = time_ns()
        self.started_ns = perf_counter_ns()

    def __enter__(self) -> Self:
        """Watch for the moment at which the request's body begins to be sent."""
        try:
            self._watched = self._streams.sent(self._stream, self._begin)
            self._request.stream = self._watched
        except Exception:  # noqa: BLE001 - a fault of ours must not become the call's
            self._recording.fault("observe")
        return self

    def answered(self, response: Any) -> Any:
        """Note the answer's headers and set a watch on its body; return the same response."""
        self.duration = (perf_counter_ns() - self.started_ns) / 1e9
        try:
            self._streams.are_sent = self.sent_ns is not None
            self.status_code = response.status_code
            self.response_headers = response.headers
            self.body = Body(self._recording.fault, keeps=response.status_code >= _FIRST_ERROR)
            self._watch(response, self.body)
        except Exception:  # noqa: BLE001 - a fault of ours must not become the call's
            self._recording.fault("observe")
        return response

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Give the request back as it was and hand the observation to the recorder."""
        if error is not None:
            self._judge(error)
        if self.span is not None:
            self._leave(self.span)
        try:
            self._give_back()
            self.finished = monotonic()
            self._recording.submit(self)
        except Exception:  # noqa: BLE001 - a fault of ours must not become the call's
            self._recording.fault("submit")

    def _describe(self, span: OpenSpan) -> None:
        try:
            span.describe(self)
        except Exception:  # noqa: BLE001 - a fault of ours must not become the call's
            self._recording.fault("tracing")

    def _span(self, tracing: Tracing) -> OpenSpan | None:
        try:
            return tracing.open(self.endpoint.template, self.url)
        except Exception:  # noqa: BLE001 - a dialer's own sampler may fail; the call is recorded without a span
            self._recording.fault("tracing")
            return None

    def _leave(self, span: OpenSpan) -> None:
        try:
            span.close()
        except Exception:  # noqa: BLE001 - a fault of ours must not become the call's
            self._recording.fault("tracing")
        self._describe(span)

    def _watch(self, response: Any, body: Body) -> None:
        content = _content(response) if response.is_stream_consumed else None
        if content is not None:
            body.fill(content)
            return
        response.stream = self._streams.read(response.stream, body)
        span = self.span
        if span is not None and span.adopted is not None:
            body.tell(lambda: self._describe(span))

    def _give_back(self) -> None:
        """Put the request's stream back, unless the transport has put another one there, as a mock does."""
        if self._request.stream is self._watched:
            self._request.stream = self._stream
        del self._request, self._stream, self._watched

    def _judge(self, error: BaseException) -> None:
        self.duration = (perf_counter_ns() - self.started_ns) / 1e9
        is_sent = self.sent_ns is not None
        try:
            self.failure = failure_of(error, is_sent=is_sent if is_sent or self._streams.are_sent else None)
        except Exception:  # noqa: BLE001 - a fault of ours must not become the call's
            self.failure = _UNJUDGED
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


def _content(message: Any) -> bytes | None:
    """Return a request's or answer's body where it is at hand; a stream that someone has yet to read is left alone."""
    try:
        content: bytes = message.content
    except Exception:  # noqa: BLE001 - httpx's and httpx2's RequestNotRead and ResponseNotRead are different classes
        return None
    return content
