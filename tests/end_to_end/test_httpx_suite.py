"""Transparency, judged by httpx's authors: their own test suite with our transport around every transport."""

import hashlib
import json
import os
import socket
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

VERSION = "0.28.1"
SHA256 = "75e98c5f16b0f35b567856f597f06ff2270a374470a5c2392242528e3e3e42fc"
CACHE = Path(__file__).parents[2] / ".engines" / f"httpx-{VERSION}"
HERE = Path(__file__).parent
PLUGINS = os.pathsep.join([str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
PORT = 8000
"""Where the suite's own server listens; it can't be told otherwise."""


@dataclass(frozen=True)
class Run:
    """What became of the suite's tests.

    Attributes:
        results: Each test's name, and whether it failed.
        summary: The last line that pytest said.
    """

    results: dict[str, bool]
    summary: str

    @property
    def failed(self) -> set[str]:
        """The tests that failed."""
        return {name for name, is_failed in self.results.items() if is_failed}


def give_up(why: str) -> None:
    """Skip where something is missing; fail where nothing may be."""
    (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(why)


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a pristine copy of httpx's source distribution."""
    archive = CACHE / f"httpx-{VERSION}.tar.gz"
    if not archive.exists():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "httpx"]
        done = subprocess.run(  # noqa: S603 - our own command
            [*command, "--dest", str(CACHE), f"httpx=={VERSION}"], check=False, capture_output=True, text=True
        )
        if done.returncode:
            give_up(f"httpx's source distribution can't be had: {done.stderr.strip()[-200:]}")
    assert SHA256 == hashlib.sha256(archive.read_bytes()).hexdigest()
    folder = tmp_path_factory.mktemp("httpx")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    return folder / f"httpx-{VERSION}"


def run(suite: Path, name: str, *options: str, **environment: str) -> Run:
    """Run the suite in a process and a configuration of its own."""
    report = suite.parent / f"{name}.xml"
    plugins = [
        f"-pno:{plugin}" for plugin in ("cacheprovider", "xdist", "cov", "hypothesispytest", "anyio.pytest_plugin")
    ]
    done = subprocess.run(  # noqa: S603 - our own command
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "--tb=short",
            "--timeout=60",
            *plugins,
            "-pauthorities",
            "-pgarbage",
            f"--junitxml={report}",
            *options,
        ],
        cwd=suite,
        env={**os.environ, "PYTEST_ADDOPTS": "", "PYTHONPATH": PLUGINS, **environment},
        check=False,
        capture_output=True,
        text=True,
    )
    assert report.exists(), done.stdout[-2000:] + done.stderr[-2000:]
    cases = ET.parse(report).getroot().iter("testcase")  # noqa: S314 - pytest wrote it
    results = {
        f"{case.get('classname')}::{case.get('name')}": any(child.tag in {"failure", "error"} for child in case)
        for case in cases
    }
    return Run(results, f"{name}: {done.stdout.strip().splitlines()[-1]}")


@pytest.mark.timeout(300)
def test_httpxs_own_tests_see_no_difference(suite: Path) -> None:
    """No test fails with every transport wrapped that doesn't fail bare; every request was recorded, with a span."""
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", PORT)) == 0:
            give_up(f"port {PORT}, where httpx's tests have their server, is taken")
    report = suite.parent / "report.json"
    bare = run(suite, "bare")
    wrapped = run(suite, "wrapped", "-pwrapped_httpx", WRAPPED_HTTPX_REPORT=str(report))
    recorded = json.loads(report.read_text(encoding="utf-8"))
    print(bare.summary, wrapped.summary, f"recorded: {recorded}", sep="\n")  # noqa: T201 - pytest shows it with -rP
    print("fail bare:", *sorted(bare.failed), sep="\n")  # noqa: T201 - as above
    assert bare.results.keys() == wrapped.results.keys()
    assert set() == wrapped.failed - bare.failed
    assert len(bare.failed) < len(bare.results) / 50
    assert {} == recorded["faults"]
    assert recorded["recorded"] == recorded["exported"] == recorded["spans"] > 400
