"""Notification channels without sockets: the requests, the life of a line, the frames, and all that disturbs them."""

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from call_initiation import users
from call_initiation.events import AgentState, Presence, StateSource
from call_initiation.legs import Leg
from call_initiation.notifications import (
    AsyncFailure,
    Heartbeat,
    Ignored,
    LegTimes,
    NoLongerSubscribed,
    Notification,
    Notified,
    Pong,
    SocketClosing,
    TokenRevoked,
    calls_topic,
    combined_topic,
    read,
)
from call_initiation.simulator.disturbances import (
    FIELDS,
    STRIKES,
    DisturbanceError,
    Disturbances,
    Strike,
    ordered,
)
from call_initiation.simulator.frames import GARBAGE, huge
from call_initiation.simulator.lines import Ending, Intervals, Item, Line
from call_initiation.simulator.org import CALM, Answer, Behaviour, Organisation, OrgChange, Part, Request
from simulated import NOBODY, NOW, client_token, code_of, get, headers

CHANNELS = "/api/v2/notifications/channels"
HALF_HOUR = 1800.0
HOST = "127.0.0.1:8900"

Json = dict[str, Any]


class Rig:
    """An organisation, and one who follows it by a channel."""

    def __init__(self, behaviour: Behaviour = CALM, agents: int = 5, intervals: Intervals | None = None) -> None:
        self.organisation = Organisation(agents=agents, behaviour=behaviour, intervals=intervals or Intervals())
        self.token = client_token(self.organisation)
        self.now = NOW

    @property
    def agent(self) -> str:
        """The first agent's id."""
        return self.organisation.agent_ids[0]

    def ask(self, method: str, path: str = "", body: object = None, token: str = "") -> Answer:
        """Ask for something of channels."""
        said = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = Request(
            method=method, path=CHANNELS + path, headers=headers(token or self.token, host=HOST), body=said
        )
        return self.organisation.answer(request, self.now)

    def call(self, agent_id: str, token: str = "") -> Answer:
        """Place a call on behalf of an agent."""
        path = f"/api/v2/conversations/calls/user/{agent_id}"
        body = b'{"phoneNumber":"+33199000042"}'
        request = Request(method="POST", path=path, headers=headers(token or self.token), body=body)
        return self.organisation.answer(request, self.now)

    def channel(self) -> str:
        """Make a channel and return its id."""
        return str(json.loads(self.ask("POST").body)["id"])

    def subscribe(self, channel_id: str, topics: Iterable[str], method: str = "PUT") -> Answer:
        """Subscribe to topics."""
        return self.ask(method, f"/{channel_id}/subscriptions", [{"id": topic} for topic in topics])

    def line(self, *topics: str) -> Line:
        """Make a channel, subscribe and connect."""
        channel_id = self.channel()
        assert 200 == self.subscribe(channel_id, topics).status
        line = self.organisation.channels.connect(channel_id, self.now)
        assert line is not None
        return line

    def everyone(self) -> list[str]:
        """Return the topics with which all is told of everyone."""
        agent_ids = self.organisation.agent_ids
        return [topic for agent_id in agent_ids for topic in (combined_topic(agent_id), calls_topic(agent_id))]

    def live(self, seconds: float) -> list[OrgChange]:
        """Let time pass at once, tell what has changed, and return it."""
        self.now += seconds
        changes = self.organisation.advance(self.now)
        self.organisation.channels.advance(changes, self.now)
        return changes


def said(items: Iterable[Item]) -> list[Notification]:
    """Return what items say; an end says nothing."""
    return [one for item in items if not isinstance(item, Ending) for one in read(item)]


def told(line: Line, now: float) -> list[Notification]:
    """Return what events a line tells by now."""
    return [one for one in said(line.take(now)) if not isinstance(one, Heartbeat)]


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


def test_what_several_topics_name_is_told_once() -> None:
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


# Disturbances


def disturbed(disturbances: Disturbances, wait: float = 0.0) -> tuple[list[Item], list[Item]]:
    """Return what is told undisturbed and disturbed, in the same half hour."""

    def life(disturbances: Disturbances) -> list[Item]:
        rig = Rig(agents=10)
        line = rig.line(*(combined_topic(agent_id) for agent_id in rig.organisation.agent_ids))
        rig.organisation.disturbances = disturbances
        rig.live(HALF_HOUR)
        return line.take(rig.now + wait)

    return life(Disturbances()), life(disturbances)


