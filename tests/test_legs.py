"""When an agent's legs began and ended, and which summaries that dates."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from call_initiation.agents.legs import Counts, Interval, Leg, Legs, leg

AGENT = "9d4b0c1e-0000-4000-8000-00000000000a"
BEGINS, ENDS = (1, 0), (-1, 0)
WRAPS_UP, IS_DONE = (-1, 1), (0, -1)


def heard(*legs: Leg) -> Legs:
    """Return legs that were heard of, each of another participant's."""
    made = Legs()
    for number, one in enumerate(legs):
        made.hear(f"participant-{number}", one)
    return made


def participant(**fields: Any) -> dict[str, Any]:
    """Return a participant of the agent's."""
    return {"purpose": "agent", "user": {"id": AGENT}} | fields


def test_a_participant_has_up_to_five_times() -> None:
    """Under the names of the SDK's model; seconds since the epoch."""
    names = ("startTime", "connectedTime", "endTime", "startAcwTime", "endAcwTime")
    times = {name: f"1970-01-01T00:00:0{second}.125Z" for second, name in enumerate(names, 1)}
    assert Leg(1.125, 2.125, 3.125, 4.125, 5.125) == leg(participant(**times), AGENT)
    assert Leg(started=1.125) == leg(participant(startTime=times["startTime"], endTime=None), AGENT)


@pytest.mark.parametrize(
    "other",
    [{"purpose": "customer"}, {"purpose": "coach"}, {"purpose": None}, {"user": {"id": "b"}}, {"user": None}],
    ids=str,
)
def test_others_and_those_who_only_listen_have_no_leg(other: dict[str, Any]) -> None:
    """Whether a summary counts those who monitor or coach isn't known."""
    assert None is leg(participant(startTime="1970-01-01T00:00:01Z") | other, AGENT)


@given(
    st.dictionaries(
        st.sampled_from(["startTime", "purpose", "user", "endAcwTime"]), st.none() | st.integers() | st.text()
    )
)
def test_any_participant_can_be_read(anything: dict[str, Any]) -> None:
    """Nothing is raised."""
    assert leg(participant(**anything), AGENT) is None or not anything.keys() & {"purpose", "user"}


ENDED = Leg(10.0, 10.0, 60.0, 60.0, 70.0)


@pytest.mark.parametrize(
    ("one", "step", "since", "expected"),
    [
        (Leg(10.0, 10.0), BEGINS, 0.0, Interval(10.0, 10.0)),
        (Leg(10.0, 13.0), BEGINS, 0.0, Interval(10.0, 13.0)),
        (Leg(None, 13.0), BEGINS, 0.0, Interval(13.0, 13.0)),
        (Leg(10.0), BEGINS, 0.0, Interval(10.0, 100.0)),
        (Leg(10.0, None, 30.0), BEGINS, 0.0, None),
        (Leg(10.0, 10.0, 60.0), ENDS, 10.0, Interval(60.0, 60.0)),
        (Leg(10.0, 10.0, 60.0, 60.0), WRAPS_UP, 10.0, Interval(60.0, 60.0)),
        (Leg(10.0, 10.0, 60.0, 61.0), WRAPS_UP, 10.0, Interval(60.0, 61.0)),
        (ENDED, IS_DONE, 60.0, Interval(70.0, 70.0)),
        (ENDED, BEGINS, 0.0, Interval(10.0, 10.0)),
        (ENDED, ENDS, 10.0, None),
        (ENDED, WRAPS_UP, 10.0, Interval(60.0, 60.0)),
        (ENDED, IS_DONE, 70.0, None),
        (Leg(10.0, 13.0, 60.0), ENDS, 11.0, Interval(10.0, 60.0)),
        (Leg(101.5, 101.5), BEGINS, 0.0, Interval(101.5, 101.5)),
        (Leg(103.0, 103.0), BEGINS, 0.0, None),
        (Leg(), BEGINS, 0.0, None),
    ],
    ids=str,
)
def test_a_leg_dates_what_it_adds_up_to(one: Leg, step: Counts, since: float, expected: Interval | None) -> None:
    """As of second 100: never anything of before the last word, nor of the future by more than clocks differ."""
    assert expected == heard(one).interval(step, since, 100.0)


def test_what_may_have_been_either_was_somewhere_between_the_two() -> None:
    """Two that begin: the summary of one may be of either; the summary of both is of both."""
    legs = heard(Leg(10.0, 10.0), Leg(12.0, 12.0))
    assert None is legs.interval(BEGINS, 0.0, 100.0)
    assert Interval(12.0, 12.0) == legs.interval(BEGINS, 10.0, 100.0)
    assert Interval(10.0, 12.0) == legs.interval((2, 0), 0.0, 100.0)
    again = heard(Leg(10.0, 10.0, 11.0), Leg(12.0, 12.0))
    assert Interval(10.0, 12.0) == again.interval(BEGINS, 0.0, 100.0)


def test_a_call_that_takes_an_agent_from_its_after_call_work_is_one_moment() -> None:
    """The one's end and the other's beginning."""
    legs = heard(Leg(10.0, 10.0, 20.0, 20.0, 25.0), Leg(25.0, 25.0))
    assert Interval(25.0, 25.0) == legs.interval((1, -1), 20.0, 100.0)


def test_the_same_as_before_is_in_question_since_anything_happened() -> None:
    """And isn't, if nothing did."""
    legs = heard(Leg(10.0, 10.0, 11.0))
    assert Interval(10.0, 100.0) == legs.interval((0, 0), 0.0, 100.0)
    assert None is legs.interval((0, 0), 11.0, 100.0)


def test_what_was_heard_of_a_leg_is_not_taken_back() -> None:
    """An older event may come late; each tells what is new in it."""
    legs = Legs()
    assert 10.0 == legs.hear("p", Leg(10.0, 11.0, 20.0))
    assert None is legs.hear("p", Leg(10.0, 11.0))
    assert 20.0 == legs.hear("p", Leg(10.0, 11.0, 20.0, 20.0, 21.0))
    assert Interval(20.0, 20.0) == legs.interval(WRAPS_UP, 11.0, 100.0)


def test_only_the_latest_legs_are_kept() -> None:
    """Those that were heard of last."""
    legs = heard(*(Leg(float(second), float(second)) for second in range(1, 18)))
    assert Interval(2.0, 17.0) == legs.interval((16, 0), 0.0, 100.0)
