"""OpenTelemetry's own OTLP exporters, chosen by the standard `OTEL_*` variables and made to tell more than they tell.

A signal is exported when an endpoint is set for it, or when `OTEL_<SIGNAL>_EXPORTER` says `otlp`; `none` and
`OTEL_SDK_DISABLED` turn it off. Nothing is imported before it is needed: gRPC alone is larger than the rest.

The exporters say only whether an export failed. They try again by themselves, for seconds, whatever can be tried
again (OTLP specification, "Failures"); so a failure that comes back at once is one for good.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from time import monotonic
from typing import Any, Final

from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.metrics.export import AggregationTemporality, MetricExportResult, MetricsData
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult

from call_initiation.delivery import Delivered
from call_initiation.errors import SettingsError

_AT_ONCE: Final = 0.5
"""Seconds below which an exporter hasn't tried again: its first pause is 0.8 s or more."""

_PROTOCOLS: Final = {"http/protobuf": "http", "grpc": "grpc"}
_TEMPORALITIES: Final = {
    "cumulative": AggregationTemporality.CUMULATIVE,
    "delta": AggregationTemporality.DELTA,
    "lowmemory": AggregationTemporality.DELTA,
}


class Signal(StrEnum):
    """What OTLP carries, as the environment's variables name it."""

    TRACES = "TRACES"
    LOGS = "LOGS"
    METRICS = "METRICS"


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is kept and how often it is sent.

    Attributes:
        capacity: Records that may wait.
        batch: Records that go at once.
        interval: Seconds between exports of spans and events.
        metrics_interval: Seconds between exports of metrics.
    """

    capacity: int
    batch: int
    interval: float
    metrics_interval: float


def is_on(signal: Signal, environment: Mapping[str, str] = os.environ) -> bool:
    """Tell whether a signal is to be exported.

    Raises:
        SettingsError: `OTEL_<SIGNAL>_EXPORTER` names an exporter that we don't have.
    """
    key = f"OTEL_{signal}_EXPORTER"
    named = environment.get(key, "").strip().lower()
    if named not in {"", "otlp", "none"}:
        raise SettingsError(key, repr(named), "otlp or none")
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true" or named == "none":
        return False
    endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")
    return named == "otlp" or any(environment.get(endpoint) for endpoint in endpoints)


def limits(environment: Mapping[str, str] = os.environ) -> Limits:
    """Return the limits, from the batch processors' standard variables.

    Raises:
        SettingsError: A variable holds no positive number.
    """
    return Limits(
        capacity=int(_number(environment, "OTEL_BSP_MAX_QUEUE_SIZE", 10_000)),
        batch=int(_number(environment, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 128)),
        interval=_number(environment, "OTEL_BSP_SCHEDULE_DELAY", 1_000) / 1e3,
        metrics_interval=_number(environment, "OTEL_METRIC_EXPORT_INTERVAL", 60_000) / 1e3,
    )


def temporality(environment: Mapping[str, str] = os.environ) -> AggregationTemporality:
    """Return the metrics' temporality.

    Raises:
        SettingsError: The variable holds another word.
    """
    key = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE"
    named = environment.get(key, "").strip().lower() or "cumulative"
    if named not in _TEMPORALITIES:
        raise SettingsError(key, repr(named), "cumulative, delta or lowmemory")
    return _TEMPORALITIES[named]


def protocol(signal: Signal, environment: Mapping[str, str] = os.environ) -> str:
    """Return `http` or `grpc`.

    Raises:
        SettingsError: The variable names a protocol that we don't have.
    """
    keys = (f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
    key = next((key for key in keys if environment.get(key)), keys[1])
    named = environment.get(key, "").strip().lower() or "http/protobuf"
    if named not in _PROTOCOLS:
        raise SettingsError(key, repr(named), "http/protobuf or grpc")
    return _PROTOCOLS[named]


def connect_spans() -> Callable[[Sequence[ReadableSpan]], Delivered]:
    """Make the function that exports spans."""
    exporter: Any
    if protocol(Signal.TRACES) == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as Grpc  # noqa: PLC0415 - gRPC only where asked for

        exporter = Grpc()
    else:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as Http  # noqa: PLC0415 - as above

        exporter = Http()
    return judged(exporter.export, SpanExportResult.SUCCESS)


def connect_events() -> Callable[[Sequence[ReadableLogRecord]], Delivered]:
    """Make the function that exports log records."""
    from opentelemetry.sdk._logs.export import LogRecordExportResult  # noqa: PLC0415 - only where logs are exported

    exporter: Any
    if protocol(Signal.LOGS) == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as Grpc  # noqa: PLC0415 - gRPC only where asked for

        exporter = Grpc()
    else:
        from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as Http  # noqa: PLC0415 - as above

        exporter = Http()
    return judged(exporter.export, LogRecordExportResult.SUCCESS)


def connect_metrics() -> Callable[[MetricsData], Delivered]:
    """Make the function that exports metrics."""
    exporter: Any
    if protocol(Signal.METRICS) == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as Grpc  # noqa: PLC0415 - gRPC only where asked for

        exporter = Grpc()
    else:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as Http  # noqa: PLC0415 - as above

        exporter = Http()
    return judged(exporter.export, MetricExportResult.SUCCESS)


def judged(export: Callable[[Any], Any], success: object) -> Callable[[Any], Delivered]:
    """Return `export`, made to tell a failure for now from one for good."""

    def exported(batch: Any) -> Delivered:
        began = monotonic()
        if export(batch) is success:
            return Delivered.YES
        return Delivered.NEVER if monotonic() - began < _AT_ONCE else Delivered.NOT_NOW

    return exported


def _number(environment: Mapping[str, str], key: str, default: float) -> float:
    text = environment.get(key, "").strip()
    if not text:
        return default
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise SettingsError(key, repr(text), "a number above 0")
    return number
