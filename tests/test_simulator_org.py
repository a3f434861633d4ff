"""The pretend organisation: repeatable byte for byte, exact in its ledger, and documented in its answers."""

import base64
import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from call_initiation.events import UNKNOWN_STATE, Presence, StateLabel
from call_initiation.simulator.exchange import stream
from call_initiation.simulator.org import (
    CALM,
    CLIENT_ID,
    CLIENT_SECRET,
    FAULTS,
    INVALID_AGENT_STATE,
    NO_STATION,
    READY,
    STARTED,
    Answer,
    Behaviour,
    CallRequest,
    Endpoint,
    Organisation,
    Request,
    user_token,
    word,
)

NOW = STARTED + 1.0
NUMBER = "+33199000042"
NOBODY = "00000000-0000-4000-8000-000000000000"
ALL = replace(CALM, refusals={})
"""Accepts every faultless call, whatever the agent's state."""


def headers(token: str, **more: str) -> dict[str, str]:
    """Return the headers of a JSON request with that bearer token."""
    return {"authorization": f"Bearer {token}", "content-type": "application/json"} | more


def call(agent_id: str, payload: object = None, **more: str) -> CallRequest:
    """Return a call as the token's own user."""
    said = {"phoneNumber": NUMBER} if payload is None else payload
    body = said if isinstance(said, bytes) else json.dumps(said).encode()
    return CallRequest(headers=headers(user_token(agent_id), **more), body=body)


def from_to(agent_id: object, **more: object) -> dict[str, Any]:
    """Return the thread's payload."""
    return {"from": {"type": "PERSON", "agentId": agent_id} | more, "to": [{"address": {"phoneNumber": NUMBER}}]}


def client_token(organisation: Organisation, now: float = NOW) -> str:
    """Return a client's token, by the documented flow."""
    return str(json.loads(oauth(organisation, now=now).body)["access_token"])


def oauth(
    organisation: Organisation,
    credentials: str = f"{CLIENT_ID}:{CLIENT_SECRET}",
    form: str = "grant_type=client_credentials",
    now: float = NOW,
) -> Answer:
    """Ask for a client's token."""
    basic = base64.b64encode(credentials.encode()).decode()
    request = Request(
        method="POST", path="/oauth/token", headers={"authorization": f"Basic {basic}"}, body=form.encode()
    )
    return organisation.answer(request, now)


def get(organisation: Organisation, target: str, token: str = "", now: float = NOW) -> Answer:
    """Read something; as the first agent where no token is given."""
    path, _, query = target.partition("?")
    bearer = token or user_token(organisation.agent_ids[0])
    return organisation.answer(Request(method="GET", path=path, query=query, headers=headers(bearer)), now)


def in_state(organisation: Organisation, label: StateLabel, now: float = NOW) -> str:
    """Return an agent who is in that state just before `now`."""
    organisation.advance(now)
    return next(agent for agent in organisation.agent_ids if word(organisation.state(agent)) is label)


def code_of(answer: Answer) -> tuple[int, str]:
    """Return an error's status and top code."""
    return answer.status, json.loads(answer.body)["code"]


def traffic(organisation: Organisation, calls: int = 300) -> list[Answer]:
    """Place calls of all kinds, a tenth of a second apart."""
    source = stream(5, "traffic")
    answers: list[Answer] = []
    for number in range(calls):
        agent_id = source.choice(organisation.agent_ids)
        payload = source.choice([{"phoneNumber": NUMBER}, from_to(agent_id), from_to(agent_id, type=None), {}])
        answers.append(organisation.place_call(call(agent_id, payload), NOW + number / 10))
    return answers


def test_the_same_seed_gives_the_same_organisation_byte_for_byte() -> None:
    """Agents, answers and ledger are alike; another seed's are not."""
    one, two, other = Organisation(3), Organisation(3), Organisation(4)
    assert one.agent_ids == two.agent_ids
    assert traffic(one) == traffic(two)
    assert one.ledger == two.ledger
    assert traffic(Organisation(3)) != traffic(other)


