"""Notification channels without sockets: the requests, the life of a line, and the frames."""

import json
from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from call_initiation.agents import users
from call_initiation.agents.legs import Leg
from call_initiation.api.notifications import (
    AsyncFailure,
    Heartbeat,
    LegTimes,
    NoLongerSubscribed,
    Notification,
    Notified,
    Pong,
    SocketClosing,
    calls_topic,
    combined_topic,
)
from call_initiation.events import AgentState, Presence, StateSource
from call_initiation.simulator.disturbances import (
    Disturbances,
)
from call_initiation.simulator.lines import Ending, Intervals, Item
from call_initiation.simulator.org import CALM, Behaviour, Part
from channels import CHANNELS, HALF_HOUR, HOST, Rig, said, told
from simulated import NOBODY, NOW, client_token, code_of, get

# Requests


def test_a_channel_says_where_its_socket_is() -> None:
    """On the very host that was asked, with its id and its end a day later."""
    rig = Rig()
    made = json.loads(rig.ask("POST").body)
    assert f"ws://{HOST}/notifications/{made['id']}" == made["connectUri"]
    assert NOW + 86_400.0 == users.epoch(made["expires"])
    assert {"entities": [made]} == json.loads(rig.ask("GET").body)


def test_a_channel_is_its_owners() -> None:
    """Another user sees none of it; another token of the same client does."""
    rig = Rig()
    channel_id = rig.channel()
    assert {"entities": []} == json.loads(get(rig.organisation, CHANNELS).body)
    assert (404, "not.found") == code_of(get(rig.organisation, f"{CHANNELS}/{channel_id}/subscriptions"))
    assert 1 == len(json.loads(rig.ask("GET", token=client_token(rig.organisation)).body)["entities"])
    assert (401, "bad.credentials") == code_of(rig.ask("GET", token="no-such-token"))


def test_subscriptions_are_replaced_added_to_shown_and_ended() -> None:
    """PUT, POST, GET, DELETE."""
    rig = Rig()
    channel_id = rig.channel()
    one, two, three = (combined_topic(agent_id) for agent_id in rig.organisation.agent_ids[:3])

    def shown() -> list[str]:
        return [topic["id"] for topic in json.loads(rig.ask("GET", f"/{channel_id}/subscriptions").body)["entities"]]

    rig.subscribe(channel_id, [one])
    assert [one] == shown()
    rig.subscribe(channel_id, [two])
    rig.subscribe(channel_id, [two, three], "POST")
    assert [two, three] == shown()
    ended = rig.ask("DELETE", f"/{channel_id}/subscriptions")
    assert (204, b"") == (ended.status, ended.body)
    assert [] == shown()


@pytest.mark.parametrize(
    "topic",
    [
        f"v2.users.{NOBODY}.presence",
        combined_topic(NOBODY),
        "v2.users.{id}",
        "v2.users.{id}.nonsense",
        "v2.users.{id}?presence&nonsense",
        "v2.users.{id}?presence&",
        "v2.users.{id}?" + "&".join(["presence"] * 20),
        "v2.queues.{id}.presence",
        "",
    ],
)
def test_topics_that_nobody_has_are_rejected(topic: str) -> None:
    """With a reason, beside one that is permitted; what is rejected is not subscribed to."""
    rig = Rig()
    channel_id = rig.channel()
    wrong, right = topic.replace("{id}", rig.agent), combined_topic(rig.agent)
    entities = json.loads(rig.subscribe(channel_id, [wrong, right]).body)["entities"]
    assert [(wrong, "Rejected"), (right, "Permitted")] == [(entity["id"], entity["state"]) for entity in entities]
    assert entities[0]["rejectionReason"]
    assert 1 == len(json.loads(rig.ask("GET", f"/{channel_id}/subscriptions").body)["entities"])


@pytest.mark.parametrize("body", [b"", b"{", b"[" * 100_000, {}, None, ["v2"], [{"id": 7}], [{}], 7])
def test_other_bodies_are_bad_requests(body: object) -> None:
    """Whatever isn't a list of objects with an id."""
    rig = Rig()
    answer = rig.ask("PUT", f"/{rig.channel()}/subscriptions", body)
    assert (400, "bad.request") == code_of(answer)


