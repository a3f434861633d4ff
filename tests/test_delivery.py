"""What `delivery` promises: bounded, counted, tried again with the same records, and never in anyone's way."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from threading import Event as Flag
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.instrumentation.utils import is_instrumentation_enabled

from call_initiation.delivery import Delivered, Delivery, MetricsDelivery, Passing, Verdict
from call_initiation.events import Ledger

SOON = 10.0
"""Seconds that a test waits for another thread before it fails."""
NEVER = 3600.0
"""An interval that doesn't pass within a test: only a wake-up exports."""
YES, NOT_NOW, REFUSED = Delivered.YES, Delivered.NOT_NOW, Delivered.NEVER


class Collector:
    """Answers exports as scripted, then with yes; may be held up."""

    def __init__(self, *answers: Verdict | Delivered | Exception) -> None:
        self.answers = deque(answers)
        self.batches: list[list[int]] = []
        self.may_answer = Flag()
        self.may_answer.set()
        self.was_asked = Flag()
        self.connections = 0

    def connect(self) -> Callable[[Sequence[int]], Verdict]:
        """Count the connections."""
        self.connections += 1
        return self.export

    def export(self, batch: Sequence[int]) -> Verdict:
        """Take a batch."""
        self.batches.append(list(batch))
        self.was_asked.set()
        assert self.may_answer.wait(SOON)
        answer = self.answers.popleft() if self.answers else YES
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, Verdict) else Verdict(answer)

    def connect_metrics(self) -> Callable[[], Delivered]:
        """Count the connections."""
        self.connections += 1
        return lambda: self.export([]).delivered


def delivery(collector: Collector, capacity: int = 100, batch: int = 10, interval: float = NEVER) -> Delivery[int]:
    """Return a delivery to a collector."""
    return Delivery("spans", collector.connect, capacity=capacity, batch=batch, interval=interval)


def lawful(ledger: Ledger) -> Ledger:
    """Return a ledger that obeys the law."""
    assert ledger.recorded == ledger.exported + ledger.pending + sum(ledger.dropped.values())
    return ledger


def accounts(stage: Delivery[int] | MetricsDelivery | Passing[int]) -> Ledger:
    """Return a stage's ledger, held to the law."""
    return lawful(stage.ledger())


# -- spans and events ---------------------------------------------------------------------------------------------


def test_records_go_in_order_and_in_batches() -> None:
    """Oldest first, no more at once than a batch."""
    collector = Collector()
    collector.may_answer.clear()
    spans = delivery(collector, batch=3)
    for record in range(8):
        spans.put(record)
    collector.may_answer.set()
    assert spans.flush(SOON)
    assert list(range(8)) == [record for batch in collector.batches for record in batch]
    assert 3 == max(map(len, collector.batches))
    assert Ledger(recorded=8, exported=8) == accounts(spans)
    assert 1 == collector.connections
    spans.close(SOON)


def test_a_full_batch_does_not_wait_for_the_interval() -> None:
    """Neither does one that is hurried."""
    collector = Collector()
    spans = delivery(collector, batch=2)
    spans.put(1)
    spans.put(2)
    assert collector.was_asked.wait(SOON)
    collector.was_asked.clear()
    spans.put(3)
    spans.hurry()
    assert collector.was_asked.wait(SOON)
    assert [[1, 2], [3]] == collector.batches
    spans.close(SOON)


def test_the_interval_exports_by_itself() -> None:
    """Nobody has to ask."""
    collector = Collector()
    spans = delivery(collector, interval=0.01)
    spans.put(1)
    assert collector.was_asked.wait(SOON)
    spans.close(SOON)
    assert Ledger(recorded=1, exported=1) == accounts(spans)


def test_what_could_not_be_delivered_is_tried_again_as_it_is() -> None:
    """The very same records, before younger ones."""
    collector = Collector(NOT_NOW, NOT_NOW)
    spans = delivery(collector, batch=2)
    for record in (1, 2, 3):
        spans.put(record)
    assert spans.flush(SOON)
    assert [[1, 2], [1, 2], [1, 2], [3]] == collector.batches
    assert Ledger(recorded=3, exported=3) == accounts(spans)
    spans.close(SOON)


def test_after_a_failure_the_next_try_waits() -> None:
    """A collector that is down isn't hammered: what failed waits for the next interval or flush."""
    collector = Collector(*[NOT_NOW] * 5)
    spans = delivery(collector)
    spans.put(1)
    spans.hurry()
    assert collector.was_asked.wait(SOON)
    assert not spans.flush(0.0)
    assert len(collector.batches) <= 2
    assert Ledger(recorded=1, pending=1) == accounts(spans)
    spans.close(0.0)


