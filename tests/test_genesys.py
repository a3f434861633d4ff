"""The few requests that we make ourselves, against a real server on this machine."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

import httpx
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from call_initiation.api.genesys import GenesysApi, NewChannel
from call_initiation.api.pacing import Budget
from call_initiation.api.tokens import Credentials, Tokens
from call_initiation.errors import UpstreamError

EXPAND = "presence,routingStatus,conversationSummary,station,outOfOffice"
T = TypeVar("T")
OTHERS_TOKEN = "canary-dialers-token"


@dataclass
class Answer:
    """What the server answers next."""

    body: object = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict[str, str])


@dataclass
class Region:
    """A pretend region: sells numbered tokens, gives the answers in turn and the last one for ever, notes requests."""

    answers: list[Answer]
    sold: int = 0
    seen: list[str] = field(default_factory=list[str])
    tokens: list[str] = field(default_factory=list[str])
    bodies: list[object] = field(default_factory=list[object])

    async def sell(self, _: web.Request) -> web.Response:
        """Sell a token."""
        self.sold += 1
        return web.json_response({"access_token": f"canary-own-token-{self.sold}", "expires_in": 3600})

    async def answer(self, request: web.Request) -> web.Response:
        """Give the next answer."""
        self.seen.append(f"{request.method} {request.raw_path}")
        self.tokens.append(request.headers["Authorization"].removeprefix("Bearer "))
        text = await request.text()
        self.bodies.append(json.loads(text) if text else None)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        content = b"" if answer.body is None else json.dumps(answer.body).encode()
        return web.Response(body=content, status=answer.status, headers=answer.headers)


@dataclass
class Clock:
    """A clock that only sleeping moves."""

    now: float = 0.0
    slept: list[float] = field(default_factory=list[float])

    def __call__(self) -> float:
        """Return the time."""
        return self.now

    async def sleep(self, seconds: float) -> None:
        """Let the time pass at once."""
        self.slept.append(seconds)
        self.now += seconds


def run(region: Region, story: Callable[[GenesysApi], Awaitable[T]], clock: Clock | None = None) -> T:
    """Let a story happen with a region."""
    clock = clock or Clock()

    async def told() -> T:
        app = web.Application()
        app.router.add_post("/oauth/token", region.sell)
        app.router.add_route("*", "/api/{path:.*}", region.answer)
        async with TestServer(app) as server, httpx.AsyncClient(trust_env=False, follow_redirects=True) as client:
            base_url = str(server.make_url("")).rstrip("/")
            tokens = Tokens(Credentials("id", "secret"), base_url, client, clock)
            budget = Budget(per_minute=60, burst=2)
            return await story(GenesysApi(client, tokens, base_url, budget, clock=clock, sleep=clock.sleep))

    return asyncio.run(told())


async def collected(api: GenesysApi, ids: list[str]) -> list[object]:
    """Return all users that the API gives."""
    return [user async for user in api.users(ids)]


def test_a_user_is_read_whole_at_once() -> None:
    """With all expansions, and a path that no id can leave."""
    region = Region([Answer({"id": "a/../b"})])
    assert {"id": "a/../b"} == run(region, lambda api: api.user("a/../b"))
    path, _, query = region.seen[0].partition("?")
    assert ("GET /api/v2/users/a%2F..%2Fb", httpx.QueryParams(expand=EXPAND)) == (path, httpx.QueryParams(query))


def test_a_user_that_is_not_there_is_none() -> None:
    """A deleted user is a fact, not a failure."""
    assert run(Region([Answer({"code": "not.found"}, 404)]), lambda api: api.user("a1")) is None


def test_any_other_refusal_of_a_user_is_raised() -> None:
    """With the status and the code."""
    region = Region([Answer({"code": "missing.permissions", "message": "…"}, 403)])
    with pytest.raises(UpstreamError, match=r"GET /api/v2/users/a1 failed with status 403: missing\.permissions"):
        run(region, lambda api: api.user("a1"))


def test_many_users_are_read_fifty_at_a_time() -> None:
    """Each once, and with a page as large as the question."""
    region = Region(
        [
            Answer({"entities": [{"id": "first"}, None]}),
            Answer({"entities": [{"id": "second"}]}),
            Answer({"entities": []}),
        ]
    )
    ids = [f"u{number}" for number in range(101)]
    assert [{"id": "first"}, {}, {"id": "second"}] == run(region, lambda api: collected(api, [*ids, "u0"]))
    queries = [httpx.QueryParams(seen.partition("?")[2]) for seen in region.seen]
    assert [ids[:50], ids[50:100], ids[100:]] == [query.get_list("id") for query in queries]
    assert {(EXPAND, "50")} == {(query["expand"], query["pageSize"]) for query in queries}


def test_no_users_need_no_request() -> None:
    """Not even a token."""
    region = Region([Answer({})])
    assert run(region, lambda api: collected(api, [])) == []
    assert (0, []) == (region.sold, region.seen)


def test_our_own_user_is_read_with_our_own_token() -> None:
    """Plainly."""
    region = Region([Answer({"id": "us"})])
    assert {"id": "us"} == run(region, lambda api: api.me())
    assert (["GET /api/v2/users/me"], ["canary-own-token-1"]) == (region.seen, region.tokens)


def test_the_user_of_anothers_token_is_read_with_that_token_alone() -> None:
    """Ours isn't even bought, and the other one's limits don't close our budget."""
    region, clock = (
        Region([Answer({"id": "them"}, headers={"inin-ratelimit-count": "9", "inin-ratelimit-allowed": "9"})]),
        Clock(),
    )

    async def twice(api: GenesysApi) -> object:
        await api.me_with(OTHERS_TOKEN)
        return await api.me_with(OTHERS_TOKEN)

    assert {"id": "them"} == run(region, twice, clock)
    assert (0, [OTHERS_TOKEN] * 2, []) == (region.sold, region.tokens, clock.slept)


