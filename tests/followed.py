"""A feed that follows a pretend organisation in quick time, and a check of all that it knows against the truth."""

import asyncio
from bisect import bisect_left
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager, suppress
from random import Random
from typing import Any, Final, TypeVar

import httpx

import leaping
from call_initiation.agents.agents import label
from call_initiation.agents.skew import http_date
from call_initiation.agents.timeline import Timeline
from call_initiation.api.genesys import GenesysApi
from call_initiation.api.pacing import Budget
from call_initiation.api.sockets import connector
from call_initiation.api.tokens import Credentials, Tokens
from call_initiation.events import Certainty, Event, StateLabel
from call_initiation.exporter import Exporter
from call_initiation.feed.feed import Door, Feed
from call_initiation.feed.follow import Following
from call_initiation.feed.outage import Outage
from call_initiation.feed.shard import Means
from call_initiation.recording.updates import Told
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

START: Final = 1_790_000_000.0
SETTLE: Final = 10.0
"""Seconds from a send to its record."""

UNDER_WAY: Final = 0.0005
"""Real seconds for what is under way between two sockets of this process."""

LATENCY: Final = 0.1
"""Seconds that an answer of the API takes on average; notifications overtake it."""

LOOKS_EVERY: Final = 0.05

Result = TypeVar("Result")


def in_quick_time(story: Coroutine[Any, Any, Result]) -> Result:
    """Run a story by a time that passes only while nothing is under way, and then leaps."""
    return leaping.run(story, UNDER_WAY)


def now() -> float:
    """Return the time of the story that is running."""
    return START + asyncio.get_running_loop().time()


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

    def __init__(self, organisation: Truthful, url: str, http: httpx.AsyncClient) -> None:
        self.organisation = organisation
        self.time = now
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
        """Wait for a condition; return how many seconds it took."""
        began = self.time()
        while not condition():
            assert self.time() - began < within, "it took too long"
            await asyncio.sleep(LOOKS_EVERY)
        return self.time() - began

    async def for_seconds(self, seconds: float) -> None:
        """Let time pass."""
        await asyncio.sleep(seconds)

    async def check(self) -> None:
        """Ask for each agent's state again and again, as of a send that has settled, and hold it against the truth.

        Who is deleted has no true state: until a read shows it, what was so before is told.
        """
        while True:
            sent, gone = self.time() - SETTLE, self.organisation.disturbances.deleted
            for agent in (one for one in self.organisation.agent_ids if one not in gone):
                state, _ = self.exporter.agents.as_of(agent, sent)
                self.joins[state.certainty] += 1
                said, truth = label(state), self.organisation.truth(agent, sent)
                if state.certainty is Certainty.KNOWN and said is not truth:
                    self.wrong.append((agent, said, truth, sent))
            await asyncio.sleep(0.7)


@asynccontextmanager
async def following(
    agents: int = 60,
    *,
    pace: float = 8.0,
    seed: int = 1,
    whom: Following | None = None,
    behaviour: Behaviour | None = None,
) -> AsyncGenerator[Followed]:
    """Follow a pretend organisation."""
    organisation = Truthful(
        seed, agents, started=now(), behaviour=behaviour or Behaviour(pace=pace, rate_limit=100_000)
    )
    hooks: dict[str, list[Callable[..., Any]]] = {"request": [], "response": []}
    async with (
        Server(organisation, clock=now, latency=LATENCY) as server,
        httpx.AsyncClient(trust_env=False, event_hooks=hooks) as http,
        httpx.AsyncClient(trust_env=False) as other,
        connector(httpx.create_ssl_context()) as connect,
    ):
        run = Followed(organisation, server.url, other)
        tokens = Tokens(Credentials(CLIENT_ID, CLIENT_SECRET), server.url, http, now)
        api = GenesysApi(http, tokens, server.url, Budget(), clock=now)
        random = Random(seed).random  # noqa: S311 - a seed makes a failure repeatable
        outage = Outage("the state feed", 90.0, now)
        means = Means(api, connect, run.tell, now, asyncio.sleep, random, run.timeline, run.faults.append, outage)
        feed = run.feed = Feed(means, whom or Following(tuple(organisation.agent_ids)))

        async def note_date(response: httpx.Response) -> None:
            date = http_date(response.headers["date"])
            last_good = run.timeline.good_at
            sent = response.request.extensions["sent"]
            if date is not None and run.timeline.observe_date(date, sent, now()):
                feed.jumped(last_good)
            feed.skewed(run.timeline.skew)

        async def note_start(request: httpx.Request) -> None:
            request.extensions["sent"] = now()

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
