"""How agents stand, as a table and as JSON."""

import io

from rich.console import Console

from call_initiation.agents.readiness import standing
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


def test_the_table_has_a_row_for_each_agent() -> None:
    """What isn't known is a question mark; the last column has the reason, as it is."""
    console = Console(file=io.StringIO(), width=160, record=True)
    console.print(table(STANDINGS))
    rows = [row.split() for row in console.export_text().splitlines()]
    parts = ["on_queue", "ON_QUEUE", "IDLE", "0", "0", "yes", "2026-01-31T09:30:00Z", "ready"]
    assert ["9d4b", *parts] in rows
    assert ["a7f0", "no_station", *parts[1:5], "no", *parts[6:7], "no", "station"] in rows
    nobody = "gone unknown ? ? ? ? ? ? no such user, or one who is inactive or deleted"
    assert nobody.split() in rows


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
