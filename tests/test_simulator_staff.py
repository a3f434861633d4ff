"""The agents' lives: repeatable, on the grid of milliseconds, and true at every moment."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from call_initiation.events import UNKNOWN_STATE, AgentState, Presence, RoutingStatus, StateLabel
from call_initiation.simulator.behaviour import CALM, Behaviour
from call_initiation.simulator.staff import LEG_FAILURES, Call, OrgChange, Part, Staff, next_instant, word

START = 1_767_225_600.0
HOUR = 3600.0


def a_staff(seed: int = 1, count: int = 20, behaviour: Behaviour = CALM) -> Staff:
    """Return a staff that begins at START."""
    return Staff(seed, count, START, behaviour)


def test_the_same_seed_lives_the_same_life() -> None:
    """Two staffs of one seed change alike; another seed's changes differ."""
    one, two, other = (
        a_staff(7).advance(START + HOUR),
        a_staff(7).advance(START + HOUR),
        a_staff(8).advance(START + HOUR),
    )
    assert one == two
    assert one != other


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 600), max_size=20))
def test_how_often_one_looks_changes_nothing(moments: list[float]) -> None:
    """Advancing in many steps gives the changes of advancing at once."""
    stepwise = a_staff(count=5)
    changes = [change for moment in [*sorted(moments), 600.0] for change in stepwise.advance(START + moment)]
    assert a_staff(count=5).advance(START + 600.0) == changes


def test_changes_come_in_the_order_of_their_whole_milliseconds() -> None:
    """Times rise, lie strictly before `now`, and are what three decimals can say."""
    changes = a_staff().advance(START + HOUR)
    times = [change.at for change in changes]
    assert sorted(times) == times
    assert START < times[0]
    assert times[-1] < START + HOUR
    assert [round(at, 3) for at in times] == times


def test_each_change_begins_where_the_last_one_ended() -> None:
    """An agent's changes form one chain from its first state to its present one."""
    staff = a_staff()
    states = {agent.id: agent.state for agent in staff.agents.values()}
    for change in staff.advance(START + HOUR):
        assert states[change.agent_id] == change.before
        assert change.part is Part.CALLS or change.at == change.state.since
        states[change.agent_id] = change.state
    assert states == {agent.id: agent.state for agent in staff.agents.values()}


def test_every_state_is_met() -> None:
    """A long day of many agents shows every word that an agent's state can be, and every part changing."""
    changes = a_staff(count=100).advance(START + HOUR)
    assert set(StateLabel) - {StateLabel.UNKNOWN} == {word(change.state) for change in changes}
    assert set(Part) == {change.part for change in changes}


def test_most_agents_work() -> None:
    """Available and On Queue are together more than half of all presences; nobody is without one."""
    presences = Counter(agent.state.presence for agent in a_staff(count=400).agents.values())
    assert presences[Presence.AVAILABLE] + presences[Presence.ON_QUEUE] > 200
    assert presences[None] == 0


def test_an_agent_off_queue_has_no_routing() -> None:
    """Resting agents route as their presence says."""
    for agent in a_staff(count=100).agents.values():
        expected = RoutingStatus.IDLE if agent.state.presence is Presence.ON_QUEUE else RoutingStatus.OFF_QUEUE
        assert expected is agent.state.routing_status


@given(st.integers(1_500_000_000_000, 2_000_000_000_000), st.integers(0, 999))
def test_the_next_instant_is_the_first_millisecond_after(milliseconds: int, microseconds: int) -> None:
    """It is strictly after, a whole millisecond, and no later than needed."""
    now = (milliseconds * 1000 + microseconds) / 1_000_000
    assert (milliseconds + 1) / 1000 == next_instant(now)
    assert now < next_instant(now)


def calls(changes: list[OrgChange], conversation_id: str) -> list[Call]:
    """Return how this call went on."""
    return [change.call for change in changes if change.call and change.call.id == conversation_id]


def test_a_call_begins_after_it_was_placed_and_ends() -> None:
    """Strictly after the send the agent is on the call, later the call ends well."""
    staff = a_staff(count=1)
    (agent,) = staff.agents.values()
    agent.place(START, "a-call")
    staff.reschedule(agent)
    assert [] == staff.advance(START + 0.001)
    (call, begun, *_) = staff.advance(START + 0.0011)
    assert (Part.CALLS, Call(id="a-call", began=START + 0.001)) == (call.part, call.call)
    assert (START + 0.001, 1) == (begun.at, begun.state.on_call)
    end = calls(staff.advance(START + HOUR), "a-call")[0]
    assert end.ended is not None
    assert (None, end.ended) == (end.error_code, max(end.began, end.ended))


