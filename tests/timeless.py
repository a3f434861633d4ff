"""A pretend organisation without sockets, for stories in an event loop whose time leaps: always alike."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from random import Random
from typing import Any, Final

import httpx

from call_initiation.agents.timeline import Timeline
from call_initiation.api.genesys import GenesysApi
from call_initiation.api.pacing import Budget
from call_initiation.api.tokens import Credentials, Tokens
from call_initiation.events import Certainty, Event
from call_initiation.exporter import Exporter
from call_initiation.feed.outage import Outage
from call_initiation.feed.shard import Means
from call_initiation.recording.updates import Told
from call_initiation.simulator.disturbances import Strike
from call_initiation.simulator.exchange import Request
from call_initiation.simulator.lines import Ending, Item, Line
from call_initiation.simulator.oauth import CLIENT_ID, CLIENT_SECRET
from call_initiation.simulator.org import CALM, Organisation

START: Final = 1_790_000_000.0
URL: Final = "https://api.example.com"
_LOOKS_EVERY: Final = 0.1


class Wire:
    """One socket to the pretend organisation.

    Attributes:
        is_broken: Whether nothing can be sent any more.
    """

    def __init__(self, world: "World", line: Line) -> None:
        self._world = world
        self._line = line
        self._heard: deque[Item] = deque()
        self.is_broken = False

    async def send(self, text: str) -> None:
        """Send one text frame."""
        if self.is_broken:
            raise ConnectionError
        self._world.organisation.channels.hear(self._line, text, self._world.advance())

    async def receive(self) -> str | bytes | None:
        """Return the next frame, or None at the end."""
        while not self._heard:
            self._heard += self._line.take(self._world.advance())
            await asyncio.sleep(0.0 if self._heard else _LOOKS_EVERY)
        frame = self._heard.popleft()
        return None if isinstance(frame, Ending) else frame

    async def close(self) -> None:
        """Hang up."""
        self._world.organisation.channels.disconnect(self._line)


class World:
    """The organisation, what a feed works with, and what the feed tells.

    Args:
        agents: How many there are.
        pace: How many times faster than in a real call centre they live.
        token_seconds: How long a token lives.

    Attributes:
        answers: What is answered instead of the organisation, by method and the path's end.
        wires: All sockets so far, the latest last.
        channel_ids: Of each of them.
    """

    def __init__(self, agents: int = 3, pace: float = 0.001, token_seconds: int = CALM.token_seconds) -> None:
        behaviour = replace(CALM, refusals={}, rate_limit=100_000, pace=pace, token_seconds=token_seconds)
        self.organisation = Organisation(1, agents, started=START, behaviour=behaviour)
        self.exporter = Exporter()
        self.told: list[Told] = []
        self.events: list[Event] = []
        self.faults: list[str] = []
        self.answers: dict[tuple[str, str], Callable[[], httpx.Response]] = {}
        self.wires: list[Wire] = []
        self.channel_ids: list[str] = []
        client = httpx.AsyncClient(transport=httpx.MockTransport(self._answer), trust_env=False)
        tokens = Tokens(Credentials(CLIENT_ID, CLIENT_SECRET), URL, client, self.now)
        self.api = GenesysApi(client, tokens, URL, Budget(), clock=self.now)
        random = Random(1).random  # noqa: S311 - the same each time
        self.means = Means(
            self.api,
            self._connect,
            self._tell,
            self.now,
            asyncio.sleep,
            random,
            Timeline(),
            self.faults.append,
            Outage("the state feed", 90.0, self.now),
        )

    def now(self) -> float:
        """Return the time."""
        return START + asyncio.get_running_loop().time()

    def advance(self) -> float:
        """Bring the organisation up to now."""
        now = self.now()
        self.organisation.channels.advance(self.organisation.advance(now), now)
        return now

    def disturb(self, **changes: Any) -> None:
        """Make something go wrong, or well again."""
        self.organisation.disturbances = replace(self.organisation.disturbances, **changes)

    def strike(self, strike: Strike) -> None:
        """Do something to every socket."""
        self.organisation.strike(strike, self.advance())

    def certainty(self, agent_id: str) -> Certainty:
        """Return how far an agent's state is known now."""
        return self.exporter.agents.as_of(agent_id, self.now())[0].certainty

    def known(self) -> int:
        """Return how many agents' states are known now."""
        return sum(self.certainty(agent_id) is Certainty.KNOWN for agent_id in self.organisation.agent_ids)

    async def until(self, condition: Callable[[], bool], within: float = 600.0) -> float:
        """Wait for a condition; return how many seconds it took."""
        began = self.now()
        while not condition():
            assert self.now() - began < within, "it never came"
            await asyncio.sleep(_LOOKS_EVERY)
        return self.now() - began

    def _tell(self, told: Told) -> bool:
        self.told.append(told)
        self.events += self.exporter._apply(told)
        return True

    def _answer(self, request: httpx.Request) -> httpx.Response:
        for (method, end), answer in self.answers.items():
            if request.method == method and request.url.path.endswith(end):
                return answer()
        target: bytes = request.extensions.get("target", request.url.raw_path)
        path, _, query = target.decode().partition("?")
        headers = {name.lower(): value for name, value in request.headers.items()}
        asked = Request(method=request.method, path=path, query=query, headers=headers, body=request.content)
        answer = self.organisation.answer(asked, self.advance())
        return httpx.Response(answer.status, headers=dict(answer.headers), content=answer.body)

    async def _connect(self, url: str) -> Wire:
        channel_id = url.rpartition("/")[2]
        if self.organisation.disturbances.down:
            raise ConnectionError
        line = self.organisation.channels.connect(channel_id, self.advance())
        if line is None:
            raise ConnectionRefusedError
        self.channel_ids.append(channel_id)
        self.wires.append(Wire(self, line))
        return self.wires[-1]


def refusal() -> httpx.Response:
    """Return an answer that says: not now."""
    return httpx.Response(503, json={"code": "service.unavailable", "status": 503})


@asynccontextmanager
async def living(work: Coroutine[Any, Any, None]) -> AsyncGenerator[None]:
    """Let some work go on until the end of the block; it mustn't end before."""
    task = asyncio.create_task(work)
    try:
        yield
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.wait([task])
