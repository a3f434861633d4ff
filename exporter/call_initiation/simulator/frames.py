"""What the pretend organisation says on a notification socket: changes, notices and garbage, as the text of frames.

A frame of an event is `{topicName, version, eventBody, metadata: {CorrelationId}}`; bodies are those of the SDK's
models. Presences and routing statuses carry the server's time of the change; conversation summaries and stations carry
none (SDK models `UserConversationsEventUserConversationSummary`, `UserStationChangeTopicUserStations`). A call carries
the times of its participants (`ConversationCallEventTopicCallConversation`, `…CallMediaParticipant`).
The sentences of notices are made up here.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, Final

from call_initiation.events import Presence
from call_initiation.simulator.disturbances import CALM_LINES, Disturbances
from call_initiation.simulator.exchange import made_up_id, stream
from call_initiation.simulator.faults import encode
from call_initiation.simulator.staff import Call, OrgChange, Part
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
        self._seed = seed

    def frames(self, change: OrgChange, name: str, disturbances: Disturbances = CALM_LINES) -> list[str]:
        """Return what is said of a change under one of its topics: one frame, or the two with which a leg ends."""
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
                return _conversations(change, disturbances.skew, self._seed)

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


def _conversations(change: OrgChange, skew: float, seed: int) -> list[Json]:
    """Return a conversation as it is now; where the agent's leg has just ended, once more as the customer's has too."""
    call = change.call or Call(id="")
    drawn = stream(seed, "conversation", call.id)
    agents = {"id": made_up_id(drawn)} | _agents_leg(call, change.agent_id, skew)
    number = f"tel:+3319900{drawn.randrange(10_000):04d}"
    customers: Json = {"id": made_up_id(drawn), "purpose": "customer", "address": number}
    on: Json = {"state": "contacting" if call.error_code else "connected"}
    over = _times(skew, endTime=call.ended) | {"state": "terminated"}
    ends = [over] if call.wrap_up_ended else [on] if call.ended is None else [on, over]
    return [{"id": call.id, "participants": [agents, customers | end]} for end in ends]


def _agents_leg(call: Call, agent_id: str, skew: float) -> Json:
    is_failed = call.ended is not None and call.error_code is not None
    failed: Json = {"errorInfo": {"code": call.error_code, "message": "The leg failed."}} if is_failed else {}
    leg: Json = {
        "purpose": "agent",
        "user": {"id": agent_id},
        "state": "connected" if call.ended is None else "terminated",
        "wrapupRequired": call.wrap_up_began is not None,
    }
    work = _times(skew, startAcwTime=call.wrap_up_began, endAcwTime=call.wrap_up_ended)
    return leg | _times(skew, startTime=call.began, connectedTime=call.began, endTime=call.ended) | work | failed


def _times(skew: float, **times: float | None) -> Json:
    """Return what has come already, as the server's clock shows it."""
    return {name: timestamp(at + skew) for name, at in times.items() if at is not None}
