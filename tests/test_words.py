"""Words of a feed: what is read is what was told, all else is refused, and summaries tell enough."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from call_initiation.events import AgentState, FeedChange, FeedState, Presence, RoutingStatus, StateSource
from call_initiation.recording.updates import Forgotten, Reading, StateUpdate, Suspension
from call_initiation.sharing.words import Garbled, Shared, Summaries, meant, read, worded, written

AGENT = "9d4b4c1e-0000-4000-8000-000000000001"
BUSY = AgentState(presence=Presence.BUSY, source=StateSource.NOTIFICATION)
AWAY = AgentState(presence=Presence.AWAY, source=StateSource.REST)
SEATED = AgentState(station="7c1e", source=StateSource.REST)

times = st.floats(-1e10, 1e10)
states = st.builds(
    AgentState,
    presence=st.none() | st.sampled_from(Presence),
    routing_status=st.none() | st.sampled_from(RoutingStatus),
    on_call=st.none() | st.integers(0, 5),
    wrap_up=st.none() | st.integers(0, 5),
    station=st.none() | st.text(max_size=5),
    out_of_office=st.none() | st.booleans(),
    source=st.sampled_from(StateSource),
)
ids = st.sampled_from([AGENT, "2"])
told: st.SearchStrategy[Shared] = st.one_of(
    st.builds(StateUpdate, ids, states, times),
    st.builds(Reading, ids, st.lists(st.tuples(times, states)).map(tuple), st.none() | times, st.booleans()),
    st.builds(Suspension, times, st.none() | st.lists(ids).map(tuple)),
    st.builds(Forgotten, ids),
    st.builds(FeedChange, state=st.sampled_from(FeedState), reason=st.text(max_size=5), at=times),
)


@given(told)
def test_what_is_read_is_what_was_told(one: Shared) -> None:
    """To the last bit of a moment."""
    (word,) = read(written([worded(one)]))
    assert one == meant(word, 0.0)


@pytest.mark.parametrize("moment", ["NaN", "Infinity", "1e999", "1e300", "9" * 400, "1", '"1.0"'])
@pytest.mark.parametrize(
    "word",
    [
        '["u","1",?,{"source":"rest"}]',
        '["r","1",[[?,{"source":"rest"}]],null,true]',
        '["r","1",[],?,true]',
        '["s",?,null]',
        '["f","up","",?]',
    ],
)
def test_what_can_be_no_moment_is_no_word(word: str, moment: str) -> None:
    """It would be the newest for ever."""
    (told,) = read(f"[{word.replace('?', moment)}]")
    with pytest.raises(Garbled):
        meant(told, 0.0)


@pytest.mark.parametrize("part", ["on_call", "wrap_up"])
@pytest.mark.parametrize("count", [-1, 1001, 10**30])
def test_what_can_be_no_number_of_calls_is_no_word(part: str, count: int) -> None:
    """No integer of 64 bits might hold it."""
    with pytest.raises(Garbled):
        meant(["u", AGENT, 1.0, {part: count, "source": "rest"}], 0.0)


def test_moments_move_by_one_shift() -> None:
    """All of them."""
    reading = Reading(AGENT, ((1.0, BUSY), (2.0, AWAY)), 3.0, lasts=True)
    assert Reading(AGENT, ((11.0, BUSY), (12.0, AWAY)), 13.0, lasts=True) == meant(worded(reading), 10.0)
    assert StateUpdate(AGENT, BUSY, 11.0) == meant(worded(StateUpdate(AGENT, BUSY, 1)), 10.0)
    assert Suspension(11.0, None) == meant(worded(Suspension(1.0)), 10.0)
    down = FeedChange(state=FeedState.DOWN, reason="silent", at=1.0)
    assert 11.0 == getattr(meant(worded(down), 10.0), "at", None)


def test_a_word_holds_an_id_and_what_was_told() -> None:
    """And is short."""
    expected = '[["u","9d4b4c1e-0000-4000-8000-000000000001",1.5,{"presence":"BUSY","source":"notification"}]]'
    assert expected == written([worded(StateUpdate(AGENT, BUSY, 1.5))])


@pytest.mark.parametrize("text", ["", "[", "{}", "1", "[" * 100_000])
def test_what_is_no_list_is_refused(text: str) -> None:
    """And not quoted."""
    with pytest.raises(Garbled) as caught:
        read(text)
    assert "" == str(caught.value)


@pytest.mark.parametrize(
    "word",
    [
        [], ["?"], 1, {}, ["u"], ["u", 1, 1.0, {}], ["u", "a", "1", {}], ["u", "a", 1.0, {}], ["u", "a", 1.0, []],
        ["u", "a", 1.0, {"source": "nobody"}], ["u", "a", 1.0, {"source": "rest", "presence": "GONE"}],
        ["u", "a", 1.0, {"source": "rest", "on_call": "1"}], ["u", "a", 1.0, {"source": "rest", "wrap_up": "1"}],
        ["u", "a", 1.0, {"source": "rest", "station": 1}], ["u", "a", 1.0, {"source": "rest", "out_of_office": 2}],
        ["r", "a", None, 1.0, True], ["r", "a", [1], 1.0, True], ["r", "a", [], "1", True], ["s", 1.0, 1],
        ["f", "sideways", "", 1.0],
    ],
    ids=str,
)  # fmt: skip
def test_what_is_no_word_is_refused(word: Any) -> None:
    """Whatever it is."""
    with pytest.raises(Garbled):
        meant(word, 0.0)


def summed(*all_told: Shared) -> Reading | None:
    """Return the summary of one agent."""
    summaries = Summaries()
    for one in all_told:
        summaries.take(one)
    return summaries.of(AGENT)


def test_a_summary_says_since_when_and_until_when() -> None:
    """A change that is heard of late belongs before the last telling, and after the first."""
    again = StateUpdate(AGENT, AgentState(presence=Presence.BUSY, source=StateSource.REST), 5.0)
    expected = ((1.0, BUSY), (5.0, again.state))
    summary = summed(StateUpdate(AGENT, BUSY, 1.0), again)
    assert Reading(AGENT, expected, None, lasts=True) == summary


def test_the_newest_telling_wins_whenever_it_comes() -> None:
    """Of two at once, the one that came later."""
    late = summed(StateUpdate(AGENT, BUSY, 2.0), StateUpdate(AGENT, AWAY, 1.0))
    assert Reading(AGENT, ((2.0, BUSY),), None, lasts=True) == late
    tied = summed(StateUpdate(AGENT, BUSY, 2.0), StateUpdate(AGENT, AWAY, 2.0))
    assert Reading(AGENT, ((2.0, AWAY),), None, lasts=True) == tied


def test_a_change_in_between_makes_the_state_newer() -> None:
    """It can't have been so all the while."""
    between = summed(StateUpdate(AGENT, BUSY, 1.0), StateUpdate(AGENT, BUSY, 5.0), StateUpdate(AGENT, AWAY, 3.0))
    assert Reading(AGENT, ((5.0, BUSY),), None, lasts=True) == between


