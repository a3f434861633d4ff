"""What is heard of agents, and how far it is trusted: held against the real directory that it is told to."""

from collections.abc import Iterator

import pytest

from call_initiation.agents.timeline import BLUR
from call_initiation.agents.users import Part, Update
from call_initiation.api.notifications import AsyncFailure, Heartbeat, Ignored, Notified
from call_initiation.events import NotificationTaken, StateLabel
from call_initiation.feed.witness import AT_ONCE, Lost, Trouble
from call_initiation.recording.updates import Forgotten, LegLost, Reading, StateUpdate, Suspension
from witnessed import HEARD, KNOWN, REST, STALE, UNKNOWN, Bench, T, part, read_whole, shown


@pytest.fixture
def bench() -> Iterator[Bench]:
    """Return a bench whose agent was read whole at T + 2."""
    with read_whole() as made:
        yield made


# -- reading ------------------------------------------------------------------------------------------------------


def test_nobody_is_read_before_what_was_before_has_arrived() -> None:
    """Changes are heard of from the subscription on; what is asked for later shows all that was before."""
    bench = Bench()
    assert [] == bench.witness.due(T + BLUR - 0.01)
    assert ["a"] == bench.witness.due(T + BLUR)
    assert not bench.witness.is_settled


def test_a_whole_reading_vouches_from_its_answer_on(bench: Bench) -> None:
    """Of what was before it is told, but not vouched for."""
    assert (StateLabel.AVAILABLE, KNOWN) == bench.as_of(T + 3)
    assert (StateLabel.UNKNOWN, STALE) == bench.as_of(T + 2.4)
    assert bench.witness.is_settled


def test_the_age_of_a_first_reading_is_that_of_its_stamps(bench: Bench) -> None:
    """What carries no stamp doesn't pass for a change."""
    state, age = bench.exporter.agents.as_of("a", T + 100)
    assert (T - 600, 700, REST) == (state.since, age, state.source)


def test_what_is_notified_later_wins_over_a_reading_and_what_was_before_loses(bench: Bench) -> None:
    """A late notification of something older goes into history only."""
    bench.notify(T + 10, Part.PRESENCE, T + 9.9, presence="BUSY")
    assert (StateLabel.BUSY, KNOWN) == bench.as_of(T + 11)
    assert (StateLabel.AVAILABLE, KNOWN) == bench.as_of(T + 9.9)
    bench.notify(T + 12, Part.PRESENCE, T + 9, presence="MEAL")
    assert (StateLabel.BUSY, KNOWN) == bench.as_of(T + 13)
    assert (StateLabel.MEAL, KNOWN) == bench.as_of(T + 9.5)


def test_a_reading_after_a_gap_wins_over_what_was_heard_before_it(bench: Bench) -> None:
    """Even where its own stamp is older than the moment, as it must be."""
    bench.notify(T + 10, Part.PRESENCE, T + 10, presence="BUSY")
    bench.witness.doubt_all(T + 11)
    assert (StateLabel.UNKNOWN, STALE) == bench.as_of(T + 12)
    assert (StateLabel.BUSY, KNOWN) == bench.as_of(T + 10.5)
    bench.witness.read_all(T + 20)
    assert ["a"] == bench.witness.due(T + 22)
    bench.read(T + 22, *shown("MEAL", T + 15))
    assert (StateLabel.MEAL, KNOWN) == bench.as_of(T + 30)


def test_a_reading_wins_whatever_a_clock_that_jumped_had_stamped(bench: Bench) -> None:
    """What it shows is so now: a stamp from before the jump may seem to be of the future, or an hour old."""
    for at in (T + 5000, T - 5000):
        bench.notify(T + 10, Part.PRESENCE, T + 10, presence="BUSY")
        bench.witness.doubt_all(T + 11)
        bench.read(T + 22, *shown("MEAL", at))
        assert (StateLabel.MEAL, KNOWN) == bench.as_of(T + 30)
        bench = Bench()
        bench.read(T + 2)


@pytest.mark.parametrize("missing", range(4))
def test_a_reading_that_is_not_whole_vouches_for_nothing(missing: int) -> None:
    """Expansions are best effort on the server's side; each of the four is needed."""
    bench = Bench()
    bench.read(T + 2, *(one for index, one in enumerate(shown()) if index != missing))
    assert (StateLabel.UNKNOWN, STALE) == bench.as_of(T + 3)
    assert bench.witness.is_settled
    assert ["a"] == bench.witness.sample()
    bench.read(T + 10)
    assert (StateLabel.AVAILABLE, KNOWN) == bench.as_of(T + 11)


