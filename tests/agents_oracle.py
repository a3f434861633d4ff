"""A naive twin of `Agents`, and seeded days of a pretend organisation to put questions to both.

The twin keeps everything that it was ever told and works every answer out anew. A day knows the truth, too: what each
agent's state really was, however late, doubled or lost the news of it were.
"""

from bisect import insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf
from operator import itemgetter
from random import Random
from typing import Any

from call_initiation.agents.agents import HISTORY
from call_initiation.events import (
    UNKNOWN_STATE,
    AgentState,
    Certainty,
    Presence,
    RoutingStatus,
    StateSource,
)

PARTS = ("presence", "routing_status", "on_call", "wrap_up", "station", "out_of_office")


@dataclass
class Agent:
    """All that was told of one agent.

    Attributes:
        changes: Server time and what was told, each once; in the order of time, ties in the order of arrival.
        vouched: The latest stretch of time that the feed vouches for.
        before: The one before that.
        is_muddled: Something arrived after 16 newer changes: ties can't be told from repetitions, and ages are guesses.
    """

    changes: list[tuple[float, AgentState]] = field(default_factory=list)
    vouched: tuple[float, float] = (inf, -inf)
    before: tuple[float, float] = (inf, -inf)
    is_muddled: bool = False

    def floor(self) -> float:
        """Return the time of the newest change that history need not keep."""
        return self.changes[-HISTORY - 1][0] if len(self.changes) > HISTORY else -inf


class Oracle:
    """What `Agents` ought to answer, by the laws at its head."""

    def __init__(self) -> None:
        """Start with nothing told."""
        self.agents: dict[str, Agent] = {}

    def apply(self, agent_id: str, update: AgentState, at: float) -> None:
        """Keep one telling, if it is a new one."""
        agent = self.agents.setdefault(agent_id, Agent())
        agent.is_muddled |= at <= agent.floor()
        if (at, update) not in agent.changes:
            insort(agent.changes, (at, update), key=itemgetter(0))

    def confirm(self, agent_id: str, at: float) -> None:
        """Start a stretch that the feed vouches for, unless there is one or it would start before the doubt."""
        agent = self.agents.get(agent_id)
        if agent and at >= agent.vouched[1]:
            agent.before = agent.vouched if agent.vouched[0] <= agent.vouched[1] else agent.before
            agent.vouched = (at, inf)

    def suspend(self, since: float, agent_ids: list[str] | None = None) -> None:
        """End the stretches."""
        for agent_id, agent in self.agents.items():
            if agent_ids is None or agent_id in agent_ids:
                agent.vouched, agent.before = ((start, min(end, since)) for start, end in (agent.vouched, agent.before))

    def is_muddled(self, agent_id: str) -> bool:
        """Say whether only the law of no wrong `known` can be asked of this agent."""
        return agent_id in self.agents and self.agents[agent_id].is_muddled

    def as_of(self, agent_id: str, sent: float) -> AgentState:
        """Return the state strictly before the send."""
        agent = self.agents.get(agent_id, Agent())
        before = [change for change in agent.changes if change[0] < sent]
        if not before or sent <= agent.floor():
            return UNKNOWN_STATE
        tellings = {part: [one for one in before if getattr(one[1], part) is not None] for part in PARTS}
        told = {part: ones for part, ones in tellings.items() if ones}
        since, source = max((self._became(part, ones, before) for part, ones in told.items()), key=lambda one: one[0])
        is_known = all(self._is_vouched(agent, ones[-1][1], sent) for ones in told.values())
        return AgentState(
            **{part: getattr(ones[-1][1], part) for part, ones in told.items()},
            since=since[0],
            source=source,
            certainty=Certainty.KNOWN if is_known else Certainty.STALE,
        )

    @staticmethod
    def _became(
        part: str, ones: list[tuple[float, AgentState]], before: list[tuple[float, AgentState]]
    ) -> tuple[tuple[float, int], StateSource]:
        """Return when a part became what it is (its time and its place in the order), and who said so."""
        first = ones[-1]
        for one in reversed(ones):
            if getattr(one[1], part) != getattr(ones[-1][1], part):
                break
            first = one
        return (first[0], before.index(first)), first[1].source

    @staticmethod
    def _is_vouched(agent: Agent, update: AgentState, sent: float) -> bool:
        is_fed = any(start <= sent <= end for start, end in (agent.vouched, agent.before))
        return update.source is StateSource.CALLER or (update.source is not StateSource.NONE and is_fed)


def parts(state: AgentState) -> tuple[Any, ...]:
    """Return what a state says, however it is known."""
    return tuple(getattr(state, part) for part in PARTS)


@dataclass(frozen=True)
class Tell:
    """A part of a state is told."""

    agent_id: str
    update: AgentState
    at: float


@dataclass(frozen=True)
class Confirm:
    """The feed vouches for an agent."""

    agent_id: str
    at: float


@dataclass(frozen=True)
class Suspend:
    """The feed may have missed changes of all agents."""

    since: float


@dataclass(frozen=True)
class Ask:
    """A call was sent. `truth`: what the parts really were; None while news of that time is still under way."""

    agent_id: str
    sent: float
    truth: tuple[Any, ...] | None


Step = Tell | Confirm | Suspend | Ask

