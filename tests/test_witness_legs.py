"""When calls are dated: a summary carries no stamp, the legs of an agent's calls do, whichever is heard first."""

from collections.abc import Iterator

import pytest

from call_initiation.agents.legs import Leg
from call_initiation.agents.users import Part
from call_initiation.api.notifications import LegTimes
from call_initiation.events import NotificationTaken, StateLabel
from call_initiation.recording.updates import Suspension
from witnessed import KNOWN, STALE, Bench, T, read_whole, shown


@pytest.fixture
def bench() -> Iterator[Bench]:
    """Return a bench whose agent was read whole at T + 2."""
    with read_whole() as made:
        yield made


def test_the_beginning_of_a_call_counts_from_when_it_is_heard_of(bench: Bench) -> None:
    """Our own call does that to its agent: what was before it is what is asked for."""
    bench.notify(T + 10, Part.CONVERSATIONS, None, on_call=1, wrap_up=0)
    assert (StateLabel.AVAILABLE, KNOWN) == bench.as_of(T + 9.9)
    assert (StateLabel.ON_CALL, KNOWN) == bench.as_of(T + 10.1)


def test_the_end_of_a_call_leaves_a_while_of_which_nothing_is_vouched_for(bench: Bench) -> None:
    """It took effect before we heard of it, and nobody says when."""
    bench.notify(T + 10, Part.CONVERSATIONS, None, on_call=1, wrap_up=0)
    bench.notify(T + 60, Part.CONVERSATIONS, None, on_call=0, wrap_up=1)
    assert (StateLabel.UNKNOWN, STALE) == bench.as_of(T + 59.9) == bench.as_of(T + 60)
    assert (StateLabel.WRAP_UP, KNOWN) == bench.as_of(T + 60.1)


def test_a_summary_takes_effect_when_the_agents_leg_says(bench: Bench) -> None:
    """Its beginning, its end and its after-call work, to the millisecond; nothing is in doubt in between."""
    begun, ended, done = T + 10, T + 20.5, T + 21.25
    bench.leg(T + 10.2, begun, begun)
    bench.summary(T + 10.3, 1, 0)
    bench.leg(T + 20.6, begun, begun, ended, ended)
    bench.summary(T + 20.7, 0, 1)
    bench.leg(T + 21.3, begun, begun, ended, ended, done)
    bench.summary(T + 21.4, 0, 0)
    said = [bench.as_of(at + after) for at in (begun, ended, done) for after in (0.0, 0.001)]
    words = [StateLabel.AVAILABLE, *[StateLabel.ON_CALL] * 2, *[StateLabel.WRAP_UP] * 2, StateLabel.AVAILABLE]
    assert [(word, KNOWN) for word in words] == said
    assert ["conversations.calls", "conversationsummary"] * 3 == [one.topic for one in bench.all(NotificationTaken)]
    assert [] == bench.all(Suspension)


@pytest.mark.parametrize("is_heard", [True, False])
def test_a_summary_that_is_heard_of_before_its_leg_is_dated_then(bench: Bench, is_heard: bool) -> None:  # noqa: FBT001 - a parameter
    """In doubt for as long, and not for a moment longer; a beginning too, once legs were heard of."""
    if is_heard:
        bench.leg(T + 5, T - 60, T - 60, T - 50, participant_id="earlier")
    bench.summary(T + 10.2, 1, 0)
    assert (STALE if is_heard else KNOWN) is bench.as_of(T + 10.1)[1]
    bench.leg(T + 10.3, T + 10, T + 10)
    assert (StateLabel.AVAILABLE, KNOWN) == bench.as_of(T + 10)
    assert (StateLabel.ON_CALL, KNOWN) == bench.as_of(T + 10.1)
    bench.summary(T + 30.2, 0, 0)
    assert (StateLabel.UNKNOWN, STALE) == bench.as_of(T + 30.1)
    bench.leg(T + 30.3, T + 10, T + 10, T + 30)
    assert (StateLabel.ON_CALL, KNOWN) == bench.as_of(T + 30)
    assert (StateLabel.AVAILABLE, KNOWN) == bench.as_of(T + 30.1)
    assert (StateLabel.AVAILABLE, KNOWN) == bench.as_of(T + 10)


def test_a_beginning_between_alerting_and_being_connected_is_in_doubt_there(bench: Bench) -> None:
    """Which of the two counts isn't known; what was before the first and after the second is."""
    bench.leg(T + 13.1, T + 10, T + 13)
    bench.summary(T + 13.2, 1, 0)
    assert (StateLabel.AVAILABLE, KNOWN) == bench.as_of(T + 10)
    assert (StateLabel.UNKNOWN, STALE) == bench.as_of(T + 10.1)
    assert (StateLabel.UNKNOWN, STALE) == bench.as_of(T + 12.9)
    assert (StateLabel.ON_CALL, KNOWN) == bench.as_of(T + 13.1)


