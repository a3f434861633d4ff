"""What `skew` promises: the difference of two clocks, as far as answers and stamps tell it, and dates read exactly."""

from datetime import UTC, datetime
from email.utils import format_datetime
from math import nan

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from call_initiation.agents.skew import ClockSkew, http_date


def test_skew_is_zero_until_something_else_is_certain() -> None:
    """With nothing known, or with zero among what is possible, nothing is corrected."""
    skew = ClockSkew()
    assert 0.0 == skew.value
    skew.observe_date(1000, 1000.2, 1000.4)
    skew.observe_stamp(1000.1, 1000.3)
    assert 0.0 == skew.value


@given(st.floats(-5000, 5000), st.lists(st.tuples(st.floats(0, 1000), st.floats(0, 2), st.floats(0, 1)), min_size=1))
def test_skew_is_bounded_by_what_was_observed(true: float, exchanges: list[tuple[float, float, float]]) -> None:
    """Whatever second the server names at some moment of an exchange, the estimate is no further off than it allows."""
    skew = ClockSkew()
    for sent, length, share in exchanges:
        skew.observe_date((sent + length * share + true) // 1, sent, sent + length)
    slack = 1 + min(length for _, length, _ in exchanges) + 1e-6
    assert abs(skew.value - true) <= slack


def test_skew_narrows_with_each_observation() -> None:
    """Seconds that turn at different moments, and stamps, corner the difference."""
    skew = ClockSkew()
    for local in (100.05, 101.35, 102.6, 103.95):
        skew.observe_date((local + 30.5) // 1, local, local + 0.01)
    assert 30.5 == pytest.approx(skew.value, abs=0.2)
    skew.observe_stamp(104 + 30.49, 104)
    assert 30.49 <= skew.value <= 30.6
    skew.observe_stamp(0, 104)
    assert 30.49 <= skew.value <= 30.6


def test_stamps_alone_bound_the_skew_from_below() -> None:
    """An event isn't stamped after its arrival: the server's clock is at least that far ahead."""
    skew = ClockSkew()
    skew.observe_stamp(90, 100)
    assert 0.0 == skew.value
    skew.observe_stamp(107, 100)
    assert 7 == skew.value


@pytest.mark.parametrize("jump", [-3600, 3600])
def test_a_jump_of_a_clock_starts_anew(jump: float) -> None:
    """When our clock is set by an hour, the first observation after it moves the estimate by that hour."""
    skew = ClockSkew()
    skew.observe_date(1000, 1000.5, 1000.6)
    skew.observe_date(1010, 1010.5 + jump, 1010.6 + jump)
    assert -jump == pytest.approx(skew.value, abs=1)


def test_a_clock_that_is_set_during_an_exchange_says_nothing() -> None:
    """An answer that is received well before its request was sent is no observation; nor is what is no number."""
    skew = ClockSkew()
    skew.observe_date(5000, 5000, 1400)
    skew.observe_date(nan, 1, 2)
    skew.observe_stamp(nan, 2)
    assert 0.0 == skew.value


def test_skew_follows_a_drift() -> None:
    """Old observations leave the window."""
    skew = ClockSkew()
    for second in range(1000):
        skew.observe_date(second, second + 0.5 - second / 100, second + 0.6 - second / 100)
    assert 9.4 == pytest.approx(skew.value, abs=1)


@given(st.datetimes(timezones=st.just(UTC)).filter(lambda moment: moment.year >= 1000))
@example(datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC))
def test_http_date_reads_what_the_standard_library_writes(moment: datetime) -> None:
    """An IMF-fixdate is read to the second."""
    whole = moment.replace(microsecond=0)
    assert whole.timestamp() == http_date(format_datetime(whole, usegmt=True))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        "Sun, 06 Nov 1994 08:49:37 +0000",
        "Sun, 31 Feb 1994 08:49:37 GMT",
        "Sun, 06 Abc 1994 08:49:37 GMT",
        "___, 00 ___ 9999 99:99:99 GMT",
        "Sun, 06 Nov 1994 08:49:60 GMT",
        "Sun, 06 Nov 1994 08:49:37 GMT\n",
        "Sun, ٠٦ Nov 1994 08:49:37 GMT",
        "0",
    ],
)
def test_http_date_refuses_all_else(text: str) -> None:
    """What is no IMF-fixdate, or no date at all, is None; so are the obsolete forms, which no server may send."""
    assert http_date(text) is None
