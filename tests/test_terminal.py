"""What the terminal promises: the figures of a snapshot, in any width, and texts from outside shown as they are."""

import io
from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console, RenderableType

from call_initiation import catalogue
from call_initiation.events import (
    AgentAtSend,
    Attempt,
    Event,
    FeedChange,
    FeedState,
    NotificationTaken,
    Refusal,
    StateLabel,
)
from call_initiation.program.terminal import Scene, clock, line, summary
from call_initiation.recording.aggregate import Aggregate, Family, Number, View
from samples import ACCEPTED, REFUSED


def refused(code: str, state: StateLabel, count: int) -> list[Attempt]:
    """Return so many refused calls."""
    return [replace(REFUSED, agent=AgentAtSend(label=state), refusal=Refusal(codes=(code,)))] * count


def accepted(state: StateLabel, count: int) -> list[Attempt]:
    """Return so many accepted calls."""
    return [replace(ACCEPTED, agent=AgentAtSend(label=state))] * count


def view(events: Iterable[Event]) -> View:
    """Return the snapshot after these events."""
    aggregate = Aggregate()
    aggregate.add_source(
        lambda: [
            (catalogue.RECORDER_RECORDED, ("attempts",), 60),
            (catalogue.RECORDER_EXPORTED, ("attempts",), 58),
            (catalogue.RECORDER_PENDING, ("attempts",), 2),
        ]
    )
    for event in events:
        aggregate.record(event)
    return aggregate.snapshot()


def drawn(picture: RenderableType, width: int = 80, height: int = 24) -> list[str]:
    """Return the lines of a picture in a terminal of this size, without blanks at their ends."""
    console = Console(file=io.StringIO(), width=width, height=height, record=True, force_terminal=True)
    console.print(picture)
    return [row.rstrip() for row in console.export_text().splitlines()]


def scene(shown: View, lasts: float | None = None) -> Scene:
    """Return the scene 65 seconds after its beginning."""
    return Scene(lambda: shown, lambda: 65.0, lasts, ("page  http://127.0.0.1:9464/",))


SOME = view(
    refused("INVALID_AGENT_STATE", StateLabel.ON_CALL, 30)
    + refused("conversation.error.no.user.station", StateLabel.NO_STATION, 10)
    + accepted(StateLabel.AVAILABLE, 20)
)
FEED = [FeedChange(state=FeedState.UP, at=0.0), NotificationTaken(topic="presence", lag=0.01)]
FED = view([*FEED, *accepted(StateLabel.AVAILABLE, 20)])
ALL_STATES = view([call for state in StateLabel for call in refused("bad.request", state, 2)])


def test_the_live_table_has_codes_by_state() -> None:
    """Attempts and refusal rate of each state, refusals of each code, and a code's end where it is too long."""
    assert [
        "call-initiation-exporter demo  01:05 Ctrl-C ends it",
        "60 attempts, 20 accepted, 40 refused (67%)",
        "",
        " agent state                     on       no",
        " (before the send)             call  station  available  all",
        " ───────────────────────────────────────────────────────────",
        " attempts                        30       10         20   60",
        " refused                       100%     100%         0%  67%",
        "",
        " INVALID_AGENT_STATE             30                       30",
        " …ation.error.no.user.station             10              10",
        "",
        "page  http://127.0.0.1:9464/",
    ] == drawn(scene(SOME))


def test_with_an_end_it_shows_how_far_it_is() -> None:
    """As a time and as a bar of its own line."""
    rows = drawn(scene(SOME, lasts=130.0))
    assert "call-initiation-exporter demo  01:05 of 02:10; Ctrl-C ends it sooner" == rows[0]
    assert {"━", "╺", "╸"} >= set(rows[1])
    assert "60 attempts, 20 accepted, 40 refused (67%)" == rows[2]


def test_the_feeds_health_is_a_line_of_its_own() -> None:
    """Below the sums, at the end of the plain line, and above the accounts of the summary; none without a feed."""
    health = "feed up, 1 events, lag p95 ≤ 0.05 s; states known 0%, stale 0%, unknown 100%"
    assert health == drawn(scene(FED))[2]
    assert f"01:05 20 attempts, 20 accepted, 0 refused (0%); {health}" == line(FED, 65.0)
    rows = drawn(summary(FED, 65.0))
    assert health == rows[rows.index("attempts: 60 recorded = 58 exported + 2 pending + 0 dropped") - 1]
    assert not [row for row in drawn(summary(SOME, 65.0)) if row.startswith("feed")]


def test_before_the_first_call_has_settled_it_says_so() -> None:
    """An empty table would look like a fault."""
    empty = "Calls begin once the agents' states are known; each shows up once it has settled."
    assert empty in drawn(scene(view([])), width=100)


