"""Transparency: every scenario gives its caller the same with the exporter as without, byte for byte."""

import asyncio
import gzip
from collections.abc import Callable, Iterator
from threading import Event
from typing import Any

import pytest

from call_initiation.events import BodyState, Outcome
from servers import Cut, Received, Script, Server, always, answer, chunk, head
from twins import CALLS, DOORS, OTHER, PAYLOAD, Door, Equip, raised, seen, twins

REFUSAL = b'{"message":"A station is required.","code":"conversation.error.no.user.station","status":400}'
ZIPPED = gzip.compress(REFUSAL, mtime=0)
STRANGE = [
    ("X-Twice", "1"), ("x-twice", "2"), ("SET-COOKIE", "a=1; Path=/"), ("Set-Cookie", "b=2"),
    ("Content-Type", "application/json;charset=latin-1"), ("Link", "<https://example.com/next>; rel=next"),
]  # fmt: skip

pytestmark = pytest.mark.parametrize("door", DOORS, ids=str)


@pytest.fixture
def serve() -> Iterator[Callable[[Script], Server]]:
    """Return a function that starts a server, which is stopped after the test."""
    running: list[Server] = []

    def start(script: Script) -> Server:
        running.append(Server(script))
        return running[-1]

    yield start
    for server in running:
        server.__exit__(None, None, None)


Serve = Callable[[Script], Server]


async def place(door: Door, equip: Equip, url: str, path: str = CALLS, **options: Any) -> Any:
    """Place one call as most dialers do, and return what the caller saw."""
    client = equip(door.client(base_url=url))
    response = await door.do(client, "post", path, json=PAYLOAD, **options)
    await door.do(client, "close")
    return seen(response), response.text, list(response.iter_lines()), sorted(client.cookies.items()), client.is_closed


@pytest.mark.parametrize("path", [CALLS, f"{CALLS}/user/9d4b?expand=a", OTHER])
@pytest.mark.parametrize("status", [200, 202, 204, 301, 400, 429, 503, 799])
def test_a_plain_call(door: Door, serve: Serve, path: str, status: int) -> None:
    """Status, reason, headers in their order and spelling, body and client: all the same; calls are recorded, alone."""
    body = b"" if status == 204 else REFUSAL
    with serve(always(answer(status, body, *STRANGE, reason="Für Elise"))) as server:
        attempts = asyncio.run(twins(lambda d, e, u: place(d, e, u, path), door, server.url))
    assert [status] * path.startswith(CALLS) == [attempt.status_code for attempt in attempts]
    assert server.received[0].raw == server.received[1].raw


@pytest.mark.parametrize("how", ["iter_raw", "iter_bytes", "iter_text", "iter_lines", "read", "none"])
@pytest.mark.parametrize("size", [None, 7], ids=["whole", "sevens"])
def test_a_streamed_answer(door: Door, serve: Serve, how: str, size: int | None) -> None:
    """However the caller reads an encoded, chunked answer, the pieces and the progress are the same."""
    pieces = [chunk(ZIPPED[:10]), chunk(ZIPPED[10:11]), chunk(ZIPPED[11:]), chunk(b"")]
    top = head(400, ("Content-Encoding", "gzip"), ("Transfer-Encoding", "chunked"))

    async def scenario(door: Door, equip: Equip, url: str) -> Any:
        client = equip(door.client(base_url=url))
        response = await door.do(client, "send", client.build_request("POST", CALLS, json=PAYLOAD), stream=True)
        story = [seen(response)]
        if how.startswith("iter_"):
            sized = () if size is None or how == "iter_lines" else (size,)
            story += [
                (piece, response.num_bytes_downloaded, response.is_closed)
                async for piece in door.each(response, how, *sized)
            ]
        elif how == "read":
            story.append(await door.do(response, "read"))
        story.append(seen(response))
        await door.do(response, "close")
        story += [seen(response), response.elapsed.total_seconds() > 0]
        await door.do(client, "close")
        return story

    with serve(always(top, *pieces)) as server:
        (attempt,) = asyncio.run(twins(scenario, door, server.url))
    assert (BodyState.UNREAD if how == "none" else BodyState.WHOLE) == attempt.body
    assert ("unparsed" if how == "none" else "conversation.error.no.user.station") == attempt.error_code


