"""What `responses` promises: every code of every known form, the most specific first; and no bytes that break it."""

import json
import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from call_initiation.calls.codes import CODES
from call_initiation.calls.responses import parse
from call_initiation.events import BodyState, Category, Refusal
from call_initiation.privacy import Mask

CONTEXT = "9d4b1c2e-0000-4abc-8def-1234567890ab"
HEADER = "7c1e0000-1111-4abc-8def-0987654321cd"
NUMBER = "+33199000123"
TOKEN = "q7Zr1xN0cLw9VbT4-kYeD_2sUjHg8mPf5aQ6oRi3"
LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


def refusal(body: object, status: int = 400, header: str | None = None) -> Refusal:
    """Parse a body, given as bytes or as what JSON is made of."""
    wire = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    return parse(
        wire,
        status=status,
        header_correlation_id=header,
        state=BodyState.WHOLE,
        mask=Mask(secrets=[TOKEN], numbers=[NUMBER]),
    )


def test_a_whole_error_body_is_understood() -> None:
    """`ErrorBody` as the SDK has it, with all of its fields."""
    body = {
        "message": "A station is required to place a call.",
        "code": "conversation.error.no.user.station",
        "status": 400,
        "entityId": None,
        "messageWithParams": "A station is required",
        "messageParams": {"a": "b"},
        "contextId": CONTEXT,
        "details": [],
        "errors": [],
        "limit": None,
    }
    assert refusal(body, header=HEADER) == Refusal(
        codes=("conversation.error.no.user.station",),
        category=Category.STATION,
        message="A station is required to place a call.",
        correlation_id=CONTEXT,
        body=BodyState.WHOLE,
    )


@pytest.mark.parametrize(
    ("codes", "body"),
    [
        ((), {"message": "no code at all"}),
        (("400",), {"code": 400}),
        (("bad.request",), {"code": "bad.request"}),
        (("RULE_PERSISTENCE_CONFLICT",), {"code": "RULE_PERSISTENCE_CONFLICT"}),
        (
            ("ACTION.PROCESSING", "bad.request"),
            {"code": "bad.request", "details": [{"errorCode": "ACTION.PROCESSING"}]},
        ),
        (("a.one", "a.two"), {"details": [{"errorCode": "a.one"}, {"code": "a.two"}, {"fieldName": "x"}, 7, None]}),
        (("a.one",), {"details": {"errorCode": "a.one"}}),
        (("top",), {"code": "top", "errors": None, "details": "said in a sentence"}),
        (("IN_ERRORS", "top"), {"code": "top", "errors": ["IN_ERRORS", "a sentence", "word"]}),
        (("first", "second", "top"), {"code": "top", "errors": [{"code": "first"}, {"code": "second"}]}),
        (("deepest", "inner", "top"), {"code": "top", "nested": {"code": "inner", "nested": {"code": "deepest"}}}),
        (
            ("DETAIL.DEEP", "DETAIL.TOP", "deep", "top"),
            {
                "code": "top",
                "details": [{"errorCode": "DETAIL.TOP"}],
                "errors": [{"code": "deep", "details": [{"errorCode": "DETAIL.DEEP"}]}],
            },
        ),
        (("same",), {"code": "same", "errors": [{"code": "same"}], "details": [{"errorCode": "same"}]}),
        (("invalid_client",), {"error": "invalid_client", "error_description": "no such client"}),
        ((), {"error": "Bad Request", "status": 400}),
        (("inner",), {"error": {"code": "inner", "message": "wrapped"}}),
        (("topmost", "other"), {"code": "topmost", "details": [{"errorCode": "two words"}]}),
        (("one", "two"), [{"code": "one"}, {"code": "two"}]),
        (("VALIDATION_FAILED",), "VALIDATION_FAILED"),
        ((), {"code": {"a": 1}, "errors": 5, "details": True, "nested": [None, 1.5], "error": ["x"]}),
        ((), {}),
        ((), 42),
        ((), None),
    ],
)
def test_codes_of_every_form_from_the_most_specific_on(codes: tuple[str, ...], body: object) -> None:
    """Details, then nested errors from the deepest on, then the top; without repeats."""
    assert codes == refusal(body).codes


def test_at_most_sixteen_codes_are_kept() -> None:
    """The most specific ones are."""
    body = {"code": "top", "details": [{"errorCode": f"D{number}"} for number in range(40)]}
    assert tuple(f"D{number}" for number in range(16)) == refusal(body).codes


