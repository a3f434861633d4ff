"""How long a process takes to end while its collector is a black hole, beside OpenTelemetry's own SDK.

Each script has recorded what it will export, says so, and ends as a script does; the time is from that word to its
end, over HTTP and over gRPC, in turns. The black hole takes connections and never says a word.
"""

import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

OURS = """
import httpx
from call_initiation import Exporter
exporter = Exporter(settle=0)
transport = httpx.MockTransport(lambda request: httpx.Response(400, json={"code": "bad.request"}))
client = exporter.instrument(httpx.Client(transport=transport))
for _ in range(20):
    client.post("https://api.example.com/api/v2/conversations/calls", json={"phoneNumber": "+33199000000"})
exporter.flush(0.5)
print("ready", flush=True)
"""

OPENTELEMETRY = """
import importlib, os, time
kind = "grpc" if os.environ["OTEL_EXPORTER_OTLP_PROTOCOL"] == "grpc" else "http"
exporters = importlib.import_module(f"opentelemetry.exporter.otlp.proto.{kind}.trace_exporter")
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(exporters.OTLPSpanExporter(), schedule_delay_millis=200))
tracer = provider.get_tracer("benchmark")
for _ in range(20):
    tracer.start_span("POST").end()
time.sleep(0.5)
print("ready", flush=True)
"""


@contextmanager
def black_hole() -> Iterator[int]:
    """Yield the port of a listener that takes every connection and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken: list[socket.socket] = []

        def take() -> None:
            try:
                while True:
                    taken.append(listener.accept()[0])
            except OSError:
                return

        Thread(target=take, daemon=True).start()
        yield listener.getsockname()[1]
        for connection in taken:
            connection.close()


def end_of(script: str, protocol: str, port: int) -> float:
    """Run a script; return the seconds from its last word to its end."""
    environment = {
        **os.environ,
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
    }
    command = [sys.executable, "-c", script]
    with subprocess.Popen(  # noqa: S603 - the scripts above
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        began = time.perf_counter()
        process.wait()
    return time.perf_counter() - began


def main(rounds: int = 3) -> None:
    """Print the median, and the longest, of each."""
    print(f"{'seconds to the end':<28}{'median':>10}{'longest':>10}")
    with black_hole() as port:
        for protocol in ("http/protobuf", "grpc"):
            taken: dict[str, list[float]] = {"ours": [], "opentelemetry": []}
            for _ in range(rounds):
                taken["ours"].append(end_of(OURS, protocol, port))
                taken["opentelemetry"].append(end_of(OPENTELEMETRY, protocol, port))
            for name, seconds in taken.items():
                print(f"{f'{name}, {protocol}':<28}{statistics.median(seconds):>10.2f}{max(seconds):>10.2f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
