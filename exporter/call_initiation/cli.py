"""The program's entry: runs a command, and says in one sentence what a user can mend.

Exit status: 0 for success and for an end by Ctrl-C or SIGTERM, 1 where the machine or the network is at fault, 2 where
a setting or a flag is, 130 where Ctrl-C came before there was anything to end or to answer.

It runs also where nobody reads it: a standard stream that is closed is the null device, and what stdout can't spell is
a question mark.

The commands need packages that the library does without, so they are imported here and not before.
"""

import os
import sys
from pathlib import Path
from typing import Final, NoReturn

from call_initiation.errors import CallInitiationError, SettingsError

_STREAMS: Final = {"stdin": "r", "stdout": "w", "stderr": "w"}
_INTERRUPTED: Final = 130
"""What shells say of a program that SIGINT has ended."""


def main() -> None:
    """Run the program on `sys.argv`."""
    _open_streams()
    try:
        _run()
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)


def _open_streams() -> None:
    for name, mode in _STREAMS.items():
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 - as long as we run
    if reconfigure := getattr(sys.stdout, "reconfigure", None):  # what stands in for it may not encode at all
        reconfigure(errors="replace")


def _run() -> None:
    try:
        from call_initiation.program import commands  # noqa: PLC0415 - see above
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing == "call_initiation":
            raise
        _end(1, f"this program needs {missing}, too: pip install 'call-initiation-exporter[service]'")
    ended = 0, ""  # unless one of these comes, the app itself exits
    try:
        commands.app(prog_name="call-initiation-exporter")
    except* SettingsError as errors:
        ended = 2, str(errors.exceptions[0])
    except* (CallInitiationError, OSError) as errors:  # what we say can't be written, for one: the disk is full
        ended = 1, str(errors.exceptions[0])
    _end(*ended)  # not above, where an exit would be put into a group


def _end(status: int, sentence: str) -> NoReturn:
    sys.stderr.write(f"call-initiation-exporter: {sentence}\n")
    sys.exit(status)
