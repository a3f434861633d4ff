"""What is explained: answers in every form in which they are saved, and where each says to look first."""

import gzip
import json
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from call_initiation.calls.meanings import Culprit
from call_initiation.diagnosis import explanation
from call_initiation.diagnosis.explanation import Explanation, explain, saved
from call_initiation.diagnosis.findings import Finding, Remark
from call_initiation.events import Category

CONTEXT = "5b8f1c1e-0000-4000-8000-00000000000a"
NUMBER = "+33199000000"
BODY = b'{"code": "bad.request", "message": "refused"}'
HEAD = b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nININ-Correlation-Id: " + CONTEXT.encode()
ERROR = (Remark(Finding.NO_DESTINATION),)
WARNING = (Remark(Finding.UNDOCUMENTED_BODY, "from, to"),)
NOTE = (Remark(Finding.QUEUE_PROPERTY, "priority"),)


def explained(body: object, status: int | None = 400, remarks: tuple[Remark, ...] | None = None) -> Explanation:
    """Explain a body alone."""
    return explain(json.dumps(body).encode(), status=status, remarks=remarks)


@pytest.mark.parametrize(
    ("status", "body", "content"),
    [
        (None, BODY, BODY),
        (None, b"", b""),
        (None, b"HTTP is a protocol", b"HTTP is a protocol"),
        (400, BODY, HEAD + b"\r\n\r\n" + BODY),
        (400, BODY, HEAD.replace(b"\r", b"") + b"\n\n" + BODY),
        (400, BODY, b"HTTP/2 400 \r\ncontent-type: application/json\r\n\r\n" + BODY),
        (
            400,
            BODY,
            b"HTTP/1.1 200 Connection established\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + HEAD + b"\n\n" + BODY,
        ),
        (400, b"", HEAD),
        (400, b"", HEAD + b"\r\n"),
        (503, b"", b"HTTP/3 503"),
        (400, b"a\n\nb", b"\nHTTP/1.0 400 No\n\na\n\nb"),
        (None, b"HTTP/1.1 999 x", b"HTTP/1.1 999 x"),
    ],
)
def test_an_answer_is_read_as_it_was_saved(status: int | None, body: bytes, content: bytes) -> None:
    """What begins with a status line has a head; the last of several counts."""
    answer = saved(content)
    assert (status, body) == (answer.status, answer.body)


def test_headers_have_their_names_in_lower_case() -> None:
    """HTTP/1.1 and HTTP/2 write them differently."""
    assert CONTEXT == saved(HEAD + b"\r\n\r\n").headers["inin-correlation-id"]


def test_heads_without_end_are_not_followed_for_ever() -> None:
    """The eleventh is a body."""
    assert saved(1000 * b"HTTP/1.1 100 Continue\n\n").body.startswith(b"HTTP/1.1 100")


@pytest.mark.parametrize("is_undone", [True, False])
def test_a_content_encoding_is_undone_unless_curl_has(is_undone: bool) -> None:  # noqa: FBT001 - a case
    """`curl -i --compressed` shows the header, and the body without it."""
    body = BODY if is_undone else gzip.compress(BODY)
    found = explain(HEAD + b"\r\nContent-Encoding: gzip\r\n\r\n" + body)
    assert (400, ("bad.request",), CONTEXT) == (found.status, found.refusal.codes, found.refusal.correlation_id)


def test_an_encoding_that_cannot_be_undone_leaves_the_head() -> None:
    """The status says what it can."""
    found = explain(b"HTTP/1.1 503 No\r\nContent-Encoding: x\r\n\r\nrubbish")
    assert (503, Culprit.PLATFORM) == (found.status, found.verdict.culprit)


@pytest.mark.parametrize(
    ("status", "given", "content"),
    [
        (400, None, b'{"status": 400}'),
        (403, None, b'{"status": "403"}'),
        (409, 409, b'{"status": 400}'),
        (404, 404, b"HTTP/1.1 400 No\n\n{}"),
        (400, None, b'HTTP/1.1 400 No\n\n{"status": 500}'),
        (None, None, b'{"status": 99}'),
        (None, None, b'{"status": "refused"}'),
        (None, None, b'{"status": [400]}'),
        (None, None, b"[400]"),
    ],
)
def test_the_status_is_who_says_it_first(status: int | None, given: int | None, content: bytes) -> None:
    """The operator, then the head, then the body itself."""
    assert status == explain(content, status=given).status


