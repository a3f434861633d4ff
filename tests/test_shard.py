"""What a shard promises: whatever ends its connection, nothing unheard passes for known, and it begins anew.

A pretend organisation is at the other end; its time leaps, so a minute of silence takes no time.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
import pytest

from call_initiation.agents.timeline import BLUR
from call_initiation.api.notifications import TOPICS_PER_CHANNEL
from call_initiation.events import Certainty
from call_initiation.feed.shard import Shard, race
from call_initiation.recording.updates import Suspension, Told
from call_initiation.simulator.disturbances import Strike
from call_initiation.simulator.frames import notice
from leaping import run
from timeless import World, living, refusal

Reports = list[tuple[bool, str]]
Story = Callable[["Rig"], Awaitable[None]]


class Rig(World):
    """A shard, and what it reports.

    Attributes:
        reports: When it came up and went down, and why.
        refused: Who can't be followed by a channel.
        is_full: Whether the recorder has no room.
    """

    is_full = False

    def __init__(self, **made: Any) -> None:
        super().__init__(**made)
        self.reports: Reports = []
        self.refused: list[str] = []
        self.shard = Shard(
            self.means,
            TOPICS_PER_CHANNEL,
            period=lambda: 10.0,
            report=lambda _, is_up, reason: self.reports.append((is_up, reason)),
            refuse=self.refused.extend,
            hears_calls=True,
        )
        self.shard.add(self.organisation.agent_ids)

    def _tell(self, told: Told) -> bool:
        return (not self.is_full or isinstance(told, Suspension)) and super()._tell(told)

    def topics(self) -> list[str]:
        """Return what the latest channel is subscribed to."""
        return list(self.organisation.channels._channels[self.channel_ids[-1]].topics)

    @asynccontextmanager
    async def up(self) -> AsyncGenerator[None]:
        """Run the shard, from when it is up."""
        async with living(self.shard.run()):
            await self.until(lambda: (True, "") in self.reports)
            yield


def follow(story: Story, **made: Any) -> Rig:
    """Let a story happen to a shard that is up; nothing of it is a fault of ours."""

    async def told() -> Rig:
        rig = Rig(**made)
        async with rig.up():
            await story(rig)
        assert [] == rig.faults
        return rig

    return run(told())


async def comes_back(rig: Rig, times: int = 1) -> None:
    """Wait until the shard has been up again, and knows all."""
    await rig.until(lambda: sum(is_up for is_up, _ in rig.reports) > times and rig.known() == 3)


# -- a life without trouble ---------------------------------------------------------------------------------------


def test_agents_are_read_once_and_heard_from_then_on() -> None:
    """What is notified comes at once, and reads go on only now and then, to compare."""

    async def story(rig: Rig) -> None:
        assert 3 == rig.known()
        await asyncio.sleep(600)
        assert 3 == rig.known()

    rig = follow(story, pace=10.0)
    assert [(True, "")] == rig.reports
    assert 1 == len(rig.wires)
    assert any(rig.events)


def test_what_means_nothing_is_no_sign_of_life() -> None:
    """Garbage is passed over; the connection lives on."""

    async def story(rig: Rig) -> None:
        rig.strike(Strike.GARBAGE)
        await asyncio.sleep(1)

    assert [(True, "")] == follow(story).reports


def test_agents_may_be_added_later() -> None:
    """To the same channel."""

    async def story(rig: Rig) -> None:
        agent = "nobody-else"
        rig.shard.add([agent])
        await rig.until(lambda: rig.refused == [agent])

    rig = follow(story)
    assert 1 == len(rig.wires)
    assert TOPICS_PER_CHANNEL - 3 == rig.shard.room


def test_agents_who_cannot_be_added_now_are_added_later() -> None:
    """A refusal of the API is no reason to forget them, and the others are followed all the while."""

    async def story(rig: Rig) -> None:
        rig.answers["POST", "/subscriptions"] = refusal
        rig.shard.add(["nobody-else"])
        await asyncio.sleep(60)
        assert [] == rig.refused
        assert 3 == rig.known()
        rig.answers.clear()
        await rig.until(lambda: rig.refused == ["nobody-else"])

    assert [(True, "")] == follow(story).reports


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_reads_go_on_while_subscriptions_are_refused(method: str) -> None:
    """Else nobody would notice that nothing is notified any more, for as long as somebody is not let in or out."""

    async def story(rig: Rig) -> None:
        rig.answers[method, "/subscriptions"] = refusal
        rig.shard.add(["nobody-else"])
        rig.shard.drop(rig.organisation.agent_ids[2:] if method == "PUT" else [])
        rig.disturb(silent=True)
        await rig.until(lambda: (False, "contradicted") in rig.reports, 3600)

    follow(story, pace=10.0)


def test_agents_who_are_dropped_are_followed_no_more() -> None:
    """Their topics are given back as soon as the API takes it; whoever isn't followed can't be dropped."""

    async def story(rig: Rig) -> None:
        stays, *gone = rig.organisation.agent_ids
        rig.answers["PUT", "/subscriptions"] = refusal
        rig.shard.add(["somebody-new"])
        rig.shard.drop([*gone, "somebody-new", "a-stranger"])
        await asyncio.sleep(60)
        assert 6 == len(rig.topics())
        rig.answers.clear()
        await rig.until(lambda: len(rig.topics()) == 2)
        assert all(stays in topic for topic in rig.topics())
        assert ([(True, "")], TOPICS_PER_CHANNEL - 1) == (rig.reports, rig.shard.room)

    follow(story)


def test_a_stranger_who_is_dropped_changes_nothing() -> None:
    """No request is made for that."""

    async def story(rig: Rig) -> None:
        rig.answers["PUT", "/subscriptions"] = lambda: pytest.fail("it has nothing to say")
        rig.shard.drop(["a-stranger"])
        await asyncio.sleep(60)

    assert [(True, "")] == follow(story).reports


# -- losses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strike", "reason", "keeps"),
    [
        (Strike.DROP, "dropped", True),
        (Strike.HALF_OPEN, "silent", True),
        (Strike.EVICT, "evicted", False),
        (Strike.REVOKE, "token_revoked", False),
    ],
)
def test_a_loss_is_doubted_and_mended(strike: Strike, reason: str, *, keeps: bool) -> None:
    """By a new socket to the same channel, or by a new channel where the old one is no more."""

    async def story(rig: Rig) -> None:
        rig.strike(strike)
        await rig.until(lambda: rig.known() == 0)
        await comes_back(rig)

    rig = follow(story)
    assert [(True, ""), (False, reason), (True, reason)] == rig.reports
    assert (2, keeps) == (len(rig.channel_ids), len(set(rig.channel_ids)) == 1)


def test_a_socket_that_takes_no_more_is_lost() -> None:
    """Here it fails where a ping is due."""

    async def story(rig: Rig) -> None:
        rig.organisation.channels.disconnect(rig.wires[0]._line)  # no heartbeat comes any more
        rig.wires[0].is_broken = True
        await comes_back(rig)

    assert [(True, ""), (False, "dropped"), (True, "dropped")] == follow(story).reports


def test_reads_that_show_what_was_never_notified_end_a_connection() -> None:
    """It beats, and delivers nothing: what it told is doubted since the last notification."""

    async def story(rig: Rig) -> None:
        rig.disturb(silent=True)
        await rig.until(lambda: (False, "contradicted") in rig.reports, 3600)
        rig.disturb(silent=False)
        await comes_back(rig)

    assert (False, "contradicted") in follow(story, pace=10.0).reports


def test_a_doubt_from_outside_is_mended_by_reading() -> None:
    """The connection is well; only the clock wasn't."""

    async def story(rig: Rig) -> None:
        rig.shard.doubt(rig.now() - 1)
        assert 0 == rig.known()
        await rig.until(lambda: rig.known() == 3)

    rig = follow(story)
    assert ([(True, "")], 1) == (rig.reports, len(rig.wires))


