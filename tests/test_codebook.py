"""What the code book answers: the most telling words first, and nothing that isn't known."""

import pytest

from call_initiation.calls.codebook import MESSAGES, PATTERNS, leading, meaning_of
from call_initiation.calls.codes import CODES
from call_initiation.calls.meanings import Source
from call_initiation.events import Category


@pytest.mark.parametrize(
    ("category", "source", "code"),
    [
        (Category.STATION, Source.DOCUMENTED, "conversation.error.no.user.station"),
        (Category.STATION, Source.INFERRED, "NO-STATION_FOUND"),
        (Category.PROVIDER, Source.OBSERVED, "error.ininedgecontrol.something.new"),
        (Category.AGENT_STATE, Source.CLAIMED, "INVALID_AGENT_STATE"),
        (Category.AGENT_STATE, Source.INFERRED, "invalid.agent.state"),
    ],
)
def test_a_code_means_what_the_book_or_its_wording_says(category: Category, source: Source, code: str) -> None:
    """Wording alone is our reading, and is said to be."""
    meaning = meaning_of(code)
    assert (category, source) == (meaning and meaning.category, meaning and meaning.source)


def test_what_nobody_knows_has_no_meaning() -> None:
    """It isn't guessed."""
    assert meaning_of("X-7") is None
    assert leading(("X-7",), "no words that we know") is None
    assert leading((), None) is None


@pytest.mark.parametrize(
    ("category", "codes", "message"),
    [
        (Category.USER_CONTEXT, ("X-7", "bad.request", "not.a.user"), "A station is required to place a call."),
        (Category.STATION, ("bad.request",), "A Station is required to place a call."),
        (Category.UNKNOWN, ("bad.request", "unauthorized"), "no words that we know"),
        (Category.DESTINATION, (), "Only a single destination can be supplied."),
    ],
)
def test_what_says_the_most_leads(category: Category, codes: tuple[str, ...], message: str) -> None:
    """A specific code, else the message, else a generic code."""
    meaning = leading(codes, message)
    assert category == (meaning and meaning.category)


def test_wording_is_never_shown_as_documentation() -> None:
    """A pattern is our reading of a code; parts of messages are written as they are looked for."""
    assert not any(meaning.documented for _, meaning in PATTERNS)
    assert all(part == part.lower() for part, _ in MESSAGES)
    assert all(meaning_of(code) is meaning for code, meaning in CODES.items())
