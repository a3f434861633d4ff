"""The gateway's parts by themselves: ways to the API, and fronts that answer without one.

Transports are called directly, 16 in flight, which is why the gateway has a way to the API of its own; fronts answer by
themselves, ours with all that it checks, aiohttp's without.
"""

import subprocess

from _load import Loaded, free_port, peer, process


def transports() -> None:
    """Print what each transport does."""
    upstream = free_port()
    print(f"{'transport':<18}{'requests/s':>12}{'CPU each, µs':>14}")
    with process(peer("api", upstream), upstream, is_measured=False):
        for name in ("ours", "httpx", "httpx2", "httpx-aiohttp"):
            said = subprocess.run(peer("transport", upstream, name), capture_output=True, text=True, check=True).stdout  # noqa: S603 - our own
            rate, cost = map(float, said.split())
            print(f"{name:<18}{rate:>12.0f}{cost:>14.0f}")


def fronts(seconds: int) -> None:
    """Print what each front does."""
    print(f"{'front':<18}{'requests/s':>12}{'CPU each, µs':>14}")
    for name in ("own_front", "aiohttp_front"):
        port = free_port()
        with process(peer(name, port), port) as running:
            done = Loaded(name, port, running).load(16, seconds)
        print(f"{name.removesuffix('_front'):<18}{done.rate:>12.0f}{done.cpu:>14.0f}")
