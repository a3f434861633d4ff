"""What `tracing` promises: the right parent, the sampler's word, one client span a call, and the context given back."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from opentelemetry import baggage, trace
from opentelemetry import context as otel_context
from opentelemetry.instrumentation.httpx import AsyncOpenTelemetryTransport, SyncOpenTelemetryTransport
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    Decision,
    ParentBased,
    Sampler,
    SamplingResult,
)
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, StatusCode, TraceFlags, TraceState

from call_initiation import AsyncObservedTransport, Exporter, ObservedTransport
from call_initiation.calls.tracing import OpenSpan, Tracing
from call_initiation.events import SpanIds
from twins import CALLS, PAYLOAD, listening

URL = httpx.URL(f"https://api.example.com{CALLS}?expand=a")
REMOTE = SpanContext(0x5, 0x6, is_remote=True, trace_flags=TraceFlags(1), trace_state=TraceState([("vendor", "a")]))


class Told(Sampler):
    """A sampler that decides as it is told and notes what it was asked."""

    def __init__(self, decision: Decision) -> None:
        self.decision = decision
        self.asked: list[tuple[Any, ...]] = []

    def should_sample(  # noqa: PLR0917 - the SDK's signature
        self,
        parent_context: Any,
        trace_id: int,
        name: str,
        kind: Any = None,
        attributes: Any = None,
        links: Any = None,
        trace_state: Any = None,
    ) -> SamplingResult:
        """Decide."""
        self.asked.append((parent_context, trace_id, name, kind, attributes, links, trace_state))
        return SamplingResult(self.decision, attributes, trace_state=TraceState([("told", "so")]))

    def get_description(self) -> str:
        """Say what it is."""
        return "told"


class Pipeline:
    """A dialer's own pipeline, whose spans are kept."""

    def __init__(self, sampler: Sampler = ALWAYS_ON) -> None:
        self.kept = InMemorySpanExporter()
        self.provider = TracerProvider(sampler=sampler)
        self.provider.add_span_processor(SimpleSpanProcessor(self.kept))
        self.tracer = self.provider.get_tracer("dialer")

    def spans(self, kind: SpanKind = SpanKind.CLIENT) -> list[ReadableSpan]:
        """Return what was exported of a kind."""
        return [span for span in self.kept.get_finished_spans() if span.kind is kind]


@pytest.fixture
def untouched() -> Iterator[None]:
    """Demand that the test leaves the context as it was."""
    before = otel_context.get_current()
    yield
    assert before is otel_context.get_current()


pytestmark = pytest.mark.usefixtures("untouched")


def opened(tracing: Tracing) -> OpenSpan:
    """Return the span of a call that starts now."""
    span = tracing.open(CALLS, URL, pytest.fail)
    assert span is not None
    return span


def test_an_open_span_is_shown_as_others_are() -> None:
    """With its place in a trace."""
    assert "OpenSpan(SpanContext(trace_id=0x" in repr(OpenSpan(SpanIds(trace_id=1, span_id=2)))


def test_without_a_pipeline_and_a_caller_there_is_no_span() -> None:
    """Nothing is made up."""
    assert Tracing().open(CALLS, URL, pytest.fail) is None


def test_without_a_pipeline_the_callers_span_is_named() -> None:
    """Exemplars and events point at it; we export none."""
    pipeline = Pipeline()
    with pipeline.tracer.start_as_current_span("campaign") as caller:
        ids = opened(Tracing()).ids
        context = caller.get_span_context()
    assert SpanIds(trace_id=context.trace_id, span_id=context.span_id, adopted=True) == ids


def test_without_a_pipeline_a_callers_context_without_a_span_names_none() -> None:
    """Ids of zeros would be a link to nowhere."""
    token = otel_context.attach(baggage.set_baggage("campaign", "7"))
    assert Tracing().open(CALLS, URL, pytest.fail) is None
    otel_context.detach(token)