def test_a_reading_that_shows_nothing_readable_tells_nothing() -> None:
    """Not even a time."""
    bench = Bench()
    bench.read(T + 2, part(Part.PRESENCE, T, REST))
    assert [Reading("a", (), None, lasts=True)] == bench.told


def test_a_reading_without_any_stamp_counts_as_of_just_before(bench: Bench) -> None:
    """There is nothing older to hold on to."""
    other = Bench()
    other.read(T + 2, *(Update(one.part, one.state, None) for one in shown()))
    assert (StateLabel.AVAILABLE, KNOWN) == other.as_of(T + 3) == bench.as_of(T + 3)
    other.notify(T + 10, Part.PRESENCE, T + 9, presence="BUSY")
    assert (StateLabel.BUSY, KNOWN) == other.as_of(T + 9.5)


def test_an_agent_that_is_not_shown_is_no_more(bench: Bench) -> None:
    """A deleted user is unknown; should it come back, it is read like a new one."""
    bench.witness.read(["a"], {}, T + 10, T + 11)
    assert [Forgotten("a")] == bench.all(Forgotten)
    assert (StateLabel.UNKNOWN, UNKNOWN) == bench.as_of(T + 12)
    bench.read(T + 20)
    assert (StateLabel.AVAILABLE, KNOWN) == bench.as_of(T + 21)


def test_a_reading_of_somebody_who_is_not_followed_any_more_is_passed_over(bench: Bench) -> None:
    """A rejected topic may come back while a read is under way."""
    bench.witness.drop(["a", "b"])
    before = len(bench.told)
    bench.read(T + 10)
    assert (before, 0, []) == (len(bench.told), len(bench.witness), bench.witness.agent_ids)


def test_who_is_followed_already_is_not_read_again(bench: Bench) -> None:
    """Adding twice is adding once."""
    bench.witness.add(["a"], T + 10)
    assert bench.witness.is_settled


def test_a_doubt_of_one_agent_does_not_unsettle_all(bench: Bench) -> None:
    """Of many busy agents somebody is always in doubt, and the feed is up all the same; not so when all are."""
    bench.notify(T + 20, Part.PRESENCE, None, presence="BUSY")
    bench.notify(T + 20, Part.PRESENCE, T + 5000, presence="AWAY")
    assert ["a"] == bench.witness.due(T + 30)
    assert bench.witness.is_settled
    bench.witness.read_all(T + 40)
    assert not bench.witness.is_settled
    bench.read(T + 50)
    assert bench.witness.is_settled


def test_agents_are_read_and_sampled_in_turn_as_many_as_one_read_shows() -> None:
    """And over again; those who wait to be read are no sample."""
    bench = Bench()
    ids = [f"agent-{number}" for number in range(AT_ONCE + 10)]
    bench.witness.drop(["a"])
    bench.witness.add(ids, T)
    assert ids[:AT_ONCE] == bench.witness.due(T + BLUR)
    bench.witness.read(ids, dict.fromkeys(ids, shown()), T + 2, T + 3)
    assert [ids[:AT_ONCE], ids[AT_ONCE:], ids[:AT_ONCE]] == [bench.witness.sample() for _ in range(3)]
    bench.witness.doubt_all(T + 5)
    bench.witness.read_all(T + 5)
    assert [] == bench.witness.sample()
    assert [AT_ONCE, 10] == [len(one.agent_ids) for one in bench.all(Suspension)]


# -- notifications that cast doubt ----------------------------------------------------------------------------------


def test_a_part_that_cannot_be_read_casts_doubt_until_a_read_shows_the_agent_whole(bench: Bench) -> None:
    """An unknown presence must not leave the old one known."""
    bench.notify(T + 10, Part.PRESENCE, T + 9.8)
    assert (StateLabel.UNKNOWN, STALE) == bench.as_of(T + 11)
    assert (StateLabel.AVAILABLE, KNOWN) == bench.as_of(T + 8)
    assert [] == bench.witness.due(T + 11.9)
    assert ["a"] == bench.witness.due(T + 12)
    bench.read(T + 12, *shown(None))
    assert (StateLabel.UNKNOWN, STALE) == bench.as_of(T + 13)
    bench.notify(T + 14, Part.PRESENCE, T + 14)
    bench.notify(T + 15, Part.PRESENCE, T + 15, presence="MEAL")
    bench.read(T + 20, *shown("MEAL", T + 15))
    assert (StateLabel.MEAL, KNOWN) == bench.as_of(T + 21)


