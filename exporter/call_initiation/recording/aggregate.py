"""The one aggregate: counters, histograms and gauges by label tuple, with exemplars and caps.

Everything that shows a number (the Prometheus text, OTLP, the page) reads a snapshot of it, so they can't disagree.

Laws: a series once opened only grows, until the process ends; a metric never has more than its `max_series` label
tuples (plus those of what fits nowhere: one, and one each where no code or no status is what there was); what is folded
away is counted under `other`, so that every sum stays exact; `none` is never folded, for `other` would be a refusal.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import Final, NamedTuple, assert_never

from call_initiation import catalogue
from call_initiation.catalogue import Metric
from call_initiation.events import (
    Attempt,
    Event,
    FeedChange,
    FeedState,
    LateChange,
    LegFailure,
    NotificationTaken,
    Refusal,
    SkewChange,
    StateChange,
)
from call_initiation.privacy import OTHER, LabelCap
from call_initiation.recording.powers import Powers

NONE: Final = "none"
Labels = tuple[str, ...]


class Exemplar(NamedTuple):
    """A call that stands for others in a series: its value, its place in a trace, seconds since the epoch."""

    value: float
    trace_id: int
    span_id: int
    at: float


@dataclass(slots=True)
class Number:
    """A counter's or a gauge's value."""

    value: float = 0.0
    exemplar: Exemplar | None = None

    def copy(self) -> "Number":
        """Return a copy that no later event changes."""
        return Number(self.value, self.exemplar)


@dataclass(slots=True)
class Distribution:
    """A histogram's buckets (not cumulative; the last is +Inf), their sum, and the last exemplar of each bucket.

    Where exponential histograms are wanted, the values are in exponential buckets besides.
    """

    counts: list[int]
    total: float = 0.0
    exemplars: dict[int, Exemplar] = field(default_factory=dict[int, Exemplar])
    powers: Powers | None = None

    def copy(self) -> "Distribution":
        """Return a copy that no later event changes."""
        powers = self.powers and self.powers.copy()
        return Distribution(self.counts.copy(), self.total, self.exemplars.copy(), powers)

    def since(self, earlier: "Distribution | None") -> "Distribution":
        """Return what was added after an earlier copy was made; all of it where there was none."""
        if earlier is None:
            return self
        counts = [now - before for now, before in zip(self.counts, earlier.counts, strict=True)]
        powers = self.powers and earlier.powers and self.powers.since(earlier.powers)
        return Distribution(counts, self.total - earlier.total, self.exemplars, powers)


class _Series(NamedTuple):
    """The series that an attempt touches: what it counts in, with an exemplar or without, and its two distributions."""

    shown: tuple[Number, ...]
    counted: tuple[Number, ...]
    durations: Distribution
    ages: Distribution | None


_Kind = tuple[object, ...]
_MOST_KINDS: Final = 1024


@dataclass(frozen=True, slots=True)
class Family:
    """A metric and its series at the moment of a snapshot; numbers for counters and gauges, else distributions."""

    metric: Metric
    numbers: dict[Labels, Number] = field(default_factory=dict[Labels, Number])
    distributions: dict[Labels, Distribution] = field(default_factory=dict[Labels, Distribution])


View = tuple[Family, ...]
Source = Callable[[], Iterable[tuple[Metric, Labels, float]]]
"""Numbers that live elsewhere and are asked for at each snapshot."""


class Aggregate:
    """All numbers of one exporter; a `Sink`.

    Written by the recorder's thread, read by any.

    Args:
        is_exponential: Keep exponential buckets of each histogram besides its own.
    """

    def __init__(self, *, is_exponential: bool = False) -> None:
        self._is_exponential = is_exponential
        self._sources: list[Source] = []
        self.reset()

    def reset(self) -> None:
        """Begin anew at zero, as a forked child must."""
        self._lock = Lock()
        self._numbers: dict[str, dict[Labels, Number]] = {}
        self._distributions: dict[str, dict[Labels, Distribution]] = {}
        self._codes = LabelCap()
        self._folded = 0
        self._series: dict[_Kind, _Series] = {}

    def add_source(self, source: Source) -> None:
        """Ask `source` for its numbers at each snapshot."""
        self._sources.append(source)

    def record(self, event: Event) -> None:
        """Count one event in every metric that it touches."""
        with self._lock:
            match event:
                case Attempt():
                    self._attempt(event)
                case StateChange():
                    self._count(catalogue.AGENT_STATE_CHANGES, (event.before, event.after))
                case LateChange():
                    self._count(catalogue.STATE_JOINS_LATE, ())
                case FeedChange():
                    self._feed(event)
                case NotificationTaken():
                    self._notification(event)
                case LegFailure():
                    self._count(catalogue.ASYNC_FAILURES, (self._code(event.error_code), event.label))
                case SkewChange():
                    self._number(catalogue.FEED_CLOCK_SKEW, ()).value = event.seconds
                case _:
                    assert_never(event)

    def count(self, metric: Metric, labels: Labels, amount: float = 1.0) -> None:
        """Add to a counter."""
        with self._lock:
            self._count(metric, labels, amount)

    def observe(self, metric: Metric, labels: Labels, value: float) -> None:
        """Add a value to a histogram."""
        with self._lock:
            self._observe(metric, labels, value)

    def gauge(self, metric: Metric, labels: Labels, value: float) -> None:
        """Set a gauge."""
        with self._lock:
            self._number(metric, labels).value = value

    def numbers(self, metric: Metric) -> dict[Labels, float]:
        """Return how a counter or a gauge stands now."""
        with self._lock:
            return {labels: number.value for labels, number in self._numbers.get(metric.name, {}).items()}

    def snapshot(self) -> View:
        """Return every metric that has a series, in the catalogue's order, as it stands now."""
        asked = [row for source in self._sources for row in source()]
        with self._lock:
            numbers = {name: {k: v.copy() for k, v in series.items()} for name, series in self._numbers.items()}
            distributions = {
                name: {k: v.copy() for k, v in series.items()} for name, series in self._distributions.items()
            }
        for metric, labels, value in asked:
            numbers.setdefault(metric.name, {})[labels] = Number(value)
        return tuple(
            Family(metric, numbers.get(metric.name, {}), distributions.get(metric.name, {}))
            for metric in catalogue.METRICS
            if metric.name in numbers or metric.name in distributions
        )

    def _attempt(self, attempt: Attempt) -> None:
        kind = _kind(attempt)
        series, exemplar = self._series.get(kind) or self._find(attempt, kind), _exemplar(attempt)
        for number in series.counted:
            number.value += 1
        for number in series.shown:
            number.value += 1
            number.exemplar = exemplar or number.exemplar
        _add(catalogue.DURATION, series.durations, attempt.duration, exemplar)
        if series.ages is not None and attempt.agent.age is not None:
            _add(catalogue.AGENT_STATE_AGE, series.ages, attempt.agent.age, exemplar)

    def _find(self, attempt: Attempt, kind: _Kind) -> _Series:
        """Find the series of an attempt, and keep them for others of its kind unless something had to be folded."""
        folded = self._folded
        outcome, age, state = attempt.outcome, attempt.agent.age, attempt.agent.label
        series = _Series(
            tuple(self._shown(attempt, attempt.refusal)),
            tuple(self._counted(attempt)),
            self._distribution(catalogue.DURATION, (attempt.endpoint, outcome)),
            None if age is None else self._distribution(catalogue.AGENT_STATE_AGE, (outcome, state)),
        )
        if folded == self._folded:
            if len(self._series) >= _MOST_KINDS:
                self._series.clear()
            self._series[kind] = series
        return series

    def _shown(self, attempt: Attempt, refusal: Refusal | None) -> Iterator[Number]:
        state = attempt.agent.label
        status = NONE if attempt.status_code is None else str(attempt.status_code)
        code = self._code(attempt.error_code)
        yield self._number(catalogue.ATTEMPTS, (attempt.endpoint, attempt.outcome, status, code, state))
        if refusal is not None:
            for code in refusal.codes:
                yield self._number(catalogue.ERROR_CODES, (self._code(code), refusal.category, state))

    def _counted(self, attempt: Attempt) -> Iterator[Number]:
        yield self._number(catalogue.STATE_JOINS, (attempt.agent.state.certainty, attempt.agent.state.source))
        for finding in attempt.findings:
            yield self._number(catalogue.PAYLOAD_FINDINGS, (finding, attempt.outcome))
        if attempt.suspected_duplicate:
            yield self._number(catalogue.SUSPECTED_DUPLICATES, (attempt.endpoint,))

    def _feed(self, change: FeedChange) -> None:
        is_up = change.state is FeedState.UP
        self._number(catalogue.FEED_UP, ()).value = float(is_up)
        if is_up and change.reason:
            self._count(catalogue.FEED_RECONNECTS, (change.reason,))

    def _notification(self, taken: NotificationTaken) -> None:
        self._count(catalogue.FEED_EVENTS, (taken.topic,))
        if taken.lag is not None:
            self._observe(catalogue.FEED_EVENT_LAG, (), taken.lag)

    def _code(self, code: str) -> str:
        if code == NONE:
            return NONE
        folded, is_overflow = self._codes.fold(code)
        if is_overflow:
            self._count_folded("error_code")
        return folded

    def _count_folded(self, label: str) -> None:
        self._folded += 1
        self._number(catalogue.LABEL_OVERFLOW, (label,)).value += 1

    def _count(self, metric: Metric, labels: Labels, amount: float = 1.0) -> None:
        self._number(metric, labels).value += amount

    def _observe(self, metric: Metric, labels: Labels, value: float) -> None:
        _add(metric, self._distribution(metric, labels), value, None)

    def _distribution(self, metric: Metric, labels: Labels) -> Distribution:
        series = self._distributions.setdefault(metric.name, {})
        found = series.get(labels)
        if found is None:
            labels = self._fit(metric, labels, series)
            powers = Powers() if self._is_exponential else None
            found = series.setdefault(labels, Distribution([0] * (len(metric.buckets) + 1), powers=powers))
        return found

    def _number(self, metric: Metric, labels: Labels) -> Number:
        series = self._numbers.setdefault(metric.name, {})
        found = series.get(labels)
        if found is None:
            found = series.setdefault(self._fit(metric, labels, series), Number())
        return found

    def _fit(self, metric: Metric, labels: Labels, series: Mapping[Labels, object]) -> Labels:
        """Return `labels`, folded as far as the metric's room demands.

        A fifth of the room is kept for folded tuples, so that a flood of codes still leaves the states apart.
        """
        if len(series) < metric.max_series - metric.max_series // 5 or not metric.folds:
            return labels
        folded = list(labels)
        for label in metric.folds:
            place = metric.labels.index(label)
            if folded[place] == NONE:
                continue
            folded[place] = OTHER
            self._count_folded(label)
            if (candidate := tuple(folded)) in series or len(series) < metric.max_series:
                return candidate
        return tuple(folded)


def _kind(attempt: Attempt) -> _Kind:
    """Return all that says which series an attempt touches."""
    agent, refusal = attempt.agent, attempt.refusal
    return (
        attempt.endpoint,
        attempt.outcome,
        attempt.status_code,
        refusal and refusal.codes,
        refusal and refusal.category,
        agent.label,
        agent.state.certainty,
        agent.state.source,
        agent.age is None,
        attempt.findings,
        attempt.suspected_duplicate,
    )


def _add(metric: Metric, distribution: Distribution, value: float, exemplar: Exemplar | None) -> None:
    bucket = bisect_left(metric.buckets, value)
    distribution.counts[bucket] += 1
    distribution.total += value
    if distribution.powers is not None:
        distribution.powers.add(value)
    if exemplar is not None:
        distribution.exemplars[bucket] = Exemplar(value, exemplar.trace_id, exemplar.span_id, exemplar.at)


def _exemplar(attempt: Attempt) -> Exemplar | None:
    """Stand for others only with a span that is really exported."""
    span = attempt.span
    if span is None or not attempt.is_traced:
        return None
    return Exemplar(1.0, span.trace_id, span.span_id, attempt.started_at / 1e9)
