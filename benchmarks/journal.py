"""What a journal adds to a call, on the caller's path and off it.

    journal.py [ROUNDS]    default 120

The same call through a transport that answers at once, observed with and without a journal, in turns: CPU of the
caller's thread, the least and the median of rounds of 200 calls, while the recorder works beside it. Then what a
failure takes on disk, and how long a journal of 64 MiB takes to be read at a start.
"""

import statistics
import sys
import tempfile
import time
from dataclasses import replace
from itertools import count
from pathlib import Path

import httpx
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from call_initiation import Exporter
from call_initiation.journal.backlog import Files
from call_initiation.journal.entries import entry
from call_initiation.journal.segments import Record, Segment
from samples import REFUSED

CALLS = 200
URL = "https://api.example.com/api/v2/conversations/calls/user/9d4b4c1e-0000-4000-8000-000000000001"


class Spans(SpanExporter):
    """Takes spans and forgets them."""

    def export(self, spans: object) -> SpanExportResult:  # noqa: ARG002 - nothing is done with them
        """Take all."""
        return SpanExportResult.SUCCESS


class Events(LogRecordExporter):
    """Takes log records and forgets them."""

    def export(self, batch: object) -> LogRecordExportResult:  # noqa: ARG002 - nothing is done with them
        """Take all."""
        return LogRecordExportResult.SUCCESS

    def shutdown(self) -> None:
        """Do nothing."""

    def force_flush(self, timeout_millis: int = 0) -> bool:  # noqa: ARG002 - nothing waits
        """Do nothing."""
        return True


class Answering(httpx.BaseTransport):
    """Answers at once."""

    reads_stream_at_send = True

    def __init__(self, status: int) -> None:
        self._status = status

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Read the request, and answer."""
        assert isinstance(request.stream, httpx.SyncByteStream)
        b"".join(request.stream)
        return httpx.Response(self._status, stream=httpx.ByteStream(b'{"code":"bad.request"}'))


def caller(status: int, journal: str | None) -> tuple[Exporter, httpx.BaseTransport]:
    """Return an exporter, and the transport that it observes."""
    exporter = Exporter(journal=journal, settle=0.0, span_exporter=Spans(), log_record_exporter=Events())
    client = exporter.instrument(httpx.Client(transport=Answering(status)))
    return exporter, client._transport  # noqa: SLF001 - as a client would call it, without a client's own work


def timed(exporter: Exporter, transport: httpx.BaseTransport) -> float:
    """Return the caller's CPU for one call, in microseconds."""
    requests = [httpx.Request("POST", URL, json={"phoneNumber": "+33199000000"}) for _ in range(CALLS)]
    began = time.thread_time_ns()
    for request in requests:
        transport.handle_request(request)
    took = time.thread_time_ns() - began
    exporter.flush(60.0)
    return took / CALLS / 1e3


def on_the_path(rounds: int) -> None:
    """Print what a journal adds to an accepted and to a refused call."""
    for status in (202, 400):
        with tempfile.TemporaryDirectory() as folder:
            sides = [caller(status, None), caller(status, f"{folder}/journal")]
            took = [[timed(*side) for side in sides] for _ in range(rounds)]
            added = [journaled - bare for bare, journaled in took]
            least = min(journaled for _, journaled in took) - min(bare for bare, _ in took)
            print(f"a call answered with {status}: {least:.1f} µs more at least, {statistics.median(added):.1f} median")
            for exporter, _ in sides:
                exporter.close()


def on_disk() -> None:
    """Print what a failure takes, and how long it takes to read a full journal."""
    size = 64 * 2**20
    with tempfile.TemporaryDirectory() as name:
        folder, names, failures = Path(name), count(), 0
        files = Files(size)
        files.backlog("events", lambda attempt, _: attempt)
        record = Record(3, 1, entry(replace(REFUSED, started_at=time.time_ns())))
        while (failures + 64) * record.size < size * 0.95:
            files.append([record] * 32, lambda: Segment.made(folder / f"{next(names):08d}", b"{}"), lambda: None)
            failures += 32
        heir = Files(size)
        heir.backlog("events", lambda attempt, _: attempt)
        began = time.perf_counter()
        heir.adopt(sorted(folder.iterdir()))
        took = time.perf_counter() - began
    print(f"a failure takes {record.size} bytes; {failures:,} of them are read in {took:.1f} s at a start")


if __name__ == "__main__":
    on_the_path(int(sys.argv[1]) if len(sys.argv) > 1 else 120)
    on_disk()
