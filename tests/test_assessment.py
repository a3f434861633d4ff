"""What `assessment` promises: each call said for what it was, and never lost to a part of it that is odd."""

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from call_initiation.agents.agents import Agents
from call_initiation.calls.client import ObservedTransport
from call_initiation.calls.endpoints import CALLS, CALLS_OF_USER, Duplicates, match
from call_initiation.calls.observation import Observation, StreamObservation, Streams
from call_initiation.calls.tracing import Tracing
from call_initiation.events import (
    NO_AGENT,
    UNKNOWN_STATE,
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
    StateLabel,
)
from call_initiation.privacy import KeyedHash
from call_initiation.recording.assessment import Assessor, glance, outcome_of

AGENT = "9d4b4c1e-0000-4000-8000-000000000001"
NUMBER = "+33199000000"
PAYLOAD = {"phoneNumber": NUMBER}


@dataclass
class Watch:
    """Observes calls and keeps the observations; counts faults."""

    observations: list[Observation] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    agents: Agents = field(default_factory=Agents)

    def __post_init__(self) -> None:
        """Make the assessor."""
        self.assessor = Assessor(self.agents, KeyedHash(b"k" * 32), 0, self.faults.append, Duplicates())

    def observe(self, request: Any, streams: Streams) -> Observation:
        """Observe every request."""
        endpoint = match(request.method, request.url.raw_path)
        assert endpoint is not None
        kind = streams.of_bytes if isinstance(request.stream, streams.byte_stream) else StreamObservation
        return kind(endpoint, request, streams, Tracing(), self)

    def submit(self, observation: Observation) -> None:
        """Keep it."""
        self.observations.append(observation)

    def fault(self, stage: str) -> None:
        """Count it."""
        self.faults.append(stage)

    def call(self, answer: Callable[[httpx.Request], httpx.Response], path: str = CALLS, **options: Any) -> Observation:
        """Place a call that is answered so; return what was observed."""
        transport = ObservedTransport(httpx.MockTransport(answer), self)
        with httpx.Client(transport=transport, base_url="https://api.example.com") as client:
            client.post(path, **{"json": PAYLOAD, **options})
        return self.observations[-1]

    def attempt(self, status: int = 202, path: str = CALLS, **options: Any) -> Attempt:
        """Place a call that is answered with a status and `content`; return what it was."""
        given = {name: options.pop(name) for name in ("content", "headers") & options.keys()}
        return self.assessor.assess(self.call(lambda _: httpx.Response(status, **given), path, **options))


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, Outcome.ACCEPTED),
        (202, Outcome.ACCEPTED),
        (301, Outcome.REDIRECTED),
        (400, Outcome.REJECTED),
        (401, Outcome.UNAUTHORIZED),
        (403, Outcome.UNAUTHORIZED),
        (404, Outcome.REJECTED),
        (408, Outcome.FAILED),
        (409, Outcome.REJECTED),
        (413, Outcome.REJECTED),
        (415, Outcome.REJECTED),
        (429, Outcome.RATE_LIMITED),
        (500, Outcome.FAILED),
        (503, Outcome.FAILED),
        (0, Outcome.AMBIGUOUS),
        (100, Outcome.AMBIGUOUS),
        (700, Outcome.AMBIGUOUS),
    ],
)
def test_a_status_says_what_became_of_a_call(status: int, outcome: Outcome) -> None:
    """As the catalogue words it."""
    assert outcome is outcome_of(status)


def test_an_accepted_call() -> None:
    """Where it went, what it cost, which body it had; nothing is refused."""
    attempt = Watch().attempt(202, content=b"{}")
    assert (CALLS, "api.example.com", 443) == (attempt.endpoint, attempt.server_address, attempt.server_port)
    assert (Outcome.ACCEPTED, 202, None, None) == (
        attempt.outcome,
        attempt.status_code,
        attempt.error_type,
        attempt.refusal,
    )
    assert (PayloadShape.CREATE_CALL_REQUEST, NO_AGENT, None) == (attempt.payload_shape, attempt.agent, attempt.span)
    assert BodyState.WHOLE is attempt.body
    assert attempt.duration > 0


