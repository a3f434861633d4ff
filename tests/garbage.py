"""Collects garbage after each test and never in one: what it has to complain of is blamed on whose it is.

A plugin of pytest, for httpx's own tests: what a test leaves would else be finalized in any later one, and fail that.
"""

import gc

import pytest


def pytest_collection_finish() -> None:
    """Look no more at what is there before the first test."""
    gc.collect()
    gc.freeze()
    gc.disable()


@pytest.hookimpl
def pytest_runtest_teardown() -> None:
    """Collect before pytest looks what finalizers have raised."""
    gc.collect()
