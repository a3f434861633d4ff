"""The aggregate as Prometheus sees it: a `prometheus_client` collector over one snapshot per scrape."""

from collections.abc import Callable, Iterator
from itertools import accumulate

from prometheus_client.core import Metric as PrometheusMetric
from prometheus_client.registry import Collector, CollectorRegistry
from prometheus_client.samples import Exemplar as PrometheusExemplar

from call_initiation import catalogue
from call_initiation.catalogue import Kind, Metric
from call_initiation.errors import SettingsError
from call_initiation.recording.aggregate import Distribution, Exemplar, Family, View


class SnapshotCollector(Collector):
    """Gives a registry the families of a snapshot, taken anew at each scrape."""

    def __init__(self, snapshot: Callable[[], View]) -> None:
        self._snapshot = snapshot

    def describe(self) -> Iterator[PrometheusMetric]:
        """Yield all that a scrape may have, without samples: by it a registry finds names, and names that clash."""
        yield from map(_empty, catalogue.METRICS)

    def collect(self) -> Iterator[PrometheusMetric]:
        """Yield one `prometheus_client` metric for each family."""
        for family in self._snapshot():
            yield _converted(family)


def register(registry: CollectorRegistry, snapshot: Callable[[], View]) -> SnapshotCollector:
    """Let a registry show the snapshots, and return what it then holds.

    Raises:
        SettingsError: It shows those of another exporter; a scrape would have each series twice.
    """
    collector = SnapshotCollector(snapshot)
    try:
        registry.register(collector)
    except ValueError as error:
        expected = "one without them: close the exporter that is in it first"
        raise SettingsError("registry", "one that has our metrics", expected) from error
    return collector


def _empty(metric: Metric) -> PrometheusMetric:
    return PrometheusMetric(metric.prometheus_name.removesuffix("_total"), metric.help, metric.kind.value)


def _converted(family: Family) -> PrometheusMetric:
    metric, converted = family.metric, _empty(family.metric)
    for labels, number in family.numbers.items():
        exemplar = _exemplar(number.exemplar) if metric.kind is Kind.COUNTER else None
        converted.add_sample(
            metric.prometheus_name, dict(zip(metric.labels, labels, strict=True)), number.value, None, exemplar
        )
    for labels, distribution in family.distributions.items():
        _add_histogram(converted, metric, labels, distribution)
    return converted


def _add_histogram(
    converted: PrometheusMetric, metric: Metric, labels: tuple[str, ...], distribution: Distribution
) -> None:
    named = dict(zip(metric.labels, labels, strict=True))
    bounds = [*map(str, metric.buckets), "+Inf"]
    for bucket, (bound, cumulated) in enumerate(zip(bounds, accumulate(distribution.counts), strict=True)):
        converted.add_sample(
            f"{metric.prometheus_name}_bucket",
            {**named, "le": bound},
            cumulated,
            None,
            _exemplar(distribution.exemplars.get(bucket)),
        )
    converted.add_sample(f"{metric.prometheus_name}_count", named, sum(distribution.counts))
    converted.add_sample(f"{metric.prometheus_name}_sum", named, distribution.total)


def _exemplar(exemplar: Exemplar | None) -> PrometheusExemplar | None:
    """Convert an exemplar; its label set (83 characters) stays under OpenMetrics's limit of 128."""
    if exemplar is None:
        return None
    ids = {"trace_id": f"{exemplar.trace_id:032x}", "span_id": f"{exemplar.span_id:016x}"}
    return PrometheusExemplar(ids, exemplar.value, exemplar.at)
