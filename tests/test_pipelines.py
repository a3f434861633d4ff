"""What the pipelines promise: none where none is asked for, what was handed over first, and anew after a fork."""

import json
import threading
from collections.abc import Iterator, Mapping
from functools import partial
from io import StringIO
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from opentelemetry.sdk._logs import LoggerProvider, LogRecordProcessor, ReadWriteLogRecord
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter
from opentelemetry.sdk.resources import Resource, ResourceDetector
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NoOpTracerProvider
from opentelemetry.util import _importlib_metadata

from call_initiation.errors import SettingsError
from call_initiation.events import Ledger
from call_initiation.journal.backlog import SMALLEST, Files
from call_initiation.journal.entries import entry
from call_initiation.journal.segments import Record, Segment
from call_initiation.recording.aggregate import Aggregate
from call_initiation.telemetry import otlp
from call_initiation.telemetry.pipelines import Pipelines
from collector import Collector
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


def lengths(given: Mapping[str, Any] | None) -> tuple[int, int]:
    """Return how many attributes there are, and of how many characters the longest text is."""
    return len(given or {}), max(len(value) for value in (given or {}).values() if isinstance(value, str))


@pytest.mark.parametrize("is_journaled", [False, True])
def test_our_own_pipelines_keep_to_the_environments_limits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_journaled: bool
) -> None:
    """Whether a failure comes from memory or from a file."""
    monkeypatch.setenv("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "9")
    monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "12")
    monkeypatch.setenv("OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT", "14")
    files, spans, records = Files(SMALLEST), InMemorySpanExporter(), InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]
    pipelines = Pipelines(Aggregate().snapshot, {}, "1.2.3", files if is_journaled else None)
    pipelines.spans(None, spans)
    pipelines.events(None, records, {})
    if is_journaled:
        keep(files, tmp_path / "a.segment", b"")
    for sink in pipelines.sinks.values():
        sink.record(REFUSED)
    pipelines.start()
    assert all(delivery.flush(20.0) for delivery in pipelines.deliveries)
    (span,), (read,) = spans.get_finished_spans(), records.get_finished_logs()
    assert ((12, 9), (14, 9)) == (lengths(span.attributes), lengths(read.log_record.attributes))
    for delivery in pipelines.deliveries:
        delivery.close(1.0)


def test_of_two_who_ask_at_once_who_we_are_both_learn_the_same(pipelines: Pipelines) -> None:
    """Whoever comes second to the lock takes what the first has found: each search makes up another instance id."""
    assert pipelines._find() is pipelines._find()


def test_a_limit_of_length_holds_by_itself(pipelines: Pipelines, monkeypatch: pytest.MonkeyPatch) -> None:
    """However few attributes there are."""
    monkeypatch.setenv("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "9")
    spans = InMemorySpanExporter()
    pipelines.spans(None, spans)
    pipelines.sinks["spans"].record(REFUSED)
    assert pipelines.deliveries[0].flush(20.0)
    assert 9 == lengths(spans.get_finished_spans()[0].attributes)[1]
    pipelines.deliveries[0].close(1.0)


def test_a_dialers_own_pipelines_keep_to_their_limits_and_know_the_schema(pipelines: Pipelines) -> None:
    """To those of the provider, whatever the environment says; events by the SDK's own hand."""
    spans, records = InMemorySpanExporter(), InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]
    limits = SpanLimits(max_span_attributes=12, max_span_attribute_length=9)
    tracers, loggers = (
        TracerProvider(span_limits=limits, shutdown_on_exit=False),
        LoggerProvider(shutdown_on_exit=False),
    )
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    loggers.add_log_record_processor(SimpleLogRecordProcessor(records))
    pipelines.spans(tracers, None)
    pipelines.events(loggers, None, {})
    for sink in pipelines.sinks.values():
        sink.record(REFUSED)
    (span,), (read,) = spans.get_finished_spans(), records.get_finished_logs()
    assert (12, 9) == lengths(span.attributes)
    assert otlp.scope("1.2.3") == span.instrumentation_scope == read.instrumentation_scope


