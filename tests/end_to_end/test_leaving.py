"""Transparency for callers who leave early, and for transports of every make: cancellation, Ctrl-C, mounts, proxies."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Iterator
from threading import Event, Thread, get_ident
from typing import Any

import anyio
import anyio.to_thread
import httpx
import httpx_aiohttp
import pytest

from call_initiation.events import BodyState, Outcome, TransportFailure
from servers import Cut, Server, always, answer, head
from twins import CALLS, DOORS, PAYLOAD, TRUST, Door, Equip, listening, raised, seen, twins

REFUSAL = b'{"code":"conversation.error.no.user.station"}'
ASYNC = [door for door in DOORS if door.is_async]
SYNC = [door for door in DOORS if not door.is_async]

each_door = pytest.mark.parametrize("door", DOORS, ids=str)
each_async_door = pytest.mark.parametrize("door", ASYNC, ids=str)
each_loop = pytest.mark.parametrize("loop", ["asyncio", "trio"])


@each_async_door
@each_loop
@pytest.mark.parametrize("is_answered", [False, True], ids=["waiting", "reading"])
def test_a_cancelled_call(door: Door, loop: str, is_answered: bool) -> None:  # noqa: FBT001 - a parameter of pytest's
    """Cancellation reaches the transport and comes back as it would have; what was sent is not called cancelled."""
    never, runs = Event(), 0
    top = [head(400, ("Content-Length", "99")), b"some"] if is_answered else []

    async def scenario(door: Door, equip: Equip, url: str) -> Any:
        nonlocal runs
        runs += 1
        client = equip(door.client(base_url=url))
        arrived, story = anyio.Event(), []

        async def call() -> None:
            with anyio.CancelScope() as scope:
                scopes.append(scope)
                try:
                    async with client.stream("POST", CALLS, json=PAYLOAD) as response:
                        async for piece in response.aiter_raw():
                            story.append(piece)
                            arrived.set()
                except BaseException as error:
                    story.append((raised(error, 1), scope.cancel_called))
                    raise
            story.append(scope.cancelled_caught)

        scopes: list[anyio.CancelScope] = []
        async with anyio.create_task_group() as group:
            group.start_soon(call)
            await anyio.to_thread.run_sync(server.wait, runs)
            if is_answered:
                await arrived.wait()
            scopes[0].cancel()
        story.append(len(client._transport._pool.connections))
        await client.aclose()
        return story

    with Server(always(*top, never)) as server:
        (attempt,) = anyio.run(twins, scenario, door, server.url, backend=loop)
        never.set()
    assert 2 == len(server.received)
    assert attempt.sent_at is not None
    if is_answered:
        assert (Outcome.REJECTED, BodyState.UNREAD) == (attempt.outcome, attempt.body)
    else:
        assert (Outcome.AMBIGUOUS, TransportFailure.CANCELLED) == (attempt.outcome, attempt.error_type)


@pytest.mark.parametrize("door", SYNC, ids=str)
def test_control_c_while_waiting(door: Door) -> None:
    """A KeyboardInterrupt passes; the call had been sent, so nobody knows whether it rang."""
    never = Event()

    async def scenario(door: Door, equip: Equip, url: str) -> Any:
        client, main = equip(door.client(base_url=url)), get_ident()
        before = len(server.received)

        def interrupt() -> None:
            server.wait(before + 1)
            signal.pthread_kill(main, signal.SIGINT)

        thread = Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt) as caught:
            client.post(CALLS, json=PAYLOAD)
        thread.join()
        client.close()
        return raised(caught.value)

    with Server(always(never)) as server:
        coroutine = twins(scenario, door, server.url)
        with pytest.raises(StopIteration) as done:
            coroutine.send(None)  # asyncio has a SIGINT handler of its own
        never.set()
    (attempt,) = done.value.value
    assert (Outcome.AMBIGUOUS, TransportFailure.CANCELLED) == (attempt.outcome, attempt.error_type)


@each_door
def test_an_abandoned_stream(door: Door) -> None:
    """A caller who drops a generator half-way leaves the same things behind."""
    never = Event()

    def pieces(client: Any) -> Iterator[Any]:
        with client.stream("POST", CALLS, json=PAYLOAD) as response:
            try:
                yield from response.iter_raw()
            finally:
                yields.append(seen(response))

    async def async_pieces(client: Any) -> AsyncIterator[Any]:
        async with client.stream("POST", CALLS, json=PAYLOAD) as response:
            try:
                async for piece in response.aiter_raw():
                    yield piece
            finally:
                yields.append(seen(response))

    yields: list[Any] = []

    async def scenario(door: Door, equip: Equip, url: str) -> Any:
        client = equip(door.client(base_url=url))
        yields.clear()
        if door.is_async:
            generator = async_pieces(client)
            yields.append(await anext(generator))
            await generator.aclose()
        else:
            plain = pieces(client)
            yields.append(next(plain))
            plain.close()
        yields.append(len(client._transport._pool.connections))
        await door.do(client, "close")
        return list(yields)

    with Server(always(head(400, ("Content-Length", "99")), b"some", never)) as server:
        (attempt,) = asyncio.run(twins(scenario, door, server.url))
        never.set()
    assert BodyState.UNREAD == attempt.body


def counting(door: Door, counts: list[str]) -> Any:
    """Return a transport that writes down how it is used."""

    class Counting(door.module.AsyncBaseTransport, door.module.BaseTransport):  # type: ignore[misc, name-defined]
        def __enter__(self) -> Any:
            counts.append("enter")
            return self

        async def __aenter__(self) -> Any:
            return self.__enter__()

        def __exit__(self, kind: object = None, error: object = None, traceback: object = None) -> None:
            counts.append(f"exit {kind} {error!r} {traceback is None}")

        async def __aexit__(self, kind: object = None, error: object = None, traceback: object = None) -> None:
            self.__exit__(kind, error, traceback)

        def close(self) -> None:
            counts.append("close")

        async def aclose(self) -> None:
            counts.append("aclose")

        def handle_request(self, request: Any) -> Any:
            counts.append(f"{request.method} {request.url}")
            return door.module.Response(400, content=REFUSAL)

        async def handle_async_request(self, request: Any) -> Any:
            return self.handle_request(request)

    return Counting()


@each_door
def test_clients_as_context_managers(door: Door) -> None:
    """Every transport, the mounted ones too, is entered, left and closed as often, with the caller's exception."""
    boom = ValueError("the caller's")

    async def scenario(door: Door, equip: Equip, _url: str) -> Any:
        counts: list[str] = []
        mounted = {"all://example.com": counting(door, counts), "all://example.org": None}
        client = equip(door.client(transport=counting(door, counts), mounts=mounted))
        with pytest.raises(ValueError, match="the caller's") as caught:
            await _within(door, client, boom)
        assert boom is caught.value
        counts.append("second")
        client = equip(door.client(transport=counting(door, counts)))
        await door.do(client, "close")
        await door.do(client, "close")
        return counts, client.is_closed

    assert 2 == len(asyncio.run(twins(scenario, door, "")))


