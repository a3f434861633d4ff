"""The notification protocol's words: topics, and what frames say."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from call_initiation.agents.legs import Leg
from call_initiation.agents.users import Part, Update
from call_initiation.api.notifications import (
    CHANNELS,
    LARGEST_FRAME,
    TOPICS_PER_CHANNEL,
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
    rejected,
    shards,
)
from call_initiation.events import AgentState, Presence, RoutingStatus, StateSource

AGENT = "9d4b0c1e-0000-4000-8000-00000000000a"
HEARD = StateSource.NOTIFICATION
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def frame(topic: str, body: object, **rest: object) -> str:
    """Return a frame as the server writes it."""
    return json.dumps({"topicName": topic, "version": "2", "eventBody": body, **rest})


def user_frame(name: str, body: object) -> str:
    """Return a frame about the agent, with a correlation id."""
    return frame(f"v2.users.{AGENT}.{name}", body, metadata={"CorrelationId": "5b8f"})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (frame("channel.metadata", {"message": "WebSocket Heartbeat"}), Heartbeat()),
        (frame("channel.metadata", {"message": "pong"}), Pong()),
        ('{"message":"pong"}', Pong()),
        (b'{"message":"pong"}', Pong()),
        (frame("v2.system.socket_closing", {"message": "soon"}), SocketClosing()),
        (frame("v2.system.token_revoked.1f", {}), TokenRevoked()),
        (
            frame("v2.system.no_longer_subscribed.2e", {}),
            NoLongerSubscribed("v2.system.no_longer_subscribed.2e"),
        ),
        (frame("v2.system.weather", {"message": "pong"}), Ignored("unknown_topic")),
        (frame("v2.routing.queues.1.users", {}), Ignored("unknown_topic")),
        (user_frame("geolocation", {}), Ignored("unknown_topic")),
        (frame("v2.users.", {}), Ignored("unknown_topic")),
        (frame("v2.users..presence", {}), Ignored("unknown_topic")),
        (user_frame("presence", {}), Ignored("malformed")),
        (user_frame("presence", None), Ignored("malformed")),
        (user_frame("station", [1]), Ignored("malformed")),
        ('{"topicName": 7}', Ignored("malformed")),
        ("[]", Ignored("malformed")),
        ("null", Ignored("malformed")),
        ("", Ignored("not_json")),
        ("ping", Ignored("not_json")),
        (b"\xff\xfe\x00", Ignored("not_json")),
        ('{"a": ' + "9" * 5000 + "}", Ignored("not_json")),
        ("[" * 100_000, Ignored("not_json")),
        (" " * (LARGEST_FRAME + 1), Ignored("oversized")),
        (b"0" * 10_000_000, Ignored("oversized")),
    ],
)
def test_a_frame_says_one_thing(text: str | bytes, expected: Notification) -> None:
    """Each kind of frame, and each way of not being one."""
    assert (expected,) == read(text)


def notified(name: str, part: Part, state: AgentState, at: float | None = None) -> Notified:
    """Return what a frame about the agent should say."""
    return Notified(name, AGENT, Update(part, state, at), "5b8f")


@pytest.mark.parametrize(
    ("name", "body", "part", "state"),
    [
        (
            "presence",
            {"presenceDefinition": {"systemPresence": "BUSY"}, "modifiedDate": "1970-01-01T00:01:40.5Z"},
            Part.PRESENCE,
            AgentState(presence=Presence.BUSY, since=100.5, source=HEARD),
        ),
        (
            "presence",
            {"presenceDefinition": {"systemPresence": "SIESTA"}, "modifiedDate": "1970-01-01T00:01:40Z"},
            Part.PRESENCE,
            AgentState(since=100.0, source=HEARD),
        ),
        (
            "routingStatus",
            {"id": AGENT, "routingStatus": {"status": "INTERACTING", "startTime": "1970-01-01T00:01:40Z"}},
            Part.ROUTING_STATUS,
            AgentState(routing_status=RoutingStatus.INTERACTING, since=100.0, source=HEARD),
        ),
        (
            "conversationsummary",
            {"userId": AGENT, "call": {"contactCenter": {"active": 1, "acw": 0}}},
            Part.CONVERSATIONS,
            AgentState(on_call=1, wrap_up=0, source=HEARD),
        ),
        ("station", {"associatedStation": {"id": "7c1e"}}, Part.STATION, AgentState(station="7c1e", source=HEARD)),
        ("outofoffice", {"active": True}, Part.OUT_OF_OFFICE, AgentState(out_of_office=True, source=HEARD)),
    ],
)
def test_a_frame_about_an_agent_says_one_part(name: str, body: object, part: Part, state: AgentState) -> None:
    """With the server's time where the event carries one, and the correlation id."""
    assert (notified(name, part, state, state.since),) == read(user_frame(name, body))


