"""The aggregate as Prometheus sees it: a `prometheus_client` collector over one snapshot per scrape."""

from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate

from prometheus_client.core import Metric as PrometheusMetric
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar as PrometheusExemplar

from call_initiation.catalogue import Kind, Metric
from call_initiation.recording.aggregate import Distribution, Exemplar, Family, View


class SnapshotCollector(Collector):
    """Gives a registry the families of a snapshot, taken anew at each scrape."""

    def __init__(self, snapshot: Callable[[], View]) -> None:
        self._snapshot = snapshot

    def describe(self) -> Iterable[PrometheusMetric]:
        """Return nothing: the registry then doesn't scrape us when we register."""
        return ()

    def collect(self) -> Iterator[PrometheusMetric]:
        """Yield one `prometheus_client` metric for each family."""
        for family in self._snapshot():
            yield _converted(family)


def _converted(family: Family) -> PrometheusMetric:
    metric = family.metric
    base = metric.prometheus_name.removesuffix("_total")
    converted = PrometheusMetric(base, metric.help, metric.kind.value)
    for labels, number in family.numbers.items():
        exemplar = _exemplar(number.exemplar) if metric.kind is Kind.COUNTER else None
        converted.add_sample(
            metric.prometheus_name, dict(zip(metric.labels, labels, strict=True)), number.value, None, exemplar
        )
    for labels, distribution in family.distributions.items():
        _add_histogram(converted, base, metric, labels, distribution)
    return converted


def _add_histogram(
    converted: PrometheusMetric, base: str, metric: Metric, labels: tuple[str, ...], distribution: Distribution
) -> None:
    named = dict(zip(metric.labels, labels, strict=True))
    bounds = [*map(str, metric.buckets), "+Inf"]
    for bucket, (bound, cumulated) in enumerate(zip(bounds, accumulate(distribution.counts), strict=True)):
        converted.add_sample(
            f"{base}_bucket",
            {**named, "le": bound},
            cumulated,
            None,
            _exemplar(distribution.exemplars.get(bucket)),
        )
    converted.add_sample(f"{base}_count", named, sum(distribution.counts))
    converted.add_sample(f"{base}_sum", named, distribution.total)


def _exemplar(exemplar: Exemplar | None) -> PrometheusExemplar | None:
    """Convert an exemplar; its label set (83 characters) stays under OpenMetrics's limit of 128."""
    if exemplar is None:
        return None
    ids = {"trace_id": f"{exemplar.trace_id:032x}", "span_id": f"{exemplar.span_id:016x}"}
    return PrometheusExemplar(ids, exemplar.value, exemplar.at)
