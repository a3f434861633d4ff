"""What truly happened: one entry for every request that started a call, or tried to.

Law: an entry is written exactly once for each request that was answered, in the order of the answers; the counts cover
all of them, the entries the latest `capacity`. No number and no token is in it, only digests.
"""

import hashlib
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from call_initiation.events import AgentState, StateLabel
from call_initiation.simulator.exchange import Endpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    """One request that started a call, and its answer.

    Attributes:
        number: 1 for the first request, and so on.
        request_id: The caller's `X-Request-Id`; the number as text where it sent none.
        received_at: When it was received, seconds since the epoch; the caller sent it a little earlier.
        endpoint: Which of the three.
        agent_id: Who placed it; None where nobody who exists was named.
        state: The agent's true state strictly before `received_at`; `UNKNOWN_STATE` where there is no agent.
        label: The state as one word.
        status: The answer's.
        fault: The code of what was wrong, whatever the body says; None when accepted.
        codes: The codes that the answer's body carries, the most specific first; none in a page of HTML.
        correlation_id: The answer's `ININ-Correlation-Id`.
        conversation_id: The call's; None when refused.
        request_digest: SHA-256 of the request's body, in hexadecimal.
        body_digest: SHA-256 of the answer's body, in hexadecimal.
    """

    number: int
    request_id: str
    received_at: float
    endpoint: Endpoint
    agent_id: str | None
    state: AgentState
    label: StateLabel
    status: int
    fault: str | None
    codes: tuple[str, ...]
    correlation_id: str
    conversation_id: str | None
    request_digest: str
    body_digest: str

    @property
    def error_code(self) -> str:
        """The word that the exporter should show: the most specific code, `none` when accepted, or `unparsed`."""
        if self.fault is None:
            return "none"
        return self.codes[0] if self.codes else "unparsed"


def digest(body: bytes) -> str:
    """Return the SHA-256 of a body, in hexadecimal."""
    return hashlib.sha256(body).hexdigest()


class Ledger:
    """The entries of the latest calls, and counts of all."""

    def __init__(self, capacity: int) -> None:
        self._entries: deque[LedgerEntry] = deque(maxlen=capacity)
        self._counts: Counter[tuple[int, str, StateLabel]] = Counter()
        self.length: int = 0
        """How many entries were ever written."""
        self.capacity: Final = capacity

    def write(self, entry: LedgerEntry) -> None:
        """Add an entry; the oldest one goes where there is no room."""
        self.length += 1
        self._entries.append(entry)
        self._counts[entry.status, entry.error_code, entry.label] += 1

    @property
    def entries(self) -> list[LedgerEntry]:
        """A copy of the entries, the oldest first."""
        return list(self._entries)

    @property
    def counts(self) -> Mapping[tuple[int, str, StateLabel], int]:
        """How many calls there ever were, by (status, error code, state)."""
        return dict(self._counts)
