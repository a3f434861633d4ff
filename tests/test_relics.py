"""What is told of the calls of a process that has ended, from its table."""

from pathlib import Path

import pytest

from call_initiation.calls.endpoints import CALLS_OF_USER
from call_initiation.calls.failures import Failure
from call_initiation.events import (
    AgentAtSend,
    AgentIdSource,
    Attempt,
    BodyState,
    Category,
    Outcome,
    Refusal,
    TransportFailure,
)
from call_initiation.journal.relics import Relic, told
from call_initiation.journal.slots import SLOT, Call, Ended, alive, begin
from samples import BEGUN, SHARED, SPAN, STARTED_AT

AGENT = "9d4b4c1e-0000-4000-8000-000000000001"
DIED = Attempt(
    endpoint=CALLS_OF_USER,
    server_address="api.example.com",
    server_port=443,
    started_at=STARTED_AT,
    sent_at=None,
    duration=2.5,
    outcome=Outcome.AMBIGUOUS,
    error_type="process_died",
    agent=AgentAtSend(id=AGENT, id_source=AgentIdSource.PATH),
    span=SPAN,
)


def relic(path: Path, calls: int) -> Relic:
    """Return a table with some calls under way."""
    data = bytearray(SLOT * 5)
    data[:8] = alive(STARTED_AT + 2_500_000_000)
    for slot in range(1, calls + 1):
        written = begin(slot, STARTED_AT, SPAN, SHARED)
        data[slot * SLOT : slot * SLOT + len(written)] = written
    path.write_bytes(data)
    return Relic(path)


def test_a_call_under_way_is_ambiguous() -> None:
    """It may have rung; its category is the transport's."""
    attempt = told(Call(1, BEGUN, None, 2.5))
    assert DIED == attempt
    assert (Category.TRANSPORT, True) == (attempt.category, attempt.is_failure)


@pytest.mark.parametrize(
    ("status", "outcome", "category"),
    [
        (400, Outcome.REJECTED, Category.UNKNOWN),
        (401, Outcome.UNAUTHORIZED, Category.AUTHENTICATION),
        (429, Outcome.RATE_LIMITED, Category.RATE_LIMIT),
        (503, Outcome.FAILED, Category.PROVIDER),
    ],
)
def test_a_call_that_was_refused_is_what_its_status_says(status: int, outcome: Outcome, category: Category) -> None:
    """Its body was never read to its record."""
    attempt = told(Call(1, BEGUN, Ended(0.25, status, None), 2.5))
    assert (outcome, status, str(status), 0.25) == (
        attempt.outcome,
        attempt.status_code,
        attempt.error_type,
        attempt.duration,
    )
    assert Refusal(category=category, body=BodyState.UNREAD) == attempt.refusal
    assert (BodyState.UNREAD, "unparsed") == (attempt.body, attempt.error_code)


def test_a_call_that_failed_is_what_its_failure_says() -> None:
    """As it would have been recorded."""
    failure = Failure(Outcome.NOT_SENT, TransportFailure.CONNECTION_REFUSED)
    attempt = told(Call(1, BEGUN, Ended(0.25, None, failure), 2.5))
    assert (Outcome.NOT_SENT, "connection_refused", None, None) == (
        attempt.outcome,
        attempt.error_type,
        attempt.status_code,
        attempt.refusal,
    )


def test_a_table_goes_with_the_last_of_its_calls(tmp_path: Path) -> None:
    """A call that was recorded is told of no more, however that process ends."""
    path = tmp_path / "a.calls"
    table = relic(path, 2)
    assert [1, 2] == [call.slot for call in table.calls]
    table.free(1)
    assert [2] == [call.slot for call in Relic(path).calls]
    table.free(2)
    assert not path.exists()


def test_a_table_without_calls_goes_at_once(tmp_path: Path) -> None:
    """It tells of nothing."""
    assert [] == relic(tmp_path / "a.calls", 0).calls
    assert [] == list(tmp_path.iterdir())


def test_a_table_that_is_gone_needs_no_care(tmp_path: Path) -> None:
    """Somebody has emptied the folder."""
    table = relic(tmp_path / "a.calls", 1)
    (tmp_path / "a.calls").unlink()
    table.free(1)
    with pytest.raises(FileNotFoundError):
        Relic(tmp_path / "a.calls")
