"""One file of a journal: records one after another, and how far each stage that delivers them has come.

A file is opened for each thing that is done with it and closed again: a process that forks has nothing to close, and a
disk that comes back is used again. What stands beyond what was written is no part of it, for a disk may take the
beginning of what it then refuses; and where somebody has cut it short, nothing more is written to it. What was appended
is in the kernel's hands: it outlives the process, however that ends. Nothing here waits until it is on the disk, so the
machine's own end may cost the last seconds.

Not for several threads at once; `backlog` sees to that.
"""

import errno
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

from call_initiation.journal.frames import (
    HEADER,
    NOTE_SIZE,
    START,
    Found,
    Frame,
    Notes,
    damage,
    framed,
    frames,
    note,
    notes,
)
from call_initiation.journal.lives import opened

STAGES: Final = {"spans": 1, "events": 2}
"""The stages that deliver records, and the bit that stands for each in a record's kind."""

_MOST: Final = 4_194_304
"""Bytes that are read of a file which was found: more than any of ours has."""

_RESOURCE: Final = 0
"""The kind of a file's first record: the resource of who wrote it."""


class Record(NamedTuple):
    """What is kept of one call.

    Attributes:
        kind: The bits of the stages that are to deliver it.
        key: Names the call; 0 where it has no name.
        payload: What is said of it; ASCII.
    """

    kind: int
    key: int
    payload: bytes

    @property
    def size(self) -> int:
        """Its bytes in a file."""
        return HEADER + len(self.payload)


class Part(NamedTuple):
    """Some records of a file, and where the next one stands."""

    records: list[Frame]
    end: int


class Segment:
    """One file.

    Attributes:
        path: Where it is.
        size: Its bytes.
        resource: Who wrote it, as given; empty where that can't be read.
        waiting: How many records each stage has yet to deliver.
        lost: How many records each stage had yet to deliver and that can't be read; of a file that was found.
        is_gone: It was given up.
    """

    def __init__(self, path: Path, resource: bytes = b"") -> None:
        self.path = path
        self.resource = resource
        self.size = 0
        self.waiting: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()
        self._keys: frozenset[int] = frozenset()
        self.is_gone = False
        self._offsets = dict.fromkeys(STAGES, START)
        self._frames = 0

    @classmethod
    def made(cls, path: Path, resource: bytes) -> "Segment":
        """Make a file.

        Raises:
            OSError: It can't be made; then there is none.
        """
        segment = cls(path, resource)
        path.touch(mode=0o600, exist_ok=False)
        try:
            segment._write(b"".join(map(note, Notes())))
            segment.append([Record(_RESOURCE, 0, resource)])
        except OSError:
            with suppress(OSError):  # nothing is in it
                segment.remove()
            raise
        return segment

    @classmethod
    def found(cls, path: Path) -> "Segment":
        """Read a file that another process has left.

        Raises:
            OSError: It can't be read.
        """
        segment = cls(path)
        with open(path, "rb", opener=opened) as file:
            data = file.read(_MOST)
        segment._survey(data, list(frames(data)), notes(data))
        return segment

    def append(self, records: Sequence[Record]) -> None:
        """Write records at the end: all of them, or none.

        Raises:
            OSError: They can't be written.
        """
        numbered = enumerate(records, self._frames)
        self._write(b"".join(framed(Frame(kind, number, key, payload)) for number, (kind, key, payload) in numbered))
        self._frames += len(records)
        self.waiting.update(stage for record in records for stage in _stages(record.kind))

    def next(self, stage: str, limit: int) -> Part:
        """Return the first records, at most so many, that a stage has yet to deliver.

        Raises:
            OSError: They can't be read.
        """
        offset = self._offsets[stage]
        with open(self.path, "rb", opener=opened) as file:
            file.seek(offset)
            data = file.read(max(0, self.size - offset))
        wanted = (found for found in frames(data, 0) if found.frame.kind & STAGES[stage])
        part = list(islice(wanted, limit))
        return Part([found.frame for found in part], offset + (part[-1].end if part else len(data)))

    def passed(self, stage: str, part: Part) -> None:
        """Note that a stage needs the records up to a place no more.

        Raises:
            OSError: It can't be written down: who finds the file will deliver them again.
        """
        self.waiting[stage] -= len(part.records)
        self._offsets[stage] = part.end
        self._note(stage, part.end)

    def forget_keys(self) -> frozenset[int]:
        """Return the keys of the calls that a file which was found tells of, once."""
        keys, self._keys = self._keys, frozenset()
        return keys

    def remove(self) -> None:
        """Give the file up, and what is in it.

        Raises:
            OSError: It is given up, and can't be removed: who finds it will take what is in it for what still waits.
        """
        self.is_gone = True
        self.path.unlink(missing_ok=True)

    def _survey(self, data: bytes, found: list[Found], noted: Notes) -> None:
        """Take in what a file holds; what is lost is counted by the first who finds it, who notes that he did."""
        self.size = len(data)
        self.resource = next((frame.payload for frame, _, _ in found if frame.kind == _RESOURCE), b"")
        self._keys = frozenset(frame.key for frame, _, _ in found)
        self._offsets = {stage: max(START, getattr(noted, stage)) for stage in STAGES}
        for frame, start, _ in found:
            self.waiting.update(stage for stage in _stages(frame.kind) if start >= self._offsets[stage])
        for at, count in damage(data, found):
            for stage in STAGES if at > noted.counted else ():
                self.lost[stage] += count if at > self._offsets[stage] else 0
        with suppress(OSError):  # then it will be counted once more
            self._note("counted", len(data))

    def _note(self, name: str, offset: int) -> None:
        with open(self.path, "r+b", buffering=0, opener=opened) as file:
            file.seek(NOTE_SIZE * Notes._fields.index(name))
            file.write(note(offset))

    def _write(self, data: bytes) -> None:
        with open(self.path, "r+b", buffering=0, opener=opened) as file:
            end = file.seek(0, 2)
            if end != self.size:
                raise OSError(errno.EIO, f"somebody else has written to {self.path.name}, or cut it short")
            try:
                rest = memoryview(data)
                while rest:
                    rest = rest[file.write(rest) :]
            except OSError:
                file.truncate(end)
                raise
            self.size = end + len(data)


def _stages(kind: int) -> list[str]:
    return [stage for stage, bit in STAGES.items() if kind & bit]
