"""Where spans, events and metrics go: into a dialer's own pipelines, or through ours to a collector.

Each of the three stands alone. A provider that was handed over wins over an exporter that was, and this one over the
standard `OTEL_*` variables; where there is none of them, nothing is made and nothing is sent.
"""

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from threading import Lock
from time import time_ns
from typing import Any, Final, TypeVar, cast

from opentelemetry import trace
from opentelemetry._logs import Logger, LoggerProvider, LogRecord
from opentelemetry.metrics import MeterProvider
from opentelemetry.sdk._logs import LogRecordLimits, ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExporter
from opentelemetry.sdk.metrics.export import MetricExporter, MetricsData
from opentelemetry.sdk.resources import OTELResourceDetector, Resource, ServiceInstanceIdResourceDetector
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace import Tracer as SdkTracer
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.util.types import AttributeValue

from call_initiation import nesting
from call_initiation.calls.observation import Observation
from call_initiation.calls.tracing import Tracing
from call_initiation.catalogue import SCHEMA_URL, SCOPE
from call_initiation.errors import SettingsError
from call_initiation.events import Attempt, Sink
from call_initiation.journal.backlog import Files
from call_initiation.log import Log
from call_initiation.recording.aggregate import View
from call_initiation.recording.assessment import glance
from call_initiation.telemetry import collector, otlp
from call_initiation.telemetry.delivery import Delivered, Delivery, HandedOver, MetricsDelivery, Passing, Verdict
from call_initiation.telemetry.meters import MeterSink

Limits = TypeVar("Limits", SpanLimits, LogRecordLimits)

_LONGEST_RESOURCE: Final = 4_000
"""Bytes of a resource in a journal."""

_logger = Log()


