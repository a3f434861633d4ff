"""A dialer whose calls an exporter observes, and what the exporter then says; for the tests of exporters."""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from call_initiation import Exporter, Ledger

AGENT = "9d4b4c1e-0000-4000-8000-000000000001"
PAYLOAD = {"phoneNumber": "+33199000000"}
REFUSAL = {"code": "conversation.error.no.user.station", "message": "A station is required to place a call."}
SOON = 10.0


def refuse(_: httpx.Request) -> httpx.Response:
    """Answer as the API answers an agent without a station."""
    return httpx.Response(400, json=REFUSAL)


@contextmanager
def dialer(exporter: Exporter, status: int | None = None) -> Iterator[httpx.Client]:
    """Yield an instrumented client whose calls are refused, or answered with a status."""
    answer = refuse if status is None else lambda _: httpx.Response(status)
    transport = httpx.MockTransport(answer)
    with httpx.Client(transport=transport, base_url="https://api.example.com") as client:
        yield exporter.instrument(client)


def lawful(exporter: Exporter) -> dict[str, Ledger]:
    """Return the ledgers, each held to the law."""
    ledgers = exporter.ledgers()
    for ledger in ledgers.values():
        assert ledger.recorded == ledger.exported + ledger.pending + sum(ledger.dropped.values())
    return ledgers


def samples(exporter: Exporter, name: str) -> dict[tuple[str, ...], float]:
    """Return a metric's samples as a scraper sees them, by the values of their labels in the order of their names."""
    families = text_string_to_metric_families(generate_latest(exporter.registry).decode())
    return {
        tuple(value for _, value in sorted(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
        if sample.name == name
    }
