"""What `observation` promises: it notes what passes, bounded; it waits for nothing; its faults are never the call's."""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any, cast

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from call_initiation.calls.client import doors
from call_initiation.calls.endpoints import CALLS, Endpoint
from call_initiation.calls.failures import Failure
from call_initiation.calls.observation import KEPT_BODY, Observation, StreamObservation, Streams
from call_initiation.calls.tracing import OpenSpan, Tracing
from call_initiation.events import BodyState, Outcome, SpanIds, TransportFailure


class Kept:
    """Where observations go: a list."""

    def __init__(self) -> None:
        self.taken: list[Observation] = []
        self.faults: list[str] = []

    def submit(self, observation: Observation) -> None:
        """Take a finished observation."""
        self.taken.append(observation)

    def fault(self, stage: str) -> None:
        """Note a fault of our own."""
        self.faults.append(stage)


def streams(**changed: Any) -> Streams:
    """Return the streams of a transport whose reading can be trusted."""
    made = doors("httpx").sync(httpx.HTTPTransport(), None)._parts.streams
    return replace(made, **{"are_sent": True, **changed})


def request(**options: Any) -> httpx.Request:
    """Return a request that starts a call."""
    return httpx.Request("POST", f"https://api.example.com{CALLS}", **{"json": {}, **options})


@contextmanager
def observe(kept: Kept, tracing: Any = None, asked: Any = None, made: Streams | None = None) -> Iterator[Observation]:
    """Yield the observation of a call that starts now, and that fails as the block does."""
    asked, made = asked or request(), made or streams()
    kind = made.of_bytes if isinstance(asked.stream, made.byte_stream) else StreamObservation
    observation = kind(Endpoint(CALLS), asked, made, tracing or Tracing(), kept)
    try:
        yield observation
    except BaseException as error:
        observation.failed(error)
        raise


# -- bodies -----------------------------------------------------------------------------------------------------------


class Pieces(httpx.SyncByteStream, httpx.AsyncByteStream):
    """An answer's stream of some pieces, which may break off after them."""

    def __init__(self, *pieces: Any, error: Exception | None = None) -> None:
        self._pieces, self._error = pieces, error

    def __iter__(self) -> Iterator[Any]:
        """Yield the pieces."""
        yield from self._pieces
        if self._error is not None:
            raise self._error

    async def __aiter__(self) -> AsyncIterator[Any]:
        """Yield the pieces."""
        for piece in self:
            yield piece


def answered(stream: Pieces, status: int = 400, *, is_async: bool = False) -> tuple[Observation, Any, Kept]:
    """Return the observation of a call with an answer that is yet to be read, what is read, and what was kept."""
    kept = Kept()
    transport = httpx.AsyncHTTPTransport() if is_async else httpx.HTTPTransport()
    made = (doors("httpx").asynchronous if is_async else doors("httpx").sync)(transport, None)._parts.streams
    with observe(kept, made=made) as observation:
        answer = observation.answered(httpx.Response(status, stream=stream))
    return observation, answer.stream, kept


def through(stream: Any, *, is_async: bool) -> list[Any]:
    """Read a stream to its end."""
    if not is_async:
        return list(stream)

    async def drain() -> list[Any]:
        return [piece async for piece in stream]

    return asyncio.run(drain())


@given(
    pieces=st.lists(st.binary(max_size=40_000), max_size=6), is_async=st.booleans(), status=st.sampled_from([202, 400])
)
def test_whatever_passes_passes_unchanged(pieces: list[bytes], is_async: bool, status: int) -> None:  # noqa: FBT001 - hypothesis's
    """The reader gets the very pieces; what is kept is an error's beginning, and never more than the cap and one."""
    observation, stream, kept = answered(Pieces(*pieces), status, is_async=is_async)
    assert (BodyState.UNREAD, True) == (observation.body, observation.is_open)
    got = through(stream, is_async=is_async)
    whole = b"".join(pieces)
    assert all(a is b for a, b in zip(pieces, got, strict=True))
    is_kept = status == 400
    assert (whole[: KEPT_BODY + 1] if is_kept else None) == observation.kept
    assert (BodyState.OVERSIZED if is_kept and len(whole) > KEPT_BODY else BodyState.WHOLE) == observation.body
    assert [] == kept.faults


