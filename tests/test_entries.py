"""What a journal's entries promise: what was written is read again, exactly, and nothing else is taken for a call."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from call_initiation.events import (
    AgentAtSend,
    AgentIdSource,
    AgentState,
    Attempt,
    BodyState,
    Category,
    Certainty,
    Outcome,
    PayloadShape,
    Presence,
    Refusal,
    RoutingStatus,
    SpanIds,
    StateLabel,
    StateSource,
)
from call_initiation.journal.entries import attempt, entry
from samples import ACCEPTED, REFUSED, UNANSWERED

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SECONDS = st.floats(-1e9, 1e9)
COUNTS = st.integers(0, 2**31 - 1)
STATES = st.builds(
    AgentState,
    presence=st.none() | st.sampled_from(Presence),
    routing_status=st.none() | st.sampled_from(RoutingStatus),
    on_call=st.none() | COUNTS,
    wrap_up=st.none() | COUNTS,
    station=st.none() | TEXTS,
    out_of_office=st.none() | st.booleans(),
    since=st.none() | SECONDS,
    source=st.sampled_from(StateSource),
    certainty=st.sampled_from(Certainty),
)
ATTEMPTS = st.builds(
    Attempt,
    endpoint=TEXTS,
    server_address=TEXTS,
    server_port=st.integers(0, 65_535),
    started_at=st.integers(0, 2**63 - 1),
    sent_at=st.none() | st.integers(0, 2**63 - 1),
    duration=st.floats(0, 1e6),
    outcome=st.sampled_from(Outcome),
    status_code=st.none() | st.integers(100, 999),
    error_type=st.none() | TEXTS,
    refusal=st.none()
    | st.builds(
        Refusal,
        codes=st.lists(TEXTS, max_size=3).map(tuple),
        category=st.sampled_from(Category),
        message=st.none() | TEXTS,
        correlation_id=st.none() | TEXTS,
        body=st.sampled_from(BodyState),
    ),
    body=st.none() | st.sampled_from(BodyState),
    agent=st.builds(
        AgentAtSend,
        id=st.none() | TEXTS,
        id_source=st.sampled_from(AgentIdSource),
        state=STATES,
        label=st.sampled_from(StateLabel),
        age=st.none() | SECONDS,
    ),
    payload_shape=st.sampled_from(PayloadShape),
    findings=st.lists(TEXTS, max_size=3).map(tuple),
    suspected_duplicate=st.booleans(),
    span=st.none()
    | st.builds(
        SpanIds,
        trace_id=st.integers(1, 2**128 - 1),
        span_id=st.integers(1, 2**64 - 1),
        parent_span_id=st.none() | st.integers(1, 2**64 - 1),
        parent_is_remote=st.booleans(),
        sampled=st.booleans(),
        adopted=st.booleans(),
        trace_state=TEXTS,
    ),
)


def changed(**parts: Any) -> bytes:
    """Return the entry of a refused call with some parts changed."""
    return json.dumps(json.loads(entry(REFUSED)) | parts).encode()


@given(ATTEMPTS)
def test_a_call_that_was_written_is_read(call: Attempt) -> None:
    """Each part as it was, and ASCII alone."""
    written = entry(call)
    assert written.isascii()
    assert call == attempt(written)


@pytest.mark.parametrize("call", [ACCEPTED, REFUSED, UNANSWERED])
def test_an_entry_is_short(call: Attempt) -> None:
    """Parts that say nothing are left out."""
    assert len(entry(call)) < 1000
    assert b"null" not in entry(replace(call, span=None, refusal=None, body=None, status_code=None))


def test_a_part_of_a_later_version_is_passed_over() -> None:
    """A journal may be read by an older program than wrote it."""
    assert REFUSED == attempt(changed(of_tomorrow=1))


@pytest.mark.parametrize(
    "parts",
    [
        {"endpoint": None},
        {"endpoint": 1},
        {"endpoint": "\ud800"},
        {"server_port": True},
        {"server_port": -1},
        {"server_port": 2**31},
        {"started_at": 1.5},
        {"started_at": 2**63},
        {"duration": "1"},
        {"duration": float("nan")},
        {"duration": 10**400},
        {"duration": 9e9},
        {"outcome": "splendid"},
        {"outcome": []},
        {"agent": None},
        {"agent": []},
        {"agent": {"state": {"presence": 1}}},
        {"agent": {"state": {"since": True}}},
        {"refusal": {"codes": "abc"}},
        {"refusal": {"codes": [1]}},
        {"refusal": 1},
        {"span": {}},
        {"span": {"trace_id": 2**128, "span_id": 1}},
        {"span": {"trace_id": 1, "span_id": 2**64}},
        {"suspected_duplicate": 1},
    ],
    ids=json.dumps,
)
def test_what_is_of_the_wrong_type_is_no_call(parts: dict[str, Any]) -> None:
    """It could fail an exporter later, and all that is sent with it."""
    assert attempt(changed(**parts)) is None


@pytest.mark.parametrize(
    "said", [b"", b"{}", b"[]", b"null", b"1", b"\xff", b"[" * 60_000, b'{"duration":' + b"9" * 5000 + b"}"]
)
def test_what_is_no_entry_is_no_call(said: bytes) -> None:
    """Nothing raises."""
    assert attempt(said) is None


def test_a_whole_number_of_seconds_may_be_written_as_one() -> None:
    """Another program's JSON may do so."""
    read = attempt(changed(duration=1))
    assert read is not None
    assert 1.0 == read.duration


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(st.sampled_from(sorted(json.loads(entry(REFUSED)))), json_values)
def test_whatever_is_said_is_read_or_refused(part: str, value: Any) -> None:
    """Nothing raises."""
    read = attempt(changed(**{part: value}))
    assert read is None or isinstance(read, Attempt)
