"""The caller's side of tracing: which span a call has, decided when it starts.

On the caller's path nothing is built that can be built later: a call gets its ids and a sampling decision here, and
its span, with every attribute, is made on the recorder's thread once all is known. What runs inside the call (an
instrumented transport, say) sees our ids as its parent; what it tells its current span, the caller's own span hears,
as it would without us.

Where another instrumentation has already opened the client span of this very request, that span is adopted: no second
one is exported, and as long as it records, what is known of the call by then is added to it. This alone is worked out
on the caller's path, for such a span ends with the call.
"""

from collections.abc import Callable, Mapping
from contextvars import Token
from typing import Any, Final

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import DEFAULT_ON, Decision, Sampler
from opentelemetry.trace import Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState
from opentelemetry.util.types import AnyValue, Attributes, AttributeValue

from call_initiation.calls.endpoints import port
from call_initiation.events import SpanIds

_NOBODY: Final = trace.INVALID_SPAN
_METHOD_KEYS: Final = ("http.request.method", "http.method")
_URL_KEYS: Final = ("url.full", "http.url")


Describe = Callable[[Any], Mapping[str, AttributeValue]]
"""An observation → the attributes that can be told of it while its call runs."""


class OpenSpan(Span):
    """A call's span while the call runs, for whoever asks in the call which span he is in; it records nothing itself.

    Args:
        ids: Its place in a trace.
        adopted: The other instrumentation's span, where there is one.
        attributes: What to tell an adopted span.
        covered: The span that would be the current one without this: it hears what is told to this one.
        is_random: Whether the trace's id is known to be random (W3C Trace Context, level 2).
    """

    def __init__(
        self,
        ids: SpanIds,
        adopted: Span | None = None,
        attributes: Describe | None = None,
        covered: Span = trace.INVALID_SPAN,
        is_random: bool = False,  # noqa: FBT001, FBT002 - as above
    ) -> None:
        self.ids = ids
        self.adopted = adopted
        self._attributes = attributes
        self._covered = covered
        self._is_random = is_random
        self._token: Token[Context] | None = None

    def get_span_context(self) -> SpanContext:
        """Return its place in a trace, as OpenTelemetry has it; made when it is asked for, for hardly anybody asks."""
        ids = self.ids
        state = TraceState.from_header([ids.trace_state]) if ids.trace_state else None
        flags = TraceFlags(ids.sampled * TraceFlags.SAMPLED | self._is_random * TraceFlags.RANDOM_TRACE_ID)
        return SpanContext(ids.trace_id, ids.span_id, False, flags, state)  # noqa: FBT003 - the field `is_remote`

    def is_recording(self) -> bool:
        """Tell whether what is told to it is heard."""
        return self._covered.is_recording()

    def set_attribute(self, key: str, value: AnyValue) -> None:
        """Pass it on."""
        self._covered.set_attribute(key, value)

    def set_attributes(self, attributes: Mapping[str, AnyValue]) -> None:
        """Pass them on."""
        self._covered.set_attributes(attributes)

    def add_event(self, name: str, attributes: Attributes = None, timestamp: int | None = None) -> None:
        """Pass it on."""
        self._covered.add_event(name, attributes, timestamp)

    def add_link(self, context: SpanContext, attributes: Attributes = None) -> None:
        """Pass it on."""
        self._covered.add_link(context, attributes)

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        """Pass it on."""
        self._covered.set_status(status, description)

    def update_name(self, name: str) -> None:
        """Pass it on."""
        self._covered.update_name(name)

    def record_exception(
        self,
        exception: BaseException,
        attributes: Attributes = None,
        timestamp: int | None = None,
        escaped: bool = False,  # noqa: FBT001, FBT002 - OpenTelemetry's
    ) -> None:
        """Pass it on."""
        self._covered.record_exception(exception, attributes, timestamp, escaped)

    def end(self, end_time: int | None = None) -> None:
        """Do nothing: it ends with its call, and the covered one with what its owner does."""

    def __repr__(self) -> str:
        """Return it as other spans are shown."""
        return f"{type(self).__name__}({self.get_span_context()!r})"

    def enter(self, context: Context) -> None:
        """Be the current span until `close`."""
        self._token = otel_context.attach(trace.set_span_in_context(self, context))

    def describe(self, observation: Any) -> None:
        """Add to an adopted span, as long as it records, what is known of its call."""
        if self.adopted is not None and self._attributes is not None and self.adopted.is_recording():
            self.adopted.set_attributes(self._attributes(observation))

    def close(self) -> None:
        """Give the caller's context back."""
        if self._token is not None:
            otel_context.detach(self._token)
            self._token = None


