"""Agents who are followed as members of queues and groups: who comes is followed, and who leaves is let go.

A pretend organisation lives in quick time, a feed follows it over real sockets, and all that is known is held against
the truth all the time.
"""

from collections.abc import AsyncGenerator, Collection
from contextlib import asynccontextmanager
from typing import Any

import pytest

from call_initiation.events import StateLabel
from call_initiation.feed.follow import Following
from call_initiation.simulator.disturbances import Disturbances
from call_initiation.simulator.org import Organisation
from call_initiation.simulator.teams import Team
from followed import Followed, following, in_quick_time

AGENTS = 40
SOON = 60.0
"""Seconds within which a change of members is to be seen."""


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at members every few seconds."""
    monkeypatch.setattr("call_initiation.feed.members.EVERY", 10.0)
    monkeypatch.setattr("call_initiation.feed.members._SHORTEST_REST", 2.0)


def teams(agents: int = AGENTS) -> tuple[Team, Team, Team]:
    """Return two queues that share some members, and a group."""
    made = Organisation(1, agents).teams
    sales, service, _ = made.queues.values()
    paris, _ = made.groups.values()
    return sales, service, paris


SALES, SERVICE, PARIS = teams()


@asynccontextmanager
async def followed(agents: int = AGENTS, **whom: Any) -> AsyncGenerator[Followed]:
    """Follow some of an organisation, and expect nothing wrong of it."""
    async with following(agents, pace=2.0, whom=Following(**whom)) as run:
        yield run
        assert ([], []) == (run.wrong, run.faults)


async def settled(run: Followed, agent_ids: Collection[str]) -> None:
    """Wait until these agents, and nobody else, are followed."""
    await run.until(lambda: have(run) == set(agent_ids) and run.known(agent_ids) >= len(agent_ids) - 2, SOON)


def have(run: Followed) -> set[str]:
    """Return whom anything is known of."""
    return {agent_id for agent_id in run.organisation.agent_ids if run.exporter.agents.known(agent_id)}


def subscribed(run: Followed) -> set[str]:
    """Return whose topics are subscribed to."""
    channels = run.organisation.channels._channels.values()
    return {user_id for channel in channels for user_id, _ in channel.topics.values()}


def test_members_of_queues_and_groups_are_followed_and_nobody_else() -> None:
    """Whoever belongs to one or to several."""
    whom = {*SALES.member_ids, *PARIS.member_ids}
    assert 0 < len(whom) < AGENTS

    async def told() -> None:
        async with followed(queue_ids=(SALES.id,), group_ids=(PARIS.id,)) as run:
            await settled(run, whom)
            assert whom == subscribed(run)
            await run.for_seconds(30)

    in_quick_time(told())


def test_a_queue_of_more_than_a_page_is_followed_whole() -> None:
    """A page has a hundred members at most."""
    sales, _, _ = teams(300)
    assert len(sales.member_ids) > 100

    async def told() -> None:
        async with followed(300, queue_ids=(sales.id,)) as run:
            await settled(run, sales.member_ids)

    in_quick_time(told())


def test_who_joins_is_followed_and_who_leaves_is_let_go() -> None:
    """Unsubscribed, forgotten, and counted no more; who comes back is followed anew."""
    stays, leaves = SALES.member_ids[1:], SALES.member_ids[0]
    joins = next(agent_id for agent_id in Organisation(1, AGENTS).agent_ids if agent_id not in SALES.member_ids)

    async def told() -> None:
        async with followed(queue_ids=(SALES.id,)) as run:
            await settled(run, SALES.member_ids)
            await run.disturb(members={SALES.id: [*stays, joins]})
            await settled(run, {*stays, joins})
            assert StateLabel.UNKNOWN is run.label_of(leaves)
            assert len(SALES.member_ids) == run.exporter.agents.current().total()
            await run.until(lambda: subscribed(run) == {*stays, joins}, SOON)
            await run.for_seconds(30)
            assert not run.exporter.agents.known(leaves)
            await run.disturb(members={})
            await settled(run, SALES.member_ids)
            await run.until(lambda: run.known([leaves]) == 1, SOON)

    in_quick_time(told())


def test_who_left_is_kept_where_something_else_asks_for_it() -> None:
    """Who is named, who was seen to place a call, and who belongs to another queue."""
    service = set(SERVICE.member_ids)
    elsewhere = next(agent_id for agent_id in SALES.member_ids if agent_id in service)
    named, seen, leaves = [agent_id for agent_id in SALES.member_ids if agent_id not in service][:3]

    async def told() -> None:
        async with followed(agent_ids=(named,), queue_ids=(SALES.id, SERVICE.id), as_seen=True) as run:
            await settled(run, {*SALES.member_ids, *service})
            run.door.seen(seen)
            gone = {named, seen, leaves, elsewhere}
            await run.disturb(members={SALES.id: [one for one in SALES.member_ids if one not in gone]})
            await settled(run, {*SALES.member_ids, *service} - {leaves})
            assert 4 == len(gone)
            await run.disturb(members={SALES.id: [], SERVICE.id: []})
            await settled(run, {named, seen})

    in_quick_time(told())


def test_a_queue_that_cannot_be_read_keeps_its_members_and_holds_up_no_other() -> None:
    """One that isn't there, and all of them for a while."""

    async def told() -> None:
        async with followed(queue_ids=("nothing", SALES.id)) as run:
            await settled(run, SALES.member_ids)
            await run.disturb(retry_after=1.0)
            await run.for_seconds(30)
            assert set(SALES.member_ids) == have(run)
            await run.disturb(retry_after=0.0, members={SALES.id: SALES.member_ids[:2]})
            await settled(run, SALES.member_ids[:2])

    in_quick_time(told())


def test_members_are_looked_at_again_after_a_lost_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it is until the next look."""
    monkeypatch.setattr("call_initiation.feed.members.EVERY", 100_000.0)

    async def told() -> None:
        async with followed(queue_ids=(SALES.id,)) as run:
            await settled(run, SALES.member_ids)
            await run.disturb(members={SALES.id: SALES.member_ids[1:]})
            await run.for_seconds(20)
            assert set(SALES.member_ids) == have(run)
            await run.disturb(strike="drop")
            await settled(run, SALES.member_ids[1:])

    in_quick_time(told())


def test_members_whom_no_channel_reaches_come_and_go_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are read in turn, and then no more."""
    monkeypatch.setattr("call_initiation.api.notifications.CHANNELS", 1)

    async def told() -> None:
        async with followed(queue_ids=(SALES.id,)) as run:
            await run.until(lambda: have(run) == set(SALES.member_ids), SOON)
            await run.disturb(members={SALES.id: SALES.member_ids[1:]})
            await run.until(lambda: have(run) == set(SALES.member_ids[1:]), SOON)
            await run.for_seconds(20)
            assert set(SALES.member_ids[1:]) == have(run)

    in_quick_time(told())


def test_who_leaves_while_no_channel_can_be_had_is_let_go_at_once() -> None:
    """And isn't subscribed to once one can."""

    async def told() -> None:
        async with followed(queue_ids=(SALES.id,)) as run:
            run.organisation.disturbances = Disturbances(forbidden=True)
            await run.until(lambda: have(run) == set(SALES.member_ids), SOON)
            await run.disturb(members={SALES.id: SALES.member_ids[1:]})
            await run.until(lambda: have(run) == set(SALES.member_ids[1:]), SOON)
            await run.disturb(forbidden=False)
            await settled(run, SALES.member_ids[1:])
            assert set(SALES.member_ids[1:]) == subscribed(run)

    in_quick_time(told())
