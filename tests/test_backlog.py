"""What waits on disk: delivered in order, by each stage for itself, counted exactly, over as many lives as it takes."""

import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from call_initiation.events import Attempt, Ledger
from call_initiation.journal.backlog import SMALLEST, Backlog, Files
from call_initiation.journal.entries import entry
from call_initiation.journal.frames import frames
from call_initiation.journal.segments import Record, Segment
from recording import lawful
from samples import REFUSED

BOTH, SPANS, EVENTS = 3, 1, 2
RESOURCE = b'{"service.name":"dialer"}'


def record(number: int, kind: int = BOTH, padding: int = 0) -> Record:
    """Return the record of a call that is known by when it started."""
    call = replace(REFUSED, started_at=number, error_type="x" * padding)
    return Record(kind, number + 1, entry(call))


class Desk:
    """Files in a folder, and two stages that deliver when a call started."""

    def __init__(self, folder: Path, size: int = SMALLEST) -> None:
        self.folder = folder
        self.files = Files(size)
        self.faults: list[str] = []
        self.files.fault = self.faults.append
        self.files.trouble = lambda path, meaning, error: self.faults.append(
            f"{path.name}: {meaning}: {error.strerror}"
        )
        self.spans: Backlog[int] = self.files.backlog("spans", made)
        self.events: Backlog[int] = self.files.backlog("events", made)
        self.freed = 0

    def keep(self, *records: Record) -> None:
        """Keep records."""
        self.files.append(records, self.make, self.free)

    def make(self) -> Segment:
        """Make the next file."""
        return Segment.made(self.folder / f"{next(NUMBERS):08d}.segment", RESOURCE)

    def free(self) -> None:
        """Count what was written."""
        self.freed += 1

    def adopt(self) -> None:
        """Take in every file of the folder."""
        self.files.adopt(sorted(self.folder.iterdir()))

    def deliver(self, backlog: "Backlog[int]", at_once: int = 100) -> list[int]:
        """Deliver all that a stage has."""
        delivered: list[int] = []
        while batch := backlog.take(at_once):
            delivered += batch
            backlog.settle(0)
        return delivered


NUMBERS = count()


def made(attempt: Attempt, resource: bytes) -> int | None:
    """Return what stands for a call; one in a thousand is nothing that could be delivered."""
    assert RESOURCE == resource
    return None if attempt.started_at == 999 else attempt.started_at


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """Return a desk with an empty folder."""
    return Desk(tmp_path)


def test_each_stage_delivers_in_order_what_is_for_it(desk: Desk) -> None:
    """One may be ahead of the other; a file that both are done with is gone with the end."""
    desk.keep(record(0), record(1, EVENTS), record(2, SPANS))
    desk.keep(record(3))
    assert 2 == desk.freed
    assert [0, 2, 3] == desk.deliver(desk.spans, at_once=2)
    assert Ledger(recorded=3, exported=3) == desk.spans.ledger()
    assert Ledger(recorded=3, pending=3) == desk.events.ledger()
    desk.files.close()
    assert 1 == len(list(desk.folder.iterdir()))
    assert [0, 1, 3] == desk.deliver(desk.events)
    desk.files.close()
    assert [] == list(desk.folder.iterdir()) == desk.files.segments


def test_what_is_put_back_comes_again(desk: Desk) -> None:
    """The same records, in the same order; they are pending all the while."""
    desk.keep(record(0), record(1), record(2))
    for _ in range(3):
        assert [0, 1] == desk.spans.take(2)
        assert Ledger(recorded=3, pending=3) == desk.spans.ledger()
        desk.spans.put_back()
    assert [0, 1, 2] == desk.deliver(desk.spans)
    desk.spans.put_back()
    desk.spans.settle(0)
    assert Ledger(recorded=3, exported=3) == desk.spans.ledger()


def test_what_a_collector_refuses_is_done_with(desk: Desk) -> None:
    """Counted, and not sent again."""
    desk.keep(*map(record, range(5)))
    assert [0, 1, 2] == desk.spans.take(3)
    desk.spans.settle(2)
    assert Ledger(recorded=5, exported=1, pending=2, dropped={"refused": 2}) == desk.spans.ledger()
    assert [3, 4] == desk.deliver(desk.spans)


