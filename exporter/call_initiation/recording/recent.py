"""The last failures, for whoever looks at the page: what each was, long after the successes around it are only counts.

Laws: never more than `KEPT` of them, whatever comes; the newest first; none goes but for a newer one.
"""

from collections import deque
from threading import Lock
from typing import Final, assert_never

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


class RecentFailures:
    """Keeps the last failed attempts; a `Sink`."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin anew with none, as a forked child must."""
        self._lock = Lock()
        self._kept: deque[Attempt] = deque(maxlen=KEPT)

    def record(self, event: Event) -> None:
        """Take one event."""
        match event:
            case Attempt():
                if event.is_failure:
                    with self._lock:
                        self._kept.appendleft(event)
            case StateChange() | LateChange() | FeedChange() | NotificationTaken() | LegFailure() | SkewChange():
                pass
            case _:
                assert_never(event)

    def newest(self) -> tuple[Attempt, ...]:
        """Return what is kept, the newest first; from any thread."""
        with self._lock:
            return tuple(self._kept)
