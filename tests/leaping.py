"""An event loop whose time leaps: where nothing is ready, it is at once what it would be after the wait.

So hours pass in moments, and a busy machine makes nothing late: however long a step takes, it takes none of that time.
"""

import asyncio
from collections.abc import Coroutine
from functools import partial
from selectors import SelectSelector
from typing import Any, TypeVar

Result = TypeVar("Result")


class _Leaping(SelectSelector):
    """Waits no longer than for what is under way, and then leaps over the rest of the wait."""

    def __init__(self, patience: float) -> None:
        super().__init__()
        self.now = 0.0
        self._patience = patience

    def select(self, timeout: float | None = None) -> list[Any]:
        """Leap over the wait, unless something is ready."""
        ready = super().select(self._patience if timeout is None else min(timeout, self._patience))
        assert ready or timeout is not None, "nothing will ever happen again"
        self.now += 0.0 if ready else timeout or 0.0
        return ready


class _Loop(asyncio.SelectorEventLoop):
    """An event loop that runs by a leaping selector's time."""

    def __init__(self, patience: float) -> None:
        self._leaping = _Leaping(patience)
        super().__init__(self._leaping)

    def time(self) -> float:
        """Return the time that has been leapt to."""
        return self._leaping.now


def run(story: Coroutine[Any, Any, Result], patience: float = 0.0) -> Result:
    """Run a story in no time.

    Args:
        story: What happens.
        patience: Real seconds for what is under way between sockets of this process; without sockets none are needed.
    """
    with asyncio.Runner(loop_factory=partial(_Loop, patience)) as runner:
        return runner.run(story)