class Pipelines:
    """The pipelines that there are: sinks for the recorder, and deliveries that keep accounts.

    Args:
        snapshot: What the metrics are read from.
        environment: The standard variables, with what a preset says.
        version: Of this program.
        files: Where failures wait for our own pipelines; None where they wait in memory.

    Attributes:
        sinks: What the recorder is to tell, by the name of the stage.
        journaled: The same of the stages that deliver what waits in files: to be told only what doesn't.
        deliveries: What passes on, in the order in which it was made.
    """

    def __init__(
        self,
        snapshot: Callable[[], View],
        environment: Mapping[str, str],
        version: str,
        files: Files | None = None,
    ) -> None:
        self.sinks: dict[str, Sink] = {}
        self.journaled: dict[str, Sink] = {}
        self._files = files
        self.deliveries: list[Delivery[Any] | Passing[Any] | MetricsDelivery] = []
        self._snapshot = snapshot
        self._environment = environment
        self._version = version
        self._latest = otlp.LatestAttributes()
        self._begin()

    def _begin(self) -> None:
        self._since = time_ns()
        self._found: Resource | None = None
        self._is_told = False
        self._finding = Lock()

    def start(self) -> None:
        """Begin to deliver; what could have no thread before tries again."""
        for delivery in self.deliveries:
            delivery.start()

    def reset(self) -> None:
        """Begin anew as another process: what is held is the parent's to deliver."""
        self._begin()
        for delivery in self.deliveries:
            delivery.reset()
        self.start()

    def identity(self) -> Resource:
        """Return who we are.

        A detector may take seconds to find that out, and has a thread of its own: so it is found out once, when one of
        our own threads begins, and neither the dialer's start nor a fork waits for it.
        """
        return self._found or self._find()

    def _find(self) -> Resource:
        with self._finding:
            try:
                self._found = self._found or Resource.create()
            except Exception as error:  # noqa: BLE001 - no thread can be had now, or a detector is at fault
                if not self._is_told:  # each record asks anew
                    _logger.warning("detecting the resource failed: %s", type(error).__name__)
                self._is_told = True
                return _undetected()
            return self._found

    def resource(self) -> bytes:
        """Return who we are, as a journal keeps it; empty where that is too long."""
        said = json.dumps(dict(self.identity().attributes)).encode()
        return said if len(said) <= _LONGEST_RESOURCE else b""

    def spans(self, provider: trace.TracerProvider | None, exporter: SpanExporter | None) -> Tracing:
        """Put the spans' pipeline together; return what begins them.

        Raises:
            SettingsError: The provider isn't the SDK's, or a standard variable can't be used.
        """
        if provider is not None:
            if not isinstance(provider, TracerProvider):
                raise SettingsError("tracer_provider", repr(type(provider)), "a TracerProvider of opentelemetry-sdk")
            return self._joined_spans(provider)
        if (connect := collector.spans(exporter, self._environment)) is None:
            return Tracing(describe=_described)
        scope, limits = otlp.scope(self._version), _read(SpanLimits)

        def made(attempt: Attempt, resource: bytes) -> ReadableSpan | None:
            return otlp.span_of(attempt, otlp.attributes(attempt), self._resource_of(resource), scope, limits)

        spans: Delivery[ReadableSpan] = self._delivery("spans", connect, made, exporter)
        sink = otlp.SpanSink(spans.put, self._latest, self.identity, self._version, limits)
        (self.sinks if self._files is None else self.journaled)["spans"] = sink
        provider = TracerProvider(resource=Resource.get_empty(), shutdown_on_exit=False, span_limits=limits)
        return Tracing(provider, _described)

    def _joined_spans(self, provider: TracerProvider) -> Tracing:
        tracer = provider.get_tracer(SCOPE, self._version)
        if not isinstance(tracer, SdkTracer):  # OTEL_SDK_DISABLED: the provider hands out tracers that do nothing
            return Tracing(describe=_described)
        spans: Passing[ReadableSpan] = Passing("spans", tracer.span_processor.on_end)
        self.deliveries.append(spans)
        limits = getattr(provider, "_span_limits", None) or _read(SpanLimits)  # the SDK has no public name for them
        self.sinks["spans"] = otlp.SpanSink(spans.put, self._latest, lambda: provider.resource, self._version, limits)
        return Tracing(provider, _described)

    def events(
        self, provider: LoggerProvider | None, exporter: LogRecordExporter | None, extra: dict[str, str]
    ) -> None:
        """Put the failure events' pipeline together; each event gets the `extra` attributes."""
        if provider is not None:
            logger = provider.get_logger(SCOPE, self._version, SCHEMA_URL)
            passing: Passing[LogRecord] = Passing("events", _own_attributes(logger))
            self.deliveries.append(passing)
            self.sinks["events"] = otlp.EventSink(passing.put, self._latest, extra)
        elif (connect := collector.events(exporter, self._environment)) is not None:
            scope, limits = otlp.scope(self._version), _read(LogRecordLimits)

            def made(attempt: Attempt, resource: bytes) -> ReadableLogRecord:
                record = otlp.record_of(attempt, {**otlp.attributes(attempt), **extra})
                return otlp.readable(record, self._resource_of(resource), scope, limits)

            events: Delivery[ReadableLogRecord] = self._delivery("events", connect, made, exporter)
            sink = otlp.EventSink(
                lambda record: events.put(otlp.readable(record, self.identity(), scope, limits)), self._latest, extra
            )
            (self.sinks if self._files is None else self.journaled)["events"] = sink

    def metrics(self, provider: MeterProvider | None, exporter: MetricExporter | None) -> None:
        """Put the metrics' pipeline together."""
        if provider is not None:
            self.sinks["meters"] = MeterSink(provider, self._version, self._snapshot)
        elif (connect := collector.metrics(exporter, self._environment)) is not None:
            self._metrics_delivery(connect, exporter)

    def _metrics_delivery(self, connect: collector.Connect[MetricsData], exporter: MetricExporter | None) -> None:
        temporality = collector.temporality(self._environment, exporter)
        has_exemplars = collector.has_exemplars(self._environment)

        def connected() -> Callable[[], Verdict]:
            export = connect()
            view = otlp.MetricsView(
                temporality, self.identity(), self._version, self._since, has_exemplars=has_exemplars
            )

            def exported() -> Verdict:
                verdict = export(view.data(self._snapshot(), time_ns()))
                if verdict.delivered is Delivered.YES:
                    view.delivered()
                return verdict

            return exported

        interval = collector.limits(self._environment).metrics_interval
        self.deliveries.append(MetricsDelivery(connected, interval, self.identity, exporter))

    def _delivery(
        self,
        stage: str,
        connect: collector.Connect[Any],
        made: Callable[[Attempt, bytes], Any],
        handed_over: HandedOver | None,
    ) -> Delivery[Any]:
        limits = collector.limits(self._environment)
        delivery: Delivery[Any] = Delivery(
            stage,
            connect,
            capacity=limits.capacity,
            batch=limits.batch,
            interval=limits.interval,
            prepare=self.identity,
            handed_over=handed_over,
            backlog=None if self._files is None else self._files.backlog(stage, made),
        )
        self.deliveries.append(delivery)
        return delivery

    def _resource_of(self, said: bytes) -> Resource:
        """Return the resource of who recorded a call; our own where that can't be read."""
        return _resource(said) or self.identity()


def _undetected() -> Resource:
    """Return who we are by those detectors alone that are always asked, and need no thread."""
    unknown = Resource({"service.name": "unknown_service"})
    return unknown.merge(ServiceInstanceIdResourceDetector().detect()).merge(OTELResourceDetector().detect())


def _read(limits: Callable[[], Limits]) -> Limits:
    """Return the SDK's limits of attributes, as the standard variables have them.

    Raises:
        SettingsError: One of them can't be used.
    """
    try:
        return limits()
    except ValueError as error:
        key, *_, found = str(error).split()
        raise SettingsError(key, repr(found), "a whole number from 0 on") from None


@lru_cache(maxsize=64)
def _resource(said: bytes) -> Resource | None:
    """Return the resource that a journal tells of, if it does."""
    try:
        attributes: object = nesting.loads(said)
    except ValueError:
        return None
    return Resource(cast("dict[str, AttributeValue]", attributes)) if isinstance(attributes, dict) else None


def _own_attributes(logger: Logger) -> Callable[[LogRecord], None]:
    """Return what gives a dialer's logger a record; its processors may change the attributes, which the span shares."""

    def emit(record: LogRecord) -> None:
        record.attributes = dict(record.attributes or {})
        logger.emit(record)

    return emit


def _described(observation: Observation) -> otlp.Attributes:
    """Return the attributes that another instrumentation's span can be told of a call that still runs."""
    return otlp.attributes_so_far(glance(observation))
