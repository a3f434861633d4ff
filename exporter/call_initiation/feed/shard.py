"""One share of the agents, and the channel that tells of them.

A shard lives through connections: it opens one, subscribes, reads everyone, and from then on hears of each change.
Laws:

* Whatever ends a connection, nothing that it told is trusted from its last sign of life on, until all is read anew.
* A channel that ends in good order is replaced before: both deliver for a moment, and nothing has to be read.
* A channel outlives its socket, and each failure to connect or to subscribe that doesn't say that it is no more: the
  API allows few channels, and a new one would end the one used longest ago, which may be ours.
* No fault of a connection, of the API or of ours ends a shard; only its cancellation does.
"""

import asyncio
from collections.abc import Awaitable, Callable, Container, Coroutine, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from math import inf
from typing import Any, Final, NoReturn, Protocol, TypeVar, assert_never

from call_initiation.agents.timeline import BLUR, Timeline
from call_initiation.agents.users import as_text, user_state
from call_initiation.api import notifications
from call_initiation.api.channel import Channel, Reason, Reconnect, Renew, Send
from call_initiation.api.genesys import GenesysApi, NewChannel
from call_initiation.api.pacing import Backoff, is_final
from call_initiation.errors import UpstreamError
from call_initiation.feed.outage import Outage
from call_initiation.feed.witness import Answers, Lost, Trouble, Witness
from call_initiation.log import Log
from call_initiation.recording.updates import Told

TICK: Final = 10.0
"""Seconds between looks at a connection; `channel` asks for 15 at most."""

_LOOK: Final = 1.0
"""Seconds between looks at who is to be read."""

_LIFE: Final = 86_400.0
"""Seconds that a channel lives (the API's documentation) at most, and where the answer doesn't say."""

_SHORTEST_LIFE: Final = 120.0
"""Seconds; a shorter one is not believed, lest channels be made without end."""

_TRIAL: Final = 600.0
"""Seconds for which a channel that was never heard on is tried whatever is answered: the next would fare no better."""

_FAREWELL: Final = 0.4
"""Seconds for leaving a channel in good order."""

_KEPT: Final = frozenset[str]({Reason.DROPPED, Reason.SILENT, Trouble.OVERFLOW})
"""The reasons after which the channel itself is probably well."""

_logger = Log()

Result = TypeVar("Result")


class Socket(Protocol):
    """An open WebSocket; each method raises `OSError` when the connection fails."""

    async def send(self, text: str) -> None:
        """Send one text frame."""

    async def receive(self) -> str | bytes | None:
        """Return the next frame, or None where the connection was closed."""

    async def close(self) -> None:
        """Close the connection, soon."""


Connect = Callable[[str], Awaitable[Socket]]
"""Opens a WebSocket; raises `OSError` when it can't, and of these `ConnectionRefusedError` where it never will."""


@dataclass(frozen=True, slots=True)
class Means:
    """What all shards work with.

    Attributes:
        api: Our own requests.
        connect: Opens WebSockets.
        tell: Hands a message to the recorder; returns whether it was taken.
        now: Seconds on our timeline.
        sleep: Waits that many seconds.
        random: Gives a number from 0 up to 1.
        timeline: Brings the server's stamps to our timeline.
        fault: Counts a fault of our own.
        outage: Told of what can't be done at the moment.
    """

    api: GenesysApi
    connect: Connect
    tell: Callable[[Told], bool]
    now: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]]
    random: Callable[[], float]
    timeline: Timeline
    fault: Callable[[str], None]
    outage: Outage

    def backoff(self) -> Backoff:
        """Return a fresh backoff for something that failed."""
        return Backoff(1.0, 30.0, self.random)