@pytest.mark.parametrize("key", ["OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT"])
def test_a_limit_that_cannot_be_used_is_named(pipelines: Pipelines, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    """In the words of the other settings."""
    monkeypatch.setenv(key, "many")

    def make() -> None:
        pipelines.spans(None, InMemorySpanExporter())
        pipelines.events(None, InMemoryLogRecordExporter(), {})  # type: ignore[no-untyped-call]

    with pytest.raises(SettingsError, match=f"{key}: found 'many', expected a whole number from 0 on"):
        make()


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


@pytest.mark.parametrize(("chosen", "expected"), [("trace_based", True), ("always_off", False)])
def test_metrics_name_calls_unless_the_environment_says_otherwise(chosen: str, *, expected: bool) -> None:
    """As they arrive at a collector."""
    aggregate = Aggregate()
    aggregate.record(REFUSED)
    with Collector() as sink:
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "OTEL_METRICS_EXEMPLAR_FILTER": chosen}
        pipelines = Pipelines(aggregate.snapshot, environment, "1.2.3")
        pipelines.metrics(None, None)
        pipelines.start()
        (delivery,) = pipelines.deliveries
        assert delivery.flush(20.0)
        delivery.close(20.0)
        [duration, *_] = [metric for metric in sink.metrics() if metric.name == "call_initiation.duration"]
    assert expected == any(point.exemplars for point in duration.histogram.data_points)


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


