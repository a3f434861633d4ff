"""Keeps agents' states current: channels tell each change, reads check them, and stand in where channels don't reach.

Agents are shared out to shards, each with a channel of its own. Whoever finds no place there is read in turn, and so is
everyone while no channel can be had; such a state holds for the moment of its reading and is stale in between. Laws:

* Nothing here runs on the way of a call, and no call waits for it.
* Everything that fails is tried again, with full jitter, for as long as the feed lives. What fails shows in metrics.
* Our own requests share one budget, our own token and our own clients. The dialer's are never used.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from random import SystemRandom
from threading import Thread
from typing import Any, Final, TypeVar

import httpx
from opentelemetry import context as otel_context

from call_initiation.agents.skew import http_date
from call_initiation.agents.timeline import BLUR, Timeline
from call_initiation.agents.users import as_text
from call_initiation.api import notifications
from call_initiation.api.channel import Reason
from call_initiation.api.genesys import GenesysApi
from call_initiation.api.pacing import Backoff, Budget
from call_initiation.api.sockets import connector
from call_initiation.api.tokens import Tokens
from call_initiation.calls.observation import Observation
from call_initiation.errors import UpstreamError
from call_initiation.events import FeedChange, FeedState, SkewChange
from call_initiation.feed.access import Access
from call_initiation.feed.follow import Callers, Following, TokenUsers, followed_as
from call_initiation.feed.members import EVERY, Circle, Team
from call_initiation.feed.outage import Outage
from call_initiation.feed.shard import Means, Shard, shown
from call_initiation.feed.witness import AT_ONCE, Answers, are_all, changes_of, whole_of
from call_initiation.log import Log
from call_initiation.privacy import KeyedHash
from call_initiation.recording.updates import Forgotten, Reading, Suspension, Told

_LOOK: Final = 1.0
"""Seconds between looks at which queue's or group's members are to be read."""

_CHECK_EVERY: Final = 10.0
"""Seconds between reads by which a shard checks its notifications; with many shards, each waits its turn longer."""

_READ_EVERY: Final = 2.0
"""Seconds between reads of whom no channel reaches, and between any two shards' checks: a fifth of the budget each."""

_CALM: Final = 90.0
"""Seconds without a failure after which all is well: a request may take 30, and be tried again 30 later."""

_WAITING: Final = 1_000
_KNOWN: Final = 100_000
_SENT: Final = "call_initiation.sent"

Item = TypeVar("Item")

_logger = Log()


