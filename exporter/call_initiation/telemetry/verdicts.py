"""What became of an export: the exporters of OpenTelemetry say only whether it failed, so the collector is listened to.

What can be tried again (OTLP specification, "Failures") the exporters try again by themselves, for seconds; whether to
go on after that is judged here. The collector's last answer tells, by the specification's tables, and also which part
of a batch it refused. Only where no answer can be seen, the time must tell: a failure that comes back at once is one
for good.
"""

from collections.abc import Callable
from importlib import import_module
from time import monotonic, time
from types import SimpleNamespace
from typing import Any, Final, TypeVar

from call_initiation.api.pacing import LONGEST_WAIT, retry_after
from call_initiation.telemetry.delivery import Delivered, Verdict

Batch = TypeVar("Batch")
Export = Callable[[Batch], Verdict]
"""Exports a batch."""

_AT_ONCE: Final = 0.5
"""Seconds below which an exporter hasn't tried again: its first pause is 0.8 s or more."""

_TRY_AGAIN: Final = frozenset({429, 502, 503, 504})
"""Answers after which a batch may be sent again (OTLP specification, "Retryable Response Codes"); no other may."""

_CALL_AGAIN: Final = frozenset(
    {"CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"}
)
"""The same for gRPC (OTLP specification, "OTLP/gRPC Response")."""

_CALL_AGAIN_IF_TOLD: Final = "RESOURCE_EXHAUSTED"
"""The same, but only with a `RetryInfo`: without one the server will never take so much."""

_RETRY_INFO: Final = "google.rpc.retryinfo-bin"
_STATUS_DETAILS: Final = "grpc-status-details-bin"


def by_time(export: Callable[[Any], object], success: object) -> Export[Any]:
    """Return `export`, made to tell a failure for now from one for good by the time that it took."""

    def exported(batch: Any) -> Verdict:
        began = monotonic()
        if export(batch) is success:
            return Verdict(Delivered.YES)
        return Verdict(Delivered.NEVER if monotonic() - began < _AT_ONCE else Delivered.NOT_NOW)

    return exported


def by_answer(make: Callable[..., Any]) -> Export[Any]:
    """Return the export of an exporter over HTTP, made to tell what the collector's last answer says.

    Args:
        make: Makes the exporter; takes a `session` of requests.
    """
    session = import_module("requests").Session()
    send, last = session.send, Verdict(Delivered.NEVER)

    def sent(request: Any, **options: Any) -> Any:
        nonlocal last
        last = Verdict(Delivered.NOT_NOW)  # it stays so if no answer comes
        response = send(request, **options)
        last = _of_answer(response.status_code, response.content, response.headers.get("Retry-After"))
        return response

    session.send = sent
    export = make(session=session).export

    def exported(batch: Any) -> Verdict:
        nonlocal last
        last = Verdict(Delivered.NEVER)  # it stays so if nothing could be sent: the batch itself is at fault
        export(batch)
        return last

    return exported


def by_status(make: Callable[..., Any]) -> Export[Any]:
    """Return the export of an exporter over gRPC, made to tell what the collector's last status says.

    Args:
        make: Makes the exporter; takes `retryable_error_codes`, for by itself it tries again what is exhausted. For
            each channel that it opens it makes a stub, through which all its calls go.
    """
    grpc, last = import_module("grpc"), Verdict(Delivered.NEVER)
    exporter = make(retryable_error_codes=[code for code in grpc.StatusCode if code.name in _CALL_AGAIN])
    stub = exporter._stub  # noqa: SLF001 - it takes no interceptor, and tells nobody what it was told

    def listening(channel: Any) -> SimpleNamespace:
        call = stub(channel).Export

        def called(**request: Any) -> Any:
            nonlocal last
            try:
                response = call(**request)
            except grpc.RpcError as error:
                last = _of_failure(error)
                raise
            last = Verdict(Delivered.YES, _refused(response.SerializeToString()))
            return response

        return SimpleNamespace(Export=called)

    exporter._stub = listening  # noqa: SLF001 - as above; it is asked again when the exporter opens another channel
    exporter._client = listening(exporter._channel)  # noqa: SLF001 - as above

    def exported(batch: Any) -> Verdict:
        nonlocal last
        last = Verdict(Delivered.NEVER)  # as by an answer
        exporter.export(batch)
        return last

    return exported


def _of_answer(status: int, content: bytes, wait: str | None = None) -> Verdict:
    if status // 100 == 2:  # noqa: PLR2004 - every 2xx
        return Verdict(Delivered.YES, _refused(content))
    if status in _TRY_AGAIN:
        return Verdict(Delivered.NOT_NOW, wait=retry_after(wait, time()) or 0.0)
    return Verdict(Delivered.NEVER)


def _of_failure(error: Any) -> Verdict:
    status, wait = error.code().name, _wait(error)
    if status in _CALL_AGAIN or (status == _CALL_AGAIN_IF_TOLD and wait is not None):
        return Verdict(Delivered.NOT_NOW, wait=wait or 0.0)
    return Verdict(Delivered.NEVER)


def _wait(error: Any) -> float | None:
    """Return how many seconds a failed call's `RetryInfo` asks for, among the status's details or beside them."""
    details = import_module("google.rpc.error_details_pb2")
    told: dict[str, bytes] = dict(error.trailing_metadata() or ())
    try:
        packed = import_module("google.rpc.status_pb2").Status.FromString(told.get(_STATUS_DETAILS, b"")).details
        infos = [details.RetryInfo.FromString(told[_RETRY_INFO])] if _RETRY_INFO in told else []
        infos += [details.RetryInfo.FromString(one.value) for one in packed if one.Is(details.RetryInfo.DESCRIPTOR)]
    except import_module("google.protobuf.message").DecodeError:  # a proxy's own words
        return None
    waits = [min(max(info.retry_delay.ToNanoseconds() / 1e9, 0.0), LONGEST_WAIT) for info in infos]
    return max(waits, default=None)


def _refused(content: bytes) -> int:
    """Return how many records an answer says were refused; on the wire, the three signals' answers are alike."""
    answers = import_module("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
    try:
        return int(answers.ExportTraceServiceResponse.FromString(content).partial_success.rejected_spans)
    except import_module("google.protobuf.message").DecodeError:  # some collectors answer in words
        return 0