def test_what_is_refused_for_good_is_not_sent_again() -> None:
    """It is dropped and counted; what follows goes on."""
    collector = Collector(REFUSED)
    spans = delivery(collector, batch=2)
    for record in (1, 2, 3):
        spans.put(record)
    assert spans.flush(SOON)
    assert [[1, 2], [3]] == collector.batches
    assert Ledger(recorded=3, exported=1, dropped={"refused": 2}) == accounts(spans)
    spans.close(SOON)


@pytest.mark.parametrize(("told", "counted"), [(1, 1), (3, 3), (99, 3), (-5, 0)])
def test_what_is_refused_of_a_batch_is_counted(told: int, counted: int) -> None:
    """The rest has arrived, and none of it is sent again; a collector that can't count can't upset the books."""
    collector = Collector(Verdict(YES, refused=told))
    spans = delivery(collector)
    for record in (1, 2, 3):
        spans.put(record)
    assert spans.flush(SOON)
    assert [[1, 2, 3]] == collector.batches
    dropped = {"refused": counted} if counted else {}
    assert Ledger(recorded=3, exported=3 - counted, dropped=dropped) == accounts(spans)
    spans.close(SOON)


def test_an_exporter_that_raises_is_told_without_its_words(caplog: pytest.LogCaptureFixture) -> None:
    """Its message may quote what it was given."""
    collector = Collector(ValueError("+33 1 99 00 00 00"))
    spans = delivery(collector)
    with caplog.at_level(logging.DEBUG, "call_initiation"):
        spans.put(1)
        assert spans.flush(SOON)
    assert ["exporting spans failed: ValueError"] == caplog.messages
    assert Ledger(recorded=1, dropped={"refused": 1}) == accounts(spans)
    spans.close(SOON)


def test_the_queue_is_bounded_and_the_oldest_goes_first() -> None:
    """What is in hand counts as well; the youngest are kept."""
    collector = Collector(NOT_NOW)
    collector.may_answer.clear()
    spans = delivery(collector, capacity=4, batch=2)
    spans.put(1)
    spans.put(2)
    assert collector.was_asked.wait(SOON)
    for record in range(3, 9):
        spans.put(record)
        assert accounts(spans).pending <= 4
    assert Ledger(recorded=8, pending=4, dropped={"queue_full": 4}) == accounts(spans)
    collector.may_answer.set()
    assert spans.flush(SOON)
    assert [[1, 2], [1, 2], [7, 8]] == collector.batches
    assert Ledger(recorded=8, exported=4, dropped={"queue_full": 4}) == accounts(spans)
    spans.close(SOON)


def test_a_black_hole_holds_up_neither_flush_nor_close() -> None:
    """Both end in their time; what is in hand and what waits is dropped, counted, and not counted again later."""
    collector = Collector()
    collector.may_answer.clear()
    spans = delivery(collector, batch=2)
    for record in (1, 2, 3):
        spans.put(record)
    assert collector.was_asked.wait(SOON)
    assert not spans.flush(0.05)
    spans.close(0.05)
    expected = Ledger(recorded=3, dropped={"shutdown": 3})
    assert expected == accounts(spans)
    thread = spans._thread
    assert thread is not None
    collector.may_answer.set()
    thread.join(SOON)
    assert expected == accounts(spans)


def test_after_the_end_nothing_is_taken() -> None:
    """It is counted; and there is nothing left to flush."""
    spans = delivery(Collector())
    spans.close(0.0)
    spans.put(1)
    assert Ledger(recorded=1, dropped={"closed": 1}) == accounts(spans)
    assert spans.flush(NEVER)


def test_a_started_delivery_needs_no_thread_at_its_first_record() -> None:
    """At the end of an interpreter none could be had."""
    collector = Collector()
    spans = delivery(collector)
    spans.start()
    before = spans._thread
    spans.start()
    spans.put(1)
    assert spans.flush(SOON)
    assert before is spans._thread is not None
    spans.close(SOON)


def test_a_machine_out_of_threads_loses_nothing() -> None:
    """The record waits until a thread can be had."""
    spans = delivery(Collector())
    before = threading.stack_size(1 << 46)
    try:
        spans.put(1)
    finally:
        threading.stack_size(before)
    assert Ledger(recorded=1, pending=1) == accounts(spans)
    spans.put(2)
    assert spans.flush(SOON)
    assert Ledger(recorded=2, exported=2) == accounts(spans)
    spans.close(SOON)


def test_reset_begins_anew() -> None:
    """A child has nothing of its parent's: no records, no thread, no connection."""
    collector = Collector()
    spans = delivery(collector)
    spans.put(1)
    assert spans.flush(SOON)
    parents = spans._thread
    spans.hurry()
    spans.reset()
    assert Ledger() == accounts(spans)
    spans.put(2)
    assert spans.flush(SOON)
    assert ([[1], [2]], 2) == (collector.batches, collector.connections)
    assert parents is not spans._thread
    spans.close(SOON)