def test_a_beginning_that_is_not_connected_yet_is_in_doubt_until_it_is_heard_of(bench: Bench) -> None:
    """The summary may have been sooner than the event of the connection; whichever was heard first."""
    bench.leg(T + 9, T - 60, T - 60, T - 50, participant_id="earlier")
    bench.summary(T + 10.2, 1, 0)
    bench.leg(T + 10.3, T + 10)
    assert (StateLabel.AVAILABLE, KNOWN) == bench.as_of(T + 10)
    assert (StateLabel.UNKNOWN, STALE) == bench.as_of(T + 10.15)
    assert (StateLabel.ON_CALL, KNOWN) == bench.as_of(T + 10.25)


def test_a_leg_that_does_not_fit_dates_nothing(bench: Bench) -> None:
    """One of before the last word, one of which more happened, and a stranger's."""
    bench.leg(T + 1, T - 60, T - 60)
    bench.leg(T + 9, T + 1.9, T + 1.9, participant_id="before the read")
    bench.leg(T + 9.5, T + 9, T + 9, T + 9.1, T + 9.1, participant_id="more")
    bench.witness.hear(LegTimes("b", "p", Leg(T + 10, T + 10)), T + 10.1)
    bench.summary(T + 10.2, 2, 0)
    assert (StateLabel.UNKNOWN, STALE) == bench.as_of(T + 10.1)
    bench.leg(T + 10.3, T + 10.25, T + 10.25, participant_id="one is too few")
    assert (StateLabel.UNKNOWN, STALE) == bench.as_of(T + 10.1)
    assert (StateLabel.ON_CALL, KNOWN) == bench.as_of(T + 10.3)


def test_a_summary_that_is_the_same_although_something_happened_is_vague(bench: Bench) -> None:
    """Two summaries may have changed places: the one in between is still under way."""
    bench.leg(T + 10.1, T + 10, T + 10, T + 10.05)
    bench.summary(T + 10.2, 0, 0)
    assert (StateLabel.UNKNOWN, STALE) == bench.as_of(T + 10.1)
    assert (StateLabel.AVAILABLE, KNOWN) == bench.as_of(T + 10)
    assert (StateLabel.AVAILABLE, KNOWN) == bench.as_of(T + 10.3)


def test_what_is_heard_of_after_a_later_summary_was_missed_before_it(bench: Bench) -> None:
    """From its moment up to that summary nothing is vouched for; what was in doubt anyway stays so."""
    bench.leg(T + 10.1, T + 10, T + 10)
    bench.summary(T + 10.2, 1, 0)
    bench.leg(T + 12.1, T + 12, T + 12, T + 13, participant_id="second")
    bench.leg(T + 12.2, T + 9, T + 9, T + 9.5, participant_id="late")
    assert (StateLabel.AVAILABLE, KNOWN) == bench.as_of(T + 9)
    assert (StateLabel.UNKNOWN, STALE) == bench.as_of(T + 9.8) == bench.as_of(T + 10)
    assert (StateLabel.ON_CALL, KNOWN) == bench.as_of(T + 10.1)
    bench.leg(T + 12.3, T - 9, T - 9, participant_id="before all")
    assert (StateLabel.ON_CALL, KNOWN) == bench.as_of(T + 10.1)
    bench.notify(T + 14, Part.PRESENCE, T + 14)
    bench.leg(T + 14.1, T + 9, T + 9, T + 9.5, T + 9.7, participant_id="late")
    assert (StateLabel.UNKNOWN, STALE) == bench.as_of(T + 14.2)


@pytest.mark.parametrize("other", ["a leg of before", "a station"])
def test_a_leg_that_dates_a_summary_dispels_no_other_doubt(bench: Bench, other: str) -> None:
    """Of what came between the two, or before both."""
    bench.leg(T + 5, T - 60, T - 60, T - 50, participant_id="earlier")
    bench.notify(T + 6, Part.ROUTING_STATUS, T + 6, routing_status="IDLE")
    bench.leg(T + 9.1, T + 9, T + 9)
    bench.summary(T + 9.2, 1, 0)
    bench.summary(T + 20.2, 0, 0)
    if other == "a station":
        bench.notify(T + 20.3, Part.STATION, None, station="7c1f")
    else:
        bench.leg(T + 20.3, T + 8, T + 8, T + 8.5, participant_id="unseen")
    bench.leg(T + 20.4, T + 9, T + 9, T + 20)
    doubted = T + 8.2 if other == "a leg of before" else T + 18.4
    assert (StateLabel.UNKNOWN, STALE) == bench.as_of(doubted)
    assert (StateLabel.AVAILABLE, KNOWN) == bench.as_of(T + 20.5)


def test_legs_are_no_help_while_stamps_are_vague() -> None:
    """After a jump of the clock, until more answers have shown how far it went."""
    bench = Bench()
    bench.timeline.observe_date(T + 3600, T, T)
    bench.read(T + 2, *shown(at=T + 3000))
    bench.leg(T + 10.1, T + 3610, T + 3610)
    bench.summary(T + 10.2, 1, 0)
    assert (StateLabel.UNKNOWN, STALE) == bench.as_of(T + 9)
