"""What `agents` promises: the state strictly before a send, never a wrong `known`; and the server's clock."""

from itertools import permutations
from math import inf, nan

import pytest

from agents_oracle import PARTS, parts
from call_initiation.agents.agents import HISTORY, PRECEDENCE, PRESENCE_LABELS, Agents, Applied, label
from call_initiation.events import (
    UNKNOWN_STATE,
    AgentState,
    Certainty,
    Presence,
    RoutingStatus,
    StateChange,
    StateLabel,
    StateSource,
)

ANNA = "agent-anna"
BORIS = "agent-boris"
BUSY = AgentState(presence=Presence.BUSY)
AVAILABLE = AgentState(presence=Presence.AVAILABLE)
ON_CALL = AgentState(on_call=1)
FREE = AgentState(on_call=0)


def fed(state: AgentState) -> AgentState:
    """Return the state as a notification tells it."""
    return AgentState(**{part: getattr(state, part) for part in PARTS}, source=StateSource.NOTIFICATION)


def followed(**limits: int) -> Agents:
    """Return a directory in which the feed vouches for Anna, who is available since 5, from 10 on."""
    agents = Agents(**limits)
    agents.apply(ANNA, fed(AVAILABLE), at=5)
    agents.confirm(ANNA, 10)
    return agents


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("unknown", UNKNOWN_STATE),
        ("unknown", AgentState()),
        ("unknown", AgentState(presence=Presence.BUSY, on_call=1, certainty=Certainty.STALE)),
        ("unknown", AgentState(routing_status=RoutingStatus.IDLE)),
        ("on_call", AgentState(on_call=2, wrap_up=1, routing_status=RoutingStatus.NOT_RESPONDING, station="")),
        ("wrap_up", AgentState(on_call=0, wrap_up=1, routing_status=RoutingStatus.INTERACTING)),
        ("interacting", AgentState(routing_status=RoutingStatus.INTERACTING, station="", presence=Presence.ON_QUEUE)),
        ("not_responding", AgentState(routing_status=RoutingStatus.NOT_RESPONDING, station="")),
        ("no_station", AgentState(station="", presence=Presence.AVAILABLE)),
        (
            "available",
            AgentState(station="s-1", presence=Presence.AVAILABLE, routing_status=RoutingStatus.COMMUNICATING),
        ),
        ("on_queue", AgentState(presence=Presence.ON_QUEUE, on_call=0, wrap_up=0)),
        ("offline", AgentState(presence=Presence.OFFLINE, routing_status=RoutingStatus.OFF_QUEUE)),
    ],
)
def test_label(word: str, state: AgentState) -> None:
    """The word of a state is the first of the precedence that holds, else its presence."""
    assert word == label(state)


def test_every_word_has_a_rule_or_a_presence() -> None:
    """No word is out of reach, and none is reached in two ways."""
    assert sorted(StateLabel) == sorted([rule.label for rule in PRECEDENCE] + list(PRESENCE_LABELS.values()))
    assert all(rule.when for rule in PRECEDENCE)


def test_as_of_is_strictly_before_the_send() -> None:
    """A change at the very moment of the send doesn't count, nor does a later one."""
    agents = Agents()
    agents.apply(ANNA, AVAILABLE, at=10)
    agents.apply(ANNA, BUSY, at=20)
    assert (UNKNOWN_STATE, None) == agents.as_of(ANNA, 10)
    assert (AgentState(presence=Presence.AVAILABLE, since=10), 10) == agents.as_of(ANNA, 20)
    assert (AgentState(presence=Presence.BUSY, since=20), 0.5) == agents.as_of(ANNA, 20.5)


def test_unknown_agent() -> None:
    """Nothing is said of an agent that nobody told us of, and asking keeps nothing."""
    agents = Agents()
    assert (UNKNOWN_STATE, None) == agents.as_of(ANNA, 10)
    assert (0, False) == (len(agents), agents.known(ANNA))


def test_parts_come_from_their_own_newest_changes() -> None:
    """A state is composed of parts; the newest of their changes gives its time and its source."""
    agents = Agents()
    agents.apply(ANNA, AgentState(presence=Presence.BUSY, on_call=1), at=10)
    agents.apply(ANNA, AgentState(on_call=0, wrap_up=1, source=StateSource.REST), at=20)
    state, age = agents.as_of(ANNA, 25)
    assert (Presence.BUSY, None, 0, 1, None, None) == parts(state)
    assert (20, StateSource.REST, 5) == (state.since, state.source, age)


