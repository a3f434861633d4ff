"""Whose files are whose in a journal's folder; the other processes are real ones."""

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import AF_UNIX, socket

import pytest

from call_initiation.errors import SettingsError
from call_initiation.journal import lives
from call_initiation.journal.lives import CALLS, SEGMENT, Folder, Left, opened
from limits import files_to_open

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
    assert f"{expected} that no others may write to (one inside it would be made so)" == str(caught.value)
    tmp_path.chmod(0o755)
    Folder(tmp_path).make()


def test_a_folder_as_kubernetes_leaves_it_is_taken(tmp_path: Path) -> None:
    """With `fsGroup`, each mount lets the group write, and sets the bit that hands the group on; all others may not."""
    tmp_path.chmod(0o2770)
    Folder(tmp_path).make()
    tmp_path.chmod(0o2777)
    with pytest.raises(SettingsError, match="drwxrwsrwx"):
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
        assert Left([], [], []) == folder.take_over()
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
    assert Left([], [], []) == folder.take_over()
    assert ["README", "lost+found", "x.txt"] == names(folder.path)


def test_a_table_that_goes_meanwhile_was_its_owners(folder: Folder) -> None:
    """A process that ends in order removes it: its files are there for whoever comes."""
    assert ([], set()) == lives._ended([folder.path / "1.5.table"])


def test_what_a_process_may_have_open_is_left_to_its_calls(folder: Folder) -> None:
    """However many lives have ended: their tables are looked at one after another."""
    for number in range(50):
        (folder.path / f"{number}.5.table").touch()
    with files_to_open(4):
        assert 50 == len(taken_over(folder).tables)


KINDS: dict[str, Callable[[Path, Path], object]] = {
    "link": lambda path, other: path.symlink_to(other),
    "second name": lambda path, other: path.hardlink_to(other),
    "pipe": lambda path, _: os.mkfifo(path),
    "folder": lambda path, _: path.mkdir(),
    "socket": lambda path, _: socket(AF_UNIX).bind(str(path)),
}
"""What may bear a name of ours; besides, somebody else's file, which only root could make."""


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("suffix", [SEGMENT, CALLS])
def test_what_is_no_plain_file_of_ours_is_left_alone(kind: str, suffix: str, folder: Folder, tmp_path: Path) -> None:
    """Whoever put it there: it keeps its name, and what it leads to stays as it was."""
    path, other = folder.path / f"1.5-00000000{suffix}", tmp_path / "other"
    other.write_text("precious")
    KINDS[kind](path, other)
    (folder.path / f"1.5-00000001{suffix}").touch()
    found = taken_over(folder)
    assert (1, [path]) == (len(found.segments + found.tables), found.strange)
    assert (True, "precious") == (os.path.lexists(path), other.read_text())


def test_somebody_elses_file_is_left_alone(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """It isn't read, and isn't removed."""
    (folder.path / "1.5-00000000.segment").touch()
    monkeypatch.setattr(os, "geteuid", lambda: 12_345)
    assert Left([], [], [folder.path / "1.5-00000000.segment"]) == folder.take_over()


@pytest.mark.parametrize("kind", ["second name", "pipe", "folder"])
def test_what_seems_to_be_a_table_in_the_making_stops_nobody(kind: str, folder: Folder, tmp_path: Path) -> None:
    """It stays where it is."""
    (tmp_path / "other").touch()
    KINDS[kind](folder.path / "1.5.new", tmp_path / "other")
    (folder.path / "1.5-00000000.segment").touch()
    assert 1 == len(taken_over(folder).segments)
    assert (folder.path / "1.5.new").exists()


def test_a_table_that_is_none_is_left_alone(folder: Folder) -> None:
    """A pipe: it is looked at, and not waited for."""
    os.mkfifo(folder.path / "1.5.table")
    assert Left([], [], [folder.path / "1.5.table"]) == folder.take_over()


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "second name"])
@pytest.mark.parametrize("mode", ["reading", "writing"])
def test_what_is_no_plain_file_is_not_opened(kind: str, mode: str, tmp_path: Path) -> None:
    """For reading or writing, nothing waits and nothing is followed, and no file stays open."""
    path, other = tmp_path / "path", tmp_path / "other"
    other.touch()
    KINDS[kind](path, other)
    flags = os.O_RDONLY if mode == "reading" else os.O_RDWR
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(FileNotFoundError):
        opened(str(path), flags)
    assert before == len(list(Path("/proc/self/fd").iterdir()))


def test_a_file_that_has_another_name_is_read_and_not_written(tmp_path: Path) -> None:
    """Somebody may keep it under that name, as it is now."""
    (tmp_path / "path").touch()
    (tmp_path / "other").hardlink_to(tmp_path / "path")
    os.close(opened(str(tmp_path / "path"), os.O_RDONLY))
    with pytest.raises(OSError, match="another name"):
        opened(str(tmp_path / "path"), os.O_RDWR)


def test_a_file_that_cannot_be_opened_is_the_systems_error(tmp_path: Path) -> None:
    """As it is: here, there is none."""
    with pytest.raises(FileNotFoundError, match="No such file"):
        opened(str(tmp_path / "path"), os.O_RDONLY)


def test_a_table_that_cannot_be_looked_at_is_left_alone(folder: Folder) -> None:
    """And so are its files; here it is a link."""
    (folder.path / "1.5.table").symlink_to(folder.path / "elsewhere")
    (folder.path / "1.5-00000000.segment").touch()
    assert Left([], [], []) == folder.take_over()


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
    assert Left([], [], []) == other.take_over()
    os.close(own)
    assert 1 == len(taken_over(other).tables)
