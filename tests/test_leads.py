"""What `leads` promises: states are blamed where they are to blame, payloads where these are, and nobody by chance."""

from collections import Counter
from collections.abc import Callable, Iterable
from itertools import chain, repeat
from math import comb, exp, isclose
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from call_initiation import catalogue
from call_initiation.events import Outcome, StateLabel
from call_initiation.pages.correlation import FIRM, correlate
from call_initiation.pages.leads import MOST, TELLING, Lead, _log_tail, leads
from call_initiation.recording.aggregate import Family, Number

RUNS = 100
STATES = ("available", "on_queue", "busy", "away", "break", "meal")
PAYLOAD, AGENTS = "invalid.value", "INVALID_AGENT_STATE"

Call = tuple[str, str, str]
"""A call's outcome, code and state."""


def given_by(calls: Iterable[Call]) -> list[Lead]:
    """Return what these calls lead to."""
    counts = Counter(calls)
    labels = {("/api/v2/conversations/calls", outcome, "-", code, state): Number(count)
              for (outcome, code, state), count in counts.items()}  # fmt: skip
    return leads(correlate((Family(catalogue.ATTEMPTS, labels),)))


def accepted(state: str, count: int) -> Iterable[Call]:
    """Return so many accepted calls."""
    return repeat((Outcome.ACCEPTED, "none", state), count)


def rejected(code: str, state: str, count: int) -> Iterable[Call]:
    """Return so many calls that met a code."""
    return repeat((Outcome.REJECTED, code, state), count)


def found(*calls: Iterable[Call]) -> list[str]:
    """Return what calls lead to, as text."""
    return [str(lead) for lead in given_by(chain(*calls))]


def drawn(seed: int, count: int, states: tuple[str, ...], judge: Callable[[Random, str], str | None]) -> list[Lead]:
    """Return what so many random calls lead to, each judged by the code that it meets, if any."""
    random = Random(seed)  # noqa: S311 - no secret

    def place(state: str) -> Call:
        code = judge(random, state)
        return (Outcome.REJECTED, code, state) if code else (Outcome.ACCEPTED, "none", state)

    return given_by(place(random.choice(states)) for _ in range(count))


def verdicts(leads: list[Lead], code: str) -> tuple[str, ...]:
    """Return the states that a code is blamed on; `alike`, or nothing, where it isn't."""
    return next((tuple(sorted(lead.states)) or ("alike",) * ("alike" in lead.after) for lead in leads
                 if lead.code == code), ())  # fmt: skip


# -- one at a time -----------------------------------------------------------------------------------------------------


def test_nothing_comes_of_nothing() -> None:
    """Neither of no calls nor of accepted ones."""
    assert [] == found()
    assert [] == found(accepted("busy", 100))


def test_a_code_in_one_state_points_at_that_state() -> None:
    """How many of the state's calls met it, beside all others."""
    assert ["bad.request with agents busy: 40 of their 50 attempts (80%), elsewhere 5%"] == found(
        rejected("bad.request", "busy", 40),
        accepted("busy", 10),
        rejected("bad.request", "available", 5),
        accepted("available", 95),
    )


@pytest.mark.parametrize(
    ("expected", "counts"),
    [
        ("busy or away: 90 of their 90", {"busy": 50, "away": 40}),
        ("busy, away or break: 120 of their 120", {"busy": 50, "away": 40, "break": 30}),
        (
            "busy, away, break or 2 more: 160 of their 160",
            {"busy": 50, "away": 40, "break": 30, "meal": 20, "idle": 20},
        ),
    ],
)
def test_a_code_in_several_states_names_them_together(expected: str, counts: dict[str, int]) -> None:
    """Those with the most refusals; the rest of them are counted, and stand out in the table, too."""
    (lead,) = given_by(chain(*(rejected(AGENTS, *each) for each in counts.items()), accepted("available", 40)))
    assert f"{AGENTS} with agents {expected} attempts (100%), elsewhere 0%" == str(lead)
    assert tuple(counts) == lead.states


