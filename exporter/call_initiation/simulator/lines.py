"""The server's end of one notification socket, without the socket: what is still to be said, and when.

Laws:
1. Undisturbed, frames come in the order in which they were said, and at once.
2. A dead line (half-open) gives nothing more, not even its end; nothing follows an end.
3. A heartbeat comes each interval, whatever else is said; a notice comes before the end of a line's life.
"""

import heapq
import random
from dataclasses import dataclass
from enum import Enum
from itertools import count

from call_initiation.simulator.disturbances import Disturbances
from call_initiation.simulator.frames import GARBAGE, HEARTBEAT, Frame, huge, notice

_REPEATED_WITHIN = 0.15
"""Seconds; duplicates have been seen so close together (community code)."""


class Ending(Enum):
    """How a socket ends."""

    CLOSED = "closed"
    """By the server, with a closing handshake."""
    CUT = "cut"
    """Without a word."""


Item = Frame | Ending


@dataclass(frozen=True, slots=True, kw_only=True)
class Intervals:
    """The protocol's times, in seconds; a test makes them short.

    Attributes:
        heartbeat: Between two heartbeats.
        life: How long a channel lives.
        notice: How long before its end a socket is told of it.
    """

    heartbeat: float = 30.0
    life: float = 86_400.0
    notice: float = 60.0


REAL_TIMES = Intervals()
"""As the API keeps them."""


class Line:
    """One socket's outgoing side.

    Args:
        channel_id: Whose socket it is.
        ends_at: When its life is over at the latest.
        intervals: The protocol's times.
        source: Where chance comes from.
        now: Seconds, on the clock of all methods.
    """

    def __init__(
        self, channel_id: str, ends_at: float, intervals: Intervals, source: random.Random, now: float
    ) -> None:
        self.channel_id = channel_id
        self.is_dead = False
        """Half-open: whatever is said is lost."""
        self.is_over = False
        """Its end was given out."""
        self._ends_at = ends_at
        self._intervals = intervals
        self._random = source
        self._beats_at = now + intervals.heartbeat
        self._is_warned = False
        self._outbox: list[tuple[float, int, Item]] = []
        self._numbers = count()

    def say(self, frame: Frame, now: float, disturbances: Disturbances) -> None:
        """Say something of the protocol's own."""
        if self._chance(disturbances.garbage):
            self.litter(now)
        if self._chance(disturbances.huge):
            self._put(now, huge())
        self._put(now, frame)

    def deliver(self, frame: Frame, now: float, disturbances: Disturbances) -> None:
        """Tell an event, with all that may happen to events."""
        if disturbances.silent:
            return
        if self._chance(disturbances.drops):
            self.end(Ending.CUT, now)
        if self._chance(disturbances.half_opens):
            self.is_dead = True
        due = now + disturbances.lag + self._random.random() * disturbances.reordering
        self.say(frame, due, disturbances)
        if self._chance(disturbances.duplicates):
            self._put(due + self._random.random() * _REPEATED_WITHIN, frame)

    def litter(self, now: float) -> None:
        """Say something that means nothing."""
        self._put(now, self._random.choice(GARBAGE))

    def warn(self, frame: Frame, now: float, disturbances: Disturbances) -> None:
        """Tell that the line will end, and end it after the notice at the latest."""
        self._is_warned = True
        self._ends_at = min(self._ends_at, now + self._intervals.notice)
        self.say(frame, now, disturbances)

    def end(self, ending: Ending, now: float) -> None:
        """End the line after all that is due by now."""
        self._put(now, ending)

    def tick(self, now: float, disturbances: Disturbances) -> None:
        """Say what the time asks for."""
        if now >= self._beats_at:
            self._beats_at = now + self._intervals.heartbeat
            self.say(HEARTBEAT, now, disturbances)
        if now >= self._ends_at - self._intervals.notice and not self._is_warned:
            message = "The socket will be closed soon."
            self.warn(notice("v2.system.socket_closing", message), now, disturbances)
        if now >= self._ends_at:
            self.end(Ending.CLOSED, now)

    def take(self, now: float) -> list[Item]:
        """Return what is to be sent by now, once; the last one may be an end."""
        taken: list[Item] = []
        while self._outbox and self._outbox[0][0] <= now and not (self.is_dead or self.is_over):
            item = heapq.heappop(self._outbox)[2]
            taken.append(item)
            self.is_over = isinstance(item, Ending)
        return taken

    def _put(self, due: float, item: Item) -> None:
        if not (self.is_dead or self.is_over):
            heapq.heappush(self._outbox, (due, next(self._numbers), item))

    def _chance(self, share: float) -> bool:
        return share > 0.0 and self._random.random() < share
