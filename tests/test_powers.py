"""What `powers` promises: each value is in the bucket that OpenTelemetry's data model says, and none gets lost."""

from collections.abc import Sequence
from math import inf, nextafter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import ExponentialHistogram, InMemoryMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View

from call_initiation.recording.powers import MOST, SCALE, Fitted, Powers

lengths = st.floats(0, 1e9, allow_nan=False)


def counted(values: Sequence[float]) -> Powers:
    """Return these values' buckets."""
    powers = Powers()
    for value in values:
        powers.add(value)
    return powers


def bound(index: int, scale: int) -> float:
    """Return where a bucket begins."""
    return float(2 ** (index * 2.0**-scale))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], Fitted(SCALE, 0, [])),
        ([0.0, -1.0, 1e-10], Fitted(SCALE, 0, [])),
        ([1.0], Fitted(SCALE, -1, [1])),
        ([nextafter(1.0, inf), 1.0, 0.9999], Fitted(SCALE, -1, [2, 1])),
        ([2.0, 2.0], Fitted(SCALE, 2**SCALE - 1, [2])),
        ([1.0, 1024.0], Fitted(3, -1, [1, *[0] * 79, 1])),
    ],
    ids=["nothing", "zeros", "a bound", "about a bound", "a power", "far apart"],
)
def test_values_are_in_the_buckets_of_the_data_model(values: list[float], expected: Fitted) -> None:
    """A bucket's upper bound is in it, its lower one isn't; what is far apart is shown at a coarser scale."""
    assert expected == counted(values).fitted()


@given(st.lists(lengths, max_size=60))
def test_no_value_is_lost_and_each_is_between_its_bounds(values: list[float]) -> None:
    """Whatever the scale that they are shown at; in 160 buckets at most."""
    powers = counted(values)
    shown = powers.fitted()
    assert len(values) == powers.zeros + sum(shown.counts)
    assert len(shown.counts) <= MOST
    for value in (value for value in values if value >= 1e-9):
        within = [
            count
            for at, count in enumerate(shown.counts, shown.offset)
            if bound(at, shown.scale) * (1 - 1e-12) <= value <= bound(at + 1, shown.scale) * (1 + 1e-12)
        ]
        assert any(within)


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=30))
def test_the_sdk_puts_the_values_into_the_same_buckets(values: list[float]) -> None:
    """OpenTelemetry's own aggregation, told to begin at our scale: an oracle that wasn't written here."""
    reader = InMemoryMetricReader()
    aggregation = ExponentialBucketHistogramAggregation(max_size=MOST, max_scale=SCALE)
    provider = MeterProvider(
        [reader], views=[View(instrument_name="x", aggregation=aggregation)], shutdown_on_exit=False
    )
    histogram = provider.get_meter("m").create_histogram("x")
    for value in values:
        histogram.record(value)
    found = reader.get_metrics_data()
    assert found is not None
    data = found.resource_metrics[0].scope_metrics[0].metrics[0].data
    assert isinstance(data, ExponentialHistogram)
    [point] = data.data_points
    ours = counted(values).fitted()
    assert (point.scale, point.positive.offset) == (ours.scale, ours.offset)
    assert list(point.positive.bucket_counts)[: len(ours.counts)] == ours.counts
    assert sum(point.positive.bucket_counts) == sum(ours.counts)


@given(st.lists(lengths), st.lists(lengths))
def test_what_came_since_is_what_was_added(before: list[float], after: list[float]) -> None:
    """A copy stays as it is while its original goes on."""
    powers = counted(before)
    earlier = powers.copy()
    for value in after:
        powers.add(value)
    assert counted(before) == earlier
    assert counted(after) == powers.since(earlier)
