"""What the doors promise: they are what they wrap, they watch calls alone, and they bring no library in."""

import copy
import gc
import pickle
import subprocess
import sys
import weakref
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import httpx
import httpx2
import pytest
from opentelemetry.instrumentation.httpx import SyncOpenTelemetryTransport

from call_initiation import AsyncObservedTransport, InstrumentError, ObservedTransport
from call_initiation.calls.client import library_of
from call_initiation.calls.endpoints import Endpoint
from call_initiation.calls.observation import Observation, StreamObservation, Streams
from call_initiation.calls.tracing import Tracing
from call_initiation.calls.wrapper import Wrapper
from call_initiation.events import Outcome
from servers import Server, always, answer
from twins import CALLS, DOORS, OTHER, PAYLOAD, Door, listening

each_door = pytest.mark.parametrize("door", DOORS, ids=str)


class Inner(httpx.BaseTransport):
    """A transport with a life of its own."""

    kind = "inner"

    def __init__(self) -> None:
        self.requests: list[tuple[httpx.Request, Any]] = []
        self.level = 1

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer, and remember what came."""
        self.requests.append((request, request.stream))
        return httpx.Response(202, request=request)

    def raise_level(self) -> int:
        """Do something that only this transport can."""
        self.level += 1
        return self.level

    def __exit__(self, *_: object) -> bool:  # type: ignore[override]
        """Swallow what ends the block, as a context manager may."""
        return True


def test_a_wrapped_transport_is_what_it_wraps() -> None:
    """Its class, its attributes and its methods are the inner transport's; what neither has is missing."""
    exporter, _ = listening()
    inner = Inner()
    with exporter:
        wrapped: Any = ObservedTransport(inner, exporter)
        assert isinstance(wrapped, Inner)
        assert isinstance(wrapped, httpx.BaseTransport)
        assert not isinstance(wrapped, httpx.HTTPTransport)
        assert "inner" == wrapped.kind
        assert (2, 2) == (wrapped.raise_level(), inner.level)
        with pytest.raises(AttributeError, match="'Inner' object has no attribute 'nothing'"):
            _ = wrapped.nothing


def test_a_wrapped_transport_equals_what_it_wraps() -> None:
    """Whoever compares or looks up transports finds the one that the caller put there."""
    exporter, _ = listening()
    inner, other = Inner(), Inner()
    with exporter:
        wrapped: Any = ObservedTransport(inner, exporter)
        assert wrapped == inner
        assert inner == wrapped
        assert wrapped == ObservedTransport(inner, exporter)
        assert wrapped != other
        assert wrapped != ObservedTransport(other, exporter)
        assert "found" == {inner: "found"}[wrapped]


def test_what_is_set_on_a_wrapped_transport_is_set_on_what_it_wraps() -> None:
    """It goes on with the new value; what another instrumentation puts before our handler stays before it."""
    exporter, listed = listening()
    inner, request = Inner(), httpx.Request("POST", f"http://example.com{CALLS}")
    with exporter:
        wrapped: Any = ObservedTransport(inner, exporter)
        wrapped.level, wrapped.news = 7, "new"
        assert (8, 8, "new") == (wrapped.raise_level(), inner.level, inner.news)  # type: ignore[attr-defined]
        del wrapped.news
        assert not hasattr(inner, "news")
        handler, seen = wrapped.handle_request, []
        wrapped.handle_request = lambda request: seen.append(request) or handler(request)
        assert 202 == wrapped.handle_request(request).status_code
        del wrapped.handle_request
        assert 202 == wrapped.handle_request(request).status_code
        exporter.flush()
    assert [request] == seen
    assert (2, 2) == (len(inner.requests), len(listed.attempts))


def test_a_wrapped_transport_is_copied_as_what_it_wraps() -> None:
    """Copies have a life of their own and are observed as well; a pickled one leaves the exporter behind."""
    exporter, listed = listening()
    inner = Inner()
    with exporter:
        wrapped: Any = ObservedTransport(inner, exporter)
        shallow, deep = copy.copy(wrapped), copy.deepcopy(wrapped)
        assert ([1, 1], 2) == ([shallow.level, deep.level], wrapped.raise_level())
        assert shallow.requests is inner.requests is not deep.requests
        pickled = pickle.loads(pickle.dumps(wrapped))  # noqa: S301 - our own
        for each in (shallow, deep):
            each.handle_request(httpx.Request("POST", f"http://example.com{CALLS}"))
        exporter.flush()
        assert repr(inner) == repr(wrapped)
    assert 2 == len(listed.attempts)
    assert (Inner, 2) == (type(pickled), pickled.level)


