"""What `exporter` promises of a journal: nothing unless asked for, and then that failures outlive it."""

from pathlib import Path
from threading import Event as Flag
from typing import Any

from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from call_initiation import Exporter, Ledger
from call_initiation.calls.endpoints import CALLS
from exporting import PAYLOAD, SOON, dialer, lawful, samples


def test_a_journal_is_not_there_unless_asked_for() -> None:
    """No stage, no file, no place on the caller's path."""
    with Exporter() as exporter, dialer(exporter) as client:
        client.post(CALLS, json=PAYLOAD)
        assert "in_flight" not in lawful(exporter)
        assert exporter._recording is exporter._recorder


def test_failures_wait_in_a_journal_and_are_delivered_from_there(tmp_path: Path) -> None:
    """Accepted calls go their usual way; when all is delivered, nothing is left."""
    spans, records = InMemorySpanExporter(), InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]
    folder = tmp_path / "journal"
    with Exporter(settle=0.0, journal=folder, span_exporter=spans, log_record_exporter=records) as exporter:
        for status in (202, None, None):
            with dialer(exporter, status) as client:
                client.post(CALLS, json=PAYLOAD)
        assert exporter.flush(SOON)
        books = lawful(exporter)
        assert [".segment", ".table"] == sorted(path.suffix for path in folder.iterdir())
    assert (3, 2) == (len(spans.get_finished_spans()), len(records.get_finished_logs()))
    assert (Ledger(recorded=3, exported=3), Ledger(recorded=2, exported=2)) == (books["spans"], books["events"])
    assert (Ledger(), []) == (books["in_flight"], list(folder.iterdir()))


def test_what_a_process_left_is_on_the_metrics_of_the_next(tmp_path: Path) -> None:
    """And in its books; here both are exporters of one process, one after the other."""
    with Exporter(settle=0.0, journal=tmp_path / "journal", log_record_exporter=Deaf()) as first:
        with dialer(first) as client:
            client.post(CALLS, json=PAYLOAD)
        assert not first.flush(0.2)
        first.close(0.0)
    assert Ledger(recorded=1, pending=1) == lawful(first)["events"]
    kept = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]
    with Exporter(settle=0.0, journal=tmp_path / "journal", log_record_exporter=kept) as second:
        assert second.flush(SOON)
        assert Ledger(recorded=1, exported=1, recovered=1) == lawful(second)["events"]
        assert {("events",): 1} == samples(second, "call_initiation_recorder_recovered")
    assert 1 == len(kept.get_finished_logs())


class Deaf(LogRecordExporter):
    """Takes nothing, after a while."""

    def __init__(self) -> None:
        self._over = Flag()

    def export(self, batch: Any) -> LogRecordExportResult:  # noqa: ARG002 - the names are the base class's
        """Take nothing."""
        self._over.wait(0.6)
        return LogRecordExportResult.FAILURE

    def shutdown(self) -> None:
        """Do nothing."""

    def force_flush(self, timeout_millis: int = 0) -> bool:  # noqa: ARG002 - as above
        """Do nothing."""
        return True


def test_a_child_has_a_journal_of_its_own(tmp_path: Path) -> None:
    """From the beginning, for no call is to wait for that."""
    exporter = Exporter(settle=0.0, journal=tmp_path)
    (parents,) = tmp_path.iterdir()
    exporter._after_fork()
    assert {".table"} == {path.suffix for path in {*tmp_path.iterdir()} - {parents}}
    with dialer(exporter) as client:
        client.post(CALLS, json=PAYLOAD)
    exporter.close()
    assert Ledger(recorded=1, exported=1) == lawful(exporter)["attempts"]
