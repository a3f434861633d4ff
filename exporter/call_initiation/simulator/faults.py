"""What can be wrong with a call start, as a table, and the bodies in which the API and its intermediaries say so.

Each fault names its origin. `DOCUMENTED`: in the official swagger of 2017 or in the official SDK's models, a lower
bound of what the live API says. `THREAD`: told by one community thread only, in no documentation; no fact.
Codes and statuses are facts, and so are the messages of the station, the single destination, the user context and the
rate limit; the other sentences are made up here.

Law: `Wording.codes` of a body lists exactly what stands in its code fields, numbers as text, the most specific first
(details, then nested errors, then the top).
"""

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

from call_initiation.simulator.behaviour import INVALID_AGENT_STATE, NO_STATION, Behaviour

BAD_REQUEST: Final = "bad.request"
MISSING_FROM_TYPE: Final = "MISSING_FROM_TYPE"
THROTTLED: Final = "too.many.requests.retry.after"
NOT_A_USER: Final = "not.a.user"
JSON: Final = "application/json"


class Origin(StrEnum):
    """Who says that the API answers so."""

    DOCUMENTED = "documented"
    THREAD = "thread"
    PLANTED = "planted"
    """Nobody: a test has made it up."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that can be wrong: the answer's status and code, the message's template, and who says so."""

    status: int
    code: str
    template: str
    origin: Origin = Origin.DOCUMENTED


_TABLE: Final = (
    Fault(400, NO_STATION, "A station is required to place a call."),
    Fault(
        400,
        "too.many.create.conversation.parameters",
        "Only a single destination can be supplied in a create conversation request.",
    ),
    Fault(
        400,
        NOT_A_USER,
        "This request requires a user context. Client credentials cannot be used for requests to this resource.",
    ),
    Fault(400, BAD_REQUEST, "The request could not be understood by the server due to malformed syntax."),
    Fault(400, "invalid.date", "Dates must be specified as ISO-8601 strings."),
    Fault(400, "invalid.value", "Value [{value}] is not valid for field type [{type}] of field [{field}]."),
    Fault(400, "response.entity.too.large", "The response is over the size limit."),
    Fault(400, INVALID_AGENT_STATE, "The agent {agent} cannot place a call in its current state.", Origin.THREAD),
    Fault(400, MISSING_FROM_TYPE, "The originating party has no type.", Origin.THREAD),
    Fault(401, "authentication.required", "No authentication bearer token specified in authorization header."),
    Fault(401, "bad.credentials", "Invalid login credentials."),
    Fault(401, "credentials.expired", "The supplied credentials are expired and cannot be used."),
    Fault(401, "ip.not.authorized", "Requests from this address are not allowed."),
    Fault(401, "unauthorized", "The request is not authorized."),
    Fault(403, "missing.permissions", "Unable to perform the requested action. Missing permissions: {permissions}"),
    Fault(
        403,
        "missing.any.permissions",
        "Unable to perform the requested action. Missing any of these permissions: {permissions}",
    ),
    Fault(403, "not.authorized", "You are not authorized to perform the requested action."),
    Fault(403, "forbidden", "You are not authorized to perform the requested action."),
    Fault(404, "not.found", "The requested resource was not found."),
    Fault(404, "resource.not.found", "The requested resource {resource} was not found."),
    Fault(408, "client.timeout", "The request timed out while its body was awaited."),
    Fault(409, "general.conflict", "The request conflicts with the current state of the resource."),
    Fault(409, "general.resource.conflict", "The request conflicts with another change of the resource."),
    Fault(413, "request.entity.too.large", "The request is over the size limit of {limit} bytes."),
    Fault(415, "unsupported.media.type", "The content type {type} is not supported."),
    Fault(429, THROTTLED, "Rate limit exceeded the maximum. Retry the request in [{seconds}] seconds"),
    Fault(500, "providerapi.error.station.no.active.edge", "The station has no active edge."),
    Fault(500, "providerapi.error.no.station.for.edge", "The edge has no station."),
    Fault(500, "internal.server.error", "The server met a condition that keeps it from answering."),
    Fault(503, "service.unavailable", "The service is unavailable at the moment."),
    Fault(504, "authentication.request.timeout", "The authentication service did not answer in time."),
    Fault(504, "request.timeout", "The request timed out."),
)
FAULTS: Final = MappingProxyType({fault.code: fault for fault in _TABLE})
"""Every fault, by its code."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault, found in one request.

    Attributes:
        code: Of the fault, a key of `FAULTS`; any other text is a 400 that a test has planted.
        parameters: What fills the message's template.
        field: The field of the request that is to blame; empty for none.
        is_generic: The answer must say `bad.request` on top and the code in `details`.
    """

    code: str
    parameters: Mapping[str, str] = field(default_factory=dict[str, str])
    field: str = ""
    is_generic: bool = False

    @property
    def fault(self) -> Fault:
        """The row of the table."""
        return FAULTS.get(self.code) or Fault(400, self.code, "The call cannot be placed.", Origin.PLANTED)


