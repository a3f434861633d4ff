"""What one call was: an observation → an `Attempt`, on the recorder's thread, once its settle window is over.

Every step stands alone: where one of them fails by a fault of ours, the fault is counted and the attempt goes on
without that part. A call is never lost because its body was odd.

Times: agents' states and sends are compared on one timeline, which starts at the wall clock's time and runs by the
monotonic clock. A step of the wall clock therefore can't put a state on the wrong side of a send.
"""

from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final

from call_initiation.agents.agents import Agents, label
from call_initiation.calls import decoding, endpoints, responses
from call_initiation.calls.endpoints import Duplicates, Payload
from call_initiation.calls.observation import KEPT_BODY, Observation
from call_initiation.diagnosis import diagnosis
from call_initiation.events import (
    NO_AGENT,
    UNKNOWN_STATE,
    AgentAtSend,
    AgentIdSource,
    AgentState,
    Attempt,
    Outcome,
    PayloadShape,
    Refusal,
)
from call_initiation.privacy import KeyedHash, Mask, Secrets

_NO_MASK: Final = Mask()
_NO_SECRETS: Final = Secrets.read(())
_UNPARSED: Final = Refusal()
_NO_PAYLOAD: Final = Payload(PayloadShape.UNREADABLE)
_SECRET_HEADERS: Final = frozenset({b"authorization", b"proxy-authorization", b"cookie"})
_ACCEPTED: Final = Outcome.ACCEPTED
_AMBIGUOUS: Final = Outcome.AMBIGUOUS
_BY_STATUS: Final = {
    401: Outcome.UNAUTHORIZED,
    403: Outcome.UNAUTHORIZED,
    408: Outcome.FAILED,
    429: Outcome.RATE_LIMITED,
}
_BY_CLASS: Final = {
    2: Outcome.ACCEPTED,
    3: Outcome.REDIRECTED,
    4: Outcome.REJECTED,
    5: Outcome.FAILED,
}