def test_being_told_again_makes_nothing_newer() -> None:
    """An agent that a watchdog reads every minute is as old as its last change, before and after history folds it."""
    agents = Agents()
    agents.apply(ANNA, BUSY, at=10)
    for minute in range(1, 3 * HISTORY):
        agents.apply(ANNA, BUSY, at=10 + 60 * minute)
        assert 10 == agents.as_of(ANNA, inf)[0].since
    agents.apply(ANNA, AVAILABLE, at=5000)
    assert 5000 == agents.as_of(ANNA, inf)[0].since


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_order_of_arrival_is_of_no_consequence(order: tuple[int, ...]) -> None:
    """However four changes arrive, the same was true at the same time."""
    changes = [(10, BUSY), (20, ON_CALL), (30, FREE), (40, AVAILABLE)]
    agents = Agents()
    for index in order:
        at, update = changes[index]
        agents.apply(ANNA, update, at=at)
    spoken = [parts(agents.as_of(ANNA, sent)[0])[:3:2] for sent in (15, 25, 35, 45)]
    assert [(Presence.BUSY, None), (Presence.BUSY, 1), (Presence.BUSY, 0), (Presence.AVAILABLE, 0)] == spoken


def test_ties_go_to_the_later_arrival_and_duplicates_change_nothing() -> None:
    """Of two changes of one moment the later arrival wins, and telling the first again doesn't bring it back."""
    agents = Agents()
    agents.apply(ANNA, BUSY, at=10)
    agents.apply(ANNA, AVAILABLE, at=10)
    assert Applied() == agents.apply(ANNA, BUSY, at=10)
    assert Presence.AVAILABLE is agents.as_of(ANNA, 11)[0].presence


def test_apply_returns_the_change_of_the_current_word() -> None:
    """The current word changes with the newest change, not with an older one that comes late."""
    agents = Agents()
    first, second = agents.apply(ANNA, AVAILABLE, at=10), agents.apply(ANNA, ON_CALL, at=30)
    assert first.change == StateChange(
        agent_id=ANNA,
        before=StateLabel.UNKNOWN,
        after=StateLabel.AVAILABLE,
        state=AgentState(presence=Presence.AVAILABLE, since=10),
        at=10,
    )
    assert second.change is not None
    assert (StateLabel.AVAILABLE, StateLabel.ON_CALL) == (second.change.before, second.change.after)
    assert Applied() == agents.apply(ANNA, BUSY, at=20)


@pytest.mark.parametrize(
    ("update", "at"),
    [
        (AgentState(), 10),
        (UNKNOWN_STATE, 10),
        (AgentState(presence=Presence.BUSY, certainty=Certainty.STALE), 10),
        (BUSY, nan),
        (BUSY, inf),
    ],
)
def test_what_says_nothing_leaves_no_trace(update: AgentState, at: float) -> None:
    """No part, no certainty or no time: then nothing was told."""
    agents = Agents()
    assert Applied() == agents.apply(ANNA, update, at=at)
    assert 0 == len(agents)


def test_late_counts_the_answers_that_would_have_changed() -> None:
    """A change that comes after lookups which it precedes is late for those that it would have changed, once."""
    agents = Agents()
    assert 0 == agents.apply(ANNA, AVAILABLE, at=10).late
    for sent in (15, 25, 35):
        agents.as_of(ANNA, sent)
    assert 0 == agents.apply(ANNA, AVAILABLE, at=12).late
    assert 2 == agents.apply(ANNA, BUSY, at=20).late
    assert 0 == agents.apply(ANNA, BUSY, at=22).late
    assert 0 == agents.apply(ANNA, ON_CALL, at=40).late
    assert 3 == agents.apply(ANNA, FREE, at=5).late


def test_late_looks_at_the_latest_lookups_only() -> None:
    """Four lookups of an agent are remembered."""
    agents = Agents()
    agents.apply(ANNA, AVAILABLE, at=10)
    for sent in range(20, 30):
        agents.as_of(ANNA, sent)
    assert 4 == agents.apply(ANNA, BUSY, at=15).late


def test_history_that_was_outrun_is_unknown() -> None:
    """Sixteen changes are kept; a send that is older than what they need is unknown, never guessed."""
    agents = Agents()
    for at in range(HISTORY + 1):
        agents.apply(ANNA, AgentState(on_call=at), at=at)
    assert (UNKNOWN_STATE, None) == agents.as_of(ANNA, 0)
    assert 0 == agents.as_of(ANNA, 0.5)[0].on_call
    agents.apply(ANNA, AgentState(on_call=99), at=99)
    assert (UNKNOWN_STATE, None) == agents.as_of(ANNA, 1)
    assert 1 == agents.as_of(ANNA, 1.5)[0].on_call