def test_an_accepted_call_is_answered_as_documented() -> None:
    """202, the call's id and link, and the headers of every answer."""
    organisation = Organisation(behaviour=CALM)
    answer = organisation.place_call(call(in_state(organisation, StateLabel.AVAILABLE)), NOW)
    body = json.loads(answer.body)
    assert 202 == answer.status
    assert {"id", "selfUri"} == set(body)
    assert f"/api/v2/conversations/calls/{body['id']}" == body["selfUri"]
    assert {
        "Content-Type": "application/json",
        "Date": "Thu, 01 Jan 2026 00:00:01 GMT",
        "ININ-Correlation-Id": organisation.ledger[0].correlation_id,
        "inin-ratelimit-count": "1",
        "inin-ratelimit-allowed": "300",
        "inin-ratelimit-reset": "60",
    } == answer.headers


def test_an_accepted_call_occupies_the_agent() -> None:
    """Strictly after the send the agent is on the call, so the next one is refused."""
    organisation = Organisation(behaviour=CALM)
    agent_id = in_state(organisation, StateLabel.ON_QUEUE)
    assert 202 == organisation.place_call(call(agent_id), NOW).status
    assert StateLabel.ON_QUEUE is word(organisation.state(agent_id))
    assert (400, INVALID_AGENT_STATE) == code_of(organisation.place_call(call(agent_id), NOW + 0.002))
    assert [StateLabel.ON_QUEUE, StateLabel.ON_CALL] == [entry.label for entry in organisation.ledger]


def test_a_refusal_may_unsettle_the_agent_after_the_send() -> None:
    """The ledger has the state before; the change comes after."""
    organisation = Organisation(behaviour=Behaviour(unsettled=1.0, weather={}, html=0.0))
    agent_id = in_state(organisation, StateLabel.BUSY)
    organisation.place_call(call(agent_id), NOW)
    (change,) = [change for change in organisation.advance(NOW + 0.002) if change.agent_id == agent_id][:1]
    assert Presence.BUSY is organisation.ledger[0].state.presence is change.before.presence
    assert Presence.BUSY is not change.state.presence
    assert NOW < change.at


@pytest.mark.parametrize("label", sorted(set(StateLabel) - {StateLabel.UNKNOWN}))
def test_a_state_decides_as_the_thread_and_the_station_check_say(label: StateLabel) -> None:
    """Ready agents are accepted, one without a station gets the documented code, all others the thread's."""
    organisation = Organisation(agents=300, behaviour=CALM)
    moment = next(at for at in (STARTED + step for step in range(1, 2000)) if _someone_is(organisation, label, at))
    answer = organisation.place_call(call(in_state(organisation, label, moment)), moment)
    expected = (202, "none")
    if label not in READY:
        expected = (400, NO_STATION if label is StateLabel.NO_STATION else INVALID_AGENT_STATE)
    assert expected == (answer.status, organisation.ledger[0].error_code)
    assert {(*expected, label): 1} == organisation.counts


def _someone_is(organisation: Organisation, label: StateLabel, now: float) -> bool:
    organisation.advance(now)
    return any(word(organisation.state(agent_id)) is label for agent_id in organisation.agent_ids)


def test_an_effect_can_be_planted() -> None:
    """A code and a share for a state are met exactly."""
    planted = Behaviour(
        refusals={StateLabel.AVAILABLE: 0.5},
        codes={StateLabel.AVAILABLE: "MADE.UP"},
        weather={},
        html=0.0,
        rate_limit=5000,
    )
    organisation = Organisation(agents=1, behaviour=planted, seed=2)
    agent_id = in_state(organisation, StateLabel.AVAILABLE)
    for _ in range(1000):
        organisation.place_call(call(agent_id), NOW)
    assert 430 < organisation.counts[400, "MADE.UP", StateLabel.AVAILABLE] < 570
    assert 1000 == sum(organisation.counts.values())


