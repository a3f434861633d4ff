"""The few requests that we make ourselves: who agents are, what state they are in, and where their changes are told.

A thin door over `tokens` (whose answers), `pacing` (when) and `notifications` (what to subscribe to). Laws:

* Nothing but our own notification channels is ever written. A call can't be placed from here.
* Each request goes once. Only a 401 is repeated, once, with a new token: it is answered before anything is done, so
  even a channel isn't made twice.
* A channel's id, which is the secret end of its socket's address, stands in no error and in no URL that httpx logs:
  only httpcore is told it, as the request's target.
* A refusal is never waited out inside a request. It closes the budget that all our requests share, and is raised.

What the answers say of an agent's state is read by `users`.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import count, islice
from time import monotonic
from typing import Final
from urllib.parse import quote

import httpx

from call_initiation.agents.users import JsonObject, as_array, as_object, as_text, epoch
from call_initiation.api.notifications import rejected
from call_initiation.api.pacing import Budget
from call_initiation.api.tokens import Tokens, exchange, is_token, json_object
from call_initiation.errors import UpstreamError

_EXPAND: Final = "presence,routingStatus,conversationSummary,station,outOfOffice"
_ME: Final = "/api/v2/users/me"
_CHANNELS: Final = "/api/v2/notifications/channels"

_OURS: Final = re.compile(rf"{_CHANNELS}(/[^/.][^/]*/subscriptions)?")
"""The only paths that are ever written."""

_ANY_CHANNELS: Final = f"{_CHANNELS}/*/subscriptions"
"""How the path of a channel's subscriptions is shown."""

_USERS_AT_ONCE: Final = 50
"""Ids in one bulk read: a request line of about 2,300 characters, well within what any proxy takes."""

_PAGE: Final = 100
"""The most that the API gives of a queue's members at once (its reference); without asking, it gives 25."""

_PAGES: Final = 1000
"""Where a listing ends at the latest, so that a server that always names a next page can't hold us."""


@dataclass(frozen=True, slots=True)
class NewChannel:
    """A notification channel as the API made it.

    Attributes:
        id: Its id, which `connect_uri` ends with.
        connect_uri: Where its socket is opened; who knows it can listen, so `repr` shows neither.
        expires: Server time of its end, seconds since the epoch; None where the answer doesn't say.
    """

    id: str = field(repr=False)
    connect_uri: str = field(repr=False)
    expires: float | None


