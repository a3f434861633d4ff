"""What `recorder` promises: nothing waits on it, nothing is lost uncounted, and each call settles before its record.

Where the time matters, the test itself is the recorder's thread: it says what time it is, and turns the recorder.
"""

import gc
import logging
import weakref
from collections.abc import Callable, Iterable
from itertools import chain, count, repeat
from math import inf
from threading import current_thread
from time import perf_counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from call_initiation.calls.observation import Observation
from call_initiation.events import Attempt, Event, LateChange, Ledger
from call_initiation.recording.recorder import GROWN_SLICE, LONG_SLICE, NAP, PATIENCE, REST, SLICE, slice_and_rest
from call_initiation.recording.updates import StateUpdate, Suspension
from recording import SETTLE, SOON, UPDATE, Bench, broken, half_broken
from samples import ACCEPTED

# -- settling -----------------------------------------------------------------------------------------------------


def test_a_call_is_recorded_when_it_has_settled() -> None:
    """Not a moment before, and by every sink once."""
    bench = Bench().by_hand()
    bench.submit(ended=100.0)
    bench.recorder.turn(100.0 + SETTLE - 0.01)
    assert ([], Ledger(recorded=1, pending=1)) == (bench.first, bench.attempts())
    bench.recorder.turn(100.0 + SETTLE)
    bench.recorder.turn(200.0)
    assert [ACCEPTED] == bench.first == bench.second
    assert Ledger(recorded=1, exported=1) == bench.attempts()


def test_what_waits_settles_anew_after_an_outage() -> None:
    """A process that was stopped has yet to hear what happened meanwhile; a flush doesn't wait for it."""
    bench = Bench().by_hand()
    bench.submit(ended=100.0)
    bench.submit(ended=160.0)
    bench.recorder.wake(150.0)
    bench.recorder.turn(150.0 + SETTLE - 0.01)
    assert ([], Ledger(recorded=2, pending=2)) == (bench.first, bench.attempts())
    bench.recorder.turn(150.0 + SETTLE)
    assert Ledger(recorded=2, exported=1, pending=1) == bench.attempts()
    bench.recorder.turn(150.0 + SETTLE, everything=True)
    assert Ledger(recorded=2, exported=2) == bench.attempts()


def test_a_gap_between_two_turns_is_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever stopped the process; here it is the clock that leaps."""
    bench = Bench()
    leaps = chain([0.0], repeat(3600.0))
    monkeypatch.setattr("call_initiation.recording.recorder.perf_counter", lambda: next(leaps))
    bench.submit(ended=0.0)
    assert bench.recorder.flush(SOON)
    assert 3600.0 == bench.recorder._woken
    bench.recorder.close(SOON)


def test_time_that_goes_by_in_many_turns_is_no_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else what waits would be put off with each turn, and recorded by nothing but a flush."""
    bench = Bench()
    clock = count(0.0, 0.05)
    monkeypatch.setattr("call_initiation.recording.recorder.perf_counter", lambda: next(clock))
    bench.submit(ended=0.0)
    while next(clock) < 5.0:
        assert bench.recorder.flush(SOON)
    assert -inf == bench.recorder._woken
    bench.recorder.close(SOON)


def test_of_two_who_start_it_at_once_the_second_finds_it_started() -> None:
    """Both have seen no thread; whoever comes second to the lock sees the other's."""
    bench = Bench().by_hand()
    bench.recorder._start()
    assert current_thread() is bench.recorder._thread


def test_updates_are_applied_before_calls_are_recorded() -> None:
    """What took effect before a call, and was heard of within the window, must be there when the call is joined."""
    heard: list[str] = []
    bench = Bench(
        apply=lambda update: heard.append(update.agent_id) or [],
        assess=lambda _: heard.append("call") or ACCEPTED,
    ).by_hand()
    bench.submit()
    bench.recorder.update(UPDATE)
    bench.recorder.turn(SETTLE)
    assert ["a", "call"] == heard
    assert (Ledger(recorded=1, exported=1),) * 2 == (bench.attempts(), bench.updates())


def test_the_events_of_an_update_go_to_every_sink() -> None:
    """A change of state is an event like a call."""
    bench = Bench().by_hand()
    bench.recorder.update(UPDATE)
    bench.recorder.turn(0.0)
    assert [LateChange(agent_id="a", at=1.0)] == bench.first == bench.second


def test_everything_is_recorded_when_asked_for() -> None:
    """Settled or not, read or not."""
    bench = Bench().by_hand()
    bench.submit(ended=100.0)
    bench.recorder.submit(bench.call(100.0, 400, is_read=False))
    bench.recorder.turn(100.0, everything=True)
    assert Ledger(recorded=2, exported=2) == bench.attempts()