def bodies(items: Iterable[Item]) -> list[str]:
    """Return the events among items, each as text."""
    return [item for item in items if isinstance(item, str) and item.startswith('{"topicName":"v2.users.')]


def test_duplicates_come_within_150_milliseconds() -> None:
    """Each event twice, the very same text."""
    calm, doubled = disturbed(Disturbances(duplicates=1.0), wait=0.15)
    assert sorted(2 * bodies(calm)) == sorted(bodies(doubled))
    _, early = disturbed(Disturbances(duplicates=1.0))
    assert set(bodies(calm)) == set(bodies(early))
    assert len(bodies(early)) == len(bodies(calm))


def test_reordering_overtakes_within_its_window() -> None:
    """The same events in another order, all of them by the end of the window."""
    calm, mixed = disturbed(Disturbances(reordering=5.0), wait=5.0)
    assert sorted(bodies(calm)) == sorted(bodies(mixed))
    assert bodies(calm) != bodies(mixed)


def test_lag_is_late_and_in_order() -> None:
    """Nothing before its time, then all."""
    calm, early = disturbed(Disturbances(lag=3.0), wait=2.9)
    _, late = disturbed(Disturbances(lag=3.0), wait=3.0)
    assert [] == bodies(early)
    assert bodies(calm) == bodies(late)


def test_a_silent_line_beats_and_answers() -> None:
    """But it tells no event, and never will."""
    calm, silent = disturbed(Disturbances(silent=True))
    assert bodies(calm)
    assert [Heartbeat()] == said(silent)


@pytest.mark.parametrize(
    ("disturbances", "ends"), [(Disturbances(drops=1.0), [Ending.CUT]), (Disturbances(half_opens=1.0), [])]
)
def test_an_event_may_be_the_last(disturbances: Disturbances, ends: list[Item]) -> None:
    """The socket is cut in its stead, or nothing is said any more, not even a beat."""
    _, items = disturbed(disturbances)
    assert ends == items


def test_garbage_and_huge_frames_are_read_as_such() -> None:
    """Before each frame, which is told all the same."""
    calm, littered = disturbed(Disturbances(garbage=1.0))
    rest = [item for item in littered if item not in GARBAGE]
    assert bodies(calm) == bodies(rest)
    assert len(littered) == 2 * len(rest)
    assert {Ignored} == {type(word) for word in said(GARBAGE)}
    assert len(GARBAGE) == len(said(GARBAGE))
    assert 10_000_000 == len(huge())
    assert [Ignored("oversized")] == said([huge()])
    assert "padding" in json.loads(huge())["eventBody"]


def test_huge_frames_come_before_others() -> None:
    """Before a pong, too."""
    rig = Rig()
    line = rig.line()
    rig.organisation.disturbances = Disturbances(huge=1.0)
    rig.organisation.channels.hear(line, '{"message":"ping"}', rig.now)
    assert [Ignored("oversized"), Pong()] == said(line.take(rig.now))


def test_an_unknown_presence_is_read_as_unknown() -> None:
    """And nothing else is."""
    _, items = disturbed(Disturbances(unknown_presence=1.0))
    heard = [word for word in said(items) if isinstance(word, Notified)]
    assert {word.update.is_whole for word in heard if word.topic == "presence"} == {False}
    assert {word.update.is_whole for word in heard if word.topic == "routingStatus"} == {True}