def test_a_callers_no_is_heeded_with_a_pipeline_and_without() -> None:
    """The SDK's own sampler does as the parent does; a span that isn't exported is none that a link can lead to."""
    unsampled = SpanContext(0x5, 0x6, is_remote=True, trace_flags=TraceFlags(0))
    token = otel_context.attach(trace.set_span_in_context(NonRecordingSpan(unsampled)))
    ours = opened(Tracing(TracerProvider(shutdown_on_exit=False)))
    ours.close()
    callers = opened(Tracing())
    otel_context.detach(token)
    assert [(False, False), (False, True)] == [(span.ids.sampled, span.ids.adopted) for span in (ours, callers)]


def test_a_root() -> None:
    """With nobody above, the generator gives both ids, and the sampler is asked about a client span."""
    sampler = Told(Decision.RECORD_AND_SAMPLE)
    span = opened(Tracing(Pipeline(sampler).provider))
    inside = trace.get_current_span().get_span_context()
    span.close()
    ids = span.ids
    assert (ids.trace_id, ids.span_id, True) == (inside.trace_id, inside.span_id, inside.trace_flags.sampled)
    assert (None, True, False, "told=so") == (ids.parent_span_id, ids.sampled, ids.adopted, ids.trace_state)
    assert (ids.trace_id, f"POST {CALLS}", SpanKind.CLIENT) == sampler.asked[0][1:4]
    assert {
        "http.request.method": "POST",
        "url.template": CALLS,
        "server.address": "api.example.com",
        "server.port": 443,
    } == sampler.asked[0][4]


@pytest.mark.parametrize("flags", range(4))
def test_what_is_known_of_a_trace_is_told_to_those_below(flags: int) -> None:
    """Whether its id is random stays as the caller has it (W3C Trace Context, level 2); the SDK's own are random."""
    remote = SpanContext(0x5, 0x6, is_remote=True, trace_flags=TraceFlags(flags))
    token = otel_context.attach(trace.set_span_in_context(NonRecordingSpan(remote)))
    below = opened(Tracing(Pipeline(ALWAYS_ON).provider))
    inside = trace.get_current_span().get_span_context()
    below.close()
    otel_context.detach(token)
    root = opened(Tracing(Pipeline(ALWAYS_ON).provider))
    root.close()
    assert (flags | TraceFlags.SAMPLED, 3) == (inside.trace_flags, root.get_span_context().trace_flags)


def test_what_is_told_to_the_current_span_reaches_the_callers_own() -> None:
    """Code of the dialer's that runs inside the call, a hook of its transport say, means the span that it knows of."""
    pipeline = Pipeline()
    with pipeline.tracer.start_as_current_span("campaign"):
        inside = opened(Tracing(pipeline.provider))
        current = trace.get_current_span()
        assert current.is_recording()
        current.set_attribute("one", 1)
        current.set_attributes({"two": 2})
        current.add_event("sent", {"bytes": 3})
        current.add_link(REMOTE, {"kind": "retry"})
        current.record_exception(ValueError("odd"))
        current.set_status(StatusCode.ERROR, "odd")
        current.update_name("call")
        current.end()
        inside.close()
    (caller,) = pipeline.kept.get_finished_spans()
    assert ("call", {"one": 1, "two": 2}) == (caller.name, dict(caller.attributes or {}))
    assert ["sent", "exception"] == [event.name for event in caller.events]
    assert [REMOTE] == [link.context for link in caller.links]
    assert (StatusCode.ERROR, "odd") == (caller.status.status_code, caller.status.description)


def test_without_a_caller_nobody_hears() -> None:
    """As without us."""
    span = opened(Tracing(Pipeline().provider))
    current = trace.get_current_span()
    current.set_attribute("one", 1)
    assert not current.is_recording()
    span.close()


@pytest.mark.parametrize("decision", [Decision.DROP, Decision.RECORD_ONLY])
def test_the_samplers_no(decision: Decision) -> None:
    """What the sampler declines isn't sampled, and those below are told so."""
    span = opened(Tracing(Pipeline(Told(decision)).provider))
    assert not trace.get_current_span().get_span_context().trace_flags.sampled
    span.close()
    assert not span.ids.sampled


