"""Whose files are whose in a journal's folder; the other processes are real ones."""

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from call_initiation.errors import SettingsError
from call_initiation.journal import lives
from call_initiation.journal.lives import CALLS, SEGMENT, Folder, Left

HOLDER = "import fcntl, os, sys; fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX); print(); input()"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Have another process lock a file."""
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:  # noqa: S603 - our own script
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield
        finally:
            process.kill()


def names(folder: Path) -> list[str]:
    """Return the names of a folder's files."""
    return sorted(path.name for path in folder.iterdir())


def taken_over(folder: Folder) -> Left:
    """Return what was taken over."""
    left = folder.take_over()
    assert left is not None
    return left


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Return a folder that is there."""
    folder = Folder(tmp_path / "journal")
    folder.make()
    return folder


def test_a_folder_is_made_for_its_user_alone(tmp_path: Path) -> None:
    """With those above it; one that is there is taken."""
    folder = Folder(tmp_path / "a" / "journal")
    folder.make()
    folder.make()
    assert 0o700 == folder.path.stat().st_mode & 0o777


@pytest.mark.parametrize(("mode", "shown"), [(0o777, "drwxrwxrwx"), (0o770, "drwxrwx---"), (0o702, "drwx----w-")])
def test_a_folder_that_others_may_write_to_is_refused(mode: int, shown: str, tmp_path: Path) -> None:
    """In a sentence that says what is wrong."""
    tmp_path.chmod(mode)
    with pytest.raises(SettingsError) as caught:
        Folder(tmp_path).make()
    expected = f"journal: found {tmp_path} ({shown}, user {os.geteuid()}), expected a folder of its own"
    assert f"{expected} that no others may write to" == str(caught.value)
    tmp_path.chmod(0o755)
    Folder(tmp_path).make()


def test_somebody_elses_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who owns it may write to it."""
    monkeypatch.setattr(os, "geteuid", lambda: 12_345)
    with pytest.raises(SettingsError, match=r"user \d+\)"):
        Folder(tmp_path).make()


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    """Nor can one be made below it: that is the system's own error."""
    path = tmp_path / "file"
    path.touch(mode=0o600)
    with pytest.raises(SettingsError, match=r"file \(-rw"):
        Folder(path).make()
    with pytest.raises(NotADirectoryError):
        Folder(path / "journal").make()


def test_a_life_has_names_of_its_own(folder: Folder) -> None:
    """They sort as they were given; the next life's are others."""
    given = [folder.next(SEGMENT) for _ in range(12)]
    assert sorted(given) == given
    before = folder.table
    folder.begin()
    assert (before.parent, True) == (folder.table.parent, folder.table.name > before.name)


def test_what_a_dead_life_left_is_taken_over(folder: Folder) -> None:
    """Files before and calls after, the oldest first, by names of ours; the tables of its own dead, too."""
    left = ["1.5-00000000.segment", "1.5-00000001.calls", "1.5-00000002.segment", "0.4-00000009.segment", "1.5.table"]
    for name in left:
        (folder.path / name).write_text(name)
    found = taken_over(folder)
    assert ["0.4-00000009.segment", "1.5-00000000.segment", "1.5-00000002.segment"] == [
        path.read_text() for path in found.segments
    ]
    assert ["1.5-00000001.calls", "1.5.table"] == [path.read_text() for path in found.tables]
    assert sorted(found.segments + found.tables) == sorted(folder.path.iterdir())
    assert found.segments == sorted(found.segments)
    assert {SEGMENT, CALLS} == {path.suffix for path in folder.path.iterdir()}


def test_what_lives_is_left_alone(folder: Folder) -> None:
    """The files of a process that holds its table; when it has died, they are taken."""
    for name in ("1.5.table", "1.5-00000000.segment"):
        (folder.path / name).touch()
    with locked(folder.path / "1.5.table"):
        assert Left([], []) == folder.take_over()
    found = taken_over(folder)
    assert (1, 1) == (len(found.segments), len(found.tables))


def test_only_one_takes_over_at_a_time(folder: Folder) -> None:
    """The other one is to come again."""
    (folder.path / "1.5-00000000.segment").touch()
    with locked(folder.path):
        assert folder.take_over() is None
    assert 1 == len(taken_over(folder).segments)


def test_a_table_that_was_being_made_is_removed(folder: Folder) -> None:
    """Unless it still is."""
    (folder.path / "1.5.new").touch()
    with locked(folder.path / "1.5.new"):
        taken_over(folder)
        assert ["1.5.new"] == names(folder.path)
    taken_over(folder)
    assert [] == names(folder.path)


def test_what_is_not_ours_is_left_alone(folder: Folder) -> None:
    """Other names mean nothing."""
    for name in ("README", "lost+found", "x.txt"):
        (folder.path / name).touch()
    assert Left([], []) == folder.take_over()
    assert ["README", "lost+found", "x.txt"] == names(folder.path)


def test_a_table_that_goes_meanwhile_was_its_owners(folder: Folder) -> None:
    """A process that ends in order removes it: its files are there for whoever comes."""
    with lives._ended([folder.path / "1.5.table"]) as (tables, alive):
        assert ([], set()) == (tables, alive)


def test_a_table_that_cannot_be_looked_at_is_left_alone(folder: Folder) -> None:
    """And so are its files; here it is a link."""
    (folder.path / "1.5.table").symlink_to(folder.path / "elsewhere")
    (folder.path / "1.5-00000000.segment").touch()
    assert Left([], []) == folder.take_over()


def test_a_file_that_cannot_be_renamed_is_left_to_the_next(folder: Folder) -> None:
    """The others are taken."""
    (folder.path / "1.5-00000000.segment").touch()
    (folder.path / "1.5-00000001.segment").touch()
    (folder.path / f"{folder._life}-00000000.segment").mkdir()
    folder.table.touch()
    with locked(folder.table):
        assert 1 == len(taken_over(folder).segments)
    assert (folder.path / "1.5-00000000.segment").exists()


def test_a_folder_that_is_gone_is_the_systems_error(folder: Folder) -> None:
    """It is tried again."""
    folder.path.rmdir()
    with pytest.raises(FileNotFoundError):
        folder.take_over()


def test_its_own_table_is_alive(folder: Folder) -> None:
    """Also for another exporter of the same process."""
    folder.table.touch()
    own = os.open(folder.table, os.O_RDONLY)
    fcntl.flock(own, fcntl.LOCK_EX)
    other = Folder(folder.path)
    assert Left([], []) == other.take_over()
    os.close(own)
    assert 1 == len(taken_over(other).tables)
