"""PromQL from the catalogue: a name or a label that isn't there fails the build, and not a dashboard at three at night.

Laws: a counter stands only under `rate` or in `grown`; a dashboard's selector always has `job` and `instance`; a ratio
is 0, and not absent, where its denominator is there and its numerator isn't.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from call_initiation.catalogue import Kind, Metric

CHOSEN: Final = ('job=~"$job"', 'instance=~"$instance"')
"""What a dashboard's reader chose."""

PERIOD: Final = "$__range"
"""The whole time that a dashboard shows; for tables, which have no time axis."""

STEP: Final = "$__rate_interval"
"""A bar's time on an axis and one scrape before it, so that nothing falls between two bars."""

REMEMBERED: Final = "6h"
"""How long before a window a series is looked for: one that was there has a past, even if it wasn't scraped of late."""


def equal(value: str) -> str:
    """Return the test that a label has this value."""
    return f'="{value}"'


def other_than(value: str) -> str:
    """Return the test that a label has another value."""
    return f'!="{value}"'


def among(*values: str) -> str:
    """Return the test that a label has one of these values."""
    return f'=~"{"|".join(values)}"'


def selector(metric: Metric, tests: Mapping[str, str], scope: tuple[str, ...] = (), part: str = "") -> str:
    """Return a metric's selector.

    Args:
        metric: Of the catalogue.
        tests: By label, one of this module's tests.
        scope: Matchers on labels that the scrape adds.
        part: `_bucket`, `_count` or `_sum` of a histogram.

    Raises:
        ValueError: The metric has no such label, or no such part.
    """
    _known(metric, tests)
    if bool(part) != (metric.kind is Kind.HISTOGRAM):
        message = f"{metric.name} is a {metric.kind}: {part or 'no part'} doesn't fit it"
        raise ValueError(message)
    inside = ",".join((*(f"{label}{test}" for label, test in tests.items()), *scope))
    return f"{metric.prometheus_name}{part}" + (f"{{{inside}}}" if inside else "")


def rate(metric: Metric, *by: str, **tests: str) -> str:
    """Return how often a second, now; by these labels, over all chosen instances."""
    return _folded(metric, "sum", by, f"rate({selector(metric, tests, CHOSEN)}[$__rate_interval])")


def increase(metric: Metric, *by: str, over: str = PERIOD, offset: str = "", **tests: str) -> str:
    """Return how often in a length of time, and maybe earlier; by these labels (a histogram's by `le`)."""
    part = "_bucket" if metric.kind is Kind.HISTOGRAM else ""
    return _folded(metric, "sum", by, grown(selector(metric, tests, CHOSEN, part), over, offset))


def grown(counter: str, window: str, offset: str = "") -> str:
    """Return how much each series of a counter grew in a window, its first value included.

    `increase` can't see a series' first value, which is all that there is of what happens once: a series that wasn't
    there before the window has counted from 0.
    """
    then = f" offset {offset}" if offset else ""
    began = f"last_over_time({counter}[{window}]{then})"
    before = f"last_over_time({counter}[{REMEMBERED}] offset {offset}{window})"
    return f"\n{began}\nunless {before}\nor increase({counter}[{window}]{then})\n"


def gauge(metric: Metric, *by: str, fold: str = "sum", **tests: str) -> str:
    """Return a gauge now, folded over all chosen instances."""
    return _folded(metric, fold, by, selector(metric, tests, CHOSEN))


def buckets(metric: Metric, *by: str, **tests: str) -> str:
    """Return the rate of each of a histogram's buckets."""
    inner = f"rate({selector(metric, tests, CHOSEN, '_bucket')}[$__rate_interval])"
    return _folded(metric, "sum", ("le", *by), inner)


def quantile(share: float, metric: Metric, *by: str, **tests: str) -> str:
    """Return a quantile of a histogram."""
    return f"histogram_quantile({share}, {buckets(metric, *by, **tests)})"


def ratio(part: str, whole: str) -> str:
    """Return a share that is 0 where nothing is counted in the part."""
    return f"({part} or {whole} * 0) / {whole}"


def _folded(metric: Metric, fold: str, by: tuple[str, ...], inner: str) -> str:
    _known(metric, by)
    return f"{fold} by ({', '.join(by)}) ({inner})" if by else f"{fold}({inner})"


def _known(metric: Metric, labels: Iterable[str]) -> None:
    added = {"job", "instance"} | ({"le"} if metric.kind is Kind.HISTOGRAM else set())
    if unknown := set(labels) - added - set(metric.labels):
        message = f"{metric.name} has no label {', '.join(sorted(unknown))}"
        raise ValueError(message)
