"""Whatever goes wrong with what we hear of agents: what is called known is so, and all is known again soon after.

A pretend organisation lives in quick time, a feed follows it over real sockets, and all that is known is held against
the truth all the time. Each test prints how long recovery took.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from call_initiation.events import (
    Certainty,
    FeedChange,
    FeedState,
    LateChange,
    LegFailure,
    NotificationTaken,
    StateLabel,
    StateSource,
)
from call_initiation.feed.follow import Following
from call_initiation.feed.witness import Witness
from call_initiation.simulator.org import Behaviour, Organisation
from followed import Followed, following, in_quick_time

AGENTS = 60
SOON = 60.0
"""Seconds within which all is to be known again."""

NOTICED = 90.0
"""Seconds within which a loss is to be noticed."""

FEW = 4
"""How many agents may be in doubt at any moment of a busy day."""

Story = Callable[[Followed], Awaitable[None]]


def tell(story: Story, **made: Any) -> Followed:
    """Let a story happen once all is known, and return what came of it."""

    async def told() -> Followed:
        async with following(AGENTS, **made) as run:
            await recovered(run)
            await story(run)
        return run

    run = in_quick_time(told())
    assert [] == run.faults
    say(str(dict(run.joins)))
    return run


def say(text: str) -> None:
    """Print what was measured; `pytest -s` shows it."""
    print(text)  # noqa: T201 - that is what it is for


async def recovered(run: Followed) -> None:
    """Wait until all is known and the feed says so, and say how long it took."""
    took = await run.until(lambda: is_up(run) and run.known() >= AGENTS - FEW, SOON)
    say(f"known again after {took:.1f} s")


async def noticed(run: Followed) -> None:
    """Wait until nothing is vouched for any more, and say how long it took."""
    say(f"noticed after {await run.until(lambda: run.known() == 0, NOTICED):.1f} s")


def is_up(run: Followed) -> bool:
    """Return whether the feed says that all is well."""
    changes = [one.state for one in run.events if isinstance(one, FeedChange)]
    return changes[-1:] == [FeedState.UP]


def reconnects(run: Followed) -> list[str]:
    """Return why the feed came up each time."""
    return [one.reason for one in run.events if isinstance(one, FeedChange) and one.state is FeedState.UP]


@pytest.mark.parametrize(("strike", "reason"), [("drop", "dropped"), ("evict", "evicted"), ("revoke", "token_revoked")])
def test_a_loss_that_shows_is_doubted_at_once(strike: str, reason: str) -> None:
    """And no state is wrongly known for a moment."""

    async def story(run: Followed) -> None:
        await run.disturb(strike=strike)
        await noticed(run)
        await recovered(run)
        await run.for_seconds(15)

    run = tell(story)
    assert [] == run.wrong
    assert ["", reason] == reconnects(run)


@pytest.mark.parametrize("wish", [{"strike": "half_open"}, {"silent": True}], ids=str)
def test_a_loss_that_does_not_show_is_noticed_soon(wish: dict[str, object]) -> None:
    """No heartbeat, or heartbeats and nothing else: reads tell, long before silence would."""
    noticed_at: list[float] = []

    async def story(run: Followed) -> None:
        await run.disturb(**wish)
        await noticed(run)
        noticed_at.append(run.time())
        await run.disturb(silent=False)
        await recovered(run)
        await run.for_seconds(15)

    run = tell(story)
    assert [] == [one for one in run.wrong if one[3] > noticed_at[0]]
    assert ["", "contradicted"] == reconnects(run)


def test_a_socket_that_says_nothing_is_given_up_even_if_nobody_changes() -> None:
    """Then reads have nothing to contradict."""

    async def story(run: Followed) -> None:
        await run.disturb(strike="half_open")
        await noticed(run)
        await recovered(run)

    run = tell(story, pace=0.001)
    assert [] == run.wrong
    assert ["", "silent"] == reconnects(run)


def test_a_channel_that_ends_in_good_order_is_replaced_without_a_gap() -> None:
    """Both deliver for a moment: nothing is ever in doubt."""
    least = [AGENTS]

    async def story(run: Followed) -> None:
        await run.disturb(strike="closing")
        for _ in range(40):
            least.append(run.known())
            await run.for_seconds(2)

    run = tell(story)
    assert [] == run.wrong
    assert ["", "socket_closing"] == reconnects(run)
    assert min(least) >= AGENTS - FEW


def test_noise_makes_nothing_wrong() -> None:
    """Twice, out of order, garbage in between, and frames of ten million characters."""

    async def story(run: Followed) -> None:
        await run.disturb(duplicates=0.4, reordering=0.4, garbage=0.2)
        await run.for_seconds(60)
        await run.disturb(strike="huge")
        await run.for_seconds(30)
        await run.disturb(duplicates=0.0, reordering=0.0, garbage=0.0)
        await recovered(run)

    run = tell(story)
    assert [] == run.wrong
    assert [""] == reconnects(run)
    assert NotificationTaken(topic="ignored") in run.events


@pytest.mark.parametrize("jump", [3600.0, -3600.0])
def test_a_clock_that_jumps_makes_nothing_wrong(jump: float) -> None:
    """Neither when it jumps nor when it jumps back."""

    async def story(run: Followed) -> None:
        for skew in (jump, 0.0):
            await run.disturb(skew=skew)
            await run.until(lambda skew=skew: abs(run.timeline.offset - skew) < 2, SOON)
            await recovered(run)
            await run.for_seconds(30)

    run = tell(story)
    assert [] == run.wrong


def test_our_token_or_our_allowance_may_end() -> None:
    """States that are notified stay known; once all is well, so is what is read."""

    async def story(run: Followed) -> None:
        await run.disturb(unauthorized=True)
        await run.for_seconds(25)
        await run.disturb(unauthorized=False, retry_after=5.0)
        await run.for_seconds(25)
        assert run.known() > AGENTS / 2
        await run.disturb(strike="drop")
        await noticed(run)
        await run.for_seconds(10)
        assert run.known() == 0
        await run.disturb(retry_after=0.0)
        await recovered(run)

    run = tell(story)
    assert [] == run.wrong


def test_what_cannot_be_read_is_unknown() -> None:
    """Presences that nobody knows, and users who are deleted."""

    async def story(run: Followed) -> None:
        gone = run.organisation.agent_ids[:3]
        await run.disturb(unknown_presence=0.5, deleted=gone)
        await run.for_seconds(40)
        assert run.known(gone) == 0
        assert [StateLabel.UNKNOWN] * 3 == [run.label_of(agent) for agent in gone]
        await run.disturb(unknown_presence=0.0, deleted=[])
        await recovered(run)
        await run.until(lambda: run.known(gone) == len(gone), SOON)

    run = tell(story)
    assert [] == run.wrong


def test_a_leg_that_fails_after_its_call_was_accepted_is_told() -> None:
    """With the code that the API gives, and the state that the agent had before the call; no state comes too late."""
    agents: list[str] = []

    async def story(run: Followed) -> None:
        agents.append(next(a for a in run.organisation.agent_ids if run.label_of(a) is StateLabel.AVAILABLE))
        await run.place_call(agents[0])
        await run.until(lambda: bool(failures(run)), 600)

    def failures(run: Followed) -> list[LegFailure]:
        return [one for one in run.events if isinstance(one, LegFailure) and one.agent_id == agents[0]]

    run = tell(story, behaviour=Behaviour(pace=8.0, rate_limit=100_000, leg_failures=1.0, refusals={}))
    failure = failures(run)[0]
    assert failure.error_code.startswith("error.ininedgecontrol")
    assert failure.label is StateLabel.AVAILABLE
    assert not any(isinstance(one, LateChange) for one in run.events)


def test_more_agents_than_a_channel_takes_are_shared_out() -> None:
    """Each to one channel, and each of them is heard."""

    async def told() -> None:
        async with following(620, pace=1.0) as run:
            say(f"{await run.until(lambda: run.known() >= 600, 600):.1f} s for 620 agents")
            assert 2 == len(run.feed._shards)
            await run.for_seconds(20)
            assert [] == run.wrong

    in_quick_time(told())


def test_whom_no_channel_reaches_is_read_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a state holds for the moment of its reading, and is stale in between."""
    monkeypatch.setattr("call_initiation.api.notifications.CHANNELS", 1)

    async def told() -> None:
        async with following(AGENTS, pace=0.001) as run:
            agents = run.organisation.agent_ids
            await run.until(lambda: all(map(run.exporter.agents.known, agents)), SOON)
            await run.until(lambda: reconnects(run) == [""], SOON)
            states = [run.exporter.agents.as_of(agent, run.time())[0] for agent in agents]
            assert [run.organisation.state(agent).presence for agent in agents] == [one.presence for one in states]
            assert {(Certainty.STALE, StateSource.REST)} == {(one.certainty, one.source) for one in states}
            await run.disturb(deleted=agents[:1])
            await run.until(lambda: not run.exporter.agents.known(agents[0]), SOON)
            assert ([], []) == (run.wrong, run.faults)

    in_quick_time(told())


