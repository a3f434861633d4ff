"""What one process makes of the entries that a shared store brings from the one who follows the agents: sans-IO.

The *speaker* is the process that leads; an *entry* is what it said at one moment of its own timeline, and it says
something at least every while, if only that it lives. We *hear* it from an entry that has just been said, once the
summaries that lie in the store are told; until then, and whenever in doubt, everything is stale. Laws:

* An entry is a sign of life of the moment when it was said, not of the moment when it came. Where that moment is more
  than `silence` ago, nothing is trusted from that moment on.
* Two timelines are compared by the store's clock, which each process measures for itself. What is moved by the
  difference is moved by the very same one until it has changed by more than `DRIFT`; then all is learnt anew. Where the
  store's own clock is set, we and the speaker notice one after the other: in between nothing is trusted.
* A moment that is still to come is no sign of life.
* Entries are numbered. One that is missing casts doubt; one that comes twice counts once.
* Each speaker has an epoch, greater than all before. Whoever speaks in an older one was deposed, and isn't listened to.
* A summary knows the entry up to which it tells, so what it tells already isn't told again. Of the changes before its
  newest one it tells only the last: nothing is vouched for as of a time before, nor of one before our own doubt.
* What the recorder refuses casts doubt.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum, StrEnum
from math import inf, nextafter
from typing import Final

from call_initiation.events import FeedChange, FeedState
from call_initiation.recording.updates import Forgotten, Reading, StateUpdate, Suspension, Told
from call_initiation.sharing.words import Garbled, Shared, Word, meant, moment, read, written

DRIFT: Final = 0.25
"""Seconds by which two clocks may drift apart before all is learnt anew."""

LARGEST: Final = 2**53
"""What an epoch and an entry's number are at most: Redis's scripts count with floats."""

_SAMPLES: Final = 8

FEED: Final = "*"
"""Where the feed's own summary lies; no agent is called so."""


class Trouble(StrEnum):
    """Why what the store brings isn't trusted: a closed list, fit for a label."""

    SILENT = "store_silent"
    LOST = "store_lost"
    SUCCEEDED = "store_succeeded"
    """Another process leads now."""
    INCOMPLETE = "store_incomplete"
    """Entries are missing, can't be read, or were more than the recorder had room for."""
    CLOCK = "store_clock"


class CommonClock:
    """How far the store's clock is ahead of our timeline, from questions for the time.

    The answer was made at some moment between asking and receiving; of the latest answers, the quickest tells most. An
    answer that can't be reconciled with it means that a clock was set, and counts alone.
    """

    def __init__(self) -> None:
        self._samples: deque[tuple[float, float]] = deque(maxlen=_SAMPLES)

    @property
    def offset(self) -> float:
        """Seconds to add to our time to have the store's; there must have been an answer."""
        return min(self._samples)[1]

    def observe(self, time: float, asked: float, received: float) -> None:
        """Take in an answer, and the two moments of ours between which it was made."""
        doubt, offset = (received - asked) / 2, time - (asked + received) / 2
        if self._samples and abs(offset - self.offset) > doubt + min(self._samples)[0] + DRIFT:
            self._samples.clear()
        self._samples.append((doubt, offset))


@dataclass(frozen=True, slots=True)
class Entry:
    """What a speaker said at one moment.

    Attributes:
        epoch: The speaker's.
        number: Of the entry in its epoch, from 1.
        at: The moment, on the speaker's timeline.
        offset: How far the store's clock is ahead of that timeline.
        words: What was said.
    """

    epoch: int
    number: int
    at: float
    offset: float
    words: list[Word]

    @classmethod
    def of(cls, fields: Mapping[str, str]) -> "Entry":
        """Return the entry that a stream's fields tell.

        Raises:
            Garbled: They tell none.
        """
        try:
            epoch, number = _number(int(fields["e"])), _number(int(fields["n"]))
            at, offset = moment(float(fields["t"])), moment(float(fields["o"]))
            return cls(epoch, number, at, offset, read(fields["w"]))
        except (KeyError, TypeError, ValueError):
            raise Garbled from None

    def fields(self) -> dict[str, str]:
        """Return it as a stream's fields."""
        words = written(self.words)
        return {"e": str(self.epoch), "n": str(self.number), "t": repr(self.at), "o": repr(self.offset), "w": words}