def test_a_context_manager_answers_as_the_inner_one() -> None:
    """An inner transport that swallows an exception swallows it still."""
    exporter, _ = listening()
    with exporter, ObservedTransport(Inner(), exporter):
        raise ValueError


@each_door
def test_every_transport_of_a_client_is_wrapped_once(door: Door) -> None:
    """The same client comes back; mounts and proxies are wrapped, gaps stay gaps, and twice is once."""
    exporter, listed = listening()
    client = door.client(proxy="http://127.0.0.1:1", mounts={"all://example.com": None})
    with exporter, Server(always(answer(400))) as server:
        assert client is exporter.instrument(client)
        once = [client._transport, *client._mounts.values()]
        assert client is exporter.instrument(client)
        assert all(a is b for a, b in zip(once, [client._transport, *client._mounts.values()], strict=True))
        assert [True, False, True] == [issubclass(type(transport), Wrapper) for transport in once]

        async def dial() -> None:
            plain = exporter.instrument(exporter.instrument(door.client(base_url=server.url)))
            await door.do(plain, "post", CALLS, json=PAYLOAD)
            await door.do(plain, "close")
            await door.do(client, "close")

        anyio.run(dial)
        exporter.flush()
    assert 1 == len(listed.attempts)


class Around(httpx.BaseTransport):
    """Stands around another transport, as one that tries again does; and may hold itself."""

    def __init__(self, inner: httpx.BaseTransport) -> None:
        self.me, self.inner = self, inner

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Pass a request on."""
        return self.inner.handle_request(request)


def test_a_transport_around_an_observed_one_is_not_observed_again() -> None:
    """One that was wrapped by hand, further in, sees each call as it is sent: twice is once."""
    exporter, listed = listening()
    inner = Inner()
    with exporter, httpx.Client(transport=Around(Around(ObservedTransport(inner, exporter)))) as client:
        exporter.instrument(client).post(f"http://example.com{CALLS}", json=PAYLOAD)
        exporter.flush()
    assert (1, 1) == (len(inner.requests), len(listed.attempts))


def test_a_transport_around_an_unobserved_one_is_observed() -> None:
    """Even if it goes round in circles."""
    exporter, listed = listening()
    with exporter, httpx.Client(transport=Around(Inner())) as client:
        exporter.instrument(client).post(f"http://example.com{CALLS}", json=PAYLOAD)
        exporter.flush()
    assert 1 == len(listed.attempts)


@pytest.mark.parametrize("face", [ObservedTransport, AsyncObservedTransport])
def test_nobody_derives_from_the_faces(face: type) -> None:
    """What would be overridden would be lost, for each library has a class of its own: so it is refused at once."""
    with pytest.raises(TypeError, match="derive from the transport that it wraps"):
        type("Mine", (face,), {})


def test_two_exporters_observe_the_same_client() -> None:
    """Another exporter is not the same one: each records the call."""
    (first, heard_first), (second, heard_second) = listening(), listening()
    with first, second, Server(always(answer(202))) as server:
        with second.instrument(first.instrument(httpx.Client(base_url=server.url))) as client:
            first.instrument(client).post(CALLS)  # once more, below the other one's: twice is once
        first.flush()
        second.flush()
    assert (1, 1) == (len(heard_first.attempts), len(heard_second.attempts))


@pytest.mark.parametrize(
    ("method", "url"),
    [("POST", OTHER), ("GET", CALLS), ("PUT", CALLS), ("POST", f"{CALLS}/a/b/c"), ("POST", "/oauth/token")],
)
def test_other_requests_pass_untouched(method: str, url: str) -> None:
    """The inner transport gets the very request, with its very stream; the answer has its own stream, too."""
    exporter, listed = listening()
    inner = Inner()
    request = httpx.Request(method, f"http://example.com{url}", content=b"{}")
    stream = request.stream
    with exporter:
        response = ObservedTransport(inner, exporter).handle_request(request)
        exporter.flush()
    assert [(request, stream)] == inner.requests
    assert stream is request.stream
    assert isinstance(response.stream, httpx.ByteStream)
    assert [] == listed.events


def test_a_calls_answer_is_the_inner_ones() -> None:
    """The response is the very object that the inner transport gave; a body that is whole already isn't touched."""
    exporter, listed = listening()
    whole, streamed = httpx.Response(400, content=b"{}"), httpx.Response(400, stream=Pieces())
    stream = whole.stream
    with exporter:
        for response in (whole, streamed):
            wrapped = ObservedTransport(httpx.MockTransport(lambda _, response=response: response), exporter)
            assert response is wrapped.handle_request(httpx.Request("POST", f"http://example.com{CALLS}"))
        assert stream is whole.stream
        assert [b"{", b"}"] == list(streamed.iter_raw())
        exporter.flush()
    assert ["whole", "whole"] == [attempt.body for attempt in listed.attempts]


