"""What `observation` promises: it notes what passes, bounded; it waits for nothing; its faults are never the call's."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from call_initiation.client import doors
from call_initiation.endpoints import CALLS, Endpoint
from call_initiation.events import BodyState, Outcome, SpanIds, TransportFailure
from call_initiation.failures import Failure
from call_initiation.observation import KEPT_BODY, Body, Observation, Streams
from call_initiation.tracing import OpenSpan, Tracing


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


def body(*, keeps: bool = True) -> tuple[Body, Kept]:
    """Return a body that nothing has passed of yet."""
    kept = Kept()
    return Body(kept.fault, keeps=keeps), kept


def streams(**changed: Any) -> Streams:
    """Return the streams of a transport whose reading can be trusted."""
    made = doors("httpx").sync(httpx.HTTPTransport(), None)._parts.streams
    return Streams(**{"observation": made.observation, "body": made.body, "are_sent": True, **changed})


def request(**options: Any) -> httpx.Request:
    """Return a request that starts a call."""
    return httpx.Request("POST", f"https://api.example.com{CALLS}", **{"json": {}, **options})


@contextmanager
def observe(kept: Kept, tracing: Any = None, asked: Any = None, made: Streams | None = None) -> Iterator[Observation]:
    """Yield the observation of a call that starts now, and that fails as the block does."""
    asked, made = asked or request(), made or streams()
    observation = made.observation(asked.stream)(Endpoint(CALLS), asked, made, tracing, kept)
    try:
        yield observation
    except BaseException as error:
        observation.failed(error)
        raise


# -- bodies -----------------------------------------------------------------------------------------------------------


def through(passing: Body, pieces: list[bytes], *, is_async: bool) -> list[bytes]:
    """Read pieces through a body."""
    if not is_async:
        return list(passing.read(iter(pieces)))

    async def stream() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    async def drain() -> list[bytes]:
        return [piece async for piece in passing.aread(stream())]

    return asyncio.run(drain())


@given(pieces=st.lists(st.binary(max_size=40_000), max_size=6), is_async=st.booleans(), keeps=st.booleans())
def test_whatever_passes_passes_unchanged(pieces: list[bytes], is_async: bool, keeps: bool) -> None:  # noqa: FBT001 - hypothesis's
    """The reader gets the very pieces; what is kept is their beginning, and never more than the cap."""
    passing, kept = body(keeps=keeps)
    got = through(passing, pieces, is_async=is_async)
    whole = b"".join(pieces)
    assert all(a is b for a, b in zip(pieces, got, strict=True))
    assert (whole[:KEPT_BODY] if keeps else b"") == passing.content()
    assert len(whole) == passing.size
    assert (BodyState.OVERSIZED if len(whole) > KEPT_BODY else BodyState.WHOLE) == passing.state
    assert (False, []) == (passing.is_open, kept.faults)


def test_the_cap() -> None:
    """Of an error's body, 64 KiB are kept."""
    passing, _ = body()
    through(passing, [b"x" * 65_535, b"yz"], is_async=False)
    assert (65_536, b"xy", BodyState.OVERSIZED) == (len(passing.content()), passing.content()[-2:], passing.state)


def test_a_piece_that_its_sender_changes_later_was_kept_as_it_was() -> None:
    """A stream may use one buffer again and again."""
    passing, _ = body()
    buffer = bytearray(b"first")
    pieces = passing.read(iter([buffer, buffer]))  # type: ignore[list-item]
    next(pieces)
    buffer[:] = b"later"
    assert [b"later"] == list(pieces)
    assert b"firstlater" == passing.content()


@pytest.mark.parametrize("is_async", [False, True])
def test_a_body_that_breaks_off(is_async: bool) -> None:  # noqa: FBT001 - a parameter of pytest's
    """The reader's exception is the stream's own, and what came before is kept."""
    error = httpx.ReadError("torn")
    passing, _ = body()

    def stream() -> Iterator[bytes]:
        yield b"half"
        raise error

    async def async_stream() -> AsyncIterator[bytes]:
        yield b"half"
        raise error

    async def drain() -> None:
        async for _ in passing.aread(async_stream()):
            pass

    with pytest.raises(httpx.ReadError) as caught:
        asyncio.run(drain()) if is_async else list(passing.read(stream()))
    assert error is caught.value
    assert (BodyState.TRUNCATED, False, b"half") == (passing.state, passing.is_open, passing.content())


def test_a_body_that_its_reader_drops() -> None:
    """Nobody read it to its end, and it is closed once that is said."""
    passing, _ = body()
    pieces = passing.read(iter([b"one", b"two"]))
    next(pieces)
    pieces.close()
    assert (BodyState.UNREAD, True) == (passing.state, passing.is_open)
    passing.is_open = False
    assert not passing.is_open


def test_a_body_that_was_read_before_it_came() -> None:
    """Its content is taken at once, and is known to be decoded."""
    passing, _ = body()
    told: list[BodyState] = []
    passing.at_end = lambda: told.append(passing.state)
    passing.fill(b"{}")
    assert (b"{}", True, BodyState.WHOLE) == (passing.content(), passing.is_decoded, passing.state)
    assert [BodyState.WHOLE] == told


def test_a_piece_that_cannot_be_kept_is_our_fault_alone() -> None:
    """The reader gets even what has no length; the fault is counted."""
    passing, kept = body()
    assert [7] == list(passing.read(iter([7])))  # type: ignore[list-item]
    assert ["observe"] == kept.faults


# -- observations -----------------------------------------------------------------------------------------------------


def test_an_answered_call() -> None:
    """What is noted is there once the call is left; the request is as it was, and is let go of."""
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
    assert (400, b"{}", told) == (observation.status_code, observation.content, observation.extension)
    assert (b"Authorization", b"Bearer t") in observation.headers
    assert observation.started_ns < observation.sent_ns < observation.started_ns + observation.duration * 1e9
    assert observation._request is None


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
    ("is_read", "are_sent", "outcome"),
    [
        (False, True, Outcome.CANCELLED),
        (False, False, Outcome.AMBIGUOUS),
        (True, True, Outcome.AMBIGUOUS),
        (True, False, Outcome.AMBIGUOUS),
    ],
)
def test_a_call_given_up(is_read: bool, are_sent: bool, outcome: Outcome) -> None:  # noqa: FBT001 - parameters of pytest's
    """It counts as never sent only where the transport is known to read the body from its stream, and hasn't."""
    kept, asked = Kept(), request()

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
    assert observation.content is None


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

    def open(self, template: str, url: Any) -> OpenSpan:  # noqa: ARG002 - as it is
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
        monkeypatch.setattr("call_initiation.observation.failure_of", Failing())
    broken: dict[str, Begin] = {
        "body": lambda kept, asked: observe(kept, asked=asked, made=streams(body=Failing())),
        "span": lambda kept, asked: observe(kept, Failing(), asked),
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
        def open(self, template: str, url: Any) -> OpenSpan:  # noqa: ARG002 - as it is
            return OpenSpan(SpanIds(trace_id=1, span_id=2, adopted=True), adopted=Failing(), _attributes=Failing())

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
    assert (BodyState.UNREAD, []) == (observation.body.state, kept.faults)
