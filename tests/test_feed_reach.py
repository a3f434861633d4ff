"""Whom a feed reaches, and how: by channels, by reads in turn, by their teams and calls; and what fails.

A pretend organisation is at the other end; its time leaps, so nothing here waits.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from call_initiation.errors import UpstreamError
from call_initiation.events import Certainty, FeedChange, SkewChange, StateSource
from call_initiation.feed.feed import Door, Feed, whose
from call_initiation.feed.follow import Following
from call_initiation.feed.members import EVERY
from call_initiation.simulator.disturbances import Strike
from call_initiation.simulator.org import Organisation, user_token
from leaping import run
from timeless import World, living, refusal


class Rig(World):
    """A feed, and its door."""

    def __init__(self, following: Following | None = None, **made: Any) -> None:
        super().__init__(**made)
        self.door = Door()
        self.feed = Feed(self.means, following or Following(tuple(self.organisation.agent_ids)))

    @property
    def changes(self) -> list[tuple[str, str]]:
        """How the feed was, and why."""
        return [(one.state.value, one.reason) for one in self.told if isinstance(one, FeedChange)]

    def have(self) -> set[str]:
        """Return of whom anything is known."""
        return {agent for agent in self.organisation.agent_ids if self.exporter.agents.known(agent)}

    @asynccontextmanager
    async def followed(self) -> AsyncGenerator["Rig"]:
        """Run the feed until the end of the block."""
        async with living(self.feed.run(self.door)):
            yield self


def test_a_feed_is_up_once_all_are_known() -> None:
    """And down when it ends."""

    async def told() -> list[tuple[str, str]]:
        rig = Rig()
        async with rig.followed():
            await rig.until(lambda: ("up", "") in rig.changes)
            assert 3 == rig.known()
        return rig.changes

    assert [("down", ""), ("up", ""), ("down", "stopped")] == run(told())


ONE_QUEUE = tuple(Organisation(1, 3).teams.queues)[:1]


@pytest.mark.parametrize("following", [Following(as_seen=True), Following(queue_ids=ONE_QUEUE)])
def test_a_feed_with_nobody_to_follow_is_up_while_the_api_lets_us_in(following: Following) -> None:
    """Nothing is missed; where no token can be had, whoever came wouldn't be followed."""

    async def told() -> None:
        rig = Rig(following, token_seconds=600)
        rig.disturb(members=dict.fromkeys(following.queue_ids, ()))
        rig.answers["POST", "/oauth/token"] = refusal
        async with rig.followed():
            await asyncio.sleep(120)
            assert ("up", "") not in rig.changes
            rig.answers.clear()
            await rig.until(lambda: ("up", "") in rig.changes)
            rig.answers["POST", "/oauth/token"] = refusal
            await rig.until(lambda: ("down", "connect_failed") in rig.changes)
            rig.answers.clear()
            await rig.until(lambda: ("up", "connect_failed") in rig.changes)
            rig.door.seen(rig.organisation.agent_ids[0])
            await rig.until(lambda: rig.known() == following.as_seen)
        assert [] == rig.faults

    run(told())


def test_a_feed_whose_teams_were_never_read_is_down() -> None:
    """It may have missed anybody."""
    queue = next(iter(Organisation(1, 10).teams.queues))

    async def told() -> None:
        rig = Rig(Following(queue_ids=(queue,)), agents=10)
        rig.answers["GET", f"/queues/{queue}/members"] = refusal
        async with rig.followed():
            await asyncio.sleep(120)
            assert [("down", "")] == rig.changes

    run(told())


def test_a_shard_that_goes_down_takes_the_feed_with_it() -> None:
    """It is up again when all its shards are, and says what had been wrong."""

    async def told() -> list[tuple[str, str]]:
        async with Rig().followed() as rig:
            await rig.until(lambda: ("up", "") in rig.changes)
            rig.strike(Strike.DROP)
            await rig.until(lambda: ("up", "dropped") in rig.changes)
            return rig.changes

    assert [("down", ""), ("up", ""), ("down", "dropped"), ("up", "dropped")] == run(told())


def test_a_clock_that_jumped_leaves_nothing_known_until_all_is_read_anew() -> None:
    """The connection is well; the stamps weren't."""

    async def told() -> None:
        async with Rig().followed() as rig:
            await rig.until(lambda: rig.known() == 3)
            rig.feed.jumped(rig.now() - 1)
            assert 0 == rig.known()
            await rig.until(lambda: rig.known() == 3)

    run(told())


def test_a_skew_is_told_where_it_is_news() -> None:
    """By the hundredth of a second."""

    async def told() -> list[float]:
        rig = Rig()
        for seconds in (0.0, 0.009, 3.0, 3.0):
            rig.feed.skewed(seconds)
        return [one.seconds for one in rig.told if isinstance(one, SkewChange)]

    assert [0.0, 3.0] == run(told())