class Pieces(httpx.SyncByteStream):
    """A body in pieces."""

    def __iter__(self) -> Iterator[bytes]:
        """Give the pieces."""
        yield from (b"{", b"}")


@each_door
def test_a_transport_may_close_what_it_sent(door: Door) -> None:
    """Closing the request's stream closes the caller's."""
    closed: list[str] = []

    class Given(door.module.SyncByteStream, door.module.AsyncByteStream):  # type: ignore[misc, name-defined]
        def close(self) -> None:
            closed.append("close")

        async def aclose(self) -> None:
            closed.append("aclose")

    class Closing(door.module.BaseTransport, door.module.AsyncBaseTransport):  # type: ignore[misc, name-defined]
        def handle_request(self, request: Any) -> Any:
            request.stream.close()
            return door.module.Response(202)

        async def handle_async_request(self, request: Any) -> Any:
            await request.stream.aclose()
            return door.module.Response(202)

    exporter, _ = listening()

    async def dial() -> None:
        client = exporter.instrument(door.client(transport=Closing()))
        await door.do(client, "send", door.module.Request("POST", f"http://example.com{CALLS}", stream=Given()))
        await door.do(client, "close")

    with exporter:
        anyio.run(dial)
    assert ["aclose" if door.is_async else "close"] == closed


class Keeping:
    """Observes every request, and keeps what it saw."""

    def __init__(self) -> None:
        self.kept: list[Observation] = []

    def observe(self, request: Any, streams: Streams) -> Observation:
        """Observe a request."""
        kind = streams.of_bytes if isinstance(request.stream, streams.byte_stream) else StreamObservation
        self.kept.append(kind(Endpoint(CALLS), request, streams, Tracing(), self))
        return self.kept[-1]

    def submit(self, _: Observation) -> bool:
        """Take it that it is kept already."""
        return True

    def fault(self, stage: str) -> None:
        """Fail."""
        raise AssertionError(stage)


