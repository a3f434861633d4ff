"""What `meters` promises: a dialer's own reader sees our numbers, and its exemplars point at our spans."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider, TraceBasedExemplarFilter
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader, NumberDataPoint

from call_initiation import catalogue
from call_initiation.calls.endpoints import CALLS_OF_USER
from call_initiation.catalogue import Metric
from call_initiation.events import (
    NO_AGENT,
    Attempt,
    Event,
    FeedChange,
    FeedState,
    LateChange,
    NotificationTaken,
    SkewChange,
)
from call_initiation.recording.aggregate import Aggregate, Labels
from call_initiation.telemetry import otlp
from call_initiation.telemetry.meters import MeterSink
from samples import ACCEPTED, REFUSED, SPAN

Points = dict[tuple[object, ...], NumberDataPoint | HistogramDataPoint]
Read = Callable[[Metric], Points]


def reading(*events: Event) -> Read:
    """Record events in an aggregate and a dialer's own pipeline; return what its reader reads, by metric."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], exemplar_filter=TraceBasedExemplarFilter(), shutdown_on_exit=False)
    aggregate = Aggregate()
    sink = MeterSink(provider, "1.0", aggregate.snapshot)
    for event in events:
        aggregate.record(event)
        sink.record(event)
    data = reader.get_metrics_data()
    provider.shutdown()
    assert data is not None
    [scope] = data.resource_metrics[0].scope_metrics
    assert otlp.scope("1.0") == scope.scope
    found = {metric.name: metric for metric in scope.metrics}

    def read(metric: Metric) -> Points:
        shown = found[metric.name]
        assert (metric.help, metric.unit) == (shown.description, shown.unit)
        points = shown.data.data_points
        return {tuple((point.attributes or {})[label] for label in metric.labels): point for point in points}

    return read


def test_counters_and_gauges_are_read_from_the_aggregate() -> None:
    """The dialer's reader sees what a scraper would see."""
    read = reading(REFUSED, REFUSED, LateChange(agent_id="a", at=1.0), FeedChange(state=FeedState.UP, at=1.0))
    code = "conversation.error.no.user.station"
    [[labels, point]] = read(catalogue.ATTEMPTS).items()
    assert (CALLS_OF_USER, "rejected", "400", code, "on_call") == labels
    assert 2 == point.value
    assert 1 == read(catalogue.STATE_JOINS_LATE)[()].value
    assert 1 == read(catalogue.FEED_UP)[()].value


def test_the_numbers_of_a_collection_are_of_one_snapshot() -> None:
    """Whoever collects: the books balance there, as they do in every snapshot; the next collection has new ones."""
    readers = [InMemoryMetricReader(), InMemoryMetricReader()]
    provider = MeterProvider(readers, shutdown_on_exit=False)
    aggregate, snapshots = Aggregate(), count(1)
    accounts = (catalogue.RECORDER_RECORDED, catalogue.RECORDER_EXPORTED)

    def source() -> Iterator[tuple[Metric, Labels, float]]:
        number = next(snapshots)
        for metric in accounts:
            yield metric, ("spans",), number

    aggregate.add_source(source)
    MeterSink(provider, "1.0", aggregate.snapshot)
    collections = []
    for reader in [*readers, *readers]:
        data = reader.get_metrics_data()
        assert data is not None
        shown = data.resource_metrics[0].scope_metrics[0].metrics
        collections.append([point.value for metric in shown for point in metric.data.data_points])
    provider.shutdown()
    assert [[1, 1], [2, 2], [3, 3], [4, 4]] == collections


def test_durations_and_ages_are_histograms_with_our_buckets() -> None:
    """Recorded call by call; a call of an unknown agent has no age."""
    read = reading(ACCEPTED, replace(ACCEPTED, agent=NO_AGENT))
    duration = read(catalogue.DURATION)[CALLS_OF_USER, "accepted"]
    age = read(catalogue.AGENT_STATE_AGE)["accepted", "on_call"]
    assert (2, catalogue.DURATION.buckets) == (duration.count, tuple(duration.explicit_bounds))
    assert (1, catalogue.AGENT_STATE_AGE.buckets, 12.5) == (age.count, tuple(age.explicit_bounds), age.sum)


def test_the_feeds_lag_is_a_histogram_too() -> None:
    """Of the notifications that carry a time."""
    read = reading(
        NotificationTaken(topic="presence", lag=0.07), NotificationTaken(topic="presence"), SkewChange(seconds=1.0)
    )
    [point] = read(catalogue.FEED_EVENT_LAG).values()
    assert (1, 0.07, catalogue.FEED_EVENT_LAG.buckets) == (point.count, point.sum, tuple(point.explicit_bounds))
    assert 2 == read(catalogue.FEED_EVENTS)["presence",].value
    assert 1 == read(catalogue.FEED_CLOCK_SKEW)[()].value


@pytest.mark.parametrize(
    ("attempt", "expected"),
    [
        (ACCEPTED, [(SPAN.trace_id, SPAN.span_id)]),
        (replace(REFUSED, span=replace(SPAN, sampled=False)), [(SPAN.trace_id, SPAN.span_id)]),
        (replace(ACCEPTED, span=replace(SPAN, sampled=False)), []),
        (replace(REFUSED, span=replace(SPAN, sampled=False, adopted=True)), []),
        (replace(ACCEPTED, span=None), []),
    ],
    ids=["sampled", "unsampled failure", "unsampled success", "unsampled and not ours", "no span"],
)
def test_the_dialers_exemplars_point_at_exported_spans(attempt: Attempt, expected: list[tuple[int, int]]) -> None:
    """A failure's span is exported whatever the sampler said; an unsampled success's isn't."""
    [point] = reading(attempt)(catalogue.DURATION).values()
    assert expected == [(exemplar.trace_id, exemplar.span_id) for exemplar in point.exemplars]


@pytest.mark.parametrize(
    "metric", [catalogue.DURATION, catalogue.AGENT_STATE_AGE, catalogue.FEED_EVENT_LAG, catalogue.ATTEMPTS]
)
def test_no_exemplar_points_at_a_span_that_happens_to_be_current(metric: Metric) -> None:
    """Neither the one that another instrumentation gave the recorder's thread, nor the one in which somebody reads."""
    current = trace.SpanContext(1, 2, is_remote=False, trace_flags=trace.TraceFlags(trace.TraceFlags.SAMPLED))
    with trace.use_span(trace.NonRecordingSpan(current)):
        read = reading(replace(ACCEPTED, span=None), NotificationTaken(topic="presence", lag=0.07))
    [point] = read(metric).values()
    assert [] == list(point.exemplars)
