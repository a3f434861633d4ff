"""What the API's JSON says of an agent's state."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from call_initiation.agents import users
from call_initiation.agents.users import Part, Update
from call_initiation.events import AgentState, Presence, RoutingStatus, StateSource

REST = StateSource.REST
HALF_PAST_NINE = 1_769_851_800.0
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("5B8F1C1E-0000-4000-8000-00000000000A", "5b8f1c1e-0000-4000-8000-00000000000a"),
        ("5b8f1c1e-0000-4000-8000-00000000000a", "5b8f1c1e-0000-4000-8000-00000000000a"),
        ("5B8F1C1E-0000-4000-8000-00000000000", "5B8F1C1E-0000-4000-8000-00000000000"),
        ("Agent-7", "Agent-7"),
        ("", ""),
    ],
)
def test_a_uuid_is_the_same_in_both_cases(written: str, meant: str) -> None:
    """Whatever else may be an id stays as it is."""
    assert meant == users.user_id(written)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-31T09:30:00Z", HALF_PAST_NINE),
        ("2026-01-31T09:30:00.250Z", HALF_PAST_NINE + 0.25),
        ("2026-01-31T09:30:00.123456789Z", HALF_PAST_NINE + 0.123456),
        ("2026-01-31T10:30:00+01:00", HALF_PAST_NINE),
        ("2026-01-31T09:30:00+0000", HALF_PAST_NINE),
        ("2026-01-31T09:30:00", HALF_PAST_NINE),
        ("1970-01-01T00:00:00Z", 0.0),
        ("0001-01-01T00:00:00+23:59", -62_135_683_140.0),
        ("2026-01-31", None),
        ("2026-13-31T09:30:00Z", None),
        ("yesterday aT noon", None),
        ("\ud800T", None),
        ("", None),
        (1_769_851_800, None),
        (None, None),
    ],
)
def test_epoch_reads_a_moment_or_nothing(text: object, expected: float | None) -> None:
    """A date alone isn't a moment, and no zone means UTC."""
    assert expected == users.epoch(text)


@given(st.text() | st.from_regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.,+Z-]*"))
def test_epoch_takes_any_text(text: str) -> None:
    """Nothing is raised, whatever the text."""
    assert isinstance(users.epoch(text), float | None)


@pytest.mark.parametrize("spelling", ["ON_QUEUE", "On Queue", "OnQueue", "on_queue"])
def test_presence_is_the_system_presence_in_any_spelling(spelling: str) -> None:
    """An organisation's own label doesn't count."""
    shown = {
        "presenceDefinition": {"id": "5f1e", "systemPresence": spelling, "name": "Lunch duty"},
        "modifiedDate": "2026-01-31T09:30:00.000Z",
    }
    state = AgentState(presence=Presence.ON_QUEUE, since=HALF_PAST_NINE, source=REST)
    assert (Update(Part.PRESENCE, state, HALF_PAST_NINE),) == users.presence(shown, REST)


@pytest.mark.parametrize("definition", [{"systemPresence": "SIESTA"}, {}, None, 7])
def test_presence_that_cannot_be_read_is_unknown(definition: object) -> None:
    """The part is named, so that what was known before doesn't stand any longer."""
    assert (Update(Part.PRESENCE, AgentState(source=REST), None),) == users.presence(
        {"presenceDefinition": definition}, REST
    )


def test_routing_status_has_its_own_time() -> None:
    """The start of the status is the time of the change."""
    shown = {"userId": "a1", "status": "NOT_RESPONDING", "startTime": "2026-01-31T09:30:00Z"}
    state = AgentState(routing_status=RoutingStatus.NOT_RESPONDING, since=HALF_PAST_NINE, source=REST)
    assert (Update(Part.ROUTING_STATUS, state, HALF_PAST_NINE),) == users.routing_status(shown, REST)


def counts(active: object, acw: object) -> dict[str, object]:
    """Return one medium's counts in the contact centre, and none in the enterprise."""
    return {"contactCenter": {"active": active, "acw": acw}, "enterprise": {"active": 0, "acw": 0}}


@pytest.mark.parametrize(
    ("summary", "on_call", "wrap_up"),
    [
        ({"call": counts(0, 0), "callback": counts(0, 0)}, 0, 0),
        ({"call": counts(1, 0), "callback": counts(0, 0)}, 1, 0),
        ({"call": {"contactCenter": {"active": 1, "acw": 0}, "enterprise": {"active": 2, "acw": 1}}}, 3, 1),
        ({"call": counts(0, 1), "callback": counts(1, 1)}, 0, 2),
        ({"call": counts(0, 0), "callback": counts(1, 0), "email": counts(3, 3), "chat": counts(2, 2)}, 0, 0),
        ({"call": {"contactCenter": {"active": 1}}}, 1, None),
        ({"call": {"contactCenter": {"active": 1, "acw": None}, "enterprise": None}}, 1, None),
        ({"call": {}, "callback": counts(0, 0)}, None, 0),
        ({"call": counts("1", 1)}, None, 1),
        ({"call": counts(active=True, acw=-1)}, None, None),
        ({"call": []}, None, None),
    ],
)
def test_conversation_summary_counts_calls(
    summary: dict[str, object], on_call: int | None, wrap_up: int | None
) -> None:
    """Calls alone make an agent be on a call; wrap-up follows calls and callbacks; a bad count spoils its sum."""
    state = AgentState(on_call=on_call, wrap_up=wrap_up, source=REST)
    assert (Update(Part.CONVERSATIONS, state, None),) == users.conversation_summary(summary, REST)


