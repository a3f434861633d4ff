"""Notifications in whatever order, and the truth: what is heard of pretend agents, held against what they did.

An organisation lives and is listened to in no time. Each agent is asked for as of each moment, once a send of then has
settled, and every part of what is called known must be so.
"""

import json
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from call_initiation.agents.timeline import Timeline
from call_initiation.agents.users import as_array, as_object, user_state
from call_initiation.api.notifications import calls_topic, combined_topic, read
from call_initiation.events import AgentState, Certainty
from call_initiation.exporter import Exporter
from call_initiation.feed.witness import Witness
from call_initiation.recording.updates import Told
from call_initiation.simulator.disturbances import Disturbances
from call_initiation.simulator.exchange import Answer, Request
from call_initiation.simulator.lines import Item
from call_initiation.simulator.org import Behaviour, Organisation
from simulated import NOW, client_token, headers

pytestmark = pytest.mark.untraced

AGENTS = 10
TICK = 0.02
SETTLE = 2.0
CHECK_EVERY = 10.0
EXPAND = "presence,routingStatus,conversationSummary,station"
CALLS = "conversations.calls"

Order = Callable[[list[Item]], list[Item]]


def parts(state: AgentState) -> tuple[Any, ...]:
    """Return what is notified of a state."""
    return state.presence, state.routing_status, state.on_call, state.wrap_up, state.station


class Life:
    """An organisation, a witness who listens to it, and a tally of what was known of it."""

    def __init__(self, seed: int, pace: float, order: Order) -> None:
        behaviour = Behaviour(pace=pace, rate_limit=1_000_000, leg_failures=0.1)
        self.organisation = Organisation(seed, AGENTS, NOW, behaviour=behaviour)
        self.now = NOW
        self.tally: Counter[str] = Counter()
        self._order = order
        self._random = Random(seed)  # noqa: S311 - a seed makes a failure repeatable
        self._ids = self.organisation.agent_ids
        self._past = {agent: [(-1.0, parts(self.organisation.state(agent)))] for agent in self._ids}
        self._token = client_token(self.organisation)
        made = self._ask("POST", "/api/v2/notifications/channels")
        topics = [{"id": topic(agent)} for agent in self._ids for topic in (combined_topic, calls_topic)]
        self._ask("PUT", f"/api/v2/notifications/channels/{made['id']}/subscriptions", topics)
        line = self.organisation.channels.connect(made["id"], NOW)
        assert line is not None
        self._line = line
        self._exporter = Exporter()
        self._witness = Witness(self._tell, Timeline())
        self._witness.add(self._ids, NOW)
        self._check_at = NOW

    def pass_by(self, seconds: float) -> None:
        """Let time pass, and ask for everybody all the while."""
        while self.now < NOW + seconds:
            self.now += TICK
            self._hear()
            self._call()
            self._look()
            for agent in self._ids:
                self._judge(agent, self.now - SETTLE - self._random.random() * TICK)
        self._exporter.close()

    def _hear(self) -> None:
        changes = self.organisation.advance(self.now)
        self.organisation.channels.advance(changes, self.now)
        for change in changes:
            self._past[change.agent_id].append((change.at, parts(change.state)))
        for frame in self._order(self._line.take(self.now)):
            assert isinstance(frame, str | bytes)
            for one in read(frame):
                self._witness.hear(one, self.now)

    def _call(self) -> None:
        if self._random.random() < 0.3:
            path = f"/api/v2/conversations/calls/user/{self._random.choice(self._ids)}"
            self._answered("POST", path, {"phoneNumber": "+33199000042"})

    def _look(self) -> None:
        ids = self._witness.due(self.now)
        if not ids and self.now > self._check_at:
            self._check_at, ids = self.now + CHECK_EVERY, self._witness.sample()
        if ids:
            users = self._ask("GET", "/api/v2/users", query=f"id={','.join(ids)}&expand={EXPAND}")["entities"]
            answers = {str(as_object(user).get("id")): user_state(user) for user in as_array(users)}
            self._witness.read(ids, answers, self.now - TICK / 2, self.now)

    def _judge(self, agent: str, sent: float) -> None:
        state, _ = self._exporter.agents.as_of(agent, sent)
        past = self._past[agent]
        truth = past[bisect_left(past, sent, key=lambda one: one[0]) - 1][1]
        is_wrong = state.certainty is Certainty.KNOWN and parts(state) != truth
        self.tally["wrong" if is_wrong else state.certainty] += 1

    def _tell(self, told: Told) -> bool:
        list(self._exporter._apply(told))
        return True

    def _ask(self, method: str, path: str, body: object = None, query: str = "") -> Any:
        return json.loads(self._answered(method, path, body, query).body)

    def _answered(self, method: str, path: str, body: object = None, query: str = "") -> Answer:
        said = json.dumps(body).encode()
        request = Request(method=method, path=path, query=query, headers=headers(self._token), body=said)
        return self.organisation.answer(request, self.now)


def as_it_comes(items: list[Item]) -> list[Item]:
    """Leave the order as it is: a call's event comes before the summary that it explains."""
    return items


def summaries_first(items: list[Item]) -> list[Item]:
    """Let calls' events come last of what comes at once."""
    return sorted(items, key=lambda item: isinstance(item, str) and f'.{CALLS}"' in item)


@pytest.mark.parametrize(
    ("seed", "pace", "order", "disturbances", "known"),
    [
        (1, 20.0, as_it_comes, Disturbances(), 0.95),
        (2, 20.0, as_it_comes, Disturbances(lag=1.0), 0.7),
        (3, 10.0, summaries_first, Disturbances(), 0.75),
        (4, 20.0, as_it_comes, Disturbances(reordering=0.5), 0.5),
        (5, 20.0, as_it_comes, Disturbances(reordering=1.0, duplicates=0.3, lag=0.3), 0.4),
        (6, 60.0, as_it_comes, Disturbances(reordering=1.9), 0.2),
        (7, 200.0, summaries_first, Disturbances(reordering=0.3), 0.1),
    ],
    ids=["calm", "late", "summaries first", "reordered", "doubled", "shaken", "in a hurry"],
)
def test_what_is_called_known_is_so(
    seed: int, pace: float, order: Order, disturbances: Disturbances, known: float
) -> None:
    """Call by call and part by part, however often calls begin and end and in whatever order that is heard of."""
    life = Life(seed, pace, order)
    life.organisation.disturbances = disturbances
    life.pass_by(120.0)
    print(dict(life.tally))  # noqa: T201 - `pytest -s` shows what was measured
    assert 0 == life.tally["wrong"]
    assert life.tally[Certainty.KNOWN] > known * life.tally.total()