@pytest.mark.parametrize("code", sorted(FAULTS))
def test_each_code_of_the_table_can_be_produced(code: str) -> None:
    """Planted as weather, each comes with its status, its code on top, and the correlation id."""
    organisation = Organisation(
        behaviour=Behaviour(refusals={}, weather={code: 1.0}, html=0, generic=0, nested=0, wild=0)
    )
    answer = organisation.place_call(call(in_state(organisation, StateLabel.AVAILABLE)), NOW)
    body = json.loads(answer.body)
    assert (FAULTS[code].status, code) == code_of(answer)
    assert FAULTS[code].status == body["status"]
    assert answer.headers["ININ-Correlation-Id"] == body["contextId"] == organisation.ledger[0].correlation_id
    assert ("Retry-After" in answer.headers) == (answer.status == 429)


def test_weather_strikes_in_its_share() -> None:
    """Of two codes with a share each, both come, and most calls meet none."""
    weather = {"internal.server.error": 0.1, "service.unavailable": 0.1}
    organisation = Organisation(behaviour=Behaviour(refusals={}, weather=weather, html=0.0))
    statuses = [organisation.place_call(call(agent_id), NOW).status for agent_id in organisation.agent_ids * 4]
    assert {202, 403, 500, 503} == set(statuses)
    assert 100 < statuses.count(202)


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
    """The agent is the body's, not the token's; a client's token will do."""
    organisation = Organisation(behaviour=ALL)
    agent_id = organisation.agent_ids[7]
    request = CallRequest(headers=headers(client_token(organisation)), body=json.dumps(from_to(agent_id)).encode())
    assert 202 == organisation.place_call(request, NOW).status
    assert agent_id == organisation.ledger[0].agent_id


def test_an_agent_who_does_not_exist_is_in_no_state_to_call() -> None:
    """The thread's rule for an `agentId` that is nobody's; the ledger knows of no agent."""
    organisation = Organisation(behaviour=CALM)
    answer = organisation.place_call(call(organisation.agent_ids[0], from_to(NOBODY)), NOW)
    assert (400, INVALID_AGENT_STATE) == code_of(answer)
    assert (None, UNKNOWN_STATE, StateLabel.UNKNOWN) == _agent_in_ledger(organisation)


def test_a_call_for_nobody_can_be_let_through() -> None:
    """Where the behaviour refuses no state, even this one is accepted, and nobody's state changes for it."""
    organisation = Organisation(behaviour=ALL)
    assert 202 == organisation.place_call(call(organisation.agent_ids[0], from_to(NOBODY)), NOW).status
    assert UNKNOWN_STATE is organisation.state(NOBODY)


def _agent_in_ledger(organisation: Organisation) -> tuple[object, object, object]:
    entry = organisation.ledger[0]
    return entry.agent_id, entry.state, entry.label


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


@pytest.mark.parametrize(
    ("authorization", "code"),
    [("", "authentication.required"), ("Bearer ", "authentication.required"), ("Bearer x", "bad.credentials")],
)
def test_a_token_is_needed(authorization: str, code: str) -> None:
    """None, an empty one, and one that nobody gave out."""
    organisation = Organisation(behaviour=CALM)
    request = CallRequest(headers={"authorization": authorization, "content-type": "application/json"}, body=b"{}")
    answer = organisation.place_call(request, NOW)
    assert (401, code) == code_of(answer)
    assert "0" == answer.headers["inin-ratelimit-count"]


def test_a_clients_token_expires() -> None:
    """At its time, not before, and is then said to have expired."""
    organisation = Organisation(behaviour=Behaviour(token_seconds=300, html=0.0))
    token = client_token(organisation)
    assert 200 == get(organisation, "/api/v2/users", token, NOW + 299.9).status
    assert (401, "credentials.expired") == code_of(get(organisation, "/api/v2/users", token, NOW + 300.0))


