"""Conservation: recorded = exported + pending + dropped, exactly, at every stage, whatever fails.

The truth is counted outside: by the API that was called, and by the test that called it.
"""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from threading import Barrier, Thread
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from call_initiation import Exporter, Ledger
from call_initiation.calls.endpoints import CALLS, CALLS_OF_USER
from collector import Answer, Collector, Fault, black_hole, refusing_port
from servers import Cut, Received, Server, answer
from twins import TRUST

pytestmark = pytest.mark.untraced

PAYLOAD = {"phoneNumber": "+33199000000"}
REFUSAL = answer(400, json.dumps({"code": "bad.request"}).encode(), ("Content-Type", "application/json"))
THREADS, EACH = 8, 500
SOON = 30.0

Books = dict[str, Ledger]


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Export often, and give up on a collector soon."""
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "100")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1.5")


def balanced(exporter: Exporter) -> Books:
    """Return the ledgers, each held to the law."""
    books = exporter.ledgers()
    for stage, ledger in books.items():
        assert ledger.recorded == ledger.exported + ledger.pending + sum(ledger.dropped.values()), stage
        assert ledger.pending >= 0, stage
    return books


def scraped(exporter: Exporter) -> Books:
    """Return the ledgers as a scraper sees them."""
    text = httpx.get(f"{exporter.metrics_url}/metrics", trust_env=False, verify=TRUST).text
    books: Books = {}
    for family in text_string_to_metric_families(text):
        name = family.name.removeprefix("call_initiation_recorder_")
        for sample in family.samples if name != family.name else ():
            found = books.setdefault(sample.labels["stage"], Ledger())
            if name == "dropped":
                found.dropped[sample.labels["reason"]] = int(sample.value)
            else:
                object.__setattr__(found, name, int(sample.value))
    return books


def refuse(_: Received) -> list[bytes]:
    """Refuse every call."""
    return [REFUSAL]


@contextmanager
def dialing(script: Any = refuse, **options: Any) -> Iterator[tuple[Exporter, httpx.Client, Server]]:
    """Yield an exporter, an instrumented client, and the API that it calls."""
    limits = httpx.Limits(max_connections=THREADS)
    with (
        Server(script) as server,
        Exporter(prometheus_port=0, **options) as exporter,
        httpx.Client(base_url=server.url, verify=TRUST, trust_env=False, limits=limits, timeout=SOON) as client,
    ):
        yield exporter, exporter.instrument(client), server


def place(client: httpx.Client, calls: int) -> None:
    """Place calls from several threads at once."""
    start = Barrier(THREADS)

    def work() -> None:
        start.wait(SOON)
        for _ in range(calls):
            client.post(CALLS, json=PAYLOAD)

    threads = [Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)


def mocked(request: httpx.Request) -> httpx.Response:
    """Refuse without a socket, for calls by the thousand."""
    return httpx.Response(400, json={"code": "bad.request"}, request=request)


def test_thousands_of_calls_from_many_threads_are_all_there(sink: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight threads, 500 calls each, while the books are read: recorded is what was called, exported what arrived."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", sink.url)
    with (
        Exporter(prometheus_port=0, settle=0.0) as exporter,
        httpx.Client(transport=httpx.MockTransport(mocked), base_url="https://api.example.com") as client,
    ):
        placing = Thread(target=place, args=(exporter.instrument(client), EACH))
        placing.start()
        while placing.is_alive():
            balanced(exporter)
            placing.join(0.05)
        assert exporter.flush(SOON)
        books = balanced(exporter)
        everything = Ledger(recorded=THREADS * EACH, exported=THREADS * EACH)
        assert everything == books["attempts"] == books["spans"] == books["events"]
    assert THREADS * EACH == len({span.span_id for span in sink.spans()}) == len(sink.spans()) == len(sink.records())


def test_a_full_queue_drops_and_counts(sink: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the calls finds room; what isn't recorded is dropped by name, and no span is made of it."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", sink.url)
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "10")
    with (
        Exporter(prometheus_port=0, settle=60.0, capacity=50) as exporter,
        httpx.Client(transport=httpx.MockTransport(mocked), base_url="https://api.example.com") as client,
    ):
        place(exporter.instrument(client), 100)
        assert Ledger(recorded=800, pending=50, dropped={"queue_full": 750}) == balanced(exporter)["attempts"]
        assert exporter.flush(SOON)
        books = balanced(exporter)
        assert Ledger(recorded=800, exported=50, dropped={"queue_full": 750}) == books["attempts"]
        assert 50 == books["spans"].recorded == books["events"].recorded
        assert books["spans"].exported == len(sink.spans())


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
@pytest.mark.parametrize("fault", ["refused", "black hole"])
def test_a_collector_that_cannot_be_reached(fault: str, protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls go on; what can't be delivered waits as far as there is room; all is counted, here and on /metrics."""
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "30")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
    with black_hole() as hole:
        port = hole if fault == "black hole" else refusing_port()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
        with dialing(settle=0.0) as (exporter, client, server):
            place(client, 10)
            assert not exporter.flush(0.3)
            calls = len(server.received)
            books = balanced(exporter)
            assert Ledger(recorded=80, exported=80) == books["attempts"]
            assert Ledger(recorded=80, pending=30, dropped={"queue_full": 50}) == books["spans"] == books["events"]
            assert {stage: books[stage] for stage in ("attempts", "spans", "events")} == {
                stage: scraped(exporter)[stage] for stage in ("attempts", "spans", "events")
            }
            exporter.close(0.2)
        ended = balanced(exporter)
    assert 80 == calls
    expected = Ledger(recorded=80, dropped={"queue_full": 50, "shutdown": 30})
    assert expected == ended["spans"] == ended["events"]
    assert 0 == ended["metrics"].exported


