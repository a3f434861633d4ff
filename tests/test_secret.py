"""What `secret` promises: a variable or a file, and a sentence that doesn't tell the secret."""

from pathlib import Path

import pytest

from call_initiation.errors import SettingsError
from call_initiation.secret import secret


def test_a_variable_goes_before_a_file(tmp_path: Path) -> None:
    """What stands about the secret in a file is no part of it."""
    path = tmp_path / "key"
    for encoding in ("utf-8-sig", "utf-8"):
        path.write_text(" from-a-file\n", encoding=encoding)
        assert "from-a-file" == secret("KEY", {"KEY_FILE": str(path)})
    assert "from-a-file" == secret("KEY", {"KEY": "", "KEY_FILE": str(path)})
    assert "given" == secret("KEY", {"KEY": "given", "KEY_FILE": str(path)})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no such file or directory"),
        (b" \n", "empty"),
        (b"\xff\xfe", "not UTF-8"),
    ],
)
def test_a_file_that_is_no_secret_is_named(content: bytes | None, said: str, tmp_path: Path) -> None:
    """With what is wrong with it."""
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        secret("KEY", {"KEY_FILE": str(path)})
    expected = f"KEY_FILE: found '{path}' ({said}), expected a text file that holds the value"
    assert expected == str(caught.value)


def test_where_nothing_is_set_both_ways_are_told() -> None:
    """One sentence."""
    with pytest.raises(SettingsError, match=r"KEY: found nothing, expected a value, or a file's path in KEY_FILE"):
        secret("KEY", {})
