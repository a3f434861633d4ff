"""What may leave this process, and in which form: masking, keyed hashing, label caps.

An upstream's error may quote what it was sent: the number that was dialled, the token that paid for it. So every
text from outside passes here before any sink sees it. The order of work is the argument for its safety:

1. *Read* the text as a person would: escapes are undone, digits of any script become ASCII, what can't be seen is
   dropped. What leaves is this reading, so no spelling can carry a number past the rules below.
2. *Mask* known secrets, then what looks like a secret, an address or a number.
3. *Doubt*: if a known number can still be read from the digits that are left, nothing of the text leaves.
4. *Cut* last, so that a cut never hides half a number from the rules.

Laws: no part of seven digits of a known number and no part of eight characters of a known secret comes through;
what comes out is printable and of one line; work grows linearly with the text and stops at a multiple of the limit.
"""

import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache
from hashlib import blake2b
from html.entities import html5
from typing import Final, NamedTuple, Self
from urllib.parse import unquote

OTHER: Final = "other"
"""The word for a code or a label value that isn't fit to be shown, or that came after the cap."""

_NUMBER: Final = "[number]"
_SECRET: Final = "[secret]"  # noqa: S105 - what stands in a secret's place
_ADDRESS: Final = "[address]"
_WITHHELD: Final = "[withheld]"

_LEVELS: Final = 4
"""How many layers of escaping are undone; what is escaped more deeply still counts as digits to the mask."""
_NUMBER_LENGTH: Final = 7
"""From how many digits on something looks like a phone number; the shortest subscriber numbers have as many."""
_NUMBER_PART: Final = 5
"""How many digits of a known number must not stand alone in a number or a code."""
_SECRET_PART: Final = 8
"""How many characters of a known secret must not be shown."""
_PIECE: Final = 3
"""How many characters of a word are looked for first, before longer parts of it are."""
_SHORTEST_SECRET: Final = 4
_SHORTEST_NUMBER: Final = 3
_OPAQUE_LENGTH: Final = 20
"""From how many characters on a word may be a token."""
_OPAQUE_MIX: Final = 12
"""How many of them must stand in pieces that mix letters and digits."""
_READ_AHEAD: Final = 8
"""How many times the limit is read of a long text; the rest can't reach the output unless masks shrink it a lot."""

_SCHEMES: Final = frozenset({"basic", "bearer"})
_UNSEEN: Final = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5"
    + "".join(map(chr, [*range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)]))
)
"""Default-ignorable code points (Unicode, `DerivedCoreProperties`) that `str.isprintable` lets through."""

_UUID: Final = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_CODE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_IDENTIFIER: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_DIGIT: Final = re.compile(r"[0-9]")
_NO_DIGITS: Final = bytes({*range(128)} - {*b"0123456789"})
_AS_IN_UUIDS: Final = bytes([48 if chr(byte) in "0123456789ABCDEFabcdef-" else 32 for byte in range(256)])
"""Translates what a UUID may hold to zeros, so that a part that one could share is a row of zeros."""
_ALPHANUMERIC: Final = re.compile(r"[A-Za-z0-9]+")
_EMAIL: Final = re.compile(r"(?<![\w.+-])[\w.+-]++@[\w.-]++")
_CREDENTIALS: Final = re.compile(r"\b((?i:basic|bearer))[\s:=]++(?![A-Z]?[a-z]{1,19}\b)\S++")
"""A scheme and its credentials (RFC 9110, section 11.4), unless a plain word follows, as in "Bearer token missing"."""
_ESCAPE: Final = re.compile(
    r"%[0-9A-Fa-f]{2}"
    r"|&(?P<entity>[A-Za-z][A-Za-z0-9]{1,31};)"
    r"|&\#0*+(?P<decimal>[0-9]{1,7});?"
    r"|&\#[xX]0*+(?P<html>[0-9A-Fa-f]{1,6});?"
    r"|\\u\{0*+(?P<braced>[0-9A-Fa-f]{1,6})\}"
    r"|[\\%]u(?P<four>[0-9A-Fa-f]{4})"
    r"|\\U00(?P<six>[0-9A-Fa-f]{6})"
    r"|\\x(?P<two>[0-9A-Fa-f]{2})"
)
"""One character as a URL, HTML, JSON or a programming language may write it."""
_RUN: Final = re.compile(r"[0-9](?:[\W_]*+[0-9])*+")
"""Digits with anything but letters between them."""
_SAFE: Final = re.compile(
    r"([0-9A-Fa-f][0-9A-Fa-f]{3}(?<![^\W_].{4})(?<!\+.{4})(?:"
    r"[0-9A-Fa-f]{4}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"
    r"|(?<=20[0-9]{2})(?<![0-9][\W_].{4})(?<![0-9][\W_]{2}.{4})(?<![0-9][\W_]{3}.{4})"
    r"-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])"
    r"(?:[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]{1,6})?)?(?:Z|[+-][0-9]{2}:?[0-9]{2})?)?(?![\W_]*+[0-9])"
    r")(?![^\W_]))"
)
"""A UUID, or a date of this century (ISO 8601) that isn't part of a longer run: what may show as many digits.

The conditions stand behind the first characters so that the search can skip to these.
"""


