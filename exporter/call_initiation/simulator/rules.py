"""What is asked of a request that starts a call, rule by rule, in the order in which they are asked.

A rule is a pure function from a `Case` to a `Finding`, or to None where it finds no fault. The first finding wins.
`DOCUMENTED_RULES` follow the official swagger and SDK; `THREAD_RULES` follow a community thread alone, and are here
because users of the exporter dial through gateways and test systems that were built after it. What the live API does
on `/calls/user/{userId}` with a client's token isn't known: here it is accepted. Nor is whose call it is where the
body's `from` names another than the token's user: the API documents that it is the user's own, and so it is here.
"""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, cast

from call_initiation import nesting
from call_initiation.simulator.exchange import MAX_REQUEST_BYTES, CallRequest, Endpoint
from call_initiation.simulator.faults import BAD_REQUEST, JSON, MISSING_FROM_TYPE, NOT_A_USER, Finding
from call_initiation.simulator.staff import Agent

_TEXTS: Final = (
    "phoneNumber",
    "callerId",
    "callerIdName",
    "callFromQueueId",
    "callQueueId",
    "callUserId",
    "languageId",
    "routingSkillExpression",
    "uuiData",
    "externalContactId",
    "label",
    "callNumber",
    "phoneColumn",
)
_LISTS: Final = ("routingSkillsIds", "conversationIds", "participants")
_TYPES: Final[dict[str, type]] = (
    dict.fromkeys(_TEXTS, str) | dict.fromkeys(_LISTS, list) | {"priority": int, "attributes": dict}
)
"""The fields of `CreateCallRequest` and `CallCommand` (SDK models) and what they hold."""

_DESTINATIONS: Final = ("phoneNumber", "callQueueId", "callUserId", "participants", "conversationIds")


@dataclass(frozen=True, slots=True)
class Grant:
    """What a request's `Authorization` is good for.

    Attributes:
        fault: The code of what is wrong with it; empty for nothing.
        user: Whose token it is; None for a client's, which has no user.
        holder: Under which name its requests are counted; empty where there is nobody.
    """

    fault: str = ""
    user: Agent | None = None
    holder: str = ""


@dataclass(frozen=True, slots=True)
class Case:
    """One request that starts a call, with all that the rules look at.

    Attributes:
        request: As it came.
        grant: What its token is good for.
        payload: Its body as JSON; None where it isn't any.
        agent: Who would place the call; None where nobody is named, or nobody who exists.
    """

    request: CallRequest
    grant: Grant
    payload: object
    agent: Agent | None

    @property
    def object(self) -> dict[str, Any]:
        """The payload where it is a JSON object; else an empty one."""
        return _object(self.payload)

    @property
    def is_from_to(self) -> bool:
        """Whether the payload has the thread's shape."""
        return "from" in self.object or "to" in self.object


def parsed(body: bytes) -> object:
    """Return the JSON value in `body`, or None where there is none."""
    try:
        return nesting.loads(body)
    except ValueError:
        return None


def from_agent_id(payload: object) -> str:
    """Return `from.agentId` of the thread's shape, else `from.id`; empty where there is neither."""
    caller = _object(_object(payload).get("from"))
    found = caller.get("agentId") or caller.get("id")
    return found if isinstance(found, str) else ""


def dialled(payload: object) -> str:
    """Return the number that a payload of any shape dials; empty where there is none."""
    fields = _object(payload)
    first = _object(next(iter(_list(fields.get("to"))), None))
    number = fields.get("phoneNumber") or fields.get("callNumber") or _object(first.get("address")).get("phoneNumber")
    return number if isinstance(number, str) else ""


def _object(value: object) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _list(value: object) -> list[object]:
    return cast("list[object]", value) if isinstance(value, list) else []


def _not_too_long(case: Case) -> Finding | None:
    if len(case.request.body) <= MAX_REQUEST_BYTES:
        return None
    return Finding("request.entity.too.large", {"limit": str(MAX_REQUEST_BYTES)})


def _of_json_type(case: Case) -> Finding | None:
    found = case.request.headers.get("content-type", "")
    return (
        None if found.partition(";")[0].strip().lower() == JSON else Finding("unsupported.media.type", {"type": found})
    )


def _with_user_context(case: Case) -> Finding | None:
    names_one = case.request.endpoint is Endpoint.ON_BEHALF or from_agent_id(case.payload)
    return None if names_one or case.grant.user else Finding(NOT_A_USER)


def _permitted(case: Case) -> Finding | None:
    if case.grant.user is None or case.grant.user.is_permitted:
        return None
    if case.request.endpoint is Endpoint.ON_BEHALF:
        names = "conversation:agentlessCall:add, conversation:call:add"
        return Finding("missing.any.permissions", {"permissions": names})
    return Finding("missing.permissions", {"permissions": "conversation:conference:add"})


def _of_something_there(case: Case) -> Finding | None:
    if case.request.endpoint is Endpoint.ON_BEHALF and case.agent is None:
        return Finding("not.found")
    if case.request.endpoint is Endpoint.CALLBACK and not _is_uuid(case.request.target):
        return Finding("resource.not.found", {"resource": "conversation"})
    return None


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False


def _an_object(case: Case) -> Finding | None:
    return None if isinstance(case.payload, dict) else Finding(BAD_REQUEST)


def _of_right_types(case: Case) -> Finding | None:
    for name, value in case.object.items():
        expected = _TYPES.get(name)
        if expected and value is not None and not _is_a(value, expected):
            found = type(value).__name__
            return Finding("invalid.value", {"value": found, "type": expected.__name__, "field": name}, name)
    return None


def _is_a(value: object, expected: type) -> bool:
    return isinstance(value, expected) and not isinstance(value, bool)


def _one_destination(case: Case) -> Finding | None:
    match _destinations(case):
        case 0:
            return Finding(BAD_REQUEST)
        case 1:
            return None
        case _:
            return Finding("too.many.create.conversation.parameters")


def _destinations(case: Case) -> int:
    fields = case.object
    if case.request.endpoint is Endpoint.CALLBACK:
        return bool(fields.get("callNumber"))
    if case.is_from_to:
        return len(_list(fields.get("to")))
    return sum(bool(fields.get(name)) for name in _DESTINATIONS)


def _from_has_type(case: Case) -> Finding | None:
    if not case.is_from_to or _object(case.object.get("from")).get("type"):
        return None
    return Finding(MISSING_FROM_TYPE, field="from.type", is_generic=True)


Rule = Callable[[Case], Finding | None]

DOCUMENTED_RULES: Final[tuple[Rule, ...]] = (
    _not_too_long,
    _of_json_type,
    _an_object,
    _of_something_there,
    _with_user_context,
    _permitted,
    _of_right_types,
    _one_destination,
)
"""From the official swagger of 2017 and the official SDK."""

THREAD_RULES: Final[tuple[Rule, ...]] = (_from_has_type,)
"""From a community thread alone; the rule on agents' states, `Behaviour.refusals`, is the other one."""


def examine(case: Case) -> Finding | None:
    """Return the first fault of a case, or None; the agent's state isn't looked at."""
    return next((finding for rule in (*DOCUMENTED_RULES, *THREAD_RULES) if (finding := rule(case))), None)
