"""What the history of failures promises: the newest ones, never more than so many, whatever else is told."""

from collections.abc import Iterable
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from call_initiation.events import (
    AgentState,
    Event,
    FeedChange,
    FeedState,
    LateChange,
    LegFailure,
    NotificationTaken,
    SkewChange,
    StateChange,
    StateLabel,
)
from call_initiation.recording.recent import KEPT, Recent
from samples import ACCEPTED, REFUSED, STARTED_AT, UNANSWERED


def after(events: Iterable[Event]) -> Recent:
    """Return the history after these events."""
    recent = Recent(dict)
    for event in events:
        recent.record(event)
    return recent


def test_the_newest_failure_comes_first() -> None:
    """Whatever kind of failure it is."""
    assert (UNANSWERED, REFUSED) == after([REFUSED, UNANSWERED]).failures()


def test_successes_push_no_failure_out() -> None:
    """Failures are kept longer than successes, which aren't kept at all."""
    assert (REFUSED,) == after([REFUSED, *[ACCEPTED] * 1_000]).failures()


@given(st.lists(st.booleans(), max_size=3 * KEPT))
def test_they_are_the_last_failures_and_never_more_than_so_many(fails: list[bool]) -> None:
    """As if all calls had been kept and the failures picked out."""
    calls = [replace(REFUSED if fail else ACCEPTED, started_at=STARTED_AT + at) for at, fail in enumerate(fails)]
    expected = [call for call in calls if call.is_failure][::-1][:50]
    assert expected == list(after(calls).failures())


def test_a_minute_begins_with_its_first_nanosecond() -> None:
    """An attempt of that moment is of the new minute, and the look from before it."""
    minutes = [replace(ACCEPTED, started_at=minute * 60 * 10**9) for minute in (1, 2, 3)]
    assert [60, 120, 180] == [look.at for look in after(minutes).looks()]


def test_other_events_are_none_of_its_business() -> None:
    """A leg that failed afterwards is no failed attempt."""
    others: list[Event] = [
        StateChange(agent_id="a", before=StateLabel.IDLE, after=StateLabel.BUSY, state=AgentState(), at=1.0),
        LateChange(agent_id="a", at=1.0),
        FeedChange(state=FeedState.DOWN, at=1.0),
        NotificationTaken(topic="presence"),
        LegFailure(agent_id="a", error_code="error.ininedgecontrol", label=StateLabel.BUSY),
        SkewChange(seconds=1.0),
    ]
    assert () == after(others).failures()


def test_what_was_shown_stays_as_it_was() -> None:
    """A later failure changes no list that was handed out."""
    recent = after([REFUSED])
    shown = recent.failures()
    recent.record(UNANSWERED)
    assert (REFUSED,) == shown


def test_a_reset_forgets_all() -> None:
    """A forked child's page shows the child's failures."""
    recent = after([REFUSED])
    recent.reset()
    recent.record(UNANSWERED)
    assert (UNANSWERED,) == recent.failures()
