"""What `otlp` promises: the catalogue's attributes and no others, spans and events of one call, numbers that add up."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import ceil, log2

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk._logs import LogRecordLimits
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    ExponentialHistogram,
    ExponentialHistogramDataPoint,
    Gauge,
    Histogram,
    MetricsData,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits
from opentelemetry.trace import SpanKind, StatusCode

from call_initiation import catalogue
from call_initiation.calls.endpoints import CALLS_OF_USER
from call_initiation.catalogue import ATTRIBUTES, METRICS, Kind, Metric
from call_initiation.events import (
    NO_AGENT,
    AgentState,
    Attempt,
    BodyState,
    Event,
    FeedChange,
    FeedState,
    LateChange,
    LegFailure,
    NotificationTaken,
    Refusal,
    SkewChange,
    StateChange,
    StateLabel,
)
from call_initiation.recording.aggregate import Aggregate
from call_initiation.telemetry import otlp
from samples import ACCEPTED, REFUSED, SPAN, STARTED_AT, UNANSWERED

RESOURCE = Resource({"service.name": "dialer"})
SCOPE = otlp.scope("1.0")
NO_LIMITS = SpanLimits()
CUMULATIVE, DELTA = AggregationTemporality.CUMULATIVE, AggregationTemporality.DELTA
TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "int": int,
    "double": float,
    "boolean": bool,
    "string[]": tuple,
}
FULL = replace(REFUSED, findings=("no-destination",), suspected_duplicate=True)
OTHERS: tuple[Event, ...] = (
    StateChange(agent_id="a", before=StateLabel.BUSY, after=StateLabel.IDLE, state=AgentState(), at=1.0),
    LateChange(agent_id="a", at=1.0),
    FeedChange(state=FeedState.UP, at=1.0),
    NotificationTaken(topic="presence"),
    LegFailure(agent_id="a", error_code="x", label=StateLabel.BUSY),
    SkewChange(seconds=1.0),
)


def span_of(attempt: Attempt, limits: SpanLimits = NO_LIMITS) -> ReadableSpan | None:
    """Return a call's span."""
    return otlp.span_of(attempt, otlp.attributes(attempt), RESOURCE, SCOPE, limits)


def exported_span(attempt: Attempt) -> ReadableSpan:
    """Return the span of a call that has one."""
    span = span_of(attempt)
    assert span is not None
    return span


# -- attributes ---------------------------------------------------------------------------------------------------


def test_the_catalogue_lists_every_attribute_and_no_other() -> None:
    """A refusal of which everything is known has all of them, in the catalogue's types."""
    given_attributes = otlp.attributes(FULL)
    assert {attribute.name for attribute in ATTRIBUTES} == given_attributes.keys()
    for attribute in ATTRIBUTES:
        assert isinstance(given_attributes[attribute.name], TYPES[attribute.type]), attribute.name


def test_what_is_not_known_is_left_out() -> None:
    """Never an empty text, a zero or a guess in the place of nothing."""
    given_attributes = otlp.attributes(replace(UNANSWERED, agent=NO_AGENT, findings=()))
    expected = {
        "http.request.method": "POST",
        "url.template": CALLS_OF_USER,
        "server.address": "api.mypurecloud.ie",
        "server.port": 443,
        "error.type": "read_timeout",
        "call_initiation.outcome": "ambiguous",
        "call_initiation.error.code": "unparsed",
        "call_initiation.error.category": "timeout",
        "call_initiation.payload.shape": "create_call_request",
        "call_initiation.duplicate.suspected": False,
        "call_initiation.agent.id.source": "none",
        "call_initiation.agent.state": "unknown",
        "call_initiation.agent.state.source": "none",
        "call_initiation.agent.state.certainty": "unknown",
    }
    assert expected == given_attributes


def test_an_accepted_call_has_no_error() -> None:
    """No code, no category, no type."""
    names = otlp.attributes(ACCEPTED).keys()
    assert not [name for name in names if "error" in name]


def test_the_states_time_is_written_as_rfc_3339_has_it() -> None:
    """In UTC, with milliseconds."""
    assert otlp.attributes(FULL)["call_initiation.agent.state.since"] == "2026-09-21T14:13:07.500Z"


