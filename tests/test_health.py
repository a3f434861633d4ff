"""How the feed does, as a snapshot has it: what is known of it is said, and nothing is made up."""

from collections.abc import Iterable
from dataclasses import replace
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from call_initiation import catalogue
from call_initiation.events import (
    AgentAtSend,
    AgentState,
    Certainty,
    Event,
    FeedChange,
    FeedState,
    NotificationTaken,
    SkewChange,
)
from call_initiation.pages.health import feed_health, feed_line
from call_initiation.recording.aggregate import Aggregate, View
from samples import ACCEPTED

UP = FeedChange(state=FeedState.UP, at=0.0)
DOWN = FeedChange(state=FeedState.DOWN, reason="dropped", at=0.0)


def view(events: Iterable[Event]) -> View:
    """Return the snapshot after these events."""
    aggregate = Aggregate()
    for event in events:
        aggregate.record(event)
    return aggregate.snapshot()


def heard(*lags: float | None) -> list[Event]:
    """Return a notification for each lag."""
    return [NotificationTaken(topic="presence", lag=lag) for lag in lags]


def joins(certainty: Certainty, count: int) -> list[Event]:
    """Return so many calls whose agent's state is so certain."""
    return [replace(ACCEPTED, agent=AgentAtSend(state=AgentState(certainty=certainty)))] * count


def test_without_a_feed_there_is_nothing_to_say() -> None:
    """Though calls were looked up."""
    health = feed_health(view(joins(Certainty.UNKNOWN, 3)))
    assert (None, 0, None) == (health.is_up, health.events, health.lag)
    assert not feed_line(health)


def test_a_feed_in_one_line() -> None:
    """Up or down, how much it heard and how late, and how far the states could be believed."""
    calls = joins(Certainty.KNOWN, 17) + joins(Certainty.STALE, 2) + joins(Certainty.UNKNOWN, 1)
    assert ("feed up, 1,021 events, lag p95 ≤ 0.05 s; states known 85%, stale 10%, unknown 5%") == feed_line(
        feed_health(view([UP, *heard(*[0.01] * 1020), *heard(None), *calls]))
    )
    assert "feed down, 0 events" == feed_line(feed_health(view([UP, DOWN])))
    assert "feed up, 1 events, lag p95 > 60 s" == feed_line(feed_health(view([UP, *heard(90.0)])))


def test_what_was_heard_and_why_it_came_back() -> None:
    """By topic and by reason, the most first; the skew as it is now."""
    back = [FeedChange(state=FeedState.UP, reason=reason, at=0.0) for reason in ("dropped", "announced", "announced")]
    health = feed_health(view([UP, *heard(0.1), *heard(0.1), NotificationTaken(topic="station"), *back]))
    assert {"presence": 2, "station": 1} == health.topics
    assert [("announced", 2), ("dropped", 1)] == list(health.reconnects.items())
    assert (None, -0.5) == (health.skew, feed_health(view([UP, SkewChange(seconds=-0.5)])).skew)


@pytest.mark.parametrize(
    ("lags", "expected"),
    [
        ([], None),
        ([None], None),
        ([0.05] * 19 + [90.0], 0.05),
        ([0.05] * 18 + [0.2] * 2, 0.25),
        ([0.01, 0.01, 90.0], inf),
    ],
)
def test_the_lag_is_the_bound_of_a_bucket(lags: list[float | None], expected: float | None) -> None:
    """The first one that 95% of the changes are within; a change without a stamp has no lag."""
    assert expected == feed_health(view(heard(*lags))).lag


@given(st.lists(st.floats(0.0, 100.0), min_size=1, max_size=60))
def test_95_percent_are_within_the_lag_that_is_told(lags: list[float]) -> None:
    """And not within the next smaller bound."""
    lag = feed_health(view(heard(*lags))).lag
    bounds = (-1.0, *catalogue.FEED_EVENT_LAG.buckets, inf)
    assert lag in bounds
    smaller = bounds[bounds.index(lag) - 1]
    assert sum(one <= lag for one in lags) >= 0.95 * len(lags) > sum(one <= smaller for one in lags)


@given(st.dictionaries(st.sampled_from(Certainty), st.integers(1, 20), min_size=1))
def test_the_shares_are_of_all_lookups(counts: dict[Certainty, int]) -> None:
    """They add up to one."""
    health = feed_health(view(call for certainty, count in counts.items() for call in joins(certainty, count)))
    assert {certainty: counts.get(certainty, 0) for certainty in Certainty} == health.joins
    assert pytest.approx(1.0) == sum(map(health.share, Certainty))
    assert 0.0 == feed_health(view([])).share(Certainty.KNOWN)
