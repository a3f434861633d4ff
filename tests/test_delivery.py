"""What `delivery` promises: bounded, counted, tried again with the same records, and never in anyone's way."""

import logging
import threading
from threading import Event as Flag
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.instrumentation.utils import is_instrumentation_enabled

from call_initiation.events import Ledger
from call_initiation.telemetry.delivery import Delivered, Delivery, MetricsDelivery, Passing, Verdict
from deliveries import NEVER, NOT_NOW, REFUSED, SOON, YES, Collector, Holding, Noting, accounts, delivery

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


@pytest.mark.parametrize("wait", [0.0, 3600.0])
def test_a_full_batch_does_not_wake_who_waits_after_a_failure(wait: float) -> None:
    """However many records come meanwhile; once one has been taken, a full batch goes at once again."""
    collector = Collector(Verdict(NOT_NOW, wait=wait))
    spans = delivery(collector, batch=2)
    spans.put(1)
    spans.hurry()
    assert spans._idle.wait(SOON)
    collector.was_asked.clear()
    for record in range(2, 90):
        spans.put(record)
    assert (False, False) == (spans._wake.is_set(), collector.was_asked.is_set())
    assert spans.flush(SOON)
    collector.was_asked.clear()
    spans.put(90)
    spans.put(91)
    assert collector.was_asked.wait(SOON)
    assert [[1], [1, 2], [3, 4]] == collector.batches[:3]
    spans.close(SOON)


def test_the_interval_does_not_shorten_what_a_collector_asks_for() -> None:
    """It is left alone, until somebody flushes: once, and no longer than one try takes."""
    collector = Collector(*[Verdict(NOT_NOW, wait=3600.0)] * 3)
    spans = delivery(collector, interval=0.001)
    spans._wake = wake = Noting()
    spans.put(1)
    assert spans._idle.wait(SOON)
    for tries in (2, 3):
        assert not spans.flush(NEVER)
        assert [[1]] * tries == collector.batches
    assert [0.001, 3600.0, 3600.0] == wake.waits[:3]
    assert spans.flush(SOON)
    assert Ledger(recorded=1, exported=1) == accounts(spans)
    spans.close(SOON)


def test_a_flush_heeds_a_wait_that_it_has_time_for() -> None:
    """And tries again after it."""
    collector = Collector(*[Verdict(NOT_NOW, wait=0.01)] * 2)
    spans = delivery(collector)
    spans.put(1)
    assert spans.flush(SOON)
    assert [[1]] * 3 == collector.batches
    spans.close(SOON)


def test_a_flush_takes_a_breath_between_its_tries() -> None:
    """A collector that is down, and asks for nothing, isn't asked as fast as a processor can."""
    spans = delivery(Collector(NOT_NOW, NOT_NOW))
    spans._idle = idle = Noting()
    spans.put(1)
    assert spans.flush(SOON)
    assert [0.1, 0.1] == idle.waits[1:4:2]
    spans.close(SOON)


def test_who_we_are_is_found_out_before_the_first_record() -> None:
    """It may take seconds, for which the recorder would wait."""
    found = [Flag(), Flag()]
    spans: Delivery[int] = Delivery(
        "spans", Collector().connect, capacity=1, batch=1, interval=NEVER, prepare=found[0].set
    )
    metrics = MetricsDelivery(Collector().connect_metrics, NEVER, found[1].set)
    for stage in (spans, metrics):
        stage.start()
    assert all(one.wait(SOON) for one in found)
    for stage in (spans, metrics):
        stage.close(SOON)


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


def test_an_exporter_that_cannot_be_made_refuses_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """All waits until it can be made."""
    collector = Collector()
    collector.refused_connections = 1
    spans = delivery(collector)
    spans.put(1)
    assert not spans.flush(SOON)
    assert spans.flush(SOON)
    assert (2, [[1]], ["exporting spans failed: ImportError"]) == (
        collector.connections,
        collector.batches,
        caplog.messages,
    )
    assert Ledger(recorded=1, exported=1) == accounts(spans)
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
    assert not spans.flush(NEVER)
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

    def export() -> Verdict:
        seen.append(is_instrumentation_enabled())
        return Verdict(YES)

    spans: Delivery[int] = Delivery("spans", lambda: lambda _: export(), capacity=1, batch=1, interval=NEVER)
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
    spans = delivery(collector, capacity=capacity, batch=batch, interval=0.001)
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


# -- an exporter that was handed over -----------------------------------------------------------------------------


def test_who_was_handed_over_is_flushed_once_it_has_taken_all() -> None:
    """Not after a try that failed: it would hold back what it takes later. After the end nothing is held back."""
    holding, collector = Holding(), Collector(NOT_NOW, NOT_NOW)
    seen: list[int] = []
    holding.force_flush = lambda: seen.append(len(collector.batches))  # type: ignore[method-assign]
    spans = delivery(collector, handed_over=holding)
    spans.put(1)
    assert spans.flush(SOON)
    assert [3] == seen
    spans.close(SOON)
    assert spans.flush(0.0)


@pytest.mark.parametrize("fault", [None, ValueError("+33 1 99 00 00 00")])
def test_who_was_handed_over_is_flushed_and_shut_down_with_us(
    fault: Exception | None, caplog: pytest.LogCaptureFixture
) -> None:
    """It may hold back what it took; what it raises goes no further, and to be closed twice is its end once."""
    holding = Holding(fault)
    spans = delivery(Collector(NOT_NOW), handed_over=holding)
    spans.start()
    assert spans.flush(SOON)
    spans.put(1)
    assert spans.flush(SOON)
    assert ["force_flush"] * 2 == holding.told
    for _ in range(2):
        spans.close(SOON)
    assert ["force_flush", "force_flush", "force_flush", "shutdown"] == holding.told
    assert Ledger(recorded=1, exported=1) == accounts(spans)
    assert (["exporting spans failed: ValueError"] * 4 if fault else []) == caplog.messages


def test_who_was_handed_over_is_left_alone_before_the_first_record() -> None:
    """There is no thread to tell it on, and nothing to tell."""
    holding = Holding()
    spans = delivery(Collector(), handed_over=holding)
    spans.close(NEVER)
    assert [] == holding.told


def test_a_flush_is_not_done_before_what_was_taken_is_let_go_of() -> None:
    """An exporter that takes for ever holds up neither flush nor close for longer than they may take."""
    holding, may_go = Holding(), Flag()
    holding.force_flush = lambda: may_go.wait(SOON) and None  # type: ignore[method-assign]
    spans = delivery(Collector(), handed_over=holding)
    spans.put(1)
    assert not spans.flush(0.05)
    spans.close(0.05)
    assert [] == holding.told
    thread = spans._thread
    assert thread is not None
    may_go.set()
    thread.join(SOON)
    assert ["shutdown"] == holding.told


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
