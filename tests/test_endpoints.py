"""What `endpoints` promises: call starts and nothing else, the agent and never the callee, and no exception ever."""

import json
from math import inf, nan
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from call_initiation.calls import endpoints
from call_initiation.calls.endpoints import TEMPLATES, Duplicates, Endpoint, Payload, agent, match, payload, told
from call_initiation.events import (
    AgentIdSource,
    AgentState,
    Certainty,
    PayloadShape,
    Presence,
    RoutingStatus,
    StateSource,
)

CALLS = b"/api/v2/conversations/calls"
USER_ID = "5b8f1c1e-0000-4000-8000-000000000001"
CALLEE_ID = "5b8f1c1e-0000-4000-8000-000000000002"


@pytest.mark.parametrize(
    ("expected", "raw_path"),
    [
        (Endpoint(TEMPLATES[0]), CALLS),
        (Endpoint(TEMPLATES[0]), CALLS + b"/"),
        (Endpoint(TEMPLATES[0]), CALLS + b"?x=/api/v2/conversations/calls/c-1"),
        (Endpoint(TEMPLATES[0]), b"/gateway/v1" + CALLS),
        (Endpoint(TEMPLATES[0]), CALLS + CALLS),
        (Endpoint(TEMPLATES[1], user_id=USER_ID), CALLS + b"/user/" + USER_ID.encode()),
        (Endpoint(TEMPLATES[1], user_id=USER_ID), CALLS + b"/user/" + USER_ID.upper().encode()),
        (Endpoint(TEMPLATES[1], user_id="a/b é"), CALLS + b"/user/a%2Fb%20%C3%A9/?x=1"),
        (Endpoint(TEMPLATES[1], user_id="\ufffd%zz"), CALLS + b"/user/%FF%zz"),
        (Endpoint(TEMPLATES[1]), CALLS + b"/user/%00"),
        (Endpoint(TEMPLATES[1]), CALLS + b"/user/" + 129 * b"a"),
        (Endpoint(TEMPLATES[2], conversation_id="c-1"), b"/gateway" + CALLS + b"/c-1"),
        (Endpoint(TEMPLATES[2], conversation_id="%user"), CALLS + b"/%25user/"),
        (None, b""),
        (None, b"/"),
        (None, b"/oauth/token?next=/api/v2/conversations/calls"),
        (None, b"/api/v2/conversations/callbacks"),
        (None, CALLS + b"x"),
        (None, CALLS + b"//"),
        (None, CALLS + b"/user"),
        (None, CALLS + b"/user/"),
        (None, CALLS + b"/user//"),
        (None, CALLS + b"/user/u-1/x"),
        (None, CALLS + b"/c-1/participants"),
        (None, CALLS + b"/c-1/participants/p-1/consult"),
        (None, b"/api/v2/conversations%2Fcalls"),
        (None, b"/API/v2/conversations/calls"),
        (None, b"x" + CALLS[1:]),
    ],
)
def test_match(expected: Endpoint | None, raw_path: bytes) -> None:
    """A template fits exactly at the end of the path, below any prefix; only ids are decoded."""
    assert expected == match("POST", raw_path)


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "post", ""])
def test_only_post_starts_a_call(method: str) -> None:
    """Reading or changing a call is none."""
    assert match(method, CALLS) is None


@given(st.binary(), st.binary())
@example(b"?", b"")
@example(b"", b"/user/%")
def test_match_is_total(before: bytes, behind: bytes) -> None:
    """Whatever the target's bytes: a template, or None; and a query string makes no difference."""
    found = match("POST", before + CALLS + behind)
    assert found is None or found.template in TEMPLATES
    assert b"?" in before + behind or found == match("POST", before + CALLS + behind + b"?" + CALLS)


@pytest.mark.parametrize(
    ("shape", "document"),
    [
        (PayloadShape.CREATE_CALL_REQUEST, {"phoneNumber": "+33199000000"}),
        (PayloadShape.CREATE_CALL_REQUEST, {"callUserId": CALLEE_ID, "unheard": 1}),
        (PayloadShape.CALL_COMMAND, {"callNumber": "+33199000000"}),
        (PayloadShape.CALL_COMMAND, {"phoneColumn": "home", "label": "x"}),
        (PayloadShape.FROM_TO, {"type": "CALL", "from": {}, "to": [], "phoneNumber": "+33199000000"}),
        (PayloadShape.FROM_TO, {"from": None}),
        (PayloadShape.OTHER, {}),
        (PayloadShape.OTHER, {"unheard": 1}),
        (PayloadShape.OTHER, ["phoneNumber"]),
        (PayloadShape.OTHER, "phoneNumber"),
        (PayloadShape.OTHER, None),
    ],
)
def test_shape(shape: PayloadShape, document: object) -> None:
    """A body's shape is given away by its properties."""
    assert shape is payload(json.dumps(document).encode()).shape


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        b"phoneNumber=%2B33199000000",
        b'{"phoneNumber": "+331990',
        b'{"phoneNumber": "\xff"}',
        100_000 * b"[",
        b'{"phoneNumber": "' + 512_000 * b"1" + b'"}',
    ],
    ids=["stream", "empty", "form", "cut", "bytes", "deep", "large"],
)
def test_unreadable(content: bytes | None) -> None:
    """What is no JSON, or more than the API takes, is unreadable."""
    assert Payload(PayloadShape.UNREADABLE) == payload(content)


