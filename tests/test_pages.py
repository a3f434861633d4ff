"""What the metrics listener promises: the pages and their negotiation, and that no client can hold it up."""

import gzip
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from subprocess import run
from time import time_ns
from urllib.parse import urlsplit

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from call_initiation.errors import ListenError
from call_initiation.events import Refusal
from call_initiation.pages.landing import POLICY
from call_initiation.pages.pages import Listener
from call_initiation.recording.aggregate import Aggregate
from call_initiation.recording.recent import Recent
from call_initiation.telemetry.prometheus import SnapshotCollector
from samples import ACCEPTED, REFUSED

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
PATIENCE = 20.0


@pytest.fixture
def aggregate() -> Aggregate:
    """Return an aggregate of two calls."""
    aggregate = Aggregate()
    aggregate.record(ACCEPTED)
    aggregate.record(REFUSED)
    return aggregate


def listening(aggregate: Aggregate, address: str = "127.0.0.1", *, patience: float = PATIENCE) -> Listener:
    """Return a listener on a free port."""
    registry = CollectorRegistry()
    registry.register(SnapshotCollector(aggregate.snapshot))
    recent = Recent(dict)
    recent.record(replace(REFUSED, started_at=time_ns()))
    return Listener(registry, aggregate.snapshot, recent, address, 0, patience=patience)


@pytest.fixture
def listener(aggregate: Aggregate) -> Iterator[Listener]:
    """Yield a listener."""
    listener = listening(aggregate)
    yield listener
    listener.close()


def place(listener: Listener) -> tuple[str, int]:
    """Return where it listens."""
    parts = urlsplit(listener.url)
    return parts.hostname or "", parts.port or 0


def asked(
    listener: Listener, path: str, method: str = "GET", headers: dict[str, str] | None = None
) -> tuple[HTTPResponse, bytes]:
    """Return an answer and its body."""
    connection = HTTPConnection(*place(listener), timeout=PATIENCE)
    connection.request(method, path, headers=headers or {})
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer, content


def test_the_metrics_are_prometheus_text(listener: Listener) -> None:
    """As the text format of version 0.0.4, where nothing else is asked for."""
    answer, content = asked(listener, "/metrics")
    assert "text/plain; version=0.0.4; charset=utf-8" == answer.headers["Content-Type"]
    assert b"call_initiation_attempts_total{" in content


def test_exemplars_come_with_openmetrics(listener: Listener) -> None:
    """Asked for OpenMetrics, the answer parses as such and its counters carry their exemplars."""
    answer, content = asked(listener, "/metrics", headers={"Accept": OPENMETRICS})
    families = {family.name: family for family in text_string_to_metric_families(content.decode())}
    assert answer.headers["Content-Type"].startswith(OPENMETRICS)
    assert all(sample.exemplar for sample in families["call_initiation_attempts"].samples)


def test_metrics_are_compressed_when_asked_for(listener: Listener) -> None:
    """As Prometheus does."""
    answer, content = asked(listener, "/metrics", headers={"Accept-Encoding": "gzip"})
    assert "gzip" == answer.headers["Content-Encoding"]
    assert asked(listener, "/metrics")[1] == gzip.decompress(content)


def test_promtool_finds_nothing_to_mend(listener: Listener, engine: Callable[[str], Path]) -> None:
    """The exposition is as Prometheus's own linter wants it."""
    _, content = asked(listener, "/metrics")
    linted = run([engine("promtool"), "check", "metrics"], input=content, capture_output=True, check=False)  # noqa: S603 - the engine is a program that we chose
    assert (0, b"", b"") == (linted.returncode, linted.stdout, linted.stderr)


def test_the_page_is_html_under_a_policy_of_its_own(listener: Listener) -> None:
    """It may use its style, its script and its own address; whoever frames or sniffs it gets nothing."""
    answer, content = asked(listener, "/")
    assert (200, "text/html; charset=utf-8") == (answer.status, answer.headers["Content-Type"])
    assert POLICY == answer.headers["Content-Security-Policy"]
    assert b"conversation.error.no.user.station" in content


@pytest.mark.parametrize("query", ["window=10m", "window=1h", "window=all", "window=7&window=all", "other=1", ""])
def test_the_page_tells_of_the_window_that_is_asked_for(listener: Listener, query: str) -> None:
    """The last one asked for, where there are several; of an hour, where none is."""
    word = query.rpartition("window=")[2] if "window=" in query else "1h"
    answer, content = asked(listener, f"/?{query}")
    assert (200, 1) == (answer.status, content.count(b'aria-current="page"'))
    assert f'href="/?window={word}" aria-current'.encode() in content


@pytest.mark.parametrize("word", ["7", "%3Cscript%3E", "1H"])
def test_a_window_that_there_is_not_is_refused_with_those_that_there_are(listener: Listener, word: str) -> None:
    """And nothing of what was asked for is repeated."""
    answer, content = asked(listener, f"/?window={word}")
    assert (400, b"no such window; try /?window=10m, /?window=1h, /?window=all\n") == (answer.status, content)


@pytest.mark.parametrize("path", ["/", "/metrics", "/-/healthy", "/nowhere", "/?window=7"])
def test_head_says_what_get_would(listener: Listener, path: str) -> None:
    """The same status and headers, the length included, and no body."""
    got, content = asked(listener, path)
    headed, nothing = asked(listener, path, "HEAD")
    assert b"" == nothing
    assert str(len(content)) == headed.headers["Content-Length"]
    assert (got.status, got.headers["Content-Type"]) == (headed.status, headed.headers["Content-Type"])


