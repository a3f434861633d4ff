"""The notification protocol's words: which topics to subscribe to, and what a frame says.

Text in, typed notifications out; what a frame's body says of an agent is read by `users`. Laws:

* Any text is taken, and nothing is raised: what can't be understood becomes one `Ignored`.
* Order and repeats are nobody's concern here: each update carries its own server time, and agents are joined by that.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from call_initiation import nesting
from call_initiation.agents import legs, users
from call_initiation.events import StateSource

LARGEST_FRAME: Final = 1 << 20
"""Characters or bytes; a conversation with hundreds of participants stays below, and what is longer isn't parsed."""

TOPICS_PER_CHANNEL: Final = 1000
"""The API's limit."""

CHANNELS: Final = 20
"""The API's limit per user and application: one more evicts the one that was used longest ago."""

_METADATA: Final = ("channel.metadata", "")
_USER_TOPIC: Final = re.compile(r"v2\.users\.([^.?]+)\.(.+)", re.DOTALL)
_READERS: Final[Mapping[str, Callable[[object, StateSource], tuple[users.Update, ...]]]] = {
    "presence": users.presence,
    # Its body is an activity with a routing status only (SDK model `UserRoutingStatusUserRoutingStatus`).
    "routingStatus": users.activity,
    "conversationsummary": users.conversation_summary,
    "station": users.stations,
    "activity": users.activity,
    "outofoffice": users.out_of_office,
}


@dataclass(frozen=True, slots=True)
class Notified:
    """One part of an agent's state; a frame on `.activity` gives several.

    Attributes:
        topic: The topic's last part, such as `presence`.
        agent_id: The agent's user id.
        update: What is said.
        correlation_id: The API's own id of the event.
    """

    topic: str
    agent_id: str
    update: users.Update
    correlation_id: str | None


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The server says that the connection lives."""


@dataclass(frozen=True, slots=True)
class Pong:
    """The server answers our ping."""


@dataclass(frozen=True, slots=True)
class SocketClosing:
    """The server will close the socket in a minute."""


@dataclass(frozen=True, slots=True)
class TokenRevoked:
    """The token that made the channel is no longer good."""


@dataclass(frozen=True, slots=True)
class NoLongerSubscribed:
    """The server no longer keeps the channel's subscriptions."""

    topic: str


@dataclass(frozen=True, slots=True)
class LegTimes:
    """How far an agent's own leg of a call has come; each event of the conversation says it anew."""

    agent_id: str
    participant_id: str
    leg: legs.Leg


@dataclass(frozen=True, slots=True)
class AsyncFailure:
    """An agent's own leg of a call failed; equal ones are one failure, which a conversation's later events repeat.

    Attributes:
        agent_id: The agent's user id.
        conversation_id: The call's.
        error_code: The API's code, as it came.
        began: When the leg began, by the server's clock, in seconds since the epoch; None where it isn't told.
    """

    agent_id: str
    conversation_id: str
    error_code: str
    began: float | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Ignored:
    """Something that isn't understood: `oversized`, `not_json`, `malformed` or `unknown_topic`."""

    reason: str


Notification = (
    Notified | Heartbeat | Pong | SocketClosing | TokenRevoked | NoLongerSubscribed | LegTimes | AsyncFailure | Ignored
)


def combined_topic(agent_id: str) -> str:
    """Return the one topic that brings an agent's state whole: it counts as one, and the API allows 200 characters."""
    return f"v2.users.{agent_id}?presence&routingStatus&conversationsummary&station"


def calls_topic(agent_id: str) -> str:
    """Return the topic that brings an agent's calls: when they begin and end, and how a leg failed after a 202."""
    return f"v2.users.{agent_id}.conversations.calls"


@dataclass(frozen=True, slots=True)
class Plan:
    """Which agents are followed by which channel, and which by none.

    Attributes:
        channels: Agent ids, a tuple for each channel.
        remainder: Agent ids for which no channel is left: read them by REST.
    """

    channels: tuple[tuple[str, ...], ...]
    remainder: tuple[str, ...]