def test_a_token_is_given_out() -> None:
    """The documented fields, a new token each time, and no cause to keep those long expired."""
    organisation = Organisation(behaviour=Behaviour(token_seconds=300))
    body = json.loads(oauth(organisation).body)
    assert ("bearer", 300) == (body["token_type"], body["expires_in"])
    assert body["access_token"] != client_token(organisation, NOW + 601.0)
    assert (401, "bad.credentials") == code_of(get(organisation, "/api/v2/users", body["access_token"], NOW + 601.0))


@pytest.mark.parametrize(
    ("credentials", "form", "expected"),
    [
        ("simulator:wrong", "grant_type=client_credentials", (401, "invalid_client")),
        (f"{CLIENT_ID}:{CLIENT_SECRET}", "grant_type=password", (400, "unsupported_grant_type")),
        (f"{CLIENT_ID}:{CLIENT_SECRET}", "", (400, "unsupported_grant_type")),
    ],
)
def test_a_token_may_be_refused(credentials: str, form: str, expected: tuple[int, str]) -> None:
    """OAuth's own error shape: no `code`."""
    answer = oauth(Organisation(), credentials, form)
    body = json.loads(answer.body)
    assert expected == (answer.status, body["error"])
    assert {"error", "error_description", "description"} == set(body)


@pytest.mark.parametrize(
    "authorization", ["", "Basic ???", "Basic /w==", "Digest c2ltdWxhdG9yOnNpbXVsYXRvci1zZWNyZXQ="]
)
def test_credentials_that_cannot_be_read_are_wrong(authorization: str) -> None:
    """No header, no base64, no UTF-8, another scheme."""
    request = Request(method="POST", path="/oauth/token", headers={"authorization": authorization})
    assert 401 == Organisation().answer(request, NOW).status


def test_a_tokens_minute_runs_out() -> None:
    """The request over the limit is told when to come again; other tokens have minutes of their own."""
    organisation = Organisation(behaviour=Behaviour(rate_limit=3, html=0.0))
    one, two = organisation.agent_ids[:2]
    statuses = [organisation.place_call(call(one, {}), NOW + second).status for second in range(3)]
    answer = organisation.place_call(call(one, {}), NOW + 17.5)
    assert [400, 400, 400] == statuses
    assert (429, "too.many.requests.retry.after") == code_of(answer)
    assert "Rate limit exceeded the maximum. Retry the request in [43] seconds" == json.loads(answer.body)["message"]
    assert ("43", "43", "3", "3") == tuple(
        answer.headers[name]
        for name in ("Retry-After", "inin-ratelimit-reset", "inin-ratelimit-count", "inin-ratelimit-allowed")
    )
    assert 400 == organisation.place_call(call(two, {}), NOW + 18.0).status
    assert 429 == get(organisation, "/api/v2/users/me", user_token(one), NOW + 59.9).status
    assert 200 == get(organisation, "/api/v2/users/me", user_token(one), NOW + 60.0).status


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


def test_the_ledger_says_what_was_answered() -> None:
    """Every entry's status, codes, correlation id and digests are those of its answer."""
    organisation = Organisation()
    answers = traffic(organisation)
    for number, (entry, answer) in enumerate(zip(organisation.ledger, answers, strict=True), 1):
        assert (number, str(number), answer.status) == (entry.number, entry.request_id, entry.status)
        assert hashlib.sha256(answer.body).hexdigest() == entry.body_digest
        assert answer.headers["ININ-Correlation-Id"] == entry.correlation_id
        assert (answer.status == 202) == (entry.conversation_id is not None) == (entry.fault is None)
        assert all(code.encode() in answer.body for code in entry.codes)
    assert len(answers) == sum(organisation.counts.values())
    assert {"none", "unparsed", INVALID_AGENT_STATE, "bad.request"} <= {code for _, code, _ in organisation.counts}


