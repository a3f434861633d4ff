"""What an error's body says, before anybody asks what it means: codes, messages and the id of its exchange.

A body may come from the API, from its login service, from a proxy on the way, or from nobody sane; so every value may
have any type, and a part that can't be read takes nothing else away. Shapes that are understood: `ErrorBody` and
`ErrorDetails` (SDK models), OAuth's error (RFC 6749, section 5.2), lists of these, and plain text or a page's title
from intermediaries.

Laws: `read` is total (it raises on no bytes and no types), deterministic, and its work is bounded. Nothing that it
returns is masked: it goes no further than `responses`.

Refusals come in storms that differ by the id of their exchange alone. Such are read once: what a body says is kept
under what is left of it without that id. A body that may show a number isn't kept: it wouldn't come again. So what is
kept may be known again: `is_kept` says that it may be remembered elsewhere, too.
"""

import json
import re
from collections.abc import Iterator
from itertools import chain
from typing import Any, Final, NamedTuple, TypeGuard

from call_initiation import nesting

_MOST_SAID: Final = 1000
_MOST_NODES: Final = 400
_MOST_CHILDREN: Final = 50
_LONGEST_INT: Final = 18
_PAGE_HEAD: Final = 10_000
_MOST_KEPT: Final = 256
_LONGEST_KEPT: Final = 2048

_MESSAGE_KEYS: Final = ("message", "messageWithParams", "error_description", "description", "details", "error")
_CODE_WORD: Final = re.compile(r"[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)+|[A-Z][A-Z0-9]+")
_TITLE: Final = re.compile(r"<title[^<>]{0,100}>([^<]{1,1000})", re.IGNORECASE)
_WRITTEN_CODE: Final = re.compile(
    r'"(?:(errorCode)|code|error)"\s{0,20}:\s{0,20}"?(?<=[\s":])([A-Za-z0-9][A-Za-z0-9._-]{0,79})[",}\s]'
)

_EXCHANGE_ID: Final = re.compile(r"[0-9A-Za-z-]{8,64}")
_MAY_BE_A_NUMBER: Final = re.compile(r"(?:\d\D{0,3}){6}")
_EXCHANGE: Final = "\ue000"
"""Stands where the id of the exchange stood: a character that no text has (Unicode, private use)."""
_EXCHANGE_BYTES: Final = _EXCHANGE.encode()

Node = dict[str, Any]
"""One error object of a body."""


class Said(NamedTuple):
    """What a body says.

    Attributes:
        codes: All that may be a code, the most specific first, each once.
        messages: All that may be a message for people, the top's first.
        contexts: All that may be the id of the exchange, the top's first.
        is_kept: Others say the same, and none of it may be a number.
    """

    codes: tuple[str | int, ...]
    messages: tuple[str, ...]
    contexts: tuple[object, ...]
    is_kept: bool = False


_kept: Final[dict[bytes, Said]] = {}


def read(body: bytes, exchange: str | None) -> Said:
    """Return what a body says.

    Args:
        body: The content, decoded.
        exchange: The id of the exchange as the answer's headers tell it (`ININ-Correlation-Id`); where the body has no
            other one, it may be missing from the `contexts`.
    """
    if exchange is None or len(body) > _LONGEST_KEPT or not _EXCHANGE_ID.fullmatch(exchange):
        return _said(_text(body))
    rest = body.replace(exchange.encode(), _EXCHANGE_BYTES)
    return _kept.get(rest) or _read_anew(body, rest)


def _read_anew(body: bytes, rest: bytes) -> Said:
    said, is_utf_8 = _said(_text(body)), json.detect_encoding(body) == "utf-8"  # in others, bytes aren't characters
    if not is_utf_8 or _EXCHANGE_BYTES in body or not _can_stand_for_all(_text(rest), said):
        return said
    if len(_kept) >= _MOST_KEPT:
        _kept.clear()
    _kept[rest] = said._replace(contexts=(), is_kept=True)
    return _kept[rest]


def _can_stand_for_all(rest: str, said: Said) -> bool:
    """Whether bodies with this rest say the same, whatever the id of their exchange is."""
    codes, messages, contexts, _ = _said(rest)
    is_the_same = (codes, messages) == said[:2] and all(one is None or one == _EXCHANGE for one in contexts)
    return is_the_same and not _MAY_BE_A_NUMBER.search(rest)


def _said(text: str) -> Said:
    nodes = _nodes(_document(text))
    codes = _codes(nodes) if nodes else _written_codes(text)
    messages = _messages(nodes) if nodes else _plain_message(text)
    contexts = [node.get("contextId") for node in reversed(nodes)]
    told = dict.fromkeys([code for code in codes[:_MOST_SAID] if isinstance(code, (str, int))])
    return Said(tuple(told), tuple(messages), tuple(contexts))


def _text(body: bytes) -> str:
    return body.decode(json.detect_encoding(body), "replace")


def _int(digits: str) -> int | str:
    """Read an integer; one that is too long for any code stays text, for Python refuses to read it."""
    return int(digits) if len(digits) <= _LONGEST_INT else digits


_DECODER: Final = json.JSONDecoder(parse_int=_int, strict=False)  # not strict: messages have raw line ends


def _document(text: str) -> object:
    try:
        return nesting.loads(text, _DECODER.decode)
    except (ValueError, MemoryError):
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