def test_the_next_process_delivers_the_rest(desk: Desk) -> None:
    """Before what it records itself; what was delivered and noted isn't delivered again."""
    desk.keep(*map(record, range(4)))
    desk.spans.take(3)
    desk.spans.settle(0)
    heir = Desk(desk.folder)
    heir.keep(record(10))
    own = heir.files.segments[0].path
    assert {1, 2, 3, 4} <= heir.files.adopt([path for path in desk.folder.iterdir() if path != own])
    assert ([3, 10], [0, 1, 2, 3, 10]) == (heir.deliver(heir.spans), heir.deliver(heir.events))
    assert Ledger(recorded=2, exported=2, recovered=1) == heir.spans.ledger()
    assert Ledger(recorded=5, exported=5, recovered=4) == heir.events.ledger()
    assert [own] == list(desk.folder.iterdir())


def test_where_nothing_delivers_everything_is_kept(desk: Desk) -> None:
    """For a process that does."""
    desk.keep(record(0))
    idle = Files(SMALLEST)
    idle.adopt(sorted(desk.folder.iterdir()))
    idle.close()
    heir = Desk(desk.folder)
    heir.adopt()
    assert [0] == heir.deliver(heir.spans)


def test_what_waits_for_a_stage_that_is_off_is_kept(desk: Desk) -> None:
    """For a process in which that delivers, whatever the others have delivered meanwhile."""
    desk.keep(record(0), record(1, SPANS))
    desk.files.close()
    without_spans = Files(SMALLEST)
    events = without_spans.backlog("events", made)
    without_spans.adopt(sorted(desk.folder.iterdir()))
    assert [0] == desk.deliver(events)
    without_spans.close()
    assert Ledger(recorded=1, exported=1, recovered=1) == events.ledger()
    heir = Desk(desk.folder)
    heir.adopt()
    assert ([0, 1], []) == (heir.deliver(heir.spans), heir.deliver(heir.events))
    assert [] == list(desk.folder.iterdir())


def test_what_is_given_up_of_a_stage_that_is_off_is_a_fault(desk: Desk) -> None:
    """It has no books here in which that could stand; once for each file, and none for what nobody waits for."""
    big = Desk(desk.folder, 4 * SMALLEST)
    for number in range(2_500):
        big.keep(record(number, SPANS if number < 500 else EVENTS, padding=500))
    files, faults = Files(SMALLEST), list[str]()
    files.fault = faults.append
    files.backlog("events", made)
    files.adopt(sorted(desk.folder.iterdir()))
    with_spans = [segment for segment in big.files.segments if segment.waiting["spans"]]
    assert 1 < len(with_spans) < len(big.files.segments) - len(files.segments)
    assert ["journal"] * len(with_spans) == faults


def test_the_oldest_go_first_where_the_cap_is_reached(desk: Desk) -> None:
    """Counted exactly, each stage for itself; all files together never have more bytes than the cap."""
    total = 2_000
    for number in range(total):
        desk.keep(record(number, padding=500))
        if number == 10:
            desk.deliver(desk.spans)
        assert sum(path.stat().st_size for path in desk.folder.iterdir()) <= SMALLEST
    spans, events = lawful(desk.spans.ledger()), lawful(desk.events.ledger())
    assert total == spans.recorded == events.recorded
    assert 11 == spans.exported
    assert spans.dropped["journal_full"] == events.dropped["journal_full"] - 11 > 0
    kept = desk.deliver(desk.events, at_once=7)
    assert list(range(total - len(kept), total)) == kept
    assert SMALLEST * 7 // 8 < len(kept) * record(0, padding=500).size


def test_even_the_file_that_is_being_written_goes_for_the_cap(desk: Desk) -> None:
    """Where so much is written at once that nothing else is left to go, whether it was delivered or not."""
    large = [record(number, padding=15_000) for number in range(60)]
    desk.keep(*large)
    assert 60 == len(desk.deliver(desk.spans)) == len(desk.deliver(desk.events))
    desk.keep(*large)
    desk.keep(*large)
    assert Ledger(recorded=180, exported=60, pending=60, dropped={"journal_full": 60}) == desk.spans.ledger()
    assert 1 == len(list(desk.folder.iterdir()))


