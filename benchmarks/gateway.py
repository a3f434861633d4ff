"""What the gateway costs and carries, beside other proxies that could stand there, in one run on loopback.

Behind each stands the same tiny API, which refuses every call with a 400 and a JSON body; before each, wrk. Each proxy
is one process. Ours and the Python peers read each refusal's code; nginx reads no body, and shows what forwarding
alone costs. Proxies take turns, round by round, and the figures are medians over rounds; what a proxy adds is its
latency less that of the API without one, at one request in flight.

The processor's time of each proxy is measured, too: it says more than a rate where the machine has other work.

The other two tables are of the parts: transports called directly, 16 in flight, which is why the gateway has a way to
the API of its own; and fronts that answer by themselves, ours with all that it checks, aiohttp's without.

Then what must not matter: a collector that takes no telemetry, beside one that does, both gateways loaded in turn; and
answers that are bombs, which the gateway passes on unopened, and opens no further than it must for its own copy.

Needs wrk and nginx (Debian packages) and, for the peers, `.engines/mitm` (a virtual environment with mitmproxy); what
isn't there is said, and left out.
"""

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import brotli
import httpx
import psutil

IN_FLIGHT = (1, 16, 64)
CALLS = "/api/v2/conversations/calls"
ROOT = Path(__file__).parents[1]
MITM = Path(".engines") / "mitm"
MITMDUMP = ROOT / MITM / "bin" / "mitmdump"

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
ANSWER = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\n"
    b"ININ-Correlation-Id: 0b9f1b3c-51c9-4a0e-a2d8-0d2f2b7e2b1a\r\nContent-Length: %d\r\n\r\n" % len(ERROR)
) + ERROR
TAKEN = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n"

LOAD = """
wrk.method = "POST"
wrk.body = '{"phoneNumber": "+33199000000", "callFromQueueId": "5b2bfb2d-9b0e-4b5e-9a55-9a1a4dca9d11"}'
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer made-up"
wrk.headers["X-Call-Initiation-Agent-Id"] = "9d4b2d5f-6d0b-4f0e-8d1c-1f2f3a4b5c6d"
"""

ADDON = """
import collections, json
codes = collections.Counter()
def response(flow):
    if flow.response.status_code >= 400:
        codes[json.loads(flow.response.content)["code"]] += 1
"""

NGINX = """
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

# -- what runs in processes of their own -------------------------------------------------------------------------------


class Api(asyncio.Protocol):
    """Answers every request with the same bytes."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    def connection_made(self, transport: Any) -> None:
        """Begin."""
        self._transport, self._ahead = transport, b""

    def data_received(self, data: bytes) -> None:
        """Answer a request that is whole."""
        self._ahead += data
        head, end, rest = self._ahead.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        if end and len(rest) >= (size := int(length[1]) if length else 0):
            self._ahead = rest[size:]
            self._transport.write(self._answer)


async def api(port: int, answer: bytes = ANSWER) -> None:
    """Serve the tiny API, which refuses every call unless told what to answer."""
    server = await asyncio.get_running_loop().create_server(lambda: Api(answer), "127.0.0.1", port)
    await server.serve_forever()


