"""What files hold, read again once one of them has changed: certificates and passwords change while calls go on.

Half of a change may be there before its other half. So as long as the files can't be used, what they held before
stands; a warning says why, once, and the files are looked at again with the next question.
"""

from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Generic, TypeVar

from call_initiation.errors import SettingsError
from call_initiation.log import Log

Held = TypeVar("Held")

_Stamp = tuple[int, int, int] | None
Stamps = dict[Path, _Stamp]
"""What tells files from what was there before, and from what comes later."""

_logger = Log()


def stamps(*files: Path | None) -> Stamps:
    """Return the stamps of those files that are named, to be taken before they are read."""
    return {file: _stamp(file) for file in files if file is not None}


def _stamp(file: Path) -> _Stamp:
    """Return what tells a file from what was there before; None where nothing is."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


class Watched(Generic[Held]):
    """What some files hold at the moment; may be asked from any thread.

    Args:
        name: What it is, for the log.
        read: Reads the files, and returns with their stamps what they hold.

    Raises:
        SettingsError: They can't be used.
    """

    def __init__(self, name: str, read: Callable[[], tuple[Held, Stamps]]) -> None:
        self._name = name
        self._read = read
        self._lock = Lock()
        self._held, self._stamps = read()
        self._told = ""

    def __call__(self) -> Held:
        """Return what the files hold, or held when they could last be used."""
        with self._lock:
            if any(_stamp(file) != stamp for file, stamp in self._stamps.items()):
                self._read_again()
            return self._held

    def _read_again(self) -> None:
        try:
            self._held, self._stamps = self._read()
        except SettingsError as error:
            if str(error) != self._told:
                self._told = str(error)
                _logger.warning("%s: what was read before stands: %s", self._name, error)
        else:
            self._told = ""
            _logger.info("%s: read again", self._name)
