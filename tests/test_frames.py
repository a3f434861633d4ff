"""What the journal's form promises: whatever becomes of a file, the frames that are still whole are found, all of them.

The oracle is naive: a frame is there if its bytes are.
"""

from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from call_initiation.journal.entries import entry
from call_initiation.journal.frames import (
    MAX_PAYLOAD,
    NOTE_SIZE,
    START,
    Frame,
    Notes,
    damage,
    framed,
    frames,
    note,
    notes,
)
from samples import REFUSED, UNANSWERED

MARK = framed(Frame(0, 0, 0, b""))[:4]
KEPT = [
    Frame(kind=1 + number % 3, number=number, key=2**64 - 1 - number, payload=payload)
    for number, payload in enumerate((b"", b"{}", b'{"a":1}' * 3, entry(REFUSED), b"x", entry(UNANSWERED), b"last"))
]
WRITTEN = [framed(frame) for frame in KEPT]
HEAD = b"".join(map(note, Notes(24, 25, 26)))
FILE = HEAD + b"".join(WRITTEN)


def found(data: bytes) -> list[Frame]:
    """Return the frames that are found."""
    return [frame for frame, _, _ in frames(data)]


def still_there(data: bytes) -> list[Frame]:
    """Return the frames whose bytes are in the data, in the order in which they stand there."""
    places = [(data.find(written, START), frame) for written, frame in zip(WRITTEN, KEPT, strict=True)]
    return [frame for place, frame in sorted(places, key=lambda pair: pair[0]) if place >= 0]


def lost(data: bytes) -> int:
    """Return how many records are told to be missing."""
    return sum(count for _, count in damage(data, frames(data)))


def test_what_was_written_is_read() -> None:
    """Each with the place where it stands; from any offset on."""
    assert KEPT == found(FILE)
    places = [(start, end) for _, start, end in frames(FILE)]
    assert WRITTEN == [FILE[start:end] for start, end in places]
    for at, (start, _) in enumerate(places):
        assert KEPT[at:] == [frame for frame, _, _ in frames(FILE, start)]
    assert 0 == lost(FILE)


def test_an_empty_file_holds_nothing() -> None:
    """Nor does one that has only its notes."""
    assert [] == found(b"") == found(HEAD)
    assert 0 == lost(b"") == lost(HEAD)


@pytest.mark.parametrize("flip", [0x01, 0x10, 0x80, 0xFF])
def test_a_flip_at_any_offset_costs_one_record_at_most(flip: int) -> None:
    """The others are found, and the one that is lost is counted, unless it is the first one, which is no record.

    A note that is hit counts as 0.
    """
    for at in range(len(FILE)):
        data = bytearray(FILE)
        data[at] ^= flip
        assert still_there(bytes(data)) == found(bytes(data))
        assert (at >= START) == len(KEPT) - len(found(bytes(data)))
        assert (at >= START + len(WRITTEN[0])) == lost(bytes(data))
        hit = at // NOTE_SIZE
        assert Notes(*(0 if hit == place else 24 + place for place in range(3))) == notes(bytes(data))


def test_a_tear_at_any_offset_costs_what_was_not_yet_written() -> None:
    """It isn't counted as damage: such a record was never wholly there."""
    for at in range(len(FILE)):
        assert still_there(FILE[:at]) == found(FILE[:at])
        assert 0 == lost(FILE[:at])


def spliced(data: bytes, splices: Sequence[tuple[float, int, bytes]]) -> bytes:
    """Replace a few bytes at some places by others."""
    for place, length, put in splices:
        at = START + int(place * (len(data) - START))
        data = data[:at] + put + data[at + length :]
    return data


nasty = st.one_of(
    st.binary(max_size=80),
    st.sampled_from([MARK, MARK * 3, WRITTEN[3][:40], WRITTEN[3][4:], WRITTEN[0][:-1], b"\0" * 50]),
)


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 400), nasty), max_size=6))
def test_after_any_damage_what_is_whole_is_found(splices: list[tuple[float, int, bytes]]) -> None:
    """Bytes overwritten, cut out and put in, among them marks and halves of frames."""
    data = spliced(FILE, splices)
    assert still_there(data) == found(data)
    assert lost(data) >= 0


@given(st.sets(st.integers(0, len(KEPT) - 1)), st.randoms(use_true_random=False))
def test_records_that_were_overwritten_are_counted(victims: set[int], random: Random) -> None:
    """By their numbers; those at the end, of which nobody knows, as one."""
    data = bytearray(FILE)
    places = [(start, end) for _, start, end in frames(FILE)]
    for victim in victims:
        start, end = places[victim]
        data[start:end] = random.randbytes(end - start)
    last = max((number for number in range(len(KEPT)) if number not in victims), default=-1)
    expected = sum(0 < victim < last for victim in victims) + (last < len(KEPT) - 1)
    assert (expected, len(KEPT) - len(victims)) == (lost(bytes(data)), len(found(bytes(data))))


def test_damage_is_told_with_its_place() -> None:
    """The offset of what comes after it, so that a reader who is past it isn't told again."""
    (_, _, _), (_, second, _), (_, third, _), *_ = frames(FILE)
    data = FILE[:second] + b"?" * (third - second) + FILE[third:]
    assert [(third, 1)] == list(damage(data, frames(data)))
    assert [(len(FILE) + 40, 1)] == list(damage(FILE + b"?" * 40, frames(FILE + b"?" * 40)))


def test_a_record_longer_than_allowed_is_none() -> None:
    """A header that claims more isn't believed, though its checksum holds."""
    assert 1 == len(found(HEAD + framed(Frame(1, 0, 1, b"x" * MAX_PAYLOAD))))
    assert [] == found(HEAD + framed(Frame(1, 0, 1, b"x" * (MAX_PAYLOAD + 1))))


@given(st.binary(max_size=300))
def test_any_bytes_are_read(data: bytes) -> None:
    """Nothing raises."""
    assert [] == found(data)
    assert Notes() == notes(b"\xff" + data)
