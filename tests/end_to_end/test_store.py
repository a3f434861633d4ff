"""Exporters that share a store: one follows, all know; whatever dies, nothing that is called known is wrong."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from time import time

import httpx
import pytest

from call_initiation import Exporter
from call_initiation.api.tokens import Credentials
from call_initiation.events import FeedChange, FeedState, Presence, StateLabel
from call_initiation.feed.access import Access
from call_initiation.feed.feed import Door, Port
from call_initiation.feed.follow import Following
from call_initiation.recording.updates import Reading, StateUpdate, Told
from call_initiation.sharing.keyspace import Keyspace
from call_initiation.sharing.store import Member, Rhythm, shared
from call_initiation.simulator.org import CALM, CLIENT_ID, CLIENT_SECRET, Organisation, user_token
from call_initiation.simulator.server import Server, ServerThread
from stores import QUICK, Party, RedisServer, World, parties, state, until
from timeless import living

pytestmark = pytest.mark.untraced

ENOUGH = 500
"""How many lookups of known states make a sample."""

Story = Callable[[list[Party]], Awaitable[None]]


@pytest.fixture
def redis(engine: Callable[[str], Path], tmp_path: Path) -> Iterator[RedisServer]:
    """Return a running redis-server."""
    with closing(RedisServer(engine("redis-server"), tmp_path)) as server:
        yield server


def say(text: str) -> None:
    """Print what was measured; `pytest -s` shows it."""
    print(text)  # noqa: T201 - that is what it is for


def tell(redis: RedisServer, story: Story, aheads: Sequence[float] = (0.0, 0.0, 0.0)) -> list[Party]:
    """Let a story happen once all know all, and return those whom it is about."""

    async def told() -> list[Party]:
        async with parties(redis.url, aheads=aheads) as members:
            await story(members)
            await recovered(members)
            before = [one.joins["known"] for one in members]
            await until(
                lambda: all(one.joins["known"] > old + ENOUGH for one, old in zip(members, before, strict=True))
            )
            say(str([dict(one.joins) for one in members]))
        return members

    return asyncio.run(told())


async def recovered(members: list[Party]) -> None:
    """Wait until all know all."""
    say(f"known again after {await until(lambda: all(one.knows_all for one in members)):.2f} s")


async def noticed(members: list[Party]) -> None:
    """Wait until nobody trusts anything."""
    say(f"noticed after {await until(lambda: not any(one.known() for one in members)):.2f} s")


def test_one_follows_and_all_know(redis: RedisServer) -> None:
    """However far their clocks are apart."""

    async def story(members: list[Party]) -> None:
        await asyncio.sleep(1)
        assert 1 == sum(one.leads for one in members)

    members = tell(redis, story, aheads=(0.0, 3600.0, -7200.5))
    assert 1 == sum(one.reigns for one in members)
    assert all(one.joins["known"] for one in members)


def test_a_leader_that_leaves_is_succeeded(redis: RedisServer) -> None:
    """At once."""

    async def story(members: list[Party]) -> None:
        leader = next(one for one in members if one.leads)
        members.remove(leader)
        await leader.leave()
        assert [] == leader.wrong
        await until(lambda: any(one.leads for one in members))

    tell(redis, story)


def test_a_store_that_dies_and_comes_back_empty(redis: RedisServer) -> None:
    """All is stale meanwhile, and right again afterwards."""

    async def story(members: list[Party]) -> None:
        redis.kill()
        await noticed(members)
        await asyncio.sleep(0.3)
        await asyncio.to_thread(redis.start)

    tell(redis, story)


def test_a_store_that_hangs(redis: RedisServer) -> None:
    """The same, with connections that stay open."""

    async def story(members: list[Party]) -> None:
        with redis.paused():
            await noticed(members)
            await asyncio.sleep(0.5)

    tell(redis, story)


def test_a_store_that_comes_back_as_it_was_before(redis: RedisServer) -> None:
    """From a snapshot, or as a replica that lagged, within the lease: nobody believes what it says of the past."""

    async def told() -> None:
        world = World(20)
        rhythm = replace(QUICK, lease=60.0)
        members = [Party(redis.url, world, rhythm=rhythm) for _ in range(2)]
        await recovered(members)
        redis.client.save()
        for agent in world.agent_ids:
            world.change(agent, Presence.BUSY)
        await until(lambda: all(one.current() == {StateLabel.BUSY} for one in members))
        redis.kill()
        await noticed(members)
        await asyncio.to_thread(redis.start)
        members.append(Party(redis.url, world, rhythm=rhythm))
        await recovered(members)
        await until(lambda: all(one.current() == {StateLabel.BUSY} for one in members))
        for one in members:
            await one.leave()
        assert [[]] * 3 == [one.wrong for one in members]

    asyncio.run(told())


class Counting:
    """A member that counts what it is told; whoever leads tells of many agents."""

    def __init__(self, url: str, ids: list[str], rhythm: Rhythm) -> None:
        self.ids = ids
        self.told = 0
        self.lags: list[float] = []
        self.is_up = False
        self.leading: Port | None = None
        port = Port(time, self.tell, pytest.fail)
        self._task = asyncio.create_task(Member(Keyspace(url, "many", rhythm.silence), port, self.lead, rhythm).run())

    def tell(self, told: Told) -> bool:
        """Count a word."""
        self.told += 1
        if isinstance(told, StateUpdate):
            self.lags.append(time() - told.at)
        if isinstance(told, FeedChange):
            self.is_up = told.state is FeedState.UP
        return True

    async def lead(self, port: Port, _: Door) -> None:
        """Tell of every agent, then wait."""
        self.leading = port
        for start in range(0, len(self.ids), 1_000):
            for agent in self.ids[start : start + 1_000]:
                assert port.tell(Reading(agent, ((time(), state(Presence.BUSY)),), time(), lasts=True))
            await asyncio.sleep(0.05)
        port.tell(FeedChange(state=FeedState.UP, at=time()))
        await asyncio.Event().wait()

    async def leave(self) -> None:
        """End."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task


