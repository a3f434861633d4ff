"""What `prometheus` promises: a snapshot as a scraper sees it, in both formats, whatever an error's body held."""

import json
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric as PrometheusMetric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.samples import Sample

from call_initiation import catalogue
from call_initiation.calls import responses
from call_initiation.catalogue import METRICS, Kind, Metric
from call_initiation.events import BodyState, StateLabel
from call_initiation.privacy import Mask
from call_initiation.recording.aggregate import Aggregate, Labels
from call_initiation.telemetry.prometheus import SnapshotCollector
from samples import REFUSED, SPAN

TEXT = f"""\
# HELP call_initiation_attempts_total {catalogue.ATTEMPTS.help}
# TYPE call_initiation_attempts_total counter
call_initiation_attempts_total{{agent_state="busy",endpoint="e",error_code="none",outcome="x",status_code="0"}} 3.0
# HELP call_initiation_agents {catalogue.AGENTS.help}
# TYPE call_initiation_agents gauge
call_initiation_agents{{agent_state="busy"}} 2.0
# HELP call_initiation_feed_event_lag_seconds {catalogue.FEED_EVENT_LAG.help}
# TYPE call_initiation_feed_event_lag_seconds histogram
call_initiation_feed_event_lag_seconds_bucket{{le="0.05"}} 0.0
call_initiation_feed_event_lag_seconds_bucket{{le="0.1"}} 1.0
call_initiation_feed_event_lag_seconds_bucket{{le="0.25"}} 1.0
call_initiation_feed_event_lag_seconds_bucket{{le="0.5"}} 1.0
call_initiation_feed_event_lag_seconds_bucket{{le="1.0"}} 2.0
call_initiation_feed_event_lag_seconds_bucket{{le="2.0"}} 2.0
call_initiation_feed_event_lag_seconds_bucket{{le="5.0"}} 2.0
call_initiation_feed_event_lag_seconds_bucket{{le="15.0"}} 2.0
call_initiation_feed_event_lag_seconds_bucket{{le="60.0"}} 2.0
call_initiation_feed_event_lag_seconds_bucket{{le="+Inf"}} 3.0
call_initiation_feed_event_lag_seconds_count 3.0
call_initiation_feed_event_lag_seconds_sum 61.625
"""

HOSTILE = {
    "lone surrogate": "bad\ud800request",
    "newline": 'bad\n# TYPE x counter\nx{a="b"} 1',
    "quote": 'bad"}, request',
    "backslash": "bad\\request\\",
    "line separator": "bad\u2028request",
    "null": "bad\0request",
    "long": "b" * 5_000,
}


def scrape(aggregate: Aggregate, *, is_openmetrics: bool = False) -> str:
    """Return what a scraper gets."""
    registry = CollectorRegistry()
    registry.register(SnapshotCollector(aggregate.snapshot))
    generate = openmetrics.generate_latest if is_openmetrics else generate_latest
    return generate(registry).decode()


def full() -> Aggregate:
    """Return an aggregate with a series in every metric."""
    aggregate = Aggregate()
    aggregate.record(REFUSED)
    for metric in METRICS:
        labels: Labels = tuple("x" for _ in metric.labels)
        if metric.kind is Kind.HISTOGRAM:
            aggregate.observe(metric, labels, 0.3)
        elif metric.kind is Kind.COUNTER:
            aggregate.count(metric, labels)
        else:
            aggregate.gauge(metric, labels, 4)
    return aggregate


def exemplars(families: Iterable[PrometheusMetric]) -> list[Sample]:
    """Return the samples that have an exemplar."""
    return [sample for family in families for sample in family.samples if sample.exemplar]


def test_the_whole_text_of_a_small_case() -> None:
    """A counter, a gauge and a histogram, character by character."""
    aggregate = Aggregate()
    aggregate.count(catalogue.ATTEMPTS, ("e", "x", "0", "none", "busy"), 3)
    aggregate.gauge(catalogue.AGENTS, ("busy",), 2)
    for lag in (0.0625, 0.5625, 61.0):
        aggregate.observe(catalogue.FEED_EVENT_LAG, (), lag)
    assert TEXT == scrape(aggregate)


