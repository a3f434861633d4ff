"""Which requests start a call, who places it, and what its body says: read from the request alone.

Theory. Three templates of the Genesys Cloud API start a call, each with POST. A dialer may reach them through a gateway
of its own, so whatever stands before a template's first segment is somebody else's and is let pass; what stands behind
must fit exactly, and nothing but an id is percent-decoded.

Laws:

1. `match` runs on the caller's path for every request of a client: a miss costs one comparison and one search.
2. `payload` and `told` are total: whatever they are given, they answer; what is malformed is as if it weren't there.
3. The callee (`callUserId`) is never taken for the agent.
"""

import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, cast
from urllib.parse import unquote_to_bytes

from call_initiation.agents.users import MOST_CALLS, UUID, user_id
from call_initiation.calls import bodies
from call_initiation.calls.bodies import CALL_COMMAND, CREATE_CALL_REQUEST, UNREAD
from call_initiation.events import AgentIdSource, AgentState, Certainty, PayloadShape, Presence, RoutingStatus

CALLS: Final = "/api/v2/conversations/calls"
"""Places a call as the token's own user."""
CALLS_OF_USER: Final = "/api/v2/conversations/calls/user/{userId}"
"""Places a call on behalf of a user."""
CALL_OF_CONVERSATION: Final = "/api/v2/conversations/calls/{conversationId}"
"""Places the call of a callback."""

TEMPLATES: Final = (CALLS, CALLS_OF_USER, CALL_OF_CONVERSATION)
"""All that start a call, with POST."""

_PATH: Final = AgentIdSource.PATH
_CALLER: Final = AgentIdSource.CALLER
_TOKEN: Final = AgentIdSource.TOKEN
_BODY: Final = AgentIdSource.BODY
_NOBODY: Final = AgentIdSource.NONE

MAX_PAYLOAD: Final = bodies.MAX_BYTES
"""How many bytes of a request's body are read."""

_CALLS: Final = CALLS.encode()
_PORTS: Final = {"http": 80, "https": 443}
_MAX_ID: Final = 128  # characters; the API's ids have 36
_MAX_MOMENT: Final = 1e11  # seconds since the epoch: thousands of years
_MAX_DESTINATIONS: Final = 100
_MAX_NUMBERS: Final = 100


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One way to start a call, and the ids that stood in the path.

    Attributes:
        template: One of `TEMPLATES`.
        user_id: On whose behalf; None where the path names no user.
        conversation_id: For which callback; None where the path names none.
    """

    template: str
    user_id: str | None = None
    conversation_id: str | None = None


_PLAIN: Final = Endpoint(CALLS)


def match(method: str, raw_path: bytes) -> Endpoint | None:
    """Return which call start a request is, or None for any other request.

    Args:
        method: The request's method, in capitals as httpx has it.
        raw_path: Its target with the query string, as `httpx.URL.raw_path` has it.
    """
    if method != "POST":
        return None
    if raw_path == _CALLS:  # the usual case, and a comparison is cheaper than a search
        return _PLAIN
    return _endpoint(raw_path) if _CALLS in raw_path else None


@lru_cache(maxsize=1024)  # dialers call on behalf of the same few agents
def _endpoint(raw_path: bytes) -> Endpoint | None:
    """Return the endpoint that a path is, query and one trailing slash aside."""
    _, found, rest = raw_path.partition(b"?")[0].rpartition(_CALLS)
    if not found:
        return None
    match rest.removesuffix(b"/").split(b"/"):
        case [b""]:
            return _PLAIN
        case [b"", b"user", agent_id] if agent_id:
            return Endpoint(CALLS_OF_USER, user_id=_agent(_decoded(agent_id)))
        case [b"", conversation_id] if conversation_id not in {b"", b"user"}:
            return Endpoint(CALL_OF_CONVERSATION, conversation_id=_id(_decoded(conversation_id)))
        case _:
            return None


def _decoded(segment: bytes) -> str:
    """Return a path's segment as text, whatever its bytes."""
    return (unquote_to_bytes(segment) if b"%" in segment else segment).decode(errors="replace")