@pytest.mark.parametrize(
    ("message", "body"),
    [
        ("the message", {"message": "the message", "messageWithParams": "with", "description": "less"}),
        ("with {param}", {"message": " ", "messageWithParams": "with {param}"}),
        ("no such client", {"error": "invalid_client", "error_description": "no such client", "description": "x"}),
        ("described", {"error": "invalid_client", "description": "described"}),
        ("in details as text", {"code": "x", "details": "in details as text"}),
        ("in details", {"code": "x", "details": [{"errorCode": "A.B", "message": "in details"}]}),
        ("Bad Request", {"error": "Bad Request"}),
        ("nested says", {"message": 7, "errors": [{"message": "nested says"}]}),
        ("a sentence", {"errors": ["a sentence"]}),
        ("of one line now", {"message": "of\none\r\nline\u2028now"}),
        ("call +[number] failed", {"message": "call +33 1 99 00 01 23 failed"}),
        ("raw line ends", b'{"message":"raw\nline\tends"}'),
        ("upstream connect error", b"upstream connect error\n"),
        ("502 Bad Gateway", b"<!DOCTYPE html><HTML><head><Title lang='en'>502 Bad Gateway</title></head></html>"),
        ("try 'later'", b"<title>try &#39;later&#39;</title>"),
        (None, b"<html><body>no title</body></html>"),
        (None, b'{"message":"cut o'),
        (None, b"\xff\xfe\xfa rubbish"),
        (None, b""),
        (None, b"  \n"),
        (None, None),
        (None, {"code": "x"}),
    ],
)
def test_the_best_message_is_taken_and_masked(message: str | None, body: object) -> None:
    """The top's own sentence first; a proxy's page or text where there is no JSON."""
    assert message == refusal(body).message


@pytest.mark.parametrize(
    ("correlation", "body", "header"),
    [
        (CONTEXT, {"contextId": CONTEXT}, HEADER),
        (HEADER, {"contextId": None}, HEADER),
        (HEADER, {"contextId": "two words"}, HEADER),
        (HEADER, {"contextId": TOKEN}, HEADER),
        (HEADER, b"<html>", HEADER),
        (HEADER, None, HEADER),
        (CONTEXT, {"errors": [{"contextId": CONTEXT}]}, HEADER),
        (None, {"contextId": 5}, None),
        (None, {"contextId": NUMBER}, NUMBER),
    ],
)
def test_the_correlation_id_is_the_bodys_else_the_headers(
    correlation: str | None, body: object, header: str | None
) -> None:
    """What isn't fit to leave the process is no correlation id."""
    assert correlation == refusal(body, header=header).correlation_id


