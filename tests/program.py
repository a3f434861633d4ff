"""The program, run in the tests' own process, at a terminal or not. A plugin of pytest."""

import io
import sys
from collections.abc import Callable
from contextlib import nullcontext, redirect_stdout
from threading import Event
from typing import TextIO

import pytest

from call_initiation import cli

Run = Callable[..., tuple[int, str, str]]

FORKING = ("-W", "ignore:This process:DeprecationWarning")
"""How an interpreter is asked not to warn that its program forks beside threads, as it does since Python 3.12."""


class Terminal(io.StringIO):
    """What takes itself for a terminal, and tells when something is first written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = Event()

    def isatty(self) -> bool:
        """Say so."""
        return True

    def write(self, text: str) -> int:
        """Tell that it has begun."""
        self.begun.set()
        return super().write(text)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs the program here and returns its status, output and errors."""

    def run(*arguments: object, given: bytes = b"", on: TextIO | None = None) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["call-initiation-exporter", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
        with pytest.raises(SystemExit) as ended, redirect_stdout(on) if on else nullcontext():
            cli.main()
        shown = capsys.readouterr()
        return int(ended.value.code or 0), shown.out, shown.err

    return run
