"""How far the agents' states can be believed, from a snapshot: the feed's health, and what the joins were worth.

Laws: every attempt is one join, so the shares of known, stale and unknown ones add up to 1; a quantile of a histogram
is known only as the bound of a bucket, and nothing finer is made up.
"""

from collections import Counter
from dataclasses import dataclass
from itertools import accumulate
from math import inf

from call_initiation import catalogue
from call_initiation.aggregate import View
from call_initiation.correlation import percent, series
from call_initiation.events import Certainty

_MOST = 0.95


@dataclass(frozen=True, slots=True)
class FeedHealth:
    """How the state feed does.

    Attributes:
        is_up: Whether it is up now; None where there is none.
        events: How many notifications it took.
        lag: Seconds within which 95% of changes were heard of; infinite beyond the last bucket, None before the first.
        joins: Lookups of an agent's state, by how far the answer could be believed.
    """

    is_up: bool | None
    events: int
    lag: float | None
    joins: dict[Certainty, int]

    def share(self, certainty: Certainty) -> float:
        """Return the share of the lookups that were so certain, 0 to 1; 0 where there were none."""
        return self.joins[certainty] / (sum(self.joins.values()) or 1)


def feed_health(view: View) -> FeedHealth:
    """Return what a snapshot says of the feed."""
    ups = [number.value for _, number in series(view, catalogue.FEED_UP)]
    joins: Counter[str] = Counter()
    for (certainty, _), number in series(view, catalogue.STATE_JOINS):
        joins[certainty] += int(number.value)
    return FeedHealth(
        is_up=bool(ups[0]) if ups else None,
        events=sum(int(number.value) for _, number in series(view, catalogue.FEED_EVENTS)),
        lag=_lag(view),
        joins={certainty: joins[certainty] for certainty in Certainty},
    )


def feed_line(health: FeedHealth) -> str:
    """Return a feed's health as one line; an empty one where there is no feed."""
    if health.is_up is None:
        return ""
    lag = "" if health.lag is None else f", lag p95 {_bounded(health.lag)}"
    shares = ", ".join(f"{certainty} {percent(health.share(certainty))}" for certainty in Certainty)
    states = f"; states {shares}" if any(health.joins.values()) else ""
    return f"feed {'up' if health.is_up else 'down'}, {health.events:,} events{lag}{states}"


def _lag(view: View) -> float | None:
    family = next((family for family in view if family.metric is catalogue.FEED_EVENT_LAG), None)
    counts = family.distributions[()].counts if family and family.distributions else []
    bounds = (*catalogue.FEED_EVENT_LAG.buckets, inf)
    reached = zip(bounds, accumulate(counts), strict=False)
    total = sum(counts)
    return next((bound for bound, count in reached if total and count >= _MOST * total), None)


def _bounded(seconds: float) -> str:
    return f"> {catalogue.FEED_EVENT_LAG.buckets[-1]:g} s" if seconds == inf else f"≤ {seconds:g} s"