def test_an_exporter_that_was_handed_over_is_shut_down_with_us(
    pipelines: Pipelines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever it is: it may hold back what it took until then."""
    spans, records, numbers = InMemorySpanExporter(), InMemoryLogRecordExporter(), ConsoleMetricExporter(StringIO())  # type: ignore[no-untyped-call]
    ended: list[object] = []
    for one in (spans, records, numbers):
        monkeypatch.setattr(one, "shutdown", partial(ended.append, one))
    pipelines.spans(None, spans)
    pipelines.events(None, records, {})
    pipelines.metrics(None, numbers)
    pipelines.start()
    for delivery in pipelines.deliveries:
        delivery.close(20.0)
    assert [spans, records, numbers] == ended


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
    before = pipelines.identity()
    pipelines.reset()
    pipelines.sinks["spans"].record(ACCEPTED)
    assert delivery.flush(20.0)
    assert Ledger(recorded=1, exported=1) == delivery.ledger()
    (span,) = kept.get_finished_spans()
    assert pipelines.identity() is span.resource is not before


class Unhurried(ResourceDetector):
    """A detector that asks somebody who takes his time."""

    may_answer = Event()

    def detect(self) -> Resource:
        """Wait."""
        assert self.may_answer.wait(20.0)
        return Resource({"cloud.region": "eu-west-1"})


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Event]:
    """Have a detector installed and chosen that waits until the test says so; yield what it waits for."""
    about = tmp_path / "unhurried-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Name: unhurried\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[opentelemetry_resource_detector]\nunhurried = {__name__}:Unhurried\n")
    monkeypatch.syspath_prepend(tmp_path)
    cached: Any = _importlib_metadata._original_entry_points_cached  # which may have been filled before
    monkeypatch.setattr(_importlib_metadata, "_original_entry_points_cached", cached.__wrapped__)
    monkeypatch.setenv("OTEL_EXPERIMENTAL_RESOURCE_DETECTORS", "unhurried")
    monkeypatch.setattr(Unhurried, "may_answer", Event())
    yield Unhurried.may_answer
    Unhurried.may_answer.set()


def test_nobody_waits_for_a_detector(unhurried: Event) -> None:
    """Not the dialer's start, not a fork; a detector is asked once, and what it finds is on the first span."""
    pipelines, kept = Pipelines(Aggregate().snapshot, {}, "1.2.3"), InMemorySpanExporter()
    pipelines.spans(None, kept)
    pipelines.start()
    pipelines.reset()
    unhurried.set()
    pipelines.sinks["spans"].record(REFUSED)
    (delivery,) = pipelines.deliveries
    assert delivery.flush(20.0)
    assert ["eu-west-1"] == [span.resource.attributes["cloud.region"] for span in kept.get_finished_spans()]
    assert pipelines.identity() is pipelines.identity()
    delivery.close(1.0)


def test_who_we_are_without_a_thread_for_detectors(
    pipelines: Pipelines, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is what the environment says, until there is one."""
    monkeypatch.setenv("OTEL_SERVICE_NAME", "dialer")
    before = threading.stack_size(1 << 46)
    try:
        undetected, again = pipelines.identity(), pipelines.identity()
    finally:
        threading.stack_size(before)
    assert undetected == again
    ours = [record.message for record in caplog.records if record.thread == threading.get_ident()]
    assert ["detecting the resource failed: RuntimeError"] == ours  # other threads have none to detect by, either
    assert (
        {"service.name": "dialer"}.items() <= undetected.attributes.items() <= pipelines.identity().attributes.items()
    )
    assert undetected.attributes.keys() < pipelines.identity().attributes.keys()


def test_a_delivery_that_could_have_no_thread_gets_one_later(pipelines: Pipelines) -> None:
    """Each start tries again."""
    pipelines.metrics(None, ConsoleMetricExporter(StringIO()))
    (delivery,) = pipelines.deliveries
    before = threading.stack_size(1 << 46)
    try:
        pipelines.start()
    finally:
        threading.stack_size(before)
    assert delivery.flush(0.0)
    assert Ledger() == delivery.ledger()
    pipelines.start()
    assert delivery.flush(20.0)
    assert Ledger(recorded=1, exported=1) == delivery.ledger()


def keep(files: Files, path: Path, resource: bytes) -> None:
    """Let a failure of somebody's wait in a file."""
    files.append([Record(3, 1, entry(REFUSED))], lambda: Segment.made(path, resource), lambda: None)


def test_what_waits_in_files_is_delivered_as_it_was_recorded(tmp_path: Path) -> None:
    """With the resource of who recorded it, and with what is extra."""
    files, spans, records = Files(SMALLEST), InMemorySpanExporter(), InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]
    pipelines = Pipelines(Aggregate().snapshot, {}, "1.2.3", files)
    pipelines.spans(None, spans)
    pipelines.events(None, records, {"newrelic.event.type": "CallInitiationError"})
    assert ({}, ["spans", "events"]) == (pipelines.sinks, list(pipelines.journaled))
    keep(files, tmp_path / "a.segment", json.dumps({"service.name": "yesterday"}).encode())
    pipelines.start()
    assert all(delivery.flush(20.0) for delivery in pipelines.deliveries)
    (span,), (read,) = spans.get_finished_spans(), records.get_finished_logs()
    assert REFUSED.span is not None
    assert (REFUSED.span.span_id, REFUSED.started_at) == (span.context and span.context.span_id, span.start_time)
    assert ({"service.name": "yesterday"}, {"service.name": "yesterday"}) == (
        dict(span.resource.attributes),
        dict(read.resource.attributes),
    )
    assert "CallInitiationError" == (read.log_record.attributes or {})["newrelic.event.type"]
    for delivery in pipelines.deliveries:
        delivery.close(1.0)


@pytest.mark.parametrize("resource", [b"", b"[]", b"{"])
def test_a_resource_that_cannot_be_read_is_our_own(resource: bytes, tmp_path: Path) -> None:
    """The failure is delivered all the same."""
    files, spans = Files(SMALLEST), InMemorySpanExporter()
    pipelines = Pipelines(Aggregate().snapshot, {}, "1.2.3", files)
    pipelines.spans(None, spans)
    keep(files, tmp_path / "a.segment", resource)
    pipelines.start()
    (delivery,) = pipelines.deliveries
    assert delivery.flush(20.0)
    assert [pipelines.identity()] == [span.resource for span in spans.get_finished_spans()]
    delivery.close(1.0)


def test_what_cannot_wait_in_files_goes_through_memory(tmp_path: Path) -> None:
    """By the sinks beside them."""
    spans, records = InMemorySpanExporter(), InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]
    pipelines = Pipelines(Aggregate().snapshot, {}, "1.2.3", Files(SMALLEST))
    pipelines.spans(None, spans)
    pipelines.events(None, records, {})
    for sink in pipelines.journaled.values():
        sink.record(REFUSED)
    pipelines.start()
    assert all(delivery.flush(20.0) for delivery in pipelines.deliveries)
    assert (1, 1) == (len(spans.get_finished_spans()), len(records.get_finished_logs()))
    for delivery in pipelines.deliveries:
        delivery.close(1.0)
    assert [] == list(tmp_path.iterdir())


def test_who_we_are_is_said_in_ascii(pipelines: Pipelines, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it isn't too long."""
    said = json.loads(pipelines.resource())
    assert pipelines.identity().attributes["service.instance.id"] == said["service.instance.id"]
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "owner=é," + "x=" + "y" * 5_000)
    pipelines.reset()
    assert b"" == pipelines.resource()