def test_the_callers_request_id_is_kept() -> None:
    """`X-Request-Id` names the entry."""
    organisation = Organisation()
    organisation.place_call(call(organisation.agent_ids[0], **{"x-request-id": "mine"}), NOW)
    assert "mine" == organisation.ledger[0].request_id


def test_the_ledger_is_bounded_and_its_counts_are_not() -> None:
    """The latest entries are kept, all calls are counted, and no number stands in any."""
    organisation = Organisation(ledger_capacity=10)
    traffic(organisation, 25)
    assert list(range(16, 26)) == [entry.number for entry in organisation.ledger]
    assert 25 == sum(organisation.counts.values())
    assert NUMBER not in repr(organisation.ledger)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.lists(st.floats(0, 3), min_size=1, max_size=40))
def test_the_ledgers_states_are_those_of_a_replay(seed: int, gaps: list[float]) -> None:
    """Replaying the changes strictly before each call gives the state in the ledger, at the same instant too."""
    organisation = Organisation(seed, agents=3, behaviour=Behaviour(unsettled=0.5))
    states = {agent_id: [(float("-inf"), organisation.state(agent_id))] for agent_id in organisation.agent_ids}
    now, changes = STARTED, []
    for number, gap in enumerate(gaps):
        now += gap
        organisation.place_call(call(organisation.agent_ids[number % 3]), now)
        changes += organisation.advance(now) if number % 4 == 0 else []
    changes += organisation.advance(now + 1.0)
    for change in changes:
        states[change.agent_id].append((change.at, change.state))
    for entry in organisation.ledger:
        before = [state for at, state in states[entry.agent_id or ""] if at < entry.received_at]
        assert before[-1] == entry.state


def test_time_does_not_go_back() -> None:
    """An earlier time is taken as the latest one seen."""
    organisation = Organisation()
    organisation.place_call(call(organisation.agent_ids[0]), NOW)
    organisation.place_call(call(organisation.agent_ids[0]), NOW - 0.5)
    assert [NOW, NOW] == [entry.received_at for entry in organisation.ledger]


def test_a_user_reads_as_in_the_models() -> None:
    """All that `expand` may name, from the same state."""
    organisation = Organisation(behaviour=CALM)
    agent_id = in_state(organisation, StateLabel.ON_QUEUE)
    expand = "presence,routingStatus,conversationSummary,station,outOfOffice,nonsense"
    body = json.loads(get(organisation, f"/api/v2/users/{agent_id}?expand={expand}").body)
    assert agent_id == body["id"]
    assert "On Queue" == body["presence"]["presenceDefinition"]["systemPresence"]
    assert body["presence"]["modifiedDate"].endswith("Z")
    assert "IDLE" == body["routingStatus"]["status"]
    assert {"active": 0, "acw": 0} == body["conversationSummary"]["call"]["contactCenter"]
    assert organisation.state(agent_id).station == body["station"]["effectiveStation"]["id"]
    assert organisation.state(agent_id).out_of_office is body["outOfOffice"]["active"]
    assert "nonsense" not in body


def test_a_user_on_a_call_reads_so() -> None:
    """The summary counts the call."""
    organisation = Organisation(behaviour=CALM)
    agent_id = in_state(organisation, StateLabel.AVAILABLE)
    organisation.place_call(call(agent_id), NOW)
    body = json.loads(get(organisation, f"/api/v2/users/{agent_id}?expand=conversationSummary", now=NOW + 0.1).body)
    assert 1 == body["conversationSummary"]["call"]["contactCenter"]["active"]
    assert "presence" not in body


def test_a_user_without_a_station_has_no_effective_one() -> None:
    """Only the last one is named."""
    organisation = Organisation(behaviour=Behaviour(without_station=1.0), agents=1)
    body = json.loads(get(organisation, f"/api/v2/users/{organisation.agent_ids[0]}?expand=station").body)
    assert ["lastAssociatedStation"] == list(body["station"])