def test_an_error_whose_body_is_being_read_waits_and_holds_up_nobody() -> None:
    """The next call is recorded in its time; the error when its reader is done."""
    seen: list[int | None] = []
    bench = Bench(assess=lambda observation: seen.append(observation.status_code) or ACCEPTED).by_hand()
    unread = bench.call(0.0, 400, is_read=False)
    bench.recorder.submit(unread)
    bench.submit(0.0)
    bench.recorder.turn(SETTLE)
    assert ([202], Ledger(recorded=2, exported=1, pending=1)) == (seen, bench.attempts())
    unread.is_open = False
    bench.recorder.turn(SETTLE + 0.1)
    assert ([202, 400], Ledger(recorded=2, exported=2)) == (seen, bench.attempts())


def test_a_body_that_is_never_read_is_waited_for_only_so_long() -> None:
    """Then it is recorded as it is."""
    bench = Bench().by_hand()
    bench.recorder.submit(bench.call(0.0, 400, is_read=False))
    bench.recorder.turn(PATIENCE - 0.01)
    assert 1 == bench.attempts().pending
    bench.recorder.turn(PATIENCE)
    assert Ledger(recorded=1, exported=1) == bench.attempts()


@pytest.mark.parametrize("status", [202, 303])
def test_only_an_errors_body_is_waited_for(status: int) -> None:
    """Of other answers nothing is kept, so there is nothing to wait for."""
    bench = Bench().by_hand()
    bench.recorder.submit(bench.call(0.0, status, is_read=False))
    bench.recorder.turn(SETTLE)
    assert Ledger(recorded=1, exported=1) == bench.attempts()


# -- bounds -------------------------------------------------------------------------------------------------------


def test_what_finds_no_room_is_dropped_and_counted() -> None:
    """Calls and updates have rooms of their own; whoever hands one over learns whether it was taken."""
    bench = Bench(capacity=2).by_hand()
    taken = [(bench.recorder.submit(bench.call()), bench.recorder.update(UPDATE)) for _ in range(5)]
    assert [(True, True)] * 2 + [(False, False)] * 3 == taken
    expected = Ledger(recorded=5, pending=2, dropped={"queue_full": 3})
    assert (expected, expected) == (bench.attempts(), bench.updates())


def test_errors_that_wait_for_their_readers_take_room_too() -> None:
    """Each holds a copy of a body: an outage must not fill the memory."""
    bench = Bench(capacity=2).by_hand()
    for _ in range(4):
        bench.recorder.submit(bench.call(0.0, 503, is_read=False))
        bench.recorder.turn(SETTLE)
    assert Ledger(recorded=4, pending=2, dropped={"queue_full": 2}) == bench.attempts()


def test_after_the_end_nothing_is_taken() -> None:
    """What waits is dropped, what comes later is refused: both are counted."""
    bench = Bench().by_hand()
    bench.submit()
    bench.recorder.update(UPDATE)
    bench.recorder.close(0.0)
    bench.submit()
    bench.recorder.update(UPDATE)
    expected = Ledger(recorded=2, dropped={"shutdown": 1, "closed": 1})
    assert (expected, expected) == (bench.attempts(), bench.updates())


def test_a_suspension_is_taken_even_without_room() -> None:
    """Without it, what was refused could pass for known; and whoever tells learns what was taken."""
    bench = Bench(capacity=1).by_hand()
    taken = [bench.recorder.update(told) for told in (UPDATE, UPDATE, Suspension(1.0))]
    assert [True, False, True] == taken
    assert Ledger(recorded=3, pending=2, dropped={"queue_full": 1}) == bench.updates()
    bench.recorder.close(0.0)
    assert not bench.recorder.update(Suspension(2.0))


def test_each_call_is_foreseen_once_before_it_settles() -> None:
    """A look that fails is a fault of ours; the call is recorded all the same."""
    bench = Bench().by_hand()
    seen: list[float] = []

    def look(observation: Observation) -> None:
        seen.append(observation.ended)
        if observation.ended:
            raise ZeroDivisionError

    bench.recorder.foresee(look)
    bench.submit(0.0)
    bench.submit(0.5)
    bench.recorder.turn(1.0)
    assert ([0.0, 0.5], ["foresee"], []) == (seen, bench.faults, bench.first)
    bench.recorder.turn(SETTLE + 0.5)
    assert ([0.0, 0.5], Ledger(recorded=2, exported=2)) == (seen, bench.attempts())


def test_a_call_that_is_recorded_is_kept_nowhere() -> None:
    """Nobody looks ahead without a feed, so nothing is kept for it, however many calls there are."""
    bench = Bench().by_hand()
    call = weakref.ref(observation := bench.call())
    bench.recorder.submit(observation)
    del observation
    bench.recorder.turn(SETTLE)
    gc.collect()
    assert (None, 1) == (call(), bench.attempts().exported)


