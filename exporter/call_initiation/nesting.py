"""How deeply JSON is nested, told without recursion.

A parser recurses. At the interpreter's limit it fails in good order, but Python's collector may run there, too, and
what it then finalizes of anybody's objects has no room to run. So what is nested too deeply isn't parsed at all.
"""

import re
from typing import Final

DEEPEST: Final = 200
"""How many objects and arrays may stand in each other; the API's own bodies have a handful."""

_PARTS: Final = re.compile(r'"(?:[^"\\]++|\\.)*+"|[\[\]{}]', re.DOTALL)


def is_deep(text: str) -> bool:
    """Return whether JSON, or what may be some, is nested more deeply than `DEEPEST`."""
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
