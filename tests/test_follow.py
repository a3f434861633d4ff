"""Whom to follow, and how a call's token says who places it."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from call_initiation.calls.client import doors
from call_initiation.calls.endpoints import match
from call_initiation.calls.observation import Observation
from call_initiation.calls.tracing import Tracing
from call_initiation.errors import SettingsError
from call_initiation.feed.follow import Callers, Following, TokenUsers
from call_initiation.privacy import KeyedHash

API = "https://api.mypurecloud.ie"
CALLS = "/api/v2/conversations/calls"
TOKEN = "canary-dialers-token"


class Nowhere:
    """Takes no observation."""

    def submit(self, observation: Observation, /) -> None:
        """Take none."""

    def fault(self, stage: str, /) -> None:
        """Expect none."""
        raise AssertionError(stage)


def call(
    url: str = API + CALLS, authorization: str | None = f"Bearer {TOKEN}", said: object = None, **body: Any
) -> Observation:
    """Return a call that is observed."""
    endpoint = match("POST", httpx.URL(url).raw_path)
    assert endpoint is not None
    headers = {} if authorization is None else {"Authorization": authorization}
    extensions = {"call_initiation": said}
    request = httpx.Request("POST", url, json=body, headers={"X-First": "1", **headers}, extensions=extensions)
    return Observation(endpoint, request, doors("httpx").sync, Tracing(), Nowhere())


UPPER = "5B8F1C1E-0000-4000-8000-00000000000A"


class Asked(list[tuple[str, Callable[[str], None]]]):
    """Keeps whose tokens are asked for."""

    def __call__(self, token: str, tell: Callable[[str], None]) -> None:
        """Keep one."""
        self.append((token, tell))


def tokens(asked: Asked, base_url: str = API) -> TokenUsers:
    """Return what knows whose tokens are."""
    return TokenUsers(KeyedHash(b"key"), base_url, asked)


@pytest.mark.parametrize("given", [{}, {"agent_ids": ()}])
def test_nobody_is_no_one_to_follow(given: dict[str, Any]) -> None:
    """That is a mistake."""
    with pytest.raises(SettingsError, match="follow_agents: found nobody, expected agent_ids"):
        Following(**given)


@pytest.mark.parametrize("name", ["agent_ids", "queue_ids", "group_ids"])
@pytest.mark.parametrize("strange", ["", "a b", "a?presence", "x" * 65, None])
def test_an_id_that_cannot_stand_in_a_topic_is_refused(name: str, strange: Any) -> None:
    """Before anything is sent."""
    with pytest.raises(SettingsError, match=f"{name}: found .*, expected ids of letters, digits and hyphens"):
        Following(**{name: ("a-1", strange)})


def test_agents_are_followed_by_their_ids_as_the_api_writes_them() -> None:
    """Or else what it tells of them would be nobody's."""
    following = Following((UPPER, "Agent-7"), [UPPER])
    assert ((UPPER.lower(), "Agent-7"), (UPPER.lower(),)) == (following.agent_ids, following.queue_ids)


def test_a_token_is_asked_about_once_and_then_known() -> None:
    """However many calls it pays for, and however often its answer fails to come."""
    asked = Asked()
    users = tokens(asked)
    for _ in range(3):
        users.notice(call())
    assert [TOKEN] == [token for token, _ in asked]
    assert users.of(call()) is None
    asked[0][1]("agent-1")
    assert "agent-1" == users.of(call())
    assert users.of(call(authorization=None)) is None


@pytest.mark.parametrize(
    "observation",
    [
        call("https://api.mypurecloud.de" + CALLS),
        call("http://api.mypurecloud.ie" + CALLS),
        call("https://api.mypurecloud.ie:8443" + CALLS),
        call("https://gateway.example.com" + CALLS),
        call(authorization=None),
        call(authorization="Basic Y2FuYXJ5"),
        call(authorization="Bearer "),
    ],
)
def test_a_token_is_shown_to_the_calls_own_host_only(observation: Observation) -> None:
    """Another region, another scheme, another port, a gateway: nobody is asked."""
    asked = Asked()
    tokens(asked).notice(observation)
    assert [] == asked


def test_a_host_is_the_same_however_its_port_is_written() -> None:
    """443 is what https means."""
    asked = Asked()
    tokens(asked, API + ":443").notice(call())
    assert 1 == len(asked)


def test_no_token_is_kept() -> None:
    """Only a keyed hash of it, and of so many."""
    users = tokens(Asked())
    users.notice(call())
    assert TOKEN not in repr(users._users)


def test_only_so_many_tokens_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that was seen first gives way."""
    monkeypatch.setattr("call_initiation.feed.follow._TOKENS", 2)
    asked = Asked()
    users = tokens(asked)
    for token in ("a", "b", "c", "c", "a"):
        users.notice(call(authorization=f"Bearer {token}"))
    assert ["a", "b", "c", "a"] == [token for token, _ in asked]


@pytest.mark.parametrize(
    ("observation", "expected"),
    [
        (call(f"{API}{CALLS}/user/path-1", said={"agent_id": "told-1"}), "path-1"),
        (call(said={"agent_id": "told-1"}), "told-1"),
        (call(**{"from": {"agentId": "body-1"}}), "body-1"),
        (call(**{"from": {"id": UPPER}}), UPPER.lower()),
        (call(said={"agent_id": "no topic?"}), None),
        (call(phoneNumber="+33199000000"), None),
    ],
)
def test_whoever_places_a_call_is_seen(observation: Observation, expected: str | None) -> None:
    """By the most trusted source that names somebody who can be followed."""
    seen: list[str] = []
    Callers(None, seen.append).notice(observation)
    assert ([] if expected is None else [expected]) == seen


def test_a_token_is_asked_about_only_where_nothing_else_says_who_calls() -> None:
    """A path and the dialer's own word are trusted more."""
    asked = Asked()
    callers = Callers(tokens(asked), None)
    callers.notice(call(f"{API}{CALLS}/user/path-1"))
    callers.notice(call(said={"agent_id": "told-1"}))
    assert [] == asked
    callers.notice(call())
    assert 1 == len(asked)


def test_the_user_of_a_token_is_seen_once_known() -> None:
    """And nobody's, where tokens aren't to be shown."""
    asked, seen = Asked(), list[str]()
    callers = Callers(tokens(asked), seen.append)
    callers.notice(call())
    asked[0][1]("agent-1")
    callers.notice(call())
    assert ["agent-1"] == seen
    assert "agent-1" == callers.of_token(call())
    assert Callers(None, None).of_token(call()) is None
