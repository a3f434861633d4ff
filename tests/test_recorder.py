"""What `recorder` promises: nothing waits on it, nothing is lost uncounted, and each call settles before its record.

Where the time matters, the test itself is the recorder's thread: it says what time it is, and turns the recorder.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, repeat
from threading import Event as Flag
from threading import Thread, current_thread
from time import monotonic, perf_counter

import httpx
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from call_initiation.client import doors
from call_initiation.endpoints import match
from call_initiation.events import AgentState, Attempt, Event, LateChange, Ledger, Sink
from call_initiation.observation import Body, Observation
from call_initiation.recorder import PATIENCE, SLICE, Recorder, StateUpdate, Suspension
from samples import ACCEPTED

SETTLE = 2.0
UPDATE = StateUpdate("a", AgentState(presence="BUSY"), 1.0)
SOON = 10.0
"""Seconds that a test waits for another thread before it fails."""


class Kept(list[Event]):
    """A sink that keeps what it is given, and may be broken or held up."""

    def __init__(self) -> None:
        self.is_broken = False
        self.may_go_on = Flag()
        self.may_go_on.set()
        self.is_busy = Flag()

    def record(self, event: Event) -> None:
        """Take one event."""
        self.is_busy.set()
        assert self.may_go_on.wait(SOON)
        if self.is_broken:
            raise OSError("broken")
        self.append(event)


@dataclass
class Bench:
    """A recorder and what it was made of."""

    settle: float = SETTLE
    capacity: int = 100
    first: Kept = field(default_factory=Kept)
    second: Kept = field(default_factory=Kept)
    faults: list[str] = field(default_factory=list)
    tidied: int = 0
    assess: Callable[[Observation], Attempt] = lambda _: ACCEPTED
    apply: Callable[[StateUpdate], Iterable[Event]] = lambda _: [LateChange(agent_id="a", at=1.0)]
    is_untidy: bool = False

    def __post_init__(self) -> None:
        """Make the recorder."""
        sinks: dict[str, Sink] = {"first": self.first, "second": self.second}
        self.recorder = Recorder(
            lambda observation: self.assess(observation),  # noqa: PLW0108 - tests replace it later
            lambda update: self.apply(update),  # noqa: PLW0108 - as above
            sinks,
            self.faults.append,
            self.tidy,
            settle=self.settle,
            capacity=self.capacity,
        )

    def by_hand(self) -> "Bench":
        """Make the test's thread the recorder's own, so that only `turn` moves it."""
        self.recorder._thread = current_thread()
        return self

    def tidy(self) -> None:
        """Count the turns."""
        self.tidied += 1
        if self.is_untidy:
            raise OSError("untidy")

    def call(self, finished: float = 0.0, status: int = 202, body: Body | None = None) -> Observation:
        """Return a call that ended at `finished`."""
        endpoint = match("POST", b"/api/v2/conversations/calls")
        assert endpoint is not None
        request = httpx.Request("POST", "https://api.example.com/api/v2/conversations/calls")
        observation = Observation(endpoint, request, doors("httpx").sync, None, self.recorder)
        observation.finished, observation.status_code, observation.body = finished, status, body
        return observation

    def submit(self, finished: float = 0.0) -> None:
        """Hand over a call that ended at `finished`."""
        self.recorder.submit(self.call(finished))

    def attempts(self) -> Ledger:
        """Return the accounts of calls, and hold them to the law."""
        return lawful(self.recorder.ledgers()["attempts"])

    def updates(self) -> Ledger:
        """Return the accounts of updates, and hold them to the law."""
        return lawful(self.recorder.ledgers()["updates"])


def reading() -> Body:
    """Return a body that is being read."""
    return Body(pytest.fail, keeps=True)


def lawful(ledger: Ledger) -> Ledger:
    """Return a ledger that obeys the law."""
    assert ledger.recorded == ledger.exported + ledger.pending + sum(ledger.dropped.values())
    assert min(ledger.recorded, ledger.exported, ledger.pending, *ledger.dropped.values(), 0) == 0
    return ledger


# -- settling -----------------------------------------------------------------------------------------------------


def test_a_call_is_recorded_when_it_has_settled() -> None:
    """Not a moment before, and by every sink once."""
    bench = Bench().by_hand()
    bench.submit(finished=100.0)
    bench.recorder.turn(100.0 + SETTLE - 0.01)
    assert ([], Ledger(recorded=1, pending=1)) == (bench.first, bench.attempts())
    bench.recorder.turn(100.0 + SETTLE)
    bench.recorder.turn(200.0)
    assert [ACCEPTED] == bench.first == bench.second
    assert Ledger(recorded=1, exported=1) == bench.attempts()


def test_what_waits_settles_anew_after_an_outage() -> None:
    """A process that was stopped has yet to hear what happened meanwhile; a flush doesn't wait for it."""
    bench = Bench().by_hand()
    bench.submit(finished=100.0)
    bench.submit(finished=160.0)
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
    monkeypatch.setattr("call_initiation.recorder.monotonic", lambda: next(leaps))
    bench.submit(finished=0.0)
    assert bench.recorder.flush(SOON)
    assert 3600.0 == bench.recorder._woken
    bench.recorder.close(SOON)


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
    bench.submit(finished=100.0)
    bench.recorder.submit(bench.call(100.0, 400, reading()))
    bench.recorder.turn(100.0, everything=True)
    assert Ledger(recorded=2, exported=2) == bench.attempts()


