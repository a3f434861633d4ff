"""The way to the API by itself: one transport, called as a client would call it."""

import asyncio
from collections.abc import Awaitable, Callable
from threading import Event

import httpx
import pytest

from call_initiation.gateway.relay import Origin, Upstream
from gateways import stalled
from servers import Cut, Server, always, answer, chunk, head

ACCEPTED = answer(202, b"{}")
LONG = b"0123456789abcdef" * 65_536


def _request(method: str = "POST") -> httpx.Request:
    headers = [("Host", "api.test"), ("Content-Length", "2")]
    return httpx.Request(
        method, "http://api.test/calls", headers=headers, content=b"{}", extensions={"target": b"/calls"}
    )


def _run(api: Server, scenario: Callable[[Upstream], Awaitable[None]], idle: float = 10.0) -> None:
    async def run() -> None:
        upstream = Upstream(Origin("127.0.0.1", api.port), idle=idle)
        await scenario(upstream)
        await upstream.aclose()

    asyncio.run(run())


async def _called(upstream: Upstream) -> bytes:
    response = await upstream.handle_async_request(_request())
    return b"".join([part async for part in response.stream])  # type: ignore[union-attr]


def test_a_request_is_written_as_it_is() -> None:
    """The target is the extension's, the headers are the request's own."""
    with Server(always(ACCEPTED)) as api:

        async def scenario(upstream: Upstream) -> None:
            assert b"{}" == await _called(upstream)

        _run(api, scenario)
        assert b"POST /calls HTTP/1.1\r\nHost: api.test\r\nContent-Length: 2\r\n\r\n{}" == api.received[0].raw


def test_idle_connections_are_swept_by_the_clock() -> None:
    """Those whose time has come, and no others."""
    with Server(always(ACCEPTED)) as api:

        async def scenario(upstream: Upstream) -> None:
            now = asyncio.get_running_loop().time()
            await _called(upstream)
            upstream.sweep(now + 9.0)
            await _called(upstream)
            upstream.sweep(now + 30.0)
            await _called(upstream)

        _run(api, scenario)
        assert [0, 0, 1] == [received.connection for received in api.received]


def test_all_idle_connections_whose_time_has_come_are_swept_at_once() -> None:
    """However many calls there were side by side."""
    with Server(always(ACCEPTED)) as api:

        async def scenario(upstream: Upstream) -> None:
            await asyncio.gather(*(_called(upstream) for _ in range(3)))
            assert 3 == len(upstream._idle)
            upstream.sweep(asyncio.get_running_loop().time() + 30.0)
            assert 0 == len(upstream._idle)

        _run(api, scenario)


def test_the_connection_that_was_used_last_is_used_next() -> None:
    """So that those which a rush has left over come to their end."""
    with Server(always(ACCEPTED)) as api:

        async def scenario(upstream: Upstream) -> None:
            await asyncio.gather(*(_called(upstream) for _ in range(3)))
            for _ in range(3):
                await _called(upstream)

        _run(api, scenario)
        assert 1 == len({received.connection for received in api.received[3:]})


def test_an_api_that_says_close_gets_the_next_request_on_another_connection() -> None:
    """What it said is believed at once, before it closes."""
    with Server(always(answer(202, b"{}", ("Connection", "close")))) as api:

        async def scenario(upstream: Upstream) -> None:
            assert [b"{}", b"{}"] == [await _called(upstream), await _called(upstream)]

        _run(api, scenario)
        assert [0, 1] == [received.connection for received in api.received]


@pytest.mark.parametrize("is_at_once", [True, False])
def test_where_an_api_says_a_word_unasked_it_is_asked_no_more(is_at_once: bool) -> None:  # noqa: FBT001 - a parameter of pytest's
    """Some say 408 before they close; it would be taken for the next call's answer."""
    hold = Event()
    acts = (ACCEPTED + answer(408),) if is_at_once else (ACCEPTED, hold, answer(408))
    with Server(always(*acts)) as api:

        async def scenario(upstream: Upstream) -> None:
            assert b"{}" == await _called(upstream)
            hold.set()
            while not upstream._idle[0]._transport.is_closing():  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0)
            assert b"{}" == await _called(upstream)

        _run(api, scenario)
        assert [0, 1] == [received.connection for received in api.received]


def test_a_connection_that_ends_as_it_begins_is_sent_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The request's stream stays unread, which says that nothing was sent."""
    connected = Upstream._connected

    async def ended(upstream: Upstream, deadline: float) -> object:
        connection = await connected(upstream, deadline)
        connection.abort()
        return connection

    monkeypatch.setattr(Upstream, "_connected", ended)
    with Server(always(ACCEPTED)) as api:

        async def scenario(upstream: Upstream) -> None:
            with pytest.raises(httpx.ConnectError, match="before anything was sent"):
                await _called(upstream)

        _run(api, scenario)
        assert [] == api.received


