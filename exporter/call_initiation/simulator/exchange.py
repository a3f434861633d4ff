"""What goes into the pretend organisation and what comes out: plain values, no sockets.

A `Request` is an HTTP request with its names in lower case; a `CallRequest` is one that starts a call, its path already
understood; an `Answer` is what goes back, byte for byte.
"""

import hashlib
import random
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

_MOST_DIGITS = 9
"""Of a number in a query; Python itself reads 4,300 at most."""

MAX_REQUEST_BYTES = 512_000
"""How long a request's body may be (swagger of 2017, code `request.entity.too.large`)."""

_KEY = b"pretend"


class Endpoint(StrEnum):
    """The three requests that start a call, by URL template (SDK `ConversationsApi`)."""

    OWN = "/api/v2/conversations/calls"
    """As the token's own user."""
    ON_BEHALF = "/api/v2/conversations/calls/user/{userId}"
    """On behalf of the user in the path."""
    CALLBACK = "/api/v2/conversations/calls/{conversationId}"
    """The call of a callback, as the token's own user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One HTTP request.

    Attributes:
        method: In upper case.
        path: The raw path, without the query.
        query: The raw query, without its question mark.
        headers: By name in lower case.
        body: The body's bytes; a door may cut it one byte past `MAX_REQUEST_BYTES`.
    """

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRequest:
    """One request that starts a call.

    Attributes:
        endpoint: Which of the three.
        target: The `userId` or `conversationId` of the path; empty for `Endpoint.OWN`.
        headers: By name in lower case; read are `authorization`, `content-type` and `x-request-id`.
        body: The body's bytes.
    """

    endpoint: Endpoint = Endpoint.OWN
    target: str = ""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One HTTP answer: the status, the headers (names as they are sent) and the body's bytes."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def whole(text: str) -> int | None:
    """Return a whole number of a query, 0 or more; None for what is none, or longer than any that means something."""
    return int(text) if text.isdecimal() and text.isascii() and len(text) <= _MOST_DIGITS else None


def stream(seed: int, *name: object) -> random.Random:
    """Return the generator of that name: what one part of the simulator draws never moves another part."""
    return random.Random(f"{seed}/{'/'.join(map(str, name))}")  # noqa: S311 - a simulation must be repeatable


def made_up_id(source: random.Random) -> str:
    """Return a UUID of version 4 drawn from `source`."""
    return str(uuid.UUID(int=source.getrandbits(128), version=4))


def user_token(agent_id: str) -> str:
    """Return the bearer token of an agent: it says nothing of whose it is, as real ones don't.

    Anybody can make it, since the organisation is made up too.
    """
    return hashlib.blake2b(agent_id.encode(), key=_KEY, digest_size=16).hexdigest()
