"""What a leader says: in order, once, and nothing that concerns its own process alone."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from time import time

import pytest

from call_initiation.events import FeedChange, FeedState, NotificationTaken, Presence, SkewChange
from call_initiation.feed.feed import Port
from call_initiation.recording.updates import Forgotten, LegLost, Reading, StateUpdate, Suspension, Told
from call_initiation.sharing.hearing import FEED, CommonClock, Entry
from call_initiation.sharing.keyspace import Fields, Keyspace
from call_initiation.sharing.speaker import Deposed, Speaker
from call_initiation.sharing.words import meant
from stores import RedisServer, state

BUSY = state(Presence.BUSY)


@pytest.fixture
def redis(engine: Callable[[str], Path], tmp_path: Path) -> Iterator[RedisServer]:
    """Return a running redis-server."""
    with closing(RedisServer(engine("redis-server"), tmp_path)) as server:
        yield server


@dataclass
class Stage:
    """A speaker, what its own recorder is told, and who others want followed."""

    speaker: Speaker
    keys: Keyspace
    epoch: int
    own: list[Told]
    seen: list[str]

    async def entries(self, count: int) -> list[Entry]:
        """Return so many entries."""
        found = list[Entry]()
        while len(found) < count:
            found = [Entry.of(fields) for _, fields in await self.keys.after("0-0", 1.0)]
        return found


def tell(redis: RedisServer, story: Callable[[Stage], Awaitable[None]]) -> None:
    """Let a story happen while a leader speaks."""

    async def told() -> None:
        keys, own, seen = Keyspace(redis.url, "test", 0.3), list[Told](), list[str]()
        clock = CommonClock()
        clock.observe(time(), time(), time())
        epoch = await keys.elect("a", 60.0)
        port = Port(time, lambda one: own.append(one) is None, pytest.fail)
        stage = Stage(Speaker(keys, epoch, clock, port, 0.05), keys, epoch, own, seen)
        speaking = asyncio.create_task(stage.speaker.run(seen.append))
        try:
            await story(stage)
        finally:
            speaking.cancel()
            with suppress(asyncio.CancelledError, Deposed):
                await speaking
            await keys.close()

    asyncio.run(told())


def test_words_are_said_in_order_and_silence_too(redis: RedisServer) -> None:
    """Each entry has its number."""
    told = [
        FeedChange(state=FeedState.UP, at=1.0),
        Reading("a", ((1.0, BUSY),), 2.0, lasts=True),
        StateUpdate("b", BUSY, 3.0),
        Suspension(4.0, ("a",)),
        Forgotten("b"),
    ]

    async def story(stage: Stage) -> None:
        assert all(stage.speaker.tell(one) for one in told)
        entries = await stage.entries(3)
        assert told == [meant(word, 0.0) for entry in entries for word in entry.words]
        assert [1, 2, 3] == [entry.number for entry in entries][:3]
        assert {"", FEED, "a"} == set(redis.client.hgetall("call-initiation:{test}:states"))

    tell(redis, story)


def test_what_concerns_its_own_process_is_told_there(redis: RedisServer) -> None:
    """Or else each process would count it."""
    own = [NotificationTaken(topic="presence"), SkewChange(seconds=1.0), LegLost("a", "error", 1.0)]

    async def story(stage: Stage) -> None:
        assert all(stage.speaker.tell(one) for one in own)
        assert [] == [word for entry in await stage.entries(2) for word in entry.words]
        assert own == stage.own

    tell(redis, story)


def test_whom_others_want_is_followed(redis: RedisServer) -> None:
    """If it can be."""

    async def story(stage: Stage) -> None:
        await stage.keys.ask(["a-1", "no id"])
        await stage.entries(3)
        assert ["a-1"] == stage.seen

    tell(redis, story)


def test_what_waits_is_bounded_and_a_doubt_is_always_taken(redis: RedisServer) -> None:
    """While the store hangs; then all of it is said, once."""

    async def story(stage: Stage) -> None:
        with redis.paused():
            while stage.speaker.tell(StateUpdate("a", BUSY, 1.0)):
                pass
            assert stage.speaker.tell(Suspension(1.0))
            await asyncio.sleep(0.5)
        entries = await stage.entries(3)
        numbers = [entry.number for entry in entries]
        words = {entry.number: len(entry.words) for entry in entries}
        assert sorted(numbers) == numbers
        assert 10_001 == sum(words.values())

    tell(redis, story)


def test_a_feed_is_of_use_while_it_is_up_or_tells_of_agents() -> None:
    """What it tells of itself, and that nothing is trusted, is of no use."""
    now = 1000.0
    port = Port(lambda: now, lambda _: True, pytest.fail)
    speaker = Speaker(Keyspace("redis://127.0.0.1:1", "test", 0.3), 1, CommonClock(), port, 0.05)
    told: list[tuple[Told, float]] = [
        (FeedChange(state=FeedState.DOWN, at=1.0), 10.0),
        (Suspension(1.0), 20.0),
        (SkewChange(seconds=1.0), 30.0),
        (Forgotten("a"), 10.0),
        (FeedChange(state=FeedState.UP, at=1.0), 0.0),
        (Suspension(1.0, ("a",)), 0.0),
        (FeedChange(state=FeedState.DOWN, at=1.0), 10.0),
        (StateUpdate("a", BUSY, 1.0), 10.0),
        (FeedChange(state=FeedState.DOWN, at=1.0), 20.0),
        (Reading("a", (), None, lasts=False), 10.0),
    ]
    for one, useless_for in told:
        assert speaker.tell(one)
        now += 10.0
        assert useless_for == speaker.useless_for


def test_who_was_deposed_falls_silent(redis: RedisServer) -> None:
    """By the store's word."""

    async def story(stage: Stage) -> None:
        await stage.keys.elect("a", 60.0)
        with pytest.raises(Deposed):
            await stage.speaker.run(stage.seen.append)

    tell(redis, story)


class Unheard(Keyspace):
    """A store whose first answer is lost."""

    is_lost = True

    async def say(self, epoch: int, entry: Fields, summaries: Mapping[str, str]) -> list[str] | None:
        """Do it, and fail once."""
        answer = await super().say(epoch, entry, summaries)
        if self.is_lost:
            self.is_lost = False
            raise OSError
        return answer


def test_what_may_have_been_said_is_said_again(redis: RedisServer) -> None:
    """Under the same number, so that it counts once."""

    async def story(stage: Stage) -> None:
        stage.speaker._keys = Unheard(redis.url, "test", 0.3)
        stage.speaker.tell(Forgotten("a"))
        entries = await stage.entries(3)
        assert [1, 2, 3] == [entry.number for entry in entries][:3]
        assert [["x", "a"]] == [word for entry in entries for word in entry.words]
        await stage.speaker._keys.close()

    tell(redis, story)
