"""What `verdicts` promises: what the collector can't take now isn't lost, what it refuses isn't repeated."""

from collections.abc import Callable, Sequence
from threading import Event, Thread

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, RetryInfo
from google.rpc.status_pb2 import Status
from grpc import StatusCode
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from call_initiation.telemetry import collector, verdicts
from call_initiation.telemetry.delivery import Delivered, Verdict
from collector import PATIENCE, Answer, Collector, Fault, black_hole, refusing_port
from exports import called, span, spans_to

YES, NOT_NOW, NEVER = Verdict(Delivered.YES), Verdict(Delivered.NOT_NOW), Verdict(Delivered.NEVER)
LATER = Verdict(Delivered.NOT_NOW, wait=300.0)
"""What a collector that asks for an hour gets: no header may stop us for longer."""


# -- over HTTP ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (Answer(200), YES),
        (Answer(202), YES),
        (Answer(fault=Fault.PARTIAL), Verdict(Delivered.YES, refused=1)),
        (Answer(301), NEVER),
        (Answer(400), NEVER),
        (Answer(401), NEVER),
        (Answer(413), NEVER),
        (Answer(500), NEVER),
        (Answer(429, {"Retry-After": "0"}), NOT_NOW),
        (Answer(429, {"Retry-After": "17"}), Verdict(Delivered.NOT_NOW, wait=17.0)),
        (Answer(503, {"Retry-After": "Fri, 31 Dec 9999 23:59:59 GMT"}), LATER),
        (Answer(429, {"Retry-After": "3600"}), LATER),
        (Answer(502, {"Retry-After": "3600"}), LATER),
        (Answer(503, {"Retry-After": "3600"}), LATER),
        (Answer(504, {"Retry-After": "3600"}), LATER),
    ],
    ids=str,
)
def test_the_last_answer_tells(
    answer: Answer, verdict: Verdict, sink: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However fast it comes."""
    sink.answer = answer
    assert verdict == spans_to(monkeypatch, sink.url)([span()])


def test_a_slow_refusal_is_a_refusal(sink: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes longer than OpenTelemetry's first pause, and yet trying again can't help."""
    sink.answer = Answer(400, fault=Fault.SLOW)
    pause = Event()
    export = spans_to(monkeypatch, sink.url)
    verdicts: list[Verdict] = []
    exporting = Thread(target=lambda: verdicts.append(export([span()])))
    exporting.start()
    sink.wait(lambda: len(sink.requests) == 1)
    pause.wait(0.6)
    sink.hurry()
    exporting.join(PATIENCE)
    assert [NEVER] == verdicts


@pytest.mark.parametrize("fault", ["refused", "black hole"])
def test_no_answer_means_try_again(fault: str, sink: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where the time is so short that OpenTelemetry's exporter doesn't try again itself."""
    sink.answer = Answer(fault=Fault.BLACK_HOLE)
    url = sink.url if fault == "black hole" else f"http://127.0.0.1:{refusing_port()}"
    assert NOT_NOW == spans_to(monkeypatch, url, timeout="0.2")([span()])


def test_an_answer_in_words_is_an_answer(sink: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some collectors say `ok` or `{}`."""
    export = spans_to(monkeypatch, sink.url)
    for words in (b"ok", b"{}", b"<html>"):
        assert YES == verdicts._of_answer(200, words)
    assert YES == export([span()])


def test_a_batch_that_cannot_be_encoded_is_not_tried_again(sink: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was sent, and nothing ever could be."""
    export = spans_to(monkeypatch, sink.url)
    batches: list[Sequence[ReadableSpan]] = [[span()], [object()], [span()]]  # type: ignore[list-item]
    assert [YES, NEVER, YES] == [export(batch) for batch in batches]


# -- over gRPC ----------------------------------------------------------------------------------------------------


def failing(status: StatusCode, *details: tuple[str, bytes]) -> Callable[[grpc.ServicerContext], Message]:
    """Return what fails a call."""

    def answer(context: grpc.ServicerContext) -> Message:
        context.set_trailing_metadata(details)
        context.abort(status, "as the test says")

    return answer


def details(*told: Message) -> tuple[str, bytes]:
    """Return a status's details as a server sends them."""
    status = Status(code=8)
    for one in told:
        status.details.add().Pack(one)
    return "grpc-status-details-bin", status.SerializeToString()


HOUR = RetryInfo(retry_delay=Duration(seconds=3600))
BESIDE = ("google.rpc.retryinfo-bin", HOUR.SerializeToString())
EXHAUSTED, UNAVAILABLE = StatusCode.RESOURCE_EXHAUSTED, StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (lambda _: ExportTraceServiceResponse(), YES),
        (
            lambda _: ExportTraceServiceResponse(partial_success={"rejected_spans": 2}),
            Verdict(Delivered.YES, refused=2),
        ),
        *((failing(status, BESIDE), NEVER) for status in (StatusCode.INVALID_ARGUMENT, StatusCode.UNAUTHENTICATED)),
        *((failing(status), NEVER) for status in (StatusCode.UNIMPLEMENTED, StatusCode.INTERNAL, StatusCode.UNKNOWN)),
        *((failing(StatusCode[name], BESIDE), LATER) for name in sorted(verdicts._CALL_AGAIN)),
        (failing(UNAVAILABLE), NOT_NOW),
        (failing(EXHAUSTED), NEVER),
        (failing(EXHAUSTED, details(BadRequest())), NEVER),
        (failing(EXHAUSTED, ("grpc-status-details-bin", b"busy")), NEVER),
        (failing(EXHAUSTED, BESIDE), LATER),
        (failing(EXHAUSTED, details(BadRequest(), HOUR)), LATER),
        (
            failing(EXHAUSTED, details(RetryInfo(retry_delay=Duration(seconds=17)))),
            Verdict(Delivered.NOT_NOW, wait=17.0),
        ),
    ],
)
def test_the_last_status_tells(
    answer: Callable[[grpc.ServicerContext], Message], verdict: Verdict, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the specification's table, however fast it comes; what is exhausted comes back only where it says when."""
    with called(answer) as url:
        export = spans_to(monkeypatch, url, "0.7", "grpc")
        assert [verdict] * 2 == [export([span()]) for _ in range(2)]


def test_a_slow_status_is_no_other_status(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes longer than OpenTelemetry's first pause, and yet trying again can't help."""
    pause = Event()

    def refused(context: grpc.ServicerContext) -> Message:
        pause.wait(0.6)
        context.abort(StatusCode.INVALID_ARGUMENT, "no")

    with called(refused) as url:
        assert NEVER == spans_to(monkeypatch, url, protocol="grpc")([span()])


def test_what_is_exhausted_is_not_tried_again_by_the_exporter(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenTelemetry's would go on for seconds, and hold up all that waits behind it."""
    seen: list[dict[str, str]] = []
    with called(failing(EXHAUSTED), seen) as url:
        assert NEVER == spans_to(monkeypatch, url, protocol="grpc")([span()])
    assert 1 == len(seen)


def test_what_a_server_never_takes_is_not_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch above its limit is no matter of time, and is no batch below it."""
    with called(largest=3_000) as url:
        export = spans_to(monkeypatch, url, protocol="grpc")
        assert (NEVER, YES) == (export([span()] * 10), export([span()]))


@pytest.mark.parametrize("fault", ["refused", "black hole"])
def test_no_status_means_try_again(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where the time is so short that OpenTelemetry's exporter doesn't try again itself."""
    with black_hole() as port:
        url = f"http://127.0.0.1:{port if fault == 'black hole' else refusing_port()}"
        assert NOT_NOW == spans_to(monkeypatch, url, "0.2", "grpc")([span()])


def test_who_comes_back_is_heard_on_another_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenTelemetry's exporter opens one as soon as a collector is unavailable."""
    statuses = [StatusCode.INVALID_ARGUMENT, UNAVAILABLE]

    def unavailable_once(context: grpc.ServicerContext) -> Message:
        return failing(statuses.pop())(context)

    with called(unavailable_once) as url:
        assert NEVER == spans_to(monkeypatch, url, protocol="grpc")([span()])


def test_what_cannot_be_encoded_is_no_matter_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was sent, and what raises refuses for good."""
    with pytest.raises(AttributeError):
        spans_to(monkeypatch, f"http://127.0.0.1:{refusing_port()}", protocol="grpc")([object()])  # type: ignore[list-item]


# -- where no answer can be seen ----------------------------------------------------------------------------------


class Failing(SpanExporter):
    """An exporter of a dialer's own that fails after a while."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:  # noqa: ARG002 - the interface
        """Fail."""
        Event().wait(self.seconds)
        return SpanExportResult.FAILURE


@pytest.mark.parametrize(("seconds", "verdict"), [(0.0, NEVER), (0.55, NOT_NOW)])
def test_elsewhere_the_time_tells(seconds: float, verdict: Verdict) -> None:
    """Who failed at once has refused; who took its time has tried again by itself."""
    connect = collector.spans(Failing(seconds))
    assert connect is not None
    assert verdict == connect()([span()])