@pytest.mark.parametrize("width", [40, 60, 80, 100, 140, 200])
def test_whatever_the_width_no_row_is_cut_and_all_attempts_are_there(width: int) -> None:
    """States that don't fit are added up under `others`."""
    rows = drawn(scene(ALL_STATES), width=width, height=60)
    attempts = next(row.split() for row in rows if row.startswith(" attempts"))
    assert all(len(row) <= width for row in rows)
    assert sum(map(int, attempts[1:-1])) == int(attempts[-1]) == 2 * len(StateLabel)
    assert not [row for row in rows[3:] if "…" in row]


@given(st.integers(18, 60), st.integers(1, 30))
def test_whatever_the_height_it_fits(height: int, codes: int) -> None:
    """Codes that don't fit are counted."""
    shown = view([call for number in range(codes) for call in refused(f"code.{number}", StateLabel.BUSY, 1)])
    rows = drawn(scene(shown, lasts=100.0), height=height)
    named = [row for row in rows if row.startswith(" code.")]
    more = [int(row.split()[1]) for row in rows if row.startswith(" and ")]
    assert len(rows) <= height
    assert codes == len(named) + sum(more)


def test_codes_for_which_there_is_no_room_are_counted() -> None:
    """Below the others."""
    shown = view([call for number in range(30) for call in refused(f"code.{number}", StateLabel.BUSY, 1)])
    rows = drawn(scene(shown), height=20)
    named = [row for row in rows if row.startswith(" code.")]
    assert [f" and {30 - len(named)} more"] == [row.rstrip() for row in rows if row.startswith(" and ")]


def test_a_line_says_how_things_stand() -> None:
    """The time, the sums, the first lead."""
    assert (
        "01:05 60 attempts, 20 accepted, 40 refused (67%); "
        "look first at INVALID_AGENT_STATE with agents on_call: 30 of their 30 attempts (100%), elsewhere 0%"
    ) == line(SOME, 65.0)
    assert "00:00 0 attempts, 0 accepted, 0 refused (0%)" == line(view([]), 0.0)


def test_the_summary_is_one_screen_of_what_was_seen_where_to_look_and_accounts() -> None:
    """The states with the most refusals first, each with its top codes."""
    assert [
        "Seen in 01:05: 60 attempts, 20 accepted, 40 refused (67%).",
        "",
        " agent state   attempts   refused   top codes",
        " " + 72 * "─",
        " on_call             30      100%   INVALID_AGENT_STATE 30",
        " no_station          10      100%   conversation.error.no.user.station 10",
        "",
        "",
        "Look first at INVALID_AGENT_STATE with agents on_call: 30 of their 30 attempts",
        "(100%), elsewhere 0%.",
        "Then at conversation.error.no.user.station with agents no_station: 10 of their",
        "10 attempts (100%), elsewhere 0%.",
        "In Prometheus, since when, and in which state:",
        "  sum by (agent_state)",
        '(rate(call_initiation_attempts_total{error_code="INVALID_AGENT_STATE"}[5m]))',
        "",
        "attempts: 60 recorded = 58 exported + 2 pending + 0 dropped",
    ] == drawn(summary(SOME, 65.0))


def test_a_summary_of_nothing_is_short() -> None:
    """No table, nothing to look at."""
    assert [
        "Seen in 00:03: 0 attempts, 0 accepted, 0 refused (0%).",
        "",
        "attempts: 60 recorded = 58 exported + 2 pending + 0 dropped",
    ] == drawn(summary(view([]), 3.0))


def test_a_summary_of_many_states_still_fits_a_screen() -> None:
    """Of 80 columns and 24 rows."""
    assert len(drawn(summary(ALL_STATES, 65.0))) <= 23


@pytest.mark.parametrize("code", ["[bold]x[/bold]", "[/]", ":smile:", "[link=http://example.com]x"])
def test_markup_from_outside_is_shown_and_not_heeded(code: str) -> None:
    """In the table and in the summary."""
    labels = ("/api/v2/conversations/calls", "rejected", "400", code, "busy")
    shown: View = (Family(catalogue.ATTEMPTS, {labels: Number(40)}),)
    for picture in (scene(shown), summary(shown, 1.0)):
        assert code in "\n".join(drawn(picture))


@pytest.mark.parametrize(("expected", "seconds"), [("00:00", 0.9), ("01:05", 65.2), ("59:59", 3599), ("1:00:00", 3600)])
def test_clock(expected: str, seconds: float) -> None:
    """Whole seconds; hours where there are any."""
    assert expected == clock(seconds)
