"""The aggregate as a dialer's own `MeterProvider` sees it.

Counters and gauges are observable instruments that read the aggregate when the dialer's reader asks; the histograms
are recorded event by event on the recorder's thread, those of calls with the call's span in context, so that the
dialer's exemplars point at it. What belongs to no span has none: neither that of whoever reads, nor the one that
another instrumentation has given the recorder's thread.

Law: the numbers of one collection are of one snapshot, so that the books balance there as they do everywhere.
"""

from collections.abc import Callable, Iterable
from typing import Final, assert_never

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from call_initiation.catalogue import (
    AGENT_STATE_AGE,
    DURATION,
    FEED_EVENT_LAG,
    METRICS,
    SCHEMA_URL,
    SCOPE,
    Kind,
    Metric,
)
from call_initiation.events import (
    Attempt,
    Event,
    FeedChange,
    LateChange,
    LegFailure,
    NotificationTaken,
    SkewChange,
    StateChange,
)
from call_initiation.recording.aggregate import Labels, Number, View
from call_initiation.telemetry.otlp import NO_CONTEXT

_FLAGS: Final = TraceFlags(TraceFlags.SAMPLED)


class MeterSink:
    """Keeps the instruments of a dialer's own provider current; a `Sink`."""

    def __init__(self, provider: MeterProvider, version: str, snapshot: Callable[[], View]) -> None:
        meter = provider.get_meter(SCOPE, version, SCHEMA_URL)
        collection = _Collection(snapshot)
        for metric in METRICS:
            if metric.kind is Kind.COUNTER:
                meter.create_observable_counter(metric.name, [_observing(metric, collection)], metric.unit, metric.help)
            elif metric.kind is Kind.GAUGE:
                meter.create_observable_gauge(metric.name, [_observing(metric, collection)], metric.unit, metric.help)
        self._duration, self._age, self._lag = (
            meter.create_histogram(
                metric.name, metric.unit, metric.help, explicit_bucket_boundaries_advisory=metric.buckets
            )
            for metric in (DURATION, AGENT_STATE_AGE, FEED_EVENT_LAG)
        )

    def record(self, event: Event) -> None:
        """Take one event."""
        match event:
            case Attempt():
                context = _context(event)
                labels = (event.endpoint, event.outcome.value)
                self._duration.record(event.duration, dict(zip(DURATION.labels, labels, strict=True)), context)
                if event.agent.age is not None:
                    labels = (event.outcome.value, event.agent.label.value)
                    self._age.record(event.agent.age, dict(zip(AGENT_STATE_AGE.labels, labels, strict=True)), context)
            case NotificationTaken():
                if event.lag is not None:
                    self._lag.record(event.lag, context=NO_CONTEXT)
            case StateChange() | LateChange() | FeedChange() | LegFailure() | SkewChange():
                pass
            case _:
                assert_never(event)


class _Collection:
    """What the instruments haven't read yet of a snapshot; who asks a second time begins the next collection."""

    def __init__(self, snapshot: Callable[[], View]) -> None:
        self._snapshot = snapshot
        self._unread: dict[str, dict[Labels, Number]] = {}

    def numbers(self, metric: Metric) -> dict[Labels, Number]:
        """Return a metric's numbers."""
        if (numbers := self._unread.pop(metric.name, None)) is None:
            unread: dict[str, dict[Labels, Number]] = {metric.name: {} for metric in METRICS}
            unread |= {family.metric.name: family.numbers for family in self._snapshot()}
            numbers, self._unread = unread.pop(metric.name), unread
        return numbers


def _observing(metric: Metric, collection: _Collection) -> Callable[[CallbackOptions], Iterable[Observation]]:
    def observe(_: CallbackOptions) -> Iterable[Observation]:
        for labels, number in collection.numbers(metric).items():
            yield Observation(number.value, dict(zip(metric.labels, labels, strict=True)), NO_CONTEXT)

    return observe


def _context(attempt: Attempt) -> Context:
    ids = attempt.span
    if ids is None or not attempt.is_traced:
        return NO_CONTEXT
    span = SpanContext(ids.trace_id, ids.span_id, False, _FLAGS)  # noqa: FBT003 - the field `is_remote`
    return trace.set_span_in_context(NonRecordingSpan(span), Context())