def test_a_broken_payload_is_blamed_on_nobody_but_itself() -> None:
    """By what the code means; a code that says nothing points at the request."""
    for code, who in ((PAYLOAD, "our payload"), ("bad.request", "the request"), ("not.known", "the request")):
        calls = [*rejected(code, "busy", 30), *accepted("busy", 30), *rejected(code, "away", 30), *accepted("away", 30)]
        assert [f"{who}: {code} met 60 of 120 attempts (50%), in all states alike"] == found(calls)


def test_where_everything_is_refused_the_payload_is_to_blame() -> None:
    """The clearest storm of all."""
    calls = (rejected(PAYLOAD, state, 100) for state in STATES)
    assert [f"our payload: {PAYLOAD} met 600 of 600 attempts (100%), in all states alike"] == found(*calls)


def test_both_at_once_are_both_said() -> None:
    """What explains more refusals comes first; the agents' code, which is in the payload's way, doesn't clear it."""
    storm = [*rejected(AGENTS, "busy", 90), *rejected(PAYLOAD, "busy", 3), *accepted("busy", 7)]
    others = (chain(rejected(PAYLOAD, state, 30), accepted(state, 70)) for state in ("available", "on_queue", "away"))
    assert [
        f"our payload: {PAYLOAD} met 93 of 400 attempts (23%), in all states alike",
        f"{AGENTS} with agents busy: 90 of their 100 attempts (90%), elsewhere 0%",
    ] == found(storm, *others)


UNTOLD = "; too few calls were made in different known states to tell whether the state matters"


@pytest.mark.parametrize(
    ("expected", "calls"),
    [
        ("met 100 of 100 attempts (100%)", [rejected(PAYLOAD, "available", 100)]),
        ("met 100 of 500 attempts (20%)", [rejected(PAYLOAD, "unknown", 100), accepted("available", 400)]),
        (
            "met 100 of 900 attempts (11%)",
            [rejected(PAYLOAD, "other", 100), accepted("available", 400), accepted("busy", 400)],
        ),
        (
            "met 60 of 62 attempts (97%)",
            [rejected(PAYLOAD, "busy", 60), accepted("away", 2)],
        ),
    ],
    ids=["one state alone", "unknown while the feed is down", "states folded away", "hardly a call in another state"],
)
def test_where_states_cant_be_compared_that_is_said(expected: str, calls: list[Iterable[Call]]) -> None:
    """What is no state isn't blamed, and no state is cleared by calls that weren't made."""
    assert [f"our payload: {PAYLOAD} {expected}{UNTOLD}"] == found(*calls)


def test_a_code_that_says_nothing_leaves_both_open_where_states_cant_be_compared() -> None:
    """Neither the request nor the states can be cleared."""
    assert [f"the request and the agents' states: bad.request met 40 of 40 attempts (100%){UNTOLD}"] == found(
        rejected("bad.request", "busy", 40)
    )


def test_a_code_that_others_keep_from_most_states_is_called_alike_in_none() -> None:
    """Where all other calls met another code, nobody knows whether they would have met this one."""
    told = found(
        rejected(AGENTS, "busy", 100),
        rejected(AGENTS, "away", 100),
        *(rejected(PAYLOAD, state, 100) for state in ("available", "on_queue", "break", "meal")),
    )
    assert [
        f"our payload: {PAYLOAD} met 400 of 600 attempts (67%), in all states alike",
        f"the agent's state: {AGENTS} met 200 of 600 attempts (33%){UNTOLD}",
    ] == told


