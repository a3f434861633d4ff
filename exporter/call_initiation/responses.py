"""What the body of a refusal says: its codes, whose concern it is, its message and its correlation id.

A body may come from the API, from its login service, from a proxy on the way, or from nobody sane; so every value may
have any type, and a part that can't be read takes nothing else away. Shapes that are understood: `ErrorBody` and
`ErrorDetails` (SDK models), OAuth's error (RFC 6749, section 5.2), lists of these, and plain text or a page's title
from intermediaries.

Laws: `parse` is total (it raises on no bytes and no types), deterministic, and its work is bounded; what it returns has
passed the mask; codes stand from the most specific to the most general one.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from itertools import chain
from typing import Any, Final, TypeGuard

from call_initiation.events import BodyState, Category, Refusal
from call_initiation.privacy import OTHER, Mask


class Source(StrEnum):
    """How we know what a code or a message means."""

    DOCUMENTED = "documented"
    """Genesys's own material lists it for this API."""
    STANDARD = "standard"
    """An RFC defines it; the API's login service answers in this form."""
    OBSERVED = "observed"
    """Seen in public code and forums; in no documentation."""
    CLAIMED = "claimed"
    """Said in one community thread only: must never be shown as the API's documentation."""
    INFERRED = "inferred"
    """Our reading of how such codes are worded."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a code or a part of a message means.

    Attributes:
        category: Whose concern it is.
        source: How we know.
        is_generic: It says little: a code or message that says more goes before it.
    """

    category: Category
    source: Source = Source.DOCUMENTED
    is_generic: bool = False

    @property
    def documented(self) -> bool:
        """Whether it may be shown as the API's documentation."""
        return self.source is Source.DOCUMENTED


def _meanings(
    codes: Mapping[Category, str], source: Source = Source.DOCUMENTED, *, is_generic: bool = False
) -> dict[str, Meaning]:
    return {code: Meaning(category, source, is_generic) for category, names in codes.items() for code in names.split()}


CATEGORY_BY_CODE: Final[Mapping[str, Meaning]] = {
    **_meanings(
        {
            Category.STATION: "conversation.error.no.user.station",
            Category.DESTINATION: "too.many.create.conversation.parameters",
            Category.USER_CONTEXT: "not.a.user not.a.participant",
            Category.SCHEMA: "invalid.date invalid.value request.entity.too.large unsupported.media.type",
            Category.AUTHENTICATION: "authentication.required bad.credentials credentials.expired ip.not.authorized",
            Category.PERMISSION: "missing.permissions missing.any.permissions not.authorized forbidden",
            Category.TIMEOUT: "client.timeout authentication.request.timeout request.timeout",
            Category.RATE_LIMIT: "too.many.requests.retry.after too.many.requests",
            Category.PROVIDER: "providerapi.error.station.no.active.edge providerapi.error.no.station.for.edge",
        }
    ),
    **_meanings(
        {
            Category.UNKNOWN: "bad.request not.found resource.not.found response.entity.too.large",
            Category.AUTHENTICATION: "unauthorized",
            Category.CONFLICT: "general.conflict general.resource.conflict",
            Category.PROVIDER: "internal.server.error service.unavailable",
        },
        is_generic=True,
    ),
    **_meanings(
        {
            Category.AUTHENTICATION: "invalid_client invalid_grant invalid_token unauthorized_client",
            Category.PERMISSION: "insufficient_scope access_denied",
            Category.SCHEMA: "unsupported_grant_type invalid_scope",
            Category.PROVIDER: "server_error temporarily_unavailable",
        },
        Source.STANDARD,
    ),
    **_meanings({Category.UNKNOWN: "invalid_request"}, Source.STANDARD, is_generic=True),
    **_meanings({Category.AGENT_STATE: "INVALID_AGENT_STATE"}, Source.CLAIMED),
}
"""Codes as they are written, with what they mean; documented ones are a lower bound of what the API sends."""

CATEGORY_BY_PATTERN: Final[tuple[tuple[str, Meaning], ...]] = (
    (r"^error\.ininedgecontrol\.", Meaning(Category.PROVIDER, Source.OBSERVED)),
    (r"^providerapi\.", Meaning(Category.PROVIDER, Source.INFERRED)),
    (r"\bstation\b", Meaning(Category.STATION, Source.INFERRED)),
    (
        r"\b(?:agent|user)\b.*\b(?:state|status|busy|available|unavailable|presence)\b",
        Meaning(Category.AGENT_STATE, Source.INFERRED),
    ),
    (r"\brate\.?limit|\btoo\.many\.requests\b", Meaning(Category.RATE_LIMIT, Source.INFERRED)),
    (r"\bpermissions?\b|\bscopes?\b", Meaning(Category.PERMISSION, Source.INFERRED)),
    (r"\bcredentials?\b|\btoken\b|\bauthentication\b", Meaning(Category.AUTHENTICATION, Source.INFERRED)),
    (r"\bphone\.?number\b|\bdestination\b|\bdnis\b|\be164\b", Meaning(Category.DESTINATION, Source.INFERRED)),
    (r"\btime\.?out\b|\btimed\.out\b", Meaning(Category.TIMEOUT, Source.INFERRED)),
    (r"\bconflict\b", Meaning(Category.CONFLICT, Source.INFERRED)),
    (r"\bschema\b|\bjson\b|\bmissing\b|\brequired\b|\bfield\b", Meaning(Category.SCHEMA, Source.INFERRED)),
)
"""Patterns for codes that the table doesn't have, written in lower case with dots; the first that is found counts."""

