"""How many instructions observing a call takes, beside OpenTelemetry's own httpx instrumentation: the same on any day.

The variants of `overhead`, each in a process of its own under valgrind's cachegrind, with few calls and with more; the
difference is what a call takes, and what is more than the bare client's is what is added. Times depend on who else uses
a machine and its caches; instructions hardly do. Needs valgrind (Debian's package of that name).

    instructions.py
"""

import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import overhead
from call_initiation.recording import recorder

FEW, MORE = 60, 260
VARIANTS = ("bare", "opentelemetry", "full", "metrics only")
PARTS = ("caller", "all")
"""Up to the answer, with the recorder at rest; and with all that the recorder and the exporters then do."""


def place(name: str, part: str, calls: int) -> None:
    """Place so many calls, and end at once."""
    recorder.TICK = 3600.0  # a look at the queue ten times a second would count the more the slower valgrind is
    with overhead.variants(settle=60.0) as found:
        for variant in found:
            variant.call()
            variant.flush()
        (variant,) = (one for one in found if one.name == name)
        for _ in range(calls):
            variant.call()
        if part == "all":
            variant.flush()
        os._exit(0)


def counted(name: str, part: str, calls: int) -> int:
    """Return the instructions of a process that places so many calls."""
    valgrind = ("valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null")
    command = [*valgrind, sys.executable, __file__, name, part, str(calls)]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    ran = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)  # noqa: S603 - ourselves
    found = re.search(r"I\s+refs:\s+([\d,]+)", ran.stderr)
    assert found is not None, ran.stderr
    return int(found[1].replace(",", ""))


def main() -> None:
    """Count, and print what is added."""
    if shutil.which("valgrind") is None:
        print("not counted: valgrind isn't installed (apt-get install valgrind)")
        return
    wanted = list(product(VARIANTS, PARTS, (FEW, MORE)))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        counts = dict(zip(wanted, pool.map(lambda one: counted(*one), wanted), strict=True))
    taken = {(n, p): (counts[n, p, MORE] - counts[n, p, FEW]) / (MORE - FEW) for n, p in product(VARIANTS, PARTS)}
    print(f"{'added per call, thousands':<28}{'caller':>10}{'ratio':>8}{'all':>10}{'ratio':>8}")
    for name in VARIANTS[1:]:
        line = f"{name:<28}"
        for part in PARTS:
            added, otel = (taken[one, part] - taken["bare", part] for one in (name, "opentelemetry"))
            line += f"{added / 1000:>10.1f}{added / otel:>8.3f}"
        print(line)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        place(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    else:
        main()
