"""The program's entry: runs a command, and says in one sentence what a user can mend.

Exit status: 0 for success and for an end by Ctrl-C or SIGTERM, 1 where the machine or the network is at fault, 2 where
a setting or a flag is.

The commands need packages that the library does without, so they are imported here and not before.
"""

import sys
from typing import NoReturn

from call_initiation.errors import CallInitiationError, SettingsError


def main() -> None:
    """Run the program on `sys.argv`."""
    try:
        from call_initiation.program import commands  # noqa: PLC0415 - see above
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing == "call_initiation":
            raise
        _end(1, f"this program needs {missing}, too: pip install 'call-initiation-exporter[service]'")
    try:
        commands.app(prog_name="call-initiation-exporter")
    except SettingsError as error:
        _end(2, str(error))
    except CallInitiationError as error:
        _end(1, str(error))


def _end(status: int, sentence: str) -> NoReturn:
    sys.stderr.write(f"call-initiation-exporter: {sentence}\n")
    sys.exit(status)