def test_the_cap() -> None:
    """Of an error's body, 64 KiB are kept, and one byte more where there is one."""
    observation, stream, _ = answered(Pieces(b"x" * 65_535, b"yzz"))
    through(stream, is_async=False)
    kept = bytes(observation.kept or b"")
    assert (65_537, b"yz", BodyState.OVERSIZED) == (len(kept), kept[-2:], observation.body)
    observation, stream, _ = answered(Pieces(b"x" * 65_535, b"y"))
    through(stream, is_async=False)
    assert (65_536, BodyState.WHOLE) == (len(observation.kept or b""), observation.body)


def test_a_piece_that_its_sender_changes_later_was_kept_as_it_was() -> None:
    """A stream may use one buffer again and again."""
    buffer = bytearray(b"first")
    observation, stream, _ = answered(Pieces(buffer, buffer))
    pieces = iter(stream)
    next(pieces)
    buffer[:] = b"later"
    assert [b"later"] == list(pieces)
    assert b"firstlater" == observation.kept


class Iterating(Pieces):
    """An answer's stream that is iterated by an object that has no end of its own to come to."""

    def __aiter__(self) -> AsyncIterator[Any]:  # type: ignore[override]
        """Return what yields the pieces."""
        return Each(iter(self))


class Each(AsyncIterator[Any]):
    """Yields what an iterator has."""

    def __init__(self, pieces: Iterator[Any]) -> None:
        self._pieces = pieces

    async def __anext__(self) -> Any:
        """Return the next one."""
        for piece in self._pieces:
            return piece
        raise StopAsyncIteration


def test_an_answer_need_not_come_from_a_generator() -> None:
    """What can't be closed isn't."""
    observation, stream, kept = answered(Iterating(b"one", b"two"), is_async=True)
    assert [b"one", b"two"] == through(stream, is_async=True)
    assert (b"onetwo", BodyState.WHOLE, []) == (observation.kept, observation.body, kept.faults)


def test_an_answer_of_no_generator_may_be_left_early() -> None:
    """Then it was unread, as any other."""
    observation, stream, kept = answered(Iterating(b"one", b"two"), is_async=True)

    async def leave() -> bytes:
        pieces = aiter(stream)
        first: bytes = await anext(pieces)
        await pieces.aclose()
        return first

    assert b"one" == asyncio.run(leave())
    assert (BodyState.UNREAD, []) == (observation.body, kept.faults)


@pytest.mark.parametrize("is_async", [False, True])
def test_a_body_that_breaks_off(is_async: bool) -> None:  # noqa: FBT001 - a parameter of pytest's
    """The reader's exception is the stream's own, and what came before is kept."""
    error = httpx.ReadError("torn")
    observation, stream, _ = answered(Pieces(b"half", error=error), is_async=is_async)
    with pytest.raises(httpx.ReadError) as caught:
        through(stream, is_async=is_async)
    assert error is caught.value
    assert (BodyState.TRUNCATED, False, b"half") == (observation.body, observation.is_open, observation.kept)


def test_a_body_that_its_reader_drops() -> None:
    """Nobody read it to its end, and it is closed once that is said."""
    observation, stream, _ = answered(Pieces(b"one", b"two"))
    pieces = iter(stream)
    next(pieces)
    pieces.close()
    assert (BodyState.UNREAD, True) == (observation.body, observation.is_open)
    stream.close()
    assert not observation.is_open


def test_an_answer_lets_go_of_its_stream() -> None:
    """What the recorder still holds mustn't keep a connection, however long it waits."""
    own = Pieces(b"{}")
    observation, stream, _ = answered(own)
    reference = weakref.ref(own)
    del own, stream
    gc.collect()
    assert reference() is None
    assert BodyState.UNREAD is observation.body


