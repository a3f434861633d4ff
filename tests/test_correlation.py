"""What `correlation` promises: sums that agree, rates and lifts by their definitions, and no belief in few attempts."""

from collections import Counter
from dataclasses import replace
from math import isclose

import pytest
from hypothesis import given
from hypothesis import strategies as st

from call_initiation import catalogue
from call_initiation.events import AgentAtSend, Attempt, Ledger, Outcome, Refusal, StateLabel
from call_initiation.pages.correlation import FIRM, Cell, correlate, ledgers, percent, sentence
from call_initiation.recording.aggregate import Aggregate, View
from samples import ACCEPTED, REFUSED

STATES = st.sampled_from(StateLabel)
CODES = st.sampled_from(["none", "INVALID_AGENT_STATE", "bad.request", "not.found"])


def call(code: str, state: StateLabel) -> Attempt:
    """Return a call that met a code, or `none`, in a state."""
    agent = AgentAtSend(label=state)
    if code == "none":
        return replace(ACCEPTED, agent=agent)
    return replace(REFUSED, agent=agent, refusal=Refusal(codes=(code,)))


def view(*calls: Attempt) -> View:
    """Return the snapshot after these calls."""
    aggregate = Aggregate()
    for each in calls:
        aggregate.record(each)
    return aggregate.snapshot()


def calls(code: str, state: StateLabel, count: int) -> list[Attempt]:
    """Return so many calls alike."""
    return [call(code, state)] * count


def test_nothing_comes_of_nothing() -> None:
    """Without attempts there is no rate to divide by."""
    found = correlate(view())
    assert (0, 0, 0.0) == (found.total, found.total_refused, found.refusal_rate)


def test_lift_is_the_rate_in_the_state_over_the_rate_in_all_attempts() -> None:
    """Of 40 busy calls 30 met the code, of 60 available ones none: 0.75 against 0.30 in all."""
    found = correlate(
        view(
            *calls("INVALID_AGENT_STATE", StateLabel.BUSY, 30),
            *calls("none", StateLabel.BUSY, 10),
            *calls("none", StateLabel.AVAILABLE, 60),
        )
    )
    cell = found.cells["INVALID_AGENT_STATE", "busy"]
    assert {"available": 60, "busy": 40} == found.attempts
    assert (0.75, 2.5) == (cell.rate, cell.lift)
    assert (0.75, 0.0, 0.3) == (found.state_rate("busy"), found.state_rate("available"), found.refusal_rate)


def test_a_rare_code_in_a_rare_state_has_a_high_lift_and_is_not_firm() -> None:
    """A lift of 50 on one call is chance."""
    found = correlate(view(call("not.found", StateLabel.MEAL), *calls("none", StateLabel.AVAILABLE, 100)))
    rare = found.cells["not.found", "meal"]
    assert (101.0, False) == (pytest.approx(rare.lift), rare.is_firm)


def test_states_stand_in_a_fixed_order_and_what_is_no_state_last() -> None:
    """Columns that jumped about as counts grow could not be read."""
    states = [StateLabel.UNKNOWN, StateLabel.OFFLINE, StateLabel.ON_CALL, StateLabel.BUSY]
    found = correlate(view(*(call("bad.request", state) for state in states)))
    assert ["on_call", "busy", "offline", "unknown"] == list(found.attempts)


def test_codes_of_a_state_come_the_most_frequent_first() -> None:
    """By the count over all states, as the rows are."""
    found = correlate(
        view(
            *calls("not.found", StateLabel.BUSY, 1),
            *calls("bad.request", StateLabel.BUSY, 2),
            *calls("bad.request", StateLabel.AWAY, 1),
        )
    )
    assert ["bad.request", "not.found"] == [cell.code for cell in found.of_state("busy")]
    assert {"bad.request": 3, "not.found": 1} == found.codes


def test_whatever_was_not_accepted_counts_as_refused() -> None:
    """A call that got no answer is refused too, under `unparsed`; the outcomes tell it apart."""
    lost = replace(ACCEPTED, outcome=Outcome.AMBIGUOUS, status_code=None, error_type="read_timeout")
    found = correlate(view(lost, ACCEPTED, ACCEPTED))
    assert ({"unparsed": 1}, {"accepted": 2, "ambiguous": 1}) == (found.codes, found.outcomes)
    assert {("ambiguous", "unparsed"): {"on_call": 1}} == found.causes


@given(st.lists(st.tuples(CODES, STATES), max_size=60))
def test_all_sums_agree(drawn: list[tuple[str, StateLabel]]) -> None:
    """Attempts are accepted or refused; cells add up by code and by state; a code's lifts have a mean of 1."""
    found = correlate(view(*(call(*each) for each in drawn)))
    assert len(drawn) == found.total == sum(found.outcomes.values())
    assert found.total - found.outcomes.get("accepted", 0) == found.total_refused == sum(found.codes.values())
    by_state: Counter[str] = Counter()
    for cell in found.cells.values():
        by_state[cell.state] += cell.refusals
    assert by_state == found.refused
    for code in found.codes:
        of_code = [cell for cell in found.cells.values() if cell.code == code]
        assert found.codes[code] == sum(cell.refusals for cell in of_code)
        assert isclose(1.0, sum(cell.lift * cell.attempts for cell in of_code) / found.total)


def test_accounts_are_read_back_from_the_snapshot() -> None:
    """Each stage with its drops by reason."""
    aggregate = Aggregate()
    aggregate.add_source(
        lambda: [
            (catalogue.RECORDER_RECORDED, ("attempts",), 1_010),
            (catalogue.RECORDER_EXPORTED, ("attempts",), 1_000),
            (catalogue.RECORDER_PENDING, ("attempts",), 3),
            (catalogue.RECORDER_DROPPED, ("attempts", "queue_full"), 7),
        ]
    )
    accounts = ledgers(aggregate.snapshot())
    assert {"attempts": Ledger(recorded=1_010, exported=1_000, pending=3, dropped={"queue_full": 7})} == accounts
    assert "attempts: 1,010 recorded = 1,000 exported + 3 pending + 7 dropped (queue_full 7)" == sentence(
        "attempts", accounts["attempts"]
    )


def test_a_stage_without_drops_gives_no_reasons() -> None:
    """The sentence ends at the number."""
    assert "spans: 2 recorded = 2 exported + 0 pending + 0 dropped" == sentence("spans", Ledger(recorded=2, exported=2))


@pytest.mark.parametrize(
    ("expected", "share"),
    [("0%", 0.0), ("<1%", 0.0004), ("1%", 0.01), ("50%", 0.5), ("99%", 0.99), (">99%", 0.9999), ("100%", 1.0)],
)
def test_a_share_never_looks_like_none_or_all_when_it_is_not(expected: str, share: float) -> None:
    """One refusal among thousands still shows."""
    assert expected == percent(share)


def test_a_cell_says_what_it_is_made_of() -> None:
    """Its rate is of the state's attempts; thirty of these make it firm."""
    cell = Cell("bad.request", "busy", refusals=3, attempts=FIRM, expected=1.5)
    assert (0.1, 2.0, True) == (cell.rate, cell.lift, cell.is_firm)
