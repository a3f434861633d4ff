"""Calls of processes that have ended: what their tables tell of them, as an `Attempt`.

A call that was under way is `ambiguous`, and lasted for as long as its process was seen alive. One that had ended is
what its status or its failure says; what its answer's body said, and its agent's state, died with the process.
"""

from contextlib import suppress
from pathlib import Path
from typing import Final

from call_initiation.calls import responses
from call_initiation.calls.failures import Failure
from call_initiation.events import AgentAtSend, Attempt, BodyState, Outcome, Refusal, TransportFailure
from call_initiation.journal import slots
from call_initiation.journal.in_flight import CALLS
from call_initiation.journal.lives import opened
from call_initiation.privacy import Mask
from call_initiation.recording.assessment import outcome_of

_DIED: Final = Failure(Outcome.AMBIGUOUS, TransportFailure.PROCESS_DIED)
_ANY: Final = Mask()


class Relic:
    """A table of a process that has ended.

    Raises:
        OSError: It can't be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with open(path, "rb", opener=opened) as file:
            self.calls = list(slots.calls(file.read(slots.SLOT * (CALLS + 1))))
        self._used = {call.slot for call in self.calls}
        self._remove_if_empty()

    def free(self, slot: int) -> None:
        """Note that a call has been recorded."""
        self._used.discard(slot)
        with suppress(OSError):  # then its key, in a file, says so
            with open(self._path, "r+b", buffering=0, opener=opened) as file:
                file.seek(slot * slots.SLOT)
                file.write(bytes([slots.FREE]))
            self._remove_if_empty()

    def _remove_if_empty(self) -> None:
        if not self._used:
            self._path.unlink()


def told(call: slots.Call) -> Attempt:
    """Return what is known of a call whose process ended before it was recorded."""
    begun, end = call.begun, call.end
    status, failure = (end.status_code, end.failure) if end else (None, _DIED)
    return Attempt(
        endpoint=begun.endpoint,
        server_address=begun.server_address,
        server_port=begun.server_port,
        started_at=begun.started_at,
        sent_at=None,
        duration=end.duration if end else call.lasted,
        outcome=failure.outcome if failure else outcome_of(status or 0),
        status_code=status,
        error_type=failure.kind if failure else str(status),
        refusal=_unread(status) if status else None,
        body=BodyState.UNREAD if status else None,
        agent=AgentAtSend(id=begun.agent_id, id_source=begun.id_source),
        span=begun.span,
    )


def _unread(status: int) -> Refusal:
    """Return what a status alone says."""
    return responses.parse(None, status=status, header_correlation_id=None, state=BodyState.UNREAD, mask=_ANY)