async def asgi(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Forward by httpx, and read a refusal's code: what one writes in an afternoon."""
    if scope["type"] != "http":
        return
    body, is_more = b"", True
    while is_more:
        message = await receive()
        body, is_more = body + message.get("body", b""), message.get("more_body", False)
    headers = [(name, value) for name, value in scope["headers"] if name not in {b"host", b"content-length"}]
    response = await _client().request(scope["method"], scope["path"], content=body, headers=headers)
    if response.is_error:
        _codes[response.json()["code"]] = _codes.get(response.json()["code"], 0) + 1
    await send({"type": "http.response.start", "status": response.status_code, "headers": response.headers.raw})
    await send({"type": "http.response.body", "body": response.content})


_codes: dict[str, int] = {}
_clients: list[httpx.AsyncClient] = []


def _client() -> httpx.AsyncClient:
    if not _clients:
        limits = httpx.Limits(max_connections=128, max_keepalive_connections=128)
        _clients.append(httpx.AsyncClient(base_url=f"http://127.0.0.1:{sys.argv[3]}", limits=limits, trust_env=False))
    return _clients[0]


def uvicorn(port: int) -> None:
    """Serve the application above."""
    import uvicorn as server  # noqa: PLC0415 - a peer's

    server.run(asgi, host="127.0.0.1", port=port, access_log=False, log_level="error", lifespan="off")


async def own_front(port: int) -> None:
    """Serve our front without anything behind it."""
    from call_initiation import answers  # noqa: PLC0415 - not in the peers' processes
    from call_initiation.admission import Passage, Rules  # noqa: PLC0415 - as above
    from call_initiation.front import Front, Patience  # noqa: PLC0415 - as above

    class Answering:
        rules, patience = Rules(), Patience()

        def opened(self, front: Front) -> bool:
            return front is not None

        def closed(self, front: Front) -> None: ...

        def left(self, front: Front) -> None: ...

        def serve(self, front: Front, passage: Passage, content: bytes) -> None:
            assert content
            headers = [(b"Content-Type", b"application/json")]
            answer = answers.whole(400, b"Bad Request", headers, ERROR, method=passage.method)
            front.write(answer.head() + answer.content)
            front.done()

    server = await asyncio.get_running_loop().create_server(lambda: Front(Answering()), "127.0.0.1", port)
    await server.serve_forever()


async def aiohttp_front(port: int) -> None:
    """Serve aiohttp's low-level server without anything behind it."""
    from aiohttp import web  # noqa: PLC0415 - a peer's

    async def refuse(request: web.BaseRequest) -> web.Response:
        assert await request.read()
        return web.Response(status=400, body=ERROR, content_type="application/json")

    server = await asyncio.get_running_loop().create_server(web.Server(refuse, access_log=None), "127.0.0.1", port)
    await server.serve_forever()


async def transport(upstream: int, name: str, seconds: float = 2.0, in_flight: int = 16) -> None:
    """Call a transport directly for a while; print the requests a second and the processor's microseconds for each."""
    module, made = _transport(name, upstream)
    url = f"http://127.0.0.1:{upstream}{CALLS}"
    headers = [("Host", f"127.0.0.1:{upstream}"), ("Authorization", "Bearer made-up"), ("Content-Length", "31")]
    body, count, end = b'{"phoneNumber": "+33199000000"}', 0, time.perf_counter() + seconds

    async def calls() -> None:
        nonlocal count
        while time.perf_counter() < end:
            request = module.Request(
                "POST", url, headers=headers, content=body, extensions={"target": CALLS.encode(), "timeout": {}}
            )
            response = await made.handle_async_request(request)
            async for _ in response.stream:
                pass
            await response.aclose()
            count += 1

    began, processor = time.perf_counter(), time.process_time()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(in_flight):
            tasks.create_task(calls())
    spent = time.process_time() - processor
    print(count / (time.perf_counter() - began), spent / count * 1e6)
    await made.aclose()


def _transport(name: str, upstream: int) -> tuple[Any, Any]:
    """Return a module for requests and a transport, set up as for a gateway."""
    if name == "ours":
        from call_initiation.relay import Origin, Upstream  # noqa: PLC0415 - not in the peers' processes

        return httpx, Upstream(Origin("127.0.0.1", upstream))
    if name == "httpx-aiohttp":
        import httpx_aiohttp  # noqa: PLC0415 - a peer's

        return httpx, httpx_aiohttp.AiohttpTransport(limits=httpx.Limits(max_connections=128))
    import httpx2  # noqa: PLC0415 - a peer's

    module: Any = {"httpx": httpx, "httpx2": httpx2}[name]
    limits = module.Limits(max_connections=128, max_keepalive_connections=128)
    return module, module.AsyncHTTPTransport(limits=limits)


# -- the comparison -------------------------------------------------------------------------------------------------


@dataclass
class Proxy:
    """What wrk is pointed at.

    Attributes:
        name: What it is called in the table.
        port: Where it listens.
        process: What runs it.
        cpu: Microseconds of the processor for each request, by how many are in flight.
        rates: Requests a second, by how many are in flight.
        p50: Milliseconds, by the same.
        p99: Milliseconds, by the same.
    """

    name: str
    port: int
    process: psutil.Process
    cpu: dict[int, list[float]] = field(default_factory=lambda: {n: [] for n in IN_FLIGHT})
    rates: dict[int, list[float]] = field(default_factory=lambda: {n: [] for n in IN_FLIGHT})
    p50: dict[int, list[float]] = field(default_factory=lambda: {n: [] for n in IN_FLIGHT})
    p99: dict[int, list[float]] = field(default_factory=lambda: {n: [] for n in IN_FLIGHT})

    def load(self, script: Path, in_flight: int, seconds: int) -> None:
        """Have wrk at it for a while."""
        command = ["wrk", "-t1", f"-c{in_flight}", f"-d{seconds}s", "--latency", "-s", str(script)]
        before = self._spent()
        said = subprocess.run(  # noqa: S603 - a program that this benchmark names
            [*command, f"http://127.0.0.1:{self.port}{CALLS}"], capture_output=True, text=True, check=True
        ).stdout
        served, refused = (re.findall(p, said) for p in (r"(\d+) requests in", r"Non-2xx or 3xx responses: (\d+)"))
        assert served == refused, f"{self.name} answered something else, or nothing:\n{said}"
        self.cpu[in_flight].append((self._spent() - before) / int(served[0]) * 1e6)
        self.rates[in_flight].append(_number(r"Requests/sec: +([\d.]+)", said))
        self.p50[in_flight].append(_milliseconds("50%", said))
        self.p99[in_flight].append(_milliseconds("99%", said))

    def _spent(self) -> float:
        """Return the seconds that the processor has spent on it, its workers included."""
        times = [one.cpu_times() for one in (self.process, *self.process.children(recursive=True))]
        return sum(time.user + time.system for time in times)


def _number(pattern: str, text: str) -> float:
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
def process(command: list[str], port: int, **environment: str) -> Iterator[psutil.Process]:
    """Run a program until it listens, and end it afterwards."""
    environ = {**os.environ, **environment}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environ) as running:  # noqa: S603 - programs that this file names
        try:
            for _ in range(300):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.1)
            yield psutil.Process(running.pid)
        finally:
            running.send_signal(signal.SIGTERM)
            running.wait(30)


