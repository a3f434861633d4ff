"""A feed that follows a pretend organisation in quick time, and a check of all that it knows against the truth."""

import asyncio
from bisect import bisect_left
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from random import Random
from time import monotonic
from typing import Any

import httpx

from call_initiation.agents import http_date, label
from call_initiation.events import Certainty, Event, StateLabel
from call_initiation.exporter import Exporter
from call_initiation.feed import Door, Feed
from call_initiation.follow import Following
from call_initiation.genesys import GenesysApi
from call_initiation.pacing import Budget
from call_initiation.recorder import Told
from call_initiation.shard import Means
from call_initiation.simulator.org import (
    CLIENT_ID,
    CLIENT_SECRET,
    Behaviour,
    Organisation,
    OrgChange,
    user_token,
    word,
)
from call_initiation.simulator.server import Server
from call_initiation.sockets import connector
from call_initiation.timeline import Timeline
from call_initiation.tokens import Credentials, Tokens

START = 1_790_000_000.0
SETTLE = 10.0
"""Seconds from a send to its record."""


class QuickTime:
    """Time that passes faster than ours."""

    def __init__(self, speed: float) -> None:
        self.speed = speed
        self._began = monotonic()

    def __call__(self) -> float:
        """Return the time."""
        return START + (monotonic() - self._began) * self.speed

    async def sleep(self, seconds: float) -> None:
        """Wait so many seconds of this time."""
        await asyncio.sleep(seconds / self.speed)


class Truthful(Organisation):
    """An organisation that remembers what was so."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.past = {agent: [(-1.0, word(self.state(agent)))] for agent in self.agent_ids}

    def advance(self, now: float) -> list[OrgChange]:
        """Apply what is due, and remember it."""
        changes = super().advance(now)
        for change in changes:
            self.past[change.agent_id].append((change.at, word(change.state)))
        return changes

    def truth(self, agent_id: str, sent: float) -> StateLabel:
        """Return the word for an agent's state strictly before a moment."""
        past = self.past[agent_id]
        return past[bisect_left(past, sent, key=lambda one: one[0]) - 1][1]


class Followed:
    """A pretend organisation, a feed that follows it, and how the two compare."""

    def __init__(self, organisation: Truthful, time: QuickTime, url: str, http: httpx.AsyncClient) -> None:
        self.organisation = organisation
        self.time = time
        self.url = url
        self.timeline = Timeline()
        self.exporter = Exporter()
        self.events: list[Event] = []
        self.faults: list[str] = []
        self.wrong: list[tuple[str, StateLabel, StateLabel, float]] = []
        self.joins: Counter[Certainty] = Counter()
        self.door = Door()
        self.feed: Feed
        self._http = http

    def tell(self, told: Told) -> bool:
        """Apply what the feed tells at once, as the recorder's thread would."""
        for event in self.exporter._apply(told):
            self.events.append(event)
            self.exporter.aggregate.record(event)
        return True

    def label_of(self, agent_id: str) -> StateLabel:
        """Return what we say of an agent now."""
        return label(self.exporter.agents.as_of(agent_id, self.time())[0])

    async def place_call(self, agent_id: str) -> None:
        """Place a call as an agent."""
        headers = {"Authorization": f"Bearer {user_token(agent_id)}"}
        url = f"{self.url}/api/v2/conversations/calls"
        (await self._http.post(url, json={"phoneNumber": "+33199000000"}, headers=headers)).raise_for_status()

    async def disturb(self, **wish: object) -> None:
        """Make something go wrong."""
        (await self._http.post(f"{self.url}/simulator/faults", json=wish)).raise_for_status()

    def known(self, agent_ids: Iterable[str] | None = None) -> int:
        """Return how many agents' states are known now."""
        ids = self.organisation.agent_ids if agent_ids is None else agent_ids
        states = [self.exporter.agents.as_of(agent, self.time())[0] for agent in ids]
        return sum(state.certainty is Certainty.KNOWN for state in states)

    async def until(self, condition: Callable[[], bool], within: float) -> float:
        """Wait for a condition; return how many seconds of the quick time it took."""
        began = self.time()
        while not condition():
            assert self.time() - began < within, "it took too long"
            await asyncio.sleep(0.005)
        return self.time() - began

    async def for_seconds(self, seconds: float) -> None:
        """Let time pass."""
        await self.time.sleep(seconds)

    async def check(self) -> None:
        """Ask for each agent's state again and again, as of a send that has settled, and hold it against the truth."""
        while True:
            sent = self.time() - SETTLE
            for agent in self.organisation.agent_ids:
                state, _ = self.exporter.agents.as_of(agent, sent)
                self.joins[state.certainty] += 1
                said, truth = label(state), self.organisation.truth(agent, sent)
                if state.certainty is Certainty.KNOWN and said is not truth:
                    self.wrong.append((agent, said, truth, sent))
            await self.time.sleep(0.7)


@asynccontextmanager
async def following(
    agents: int = 60,
    *,
    speed: float = 12.0,
    pace: float = 8.0,
    seed: int = 1,
    whom: Following | None = None,
    behaviour: Behaviour | None = None,
) -> AsyncGenerator[Followed]:
    """Follow a pretend organisation."""
    time = QuickTime(speed)
    organisation = Truthful(
        seed, agents, started=time(), behaviour=behaviour or Behaviour(pace=pace, rate_limit=100_000)
    )
    hooks: dict[str, list[Callable[..., Any]]] = {"request": [], "response": []}
    async with (
        Server(organisation, clock=time, tick=0.005) as server,
        httpx.AsyncClient(trust_env=False, event_hooks=hooks) as http,
        httpx.AsyncClient(trust_env=False) as other,
        connector(httpx.create_ssl_context()) as connect,
    ):
        run = Followed(organisation, time, server.url, other)
        tokens = Tokens(Credentials(CLIENT_ID, CLIENT_SECRET), server.url, http, time)
        api = GenesysApi(http, tokens, server.url, Budget(), clock=time, sleep=time.sleep)
        random = Random(seed).random  # noqa: S311 - a seed makes a failure repeatable
        means = Means(api, connect, run.tell, time, time.sleep, random, run.timeline, run.faults.append)
        feed = run.feed = Feed(means, whom or Following(tuple(organisation.agent_ids)))

        async def note_date(response: httpx.Response) -> None:
            date = http_date(response.headers["date"])
            last_good = run.timeline.good_at
            sent = response.request.extensions["sent"]
            if date is not None and run.timeline.observe_date(date, sent, time()):
                feed.jumped(last_good)
            feed.skewed(run.timeline.skew)

        async def note_start(request: httpx.Request) -> None:
            request.extensions["sent"] = time()

        http.event_hooks = {"request": [note_start], "response": [note_date]}
        tasks = [asyncio.create_task(feed.run(run.door)), asyncio.create_task(run.check())]
        try:
            yield run
        finally:
            for task in tasks:
                task.cancel()
            for task in tasks:
                with suppress(asyncio.CancelledError):
                    await task
            run.exporter.close()