class _Stage(Enum):
    DEAF = "nothing is trusted"
    LEARNING = "the summaries are being told"
    HEARING = "all is heard"


class Hearing:
    """Turns entries and summaries into what the recorder is told.

    Args:
        tell: Hands a message to the recorder; returns whether it was taken.
        silence: Seconds without a sign of life that are too many.
        patience: Seconds after which two processes have noticed that the store's clock was set.
    """

    def __init__(self, tell: Callable[[Told], bool], *, silence: float, patience: float) -> None:
        self._tell_recorder = tell
        self._silence = silence
        self._patience = patience
        self._stage = _Stage.DEAF
        self._epoch = 0
        self._number = 0
        self._shift = 0.0
        self._shift_epoch = 0
        self._is_anew = False
        self._heard_at = -inf
        self._floor = -inf
        self._deaf_until = -inf
        self._reason = ""
        self._versions: dict[str, int] = {}
        self._newest = 0
        self._feed: FeedChange | None = None
        self._scan = 0

    @property
    def epoch(self) -> int:
        """The epoch that counts; 0 before any."""
        return self._epoch

    @property
    def scan(self) -> int:
        """Which of our askings for the summaries is under way; 0 for none. Another number means: from the beginning."""
        return self._scan if self._stage is _Stage.LEARNING else 0

    @property
    def is_deaf(self) -> bool:
        """Whether nothing is trusted."""
        return self._stage is _Stage.DEAF

    def deadline(self) -> float:
        """Return when the silence is too long; infinite where nothing is trusted anyway."""
        return inf if self.is_deaf else self._heard_at + self._silence

    def open(self, epoch: int) -> None:
        """Begin to read the store, in which this epoch is the latest; nothing is trusted yet."""
        self._epoch, self._number = epoch, 0

    def look(self, now: float) -> None:
        """Notice a silence that is too long."""
        if now > self.deadline():
            self.doubt(Trouble.SILENT, now)

    def doubt(self, reason: Trouble, now: float) -> None:
        """Trust nothing since the last sign of life."""
        if self.is_deaf:
            return
        self._stage, self._reason = _Stage.DEAF, reason
        self._floor = max(self._floor, self._heard_at)
        self._tell_recorder(Suspension(self._heard_at))
        self._tell_recorder(FeedChange(state=FeedState.DOWN, reason=reason, at=now))

    # -- entries --------------------------------------------------------------------------------------------------

    def hear(self, entry: Entry, offset: float, now: float) -> tuple[str, ...]:
        """Take an entry; `offset` is how far the store's clock is ahead of us. Return the agents that it told of.

        Raises:
            Garbled: A word isn't one.
        """
        self.look(now)
        if entry.epoch < self._epoch or (entry.epoch == self._epoch and entry.number <= self._number):
            return ()
        shift = entry.offset - offset
        if (trouble := self._trouble(entry, shift, now)) is not None:
            self.doubt(trouble, now)
            self._deaf_until = now + self._patience if trouble is Trouble.CLOCK else self._deaf_until
        self._epoch, self._number = entry.epoch, entry.number
        if not self.is_deaf:
            return self._take(entry, now)
        if self._has_just_been_said(entry, shift, now):
            self._begin(entry, shift)
        return ()

    def _trouble(self, entry: Entry, shift: float, now: float) -> Trouble | None:
        if self.is_deaf:
            return None
        if entry.epoch != self._epoch:
            return Trouble.SUCCEEDED
        if entry.number != self._number + 1:
            return Trouble.INCOMPLETE
        is_of_the_future = entry.at + self._shift > now + 2 * DRIFT
        return Trouble.CLOCK if abs(shift - self._shift) > DRIFT or is_of_the_future else None

    def _has_just_been_said(self, entry: Entry, shift: float, now: float) -> bool:
        return now >= self._deaf_until and -DRIFT <= now - (entry.at + shift) <= self._silence

    def _begin(self, entry: Entry, shift: float) -> None:
        """Trust the speaker from this entry on, once the summaries are told."""
        if self._shift_epoch != entry.epoch or abs(shift - self._shift) > DRIFT:
            self._is_anew = self._shift_epoch == entry.epoch
            self._shift, self._shift_epoch = shift, entry.epoch
        self._stage, self._scan, self._feed = _Stage.LEARNING, self._scan + 1, None
        self._versions.clear()
        self._newest = 0
        self._heard_at = entry.at + self._shift

    def _take(self, entry: Entry, now: float) -> tuple[str, ...]:
        told_of: list[str] = []
        for word in entry.words:
            told_of += self._say(meant(word, self._shift), entry.number, now)
        self._heard_at = max(self._heard_at, entry.at + self._shift)
        if self._stage is _Stage.HEARING and entry.number >= self._newest:
            self._versions.clear()
        return tuple(told_of)

    def _say(self, told: Shared, number: int, now: float) -> tuple[str, ...]:
        match told:
            case FeedChange():
                self._say_feed(told, number, now)
                return ()
            case Suspension(since, agent_ids) if agent_ids is not None:
                agent_ids = tuple(agent_id for agent_id in agent_ids if not self._is_told(agent_id, number))
                self._tell(Suspension(since, agent_ids), now)
                return agent_ids
            case StateUpdate() | Reading() | Forgotten() if not self._is_told(told.agent_id, number):
                self._tell(self._vouched(told) if isinstance(told, Reading) else told, now)
                return (told.agent_id,)
            case Suspension():
                self._tell(told, now)
                return ()
            case _:
                return ()

    def _say_feed(self, change: FeedChange, number: int, now: float) -> None:
        if self._is_told(FEED, number):
            return
        self._feed = change
        if self._stage is _Stage.HEARING:
            self._tell_feed(change, now)

    def _tell_feed(self, change: FeedChange, now: float) -> None:
        """Tell how the feed is; where it comes up without a reason of its own, it is ours."""
        is_up = change.state is FeedState.UP
        self._tell(replace(change, reason=change.reason or (self._reason if is_up else "")), now)
        self._reason = "" if is_up else self._reason

    def _is_told(self, agent_id: str, number: int) -> bool:
        return self._versions.get(agent_id, 0) >= number

    # -- summaries ------------------------------------------------------------------------------------------------

    def learn(self, text: str, now: float) -> tuple[str, ...]:
        """Take a summary as it lies in the store; return the agents that it tells of.

        Raises:
            Garbled: It isn't one.
        """
        (head, word) = _two(read(text))
        epoch, number = _number(head[0]), _number(head[1])
        if self._stage is not _Stage.LEARNING or epoch != self._epoch:
            return ()
        told = meant(word, self._shift)
        self._newest = max(self._newest, number)
        if isinstance(told, FeedChange):
            self._feed, self._versions[FEED] = told, number
        if not isinstance(told, Reading) or self._is_told(told.agent_id, number):
            return ()
        self._versions[told.agent_id] = number
        if self._is_anew:
            self._tell(Forgotten(told.agent_id), now)
        # A change counts for sends after its moment, not at it.
        self._floor = max(self._floor, *(nextafter(at, inf) for at, _ in told.changes), -inf)
        self._tell(self._vouched(told), now)
        return (told.agent_id,)

    def learnt(self, scan: int, now: float) -> None:
        """Note that all summaries were told that were asked for."""
        if scan != self.scan or not scan:
            return
        self._stage, self._is_anew = _Stage.HEARING, False
        if self._feed is not None:
            reason = "" if self._feed.state is FeedState.UP else self._feed.reason
            self._tell_feed(replace(self._feed, reason=reason, at=now), now)

    def _vouched(self, reading: Reading) -> Reading:
        """Vouch for nothing before what we were told in short, or doubted."""
        if reading.confirmed_at is None:
            return reading
        return replace(reading, confirmed_at=max(reading.confirmed_at, self._floor))

    def _tell(self, told: Told, now: float) -> None:
        if not self.is_deaf and not self._tell_recorder(told):
            self.doubt(Trouble.INCOMPLETE, now)


def summary(epoch: int, number: int, word: Word) -> str:
    """Return a summary as it lies in the store: up to which entry it tells, and what."""
    return written([[epoch, number], word])


def _number(value: int) -> int:
    """Return what can be an epoch, or the number of an entry: nothing would ever come after one that is too great.

    Raises:
        Garbled: It can't.
    """
    if not 0 < value <= LARGEST:
        raise Garbled
    return value


def _two(words: list[Word]) -> tuple[Word, Word]:
    match words:
        case [[int(), int()] as head, word]:
            return head, word
        case _:
            raise Garbled
