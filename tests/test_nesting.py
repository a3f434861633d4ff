"""What `nesting` promises: JSON as ever, but nothing that is nested too deeply."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from call_initiation.nesting import DEEPEST, loads


@pytest.mark.parametrize(
    "text",
    [
        "[" * (DEEPEST + 1),
        "[" * (DEEPEST + 1) + "]" * (DEEPEST + 1),
        '{"a":' * 100_000,
        "[{}," * DEEPEST + "1" + "]" * DEEPEST,
        b"[" * 100_000,
        ("[" * 1000).encode("utf-16"),
    ],
)
def test_what_is_nested_too_deeply_is_not_parsed(text: str | bytes) -> None:
    """Not even by a parser that would manage."""
    with pytest.raises(ValueError, match="nested more than 200 deep"):
        loads(text, lambda _: None)


@pytest.mark.parametrize(
    "value",
    [
        json.loads("[" * DEEPEST + "]" * DEEPEST),
        [{}] * 1000,
        ["[" * 1000, '"' + "{" * 1000, "\\" + "[" * 1000, '\\"[' * 1000],
    ],
)
def test_what_is_wide_is_parsed(value: Any) -> None:
    """What closes makes it less deep, and what stands in a text isn't structure."""
    assert value == loads(json.dumps(value))


documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(documents, st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]))
def test_all_else_is_parsed_as_ever(document: Any, encoding: str) -> None:
    """In any encoding that JSON may have."""
    assert document == loads(json.dumps(document)) == loads(json.dumps(document, ensure_ascii=False).encode(encoding))


@pytest.mark.parametrize("text", ["", "{", b"\xff\xfe", b"{\xff}", "9" * 5000])
def test_what_is_no_json_is_an_error(text: str | bytes) -> None:
    """Of one kind."""
    with pytest.raises(ValueError, match=r"."):
        loads(text)
