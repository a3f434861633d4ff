"""Notes each call in a table that outlives the process: from before it is sent until what became of it is kept.

The table is a file. Noting a call is one small write into the kernel's memory, which outlives the process, however that
ends. It isn't a mapped file: where one is cut short, or its disk turns out to have no room for what it gave out, the
kernel ends the process (`SIGBUS`), and the dialer with it; a write fails, and is counted. The table's room on the disk
is taken when it is made, if it can be had, so that a disk that fills up later takes nothing away. It is locked as long
as its process lives, by which others know.

Laws: on the caller's path nothing here raises. A call for which there is no room, or no table, or that can't be written
down, goes on unnoted, and is counted as a fault of the stage `in_flight`. A forked child shares no table with its
parent.
"""

import fcntl
import os
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from itertools import count
from pathlib import Path
from secrets import randbits
from typing import Final, NamedTuple, Protocol
from weakref import finalize

from call_initiation.calls import endpoints
from call_initiation.calls.observation import Observation
from call_initiation.events import AgentIdSource
from call_initiation.journal import slots
from call_initiation.journal.slots import FREE, SLOT
from call_initiation.privacy import Mask

CALLS: Final = 2_047
"""Calls that can be noted at once."""

_FREE: Final = bytes([FREE])
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
    """A locked file of slots, which is closed when nobody has it any more: who still writes meets no other file.

    Args:
        path: Where it is to be; it appears there when it is locked, and not before.

    Attributes:
        free: The slots that are free, the next one last.

    Raises:
        OSError: It can't be made.
    """

    def __init__(self, path: Path) -> None:
        self.free = deque(range(CALLS, 0, -1))
        self._path = path
        self._unfreed = deque[int]()
        new = path.with_suffix(".new")
        new.unlink(missing_ok=True)  # of a try before, whose disk didn't even let it be removed
        self._file = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        self.abandon = finalize(self, os.close, self._file)
        self.abandon.atexit = False
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with suppress(OSError):  # then there is the room that the disk has when it is needed
                os.posix_fallocate(self._file, 0, SLOT * (CALLS + 1))
            new.rename(path)
        except OSError:
            self.abandon()
            new.unlink(missing_ok=True)
            raise

    def take(self) -> int | None:
        """Return a slot that was free; None where there is none."""
        try:
            return self.free.pop()
        except IndexError:
            return None

    def write(self, slot: int, data: bytes) -> None:
        """Write at a slot's beginning.

        Raises:
            OSError: It can't be written, or not all of it.
        """
        if os.pwrite(self._file, data, slot * SLOT) < len(data):
            raise OSError

    def let_go(self, slot: int) -> None:
        """Free a slot.

        Raises:
            OSError: It can't be written: the slot isn't used until it can, which is tried with each beat.
        """
        try:
            self.write(slot, _FREE)
        except OSError:
            self._unfreed.append(slot)
            raise
        self.free.append(slot)

    def beat(self, now: int) -> None:
        """Note that the process lives, at so many nanoseconds since the epoch.

        Raises:
            OSError: It can't be written.
        """
        self.write(0, slots.alive(now))
        for _ in range(len(self._unfreed)):
            self.let_go(self._unfreed.popleft())

    @property
    def is_there(self) -> bool:
        """Whether it is still where it was made, as far as can be told."""
        try:
            return os.path.samestat(self._path.lstat(), os.fstat(self._file))
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            return True

    def remove(self) -> None:
        """Give the file up: it tells of no call."""
        with suppress(OSError):  # whoever finds it sees that it is empty
            self._path.unlink()


class _Noted(NamedTuple):
    """Where a call is noted, and the key that names it."""

    table: Table
    slot: int
    key: int


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
        self._held: dict[Observation, _Noted] = {}
        self.reset()

    def reset(self) -> None:
        """Begin anew with no table, as a forked child must; a parent's stays as it is."""
        for table in {self._table, *(noted.table for noted in self._held.values())}:
            if table is not None:
                table.abandon()
        self._table = None
        self._held = {}
        self._keys = count(randbits(63) + 1)

    def open(self, path: Path) -> None:
        """Make a table.

        Raises:
            OSError: It can't be made.
        """
        self._table = Table(path)

    @property
    def is_open(self) -> bool:
        """Whether there is a table."""
        return self._table is not None

    def is_lost(self) -> bool:
        """Tell whether the table isn't where it was made any more; then there is none, but for the calls in it."""
        if self._table is None or self._table.is_there:
            return False
        self._table = None
        return True

    # -- on the caller's path -----------------------------------------------------------------------------------------

    def begin(self, observation: Observation) -> None:
        """Note a call that is about to be sent."""
        table = self._table
        slot = table.take() if table else None
        if table is None or slot is None:
            self._recorder.fault("in_flight")
            return
        key = next(self._keys)
        try:
            table.write(slot, self._begun(observation, key))
            self._held[observation] = _Noted(table, slot, key)
        except Exception:  # noqa: BLE001 - a fault of ours must not become the call's
            self._recorder.fault("in_flight")
            table.free.append(slot)

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
        noted = self._held.get(observation)
        if noted is None:
            return
        status, failure = observation.status_code, observation.failure
        try:
            if failure is None and status is not None and status // 100 == 2:  # noqa: PLR2004 - every 2xx is an acceptance
                self._let_go(observation)
            else:
                noted.table.write(noted.slot, slots.end(observation.duration, status, failure))
        except Exception:  # noqa: BLE001 - a fault of ours must not become the call's
            self._recorder.fault("in_flight")

    def _let_go(self, observation: Observation) -> None:
        """Free the place of a call."""
        noted = self._held.pop(observation, None)
        try:
            if noted is not None:
                noted.table.let_go(noted.slot)
        except OSError:
            self._recorder.fault("in_flight")

    # -- on the recorder's thread -------------------------------------------------------------------------------------

    def place(self, observation: Observation) -> Place | None:
        """Return where a call is noted; None where it isn't."""
        noted = self._held.get(observation)
        return Place(noted.key, lambda: self._let_go(observation)) if noted else None

    def beat(self, now: int) -> None:
        """Note that the process lives, at so many nanoseconds since the epoch."""
        if self._table is not None:
            with suppress(OSError):  # calls that can't be noted are counted
                self._table.beat(now)

    def close(self) -> None:
        """Note no more calls; the table stays while there are some in it."""
        table = self._table
        if table is not None:
            table.free.clear()
            if not self._held:
                self._table = None  # first: who looks for it mustn't find that it is lost
                table.remove()


@lru_cache(maxsize=1024)  # dialers call the same few places on behalf of the same few agents
def _facts(  # noqa: PLR0913, PLR0917 - what many calls share, as the cache takes it
    template: str, host: str, port: int | None, scheme: str, agent_id: str | None, source: AgentIdSource
) -> bytes:
    """Return what many calls share; an agent's id only if it is fit to leave the process, whatever the call says."""
    fit = _ANY.identifier(agent_id) if agent_id else None
    return slots.facts(template, host, endpoints.port(scheme, port), fit, source)