def test_a_skewed_server_stamps_so() -> None:
    """Events, reads, expiries and the Date, all by the same seconds; the ledger keeps the true time."""
    _, items = disturbed(Disturbances(skew=-3600.0))
    calm = [word for word in said(disturbed(Disturbances())[1]) if isinstance(word, Notified)]
    skewed = [word for word in said(items) if isinstance(word, Notified)]
    assert [at and at - 3600.0 for at in (word.update.at for word in calm)] == [word.update.at for word in skewed]
    rig = Rig()

    def shown() -> tuple[list[float | None], str]:
        answer = get(rig.organisation, f"/api/v2/users/{rig.agent}?expand=presence,routingStatus", now=rig.now)
        bulk = get(rig.organisation, f"/api/v2/users/presences/purecloud/bulk?id={rig.agent}", now=rig.now)
        page = get(rig.organisation, "/api/v2/users?expand=presence", now=rig.now)
        channel = json.loads(rig.ask("POST").body)
        user, (presence,), listed = json.loads(answer.body), json.loads(bulk.body), json.loads(page.body)["entities"][0]
        stamps = (
            user["presence"]["modifiedDate"],
            user["routingStatus"]["startTime"],
            presence["modifiedDate"],
            listed["presence"]["modifiedDate"],
            channel["expires"],
        )
        return [users.epoch(stamp) for stamp in stamps], answer.headers["Date"]

    before, date = shown()
    rig.organisation.disturbances = Disturbances(skew=-3600.0)
    after, skewed_date = shown()
    assert [at and at - 3600.0 for at in before] == after
    assert ("Thu, 01 Jan 2026 00:00:01 GMT", "Wed, 31 Dec 2025 23:00:01 GMT") == (date, skewed_date)


def test_a_deleted_user_is_gone_everywhere() -> None:
    """Shown as deleted, in no list, in no topic, in no event, and no call is placed for it."""
    rig = Rig(replace(CALM, refusals={}))
    line = rig.line(combined_topic(rig.agent))
    rig.organisation.disturbances = Disturbances(deleted=(rig.agent,))
    user = json.loads(get(rig.organisation, f"/api/v2/users/{rig.agent}?expand=presence").body)
    assert ("deleted", None) == (user["state"], user.get("presence"))
    listed = json.loads(get(rig.organisation, "/api/v2/users").body)["entities"]
    assert rig.organisation.agent_ids[1:] == [one["id"] for one in listed]
    assert (
        "Rejected" == json.loads(rig.subscribe(rig.channel(), [combined_topic(rig.agent)]).body)["entities"][0]["state"]
    )
    assert (404, "not.found") == code_of(rig.call(rig.agent))
    rig.live(HALF_HOUR)
    assert [] == told(line, rig.now)


@pytest.mark.parametrize(
    ("disturbances", "expected", "wait"),
    [
        (Disturbances(unauthorized=True), (401, "credentials.expired"), None),
        (Disturbances(retry_after=2.5), (429, "too.many.requests.retry.after"), "3"),
    ],
)
def test_reads_are_refused_and_calls_are_not(
    disturbances: Disturbances, expected: tuple[int, str], wait: str | None
) -> None:
    """Reads and channels alike; a token can still be had, and a call be placed."""
    rig = Rig(replace(CALM, refusals={}))
    rig.organisation.disturbances = disturbances
    for answer in (rig.ask("POST"), get(rig.organisation, "/api/v2/users")):
        assert expected == code_of(answer)
        assert wait == answer.headers.get("Retry-After")
    assert 202 == rig.call(rig.agent, token=client_token(rig.organisation)).status


@pytest.mark.parametrize(
    ("strike", "words", "ends"),
    [
        (Strike.DROP, [], [Ending.CUT]),
        (Strike.HALF_OPEN, [], []),
        (Strike.GARBAGE, [Ignored], []),
        (Strike.HUGE, [Ignored], []),
        (Strike.CLOSING, [SocketClosing], []),
        (Strike.EVICT, [NoLongerSubscribed], [Ending.CLOSED]),
        (Strike.REVOKE, [TokenRevoked], []),
    ],
)
def test_a_strike_hits_every_socket_at_once(strike: Strike, words: list[type], ends: list[Item]) -> None:
    """And a channel without a socket not at all."""
    rig = Rig()
    lines = [rig.line(), rig.line()]
    rig.channel()
    rig.organisation.strike(strike, rig.now)
    for line in lines:
        items = line.take(rig.now)
        assert words == [type(word) for word in said(items)]
        assert ends == [item for item in items if isinstance(item, Ending)]


@pytest.mark.parametrize("strike", [Strike.CLOSING, Strike.REVOKE])
def test_a_warned_line_delivers_for_a_minute_and_ends(strike: Strike) -> None:
    """The channel stays, and a socket opened meanwhile lives on."""
    rig = Rig()
    line = rig.line(*rig.everyone())
    rig.organisation.strike(strike, rig.now)
    rig.live(59.9)
    assert bodies(line.take(rig.now))
    rig.live(0.1)
    assert Ending.CLOSED is line.take(rig.now)[-1]
    again = rig.organisation.channels.connect(line.channel_id, rig.now)
    assert again is not None
    rig.live(600.0)
    assert Ending.CLOSED not in again.take(rig.now)


