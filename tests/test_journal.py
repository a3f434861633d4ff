"""What the journal promises of one life and over several, with real files and no process but this one."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from shutil import rmtree
from tempfile import TemporaryDirectory

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from call_initiation.calls.client import doors
from call_initiation.calls.endpoints import match
from call_initiation.calls.observation import Observation
from call_initiation.calls.tracing import Tracing
from call_initiation.errors import SettingsError
from call_initiation.events import Attempt, Event, LateChange, Ledger, Outcome
from call_initiation.journal.backlog import SMALLEST, Backlog, Files
from call_initiation.journal.in_flight import InFlight
from call_initiation.journal.journal import AGAIN, AT_ONCE, CALM, Journal
from call_initiation.journal.slots import SLOT
from limits import files_to_open, no_file_larger_than
from samples import ACCEPTED, REFUSED, SPAN
from twins import TRUST

RESOURCE = b'{"service.name":"dialer"}'
STREAMS = doors("httpx").sync(httpx.HTTPTransport(verify=TRUST), None)._parts.streams


class Kept(list[Event]):
    """A sink that keeps what it is given, and may be broken."""

    is_broken = False

    def record(self, event: Event) -> None:
        """Take one event."""
        if self.is_broken:
            raise ZeroDivisionError
        self.append(event)


class Life:
    """A process's journal and what stands around it; the test is its recorder."""

    def __init__(self, folder: Path, stages: tuple[str, ...] = ("spans", "events")) -> None:
        self.folder = folder
        self.faults: list[str] = []
        self.asked = 0
        self.submitted: list[Observation] = []
        self.files = Files(SMALLEST)
        self.stages: dict[str, Backlog[Attempt]] = {stage: self.files.backlog(stage, taken) for stage in stages}
        self.beside = {stage: Kept() for stage in stages}
        self.in_flight = InFlight(self, lambda _: None)
        self.journal = Journal(
            folder,
            self.files,
            self.in_flight,
            beside=self.beside,
            resource=lambda: RESOURCE,
            take_over=self.ask,
        )

    def submit(self, observation: Observation) -> bool:
        """Take an observation, as a recorder."""
        self.submitted.append(observation)
        return True

    def fault(self, stage: str) -> None:
        """Count a fault."""
        self.faults.append(stage)

    def ask(self) -> bool:
        """Be asked to take over."""
        self.asked += 1
        return True

    def begin(self) -> "Life":
        """Open the journal, and take over what others have left; return the life itself."""
        self.journal.open()
        self.inherit()
        return self

    def inherit(self) -> list[Attempt]:
        """Take over, and record what is told of, as the recorder does."""
        told: list[Attempt] = []
        for attempt in self.journal.inherited():
            self.journal.record(attempt)
            told.append(attempt)
        self.journal.turn()
        return told

    def call(self, status: int | None = None) -> Observation:
        """Place a call; with a status, it has ended."""
        request = httpx.Request("POST", "https://api.example.com/api/v2/conversations/calls", json={})
        endpoint = match("POST", request.url.raw_path)
        assert endpoint is not None
        observation = Observation(endpoint, request, STREAMS, Tracing(), self.in_flight)
        self.journal.begin(observation)
        if status is not None:
            observation.status_code, observation.ended_ns = status, observation.started_ns + 250_000_000
            self.in_flight.submit(observation)
        return observation

    def record(self, attempt: Attempt, observation: Observation | None = None) -> None:
        """Record a call, as the recorder does."""
        self.journal.expect(observation or self.call(attempt.status_code))
        self.journal.record(attempt)

    def deliver(self, stage: str) -> list[Attempt]:
        """Deliver all that waits for a stage."""
        delivered: list[Attempt] = []
        while batch := self.stages[stage].take(100):
            delivered += batch
            self.stages[stage].settle(0)
        return delivered

    def waiting(self) -> dict[str, int]:
        """Return how many records wait for each stage."""
        return {stage: backlog.ledger().pending for stage, backlog in self.stages.items()}

    def kill(self) -> "Life":
        """End as a process that is killed; return the next life, which has taken over nothing yet."""
        self.in_flight.reset()
        heir = Life(self.folder, tuple(self.stages))
        heir.journal.open()
        return heir


