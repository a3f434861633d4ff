"""What must not matter to a call: where telemetry goes, who scrapes it, and what an answer unpacks to.

Two gateways, or one in two moods, take turns in short rounds, who goes first changing with each; what is printed is the
median of the pairs and their quartiles, for on a machine with other work two rounds side by side have more in common
than all the rounds of one.
"""

import socket
import statistics
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from threading import Event, Thread
from typing import Final

import brotli
import httpx
import psutil

from _load import Loaded, free_port, number, ours, peer, process, spread
from _peers import CALLS

PACE: Final = 250
TAKEN: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n"


def collectors(pairs: int) -> None:
    """Print what a collector that takes nothing costs, beside one that takes everything at once."""
    with ExitStack() as stack:
        folder, upstream, well = Path(stack.enter_context(tempfile.TemporaryDirectory())), free_port(), free_port()
        hole: int = stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1]
        (folder / "taken").write_bytes(TAKEN)
        stack.enter_context(process(peer("api", upstream), upstream, is_measured=False))
        stack.enter_context(process(peer("api", well, folder / "taken"), well, is_measured=False))
        found = []
        for name, collector in (("well", well), ("a black hole", hole)):
            port, endpoint = free_port(), f"http://127.0.0.1:{collector}"
            protocol = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}
            found.append(Loaded(name, port, stack.enter_context(process(ours(port, upstream), port, **protocol))))
        for turn in range(pairs):
            for one, other in (found, found[::-1]) if turn % 2 else (found[::-1], found):
                other.process.suspend()  # what it still has to export is for its own rounds
                one.load(16, 1)
                other.process.resume()
    print(f"{'collector':<18}{'requests/s':>12}{'CPU each, µs':>14}")
    for one in found:
        print(f"{one.name:<18}{one.median('rate'):>12.0f}{one.median('cpu'):>14.0f}")
    both = list(zip(found[1].rounds[16], found[0].rounds[16], strict=True))
    print(f"the black hole by the well one, median and quartiles of {pairs} pairs:")
    print(f"  requests/s {spread(hole.rate / well.rate for hole, well in both)}")
    print(f"  CPU each   {spread(hole.cpu / well.cpu for hole, well in both)}")


def scrapes(pairs: int, seconds: int) -> None:
    """Print what a scrape a second costs calls that come at a steady pace, with every metric at its cap."""
    took: list[float] = []
    rounds: dict[str, list[tuple[float, float]]] = {"quiet": [], "scraped": []}
    with ExitStack() as stack:
        upstream, port, metrics = free_port(), free_port(), free_port()
        stack.enter_context(process(peer("api", upstream), upstream, is_measured=False))
        stack.enter_context(process(peer("full", port, upstream, metrics), port))
        paced(port, 1)
        for turn in range(pairs):
            for name in rounds if turn % 2 else reversed(rounds):
                with scraping(metrics, took) if name == "scraped" else nullcontext():
                    rounds[name].append(paced(port, seconds))
    print(f"{f'{PACE} calls a second':<18}{'p50, ms':>12}{'p99, ms':>14}")
    for name, found in rounds.items():
        p50, p99 = (statistics.median(column) for column in zip(*found, strict=True))
        print(f"{name:<18}{p50:>12.2f}{p99:>14.2f}")
    both = zip(rounds["scraped"], rounds["quiet"], strict=True)
    print(f"p99 added by a scrape a second, in ms, median and quartiles of {pairs} pairs:")
    print(f"  {spread(scraped[1] - quiet[1] for scraped, quiet in both)}")
    print(f"a scrape took, in ms, {spread((1000 * one for one in took), 0)}")


def paced(port: int, seconds: int) -> tuple[float, float]:
    """Place calls at a steady pace on one connection; return their p50 and p99 in milliseconds."""
    body = b'{"phoneNumber": "+33199000000"}'
    request = b"POST %b HTTP/1.1\r\nHost: gateway\r\nContent-Length: %d\r\n\r\n%b" % (CALLS.encode(), len(body), body)
    took = []
    with socket.create_connection(("127.0.0.1", port)) as connection:
        began = time.perf_counter()
        for n in range(PACE * seconds):
            time.sleep(max(0.0, began + n / PACE - time.perf_counter()))
            sent = time.perf_counter()
            connection.sendall(request)
            assert connection.recv(65_536)
            took.append(1000 * (time.perf_counter() - sent))
    percentiles = statistics.quantiles(took, n=100)
    return percentiles[49], percentiles[98]