def test_a_read_that_was_asked_for_before_a_doubt_dispels_none(bench: Bench) -> None:
    """It may show what was before: an unknown presence came while the answer was under way."""
    bench.notify(T + 20.2, Part.PRESENCE, T + 20.1)
    bench.read(T + 20)
    assert (StateLabel.UNKNOWN, STALE) == bench.as_of(T + 30)
    assert ["a"] == bench.witness.due(T + 22.2)
    bench.read(T + 22.2, *shown("MEAL", T + 21))
    assert (StateLabel.MEAL, KNOWN) == bench.as_of(T + 30)


@pytest.mark.parametrize(("at", "is_told"), [(T + 3610, False), (T + 10 - 15.1, True), (T - 3600, True)])
def test_a_stamp_that_cannot_be_right_casts_doubt(bench: Bench, at: float, is_told: bool) -> None:  # noqa: FBT001 - a parameter
    """Of the future: it isn't even told. Long past: a straggler, or the server's clock was set back."""
    bench.notify(T + 10, Part.PRESENCE, at, presence="BUSY")
    assert (StateLabel.UNKNOWN, STALE) == bench.as_of(T + 11)
    assert is_told == bool(bench.all(StateUpdate))
    assert (None if at > T + 10 else T + 10 - at) == bench.all(NotificationTaken)[0].lag


def test_a_stamp_well_before_the_last_one_casts_doubt(bench: Bench) -> None:
    """Order is lost by moments only; this may be a clock that was set back."""
    bench.notify(T + 10, Part.PRESENCE, T + 10, presence="BUSY")
    bench.notify(T + 12, Part.PRESENCE, T + 7.9, presence="MEAL")
    assert (StateLabel.UNKNOWN, STALE) == bench.as_of(T + 13)


def test_changes_without_a_stamp_that_come_close_together_cast_doubt(bench: Bench) -> None:
    """Which one was the last isn't known; a repetition is no question."""
    bench.notify(T + 10, Part.CONVERSATIONS, None, on_call=1, wrap_up=0)
    bench.notify(T + 10.1, Part.CONVERSATIONS, None, on_call=1, wrap_up=0)
    assert (StateLabel.ON_CALL, KNOWN) == bench.as_of(T + 11)
    bench.notify(T + 11, Part.CONVERSATIONS, None, on_call=0, wrap_up=1)
    assert (StateLabel.UNKNOWN, STALE) == bench.as_of(T + 12)


def test_stamps_of_a_clock_that_has_just_jumped_are_vague() -> None:
    """Until some more answers have shown how far it jumped."""
    bench = Bench()
    bench.timeline.observe_date(T + 3600, T, T)
    bench.read(T + 2, *shown(at=T + 3000))
    bench.notify(T + 30, Part.PRESENCE, T + 3629.5, presence="BUSY")
    assert (StateLabel.UNKNOWN, STALE) == bench.as_of(T + 29)
    assert (StateLabel.BUSY, KNOWN) == bench.as_of(T + 31)


def test_order_holds_while_the_offset_grows_better() -> None:
    """A newer stamp never lands before an older one, nor an older one after; the same one is the same."""
    bench = Bench()
    bench.timeline.offset, bench.timeline._dates = 10.0, 99
    bench.read(T + 2)
    said = [(T + 20, "BUSY", 9.0), (T + 20.1, "MEAL", 10.0), (T + 20.1, "MEAL", 9.5), (T + 20.05, "AWAY", 8.0)]
    for at, presence, offset in said:
        bench.timeline.offset = offset
        bench.notify(T + 13, Part.PRESENCE, at, presence=presence)
    told = [(one.state.presence, one.at) for one in bench.all(StateUpdate)]
    times = dict(told)
    assert [T + 11, T + 11 + 1e-6] == pytest.approx([times["BUSY"], times["MEAL"]], abs=1e-6)
    assert times["AWAY"] < times["MEAL"]
    assert told[1] == told[2]