def test_an_error_whose_body_is_being_read_waits_and_holds_up_nobody() -> None:
    """The next call is recorded in its time; the error when its reader is done."""
    seen: list[int | None] = []
    bench = Bench(assess=lambda observation: seen.append(observation.status_code) or ACCEPTED).by_hand()
    body = reading()
    bench.recorder.submit(bench.call(0.0, 400, body))
    bench.submit(0.0)
    bench.recorder.turn(SETTLE)
    assert ([202], Ledger(recorded=2, exported=1, pending=1)) == (seen, bench.attempts())
    body.close()
    bench.recorder.turn(SETTLE + 0.1)
    assert ([202, 400], Ledger(recorded=2, exported=2)) == (seen, bench.attempts())


def test_a_body_that_is_never_read_is_waited_for_only_so_long() -> None:
    """Then it is recorded as it is."""
    bench = Bench().by_hand()
    bench.recorder.submit(bench.call(0.0, 400, reading()))
    bench.recorder.turn(PATIENCE - 0.01)
    assert 1 == bench.attempts().pending
    bench.recorder.turn(PATIENCE)
    assert Ledger(recorded=1, exported=1) == bench.attempts()


@pytest.mark.parametrize("status", [202, 303])
def test_only_an_errors_body_is_waited_for(status: int) -> None:
    """Of other answers nothing is kept, so there is nothing to wait for."""
    bench = Bench().by_hand()
    bench.recorder.submit(bench.call(0.0, status, reading()))
    bench.recorder.turn(SETTLE)
    assert Ledger(recorded=1, exported=1) == bench.attempts()


# -- bounds -------------------------------------------------------------------------------------------------------


def test_what_finds_no_room_is_dropped_and_counted() -> None:
    """Calls and updates have rooms of their own."""
    bench = Bench(capacity=2).by_hand()
    for _ in range(5):
        bench.submit()
        bench.recorder.update(UPDATE)
    expected = Ledger(recorded=5, pending=2, dropped={"queue_full": 3})
    assert (expected, expected) == (bench.attempts(), bench.updates())


def test_errors_that_wait_for_their_readers_take_room_too() -> None:
    """Each holds a copy of a body: an outage must not fill the memory."""
    bench = Bench(capacity=2).by_hand()
    for _ in range(4):
        bench.recorder.submit(bench.call(0.0, 503, reading()))
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
        seen.append(observation.finished)
        if observation.finished:
            raise ZeroDivisionError

    bench.recorder.foresee(look)
    bench.submit(0.0)
    bench.submit(0.5)
    bench.recorder.turn(1.0)
    assert ([0.0, 0.5], ["foresee"], []) == (seen, bench.faults, bench.first)
    bench.recorder.turn(SETTLE + 0.5)
    assert ([0.0, 0.5], Ledger(recorded=2, exported=2)) == (seen, bench.attempts())