def test_an_activity_says_several_parts() -> None:
    """Presence, routing status and out-of-office come in one frame, each with its own time."""
    body = {
        "id": AGENT,
        "presence": {"presenceDefinition": {"systemPresence": "MEAL"}, "modifiedDate": "1970-01-01T00:00:10Z"},
        "routingStatus": {"status": "OFF_QUEUE", "startTime": "1970-01-01T00:00:20Z"},
        "outOfOffice": {"active": False, "modifiedDate": "1970-01-01T00:00:30Z"},
    }
    presence = AgentState(presence=Presence.MEAL, since=10.0, source=HEARD)
    routing = AgentState(routing_status=RoutingStatus.OFF_QUEUE, since=20.0, source=HEARD)
    away = AgentState(out_of_office=False, since=30.0, source=HEARD)
    assert (
        notified("activity", Part.PRESENCE, presence, 10.0),
        notified("activity", Part.ROUTING_STATUS, routing, 20.0),
        notified("activity", Part.OUT_OF_OFFICE, away, 30.0),
    ) == read(user_frame("activity", body))


def test_a_correlation_id_may_be_missing() -> None:
    """It is a courtesy of the server's."""
    text = frame(f"v2.users.{AGENT}.outofoffice", {"active": True})
    assert [None] == [one.correlation_id for one in read(text) if isinstance(one, Notified)]


def participant(user_id: str, code: object) -> dict[str, object]:
    """Return a participant of a call with an error."""
    return {"purpose": "agent", "user": {"id": user_id}, "errorInfo": {"code": code}}


@pytest.mark.parametrize(
    ("participants", "codes"),
    [
        (
            [participant(AGENT, "error.ininedgecontrol.connection.timeout")],
            ["error.ininedgecontrol.connection.timeout"],
        ),
        ([participant(AGENT, "a"), participant(AGENT, "b")], ["a", "b"]),
        ([participant("someone-else", "a")], []),
        ([{"purpose": "customer", "errorInfo": {"code": "a"}}], []),
        ([participant(AGENT, None), participant(AGENT, 7), {"user": {"id": AGENT}}, None], []),
        (None, []),
    ],
)
def test_a_call_tells_how_the_agents_own_leg_failed(participants: object, codes: list[str]) -> None:
    """Neither a customer's leg nor another agent's is a failure of this agent's."""
    read_codes = read(user_frame("conversations.calls", {"id": "c1", "participants": participants}))
    assert tuple(AsyncFailure(AGENT, "c1", code) for code in codes) == read_codes


def test_a_failed_leg_says_when_it_began() -> None:
    """By its participant's start; one without a time has none."""
    legs = [participant(AGENT, "a") | {"startTime": "2026-03-01T00:00:00.000Z"}, participant(AGENT, "b")]
    failures = read(user_frame("conversations.calls", {"id": "c1", "participants": legs}))
    told = [one.began for one in failures if isinstance(one, AsyncFailure)]
    assert [datetime(2026, 3, 1, tzinfo=UTC).timestamp(), None] == told


