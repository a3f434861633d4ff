"""What the organisation says of its agents: the JSON of the SDK's models, built from an `Agent`.

Spellings differ by place as they do in the API: a user's presence reads `On Queue`, the bulk of presences `ON_QUEUE`.
`skew` is how far the server's clock is ahead, in seconds: all that is stamped shows it.
"""

from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from call_initiation.events import Presence
from call_initiation.simulator.staff import Agent

Json = dict[str, Any]

MEDIA: Final = ("call", "callback", "chat", "email", "message", "socialExpression", "video")


def timestamp(at: float) -> str:
    """Return a time as the API writes it: ISO 8601 in UTC with milliseconds."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _presence_of(agent: Agent, skew: float, spelled: Callable[[str], str]) -> Json:
    presence = agent.state.presence or Presence.OFFLINE
    return {
        "id": agent.id,
        "source": "PURECLOUD",
        "presenceDefinition": {"id": f"presence-{presence.value.lower()}", "systemPresence": spelled(presence.value)},
        "modifiedDate": timestamp(agent.presence_since + skew),
        "selfUri": f"/api/v2/users/{agent.id}/presences/PURECLOUD",
    }


def presence(agent: Agent, skew: float) -> Json:
    """Return a `UserPresence` as the bulk read gives it."""
    return _presence_of(agent, skew, str)


def _user_presence(agent: Agent, skew: float) -> Json:
    return _presence_of(agent, skew, lambda name: name.replace("_", " ").title())


def _routing_status(agent: Agent, skew: float) -> Json:
    status = agent.state.routing_status
    return {"userId": agent.id, "status": status and status.value, "startTime": timestamp(agent.routing_since + skew)}


def _conversation_summary(agent: Agent, _: float) -> Json:
    none = {"active": 0, "acw": 0}
    calls = {"active": agent.state.on_call, "acw": agent.state.wrap_up}
    media: Json = {medium: {"contactCenter": none, "enterprise": none} for medium in MEDIA}
    return media | {"userId": agent.id, "call": {"contactCenter": calls, "enterprise": none}}


def _station(agent: Agent, _: float) -> Json:
    station = {"id": agent.station_id, "name": f"Phone of {agent.name}", "type": "inin_webrtc_softphone"}
    here = {"associatedStation": station, "effectiveStation": station} if agent.state.station else {}
    return here | {"lastAssociatedStation": station}


def _out_of_office(agent: Agent, _: float) -> Json:
    return {"active": agent.state.out_of_office, "indefinite": False}


_EXPANSIONS: Final[dict[str, Callable[[Agent, float], Json]]] = {
    "presence": _user_presence,
    "routingStatus": _routing_status,
    "conversationSummary": _conversation_summary,
    "station": _station,
    "outOfOffice": _out_of_office,
}


def deleted_user(agent: Agent) -> Json:
    """Return a `User` who is deleted: who it was, and no state."""
    return {"id": agent.id, "name": agent.name, "state": "deleted", "selfUri": f"/api/v2/users/{agent.id}"}


def user(agent: Agent, expand: Collection[str], skew: float) -> Json:
    """Return a `User`, with the parts that `expand` names; names that it doesn't know are passed over."""
    parts = {name: view(agent, skew) for name, view in _EXPANSIONS.items() if name in expand}
    return {"id": agent.id, "name": agent.name, "state": "active"} | parts | {"selfUri": f"/api/v2/users/{agent.id}"}


def queue_member(agent: Agent, path: str, resting: Collection[str], skew: float) -> Json:
    """Return a `QueueMember`; `path` is that of the queue's members."""
    return {
        "id": agent.id,
        "name": agent.name,
        "user": user(agent, (), skew),
        "ringNumber": 1,
        "joined": agent.id not in resting,
        "memberBy": "user",
        "routingStatus": _routing_status(agent, skew),
        "selfUri": f"{path}/{agent.id}",
    }


def page(agents: Sequence[Agent], view: Callable[[Agent], Json], path: str, size: int, number: int) -> Json:
    """Return one page of an entity listing, and where the next one is; pages are counted from 1."""
    start = (number - 1) * size
    listing = {
        "entities": [view(agent) for agent in agents[start : start + size]],
        "pageSize": size,
        "pageNumber": number,
    }
    is_last = start + size >= len(agents)
    return listing if is_last else listing | {"nextUri": f"{path}?pageSize={size}&pageNumber={number + 1}"}


def counted(listing: Json, total: int) -> Json:
    """Return a listing that says how much there is in all, as a `UserEntityListing` does."""
    return listing | {"total": total, "pageCount": -(-total // listing["pageSize"])}
