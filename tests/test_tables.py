"""What the page's tables promise: their sources' figures, words where there is nothing, no markup from outside."""

from collections import Counter
from dataclasses import replace
from html import escape
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from call_initiation.events import (
    NO_AGENT,
    AgentAtSend,
    AgentState,
    Attempt,
    Certainty,
    Refusal,
    StateLabel,
)
from call_initiation.pages.correlation import correlate
from call_initiation.pages.health import FeedHealth
from call_initiation.pages.tables import cells, failures, feed, outcomes, span
from call_initiation.pages.windows import Trends
from markup import Page
from samples import REFUSED, STARTED_AT, UNANSWERED

NOW = STARTED_AT / 1e9
HEADS = ["when (UTC)", "outcome", "error codes", "state before the send", "agent", "correlation id"]
FEED = FeedHealth(
    is_up=True,
    topics={"presence": 1_200, "conversations": 34},
    reconnects={"dropped": 2, "announced": 1},
    lag=0.25,
    skew=-0.5,
    joins={Certainty.KNOWN: 17, Certainty.STALE: 2, Certainty.UNKNOWN: 1},
)

QUIET = Trends(0, Counter(), Counter(), {})
"""An hour without calls."""


def listed(*recent: Attempt, now: float = NOW) -> list[list[str]]:
    """Return the rows of failures, without the head."""
    return Page(failures(recent, now)).rows[1:]


def told(health: FeedHealth) -> dict[str, str]:
    """Return what is said of a feed."""
    return {row[0]: row[1] for row in Page(feed(health)).rows}


def test_a_failure_says_when_what_why_who_and_for_how_long() -> None:
    """With all of its codes, the most specific first."""
    assert [
        HEADS,
        [
            "14:13:20 2026-09-21, 1 min ago",
            "rejected 400 after 200 ms",
            "conversation.error.no.user.station bad.request",
            "on_call for 12 s, known",
            "9d4b4c1e-0000-4000-8000-000000000001",
            "5b8f0f6e-0000-4000-8000-000000000002",
        ],
    ] == Page(failures([REFUSED], NOW + 75.0)).rows


def test_what_is_not_known_of_a_failure_is_said() -> None:
    """No answer, no agent, no correlation id."""
    lost = replace(UNANSWERED, agent=NO_AGENT)
    assert [
        [
            "14:13:20 2026-09-21, 0 s ago",
            "ambiguous read_timeout after 30.5 s",
            "unparsed",
            "unknown",
            "none named",
            "none",
        ]
    ] == listed(lost)


def test_a_stale_state_is_said_to_be_stale() -> None:
    """Below the word, with its age where it has one."""
    stale = AgentAtSend(label=StateLabel.BUSY, age=7_300.0, state=AgentState(certainty=Certainty.STALE))
    assert "busy for 2 h, stale" == listed(replace(REFUSED, agent=stale))[0][3]


def test_failures_stand_in_the_order_in_which_they_come() -> None:
    """A row for each."""
    assert ["rejected", "ambiguous"] == [row[1].split()[0] for row in listed(REFUSED, UNANSWERED)]


def test_a_clock_that_was_set_back_shows_no_failure_of_the_future() -> None:
    """Nothing was minus five seconds ago."""
    assert "14:13:20 2026-09-21, 0 s ago" == listed(REFUSED, now=NOW - 5.0)[0][0]


@pytest.mark.parametrize(
    ("expected", "seconds"),
    [
        *[("0 s", -1.0), ("0 s", 0.0), ("59 s", 59.9), ("1 min", 60.0), ("59 min", 3_599.0), ("1 h", 3_600.0)],
        *[("23 h", 86_399.0), ("1 d", 86_400.0), ("1,000 d", 86_400_000.0)],
    ],
)
def test_a_length_of_time_is_told_by_its_largest_unit(expected: str, seconds: float) -> None:
    """And cut, not rounded: 59.9 seconds aren't a minute."""
    assert expected == span(seconds)


@given(*[st.text(min_size=1)] * 3)
def test_no_markup_comes_of_a_failures_texts(code: str, agent_id: str, correlation_id: str) -> None:
    """As if nobody had masked them before: the elements are those of harmless texts, and the text is there."""
    html = failures([saying(code, agent_id, correlation_id)], NOW)
    assert Page(failures([saying("harmless", "a", "b")], NOW)).tags == Page(html).tags
    assert all(f"<code>{escape(text)}</code>" in html for text in (code, agent_id, correlation_id))


def saying(code: str, agent_id: str, correlation_id: str) -> Attempt:
    """Return a failure with these texts wherever text can be."""
    refusal = Refusal(codes=(code, code), correlation_id=correlation_id)
    return replace(REFUSED, refusal=refusal, agent=AgentAtSend(id=agent_id), error_type=code)


def test_a_feed_in_words() -> None:
    """By topic, by reason, and by how far the states could be believed."""
    assert {
        "now": "up",
        "notifications": "presence 1,200, conversations 34",
        "lag": "p95 ≤ 0.25 s",
        "reconnects": "dropped 2, announced 1",
        "server's clock": "0.50 s behind ours",
        "states at sends": "known 85%, stale 10%, unknown 5%",
    } == told(FEED)


def test_a_feed_of_which_little_is_known_yet() -> None:
    """Each gap in words."""
    new = FeedHealth(is_up=False, topics={}, reconnects={}, lag=None, skew=None, joins=dict.fromkeys(Certainty, 0))
    assert {
        "now": "down",
        "notifications": "none yet",
        "lag": "not known yet",
        "reconnects": "none",
        "server's clock": "not known yet",
        "states at sends": "none asked for yet",
    } == told(new)


def test_a_late_feed_and_a_clock_ahead() -> None:
    """A lag beyond the last bucket has no bound above."""
    said = told(replace(FEED, lag=inf, skew=1.25))
    assert ("p95 > 60 s", "1.25 s ahead of ours") == (said["lag"], said["server's clock"])


def test_where_there_is_nothing_a_sentence_stands() -> None:
    """No table without rows."""
    nothing = correlate(())
    assert ["None yet."] * 3 == [
        Page(html).text for html in (cells(nothing, QUIET), outcomes(nothing), failures((), NOW))
    ]
