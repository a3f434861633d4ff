"""OpenTelemetry's own OTLP exporters, chosen by the standard `OTEL_*` variables and made to tell more than they tell.

A signal is exported when an endpoint is set for it, or when `OTEL_<SIGNAL>_EXPORTER` says `otlp`; `none` and
`OTEL_SDK_DISABLED` turn it off. Exporters that we don't have may be those of a dialer's own SDK, whose variables these
are too: the library only warns of them, a program of ours can't mean them (`check`). Nothing is imported before it is
needed: gRPC alone is larger than the rest.

The exporters say only whether an export failed; what it means is judged by what the collector answered (`verdicts`).
"""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache, partial
from importlib import import_module
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.metrics import Counter, Histogram
from opentelemetry.sdk.metrics.export import AggregationTemporality, MetricExporter, MetricExportResult, MetricsData
from opentelemetry.sdk.metrics.view import (
    Aggregation,
    ExplicitBucketHistogramAggregation,
    ExponentialBucketHistogramAggregation,
)
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.util.re import parse_env_headers

from call_initiation.errors import SettingsError
from call_initiation.log import Log
from call_initiation.telemetry import verdicts
from call_initiation.telemetry.verdicts import Export

Batch = TypeVar("Batch")
Connect = Callable[[], Export[Batch]]
"""Makes the exporter, on first use and anew in a forked child; nothing is imported before."""

_EXPORTERS: Final = frozenset({"otlp", "none"})

_CREDENTIAL_PROVIDER: Final = "CREDENTIAL_PROVIDER"
"""Part of the variables that name an HTTP session of the operator's own for OpenTelemetry's exporters."""

_WHOLE: Final = re.compile(r"0*[1-9][0-9]{0,8}")

_OTLP: Final = "OTEL_EXPORTER_OTLP_"
_PROTOCOLS: Final = {"http/protobuf": "http", "grpc": "grpc"}
_TEMPORALITIES: Final = {
    "cumulative": AggregationTemporality.CUMULATIVE,
    "delta": AggregationTemporality.DELTA,
    "lowmemory": AggregationTemporality.DELTA,
}
_HISTOGRAMS: Final = {"explicit_bucket_histogram": False, "base2_exponential_bucket_histogram": True}
_COMPRESSIONS: Final = {"none": "NoCompression", "gzip": "Gzip", "deflate": "Deflate"}
"""The words of the standard, and of the exporters' enumerations."""
_ENUMERATIONS: Final = {"http": "opentelemetry.exporter.otlp.proto.http", "grpc": "grpc"}
"""The modules in which these are."""
_PATIENCE: Final = 10.0
"""Seconds that an exporter tries where nothing else is said."""

_logger = Log()


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
    """Tell whether a signal is to be exported."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    key, named = _exporters(signal, environment)
    if named - _EXPORTERS and "otlp" not in named:
        _warn(key, environment[key])
    endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")
    return "otlp" in named or (not named and any(environment.get(endpoint) for endpoint in endpoints))


def check(environment: Mapping[str, str]) -> None:
    """Refuse what only another program could mean.

    Raises:
        SettingsError: `OTEL_<SIGNAL>_EXPORTER` names an exporter that we don't have.
    """
    for signal in Signal:
        key, named = _exporters(signal, environment)
        if len(named) > 1 or named - _EXPORTERS:
            raise SettingsError(key, repr(environment[key].strip()), "otlp or none")


def _exporters(signal: Signal, environment: Mapping[str, str]) -> tuple[str, set[str]]:
    """Return the variable that names a signal's exporters, and their names; opentelemetry-python takes a list there."""
    key = f"OTEL_{signal}_EXPORTER"
    return key, {name for part in environment.get(key, "").split(",") if (name := part.strip().lower())}


@lru_cache
def _warn(key: str, found: str) -> None:
    """Say once that a signal goes nowhere."""
    _logger.warning("%s: found %r, expected otlp or none; we export nothing of it", key, found)