@lru_cache(maxsize=4096)
def _plain(char: str) -> str:
    """Return what a reader sees of one character: ASCII digits, one kind of blank, nothing of the unseen."""
    return "".join(map(_visible, unicodedata.normalize("NFKC", char)))


def _visible(char: str) -> str:
    digit = unicodedata.digit(char, None)
    if digit is not None:
        return str(digit)
    if char.isspace():
        return " "
    if char in _UNSEEN or unicodedata.category(char) in {"Cc", "Cf"}:
        return ""
    return char if char.isprintable() else "\N{REPLACEMENT CHARACTER}"


def _printable(text: str) -> str:
    return text if text.isascii() and text.isprintable() else "".join(map(_plain, text))


def _unescaped(match: re.Match[str]) -> str:
    kind = match.lastgroup
    if kind is None:  # a percent sign that came out of another escape: for the next level
        return match[0]
    if kind == "entity":
        return html5.get(match[kind], match[0])
    code = int(match[kind], 10 if kind == "decimal" else 16)
    return chr(code) if code <= sys.maxunicode else " "


def _reading(text: str) -> str:
    """Return a text as a person would read it: escapes undone, every character seen for what it shows."""
    text = _printable(text)
    for _ in range(_LEVELS):
        if not (("%" in text or "&" in text or "\\" in text) and _ESCAPE.search(text)):
            break
        text = _printable(_ESCAPE.sub(_unescaped, unquote(text)))
    return text


def _severed(text: str) -> str:
    """Return a text that was cut at its end without what the cut may have gone through: a word, a number, an escape."""
    text = text.rpartition(" ")[0]
    end = len(text)
    while end and not text[end - 1].isalpha():
        end -= 1
    return text[:end]


def _only_digits(text: str) -> str:
    return text.encode("ascii", "ignore").translate(None, _NO_DIGITS).decode()


def digits(text: str) -> str:
    """Return the digits of a phone number, however it is spelled: `tel:+33 1 99…` and `%2B33.1.99…` are the same.

    Of a `tel:` or `sip:` URI only the user part counts (RFC 3966, RFC 3261): no parameters, no host. Prefixes are
    kept as they are: whether `00` stands for `+` depends on the country.
    """
    bare = text.removeprefix("+")
    if bare.isascii() and bare.isdigit():  # the usual spelling (E.164) is worth a shortcut
        return bare
    return _only_digits(_reading(text).partition("@")[0].partition(";")[0])


def _is_opaque(word: str) -> bool:
    """Whether a word looks like a token: long, and mixing letters and digits beyond what codes and paths do."""
    if len(word) < _OPAQUE_LENGTH or not _DIGIT.search(word):
        return False
    pieces: list[str] = _ALPHANUMERIC.findall(_UUID.sub("", word))
    return sum(len(piece) for piece in pieces if not (piece.isalpha() or piece.isdigit())) >= _OPAQUE_MIX


