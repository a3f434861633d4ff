"""The journal over real sockets, processes and disks: neither a collector's outage nor a process's end loses any."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from select import select
from threading import Event
from time import monotonic
from typing import Any

import httpx
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from prometheus_client.parser import text_string_to_metric_families

from call_initiation import Exporter, Ledger
from call_initiation.calls.endpoints import CALLS, CALLS_OF_USER
from call_initiation.catalogue import INTERNAL_ERRORS
from collector import Answer, Collector, Fault, attributes, black_hole, free_port, refusing_port, running_rotel
from servers import Received, Server, always, answer
from twins import TRUST

PAYLOAD = {"phoneNumber": "+33199000000"}
TOKEN = "canary-7f3a91-secret"
REFUSAL = answer(400, b'{"code":"bad.request","message":"not +33199000000"}', ("Content-Type", "application/json"))
SOON = 25.0

Books = dict[str, Ledger]


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Export often, give up on a collector soon, and let memory hold next to nothing."""
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1.2")
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "3")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "16")
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")


def books(exporter: Exporter) -> Books:
    """Return the ledgers, each held to the law."""
    ledgers = exporter.ledgers()
    for stage, ledger in ledgers.items():
        assert ledger.recorded == ledger.exported + ledger.pending + sum(ledger.dropped.values()), stage
    return ledgers


def faults(exporter: Exporter) -> dict[str, float]:
    """Return the faults of our own by stage."""
    return {
        labels[0]: number.value
        for family in exporter.aggregate.snapshot()
        if family.metric == INTERNAL_ERRORS
        for labels, number in family.numbers.items()
    }


def mocked(_: httpx.Request) -> httpx.Response:
    """Refuse without a socket, for calls by the hundred, in so many words."""
    return httpx.Response(400, json={"code": "bad.request", "message": "no, " * 200})


@contextmanager
def dialing(folder: Path, **options: Any) -> Iterator[tuple[Exporter, Callable[[int], None]]]:
    """Yield an exporter with a journal, and what has so many calls refused."""
    with (
        Exporter(settle=0.0, journal=folder, **options) as exporter,
        httpx.Client(transport=httpx.MockTransport(mocked), base_url="https://api.example.com") as client,
    ):
        exporter.instrument(client)

        def place(calls: int) -> None:
            for _ in range(calls):
                assert 400 == client.post(CALLS, json=PAYLOAD, headers={"Authorization": f"Bearer {TOKEN}"}).status_code
            assert exporter._recorder.flush(SOON)

        yield exporter, place


def clean(folder: Path) -> None:
    """See that no file tells a number or a token."""
    for path in folder.iterdir():
        data = path.read_bytes()
        assert [] == [canary for canary in (b"199000000", TOKEN.encode(), b"phoneNumber") if canary in data], path


# -- an outage ----------------------------------------------------------------------------------------------------


@contextmanager
def refused(sink: Collector) -> Iterator[tuple[int, Callable[[], Any]]]:
    """Yield a port that refuses, and what runs a real collector there."""
    port = free_port()
    with ExitStack() as stack:
        yield port, lambda: stack.enter_context(running_rotel(sink.url, port))


@contextmanager
def failing(sink: Collector, said: Answer) -> Iterator[tuple[int, Callable[[], Any]]]:
    """Yield the port of a collector that fails in some way, and what mends it."""
    sink.answer = said

    def mend() -> None:
        sink.answer = Answer()
        sink.hurry()

    yield sink.port, mend


OUTAGES: dict[str, Callable[[Collector], Any]] = {
    "refused": refused,
    "black hole": lambda sink: failing(sink, Answer(503, fault=Fault.BLACK_HOLE)),
    "503": lambda sink: failing(sink, Answer(503)),
    "slow 503": lambda sink: failing(sink, Answer(503, fault=Fault.SLOW)),
}


