"""What `bodies` promises: JSON in any encoding, numbers as they are written, and `UNREAD` for all else."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from call_initiation.calls import bodies
from call_initiation.calls.bodies import CALL_COMMAND, CREATE_CALL_REQUEST, DESTINATION, ITEMS, UNREAD, Numeral, read


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
def test_json_is_read_in_all_its_encodings(encoding: str) -> None:
    """In which one is told, too."""
    content = '{"label": "é"}'.encode(encoding)
    assert {"label": "é"} == read(content)
    assert (encoding == "utf-8") == (bodies.encoding(content) == "utf-8")


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        b" ",
        b"phoneNumber=%2B33199000000",
        b'{"phoneNumber": "+331990',
        b'{"phoneNumber": "\xff"}',
        100_000 * b"[",
        b"{}".ljust(512_001),
    ],
    ids=["stream", "empty", "blank", "form", "cut", "bytes", "deep", "large"],
)
def test_what_cannot_be_read_is_unread(content: bytes | None) -> None:
    """Which differs from null, that is JSON."""
    assert read(content) is UNREAD
    assert read(b"null") is None


def test_a_body_of_the_largest_size_is_read() -> None:
    """512,000 bytes are the API's limit."""
    assert {} == read(b"{}".ljust(512_000))


def test_numbers_are_kept_as_they_are_written() -> None:
    """And can be told from texts, which are plain ones."""
    long = 5000 * "1"
    document = read(b'[33199000000, -1.50e999999, NaN, %s, "1"]' % long.encode())
    assert isinstance(document, list)
    assert ["33199000000", "-1.50e999999", "NaN", long, "1"] == document
    assert [*(4 * [Numeral]), str] == [type(item) for item in document]


def test_a_lone_surrogate_is_read_as_python_reads_it() -> None:
    """Python writes such bytes too, if a dialer's text has half of a pair."""
    assert {"label": "\ud800"} == read(b'{"label": "\xed\xa0\x80"}')


def test_the_models_say_what_lists_and_maps_hold() -> None:
    """Of each property that is one."""
    models = (CREATE_CALL_REQUEST, CALL_COMMAND, DESTINATION)
    containers = {name for model in models for name, kind in model.items() if kind in {list, dict}}
    assert set(ITEMS) == containers


@given(st.binary() | st.lists(st.text() | st.integers()).map(lambda value: json.dumps(value).encode()))
def test_read_is_total(content: bytes) -> None:
    """Whatever the bytes: a document, the same one each time, or UNREAD."""
    assert read(content) == read(content)