def test_what_is_in_hand_may_still_be_delivered_when_its_file_goes(desk: Desk) -> None:
    """It is counted once: as delivered, or as dropped where it is put back."""
    desk.keep(*map(record, range(4)))
    assert [0, 1] == desk.spans.take(2)
    assert [0, 1, 2] == desk.events.take(3)
    (first,), number = desk.files.segments, 4
    while not first.is_gone:
        desk.keep(record(number))
        number += 1
    waiting = sum(segment.waiting["spans"] for segment in desk.files.segments)
    lost = number - 4 - waiting
    assert Ledger(recorded=number, pending=waiting + 2, dropped={"journal_full": lost + 2}) == desk.spans.ledger()
    desk.spans.settle(0)
    assert Ledger(recorded=number, exported=2, pending=waiting, dropped={"journal_full": lost + 2}) == lawful(
        desk.spans.ledger()
    )
    desk.events.put_back()
    assert Ledger(recorded=number, pending=waiting, dropped={"journal_full": lost + 4}) == desk.events.ledger()


def test_a_smaller_cap_counts_for_what_is_found(desk: Desk) -> None:
    """Who may keep less gives the oldest up at once."""
    big = Desk(desk.folder, 4 * SMALLEST)
    total = 2_500
    for number in range(total):
        big.keep(record(number, padding=500))
    desk.adopt()
    ledger = lawful(desk.spans.ledger())
    assert (total, total) == (ledger.recorded, ledger.recovered)
    kept = desk.deliver(desk.spans)
    assert list(range(total - len(kept), total)) == kept
    assert total - len(kept) == ledger.dropped["journal_full"] > 0


def test_a_record_that_is_none_is_damaged(desk: Desk) -> None:
    """Its frame is whole, but no call can be read from it, or none that can be delivered; the others go on."""
    desk.keep(record(0), Record(BOTH, 5, b"{}"), record(999), record(1))
    assert [0, 1] == desk.spans.take(10)
    assert Ledger(recorded=4, pending=4) == desk.spans.ledger()
    desk.spans.settle(1)
    assert Ledger(recorded=4, exported=1, dropped={"damaged": 2, "refused": 1}) == desk.spans.ledger()


def test_where_nothing_can_be_read_the_next_is_tried(desk: Desk) -> None:
    """A whole batch of records that are none."""
    desk.keep(Record(BOTH, 5, b"{}"), Record(BOTH, 5, b"[]"), record(0))
    assert [0] == desk.spans.take(2)
    desk.spans.settle(0)
    assert Ledger(recorded=3, exported=1, dropped={"damaged": 2}) == desk.spans.ledger()


def test_damage_to_a_file_that_is_in_use_is_counted(desk: Desk) -> None:
    """What should be there and isn't, for each stage; nothing waits for it for ever."""
    desk.keep(record(0), record(1, SPANS), record(2))
    (path,) = desk.folder.iterdir()
    path.write_bytes(path.read_bytes().replace(record(2).payload, b"?" * len(record(2).payload)))
    assert ([0, 1], [0]) == (desk.deliver(desk.spans), desk.deliver(desk.events))
    assert Ledger(recorded=3, exported=2, dropped={"damaged": 1}) == desk.spans.ledger()
    assert Ledger(recorded=2, exported=1, dropped={"damaged": 1}) == desk.events.ledger()


def test_damage_to_a_file_that_was_found_is_counted_once(desk: Desk) -> None:
    """By the first life that finds it, though that one is killed, too."""
    desk.keep(record(0), record(1), record(2))
    (path,) = desk.folder.iterdir()
    path.write_bytes(path.read_bytes().replace(record(1).payload, b"?" * len(record(1).payload)))
    first, second = Desk(desk.folder), Desk(desk.folder)
    first.adopt()
    assert Ledger(recorded=3, pending=2, dropped={"damaged": 1}, recovered=3) == first.spans.ledger()
    second.adopt()
    assert [0, 2] == second.deliver(second.spans)
    assert Ledger(recorded=2, exported=2, recovered=2) == second.spans.ledger()