def limits(environment: Mapping[str, str] = os.environ) -> Limits:
    """Return the limits, from the batch processors' standard variables.

    Raises:
        SettingsError: A variable holds no number above 0, or a fraction where things are counted.
    """
    return Limits(
        capacity=_whole(environment, "OTEL_BSP_MAX_QUEUE_SIZE", 10_000),
        batch=_whole(environment, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 128),
        interval=_number(environment, "OTEL_BSP_SCHEDULE_DELAY", 1_000) / 1e3,
        metrics_interval=_number(environment, "OTEL_METRIC_EXPORT_INTERVAL", 60_000) / 1e3,
    )


def temporality(
    environment: Mapping[str, str] = os.environ, exporter: MetricExporter | None = None
) -> AggregationTemporality:
    """Return the metrics' temporality: what an exporter that was handed over prefers, for counters before histograms.

    Raises:
        SettingsError: The variable holds another word.
    """
    preferred: dict[type, AggregationTemporality] = getattr(exporter, "_preferred_temporality", None) or {}
    if said := preferred.get(Counter) or preferred.get(Histogram):
        return said
    key = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE"
    named = environment.get(key, "").strip().lower() or "cumulative"
    if named not in _TEMPORALITIES:
        raise SettingsError(key, repr(named), "cumulative, delta or lowmemory")
    return _TEMPORALITIES[named]


def is_exponential(environment: Mapping[str, str] = os.environ, exporter: MetricExporter | None = None) -> bool:
    """Tell whether histograms are to be base-2 exponential ones, and not ours with bounds of their own.

    An exporter that was handed over is asked first, as the SDK's readers ask it.

    Raises:
        SettingsError: The variable holds another word.
    """
    preferred: dict[type, Aggregation] = getattr(exporter, "_preferred_aggregation", None) or {}
    if isinstance(said := preferred.get(Histogram), ExponentialBucketHistogramAggregation):
        return True
    if isinstance(said, ExplicitBucketHistogramAggregation):
        return False
    key = f"{_OTLP}METRICS_DEFAULT_HISTOGRAM_AGGREGATION"
    named = environment.get(key, "").strip().lower() or "explicit_bucket_histogram"
    if named not in _HISTOGRAMS:
        raise SettingsError(key, repr(named), " or ".join(_HISTOGRAMS))
    return _HISTOGRAMS[named]


def has_exemplars(environment: Mapping[str, str] = os.environ) -> bool:
    """Tell whether metrics are to name calls; ours name those whose spans are exported, whichever filter lets them."""
    return environment.get("OTEL_METRICS_EXEMPLAR_FILTER", "").strip().lower() != "always_off"


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


def spans(
    exporter: SpanExporter | None, environment: Mapping[str, str] = os.environ
) -> Connect[Sequence[ReadableSpan]] | None:
    """Return what makes the function that exports spans: by `exporter`, else by OTLP; None where they are off.

    Raises:
        SettingsError: A standard variable can't be used.
    """
    place = ("trace_exporter", "OTLPSpanExporter")
    return _connect(Signal.TRACES, exporter, SpanExportResult.SUCCESS, place, environment)


def events(
    exporter: LogRecordExporter | None, environment: Mapping[str, str] = os.environ
) -> Connect[Sequence[ReadableLogRecord]] | None:
    """Return what makes the function that exports log records; otherwise as `spans`."""
    place = ("_log_exporter", "OTLPLogExporter")
    return _connect(Signal.LOGS, exporter, LogRecordExportResult.SUCCESS, place, environment)


def metrics(
    exporter: MetricExporter | None, environment: Mapping[str, str] = os.environ
) -> Connect[MetricsData] | None:
    """Return what makes the function that exports metrics; otherwise as `spans`."""
    place = ("metric_exporter", "OTLPMetricExporter")
    return _connect(Signal.METRICS, exporter, MetricExportResult.SUCCESS, place, environment)


