"""What a saved answer to a call start says: where to look first, why there, and what to do.

Theory. An answer is saved as its body alone, or as `curl -i` writes it: status line, headers, an empty line, the body.
What begins with a status line is read as the latter; of several heads (proxies, `100 Continue`, redirects) the last one
counts. A status that nobody gave and no head tells may stand in the body itself. Laws:

* Total: any bytes are explained, if only by saying that nothing could be read from them.
* What is returned has passed the mask.
* Where an answer says too little, nobody is accused, unless a check of the request found something.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, NamedTuple, cast

from call_initiation.calls import bodies, codebook, decoding, responses
from call_initiation.calls.meanings import CONCERNS, Culprit, Meaning, Source
from call_initiation.diagnosis.findings import Remark, Severity
from call_initiation.events import BodyState, Category, Refusal
from call_initiation.privacy import Mask

_MOST_HEADS: Final = 10
_STATUS_LINE: Final = re.compile(rb"\s*HTTP/[0-9](?:\.[0-9])? ([1-5][0-9]{2})\b")
_EMPTY_LINE: Final = re.compile(rb"\r?\n\r?\n")
_STATUS: Final = re.compile(r"[1-5][0-9]{2}", re.ASCII)

_BASIS: Final[Mapping[Source, str]] = {
    Source.DOCUMENTED: "a documented code or message says so",
    Source.STANDARD: "a code of OAuth's standard says so",
    Source.OWN: "this program's own gateway says so",
    Source.OBSERVED: "a code or message says so that was seen in public, in no document",
    Source.CLAIMED: "a code says so that one community thread alone knows, and no document",
    Source.INFERRED: "so the wording of a code or message suggests; no document has it",
}
_BY_STATUS: Final = "the status says so, and nothing in the body says more"


class Verdict(NamedTuple):
    """Where to look first.

    Attributes:
        culprit: None where nothing was refused.
        sentence: The same in words, with why.
        advice: What to do.
    """

    culprit: Culprit | None
    sentence: str
    advice: str


_ACCEPTED: Final = Verdict(
    None,
    "Nothing was refused: the call was accepted. Accepted is not placed: the agent's own leg can still fail.",
    "Look at participants[].errorInfo of the conversation.",
)
_REDIRECTED: Final = Verdict(
    Culprit.NETWORK,
    "Likely the base URL, or what answers there: the API redirects no call start.",
    "Look where the dialer sends its calls, and follow no redirect: it may place a call twice.",
)
_AN_ERROR: Final = Verdict(
    Culprit.PAYLOAD,
    "Likely our payload: the answer says too little, but a check of the request found an error.",
    "Mend what the check found, and look whether that helps.",
)
_SOMETHING_ODD: Final = Verdict(
    Culprit.PAYLOAD,
    "Perhaps our payload: the answer says too little, and a check of the request found something odd.",
    "Mend what the check found; if that doesn't help, look at the agent's state as of the send.",
)


class Saved(NamedTuple):
    """An answer as it was saved.

    Attributes:
        status: None where no head was saved.
        headers: By their names in lower case.
        body: As it was saved.
    """

    status: int | None
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What is known of an answer.

    Attributes:
        status: None where nobody told it.
        refusal: What its body says.
        verdict: Where to look first.
        remarks: What a check of the request found; None where there was none to check.
    """

    status: int | None
    refusal: Refusal
    verdict: Verdict
    remarks: tuple[Remark, ...] | None

    @property
    def category(self) -> Category | None:
        """Whose concern it is; None where nothing was refused."""
        return self.refusal.category if self.verdict.culprit else None

    @property
    def is_empty(self) -> bool:
        """Whether nothing could be read."""
        return self.verdict.culprit is Culprit.UNKNOWN and not (self.refusal.codes or self.refusal.message)