Pieces = tuple[str, ...]
"""Parts of a text, a few characters each, so close that whoever knows none of them knows no longer part either."""


def pieces(text: str) -> Pieces | None:
    """Return the pieces of a text without digits, for `Mask.may_change`; None for one with digits."""
    reading = _reading(text)
    return None if _DIGIT.search(reading) else tuple(_pieces(reading, _SECRET_PART))


def _shares_part(word: str, secrets: str, width: int) -> bool:
    """Whether a word has so many characters in a row in common with one of the secrets, which stand on lines."""
    for piece in _pieces(word, width):  # most words end here
        if piece in secrets:
            return any(word[at : at + width] in secrets for at in range(len(word) - width + 1))
    return False


def _pieces(text: str, width: int) -> list[str]:
    """Return pieces of a text of which every part of `width` characters has one."""
    return [text[at : at + _PIECE] for at in range(0, len(text) - _PIECE + 1, width - _PIECE + 1)]


def _parts(number: str, width: int) -> Iterator[str]:
    """Yield every part of so many digits in a row of a number (all of it, if it is shorter)."""
    width = min(width, len(number))
    for at in range(len(number) - width + 1):
        part = number[at : at + width]
        # One digit over and over tells nothing: made-up ids are full of zeros.
        if part.count(part[0]) < width or width == len(number):
            yield part


class Secrets(NamedTuple):
    """Secrets as they are looked for: on lines of one text.

    Attributes:
        text: The secrets.
        width: How many characters in a row show one.
        share_with_uuids: Whether a UUID could.
    """

    text: str
    width: int
    share_with_uuids: bool

    @classmethod
    def read(cls, words: Iterable[str]) -> Self:
        """Read secrets as they were sent, with or without their scheme; ones below four characters are ignored."""
        bare = " ".join(map(_reading, words)).split()
        known = [word for word in bare if len(word) >= _SHORTEST_SECRET and word.lower() not in _SCHEMES]
        text, width = "\n".join(known), min(_SECRET_PART, *map(len, known)) if known else _SECRET_PART
        return cls(text, width, b"0" * width in text.encode("ascii", "replace").translate(_AS_IN_UUIDS))