class Feed:
    """Follows agents until it is cancelled.

    Args:
        means: What it works with.
        following: Whom to follow.
    """

    def __init__(self, means: Means, following: Following) -> None:
        self._means = means
        self._following = following
        self._circle = Circle()
        self._teams = self._named(following)
        self._shards: list[Shard] = []
        self._down: set[Shard] = set()
        self._polled: list[str] = []
        self._turn = 0
        self._hears_calls = True
        self._is_open: bool | None = None
        self._skew: float | None = None
        self._tasks = asyncio.TaskGroup()

    async def run(self, door: "Door") -> None:
        """Follow for ever; `door` is where other threads tell who places calls."""
        self._tell(FeedChange(state=FeedState.DOWN, at=self._means.now()))
        try:
            async with self._tasks as tasks:
                self.follow(self._following.agent_ids)
                tasks.create_task(self._again(self._enlist, _LOOK))
                tasks.create_task(self._again(self._poll, _READ_EVERY))
                tasks.create_task(self._again(lambda: self._answer(door), 0.0))
        finally:
            self._tell(FeedChange(state=FeedState.DOWN, reason="stopped", at=self._means.now()))

    def follow(self, agent_ids: Iterable[str]) -> None:
        """Follow more agents for good."""
        self._place(self._circle.keep(agent_ids))

    def _place(self, new: list[str]) -> None:
        """Follow who is new by channels, as far as they reach."""
        if not self._shards:
            # An agent's calls take a topic of their own; where topics are scarce, states come first.
            self._hears_calls = len(new) * 2 <= notifications.TOPICS_PER_CHANNEL * (notifications.CHANNELS - 1)
        while new and (shard := self._roomy()) is not None:
            room = shard.room
            shard.add(new[:room])
            new = new[room:]
        self._polled += new

    def jumped(self, since: float) -> None:
        """Trust nothing since a clock was last known to be right."""
        for shard in self._shards:
            shard.doubt(since)

    def skewed(self, seconds: float) -> None:
        """Tell how far the server's clock is ahead, where that is news."""
        if self._skew is None or abs(seconds - self._skew) > 0.01:  # noqa: PLR2004 - a hundredth of a second
            self._skew = seconds
            self._tell(SkewChange(seconds=seconds))

    # -- shards ---------------------------------------------------------------------------------------------------

    def _roomy(self) -> Shard | None:
        """Return a shard with room, a new one if need be; one channel less than the API allows, for renewals."""
        roomy = next((shard for shard in self._shards if shard.room > 0), None)
        if roomy is None and len(self._shards) < notifications.CHANNELS - 1:
            roomy = Shard(
                self._means,
                notifications.TOPICS_PER_CHANNEL // (2 if self._hears_calls else 1),
                period=self._period,
                report=self._report,
                refuse=self._polled.extend,
                hears_calls=self._hears_calls,
            )
            self._shards.append(roomy)
            self._down.add(roomy)
            self._tasks.create_task(roomy.run())
        return roomy

    def _period(self) -> float:
        return max(_CHECK_EVERY, _READ_EVERY * len(self._shards))

    def _report(self, shard: Shard, is_up: bool, reason: str) -> None:  # noqa: FBT001 - as a shard tells it
        if is_up:
            self._down.discard(shard)
            for team in self._teams if reason else ():
                team.hurry()
            self._tell(FeedChange(state=FeedState.UP, reason=reason, at=self._means.now()))
        else:
            self._down.add(shard)
        if self._down:
            self._tell(FeedChange(state=FeedState.DOWN, reason=reason, at=self._means.now()))

    # -- whom channels don't reach --------------------------------------------------------------------------------

    def _unreached(self) -> list[str]:
        return [*self._polled, *(agent_id for shard in self._shards for agent_id in shard.unheard)]

    async def _poll(self) -> None:
        """Read the next few in turn; until there is a channel, how that goes is how the feed is."""
        try:
            await self._read_next()
        except UpstreamError:
            self._open(is_open=False)
            raise
        self._open(is_open=all(team.is_known for team in self._teams))

    def _open(self, *, is_open: bool) -> None:
        if self._shards or is_open is bool(self._is_open):
            return
        is_anew = self._is_open is not None
        self._is_open = is_open
        state = FeedState.UP if is_open else FeedState.DOWN
        self._tell(FeedChange(state=state, reason=Reason.CONNECT_FAILED if is_anew else "", at=self._means.now()))

    async def _read_next(self) -> None:
        unreached = self._unreached()
        start = self._turn if self._turn < len(unreached) else 0
        self._turn = start + AT_ONCE
        if ids := unreached[start : self._turn]:
            readings = await self._read(ids)
            # A channel may have been had meanwhile, or an agent dropped: then this is told by others, or not at all.
            for agent_id in readings.keys() & self._unreached():
                self._tell(readings[agent_id])
        elif not self._shards:  # whoever comes will be followed, if we are let in
            await self._means.api.enter()

    async def _read(self, ids: list[str]) -> dict[str, Told]:
        """Read agents; what is shown is vouched for at that moment only."""
        asked = self._means.now()
        answers = await shown(self._means.api, ids)
        answered = self._means.now()
        return {agent_id: self._reading(agent_id, answers, asked, answered) for agent_id in ids}

    def _reading(self, agent_id: str, answers: Answers, asked: float, answered: float) -> Told:
        if agent_id not in answers:
            return Forgotten(agent_id)
        whole = whole_of(answers[agent_id])
        changes = tuple(changes_of(whole, self._means.timeline, asked, is_first=False))
        return Reading(agent_id, changes, answered if are_all(whole) else None, lasts=False)

    # -- who is to be followed ------------------------------------------------------------------------------------

    def _named(self, following: Following) -> list[Team]:
        api = self._means.api
        reads = {f"queue {queue_id}": partial(api.queue_members, queue_id) for queue_id in following.queue_ids}
        reads |= {f"group {group_id}": partial(api.group_members, group_id) for group_id in following.group_ids}
        return [Team(name, read, Backoff(1.0, EVERY, self._means.random)) for name, read in reads.items()]

    async def _enlist(self) -> None:
        """Look at each queue and group that is due, and whether all is well again."""
        if not self._down:
            self._means.outage.worked()
        for team in self._teams:
            if team.due <= self._means.now():
                await self._look(team)

    async def _look(self, team: Team) -> None:
        """Follow who has come to a queue or a group, and drop who has left it."""
        try:
            members = await team.look(self._circle.members(team.name), self._means.now)
        except UpstreamError as error:
            _logger.warning("the members of %s can't be read at the moment: %s", team.name, error)
            return
        new, gone = self._circle.belong(team.name, members)
        self._drop(gone)
        self._place(new)

    def _drop(self, gone: list[str]) -> None:
        """Follow agents no more, and forget what is known of them."""
        left = set(gone)
        for shard in self._shards:
            shard.drop(left)
        self._polled[:] = [agent_id for agent_id in self._polled if agent_id not in left]
        # A suspension is always taken: should the recorder have no room for the rest, nothing is vouched for any more.
        for start in range(0, len(gone), AT_ONCE):
            self._tell(Suspension(self._means.now() - BLUR, tuple(gone[start : start + AT_ONCE])))
        for agent_id in gone:
            self._tell(Forgotten(agent_id))

    async def _answer(self, door: "Door") -> None:
        """Find out whose tokens are, and follow who has just been seen for the first time."""
        tokens, seen = await door.knocked()
        users = [await whose(self._means.api, token, tell) for token, tell in tokens]
        if self._following.as_seen:
            seen += filter(None, map(followed_as, users))
        try:
            await self._glance([agent_id for agent_id in seen if agent_id not in self._circle])
        except Exception:
            self.follow(seen)
            raise
        self.follow(seen)

    async def _glance(self, new: list[str]) -> None:
        """Read agents once, before they are followed."""
        for start in range(0, len(new), AT_ONCE):
            readings = await self._read(new[start : start + AT_ONCE])
            for agent_id in (one for one in readings if one not in self._circle):
                self._tell(readings[agent_id])

    # -- how it lives ---------------------------------------------------------------------------------------------

    async def _again(self, work: Callable[[], Awaitable[None]], every: float) -> None:
        """Do something again and again; what fails is tried again sooner or later."""
        backoff = self._means.backoff()
        while True:
            try:
                await work()
                backoff.reset()
                await self._means.sleep(every)
            except UpstreamError as error:
                self._means.outage.failed(str(error))
                await self._means.sleep(backoff.next())
            except Exception:  # noqa: BLE001 - a fault of ours must not end the feed
                self._means.fault("feed")
                await self._means.sleep(backoff.next())

    def _tell(self, told: Told) -> None:
        self._means.tell(told)