def shards(agent_ids: Iterable[str], per_channel: int = TOPICS_PER_CHANNEL, channels: int = CHANNELS - 1) -> Plan:
    """Share out agents to channels, each agent once, in the given order.

    One channel less than the API allows is planned with: renewing one needs a second one for a moment, and the API
    would evict another one of ours for it.
    """
    left = iter(dict.fromkeys(agent_ids))
    planned = tuple(tuple(islice(left, per_channel)) for _ in range(channels))
    return Plan(tuple(shard for shard in planned if shard), tuple(left))


def rejected(answer: object) -> tuple[tuple[str, str], ...]:
    """Return the topics that a subscription's answer rejects, each with the reason (SDK model `ChannelTopic`)."""
    topics = [users.as_object(topic) for topic in users.as_array(users.as_object(answer).get("entities"))]
    return tuple(
        (users.as_text(topic.get("id")) or "", users.as_text(topic.get("rejectionReason")) or "")
        for topic in topics
        if topic.get("state") == "Rejected"
    )


def read(text: str | bytes) -> tuple[Notification, ...]:
    """Return what a frame says: one `Ignored` if it isn't understood, nothing if it is and is of no concern."""
    if len(text) > LARGEST_FRAME:
        return (Ignored("oversized"),)
    try:
        frame: object = nesting.loads(text)
    except ValueError:  # bad UTF-8, bad JSON, integers of too many digits, depth
        return (Ignored("not_json"),)
    return _notifications(users.as_object(frame))


def _notifications(frame: users.JsonObject) -> tuple[Notification, ...]:
    topic, body = users.as_text(frame.get("topicName")) or "", users.as_object(frame.get("eventBody"))
    # A pong may be the whole frame, or come in the wrapping of a heartbeat: both are known from the field.
    if topic in _METADATA and "pong" in (frame.get("message"), body.get("message")):
        return (Pong(),)
    if topic.startswith("v2.users."):
        return _user_notifications(topic, body, users.as_object(frame.get("metadata")))
    return (_system_notification(topic),)


def _system_notification(topic: str) -> Notification:
    if topic == "channel.metadata":
        return Heartbeat()
    if topic == "v2.system.socket_closing":
        return SocketClosing()
    if topic.startswith("v2.system.token_revoked"):
        return TokenRevoked()
    if topic.startswith("v2.system.no_longer_subscribed"):
        return NoLongerSubscribed(topic)
    return Ignored("unknown_topic" if topic else "malformed")


def _user_notifications(topic: str, body: users.JsonObject, metadata: users.JsonObject) -> tuple[Notification, ...]:
    named = _USER_TOPIC.fullmatch(topic)
    agent_id, name = named.groups() if named else ("", "")
    if name == "conversations.calls":
        return (*_leg_times(agent_id, body), *_async_failures(agent_id, body))
    if name not in _READERS:
        return (Ignored("unknown_topic"),)
    updates = _READERS[name](body, StateSource.NOTIFICATION)
    correlation_id = users.as_text(metadata.get("CorrelationId"))
    return tuple(Notified(name, agent_id, update, correlation_id) for update in updates) or (Ignored("malformed"),)


def _leg_times(agent_id: str, conversation: users.JsonObject) -> Iterator[LegTimes]:
    for participant in map(users.as_object, users.as_array(conversation.get("participants"))):
        participant_id, leg = users.as_text(participant.get("id")), legs.leg(participant, agent_id)
        if participant_id and leg:
            yield LegTimes(agent_id, participant_id, leg)


def _async_failures(agent_id: str, conversation: users.JsonObject) -> Iterator[AsyncFailure]:
    """Find the failures of the agent's own leg; a customer who didn't answer is no failure of ours."""
    conversation_id = users.as_text(conversation.get("id"))
    for participant in map(users.as_object, users.as_array(conversation.get("participants"))):
        code = users.as_text(users.as_object(participant.get("errorInfo")).get("code"))
        is_agent = users.as_object(participant.get("user")).get("id") == agent_id
        if conversation_id and code and is_agent:
            yield AsyncFailure(agent_id, conversation_id, code, users.epoch(participant.get("startTime")))
