"""What a check finds in bodies: each by hand from what is documented, seen or claimed; and no bytes that break it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from call_initiation.calls import bodies
from call_initiation.calls.endpoints import CALL_OF_CONVERSATION, CALLS, CALLS_OF_USER, Endpoint
from call_initiation.diagnosis.diagnosis import examine, words
from call_initiation.diagnosis.findings import Finding, Remark

PAYLOADS = Path(__file__).parent / "data" / "payloads"
AGENT = "9d4b4c1e-0000-4000-8000-000000000001"
PLAIN = Endpoint(CALLS)
ON_BEHALF = Endpoint(CALLS_OF_USER, user_id=AGENT)
CALLBACK = Endpoint(CALL_OF_CONVERSATION, conversation_id="c-1")


def examined(content: bytes | None, endpoint: Endpoint = ON_BEHALF, agent_id: str | None = AGENT) -> tuple[Remark, ...]:
    """Examine a body as it is sent."""
    return examine(content, bodies.read(content), endpoint, agent_id)


def told(content: bytes | None, endpoint: Endpoint = ON_BEHALF) -> list[str]:
    """Return what is found as lines: severity, word, path."""
    return [f"{found.severity} {found} {path}".rstrip() for found, path in examined(content, endpoint)]


FINE = (
    *("plain", "full", "queue", "user", "conference", "merge", "national", "north_american", "tel_uri", "sip_uri"),
    *("flow", "pause", "nulls"),
)
"""What real dialers send, or what the API's definition has."""

FOUND = {
    "nobody": ["error no_destination"],
    "all_null": ["error no_destination"],
    "agent_as_callee": ["error several_destinations phoneNumber, callUserId", "warning calls_themself callUserId"],
    "three_destinations": ["error several_destinations phoneNumber, participants, conversationIds"],
    "blank": ["warning empty_destination phoneNumber"],
    "blank_beside": ["warning empty_destination callUserId"],
    "no_participants": ["warning empty_destination participants"],
    "participant_nobody": [
        "error wrong_type participants[3]",
        "warning empty_destination participants[1]",
        "warning empty_destination participants[3]",
        "warning empty_destination participants[2].userId",
    ],
    "participants_of_the_forum": [
        "warning unknown_property participants[0].type",
        "warning unknown_property participants[0].to",
        "warning unknown_property participants[0].from",
        "warning empty_destination participants[0]",
        "error no_destination participants",
    ],
    "placeholder": ["warning impossible_address phoneNumber"],
    "name": ["warning impossible_address phoneNumber"],
    "bare_scheme": [f"warning impossible_address participants[{at}].address" for at in range(4)],
    "two_numbers": ["warning impossible_address phoneNumber"],
    "two_national_numbers": ["warning impossible_address phoneNumber"],
    "broken_line": ["warning impossible_address phoneNumber"],
    "padded": ["note padded_address phoneNumber"],
    "twice": ["note padded_address participants[1].address", "warning repeated_address participants[1].address"],
    "themself": ["warning calls_themself callUserId"],
    "themself_in_conference": ["warning calls_themself participants[1].userId"],
    "queue_by_name": ["warning not_an_id callFromQueueId"],
    "ids_by_name": ["warning not_an_id conversationIds[0]"],
    "priority_without_queue": ["note queue_property priority, languageId"],
    "snake_case": [
        "warning misspelt_property phoneNumber",
        "warning misspelt_property callerId",
        "error no_destination",
    ],
    "capital": ["warning misspelt_property phoneNumber", "error no_destination"],
    "unknown": [
        "warning unknown_property wrapUpCode",
        "warning unknown_property ?",
        "warning unknown_property ?",
    ],
    "number_as_number": ["error wrong_type phoneNumber"],
    "wrong_types": [
        "error wrong_type phoneNumber",
        "error wrong_type priority",
        "error wrong_type attributes.lead",
        "error wrong_type attributes.?",
        "error wrong_type routingSkillsIds",
        "error wrong_type conversationIds[0]",
        "error wrong_type label",
        "error wrong_type callerId",
        "error several_destinations phoneNumber, conversationIds",
        "note queue_property priority, routingSkillsIds",
    ],
    "priority_by_halves": ["error wrong_type priority"],
    "not_a_number": ["error wrong_type priority", "note queue_property priority"],
    "callback": [
        "warning foreign_property callNumber",
        "warning foreign_property phoneColumn",
        "error no_destination",
    ],
    "thread_question": ["warning undocumented_body from, to", "warning from_type_missing from.type"],
    "thread_answer": ["warning undocumented_body from, to"],
    "thread_without_agent": ["warning undocumented_body from, to"],
    "thread_to_nobody": ["warning undocumented_body from, to", "warning to_missing to"],
    "thread_to_an_object": [
        "warning undocumented_body from, to",
        "warning from_type_missing from.type",
        "warning to_missing to",
        "warning unknown_property mediaType",
    ],
    "thread_empty_callee": [
        "warning undocumented_body from, to",
        "warning empty_destination to[1].address.phoneNumber",
        "warning repeated_address to[2].address.phoneNumber",
    ],
    "both_bodies": ["warning undocumented_body from, to", "warning two_bodies phoneNumber"],
    "list": ["error not_an_object"],
    "text": ["error not_an_object"],
}
"""What is found on behalf of an agent."""