def test_pieces_come_when_they_come(door: Door, serve: Serve) -> None:
    """The caller has each piece before the next one is sent; nothing is read ahead or held back."""
    steps = [Event(), Event()]
    acts = (head(500, ("Content-Length", "9")), b"one", steps[0], b"two", steps[1], b"end")

    async def scenario(door: Door, equip: Equip, url: str) -> Any:
        for step in steps:
            step.clear()
        client = equip(door.client(base_url=url))
        response = await door.do(client, "send", client.build_request("POST", CALLS, json=PAYLOAD), stream=True)
        got = []
        async for piece in door.each(response, "iter_raw"):
            got.append(piece)
            if len(got) <= len(steps):
                steps[len(got) - 1].set()
        await door.do(client, "close")
        return got

    with serve(always(*acts)) as server:
        (attempt,) = asyncio.run(twins(scenario, door, server.url))
    assert BodyState.WHOLE == attempt.body


@pytest.mark.parametrize("read", [0, 1], ids=["unread", "half-read"])
def test_an_answer_closed_early(door: Door, serve: Serve, read: int) -> None:
    """A caller may close before the end: the connection is dropped as it would have been, and the body is unread."""
    never = Event()

    async def scenario(door: Door, equip: Equip, url: str) -> Any:
        client = equip(door.client(base_url=url))
        response = await door.do(client, "send", client.build_request("POST", CALLS, json=PAYLOAD), stream=True)
        pieces = door.each(response, "iter_raw")
        got = [await anext(pieces) for _ in range(read)]
        await pieces.aclose()
        await door.do(response, "close")
        pool = client._transport._pool
        story = got, seen(response), response.elapsed.total_seconds() > 0, len(pool.connections)
        await door.do(client, "close")
        return story

    with serve(always(head(503, ("Content-Length", "9")), b"one", never)) as server:
        (attempt,) = asyncio.run(twins(scenario, door, server.url))
        never.set()
    assert (Outcome.FAILED, BodyState.UNREAD) == (attempt.outcome, attempt.body)


def test_reading_twice_and_after_closing(door: Door, serve: Serve) -> None:
    """The library's own complaints are the same: stream consumed, stream closed, response not read."""

    async def scenario(door: Door, equip: Equip, url: str) -> Any:
        client = equip(door.client(base_url=url))
        story: list[Any] = []
        for first in ("iter_raw", "close"):
            response = await door.do(client, "send", client.build_request("POST", CALLS), stream=True)
            if first == "close":
                await door.do(response, "close")
            else:
                story.append([piece async for piece in door.each(response, first)])
            for again in (
                lambda r=response: _drain(door, r),
                lambda r=response: door.do(r, "read"),
                lambda r=response: _content(r),
            ):
                try:
                    story.append(await again())
                except Exception as error:  # noqa: BLE001 - whichever it is, it is compared
                    story.append(raised(error))
        await door.do(client, "close")
        return story

    with serve(always(answer(400, REFUSAL))) as server:
        assert 2 == len(asyncio.run(twins(scenario, door, server.url)))


async def _drain(door: Door, response: Any) -> list[bytes]:
    return [piece async for piece in door.each(response, "iter_raw")]


async def _content(response: Any) -> bytes:
    content: bytes = response.content
    return content


@pytest.mark.parametrize("kind", ["bytes", "generator", "files", "form", "nothing"])
def test_what_is_sent(door: Door, serve: Serve, kind: str) -> None:
    """The upstream gets the same bytes, and the request is afterwards what it was: the same stream object."""

    def pieces() -> Iterator[bytes]:
        yield b'{"phoneNumber":'
        yield b'"+33199000000"}'

    async def async_pieces() -> Any:
        for piece in pieces():
            yield piece

    body: dict[str, Any] = {
        "bytes": {"content": b"{}"},
        "generator": {"content": async_pieces() if door.is_async else pieces()},
        "files": {"files": {"a": b"x"}, "headers": {"Content-Type": "multipart/form-data; boundary=b"}},
        "form": {"data": {"phoneNumber": "+33199000000"}},
        "nothing": {},
    }

    async def scenario(door: Door, equip: Equip, url: str) -> Any:
        client = equip(door.client(base_url=url))
        given = dict(body[kind])
        if kind == "generator":
            given["content"] = async_pieces() if door.is_async else pieces()
        request = client.build_request("POST", CALLS, **given)
        stream, extensions = request.stream, dict(request.extensions)
        response = await door.do(client, "send", request)
        await door.do(client, "close")
        assert stream is request.stream is response.request.stream
        assert request is response.request
        assert extensions == request.extensions
        return seen(response)

    with serve(always(answer(202))) as server:
        (attempt,) = asyncio.run(twins(scenario, door, server.url))
    assert server.received[0].raw == server.received[1].raw
    assert attempt.sent_at is not None


