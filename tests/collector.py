"""A collector that keeps what it is sent, and fails as it is told; and a real one to stand before it.

`Collector` speaks OTLP/HTTP (protobuf), the way out of `rotel`, a collector that wasn't written here. Nothing sleeps: a
test waits for what it expects to arrive.
"""

import atexit
import gzip
import os
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from sysconfig import get_config_var
from threading import Condition, Event, Thread
from typing import Any, Final, NoReturn, Self

import pytest
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span

PATIENCE: Final = 20.0
"""Seconds after which what a test waits for counts as lost."""

_REQUESTS: Final[dict[str, type[Message]]] = {
    "/v1/traces": ExportTraceServiceRequest,
    "/v1/logs": ExportLogsServiceRequest,
    "/v1/metrics": ExportMetricsServiceRequest,
}
_PARTIAL: Final[dict[str, Message]] = {
    "/v1/traces": ExportTraceServiceResponse(partial_success={"rejected_spans": 1, "error_message": "one too many"}),
    "/v1/logs": ExportLogsServiceResponse(partial_success={"rejected_log_records": 1}),
    "/v1/metrics": ExportMetricsServiceResponse(partial_success={"rejected_data_points": 1}),
}


class Fault(Enum):
    """How a collector fails."""

    BLACK_HOLE = auto()
    """It accepts, reads, and never answers."""
    SLOW = auto()
    """It answers with the status of the script, but only when a test says so (`Collector.hurry`)."""
    PARTIAL = auto()
    """It takes all but one record."""


@dataclass(frozen=True)
class Answer:
    """What a collector does with one request: a status, headers, and a fault besides."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    fault: Fault | None = None


def attributes(pairs: Any) -> dict[str, Any]:
    """Return OTLP's attributes as plain values."""
    return {pair.key: _plain(pair.value) for pair in pairs}