@pytest.mark.parametrize(
    ("method", "path"), [("PATCH", ""), ("GET", "/x"), ("DELETE", "/{id}"), ("PATCH", "/{id}/subscriptions")]
)
def test_other_requests_are_not_found(method: str, path: str) -> None:
    """The API has no way to end a channel, for one."""
    rig = Rig()
    assert (404, "not.found") == code_of(rig.ask(method, path.replace("{id}", rig.channel()), []))


def test_a_channel_has_a_thousand_topics_at_most() -> None:
    """One more is a 400 that changes nothing; a combined topic counts as one, and a rejected one as none."""
    rig = Rig(agents=1001)
    channel_id = rig.channel()
    topics = [combined_topic(agent_id) for agent_id in rig.organisation.agent_ids]
    assert 400 == rig.subscribe(channel_id, topics).status
    assert 200 == rig.subscribe(channel_id, topics[:1000]).status
    assert 200 == rig.subscribe(channel_id, [*topics[:10], combined_topic(NOBODY)], "POST").status
    assert (400, "bad.request") == code_of(rig.subscribe(channel_id, topics[1000:], "POST"))
    assert 1000 == len(json.loads(rig.ask("GET", f"/{channel_id}/subscriptions").body)["entities"])


def test_the_twenty_first_channel_evicts_the_oldest() -> None:
    """Its socket is told, and closed; the others live on, and so do another owner's."""
    rig = Rig()
    line = rig.line(combined_topic(rig.agent))
    others = [rig.channel() for _ in range(19)]
    assert [] == line.take(rig.now)
    newest = rig.channel()
    *words, end = line.take(rig.now)
    assert [NoLongerSubscribed(f"v2.system.no_longer_subscribed.{line.channel_id}")] == said(words)
    assert Ending.CLOSED is end
    kept = [channel["id"] for channel in json.loads(rig.ask("GET").body)["entities"]]
    assert [*others, newest] == kept
    assert rig.organisation.channels.connect(line.channel_id, rig.now) is None
    rig.organisation.channels.disconnect(line)


def test_the_oldest_may_have_no_socket() -> None:
    """Then nobody is told."""
    rig = Rig()
    made = [rig.channel() for _ in range(21)]
    assert made[1:] == [channel["id"] for channel in json.loads(rig.ask("GET").body)["entities"]]


# A line's life


def test_a_second_socket_displaces_the_first() -> None:
    """The first is told and closed, and its leaving doesn't touch the second."""
    rig = Rig()
    channels = rig.organisation.channels
    first = rig.line(combined_topic(rig.agent))
    second = channels.connect(first.channel_id, rig.now)
    assert second is not None
    *words, end = first.take(rig.now)
    assert ([NoLongerSubscribed], Ending.CLOSED) == ([type(word) for word in said(words)], end)
    channels.disconnect(first)
    rig.live(HALF_HOUR)
    assert [] == first.take(rig.now)
    assert told(second, rig.now)
    channels.disconnect(second)
    rig.live(HALF_HOUR)
    assert [] == second.take(rig.now)


def test_a_line_beats() -> None:
    """Every 30 seconds, and no more often than it is looked at."""
    rig = Rig()
    line = rig.line()
    heard = [(second, said(line.take(rig.now))) for second in range(91) if rig.live(1.0) is not None]
    assert [(29, [Heartbeat()]), (59, [Heartbeat()]), (89, [Heartbeat()])] == [one for one in heard if one[1]]
    rig.live(HALF_HOUR)
    assert [Heartbeat()] == said(line.take(rig.now))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"message":"pong"}', '{"message":"ping","x":1}', "[" * 100_000])
def test_only_a_ping_is_answered(text: str) -> None:
    """By a pong; other words are passed over."""
    rig = Rig()
    line = rig.line()
    rig.organisation.channels.hear(line, text, rig.now)
    assert [] == line.take(rig.now)
    rig.organisation.channels.hear(line, '{ "message": "ping" }', rig.now)
    assert ['{"message":"pong"}'] == line.take(rig.now)


def test_a_pong_is_read_as_one() -> None:
    """By whoever follows."""
    rig = Rig()
    line = rig.line()
    rig.organisation.channels.hear(line, '{"message":"ping"}', rig.now)
    assert [Pong()] == said(line.take(rig.now))


