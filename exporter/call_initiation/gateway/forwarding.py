"""One request on its way through the gateway: what is asked of the API, and what is said to the dialer.

Laws: a request's headers are the dialer's own in their order and spelling, after one Host and before one
Content-Length, and nothing is added. An answer is held back until it is whole, so that one that breaks off can still
be told as an error; only one that is larger than any call's is passed on while it comes.
"""

import asyncio
from collections.abc import AsyncIterator
from functools import lru_cache
from typing import Any, Final

import httpx
from opentelemetry import context as otel_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from call_initiation.calls.failures import Failure, failure_of
from call_initiation.events import Outcome, TransportFailure
from call_initiation.gateway import answers
from call_initiation.gateway.admission import Passage, Refusal
from call_initiation.gateway.answers import Answer
from call_initiation.gateway.front import Front
from call_initiation.gateway.relay import Origin

_HELD: Final = 262_144
_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH"})
"""Methods that say so where there is no body (RFC 9110, 8.6)."""
_PROPAGATOR: Final = TraceContextTextMapPropagator()


_GIVEN_UP: Final = Failure(Outcome.AMBIGUOUS, TransportFailure.CANCELLED)
_NOT_BEGUN: Final = Failure(Outcome.NOT_SENT, TransportFailure.CANCELLED)


class Content(httpx.ByteStream):
    """A request's body, which knows whether it has begun to be sent."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.is_sent = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Begin to be sent."""
        self.is_sent = True
        return super().__aiter__()


class Forwarding:
    """A request under way.

    Args:
        front: The dialer's connection.
        passage: What it asks.
        content: The request's body.

    Attributes:
        passage: What the dialer asks.
        task: What the request is served in; set by whoever serves it.
    """

    def __init__(self, front: Front, passage: Passage, content: bytes) -> None:
        self.passage = passage
        self.task: asyncio.Task[None]
        self._front = front
        self._body = content
        self._content = Content(content)
        self._is_begun = False

    @property
    def is_sent(self) -> bool:
        """Whether anything of the request has been written."""
        return self._content.is_sent

    async def run(self, transport: httpx.AsyncBaseTransport, origin: Origin) -> None:
        """Forward the request, and its answer to the dialer."""
        if self.passage.trace is not None:
            otel_context.attach(_PROPAGATOR.extract(self.passage.trace))  # the task's own context: it ends with it
        response: httpx.Response | None = None
        try:
            response = await transport.handle_async_request(self._request(origin))
            await self._pass_on(response)
        except httpx.TransportError as error:
            status_code = None if response is None else response.status_code
            self.fail(failure_of(error, is_sent=self.is_sent, is_one_try=True), status_code)
        finally:
            if response is not None:
                await response.aclose()

    def leave(self) -> None:
        """Give the request up if it wasn't sent: nobody waits for it any more."""
        if not self.is_sent:
            self.task.cancel()

    def give_up(self) -> None:
        """End the request now, and tell the dialer so."""
        self.fail(_GIVEN_UP if self.is_sent else _NOT_BEGUN)
        self.task.cancel()

    def refuse(self, refusal: Refusal) -> None:
        """Tell the dialer that its request was not sent."""
        self._tell(answers.refused(refusal))

    def fail(self, failure: Failure, status_code: int | None = None) -> None:
        """Tell the dialer that there is no whole answer, or break off what it was told of one.

        Args:
            failure: Why, and whether the request was sent.
            status_code: The status of an answer that broke off; None where none came.
        """
        if self._is_begun:
            self._front.cut()
        else:
            self._tell(answers.failed(failure, status_code))

    def end(self) -> None:
        """Let the dialer go on."""
        self._front.done()

    def _request(self, origin: Origin) -> httpx.Request:
        passage = self.passage
        headers = [(b"Host", origin.authority), *passage.headers]
        if self._body or passage.method in _WITH_BODY:
            headers.append((b"Content-Length", b"%d" % len(self._body)))
        extensions: dict[str, Any] = {"target": passage.target}
        if passage.told is not None:
            extensions["call_initiation"] = passage.told
        url = _url(origin, passage.target)
        request = httpx.Request(passage.method, url, headers=headers, content=self._body, extensions=extensions)
        request.stream = self._content
        return request

    async def _pass_on(self, response: httpx.Response) -> None:
        assert isinstance(response.stream, httpx.AsyncByteStream)  # noqa: S101 - as an async transport's are
        parts, held, size = aiter(response.stream), list[bytes](), 0
        async for part in parts:
            held.append(part)
            size += len(part)
            if size > _HELD:
                await self._stream(response, held, parts)
                return
        reason, headers = response.extensions["reason_phrase"], response.headers.raw
        self._tell(answers.whole(response.status_code, reason, headers, b"".join(held), method=self.passage.method))

    async def _stream(self, response: httpx.Response, held: list[bytes], rest: AsyncIterator[bytes]) -> None:
        """Pass on an answer while it comes, as long as the dialer takes it.

        One without a length, to a dialer that takes no chunks, ends with the connection, as all of such a dialer do.
        """
        front, headers = self._front, response.headers.raw
        is_chunked = front.takes_chunks and not answers.has_length(headers)
        self._is_begun = True
        self._tell(
            answers.begun(response.status_code, response.extensions["reason_phrase"], headers, is_chunked=is_chunked)
        )
        framed = answers.chunk if is_chunked else bytes
        for part in held:
            front.write(framed(part))
        async for part in rest:
            if not front.is_open:
                return
            front.write(framed(part))
            await front.drained()
        front.write(framed(b""))

    def _tell(self, answer: Answer) -> None:
        if self.passage.prevents_repeats:
            answer = answer.once()
        closing = ((b"Connection", b"close"),) if self._front.is_last else ()
        self._front.write(answer.head(*closing) + answer.content)


@lru_cache(maxsize=1024)  # dialers call on behalf of the same few agents
def _url(origin: Origin, target: bytes) -> httpx.URL:
    return origin.url.copy_with(raw_path=target)
