"""Runs scripts, each in a process of its own that has the Python SDK imported already: that alone takes seconds.

Reads JSON lines, each a script and its arguments; writes a JSON line for each: the exit's status, and what was printed.
"""

import json
import os
import sys
from traceback import print_exc

import PureCloudPlatformClientV2  # noqa: F401 - so that no script has to


def run(script: str, arguments: list[str], output: int) -> None:
    """Run a script as `python` would, with its output going there; never returns."""
    status = 1
    try:
        os.dup2(output, 1)
        sys.argv = ["script", *arguments]
        exec(compile(script, "script", "exec"), {"__name__": "__main__"})  # noqa: S102 - that is what it is for
        sys.stdout.flush()
        status = 0
    except BaseException:  # noqa: BLE001 - Python would print it and go
        print_exc()
    finally:
        os._exit(status)


for line in sys.stdin:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        run(*json.loads(line), writer)
    os.close(writer)
    with open(reader, "rb") as printed:  # noqa: PTH123 - a file descriptor
        text = printed.read().decode()
    _, ended = os.waitpid(child, 0)
    print(json.dumps([os.waitstatus_to_exitcode(ended), text]), flush=True)  # noqa: T201 - its output
