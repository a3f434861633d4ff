"""What is noted of a call while it is under way, so that a later process can tell of it should this one be killed.

Theory. A table is a row of slots of one size; the first one says when the process was last alive. A call takes a slot
before it is sent, and what is known by then is written there with a checksum. When the call ends without an acceptance,
the slot's beginning is written again, with how it ended; it has room for that from the start. Each is one write within
one page of memory, which no kill divides; where a disk divides one, its checksum doesn't hold: of such a beginning
nothing is told, and of such an end that it isn't known. Only what has been made fit to leave the process is noted, and
nothing of the request's body but the agent's id.

Laws: whatever bytes a table has, reading it raises nothing, and tells of no call whose part of the slot isn't whole; of
a call that had ended it never says that it was under way.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct
from typing import Final
from zlib import crc32

from call_initiation.calls.failures import Failure
from call_initiation.events import AgentIdSource, Outcome, SpanIds, TransportFailure

SLOT: Final = 512
"""Bytes of a slot: a page, of 4 KiB or more, holds whole ones."""

FREE: Final = 0
UNDER_WAY: Final = 1
ENDED: Final = 2
"""What a slot's first byte says."""

_OWN: Final = Struct(">QQ16sQQB")
_FACTS: Final = Struct(">H48s128s64s8s")
_BEGIN: Final = Struct(_OWN.format + _FACTS.format[1:])
_END: Final = Struct(">dH12s32s")
_CHECKSUM: Final = Struct(">I")
_ALIVE: Final = Struct(">Q")

_END_AT: Final = 1
_BEGIN_AT: Final = _END_AT + _CHECKSUM.size + _END.size
_UNDER_WAY: Final = bytes([UNDER_WAY]).ljust(_BEGIN_AT, b"\0")
_ENDED: Final = bytes([ENDED])

_HAS_SPAN, _HAS_PARENT, _IS_REMOTE, _IS_SAMPLED, _IS_ADOPTED = 1, 2, 4, 8, 16
_UNKNOWN_END: Final = Failure(Outcome.AMBIGUOUS, TransportFailure.OTHER)
_LONGEST: Final = 86_400.0
"""Seconds that a call may seem to have taken: where it is more, the clock was set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """What is known of a call before it is sent.

    Attributes:
        key: Names the call; it is not 0.
        started_at: Nanoseconds since the epoch.
        span: Its place in a trace; without its trace state.
        server_address: The host that the request is for.
        server_port: Its port.
        endpoint: The URL template.
        agent_id: Who places it, fit to leave the process; None where that isn't known.
        id_source: Who says so.
    """

    key: int
    started_at: int
    span: SpanIds | None
    server_address: str
    server_port: int
    endpoint: str
    agent_id: str | None
    id_source: AgentIdSource


@dataclass(frozen=True, slots=True)
class Ended:
    """How a call ended that was not accepted.

    Attributes:
        duration: Seconds from start to the answer's headers, or to the failure.
        status_code: The answer's status; None where there was none.
        failure: Why there was no answer.
    """

    duration: float
    status_code: int | None
    failure: Failure | None


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a process that is no more.

    Attributes:
        slot: Which slot it has.
        begun: How it began.
        end: How it ended; None where it was under way.
        lasted: Seconds from its beginning until its process was last seen alive.
    """

    slot: int
    begun: Begun
    end: Ended | None
    lasted: float


def facts(
    endpoint: str, server_address: str, server_port: int, agent_id: str | None, id_source: AgentIdSource
) -> bytes:
    """Return what many calls share of what is known before they are sent; texts that are too long are cut."""
    texts = (endpoint, server_address, agent_id or "", id_source)
    return _FACTS.pack(server_port, *(text.encode() for text in texts))


def begin(key: int, started_at: int, span: SpanIds | None, shared: bytes) -> bytes:
    """Return what is written at a slot's beginning, of which `shared` is made by `facts`."""
    if span is None:
        own = _OWN.pack(key, started_at, b"", 0, 0, 0)
    else:
        trace_id, parent = span.trace_id.to_bytes(16), span.parent_span_id or 0
        own = _OWN.pack(key, started_at, trace_id, span.span_id, parent, _flags(span))
    return _UNDER_WAY + _CHECKSUM.pack(crc32(shared, crc32(own))) + own + shared


