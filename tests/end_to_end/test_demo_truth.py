"""The demonstration's tags against the truth, call by call: a feed over real sockets, a ledger that knows better.

The rule: each refused call has the true state of its agent, every part of it, unless that changed between the send and
its judgement, or can't be known: a notification of a station carries no time, and where one is left it doesn't say
whether a default one remains. And now and then a read and the news of a change cross, which is a doubt, and said to be.
"""

import asyncio
import os
import sys
from collections import Counter
from time import time
from typing import Any

import pytest

from call_initiation.events import StateLabel
from call_initiation.program import service
from call_initiation.program.service import Demonstration, demonstration
from call_initiation.program.settings import load
from call_initiation.simulator.org import LedgerEntry, Organisation, OrgChange, Part
from collector import Collector, attributes

pytestmark = pytest.mark.untraced

REFUSED = 1_000
TAG = "call_initiation.agent."
CORRELATION_ID = "call_initiation.correlation_id"
PATIENCE = 90.0
ROUNDING = 1e-6
SELDOM = 3
"""Calls of whose agents the feed may be in doubt, of a thousand."""

BEFORE, HEARD, READ = 2.0, 1.0, 8.0
"""Seconds of doubt: before a station is changed, until that is heard of, and until a read shows that there is none."""


class Remembered(Organisation):
    """An organisation that remembers who changed a station, and when."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.moves: list[OrgChange] = []

    def advance(self, now: float) -> list[OrgChange]:
        """Apply what is due, and remember it."""
        changes = super().advance(now)
        self.moves += [change for change in changes if change.part is Part.STATION]
        return changes

    def is_moving(self, agent_id: str | None, sent: float) -> bool:
        """Tell whether it can't be known at which station an agent is."""
        moves = [one for one in self.moves if one.agent_id == agent_id]
        return any(one.at - BEFORE <= sent <= one.at + (HEARD if one.state.station else READ) for one in moves)


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take what names a collector from the environment."""
    for key in [key for key in os.environ if key.startswith("OTEL_")]:
        monkeypatch.delenv(key)


async def demonstrated() -> Demonstration:
    """Run a demonstration until so many calls were refused, and return it after its end."""
    chosen = load(flags={"metrics_listen": "127.0.0.1:0"})
    async with demonstration(chosen, seed=1, rate=100) as running, asyncio.timeout(PATIENCE):
        while sum(entry.fault is not None for entry in running.organisation.ledger) < REFUSED:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.1)
    return running


def said(tags: dict[str, Any]) -> tuple[Any, ...]:
    """Return what the tags say of an agent: the word, then its parts."""
    parts = ("state", "presence", "routing_status", "on_call", "wrap_up", "station")
    return tuple(tags.get(TAG + part) for part in parts)


def truth(entry: LedgerEntry) -> tuple[Any, ...]:
    """Return what the ledger says of it."""
    state = entry.state
    return (entry.label, state.presence, state.routing_status, state.on_call, state.wrap_up, state.station)


def verdict(tags: dict[str, Any], entry: LedgerEntry, sent: float, organisation: Remembered) -> str:
    """Say how a refused call's tags and its entry compare, and why they may."""
    if said(tags) == truth(entry):
        return "the same"
    if sent - ROUNDING <= (entry.state.since or 0.0) < entry.received_at:
        return "changed in flight"
    is_claimed = tags[f"{TAG}state.certainty"] == "known" or tags[f"{TAG}state"] != StateLabel.UNKNOWN
    if is_claimed:
        return "wrong"
    return "the station was changing" if organisation.is_moving(entry.agent_id, sent) else "not known"


@pytest.mark.timeout(PATIENCE + 60)
def test_every_refused_call_has_the_true_state_of_its_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every part of it, but for what physics forbids."""
    monkeypatch.setattr(service, "Organisation", Remembered)
    monkeypatch.setattr(service, "_DRAIN", PATIENCE)  # a demonstration's end drops what a slow collector hasn't taken
    with Collector() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        ended = asyncio.run(demonstrated())
        ahead = time() - ended.exporter.now()
        spans = [(attributes(span.attributes), span.start_time_unix_nano / 1e9 - ahead) for span in collector.spans()]
    refused = {entry.correlation_id: entry for entry in ended.organisation.ledger if entry.fault is not None}
    found = {tags[CORRELATION_ID]: (tags, sent) for tags, sent in spans if CORRELATION_ID in tags}
    assert refused.keys() == found.keys()
    organisation = ended.organisation
    assert isinstance(organisation, Remembered)
    verdicts = Counter(verdict(tags, refused[one], sent, organisation) for one, (tags, sent) in found.items())
    sys.stderr.write(f"{dict(verdicts)}\n")
    assert {"the same"} <= verdicts.keys() <= {"the same", "changed in flight", "the station was changing", "not known"}
    assert SELDOM >= verdicts["not known"]
    named = [(tags, refused[one]) for one, (tags, _) in found.items() if refused[one].agent_id is not None]
    assert [entry.agent_id for _, entry in named] == [tags[f"{TAG}id"] for tags, _ in named]
