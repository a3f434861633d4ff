"""What `exporter` promises: one object, nothing global, no exception to the caller, and books that balance."""

import atexit
import gc
import logging
import re
import threading
import weakref
from contextlib import closing
from io import StringIO
from typing import Any

import httpx
import pytest
from opentelemetry import metrics, trace
from opentelemetry._logs import get_logger_provider
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import (
    InMemoryLogRecordExporter,
    SimpleLogRecordProcessor,
)
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    ConsoleMetricExporter,
    ExponentialHistogram,
    InMemoryMetricReader,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    Sum,
)
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from prometheus_client import CollectorRegistry, generate_latest

import call_initiation
from call_initiation import Exporter, InstrumentError, Ledger, SettingsError
from call_initiation.calls.endpoints import CALLS, CALLS_OF_USER
from call_initiation.catalogue import INTERNAL_ERRORS
from call_initiation.feed.access import Access
from call_initiation.feed.feed import FeedThread, Port
from call_initiation.feed.follow import Following
from exporting import AGENT, PAYLOAD, REFUSAL, SOON, dialer, lawful, samples


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin with none of OpenTelemetry's variables."""
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_SDK_DISABLED", "OTEL_TRACES_SAMPLER"):
        monkeypatch.delenv(name, raising=False)


# -- settings -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"settle": -1}, "settle: found -1, expected seconds from 0 to 60"),
        ({"settle": 61}, "settle: found 61, expected seconds from 0 to 60"),
        ({"settle": float("nan")}, "settle: found nan, expected seconds from 0 to 60"),
        ({"capacity": 0}, "capacity: found 0, expected a whole number above 0"),
        ({"journal_size": 1_048_575}, "journal_size: found 1048575, expected bytes from 1 MiB (1048576) on"),
        (
            {"tracer_provider": trace.NoOpTracerProvider()},
            f"tracer_provider: found {trace.NoOpTracerProvider}, expected a TracerProvider of opentelemetry-sdk",
        ),
    ],
)
def test_what_cannot_be_used_is_named(arguments: dict[str, Any], sentence: str) -> None:
    """Which argument, what was found, what was expected."""
    with pytest.raises(SettingsError) as caught:
        Exporter(**arguments)
    assert sentence == str(caught.value)


def test_what_is_no_client_is_named() -> None:
    """The programmer hears of it at once."""
    with Exporter() as exporter, pytest.raises(InstrumentError):
        exporter.instrument(object())


# -- what it leaves alone -----------------------------------------------------------------------------------------


def test_nothing_global_is_touched() -> None:
    """No provider is set, nothing appears in the default registry, nothing listens, and no sink sends anything."""
    before = trace.get_tracer_provider(), metrics.get_meter_provider(), get_logger_provider()
    with Exporter() as exporter, dialer(exporter) as client:
        client.post(CALLS, json=PAYLOAD)
        assert exporter.metrics_url is None
        assert {"attempts", "updates"} == exporter.ledgers().keys()
    assert before == (trace.get_tracer_provider(), metrics.get_meter_provider(), get_logger_provider())
    assert b"call_initiation" not in generate_latest()


def test_an_exporter_that_is_forgotten_goes() -> None:
    """Neither the end of the process nor a fork keeps it alive."""
    exporter = Exporter()
    gone, at_exit = weakref.ref(exporter), exporter._at_exit
    exporter.close()
    del exporter
    gc.collect()
    assert gone() is None
    at_exit()


def test_two_exporters_keep_apart() -> None:
    """Each has its own registry and its own books."""
    with Exporter() as one, Exporter() as other, dialer(one) as client:
        client.post(CALLS, json=PAYLOAD)
        assert one.flush(SOON)
        assert (1, 0) == (lawful(one)["attempts"].recorded, lawful(other)["attempts"].recorded)
        assert (1, 0) == tuple(len(samples(each, "call_initiation_attempts_total")) for each in (one, other))