def test_a_body_that_was_read_before_it_came() -> None:
    """Its content is taken at once, and is known to be decoded."""
    with observe(Kept()) as observation:
        observation.answered(httpx.Response(400, content=b"{}"))
    assert (b"{}", True, BodyState.WHOLE, False) == (
        observation.kept,
        observation.is_decoded,
        observation.body,
        observation.is_open,
    )


def test_a_piece_that_cannot_be_kept_is_our_fault_alone() -> None:
    """The reader gets even what has no length; the fault is counted."""
    _, stream, kept = answered(Pieces(7))
    assert [7] == list(stream)
    assert ["observe"] == kept.faults


# -- observations -----------------------------------------------------------------------------------------------------


def test_an_answered_call() -> None:
    """What is noted is there once the call is left; the request is as it was."""
    kept, told = Kept(), {"agent_id": "9"}
    asked = request(headers={"Authorization": "Bearer t"}, extensions={"call_initiation": told})
    stream = asked.stream
    with observe(kept, asked=asked) as observation:
        assert isinstance(asked.stream, httpx.ByteStream)
        assert b"{}" == b"".join(asked.stream)
        assert b"{}" == b"".join(asked.stream)
        answer = httpx.Response(400, content=b"{}")
        assert answer is observation.answered(answer)
    assert stream is asked.stream
    assert [observation] == kept.taken
    assert (400, b"{}", told) == (observation.status_code, observation.content(), observation.extension)
    assert (b"Authorization", b"Bearer t") in observation.headers.raw
    assert observation.started_ns < observation.sent_ns < observation.started_ns + observation.duration * 1e9


def test_what_is_changed_for_another_call_was_said_of_that_one() -> None:
    """A client's `auth`, a retrying transport, a dialer: each may send the same request again with something else."""
    told = {"agent_id": "9"}
    asked = request(headers={"Authorization": "Bearer old"}, extensions={"call_initiation": told})
    with observe(Kept(), asked=asked) as observation:
        observation.answered(httpx.Response(400))
    asked.headers["Authorization"], asked.url = "Bearer new", httpx.URL("https://other.example.com")
    told["agent_id"] = "8"
    asked.extensions["call_initiation"] = {}
    assert (b"Authorization", b"Bearer old") in observation.headers.raw
    assert ("api.example.com", {"agent_id": "9"}) == (observation.url.host, observation.extension)


def test_a_failed_call() -> None:
    """The exception passes; how it is judged depends on whether the body had begun to go."""
    kept, error = Kept(), httpx.ReadTimeout("t")
    with pytest.raises(httpx.ReadTimeout) as caught, observe(kept):
        raise error
    assert error is caught.value
    (observation,) = kept.taken
    assert Failure(Outcome.AMBIGUOUS, TransportFailure.READ_TIMEOUT) == observation.failure
    assert (None, None) == (observation.sent_ns, observation.status_code)
    assert observation.duration > 0


@pytest.mark.parametrize(
    ("is_read", "are_sent", "body", "outcome"),
    [
        (False, True, b"{}", Outcome.CANCELLED),
        (False, True, b"", Outcome.AMBIGUOUS),
        (False, False, b"{}", Outcome.AMBIGUOUS),
        (True, True, b"{}", Outcome.AMBIGUOUS),
        (True, False, b"{}", Outcome.AMBIGUOUS),
    ],
)
def test_a_call_given_up(is_read: bool, are_sent: bool, body: bytes, outcome: Outcome) -> None:  # noqa: FBT001 - parameters of pytest's
    """It counts as never sent only where the transport would have read the body's stream, and it isn't an empty one."""
    kept, asked = Kept(), request(json=None, content=body)

    def transport() -> None:
        if is_read:
            list(asked.stream)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), observe(kept, asked=asked, made=streams(are_sent=are_sent)):
        transport()
    assert [outcome] == [observation.failure.outcome for observation in kept.taken]


