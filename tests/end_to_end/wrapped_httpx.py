"""A pytest plugin for httpx's own test suite: every client is instrumented, and every request counts as a call start.

So each of the suite's requests takes the whole way of an observed call, spans included, and its tests judge the result.
What was recorded is written as JSON to the file that `WRAPPED_HTTPX_REPORT` names.
"""

import functools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from call_initiation import Exporter
from call_initiation.calls import endpoints

SPANS = InMemorySpanExporter()


def pytest_configure() -> None:
    """Instrument all clients from now on."""
    endpoints.match = lambda _method, _raw_path: endpoints.Endpoint(endpoints.CALLS)
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(SPANS))
    pytest_configure.exporter = exporter = Exporter(settle=0, tracer_provider=provider)
    for client in (httpx.Client, httpx.AsyncClient):
        client.__init__ = _instrumenting(client.__init__, exporter)


def _instrumenting(make: Callable[..., None], exporter: Exporter) -> Callable[..., None]:
    @functools.wraps(make)
    def make_and_instrument(self: Any, *args: Any, **kwargs: Any) -> None:
        make(self, *args, **kwargs)
        exporter.instrument(self)

    return make_and_instrument


def pytest_unconfigure() -> None:
    """Write down what was recorded."""
    exporter: Exporter = pytest_configure.exporter
    exporter.flush()
    ledger = exporter.ledgers()["attempts"]
    families = [f for f in exporter.aggregate.snapshot() if f.metric.name == "call_initiation.internal_errors"]
    report = {
        "recorded": ledger.recorded,
        "exported": ledger.exported,
        "spans": len(SPANS.get_finished_spans()),
        "faults": {labels[0]: number.value for f in families for labels, number in f.numbers.items()},
    }
    exporter.close()
    Path(os.environ["WRAPPED_HTTPX_REPORT"]).write_text(json.dumps(report), encoding="utf-8")
