"""What is made of a store's entries: trust from a fresh entry on, doubt at every gap, and one timeline for all."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from call_initiation.agents.agents import label
from call_initiation.events import AgentState, Certainty, FeedChange, FeedState, Presence, StateLabel, StateSource
from call_initiation.exporter import Exporter
from call_initiation.recording.updates import Forgotten, Reading, StateUpdate, Suspension, Told
from call_initiation.sharing.hearing import FEED, CommonClock, Entry, Hearing, Trouble, summary
from call_initiation.sharing.words import Garbled, Shared, Summaries, worded

AGENT = "9d4b4c1e-0000-4000-8000-000000000001"
NOW = 1_790_000_000.0
BUSY = AgentState(presence=Presence.BUSY, source=StateSource.NOTIFICATION)
AWAY = AgentState(presence=Presence.AWAY, source=StateSource.NOTIFICATION)
UP = FeedChange(state=FeedState.UP, at=NOW)
WHOLE = Reading(AGENT, ((NOW - 5, BUSY),), NOW - 1, lasts=True)


class Listener:
    """One who hears entries of a speaker, whose timeline is the store's; ours may be `ahead` of it."""

    def __init__(self, ahead: float = 0.0) -> None:
        self.ahead = ahead
        self.told: list[Told] = []
        self.is_full = False
        self.exporter = Exporter()
        self.hearing = Hearing(self._tell, silence=1.5, patience=1.0)

    def _tell(self, told: Told) -> bool:
        if self.is_full and not isinstance(told, Suspension):
            return False
        self.told.append(told)
        list(self.exporter._apply(told))
        return True

    def hear(
        self, number: int, at: float, *words: Shared, came: float | None = None, **changed: Any
    ) -> tuple[str, ...]:
        """Take an entry that was said and came at these moments of the store's clock."""
        entry = Entry(epoch=7, number=number, at=at, offset=0.0, words=[worded(word) for word in words])
        came = at if came is None else came
        return self.hearing.hear(replace(entry, **changed), -self.ahead, came + self.ahead)

    def learn(self, number: int, *told: Shared, epoch: int = 7, now: float = NOW) -> None:
        """Take summaries that tell up to an entry, and note that they are all."""
        for one in told:
            name_of = worded(one)
            self.hearing.learn(summary(epoch, number, name_of), now + self.ahead)
        self.hearing.learnt(self.hearing.scan, now + self.ahead)

    def state(self, sent: float) -> tuple[StateLabel, Certainty]:
        """Return what is known as of a moment of the store's clock."""
        state, _ = self.exporter.agents.as_of(AGENT, sent + self.ahead)
        return label(state), state.certainty

    def troubles(self) -> list[str]:
        """Return why nothing was trusted, each time."""
        return [one.reason for one in self.told if isinstance(one, FeedChange) and one.state is FeedState.DOWN]


@pytest.fixture(params=[0.0, 3600.0, -86_400.5])
def heard(request: pytest.FixtureRequest) -> Listener:
    """Return one who hears all, whatever its clock says."""
    listener = Listener(request.param)
    listener.hear(1, NOW)
    listener.learn(1, UP, WHOLE)
    return listener


def test_a_state_is_known_from_a_fresh_entry_and_a_summary_on(heard: Listener) -> None:
    """And each change that follows."""
    assert (StateLabel.BUSY, Certainty.KNOWN) == heard.state(NOW)
    assert (AGENT,) == heard.hear(2, NOW + 0.5, StateUpdate(AGENT, AWAY, NOW + 0.25))
    assert (StateLabel.BUSY, Certainty.KNOWN) == heard.state(NOW + 0.25)
    assert (StateLabel.AWAY, Certainty.KNOWN) == heard.state(NOW + 0.3)
    assert FeedState.UP is next(one.state for one in heard.told if isinstance(one, FeedChange))


def test_an_old_entry_begins_nothing() -> None:
    """Nor does one of the future: clocks that can't be compared."""
    listener = Listener()
    listener.hear(1, NOW, came=NOW + 1.6)
    listener.hear(2, NOW + 1, came=NOW)
    assert 0 == listener.hearing.scan
    listener.learn(2, WHOLE)
    assert [] == listener.told


