"""Our own access to the API: our credentials, and the token that they buy.

The token is ours alone: it reads agents and makes notification channels, and a dialer's token is never used for that.
Laws:

* No secret and no token is shown: not by `repr`, not in an exception, not in a log.
* A token is renewed before it ends, by one request however many wait for it, and its failure is theirs; while the old
  one is still good, a failed renewal is nobody's concern.
* The login host is asked a few times a minute at most, and not before it wants to be: who asks too soon is told why the
  last request failed.
* Credentials follow no redirect; `regions` says which hosts they may be sent to.
"""

import asyncio
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from time import monotonic
from typing import Final, cast

import httpx

from call_initiation import nesting
from call_initiation.api.pacing import Budget
from call_initiation.errors import UpstreamError
from call_initiation.secret import secret

DEADLINE: Final = 30.0
"""Seconds for one exchange from end to end; httpx's own timeouts are for each read."""

_SHORTEST_LIFE: Final = 300.0
"""Seconds; what a token lives at least, and what is assumed where the answer doesn't say."""

_LONGEST_LIFE: Final = 172_800.0
"""Seconds; the API gives none that lives longer."""

_RENEW_BEFORE: Final = 300.0
_RENEW_SHARE: Final = 0.2
_RETRY_AFTER: Final = 30.0
"""Seconds between attempts to renew a token that is still good."""

_PER_MINUTE: Final = 6.0
_AT_ONCE: Final = 5.0
"""Tokens that may be bought at once after a rest; good ones live for minutes at least, and bad ones get no better."""

_BUYING: Final = "POST /oauth/token"
_CODE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_TOKEN: Final = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True)
class Credentials:
    """An OAuth client for client credentials; `repr` shows neither part."""

    client_id: str = field(repr=False)
    client_secret: str = field(repr=False)

    @classmethod
    def find(
        cls, client_id: str | None = None, client_secret: str | None = None, environ: Mapping[str, str] = os.environ
    ) -> "Credentials":
        """Take each part from the argument, else from the environment, else from a file that the environment names.

        The variables are `GENESYS_CLIENT_ID`, `GENESYS_CLIENT_SECRET`, and the same with `_FILE` for a file's path.

        Raises:
            SettingsError: A part is nowhere to be found, or its file can't be read.
        """
        return cls(
            client_id or secret("GENESYS_CLIENT_ID", environ),
            client_secret or secret("GENESYS_CLIENT_SECRET", environ),
        )


@dataclass(frozen=True, slots=True)
class Token:
    """An access token and its life; `repr` doesn't show it.

    Attributes:
        value: The token.
        renew_at: From when on it should be renewed.
        ends_at: From when on it is no good.
    """

    value: str = field(repr=False)
    renew_at: float
    ends_at: float

    @classmethod
    def lasting(cls, value: str, life: float, now: float) -> "Token":
        """Return a token that lives `life` seconds from `now`: renewed 5 minutes, at most a fifth of it, before."""
        return cls(value, now + life - min(_RENEW_BEFORE, life * _RENEW_SHARE), now + life)

    def fresh(self, now: float) -> bool:
        """Whether it needn't be renewed yet."""
        return now < self.renew_at

    def good(self, now: float) -> bool:
        """Whether it can still be used."""
        return now < self.ends_at