def taken(attempt: Attempt, resource: bytes) -> Attempt:
    """Return what a stage delivers."""
    assert RESOURCE == resource
    return attempt


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return where the journal is to be."""
    return tmp_path / "journal"


@pytest.fixture
def life(folder: Path) -> Iterator[Life]:
    """Yield a life that has begun."""
    life = Life(folder).begin()
    yield life
    life.in_flight.reset()


def suffixes(folder: Path) -> list[str]:
    """Return what kinds of files there are."""
    return sorted(path.suffix for path in folder.iterdir())


def test_a_failure_is_written_at_the_end_of_its_turn(life: Life) -> None:
    """Then its place in the table is free; each stage delivers it, and nothing goes through memory."""
    observation = life.call(400)
    life.record(REFUSED, observation)
    assert {"spans": 0, "events": 0} == life.waiting()
    assert life.in_flight.place(observation) is not None
    life.journal.turn()
    assert life.in_flight.place(observation) is None
    assert [REFUSED] == life.deliver("spans") == life.deliver("events")
    assert ({"spans": [], "events": []}, []) == (life.beside, life.faults)


def test_many_failures_do_not_wait_for_the_end_of_a_turn(life: Life) -> None:
    """A turn may be long where calls are many."""
    for number in range(AT_ONCE + 1):
        life.record(replace(REFUSED, started_at=number))
    assert {"spans": AT_ONCE, "events": AT_ONCE} == life.waiting()
    life.journal.turn()
    assert list(range(AT_ONCE + 1)) == [attempt.started_at for attempt in life.deliver("spans")]


def test_what_is_no_failure_goes_its_usual_way(life: Life) -> None:
    """Through memory; other events are nobody's concern."""
    life.record(ACCEPTED)
    life.journal.record(LateChange(agent_id="a", at=1.0))
    life.journal.turn()
    assert {"spans": [ACCEPTED], "events": [ACCEPTED]} == life.beside
    assert [".table"] == suffixes(life.folder)


@pytest.mark.parametrize(
    ("span", "expected"),
    [(None, {"spans": 0, "events": 1}), (replace(SPAN, adopted=True), {"spans": 0, "events": 1})],
    ids=["no span", "another's span"],
)
def test_a_failure_without_a_span_of_ours_is_an_event_alone(span: None, expected: dict[str, int], life: Life) -> None:
    """Nothing waits for a span that nobody will deliver."""
    life.record(replace(REFUSED, span=span))
    life.journal.turn()
    assert expected == life.waiting()


def test_where_nothing_delivers_nothing_is_written(folder: Path) -> None:
    """The table is kept all the same, for numbers and the page; its places are free at once."""
    life = Life(folder, stages=()).begin()
    observation = life.call(400)
    life.record(REFUSED, observation)
    assert life.in_flight.place(observation) is None
    assert [".table"] == suffixes(folder)
    life.in_flight.reset()


def test_a_failure_that_is_too_long_goes_through_memory(life: Life) -> None:
    """It is counted there, and delivered."""
    long = replace(REFUSED, error_type="x" * 20_000)
    life.record(long)
    assert {"spans": [long], "events": [long]} == life.beside


def test_a_killed_process_leaves_its_failures(life: Life) -> None:
    """The next one delivers what wasn't delivered, and reports no call as under way."""
    for number in range(3):
        life.record(replace(REFUSED, started_at=number))
    life.journal.turn()
    life.stages["spans"].take(2)
    life.stages["spans"].settle(0)
    heir = life.kill()
    assert [] == heir.inherit()
    assert ([2], [0, 1, 2]) == (
        [attempt.started_at for attempt in heir.deliver("spans")],
        [attempt.started_at for attempt in heir.deliver("events")],
    )
    assert Ledger(recorded=1, exported=1, recovered=1) == heir.stages["spans"].ledger()
    assert Ledger(recorded=3, exported=3, recovered=3) == heir.stages["events"].ledger()
    assert [".table"] == suffixes(heir.folder)
    heir.in_flight.reset()