@pytest.mark.parametrize("how", ["flipped", "torn"])
def test_whatever_byte_is_hit_the_rest_is_delivered(how: str, desk: Desk) -> None:
    """At every offset of a file, its notes and its resource too: the oracle looks whose bytes are still there."""
    records = [Record(BOTH, number + 1, b'{"n":%d}' % number) for number in range(3)]
    desk.keep(*records)
    desk.spans.take(1)
    desk.spans.settle(0)
    (path,) = desk.folder.iterdir()
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :] if how == "flipped" else whole[:at])
        intact = [record.payload for record in records if _framed(whole, record) in path.read_bytes()]
        heir = Files(SMALLEST)
        events = heir.backlog("events", made)
        heir.fault = pytest.fail
        heir.adopt([path])
        ledger = lawful(events.ledger())
        lost = len(records) - len(intact) if how == "flipped" else 0
        assert (len(intact), len(intact) + lost, {"damaged": lost} if lost else {}) == (
            ledger.pending,
            ledger.recovered,
            ledger.dropped,
        )
        kept = [found.frame.payload for segment in heir.segments for found in frames(segment.path.read_bytes())]
        assert intact == [payload for payload in kept if payload != RESOURCE]
        path.unlink(missing_ok=True)


def _framed(whole: bytes, record: Record) -> bytes:
    """Return the bytes of a record, its header among them."""
    end = whole.index(record.payload) + len(record.payload)
    return whole[end - record.size : end]


def test_a_file_that_is_gone_is_lost_and_counted(desk: Desk) -> None:
    """Somebody has emptied the folder."""
    desk.keep(record(0), record(1))
    for path in desk.folder.iterdir():
        path.unlink()
    assert [] == desk.deliver(desk.spans)
    assert Ledger(recorded=2, dropped={"damaged": 2}) == desk.spans.ledger()
    with pytest.raises(FileNotFoundError):
        desk.keep(record(2))
    desk.keep(record(2))
    assert [2] == desk.deliver(desk.spans)


def test_a_file_that_cannot_be_read_now_is_tried_again(desk: Desk) -> None:
    """Others are read meanwhile, and the fault is counted."""
    desk.keep(record(0))
    aside = desk.folder.rename(desk.folder.with_name(f"{desk.folder.name}-aside"))
    desk.folder.touch()
    assert () == desk.spans.take(10)
    expected = f"{desk.files.segments[0].path.name}: what waits there stays, and is tried again: Not a directory"
    assert ([expected], Ledger(recorded=1, pending=1)) == (desk.faults, desk.spans.ledger())
    desk.folder.unlink()
    aside.rename(desk.folder)
    assert [0] == desk.deliver(desk.spans)


def test_a_file_that_cannot_be_removed_goes_when_it_can(desk: Desk) -> None:
    """All in it was delivered, and who finds it would deliver it again: its disk took nothing meanwhile."""
    desk.keep(record(0, SPANS))
    desk.files.close()
    path = desk.files.segments[0].path
    assert [0] == desk.spans.take(1)
    aside = desk.folder.rename(desk.folder.with_name(f"{desk.folder.name}-aside"))
    desk.folder.touch()
    desk.spans.settle(0)
    desk.files.sweep()
    assert (["journal"], Ledger(recorded=1, exported=1)) == (desk.faults, desk.spans.ledger())
    desk.folder.unlink()
    aside.rename(desk.folder)
    assert path.exists()
    desk.files.sweep()
    assert not path.exists()


def test_what_stands_in_a_files_place_is_not_waited_for(desk: Desk) -> None:
    """A pipe: what was in the file is lost, and counted."""
    desk.keep(record(0))
    path = desk.files.segments[0].path
    path.unlink()
    os.mkfifo(path)
    assert [] == desk.deliver(desk.spans)
    assert Ledger(recorded=1, dropped={"damaged": 1}) == desk.spans.ledger()


def test_no_more_is_delivered_of_a_file_than_was_recorded(desk: Desk) -> None:
    """Somebody has put another file in its place, of the same length and with more in it."""
    desk.keep(record(0, padding=4_000), record(1))
    path, size = desk.files.segments[0].path, desk.files.segments[0].size
    other = Desk(desk.folder)
    other.keep(record(2), record(3), record(4))
    path.write_bytes(other.files.segments[0].path.read_bytes().ljust(size, b"\0"))
    assert [2, 3] == desk.deliver(desk.spans)
    assert Ledger(recorded=2, exported=2) == desk.spans.ledger()


@pytest.mark.parametrize("is_told", [False, True])
def test_a_file_that_is_written_no_more_goes_when_all_is_delivered(is_told: bool, desk: Desk) -> None:  # noqa: FBT001 - parametrized
    """Whether a record couldn't be written there, or somebody knows that it can't; another one is begun."""
    desk.keep(record(0))
    path = desk.files.segments[0].path
    assert [0] == desk.deliver(desk.spans) == desk.deliver(desk.events)
    assert path.exists()
    if is_told:
        desk.files.renew()
        desk.files.renew()
    else:
        os.truncate(path, 3)
        with pytest.raises(OSError, match="somebody else"):
            desk.keep(record(1))
    assert not path.exists()
    desk.keep(record(2))
    assert [2] == desk.deliver(desk.spans)


