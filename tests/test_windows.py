"""What a window promises: every attempt that began in it, however many came before, and how they came by the minute."""

from collections import Counter
from dataclasses import replace
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from call_initiation import catalogue
from call_initiation.events import Attempt, Refusal
from call_initiation.pages.correlation import correlate
from call_initiation.pages.windows import TREND, WINDOWS, counted_before, trends
from call_initiation.recording.aggregate import Aggregate
from call_initiation.recording.recent import LOOKS, Recent
from samples import ACCEPTED, REFUSED, STARTED_AT

MINUTE = STARTED_AT // (60 * 10**9)
NOW = MINUTE * 60 + 30.0

LATER: Final = lambda: (STARTED_AT + 10**13, 0)  # noqa: E731 - clocks that never go

BEGUN = st.integers(-200, 0)
CODES = st.sampled_from(["", "INVALID_AGENT_STATE", "bad.request"])


def call(minute: int, code: str) -> Attempt:
    """Return a call that began so many minutes from now."""
    started_at = (MINUTE + minute) * 60 * 10**9 + 1
    return (
        replace(REFUSED, started_at=started_at, refusal=Refusal(codes=(code,)))
        if code
        else replace(ACCEPTED, started_at=started_at)
    )


def recorded(calls: list[tuple[int, str]]) -> tuple[Aggregate, Recent]:
    """Return what is known after these calls, in the order of their beginnings."""
    aggregate = Aggregate()
    recent = Recent(lambda: aggregate.numbers(catalogue.ATTEMPTS), LATER)
    for begun in sorted(calls):
        for sink in (recent, aggregate):
            sink.record(call(*begun))
    return aggregate, recent


@pytest.mark.parametrize(("word", "minutes"), [("10m", 10), ("1h", 60), ("all", 1_000)])
@given(calls=st.lists(st.tuples(BEGUN, CODES), max_size=300))
def test_a_window_holds_what_began_in_it(word: str, minutes: int, calls: list[tuple[int, str]]) -> None:
    """As if each call had been kept: of so many whole minutes, and the one that runs."""
    aggregate, recent = recorded(calls)
    view = aggregate.snapshot()
    found = correlate(view, counted_before(WINDOWS[word], recent.looks(), view, NOW))
    inside = [code for minute, code in calls if minute >= -minutes]
    assert (len(inside), Counter(filter(None, inside))) == (found.total, Counter(found.codes))
    assert all(outcome > 0 for outcome in found.outcomes.values())


@given(calls=st.lists(st.tuples(BEGUN, CODES), max_size=300))
def test_a_trend_has_each_minutes_calls(calls: list[tuple[int, str]]) -> None:
    """All of them, the refused ones, and those by code."""
    aggregate, recent = recorded(calls)
    found = trends(recent.looks(), aggregate.snapshot(), NOW)
    inside = [(minute + TREND - 1, code) for minute, code in calls if minute > -TREND]
    assert Counter(minute for minute, _ in inside) == found.attempts
    assert Counter(minute for minute, code in inside if code) == found.refused
    assert Counter(inside) == Counter(
        {(minute, code): count for code, minutes in found.codes.items() for minute, count in minutes.items()}
    ) + Counter((minute, code) for minute, code in inside if not code)
    assert (MINUTE - TREND + 1) * 60 == found.begin


def test_no_more_looks_are_kept_than_an_hour_needs() -> None:
    """However long the process runs, and however many calls a minute has."""
    _, recent = recorded([(minute, "") for minute in range(-500, 1)] * 3)
    assert LOOKS == TREND == len(recent.looks())
    assert (MINUTE - TREND + 1) * 60 == recent.looks()[0].at


def test_a_call_that_is_recorded_late_counts_where_it_is_recorded() -> None:
    """A slow one opens no minute of the past anew; and where the clock was ahead, what comes is as of then."""
    aggregate, recent = Aggregate(), Recent(dict, LATER)
    for minute in (5, 0, -3):
        recent.record(call(minute, ""))
        aggregate.record(call(minute, ""))
    assert [(MINUTE + 5) * 60] == [look.at for look in recent.looks()]
    assert Counter({TREND - 1: 3}) == trends(recent.looks(), aggregate.snapshot(), NOW).attempts


def test_a_clock_that_is_set_back_stretches_no_window() -> None:
    """By hours, with a call under way; an hour stays an hour, and what was in it stays in it."""
    aggregate = Aggregate()
    clock = [MINUTE * 60 * 10**9, 0]
    recent = Recent(lambda: aggregate.numbers(catalogue.ATTEMPTS), lambda: (clock[0], clock[1]))

    def called(begun: int) -> None:
        for sink in (recent, aggregate):
            sink.record(replace(ACCEPTED, started_at=begun))

    def passed(minutes: int, *, back: int = 0) -> None:
        clock[0] += (minutes - back) * 60 * 10**9
        clock[1] += minutes * 60 * 10**9

    def counted(word: str) -> int:
        looks, view = recent.looks(), aggregate.snapshot()
        return correlate(view, counted_before(WINDOWS[word], looks, view, clock[0] / 1e9)).total

    for _ in range(60):
        called(clock[0])
        passed(1)
    begun = clock[0]
    passed(0, back=120)
    assert (10, 60) == (counted("10m"), counted("1h"))
    called(begun)
    assert (11, 61) == (counted("10m"), counted("1h"))
    for _ in range(30):
        passed(1)
        called(clock[0])
    assert (11, 61) == (counted("10m"), counted("1h"))
    passed(0, back=-120)
    called(clock[0])
    assert (1, 1) == (counted("10m"), counted("1h"))
