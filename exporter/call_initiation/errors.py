"""What can go wrong that a user of this package may want to catch, and whose fault it is.

    CallInitiationError
    ├── SettingsError     the operator's: a setting is missing, misspelt or out of range
    ├── ListenError       the machine's: an address that we were told to listen on can't be had
    ├── InstrumentError   the programmer's: what was handed to `instrument` isn't an httpx client
    └── UpstreamError     Genesys's, or the network's: one of the few REST calls we make ourselves failed

None of these ever reaches the code that places a call: telemetry may fail, it is counted, and the call goes on.
Exceptions carry data and build their sentence in `__str__`.
"""

from dataclasses import dataclass
from errno import EADDRINUSE
from typing import Self

from call_initiation.authority import authority


class CallInitiationError(Exception):
    """The root of every error that this package raises on purpose."""


@dataclass(eq=False)
class SettingsError(CallInitiationError):
    """A setting that can't be used: which one, what was found, what was expected."""

    key: str
    found: str
    expected: str

    def __str__(self) -> str:
        """Give the one sentence that an operator needs."""
        return f"{self.key}: found {self.found}, expected {self.expected}"


@dataclass(eq=False)
class ListenError(CallInitiationError):
    """An address that can't be listened on: which one, the system's reason, and whether another program has it."""

    address: str
    reason: str
    is_taken: bool = False

    @classmethod
    def of(cls, host: str, port: int, error: OSError) -> Self:
        """Return it with the system's own words: asyncio puts its own, with the address once more, before them."""
        words = (error.strerror or str(error)).rpartition(": ")[2].rpartition("] ")[2]
        return cls(authority(host, port), words[:1].upper() + words[1:], error.errno == EADDRINUSE)

    def __str__(self) -> str:
        """Name the address and what to do about it."""
        advice = "free the port, or choose another address" if self.is_taken else "choose another address"
        return f"cannot listen on {self.address}: {self.reason}; {advice}"


@dataclass(eq=False)
class InstrumentError(CallInitiationError):
    """Something other than an httpx or httpx2 client was handed to `Exporter.instrument`."""

    found: str

    def __str__(self) -> str:
        """Name what was found and what was expected."""
        return f"cannot instrument {self.found}: expected a Client or AsyncClient of httpx or httpx2"


@dataclass(eq=False)
class UpstreamError(CallInitiationError):
    """A REST call of our own that failed: what it was, and the status (None where no answer came) or the reason."""

    operation: str
    status_code: int | None
    reason: str

    def __str__(self) -> str:
        """Name the operation and its failure."""
        status = "no answer" if self.status_code is None else f"status {self.status_code}"
        return f"{self.operation} failed with {status}: {self.reason}"