def test_the_latest_attributes_are_worked_out_once() -> None:
    """A call's span and its event share them; the next call has its own."""
    latest = otlp.LatestAttributes()
    first = latest.of(REFUSED)
    assert first is latest.of(REFUSED)
    assert otlp.attributes(ACCEPTED) == latest.of(ACCEPTED)


def test_a_call_that_still_runs_is_told_only_what_is_known() -> None:
    """Duplicates come later; the body's words when it was read; the state when it was joined."""
    whole = otlp.attributes(FULL).keys()
    so_far = otlp.attributes_so_far(FULL).keys()
    assert {"call_initiation.duplicate.suspected"} == whole - so_far
    unread = otlp.attributes_so_far(replace(FULL, body=BodyState.UNREAD, refusal=Refusal())).keys()
    assert not [name for name in unread if ".error." in name or name.endswith("response.body")]
    unjoined = otlp.attributes_so_far(replace(FULL, agent=NO_AGENT)).keys()
    assert not [name for name in unjoined if ".agent.state" in name]


# -- spans --------------------------------------------------------------------------------------------------------


def test_a_span_says_what_the_call_was() -> None:
    """Named by its template; a client's; from the send to the answer; in error unless accepted."""
    span = exported_span(REFUSED)
    assert (f"POST {CALLS_OF_USER}", SpanKind.CLIENT) == (span.name, span.kind)
    assert (STARTED_AT, STARTED_AT + 200_000_000) == (span.start_time, span.end_time)
    assert StatusCode.ERROR is span.status.status_code
    assert otlp.attributes(REFUSED) == dict(span.attributes or {})
    assert (RESOURCE, SCOPE) == (span.resource, span.instrumentation_scope)
    assert StatusCode.UNSET is exported_span(ACCEPTED).status.status_code


def test_a_span_keeps_its_ids_and_its_place() -> None:
    """Its ids, its parent's, whether that was remote, and the trace's state."""
    ids = replace(SPAN, parent_is_remote=True, trace_state="vendor=1")
    span = exported_span(replace(ACCEPTED, span=ids))
    assert span.context is not None
    assert (ids.trace_id, ids.span_id, True) == (
        span.context.trace_id,
        span.context.span_id,
        span.context.trace_flags.sampled,
    )
    assert [("vendor", "1")] == list(span.context.trace_state.items())
    assert span.parent is not None
    assert (ids.trace_id, ids.parent_span_id, True) == (
        span.parent.trace_id,
        span.parent.span_id,
        span.parent.is_remote,
    )
    assert exported_span(replace(ACCEPTED, span=replace(SPAN, parent_span_id=None))).parent is None


@pytest.mark.parametrize(
    ("attempt", "is_exported"),
    [
        (replace(ACCEPTED, span=replace(SPAN, sampled=False)), False),
        (replace(REFUSED, span=replace(SPAN, sampled=False)), True),
        (replace(REFUSED, span=replace(SPAN, adopted=True)), False),
        (replace(REFUSED, span=None), False),
    ],
    ids=["unsampled success", "unsampled failure", "another's", "none"],
)
def test_failures_are_exported_whatever_the_sampler_said(attempt: Attempt, *, is_exported: bool) -> None:
    """And then say that they are sampled; a span that isn't ours is never exported a second time."""
    span = span_of(attempt)
    assert is_exported == (span is not None)
    assert span is None or (span.context is not None and span.context.trace_flags.sampled)


# -- events -------------------------------------------------------------------------------------------------------


def test_an_event_has_the_spans_attributes_ids_and_a_sentence() -> None:
    """So that a log search needs no join."""
    record = otlp.record_of(REFUSED, otlp.attributes(REFUSED))
    assert ("call_initiation.failure", SeverityNumber.WARN, "WARN") == (
        record.event_name,
        record.severity_number,
        record.severity_text,
    )
    assert "call start rejected: conversation.error.no.user.station" == record.body
    assert (SPAN.trace_id, SPAN.span_id, 1) == (record.trace_id, record.span_id, record.trace_flags)
    assert (STARTED_AT, STARTED_AT + 200_000_000) == (record.timestamp, record.observed_timestamp)
    assert otlp.attributes(REFUSED) == record.attributes