def test_requests_that_start_no_call_are_not_observed() -> None:
    """They cost a comparison."""
    with Exporter() as exporter, dialer(exporter, 200) as client:
        client.get(CALLS)
        client.post("/api/v2/users/me")
        assert exporter.observe(httpx.Request("GET", "https://h" + CALLS), Any) is None
        assert exporter.flush(SOON)
        assert Ledger() == lawful(exporter)["attempts"]


def test_a_request_that_cannot_be_looked_at_is_not_observed() -> None:
    """The fault is ours, and counted."""
    with Exporter() as exporter:
        assert exporter.observe(object(), Any) is None
        assert exporter.flush(SOON)
        assert {("observe",): 1} == samples(exporter, "call_initiation_internal_errors_total")


# -- what it tells ------------------------------------------------------------------------------------------------


def test_a_call_is_counted_with_its_agents_state() -> None:
    """What the dialer was told before the send counts, also where it is said in another spelling."""
    with Exporter(settle=60.0) as exporter, dialer(exporter) as client:
        exporter.agent_state(AGENT, presence="On Queue", since=exporter.now() - 5)
        exporter.agent_state(AGENT, routing_status="not responding", on_call=0, wrap_up=0, station="s1")
        client.post(CALLS_OF_USER.replace("{userId}", AGENT), json=PAYLOAD)
        assert exporter.flush(SOON)
        labels = ("not_responding", CALLS_OF_USER, REFUSAL["code"], "rejected", "400")
        assert {labels: 1} == samples(exporter, "call_initiation_attempts_total")
        assert {("not_responding",): 1} == samples(exporter, "call_initiation_agents")
        assert Ledger(recorded=2, exported=2) == lawful(exporter)["updates"]


def test_the_gauge_of_agents_forgets_no_state() -> None:
    """A state that no agent is in any more is zero, not what it was."""
    with Exporter() as exporter:
        exporter.agent_state(AGENT, presence="BUSY", out_of_office=False)
        assert exporter.flush(SOON)
        exporter.agent_state(AGENT, presence="AWAY")
        assert exporter.flush(SOON)
        assert {("busy",): 0, ("away",): 1} == samples(exporter, "call_initiation_agents")


def test_a_change_that_comes_too_late_is_counted() -> None:
    """It would have changed a record that is written."""
    with Exporter() as exporter, dialer(exporter) as client:
        exporter.agent_state(AGENT, presence="BUSY", since=exporter.now() - 60)
        client.post(CALLS_OF_USER.replace("{userId}", AGENT), json=PAYLOAD)
        assert exporter.flush(SOON)
        exporter.agent_state(AGENT, presence="AWAY", since=exporter.now() - 30)
        assert exporter.flush(SOON)
        assert {(): 1} == samples(exporter, "call_initiation_state_joins_late_total")


def test_the_books_are_on_metrics() -> None:
    """The same numbers as in `ledgers`; the law can be checked by a query."""
    with Exporter() as exporter, dialer(exporter) as client:
        for _ in range(3):
            client.post(CALLS, json=PAYLOAD)
        assert exporter.flush(SOON)
        recorded, exported, pending = (
            samples(exporter, f"call_initiation_recorder_{name}")
            for name in ("recorded_total", "exported_total", "pending")
        )
        assert {("attempts",): 3, ("updates",): 0} == recorded == exported
        assert {("attempts",): 0, ("updates",): 0} == pending
        assert {(call_initiation.__version__,): 1} == samples(exporter, "call_initiation_build_info")


def test_a_full_queue_is_on_metrics() -> None:
    """By stage and reason."""
    with Exporter(capacity=1, settle=60.0) as exporter, dialer(exporter) as client:
        for _ in range(5):
            client.post(CALLS, json=PAYLOAD)
        dropped = lawful(exporter)["attempts"].dropped["queue_full"]
        assert dropped >= 1
        assert {("queue_full", "attempts"): dropped} == samples(exporter, "call_initiation_recorder_dropped_total")