def test_no_more_than_a_thousand_faults_wait() -> None:
    """A fault that repeats at every call must not fill the memory."""
    bench = Bench().by_hand()
    for _ in range(2_000):
        bench.recorder.fault("observe")
    bench.recorder.turn(0.0)
    assert ["observe"] * 1_000 == bench.faults


# -- faults of our own --------------------------------------------------------------------------------------------


def test_a_call_that_cannot_be_assessed_is_dropped_and_counted() -> None:
    """The next one is recorded."""
    bench = Bench(assess=broken).by_hand()
    bench.submit()
    bench.recorder.turn(SETTLE)
    assert (Ledger(recorded=1, dropped={"internal_error": 1}), ["assess"]) == (bench.attempts(), bench.faults)
    bench.assess = lambda _: ACCEPTED
    bench.submit()
    bench.recorder.turn(SETTLE)
    assert Ledger(recorded=2, exported=1, dropped={"internal_error": 1}) == bench.attempts()


def test_an_update_that_cannot_be_applied_is_dropped_and_counted() -> None:
    """Events that it gave before it failed have happened."""
    bench = Bench(apply=half_broken).by_hand()
    bench.recorder.update(UPDATE)
    bench.recorder.turn(0.0)
    assert (Ledger(recorded=1, dropped={"internal_error": 1}), ["apply"]) == (bench.updates(), bench.faults)
    assert 1 == len(bench.first)


def test_one_sinks_fault_is_no_others(caplog: pytest.LogCaptureFixture) -> None:
    """The others get every event; the fault is counted each time and told once, without what it was about."""
    bench = Bench().by_hand()
    bench.first.is_broken = True
    for _ in range(3):
        bench.submit()
    with caplog.at_level(logging.DEBUG, "call_initiation"):
        bench.recorder.turn(SETTLE)
    assert ([ACCEPTED] * 3, ["first"] * 3) == (bench.second, bench.faults)
    assert Ledger(recorded=3, exported=3) == bench.attempts()
    assert ["a fault of our own in stage first: counted, and the calls go on"] == caplog.messages


def test_faults_on_the_callers_path_are_counted_on_the_recorders_thread() -> None:
    """The caller's side only notes them."""
    bench = Bench().by_hand()
    bench.recorder.fault("observe")
    assert [] == bench.faults
    bench.recorder.turn(0.0)
    assert ["observe"] == bench.faults


def test_untidiness_stops_nothing() -> None:
    """Each turn tidies up at its end; a fault there is counted like any other."""
    bench = Bench(is_untidy=True).by_hand()
    bench.recorder.turn(0.0)
    bench.recorder.turn(0.0)
    assert (2, ["tidy", "tidy"]) == (bench.tidied, bench.faults)


@pytest.mark.parametrize(
    ("last", "waited", "fullness", "length", "rest"),
    [
        (SLICE, 0.0, 0.0, 2 * SLICE, NAP),
        (GROWN_SLICE, 0.0, 0.0, GROWN_SLICE, NAP),
        (LONG_SLICE, 0.001, 0.0, SLICE, NAP),
        (SLICE, 0.005, 0.0, LONG_SLICE, REST),
        (SLICE, 0.005, 0.2, LONG_SLICE, REST),
        (SLICE, 0.005, 0.5, 0.002, NAP),
        (SLICE, 0.0, 0.5, 0.002, NAP),
        (SLICE, 0.005, 1.0, 0.004, NAP),
    ],
)
def test_slices_grow_while_nobody_is_held_up_and_with_the_queue(
    last: float, waited: float, fullness: float, length: float, rest: float
) -> None:
    """Where the lock is hard to get, it is asked for less often; where the queue fills, for longer, without a rest."""
    assert (length, rest) == slice_and_rest(last, waited, fullness)


