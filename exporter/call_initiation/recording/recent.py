"""What is recent, for whoever looks at the page: the last failures, and how the attempts stood at each minute.

What happened since some minute is the difference of two counts: those of now, and those from before that minute's first
attempt. So nothing is counted twice, and what is said of the last hour can't disagree with the metrics.

Laws: never more than `KEPT` failures, whatever comes, the newest first, and none goes but for a newer one; never more
than `LOOKS` looks, each before the first attempt of another minute. A wall clock that is set back takes the looks with
it, so that an hour stays an hour; one that is set ahead may have slept, and leaves them where they are.
"""

from collections import deque
from collections.abc import Callable, Mapping
from threading import Lock
from time import monotonic_ns, time_ns
from typing import Final, NamedTuple, assert_never

from call_initiation.events import (
    Attempt,
    Event,
    FeedChange,
    LateChange,
    LegFailure,
    NotificationTaken,
    SkewChange,
    StateChange,
)

KEPT: Final = 50
"""Failures that are kept."""

MINUTE: Final = 60
"""Seconds."""

LOOKS: Final = 61
"""Looks that are kept: for an hour, and the minute that has just begun."""

_MINUTE_NS: Final = MINUTE * 10**9

Counts = Mapping[tuple[str, ...], float]
"""How many attempts there were, by the labels of `call_initiation_attempts_total`."""


class Look(NamedTuple):
    """How the attempts stood before a minute's first one was counted; `at` is that minute, in seconds of the epoch."""

    at: int
    counts: Counts


def _clocks() -> tuple[int, int]:
    return time_ns(), monotonic_ns()


class Recent:
    """Keeps the last failed attempts and the looks; a `Sink`, and the first of them.

    Args:
        counts: Tells how the attempts stand; asked before any other sink counts the one that is recorded.
        clocks: Returns the wall clock's time and a monotonic clock's, in nanoseconds.
    """

    def __init__(self, counts: Callable[[], Counts], clocks: Callable[[], tuple[int, int]] = _clocks) -> None:
        self._counts = counts
        self._clocks = clocks
        self.reset()

    def reset(self) -> None:
        """Begin anew with nothing, as a forked child must."""
        self._lock = Lock()
        self._failures: deque[Attempt] = deque(maxlen=KEPT)
        self._looks: deque[Look] = deque(maxlen=LOOKS)
        self._next = 0
        wall, steady = self._clocks()
        self._ahead = wall - steady

    def record(self, event: Event) -> None:
        """Take one event."""
        match event:
            case Attempt():
                if not self._next - _MINUTE_NS <= event.started_at < self._next:  # not of the minute that is open
                    self._open(event.started_at)
                if event.is_failure:
                    with self._lock:
                        self._failures.appendleft(event)
            case StateChange() | LateChange() | FeedChange() | NotificationTaken() | LegFailure() | SkewChange():
                pass
            case _:
                assert_never(event)

    def failures(self) -> tuple[Attempt, ...]:
        """Return the failures that are kept, the newest first; from any thread."""
        with self._lock:
            return tuple(self._failures)

    def looks(self) -> tuple[Look, ...]:
        """Return the looks that are kept, the oldest first; from any thread."""
        self._follow_clock()
        with self._lock:
            return tuple(self._looks)

    def _follow_clock(self) -> int:
        """Move the looks by as many minutes as the wall clock was set back, if it was; return its time."""
        with self._lock:
            wall, steady = self._clocks()
            back = (self._ahead - (wall - steady)) // _MINUTE_NS
            if back > 0:
                self._ahead -= back * _MINUTE_NS
                self._next -= back * _MINUTE_NS
                moved = [Look(look.at - back * MINUTE, look.counts) for look in self._looks]
                self._looks = deque(moved, maxlen=LOOKS)
            self._ahead = max(self._ahead, wall - steady)
            return wall

    def _open(self, begun: int) -> None:
        """Look at how the attempts stand before one of another minute, unless that minute has been; in nanoseconds."""
        begun = min(begun, self._follow_clock())  # a clock that was set back since would open one that is still to come
        if begun >= self._next:
            minute = begun // _MINUTE_NS
            look = Look(minute * MINUTE, self._counts())
            self._next = (minute + 1) * _MINUTE_NS
            with self._lock:
                self._looks.append(look)
