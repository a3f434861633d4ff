"""What waits on disk to be delivered: files in order of time, a cap on their bytes, and how far each stage has come.

A stage takes records and then says what became of them; only then they are done with. A file that every stage is done
with is removed: one that holds something for a stage which doesn't deliver here is kept for a process in which it does.
Where the cap is reached, the oldest file is given up with what is in it.

Laws:

1. For each stage `recorded == exported + pending + sum(dropped)`, exactly, at any moment. `recovered` of what it
   recorded were left by processes that have ended: as many as these had pending at their ends, and those besides that
   were delivered when there was no time left to note it. These are delivered twice, with the same ids.
2. A record that can't be read is dropped as `damaged`, once, and takes no other with it. Where not even its header can
   be read, each stage counts it. What can't be read at a file's end counts as one record.
3. All files together have no more than `size` bytes; what is given up for that is dropped as `journal_full`. Of a stage
   that doesn't deliver here there are no books: a file that is given up with something for it is a fault.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any, Final, Generic, NamedTuple, TypeVar

from call_initiation.events import Attempt, Ledger
from call_initiation.journal import entries
from call_initiation.journal.frames import Frame
from call_initiation.journal.segments import Part, Record, Segment

SMALLEST: Final = 1_048_576
"""Bytes that must be allowed: room for the most that is written at once."""

_FILES: Final = 16
"""Into how many files the cap is divided, at least: one of them is given up at once."""
_LARGEST: Final = 1_048_576
"""Bytes of a file, at most, for it may be read at once."""
_HEAD: Final = 8_192
"""Bytes that a file may have before its first call."""

Made = TypeVar("Made")
Make = Callable[[Attempt, bytes], Made | None]
"""A call, and who recorded it → what a stage delivers of it, or None for nothing."""


class _InHand(NamedTuple):
    """What a stage has taken, and how many of it can be delivered."""

    segment: Segment
    part: Part
    readable: int


class Files:
    """The files of one process, the oldest first; from any thread.

    Args:
        size: Their bytes, at most.

    Attributes:
        lock: To be held by who looks at `segments`.
        segments: What there is.
        backlogs: The stages that deliver it.
        fault: Counts a fault of our own.
        trouble: Counts that a file can't be read; takes its path, what that means, and what the system says.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self.trouble: Callable[[Path, str, OSError], None] = lambda _path, _meaning, _error: None
        self.backlogs: dict[str, Backlog[Any]] = {}
        self.fault: Callable[[str], None] = lambda _: None
        self.reset()

    def reset(self) -> None:
        """Begin anew with no files, as a forked child must."""
        self.lock = Lock()
        self.segments: list[Segment] = []
        self._current: Segment | None = None
        self._unremoved: list[Segment] = []
        for backlog in self.backlogs.values():
            backlog.reset()

    def backlog(self, stage: str, make: Make[Made]) -> "Backlog[Made]":
        """Let a stage deliver what is kept from now on."""
        backlog = self.backlogs[stage] = Backlog(self, stage, make)
        return backlog

    def append(self, records: Sequence[Record], make: Callable[[], Segment], then: Callable[[], None]) -> None:
        """Keep records, all or none; nobody takes them before `then` has been called.

        Args:
            records: The records.
            make: Makes the next file.
            then: Called where they were written.

        Raises:
            OSError: They can't be written.
        """
        with self.lock:
            self._make_room(_HEAD + sum(record.size for record in records))
            try:
                self._current = self._with_room() or self._next(make)
                self._current.append(records)
            except OSError:
                self._leave()  # the next try is with another file
                raise
            then()

    def adopt(self, paths: Sequence[Path]) -> frozenset[int]:
        """Take in files that were left, before those that there are; return the keys of the calls in them."""
        found: list[Segment] = []
        for path in paths:
            try:
                found.append(Segment.found(path))
            except OSError as error:
                self.trouble(path, "what waits there is left to the next process", error)
        with self.lock:
            self.segments[:0] = found
            for segment in found:
                for backlog in self.backlogs.values():
                    backlog.recover(segment)
                self.tidy(segment)
            self._make_room(0)
        return frozenset[int]().union(*(segment.forget_keys() for segment in found))

    def close(self) -> None:
        """Remove what needn't be kept."""
        with self.lock:
            self._current = None
            for segment in list(self.segments):
                self.tidy(segment)

    def sweep(self) -> None:
        """Remove what couldn't be removed before, if that can be done now."""
        with self.lock:
            self._unremoved = [segment for segment in self._unremoved if not _is_removed(segment)]

    def renew(self) -> None:
        """Begin another file with the next record: the one that is being written is there no more."""
        with self.lock:
            self._leave()

    def tidy(self, segment: Segment) -> None:
        """Remove a file that every stage is done with, unless it is being written."""
        if segment is not self._current and not any(segment.waiting.values()):
            self._remove(segment)

    def _with_room(self) -> Segment | None:
        """Return the file that is being written, unless it is full or gone."""
        current = self._current
        return None if current is None or current.is_gone or current.size >= self._size_of_one else current

    def _next(self, make: Callable[[], Segment]) -> Segment:
        made = make()
        self._leave()
        self._current = made
        self.segments.append(made)
        return made

    def _leave(self) -> None:
        """Write no more to the file that is being written."""
        before, self._current = self._current, None
        if before is not None:
            self.tidy(before)

    def _remove(self, segment: Segment) -> None:
        if not segment.is_gone:
            self.segments.remove(segment)
            if not _is_removed(segment):
                self._unremoved.append(segment)
                self.fault("journal")

    def _make_room(self, size: int) -> None:
        while self.segments and sum(segment.size for segment in self.segments) + size > self._size:
            oldest = self.segments[0]
            for backlog in self.backlogs.values():
                backlog.give_up(oldest)
            if any(count for stage, count in oldest.waiting.items() if stage not in self.backlogs):
                self.fault("journal")
            self._remove(oldest)

    @property
    def _size_of_one(self) -> int:
        return min(self._size // _FILES, _LARGEST)


def _is_removed(segment: Segment) -> bool:
    """Remove a file; tell whether that could be done."""
    try:
        segment.remove()
    except OSError:
        return False
    return True


class Backlog(Generic[Made]):
    """One stage's way through the files: `take`, and then `settle` or `put_back`, are for one thread.

    Args:
        files: The files.
        stage: One of `segments.STAGES`.
        make: Makes what is delivered.
    """

    def __init__(self, files: Files, stage: str, make: Make[Made]) -> None:
        self._files = files
        self._stage = stage
        self._make = make
        self.reset()

    def reset(self) -> None:
        """Begin anew with nothing recorded."""
        self._in_hand: _InHand | None = None
        self._exported = 0
        self._recovered = 0
        self._dropped: Counter[str] = Counter()

    def take(self, limit: int) -> Sequence[Made]:
        """Return the next records, at most so many; they stay where they are until it is known what became of them."""
        with self._files.lock:
            for segment in list(self._files.segments):
                while segment.waiting[self._stage] and (made := self._taken(segment, limit)) is not None:
                    if made:
                        return made
        return ()

    def put_back(self) -> None:
        """Let what was taken be taken again."""
        with self._files.lock:
            in_hand, self._in_hand = self._in_hand, None
            if in_hand is not None and in_hand.segment.is_gone:
                self._dropped["journal_full"] += len(in_hand.part.records)

    def settle(self, refused: int) -> None:
        """Be done with what was taken; so many records of it were refused."""
        with self._files.lock:
            in_hand, self._in_hand = self._in_hand, None
            if in_hand is not None:
                self._exported += in_hand.readable - refused
                self._dropped["refused"] += refused
                self._pass(in_hand)

    def ledger(self) -> Ledger:
        """Return the accounts."""
        with self._files.lock:
            in_hand = self._in_hand
            pending = sum(segment.waiting[self._stage] for segment in self._files.segments)
            if in_hand is not None and in_hand.segment.is_gone:
                pending += len(in_hand.part.records)
            dropped = {reason: count for reason, count in self._dropped.items() if count}
            return Ledger(
                recorded=self._exported + pending + sum(dropped.values()),
                exported=self._exported,
                pending=pending,
                dropped=dropped,
                recovered=self._recovered,
            )

    # -- with the lock held -------------------------------------------------------------------------------------------

    def recover(self, segment: Segment) -> None:
        """Take note of a file that was found."""
        self._recovered += segment.waiting[self._stage] + segment.lost[self._stage]
        self._dropped["damaged"] += segment.lost[self._stage]

    def give_up(self, segment: Segment) -> None:
        """Take note that a file is about to be given up; what is in hand may still be delivered."""
        in_hand = self._in_hand
        taken = len(in_hand.part.records) if in_hand is not None and in_hand.segment is segment else 0
        self._dropped["journal_full"] += segment.waiting[self._stage] - taken

    def _taken(self, segment: Segment, limit: int) -> Sequence[Made] | None:
        """Take records of a file: none where none could be read, and None where that may change."""
        try:
            part = segment.next(self._stage, min(limit, segment.waiting[self._stage]))
        except FileNotFoundError:
            part = Part([], 0)
        except OSError as error:
            self._files.trouble(segment.path, "what waits there stays, and is tried again", error)
            return None
        if not part.records:
            self._lose(segment)
            return ()
        made = [one for record in part.records if (one := self._made(record, segment)) is not None]
        self._in_hand = _InHand(segment, part, len(made))
        if not made:
            self._pass(self._in_hand)
            self._in_hand = None
        return made

    def _made(self, record: Frame, segment: Segment) -> Made | None:
        attempt = entries.attempt(record.payload)
        return None if attempt is None else self._make(attempt, segment.resource)

    def _lose(self, segment: Segment) -> None:
        """Be done with a file's records that should be there, and aren't."""
        self._dropped["damaged"] += segment.waiting[self._stage]
        segment.waiting[self._stage] = 0
        self._files.tidy(segment)

    def _pass(self, in_hand: _InHand) -> None:
        """Be done with records; those that couldn't be read are damaged."""
        segment, part, readable = in_hand
        self._dropped["damaged"] += len(part.records) - readable
        if not segment.is_gone:
            with suppress(OSError):  # then whoever finds the file delivers them again
                segment.passed(self._stage, part)
            self._files.tidy(segment)
