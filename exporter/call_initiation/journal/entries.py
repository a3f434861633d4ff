"""What a journal says of a call: an `Attempt` as ASCII JSON, and back.

Names are the dataclasses' own, and a part that has its default is left out: so an entry is short, can be read by eye,
and is understood by a later version that knows more parts. What is written is what would be exported: masked, and
folded.

Laws: reading gives back what was written, exactly; whatever else is read gives an `Attempt` of the right types or
None, and nothing raises.
"""

from collections.abc import Callable
from dataclasses import fields
from json import JSONEncoder
from typing import Any, Final, cast

from call_initiation import nesting
from call_initiation.events import (
    AgentAtSend,
    AgentIdSource,
    AgentState,
    Attempt,
    BodyState,
    Category,
    Certainty,
    Outcome,
    PayloadShape,
    Presence,
    Refusal,
    RoutingStatus,
    SpanIds,
    StateLabel,
    StateSource,
)

_Check = Callable[[Any], Any]


def entry(attempt: Attempt) -> bytes:
    """Return what a journal says of a call: ASCII."""
    return _ENCODER.encode(attempt).encode("ascii")


def attempt(said: bytes) -> Attempt | None:
    """Return the call that an entry tells of, or None where it tells of none."""
    try:
        return cast("Attempt", _read(Attempt, nesting.loads(said)))
    except (ValueError, TypeError):
        return None


def _told(thing: Any) -> dict[str, Any]:
    """Return the parts of a dataclass that aren't its defaults."""
    return {
        name: value for name, default in _DEFAULTS[type(thing)].items() if (value := getattr(thing, name)) != default
    }


def _read(kind: type[Any], said: Any) -> Any:
    """Make a dataclass of what is said of it; parts that this version doesn't know are passed over.

    Raises:
        ValueError: A part isn't of its type.
        TypeError: A part is missing, or nothing of the kind is said.
    """
    given = _of(dict)(said)
    return kind(**{name: check(given[name]) for name, check in _CHECKS[kind].items() if name in given})


def _of(kind: type[Any]) -> _Check:
    """Return a check that lets only this very type pass: a bool is no number."""

    def checked(value: Any) -> Any:
        if type(value) is not kind:
            raise ValueError(kind)
        return value

    return checked


def _text(value: Any) -> str:
    """Let a text pass that can be sent; a lone surrogate can't."""
    text: str = _of(str)(value)
    text.encode()
    return text


def _below(limit: int) -> _Check:
    """Return a check that lets whole numbers from 0 to before a limit pass."""

    def checked(value: Any) -> int:
        if not 0 <= (number := int(_of(int)(value))) < limit:
            raise ValueError(limit)
        return number

    return checked


def _seconds(value: Any) -> float:
    """Let a length of time, or a time since the epoch, pass that nanoseconds can be made of."""
    seconds = value if type(value) is int else _of(float)(value)
    if not abs(seconds) < _MAX_SECONDS:
        raise ValueError(_MAX_SECONDS)
    return float(seconds)


def _or_none(check: _Check) -> _Check:
    return lambda value: None if value is None else check(value)


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(map(_text, _of(list)(value)))


def _part(kind: type[Any]) -> _Check:
    return lambda value: _read(kind, value)


_MAX_SECONDS: Final = 9e9  # their nanoseconds have 63 bits
_count, _nanoseconds, _id64, _id128 = _below(2**31), _below(2**63), _below(2**64), _below(2**128)
_flag = _of(bool)

_CHECKS: Final[dict[type[Any], dict[str, _Check]]] = {
    Attempt: {
        "endpoint": _text,
        "server_address": _text,
        "server_port": _count,
        "started_at": _nanoseconds,
        "sent_at": _or_none(_nanoseconds),
        "duration": _seconds,
        "outcome": Outcome,
        "status_code": _or_none(_count),
        "error_type": _or_none(_text),
        "refusal": _or_none(_part(Refusal)),
        "body": _or_none(BodyState),
        "agent": _part(AgentAtSend),
        "payload_shape": PayloadShape,
        "findings": _texts,
        "suspected_duplicate": _flag,
        "span": _or_none(_part(SpanIds)),
    },
    Refusal: {
        "codes": _texts,
        "category": Category,
        "message": _or_none(_text),
        "correlation_id": _or_none(_text),
        "body": BodyState,
    },
    AgentAtSend: {
        "id": _or_none(_text),
        "id_source": AgentIdSource,
        "state": _part(AgentState),
        "label": StateLabel,
        "age": _or_none(_seconds),
    },
    AgentState: {
        "presence": _or_none(Presence),
        "routing_status": _or_none(RoutingStatus),
        "on_call": _or_none(_count),
        "wrap_up": _or_none(_count),
        "station": _or_none(_text),
        "out_of_office": _or_none(_flag),
        "since": _or_none(_seconds),
        "source": StateSource,
        "certainty": Certainty,
    },
    SpanIds: {
        "trace_id": _id128,
        "span_id": _id64,
        "parent_span_id": _or_none(_id64),
        "parent_is_remote": _flag,
        "sampled": _flag,
        "adopted": _flag,
        "trace_state": _text,
    },
}
"""The parts of each dataclass, and what each must be."""

_DEFAULTS: Final = {kind: {part.name: part.default for part in fields(kind)} for kind in _CHECKS}
_ENCODER: Final = JSONEncoder(default=_told, separators=(",", ":"))