def test_an_event_without_a_span_has_no_ids() -> None:
    """Nor those of whatever span happens to be current on the thread that makes it."""
    with trace.use_span(trace.NonRecordingSpan(trace.SpanContext(1, 2, is_remote=False))):
        record = otlp.record_of(replace(REFUSED, span=None), {})
    assert (0, 0) == (record.trace_id, record.span_id)


# -- limits -------------------------------------------------------------------------------------------------------


def test_spans_and_events_keep_to_the_sdks_limits() -> None:
    """So many attributes, the latest, and so much of each text; what was dropped is said."""
    spans = SpanLimits(max_span_attributes=4, max_span_attribute_length=9)
    records = LogRecordLimits(max_log_record_attributes=5, max_log_record_attribute_length=9)
    span = span_of(FULL, spans)
    assert span is not None
    record = otlp.readable(otlp.record_of(FULL, otlp.attributes(FULL)), RESOURCE, SCOPE, records)
    for count, dropped, given_attributes in (
        (4, span.dropped_attributes, span.attributes),
        (5, record.dropped_attributes, record.log_record.attributes),
    ):
        full = list(otlp.attributes(FULL).items())
        assert len(full) - count == dropped
        assert [(name, _cut(value)) for name, value in full[-count:]] == list((given_attributes or {}).items())


def _cut(value: object) -> object:
    return value[:9] if isinstance(value, str) else tuple(map(_cut, value)) if isinstance(value, tuple) else value


@pytest.mark.parametrize("most", [None, len(otlp.attributes(FULL))])
def test_what_no_limit_touches_is_not_copied(most: int | None) -> None:
    """The span and the event of a call share their attributes."""
    given_attributes = otlp.attributes(FULL)
    limits = LogRecordLimits(max_log_record_attributes=LogRecordLimits.UNSET if most is None else most)
    record = otlp.readable(otlp.record_of(FULL, given_attributes), RESOURCE, SCOPE, limits)
    assert record.log_record.attributes is given_attributes


# -- sinks --------------------------------------------------------------------------------------------------------


def test_the_span_sink_hands_on_what_is_ours_to_export() -> None:
    """Calls' spans; nothing of the other events."""
    spans: list[ReadableSpan] = []
    sink = otlp.SpanSink(spans.append, otlp.LatestAttributes(), lambda: RESOURCE, "1.0", NO_LIMITS)
    for event in (ACCEPTED, replace(ACCEPTED, span=None), REFUSED, *OTHERS):
        sink.record(event)
    assert [202, 400] == [(span.attributes or {})["http.response.status_code"] for span in spans]
    assert {RESOURCE} == {span.resource for span in spans}


def test_the_event_sink_hands_on_failures_unsampled_with_what_was_asked_for_besides() -> None:
    """The extra attributes stand on events only."""
    records: list[LogRecord] = []
    latest = otlp.LatestAttributes()
    sink = otlp.EventSink(records.append, latest, {"newrelic.event.type": "CallInitiationError"})
    unsampled = replace(REFUSED, span=replace(SPAN, sampled=False))
    for event in (ACCEPTED, unsampled, UNANSWERED, *OTHERS):
        sink.record(event)
    assert ["rejected", "ambiguous"] == [(record.attributes or {})["call_initiation.outcome"] for record in records]
    assert {"CallInitiationError"} == {(record.attributes or {})["newrelic.event.type"] for record in records}
    assert "newrelic.event.type" not in latest.of(UNANSWERED)


