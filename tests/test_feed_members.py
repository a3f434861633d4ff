"""Members who come and go, and channels that come back, at the very moment at which something else is under way.

A pretend organisation is at the other end; its time leaps, so nothing here waits.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from call_initiation.events import Certainty
from call_initiation.feed.feed import Door, Feed
from call_initiation.feed.follow import Following
from call_initiation.recording.updates import Forgotten, Told
from call_initiation.simulator.disturbances import Strike
from call_initiation.simulator.org import Organisation
from leaping import run
from timeless import World, living, refusal

AGENTS = 6
SLOW = 20.0
"""Seconds; our requests are given up later."""

QUEUE = next(iter(Organisation(1, AGENTS).teams.queues.values()))


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at members every few seconds."""
    monkeypatch.setattr("call_initiation.feed.members.EVERY", 10.0)
    monkeypatch.setattr("call_initiation.feed.members._SHORTEST_REST", 2.0)


class Rig(World):
    """A feed to an organisation of which single answers take long.

    Attributes:
        slow: Of which requests the next one takes so long: methods and the paths' ends.
        is_full: Whether the recorder has no room to forget anybody.
    """

    def __init__(self, **whom: Any) -> None:
        super().__init__(AGENTS)
        self.slow: set[tuple[str, str]] = set()
        self.is_full = False
        self.feed = Feed(self.means, Following(**whom))

    @asynccontextmanager
    async def followed(self) -> AsyncGenerator["Rig"]:
        """Run the feed until the end of the block."""
        async with living(self.feed.run(Door())):
            yield self
        assert [] == self.faults

    def have(self) -> set[str]:
        """Return whom anything is known of."""
        return {agent_id for agent_id in self.organisation.agent_ids if self.exporter.agents.known(agent_id)}

    def move(self, *member_ids: str) -> None:
        """Let these be the queue's members."""
        self.disturb(members={QUEUE.id: member_ids})

    def _tell(self, told: Told) -> bool:
        return not (self.is_full and isinstance(told, Forgotten)) and super()._tell(told)

    async def _answer(self, request: httpx.Request) -> httpx.Response:  # type: ignore[override]
        answer = super()._answer(request)
        if (asked := (request.method, request.url.path.rpartition("/")[2])) in self.slow:
            self.slow.remove(asked)
            await asyncio.sleep(SLOW)
        return answer


def subscribed(rig: Rig) -> set[str]:
    """Return whose topics the latest channel has."""
    channel = rig.organisation.channels._channels[rig.channel_ids[-1]]
    return {user_id for user_id, _ in channel.topics.values()}


def test_what_was_read_while_a_channel_came_back_is_told_by_the_channel_alone() -> None:
    """A read that was asked for before and answered after would cast doubt on what is heard."""

    async def told() -> None:
        rig = Rig(agent_ids=tuple(Organisation(1, AGENTS).agent_ids))
        rig.disturb(forbidden=True)
        rig.slow = {("GET", "users")}
        async with rig.followed():
            await rig.until(lambda: not rig.slow)
            rig.disturb(forbidden=False)
            assert await rig.until(lambda: rig.known() == AGENTS) < SLOW
            await asyncio.sleep(SLOW)
            assert AGENTS == rig.known()

    run(told())


def test_reads_in_turn_that_are_refused_are_tried_again() -> None:
    """And once there is an answer, it is told."""

    async def told() -> None:
        rig = Rig(agent_ids=tuple(Organisation(1, AGENTS).agent_ids))
        rig.disturb(forbidden=True)
        rig.answers["GET", "/users"] = refusal
        async with rig.followed():
            await asyncio.sleep(300)
            assert set() == rig.have()
            rig.answers.clear()
            await rig.until(lambda: rig.have() == set(rig.organisation.agent_ids))

    run(told())