def test_whose_topics_are_rejected_is_read_instead() -> None:
    """And who isn't there is unknown; the others are followed all the same."""

    async def told() -> None:
        whom = Following(("nobody", *Organisation(1, 5).agent_ids))
        async with following(5, pace=0.001, whom=whom) as run:
            await run.until(lambda: run.known() == 5 and run.feed._polled == ["nobody"], SOON)
            await run.for_seconds(10)
            assert not run.exporter.agents.known("nobody")

    in_quick_time(told())


def test_a_successor_that_cannot_be_had_at_once_is_tried_again() -> None:
    """The channel that ends has a minute left."""

    async def story(run: Followed) -> None:
        await run.disturb(down=True, strike="closing")
        await run.for_seconds(15)
        await run.disturb(down=False)
        await run.until(lambda: reconnects(run) == ["", "socket_closing"], SOON)

    assert [] == tell(story, pace=1.0).wrong


def test_agents_who_cannot_be_added_now_are_added_later() -> None:
    """A refusal of the API is no reason to forget them."""

    async def told() -> None:
        async with following(10, pace=0.001, whom=Following(("nobody",), as_seen=True)) as run:
            await run.for_seconds(5)
            await run.disturb(retry_after=3.0)
            for agent in run.organisation.agent_ids:
                run.door.seen(agent)
            await run.for_seconds(10)
            assert run.known() == 0
            await run.disturb(retry_after=0.0)
            await run.until(lambda: run.known() == 10, SOON)

    in_quick_time(told())


def test_a_fault_of_ours_is_counted_and_does_not_end_the_feed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is trusted until all is read anew."""

    async def told() -> None:
        async with following(AGENTS) as run:
            await recovered(run)
            with monkeypatch.context() as broken:
                broken.setattr(Witness, "sample", lambda _: 1 / 0)
                await noticed(run)
                await run.until(lambda: "feed" in run.faults, SOON)
            await recovered(run)
            assert [] == run.wrong

    in_quick_time(told())


def test_a_loss_while_a_successor_takes_over_is_a_loss() -> None:
    """Both connections may go at once; then all is read anew."""

    async def story(run: Followed) -> None:
        await run.disturb(strike="closing")
        await run.until(lambda: len(run.organisation.channels._lines()) == 2, SOON)
        await run.disturb(strike="drop")
        await noticed(run)
        await recovered(run)

    run = tell(story)
    assert [] == run.wrong
    assert ["", "dropped"] == reconnects(run)
