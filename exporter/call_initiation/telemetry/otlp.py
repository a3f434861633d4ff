"""Calls and numbers as OpenTelemetry sees them: attributes, spans, failure events and metrics data.

Pure views: an `Attempt` becomes a span and, where it failed, an event; a snapshot of the aggregate becomes a
`MetricsData`. Who carries them away is another room's business (`delivery`).

Failures are exported whatever the head sampler said, and then say that they were sampled; successes follow the
sampler. A span that another instrumentation opened is never exported a second time.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, assert_never, cast

from opentelemetry import trace
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context
from opentelemetry.sdk._logs import LogRecordLimits, ReadableLogRecord
from opentelemetry.sdk.metrics import Exemplar as OtelExemplar
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Buckets,
    ExponentialHistogram,
    ExponentialHistogramDataPoint,
    Gauge,
    Histogram,
    HistogramDataPoint,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.metrics.export import Metric as OtelMetric
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState
from opentelemetry.util.types import AnyValue, AttributeValue

from call_initiation.catalogue import EVENT_NAME, SCHEMA_URL, SCOPE, Kind, Metric
from call_initiation.events import (
    AgentIdSource,
    AgentState,
    Attempt,
    BodyState,
    Category,
    Certainty,
    Event,
    FeedChange,
    LateChange,
    LegFailure,
    NotificationTaken,
    Outcome,
    PayloadShape,
    Refusal,
    SkewChange,
    SpanIds,
    StateChange,
    StateLabel,
)
from call_initiation.recording.aggregate import Distribution, Exemplar, Family, Labels, Number, View

NO_CONTEXT: Final = trace.set_span_in_context(trace.INVALID_SPAN, Context())
"""For what belongs to no span, or has its ids from us: an empty one the SDK would replace by the thread's own."""

Attributes = dict[str, AttributeValue]
_Point = NumberDataPoint | HistogramDataPoint | ExponentialHistogramDataPoint

_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_CLIENT: Final = SpanKind.CLIENT
_WARN: Final = SeverityNumber.WARN
_OK: Final = Status(StatusCode.UNSET)
_ERROR: Final = Status(StatusCode.ERROR)
_NOTHING: Final = Number()
_NOT_KEPT: Final = cast("float", None)
"""For a histogram's extremes: infinities would be sent, and None isn't; the SDK's type has no word for that."""
_AFTER_RECORDING: Final = ("call_initiation.duplicate.suspected",)
_AFTER_READING: Final = (
    "call_initiation.error.code",
    "call_initiation.error.category",
    "call_initiation.response.body",
)
_AFTER_JOINING: Final = (
    "call_initiation.agent.state",
    "call_initiation.agent.state.source",
    "call_initiation.agent.state.certainty",
)


def scope(version: str) -> InstrumentationScope:
    """Return the instrumentation scope under which everything is sent."""
    return InstrumentationScope(SCOPE, version, SCHEMA_URL)


def attributes(attempt: Attempt) -> Attributes:
    """Return the attributes of a call's span and event; a part that isn't known is left out."""
    refusal, agent = attempt.refusal, attempt.agent
    given = _call_attributes(
        attempt.endpoint,
        attempt.server_address,
        attempt.server_port,
        attempt.status_code,
        attempt.error_type,
        attempt.outcome,
        attempt.category,
        attempt.payload_shape,
        attempt.body,
    ) | _state_attributes(agent.state, agent.label, agent.id_source)
    given["call_initiation.duplicate.suspected"] = attempt.suspected_duplicate
    if attempt.findings:
        given["call_initiation.findings"] = attempt.findings
    if attempt.is_failure:
        given["call_initiation.error.code"] = attempt.error_code
    if refusal is not None:
        _add_refusal(given, refusal)
    if agent.id is not None:
        given["call_initiation.agent.id"] = agent.id
    if agent.age is not None:
        given["call_initiation.agent.state.age"] = agent.age
    return given


def attributes_so_far(attempt: Attempt) -> Attributes:
    """Return the attributes of a call that still runs: what isn't known before it is recorded is left out."""
    given = attributes(attempt)
    unknown = [*_AFTER_RECORDING]
    if attempt.body is BodyState.UNREAD:
        unknown += _AFTER_READING
    if attempt.agent.state.certainty is Certainty.UNKNOWN:
        unknown += _AFTER_JOINING
    return {name: value for name, value in given.items() if name not in unknown}


