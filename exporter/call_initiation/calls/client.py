"""The doors in: transports that wrap a client's own, one for sync and one for async, for httpx and for httpx2.

A wrapped transport gives the caller what the inner one gives: the same response object, the same exception object,
and every attribute that we don't have ourselves. httpx and httpx2 each assert on stream classes of their own, so the
classes are made once for each of the two, when first needed; neither is imported before the dialer does.

A call that fails counts as not sent only where the inner transport is known to send a request once, and given up
before it was sent only where it is known to read the request's stream no sooner than it sends it. The libraries' own
do both; any other one, a subclass with a way of its own among them, may promise both by an attribute of its class,
`reads_stream_at_send = True`.
"""

from collections.abc import AsyncGenerator
from functools import cache
from importlib import import_module
from time import perf_counter_ns
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self, final

from call_initiation.calls.observation import Observation, StreamObservation, Streams
from call_initiation.calls.wrapper import Observer, Passing, Wrapper
from call_initiation.errors import InstrumentError

if TYPE_CHECKING:
    import httpx

_LIBRARIES: Final = ("httpx", "httpx2")
_SENDING_ONCE: Final = frozenset({"httpx_aiohttp.AiohttpTransport", "httpx.MockTransport", "httpx2.MockTransport"})


class Doors(NamedTuple):
    """The two transports of one library."""

    sync: type[Any]
    asynchronous: type[Any]


@cache
def doors(library: str) -> Doors:  # noqa: C901 - small classes, which need the library to derive from
    """Make the transports for `httpx` or `httpx2`."""
    module = import_module(library)

    class BytesObservation(Observation, module.ByteStream):  # type: ignore[misc, name-defined]
        """Stands in for a request's whole body, which sync and async transports alike may read."""

        @property
        def _stream(self) -> Any:
            return self.stream._stream  # noqa: SLF001 - where hooks look for the body

        def __iter__(self) -> Any:
            self.sent_ns = self.sent_ns or perf_counter_ns()
            return iter(self.stream)

        def __aiter__(self) -> Any:
            self.sent_ns = self.sent_ns or perf_counter_ns()
            return aiter(self.stream)

    class RequestStream(Passing, module.SyncByteStream):  # type: ignore[misc, name-defined]
        """Stands in for a request's stream."""

        def __iter__(self) -> Any:
            self._observation.begin()
            return iter(self._own)

        def close(self) -> None:
            self._own.close()

    class AsyncRequestStream(Passing, module.AsyncByteStream):  # type: ignore[misc, name-defined]
        """Stands in for a request's stream."""

        def __aiter__(self) -> Any:
            self._observation.begin()
            return aiter(self._own)

        async def aclose(self) -> None:
            await self._own.aclose()

    class EitherRequestStream(RequestStream, AsyncRequestStream):
        """Stands in for a request's stream that both kinds of transports may read, as a form's files are."""

    def request_stream(own: Any, observation: StreamObservation) -> Any:
        is_sync, is_async = isinstance(own, module.SyncByteStream), isinstance(own, module.AsyncByteStream)
        kind = EitherRequestStream if is_sync and is_async else RequestStream if is_sync else AsyncRequestStream
        return kind(own, observation)

    class AnswerStream(Passing, module.SyncByteStream):  # type: ignore[misc, name-defined]
        """Stands in for an answer's stream, and is let go of with it; what it tells the observation stays."""

        def __iter__(self) -> Any:
            observation = self._observation
            try:
                for chunk in self._own:
                    observation.passed(chunk)
                    yield chunk
            except Exception:
                observation.broken_off()
                raise
            observation.read()

        def close(self) -> None:
            self._observation.is_open = False
            self._own.close()

    class AsyncAnswerStream(Passing, module.AsyncByteStream):  # type: ignore[misc, name-defined]
        """Stands in for an answer's stream, and is let go of with it; what it tells the observation stays."""

        async def __aiter__(self) -> Any:
            observation, chunks = self._observation, aiter(self._own)
            try:
                async for chunk in chunks:
                    observation.passed(chunk)
                    yield chunk
            except GeneratorExit:
                if isinstance(chunks, AsyncGenerator):  # who closes this one closes that one, in the same task
                    await chunks.aclose()
                raise
            except Exception:
                observation.broken_off()
                raise
            observation.read()

        async def aclose(self) -> None:
            self._observation.is_open = False
            await self._own.aclose()

    class ObservedTransport(Wrapper, module.BaseTransport):  # type: ignore[misc, name-defined]
        """Wraps a sync transport: calls are observed, all else passes untouched."""

        def __init__(self, inner: Any, exporter: Observer) -> None:
            promised = _promises(inner, module.HTTPTransport, "handle_request")
            streams = Streams(module.ByteStream, BytesObservation, request_stream, AnswerStream, *promised)
            super().__init__(inner, exporter, streams)

        def handle_request(self, request: Any) -> Any:
            inner, exporter, streams = self._parts
            observed = exporter.observe(request, streams)
            if observed is None:
                return inner.handle_request(request)
            try:
                response = inner.handle_request(request)
            except BaseException as error:
                observed.failed(error)
                raise
            return observed.answered(response)

        def __enter__(self) -> Self:
            self._parts.inner.__enter__()
            return self

        def __exit__(
            self,
            kind: type[BaseException] | None = None,
            error: BaseException | None = None,
            traceback: TracebackType | None = None,
        ) -> Any:
            return self._parts.inner.__exit__(kind, error, traceback)

        def close(self) -> None:
            self._parts.inner.close()

    class AsyncObservedTransport(Wrapper, module.AsyncBaseTransport):  # type: ignore[misc, name-defined]
        """Wraps an async transport: calls are observed, all else passes untouched."""

        def __init__(self, inner: Any, exporter: Observer) -> None:
            promised = _promises(inner, module.AsyncHTTPTransport, "handle_async_request")
            streams = Streams(module.ByteStream, BytesObservation, request_stream, AsyncAnswerStream, *promised)
            super().__init__(inner, exporter, streams)

        async def handle_async_request(self, request: Any) -> Any:
            inner, exporter, streams = self._parts
            observed = exporter.observe(request, streams)
            if observed is None:
                return await inner.handle_async_request(request)
            try:
                response = await inner.handle_async_request(request)
            except BaseException as error:
                observed.failed(error)
                raise
            return observed.answered(response)

        async def __aenter__(self) -> Self:
            await self._parts.inner.__aenter__()
            return self

        async def __aexit__(
            self,
            kind: type[BaseException] | None = None,
            error: BaseException | None = None,
            traceback: TracebackType | None = None,
        ) -> Any:
            return await self._parts.inner.__aexit__(kind, error, traceback)

        async def aclose(self) -> None:
            await self._parts.inner.aclose()

    return Doors(ObservedTransport, AsyncObservedTransport)