class Mask:
    """What must not leave with the texts of one call: the secrets and numbers of its request, and all that looks alike.

    Args:
        secrets: Secrets, read already, for a token is sent with many calls, or as `Secrets.read` takes them.
        numbers: Phone numbers in any spelling; shorter ones than three digits are ignored.
    """

    __slots__ = ("_numbers", "_pieces", "_secrets", "_shares_with_uuids", "_width")

    def __init__(self, secrets: Secrets | Iterable[str] = (), numbers: Iterable[str] = ()) -> None:
        known = secrets if isinstance(secrets, Secrets) else Secrets.read(secrets)
        self._secrets, self._width, self._shares_with_uuids = known
        self._numbers = [number for number in map(digits, numbers) if len(number) >= _SHORTEST_NUMBER]
        self._pieces = [piece for number in self._numbers for piece in _pieces(number, _NUMBER_LENGTH)]

    def text(self, text: str, limit: int = 1000) -> str:
        """Return a text of one line and at most `limit` characters that is fit to leave the process."""
        window = _READ_AHEAD * limit
        reading = _reading(text[:window])
        is_cut = max(len(text), len(reading)) > window
        masked = self._masked(_severed(reading[:window]) if is_cut else reading)
        return masked[: limit - 1] + "…" if is_cut or len(masked) > limit else masked

    def code(self, text: object) -> str | None:
        """Return an error code that is fit to be a label.

        Returns:
            The code; `other` where there is one that isn't fit, so that it is counted; None where there is none.
        """
        if isinstance(text, int) and not isinstance(text, bool):
            text = str(text) if 0 <= text < 10**_NUMBER_LENGTH else OTHER
        if not isinstance(text, str) or not (text := text.strip()):
            return None
        return text if _CODE.fullmatch(text) and self._is_fit(text) else OTHER

    def identifier(self, text: object) -> str | None:
        """Return the id of an agent, a station or an exchange, or None where it isn't fit to leave the process."""
        if not isinstance(text, str):
            return None
        text = text.strip()
        if _UUID.fullmatch(text):
            is_secret = self._shares_with_uuids and self._is_secret(text)
            return None if is_secret or self._tells_number(text) else text
        return text if _IDENTIFIER.fullmatch(text) and self._is_fit(text) else None

    def may_change(self, pieces: Pieces) -> bool:
        """Whether this mask may make more of the text of these `pieces` than one that knows no secret and no number."""
        return self._width < _SECRET_PART or any(map(self._secrets.__contains__, pieces))

    def _masked(self, text: str) -> str:
        has_digit, width = _DIGIT.search(text), self._width
        text = " ".join(text.split())
        if has_digit or self._is_secret(text):  # else no word of it is a secret, nor opaque
            text = " ".join([word if len(word) < width else self._masked_word(word) for word in text.split()])
        lower = text.lower()
        if "bearer" in lower or "basic" in lower:
            text = _CREDENTIALS.sub(rf"\1 {_SECRET}", text)
        if "@" in text:
            text = _EMAIL.sub(_ADDRESS, text)
        return self._without_numbers(text) if has_digit else text

    def _masked_word(self, word: str) -> str:
        return _SECRET if self._is_secret(word) or _is_opaque(word) else word

    def _without_numbers(self, text: str) -> str:
        pieces = _SAFE.split(text) if "-" in text else [text]  # odd ones are safe shapes
        pieces[::2] = [_RUN.sub(self._masked_run, piece) for piece in pieces[::2]]
        text = "".join(pieces)
        return _WITHHELD if self._tells_number(text) else text

    def _masked_run(self, match: re.Match[str]) -> str:
        return _NUMBER if self._is_number(match[0]) else match[0]

    def _is_fit(self, word: str) -> bool:
        if self._is_secret(word):
            return False
        if not _DIGIT.search(word):
            return True
        return not (_is_opaque(word) or any(map(self._is_number, _RUN.findall(word))) or self._tells_number(word))

    def _is_secret(self, word: str) -> bool:
        return _shares_part(word, self._secrets, self._width)

    def _is_number(self, run: str) -> bool:
        """Whether a run is long enough for a number, or holds a part of a known one."""
        found = _only_digits(run)
        if len(found) >= _NUMBER_LENGTH:
            return True
        return any(part in found for number in self._numbers for part in _parts(number, _NUMBER_PART))

    def _tells_number(self, text: str) -> bool:
        """Whether a known number can be read from all the digits of a text, whatever stands between them."""
        found = _only_digits(text) if self._pieces else ""
        for piece in self._pieces:  # most ids have none
            if piece in found:
                known = [number for number in self._numbers if len(number) >= _NUMBER_LENGTH]
                return any(part in found for number in known for part in _parts(number, _NUMBER_LENGTH))
        return False


class LabelCap:
    """The first distinct values of a label; later ones become `other`, so that series stay bounded."""

    __slots__ = ("_limit", "_values")

    def __init__(self, limit: int = 40) -> None:
        self._limit = limit
        self._values: set[str] = set()

    def fold(self, value: str) -> tuple[str, bool]:
        """Return the value to show, and whether it was folded; `other` itself counts as folded and takes no place."""
        if value in self._values:
            return value, False
        if value == OTHER or len(self._values) >= self._limit:
            return OTHER, True
        self._values.add(value)
        return value, False


class KeyedHash:
    """Names for things that must not be kept, such as tokens and destinations: equal for equal texts, else meaningless.

    Args:
        key: At most 64 random bytes, made anew in each process.
    """

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        self._key = key

    def digest(self, text: str) -> str:
        """Return 32 hexadecimal digits (keyed BLAKE2b, RFC 7693)."""
        return blake2b(text.encode("utf-8", "surrogatepass"), key=self._key, digest_size=16).hexdigest()
