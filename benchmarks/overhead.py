"""What observing a call costs, beside OpenTelemetry's own httpx instrumentation, in one process and one run.

Every variant places the same refused call through an in-memory transport that reads the request and answers a 400
with a JSON body, which the caller reads. Variants take turns, round by round, so that a drift of the machine's speed
hits all alike; what is added is the difference to the bare client of the same round, and the figures are medians over
rounds. Ratios are to OpenTelemetry's added cost.

    overhead.py [ROUNDS [CALLS]]    what a call costs, with the recorder at rest while calls are placed
    overhead.py loaded [SECONDS]    what a call waits while the recorder works: 100 calls a second, then as many as go
"""

import gc
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from call_initiation import Exporter
from call_initiation.catalogue import ATTEMPTS, DURATION
from call_initiation.recording.aggregate import Aggregate

URL = "https://api.example.com/api/v2/conversations/calls"
PAYLOAD = {"phoneNumber": "+33199000000", "callFromQueueId": "5b2bfb2d-9b0e-4b5e-9a55-9a1a4dca9d11"}
TOKEN = "b64url-Like_" * 7 + "Zz"  # as long as the API's own
EXTENSION = {"call_initiation": {"agent_id": "9d4b2d5f-6d0b-4f0e-8d1c-1f2f3a4b5c6d"}}
ERROR = json.dumps(
    {
        "message": "The agent is not in a state to place a call.",
        "code": "bad.request",
        "status": 400,
        "contextId": "0b9f1b3c-51c9-4a0e-a2d8-0d2f2b7e2b1a",
        "details": [{"errorCode": "INVALID_AGENT_STATE", "fieldName": "from.agentId"}],
        "errors": [],
    }
).encode()


class Answers(httpx.BaseTransport):
    """Reads the request as a real transport does and refuses it."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Read the request and answer."""
        for _ in request.stream:  # type: ignore[union-attr]
            pass
        return httpx.Response(
            400,
            headers={"content-type": "application/json", "inin-correlation-id": "0b9f1b3c-51c9-4a0e-a2d8-0d2f2b7e2b1a"},
            stream=httpx.ByteStream(ERROR),
        )


