"""What presets promise: data by name, the operator's variables first, and a key that nothing shows."""

import io
import logging
import os
import re
import traceback
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, ConsoleMetricExporter

from call_initiation import Exporter, catalogue
from call_initiation.errors import SettingsError
from call_initiation.telemetry import collector, presets
from call_initiation.telemetry.collector import Signal
from collector import Answer, Collector
from servers import Received, Server, answer

KEY = "eu01xx0canary0canary0canary0canary0NRAL"
NAMES = ("newrelic-us", "newrelic-eu", "newrelic-fedramp")


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin with none of OpenTelemetry's and New Relic's variables."""
    for name in [name for name in os.environ if name.startswith(("OTEL_", "NEW_RELIC_"))]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("name", "endpoint"),
    [
        ("newrelic-us", "https://otlp.nr-data.net"),
        ("newrelic-eu", "https://otlp.eu01.nr-data.net"),
        ("newrelic-fedramp", "https://gov-otlp.nr-data.net"),
    ],
)
def test_each_name_stands_for_what_new_relic_asks_for(name: str, endpoint: str) -> None:
    """As the rest of the program reads it, not as the preset spells it."""
    given = presets.environment(name, {"NEW_RELIC_LICENSE_KEY": KEY})
    assert (endpoint, "gzip", f"api-key={KEY}") == (
        given["OTEL_EXPORTER_OTLP_ENDPOINT"],
        given["OTEL_EXPORTER_OTLP_COMPRESSION"],
        given["OTEL_EXPORTER_OTLP_HEADERS"],
    )
    assert all(collector.is_on(signal, given) for signal in Signal)
    assert {"http"} == {collector.protocol(signal, given) for signal in Signal}
    assert AggregationTemporality.DELTA is collector.temporality(given)
    assert collector.is_exponential(given)
    assert {"newrelic.event.type": "CallInitiationError"} == presets.event_attributes(name)


def test_without_a_preset_the_environment_is_what_it_is() -> None:
    """And events get nothing."""
    assert os.environ is presets.environment(None)
    assert {} == presets.event_attributes(None)


def test_what_the_operator_set_wins() -> None:
    """Variable by variable; an empty one says nothing; no key is asked for where headers are set."""
    own = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://proxy.example.com",
        "OTEL_EXPORTER_OTLP_HEADERS": "api-key=theirs",
        "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "cumulative",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "",
        "OTHER": "kept",
    }
    given = presets.environment("newrelic-eu", own)
    assert {**own, "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip"}.items() <= given.items()
    assert "http/protobuf" == given["OTEL_EXPORTER_OTLP_PROTOCOL"]


def test_empty_headers_say_nothing() -> None:
    """So a key is asked for, and sent."""
    given = presets.environment("newrelic-eu", {"OTEL_EXPORTER_OTLP_HEADERS": "", "NEW_RELIC_LICENSE_KEY": KEY})
    assert f"api-key={KEY}" == given["OTEL_EXPORTER_OTLP_HEADERS"]


def test_the_key_may_stand_in_a_file(tmp_path: Path) -> None:
    """As containers are given secrets."""
    path = tmp_path / "key"
    path.write_text(f"{KEY}\n")
    given = presets.environment("newrelic-us", {"NEW_RELIC_LICENSE_KEY_FILE": str(path)})
    assert f"api-key={KEY}" == given["OTEL_EXPORTER_OTLP_HEADERS"]


def test_names_and_keys_that_cant_be_used_are_told_in_one_sentence() -> None:
    """A user's key is told from a license key; no key is shown."""
    mistakes = {
        ("newrelic", KEY): "preset: found 'newrelic', expected one of newrelic-us, newrelic-eu, newrelic-fedramp",
        ("newrelic-us", ""): "NEW_RELIC_LICENSE_KEY: found nothing, expected a value, or a file's path in "
        "NEW_RELIC_LICENSE_KEY_FILE",
        ("newrelic-us", "NRAK-CANARY"): "NEW_RELIC_LICENSE_KEY: found a user's key (NRAK-…), expected a license key, "
        "with which data are sent",
        ("newrelic-us", "canary, x=y"): "NEW_RELIC_LICENSE_KEY: found a value that is not shown, expected a license "
        "key: letters and digits alone",
    }
    for (name, key), expected in mistakes.items():
        with pytest.raises(SettingsError) as caught:
            presets.environment(name, {"NEW_RELIC_LICENSE_KEY": key})
        assert expected == str(caught.value)
        assert "canary" not in "".join(traceback.format_exception(caught.value)).lower()


def test_a_repr_shows_names_alone() -> None:
    """Whoever prints it."""
    shown = repr(presets.environment("newrelic-eu", {"NEW_RELIC_LICENSE_KEY": KEY, "A": "b"}))
    assert re.fullmatch(r"Environment\(A, NEW_RELIC_LICENSE_KEY, OTEL_[A-Z_, ]+\)", shown)


@pytest.mark.parametrize("status", [200, 403, 503])
def test_nothing_shows_the_key_whatever_new_relic_answers(
    status: int, sink: Collector, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Not the log down to DEBUG, not a repr, not /metrics, not the environment of a child."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", sink.url)
    monkeypatch.setenv("NEW_RELIC_LICENSE_KEY", KEY)
    sink.answer = Answer(status, {"Retry-After": "3600"})
    before = dict(os.environ)

    def refused(_: Received) -> list[bytes]:
        return [answer(400, b'{"code": "bad.request"}')]

    with (
        Server(refused) as server,
        Exporter(preset="newrelic-eu", prometheus_port=0) as exporter,
        exporter.instrument(httpx.Client(base_url=server.url, trust_env=False)) as client,
    ):
        client.post("/api/v2/conversations/calls", json={})
        exporter.flush(1.0)
        shown = httpx.get(f"{exporter.metrics_url}/metrics", trust_env=False).text
        shown += repr(exporter) + repr(vars(exporter))
    assert sink.requests
    assert before == dict(os.environ)
    assert KEY not in shown + caplog.text + "".join(map(repr, sink.raw))


def test_exponential_buckets_are_kept_where_metrics_are_exported_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """By OTLP, or by an exporter that is handed over; where they aren't exported, nobody minds the variable."""
    key = "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION"

    def has_powers(**options: Any) -> bool:
        with Exporter(**options) as exporter:
            exporter.aggregate.observe(catalogue.FEED_EVENT_LAG, (), 1.0)
            [family] = [family for family in exporter.aggregate.snapshot() if family.distributions]
            return family.distributions[()].powers is not None

    monkeypatch.setenv(key, "no such histogram")
    assert not has_powers()
    assert not has_powers(meter_provider=MeterProvider(shutdown_on_exit=False))
    with pytest.raises(SettingsError, match=key):
        Exporter(metric_exporter=ConsoleMetricExporter(out=io.StringIO()))
    monkeypatch.setenv(key, "base2_exponential_bucket_histogram")
    assert not has_powers()
    assert has_powers(metric_exporter=ConsoleMetricExporter(out=io.StringIO()))
