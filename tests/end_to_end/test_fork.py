"""A fork after the exporter has started: each process counts and exports its own calls, once, under its own name."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import pytest

from collector import PATIENCE, Collector, Rotel, attributes, free_port
from program import FORKING
from servers import Server, always, answer
from twins import TRUST

REFUSAL = answer(400, b'{"code":"bad.request"}')
SOON = 40.0

DIALER = """
import json, multiprocessing, os, ssl, sys, threading
from dataclasses import asdict

import httpx
from call_initiation import Exporter

url, way = sys.argv[1:]
exporter = Exporter(settle=0.0, prometheus_port=0)
trust = ssl.create_default_context()  # made once: OpenSSL may hold a lock of its own at a fork

def place(calls):
    with httpx.Client(base_url=url, trust_env=False, verify=trust) as client:
        for _ in range(calls):
            exporter.instrument(client).post("/api/v2/conversations/calls", json={"phoneNumber": "+33199000000"})

def tell(name, flushed):
    books = {stage: asdict(ledger) for stage, ledger in exporter.ledgers().items()}
    threads = sorted(thread.name for thread in threading.enumerate() if thread.name.startswith("call-initiation"))
    said = {"name": name, "flushed": flushed, "books": books, "threads": threads, "url": exporter.metrics_url}
    said["failures"] = len(exporter._recent.failures())
    os.write(1, json.dumps(said).encode() + b"\\n")

def child():
    place(2)
    tell("child", exporter.flush(20.0))

def leave():
    place(2)
    exporter.close()
    tell("child", True)

place(3)
exporter.agent_state("9d4b4c1e", presence="BUSY")
if way != "pending":
    assert exporter.flush(20.0)
if way in ("fork", "pending"):
    if os.fork() == 0:
        child()
        os._exit(0)
elif way == "multiprocessing":
    multiprocessing.get_context("fork").Process(target=leave).start()
else:
    busy = [threading.Thread(target=place, args=(60,)) for _ in range(3)]
    for thread in busy:
        thread.start()
    for _ in range(6):
        if os.fork() == 0:
            child()
            os._exit(0)
    for thread in busy:
        thread.join()
place(1)
tell("parent", exporter.flush(20.0))
for _ in range(6 if way == "load" else 1):
    if way != "multiprocessing":
        assert os.wait()[1] == 0
"""

APPLICATION = """
import httpx
from call_initiation import Exporter

exporter = Exporter(prometheus_port=0)  # in the arbiter, before its workers are forked

def application(environ, start_response):
    with httpx.Client(base_url=UPSTREAM, trust_env=False) as client:
        exporter.instrument(client).post("/api/v2/conversations/calls", json={"phoneNumber": "+33199000000"})
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(exporter.ledgers()["attempts"].recorded).encode()]
"""


def run(server: Server, way: str) -> list[dict[str, Any]]:
    """Run a dialer that forks; return what its processes say."""
    command = [sys.executable, *FORKING, "-c", DIALER, server.url, way]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SOON, check=False)  # noqa: S603 - our own script
    assert (0, "") == (done.returncode, done.stderr)
    return sorted((json.loads(line) for line in done.stdout.splitlines()), key=lambda said: str(said["name"]))


def exported(said: dict[str, Any], stage: str) -> tuple[int, int, int, dict[str, int]]:
    """Return a stage's accounts."""
    ledger = said["books"][stage]
    assert ledger["recorded"] == ledger["exported"] + ledger["pending"] + sum(ledger["dropped"].values())
    return ledger["recorded"], ledger["exported"], ledger["pending"], ledger["dropped"]


def calls_by_process(sink: Collector) -> dict[str, float]:
    """Return how many attempts each process told the collector of, in all; deltas are added up."""
    found: dict[str, float] = {}
    for message in sink.messages("/v1/metrics"):
        for resource in message.resource_metrics:
            name = attributes(resource.resource.attributes)["service.instance.id"]
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    if metric.name == "call_initiation.attempts":
                        values = [point.as_double for point in metric.sum.data_points]
                        assert min(values) >= 0
                        found[name] = found.get(name, 0) + sum(values)
    return found


@pytest.fixture(autouse=True)
def _deltas(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child's first delta would be negative if it were counted from its parent's last."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")


