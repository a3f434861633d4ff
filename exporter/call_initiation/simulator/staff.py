"""The agents of the pretend organisation, and how their states change.

Theory: an agent rests in a presence, talks, wraps up, chats or lets a call ring unanswered; each lasts an exponential
time, then comes the next step. Exponential times have no memory, so one timer an agent is enough for all that may come.

Laws:
1. Each agent draws from a generator of its own, so what it does depends neither on the others nor on how often
   `advance` is called.
2. Changes take effect on the API's grid of whole milliseconds, and what a call causes takes effect strictly after it.
3. `advance(now)` applies the changes whose time is strictly before `now`, so what it leaves is the state strictly
   before `now`: the one that the exporter has to find.
4. A call's own change comes before that of the summary which it causes. Which of the two the live API tells first is
   not known.
"""

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import Enum, StrEnum
from functools import partial
from typing import Final

from call_initiation.events import AgentState, Presence, RoutingStatus, StateLabel, StateSource
from call_initiation.simulator.behaviour import Behaviour
from call_initiation.simulator.exchange import made_up_id, stream

LEG_FAILURES: Final = (
    "error.ininedgecontrol.connection.timeout",
    "error.ininedgecontrol.connection.dialplan.notReachable",
    "error.ininedgecontrol.connection.webrtc.endpoint.disconnect",
    "error.ininedgecontrol.session.inactive",
)
"""Codes of agent legs that fail after a call was accepted, as community code has seen them."""