@pytest.mark.parametrize("refused", [None, ("POST", "/channels"), ("PUT", "/subscriptions")])
def test_a_connection_that_cannot_be_made_is_tried_again(refused: tuple[str, str] | None) -> None:
    """Whatever is refused: the socket, the channel or the topics; nobody is forgotten meanwhile."""

    async def told() -> Reports:
        rig = Rig()
        rig.disturb(down=refused is None)
        rig.answers |= {refused: refusal} if refused else {}
        async with living(rig.shard.run()):
            await asyncio.sleep(100)
            assert (0, rig.organisation.agent_ids) == (rig.known(), rig.shard.unheard)
            rig.disturb(down=False)
            rig.answers.clear()
            await rig.until(lambda: rig.known() == 3)
            assert [] == rig.shard.unheard
        return rig.reports

    reports = run(told())
    assert [(False, "connect_failed")] * (len(reports) - 1) == reports[:-1]
    assert (True, "") == reports[-1]


def test_a_fault_of_ours_is_counted_and_mended() -> None:
    """It ends no shard: the next connection is tried as after any other failure."""

    async def told() -> Rig:
        rig = Rig()
        faults = [ZeroDivisionError]

        async def connect(url: str) -> Any:
            if faults:
                raise faults.pop()
            return await rig._connect(url)

        rig.shard._means = replace(rig.means, connect=connect)
        async with rig.up():
            assert 3 == rig.known()
        return rig

    rig = run(told())
    assert ["feed"] == rig.faults
    assert [(False, "connect_failed"), (True, "")] == rig.reports


