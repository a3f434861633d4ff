"""The one background thread: lets a call settle, says what it was, and hands it to every sink.

The caller's side (`submit`, `update`, `fault`) appends to a bounded queue and returns: it never waits and never
raises. The recorder's side works in short slices and gives way between them, for the interpreter's lock is shared
with the code that places calls.

The settle window lets state changes that took effect before a call, but were heard of after it, still count; only
time in which the process ran is counted. An error whose body is being read when the window ends gets a while longer.

The law, for each stage: `recorded == exported + pending + sum(dropped)`, exactly, at any moment.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import inf
from threading import Event as Flag
from threading import Lock, Thread, current_thread
from time import perf_counter, sleep
from typing import Final

from call_initiation.calls.observation import Observation
from call_initiation.events import Attempt, BodyState, Event, Ledger, Sink
from call_initiation.log import Log
from call_initiation.recording.updates import Suspension, Told

TICK: Final = 0.1
"""Seconds between looks at the queue."""

SLICE: Final = 0.00025
"""Seconds of work after which the recorder gives way to a thread that then takes the interpreter's lock."""

GROWN_SLICE: Final = 0.002
"""The most that this grows to while nobody takes it: a nap costs about as much as recording a call."""

LONG_SLICE: Final = 0.001
"""The same where the lock is hard to get."""

REST: Final = 0.02
"""Seconds for which the recorder then doesn't ask for the lock again.

Each time that it asks, a caller who never waits for the network is stopped for two wakes of a thread besides the
slice: so it is asked for once in 150 calls of such a caller, where it would be once in 30, for slices as much longer.
"""

FULL_SLICE: Final = 0.004
"""The same where the queue is full, and as much less as it is emptier: else such callers would leave it too little."""

NAP: Final = 0.0001
"""Seconds for which the recorder gives way: a thread that waits for the lock has to wake up before it can take it."""

_TAKEN: Final = 0.0002
"""Seconds: more than the lock takes to be had again, after a nap, where nobody wants it."""

_HARD_TO_GET: Final = 0.002
"""Seconds: who keeps the lock longer than this gives it up only when the interpreter asks for it, after 5 ms."""

_FILLING: Final = 0.25
"""How full the queue may be for a rest."""

OUTAGE: Final = 1.0
"""Seconds between two turns from which on the process was stopped, or starved: nobody could hear anything meanwhile."""

PATIENCE: Final = 30.0
"""Seconds that an error's body may still be read in after its answer."""

_MAX_FAULTS: Final = 1_000
_MANY_REFUSED: Final = 1_000

_logger = Log()


@dataclass(frozen=True, slots=True)
class Takeover:
    """What processes that have ended left in the journal is to be taken over now."""