def test_opentelemetrys_encoders_take_what_we_make() -> None:
    """Spans, events and metrics survive the encoding, ids and types included."""
    span = encode_spans([exported_span(FULL)]).resource_spans[0].scope_spans[0].spans[0]
    assert (SPAN.span_id.to_bytes(8, "big"), SPAN.trace_id.to_bytes(16, "big")) == (span.span_id, span.trace_id)
    assert len(ATTRIBUTES) == len(span.attributes)
    record = otlp.readable(otlp.record_of(FULL, otlp.attributes(FULL)), RESOURCE, SCOPE, LogRecordLimits())
    encoded = encode_logs([record]).resource_logs[0].scope_logs[0].log_records[0]
    assert ("call_initiation.failure", len(ATTRIBUTES)) == (encoded.event_name, len(encoded.attributes))
    aggregate = Aggregate()
    aggregate.record(FULL)
    metrics = encode_metrics(otlp.MetricsView(CUMULATIVE, RESOURCE, "1.0", 1).data(aggregate.snapshot(), 2))
    names = {metric.name for metric in metrics.resource_metrics[0].scope_metrics[0].metrics}
    assert {family.metric.name for family in aggregate.snapshot()} == names


# -- metrics ------------------------------------------------------------------------------------------------------


def metric_in(data: MetricsData, metric: Metric) -> Sum | Gauge | Histogram:
    """Return one metric's data."""
    [found] = [shown for shown in data.resource_metrics[0].scope_metrics[0].metrics if shown.name == metric.name]
    assert (metric.help, metric.unit) == (found.description, found.unit)
    assert isinstance(found.data, Sum | Gauge | Histogram)
    return found.data


def values(data: MetricsData, metric: Metric) -> Sequence[float]:
    """Return the values of one metric's points: numbers, or histograms' counts."""
    points = metric_in(data, metric).data_points
    return [point.count if hasattr(point, "count") else point.value for point in points]


def everything() -> Aggregate:
    """Return an aggregate with a series in every metric."""
    aggregate = Aggregate()
    ways: dict[Kind, Callable[[Metric, tuple[str, ...], float], None]] = {
        Kind.COUNTER: aggregate.count,
        Kind.GAUGE: aggregate.gauge,
        Kind.HISTOGRAM: aggregate.observe,
    }
    for metric in METRICS:
        ways[metric.kind](metric, tuple("x" for _ in metric.labels), 3.0)
    return aggregate


@pytest.mark.parametrize("temporality", [CUMULATIVE, DELTA])
def test_every_metric_has_its_kind_and_its_labels(temporality: AggregationTemporality) -> None:
    """Counters are monotonic sums; only gauges have no temporality."""
    data = otlp.MetricsView(temporality, RESOURCE, "1.0", 10).data(everything().snapshot(), 20)
    assert RESOURCE == data.resource_metrics[0].resource
    assert SCOPE == data.resource_metrics[0].scope_metrics[0].scope
    for metric in METRICS:
        found = metric_in(data, metric)
        [point] = found.data_points
        assert dict.fromkeys(metric.labels, "x") == point.attributes
        assert (10, 20) == (point.start_time_unix_nano, point.time_unix_nano)
        match metric.kind, found:
            case Kind.COUNTER, Sum():
                assert (temporality, True) == (found.aggregation_temporality, found.is_monotonic)
            case Kind.HISTOGRAM, Histogram():
                assert (temporality, metric.buckets) == (found.aggregation_temporality, tuple(point.explicit_bounds))
            case Kind.GAUGE, Gauge():
                pass
            case _:
                pytest.fail(f"{metric.name} is a {type(found).__name__}")


def test_cumulative_numbers_count_from_the_start() -> None:
    """Whether the last export arrived or not."""
    aggregate = Aggregate()
    view = otlp.MetricsView(CUMULATIVE, RESOURCE, "1.0", 10)
    for expected in (1, 2, 3):
        aggregate.record(ACCEPTED)
        data = view.data(aggregate.snapshot(), 10 + expected)
        assert ([expected], [expected]) == (values(data, catalogue.ATTEMPTS), values(data, catalogue.DURATION))
        assert {10} == {point.start_time_unix_nano for point in metric_in(data, catalogue.ATTEMPTS).data_points}
        view.delivered()