def test_what_was_folded_is_still_known() -> None:
    """A part that was told long ago, or is told now of long ago, outlives sixteen changes of another part."""
    agents = Agents()
    agents.apply(ANNA, AgentState(presence=Presence.BUSY, station="s-1"), at=1)
    for at in range(10, 40):
        agents.apply(ANNA, AgentState(on_call=at % 2), at=at)
    agents.apply(ANNA, AgentState(wrap_up=1), at=2)
    agents.apply(ANNA, AgentState(presence=Presence.MEAL), at=3)
    agents.apply(ANNA, AgentState(presence=Presence.AWAY), at=0)
    state, age = agents.as_of(ANNA, 45)
    assert (Presence.MEAL, None, 1, 1, "s-1", None) == parts(state)
    assert (39, Certainty.KNOWN, 6) == (state.since, state.certainty, age)
    assert (UNKNOWN_STATE, None) == agents.as_of(ANNA, 5)


def test_a_late_change_of_what_was_folded_makes_it_newer() -> None:
    """Where the folded changes say nothing newer, a late one among them is the agent's last change."""
    agents = Agents()
    agents.apply(ANNA, BUSY, at=1)
    for at in range(10, 40):
        agents.apply(ANNA, BUSY, at=at)
    agents.apply(ANNA, AgentState(wrap_up=1, source=StateSource.REST), at=5)
    agents.apply(ANNA, FREE, at=3)
    assert (5, StateSource.REST) == (agents.as_of(ANNA, 45)[0].since, agents.as_of(ANNA, 45)[0].source)


def test_a_tie_that_cannot_be_told_from_a_repetition_is_doubtful() -> None:
    """At the moment of a folded change, what tells the same part may be an old duplicate: nobody vouches for it."""
    agents = followed()
    agents.apply(ANNA, fed(BUSY), at=5)
    for at in range(10, 40):
        agents.apply(ANNA, fed(AgentState(on_call=at % 2)), at=at)
    agents.apply(ANNA, fed(AgentState(wrap_up=0)), at=5)
    assert Certainty.KNOWN is agents.as_of(ANNA, 45)[0].certainty
    agents.apply(ANNA, fed(AVAILABLE), at=5)
    assert Certainty.STALE is agents.as_of(ANNA, 45)[0].certainty
    agents.apply(ANNA, fed(AVAILABLE), at=41)
    assert Certainty.KNOWN is agents.as_of(ANNA, 45)[0].certainty


def test_the_latest_states_of_few_agents_are_kept_ready() -> None:
    """What is kept ready is bounded, and whether it is changes no answer."""
    agents = Agents()
    ids = [f"agent-{number}" for number in range(1100)]
    for agent_id in ids:
        agents.apply(agent_id, BUSY, at=10)
    assert 1024 == sum(history.whole is not None for history in agents._histories.values())
    assert {Presence.BUSY} == {agents.as_of(agent_id, 20)[0].presence for agent_id in ids}


def test_the_feed_is_believed_from_confirmation_to_suspension() -> None:
    """Before it confirmed, and after it may have missed something, what it told is stale, with its values and age."""
    agents = followed()
    agents.suspend(20)
    stale = AgentState(presence=Presence.AVAILABLE, since=5, source=StateSource.NOTIFICATION, certainty=Certainty.STALE)
    assert (stale, 4.9) == agents.as_of(ANNA, 9.9)
    assert [Certainty.KNOWN, Certainty.KNOWN] == [agents.as_of(ANNA, sent)[0].certainty for sent in (10, 20)]
    assert (stale, 16) == agents.as_of(ANNA, 21)


def test_a_gap_closes_with_the_next_confirmation() -> None:
    """After a new snapshot the feed is believed again, but not for the gap."""
    agents = followed()
    agents.suspend(20)
    assert agents.confirm(ANNA, 19) is None
    assert Certainty.STALE is agents.as_of(ANNA, 30)[0].certainty
    agents.confirm(ANNA, 25)
    agents.confirm(ANNA, 22)
    certainties = [agents.as_of(ANNA, sent)[0].certainty for sent in (22, 24, 25, 30)]
    assert [Certainty.STALE, Certainty.STALE, Certainty.KNOWN, Certainty.KNOWN] == certainties