def outcome_of(status_code: int) -> Outcome:
    """Return what a status means for a call start; one outside 200 to 599 is no answer that we can read."""
    return _BY_STATUS.get(status_code) or _BY_CLASS.get(status_code // 100, _AMBIGUOUS)


@dataclass(slots=True)
class Assessor:
    """Turns observations into attempts.

    Attributes:
        agents: The agents' histories.
        hashes: The keyed hash under which destinations are compared; the numbers themselves are not kept.
        offset_ns: What to add to `time.perf_counter_ns` to be on the timeline.
        fault: Counts a fault of our own.
        duplicates: Notices calls that repeat one of moments before.
        token_user: Says whose the token of a call is, where that is known.
    """

    agents: Agents
    hashes: KeyedHash
    offset_ns: int
    fault: Callable[[str], None]
    duplicates: Duplicates
    token_user: Callable[[Observation], str | None] = lambda _: None
    _latest: tuple[list[bytes], Secrets] = field(default=([], _NO_SECRETS), init=False)

    def forget(self) -> None:
        """Keep no secret any longer than the calls are assessed that were sent with it."""
        self._latest = [], _NO_SECRETS

    def assess(self, observation: Observation) -> Attempt:
        """Say what the call was."""
        outcome = _outcome(observation)
        sent = (self.offset_ns + (observation.sent_ns or observation.started_ns)) / 1e9
        payload = self._payload(observation)
        mask = self._mask(observation, payload)
        agent = self._agent(observation, payload, mask, sent)
        refusal = self._refusal(observation, mask, outcome)
        is_repeated = self._is_repeated(agent, payload, sent)
        findings = self._findings(observation, payload, agent)
        return _attempt(observation, outcome, payload, agent, refusal, findings, is_repeated=is_repeated)

    def _payload(self, observation: Observation) -> Payload:
        try:
            return _payload(observation)
        except Exception:  # noqa: BLE001 - here and below: a fault in one step must not lose the attempt
            self.fault("payload")
            return _NO_PAYLOAD

    def _mask(self, observation: Observation, payload: Payload) -> Mask:
        try:
            values = _secret_headers(observation)
            if values != self._latest[0]:
                self._latest = values, _secrets(values)
            return Mask(self._latest[1], payload.numbers)
        except Exception:  # noqa: BLE001 - as above
            self.fault("mask")
            return _NO_MASK

    def _agent(self, observation: Observation, payload: Payload, mask: Mask, sent: float) -> AgentAtSend:
        try:
            who = _who(observation, payload, self.token_user(observation))
            return _agent(who, mask, sent, self.agents.as_of)
        except Exception:  # noqa: BLE001 - as above
            self.fault("join")
            return NO_AGENT

    def _refusal(self, observation: Observation, mask: Mask, outcome: Outcome) -> Refusal | None:
        try:
            return _refusal(observation, mask, outcome)
        except Exception:  # noqa: BLE001 - as above
            self.fault("parse")
            return _UNPARSED

    def _is_repeated(self, agent: AgentAtSend, payload: Payload, sent: float) -> bool:
        try:
            called = payload.destinations
            digest = self.hashes.digest("\n".join((agent.id or "", *called))) if called else ""
            return bool(called) and self.duplicates.seen(digest, sent)
        except Exception:  # noqa: BLE001 - as above
            self.fault("duplicates")
            return False

    def _findings(self, observation: Observation, payload: Payload, agent: AgentAtSend) -> tuple[str, ...]:
        try:
            remarks = diagnosis.examine(payload.content, payload.document, observation.endpoint, agent.id)
            return diagnosis.words(remarks) if remarks else ()
        except Exception:  # noqa: BLE001 - as above
            self.fault("diagnose")
            return ()


def glance(observation: Observation) -> Attempt:
    """Say what is known of a call that still runs, on whichever thread: no history is asked."""
    payload = _payload(observation)
    mask = Mask(_secrets(_secret_headers(observation)), payload.numbers)
    agent = _agent(_who(observation, payload), mask, observation.started_at / 1e9, _no_history)
    outcome = _outcome(observation)
    return _attempt(observation, outcome, payload, agent, _refusal(observation, mask, outcome), is_repeated=False)


def _outcome(observation: Observation) -> Outcome:
    failure = observation.failure
    return failure.outcome if failure else outcome_of(observation.status_code or 0)


def _attempt(  # noqa: PLR0913, PLR0917 - each step's own part
    observation: Observation,
    outcome: Outcome,
    payload: Payload,
    agent: AgentAtSend,
    refusal: Refusal | None,
    findings: tuple[str, ...] = (),
    *,
    is_repeated: bool,
) -> Attempt:
    url, span, failure = observation.url, observation.span, observation.failure
    status = observation.status_code
    return Attempt(
        endpoint=observation.endpoint.template,
        server_address=url.host,
        server_port=endpoints.port(url.scheme, url.port),
        started_at=observation.started_at,
        sent_at=_sent_at(observation),
        duration=observation.duration,
        outcome=outcome,
        status_code=status,
        error_type=failure.kind if failure else None if outcome is _ACCEPTED else str(status),
        refusal=refusal,
        body=observation.body,
        agent=agent,
        payload_shape=payload.shape,
        findings=findings,
        suspected_duplicate=is_repeated,
        span=span.ids if span else None,
    )


_Who = tuple[str | None, AgentIdSource, AgentState | None]
"""An agent's id, who named it, and the state that the dialer told of it."""


def _who(observation: Observation, payload: Payload, token_user: str | None = None) -> _Who:
    told_id, told_state = endpoints.told(observation.extension)
    return *endpoints.agent(observation.endpoint, told_id, token_user, payload), told_state


def _agent(
    who: _Who, mask: Mask, sent: float, as_of: Callable[[str, float], tuple[AgentState, float | None]]
) -> AgentAtSend:
    agent_id, source, told_state = who
    if told_state is not None:
        state, age = told_state, _age(told_state, sent)
    elif agent_id is not None:
        state, age = as_of(agent_id, sent)
    else:
        return NO_AGENT
    fit, word = _fit(state, mask), label(state)
    return AgentAtSend(id=mask.identifier(agent_id), id_source=source, state=fit, label=word, age=age)


def _fit(state: AgentState, mask: Mask) -> AgentState:
    """Return a state that may leave the process: a station's id is a text from outside like any other."""
    return replace(state, station=mask.identifier(state.station)) if state.station else state


def _no_history(agent_id: str, at: float) -> tuple[AgentState, float | None]:  # noqa: ARG001 - as one asks a history
    return UNKNOWN_STATE, None


def _payload(observation: Observation) -> Payload:
    return endpoints.payload(observation.content())


def _secret_headers(observation: Observation) -> list[bytes]:
    return [value for name, value in observation.headers.raw if name.lower() in _SECRET_HEADERS]


def _secrets(values: list[bytes]) -> Secrets:
    return Secrets.read(word for value in values for word in _words(value.decode("latin-1")))


def _words(value: str) -> Iterator[str]:
    """Yield what a header carries and, of Basic credentials (RFC 7617), the password: an answer may quote either."""
    yield value
    scheme, _, credentials = value.partition(" ")
    if scheme.lower() == "basic":
        with suppress(ValueError):  # no base64: nothing is hidden in it
            yield b64decode(credentials).decode(errors="replace").partition(":")[2]


def _age(state: AgentState, sent: float) -> float | None:
    return None if state.since is None else max(0.0, sent - state.since)


def _sent_at(observation: Observation) -> int | None:
    if observation.sent_ns is None:
        return None
    return observation.started_at + observation.sent_ns - observation.started_ns


def _refusal(observation: Observation, mask: Mask, outcome: Outcome) -> Refusal | None:
    status, body = observation.status_code, observation.body
    if status is None or body is None or outcome is _ACCEPTED:
        return None
    headers = {name.lower(): value for name, value in observation.response_headers.raw}
    correlation_id = headers.get(b"inin-correlation-id")
    return responses.parse(
        _answer(observation, is_encoded=b"content-encoding" in headers),
        status=status,
        header_correlation_id=correlation_id and correlation_id.decode("latin-1"),
        state=body,
        mask=mask,
    )


def _answer(observation: Observation, *, is_encoded: bool) -> bytes | None:
    """Return what was kept of an answer's body, decoded."""
    if not observation.kept:
        return None
    encoding = observation.response_headers["content-encoding"] if is_encoded and not observation.is_decoded else ""
    return decoding.decode(bytes(observation.kept[:KEPT_BODY]), encoding)
