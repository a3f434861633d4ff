"""Carries spans, events and metrics to their exporters, each on a thread of its own.

The recorder hands a record over and goes on; a slow or dead collector is met here. What isn't delivered is kept and
tried again, oldest first and with the same ids, until the queue is full or the collector refuses it for good; what is
given up is counted. A collector that fails is left alone for the interval, or for as long as it asks for, however much
waits; only a flush and the end try once more before that. Where there is a backlog, as a journal has one, it goes
first, and outlives the process.
OpenTelemetry's own batch processors drop a batch after one failed export and can hold a process
for half a minute at its end, which is why they aren't used.
"""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from threading import Event as Flag
from threading import Lock, Thread
from time import monotonic
from typing import Final, Generic, Protocol, TypeVar, assert_never

from opentelemetry import context as otel_context

from call_initiation.events import Ledger
from call_initiation.log import Log

Record = TypeVar("Record")
Kept_co = TypeVar("Kept_co", covariant=True)

_BREATH: Final = 0.1
"""Seconds between the tries of one flush, where the collector asks for no more."""

_UNMADE: Final = 60.0
"""Seconds until an exporter that couldn't be made is made anew; what it lacks is hardly there sooner."""

_logger = Log()


class Delivered(Enum):
    """What became of one export."""

    YES = "yes"
    NOT_NOW = "not_now"
    """The collector can't be reached or is overloaded: try again."""
    NEVER = "never"
    """The collector refused it for good: trying again can't help."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one export.

    Attributes:
        delivered: What became of it as a whole.
        refused: How many records the collector refused for good although it took the rest (OTLP's partial success).
        wait: For how many seconds it asked to be left alone.
    """

    delivered: Delivered
    refused: int = 0
    wait: float = 0.0


class Backlog(Protocol[Kept_co]):
    """What waits elsewhere, and keeps accounts of its own; nothing is lost there when a delivery ends."""

    def take(self, limit: int, /) -> Sequence[Kept_co]:
        """Return the next records, at most so many; then `settle` or `put_back` follows."""
        ...

    def settle(self, refused: int, /) -> None:
        """Be done with what was taken, of which so many were refused."""

    def put_back(self) -> None:
        """Let what was taken be taken again."""

    def ledger(self) -> Ledger:
        """Return the accounts."""
        ...


class HandedOver(Protocol):
    """An exporter of the dialer's, which may hold back what it took: it is told of a flush and of the end.

    What it then says of its own success is its own affair; our books end where it took a record.
    """

    def force_flush(self) -> object:
        """Let go of what was held back."""

    def shutdown(self) -> object:
        """Let go of it, and of all else."""


def _told(stage: str, tell: Callable[[], object]) -> None:
    """Tell an exporter that was handed over; a fault of its own goes no further."""
    try:
        tell()
    except Exception as error:  # noqa: BLE001 - as it says
        _logger.warning("exporting %s failed: %s", stage, type(error).__name__)