def test_a_notice_never_lengthens_a_life() -> None:
    """A line that is warned shortly before its end still ends then."""
    rig = Rig(intervals=Intervals(life=10.0))
    line = rig.line()
    rig.organisation.strike(Strike.CLOSING, rig.now)
    rig.live(9.9)
    assert [SocketClosing()] == said(line.take(rig.now))
    rig.organisation.strike(Strike.CLOSING, rig.now)
    rig.live(0.1)
    assert Ending.CLOSED is line.take(rig.now)[-1]


def test_a_dead_line_stays_dead() -> None:
    """Whatever is said on it, now or later; a new one lives."""
    rig = Rig()
    line = rig.line(*rig.everyone())
    rig.organisation.strike(Strike.HALF_OPEN, rig.now)
    rig.live(HALF_HOUR)
    rig.organisation.channels.hear(line, '{"message":"ping"}', rig.now)
    assert [] == line.take(rig.now)
    again = rig.organisation.channels.connect(line.channel_id, rig.now)
    assert again is not None
    rig.live(HALF_HOUR)
    assert again.take(rig.now)


def test_a_revoked_token_is_refused_and_a_new_one_is_good() -> None:
    """Clients' tokens only."""
    rig = Rig()
    rig.organisation.strike(Strike.REVOKE, rig.now)
    assert (401, "bad.credentials") == code_of(rig.ask("GET"))
    assert 200 == rig.ask("GET", token=client_token(rig.organisation)).status
    assert 200 == get(rig.organisation, "/api/v2/users/me").status


# What may be wished for


def test_a_wish_changes_what_it_names() -> None:
    """The rest stays; a list becomes a tuple; a strike is given apart."""
    current = Disturbances(lag=2.0)
    wish = {"deleted": ["a"], "duplicates": 0.5, "silent": True, "strike": "drop"}
    expected = Disturbances(lag=2.0, deleted=("a",), duplicates=0.5, silent=True)
    assert (expected, Strike.DROP) == ordered(current, wish)
    assert (current, None) == ordered(current, {})


@pytest.mark.parametrize(
    ("wish", "sentence"),
    [
        ([], "body: found [], expected a JSON object"),
        ({"skewed": 1}, f"body: found 'skewed', expected one of {', '.join(FIELDS)}, strike"),
        ({"strike": "x"}, f"strike: found 'x', expected one of {', '.join(STRIKES)}"),
        ({"strike": ["drop"]}, f"strike: found ['drop'], expected one of {', '.join(STRIKES)}"),
        ({"duplicates": 1.1}, "duplicates: found 1.1, expected a number from 0 to 1"),
        ({"duplicates": True}, "duplicates: found True, expected a number from 0 to 1"),
        ({"lag": -1}, "lag: found -1, expected a number of seconds, 0 or more"),
        ({"lag": float("nan")}, "lag: found nan, expected a number of seconds, 0 or more"),
        ({"skew": "1"}, "skew: found '1', expected a number of seconds"),
        ({"silent": 1}, "silent: found 1, expected true or false"),
        ({"deleted": "a"}, "deleted: found 'a', expected a list of user ids"),
        ({"deleted": [1]}, "deleted: found [1], expected a list of user ids"),
    ],
)
def test_a_wish_that_cannot_be_had_is_said_to_be(wish: object, sentence: str) -> None:
    """Where, what was found, what was expected."""
    with pytest.raises(DisturbanceError) as raised:
        ordered(Disturbances(), wish)
    assert sentence == str(raised.value)


def test_every_default_fits_its_kind() -> None:
    """And every strike is explained."""
    for name, field in FIELDS.items():
        default = getattr(Disturbances(), name)
        default = list(default) if isinstance(default, tuple) else default
        fits: Callable[[object], bool] = field.metadata["kind"].fits
        assert fits(default)
        assert field.metadata["effect"]
    assert set(Strike) == set(STRIKES)
