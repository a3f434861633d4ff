"""A collector that answers as it is told; for the tests of what delivers to one."""

from collections import deque
from collections.abc import Callable, Sequence
from threading import Event as Flag

from call_initiation.events import Ledger
from call_initiation.telemetry.delivery import Delivered, Delivery, MetricsDelivery, Passing, Verdict
from recording import lawful

SOON = 10.0
"""Seconds that a test waits for another thread before it fails."""
NEVER = 3600.0
"""An interval that doesn't pass within a test: only a wake-up exports."""
YES, NOT_NOW, REFUSED = Delivered.YES, Delivered.NOT_NOW, Delivered.NEVER


class Collector:
    """Answers exports as scripted, then with yes; may be held up."""

    def __init__(self, *answers: Verdict | Delivered | Exception) -> None:
        self.answers = deque(answers)
        self.batches: list[list[int]] = []
        self.may_answer = Flag()
        self.may_answer.set()
        self.was_asked = Flag()
        self.connections = 0
        self.refused_connections = 0

    def connect(self) -> Callable[[Sequence[int]], Verdict]:
        """Count the connections; refuse the first ones, as many as are to be refused."""
        self.connections += 1
        if self.connections <= self.refused_connections:
            raise ImportError
        return self.export

    def export(self, batch: Sequence[int]) -> Verdict:
        """Take a batch."""
        self.batches.append(list(batch))
        self.was_asked.set()
        assert self.may_answer.wait(SOON)
        answer = self.answers.popleft() if self.answers else YES
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, Verdict) else Verdict(answer)

    def connect_metrics(self) -> Callable[[], Verdict]:
        """Count the connections, as above."""
        export = self.connect()
        return lambda: export([])


class Noting(Flag):
    """A flag that notes for how long it is waited for, at most."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        """Note it, and wait."""
        self.waits.append(timeout)
        return super().wait(timeout)


class Holding:
    """An exporter that was handed over, and is told of a flush and of the end."""

    def __init__(self, fault: Exception | None = None) -> None:
        self.fault = fault
        self.told: list[str] = []

    def force_flush(self) -> None:
        """Note it."""
        self._note("force_flush")

    def shutdown(self) -> None:
        """Note it."""
        self._note("shutdown")

    def _note(self, what: str) -> None:
        self.told.append(what)
        if self.fault is not None:
            raise self.fault


def delivery(
    collector: Collector,
    capacity: int = 100,
    batch: int = 10,
    interval: float = NEVER,
    handed_over: Holding | None = None,
) -> Delivery[int]:
    """Return a delivery to a collector."""
    return Delivery(
        "spans", collector.connect, capacity=capacity, batch=batch, interval=interval, handed_over=handed_over
    )


def accounts(stage: Delivery[int] | MetricsDelivery | Passing[int]) -> Ledger:
    """Return a stage's ledger, held to the law."""
    return lawful(stage.ledger())