@pytest.mark.parametrize(
    ("culprit", "sentence", "body", "status"),
    [
        (
            Culprit.STATION,
            "Likely the agent's station: a documented code or message says so.",
            {"code": "bad.request", "details": [{"errorCode": "conversation.error.no.user.station"}]},
            400,
        ),
        (
            Culprit.AGENT_STATE,
            "Likely the agent's state: a code says so that one community thread alone knows, and no document.",
            {"code": "INVALID_AGENT_STATE"},
            400,
        ),
        (
            Culprit.AGENT_STATE,
            "Likely the agent's state: so the wording of a code or message suggests; no document has it.",
            {"code": "AGENT_STATUS_BUSY"},
            400,
        ),
        (
            Culprit.TOKEN,
            "Likely the token or its permissions: a code of OAuth's standard says so.",
            {"error": "invalid_client"},
            400,
        ),
        (
            Culprit.TOKEN,
            "Likely the token or its permissions: a code or message says so that was seen in public, in no document.",
            {"code": "not.found", "message": "User x is not a participant in the conversation."},
            404,
        ),
        (
            Culprit.NETWORK,
            "Likely the network, or what stands between us and the platform: this program's own gateway says so.",
            {"code": "call_initiation.gateway.answer_lost"},
            502,
        ),
        (
            Culprit.PAYLOAD,
            "Likely our payload: a documented code or message says so.",
            {"code": "too.many.create.conversation.parameters"},
            400,
        ),
        (
            Culprit.PACE,
            "Likely our rate of requests: the status says so, and nothing in the body says more.",
            {},
            429,
        ),
        (
            Culprit.TOKEN,
            "Likely the token or its permissions: the status says so, and nothing in the body says more.",
            {"code": "bad.request"},
            401,
        ),
        (
            Culprit.PATH,
            "Likely the ids in the path: the status says so, and nothing in the body says more.",
            {"code": "not.found"},
            404,
        ),
        (
            Culprit.NETWORK,
            "Likely the base URL, or what answers there: the API redirects no call start.",
            {},
            302,
        ),
        (Culprit.UNKNOWN, "The answer doesn't say whose concern it is.", {"code": "bad.request"}, 400),
        (
            None,
            "Nothing was refused: the call was accepted. Accepted is not placed: the agent's own leg can still fail.",
            {"id": CONTEXT, "selfUri": "/"},
            202,
        ),
    ],
)
def test_where_to_look_first(culprit: Culprit | None, sentence: str, body: object, status: int) -> None:
    """What says the most says it, and how that is known is told; what nobody knows is nobody's fault."""
    verdict = explained(body, status).verdict
    assert (culprit, sentence) == (verdict.culprit, verdict.sentence)


@pytest.mark.parametrize(
    ("culprit", "beginning", "code", "remarks"),
    [
        (Culprit.PAYLOAD, "Likely our payload: the answer says too little, but", "bad.request", ERROR),
        (Culprit.PAYLOAD, "Perhaps our payload: the answer says too little, and", "bad.request", WARNING),
        (Culprit.UNKNOWN, "The answer doesn't say whose concern it is, and a check", "bad.request", NOTE),
        (Culprit.UNKNOWN, "The answer doesn't say whose concern it is, and a check", "bad.request", ()),
        (Culprit.STATION, "Likely the agent's station: a doc", "conversation.error.no.user.station", ERROR),
        (Culprit.PAYLOAD, "Likely our payload: a documented code or message says so; a check", "invalid.value", ()),
        (Culprit.PAYLOAD, "Likely our payload: a documented code or message says so.", "invalid.value", WARNING),
    ],
)
def test_a_check_of_the_request_counts_where_the_answer_says_too_little(
    culprit: Culprit, beginning: str, code: str, remarks: tuple[Remark, ...]
) -> None:
    """And never against what the answer does say."""
    verdict = explained({"code": code}, 400, remarks).verdict
    assert culprit is verdict.culprit
    assert verdict.sentence.startswith(beginning)