def test_a_collector_in_every_mood(sink: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """Overloaded, refusing, half-hearted, silent, then well: what arrived and what was dropped are all of the calls."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", sink.url)
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.2")
    moods = [
        Answer(503, {"Retry-After": "3600"}),
        Answer(400),
        Answer(fault=Fault.PARTIAL),
        Answer(fault=Fault.BLACK_HOLE),
        Answer(429, {"Retry-After": "0"}),
        Answer(),
    ]
    with dialing(settle=0.0) as (exporter, client, server):
        for mood in moods:
            sink.answer = mood
            place(client, 2)
            exporter.flush(0.1)
            balanced(exporter)
        assert exporter.flush(SOON)
        books = balanced(exporter)
        calls = len(server.received)
        assert THREADS * 2 * len(moods) == calls == books["attempts"].exported
        for stage in ("spans", "events"):
            assert (calls, 0, {"refused"}) == (books[stage].recorded, books[stage].pending, books[stage].dropped.keys())
            assert books[stage].exported > 0


def test_stages_of_ours_that_fail(sink: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every second call can't be assessed, a sink breaks now and then: the books say so, and so do the faults."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", sink.url)

    def now_and_then(work: Callable[[Any], Any]) -> Callable[[Any], Any]:
        turns = count()

        def failing(given: Any) -> Any:
            if next(turns) % 2:
                raise ZeroDivisionError
            return work(given)

        return failing

    with dialing(settle=0.0) as (exporter, client, server):
        exporter._recorder._assess = now_and_then(exporter._recorder._assess)
        broken = exporter._sinks["events"]
        exporter._sinks["events"] = type("Broken", (), {"record": staticmethod(now_and_then(broken.record))})()
        place(client, 10)
        assert exporter.flush(SOON)
        books, calls = balanced(exporter), len(server.received)
        lost = books["attempts"].dropped["internal_error"]
        assert (calls, calls - lost) == (books["attempts"].recorded, books["attempts"].exported)
        assert calls - lost == books["spans"].exported
        faults = {
            labels: number.value
            for family in exporter.aggregate.snapshot()
            if family.metric.name == "call_initiation.internal_errors"
            for labels, number in family.numbers.items()
        }
        assert lost == faults["assess",]
        assert books["attempts"].exported == books["events"].exported + faults["events",]
    assert 0 < lost < calls == 80


def test_calls_that_end_in_every_way(sink: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """Accepted, refused, cut off, never connected, abandoned: each is one attempt."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", sink.url)
    ways = {"accept": [answer(202, b"{}")], "refuse": [REFUSAL], "reset": [Cut.RESET], "close": [Cut.CLOSE]}
    placed = 0
    with dialing(lambda received: ways[received.id], settle=0.0) as (exporter, client, server):
        for way in [*ways] * 5:
            with httpx.Client(base_url=server.url, verify=TRUST, trust_env=False) as fresh:
                with suppress(httpx.TransportError):
                    exporter.instrument(fresh).post(CALLS, json=PAYLOAD, headers={"X-Request-Id": way})
                placed += 1
        with pytest.raises(httpx.ConnectError):
            client.post(f"http://127.0.0.1:{refusing_port()}{CALLS}", json=PAYLOAD)
        placed += 1
        asyncio.run(_abandon(exporter, server))
        placed += 1
        with client.stream("POST", CALLS, json=PAYLOAD, headers={"X-Request-Id": "refuse"}):
            placed += 1
        assert exporter.flush(SOON)
        books = balanced(exporter)
        outcomes: dict[str, float] = {}
        for labels, number in exporter.aggregate.snapshot()[0].numbers.items():
            outcomes[labels[1]] = outcomes.get(labels[1], 0) + number.value
    assert (placed, placed) == (books["attempts"].recorded, books["attempts"].exported)
    assert {"accepted": 5, "rejected": 6, "ambiguous": 10, "not_sent": 1, "cancelled": 1} == outcomes
    assert placed - outcomes["accepted"] == books["events"].exported


