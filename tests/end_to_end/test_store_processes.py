"""Processes that share a store, over real sockets: what each says of its calls is held against what truly happened.

Each process places calls for agents of its own and is told of no others; whoever leads follows all of them. One is
killed, stopped for a while, or left behind: no call is ever tagged with a state that wasn't so.
"""

import json
import signal
import subprocess
import sys
from bisect import bisect_left
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Thread
from time import monotonic
from typing import Any

import pytest

from call_initiation.events import StateLabel
from call_initiation.simulator.org import CLIENT_ID, CLIENT_SECRET, Behaviour, user_token
from call_initiation.simulator.server import Server, ServerThread
from followed import Truthful
from stores import RedisServer

pytestmark = pytest.mark.untraced

NUMBER = "+33199000042"
PATIENCE = 40.0
ENOUGH = 200
"""More calls than wait to be told of."""

CLOCKS = 0.005
"""Seconds by which what one process hears may be moved in time: they compare their clocks by the store's."""

DIALER = """
import json, os, sys
from functools import partial
from itertools import count, cycle
from threading import Event

import httpx
from call_initiation import Exporter
from call_initiation.sharing import store
from call_initiation.events import Attempt

store.token_hex = lambda _: str(os.getpid())
store.shared = partial(store.shared, rhythm=store.Rhythm(lease=1.0, pulse=0.05, silence=0.4))
api, url, client_id, secret, *tokens = sys.argv[1:]
names = []

class Told:
    def record(self, event):
        if isinstance(event, Attempt):
            sent = (event.sent_at or event.started_at) / 1e9
            said = [names.pop(0), event.agent.id, event.agent.label, event.agent.state.certainty, sent]
            os.write(1, json.dumps(said).encode() + b"\\n")

exporter = Exporter(settle=1.0)
exporter._sinks["told"] = Told()
exporter.follow_agents(region=api, client_id=client_id, client_secret=secret, as_seen=True, store=url)
client = exporter.instrument(httpx.Client(base_url=api, trust_env=False))
for number, token in zip(count(), cycle(tokens)):
    names.append(f"{os.getpid()}-{number}")
    headers = {"Authorization": f"Bearer {token}", "X-Request-Id": names[-1]}
    client.post("/api/v2/conversations/calls", json={"phoneNumber": "+33199000042"}, headers=headers)
    Event().wait(0.02)
"""


class Dialer:
    """A process that places calls, and what it said of each."""

    def __init__(self, api: str, redis: RedisServer, agent_ids: list[str]) -> None:
        tokens = [user_token(agent_id) for agent_id in agent_ids]
        command = [sys.executable, "-c", DIALER, api, redis.url, CLIENT_ID, CLIENT_SECRET, *tokens]
        self.said: list[tuple[str, str | None, str, str, float]] = []
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)  # noqa: S603 - the script above
        self._thread = Thread(target=self._read)
        self._thread.start()

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    def kill(self) -> None:
        """Kill it, whatever it does."""
        self._process.kill()
        self._process.wait()
        self._thread.join()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def signal(self, number: signal.Signals) -> None:
        """Stop it or let it go on."""
        self._process.send_signal(number)

    def says_next(self, certainty: str) -> Callable[[], bool]:
        """Return a condition: from now on, it says this of every agent that it calls for."""
        before, agents = len(self.said), {agent for _, agent, *_ in self.said if agent}

        def says() -> bool:
            latest = {agent: certainty for _, agent, _, certainty, _ in self.said[before:]}
            return agents <= latest.keys() and {certainty} == {latest[agent] for agent in agents}

        return says

    def calls_on(self) -> Callable[[], bool]:
        """Return a condition: it has said so much from now on that some of it is of calls still to be placed."""
        before = len(self.said)
        return lambda: len(self.said) > before + ENOUGH

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.said.append(tuple(json.loads(line)))


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition, and say how long it took."""
    began, never = monotonic(), Event()
    while not condition():
        assert monotonic() - began < PATIENCE, f"{what}: it took too long"
        never.wait(0.02)
    print(f"{what} after {monotonic() - began:.1f} s")  # noqa: T201 - `pytest -s` shows what was measured


class Company:
    """A pretend organisation, a store, and the processes that share it."""

    def __init__(self, redis: RedisServer, organisation: Truthful, api: str) -> None:
        self.redis = redis
        self.organisation = organisation
        ids = organisation.agent_ids
        self.dialers = [Dialer(api, redis, ids[number::3]) for number in range(3)]

    @property
    def leader(self) -> int | None:
        """The number of the process that leads."""
        found: Any = next(iter(self.redis.client.scan_iter("*:leader")), None)
        return None if found is None else int(self.redis.client.get(found) or 0)

    def split(self) -> tuple[Dialer, list[Dialer]]:
        """Return who leads, and the others."""
        leader = self.leader
        return next(one for one in self.dialers if one.pid == leader), [
            one for one in self.dialers if one.pid != leader
        ]

    def wrong(self) -> list[tuple[str, str, set[StateLabel]]]:
        """Return what was called known and wasn't so."""
        entries = {entry.request_id: entry for entry in self.organisation.ledger}
        found = []
        for name, agent, said, certainty, sent in (one for dialer in self.dialers for one in dialer.said):
            entry = entries.get(name)
            if certainty != "known" or entry is None or agent is None:
                continue
            truths = self._truths(agent, min(sent, entry.received_at), entry.received_at)
            if said not in truths:
                found.append((agent, said, truths))
        return found

    def _truths(self, agent: str, sent: float, received: float) -> set[StateLabel]:
        """Return what was so between the send and its arrival; a process that was stopped meanwhile arrives late."""
        past = self.organisation.past[agent]
        ends = (sent - CLOCKS, received + CLOCKS)
        first, last = (bisect_left(past, end, key=lambda one: one[0]) for end in ends)
        return {word for _, word in past[max(0, first - 1) : last]}


