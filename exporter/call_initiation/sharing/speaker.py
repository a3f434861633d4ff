"""What the feed of the one who leads tells, on its way to all who share a store.

Laws: nothing is said out of order, and what may have been said is said again under the same number until it is known;
while there is nothing to say, that is said. What the feed tells of itself (what it heard, when, whose leg failed) is
for its own process, or else each process would count it.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

from call_initiation.events import FeedChange, FeedState, NotificationTaken, SkewChange
from call_initiation.feed.feed import Port
from call_initiation.feed.follow import followed_as
from call_initiation.recording.updates import LegLost, Suspension, Told
from call_initiation.sharing.hearing import FEED, CommonClock, Entry, summary
from call_initiation.sharing.keyspace import Fields, Keyspace
from call_initiation.sharing.words import Shared, Summaries, Word, worded

BREATH: Final = 0.02
"""Seconds between two entries: a recorder must keep pace."""

_WAITING: Final = 10_000


class Deposed(Exception):  # noqa: N818 - what happened, not an error of ours
    """Another process leads now, or may; or what was said is lost, and has to be said anew."""


class Speaker:
    """What a leader's feed tells, on its way to the store.

    Args:
        keys: The store.
        epoch: The leader's.
        clock: How far the store's clock is ahead.
        port: The leader's own exporter.
        pulse: Seconds between two entries at most.
    """

    def __init__(self, keys: Keyspace, epoch: int, clock: CommonClock, port: Port, pulse: float) -> None:
        self._keys = keys
        self._epoch = epoch
        self._clock = clock
        self._port = port
        self._pulse = pulse
        self._number = 0
        self._waiting: deque[Shared] = deque()
        self._wake = asyncio.Event()
        self._summaries = Summaries()
        self._is_up = False
        self._useful_at = port.now()

    @property
    def useless_for(self) -> float:
        """For how many seconds the feed has been down, and has told nothing of any agent."""
        return 0.0 if self._is_up else self._port.now() - self._useful_at

    def tell(self, told: Told) -> bool:
        """Take what the feed tells; what concerns who hears it, and nobody else, is told to our own recorder."""
        if isinstance(told, NotificationTaken | SkewChange | LegLost):
            return self._port.tell(told)
        self._note(told)
        if len(self._waiting) >= _WAITING and not isinstance(told, Suspension):
            return False
        self._waiting.append(told)
        self._wake.set()
        return True

    def _note(self, told: Shared) -> None:
        """Note whether the feed is of use; a suspension tells of no agent but of ourselves."""
        if self._is_up or not isinstance(told, FeedChange | Suspension):
            self._useful_at = self._port.now()
        if isinstance(told, FeedChange):
            self._is_up = told.state is FeedState.UP

    async def run(self, seen: Callable[[str], None]) -> None:
        """Say what is told, and show now and then that we live; `seen` is told whom others want followed.

        Raises:
            Deposed: It always ends so.
        """
        while True:
            for agent_id in await self._say():
                if (known := followed_as(agent_id)) is not None:
                    seen(known)
            await asyncio.sleep(BREATH)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pulse):  # before 3.12, `wait_for` may swallow a cancellation
                    await self._wake.wait()

    async def _say(self) -> list[str]:
        entry, summaries = self._next()
        while True:
            try:
                asked = await self._keys.say(self._epoch, entry, summaries)
            except OSError:  # it may have been said: the same number makes it count once
                await asyncio.sleep(self._pulse)
                continue
            if asked is None:
                raise Deposed
            return asked

    def _next(self) -> tuple[Fields, dict[str, str]]:
        self._wake.clear()
        told = [self._waiting.popleft() for _ in range(len(self._waiting))]
        self._number += 1
        words = [worded(one) for one in told]
        entry = Entry(self._epoch, self._number, self._port.now(), self._clock.offset, words)
        return entry.fields(), {
            key: text for one, word in zip(told, words, strict=True) for key, text in self._sum(one, word)
        }

    def _sum(self, told: Shared, word: Word) -> Iterable[tuple[str, str]]:
        if isinstance(told, FeedChange):
            yield FEED, summary(self._epoch, self._number, word)
        for agent_id in self._summaries.take(told):
            reading = self._summaries.of(agent_id)
            yield agent_id, "" if reading is None else summary(self._epoch, self._number, worded(reading))