@pytest.mark.parametrize(
    ("category", "body", "status"),
    [
        (Category.STATION, {"code": "conversation.error.no.user.station"}, 400),
        (Category.STATION, {"code": "bad.request", "message": "A Station is required to place a call."}, 400),
        (Category.STATION, {"code": "user.station.missing"}, 400),
        (Category.DESTINATION, {"code": "too.many.create.conversation.parameters"}, 400),
        (Category.DESTINATION, {"code": "bad.request", "message": "phoneNumber is not valid"}, 400),
        (Category.DESTINATION, {"code": "INVALID_PHONE_NUMBER"}, 400),
        (Category.USER_CONTEXT, {"code": "not.a.user"}, 400),
        (Category.USER_CONTEXT, {"code": 400, "message": "This request requires a user context."}, 400),
        (
            Category.USER_CONTEXT,
            {"code": "not.found", "message": "User x is not a participant in the conversation."},
            404,
        ),
        (Category.AGENT_STATE, {"code": "bad.request", "details": [{"errorCode": "INVALID_AGENT_STATE"}]}, 400),
        (Category.AGENT_STATE, {"code": "agent.not.available"}, 409),
        (Category.SCHEMA, {"code": "invalid.value"}, 400),
        (Category.SCHEMA, {"code": "FIELD-REQUIRED"}, 400),
        (Category.PERMISSION, {"code": "forbidden"}, 403),
        (Category.PERMISSION, {"code": "unauthorized", "message": "Missing permission conversation:call:add"}, 401),
        (Category.AUTHENTICATION, {"error": "invalid_client"}, 400),
        (Category.AUTHENTICATION, {"code": "unauthorized"}, 400),
        (Category.RATE_LIMIT, {"code": "too.many.requests.retry.after"}, 429),
        (Category.RATE_LIMIT, {"message": "Rate limit exceeded the maximum. Retry the request in [42] seconds"}, 400),
        (Category.PROVIDER, {"code": "error.ininedgecontrol.connection.timeout"}, 400),
        (Category.PROVIDER, {"code": "providerapi.error.something.new"}, 400),
        (Category.PROVIDER, {"code": "providerapi.error.station.no.active.edge"}, 500),
        (Category.TIMEOUT, {"code": "request.timeout"}, 504),
        (Category.TIMEOUT, {"code": "x.y", "message": "The request timed out"}, 500),
        (Category.CONFLICT, {"code": "RULE_PERSISTENCE_CONFLICT"}, 400),
        (Category.CONFLICT, {"code": "general.conflict"}, 400),
        (Category.UNKNOWN, {"code": "bad.request"}, 400),
        (Category.UNKNOWN, {"code": "not.found", "message": "no such thing"}, 404),
        (Category.AUTHENTICATION, None, 401),
        (Category.PERMISSION, b"<html>", 403),
        (Category.UNKNOWN, None, 404),
        (Category.TIMEOUT, None, 408),
        (Category.CONFLICT, None, 409),
        (Category.SCHEMA, None, 413),
        (Category.SCHEMA, None, 415),
        (Category.RATE_LIMIT, None, 429),
        (Category.PROVIDER, None, 500),
        (Category.PROVIDER, {"code": "not.found"}, 502),
        (Category.TIMEOUT, None, 504),
        (Category.PROVIDER, None, 599),
    ],
)
def test_the_category_is_the_most_specific_words(category: Category, body: object, status: int) -> None:
    """A specific code, else the message, else a generic code, else the status."""
    assert category == refusal(body, status).category


def test_a_specific_code_goes_before_a_message_that_says_otherwise() -> None:
    """Codes are made for programs, messages for people."""
    body = {"code": "not.a.user", "message": "A station is required to place a call."}
    assert Category.USER_CONTEXT is refusal(body).category


SIMPLE = {"message": "A station is required to place a call.", "code": "conversation.error.no.user.station"}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"])
def test_every_unicode_encoding_is_read(encoding: str) -> None:
    """RFC 8259 wants UTF-8; senders differ, and some put a byte order mark in front."""
    wire = json.dumps(SIMPLE).encode(encoding)
    assert ("conversation.error.no.user.station",) == refusal(wire).codes


@pytest.mark.parametrize(
    ("codes", "wire"),
    [
        (("a.b",), b'{"code":"a.b","message":"bad \xff\xc3 UTF-8"}'),
        (("a.b",), b'{"code":"a.b","status":' + b"9" * 5000 + b"}"),
        (("other",), b'{"code":' + b"9" * 5000 + b"}"),
        (("a.b",), b'{"code":"a.b","status":NaN,"limit":-Infinity,"x":1e999}'),
        (("a.b",), b'{"code":"a.b","message":"raw\nline\tends"}'),
        (("other",), rb'{"code":"a\ud800b","message":"\udfff"}'),
        (("other",), rb'{"code":"a\u0000b"}'),
        (("last",), b'{"code":"first","code":"last"}'),
        ((), b"[" * 100_000),
        ((), b"[" * 100_000 + b"]" * 100_000),
        (("a.b",), b'{"code":"a.b","errors":' + b"[" * 100_000),
        (("deep.2", "deep.1"), b'{"code":"deep.1","nested":{"code":"deep.2","nested":' + b'{"nested":' * 30_000),
        (("D.1", "D.2", "a.b"), b'{"code":"a.b","details":[{"errorCode":"D.1"},{"errorCode" : "D.2"},{"errorC'),
        (("7", "a"), b'[{"code": "a"}, {"error": 7, "message": "about \\"code\\":\\"no\\" cu'),
        ((), b'{"code":"cu'),
        ((), b"code: a.b"),
        ((), b"\x00\x00\x00\x00"),
        ((), b"\xff" * 100),
        ((), b"nul"),
    ],
    ids=range(19),
)
def test_the_codes_that_are_there_are_found_in_any_ruin(codes: tuple[str, ...], wire: bytes) -> None:
    """Bad encodings, endless numbers, endless depth, and JSON that breaks off."""
    assert codes == refusal(wire).codes


