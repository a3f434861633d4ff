"""One who follows a pretend organisation by its notification channels, without sockets."""

import json
from collections.abc import Iterable
from typing import Any

from call_initiation.api.notifications import (
    Heartbeat,
    Notification,
    calls_topic,
    combined_topic,
    read,
)
from call_initiation.simulator.lines import Ending, Intervals, Item, Line
from call_initiation.simulator.org import CALM, Answer, Behaviour, Organisation, OrgChange, Request
from simulated import NOW, client_token, headers

CHANNELS = "/api/v2/notifications/channels"
HALF_HOUR = 1800.0
HOST = "127.0.0.1:8900"

Json = dict[str, Any]


class Rig:
    """An organisation, and one who follows it by a channel."""

    def __init__(self, behaviour: Behaviour = CALM, agents: int = 5, intervals: Intervals | None = None) -> None:
        self.organisation = Organisation(agents=agents, behaviour=behaviour, intervals=intervals or Intervals())
        self.token = client_token(self.organisation)
        self.now = NOW

    @property
    def agent(self) -> str:
        """The first agent's id."""
        return self.organisation.agent_ids[0]

    def ask(self, method: str, path: str = "", body: object = None, token: str = "") -> Answer:
        """Ask for something of channels."""
        said = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = Request(
            method=method, path=CHANNELS + path, headers=headers(token or self.token, host=HOST), body=said
        )
        return self.organisation.answer(request, self.now)

    def call(self, agent_id: str, token: str = "") -> Answer:
        """Place a call on behalf of an agent."""
        path = f"/api/v2/conversations/calls/user/{agent_id}"
        body = b'{"phoneNumber":"+33199000042"}'
        request = Request(method="POST", path=path, headers=headers(token or self.token), body=body)
        return self.organisation.answer(request, self.now)

    def channel(self) -> str:
        """Make a channel and return its id."""
        return str(json.loads(self.ask("POST").body)["id"])

    def subscribe(self, channel_id: str, topics: Iterable[str], method: str = "PUT") -> Answer:
        """Subscribe to topics."""
        return self.ask(method, f"/{channel_id}/subscriptions", [{"id": topic} for topic in topics])

    def line(self, *topics: str) -> Line:
        """Make a channel, subscribe and connect."""
        channel_id = self.channel()
        assert 200 == self.subscribe(channel_id, topics).status
        line = self.organisation.channels.connect(channel_id, self.now)
        assert line is not None
        return line

    def everyone(self) -> list[str]:
        """Return the topics with which all is told of everyone."""
        agent_ids = self.organisation.agent_ids
        return [topic for agent_id in agent_ids for topic in (combined_topic(agent_id), calls_topic(agent_id))]

    def live(self, seconds: float) -> list[OrgChange]:
        """Let time pass at once, tell what has changed, and return it."""
        self.now += seconds
        changes = self.organisation.advance(self.now)
        self.organisation.channels.advance(changes, self.now)
        return changes


def said(items: Iterable[Item]) -> list[Notification]:
    """Return what items say; an end says nothing."""
    return [one for item in items if not isinstance(item, Ending) for one in read(item)]


def told(line: Line, now: float) -> list[Notification]:
    """Return what events a line tells by now."""
    return [one for one in said(line.take(now)) if not isinstance(one, Heartbeat)]
