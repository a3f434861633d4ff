"""What may be wrong with the body of a call start, told from the body alone.

Theory. A body is held against the API's definition (the SDK's models), against the documented refusals, and against
what no dialer can mean. What real dialers send isn't found fault with: E.164, national digits, `tel:` and `sip:` URIs
and `name@localhost` are all fine. The body that one community thread alone knows is held against that thread's claims.

Laws: total, deterministic, and bounded by the body's limit. A remark shows no value, and of properties' names only
those that the definition has or that letters alone make up: no digit of a number can be read from it. A plain body
costs about as much as a look at each of its properties: nothing is made where there is nothing to say.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Any, Final, cast

from call_initiation.calls import bodies
from call_initiation.calls.bodies import (
    CALL_COMMAND,
    CREATE_CALL_REQUEST,
    DESTINATION,
    ITEMS,
    MAX_BYTES,
    Model,
    Numeral,
)
from call_initiation.calls.endpoints import CALL_OF_CONVERSATION, Endpoint
from call_initiation.diagnosis.findings import Finding, Remark

_MOST_REMARKS: Final = 50
_MOST_ITEMS: Final = 100
_LONGEST_NAME: Final = 40
_LONGEST_ADDRESS: Final = 1000
_MOST_DIGITS: Final = 19
"""E.164 has at most 15; a prefix for long distance and an operator's code may stand before them."""
_ID_LENGTH: Final = 36
_ID_DASHES: Final = 4
_BEGINNING: Final = b'{"'
"""Of nearly every body, and of none that isn't written in UTF-8."""

_DESTINATIONS: Final = ("phoneNumber", "callQueueId", "callUserId", "participants", "conversationIds")
_OTHER_DESTINATIONS: Final = frozenset(_DESTINATIONS[1:])
_OF_PARTICIPANT: Final = ("address", "userId", "queueId")
_OF_QUEUES: Final = frozenset({"priority", "languageId", "routingSkillsIds", "routingSkillExpression"})
_OF_THREAD: Final = frozenset({"type", "from", "to"})

_SEPARATORS: Final = b" -.()/"
_NEVER: Final = frozenset("{}\\^|`" + "".join(map(chr, [*range(32), 127])))
"""What neither a number nor a URI has (RFC 3986, section 2), such as a placeholder that nobody filled in."""

Fields = dict[str, Any]
Remarks = list[Remark]


def examine(
    content: bytes | None, document: object, endpoint: Endpoint, agent_id: str | None = None
) -> tuple[Remark, ...]:
    """Return what may be wrong with a body; never raises.

    Args:
        content: The body's bytes; None where it couldn't be had, which is no fault of it.
        document: What `bodies.read` has made of it.
        endpoint: Where it is sent.
        agent_id: Who places the call, where that is known.
    """
    if content is None:
        return ()
    if not isinstance(document, dict):
        return (Remark(_unfit(content, document)),)
    fields = cast("Fields", document)
    found: Remarks = []
    if not content.startswith(_BEGINNING) and bodies.encoding(content) != "utf-8":
        found.append(Remark(Finding.ODD_ENCODING))
    if endpoint.template == CALL_OF_CONVERSATION:
        _examine_command(fields, found)
    elif "from" in fields or "to" in fields:
        _examine_from_to(fields, endpoint, found)
    else:
        _examine_request(fields, agent_id, found)
    return tuple(found[:_MOST_REMARKS]) if found else ()


def words(remarks: tuple[Remark, ...]) -> tuple[str, ...]:
    """Return what was found as labels, each once."""
    return tuple(dict.fromkeys([remark.finding.value for remark in remarks]))


def _unfit(content: bytes, document: object) -> Finding:
    if len(content) > MAX_BYTES:
        return Finding.TOO_LARGE
    if not content.strip():
        return Finding.EMPTY_BODY
    return Finding.NOT_JSON if document is bodies.UNREAD else Finding.NOT_AN_OBJECT


# -- the three bodies --------------------------------------------------------------------------------------------------


def _examine_command(fields: Fields, found: Remarks) -> None:
    _properties(fields, CALL_COMMAND, "", found)
    number = fields.get("callNumber")
    if number is None:
        found.append(Remark(Finding.NO_CALL_NUMBER, "callNumber"))
    else:
        _address(number, "callNumber", found)


def _examine_request(fields: Fields, agent_id: str | None, found: Remarks) -> None:
    _properties(fields, CREATE_CALL_REQUEST, "", found)
    number = fields.get("phoneNumber")
    if number is not None and _OTHER_DESTINATIONS.isdisjoint(fields):  # nearly always
        _address(number, "phoneNumber", found)
    else:
        _destinations(fields, agent_id, found)
    if "callFromQueueId" in fields:
        _id(fields["callFromQueueId"], "callFromQueueId", found)
    if not _OF_QUEUES.isdisjoint(fields):
        _of_queues(fields, found)