def test_many_users_read_by_id_or_by_page() -> None:
    """Both spellings of a list; unknown ids are left out; pages count from 1."""
    organisation = Organisation(agents=30)
    one, two, three = organisation.agent_ids[:3]
    by_id = json.loads(get(organisation, f"/api/v2/users?id={two},{NOBODY}&id={one}&expand=presence").body)
    assert [two, one] == [user["id"] for user in by_id["entities"]]
    assert all("presence" in user for user in by_id["entities"])
    first = json.loads(get(organisation, "/api/v2/users").body)
    assert (25, 30, 2) == (len(first["entities"]), first["total"], first["pageCount"])
    last = json.loads(get(organisation, "/api/v2/users?pageSize=2&pageNumber=2").body)
    assert three == last["entities"][0]["id"]


@pytest.mark.parametrize("query", ["pageSize=0", "pageSize=501", "pageSize=x", "pageNumber=0"])
def test_a_page_that_cannot_be_is_refused(query: str) -> None:
    """Sizes from 1 to 500, numbers from 1."""
    assert (400, "bad.request") == code_of(get(Organisation(behaviour=CALM), f"/api/v2/users?{query}"))


def test_presences_read_in_bulk() -> None:
    """Up to 50, spelled as the bulk spells them."""
    organisation = Organisation(agents=60, behaviour=CALM)
    agent_id = in_state(organisation, StateLabel.ON_QUEUE)
    (body,) = json.loads(get(organisation, f"/api/v2/users/presences/purecloud/bulk?id={agent_id}").body)
    assert (agent_id, "ON_QUEUE") == (body["id"], body["presenceDefinition"]["systemPresence"])
    too_many = "&id=".join(organisation.agent_ids[:51])
    assert (400, "bad.request") == code_of(get(organisation, f"/api/v2/users/presences/purecloud/bulk?id={too_many}"))


def test_a_token_knows_its_own_user() -> None:
    """An agent's does; a client's has none."""
    organisation = Organisation(behaviour=CALM)
    assert organisation.agent_ids[0] == json.loads(get(organisation, "/api/v2/users/me").body)["id"]
    assert (400, "not.a.user") == code_of(get(organisation, "/api/v2/users/me", client_token(organisation)))


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v2/conversations/calls"),
        ("POST", "/api/v2/conversations/calls/user/a/b"),
        ("POST", "//api/v2/conversations/calls"),
        ("POST", "/api/v2/users/me"),
        ("GET", f"/api/v2/users/{NOBODY}"),
        ("GET", "/"),
    ],
)
def test_what_is_not_served_is_not_found(method: str, path: str) -> None:
    """In the shape of every error, and without an entry in the ledger."""
    organisation = Organisation(behaviour=CALM)
    request = Request(method=method, path=path, headers=headers(user_token(organisation.agent_ids[0])))
    assert (404, "not.found") == code_of(organisation.answer(request, NOW))
    assert [] == organisation.ledger


@pytest.mark.parametrize(
    ("path", "endpoint", "target"),
    [
        ("/api/v2/conversations/calls", Endpoint.OWN, ""),
        ("/api/v2/conversations/calls/user/someone", Endpoint.ON_BEHALF, "someone"),
        ("/api/v2/conversations/calls/something", Endpoint.CALLBACK, "something"),
    ],
)
def test_a_request_that_starts_a_call_is_placed(path: str, endpoint: Endpoint, target: str) -> None:
    """By path, the same as a call placed by hand."""
    one, two = Organisation(), Organisation()
    request = call(one.agent_ids[0])
    by_path = one.answer(Request(method="POST", path=path, headers=request.headers, body=request.body), NOW)
    by_hand = CallRequest(endpoint=endpoint, target=target, headers=request.headers, body=request.body)
    assert two.place_call(by_hand, NOW) == by_path


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
