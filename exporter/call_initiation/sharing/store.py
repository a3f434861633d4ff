"""One feed for many processes: one leads and follows the agents, and all, itself included, read what it says.

A dialer that runs as fifty processes would need fifty sets of channels, where the API allows one. With a shared store
one of them is elected by a lease; its feed tells the store instead of the recorder, and each process is told by the
store through the recorder's one door. Laws:

* Only one process leads, but two may believe it for a moment: the store itself refuses what the deposed one says, and
  what doesn't follow the last that it still has.
* A leader that can't renew its lease ends its feed before the lease is over, so far as it can know.
* A leader whose feed is of no use for long (it can't reach the API, or its credentials are refused) lets another one
  lead, and is slower than the others to stand again. Nobody deposes a leader whose feed is of use.
* A new leader waits until what its predecessor said is `BLUR` old: what it reads then is newer, whatever clocks say.
* Nothing is trusted that isn't heard in time; `hearing` says when. What fails is tried again for ever.
* Agents and states go into the store, and nothing of calls. Whose a token is, each process finds out for itself.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from random import SystemRandom
from secrets import token_hex
from typing import Final

import httpx

from call_initiation.agents.timeline import BLUR
from call_initiation.api.genesys import GenesysApi
from call_initiation.api.pacing import Backoff, Budget
from call_initiation.api.tokens import Tokens
from call_initiation.events import FeedChange, FeedState
from call_initiation.feed.access import Access
from call_initiation.feed.feed import Door, Port, Run, serve, whose
from call_initiation.feed.follow import Following, followed_as
from call_initiation.feed.shard import race
from call_initiation.log import Log
from call_initiation.sharing.hearing import CommonClock, Entry, Hearing, Trouble
from call_initiation.sharing.keyspace import Fields, Keyspace
from call_initiation.sharing.speaker import BREATH, Deposed, Speaker
from call_initiation.sharing.words import Garbled

_ASKED_EVERY: Final = 5.0
_QUESTIONS: Final = 8
_FAREWELL: Final = 0.4
_WANTED: Final = 100_000

_QUIET: Final = "whoever leads says nothing, and nobody else may; see what the other exporters log"
_GARBLED: Final = "it holds what can't be read: another version's, or another program's"

_logger = Log()


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How often the processes that share a store do what; seconds.

    Attributes:
        lease: How long a leader that has died is waited for; it is renewed at a third of that.
        pulse: How often a leader says something, and every process asks for the store's time.
        silence: After which nothing is trusted. Below the time that calls settle, no call is recorded with a state that
            was vouched for by a leader that had died before it.
        fruitless: How long a leader may be down and tell of no agent: longer than the API asks us to wait as a rule,
            and than the members of a long queue take to be read.
    """

    lease: float = 10.0
    pulse: float = 0.5
    silence: float = 1.5
    fruitless: float = 120.0


RHYTHM: Final = Rhythm()
"""What suits calls that settle for two seconds."""