def test_who_is_let_go_while_being_read_stays_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer comes too late to be told."""
    monkeypatch.setattr("call_initiation.api.notifications.CHANNELS", 1)

    async def told() -> None:
        async with Rig(queue_ids=(QUEUE.id,)).followed() as rig:
            await rig.until(lambda: rig.have() == set(QUEUE.member_ids))
            rig.slow = {("GET", "users")}
            await rig.until(lambda: not rig.slow)
            rig.move(*QUEUE.member_ids[1:])
            assert await rig.until(lambda: rig.have() == set(QUEUE.member_ids[1:])) < SLOW
            await asyncio.sleep(2 * SLOW)
            assert set(QUEUE.member_ids[1:]) == rig.have()

    run(told())


def test_who_is_let_go_while_being_subscribed_to_is_not_followed() -> None:
    """Neither by the subscription that was under way nor for long in the channel's topics."""
    first, second = Organisation(1, AGENTS).agent_ids[:2]

    async def told() -> None:
        rig = Rig(queue_ids=(QUEUE.id,))
        rig.move(first)
        async with rig.followed():
            await rig.until(lambda: rig.known() == 1)
            rig.slow = {("POST", "subscriptions")}
            rig.move(first, second)
            await rig.until(lambda: not rig.slow)
            rig.move(first)
            await rig.until(lambda: rig.feed._circle.members(f"queue {QUEUE.id}") == {first})
            assert {first, second} == subscribed(rig)
            await asyncio.sleep(2 * SLOW)
            assert {first} == rig.have() == subscribed(rig)

    run(told())


def test_who_joins_while_a_channel_is_being_replaced_is_heard_on_its_successor() -> None:
    """The old one would tell of it for a moment only."""
    first, second = Organisation(1, AGENTS).agent_ids[:2]

    async def told() -> None:
        async with Rig(agent_ids=(first,)).followed() as rig:
            await rig.until(lambda: rig.known() == 1)
            rig.strike(Strike.CLOSING)
            await rig.until(lambda: len(rig.wires) == 2)
            rig.feed.follow([second])
            await rig.until(lambda: rig.known() == 2)
            assert {first, second} == subscribed(rig)

    run(told())


def test_a_queue_that_is_not_there_holds_up_no_other(caplog: pytest.LogCaptureFixture) -> None:
    """It is said which one, and why."""

    async def told() -> None:
        async with Rig(queue_ids=("nothing", QUEUE.id)).followed() as rig:
            await rig.until(lambda: rig.known() == len(QUEUE.member_ids))

    run(told())
    said = "the members of queue nothing can't be read at the moment: GET /api/v2/routing/queues/nothing/members failed"
    assert said in caplog.text


def test_a_lost_connection_brings_the_next_look_at_members_forward(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was missed may be that somebody came, or left."""
    monkeypatch.setattr("call_initiation.feed.members.EVERY", 100_000.0)

    async def told() -> None:
        async with Rig(queue_ids=(QUEUE.id,)).followed() as rig:
            await rig.until(lambda: rig.known() == len(QUEUE.member_ids))
            rig.move()
            await asyncio.sleep(1000)
            assert set(QUEUE.member_ids) == rig.have()
            rig.strike(Strike.DROP)
            await rig.until(lambda: not rig.have())

    run(told())


def test_who_cannot_be_unsubscribed_from_now_is_later() -> None:
    """A refusal of the API is no reason to listen on."""

    async def told() -> None:
        async with Rig(queue_ids=(QUEUE.id,)).followed() as rig:
            await rig.until(lambda: rig.known() == len(QUEUE.member_ids))
            rig.answers["PUT", "/subscriptions"] = refusal
            rig.move(*QUEUE.member_ids[1:])
            await rig.until(lambda: rig.have() == set(QUEUE.member_ids[1:]))
            await asyncio.sleep(SLOW)
            assert set(QUEUE.member_ids) == subscribed(rig)
            rig.answers.clear()
            await rig.until(lambda: subscribed(rig) == set(QUEUE.member_ids[1:]))
            assert len(QUEUE.member_ids) - 1 == rig.known()

    run(told())


def test_nothing_is_vouched_for_of_who_is_let_go_even_if_nobody_can_be_forgotten() -> None:
    """A recorder without room takes doubts all the same."""

    async def told() -> None:
        async with Rig(queue_ids=(QUEUE.id,)).followed() as rig:
            await rig.until(lambda: rig.known() == len(QUEUE.member_ids))
            rig.is_full = True
            rig.move()
            await rig.until(lambda: rig.known() == 0)
            assert {Certainty.STALE} == {rig.certainty(agent_id) for agent_id in QUEUE.member_ids}

    run(told())


def test_a_queue_whose_listing_breaks_our_code_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault is counted, and members are known once it is gone."""

    async def told() -> None:
        rig = Rig(queue_ids=(QUEUE.id,))
        with monkeypatch.context() as broken:
            broken.setattr("call_initiation.api.genesys._entities", lambda _: 1 / 0)
            async with living(rig.feed.run(Door())):
                await rig.until(lambda: "feed" in rig.faults)
                broken.undo()
                await rig.until(lambda: rig.known() == len(QUEUE.member_ids))

    run(told())
