"""Notes each call in a table that outlives the process: from before it is sent until what became of it is kept.

The table is a mapped file. Noting a call is a write to memory, without a system call, and what is in the memory of a
mapped file is the kernel's even where the process is killed. Its room on the disk is taken when it is made, so a disk
that fills up later takes nothing away. It is locked as long as its process lives, by which others know.

Laws: on the caller's path nothing here waits and nothing raises. A call for which there is no room, or no table, goes
on unnoted, and is counted as a fault of the stage `in_flight`. A forked child shares no table with its parent.
"""

import fcntl
import mmap
import os
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from itertools import count
from pathlib import Path
from secrets import randbits
from typing import Final, NamedTuple, Protocol

from call_initiation.calls import endpoints
from call_initiation.calls.observation import Observation
from call_initiation.events import AgentIdSource
from call_initiation.journal import slots
from call_initiation.journal.slots import END, ENDED, FREE, SLOT
from call_initiation.privacy import Mask

CALLS: Final = 2_047
"""Calls that can be noted at once."""

_ANY: Final = Mask()
_PATH: Final = AgentIdSource.PATH


class Place(NamedTuple):
    """Where a call is noted: the key that names it, and what frees its place."""

    key: int
    free: Callable[[], None]


class Taker(Protocol):
    """Where observations go on to; as the recorder."""

    def submit(self, observation: Observation, /) -> bool:
        """Take a finished observation; tell whether it was taken."""
        ...

    def fault(self, stage: str, /) -> None:
        """Count a fault of our own."""


class Table:
    """A mapped and locked file of slots.

    Args:
        path: Where it is to be; it appears there when it is locked, and not before.

    Raises:
        OSError: It can't be made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        new, size = path.with_suffix(".new"), SLOT * (CALLS + 1)
        self._file = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.posix_fallocate(self._file, 0, size)
            self.memory = mmap.mmap(self._file, size)
            new.rename(path)
        except OSError:
            os.close(self._file)
            new.unlink(missing_ok=True)
            raise

    def abandon(self) -> None:
        """Let go of the file: of this process's hold on it alone, and so of the lock unless another has it too."""
        self.memory.close()
        os.close(self._file)

    def remove(self) -> None:
        """Give the file up: it tells of no call."""
        with suppress(OSError):  # whoever finds it sees that it is empty
            self.path.unlink()
        self.abandon()


class InFlight:
    """The calls under way; stands before a recorder, and hands it what it is given.

    Args:
        recorder: Where observations go on to.
        token_user: Says whose the token of a call is, where that is known.
    """

    def __init__(self, recorder: Taker, token_user: Callable[[Observation], str | None]) -> None:
        self._recorder = recorder
        self._token_user = token_user
        self._table: Table | None = None
        self.reset()

    def reset(self) -> None:
        """Begin anew with no table, as a forked child must; a parent's stays as it is."""
        if self._table is not None:
            self._table.abandon()
        self._table = None
        self._free: deque[int] = deque()
        self._held: dict[Observation, tuple[int, int]] = {}
        self._keys = count(randbits(63) + 1)

    def open(self, path: Path) -> None:
        """Make a table.

        Raises:
            OSError: It can't be made.
        """
        self._table = Table(path)
        self._free.extend(range(CALLS, 0, -1))

    @property
    def is_open(self) -> bool:
        """Whether there is a table."""
        return self._table is not None

    # -- on the caller's path -----------------------------------------------------------------------------------------

    def begin(self, observation: Observation) -> None:
        """Note a call that is about to be sent."""
        try:
            slot, key = self._free.pop(), next(self._keys)
        except IndexError:
            self._recorder.fault("in_flight")
            return
        try:
            self._write(slot, 0, self._begun(observation, key))
            self._held[observation] = slot, key
        except Exception:  # noqa: BLE001 - a fault of ours must not become the call's
            self._recorder.fault("in_flight")
            self._free.append(slot)

    def submit(self, observation: Observation) -> bool:
        """Note how a call ended and hand it on; what was accepted is noted no more, nor what isn't taken."""
        self._end(observation)
        is_taken = self._recorder.submit(observation)
        if not is_taken:
            self._let_go(observation)
        return is_taken

    def fault(self, stage: str) -> None:
        """Count a fault of our own."""
        self._recorder.fault(stage)

    def _begun(self, observation: Observation, key: int) -> bytes:
        url, span = observation.url, observation.span
        shared = _facts(observation.endpoint.template, url.host, url.port, url.scheme, *self._agent(observation))
        return slots.begin(key, observation.started_at, span.ids if span else None, shared)

    def _agent(self, observation: Observation) -> tuple[str | None, AgentIdSource]:
        """Return who places a call; its body is read only where nothing else says so, and it may."""
        endpoint = observation.endpoint
        if endpoint.user_id:
            return endpoint.user_id, _PATH
        said = endpoints.told(observation.extension)[0] if observation.extension else None
        token_user = None if said else self._token_user(observation)
        content = None if said or token_user else observation.content()
        is_told = content is not None and b'"from"' in content
        return endpoints.agent(endpoint, said, token_user, endpoints.payload(content if is_told else None))

    def _end(self, observation: Observation) -> None:
        slot, _ = self._held.get(observation, _NOWHERE)
        if not slot:
            return
        status, failure = observation.status_code, observation.failure
        try:
            if failure is None and status is not None and status // 100 == 2:  # noqa: PLR2004 - every 2xx is an acceptance
                self._let_go(observation)
            else:
                self._write(slot, END, slots.end(observation.duration, status, failure))
                self._write(slot, 0, _SAID[ENDED])
        except Exception:  # noqa: BLE001 - a fault of ours must not become the call's
            self._recorder.fault("in_flight")

    def _let_go(self, observation: Observation) -> None:
        """Free the place of a call."""
        slot, _ = self._held.pop(observation, _NOWHERE)
        if slot:
            self._write(slot, 0, _SAID[FREE])
            self._free.append(slot)

    def _write(self, slot: int, at: int, data: bytes) -> None:
        if self._table is not None:
            start = slot * SLOT + at
            self._table.memory[start : start + len(data)] = data

    # -- on the recorder's thread -------------------------------------------------------------------------------------

    def place(self, observation: Observation) -> Place | None:
        """Return where a call is noted; None where it isn't."""
        slot, key = self._held.get(observation, _NOWHERE)
        return Place(key, lambda: self._let_go(observation)) if slot else None

    def beat(self, now: int) -> None:
        """Note that the process lives, at so many nanoseconds since the epoch."""
        self._write(0, 0, slots.alive(now))

    def close(self) -> None:
        """Note no more calls; the table stays while there are some in it."""
        self._free.clear()
        if self._table is not None and not self._held:
            table, self._table = self._table, None
            table.remove()


_NOWHERE: Final = 0, 0
_SAID: Final = {state: bytes([state]) for state in (FREE, ENDED)}


@lru_cache(maxsize=1024)  # dialers call the same few places on behalf of the same few agents
def _facts(  # noqa: PLR0913, PLR0917 - what many calls share, as the cache takes it
    template: str, host: str, port: int | None, scheme: str, agent_id: str | None, source: AgentIdSource
) -> bytes:
    """Return what many calls share; an agent's id only if it is fit to leave the process, whatever the call says."""
    fit = _ANY.identifier(agent_id) if agent_id else None
    return slots.facts(template, host, endpoints.port(scheme, port), fit, source)