def test_registering_asks_for_no_snapshot() -> None:
    """The registry looks for clashes of names at registration; that must not count as a scrape."""

    def snapshot() -> tuple[()]:
        pytest.fail("registering took a snapshot")

    CollectorRegistry().register(SnapshotCollector(snapshot))


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_scrape_may_ask_for_one_metric(metric: Metric) -> None:
    """By its name on `/metrics`, as `?name[]=` does, and it gets that one alone."""
    name = metric.prometheus_name + ("_count" if metric.kind is Kind.HISTOGRAM else "")
    registry = CollectorRegistry()
    registry.register(SnapshotCollector(full().snapshot))
    found = generate_latest(registry.restricted_registry([name])).decode().splitlines()
    assert {name} == {line.partition("{")[0].partition(" ")[0] for line in found if not line.startswith("#")}


def test_every_metric_of_the_catalogue_parses_in_both_formats() -> None:
    """The names and kinds that a parser finds are the catalogue's."""
    text = {family.name: family.type for family in parse_text(scrape(full()))}
    assert {metric.prometheus_name.removesuffix("_total"): metric.kind.value for metric in METRICS} == text
    strict = {family.name: family.type for family in parse_openmetrics(scrape(full(), is_openmetrics=True))}
    assert text == strict


def test_promtool_finds_nothing_to_say(engine: Callable[[str], Path]) -> None:
    """Not one lint line for all of our metrics."""
    command = [engine("promtool"), "check", "metrics"]
    checked = subprocess.run(command, input=scrape(full()), capture_output=True, text=True, check=False)  # noqa: S603 - the engine
    assert (0, "", "") == (checked.returncode, checked.stdout, checked.stderr)


def test_exemplars_are_shown_in_openmetrics_and_point_at_the_span() -> None:
    """On counters and buckets, as hexadecimal ids of full length; the plain text has no place for them."""
    aggregate = Aggregate()
    aggregate.record(REFUSED)
    found = exemplars(parse_openmetrics(scrape(aggregate, is_openmetrics=True)))
    expected = {"trace_id": f"{SPAN.trace_id:032x}", "span_id": f"{SPAN.span_id:016x}"}
    assert [expected] * 5 == [sample.exemplar.labels for sample in found if sample.exemplar]
    assert {"call_initiation_attempts_total", "call_initiation_error_codes_total"} < {sample.name for sample in found}
    assert [] == exemplars(parse_text(scrape(aggregate)))


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1))
def test_an_exemplars_labels_stay_below_128_characters(trace_id: int, span_id: int) -> None:
    """OpenMetrics's limit, beyond which `prometheus_client` fails the whole scrape."""
    aggregate = Aggregate()
    aggregate.record(replace(REFUSED, span=replace(SPAN, trace_id=trace_id, span_id=span_id)))
    for sample in exemplars(parse_openmetrics(scrape(aggregate, is_openmetrics=True))):
        assert sample.exemplar is not None
        assert sum(len(name) + len(value) for name, value in sample.exemplar.labels.items()) < 128


@pytest.mark.parametrize("code", HOSTILE.values(), ids=HOSTILE)
def test_no_code_can_hurt_a_scrape(code: str, engine: Callable[[str], Path]) -> None:
    """What isn't fit to be a label is `other` before any library sees it, and both formats parse."""
    aggregate = Aggregate()
    body = json.dumps({"code": code, "details": [{"errorCode": code}]}).encode()
    refusal = responses.parse(body, status=400, header_correlation_id=None, state=BodyState.WHOLE, mask=Mask())
    aggregate.record(replace(REFUSED, refusal=refusal))
    codes = _values(parse_openmetrics(scrape(aggregate, is_openmetrics=True)), catalogue.ERROR_CODES, "error_code")
    assert {"other"} == codes
    assert {"other"} == _values(parse_text(scrape(aggregate)), catalogue.ERROR_CODES, "error_code")
    command = [engine("promtool"), "check", "metrics"]
    assert b"" == subprocess.run(command, input=scrape(aggregate).encode(), capture_output=True, check=True).stdout  # noqa: S603 - the engine


def test_enums_appear_as_their_words() -> None:
    """Labels that are enum members inside are plain words outside."""
    aggregate = Aggregate()
    aggregate.record(REFUSED)
    states = _values(parse_text(scrape(aggregate)), catalogue.ATTEMPTS, "agent_state")
    assert {StateLabel.ON_CALL.value} == states


def _values(families: Iterable[PrometheusMetric], metric: Metric, label: str) -> set[str]:
    name = metric.prometheus_name
    return {sample.labels[label] for family in families for sample in family.samples if sample.name == name}