def test_depth_is_no_matter_of_recursion() -> None:
    """Errors nested as deeply as JSON can be read are walked with the top kept, whatever the budget."""
    nested: Any = {"code": "deepest"}
    for number in range(300):
        nested = {"code": f"level-{number % 3}", "nested": nested}
    assert ("deepest", "level-0", "level-1", "level-2") == refusal(nested).codes


def test_a_body_of_endless_errors_costs_a_bounded_walk() -> None:
    """The top is read whatever stands beneath; of the rest, as much as the budget allows."""
    errors = [{"errors": [{"errors": ["x"] * 100}] * 100}] * 100
    assert ("top.code",) == refusal({"code": "top.code", "errors": errors}).codes


def test_of_endless_errors_the_first_are_kept() -> None:
    """The walk ends somewhere, but it doesn't begin in the middle."""
    errors = [{"code": f"e.{number}"} for number in range(1000)]
    assert tuple(f"e.{number}" for number in range(16)) == refusal({"code": "top", "errors": errors}).codes


def test_what_is_known_from_another_call_is_masked_for_this_one() -> None:
    """Refusals that come again and again are read once; what is a secret of one call is none of the others."""
    body = json.dumps({"message": "Not correct-horse.", "contextId": CONTEXT}).encode()
    secrets = ((), ("correct-horse",), ())
    masks = [Mask(secrets=one, numbers=()) for one in secrets]
    assert ["Not correct-horse.", "Not [secret]", "Not correct-horse."] == [
        parse(body, status=400, header_correlation_id=CONTEXT, state=BodyState.WHOLE, mask=mask).message
        for mask in masks
    ]


def test_the_state_of_the_body_is_kept() -> None:
    """Whether it was whole is the caller's to know."""
    for state in BodyState:
        parsed = parse(None, status=400, header_correlation_id=None, state=state, mask=Mask())
        assert Refusal(body=state) == parsed


@pytest.mark.parametrize("canary", [NUMBER, "33 1 99 00 01 23", "%2B33199000123", TOKEN, f"Bearer {TOKEN}"])
def test_canaries_come_through_no_field(canary: str) -> None:
    """Wherever the upstream quotes what it was sent."""
    fields = ("code", "message", "contextId", "error", "error_description", "details")
    bodies = [{field: canary} for field in fields]
    quoted = [*bodies, {"errors": [*bodies, canary]}, {"details": [{"errorCode": canary, "message": canary}]}]
    wires = [*(json.dumps(body).encode() for body in quoted), canary.encode(), f"<title>{canary}".encode()]
    shown = " ".join(str(refusal(wire, header=canary)) for wire in [*wires, f'{{"code":"{canary}","x'.encode()])
    assert TOKEN[:8] not in shown
    assert "0123" not in re.sub("[^0-9]", "", shown)


def holds_its_laws(parsed: Refusal) -> bool:
    """Return whether every part is fit to be shown."""
    message_is_fit = parsed.message is None or (parsed.message.isprintable() and 0 < len(parsed.message) <= 1000)
    codes_are_fit = all(LABEL.fullmatch(code) for code in parsed.codes) and len(set(parsed.codes)) == len(parsed.codes)
    return message_is_fit and codes_are_fit and len(parsed.codes) <= 16 and str(parsed).encode() is not None


keys = st.sampled_from(
    ["code", "message", "errors", "nested", "details", "error", "errorCode", "contextId", "status", "description"]
)
anything = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(st.characters()),
        st.sampled_from(sorted(CODES)),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(keys, inner, max_size=5)),
    max_leaves=25,
)


@given(anything, st.integers(0, 1000))
@example({"code": "\ud800", "message": "\udfff\u2028"}, 400)
def test_any_json_is_parsed(document: Any, status: int) -> None:
    """Wrong types anywhere raise nothing, and the answer is the same twice."""
    parsed = refusal(document, status)
    assert holds_its_laws(parsed)
    assert parsed == refusal(document, status)


@given(st.one_of(st.binary(max_size=200), anything.map(lambda value: json.dumps(value).encode())), st.integers(0, 200))
def test_any_bytes_are_parsed(wire: bytes, length: int) -> None:
    """Rubbish, and JSON that breaks off at any byte."""
    assert holds_its_laws(refusal(wire[:length]))
