"""What the gateway says to a dialer: the API's own answers with framing made anew, and errors of its own.

Laws: of the API's answer, status, reason, bytes, and the order and spelling of headers stay as they came; only what
belongs to one connection goes, and what settings would not have told. An error of ours has the shape of the API's (the
SDK model `ErrorBody`), so that a dialer reads it as it reads any other, and says in a header whether the request was
sent.
"""

import json
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final, NamedTuple
from uuid import uuid4

from call_initiation.calls.failures import Failure
from call_initiation.events import Outcome
from call_initiation.gateway.admission import Header, Refusal, named_by_connection

OUTCOME: Final = b"X-Call-Initiation-Outcome"
"""Says of an error of ours whether the request was sent: `not_sent` or `ambiguous`."""
RETRY_AFTER: Final = 1
"""Seconds after which a request that met too many others may be sent again."""

_HOP_BY_HOP: Final = frozenset({
    b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade",
})  # fmt: skip
_BODILESS: Final = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)
_INVITING: Final = frozenset({b"retry-after", b"location"})
_CHUNKED: Final = (b"Transfer-Encoding", b"chunked")


class Answer(NamedTuple):
    """An answer, or as much of it as its head and the first bytes."""

    status: int
    reason: bytes
    headers: Sequence[Header]
    content: bytes = b""

    def head(self, *more: Header) -> bytes:
        """Return the bytes of its head, with some headers more."""
        lines = [b"HTTP/1.1 %d %b" % (self.status, self.reason)]
        lines += [b"%b: %b" % header for header in (*self.headers, *more)]
        return b"\r\n".join([*lines, b"", b""])

    def once(self) -> "Answer":
        """Return it without what SDKs send a request again for, by themselves, where it isn't a success."""
        if self.status < HTTPStatus.MULTIPLE_CHOICES:
            return self
        return self._replace(headers=[header for header in self.headers if header[0].lower() not in _INVITING])


def whole(status: int, reason: bytes, headers: Sequence[Header], content: bytes, *, method: str) -> Answer:
    """Return the API's answer as it is passed on when it has come in whole."""
    passed = _passed(headers)
    if method == "HEAD" or status in _BODILESS:
        return Answer(status, reason, passed)
    if not has_length(passed):
        passed.append((b"Content-Length", b"%d" % len(content)))
    return Answer(status, reason, passed, content)


def begun(status: int, reason: bytes, headers: Sequence[Header], *, is_chunked: bool) -> Answer:
    """Return the head of an answer that is passed on while it comes."""
    passed = _passed(headers)
    return Answer(status, reason, [*passed, _CHUNKED] if is_chunked else passed)


def chunk(part: bytes) -> bytes:
    """Return a chunk of a chunked body; an empty one ends it."""
    return b"%x\r\n%b\r\n" % (len(part), part)


def refused(refusal: Refusal) -> Answer:
    """Return what is said of a request that was not sent."""
    more = [(b"Retry-After", b"%d" % RETRY_AFTER)] if refusal.status is HTTPStatus.SERVICE_UNAVAILABLE else []
    return _error(refusal, Outcome.NOT_SENT, {}, more)


def failed(failure: Failure, status_code: int | None) -> Answer:
    """Return what is said where there is no whole answer.

    Args:
        failure: Why.
        status_code: The status of an answer that broke off; None where none came.
    """
    parameters = {"reason": str(failure.kind)}
    if status_code is not None:
        parameters["status"] = str(status_code)
    return _error(_lack(failure), failure.outcome, parameters, [])


def has_length(headers: Sequence[Header]) -> bool:
    """Tell whether the API said how long its answer is."""
    return any(name.lower() == b"content-length" for name, _ in headers)


def _lack(failure: Failure) -> Refusal:
    is_sent = failure.outcome is not Outcome.NOT_SENT
    if failure.kind.endswith("_timeout"):
        known = "no whole answer came in time: the call may have been placed" if is_sent else "the API was not reached"
        return Refusal(HTTPStatus.GATEWAY_TIMEOUT, "timeout", f"Timeout: {known}.")
    if is_sent:
        return Refusal(HTTPStatus.BAD_GATEWAY, "answer_lost", "The answer was lost: the call may have been placed.")
    return Refusal(HTTPStatus.BAD_GATEWAY, "unreachable", "The API was not reached: no call was placed.")


def _error(refusal: Refusal, outcome: Outcome, parameters: dict[str, str], more: list[Header]) -> Answer:
    body: dict[str, Any] = {
        "message": refusal.message,
        "code": f"call_initiation.gateway.{refusal.code}",
        "status": int(refusal.status),
        "messageParams": parameters,
        "contextId": str(uuid4()),
        "details": [],
        "errors": [],
    }
    content = json.dumps(body).encode()
    headers = [
        (b"Content-Type", b"application/json"),
        (b"Content-Length", b"%d" % len(content)),
        (OUTCOME, outcome.value.encode()),
        *more,
    ]
    return Answer(int(refusal.status), refusal.status.phrase.encode(), headers, content)


def _passed(headers: Sequence[Header]) -> list[Header]:
    dropped = _HOP_BY_HOP | named_by_connection(headers)
    return [header for header in headers if header[0].lower() not in dropped]