def ours(port: int, upstream: int) -> list[str]:
    """Return how to run our gateway."""
    program = str(Path(sys.executable).with_name("call-initiation-exporter"))
    to, at = f"http://127.0.0.1:{upstream}", f"127.0.0.1:{port}"
    return [program, "serve", "--metrics-listen", "127.0.0.1:0", "--upstream", to, "--listen", at]


def commands(upstream: int, folder: Path) -> dict[str, Callable[[int], list[str]]]:
    """Return how to run each proxy that can be had here."""
    here = [sys.executable, __file__]
    found: dict[str, Callable[[int], list[str]]] = {
        "ours": lambda port: ours(port, upstream),
        "uvicorn + httpx": lambda port: [*here, "uvicorn", str(port), str(upstream)],
    }  # fmt: skip
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


def proxies(rounds: int, seconds: int) -> list[Proxy]:
    """Load every proxy in turn, and the API without one."""
    with ExitStack() as stack:
        folder, upstream = Path(stack.enter_context(tempfile.TemporaryDirectory())), free_port()
        folder.chmod(0o755)
        script = folder / "load.lua"
        script.write_text(LOAD)
        tiny = stack.enter_context(process([sys.executable, __file__, "api", str(upstream)], upstream))
        found = [Proxy("none", upstream, tiny)]
        for name, command in commands(upstream, folder).items():
            port = free_port()
            found.append(Proxy(name, port, stack.enter_context(process(command(port), port))))
            httpx.post(
                f"http://127.0.0.1:{port}{CALLS}", content=b"{}", trust_env=False, timeout=30
            )  # some listen too soon
        for turn in range(rounds):
            for in_flight in IN_FLIGHT:
                for proxy in found[turn % len(found) :] + found[: turn % len(found)]:
                    proxy.load(script, in_flight, seconds)
    return found


def report(found: list[Proxy]) -> None:
    """Print the first table."""
    bare = found[0]
    heads = "".join(f"{f'{n} in flight, /s':>19}" for n in IN_FLIGHT)
    print(f"{'proxy':<18}{heads}{'CPU each, µs':>14}{'added p50, ms':>15}{'added p99, ms':>15}")
    for proxy in found:
        rates = "".join(f"{statistics.median(proxy.rates[n]):>19.0f}" for n in IN_FLIGHT)
        added = f"{_added(proxy.p50, bare.p50):>15.2f}{_added(proxy.p99, bare.p99):>15.2f}"
        print(f"{proxy.name:<18}{rates}{statistics.median(proxy.cpu[16]):>14.0f}{added}")
    by_name = {proxy.name: statistics.median(proxy.rates[16]) for proxy in found}
    for peer in by_name.keys() - {"none", "ours"}:
        print(f"ours at 16 in flight is {by_name['ours'] / by_name[peer]:.2f} times {peer}")


