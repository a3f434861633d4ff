"""What `delivery` promises of what waits elsewhere: it goes first, keeps its own accounts, and outlives us."""

from collections.abc import Sequence

import pytest

from call_initiation.events import Ledger
from call_initiation.telemetry.delivery import Delivery, Verdict
from deliveries import NEVER, NOT_NOW, REFUSED, SOON, YES, Collector, accounts


class Elsewhere:
    """Records that wait in some other place."""

    def __init__(self, *records: int) -> None:
        self.records = list(records)
        self.taken = self.asked = 0
        self.accounts = Ledger(recorded=len(records), pending=len(records), recovered=len(records))

    def take(self, limit: int) -> Sequence[int]:
        """Return the next records."""
        self.asked += 1
        self.taken = min(limit, len(self.records))
        return self.records[: self.taken]

    def settle(self, refused: int) -> None:
        """Be done with them."""
        self.records = self.records[self.taken :]
        dropped = {"refused": refused} if refused else {}
        self.accounts += Ledger(exported=self.taken - refused, pending=-self.taken, dropped=dropped)

    def put_back(self) -> None:
        """Keep them."""
        self.taken = 0

    def ledger(self) -> Ledger:
        """Return the accounts."""
        return self.accounts


def both(collector: Collector, backlog: Elsewhere, interval: float = NEVER) -> Delivery[int]:
    """Return a delivery of what waits in memory and elsewhere."""
    return Delivery("spans", collector.connect, capacity=3, batch=2, interval=interval, backlog=backlog)


def test_a_backlog_goes_first() -> None:
    """In batches; its accounts are the stage's, too."""
    collector, backlog = Collector(), Elsewhere(1, 2, 3)
    collector.may_answer.clear()
    spans = both(collector, backlog)
    spans.put(10)
    assert Ledger(recorded=4, pending=4, recovered=3) == accounts(spans)
    collector.may_answer.set()
    assert spans.flush(SOON)
    assert [[1, 2], [3], [10]] == collector.batches
    assert Ledger(recorded=4, exported=4, recovered=3) == accounts(spans)
    spans.close(SOON)


def test_a_backlog_that_gives_nothing_is_not_asked_without_a_breath() -> None:
    """What waits there can't be read now: a flush asks a few times, and says that something is left."""
    backlog = Elsewhere()
    backlog.accounts = Ledger(recorded=1, pending=1)
    spans = both(Collector(), backlog)
    spans.start()
    assert not spans.flush(0.35)
    assert 0 < backlog.asked <= 4
    spans.close(0.0)


def test_a_backlog_is_tried_again_and_refused_like_the_rest() -> None:
    """Not now, in part, for good."""
    collector, backlog = Collector(NOT_NOW, Verdict(YES, refused=1), REFUSED), Elsewhere(1, 2, 3)
    spans = both(collector, backlog, interval=0.01)
    spans.put(10)
    assert spans.flush(SOON)
    assert [[1, 2], [1, 2], [3], [10]] == collector.batches
    assert Ledger(recorded=4, exported=2, dropped={"refused": 2}, recovered=3) == accounts(spans)
    spans.close(SOON)


@pytest.mark.parametrize(("told", "counted"), [(99, 3), (-5, 0)])
def test_what_is_refused_of_a_backlog_is_no_more_than_was_sent(told: int, counted: int) -> None:
    """A collector that can't count can't upset these books either."""
    spans = Delivery(
        "spans",
        Collector(Verdict(YES, refused=told)).connect,
        capacity=3,
        batch=3,
        interval=NEVER,
        backlog=Elsewhere(1, 2, 3),
    )
    spans.start()
    assert spans.flush(SOON)
    dropped = {"refused": counted} if counted else {}
    assert Ledger(recorded=3, exported=3 - counted, dropped=dropped, recovered=3) == accounts(spans)
    spans.close(SOON)


def test_a_backlog_is_not_dropped_at_the_end() -> None:
    """What is in hand then is settled when the answer comes; only what waits in memory is lost."""
    collector, backlog = Collector(), Elsewhere(1, 2, 3)
    collector.may_answer.clear()
    spans = both(collector, backlog)
    spans.put(10)
    spans.hurry()
    assert collector.was_asked.wait(SOON)
    spans.close(0.0)
    assert Ledger(recorded=4, pending=3, dropped={"shutdown": 1}, recovered=3) == accounts(spans)
    collector.may_answer.set()
    thread = spans._thread
    assert thread is not None
    thread.join(SOON)
    assert Ledger(recorded=4, exported=2, pending=1, dropped={"shutdown": 1}, recovered=3) == accounts(spans)
    assert [[1, 2]] == collector.batches


def test_after_the_end_nobody_waits_for_a_backlog() -> None:
    """No thread is left that could deliver it; it waits for another process."""
    spans = both(Collector(NOT_NOW, NOT_NOW), Elsewhere(1, 2, 3))
    spans.start()
    spans.close(0.0)
    assert not spans.flush(NEVER)
    assert Ledger(recorded=3, pending=3, recovered=3) == accounts(spans)
