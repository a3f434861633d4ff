"""The store's five keys: one leads, only the latest can speak, and whatever fails is an `OSError`."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, nullcontext, suppress
from pathlib import Path

import pytest

from call_initiation.errors import SettingsError
from call_initiation.sharing import keyspace
from call_initiation.sharing.keyspace import Keyspace, require_redis
from stores import RedisServer, until

ENTRY = {"e": "1", "n": "1", "t": "1.0", "o": "0.0", "w": "[]"}
NEXT = ENTRY | {"n": "2"}
GROWING = Path(__file__).parents[1] / "docs" / "growing.md"

Story = Callable[[Keyspace], Awaitable[None]]


@pytest.fixture
def redis(engine: Callable[[str], Path], tmp_path: Path) -> Iterator[RedisServer]:
    """Return a running redis-server."""
    with closing(RedisServer(engine("redis-server"), tmp_path)) as server:
        yield server


def tell(redis: RedisServer, story: Story) -> None:
    """Let a story happen to the keys."""

    async def told() -> None:
        keys = Keyspace(redis.url, "test", 0.5)
        try:
            await story(keys)
        finally:
            await keys.close()

    asyncio.run(told())


def gone(redis: RedisServer, key: str) -> None:
    """Wait until a key has ended its life."""
    while redis.client.exists(f"call-initiation:{{test}}:{key}"):
        pass


def test_one_leads_until_its_lease_is_over(redis: RedisServer) -> None:
    """Who stands again while it leads gets a new epoch; each is greater than all before."""

    async def story(keys: Keyspace) -> None:
        first = await keys.elect("a", 60.0)
        assert 0 < first
        assert 0 == await keys.elect("b", 60.0)
        again = await keys.elect("a", 60.0)
        assert first < again
        assert not await keys.renew("b", 60.0)
        assert await keys.renew("a", 0.02)
        await asyncio.to_thread(gone, redis, "leader")
        second = await keys.elect("b", 60.0)
        assert again < second
        assert not await keys.renew("a", 60.0)
        await keys.resign("a")
        assert 0 == await keys.elect("c", 60.0)
        await keys.resign("b")
        assert second < await keys.elect("c", 60.0)

    tell(redis, story)


@pytest.mark.parametrize("epoch", ["something else", "9" * 30, "9" * 400, "-1e300", "nan", "inf"])
def test_an_epoch_that_is_none_is_passed_over(redis: RedisServer, epoch: str) -> None:
    """Whoever put it there."""

    async def story(keys: Keyspace) -> None:
        redis.client.set("call-initiation:{test}:epoch", epoch)
        assert (0, "0-0", None) == await keys.latest()
        new = await keys.elect("a", 60.0)
        assert 0 < new < 2**53
        assert (new, "0-0", None) == await keys.latest()

    tell(redis, story)


def test_epochs_grow_though_the_store_lost_all(redis: RedisServer) -> None:
    """They aren't less than its clock."""

    async def story(keys: Keyspace) -> None:
        before = await keys.elect("a", 60.0)
        redis.client.flushall()
        assert before < await keys.elect("b", 60.0)

    tell(redis, story)


def test_only_the_latest_leader_can_speak(redis: RedisServer) -> None:
    """What a deposed one says changes nothing, and it takes nobody's wishes."""

    async def story(keys: Keyspace) -> None:
        deposed = await keys.elect("a", 60.0)
        assert [] == await keys.say(deposed, ENTRY, {"x": "old"})
        await keys.resign("a")
        epoch = await keys.elect("b", 60.0)
        await keys.ask(["y"])
        before = redis.contents()
        assert None is await keys.say(deposed, ENTRY, {"x": "late"})
        assert before == redis.contents()
        assert ["y"] == await keys.say(epoch, ENTRY, {"x": "new", "z": "new"})
        assert [] == await keys.say(epoch, NEXT, {"z": ""})
        assert (0, ["new"]) == await keys.summaries(0)

    tell(redis, story)


def test_what_is_said_twice_counts_once(redis: RedisServer) -> None:
    """But what is wanted meanwhile is taken."""

    async def story(keys: Keyspace) -> None:
        epoch = await keys.elect("a", 60.0)
        assert [] == await keys.say(epoch, ENTRY, {"x": "new"})
        await keys.ask(["y"])
        assert ["y"] == await keys.say(epoch, ENTRY, {"x": "new"})
        assert [ENTRY] == [fields for _, fields in await keys.after("0-0", 0.0)]

    tell(redis, story)


