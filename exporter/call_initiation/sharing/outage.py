"""What is logged of a store that fails: once when that begins, now and then while it lasts, and once when it is over.

Law: a store that fails a thousand times a minute is told of no more often than one that fails once, and what is told
quotes nothing that came from the store or from its URL.
"""

from collections.abc import Callable
from math import inf
from time import monotonic
from typing import Final

from call_initiation.log import Log

_REMIND_AFTER: Final = 600.0
"""Seconds until the same is told again."""

_NEWS_AFTER: Final = 60.0
"""Seconds until another cause is told: a store that comes and goes has several at once."""

_logger = Log()


class Outage:
    """Whether the store fails, and what was said of it.

    Args:
        calm: Seconds without a failure after which it is well; longer than anything waits that tries again, for some
            commands may succeed all the time while others fail.
        now: Seconds on a clock that never steps.
    """

    def __init__(self, calm: float, now: Callable[[], float] = monotonic) -> None:
        self._calm = calm
        self._now = now
        self._lasts = False
        self._why = ""
        self._failed_at = self._said_at = -inf

    def failed(self, why: str) -> None:
        """Note a failure; `why` says what is wrong, and what to do."""
        self._failed_at = now = self._now()
        if self._lasts and now < self._said_at + (_REMIND_AFTER if why == self._why else _NEWS_AFTER):
            return
        self._lasts, self._why, self._said_at = True, why, now
        _logger.warning("the shared store fails, and agents' states are stale meanwhile: %s", why)

    def worked(self) -> None:
        """Note that something succeeded."""
        if self._lasts and self._now() >= self._failed_at + self._calm:
            self._lasts = False
            _logger.warning("the shared store is well again")