@contextmanager
def scraping(port: int, took: list[float]) -> Iterator[None]:
    """Scrape once a second meanwhile; list the seconds that each scrape took."""
    is_over = Event()

    def scrape() -> None:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            while not is_over.wait(0.5):  # in the middle of each second, so that rounds have as many as seconds
                began = time.perf_counter()
                client.get("/metrics").raise_for_status()
                took.append(time.perf_counter() - began)
                if is_over.wait(0.5):
                    return

    thread = Thread(target=scrape)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def brotlied(window: int) -> bytes:
    """Return a gibibyte of zeros, as Brotli has it."""
    stream = brotli.Compressor(quality=5, lgwin=window)
    return b"".join(_squeezed(stream.process, stream.finish, 1024))


def gzipped(whole: Iterable[bytes] = (), mebibytes: int = 200) -> bytes:
    """Return zeros, or something whole, as gzip has it."""
    stream = zlib.compressobj(wbits=31)
    if whole:
        return b"".join([*map(stream.compress, whole), stream.flush()])
    return b"".join(_squeezed(stream.compress, stream.flush, mebibytes))


def _squeezed(compress: Callable[[bytes], bytes], flush: Callable[[], bytes], mebibytes: int) -> Iterator[bytes]:
    for _ in range(mebibytes):
        yield compress(bytes(1 << 20))
    yield flush()


BOMBS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "br, 1 GiB": ("br", lambda: brotlied(22)),
    "br, 16 MiB window": ("br", lambda: brotlied(24)),
    "gzip, 200 MiB": ("gzip", gzipped),
    "gzip of gzip": ("gzip, gzip", lambda: gzipped([gzipped()])),
}


def bombs(each: int = 10) -> None:
    """Print what a bomb costs that passes through the gateway."""
    print(f"{'bomb':<20}{'wire bytes':>12}{'memory more, MB':>18}{'CPU each, ms':>14}")
    for name, (coding, make) in BOMBS.items():
        body = make()
        head = f"HTTP/1.1 400 Bad Request\r\nContent-Encoding: {coding}\r\nContent-Length: {len(body)}\r\n\r\n"
        with ExitStack() as stack:
            answer = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "answer"
            answer.write_bytes(head.encode() + body)
            upstream, port = free_port(), free_port()
            stack.enter_context(process(peer("api", upstream, answer), upstream, is_measured=False))
            gateway = stack.enter_context(process(ours(port, upstream), port, CALL_INITIATION_SETTLE="0"))
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as dialer:
                more, spent = _cost(gateway, lambda client=dialer, whole=body: _defused(client, whole), each)  # type: ignore[misc]
        print(f"{name:<20}{len(body):>12}{more / 1e6:>18.1f}{spent * 1000:>14.1f}")


def _defused(dialer: httpx.Client, body: bytes) -> None:
    """Place a call; its answer must be the bomb, unopened."""
    with dialer.stream("POST", CALLS, content=b"{}") as response:
        assert body == b"".join(response.iter_raw())


def _cost(gateway: psutil.Process, call: Callable[[], None], each: int) -> tuple[int, float]:
    """Return the bytes by which the gateway's memory grew at its peak, and the processor's seconds for each call.

    What is loaded with the first call is no matter of the bomb, but it is counted: there is only the bomb to call with.
    """
    time.sleep(1)
    Path(f"/proc/{gateway.pid}/clear_refs").write_text("5")  # its peak begins anew (proc(5))
    before, spent = gateway.memory_info().rss, sum(gateway.cpu_times()[:2])
    for _ in range(each):
        call()
    time.sleep(1)  # until the last one is recorded
    status = Path(f"/proc/{gateway.pid}/status").read_text()
    return int(number(r"VmHWM:\s+(\d+)", status)) * 1024 - before, (sum(gateway.cpu_times()[:2]) - spent) / each
