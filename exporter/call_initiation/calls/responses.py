"""What a refusal means: its codes, whose concern it is, its message and its correlation id.

Laws: `parse` is total (it raises on no bytes and no types), deterministic, and its work is bounded; what it returns has
passed the mask; codes stand from the most specific to the most general one.
"""

from functools import lru_cache
from typing import Final, NamedTuple

from call_initiation import privacy
from call_initiation.calls import codebook, error_bodies
from call_initiation.calls.codes import CODES
from call_initiation.events import BodyState, Category, Refusal
from call_initiation.privacy import OTHER, Mask, Pieces

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
    """Return a code as it may be shown; one of our own book tells nothing of a call, so it needs no mask."""
    return code if isinstance(code, str) and code in CODES else mask.code(code)


def _category(codes: tuple[str, ...], message: str | None, status: int) -> Category:
    """Say whose concern it is: by what says the most, else by the status."""
    meaning = codebook.leading(codes, message)
    if meaning and meaning.category is not Category.UNKNOWN:
        return meaning.category
    return _CATEGORY_BY_STATUS.get(status) or (Category.PROVIDER if status >= _SERVER_ERROR else Category.UNKNOWN)