def test_a_remote_parent() -> None:
    """A parent from another process is the parent, and a parent-based sampler sees it."""
    token = otel_context.attach(trace.set_span_in_context(NonRecordingSpan(REMOTE)))
    span = opened(Tracing(Pipeline(ParentBased(ALWAYS_OFF)).provider))
    span.close()
    otel_context.detach(token)
    ids = span.ids
    assert (REMOTE.trace_id, REMOTE.span_id, True, True, "vendor=a") == (
        ids.trace_id, ids.parent_span_id, ids.parent_is_remote, ids.sampled, ids.trace_state,
    )  # fmt: skip


def test_baggage_goes_on() -> None:
    """What else is in the caller's context stays there while the call runs."""
    token = otel_context.attach(baggage.set_baggage("campaign", "7"))
    span = opened(Tracing(Pipeline().provider))
    assert "7" == baggage.get_baggage("campaign")
    span.close()
    span.close()
    otel_context.detach(token)


@pytest.mark.parametrize(
    ("kind", "attributes", "is_adopted"),
    [
        (SpanKind.CLIENT, {"http.request.method": "POST", "url.full": str(URL)}, True),
        (SpanKind.CLIENT, {"http.method": "POST", "http.url": str(URL)}, True),
        (SpanKind.CLIENT, {"http.method": "GET", "http.url": str(URL)}, False),
        (SpanKind.CLIENT, {"http.method": "POST", "http.url": "https://api.example.com/other"}, False),
        (SpanKind.CLIENT, {}, False),
        (SpanKind.INTERNAL, {"http.method": "POST", "http.url": str(URL)}, False),
        (SpanKind.SERVER, {"http.request.method": "POST", "url.full": str(URL)}, False),
    ],
)
def test_only_the_client_span_of_this_request_is_adopted(
    kind: SpanKind,
    attributes: dict[str, str],
    is_adopted: bool,  # noqa: FBT001 - a parameter of pytest's
) -> None:
    """Every other span is the parent of ours."""
    pipeline = Pipeline()
    with pipeline.tracer.start_as_current_span("outer", kind=kind, attributes=attributes) as outer:
        span = opened(Tracing(pipeline.provider))
        span.close()
        outer_id = outer.get_span_context().span_id
    assert (is_adopted, outer_id) == (span.ids.adopted, span.ids.span_id if is_adopted else span.ids.parent_span_id)


def test_a_client_span_that_is_not_exported_is_not_adopted() -> None:
    """A failure must be exported: where the other span records without being sampled, ours is its child."""
    pipeline = Pipeline(Told(Decision.RECORD_ONLY))
    attributes = {"http.method": "POST", "http.url": str(URL)}
    with pipeline.tracer.start_as_current_span("outer", kind=SpanKind.CLIENT, attributes=attributes):
        span = opened(Tracing(pipeline.provider))
        span.close()
    assert not span.ids.adopted


def test_a_client_span_that_has_ended_is_not_adopted() -> None:
    """It is told nothing any more, and its call would have no span that tells of it."""
    pipeline = Pipeline()
    asked = {"http.request.method": "POST", "url.full": str(URL)}
    with pipeline.tracer.start_as_current_span("POST", kind=SpanKind.CLIENT, attributes=asked) as ended:
        ended.end()
        span = opened(Tracing(pipeline.provider))
        span.close()
    assert (False, ended.get_span_context().span_id) == (span.ids.adopted, span.ids.parent_span_id)


def test_a_span_is_described_as_long_as_it_records() -> None:
    """An adopted span that has ended gets nothing more; without a description it gets nothing at all."""
    pipeline, asked = Pipeline(), []

    def describe(observation: Any) -> dict[str, str]:
        asked.append(observation)
        return {"said": observation}

    attributes = {"http.method": "POST", "http.url": str(URL)}
    with pipeline.tracer.start_as_current_span("outer", kind=SpanKind.CLIENT, attributes=attributes):
        opened(Tracing()).describe("nothing")
        span = opened(Tracing(describe=describe))
        span.describe("first")
    span.describe("second")
    assert ["first"] == asked
    assert {**attributes, "said": "first"} == pipeline.spans()[0].attributes


# -- through the transports ------------------------------------------------------------------------------------------

REFUSAL = {"code": "bad.request", "details": [{"errorCode": "INVALID_AGENT_STATE"}]}
TOLD = {"call_initiation": {"agent_id": "9d4b", "agent_state": {"presence": "BUSY"}}}