@pytest.mark.parametrize("is_read", [True, False])
def test_a_transport_shows_whether_it_reads_streams(is_read: bool) -> None:  # noqa: FBT001 - a parameter of pytest's
    """An answer says for all later calls whether an unread stream means an unsent body."""
    kept, asked, shared = Kept(), request(), streams(are_sent=not is_read)
    with observe(kept, asked=asked, made=shared) as observation:
        if is_read:
            list(asked.stream)  # type: ignore[arg-type]
        observation.answered(httpx.Response(202))
    assert is_read == shared.are_sent


@pytest.mark.parametrize("begin", [iter, aiter])
@pytest.mark.parametrize("body", [{"content": b"{}"}, {"stream": Pieces(b"{}")}], ids=["bytes", "stream"])
def test_a_body_that_is_begun_twice_was_sent_the_first_time(body: dict[str, Any], begin: Callable[[Any], Any]) -> None:
    """What counts of a state is whether it came before the first byte could leave."""
    with observe(Kept(), asked=request(json=None, **body)) as observation:
        begun = [(begin(observation.request.stream), observation.sent_ns)[1] for _ in range(2)]
        observation.answered(httpx.Response(202))
    assert [None, None] != begun == [observation.sent_ns] * 2


def test_a_transport_may_read_and_close_what_stood_in_after_it_answered() -> None:
    """One that answers before the body is sent goes on with the stream that it was given."""
    closed: list[bool] = []

    class Stream(httpx.SyncByteStream):
        """A caller's own stream."""

        def __iter__(self) -> Iterator[bytes]:
            """Return its only part."""
            return iter([b"{}"])

        def close(self) -> None:
            """Note it."""
            closed.append(True)

    asked = request(json=None, stream=Stream())
    with observe(Kept(), asked=asked) as observation:
        stand_in: Any = asked.stream
        observation.answered(httpx.Response(202))
    assert b"{}" == b"".join(stand_in)
    stand_in.close()
    assert [True] == closed


def test_a_stream_that_the_transport_put_there_stays() -> None:
    """A mock reads a generator and leaves what can be read again: that isn't undone."""
    asked = request(json=None, content=iter([b"{}"]))
    with observe(Kept(), asked=asked) as observation:
        asked.read()
        left = asked.stream
        observation.answered(httpx.Response(202))
    assert left is asked.stream
    assert isinstance(left, httpx.ByteStream)


# -- faults of our own -------------------------------------------------------------------------------------------------


class Failing:
    """Fails wherever it is used."""

    def __call__(self, *_: Any, **__: Any) -> Any:
        """Fail."""
        raise RuntimeError

    def __getattr__(self, name: str) -> Any:
        """Fail when called."""
        return self


class Span(OpenSpan):
    """A span that can't be left."""

    def close(self) -> None:
        """Fail."""
        raise RuntimeError


class LeavingFails(Tracing):
    """Opens spans that can't be left."""

    def open(self, template: str, url: Any, fault: Any) -> OpenSpan:  # noqa: ARG002 - as it is
        """Return such a span."""
        return Span(SpanIds(trace_id=1, span_id=2))


class Full(Kept):
    """A recorder that can't take anything."""

    def submit(self, observation: Observation) -> None:
        """Fail."""
        super().submit(observation)
        raise RuntimeError


Begin = Callable[[Kept, httpx.Request], AbstractContextManager[Observation]]


def a_fault_in(step: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Kept, Begin]:
    """Return a recording and how to observe with one step broken."""
    kept = Full() if step == "submit" else Kept()
    if step == "judge":
        monkeypatch.setattr("call_initiation.calls.observation.failure_of", Failing())
    broken: dict[str, Begin] = {
        "body": lambda kept, asked: observe(kept, asked=asked, made=streams(answer=Failing())),
        "span": lambda kept, asked: observe(kept, Tracing(cast("Any", Failing())), asked),
        "leave": lambda kept, asked: observe(kept, LeavingFails(), asked),
    }
    return kept, broken.get(step, lambda kept, asked: observe(kept, asked=asked))