@pytest.mark.parametrize(
    ("shown", "station", "at"),
    [
        ({"effectiveStation": {"id": "7c1e"}, "associatedStation": None}, "7c1e", None),
        ({"effectiveStation": None, "associatedStation": {"id": "7c1e"}}, "", None),
        ({"associatedStation": {"id": "7c1e", "associatedDate": "2026-01-31T09:30:00Z"}}, "7c1e", HALF_PAST_NINE),
        ({"associatedStation": None}, None, None),
        ({"effectiveStation": {}}, None, None),
        ({"effectiveStation": "7c1e"}, None, None),
    ],
)
def test_station_is_the_effective_one(shown: object, station: str | None, at: float | None) -> None:
    """No effective station is no station; no associated one says nothing of a default one."""
    state = AgentState(station=station, since=at, source=REST)
    assert (Update(Part.STATION, state, at),) == users.stations(shown, REST)


@pytest.mark.parametrize(("active", "expected"), [(True, True), (False, False), ("yes", None), (None, None)])
def test_out_of_office_is_a_flag(active: object, expected: bool | None) -> None:  # noqa: FBT001 - the expected value
    """Its start and end are plans: neither is the time of a change."""
    shown = {"active": active, "startDate": "2026-01-31T09:30:00Z"}
    state = AgentState(out_of_office=expected, source=REST)
    assert (Update(Part.OUT_OF_OFFICE, state, None),) == users.out_of_office(shown, REST)


@pytest.mark.parametrize(
    "read", [users.presence, users.routing_status, users.conversation_summary, users.stations, users.out_of_office]
)
@pytest.mark.parametrize("nothing", [None, {}, [], "text", 1, {"other": 1}])
def test_an_object_that_is_not_there_says_nothing(read: object, nothing: object) -> None:
    """Only what is named can become unknown."""
    assert callable(read)
    assert read(nothing, REST) == ()


def test_user_state_reads_every_expansion_with_its_own_time() -> None:
    """One body, five parts; the two without a time in the API have none."""
    body = json.loads("""{
      "id": "a1", "name": "Ada", "state": "active",
      "presence": {"presenceDefinition": {"systemPresence": "Available"}, "modifiedDate": "2026-01-31T09:30:00Z"},
      "routingStatus": {"status": "IDLE", "startTime": "2026-01-31T09:30:01Z"},
      "conversationSummary": {"call": {"contactCenter": {"active": 0, "acw": 1}}},
      "outOfOffice": {"active": false},
      "station": {"effectiveStation": null}
    }""")
    fields = [(one.part, one.at) for one in users.user_state(body)]
    assert [
        (Part.PRESENCE, HALF_PAST_NINE),
        (Part.ROUTING_STATUS, HALF_PAST_NINE + 1),
        (Part.OUT_OF_OFFICE, None),
        (Part.CONVERSATIONS, None),
        (Part.STATION, None),
    ] == fields
    assert all(one.state.source is REST and one.state.since == one.at for one in users.user_state(body))


def test_a_deleted_user_is_unknown_in_every_part() -> None:
    """Whatever the body still shows of it."""
    body = {"id": "a1", "state": "deleted", "routingStatus": {"status": "IDLE"}}
    assert {Update(part, AgentState(source=REST), None) for part in Part} == set(users.user_state(body))


@pytest.mark.parametrize(
    ("expected", "summary"),
    [(True, {"call": counts(0, 0)}), (False, {"call": {"contactCenter": {"active": 0}}}), (False, {"call": None})],
)
def test_an_update_is_whole_if_all_of_its_part_is_known(expected: bool, summary: object) -> None:  # noqa: FBT001 - the expected value
    """A part that was known must not stand when half of it can't be read any longer."""
    assert [expected] == [one.is_whole for one in users.conversation_summary(summary, REST)]


def test_every_part_has_fields_to_be_known_by() -> None:
    """An update with nothing but its part's fields filled is whole."""
    full = AgentState(
        presence=Presence.BUSY, routing_status=RoutingStatus.IDLE, on_call=0, wrap_up=0, station="", out_of_office=False
    )
    assert [True] * len(Part) == [Update(part, full, None).is_whole for part in Part]
    assert [False] * len(Part) == [Update(part, AgentState(), None).is_whole for part in Part]


def test_arrays_and_objects_of_another_kind_are_empty() -> None:
    """The total readers give the wanted kind, whatever they are given."""
    assert ([1], [], {"a": 1}, {}) == (
        users.as_array([1]),
        users.as_array({"a": 1}),
        users.as_object({"a": 1}),
        users.as_object([1]),
    )


@given(
    ANY_JSON
    | st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(
            ["presence", "routingStatus", "conversationSummary", "station", "outOfOffice", "state"], ANY_JSON
        ),
    )
)
def test_user_state_takes_any_json(body: object) -> None:
    """Nothing is raised, and a part is spoken of once."""
    parts = [one.part for one in users.user_state(body)]
    assert len(set(parts)) == len(parts)


@pytest.mark.parametrize("other", ["defaultStation", "lastAssociatedStation"])
def test_a_read_that_shows_other_stations_only_says_that_there_is_no_effective_one(other: str) -> None:
    """The API leaves out what isn't there."""
    assert [""] == [update.state.station for update in users.stations({other: {"id": "7c1e"}}, REST)]
