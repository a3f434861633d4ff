"""How agents stand, for people as a table and for programs as JSON; what isn't known is `?` and null."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from call_initiation.agents.agents import label
from call_initiation.agents.readiness import Standing

_HEADINGS = ("agent", "state", "presence", "routing", "on call", "wrap-up", "station", "since", "ready")


def table(standings: Iterable[Standing]) -> Table:
    """Return a row for each agent; the last column has the one reason of those who aren't ready."""
    rows = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0), pad_edge=False)
    for heading in _HEADINGS:
        rows.add_column(heading, overflow="fold")
    for one in standings:
        state = one.state
        parts = (state.presence, state.routing_status, state.on_call, state.wrap_up, _has(state.station), _since(one))
        shown = (Text("?" if part is None else str(part)) for part in parts)
        verdict = Text("ready", "green") if one.is_ready else Text(one.reason, "red")
        rows.add_row(Text(one.agent_id), Text(label(state)), *shown, verdict)
    return rows


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