@pytest.mark.parametrize(
    ("who", "outcome", "code"),
    [
        ("the network, or what stands between us and the platform", Outcome.NOT_SENT, "unparsed"),
        ("the platform", Outcome.FAILED, "unparsed"),
        ("our rate of requests", Outcome.RATE_LIMITED, "not.known"),
        ("the token or its permissions", Outcome.UNAUTHORIZED, "missing.permissions"),
        ("the request", "other", "unparsed"),
    ],
)
def test_what_is_no_rejection_is_never_blamed_on_a_state(who: str, outcome: str, code: str) -> None:
    """Even where all of it fell into one: an outage at noon is no fault of those at lunch."""
    calls = [*repeat((outcome, code, "meal"), 40), *accepted("available", 60)]
    assert [f"{who}: {code} met 40 of 100 attempts (40%)"] == found(calls)
    assert [] == found(calls[:FIRM - 1], accepted("available", 60))  # fmt: skip


def test_codes_that_were_folded_away_lead_nowhere() -> None:
    """`other` is many codes."""
    assert [] == found(rejected("other", "busy", 100), accepted("away", 100))


def test_a_state_is_named_from_a_few_refusals_on_and_not_for_its_company() -> None:
    """However clear the difference is: a few may be one agent's bad moment."""
    for count, expected in ((TELLING - 1, []), (TELLING, [("busy",)])):
        calls = [*rejected("not.found", "busy", count), *accepted("available", 500)]
        assert expected == [lead.states for lead in given_by(calls)]
    beside = [*rejected("not.found", "busy", 50), *rejected("not.found", "meal", 5),
              *rejected("not.found", "available", 40), *accepted("available", 60)]  # fmt: skip
    assert [("busy",)] == [lead.states for lead in given_by(beside)]


