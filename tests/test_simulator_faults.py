"""The table of faults, and the bodies that say them: each lists exactly the codes that it carries."""

import json
from dataclasses import replace
from typing import Any

import pytest

from call_initiation.simulator.behaviour import CALM, NO_STATION, Behaviour
from call_initiation.simulator.exchange import stream
from call_initiation.simulator.faults import FAULTS, Finding, Origin, Wording, refuse

NUMBER = "+33199000042"


def worded(code: str = NO_STATION, behaviour: Behaviour = CALM, number: str = NUMBER, seed: int = 1) -> Wording:
    """Return how a fault is put under a behaviour."""
    return refuse(Finding(code), number, "the-context", behaviour, stream(seed, "test"))


def codes_in(body: Any) -> list[str]:
    """Return what stands in the code fields of a body, by the models' order: details, nested errors, the top."""
    found: list[str] = []
    if isinstance(body, dict):
        details = body.get("details")
        found += [detail["errorCode"] for detail in details] if isinstance(details, list) else []
        for inner in [*(body.get("errors") or []), body.get("nested")]:
            found += codes_in(inner)
        found += [str(body["code"])] if "code" in body else []
    return found


@pytest.mark.parametrize(
    "behaviour", [CALM, replace(CALM, generic=1.0), replace(CALM, nested=1.0), replace(CALM, wild=1.0)]
)
def test_the_codes_are_those_in_the_body(behaviour: Behaviour) -> None:
    """Whatever a body's shape, its list of codes is what stands in it, the most specific first."""
    for seed in range(20):
        wording = worded(behaviour=behaviour, seed=seed)
        assert codes_in(json.loads(wording.body)) == list(wording.codes)


def test_bodies_as_in_the_wild_differ() -> None:
    """There are four of them, and one has no code at all."""
    wild = {
        worded(behaviour=Behaviour(html=0.0, generic=0.0, nested=0.0, wild=1.0, echo=0.0), seed=seed)
        for seed in range(40)
    }
    assert 4 == len(wild)
    assert {(NO_STATION,), (NO_STATION, "400"), (NO_STATION, "bad.request"), ()} == {wording.codes for wording in wild}


def test_a_plain_body_is_the_models() -> None:
    """The fields of `ErrorBody`, the documented message among them."""
    expected = {
        "message": "A station is required to place a call.",
        "code": "conversation.error.no.user.station",
        "status": 400,
        "messageWithParams": "A station is required to place a call.",
        "messageParams": {},
        "contextId": "the-context",
        "details": [],
        "errors": [],
    }
    assert expected == json.loads(worded().body)


def test_a_page_of_html_has_no_codes() -> None:
    """An intermediary's page says the status alone."""
    wording = worded(behaviour=Behaviour(html=1.0))
    assert ("text/html", ()) == (wording.content_type, wording.codes)
    assert b"<h1>400</h1>" in wording.body


def test_a_message_may_repeat_the_number() -> None:
    """So that masking matters; where there is no number, none is repeated."""
    assert NUMBER in json.loads(worded(behaviour=Behaviour(echo=1.0, html=0.0, wild=0.0)).body)["message"]
    assert b"()" not in worded(behaviour=Behaviour(echo=1.0, html=0.0), number="").body
    assert NUMBER.encode() not in worded().body


def test_only_a_400_is_dressed() -> None:
    """A 500 says its code on top."""
    wording = worded("internal.server.error", Behaviour(generic=1.0, html=0.0))
    assert ("internal.server.error",) == wording.codes
    assert "internal.server.error" == json.loads(wording.body)["code"]


def test_an_unknown_code_is_a_planted_400() -> None:
    """A test may make up a code."""
    assert (400, Origin.PLANTED) == (Finding("MADE.UP").fault.status, Finding("MADE.UP").fault.origin)


def test_two_rules_are_the_threads_alone() -> None:
    """Everything else in the table is documented."""
    thread = {code for code, fault in FAULTS.items() if fault.origin is Origin.THREAD}
    assert {"INVALID_AGENT_STATE", "MISSING_FROM_TYPE"} == thread
    assert Origin.PLANTED not in {fault.origin for fault in FAULTS.values()}


def test_parameters_that_a_message_lacks_are_not_said() -> None:
    """`messageParams` are those of the template; a parameter that isn't given stays as it stands there."""
    finding = Finding("invalid.value", {"value": "int", "seconds": "7"}, "phoneNumber")
    body = json.loads(refuse(finding, "", "c", Behaviour(html=0.0, generic=1.0), stream(1, "test")).body)
    assert {"value": "int"} == body["messageParams"]
    assert "Value [int] is not valid for field type [{type}] of field [{field}]." == body["message"]
    assert [{"errorCode": "invalid.value", "fieldName": "phoneNumber"}] == body["details"]
