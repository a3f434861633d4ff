"""What lies in the shared store, and the commands for it: Redis's side of `store`, and the only place that knows Redis.

Five keys, with a name that is one for all who follow the same organisation with the same credentials:

    leader   who leads, for as long as its lease lasts         epoch    of the latest leader
    words    a stream of what leaders say, capped              states   a summary for each agent, of the latest leader
    asked    agents whom somebody wants followed, until the leader takes them

Laws: only who leads by the latest epoch can say anything, and what it says changes the stream and the summaries at
once. It can say only what follows the last entry that Redis still has: of one that lost some of them, by a failover, an
old snapshot or an eviction, somebody has to begin anew. An epoch is greater than all before even where Redis lost all
that it held, for it isn't less than its clock; one that no clock will reach for centuries is none. Nothing outlives
`_LIFE` without a leader. Whatever fails is an `OSError`, soon, and the next try is with another connection: by now
another server may have the name.
"""

import asyncio
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib.util import find_spec
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from call_initiation.errors import SettingsError
from call_initiation.feed.outage import Outage

_KEPT: Final = 4_096
"""Entries of the stream; a reader that is farther behind begins anew."""

_LIFE: Final = 86_400_000
"""Milliseconds that the keys outlive the last one who said or wanted something."""

_AT_ONCE: Final = 500

_SAID: Final = ""
"""Where among the summaries the number of the latest entry lies; no agent is called so."""

_ELECT: Final = """
local holder = redis.call('get', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('set', KEYS[1], ARGV[1], 'PX', ARGV[2])
local time = redis.call('time')
local last = tonumber(redis.call('get', KEYS[2]) or 0) or 0
if not (last < 2^53) then last = 0 end
local epoch = math.max(last + 1, time[1] * 1000000 + time[2])
redis.call('set', KEYS[2], string.format('%d', epoch), 'PX', ARGV[3])
redis.call('del', KEYS[3])
redis.call('hset', KEYS[3], ARGV[4], 0)
redis.call('pexpire', KEYS[3], ARGV[3])
return epoch
"""

_RENEW: Final = (
    "if redis.call('get', KEYS[1]) ~= ARGV[1] then return 0 end return redis.call('pexpire', KEYS[1], ARGV[2])"
)

_RESIGN: Final = "if redis.call('get', KEYS[1]) ~= ARGV[1] then return 0 end return redis.call('del', KEYS[1])"

_SAY: Final = """
if redis.call('get', KEYS[1]) ~= ARGV[1] then return false end
local said = redis.call('hget', KEYS[3], ARGV[4])
if said ~= ARGV[6] then
    if tonumber(said) ~= ARGV[6] - 1 then return false end
    redis.call('xadd', KEYS[2], 'MAXLEN', '~', ARGV[2], '*',
        'e', ARGV[5], 'n', ARGV[6], 't', ARGV[7], 'o', ARGV[8], 'w', ARGV[9])
    redis.call('hset', KEYS[3], ARGV[4], ARGV[6])
    for i = 10, #ARGV, 2 do
        if ARGV[i + 1] == '' then redis.call('hdel', KEYS[3], ARGV[i])
        else redis.call('hset', KEYS[3], ARGV[i], ARGV[i + 1]) end
    end
end
for i = 1, 3 do redis.call('pexpire', KEYS[i], ARGV[3]) end
return redis.call('spop', KEYS[4], 500)
"""

_ASK: Final = "redis.call('sadd', KEYS[1], unpack(ARGV, 2)) redis.call('pexpire', KEYS[1], ARGV[1])"

_LATEST: Final = """
local epoch = tonumber(redis.call('get', KEYS[1]) or 0) or 0
if not (math.abs(epoch) < 2^53) then epoch = 0 end
return {epoch, redis.call('xrevrange', KEYS[2], '+', '-', 'COUNT', 1)}
"""

_NUMBER: Final = re.compile(r"/?[0-9]*")
"""What names a database."""

_CALM: Final = 10.0
"""How many times as long as an answer is waited for nothing may fail in a store that is well."""

_REPLICA: Final = "it is a replica; name the primary in the URL"