async def race(*works: Coroutine[Any, Any, Result]) -> Result:
    """Return the result of whichever work ends first, or raise what it raises; the others are cancelled."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return next(task for task in tasks if task in done).result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@dataclass(frozen=True, slots=True)
class _Made:
    """A channel of the API.

    Attributes:
        channel: The channel.
        tried_until: Until when it is tried even if it is said to be no use, on our timeline.
        ends_at: When its life ends, on our timeline.
    """

    channel: NewChannel
    tried_until: float
    ends_at: float

    @classmethod
    def at(cls, now: float, channel: NewChannel, timeline: Timeline) -> "_Made":
        """Return a channel that was made just now."""
        ends_at = now + _LIFE if channel.expires is None else timeline.local(channel.expires)
        return cls(channel, now + _TRIAL, min(max(ends_at, now + _SHORTEST_LIFE), now + _LIFE))


class _Line:
    """One connection: a channel of the API, its socket, and its life.

    Attributes:
        made: The channel.
        alive_at: When something was last heard on it.
        is_ending: Done when it wants a successor, with the reason.
    """

    def __init__(self, made: _Made, socket: Socket, means: Means) -> None:
        now = means.now()
        self.made = made
        self.alive_at = now
        self.is_ending: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._socket = socket
        self._means = means
        self._channel = Channel(made.ends_at, now)
        self._channel.opened(now)

    async def listen(self, hear: Callable[[notifications.Notification, float], None]) -> Any:
        """Hand over all that is heard until the connection is lost.

        Raises:
            Lost: It always ends so.
        """
        return await race(self._receive(hear), self._watch())

    async def _receive(self, hear: Callable[[notifications.Notification, float], None]) -> NoReturn:
        while True:
            frame = await self._socket.receive()
            now = self._means.now()
            if frame is None:
                self._channel.closed(Reason.DROPPED)
            else:
                said = self._channel.received(frame, now)
                if not any(isinstance(one, notifications.Ignored) for one in said):
                    self.alive_at = now
                for one in said:
                    hear(one, now)
            await self._obey()

    async def _watch(self) -> NoReturn:
        while True:
            await self._obey()
            await self._means.sleep(TICK)

    async def _obey(self) -> None:
        for command in self._channel.tick(self._means.now()):
            match command:
                case Send():
                    await self._socket.send(command.text)
                case Renew():
                    self.is_ending.set_result(command.reason)
                case Reconnect():
                    raise Lost(command.reason)
                case _:
                    assert_never(command)

    async def hang_up(self) -> None:
        """Close the socket, whatever state it is in."""
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(_FAREWELL):
                await self._socket.close()

    async def leave(self) -> None:
        """Give the channel back, and close the socket."""
        with suppress(UpstreamError, TimeoutError):
            async with asyncio.timeout(_FAREWELL):
                await self._means.api.close(self.made.channel.id)
        await self.hang_up()


class Shard:
    """Follows some agents by one channel.

    Args:
        means: What it works with.
        capacity: How many agents there is room for.
        period: Seconds between reads that check what was notified.
        report: Told whenever the shard comes up (None, or what had been wrong) or goes down.
        refuse: Told of the agents who can't be followed by a channel.
        hears_calls: Whether calls are subscribed to as well, each counting as a topic.
    """

    def __init__(  # noqa: PLR0913 - what it works with
        self,
        means: Means,
        capacity: int,
        *,
        period: Callable[[], float],
        report: Callable[["Shard", bool, str], None],
        refuse: Callable[[list[str]], None],
        hears_calls: bool,
    ) -> None:
        self._means = means
        self._capacity = capacity
        self._period = period
        self._report = report
        self._refuse = refuse
        self._hears_calls = hears_calls
        self._witness = Witness(means.tell, means.timeline)
        self._backoff = means.backoff()
        self._made: _Made | None = None
        self._new: list[str] = []
        self._reason = ""
        self._is_up = False
        self._is_deaf = False
        self._has_surplus = False
        self._sample_at = 0.0

    @property
    def room(self) -> int:
        """How many more agents there is room for."""
        return self._capacity - len(self._witness) - len(self._new)

    @property
    def unheard(self) -> list[str]:
        """Whom nothing is heard of, since a connection was lost or couldn't be had."""
        return self._agent_ids if self._is_deaf else []

    @property
    def _agent_ids(self) -> list[str]:
        return [*self._witness.agent_ids, *self._new]

    def add(self, agent_ids: Iterable[str]) -> None:
        """Follow more agents."""
        self._new += agent_ids

    def drop(self, agent_ids: Iterable[str]) -> None:
        """Follow agents no more, as far as they are followed here; nothing is told of them from now on."""
        gone = set(agent_ids).intersection(self._agent_ids)
        self._new = [agent_id for agent_id in self._new if agent_id not in gone]
        self._witness.drop(gone)
        self._has_surplus = self._has_surplus or bool(gone)

    async def run(self) -> None:
        """Follow the agents until cancelled."""
        while True:
            try:
                await self._live()
            except Lost as lost:
                self._go_down(lost.reason)
            except (UpstreamError, OSError) as error:
                self._means.outage.failed(str(error) or type(error).__name__)
                self._go_down(Reason.CONNECT_FAILED)
            except Exception:  # noqa: BLE001 - a fault of ours must not end what we hear
                self._made = None
                self._means.fault("feed")
                self._go_down(Reason.CONNECT_FAILED)
            await self._means.sleep(self._backoff.next())

    def doubt(self, since: float) -> None:
        """Trust nothing of what was heard after `since`, and read everyone again."""
        self._witness.doubt_all(since)
        self._witness.read_all(self._means.now())

    # -- a connection's life --------------------------------------------------------------------------------------

    async def _live(self) -> None:
        """Follow the agents by one connection after the other, until one is lost.

        Raises:
            Lost: It always ends so, if not by a fault.
        """
        line = await self._open()
        self._is_deaf = False
        now = self._means.now()
        self._witness.notified_at = now
        self._witness.read_all(now)
        why: str = Reason.CONNECT_FAILED
        try:
            while True:
                successor = await race(
                    self._succeed(line),
                    line.listen(self._witness.hear),
                    self._again(partial(self._update, line)),
                    self._again(self._look),
                )
                self._renewed(await line.is_ending)
                await line.leave()
                line = successor
        except (Lost, OSError) as lost:
            why = lost.reason if isinstance(lost, Lost) else Reason.DROPPED
            raise Lost(why) from None
        except asyncio.CancelledError:
            await line.leave()
            raise
        finally:
            self._made = replace(line.made, tried_until=-inf) if why in _KEPT else None
            self._witness.doubt_all(self._witness.notified_at if why == Trouble.CONTRADICTED else line.alive_at)
            await line.hang_up()

    async def _open(self) -> _Line:
        """Connect to the channel that there is, or to a new one, and subscribe to all topics."""
        if self._made is None or self._made.ends_at <= self._means.now():
            channel = await self._means.api.create_channel()
            self._made = _Made.at(self._means.now(), channel, self._means.timeline)
        try:
            line = await self._connect(self._made)
        except (UpstreamError, OSError) as error:
            is_gone = isinstance(error, ConnectionRefusedError) or is_final(getattr(error, "status_code", None))
            if is_gone and self._made.tried_until <= self._means.now():
                self._made = None
            raise
        self._made = None  # it is the line's now
        return line

    async def _connect(self, made: _Made) -> _Line:
        line = _Line(made, await self._means.connect(made.channel.connect_uri), self._means)
        try:
            await self._subscribe(line)
        except BaseException:
            await line.hang_up()
            raise
        return line

    async def _succeed(self, line: _Line) -> _Line:
        """Return a second connection that delivers already, once the first one is to end."""
        await line.is_ending
        backoff = self._means.backoff()
        while True:
            try:
                successor = await self._open()
                break
            except (UpstreamError, OSError):
                await self._means.sleep(backoff.next())
        try:
            await self._means.sleep(BLUR)
        except BaseException:
            await successor.hang_up()
            raise
        return successor

    # -- who is followed ------------------------------------------------------------------------------------------

    async def _subscribe(self, line: _Line) -> None:
        """Subscribe to all, and to nobody else."""
        self._has_surplus, new = False, set(self._new)
        try:
            rejected = await self._means.api.subscribe(line.made.channel.id, self._topics(self._agent_ids))
        except UpstreamError:
            self._has_surplus = True
            raise
        self._admit(new, rejected)

    async def _update(self, line: _Line) -> None:
        """Bring a line's subscriptions up to date."""
        # A successor subscribes to all whom it finds; it wouldn't hear of who came to the old line alone meanwhile.
        if not line.is_ending.done():
            if self._has_surplus:
                await self._subscribe(line)
            elif new := set(self._new):
                self._admit(new, await self._means.api.add(line.made.channel.id, self._topics(self._new)))
        await self._means.sleep(_LOOK)

    def _topics(self, agent_ids: Iterable[str]) -> list[str]:
        topics = [notifications.combined_topic, *([notifications.calls_topic] if self._hears_calls else [])]
        return [topic(agent_id) for agent_id in agent_ids for topic in topics]

    def _admit(self, new: Container[str], rejected: Iterable[tuple[str, str]]) -> None:
        """Follow who was subscribed to, but for those who were dropped meanwhile or whose topics were rejected."""
        self._witness.add((agent_id for agent_id in self._new if agent_id in new), self._means.now())
        self._new = [agent_id for agent_id in self._new if agent_id not in new]
        refused = {topic for topic, _ in rejected}
        ids = [agent for agent in self._witness.agent_ids if notifications.combined_topic(agent) in refused]
        if ids:
            self._witness.drop(ids)
            self._refuse(ids)

    # -- reading --------------------------------------------------------------------------------------------------

    async def _look(self) -> None:
        """Read who is in doubt, or compare a few others in turn."""
        now = self._means.now()
        ids = self._witness.due(now)
        if not ids and now >= self._sample_at:
            self._sample_at = now + self._period()
            ids = self._witness.sample()
        if ids:
            await self._read(ids)
        else:
            await self._means.sleep(_LOOK)
        if self._witness.is_settled:
            self._come_up()

    async def _read(self, ids: list[str]) -> None:
        asked = self._means.now()
        answers = await shown(self._means.api, ids)
        self._witness.read(ids, answers, asked, self._means.now())

    async def _again(self, work: Callable[[], Awaitable[None]]) -> NoReturn:
        """Do something for ever; what the API refuses holds up nothing else, and is tried again ever more rarely."""
        backoff = self._means.backoff()
        while True:
            try:
                await work()
                backoff.reset()
            except UpstreamError as error:
                _logger.info("agents can't be kept at the moment: %s", error)
                await self._means.sleep(backoff.next())

    # -- up and down ----------------------------------------------------------------------------------------------

    def _come_up(self) -> None:
        if not self._is_up:
            self._is_up = True
            self._backoff.reset()
            self._report(self, True, self._reason)  # noqa: FBT003 - whether it is up

    def _renewed(self, reason: str) -> None:
        if self._is_up:
            self._report(self, True, reason)  # noqa: FBT003 - whether it is up

    def _go_down(self, reason: str) -> None:
        if self._is_up:
            self._reason = reason
        self._is_up, self._is_deaf = False, True
        self._report(self, False, reason)  # noqa: FBT003 - whether it is up


async def shown(api: GenesysApi, ids: Iterable[str]) -> Answers:
    """Read agents; a deleted one isn't among the answers, as one that isn't there.

    Raises:
        UpstreamError: They can't be read.
    """
    users = [user async for user in api.users(ids)]
    return {
        agent_id: user_state(user)
        for user in users
        if (agent_id := as_text(user.get("id"))) is not None and user.get("state") != "deleted"
    }