def test_a_body_of_the_largest_size_is_read() -> None:
    """512,000 bytes are the API's limit, and ours."""
    content = b'{"phoneNumber": "+33199000000"}'.ljust(512_000)
    assert ("+33199000000",) == payload(content).destinations
    assert Payload(PayloadShape.UNREADABLE) == payload(content + b" ")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
def test_encodings(encoding: str) -> None:
    """JSON is read in all the encodings that it was ever sent in."""
    assert ("sip:é@example.com",) == payload('{"phoneNumber": "sip:é@example.com"}'.encode(encoding)).destinations


def test_numbers_are_kept_as_they_are_written() -> None:
    """A number with too many digits for Python, or with an exponent, is text like another."""
    long = 5000 * "1"
    body = payload(b'{"callNumber": %s, "phoneNumber": 33199000000, "x": -1.50e999999, "y": NaN}' % long.encode())
    assert ("33199000000", long) == body.destinations
    assert (long, "33199000000", "-1.50e999999") == body.numbers


@pytest.mark.parametrize(
    ("agent_id", "origin"),
    [
        ("a-1", {"agentId": "a-1", "id": "a-2"}),
        ("a-2", {"agentId": "", "id": " a-2 "}),
        ("a-2", {"agentId": ["a-1"], "id": "a-2"}),
        ("12", {"agentId": 12}),
        (None, {"agentId": "a\nb"}),
        (None, {"agentId": "\ud800"}),
        (None, {"agentId": 129 * "a"}),
        (None, {"callUserId": CALLEE_ID}),
        (None, "a-1"),
        (None, None),
    ],
)
def test_agent_of_a_body(agent_id: str | None, origin: object) -> None:
    """The agent is `from.agentId`, else `from.id`; never the callee, and nothing that can't be an id."""
    assert agent_id == payload(json.dumps({"from": origin, "callUserId": CALLEE_ID, "id": "x"}).encode()).agent_id


@pytest.mark.parametrize(
    ("destinations", "document"),
    [
        (("+33 1 99 00 00 00",), {"phoneNumber": "+33 1 99 00 00 00", "callerId": "+33199000001"}),
        (("n", "q", "u"), {"callUserId": "u", "callQueueId": "q", "phoneNumber": "n", "callFromQueueId": "x"}),
        (("a", "u", "q"), {"participants": [{"address": "a", "name": "x"}, {"queueId": "q", "userId": "u"}]}),
        (("c-1", "c-2"), {"conversationIds": ["c-1", None, "", "c-2"]}),
        (("n",), {"callNumber": "n", "phoneColumn": "x"}),
        (
            ("n", "m"),
            {"to": [{"address": {"phoneNumber": "n"}}, {"address": "x"}, 1, {"address": {"phoneNumber": "m"}}]},
        ),
        ((), {"phoneNumber": {}, "callQueueId": [], "participants": "a", "conversationIds": "c", "to": {"address": 1}}),
        (tuple(map(str, range(100))), {"conversationIds": list(map(str, range(1000)))}),
    ],
)
def test_destinations(destinations: tuple[str, ...], document: object) -> None:
    """Whoever is called is found in every shape, in a fixed order; not who calls, and no more than 100."""
    assert destinations == payload(json.dumps(document).encode()).destinations


def test_numbers_are_found_anywhere() -> None:
    """Whatever has six digits may be a number: in values, in names, in depth; each once, ids of the API excepted."""
    document = {
        "phoneNumber": "+33 1 99 00 00 00",
        "callUserId": CALLEE_ID,
        "label": "call 01 99 00 now",
        "uuiData": "12345",
        "attributes": {"0199000001": [{"x": "+33 1 99 00 00 00"}, True, None, 199000002]},
    }
    numbers = ("+33 1 99 00 00 00", "call 01 99 00 now", "0199000001", "199000002")
    assert numbers == payload(json.dumps(document).encode()).numbers
    assert 100 == len(payload(json.dumps([str(number) for number in range(100_000, 101_000)]).encode()).numbers)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["from", "to", "address", "participants"]), inner),
)
BODIES = st.dictionaries(
    st.sampled_from(["phoneNumber", "from", "to", "participants", "conversationIds", "callUserId", "callNumber"]), JSON
)


@given(st.binary() | BODIES.map(lambda document: json.dumps(document).encode()))
@example(b'{"from": ' + 900 * b"[" + 900 * b"]" + b"}")
@example(b"\xef\xbb\xbf{}")
@example(b"\x00\x00\x00")
def test_payload_is_total(content: bytes) -> None:
    """Whatever the body: an answer, with texts that hold what they must."""
    body = payload(content)
    assert all(body.destinations)
    assert all(sum(map(str.isdigit, number)) >= 6 for number in body.numbers)


