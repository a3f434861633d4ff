"""What a check of a call start's body can find: a closed set of words, with what is known of each.

Laws: a word is a metric's label and says nothing of the value that it was found at. Whatever is an error is documented
to be refused; the one exception asks for nothing that could be done. What one thread alone says of its own body is
`claimed`, and no error.
"""

from enum import StrEnum
from typing import Final, NamedTuple, Self

from call_initiation.calls.meanings import Source


class Severity(StrEnum):
    """How much speaks against sending a body."""

    ERROR = "error"
    """The API is documented to refuse it, or there is nothing in it that could be done."""
    WARNING = "warning"
    """It is likely to be refused, or to do something else than was meant."""
    NOTE = "note"
    """It is odd, and may be meant so."""


_ONE_DESTINATION: Final = (
    "Name one of phoneNumber, callQueueId, callUserId, participants and conversationIds. callUserId is who is called, "
    "never the agent: on behalf of an agent, calls are placed at …/calls/user/{userId}."
)
_PLAIN_JSON: Final = 'Send one JSON object in UTF-8, not compressed, such as {"phoneNumber": "…"}.'
_EXACT_NAMES: Final = "Write the property's name as the API's definition has it, or leave it out."
_THREAD_ONLY: Final = (
    "Only one community thread knows of it. Where the real API is called, send phoneNumber to …/calls/user/{userId}."
)


