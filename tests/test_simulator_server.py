"""The HTTP door: what a client sees over a real socket is what the organisation said, and what its ledger holds."""

import asyncio
import gzip
import hashlib
import json
import socket
import time

import httpx
import pytest

from call_initiation.errors import ListenError
from call_initiation.simulator.org import (
    CALM,
    CLIENT_ID,
    CLIENT_SECRET,
    STARTED,
    Behaviour,
    Organisation,
    Request,
    user_token,
)
from call_initiation.simulator.server import Server, ServerThread

CALLS = "/api/v2/conversations/calls"
NUMBER = "+33199000042"


def clock() -> float:
    """Stand still, one second after the organisation began."""
    return STARTED + 1.0


def an_organisation(behaviour: Behaviour = CALM, agents: int = 5) -> Organisation:
    """Return a small organisation."""
    return Organisation(agents=agents, behaviour=behaviour)


def test_the_ledger_is_what_the_client_saw() -> None:
    """Status, body, correlation id and request id of each call, in their order."""
    organisation = an_organisation(Behaviour())
    with ServerThread(Server(organisation, clock=clock)) as running, httpx.Client(base_url=running.url) as client:
        seen = []
        for number in range(40):
            agent_id = organisation.agent_ids[number % 5]
            headers = {"Authorization": f"Bearer {user_token(agent_id)}", "X-Request-Id": f"call-{number}"}
            response = client.post(CALLS, headers=headers, json={"phoneNumber": NUMBER} if number % 3 else {})
            digest = hashlib.sha256(response.content).hexdigest()
            seen.append(
                (f"call-{number}", agent_id, response.status_code, digest, response.headers["ININ-Correlation-Id"])
            )
    entries = organisation.ledger
    assert seen == [(e.request_id, e.agent_id, e.status, e.body_digest, e.correlation_id) for e in entries]


def test_the_door_adds_nothing_to_an_answer() -> None:
    """The bytes and headers of an answer are those that a twin gives without a socket."""
    organisation, twin = an_organisation(), an_organisation()
    headers = {"authorization": f"Bearer {user_token(twin.agent_ids[0])}"}
    with ServerThread(Server(organisation, clock=clock)) as running:
        response = httpx.get(f"{running.url}/api/v2/users?expand=presence&pageSize=3", headers=headers)
    expected = twin.answer(
        Request(method="GET", path="/api/v2/users", query="expand=presence&pageSize=3", headers=headers), clock()
    )
    assert expected.body == response.content
    added = {"server", "content-length"}
    assert {name.lower(): value for name, value in expected.headers.items()} == {
        name: value for name, value in response.headers.items() if name not in added
    }


@pytest.mark.parametrize(
    ("content_type", "body", "expected"),
    [
        ("application/json", b'{"phoneNumber"', (400, "bad.request")),
        ("application/json", b"x" * 600_000, (413, "request.entity.too.large")),
        ("text/plain", b"{}", (415, "unsupported.media.type")),
        ("application/json", gzip.compress(b'{"phoneNumber": "+33199000042"}', mtime=0), (400, "bad.request")),
    ],
)
def test_bad_input_gets_the_documented_error(content_type: str, body: bytes, expected: tuple[int, str]) -> None:
    """Broken JSON, 600 KB, another content type; what is compressed, or isn't and says so, is no JSON."""
    organisation = an_organisation()
    headers = {
        "Authorization": f"Bearer {user_token(organisation.agent_ids[0])}",
        "Content-Type": content_type,
        "Content-Encoding": "gzip",
    }
    with ServerThread(Server(organisation, clock=clock)) as running:
        response = httpx.post(running.url + CALLS, headers=headers, content=body)
    assert expected == (response.status_code, response.json()["code"])
    assert [(expected[0], hashlib.sha256(body[:512_001]).hexdigest())] == [
        (entry.status, entry.request_digest) for entry in organisation.ledger
    ]


def test_unknown_routes_and_users_are_not_found() -> None:
    """In the shape of every error, with its correlation id."""
    organisation = an_organisation()
    headers = {"Authorization": f"Bearer {user_token(organisation.agent_ids[0])}"}
    with ServerThread(Server(organisation, clock=clock)) as running, httpx.Client(base_url=running.url) as client:
        responses = [
            client.get("/api/v2/nothing", headers=headers),
            client.delete("/ledger/all", headers=headers),
            client.post(f"{CALLS}/user/nobody", headers=headers, json={"phoneNumber": NUMBER}),
        ]
    assert [(404, "not.found")] * 3 == [(response.status_code, response.json()["code"]) for response in responses]
    assert all(r.headers["ININ-Correlation-Id"] == r.json()["contextId"] for r in responses)


def test_a_client_gets_a_token_and_reads_with_it() -> None:
    """The documented flow, as httpx does it."""
    with ServerThread(Server(an_organisation(), clock=clock)) as running, httpx.Client(base_url=running.url) as client:
        form = {"grant_type": "client_credentials"}
        given = client.post("/oauth/token", data=form, auth=(CLIENT_ID, CLIENT_SECRET)).json()
        users = client.get("/api/v2/users", headers={"Authorization": f"Bearer {given['access_token']}"}).json()
    assert 5 == users["total"]