def test_an_id_that_is_not_found_is_suspected_before_something_odd() -> None:
    """But not before an error."""
    assert Culprit.PATH is explained({}, 404, WARNING).verdict.culprit
    assert Culprit.PAYLOAD is explained({}, 404, ERROR).verdict.culprit


def test_the_advice_is_the_codes_own_where_it_has_some() -> None:
    """Else its concern's."""
    assert "`agents --ready`" in explained({"code": "conversation.error.no.user.station"}).verdict.advice
    assert "whether the agent has a station" in explained({"code": "user.station.missing"}).verdict.advice
    assert "details[]" in explained({"code": "bad.request"}).verdict.advice


@pytest.mark.parametrize(
    ("is_empty", "body", "status"),
    [
        (True, {}, None),
        (True, {}, 400),
        (False, {}, 401),
        (False, {}, 202),
        (False, {"code": "X-7"}, None),
        (False, {"message": "no"}, None),
    ],
)
def test_what_says_nothing_is_empty(is_empty: bool, body: object, status: int | None) -> None:  # noqa: FBT001 - a case
    """No code, no message, and no status that means something by itself."""
    assert is_empty == explained(body, status).is_empty


def test_whose_concern_it_is_is_asked_of_refusals_alone() -> None:
    """What was accepted is nobody's concern."""
    assert Category.CONFLICT is explained({}, 409).category
    assert explained({}, 200).category is None


def test_what_the_answer_quotes_of_the_request_is_masked() -> None:
    """A short number, too, where it is known."""
    body = json.dumps({"message": f"{NUMBER} and 15 55 are busy", "contextId": "33199000000"}).encode()
    found = explain(body, numbers=["1555"])
    assert "+[number] and [number] are busy" == found.refusal.message
    assert found.refusal.correlation_id is None


@given(st.binary(), st.none() | st.integers(100, 599), st.sampled_from([None, (), ERROR, WARNING]))
@example(b"HTTP/1.1 400", None, None)
@example(b"HTTP/1.1 400 x\ncontent-encoding: gzip\n\n\x1f\x8b", None, None)
@example(100_000 * b"[", None, ())
def test_any_bytes_are_explained(content: bytes, status: int | None, remarks: tuple[Remark, ...] | None) -> None:
    """The same way each time, whether they are a body or have a head before them."""
    for answer in (content, HEAD + b"\r\n\r\n" + content):
        found = explain(answer, status=status, remarks=remarks)
        assert found == explain(answer, status=status, remarks=remarks)
        assert found.verdict.sentence.endswith(".")
        assert found.verdict.advice.endswith(".")


@given(st.integers(10**8, 10**14).map(str), st.text("abc .-/+", max_size=3), st.text(" .-/+", max_size=2))
def test_no_part_of_a_number_is_told(number: str, between: str, apart: str) -> None:
    """However the answer spells what it quotes; even with letters in it, where the request is known."""
    known = {"message": f"to {between.join(number)} failed", "code": between.join(number)}
    unknown = {"message": f"to {apart.join(number)} failed", "contextId": apart.join(number)}
    told = (explain(json.dumps(known).encode(), numbers=[number]), explain(json.dumps(unknown).encode()))
    for found in told:
        assert not quotes(found, number)


def quotes(found: Explanation, number: str) -> bool:
    """Tell whether seven digits of a number can be read from what is shown of an answer."""
    shown = f"{found.refusal.message}{found.refusal.codes}{found.refusal.correlation_id}"
    return any(number[at : at + 7] in re.sub(r"\D", "", shown) for at in range(len(number) - 6))


def test_every_way_of_knowing_has_words() -> None:
    """So that no culprit is named without saying who says so."""
    assert set(explanation.Source) == set(explanation._BASIS)