def test_no_more_than_a_thousand_faults_wait() -> None:
    """A fault that repeats at every call must not fill the memory."""
    bench = Bench().by_hand()
    for _ in range(2_000):
        bench.recorder.fault("observe")
    bench.recorder.turn(0.0)
    assert ["observe"] * 1_000 == bench.faults


# -- faults of our own --------------------------------------------------------------------------------------------


def broken(_: object) -> Attempt:
    """Fail as a fault of ours would."""
    raise ZeroDivisionError


def half_broken(_: StateUpdate) -> Iterator[Event]:
    """Fail midway."""
    yield LateChange(agent_id="a", at=1.0)
    raise ZeroDivisionError


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


def test_work_longer_than_a_slice_gives_way() -> None:
    """Every call is recorded in one turn all the same."""

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


def test_being_closed_in_the_middle_of_a_turn_is_no_fault() -> None:
    """The call in hand is recorded, the others are dropped; nothing is counted twice."""
    bench = Bench().by_hand()
    bodies = [reading(), reading()]
    for body in bodies:
        bench.recorder.submit(bench.call(0.0, 400, body))
    bench.recorder.turn(SETTLE)
    bench.submit()
    for body in bodies:
        body.close()
    bench.assess = lambda _: bench.recorder.close(0.0) or ACCEPTED
    bench.recorder.turn(SETTLE)
    assert Ledger(recorded=3, exported=1, dropped={"shutdown": 2}) == bench.attempts()
    assert [] == bench.faults


# -- its own thread -----------------------------------------------------------------------------------------------


def test_flush_records_all_that_waits() -> None:
    """On the recorder's own thread, however long the settle window is."""
    bench = Bench(settle=60.0)
    for _ in range(10):
        bench.submit(monotonic())
    bench.recorder.fault("observe")
    assert bench.recorder.flush(SOON)
    assert Ledger(recorded=10, exported=10) == bench.attempts()
    assert ["observe"] == bench.faults
    bench.recorder.close(SOON)


@pytest.mark.parametrize("begin", ["update", "fault"])
def test_updates_and_faults_alone_start_the_thread(begin: str) -> None:
    """Whatever comes first."""
    bench = Bench()
    bench.recorder.update(UPDATE) if begin == "update" else bench.recorder.fault("observe")
    assert bench.recorder.flush(SOON)
    assert (1, 1) == (bench.tidied and 1, len(bench.first) + len(bench.faults))
    bench.recorder.close(SOON)


def test_calls_are_recorded_without_being_asked_for() -> None:
    """The thread looks by itself."""
    bench = Bench(settle=0.0)
    bench.submit(monotonic())
    assert bench.first.is_busy.wait(SOON)
    bench.recorder.close(SOON)


def test_flush_tells_when_the_time_does_not_suffice() -> None:
    """A sink that hangs holds up its thread, and nobody who flushes or closes; the law holds all along."""
    bench = Bench(settle=0.0)
    bench.first.may_go_on.clear()
    bench.submit(0.0)
    assert bench.first.is_busy.wait(SOON)
    bench.submit(0.0)
    assert Ledger(recorded=2, pending=2) == bench.attempts()
    assert not bench.recorder.flush(0.01)
    bench.recorder.close(0.01)
    assert Ledger(recorded=2, pending=1, dropped={"shutdown": 1}) == bench.attempts()
    thread = bench.recorder._thread
    assert thread is not None
    bench.first.may_go_on.set()
    thread.join(SOON)
    assert Ledger(recorded=2, exported=1, dropped={"shutdown": 1}) == bench.attempts()