def test_silence_is_doubted_from_the_last_sign_of_life_on(heard: Listener) -> None:
    """However late it is noticed; who speaks again is heard anew."""
    heard.hear(2, NOW + 0.5)
    assert heard.ahead + NOW + 2.0 == heard.hearing.deadline()
    heard.hearing.look(NOW + 2.0 + heard.ahead)
    assert [] == heard.troubles()
    heard.hearing.look(NOW + 9 + heard.ahead)
    heard.hearing.doubt(Trouble.LOST, NOW + 9 + heard.ahead)
    assert [Trouble.SILENT] == heard.troubles()
    assert (StateLabel.BUSY, Certainty.KNOWN) == heard.state(NOW + 0.5)
    assert Certainty.STALE is heard.state(NOW + 0.6)[1]
    heard.hear(3, NOW + 9.5)
    heard.learn(3, UP, WHOLE)
    assert (StateLabel.BUSY, Certainty.KNOWN) == heard.state(NOW + 9.6)
    assert Trouble.SILENT == [one.reason for one in heard.told if isinstance(one, FeedChange)][-1]


def test_an_entry_that_comes_late_is_a_sign_of_its_own_moment(heard: Listener) -> None:
    """A process that was stopped finds old entries first."""
    heard.hear(2, NOW + 0.5, came=NOW + 60)
    assert [Trouble.SILENT] == heard.troubles()
    assert 0 == heard.hearing.scan


def test_a_moment_to_come_is_no_sign_of_life(heard: Listener) -> None:
    """Or else no silence would be noticed until then."""
    heard.hear(2, NOW + 1.0, came=NOW + 0.2)
    assert [Trouble.CLOCK] == heard.troubles()


def test_a_missing_entry_is_doubted_and_a_repeated_one_ignored(heard: Listener) -> None:
    """By their numbers."""
    heard.hear(2, NOW + 0.1, StateUpdate(AGENT, AWAY, NOW))
    count = len(heard.told)
    heard.hear(2, NOW + 0.1, StateUpdate(AGENT, BUSY, NOW))
    assert count == len(heard.told)
    heard.hear(4, NOW + 0.2)
    assert [Trouble.INCOMPLETE] == heard.troubles()
    assert 0 < heard.hearing.scan


def test_a_deposed_speaker_is_not_listened_to(heard: Listener) -> None:
    """Whatever it says, and however fresh."""
    heard.hear(1, NOW + 0.1, epoch=8)
    assert [Trouble.SUCCEEDED] == heard.troubles()
    count = len(heard.told)
    heard.hear(2, NOW + 0.2, StateUpdate(AGENT, AWAY, NOW), epoch=7)
    assert count == len(heard.told)
    assert 8 == heard.hearing.epoch


def test_a_store_that_lost_everything_may_begin_again() -> None:
    """With an epoch that it names."""
    listener = Listener()
    listener.hearing.open(9)
    listener.hear(5, NOW, epoch=8)
    assert 0 == listener.hearing.scan
    listener.hearing.open(3)
    listener.hearing.open(3)
    listener.hear(1, NOW, epoch=3)
    assert 0 < listener.hearing.scan


def test_what_a_summary_tells_is_not_told_again(heard: Listener) -> None:
    """Entries up to it count for the other agents only."""
    heard.hear(5, NOW + 0.1)
    later = StateUpdate(AGENT, AWAY, NOW + 0.2)
    heard.hearing.learn(summary(7, 6, worded(replace(WHOLE, changes=((NOW + 0.2, AWAY),)))), NOW + heard.ahead)
    heard.hearing.learn(summary(7, 6, worded(WHOLE)), NOW + heard.ahead)
    count = len(heard.told)
    words = [later, WHOLE, Forgotten(AGENT), Suspension(NOW, (AGENT, "2")), StateUpdate("2", AWAY, NOW)]
    assert ("2", "2") == heard.hear(6, NOW + 0.3, *words)
    assert [Suspension, StateUpdate] == [type(one) for one in heard.told[count:]]
    assert (AGENT,) == heard.hear(7, NOW + 0.4, Forgotten(AGENT))