class Streamed(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that is only there once it is read."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def __iter__(self) -> Iterator[bytes]:
        """Give it whole."""
        yield self._content

    async def __aiter__(self) -> Any:
        """Give it whole."""
        yield self._content


def upstream(status: int) -> httpx.MockTransport:
    """Return a transport whose answers are streamed, as they are over a wire."""
    content = httpx.Response(status, json=REFUSAL).content
    return httpx.MockTransport(lambda _: httpx.Response(status, stream=Streamed(content)))


def sync_dial(exporter: Exporter, pipeline: Pipeline, status: int, order: str) -> None:
    """Place a call with OpenTelemetry's transport outside or inside ours."""
    inner: Any = upstream(status)
    if order == "outside":
        inner = SyncOpenTelemetryTransport(ObservedTransport(inner, exporter), tracer_provider=pipeline.provider)
    else:
        inner = ObservedTransport(SyncOpenTelemetryTransport(inner, tracer_provider=pipeline.provider), exporter)
    with httpx.Client(transport=inner) as client, pipeline.tracer.start_as_current_span("campaign"):
        client.post(URL, json=PAYLOAD, extensions=TOLD)


def async_dial(exporter: Exporter, pipeline: Pipeline, status: int, order: str) -> None:
    """Place the same call by an async client."""

    async def dial() -> None:
        inner: Any = upstream(status)
        if order == "outside":
            inner = AsyncOpenTelemetryTransport(
                AsyncObservedTransport(inner, exporter), tracer_provider=pipeline.provider
            )
        else:
            inner = AsyncOpenTelemetryTransport(inner, tracer_provider=pipeline.provider)
            inner = AsyncObservedTransport(inner, exporter)
        async with httpx.AsyncClient(transport=inner) as client:
            with pipeline.tracer.start_as_current_span("campaign"):
                await client.post(URL, json=PAYLOAD, extensions=TOLD)

    asyncio.run(dial())


Dial = Callable[[Exporter, Pipeline, int, str], None]
each_dial = pytest.mark.parametrize("dial", [sync_dial, async_dial])


@each_dial
def test_another_instrumentation_outside(dial: Dial) -> None:
    """One client span for the request: theirs, with what is known of the call when the answer's headers are there."""
    pipeline = Pipeline()
    exporter, listed = listening(tracer_provider=pipeline.provider)
    with exporter:
        dial(exporter, pipeline, 400, "outside")
        exporter.flush()
    (span,) = pipeline.spans()
    (campaign,) = pipeline.spans(SpanKind.INTERNAL)
    assert campaign.context.span_id == span.parent.span_id
    expected = {
        "url.template": CALLS, "http.response.status_code": 400, "error.type": "400",
        "server.address": "api.example.com", "server.port": 443,
        "call_initiation.outcome": "rejected", "call_initiation.payload.shape": "create_call_request",
        "call_initiation.agent.id": "9d4b", "call_initiation.agent.id.source": "caller",
        "call_initiation.agent.presence": "BUSY", "call_initiation.agent.state": "busy",
        "call_initiation.agent.state.source": "caller", "call_initiation.agent.state.certainty": "known",
    }  # fmt: skip
    assert expected == {name: value for name, value in span.attributes.items() if name in expected}
    assert {name for name in span.attributes if name.startswith("call_initiation")} <= expected.keys()
    assert "99000000" not in str(span.to_json())
    (attempt,) = listed.attempts
    assert (span.context.span_id, "INVALID_AGENT_STATE") == (attempt.span.span_id, attempt.error_code)


@each_dial
def test_another_instrumentation_inside(dial: Dial) -> None:
    """Our span is the caller's child, and theirs is ours."""
    pipeline = Pipeline()
    exporter, _ = listening(tracer_provider=pipeline.provider)
    with exporter:
        dial(exporter, pipeline, 400, "inside")
        exporter.flush()
    theirs, ours = sorted(pipeline.spans(), key=lambda span: span.name == f"POST {CALLS}")
    (campaign,) = pipeline.spans(SpanKind.INTERNAL)
    assert (f"POST {CALLS}", StatusCode.ERROR) == (ours.name, ours.status.status_code)
    assert campaign.context.span_id == ours.parent.span_id
    assert ours.context.span_id == theirs.parent.span_id
    assert {campaign.context.trace_id} == {span.context.trace_id for span in (theirs, ours)}
    assert ("INVALID_AGENT_STATE", "bad.request") == ours.attributes["call_initiation.error.codes"]


@each_dial
@pytest.mark.parametrize("order", ["outside", "inside"])
@pytest.mark.parametrize(("status", "exported"), [(202, 0), (400, 1)])
def test_failures_are_exported_whatever_the_sampler_says(dial: Dial, order: str, status: int, exported: int) -> None:
    """Nothing is sampled, yet each failure has its span, which says that it is."""
    pipeline = Pipeline(ALWAYS_OFF)
    exporter, _ = listening(tracer_provider=pipeline.provider)
    with exporter:
        dial(exporter, pipeline, status, order)
        exporter.flush()
    assert [f"POST {CALLS}"] * exported == [span.name for span in pipeline.spans()]
    assert [True] * exported == [span.context.trace_flags.sampled for span in pipeline.spans()]


def test_a_span_that_outlives_the_body_hears_of_the_codes() -> None:
    """Where the other instrumentation's span still records when the body is read, it gets codes and category."""
    pipeline = Pipeline()
    exporter, _ = listening()
    attributes = {"http.request.method": "POST", "url.full": str(URL)}
    with (
        exporter,
        exporter.instrument(httpx.Client(transport=upstream(400))) as client,
        pipeline.tracer.start_as_current_span("call", kind=SpanKind.CLIENT, attributes=attributes) as span,
        client.stream("POST", URL, json=PAYLOAD) as response,
    ):
        assert "call_initiation.error.code" not in span.attributes
        response.read()
    assert "INVALID_AGENT_STATE" == pipeline.spans()[0].attributes["call_initiation.error.code"]
    assert "agent_state" == pipeline.spans()[0].attributes["call_initiation.error.category"]


def test_an_adopted_span_hears_of_a_failure() -> None:
    """A call without an answer has its outcome and its reason on the other instrumentation's span."""
    pipeline = Pipeline()
    exporter, _ = listening()

    def fail(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no", request=request)

    inner = ObservedTransport(httpx.MockTransport(fail), exporter)
    outer = SyncOpenTelemetryTransport(inner, tracer_provider=pipeline.provider)
    with exporter, httpx.Client(transport=outer) as client, pytest.raises(httpx.ConnectError):
        client.post(URL, json=PAYLOAD)
    assert "not_sent" == pipeline.spans()[0].attributes["call_initiation.outcome"]


def test_calls_side_by_side_keep_their_own_spans() -> None:
    """In one loop, each call's context is its own; each span's parent is the span of its own caller."""
    pipeline, seen = Pipeline(), {}

    async def handler(request: httpx.Request) -> httpx.Response:
        before = trace.get_current_span().get_span_context().span_id
        await asyncio.sleep(0)
        seen[request.headers["x-request-id"]] = before
        assert before == trace.get_current_span().get_span_context().span_id
        return httpx.Response(400, json=REFUSAL)

    async def call(client: httpx.AsyncClient, number: int) -> None:
        with pipeline.tracer.start_as_current_span(f"campaign {number}"):
            await client.post(URL, json=PAYLOAD, headers={"x-request-id": str(number)})

    async def dial() -> None:
        async with exporter.instrument(httpx.AsyncClient(transport=httpx.MockTransport(handler))) as client:
            await asyncio.gather(*(call(client, number) for number in range(20)))

    exporter, _ = listening(tracer_provider=pipeline.provider)
    with exporter:
        asyncio.run(dial())
        exporter.flush()
    parents = {span.context.span_id: span.name for span in pipeline.spans(SpanKind.INTERNAL)}
    named = {span.context.span_id: parents[span.parent.span_id] for span in pipeline.spans()}
    assert {str(n): f"campaign {n}" for n in range(20)} == {n: named[span_id] for n, span_id in seen.items()}
