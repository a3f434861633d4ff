"""A pretend Genesys Cloud organisation: agents, the requests that start calls, a few reads, and a ledger of the truth.

It does no I/O and has no clock: every method takes `now`, in seconds since the epoch, which mustn't go back. All chance
comes from the seed, so the same seed, behaviour and sequence of requests and times give the same answers byte for byte.

Laws:
1. A call is judged by the agent's state strictly before `now`, and that is the state in the ledger.
2. What a call changes takes effect strictly after `now`.
3. Every `OrgChange` is returned by exactly one `advance`, in the order of their times.
4. Rules of the documented API and rules that only a community thread tells of are kept apart: see `rules`, `faults`
   (`Origin`) and `Behaviour.refusals`.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from email.utils import formatdate
from functools import partial
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qs, unquote

from call_initiation.events import UNKNOWN_STATE, AgentState, StateLabel
from call_initiation.simulator import views
from call_initiation.simulator.behaviour import CALM, INVALID_AGENT_STATE, NO_STATION, READY, Behaviour
from call_initiation.simulator.channels import Channels
from call_initiation.simulator.disturbances import Disturbances, Strike
from call_initiation.simulator.exchange import (
    MAX_REQUEST_BYTES,
    Answer,
    CallRequest,
    Endpoint,
    Request,
    made_up_id,
    stream,
    user_token,
    whole,
)
from call_initiation.simulator.faults import BAD_REQUEST, FAULTS, JSON, NOT_A_USER, THROTTLED, Finding, encode, refuse
from call_initiation.simulator.ledger import Ledger, LedgerEntry, digest
from call_initiation.simulator.lines import REAL_TIMES, Intervals
from call_initiation.simulator.oauth import CLIENT_ID, CLIENT_SECRET, Budget, Desk, Spending
from call_initiation.simulator.rules import Case, Grant, dialled, examine, from_agent_id, parsed
from call_initiation.simulator.staff import Agent, OrgChange, Part, Staff, word
from call_initiation.simulator.teams import Team, Teams

__all__ = [
    "CALM",
    "CLIENT_ID",
    "CLIENT_SECRET",
    "FAULTS",
    "INVALID_AGENT_STATE",
    "MAX_REQUEST_BYTES",
    "NO_STATION",
    "READY",
    "STARTED",
    "Answer",
    "Behaviour",
    "CallRequest",
    "Disturbances",
    "Endpoint",
    "Intervals",
    "LedgerEntry",
    "OrgChange",
    "Organisation",
    "Part",
    "Request",
    "Strike",
    "user_token",
    "word",
]

STARTED: Final = 1_767_225_600.0
"""Midnight UTC of 1 January 2026: when an organisation begins that nobody tells otherwise."""

_LEDGER_CAPACITY: Final = 100_000
_MOST_PRESENCES: Final = 50
_PAGE_SIZE: Final = 25
_LARGEST_PAGE: Final = 500
_LARGEST_PAGE_OF_MEMBERS: Final = 100
"""Of a queue's (the SDK's `get_routing_queue_members`)."""


class Organisation:
    """A pretend organisation.

    Args:
        seed: Where all chance comes from.
        agents: How many there are.
        started: When it begins, seconds since the epoch; with a real clock, pass its time.
        behaviour: Every rate.
        ledger_capacity: How many entries the ledger keeps.
        intervals: The times of the notification protocol.
    """

    def __init__(  # noqa: PLR0913 - independent settings, each with a default
        self,
        seed: int = 1,
        agents: int = 50,
        started: float = STARTED,
        *,
        behaviour: Behaviour | None = None,
        ledger_capacity: int = _LEDGER_CAPACITY,
        intervals: Intervals = REAL_TIMES,
    ) -> None:
        self.seed: Final = seed
        self.behaviour: Final = behaviour or Behaviour()
        self.now: float = started
        self._staff = Staff(seed, agents, started, self.behaviour)
        self._desk = Desk(seed, self._staff.agents, self.behaviour)
        self._budget = Budget(self.behaviour.rate_limit)
        self._random = stream(seed, "answers")
        self._ledger = Ledger(ledger_capacity)
        self._unseen: list[OrgChange] = []
        self.teams: Final = Teams(seed, self._staff.agents)
        self.channels: Final = Channels(seed, self._staff.agents, intervals)

    @property
    def disturbances(self) -> Disturbances:
        """What of reads and notifications is made to go wrong; set it at any time."""
        return self.channels.disturbances

    @disturbances.setter
    def disturbances(self, disturbances: Disturbances) -> None:
        self.channels.disturbances = disturbances

    def strike(self, strike: Strike, now: float) -> None:
        """Make something happen at once."""
        if strike is Strike.REVOKE:
            self._desk.revoke()
        self.channels.strike(strike, now)

    @property
    def agent_ids(self) -> list[str]:
        """All agents' user ids, in a fixed order."""
        return list(self._staff.agents)

    @property
    def ledger(self) -> list[LedgerEntry]:
        """A copy of the latest entries, the oldest first; safe to take from any thread."""
        return self._ledger.entries

    @property
    def counts(self) -> Mapping[tuple[int, str, StateLabel], int]:
        """How many calls there ever were, by (status, `LedgerEntry.error_code`, state as one word)."""
        return self._ledger.counts

    def state(self, agent_id: str) -> AgentState:
        """Return an agent's state strictly before the latest `now`; `UNKNOWN_STATE` for nobody."""
        agent = self._staff.agents.get(agent_id)
        return agent.state if agent else UNKNOWN_STATE

    def advance(self, now: float) -> list[OrgChange]:
        """Apply all that happens strictly before `now`; return what no earlier `advance` has returned.

        Answers apply what is due too, and leave it to be returned here: call this now and then.
        """
        self._catch_up(now)
        changes, self._unseen = self._unseen, []
        return changes

    def answer(self, request: Request, now: float) -> Answer:
        """Answer any request of the API; what isn't served is a 404."""
        self._catch_up(now)
        call = call_request(request)
        if call is not None:
            return self.place_call(call, now)
        if (request.method, request.path) == ("POST", "/oauth/token"):
            status, body = self._desk.token(request, now)
            return self._reply(status, encode(body), self._spend(Grant()))
        return self._read(request)

    def place_call(self, request: CallRequest, now: float) -> Answer:
        """Start a call, or say why not; either way the ledger has one entry more.

        Returns:
            202 with a `CreateCallResponse`, or an error.
        """
        self._catch_up(now)
        grant = self._desk.grant(request.headers.get("authorization", ""), now)
        payload = parsed(request.body)
        case = Case(request, grant, payload, self._agent(request, payload, grant))
        spending = self._spend(grant)
        finding = self._refused(grant, spending) or examine(case) or self._unfit(case) or self._weather()
        return self._accept(case, spending) if finding is None else self._refuse(case, spending, finding)

    def _catch_up(self, now: float) -> None:
        self.now = max(now, self.now)
        self._unseen += self._staff.advance(self.now)

    def _spend(self, grant: Grant) -> Spending:
        return self._budget.spend(grant.holder, self.now)

    def _agent(self, request: CallRequest, payload: object, grant: Grant) -> Agent | None:
        """Return who places a call: whom the path names, else the token's user, else whom the body names."""
        if request.endpoint is Endpoint.ON_BEHALF:
            return self._find(request.target)
        return grant.user or self._find(from_agent_id(payload))

    def _find(self, agent_id: str) -> Agent | None:
        return None if agent_id in self.disturbances.deleted else self._staff.agents.get(agent_id)

    def _refused(self, grant: Grant, spending: Spending) -> Finding | None:
        if grant.fault:
            return Finding(grant.fault)
        return Finding(THROTTLED, {"seconds": str(spending.reset)}) if spending.is_over else None

    def _unfit(self, case: Case) -> Finding | None:
        """Judge the agent's state: the station check is documented, all else is the thread's."""
        label = word(case.agent.state if case.agent else UNKNOWN_STATE)
        if self._random.random() >= self.behaviour.refusals.get(label, 0.0):
            return None
        code = self.behaviour.codes.get(label, INVALID_AGENT_STATE)
        agent_id = case.agent.id if case.agent else from_agent_id(case.payload)
        parameters = {"agent": agent_id, "seconds": str(self._random.randint(1, 60))}
        return Finding(code, parameters, "from.agentId" if case.is_from_to else "")

    def _weather(self) -> Finding | None:
        drawn = self._random.random()
        for code, share in self.behaviour.weather.items():
            drawn -= share
            if drawn < 0:
                return Finding(code, {"seconds": str(self._random.randint(1, 60))})
        return None

    def _accept(self, case: Case, spending: Spending) -> Answer:
        conversation_id = made_up_id(self._random)
        if case.agent is not None:
            case.agent.place(self.now, conversation_id)
            self._staff.reschedule(case.agent)
        body = {"id": conversation_id, "selfUri": f"/api/v2/conversations/calls/{conversation_id}"}
        answer = self._reply(202, encode(body), spending)
        self._write(case, answer, conversation_id=conversation_id)
        return answer

    def _refuse(self, case: Case, spending: Spending, finding: Finding) -> Answer:
        answer, codes = self._error(finding, spending, dialled(case.payload))
        self._write(case, answer, fault=finding.code, codes=codes)
        if case.agent is not None and self._random.random() < self.behaviour.unsettled:
            case.agent.unsettle(self.now)
            self._staff.reschedule(case.agent)
        return answer

    def _write(
        self,
        case: Case,
        answer: Answer,
        fault: str | None = None,
        codes: tuple[str, ...] = (),
        conversation_id: str | None = None,
    ) -> None:
        number = self._ledger.length + 1
        state = case.agent.state if case.agent else UNKNOWN_STATE
        entry = LedgerEntry(
            number=number,
            request_id=case.request.headers.get("x-request-id") or str(number),
            received_at=self.now,
            endpoint=case.request.endpoint,
            agent_id=case.agent.id if case.agent else None,
            state=state,
            label=word(state),
            status=answer.status,
            fault=fault,
            codes=codes,
            correlation_id=answer.headers["ININ-Correlation-Id"],
            conversation_id=conversation_id,
            request_digest=digest(case.request.body),
            body_digest=digest(answer.body),
        )
        self._ledger.write(entry)

    def _error(self, finding: Finding, spending: Spending, number: str = "") -> tuple[Answer, tuple[str, ...]]:
        context_id = made_up_id(self._random)
        refusal = refuse(finding, number, context_id, self.behaviour, self._random)
        answer = self._reply(finding.fault.status, refusal.body, spending, refusal.content_type, context_id)
        if finding.fault.status == FAULTS[THROTTLED].status:
            seconds = finding.parameters["seconds"]
            answer = replace(answer, headers={**answer.headers, "Retry-After": seconds})
        return answer, refusal.codes

    def _reply(
        self, status: int, body: bytes, spending: Spending, content_type: str = JSON, context_id: str = ""
    ) -> Answer:
        headers = {
            "Content-Type": content_type,
            "Date": formatdate(self.now + self.disturbances.skew, usegmt=True),
            "ININ-Correlation-Id": context_id or made_up_id(self._random),
            "inin-ratelimit-count": str(spending.count),
            "inin-ratelimit-allowed": str(spending.allowed),
            "inin-ratelimit-reset": str(spending.reset),
        }
        return Answer(status=status, headers=headers, body=body)

    def _read(self, request: Request) -> Answer:
        grant = self._desk.grant(request.headers.get("authorization", ""), self.now)
        spending = self._spend(grant)
        found = self._disturbed() or self._refused(grant, spending) or self._found(request, grant)
        if isinstance(found, Finding):
            return self._error(found, spending)[0]
        if found is None:
            return self._reply(HTTPStatus.NO_CONTENT, b"", spending)
        return self._reply(HTTPStatus.OK, encode(found), spending)

    def _disturbed(self) -> Finding | None:
        if self.disturbances.unauthorized:
            return Finding("credentials.expired")
        wait = math.ceil(self.disturbances.retry_after)
        return Finding(THROTTLED, {"seconds": str(wait)}) if wait else None

    def _found(self, request: Request, grant: Grant) -> object | Finding:
        if request.path.startswith("/api/v2/notifications/channels"):
            if self.disturbances.forbidden:
                return Finding("not.authorized")
            return self.channels.answer(request, grant.user.id if grant.user else CLIENT_ID, self.now)
        return self._view(request, grant)

    def _view(self, request: Request, grant: Grant) -> object | Finding:
        query, skew = parse_qs(request.query), self.disturbances.skew
        match request.method, request.path.split("/")[1:]:
            case "GET", ["api", "v2", "users"]:
                return self._users(request.path, query, _listed(query, "id") or self._staff.agents)
            case "GET", ["api", "v2", *team, "members"]:
                return self._team(team, request.path, query)
            case "GET", ["api", "v2", "users", "me"]:
                return views.user(grant.user, _listed(query, "expand"), skew) if grant.user else Finding(NOT_A_USER)
            case "GET", ["api", "v2", "users", "presences", "purecloud", "bulk"]:
                return self._presences(_listed(query, "id"))
            case "GET", ["api", "v2", "users", agent_id] if agent_id in self._staff.agents:
                agent = self._staff.agents[agent_id]
                is_here = self._find(agent_id) is not None
                return views.user(agent, _listed(query, "expand"), skew) if is_here else views.deleted_user(agent)
            case _:
                return Finding("not.found")

    def _users(self, path: str, query: Mapping[str, list[str]], ids: Iterable[str]) -> object | Finding:
        window = _window(query, len(_listed(query, "id")) or _PAGE_SIZE, _LARGEST_PAGE)
        if window is None:
            return Finding(BAD_REQUEST)
        agents = self._known(ids)
        view = partial(views.user, expand=_listed(query, "expand"), skew=self.disturbances.skew)
        return views.counted(views.page(agents, view, path, *window), len(agents))

    def _team(self, team: list[str], path: str, query: Mapping[str, list[str]]) -> object | Finding:
        match team:
            case ["groups", team_id] if team_id in self.teams.groups:
                return self._users(path, query, self._members(self.teams.groups[team_id]))
            case ["routing", "queues", team_id] if team_id in self.teams.queues:
                return self._queue(path, query, self.teams.queues[team_id])
            case _:
                return Finding("not.found")

    def _queue(self, path: str, query: Mapping[str, list[str]], queue: Team) -> object | Finding:
        window = _window(query, _PAGE_SIZE, _LARGEST_PAGE_OF_MEMBERS)
        if window is None:
            return Finding(BAD_REQUEST)
        view = partial(views.queue_member, path=path, resting=queue.resting, skew=self.disturbances.skew)
        return views.page(self._known(self._members(queue)), view, path, *window)

    def _members(self, team: Team) -> Iterable[str]:
        return self.disturbances.members.get(team.id, team.member_ids)

    def _presences(self, ids: list[str]) -> object | Finding:
        if len(ids) > _MOST_PRESENCES:
            return Finding(BAD_REQUEST)
        return [views.presence(agent, self.disturbances.skew) for agent in self._known(ids)]

    def _known(self, ids: Iterable[str]) -> list[Agent]:
        return [agent for agent in map(self._find, ids) if agent is not None]