def _add_refusal(given: Attributes, refusal: Refusal) -> None:
    if refusal.codes:
        given["call_initiation.error.codes"] = refusal.codes
    if refusal.message is not None:
        given["call_initiation.error.message"] = refusal.message
    if refusal.correlation_id is not None:
        given["call_initiation.correlation_id"] = refusal.correlation_id


# What many calls share is made once for all of them: their copies are half as dear as a dictionary made anew.


@lru_cache(maxsize=1024)
def _call_attributes(  # noqa: PLR0913, PLR0917 - what many calls share, as the cache takes it
    endpoint: str,
    server_address: str,
    server_port: int,
    status_code: int | None,
    error_type: str | None,
    outcome: Outcome,
    category: Category | None,
    payload_shape: PayloadShape,
    body: BodyState | None,
) -> Attributes:
    return _known(
        {
            "http.request.method": "POST",
            "url.template": endpoint,
            "server.address": server_address,
            "server.port": server_port,
            "http.response.status_code": status_code,
            "error.type": error_type,
            "call_initiation.outcome": outcome.value,
            "call_initiation.error.category": category and category.value,
            "call_initiation.payload.shape": payload_shape.value,
            "call_initiation.response.body": body and body.value,
        }
    )


@lru_cache(maxsize=1024)
def _state_attributes(state: AgentState, label: StateLabel, id_source: AgentIdSource) -> Attributes:
    return _known(
        {
            "call_initiation.agent.id.source": id_source.value,
            "call_initiation.agent.presence": state.presence and state.presence.value,
            "call_initiation.agent.routing_status": state.routing_status and state.routing_status.value,
            "call_initiation.agent.on_call": state.on_call,
            "call_initiation.agent.wrap_up": state.wrap_up,
            "call_initiation.agent.station": state.station,
            "call_initiation.agent.state": label.value,
            "call_initiation.agent.state.since": None if state.since is None else _iso(state.since),
            "call_initiation.agent.state.source": state.source.value,
            "call_initiation.agent.state.certainty": state.certainty.value,
        }
    )


def _known(given: dict[str, AttributeValue | None]) -> Attributes:
    return {name: value for name, value in given.items() if value is not None}


class LatestAttributes:
    """The attributes of the latest call: its span and its event have the same, worked out once."""

    def __init__(self) -> None:
        self._latest: tuple[Attempt, Attributes] | None = None

    def of(self, attempt: Attempt) -> Attributes:
        """Return the attributes of a call."""
        if self._latest is None or self._latest[0] is not attempt:
            self._latest = attempt, attributes(attempt)
        return self._latest[1]


def _bounded(given: Mapping[str, AnyValue], count: int | None, length: int | None) -> Mapping[str, AnyValue]:
    """Return attributes as the SDK bounds them; as they are, at no cost, where it couldn't change any."""
    if length is None and (count is None or len(given) <= count):
        return given
    return BoundedAttributes(count, given, max_value_len=length)


def span_of(
    attempt: Attempt, given: Attributes, resource: Resource, instrumentation: InstrumentationScope, limits: SpanLimits
) -> ReadableSpan | None:
    """Return the span of a call with the `given` attributes, or None where it isn't ours to export."""
    ids = attempt.span
    if ids is None or ids.adopted or not (ids.sampled or attempt.is_failure):
        return None
    return ReadableSpan(
        name=f"POST {attempt.endpoint}",
        context=_context(ids),
        parent=_parent(ids),
        resource=resource,
        attributes=_bounded(given, limits.max_span_attributes, limits.max_span_attribute_length),
        kind=_CLIENT,
        status=_ERROR if attempt.is_failure else _OK,
        start_time=attempt.started_at,
        end_time=attempt.started_at + int(attempt.duration * 1e9),
        instrumentation_scope=instrumentation,
    )