def test_a_leg_may_fail() -> None:
    """A call whose agent leg fails ends with one of the known codes, and without after-call work."""
    staff = a_staff(count=1, behaviour=Behaviour(leg_failures=1.0))
    (agent,) = staff.agents.values()
    agent.place(START, "a-call")
    staff.reschedule(agent)
    changes = staff.advance(START + HOUR)
    (_, end) = calls(changes, "a-call")
    assert end.error_code in LEG_FAILURES
    after = next(change for change in changes if change.at == end.ended and change.part is not Part.CALLS)
    assert (0, 0) == (after.state.on_call, after.state.wrap_up)


def counts(call: Call, at: float) -> tuple[int, int]:
    """Return what a call adds to its agent's calls and after-call work right after a moment."""
    talks = call.began <= at and (call.ended is None or at < call.ended)
    works = call.wrap_up_began is not None and (call.wrap_up_ended is None or at < call.wrap_up_ended)
    return int(talks), int(works)


def test_calls_have_the_times_of_the_states_that_they_cause() -> None:
    """A call's own change comes first, and its times add up to the state, whatever ends a call or its wrap-up."""
    staff = a_staff(count=30, behaviour=Behaviour(pace=20.0, leg_failures=0.1))
    known: dict[str, dict[str, Call]] = {agent_id: {} for agent_id in staff.agents}
    seen = 0
    for step in range(600):
        if step % 3 == 0:
            agent = staff.agents[list(staff.agents)[step % 30]]
            agent.place(START + step, f"call-{step}")
            staff.reschedule(agent)
        for change in staff.advance(START + step + 1.0):
            if change.call is not None:
                known[change.agent_id][change.call.id] = change.call
            if change.part is Part.CONVERSATION_SUMMARY:
                added = [counts(call, change.at) for call in known[change.agent_id].values()]
                expected = sum(talks for talks, _ in added), sum(works for _, works in added)
                assert expected == (change.state.on_call, change.state.wrap_up)
                seen += 1
    assert seen > 100


def test_the_later_of_two_calls_in_a_millisecond_stands() -> None:
    """The one that it replaces neither begins nor ends."""
    staff = a_staff(count=1)
    (agent,) = staff.agents.values()
    for name in ("first", "second"):
        agent.place(START, name)
        staff.reschedule(agent)
    changes = staff.advance(START + HOUR)
    assert [] == calls(changes, "first")
    assert START + 0.001 == calls(changes, "second")[0].began


def test_an_unsettled_agent_changes_presence_at_once() -> None:
    """A resting agent takes another presence in the next millisecond."""
    staff = a_staff(count=1)
    (agent,) = staff.agents.values()
    before = agent.state.presence
    agent.unsettle(START)
    staff.reschedule(agent)
    change = staff.advance(START + 1.0)[0]
    assert (Part.PRESENCE, START + 0.001) == (change.part, change.at)
    assert before is not change.state.presence


def test_an_agent_with_a_call_in_mind_is_not_unsettled() -> None:
    """The call begins all the same."""
    staff = a_staff(count=1)
    (agent,) = staff.agents.values()
    agent.place(START, "a-call")
    agent.unsettle(START)
    staff.reschedule(agent)
    assert [Part.CALLS, Part.CONVERSATION_SUMMARY] == [one.part for one in staff.advance(START + 0.5)][:2]


def test_nobody_has_nothing_to_do() -> None:
    """A staff of none advances."""
    assert [] == a_staff(count=0).advance(START + HOUR)


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (UNKNOWN_STATE, StateLabel.UNKNOWN),
        (AgentState(station="s"), StateLabel.UNKNOWN),
        (AgentState(station="s", presence=Presence.ON_QUEUE), StateLabel.ON_QUEUE),
        (AgentState(station="", presence=Presence.AVAILABLE), StateLabel.NO_STATION),
        (AgentState(routing_status=RoutingStatus.NOT_RESPONDING), StateLabel.NOT_RESPONDING),
        (AgentState(routing_status=RoutingStatus.INTERACTING), StateLabel.INTERACTING),
        (AgentState(wrap_up=1, routing_status=RoutingStatus.INTERACTING), StateLabel.WRAP_UP),
        (AgentState(on_call=1, wrap_up=1), StateLabel.ON_CALL),
    ],
)
def test_the_word_of_a_state(state: AgentState, expected: StateLabel) -> None:
    """The first that holds of: on a call, wrapping up, routing, no station, presence."""
    assert expected is word(state)