class Tokens:
    """Our token, bought by client credentials (RFC 6749, section 4.4) and renewed in time.

    Args:
        credentials: Our OAuth client.
        base_url: The login host, from `regions.login_url`.
        client: Sends the requests; whether it heeds the environment's proxies is its own `trust_env`.
        clock: Seconds on a clock that never steps.
    """

    def __init__(
        self,
        credentials: Credentials,
        base_url: str,
        client: httpx.AsyncClient,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._credentials = credentials
        self._url = f"{base_url}/oauth/token"
        self._client = client
        self._clock = clock
        self._token: Token | None = None
        self._no_attempt_before = clock()
        self._budget = Budget(_PER_MINUTE, _AT_ONCE)
        self._failure = UpstreamError(_BUYING, None, "each token was refused as soon as it was bought")
        self._failures = 0
        self._one_at_a_time = asyncio.Lock()

    async def value(self) -> str:
        """Return a token that is good now.

        Raises:
            UpstreamError: There is none, and none can be bought; it holds the status and the OAuth error code.
        """
        failures = self._failures
        async with self._one_at_a_time:
            if self._token is None or self._is_due(self._token):
                return (await self._renewed(failures)).value
            return self._token.value

    def refused(self, value: str) -> None:
        """Forget the token that the API has just refused; if another one has come meanwhile, that one stays."""
        if self._token is not None and self._token.value == value:
            self._token = None

    def _is_due(self, token: Token) -> bool:
        now = self._clock()
        return not token.good(now) or not (token.fresh(now) or now < self._no_attempt_before)

    async def _renewed(self, failures: int) -> Token:
        """Return a new token, or the old one while it is good; `failures` are those before it was waited for."""
        try:
            if failures != self._failures or self._budget.delay(self._clock()) > 0:
                raise replace(self._failure)
            self._token = await self._bought()
        except UpstreamError:
            now = self._clock()
            if self._token is None or not self._token.good(now):
                raise
            self._no_attempt_before = now + _RETRY_AFTER
        return self._token

    async def _bought(self) -> Token:
        try:
            return await self._asked()
        except UpstreamError as failure:
            self._failure = replace(failure)
            self._failures += 1
            raise

    async def _asked(self) -> Token:
        now = self._clock()
        self._budget.took(now)
        auth = httpx.BasicAuth(self._credentials.client_id, self._credentials.client_secret)
        request = self._client.build_request("POST", self._url, data={"grant_type": "client_credentials"})
        response = await exchange(_BUYING, self._client, request, auth)
        self._budget.observe(response.headers, response.status_code, self._clock())
        answer = json_object(_BUYING, response)
        value, life = answer.get("access_token"), answer.get("expires_in")
        if not isinstance(value, str) or not is_token(value):
            raise UpstreamError(_BUYING, response.status_code, "no token in the answer")
        told = life if isinstance(life, int) and life > 0 else _SHORTEST_LIFE
        return Token.lasting(value, min(told, _LONGEST_LIFE), now)


def is_token(text: str) -> bool:
    """Whether `text` can be a token: visible ASCII, as RFC 6749 (appendix A.12) has it, without blanks."""
    return _TOKEN.fullmatch(text) is not None


async def exchange(
    operation: str, client: httpx.AsyncClient, request: httpx.Request, auth: httpx.Auth | None = None
) -> httpx.Response:
    """Send a request of our own once, within `DEADLINE`, following no redirect.

    Raises:
        UpstreamError: There was no whole answer. The cause isn't chained: httpx's exceptions hold the request, and
            with it the `Authorization` header, for whoever prints more of an exception than its text.
    """
    try:
        async with asyncio.timeout(DEADLINE):
            return await client.send(request, auth=auth, follow_redirects=False)
    except (httpx.HTTPError, TimeoutError) as error:
        failure = type(error).__name__
    raise UpstreamError(operation, None, failure)


def json_object(operation: str, response: httpx.Response) -> dict[str, object]:
    """Return the JSON object that an answer holds; an empty one for a success without a body.

    Raises:
        UpstreamError: The status is no success (then the reason is the body's code), or the body is no JSON object.
    """
    try:
        body: object = nesting.loads(response.content) if response.content else {}
    except ValueError:
        body = None
    answer = cast("dict[str, object]", body) if isinstance(body, dict) else None
    if not response.is_success:
        raise UpstreamError(operation, response.status_code, _code(answer or {}, response.status_code))
    if answer is None:
        raise UpstreamError(operation, response.status_code, "unreadable answer")
    return answer


def _code(answer: Mapping[str, object], status: int) -> str:
    """Return the API's `code` or OAuth's `error` if it looks like a code; anything else might say too much."""
    codes = (answer.get("code"), answer.get("error"))
    named = next((code for code in codes if isinstance(code, str) and _CODE.fullmatch(code)), None)
    known = {known.value: known.phrase for known in HTTPStatus}
    return named or known.get(status, "unknown status")
