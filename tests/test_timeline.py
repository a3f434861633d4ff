"""Stamps of the server on our timeline, whatever either clock does."""

from collections.abc import Iterator
from itertools import accumulate, chain, repeat
from time import perf_counter_ns, time_ns

import pytest

from call_initiation.agents.timeline import BLUR, Timeline, start

NOW = 1_790_000_000.0


def observed(timeline: Timeline, ahead: float, count: int = 1, start: float = NOW) -> list[bool]:
    """Show the `Date` of some answers, 10.3 seconds apart, of a server whose clock is so far ahead."""
    moments = [start + 10.3 * number for number in range(count)]
    return [timeline.observe_date(float(int(moment + ahead)), moment - 0.02, moment + 0.02) for moment in moments]


@pytest.mark.parametrize("ahead", [0.0, 0.3, -0.3])
def test_a_clock_that_is_kept_well_is_believed(ahead: float) -> None:
    """Small differences aren't followed, and so can't change the order of anything."""
    timeline = Timeline()
    assert [False] * 30 == observed(timeline, ahead, 30)
    assert (0.0, NOW, True) == (timeline.offset, timeline.local(NOW), timeline.is_sharp)


@pytest.mark.parametrize("ahead", [3600.0, -3600.0, 37.5])
def test_the_first_date_sets_the_offset_and_later_ones_sharpen_it(ahead: float) -> None:
    """That is no jump: nothing was brought here by another offset."""
    timeline = Timeline()
    assert [False] == observed(timeline, ahead)
    assert ahead == pytest.approx(timeline.offset, abs=1.1)
    assert not timeline.is_sharp
    observed(timeline, ahead, 20, NOW + 10)
    assert ahead == pytest.approx(timeline.offset, abs=0.1)
    assert timeline.is_sharp
    assert timeline.skew == timeline.offset


@pytest.mark.parametrize("ahead", [3600.0, -3600.0, 5.0, -5.0])
def test_a_jump_prevents_repeats(ahead: float) -> None:
    """And the moment at which all was still well is kept."""
    timeline = Timeline()
    observed(timeline, 0.0, 5)
    good_at = timeline.good_at
    assert [True] == observed(timeline, ahead, 1, NOW + 100)
    assert (good_at, False) == (timeline.good_at, timeline.is_sharp)
    assert [False, False] == observed(timeline, ahead, 2, NOW + 110)
    assert good_at < timeline.good_at


def test_a_stamp_of_the_future_is_impossible_and_moves_nothing() -> None:
    """A stray one must not shift all others."""
    timeline = Timeline()
    observed(timeline, 0.0)
    assert not timeline.observe_stamp(NOW + 3600, NOW)
    assert (0.0, 0.0) == (timeline.offset, timeline.skew)
    assert timeline.observe_stamp(NOW + BLUR, NOW)
    assert timeline.observe_stamp(NOW - 3600, NOW)


class Clocks:
    """A wall clock and a monotonic one that run alike; each reading takes as long as it is told."""

    def __init__(self, ahead: int, takes: Iterator[int]) -> None:
        self._ahead = ahead
        self._moments = accumulate(takes)

    def steady(self) -> int:
        """Return the monotonic clock's time."""
        return next(self._moments)

    def wall(self) -> int:
        """Return the wall clock's time."""
        return self.steady() + self._ahead


@pytest.mark.parametrize("place", range(12))
def test_a_preemption_between_two_readings_does_not_shift_the_timeline(place: int) -> None:
    """Wherever it falls: it costs at most half of what an undisturbed reading takes."""
    takes = chain(repeat(100, place), [50_000_000], repeat(100))
    clocks = Clocks(1_790_000_000_000_000_000, takes)
    assert 1_790_000_000_000_000_000 == pytest.approx(start(clocks.wall, clocks.steady), rel=0, abs=100)


def test_the_tightest_reading_counts() -> None:
    """Even where all but one are disturbed, on either side of the wall clock's reading."""
    pairs = [[10, 900, 10], [10, 10, 700], [10, 20, 20], [10, 5_000, 5_000], [10, 300, 300]]
    clocks = Clocks(1_000_000, chain.from_iterable(pairs))
    assert 1_000_000 == start(clocks.wall, clocks.steady)


def test_our_timeline_starts_at_the_wall_clocks_time() -> None:
    """With the clocks of this machine."""
    begins = start(time_ns, perf_counter_ns)
    assert time_ns() == pytest.approx(begins + perf_counter_ns(), rel=0, abs=1_000_000_000)