def test_a_call_tells_the_times_of_the_agents_own_legs() -> None:
    """Of a participant who has an id and takes part in the talk; what it hasn't come to has no time."""
    own = {"id": "p1", "purpose": "agent", "user": {"id": AGENT}, "startTime": "1970-01-01T00:00:10.5Z"}
    others = [
        {"id": "p2", "purpose": "customer", "startTime": "1970-01-01T00:00:10Z"},
        {"id": "p3", "purpose": "agent", "user": {"id": "someone-else"}, "startTime": "1970-01-01T00:00:10Z"},
        {"id": "p4", "purpose": "monitor", "user": {"id": AGENT}, "startTime": "1970-01-01T00:00:10Z"},
        {"purpose": "agent", "user": {"id": AGENT}, "startTime": "1970-01-01T00:00:10Z"},
    ]
    body = {"id": "c1", "participants": [*others, own]}
    assert (LegTimes(AGENT, "p1", Leg(started=10.5)),) == read(user_frame("conversations.calls", body))


def test_a_call_without_an_id_tells_nothing() -> None:
    """There would be nothing to count it once by."""
    assert read(user_frame("conversations.calls", {"participants": [participant(AGENT, "a")]})) == ()


@given(st.text() | st.binary())
def test_any_text_says_something(text: str | bytes) -> None:
    """Nothing is raised."""
    assert all(isinstance(one, Ignored | Pong | Heartbeat) for one in read(text))


TOPICS = st.sampled_from(
    [
        "channel.metadata",
        "v2.system.socket_closing",
        *(
            f"v2.users.{AGENT}.{name}"
            for name in [
                "presence",
                "routingStatus",
                "conversationsummary",
                "station",
                "activity",
                "outofoffice",
                "conversations.calls",
            ]
        ),
    ]
)


@given(TOPICS | st.text(), ANY_JSON, ANY_JSON)
def test_any_body_on_any_topic_says_something(topic: str, body: object, metadata: object) -> None:
    """Nothing is raised, and what is ignored is ignored whole."""
    said = read(json.dumps({"topicName": topic, "eventBody": body, "metadata": metadata}))
    assert len(said) == 1 or not any(isinstance(one, Ignored) for one in said)


def test_the_combined_topic_counts_as_one() -> None:
    """The API allows 200 characters; an id is a UUID."""
    topic = combined_topic(AGENT)
    assert f"v2.users.{AGENT}?presence&routingStatus&conversationsummary&station" == topic
    assert len(topic) <= 200
    assert f"v2.users.{AGENT}.conversations.calls" == calls_topic(AGENT)


def test_shards_give_each_agent_one_place() -> None:
    """In order, without repeats; what fits nowhere is named."""
    plan = shards(["a", "b", "a", "c", "d", "e"], per_channel=2, channels=2)
    assert (("a", "b"), ("c", "d")) == plan.channels
    assert ("e",) == plan.remainder


def test_shards_make_no_empty_channel() -> None:
    """Nobody to follow needs no channel."""
    assert shards([]).channels == ()
    assert (("a",),) == shards(["a"]).channels


def test_shards_leave_a_channel_for_renewal() -> None:
    """With all channels in use, renewing one would evict another one."""
    agents = [str(number) for number in range(25_000)]
    plan = shards(agents)
    assert CHANNELS - 1 == len(plan.channels)
    assert {TOPICS_PER_CHANNEL} == {len(shard) for shard in plan.channels}
    assert agents == [*(agent for shard in plan.channels for agent in shard), *plan.remainder]


def test_rejected_topics_are_named_with_their_reason() -> None:
    """Permitted ones aren't, and a missing reason is empty."""
    answer = {
        "entities": [
            {"id": "v2.users.a.presence", "state": "Permitted"},
            {"id": "v2.users.b.presence", "state": "Rejected", "rejectionReason": "no permission"},
            {"id": "v2.users.c.presence", "state": "Rejected"},
        ]
    }
    assert (("v2.users.b.presence", "no permission"), ("v2.users.c.presence", "")) == rejected(answer)


@given(ANY_JSON | st.fixed_dictionaries({"entities": st.lists(ANY_JSON)}))
def test_rejected_takes_any_json(answer: object) -> None:
    """Nothing is raised."""
    assert all(len(one) == 2 for one in rejected(answer))
