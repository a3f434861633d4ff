"""Files that are made from the code: written anew, or held against what is committed.

Laws: with `--check` nothing is written, and the exit status is 1 where a file isn't what would be written, or where one
stands among them that nobody makes.
"""

import argparse
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).parents[1]


def filled(name: str, **parts: str) -> str:
    """Return a document with each part between its markers; exit where they aren't there once, in order."""
    text = (ROOT / name).read_text(encoding="utf-8")
    for part, block in parts.items():
        begin, end = f"<!-- {part}:begin -->", f"<!-- {part}:end -->"
        before, _, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if not closed or (text.count(begin), text.count(end)) != (1, 1):
            sys.exit(f"{name}: expected one line {begin} and, after it, one line {end}")
        text = f"{before}{begin}\n{block}\n{end}{after}"
    return text


def main(about: str, documents: Mapping[Path, str], beside: Iterable[Path] = ()) -> NoReturn:
    """Write the documents that aren't current, or name them and exit with 1.

    Args:
        about: What the program does, for its help.
        documents: Every file's path and text.
        beside: Files of which each must be one of the documents.
    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 where a file is out of date")
    is_check = parser.parse_args().check
    stale = {path: text for path, text in documents.items() if not _is_current(path, text)}
    strangers = sorted(set(beside) - documents.keys())
    for path, text in stale.items():
        print(path.relative_to(ROOT), "is out of date; run: make docs" if is_check else "written")
        if not is_check:
            path.write_text(text, encoding="utf-8")
    for path in strangers:
        print(path.relative_to(ROOT), "is made by nobody: delete it")
    sys.exit(1 if strangers or (is_check and stale) else 0)


def _is_current(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text
