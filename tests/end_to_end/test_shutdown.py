"""The end of a process: within two seconds however deaf the collector is, with the right exit code and honest books.

OpenTelemetry's own exporters take ten seconds here, its processors up to thirty. Machines that run tests stall now and
then, so only six seconds fail a test; what was measured is printed.
"""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from time import monotonic
from typing import Any

import pytest

from call_initiation import Ledger
from collector import Collector, black_hole, refusing_port
from servers import Server, always, answer

CALLS = 20
REFUSAL = answer(400, b'{"code":"bad.request"}')
SOON = 25.0  # seconds; OpenTelemetry's own shutdown takes up to 30

DIALER = """
import atexit, json, signal, sys, time
from dataclasses import asdict
from functools import partialmethod

atexit.register(lambda: print(json.dumps({k: asdict(v) for k, v in exporter.ledgers().items()}), flush=True))

import httpx
from call_initiation import Exporter

url, calls, busy, way = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
if not busy:
    Exporter.close = partialmethod(Exporter.close, 20.0)
exporter = Exporter(prometheus_port=0, settle=2.0 if busy else 60.0)
client = exporter.instrument(httpx.Client(base_url=url, trust_env=False))
for _ in range(calls):
    client.post("/api/v2/conversations/calls", json={"phoneNumber": "+33199000000"})
if busy:
    # Python forgets to die of SIGINT where text is compiled after it, as imports do that make named tuples.
    import opentelemetry.exporter.otlp.proto.grpc.exporter
    import opentelemetry.exporter.otlp.proto.http.trace_exporter
    import requests
    exporter.flush(busy)  # now an export is under way
if way == "handler":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
print("ready", flush=True)
if way == "with":
    with exporter:
        pass
elif way == "error":
    raise ZeroDivisionError
elif way != "end":
    while True:
        time.sleep(0.05)  # a signal just before `signal.pause` would be slept through
"""


@contextmanager
def dialer(server: Server, way: str, calls: int, busy: float) -> Iterator[subprocess.Popen[str]]:
    """Run a dialer that has placed its calls and is about to end in some way."""
    command = [sys.executable, "-c", DIALER, server.url, str(calls), str(busy), way]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own script
        try:
            yield process
        finally:
            process.kill()


def is_ready(process: subprocess.Popen[str]) -> None:
    """Wait until a dialer is about to end."""
    assert process.stdout is not None
    assert "ready\n" == process.stdout.readline()


def ended(process: subprocess.Popen[str], sent: signal.Signals | None) -> tuple[float, dict[str, Ledger], str]:
    """Return how long the end took, the last word on the books, and what was said on stderr."""
    began = monotonic()
    if sent is not None:
        process.send_signal(sent)
    assert process.stdout is not None
    assert process.stderr is not None
    # Not `communicate`, which would miss what the reading of a line has taken from the pipe besides that line.
    out, said = process.stdout.read(), process.stderr.read()
    process.wait(SOON)
    took = monotonic() - began
    books = {stage: Ledger(**ledger) for stage, ledger in json.loads(out).items()}
    for stage, ledger in books.items():
        assert ledger.recorded == ledger.exported + ledger.pending + sum(ledger.dropped.values()), stage
    return took, books, said


WAYS: list[Any] = [
    pytest.param("end", None, 0, id="end of the script"),
    pytest.param("with", None, 0, id="end of a with block"),
    pytest.param("error", None, 1, id="an exception"),
    pytest.param("wait", signal.SIGINT, -signal.SIGINT, id="Ctrl-C"),
    pytest.param("handler", signal.SIGTERM, 3, id="SIGTERM with a handler"),
]


@pytest.mark.parametrize(("way", "sent", "code"), WAYS)
def test_a_deaf_collector_holds_no_process_up(
    way: str, sent: signal.Signals | None, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every way to end: all calls were recorded, none could be delivered, each is counted as dropped at the end.

    Three dialers end side by side: before a black hole by HTTP and by gRPC, and before a port that refuses.
    """
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    with black_hole() as hole, Server(always(REFUSAL)) as server, ExitStack() as stack:
        dialers = {}
        for protocol, port in (("http/protobuf", hole), ("grpc", hole), ("http/protobuf", refusing_port())):
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
            name = f"{protocol}, {'black hole' if port == hole else 'refused'}"
            dialers[name] = stack.enter_context(dialer(server, way, CALLS, busy=0.2))
        for process in dialers.values():
            is_ready(process)
        with ThreadPoolExecutor(len(dialers)) as pool:
            ends = dict(zip(dialers, pool.map(lambda process: ended(process, sent), dialers.values()), strict=True))
        assert len(dialers) * CALLS == len(server.received)
    for name, (took, books, said) in ends.items():
        print(f"{way}, {name}: {took:.2f} s")  # noqa: T201 - the figure is the point
        assert code == dialers[name].returncode, said
        assert Ledger(recorded=CALLS, exported=CALLS) == books["attempts"]
        assert Ledger(recorded=CALLS, dropped={"shutdown": CALLS}) == books["spans"] == books["events"]
        assert ("Traceback" in said) == (code not in {0, 3})
        assert "call_initiation" not in said


@pytest.mark.parametrize("way", ["end", "with"])
def test_a_short_script_delivers_all_it_has(way: str, sink: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its calls have not even settled when it ends; it neither waits for that nor loses any.

    Nor does it wait for the next export. A busy machine may take longer than an end may, so it is given time.
    """
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", sink.url)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "3600000")
    with Server(always(REFUSAL)) as server, dialer(server, way, CALLS, busy=0) as process:
        is_ready(process)
        took, books, said = ended(process, None)
    print(f"delivered, {way}: {took:.2f} s")  # noqa: T201 - the figure is the point
    assert (0, "") == (process.returncode, said)
    everything = Ledger(recorded=CALLS, exported=CALLS)
    assert everything == books["attempts"] == books["spans"] == books["events"]
    assert (CALLS, CALLS) == (len(sink.spans()), len(sink.records()))
    assert sink.metrics()


def test_a_kill_is_a_kill(sink: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM without a handler ends a process at once, as it would without us; nothing of ours hangs on."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", sink.url)
    with Server(always(answer(202, b"{}"))) as server, dialer(server, "wait", 1, busy=0) as process:
        is_ready(process)
        process.terminate()
        assert -signal.SIGTERM == process.wait(SOON)
