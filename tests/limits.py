"""Limits of a process, by which a normal user's tests meet what a full disk or an exhausted system does."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count, islice
from pathlib import Path


@contextmanager
def limited(what: int, most: int) -> Iterator[None]:
    """Lower one of this process's limits."""
    before = resource.getrlimit(what)
    resource.setrlimit(what, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(what, before)


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """Let this process write no file beyond a size, as on a disk that is full."""
    with limited(resource.RLIMIT_FSIZE, size):
        yield


@contextmanager
def files_to_open(more: int) -> Iterator[None]:
    """Let this process open so many files more than it has open."""
    taken = {file.name for file in list(Path("/proc/self/fd").iterdir()) if file.is_symlink()}
    free = (number for number in count() if str(number) not in taken)
    with limited(resource.RLIMIT_NOFILE, next(islice(free, more, None))):
        yield
