"""Where spans, events and metrics go: into a dialer's own pipelines, or through ours to a collector.

Each of the three stands alone. A provider that was handed over wins over an exporter that was, and this one over the
standard `OTEL_*` variables; where there is none of them, nothing is made and nothing is sent.
"""

from collections.abc import Callable, Mapping
from time import time_ns
from typing import Any

from opentelemetry import trace
from opentelemetry._logs import Logger, LoggerProvider, LogRecord
from opentelemetry.metrics import MeterProvider
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExporter
from opentelemetry.sdk.metrics.export import MetricExporter, MetricsData
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace import Tracer as SdkTracer
from opentelemetry.sdk.trace.export import SpanExporter

from call_initiation import collector, otlp
from call_initiation.aggregate import View
from call_initiation.assessment import glance
from call_initiation.catalogue import SCOPE
from call_initiation.delivery import Delivered, Delivery, MetricsDelivery, Passing
from call_initiation.errors import SettingsError
from call_initiation.events import Sink
from call_initiation.meters import MeterSink
from call_initiation.observation import Observation
from call_initiation.tracing import Tracing


class Pipelines:
    """The pipelines that there are: sinks for the recorder, and deliveries that keep accounts.

    Args:
        snapshot: What the metrics are read from.
        environment: The standard variables, with what a preset says.
        version: Of this program.

    Attributes:
        sinks: What the recorder is to tell, by the name of the stage.
        deliveries: What passes on, in the order in which it was made.
    """

    def __init__(self, snapshot: Callable[[], View], environment: Mapping[str, str], version: str) -> None:
        self.sinks: dict[str, Sink] = {}
        self.deliveries: list[Delivery[Any] | Passing[Any] | MetricsDelivery] = []
        self._snapshot = snapshot
        self._environment = environment
        self._version = version
        self._latest = otlp.LatestAttributes()
        self._resource, self._since = Resource.create(), time_ns()

    def start(self) -> None:
        """Begin to deliver."""
        for delivery in self.deliveries:
            delivery.start()

    def reset(self) -> None:
        """Begin anew as another process: what is held is the parent's to deliver."""
        self._resource, self._since = Resource.create(), time_ns()
        for delivery in self.deliveries:
            delivery.reset()
        self.start()

    def spans(self, provider: trace.TracerProvider | None, exporter: SpanExporter | None) -> Tracing:
        """Put the spans' pipeline together; return what begins them.

        Raises:
            SettingsError: The provider isn't the SDK's.
        """
        if provider is not None:
            if not isinstance(provider, TracerProvider):
                raise SettingsError("tracer_provider", repr(type(provider)), "a TracerProvider of opentelemetry-sdk")
            return self._joined_spans(provider)
        if (connect := collector.spans(exporter, self._environment)) is None:
            return Tracing(describe=_described)
        spans: Delivery[ReadableSpan] = self._delivery("spans", connect)
        self.sinks["spans"] = otlp.SpanSink(spans.put, self._latest, lambda: self._resource, self._version)
        return Tracing(TracerProvider(resource=self._resource, shutdown_on_exit=False), _described)

    def _joined_spans(self, provider: TracerProvider) -> Tracing:
        tracer = provider.get_tracer(SCOPE, self._version)
        if not isinstance(tracer, SdkTracer):  # OTEL_SDK_DISABLED: the provider hands out tracers that do nothing
            return Tracing(describe=_described)
        spans: Passing[ReadableSpan] = Passing("spans", tracer.span_processor.on_end)
        self.deliveries.append(spans)
        self.sinks["spans"] = otlp.SpanSink(spans.put, self._latest, lambda: provider.resource, self._version)
        return Tracing(provider, _described)

    def events(
        self, provider: LoggerProvider | None, exporter: LogRecordExporter | None, extra: dict[str, str]
    ) -> None:
        """Put the failure events' pipeline together; each event gets the `extra` attributes."""
        if provider is not None:
            passing: Passing[LogRecord] = Passing("events", _own_attributes(provider.get_logger(SCOPE, self._version)))
            self.deliveries.append(passing)
            self.sinks["events"] = otlp.EventSink(passing.put, self._latest, extra)
        elif (connect := collector.events(exporter, self._environment)) is not None:
            scope = otlp.scope(self._version)
            events: Delivery[ReadableLogRecord] = self._delivery("events", connect)
            self.sinks["events"] = otlp.EventSink(
                lambda record: events.put(otlp.readable(record, self._resource, scope)), self._latest, extra
            )

    def metrics(self, provider: MeterProvider | None, exporter: MetricExporter | None) -> None:
        """Put the metrics' pipeline together."""
        if provider is not None:
            self.sinks["meters"] = MeterSink(provider, self._version, self._snapshot)
        elif (connect := collector.metrics(exporter, self._environment)) is not None:
            self._metrics_delivery(connect)

    def _metrics_delivery(self, connect: collector.Connect[MetricsData]) -> None:
        temporality = collector.temporality(self._environment)

        def connected() -> Callable[[], Delivered]:
            export = connect()
            view = otlp.MetricsView(temporality, self._resource, self._version, self._since)

            def exported() -> Delivered:
                delivered = export(view.data(self._snapshot(), time_ns())).delivered
                if delivered is Delivered.YES:
                    view.delivered()
                return delivered

            return exported

        self.deliveries.append(MetricsDelivery(connected, collector.limits(self._environment).metrics_interval))

    def _delivery(self, stage: str, connect: collector.Connect[Any]) -> Delivery[Any]:
        limits = collector.limits(self._environment)
        delivery: Delivery[Any] = Delivery(
            stage, connect, capacity=limits.capacity, batch=limits.batch, interval=limits.interval
        )
        self.deliveries.append(delivery)
        return delivery


def _own_attributes(logger: Logger) -> Callable[[LogRecord], None]:
    """Return what gives a dialer's logger a record; its processors may change the attributes, which the span shares."""

    def emit(record: LogRecord) -> None:
        record.attributes = dict(record.attributes or {})
        logger.emit(record)

    return emit


def _described(observation: Observation) -> otlp.Attributes:
    """Return the attributes that another instrumentation's span can be told of a call that still runs."""
    return otlp.attributes_so_far(glance(observation))
