"""What `nesting` promises: the depth of JSON without recursion, whatever stands in its texts."""

import json

import pytest

from call_initiation.nesting import DEEPEST, is_deep


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", False),
        ("[" * DEEPEST + "]" * DEEPEST, False),
        ("[" * (DEEPEST + 1), True),
        ('{"a":' * 100_000, True),
        ("[{}," * DEEPEST, True),
        ("[" + "{}," * 1000, False),
        ("[[]," + "[]," * 1000 + "{}]", False),
        (json.dumps(["[" * 1000, '"' + "{" * 1000, "\\" + "[" * 1000]), False),
        ('"' + "[" * 1000, True),
    ],
)
def test_depth(text: str, expected: bool) -> None:  # noqa: FBT001 - a parameter of pytest's
    """What closes makes it less; what stands in a text doesn't count; a text that never ends is none."""
    assert expected == is_deep(text)