def test_nobody_speaks_on_where_entries_were_lost(redis: RedisServer) -> None:
    """As by a failover to a replica that lags, or where the store begins again with what it had on disk."""

    async def story(keys: Keyspace) -> None:
        epoch = await keys.elect("a", 60.0)
        await keys.say(epoch, ENTRY, {"x": "old"})
        redis.client.save()
        await keys.say(epoch, NEXT, {"x": "new"})
        redis.kill()
        await asyncio.to_thread(redis.start)
        assert (0, ["old"]) == await keys.summaries(0)
        assert None is await keys.say(epoch, ENTRY | {"n": "3"}, {})
        assert [] == await keys.say(epoch, NEXT, {"x": "new"})
        redis.client.delete("call-initiation:{test}:states")
        assert None is await keys.say(epoch, ENTRY | {"n": "3"}, {})

    tell(redis, story)


def test_nothing_is_kept_for_ever(redis: RedisServer) -> None:
    """Whoever was the last one there."""

    async def story(keys: Keyspace) -> None:
        await keys.ask(["x"])
        epoch = await keys.elect("a", 60.0)
        assert all(0 < redis.client.ttl(key) <= 86_400 for key in redis.client.scan_iter())
        redis.client.pexpire("call-initiation:{test}:epoch", 60_000)
        await keys.say(epoch, ENTRY, {"x": "new"})
        await keys.ask(["x"])
        lives = {key.rpartition(":")[2]: redis.client.ttl(key) for key in redis.client.scan_iter()}
        assert 60 >= lives.pop("leader")
        assert {"epoch", "words", "states", "asked"} == {key for key, life in lives.items() if 86_000 < life}

    tell(redis, story)


def test_a_new_leader_begins_without_summaries(redis: RedisServer) -> None:
    """But the stream goes on."""

    async def story(keys: Keyspace) -> None:
        assert (0, "0-0", None) == await keys.latest()
        first = await keys.elect("a", 60.0)
        await keys.say(first, ENTRY, {"x": "old"})
        second = await keys.elect("a", 60.0)
        assert (0, []) == await keys.summaries(0)
        epoch, position, entry = await keys.latest()
        assert (second, ENTRY) == (epoch, entry)
        assert [] == await keys.after(position, 0.01)
        await keys.say(second, ENTRY, {})
        assert [ENTRY] == [fields for _, fields in await keys.after(position, 0.0)]

    tell(redis, story)


def test_wishes_are_asked_in_handfuls(redis: RedisServer) -> None:
    """And taken once."""

    async def story(keys: Keyspace) -> None:
        epoch = await keys.elect("a", 60.0)
        await keys.ask([str(number) for number in range(700)])
        taken = [await keys.say(epoch, ENTRY, {}) or [] for _ in range(3)]
        assert [500, 200, 0] == [len(ids) for ids in taken]

    tell(redis, story)


def test_what_fails_is_an_os_error(redis: RedisServer) -> None:
    """A server that is gone, hangs, or holds something else under our name."""

    async def story(keys: Keyspace) -> None:
        assert 0 < await keys.time()
        with redis.paused(), pytest.raises(OSError, match="doesn't answer in time"):
            await keys.time()
        redis.client.set("call-initiation:{test}:words", "something else")
        with pytest.raises(OSError, match="WRONGTYPE"):
            await keys.after("0-0", 0.0)
        redis.kill()
        with pytest.raises(OSError, match="can't be reached"):
            await keys.time()

    tell(redis, story)


NEEDED = "+eval +time +get +set +del +pexpire +hset +hget +hdel +hscan +xadd +xread +xrevrange +sadd +spop +select"


@pytest.mark.parametrize("without", ["", *NEEDED.replace("+select", "").split()])
def test_an_acl_that_grants_what_is_documented_suffices(redis: RedisServer, without: str) -> None:
    """And each part of it is needed; who lacks one is told so."""
    acl = next(line for line in map(str.strip, GROWING.read_text().splitlines()) if line.startswith("ACL SETUSER "))
    assert f"ACL SETUSER call-initiation on >PASSWORD ~call-initiation:* {NEEDED}" == acl
    granted = [rule for rule in acl.split()[3:] if rule != without]
    redis.client.execute_command("ACL", "SETUSER", "call-initiation", *granted)

    async def use(keys: Keyspace) -> None:
        await keys.time()
        epoch = await keys.elect("a", 60.0)
        assert await keys.renew("a", 60.0)
        await keys.ask(["y"])
        assert ["y"] == await keys.say(epoch, ENTRY, {"x": "new"})
        assert [] == await keys.say(epoch, NEXT, {"x": ""})
        assert (epoch, NEXT) == (await keys.latest())[::2]
        assert 2 == len(await keys.after("0-0", 0.0))
        assert (0, []) == await keys.summaries(0)
        await keys.resign("a")

    async def told() -> None:
        url = redis.url.replace("//", "//call-initiation:PASSWORD@").replace("/0", "/1")
        keys = Keyspace(url, "test", 5.0)
        try:
            with pytest.raises(OSError, match="its ACL refuses a command") if without else nullcontext():
                await use(keys)
        finally:
            await keys.close()

    asyncio.run(told())


