"""What several test files share: engines (real programs that tests drive), a collector, the word on what is tested."""

import importlib.util
import logging
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from call_initiation import log
from collector import Collector

pytest_plugins = ["authorities", "program"]

settings.load_profile("ci")  # the same examples each time, however slow the machine

FIRST = (
    "test_store_processes",
    "test_httpx_suite",
    "test_store",
    "test_gateway_many",
    "test_feed",
    "test_gateway_sdk",
    "test_page",
    "test_dashboards",
    "test_demo",
    "test_demo_truth",
    "test_deploy",
    "test_shutdown",
)
"""The files that take longest, those that wait beside those that work."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that no worker is alone with it at the end."""
    places = {name: place for place, name in enumerate(FIRST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


def pytest_sessionstart() -> None:
    """Have Ctrl-C, which some tests send, do what it does in a terminal: a shell's background process ignores it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header() -> str:
    """Name the package under test: the checkout's, or a built wheel's."""
    spec = importlib.util.find_spec("call_initiation")
    return f"call_initiation: {spec and spec.origin}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Measure no branches in a test marked `untraced`, nor in what is set up for it.

    pytest-cov's own mark has no effect in the workers of pytest-xdist, where two collectors lie one on the other.
    """
    if not any(map(item.get_closest_marker, ("untraced", "hypothesis"))):
        return (yield)
    tracers = sys.gettrace(), threading.gettrace()
    sys.settrace(None)
    threading.settrace(None)
    try:
        return (yield)
    finally:
        threading.settrace(tracers[1])
        sys.settrace(tracers[0])


def _engine(name: str) -> Path:
    found = shutil.which(name)
    if found is not None:
        return Path(found)
    give_up = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
    return give_up(f"{name} isn't installed: `make engines` installs what the Makefile's ENGINES lists")


@pytest.fixture(scope="session")
def engine() -> Callable[[str], Path]:
    """Return a lookup of engines by command: without one a test is skipped, but fails where CI=true."""
    return _engine


@pytest.fixture(autouse=True)
def _quiet_logger() -> Iterator[None]:
    """Give our logger back as it was: the program sets it up for its whole process."""
    logger = logging.getLogger("call_initiation")
    before = logger.handlers, logger.level, logger.propagate
    yield
    logger.handlers, level, logger.propagate = before
    logger.setLevel(level)


@pytest.fixture
def _broken_log() -> Iterator[None]:
    """Have a filter of the dialer's fail at whatever we say."""

    def fail(_: logging.LogRecord) -> bool:
        raise ZeroDivisionError

    loggers = [logging.getLogger("call_initiation"), logging.getLogger("call_initiation.gateway")]
    log.lost()
    for logger in loggers:
        logger.addFilter(fail)
    yield
    for logger in loggers:
        logger.removeFilter(fail)
    log.lost()


@pytest.fixture
def sink() -> Iterator[Collector]:
    """Return a collector that keeps what it gets."""
    with Collector() as collector:
        yield collector
