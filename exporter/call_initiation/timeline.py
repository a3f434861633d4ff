"""The server's stamps on our own timeline, whatever either clock does.

Our timeline starts at the wall clock's time and runs by the monotonic clock, so a step of our wall clock doesn't touch
it. The server's stamps are brought to it by an offset. Laws:

* The offset is held: between two stamps that are compared it must not change, or an older one could pass for newer.
  It changes only where the answers' `Date` headers contradict it; then a clock has jumped, and the caller is told so.
* A stamp alone never moves the offset: a stray one must not shift all others.
* The offset is off by `BLUR` at most. Whoever depends on the order of a stamp and a moment of ours leaves as much room.
"""

from math import inf
from typing import Final

from call_initiation.agents import ClockSkew

BLUR: Final = 2.0
"""Seconds: a `Date` header names a second, the answer took a while, and smaller differences aren't followed."""

_HELD: Final = 1.0
"""Seconds by which an estimate may differ from the offset before it replaces it."""


class Timeline:
    """How far the server's clock is ahead of our timeline.

    Attributes:
        offset: Seconds to subtract from the server's stamps.
        good_at: When the offset was last seen to be right, on our timeline.
    """

    def __init__(self) -> None:
        self._skew = ClockSkew()
        self._is_set = False
        self.offset = 0.0
        self.good_at = -inf

    @property
    def skew(self) -> float:
        """The best estimate at this moment; the offset follows it only where it must."""
        return self._skew.value

    def local(self, stamp: float) -> float:
        """Return the moment on our timeline that a stamp of the server means."""
        return stamp - self.offset

    def observe_date(self, date: float, sent: float, received: float) -> bool:
        """Take in an answer's `Date`, between two moments of ours; return whether a clock has jumped."""
        self._skew.observe_date(date, sent, received)
        if not self._is_set:
            self._is_set, self.offset = True, self._skew.value
        has_jumped = abs(self._skew.value - self.offset) > _HELD
        if has_jumped:
            self.offset = self._skew.value
        else:
            self.good_at = received
        return has_jumped

    def observe_stamp(self, stamp: float, received: float) -> bool:
        """Take in the stamp of an event; return whether it can be right: it can't be of the future."""
        is_possible = self.local(stamp) <= received + BLUR
        if is_possible:
            self._skew.observe_stamp(stamp, received)
        return is_possible
