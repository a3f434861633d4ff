"""NRQL from the catalogue: a name that isn't there fails the build, and not a query at three at night.

In New Relic a metric's name is what is folded (`sum(call_initiation.attempts)`), its labels are attributes of `Metric`;
spans' attributes are attributes of `Span`, and those of failure events are attributes of a type of event of their own.
Deltas become counts, which `sum` adds up over any time (docs.newrelic.com, "OpenTelemetry metrics in New Relic").
"""

from typing import Final

from call_initiation.catalogue import ATTEMPTS, ATTRIBUTES, Kind, Metric
from call_initiation.events import Outcome
from call_initiation.telemetry.presets import EVENT_TYPE

ALL: Final = "FROM Metric"
"""All metrics that the account has."""

SERVICE: Final = "service.name IN ({{service}})"
"""What a dashboard's reader chose."""

AGENT: Final = "call_initiation.agent.id LIKE {{agent}}"

FAILURES: Final = EVENT_TYPE

_NAMES: Final = {attribute.name for attribute in ATTRIBUTES}


def attribute(name: str) -> str:
    """Return an attribute's name.

    Raises:
        ValueError: It isn't in the catalogue.
    """
    if name not in _NAMES:
        message = f"{name} is no attribute of the catalogue"
        raise ValueError(message)
    return name


def label(metric: Metric, name: str) -> str:
    """Return a metric's label.

    Raises:
        ValueError: The metric has no such label.
    """
    if name not in metric.labels:
        message = f"{metric.name} has no label {name}"
        raise ValueError(message)
    return name


def total(metric: Metric) -> str:
    """Return how often, in the time that is asked for.

    Raises:
        ValueError: The metric is no counter.
    """
    if metric.kind is not Kind.COUNTER:
        message = f"{metric.name} is a {metric.kind}: sums of it say nothing"
        raise ValueError(message)
    return f"sum({metric.name})"


def test(metric: Metric, name: str, *values: str) -> str:
    """Return the test that a label has one of these values."""
    inside = ", ".join(f"'{value}'" for value in values)
    return f"{label(metric, name)} IN ({inside})" if len(values) > 1 else f"{label(metric, name)} = {inside}"


def percent(metric: Metric, name: str, *values: str) -> str:
    """Return what part of a counter has one of these values, in percent."""
    return f"100 * filter({total(metric)}, WHERE {test(metric, name, *values)}) / {total(metric)}"


REJECTED: Final = test(ATTEMPTS, "outcome", Outcome.REJECTED)
REJECTED_PERCENT: Final = percent(ATTEMPTS, "outcome", Outcome.REJECTED)
FAILED_PERCENT: Final = percent(ATTEMPTS, "outcome", Outcome.FAILED, Outcome.NOT_SENT, Outcome.AMBIGUOUS)
"""What neither validation nor our credentials explain: the provider, the network, or our side."""