def test_a_flush_that_meets_a_close_ends() -> None:
    """It doesn't wait its time out for a thread that has gone."""
    bench = Bench(settle=0.0)
    bench.first.may_go_on.clear()
    bench.submit(0.0)
    assert bench.first.is_busy.wait(SOON)
    flushed: list[bool] = []
    flushing = Thread(target=lambda: flushed.append(bench.recorder.flush(60.0)))
    flushing.start()
    while not bench.recorder._flushes:
        pass
    bench.recorder.close(0.0)
    bench.first.may_go_on.set()
    flushing.join(SOON)
    assert [True] == flushed


def test_flush_has_nothing_to_wait_for_without_a_thread() -> None:
    """Before the first call, after the end, and when a sink of its own asks."""
    bench = Bench(settle=0.0)
    assert bench.recorder.flush(60.0)
    bench.first.record = lambda _: bench.recorder.flush(60.0)  # type: ignore[method-assign]
    bench.submit(0.0)
    assert bench.recorder.flush(SOON)
    bench.recorder.close(SOON)
    assert bench.recorder.flush(60.0)
    assert [] == bench.faults


def test_reset_begins_anew() -> None:
    """A child counts from zero, and has a thread of its own at its first call."""
    bench = Bench(settle=0.0)
    bench.submit(0.0)
    assert bench.recorder.flush(SOON)
    before = bench.recorder._thread
    bench.recorder.reset()
    assert Ledger() == bench.attempts()
    bench.submit(0.0)
    assert bench.recorder.flush(SOON)
    assert before is not bench.recorder._thread
    assert Ledger(recorded=1, exported=1) == bench.attempts()
    bench.recorder.close(SOON)


def test_a_machine_out_of_threads_costs_nobody_a_call() -> None:
    """Nothing is raised; what waits is recorded once a thread can be had."""
    bench = Bench(settle=0.0)
    before = threading.stack_size(1 << 46)
    try:
        bench.submit(0.0)
        bench.recorder.update(UPDATE)
        bench.recorder.fault("observe")
    finally:
        threading.stack_size(before)
    assert Ledger(recorded=1, pending=1) == bench.attempts()
    bench.submit(0.0)
    assert bench.recorder.flush(SOON)
    assert Ledger(recorded=2, exported=2) == bench.attempts()
    bench.recorder.close(SOON)


def test_the_accounts_are_exact_under_threads() -> None:
    """Eight threads submit, one looks at the books and closes in the middle: no call is lost or doubled."""
    bench = Bench(settle=0.0, capacity=50)
    start, calls = threading.Barrier(9), bench.call(0.0)

    def submit() -> None:
        start.wait()
        for _ in range(500):
            bench.recorder.submit(calls)
            bench.recorder.update(UPDATE)

    threads = [Thread(target=submit) for _ in range(8)]
    for thread in threads:
        thread.start()
    start.wait()
    while bench.attempts().recorded < 2_000:
        bench.updates()
    bench.recorder.close(0.001)
    for thread in threads:
        thread.join(SOON)
    recording = bench.recorder._thread
    assert recording is not None
    recording.join(SOON)
    attempts, updates = bench.attempts(), bench.updates()
    assert (4_000, 4_000) == (attempts.recorded, updates.recorded)
    assert attempts.exported == sum(isinstance(event, Attempt) for event in bench.first)
    assert updates.exported == sum(isinstance(event, LateChange) for event in bench.first)
    assert [] == bench.faults


# -- the law, whatever happens in whatever order --------------------------------------------------------------------


class Accounts(RuleBasedStateMachine):
    """Any order of calls, updates, turns, faults, flushes, forks and the end: the books always balance."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench(capacity=4).by_hand()
        self.now = 0.0
        self.open: list[Body] = []
        self.calls = self.told = self.faults = 0
        self.before = 0
        self.is_closed = False

    @rule(status=st.sampled_from([202, 400, 503]), is_open=st.booleans())
    def submit(self, status: int, *, is_open: bool) -> None:
        """A call ends; its body may still be read."""
        body = reading()
        body.is_open = is_open
        self.open.append(body)
        self.bench.recorder.submit(self.bench.call(self.now, status, body))
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
        self.open.pop(0).close()

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