class Left(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body in two pieces, which notes when its reading ends."""

    def __init__(self) -> None:
        self.is_left = False

    def __iter__(self) -> Iterator[bytes]:
        """Give the pieces."""
        yield from (b"{", b"}")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Give the pieces."""
        try:
            yield b"{"
            yield b"}"
        finally:
            self.is_left = True


def test_a_request_lets_go_of_its_body_with_its_call() -> None:
    """What the transport has read of it stays known; the caller's own stream isn't the recorder's to keep."""
    keeping, own = Keeping(), Left()
    transport = ObservedTransport(httpx.MockTransport(lambda _: httpx.Response(202)), keeping)
    transport.handle_request(httpx.Request("POST", f"http://example.com{CALLS}", stream=own))
    reference = weakref.ref(own)
    del own
    gc.collect()
    assert (None, b"{}") == (reference(), keeping.kept[0].content())


def test_an_answer_that_its_reader_leaves_is_left_at_once() -> None:
    """In the reader's own task, not when its remains are collected; closed, nobody waits for its rest any more."""
    keeping, own = Keeping(), Left()

    async def dial() -> None:
        answers = httpx.MockTransport(lambda _: httpx.Response(400, stream=own))
        transport = AsyncObservedTransport(answers, keeping)
        response = await transport.handle_async_request(httpx.Request("POST", f"http://example.com{CALLS}", json={}))
        pieces: Any = aiter(response.stream)  # type: ignore[arg-type]
        assert b"{" == await anext(pieces)
        await pieces.aclose()
        assert (True, True) == (own.is_left, keeping.kept[0].is_open)
        await response.aclose()
        assert not keeping.kept[0].is_open

    anyio.run(dial)


def test_a_body_that_both_colours_may_read_stays_one() -> None:
    """A sync transport that bridges to an async one hands the request over, whose body must serve both."""

    class Bridge(httpx.BaseTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            async def send() -> tuple[int, bytes]:
                async with httpx.AsyncHTTPTransport(verify=False) as transport:
                    response = await transport.handle_async_request(request)
                    return response.status_code, await response.aread()

            status, content = anyio.run(send)
            return httpx.Response(status, content=content)

    exporter, listed = listening()
    with exporter, Server(always(answer(400, b'{"code":"bad.request"}'))) as server:
        with exporter.instrument(httpx.Client(transport=Bridge())) as client:
            assert 400 == client.post(f"{server.url}{CALLS}", json=PAYLOAD).status_code
        exporter.flush()
    assert ["bad.request"] == [attempt.error_code for attempt in listed.attempts]
    assert listed.attempts[0].sent_at is not None


@each_door
def test_transports_by_hand(door: Door) -> None:
    """The two names of the face serve both libraries, and nest with other wrappers."""
    exporter, listed = listening()
    made = AsyncObservedTransport if door.is_async else ObservedTransport

    async def dial(url: str) -> None:
        client = door.client(transport=made(door.transport(), exporter))
        assert client is exporter.instrument(client)
        await door.do(client, "post", f"{url}{CALLS}", json=PAYLOAD)
        await door.do(client, "close")

    with exporter, Server(always(answer(400))) as server:
        anyio.run(dial, server.url)
        exporter.flush()
    assert 1 == len(listed.attempts)


def test_a_wrapper_around_ours() -> None:
    """Another library's transport may stand between a client and ours."""
    exporter, listed = listening()
    with exporter, Server(always(answer(400))) as server:
        inner = ObservedTransport(httpx.HTTPTransport(), exporter)
        with httpx.Client(transport=SyncOpenTelemetryTransport(inner)) as client:
            client.post(f"{server.url}{CALLS}")
        exporter.flush()
    assert 1 == len(listed.attempts)


def test_a_transport_of_no_library_is_taken_for_httpxs() -> None:
    """By hand, anything with the right methods may be wrapped."""

    class Duck:
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            return httpx.Response(202, request=request)

    exporter, listed = listening()
    with exporter:
        ObservedTransport(Duck(), exporter).handle_request(httpx.Request("POST", f"http://example.com{CALLS}"))
        exporter.flush()
    assert [202] == [attempt.status_code for attempt in listed.attempts]


@pytest.mark.parametrize(
    ("promise", "outcome"),
    [(True, Outcome.CANCELLED), (False, Outcome.AMBIGUOUS), (property(lambda _: False), Outcome.AMBIGUOUS)],
)
def test_a_transport_may_promise_to_read_the_stream_at_the_send(promise: object, outcome: Outcome) -> None:
    """Only then is a call that was given up, and whose stream wasn't read, known not to have been sent."""

    class Promising(httpx.BaseTransport):
        reads_stream_at_send = promise

        def handle_request(self, request: httpx.Request) -> httpx.Response:
            raise KeyboardInterrupt(request.method)

    exporter, listed = listening()
    request = httpx.Request("POST", f"http://example.com{CALLS}", json=PAYLOAD)
    with exporter:
        with pytest.raises(KeyboardInterrupt):
            ObservedTransport(Promising(), exporter).handle_request(request)
        exporter.flush()
    assert [outcome] == [attempt.outcome for attempt in listed.attempts]


@pytest.mark.parametrize(
    ("thing", "name"),
    [
        (None, "builtins.NoneType"), (7, "builtins.int"), (httpx, "builtins.module"), (httpx.Client, "builtins.type"),
        (httpx.HTTPTransport(), "httpx.HTTPTransport"), (httpx2.URL("/"), "httpx2.URL"),
    ],
)  # fmt: skip
def test_what_is_no_client_is_refused(thing: object, name: str) -> None:
    """The error says what was found and what was expected."""
    exporter, _ = listening()
    with exporter, pytest.raises(InstrumentError) as caught:
        exporter.instrument(thing)
    assert f"cannot instrument {name}: expected a Client or AsyncClient of httpx or httpx2" == str(caught.value)


def test_libraries_are_told_apart() -> None:
    """Subclasses of a client belong to their library; anything else to none."""

    class Own(httpx.Client):
        pass

    own = Own()
    assert ("httpx", "httpx2", None) == (library_of(own), library_of(httpx2.URL("/")), library_of(3))
    own.close()


@pytest.mark.parametrize(("used", "unused"), [("httpx", "httpx2"), ("httpx2", "httpx")])
def test_no_library_is_imported_that_the_dialer_did_not(used: str, unused: str) -> None:
    """Placing a call through one library leaves the other where it was: on disk."""
    program = f"""
import sys
import call_initiation
assert not {{"httpx", "httpx2"}} & sys.modules.keys(), "imported by the package itself"
import {used}
with call_initiation.Exporter(settle=0) as exporter:
    transport = {used}.MockTransport(lambda request: {used}.Response(400))
    exporter.instrument({used}.Client(transport=transport)).post("http://example.com{CALLS}")
    assert exporter.flush()
    assert 1 == exporter.ledgers()["attempts"].exported
assert "{unused}" not in sys.modules
"""
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert (0, "") == (done.returncode, done.stderr)