def test_a_few_refusals_here_and_there_lead_nowhere() -> None:
    """One more, and they are the request's."""
    some = [*rejected("bad.request", "busy", FIRM // 2), *accepted("busy", 50), *accepted("away", 50)]
    assert [] == found(some, rejected("bad.request", "away", FIRM // 2 - 1))
    assert 1 == len(found(some, rejected("bad.request", "away", FIRM // 2)))


def test_a_difference_not_worth_speaking_of_is_none() -> None:
    """However certain it is: 28% of very many calls are not 20%, and yet the states aren't what is wrong."""
    calls = [*rejected(PAYLOAD, "busy", 2_800), *accepted("busy", 7_200)]
    others = [*rejected(PAYLOAD, "away", 2_000), *accepted("away", 8_000)]
    assert ["alike"] == [*verdicts(given_by(calls + others), PAYLOAD)]


def test_between_a_suspicion_and_a_certainty_nothing_is_said() -> None:
    """A code met twice as often in a state may be chance, and may be not."""
    calls = [
        *rejected(PAYLOAD, "busy", 24),
        *accepted("busy", 76),
        *rejected(PAYLOAD, "away", 11),
        *accepted("away", 89),
    ]
    assert [] == found(calls)


def test_only_a_few_leads_are_given() -> None:
    """Those about the most refusals."""
    calls = [(rejected(f"code.{n}", state, 40 + n)) for n in range(5) for state in ("busy", "away")]
    assert ["code.4", "code.3", "code.2"] == [lead.code for lead in given_by(chain(*calls))]
    assert 3 == MOST


# -- many times --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [60, 300, 1_200])
@pytest.mark.parametrize("share", [0.05, 0.3, 0.8, 1.0])
@pytest.mark.parametrize("states", [STATES[:2], STATES, ("available",) * 30 + STATES * 2 + ("training", "idle")])
def test_a_payload_that_is_refused_in_all_states_alike_is_blamed_on_none(
    count: int, share: float, states: tuple[str, ...]
) -> None:
    """In none of some thousand runs, where one of a thousand may be; whatever the share, and the states' sizes."""
    for seed in range(RUNS):
        told = drawn(seed, count, states, lambda random, _: PAYLOAD if random.random() < share else None)
        assert [] == [lead.states for lead in told if lead.states]


def test_a_storm_of_payloads_is_seen_as_one() -> None:
    """In nine runs of ten, from three in ten of 1,200 calls on."""
    for share in (0.3, 0.8, 1.0):
        runs = (drawn(seed, 1_200, STATES, lambda random, _: PAYLOAD if random.random() < share else None)  # noqa: B023
                for seed in range(RUNS))  # fmt: skip
        assert sum(verdicts(told, PAYLOAD) == ("alike",) for told in runs) >= 0.9 * RUNS


@pytest.mark.parametrize("stormy", [("busy",), ("busy", "away"), ("away", "break", "busy")])
@pytest.mark.parametrize("is_agent_first", [True, False])
def test_storms_of_both_kinds_are_told_apart(stormy: tuple[str, ...], *, is_agent_first: bool) -> None:
    """In nine runs of ten, whichever of the two the API looks at first; and neither is ever taken for the other."""

    def judge(random: Random, state: str) -> str | None:
        agents = AGENTS if state in stormy and random.random() < 0.9 else None
        payload = PAYLOAD if random.random() < 0.3 else None
        return (agents or payload) if is_agent_first else (payload or agents)

    told = Counter[tuple[tuple[str, ...], ...]]()
    for seed in range(RUNS):
        given = drawn(seed, 1_200, STATES, judge)
        told[verdicts(given, AGENTS), verdicts(given, PAYLOAD)] += 1
    right, unsure = (tuple(sorted(stormy)), ("alike",)), (tuple(sorted(stormy)), ())
    assert {right, unsure} >= set(told)
    assert told[right] >= 0.9 * RUNS


@pytest.mark.parametrize("base", [0.0, 0.1, 0.3])
@pytest.mark.parametrize("count", [60, 300, 1_200])
def test_agents_who_are_refused_are_never_called_a_broken_payload(base: float, count: int) -> None:
    """At a share of 90% in one state; most are pointed at, and of the rest nothing is said."""

    def judge(random: Random, state: str) -> str | None:
        return "bad.request" if random.random() < (0.9 if state == "busy" else base) else None

    runs = [verdicts(drawn(seed, count, STATES, judge), "bad.request") for seed in range(RUNS)]
    assert ("alike",) not in runs
    assert sum("busy" in states for states in runs if states) == sum(map(bool, runs))


@given(st.integers(1, 40), st.integers(1, 40), st.data())
def test_the_chance_is_fishers(drawn: int, others: int, data: st.DataObject) -> None:
    """The sum of the hypergeometric distribution's upper tail, above its mean."""
    total = drawn + others
    marked = data.draw(st.integers(1, total))
    hits = data.draw(st.integers(-(-drawn * marked // total), min(drawn, marked)))
    tail = sum(comb(marked, x) * comb(total - marked, drawn - x) for x in range(hits, min(drawn, marked) + 1))
    assert isclose(tail / comb(total, drawn), exp(_log_tail(hits, drawn, marked, total)), rel_tol=1e-9)


def test_very_many_calls_cost_no_more() -> None:
    """The tail is cut where it no longer matters."""
    assert -1e5 > _log_tail(1_500_000, 10_000_000, 10_000_000, 100_000_000)


@given(st.lists(st.tuples(st.sampled_from(Outcome), st.sampled_from([PAYLOAD, "other", "unparsed"]),
                          st.sampled_from(StateLabel), st.integers(1, 200)), max_size=12))  # fmt: skip
def test_whatever_comes_no_lead_is_to_what_is_no_state(rows: list[tuple[Outcome, str, StateLabel, int]]) -> None:
    """Nor is there ever more refused than was, nor a code that is none."""
    calls = [(outcome, "none" if outcome is Outcome.ACCEPTED else code, str(state)) for outcome, code, state, _ in rows]
    told = given_by(chain(*(repeat(call, row[3]) for call, row in zip(calls, rows, strict=True))))
    assert not [lead for lead in told if "unknown" in lead.states or lead.code in {"other", "none"}]
    assert all(lead.refusals <= sum(row[3] for row in rows) for lead in told)