def test_our_own_exports_are_not_instrumented() -> None:
    """A dialer that instruments `requests` or gRPC must not see spans of our exports."""
    seen: list[bool] = []

    def export() -> Delivered:
        seen.append(is_instrumentation_enabled())
        return YES

    spans: Delivery[int] = Delivery("spans", lambda: lambda _: Verdict(export()), capacity=1, batch=1, interval=NEVER)
    spans.put(1)
    assert spans.flush(SOON)
    spans.close(SOON)
    metrics = MetricsDelivery(lambda: export, NEVER)
    metrics.start()
    assert metrics.flush(SOON)
    metrics.close(SOON)
    assert {False} == set(seen)
    assert is_instrumentation_enabled()


@given(
    st.lists(st.sampled_from([YES, NOT_NOW, REFUSED, OSError("down")]), max_size=12),
    st.integers(1, 6),
    st.integers(1, 6),
    st.lists(st.integers(0, 5), max_size=4),
)
def test_the_books_balance_whatever_the_collector_does(
    answers: list[Delivered | Exception], capacity: int, batch: int, bursts: list[int]
) -> None:
    """Every record is exported once, or waits, or was dropped for a reason."""
    collector = Collector(*answers)
    spans = delivery(collector, capacity=capacity, batch=batch)
    total = 0
    for burst in bursts:
        for record in range(burst):
            spans.put(record)
            total += 1
            assert total == accounts(spans).recorded
            assert accounts(spans).pending <= capacity
    assert spans.flush(SOON)
    spans.close(0.0)
    ledger = accounts(spans)
    assert (total, 0) == (ledger.recorded, ledger.pending)
    assert {"queue_full", "refused"} >= ledger.dropped.keys()


