"""What is logged of a service that fails: once when that begins, now and then while it lasts, and once when it is over.

Law: what fails a thousand times a minute is told of no more often than what fails once.
"""

from collections.abc import Callable
from math import inf
from time import monotonic
from typing import Final

from call_initiation.log import Log

_REMIND_AFTER: Final = 600.0
"""Seconds until the same is told again."""

_CAUSES: Final = 4
"""Causes that are told until then: what comes and goes has several at once."""

_logger = Log()


class Outage:
    """Whether something fails, and what was said of it.

    Args:
        what: What is failing or well.
        calm: Seconds without a failure after which it is well; longer than anything waits that tries again, for some
            requests may succeed all the time while others fail.
        now: Seconds on a clock that never steps.
    """

    def __init__(self, what: str, calm: float, now: Callable[[], float] = monotonic) -> None:
        self._what = what
        self._calm = calm
        self._now = now
        self._causes: set[str] = set()
        self._failed_at = self._began_at = -inf

    def failed(self, why: str) -> None:
        """Note a failure; `why` says what is wrong, and what to do."""
        self._failed_at = now = self._now()
        if not self._causes or now >= self._began_at + _REMIND_AFTER:
            self._causes.clear()
            self._began_at = now
        if why in self._causes or len(self._causes) >= _CAUSES:
            return
        self._causes.add(why)
        _logger.warning("%s fails, and agents' states may be stale meanwhile: %s", self._what, why)

    def worked(self) -> None:
        """Note that something succeeded."""
        if self._causes and self._now() >= self._failed_at + self._calm:
            self._causes.clear()
            _logger.warning("%s is well again", self._what)