def test_a_refusal_of_anothers_token_is_not_repeated(caplog: pytest.LogCaptureFixture) -> None:
    """Neither with it nor with ours; and it is shown nowhere."""
    caplog.set_level(logging.DEBUG)
    region = Region([Answer({"code": "bad.credentials"}, 401)])
    with pytest.raises(UpstreamError) as caught:
        run(region, lambda api: api.me_with(OTHERS_TOKEN))
    assert (401, "bad.credentials") == (caught.value.status_code, caught.value.reason)
    assert (0, 1) == (region.sold, len(region.seen))
    assert OTHERS_TOKEN not in caplog.text + repr(caught.value)


@pytest.mark.parametrize("token", ["", "canary\ntoken", "canary token", "canary\u00e9", "canary\ud800"])
def test_what_cannot_be_a_token_is_not_sent(token: str, caplog: pytest.LogCaptureFixture) -> None:
    """HTTP libraries quote a header that they refuse, so they don't get to see it."""
    caplog.set_level(logging.DEBUG)
    region = Region([Answer({"id": "them"})])
    with pytest.raises(UpstreamError, match="no answer: not a token"):
        run(region, lambda api: api.me_with(token))
    assert region.seen == []
    assert "canary" not in caplog.text


def test_a_queues_members_are_read_page_by_page() -> None:
    """A full page is followed by another one, whether or not the server says so; a member is its user."""
    full = [{"id": f"m{number}", "user": {"id": f"u{number}"}} for number in range(100)]
    region = Region([Answer({"entities": full}), Answer({"entities": [{"id": "u7"}, {"id": "last"}, {}]})])
    assert [*(f"u{number}" for number in range(100)), "last"] == run(region, lambda api: api.queue_members("q1"))
    assert [
        "GET /api/v2/routing/queues/q1/members?pageSize=100&pageNumber=1",
        "GET /api/v2/routing/queues/q1/members?pageSize=100&pageNumber=2",
    ] == region.seen