def test_the_accounts_are_exact_under_threads() -> None:
    """Eight threads put while the collector fails now and then and the books are read all the while."""
    collector = Collector(*[NOT_NOW, REFUSED, YES, OSError("down")] * 20)
    spans = delivery(collector, capacity=50, batch=16, interval=0.001)
    threads = [Thread(target=lambda: [spans.put(record) for record in range(500)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        accounts(spans)
    assert spans.flush(SOON)
    spans.close(0.0)
    assert (4_000, 0) == (accounts(spans).recorded, accounts(spans).pending)


# -- what waits elsewhere -----------------------------------------------------------------------------------------


class Elsewhere:
    """Records that wait in some other place."""

    def __init__(self, *records: int) -> None:
        self.records = list(records)
        self.taken = 0
        self.accounts = Ledger(recorded=len(records), pending=len(records), recovered=len(records))

    def take(self, limit: int) -> Sequence[int]:
        """Return the next records."""
        self.taken = min(limit, len(self.records))
        return self.records[: self.taken]

    def settle(self, refused: int) -> None:
        """Be done with them."""
        self.records = self.records[self.taken :]
        dropped = {"refused": refused} if refused else {}
        self.accounts += Ledger(exported=self.taken - refused, pending=-self.taken, dropped=dropped)

    def put_back(self) -> None:
        """Keep them."""
        self.taken = 0

    def ledger(self) -> Ledger:
        """Return the accounts."""
        return self.accounts


def both(collector: Collector, backlog: Elsewhere, interval: float = NEVER) -> Delivery[int]:
    """Return a delivery of what waits in memory and elsewhere."""
    return Delivery("spans", collector.connect, capacity=3, batch=2, interval=interval, backlog=backlog)


def test_a_backlog_goes_first() -> None:
    """In batches; its accounts are the stage's, too."""
    collector, backlog = Collector(), Elsewhere(1, 2, 3)
    collector.may_answer.clear()
    spans = both(collector, backlog)
    spans.put(10)
    assert Ledger(recorded=4, pending=4, recovered=3) == accounts(spans)
    collector.may_answer.set()
    assert spans.flush(SOON)
    assert [[1, 2], [3], [10]] == collector.batches
    assert Ledger(recorded=4, exported=4, recovered=3) == accounts(spans)
    spans.close(SOON)


def test_a_backlog_is_tried_again_and_refused_like_the_rest() -> None:
    """Not now, in part, for good."""
    collector, backlog = Collector(NOT_NOW, Verdict(YES, refused=1), REFUSED), Elsewhere(1, 2, 3)
    spans = both(collector, backlog, interval=0.01)
    spans.put(10)
    assert spans.flush(SOON)
    assert [[1, 2], [1, 2], [3], [10]] == collector.batches
    assert Ledger(recorded=4, exported=2, dropped={"refused": 2}, recovered=3) == accounts(spans)
    spans.close(SOON)


def test_a_backlog_is_not_dropped_at_the_end() -> None:
    """What is in hand then is settled when the answer comes; only what waits in memory is lost."""
    collector, backlog = Collector(), Elsewhere(1, 2, 3)
    collector.may_answer.clear()
    spans = both(collector, backlog)
    spans.put(10)
    spans.hurry()
    assert collector.was_asked.wait(SOON)
    spans.close(0.0)
    assert Ledger(recorded=4, pending=3, dropped={"shutdown": 1}, recovered=3) == accounts(spans)
    collector.may_answer.set()
    thread = spans._thread
    assert thread is not None
    thread.join(SOON)
    assert Ledger(recorded=4, exported=2, pending=1, dropped={"shutdown": 1}, recovered=3) == accounts(spans)
    assert [[1, 2]] == collector.batches


# -- a dialer's own pipeline --------------------------------------------------------------------------------------


def test_passing_on_keeps_accounts_and_lets_faults_through() -> None:
    """The recorder counts the fault; here it is a record that was dropped. Nothing ever waits."""
    taken: list[int] = []

    def pass_on(record: int) -> None:
        if record == 2:
            raise OSError("broken")
        taken.append(record)

    passing = Passing("spans", pass_on)
    passing.put(1)
    with pytest.raises(OSError, match="broken"):
        passing.put(2)
    assert ([1], Ledger(recorded=2, exported=1, dropped={"internal_error": 1})) == (taken, accounts(passing))
    passing.start()
    passing.hurry()
    assert passing.flush(NEVER)
    passing.close(NEVER)
    passing.reset()
    assert Ledger() == accounts(passing)


# -- metrics ------------------------------------------------------------------------------------------------------


def test_metrics_go_at_the_interval_and_once_more_at_the_end() -> None:
    """The last export is waited for."""
    collector = Collector()
    metrics = MetricsDelivery(collector.connect_metrics, 0.01)
    metrics.start()
    metrics.start()
    assert collector.was_asked.wait(SOON)
    metrics.close(SOON)
    thread = metrics._thread
    assert thread is not None
    thread.join(SOON)
    exports = len(collector.batches)
    assert exports >= 2
    assert Ledger(recorded=exports, exported=exports) == accounts(metrics)


def test_each_export_of_metrics_is_accounted_for(caplog: pytest.LogCaptureFixture) -> None:
    """By what became of it; one that fails is no record lost, for the next one holds it all."""
    collector = Collector(YES, NOT_NOW, REFUSED, ValueError("secret"))
    metrics = MetricsDelivery(collector.connect_metrics, NEVER)
    metrics.start()
    for _ in range(4):
        assert metrics.flush(SOON)
    assert Ledger(recorded=4, exported=1, dropped={"not_now": 1, "never": 2}) == accounts(metrics)
    assert ["exporting metrics failed: ValueError"] == caplog.messages
    metrics.hurry()
    metrics.close(SOON)


def test_a_flush_of_metrics_exports_what_stands_now() -> None:
    """An export that was under way before holds older numbers, and doesn't count as done."""
    collector = Collector()
    collector.may_answer.clear()
    metrics = MetricsDelivery(collector.connect_metrics, NEVER)
    metrics.start()
    metrics.hurry()
    assert collector.was_asked.wait(SOON)
    assert not metrics.flush(0.01)
    collector.may_answer.set()
    assert metrics.flush(SOON)
    assert len(collector.batches) >= 2
    metrics.close(SOON)


def test_a_black_hole_does_not_hold_up_the_end_of_metrics() -> None:
    """Nor does a flush wait for a thread that is leaving, has gone, or was never there."""
    collector = Collector()
    collector.may_answer.clear()
    metrics = MetricsDelivery(collector.connect_metrics, NEVER)
    assert metrics.flush(NEVER)
    metrics.start()
    metrics.close(0.05)
    assert collector.was_asked.wait(SOON)
    flushing = Thread(target=metrics.flush, args=(NEVER,))
    flushing.start()
    while len(metrics._flushes) < 2:
        pass
    collector.may_answer.set()
    flushing.join(SOON)
    assert not flushing.is_alive()
    thread = metrics._thread
    assert thread is not None
    thread.join(SOON)
    assert metrics.flush(NEVER)
    assert Ledger(recorded=1, exported=1) == accounts(metrics)


def test_a_reset_of_metrics_begins_anew() -> None:
    """A child has a thread and a connection of its own; after the end there is none."""
    collector = Collector()
    metrics = MetricsDelivery(collector.connect_metrics, NEVER)
    metrics.start()
    assert metrics.flush(SOON)
    parents = metrics._thread
    metrics.close(SOON)
    metrics.reset()
    assert Ledger() == accounts(metrics)
    metrics.start()
    assert metrics.flush(SOON)
    assert parents is not metrics._thread
    assert 2 == collector.connections
    metrics.close(SOON)
    closed = MetricsDelivery(collector.connect_metrics, NEVER)
    closed.close(NEVER)
    closed.start()
    assert Ledger() == accounts(closed)