_RIGHTS: Final = "its ACL refuses a command or a key; docs/growing.md lists those that are needed"

_REASONS: Final = {
    "OutOfMemoryError": "it is out of memory; raise its maxmemory, or see what else fills it",
    "ReadOnlyError": _REPLICA,
    "UNBLOCKED": _REPLICA,  # it has just become one
    "NoPermissionError": _RIGHTS,
    "ACL": _RIGHTS,  # "ACL failure in script", as Redis 7.2 and later say within one
    "AuthenticationError": "it refuses the user or the password in the URL",
    "BusyLoadingError": "it loads its data; it is ready soon",
    "ConnectionError": "it can't be reached; see whether it runs, and whether host, port and TLS in the URL are right",
    "TimeoutError": "it doesn't answer in time; see whether it runs, is overloaded, or expects TLS (rediss://)",
}
"""What is wrong and what to do, by the name of the client's exception, or by Redis's code where the client has none."""

_OF_ACL: Final = "The user executing the script can't run"
"""How Redis 7.0 says, without a code, that its ACL refuses a command within a script."""

_CODE: Final = re.compile(r"[A-Z]{3,20}\b")
"""What an error of Redis's begins with, where the client has no exception of its own for it."""

Fields = Mapping[str, str]


def require_redis(url: str) -> None:
    """Make sure that a store can be used.

    Raises:
        SettingsError: The URL isn't Redis's, or its client isn't installed. The URL isn't quoted: it may hold a secret.
    """
    if not _is_redis(url):
        raise SettingsError("store", "no URL of Redis or Valkey", "redis://host:port/number, or rediss:// for TLS")
    if find_spec("redis") is None:
        raise SettingsError("store", "no redis client", "pip install 'call-initiation-exporter[service]'")
    try:
        _client(url, 1.0).connection_pool.make_connection()  # which opens nothing yet
    except (TypeError, ValueError):
        raise SettingsError("store", "options that can't be used in its URL", "those of the redis client") from None


