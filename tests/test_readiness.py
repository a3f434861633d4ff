"""Who can place a call: every rule, its one reason, and nothing taken for fine that isn't shown."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from call_initiation.agents.readiness import NOBODY, RULES, Origin, Standing, standing
from call_initiation.events import UNKNOWN_STATE, AgentState, Presence, RoutingStatus, StateSource

AGENT = "9d4b4c1e-0000-4000-8000-000000000001"


def user(
    presence: object = "Available",
    routing: object = "OFF_QUEUE",
    active: object = 0,
    acw: object = 0,
    station: object = "7c1e",
) -> dict[str, Any]:
    """Return a user as the API shows it; a part that is None isn't shown."""
    shown: dict[str, Any] = {
        "presence": presence
        and {"presenceDefinition": {"systemPresence": presence}, "modifiedDate": "2026-01-31T09:00Z"},
        "routingStatus": routing and {"status": routing, "startTime": "2026-01-31T09:30:00Z"},
        "conversationSummary": {"call": {"contactCenter": {"active": active, "acw": acw}}},
        "station": {"effectiveStation": {"id": station}} if station else {"effectiveStation": None},
    }
    return {"id": AGENT, "state": "active"} | {name: part for name, part in shown.items() if part is not None}


def reason(shown: dict[str, Any]) -> str:
    """Return why an agent isn't ready."""
    return standing(AGENT, shown).reason


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (user(), ""),
        (user("On Queue", "IDLE"), ""),
        (user("ON_QUEUE", "INTERACTING", acw=1), ""),
        (user("Busy", acw=1), ""),
        (user(station=""), "no station"),
        (user(active=1), "on a call"),
        (user("Busy"), "presence is BUSY"),
        (user("Offline"), "presence is OFFLINE"),
        (user("On Queue", "INTERACTING"), "routing status is INTERACTING"),
        (user("On Queue", "NOT_RESPONDING"), "routing status is NOT_RESPONDING"),
        (user("Busy", "INTERACTING", active=1, station=""), "no station"),
        (user("Busy", "INTERACTING", active=1, acw=1), "on a call"),
        (user(None), "presence is not known"),
        (user("Away with the fairies"), "presence is not known"),
        (user(routing=None), "routing status is not known"),
        (user(active="many"), "on call is not known"),
        ({"id": AGENT, "state": "active"}, "station is not known"),
        ({"id": AGENT, "state": "deleted"}, "user is deleted"),
        ({"id": AGENT, "state": "inactive"} | user() | {"state": "inactive"}, "user is inactive"),
    ],
)
def test_each_agent_is_ready_or_has_one_reason(shown: dict[str, Any], expected: str) -> None:
    """The first rule that is broken, in the order of the rules."""
    assert expected == reason(shown)
    assert (expected == "") == standing(AGENT, shown).is_ready


def test_nobody_is_not_ready() -> None:
    """And is nobody."""
    assert Standing(AGENT, UNKNOWN_STATE, NOBODY) == standing(AGENT, None)


def test_a_standing_shows_the_state_as_it_was_read() -> None:
    """Whole, since its youngest part."""
    expected = AgentState(
        presence=Presence.ON_QUEUE,
        routing_status=RoutingStatus.IDLE,
        on_call=0,
        wrap_up=2,
        station="7c1e",
        since=1_769_851_800.0,
        source=StateSource.REST,
    )
    assert expected == standing(AGENT, user("On Queue", "IDLE", acw=2)).state


def test_only_the_station_is_documented() -> None:
    """Nobody shall take the thread's claims for the API's."""
    assert ["has a station"] == [rule.claim for rule in RULES if rule.origin is Origin.DOCUMENTED]


KEYS = (
    *("state", "presence", "presenceDefinition", "systemPresence", "routingStatus", "status", "conversationSummary"),
    *("call", "contactCenter", "active", "acw", "station", "effectiveStation", "id"),
)
SCALARS = st.none() | st.booleans() | st.integers(-1, 3) | st.sampled_from(["", "x", "AVAILABLE", "IDLE", "active"])
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4)
)


@given(st.dictionaries(st.sampled_from(KEYS), JSON))
def test_whatever_is_shown_a_ready_agent_breaks_no_rule(shown: dict[str, Any]) -> None:
    """Any JSON is taken; who is ready has a station and no call, for sure."""
    found = standing(AGENT, shown)
    if found.is_ready:
        assert found.state.station
        assert 0 == found.state.on_call
