"""Who may ask, and how often: bearer tokens, the client-credentials flow, and the budget of each token.

A token is a client's, given out by `POST /oauth/token` (RFC 6749, section 4.4), or an agent's (`exchange.user_token`).
The budget is a window of one minute that begins with a token's first request; a refused request spends nothing.
"""

import base64
import binascii
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs

from call_initiation.simulator.behaviour import Behaviour
from call_initiation.simulator.exchange import Request, stream, user_token
from call_initiation.simulator.rules import Grant
from call_initiation.simulator.staff import Agent

CLIENT_ID: Final = "simulator"
CLIENT_SECRET: Final = "simulator-secret"  # noqa: S105 - the pretend organisation's, shown on its own page

_WINDOW: Final = 60.0


class Desk:
    """Gives out tokens and says what one is good for."""

    def __init__(self, seed: int, agents: Mapping[str, Agent], behaviour: Behaviour) -> None:
        self._users = {user_token(agent.id): agent for agent in agents.values()}
        self._lifetime = behaviour.token_seconds
        self._random = stream(seed, "oauth")
        self._expires: dict[str, float] = {}

    def token(self, request: Request, now: float) -> tuple[int, dict[str, str | int]]:
        """Return the status and the JSON that answer a request for a token."""
        if _credentials(request.headers.get("authorization", "")) != (CLIENT_ID, CLIENT_SECRET):
            return 401, _problem("invalid_client", "client not found: invalid client")
        if parse_qs(request.body.decode("latin-1")).get("grant_type") != ["client_credentials"]:
            return 400, _problem("unsupported_grant_type", "only client_credentials is served here")
        token = f"{self._random.getrandbits(256):064x}"
        self._expires = {kept: until for kept, until in self._expires.items() if until > now - self._lifetime}
        self._expires[token] = now + self._lifetime
        return 200, {"access_token": token, "token_type": "bearer", "expires_in": self._lifetime}

    def revoke(self) -> None:
        """Void every client's token that was given out."""
        self._expires.clear()

    def grant(self, authorization: str, now: float) -> Grant:
        """Return what the header `Authorization` is good for."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            return Grant("authentication.required")
        if (user := self._users.get(token)) is not None:
            return Grant(user=user, holder=user.id)
        if token not in self._expires:
            return Grant("bad.credentials")
        return Grant(holder=token) if now < self._expires[token] else Grant("credentials.expired")


def _credentials(authorization: str) -> tuple[str, str]:
    scheme, _, encoded = authorization.partition(" ")
    try:
        identity, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return "", ""
    return (identity, secret) if scheme.lower() == "basic" else ("", "")


def _problem(error: str, description: str) -> dict[str, str | int]:
    return {"error": error, "error_description": description, "description": description}


@dataclass(frozen=True, slots=True)
class Spending:
    """What is left of a token's minute.

    Attributes:
        count: Requests spent in this window, this one included.
        allowed: Requests that a window has.
        reset: Seconds until the next window, rounded up to at least 1.
        is_over: This request was one too many.
    """

    count: int
    allowed: int
    reset: int
    is_over: bool = False


class Budget:
    """Counts each token's requests in windows of a minute."""

    def __init__(self, allowed: int) -> None:
        self._allowed = allowed
        self._windows: dict[str, tuple[float, int]] = {}

    def spend(self, holder: str, now: float) -> Spending:
        """Count one request; one without a holder is free."""
        if not holder:
            return Spending(0, self._allowed, int(_WINDOW))
        began, count = self._windows.get(holder, (now, 0))
        if now >= began + _WINDOW:
            began, count = now, 0
        is_over = count >= self._allowed
        self._windows[holder] = (began, count + (not is_over))
        return Spending(count + (not is_over), self._allowed, max(1, math.ceil(began + _WINDOW - now)), is_over)
