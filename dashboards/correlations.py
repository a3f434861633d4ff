"""The correlation dashboard: is it the agents' state, or the request?"""

from typing import Final

from pages import Page, Shelf
from panels import (
    BAD_IF_ANY,
    COUNT,
    GOOD_IF_ALL,
    at_once,
    bars,
    by_bucket,
    heat,
    highest_first,
    lines,
    matrix,
    number,
    over_time,
    words,
)
from queries import among, buckets, equal, gauge, increase, other_than, rate, ratio
from rules import LIFT, PHI

from call_initiation.catalogue import (
    AGENT_STATE_AGE,
    AGENT_STATE_CHANGES,
    AGENTS,
    ATTEMPTS,
    ERROR_CODES,
    PAYLOAD_FINDINGS,
    STATE_JOINS,
    STATE_JOINS_LATE,
)
from call_initiation.events import Certainty, Outcome, StateLabel
from call_initiation.pages.correlation import FIRM

REJECTED: Final = equal(Outcome.REJECTED)
REFUSED: Final = other_than("none")
NOT_FREE: Final = among(
    *(
        label
        for label in StateLabel
        if label not in {StateLabel.UNKNOWN, StateLabel.AVAILABLE, StateLabel.ON_QUEUE, StateLabel.WRAP_UP}
    )
)


def _changed_within(**tests: str) -> str:
    """Return how many calls were sent within so many seconds of a change, by seconds."""
    return increase(AGENT_STATE_AGE, "le", le=other_than("+Inf"), **tests)


def _share(part: str, whole: str) -> str:
    """Return a ratio without the states, or the times, in which no call was made."""
    return f"{ratio(part, whole)} >= 0"


KNOWN: Final = ratio(rate(STATE_JOINS, certainty=equal(Certainty.KNOWN)), rate(STATE_JOINS))

OFTEN: Final = 5
"""Refusals from which on a pair's lift says something."""

MET: Final = increase(ATTEMPTS, "error_code", "agent_state", error_code=REFUSED)

WARNING: Final = f"""\
**Correlation, not cause.** A state in which a code is met often is a lead: look at single calls on the agent timeline
before anything is changed.

*Lift* is P(code | state) / P(code): at 1 the state makes no difference, at 3 the code is met three times as often as on
average. *φ* runs from -1 to 1: 0 is no connection, 1 means that the code is met in this state always, and never
elsewhere. A high lift of a rare code has a low φ. Both are over the last hour, accepted calls included, for all
instances of a job; states with fewer than {FIRM} call starts in that hour aren't shown."""

FIRST: Final = Shelf(
    4, (words("Read this first", "What does this page say, and what doesn't it? How to read lift and φ.", WARNING),)
)

TRUST: Final = Shelf(
    4,
    (
        number(
            "States that are known",
            "Can the states be trusted? The share of call starts whose agent's state was known for certain; the rest "
            "are stale or unknown, and say so.",
            "percentunit",
            over_time(KNOWN),
            GOOD_IF_ALL,
        ),
        number(
            "States that came too late",
            "Did we tag calls too early? State changes that arrived after the settle window and would have changed a "
            "tag; a longer settle time helps.",
            COUNT,
            over_time(f"{increase(STATE_JOINS_LATE)} or vector(0)"),
            BAD_IF_ANY,
        ),
    ),
)

PHIS: Final = Shelf(
    13,
    (
        matrix(
            "φ",
            "How tightly do this code and this state belong together? 0 is not at all, 1 is always. Last hour.",
            "none",
            ("error_code", "agent_state"),
            highest_first(f'max by (error_code, agent_state) ({PHI}{{job=~"$job"}})'),
            steps=((None, "transparent"), (0.1, "light-orange"), (0.2, "orange"), (0.35, "red")),
        ),
    ),
    "Which code in which state",
)

LIFTS: Final = Shelf(
    13,
    (
        matrix(
            "Lift",
            "How many times as often as on average is this code met in this state? 1 is no difference. Last hour; "
            f"pairs met fewer than {OFTEN} times in the time shown are left out, for a single one can have any lift.",
            "none",
            ("error_code", "agent_state"),
            highest_first(f'max by (error_code, agent_state) ({LIFT}{{job=~"$job"}}) and {MET} >= {OFTEN}'),
            steps=((None, "transparent"), (1.5, "light-orange"), (3, "orange"), (5, "red")),
        ),
    ),
)