CATEGORY_BY_MESSAGE: Final[tuple[tuple[str, Meaning], ...]] = (
    ("station is required", Meaning(Category.STATION)),
    ("only a single destination", Meaning(Category.DESTINATION)),
    ("requires a user context", Meaning(Category.USER_CONTEXT)),
    ("rate limit exceeded", Meaning(Category.RATE_LIMIT)),
    ("is not a participant", Meaning(Category.USER_CONTEXT, Source.OBSERVED)),
    ("permission", Meaning(Category.PERMISSION, Source.OBSERVED)),
    ("user context", Meaning(Category.USER_CONTEXT, Source.INFERRED)),
    ("agent state", Meaning(Category.AGENT_STATE, Source.INFERRED)),
    ("phone number", Meaning(Category.DESTINATION, Source.INFERRED)),
    ("phonenumber", Meaning(Category.DESTINATION, Source.INFERRED)),
    ("timed out", Meaning(Category.TIMEOUT, Source.INFERRED)),
)
"""Parts of messages in lower case; the first that is found counts."""

_CATEGORY_BY_STATUS: Final = {
    401: Category.AUTHENTICATION,
    403: Category.PERMISSION,
    408: Category.TIMEOUT,
    409: Category.CONFLICT,
    413: Category.SCHEMA,
    415: Category.SCHEMA,
    429: Category.RATE_LIMIT,
    504: Category.TIMEOUT,
}
_PATTERNS: Final = tuple((re.compile(pattern), meaning) for pattern, meaning in CATEGORY_BY_PATTERN)
_SERVER_ERROR: Final = 500

_MOST_CODES: Final = 16
_MOST_SAID: Final = 1000
_MOST_NODES: Final = 400
_MOST_CHILDREN: Final = 50
_LONGEST_INT: Final = 18
_PAGE_HEAD: Final = 10_000

_MESSAGE_KEYS: Final = ("message", "messageWithParams", "error_description", "description", "details", "error")
_CODE_WORD: Final = re.compile(r"[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)+|[A-Z][A-Z0-9]+")
_TITLE: Final = re.compile(r"<title[^<>]{0,100}>([^<]{1,1000})", re.IGNORECASE)
_WRITTEN_CODE: Final = re.compile(
    r'"(?:(errorCode)|code|error)"\s{0,20}:\s{0,20}"?(?<=[\s":])([A-Za-z0-9][A-Za-z0-9._-]{0,79})[",}\s]'
)

Node = dict[str, Any]
"""One error object of a body."""


def parse(
    body: bytes | None, *, status: int, header_correlation_id: str | None, state: BodyState, mask: Mask
) -> Refusal:
    """Return what an error's body says; never raises.

    Args:
        body: The content, decoded; None where there is none to read.
        status: The answer's status, for the category where the body tells none.
        header_correlation_id: `ININ-Correlation-Id`, for bodies without `contextId`.
        state: How much of the body was seen.
        mask: What everything passes that is returned.
    """
    text = _text(body or b"")
    nodes = _nodes(_document(text))
    codes = _fit(_codes(nodes) if nodes else _written_codes(text), mask)
    messages = _messages(nodes) if nodes else _plain_message(text)
    message = next((shown for said in messages if (shown := mask.text(said))), None)
    contexts = [*[node.get("contextId") for node in reversed(nodes)], header_correlation_id]
    return Refusal(
        codes=codes,
        category=_category(codes, message, status),
        message=message,
        correlation_id=next(filter(None, map(mask.identifier, contexts)), None),
        body=state,
    )


def _text(body: bytes) -> str:
    return body.decode(json.detect_encoding(body), "replace")


def _int(digits: str) -> int | str:
    """Read an integer; one that is too long for any code stays text, for Python refuses to read it."""
    return int(digits) if len(digits) <= _LONGEST_INT else digits


_DECODER: Final = json.JSONDecoder(parse_int=_int, strict=False)  # not strict: messages have raw line ends


def _document(text: str) -> object:
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError, MemoryError):
        return None


def _is_node(value: object) -> TypeGuard[Node]:
    return isinstance(value, dict)


