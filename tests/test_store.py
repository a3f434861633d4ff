"""One process among those who share a store: it reads, it leads when nobody does, and nothing ends it but the end."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from time import time

import pytest

from call_initiation import Exporter, SettingsError
from call_initiation.events import FeedChange, FeedState
from call_initiation.feed import Access, Door, Port
from call_initiation.keyspace import Keyspace
from call_initiation.recorder import Forgotten, Told
from call_initiation.store import RHYTHM, Member, Rhythm, _name
from call_initiation.tokens import Credentials
from stores import RedisServer, until

QUICK = Rhythm(lease=0.5, pulse=0.05, silence=0.3)


@pytest.fixture
def redis(engine: Callable[[str], Path], tmp_path: Path) -> Iterator[RedisServer]:
    """Return a running redis-server."""
    with closing(RedisServer(engine("redis-server"), tmp_path)) as server:
        yield server


class Process:
    """A member whose feed does what a test says."""

    def __init__(self, url: str, feed: Callable[[Port, Door], Awaitable[None]], rhythm: Rhythm = QUICK) -> None:
        self.told: list[Told] = []
        self.faults: list[str] = []
        port = Port(time, self._tell, self.faults.append)
        self.member = Member(Keyspace(url, "test", rhythm.silence), port, feed, rhythm)
        self._running = asyncio.create_task(self.member.run())

    def _tell(self, told: Told) -> bool:
        self.told.append(told)
        return True

    @property
    def states(self) -> list[tuple[str, str]]:
        """How the feed was, and why."""
        return [(one.state.value, one.reason) for one in self.told if isinstance(one, FeedChange)]

    @property
    def is_up(self) -> bool:
        """Whether the feed is up."""
        return self.states[-1:] != [] and self.states[-1][0] == "up"

    async def leave(self) -> None:
        """End."""
        self._running.cancel()
        with suppress(asyncio.CancelledError):
            await self._running


async def well(port: Port, _: Door) -> None:
    """Be up, and stay so."""
    port.tell(FeedChange(state=FeedState.UP, at=port.now()))
    await asyncio.Event().wait()


def test_silence_is_noticed_before_a_call_settles() -> None:
    """So no call is recorded as known by what a dead leader said."""
    assert RHYTHM.silence < 2.0
    assert RHYTHM.silence <= 10 >= RHYTHM.lease


def test_a_feed_that_fails_is_begun_again(redis: RedisServer) -> None:
    """And counted as a fault of ours."""

    async def told() -> None:
        failures = [ValueError(), ValueError()]

        async def feed(port: Port, door: Door) -> None:
            if failures:
                raise failures.pop()
            await well(port, door)

        process = Process(redis.url, feed)
        await until(lambda: process.is_up)
        assert ["feed", "feed"] == process.faults
        await process.leave()

    asyncio.run(told())


def test_what_cannot_be_read_is_doubted_until_it_can(redis: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    """Such as the words of another version."""

    async def told() -> None:
        process = Process(redis.url, well)
        await until(lambda: process.is_up)
        redis.client.xadd("call-initiation:{test}:words", {"what": "is this"})
        await until(lambda: not process.is_up)
        await until(lambda: process.is_up)
        assert ("down", "store_incomplete") in process.states
        assert "what is this" not in caplog.text
        await process.leave()

    asyncio.run(told())


def test_a_store_may_come_later(redis: RedisServer) -> None:
    """A dialer may be started first."""

    async def told() -> None:
        redis.kill()
        process = Process(redis.url, well)
        await until(lambda: len(process.states) > 0)
        await asyncio.to_thread(redis.start)
        await until(lambda: process.is_up)
        await process.leave()
        assert ("down", "store_lost") == process.states[-1]

    asyncio.run(told())


def test_a_lease_that_is_taken_away_ends_the_feed(redis: RedisServer) -> None:
    """And this process reads on, whoever leads."""

    async def told() -> None:
        ends: list[str] = []

        async def feed(port: Port, door: Door) -> None:
            try:
                await well(port, door)
            finally:
                ends.append("ended")

        process = Process(redis.url, feed)
        await until(lambda: process.is_up)
        redis.client.set("call-initiation:{test}:leader", "somebody else", px=300)
        await until(lambda: ends == ["ended"])
        await until(lambda: not process.is_up)
        await until(lambda: process.is_up)
        assert "somebody else" != redis.client.get("call-initiation:{test}:leader")
        await process.leave()

    asyncio.run(told())


def test_who_is_wanted_is_asked_for_until_something_is_said_of_them(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of each new leader anew; when there are too many to remember, from the beginning."""
    monkeypatch.setattr("call_initiation.store._WANTED", 2)

    async def told() -> None:
        seen: list[str] = []

        async def feed(port: Port, door: Door) -> None:
            port.tell(FeedChange(state=FeedState.UP, at=port.now()))
            while True:
                _, ids = await door.knocked()
                seen.extend(ids)
                for agent_id in ids:
                    port.tell(Forgotten(agent_id))

        process = Process(redis.url, feed)
        await process.member.want(["a", "b"])
        await until(lambda: {"a", "b"} == set(seen))
        await until(lambda: Forgotten("a") in process.told)
        await process.member.want(["b", "c"])
        await until(lambda: "c" in seen)
        seen.clear()
        redis.client.delete("call-initiation:{test}:leader")
        await until(lambda: "c" in seen)
        await process.leave()

    asyncio.run(told())


def test_each_client_has_keys_of_its_own() -> None:
    """It may see other agents; its id is not among them."""
    urls = ("https://api.example.com", "https://login.example.com")
    one, other = (_name(Access(*urls, Credentials(name, "secret"))) for name in ("client-1", "client-2"))
    assert one != other
    assert "client" not in one


@pytest.mark.parametrize("url", ["http://example.com", "", "memcached://127.0.0.1:11211"])
def test_an_exporter_refuses_other_stores(url: str) -> None:
    """Before anything is started."""
    with Exporter() as exporter, pytest.raises(SettingsError, match=r"^store: found no URL"):
        exporter.follow_agents(region="mypurecloud.ie", as_seen=True, client_id="id", client_secret="secret", store=url)
