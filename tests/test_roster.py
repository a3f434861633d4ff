"""How agents stand, as a table and as JSON."""

import io

import pytest
from rich.console import Console

from call_initiation.agents.readiness import Standing, standing
from call_initiation.program.roster import document, table

READY = {
    "id": "9d4b",
    "state": "active",
    "presence": {"presenceDefinition": {"systemPresence": "On Queue"}, "modifiedDate": "2026-01-31T09:00:00Z"},
    "routingStatus": {"status": "IDLE", "startTime": "2026-01-31T09:30:00Z"},
    "conversationSummary": {"call": {"contactCenter": {"active": 0, "acw": 0}}},
    "station": {"effectiveStation": {"id": "7c1e"}},
}
STANDINGS = [
    standing("9d4b", READY),
    standing("a7f0", READY | {"station": {"effectiveStation": None}}),
    standing("gone", None),
]


AGENT = "33999e11-d98f-4cb1-9c73-2316fa28e42f"
MEETING = READY | {"presence": {"presenceDefinition": {"systemPresence": "Meeting"}}}


def shown(standings: list[Standing], width: int) -> list[str]:
    """Return the lines of a table as so many columns show it."""
    console = Console(file=io.StringIO(), width=width)
    with console.capture() as captured:
        console.print(table(standings, width))
    return captured.get().splitlines()


def test_the_table_has_a_row_for_each_agent() -> None:
    """What isn't known is a question mark; the last column has the reason, as it is."""
    rows = [row.split() for row in shown(STANDINGS, 160)]
    parts = ["on_queue", "ON_QUEUE", "IDLE", "0", "0", "yes", "2026-01-31T09:30:00Z", "ready"]
    assert ["9d4b", *parts] in rows
    assert ["a7f0", "no_station", *parts[1:5], "no", *parts[6:7], "no", "station"] in rows
    nobody = "gone unknown ? ? ? ? ? ? no such user, or one who is inactive or deleted"
    assert nobody.split() in rows


@pytest.mark.parametrize(
    ("width", "headings"),
    [
        (200, ["agent", "state", "presence", "routing", "on", "call", "wrap-up", "station", "since", "ready"]),
        (120, ["agent", "state", "presence", "routing", "since", "ready"]),
        (80, ["agent", "state", "ready"]),
        (60, ["agent", "ready"]),
    ],
)
def test_a_narrow_terminal_breaks_no_id(width: int, headings: list[str]) -> None:
    """It does without what matters less; the id and the reason stand beside each other."""
    lines = shown([standing(AGENT, MEETING)], width)
    assert headings in [line.split() for line in lines]
    (row,) = [line for line in lines if AGENT in line]
    assert row.rstrip().endswith("presence is MEETING")
    assert max(map(len, lines)) <= width


def test_a_reason_is_broken_before_an_id_is() -> None:
    """Between its words."""
    lines = [line.strip() for line in shown([standing(AGENT, None)], 60)]
    assert any(line.startswith(f"{AGENT}  ") for line in lines)
    assert "one who is inactive" in lines


def test_where_nothing_else_helps_an_id_is_broken() -> None:
    """Rather than cut off."""
    lines = shown([standing(AGENT, MEETING)], 40)
    assert AGENT == "".join(line.split()[0] for line in lines if line.strip() and line.split()[0] in AGENT)
    assert "MEETING" in "".join(lines)


def test_json_says_the_same() -> None:
    """And whether all are ready; null for what isn't known."""
    said = document(STANDINGS)
    assert said["ready"] is False
    assert {
        "id": "9d4b",
        "ready": True,
        "reason": None,
        "state": "on_queue",
        "presence": "ON_QUEUE",
        "routing_status": "IDLE",
        "on_call": 0,
        "wrap_up": 0,
        "station": "7c1e",
        "since": "2026-01-31T09:30:00Z",
    } == said["agents"][0]
    parts = ("presence", "routing_status", "on_call", "wrap_up", "station", "since")
    assert [None] * len(parts) == [said["agents"][2][part] for part in parts]
    assert document(STANDINGS[:1])["ready"] is True
