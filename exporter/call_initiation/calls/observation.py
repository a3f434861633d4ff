"""What is noted of one call while it runs: on the caller's own path, so as little as can be.

Laws: nothing here waits, nothing here raises into the call, and the caller gets what it would have got. What can be
worked out later (the agent, the codes, the state) is left to the recorder's thread. What may be changed until then is
noted at once: the same request may be sent again with another URL, other headers, or another word of the dialer's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter_ns, time_ns
from typing import Any, Final, NamedTuple, Protocol

from call_initiation.calls.endpoints import Endpoint
from call_initiation.calls.failures import Failure, failure_of
from call_initiation.calls.tracing import OpenSpan, Tracing
from call_initiation.events import BodyState, Outcome, TransportFailure

KEPT_BODY: Final = 65_536
"""How many wire bytes of an error's body are read; one more is kept, to know that there was more."""

_MOST_KEPT: Final = KEPT_BODY + 1
_UNREAD: Final = BodyState.UNREAD
_WHOLE: Final = BodyState.WHOLE
_OVERSIZED: Final = BodyState.OVERSIZED
_FIRST_ERROR: Final = 400
_UNJUDGED: Final = Failure(Outcome.AMBIGUOUS, TransportFailure.OTHER)


class Recording(Protocol):
    """Where observations go; neither method waits, neither raises."""

    def submit(self, observation: "Observation", /) -> bool:
        """Take a finished observation; tell whether it was taken."""
        ...

    def fault(self, stage: str, /) -> None:
        """Count a fault of our own."""


@dataclass(slots=True)
class Streams:
    """The streams that stand in for a client's own; each httpx asserts on stream classes of its own.

    Attributes:
        byte_stream: The class of a request's stream that holds the whole body.
        of_bytes: The kind of `Observation` that can stand in for such a stream.
        stand_in: Takes any other stream of a request's and its `StreamObservation`; returns a stream that tells it when
            it is begun to be read.
        answer: Takes an answer's stream and its `Observation`; returns a stream that tells it what passes.
        are_sent: Whether the transport is known to read a request's body from its stream. Some (httpx-aiohttp's, a
            mock's) take it from the request instead: then a stream that wasn't read doesn't mean that nothing was sent.
        is_one_try: Whether the transport is known to send a request once, so that a failure to connect is the call's.
    """

    byte_stream: type[Any]
    of_bytes: "type[Observation]"
    stand_in: "Callable[[Any, StreamObservation], Any]"
    answer: "Callable[[Any, Observation], Any]"
    are_sent: bool
    is_one_try: bool