def test_work_longer_than_a_slice_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every call is recorded in one turn all the same."""
    naps: list[float] = []
    monkeypatch.setattr("call_initiation.recording.recorder.sleep", naps.append)

    def slow(_: Observation) -> Attempt:
        until = perf_counter() + 2 * SLICE
        while perf_counter() < until:
            pass
        return ACCEPTED

    bench = Bench(assess=slow).by_hand()
    for _ in range(3):
        bench.submit()
    bench.recorder.turn(SETTLE)
    assert Ledger(recorded=3, exported=3) == bench.attempts()
    assert NAP == naps[0]


def test_what_is_refused_takes_no_room_for_long() -> None:
    """After the end nobody looks at the queue any more, and calls may go on for days: they are counted at the door."""
    bench = Bench().by_hand()
    bench.recorder.close(0.0)
    call = bench.call()
    for _ in range(5_000):
        bench.recorder.submit(call)
    assert len(bench.recorder._refused) <= 1_000
    with bench.recorder._lock:  # whoever has it counts them
        for _ in range(2_000):
            bench.recorder.update(UPDATE)
        assert len(bench.recorder._refused) > 2_000
    assert Ledger(recorded=5_000, dropped={"closed": 5_000}) == bench.attempts()
    assert Ledger(recorded=2_000, dropped={"closed": 2_000}) == bench.updates()


def test_what_is_refused_is_counted_by_the_recorder() -> None:
    """With each turn, so that a caller hardly ever has to."""
    bench = Bench(capacity=1).by_hand()
    for _ in range(3):
        bench.submit()
    assert 2 == len(bench.recorder._refused)
    bench.recorder.turn(0.0)
    assert 0 == len(bench.recorder._refused)
    assert Ledger(recorded=3, pending=1, dropped={"queue_full": 2}) == bench.attempts()


def test_being_closed_in_the_middle_of_a_turn_is_no_fault() -> None:
    """The call in hand is recorded, the others are dropped; nothing is counted twice."""
    bench = Bench().by_hand()
    unread = [bench.call(0.0, 400, is_read=False) for _ in range(2)]
    for call in unread:
        bench.recorder.submit(call)
    bench.recorder.turn(SETTLE)
    bench.submit()
    for call in unread:
        call.is_open = False
    bench.assess = lambda _: bench.recorder.close(0.0) or ACCEPTED
    bench.recorder.turn(SETTLE)
    assert Ledger(recorded=3, exported=1, dropped={"shutdown": 2}) == bench.attempts()
    assert [] == bench.faults


# -- the law, whatever happens in whatever order --------------------------------------------------------------------


class Accounts(RuleBasedStateMachine):
    """Any order of calls, updates, turns, faults, flushes, forks and the end: the books always balance."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench(capacity=4).by_hand()
        self.now = 0.0
        self.open: list[Observation] = []
        self.calls = self.told = self.faults = 0
        self.before = 0
        self.is_closed = False

    @rule(status=st.sampled_from([202, 400, 503]), is_open=st.booleans())
    def submit(self, status: int, *, is_open: bool) -> None:
        """A call ends; its body may still be read."""
        call = self.bench.call(self.now, status, is_read=not is_open)
        self.open.append(call)
        self.bench.recorder.submit(call)
        self.calls += 1

    @rule()
    def update(self) -> None:
        """Someone tells of an agent."""
        self.bench.recorder.update(UPDATE)
        self.told += 1

    @rule(seconds=st.sampled_from([0.0, 0.5, SETTLE, PATIENCE]))
    def turn(self, seconds: float) -> None:
        """Time goes by."""
        self.now += seconds
        self.bench.recorder.turn(self.now)

    @rule()
    def flush(self) -> None:
        """All that waits is asked for."""
        self.bench.recorder.turn(self.now, everything=True)
        assert 0 == self.bench.attempts().pending == self.bench.updates().pending

    @precondition(lambda self: self.open)
    @rule()
    def read(self) -> None:
        """A reader is done with the oldest body."""
        self.open.pop(0).is_open = False

    @rule(is_broken=st.booleans())
    def sink(self, *, is_broken: bool) -> None:
        """A sink breaks or is mended."""
        self.bench.first.is_broken = is_broken

    @rule(assess=st.sampled_from([broken, lambda _: ACCEPTED]))
    def assessment(self, assess: Callable[[Observation], Attempt]) -> None:
        """A fault of ours comes or goes."""
        self.bench.assess = assess

    @rule(apply=st.sampled_from([half_broken, broken, lambda _: []]))
    def application(self, apply: Callable[[StateUpdate], Iterable[Event]]) -> None:
        """A fault of ours comes or goes."""
        self.bench.apply = apply

    @rule()
    def close(self) -> None:
        """The end: nothing waits after it."""
        self.bench.recorder.close(0.0)
        self.is_closed = True
        assert 0 == self.bench.attempts().pending == self.bench.updates().pending

    @rule()
    def fork(self) -> None:
        """A child begins at zero."""
        self.bench.recorder.reset()
        self.bench.by_hand()
        self.calls = self.told = 0
        self.before = len(self.recorded())

    def recorded(self) -> list[Event]:
        """Return the calls that the sound sink was given."""
        return [event for event in self.bench.second if isinstance(event, Attempt)]

    @invariant()
    def balances(self) -> None:
        """Recorded is what was handed in; exported is what reached the sinks; what waits is bounded."""
        attempts, updates = self.bench.attempts(), self.bench.updates()
        assert (self.calls, self.told) == (attempts.recorded, updates.recorded)
        assert attempts.exported == len(self.recorded()) - self.before
        assert max(attempts.pending, updates.pending) <= 4
        reasons = attempts.dropped.keys() | updates.dropped.keys()
        assert {"queue_full", "closed", "shutdown", "internal_error"} >= reasons
        assert self.is_closed or "closed" not in reasons


TestAccounts = Accounts.TestCase
TestAccounts.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
