"""What is asked of a call: each fault gets its documented code, or the thread's."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from call_initiation.events import UNKNOWN_STATE, StateLabel
from call_initiation.simulator.org import (
    CALM,
    INVALID_AGENT_STATE,
    Behaviour,
    CallRequest,
    Endpoint,
    Organisation,
    user_token,
)
from simulated import ALL, NOBODY, NOW, NUMBER, call, client_token, code_of, from_to, headers, in_state

FAULTY: list[tuple[str, object, str]] = [
    ("no JSON", b'{"phoneNumber":', "bad.request"),
    ("deep JSON", b"[" * 100_000, "bad.request"),
    ("no object", b"[]", "bad.request"),
    ("no destination", {}, "bad.request"),
    ("two destinations", {"phoneNumber": NUMBER, "callUserId": NOBODY}, "too.many.create.conversation.parameters"),
    ("a number that is a number", {"phoneNumber": 33199000042}, "invalid.value"),
    ("a priority that is a flag", {"phoneNumber": NUMBER, "priority": True}, "invalid.value"),
    (
        "two of the thread's destinations",
        {"from": {"type": "PERSON"}, "to": [{}, {}]},
        "too.many.create.conversation.parameters",
    ),
    ("none of the thread's destinations", {"from": {"type": "PERSON"}, "to": "nobody"}, "bad.request"),
]


@pytest.mark.parametrize(("payload", "code"), [row[1:] for row in FAULTY], ids=[row[0] for row in FAULTY])
def test_a_faulty_payload_is_refused(payload: object, code: str) -> None:
    """Each with its documented code, whatever the agent's state."""
    organisation = Organisation(behaviour=CALM)
    assert (400, code) == code_of(organisation.place_call(call(organisation.agent_ids[0], payload), NOW))
    assert (code,) == organisation.ledger[0].codes


def test_a_missing_from_type_hides_its_code_in_the_details() -> None:
    """The thread's rule: a generic body, the code only in `details`."""
    organisation = Organisation(behaviour=CALM)
    agent_id = in_state(organisation, StateLabel.AVAILABLE)
    answer = organisation.place_call(call(agent_id, from_to(agent_id, type=None)), NOW)
    assert (400, "bad.request") == code_of(answer)
    assert [{"errorCode": "MISSING_FROM_TYPE", "fieldName": "from.type"}] == json.loads(answer.body)["details"]
    assert ("MISSING_FROM_TYPE", "bad.request") == organisation.ledger[0].codes


def test_the_threads_shape_names_the_agent_itself() -> None:
    """Where the token doesn't: it is a client's, which has no user."""
    organisation = Organisation(behaviour=ALL)
    agent_id = organisation.agent_ids[7]
    for payload in (from_to(agent_id), from_to(None, id=agent_id)):
        assert 202 == organisation.place_call(_by_client(organisation, payload), NOW).status
    assert [agent_id] * 2 == [entry.agent_id for entry in organisation.ledger]


def test_a_call_is_the_tokens_users_whomever_the_body_names() -> None:
    """The API documents that, and no document knows a `from`; the exporter takes it so, too."""
    organisation = Organisation(behaviour=ALL)
    own, another = organisation.agent_ids[:2]
    for named in (another, NOBODY):
        assert 202 == organisation.place_call(call(own, from_to(named)), NOW).status
    assert [own] * 2 == [entry.agent_id for entry in organisation.ledger]


def _by_client(organisation: Organisation, payload: object) -> CallRequest:
    return CallRequest(headers=headers(client_token(organisation)), body=json.dumps(payload).encode())


def test_an_agent_who_does_not_exist_is_in_no_state_to_call() -> None:
    """The thread's rule for an `agentId` that is nobody's; the ledger knows of no agent."""
    organisation = Organisation(behaviour=CALM)
    answer = organisation.place_call(_by_client(organisation, from_to(NOBODY)), NOW)
    assert (400, INVALID_AGENT_STATE) == code_of(answer)
    assert (None, UNKNOWN_STATE, StateLabel.UNKNOWN) == _agent_in_ledger(organisation)


def _agent_in_ledger(organisation: Organisation) -> tuple[object, object, object]:
    entry = organisation.ledger[0]
    return entry.agent_id, entry.state, entry.label


def test_a_call_for_nobody_can_be_let_through() -> None:
    """Where the behaviour refuses no state, even this one is accepted, and nobody's state changes for it."""
    organisation = Organisation(behaviour=ALL)
    assert 202 == organisation.place_call(_by_client(organisation, from_to(NOBODY)), NOW).status
    assert UNKNOWN_STATE is organisation.state(NOBODY)


