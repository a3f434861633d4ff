"""What the end-to-end tests share: a collector that keeps what it gets, and a real one before it."""

import os
from collections.abc import Iterator

import pytest

from collector import Collector, Rotel, running_rotel


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin with none of OpenTelemetry's variables."""
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def rotel(sink: Collector) -> Iterator[Rotel]:
    """Return a real collector that forwards to `sink`."""
    with running_rotel(sink.url) as running:
        yield running