def instrument(client: Any, exporter: Observer) -> None:
    """Wrap every transport of a client, its mounts and proxies included; one that is wrapped already stays as it is.

    Raises:
        InstrumentError: `client` is no client of httpx or httpx2.
    """
    library = library_of(client)
    if library is None or not hasattr(client, "_transport") or not hasattr(client, "_mounts"):
        raise InstrumentError(_class_name(client))
    made = doors(library)
    door = made.asynchronous if hasattr(client, "aclose") else made.sync
    client._transport = _wrapped(client._transport, door, exporter)  # noqa: SLF001 - a client has no public place for it
    for pattern, transport in client._mounts.items():  # noqa: SLF001 - as above
        if transport is not None:
            client._mounts[pattern] = _wrapped(transport, door, exporter)  # noqa: SLF001 - as above


def library_of(thing: object) -> str | None:
    """Return which of the two libraries an object's class stems from; None for neither."""
    roots = (cls.__module__.partition(".")[0] for cls in type(thing).__mro__)
    return next((root for root in roots if root in _LIBRARIES), None)


def _promises(transport: object, own: type[Any], handler: str) -> tuple[bool, bool]:
    """Tell whether a transport reads a request's stream when it sends it, and whether it sends a request once.

    The library's own does, and so do its subclasses that leave to it how a request is handled; httpx-aiohttp's and
    mocks send once, and don't read streams.
    """
    cls = type(transport)
    handling = next((base for base in cls.__mro__ if handler in vars(base)), None)
    does_both = handling is own or getattr(cls, "reads_stream_at_send", False) is True
    return does_both, does_both or f"{cls.__module__.partition('.')[0]}.{cls.__name__}" in _SENDING_ONCE


def _wrapped(transport: Any, door: type[Any], exporter: Observer) -> Any:
    return transport if _is_observed(transport, exporter) else door(transport, exporter)


def _is_observed(transport: Any, exporter: Observer) -> bool:
    """Tell whether a transport, or one that it holds as a retrying one does, is wrapped for the exporter."""
    waiting, seen = [transport], set[int]()
    while waiting:
        one = waiting.pop()
        held: Any = getattr(one, "__dict__", {}).values()
        if issubclass(type(one), Wrapper):
            held = one._parts  # noqa: SLF001 - it is ours
            if held.exporter is exporter:
                return True
        if id(one) not in seen:
            seen.add(id(one))
            waiting += filter(_is_transport, held)
    return False


def _is_transport(thing: object) -> bool:
    return any(hasattr(type(thing), handler) for handler in ("handle_request", "handle_async_request"))


def _class_name(thing: object) -> str:
    return f"{type(thing).__module__}.{type(thing).__qualname__}"


if TYPE_CHECKING:

    @final
    class ObservedTransport(httpx.BaseTransport):
        """Wraps a sync transport of httpx or httpx2: calls are observed, all else passes untouched."""

        def __init__(self, inner: Any, exporter: Observer) -> None: ...

    @final
    class AsyncObservedTransport(httpx.AsyncBaseTransport):
        """Wraps an async transport of httpx or httpx2: calls are observed, all else passes untouched."""

        def __init__(self, inner: Any, exporter: Observer) -> None: ...

else:

    class _Face:
        """Makes what its name says, which is another class for each library."""

        def __init_subclass__(cls) -> None:
            if cls.__base__ is not _Face:
                raise TypeError("derive from the transport that it wraps: this one is made for each library")  # noqa: TRY003 - said once

    class ObservedTransport(_Face):
        """Wraps a sync transport of httpx or httpx2: calls are observed, all else passes untouched."""

        def __new__(cls, inner: Any, exporter: Observer) -> Any:
            """Make the transport for the library that the inner one stems from; httpx where it stems from neither."""
            return doors(library_of(inner) or "httpx").sync(inner, exporter)

    class AsyncObservedTransport(_Face):
        """Wraps an async transport of httpx or httpx2: calls are observed, all else passes untouched."""

        def __new__(cls, inner: Any, exporter: Observer) -> Any:
            """Make the transport for the library that the inner one stems from; httpx where it stems from neither."""
            return doors(library_of(inner) or "httpx").asynchronous(inner, exporter)
