"""What may pass from a dialer to the API: judged on the raw bytes of a request's head, without I/O.

Theory. A gateway is attacked where two parties read the same bytes in two ways. So nothing ambiguous passes: what
isn't one clear request is refused and its connection closed, and what passes is written anew, with one framing, to a
host that settings name. A target is compared as it came, byte by byte, and forwarded as it came: it is never decoded,
joined or normalized.

Laws:

1. `admit` is total: every head gets a `Passage` or a `Refusal`.
2. A passage's headers hold no hop-by-hop field, no Host, no framing, and nothing that was meant for us.
3. `Authorization` passes; nothing of a request is kept here.
"""

import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from http import HTTPStatus
from typing import Any, Final

from call_initiation import nesting
from call_initiation.calls import endpoints
from call_initiation.calls.endpoints import MAX_PAYLOAD

Header = tuple[bytes, bytes]

AGENT_ID: Final = b"x-call-initiation-agent-id"
"""Tells who places the call."""
AGENT_STATE: Final = b"x-call-initiation-agent-state"
"""Tells the agent's state: a presence, or a JSON object with the names of `AgentState`."""
SECRET: Final = b"x-call-initiation-secret"
"""Tells the secret that the dialer shares with the gateway, where one is set."""

_OWN: Final = b"x-call-initiation-"
_API: Final = b"/api/v2/"
_CALLS: Final = endpoints.CALLS.encode()
_LOGIN: Final = b"/login"
_TOKEN_PATH: Final = b"/oauth/"
_VERSIONS: Final = ("1.0", "1.1")

