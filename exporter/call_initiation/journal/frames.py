"""The form in which a journal keeps records in a file, and how they are found again, whatever became of the file.

Theory. A frame is a mark, a header of fixed size and a payload. The header has a checksum of its own (CRC-32) and holds
the payload's, so a frame is judged by itself: what is whole is found, what isn't is passed over, and the search goes on
at the next mark. Frames of a file are numbered, and so a stretch that can't be read tells how many records it held:
frame 0 tells of the file itself, and is none. Before the frames stand three notes, each with a checksum: how far two
readers have come, and how far damage has been counted. A note that is damaged counts as 0, so that its file is read
from the beginning.

Laws, for any bytes whatsoever:

1. `frames` yields every frame that stands there whole and outside another one, in order, and nothing else.
2. A payload is of ASCII alone, so that no mark can stand in one: damage to a frame hides no other frame.
3. `damage` tells as many lost records as the numbers tell; what can't be read at a file's end counts as one, unless it
   is the beginning of a frame that was never written to its end.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from struct import Struct
from typing import Final, NamedTuple
from zlib import crc32

MAX_PAYLOAD: Final = 16_384
"""Bytes that a payload may have; a longer one is no frame."""

_MARK: Final = b"\xf5CI\x01"
_FIELDS: Final = Struct(">4sBIQII")  # mark, kind, number, key, length of the payload, its checksum
_CHECKSUM: Final = Struct(">I")
_NOTE: Final = Struct(">I")

HEADER: Final = _FIELDS.size + _CHECKSUM.size
"""Bytes of a frame before its payload."""


class Notes(NamedTuple):
    """Offsets into a file that are kept at its beginning: how far it was read, and how far damage was counted."""

    spans: int = 0
    events: int = 0
    counted: int = 0


NOTE_SIZE: Final = _NOTE.size + _CHECKSUM.size
"""Bytes of one note; they stand one after another from a file's first byte on."""

START: Final = NOTE_SIZE * len(Notes._fields)
"""The offset of a file's first frame."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One record.

    Attributes:
        kind: What its payload is; 0 to 255.
        number: Its place among the frames of its file.
        key: Names its call, 64 bits; 0 where the call has no name.
        payload: ASCII, at most `MAX_PAYLOAD` bytes.
    """

    kind: int
    number: int
    key: int
    payload: bytes


class Found(NamedTuple):
    """A frame, and where it stands: from `start` to before `end`."""

    frame: Frame
    start: int
    end: int


def framed(frame: Frame) -> bytes:
    """Return a frame's bytes."""
    fields = _FIELDS.pack(_MARK, frame.kind, frame.number, frame.key, len(frame.payload), crc32(frame.payload))
    return fields + _CHECKSUM.pack(crc32(fields)) + frame.payload


def frames(data: bytes, start: int = START) -> Iterator[Found]:
    """Yield the whole frames of a file's bytes from an offset on."""
    at = data.find(_MARK, start)
    while at >= 0:
        found = _frame(data, at)
        if found is not None:
            yield found
        at = data.find(_MARK, at + 1 if found is None else found.end)


def damage(data: bytes, found: Iterable[Found]) -> Iterator[tuple[int, int]]:
    """Yield where records are missing from a file's bytes, and how many: the offset after them, and their number.

    Args:
        data: All of the file.
        found: All of its frames.
    """
    number, end = 1, START
    for frame, start, after in found:
        if frame.number > number:
            yield start, frame.number - number
        number, end = frame.number + 1, after
    if end < len(data) and not _is_begun(data, end):
        yield len(data), 1


def note(offset: int) -> bytes:
    """Return a note's bytes."""
    value = _NOTE.pack(offset)
    return value + _CHECKSUM.pack(crc32(value))


def notes(data: bytes) -> Notes:
    """Return the notes at the beginning of a file's bytes."""
    return Notes(*(_noted(data[at : at + NOTE_SIZE]) for at in range(0, START, NOTE_SIZE)))


def _noted(data: bytes) -> int:
    (offset,) = _NOTE.unpack(data[: _NOTE.size].ljust(_NOTE.size, b"\0"))
    return offset if note(offset) == data else 0


def _frame(data: bytes, at: int) -> Found | None:
    """Return the frame whose mark stands at an offset, if it is whole."""
    header = _header(data, at)
    if header is None:
        return None
    kind, number, key, length, checksum = header
    end = at + HEADER + length
    payload = data[at + HEADER : end]
    is_whole = len(payload) == length and crc32(payload) == checksum
    return Found(Frame(kind, number, key, payload), at, end) if is_whole else None


def _header(data: bytes, at: int) -> tuple[int, int, int, int, int] | None:
    """Return kind, number, key, length and checksum of the frame whose mark stands at an offset, if they are whole."""
    fields, checksum = data[at : at + _FIELDS.size], data[at + _FIELDS.size : at + HEADER]
    if checksum != _CHECKSUM.pack(crc32(fields)):
        return None
    mark, kind, number, key, length, of_payload = _FIELDS.unpack(fields)
    return (kind, number, key, length, of_payload) if mark == _MARK and length <= MAX_PAYLOAD else None


def _is_begun(data: bytes, at: int) -> bool:
    """Tell whether nothing stands at an offset but a frame's beginning."""
    rest = len(data) - at
    if rest < HEADER:
        return True
    header = _header(data, at)
    return header is not None and rest < HEADER + header[3]