# -- a dialer's own pipeline --------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_sampled", [True, False])
def test_a_dialers_own_pipeline_is_joined(*, is_sampled: bool) -> None:
    """Its processors get the span, its reader the numbers, its logger the event; failures whatever the sampler says."""
    spans, records, reader = InMemorySpanExporter(), InMemoryLogRecordExporter(), InMemoryMetricReader()
    tracers = TracerProvider(**({} if is_sampled else {"sampler": ALWAYS_OFF}), shutdown_on_exit=False)
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    loggers = LoggerProvider(shutdown_on_exit=False)
    loggers.add_log_record_processor(SimpleLogRecordProcessor(records))
    meters = MeterProvider([reader], shutdown_on_exit=False)
    extra = {"newrelic.event.type": "CallInitiationError"}
    with Exporter(
        tracer_provider=tracers, meter_provider=meters, logger_provider=loggers, event_attributes=extra
    ) as exporter:
        with dialer(exporter) as client:
            client.post(CALLS, json=PAYLOAD)
        with dialer(exporter, 202) as client:
            client.post(CALLS, json=PAYLOAD)
        assert exporter.flush(SOON)
        names = [(span.attributes or {})["call_initiation.outcome"] for span in spans.get_finished_spans()]
        assert (["rejected", "accepted"] if is_sampled else ["rejected"]) == names
        [event] = records.get_finished_logs()
        assert ("call_initiation.failure", extra.items()) == (
            event.log_record.event_name,
            extra.items() & (event.log_record.attributes or {}).items(),
        )
        data = reader.get_metrics_data()
        assert data is not None
        assert "call_initiation.duration" in {m.name for m in data.resource_metrics[0].scope_metrics[0].metrics}
        books = lawful(exporter)
        assert (len(names), 1) == (books["spans"].exported, books["events"].exported)
    tracers.shutdown()
    loggers.shutdown()
    meters.shutdown()


def test_a_disabled_sdk_is_joined_without_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its provider hands out tracers that do nothing: so do we."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    with Exporter(tracer_provider=TracerProvider(shutdown_on_exit=False)) as exporter, dialer(exporter) as client:
        client.post(CALLS, json=PAYLOAD)
        assert exporter.flush(SOON)
        assert "spans" not in lawful(exporter)


def test_exporters_of_the_sdk_may_stand_in_for_otlp() -> None:
    """Our own pipeline carries to them: spans, events and metrics."""
    spans, records = InMemorySpanExporter(), InMemoryLogRecordExporter()
    with Exporter(span_exporter=spans, log_record_exporter=records) as exporter, dialer(exporter) as client:
        client.post(CALLS, json=PAYLOAD)
        assert exporter.flush(SOON)
        [span], [record] = spans.get_finished_spans(), records.get_finished_logs()
        assert span.context is not None
        assert span.context.span_id == record.log_record.span_id
        assert (f"POST {CALLS}", "rejected") == (span.name, (span.attributes or {})["call_initiation.outcome"])
        assert Ledger(recorded=1, exported=1) == lawful(exporter)["spans"] == lawful(exporter)["events"]


class Metrics(MetricExporter):
    """Keeps the metrics that it is given, and refuses the first."""

    def __init__(self, **preferred: Any) -> None:
        super().__init__(**preferred)
        self.given: list[MetricsData] = []

    def export(self, metrics_data: MetricsData, timeout_millis: float = 0, **_: Any) -> MetricExportResult:  # noqa: ARG002 - the interface
        """Keep them."""
        self.given.append(metrics_data)
        return MetricExportResult.SUCCESS if len(self.given) > 1 else MetricExportResult.FAILURE

    def force_flush(self, timeout_millis: float = 0) -> bool:  # noqa: ARG002 - the interface
        """Do nothing."""
        return True

    def shutdown(self, timeout_millis: float = 0, **_: Any) -> None:
        """Do nothing."""