def test_deltas_count_from_the_last_export_that_arrived() -> None:
    """What didn't arrive is in the next one, with the time since when it counts; a gauge is what it is."""
    aggregate = Aggregate()
    aggregate.gauge(catalogue.AGENTS, ("busy",), 5)
    view = otlp.MetricsView(DELTA, RESOURCE, "1.0", 10)
    seen = []
    for now, arrives in ((20, False), (30, True), (40, False), (50, True), (60, True)):
        aggregate.record(ACCEPTED)
        data = view.data(aggregate.snapshot(), now)
        [duration] = metric_in(data, catalogue.DURATION).data_points
        assert [5.0] == values(data, catalogue.AGENTS)
        seen.append(
            (duration.start_time_unix_nano, duration.count, round(duration.sum, 3), *values(data, catalogue.ATTEMPTS))
        )
        assert duration.count == sum(duration.bucket_counts)
        if arrives:
            view.delivered()
    assert [(10, 1, 0.2, 1), (10, 2, 0.4, 2), (30, 1, 0.2, 1), (30, 2, 0.4, 2), (50, 1, 0.2, 1)] == seen


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=20))
def test_the_deltas_that_arrived_add_up(steps: list[tuple[int, bool]]) -> None:
    """Whatever fails in between: after one more that arrives, their sum is the truth."""
    aggregate = Aggregate()
    view = otlp.MetricsView(DELTA, RESOURCE, "1.0", 0)
    calls = arrived = 0
    for now, (burst, arrives) in enumerate([*steps, (1, True)]):
        for _ in range(burst):
            aggregate.record(REFUSED)
            calls += 1
        data = view.data(aggregate.snapshot(), now)
        if arrives:
            view.delivered()
            shown = data.resource_metrics[0].scope_metrics[0].metrics
            arrived += int(sum(values(data, catalogue.ATTEMPTS))) if shown else 0
    assert calls == arrived


def test_exemplars_lead_to_the_calls() -> None:
    """On counters and on each bucket that has one."""
    aggregate = Aggregate()
    aggregate.record(REFUSED)
    aggregate.record(replace(REFUSED, duration=40.0, span=replace(SPAN, span_id=7)))
    data = otlp.MetricsView(CUMULATIVE, RESOURCE, "1.0", 1).data(aggregate.snapshot(), 2)
    [duration] = metric_in(data, catalogue.DURATION).data_points
    assert [(0.2, SPAN.span_id), (40.0, 7)] == [(exemplar.value, exemplar.span_id) for exemplar in duration.exemplars]
    assert {(SPAN.trace_id, STARTED_AT)} == {(e.trace_id, e.time_unix_nano) for e in duration.exemplars}
    [attempts] = metric_in(data, catalogue.ATTEMPTS).data_points
    assert [7] == [exemplar.span_id for exemplar in attempts.exemplars]


def exemplars(data: MetricsData) -> list[tuple[str, float, int]]:
    """Return the exemplars: of which metric, of which value, and of when."""
    metrics = data.resource_metrics[0].scope_metrics[0].metrics
    points = [(metric.name, point) for metric in metrics for point in metric.data.data_points]
    return [(name, exemplar.value, exemplar.time_unix_nano) for name, point in points for exemplar in point.exemplars]


def test_a_deltas_exemplars_are_of_calls_that_it_counts() -> None:
    """Dated within its time, though a call began before; with what didn't arrive they come again, and then no more."""
    aggregate = Aggregate()
    view = otlp.MetricsView(DELTA, RESOURCE, "1.0", STARTED_AT - 20)
    aggregate.record(replace(ACCEPTED, agent=NO_AGENT))
    first = [("call_initiation.attempts", 1.0, STARTED_AT), ("call_initiation.duration", 0.2, STARTED_AT)]
    for _ in range(2):
        assert first == exemplars(view.data(aggregate.snapshot(), STARTED_AT + 512))
    view.delivered()
    assert [] == exemplars(view.data(aggregate.snapshot(), STARTED_AT + 768))
    aggregate.record(replace(ACCEPTED, agent=NO_AGENT, duration=40.0, span=replace(SPAN, span_id=7)))
    second = [("call_initiation.attempts", 1.0, STARTED_AT + 512), ("call_initiation.duration", 40.0, STARTED_AT + 512)]
    assert second == exemplars(view.data(aggregate.snapshot(), STARTED_AT + 1024))


