"""A secret of the operator's: in a variable of the environment, or in a file that a variable names.

A file is what containers are given; its content shows in no list of processes and in no child's environment. What is
wrong is said without the secret.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from call_initiation.errors import SettingsError


def secret(name: str, environ: Mapping[str, str] = os.environ) -> str:
    """Return the variable's value, or what stands in the file that the variable with `_FILE` names.

    Raises:
        SettingsError: Neither is set, or the file can't be read or is empty.
    """
    if environ.get(name):
        return environ[name]
    path = environ.get(f"{name}_FILE")
    if not path:
        raise SettingsError(key=name, found="nothing", expected=f"a value, or a file's path in {name}_FILE")
    try:
        found = Path(path).read_text(encoding="utf-8-sig").strip()  # a byte order mark is no part of a secret either
    except OSError as error:
        fault = (error.strerror or type(error).__name__).lower()
    except ValueError:
        fault = "not UTF-8"
    else:
        fault = "empty"
        if found:
            return found
    raise SettingsError(key=f"{name}_FILE", found=f"{path!r} ({fault})", expected="a text file that holds the value")