def test_redirects_followed_by_the_client(door: Door, serve: Serve) -> None:
    """The client follows where it was asked to, with the same history; each call start is recorded."""

    def script(request: Received) -> list[bytes]:
        if request.target == CALLS:
            return [answer(307, b"", ("Location", f"{CALLS}/user/9d4b"))]
        if request.target.endswith("9d4b"):
            return [answer(303, b"", ("Location", OTHER))]
        return [answer(200, b"me")]

    with serve(script) as server:
        attempts = asyncio.run(
            twins(lambda d, e, u: place(d, e, u, follow_redirects=True), door, server.url),
        )
        plain = asyncio.run(twins(place, door, server.url))
    assert [307, 303] == [attempt.status_code for attempt in attempts]
    assert [Outcome.REDIRECTED] == [attempt.outcome for attempt in plain]
    assert 2 * 3 + 2 == len(server.received)


def test_authentication_of_two_requests(door: Door, serve: Serve) -> None:
    """A flow that reads the first answer's body and asks again sees the same; both requests are recorded."""

    class Ask(door.module.Auth):  # type: ignore[misc, name-defined]
        requires_response_body = True

        def auth_flow(self, request: Any) -> Any:
            response = yield request
            request.headers["Authorization"] = f"Bearer {response.json()['code']}"
            yield request

    def script(request: Received) -> list[bytes]:
        return [answer(202 if "authorization" in request.headers else 401, b'{"code":"key"}')]

    with serve(script) as server:
        attempts = asyncio.run(twins(lambda d, e, u: place(d, e, u, auth=Ask()), door, server.url))
    assert [401, 202] == [attempt.status_code for attempt in attempts]
    assert ["key", "none"] == [attempt.error_code for attempt in attempts]


def test_digest_authentication_and_cookies(door: Door, serve: Serve) -> None:
    """The library's own flows and the cookie jar work on."""

    def script(request: Received) -> list[bytes]:
        if "authorization" in request.headers:
            return [answer(202, b"", ("Set-Cookie", "seen=1"))]
        return [answer(401, b"", ("WWW-Authenticate", 'Digest realm="r", nonce="n", algorithm=MD5'))]

    async def scenario(door: Door, equip: Equip, url: str) -> Any:
        client = equip(door.client(base_url=url, auth=door.module.DigestAuth("a", "b")))
        codes = [(await door.do(client, "post", CALLS, json=PAYLOAD)).status_code for _ in range(2)]
        await door.do(client, "close")
        return codes, sorted(client.cookies.items())

    with serve(script) as server:
        assert 3 == len(asyncio.run(twins(scenario, door, server.url)))
    assert ["seen=1"] * 2 == [r.headers["cookie"] for r in server.received if "cookie" in r.headers]


def test_event_hooks(door: Door, serve: Serve) -> None:
    """Hooks run as often, in the same order, and may read the answer."""

    async def scenario(door: Door, equip: Equip, url: str) -> Any:
        story: list[Any] = []

        async def requested(request: Any) -> None:
            story.append((request.method, type(request.stream), dict(request.extensions)))

        async def answered(response: Any) -> None:
            story.append((seen(response), await door.do(response, "read"), seen(response)))

        hooks: list[Any] = [requested, answered] if door.is_async else [_sync(requested), _sync(answered)]
        client = equip(door.client(base_url=url, event_hooks={"request": hooks[:1], "response": hooks[1:]}))
        story.append(await place_with(door, client))
        return story

    with serve(always(answer(400, REFUSAL))) as server:
        (attempt,) = asyncio.run(twins(scenario, door, server.url))
    assert "conversation.error.no.user.station" == attempt.error_code