@pytest.mark.parametrize("outage", OUTAGES)
def test_no_failure_is_lost_in_an_outage(
    outage: str, tmp_path: Path, sink: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However little memory holds: afterwards each arrives once, in order, with the ids and times of the call."""
    calls = 40
    with OUTAGES[outage](sink) as (port, mend):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
        with dialing(tmp_path / "journal") as (exporter, place):
            place(calls)
            assert not exporter.flush(0.2)
            expected = Ledger(recorded=calls, pending=calls)
            assert expected == books(exporter)["spans"] == books(exporter)["events"]
            clean(tmp_path / "journal")
            recorded = exporter._recent.failures()[::-1]
            mend()
            assert exporter.flush(SOON)
            assert Ledger(recorded=calls, exported=calls) == books(exporter)["spans"] == books(exporter)["events"]
            assert {} == faults(exporter)
        sink.wait(lambda: len(sink.spans()) >= calls <= len(sink.records()))
    spans, records = sink.spans(), sink.records()
    if outage == "refused":  # a collector between us and the sink may pass on a later batch first
        spans.sort(key=lambda span: span.start_time_unix_nano)
        records.sort(key=lambda record: record.time_unix_nano)
    assert [(attempt.span and attempt.span.span_id, attempt.started_at) for attempt in recorded] == [
        (int(span.span_id.hex(), 16), span.start_time_unix_nano) for span in spans
    ]
    assert [span.trace_id for span in spans] == [record.trace_id for record in records]
    assert {"bad.request"} == {attributes(span.attributes)["call_initiation.error.code"] for span in sink.spans()}


def test_a_full_journal_gives_up_the_oldest(tmp_path: Path, sink: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """It counts them exactly: what arrives are the newest, and with those that were dropped they are all."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", sink.url)
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "512")
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    sink.answer = Answer(503)
    calls = 1_500
    with dialing(tmp_path / "journal", journal_size=2**20) as (exporter, place):
        place(calls)
        given_up = books(exporter)["events"].dropped["journal_full"]
        assert sum(path.stat().st_size for path in (tmp_path / "journal").glob("*.segment")) <= 2**20
        newest = exporter._recent.failures()
        sink.answer = Answer()
        assert exporter.flush(SOON)
        ledger = books(exporter)["events"]
    # What an export has in hand when its file is given up may still arrive: it is dropped when that export has failed.
    assert given_up <= ledger.dropped["journal_full"] < calls == ledger.recorded
    assert calls - ledger.dropped["journal_full"] == ledger.exported == len(sink.records())
    times = [record.time_unix_nano for record in sink.records()]
    assert sorted(times) == times
    assert [attempt.started_at for attempt in newest] == times[: -len(newest) - 1 : -1]


# -- the end of a process -------------------------------------------------------------------------------------------

DIALER = """
import json, os, signal, sys, threading
from dataclasses import asdict

import httpx
from call_initiation import Exporter

url, folder, calls, way = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
exporter = Exporter(journal=folder, settle=0.0)
client = exporter.instrument(httpx.Client(base_url=url, trust_env=False, timeout=60))

def place(calls, user):
    for _ in range(calls):
        client.post(f"/api/v2/conversations/calls/user/{user}", json={"phoneNumber": "+33199000000"})
    assert exporter._recorder.flush(20.0)

def tell(name):
    books = {stage: asdict(ledger) for stage, ledger in exporter.ledgers().items()}
    os.write(1, json.dumps({"name": name, "books": books}).encode() + b"\\n")

def leave(*_):
    exporter.close()
    tell("closed")
    os._exit(3)

signal.signal(signal.SIGTERM, leave)
place(calls, "parent")
if way == "hang":
    print("{}", flush=True)
    place(1, "hung")
if way == "fork" and os.fork() == 0:
    place(calls, "child")
    tell("child")
    signal.pause()
tell("parent")
while True:
    signal.pause()
"""


@contextmanager
def process(server: Server, folder: Path, calls: int, way: str = "") -> Iterator[subprocess.Popen[str]]:
    """Run a dialer with a journal, whose calls were refused and recorded when it says so."""
    command = [sys.executable, "-c", DIALER, server.url, str(folder), str(calls), way]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:  # noqa: S603 - our own script
        try:
            yield running
        finally:
            running.kill()


def said(running: subprocess.Popen[str]) -> tuple[str, Books]:
    """Return what a dialer says next."""
    assert running.stdout is not None
    line = json.loads(running.stdout.readline())
    return line["name"], {stage: Ledger(**ledger) for stage, ledger in line["books"].items()}


