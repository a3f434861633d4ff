"""What `collector` promises: OpenTelemetry's variables mean what they mean elsewhere."""

from io import StringIO

import pytest
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcLogs
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcMetrics
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpans
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import Counter, Histogram
from opentelemetry.sdk.metrics.export import AggregationTemporality, ConsoleMetricExporter, MetricExporter
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from call_initiation.errors import SettingsError
from call_initiation.recording.aggregate import Aggregate
from call_initiation.telemetry import collector, otlp
from call_initiation.telemetry.collector import Limits, Signal
from call_initiation.telemetry.delivery import Delivered, Verdict
from collector import Collector, refusing_port
from exports import called, record, span, spans_to
from samples import REFUSED

YES, NOT_NOW = Verdict(Delivered.YES), Verdict(Delivered.NOT_NOW)
OTLP = "OTEL_EXPORTER_OTLP_"
ENDPOINT = f"{OTLP}ENDPOINT"


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin with none of OpenTelemetry's variables."""
    for signal in Signal:
        for name in ("", "_ENDPOINT", "_PROTOCOL"):
            monkeypatch.delenv(f"OTEL_EXPORTER_OTLP_{signal}{name}", raising=False)
        monkeypatch.delenv(f"OTEL_{signal}_EXPORTER", raising=False)
    for name in (ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_SDK_DISABLED", "OTEL_EXPORTER_OTLP_TIMEOUT"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ("", False),
        ("explicit_bucket_histogram", False),
        (" Base2_Exponential_Bucket_Histogram ", True),
    ],
)
def test_the_kind_of_histograms(named: str, *, expected: bool) -> None:
    """With bounds of our own where nothing is said."""
    key = "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION"
    assert expected == collector.is_exponential({key: named})
    with pytest.raises(SettingsError, match=f"{key}: found 'summary', expected explicit_bucket_histogram or base2_"):
        collector.is_exponential({key: "summary"})


@pytest.mark.parametrize(
    ("named", "expected"), [("", True), ("trace_based", True), ("always_on", True), (" Always_Off ", False)]
)
def test_exemplars_can_be_turned_off(named: str, *, expected: bool) -> None:
    """The other filters let ours pass: each has a span that is exported."""
    assert expected == collector.has_exemplars({"OTEL_METRICS_EXEMPLAR_FILTER": named})


DELTA, CUMULATIVE = AggregationTemporality.DELTA, AggregationTemporality.CUMULATIVE
EXPONENTIAL = {Histogram: ExponentialBucketHistogramAggregation()}


@pytest.mark.parametrize(
    ("exporter", "expected"),
    [
        (OTLPMetricExporter(preferred_temporality={Counter: DELTA}, preferred_aggregation=EXPONENTIAL), (DELTA, True)),
        (OTLPMetricExporter(), (CUMULATIVE, False)),
        (ConsoleMetricExporter(StringIO(), preferred_temporality={Histogram: CUMULATIVE}), (CUMULATIVE, True)),
        (ConsoleMetricExporter(StringIO()), (DELTA, True)),
        (None, (DELTA, True)),
    ],
)
def test_an_exporter_that_was_handed_over_says_what_it_prefers(
    exporter: MetricExporter | None, expected: tuple[AggregationTemporality, bool]
) -> None:
    """What it doesn't say the environment says."""
    environment = {
        "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "delta",
        "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION": "base2_exponential_bucket_histogram",
    }
    assert expected == (collector.temporality(environment, exporter), collector.is_exponential(environment, exporter))


# -- an environment that isn't the process's ------------------------------------------------------------------------


def given(url: str, **others: str) -> dict[str, str]:
    """Return an environment that no exporter reads by itself."""
    return {ENDPOINT: url, f"{OTLP}HEADERS": "api-key=canary", f"{OTLP}COMPRESSION": "gzip", **others}


def test_exporters_over_http_are_told_of_it(sink: Collector) -> None:
    """Each signal on its own path, with the headers, compressed."""
    environment = given(sink.url)
    spans, events = collector.spans(None, environment), collector.events(None, environment)
    assert spans is not None
    assert events is not None
    assert (YES, YES) == (spans()([span()]), events()([record()]))
    assert ["/v1/traces", "/v1/logs"] == [path for path, _, _ in sink.requests]
    assert [("canary", "gzip")] * 2 == [(h["api-key"], h["content-encoding"]) for h in sink.headers]