@dataclass
class Variant:
    """A client and how to end its background work."""

    name: str
    client: httpx.Client
    flush: Callable[[], object] = lambda: None
    thread_cpu: list[float] = field(default_factory=list)
    wall_p50: list[float] = field(default_factory=list)
    wall_p99: list[float] = field(default_factory=list)
    process_cpu: list[float] = field(default_factory=list)

    def call(self) -> None:
        """Place one call."""
        self.client.post(URL, json=PAYLOAD, extensions=EXTENSION, headers={"Authorization": f"Bearer {TOKEN}"})

    def waits(self, seconds: float, pause: float) -> list[float]:
        """Place calls for so many seconds, `pause` seconds apart; return the microseconds that each took, in order."""
        walls: list[float] = []
        end = time.perf_counter() + seconds
        while (began := time.perf_counter()) < end:
            self.call()
            walls.append((time.perf_counter() - began) * 1e6)
            if pause:
                time.sleep(pause)
        self.flush()
        return sorted(walls)

    def round(self, calls: int) -> None:
        """Place `calls` calls and note what they cost."""
        walls = []
        gc.collect()
        process, thread = time.process_time_ns(), time.thread_time_ns()
        for _ in range(calls):
            began = time.perf_counter_ns()
            self.call()
            walls.append(time.perf_counter_ns() - began)
        self.thread_cpu.append((time.thread_time_ns() - thread) / calls / 1e3)
        self.flush()
        self.process_cpu.append((time.process_time_ns() - process) / calls / 1e3)
        walls.sort()
        self.wall_p50.append(walls[len(walls) // 2] / 1e3)
        self.wall_p99.append(walls[int(len(walls) * 0.99)] / 1e3)


@contextmanager
def variants(settle: float = 2.0) -> Iterator[tuple[Variant, ...]]:
    """Yield the clients to compare: bare, OpenTelemetry's, ours in full, ours with metrics only."""
    bare = Variant("bare", httpx.Client(transport=Answers()))

    spans = InMemorySpanExporter()
    processor = BatchSpanProcessor(spans)
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(processor)
    meters = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
    otel_client = httpx.Client(transport=Answers())
    HTTPXClientInstrumentor.instrument_client(otel_client, tracer_provider=tracers, meter_provider=meters)

    def flush_otel() -> None:
        processor.force_flush()
        spans.clear()

    own_spans, own_events = InMemorySpanExporter(), InMemoryLogRecordExporter()
    full = Exporter(span_exporter=own_spans, log_record_exporter=own_events, settle=settle, capacity=100_000)
    metrics = Exporter(settle=settle, capacity=100_000)
    for exporter in (full, metrics):
        exporter.agent_state(EXTENSION["call_initiation"]["agent_id"], presence="BUSY", routing_status="OFF_QUEUE")

    def flush_full() -> None:
        full.flush(60)
        own_spans.clear()
        own_events.clear()

    with full, metrics:
        yield (
            bare,
            Variant("opentelemetry", otel_client, flush_otel),
            Variant("full", full.instrument(httpx.Client(transport=Answers())), flush_full),
            Variant("metrics only", metrics.instrument(httpx.Client(transport=Answers())), lambda: metrics.flush(60)),
        )
        for exporter in (full, metrics):
            for stage, accounts in exporter.ledgers().items():
                assert accounts.recorded == accounts.exported > 0, (stage, accounts)


def added(variant: Variant, bare: Variant, figure: str) -> float:
    """Return the median over rounds of what a variant adds to the bare client, in microseconds."""
    pairs = zip(getattr(variant, figure), getattr(bare, figure), strict=True)
    return statistics.median(own - other for own, other in pairs)


def aggregate_event(events: int = 100_000) -> float:
    """Return the microseconds of one count with 5 labels and one duration."""
    aggregate = Aggregate()
    labels = [("/api/v2/conversations/calls", "rejected", "400", f"code.{n}", "busy") for n in range(20)]
    began = time.perf_counter_ns()
    for n in range(events):
        aggregate.count(ATTEMPTS, labels[n % 20])
        aggregate.observe(DURATION, labels[n % 20][:2], 0.1)
    return (time.perf_counter_ns() - began) / events / 1e3


def report(found: Iterable[Variant]) -> dict[str, dict[str, float]]:
    """Print the table; return the ratios to OpenTelemetry."""
    bare, otel, *ours = found
    figures = ("thread_cpu", "wall_p50", "wall_p99", "process_cpu")
    print(f"{'added per call, µs':<20}" + "".join(f"{name:>14}" for name in figures))
    ratios: dict[str, dict[str, float]] = {}
    for variant in (otel, *ours):
        print(f"{variant.name:<20}" + "".join(f"{added(variant, bare, name):>14.1f}" for name in figures))
    for variant in ours:
        ratios[variant.name] = {name: added(variant, bare, name) / added(otel, bare, name) for name in figures}
        print(f"{variant.name + ', ratio':<20}" + "".join(f"{ratios[variant.name][name]:>14.3f}" for name in figures))
    return ratios


def main(rounds: int = 15, calls: int = 400) -> None:
    """Run the comparison and print it."""
    with variants() as found:
        for variant in found:
            variant.round(50)
            for figure in (variant.thread_cpu, variant.wall_p50, variant.wall_p99, variant.process_cpu):
                figure.clear()
        for turn in range(rounds):
            for variant in found[turn % len(found) :] + found[: turn % len(found)]:
                variant.round(calls)
        report(found)
    print(f"one aggregate event: {aggregate_event():.2f} µs")


def loaded(seconds: int = 2, rounds: int = 5) -> None:
    """Print what a call waits more than a bare one while the recorder works beside it."""
    print(f"{'added per call, µs':<20}{'':>14}{'p50':>14}{'p99':>14}{'p99.9':>14}")
    with variants(settle=0.0) as found:
        for load, pause in (("100 calls/s", 0.01), ("saturated", 0.0)):
            taken: dict[str, list[list[float]]] = {variant.name: [] for variant in found}
            for turn in range(rounds):
                for variant in found[turn % len(found) :] + found[: turn % len(found)]:
                    walls = variant.waits(seconds, pause)
                    taken[variant.name].append([walls[int(len(walls) * share)] for share in (0.5, 0.99, 0.999)])
            bare, *others = ([statistics.median(figures) for figures in zip(*of, strict=True)] for of in taken.values())
            for variant, figures in zip(found[1:], others, strict=True):
                more = "".join(f"{own - other:>14.1f}" for own, other in zip(figures, bare, strict=True))
                print(f"{variant.name:<20}{load:>14}{more}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["loaded"]:
        loaded(*map(int, sys.argv[2:]))
    else:
        main(*map(int, sys.argv[1:]))