def record_of(attempt: Attempt, given: Attributes) -> LogRecord:
    """Return the failure event of a call with the `given` attributes, as a log record with an event name."""
    record = LogRecord(
        timestamp=attempt.started_at,
        observed_timestamp=attempt.started_at + int(attempt.duration * 1e9),
        context=NO_CONTEXT,
        severity_number=_WARN,
        severity_text="WARN",
        body=f"call start {attempt.outcome}: {attempt.error_code}",
        attributes=given,
        event_name=EVENT_NAME,
    )
    if (ids := attempt.span) is not None:
        record.trace_id, record.span_id, record.trace_flags = ids.trace_id, ids.span_id, _SAMPLED
    return record


class SpanSink:
    """Hands the span of each call on."""

    def __init__(
        self,
        deliver: Callable[[ReadableSpan], None],
        latest: LatestAttributes,
        resource: Callable[[], Resource],
        version: str,
        limits: SpanLimits,
    ) -> None:
        self._deliver = deliver
        self._latest = latest
        self._resource = resource
        self._scope = scope(version)
        self._limits = limits

    def record(self, event: Event) -> None:
        """Take one event."""
        match event:
            case Attempt():
                given = self._latest.of(event)
                if (span := span_of(event, given, self._resource(), self._scope, self._limits)) is not None:
                    self._deliver(span)
            case StateChange() | LateChange() | FeedChange() | NotificationTaken() | LegFailure() | SkewChange():
                pass
            case _:
                assert_never(event)


class EventSink:
    """Hands an event for each failure on, unsampled."""

    def __init__(
        self,
        deliver: Callable[[LogRecord], None],
        latest: LatestAttributes,
        extra: Mapping[str, AttributeValue],
    ) -> None:
        self._deliver = deliver
        self._latest = latest
        self._extra = extra

    def record(self, event: Event) -> None:
        """Take one event."""
        match event:
            case Attempt():
                if event.is_failure:
                    given = self._latest.of(event)
                    self._deliver(record_of(event, {**given, **self._extra} if self._extra else given))
            case StateChange() | LateChange() | FeedChange() | NotificationTaken() | LegFailure() | SkewChange():
                pass
            case _:
                assert_never(event)


def readable(
    record: LogRecord, resource: Resource, instrumentation: InstrumentationScope, limits: LogRecordLimits
) -> ReadableLogRecord:
    """Return a log record as an exporter takes it."""
    count, length = limits.max_log_record_attributes, limits.max_log_record_attribute_length
    record.attributes = _bounded(record.attributes or {}, count, length)
    return ReadableLogRecord(record, resource, instrumentation, limits)


