"""Waits: backoff, `Retry-After`, and the budget that our own requests share."""

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from call_initiation.api.pacing import LONGEST_WAIT, Backoff, Budget, is_final, retry_after

NOW = 1_750_000_000.0


def test_backoff_doubles_its_ceiling_up_to_the_cap() -> None:
    """With the largest random number, each wait is the ceiling itself."""
    backoff = Backoff(1.0, 5.0, lambda: 1.0)
    assert [1.0, 2.0, 4.0, 5.0, 5.0] == [backoff.next() for _ in range(5)]


def test_backoff_has_full_jitter() -> None:
    """A wait is the random share of the whole ceiling, and so can be none."""
    shares = iter([0.0, 0.25, 0.5])
    backoff = Backoff(4.0, 60.0, lambda: next(shares))
    assert [0.0, 2.0, 8.0] == [backoff.next() for _ in range(3)]


def test_backoff_begins_again_after_a_success() -> None:
    """A reset forgets the failures before."""
    backoff = Backoff(1.0, 60.0, lambda: 1.0)
    backoff.next()
    backoff.next()
    backoff.reset()
    assert backoff.next() == 1.0


def test_backoff_never_exceeds_a_cap_below_its_base() -> None:
    """The cap holds for the first wait and after a reset, too."""
    backoff = Backoff(10.0, 3.0, lambda: 1.0)
    first = backoff.next()
    backoff.reset()
    assert (3.0, 3.0) == (first, backoff.next())


@pytest.mark.parametrize("status", [400, 403, 404, 410, 499])
def test_a_client_error_is_final(status: int) -> None:
    """The same request will never succeed."""
    assert is_final(status)


@pytest.mark.parametrize("status", [None, 200, 302, 401, 408, 429, 500, 503])
def test_nothing_else_is_final(status: int | None) -> None:
    """Not even a client error, if time or a new token may change it."""
    assert not is_final(status)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("42", 42.0),
        (" 7 ", 7.0),
        ("0", 0.0),
        ("999999", LONGEST_WAIT),
        ("9" * 5000, LONGEST_WAIT),
        (formatdate(NOW + 90, usegmt=True), 90.0),
        (formatdate(NOW - 90, usegmt=True), 0.0),
        (formatdate(NOW + 86_400, usegmt=True), LONGEST_WAIT),
        ("Sunday, 15-Jun-25 15:08:20 GMT", 100.0),
        ("Sun Jun 15 15:08:20 2025", 100.0),
        (None, None),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("٣", None),
        ("Sun, 99 Jun 2025 99:99:99 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str | None, expected: float | None) -> None:
    """RFC 9110, section 10.2.3: all three forms of a date; what is neither says nothing."""
    assert expected == retry_after(value, NOW)


@given(st.text(), st.floats(0, 4e9))
def test_retry_after_takes_any_text(value: str, now: float) -> None:
    """Whatever a server sends, the wait is none, or within its bounds."""
    wait = retry_after(value, now)
    assert wait is None or 0 <= wait <= LONGEST_WAIT


@given(st.from_regex(r"[A-Z][a-z]{2}, ?[0-9]{1,20} [A-Za-z]{3} [0-9]{1,9} [0-9:]{1,12} [A-Z+0-9-]{1,6}"))
def test_retry_after_takes_anything_like_a_date(value: str) -> None:
    """Dates that don't exist raise nothing."""
    wait = retry_after(value, NOW)
    assert wait is None or 0 <= wait <= LONGEST_WAIT


def test_budget_lets_a_burst_go_and_then_its_rate() -> None:
    """Sixty a minute with a burst of two: the third waits a second."""
    budget = Budget(per_minute=60, burst=2)
    for _ in range(2):
        assert budget.delay(100.0) == 0.0
        budget.took(100.0)
    assert budget.delay(100.0) == pytest.approx(1.0)
    assert budget.delay(100.25) == pytest.approx(0.75)
    assert budget.delay(101.0) == 0.0


def test_budget_saves_no_more_than_a_burst() -> None:
    """A long rest doesn't allow more at once than the burst."""
    budget = Budget(per_minute=60, burst=1)
    budget.took(0.0)
    assert budget.delay(10_000.0) == 0.0
    budget.took(10_000.0)
    assert budget.delay(10_000.0) == pytest.approx(1.0)


@given(st.lists(st.floats(0, 10), min_size=1, max_size=60))
def test_budget_never_sends_faster_than_its_rate(pauses: list[float]) -> None:
    """In whatever rhythm requests come, no more go than the burst and what the time has earned."""
    budget, now = Budget(per_minute=60, burst=3), 0.0
    for sent, pause in enumerate(pauses, start=1):
        now += pause
        while (delay := budget.delay(now)) > 0:
            now += delay
        budget.took(now)
        assert sent <= 3 + now + 1e-3


@pytest.mark.parametrize(
    ("headers", "status", "expected"),
    [
        ({"retry-after": "12"}, 429, 12.0),
        ({"retry-after": "12"}, 503, 12.0),
        ({"retry-after": "12"}, 200, 0.0),
        ({"retry-after": "12"}, 400, 0.0),
        ({}, 429, 60.0),
        ({"retry-after": "nonsense"}, 429, 60.0),
        ({"retry-after": "100000"}, 429, LONGEST_WAIT),
        ({}, 503, 0.0),
        ({"retry-after": formatdate(NOW + 20, usegmt=True), "date": formatdate(NOW, usegmt=True)}, 429, 20.0),
        ({"inin-ratelimit-count": "179", "inin-ratelimit-allowed": "180", "inin-ratelimit-reset": "9"}, 200, 0.0),
        ({"inin-ratelimit-count": "180", "inin-ratelimit-allowed": "180", "inin-ratelimit-reset": "9"}, 200, 9.0),
        ({"inin-ratelimit-count": "181", "inin-ratelimit-allowed": "180"}, 200, 60.0),
        ({"inin-ratelimit-count": "200", "inin-ratelimit-allowed": "180", "inin-ratelimit-reset": "9999"}, 200, 300.0),
        ({"inin-ratelimit-count": "x", "inin-ratelimit-allowed": "180"}, 200, 0.0),
        ({"inin-ratelimit-count": "180"}, 200, 0.0),
    ],
)
def test_budget_heeds_what_an_answer_says(headers: dict[str, str], status: int, expected: float) -> None:
    """A refusal and a used-up allowance close the budget; a clock that isn't the time of day doesn't matter."""
    budget = Budget()
    budget.observe(headers, status, 5.0)
    assert expected == pytest.approx(budget.delay(5.0))


def test_budget_keeps_the_longer_of_two_refusals() -> None:
    """A short wait that is heard of later doesn't open the budget before the longer one is over."""
    budget = Budget()
    budget.observe({"retry-after": "50"}, 429, 0.0)
    budget.observe({"retry-after": "5"}, 429, 1.0)
    assert budget.delay(1.0) == 49.0
    assert budget.delay(50.0) == 0.0


def test_budget_survives_a_clock_that_steps_back() -> None:
    """An hour back closes the budget for no longer than the longest wait at a time, and earns nothing."""
    budget = Budget(per_minute=60, burst=1)
    budget.took(7200.0)
    budget.observe({"retry-after": "5"}, 429, 7200.0)
    assert budget.delay(3600.0) == LONGEST_WAIT
    assert budget.delay(7205.0) == 0.0