def _plain(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return tuple(map(_plain, value.array_value.values))
    return getattr(value, kind) if kind else None


class Collector:
    """An OTLP/HTTP collector on loopback.

    Attributes:
        answer: What it does from now on.
        requests: Every request that came whole, decoded, with its path; also those that were answered with an error.
        raw: Their bytes, unzipped.
        headers: Their headers, by names in lower case.
    """

    def __init__(self) -> None:
        self.answer = Answer()
        self.requests: list[tuple[str, Message, int]] = []
        self.raw: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self._news = Condition()
        self._over = Event()
        self._hurried = Event()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._thread = Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._server.server_port

    @property
    def url(self) -> str:
        """Its base URL, as `OTEL_EXPORTER_OTLP_ENDPOINT` wants it."""
        return f"http://127.0.0.1:{self.port}"

    def hurry(self) -> None:
        """Let slow answers go."""
        self._hurried.set()

    def messages(self, path: str, *, accepted: bool = True) -> list[Any]:
        """Return the requests to a path: those that were taken, or all."""
        return [message for to, message, status in self.requests if to == path and (status == 200 or not accepted)]

    def spans(self, *, accepted: bool = True) -> list[Span]:
        """Return the spans that were taken, or all that ever came."""
        return [
            span
            for message in self.messages("/v1/traces", accepted=accepted)
            for resource in message.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def records(self) -> list[LogRecord]:
        """Return the log records that were taken."""
        return [
            record
            for message in self.messages("/v1/logs")
            for resource in message.resource_logs
            for scope in resource.scope_logs
            for record in scope.log_records
        ]

    def metrics(self) -> list[Metric]:
        """Return the metrics that were taken, the latest last."""
        return [
            metric
            for message in self.messages("/v1/metrics")
            for resource in message.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        ]

    def resources(self, path: str, kind: str) -> list[dict[str, Any]]:
        """Return the resources' attributes of each request to a path."""
        return [
            attributes(resource.resource.attributes)
            for message in self.messages(path)
            for resource in getattr(message, f"resource_{kind}")
        ]

    def wait(self, is_there: Callable[[], bool]) -> None:
        """Wait until something has arrived."""
        with self._news:
            assert self._news.wait_for(is_there, PATIENCE), f"it didn't arrive: {len(self.requests)} requests did"

    def take(self, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        """Keep one request and say what to answer."""
        answer = self.answer
        with self._news:
            message = _REQUESTS[path]()
            message.ParseFromString(body)
            self.requests.append((path, message, answer.status))
            self.raw.append(body)
            self.headers.append(headers)
            self._news.notify_all()
        if answer.fault is Fault.BLACK_HOLE:
            self._over.wait(PATIENCE)
        elif answer.fault is Fault.SLOW:
            self._hurried.wait(PATIENCE)
        reply = _PARTIAL[path].SerializeToString() if answer.fault is Fault.PARTIAL else b""
        return answer.status, answer.headers, reply

    def close(self) -> None:
        """Stop listening: from now on its port refuses."""
        self._over.set()
        self._hurried.set()
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> Self:
        """Return itself; it listens already."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop listening."""
        self.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: whoever exports may leave at any time."""


def _handler(collector: Collector) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            sent = {name.lower(): value for name, value in self.headers.items()}
            status, headers, reply = collector.take(self.path, body, sent)
            self.send_response(status)
            for name, value in {"Content-Type": "application/x-protobuf", **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
            pass

    return Handler


def refusing_port() -> int:
    """Return a port that refuses connections, and that nobody else can have until these tests end."""
    taken = socket.socket()
    atexit.register(taken.close)
    taken.bind(("127.0.0.1", 0))  # and doesn't listen
    port: int = taken.getsockname()[1]
    return port


def free_port() -> int:
    """Return a port to listen at; until somebody does, anybody may."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@contextmanager
def black_hole() -> Iterator[int]:
    """Listen at a port where connections are accepted, whatever they speak, and never answered; yield the port."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as server:
        yield server.getsockname()[1]


@dataclass(frozen=True)
class Rotel:
    """A running collector that forwards all it gets."""

    grpc: str
    http: str


@contextmanager
def running_rotel(to: str, http: int | None = None) -> Iterator[Rotel]:
    """Run the collector `rotel`, which forwards to an OTLP/HTTP endpoint, until the end of the block.

    Args:
        to: Where it forwards to.
        http: Where it takes OTLP/HTTP; any free port by default.
    """
    found = find_spec("rotel")
    if found is None or found.origin is None:
        _give_up("there is no build of it for this Python")
    grpc, http = free_port(), http or free_port()
    with tempfile.TemporaryDirectory() as directory:
        command = [
            str(Path(found.origin).with_name("rotel-agent")),
            "start",
            *("--otlp-grpc-endpoint", f"127.0.0.1:{grpc}"),
            *("--otlp-http-endpoint", f"127.0.0.1:{http}"),
            *("--exporter", "otlp", "--otlp-exporter-protocol", "http", "--otlp-exporter-endpoint", to),
            *("--batch-timeout", "50ms", "--otlp-exporter-retry-initial-backoff", "100ms"),
            *("--pid-file", f"{directory}/pid", "--log-file", f"{directory}/log"),
        ]
        environment = {"PATH": os.environ["PATH"], "LD_LIBRARY_PATH": str(get_config_var("LIBDIR"))}
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:  # noqa: S603 - the engine
            try:
                _await_listening(process, grpc, http)
                yield Rotel(f"http://127.0.0.1:{grpc}", f"http://127.0.0.1:{http}")
            finally:
                process.kill()


def _give_up(reason: str) -> NoReturn:
    give_up = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
    give_up(f"rotel can't be run: {reason}")


def _await_listening(process: subprocess.Popen[bytes], *ports: int) -> None:
    """Wait until a process listens at its ports."""
    pause, rounds = Event(), int(PATIENCE / 0.02)
    for port in ports:
        for _ in range(rounds):
            if process.poll() is not None:
                said = process.stdout.read().decode() if process.stdout else ""
                assert "loading shared libraries" in said, said
                _give_up(f"`make engines` installs the library that it needs: {said}")
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            pause.wait(0.02)
