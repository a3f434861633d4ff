"""The folder of a journal: whose files are whose, and how a process takes over those of others that have ended.

A process has a *life*, which names its files. Its table of calls is locked as long as it lives; a process that starts
takes over the files of each life whose table isn't locked, or that has none, by renaming them to names of its own, one
after another and the table last. One that is killed in between leaves files of two lives that have ended, to be taken
over in the same way. Only one process at a time takes over, so all that belongs together comes into one hand.

What is in the folder is data and nothing else. A folder that others may write to is refused, but for the group of one
that has the set-group-ID bit: Kubernetes makes a volume's folders so each time that it mounts it (`fsGroup`). Whoever
has put something there: no link is followed, nothing is waited for, and what bears a name of ours and isn't a plain
file of our user's own is left alone.
"""

import errno
import fcntl
import os
import stat
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
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
_WANTED: Final = "a folder of its own that no others may write to (one inside it would be made so)"
_NO_FILE: Final = frozenset({errno.ELOOP, errno.EISDIR, errno.ENXIO})
"""What the system says of a link, of a folder that is to be written, and of a socket or a device that isn't there."""


class Left(NamedTuple):
    """What was taken over, and what wasn't.

    Attributes:
        segments: Files of failures, the oldest first.
        tables: Tables of calls.
        strange: What has a name of ours and is no file of ours.
    """

    segments: list[Path]
    tables: list[Path]
    strange: list[Path]


def opened(path: str, flags: int) -> int:
    """Open a file of a journal; as an `opener` of `open`. It never waits, and follows no link.

    Raises:
        FileNotFoundError: No plain file is there.
        OSError: It can't be opened; or it is to be written, and has another name besides.
    """
    try:
        file = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in _NO_FILE:
            raise _no_file(path) from error
        raise
    try:
        _check(path, os.fstat(file), is_written=bool(flags & os.O_RDWR))
    except OSError:
        os.close(file)
        raise
    return file


def _check(path: str, found: os.stat_result, *, is_written: bool) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise _no_file(path)
    if is_written and found.st_nlink > 1:
        raise OSError(errno.EMLINK, "it has another name besides", path)


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
        others = stat.S_IWOTH if found.st_mode & stat.S_ISGID else stat.S_IWGRP | stat.S_IWOTH
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & others:
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
            tables, alive = _ended(path for path in self.path.iterdir() if path.suffix in {TABLE, _NEW})
            left = [path for path in files if path.name.partition("-")[0] not in alive] + tables
            own = [path for path in left if _is_own(path)]
            segments = self._renamed((path for path in own if path.suffix == SEGMENT), SEGMENT)
            calls = self._renamed((path for path in own if path.suffix != SEGMENT), CALLS)
            return Left(segments, calls, sorted({*left} - {*own}))

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


def _ended(paths: Iterable[Path]) -> tuple[list[Path], set[str]]:
    """Tell tables whose lives have ended from those that live: paths of the former, names of the latter.

    They are looked at one after another: what a process may have open is little, and its calls need it. A table that
    was being made when its process ended is removed.
    """
    ended, alive = list[Path](), set[str]()
    for path in sorted(paths):
        try:
            file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:  # its process has just ended in order
            continue
        except OSError:  # nothing can be said of it
            alive.add(path.stem)
            continue
        try:
            is_ended = _locked(file)
        finally:
            os.close(file)
        if not is_ended:
            alive.add(path.stem)
        elif path.suffix == TABLE:
            ended.append(path)
        elif _is_own(path):
            path.unlink(missing_ok=True)
    return ended, alive


def _is_own(path: Path) -> bool:
    """Tell whether a plain file of our user's own is there, under that name alone.

    Raises:
        OSError: It can't be looked at.
    """
    found = path.lstat()
    return stat.S_ISREG(found.st_mode) and found.st_nlink == 1 and found.st_uid == os.geteuid()


def _no_file(path: str) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, "no plain file is there any more", path)


def _locked(file: int) -> bool:
    """Lock a file; tell whether nobody else has."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
