"""What can be made to go wrong with reads and notifications, as one value, and what can be made to happen at once.

`Disturbances` last until they are changed; a `Strike` happens once, to the sockets and tokens that there are. Calls are
never disturbed: their own faults are in `faults` and `Behaviour`. All chance comes from the organisation's seed.
"""

from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields, replace
from enum import Enum, StrEnum
from types import MappingProxyType
from typing import Any, Final, TypeGuard, cast

from call_initiation.errors import CallInitiationError


class Kind(Enum):
    """What a disturbance's value may be; the value says so in words."""

    SHARE = "a number from 0 to 1"
    SECONDS = "a number of seconds, from 0 to a year"
    OFFSET = "a number of seconds, a year at most"
    SWITCH = "true or false"
    USERS = "a list of user ids"
    MEMBERS = "an object of lists of user ids, by the id of a queue or group"

    def fits(self, value: object) -> bool:
        """Say whether a JSON value is of this kind."""
        match self:
            case Kind.SWITCH:
                return isinstance(value, bool)
            case Kind.USERS:
                return _is_ids(value)
            case Kind.MEMBERS:
                return isinstance(value, dict) and all(map(_is_ids, cast("dict[str, object]", value).values()))
            case _:
                return _is_number(value) and _LEAST[self] <= value <= _MOST[self]


_YEAR: Final = 31_536_000.0
"""Seconds; a clock that is further ahead could show times that no calendar has."""

_LEAST: Final = {Kind.SHARE: 0.0, Kind.SECONDS: 0.0, Kind.OFFSET: -_YEAR}
_MOST: Final = {Kind.SHARE: 1.0, Kind.SECONDS: _YEAR, Kind.OFFSET: _YEAR}


class Strike(StrEnum):
    """What happens once, to all that is there at the moment."""

    DROP = "drop"
    HALF_OPEN = "half_open"
    GARBAGE = "garbage"
    HUGE = "huge"
    CLOSING = "closing"
    EVICT = "evict"
    REVOKE = "revoke"


STRIKES: Final[Mapping[Strike, str]] = MappingProxyType(
    {
        Strike.DROP: "cuts every socket, without a closing handshake",
        Strike.HALF_OPEN: "sends nothing more on any open socket, ever, and leaves it open",
        Strike.GARBAGE: "sends each socket one frame of garbage",
        Strike.HUGE: "sends each socket one frame of ten million characters",
        Strike.CLOSING: "tells each socket v2.system.socket_closing, and closes it after the notice",
        Strike.EVICT: "tells each socket v2.system.no_longer_subscribed, closes it and forgets its channel",
        Strike.REVOKE: "voids clients' tokens, tells each socket v2.system.token_revoked, closes it after the notice",
    }
)
"""What each strike does."""


def _lasting(default: Any, kind: Kind, effect: str) -> Any:
    return field(default=default, metadata={"kind": kind, "effect": effect})


@dataclass(frozen=True, slots=True, kw_only=True)
class Disturbances:
    """What is disturbed; nothing unless told.

    Each field's metadata has its `effect` in words and the `kind` of its value; the help page shows both.
    """

    duplicates: float = _lasting(0.0, Kind.SHARE, "share of events that come twice, within 150 ms")
    reordering: float = _lasting(
        0.0, Kind.SECONDS, "each event waits for a time drawn from 0 to this, and is overtaken"
    )
    lag: float = _lasting(0.0, Kind.SECONDS, "events come so much later")
    silent: bool = _lasting(default=False, kind=Kind.SWITCH, effect="sockets live and beat, but deliver no event")
    drops: float = _lasting(0.0, Kind.SHARE, "share of events in whose stead the socket is cut")
    half_opens: float = _lasting(
        0.0, Kind.SHARE, "share of events from which on the socket stays open and says nothing"
    )
    garbage: float = _lasting(0.0, Kind.SHARE, "share of frames before which garbage is sent")
    huge: float = _lasting(0.0, Kind.SHARE, "share of frames before which one of ten million characters is sent")
    down: bool = _lasting(default=False, kind=Kind.SWITCH, effect="no socket can be opened: 503")
    forbidden: bool = _lasting(default=False, kind=Kind.SWITCH, effect="every request about channels is a 403")
    unauthorized: bool = _lasting(default=False, kind=Kind.SWITCH, effect="every read is a 401, whatever the token")
    retry_after: float = _lasting(0.0, Kind.SECONDS, "every read is a 429 with so many seconds of Retry-After")
    skew: float = _lasting(0.0, Kind.OFFSET, "the server's clock (Date, all stamps) is so much ahead, and always was")
    deleted: tuple[str, ...] = _lasting((), Kind.USERS, "deleted users: no state, no events, no calls on their behalf")
    members: Mapping[str, tuple[str, ...]] = field(
        default_factory=dict[str, tuple[str, ...]],
        metadata={
            "kind": Kind.MEMBERS,
            "effect": "who belongs to these queues and groups; the others are as they began",
        },
    )
    unknown_presence: float = _lasting(0.0, Kind.SHARE, "share of presences that no documentation knows")


CALM_LINES: Final = Disturbances()
"""Nothing is disturbed."""

FIELDS: Final[Mapping[str, Field[Any]]] = MappingProxyType({one.name: one for one in fields(Disturbances)})
"""The disturbances by name."""


@dataclass(eq=False)
class DisturbanceError(CallInitiationError):
    """A disturbance that can't be had: where, what was found, what was expected."""

    name: str
    found: str
    expected: str

    def __str__(self) -> str:
        """Give the one sentence that helps."""
        return f"{self.name}: found {self.found}, expected {self.expected}"


def ordered(current: Disturbances, wish: object) -> tuple[Disturbances, Strike | None]:
    """Return what a wish makes of the present disturbances, and the strike that it asks for.

    Args:
        current: What is disturbed now; what the wish doesn't name stays.
        wish: A JSON object of disturbances by name, and perhaps a `strike`.

    Raises:
        DisturbanceError: It isn't one, and nothing is changed.
    """
    if not isinstance(wish, dict):
        raise DisturbanceError("body", _shown(wish), "a JSON object")
    wanted = dict(cast("dict[str, object]", wish))
    strike = _strike(wanted.pop("strike")) if "strike" in wanted else None
    return replace(current, **{name: _value(name, value) for name, value in wanted.items()}), strike


def _strike(value: object) -> Strike:
    if value not in list(Strike):
        raise DisturbanceError("strike", _shown(value), f"one of {', '.join(Strike)}")
    return Strike(str(value))


def _value(name: str, value: object) -> Any:
    if name not in FIELDS:
        raise DisturbanceError("body", _shown(name), f"one of {', '.join(FIELDS)}, strike")
    kind: Kind = FIELDS[name].metadata["kind"]
    if not kind.fits(value):
        raise DisturbanceError(name, _shown(value), kind.value)
    match kind:
        case Kind.USERS:
            return tuple(cast("list[str]", value))
        case Kind.MEMBERS:
            return {team: tuple(ids) for team, ids in cast("dict[str, list[str]]", value).items()}
        case _:
            return value


def _shown(value: object) -> str:
    return repr(value)[:80]


def _is_ids(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in cast("list[object]", value))


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
