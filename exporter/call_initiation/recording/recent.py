"""What is recent, for whoever looks at the page: the last failures, and how the attempts stood at each minute.

What happened since some minute is the difference of two counts: those of now, and those from before that minute's first
attempt. So nothing is counted twice, and what is said of the last hour can't disagree with the metrics.

Laws: never more than `KEPT` failures, whatever comes, the newest first, and none goes but for a newer one; never more
than `LOOKS` looks, each before the first attempt of another minute.
"""

from collections import deque
from collections.abc import Callable, Mapping
from threading import Lock
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


class Recent:
    """Keeps the last failed attempts and the looks; a `Sink`, and the first of them.

    Args:
        counts: Tells how the attempts stand; asked before any other sink counts the one that is recorded.
    """

    def __init__(self, counts: Callable[[], Counts]) -> None:
        self._counts = counts
        self.reset()

    def reset(self) -> None:
        """Begin anew with nothing, as a forked child must."""
        self._lock = Lock()
        self._failures: deque[Attempt] = deque(maxlen=KEPT)
        self._looks: deque[Look] = deque(maxlen=LOOKS)
        self._next = 0

    def record(self, event: Event) -> None:
        """Take one event."""
        match event:
            case Attempt():
                if event.started_at >= self._next:
                    self._look(event.started_at // _MINUTE_NS)
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
        with self._lock:
            return tuple(self._looks)

    def _look(self, minute: int) -> None:
        look = Look(minute * MINUTE, self._counts())
        self._next = (minute + 1) * _MINUTE_NS
        with self._lock:
            self._looks.append(look)