def _is_list(value: object) -> TypeGuard[list[object]]:
    return isinstance(value, list)


def _nodes(document: object) -> list[Node]:
    """Return the error objects of a body: depth first, the deepest first, the top last.

    Going from the top down with the last child first, and turning the result round, needs no recursion.
    """
    found: list[Node] = []
    waiting = [document]
    while waiting and len(found) < _MOST_NODES:
        value = waiting.pop()
        if isinstance(value, str):  # `errors` may hold codes or sentences
            found.append({"code" if _CODE_WORD.fullmatch(value) else "message": value})
        elif _is_node(value):
            found.append(value)
            waiting += _children(value)
        elif _is_list(value):
            waiting += value[:_MOST_CHILDREN]
    found.reverse()
    return found


def _children(node: Node) -> tuple[object, ...]:
    error: object = node.get("error")
    return node.get("nested"), node.get("errors"), None if isinstance(error, str) else error  # text is OAuth's code


def _details(node: Node) -> list[Node]:
    details: object = node.get("details")
    items = details[:_MOST_CHILDREN] if _is_list(details) else [details]
    return [item for item in items if _is_node(item)]


def _codes(nodes: list[Node]) -> list[object]:
    """Return all that stands where a code may stand, the most specific first."""
    found: list[object] = []
    for detail in chain.from_iterable(map(_details, nodes)):
        found += detail.get("errorCode"), detail.get("code")
    for node in nodes:
        found += node.get("errorCode"), node.get("code")
        error: object = node.get("error")
        if isinstance(error, str) and " " not in error:  # elsewhere a sentence
            found.append(error)
    return found


def _written_codes(text: str) -> list[str]:
    """Return the codes of JSON that can't be read as a whole: cut off, or nested too deeply.

    Its structure isn't known, so what is written last is taken for the deepest.
    """
    if text.lstrip()[:1] not in {"{", "["}:
        return []
    found: list[tuple[str, str]] = _WRITTEN_CODE.findall(text)
    return [code for is_detail, code in found if is_detail] + [code for is_detail, code in found[::-1] if not is_detail]


def _fit(said: Sequence[object], mask: Mask) -> tuple[str, ...]:
    """Return the codes that are fit to be shown, without repeats; `other` stands last, for it says the least."""
    texts = dict.fromkeys([code for code in said[:_MOST_SAID] if isinstance(code, (str, int))])
    codes = dict.fromkeys([shown for text in texts if (shown := _shown(text, mask))])
    if OTHER in codes:
        del codes[OTHER]
        codes[OTHER] = None
    return tuple(codes)[:_MOST_CODES]


def _shown(code: str | int, mask: Mask) -> str | None:
    """Return a code as it may be shown; one of our own table tells nothing of a call, so it needs no mask."""
    return code if isinstance(code, str) and code in CATEGORY_BY_CODE else mask.code(code)


def _messages(nodes: list[Node]) -> Iterator[str]:
    """Return all that stands where a message for people may stand, the top's first."""
    for node in chain(reversed(nodes), chain.from_iterable(map(_details, nodes))):
        for key in _MESSAGE_KEYS:
            said: object = node.get(key)
            if isinstance(said, str) and (key != "error" or " " in said):
                yield said


def _plain_message(text: str) -> Iterator[str]:
    """Return what a proxy on the way says: its page's title, or its text."""
    if "\N{REPLACEMENT CHARACTER}" in text:
        return
    title = _TITLE.search(text, 0, _PAGE_HEAD)
    if title:
        yield title[1]
    elif text.lstrip()[:1] not in {"<", "{", "["}:
        yield text


def _category(codes: tuple[str, ...], message: str | None, status: int) -> Category:
    """Say whose concern it is: a specific code goes before the message, that before a generic code, then the status."""
    meanings = [meaning for meaning in map(_meaning_of_code, codes) if meaning]
    specific = [meaning for meaning in meanings if not meaning.is_generic]
    meaning = specific[0] if specific else _meaning_of_message(message or "") or (meanings[0] if meanings else None)
    if meaning and meaning.category is not Category.UNKNOWN:
        return meaning.category
    return _CATEGORY_BY_STATUS.get(status) or (Category.PROVIDER if status >= _SERVER_ERROR else Category.UNKNOWN)


@lru_cache(maxsize=512)
def _meaning_of_code(code: str) -> Meaning | None:
    known = CATEGORY_BY_CODE.get(code)
    if known:
        return known
    dotted = code.lower().replace("_", ".").replace("-", ".")
    return next((meaning for pattern, meaning in _PATTERNS if pattern.search(dotted)), None)


def _meaning_of_message(message: str) -> Meaning | None:
    lower = message.lower()
    return next((meaning for part, meaning in CATEGORY_BY_MESSAGE if part in lower), None)
