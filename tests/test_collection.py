"""What there is to test is the same in each process that asks, at any time: a run's workers compare lists."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent


@pytest.mark.untraced
def test_another_process_finds_the_same_tests(request: pytest.FixtureRequest) -> None:
    """A set's order or the time of day in a test's name would end whole runs, now and then."""
    ours = [item.nodeid for item in request.session.items]
    files = {str(item.path) for item in request.session.items}
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "--no-cov", *files]
    environment = os.environ | {"PYTHONHASHSEED": "1"}
    answer = subprocess.run(  # noqa: S603 - our own interpreter
        command, cwd=TESTS.parent, env=environment, capture_output=True, text=True, check=True
    )
    theirs = {line for line in answer.stdout.splitlines() if "::" in line}
    assert [one for one in ours if one not in theirs] == []