class GenesysApi:
    """Our own requests to one region's API; each raises `UpstreamError` when it fails.

    Args:
        client: Sends the requests. Our own, never the dialer's.
        tokens: Our own token.
        base_url: The API's host, from `regions.api_url`.
        budget: Shared with whatever else uses the token.
        clock: Seconds on the clock that the budget counts by.
        sleep: Waits that many seconds.
    """

    def __init__(  # noqa: PLR0913 - what it works with, each of which a test or the service puts in
        self,
        client: httpx.AsyncClient,
        tokens: Tokens,
        base_url: str,
        budget: Budget,
        *,
        clock: Callable[[], float] = monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._client = client
        self._tokens = tokens
        self._base_url = base_url
        self._budget = budget
        self._clock = clock
        self._sleep = sleep

    async def enter(self) -> None:
        """See to it that there is a token; nothing is sent while there is one that is good."""
        await self._tokens.value()

    async def me(self) -> JsonObject:
        """Return the user of our own token; a token of client credentials has none, which is an error here."""
        return await self._call("GET", _ME)

    async def me_with(self, token: str) -> JsonObject:
        """Return the user of another's token, such as the dialer's; the token is used once and not kept.

        It has an allowance of its own, so its answer says nothing about our budget, though it counts against it.
        """
        if not is_token(token):
            # httpcore would quote the whole header in its log.
            raise UpstreamError(operation=f"GET {_ME}", status_code=None, reason="not a token")
        request = self._request("GET", _ME, token)
        await self._turn()
        return json_object(f"GET {_ME}", await exchange(f"GET {_ME}", self._client, request))

    async def user(self, user_id: str) -> JsonObject | None:
        """Return a user with its state, or None if there is no such user."""
        try:
            return await self._call("GET", f"/api/v2/users/{_segment(user_id)}", {"expand": _EXPAND})
        except UpstreamError as error:
            if error.status_code == HTTPStatus.NOT_FOUND:
                return None
            raise

    async def users(self, user_ids: Iterable[str]) -> AsyncIterator[JsonObject]:
        """Give users with their states as they come, 50 to a request; one that is inactive or deleted isn't given."""
        left = iter(dict.fromkeys(user_ids))
        while ids := list(islice(left, _USERS_AT_ONCE)):
            # Without a page size the API gives 25, and would leave out the other half without a word.
            params = {"id": ids, "expand": _EXPAND, "pageSize": str(_USERS_AT_ONCE)}
            for user in _entities(await self._list("/api/v2/users", params)):
                yield user

    async def queue_members(self, queue_id: str) -> list[str]:
        """Return the user ids of a queue's members."""
        return await self._members(f"/api/v2/routing/queues/{_segment(queue_id)}/members")

    async def group_members(self, group_id: str) -> list[str]:
        """Return the user ids of a group's members."""
        return await self._members(f"/api/v2/groups/{_segment(group_id)}/members")

    async def create_channel(self) -> NewChannel:
        """Make a notification channel; the 21st of a user and application ends the one used longest ago."""
        answer = await self._call("POST", _CHANNELS)
        channel_id, connect_uri = as_text(answer.get("id")), as_text(answer.get("connectUri"))
        if channel_id is None or connect_uri is None:
            raise UpstreamError(operation=f"POST {_CHANNELS}", status_code=None, reason="no channel in the answer")
        return NewChannel(channel_id, connect_uri, epoch(answer.get("expires")))

    async def subscribe(self, channel_id: str, topics: Iterable[str]) -> tuple[tuple[str, str], ...]:
        """Replace a channel's subscriptions; return the topics that were rejected, with the reasons."""
        return await self._subscriptions("PUT", channel_id, topics)

    async def add(self, channel_id: str, topics: Iterable[str]) -> tuple[tuple[str, str], ...]:
        """Add to a channel's subscriptions; return the topics that were rejected, with the reasons."""
        return await self._subscriptions("POST", channel_id, topics)

    async def close(self, channel_id: str) -> None:
        """End a channel's subscriptions; the API has no way to end a channel before its time."""
        await self._call("DELETE", _subscriptions_of(channel_id))

    async def _subscriptions(self, method: str, channel_id: str, topics: Iterable[str]) -> tuple[tuple[str, str], ...]:
        body = [{"id": topic} for topic in topics]
        # Otherwise one topic that we may not see has all others refused with it.
        params = {"ignoreErrors": "true"}
        return rejected(await self._call(method, _subscriptions_of(channel_id), params, body))

    async def _members(self, path: str) -> list[str]:
        members: dict[str, None] = {}
        for number in islice(count(1), _PAGES):
            page = await self._list(path, {"pageSize": str(_PAGE), "pageNumber": str(number)})
            entities = _entities(page)
            members.update(dict.fromkeys(filter(None, map(_user_id, entities))))
            if not page.get("nextUri") and len(entities) < _PAGE:
                break
        return list(members)

    async def _list(self, path: str, params: Mapping[str, str | Sequence[str]]) -> JsonObject:
        """Return a page of a list; an answer without one says nothing, and not that nobody is on it."""
        page = await self._call("GET", path, params)
        if not isinstance(page.get("entities"), list):
            raise UpstreamError(operation=f"GET {path}", status_code=HTTPStatus.OK, reason="unreadable answer")
        return page

    async def _call(
        self,
        method: str,
        path: str,
        params: Mapping[str, str | Sequence[str]] | None = None,
        body: object = None,
    ) -> JsonObject:
        if method != "GET" and not _OURS.fullmatch(path):
            message = f"{method} {path}: only notification channels are written"
            raise ValueError(message)
        token = await self._tokens.value()
        request = self._request(method, path, token, params, body)
        response = await self._send(request)
        if response.status_code == HTTPStatus.UNAUTHORIZED:
            self._tokens.refused(token)
            request = self._request(method, path, await self._tokens.value(), params, body)
            response = await self._send(request)
        return json_object(f"{method} {request.url.path}", response)

    async def _send(self, request: httpx.Request) -> httpx.Response:
        await self._turn()
        response = await exchange(f"{request.method} {request.url.path}", self._client, request)
        self._budget.observe(response.headers, response.status_code, self._clock())
        return response

    async def _turn(self) -> None:
        """Wait until a request may go; others may have gone meanwhile, so ask again after each wait."""
        while (delay := self._budget.delay(self._clock())) > 0:
            await self._sleep(delay)
        self._budget.took(self._clock())

    def _request(
        self,
        method: str,
        path: str,
        token: str,
        params: Mapping[str, str | Sequence[str]] | None = None,
        body: object = None,
    ) -> httpx.Request:
        headers = {"Authorization": f"Bearer {token}"}
        request = self._client.build_request(method, self._base_url + path, params=params, json=body, headers=headers)
        if path.startswith(f"{_CHANNELS}/"):
            request.extensions["target"] = request.url.raw_path
            request.url = request.url.copy_with(path=_ANY_CHANNELS)
        return request


def _segment(identifier: str) -> str:
    return quote(identifier, safe="")


def _subscriptions_of(channel_id: str) -> str:
    return f"{_CHANNELS}/{_segment(channel_id)}/subscriptions"


def _entities(page: JsonObject) -> list[JsonObject]:
    return [as_object(entity) for entity in as_array(page.get("entities"))]


def _user_id(member: JsonObject) -> str | None:
    """Return a member's user id: a queue's member names its user (SDK model `QueueMember`), a group's is one."""
    return as_text(as_object(member.get("user")).get("id")) or as_text(member.get("id"))
