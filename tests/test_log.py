"""What `log` promises: whatever becomes of our words, nobody of ours ends with them."""

import logging

import pytest

from call_initiation import log
from call_initiation.events import Ledger
from call_initiation.log import Log
from call_initiation.telemetry.delivery import MetricsDelivery
from deliveries import NEVER, SOON, Collector, Holding, accounts, delivery


@pytest.mark.usefixtures("_broken_log")
def test_what_cannot_be_said_is_counted_once_and_raises_nothing() -> None:
    """However long it goes on: no more than a thousand."""
    for _ in range(3):
        Log().warning("a %s", "word")
    assert (3, 0) == (log.lost(), log.lost())
    for _ in range(2_000):
        Log().warning("a word")
    assert 1_000 == log.lost()


def test_what_is_said_is_shown_as_said_where_it_is(caplog: pytest.LogCaptureFixture) -> None:
    """A dialer's format may name the file and the line."""
    with caplog.at_level(logging.INFO, "call_initiation"):
        Log().info("a %s", "word")
        Log().debug("not shown")
    (record,) = caplog.records
    assert ("a word", "test_log.py", "call_initiation") == (record.getMessage(), record.filename, record.name)
    assert 0 == log.lost()


@pytest.mark.usefixtures("_broken_log")
def test_a_failure_that_cannot_be_told_of_ends_nothing() -> None:
    """A filter of the dialer's that fails, at an exporter that does: it is counted, and the next records go."""
    spans, collector = delivery(Collector(ValueError("down")), handed_over=Holding(ValueError("down"))), Collector()
    metrics = MetricsDelivery(collector.connect_metrics, NEVER)
    collector.answers.append(ValueError("down"))
    metrics.start()
    for record in (1, 2):
        spans.put(record)
        assert spans.flush(SOON)
        assert metrics.flush(SOON)
    assert Ledger(recorded=2, exported=1, dropped={"refused": 1}) == accounts(spans)
    assert Ledger(recorded=2, exported=1, dropped={"never": 1}) == accounts(metrics)
    spans.close(SOON)
    metrics.close(SOON)
