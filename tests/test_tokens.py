"""Our own token: bought once, renewed in time, and never shown."""

import asyncio
import base64
import logging
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st

from call_initiation.api.tokens import Credentials, Token, Tokens, exchange
from call_initiation.errors import SettingsError, UpstreamError

CLIENT_ID = "canary-client-7f3a"
SECRET = "canary-secret-91bc"
TOKEN = "canary-token-55de"
CREDENTIALS = Credentials(CLIENT_ID, SECRET)


@dataclass
class LoginHost:
    """A login host that answers as it is told, and counts; each good answer's token has the count at its end."""

    status: int = 200
    body: object = None
    text: str | None = None
    life: object = 1000
    headers: dict[str, str] = field(default_factory=dict[str, str])
    meanwhile: Callable[[], None] | None = None
    seen: list[tuple[str, str | None, str]] = field(default_factory=list[tuple[str, str | None, str]])

    async def answer(self, request: web.Request) -> web.Response:
        """Answer one request."""
        self.seen.append((request.path, request.headers.get("Authorization"), await request.text()))
        if self.meanwhile is not None:
            self.meanwhile()
        if self.text is not None:
            return web.Response(status=self.status, text=self.text, headers={"Location": "/elsewhere"})
        good = {"access_token": f"{TOKEN}{len(self.seen)}", "token_type": "bearer", "expires_in": self.life}
        return web.json_response(good if self.body is None else self.body, status=self.status, headers=self.headers)


@dataclass
class Clock:
    """A clock that stands until it is set."""

    now: float = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@asynccontextmanager
async def buying(host: LoginHost, clock: Clock) -> AsyncIterator[Tokens]:
    """Give tokens that are bought from a real server on this machine."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", host.answer)
    async with TestServer(app) as server, httpx.AsyncClient(trust_env=False, follow_redirects=True) as client:
        yield Tokens(CREDENTIALS, str(server.make_url("")).rstrip("/"), client, clock)


def run(host: LoginHost, story: Callable[[Tokens, Clock], Awaitable[None]]) -> None:
    """Let a story happen with a login host."""

    async def told() -> None:
        clock = Clock()
        async with buying(host, clock) as tokens:
            await story(tokens, clock)

    asyncio.run(told())


@pytest.mark.parametrize(("life", "renewed_at"), [(300.0, 240.0), (1500.0, 1200.0), (86_400.0, 86_100.0)])
def test_a_token_is_renewed_a_fifth_or_five_minutes_early(life: float, renewed_at: float) -> None:
    """Whichever is later; it is good to its end."""
    token = Token.lasting("t", life, 1000.0)
    assert (True, False) == (token.fresh(999.0 + renewed_at), token.fresh(1000.0 + renewed_at))
    assert (True, False) == (token.good(999.0 + life), token.good(1000.0 + life))


@given(st.floats(1, 172_800), st.floats(0, 1e9), st.floats(0, 2e5))
def test_a_fresh_token_is_good(life: float, start: float, later: float) -> None:
    """There is no moment at which a token needn't be renewed and can't be used."""
    token = Token.lasting("t", life, start)
    assert token.good(start + later) or not token.fresh(start + later)


def test_the_request_is_a_form_with_basic_credentials() -> None:
    """As RFC 6749, section 4.4.2 has it."""
    host = LoginHost()

    async def story(tokens: Tokens, _: Clock) -> None:
        assert f"{TOKEN}1" == await tokens.value()

    run(host, story)
    basic = "Basic " + base64.b64encode(f"{CLIENT_ID}:{SECRET}".encode()).decode()
    assert [("/oauth/token", basic, "grant_type=client_credentials")] == host.seen


def test_one_request_serves_all_who_wait() -> None:
    """Twenty at once, and one more later."""
    host = LoginHost()

    async def story(tokens: Tokens, clock: Clock) -> None:
        assert {f"{TOKEN}1"} == set(await asyncio.gather(*(tokens.value() for _ in range(20))))
        clock.now = 799.0
        assert f"{TOKEN}1" == await tokens.value()

    run(host, story)
    assert len(host.seen) == 1


def test_it_is_renewed_before_it_ends() -> None:
    """At four fifths of a short life."""
    host = LoginHost()

    async def story(tokens: Tokens, clock: Clock) -> None:
        await tokens.value()
        clock.now = 800.0
        assert f"{TOKEN}2" == await tokens.value()

    run(host, story)


def test_a_failed_renewal_leaves_the_old_one_while_it_is_good() -> None:
    """And isn't tried again at each request."""
    host = LoginHost()

    async def story(tokens: Tokens, clock: Clock) -> None:
        await tokens.value()
        host.status, host.body = 503, {"error": "temporarily_unavailable"}
        for clock.now in (800.0, 810.0, 829.0, 830.0, 999.0):
            assert f"{TOKEN}1" == await tokens.value()
        clock.now = 1000.0
        with pytest.raises(UpstreamError):
            await tokens.value()
        host.status, host.body = 200, None
        assert f"{TOKEN}6" == await tokens.value()

    run(host, story)
    assert len(host.seen) == 6