def test_a_killed_process_leaves_its_calls(life: Life) -> None:
    """Those under way are ambiguous, those that had ended are what they were, and nothing is said of those accepted."""
    under_way, _, _, written = life.call(), life.call(202), life.call(400), life.call(400)
    life.record(REFUSED, written)
    life.journal.turn()
    heir = life.kill()
    first, second = heir.inherit()
    assert (under_way.started_at, Outcome.AMBIGUOUS, "process_died") == (
        first.started_at,
        first.outcome,
        first.error_type,
    )
    assert (Outcome.REJECTED, "400") == (second.outcome, second.error_type)
    assert Ledger(recorded=2, exported=2) == heir.journal.ledger()
    assert [REFUSED, first, second] == heir.deliver("events")
    assert Ledger(recorded=3, exported=3, recovered=1) == heir.stages["events"].ledger()
    heir.in_flight.reset()


def test_each_call_is_told_of_once_however_often_processes_are_killed(life: Life) -> None:
    """Whether they had told of some of them, or of all, or had begun to take over only."""
    placed = [life.call().started_at for _ in range(4)]
    second = life.kill()
    third = second.kill()
    inherited = third.journal.inherited()
    third.journal.record(next(inherited))
    third.journal.turn()
    next(inherited)
    assert Ledger(recorded=2, exported=1, pending=1) == third.journal.ledger()
    fourth = third.kill()
    assert 3 == len(fourth.inherit())
    fifth = fourth.kill()
    assert [] == fifth.inherit()
    assert Ledger() == fifth.journal.ledger()
    assert placed == sorted(attempt.started_at for attempt in fifth.deliver("events"))
    fifth.in_flight.reset()


def test_a_failure_that_was_written_is_not_told_of_by_the_table(life: Life) -> None:
    """A process was killed after a failure was written, and before its place was free."""
    observation = life.call(400)
    place = life.in_flight.place(observation)
    assert place is not None
    table = next(life.folder.glob("*.table"))
    before = table.read_bytes()
    life.record(REFUSED, observation)
    life.journal.turn()
    life.in_flight.reset()
    table.write_bytes(before)
    heir = life.kill()
    assert [] == heir.inherit()
    assert ([REFUSED], [REFUSED], Ledger()) == (
        heir.deliver("spans"),
        heir.deliver("events"),
        heir.journal.ledger(),
    )
    assert [".table"] == suffixes(heir.folder)
    heir.in_flight.reset()


def test_an_end_in_order_leaves_what_waits_and_no_table(life: Life) -> None:
    """After it, nothing is noted and nothing is written."""
    life.record(REFUSED)
    life.journal.turn()
    life.journal.close()
    assert [".segment"] == suffixes(life.folder)
    life.call(400)
    life.journal.turn()
    assert [] == life.faults
    heir = Life(life.folder).begin()
    assert [REFUSED] == heir.deliver("spans")
    heir.in_flight.reset()


def test_a_call_that_could_not_be_assessed_leaves_its_place(life: Life) -> None:
    """There is no record of it, which the recorder counts."""
    observation = life.call(400)
    life.journal.expect(observation)
    life.record(ACCEPTED)
    assert life.in_flight.place(observation) is None