def _id(value: object) -> str | None:
    """Return what can be an id: printable text, not too long."""
    text = value.strip() if isinstance(value, str) else ""
    return text if 0 < len(text) <= _MAX_ID and text.isprintable() else None


def _agent(value: object) -> str | None:
    """Return what can be an agent's id, as the API would write it."""
    found = _id(value)
    return None if found is None else user_id(found)


@dataclass(slots=True)
class Payload:
    """What the body of a call start says.

    Attributes:
        shape: Which of the known bodies it is.
        agent_id: Who it says places the call: `from.agentId`, else `from.id`.
        destinations: Whom it calls, as written: numbers, addresses and ids; at most 100.
        numbers: Every text of it with six digits or more, which may be a phone number, so that answers that quote one
            can be scrubbed; at most 100.
        document: All of it.
        content: Its bytes; None where they couldn't be had.
    """

    shape: PayloadShape
    agent_id: str | None = None
    destinations: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    document: object = UNREAD
    content: bytes | None = field(default=None, compare=False, repr=False)


_UNREADABLE: Final = PayloadShape.UNREADABLE

_SHAPES: Final = (
    (PayloadShape.FROM_TO, frozenset({"from", "to"})),
    (PayloadShape.CALL_COMMAND, frozenset(CALL_COMMAND)),
    (PayloadShape.CREATE_CALL_REQUEST, frozenset(CREATE_CALL_REQUEST)),
)
"""What gives a shape away: any one of these properties; the first shape wins."""

_OF_MANY: Final = frozenset({"participants", "conversationIds", "to"})
"""Properties that name any number of destinations."""

_SIX_DIGITS: Final = re.compile(r"(?:\d\D*){6}")
_UUID_LENGTH: Final = 36


def payload(content: bytes | None) -> Payload:
    """Read the body of a call start; never raises.

    Args:
        content: The body's bytes, JSON in any of its encodings; None where it couldn't be had.
    """
    document = bodies.read(content)
    if document is UNREAD:
        return Payload(_UNREADABLE, content=content)
    fields = _object(document)
    agent_id = _agent_id(fields.get("from"))
    return Payload(_shape(fields), agent_id, _destinations(fields), _numbers(document), document, content)


# Plain loops, not generators, from here to `_leaves`: every call passes here, and they take half the time.


def _shape(fields: dict[str, Any]) -> PayloadShape:
    """Return the first shape that any property gives away."""
    for shape, properties in _SHAPES:
        if not properties.isdisjoint(fields):
            return shape
    return PayloadShape.OTHER


def _agent_id(caller: object) -> str | None:
    """Return who places a call, from the body's `from`."""
    return (_agent(_at(caller, "agentId")) or _agent(_at(caller, "id"))) if caller else None


def _destinations(fields: dict[str, Any]) -> tuple[str, ...]:
    """Return whom a body calls, as written, in whichever shape."""
    found = [fields[name] for name in ("phoneNumber", "callQueueId", "callUserId", "callNumber") if name in fields]
    if not _OF_MANY.isdisjoint(fields):
        for participant in _items(fields.get("participants")):
            found += [_at(participant, name) for name in ("address", "userId", "queueId")]
        found += _items(fields.get("conversationIds"))
        found += [_at(callee, "address", "phoneNumber") for callee in _items(fields.get("to"))]
    return tuple([one for one in found if isinstance(one, str) and one][:_MAX_DESTINATIONS])


def _numbers(document: object) -> tuple[str, ...]:
    """Return the texts that may hold a phone number, each once; an id of the API's isn't one."""
    found: dict[str, None] = {}
    for text in _leaves(document):
        if text.isalpha():  # as most names are
            continue
        if not (len(text) == _UUID_LENGTH and UUID.fullmatch(text)) and _SIX_DIGITS.search(text):
            found[text] = None
            if len(found) == _MAX_NUMBERS:
                break
    return tuple(found)


def _leaves(document: object) -> list[str]:
    """Return every text in a document, properties' names too, the outer ones first; no recursion: it may be deep."""
    found: list[str] = []
    waiting = [document]
    for one in waiting:
        if isinstance(one, str):
            found.append(one)
        elif isinstance(one, dict):
            found += one  # its properties' names
            waiting += one.values()
        else:
            waiting += _items(one)
    return found