def test_a_failure_is_that_of_all_who_wait() -> None:
    """A login host that answers slowly, or not at all, isn't waited for by one after the other."""
    host = LoginHost(status=503, body={})

    async def story(tokens: Tokens, _: Clock) -> None:
        failures = await asyncio.gather(*(tokens.value() for _ in range(20)), return_exceptions=True)
        assert {503} == {one.status_code for one in failures if isinstance(one, UpstreamError)}
        assert 20 == len({id(one) for one in failures})
        host.status, host.body = 200, None
        assert f"{TOKEN}2" == await tokens.value()

    run(host, story)


@pytest.mark.parametrize(
    ("status", "headers", "again_after"),
    [(429, {"Retry-After": "240"}, 240.0), (429, {}, 60.0), (503, {"Retry-After": "30"}, 30.0)],
)
def test_a_login_host_that_asks_for_a_rest_has_it(status: int, headers: dict[str, str], again_after: float) -> None:
    """Meanwhile all are told what it had said."""
    host = LoginHost(status=status, body={"error": "rate.limited"}, headers=headers)

    async def story(tokens: Tokens, clock: Clock) -> None:
        for clock.now in (0.0, 1.0, again_after - 0.1):
            with pytest.raises(UpstreamError, match=r"rate\.limited") as caught:
                await tokens.value()
            assert status == caught.value.status_code
        assert 1 == len(host.seen)
        host.status, host.body, clock.now = 200, None, again_after
        assert f"{TOKEN}2" == await tokens.value()

    run(host, story)


@pytest.mark.parametrize("is_sold", [True, False])
def test_tokens_that_are_no_good_are_not_bought_without_end(*, is_sold: bool) -> None:
    """Five at once, then one in ten seconds, whether it isn't sold or the API refuses each one."""
    host = LoginHost(status=200 if is_sold else 401, body=None if is_sold else {"error": "invalid_client"})

    async def story(tokens: Tokens, clock: Clock) -> None:
        for clock.now in (moment / 10 for moment in range(600)):
            with suppress(UpstreamError):
                tokens.refused(await tokens.value())
        with pytest.raises(UpstreamError, match="refused as soon as" if is_sold else "status 401: invalid_client"):
            await tokens.value()

    run(host, story)
    assert 10 == len(host.seen)


def test_a_good_token_outlasts_a_rest_that_is_asked_for() -> None:
    """It was due for renewal, and no more."""
    host = LoginHost()

    async def story(tokens: Tokens, clock: Clock) -> None:
        await tokens.value()
        host.status, host.body, host.headers = 429, {}, {"Retry-After": "150"}
        for clock.now in (800.0, 831.0, 900.0, 949.0):
            assert f"{TOKEN}1" == await tokens.value()
        assert 2 == len(host.seen)

    run(host, story)


