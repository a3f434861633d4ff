"""What the organisation says of its agents, in the SDK models' shapes."""

import json

import pytest

from call_initiation.events import StateLabel
from call_initiation.simulator.org import (
    CALM,
    Behaviour,
    Organisation,
)
from simulated import NOBODY, NOW, call, client_token, code_of, get, in_state


def test_a_user_reads_as_in_the_models() -> None:
    """All that `expand` may name, from the same state."""
    organisation = Organisation(behaviour=CALM)
    agent_id = in_state(organisation, StateLabel.ON_QUEUE)
    expand = "presence,routingStatus,conversationSummary,station,outOfOffice,nonsense"
    body = json.loads(get(organisation, f"/api/v2/users/{agent_id}?expand={expand}").body)
    assert agent_id == body["id"]
    assert "On Queue" == body["presence"]["presenceDefinition"]["systemPresence"]
    assert body["presence"]["modifiedDate"].endswith("Z")
    assert "IDLE" == body["routingStatus"]["status"]
    assert {"active": 0, "acw": 0} == body["conversationSummary"]["call"]["contactCenter"]
    assert organisation.state(agent_id).station == body["station"]["effectiveStation"]["id"]
    assert organisation.state(agent_id).out_of_office is body["outOfOffice"]["active"]
    assert "nonsense" not in body


def test_a_user_on_a_call_reads_so() -> None:
    """The summary counts the call."""
    organisation = Organisation(behaviour=CALM)
    agent_id = in_state(organisation, StateLabel.AVAILABLE)
    organisation.place_call(call(agent_id), NOW)
    body = json.loads(get(organisation, f"/api/v2/users/{agent_id}?expand=conversationSummary", now=NOW + 0.1).body)
    assert 1 == body["conversationSummary"]["call"]["contactCenter"]["active"]
    assert "presence" not in body


def test_a_user_without_a_station_has_no_effective_one() -> None:
    """Only the last one is named."""
    organisation = Organisation(behaviour=Behaviour(without_station=1.0), agents=1)
    body = json.loads(get(organisation, f"/api/v2/users/{organisation.agent_ids[0]}?expand=station").body)
    assert ["lastAssociatedStation"] == list(body["station"])


def test_many_users_read_by_id_or_by_page() -> None:
    """Both spellings of a list; unknown ids are left out; pages count from 1."""
    organisation = Organisation(agents=30)
    one, two, three = organisation.agent_ids[:3]
    by_id = json.loads(get(organisation, f"/api/v2/users?id={two},{NOBODY}&id={one}&expand=presence").body)
    assert [two, one] == [user["id"] for user in by_id["entities"]]
    assert all("presence" in user for user in by_id["entities"])
    first = json.loads(get(organisation, "/api/v2/users").body)
    assert (25, 30, 2) == (len(first["entities"]), first["total"], first["pageCount"])
    last = json.loads(get(organisation, "/api/v2/users?pageSize=2&pageNumber=2").body)
    assert three == last["entities"][0]["id"]


@pytest.mark.parametrize(
    "query", ["pageSize=0", "pageSize=501", "pageSize=x", "pageNumber=0", f"pageSize={'9' * 5_000}"]
)
def test_a_page_that_cannot_be_is_refused(query: str) -> None:
    """Sizes from 1 to 500, numbers from 1."""
    assert (400, "bad.request") == code_of(get(Organisation(behaviour=CALM), f"/api/v2/users?{query}"))


def test_presences_read_in_bulk() -> None:
    """Up to 50, spelled as the bulk spells them."""
    organisation = Organisation(agents=60, behaviour=CALM)
    agent_id = in_state(organisation, StateLabel.ON_QUEUE)
    (body,) = json.loads(get(organisation, f"/api/v2/users/presences/purecloud/bulk?id={agent_id}").body)
    assert (agent_id, "ON_QUEUE") == (body["id"], body["presenceDefinition"]["systemPresence"])
    too_many = "&id=".join(organisation.agent_ids[:51])
    assert (400, "bad.request") == code_of(get(organisation, f"/api/v2/users/presences/purecloud/bulk?id={too_many}"))


def test_a_token_knows_its_own_user() -> None:
    """An agent's does; a client's has none."""
    organisation = Organisation(behaviour=CALM)
    assert organisation.agent_ids[0] == json.loads(get(organisation, "/api/v2/users/me").body)["id"]
    assert (400, "not.a.user") == code_of(get(organisation, "/api/v2/users/me", client_token(organisation)))