class Tracing:
    """Opens the spans of calls.

    With a `provider`, spans are ours: its sampler and its id generator decide. Without one, we export no spans, and
    a call only learns the caller's own span, for exemplars and events.
    """

    def __init__(self, provider: TracerProvider | None = None, describe: Describe | None = None) -> None:
        self._provider = provider
        self._describe = describe

    def open(self, template: str, url: Any, fault: Callable[[str], None]) -> OpenSpan | None:
        """Return the span of a call that starts now, or None where there is none; never raises.

        Args:
            template: The endpoint's URL template.
            url: The request's URL, httpx's object.
            fault: Counts a fault: a dialer's own sampler may fail, and the call is recorded without a span.
        """
        try:
            context = otel_context.get_current()
            if context:
                return self._opened(template, url, context)
            # Nobody traces the caller: the usual case, in which not to ask for a span saves 1 µs of the caller's time.
            return None if self._provider is None else _started(self._provider, template, url, _NOBODY, context)
        except Exception:  # noqa: BLE001 - a fault of ours must not become the call's
            fault("tracing")
            return None

    def _opened(self, template: str, url: Any, context: Context) -> OpenSpan | None:
        current = trace.get_current_span(context)
        parent = current.get_span_context()
        if parent.trace_flags.sampled and current.is_recording() and _is_client_span_of(current, url):
            return OpenSpan(_ids_of(parent), current, self._describe)
        if self._provider is None:
            return OpenSpan(_ids_of(parent)) if parent.is_valid else None
        return _started(self._provider, template, url, current, context)


def _started(provider: TracerProvider, template: str, url: Any, current: Span, context: Context) -> OpenSpan:
    parent = current.get_span_context()
    generator, is_root = provider.id_generator, not parent.is_valid
    trace_id = generator.generate_trace_id() if is_root else parent.trace_id
    if provider.sampler is DEFAULT_ON:  # needn't be asked: as the parent, or else yes
        is_sampled, state = is_root or parent.trace_flags.sampled, parent.trace_state
    else:
        is_sampled, state = _decision(provider.sampler, trace_id, template, url)
    span = OpenSpan(
        SpanIds(
            trace_id=trace_id,
            span_id=generator.generate_span_id(),
            parent_span_id=None if is_root else parent.span_id,
            parent_is_remote=parent.is_remote,
            sampled=is_sampled,
            trace_state=state.to_header() if state else "",
        ),
        covered=current,
        is_random=generator.is_trace_id_random() if is_root else parent.trace_flags.random_trace_id,
    )
    span.enter(context)
    return span


def _decision(sampler: Sampler, trace_id: int, template: str, url: Any) -> tuple[bool, TraceState]:
    """Return what the head sampler says, who may go by what is known of a call at its start."""
    known = {
        "http.request.method": "POST",
        "url.template": template,
        "server.address": url.host,
        "server.port": port(url.scheme, url.port),
    }
    decision = sampler.should_sample(None, trace_id, f"POST {template}", SpanKind.CLIENT, known)
    return decision.decision is Decision.RECORD_AND_SAMPLE, decision.trace_state or trace.DEFAULT_TRACE_STATE


def _ids_of(context: SpanContext) -> SpanIds:
    return SpanIds(
        trace_id=context.trace_id, span_id=context.span_id, sampled=context.trace_flags.sampled, adopted=True
    )


def _is_client_span_of(span: Span, url: Any) -> bool:
    """Tell whether `span` is the client span of a POST to this very URL, by its HTTP attributes, old or stable."""
    target: str = url.raw_path.decode("ascii", "replace")
    attributes: Mapping[str, AttributeValue] = getattr(span, "attributes", None) or {}
    return (
        getattr(span, "kind", None) is SpanKind.CLIENT
        and any(attributes.get(key) == "POST" for key in _METHOD_KEYS)
        and any(target in str(attributes.get(key, "")) for key in _URL_KEYS)
    )
