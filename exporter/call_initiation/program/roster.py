"""How agents stand, for people as a table and for programs as JSON; what isn't known is `?` and null."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

from rich import box
from rich.table import Table
from rich.text import Text

from call_initiation.agents.agents import label
from call_initiation.agents.readiness import Standing

_HEADINGS: Final = ("agent", "state", "presence", "routing", "on call", "wrap-up", "station", "since", "ready")
_SPARED: Final = ("wrap-up", "on call", "station", "routing", "since", "presence", "state")
"""What a narrow terminal does without, the first of them first: who it is and whether they are ready always stand."""

_PADDING: Final = 2
_GAP: Final = _PADDING + 1
"""Columns between two: the table itself has one more there, and one at either end."""
_VERDICT: Final = 19
"""Columns in which most reasons stand; those that are longer are broken between words."""


def table(standings: Iterable[Standing], width: int) -> Table:
    """Return a row for each agent, within so many columns; the last cell has the one reason of those who aren't ready.

    An id is broken only where it and a reason don't fit beside each other: it is there to be copied.
    """
    agents = [_cells(one) for one in standings]
    headings: list[str] = list(_HEADINGS)
    for spared in _SPARED:
        if _width(headings, agents) > width:
            headings.remove(spared)
    rows = Table(box=box.SIMPLE_HEAD, padding=(0, _PADDING, 0, 0), pad_edge=False)
    is_whole = _width(headings, agents) <= width
    for heading in headings:
        rows.add_column(heading, overflow="fold", no_wrap=is_whole and heading != "ready")
    for cells in agents:
        rows.add_row(*(cells[heading] for heading in headings))
    return rows


def _cells(one: Standing) -> dict[str, Text]:
    state = one.state
    parts = {
        "agent": one.agent_id,
        "state": label(state),
        "presence": state.presence,
        "routing": state.routing_status,
        "on call": state.on_call,
        "wrap-up": state.wrap_up,
        "station": _has(state.station),
        "since": _since(one),
    }
    verdict = Text("ready", "green") if one.is_ready else Text(one.reason, "red")
    return {name: Text("?" if part is None else str(part)) for name, part in parts.items()} | {"ready": verdict}


def _width(headings: list[str], agents: list[dict[str, Text]]) -> int:
    """Return how many columns the headings take; a long reason is broken, so it counts for less."""
    widths = {heading: max(len(heading), *(len(cells[heading]) for cells in agents)) for heading in headings}
    return sum(widths.values()) + _GAP * len(widths) - 1 - max(0, widths["ready"] - _VERDICT)


def document(standings: list[Standing]) -> dict[str, Any]:
    """Return what JSON has to say: whether all are ready, and each agent in turn."""
    return {"ready": all(one.is_ready for one in standings), "agents": [_object(one) for one in standings]}


def _object(one: Standing) -> dict[str, Any]:
    state = one.state
    return {
        "id": one.agent_id,
        "ready": one.is_ready,
        "reason": one.reason or None,
        "state": label(state),
        "presence": state.presence,
        "routing_status": state.routing_status,
        "on_call": state.on_call,
        "wrap_up": state.wrap_up,
        "station": state.station,
        "since": _since(one),
    }


def _has(station: str | None) -> str | None:
    return None if station is None else "yes" if station else "no"


def _since(one: Standing) -> str | None:
    at = one.state.since
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
