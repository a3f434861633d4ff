"""What the pipelines promise: none where none is asked for, what was handed over first, and anew after a fork."""

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk._logs import LoggerProvider, LogRecordProcessor, ReadWriteLogRecord
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NoOpTracerProvider

from call_initiation.aggregate import Aggregate
from call_initiation.errors import SettingsError
from call_initiation.events import Ledger
from call_initiation.pipelines import Pipelines
from samples import ACCEPTED, REFUSED

COLLECTOR = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}


@pytest.fixture
def pipelines() -> Iterator[Pipelines]:
    """Yield pipelines of a process whose environment says nothing."""
    pipelines = Pipelines(Aggregate().snapshot, {}, "1.2.3")
    yield pipelines
    for delivery in pipelines.deliveries:
        delivery.hurry()
        delivery.close(1.0)


def test_where_nothing_is_asked_for_nothing_is_made(pipelines: Pipelines) -> None:
    """No sink costs the recorder time, and nothing is delivered."""
    pipelines.spans(None, None)
    pipelines.events(None, None, {})
    pipelines.metrics(None, None)
    assert ({}, []) == (pipelines.sinks, pipelines.deliveries)


def test_the_environment_makes_all_three() -> None:
    """Each is a stage with accounts; metrics are read from the aggregate, and need no sink."""
    pipelines = Pipelines(Aggregate().snapshot, COLLECTOR, "1.2.3")
    pipelines.spans(None, None)
    pipelines.events(None, None, {})
    pipelines.metrics(None, None)
    assert (["spans", "events"], ["spans", "events", "metrics"]) == (
        list(pipelines.sinks),
        [delivery.stage for delivery in pipelines.deliveries],
    )


class Renames(LogRecordProcessor):
    """A dialer's own processor, which changes what it is given."""

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        """Put another attribute in."""
        attributes: Any = log_record.log_record.attributes
        attributes["team"] = "outbound"

    def shutdown(self) -> None:
        """Do nothing."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:  # noqa: ARG002 - as the SDK calls it
        """Do nothing."""
        return True


def test_what_a_dialer_does_to_an_event_is_not_done_to_its_span(pipelines: Pipelines) -> None:
    """Though both say the same of a call."""
    spans, loggers = InMemorySpanExporter(), LoggerProvider(shutdown_on_exit=False)  # type: ignore[no-untyped-call]
    loggers.add_log_record_processor(Renames())
    pipelines.events(loggers, None, {})
    pipelines.spans(None, spans)
    for sink in pipelines.sinks.values():
        sink.record(REFUSED)
    assert pipelines.deliveries[1].flush(10.0)
    (span,) = spans.get_finished_spans()
    given = span.attributes or {}
    assert ("on_call", False) == (given["call_initiation.agent.state"], "team" in given)


def test_what_was_handed_over_wins(pipelines: Pipelines) -> None:
    """A provider is joined, though an exporter was handed over too."""
    spans, records = InMemorySpanExporter(), InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]
    pipelines.spans(TracerProvider(shutdown_on_exit=False), spans)
    pipelines.events(LoggerProvider(shutdown_on_exit=False), records, {})
    pipelines.metrics(MeterProvider(shutdown_on_exit=False), None)
    pipelines.start()
    for sink in pipelines.sinks.values():
        sink.record(REFUSED)
    assert ["spans", "events", "meters"] == list(pipelines.sinks)
    assert ((), ()) == (spans.get_finished_spans(), records.get_finished_logs())


def test_only_the_sdks_provider_of_spans_is_joined(pipelines: Pipelines) -> None:
    """Another one couldn't be given a span that has ended."""
    with pytest.raises(SettingsError, match=r"tracer_provider: found .*NoOpTracerProvider"):
        pipelines.spans(NoOpTracerProvider(), None)


def test_events_are_of_failures_and_carry_what_is_extra(pipelines: Pipelines) -> None:
    """By way of an exporter that was handed over."""
    kept = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]
    pipelines.events(None, kept, {"newrelic.event.type": "CallInitiationError"})
    pipelines.start()
    for attempt in (ACCEPTED, REFUSED):
        pipelines.sinks["events"].record(attempt)
    assert all(delivery.flush(20.0) for delivery in pipelines.deliveries)
    (read,) = kept.get_finished_logs()
    assert "CallInitiationError" == (read.log_record.attributes or {})["newrelic.event.type"]


def test_a_reset_begins_anew_as_another_process(pipelines: Pipelines) -> None:
    """What waits is the parent's; what comes next is delivered, under an instance id of its own."""
    kept = InMemorySpanExporter()
    pipelines.spans(None, kept)
    pipelines.sinks["spans"].record(REFUSED)
    (delivery,) = pipelines.deliveries
    assert Ledger(recorded=1, pending=1) == delivery.ledger()
    before = pipelines._resource
    pipelines.reset()
    pipelines.sinks["spans"].record(ACCEPTED)
    assert delivery.flush(20.0)
    assert Ledger(recorded=1, exported=1) == delivery.ledger()
    (span,) = kept.get_finished_spans()
    assert pipelines._resource is span.resource is not before
