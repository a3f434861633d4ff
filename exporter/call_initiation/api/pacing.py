"""How long to wait before the next request of our own: after a failure, and under the API's rate limits.

Nothing here sleeps or reads a clock: the time is an argument, and the answer is how many seconds to wait. Laws:

* A wait is never negative and never longer than its cap, whatever a server says.
* No sequence of answers makes a budget send faster than its rate.
* Any header text is taken, and nothing is raised.

Only our own reads and channels are paced. The caller's call starts are never delayed.
"""

from collections.abc import Callable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final

LONGEST_WAIT: Final = 300.0
"""Seconds; what a server asks for beyond this is not believed, so that one bad header can't stop the feed."""

_WINDOW: Final = 60.0
"""Seconds; the API counts requests by the minute, so after a refusal without a time the next minute is the safe one."""

_ROUNDING: Final = 1e-6
"""Of a request; without it a waiter could be sent back for a time so short that no clock shows it passing."""
_LIMITS: Final = ("count", "allowed", "reset")

_REFUSALS: Final = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
"""The statuses for which RFC 9110 and RFC 6585 give `Retry-After` a meaning that concerns us."""


_PASSING: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS})
"""The client errors that a new token or some patience may change."""

_CLIENT_ERRORS: Final = 4


def is_final(status: int | None) -> bool:
    """Return whether an answer's status says that the same request will never succeed; None is no answer."""
    return status is not None and status not in _PASSING and status // 100 == _CLIENT_ERRORS


class Backoff:
    """Exponential backoff with full jitter: each wait is anywhere between none and a ceiling that doubles.

    Full jitter spreads the return of many clients after an outage better than a fixed wait with some noise on it.

    Args:
        base: Seconds; the first ceiling.
        cap: Seconds; the last ceiling.
        random: Gives a number from 0 up to 1.
    """

    def __init__(self, base: float, cap: float, random: Callable[[], float]) -> None:
        self._base = base
        self._cap = cap
        self._random = random
        self._ceiling = min(base, cap)

    def next(self) -> float:
        """Return how many seconds to wait before the next try."""
        wait = self._random() * self._ceiling
        self._ceiling = min(self._ceiling * 2, self._cap)
        return wait

    def reset(self) -> None:
        """Begin again after a success."""
        self._ceiling = min(self._base, self._cap)


def retry_after(value: str | None, now: float) -> float | None:
    """Return the seconds that a `Retry-After` header asks for (RFC 9110, section 10.2.3), or None if it says nothing.

    Args:
        value: Seconds in digits or an HTTP date, as received.
        now: Seconds since the epoch; only a date is compared with it.

    Returns:
        At least 0 and at most `LONGEST_WAIT`.
    """
    text = (value or "").strip()
    seconds, moment = _digits(text), _http_date(text)
    wait = moment - now if seconds is None and moment is not None else seconds
    return None if wait is None else min(max(wait, 0.0), LONGEST_WAIT)


class Budget:
    """What all our own requests share: a token bucket that also heeds what the API says of its limits.

    The API allows 300 requests a minute per token, and 180 in the family of users; the default stays below the smaller
    one. Use one clock throughout, best a monotonic one.

    Args:
        per_minute: How many requests go in a minute.
        burst: How many may go at once after a rest.
    """

    def __init__(self, per_minute: float = 150.0, burst: float = 10.0) -> None:
        self._rate = per_minute / _WINDOW
        self._burst = burst
        self._left = burst
        self._counted_at: float | None = None
        self._closed_until: float | None = None

    def delay(self, now: float) -> float:
        """Return the seconds until the next request may go; 0 if it may go at once."""
        self._refill(now)
        until_open = 0.0 if self._closed_until is None else self._closed_until - now
        missing = 1.0 - self._left
        until_token = missing / self._rate if missing > _ROUNDING else 0.0
        return max(min(until_open, LONGEST_WAIT), until_token, 0.0)

    def took(self, now: float) -> None:
        """Count a request that goes now."""
        self._refill(now)
        self._left -= 1.0

    def observe(self, headers: Mapping[str, str], status: int, now: float) -> None:
        """Heed an answer: `Retry-After` of a refusal, and `inin-ratelimit-*` where the allowance is used up.

        Args:
            headers: Found by lower-case names.
            status: The answer's status.
            now: When it came.
        """
        wait = max(_refused(headers, status, now), _used_up(headers))
        if wait > 0:
            self._closed_until = max(self._closed_until or now, now + wait)

    def _refill(self, now: float) -> None:
        # A clock that steps back costs one interval of refilling, and no more.
        rested = max(now - self._counted_at, 0.0) if self._counted_at is not None else 0.0
        self._left = min(self._left + rested * self._rate, self._burst)
        self._counted_at = now


def _digits(text: str) -> float | None:
    # float, not int: int refuses more than 4,300 digits, and a float just grows to infinity.
    return float(text) if text.isascii() and text.isdigit() else None


def _http_date(text: str) -> float | None:
    try:
        moment = parsedate_to_datetime(text)
        # The obsolete asctime form names no zone; RFC 9110 says that all forms mean UTC.
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        # The standard library's parser is lenient, and raises any of these on text that isn't a date.
        return None


def _refused(headers: Mapping[str, str], status: int, now: float) -> float:
    if status not in _REFUSALS:
        return 0.0
    # A date is compared with the server's own clock: ours may be off, or count from another zero.
    sent_at = _http_date(headers.get("date", ""))
    wait = retry_after(headers.get("retry-after"), now if sent_at is None else sent_at)
    without = _WINDOW if status == HTTPStatus.TOO_MANY_REQUESTS else 0.0
    return without if wait is None else wait


def _used_up(headers: Mapping[str, str]) -> float:
    count, allowed, reset = (_digits(headers.get(f"inin-ratelimit-{name}", "").strip()) for name in _LIMITS)
    if count is None or allowed is None or count < allowed:
        return 0.0
    return min(_WINDOW if reset is None else reset, LONGEST_WAIT)
