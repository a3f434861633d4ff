"""Transparency for what else looks at a call: hooks of other instrumentations, signing and retrying transports."""

import asyncio
import gc
import hashlib
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import httpx
import pytest

from call_initiation.events import Outcome
from servers import Server, always, answer
from twins import CALLS, DOORS, PAYLOAD, Door, Equip, listening, twins

FORM = "multipart/form-data; boundary=between"

each_door = pytest.mark.parametrize("door", DOORS, ids=str)
each_async_door = pytest.mark.parametrize("door", [door for door in DOORS if door.is_async], ids=str)


def around(door: Door, look: Any) -> Any:
    """Return a transport of one's own around the library's, which shows each request and answer to `look`."""
    inner = door.transport()
    base = door.module.AsyncBaseTransport if door.is_async else door.module.BaseTransport

    class Sync(base):  # type: ignore[misc]
        def handle_request(self, request: Any) -> Any:
            look(request)
            response = inner.handle_request(request)
            look(response)
            return response

        def close(self) -> None:
            inner.close()

    class Async(base):  # type: ignore[misc]
        async def handle_async_request(self, request: Any) -> Any:
            look(request)
            response = await inner.handle_async_request(request)
            look(response)
            return response

        async def aclose(self) -> None:
            await inner.aclose()

    return Async() if door.is_async else Sync()


@each_door
@pytest.mark.parametrize("body", [{"json": PAYLOAD}, {"files": {"list": b"a,b"}}], ids=["bytes", "form"])
def test_a_hook_that_looks_into_streams(door: Door, body: dict[str, Any]) -> None:
    """It finds the body's bytes where they are without us, or the form's boundary, and an answer's connection."""

    async def scenario(door: Door, equip: Equip, url: str) -> Any:
        found: list[Any] = []

        def inside(message: Any) -> None:
            if hasattr(message, "method"):
                found.append(getattr(message.stream, "_stream", None) or len(message.stream.boundary))
                found.append(hasattr(message.stream, "nothing"))

        client = equip(door.client(base_url=url, transport=around(door, inside)))
        async with anyio.create_task_group():
            request = client.build_request("POST", CALLS, **body)
            response = await door.do(client, "send", request, stream=True)
            found.append(type(response.stream._stream._httpcore_stream).__name__)
            await door.do(response, "close")
        await door.do(client, "close")
        return found

    with Server(always(answer(400, b"{}"))) as server:
        (attempt,) = anyio.run(twins, scenario, door, server.url)
    assert Outcome.REJECTED is attempt.outcome


@each_async_door
def test_a_form_that_is_signed_before_it_is_sent(door: Door) -> None:
    """A form may be read by sync and async transports alike, and still is."""

    async def scenario(door: Door, equip: Equip, url: str) -> Any:
        def sign(message: Any) -> None:
            if hasattr(message, "method"):
                message.headers["digest"] = hashlib.sha256(message.read()).hexdigest()

        async with equip(door.client(base_url=url, transport=around(door, sign))) as client:
            response = await client.post(CALLS, files={"list": b"a,b"}, headers={"Content-Type": FORM})
            return response.status_code

    with Server(always(answer(202))) as server:
        (attempt,) = asyncio.run(twins(scenario, door, server.url))
    digests = {hashlib.sha256(received.body).hexdigest() for received in server.received}
    assert digests == {received.headers["digest"] for received in server.received}
    assert attempt.sent_at is not None


@pytest.mark.parametrize("door", [door for door in DOORS if not door.is_async], ids=str)
def test_a_bodys_generator_that_is_not_read_to_its_end(door: Door) -> None:
    """Its `finally` runs on the caller's thread, as soon as the caller lets go of the call."""

    async def scenario(door: Door, equip: Equip, url: str) -> Any:
        story: list[Any] = []

        def body() -> Iterator[bytes]:
            try:
                yield from [b"{", b"}"]
            finally:
                story.append(threading.current_thread() is threading.main_thread())

        class Early(door.module.BaseTransport):  # type: ignore[misc, name-defined]
            def handle_request(self, request: Any) -> Any:
                next(iter(request.stream))
                return door.module.Response(413, request=request)

        with equip(door.client(base_url=url, transport=Early())) as client:
            story.append(client.post(CALLS, content=body()).status_code)
            gc.collect()  # httpx's answers go round in circles
            story.append("the caller goes on")
        return story

    (attempt,) = asyncio.run(twins(scenario, door, "http://example.com"))
    assert 413 == attempt.status_code