async def _within(door: Door, client: Any, error: Exception) -> None:
    await door.do(client, "__enter__")
    try:
        for host in ("com", "org"):
            await door.do(client, "post", f"http://example.{host}{CALLS}", json=PAYLOAD)
        raise error
    except ValueError as caught:
        await door.do(client, "__exit__", ValueError, caught, caught.__traceback__)
        raise


@each_door
def test_a_proxy(door: Door) -> None:
    """Calls through a proxy are observed like others; the proxy gets the same bytes."""

    async def scenario(door: Door, equip: Equip, url: str) -> Any:
        client = equip(door.client(proxy=url))
        response = await door.do(client, "post", f"http://api.example.com{CALLS}", json=PAYLOAD)
        await door.do(client, "close")
        return seen(response), response.content

    with Server(always(answer(400, REFUSAL))) as server:
        (attempt,) = asyncio.run(twins(scenario, door, server.url))
    assert f"http://api.example.com{CALLS}" == server.received[0].target
    assert server.received[0].raw == server.received[1].raw
    assert ("api.example.com", 80) == (attempt.server_address, attempt.server_port)


@each_door
@pytest.mark.parametrize("is_read_by_app", [False, True])
def test_applications_as_upstreams(door: Door, is_read_by_app: bool) -> None:  # noqa: FBT001 - a parameter of pytest's
    """An ASGI or WSGI application behind the library's own transport gets and gives the same."""

    async def asgi(_scope: Any, receive: Any, send: Any) -> None:
        got = await receive() if is_read_by_app else {"body": b""}
        await send({"type": "http.response.start", "status": 400, "headers": [(b"x-got", b"%d" % len(got["body"]))]})
        await send({"type": "http.response.body", "body": REFUSAL})

    def wsgi(environ: Any, start: Any) -> list[bytes]:
        got = environ["wsgi.input"].read() if is_read_by_app else b""
        start("400 Bad", [("X-Got", str(len(got)))])
        return [REFUSAL[:9], REFUSAL[9:]]

    async def scenario(door: Door, equip: Equip, _url: str) -> Any:
        module = door.module
        inner = module.ASGITransport(app=asgi) if door.is_async else module.WSGITransport(app=wsgi)
        client = equip(door.client(transport=inner))
        response = await door.do(client, "post", f"http://example.com{CALLS}", json=PAYLOAD)
        await door.do(client, "close")
        return seen(response), response.content

    (attempt,) = asyncio.run(twins(scenario, door, ""))
    assert "conversation.error.no.user.station" == attempt.error_code