class Member:
    """One process among those who share a store.

    Args:
        keys: The store.
        port: The exporter.
        lead: Runs a feed until cancelled, given where it tells and where it learns whom to follow.
        rhythm: How often what is done.
    """

    def __init__(
        self, keys: Keyspace, port: Port, lead: Callable[[Port, Door], Awaitable[None]], rhythm: Rhythm
    ) -> None:
        self._keys = keys
        self._port = port
        self._lead = lead
        self._rhythm = rhythm
        self._clock = CommonClock()
        self._hearing = Hearing(port.tell, silence=rhythm.silence, patience=2 * rhythm.pulse)
        self._id = token_hex(16)
        self._wanted: set[str] = set()
        self._unanswered: set[str] = set()
        self._stands_every = rhythm.pulse
        self._heard_at = port.now()
        self._epoch = 0
        self._scan = self._cursor = 0

    async def run(self) -> None:
        """Read, and lead if nobody else does; until cancelled."""
        self._port.tell(FeedChange(state=FeedState.DOWN, at=self._port.now()))
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._again(self._listen))
                tasks.create_task(self._again(self._campaign))
                tasks.create_task(self._again(self._measure_often))
                tasks.create_task(self._again(self._ask_often))
        finally:
            self._hearing.doubt(Trouble.LOST, self._port.now())
            with suppress(OSError):
                await self._keys.close()

    async def want(self, agent_ids: Iterable[str]) -> None:
        """Have the leader follow agents, whoever leads; it is asked until it says something of each."""
        new = {agent_id for agent_id in agent_ids if agent_id not in self._wanted}
        if len(self._wanted) >= _WANTED:
            self._wanted.clear()
        self._wanted |= new
        self._unanswered |= new
        with suppress(OSError):  # it is asked again soon
            await self._keys.ask(new)

    # -- reading --------------------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        """Read the store from now on, until nothing was heard there for long."""
        await self._measure_well()
        epoch, position, entry = await self._keys.latest()
        self._hearing.open(epoch)
        if entry is not None:
            self._hear(entry)
        # Whoever hears nothing for so long may have believed something that was no leader's, such as a later epoch.
        until = self._port.now() + 2 * self._rhythm.lease
        while (now := self._port.now()) < until:
            if not self._hearing.is_deaf:
                self._heard_at, until = now, now + 2 * self._rhythm.lease
            elif now > self._heard_at + 2 * self._rhythm.lease:
                self._keys.outage.failed(_QUIET)
            entries = await self._keys.after(position, 0.0 if self._hearing.scan else self._wait())
            for _, fields in entries:
                self._hear(fields)
            position = entries[-1][0] if entries else position
            self._hearing.look(self._port.now())
            if self._hearing.scan:
                await self._learn(self._hearing.scan)

    def _wait(self) -> float:
        return max(0.001, min(self._rhythm.pulse, self._hearing.deadline() - self._port.now()))

    def _hear(self, fields: Fields) -> None:
        now = self._port.now()
        told_of = self._hearing.hear(Entry.of(fields), self._clock.offset, now)
        self._unanswered.difference_update(told_of)
        if self._hearing.epoch != self._epoch:
            self._epoch = self._hearing.epoch
            self._unanswered |= self._wanted

    async def _learn(self, scan: int) -> None:
        """Take the next few summaries."""
        if scan != self._scan:
            self._scan, self._cursor = scan, 0
        self._cursor, texts = await self._keys.summaries(self._cursor)
        for text in texts:
            try:
                self._unanswered.difference_update(self._hearing.learn(text, self._port.now()))
            except Garbled:  # of the others it says nothing, and its agent is known once the leader tells of it again
                self._keys.outage.failed(_GARBLED)
        if self._cursor:
            await asyncio.sleep(BREATH)
        else:
            self._hearing.learnt(scan, self._port.now())

    async def _measure_often(self) -> None:
        while True:
            await self._measure()
            await asyncio.sleep(self._rhythm.pulse)

    async def _measure_well(self) -> None:
        """Ask a few times in a row: of one answer nobody knows how long it was on its way."""
        for _ in range(_QUESTIONS):
            await self._measure()

    async def _measure(self) -> None:
        asked = self._port.now()
        time = await self._keys.time()
        self._clock.observe(time, asked, self._port.now())

    async def _ask_often(self) -> None:
        while True:
            if self._unanswered:
                await self._keys.ask(self._unanswered)
            await asyncio.sleep(_ASKED_EVERY)

    # -- leading --------------------------------------------------------------------------------------------------

    async def _campaign(self) -> None:
        """Stand for election again and again."""
        await self._measure_well()
        while True:
            asked = self._port.now()
            epoch = await self._keys.elect(self._id, self._rhythm.lease)
            if epoch:
                await self._reign(epoch, asked + self._rhythm.lease)
            await asyncio.sleep(self._stands_every * (1 + SystemRandom().random()))

    async def _reign(self, epoch: int, until: float) -> None:
        """Lead until deposed."""
        speaker = Speaker(self._keys, epoch, self._clock, self._port, self._rhythm.pulse)
        door = Door()
        self._stands_every = self._rhythm.pulse
        try:
            await race(
                self._hold(until),
                speaker.run(door.seen),
                self._feed(replace(self._port, tell=speaker.tell), door),
                self._try(speaker),
            )
        except Deposed:
            _logger.warning("this process leads no more: another one does, or the store lost what was said")
        finally:
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(_FAREWELL):
                    await self._keys.resign(self._id)

    async def _hold(self, until: float) -> None:
        """Keep the lease.

        Raises:
            Deposed: It is over, or may be.
        """
        while (left := until - self._port.now()) > 0:
            await asyncio.sleep(min(self._rhythm.lease / 3, left))
            asked = self._port.now()
            with suppress(OSError):
                if not await self._keys.renew(self._id, self._rhythm.lease):
                    raise Deposed
                until = asked + self._rhythm.lease
        raise Deposed

    async def _try(self, speaker: Speaker) -> None:
        """Return once the feed has been of no use for too long."""
        left = self._rhythm.fruitless
        while left > 0:
            await asyncio.sleep(left)
            left = self._rhythm.fruitless - speaker.useless_for
        self._stands_every = self._rhythm.lease / 2
        _logger.warning("this process lets another one lead: for %.0f s it could follow nobody", self._rhythm.fruitless)

    async def _feed(self, port: Port, door: Door) -> None:
        _, _, fields = await self._keys.latest()
        if fields is not None:
            last = Entry.of(fields)
            said_at = last.at + last.offset - self._clock.offset
            await asyncio.sleep(max(0.0, min(BLUR, said_at + BLUR - self._port.now())))
        await self._lead(port, door)

    # -- how it lives ---------------------------------------------------------------------------------------------

    async def _again(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do something for ever; what fails is tried again sooner or later."""
        backoff = Backoff(self._rhythm.pulse, 10 * self._rhythm.pulse, SystemRandom().random)
        while True:
            began = self._port.now()
            try:
                await work()
            except OSError:
                self._hearing.doubt(Trouble.LOST, self._port.now())
            except Garbled:
                self._keys.outage.failed(_GARBLED)
                self._hearing.doubt(Trouble.INCOMPLETE, self._port.now())
            except Exception:  # noqa: BLE001 - a fault of ours must not end the feed
                self._port.fault("feed")
                self._hearing.doubt(Trouble.LOST, self._port.now())
            if self._port.now() - began > 10 * self._rhythm.pulse:
                backoff.reset()
            await asyncio.sleep(backoff.next())


def shared(url: str, rhythm: Rhythm = RHYTHM) -> Run:
    """Return what runs a feed for all who share the store at `url`, as `feed.serve` runs one for a single process."""

    async def share(access: Access, following: Following, port: Port, door: Door) -> None:
        async def lead(leading: Port, asked: Door) -> None:
            await serve(access, following, leading, asked)

        member = Member(Keyspace(url, _name(access), rhythm.silence), port, lead, rhythm)
        await member.want(following.agent_ids)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(member.run())
            tasks.create_task(_greet(member, access, following, port, door))

    return share


async def _greet(member: Member, access: Access, following: Following, port: Port, door: Door) -> None:
    """Find out whose the tokens of our own calls are, and have the leader follow who has just been seen."""
    context, _ = access.contexts()
    async with httpx.AsyncClient(trust_env=False, verify=context) as client:
        tokens = Tokens(access.credentials, access.login_url, client, port.now)
        api = GenesysApi(client, tokens, access.api_url, Budget(), clock=port.now)
        while True:
            unknown, seen = await door.knocked()
            users = [await whose(api, token, tell) for token, tell in unknown]
            if following.as_seen:
                seen += filter(None, map(followed_as, users))
            await member.want(seen)


def _name(access: Access) -> str:
    """Return a name for all who follow with the same client: others may not see the same agents."""
    return sha256(f"{access.api_url} {access.credentials.client_id}".encode()).hexdigest()[:16]