def test_a_summary_vouches_from_its_newest_change_on() -> None:
    """Of the changes before, it tells only the last."""
    listener = Listener()
    listener.hear(1, NOW)
    listener.learn(1, Reading(AGENT, ((NOW - 5, BUSY), (NOW - 0.5, AWAY)), NOW - 9, lasts=True))
    assert [Certainty.STALE] * 2 == [listener.state(NOW - before)[1] for before in (1, 0.5)]
    assert (StateLabel.AWAY, Certainty.KNOWN) == listener.state(NOW)


def test_a_summary_that_vouches_for_nothing_is_stale() -> None:
    """As it is for the speaker."""
    listener = Listener()
    listener.hear(1, NOW)
    listener.learn(1, replace(WHOLE, confirmed_at=None))
    assert Certainty.STALE is listener.state(NOW)[1]


def test_a_clock_that_was_set_is_doubted_until_both_have_noticed(heard: Listener) -> None:
    """Then all is as it was: what is compared are the two timelines, not the store's clock."""
    heard.hear(2, NOW + 0.1, offset=100.0)
    assert [Trouble.CLOCK] == heard.troubles()
    heard.hear(3, NOW + 0.5)
    assert 0 == heard.hearing.scan
    heard.hear(4, NOW + 1.2)
    heard.learn(4, WHOLE)
    assert (StateLabel.BUSY, Certainty.KNOWN) == heard.state(NOW + 1.2)
    assert [] == [one for one in heard.told if isinstance(one, Forgotten)]


def test_timelines_that_have_drifted_apart_are_learnt_anew(heard: Listener) -> None:
    """Nothing that was moved by the old difference stays."""
    heard.hear(2, NOW + 0.1, offset=0.2)
    assert [] == heard.troubles()
    heard.hear(3, NOW + 0.2, offset=0.3)
    heard.hear(4, NOW + 1.2, offset=0.3, came=NOW + 1.6)
    assert 0 < heard.hearing.scan
    heard.learn(4, WHOLE)
    assert Forgotten(AGENT) in heard.told


def test_what_the_recorder_refuses_is_doubted(heard: Listener) -> None:
    """It would be missing."""
    heard.is_full = True
    heard.hear(2, NOW + 0.1, StateUpdate(AGENT, AWAY, NOW))
    assert Suspension(NOW + heard.ahead) == heard.told[-1]
    assert heard.hearing.is_deaf


def test_the_feed_itself_may_be_down(heard: Listener) -> None:
    """The speaker says why, and what had been wrong with us counts when it comes up."""
    down = FeedChange(state=FeedState.DOWN, reason="dropped", at=NOW)
    heard.hear(2, NOW + 0.1, down, Suspension(NOW))
    assert ["dropped"] == heard.troubles()
    assert Certainty.STALE is heard.state(NOW + 0.1)[1]
    heard.hear(4, NOW + 0.2)
    heard.hear(5, NOW + 0.3, down)
    heard.learn(4, down)
    heard.hear(6, NOW + 0.4, UP)
    changes = [(one.state.value, one.reason) for one in heard.told if isinstance(one, FeedChange)]
    assert [("down", Trouble.INCOMPLETE), ("down", "dropped"), ("up", Trouble.INCOMPLETE)] == changes[-3:]


def test_a_feed_whose_summary_is_newer_is_not_told_twice(heard: Listener) -> None:
    """As with agents."""
    heard.hear(5, NOW + 0.1)
    heard.hearing.learn(summary(7, 6, worded(UP)), NOW + heard.ahead)
    heard.hear(6, NOW + 0.2, FeedChange(state=FeedState.DOWN, at=NOW))
    heard.learn(6)
    assert FeedState.UP is [one for one in heard.told if isinstance(one, FeedChange)][-1].state