class Recorder:
    """Takes what happened from any thread; records it on its own.

    Args:
        assess: Says what a call was.
        apply: Takes what was told; returns the events that follow from it.
        sinks: Where recorded events go, by the name of their stage.
        count_fault: Counts a fault of our own; called on the recorder's thread.
        tidy: Called at the end of each turn, on the recorder's thread.
        settle: Seconds between a call's end and its record.
        capacity: How many calls, and how many updates, may wait.
    """

    def __init__(  # noqa: PLR0913 - what it is made of
        self,
        assess: Callable[[Observation], Attempt],
        apply: Callable[[Told | Takeover], Iterable[Event]],
        sinks: Mapping[str, Sink],
        count_fault: Callable[[str], None],
        tidy: Callable[[], None],
        *,
        settle: float,
        capacity: int,
    ) -> None:
        self._assess = assess
        self._apply = apply
        self._sinks = sinks
        self._count_fault = count_fault
        self._tidy = tidy
        self._settle = settle
        self._capacity = capacity
        self._foresee: Callable[[Observation], None] | None = None
        self._is_closed = False
        self.reset()

    def reset(self) -> None:
        """Begin anew with nothing recorded and no thread, as a forked child must."""
        self._lock = Lock()
        self._attempts: deque[Observation] = deque()
        self._unfinished: deque[Observation] = deque()
        self._updates: deque[Told | Takeover] = deque()
        self._arrived: deque[Observation] = deque()
        self._refused: deque[tuple[str, str]] = deque()
        self._faults: deque[str] = deque()
        self._in_hand: Counter[str] = Counter()
        self._exported: Counter[str] = Counter()
        self._dropped: Counter[tuple[str, str]] = Counter()
        self._told: set[str] = set()
        self._woken = -inf
        self._thread: Thread | None = None
        self._wake = Flag()
        self._flushes: deque[Flag] = deque()

    # -- any thread ---------------------------------------------------------------------------------------------

    def submit(self, observation: Observation) -> bool:
        """Take a finished observation; tell whether it was taken."""
        if self._is_closed or len(self._attempts) + len(self._unfinished) >= self._capacity:
            self._refuse("attempts")
            return False
        self._attempts.append(observation)
        if self._foresee is not None:
            self._arrived.append(observation)
        if self._thread is None:
            self._start()
        return True

    def update(self, told: Told | Takeover) -> bool:
        """Take what someone told us of agents; tell whether it was taken.

        A suspension is taken even where the queue is full: without it, what was refused could pass for known.
        """
        is_full = len(self._updates) >= self._capacity and not isinstance(told, Suspension)
        if self._is_closed or is_full:
            self._refuse("updates")
            return False
        self._updates.append(told)
        if self._thread is None:
            self._start()
        return True

    def foresee(self, look: Callable[[Observation], None]) -> None:
        """Show each call to `look` once before it settles, on the recorder's thread."""
        self._foresee = look

    def fault(self, stage: str) -> None:
        """Note a fault of our own."""
        if len(self._faults) < _MAX_FAULTS:
            self._faults.append(stage)
        if self._thread is None:
            self._start()

    def flush(self, timeout: float) -> bool:
        """Record all that waits, settled or not; tell whether it was done within `timeout` seconds."""
        if self._is_closed or self._thread in (None, current_thread()):
            return True
        done = Flag()
        self._flushes.append(done)
        self._wake.set()
        return done.wait(timeout)

    def close(self, timeout: float) -> None:
        """Record all that waits, then take no more; what `timeout` seconds don't suffice for is dropped and counted."""
        self.flush(timeout)
        self._is_closed = True
        self._wake.set()
        with self._lock:
            for stage, queue in self._queues():
                self._dropped[stage, "shutdown"] += len(queue)
                queue.clear()

    def ledgers(self) -> dict[str, Ledger]:
        """Return the accounts of calls (`attempts`) and of state updates (`updates`)."""
        with self._lock:
            self._count_refused()
            pending = self._in_hand.copy()
            for stage, queue in self._queues():
                pending[stage] += len(queue)
            return {stage: self._ledger(stage, pending[stage]) for stage in ("attempts", "updates")}

    def _refuse(self, stage: str) -> None:
        """Note what is refused at the door, which only appends, so that it needn't wait for a lock."""
        self._refused.append((stage, "closed" if self._is_closed else "queue_full"))
        if len(self._refused) > _MANY_REFUSED and self._lock.acquire(blocking=False):  # after the end, nobody else does
            try:
                self._count_refused()
            finally:
                self._lock.release()

    def _count_refused(self) -> None:
        """Count what was refused at the door."""
        while self._refused:
            self._dropped[self._refused.popleft()] += 1

    def _ledger(self, stage: str, pending: int) -> Ledger:
        lost = {reason: count for (of, reason), count in self._dropped.items() if of == stage and count}
        exported = self._exported[stage]
        return Ledger(
            recorded=exported + pending + sum(lost.values()), exported=exported, pending=pending, dropped=lost
        )

    def _queues(self) -> tuple[tuple[str, deque[Observation] | deque[Told | Takeover]], ...]:
        return ("attempts", self._attempts), ("attempts", self._unfinished), ("updates", self._updates)

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = Thread(target=self._run, name="call-initiation-recorder", daemon=True)
                try:
                    self._thread.start()
                except RuntimeError:  # no thread can be had now: the next call tries again
                    self._thread = None

    # -- the recorder's thread ------------------------------------------------------------------------------------

    def _run(self) -> None:
        before = perf_counter()
        while not self._is_closed:
            self._wake.wait(TICK)
            if self._thread is not current_thread():  # begun anew meanwhile: all that waits is another's
                return
            self._wake.clear()
            flushes, now = len(self._flushes), perf_counter()
            if now - before > OUTAGE:
                self.wake(now)
            before = now
            self.turn(now, everything=flushes > 0)
            for _ in range(flushes):
                self._flushes.popleft().set()
        while self._flushes:  # asked for while we were being closed
            self._flushes.popleft().set()

    def wake(self, now: float) -> None:
        """Let what waits settle anew: the process was stopped, and what it missed is yet to be heard."""
        self._woken = now

    def turn(self, now: float, *, everything: bool = False) -> None:
        """Apply every update that waits, and record every call that has settled (or every one)."""
        with self._lock:
            self._count_refused()
        pause = _Pause(_in_a_hurry if everything else self._fullness)
        while self._take_update():
            pause.give_way()
        while self._foresee is not None and self._arrived:
            self._look_ahead(self._foresee, self._arrived.popleft())
            pause.give_way()
        for _ in range(len(self._unfinished)):
            self._take_attempt(self._unfinished, now, everything=everything)
            pause.give_way()
        while self._take_attempt(self._attempts, now, everything=everything):
            pause.give_way()
        while self._faults:
            self._tell_fault(self._faults.popleft())
        try:
            self._tidy()
        except Exception:  # noqa: BLE001 - a fault of ours must not stop the recorder
            self._tell_fault("tidy")

    def _fullness(self) -> float:
        return len(self._attempts) / self._capacity

    def _take_update(self) -> bool:
        """Apply the first update that waits; tell whether there was one."""
        with self._lock:
            if not self._updates:
                return False
            update = self._updates.popleft()
            self._in_hand["updates"] += 1
        try:
            for event in self._apply(update):
                self._hand_out(event)
        except Exception:  # noqa: BLE001 - a fault of ours must not stop the recorder
            self._tell_fault("apply")
            self._settle_account("updates", "internal_error")
        else:
            self._settle_account("updates")
        return True

    def _look_ahead(self, look: Callable[[Observation], None], observation: Observation) -> None:
        try:
            look(observation)
        except Exception:  # noqa: BLE001 - a fault of ours must not stop the recorder
            self._tell_fault("foresee")

    def _take_attempt(self, queue: deque[Observation], now: float, *, everything: bool) -> bool:
        """Record the first call of a queue, or put it off while its body is read; tell whether there was a settled one.

        All that looks at a queue is under the lock, for `close` may empty it at any moment.
        """
        with self._lock:
            if not queue or not (everything or max(queue[0].ended, self._woken) + self._settle <= now):
                return False
            observation = queue.popleft()
            if not everything and _is_being_read(observation, now):
                self._unfinished.append(observation)
                return True
            self._in_hand["attempts"] += 1
        try:
            attempt = self._assess(observation)
        except Exception:  # noqa: BLE001 - a fault of ours must not stop the recorder
            self._tell_fault("assess")
            self._settle_account("attempts", "internal_error")
        else:
            self._hand_out(attempt)
            self._settle_account("attempts")
        return True

    def _settle_account(self, stage: str, reason: str | None = None) -> None:
        with self._lock:
            self._in_hand[stage] -= 1
            if reason is None:
                self._exported[stage] += 1
            else:
                self._dropped[stage, reason] += 1

    def _hand_out(self, event: Event) -> None:
        for stage, sink in self._sinks.items():
            try:
                sink.record(event)
            except Exception:  # noqa: BLE001 - one sink's fault is no other's
                self._tell_fault(stage)

    def _tell_fault(self, stage: str) -> None:
        self._count_fault(stage)
        if stage not in self._told:
            self._told.add(stage)
            _logger.warning("a fault of our own in stage %s: counted, and the calls go on", stage)