@each_door
def test_a_mock(door: Door) -> None:
    """A mock reads the request and answers with a body that nobody streams; its codes are seen all the same."""
    handled: list[Any] = []

    def handler(request: Any) -> Any:
        handled.append((request.content, isinstance(request.stream, door.module.ByteStream)))
        return door.module.Response(400, content=REFUSAL, headers={"Content-Encoding": "identity"})

    def pieces() -> Iterator[bytes]:
        yield b"{}"

    async def async_pieces() -> AsyncIterator[bytes]:
        yield b"{}"

    async def scenario(door: Door, equip: Equip, _url: str) -> Any:
        handled.clear()
        client = equip(door.client(transport=door.module.MockTransport(handler)))
        first = await door.do(client, "post", f"http://example.com{CALLS}", json=PAYLOAD)
        content = async_pieces() if door.is_async else pieces()
        second = await door.do(client, "post", f"http://example.com{CALLS}", content=content)
        again = await door.do(client, "send", second.request)  # the mock has made a stream of it that can be read again
        await door.do(client, "close")
        return [(seen(response), response.content) for response in (first, second, again)], list(handled)

    attempts = asyncio.run(twins(scenario, door, ""))
    assert ["conversation.error.no.user.station"] * 3 == [attempt.error_code for attempt in attempts]


def test_a_transport_that_takes_the_body_from_the_request() -> None:
    """httpx-aiohttp never reads the request's stream: a cancelled call counts as sent, for it may have been."""
    never, (door, *_) = Event(), ASYNC
    exporter, listed = listening()

    async def dial() -> None:
        inner = httpx_aiohttp.AiohttpTransport(verify=TRUST)
        async with exporter.instrument(door.client(base_url=server.url, transport=inner)) as client:
            task = asyncio.create_task(client.post(CALLS, json=PAYLOAD))
            await asyncio.to_thread(server.wait)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    with exporter, Server(always(never)) as server:
        asyncio.run(dial())
        never.set()
        assert exporter.flush()
    assert [Outcome.AMBIGUOUS] == [attempt.outcome for attempt in listed.attempts]


@pytest.mark.parametrize(
    ("acts", "expected"),
    [
        ((Cut.CLOSE,), (Outcome.AMBIGUOUS, TransportFailure.CONNECTION_CLOSED)),
        ((answer(400, REFUSAL),), (Outcome.REJECTED, "400")),
        (None, (Outcome.NOT_SENT, TransportFailure.CONNECTION_REFUSED)),
    ],
    ids=["closed", "answered", "refused"],
)
def test_what_httpx_aiohttp_calls_a_connect_timeout(acts: Any, expected: tuple[Any, Any]) -> None:
    """A connection that was refused and one that ended after the send have one exception: we tell them apart."""
    door = ASYNC[0]

    async def scenario(door: Door, equip: Equip, url: str) -> Any:
        client = equip(door.client(base_url=url, transport=httpx_aiohttp.AiohttpTransport(verify=TRUST)))
        try:
            response = await client.post(CALLS, json=PAYLOAD)
        except httpx.ConnectTimeout as error:
            return raised(error)
        finally:
            await client.aclose()
        return seen(response), response.content

    with Server(always(*(acts or ()))) as server:
        url = server.url
        if acts is None:
            server.__exit__(None, None, None)
        (attempt,) = asyncio.run(twins(scenario, door, url))
    assert expected == (attempt.outcome, attempt.error_type)