class Part(StrEnum):
    """Which part of an agent changed; the value ends the notification topic `v2.users.{id}.…`."""

    PRESENCE = "presence"
    ROUTING_STATUS = "routingStatus"
    CONVERSATION_SUMMARY = "conversationsummary"
    STATION = "station"
    CALLS = "conversations.calls"
    """A call of the agent's went on; the state itself is as before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """An agent's call, as far as it has come; times are the server's, seconds since the epoch, whole milliseconds.

    Attributes:
        id: The conversation's.
        error_code: Why its agent leg is to fail; None where it ends well.
        began: When its agent leg began, and was connected.
        ended: When its agent leg ended; None as long as it hasn't.
        wrap_up_began: When its after-call work began; None before that, and where there is none.
        wrap_up_ended: When its after-call work ended.
    """

    id: str
    error_code: str | None = None
    began: float = 0.0
    ended: float | None = None
    wrap_up_began: float | None = None
    wrap_up_ended: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OrgChange:
    """One change in the organisation.

    Attributes:
        agent_id: Whose.
        part: Of what.
        at: The server's time of it (`modifiedDate`, `startTime`), seconds since the epoch, whole milliseconds.
        before: The agent's state before.
        state: The agent's state from then on.
        presence_since: The server's time of the presence in `state`.
        routing_since: The server's time of the routing status in `state`.
        call: The call that went on; None but for `Part.CALLS`.
    """

    agent_id: str
    part: Part
    at: float
    before: AgentState
    state: AgentState
    presence_since: float
    routing_since: float
    call: Call | None = None


class Activity(Enum):
    """What an agent does."""

    RESTING = "resting"
    ON_CALL = "on_call"
    WRAP_UP = "wrap_up"
    INTERACTING = "interacting"
    NOT_RESPONDING = "not_responding"


_WEIGHTS: Final = {
    Presence.AVAILABLE: 30,
    Presence.ON_QUEUE: 30,
    Presence.BUSY: 14,
    Presence.AWAY: 8,
    Presence.BREAK: 7,
    Presence.MEAL: 3,
    Presence.MEETING: 3,
    Presence.TRAINING: 1,
    Presence.IDLE: 2,
    Presence.OFFLINE: 2,
}
_SECONDS: Final = {
    Presence.AVAILABLE: 900.0,
    Presence.ON_QUEUE: 1200.0,
    Presence.BUSY: 420.0,
    Presence.AWAY: 600.0,
    Presence.BREAK: 600.0,
    Presence.MEAL: 1800.0,
    Presence.MEETING: 1800.0,
    Presence.TRAINING: 2400.0,
    Presence.IDLE: 300.0,
    Presence.OFFLINE: 3600.0,
    Activity.ON_CALL: 180.0,
    Activity.WRAP_UP: 60.0,
    Activity.INTERACTING: 300.0,
    Activity.NOT_RESPONDING: 60.0,
}
"""How long things last on average in a real call centre; `Behaviour.pace` divides it."""

_WORKING: Final = frozenset({Presence.AVAILABLE, Presence.ON_QUEUE})
_WRAPS_UP: Final = 0.7
_OUT_OF_OFFICE: Final = 0.03


def word(state: AgentState) -> StateLabel:
    """Return the state as one word.

    The exporter has a function for this too; it is said here a second time so that one can be held against the other.
    """
    if state.on_call:
        return StateLabel.ON_CALL
    if state.wrap_up:
        return StateLabel.WRAP_UP
    if state.routing_status is RoutingStatus.INTERACTING:
        return StateLabel.INTERACTING
    if state.routing_status is RoutingStatus.NOT_RESPONDING:
        return StateLabel.NOT_RESPONDING
    if state.station == "":
        return StateLabel.NO_STATION
    return StateLabel(state.presence.value.lower()) if state.presence else StateLabel.UNKNOWN


def next_instant(now: float) -> float:
    """Return the first whole millisecond strictly after `now` (both in seconds since the epoch)."""
    return (round(now * 1_000_000) // 1000 + 1) / 1000


class Agent:
    """One agent: who it is, its state, and when it takes its next step."""

    def __init__(self, seed: int, index: int, started: float, behaviour: Behaviour) -> None:
        self._random = stream(seed, "agent", index)
        self._behaviour = behaviour
        self.id: Final = made_up_id(self._random)
        self.name: Final = f"Agent {index + 1}"
        self.station_id: Final = made_up_id(self._random)
        self.is_permitted: Final = not self._chance(behaviour.unpermitted)
        self.activity = Activity.RESTING
        self.state = self._first_state(started)
        self.presence_since = self.routing_since = self.state.since or started
        self._planned: Callable[[], Iterator[OrgChange]] | None = None
        self._call = Call(id="")
        self.due = self._later(started)

    def place(self, now: float, conversation_id: str) -> None:
        """Begin a call right after `now`; one that was to begin in the same millisecond gives way to it."""
        self._plan(partial(self._begin_call, Call(id=conversation_id, error_code=self._leg_failure())), now)

    def unsettle(self, now: float) -> None:
        """Change the presence right after `now`, if the agent rests and has nothing else in mind."""
        if self.activity is Activity.RESTING and self._planned is None:
            self._plan(self._change_presence, now)

    def step(self) -> list[OrgChange]:
        """Take the step that is due, and set the time of the next one."""
        step, self._planned = self._planned or self._next_step(), None
        changes = list(step())
        self.due = self._later(self.due)
        return changes

    def _plan(self, step: Callable[[], Iterator[OrgChange]], now: float) -> None:
        self._planned = step
        self.due = next_instant(now)

    def _first_state(self, started: float) -> AgentState:
        shares = [weight * _SECONDS[presence] for presence, weight in _WEIGHTS.items()]
        presence = self._random.choices(list(_WEIGHTS), shares)[0]
        return AgentState(
            presence=presence,
            routing_status=_at_rest(presence),
            on_call=0,
            wrap_up=0,
            station="" if self._chance(self._behaviour.without_station) else self.station_id,
            out_of_office=self._chance(_OUT_OF_OFFICE),
            since=next_instant(started - 1.0 - self._random.expovariate(1.0) * _SECONDS[presence]),
            source=StateSource.NONE,
        )

    def _chance(self, share: float) -> bool:
        return self._random.random() < share

    def _leg_failure(self) -> str | None:
        return self._random.choice(LEG_FAILURES) if self._chance(self._behaviour.leg_failures) else None

    def _presence(self) -> Presence:
        return self.state.presence or Presence.OFFLINE

    def _later(self, moment: float) -> float:
        lasts = _SECONDS[self._presence() if self.activity is Activity.RESTING else self.activity]
        return next_instant(moment + self._random.expovariate(1.0) * lasts / self._behaviour.pace)

    def _next_step(self) -> Callable[[], Iterator[OrgChange]]:
        if self.activity is Activity.RESTING:
            return self._choose()
        return self._end_call if self.activity is Activity.ON_CALL else self._rest

    def _choose(self) -> Callable[[], Iterator[OrgChange]]:
        on_queue = self._presence() is Presence.ON_QUEUE
        weights: dict[Callable[[], Iterator[OrgChange]], float] = {
            self._change_presence: 50,
            self._move: 0.5 if self.state.station else 20,
            self._take_call: 40 if self.state.station and self._presence() in _WORKING else 0,
            self._chat: 12 if on_queue else 0,
            self._ring_out: 4 if on_queue else 0,
        }
        return self._random.choices(list(weights), list(weights.values()))[0]

    def _set(self, part: Part, after: AgentState) -> Iterator[OrgChange]:
        before = self.state
        if after != before:
            self.state = replace(after, since=self.due)
            yield self._change(part, before)

    def _change(self, part: Part, before: AgentState) -> OrgChange:
        return OrgChange(
            agent_id=self.id,
            part=part,
            at=self.due,
            before=before,
            state=self.state,
            presence_since=self.presence_since,
            routing_since=self.routing_since,
        )

    def _route(self, status: RoutingStatus) -> Iterator[OrgChange]:
        if status is not self.state.routing_status:
            self.routing_since = self.due
        yield from self._set(Part.ROUTING_STATUS, replace(self.state, routing_status=status))

    def _change_presence(self) -> Iterator[OrgChange]:
        others = {presence: weight for presence, weight in _WEIGHTS.items() if presence is not self.state.presence}
        presence = self._random.choices(list(others), list(others.values()))[0]
        self.presence_since = self.due
        yield from self._set(Part.PRESENCE, replace(self.state, presence=presence))
        yield from self._route(_at_rest(presence))

    def _move(self) -> Iterator[OrgChange]:
        station = "" if self.state.station else self.station_id
        yield from self._set(Part.STATION, replace(self.state, station=station))

    def _take_call(self) -> Iterator[OrgChange]:
        yield from self._begin_call(Call(id=made_up_id(self._random)))

    def _begin_call(self, call: Call) -> Iterator[OrgChange]:
        yield from self._leave_call()
        self.activity = Activity.ON_CALL
        yield self._go_on(replace(call, began=self.due))
        yield from self._set(Part.CONVERSATION_SUMMARY, replace(self.state, on_call=1, wrap_up=0))
        if self.state.presence is Presence.ON_QUEUE:
            yield from self._route(RoutingStatus.COMMUNICATING)

    def _end_call(self) -> Iterator[OrgChange]:
        if self._call.error_code or not self._chance(_WRAPS_UP):
            yield from self._rest()
        else:
            self.activity = Activity.WRAP_UP
            yield self._go_on(replace(self._call, ended=self.due, wrap_up_began=self.due))
            yield from self._set(Part.CONVERSATION_SUMMARY, replace(self.state, on_call=0, wrap_up=1))

    def _leave_call(self) -> Iterator[OrgChange]:
        """End what there still is of the last call: its agent leg, or its after-call work."""
        if self.activity is Activity.ON_CALL:
            yield self._go_on(replace(self._call, ended=self.due))
        elif self.activity is Activity.WRAP_UP:
            yield self._go_on(replace(self._call, wrap_up_ended=self.due))

    def _go_on(self, call: Call) -> OrgChange:
        self._call = call
        return replace(self._change(Part.CALLS, self.state), call=call)

    def _chat(self) -> Iterator[OrgChange]:
        self.activity = Activity.INTERACTING
        yield from self._route(RoutingStatus.INTERACTING)

    def _ring_out(self) -> Iterator[OrgChange]:
        self.activity = Activity.NOT_RESPONDING
        yield from self._route(RoutingStatus.NOT_RESPONDING)

    def _rest(self) -> Iterator[OrgChange]:
        yield from self._leave_call()
        self.activity = Activity.RESTING
        yield from self._set(Part.CONVERSATION_SUMMARY, replace(self.state, on_call=0, wrap_up=0))
        yield from self._route(_at_rest(self._presence()))


def _at_rest(presence: Presence) -> RoutingStatus:
    return RoutingStatus.IDLE if presence is Presence.ON_QUEUE else RoutingStatus.OFF_QUEUE


class Staff:
    """All agents, by id, and the order in which they step."""

    def __init__(self, seed: int, count: int, started: float, behaviour: Behaviour) -> None:
        agents = [Agent(seed, index, started, behaviour) for index in range(count)]
        self.agents: Final = {agent.id: agent for agent in agents}
        self._due = [(agent.due, index, agent.id) for index, agent in enumerate(agents)]
        heapq.heapify(self._due)
        self._index: Final = {agent.id: index for index, agent in enumerate(agents)}

    def advance(self, now: float) -> list[OrgChange]:
        """Apply all changes strictly before `now`, and return them in the order of their times."""
        changes: list[OrgChange] = []
        while self._due and self._due[0][0] < now:
            due, _, agent_id = heapq.heappop(self._due)
            agent = self.agents[agent_id]
            if due == agent.due:  # else a call has put this step off, and a newer entry stands for it
                changes += agent.step()
                self.reschedule(agent)
        return changes

    def reschedule(self, agent: Agent) -> None:
        """Take note of an agent's new time."""
        heapq.heappush(self._due, (agent.due, self._index[agent.id], agent.id))
