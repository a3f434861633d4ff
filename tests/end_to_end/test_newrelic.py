"""A preset over real sockets: what New Relic would get has its shape, and every name that is queried is in it."""

import json
from typing import Any

import httpx
import pytest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, Metric

from call_initiation import Exporter
from call_initiation.calls.endpoints import CALLS_OF_USER
from call_initiation.catalogue import METRICS
from call_initiation.events import Certainty, FeedChange, FeedState, NotificationTaken
from call_initiation.recording.updates import LegLost
from call_initiation.telemetry.delivery import Delivery
from collector import Collector, Rotel, attributes
from nrdb import DERIVED, logql_names, names, queries, traceql_names
from servers import Act, Cut, Received, Server, answer

KEY = "eu01xx0canary0canary0canary0canary0NRAL"
AGENT = "9d4b4c1e-0000-4000-8000-000000000001"
OF_AGENT = CALLS_OF_USER.replace("{userId}", AGENT)
PAYLOAD = {"phoneNumber": "+33199000000"}
ODD_PAYLOAD = {**PAYLOAD, "phonenumber": "+33199000000"}  # a property that nobody knows
REFUSAL = {
    "code": "conversation.error.no.user.station",
    "message": "A station is required to place a call.",
    "contextId": "5b8f0f6e-0000-4000-8000-000000000002",
}
SOON = 20.0