def test_a_refused_token_is_forgotten_once() -> None:
    """Whoever is late with the news of the old one doesn't cost the new one."""
    host = LoginHost()

    async def story(tokens: Tokens, _: Clock) -> None:
        old = await tokens.value()
        tokens.refused(old)
        new = await tokens.value()
        tokens.refused(old)
        assert f"{TOKEN}2" == new == await tokens.value()

    run(host, story)
    assert len(host.seen) == 2


def test_a_token_that_is_refused_during_its_renewal_is_not_fallen_back_on() -> None:
    """It would be good by its life, but the API says otherwise."""
    host = LoginHost()

    async def story(tokens: Tokens, clock: Clock) -> None:
        old = await tokens.value()
        clock.now, host.status, host.body = 800.0, 503, {}
        host.meanwhile = lambda: tokens.refused(old)
        with pytest.raises(UpstreamError):
            await tokens.value()

    run(host, story)


def test_a_token_that_was_never_bought_can_be_refused() -> None:
    """It has no effect."""

    async def story(tokens: Tokens, _: Clock) -> None:
        tokens.refused("another")
        assert f"{TOKEN}1" == await tokens.value()

    run(LoginHost(), story)


@pytest.mark.parametrize(
    ("life", "good_until"),
    [(600, 600.0), (None, 300.0), ("600", 300.0), (-1, 300.0), (10**400, 172_800.0)],
)
def test_a_life_that_is_not_told_is_the_shortest(life: object, good_until: float) -> None:
    """And none is longer than the API's longest."""
    host = LoginHost(life=life)

    async def story(tokens: Tokens, clock: Clock) -> None:
        await tokens.value()
        host.status, host.body = 500, {}
        clock.now = good_until - 1
        assert f"{TOKEN}1" == await tokens.value()
        clock.now = good_until
        with pytest.raises(UpstreamError):
            await tokens.value()

    run(host, story)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (LoginHost(400, {"error": "invalid_client", "description": SECRET}), (400, "invalid_client")),
        (LoginHost(401, {"code": "bad.credentials", "message": CLIENT_ID}), (401, "bad.credentials")),
        (LoginHost(400, {"error": f"no such client: {CLIENT_ID}"}), (400, "Bad Request")),
        (LoginHost(500, [1]), (500, "Internal Server Error")),
        (LoginHost(599, text="<html>"), (599, "unknown status")),
        (LoginHost(307, text=""), (307, "Temporary Redirect")),
        (LoginHost(200, text="<html>"), (200, "unreadable answer")),
        (LoginHost(200, text="[" * 100_000), (200, "unreadable answer")),
        (LoginHost(200, ["token"]), (200, "unreadable answer")),
        (LoginHost(200, {}), (200, "no token in the answer")),
        (LoginHost(200, {"access_token": "two\nlines"}), (200, "no token in the answer")),
        (LoginHost(200, {"access_token": ""}), (200, "no token in the answer")),
    ],
)
def test_an_error_says_the_status_and_the_code_only(host: LoginHost, expected: tuple[int, str]) -> None:
    """Whatever else the answer says may say too much; and a redirect isn't followed."""

    async def story(tokens: Tokens, _: Clock) -> None:
        with pytest.raises(UpstreamError) as caught:
            await tokens.value()
        assert expected == (caught.value.status_code, caught.value.reason)

    run(host, story)
    assert len(host.seen) == 1


def test_no_answer_is_an_error_without_a_status() -> None:
    """A port that nobody listens on."""

    async def story() -> None:
        async with httpx.AsyncClient(trust_env=False) as client:
            with pytest.raises(UpstreamError) as caught:
                await Tokens(CREDENTIALS, "http://127.0.0.1:1", client).value()
        assert (None, "ConnectError") == (caught.value.status_code, caught.value.reason)
        assert caught.value.__context__ is None

    asyncio.run(story())