def test_an_out_of_office_and_strangers_are_counted_only(bench: Bench) -> None:
    """An out-of-office isn't subscribed to, so it can't be kept current."""
    before = len(bench.told)
    bench.notify(T + 10, Part.OUT_OF_OFFICE, T + 10, out_of_office=True)
    stranger = Notified("presence", "b", part(Part.PRESENCE, T + 10, HEARD, presence="BUSY"), None)
    bench.witness.hear(stranger, T + 10.5)
    expected = [NotificationTaken(topic="outofoffice", lag=0.0), NotificationTaken(topic="presence", lag=0.5)]
    assert expected == bench.told[before:]


def test_garbage_is_counted_and_signs_of_life_are_not(bench: Bench) -> None:
    """`channel` looks after those."""
    before = len(bench.told)
    bench.witness.hear(Ignored("not_json"), T + 10)
    bench.witness.hear(Heartbeat(), T + 10)
    assert [NotificationTaken(topic="ignored")] == bench.told[before:]


def test_a_legs_failure_prevents_repeats(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A conversation's later events repeat it; only so many are remembered."""
    monkeypatch.setattr("call_initiation.feed.witness._FAILURES", 2)
    failures = [AsyncFailure("a", conversation, "error.x") for conversation in ("1", "1", "2", "3", "1")]
    for failure in failures:
        bench.witness.hear(failure, T + 10)
    assert [LegLost("a", "error.x", T + 10)] * 4 == bench.all(LegLost)


def test_a_legs_failure_is_of_the_time_when_it_began(bench: Bench) -> None:
    """By the server's clock brought to ours, but not later than it was heard of; a later event may say it otherwise."""
    bench.timeline.offset = 3.0
    for began in (T + 7, T + 8):
        bench.witness.hear(AsyncFailure("a", "1", "error.x", began), T + 10)
    bench.witness.hear(AsyncFailure("a", "2", "error.x", T + 14), T + 10)
    assert [LegLost("a", "error.x", at) for at in (T + 4, T + 10)] == bench.all(LegLost)


# -- checks -------------------------------------------------------------------------------------------------------


def test_a_read_that_agrees_changes_nothing(bench: Bench) -> None:
    """Nor does one that lags behind a notification."""
    before = len(bench.told)
    bench.read(T + 20)
    assert before == len(bench.told)
    bench.notify(T + 21, Part.PRESENCE, T + 21, presence="BUSY")
    bench.read(T + 22, *shown())
    assert (StateLabel.BUSY, KNOWN) == bench.as_of(T + 23)


def test_a_read_that_cannot_be_read_whole_casts_doubt(bench: Bench) -> None:
    """The agent's presence is one that we don't know; that it was notified, if it was, may have been missed."""
    bench.read(T + 20, *shown(None, T + 15))
    assert (StateLabel.AVAILABLE, KNOWN) == bench.as_of(T + 18)
    assert (StateLabel.UNKNOWN, STALE) == bench.as_of(T + 21)
    bench.read(T + 22, *shown(None, T + 15))
    assert (StateLabel.UNKNOWN, STALE) == bench.as_of(T + 30)
    assert [] == bench.witness.due(T + 100)


def test_a_contradiction_that_stays_is_a_loss(bench: Bench) -> None:
    """The news may still be under way, so it is read twice before nothing is trusted any more."""
    bench.read(T + 20, *shown("BUSY", T + 15))
    assert (StateLabel.UNKNOWN, STALE) == bench.as_of(T + 21)
    assert [] == bench.witness.due(T + 30)
    assert ["a"] == bench.witness.due(T + 32)
    with pytest.raises(Lost, match=Trouble.CONTRADICTED):
        bench.read(T + 32, *shown("BUSY", T + 15))


@pytest.mark.parametrize("heard", [True, False])
def test_a_contradiction_that_resolves_itself_is_none(bench: Bench, heard: bool) -> None:  # noqa: FBT001 - a parameter
    """The notification came late, or the read had been of an old copy."""
    bench.read(T + 20, *shown(on_call=1))
    if heard:
        bench.notify(T + 21, Part.CONVERSATIONS, None, on_call=1, wrap_up=0)
    bench.read(T + 32, *shown(on_call=1 if heard else 0))
    assert (StateLabel.ON_CALL if heard else StateLabel.AVAILABLE, KNOWN) == bench.as_of(T + 40)


def test_news_that_a_read_was_ahead_of_dispel_its_doubt(bench: Bench) -> None:
    """As if it had never been; once all of it is heard, and is dated."""
    bench.read(T + 20, *shown("BUSY", T + 19.5, on_call=1))
    bench.notify(T + 20.6, Part.PRESENCE, T + 19.5, presence="BUSY")
    assert (StateLabel.UNKNOWN, STALE) == bench.as_of(T + 20.1)
    bench.leg(T + 20.7, T + 19, T + 19)
    bench.summary(T + 20.8, 1, 0)
    assert (StateLabel.AVAILABLE, KNOWN) == bench.as_of(T + 19)
    assert (StateLabel.ON_CALL, KNOWN) == bench.as_of(T + 19.1)
    assert [] == bench.witness.due(T + 60)


def test_news_that_leave_a_doubt_dispel_none(bench: Bench) -> None:
    """A summary that nothing dates, a leg that belongs before one, and another doubt."""

    def of_a_call() -> None:
        bench.leg(T + 10, T + 5, T + 5)
        bench.summary(T + 20.8, 1, 0)

    def of_a_leg() -> None:
        bench.leg(T + 20.6, T + 1, T + 1)
        bench.notify(T + 20.8, Part.PRESENCE, T + 19.5, presence="BUSY")

    def of_a_doubt() -> None:
        bench.notify(T + 20.6, Part.STATION, None)
        bench.notify(T + 20.8, Part.PRESENCE, T + 19.5, presence="BUSY")

    for on_call, news in ((1, of_a_call), (0, of_a_leg), (0, of_a_doubt)):
        bench.read(T + 20, *(shown(on_call=1) if on_call else shown("BUSY", T + 19.5)))
        news()
        assert (StateLabel.UNKNOWN, STALE) == bench.as_of(T + 20.9)
        assert ["a"] == bench.witness.due(T + 60)
        bench.exporter.close()
        bench = Bench()
        bench.read(T + 2)


def test_a_read_that_lags_behind_is_asked_for_again(bench: Bench) -> None:
    """It must not win over a notification that it doesn't know of."""
    bench.notify(T + 10, Part.STATION, None)
    bench.notify(T + 11, Part.PRESENCE, T + 11, presence="BUSY")
    bench.read(T + 13)
    assert (StateLabel.UNKNOWN, STALE) == bench.as_of(T + 14)
    assert [] == bench.witness.due(T + 15)
    assert ["a"] == bench.witness.due(T + 24)
    bench.read(T + 24, *shown("BUSY", T + 11))
    assert (StateLabel.BUSY, KNOWN) == bench.as_of(T + 25)


def test_a_read_that_differs_from_news_of_just_before_is_asked_for_again(bench: Bench) -> None:
    """It may show something later, of which the news is under way, or something older; it counts as of a while ago."""
    bench.notify(T + 10.1, Part.PRESENCE, None)
    bench.leg(T + 11.1, T + 11, T + 11)
    bench.summary(T + 11.2, 1, 0)
    bench.read(T + 12.2, *shown())
    assert (StateLabel.UNKNOWN, STALE) == bench.as_of(T + 12.8)
    assert [] == bench.witness.due(T + 12.9)
    assert ["a"] == bench.witness.due(T + 13)
    bench.read(T + 13.1, *shown())
    assert (StateLabel.AVAILABLE, KNOWN) == bench.as_of(T + 14)


# -- the recorder -------------------------------------------------------------------------------------------------


def test_what_the_recorder_refuses_is_a_loss(bench: Bench) -> None:
    """Else what it never heard of could pass for known."""
    bench.is_full = True
    with pytest.raises(Lost, match=Trouble.OVERFLOW):
        bench.notify(T + 10, Part.PRESENCE, T + 10, presence="BUSY")
    bench.witness.doubt_all(T + 10)
    assert (StateLabel.UNKNOWN, STALE) == bench.as_of(T + 11)


def test_nothing_takes_effect_after_it_was_heard_of(bench: Bench) -> None:
    """Even if the server's clock is a little ahead."""
    bench.notify(T + 10, Part.PRESENCE, T + 11, presence="BUSY")
    assert (StateLabel.BUSY, KNOWN) == bench.as_of(T + 10.1)