class Delivery(Generic[Record]):
    """A bounded queue before an exporter.

    Args:
        stage: The name under which it keeps accounts.
        connect: Makes the export function on first use, and anew in a forked child.
        capacity: How many records may wait; beyond, the oldest is dropped.
        batch: How many records go at once.
        interval: Seconds between exports.
        prepare: What to do first, on the thread.
        handed_over: The exporter, where it is the dialer's.
        backlog: What else is to be delivered, and goes first.
    """

    def __init__(  # noqa: PLR0913 - one keyword for each limit
        self,
        stage: str,
        connect: Callable[[], Callable[[Sequence[Record]], Verdict]],
        *,
        capacity: int,
        batch: int,
        interval: float,
        prepare: Callable[[], object] = lambda: None,
        handed_over: HandedOver | None = None,
        backlog: Backlog[Record] | None = None,
    ) -> None:
        self.stage = stage
        self._connect = connect
        self._prepare = prepare
        self._handed_over = handed_over
        self._backlog = backlog
        self._capacity = capacity
        self._batch = batch
        self._interval = interval
        self.reset()

    def reset(self) -> None:
        """Begin anew with nothing recorded and no thread, as a forked child must."""
        self._lock = Lock()
        self._waiting: deque[Record] = deque()
        self._in_hand = 0
        self._exported = 0
        self._dropped: Counter[str] = Counter()
        self._thread: Thread | None = None
        self._wake = Flag()
        self._idle = Flag()
        self._is_closed = False
        self._is_held_back = False
        self._wait: float | None = None
        self._export: Callable[[Sequence[Record]], Verdict] | None = None

    def start(self) -> None:
        """Begin to export, before the first record; an interpreter on its way out (Python 3.12) starts no threads."""
        with self._lock:
            self._start()

    def put(self, record: Record) -> None:
        """Take a record; never waits for the exporter."""
        with self._lock:
            if self._is_closed:
                self._dropped["closed"] += 1
                return
            self._waiting.append(record)
            if len(self._waiting) + self._in_hand > self._capacity:
                self._waiting.popleft()
                self._dropped["queue_full"] += 1
            if self._thread is None:
                self._start()
        if len(self._waiting) >= self._batch and self._wait is None and not self._wake.is_set():
            self._wake.set()

    def hurry(self) -> None:
        """Export what waits without waiting for the interval."""
        self._wake.set()

    def flush(self, timeout: float) -> bool:
        """Export what waits now; tell whether nothing was left within `timeout` seconds.

        Where the collector asks to be left alone for longer than that, one try is all. Without a thread, before the
        first record and after the end, nothing is waited for.
        """
        deadline = monotonic() + timeout
        is_alive = self._thread is not None and not self._is_closed
        self._is_held_back = self._handed_over is not None and is_alive
        while is_alive and not self._is_closed and not self._is_empty():
            self._idle.clear()
            self._wake.set()
            is_tried = self._idle.wait(deadline - monotonic())
            breath = max(self._wait or 0.0, min(self._interval, _BREATH))
            if not is_tried or self._is_empty() or monotonic() + breath >= deadline:
                return self._is_empty()
            self._idle.clear()
            self._idle.wait(breath)
        return self._is_empty()

    def close(self, timeout: float) -> None:
        """Export what `timeout` seconds suffice for; the rest is dropped, and counted."""
        deadline = monotonic() + timeout
        self.flush(timeout)
        with self._lock:
            self._is_closed = True
            self._dropped["shutdown"] += len(self._waiting) + self._in_hand
            self._waiting.clear()
            self._in_hand = 0
        self._wake.set()
        if self._handed_over is not None and self._thread is not None:
            self._thread.join(max(0.0, deadline - monotonic()))

    def ledger(self) -> Ledger:
        """Return the accounts, the backlog's among them."""
        with self._lock:
            pending = len(self._waiting) + self._in_hand
            dropped = {reason: count for reason, count in self._dropped.items() if count}
            recorded = self._exported + pending + sum(dropped.values())
            own = Ledger(recorded=recorded, exported=self._exported, pending=pending, dropped=dropped)
        return own if self._backlog is None else own + self._backlog.ledger()

    def _is_empty(self) -> bool:
        return not self._is_held_back and not self.ledger().pending

    def _start(self) -> None:
        if self._thread is None:
            thread = Thread(target=self._run, name=f"call-initiation-{self.stage}", daemon=True)
            with suppress(RuntimeError):  # no thread can be had now: the next record tries again
                thread.start()
                self._thread = thread

    def _run(self) -> None:
        otel_context.attach(otel_context.set_value("suppress_instrumentation", True))  # noqa: FBT003 - a context value; our own exports are no calls of the dialer's
        self._prepare()
        while not self._is_closed:
            self._wake.wait(max(self._interval, self._wait or 0.0))
            self._wake.clear()
            while self._step():
                pass
            if self._handed_over is not None and self._is_held_back and not self.ledger().pending:
                _told(self.stage, self._handed_over.force_flush)
                self._is_held_back = False
            self._idle.set()
        if self._handed_over is not None:
            _told(self.stage, self._handed_over.shutdown)

    def _step(self) -> bool:
        """Export one batch; tell whether another may follow at once."""
        if self._backlog is not None and (batch := self._backlog.take(self._batch)):
            return self._step_back(self._backlog, batch)
        with self._lock:
            batch = [self._waiting.popleft() for _ in range(min(self._batch, len(self._waiting)))]
            self._in_hand = len(batch)
        if not batch:
            return False
        verdict = self._try(batch)
        with self._lock:
            if self._is_closed:
                return False
            self._in_hand = 0
            match verdict.delivered:
                case Delivered.YES:
                    refused = max(0, min(verdict.refused, len(batch)))
                    self._exported += len(batch) - refused
                    self._dropped["refused"] += refused
                case Delivered.NEVER:
                    self._dropped["refused"] += len(batch)
                case Delivered.NOT_NOW:
                    self._waiting.extendleft(reversed(batch))
                case _:
                    assert_never(verdict.delivered)
        return verdict.delivered is not Delivered.NOT_NOW

    def _step_back(self, backlog: Backlog[Record], batch: Sequence[Record]) -> bool:
        """Export a batch of the backlog, as `_step` does; also where we were closed meanwhile, for it isn't dropped."""
        verdict = self._try(batch)
        match verdict.delivered:
            case Delivered.YES:
                backlog.settle(max(0, min(verdict.refused, len(batch))))
            case Delivered.NEVER:
                backlog.settle(len(batch))
            case Delivered.NOT_NOW:
                backlog.put_back()
            case _:
                assert_never(verdict.delivered)
        return verdict.delivered is not Delivered.NOT_NOW and not self._is_closed

    def _try(self, batch: Sequence[Record]) -> Verdict:
        verdict = self._tried(batch)
        self._wait = verdict.wait if verdict.delivered is Delivered.NOT_NOW else None
        return verdict

    def _tried(self, batch: Sequence[Record]) -> Verdict:
        fault = Verdict(Delivered.NOT_NOW, wait=_UNMADE)  # an exporter that can't be made has refused nothing
        try:
            if self._export is None:
                self._export = self._connect()
            fault = Verdict(Delivered.NEVER)
            return self._export(batch)
        except Exception as error:  # noqa: BLE001 - an exporter's fault is counted, and goes no further
            _logger.warning("exporting %s failed: %s", self.stage, type(error).__name__)
            return fault