def saved(content: bytes) -> Saved:
    """Return the answer that a file holds; never raises."""
    answer = Saved(None, {}, content)
    for _ in range(_MOST_HEADS):
        status = _STATUS_LINE.match(answer.body)
        if status is None:
            break
        head, *rest = _EMPTY_LINE.split(answer.body.lstrip(), maxsplit=1)
        answer = Saved(int(status[1]), _headers(head), rest[0] if rest else b"")
    return answer


def _headers(head: bytes) -> dict[str, str]:
    fields = (line.partition(":") for line in head.decode("latin-1").splitlines()[1:])
    return {name.strip().lower(): value.strip() for name, _, value in fields}


def explain(
    content: bytes,
    *,
    status: int | None = None,
    remarks: tuple[Remark, ...] | None = None,
    numbers: Iterable[str] = (),
) -> Explanation:
    """Return what an answer says, and where to look first; never raises.

    Args:
        content: The answer as it was saved.
        status: Its status, where that is known otherwise.
        remarks: What a check of the request found; None where there is none to check.
        numbers: Numbers of the request, which the answer may quote.
    """
    answer = saved(content)
    body = _content(answer)
    status = status or answer.status or _own_status(body)
    refusal = responses.parse(
        body,
        status=status or 0,
        header_correlation_id=answer.headers.get("inin-correlation-id"),
        state=BodyState.WHOLE,
        mask=Mask(numbers=numbers),
    )
    return Explanation(status=status, refusal=refusal, verdict=_verdict(status or 0, refusal, remarks), remarks=remarks)


def _content(answer: Saved) -> bytes:
    """Return a body without its content encoding, which curl may have undone and yet show in the headers."""
    encoding = answer.headers.get("content-encoding", "")
    if not encoding or bodies.read(answer.body) is not bodies.UNREAD:
        return answer.body
    return decoding.decode(answer.body, encoding) or answer.body


def _own_status(body: bytes) -> int | None:
    """Return the status that an `ErrorBody` (SDK model) tells of itself, as a number or as text."""
    document = bodies.read(body)
    told = cast("dict[str, object]", document).get("status") if isinstance(document, dict) else None
    return int(told) if isinstance(told, str) and _STATUS.fullmatch(told) else None


# -- where to look first -----------------------------------------------------------------------------------------------


def _verdict(status: int, refusal: Refusal, remarks: tuple[Remark, ...] | None) -> Verdict:
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return _ACCEPTED
    meaning = codebook.leading(refusal.codes, refusal.message)
    if refusal.category is Category.UNKNOWN:
        return _suspicion(status, meaning, remarks)
    concern = CONCERNS[refusal.category]
    if meaning is None or meaning.category is not refusal.category:
        return Verdict(concern.culprit, _likely(concern.culprit, _BY_STATUS), concern.advice)
    basis = _BASIS[meaning.source]
    if concern.culprit is Culprit.PAYLOAD and remarks == ():
        basis += "; a check of the request found nothing, though"
    return Verdict(concern.culprit, _likely(concern.culprit, basis), meaning.advice or concern.advice)


def _suspicion(status: int, meaning: Meaning | None, remarks: tuple[Remark, ...] | None) -> Verdict:
    """Say whom to suspect where no code and no message says whose concern it is."""
    advice = (meaning and meaning.advice) or CONCERNS[Category.UNKNOWN].advice
    severities = {remark.finding.severity for remark in remarks or ()}
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        return _REDIRECTED
    if Severity.ERROR in severities:
        return _AN_ERROR
    if status == HTTPStatus.NOT_FOUND:
        return Verdict(Culprit.PATH, _likely(Culprit.PATH, _BY_STATUS), advice)
    if Severity.WARNING in severities:
        return _SOMETHING_ODD
    found = "" if remarks is None else ", and a check of the request found nothing that explains it"
    return Verdict(Culprit.UNKNOWN, f"The answer doesn't say whose concern it is{found}.", advice)


def _likely(culprit: Culprit, basis: str) -> str:
    return f"Likely {culprit.phrase}: {basis}."
