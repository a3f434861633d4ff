"""What `error_bodies` promises: that a body which is read once for many says the same as if it were read for itself."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from call_initiation.calls import error_bodies
from call_initiation.calls.error_bodies import Said, read

EXCHANGE = "9d4b1c2e-0000-4abc-8def-1234567890ab"
OTHER = "7c1e0000-1111-4abc-8def-0987654321cd"
NUMBER = "+33199000123"


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    """Begin with nothing kept, and leave nothing."""
    error_bodies._kept.clear()
    yield
    error_bodies._kept.clear()


def refusal(exchange: str = EXCHANGE, **parts: object) -> bytes:
    """Return a refusal as the API sends it."""
    body = {"message": "The agent is busy.", "code": "bad.request", "contextId": exchange, "errors": []}
    return json.dumps({**body, **parts}, ensure_ascii=False).encode()


def told(said: Said, exchange: str) -> tuple[object, ...]:
    """Return what is said, and the first id that the exchange has anywhere."""
    return said.codes, said.messages, next((one for one in (*said.contexts, exchange) if one), None)


def test_a_storm_is_read_once() -> None:
    """What is kept stands for all refusals that differ by their exchange alone, and for no other."""
    first, again = read(refusal(), EXCHANGE), read(refusal(OTHER), OTHER)
    assert (("bad.request",), ("The agent is busy.",)) == first[:2] == again[:2]
    assert 1 == len(error_bodies._kept)
    assert ("conflict",) == read(refusal(code="conflict"), EXCHANGE).codes
    assert 2 == len(error_bodies._kept)


@pytest.mark.parametrize(
    "parts",
    [
        {"message": f"{NUMBER} can't be reached."},
        {"message": "+33 1 99-00.01 23 can't be reached."},
        {"message": f"See {EXCHANGE}."},
        {"code": EXCHANGE},
        {"errors": [{"contextId": OTHER}]},
        {"contextId": {"nested": EXCHANGE}},
        {"message": "\ue000"},
        {"message": "x" * 3000},
    ],
)
def test_what_would_not_come_again_or_not_say_the_same_is_not_kept(parts: dict[str, object]) -> None:
    """Bodies with a number, with the exchange's id anywhere else, with another's id; and long ones."""
    read(refusal(**parts), EXCHANGE)
    assert {} == error_bodies._kept


@pytest.mark.parametrize("exchange", ["", "short", "a b c d e f", '","code":"evil', None])
def test_an_odd_exchange_keeps_nothing(exchange: str | None) -> None:
    """A header may hold anything."""
    assert ("bad.request",) == read(refusal(exchange or EXCHANGE), exchange).codes
    assert {} == error_bodies._kept


def test_what_is_kept_is_bounded() -> None:
    """However many different refusals come."""
    for one in range(600):
        read(refusal(code="".join("abcdefghij"[int(digit)] for digit in str(one))), EXCHANGE)
    assert 0 < len(error_bodies._kept) <= 256


ids = st.sampled_from([EXCHANGE, f"see {EXCHANGE}", OTHER, "bad.request", "", None, 5])
keys = st.sampled_from(["code", "message", "errors", "details", "errorCode", "contextId", "nested", EXCHANGE])
documents = st.recursive(
    ids,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=5)),
    max_leaves=12,
)


@given(documents, st.sampled_from(["abcdefgh", "0123456789", OTHER, EXCHANGE]), st.integers(0, 300))
@example({"errors": [{"contextId": OTHER}], "contextId": EXCHANGE}, OTHER, 300)
def test_what_was_kept_says_the_same(document: Any, exchange: str, length: int) -> None:
    """For any body, whole or broken off, of any exchange, after any other one."""
    wire = json.dumps(document)[:length]
    read(wire.encode(), EXCHANGE)
    body = wire.replace(EXCHANGE, exchange).encode()
    warm = told(read(body, exchange), exchange)
    error_bodies._kept.clear()
    assert told(read(body, exchange), exchange) == warm


def test_what_is_taken_of_a_body_is_bounded() -> None:
    """However many errors it lists, and details in each: each code would cost a mask's work."""
    details = [{"errorCode": f"CODE.{n}"} for n in range(1_000)]
    assert 50 == len(read(refusal(code=None, details=details), None).codes)
    errors = [{"details": [{"errorCode": f"CODE.{n}.{m}"} for m in range(50)]} for n in range(50)]
    assert 1_000 >= len(read(refusal(errors=errors), None).codes)


def test_a_word_is_no_message_and_a_sentence_no_code() -> None:
    """OAuth's `error` is a code (RFC 6749, section 5.2); elsewhere it is a sentence."""
    for error, codes, messages in (
        ("invalid_grant", ("invalid_grant",), ()),
        ("Not Found", (), ("Not Found",)),
    ):
        assert (codes, messages) == read(json.dumps({"error": error}).encode(), None)[:2]


@pytest.mark.parametrize("page", ["<html><script>{}</script></html>", "Say {} there."])
def test_what_is_no_json_has_no_codes(page: str) -> None:
    """A page may show some that are none of its own."""
    assert () == read(page.format('"code": "bad.request"').encode(), None).codes


def test_a_title_stands_at_the_head_of_a_page() -> None:
    """A page of megabytes is not searched through."""
    page = "<html>{}<title>Bad gateway</title>"
    assert ["Bad gateway", None] == [
        next(iter(read(page.format(" " * blanks).encode(), None).messages), None) for blanks in (9_000, 10_000)
    ]