def test_a_file_that_cannot_be_adopted_is_left_where_it_is(desk: Desk) -> None:
    """The others are taken in."""
    desk.keep(record(0))
    (desk.folder / "z.segment").mkdir()
    heir = Desk(desk.folder)
    heir.adopt()
    expected = "z.segment: what waits there is left to the next process: no plain file is there any more"
    assert ([expected], [0]) == (heir.faults, heir.deliver(heir.spans))
    assert (desk.folder / "z.segment").exists()


def test_a_stage_goes_on_where_its_way_cannot_be_noted(desk: Desk) -> None:
    """The file is gone when the answer comes: it was delivered all the same."""
    desk.keep(record(0))
    assert [0] == desk.spans.take(1)
    for path in desk.folder.iterdir():
        path.unlink()
    desk.spans.settle(0)
    assert Ledger(recorded=1, exported=1) == desk.spans.ledger()


def test_a_reset_begins_with_nothing(desk: Desk) -> None:
    """What is kept is the parent's."""
    desk.keep(record(0))
    desk.spans.take(1)
    desk.files.reset()
    assert Ledger() == desk.spans.ledger() == desk.events.ledger()
    assert () == desk.spans.take(1)
    assert 1 == len(list(desk.folder.iterdir()))


KEEPING = st.tuples(st.just("keep"), st.integers(1, 6), st.sampled_from([BOTH, SPANS, EVENTS]))
STEPS = st.one_of(
    KEEPING,
    KEEPING,
    st.tuples(st.sampled_from(["spans", "events"]), st.integers(1, 8), st.sampled_from(["yes", "not now", "refused"])),
    st.tuples(st.just("kill"), st.just(0), st.just("")),
    st.tuples(st.just("end"), st.just(0), st.just("")),
)


@settings(max_examples=60)
@given(st.lists(STEPS, max_size=25))
def test_over_all_lives_each_record_is_accounted_for_once(  # noqa: C901 - a model has as many branches as there are steps
    steps: list[tuple[str, int, str | int]],
) -> None:
    """However often the process is killed: delivered in order and once, or refused, or still waiting."""
    with tempfile.TemporaryDirectory() as folder:
        desk, kept = Desk(Path(folder)), {"spans": list[int](), "events": list[int]()}
        ended: dict[str, list[Ledger]] = {"spans": [], "events": []}
        outcomes: dict[str, list[int]] = {"spans": [], "events": []}
        numbers = count(1000)
        for what, amount, how in steps:
            if what == "keep":
                for number in [next(numbers) for _ in range(amount)]:
                    assert isinstance(how, int)
                    desk.keep(record(number, how))
                    for stage, bit in (("spans", SPANS), ("events", EVENTS)):
                        kept[stage] += [number] if how & bit else []
            elif what in {"kill", "end"}:
                if what == "end":
                    desk.files.close()
                for stage, backlog in desk.files.backlogs.items():
                    ended[stage].append(lawful(backlog.ledger()))
                desk = Desk(Path(folder))
                desk.adopt()
                for stage, backlog in desk.files.backlogs.items():
                    assert ended[stage][-1].pending == backlog.ledger().recovered
            elif batch := desk.files.backlogs[what].take(amount):
                outcomes[what] += [] if how == "not now" else batch
                if how == "not now":
                    desk.files.backlogs[what].put_back()
                else:
                    desk.files.backlogs[what].settle(len(batch) if how == "refused" else 0)
        for stage, backlog in desk.files.backlogs.items():
            last = lawful(backlog.ledger())
            waiting = list(_rest(backlog))
            assert kept[stage] == outcomes[stage] + waiting
            lives = [*ended[stage], last]
            assert len(kept[stage]) == sum(life.recorded - life.recovered for life in lives)
            passed = sum(life.exported + sum(life.dropped.values()) for life in lives)
            assert len(kept[stage]) == passed + last.pending


def _rest(backlog: "Backlog[int]") -> Iterator[int]:
    while batch := backlog.take(50):
        yield from batch
        backlog.settle(0)
