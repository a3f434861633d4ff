"""What `delivery` promises of metrics: each export is accounted for, the last one is waited for, and no longer."""

from threading import Event as Flag
from threading import Thread

import pytest

from call_initiation.events import Ledger
from call_initiation.telemetry.delivery import MetricsDelivery, Verdict
from deliveries import NEVER, NOT_NOW, REFUSED, SOON, YES, Collector, Holding, Noting, accounts


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
    """By what became of it, also of a part of it; one that fails is no record lost, for the next one holds it all."""
    collector = Collector(YES, NOT_NOW, REFUSED, ValueError("secret"), Verdict(YES, refused=1))
    metrics = MetricsDelivery(collector.connect_metrics, NEVER)
    metrics.start()
    for _ in range(5):
        assert metrics.flush(SOON)
    assert Ledger(recorded=5, exported=1, dropped={"not_now": 1, "never": 2, "refused": 1}) == accounts(metrics)
    assert ["exporting metrics failed: ValueError"] == caplog.messages
    metrics.hurry()
    metrics.close(SOON)


def test_an_exporter_of_metrics_that_cannot_be_made_is_made_next_time() -> None:
    """It has refused nothing."""
    collector = Collector()
    collector.refused_connections = 1
    metrics = MetricsDelivery(collector.connect_metrics, NEVER)
    metrics.start()
    for _ in range(2):
        assert metrics.flush(SOON)
    assert Ledger(recorded=2, exported=1, dropped={"not_now": 1}) == accounts(metrics)
    metrics.close(SOON)


def test_the_interval_of_metrics_does_not_shorten_what_a_collector_asks_for() -> None:
    """It is left alone, until somebody flushes."""
    collector = Collector(*[Verdict(NOT_NOW, wait=3600.0)] * 9)
    metrics = MetricsDelivery(collector.connect_metrics, 0.001)
    metrics._wake = wake = Noting()
    metrics.start()
    assert collector.was_asked.wait(SOON)
    for _ in range(8):
        assert metrics.flush(SOON)
    assert Ledger(recorded=9, dropped={"not_now": 9}) == accounts(metrics)
    assert [0.001, *[3600.0] * 8] == wake.waits[:9]
    metrics.close(SOON)


def test_a_flush_of_metrics_exports_what_stands_now() -> None:
    """An export that was under way before holds older numbers, and doesn't count as done."""
    waiting: list[int] = []
    may_go, is_under_way = Flag(), Flag()

    def export() -> Verdict:
        waiting.append(len(metrics._flushes))
        is_under_way.set()
        assert may_go.wait(SOON)
        return Verdict(YES)

    metrics = MetricsDelivery(lambda: export, NEVER)
    metrics.start()
    metrics.hurry()
    assert is_under_way.wait(SOON)
    assert not metrics.flush(0.0)
    may_go.set()
    assert metrics.flush(SOON)
    assert 0 == waiting[0] < waiting[1]
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


@pytest.mark.parametrize("fault", [None, ValueError("secret")])
def test_who_was_handed_over_for_metrics_is_flushed_and_shut_down_with_us(fault: Exception | None) -> None:
    """It may hold back what it took, and is shut down after the last export; what it raises goes no further."""
    holding, collector = Holding(fault), Collector()
    metrics = MetricsDelivery(collector.connect_metrics, NEVER, handed_over=holding)
    metrics.start()
    assert metrics.flush(SOON)
    metrics.close(SOON)
    assert metrics._thread is not None
    metrics._thread.join(SOON)
    assert ["force_flush", "force_flush", "shutdown"] == holding.told
    assert Ledger(recorded=2, exported=2) == accounts(metrics)


def test_who_was_handed_over_for_metrics_is_flushed_for_a_flush_and_gone_before_the_end() -> None:
    """An export at the interval asks for none; and who closes may end the process after it."""
    holding, collector, waiting = Holding(), Collector(), list[int]()
    holding.shutdown = lambda: waiting.append(len(metrics._flushes))  # type: ignore[method-assign]
    metrics = MetricsDelivery(collector.connect_metrics, 0.001, handed_over=holding)
    metrics.start()
    while accounts(metrics).exported < 3:
        pass
    assert [] == holding.told
    metrics.close(SOON)
    assert (["force_flush"], [1]) == (holding.told, waiting)


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
    assert (None, Ledger()) == (closed._thread, accounts(closed))
