"""A recorder that tests turn by hand, with sinks that keep what they are given; several test files use it."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from threading import Event as Flag
from threading import current_thread
from typing import Final

import httpx

from call_initiation.calls.client import doors
from call_initiation.calls.endpoints import match
from call_initiation.calls.observation import Observation
from call_initiation.calls.tracing import Tracing
from call_initiation.events import AgentState, Attempt, BodyState, Event, LateChange, Ledger, Sink
from call_initiation.recording.recorder import Recorder
from call_initiation.recording.updates import StateUpdate
from samples import ACCEPTED

SETTLE: Final = 2.0
UPDATE: Final = StateUpdate("a", AgentState(presence="BUSY"), 1.0)
SOON: Final = 10.0
"""Seconds that a test waits for another thread before it fails."""


class Kept(list[Event]):
    """A sink that keeps what it is given, and may be broken or held up."""

    def __init__(self) -> None:
        self.is_broken = False
        self.may_go_on = Flag()
        self.may_go_on.set()
        self.is_busy = Flag()

    def record(self, event: Event) -> None:
        """Take one event."""
        self.is_busy.set()
        assert self.may_go_on.wait(SOON)
        if self.is_broken:
            raise OSError("broken")
        self.append(event)


@dataclass
class Bench:
    """A recorder and what it was made of."""

    settle: float = SETTLE
    capacity: int = 100
    first: Kept = field(default_factory=Kept)
    second: Kept = field(default_factory=Kept)
    faults: list[str] = field(default_factory=list)
    tidied: int = 0
    assess: Callable[[Observation], Attempt] = lambda _: ACCEPTED
    apply: Callable[[StateUpdate], Iterable[Event]] = lambda _: [LateChange(agent_id="a", at=1.0)]
    is_untidy: bool = False

    def __post_init__(self) -> None:
        """Make the recorder."""
        sinks: dict[str, Sink] = {"first": self.first, "second": self.second}
        self.recorder = Recorder(
            lambda observation: self.assess(observation),  # noqa: PLW0108 - tests replace it later
            lambda update: self.apply(update),  # noqa: PLW0108 - as above
            sinks,
            self.faults.append,
            self.tidy,
            settle=self.settle,
            capacity=self.capacity,
        )

    def by_hand(self) -> "Bench":
        """Make the test's thread the recorder's own, so that only `turn` moves it."""
        self.recorder._thread = current_thread()
        return self

    def tidy(self) -> None:
        """Count the turns."""
        self.tidied += 1
        if self.is_untidy:
            raise OSError("untidy")

    def call(self, ended: float = 0.0, status: int = 202, *, is_read: bool = True) -> Observation:
        """Return a call that ended at `ended`, and whose answer was read by then or is yet to be read."""
        endpoint = match("POST", b"/api/v2/conversations/calls")
        assert endpoint is not None
        request = httpx.Request("POST", "https://api.example.com/api/v2/conversations/calls")
        observation = Observation(endpoint, request, doors("httpx").sync, Tracing(), self.recorder)
        observation.ended_ns, observation.status_code, observation.is_open = int(ended * 1e9), status, not is_read
        observation.body = BodyState.WHOLE if is_read else BodyState.UNREAD
        observation.kept = bytearray() if status >= 400 else None
        return observation

    def submit(self, ended: float = 0.0) -> None:
        """Hand over a call that ended at `ended`."""
        self.recorder.submit(self.call(ended))

    def attempts(self) -> Ledger:
        """Return the accounts of calls, and hold them to the law."""
        return lawful(self.recorder.ledgers()["attempts"])

    def updates(self) -> Ledger:
        """Return the accounts of updates, and hold them to the law."""
        return lawful(self.recorder.ledgers()["updates"])


def lawful(ledger: Ledger) -> Ledger:
    """Return a ledger that obeys the law."""
    assert ledger.recorded == ledger.exported + ledger.pending + sum(ledger.dropped.values())
    assert min(ledger.recorded, ledger.exported, ledger.pending, *ledger.dropped.values(), 0) == 0
    return ledger


def broken(_: object) -> Attempt:
    """Fail as a fault of ours would."""
    raise ZeroDivisionError


def half_broken(_: StateUpdate) -> Iterator[Event]:
    """Fail midway."""
    yield LateChange(agent_id="a", at=1.0)
    raise ZeroDivisionError