async def place_with(door: Door, client: Any) -> Any:
    """Place one call with a client and close it."""
    response = await door.do(client, "post", CALLS, json=PAYLOAD)
    await door.do(client, "close")
    return seen(response), response.text


def _sync(hook: Callable[[Any], Any]) -> Callable[[Any], None]:
    """Return a hook that never waits as a plain function."""

    def run(argument: Any) -> None:
        with pytest.raises(StopIteration):
            hook(argument).send(None)

    return run


def test_raise_for_status(door: Door, serve: Serve) -> None:
    """The library's exception for an error's status is the same, and holds the caller's own response."""

    async def scenario(door: Door, equip: Equip, url: str) -> Any:
        client = equip(door.client(base_url=url))
        response = await door.do(client, "post", CALLS, json=PAYLOAD)
        await door.do(client, "close")
        with pytest.raises(door.module.HTTPStatusError) as caught:
            response.raise_for_status()
        assert response is caught.value.response
        return raised(caught.value)

    with serve(always(answer(409, REFUSAL))) as server:
        asyncio.run(twins(scenario, door, server.url))


@pytest.mark.parametrize(
    "acts",
    [
        (Cut.CLOSE,), (Cut.RESET,), (b"HTTP/1.1 2", Cut.CLOSE), (b"not http\r\n\r\n", Cut.CLOSE),
        (head(400, ("Content-Length", "50")), b"half", Cut.CLOSE),
        (head(400, ("Transfer-Encoding", "chunked")), b"zz\r\n", Cut.CLOSE),
        (head(400, ("Content-Encoding", "gzip"), ("Content-Length", "4")), b"none"),
    ],
    ids=["closed", "reset", "torn head", "garbage", "short", "bad chunk", "bad gzip"],
)  # fmt: skip
def test_failures(door: Door, serve: Serve, acts: tuple[Any, ...]) -> None:
    """A failure reaches the caller as the same exception: type, arguments, causes, context and request."""

    async def scenario(door: Door, equip: Equip, url: str) -> Any:
        client = equip(door.client(base_url=url))
        with pytest.raises(door.module.RequestError) as caught:
            await door.do(client, "post", CALLS, json=PAYLOAD)
        await door.do(client, "close")
        return raised(caught.value)

    with serve(always(*acts)) as server:
        (attempt,) = asyncio.run(twins(scenario, door, server.url))
    assert 2 == len(server.received)
    assert attempt.is_failure


class OwnError(Exception):
    """The caller's own exception."""


@pytest.mark.parametrize(
    "error",
    [OwnError("own"), KeyboardInterrupt(), SystemExit(3), GeneratorExit(), ExceptionGroup("two", [OwnError()])],
    ids=repr,
)
@pytest.mark.parametrize("path", [CALLS, OTHER])
def test_an_exception_is_the_same_object(door: Door, error: BaseException, path: str) -> None:
    """What the inner transport raises reaches the caller as that very object, with nothing added to it."""
    transport = raising(door, error)

    async def scenario(door: Door, equip: Equip, _url: str) -> Any:
        client = equip(door.client(transport=transport))
        with pytest.raises(type(error)) as caught:
            await door.do(client, "post", f"http://example.com{path}", json=PAYLOAD)
        assert error is caught.value
        await door.do(client, "close")
        return error.__cause__, error.__context__, getattr(error, "__notes__", None)

    attempts = _run_even_if_it_exits(twins(scenario, door, ""))
    assert (path == CALLS) == len(attempts)


def raising(door: Door, error: BaseException) -> Any:
    """Return a transport that fails."""

    class Raising(door.module.AsyncBaseTransport, door.module.BaseTransport):  # type: ignore[misc, name-defined]
        def handle_request(self, _request: Any) -> Any:
            raise error

        async def handle_async_request(self, _request: Any) -> Any:
            raise error

    return Raising()


def _run_even_if_it_exits(coroutine: Any) -> Any:
    """Run a coroutine by hand: asyncio treats KeyboardInterrupt and SystemExit in ways of its own."""
    with pytest.raises(StopIteration) as done:
        coroutine.send(None)
    return done.value.value