def test_a_client_has_no_user() -> None:
    """On the plain endpoint a client's token is refused; on behalf of a user it is taken."""
    organisation = Organisation(behaviour=ALL)
    request = CallRequest(headers=headers(client_token(organisation)), body=b'{"phoneNumber": "+33199000042"}')
    assert (400, "not.a.user") == code_of(organisation.place_call(request, NOW))
    target = organisation.agent_ids[3]
    behalf = CallRequest(endpoint=Endpoint.ON_BEHALF, target=target, headers=request.headers, body=request.body)
    assert 202 == organisation.place_call(behalf, NOW).status
    assert [None, target] == [entry.agent_id for entry in organisation.ledger]


@pytest.mark.parametrize(
    ("endpoint", "target", "expected"),
    [
        (Endpoint.ON_BEHALF, NOBODY, (404, "not.found")),
        (Endpoint.CALLBACK, "no-uuid", (404, "resource.not.found")),
        (Endpoint.CALLBACK, NOBODY, (400, "bad.request")),
    ],
)
def test_what_is_not_there_is_not_found(endpoint: Endpoint, target: str, expected: tuple[int, str]) -> None:
    """An unknown user, an id that is no conversation's, and a callback without its number."""
    organisation = Organisation(behaviour=CALM)
    plain = call(organisation.agent_ids[0])
    request = CallRequest(endpoint=endpoint, target=target, headers=plain.headers, body=plain.body)
    assert expected == code_of(organisation.place_call(request, NOW))


def test_a_callback_is_placed_as_the_tokens_user() -> None:
    """`CallCommand` with its `callNumber`."""
    organisation = Organisation(behaviour=ALL)
    agent_id = organisation.agent_ids[2]
    request = CallRequest(
        endpoint=Endpoint.CALLBACK,
        target=NOBODY,
        headers=headers(user_token(agent_id)),
        body=b'{"callNumber": "+33199000042"}',
    )
    assert 202 == organisation.place_call(request, NOW).status
    assert agent_id == organisation.ledger[0].agent_id


@pytest.mark.parametrize(
    ("endpoint", "code"), [(Endpoint.OWN, "missing.permissions"), (Endpoint.ON_BEHALF, "missing.any.permissions")]
)
def test_permissions_are_the_tokens_users(endpoint: Endpoint, code: str) -> None:
    """An agent without the permission is told its name."""
    organisation = Organisation(behaviour=Behaviour(unpermitted=1.0, html=0.0))
    plain = call(organisation.agent_ids[0])
    request = CallRequest(endpoint=endpoint, target=organisation.agent_ids[1], headers=plain.headers, body=plain.body)
    answer = organisation.place_call(request, NOW)
    assert (403, code) == code_of(answer)
    assert "conversation:" in json.loads(answer.body)["message"]


def test_a_body_has_its_limits() -> None:
    """512,000 bytes and no more, of JSON only."""
    organisation = Organisation(behaviour=CALM)
    fits = call(organisation.agent_ids[0])
    fill = b" " * (512_000 - len(fits.body))
    assert 413 != organisation.place_call(CallRequest(headers=fits.headers, body=fits.body + fill), NOW).status
    too_long = CallRequest(headers=fits.headers, body=fits.body + fill + b" ")
    assert (413, "request.entity.too.large") == code_of(organisation.place_call(too_long, NOW))
    for content_type in ("text/plain", ""):
        request = CallRequest(headers={**fits.headers, "content-type": content_type}, body=fits.body)
        assert (415, "unsupported.media.type") == code_of(organisation.place_call(request, NOW))
    charset = CallRequest(headers={**fits.headers, "content-type": "Application/JSON; charset=utf-8"}, body=fits.body)
    assert 415 != organisation.place_call(charset, NOW).status


@given(st.binary(max_size=200), st.sampled_from(Endpoint), st.text(max_size=40))
@settings(max_examples=100, deadline=None)
def test_any_body_is_answered(body: bytes, endpoint: Endpoint, target: str) -> None:
    """Whatever comes, there is one answer and one entry."""
    organisation = Organisation(agents=1)
    request = CallRequest(
        endpoint=endpoint, target=target, headers=headers(user_token(organisation.agent_ids[0])), body=body
    )
    answer = organisation.place_call(request, NOW)
    assert [answer.status] == [entry.status for entry in organisation.ledger]


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["from", "to", "type", "agentId", "address", "phoneNumber", "callNumber", "participants"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@given(JSON_VALUES)
@settings(max_examples=200, deadline=None)
def test_any_json_is_answered(payload: object) -> None:
    """Wrong types everywhere lead to answers all the same, lone surrogates echoed included."""
    organisation = Organisation(agents=1, behaviour=Behaviour(refusals={}, echo=1.0))
    answer = organisation.place_call(call(organisation.agent_ids[0], payload), NOW)
    assert answer.status in {202, 400, 403, 408, 409, 429, 500, 503, 504}
