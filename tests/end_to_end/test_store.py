"""Exporters that share a store: one follows, all know; whatever dies, nothing that is called known is wrong."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path

import pytest

from stores import Party, RedisServer, parties, until

ENOUGH = 500
"""How many lookups of known states make a sample."""

Story = Callable[[list[Party]], Awaitable[None]]


@pytest.fixture
def redis(engine: Callable[[str], Path], tmp_path: Path) -> Iterator[RedisServer]:
    """Return a running redis-server."""
    server = RedisServer(engine("redis-server"), tmp_path)
    try:
        yield server
    finally:
        server.close()


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