@pytest.mark.parametrize("is_exponential", [False, True])
def test_metrics_have_no_exemplars_where_none_are_wanted(*, is_exponential: bool) -> None:
    """Neither numbers nor histograms of either kind."""
    aggregate = Aggregate(is_exponential=is_exponential)
    aggregate.record(REFUSED)
    view = otlp.MetricsView(CUMULATIVE, RESOURCE, "1.0", 1, has_exemplars=False)
    assert [] == exemplars(view.data(aggregate.snapshot(), 2))


def test_a_histogram_says_nothing_of_its_extremes() -> None:
    """We don't keep them: what is sent has no minimum and no maximum, rather than infinities."""
    aggregate = Aggregate()
    aggregate.record(ACCEPTED)
    metrics = encode_metrics(otlp.MetricsView(CUMULATIVE, RESOURCE, "1.0", 1).data(aggregate.snapshot(), 2))
    for metric in metrics.resource_metrics[0].scope_metrics[0].metrics:
        for point in metric.histogram.data_points:
            assert {"min", "max"}.isdisjoint(field.name for field, _ in point.ListFields())


def test_an_aggregate_without_events_has_no_metrics() -> None:
    """A family without series is left out."""
    view = otlp.MetricsView(CUMULATIVE, RESOURCE, "1.0", 1)
    assert [] == view.data(Aggregate().snapshot(), 2).resource_metrics[0].scope_metrics[0].metrics


# -- exponential histograms ---------------------------------------------------------------------------------------


def test_exponential_histograms_hold_the_values_themselves() -> None:
    """The same count and sum as ours with bounds, finer buckets, and the exemplars."""
    aggregate = Aggregate(is_exponential=True)
    for duration in (0.0, 1.0, 1.9, 2.0):
        aggregate.record(replace(REFUSED, duration=duration))
    data = otlp.MetricsView(CUMULATIVE, RESOURCE, "1.0", 1).data(aggregate.snapshot(), 2)
    [metric] = [
        metric
        for metric in encode_metrics(data).resource_metrics[0].scope_metrics[0].metrics
        if metric.name == "call_initiation.duration"
    ]
    [point] = metric.exponential_histogram.data_points
    assert (4, 4.9, 1, 5) == (point.count, round(point.sum, 9), point.zero_count, point.scale)
    counts = dict(enumerate(point.positive.bucket_counts, point.positive.offset))
    assert {-1: 1, 29: 1, 31: 1} == {index: count for index, count in counts.items() if count}
    assert {SPAN.span_id.to_bytes(8, "big")} == {exemplar.span_id for exemplar in point.exemplars}


@settings(max_examples=40)
@given(st.lists(st.tuples(st.lists(st.floats(0, 1e6), max_size=4), st.booleans()), max_size=12))
def test_the_exponential_deltas_that_arrived_add_up(steps: list[tuple[list[float], bool]]) -> None:
    """Bucket by bucket, at the coarsest scale that was shown."""
    aggregate = Aggregate(is_exponential=True)
    view = otlp.MetricsView(DELTA, RESOURCE, "1.0", 0)
    arrived: list[ExponentialHistogramDataPoint] = []
    for now, (durations, arrives) in enumerate([*steps, ([1.0], True)]):
        for duration in durations:
            aggregate.record(replace(ACCEPTED, duration=duration))
        data = view.data(aggregate.snapshot(), now)
        shown = [m.data for m in data.resource_metrics[0].scope_metrics[0].metrics if m.name == catalogue.DURATION.name]
        if arrives:
            view.delivered()
            arrived += [point for one in shown if isinstance(one, ExponentialHistogram) for point in one.data_points]
    values = [value for durations, _ in [*steps, ([1.0], True)] for value in durations]
    assert (len(values), len([value for value in values if value < 1e-9])) == (
        sum(point.count for point in arrived),
        sum(point.zero_count for point in arrived),
    )
    scale = min(point.scale for point in arrived)
    seen: Counter[int] = Counter()
    for point in arrived:
        for index, count in enumerate(point.positive.bucket_counts, point.positive.offset):
            seen[index >> (point.scale - scale)] += count
    expected = Counter((ceil(log2(value) * 32) - 1) >> (5 - scale) for value in values if value >= 1e-9)
    assert expected == +seen