def test_summaries_of_another_epoch_tell_nothing(heard: Listener) -> None:
    """Nor do any that weren't asked for."""
    count = len(heard.told)
    heard.hearing.learn(summary(7, 1, worded(WHOLE)), NOW)
    heard.hear(4, NOW + 0.2)
    before = len(heard.told)
    heard.learn(4, WHOLE, epoch=6)
    assert count < before == len(heard.told)
    heard.hearing.learnt(heard.hearing.scan, NOW)


@pytest.mark.parametrize("text", ["[]", "[1,2]", '[["a",1],["x","1"]]', '[[7,1],["?"]]'])
def test_what_is_no_summary_is_refused(text: str) -> None:
    """And not quoted."""
    listener = Listener()
    listener.hear(1, NOW)
    with pytest.raises(Garbled):
        listener.hearing.learn(text, NOW)


def test_an_entry_is_read_as_it_was_written() -> None:
    """And anything else is refused."""
    entry = Entry(1, 2, 3.25, -0.1, [["x", AGENT]])
    assert entry == Entry.of(entry.fields())
    for name in entry.fields():
        for strange in ({}, {name: "?"}):
            with pytest.raises(Garbled):
                Entry.of({key: text for key, text in entry.fields().items() if key != name} | strange)
    assert "*" == FEED


def test_the_quickest_answer_tells_the_time_best() -> None:
    """A clock that was set is believed at once."""
    clock = CommonClock()
    clock.observe(NOW + 100.4, NOW, NOW + 1)
    assert -0.2 < clock.offset - 100 < 0.2
    clock.observe(NOW + 101.001, NOW + 1, NOW + 1.002)
    assert 100.0 == pytest.approx(clock.offset)
    clock.observe(NOW + 102.5, NOW + 2, NOW + 3)
    assert 100.0 == pytest.approx(clock.offset)
    clock.observe(NOW + 3, NOW + 3, NOW + 3.2)
    assert -0.1 == pytest.approx(clock.offset)


presences = st.sampled_from([Presence.BUSY, Presence.AWAY, Presence.MEAL])
moments = st.integers(0, 40).map(lambda tick: NOW - 50 + tick)
changes = st.builds(lambda one: AgentState(presence=one, source=StateSource.NOTIFICATION), presences)
tellings = st.one_of(
    st.builds(StateUpdate, st.just(AGENT), changes, moments),
    st.builds(lambda at: Reading(AGENT, (), at, lasts=True), moments),
    st.builds(lambda at: Suspension(at, (AGENT,)), moments),
    st.just(Forgotten(AGENT)),
)


def is_after(reading: Reading, before: list[Shared]) -> bool:
    """Return whether nothing is vouched for of a time that was in doubt: no feed does so."""
    return all((reading.confirmed_at or 0) >= one.since for one in before if isinstance(one, Suspension))


@given(st.lists(tellings, max_size=14), st.integers(0, 14))
def test_whoever_comes_later_knows_no_more_and_nothing_else(told: list[Shared], joined: int) -> None:
    """One hears all; another comes when some has been said. What the newcomer calls known, the first one says too."""
    at_once = {one.at: one.state for one in reversed(told) if isinstance(one, StateUpdate)}
    told = [one for one in told if not isinstance(one, StateUpdate) or at_once[one.at] == one.state]
    told = [one for place, one in enumerate(told) if not isinstance(one, Reading) or is_after(one, told[:place])]
    first, newcomer, summaries = Listener(), Listener(), Summaries()
    first.hear(1, NOW)
    first.learn(1)
    for number, one in enumerate(told, 2):
        first.hear(number, NOW, one)
        if number - 2 < joined:
            summaries.take(one)
    held = summaries.of(AGENT)
    newcomer.hear(joined + 1, NOW)
    newcomer.learn(joined + 1, *([held] if held else []))
    for number, one in enumerate(told[joined:], joined + 2):
        newcomer.hear(number, NOW, one)
    for sent in (NOW - 60 + tick for tick in range(61)):
        said, certainty = newcomer.state(sent)
        if certainty is Certainty.KNOWN:
            assert said is first.state(sent)[0]