def test_the_end_of_a_day_is_announced_a_minute_before() -> None:
    """Then the socket closes and the channel is gone."""
    rig = Rig(intervals=Intervals(life=100.0, notice=60.0))
    line = rig.line()
    rig.live(39.9)
    assert [Heartbeat()] == said(line.take(rig.now))
    rig.live(0.1)
    assert [SocketClosing()] == said(line.take(rig.now))
    rig.live(59.9)
    assert [Heartbeat()] == said(line.take(rig.now))
    rig.live(0.1)
    assert [Ending.CLOSED] == line.take(rig.now)
    assert {"entities": []} == json.loads(rig.ask("GET").body)
    rig.live(60.0)
    assert [] == line.take(rig.now)


def test_a_channel_without_a_socket_ends_too() -> None:
    """At its time."""
    rig = Rig(intervals=Intervals(life=100.0))
    rig.channel()
    rig.live(100.0)
    assert {"entities": []} == json.loads(rig.ask("GET").body)


# Frames


def follow(states: dict[str, AgentState], words: Iterable[Notification]) -> None:
    """Apply what is said of agents, as it comes."""
    for word in words:
        if isinstance(word, Notified):
            given = {
                name: getattr(word.update.state, name)
                for name in ("presence", "routing_status", "on_call", "wrap_up", "station")
                if getattr(word.update.state, name) is not None or word.update.part.value == name
            }
            states[word.agent_id] = replace(states[word.agent_id], **given)


def bare(state: AgentState) -> AgentState:
    """Return what notifications can tell of a state: an agent who leaves a station may have another one."""
    return replace(
        state, since=None, source=StateSource.NOTIFICATION, out_of_office=None, station=state.station or None
    )


@settings(max_examples=10, deadline=None)
@given(st.lists(st.floats(0.05, 120.0), min_size=1, max_size=40))
def test_events_replayed_are_the_organisations_own_states(pauses: list[float]) -> None:
    """However often one looks: each agent is in the state that its events tell, and in the ledger of its calls too."""
    rig = Rig(Behaviour(pace=60.0), agents=12)
    rig.live(0.0)
    states = {agent_id: bare(rig.organisation.state(agent_id)) for agent_id in rig.organisation.agent_ids}
    line = rig.line(*rig.everyone())
    for pause in pauses:
        rig.live(pause)
        follow(states, said(line.take(rig.now)))
        assert {agent_id: bare(rig.organisation.state(agent_id)) for agent_id in states} == states
        rig.call(rig.agent)
        assert states[rig.agent] == bare(rig.organisation.ledger[-1].state)


def test_each_change_is_one_frame_with_the_servers_time() -> None:
    """In the order of the changes; presences and routing statuses are stamped to the millisecond."""
    rig = Rig(agents=20)
    line = rig.line(*(combined_topic(agent_id) for agent_id in rig.organisation.agent_ids))
    changes = [change for change in rig.live(HALF_HOUR) if change.part is not Part.CALLS]
    heard = [word for word in said(line.take(rig.now)) if isinstance(word, Notified)]
    stamped = {Part.PRESENCE, Part.ROUTING_STATUS}
    expected = [
        (change.agent_id, change.part.value, change.at if change.part in stamped else None) for change in changes
    ]
    assert expected == [(word.agent_id, word.topic, word.update.at) for word in heard]
    assert len(heard) == len({word.correlation_id for word in heard})


def test_presences_are_spelled_as_in_the_wild() -> None:
    """Each spelling is met, and each is read as the same presence."""
    rig = Rig(agents=50)
    line = rig.line(*(f"v2.users.{agent_id}.presence" for agent_id in rig.organisation.agent_ids))
    rig.live(HALF_HOUR)
    bodies = [json.loads(item)["eventBody"] for item in line.take(rig.now) if isinstance(item, str) and "v2." in item]
    spelled = {body["presenceDefinition"]["systemPresence"] for body in bodies}
    assert {"ON_QUEUE", "On Queue", "OnQueue", "on_queue"} <= spelled
    assert set(Presence) >= {Presence.spelled(text) for text in spelled}