@each_async_door
def test_an_answer_that_cannot_be_decoded_is_closed_in_order(door: Door) -> None:
    """Who closes the outer stream closes the inner one with it, in the same task, if the library does so at all."""

    class Stream(door.module.AsyncByteStream):  # type: ignore[misc, name-defined]
        def __init__(self, story: list[Any]) -> None:
            self.story = story

        async def __aiter__(self) -> AsyncIterator[bytes]:
            try:
                with anyio.fail_after(60):
                    yield b"not gzip"
                    yield b"more"
            finally:
                self.story.append("the stream's end")

    async def scenario(door: Door, equip: Equip, url: str) -> Any:
        story: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: story.append(repr(context["exception"])))

        class Inner(door.module.AsyncBaseTransport):  # type: ignore[misc, name-defined]
            async def handle_async_request(self, request: Any) -> Any:
                return door.module.Response(
                    400, request=request, headers={"content-encoding": "gzip"}, stream=Stream(story)
                )

        async with equip(door.client(base_url=url, transport=Inner())) as client:
            try:
                await client.post(CALLS, json=PAYLOAD)
            except door.module.DecodingError:
                story.append("DecodingError")
        return story[:2] if door.module.__name__ == "httpx2" else "as it comes: httpx leaves it to the collector"

    asyncio.run(twins(scenario, door, "http://example.com"))


class Retrying(httpx.BaseTransport):
    """Signs each try anew, so that the observed request's own stream is never read."""

    def __init__(self, *tries: httpx.BaseTransport) -> None:
        self.tries = tries

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Try one after another until one answers."""
        *first, last = self.tries
        for inner in first:
            try:
                return inner.handle_request(self.signed(request))
            except httpx.ReadTimeout:
                pass
        return last.handle_request(self.signed(request))

    @staticmethod
    def signed(request: httpx.Request) -> httpx.Request:
        """Make the request anew."""
        made = httpx.Request(request.method, request.url, headers=request.headers, content=request.read())
        made.extensions = {"timeout": {"read": 0.15}}
        return made


def refuse(request: httpx.Request) -> httpx.Response:
    """Stand for a server that has gone."""
    raise httpx.ConnectError("refused", request=request)


def test_a_later_try_that_was_not_sent_hides_no_earlier_one() -> None:
    """The first try was sent and not answered in time, the second found nobody: it may have rung."""
    never = threading.Event()
    exporter, listed = listening()
    with exporter, Server(always(never)) as server:
        inner = Retrying(httpx.HTTPTransport(), httpx.MockTransport(refuse))
        client = exporter.instrument(httpx.Client(base_url=server.url, transport=inner))
        with client, pytest.raises(httpx.ConnectError):
            client.post(CALLS, json=PAYLOAD)
        never.set()
        assert exporter.flush()
    assert 1 == len(server.received)
    assert [Outcome.AMBIGUOUS] == [attempt.outcome for attempt in listed.attempts]


@each_async_door
def test_a_subclass_with_a_way_of_its_own_is_given_up_after_its_send(door: Door) -> None:
    """It makes the request anew, so nobody saw it go: it may have rung."""
    never = threading.Event()
    exporter, listed = listening()

    class Signing(door.module.AsyncHTTPTransport):  # type: ignore[misc, name-defined]
        async def handle_async_request(self, request: Any) -> Any:
            signed = door.module.Request(request.method, request.url, headers=request.headers, content=request.content)
            return await super().handle_async_request(signed)

    async def dial() -> None:
        async with exporter.instrument(door.client(base_url=server.url, transport=Signing())) as client:
            task = asyncio.create_task(client.post(CALLS, json=PAYLOAD))
            await asyncio.to_thread(server.wait)
            task.cancel()
            await asyncio.wait([task])

    with exporter, Server(always(never)) as server:
        asyncio.run(dial())
        never.set()
        assert exporter.flush()
    assert [Outcome.AMBIGUOUS] == [attempt.outcome for attempt in listed.attempts]


@each_async_door
def test_an_empty_body_goes_with_its_headers(door: Door) -> None:
    """A call given up between the two had been sent, though its stream was never read."""
    exporter, listed = listening()

    async def dial() -> None:
        reached = asyncio.Event()

        async def trace(name: str, _: Any) -> None:
            if name == "http11.send_request_headers.complete":
                reached.set()
                await asyncio.Event().wait()

        async with exporter.instrument(door.client(base_url=server.url)) as client:
            task = asyncio.create_task(client.post(CALLS, extensions={"trace": trace}))
            await reached.wait()
            task.cancel()
            await asyncio.wait([task])

    with exporter, Server(always(answer(202))) as server:
        asyncio.run(dial())
        assert exporter.flush()
    assert [Outcome.AMBIGUOUS] == [attempt.outcome for attempt in listed.attempts]