def _connect(
    signal: Signal, exporter: Any, success: object, place: tuple[str, str], environment: Mapping[str, str]
) -> Connect[Any] | None:
    if exporter is not None:
        return lambda: verdicts.by_time(exporter.export, success)
    if not is_on(signal, environment):
        return None
    spoken = protocol(signal, environment)
    _check_endpoint(signal, spoken, environment)
    compression = _compression(signal, environment)
    told = {"timeout": _timeout(signal, environment), **_told(signal, spoken, environment)}
    module, name = f"opentelemetry.exporter.otlp.proto.{spoken}.{place[0]}", place[1]
    has_own_session = spoken == "http" and any(_CREDENTIAL_PROVIDER in key for key in environment)

    def connected() -> Export[Any]:
        compressions = import_module(_ENUMERATIONS[spoken]).Compression
        make = partial(getattr(import_module(module), name), compression=compressions[compression], **told)
        if has_own_session:
            return verdicts.by_time(make().export, success)
        return verdicts.by_answer(make) if spoken == "http" else verdicts.by_status(make)

    return connected


def _check_endpoint(signal: Signal, spoken: str, environment: Mapping[str, str]) -> None:
    """Refuse what no exporter could send to: over gRPC a host and a port are enough, over HTTP it is a URL."""
    key, named = _said(signal, "ENDPOINT", environment)
    try:
        parts = urlsplit(named)
        is_fit = spoken == "grpc" or not named or (parts.scheme in {"http", "https"} and bool(parts.hostname))
    except ValueError:
        is_fit = False
    if not is_fit:
        found = "what may hold a password" if "@" in named else repr(named)
        raise SettingsError(key, found, "a URL like http://collector:4318")


def _compression(signal: Signal, environment: Mapping[str, str]) -> str:
    """Return what an exporter's enumeration calls the compression, which each exporter would read in its own way."""
    key, named = _said(signal, "COMPRESSION", environment)
    word = named.lower() or "none"
    if word not in _COMPRESSIONS:
        raise SettingsError(key, repr(named), "none, gzip or deflate")
    return _COMPRESSIONS[word]


def _timeout(signal: Signal, environment: Mapping[str, str]) -> float:
    """Return for how many seconds an exporter tries: OpenTelemetry's for Python read seconds here."""
    key, named = _said(signal, "TIMEOUT", environment)
    return _number({key: named}, key, _PATIENCE)


def _said(signal: Signal, what: str, environment: Mapping[str, str]) -> tuple[str, str]:
    """Return the variable that says something of a signal, and what it says; an empty one says nothing.

    A signal with an endpoint of its own goes to somebody else, whom what a preset says doesn't concern.
    """
    own, common = f"{_OTLP}{signal}_{what}", f"{_OTLP}{what}"
    if said := environment.get(own, "").strip():
        return own, said
    is_elsewhere = environment.get(f"{_OTLP}{signal}_ENDPOINT")
    return common, (os.environ if is_elsewhere else environment).get(common, "").strip()


def _told(signal: Signal, spoken: str, environment: Mapping[str, str]) -> dict[str, Any]:
    """Return where an exporter sends to, and with what headers, as far as it can't read that in `os.environ` by itself.

    A signal with an endpoint of its own is told nothing: it goes to somebody else, whom a preset's key doesn't concern.
    """
    told: dict[str, Any] = {}
    if environment.get(f"{_OTLP}{signal}_ENDPOINT"):
        return told
    if endpoint := _unread(signal, "ENDPOINT", environment):
        told["endpoint"] = endpoint if spoken == "grpc" else f"{endpoint}/v1/{signal.lower()}"
    if headers := _unread(signal, "HEADERS", environment):
        told["headers"] = parse_env_headers(headers)
    return told


def _unread(signal: Signal, what: str, environment: Mapping[str, str]) -> str:
    """Return a variable's value where no exporter would find it, or one for this signal, in `os.environ`."""
    is_read = os.environ.get(f"{_OTLP}{signal}_{what}") or os.environ.get(f"{_OTLP}{what}")
    return "" if is_read else environment.get(f"{_OTLP}{what}", "")


def _whole(environment: Mapping[str, str], key: str, default: int) -> int:
    text = environment.get(key, "").strip()
    if text and not _WHOLE.fullmatch(text):
        raise SettingsError(key, repr(text), "a whole number above 0")
    return int(text or default)


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