def test_a_refused_call_tells_its_codes() -> None:
    """Read from the body, decoded where need be; the header's id where the body has none."""
    body = json.dumps({"code": "bad.request", "message": "No.", "details": [{"errorCode": "ACTION.PROCESSING"}]})
    headers = {"Content-Encoding": "gzip", "ININ-Correlation-Id": "5b8f0f6e-0000-4000-8000-000000000002"}
    attempt = Watch().attempt(400, content=gzip.compress(body.encode()), headers=headers)
    assert (Outcome.REJECTED, "400") == (attempt.outcome, attempt.error_type)
    assert attempt.refusal is not None
    assert (("ACTION.PROCESSING", "bad.request"), "No.", headers["ININ-Correlation-Id"]) == (
        attempt.refusal.codes,
        attempt.refusal.message,
        attempt.refusal.correlation_id,
    )


def test_a_refusal_without_a_body_is_a_refusal() -> None:
    """Its category follows from the status."""
    attempt = Watch().attempt(403)
    assert ("unparsed", Category.PERMISSION) == (attempt.error_code, attempt.category)


def test_a_call_without_an_answer_has_a_reason() -> None:
    """The transport's failure; no status, no body, no refusal."""
    watch = Watch()

    def drop(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout(NUMBER, request=request)

    with pytest.raises(httpx.ReadTimeout):
        watch.call(drop)
    attempt = watch.assessor.assess(watch.observations[-1])
    assert (Outcome.AMBIGUOUS, "read_timeout") == (attempt.outcome, attempt.error_type)
    assert (None, None, None) == (attempt.status_code, attempt.body, attempt.refusal)


def test_the_port_is_the_schemes_own_where_the_url_names_none() -> None:
    """And zero for a scheme that we don't know."""
    watch = Watch()
    observation = watch.call(lambda _: httpx.Response(202))
    for url, port in [("http://h/x", 80), ("https://h/x", 443), ("http://h:81/x", 81), ("unix://h/x", 0)]:
        observation.url = httpx.URL(url)
        assert port == watch.assessor.assess(observation).server_port


def test_the_send_is_timed_by_the_wall_clocks_start_and_the_monotonic_clock() -> None:
    """None where nothing was ever sent."""
    watch = Watch()
    observation = watch.call(lambda _: httpx.Response(202))
    observation.started_at, observation.started_ns, observation.sent_ns = 1_000, 10, 25
    assert 1_015 == watch.assessor.assess(observation).sent_at
    observation.sent_ns = None
    assert watch.assessor.assess(observation).sent_at is None


# -- the agent ----------------------------------------------------------------------------------------------------


def test_the_agents_state_is_the_one_strictly_before_the_send() -> None:
    """Not the one that the call itself brought about."""
    watch = Watch()
    watch.agents.apply(AGENT, AgentState(presence="AVAILABLE"), at=100.0)
    watch.agents.apply(AGENT, AgentState(on_call=1), at=110.0)
    observation = watch.call(lambda _: httpx.Response(202), CALLS_OF_USER.replace("{userId}", AGENT))
    observation.sent_ns = 110_000_000_000
    agent = watch.assessor.assess(observation).agent
    assert (AGENT, AgentIdSource.PATH, StateLabel.AVAILABLE, 10.0) == (
        agent.id,
        agent.id_source,
        agent.label,
        agent.age,
    )
    observation.sent_ns = 110_000_000_001
    assert StateLabel.ON_CALL is watch.assessor.assess(observation).agent.label


def test_what_the_dialer_says_of_a_call_goes_before_what_we_know() -> None:
    """With the age that follows from it, never a negative one."""
    watch = Watch()
    watch.agents.apply(AGENT, AgentState(presence="BUSY"), at=100.0)
    said = {"agent_id": AGENT, "agent_state": AgentState(presence="MEAL", since=100.0, station="s1")}
    observation = watch.call(lambda _: httpx.Response(202), extensions={"call_initiation": said})
    ages = {}
    for sent in (130, 90):
        observation.sent_ns = sent * 1_000_000_000
        agent = watch.assessor.assess(observation).agent
        ages[sent] = agent.age
    assert {130: 30.0, 90: 0.0} == ages
    assert (AgentIdSource.CALLER, StateLabel.MEAL, "s1") == (agent.id_source, agent.label, agent.state.station)


def test_a_state_that_is_said_without_a_time_has_no_age() -> None:
    """And one that is said without an agent is believed all the same."""
    said = {"agent_state": {"presence": "On Queue"}}
    agent = Watch().attempt(extensions={"call_initiation": said}).agent
    assert (None, AgentIdSource.NONE, Presence.ON_QUEUE, None) == (
        agent.id,
        agent.id_source,
        agent.state.presence,
        agent.age,
    )


def test_an_agent_of_whom_nothing_is_known_is_unknown() -> None:
    """Not guessed."""
    agent = Watch().attempt(path=CALLS_OF_USER.replace("{userId}", AGENT)).agent
    assert (AGENT, UNKNOWN_STATE, StateLabel.UNKNOWN) == (agent.id, agent.state, agent.label)


def test_ids_that_tell_a_number_do_not_leave() -> None:
    """An agent's id or a station's that is, or holds, what was dialled; the word stays right."""
    state = AgentState(presence="BUSY", station=f"sip-{NUMBER[1:]}")
    said = {"agent_id": NUMBER[1:], "agent_state": state}
    agent = Watch().attempt(extensions={"call_initiation": said}).agent
    assert (None, None, StateLabel.BUSY) == (agent.id, agent.state.station, agent.label)


# -- secrets ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("header", ["Authorization", "Proxy-Authorization", "Cookie"])
def test_a_secret_of_the_request_does_not_come_back_in_the_answers_words(header: str) -> None:
    """Whichever header carried it."""
    secret = "correct-horse-battery"
    watch = Watch()
    body = json.dumps({"message": f"The token {secret} has expired; call {NUMBER} instead."}).encode()
    observation = watch.call(lambda _: httpx.Response(401, content=body), headers={header: secret})
    attempt = watch.assessor.assess(observation)
    assert attempt.refusal is not None
    assert attempt.refusal.message == "The token [secret] has expired; call +[number] instead."


def test_each_call_is_masked_by_its_own_secret() -> None:
    """Those of the calls before it, and of those since, are no secrets of its."""
    watch = Watch()
    secrets = ["correct-horse", "battery-staple", "correct-horse"]
    for at, secret in enumerate(secrets):
        if at == len(secrets) - 1:
            watch.assessor.forget()
        body = json.dumps({"message": f"Not {secret}."}).encode()
        sent = {"Authorization": f"Bearer {secret}"}
        answers = {"content": body}
        observation = watch.call(lambda _, answers=answers: httpx.Response(401, **answers), headers=sent)
        attempt = watch.assessor.assess(observation)
        assert attempt.refusal is not None
        assert attempt.refusal.message == "Not [secret]"


@pytest.mark.parametrize("scheme", ["Basic", "basic"])
@pytest.mark.parametrize("credentials", ["ZGlhbGVyOmNvcnJlY3QtaG9yc2U=", "/zpjb3JyZWN0LWhvcnNl", "x", "%%%"])
def test_a_password_does_not_come_back_either(credentials: str, scheme: str) -> None:
    """Basic credentials hide it from nobody, whoever their user is; what isn't base64 hides nothing."""
    watch = Watch()
    body = json.dumps({"message": f"Not correct-horse, nor {credentials}."}).encode()
    observation = watch.call(
        lambda _: httpx.Response(401, content=body), headers={"Authorization": f"{scheme} {credentials}"}
    )
    attempt = watch.assessor.assess(observation)
    assert attempt.refusal is not None
    is_valid = len(credentials) > 3
    assert ("Not [secret] nor [secret]" if is_valid else f"Not correct-horse, nor {credentials}.") == (
        attempt.refusal.message
    )
    assert [] == watch.faults


def test_no_secret_is_kept_longer_than_it_is_needed() -> None:
    """A dump of the memory of a process that places no calls any more has none to tell."""
    watch = Watch()
    watch.assessor.assess(watch.call(lambda _: httpx.Response(401), headers={"Authorization": "Bearer correct-horse"}))
    assert "correct-horse" in repr(watch.assessor)
    watch.assessor.forget()
    assert "correct-horse" not in repr(watch.assessor)


# -- duplicates ---------------------------------------------------------------------------------------------------


def test_the_same_agent_and_destination_within_moments_is_suspect() -> None:
    """Another destination, or another agent, isn't; nor is a call without a destination."""
    watch = Watch()
    other = {"phoneNumber": "+33199000001"}
    mine = {"call_initiation": {"agent_id": AGENT}}
    suspected = [
        watch.attempt(json=PAYLOAD).suspected_duplicate,
        watch.attempt(json=PAYLOAD).suspected_duplicate,
        watch.attempt(json=other).suspected_duplicate,
        watch.attempt(json=PAYLOAD, extensions=mine).suspected_duplicate,
        watch.attempt(json={}).suspected_duplicate,
        watch.attempt(json={}).suspected_duplicate,
        watch.attempt(json={**PAYLOAD, "callUserId": "u-1"}).suspected_duplicate,
    ]
    assert [False, True, False, False, False, False, False] == suspected


# -- what can't be worked out -------------------------------------------------------------------------------------


class Broken:
    """Fails at whatever is asked of it."""

    def __getattr__(self, name: str) -> Any:
        """Return a method that fails."""

        def fail(*_: object) -> None:
            raise ZeroDivisionError(name)

        return fail


def test_a_fault_in_one_step_takes_nothing_else_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step that can fail does: the call is still recorded, and each fault counted."""
    watch = Watch()
    body = json.dumps({"code": "bad.request"}).encode()
    path = CALLS_OF_USER.replace("{userId}", AGENT)
    observation = watch.call(lambda _: httpx.Response(400, content=body), path)
    watch.assessor.agents = Broken()
    watch.assessor.duplicates = Broken()
    observation.headers = Broken()
    observation.response_headers = Broken()
    monkeypatch.setattr("call_initiation.diagnosis.diagnosis.examine", Broken().examine)
    attempt = watch.assessor.assess(observation)
    assert ["mask", "join", "parse", "duplicates", "diagnose"] == watch.faults
    assert (Outcome.REJECTED, 400, Refusal(), NO_AGENT) == (
        attempt.outcome,
        attempt.status_code,
        attempt.refusal,
        attempt.agent,
    )


def test_an_encoded_answer_is_decoded() -> None:
    """As the caller's own client does it, from what came over the wire."""
    watch = Watch()
    wire = gzip.compress(json.dumps({"code": "bad.request"}).encode())
    headers = {"Content-Encoding": "gzip", "ININ-Correlation-Id": "9d4b1c2e-0000-4abc-8def-1234567890ab"}
    answer = httpx.Response(400, headers=headers, stream=httpx.ByteStream(wire))
    refusal = watch.assessor.assess(watch.call(lambda _: answer)).refusal
    assert (("bad.request",), headers["ININ-Correlation-Id"]) == (refusal.codes, refusal.correlation_id)


def test_a_payload_that_breaks_its_reader_is_unreadable() -> None:
    """Its reader never fails on bytes; should it ever, the call goes on without it."""
    watch = Watch()
    observation = watch.call(lambda _: httpx.Response(202))
    observation.request = httpx.Request("POST", "https://api.example.com")
    observation.request._content = Broken()
    attempt = watch.assessor.assess(observation)
    assert (["payload"], PayloadShape.UNREADABLE, ()) == (watch.faults, attempt.payload_shape, attempt.findings)
    assert (Outcome.ACCEPTED, None) == (attempt.outcome, attempt.refusal)


@pytest.mark.parametrize(
    ("findings", "body"),
    [
        ((), PAYLOAD),
        (("several_destinations", "calls_themself"), {"phoneNumber": NUMBER, "callUserId": AGENT}),
        (("unknown_property", "no_destination"), {"to number": NUMBER, "from number": NUMBER}),
    ],
)
def test_what_may_be_wrong_with_a_body_is_told_whatever_the_answer(findings: tuple[str, ...], body: object) -> None:
    """Each word once, and no value."""
    path = CALLS_OF_USER.replace("{userId}", AGENT)
    assert findings == Watch().attempt(202, path=path, json=body).findings
    assert findings == Watch().attempt(400, path=path, json=body).findings


def test_a_body_that_only_the_transport_may_read_has_no_findings() -> None:
    """Nobody has seen it."""
    watch = Watch()
    observation = watch.call(lambda _: httpx.Response(202))
    observation.request = httpx.Request("POST", "https://api.example.com", content=iter([b"{}"]))
    assert () == watch.assessor.assess(observation).findings


def test_a_glance_asks_no_history() -> None:
    """It may be taken on any thread, while the call still runs."""
    watch = Watch()
    watch.agents.apply(AGENT, AgentState(presence="BUSY"), at=1.0)
    observation = watch.call(lambda _: httpx.Response(400), CALLS_OF_USER.replace("{userId}", AGENT))
    agent = glance(observation).agent
    assert (AGENT, Certainty.UNKNOWN) == (agent.id, agent.state.certainty)
    said = {"call_initiation": {"agent_state": {"presence": "BUSY"}}}
    assert StateLabel.BUSY is glance(watch.call(lambda _: httpx.Response(400), extensions=said)).agent.label