ENDPOINT, OF_USER = Endpoint(TEMPLATES[0]), Endpoint(TEMPLATES[1], user_id="path")
BODY, NO_BODY = Payload(PayloadShape.FROM_TO, agent_id="body"), Payload(PayloadShape.UNREADABLE)


@pytest.mark.parametrize(
    ("expected", "endpoint", "said", "token_user", "body"),
    [
        (("path", AgentIdSource.PATH), OF_USER, "said", "token", BODY),
        (("said", AgentIdSource.CALLER), ENDPOINT, "said", "token", BODY),
        (("token", AgentIdSource.TOKEN), ENDPOINT, None, "token", BODY),
        (("body", AgentIdSource.BODY), ENDPOINT, None, None, BODY),
        ((None, AgentIdSource.NONE), Endpoint(TEMPLATES[2], conversation_id="c-1"), None, None, NO_BODY),
    ],
)
def test_agent(
    expected: tuple[str | None, AgentIdSource],
    endpoint: Endpoint,
    said: str | None,
    token_user: str | None,
    body: Payload,
) -> None:
    """The path is trusted most, then the dialer, the token, the body."""
    assert expected == agent(endpoint, said, token_user, body)


def test_told() -> None:
    """A dialer's own state is taken as an object or as plain names, in any spelling; the caller is its source."""
    state = AgentState(presence=Presence.ON_QUEUE, on_call=1, station="", since=12.5)
    plain = {"presence": "On Queue", "on_call": True, "station": "", "since": 12.5, "wrap_up": None}
    assert ("a-1", state) == told({"agent_id": "a-1", "agent_state": state})
    assert (None, state) == told({"agent_state": plain})
    assert ("a-1", None) == told({"agent_id": "a-1"})
    assert (USER_ID, None) == told({"agent_id": f" {USER_ID.upper()}"})


def test_told_keeps_a_doubt_and_claims_no_other_source() -> None:
    """What the dialer itself calls stale stays so; and whoever told the dialer, it is the dialer who tells us."""
    fed = AgentState(routing_status=RoutingStatus.IDLE, source=StateSource.REST, certainty=Certainty.STALE)
    heard = AgentState(routing_status=RoutingStatus.IDLE, source=StateSource.CALLER, certainty=Certainty.STALE)
    assert (None, heard) == told({"agent_state": fed})
    assert (None, heard) == told({"agent_state": {"routing_status": "idle", "certainty": "stale"}})


@pytest.mark.parametrize(
    "extension",
    [
        None,
        "a-1",
        ["a-1"],
        {},
        {"agent_id": None, "agent_state": None},
        {"agent_id": 1, "agent_state": "BUSY"},
        {"agent_id": "", "agent_state": AgentState()},
        {"agent_id": b"a-1", "agent_state": {"presence": "Lunch", "on_call": -1, "wrap_up": "1", "out_of_office": 0}},
        {"agent_state": {"station": 7, "since": 12.5, "certainty": []}},
    ],
)
def test_what_is_malformed_is_as_if_not_told(extension: object) -> None:
    """Nothing of use: then nothing was told, and nothing is raised."""
    assert (None, None) == told(extension)


@pytest.mark.parametrize("since", ["today", nan, inf, -inf, None, []])
def test_a_malformed_part_spoils_no_other(since: object) -> None:
    """Each part is taken for itself."""
    assert (None, AgentState(out_of_office=True)) == told({"agent_state": {"out_of_office": True, "since": since}})


ANYTHING: Any = st.none() | st.text() | st.binary() | st.integers() | st.floats() | st.lists(st.text())


@given(
    st.fixed_dictionaries(
        {"agent_id": ANYTHING},
        optional={
            "agent_state": st.dictionaries(st.sampled_from([*endpoints._CHECKS, "since", "certainty"]), ANYTHING)
        },
    )
)
def test_told_is_total(extension: dict[str, object]) -> None:
    """Whatever the dialer says, what is taken of it has the types that it should have."""
    agent_id, state = told(extension)
    assert agent_id is None or 0 < len(agent_id) <= 128
    assert state is None or (state.on_call or 0) >= 0


@pytest.mark.parametrize("number", [10**400, -(10**400)])
def test_a_number_of_any_size_can_be_told(number: int) -> None:
    """A time that no float can hold is none, and nobody is on that many calls."""
    state = {"presence": "BUSY", "since": number, "on_call": number, "wrap_up": 1001}
    assert (None, AgentState(presence=Presence.BUSY)) == told({"agent_state": state})


def test_duplicates_are_seen_within_the_window() -> None:
    """The same key within ten seconds, either way; another key, or a later time, is a new call."""
    duplicates = Duplicates()
    seen = [
        duplicates.seen(*call) for call in (("a", 0), ("b", 1), ("a", 10), ("a", 20.1), ("b", 12), ("a", 19), ("b", 1))
    ]
    assert [False, False, True, False, False, True, False] == seen


def test_duplicates_are_bounded() -> None:
    """Only the latest keys are remembered."""
    duplicates = Duplicates(limit=2)
    seen = [duplicates.seen(key, 0) for key in ("a", "b", "a", "c", "b", "c")]
    assert [False, False, True, False, False, True] == seen