def call_request(request: Request) -> CallRequest | None:
    """Return the request as one that starts a call, one trailing slash aside, or None for any other."""
    match request.method, request.path.removesuffix("/").split("/")[1:]:
        case "POST", ["api", "v2", "conversations", "calls"]:
            endpoint, target = Endpoint.OWN, ""
        case "POST", ["api", "v2", "conversations", "calls", "user", target] if target:
            endpoint = Endpoint.ON_BEHALF
        case "POST", ["api", "v2", "conversations", "calls", target] if target not in {"", "user"}:
            endpoint = Endpoint.CALLBACK
        case _:
            return None
    return CallRequest(endpoint=endpoint, target=unquote(target), headers=request.headers, body=request.body)


def _listed(query: Mapping[str, list[str]], name: str) -> list[str]:
    """Return a parameter's values, given one by one or with commas between them."""
    return [value for values in query.get(name, []) for value in values.split(",")]


def _number(query: Mapping[str, list[str]], name: str, default: int) -> int:
    return whole(query.get(name, [str(default)])[0]) or 0


def _window(query: Mapping[str, list[str]], size: int, largest: int) -> tuple[int, int] | None:
    """Return the size and the number of the page that is asked for, by default of `size`; None for none that can be."""
    size, number = _number(query, "pageSize", size), _number(query, "pageNumber", 1)
    return (size, number) if 0 < size <= largest and number > 0 else None
