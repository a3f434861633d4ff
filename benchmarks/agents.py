"""How far what is known of agents can be believed, and what it costs.

    agents.py [LOOKUPS]    default 1,000,000

The first part puts questions to the directory on made-up days, on which news comes late, twice, out of order or never
and the feed is lost now and then, and holds each answer against the truth. The second keeps 100,000 agents.
"""

import gc
import random
import sys
import time
import tracemalloc
import uuid
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from agents_oracle import Ask, Confirm, Day, Suspend, Tell, parts
from call_initiation.agents.agents import Agents
from call_initiation.events import AgentState, Certainty, Presence, RoutingStatus, StateSource

AGENTS = 100_000
_ASKS = 1_000


def questions(lookups: int) -> None:
    """Ask, and print how many answers are wrong, stale or unknown."""
    answers: Counter[str] = Counter()
    began = time.perf_counter()
    for seed in range(lookups // _ASKS):
        agents = Agents()
        for step in Day(seed, agents=3, changes=40, asks=_ASKS).steps():
            match step:
                case Tell():
                    agents.apply(step.agent_id, step.update, at=step.at)
                case Confirm():
                    agents.confirm(step.agent_id, step.at)
                case Suspend():
                    agents.suspend(step.since)
                case Ask():
                    answers[_judged(agents, step)] += 1
    total = answers.total()
    print(f"{total:,} lookups on {lookups // _ASKS:,} days in {time.perf_counter() - began:.0f} s")
    print(f"wrong although known: {answers['wrong']:,}")
    for word in ("known", "under way", "stale", "unknown"):
        print(f"{word:>10}: {answers[word] / total:6.1%}")


def _judged(agents: Agents, ask: Ask) -> str:
    """Say what an answer is worth; while news of that moment is under way, there is no truth to hold it against."""
    state, _ = agents.as_of(ask.agent_id, ask.sent)
    if state.certainty is not Certainty.KNOWN:
        return state.certainty
    if ask.truth is None:
        return "under way"
    return "known" if parts(state) == ask.truth else "wrong"


def size() -> None:
    """Print what 100,000 agents take, and how long it takes to look one up."""
    draw = random.Random(1)  # noqa: S311 - a benchmark is repeatable
    ids = [str(uuid.UUID(int=draw.getrandbits(128), version=4)) for _ in range(AGENTS)]
    gc.collect()
    tracemalloc.start()
    agents = Agents(limit=AGENTS)
    for number, agent_id in enumerate(ids):
        _fill(agents, agent_id, 1_790_000_000.0 + number / 1000, draw)
    gc.collect()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    took = sorted(_timed(agents, draw.choice(ids)) for _ in range(200_000))
    print(f"{len(agents):,} agents: {held / 1e6:.0f} MB")
    print(f"lookup: p50 {took[len(took) // 2] / 1e3:.1f} us, p99 {took[len(took) * 99 // 100] / 1e3:.1f} us")


def _fill(agents: Agents, agent_id: str, at: float, draw: random.Random) -> None:
    """Tell a snapshot with a station of its own, and a few changes."""
    station = str(uuid.UUID(int=draw.getrandbits(128), version=4))
    first = AgentState(
        presence=Presence.AVAILABLE,
        routing_status=RoutingStatus.OFF_QUEUE,
        on_call=0,
        wrap_up=0,
        station=station,
        source=StateSource.REST,
    )
    agents.apply(agent_id, first, at=at)
    agents.confirm(agent_id, at)
    for number in range(3):
        presence = draw.choice(list(Presence))
        agents.apply(agent_id, AgentState(presence=presence, source=StateSource.NOTIFICATION), at=at + 60 * number)


def _timed(agents: Agents, agent_id: str) -> int:
    began = time.perf_counter_ns()
    agents.as_of(agent_id, 1_790_100_000.0)
    return time.perf_counter_ns() - began


if __name__ == "__main__":
    questions(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
    size()