class Passing(Generic[Record]):
    """Hands records to a pipeline of the dialer's own, which takes them without waiting, and keeps accounts."""

    def __init__(self, stage: str, pass_on: Callable[[Record], None]) -> None:
        self.stage = stage
        self._pass_on = pass_on
        self.reset()

    def reset(self) -> None:
        """Begin anew with nothing recorded."""
        self._tally: Counter[bool] = Counter()

    def start(self) -> None:
        """Do nothing: the pipeline is the dialer's to start."""

    def put(self, record: Record) -> None:
        """Pass a record on."""
        is_passed = False
        try:
            self._pass_on(record)
            is_passed = True
        finally:
            self._tally[is_passed] += 1

    def hurry(self) -> None:
        """Do nothing: nothing waits here."""

    def flush(self, timeout: float) -> bool:  # noqa: ARG002 - nothing waits here
        """Do nothing: nothing waits here."""
        return True

    def close(self, timeout: float) -> None:
        """Do nothing: the pipeline is the dialer's to close."""

    def ledger(self) -> Ledger:
        """Return the accounts."""
        passed, failed = self._tally[True], self._tally[False]
        dropped = {"internal_error": failed} if failed else {}
        return Ledger(recorded=passed + failed, exported=passed, dropped=dropped)


class MetricsDelivery:
    """Exports the metrics at an interval, and once more at the end.

    Args:
        connect: Makes the function that exports a snapshot, on first use and anew in a forked child.
        interval: Seconds between exports.
        prepare: What to do first, on the thread.
        handed_over: The exporter, where it is the dialer's.
    """

    def __init__(
        self,
        connect: Callable[[], Callable[[], Verdict]],
        interval: float,
        prepare: Callable[[], object] = lambda: None,
        handed_over: HandedOver | None = None,
    ) -> None:
        self.stage = "metrics"
        self._connect = connect
        self._prepare = prepare
        self._handed_over = handed_over
        self._interval = interval
        self.reset()

    def reset(self) -> None:
        """Begin anew with no thread, as a forked child must."""
        self._lock = Lock()
        self._thread: Thread | None = None
        self._wake = Flag()
        self._flushes: deque[Flag] = deque()
        self._is_closed = False
        self._wait = 0.0
        self._exported = 0
        self._dropped: Counter[str] = Counter()
        self._export: Callable[[], Verdict] | None = None

    def start(self) -> None:
        """Begin to export, if that hasn't begun."""
        with self._lock:
            if self._thread is None and not self._is_closed:
                thread = Thread(target=self._run, name="call-initiation-metrics", daemon=True)
                with suppress(RuntimeError):  # no thread can be had now: who starts us again tries again
                    thread.start()
                    self._thread = thread

    def hurry(self) -> None:
        """Export without waiting for the interval."""
        self._wake.set()

    def flush(self, timeout: float) -> bool:
        """Export what stands now; tell whether it was done within `timeout` seconds."""
        if self._thread is None or not self._thread.is_alive():
            return True
        done = Flag()
        self._flushes.append(done)
        self._wake.set()
        return done.wait(timeout)

    def close(self, timeout: float) -> None:
        """Export a last time, if `timeout` seconds suffice. The thread is left to its fate."""
        self._is_closed = True
        self.flush(timeout)

    def ledger(self) -> Ledger:
        """Return the accounts: one record for each export; one of which a part was refused counts as `refused`."""
        with self._lock:
            exported, dropped = self._exported, dict(self._dropped)
        return Ledger(recorded=exported + sum(dropped.values()), exported=exported, dropped=dropped)

    def _run(self) -> None:
        otel_context.attach(otel_context.set_value("suppress_instrumentation", True))  # noqa: FBT003 - as above
        self._prepare()
        is_last = False
        while not is_last:
            self._wake.wait(max(self._interval, self._wait))
            self._wake.clear()
            is_last, flushes = self._is_closed, len(self._flushes)
            verdict = self._tried()
            self._wait = verdict.wait
            with self._lock:
                if verdict == Verdict(Delivered.YES):
                    self._exported += 1
                else:
                    self._dropped["refused" if verdict.delivered is Delivered.YES else verdict.delivered.value] += 1
            if self._handed_over is not None and flushes:
                _told(self.stage, self._handed_over.force_flush)
            if self._handed_over is not None and is_last:
                _told(self.stage, self._handed_over.shutdown)
            for _ in range(flushes):
                self._flushes.popleft().set()
        while self._flushes:  # asked for while we were being closed
            self._flushes.popleft().set()

    def _tried(self) -> Verdict:
        fault = Verdict(Delivered.NOT_NOW)  # as above
        try:
            if self._export is None:
                self._export = self._connect()
            fault = Verdict(Delivered.NEVER)
            return self._export()
        except Exception as error:  # noqa: BLE001 - an exporter's fault is counted, and goes no further
            _logger.warning("exporting metrics failed: %s", type(error).__name__)
            return fault
