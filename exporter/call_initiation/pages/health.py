"""How far the agents' states can be believed, from a snapshot: the feed's health, and what the joins were worth.

Laws: every attempt is one join, so the shares of known, stale and unknown ones add up to 1; a quantile of a histogram
is known only as the bound of a bucket, and nothing finer is made up.
"""

from collections import Counter
from dataclasses import dataclass
from itertools import accumulate
from math import inf

from call_initiation import catalogue
from call_initiation.catalogue import Metric
from call_initiation.events import Certainty
from call_initiation.pages.correlation import most_first, percent, series
from call_initiation.recording.aggregate import View

_MOST = 0.95


@dataclass(frozen=True, slots=True)
class FeedHealth:
    """How the state feed does.

    Attributes:
        is_up: Whether it is up now; None where there is none.
        topics: How many notifications it took, by topic, the most first.
        reconnects: How often it came up again, by reason, the most first.
        lag: Seconds within which 95% of changes were heard of; infinite beyond the last bucket, None before the first.
        skew: Seconds that the server's clock is ahead of ours; None where that isn't known.
        joins: Lookups of an agent's state, by how far the answer could be believed.
    """

    is_up: bool | None
    topics: dict[str, int]
    reconnects: dict[str, int]
    lag: float | None
    skew: float | None
    joins: dict[Certainty, int]

    @property
    def events(self) -> int:
        """All notifications."""
        return sum(self.topics.values())

    def share(self, certainty: Certainty) -> float:
        """Return the share of the lookups that were so certain, 0 to 1; 0 where there were none."""
        return self.joins[certainty] / (sum(self.joins.values()) or 1)


def feed_health(view: View) -> FeedHealth:
    """Return what a snapshot says of the feed."""
    joins: Counter[str] = Counter()
    for (certainty, _), number in series(view, catalogue.STATE_JOINS):
        joins[certainty] += int(number.value)
    return FeedHealth(
        is_up=None if (up := _gauge(view, catalogue.FEED_UP)) is None else bool(up),
        topics=_counts(view, catalogue.FEED_EVENTS),
        reconnects=_counts(view, catalogue.FEED_RECONNECTS),
        lag=_lag(view),
        skew=_gauge(view, catalogue.FEED_CLOCK_SKEW),
        joins={certainty: joins[certainty] for certainty in Certainty},
    )


def feed_line(health: FeedHealth) -> str:
    """Return a feed's health as one line; an empty one where there is no feed."""
    if health.is_up is None:
        return ""
    lag = "" if health.lag is None else f", lag p95 {bounded(health.lag)}"
    states = f"; states {shares(health)}" if any(health.joins.values()) else ""
    return f"feed {'up' if health.is_up else 'down'}, {health.events:,} events{lag}{states}"


def shares(health: FeedHealth) -> str:
    """Return the shares of the lookups by certainty, as one line."""
    return ", ".join(f"{certainty} {percent(health.share(certainty))}" for certainty in Certainty)


def bounded(lag: float) -> str:
    """Return a lag as the bound that it is."""
    return f"> {catalogue.FEED_EVENT_LAG.buckets[-1]:g} s" if lag == inf else f"≤ {lag:g} s"


def _lag(view: View) -> float | None:
    family = next((family for family in view if family.metric is catalogue.FEED_EVENT_LAG), None)
    counts = family.distributions[()].counts if family and family.distributions else []
    bounds = (*catalogue.FEED_EVENT_LAG.buckets, inf)
    reached = zip(bounds, accumulate(counts), strict=False)
    total = sum(counts)
    return next((bound for bound, count in reached if total and count >= _MOST * total), None)


def _gauge(view: View, metric: Metric) -> float | None:
    return next((number.value for _, number in series(view, metric)), None)


def _counts(view: View, metric: Metric) -> dict[str, int]:
    return most_first(Counter({labels[0]: int(number.value) for labels, number in series(view, metric)}))