def test_metrics_go_to_an_exporter_of_the_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    """As deltas where the environment says so; what was refused is in the next."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta")
    kept = Metrics()
    with Exporter(metric_exporter=kept) as exporter, dialer(exporter) as client:
        for _ in range(3):
            client.post(CALLS, json=PAYLOAD)
            assert exporter.flush(SOON)
        assert Ledger(recorded=3, exported=2, dropped={"never": 1}) == lawful(exporter)["metrics"]
    attempts = [
        point.value
        for data in kept.given[:3]
        for metric in data.resource_metrics[0].scope_metrics[0].metrics
        for point in metric.data.data_points
        if metric.name == "call_initiation.attempts"
    ]
    assert [1, 2, 1] == attempts


def test_metrics_go_to_an_exporter_as_it_prefers_them() -> None:
    """Though the environment says nothing."""
    kept = Metrics(
        preferred_temporality={Counter: AggregationTemporality.DELTA},
        preferred_aggregation={Histogram: ExponentialBucketHistogramAggregation()},
    )
    with Exporter(settle=0.0, metric_exporter=kept) as exporter, dialer(exporter) as client:
        client.post(CALLS, json=PAYLOAD)
        assert exporter.flush(SOON)
    data = {metric.name: metric.data for metric in kept.given[0].resource_metrics[0].scope_metrics[0].metrics}
    attempts, duration = data["call_initiation.attempts"], data["call_initiation.duration"]
    assert isinstance(attempts, Sum)
    assert AggregationTemporality.DELTA is attempts.aggregation_temporality
    assert isinstance(duration, ExponentialHistogram)


# -- the listener -------------------------------------------------------------------------------------------------


def test_metrics_are_served_where_a_port_is_given() -> None:
    """On loopback, until it is closed."""
    with Exporter(prometheus_port=0) as exporter:
        url = exporter.metrics_url
        assert url is not None
        assert url.startswith("http://127.0.0.1:")
        assert "call_initiation_build_info" in httpx.get(f"{url}/metrics", trust_env=False).text
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/metrics", trust_env=False)


def test_a_port_that_is_taken_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """The dialer must run on."""
    with Exporter(prometheus_port=0) as first:
        port = int(str(first.metrics_url).rpartition(":")[2])
        with caplog.at_level(logging.WARNING, "call_initiation"), Exporter(prometheus_port=port) as second:
            assert second.metrics_url is None
    assert [f"no metrics are served: cannot listen on 127.0.0.1:{port}"] == [
        message.partition(": Address")[0] for message in caplog.messages
    ]


def test_a_registry_of_the_dialers_own_is_used() -> None:
    """Beside what it holds already."""
    registry = CollectorRegistry()
    with Exporter(registry=registry):
        assert b"call_initiation_build_info" in generate_latest(registry)


def test_one_exporter_after_another_is_in_a_registry() -> None:
    """A scrape has the living one's figures, once; that of two at a time would have each series twice."""
    registry = CollectorRegistry()
    with Exporter(registry=registry, settle=0.0) as first, dialer(first) as client:
        client.post(CALLS, json=PAYLOAD)
        assert first.flush(SOON)
        assert 1 == sum(samples(first, "call_initiation_attempts_total").values())
        with pytest.raises(SettingsError) as caught:
            Exporter(registry=registry)
    expected = "expected one without them: close the exporter that is in it first"
    assert f"registry: found one that has our metrics, {expected}" == str(caught.value)
    assert b"" == generate_latest(registry)
    with Exporter(registry=registry):
        lines = generate_latest(registry).decode().splitlines()
        assert 1 == len([line for line in lines if line.startswith("call_initiation_build_info")])
        assert not [line for line in lines if line.startswith("call_initiation_attempts")]


# -- the end ------------------------------------------------------------------------------------------------------


def test_closing_records_what_waits_and_takes_no_more() -> None:
    """Settled or not; what comes after is refused and counted; twice is once."""
    exporter = Exporter(settle=60.0)
    with dialer(exporter) as client:
        client.post(CALLS, json=PAYLOAD)
        exporter.close()
        exporter.close()
        client.post(CALLS, json=PAYLOAD)
    assert Ledger(recorded=2, exported=1, dropped={"closed": 1}) == lawful(exporter)["attempts"]
    assert exporter.flush(SOON)