def test_exporters_over_grpc_are_told_of_it() -> None:
    """The same, in gRPC's words."""
    seen: list[dict[str, str]] = []
    with called(seen=seen) as url:
        connect = collector.spans(None, given(url, **{f"{OTLP}PROTOCOL": "grpc"}))
        assert connect is not None
        assert YES == connect()([span()])
    assert ["canary"] == [metadata["api-key"] for metadata in seen]


def test_what_the_process_says_itself_is_left_to_the_exporter(sink: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its variables win, one by one."""
    monkeypatch.setenv(ENDPOINT, sink.url)
    connect = collector.spans(None, given(sink.url, **{f"{OTLP}TRACES_COMPRESSION": "none"}))
    assert connect is not None
    assert YES == connect()([span()])
    assert [("canary", None)] == [(h["api-key"], h.get("content-encoding")) for h in sink.headers]


def test_a_signals_own_headers_win_over_what_we_are_given(sink: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exporter reads them by itself."""
    monkeypatch.setenv(f"{OTLP}TRACES_HEADERS", "api-key=own")
    connect = collector.spans(None, given(sink.url))
    assert connect is not None
    assert YES == connect()([span()])
    assert ["own"] == [h["api-key"] for h in sink.headers]


def test_a_signal_with_an_endpoint_of_its_own_gets_no_common_key(
    sink: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes to somebody else."""
    monkeypatch.setenv(f"{OTLP}TRACES_ENDPOINT", f"{sink.url}/v1/traces")
    environment = given("http://127.0.0.1:9", **{f"{OTLP}TRACES_ENDPOINT": f"{sink.url}/v1/traces"})
    connect = collector.spans(None, environment)
    assert connect is not None
    assert YES == connect()([span()])
    assert not {"api-key", "content-encoding"} & sink.headers[0].keys()


# -- the variables ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("signal", list(Signal))
@pytest.mark.parametrize(
    ("environment", "is_on"),
    [
        ({}, False),
        ({ENDPOINT: ""}, False),
        ({ENDPOINT: "http://c"}, True),
        ({"OTEL_EXPORTER_OTLP_{}_ENDPOINT": "http://c"}, True),
        ({"OTEL_{}_EXPORTER": "otlp"}, True),
        ({"OTEL_{}_EXPORTER": " OTLP "}, True),
        ({"OTEL_{}_EXPORTER": "none", ENDPOINT: "http://c"}, False),
        ({"OTEL_{}_EXPORTER": "", ENDPOINT: "http://c"}, True),
        ({"OTEL_SDK_DISABLED": " true ", ENDPOINT: "http://c"}, False),
        ({"OTEL_SDK_DISABLED": "TRUE", "OTEL_{}_EXPORTER": "otlp"}, False),
        ({"OTEL_SDK_DISABLED": "false", ENDPOINT: "http://c"}, True),
        ({"OTEL_{}_EXPORTER": "console, otlp"}, True),
        ({"OTEL_{}_EXPORTER": " , "}, False),
    ],
)
def test_a_signal_is_on_when_the_environment_says_so(
    signal: Signal, environment: dict[str, str], caplog: pytest.LogCaptureFixture, *, is_on: bool
) -> None:
    """An endpoint or the exporter's name turns it on; `none` and the SDK's switch turn it off; none is a surprise."""
    named = {name.format(signal): value for name, value in environment.items()}
    assert is_on == collector.is_on(signal, named)
    assert [] == caplog.messages


def test_exporters_that_only_a_dialers_sdk_has_are_left_to_it(caplog: pytest.LogCaptureFixture) -> None:
    """A warning, once, and nothing is exported of the signal: whoever names another exporter doesn't want OTLP."""
    environment = {ENDPOINT: "http://c", "OTEL_METRICS_EXPORTER": "prometheus, pigeon"}
    off = {"OTEL_SDK_DISABLED": "true", "OTEL_METRICS_EXPORTER": "owl"}
    assert [None] * 3 == [collector.metrics(None, given) for given in (environment, environment, off)]
    assert [
        "OTEL_METRICS_EXPORTER: found 'prometheus, pigeon', expected otlp or none; we export nothing of it"
    ] == caplog.messages


def test_one_signals_endpoint_turns_no_other_on() -> None:
    """Each has its own."""
    environment = {"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "http://c"}
    assert [Signal.LOGS] == [signal for signal in Signal if collector.is_on(signal, environment)]


@pytest.mark.parametrize(
    ("environment", "protocol"),
    [
        ({}, "http"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": ""}, "http"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "grpc"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": " http/protobuf "}, "http"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf"}, "http"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_LOGS_PROTOCOL": "http/protobuf"}, "grpc"),
    ],
)
def test_a_signals_own_protocol_goes_before_the_common_one(environment: dict[str, str], protocol: str) -> None:
    """HTTP where none is named."""
    assert protocol == collector.protocol(Signal.TRACES, environment)


@pytest.mark.parametrize(
    ("named", "temporality"),
    [
        ("", AggregationTemporality.CUMULATIVE),
        ("Cumulative", AggregationTemporality.CUMULATIVE),
        ("delta", AggregationTemporality.DELTA),
        ("LOWMEMORY", AggregationTemporality.DELTA),
    ],
)
def test_the_temporality_is_spelled_in_any_case(named: str, temporality: AggregationTemporality) -> None:
    """Cumulative where none is named."""
    environment = {"OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": named}
    assert temporality is collector.temporality(environment)


def test_limits_come_from_the_batch_processors_variables() -> None:
    """Milliseconds there, seconds here."""
    assert Limits(10_000, 128, 1.0, 60.0) == collector.limits({})
    environment = {
        "OTEL_BSP_MAX_QUEUE_SIZE": "5",
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": " 2 ",
        "OTEL_BSP_SCHEDULE_DELAY": "250",
        "OTEL_METRIC_EXPORT_INTERVAL": "1500.5",
    }
    assert Limits(5, 2, 0.25, 1.5005) == collector.limits(environment)


SIZE, DELAY = "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "OTEL_BSP_SCHEDULE_DELAY"
TEMPORALITY = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE"
TRACES = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"


COMPRESSION, TIMEOUT = "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "OTEL_EXPORTER_OTLP_TIMEOUT"


def read_all(environment: dict[str, str]) -> object:
    """Read every variable, as a program of ours does."""
    collector.check(environment)
    limits, temporality = collector.limits(environment), collector.temporality(environment)
    return (
        limits,
        temporality,
        collector.protocol(Signal.TRACES, environment),
        collector.spans(None, {ENDPOINT: "http://c", **environment}),
    )


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        (SIZE, "many", f"{SIZE}: found 'many', expected a whole number above 0"),
        (SIZE, "0", f"{SIZE}: found '0', expected a whole number above 0"),
        (SIZE, "0.5", f"{SIZE}: found '0.5', expected a whole number above 0"),
        (SIZE, "-1", f"{SIZE}: found '-1', expected a whole number above 0"),
        (SIZE, "1" * 10, f"{SIZE}: found '1111111111', expected a whole number above 0"),
        (DELAY, "soon", f"{DELAY}: found 'soon', expected a number above 0"),
        (DELAY, "-1", f"{DELAY}: found '-1', expected a number above 0"),
        (DELAY, "inf", f"{DELAY}: found 'inf', expected a number above 0"),
        (DELAY, "nan", f"{DELAY}: found 'nan', expected a number above 0"),
        (TEMPORALITY, "both", f"{TEMPORALITY}: found 'both', expected cumulative, delta or lowmemory"),
        (TRACES, "http/json", f"{TRACES}: found 'http/json', expected http/protobuf or grpc"),
        (COMPRESSION, "brotli", f"{COMPRESSION}: found 'brotli', expected none, gzip or deflate"),
        (TIMEOUT, "10s", f"{TIMEOUT}: found '10s', expected a number above 0"),
        ("OTEL_TRACES_EXPORTER", "zipkin", "OTEL_TRACES_EXPORTER: found 'zipkin', expected otlp or none"),
        ("OTEL_LOGS_EXPORTER", "otlp,none", "OTEL_LOGS_EXPORTER: found 'otlp,none', expected otlp or none"),
        ("OTEL_LOGS_EXPORTER", "otlp,console", "OTEL_LOGS_EXPORTER: found 'otlp,console', expected otlp or none"),
    ],
)
def test_what_cannot_be_used_is_named(key: str, value: str, sentence: str) -> None:
    """Which variable, what was found, what was expected."""
    with pytest.raises(SettingsError) as caught:
        read_all({key: value})
    assert sentence == str(caught.value)


