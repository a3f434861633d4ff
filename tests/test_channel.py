"""The life of a connection: what is said to it, what it commands, and when."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from call_initiation.api.channel import (
    TRANSITIONS,
    Channel,
    Command,
    Input,
    Order,
    Reason,
    Reconnect,
    Renew,
    Send,
    State,
    diagram,
)
from call_initiation.api.notifications import Heartbeat, Ignored

DAY = 86_400.0
PING = Send('{"message":"ping"}')
HEARTBEAT = '{"topicName":"channel.metadata","eventBody":{"message":"WebSocket Heartbeat"}}'
CALLS = '{"topicName":"v2.users.a1.conversations.calls","eventBody":{"id":"c1"}}'


def live(expires_at: float = DAY) -> Channel:
    """Return a connection that opened at 0 and heard a heartbeat then."""
    channel = Channel(expires_at, 0.0)
    channel.opened(0.0)
    channel.received(HEARTBEAT, 0.0)
    channel.tick(0.0)
    return channel


def notice(topic: str) -> str:
    """Return a frame of the system's."""
    return json.dumps({"topicName": topic, "eventBody": {"message": "…"}})


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("what", Input)
def test_every_state_takes_every_input(state: State, what: Input) -> None:
    """No pair is left to chance, and nothing leads out of the end."""
    after, order = TRANSITIONS[state][what]
    assert isinstance(order, Order)
    if state is State.CLOSED:
        assert (State.CLOSED, Order.NOTHING) == (after, order)


def test_the_end_is_reached_from_everywhere_and_only_by_an_end() -> None:
    """What ends a connection ends it in each state, and nothing else does."""
    ends = {Input.SILENT, Input.OVERDUE, Input.LOST, Input.RELEASED}
    for state in set(State) - {State.CLOSED}:
        assert ends == {what for what, (after, _) in TRANSITIONS[state].items() if after is State.CLOSED}


def test_a_replacement_is_asked_for_once() -> None:
    """Only the step into draining asks to renew, and only the step to the end asks to reconnect."""
    for state, row in TRANSITIONS.items():
        for after, order in row.values():
            assert (order is Order.RENEW) == (after is State.DRAINING and state is not State.DRAINING)
            assert order is not Order.RECONNECT or after is State.CLOSED


def test_a_connection_proves_itself_by_a_ping_at_once() -> None:
    """It is open when the socket is, and live when the server has spoken."""
    channel = Channel(DAY, 0.0)
    states = [channel.state]
    channel.opened(1.0)
    states.append(channel.state)
    assert channel.tick(1.0) == [PING]
    channel.received('{"message":"pong"}', 1.1)
    states.append(channel.state)
    assert [State.NEW, State.OPEN, State.LIVE] == states
    assert channel.tick(1.1) == []


def test_heartbeats_keep_it_alive_without_a_ping() -> None:
    """Every 30 seconds for an hour."""
    channel, commands = live(), list[Command]()
    for second in range(0, 3600, 5):
        if second % 30 == 0:
            assert (Heartbeat(),) == channel.received(HEARTBEAT, float(second))
        commands += channel.tick(float(second))
    assert commands == []


def test_a_frame_without_news_is_a_sign_of_life() -> None:
    """A call that goes well says nothing, but says it."""
    channel = live()
    assert channel.received(CALLS, 39.0) == ()
    assert channel.tick(60.0) == []


def test_quiet_is_answered_by_one_ping() -> None:
    """A second one would tell no more than the first."""
    channel = live()
    assert channel.tick(39.9) == []
    assert channel.tick(40.0) == [PING]
    assert channel.tick(60.0) == []
    channel.received('{"message":"pong"}', 61.0)
    assert channel.tick(100.9) == []
    assert channel.tick(101.0) == [PING]


@pytest.mark.parametrize("start", [0.0, 7.0, 14.9])
def test_silence_is_noticed_within_ninety_seconds(start: float) -> None:
    """With the slowest allowed tick, in any phase, half-open or not."""
    channel, now = live(), start
    while Reconnect(Reason.SILENT) not in channel.tick(now):
        now += 15.0
    assert now <= 90.0
    assert channel.state is State.CLOSED
    assert channel.tick(now + 15.0) == []


def test_a_connection_that_never_opens_is_given_up() -> None:
    """It can't be pinged, but it can be waited for too long."""
    channel = Channel(DAY, 0.0)
    assert channel.tick(50.0) == []
    assert channel.tick(75.0) == [Reconnect(Reason.CONNECT_FAILED)]


def test_garbage_is_no_sign_of_life() -> None:
    """A proxy's error page each second doesn't keep a dead feed alive."""
    channel = live()
    for second in range(1, 76):
        assert (Ignored("not_json"),) == channel.received("<html>", float(second))
    assert channel.tick(75.0) == [Reconnect(Reason.SILENT)]


