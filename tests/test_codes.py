"""What the code book promises: each code once, with advice, and with how we know."""

import re

from call_initiation.calls.codes import CODES
from call_initiation.calls.meanings import Source
from call_initiation.events import Category
from call_initiation.gateway.admission import Reason

LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
GATEWAY = "call_initiation.gateway."


def codes_by(source: Source) -> set[str]:
    """Return the codes that are known in one way."""
    return {code for code, meaning in CODES.items() if meaning.source is source}


def test_only_documented_facts_count_as_documented() -> None:
    """What one thread claims must never be shown as the API's documentation."""
    assert {"INVALID_AGENT_STATE"} == codes_by(Source.CLAIMED)
    assert Category.AGENT_STATE is CODES["INVALID_AGENT_STATE"].category
    assert CODES["not.a.user"].documented
    assert set() == {code for code, meaning in CODES.items() if meaning.source is Source.INFERRED}


def test_every_code_is_fit_to_be_a_label() -> None:
    """So that it needs no mask."""
    assert [] == [code for code in CODES if not LABEL.fullmatch(code)]


def test_every_code_says_something_and_what_to_do() -> None:
    """In whole sentences."""
    assert [] == [code for code, meaning in CODES.items() if not meaning.says.endswith(".")]
    assert [] == [code for code, meaning in CODES.items() if not meaning.advice.endswith(".")]


def test_the_gateways_own_codes_are_in_the_book() -> None:
    """All that it refuses with, and all that `answers` says of a call without a whole answer."""
    words = {*Reason, "timeout", "answer_lost", "unreachable"}
    assert {GATEWAY + word for word in words} == codes_by(Source.OWN)


def test_what_may_have_rung_is_not_to_be_repeated_blindly() -> None:
    """A call start isn't idempotent: where nobody knows whether it rang, the advice says so."""
    unsure = ("request.timeout", "internal.server.error", "service.unavailable", GATEWAY + "answer_lost")
    assert all("Don't just repeat it" in CODES[code].advice for code in unsure)