@pytest.mark.parametrize("way", ["fork", "multiprocessing"])
def test_parent_and_child_keep_apart(way: str, sink: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """The child counts from zero on threads of its own, and every call of both arrives once."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", sink.url)
    with Server(always(REFUSAL)) as server:
        child, parent = run(server, way)
        assert 6 == len(server.received)
    assert (True, True) == (child["flushed"], parent["flushed"])
    for stage in ("attempts", "spans", "events"):
        assert ((2, 2, 0, {}), (4, 4, 0, {})) == (exported(child, stage), exported(parent, stage))
    assert ((0, 0, 0, {}), (1, 1, 0, {})) == (exported(child, "updates"), exported(parent, "updates"))
    assert {"call-initiation-recorder", "call-initiation-spans"} <= {*parent["threads"]}
    assert {"call-initiation-recorder", "call-initiation-spans"} <= {*child["threads"]} or way == "multiprocessing"
    assert (2, 4) == (child["failures"], parent["failures"])
    assert child["url"] is None
    assert parent["url"]
    assert 6 == len({span.span_id for span in sink.spans()}) == len(sink.spans()) == len(sink.records())
    assert [2, 4] == sorted(calls_by_process(sink).values())
    spans = [resource["service.instance.id"] for resource in sink.resources("/v1/traces", "spans")]
    logs = [resource["service.instance.id"] for resource in sink.resources("/v1/logs", "logs")]
    assert {*spans} == {*logs} == calls_by_process(sink).keys()


def test_a_child_leaves_its_parents_pending_calls_to_its_parent(
    sink: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits at the fork is exported once, by the parent."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", sink.url)
    with Server(always(REFUSAL)) as server:
        child, parent = run(server, "pending")
    assert ((2, 2, 0, {}), (4, 4, 0, {})) == (exported(child, "spans"), exported(parent, "spans"))
    assert 6 == len({span.span_id for span in sink.spans()}) == len(sink.spans())


def test_forks_under_load_do_not_hang(sink: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever locks were held at that moment by other threads."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", sink.url)
    with Server(always(REFUSAL)) as server:
        *children, parent = run(server, "load")
        calls = len(server.received)
    assert [(2, 2, 0, {})] * 6 == [exported(child, "spans") for child in children]
    assert (184, 184, 0, {}) == exported(parent, "spans")
    assert calls == 184 + 12 == len({span.span_id for span in sink.spans()}) == len(sink.spans())


def test_a_child_speaks_grpc_too(sink: Collector, rotel: Rotel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its parent's channel was in use; it makes one of its own."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", rotel.grpc)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    with Server(always(REFUSAL)) as server:
        child, parent = run(server, "fork")
        sink.wait(lambda: len(sink.spans()) >= 6)
    assert ((2, 2, 0, {}), (4, 4, 0, {})) == (exported(child, "spans"), exported(parent, "spans"))
    assert 6 == len({span.span_id for span in sink.spans()}) == len(sink.spans())


def test_gunicorn_preloads_the_exporter(sink: Collector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its workers are forked from a process that has an exporter; each exports all that its requests placed."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", sink.url)
    port, requests = free_port(), 12
    with Server(always(REFUSAL)) as server:
        (tmp_path / "dialer.py").write_text(f"UPSTREAM = {server.url!r}\n{APPLICATION}")
        options = ["--preload", "--workers", "2", "--bind", f"127.0.0.1:{port}", "--chdir", str(tmp_path)]
        command = [sys.executable, "-m", "gunicorn", *options, "dialer:application"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:  # noqa: S603 - a real server
            try:
                _await(f"http://127.0.0.1:{port}", process)
                for _ in range(requests):
                    assert 200 == httpx.get(f"http://127.0.0.1:{port}", trust_env=False, verify=TRUST).status_code
                process.send_signal(signal.SIGTERM)
                _, said = process.communicate(timeout=SOON)
            finally:
                process.kill()
        placed = len(server.received)
    assert (0, False) == (process.returncode, "Traceback" in said), said
    assert placed > requests
    assert placed == len({span.span_id for span in sink.spans()}) == len(sink.spans()) == len(sink.records())
    by_process = calls_by_process(sink)
    assert placed == sum(by_process.values())
    assert {resource["service.instance.id"] for resource in sink.resources("/v1/traces", "spans")} <= by_process.keys()


def _await(url: str, process: subprocess.Popen[str]) -> None:
    """Wait until a server answers (its first answers place calls, too)."""
    pause = Event()
    for _ in range(int(PATIENCE / 0.1)):
        assert process.poll() is None, process.stderr and process.stderr.read()
        try:
            httpx.get(url, trust_env=False, verify=TRUST)
        except httpx.ConnectError:
            pause.wait(0.1)
        else:
            return
