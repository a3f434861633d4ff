"""What the recorder's thread is told besides calls, and what follows from it for the agents.

Only that thread applies them, so that agents' histories need no lock.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import assert_never

from call_initiation.agents.agents import Agents, label
from call_initiation.events import (
    AgentState,
    Event,
    FeedChange,
    LateChange,
    LegFailure,
    NotificationTaken,
    SkewChange,
)
from call_initiation.privacy import OTHER, Mask


@dataclass(frozen=True, slots=True)
class StateUpdate:
    """What someone told us of an agent.

    Attributes:
        agent_id: The agent's user id.
        state: The parts that were told; None parts weren't.
        at: When it took effect, on the recorder's timeline.
    """

    agent_id: str
    state: AgentState
    at: float


@dataclass(frozen=True, slots=True)
class Reading:
    """What a read of an agent showed; one message, so that no part of it can be lost alone.

    Attributes:
        agent_id: The agent's user id.
        changes: When each part took effect, and the part.
        confirmed_at: From when on all parts are vouched for; None where a part is missing.
        lasts: Whether changes after it are heard of; else it is vouched for at that moment only.
    """

    agent_id: str
    changes: tuple[tuple[float, AgentState], ...]
    confirmed_at: float | None
    lasts: bool


@dataclass(frozen=True, slots=True)
class Suspension:
    """Changes of some agents after `since` may have been missed; None means all agents."""

    since: float
    agent_ids: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Forgotten:
    """An agent is no more: a deleted user is unknown."""

    agent_id: str


@dataclass(frozen=True, slots=True)
class LegLost:
    """An agent's own leg of an accepted call failed.

    Attributes:
        agent_id: The agent's user id.
        error_code: The API's code, as it came.
        at: When the leg began, on the recorder's timeline; when we heard of it where that isn't told.
    """

    agent_id: str
    error_code: str
    at: float


Told = StateUpdate | Reading | Suspension | Forgotten | LegLost | FeedChange | NotificationTaken | SkewChange
"""All that the recorder's thread can be told besides calls. Closed: match on it, and end in `assert_never`."""


def apply(told: Told, agents: Agents) -> Iterable[Event]:
    """Let the agents' histories know of what was told; yield the events that follow from it."""
    match told:
        case StateUpdate():
            yield from _change(agents, told.agent_id, told.state, told.at)
        case Reading():
            yield from _read(agents, told)
        case Suspension():
            agents.suspend(told.since, told.agent_ids)
        case Forgotten():
            agents.forget(told.agent_id)
        case LegLost():
            state, _ = agents.as_of(told.agent_id, told.at)
            code = Mask().code(told.error_code) or OTHER
            yield LegFailure(agent_id=told.agent_id, error_code=code, label=label(state))
        case FeedChange() | NotificationTaken() | SkewChange():
            yield told
        case _:
            assert_never(told)


def _change(agents: Agents, agent_id: str, state: AgentState, at: float) -> Iterable[Event]:
    applied = agents.apply(agent_id, state, at=at)
    if applied.change is not None:
        yield applied.change
    for _ in range(applied.late):
        yield LateChange(agent_id=agent_id, at=at)


def _read(agents: Agents, reading: Reading) -> Iterable[Event]:
    for at, state in reading.changes:
        yield from _change(agents, reading.agent_id, state, at)
    if reading.confirmed_at is None:
        return
    change = agents.confirm(reading.agent_id, reading.confirmed_at)
    if not reading.lasts:
        agents.suspend(reading.confirmed_at, [reading.agent_id])
    elif change is not None:
        yield change
