"""The body of a call start: as JSON, and as the API's definition has it (the official SDK's models, 269.0.0).

Laws: `read` is total: what can't be read is `UNREAD`. Numbers stay as they are written and can be told from texts: a
phone number is no quantity, and `int` refuses more than 4,300 digits.
"""

import json
from collections.abc import Mapping
from typing import Final

from call_initiation import nesting

MAX_BYTES: Final = 512_000
"""How long a body may be: the API's own limit, beyond which it answers 413."""

UNREAD: Final = object()
"""Stands for a body that couldn't be had, is empty or too long, or is no JSON."""


class Numeral(str):
    """A number, as it was written: `33199000000`, `-1.5e3`, and `NaN`, which JSON has no word for."""

    __slots__ = ()


Model = Mapping[str, type]
"""What each property holds; all are optional, and of the lists and maps `ITEMS` says what they hold."""

CREATE_CALL_REQUEST: Final[Model] = {
    "phoneNumber": str,
    "callerId": str,
    "callerIdName": str,
    "callFromQueueId": str,
    "callQueueId": str,
    "callUserId": str,
    "priority": Numeral,
    "attributes": dict,
    "languageId": str,
    "routingSkillsIds": list,
    "routingSkillExpression": str,
    "conversationIds": list,
    "participants": list,
    "uuiData": str,
    "externalContactId": str,
    "label": str,
}
"""Places a call, as the token's user or on behalf of one."""

CALL_COMMAND: Final[Model] = {"callNumber": str, "phoneColumn": str}
"""Places the call of a callback."""

DESTINATION: Final[Model] = {"address": str, "name": str, "userId": str, "queueId": str}
"""One of `participants`."""

ITEMS: Final[Mapping[str, type]] = {
    "attributes": str,
    "routingSkillsIds": str,
    "conversationIds": str,
    "participants": dict,
}

_DECODER: Final = json.JSONDecoder(parse_int=Numeral, parse_float=Numeral, parse_constant=Numeral)


def read(content: bytes | None) -> object:
    """Return what a body holds, or `UNREAD`.

    Args:
        content: The body's bytes, JSON in any of its encodings; None where it couldn't be had.
    """
    if not content or len(content) > MAX_BYTES:
        return UNREAD
    try:
        document: object = nesting.loads(content.decode(encoding(content), "surrogatepass"), _DECODER.decode)
    except ValueError:
        return UNREAD
    return document


def encoding(content: bytes) -> str:
    """Return in which encoding JSON is written (RFC 8259, section 8.1, and older ones); UTF-8, but for odd ones."""
    return "utf-8" if content.startswith(b'{"') else json.detect_encoding(content)