def slice_and_rest(last: float, waited: float, fullness: float) -> tuple[float, float]:
    """Return for how many seconds the recorder may work next, and for how many it then gives way.

    Args:
        last: For how many seconds it might work before.
        waited: For how many seconds it has then waited for the interpreter's lock.
        fullness: Of the queue: 0 to 1.
    """
    if waited > _HARD_TO_GET:
        return max(LONG_SLICE, fullness * FULL_SLICE), REST if fullness < _FILLING else NAP
    length = SLICE if waited > _TAKEN else min(2 * last, GROWN_SLICE)
    return max(length, fullness * FULL_SLICE), NAP


def _in_a_hurry() -> float:
    """Stand for a full queue: somebody waits until all is recorded."""
    return 1.0


class _Pause:
    """Gives way to the threads that place calls after each slice of work."""

    __slots__ = ("_fullness", "_rest", "_slice", "_until")

    def __init__(self, fullness: Callable[[], float]) -> None:
        self._fullness = fullness
        self._slice, self._rest = SLICE, NAP
        self._until = perf_counter() + SLICE

    def give_way(self) -> None:
        now = perf_counter()
        if now > self._until:
            sleep(self._rest)
            then = perf_counter()
            waited = then - now - self._rest
            self._slice, self._rest = slice_and_rest(self._slice, waited, self._fullness())
            self._until = then + self._slice


def _is_being_read(observation: Observation, now: float) -> bool:
    is_unread = observation.kept is not None and observation.body is BodyState.UNREAD
    return is_unread and observation.is_open and now - observation.ended < PATIENCE
