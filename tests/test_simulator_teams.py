"""The pretend organisation's queues and groups, and how their members read."""

import json
from typing import Any

import pytest

from call_initiation.simulator.disturbances import DisturbanceError, Disturbances, ordered
from call_initiation.simulator.org import CALM, Organisation
from call_initiation.simulator.teams import Teams
from simulated import NOBODY, client_token, code_of, get


def path_of(organisation: Organisation, name: str) -> tuple[str, tuple[str, ...]]:
    """Return where the members of a queue or a group are read, and who they are at first."""
    for prefix, teams in (("routing/queues", organisation.teams.queues), ("groups", organisation.teams.groups)):
        for team in teams.values():
            if team.name == name:
                return f"/api/v2/{prefix}/{team.id}/members", team.member_ids
    raise KeyError(name)


def read(organisation: Organisation, target: str) -> Any:
    """Read something as a client."""
    answer = get(organisation, target, client_token(organisation))
    assert 200 == answer.status
    return json.loads(answer.body)


def test_members_come_from_the_seed() -> None:
    """Some agents belong to several teams, some to none."""
    ids = [str(number) for number in range(200)]
    one, same, other = Teams(1, ids), Teams(1, ids), Teams(2, ids)
    assert (one.queues, one.groups) == (same.queues, same.groups)
    assert one.queues.keys().isdisjoint(other.queues)
    sizes = [sum(agent in team.member_ids for team in (*one.queues.values(), *one.groups.values())) for agent in ids]
    assert (0, True) == (min(sizes), max(sizes) > 1)


def test_a_queues_members_read_as_in_the_models() -> None:
    """`QueueMember`: the user, whether it has joined, and its routing status."""
    organisation = Organisation(behaviour=CALM)
    path, members = path_of(organisation, "Sales")
    page = read(organisation, f"{path}?pageSize=100")
    assert list(members) == [member["user"]["id"] for member in page["entities"]]
    assert {True, False} == {member["joined"] for member in page["entities"]}
    assert {"entities", "pageSize", "pageNumber"} == page.keys()
    fields = {"id", "name", "user", "ringNumber", "joined", "memberBy", "routingStatus", "selfUri"}
    assert fields == page["entities"][0].keys()


def test_a_groups_members_are_users() -> None:
    """`UserEntityListing`, with the parts that are asked for."""
    organisation = Organisation(behaviour=CALM)
    path, members = path_of(organisation, "Paris")
    page = read(organisation, f"{path}?pageSize=100&expand=presence")
    assert list(members) == [user["id"] for user in page["entities"]]
    assert "presence" in page["entities"][0]
    assert (len(members), 1) == (page["total"], page["pageCount"])


@pytest.mark.parametrize("name", ["Sales", "Paris"])
def test_members_are_paged(name: str) -> None:
    """By 25 unless asked, each page naming the next."""
    organisation = Organisation(agents=120, behaviour=CALM)
    path, members = path_of(organisation, name)
    found, target = list[str](), path
    while target:
        page = read(organisation, target)
        assert len(page["entities"]) <= 25
        found += [entity["id"] for entity in page["entities"]]
        target = page.get("nextUri", "")
    assert list(members) == found


@pytest.mark.parametrize("name", ["Sales", "Paris"])
def test_members_are_whom_a_disturbance_names(name: str) -> None:
    """Only those who exist; the others' members stay."""
    organisation = Organisation(behaviour=CALM)
    path, _ = path_of(organisation, name)
    other, others = path_of(organisation, "Service")
    first, second = organisation.agent_ids[:2]
    team_id = path.split("/")[-2]
    organisation.disturbances = Disturbances(members={team_id: (first, NOBODY, second)}, deleted=(second,))
    assert [first] == [entity["id"] for entity in read(organisation, path)["entities"]]
    kept = [member for member in others if member != second]
    assert kept == [entity["id"] for entity in read(organisation, f"{other}?pageSize=100")["entities"]]


def test_members_are_wished_for_at_the_door_of_faults() -> None:
    """Queue by queue, and nothing else is taken for them."""
    wished, _ = ordered(Disturbances(), {"members": {"q1": ["a", "b"], "g1": []}})
    assert {"q1": ("a", "b"), "g1": ()} == wished.members
    for strange in (["a"], {"q1": "a"}, {"q1": [1]}):
        with pytest.raises(DisturbanceError, match=r"members: found .*, expected an object of lists of user ids"):
            ordered(wished, {"members": strange})


@pytest.mark.parametrize(
    ("name", "query"), [("Sales", "pageSize=101"), ("Sales", "pageNumber=0"), ("Paris", "pageSize=501")]
)
def test_a_page_that_cannot_be_is_refused(name: str, query: str) -> None:
    """A queue's members come a hundred at a time at most."""
    organisation = Organisation(behaviour=CALM)
    assert (400, "bad.request") == code_of(get(organisation, f"{path_of(organisation, name)[0]}?{query}"))


@pytest.mark.parametrize("path", ["routing/queues/{group}", "groups/{queue}", "groups/nothing", "{queue}"])
def test_what_is_not_there_is_not_found(path: str) -> None:
    """A group is no queue."""
    organisation = Organisation(behaviour=CALM)
    queue, group = next(iter(organisation.teams.queues)), next(iter(organisation.teams.groups))
    target = f"/api/v2/{path.format(queue=queue, group=group)}/members"
    assert (404, "not.found") == code_of(get(organisation, target))


def test_members_are_refused_like_any_other_read() -> None:
    """Without a token, and too often."""
    organisation = Organisation(behaviour=CALM)
    path, _ = path_of(organisation, "Sales")
    assert (401, "bad.credentials") == code_of(get(organisation, path, "nobodys"))
    organisation.disturbances = Disturbances(retry_after=7.0)
    refused = get(organisation, path)
    assert (429, "7") == (refused.status, refused.headers["Retry-After"])


def test_channels_can_be_forbidden() -> None:
    """Reads are not."""
    organisation = Organisation(behaviour=CALM)
    organisation.disturbances = Disturbances(forbidden=True)
    assert (403, "not.authorized") == code_of(get(organisation, "/api/v2/notifications/channels"))
    assert 200 == get(organisation, "/api/v2/users/me").status
