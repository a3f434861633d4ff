"""What is exported, and the way to a collector; for the tests of what chooses the way and of what judges it."""

from collections.abc import Sequence

import pytest
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan

from call_initiation.telemetry import collector, otlp
from call_initiation.telemetry.verdicts import Export
from samples import REFUSED

SCOPE = otlp.scope("1.0")


def span() -> ReadableSpan:
    """Return a span."""
    made = otlp.span_of(REFUSED, otlp.attributes(REFUSED), Resource({}), SCOPE)
    assert made is not None
    return made


def record() -> ReadableLogRecord:
    """Return a failure event."""
    return otlp.readable(otlp.record_of(REFUSED, otlp.attributes(REFUSED)), Resource({}), SCOPE)


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
