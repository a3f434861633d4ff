"""What a journal's file promises: what was appended is read again by whoever finds it, and how far each stage came."""

import os
import shutil
from pathlib import Path

import pytest

from call_initiation.journal.frames import START, framed, frames
from call_initiation.journal.segments import Part, Record, Segment
from limits import no_file_larger_than

BOTH, SPANS, EVENTS = 3, 1, 2
RESOURCE = b'{"service.name":"dialer"}'


@pytest.fixture
def segment(tmp_path: Path) -> Segment:
    """Return a new file."""
    return Segment.made(tmp_path / "a.segment", RESOURCE)


def records(*kinds: int) -> list[Record]:
    """Return records of some kinds, each with a payload of its own."""
    return [Record(kind, key, b'{"n":%d}' % key) for key, kind in enumerate(kinds, 1)]


def payloads(part: Part) -> list[bytes]:
    """Return what the records of a part say."""
    return [record.payload for record in part.records]


def hit(path: Path, payload: bytes) -> None:
    """Damage a record."""
    data = path.read_bytes()
    assert 1 == data.count(payload)
    path.write_bytes(data.replace(payload, b"?" * len(payload)))


def test_each_stage_reads_what_is_for_it_in_order(segment: Segment) -> None:
    """At most so many at once; and again, until it is noted that they are done with."""
    segment.append(records(BOTH, EVENTS, SPANS, BOTH))
    assert {"spans": 3, "events": 3} == segment.waiting
    part = segment.next("spans", 2)
    assert [b'{"n":1}', b'{"n":3}'] == payloads(part) == payloads(segment.next("spans", 2))
    segment.passed("spans", part)
    assert [b'{"n":4}'] == payloads(segment.next("spans", 2))
    assert [b'{"n":1}', b'{"n":2}', b'{"n":4}'] == payloads(segment.next("events", 9))
    assert {"spans": 1, "events": 3} == segment.waiting


def test_a_file_is_its_owners_alone(segment: Segment) -> None:
    """Nobody else may read it; a name is used once."""
    assert 0o600 == segment.path.stat().st_mode & 0o777
    with pytest.raises(FileExistsError):
        Segment.made(segment.path, RESOURCE)


def test_its_size_is_known(segment: Segment) -> None:
    """Before it is written, and after."""
    before, more = segment.size, records(BOTH, BOTH)
    segment.append(more)
    assert segment.path.stat().st_size == segment.size == before + sum(record.size for record in more)


def test_who_finds_a_file_goes_on_where_its_process_was(segment: Segment) -> None:
    """Of each stage; the resource and the keys are read, too."""
    segment.append(records(BOTH, BOTH, BOTH))
    segment.passed("spans", segment.next("spans", 2))
    found = Segment.found(segment.path)
    assert {"spans": 1, "events": 3} == found.waiting
    assert ([b'{"n":3}'], 3) == (payloads(found.next("spans", 9)), len(found.next("events", 9).records))
    assert (RESOURCE, segment.size) == (found.resource, found.size)
    assert ({0, 1, 2, 3}, set()) == (found.forget_keys(), found.forget_keys())
    assert not found.lost


def test_damage_costs_what_it_hit_and_is_counted_once(segment: Segment) -> None:
    """By the first who finds it; and not for the stage that had already read it."""
    segment.append(records(BOTH, BOTH, BOTH))
    segment.passed("spans", segment.next("spans", 2))
    hit(segment.path, b'{"n":2}')
    found = Segment.found(segment.path)
    assert ({"spans": 1, "events": 2}, {"spans": 0, "events": 1}) == (found.waiting, found.lost)
    assert [b'{"n":1}', b'{"n":3}'] == payloads(found.next("events", 9))
    assert not Segment.found(segment.path).lost


def test_a_damaged_resource_is_none(segment: Segment) -> None:
    """The records are as good as ever, and none is lost."""
    segment.append(records(BOTH))
    hit(segment.path, RESOURCE)
    found = Segment.found(segment.path)
    assert (b"", 0, [b'{"n":1}']) == (found.resource, found.lost["spans"], payloads(found.next("spans", 9)))


def test_a_damaged_note_sends_a_stage_back_to_the_beginning(segment: Segment) -> None:
    """Records are delivered twice rather than never."""
    segment.append(records(BOTH, BOTH))
    segment.passed("spans", segment.next("spans", 2))
    data = bytearray(segment.path.read_bytes())
    data[0] ^= 1
    segment.path.write_bytes(data)
    assert 2 == Segment.found(segment.path).waiting["spans"]