# -- what is made of them -----------------------------------------------------------------------------------------


def test_nothing_is_made_where_nothing_is_asked_for() -> None:
    """Not even imported."""
    assert (None, None, None) == (collector.spans(None), collector.events(None), collector.metrics(None))


@pytest.mark.parametrize(
    ("endpoint", "found"),
    [
        ("collector:4318", "'collector:4318'"),
        ("collector", "'collector'"),
        ("http://", "'http://'"),
        ("http://[::1", "'http://[::1'"),
        ("ftp://collector", "'ftp://collector'"),
        ("dialer:canary@collector:4318", "what may hold a password"),
    ],
)
@pytest.mark.parametrize("key", [ENDPOINT, f"{OTLP}METRICS_ENDPOINT"])
def test_an_endpoint_that_is_no_url_is_met_at_the_start(key: str, endpoint: str, found: str) -> None:
    """Over HTTP; else each record would be refused, and only OpenTelemetry's own log would say why."""
    with pytest.raises(SettingsError) as caught:
        collector.metrics(None, {key: endpoint})
    assert f"{key}: found {found}, expected a URL like http://collector:4318" == str(caught.value)


def test_over_grpc_a_host_and_a_port_are_an_endpoint() -> None:
    """As OpenTelemetry's own exporter takes them."""
    given = {f"{OTLP}LOGS_PROTOCOL": "grpc", f"{OTLP}LOGS_ENDPOINT": "collector:4317"}
    assert collector.events(None, given) is not None