class MetricsView:
    """Turns snapshots into `MetricsData`, cumulative or as deltas.

    Deltas are taken against a baseline that moves only when `delivered` says that the last data arrived, so an
    outage of the collector loses nothing: the next data hold it. Their exemplars are those of calls that they count.

    Args:
        temporality: Counters' and histograms' temporality.
        resource: Who we are.
        version: Our version.
        started_at: When counting began, nanoseconds since the epoch.
        has_exemplars: Name a call for each series and bucket that has one.
    """

    def __init__(
        self,
        temporality: AggregationTemporality,
        resource: Resource,
        version: str,
        started_at: int,
        *,
        has_exemplars: bool = True,
    ) -> None:
        self._temporality = temporality
        self._resource = resource
        self._scope = scope(version)
        self._has_exemplars = has_exemplars
        self._numbers: dict[tuple[str, Labels], Number] = {}
        self._distributions: dict[tuple[str, Labels], Distribution] = {}
        self._last: View = ()
        self._since = started_at
        self._now = started_at

    def data(self, view: View, now: int) -> MetricsData:
        """Return what a snapshot says, at `now` nanoseconds since the epoch."""
        self._last, self._now = view, now
        metrics = [self._metric(family) for family in view]
        scoped = ScopeMetrics(self._scope, metrics, self._scope.schema_url or "")
        return MetricsData([ResourceMetrics(self._resource, [scoped], self._resource.schema_url)])

    def delivered(self) -> None:
        """Note that the last data arrived."""
        if self._temporality is not AggregationTemporality.DELTA:
            return
        self._since = self._now
        for family in self._last:
            name = family.metric.name
            for labels, number in family.numbers.items():
                self._numbers[name, labels] = number
            for labels, distribution in family.distributions.items():
                self._distributions[name, labels] = distribution

    def _metric(self, family: Family) -> OtelMetric:
        metric = family.metric
        data = _kinds(metric, list(self._points(family)), self._temporality)
        return OtelMetric(metric.name, metric.help, metric.unit, data)

    def _points(self, family: Family) -> Iterator[_Point]:
        for labels, number in family.numbers.items():
            earlier = self._numbers.get((family.metric.name, labels), _NOTHING)
            value = number.value - earlier.value if family.metric.kind is Kind.COUNTER else number.value
            exemplars = self._exemplars([number.exemplar], [earlier.exemplar])
            yield NumberDataPoint(_named(family.metric, labels), self._since, self._now, value, exemplars)
        for labels, distribution in family.distributions.items():
            before = self._distributions.get((family.metric.name, labels))
            yield self._histogram_point(family.metric, labels, distribution.since(before), before)

    def _exemplars(self, shown: Iterable[Exemplar | None], before: Collection[Exemplar | None]) -> list[OtelExemplar]:
        """Return the exemplars that weren't there before; a call that began earlier is counted since, and dated so."""
        if not self._has_exemplars:
            return []
        return [
            OtelExemplar({}, new.value, max(int(new.at * 1e9), self._since), new.span_id, new.trace_id)
            for new in shown
            if new is not None and new not in before
        ]

    def _histogram_point(
        self, metric: Metric, labels: Labels, distribution: Distribution, before: Distribution | None
    ) -> HistogramDataPoint | ExponentialHistogramDataPoint:
        attributes, counts = _named(metric, labels), distribution.counts
        exemplars = self._exemplars(
            [exemplar for _, exemplar in sorted(distribution.exemplars.items())],
            before.exemplars.values() if before is not None else (),
        )
        if distribution.powers is None:
            return HistogramDataPoint(
                attributes=attributes,
                start_time_unix_nano=self._since,
                time_unix_nano=self._now,
                count=sum(counts),
                sum=distribution.total,
                bucket_counts=counts,
                explicit_bounds=metric.buckets,
                min=_NOT_KEPT,
                max=_NOT_KEPT,
                exemplars=exemplars,
            )
        shown = distribution.powers.fitted()
        return ExponentialHistogramDataPoint(
            attributes=attributes,
            start_time_unix_nano=self._since,
            time_unix_nano=self._now,
            count=sum(counts),
            sum=distribution.total,
            scale=shown.scale,
            zero_count=distribution.powers.zeros,
            positive=Buckets(shown.offset, shown.counts),
            negative=Buckets(0, []),
            flags=0,
            min=_NOT_KEPT,
            max=_NOT_KEPT,
            exemplars=exemplars,
        )


def _kinds(
    metric: Metric, points: list[_Point], temporality: AggregationTemporality
) -> Sum | Gauge | Histogram | ExponentialHistogram:
    numbers = [point for point in points if isinstance(point, NumberDataPoint)]
    match metric.kind:
        case Kind.COUNTER:
            return Sum(numbers, temporality, is_monotonic=True)
        case Kind.GAUGE:
            return Gauge(numbers)
        case Kind.HISTOGRAM:
            return _histograms(points, temporality)
        case _:
            assert_never(metric.kind)


def _histograms(points: list[_Point], temporality: AggregationTemporality) -> Histogram | ExponentialHistogram:
    """Return the histograms of one metric, which are all of one sort."""
    exponential = [point for point in points if isinstance(point, ExponentialHistogramDataPoint)]
    if exponential:
        return ExponentialHistogram(exponential, temporality)
    return Histogram([point for point in points if isinstance(point, HistogramDataPoint)], temporality)


def _named(metric: Metric, labels: Labels) -> dict[str, str]:
    return dict(zip(metric.labels, labels, strict=True))


def _context(ids: SpanIds) -> SpanContext:
    state = TraceState.from_header([ids.trace_state]) if ids.trace_state else None
    return SpanContext(ids.trace_id, ids.span_id, False, _SAMPLED, state)  # noqa: FBT003 - the field `is_remote`


def _parent(ids: SpanIds) -> SpanContext | None:
    if ids.parent_span_id is None:
        return None
    return SpanContext(ids.trace_id, ids.parent_span_id, ids.parent_is_remote, _SAMPLED)


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
