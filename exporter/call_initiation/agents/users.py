"""What the API's JSON says of an agent's state, wherever it stands: in an answer to a read or in a notification.

Both doors show the same few objects (a presence, a routing status, a conversation summary, stations, an
out-of-office), so their shapes are known here and nowhere else. Laws:

* Total: any JSON value is taken, and nothing is raised.
* An object that isn't there says nothing; one that is there but can't be read says that its part is unknown.
* Each part has its own server time, and says None where the API gives it none; no time is ever made up.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, cast

from call_initiation.events import AgentState, Presence, RoutingStatus, StateSource

JsonObject = Mapping[str, object]

UUID: Final = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")

MOST_CALLS: Final = 1000
"""Calls of one agent; more is no number of calls, and might be more than an integer of 64 bits holds."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_OTHER_STATIONS: Final = frozenset({"defaultStation", "lastAssociatedStation"})
_SIDES: Final = ("contactCenter", "enterprise")


class Part(StrEnum):
    """One part of an agent's state; each changes, and is stamped, on its own."""

    PRESENCE = "presence"
    ROUTING_STATUS = "routing_status"
    CONVERSATIONS = "conversations"
    STATION = "station"
    OUT_OF_OFFICE = "out_of_office"


@dataclass(frozen=True, slots=True)
class Update:
    """One part of one agent's state.

    Attributes:
        part: Which part is spoken of; see `is_whole`.
        state: That part alone; nothing is said of the other fields.
        at: Server time of the change, seconds since the epoch; None where the API gives none.
    """

    part: Part
    state: AgentState
    at: float | None

    @property
    def is_whole(self) -> bool:
        """Whether the part is known: if it isn't, what was known of it before holds no longer."""
        return all(getattr(self.state, field) is not None for field in _FIELDS[self.part])


_FIELDS: Final = {
    Part.PRESENCE: ("presence",),
    Part.ROUTING_STATUS: ("routing_status",),
    Part.CONVERSATIONS: ("on_call", "wrap_up"),
    Part.STATION: ("station",),
    Part.OUT_OF_OFFICE: ("out_of_office",),
}


def epoch(value: object) -> float | None:
    """Return the seconds since the epoch that ISO 8601 text with a time of day means, or None for anything else.

    Text without an offset is taken as UTC, which is what the API means by it.
    """
    if not isinstance(value, str) or "T" not in value:
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH).total_seconds()


def as_object(value: object) -> JsonObject:
    """Return `value` if it is a JSON object, and an empty one if it isn't."""
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}


def as_array(value: object) -> list[object]:
    """Return `value` if it is a JSON array, and an empty one if it isn't."""
    return cast("list[object]", value) if isinstance(value, list) else []


def as_text(value: object) -> str | None:
    """Return `value` if it is text that isn't empty, and None if it isn't."""
    return value if isinstance(value, str) and value else None


def user_id(text: str) -> str:
    """Return an agent's id as the API writes it, so that an agent is the same however a dialer writes it.

    The API's ids are UUIDs in lower case; RFC 9562, section 4, has both cases mean the same. Nothing else is changed.
    """
    return text.lower() if UUID.fullmatch(text) else text


def presence(value: object, source: StateSource) -> tuple[Update, ...]:
    """Read a presence (SDK model `UserPresence`): the system presence counts, never a secondary one's label."""
    shown = as_object(value)
    if "presenceDefinition" not in shown:
        return ()
    system = Presence.spelled(as_object(shown["presenceDefinition"]).get("systemPresence"))
    return _update(Part.PRESENCE, source, epoch(shown.get("modifiedDate")), presence=system)


def routing_status(value: object, source: StateSource) -> tuple[Update, ...]:
    """Read a routing status (SDK model `RoutingStatus`)."""
    shown = as_object(value)
    if "status" not in shown:
        return ()
    status = RoutingStatus.spelled(shown["status"])
    return _update(Part.ROUTING_STATUS, source, epoch(shown.get("startTime")), routing_status=status)


def conversation_summary(value: object, source: StateSource) -> tuple[Update, ...]:
    """Read a conversation summary (SDK model `UserConversationSummary`), which carries no time.

    Only calls make an agent be on a call: a callback is in hand before its call is placed, and that call must not be
    shown as placed by someone who was talking already. After-call work follows a call and a callback alike; whether
    the API counts the call of a callback under both is not known, so more than one means no more than one or more.
    """
    summary = as_object(value)
    if not summary.keys() & {"call", "callback"}:
        return ()
    on_call = _count(summary, ("call",), "active")
    wrap_up = _count(summary, ("call", "callback"), "acw")
    return _update(Part.CONVERSATIONS, source, None, on_call=on_call, wrap_up=wrap_up)


def stations(value: object, source: StateSource) -> tuple[Update, ...]:
    """Read an agent's stations (SDK models `UserStations`, `UserStationChangeTopicUserStations`).

    A read shows the effective station, or others without it where there is none. A notification shows the associated
    one only: where there is one it is the effective one, and where there is none a default station may still be, so
    the part is unknown until the next read.
    """
    shown = as_object(value)
    named = next((name for name in ("effectiveStation", "associatedStation") if name in shown), None)
    if named is None:
        return _update(Part.STATION, source, None, station="") if shown.keys() & _OTHER_STATIONS else ()
    station = as_object(shown[named])
    is_none = named == "effectiveStation" and shown[named] is None
    at = epoch(station.get("associatedDate"))
    return _update(Part.STATION, source, at, station="" if is_none else as_text(station.get("id")))


def out_of_office(value: object, source: StateSource) -> tuple[Update, ...]:
    """Read an out-of-office (SDK model `OutOfOffice`); its start and end are plans, not times of a change."""
    shown = as_object(value)
    if "active" not in shown:
        return ()
    active = shown["active"] if isinstance(shown["active"], bool) else None
    return _update(Part.OUT_OF_OFFICE, source, epoch(shown.get("modifiedDate")), out_of_office=active)


def activity(value: object, source: StateSource) -> tuple[Update, ...]:
    """Read presence, routing status and out-of-office in one (SDK model `AgentActivityChangedTopicAgentActivity`)."""
    shown = as_object(value)
    return (
        *presence(shown.get("presence"), source),
        *routing_status(shown.get("routingStatus"), source),
        *out_of_office(shown.get("outOfOffice"), source),
    )


def user_state(body: object) -> tuple[Update, ...]:
    """Read all that a user (SDK model `User`) with its expansions shows of its state; a deleted one is unknown.

    Expansions are best effort on the server's side: one that is missing says nothing.
    """
    user = as_object(body)
    if user.get("state") == "deleted":
        return tuple(Update(part, AgentState(source=StateSource.REST), None) for part in Part)
    return (
        *activity(user, StateSource.REST),
        *conversation_summary(user.get("conversationSummary"), StateSource.REST),
        *stations(user.get("station"), StateSource.REST),
    )


def _update(part: Part, source: StateSource, at: float | None, **fields: Any) -> tuple[Update, ...]:
    return (Update(part, AgentState(since=at, source=source, **fields), at),)


def _count(summary: JsonObject, media: tuple[str, ...], field: str) -> int | None:
    """Add up what is given; a count that is missing beside others is none, and one that can't be read spoils all."""
    sides = [as_object(as_object(summary.get(medium)).get(side)) for medium in media for side in _SIDES]
    counts = [side[field] for side in sides if side.get(field) is not None]
    whole = [
        count for count in counts if isinstance(count, int) and not isinstance(count, bool) and 0 <= count <= MOST_CALLS
    ]
    return sum(whole) if whole and len(whole) == len(counts) else None