def test_as_many_agents_as_channels_reach(redis: RedisServer) -> None:
    """A newcomer learns them within seconds, and thousands of words a second reach everyone; `-s` shows how fast."""
    ids = [f"00000000-0000-4000-8000-{number:012}" for number in range(19_000)]

    async def told() -> None:
        rhythm = Rhythm(lease=5.0, pulse=0.5, silence=4.0)
        members = [Counting(redis.url, ids, rhythm) for _ in range(3)]
        say(f"told after {await until(lambda: all(one.is_up for one in members)):.1f} s")
        newcomer = Counting(redis.url, ids, rhythm)
        took = await until(lambda: newcomer.is_up)
        say(f"a newcomer learnt {newcomer.told} summaries in {took:.2f} s")
        assert newcomer.told >= len(ids)
        members.append(newcomer)
        port = next(one.leading for one in members if one.leading is not None)
        began, words = time(), 20_000
        for start in range(0, words, 200):
            for agent in ids[start % 19_000 : start % 19_000 + 200]:
                assert port.tell(StateUpdate(agent, state(Presence.AWAY), time()))
            await asyncio.sleep(0.02)
        await until(lambda: all(len(one.lags) >= words - 1_000 for one in members))
        lags = sorted(members[-1].lags)
        half, most = (lags[len(lags) * share // 100] * 1e3 for share in (50, 99))
        say(f"{words / (time() - began):.0f} words a second to each of {len(members)}, in one process with the leader")
        say(f"lag: half within {half:.0f} ms, 99 % within {most:.0f} ms")
        say(f"redis holds {redis.client.info('memory')['used_memory'] / 1e6:.1f} MB")
        for one in members:
            await one.leave()

    asyncio.run(told())


def test_exporters_of_one_program_share_what_each_sees(redis: RedisServer) -> None:
    """Each learns whose the tokens of its own calls are, and knows the other's agents too."""
    organisation = Organisation(1, 4, started=time(), behaviour=replace(CALM, rate_limit=100_000))
    with ServerThread(Server(organisation)) as server, Exporter(settle=0.0) as one, Exporter(settle=0.0) as other:
        for exporter, agent in zip((one, other), organisation.agent_ids, strict=False):
            credentials = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
            exporter.follow_agents(region=server.url, as_seen=True, store=redis.url, **credentials)
            with exporter.instrument(httpx.Client(base_url=server.url, trust_env=False)) as client:
                headers = {"Authorization": f"Bearer {user_token(agent)}"}
                client.post("/api/v2/conversations/calls", json={"phoneNumber": "+33199000042"}, headers=headers)

        def is_known(exporter: Exporter, agent: str) -> bool:
            exporter.flush()
            return exporter.agents.known(agent)

        both = [(exporter, agent) for exporter in (one, other) for agent in organisation.agent_ids[:2]]
        asyncio.run(until(lambda: all(is_known(*pair) for pair in both)))
        assert not any(is_known(exporter, agent) for exporter in (one, other) for agent in organisation.agent_ids[2:])


def test_a_leader_whose_secret_was_revoked_is_succeeded(redis: RedisServer) -> None:
    """By one that has the new one; then both know what is so."""
    organisation = Organisation(1, 2, started=time(), behaviour=replace(CALM, rate_limit=100_000))
    agent = organisation.agent_ids[0]
    heard: dict[str, list[str]] = {"revoked": [], CLIENT_SECRET: []}

    async def told(url: str) -> None:
        def running(secret: str) -> Coroutine[None, None, None]:
            def tell(told: Told) -> bool:
                heard[secret] += [told.agent_id] if isinstance(told, Reading) else []
                return True

            access = Access(url, url, Credentials(CLIENT_ID, secret))
            rhythm = replace(QUICK, fruitless=10.0)
            return shared(redis.url, rhythm)(access, Following((agent,)), Port(time, tell, pytest.fail), Door())

        leader = "call-initiation:*:leader"
        async with living(running("revoked")):
            await until(lambda: [*redis.client.scan_iter(leader)] != [])
            async with living(running(CLIENT_SECRET)):
                await until(lambda: all(agent in ids for ids in heard.values()))

    with ServerThread(Server(organisation)) as server:
        asyncio.run(told(server.url))


def test_fifty_who_share_have_one_leader(redis: RedisServer) -> None:
    """And cost the store next to nothing; `-s` shows how much."""

    def used() -> tuple[float, int]:
        cpu, stats = redis.client.info("cpu"), redis.client.info("stats")
        return cpu["used_cpu_user"] + cpu["used_cpu_sys"], stats["total_commands_processed"]

    async def told() -> None:
        members = [Counting(redis.url, ["a", "b"], Rhythm()) for _ in range(50)]
        await until(lambda: all(one.is_up for one in members))
        (cpu, commands), began = used(), time()
        await asyncio.sleep(3)
        (more_cpu, more_commands), took = used(), time() - began
        say(f"{(more_commands - commands) / took:.0f} commands a second, {(more_cpu - cpu) / took:.1%} of a core")
        assert 1 == sum(one.leading is not None for one in members)
        assert all(one.is_up for one in members)
        for one in members:
            await one.leave()

    asyncio.run(told())