async def _abandon(exporter: Exporter, server: Server) -> None:
    """Give a call up before it is sent: its connection is still being made."""
    never = asyncio.Event()

    class Stuck(httpx.AsyncHTTPTransport):
        reads_stream_at_send = True

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            await never.wait()
            return httpx.Response(202, request=request)

    async with httpx.AsyncClient(transport=Stuck(verify=TRUST), base_url=server.url) as client:
        call = asyncio.create_task(exporter.instrument(client).post(CALLS, json=PAYLOAD))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call


def test_after_the_end_calls_go_on_and_are_counted(sink: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dialer that outlives its exporter loses its telemetry, by name, and no call."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", sink.url)
    with dialing() as (exporter, client, server):
        place(client, 1)
        exporter.agent_state("a", presence="BUSY")
        exporter.close()
        place(client, 1)
        exporter.agent_state("a", presence="AWAY")
        books, calls = balanced(exporter), len(server.received)
    eight = Ledger(recorded=8, exported=8)
    assert (Ledger(recorded=16, exported=8, dropped={"closed": 8}), eight, eight) == (
        books["attempts"],
        books["spans"],
        books["events"],
    )
    assert Ledger(recorded=2, exported=1, dropped={"closed": 1}) == books["updates"]
    assert (16, 8) == (calls, len(sink.spans()))


def test_states_from_many_threads_are_all_applied() -> None:
    """Updates have books of their own."""
    with Exporter() as exporter:
        threads = [
            Thread(target=lambda: [exporter.agent_state(str(index % 50), presence="BUSY") for index in range(500)])
            for _ in range(THREADS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SOON)
        assert exporter.flush(SOON)
        books = balanced(exporter)
        assert (THREADS * 500, 0) == (books["updates"].recorded, books["updates"].pending)


def test_an_agents_call_is_counted_once_however_often_it_is_instrumented() -> None:
    """Twice is once, also by way of two clients that share a transport."""
    with dialing(settle=0.0) as (exporter, client, server):
        exporter.instrument(exporter.instrument(client))
        client.post(CALLS_OF_USER.replace("{userId}", "a"), json=PAYLOAD)
        assert exporter.flush(SOON)
        assert (1, 1) == (len(server.received), balanced(exporter)["attempts"].recorded)
