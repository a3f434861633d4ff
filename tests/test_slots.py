"""What a table of calls promises: what was noted is told, and what can't be read isn't; nothing raises."""

from math import inf, nan
from struct import pack
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from call_initiation.calls.endpoints import CALLS_OF_USER
from call_initiation.calls.failures import Failure
from call_initiation.events import AgentIdSource, Outcome, SpanIds, TransportFailure
from call_initiation.journal.slots import (
    ENDED,
    FREE,
    SLOT,
    UNDER_WAY,
    Call,
    Ended,
    alive,
    begin,
    calls,
    end,
    facts,
)
from samples import BEGUN, SHARED, SPAN, STARTED_AT

RESET = Failure(Outcome.AMBIGUOUS, TransportFailure.CONNECTION_RESET)


ROOM = len(end(0.25, 400, None))
"""What a slot has for its call's end, before how it began."""


def slot(state: int, begun: bytes = b"", ended: bytes = b"") -> bytes:
    """Return a slot's bytes."""
    data = bytearray(SLOT)
    data[: len(begun)] = begun
    data[: len(ended)] = ended
    data[0] = state
    assert SLOT == len(data)
    return bytes(data)


def table(*used: bytes, now: int = STARTED_AT + 2_500_000_000) -> bytes:
    """Return a table whose process was last alive 2.5 s after the call started."""
    return alive(now).ljust(SLOT, b"\0") + b"".join(used)


def begun(span: SpanIds | None = SPAN) -> bytes:
    """Return the beginning of a call."""
    return begin(7, STARTED_AT, span, SHARED)


def test_a_call_that_was_under_way_is_told() -> None:
    """With all that was known of it, and how long its process was seen alive after."""
    told = list(calls(table(slot(FREE), slot(UNDER_WAY, begun()))))
    assert [Call(2, BEGUN, None, 2.5)] == told


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (end(0.25, 400, None), Ended(0.25, 400, None)),
        (end(0.25, None, RESET), Ended(0.25, None, RESET)),
    ],
    ids=["by its status", "by its failure"],
)
def test_a_call_that_had_ended_is_told_as_such(said: bytes, expected: Ended) -> None:
    """It isn't said to have been under way."""
    (told,) = calls(table(slot(ENDED, begun(), said)))
    assert (BEGUN, expected) == (told.begun, told.end)


@pytest.mark.parametrize(
    "span",
    [
        None,
        SpanIds(trace_id=2**128 - 1, span_id=2**64 - 1),
        SpanIds(trace_id=1, span_id=2, parent_span_id=3, parent_is_remote=True, sampled=False),
        SpanIds(trace_id=1, span_id=2, adopted=True),
    ],
)
def test_its_place_in_a_trace_is_kept(span: SpanIds | None) -> None:
    """Each id and each flag."""
    (told,) = calls(table(slot(UNDER_WAY, begun(span))))
    assert span == told.begun.span


def test_texts_that_are_too_long_are_cut() -> None:
    """Wherever a character stands at the cut."""
    shared = facts(CALLS_OF_USER, "é" * 100, 1, "a" * 100, AgentIdSource.BODY)
    (told,) = calls(table(slot(UNDER_WAY, begin(7, 0, None, shared))))
    assert ("é" * 64, "a" * 64) == (told.begun.server_address, told.begun.agent_id)
    assert CALLS_OF_USER == told.begun.endpoint


def test_a_call_without_an_agent_has_none() -> None:
    """Nobody said who placed it."""
    shared = facts(CALLS_OF_USER, "api.example.com", 443, None, AgentIdSource.NONE)
    (told,) = calls(table(slot(UNDER_WAY, begin(7, 0, None, shared))))
    assert (None, AgentIdSource.NONE) == (told.begun.agent_id, told.begun.id_source)


@pytest.mark.parametrize(
    ("now", "lasted"), [(0, 0.0), (STARTED_AT - 1, 0.0), (STARTED_AT + 1_000_000_000, 1.0), (2**64 - 1, 86_400.0)]
)
def test_a_clock_that_was_set_does_not_make_a_call_last_for_ever(now: int, lasted: float) -> None:
    """Nor less than nothing."""
    (told,) = calls(table(slot(UNDER_WAY, begun()), now=now))
    assert lasted == told.lasted


def test_damage_to_a_beginning_takes_that_call_alone() -> None:
    """At every offset of it; a call of which nothing sure is known isn't told of."""
    whole = slot(UNDER_WAY, begun())
    for at in range(ROOM, len(begun())):
        data = bytearray(whole)
        data[at] ^= 0x40
        assert [BEGUN] == [told.begun for told in calls(table(bytes(data), whole))]


def test_damage_to_an_end_leaves_a_call_that_ended_somehow() -> None:
    """At every offset of it: it is never said to have been under way."""
    whole = slot(ENDED, begun(), end(0.25, 400, None))
    unknown = Ended(2.5, None, Failure(Outcome.AMBIGUOUS, TransportFailure.OTHER))
    for at in range(1, ROOM):
        data = bytearray(whole)
        data[at] ^= 0x40
        assert [unknown] == [told.end for told in calls(table(bytes(data)))]


@pytest.mark.parametrize("state", [FREE, 3, 255])
def test_a_slot_that_does_not_say_so_holds_no_call(state: int) -> None:
    """Whatever an earlier call has left in it."""
    assert [] == list(calls(table(slot(state, begun(), end(1.0, 400, None)))))


def checked(form: bytes, before: int, old: bytes, new: bytes) -> bytes:
    """Return what was written with a part changed, and the checksum, which stands after so many bytes, made to fit."""
    fields = form[before + 4 :].replace(old, new.ljust(len(old), b"\0"))
    assert fields != form[before + 4 :]
    return form[:before] + pack(">I", crc32(fields)) + fields


def test_words_that_nobody_knows_are_not_believed() -> None:
    """A later version's, or somebody's own: such an id's source, such an outcome."""
    assert [] == list(calls(table(slot(UNDER_WAY, checked(begun(), ROOM, b"path\0\0\0\0", b"crystal")))))
    (told,) = calls(table(slot(ENDED, begun(), checked(end(1.0, None, RESET), 1, b"ambiguous", b"splendid"))))
    assert told.end is not None
    assert Failure(Outcome.AMBIGUOUS, TransportFailure.OTHER) == told.end.failure


@pytest.mark.parametrize(("duration", "expected"), [(nan, 0.0), (inf, 86_400.0), (-1.0, 0.0)])
def test_a_duration_is_one(duration: float, expected: float) -> None:
    """Whatever stands there."""
    (told,) = calls(table(slot(ENDED, begun(), end(duration, 400, None))))
    assert told.end is not None
    assert expected == told.end.duration


def test_an_end_that_says_nothing_is_unknown() -> None:
    """Neither a status nor a failure."""
    (told,) = calls(table(slot(ENDED, begun(), end(1.0, None, None))))
    assert told.end is not None
    assert TransportFailure.OTHER is (told.end.failure and told.end.failure.kind)


@given(st.binary(max_size=3 * SLOT), st.booleans())
def test_any_bytes_are_read(data: bytes, is_prefixed: bool) -> None:  # noqa: FBT001 - hypothesis gives it
    """Nothing raises, and nothing is told of."""
    assert [] == list(calls(table(bytes([UNDER_WAY]) + data) if is_prefixed else data))