def test_the_limit_is_the_tokens() -> None:
    """One over the limit is a 429 that says when to come again."""
    organisation = an_organisation(Behaviour(rate_limit=1, html=0.0))
    headers = {"Authorization": f"Bearer {user_token(organisation.agent_ids[0])}"}
    with ServerThread(Server(organisation, clock=clock)) as running, httpx.Client(base_url=running.url) as client:
        first, second = (client.get("/api/v2/users/me", headers=headers) for _ in range(2))
    assert (200, 429) == (first.status_code, second.status_code)
    assert "60" == second.headers["Retry-After"]


def test_the_truth_is_a_page() -> None:
    """Entries and counts as JSON, the latest so many; without token, number or what isn't a number of entries."""
    organisation = an_organisation()
    token = user_token(organisation.agent_ids[0])
    with ServerThread(Server(organisation, clock=clock)) as running, httpx.Client(base_url=running.url) as client:
        for _ in range(3):
            client.post(CALLS, headers={"Authorization": f"Bearer {token}"}, json={"phoneNumber": NUMBER})
        page, last, none = (client.get(f"/ledger{query}") for query in ("", "?last=1", "?last=0"))
        wrong = [client.get(f"/ledger?last={last}") for last in ("x", "-1", "9" * 5_000)]
    assert (3, 3) == (page.json()["calls"], len(page.json()["entries"]))
    assert [3] == [entry["number"] for entry in last.json()["entries"]]
    assert [] == none.json()["entries"]
    assert [400] * 3 == [response.status_code for response in wrong]
    assert token not in page.text
    assert NUMBER not in page.text
    assert 3 == sum(count["calls"] for count in page.json()["counts"])
    assert [e.error_code for e in organisation.ledger] == [entry["error_code"] for entry in page.json()["entries"]]


@pytest.mark.parametrize("agents", [0, 5])
def test_it_says_what_it_is(agents: int) -> None:
    """A page of help that can be followed, and a sign of life."""
    organisation = an_organisation(agents=agents)
    with ServerThread(Server(organisation, clock=clock)) as running:
        page, healthy = httpx.get(running.url), httpx.get(f"{running.url}/healthy")
        assert f"curl -i {running.url}{CALLS}" in page.text
    assert "Nothing here is real" in page.text
    assert all(agent_id in page.text for agent_id in organisation.agent_ids)
    assert all(team_id in page.text for team_id in (*organisation.teams.queues, *organisation.teams.groups))
    assert (200, "healthy\n") == (healthy.status_code, healthy.text)


def test_a_latency_delays_the_answer_only() -> None:
    """The call is in the ledger before its answer is out, and the answer is the same."""
    organisation = an_organisation()
    with ServerThread(Server(organisation, clock=clock, latency=0.002)) as running:
        response = httpx.post(running.url + CALLS)
    assert 401 == response.status_code
    assert 1 == len(organisation.ledger)


def test_a_port_that_is_taken_is_said_to_be() -> None:
    """By the address and the system's reason, in the caller's own thread too."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(ListenError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use; "),
            ServerThread(Server(an_organisation(), port=port, clock=clock)),
        ):
            pass


def test_a_name_that_cannot_be_found_is_told_in_the_systems_words() -> None:
    """Without asyncio's own before them, whatever Python's version; the address is written as in URLs."""
    error = ListenError.of("nosuch.invalid", 80, socket.gaierror(socket.EAI_NONAME, "Name or service not known"))
    assert "Name or service not known" == error.reason
    assert "[::1]:80" == ListenError.of("::1", 80, OSError("no number")).address
    said = "error while attempting to bind on address ('::1', 80, 0, 0): [errno 98] address already in use"
    assert "Address already in use" == ListenError.of("::1", 80, OSError(98, said)).reason


def test_an_organisation_of_long_ago_is_refused() -> None:
    """Rather than catching up for minutes in silence."""
    with (
        pytest.raises(ValueError, match="began 86401 s ago: make it with started="),
        ServerThread(Server(an_organisation(), clock=lambda: STARTED + 86_401.0)),
    ):
        pass


def test_an_address_of_version_6_is_written_in_brackets() -> None:
    """So that the URL is one."""
    with ServerThread(Server(an_organisation(), host="::1", clock=clock)) as running:
        assert running.url.startswith("http://[::1]:")
        assert 200 == httpx.get(f"{running.url}/healthy").status_code


def test_many_clients_are_each_answered_once() -> None:
    """Calls that run at the same time have one entry each."""
    organisation = Organisation(agents=5, started=time.time())

    async def all_at_once() -> list[int]:
        async with Server(organisation) as server, httpx.AsyncClient(base_url=server.url) as client:
            headers = {"Authorization": f"Bearer {user_token(organisation.agent_ids[0])}"}
            calls = [
                client.post(CALLS, headers={**headers, "X-Request-Id": str(number)}, json={"phoneNumber": NUMBER})
                for number in range(50)
            ]
            return [response.status_code for response in await asyncio.gather(*calls)]

    statuses = asyncio.run(all_at_once())
    by_id = {entry.request_id: entry.status for entry in organisation.ledger}
    assert statuses == [by_id[str(number)] for number in range(50)]
    assert 50 == len(organisation.ledger)


def test_a_server_that_never_ran_is_closed_in_peace() -> None:
    """Leaving without having entered does nothing."""
    asyncio.run(Server(an_organisation()).__aexit__(None, None, None))


def test_the_body_of_a_page_is_json() -> None:
    """An error's bytes parse, even for a path that isn't ASCII."""
    with ServerThread(Server(an_organisation(), clock=clock)) as running:
        response = httpx.get(f"{running.url}/é?x=ü")
    assert "authentication.required" == json.loads(response.content)["code"]