@pytest.fixture
def company(engine: Callable[[str], Path], tmp_path: Path) -> Iterator[Company]:
    """Return processes that know all whom they call for; at the end, nothing that they said was wrong."""
    from time import time  # noqa: PLC0415 - the only one that needs the time of day

    behaviour = Behaviour(pace=20.0, rate_limit=100_000, refusals=dict.fromkeys(StateLabel, 1.0), unsettled=0.0)
    organisation = Truthful(1, 12, started=time(), behaviour=behaviour)
    redis = RedisServer(engine("redis-server"), tmp_path)
    with ServerThread(Server(organisation)) as server:
        company = Company(redis, organisation, server.url)
        try:
            until(
                lambda: all(len({agent for _, agent, *_ in one.said if agent}) == 4 for one in company.dialers),
                "all called",
            )
            for one in company.dialers:
                until(one.says_next("known"), "all known")
            yield company
        finally:
            for one in company.dialers:
                one.kill()
            redis.close()
    assert [] == company.wrong()


def test_a_leader_that_is_killed_is_succeeded(company: Company) -> None:
    """The others are in doubt at once, and know again when a successor has read everyone; no number is in the store."""
    leader, others = company.split()
    leader.kill()
    for one in others:
        until(one.says_next("stale"), "noticed")
    until(lambda: company.leader in {one.pid for one in others}, "succeeded")
    for one in others:
        until(one.says_next("known"), "known again")
    held = company.redis.contents()
    assert company.organisation.agent_ids[0] in held
    secrets = [NUMBER, NUMBER[1:], CLIENT_ID, CLIENT_SECRET, user_token(company.organisation.agent_ids[0])]
    assert [] == [secret for secret in secrets if secret in held]


def test_a_leader_that_was_stopped_comes_back_as_one_of_many(company: Company) -> None:
    """It finds another one leading, is not listened to any more, and knows what that one says."""
    leader, others = company.split()
    leader.signal(signal.SIGSTOP)
    for one in others:
        until(one.says_next("stale"), "noticed")
    until(lambda: company.leader in {one.pid for one in others}, "succeeded")
    for one in others:
        until(one.says_next("known"), "known again")
    leader.signal(signal.SIGCONT)
    until(leader.calls_on(), "woken")
    until(leader.says_next("known"), "known by the deposed one")
    assert company.leader != leader.pid


def test_a_reader_that_was_stopped_catches_up(company: Company) -> None:
    """Whatever it missed."""
    leader, (reader, other) = company.split()
    reader.signal(signal.SIGSTOP)
    gone_on = [one.calls_on() for one in (leader, other)]
    until(lambda: all(has() for has in gone_on), "gone on")
    for one in (leader, other):
        until(one.says_next("known"), "known by the others")
    reader.signal(signal.SIGCONT)
    until(reader.calls_on(), "woken")
    until(reader.says_next("known"), "known again")
    assert company.leader == leader.pid