def end(duration: float, status_code: int | None, failure: Failure | None) -> bytes:
    """Return what is written at a slot's beginning when its call has ended; the arguments are as in `Ended`."""
    outcome, kind = (failure.outcome.encode(), failure.kind.encode()) if failure else (b"", b"")
    fields = _END.pack(duration, status_code or 0, outcome, kind)
    return _ENDED + _CHECKSUM.pack(crc32(fields)) + fields


def alive(now: int) -> bytes:
    """Return what is written at the beginning of a table: that the process lives, in nanoseconds since the epoch."""
    return _ALIVE.pack(now)


def calls(table: bytes) -> Iterator[Call]:
    """Yield the calls that a table tells of; it may end within a slot, for nothing is written beyond what is noted."""
    (last,) = _ALIVE.unpack(table[: _ALIVE.size].ljust(_ALIVE.size, b"\0"))
    for slot in range(1, -(-len(table) // SLOT)):
        data = table[slot * SLOT : (slot + 1) * SLOT].ljust(SLOT, b"\0")
        begun = _begun(data) if data[0] in {UNDER_WAY, ENDED} else None
        if begun is not None:
            lasted = min(max(0.0, (last - begun.started_at) / 1e9), _LONGEST)
            ended = _ended(data) or Ended(lasted, None, _UNKNOWN_END) if data[0] == ENDED else None
            yield Call(slot, begun, ended, lasted)


def _flags(span: SpanIds) -> int:
    flags = _HAS_SPAN
    if span.parent_span_id is not None:
        flags |= _HAS_PARENT
    if span.parent_is_remote:
        flags |= _IS_REMOTE
    if span.sampled:
        flags |= _IS_SAMPLED
    if span.adopted:
        flags |= _IS_ADOPTED
    return flags


def _begun(slot: bytes) -> Begun | None:
    """Return how the call of a slot began, if that can be read."""
    fields = _checked(slot, _BEGIN_AT, _BEGIN)
    if fields is None:
        return None
    key, started_at, trace_id, span_id, parent, flags, port, endpoint, address, agent, source = _BEGIN.unpack(fields)
    try:
        id_source = AgentIdSource(_text(source))
    except ValueError:
        return None
    return Begun(
        key=key,
        started_at=started_at,
        span=_span(trace_id, span_id, parent, flags) if flags & _HAS_SPAN else None,
        server_address=_text(address),
        server_port=port,
        endpoint=_text(endpoint),
        agent_id=_text(agent) or None,
        id_source=id_source,
    )


def _span(trace_id: bytes, span_id: int, parent: int, flags: int) -> SpanIds:
    return SpanIds(
        trace_id=int.from_bytes(trace_id),
        span_id=span_id,
        parent_span_id=parent if flags & _HAS_PARENT else None,
        parent_is_remote=bool(flags & _IS_REMOTE),
        sampled=bool(flags & _IS_SAMPLED),
        adopted=bool(flags & _IS_ADOPTED),
    )


def _ended(slot: bytes) -> Ended | None:
    """Return how the call of a slot ended, if that can be read."""
    fields = _checked(slot, _END_AT, _END)
    if fields is None:
        return None
    duration, status_code, outcome, kind = _END.unpack(fields)
    try:
        failure = Failure(Outcome(_text(outcome)), TransportFailure(_text(kind))) if _text(kind) else None
    except ValueError:
        return None
    lasted = min(max(0.0, duration), _LONGEST)
    return Ended(lasted, status_code or None, failure) if failure or status_code else None


def _checked(slot: bytes, at: int, form: Struct) -> bytes | None:
    """Return what is written at a place of a slot, if its checksum holds."""
    (checksum,) = _CHECKSUM.unpack(slot[at : at + _CHECKSUM.size])
    fields = slot[at + _CHECKSUM.size :][: form.size]
    return fields if checksum == crc32(fields) else None


def _text(field: bytes) -> str:
    return field.rstrip(b"\0").decode(errors="replace")