# -- what a disk may do -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_calm", [True, False])
def test_what_cannot_be_written_goes_through_memory(
    is_calm: bool,  # noqa: FBT001 - parametrized
    life: Life,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each of its stages gets it, though another one is broken; when the disk is well again, it is used again.

    That is counted each time, and said once, until it has been well for a while.
    """
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("call_initiation.journal.journal.CALM", 0.0 if is_calm else CALM)
    life.beside["spans"].is_broken, large = True, replace(REFUSED, error_type="x" * 3_000)
    unwritten = f"journal: {life.folder} can't be written (File too large): failures wait in memory until it can"
    again = f"journal: {life.folder} is written again"
    for faults in (["journal", "spans"] * 2, ["journal", "spans"] * 4):
        observations = [life.call(400), life.call(400)]
        with no_file_larger_than(SLOT * 4):
            for observation in observations:
                life.record(large, observation)
                life.journal.turn()
        assert ([large] * (len(faults) // 2), faults) == (life.beside["events"], life.faults)
        assert [None, None] == [life.in_flight.place(observation) for observation in observations]
        life.record(REFUSED)
        life.journal.turn()
    assert {"spans": 2, "events": 2} == life.waiting()
    assert ([unwritten, again] * 2 if is_calm else [unwritten]) == caplog.messages


@pytest.mark.parametrize("fate", ["emptied", "removed", "renamed", "replaced"])
def test_a_folder_that_is_not_there_any_more_is_begun_anew(
    fate: str, life: Life, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process takes none of what is written there; what is gone is counted, and where it was moved it waits."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("call_initiation.journal.journal.CALM", 0.0)
    life.record(REFUSED)
    life.journal.turn()
    aside = life.folder.with_name("aside")
    if fate == "emptied":
        for path in life.folder.iterdir():
            path.unlink()
    else:
        life.folder.rename(aside)
    if fate == "removed":
        rmtree(aside)
    if fate == "replaced":
        life.folder.mkdir(mode=0o700)
        (life.folder / "1.5-00000000.segment").touch()
    life.record(replace(REFUSED, started_at=5))
    life.journal.turn()
    life.inherit()
    assert ([".segment", ".table"], ["journal"], 2) == (suffixes(life.folder), life.faults, life.asked)
    expected = (
        "was emptied, removed or replaced: it is begun anew; what waited in files that are gone is dropped as damaged"
    )
    assert [f"journal: {life.folder} {expected}", f"journal: {life.folder} is written again"] == caplog.messages
    assert [] == Life(life.folder).begin().deliver("events")
    assert [5] == [attempt.started_at for attempt in life.deliver("events")]
    assert {"damaged": 1} == life.stages["events"].ledger().dropped
    life.in_flight.reset()
    if aside.exists():
        assert [REFUSED] == Life(aside).begin().deliver("events")


def test_what_was_delivered_is_not_found_by_the_next_process(life: Life) -> None:
    """Its file couldn't be removed when it was delivered: it goes with the first turn in which it can be."""
    life.record(REFUSED)
    life.journal.turn()
    life.files.renew()
    (path,) = life.folder.glob("*.segment")
    life.deliver("spans")
    assert [REFUSED] == life.stages["events"].take(1)
    path.rename(aside := life.folder.with_name("aside"))
    path.mkdir()
    life.stages["events"].settle(0)
    path.rmdir()
    aside.rename(path)
    life.journal.turn()
    assert ([".table"], ["journal"]) == (suffixes(life.folder), life.faults)


def test_what_bears_a_name_of_ours_and_is_no_file_is_said(life: Life, caplog: pytest.LogCaptureFixture) -> None:
    """Once by each process; it is counted."""
    (life.folder / "1.5-00000000.segment").mkdir()
    life.inherit()
    life.inherit()
    path = life.folder / "1.5-00000000.segment"
    assert [f"journal: {path} is left alone, for it is no plain file of our user's own"] == caplog.messages
    assert ["journal"] * 2 == life.faults


def test_a_folder_that_cannot_be_had_is_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls go on meanwhile, failures go through memory, and all is counted."""
    blocked, now = tmp_path / "blocked", [100.0]
    blocked.touch()
    monkeypatch.setattr("call_initiation.journal.journal.monotonic", lambda: now[0])
    life = Life(blocked / "journal")
    with caplog.at_level(logging.WARNING):
        life.journal.open()
    meaning = "failures wait in memory and calls aren't noted; it is tried again every second"
    assert [f"journal: {blocked / 'journal'} can't be used (Not a directory): {meaning}"] == caplog.messages
    life.record(REFUSED)
    life.journal.turn()
    assert ({"spans": [REFUSED], "events": [REFUSED]}, 0) == (life.beside, life.asked)
    assert ["journal", "in_flight", "journal"] == life.faults
    blocked.unlink()
    now[0] += AGAIN / 2
    life.journal.turn()
    assert not blocked.exists()
    blocked.touch()
    now[0] += AGAIN / 2
    life.journal.turn()
    blocked.unlink()
    assert 1 == len(caplog.messages)
    now[0] += AGAIN
    life.journal.turn()
    assert ([".table"], 1) == (suffixes(blocked / "journal"), life.asked)
    life.inherit()
    life.record(REFUSED)
    life.journal.turn()
    assert {"spans": 1, "events": 1} == life.waiting()
    life.in_flight.reset()


def test_a_folder_that_others_may_write_to_is_refused_at_the_start_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Later, nobody is there to be told but the counter."""
    folder.mkdir()
    folder.chmod(0o777)
    life = Life(folder)
    with pytest.raises(SettingsError):
        life.journal.open()
    monkeypatch.setattr("call_initiation.journal.journal.AGAIN", 0.0)
    life.journal.turn()
    assert ["journal"] == life.faults


def test_what_another_process_takes_over_is_waited_for(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    """And asked for again, so long as that lasts; also where the folder can't be read."""
    monkeypatch.setattr("call_initiation.journal.journal.AGAIN", 0.0)
    life.call()
    heir = life.kill()
    assert 1 == heir.asked
    monkeypatch.setattr(heir.journal._folder, "take_over", lambda: None)
    assert ([], 2) == (heir.inherit(), heir.asked)
    monkeypatch.undo()
    monkeypatch.setattr("call_initiation.journal.journal.AGAIN", 0.0)
    with files_to_open(0):
        assert ([], 3, ["journal"]) == (heir.inherit(), heir.asked, heir.faults)
    assert (1, 3) == (len(heir.inherit()), heir.asked)
    heir.in_flight.reset()


def test_a_table_that_cannot_be_read_is_left(life: Life, caplog: pytest.LogCaptureFixture) -> None:
    """It may be read by the next process; the rest is told of. Here, it is elsewhere for a while."""
    life.call()
    second = life.kill()
    second.call()
    heir = second.kill()
    inherited = heir.journal.inherited()
    next(inherited)
    (path,) = (path for path in heir.folder.glob("*.calls") if path.name.endswith("1.calls"))
    aside = path.rename(path.with_name("aside"))
    assert [] == list(inherited)
    reason = "No such file or directory"
    assert [
        f"journal: {path} can't be read ({reason}): the calls in it are left to the next process"
    ] == caplog.messages
    assert (["journal"], 1) == (heir.faults, heir.journal.ledger().recorded)
    aside.rename(path)
    last = heir.kill()
    assert 2 == len(last.inherit())
    last.in_flight.reset()


@settings(max_examples=50)
@given(st.integers(0, 2**32), st.integers(1, 40), st.booleans())
def test_no_damage_stops_those_who_come_after(seed: int, hits: int, is_cut: bool) -> None:  # noqa: FBT001 - hypothesis gives it
    """Bytes hit anywhere in files and table, or an end cut off: a life after it begins, and so does one after that."""
    chance = Random(seed)  # noqa: S311 - damage is no secret
    with TemporaryDirectory() as name:
        life = Life(Path(name) / "journal").begin()
        for number in range(3):
            life.record(replace(REFUSED, started_at=number))
        life.journal.turn()
        for status in (None, 400):
            life.call(status)
        life.in_flight.reset()
        for path in life.folder.iterdir():
            _damage(path, chance, hits, is_cut=is_cut)
        for _ in range(2):
            life = life.kill()
            told = life.inherit()
            assert len(told) <= 2
            books = [backlog.ledger() for backlog in life.stages.values()]
            assert [] == life.faults
            assert all(book.recorded == book.pending + book.dropped.get("damaged", 0) <= 5 for book in books)
        assert {"spans": [], "events": []} == life.beside
        life.deliver("spans")
        life.deliver("events")
        assert {"spans": 0, "events": 0} == life.waiting()
        life.in_flight.reset()


def _damage(path: Path, chance: Random, hits: int, *, is_cut: bool) -> None:
    data = bytearray(path.read_bytes())
    used = min(len(data), 3_000 if path.suffix == ".segment" else 384 * 4)
    for _ in range(hits):
        data[chance.randrange(used)] ^= chance.randrange(1, 256)
    path.write_bytes(data[: chance.randrange(used)] if is_cut else data)


# -- a fork ---------------------------------------------------------------------------------------------------------


def test_a_forked_child_opens_the_folder_under_a_life_of_its_own(life: Life, folder: Path) -> None:
    """What its parent holds is its parent's; and no call opens anything."""
    life.record(REFUSED)
    life.journal.turn()
    parent = next(folder.glob("*.table"))
    life.journal.reset()
    assert {"spans": 0, "events": 0} == life.waiting()
    assert [".segment", ".table"] == suffixes(folder)
    life.journal.retry()
    life.call()
    life.call()
    assert ([".segment", ".table", ".table"], 2) == (suffixes(folder), life.asked)
    assert [] == life.faults
    (own,) = {*folder.glob("*.table")} - {parent}
    assert own.name > parent.name


def test_a_child_that_may_not_use_the_folder_places_its_calls(life: Life, folder: Path) -> None:
    """Nothing is raised into a call."""
    life.journal.reset()
    folder.chmod(0o777)
    life.journal.retry()
    life.call()
    assert ["journal", "in_flight"] == life.faults