def _examine_from_to(fields: Fields, endpoint: Endpoint, found: Remarks) -> None:
    found.append(Remark(Finding.UNDOCUMENTED_BODY, ", ".join([name for name in ("from", "to") if name in fields])))
    caller = _object(fields.get("from"))
    if not _is_text(caller.get("type")):
        found.append(Remark(Finding.FROM_TYPE_MISSING, "from.type"))
    if endpoint.user_id is None and not (_is_text(caller.get("agentId")) or _is_text(caller.get("id"))):
        found.append(Remark(Finding.FROM_AGENT_MISSING, "from.agentId"))
    _callees(fields.get("to"), found)
    if _OF_THREAD.issuperset(fields):
        return
    others = {name: value for name, value in fields.items() if name not in _OF_THREAD}
    _properties(others, CREATE_CALL_REQUEST, "", found)
    if named := _named(others):
        found.append(Remark(Finding.TWO_BODIES, ", ".join(named)))


def _callees(value: object, found: Remarks) -> None:
    callees = _items(value)
    if not callees:
        found.append(Remark(Finding.TO_MISSING, "to"))
    numbers: dict[str, object] = {
        f"to[{at}].address.phoneNumber": _object(_object(callee).get("address")).get("phoneNumber")
        for at, callee in enumerate(callees)
    }
    for path, number in numbers.items():
        _address("" if number is None else number, path, found)
    _repeats(numbers, found)


# -- properties --------------------------------------------------------------------------------------------------------


def _properties(fields: Fields, model: Model, parent: str, found: Remarks) -> None:
    """Hold an object's properties against a model; null is as good as absent."""
    for name, value in fields.items():
        kind = model.get(name)
        if type(value) is not kind:
            if value is not None or kind is None:
                found.append(_misfit(name, model, parent))
            if len(found) >= _MOST_REMARKS:
                return
        elif kind is not str:
            _contents(name, value, found)


def _misfit(name: str, model: Model, parent: str) -> Remark:
    """Say what is wrong with a property that isn't as a model has it."""
    if name in model:
        return Remark(Finding.WRONG_TYPE, parent + name)
    if model is not DESTINATION and (name in CREATE_CALL_REQUEST or name in CALL_COMMAND):
        return Remark(Finding.FOREIGN_PROPERTY, name)
    spelt = _SPELT.get(_folded(name))
    if spelt in model:
        return Remark(Finding.MISSPELT_PROPERTY, f"{parent}{spelt}")
    return Remark(Finding.UNKNOWN_PROPERTY, parent + _shown(name))


def _folded(name: str) -> str:
    return name[:_LONGEST_NAME].replace("_", "").replace("-", "").replace(" ", "").lower()


_SPELT: Final = {_folded(name): name for model in (CREATE_CALL_REQUEST, CALL_COMMAND, DESTINATION) for name in model}


def _shown(name: str) -> str:
    """Return a name that somebody has made up, if letters alone make it up."""
    bare = name[: _LONGEST_NAME + 1].replace("_", "")
    return name if bare.isascii() and bare.isalpha() and len(name) <= _LONGEST_NAME else "?"


def _contents(name: str, value: Any, found: Remarks) -> None:
    """Hold what a property holds against the model, where that is more than a text."""
    held: Numeral | Fields | list[Any] = value
    if isinstance(held, Numeral):
        if not held.removeprefix("-").isdecimal():
            found.append(Remark(Finding.WRONG_TYPE, name))
        return
    kind = ITEMS[name]  # and at one look, nearly always, all that it holds is of it
    if kind is str and {str}.issuperset(map(type, held.values() if isinstance(held, dict) else held)):
        return
    for path, item in _entries(name, held):
        if type(item) is not kind:
            found.append(Remark(Finding.WRONG_TYPE, path))
        elif isinstance(item, dict):
            _properties(cast("Fields", item), DESTINATION, f"{path}.", found)


def _entries(name: str, value: Fields | list[Any]) -> Iterator[tuple[str, object]]:
    """Yield the first ones of what a map or a list holds, each with its path."""
    if isinstance(value, dict):
        return ((f"{name}.{_shown(key)}", item) for key, item in islice(value.items(), _MOST_ITEMS) if item is not None)
    return ((f"{name}[{at}]", item) for at, item in enumerate(value[:_MOST_ITEMS]))


# -- whom it calls -----------------------------------------------------------------------------------------------------


def _named(fields: Fields) -> list[str]:
    return [name for name in _DESTINATIONS if fields.get(name) is not None]