def _at(value: object, *names: str) -> Any:
    """Return what stands at a path of properties, or None."""
    for name in names:
        value = _object(value).get(name)
    return value


def _object(value: object) -> dict[str, Any]:
    """Return an object's properties; none where `value` is something else."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _items(value: object) -> list[object]:
    """Return a list's items; none where `value` is something else."""
    return cast("list[object]", value) if isinstance(value, list) else []


def _count(value: object) -> int | None:
    """Return what can be a number of calls."""
    return int(value) if isinstance(value, int) and 0 <= value <= MOST_CALLS else None


def _station(value: object) -> str | None:
    """Return what can be a station's id; empty where the agent has none."""
    return "" if value == "" else _id(value)


def _flag(value: object) -> bool | None:
    """Return what is true or false."""
    return value if isinstance(value, bool) else None


def _moment(value: object) -> float | None:
    """Return what can be a time in seconds since the epoch: neither infinite nor too large for a float."""
    return float(value) if isinstance(value, (int, float)) and abs(value) <= _MAX_MOMENT else None


_CHECKS: Final[dict[str, Callable[[object], Any]]] = {
    "presence": Presence.spelled,
    "routing_status": RoutingStatus.spelled,
    "on_call": _count,
    "wrap_up": _count,
    "station": _station,
    "out_of_office": _flag,
}
"""The parts of a state, and how each is read: None for what can't be one."""


def told(extension: object) -> tuple[str | None, AgentState | None]:
    """Read what the dialer says of one call; never raises, and what is malformed is as if it weren't said.

    Args:
        extension: `{"agent_id": …, "agent_state": …}`; the state is an `AgentState`, or an object with the same names.

    Returns:
        The agent's id and its state, each None where it isn't said. The caller is the state's source.
    """
    said = _object(extension)
    agent_id, state = _agent(said.get("agent_id")), said.get("agent_state")
    if isinstance(state, AgentState):
        state = {name: getattr(state, name) for name in (*_CHECKS, "since", "certainty")}
    return agent_id, None if state is None else _state(_object(state))


def _state(said: dict[str, Any]) -> AgentState | None:
    """Return the state that the dialer says, or None where it says no part of one."""
    parts = {name: check(said.get(name)) for name, check in _CHECKS.items()}
    if all(part is None for part in parts.values()):
        return None
    certainty = said.get("certainty")
    return AgentState(
        **parts,
        since=_moment(said.get("since")),
        certainty=next((member for member in Certainty if member == certainty), Certainty.KNOWN),
    )


def agent(
    endpoint: Endpoint, said: str | None, token_user: str | None, body: Payload
) -> tuple[str | None, AgentIdSource]:
    """Return who places a call and which source says so, the most trusted one that says anything.

    Args:
        endpoint: What the path says.
        said: What the dialer says of this call.
        token_user: The user whom the request's token belongs to.
        body: What the body says; the documented bodies don't name the agent.
    """
    if endpoint.user_id:
        return endpoint.user_id, _PATH
    if said:
        return said, _CALLER
    if token_user:
        return token_user, _TOKEN
    return (body.agent_id, _BODY) if body.agent_id else (None, _NOBODY)


def port(scheme: str, named: int | None) -> int:
    """Return the port of a URL: the one that it names, else its scheme's own; 0 where there is none."""
    return named or _PORTS.get(scheme, 0)


class Duplicates:
    """Notices that the same thing is asked for again within moments; used by one thread."""

    def __init__(self, window: float = 10.0, limit: int = 10_000) -> None:
        """Remember at most `limit` keys, each for `window` seconds."""
        self._window = window
        self._limit = limit
        self._last: OrderedDict[str, float] = OrderedDict()

    def seen(self, key: str, at: float) -> bool:
        """Return whether `key` was last seen within the window around `at` (seconds), and remember that it is now."""
        last = self._last.pop(key, None)
        self._last[key] = at
        if len(self._last) > self._limit:
            self._last.popitem(last=False)
        return last is not None and abs(at - last) <= self._window