def _added(own: dict[int, list[float]], bare: dict[int, list[float]]) -> float:
    return statistics.median(own[1]) - statistics.median(bare[1])


def transports() -> None:
    """Print the second table."""
    upstream = free_port()
    print(f"{'transport':<18}{'requests/s':>12}{'CPU each, µs':>14}")
    with process([sys.executable, __file__, "api", str(upstream)], upstream):
        for name in ("ours", "httpx", "httpx2", "httpx-aiohttp"):
            command = [sys.executable, __file__, "transport", str(upstream), name]
            said = subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603 - this very file
            rate, cost = map(float, said.split())
            print(f"{name:<18}{rate:>12.0f}{cost:>14.0f}")


def fronts(seconds: int) -> None:
    """Print the third table."""
    print(f"{'front':<18}{'requests/s':>12}{'CPU each, µs':>14}")
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "load.lua"
        script.write_text(LOAD)
        for name in ("own_front", "aiohttp_front"):
            port = free_port()
            with process([sys.executable, __file__, name, str(port)], port) as running:
                front = Proxy(name, port, running)
                front.load(script, 16, seconds)
            print(f"{name.removesuffix('_front'):<18}{front.rates[16][0]:>12.0f}{front.cpu[16][0]:>14.0f}")


def collectors(rounds: int, seconds: int) -> None:
    """Print what a collector that takes nothing costs, beside one that takes everything at once."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        script, upstream, well = folder / "load.lua", free_port(), free_port()
        script.write_text(LOAD)
        hole: int = stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1]
        stack.enter_context(process([sys.executable, __file__, "api", str(upstream)], upstream))
        (folder / "taken").write_bytes(TAKEN)
        stack.enter_context(process([sys.executable, __file__, "api", str(well), str(folder / "taken")], well))
        found = []
        for name, collector in (("well", well), ("a black hole", hole)):
            port, endpoint = free_port(), f"http://127.0.0.1:{collector}"
            protocol = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}
            found.append(Proxy(name, port, stack.enter_context(process(ours(port, upstream), port, **protocol))))
        for turn in range(2 * rounds):
            for proxy in found if turn % 2 else reversed(found):
                proxy.load(script, 16, seconds)
    print(f"{'collector':<18}{'requests/s':>12}{'CPU each, µs':>14}")
    for proxy in found:
        print(f"{proxy.name:<18}{statistics.median(proxy.rates[16]):>12.0f}{statistics.median(proxy.cpu[16]):>14.0f}")
    pairs = zip(found[1].rates[16], found[0].rates[16], strict=True)
    print(f"with the black hole {statistics.median(hole / well for hole, well in pairs):.2f} times as many")


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
            stack.enter_context(process([sys.executable, __file__, "api", str(upstream), str(answer)], upstream))
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
    return int(_number(r"VmHWM:\s+(\d+)", status)) * 1024 - before, (sum(gateway.cpu_times()[:2]) - spent) / each


def main(rounds: int = 3, seconds: int = 2) -> None:
    """Run the comparisons and print them."""
    if shutil.which("wrk") is None:
        print("wrk isn't there: apt-get install wrk")
    else:
        report(proxies(rounds, seconds))
        transports()
        fronts(seconds)
        collectors(rounds, seconds)
    bombs()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["api", port]:
            asyncio.run(api(int(port)))
        case ["api", port, answer]:
            asyncio.run(api(int(port), Path(answer).read_bytes()))
        case ["uvicorn", port, _]:
            uvicorn(int(port))
        case ["own_front", port]:
            asyncio.run(own_front(int(port)))
        case ["aiohttp_front", port]:
            asyncio.run(aiohttp_front(int(port)))
        case ["transport", port, name]:
            asyncio.run(transport(int(port), name))
        case numbers:
            main(*map(int, numbers))