@pytest.fixture(autouse=True)
def _preset(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set what an operator sets: the key and the service's name; and export soon."""
    monkeypatch.setenv("NEW_RELIC_LICENSE_KEY", KEY)
    monkeypatch.setenv("OTEL_SERVICE_NAME", "dialer")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")


def as_asked(received: Received) -> list[Act]:
    """Accept, refuse, or close the connection without an answer, as the request's id says."""
    match received.id:
        case "accept":
            return [answer(202, b"{}")]
        case "refuse":
            return [answer(400, json.dumps(REFUSAL).encode(), ("Content-Type", "application/json"))]
        case _:
            return [Cut.CLOSE]


def traffic(client: httpx.Client, exporter: Exporter) -> None:
    """Place calls of every kind that the queries ask for, for an agent whose state changes."""
    exporter.agent_state(AGENT, presence="AVAILABLE", routing_status="IDLE", station="s1", since=exporter.now() - 60)
    exporter.agent_state(AGENT, presence="BUSY", on_call=1, since=exporter.now() - 5)
    for wish in ("accept", "refuse", "refuse"):
        client.post(OF_AGENT, json=PAYLOAD, headers={"X-Request-Id": wish})
    with pytest.raises(httpx.RemoteProtocolError):
        client.post(OF_AGENT, json=ODD_PAYLOAD, headers={"X-Request-Id": "drop"})


def feed(exporter: Exporter) -> None:
    """Tell what a feed would tell."""
    for told in (
        FeedChange(state=FeedState.UP, at=exporter.now()),
        NotificationTaken(topic="presence", lag=0.2),
        LegLost(AGENT, "error.ininedgecontrol.connection.timeout", exporter.now()),
    ):
        exporter._tell(told)


def mishaps(exporter: Exporter) -> None:
    """Let a fault of ours be counted, and a record that was dropped: such metrics exist only after the first one."""
    exporter._count_fault("a test")
    for delivery in exporter._deliveries:
        if isinstance(delivery, Delivery):
            delivery._dropped["refused"] += 1


@pytest.fixture
def received(sink: Collector, rotel: Rotel, monkeypatch: pytest.MonkeyPatch) -> Collector:
    """Return what a real collector forwarded after calls of every kind."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", rotel.http)
    with (
        Server(as_asked) as server,
        Exporter(preset="newrelic-eu") as exporter,
        exporter.instrument(httpx.Client(base_url=server.url, trust_env=False)) as client,
    ):
        traffic(client, exporter)
        feed(exporter)
        mishaps(exporter)
        assert exporter.flush(SOON)
        sink.wait(lambda: len(sink.spans()) == 4 and len(sink.records()) == 3 and bool(sink.metrics()))
    return sink


def points(metric: Metric) -> list[Any]:
    """Return a metric's points."""
    kind = metric.WhichOneof("data")
    assert kind is not None
    return list(getattr(metric, kind).data_points)


def sent(collector: Collector) -> dict[str, set[str]]:
    """Return the names of all that arrived: by signal; resource attributes in each."""
    of_metrics = {metric.name for metric in collector.metrics()} | {
        name for metric in collector.metrics() for point in points(metric) for name in attributes(point.attributes)
    }
    of_signals = {
        "Metric": (of_metrics, "/v1/metrics", "metrics"),
        "CallInitiationError": ({n for r in collector.records() for n in attributes(r.attributes)}, "/v1/logs", "logs"),
        "Span": ({n for s in collector.spans() for n in attributes(s.attributes)}, "/v1/traces", "spans"),
    }
    return {
        signal: found | {name for resource in collector.resources(path, kind) for name in resource}
        for signal, (found, path, kind) in of_signals.items()
    }


def test_every_name_that_is_queried_is_in_what_arrived(received: Collector) -> None:
    """NRQL of metrics in the metrics, NRQL of failures in the events, TraceQL in spans, LogQL in events."""
    arrived = sent(received)
    for place, query in queries():
        for event_type in ("Metric", "CallInitiationError"):
            if f"FROM {event_type}" in query:
                missing = names(query) - arrived[event_type] - set(DERIVED)
                assert (place, set()) == (place, missing)
    assert set() == traceql_names() - arrived["Span"]
    assert set() == logql_names() - {name.replace(".", "_") for name in arrived["CallInitiationError"]}


def test_metrics_arrive_as_deltas_and_exponential_histograms(received: Collector) -> None:
    """Every sum and every histogram; what was counted is all there."""
    kinds = {metric.name: metric.kind for metric in METRICS}
    seen = {metric.name: metric for metric in received.metrics()}
    for name, metric in seen.items():
        match metric.WhichOneof("data"):
            case "sum":
                assert AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA == metric.sum.aggregation_temporality
                assert metric.sum.is_monotonic
            case "exponential_histogram":
                data = metric.exponential_histogram
                assert AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA == data.aggregation_temporality
                for point in data.data_points:
                    assert point.count == point.zero_count + sum(point.positive.bucket_counts)
            case kind:
                assert ("gauge", "gauge") == (kind, kinds[name].value)
    durations = [p for m in received.metrics() if m.name == "call_initiation.duration" for p in points(m)]
    assert 4 == sum(point.count for point in durations)


def test_failures_arrive_as_custom_events_with_their_trace(received: Collector) -> None:
    """New Relic takes a record with this attribute for an event of this type; the trace is the span's."""
    traces = {span.trace_id for span in received.spans()}
    for record in received.records():
        given = attributes(record.attributes)
        assert "CallInitiationError" == given["newrelic.event.type"]
        assert record.trace_id in traces
    assert ["ambiguous", "rejected", "rejected"] == sorted(
        attributes(record.attributes)["call_initiation.outcome"] for record in received.records()
    )
    assert {"on_call"} == {
        attributes(record.attributes)["call_initiation.agent.state"] for record in received.records()
    }
    assert {Certainty.KNOWN.value} == {
        attributes(record.attributes)["call_initiation.agent.state.certainty"] for record in received.records()
    }


def test_requests_carry_the_key_and_are_compressed_and_empty_answers_are_successes(
    sink: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All three signals, to where New Relic's paths are; nothing is sent twice or counted as dropped."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", sink.url)
    with (
        Server(as_asked) as server,
        Exporter(preset="newrelic-fedramp") as exporter,
        exporter.instrument(httpx.Client(base_url=server.url, trust_env=False)) as client,
    ):
        traffic(client, exporter)
        assert exporter.flush(SOON)
        ledgers = exporter.ledgers()
    assert {"/v1/traces", "/v1/logs", "/v1/metrics"} == {path for path, _, _ in sink.requests}
    for headers in sink.headers:
        assert (KEY, "gzip", "application/x-protobuf") == (
            headers["api-key"],
            headers["content-encoding"],
            headers["content-type"],
        )
    assert {"spans": (4, {}), "events": (3, {})} == {
        stage: (ledgers[stage].exported, ledgers[stage].dropped) for stage in ("spans", "events")
    }
    assert {} == ledgers["metrics"].dropped
    assert all(len(body) < 10**6 for body in sink.raw)
    assert KEY not in "".join(map(repr, sink.raw))