def test_a_read_is_believed_of_its_moment_though_nothing_is_heard_after_it() -> None:
    """So it is for agents whom no channel reaches; the read before it has had its time."""
    agents = followed()
    agents.suspend(10)
    agents.confirm(ANNA, 20)
    certainties = [agents.as_of(ANNA, sent)[0].certainty for sent in (9.9, 10, 10.1, 20)]
    assert [Certainty.STALE, Certainty.KNOWN, Certainty.STALE, Certainty.KNOWN] == certainties


def test_some_agents_can_be_suspended() -> None:
    """A topic that was refused casts doubt on its own agent only; strangers are let pass."""
    agents = followed()
    agents.apply(BORIS, fed(BUSY), at=5)
    agents.confirm(BORIS, 10)
    assert agents.confirm("stranger", 10) is None
    agents.suspend(20, [BORIS, "stranger"])
    assert Certainty.KNOWN is agents.as_of(ANNA, 30)[0].certainty
    assert Certainty.STALE is agents.as_of(BORIS, 30)[0].certainty


def test_the_earliest_of_several_suspensions_counts() -> None:
    """Doubts that were raised while nobody asked for an agent add up; more than are kept leave nothing to believe."""
    agents = followed()
    for since in (40, 20, 30):
        agents.suspend(since)
    assert [Certainty.KNOWN, Certainty.STALE] == [agents.as_of(ANNA, sent)[0].certainty for sent in (20, 21)]
    agents.confirm(ANNA, 50)
    for since in range(100, 100 + HISTORY + 1):
        agents.suspend(since)
    assert Certainty.STALE is agents.as_of(ANNA, 60)[0].certainty


def test_confirming_returns_the_change_of_the_word() -> None:
    """A state becomes known when it is confirmed: that is when the word changes."""
    agents = Agents()
    assert agents.apply(ANNA, fed(BUSY), at=5).change is None
    change = agents.confirm(ANNA, 10)
    assert change is not None
    assert (StateLabel.UNKNOWN, StateLabel.BUSY, 10) == (change.before, change.after, change.at)
    assert agents.confirm(ANNA, 11) is None


def test_the_callers_word_needs_no_feed() -> None:
    """What the caller told is known, however long ago; with a part of the feed's, the feed has to vouch, too."""
    agents = Agents()
    agents.apply(ANNA, BUSY, at=10)
    assert [Certainty.KNOWN] * 2 == [agents.as_of(ANNA, sent)[0].certainty for sent in (11, 86_400)]
    agents.apply(ANNA, fed(ON_CALL), at=20)
    assert Certainty.STALE is agents.as_of(ANNA, 30)[0].certainty


def test_current_counts_agents_by_word() -> None:
    """The count follows changes, suspensions of all or of one, confirmations and forgetting."""
    agents = followed()
    agents.apply(BORIS, BUSY, at=5)
    assert {StateLabel.AVAILABLE: 1, StateLabel.BUSY: 1} == agents.current()
    agents.suspend(20)
    assert {StateLabel.UNKNOWN: 1, StateLabel.BUSY: 1} == agents.current()
    agents.apply(ANNA, fed(ON_CALL), at=22)
    assert {StateLabel.UNKNOWN: 1, StateLabel.BUSY: 1} == agents.current()
    agents.confirm(ANNA, 23)
    assert {StateLabel.ON_CALL: 1, StateLabel.BUSY: 1} == agents.current()
    agents.suspend(25, [ANNA])
    agents.forget(BORIS)
    agents.forget("stranger")
    assert {StateLabel.UNKNOWN: 1} == agents.current()


def test_the_least_recently_touched_agent_is_forgotten() -> None:
    """Beyond the limit one agent goes for each that comes; a lookup is a touch."""
    agents = followed(limit=2)
    agents.apply(BORIS, BUSY, at=5)
    agents.as_of(ANNA, 10)
    agents.apply("agent-clara", BUSY, at=5)
    assert (True, False, True) == tuple(map(agents.known, (ANNA, BORIS, "agent-clara")))
    assert (2, 1) == (len(agents), agents.evicted)
    assert {StateLabel.AVAILABLE: 1, StateLabel.BUSY: 1} == agents.current()


def test_strange_tellings_dont_pile_up() -> None:
    """Only so many tellings are shared between agents."""
    agents = Agents()
    for number in range(5000):
        agents.apply(ANNA, AgentState(on_call=number), at=number)
    assert 4096 == len(agents._shared)
    assert 4999 == agents.as_of(ANNA, inf)[0].on_call
