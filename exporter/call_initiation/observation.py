"""What is noted of one call while it runs: on the caller's own path, so as little as can be.

Laws: nothing here waits, nothing here raises into the call, and the caller gets what it would have got. What can be
worked out later (the agent, the codes, the state) is left to the recorder's thread: references are kept until then,
and let go of there.
"""

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from time import monotonic, perf_counter_ns, time_ns
from typing import Any, Final, Protocol

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
        at_end: Called once the body has been read to its end; must not raise.
    """

    size = 0
    state = BodyState.UNREAD
    is_open = True
    is_decoded = False
    at_end: Callable[[], None] | None = None

    def __init__(self, fault: Callable[[str], None], *, keeps: bool) -> None:
        self._fault = fault
        self._keeps = keeps
        self.chunks: list[bytes] = []

    def fill(self, content: bytes) -> None:
        """Take the content of an answer that was read before it came to us, as `httpx.MockTransport`'s are."""
        self.is_decoded = True
        self._take(content)
        self._end()

    def read(self, stream: Iterable[bytes]) -> Iterator[bytes]:
        """Pass a body on chunk by chunk, noting each."""
        try:
            for chunk in stream:
                self._take(chunk)
                yield chunk
        except Exception:
            self._break_off()
            raise
        self._end()

    async def aread(self, stream: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        """Pass a body on chunk by chunk, noting each."""
        try:
            async for chunk in stream:
                self._take(chunk)
                yield chunk
        except Exception:
            self._break_off()
            raise
        self._end()

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
        if self.at_end is not None:
            self.at_end()

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
    """The streams that stand in for a client's own; each httpx asserts on stream classes of its own.

    Attributes:
        observation: Returns the kind of `Observation` that can stand in for a request's stream.
        body: Takes an answer's stream and its `Body`; returns a stream that tells the body what passes.
        are_sent: Whether the transport is known to read a request's body from its stream. Some (httpx-aiohttp's, a
            mock's) take it from the request instead: then a stream that wasn't read doesn't mean that nothing was sent.
    """

    observation: "Callable[[Any], type[Observation]]"
    body: Callable[[Any, Body], Any]
    are_sent: bool


class Observation:
    """One call start, from the moment that the transport is asked until its answer or its failure.

    It stands in for the request's stream while the inner transport does its work, and so sees when the body begins to
    be sent. It never waits, so it serves both doors, sync and async. `answered` and `failed` hand it to the recorder.

    Attributes:
        endpoint: Which endpoint is called.
        stream: The request's own stream; a transport that answers early may read and close it after the answer.
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

    sent_ns: int | None = None
    finished = 0.0
    status_code: int | None = None
    response_headers: Any = None
    body: Body | None = None
    failure: Failure | None = None
    span: OpenSpan | None = None

    def __init__(
        self, endpoint: Endpoint, request: Any, streams: Streams, tracing: Tracing | None, recording: Recording
    ) -> None:
        self._recording = recording
        self._streams = streams
        self._request: Any = request
        self.endpoint = endpoint
        self.stream: Any = request.stream
        self.url = request.url
        self.headers: list[tuple[bytes, bytes]] = request.headers.raw
        try:
            self.content: bytes | None = request.content
        except Exception:  # noqa: BLE001 - httpx's and httpx2's RequestNotRead are different classes
            self.content = None
        self.extension = request.extensions.get("call_initiation")
        if tracing is not None:
            self.span = self._span(tracing)
        self.started_at = time_ns()
        self.started_ns = perf_counter_ns()
        request.stream = self  # last: whatever fails before leaves the request as it was

    def answered(self, response: Any) -> Any:
        """Note the answer's headers and set a watch on its body; return the same response."""
        self.duration = (perf_counter_ns() - self.started_ns) / 1e9
        try:
            self._streams.are_sent = self.sent_ns is not None
            self.status_code = status = response.status_code
            self.response_headers = response.headers
            self.body = body = Body(self._recording.fault, keeps=status >= _FIRST_ERROR)
            content = _content(response) if response.is_stream_consumed else None
            if content is None:
                response.stream = self._streams.body(response.stream, body)
                if self.span is not None:
                    body.at_end = self._at_end(self.span)
            else:
                body.fill(content)
        except Exception:  # noqa: BLE001 - a fault of ours must not become the call's
            self._recording.fault("observe")
        self._end()
        return response

    def failed(self, error: BaseException) -> None:
        """Note why there is no answer."""
        self.duration = (perf_counter_ns() - self.started_ns) / 1e9
        is_sent = self.sent_ns is not None
        try:
            self.failure = failure_of(error, is_sent=is_sent if is_sent or self._streams.are_sent else None)
        except Exception:  # noqa: BLE001 - a fault of ours must not become the call's
            self.failure = _UNJUDGED
            self._recording.fault("observe")
        self._end()

    def _at_end(self, span: OpenSpan) -> Callable[[], None] | None:
        """Return what to do once the body is read: a span that was adopted is told what it says."""
        return None if span.adopted is None else lambda: self._describe(span)

    def _end(self) -> None:
        """Give the request back as it was and hand the observation to the recorder."""
        if self.span is not None:
            self._leave(self.span)
        try:
            if self._request.stream is self:  # else the transport has put another one there, as a mock does
                self._request.stream = self.stream
            self._request = None
            self.finished = monotonic()
            self._recording.submit(self)
        except Exception:  # noqa: BLE001 - a fault of ours must not become the call's
            self._recording.fault("submit")

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

    def _describe(self, span: OpenSpan) -> None:
        try:
            span.describe(self)
        except Exception:  # noqa: BLE001 - a fault of ours must not become the call's
            self._recording.fault("tracing")


def _content(message: Any) -> bytes | None:
    """Return a request's or answer's body where it is at hand; a stream that someone has yet to read is left alone."""
    try:
        content: bytes = message.content
    except Exception:  # noqa: BLE001 - httpx's and httpx2's RequestNotRead and ResponseNotRead are different classes
        return None
    return content
