"""The pretend organisation: repeatable byte for byte, exact in its ledger, and open to planted effects."""

import hashlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from call_initiation.calls import endpoints
from call_initiation.events import Presence, StateLabel
from call_initiation.simulator.exchange import stream
from call_initiation.simulator.org import (
    CALM,
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
    call_request,
    user_token,
    word,
)
from simulated import NOBODY, NOW, NUMBER, call, code_of, from_to, get, headers, in_state


def traffic(organisation: Organisation, calls: int = 300) -> list[Answer]:
    """Place calls of all kinds, a tenth of a second apart."""
    source = stream(5, "traffic")
    answers: list[Answer] = []
    for number in range(calls):
        agent_id = source.choice(organisation.agent_ids)
        payload = source.choice([{"phoneNumber": NUMBER}, from_to(agent_id), from_to(agent_id, type=None), {}])
        answers.append(organisation.place_call(call(agent_id, payload), NOW + number / 10))
    return answers


@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize(
    "rest",
    ["", "/", "//", "/user", "/user/", "/user//", "/user/u-1", "/user/u-1/", "/user/u%2D1", "/c-1", "/c-1/", "/c-1/x"],
)
def test_it_knows_what_starts_a_call_as_the_exporter_does(method: str, rest: str) -> None:
    """One trailing slash aside, and with the same id; else one would count what the other doesn't."""
    path = f"{Endpoint.OWN}{rest}"
    found = call_request(Request(method=method, path=path))
    matched = endpoints.match(method, path.encode())
    expected = matched and (matched.template, matched.user_id or matched.conversation_id or "")
    assert expected == (found and (found.endpoint, found.target))


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


def test_each_change_prevents_repeats() -> None:
    """What answers have applied is told by the next `advance`, in order, and by no other."""
    organisation, twin = Organisation(agents=20), Organisation(agents=20)
    get(organisation, "/api/v2/users", now=STARTED + 30.0)
    get(organisation, "/api/v2/users", now=STARTED + 60.0)
    expected = twin.advance(STARTED + 60.0)
    told = organisation.advance(STARTED + 60.0)
    assert len(expected) > 10
    assert expected == told
    assert [] == organisation.advance(STARTED + 60.0)
    assert twin.advance(STARTED + 90.0) == organisation.advance(STARTED + 90.0)
    assert expected == told


def test_time_does_not_go_back() -> None:
    """An earlier time is taken as the latest one seen."""
    organisation = Organisation()
    organisation.place_call(call(organisation.agent_ids[0]), NOW)
    organisation.place_call(call(organisation.agent_ids[0]), NOW - 0.5)
    assert [NOW, NOW] == [entry.received_at for entry in organisation.ledger]


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
