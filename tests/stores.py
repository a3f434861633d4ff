"""A real Redis, and several exporters in one event loop that share it; each with a clock of its own."""

import asyncio
import signal
import subprocess
from bisect import bisect_left
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from random import Random
from time import time
from typing import Any

from redis import Redis
from redis.backoff import ConstantBackoff
from redis.exceptions import ConnectionError as NoConnectionError
from redis.retry import Retry

from call_initiation.agents.agents import label
from call_initiation.events import (
    AgentState,
    Certainty,
    Event,
    FeedChange,
    FeedState,
    Presence,
    StateLabel,
    StateSource,
)
from call_initiation.exporter import Exporter
from call_initiation.feed.feed import Door, Port
from call_initiation.recording.updates import Reading, StateUpdate, Told
from call_initiation.sharing.keyspace import Keyspace
from call_initiation.sharing.store import Member, Rhythm
from collector import free_port

QUICK = Rhythm(lease=1.0, pulse=0.05, silence=0.4)
SETTLE = 1.0
"""Seconds from a send to its record; more than the silence that is noticed."""

EXACT = 0.02
"""Seconds; a machine that does much else at once takes its time to answer."""

SOON = 60.0
"""Seconds after which what a test waits for counts as lost."""


class RedisServer:
    """A redis-server that keeps nothing on disk."""

    def __init__(self, program: Path, folder: Path) -> None:
        self._program = program
        self._folder = folder
        self._port = free_port()
        self.url = f"redis://127.0.0.1:{self._port}/0"
        self.client: Any = Redis.from_url(
            self.url, decode_responses=True, retry=Retry(ConstantBackoff(0.02), 500, (NoConnectionError,))
        )
        self._process: subprocess.Popen[bytes]
        self.start()

    def start(self) -> None:
        """Start it, with nothing in it, and wait until it answers."""
        command = [self._program, "--port", str(self._port), "--bind", "127.0.0.1", "--save", "", "--dir", self._folder]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)  # noqa: S603 - a program that is there
        self.client.ping()

    def kill(self) -> None:
        """Kill it, and all that it holds."""
        self._process.send_signal(signal.SIGCONT)
        self._process.kill()
        self._process.wait()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Let it do nothing for a while: its connections stay open."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End it."""
        self.client.close()
        self.kill()

    def contents(self) -> str:
        """Return all that it holds, as text."""
        shown = []
        for key in self.client.scan_iter():
            kind = self.client.type(key)
            read: dict[str, Callable[[str], object]] = {
                "stream": self.client.xrange,
                "hash": self.client.hgetall,
                "string": self.client.get,
                "set": self.client.smembers,
            }
            shown.append(f"{key} {read[kind](key)}")
        return "\n".join(sorted(shown))


class World:
    """Agents whose presence changes all the time, and what was so when."""

    def __init__(self, agents: int, seed: int = 1) -> None:
        self._random = Random(seed)  # noqa: S311 - a seed makes a failure repeatable
        self.agent_ids = [f"agent-{number}" for number in range(agents)]
        self.past = {agent: [(0.0, Presence.AVAILABLE)] for agent in self.agent_ids}
        self.heard: list[Callable[[str, Presence, float], None]] = []
        self.is_quiet = False

    async def live(self) -> None:
        """Change somebody's presence a hundred times a second."""
        while True:
            if not self.is_quiet:
                agent = self._random.choice(self.agent_ids)
                presence = self._random.choice([one for one in Presence if one is not self.past[agent][-1][1]])
                self.change(agent, presence)
            await asyncio.sleep(0.01)

    def change(self, agent: str, presence: Presence) -> None:
        """Change one presence."""
        at = time()
        self.past[agent].append((at, presence))
        for hear in self.heard:
            hear(agent, presence, at)

    def truths(self, agent: str, sent: float) -> set[StateLabel]:
        """Return the words for an agent's state about a moment: clocks are compared no better than that."""
        past = self.past[agent]
        first, last = (bisect_left(past, sent + by, key=lambda one: one[0]) for by in (-EXACT, EXACT))
        return {StateLabel(presence.lower()) for _, presence in past[first - 1 : last]}


def state(presence: Presence) -> AgentState:
    """Return a state that a feed may tell."""
    return AgentState(presence=presence, source=StateSource.NOTIFICATION)