def test_an_activity_is_presence_and_routing_in_one() -> None:
    """Each with its own time; it comes when either changes."""
    rig = Rig(agents=20)
    line = rig.line(*(f"v2.users.{agent_id}.activity" for agent_id in rig.organisation.agent_ids))
    parts = {Part.PRESENCE, Part.ROUTING_STATUS}
    changes = [change for change in rig.live(HALF_HOUR) if change.part in parts]
    heard = [word for word in said(line.take(rig.now)) if isinstance(word, Notified)]
    expected = [
        update
        for change in changes
        for update in (
            (change.state.presence, None, change.presence_since),
            (None, change.state.routing_status, change.routing_since),
        )
    ]
    assert expected == [
        (word.update.state.presence, word.update.state.routing_status, word.update.at) for word in heard
    ]
    assert all(change.at in {change.presence_since, change.routing_since} for change in changes)


def test_each_part_keeps_its_own_time() -> None:
    """A change of presence that leaves the routing status as it is leaves its time too."""
    since: dict[str, float] = {}
    for change in Rig(agents=20).live(HALF_HOUR):
        if change.part is Part.ROUTING_STATUS:
            since[change.agent_id] = change.at
        assert since.get(change.agent_id, change.routing_since) == change.routing_since
    assert since


def test_what_several_topics_name_prevents_repeats() -> None:
    """A combined topic and a single one are the same name."""
    rig = Rig(agents=1)
    line = rig.line(combined_topic(rig.agent), f"v2.users.{rig.agent}.presence")
    changes = [change for change in rig.live(HALF_HOUR) if change.part is not Part.CALLS]
    assert len(changes) == len(told(line, rig.now))


def test_a_failed_leg_is_told_and_told_again() -> None:
    """In the agent's participant of the call, in both frames with which it ends; a call that ends well says nothing."""
    rig = Rig(replace(CALM, leg_failures=1.0, refusals={}))
    line = rig.line(calls_topic(rig.agent))
    conversation_id = json.loads(rig.call(rig.agent).body)["id"]
    call = next(one.call for one in rig.live(HALF_HOUR) if one.call and one.call.id == conversation_id)
    code = call.error_code
    assert code is not None
    failures = [one for one in said(line.take(rig.now)) if isinstance(one, AsyncFailure)]
    assert [AsyncFailure(rig.agent, conversation_id, code)] * 2 == failures


def test_a_call_is_told_with_the_times_of_its_agents_leg() -> None:
    """As it begins, as its leg ends, once more as the customer's does, and as its after-call work ends."""
    rig = Rig(replace(CALM, refusals={}))
    line = rig.line(calls_topic(rig.agent))
    calls = [one.call for one in rig.live(HALF_HOUR) if one.agent_id == rig.agent and one.call]
    assert any(call.wrap_up_ended for call in calls)
    expected = [
        Leg(call.began, call.began, call.ended, call.wrap_up_began, call.wrap_up_ended)
        for call in calls
        for _ in range(1 + (call.ended is not None and call.wrap_up_ended is None))
    ]
    heard = [one for one in said(line.take(rig.now)) if isinstance(one, LegTimes)]
    assert expected == [one.leg for one in heard]
    assert len({call.id for call in calls}) == len({one.participant_id for one in heard})


def test_what_happens_without_a_socket_is_never_told() -> None:
    """Neither then nor later, and nothing of an agent who isn't subscribed to."""
    rig = Rig()
    first = rig.line(combined_topic(rig.agent))
    rig.organisation.channels.disconnect(first)
    assert rig.live(HALF_HOUR)
    second = rig.organisation.channels.connect(first.channel_id, rig.now)
    assert second is not None
    assert [] == told(second, rig.now)
    rig.live(HALF_HOUR)
    assert {rig.agent} == {word.agent_id for word in told(second, rig.now) if isinstance(word, Notified)}


def test_the_same_seed_says_the_same() -> None:
    """Byte for byte."""

    def life() -> list[Item]:
        rig = Rig(agents=10)
        rig.organisation.disturbances = Disturbances(duplicates=0.3, reordering=5.0, garbage=0.1, unknown_presence=0.1)
        line = rig.line(*rig.everyone())
        rig.live(HALF_HOUR)
        return line.take(rig.now + 10.0)

    assert life() == life()