def test_the_end_leaves_the_channel_in_good_order() -> None:
    """The API keeps it for a day; without topics it costs nobody anything."""

    async def story(_: Rig) -> None:
        """Nothing happens."""

    rig = follow(story)
    assert [] == rig.topics()
    assert Certainty.STALE is rig.exporter.agents.as_of(rig.organisation.agent_ids[0], 1e12)[0].certainty


# -- channels are few --------------------------------------------------------------------------------------------


def forbidden() -> httpx.Response:
    """Return an answer that says: never."""
    return httpx.Response(403, json={"code": "forbidden", "status": 403})


@pytest.mark.parametrize(("answer", "most"), [(None, 1), (refusal, 1), (forbidden, 7)], ids=["no socket", "503", "403"])
def test_a_channel_that_cannot_be_used_now_is_tried_again(
    answer: Callable[[], httpx.Response] | None, most: int
) -> None:
    """An hour of new ones would end all others of this application's, of other exporters', too: there are 20."""

    async def told() -> None:
        rig = Rig()
        rig.disturb(down=answer is None)
        rig.answers |= {("PUT", "/subscriptions"): answer} if answer else {}
        async with living(rig.shard.run()):
            await asyncio.sleep(3600)
            assert most >= len(rig.organisation.channels._channels) > 0
            rig.disturb(down=False)
            rig.answers.clear()
            await rig.until(lambda: rig.known() == 3)

    run(told())


def test_a_channel_that_is_no_more_is_not_tried_again() -> None:
    """It was evicted, or ended by its age, while nobody was connected."""

    async def story(rig: Rig) -> None:
        rig.disturb(down=True)
        rig.strike(Strike.DROP)
        await rig.until(lambda: rig.known() == 0)
        rig.organisation.channels._channels.clear()
        rig.disturb(down=False)
        await comes_back(rig)

    assert 2 == len(set(follow(story).channel_ids))


