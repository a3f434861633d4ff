"""The catalogue's names are fit for Prometheus and OpenTelemetry, and its worst case is small."""

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from opentelemetry.semconv._incubating.attributes import url_attributes
from opentelemetry.semconv.attributes import error_attributes, http_attributes, server_attributes

from call_initiation import catalogue
from call_initiation.catalogue import ATTRIBUTES, METRICS, Kind, Metric
from call_initiation.gateway.admission import Reason

PREFIX = "call_initiation"
RESERVED_LABELS = {"le", "quantile", "job", "instance"}
RESERVED_SUFFIXES = ("_bucket", "_count", "_sum", "_created")
ATTRIBUTE_TYPES = {"string", "int", "double", "boolean", "string[]"}

each_metric = pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)


def _samples(metric: Metric) -> int:
    """A histogram's tuple of labels has its buckets, +Inf, `_count` and `_sum`."""
    series = metric.max_series if metric.labels else 1
    return series * (len((*metric.buckets, "+Inf", "_count", "_sum")) if metric.kind is Kind.HISTOGRAM else 1)


def _exposition(metric: Metric) -> Iterator[str]:
    """Write a metric as Prometheus's text format has it, with one tuple of labels."""
    name = metric.prometheus_name
    yield f"# HELP {name} {metric.help}"
    yield f"# TYPE {name} {metric.kind}"
    labels = "".join(f'{label}="x",' for label in metric.labels)
    if metric.kind is not Kind.HISTOGRAM:
        yield f"{name}{{{labels}}} 1"
        return
    yield from (f'{name}_bucket{{{labels}le="{bound}"}} 1' for bound in (*metric.buckets, "+Inf"))
    yield f"{name}_sum{{{labels}}} 1"
    yield f"{name}_count{{{labels}}} 1"


@each_metric
def test_names_are_dotted_snake_case_under_one_prefix(metric: Metric) -> None:
    """OpenTelemetry's rule for names, and ours that all begin alike."""
    assert re.fullmatch(rf"{PREFIX}(\.[a-z]+(_[a-z]+)*)+", metric.name)


@each_metric
def test_prometheus_names_follow_from_opentelemetry_names(metric: Metric) -> None:
    """Dots become underscores; the unit and `_total` come last, and only where they belong."""
    name = metric.prometheus_name
    assert re.fullmatch(rf"{PREFIX}(_[a-z]+)+", name)
    assert (metric.kind is Kind.COUNTER) == name.endswith("_total")
    assert (metric.unit == "s") == name.removesuffix("_total").endswith("_seconds")
    assert not name.endswith(RESERVED_SUFFIXES)


@each_metric
def test_units_are_base_units(metric: Metric) -> None:
    """Seconds, a count of something in UCUM's braces, or none for a flag."""
    assert re.fullmatch(r"s|\{[a-z]+\}|", metric.unit)


@each_metric
def test_help_is_a_sentence(metric: Metric) -> None:
    """Help begins with a capital letter, ends with a period and is one line."""
    assert re.fullmatch(r"[A-Z][^\n]*\.", metric.help)


@each_metric
def test_labels_are_valid_and_not_reserved(metric: Metric) -> None:
    """Label names are snake case, appear once, and belong neither to Prometheus nor to a scrape's target."""
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", label) for label in metric.labels)
    assert len(metric.labels) == len(set(metric.labels))
    assert set() == RESERVED_LABELS & set(metric.labels)


@each_metric
def test_folds_are_labels_of_the_metric(metric: Metric) -> None:
    """Only a label that is there can be folded, and once."""
    assert set() == set(metric.folds) - set(metric.labels)
    assert len(metric.folds) == len(set(metric.folds))


@each_metric
def test_buckets_rise_and_belong_to_histograms(metric: Metric) -> None:
    """A histogram has buckets, finite and in order; nothing else has."""
    assert (metric.kind is Kind.HISTOGRAM) == bool(metric.buckets)
    assert sorted(set(metric.buckets)) == list(metric.buckets)
    assert float("inf") not in metric.buckets


def test_every_metric_is_listed_once() -> None:
    """METRICS holds each Metric of the module, and no two have a Prometheus name in common."""
    defined = {value.name for value in vars(catalogue).values() if isinstance(value, Metric)}
    assert defined == {metric.name for metric in METRICS}
    assert len(METRICS) == len({metric.prometheus_name for metric in METRICS})


def test_a_scrape_holds_2000_samples_at_worst() -> None:
    """Every metric at its cap, histograms with all their samples."""
    assert sum(map(_samples, METRICS)) <= 2000


def test_the_gateway_has_a_series_for_each_reason() -> None:
    """The labels are a closed set."""
    assert len(Reason) == catalogue.GATEWAY_REFUSALS.max_series


def test_promtool_finds_nothing_to_say(engine: Callable[[str], Path]) -> None:
    """Prometheus's own linter reads the names, kinds and help texts and stays silent."""
    text = "\n".join(line for metric in METRICS for line in _exposition(metric)) + "\n"
    command = [str(engine("promtool")), "check", "metrics"]
    linted = subprocess.run(command, input=text, capture_output=True, text=True, check=False)  # noqa: S603 - ours
    assert ("", "", 0) == (linted.stdout, linted.stderr, linted.returncode)


def test_attributes_are_unique_and_typed() -> None:
    """Each attribute is listed once, with a type that OpenTelemetry has, a sentence and an example."""
    assert len(ATTRIBUTES) == len({attribute.name for attribute in ATTRIBUTES})
    assert set() == {attribute.type for attribute in ATTRIBUTES} - ATTRIBUTE_TYPES
    assert all(re.fullmatch(r"[A-Z][^\n]*\.", attribute.help) for attribute in ATTRIBUTES)
    assert all(attribute.example for attribute in ATTRIBUTES)


def test_semantic_conventions_are_spelled_as_opentelemetry_spells_them() -> None:
    """Names that aren't ours are exactly those of the conventions' own package."""
    borrowed = {attribute.name for attribute in ATTRIBUTES if not attribute.name.startswith(f"{PREFIX}.")}
    assert {
        http_attributes.HTTP_REQUEST_METHOD,
        http_attributes.HTTP_RESPONSE_STATUS_CODE,
        url_attributes.URL_TEMPLATE,
        server_attributes.SERVER_ADDRESS,
        server_attributes.SERVER_PORT,
        error_attributes.ERROR_TYPE,
    } == borrowed


def test_our_attributes_are_dotted_snake_case() -> None:
    """OpenTelemetry's rule for attributes' names; no name is also the namespace of another but `…agent.id`."""
    ours = {attribute.name for attribute in ATTRIBUTES if attribute.name.startswith(f"{PREFIX}.")}
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*(\.[a-z]+(_[a-z]+)*)+", name) for name in ours)
    parents = {name for name in ours if any(other.startswith(f"{name}.") for other in ours)}
    assert {f"{PREFIX}.agent.id", f"{PREFIX}.agent.state"} == parents