def test_a_torn_end_is_no_record(segment: Segment) -> None:
    """And none that was lost: its call is still in the table."""
    segment.append(records(BOTH, BOTH))
    *_, (last, start, _) = frames(segment.path.read_bytes())
    for length in range(len(framed(last))):
        segment.path.write_bytes(segment.path.read_bytes()[: start + length])
        found = Segment.found(segment.path)
        assert (1, 0) == (found.waiting["spans"], found.lost["spans"])
        segment.path.write_bytes(segment.path.read_bytes()[:start] + framed(last))


def test_an_empty_file_is_one_of_nothing(tmp_path: Path) -> None:
    """Its process was killed when it had just made it."""
    path = tmp_path / "a.segment"
    path.touch()
    found = Segment.found(path)
    assert ({}, b"", 0) == (found.waiting, found.resource, found.size)
    assert START <= found.next("spans", 1).end


def test_records_are_written_all_or_none(segment: Segment) -> None:
    """On a full disk the file stays as it was; when there is room again, they are written."""
    segment.append(records(BOTH))
    before = segment.path.read_bytes()
    with no_file_larger_than(len(before) + 50), pytest.raises(OSError, match="File too large"):
        segment.append(records(BOTH, BOTH))
    assert (before, len(before), 1) == (segment.path.read_bytes(), segment.size, segment.waiting["spans"])
    segment.append(records(BOTH, BOTH))
    assert (3, 0) == (Segment.found(segment.path).waiting["spans"], Segment.found(segment.path).lost["spans"])


def test_what_stands_beyond_what_was_written_is_no_part_of_it(segment: Segment) -> None:
    """A disk took a beginning and refused the rest, and then refused to have it cut off."""
    segment.append(records(BOTH))
    written = segment.path.read_bytes()
    with segment.path.open("ab") as file:
        file.write(written[START:])
    assert [b'{"n":1}'] == payloads(segment.next("spans", 9))


@pytest.mark.parametrize("change", [-3, 3])
def test_a_file_that_somebody_else_has_changed_is_written_no_more(change: int, segment: Segment) -> None:
    """Shorter or longer: nobody knows where the next record would stand. What can be read is read."""
    segment.append(records(BOTH, BOTH))
    os.truncate(segment.path, segment.size + change)
    with pytest.raises(OSError, match=r"somebody else has written to a\.segment"):
        segment.append(records(BOTH))
    assert 2 == segment.waiting["spans"]
    assert [b'{"n":1}', b'{"n":2}'][: 2 if change > 0 else 1] == payloads(segment.next("spans", 9))


def test_no_link_in_its_place_is_followed(segment: Segment, tmp_path: Path) -> None:
    """Nor is anything read through it."""
    segment.append(records(BOTH))
    part, other = segment.next("spans", 1), tmp_path / "other"
    segment.path.rename(other)
    before = other.read_bytes()
    segment.path.symlink_to(other)
    for work in (lambda: segment.next("spans", 1), lambda: segment.append(records(BOTH))):
        with pytest.raises(FileNotFoundError):
            work()
    with pytest.raises(FileNotFoundError):
        segment.passed("spans", part)
    with pytest.raises(FileNotFoundError):
        Segment.found(segment.path)
    assert before == other.read_bytes()


def test_a_file_that_cannot_be_made_is_not_there(tmp_path: Path) -> None:
    """Not even a part of one."""
    with no_file_larger_than(30), pytest.raises(OSError, match="File too large"):
        Segment.made(tmp_path / "a.segment", RESOURCE)
    assert [] == list(tmp_path.iterdir())


def test_what_is_removed_is_gone(segment: Segment) -> None:
    """Whether it was there or not; nobody can append to it, and it doesn't come back."""
    segment.remove()
    segment.remove()
    assert segment.is_gone
    with pytest.raises(FileNotFoundError):
        segment.append(records(BOTH))
    assert not segment.path.exists()


def test_a_note_that_cannot_be_written_down_is_told(segment: Segment) -> None:
    """The stage goes on all the same."""
    segment.append(records(BOTH, BOTH))
    part = segment.next("spans", 1)
    moved = segment.path.with_suffix(".moved")
    shutil.move(segment.path, moved)
    with pytest.raises(FileNotFoundError):
        segment.passed("spans", part)
    shutil.move(moved, segment.path)
    assert ([b'{"n":2}'], 1) == (payloads(segment.next("spans", 9)), segment.waiting["spans"])


def test_damage_on_a_disk_that_takes_nothing_is_counted_again(segment: Segment) -> None:
    """It can't be noted that it was counted."""
    segment.append(records(BOTH, BOTH))
    hit(segment.path, b'{"n":1}')
    with no_file_larger_than(1):
        assert 1 == Segment.found(segment.path).lost["spans"]
    assert 1 == Segment.found(segment.path).lost["spans"]
