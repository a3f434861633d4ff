"""Load from wrk on a process of its own, and what it costs: what the gateway's benchmarks share.

The processor's time is measured beside rates and latencies: it says more where the machine has other work. Each round
begins with load that isn't measured, for as long as our gateway puts its records off: else what it does for one round
would fall into the next one's, which may be another's.

What is measured has one processor to itself; wrk and the API behind have the others. Each proxy is one process of which
one thread runs at a time, so that is all that it can use, and none has to share it with its own load.
"""

import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import psutil

from _peers import CALLS

PEERS: Final = Path(__file__).with_name("_peers.py")
SETTLE: Final = 2
"""Seconds: the program's own default."""
LOAD: Final = """
wrk.method = "POST"
wrk.body = '{"phoneNumber": "+33199000000", "callFromQueueId": "5b2bfb2d-9b0e-4b5e-9a55-9a1a4dca9d11"}'
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer made-up"
wrk.headers["X-Call-Initiation-Agent-Id"] = "9d4b2d5f-6d0b-4f0e-8d1c-1f2f3a4b5c6d"
"""


_CPUS: Final = [str(cpu) for cpu in sorted(os.sched_getaffinity(0))]


def _beside(command: list[str], *, is_measured: bool) -> list[str]:
    """Return how to run a program on the processor of what is measured, or on the others."""
    cpus = _CPUS[-1:] if is_measured else _CPUS[:-1] or _CPUS
    return ["taskset", "--cpu-list", ",".join(cpus), *command]


class Round(NamedTuple):
    """What a while of load gave.

    Attributes:
        rate: Requests a second.
        cpu: The processor's microseconds for each.
        p50: Milliseconds.
        p99: Milliseconds.
    """

    rate: float
    cpu: float
    p50: float
    p99: float


@dataclass
class Loaded:
    """What wrk is pointed at.

    Attributes:
        name: What it is called in a table.
        port: Where it listens.
        process: What runs it.
        rounds: What each while of load gave, by how many requests were in flight.
    """

    name: str
    port: int
    process: psutil.Process
    rounds: dict[int, list[Round]] = field(default_factory=lambda: defaultdict(list))

    def load(self, in_flight: int, seconds: int) -> Round:
        """Have wrk at it for a while, after it has been busy for another."""
        with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
            script.write(LOAD)
            script.flush()
            self._wrk(in_flight, SETTLE, script.name)
            before = self._spent()
            said = self._wrk(in_flight, seconds, script.name)
        served, refused = (re.findall(p, said) for p in (r"(\d+) requests in", r"Non-2xx or 3xx responses: (\d+)"))
        assert served == refused, f"{self.name} answered something else, or nothing:\n{said}"
        cpu = (self._spent() - before) / int(served[0]) * 1e6
        rate = number(r"Requests/sec: +([\d.]+)", said)
        done = Round(rate, cpu, _milliseconds("50%", said), _milliseconds("99%", said))
        self.rounds[in_flight].append(done)
        return done

    def _wrk(self, in_flight: int, seconds: int, script: str) -> str:
        command = ["wrk", "-t1", f"-c{in_flight}", f"-d{seconds}s", "--latency", "-s", script]
        command = _beside([*command, f"http://127.0.0.1:{self.port}{CALLS}"], is_measured=False)
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603 - a program that this benchmark names

    def median(self, figure: str, in_flight: int = 16) -> float:
        """Return the median of a figure over the rounds."""
        column = Round._fields.index(figure)
        return statistics.median(one[column] for one in self.rounds[in_flight])

    def _spent(self) -> float:
        """Return the seconds that the processor has spent on it, its workers included."""
        times = [one.cpu_times() for one in (self.process, *self.process.children(recursive=True))]
        return sum(time.user + time.system for time in times)


def spread(values: Iterable[float], decimals: int = 2) -> str:
    """Return the median of some values, and their quartiles."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{middle:.{decimals}f} ({low:.{decimals}f} to {high:.{decimals}f})"


def number(pattern: str, text: str) -> float:
    """Return the number that a pattern finds."""
    found = re.search(pattern, text)
    assert found, text
    return float(found[1])


def _milliseconds(percentile: str, text: str) -> float:
    found = re.search(rf"{percentile} +([\d.]+)(us|ms|s)", text)
    assert found, text
    return float(found[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[found[2]]


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as one:
        port: int = one.getsockname()[1]
    return port


@contextmanager
def process(command: list[str], port: int, *, is_measured: bool = True, **environment: str) -> Iterator[psutil.Process]:
    """Run a program until it listens, and end it afterwards; what it says is shown only where it fails."""
    command, environ = _beside(command, is_measured=is_measured), {**os.environ, **environment}
    with tempfile.TemporaryFile("w+") as said, subprocess.Popen(command, stdout=said, stderr=said, env=environ) as one:  # noqa: S603 - programs that these files name
        try:
            if not _listens(port, one):
                said.seek(0)
                sys.exit(f"{command} doesn't listen on {port}:\n{said.read()}")
            yield psutil.Process(one.pid)
        finally:
            one.send_signal(signal.SIGTERM)
            one.wait(30)


def _listens(port: int, program: subprocess.Popen[bytes]) -> bool:
    """Wait until a program listens; tell whether it does."""
    for _ in range(300):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return True
        if program.poll() is not None:
            return False
        time.sleep(0.1)
    return False


def peer(name: str, port: int, *more: object) -> list[str]:
    """Return how to run one of the programs of `_peers`."""
    return [sys.executable, str(PEERS), name, str(port), *map(str, more)]


def ours(port: int, upstream: int) -> list[str]:
    """Return how to run our gateway."""
    program = str(Path(sys.executable).with_name("call-initiation-exporter"))
    to, at = f"http://127.0.0.1:{upstream}", f"127.0.0.1:{port}"
    return [program, "serve", "--metrics-listen", "127.0.0.1:0", "--upstream", to, "--listen", at]