def test_a_bad_protocol_is_met_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at the first call."""
    monkeypatch.setenv(ENDPOINT, "http://127.0.0.1:1")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")
    with pytest.raises(SettingsError):
        collector.metrics(None)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (COMPRESSION, ""),
        (COMPRESSION, " None "),
        (COMPRESSION, "GZIP"),
        (COMPRESSION, "deflate"),
        (f"{OTLP}COMPRESSION", ""),
        (TIMEOUT, ""),
    ],
)
def test_all_words_of_the_standard_can_be_said_over_grpc(key: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenTelemetry's own exporter can't be made with most of these; an empty one means unset."""
    monkeypatch.setenv(key, value)
    monkeypatch.setenv(f"{OTLP}PROTOCOL", "grpc")
    with called() as url:
        monkeypatch.setenv(ENDPOINT, url)
        connect = collector.spans(None)
        assert connect is not None
        assert YES == connect()([span()])


def test_every_signal_goes_to_its_own_path(sink: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over HTTP, by the exporters of OpenTelemetry's own."""
    monkeypatch.setenv(ENDPOINT, sink.url)
    aggregate = Aggregate()
    aggregate.record(REFUSED)
    data = otlp.MetricsView(AggregationTemporality.CUMULATIVE, Resource({}), "1.0", 1).data(aggregate.snapshot(), 2)
    connects = (collector.spans(None), collector.events(None), collector.metrics(None))
    verdicts = [
        connect()(batch) for connect, batch in zip(connects, ([span()], [record()], data), strict=True) if connect
    ]
    assert [YES] * 3 == verdicts
    assert ["/v1/traces", "/v1/logs", "/v1/metrics"] == [path for path, _, _ in sink.requests]
    assert (1, 1, True) == (len(sink.spans()), len(sink.records()), bool(sink.metrics()))


def test_grpc_is_spoken_where_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The exporters for gRPC are made; nobody listens, so an export has to wait."""
    monkeypatch.setenv(ENDPOINT, f"http://127.0.0.1:{refusing_port()}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1.5")
    connect = collector.spans(None)
    assert connect is not None
    assert NOT_NOW == connect()([span()])
    assert all((GrpcSpans, GrpcLogs, GrpcMetrics, collector.events(None), collector.metrics(None)))


def test_an_operators_own_session_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a credential provider is named, its session is used (and here it isn't installed)."""
    monkeypatch.setenv("OTEL_PYTHON_EXPORTER_OTLP_HTTP_TRACES_CREDENTIAL_PROVIDER", "vault")
    with pytest.raises(RuntimeError, match="vault"):
        spans_to(monkeypatch, "http://127.0.0.1:1")


def test_an_exporter_that_was_handed_over_is_used() -> None:
    """Whatever the environment says."""
    exporter = InMemorySpanExporter()
    connect = collector.spans(exporter)
    assert connect is not None
    assert YES == connect()([span()])
    assert 1 == len(exporter.get_finished_spans())
