"""One process among those who share a store: it reads, it leads when nobody does, and nothing ends it but the end."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import replace
from pathlib import Path
from time import time

import pytest

from call_initiation import Exporter, SettingsError
from call_initiation.api.tokens import Credentials
from call_initiation.events import FeedChange, FeedState, Presence
from call_initiation.feed.access import Access
from call_initiation.feed.feed import Door, Port
from call_initiation.feed.follow import Following
from call_initiation.feed.outage import Outage
from call_initiation.recording.updates import Forgotten, Reading, Told
from call_initiation.sharing.hearing import Entry
from call_initiation.sharing.keyspace import Keyspace
from call_initiation.sharing.store import RHYTHM, Member, Rhythm, _name, shared
from call_initiation.simulator.org import CALM, CLIENT_ID, CLIENT_SECRET, Organisation, user_token
from call_initiation.simulator.server import Server, ServerThread
from leaping import run
from stores import RedisServer, state, until
from timeless import living

QUICK = Rhythm(lease=0.5, pulse=0.05, silence=0.3)
PATIENT = Rhythm(lease=20.0, pulse=0.05, silence=20.0)
"""In which a busy machine deposes nobody."""


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


@asynccontextmanager
async def leading(url: str) -> AsyncGenerator[tuple[Process, list[str]]]:
    """Let a process lead until the end of the block; yield it, and a list that tells of each end of its feed."""
    ends: list[str] = []

    async def feed(port: Port, door: Door) -> None:
        try:
            await well(port, door)
        finally:
            ends.append("ended")

    process = Process(url, feed)
    await until(lambda: process.is_up)
    yield process, ends
    await process.leave()


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
        for what in ({"what": "is this"}, {b"\xff": b"\xff"}):
            process.told.clear()
            redis.client.xadd("call-initiation:{test}:words", what)
            await until(lambda: ("down", "store_incomplete") in process.states)
            await until(lambda: process.is_up)
        assert [] == process.faults
        assert "what is this" not in caplog.text
        await process.leave()

    asyncio.run(told())


HUGE = "9" * 30
EPOCH, WORDS, STATES = (f"call-initiation:{{test}}:{key}" for key in ("epoch", "words", "states"))


def said(redis: RedisServer, **damaged: str) -> None:
    """Say something that no leader says."""
    fields = {"e": redis.client.get(EPOCH), "n": "1000000", "t": repr(time()), "o": "0.0", "w": "[]"}
    redis.client.xadd(WORDS, fields | damaged)


@pytest.mark.parametrize(
    "damage",
    [
        lambda it: it.client.set(EPOCH, HUGE),
        lambda it: said(it, n=HUGE),
        lambda it: said(it, e=HUGE),
        lambda it: said(it, e=str(2**53)),
        said,
        lambda it: said(it, t="nan"),
        lambda it: said(it, t="1e10"),
    ],
)
def test_what_no_leader_says_is_got_over(redis: RedisServer, damage: Callable[[RedisServer], object]) -> None:
    """Numbers without end, moments of another age, an epoch of which there is no leader."""

    async def told() -> None:
        members = [Process(redis.url, well) for _ in range(2)]
        await until(lambda: all(one.is_up for one in members))
        for one in members:
            one.told.clear()
        damage(redis)
        await until(lambda: all("down" in dict(one.states) and one.is_up for one in members))
        since = {one: len(one.told) for one in members}
        redis.client.delete("call-initiation:{test}:leader")
        await until(lambda: all(one.is_up and len(one.told) > since[one] for one in members))
        assert [[]] * 2 == [one.faults for one in members]
        for one in members:
            await one.leave()

    asyncio.run(told())


def test_a_summary_that_cannot_be_read_keeps_no_other_from_being_learnt(redis: RedisServer) -> None:
    """Only its own agent is unknown."""

    async def told() -> None:
        async def feed(port: Port, door: Door) -> None:
            port.tell(Reading("a", ((port.now() - 1.0, state(Presence.BUSY)),), port.now(), lasts=True))
            await well(port, door)

        leader = Process(redis.url, feed, PATIENT)
        await until(lambda: leader.is_up)
        epoch = redis.client.get(EPOCH)
        redis.client.hset(STATES, "b", f'[[{epoch},{HUGE}],["r","b",[],1.0,true]]')
        redis.client.hset(STATES, "c", f'[[{epoch},1],["r","c",[[{HUGE},{{}}]],1.0,true]]')
        newcomer = Process(redis.url, well, PATIENT)
        await until(lambda: newcomer.is_up)
        assert ["a"] == [one.agent_id for one in newcomer.told if isinstance(one, Reading)]
        assert [] == newcomer.faults
        await newcomer.leave()
        await leader.leave()

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


Wrong = Callable[[RedisServer], object]

WRONGS: dict[str, tuple[Wrong, Wrong]] = {
    "it is out of memory": (
        lambda it: it.client.config_set("maxmemory", 1),
        lambda it: it.client.config_set("maxmemory", 0),
    ),
    "it is a replica": (lambda it: it.client.replicaof("127.0.0.1", "1"), lambda it: it.client.replicaof("NO", "ONE")),
    "its ACL refuses a command or a key": (
        lambda it: it.client.acl_setuser("default", enabled=True, commands=["-xadd"]),
        lambda it: it.client.acl_setuser("default", enabled=True, commands=["+xadd"]),
    ),
    "it can't be reached": (RedisServer.kill, RedisServer.start),
}


@pytest.mark.parametrize("why", WRONGS)
def test_a_store_that_fails_is_told_of_once(redis: RedisServer, caplog: pytest.LogCaptureFixture, why: str) -> None:
    """With what it means and what to do; and that it is well again, once."""
    break_it, mend_it = WRONGS[why]

    class Counting(Outage):
        """Counts failures."""

        failures = 0

        def failed(self, why: str) -> None:
            """Count another one."""
            self.failures += 1
            super().failed(why)

    def logged() -> list[str]:
        return [text for text in caplog.messages if "shared store" in text and "whoever leads" not in text]

    async def told() -> None:
        async with leading(redis.url) as (process, _):
            process.member._keys.outage = outage = Counting("the shared store", 10 * QUICK.silence)
            break_it(redis)
            await until(lambda: outage.failures > 5 and not process.is_up)
            assert [why] == [text.rpartition(": ")[2].partition(";")[0] for text in logged()]
            await asyncio.to_thread(mend_it, redis)
            await until(lambda: process.is_up)
            await until(lambda: logged()[1:] == ["the shared store is well again"])

    asyncio.run(told())


def test_who_hears_nothing_of_a_leader_that_cannot_speak_says_so(
    redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """It keeps its lease, so nobody else finds anything wrong with the store."""

    async def told() -> None:
        async with leading(redis.url):
            follower = Process(redis.url, well)
            await until(lambda: follower.is_up)
            redis.client.config_set("maxmemory", 1)
            await until(lambda: "whoever leads says nothing" in caplog.text)
            redis.client.config_set("maxmemory", 0)
            await until(lambda: follower.is_up)
            await follower.leave()

    asyncio.run(told())


def test_a_lease_that_is_taken_away_ends_the_feed(redis: RedisServer) -> None:
    """And this process reads on, whoever leads."""

    async def told() -> None:
        async with leading(redis.url) as (process, ends):
            redis.client.set("call-initiation:{test}:leader", "somebody else", px=300)
            await until(lambda: ends == ["ended"])
            await until(lambda: not process.is_up)
            await until(lambda: process.is_up)
            assert "somebody else" != redis.client.get("call-initiation:{test}:leader")

    asyncio.run(told())


def test_a_leader_that_cannot_renew_its_lease_ends_its_feed(redis: RedisServer) -> None:
    """When the lease is over at the latest: somebody else may lead by then."""

    async def told() -> None:
        async with leading(redis.url) as (_, ends):
            redis.kill()
            await until(lambda: ends == ["ended"])

    asyncio.run(told())


def test_a_leader_that_can_follow_nobody_lets_another_one_lead(
    redis: RedisServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who does better keeps the lead; where nobody else is there, it is tried again."""
    monkeypatch.setattr("call_initiation.sharing.store.BLUR", 0.0)
    rhythm = replace(QUICK, fruitless=0.3)

    async def told() -> None:
        reigns = 0

        async def cut_off(port: Port, _: Door) -> None:
            nonlocal reigns
            reigns += 1
            port.tell(FeedChange(state=FeedState.DOWN, reason="connect_failed", at=port.now()))
            await asyncio.Event().wait()

        first = Process(redis.url, cut_off, rhythm)
        await until(lambda: reigns == 2)
        second = Process(redis.url, well, rhythm)
        await until(lambda: first.is_up and second.is_up)
        seen, since = reigns, time()
        await until(lambda: time() > since + 3 * rhythm.fruitless)
        assert (True, seen) == (first.is_up, reigns)
        await second.leave()
        await until(lambda: reigns > seen)
        await first.leave()

    asyncio.run(told())
    assert "this process lets another one lead: for 0 s it could follow nobody" in caplog.messages