class Door:
    """Where other threads tell the feed who places calls; nobody waits there, and what is too much is dropped."""

    def __init__(self) -> None:
        self._tokens: deque[tuple[str, Callable[[str], None]]] = deque(maxlen=_WAITING)
        self._seen: deque[str] = deque(maxlen=_KNOWN)  # whoever is known is in it, or was taken out
        self._known: set[str] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._knock = asyncio.Event()

    def ask(self, token: str, tell: Callable[[str], None]) -> None:
        """Have the feed find out whose a token is."""
        self._tokens.append((token, tell))
        self._wake()

    def seen(self, agent_id: str) -> None:
        """Have the feed follow an agent."""
        if agent_id in self._known:
            return
        if len(self._known) >= _KNOWN:
            self._known.clear()
        self._known.add(agent_id)
        self._seen.append(agent_id)
        self._wake()

    async def knocked(self) -> tuple[list[tuple[str, Callable[[str], None]]], list[str]]:
        """Wait until somebody has come; return the tokens, each with whom to tell, and the agents."""
        self._loop = asyncio.get_running_loop()
        if not self._tokens and not self._seen:
            await self._knock.wait()
        self._knock.clear()
        return _emptied(self._tokens), _emptied(self._seen)

    def _wake(self) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # the feed has just ended
                self._loop.call_soon_threadsafe(self._knock.set)


def _emptied(queue: deque[Item]) -> list[Item]:
    return [queue.popleft() for _ in range(len(queue))]


@dataclass(frozen=True, slots=True)
class Port:
    """What a feed needs of an exporter; nothing of it waits.

    Attributes:
        now: Returns the time on the timeline on which states and sends are compared, in seconds since the epoch.
        tell: Takes a message; tells whether it was taken.
        fault: Counts a fault of our own.
    """

    now: Callable[[], float]
    tell: Callable[[Told], bool]
    fault: Callable[[str], None]


async def whose(api: GenesysApi, token: str, tell: Callable[[str], None]) -> str | None:
    """Find out whose a call's token is, and tell it; None where it names no user or can't be asked about now."""
    try:
        user = as_text((await api.me_with(token)).get("id"))
    except UpstreamError as error:
        _logger.info("a call's token names no user: %s", error)
        return None
    if user is not None:
        tell(user)
    return user