@pytest.mark.parametrize(
    ("step", "stage"),
    [("body", "observe"), ("span", "tracing"), ("leave", "tracing"), ("submit", "submit")],
)
def test_a_fault_of_ours_is_not_the_callers(step: str, stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever breaks, the answer comes, the request is given back, the call is handed over, the fault is counted."""
    (kept, begin), asked = a_fault_in(step, monkeypatch), request()
    stream = asked.stream
    with begin(kept, asked) as observation:
        answer = httpx.Response(400, stream=httpx.ByteStream(b"{}"))
        assert answer is observation.answered(answer)
    assert b"{}" == answer.read()
    assert stream is asked.stream
    assert ([stage], [observation]) == (kept.faults, kept.taken)
    assert 400 == observation.status_code


@pytest.mark.parametrize(("step", "stage"), [("judge", "observe"), ("leave", "tracing"), ("submit", "submit")])
def test_a_fault_of_ours_hides_no_exception(step: str, stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller gets the transport's exception and no other; the call counts as one that may have rung."""
    (kept, begin), error = a_fault_in(step, monkeypatch), httpx.ReadError("r")
    with pytest.raises(httpx.ReadError) as caught, begin(kept, request()):
        raise error
    assert error is caught.value
    assert error.__context__ is None
    assert ([stage], [Outcome.AMBIGUOUS]) == (kept.faults, [taken.failure.outcome for taken in kept.taken])


@pytest.mark.parametrize("content", [b"{}", iter([b"{}"])], ids=["bytes", "stream"])
def test_a_request_of_another_make_passes(content: Any) -> None:
    """One whose stream can't be looked at once more was answered all the same, and is recorded."""

    class Forgetful(httpx.Request):
        """Has its stream until the transport has read it."""

        is_read = False

        def __getattribute__(self, name: str) -> Any:
            """Fail for the stream, once it was read."""
            if name == "stream" and type(self).is_read:
                raise RuntimeError
            return super().__getattribute__(name)

    kept, asked = Kept(), Forgetful("POST", f"https://api.example.com{CALLS}", content=content)
    with observe(kept, asked=asked) as observation:
        Forgetful.is_read = True
        observation.answered(httpx.Response(202))
    assert (["observe"], [observation], 202) == (kept.faults, kept.taken, observation.status_code)


def test_an_answer_of_another_make_passes() -> None:
    """What isn't a response as we know it is the caller's affair: it passes, and only our note is missing."""
    kept, strange = Kept(), object()
    with observe(kept) as observation:
        assert strange is observation.answered(strange)
    assert ["observe"] == kept.faults
    assert [observation] == kept.taken


def test_an_adopted_span_that_refuses_is_our_fault_alone() -> None:
    """Another instrumentation's span may fail; the call goes on."""
    kept = Kept()

    class Adopting(Tracing):
        def open(self, template: str, url: Any, fault: Any) -> OpenSpan:  # noqa: ARG002 - as it is
            return OpenSpan(SpanIds(trace_id=1, span_id=2, adopted=True), Failing(), Failing())

    with observe(kept, Adopting()) as observation:
        answer = observation.answered(httpx.Response(400, stream=httpx.ByteStream(b"{}")))
    assert b"{}" == answer.read()
    assert ["tracing", "tracing"] == kept.faults


def test_a_read_answer_that_cannot_be_had_again() -> None:
    """A transport may have streamed an answer away: then nobody reads it, and nothing is said of its codes."""
    kept = Kept()
    answer = httpx.Response(400, content=iter([b"{}"]))
    assert [b"{}"] == list(answer.iter_raw())
    with observe(kept) as observation:
        observation.answered(answer)
    assert (BodyState.UNREAD, []) == (observation.body, kept.faults)