class Finding(StrEnum):
    """One thing that may be wrong with a body; the word is the metric's label.

    Attributes:
        severity: How much speaks against sending it.
        source: How we know.
        says: What is wrong, a sentence.
        advice: What to do, a sentence.
    """

    severity: Severity
    source: Source
    says: str
    advice: str

    def __new__(cls, word: str, severity: Severity, source: Source, says: str, advice: str) -> Self:
        """Make a word of the enum, with what is known of it."""
        finding = str.__new__(cls, word)
        finding._value_ = word
        finding.severity, finding.source, finding.says, finding.advice = severity, source, says, advice
        return finding

    # -- the body as such

    TOO_LARGE = (
        "too_large",
        Severity.ERROR,
        Source.DOCUMENTED,
        "The body is longer than 512,000 bytes, which is all that the API takes (413 request.entity.too.large).",
        "Look what fills it: `attributes` are for a few short texts.",
    )
    EMPTY_BODY = (
        "empty_body",
        Severity.ERROR,
        Source.DOCUMENTED,
        "There is no body, and the API's definition requires one.",
        _PLAIN_JSON,
    )
    NOT_JSON = (
        "not_json",
        Severity.ERROR,
        Source.DOCUMENTED,
        "The body can't be read as JSON.",
        _PLAIN_JSON,
    )
    NOT_AN_OBJECT = (
        "not_an_object",
        Severity.ERROR,
        Source.DOCUMENTED,
        "The body is JSON, but no object.",
        _PLAIN_JSON,
    )
    ODD_ENCODING = (
        "odd_encoding",
        Severity.WARNING,
        Source.STANDARD,
        "The JSON isn't written in plain UTF-8, or begins with a byte order mark (RFC 8259, section 8.1).",
        "Write it in UTF-8 without a byte order mark.",
    )

    # -- its properties

    WRONG_TYPE = (
        "wrong_type",
        Severity.ERROR,
        Source.DOCUMENTED,
        "The API's definition has another type here (400 invalid.value).",
        "Send what the definition has: numbers to dial are texts, in quotes; priority alone is an integer.",
    )
    UNKNOWN_PROPERTY = (
        "unknown_property",
        Severity.WARNING,
        Source.DOCUMENTED,
        "The API's definition has no such property; whether the API ignores or refuses it isn't known.",
        _EXACT_NAMES,
    )
    MISSPELT_PROPERTY = (
        "misspelt_property",
        Severity.WARNING,
        Source.DOCUMENTED,
        "A property has almost this name, but names are exact; whether the API ignores or refuses it isn't known.",
        _EXACT_NAMES,
    )
    FOREIGN_PROPERTY = (
        "foreign_property",
        Severity.WARNING,
        Source.DOCUMENTED,
        "The property belongs to another endpoint's body; whether the API ignores or refuses it here isn't known.",
        "callNumber and phoneColumn go to …/calls/{conversationId} alone, and nothing else goes there.",
    )
    QUEUE_PROPERTY = (
        "queue_property",
        Severity.NOTE,
        Source.DOCUMENTED,
        "The property counts only where a queue is called, and none is.",
        "Leave it out; callFromQueueId is on whose behalf the call is placed, and calls no queue.",
    )
    NOT_AN_ID = (
        "not_an_id",
        Severity.WARNING,
        Source.INFERRED,
        "An id stands here, and this isn't written as the API's ids are (a UUID).",
        "Send the id, not the name.",
    )

    # -- whom it calls

    NO_DESTINATION = (
        "no_destination",
        Severity.ERROR,
        Source.INFERRED,
        "Nobody is named who could be called.",
        _ONE_DESTINATION,
    )
    SEVERAL_DESTINATIONS = (
        "several_destinations",
        Severity.ERROR,
        Source.DOCUMENTED,
        "More than one destination is named (400 too.many.create.conversation.parameters).",
        _ONE_DESTINATION,
    )
    EMPTY_DESTINATION = (
        "empty_destination",
        Severity.WARNING,
        Source.INFERRED,
        "A destination is named, and there is nothing in it.",
        "Fill it or leave it out: an empty field of the dialer's list may have come through.",
    )
    IMPOSSIBLE_ADDRESS = (
        "impossible_address",
        Severity.WARNING,
        Source.INFERRED,
        "This is no number, no tel: or sip: URI and no name@host, however spelt.",
        "Look where it comes from: a placeholder, a name, or several numbers in one.",
    )
    PADDED_ADDRESS = (
        "padded_address",
        Severity.NOTE,
        Source.INFERRED,
        "Blanks or line ends stand around the number; whether the API strips them isn't known.",
        "Strip them.",
    )
    REPEATED_ADDRESS = (
        "repeated_address",
        Severity.WARNING,
        Source.INFERRED,
        "The same destination is named twice in one call.",
        "Name it once: it may ring twice.",
    )
    CALLS_THEMSELF = (
        "calls_themself",
        Severity.WARNING,
        Source.INFERRED,
        "The agent who places the call is also the user who is called.",
        "Name the callee: the agent belongs into the path, …/calls/user/{userId}.",
    )
    NO_CALL_NUMBER = (
        "no_call_number",
        Severity.NOTE,
        Source.INFERRED,
        "No number is named; whether the API then calls the callback's own isn't known.",
        "Name callNumber.",
    )

    # -- the thread's body

    UNDOCUMENTED_BODY = (
        "undocumented_body",
        Severity.WARNING,
        Source.DOCUMENTED,
        "The API's definition has no `from` and no `to`: by it, this names nobody to call.",
        "Where the real API is called, send phoneNumber to …/calls/user/{userId}.",
    )
    TWO_BODIES = (
        "two_bodies",
        Severity.WARNING,
        Source.INFERRED,
        "The documented body and the thread's are mixed: which destination counts isn't known.",
        "Keep one of them.",
    )
    FROM_TYPE_MISSING = (
        "from_type_missing",
        Severity.WARNING,
        Source.CLAIMED,
        "`from` has no type; the thread says that a 400 follows.",
        _THREAD_ONLY,
    )
    FROM_AGENT_MISSING = (
        "from_agent_missing",
        Severity.WARNING,
        Source.CLAIMED,
        "`from` names no agent; the thread places calls on behalf of the agent whom it names.",
        _THREAD_ONLY,
    )
    TO_MISSING = (
        "to_missing",
        Severity.WARNING,
        Source.CLAIMED,
        "`to` is missing or empty, or is no list; in the thread's body, it says whom to call.",
        _THREAD_ONLY,
    )


class Remark(NamedTuple):
    """One finding, and where.

    Attributes:
        finding: What was found.
        path: Where in the body, such as `participants[0].address`; `?` is a name that isn't shown; empty for all of it.
    """

    finding: Finding
    path: str = ""
