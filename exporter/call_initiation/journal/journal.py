"""The journal: failures, and the calls under way, in a folder from which a later process takes them over.

A call is noted in a table (`in_flight`) before it is sent. A failure is written to a file (`segments`) at the end of
the turn in which the recorder tells of it, and only then its place in the table is free. The stages that deliver
failures read them from there (`backlog`). What can't be written goes the way it would go without a journal: through
memory. Where the folder can't be used at all, it is tried again every second; where it isn't there any more, or
another one is, it is begun anew. What goes wrong is counted each time, and said once.

The law over the lives of a folder (`lives`). Of a life that ended, however it ended, each failure is found once: in a
file; or in the table, as a call that had ended and had not been recorded; or there as one under way, which is
`ambiguous`, for it may have rung. It is never sent again. The last two are the stage `in_flight`, and are recorded
from there on like any other. What is in the files had been recorded: the stages that deliver it count it as
`recovered`. For each of these stages, over all lives, what was recorded, less what was recovered, is what was exported,
was dropped, or is pending now.

Outside this law are what was delivered when there was no time left to note it, which is delivered twice, and calls that
had no place in the table: of these a kill leaves nothing, but that they had none was counted. What the stage `attempts`
dropped at a `shutdown` is told of again, by the table.

Nothing here waits until something is on the disk: a kill loses nothing, but the machine's own end may cost the last
seconds. A disk that hangs, as one that is frozen for a snapshot, holds up the recorder's thread, as no other sink does,
and the calls that are noted there meanwhile.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from math import inf
from pathlib import Path
from time import monotonic, time_ns
from typing import Final, NamedTuple, assert_never

from call_initiation.calls.observation import Observation
from call_initiation.events import (
    Attempt,
    Event,
    FeedChange,
    LateChange,
    Ledger,
    LegFailure,
    NotificationTaken,
    Sink,
    SkewChange,
    StateChange,
)
from call_initiation.journal import entries
from call_initiation.journal.backlog import Files
from call_initiation.journal.frames import MAX_PAYLOAD
from call_initiation.journal.in_flight import InFlight, Place
from call_initiation.journal.lives import SEGMENT, Folder
from call_initiation.journal.relics import Relic, told
from call_initiation.journal.segments import STAGES, Record, Segment
from call_initiation.log import Log

AT_ONCE: Final = 32
"""Failures that are written together, at most: one that waits for others is in memory only, but for its place."""

AGAIN: Final = 1.0
"""Seconds between tries to open the folder, or to take over what is in it."""

CALM: Final = 60.0
"""Seconds for which nothing must have failed until it is said that the folder is well, and said anew that it isn't."""

_NO_TABLE: Final = "without a locked table, others would take the files for those of a life that has ended"
_UNUSED: Final = "can't be used ({}): failures wait in memory and calls aren't noted; it is tried again every second"
_UNWRITTEN: Final = "can't be written ({}): failures wait in memory until it can"
_LOST: Final = (
    "was emptied, removed or replaced: it is begun anew; what waited in files that are gone is dropped as damaged"
)

_logger = Log()


class _Kept(NamedTuple):
    """A failure that is about to be written."""

    attempt: Attempt
    record: Record
    place: Place | None