class Party:
    """One exporter among those who share a store, and whether all that it says is true.

    Args:
        url: Where the store is.
        world: What is followed.
        ahead: How many seconds this exporter's clock is ahead.
        rhythm: Of the store.
    """

    def __init__(self, url: str, world: World, ahead: float = 0.0, rhythm: Rhythm = QUICK) -> None:
        self.world = world
        self.ahead = ahead
        self.exporter = Exporter()
        self.events: list[Event] = []
        self.faults: list[str] = []
        self.wrong: list[tuple[str, StateLabel, set[StateLabel], float]] = []
        self.joins: Counter[Certainty] = Counter()
        self.reigns = 0
        self.leads = False
        self.asked: set[str] = set()
        self.tell_anyway: Callable[[Told], bool] = self.tell
        port = Port(self.now, self.tell, self.faults.append)
        self.member = Member(Keyspace(url, "test", rhythm.silence), port, self.lead, rhythm)
        self._tasks = [asyncio.create_task(self.member.run()), asyncio.create_task(self._check())]

    def now(self) -> float:
        """Return the time of this exporter's own clock."""
        return time() + self.ahead

    def tell(self, told: Told) -> bool:
        """Apply what the store tells at once, as the recorder's thread would."""
        for event in self.exporter._apply(told):
            self.events.append(event)
        self.events += [told] if isinstance(told, FeedChange) else []
        return True

    async def lead(self, port: Port, door: Door) -> None:
        """Follow the world."""
        self.leads, self.tell_anyway = True, port.tell
        self.reigns += 1

        def hear(agent: str, presence: Presence, at: float) -> None:
            port.tell(StateUpdate(agent, state(presence), at + self.ahead))

        self.world.heard.append(hear)
        try:
            for agent, past in self.world.past.items():
                changes = ((past[-1][0] + self.ahead, state(past[-1][1])),)
                port.tell(Reading(agent, changes, port.now(), lasts=True))
            port.tell(FeedChange(state=FeedState.UP, at=port.now()))
            while True:
                _, seen = await door.knocked()
                self.asked.update(seen)
        finally:
            self.leads = False
            self.world.heard.remove(hear)

    def known(self) -> int:
        """Return how many agents' states are known now."""
        states = [self.exporter.agents.as_of(agent, self.now())[0] for agent in self.world.agent_ids]
        return sum(one.certainty is Certainty.KNOWN for one in states)

    def current(self) -> set[StateLabel]:
        """Return the words for what all states are now."""
        return {label(self.exporter.agents.as_of(agent, self.now())[0]) for agent in self.world.agent_ids}

    @property
    def knows_all(self) -> bool:
        """Whether all are known now."""
        return self.known() == len(self.world.agent_ids)

    async def _check(self) -> None:
        while True:
            sent = time() - SETTLE
            for agent in self.world.agent_ids:
                said, _ = self.exporter.agents.as_of(agent, sent + self.ahead)
                self.joins[said.certainty] += 1
                truths = self.world.truths(agent, sent)
                if said.certainty is Certainty.KNOWN and label(said) not in truths:
                    self.wrong.append((agent, label(said), truths, sent))
            await asyncio.sleep(0.01)

    async def leave(self) -> None:
        """End in good order."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task
        self.exporter.close()


async def until(condition: Callable[[], bool], within: float = SOON) -> float:
    """Wait for a condition; return how many seconds it took."""
    began = time()
    while not condition():
        assert time() - began < within, "it took too long"
        await asyncio.sleep(0.005)
    return time() - began


@asynccontextmanager
async def parties(url: str, agents: int = 20, aheads: Sequence[float] = (0.0, 0.0, 0.0)) -> AsyncGenerator[list[Party]]:
    """Let several exporters share a store until all know all; at the end, hold them to having said nothing wrong."""
    world = World(agents)
    living = asyncio.create_task(world.live())
    members = [Party(url, world, ahead) for ahead in aheads]
    try:
        await until(lambda: all(one.knows_all for one in members))
        yield members
    finally:
        living.cancel()
        for one in members:
            await one.leave()
    assert [[]] * len(members) == [one.wrong for one in members]
    assert [[]] * len(members) == [one.faults for one in members]