def _is_redis(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return (
            parts.scheme in {"redis", "rediss"}
            and bool(parts.hostname)
            and parts.port != 0
            and _NUMBER.fullmatch(parts.path) is not None
        )
    except ValueError:  # a port that is no number, as where a password has a slash in it
        return False


def _client(url: str, reach: float) -> Any:
    """Return a client that doesn't connect yet.

    Raises:
        TypeError: The URL has an option that there isn't.
        ValueError: It has one that can't be used, or one that is ours to choose.
    """
    from redis.asyncio import Redis  # noqa: PLC0415 - a dialer that shares no store need not have it
    from redis.asyncio.retry import Retry  # noqa: PLC0415 - as above
    from redis.backoff import NoBackoff  # noqa: PLC0415 - as above

    ours: dict[str, Any] = {
        "decode_responses": True,
        "encoding_errors": "replace",  # what isn't text is then no word of ours
        "protocol": 2,
        "socket_timeout": reach,
        "socket_connect_timeout": reach,
        "retry": Retry(NoBackoff(), 0),
    }
    if ours.keys() & parse_qs(urlsplit(url).query).keys():
        raise ValueError(*ours)
    return Redis.from_url(url, **ours)  # pyright: ignore[reportUnknownMemberType]


class Keyspace:
    """The store's five keys, and what can be done with them.

    Args:
        url: Where Redis or Valkey is.
        name: Of whom the keys are.
        reach: Seconds after which an answer isn't waited for any longer.

    Attributes:
        outage: Told of each failure and of each success.
    """

    def __init__(self, url: str, name: str, reach: float) -> None:
        from redis.exceptions import RedisError  # noqa: PLC0415 - a dialer that shares no store need not have it

        self._keys = [f"call-initiation:{{{name}}}:{key}" for key in ("leader", "epoch", "words", "states", "asked")]
        self._failure = RedisError
        self._client = _client(url, reach)
        self.outage = Outage("the shared store", _CALM * reach)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def time(self) -> float:
        """Return the store's time, seconds since the epoch."""
        seconds, micros = await self._do("TIME")
        return int(seconds) + int(micros) / 1e6

    async def elect(self, candidate: str, lease: float) -> int:
        """Let a candidate lead, if nobody does; return its epoch, or 0."""
        leader, epoch, _, states, _ = self._keys
        arguments = [candidate, round(lease * 1000), _LIFE, _SAID]
        return int(await self._eval(_ELECT, [leader, epoch, states], arguments))

    async def renew(self, leader: str, lease: float) -> bool:
        """Prolong a leader's lease; return whether it still leads."""
        return bool(await self._eval(_RENEW, self._keys[:1], [leader, round(lease * 1000)]))

    async def resign(self, leader: str) -> None:
        """End a leader's lease, if it still leads."""
        await self._eval(_RESIGN, self._keys[:1], [leader])

    async def say(self, epoch: int, entry: Fields, summaries: Mapping[str, str]) -> list[str] | None:
        """Add an entry, unless it was added already, and put summaries in place (an empty one is removed).

        Returns:
            Whom somebody wants followed, each once; None where another leader was elected meanwhile, or what was said
            before is lost.
        """
        _, *keys = self._keys
        pairs = [text for pair in summaries.items() for text in pair]
        spoken = [entry[name] for name in ("e", "n", "t", "o", "w")]
        answer: list[str] | None = await self._eval(_SAY, keys, [epoch, _KEPT, _LIFE, _SAID, *spoken, *pairs])
        return answer

    async def latest(self) -> tuple[int, str, Fields | None]:
        """Return the latest epoch, and the stream's last entry with its id."""
        epoch, last = await self._eval(_LATEST, self._keys[1:3], [])
        if not last:
            return int(epoch), "0-0", None
        ((position, texts),) = last
        return int(epoch), str(position), dict(zip(texts[::2], texts[1::2], strict=True))

    async def after(self, position: str, wait: float) -> list[tuple[str, Fields]]:
        """Return the entries after one, waiting for so many seconds if there is none."""
        block = ("BLOCK", max(1, round(wait * 1000))) if wait else ()
        answer = await self._do("XREAD", "COUNT", 100, *block, "STREAMS", self._keys[2], position)
        return [entry for _, entries in answer or () for entry in entries]

    async def summaries(self, cursor: int) -> tuple[int, list[str]]:
        """Return some summaries, and the cursor for the next ones; 0 begins and ends."""
        following, found = await self._do("HSCAN", self._keys[3], cursor, "COUNT", _AT_ONCE)
        return int(following), [text for name, text in found.items() if name != _SAID]

    async def ask(self, agent_ids: Iterable[str]) -> None:
        """Want agents followed."""
        ids = list(agent_ids)
        for start in range(0, len(ids), _AT_ONCE):
            await self._eval(_ASK, self._keys[4:], [_LIFE, *ids[start : start + _AT_ONCE]])

    async def _eval(self, script: str, keys: list[str], arguments: list[Any]) -> Any:
        return await self._do("EVAL", script, len(keys), *keys, *arguments)

    async def _do(self, *command: Any) -> Any:
        before = _cancellations()
        try:
            answer = await self._client.execute_command(*command)
        except self._failure as failure:
            reason = _reason(failure)
            self.outage.failed(reason)
            await self._leave()
            raise OSError(reason) from failure
        else:
            self.outage.worked()
            return answer
        finally:
            if _cancellations() > before:  # before Python 3.12, `wait_for`, by which the client waits, may swallow one
                raise asyncio.CancelledError

    async def _leave(self) -> None:
        """Have every connection made anew: one that is sound may lead to a server that was demoted to a replica."""
        pool = self._client.connection_pool
        with suppress(self._failure):
            await pool.update_active_connections_for_reconnect()
            await pool.disconnect(inuse_connections=False)


def _reason(failure: Exception) -> str:
    """Return what is wrong and what to do; a failure's own text isn't quoted but for its code."""
    name, text = type(failure).__name__, str(failure)
    if text.startswith(_OF_ACL):
        name = "NoPermissionError"
    if code := _CODE.match(text):
        name = code[0]
    return _REASONS.get(name) or f"it refuses a command ({name})"


def _cancellations() -> int:
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()