def test_a_notice_makes_a_successor_while_it_still_delivers() -> None:
    """One command to renew, then a minute of draining, then the end if nobody came."""
    channel = live()
    channel.received(notice("v2.system.socket_closing"), 10.0)
    channel.received(notice("v2.system.socket_closing"), 10.1)
    assert channel.tick(10.1) == [Renew(Reason.SOCKET_CLOSING)]
    channel.received(HEARTBEAT, 40.0)
    assert (State.DRAINING, []) == (channel.state, channel.tick(69.9))
    assert channel.tick(70.0) == [Reconnect(Reason.SOCKET_CLOSING)]


@pytest.mark.parametrize(
    ("topic", "reason"),
    [
        ("v2.system.token_revoked.1f", Reason.TOKEN_REVOKED),
        ("v2.system.no_longer_subscribed.2e", Reason.EVICTED),
    ],
)
@pytest.mark.parametrize("warned", [(), ("v2.system.socket_closing",)])
def test_a_channel_that_delivers_nothing_more_is_over_at_once(
    topic: str, reason: Reason, warned: tuple[str, ...]
) -> None:
    """Even if it is draining already, and a successor is on its way: until that has come, nobody tells anything."""
    channel = live()
    for before in warned:
        channel.received(notice(before), 10.0)
        channel.tick(10.0)
    channel.received(notice(topic), 11.0)
    assert (State.CLOSED, [Reconnect(reason)]) == (channel.state, channel.tick(11.0))


def test_a_successor_ends_it_without_another_one() -> None:
    """What was still to be done is not done any more."""
    channel = live()
    channel.received(notice("v2.system.socket_closing"), 10.0)
    channel.closed(Reason.REPLACED)
    assert (State.CLOSED, []) == (channel.state, channel.tick(1000.0))


def test_a_lost_connection_is_made_anew_at_once() -> None:
    """Whatever else was to be done on it is void."""
    channel = Channel(DAY, 0.0)
    channel.opened(0.0)
    channel.closed(Reason.DROPPED)
    assert channel.tick(0.0) == [Reconnect(Reason.DROPPED)]
    channel.opened(1.0)
    channel.closed(Reason.DROPPED)
    assert channel.tick(1.0) == []


def test_it_is_renewed_before_its_day_is_over() -> None:
    """A quarter of an hour before; and if nobody came, it ends with its life."""
    channel, commands = live(), dict[float, list[Command]]()
    for second in range(0, 86_430, 15):
        channel.received(HEARTBEAT, float(second))
        if asked := channel.tick(float(second)):
            commands[float(second)] = asked
    assert {DAY - 900: [Renew(Reason.EXPIRING)], DAY: [Reconnect(Reason.EXPIRING)]} == commands


def test_a_short_life_is_renewed_at_its_half() -> None:
    """A channel must not ask for a successor the moment it is born."""
    channel = live(expires_at=60.0)
    channel.received(HEARTBEAT, 29.0)
    assert channel.tick(29.9) == []
    assert channel.tick(30.0) == [Renew(Reason.EXPIRING)]


STEPS = st.one_of(
    st.tuples(st.just("received"), st.text() | st.sampled_from([HEARTBEAT, CALLS, notice("v2.system.socket_closing")])),
    st.tuples(st.just("tick"), st.none()),
    st.tuples(st.just("opened"), st.none()),
    st.tuples(st.just("closed"), st.sampled_from(Reason)),
)


@given(st.lists(st.tuples(st.floats(0, 100), STEPS)))
def test_no_life_asks_for_two_successors_or_speaks_after_its_end(life: list[tuple[float, tuple[str, object]]]) -> None:
    """In any order of anything: one renewal at most, one reconnect at most, and it is the last command."""
    channel, now, commands = Channel(DAY, 0.0), 0.0, list[Command]()
    for pause, (what, value) in life:
        now += pause
        if what == "received":
            channel.received(str(value), now)
        elif what == "opened":
            channel.opened(now)
        elif what == "closed":
            channel.closed(Reason(str(value)))
        commands += channel.tick(now)
    kinds = [type(command) for command in commands]
    assert kinds.count(Renew) <= 1
    assert Reconnect not in kinds[:-1]


def test_the_diagram_shows_what_changes_something() -> None:
    """It is made from the table: each arrow stands in it, and self-loops without an order don't."""
    lines = diagram().splitlines()
    assert lines[:2] == ["stateDiagram-v2", "    [*] --> new"]
    assert "    live --> draining: warned / renew" in lines
    assert "    open --> live: heard" in lines
    assert "    live --> live: quiet / ping" in lines
    assert "    draining --> closed: released" in lines
    assert not any(line.startswith("    live --> live: heard") for line in lines)
    assert lines[-1] == "    closed --> [*]"