def test_a_successor_waits_until_what_was_said_is_past(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it reads then is newer, whatever the clocks say; where nothing was said it begins at once."""
    monkeypatch.setattr("call_initiation.sharing.store.BLUR", 0.5)

    async def told() -> None:
        heard: list[Told] = []
        port = Port(time, lambda one: heard.append(one) is None, pytest.fail)
        keys = Keyspace(redis.url, "test", QUICK.silence)
        member = Member(keys, port, well, QUICK)
        await member._measure()
        async with living(member._feed(port, Door())):
            await until(lambda: len(heard) == 1)
        said = time()
        redis.client.xadd("call-initiation:{test}:words", Entry(1, 1, said, 0.0, []).fields())
        async with living(member._feed(port, Door())):
            await until(lambda: len(heard) == 2)
        assert said + 0.4 < time()
        await keys.close()

    asyncio.run(told())


def test_a_newcomer_learns_of_more_agents_than_one_answer_holds(redis: RedisServer) -> None:
    """All, before it is up."""
    ids = [f"agent-{number}" for number in range(1_200)]

    async def told() -> None:
        async def feed(port: Port, door: Door) -> None:
            for agent in ids:
                port.tell(Reading(agent, ((port.now() - 1.0, state(Presence.BUSY)),), port.now(), lasts=True))
            await well(port, door)

        leader = Process(redis.url, feed, PATIENT)
        await until(lambda: leader.is_up)
        newcomer = Process(redis.url, well, PATIENT)
        await until(lambda: newcomer.is_up)
        assert set(ids) == {one.agent_id for one in newcomer.told if isinstance(one, Reading)}
        await newcomer.leave()
        await leader.leave()

    asyncio.run(told())


def test_what_lived_long_is_tried_again_soon() -> None:
    """After quick failures the pauses grow; after a long life they begin anew."""

    async def told() -> list[float]:
        loop, enough = asyncio.get_running_loop(), asyncio.Event()
        port = Port(loop.time, pytest.fail, pytest.fail)
        member = Member(Keyspace("redis://127.0.0.1:1", "test", QUICK.silence), port, well, QUICK)
        ends, pauses = [0.0], list[float]()

        async def work() -> None:
            pauses.append(loop.time() - ends[-1])
            if len(pauses) > 100:
                enough.set()
            await asyncio.sleep(0.0 if len(pauses) <= 50 else 3600.0)
            ends.append(loop.time())
            raise OSError

        async with living(member._again(work)):
            await enough.wait()
        return pauses

    pauses = run(told())
    assert QUICK.pulse < max(pauses[:51])
    assert QUICK.pulse >= max(pauses[51:])


@pytest.mark.parametrize("as_seen", [True, False])
def test_whose_the_tokens_of_our_calls_are_is_found_out(redis: RedisServer, *, as_seen: bool) -> None:
    """By each process for its own; whether that user is then followed by the leader is a matter of choice."""
    organisation = Organisation(1, 2, started=time(), behaviour=replace(CALM, rate_limit=100_000))
    agent, other = organisation.agent_ids

    async def told(url: str) -> None:
        readings: list[Told] = []
        port = Port(time, lambda one: readings.append(one) is None, pytest.fail)
        access, door = Access(url, url, Credentials(CLIENT_ID, CLIENT_SECRET)), Door()
        users: list[str] = []
        async with living(shared(redis.url, QUICK)(access, Following((other,), as_seen=as_seen), port, door)):
            door.ask(user_token(agent), users.append)
            await until(lambda: users == [agent])
            followed = {agent, other} if as_seen else {other}
            await until(lambda: followed == {one.agent_id for one in readings if isinstance(one, Reading)})

    with ServerThread(Server(organisation)) as server:
        asyncio.run(told(server.url))


def test_who_is_wanted_is_asked_for_until_something_is_said_of_them(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of each new leader anew; when there are too many to remember, from the beginning."""
    monkeypatch.setattr("call_initiation.sharing.store._WANTED", 2)

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


def test_an_exporter_waits_for_a_store_that_is_not_there() -> None:
    """Nothing is known, and no call is held up."""
    with Exporter() as exporter:
        whom = {"region": "https://127.0.0.1:1", "client_id": "id", "client_secret": "secret"}
        exporter.follow_agents(**whom, as_seen=True, store="redis://127.0.0.1:1")
        asyncio.run(until(lambda: exporter.registry.get_sample_value("call_initiation_feed_up") == 0.0))