class Observation:
    """One call start, from the moment that the transport is asked until its answer has been read, or its failure.

    It stands in for the request's stream while the inner transport does its work, and so sees when the body begins to
    be sent. It never waits, so it serves both doors, sync and async. `answered` and `failed` hand it to the recorder;
    what the caller then reads of the answer's body is noted still, of an error's with a bounded copy.

    Attributes:
        endpoint: Which endpoint is called.
        request: The request, httpx's object.
        stream: The request's own stream; a transport that answers early may read and close it after the answer.
        url: The request's URL, httpx's object.
        headers: A copy of the request's headers as they were sent, httpx's object; the token among them is for masking.
        extension: What the dialer said for this call.
        started_at: Nanoseconds since the epoch, by the wall clock.
        started_ns: The same moment by `time.perf_counter_ns`, which no clock change moves.
        sent_ns: When the request's body began to be sent, by the same clock; None where it never was.
        ended_ns: When the answer's headers or the failure came, by the same clock.
        status_code: The answer's status.
        response_headers: The answer's headers, httpx's object.
        kept: What is kept of an error's body, at most `KEPT_BODY` bytes and one.
        body: How far the answer's body came; None without an answer.
        is_open: Whether its stream is neither closed nor broken off.
        is_decoded: What was kept is content; else it is what came over the wire, still encoded.
        failure: Why there is no answer.
        span: Its place in a trace.
    """

    sent_ns: int | None = None
    ended_ns = 0
    status_code: int | None = None
    response_headers: Any = None
    kept: bytearray | None = None
    body: BodyState | None = None
    is_open = False
    is_decoded = False
    failure: Failure | None = None
    span: OpenSpan | None = None

    def __init__(
        self, endpoint: Endpoint, request: Any, streams: Streams, tracing: Tracing, recording: Recording
    ) -> None:
        self._recording = recording
        self._streams = streams
        self.endpoint = endpoint
        self.request: Any = request
        self.stream: Any = request.stream
        self.url: Any = request.url
        headers = request.headers
        self.headers: Any = type(headers)(headers)  # not `copy`, which decodes them all to learn their encoding
        said = request.extensions.get("call_initiation")
        self.extension: Any = said.copy() if type(said) is dict else said
        self.span = tracing.open(endpoint.template, self.url, recording.fault)
        self.started_at = time_ns()
        self.started_ns = perf_counter_ns()
        request.stream = self  # last: whatever fails before leaves the request as it was

    # -- on the caller's path ---------------------------------------------------------------------------------------

    def answered(self, response: Any) -> Any:
        """Note the answer's headers and set a watch on its body; return the same response."""
        self.ended_ns = perf_counter_ns()
        try:
            self._streams.are_sent = self.sent_ns is not None
            self.status_code = status = response.status_code
            self.response_headers = response.headers
            self.body = _UNREAD
            if status >= _FIRST_ERROR:
                self.kept = bytearray()
            if response.is_stream_consumed:
                self._fill(response)
            else:
                response.stream = self._streams.answer(response.stream, self)
                self.is_open = True
        except Exception:  # noqa: BLE001 - a fault of ours must not become the call's
            self._recording.fault("observe")
        self._end()
        return response

    def failed(self, error: BaseException) -> None:
        """Note why there is no answer."""
        self.ended_ns = perf_counter_ns()
        try:
            self.failure = failure_of(error, is_sent=self._is_sent(), is_one_try=self._streams.is_one_try)
        except Exception:  # noqa: BLE001 - a fault of ours must not become the call's
            self.failure = _UNJUDGED
            self._recording.fault("observe")
        self._end()

    def _is_sent(self) -> bool | None:
        """Tell whether the request had begun to be sent; an empty body goes with its headers, which nobody sees go."""
        if self.sent_ns is not None:
            return True
        return False if self._streams.are_sent and self.content() != b"" else None

    def passed(self, chunk: bytes) -> None:
        """Note a part of the answer's body."""
        try:
            kept = self.kept
            if kept is not None:
                kept += chunk[: _MOST_KEPT - len(kept)]
        except Exception:  # noqa: BLE001 - a fault of ours must not become the call's
            self._recording.fault("observe")

    def read(self) -> None:
        """Note that the answer's body was read to its end."""
        kept = self.kept
        self.body = _OVERSIZED if kept is not None and len(kept) > KEPT_BODY else _WHOLE
        if self.span is not None and self.span.adopted is not None:
            self._describe(self.span)

    def broken_off(self) -> None:
        """Note that the answer's body broke off."""
        self.body = BodyState.TRUNCATED
        self.is_open = False

    def _fill(self, response: Any) -> None:
        """Take the content of an answer that was read before it came to us, as `httpx.MockTransport`'s are."""
        content = _content(response)
        if content is not None:
            self.is_decoded = True
            self.passed(content)
            self.read()

    def _end(self) -> None:
        """Give the request back as it was and hand the observation to the recorder."""
        if self.span is not None:
            self._leave(self.span)
        try:
            if self.request.stream is self:  # else the transport has put another one there, as a mock does
                self.request.stream = self.stream
        except Exception:  # noqa: BLE001 - a fault of ours must not become the call's
            self._recording.fault("observe")
        try:
            self._recording.submit(self)
        except Exception:  # noqa: BLE001 - a fault of ours must not become the call's
            self._recording.fault("submit")

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

    # -- later --------------------------------------------------------------------------------------------------------

    @property
    def duration(self) -> float:
        """Seconds to the answer's headers, or to the failure."""
        return (self.ended_ns - self.started_ns) / 1e9

    @property
    def ended(self) -> float:
        """The moment `ended_ns` in seconds, as `time.perf_counter` has it."""
        return self.ended_ns / 1e9

    def content(self) -> bytes | None:
        """Return the request's body; None where only the transport may read it."""
        return _content(self.request)


class StreamObservation(Observation):
    """The observation of a request that has a stream, whose end the caller would notice: it isn't kept beyond the call.

    So another object stands in for that stream, and has it for as long as the transport keeps the two.
    """

    def __init__(
        self, endpoint: Endpoint, request: Any, streams: Streams, tracing: Tracing, recording: Recording
    ) -> None:
        stand_in = streams.stand_in(request.stream, self)
        super().__init__(endpoint, request, streams, tracing, recording)
        request.stream = self._stand_in = stand_in

    def begin(self) -> None:
        """Note that the body begins to be sent."""
        self.sent_ns = self.sent_ns or perf_counter_ns()

    def _end(self) -> None:
        request, stream, stand_in = self.request, self.stream, self._stand_in
        self.request, self.stream, self._stand_in = _Sent(_content(request)), None, None
        try:
            if request.stream is stand_in:
                request.stream = stream
        except Exception:  # noqa: BLE001 - a fault of ours must not become the call's
            self._recording.fault("observe")
        super()._end()


class _Sent(NamedTuple):
    """What is kept of a request that had a stream: its body, where the transport has read it into the request."""

    content: bytes | None
    stream: None = None


def _content(message: Any) -> bytes | None:
    """Return a request's or answer's body where it is at hand; a stream that someone has yet to read is left alone."""
    try:
        content: bytes = message.content
    except Exception:  # noqa: BLE001 - httpx's and httpx2's RequestNotRead and ResponseNotRead are different classes
        return None
    return content
