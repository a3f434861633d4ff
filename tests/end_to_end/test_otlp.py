"""Calls over real sockets, exported to a real collector: what comes out of it is what happened."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics

from call_initiation import Exporter, Ledger
from call_initiation.calls.endpoints import CALLS, CALLS_OF_USER
from collector import Answer, Collector, Fault, Rotel, attributes
from servers import Received, Script, Server, answer

AGENT = "9d4b4c1e-0000-4000-8000-000000000001"
OF_AGENT = CALLS_OF_USER.replace("{userId}", AGENT)
PAYLOAD = {"phoneNumber": "+33199000000"}
REFUSAL = {"code": "conversation.error.no.user.station", "message": "A station is required to place a call."}
CODE = REFUSAL["code"]
SOON = 20.0

each_protocol = pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])


def refused(_: Received) -> list[bytes]:
    """Answer as the API answers an agent without a station."""
    return [answer(400, json.dumps(REFUSAL).encode(), ("Content-Type", "application/json"))]


def as_asked(received: Received) -> list[bytes]:
    """Accept or refuse, as the request's id says."""
    return [answer(202, b"{}")] if received.id == "accept" else refused(received)


def through(monkeypatch: pytest.MonkeyPatch, rotel: Rotel, protocol: str, **others: str) -> None:
    """Set the standard variables so that exports go to the real collector."""
    to(monkeypatch, rotel.grpc if protocol == "grpc" else rotel.http, OTEL_EXPORTER_OTLP_PROTOCOL=protocol, **others)


def to(monkeypatch: pytest.MonkeyPatch, url: str, **others: str) -> None:
    """Set the standard variables so that exports go to a URL, soon."""
    given = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_BSP_SCHEDULE_DELAY": "100", "OTEL_SERVICE_NAME": "dialer"}
    for name, value in {**given, **others}.items():
        monkeypatch.setenv(name, value)


@contextmanager
def dialing(script: Script, **options: Any) -> Iterator[tuple[Exporter, httpx.Client, Server]]:
    """Yield an exporter, an instrumented client, and the API that it calls."""
    with (
        Server(script) as server,
        Exporter(**options) as exporter,
        httpx.Client(base_url=server.url, trust_env=False) as client,
    ):
        yield exporter, exporter.instrument(client), server


def books(exporter: Exporter) -> dict[str, Ledger]:
    """Return the ledgers, each held to the law."""
    ledgers = exporter.ledgers()
    for ledger in ledgers.values():
        assert ledger.recorded == ledger.exported + ledger.pending + sum(ledger.dropped.values())
    return ledgers


