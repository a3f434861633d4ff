"""The server's stamps on our own timeline, whatever either clock does.

Our timeline starts at the wall clock's time and runs by the monotonic clock, so a step of our wall clock doesn't touch
it. The server's stamps are brought to it by an offset, which answers' `Date` headers tell. Laws:

* Clocks that are kept well are believed: an offset of less than `_KEPT_WELL` is none.
* An offset that is grows better as more is known of it. One that moves by more than `_JUMP` was a clock's jump, and the
  caller is told so.
* A stamp alone never makes a jump: a stray one must not shift all others.
* Where our timeline starts is read between two readings of the monotonic clock, lest a preemption shift it.
* The offset is off by `BLUR` at most. Whoever depends on the order of a stamp and a moment of ours leaves as much room.
"""

from collections.abc import Callable
from math import inf
from typing import Final

from call_initiation.agents.skew import ClockSkew

BLUR: Final = 2.0
"""Seconds: a `Date` header names a second, the answer took a while, and smaller differences aren't followed."""

_KEPT_WELL: Final = 0.5
_JUMP: Final = 1.0
_SHARP: Final = 10
_READINGS: Final = 5


def start(wall: Callable[[], int], steady: Callable[[], int]) -> int:
    """Return what to add to the monotonic clock to get our timeline, by the tightest of a few readings of both.

    Args:
        wall: The wall clock, nanoseconds since the epoch.
        steady: The monotonic clock, nanoseconds.

    Returns:
        Nanoseconds, off by half of the tightest reading's time at most.
    """
    readings = [(steady(), wall(), steady()) for _ in range(_READINGS)]
    before, moment, after = min(readings, key=lambda reading: reading[2] - reading[0])
    return moment - (before + after) // 2


class Timeline:
    """How far the server's clock is ahead of our timeline.

    Attributes:
        offset: Seconds to subtract from the server's stamps.
        good_at: When the offset was last seen to be right, on our timeline.
    """

    def __init__(self) -> None:
        self._skew = ClockSkew()
        self._dates = 0
        self.offset = 0.0
        self.good_at = -inf

    @property
    def skew(self) -> float:
        """The best estimate at this moment."""
        return self._skew.value

    @property
    def is_sharp(self) -> bool:
        """Whether stamps are brought here about as exactly as they can be; after a jump that takes a while."""
        return self.offset == 0.0 or self._dates >= _SHARP

    def local(self, stamp: float) -> float:
        """Return the moment on our timeline that a stamp of the server means."""
        return stamp - self.offset

    def observe_date(self, date: float, sent: float, received: float) -> bool:
        """Take in an answer's `Date`, between two moments of ours; return whether a clock has jumped."""
        self._skew.observe_date(date, sent, received)
        estimate = self._skew.value if abs(self._skew.value) > _KEPT_WELL else 0.0
        has_jumped = self._dates > 0 and abs(estimate - self.offset) > _JUMP
        self.offset, self._dates = estimate, 1 if has_jumped else self._dates + 1
        if not has_jumped:
            self.good_at = received
        return has_jumped

    def observe_stamp(self, stamp: float, received: float) -> bool:
        """Take in the stamp of an event; return whether it can be right: it can't be of the future."""
        is_possible = self.local(stamp) <= received + BLUR
        if is_possible:
            self._skew.observe_stamp(stamp, received)
        return is_possible
