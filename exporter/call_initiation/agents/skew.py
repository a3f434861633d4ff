"""How far the server's clock is ahead of ours, and the date by which its answers tell.

Times are seconds since the epoch, by the server's clock or by ours, as is said of each.
"""

import re
from collections import deque
from email.utils import parsedate_to_datetime
from math import inf
from typing import Final

_IMF_FIXDATE: Final = re.compile(r"\w{3}, \d\d \w{3} [1-9]\d{3} \d\d:\d\d:\d\d GMT", re.ASCII)
_OBSERVATIONS: Final = 64  # how many observations of the server's clock count


class ClockSkew:
    """How far the server's clock is ahead of ours, from what answers and events say of it.

    Each observation bounds the difference: a `Date` header names the second in which an answer was made, some moment
    between sending and receiving; an event can't be stamped later than it arrives. The difference lies in all of the
    latest intervals; where they have no point in common, a clock has jumped, and only the newest observation counts.
    Where zero is possible, it is taken: a good clock is likelier than a small error.
    """

    def __init__(self) -> None:
        self._window: deque[tuple[float, float]] = deque(maxlen=_OBSERVATIONS)
        self._low, self._high = -inf, inf

    @property
    def value(self) -> float:
        """Seconds to add to our clock to have the server's; 0 where nothing is known."""
        if self._low <= 0.0 <= self._high:
            return 0.0
        return (self._low + self._high) / 2 if self._high < inf else self._low

    def observe_date(self, server_second: float, sent: float, received: float) -> None:
        """Take in a `Date` header (see `http_date`) of an answer to what was sent and received at these local times."""
        self._observe(server_second - received, server_second + 1 - sent)

    def observe_stamp(self, stamp: float, received: float) -> None:
        """Take in the server's stamp of an event that was received at this local time; most stamps say nothing new."""
        if stamp - received > self._low:
            self._observe(stamp - received, inf)

    def _observe(self, low: float, high: float) -> None:
        """Take in one interval; one that is none (a clock was set between sending and receiving) says nothing."""
        if not low <= high:
            return
        if low > self._high or high < self._low:
            self._window.clear()
        self._window.append((low, high))
        self._low = max(low for low, _ in self._window)
        self._high = min(high for _, high in self._window)


def http_date(text: str) -> float | None:
    """Return the seconds since the epoch that an IMF-fixdate names (RFC 9110, section 5.6.7), or None."""
    try:
        return parsedate_to_datetime(text).timestamp() if _IMF_FIXDATE.fullmatch(text) else None
    except ValueError:
        return None
