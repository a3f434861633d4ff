"""What is exported, and the way to a collector; for the tests of what chooses the way and of what judges it."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import pytest
from google.protobuf.message import Message
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk._logs import LogRecordLimits, ReadableLogRecord
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits

from call_initiation.telemetry import collector, otlp
from call_initiation.telemetry.verdicts import Export
from samples import REFUSED

SCOPE = otlp.scope("1.0")


def span() -> ReadableSpan:
    """Return a span."""
    made = otlp.span_of(REFUSED, otlp.attributes(REFUSED), Resource({}), SCOPE, SpanLimits())
    assert made is not None
    return made


def record() -> ReadableLogRecord:
    """Return a failure event."""
    return otlp.readable(otlp.record_of(REFUSED, otlp.attributes(REFUSED)), Resource({}), SCOPE, LogRecordLimits())


def spans_to(
    monkeypatch: pytest.MonkeyPatch, url: str, timeout: str = "10", protocol: str = "http/protobuf"
) -> Export[Sequence[ReadableSpan]]:
    """Return the export of spans to a URL."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", timeout)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
    connect = collector.spans(None)
    assert connect is not None
    return connect()


@contextmanager
def called(
    answer: Callable[[grpc.ServicerContext], Message] = lambda _: ExportTraceServiceResponse(),
    seen: list[dict[str, str]] | None = None,
    largest: int = -1,
) -> Iterator[str]:
    """Run a collector that is called over gRPC; yield its URL.

    Args:
        answer: What it answers, or how it fails; it takes all by default.
        seen: Where to put the headers of each call.
        largest: How many bytes a message may have; any number by default.
    """

    class Handler(grpc.GenericRpcHandler):
        def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
            if seen is not None:
                seen.append({str(key): str(value) for key, value in details.invocation_metadata})
            return grpc.unary_unary_rpc_method_handler(lambda _, context: answer(context).SerializeToString())

    server = grpc.server(ThreadPoolExecutor(1), [Handler()], options=[("grpc.max_receive_message_length", largest)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"http://127.0.0.1:{port}"
    server.stop(None).wait()
