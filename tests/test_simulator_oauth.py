"""Tokens and their minutes: given out, expired, refused, spent."""

import json

import pytest

from call_initiation.simulator.org import (
    CALM,
    CLIENT_ID,
    CLIENT_SECRET,
    Behaviour,
    CallRequest,
    Organisation,
    Request,
    user_token,
)
from simulated import NOW, call, client_token, code_of, get, oauth


@pytest.mark.parametrize(
    ("authorization", "code"),
    [("", "authentication.required"), ("Bearer ", "authentication.required"), ("Bearer x", "bad.credentials")],
)
def test_a_token_is_needed(authorization: str, code: str) -> None:
    """None, an empty one, and one that nobody gave out."""
    organisation = Organisation(behaviour=CALM)
    request = CallRequest(headers={"authorization": authorization, "content-type": "application/json"}, body=b"{}")
    answer = organisation.place_call(request, NOW)
    assert (401, code) == code_of(answer)
    assert "0" == answer.headers["inin-ratelimit-count"]


def test_an_agents_token_says_nothing_of_whose_it_is() -> None:
    """Only the organisation knows; an id that was a piece of a secret would be masked with it."""
    organisation = Organisation(behaviour=CALM)
    tokens = {agent_id: user_token(agent_id) for agent_id in organisation.agent_ids}
    assert len(tokens) == len(set(tokens.values()))
    for agent_id, token in tokens.items():
        assert agent_id not in token
        assert agent_id == json.loads(get(organisation, "/api/v2/users/me", token).body)["id"]


def test_a_clients_token_expires() -> None:
    """At its time, not before, and is then said to have expired."""
    organisation = Organisation(behaviour=Behaviour(token_seconds=300, html=0.0))
    token = client_token(organisation)
    assert 200 == get(organisation, "/api/v2/users", token, NOW + 299.9).status
    assert (401, "credentials.expired") == code_of(get(organisation, "/api/v2/users", token, NOW + 300.0))


def test_a_token_is_known_to_have_expired_for_as_long_as_it_lived() -> None:
    """Giving out another one doesn't make it one that never was."""
    organisation = Organisation(behaviour=Behaviour(token_seconds=300, html=0.0))
    token = client_token(organisation)
    client_token(organisation, NOW + 301.0)
    assert (401, "credentials.expired") == code_of(get(organisation, "/api/v2/users", token, NOW + 302.0))


def test_a_token_is_given_out() -> None:
    """The documented fields, a new token each time, and no cause to keep those long expired."""
    organisation = Organisation(behaviour=Behaviour(token_seconds=300))
    body = json.loads(oauth(organisation).body)
    assert ("bearer", 300) == (body["token_type"], body["expires_in"])
    assert body["access_token"] != client_token(organisation, NOW + 601.0)
    assert (401, "bad.credentials") == code_of(get(organisation, "/api/v2/users", body["access_token"], NOW + 601.0))


@pytest.mark.parametrize(
    ("credentials", "form", "expected"),
    [
        ("simulator:wrong", "grant_type=client_credentials", (401, "invalid_client")),
        (f"{CLIENT_ID}:{CLIENT_SECRET}", "grant_type=password", (400, "unsupported_grant_type")),
        (f"{CLIENT_ID}:{CLIENT_SECRET}", "", (400, "unsupported_grant_type")),
    ],
)
def test_a_token_may_be_refused(credentials: str, form: str, expected: tuple[int, str]) -> None:
    """OAuth's own error shape: no `code`."""
    answer = oauth(Organisation(), credentials, form)
    body = json.loads(answer.body)
    assert expected == (answer.status, body["error"])
    assert {"error", "error_description", "description"} == set(body)


@pytest.mark.parametrize(
    "authorization", ["", "Basic ???", "Basic /w==", "Digest c2ltdWxhdG9yOnNpbXVsYXRvci1zZWNyZXQ="]
)
def test_credentials_that_cannot_be_read_are_wrong(authorization: str) -> None:
    """No header, no base64, no UTF-8, another scheme."""
    request = Request(method="POST", path="/oauth/token", headers={"authorization": authorization})
    assert 401 == Organisation().answer(request, NOW).status


def test_a_tokens_minute_runs_out() -> None:
    """The request over the limit is told when to come again; other tokens have minutes of their own."""
    organisation = Organisation(behaviour=Behaviour(rate_limit=3, html=0.0))
    one, two = organisation.agent_ids[:2]
    statuses = [organisation.place_call(call(one, {}), NOW + second).status for second in range(3)]
    answer = organisation.place_call(call(one, {}), NOW + 17.5)
    assert [400, 400, 400] == statuses
    assert (429, "too.many.requests.retry.after") == code_of(answer)
    assert "Rate limit exceeded the maximum. Retry the request in [43] seconds" == json.loads(answer.body)["message"]
    assert ("43", "43", "3", "3") == tuple(
        answer.headers[name]
        for name in ("Retry-After", "inin-ratelimit-reset", "inin-ratelimit-count", "inin-ratelimit-allowed")
    )
    assert 400 == organisation.place_call(call(two, {}), NOW + 18.0).status
    assert 429 == get(organisation, "/api/v2/users/me", user_token(one), NOW + 59.9).status
    assert 200 == get(organisation, "/api/v2/users/me", user_token(one), NOW + 60.0).status
