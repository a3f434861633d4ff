"""Requests to a pretend organisation, and what its answers say."""

import base64
import json
from dataclasses import replace
from typing import Any

from call_initiation.events import StateLabel
from call_initiation.simulator.org import (
    CALM,
    CLIENT_ID,
    CLIENT_SECRET,
    STARTED,
    Answer,
    CallRequest,
    Organisation,
    Request,
    user_token,
    word,
)

NOW = STARTED + 1.0

NUMBER = "+33199000042"

NOBODY = "00000000-0000-4000-8000-000000000000"

ALL = replace(CALM, refusals={})
"""Accepts every faultless call, whatever the agent's state."""


def headers(token: str, **more: str) -> dict[str, str]:
    """Return the headers of a JSON request with that bearer token."""
    return {"authorization": f"Bearer {token}", "content-type": "application/json"} | more


def call(agent_id: str, payload: object = None, **more: str) -> CallRequest:
    """Return a call as the token's own user."""
    said = {"phoneNumber": NUMBER} if payload is None else payload
    body = said if isinstance(said, bytes) else json.dumps(said).encode()
    return CallRequest(headers=headers(user_token(agent_id), **more), body=body)


def from_to(agent_id: object, **more: object) -> dict[str, Any]:
    """Return the thread's payload."""
    return {"from": {"type": "PERSON", "agentId": agent_id} | more, "to": [{"address": {"phoneNumber": NUMBER}}]}


def client_token(organisation: Organisation, now: float = NOW) -> str:
    """Return a client's token, by the documented flow."""
    return str(json.loads(oauth(organisation, now=now).body)["access_token"])


def oauth(
    organisation: Organisation,
    credentials: str = f"{CLIENT_ID}:{CLIENT_SECRET}",
    form: str = "grant_type=client_credentials",
    now: float = NOW,
) -> Answer:
    """Ask for a client's token."""
    basic = base64.b64encode(credentials.encode()).decode()
    request = Request(
        method="POST", path="/oauth/token", headers={"authorization": f"Basic {basic}"}, body=form.encode()
    )
    return organisation.answer(request, now)


def get(organisation: Organisation, target: str, token: str = "", now: float = NOW) -> Answer:
    """Read something; as the first agent where no token is given."""
    path, _, query = target.partition("?")
    bearer = token or user_token(organisation.agent_ids[0])
    return organisation.answer(Request(method="GET", path=path, query=query, headers=headers(bearer)), now)


def in_state(organisation: Organisation, label: StateLabel, now: float = NOW) -> str:
    """Return an agent who is in that state just before `now`."""
    organisation.advance(now)
    return next(agent for agent in organisation.agent_ids if word(organisation.state(agent)) is label)


def code_of(answer: Answer) -> tuple[int, str]:
    """Return an error's status and top code."""
    return answer.status, json.loads(answer.body)["code"]