FOUND_ELSEWHERE = [
    ("callback", CALLBACK, []),
    ("callback_without_number", CALLBACK, ["note no_call_number callNumber"]),
    ("callback_number_as_number", CALLBACK, ["error wrong_type callNumber"]),
    ("plain", CALLBACK, ["warning foreign_property phoneNumber", "note no_call_number callNumber"]),
    ("plain", PLAIN, []),
    (
        "thread_without_agent",
        PLAIN,
        ["warning undocumented_body from, to", "warning from_agent_missing from.agentId"],
    ),
    ("thread_agent_by_id", PLAIN, ["warning undocumented_body from, to"]),
]
"""What is found at other endpoints."""


def content(name: str) -> bytes:
    """Return a payload's file."""
    return (PAYLOADS / f"{name}.json").read_bytes()


@pytest.mark.parametrize("name", FINE)
def test_what_real_dialers_send_is_not_found_fault_with(name: str) -> None:
    """E.164 or not, and every property of the definition."""
    assert [] == told(content(name))


@pytest.mark.parametrize(("name", "expected"), FOUND.items())
def test_findings(name: str, expected: list[str]) -> None:
    """Every one, with its path, in the order of the rules."""
    assert expected == told(content(name))


@pytest.mark.parametrize(("name", "endpoint", "expected"), FOUND_ELSEWHERE)
def test_findings_depend_on_the_endpoint(name: str, endpoint: Endpoint, expected: list[str]) -> None:
    """A callback's body isn't a call's, and an agent in the path needn't be in the body."""
    assert expected == told(content(name), endpoint)


def test_every_file_is_in_the_table() -> None:
    """And every file of the table is there."""
    named = {*FINE, *FOUND, *(name for name, _, _ in FOUND_ELSEWHERE)}
    assert named == {path.stem for path in PAYLOADS.iterdir()}


BODY = b'{"phoneNumber": "+33199000000"}'
ODD = [
    ([], None),
    ([], BODY.ljust(512_000)),
    (["error too_large"], BODY.ljust(512_001)),
    (["error empty_body"], b""),
    (["error empty_body"], b" \r\n"),
    (["error not_json"], b"phoneNumber=%2B33199000000"),
    (["error not_json"], BODY[:-5]),
    (["error not_json"], b'{"label": "caf\xe9"}'),
    (["error not_json"], 100_000 * b"["),
    (["error not_an_object"], b"null"),
    (["warning odd_encoding"], b"\xef\xbb\xbf" + BODY),
    (["warning odd_encoding"], BODY.decode().encode("utf-16")),
    (
        ["error wrong_type attributes.lead"],
        b'{"phoneNumber": "1", "attributes": {"lead": 1, "name": "Anna", "other": null}}',
    ),
    (["warning undocumented_body to", *FOUND["thread_to_an_object"][1:3]], b'{"to": {}}'),
    (["warning impossible_address phoneNumber"], b'{"phoneNumber": "%s"}' % (b"a@" + 1000 * b"b")),
    (["warning unknown_property ?"], b'{"phoneNumber": "1", "%s": 1}' % (41 * b"x")),
]
"""What no file shows well; a body that couldn't be had is no fault of it."""