@each_protocol
def test_a_refused_call_arrives_as_a_span_an_event_and_numbers(
    protocol: str, sink: Collector, rotel: Rotel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the real collector, over either protocol; all of them tell the same."""
    through(monkeypatch, rotel, protocol)
    with dialing(refused) as (exporter, client, server):
        exporter.agent_state(AGENT, presence="BUSY", on_call=1, station="s1", since=exporter.now() - 5)
        assert 400 == client.post(OF_AGENT, json=PAYLOAD).status_code
        assert exporter.flush(SOON)
        sink.wait(lambda: bool(sink.spans() and sink.records() and sink.metrics()))
        port = server.port
    [span], [record] = sink.spans(), sink.records()
    given = attributes(span.attributes)
    assert (f"POST {CALLS_OF_USER}", Span.SPAN_KIND_CLIENT, Status.STATUS_CODE_ERROR) == (
        span.name,
        span.kind,
        span.status.code,
    )
    expected = {
        "url.template": CALLS_OF_USER,
        "server.address": "127.0.0.1",
        "server.port": port,
        "http.response.status_code": 400,
        "error.type": "400",
        "call_initiation.outcome": "rejected",
        "call_initiation.error.code": CODE,
        "call_initiation.error.category": "station",
        "call_initiation.agent.id": AGENT,
        "call_initiation.agent.state": "on_call",
        "call_initiation.agent.presence": "BUSY",
        "call_initiation.agent.state.certainty": "known",
    }
    assert expected.items() <= given.items()
    assert ("call_initiation.failure", given) == (record.event_name, attributes(record.attributes))
    assert (span.trace_id, span.span_id) == (record.trace_id, record.span_id)
    assert 0 < span.start_time_unix_nano < span.end_time_unix_nano
    [point] = next(metric for metric in sink.metrics() if metric.name == "call_initiation.attempts").sum.data_points
    assert (1, CODE, "on_call") == (
        point.as_double,
        attributes(point.attributes)["error_code"],
        attributes(point.attributes)["agent_state"],
    )
    [exemplar] = point.exemplars
    assert (span.trace_id, span.span_id) == (exemplar.trace_id, exemplar.span_id)
    assert {"dialer"} == {resource["service.name"] for resource in sink.resources("/v1/traces", "spans")}


@each_protocol
def test_failures_are_exported_whatever_the_sampler_says(
    protocol: str, sink: Collector, rotel: Rotel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With everything sampled out, the refused calls arrive and the accepted ones don't."""
    through(monkeypatch, rotel, protocol, OTEL_TRACES_SAMPLER="always_off")
    with dialing(as_asked) as (exporter, client, server):
        for wish in ("accept", "refuse", "accept", "refuse"):
            client.post(CALLS, json=PAYLOAD, headers={"X-Request-Id": wish})
        assert exporter.flush(SOON)
        sink.wait(lambda: len(sink.spans()) == 2 == len(sink.records()))
        assert (4, 2, 2) == (
            len(server.received),
            books(exporter)["spans"].exported,
            books(exporter)["events"].exported,
        )
    assert {"rejected"} == {attributes(span.attributes)["call_initiation.outcome"] for span in sink.spans()}


def test_successes_follow_the_sampler(sink: Collector, rotel: Rotel, monkeypatch: pytest.MonkeyPatch) -> None:
    """With everything sampled, both arrive; only failures are events."""
    through(monkeypatch, rotel, "http/protobuf")
    with dialing(as_asked) as (exporter, client, _):
        for wish in ("accept", "refuse"):
            client.post(CALLS, json=PAYLOAD, headers={"X-Request-Id": wish})
        assert exporter.flush(SOON)
        sink.wait(lambda: len(sink.spans()) == 2)
        assert 1 == books(exporter)["events"].exported
    expected = [("accepted", Status.STATUS_CODE_UNSET), ("rejected", Status.STATUS_CODE_ERROR)]
    assert expected == sorted(
        (attributes(s.attributes)["call_initiation.outcome"], s.status.code) for s in sink.spans()
    )


def test_every_exemplar_on_metrics_leads_to_a_span_that_arrived(
    sink: Collector, rotel: Rotel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the calls are sampled out: their successes have no span, and so no exemplar."""
    through(monkeypatch, rotel, "grpc", OTEL_TRACES_SAMPLER="traceidratio", OTEL_TRACES_SAMPLER_ARG="0.5")
    with dialing(as_asked, prometheus_port=0) as (exporter, client, _):
        for wish in ("accept", "refuse") * 20:
            client.post(CALLS, json=PAYLOAD, headers={"X-Request-Id": wish})
        assert exporter.flush(SOON)
        exported = books(exporter)["spans"].exported
        sink.wait(lambda: len(sink.spans()) == exported)
        headers = {"Accept": "application/openmetrics-text; version=1.0.0"}
        text = httpx.get(f"{exporter.metrics_url}/metrics", headers=headers, trust_env=False).text
    assert 20 <= exported < 40
    arrived = {(span.trace_id.hex(), span.span_id.hex()) for span in sink.spans()}
    shown = {
        (sample.exemplar.labels["trace_id"], sample.exemplar.labels["span_id"])
        for family in parse_openmetrics(text)
        for sample in family.samples
        if sample.exemplar
    }
    assert shown
    assert shown <= arrived


def test_the_callers_span_is_the_parent(sink: Collector, rotel: Rotel, monkeypatch: pytest.MonkeyPatch) -> None:
    """The call stands in the caller's trace; without one it begins its own."""
    through(monkeypatch, rotel, "http/protobuf")
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("dialer")
    with dialing(refused) as (exporter, client, _):
        with tracer.start_as_current_span("campaign") as campaign:
            client.post(CALLS, json=PAYLOAD)
        client.post(CALLS, json=PAYLOAD)
        assert exporter.flush(SOON)
        sink.wait(lambda: len(sink.spans()) == 2)
    caller = campaign.get_span_context()
    child, root = sorted(sink.spans(), key=lambda span: span.start_time_unix_nano)
    assert (caller.trace_id, caller.span_id) == (int(child.trace_id.hex(), 16), int(child.parent_span_id.hex(), 16))
    assert b"" == root.parent_span_id
    assert child.trace_id != root.trace_id


def test_a_redelivered_span_is_the_same_span(sink: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """A collector that was overloaded gets the same ids again: a backend can tell that it is one call."""
    to(monkeypatch, sink.url)
    sink.answer = Answer(503, {"Retry-After": "3600"})
    with dialing(refused) as (exporter, client, _):
        for _ in range(3):
            client.post(CALLS, json=PAYLOAD)
        assert not exporter.flush(0.5)
        sink.wait(lambda: len(sink.spans(accepted=False)) >= 3)
        assert 3 == books(exporter)["spans"].pending
        sink.answer = Answer()
        assert exporter.flush(SOON)
        assert Ledger(recorded=3, exported=3) == books(exporter)["spans"] == books(exporter)["events"]
    arrived = [span.span_id for span in sink.spans()]
    tried = {span.span_id for span in sink.spans(accepted=False)}
    assert (3, tried) == (len(arrived), set(arrived))


def test_a_flush_tries_each_signal(sink: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though the one before it is to be left alone for longer than there is time."""
    to(monkeypatch, sink.url, OTEL_BSP_SCHEDULE_DELAY="60000")
    sink.answer = Answer(503, {"Retry-After": "3600"})
    with dialing(refused) as (exporter, client, _):
        client.post(CALLS, json=PAYLOAD)
        assert not exporter.flush(SOON)
        assert ["/v1/logs", "/v1/metrics", "/v1/traces"] == sorted(path for path, *_ in sink.requests)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (Answer(400), Ledger(recorded=3, dropped={"refused": 3})),
        (Answer(fault=Fault.PARTIAL), Ledger(recorded=3, exported=2, dropped={"refused": 1})),
    ],
    ids=["refused", "partly refused"],
)
def test_what_a_collector_refuses_is_counted_and_not_sent_again(
    said: Answer, expected: Ledger, sink: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once is enough; the calls that follow are exported."""
    to(monkeypatch, sink.url, OTEL_BSP_SCHEDULE_DELAY="60000", OTEL_METRICS_EXPORTER="none")
    sink.answer = said
    with dialing(refused) as (exporter, client, _):
        for _ in range(3):
            client.post(CALLS, json=PAYLOAD)
        assert exporter.flush(SOON)
        assert expected == books(exporter)["spans"] == books(exporter)["events"]
        assert (1, 1) == tuple(len(sink.messages(path, accepted=False)) for path in ("/v1/traces", "/v1/logs"))
        sink.answer = Answer()
        client.post(CALLS, json=PAYLOAD)
        assert exporter.flush(SOON)
        assert (4, expected.dropped) == (books(exporter)["spans"].recorded, books(exporter)["spans"].dropped)
    assert 2 == len(sink.messages("/v1/traces", accepted=False))


def test_metrics_survive_an_outage_of_the_collector(sink: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deltas that weren't taken are in the next that are: their sum is the truth."""
    to(
        monkeypatch,
        sink.url,
        OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE="delta",
        OTEL_TRACES_EXPORTER="none",
        OTEL_LOGS_EXPORTER="none",
    )
    with dialing(refused) as (exporter, client, server):
        for status in (200, 503, 400, 200, 502, 200):
            sink.answer = Answer(status, {"Retry-After": "3600"})
            client.post(CALLS, json=PAYLOAD)
            assert exporter.flush(SOON)
        calls = len(server.received)
        assert {"not_now": 2, "never": 1} == books(exporter)["metrics"].dropped
    points = [point for m in sink.metrics() if m.name == "call_initiation.attempts" for point in m.sum.data_points]
    assert (6, 6) == (calls, sum(point.as_double for point in points))


def test_the_sdk_is_off_where_its_switch_says_so(sink: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is sent; /metrics goes on."""
    to(monkeypatch, sink.url, OTEL_SDK_DISABLED="true")
    with dialing(refused, prometheus_port=0) as (exporter, client, _):
        client.post(CALLS, json=PAYLOAD)
        assert exporter.flush(SOON)
        text = httpx.get(f"{exporter.metrics_url}/metrics", trust_env=False).text
    assert [] == sink.requests
    assert re.search(rf'call_initiation_attempts_total{{.*error_code="{CODE}".*}} 1.0', text)
