"""Memory: whatever an upstream sends, the exporter adds next to nothing to what the caller's own process takes."""

import subprocess
import sys
import zlib
from collections.abc import Callable, Iterable

import brotli
import pytest

from call_initiation.calls.observation import KEPT_BODY
from servers import Cut, Server, always, head
from twins import CALLS

pytestmark = pytest.mark.untraced

MEGABYTE = 1 << 20
GROWTH = 10 * MEGABYTE

DIALER = rf"""
import re, sys
from pathlib import Path
import httpx
from call_initiation import Exporter

class Kept:
    attempts = []
    def record(self, event):
        self.attempts.append((event.status_code, str(event.body), event.error_code))

exporter = Exporter(settle=0)
exporter._sinks["test"] = Kept()
client = httpx.Client(base_url=sys.argv[1], verify=False, timeout=60)
if sys.argv[2] == "wrapped":
    exporter.instrument(client)
size = 0
with client.stream("POST", "{CALLS}", json={{}}) as response:
    for piece in response.iter_raw():
        size += len(piece)
exporter.flush(30)
peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())  # getrusage's starts at the parent's
print(int(peak[1]) * 1024, size, *Kept.attempts, sep="\n")
"""


def squeezed(encode: Callable[[bytes], bytes], finish: Callable[[], bytes], megabytes: int) -> bytes:
    """Return that many megabytes of blanks, encoded."""
    return b"".join([*(encode(b" " * MEGABYTE) for _ in range(megabytes)), finish()])


def brotlied() -> bytes:
    """Return a kilobyte or so that stands for hundreds of megabytes."""
    stream = brotli.Compressor(quality=4)
    return squeezed(stream.process, stream.finish, 300)


def gzipped(content: bytes | None = None) -> bytes:
    """Return some 200 kB that stand for 200 MB, or what is given, in gzip."""
    stream = zlib.compressobj(wbits=31)
    if content is not None:
        return stream.compress(content) + stream.flush()
    return squeezed(stream.compress, stream.flush, 200)


BOMBS: dict[str, tuple[str, Callable[[], Iterable[bytes]]]] = {
    "br": ("br", lambda: [brotlied()]),
    "gzip": ("gzip", lambda: [gzipped()]),
    "gzip of gzip": ("gzip, gzip", lambda: [gzipped(gzipped())]),
    "plain": ("identity", lambda: [b" " * MEGABYTE] * 300),
}


def dial(url: str, how: str) -> list[str]:
    """Run a dialer of its own that reads the answer raw; return its peak memory, the size, and what was recorded."""
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", DIALER, url, how], capture_output=True, text=True, check=False, timeout=100
    )
    assert "" == done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_goes_off_nowhere(name: str) -> None:
    """The caller gets every byte of the wire; our copy stops at its cap, and decoding it does, too."""
    coding, make = BOMBS[name]
    pieces = [head(500, ("Content-Encoding", coding)), *make(), Cut.CLOSE]
    with Server(always(*pieces)) as server:
        bare, wrapped = (dial(server.url, how) for how in ("bare", "wrapped"))
    assert int(wrapped[0]) - int(bare[0]) < GROWTH
    size = sum(len(piece) for piece in pieces[1:-1])  # type: ignore[arg-type]
    assert [str(size)] * 2 == [bare[1], wrapped[1]]
    state = "oversized" if size > KEPT_BODY else "whole"
    assert ([], [f"(500, '{state}', 'unparsed')"]) == (bare[2:], wrapped[2:])