Run = Callable[[Access, Following, Port, Door], Coroutine[Any, Any, None]]
"""Runs a feed with clients of its own until cancelled; what it learns of calls, others put at the door."""


async def serve(access: Access, following: Following, port: Port, door: Door) -> None:
    """Run a feed with clients of its own until cancelled."""
    timeline, now = Timeline(), port.now
    api_context, socket_context = access.contexts()

    async def note_start(request: httpx.Request) -> None:
        request.extensions[_SENT] = now()

    async def note_date(response: httpx.Response) -> None:
        date, request = http_date(response.headers.get("date", "")), response.request
        if date is None or not request.url.path.startswith("/api/"):
            return
        last_good = timeline.good_at
        if timeline.observe_date(date, request.extensions[_SENT], now()):
            feed.jumped(last_good)
        feed.skewed(timeline.skew)

    hooks: dict[str, list[Callable[..., Any]]] = {"request": [note_start], "response": [note_date]}
    async with (
        httpx.AsyncClient(trust_env=False, verify=api_context, event_hooks=hooks) as client,
        connector(socket_context) as connect,
    ):
        tokens = Tokens(access.credentials, access.login_url, client, now)
        api = GenesysApi(client, tokens, access.api_url, Budget(), clock=now)
        outage = Outage("the state feed", _CALM, now)
        means = Means(api, connect, port.tell, now, asyncio.sleep, SystemRandom().random, timeline, port.fault, outage)
        feed = Feed(means, following)
        await feed.run(door)


class FeedThread:
    """A feed in a daemon thread and an event loop of its own, and what it learns from calls.

    Args:
        access: How it comes to the API.
        following: Whom to follow.
        port: The exporter.
        hashes: Under which calls' tokens are kept; None if they aren't to be shown to the API to learn whose they are.
        run: What it does; `serve`, if this process follows the agents for itself.

    Attributes:
        callers: Who places calls.
    """

    def __init__(
        self, access: Access, following: Following, port: Port, hashes: KeyedHash | None, run: Run = serve
    ) -> None:
        self._made_of = (access, following, port, hashes, run)
        self._port = port
        door = Door()
        tokens = None if hashes is None else TokenUsers(hashes, access.api_url, door.ask)
        self.callers = Callers(tokens, door.seen if following.as_seen else None)
        self._work = partial(run, access, following, port, door)
        self._thread: Thread | None = None
        self._running: Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[None]]] = Future()

    def anew(self) -> "FeedThread":
        """Return another one like it, as a forked child needs; it starts with the first call."""
        return FeedThread(*self._made_of)

    def start(self) -> None:
        """Start, if it hasn't yet; where no thread can be had, the next call tries again."""
        if self._thread is None:
            thread = Thread(target=self._run, name="call-initiation-feed", daemon=True)
            with suppress(RuntimeError):
                thread.start()
                self._thread = thread

    def notice(self, observation: Observation) -> None:
        """Note who places a call; on the recorder's thread."""
        self.start()
        self.callers.notice(observation)

    def stop(self) -> None:
        """Ask it to end; doesn't wait."""
        self._running.add_done_callback(_cancel)

    def join(self, timeout: float) -> None:
        """Wait for its end for at most so many seconds."""
        if self._thread is not None:
            self._thread.join(timeout)

    def _run(self) -> None:
        # Our own requests are no calls of the dialer's, and a trace of them would show a socket's address.
        otel_context.attach(otel_context.set_value("suppress_instrumentation", True))  # noqa: FBT003 - a context value
        with suppress(asyncio.CancelledError):
            asyncio.run(self._main())

    async def _main(self) -> None:
        work = asyncio.create_task(self._live())
        self._running.set_result((asyncio.get_running_loop(), work))
        await work

    async def _live(self) -> None:
        """Do the work; where it can't even begin (no file may be opened, say), try again for ever."""
        backoff = Backoff(1.0, 30.0, SystemRandom().random)
        while True:
            try:
                await self._work()
            except Exception as error:  # noqa: BLE001 - a dead feed would look like one that is well
                self._port.fault("feed")
                self._port.tell(FeedChange(state=FeedState.DOWN, reason=Reason.CONNECT_FAILED, at=self._port.now()))
                _logger.warning("the state feed can't begin, and is tried again: %s", type(error).__name__)
            await asyncio.sleep(backoff.next())


def _cancel(running: "Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[None]]]") -> None:
    loop, task = running.result()
    with suppress(RuntimeError):  # it has ended already
        loop.call_soon_threadsafe(task.cancel)