@dataclass(frozen=True, slots=True)
class Wording:
    """A refusal as it is sent: the codes that its body carries, its content type and its bytes."""

    codes: tuple[str, ...]
    content_type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class _Said:
    """What each dress says in its own way."""

    finding: Finding
    message: str
    context_id: str

    @property
    def code(self) -> str:
        return self.finding.code

    @property
    def status(self) -> int:
        return self.finding.fault.status

    def error_body(self, code: str, **more: object) -> dict[str, Any]:
        """Return an `ErrorBody` (SDK model) with that code on top."""
        template = self.finding.fault.template
        body: dict[str, Any] = {
            "message": self.message,
            "code": code,
            "status": self.status,
            "messageWithParams": template,
            "messageParams": {
                name: text for name, text in self.finding.parameters.items() if f"{{{name}}}" in template
            },
            "contextId": self.context_id,
            "details": [],
            "errors": [],
        }
        return body | more


def _detail(said: _Said) -> dict[str, str]:
    return {"errorCode": said.code} | ({"fieldName": said.finding.field} if said.finding.field else {})


def _generic(said: _Said) -> Wording:
    return _json((said.code, BAD_REQUEST), said.error_body(BAD_REQUEST, details=[_detail(said)]))


def _nested(said: _Said) -> Wording:
    return _json((said.code, BAD_REQUEST), said.error_body(BAD_REQUEST, errors=[said.error_body(said.code)]))


def _plain(said: _Said) -> Wording:
    return _json((said.code,), said.error_body(said.code))


def _wild_number(said: _Said) -> Wording:
    return _json((said.code, str(said.status)), said.error_body("") | {"code": said.status, "details": [_detail(said)]})


def _wild_strings(said: _Said) -> Wording:
    return _json((said.code,), {"message": said.message, "code": said.code, "errors": [said.message]})


def _wild_uncoded(said: _Said) -> Wording:
    body = {"message": f"{said.message}\n\tat {said.context_id}: {{template}}", "status": str(said.status)}
    return _json((), body | {"errors": None, "contextId": said.context_id})


def _wild_details(said: _Said) -> Wording:
    nested = {"message": said.message, "code": said.code, "status": said.status}
    body = {"message": said.message, "code": BAD_REQUEST, "details": said.message, "nested": nested}
    return _json((said.code, BAD_REQUEST), body)


_WILD: Final = (_wild_number, _wild_strings, _wild_uncoded, _wild_details)


def _html(said: _Said) -> Wording:
    text = f"<html><head><title>{said.status}</title></head><body><h1>{said.status}</h1></body></html>\r\n"
    return Wording((), "text/html", text.encode())


def _json(codes: tuple[str, ...], body: Mapping[str, object]) -> Wording:
    return Wording(tuple(dict.fromkeys(codes)), JSON, encode(body))


def encode(value: object) -> bytes:
    """Return compact JSON, in ASCII so that any text a caller has sent can be said back."""
    return json.dumps(value, separators=(",", ":")).encode()


def refuse(finding: Finding, number: str, context_id: str, behaviour: Behaviour, source: random.Random) -> Wording:
    """Put a finding into words: the API's own body, or one of the ways in which bodies differ from it.

    Args:
        finding: What is wrong.
        number: The dialled number, which some messages repeat; empty where the request has none.
        context_id: The exchange's correlation id.
        behaviour: How often which body is chosen.
        source: Where chance comes from; drawn from three times, and once more for a body as in the wild.

    Returns:
        The body, and the codes that it carries.
    """
    echo, page, dress = source.random(), source.random(), source.random()
    message = finding.fault.template.format_map(_Blanks(finding.parameters))
    if number and echo < behaviour.echo:
        message = f"{message} ({number})"
    said = _Said(finding, message, context_id)
    if finding.is_generic:
        return _generic(said)
    if page < behaviour.html:
        return _html(said)
    return _dressed(said, dress, behaviour, source) if said.status == 400 else _plain(said)  # noqa: PLR2004 - HTTP


def _dressed(said: _Said, dress: float, behaviour: Behaviour, source: random.Random) -> Wording:
    if dress < behaviour.generic:
        return _generic(said)
    if dress < behaviour.generic + behaviour.nested:
        return _nested(said)
    if dress < behaviour.generic + behaviour.nested + behaviour.wild:
        return source.choice(_WILD)(said)
    return _plain(said)


class _Blanks(dict[str, str]):
    """Parameters of a message; one that isn't given stays as it stands in the template."""

    def __missing__(self, key: str) -> str:
        return f"{{{key}}}"