def test_whom_no_channel_reaches_is_read_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a state holds for the moment of its reading, and is stale in between; who is gone is forgotten."""
    monkeypatch.setattr("call_initiation.api.notifications.CHANNELS", 1)

    async def told() -> None:
        async with Rig(agents=120).followed() as rig:
            agents = rig.organisation.agent_ids
            await rig.until(lambda: all(map(rig.exporter.agents.known, agents)))
            await asyncio.sleep(0.5)
            states = [rig.exporter.agents.as_of(agent, rig.now())[0] for agent in agents]
            assert {(Certainty.STALE, StateSource.REST)} == {(one.certainty, one.source) for one in states}
            rig.disturb(deleted=tuple(agents[:1]))
            await rig.until(lambda: not rig.exporter.agents.known(agents[0]))
            assert [("down", ""), ("up", "")] == rig.changes
            assert ([], []) == (rig.wires, rig.faults)

    run(told())


def test_whom_nothing_is_heard_of_is_read_in_turn_until_it_is() -> None:
    """While no channel can be had; and while nothing can be read either, it is tried again and again."""

    async def told() -> None:
        rig = Rig()
        rig.disturb(down=True)
        rig.answers["GET", "/users"] = refusal
        async with rig.followed():
            await asyncio.sleep(60)
            assert not any(map(rig.exporter.agents.known, rig.organisation.agent_ids))
            rig.answers.clear()
            await rig.until(lambda: all(map(rig.exporter.agents.known, rig.organisation.agent_ids)))
            await asyncio.sleep(0.5)
            assert 0 == rig.known()
            rig.disturb(down=False)
            await rig.until(lambda: rig.known() == 3)
            assert [] == rig.faults

    run(told())


def test_an_api_that_is_away_for_an_hour_is_told_of_a_few_times(caplog: pytest.LogCaptureFixture) -> None:
    """However often it is tried; and that it is well again."""

    async def told() -> list[str]:
        rig = Rig()
        async with rig.followed():
            await rig.until(lambda: rig.known() == 3)
            rig.disturb(down=True)
            rig.strike(Strike.DROP)
            for method in ("GET", "POST"):
                rig.answers[method, ""] = refusal
            await asyncio.sleep(3600)
            away = list(caplog.messages)
            rig.answers.clear()
            rig.disturb(down=False)
            await rig.until(lambda: "the state feed is well again" in caplog.messages)
            assert 3 == rig.known()
        return away

    away = run(told())
    assert "the state feed fails, and agents' states may be stale meanwhile: " in away[0]
    assert 30 >= len(away)


def test_members_of_queues_and_groups_are_followed_as_long_as_they_are_members() -> None:
    """Each once, though several may name them; a team that can't be read holds up no other one."""
    first, second, third, *_ = Organisation(1, 10).agent_ids
    teams = Organisation(1, 10).teams
    queue, group = next(iter(teams.queues)), next(iter(teams.groups))

    async def told() -> None:
        rig = Rig(Following(queue_ids=(queue,), group_ids=(group,)), agents=10)
        rig.disturb(members={queue: (first, second), group: (second, third)})
        rig.answers["GET", f"/queues/{queue}/members"] = refusal
        async with rig.followed():
            await rig.until(lambda: rig.have() == {second, third})
            rig.answers.clear()
            await rig.until(lambda: rig.have() == {first, second, third}, 3600)
            rig.disturb(members={queue: (second,), group: (third,)})
            await rig.until(lambda: rig.have() == {second, third}, 3600)
            assert ([], 1) == (rig.faults, len(rig.wires))

    run(told())


def test_members_are_looked_up_again_after_a_loss() -> None:
    """Who came while nothing was heard isn't missed for long."""
    first, second, *_ = Organisation(1, 10).agent_ids
    group = next(iter(Organisation(1, 10).teams.groups))

    async def told() -> None:
        rig = Rig(Following(group_ids=(group,)), agents=10)
        rig.disturb(members={group: (first,)})
        async with rig.followed():
            await rig.until(lambda: rig.known() == 1)
            await asyncio.sleep(120)  # a look is followed by a rest
            rig.disturb(members={group: (first, second)})
            rig.strike(Strike.DROP)
            assert EVERY / 2 > await rig.until(lambda: rig.have() == {first, second})

    run(told())


@pytest.mark.parametrize("as_seen", [True, False])
def test_whoever_is_found_by_a_token_is_followed_where_that_is_wanted(*, as_seen: bool) -> None:
    """Whose the token is, is told in any case."""

    async def told() -> None:
        rig = Rig(Following(("nobody",), as_seen=as_seen))
        agent = rig.organisation.agent_ids[0]
        users: list[str] = []
        async with rig.followed():
            rig.door.ask(user_token(agent), users.append)
            await asyncio.sleep(60)
            assert ([agent], as_seen) == (users, rig.known() == 1)

    run(told())


def test_a_fault_of_ours_is_counted_and_ends_nothing() -> None:
    """Whoever comes to the door next is let in."""

    async def told() -> None:
        rig = Rig()
        token = user_token(rig.organisation.agent_ids[0])
        users: list[str] = []

        def fail(_: str) -> None:
            raise ZeroDivisionError

        async with rig.followed():
            rig.door.ask(token, fail)
            await rig.until(lambda: rig.faults == ["feed"])
            rig.door.ask(token, users.append)
            await rig.until(lambda: users == rig.organisation.agent_ids[:1])

    run(told())


@pytest.mark.parametrize("answer", [refusal, lambda: httpx.Response(200, json={"name": "No Id"})])
def test_a_token_may_name_nobody(answer: Any) -> None:
    """Because it can't be asked about now, or because the answer has no id."""

    async def told() -> tuple[str | None, list[str]]:
        rig = Rig()
        users: list[str] = []
        rig.answers["GET", "/users/me"] = answer
        return await whose(rig.api, "token", users.append), users

    assert (None, []) == run(told())


def test_a_feed_can_end_while_it_reads_who_has_just_come() -> None:
    """Nobody is followed any more then, and the end isn't put off."""

    async def told() -> None:
        rig = Rig(Following(as_seen=True))
        rig.answers["GET", "/users/me"] = lambda: httpx.Response(429, headers={"Retry-After": "60"})
        with pytest.raises(UpstreamError):
            await rig.api.me()
        async with rig.followed():
            rig.door.seen(rig.organisation.agent_ids[0])
            await asyncio.sleep(30)
        assert ([], set()) == (rig.faults, rig.have())

    run(told())