@pytest.mark.parametrize("path", ["/", "/metrics", "/-/healthy", "/nowhere"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "BREW"])
def test_other_methods_are_refused(listener: Listener, path: str, method: str) -> None:
    """With 405 and what is allowed (RFC 9110, section 15.5.6)."""
    answer, _ = asked(listener, path, method)
    assert (405, "GET, HEAD") == (answer.status, answer.headers["Allow"])


@pytest.mark.parametrize("path", ["/nowhere", "/metrics/", "/metrics.html", "/%2e%2e/etc/passwd"])
def test_what_is_not_there_is_not_found(listener: Listener, path: str) -> None:
    """With a hint at what is."""
    answer, content = asked(listener, path)
    assert (404, b"not found; try / or /metrics\n") == (answer.status, content)


def test_every_answer_forbids_sniffing_and_caching(listener: Listener) -> None:
    """Errors too."""
    for path in ("/", "/metrics", "/-/ready", "/nowhere"):
        answer, _ = asked(listener, path)
        assert ("nosniff", "no-store") == (answer.headers["X-Content-Type-Options"], answer.headers["Cache-Control"])


def test_health_and_readiness(listener: Listener) -> None:
    """Readiness ends when draining begins; health doesn't."""
    assert b"healthy\n" == asked(listener, "/-/healthy")[1]
    assert b"ready\n" == asked(listener, "/-/ready")[1]
    listener.is_ready = False
    answer, content = asked(listener, "/-/ready")
    assert (503, b"draining\n") == (answer.status, content)
    assert 200 == asked(listener, "/-/healthy")[0].status


def test_page_and_metrics_show_what_was_recorded_since(aggregate: Aggregate, listener: Listener) -> None:
    """Each answer is of the moment that it was asked for."""
    aggregate.record(replace(REFUSED, refusal=Refusal(codes=("brand.new",))))
    assert all(b"brand.new" in asked(listener, path)[1] for path in ("/", "/metrics"))


def test_a_slow_client_is_cut_however_it_spends_its_time(aggregate: Aggregate) -> None:
    """One that sends nothing, and one that never ends its headers, get no answer and an end."""
    listener = listening(aggregate, patience=0.3)
    with socket.create_connection(place(listener)) as silent, socket.create_connection(place(listener)) as dripping:
        dripping.sendall(b"GET / HTTP/1.1\r\nX-Drip: ")
        for client in (silent, dripping):
            client.settimeout(PATIENCE)
            assert b"" == client.recv(1)
    listener.close()


def test_a_client_within_its_time_is_not_cut(aggregate: Aggregate) -> None:
    """Others being cut is no reason."""
    listener = listening(aggregate)
    with socket.create_connection(place(listener)) as client:
        client.sendall(b"GET /-/healthy HTTP/1.1\r\n")
        assert 200 == asked(listener, "/-/healthy")[0].status
        client.sendall(b"\r\n")
        client.settimeout(PATIENCE)
        assert client.recv(12).startswith(b"HTTP/1.0 200")
    listener.close()


def test_only_a_few_are_served_at_once(listener: Listener) -> None:
    """The ninth is hung up on at once; when one of the eight has gone, there is room again."""
    with ExitStack() as stack:
        clients = [stack.enter_context(socket.create_connection(place(listener), PATIENCE / 2)) for _ in range(9)]
        assert b"" == clients[8].recv(1)
        clients[0].sendall(b"GET /-/healthy HTTP/1.1\r\n\r\n")
        while clients[0].recv(1_000):
            pass
        assert 200 == asked(listener, "/-/healthy")[0].status


def test_a_client_that_hangs_up_is_no_news(listener: Listener, capfd: pytest.CaptureFixture[str]) -> None:
    """Nothing is written to the dialer's stderr, and the next one is served."""
    with socket.create_connection(place(listener)) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    assert 200 == asked(listener, "/-/healthy")[0].status
    assert ("", "") == capfd.readouterr()


def test_it_listens_on_ipv6_too(aggregate: Aggregate) -> None:
    """And writes such an address as URLs do."""
    listener = listening(aggregate, "::1")
    assert listener.url.startswith("http://[::1]:")
    assert 200 == asked(listener, "/-/healthy")[0].status
    listener.close()


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_an_address_that_is_taken_is_named(aggregate: Aggregate, address: str) -> None:
    """With the system's reason, and what to do."""
    listener = listening(aggregate, address)
    port = urlsplit(listener.url).port
    with pytest.raises(ListenError) as caught:
        Listener(CollectorRegistry(), aggregate.snapshot, Recent(dict), address, port or 0)
    listener.close()
    shown = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    reason = "Address already in use"
    assert f"cannot listen on {shown}: {reason}; free the port, or choose another address" == str(caught.value)


def test_an_address_of_another_machine_has_no_port_to_be_freed(aggregate: Aggregate) -> None:
    """Only another address helps; this one is kept for documents (RFC 5737)."""
    with pytest.raises(ListenError) as caught:
        listening(aggregate, "192.0.2.1")
    sentence = "cannot listen on 192.0.2.1:0: Cannot assign requested address; choose another address"
    assert sentence == str(caught.value)
