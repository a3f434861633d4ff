"""Where no channel can be had, agents are read in turn: what is shown is told, and vouched for at that moment only.

A pretend organisation lives in quick time, a feed follows it over real sockets, and all that is known is held against
the truth all the time.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise

from call_initiation.events import AgentState, Certainty, FeedChange, FeedState, StateLabel, StateSource
from followed import Followed, following, in_quick_time

AGENTS = 60
SOON = 60.0
"""Seconds within which everyone was read."""

FEW = 4
"""How many agents may be in doubt, or shown as they were, at any moment of a busy day."""

SHOWN = {(Certainty.STALE, StateSource.REST)}
"""How far a state can be believed that was read, and since when nothing is heard of."""


@asynccontextmanager
async def cut_off(**disturbed: bool) -> AsyncGenerator[Followed]:
    """Follow an organisation that is disturbed from the start, and expect nothing wrong of it."""
    async with following(AGENTS, pace=0.001) as run:
        run.organisation.disturbances = replace(run.organisation.disturbances, **disturbed)
        yield run
        assert ([], []) == (run.wrong, run.faults)


def states(run: Followed) -> list[AgentState]:
    """Return what is said of the agents now."""
    return [run.exporter.agents.as_of(one, run.time())[0] for one in run.organisation.agent_ids]


def belief(run: Followed) -> set[tuple[Certainty, StateSource]]:
    """Return how far the states can be believed, and who told them."""
    return {(state.certainty, state.source) for state in states(run)}


def health(run: Followed) -> list[tuple[FeedState, str]]:
    """Return what was told of the feed, without repetitions."""
    told = [(one.state, one.reason) for one in run.events if isinstance(one, FeedChange)]
    return told[:1] + [after for before, after in pairwise(told) if after != before]


async def all_shown(run: Followed) -> None:
    """Wait until everyone was read, and see that what is shown is so."""
    await run.until(lambda: belief(run) == SHOWN, SOON)
    truth = [run.organisation.state(agent_id) for agent_id in run.organisation.agent_ids]
    assert [(one.presence, one.station) for one in truth] == [(one.presence, one.station) for one in states(run)]
    assert {StateLabel.UNKNOWN: AGENTS} == run.exporter.agents.current()


def test_agents_are_read_where_channels_are_forbidden() -> None:
    """The feed is down all the while, and says why; channels are tried on, and once there is one all is known."""

    async def told() -> None:
        async with cut_off(forbidden=True) as run:
            await all_shown(run)
            assert [(FeedState.DOWN, ""), (FeedState.DOWN, "connect_failed")] == health(run)
            await run.disturb(forbidden=False)
            await run.until(lambda: run.known() == AGENTS, SOON)
            await run.until(lambda: health(run)[-1][0] is FeedState.UP, SOON)
            await run.for_seconds(30)
            assert AGENTS == run.known()

    in_quick_time(told())


def test_agents_are_read_where_no_socket_can_be_opened() -> None:
    """Channels can be made there, and it is of no use."""

    async def told() -> None:
        async with cut_off(down=True) as run:
            await all_shown(run)
            assert (FeedState.DOWN, "connect_failed") == health(run)[-1]
            await run.disturb(down=False)
            await run.until(lambda: run.known() == AGENTS, SOON)

    in_quick_time(told())


def test_what_was_heard_before_gives_way_to_what_is_read() -> None:
    """Agents go on living: nothing is called known that isn't so, and what is shown moves with the truth."""

    async def told() -> None:
        async with following(AGENTS, pace=4.0) as run:
            await run.until(lambda: run.known() >= AGENTS - FEW, SOON)
            await run.disturb(forbidden=True, strike="evict")
            await run.until(lambda: run.known() == 0, SOON)
            before = states(run)
            await run.for_seconds(60)
            moved = [now for was, now in zip(before, states(run), strict=True) if was != now]
            assert len(moved) > FEW
            assert SHOWN == {(now.certainty, now.source) for now in moved}
            presences = [run.organisation.state(agent_id).presence for agent_id in run.organisation.agent_ids]
            late = sum(state.presence is not truth for state, truth in zip(states(run), presences, strict=True))
            assert (True, 0) == (late <= FEW, run.known())
            await run.disturb(forbidden=False)
            await run.until(lambda: run.known() >= AGENTS - FEW, SOON)
            await run.for_seconds(20)
            assert ([], []) == (run.wrong, run.faults)
            assert (FeedState.UP, "evicted") == next(one for one in reversed(health(run)) if one[0] is FeedState.UP)

    in_quick_time(told())


def test_who_is_deleted_meanwhile_is_unknown() -> None:
    """A read shows it."""

    async def told() -> None:
        async with cut_off(forbidden=True) as run:
            await all_shown(run)
            gone = run.organisation.agent_ids[:2]
            await run.disturb(deleted=gone)
            await run.until(lambda: not any(map(run.exporter.agents.known, gone)), SOON)

    in_quick_time(told())
