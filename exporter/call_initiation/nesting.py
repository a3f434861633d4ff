"""JSON from outside, read only where it isn't nested too deeply.

A parser recurses. At the interpreter's limit it fails in good order, but Python's collector may run there, too, and
what it then finalizes of anybody's objects has no room to run. So what is nested too deeply isn't parsed at all.
"""

import json
import re
from collections.abc import Callable
from typing import Any, Final

DEEPEST: Final = 200
"""How many objects and arrays may stand in each other; the API's own bodies have a handful."""

_PARTS: Final = re.compile(r'"(?:[^"\\]++|\\.)*+"|[\[\]{}]', re.DOTALL)


def loads(text: str | bytes, decode: Callable[[str], Any] = json.loads) -> Any:
    """Return what JSON holds, as `json.loads` does.

    Args:
        text: The JSON; bytes in any of its encodings.
        decode: What parses the text.

    Raises:
        ValueError: It is no JSON, is no text in its encoding, or is nested more deeply than `DEEPEST`.
    """
    if isinstance(text, bytes):
        text = text.decode(json.detect_encoding(text), "surrogatepass")
    if _is_deep(text):
        problem = f"nested more than {DEEPEST} deep"
        raise ValueError(problem)
    return decode(text)


def _is_deep(text: str) -> bool:
    """Tell without recursion; brackets in a text that never ends count, too."""
    if text.count("[") + text.count("{") <= DEEPEST:
        return False
    depth = 0
    for part in _PARTS.finditer(text):
        if part[0] in "[{":
            depth += 1
            if depth > DEEPEST:
                return True
        elif part[0] in "]}":
            depth -= 1
    return False