STRONGEST: Final = Shelf(
    11,
    (
        bars(
            "Rejected, by state",
            "In which state are calls rejected most? The share of each state's own call starts, over the whole time "
            "shown: P(rejected | state).",
            "agent_state",
            highest_first(
                _share(increase(ATTEMPTS, "agent_state", outcome=REJECTED), increase(ATTEMPTS, "agent_state"))
            ),
        ),
        lines(
            "The strongest connections",
            "Since when do they belong together? The eight pairs with the highest φ.",
            "none",
            over_time(f'topk(8, {PHI}{{job=~"$job"}})', "{{error_code}} · {{agent_state}}"),
        ),
    ),
)

COUNTS: Final = Shelf(
    13,
    (
        matrix(
            "Refusals by code and state",
            "Which code is met in which state? Counts of the whole time shown. Mind how many calls were made in each "
            "state: lift does.",
            COUNT,
            ("error_code", "agent_state"),
            highest_first(increase(ATTEMPTS, "error_code", "agent_state", error_code=REFUSED)),
            steps=((None, "transparent"), (1, "light-orange"), (30, "orange"), (300, "red")),
        ),
    ),
)

AGE: Final = Shelf(
    9,
    (
        heat(
            "Rejections by time since the agent's last change",
            "Are agents called right after they changed state? A band at the bottom means that the dialer works with "
            "states that are seconds old.",
            "s",
            by_bucket(buckets(AGENT_STATE_AGE, outcome=REJECTED), exemplar=True),
        ),
        bars(
            "Rejected, by time since the agent's last change",
            "Are calls soon after a change rejected more often? Of the call starts sent within so many seconds of a "
            "change, the share that was rejected.",
            "le",
            at_once(_share(_changed_within(outcome=REJECTED), _changed_within())),
            unit_of_order="s",
        ),
    ),
    "Time since the last change",
)

BLAME: Final = Shelf(
    9,
    (
        lines(
            "Rejected, beside calls for agents who weren't free",
            "Is it the agents or the request? Lines that move together point at the agents' states; rejections that "
            "rise alone point at the request.",
            "percentunit",
            over_time(ratio(rate(ATTEMPTS, outcome=REJECTED), rate(ATTEMPTS)), "rejected"),
            over_time(ratio(rate(ATTEMPTS, agent_state=NOT_FREE), rate(ATTEMPTS)), "agent wasn't free"),
        ),
        lines(
            "Codes by concern, in states known to be free",
            "What is refused although the agent was free? Then the request, the destination or the permissions are "
            "to blame.",
            "cps",
            over_time(
                rate(
                    ERROR_CODES,
                    "category",
                    "error_code",
                    agent_state=among(StateLabel.AVAILABLE, StateLabel.ON_QUEUE, StateLabel.WRAP_UP),
                ),
                "{{category}} · {{error_code}}",
                exemplar=True,
            ),
            stacked=True,
        ),
    ),
    "The agents, or the request?",
)

REQUESTS: Final = Shelf(
    11,
    (
        matrix(
            "Findings in requests, by outcome",
            "What may be wrong with the requests, and what became of them? Counts of the whole time shown; a finding "
            "that is rejected more often than others points at the request. `docs/findings.md` explains each.",
            COUNT,
            ("finding", "outcome"),
            highest_first(increase(PAYLOAD_FINDINGS, "finding", "outcome")),
            steps=((None, "transparent"), (1, "light-orange"), (30, "orange"), (300, "red")),
        ),
    ),
)

STATES: Final = Shelf(
    9,
    (
        lines(
            "Agents by state",
            "What do the agents do? How many are in each state now, of those that we know of.",
            COUNT,
            over_time(gauge(AGENTS, "agent_state"), "{{agent_state}}"),
            stacked=True,
        ),
        lines(
            "Lookups by certainty and source",
            "Who told us the states, and how far can they be believed?",
            "cps",
            over_time(rate(STATE_JOINS, "certainty", "source"), "{{certainty}} ({{source}})"),
            stacked=True,
        ),
    ),
    "The agents",
)

CHANGES: Final = Shelf(
    13,
    (
        matrix(
            "Changes of state",
            "Where do agents come from, and where do they go? Counts of the whole time shown; rows are what was.",
            COUNT,
            ("from_state", "to_state"),
            highest_first(increase(AGENT_STATE_CHANGES, "from_state", "to_state")),
            steps=((None, "transparent"), (1, "light-blue"), (100, "blue")),
        ),
    ),
)

CORRELATION: Final = Page(
    "call-initiation-correlation",
    "Call initiation: correlation",
    "Is it the agents' state, or the request?",
    (FIRST, TRUST, PHIS, LIFTS, STRONGEST, COUNTS, AGE, BLAME, REQUESTS, STATES, CHANGES),
    picture="grafana-correlation.png",
)
