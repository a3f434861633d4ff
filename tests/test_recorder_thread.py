"""What the recorder's own thread promises: it starts when something comes, ends when asked to, and holds nobody up."""

import threading
from threading import Thread
from time import monotonic

import pytest

from call_initiation.events import Attempt, LateChange, Ledger
from recording import SOON, UPDATE, Bench


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


def test_a_flush_does_not_pass_for_one_that_was_under_way() -> None:
    """A turn that had begun before records only what had settled by then."""
    bench = Bench(settle=60.0)
    bench.first.may_go_on.clear()
    bench.recorder.update(UPDATE)
    assert bench.first.is_busy.wait(SOON)
    bench.submit(monotonic())
    flushed: list[bool] = []
    flushing = Thread(target=lambda: flushed.append(bench.recorder.flush(SOON)))
    flushing.start()
    while not bench.recorder._flushes:
        pass
    bench.first.may_go_on.set()
    flushing.join(SOON)
    assert ([True], Ledger(recorded=1, exported=1)) == (flushed, bench.attempts())
    bench.recorder.close(SOON)


def test_after_a_flush_the_thread_waits_again() -> None:
    """Else it would turn without a pause from then on, and take a processor."""
    bench = Bench()
    bench.recorder.update(UPDATE)
    assert bench.recorder.flush(SOON)
    assert not bench.recorder._wake.is_set()
    bench.recorder.close(SOON)


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


@pytest.mark.usefixtures("_broken_log")
def test_a_fault_that_cannot_be_told_of_ends_nothing() -> None:
    """A filter of the dialer's that fails, at a fault of ours: all is recorded, and the fault is counted."""
    bench = Bench(settle=0.0)
    bench.first.is_broken = True
    bench.submit(0.0)
    bench.recorder.update(UPDATE)
    assert bench.recorder.flush(SOON)
    assert (Ledger(recorded=1, exported=1),) * 2 == (bench.attempts(), bench.updates())
    assert (["first", "first"], 2) == (bench.faults, len(bench.second))
    bench.recorder.close(SOON)


def test_reset_begins_anew() -> None:
    """A child counts from zero, and has a thread of its own at its first call; its parent's isn't there."""
    bench = Bench(settle=0.0).by_hand()
    bench.submit(0.0)
    bench.recorder.turn(0.0)
    bench.submit(0.0)
    assert Ledger(recorded=2, exported=1, pending=1) == bench.attempts()
    bench.recorder.reset()
    assert Ledger() == bench.attempts()
    bench.submit(0.0)
    assert bench.recorder.flush(SOON)
    assert Ledger(recorded=1, exported=1) == bench.attempts()
    bench.recorder.close(SOON)


def test_beginning_anew_ends_the_thread_of_before() -> None:
    """What comes after is another thread's alone."""
    bench = Bench(settle=0.0)
    bench.submit(0.0)
    before = bench.recorder._thread
    assert before is not None
    bench.recorder.reset()
    before.join(SOON)
    assert not before.is_alive()
    bench.submit(0.0)
    assert bench.recorder.flush(SOON)
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