def test_a_deaf_collector_holds_no_process_up_and_the_next_delivers(
    tmp_path: Path, sink: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM: what waits is pending at the end, recovered by the next one, and over both lives exported once."""
    calls, folder = 20, tmp_path / "journal"
    with black_hole() as hole, Server(always(REFUSAL)) as server:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{hole}")
        with process(server, folder, calls) as running:
            said(running)
            began = monotonic()
            running.terminate()
            _, first = said(running)
            running.wait(SOON)
        print(f"SIGTERM before a black hole: {monotonic() - began:.2f} s")  # noqa: T201 - the figure is the point
        assert 3 == running.returncode
    assert Ledger(recorded=calls, exported=calls) == first["attempts"]
    assert Ledger(recorded=calls, pending=calls) == first["spans"] == first["events"]
    assert {".segment"} == {path.suffix for path in folder.iterdir()}
    clean(folder)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", sink.url)
    with dialing(folder) as (exporter, place):
        place(2)
        assert exporter.flush(SOON)
        second = books(exporter)
    assert Ledger(recorded=calls + 2, exported=calls + 2, recovered=calls) == second["spans"] == second["events"]
    assert Ledger() == second["in_flight"]
    happened = sum(life["events"].recorded - life["events"].recovered for life in (first, second))
    assert calls + 2 == happened == len({span.span_id for span in sink.spans()}) == len(sink.records())
    instances = {resource["service.instance.id"] for resource in sink.resources("/v1/traces", "spans")}
    assert 2 == len(instances)
    assert [] == list(folder.iterdir())


def test_a_killed_process_tells_of_its_calls_by_the_next(
    tmp_path: Path, sink: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a real collector: its failures as they were, and the one under way as ambiguous; nothing is sent again."""
    folder, calls, over = tmp_path / "journal", 5, Event()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{refusing_port()}")

    def script(received: Received) -> list[Any]:
        return [over] if "hung" in received.target else [REFUSAL]

    with Server(script) as server, process(server, folder, calls, "hang") as running:
        server.wait(calls + 1)
        running.kill()
        running.wait(SOON)
        over.set()
        clean(folder)
        with running_rotel(sink.url) as rotel:
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", rotel.http)
            with dialing(folder, prometheus_port=0) as (exporter, place):
                place(0)
                assert exporter.flush(SOON)
                told = books(exporter)
                url = f"{exporter.metrics_url}/metrics"
                text = httpx.get(url, trust_env=False, verify=TRUST).text
            sink.wait(lambda: len(sink.spans()) > calls < len(sink.records()))
        assert calls + 1 == len(server.received)
        port = server.port
    assert Ledger(recorded=1, exported=1) == told["in_flight"]
    assert calls + 1 == told["events"].exported == len({span.span_id for span in sink.spans()})
    *ended, last = sorted(sink.spans(), key=lambda span: span.start_time_unix_nano)
    assert ["400"] * calls == [attributes(span.attributes)["error.type"] for span in ended]
    given = attributes(last.attributes)
    expected = {
        "url.template": CALLS_OF_USER,
        "server.address": "127.0.0.1",
        "server.port": port,
        "error.type": "process_died",
        "call_initiation.outcome": "ambiguous",
        "call_initiation.error.category": "transport",
        "call_initiation.agent.id": "hung",
        "call_initiation.agent.id.source": "path",
        "call_initiation.agent.state.certainty": "unknown",
    }
    assert expected.items() <= given.items()
    assert (Span.SPAN_KIND_CLIENT, 2) == (last.kind, last.status.code)
    (counted,) = [
        (sample.labels["outcome"], sample.labels["status_code"], sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "call_initiation_attempts_total"
    ]
    assert ("ambiguous", "none", 1) == counted


def test_parent_and_child_have_journals_of_their_own(
    tmp_path: Path, sink: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The parent is killed and the child lives: what the parent left is taken over, and the child's is left alone."""
    folder, calls = tmp_path / "journal", 4
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{refusing_port()}")
    with Server(always(REFUSAL)) as server, process(server, folder, calls, "fork") as running:
        spoken = dict([said(running), said(running)])
        assert Ledger(recorded=calls, pending=calls) == spoken["parent"]["events"] == spoken["child"]["events"]
        (child,) = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
        running.kill()
        running.wait(SOON)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", sink.url)
        try:
            assert ["parent"] * calls == _delivered(folder, sink)
        finally:
            os.kill(int(child), signal.SIGKILL)
        _gone(int(child))
        assert ["child"] * calls == _delivered(folder, sink)
        assert 2 * calls == len(server.received)
    assert [] == list(folder.iterdir())


def test_a_table_that_is_cut_short_costs_no_process_its_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody empties the journal's files under a dialer that runs: it goes on, and tells of what it lost."""
    folder, calls = tmp_path / "journal", 4
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{refusing_port()}")
    with Server(always(REFUSAL)) as server, process(server, folder, calls) as running:
        said(running)
        for path in folder.iterdir():
            os.truncate(path, 0)
        running.terminate()
        _, left = said(running)
        assert 3 == running.wait(SOON)
    assert {calls} == {left["events"].pending + left["events"].dropped.get("damaged", 0)}


def _delivered(folder: Path, sink: Collector) -> list[str]:
    """Return whose failures are delivered by an exporter that opens a journal now."""
    before = len(sink.records())
    with dialing(folder) as (exporter, place):
        place(0)
        assert exporter.flush(SOON)
    return [attributes(record.attributes)["call_initiation.agent.id"] for record in sink.records()[before:]]


def _gone(pid: int) -> None:
    """Wait until a process that isn't our child has ended."""
    pidfd = os.pidfd_open(pid)
    assert select([pidfd], [], [], SOON)[0]
    os.close(pidfd)


# -- a disk ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Yield a small disk of its own, where this may be mounted."""
    path = tmp_path / "disk"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m,mode=0700", "none", str(path)]
    if subprocess.run(command, capture_output=True, check=False).returncode:  # noqa: S603 - a small disk
        pytest.skip("nothing may be mounted here")
    yield path
    subprocess.run(["umount", "--lazy", str(path)], check=True)  # noqa: S603, S607 - as above


def test_on_a_full_disk_calls_go_on_and_the_journal_comes_back(
    disk: Path, sink: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Meanwhile failures are in memory, as many as it holds, and all is counted."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", sink.url)
    sink.answer = Answer(503)
    with dialing(disk / "journal") as (exporter, place):
        place(2)
        full = disk / "full"
        with suppress(OSError):
            full.write_bytes(bytes(2**22))
        assert full.exists()
        place(200)
        place(0)
        books_then, faults_then = books(exporter)["events"], faults(exporter)
        assert 202 == books_then.recorded == books_then.pending + books_then.dropped["queue_full"]
        assert (["journal"], True) == (list(faults_then), faults_then["journal"] > 0)
        full.unlink()
        place(10)
        sink.answer = Answer()
        assert exporter.flush(SOON)
        last = books(exporter)["events"]
        assert (212, 0, faults_then) == (last.recorded, last.pending, faults(exporter))
        assert last.exported == 212 - books_then.dropped["queue_full"] == len(sink.records())
    assert [disk / "journal"] == list(disk.iterdir())


def test_on_a_read_only_disk_calls_go_on_and_the_journal_comes_back(
    disk: Path, sink: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is so from the start, and is tried again every second; in this test, at every turn."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", sink.url)
    monkeypatch.setattr("call_initiation.journal.journal.AGAIN", 0.0)
    _remount(disk, "ro")
    with dialing(disk / "journal") as (exporter, place):
        place(3)
        assert exporter.flush(SOON)
        assert (3, 3) == (books(exporter)["events"].exported, len(sink.records()))
        assert {"journal", "in_flight"} == set(faults(exporter))
        _remount(disk, "rw")
        place(0)
        place(3)
        assert exporter.flush(SOON)
        assert 1 == len(list((disk / "journal").glob("*.segment")))
        assert 6 == books(exporter)["events"].exported == len({record.span_id for record in sink.records()})


def _remount(disk: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(disk)], check=True)  # noqa: S603, S607 - a small disk
