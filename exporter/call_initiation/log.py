"""What we say in the log of whoever runs us: a filter or a handler of theirs that fails is none of our threads' end.

Law: saying something never raises. What couldn't be said is counted, once, by whichever exporter asks first.
"""

import logging
from collections import deque
from contextlib import suppress
from typing import Any, Final

_MAX_LOST: Final = 1_000

_lost: Final = deque[None](maxlen=_MAX_LOST)


class Log(logging.LoggerAdapter[logging.Logger]):
    """A logger of ours, by its name."""

    def __init__(self, name: str = "call_initiation") -> None:
        super().__init__(logging.getLogger(name))

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """Say something, from any thread."""
        try:
            super().log(level, msg, *args, stacklevel=2, **kwargs)  # the line that says it, not this one
        except Exception:  # noqa: BLE001 - whatever a filter or a handler raises
            _lost.append(None)


def lost() -> int:
    """Return how often nothing could be said since somebody asked for it last, in this process."""
    found = 0
    with suppress(IndexError):
        while True:
            _lost.popleft()
            found += 1
    return found
