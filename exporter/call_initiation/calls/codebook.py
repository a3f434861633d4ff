"""The code book, asked: what a body's codes and its message mean, by the book or by their wording.

Law: a specific code goes before the message, that before a generic code.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from call_initiation.calls.codes import CODES
from call_initiation.calls.meanings import Meaning, Source
from call_initiation.events import Category

PATTERNS: Final[tuple[tuple[str, Meaning], ...]] = (
    (r"^error\.ininedgecontrol\.", Meaning(Category.PROVIDER, source=Source.OBSERVED)),
    (r"^providerapi\.", Meaning(Category.PROVIDER, source=Source.INFERRED)),
    (r"\bstation\b", Meaning(Category.STATION, source=Source.INFERRED)),
    (
        r"\b(?:agent|user)\b.*\b(?:state|status|busy|available|unavailable|presence)\b",
        Meaning(Category.AGENT_STATE, source=Source.INFERRED),
    ),
    (r"\brate\.?limit|\btoo\.many\.requests\b", Meaning(Category.RATE_LIMIT, source=Source.INFERRED)),
    (r"\bpermissions?\b|\bscopes?\b", Meaning(Category.PERMISSION, source=Source.INFERRED)),
    (r"\bcredentials?\b|\btoken\b|\bauthentication\b", Meaning(Category.AUTHENTICATION, source=Source.INFERRED)),
    (r"\bphone\.?number\b|\bdestination\b|\bdnis\b|\be164\b", Meaning(Category.DESTINATION, source=Source.INFERRED)),
    (r"\btime\.?out\b|\btimed\.out\b", Meaning(Category.TIMEOUT, source=Source.INFERRED)),
    (r"\bconflict\b", Meaning(Category.CONFLICT, source=Source.INFERRED)),
    (r"\bschema\b|\bjson\b|\bmissing\b|\brequired\b|\bfield\b", Meaning(Category.SCHEMA, source=Source.INFERRED)),
)
"""Patterns for codes that aren't in the book, written in lower case with dots; the first that is found counts."""

MESSAGES: Final[tuple[tuple[str, Meaning], ...]] = (
    ("station is required", Meaning(Category.STATION)),
    ("only a single destination", Meaning(Category.DESTINATION)),
    ("requires a user context", Meaning(Category.USER_CONTEXT)),
    ("rate limit exceeded", Meaning(Category.RATE_LIMIT)),
    ("is not a participant", Meaning(Category.USER_CONTEXT, source=Source.OBSERVED)),
    ("permission", Meaning(Category.PERMISSION, source=Source.OBSERVED)),
    ("user context", Meaning(Category.USER_CONTEXT, source=Source.INFERRED)),
    ("agent state", Meaning(Category.AGENT_STATE, source=Source.INFERRED)),
    ("phone number", Meaning(Category.DESTINATION, source=Source.INFERRED)),
    ("phonenumber", Meaning(Category.DESTINATION, source=Source.INFERRED)),
    ("timed out", Meaning(Category.TIMEOUT, source=Source.INFERRED)),
)
"""Parts of messages in lower case; the first that is found counts."""

_PATTERNS: Final = tuple((re.compile(pattern), meaning) for pattern, meaning in PATTERNS)


def leading(codes: Sequence[str], message: str | None) -> Meaning | None:
    """Return what says the most: a specific code, else the message, else a generic code; None where nothing is known.

    Args:
        codes: As a body has them, the most specific first.
        message: For people; None where there is none.
    """
    meanings = [meaning for meaning in map(meaning_of, codes) if meaning]
    specific = (meaning for meaning in meanings if not meaning.is_generic)
    return next(specific, None) or _meaning_of_message(message or "") or (meanings[0] if meanings else None)


@lru_cache(maxsize=512)
def meaning_of(code: str) -> Meaning | None:
    """Return what a code means by the book, or by its wording; None where that says nothing either."""
    known = CODES.get(code)
    if known:
        return known
    dotted = code.lower().replace("_", ".").replace("-", ".")
    return next((meaning for pattern, meaning in _PATTERNS if pattern.search(dotted)), None)


def _meaning_of_message(message: str) -> Meaning | None:
    lower = message.lower()
    return next((meaning for part, meaning in MESSAGES if part in lower), None)
