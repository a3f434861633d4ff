"""What watched files promise: the newest that can be used, whatever comes in between."""

from pathlib import Path

import pytest

from call_initiation.errors import SettingsError
from call_initiation.watched import Stamps, Watched, stamps


class Pair:
    """Two files that belong together: what can't be used is a first one without its second."""

    def __init__(self, folder: Path) -> None:
        self.first, self.second = folder / "first", folder / "second"
        self.put(self.first, "1")
        self.put(self.second, "1")
        self.reads = 0
        self.watched = Watched("the pair", self.read)

    def put(self, file: Path, text: str) -> None:
        """Put another file in a file's place, in one step, as mounted secrets are changed."""
        (new := file.with_suffix(".new")).write_text(text)
        new.replace(file)

    def read(self) -> tuple[str, Stamps]:
        """Return what both say."""
        self.reads += 1
        seen = stamps(self.first, None, self.second)
        said = [file.read_text() if file.exists() else "nothing" for file in (self.first, self.second)]
        if said[0] != said[1]:
            raise SettingsError("first", said[0], said[1])
        return said[0], seen


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    """Return two files that hold a 1."""
    return Pair(tmp_path)


def test_files_that_stay_as_they_are_are_read_once(pair: Pair) -> None:
    """A look at each is all that a question costs."""
    assert ["1"] * 3 == [pair.watched() for _ in range(3)]
    assert 1 == pair.reads


def test_what_cannot_be_used_changes_nothing_and_is_told_once(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    """Half of a change may be there before its other half: what was read stands, until all of it can be used."""
    caplog.set_level("INFO")
    pair.put(pair.first, "2")
    found = [pair.watched(), pair.watched()]
    pair.second.unlink()
    found += [pair.watched(), pair.watched()]
    pair.put(pair.second, "2")
    found += [pair.watched(), pair.watched()]
    assert ["1", "1", "1", "1", "2", "2"] == found
    assert 6 == pair.reads  # at each question while they can't be used, and once more
    assert [
        "the pair: what was read before stands: first: found 2, expected 1",
        "the pair: what was read before stands: first: found 2, expected nothing",
        "the pair: read again",
    ] == caplog.messages


def test_the_same_trouble_is_told_again_after_it_was_over(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    """It is news again."""
    for text in ("2", "1", "2"):
        pair.put(pair.first, text)
        assert "1" == pair.watched()
    assert ["the pair: what was read before stands: first: found 2, expected 1"] * 2 == caplog.messages


def test_what_cannot_be_used_from_the_start_is_an_error(pair: Pair) -> None:
    """There is nothing that could stand instead."""
    pair.second.unlink()
    with pytest.raises(SettingsError):
        Watched("the pair", pair.read)