def test_a_summary_vouches_as_the_feed_does() -> None:
    """From a confirmation that lasts to the next suspension."""
    whole = Reading(AGENT, ((1.0, BUSY), (1.0, SEATED)), 2.0, lasts=True)
    told_at = getattr(summed(whole), "confirmed_at", None)
    assert 2.0 == told_at
    for doubt in (Suspension(3.0), Suspension(3.0, (AGENT,)), Reading(AGENT, (), 3.0, lasts=False)):
        assert None is getattr(summed(whole, doubt), "confirmed_at", "")
    assert 2.0 == getattr(summed(whole, Suspension(3.0, ("2",))), "confirmed_at", None)
    assert 2.0 == getattr(summed(whole, Reading(AGENT, (), None, lasts=True)), "confirmed_at", None)


def test_who_is_no_more_has_no_summary() -> None:
    """And whom a message concerns is said."""
    summaries = Summaries()
    assert (AGENT,) == summaries.take(StateUpdate(AGENT, BUSY, 1.0))
    assert (AGENT,) == summaries.take(Suspension(1.0, (AGENT, "2")))
    assert () == summaries.take(FeedChange(state=FeedState.UP, at=1.0))
    assert (AGENT,) == summaries.take(Forgotten(AGENT))
    assert None is summaries.of(AGENT)