def test_a_groups_members_are_read_while_a_next_page_is_named() -> None:
    """A server may give less than a full page before the last one."""
    region = Region([Answer({"entities": [{"id": "u1"}], "nextUri": "/next"}), Answer({"entities": [{"id": "u2"}]})])
    assert ["u1", "u2"] == run(region, lambda api: api.group_members("g1"))
    assert [seen.partition("?")[0] for seen in region.seen] == ["GET /api/v2/groups/g1/members"] * 2


def test_a_listing_ends_even_if_the_server_never_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that always names a next page can't hold us."""
    monkeypatch.setattr("call_initiation.api.genesys._PAGES", 3)
    region = Region([Answer({"entities": [{"id": "u1"}], "nextUri": "/next"})])
    assert ["u1"] == run(region, lambda api: api.group_members("g1"))
    assert len(region.seen) == 3


@pytest.mark.parametrize("body", [None, {}, {"status": "ok"}, {"entities": None}, {"entities": {}}])
def test_an_answer_without_a_list_doesnt_say_that_nobody_is_on_it(body: object) -> None:
    """Else a queue would lose all its members, and each agent who was asked for would be gone."""
    for ask in (lambda api: api.queue_members("q1"), lambda api: collected(api, ["u1"])):
        with pytest.raises(UpstreamError, match=r"failed with status 200: unreadable answer"):
            run(Region([Answer(body)]), ask)


def test_a_channel_is_made() -> None:
    """With the moment of its end; where to listen isn't shown."""
    made = {"id": "c1", "connectUri": "wss://streaming.example.com/c1", "expires": "1970-01-02T00:00:00Z"}
    region = Region([Answer(made)])
    channel = run(region, lambda api: api.create_channel())
    assert NewChannel("c1", "wss://streaming.example.com/c1", 86_400.0) == channel
    assert "c1" not in repr(channel)
    assert ["POST /api/v2/notifications/channels"] == region.seen


@pytest.mark.parametrize("body", [{"id": "c1"}, {"connectUri": "wss://streaming.example.com/c1"}, None])
def test_an_answer_without_a_channel_is_an_error(body: object) -> None:
    """A channel that can't be opened is none."""
    with pytest.raises(UpstreamError, match="no channel in the answer"):
        run(Region([Answer(body)]), lambda api: api.create_channel())


def test_subscriptions_are_replaced_added_to_and_ended() -> None:
    """One refused topic doesn't have the others refused, and is named."""
    refused = {"entities": [{"id": "t2", "state": "Rejected", "rejectionReason": "no"}]}
    region = Region([Answer(refused), Answer({"entities": [{"id": "t3", "state": "Permitted"}]}), Answer(None, 202)])

    async def story(api: GenesysApi) -> list[object]:
        return [await api.subscribe("c1", ["t1", "t2"]), await api.add("c1", ["t3"]), await api.close("c1")]

    assert [(("t2", "no"),), (), None] == run(region, story)
    path = "/api/v2/notifications/channels/c1/subscriptions"
    assert [f"PUT {path}?ignoreErrors=true", f"POST {path}?ignoreErrors=true", f"DELETE {path}"] == region.seen
    assert [[{"id": "t1"}, {"id": "t2"}], [{"id": "t3"}], None] == region.bodies


def test_a_refused_token_is_replaced_and_the_request_repeated_once() -> None:
    """For a channel too: a 401 is answered before anything is made."""
    region = Region([Answer({}, 401), Answer({"id": "c1", "connectUri": "wss://example.com"})])
    assert run(region, lambda api: api.create_channel()).id == "c1"
    assert ["canary-own-token-1", "canary-own-token-2"] == region.tokens


