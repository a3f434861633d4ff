"""What the pretend organisation says on a notification socket: changes, notices and garbage, as the text of frames.

A frame of an event is `{topicName, version, eventBody, metadata: {CorrelationId}}`; bodies are those of the SDK's
models. Presences and routing statuses carry the server's time of the change; conversation summaries and stations carry
none (SDK models `UserConversationsEventUserConversationSummary`, `UserStationChangeTopicUserStations`).
The sentences of notices are made up here.
"""

import random
from collections.abc import Callable
from functools import cache
from typing import Any, Final

from call_initiation.events import Presence
from call_initiation.simulator.disturbances import CALM_LINES, Disturbances
from call_initiation.simulator.exchange import made_up_id, stream
from call_initiation.simulator.faults import encode
from call_initiation.simulator.staff import OrgChange, Part
from call_initiation.simulator.views import MEDIA, timestamp

Json = dict[str, Any]
Frame = str | bytes

PONG: Final = '{"message":"pong"}'

HEARTBEAT: Final = '{"topicName":"channel.metadata","eventBody":{"message":"WebSocket Heartbeat"}}'

GARBAGE: Final[tuple[Frame, ...]] = (
    "",
    "<html><body><h1>502 Bad Gateway</h1></body></html>",
    '{"topicName":"v2.users.',
    "[" * 100_000,
    "1" * 5_000,
    "null",
    '{"topicName":["v2.users"],"eventBody":7}',
    '{"topicName":"v2.users.0.presence","eventBody":"\\ud800"}',
    '{"topicName":"v2.unheard.of","eventBody":{}}',
    b"\xff\xfe\x00{",
)
"""Frames that mean nothing: no JSON, too deep, other JSON, no text."""

TOLD: Final = {
    Part.PRESENCE: ("presence", "activity"),
    Part.ROUTING_STATUS: ("routingStatus", "activity"),
    Part.CONVERSATION_SUMMARY: ("conversationsummary",),
    Part.STATION: ("station",),
    Part.CALLS: ("conversations.calls",),
}
"""Under which topics, each after `v2.users.{id}.`, a change is told."""

_HUGE: Final = 10_000_000

_SPELLINGS: Final[tuple[Callable[[str], str], ...]] = (
    str,
    lambda name: name.replace("_", " ").title(),
    lambda name: name.replace("_", " ").title().replace(" ", ""),
    str.lower,
)
"""As channels spell them: ON_QUEUE, On Queue, OnQueue, on_queue."""

_UNHEARD_OF: Final = "SABBATICAL"


@cache
def huge() -> str:
    """Return a frame of ten million characters."""
    start = '{"topicName":"v2.users.0.presence","eventBody":{"padding":"'
    return f"{start}{'x' * (_HUGE - len(start) - 3)}" + '"}}'


def notice(topic: str, message: str) -> str:
    """Return a frame of the system's own."""
    return encode({"topicName": topic, "version": "2", "eventBody": {"message": message}}).decode()


class Voice:
    """Puts changes into frames, with what a seed makes differ between them."""

    def __init__(self, seed: int) -> None:
        self._random = stream(seed, "frames")

    def frames(self, change: OrgChange, name: str, disturbances: Disturbances = CALM_LINES) -> list[str]:
        """Return what is said of a change under one of its topics: one frame, or the two with which a call ends."""
        return [self._frame(change, name, body) for body in self._bodies(change, name, disturbances)]

    def _frame(self, change: OrgChange, name: str, body: Json) -> str:
        frame = {
            "topicName": f"v2.users.{change.agent_id}.{name}",
            "version": "2",
            "eventBody": body,
            "metadata": {"CorrelationId": made_up_id(self._random)},
        }
        return encode(frame).decode()

    def _bodies(self, change: OrgChange, name: str, disturbances: Disturbances) -> list[Json]:
        match name:
            case "presence":
                return [self._presence(change, disturbances)]
            case "routingStatus":
                return [{"id": change.agent_id, "routingStatus": _routing_status(change, disturbances.skew)}]
            case "activity":
                return [self._activity(change, disturbances)]
            case "conversationsummary":
                return [_conversation_summary(change)]
            case "station":
                return [_stations(change)]
            case _:
                return _ending_call(change, disturbances.skew, self._random)

    def _presence(self, change: OrgChange, disturbances: Disturbances) -> Json:
        presence = (change.state.presence or Presence.OFFLINE).value
        is_known = self._random.random() >= disturbances.unknown_presence
        spelled = self._random.choice(_SPELLINGS)(presence if is_known else _UNHEARD_OF)
        return {
            "source": "PURECLOUD",
            "presenceDefinition": {"id": f"presence-{presence.lower()}", "systemPresence": spelled},
            "primary": True,
            "message": "",
            "modifiedDate": timestamp(change.presence_since + disturbances.skew),
        }

    def _activity(self, change: OrgChange, disturbances: Disturbances) -> Json:
        return {
            "id": change.agent_id,
            "presence": self._presence(change, disturbances),
            "routingStatus": _routing_status(change, disturbances.skew),
            "activeQueueIds": [],
        }


def _routing_status(change: OrgChange, skew: float) -> Json:
    status = change.state.routing_status
    return {
        "userId": change.agent_id,
        "status": status and status.value,
        "startTime": timestamp(change.routing_since + skew),
    }


def _conversation_summary(change: OrgChange) -> Json:
    none = {"active": 0, "acw": 0}
    calls = {"active": change.state.on_call, "acw": change.state.wrap_up}
    media: Json = {medium: {"contactCenter": none, "enterprise": none} for medium in MEDIA}
    return {"userId": change.agent_id} | media | {"call": {"contactCenter": calls, "enterprise": none}}


def _stations(change: OrgChange) -> Json:
    if not change.state.station:
        return {"associatedStation": None}
    return {"associatedStation": {"id": change.state.station, "associatedUser": {"id": change.agent_id}}}


def _ending_call(change: OrgChange, skew: float, source: random.Random) -> list[Json]:
    """Return a conversation twice: when the agent's leg is over, and when the customer's is too."""
    agent, customer = made_up_id(source), made_up_id(source)
    number = f"tel:+3319900{source.randrange(10_000):04d}"
    over: Json = {"state": "terminated", "endTime": timestamp(change.at + skew)}
    failed: Json = {"errorInfo": {"code": change.error_code, "message": "The leg failed."}} if change.error_code else {}
    agents: Json = {"id": agent, "purpose": "agent", "user": {"id": change.agent_id}} | over | failed
    customers: Json = {"id": customer, "purpose": "customer", "address": number}
    return [
        {"id": change.conversation_id, "participants": [agents, customers | end]}
        for end in ({"state": "contacting"}, over)
    ]
