"""The folder of a journal: whose files are whose, and how a process takes over those of others that have ended.

A process has a *life*, which names its files. Its table of calls is locked as long as it lives; a process that starts
takes over the files of each life whose table isn't locked, or that has none, by renaming them to names of its own, one
after another and the table last. One that is killed in between leaves files of two lives that have ended, to be taken
over in the same way. Only one process at a time takes over, so all that belongs together comes into one hand.

What is in the folder is data and nothing else. A folder that others may write to is refused.
"""

import fcntl
import os
import stat
from collections.abc import Generator, Iterable
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path
from time import time_ns
from typing import Final, NamedTuple

from call_initiation.errors import SettingsError

TABLE: Final = ".table"
"""The suffix of a process's own table of calls."""
CALLS: Final = ".calls"
"""The suffix of a table that was taken over."""
SEGMENT: Final = ".segment"
"""The suffix of a file of failures."""

_NEW: Final = ".new"
_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH
_WANTED: Final = "a folder of its own that no others may write to"


class Left(NamedTuple):
    """What was taken over: files of failures, the oldest first, and tables of calls."""

    segments: list[Path]
    tables: list[Path]


class Folder:
    """A journal's folder, and one life in it.

    Args:
        path: Where it is.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.begin()

    def begin(self) -> None:
        """Begin a life, with names of its own."""
        self._life = f"{time_ns():020d}.{os.getpid()}"
        self._numbers = count()

    def make(self) -> None:
        """See to it that the folder is there.

        Raises:
            SettingsError: It is no folder, or one that others may write to.
            OSError: It can't be made, or looked at.
        """
        with suppress(FileExistsError):  # then it is looked at as any other
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = self.path.stat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & _OTHERS:
            raise SettingsError(
                "journal", f"{self.path} ({stat.filemode(found.st_mode)}, user {found.st_uid})", _WANTED
            )

    @property
    def table(self) -> Path:
        """Where this life's table of calls is to be."""
        return self.path / f"{self._life}{TABLE}"

    def next(self, suffix: str) -> Path:
        """Return a name for a file of this life that sorts after all before."""
        return self.path / f"{self._life}-{next(self._numbers):08d}{suffix}"

    def take_over(self) -> Left | None:
        """Take over what lives that have ended have left; None where another process is about it.

        Raises:
            OSError: The folder can't be read.
        """
        with _alone(self.path) as is_alone:
            if not is_alone:
                return None
            # The files first: whose file is seen has had its table before.
            files = sorted(path for path in self.path.iterdir() if path.suffix in {SEGMENT, CALLS})
            with _ended(path for path in self.path.iterdir() if path.suffix in {TABLE, _NEW}) as (tables, alive):
                left = [path for path in files if path.name.partition("-")[0] not in alive]
                segments = self._renamed((path for path in left if path.suffix == SEGMENT), SEGMENT)
                calls = self._renamed((path for path in left if path.suffix == CALLS), CALLS)
                return Left(segments, calls + self._renamed(tables, CALLS))

    def _renamed(self, paths: Iterable[Path], suffix: str) -> list[Path]:
        """Give files names of this life; what can't be renamed is left to the next one."""
        renamed: list[Path] = []
        for path in paths:
            with suppress(OSError):
                renamed.append(path.rename(self.next(suffix)))
        return renamed


@contextmanager
def _alone(path: Path) -> Generator[bool]:
    """Keep other processes from taking over; tell whether none of them is about it."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield _locked(folder)
    finally:
        os.close(folder)


@contextmanager
def _ended(paths: Iterable[Path]) -> Generator[tuple[list[Path], set[str]]]:
    """Tell tables whose lives have ended from those that live, and lock the former: paths of these, names of those.

    A table that was being made when its process ended is removed.
    """
    ended, alive = list[Path](), set[str]()
    with ExitStack() as stack:
        for path in sorted(paths):
            try:
                file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            except FileNotFoundError:  # its process has just ended in order
                continue
            except OSError:  # nothing can be said of it
                alive.add(path.stem)
                continue
            stack.callback(os.close, file)
            if not _locked(file):
                alive.add(path.stem)
            elif path.suffix == TABLE:
                ended.append(path)
            else:
                path.unlink(missing_ok=True)
        yield ended, alive


def _locked(file: int) -> bool:
    """Lock a file; tell whether nobody else has."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