_LENGTH = 900.0  # seconds of a day
_VALUES: dict[str, list[Any]] = {
    "presence": list(Presence),
    "routing_status": list(RoutingStatus),
    "on_call": [0, 1, 2],
    "wrap_up": [0, 1],
    "station": ["", "station-1", "station-2"],
    "out_of_office": [False, True],
}
_TIMED = ("presence", "routing_status")  # a snapshot says when these changed


@dataclass(frozen=True)
class _Outage:
    """Changes after `since` are lost up to `end`; the feed notices at `noticed`."""

    since: float
    noticed: float
    end: float


class Day:
    """One day of a few agents, their changes, the outages of the feed, and calls; all from one seed."""

    def __init__(self, seed: int, *, agents: int = 3, changes: int = 40, asks: int = 200) -> None:
        """Draw what happens; `steps` says in which order we hear of it."""
        self._random = Random(seed)  # noqa: S311 - a seed makes a failure repeatable
        self._ids = [f"agent-{number}" for number in range(agents)]
        self._truth = {agent_id: self._changes(changes) for agent_id in self._ids}
        self._outages = list(self._draw_outages())
        self._arrivals = {agent_id: self._deliver(agent_id) for agent_id in self._ids}
        self._asks = asks

    def steps(self) -> Iterator[Step]:
        """Yield what happens at our end, in the order of our time."""
        heard: list[tuple[float, Step]] = [(outage.noticed, Suspend(outage.since)) for outage in self._outages]
        for agent_id, arrivals in self._arrivals.items():
            heard += (
                (arrival, Tell(agent_id, update, at)) for at, update, all_of_it in arrivals for arrival in all_of_it
            )
            for back in (0.0, *(outage.end for outage in self._outages)):
                heard += self._snapshot(agent_id, back)
        heard += (self._ask() for _ in range(self._asks))
        yield from (step for _, step in sorted(heard, key=lambda one: one[0]))

    def _changes(self, count: int) -> list[tuple[float, str, Any]]:
        """Draw true changes: when, which part, to what; the first ones tell every part."""
        drawn = [(self._random.uniform(0, _LENGTH), self._random.choice(PARTS)) for _ in range(count)]
        first = [(-self._random.uniform(1, 9000), part) for part in PARTS]
        return sorted((at, part, self._random.choice(_VALUES[part])) for at, part in (*first, *drawn))

    def _draw_outages(self) -> Iterator[_Outage]:
        """Draw outages that don't overlap."""
        end = 0.0
        while (start := end + self._random.uniform(30, 400)) < _LENGTH:
            end = start + self._random.uniform(0, 60)
            noticed = self._random.uniform(start, end)
            yield _Outage(start - self._random.uniform(0, 5), noticed, end)

    def _deliver(self, agent_id: str) -> list[tuple[float, AgentState, list[float]]]:
        """Send each change: mostly soon, sometimes late, sometimes twice; not while the feed is out."""
        return [
            (
                at,
                AgentState(**{part: value}, source=StateSource.NOTIFICATION),
                [] if self._is_lost(at) else self._post(at),
            )
            for at, part, value in self._truth[agent_id]
            if at > 0
        ]

    def _is_lost(self, at: float) -> bool:
        return any(outage.since < at <= outage.end for outage in self._outages)

    def _post(self, at: float) -> list[float]:
        """Draw when one notification arrives, and when it arrives again."""
        delays = [self._random.expovariate(self._random.choice((10, 1, 0.05))) for _ in range(2)]
        return [at + delay for delay in delays[: self._random.choice((1, 1, 1, 2))]]

    def _snapshot(self, agent_id: str, back: float) -> Iterator[tuple[float, Step]]:
        """Read an agent's state anew: asked, taken and answered at three moments; changes go on meanwhile."""
        asked = back + self._random.uniform(0.01, 0.5)
        taken = asked + self._random.uniform(0.01, 2)
        answered = taken + self._random.uniform(0.01, 2)
        for at, part, value in self._newest(agent_id, taken).values():
            update = AgentState(**{part: value}, source=StateSource.REST)
            yield answered, Tell(agent_id, update, at if part in _TIMED else asked)
        yield answered, Confirm(agent_id, answered)

    def _newest(self, agent_id: str, before: float) -> dict[str, tuple[float, str, Any]]:
        """Return the true newest change of each part strictly before a moment."""
        return {change[1]: change for change in self._truth[agent_id] if change[0] < before}

    def _ask(self) -> tuple[float, Ask]:
        """Draw a call and when its agent's state is looked up."""
        agent_id, now = self._random.choice(self._ids), self._random.uniform(0, _LENGTH)
        sent = now - self._random.choice((2.0, 2.0, 0.0, self._random.uniform(0, 200)))
        newest = self._newest(agent_id, sent)
        truth = tuple(newest[part][2] if part in newest else None for part in PARTS)
        return now, Ask(agent_id, sent, truth if self._is_settled(agent_id, sent, now) else None)

    def _is_settled(self, agent_id: str, sent: float, now: float) -> bool:
        """Say whether all news of before the send that will ever arrive has, and all outages of then were noticed."""
        under_way = any(
            at < sent and all_of_it and min(all_of_it) > now for at, _, all_of_it in self._arrivals[agent_id]
        )
        return not under_way and all(outage.noticed <= now for outage in self._outages if outage.since < sent)