def test_the_end_of_the_process_closes_it() -> None:
    """As long as nobody did before."""
    exporter = Exporter(settle=60.0)
    with dialer(exporter) as client:
        client.post(CALLS, json=PAYLOAD)
    exporter._at_exit()
    assert Ledger(recorded=1, exported=1) == lawful(exporter)["attempts"]
    atexit.unregister(exporter._at_exit)


def test_a_child_of_an_exporter_that_is_closed_stays_quiet() -> None:
    """It must not come back to life by a fork."""
    exporter = Exporter(span_exporter=InMemorySpanExporter())
    exporter.close()
    exporter._after_fork()
    with dialer(exporter) as client:
        client.post(CALLS, json=PAYLOAD)
    assert Ledger(recorded=1, dropped={"closed": 1}) == lawful(exporter)["attempts"]


def test_what_could_have_no_thread_at_the_start_gets_one_with_the_next_turn() -> None:
    """Metrics too, which nothing but time sets going."""
    before = threading.stack_size(1 << 46)
    try:
        exporter = Exporter(settle=0.0, metric_exporter=ConsoleMetricExporter(StringIO()))
    finally:
        threading.stack_size(before)
    with exporter, dialer(exporter) as client:
        client.post(CALLS, json=PAYLOAD)
        assert exporter.flush(SOON)
        assert 1 == lawful(exporter)["metrics"].exported


def test_a_child_begins_anew() -> None:
    """It counts from zero, serves what it is told to, and its feed begins with its first call, as our threads do."""
    exporter = Exporter(settle=0.0, prometheus_port=0)
    port = Port(exporter.now, exporter._tell, pytest.fail)
    access = Access.find("https://127.0.0.1:1", "id", "secret")
    feed = exporter._feed = FeedThread(access, Following(as_seen=True), port, None)
    assert exporter._listener is not None
    exporter._listener.close()
    exporter.aggregate.count(INTERNAL_ERRORS, ("observe",))
    exporter._after_fork()
    assert ({}, None) == (samples(exporter, "call_initiation_internal_errors_total"), exporter.metrics_url)
    assert exporter._feed is not feed
    assert exporter._feed._thread is None
    with dialer(exporter) as client:
        client.post(CALLS, json=PAYLOAD)
        assert exporter.flush(SOON)
    assert exporter._feed._thread is not None
    with closing(exporter.listener("127.0.0.1", 0)) as listener:
        text = httpx.get(f"{listener.url}/metrics", trust_env=False).text
    assert ["1.0"] == re.findall(r"^call_initiation_attempts_total\{.*\} (.*)$", text, re.MULTILINE)
    exporter.close()
    assert Ledger(recorded=1, exported=1) == lawful(exporter)["attempts"]


def test_a_child_of_an_exporter_that_only_observes_observes() -> None:
    """Without a feed and a listener there is less to begin anew."""
    exporter = Exporter()
    exporter._after_fork()
    with exporter, dialer(exporter) as client:
        client.post(CALLS, json=PAYLOAD)
    assert Ledger(recorded=1, exported=1) == lawful(exporter)["attempts"]


def test_every_stage_may_fail_and_the_call_goes_on() -> None:
    """The sinks raise, the assessment raises: the caller gets its answer, faults are counted, the books balance."""
    exporter = Exporter()

    def broken(_: object) -> None:
        raise ZeroDivisionError

    with dialer(exporter) as client:
        exporter._sinks["broken"] = type("Broken", (), {"record": staticmethod(broken)})()
        assert 400 == client.post(CALLS, json=PAYLOAD).status_code
        assert exporter.flush(SOON)
        exporter._recorder._assess = broken  # type: ignore[assignment]
        assert 400 == client.post(CALLS, json=PAYLOAD).status_code
        assert exporter.flush(SOON)
    expected = {("assess",): 1, ("broken",): 1}
    assert expected == samples(exporter, "call_initiation_internal_errors_total")
    assert Ledger(recorded=2, exported=1, dropped={"internal_error": 1}) == lawful(exporter)["attempts"]
    exporter.close()