@pytest.mark.parametrize(("expected", "body"), ODD)
def test_bodies_that_no_file_shows_well(expected: list[str], body: bytes | None) -> None:
    """Empty, cut, too long, in odd encodings."""
    assert expected == told(body)


def test_each_finding_is_found_somewhere() -> None:
    """A word that nothing is called by would be no word."""
    lines = [*FOUND.values(), *(lines for lines, _ in ODD), *(lines for _, _, lines in FOUND_ELSEWHERE)]
    assert set(Finding) == {line.split()[1] for one in lines for line in one}


def test_at_most_fifty_remarks_are_made() -> None:
    """Each costs something, and nobody reads more."""
    body = json.dumps({f"x{at}": 1 for at in range(1000)} | {"participants": 1000 * [{"address": "x"}]}).encode()
    assert 50 == len(examined(body))


def test_only_the_first_hundred_items_are_looked_at() -> None:
    """Of the participants whom a hostile body could hold."""
    fine = 100 * [{"address": "+33199000000"}]
    assert {"repeated_address"} == set(words(examined(json.dumps({"participants": [*fine, 1, {}]}).encode())))


def test_words_are_the_findings_without_repeats() -> None:
    """As labels: plain texts of the closed set."""
    remarks = examined(content("participants_of_the_forum"))
    assert ("unknown_property", "empty_destination", "no_destination") == words(remarks)
    assert {str} == {type(word) for word in words(remarks)}
    assert () == words(())


def test_who_places_the_call_need_not_be_known() -> None:
    """Then nobody is taken for the callee."""
    assert () == examined(content("user"), PLAIN, None)
    assert () == examined(content("user"), PLAIN, "")


NAMES = st.sampled_from(
    [*bodies.CREATE_CALL_REQUEST, *bodies.CALL_COMMAND, *bodies.DESTINATION, *("from", "to", "type")]
)
NUMBERS = st.integers(10**6, 10**15).map("+{}".format)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | NUMBERS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES | NUMBERS | st.text(), inner, max_size=5),
    max_leaves=20,
)
ENDPOINTS = st.sampled_from([PLAIN, ON_BEHALF, CALLBACK])


@given(st.binary() | VALUES.map(lambda value: json.dumps(value).encode()), ENDPOINTS, st.none() | st.text())
@example(b'{"callUserId": "\\ud800"}', PLAIN, "\ud800")
@example(b'{"phoneNumber": "\\ud800"}', PLAIN, None)
def test_any_bytes_are_examined(body: bytes, endpoint: Endpoint, agent_id: str | None) -> None:
    """Nothing is raised, and the answer is the same twice."""
    remarks = examined(body, endpoint, agent_id)
    assert remarks == examined(body, endpoint, agent_id)
    assert set(words(remarks)) <= set(Finding)


@given(st.dictionaries(NAMES | NUMBERS, VALUES), ENDPOINTS)
def test_no_part_of_a_number_is_shown(document: dict[str, Any], endpoint: Endpoint) -> None:
    """The only digits are places in lists."""
    for remark in examined(json.dumps(document).encode(), endpoint):
        assert not re.search(r"\d", re.sub(r"\[\d{1,2}\]", "", remark.path))
        assert not re.search(r"\s", remark.path.replace(", ", ""))


@given(st.text(), st.sampled_from([PLAIN, ON_BEHALF]))
def test_no_address_is_an_error(address: str, endpoint: Endpoint) -> None:
    """What numbers look like is nowhere documented, so no spelling is refused."""
    body = json.dumps({"phoneNumber": address}).encode()
    assert not [line for line in told(body, endpoint) if line.startswith("error")]
