"""The doors in: transports that wrap a client's own, one for sync and one for async, for httpx and for httpx2.

A wrapped transport gives the caller what the inner one gives: the same response object, the same exception object,
and every attribute that we don't have ourselves. httpx and httpx2 each assert on stream classes of their own, so the
classes are made once for each of the two, when first needed; neither is imported before the dialer does.

A call that fails counts as not sent only where the inner transport is known to read a request's stream no sooner than
it sends it: the libraries' own do; any other one may promise it by an attribute of its class,
`reads_stream_at_send = True`.
"""

import sys
from functools import cache
from importlib import import_module
from time import perf_counter_ns
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, Self

from call_initiation.calls.observation import Observation, Streams
from call_initiation.errors import InstrumentError

if TYPE_CHECKING:
    import httpx

_LIBRARIES: Final = ("httpx", "httpx2")


class Observer(Protocol):
    """What the transports need of an exporter."""

    def observe(self, request: Any, streams: Streams, /) -> Observation | None:
        """Return the observation of a request, or None for one that starts no call; never raises."""
        ...


class Parts(NamedTuple):
    """What a wrapped transport is made of."""

    inner: Any
    exporter: Observer
    streams: Streams


class Wrapper:
    """Behaves like the transport that it wraps wherever it isn't asked to place a call."""

    def __init__(self, inner: Any, exporter: Observer, streams: Streams) -> None:
        self._parts = Parts(inner, exporter, streams)  # in one, for with a `__getattr__` every look at `self` is dear

    # isinstance() asks for it, and the right answer is the class of what the caller put there.
    @property  # type: ignore[misc]
    def __class__(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The inner transport's class."""
        inner: object = self._parts.inner
        return type(inner)

    def __getattr__(self, name: str) -> Any:
        """Look up on the inner transport what we don't have."""
        return getattr(self._parts.inner, name)

    def __eq__(self, other: object) -> bool:
        """Tell whether the other one is, or wraps, the same transport."""
        theirs: Any = other
        return bool(self._parts.inner == (theirs._parts.inner if issubclass(type(other), Wrapper) else theirs))

    def __hash__(self) -> int:
        """Return the inner transport's hash, for what is equal must have the same."""
        return hash(self._parts.inner)


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

        def __iter__(self) -> Any:
            self.sent_ns = self.sent_ns or perf_counter_ns()
            return iter(self.stream)

        def __aiter__(self) -> Any:
            self.sent_ns = self.sent_ns or perf_counter_ns()
            return aiter(self.stream)

    class StreamObservation(Observation, module.SyncByteStream):  # type: ignore[misc, name-defined]
        """Stands in for a request's stream."""

        def __iter__(self) -> Any:
            self.sent_ns = self.sent_ns or perf_counter_ns()
            return iter(self.stream)

        def close(self) -> None:
            self.stream.close()

    class AsyncStreamObservation(Observation, module.AsyncByteStream):  # type: ignore[misc, name-defined]
        """Stands in for a request's stream."""

        def __aiter__(self) -> Any:
            self.sent_ns = self.sent_ns or perf_counter_ns()
            return aiter(self.stream)

        async def aclose(self) -> None:
            await self.stream.aclose()

    class AnswerStream(module.SyncByteStream):  # type: ignore[misc, name-defined]
        """Stands in for an answer's stream, and is let go of with it; what it tells the observation stays."""

        def __init__(self, stream: Any, observation: Observation) -> None:
            self._stream, self._observation = stream, observation

        def __iter__(self) -> Any:
            observation = self._observation
            try:
                for chunk in self._stream:
                    observation.passed(chunk)
                    yield chunk
            except Exception:
                observation.broken_off()
                raise
            observation.read()

        def close(self) -> None:
            self._observation.is_open = False
            self._stream.close()

    class AsyncAnswerStream(module.AsyncByteStream):  # type: ignore[misc, name-defined]
        """Stands in for an answer's stream, and is let go of with it; what it tells the observation stays."""

        def __init__(self, stream: Any, observation: Observation) -> None:
            self._stream, self._observation = stream, observation

        async def __aiter__(self) -> Any:
            observation = self._observation
            try:
                async for chunk in self._stream:
                    observation.passed(chunk)
                    yield chunk
            except Exception:
                observation.broken_off()
                raise
            observation.read()

        async def aclose(self) -> None:
            self._observation.is_open = False
            await self._stream.aclose()

    class ObservedTransport(Wrapper, module.BaseTransport):  # type: ignore[misc, name-defined]
        """Wraps a sync transport: calls are observed, all else passes untouched."""

        def __init__(self, inner: Any, exporter: Observer) -> None:
            are_sent = _reads_streams(inner, module.HTTPTransport)
            streams = Streams(module.ByteStream, BytesObservation, StreamObservation, AnswerStream, are_sent)
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
            are_sent = _reads_streams(inner, module.AsyncHTTPTransport)
            streams = Streams(module.ByteStream, BytesObservation, AsyncStreamObservation, AsyncAnswerStream, are_sent)
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
    return next((root for root in roots if root in _LIBRARIES and root in sys.modules), None)


def _reads_streams(transport: object, own: type[Any]) -> bool:
    """Tell whether a transport reads a request's stream when it sends it: the library's own does, others may say so."""
    cls = type(transport)
    return issubclass(cls, own) or getattr(cls, "reads_stream_at_send", False) is True


def _wrapped(transport: Any, door: type[Any], exporter: Observer) -> Any:
    if issubclass(type(transport), Wrapper) and transport._parts.exporter is exporter:  # noqa: SLF001 - it is ours
        return transport
    return door(transport, exporter)


def _class_name(thing: object) -> str:
    return f"{type(thing).__module__}.{type(thing).__qualname__}"


if TYPE_CHECKING:

    class ObservedTransport(httpx.BaseTransport):
        """Wraps a sync transport of httpx or httpx2: calls are observed, all else passes untouched."""

        def __init__(self, inner: Any, exporter: Observer) -> None: ...

    class AsyncObservedTransport(httpx.AsyncBaseTransport):
        """Wraps an async transport of httpx or httpx2: calls are observed, all else passes untouched."""

        def __init__(self, inner: Any, exporter: Observer) -> None: ...

else:

    class ObservedTransport:
        """Wraps a sync transport of httpx or httpx2: calls are observed, all else passes untouched."""

        def __new__(cls, inner: Any, exporter: Observer) -> Any:
            """Make the transport for the library that the inner one stems from; httpx where it stems from neither."""
            return doors(library_of(inner) or "httpx").sync(inner, exporter)

    class AsyncObservedTransport:
        """Wraps an async transport of httpx or httpx2: calls are observed, all else passes untouched."""

        def __new__(cls, inner: Any, exporter: Observer) -> Any:
            """Make the transport for the library that the inner one stems from; httpx where it stems from neither."""
            return doors(library_of(inner) or "httpx").asynchronous(inner, exporter)