def test_other_refusals_are_named_by_their_code(redis: RedisServer) -> None:
    """Or by what the client calls them."""

    async def story(keys: Keyspace) -> None:
        redis.client.config_set("min-replicas-to-write", 1)
        with pytest.raises(OSError, match=r"^it refuses a command \(NOREPLICAS\)$"):
            await keys.elect("a", 60.0)

    tell(redis, story)
    redis.url = redis.url.replace("/0", "/99")

    async def another(keys: Keyspace) -> None:
        with pytest.raises(OSError, match=r"^it refuses a command \(ResponseError\)$"):
            await keys.time()

    tell(redis, another)


def test_what_failed_is_tried_again_with_other_connections(redis: RedisServer) -> None:
    """A server that was demoted keeps those that there are, while its name leads elsewhere by now."""

    def connected() -> set[str]:
        return {one["id"] for one in redis.client.client_list() if one["id"] != str(redis.client.client_id())}

    async def story(keys: Keyspace) -> None:
        reading = asyncio.create_task(keys.after("0-0", 0.4))
        await keys.elect("a", 60.0)
        await until(lambda: len(connected()) == 2)
        before = connected()
        redis.client.replicaof("127.0.0.1", "1")
        with pytest.raises(OSError, match="it is a replica"):
            await keys.elect("a", 60.0)
        with suppress(OSError):  # it may be told of the demotion
            await reading
        redis.client.replicaof("NO", "ONE")
        await keys.elect("a", 60.0)
        assert not before & connected()

    tell(redis, story)


def test_a_cancellation_is_never_swallowed(redis: RedisServer) -> None:
    """Whenever it comes: the client waits by what may do so."""

    async def ask_for_ever(keys: Keyspace) -> None:
        while True:
            await keys.time()

    async def story(keys: Keyspace) -> None:
        for turns in range(60):
            asking = asyncio.create_task(ask_for_ever(keys))
            for _ in range(turns):
                await asyncio.sleep(0)
            asking.cancel()
            async with asyncio.timeout(5):
                with pytest.raises(asyncio.CancelledError):
                    await asking

    tell(redis, story)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://example.com",
        "redis://",
        "redis://[",
        "redis:/secret",
        "localhost:6379",
        "redis://user:secr/et@example.com:6379",
        "redis://example.com:65536",
        "redis://example.com:0",
        "redis://example.com/states",
    ],
)
def test_other_urls_are_refused(url: str) -> None:
    """And not quoted, for they may hold a password."""
    with pytest.raises(SettingsError) as caught:
        require_redis(url)
    sentence = "store: found no URL of Redis or Valkey, expected redis://host:port/number, or rediss:// for TLS"
    assert sentence == str(caught.value)


@pytest.mark.parametrize("option", ["secret=1", "socket_timeout=60", "max_connections=few", "protocol=3"])
def test_other_options_are_refused(option: str) -> None:
    """Those that the client doesn't have or can't read, and those that are ours to choose."""
    require_redis("rediss://example.com:6380?ssl_ca_certs=/etc/ca.pem&max_connections=20&db=1")
    with pytest.raises(SettingsError) as caught:
        require_redis(f"redis://:password@example.com:6379/0?{option}")
    sentence = "store: found options that can't be used in its URL, expected those of the redis client"
    assert sentence == str(caught.value)


def test_a_client_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence says where it comes from."""
    require_redis("rediss://:password@example.com:6380/1")
    monkeypatch.setattr(keyspace, "find_spec", lambda _: None)
    with pytest.raises(SettingsError) as caught:
        require_redis("redis://example.com")
    assert "store: found no redis client, expected pip install 'call-initiation-exporter[service]'" == str(caught.value)
