"""What the gateway costs and carries, beside other proxies that could stand there, in one run on loopback.

Behind each stands the same tiny API, which refuses every call with a 400 and a JSON body; before each, wrk. Each proxy
is one process. Ours and the Python peers read each refusal's code; nginx reads no body, and shows what forwarding
alone costs. Proxies take turns, round by round, and the figures are medians over rounds; what a proxy adds is its
latency less that of the API without one, at one request in flight.

Then the gateway's parts by themselves (`_parts`), and what must not matter to a call (`_indifference`): a collector
that takes no telemetry, a scrape a second, answers that are bombs.

`python benchmarks/gateway.py [ROUNDS SECONDS]`, or with the name of a part: `proxies`, `parts`, `collectors`, `scrapes`
or `bombs`. Needs wrk and nginx (Debian packages) and, for the peers, `.engines/mitm` (a virtual environment with
mitmproxy); what isn't there is said, and left out.
"""

import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import httpx

import _indifference
import _parts
from _load import Loaded, free_port, ours, peer, process
from _peers import CALLS

IN_FLIGHT: Final = (1, 16, 64)
MITM: Final = Path(".engines") / "mitm"
MITMDUMP: Final = Path(__file__).parents[1] / MITM / "bin" / "mitmdump"

ADDON: Final = """
import collections, json
codes = collections.Counter()
def response(flow):
    if flow.response.status_code >= 400:
        codes[json.loads(flow.response.content)["code"]] += 1
"""

NGINX: Final = """
daemon off; worker_processes 1; pid {folder}/pid; error_log /dev/null;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
  uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
  upstream api {{ server 127.0.0.1:{upstream}; keepalive 64; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_pass http://api; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}
}}
"""


def commands(upstream: int, folder: Path) -> dict[str, Callable[[int], list[str]]]:
    """Return how to run each proxy that can be had here."""
    found: dict[str, Callable[[int], list[str]]] = {
        "ours": lambda port: ours(port, upstream),
        "uvicorn + httpx": lambda port: peer("uvicorn", port, upstream),
    }
    if not MITMDUMP.exists():
        print(f"mitmproxy isn't there: python3 -m venv {MITM} && {MITM}/bin/pip install mitmproxy")
    else:
        (folder / "addon.py").write_text(ADDON)
        found["mitmproxy"] = lambda port: [
            str(MITMDUMP), "--quiet", "--mode", f"reverse:http://127.0.0.1:{upstream}", "--listen-host", "127.0.0.1",
            "--listen-port", str(port), "--scripts", str(folder / "addon.py"),
        ]  # fmt: skip
    if not (nginx := shutil.which("nginx")):
        print("nginx isn't there: apt-get install nginx")
    else:
        found["nginx"] = lambda port: [nginx, "-p", str(folder), "-c", _nginx(port, upstream, folder)]
    return found


def _nginx(port: int, upstream: int, folder: Path) -> str:
    (folder / "nginx.conf").write_text(NGINX.format(port=port, upstream=upstream, folder=folder))
    return str(folder / "nginx.conf")


def proxies(rounds: int, seconds: int) -> list[Loaded]:
    """Load every proxy in turn, and the API without one."""
    with ExitStack() as stack:
        folder, upstream = Path(stack.enter_context(tempfile.TemporaryDirectory())), free_port()
        folder.chmod(0o755)
        found = [
            Loaded("none", upstream, stack.enter_context(process(peer("api", upstream), upstream, is_measured=False)))
        ]
        for name, command in commands(upstream, folder).items():
            port = free_port()
            found.append(Loaded(name, port, stack.enter_context(process(command(port), port))))
            httpx.post(
                f"http://127.0.0.1:{port}{CALLS}", content=b"{}", trust_env=False, timeout=30
            )  # some listen too soon
        for turn in range(rounds):
            for in_flight in IN_FLIGHT:
                for proxy in found[turn % len(found) :] + found[: turn % len(found)]:
                    proxy.load(in_flight, seconds)
    return found


def report(found: list[Loaded]) -> None:
    """Print the proxies' table."""
    bare = found[0]
    heads = "".join(f"{f'{n} in flight, /s':>19}" for n in IN_FLIGHT)
    print(f"{'proxy':<18}{heads}{'CPU each, µs':>14}{'added p50, ms':>15}{'added p99, ms':>15}")
    for proxy in found:
        rates = "".join(f"{proxy.median('rate', n):>19.0f}" for n in IN_FLIGHT)
        added = "".join(f"{proxy.median(figure, 1) - bare.median(figure, 1):>15.2f}" for figure in ("p50", "p99"))
        print(f"{proxy.name:<18}{rates}{proxy.median('cpu'):>14.0f}{added}")
    by_name = {proxy.name: proxy.median("rate") for proxy in found}
    for name in by_name.keys() - {"none", "ours"}:
        print(f"ours at 16 in flight is {by_name['ours'] / by_name[name]:.2f} times {name}")


def parts(seconds: int) -> None:
    """Print the tables of transports and of fronts."""
    _parts.transports()
    _parts.fronts(seconds)


def main(arguments: list[str]) -> None:
    """Run the comparisons, or those that are named, and print them."""
    named = [argument for argument in arguments if not argument.isdigit()]
    rounds, seconds = [int(argument) for argument in arguments if argument.isdigit()] or (3, 2)
    comparisons: dict[str, Callable[[], None]] = {
        "proxies": lambda: report(proxies(rounds, seconds)),
        "parts": lambda: parts(seconds),
        "collectors": lambda: _indifference.collectors(6 * rounds),
        "scrapes": lambda: _indifference.scrapes(4 * rounds, seconds),
        "bombs": _indifference.bombs,
    }
    if unknown := set(named) - set(comparisons):
        sys.exit(f"no part {', '.join(unknown)}; there are: {', '.join(comparisons)}")
    chosen = named or list(comparisons)
    if shutil.which("wrk") is None:
        print("wrk isn't there: apt-get install wrk")
        chosen = [name for name in chosen if name == "bombs"]
    for name in chosen:
        comparisons[name]()


if __name__ == "__main__":
    main(sys.argv[1:])