class Journal:
    """Keeps failures for the stages that deliver them; a `Sink`. But for `begin`, it is the recorder's thread's.

    Args:
        folder: Where; it is made if need be.
        files: What waits there.
        in_flight: The calls under way; it stands before the recorder.
        beside: The sinks of the stages that deliver, by stage: for what is no failure, or can't be written.
        resource: Says who records: at most 4,000 bytes of ASCII.
        take_over: Asks for `inherited` to be called on the recorder's thread; tells whether it will be.
    """

    def __init__(  # noqa: PLR0913 - what it is made of
        self,
        folder: Path,
        files: Files,
        in_flight: InFlight,
        *,
        beside: Mapping[str, Sink],
        resource: Callable[[], bytes],
        take_over: Callable[[], bool],
    ) -> None:
        self.in_flight = in_flight
        self._folder = Folder(folder)
        self._files = files
        self._files.fault = in_flight.fault
        self._files.trouble = self._trouble
        self._beside = beside
        self._resource = resource
        self._take_over = take_over
        self._reset()

    def reset(self) -> None:
        """Begin anew, as a forked child must; `retry` then opens the folder."""
        self.in_flight.reset()
        self._files.reset()
        self._folder.begin()
        self._reset()

    def _reset(self) -> None:
        self._kept: list[_Kept] = []
        self._place: Place | None = None
        self._tried_at = -inf
        self._is_heir = False
        self._said = set[str]()
        self._failing = set[str]()
        self._failed_at = -inf
        self._is_closed = False
        self._found = self._told = 0

    # -- any thread ---------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Open the folder; where that can't be done now, it is tried again later.

        Raises:
            SettingsError: It is no folder, or one that others may write to.
        """
        self._tried_at = monotonic()
        try:
            if not self.in_flight.is_open:
                self._folder.make()
                self.in_flight.open(self._folder.table)
        except OSError as error:
            self._fail(_UNUSED.format(_reason(error)))
        else:
            self._take_over()

    def retry(self) -> None:
        """Open the folder, if that can be done now."""
        try:
            self.open()
        except Exception as error:  # noqa: BLE001 - whatever a folder has become, calls go on
            self._fail(_UNUSED.format(_reason(error)))

    def begin(self, observation: Observation) -> None:
        """Note a call that is about to be sent; never raises."""
        if not self._is_closed:
            self.in_flight.begin(observation)

    def close(self) -> None:
        """Leave what waits to the next process."""
        self._is_closed = True
        self._files.close()
        self.in_flight.close()

    def ledger(self) -> Ledger:
        """Return the accounts of the calls that were found in tables."""
        told, found = self._told, self._found
        return Ledger(recorded=found, exported=told, pending=found - told)

    # -- the recorder's thread ----------------------------------------------------------------------------------------

    def inherited(self) -> Iterator[Attempt]:
        """Take over what processes that have ended have left; yield the calls that they hadn't recorded."""
        try:
            left = self._folder.take_over()
        except OSError as error:
            self._trouble(self._folder.path, "what others have left there is taken over later", error)
            return
        if left is not None:
            self._is_heir = True
            for path in left.strange:
                self._tell(f"{path} is left alone, for it is no plain file of our user's own", self._said)
            keys = self._files.adopt(left.segments)
            for path in left.tables:
                yield from self._found_in(path, keys)

    def expect(self, observation: Observation) -> None:
        """Let the next event be the record of a call."""
        _free(self._place)  # of a call of which there was no record, by a fault of ours
        self._place = self.in_flight.place(observation)

    def record(self, event: Event) -> None:
        """Take one event."""
        match event:
            case Attempt():
                place, self._place = self._place, None
                self._take(event, place)
            case StateChange() | LateChange() | FeedChange() | NotificationTaken() | LegFailure() | SkewChange():
                pass
            case _:
                assert_never(event)

    def turn(self) -> None:
        """See to what couldn't be done before, write what waits to be written, and say that the process lives."""
        if not self._is_closed and self.in_flight.is_lost():
            self._fail(_LOST)
            self._files.renew()
            self._tried_at, self._is_heir = -inf, False
        is_done = self._is_closed or (self.in_flight.is_open and self._is_heir)
        if not is_done and monotonic() - self._tried_at >= AGAIN:
            self.retry()
        self._files.sweep()
        self._write()
        self.in_flight.beat(time_ns())

    def _found_in(self, path: Path, keys: frozenset[int]) -> Iterator[Attempt]:
        """Yield the calls of a table of which no file tells."""
        try:
            table = Relic(path)
        except OSError as error:
            self._trouble(path, "the calls in it are left to the next process", error)
            return
        for call in table.calls:
            if call.begun.key in keys:
                table.free(call.slot)
            else:
                self._found += 1
                self._place = Place(call.begun.key, partial(table.free, call.slot))
                yield told(call)
                self._told += 1

    def _take(self, attempt: Attempt, place: Place | None) -> None:
        kept = self._kept_of(attempt, place)
        if kept is None:
            self._pass_on(attempt)
            _free(place)
            return
        self._kept.append(kept)
        if len(self._kept) >= AT_ONCE:
            self._write()

    def _kept_of(self, attempt: Attempt, place: Place | None) -> _Kept | None:
        """Return what is to be written of a call; None where nothing is, or where it would be too long."""
        wanted = self._files.backlogs.keys() if attempt.is_failure else ()
        kind = sum(STAGES[stage] for stage in wanted if stage != "spans" or _has_span(attempt))
        payload = entries.entry(attempt) if kind else b""
        if not 0 < len(payload) <= MAX_PAYLOAD:
            return None
        return _Kept(attempt, Record(kind, place.key if place else 0, payload), place)

    def _write(self) -> None:
        """Write what waits to be written, or pass it on."""
        kept, self._kept = self._kept, []
        if not kept:
            return
        try:
            if not self.in_flight.is_open:
                raise OSError(_NO_TABLE)  # noqa: TRY301 - it is as if the disk had failed
            self._files.append([one.record for one in kept], self._segment, lambda: _free(*(one.place for one in kept)))
        except Exception as error:  # noqa: BLE001 - whatever the disk does, a failure isn't lost by it
            if self.in_flight.is_open:
                self._fail(_UNWRITTEN.format(_reason(error)))
            else:
                self.in_flight.fault("journal")  # why there is no table has been said
            for one in kept:
                self._pass_on(one.attempt)
                _free(one.place)
        else:
            if self._failing and monotonic() - self._failed_at >= CALM:
                self._failing.clear()
                _logger.info("journal: %s is written again", self._folder.path)

    def _fail(self, what: str) -> None:
        """Count that the folder can't be used, and say it, unless it has been said and wasn't well since."""
        self._failed_at = monotonic()
        self._tell(f"{self._folder.path} {what}", self._failing)

    def _trouble(self, path: Path, meaning: str, error: OSError) -> None:
        """Count that something can't be read, and say what that means."""
        self._tell(f"{path} can't be read ({_reason(error)}): {meaning}", self._said)

    def _tell(self, sentence: str, said: set[str]) -> None:
        """Count a fault, and say it where it hasn't been said."""
        self.in_flight.fault("journal")
        if sentence not in said:
            said.add(sentence)
            _logger.warning("journal: %s", sentence)

    def _segment(self) -> Segment:
        return Segment.made(self._folder.next(SEGMENT), self._resource())

    def _pass_on(self, attempt: Attempt) -> None:
        for stage, sink in self._beside.items():
            try:
                sink.record(attempt)
            except Exception:  # noqa: BLE001 - one sink's fault is no other's
                self.in_flight.fault(stage)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _has_span(attempt: Attempt) -> bool:
    return attempt.span is not None and not attempt.span.adopted


def _free(*places: Place | None) -> None:
    for place in places:
        if place is not None:
            place.free()
