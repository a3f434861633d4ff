"""What the gateway's benchmarks run in processes of their own: the tiny API, peers of ours, and parts by themselves.

`python _peers.py NAME PORT …` serves one until it is ended; `transport` calls for a while and prints what it measured.
What a peer needs is imported where it is used, so that no process holds what isn't its own.
"""

import asyncio
import json
import re
import sys
import time
from pathlib import Path
from typing import Any, Final

import httpx

CALLS: Final = "/api/v2/conversations/calls"
ERROR: Final = json.dumps(
    {
        "message": "The agent is not in a state to place a call.",
        "code": "bad.request",
        "status": 400,
        "contextId": "0b9f1b3c-51c9-4a0e-a2d8-0d2f2b7e2b1a",
        "details": [{"errorCode": "INVALID_AGENT_STATE", "fieldName": "from.agentId"}],
        "errors": [],
    }
).encode()
ANSWER: Final = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\n"
    b"ININ-Correlation-Id: 0b9f1b3c-51c9-4a0e-a2d8-0d2f2b7e2b1a\r\nContent-Length: %d\r\n\r\n" % len(ERROR)
) + ERROR


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


async def full(port: int, upstream: int, metrics: int) -> None:
    """Run our gateway with every metric at its cap, as no load from outside could bring it there."""
    from call_initiation import Exporter  # noqa: PLC0415 - not in the peers' processes
    from call_initiation.program.settings import load  # noqa: PLC0415 - as above
    from call_initiation.program.sidecar import sidecar  # noqa: PLC0415 - as above

    flags = {
        "upstream": f"http://127.0.0.1:{upstream}",
        "listen": f"127.0.0.1:{port}",
        "metrics_listen": f"127.0.0.1:{metrics}",
    }
    exporter = Exporter(settle=0)
    _fill(exporter.aggregate)
    async with sidecar(load(flags=flags), exporter):
        await asyncio.Event().wait()


def _fill(aggregate: Any) -> None:
    from call_initiation.catalogue import METRICS, Kind  # noqa: PLC0415 - not in the peers' processes

    for metric in METRICS:
        for n in range(metric.max_series if metric.labels else 1):
            labels = tuple(f"{label}-{n}" for label in metric.labels)
            if metric.kind is Kind.HISTOGRAM:
                aggregate.observe(metric, labels, n / 10)
            else:
                aggregate.count(metric, labels)


async def own_front(port: int) -> None:
    """Serve our front without anything behind it."""
    from call_initiation.gateway import answers  # noqa: PLC0415 - not in the peers' processes
    from call_initiation.gateway.admission import Passage, Rules  # noqa: PLC0415 - as above
    from call_initiation.gateway.front import Front, Patience  # noqa: PLC0415 - as above

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
        from call_initiation.gateway.relay import Origin, Upstream  # noqa: PLC0415 - not in the peers' processes

        return httpx, Upstream(Origin("127.0.0.1", upstream))
    if name == "httpx-aiohttp":
        import httpx_aiohttp  # noqa: PLC0415 - a peer's

        return httpx, httpx_aiohttp.AiohttpTransport(limits=httpx.Limits(max_connections=128))
    import httpx2  # noqa: PLC0415 - a peer's

    module: Any = {"httpx": httpx, "httpx2": httpx2}[name]
    limits = module.Limits(max_connections=128, max_keepalive_connections=128)
    return module, module.AsyncHTTPTransport(limits=limits)


def main(name: str, port: int, *more: str) -> None:
    """Run what is named."""
    match name, more:
        case "api", ():
            asyncio.run(api(port))
        case "api", (answer,):
            asyncio.run(api(port, Path(answer).read_bytes()))
        case "uvicorn", (_,):
            uvicorn(port)
        case "full", (upstream, metrics):
            asyncio.run(full(port, int(upstream), int(metrics)))
        case "own_front", ():
            asyncio.run(own_front(port))
        case "aiohttp_front", ():
            asyncio.run(aiohttp_front(port))
        case "transport", (kind,):
            asyncio.run(transport(port, kind))
        case _:
            sys.exit(f"nothing is called {name} {' '.join(more)}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