@pytest.mark.parametrize("expires", [None, "9999-12-31T00:00:00Z"])
def test_no_channel_is_believed_to_live_longer_than_any_does(
    expires: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever its answer says, and however often its socket is lost."""
    monkeypatch.setattr("call_initiation.feed.shard._LIFE", 400.0)  # a day takes so long to pass

    class Made(Rig):
        def _answer(self, request: httpx.Request) -> httpx.Response:
            answer = super()._answer(request)
            is_new = request.url.path.endswith("/channels")
            return httpx.Response(200, json=answer.json() | {"expires": expires}) if is_new else answer

    async def told() -> None:
        rig = Made()
        async with rig.up():
            await asyncio.sleep(180)
            rig.strike(Strike.DROP)
            await rig.until(lambda: (True, "expiring") in rig.reports, within=150)

    run(told())


def test_a_recorder_that_is_full_costs_no_channel() -> None:
    """The channel is well; it is we who missed what it told."""

    async def story(rig: Rig) -> None:
        rig.is_full = True
        rig.strike(Strike.GARBAGE)
        await rig.until(lambda: (False, "overflow") in rig.reports)
        rig.is_full = False
        await comes_back(rig)

    assert 1 == len(set(follow(story).channel_ids))


# -- successors ---------------------------------------------------------------------------------------------------


def test_a_channel_that_ends_is_replaced_before() -> None:
    """Both deliver for a moment, and nothing is ever in doubt."""

    async def story(rig: Rig) -> None:
        rig.strike(Strike.CLOSING)
        await asyncio.sleep(120)
        assert 3 == rig.known()

    rig = follow(story)
    assert [(True, ""), (True, "socket_closing")] == rig.reports
    assert 2 == len(set(rig.channel_ids))


def test_a_successor_that_cannot_be_had_at_once_is_tried_again() -> None:
    """The channel that ends has a minute left."""

    async def story(rig: Rig) -> None:
        rig.disturb(down=True)
        rig.strike(Strike.CLOSING)
        await asyncio.sleep(10)
        rig.disturb(down=False)
        await asyncio.sleep(120)
        assert 3 == rig.known()

    assert [(True, ""), (True, "socket_closing")] == follow(story).reports


def test_a_loss_while_a_successor_takes_over_is_a_loss() -> None:
    """Both connections may go at once; then all is read anew."""

    async def story(rig: Rig) -> None:
        rig.strike(Strike.CLOSING)
        await rig.until(lambda: len(rig.wires) == 2)
        await asyncio.sleep(BLUR / 2)
        rig.strike(Strike.DROP)
        await comes_back(rig)

    assert [(True, ""), (False, "dropped"), (True, "dropped")] == follow(story).reports


@pytest.mark.parametrize(
    ("topic", "reason"),
    [("v2.system.no_longer_subscribed.1f", "evicted"), ("v2.system.token_revoked.1f", "token_revoked")],
)
def test_a_channel_that_waits_for_its_successor_may_be_lost_before(topic: str, reason: str) -> None:
    """Its socket lives on and beats, but nothing is told on it any more: what it told is in doubt at once."""

    async def story(rig: Rig) -> None:
        rig.disturb(down=True)
        rig.strike(Strike.CLOSING)
        await asyncio.sleep(5)
        assert 3 == rig.known()
        rig.disturb(silent=True)
        rig.wires[0]._line.warn(notice(topic, "Gone."), rig.now(), rig.organisation.disturbances)
        await asyncio.sleep(1)
        assert 0 == rig.known()
        rig.disturb(down=False, silent=False)
        await comes_back(rig)

    reports = follow(story).reports
    assert ((False, reason), (True, reason)) == (reports[1], reports[-1])


def test_a_channel_may_end_before_all_was_read() -> None:
    """It is replaced all the same; the shard isn't up until all is read."""

    async def told() -> Reports:
        rig = Rig()
        rig.answers["GET", "/users"] = refusal
        async with living(rig.shard.run()):
            await asyncio.sleep(60)
            rig.strike(Strike.CLOSING)
            await rig.until(lambda: len(rig.wires) == 2)
            await asyncio.sleep(2 * BLUR)
            assert [] == rig.reports
            rig.answers.clear()
            await rig.until(lambda: rig.known() == 3)
        return rig.reports

    assert [(True, "")] == run(told())


# -- the race -----------------------------------------------------------------------------------------------------


def test_the_first_work_to_end_decides() -> None:
    """The others are cancelled, and waited for."""

    async def told() -> tuple[str, list[str]]:
        ends: list[str] = []

        async def slow() -> str:
            try:
                return await asyncio.get_running_loop().create_future()
            finally:
                ends.append("slow")

        return await race(slow(), asyncio.sleep(1, "quick")), ends

    assert ("quick", ["slow"]) == run(told())