_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
"""RFC 9110, 5.6.2: a token."""
_VALUE: Final = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
"""RFC 9110, 5.5: no control characters but the tab."""
_LENGTH: Final = re.compile(rb"[0-9]{1,18}")
_HOST: Final = re.compile(rb"(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
"""RFC 9110, 7.2, without user information and without percent-encoding, which no real host needs."""
_PATH: Final = re.compile(rb"/(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/]|%[0-9A-Fa-f]{2})*")
"""RFC 3986, 3.3."""
_QUERY: Final = re.compile(rb"[!$-;=?-\[\]-~]*")
"""RFC 3986, 3.4, and what clients in the wild leave bare: no blank, no quote, no angle, no backslash, no fragment."""
_DEVIATION: Final = re.compile(rb"//|/\.\.?(?:[/;]|$)|%(?:[01].|2[EeFf]|5[Cc]|7[Ff])")
"""What one reader takes for another path: an empty or a dot segment, an encoded dot, slash, backslash or control."""

_HOP_BY_HOP: Final = frozenset({
    b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"proxy-authorization", b"te", b"trailer",
    b"transfer-encoding", b"upgrade", b"http2-settings",
})  # fmt: skip
"""RFC 9110, 7.6.1, and those that clients send in spite of it."""
_REWRITTEN: Final = frozenset({
    b"host", b"content-length", b"expect", b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-port",
    b"x-forwarded-proto", b"x-forwarded-server", b"x-real-ip", b"x-original-url", b"x-rewrite-url", b"x-host",
})  # fmt: skip
"""What we say ourselves, and what could contradict it: where a request goes is nobody's word but the settings'."""
_DROPPED: Final = _HOP_BY_HOP | _REWRITTEN
_NEVER_NAMED: Final = frozenset({b"authorization", b"content-type", b"content-encoding", b"content-length"})
"""`Connection: authorization` would have us drop the credentials of a call."""
_SINGLE: Final = (b"host", b"content-length", b"transfer-encoding", b"expect", AGENT_ID, AGENT_STATE, SECRET)


class Host(Enum):
    """Which of the two upstream hosts a request is for."""

    API = auto()
    LOGIN = auto()


@dataclass(frozen=True, slots=True)
class Head:
    """A request's head as a parser found it.

    Attributes:
        method: The method.
        target: The target, as it came.
        version: `1.1`, say.
        headers: Names and values as they came, in their order.
    """

    method: bytes
    target: bytes
    version: str
    headers: list[Header]


@dataclass(frozen=True, slots=True)
class Rules:
    """What is let through.

    Attributes:
        forward_all: Also what starts no call: the rest of the API, and the login host's paths.
        secret: What every request has to know; None for nothing.
        prevent_repeats: A dialer isn't told when or where its call may be sent again.
    """

    forward_all: bool = False
    secret: bytes | None = None
    prevent_repeats: bool = False


@dataclass(frozen=True, slots=True)
class Passage:
    """A request that may pass.

    Attributes:
        host: Where to.
        method: Its method.
        target: What to ask that host for.
        headers: What is forwarded, in its order; Host and framing are to be added.
        is_awaiting: The dialer waits for `100 Continue`.
        told: What the dialer says of the call, for the request's extension; None for nothing.
        trace: `traceparent` and `tracestate`, where given.
        prevents_repeats: Its answer is told without what SDKs send requests again for.
    """

    host: Host
    method: str
    target: bytes
    headers: list[Header]
    is_awaiting: bool = False
    told: dict[str, Any] | None = None
    trace: dict[str, str] | None = None
    prevents_repeats: bool = False


class Reason(StrEnum):
    """Why the gateway itself refuses a request: the end of its code, after `call_initiation.gateway.`."""

    MALFORMED = "malformed"
    EXPECTATION = "expectation"
    VERSION = "version"
    HEAD_TOO_LARGE = "head_too_large"
    TARGET_TOO_LONG = "target_too_long"
    TOO_LARGE = "too_large"
    TOO_SLOW = "too_slow"
    NO_SUCH_ROUTE = "no_such_route"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    UNKNOWN_DIALER = "unknown_dialer"
    OVERLOADED = "overloaded"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request may not pass.

    Attributes:
        status: The answer's status.
        code: What goes wrong, after `call_initiation.gateway.`.
        message: The same as a sentence.
    """

    status: HTTPStatus
    code: str
    message: str


def bad_request(message: str) -> Refusal:
    """Return the refusal of what is no clear request."""
    return Refusal(HTTPStatus.BAD_REQUEST, Reason.MALFORMED, message)


TOO_LARGE: Final = Refusal(
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE, Reason.TOO_LARGE, f"The request is over the size limit of {MAX_PAYLOAD} bytes."
)
_UNKNOWN_ROUTE: Final = Refusal(
    HTTPStatus.NOT_FOUND, Reason.NO_SUCH_ROUTE, "This gateway forwards only what starts a call."
)
_NOT_ALLOWED: Final = Refusal(HTTPStatus.METHOD_NOT_ALLOWED, Reason.METHOD_NOT_ALLOWED, "This method is not forwarded.")
_UNKNOWN_DIALER: Final = Refusal(
    HTTPStatus.UNAUTHORIZED,
    Reason.UNKNOWN_DIALER,
    "The secret that dialers share with this gateway is missing or wrong.",
)
_UNMET: Final = Refusal(HTTPStatus.EXPECTATION_FAILED, Reason.EXPECTATION, "The only expectation met is 100-continue.")
_VERSION: Final = Refusal(
    HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, Reason.VERSION, "This gateway speaks HTTP/1.1 and HTTP/1.0."
)


def admit(head: Head, rules: Rules) -> Passage | Refusal:
    """Judge a request by its head; never raises."""
    if head.version not in _VERSIONS:
        return _VERSION
    fields: dict[bytes, list[bytes]] = {}
    for name, value in head.headers:
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            return bad_request("A header field has a character that it may not have.")
        fields.setdefault(name.lower(), []).append(value)
    return (
        _unclear(head, fields)
        or _unwelcome(fields, rules)
        or _routed(head, fields, rules)
    )  # fmt: skip


def _unclear(head: Head, fields: dict[bytes, list[bytes]]) -> Refusal | None:
    """Return why a head can be read in more ways than one."""
    if any(len(fields.get(name, ())) > 1 for name in _SINGLE):
        return bad_request("A header field that must stand alone is repeated.")
    if not _HOST.fullmatch(fields.get(b"host", [b""])[0]):
        return bad_request("There must be one Host, and it must be a host.")
    if b"upgrade" in fields:
        return bad_request("This gateway upgrades to no other protocol.")
    path, _, query = head.target.partition(b"?")
    if not _PATH.fullmatch(path) or not _QUERY.fullmatch(query) or _DEVIATION.search(path):
        return bad_request("The target must be a plain absolute path.")
    return _unframed(head, fields)


def _unframed(head: Head, fields: dict[bytes, list[bytes]]) -> Refusal | None:
    """Return why it isn't clear where the body ends, or that it is too far off (RFC 9112, 6.3)."""
    lengths, codings = fields.get(b"content-length", ()), fields.get(b"transfer-encoding", ())
    if codings and (lengths or head.version != "1.1" or codings[0].lower() != b"chunked"):
        return bad_request("The body is framed by one Content-Length, or chunked on HTTP/1.1 and nothing else.")
    if not lengths:
        return None
    if not _LENGTH.fullmatch(lengths[0]):
        return bad_request("Content-Length must be a number.")
    return TOO_LARGE if int(lengths[0]) > MAX_PAYLOAD else None


def _unwelcome(fields: dict[bytes, list[bytes]], rules: Rules) -> Refusal | None:
    """Return why a clear request isn't served."""
    if rules.secret is not None and not hmac.compare_digest(fields.get(SECRET, [b""])[0], rules.secret):
        return _UNKNOWN_DIALER
    expected = fields.get(b"expect")
    return _UNMET if expected and expected[0].lower() != b"100-continue" else None


def _routed(head: Head, fields: dict[bytes, list[bytes]], rules: Rules) -> Passage | Refusal:
    is_call = _starts_call(head)
    route = (Host.API, head.target) if is_call else _other_route(head) if rules.forward_all else _UNKNOWN_ROUTE
    if isinstance(route, Refusal):
        return route
    host, target = route
    return Passage(
        host=host,
        method=head.method.decode("ascii"),
        target=target,
        headers=_forwarded(head.headers),
        is_awaiting=b"expect" in fields and head.version == "1.1",
        told=_told(fields),
        trace=_trace(fields),
        prevents_repeats=is_call and rules.prevent_repeats,
    )


def _starts_call(head: Head) -> bool:
    path = head.target.partition(b"?")[0]
    return (
        head.method == b"POST"
        and path.rfind(_CALLS) == 0  # `endpoints.match` would let something stand before a template
        and endpoints.match("POST", path) is not None
    )


def _other_route(head: Head) -> tuple[Host, bytes] | Refusal:
    """Return where the target of what starts no call leads; the path's bytes are taken as they came."""
    path = head.target.partition(b"?")[0]
    if path.find(_CALLS, 1) > 0:  # nobody shall take it for one that does
        return _UNKNOWN_ROUTE
    if head.method in {b"CONNECT", b"TRACE"}:
        return _NOT_ALLOWED
    if path.startswith(_API):
        return Host.API, head.target
    below = head.target.removeprefix(_LOGIN) if path.startswith(_LOGIN + _TOKEN_PATH) else head.target
    return (Host.LOGIN, below) if below.startswith((_TOKEN_PATH, _LOGIN + b"/")) else _UNKNOWN_ROUTE


def named_by_connection(headers: Iterable[Header]) -> frozenset[bytes]:
    """Return the fields that a message's Connection has dropped on the way (RFC 9110, 7.6.1), in lower case."""
    named = (part for name, value in headers if name.lower() == b"connection" for part in value.lower().split(b","))
    return frozenset(part.strip() for part in named) - _NEVER_NAMED


def _forwarded(headers: list[Header]) -> list[Header]:
    dropped = _DROPPED | named_by_connection(headers)
    return [header for header in headers if not _is_dropped(header[0], dropped)]


def _is_dropped(name: bytes, dropped: frozenset[bytes]) -> bool:
    """Tell whether a field stays here; some servers take an underscore for a hyphen, in `Content_Length` too."""
    folded = name.lower().replace(b"_", b"-")
    return folded in dropped or folded.startswith(_OWN)


def _told(fields: dict[bytes, list[bytes]]) -> dict[str, Any] | None:
    """Return what the dialer says of the call; `endpoints.told` sorts out what can be used of it."""
    told: dict[str, Any] = {}
    if AGENT_ID in fields:
        told["agent_id"] = fields[AGENT_ID][0].decode("latin-1")
    if AGENT_STATE in fields:
        told["agent_state"] = _state(fields[AGENT_STATE][0].decode("latin-1"))
    return told or None


def _state(text: str) -> object:
    if not text.startswith("{"):
        return {"presence": text}
    try:
        return nesting.loads(text)
    except ValueError:
        return None


def _trace(fields: dict[bytes, list[bytes]]) -> dict[str, str] | None:
    """Return the W3C Trace Context of the dialer, which must be one of a kind."""
    parents = fields.get(b"traceparent", ())
    if len(parents) != 1:
        return None
    states = b",".join(fields.get(b"tracestate", ()))
    return {"traceparent": parents[0].decode("latin-1"), "tracestate": states.decode("latin-1")}