def _destinations(fields: Fields, agent_id: str | None, found: Remarks) -> None:
    """Look at all of the destinations that a request names, of which there should be one."""
    named = _named(fields)
    if not named:
        found.append(Remark(Finding.NO_DESTINATION))
    empty = [name for name in named if _is_empty(fields[name])]
    filled = [name for name in named if name not in empty]
    found += [Remark(Finding.EMPTY_DESTINATION, name) for name in empty]
    if len(filled) > 1:
        found.append(Remark(Finding.SEVERAL_DESTINATIONS, ", ".join(filled)))
    if "phoneNumber" in filled:
        _address(fields["phoneNumber"], "phoneNumber", found)
    for name in filled:
        if name in {"callQueueId", "callUserId"}:
            _id(fields[name], name, found)
    for at, one in enumerate(_items(fields.get("conversationIds"))):
        _id(one, f"conversationIds[{at}]", found)
    _themself(fields.get("callUserId"), "callUserId", agent_id, found)
    _participants(_items(fields.get("participants")), agent_id, found)


def _participants(participants: list[object], agent_id: str | None, found: Remarks) -> None:
    called: dict[str, object] = {}
    for at, one in enumerate(participants):
        path, participant = f"participants[{at}]", _object(one)
        named = [name for name in _OF_PARTICIPANT if participant.get(name) is not None]
        if not named:
            found.append(Remark(Finding.EMPTY_DESTINATION, path))
        called |= {f"{path}.{name}": participant[name] for name in named}
    if participants and not called:
        found.append(Remark(Finding.NO_DESTINATION, "participants"))
    for path, value in called.items():
        if _is_empty(value):
            found.append(Remark(Finding.EMPTY_DESTINATION, path))
        elif path.endswith("address"):
            _address(value, path, found)
        else:
            _id(value, path, found)
            _themself(value, path, agent_id, found)
    _repeats(called, found)


def _of_queues(fields: Fields, found: Remarks) -> None:
    """Look at what counts only where a queue is called."""
    named = [name for name in fields if name in _OF_QUEUES and fields[name] not in (None, [])]
    participants = _items(fields.get("participants"))
    calls_queue = "callQueueId" in fields or any("queueId" in _object(one) for one in participants)
    if named and not calls_queue:
        found.append(Remark(Finding.QUEUE_PROPERTY, ", ".join(named)))


def _themself(value: object, path: str, agent_id: str | None, found: Remarks) -> None:
    if agent_id and isinstance(value, str) and value.strip().lower() == agent_id.lower():
        found.append(Remark(Finding.CALLS_THEMSELF, path))


def _repeats(called: dict[str, object], found: Remarks) -> None:
    seen: set[str] = set()
    for path, value in called.items():
        if isinstance(value, str) and value.strip():
            if value.strip() in seen:
                found.append(Remark(Finding.REPEATED_ADDRESS, path))
            seen.add(value.strip())


# -- values ------------------------------------------------------------------------------------------------------------


def _address(value: object, path: str, found: Remarks) -> None:
    """Look at a number or an address; one of another type has been told of."""
    if type(value) is not str:
        return
    text = value.strip()
    if not text:
        found.append(Remark(Finding.EMPTY_DESTINATION, path))
    elif not (_is_number(text) or _is_possible(text)):
        found.append(Remark(Finding.IMPOSSIBLE_ADDRESS, path))
    elif text != value:
        found.append(Remark(Finding.PADDED_ADDRESS, path))


def _is_number(text: str) -> bool:
    """Tell whether a text is a number as nearly all are: digits, perhaps separated, after one plus or none."""
    digits = text.removeprefix("+")
    if not digits.isdecimal():
        digits = digits.encode(errors="replace").translate(None, _SEPARATORS).decode()
    return digits.isdecimal() and len(digits) <= _MOST_DIGITS


def _is_possible(text: str) -> bool:
    """Tell whether a text may be any other spelling of a number or an address."""
    if len(text) > _LONGEST_ADDRESS or not _NEVER.isdisjoint(text):
        return False
    scheme, colon, rest = text.partition(":")
    if colon and scheme.lower() in {"sip", "sips"}:
        return bool(rest)
    user, at, host = text.partition("@")
    if at:
        return bool(user and host)
    number = rest if colon and scheme.lower() == "tel" else text
    digits = sum(map(str.isdecimal, number.partition(",")[0].partition(";")[0]))  # what is dialled later isn't counted
    return 0 < digits <= _MOST_DIGITS and "+" not in number.lstrip("(+ ")  # a second plus begins a second number


def _id(value: object, path: str, found: Remarks) -> None:
    """Look at an id; one of another type has been told of."""
    if type(value) is str and not (len(value) == _ID_LENGTH and value.count("-") == _ID_DASHES):
        found.append(Remark(Finding.NOT_AN_ID, path))


def _is_empty(value: object) -> bool:
    return not value.strip() if isinstance(value, str) else value == []


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _object(value: object) -> Fields:
    return cast("Fields", value) if isinstance(value, dict) else {}


def _items(value: object) -> list[object]:
    """Return a list's first items; none where `value` is something else."""
    return cast("list[object]", value)[:_MOST_ITEMS] if isinstance(value, list) else []
