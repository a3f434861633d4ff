"""What `updates` promises: each telling changes the histories as it says, and the events that follow are told once."""

from math import nan

import pytest

from call_initiation.agents.agents import Agents, label
from call_initiation.events import (
    UNKNOWN_STATE,
    AgentState,
    Event,
    FeedChange,
    FeedState,
    LateChange,
    LegFailure,
    Presence,
    SkewChange,
    StateChange,
    StateLabel,
    StateSource,
)
from call_initiation.recording.updates import Forgotten, LegLost, Reading, StateUpdate, Suspension, Told, apply

AGENT = "9d4b2d5f-6d0b-4f0e-8d1c-1f2f3a4b5c6d"


def state(presence: Presence, source: StateSource = StateSource.CALLER) -> AgentState:
    """Return a state of which the presence is told."""
    return AgentState(presence=presence, source=source)


def told(agents: Agents, *tellings: Told) -> list[Event]:
    """Return the events that follow from some tellings, one after another."""
    return [event for telling in tellings for event in apply(telling, agents)]


def word(agents: Agents, at: float) -> StateLabel:
    """Return the agent's word as of a moment."""
    return label(agents.as_of(AGENT, at)[0])


def test_a_change_is_told_once() -> None:
    """To the same word no event follows."""
    agents, busy = Agents(), state(Presence.BUSY)
    (change,) = told(agents, StateUpdate(AGENT, busy, 10.0), StateUpdate(AGENT, busy, 11.0))
    assert isinstance(change, StateChange)
    assert (AGENT, StateLabel.UNKNOWN, StateLabel.BUSY) == (change.agent_id, change.before, change.after)


def test_a_change_that_comes_too_late_is_told_for_each_lookup_that_it_would_have_changed() -> None:
    """So that it can be counted: what was recorded isn't rewritten."""
    agents = Agents()
    told(agents, StateUpdate(AGENT, state(Presence.AVAILABLE), 10.0))
    assert StateLabel.AVAILABLE == word(agents, 20.0) == word(agents, 21.0)
    events = told(agents, StateUpdate(AGENT, state(Presence.BUSY), 15.0))
    assert 2 == events.count(LateChange(agent_id=AGENT, at=15.0))
    assert StateLabel.BUSY == word(agents, 20.0)


@pytest.mark.parametrize(
    ("confirmed_at", "lasts", "then", "later"),
    [
        (100.0, True, StateLabel.BUSY, StateLabel.BUSY),
        (100.0, False, StateLabel.BUSY, StateLabel.UNKNOWN),
        (None, True, StateLabel.UNKNOWN, StateLabel.UNKNOWN),
    ],
)
def test_a_reading_is_vouched_for_as_long_as_it_says(
    confirmed_at: float | None,
    lasts: bool,  # noqa: FBT001 - a parameter of pytest's
    then: StateLabel,
    later: StateLabel,
) -> None:
    """From its moment on, at its moment only, or not at all where a part of it is missing."""
    agents = Agents()
    changes = ((90.0, state(Presence.BUSY, StateSource.REST)),)
    events = told(agents, Reading(AGENT, changes, confirmed_at, lasts=lasts))
    assert (then, later) == (word(agents, 100.0), word(agents, 101.0))
    assert [later] * (later is StateLabel.BUSY) == [event.after for event in events if isinstance(event, StateChange)]


def test_a_reading_that_shows_what_is_known_already_is_no_change() -> None:
    """It is vouched for anew, and nothing is told."""
    reading = Reading(AGENT, ((99.0, state(Presence.BUSY, StateSource.REST)),), 100.0, lasts=True)
    assert 1 == len(told(Agents(), reading, reading))


def test_a_suspension_puts_all_in_doubt() -> None:
    """What the feed told counts up to its last sign of life."""
    agents = Agents()
    reading = Reading(AGENT, ((90.0, state(Presence.BUSY, StateSource.REST)),), 100.0, lasts=True)
    assert [] == told(agents, reading, Suspension(110.0))[1:]
    assert (StateLabel.BUSY, StateLabel.UNKNOWN) == (word(agents, 110.0), word(agents, 111.0))


def test_a_deleted_agent_is_unknown() -> None:
    """Nothing is kept of it."""
    agents = Agents()
    told(agents, StateUpdate(AGENT, state(Presence.BUSY), 10.0), Forgotten(AGENT))
    assert (UNKNOWN_STATE, None) == agents.as_of(AGENT, 20.0)


@pytest.mark.parametrize(
    ("code", "shown"),
    [("error.ininedgecontrol.connection.station.offline", None), ("+33 1 99 00 00 00", "other"), ("", "other")],
)
def test_a_lost_leg_has_the_agents_state_and_a_code_that_is_fit(code: str, shown: str | None) -> None:
    """The state before it began; what is no code, or may be a number, is `other`."""
    agents = Agents()
    told(agents, StateUpdate(AGENT, state(Presence.BUSY), 10.0), StateUpdate(AGENT, state(Presence.AWAY), 20.0))
    assert [LegFailure(agent_id=AGENT, error_code=shown or code, label=StateLabel.BUSY)] == told(
        agents, LegLost(AGENT, code, 20.0)
    )


@pytest.mark.parametrize("event", [FeedChange(state=FeedState.UP, at=1.0), SkewChange(seconds=0.5)])
def test_what_concerns_no_agent_passes(event: FeedChange | SkewChange) -> None:
    """It is an event already."""
    assert [event] == told(Agents(), event)


def test_a_change_without_a_time_is_none() -> None:
    """It can't be put before or after a call."""
    assert [] == told(Agents(), StateUpdate(AGENT, state(Presence.BUSY), nan))
