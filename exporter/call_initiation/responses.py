"""What a refusal means: its codes, whose concern it is, its message and its correlation id.

Laws: `parse` is total (it raises on no bytes and no types), deterministic, and its work is bounded; what it returns has
passed the mask; codes stand from the most specific to the most general one.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final, NamedTuple

from call_initiation import error_bodies, privacy
from call_initiation.events import BodyState, Category, Refusal
from call_initiation.privacy import OTHER, Mask, Pieces


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
    said = error_bodies.read(body or b"", header_correlation_id)
    contexts = (*said.contexts, header_correlation_id)
    correlation_id = next(filter(None, map(mask.identifier, contexts)), None)
    meant = _common_meaning(said.codes, said.messages, status) if said.is_kept else None
    if meant is None or mask.may_change(meant.pieces):
        meant = _meaning(said.codes, said.messages, status, mask)
    return Refusal(
        codes=meant.codes, category=meant.category, message=meant.message, correlation_id=correlation_id, body=state
    )


class _Meant(NamedTuple):
    """What a body means, made fit to leave this process; `pieces` are what a mask may know of it."""

    codes: tuple[str, ...]
    category: Category
    message: str | None
    pieces: Pieces = ()


def _meaning(codes: tuple[str | int, ...], messages: tuple[str, ...], status: int, mask: Mask) -> _Meant:
    fit = _fit(codes, mask)
    message = next((shown for text in messages if (shown := mask.text(text))), None)
    return _Meant(fit, _category(fit, message, status), message)


@lru_cache(maxsize=512)
def _common_meaning(codes: tuple[str | int, ...], messages: tuple[str, ...], status: int) -> _Meant | None:
    """Return what bodies mean that come again and again, for masks that don't know any piece; None where some may."""
    pieces = privacy.pieces("\n".join(map(str, (*codes, *messages))))
    return None if pieces is None else _meaning(codes, messages, status, Mask())._replace(pieces=pieces)


def _fit(said: tuple[str | int, ...], mask: Mask) -> tuple[str, ...]:
    """Return the codes that are fit to be shown, without repeats; `other` stands last, for it says the least."""
    codes = dict.fromkeys([shown for code in said if (shown := _shown(code, mask))])
    if OTHER in codes:
        del codes[OTHER]
        codes[OTHER] = None
    return tuple(codes)[:_MOST_CODES]


def _shown(code: str | int, mask: Mask) -> str | None:
    """Return a code as it may be shown; one of our own table tells nothing of a call, so it needs no mask."""
    return code if isinstance(code, str) and code in CATEGORY_BY_CODE else mask.code(code)


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