def test_an_answer_that_comes_as_its_call_is_cancelled_is_nobodys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the cancelling and its taking effect the loop may still read the answer."""
    connected, connections = Upstream._connected, []

    async def noted(upstream: Upstream, deadline: float) -> object:
        connections.append(await connected(upstream, deadline))
        return connections[0]

    monkeypatch.setattr(Upstream, "_connected", noted)
    never = Event()
    with Server(always(never)) as api:

        async def scenario(upstream: Upstream) -> None:
            call = asyncio.create_task(_called(upstream))
            await asyncio.to_thread(api.wait)
            call.cancel()
            connections[0].data_received(ACCEPTED)
            with pytest.raises(asyncio.CancelledError):
                await call
            assert connections[0]._transport.is_closing()

        _run(api, scenario)
        never.set()


def test_no_connection_is_kept_after_the_end() -> None:
    """An answer under way is read to its end, and its connection closed."""
    hold = Event()
    with Server(always(head(200, ("Content-Length", "2")), hold, b"{}")) as api:

        async def scenario(upstream: Upstream) -> None:
            response = await upstream.handle_async_request(_request())
            await upstream.aclose()
            hold.set()
            assert b"{}" == b"".join([part async for part in response.stream])  # type: ignore[union-attr]
            assert not upstream._idle

        _run(api, scenario)


def test_what_is_not_read_ends_with_its_connection() -> None:
    """An answer that is closed early takes its connection with it; one that came in whole gives it back."""
    with Server(always(head(200, ("Content-Length", str(2 * len(LONG)))), LONG, LONG)) as api:

        async def scenario(upstream: Upstream) -> None:
            for _ in range(2):
                response = await upstream.handle_async_request(_request())
                await response.aclose()

        _run(api, scenario)
        assert [0, 1] == [received.connection for received in api.received]


def test_a_reader_that_takes_its_time_gets_all() -> None:
    """What waits for a reader is bounded, and nothing of it is lost."""
    with Server(always(head(200, ("Content-Length", str(2 * len(LONG)))), LONG, LONG)) as api:

        async def scenario(upstream: Upstream) -> None:
            response = await upstream.handle_async_request(_request())
            connection = response.stream._connection  # type: ignore[union-attr]
            while connection._transport.is_reading():  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0)
            parts = list[bytes]()
            async for part in response.stream:  # type: ignore[union-attr]
                assert len(LONG) > response.stream._size  # type: ignore[union-attr]
                parts.append(part)
                for _ in range(10):
                    await asyncio.sleep(0)
            assert 2 * LONG == b"".join(parts)

        _run(api, scenario)


def test_a_connection_whose_answer_came_in_before_it_was_read_is_kept() -> None:
    """And listens again, though there was no more room for that answer."""
    with Server(always(answer(202, LONG[:300_000]))) as api:

        async def scenario(upstream: Upstream) -> None:
            response = await upstream.handle_async_request(_request())
            while not upstream._idle:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0)
            assert LONG[:300_000] == b"".join([part async for part in response.stream])  # type: ignore[union-attr]
            assert LONG[:300_000] == await _called(upstream)

        _run(api, scenario)
        assert [0, 0] == [received.connection for received in api.received]


def test_an_answer_without_a_body_gives_its_connection_back() -> None:
    """It needs no length to be whole."""
    with Server(always(head(204))) as api:

        async def scenario(upstream: Upstream) -> None:
            assert [b"", b""] == [await _called(upstream), await _called(upstream)]

        _run(api, scenario)
        assert [0, 0] == [received.connection for received in api.received]


def test_trailers_are_no_headers() -> None:
    """H2: not even where they come in the same piece."""
    begin = head(200, ("Transfer-Encoding", "chunked"), ("Trailer", "X-Late"))
    with Server(always(begin + chunk(b"{}") + b"0\r\nX-Late: 1\r\n\r\n")) as api:

        async def scenario(upstream: Upstream) -> None:
            response = await upstream.handle_async_request(_request())
            assert ["transfer-encoding", "trailer"] == list(response.headers)
            assert b"{}" == b"".join([part async for part in response.stream])  # type: ignore[union-attr]

        _run(api, scenario)


@pytest.mark.parametrize("coding", ["chunked", "gzip, chunked", "Chunked"])
def test_a_chunked_answer_that_ends_early_is_not_whole(coding: str) -> None:
    """Whatever else was done to it."""
    with Server(always(head(200, ("Transfer-Encoding", coding)) + chunk(b"{"), Cut.CLOSE)) as api:

        async def scenario(upstream: Upstream) -> None:
            with pytest.raises(httpx.RemoteProtocolError, match="before the answer was whole"):
                await _called(upstream)

        _run(api, scenario)


def test_a_connect_has_no_more_time_than_its_call() -> None:
    """Though one by itself may take longer."""

    async def scenario(port: int) -> None:
        upstream = Upstream(Origin("127.0.0.1", port), deadline=0.1, connect=3600.0)
        with pytest.raises(httpx.ConnectTimeout):
            await _called(upstream)

    with stalled() as port:
        asyncio.run(scenario(port))


def test_a_call_that_is_cancelled_while_it_waits_ends_its_connection() -> None:
    """And the next one gets another."""
    hold = Event()
    with Server(always(hold, ACCEPTED)) as api:

        async def scenario(upstream: Upstream) -> None:
            task = asyncio.create_task(upstream.handle_async_request(_request()))
            await asyncio.to_thread(api.wait)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            hold.set()
            await _called(upstream)

        _run(api, scenario)
        assert [0, 1] == [received.connection for received in api.received]


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        (Origin("api.test", 80), b"api.test"),
        (Origin("api.test", 443), b"api.test:443"),
        (Origin("::1", 8080), b"[::1]:8080"),
    ],
)
def test_the_host_names_the_port_where_it_is_not_the_schemes(origin: Origin, expected: bytes) -> None:
    """RFC 9110, 7.2, and 4.2.3: the scheme's own port is left out."""
    assert expected == origin.authority
