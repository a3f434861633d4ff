"""What is logged of a service that fails: little, whatever it does."""

import pytest

from call_initiation.feed.outage import Outage

AWAY, LOADING = "it can't be reached", "it loads its data"


class Told:
    """An outage on a clock of its own, and what was logged of it."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog
        self.now = 1000.0
        self.outage = Outage("the shared store", 15.0, lambda: self.now)

    def after(self, seconds: float, why: str = "") -> list[str]:
        """Let time pass, then fail, or succeed where no reason is given; return what is logged of it."""
        self._caplog.clear()
        self.now += seconds
        if why:
            self.outage.failed(why)
        else:
            self.outage.worked()
        return [text.rpartition(": ")[2] for text in self._caplog.messages]


def test_a_store_that_is_well_is_not_told_of(caplog: pytest.LogCaptureFixture) -> None:
    """However long it has been."""
    told = Told(caplog)
    assert [] == told.after(0.0) + told.after(1e6)


def test_one_line_tells_that_it_fails_and_one_that_it_is_well(caplog: pytest.LogCaptureFixture) -> None:
    """What succeeds in between doesn't count: some commands may fail while others don't."""
    told = Told(caplog)
    assert [AWAY] == told.after(0.0, AWAY)
    assert "the shared store fails, and agents' states may be stale meanwhile" in caplog.text
    assert [] == [line for _ in range(100) for line in told.after(1.0, AWAY) + told.after(1.0)]
    assert [] == told.after(13.0)
    assert ["the shared store is well again"] == told.after(1.0)
    assert [] == told.after(1.0)
    assert [AWAY] == told.after(1.0, AWAY)


def test_an_outage_that_lasts_is_told_of_every_ten_minutes(caplog: pytest.LogCaptureFixture) -> None:
    """With each cause, if they aren't too many."""
    told = Told(caplog)
    causes = [line for second in range(1200) for line in told.after(1.0, (AWAY, LOADING)[second % 2])]
    assert [AWAY, LOADING, AWAY, LOADING] == causes
    assert 4 == len([line for second in range(600) for line in told.after(1.0, f"cause {second}")])