def test_a_second_refusal_is_raised() -> None:
    """A new token that is refused as well is no accident."""
    region = Region([Answer({"code": "authentication.required"}, 401)])
    with pytest.raises(UpstreamError) as caught:
        run(region, lambda api: api.me())
    assert (401, "authentication.required") == (caught.value.status_code, caught.value.reason)
    assert (2, 2) == (region.sold, len(region.seen))


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 302])
def test_nothing_else_is_repeated_or_followed(status: int) -> None:
    """One request, one answer."""
    region = Region([Answer({}, status, {"Location": "/api/v2/users/me"} if status == 302 else {})])
    with pytest.raises(UpstreamError) as caught:
        run(region, lambda api: api.me())
    assert (status, 1) == (caught.value.status_code, len(region.seen))


def test_a_rate_limit_closes_the_budget_for_all() -> None:
    """It is raised, and whoever asks next waits as long as the server said."""
    region, clock = Region([Answer({}, 429, {"Retry-After": "42"}), Answer({"id": "us"})]), Clock()

    async def story(api: GenesysApi) -> object:
        with pytest.raises(UpstreamError):
            await api.user("a1")
        return await api.me()

    assert {"id": "us"} == run(region, story, clock)
    assert clock.slept == [42.0]


def test_requests_wait_their_turn() -> None:
    """Two at once, then one a second, however many ask together."""
    region, clock = Region([Answer({})]), Clock()

    async def story(api: GenesysApi) -> None:
        await asyncio.gather(*(api.me() for _ in range(5)))

    run(region, story, clock)
    assert len(region.seen) == 5
    assert clock.now == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/v2/conversations/calls"),
        ("POST", "/api/v2/conversations/calls/user/a1"),
        ("POST", "/api/v2/notifications/channels/../../conversations/calls"),
        ("POST", "/api/v2/notifications/channels/../subscriptions"),
        ("PATCH", "/api/v2/users/a1/presences/purecloud"),
        ("DELETE", "/api/v2/notifications/channelsx"),
    ],
)
def test_nothing_but_our_channels_can_be_written(method: str, path: str) -> None:
    """A call can't be placed from here, even by mistake: nothing is sent, and no token is bought."""
    region = Region([Answer({})])
    with pytest.raises(ValueError, match="only notification channels are written"):
        run(region, lambda api: api._call(method, path))
    assert (0, []) == (region.sold, region.seen)


def test_a_channels_id_cannot_lead_elsewhere() -> None:
    """The id comes from a server, and is a single segment of the path whatever it says."""
    region = Region([Answer({})])
    run(region, lambda api: api.subscribe("c1/../../conversations/calls?x=", []))
    assert [
        "PUT /api/v2/notifications/channels/c1%2F..%2F..%2Fconversations%2Fcalls%3Fx%3D/subscriptions?ignoreErrors=true"
    ] == region.seen


def test_a_channels_id_is_shown_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    """Who knows it can listen; neither a request that works nor one that fails shows it, at DEBUG."""
    caplog.set_level(logging.DEBUG)
    region = Region([Answer({}), Answer({}, 404)])

    async def story(api: GenesysApi) -> UpstreamError:
        await api.subscribe("canary-channel", ["t1"])
        with pytest.raises(UpstreamError) as caught:
            await api.close("canary-channel")
        return caught.value

    failure = run(region, story)
    assert ["canary-channel" in seen for seen in region.seen] == [True, True]
    assert "DELETE /api/v2/notifications/channels/*/subscriptions" in str(failure)
    ours = "\n".join(one.getMessage() for one in caplog.records if one.name != "aiohttp.access")
    assert "/channels/*/subscriptions?ignoreErrors=true" in ours
    assert "canary-channel" not in ours + str(failure)


def test_our_own_token_is_shown_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    """Neither by a request that works nor by one that doesn't, at DEBUG."""
    caplog.set_level(logging.DEBUG)
    region = Region([Answer({}), Answer({}, 500)])

    async def story(api: GenesysApi) -> str:
        await api.me()
        with pytest.raises(UpstreamError) as caught:
            await api.me()
        return repr(caught.value) + repr(api)

    shown = run(region, story)
    assert ["canary-own-token-1"] * 2 == region.tokens
    assert "canary" not in shown + caplog.text