def test_an_answer_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The deadline is for the whole exchange: an answer that drips resets httpx's own timeouts for ever."""
    monkeypatch.setattr("call_initiation.api.tokens.DEADLINE", 0.05)

    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" ")
            await asyncio.sleep(0.01)

    async def story() -> None:
        app = web.Application()
        app.router.add_get("/", drip)
        async with TestServer(app) as server, httpx.AsyncClient(trust_env=False) as client:
            request = client.build_request("GET", str(server.make_url("/")))
            with pytest.raises(UpstreamError) as caught:
                await exchange("GET /", client, request)
        assert (None, "TimeoutError") == (caught.value.status_code, caught.value.reason)

    asyncio.run(story())


def test_nothing_shows_a_secret(caplog: pytest.LogCaptureFixture) -> None:
    """No `repr`, text, traceback or log at DEBUG, of a success or of a failure."""
    caplog.set_level(logging.DEBUG)
    shown: list[str] = []

    async def story(tokens: Tokens, clock: Clock) -> None:
        await tokens.value()
        host.status, host.body = 400, {"error": "invalid_client", "error_description": f"{CLIENT_ID}:{SECRET}"}
        clock.now = 1000.0
        try:
            await tokens.value()
        except UpstreamError as error:
            shown.extend([traceback.format_exc(), repr(error), str(error), repr(error.__context__)])
        token = Token.lasting(TOKEN, 1.0, 0.0)
        shown.extend([repr(tokens), str(tokens), repr(CREDENTIALS), str(CREDENTIALS), repr(token), str(token)])

    host = LoginHost()
    run(host, story)
    text = "\n".join([*shown, caplog.text])
    assert len(shown) == 10
    assert "POST /oauth/token failed with status 400: invalid_client" in text
    basic = base64.b64encode(f"{CLIENT_ID}:{SECRET}".encode()).decode()
    assert [] == [secret for secret in (CLIENT_ID, SECRET, TOKEN, basic) if secret in text]


def found(environ: dict[str, str], client_id: str | None = None, client_secret: str | None = None) -> tuple[str, str]:
    """Return what `Credentials.find` finds."""
    credentials = Credentials.find(client_id, client_secret, environ=environ)
    return credentials.client_id, credentials.client_secret


def test_credentials_come_from_the_argument_the_environment_or_a_file(tmp_path: Path) -> None:
    """In this order, each on its own."""
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\n", encoding="utf-8")
    environ = {"GENESYS_CLIENT_ID": "from-environment", "GENESYS_CLIENT_SECRET_FILE": str(file)}
    assert ("from-environment", SECRET) == found(environ)
    assert ("from-argument", SECRET) == found(environ, "from-argument")
    assert ("from-environment", "argument") == found(environ, client_secret="argument")


def test_credentials_that_are_nowhere_are_named() -> None:
    """With what would be taken instead."""
    with pytest.raises(SettingsError) as caught:
        found({"GENESYS_CLIENT_ID": ""}, client_secret=SECRET)
    assert (
        str(caught.value)
        == "GENESYS_CLIENT_ID: found nothing, expected a value, or a file's path in GENESYS_CLIENT_ID_FILE"
    )


@pytest.mark.parametrize(
    ("content", "fault"), [(None, "no such file or directory"), (b" \n", "empty"), (b"\xff", "not UTF-8")]
)
def test_a_secret_file_that_cannot_be_used_is_named(tmp_path: Path, content: bytes | None, fault: str) -> None:
    """Without what it holds."""
    file = tmp_path / "secret"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        found({"GENESYS_CLIENT_SECRET_FILE": str(file)}, "id")
    assert ("GENESYS_CLIENT_SECRET_FILE", f"{str(file)!r} ({fault})") == (caught.value.key, caught.value.found)
    assert caught.value.__context__ is None
