"""Every metric and every attribute that this program emits, as data.

Exporters, documentation and dashboards are made from these two lists, so a name exists once. A metric's name is
OpenTelemetry's, with dots; Prometheus's name follows from it by the rules of the OpenTelemetry specification for
Prometheus compatibility (dots become underscores, the unit and `_total` are appended).
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """What a metric is, in the words of Prometheus."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Attributes:
        name: OpenTelemetry's name, dotted.
        kind: Counter, gauge or histogram.
        unit: UCUM, as OpenTelemetry writes it: `s`, or `{attempt}` for a count of things; empty for a flag.
        help: One sentence.
        labels: The label names, in the order in which values are given.
        buckets: Upper bounds of a histogram, without +Inf.
        max_series: How many label tuples it may have; beyond, labels are folded to `other` in the order of `folds`.
        folds: The labels to fold first.
    """

    name: str
    kind: Kind
    unit: str
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    max_series: int = 20
    folds: tuple[str, ...] = ()

    @property
    def prometheus_name(self) -> str:
        """The name on `/metrics`."""
        unit = "_seconds" if self.unit == "s" else ""
        total = "_total" if self.kind is Kind.COUNTER else ""
        return self.name.replace(".", "_") + unit + total


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of the span and of the failure event.

    Attributes:
        name: Its name.
        type: `string`, `int`, `double`, `boolean` or `string[]`.
        help: One sentence.
        example: A made-up value.
    """

    name: str
    type: str
    help: str
    example: str


_LATENCY: Final = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_AGE: Final = (1.0, 15.0, 60.0, 300.0, 1800.0)
_LAG: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0)

ATTEMPTS: Final = Metric(
    "call_initiation.attempts",
    Kind.COUNTER,
    "{attempt}",
    "Call starts by what became of them and by the agent's state strictly before the send; successes too.",
    ("endpoint", "outcome", "status_code", "error_code", "agent_state"),
    max_series=380,
    folds=("error_code", "agent_state", "status_code", "endpoint", "outcome"),
)
ERROR_CODES: Final = Metric(
    "call_initiation.error_codes",
    Kind.COUNTER,
    "{code}",
    "Codes in the bodies of refusals; a body with several codes counts once for each.",
    ("error_code", "category", "agent_state"),
    max_series=200,
    folds=("error_code", "agent_state", "category"),
)
DURATION: Final = Metric(
    "call_initiation.duration",
    Kind.HISTOGRAM,
    "s",
    "Time from the start of a call start to its answer's headers, or to its failure.",
    ("endpoint", "outcome"),
    buckets=_LATENCY,
    max_series=30,
    folds=("endpoint", "outcome"),
)
AGENT_STATE_AGE: Final = Metric(
    "call_initiation.agent_state.age",
    Kind.HISTOGRAM,
    "s",
    "Time from the agent's last state change to the send.",
    ("outcome", "agent_state"),
    buckets=_AGE,
    max_series=64,
    folds=("agent_state", "outcome"),
)
PAYLOAD_FINDINGS: Final = Metric(
    "call_initiation.payload.findings",
    Kind.COUNTER,
    "{finding}",
    "What a check of the request's body found, by what became of the call.",
    ("finding", "outcome"),
    max_series=60,
    folds=("finding", "outcome"),
)
STATE_JOINS: Final = Metric(
    "call_initiation.state.joins",
    Kind.COUNTER,
    "{join}",
    "Lookups of an agent's state as of a send, by how far the answer can be believed and who had told us.",
    ("certainty", "source"),
    max_series=12,
)
STATE_JOINS_LATE: Final = Metric(
    "call_initiation.state.joins.late",
    Kind.COUNTER,
    "{change}",
    "State changes that arrived after the settle window and would have changed a recorded join.",
)
ASYNC_FAILURES: Final = Metric(
    "call_initiation.async_failures",
    Kind.COUNTER,
    "{failure}",
    "Calls that were accepted and whose agent leg then failed, by the agent's state before that leg began.",
    ("error_code", "agent_state"),
    max_series=60,
    folds=("error_code", "agent_state"),
)
SUSPECTED_DUPLICATES: Final = Metric(
    "call_initiation.suspected_duplicates",
    Kind.COUNTER,
    "{attempt}",
    "Call starts for the same agent and destination within 10 seconds of an earlier one.",
    ("endpoint",),
    max_series=5,
)
AGENTS: Final = Metric(
    "call_initiation.agents",
    Kind.GAUGE,
    "{agent}",
    "Agents that we know of, by state now.",
    ("agent_state",),
    max_series=16,
)
AGENT_STATE_CHANGES: Final = Metric(
    "call_initiation.agent_state.changes",
    Kind.COUNTER,
    "{change}",
    "Changes of agents' states.",
    ("from_state", "to_state"),
    max_series=235,
    folds=("from_state", "to_state"),
)
FEED_UP: Final = Metric(
    "call_initiation.feed.up",
    Kind.GAUGE,
    "",
    "Whether the state feed is up: 1 or 0, and 1 with nobody to follow yet, if it has a token; absent without a feed.",
)
FEED_RECONNECTS: Final = Metric(
    "call_initiation.feed.reconnects",
    Kind.COUNTER,
    "{reconnect}",
    "Reconnects of the state feed.",
    ("reason",),
    max_series=16,
)
FEED_EVENTS: Final = Metric(
    "call_initiation.feed.events",
    Kind.COUNTER,
    "{event}",
    "Notifications taken from the state feed.",
    ("topic",),
    max_series=12,
)
FEED_EVENT_LAG: Final = Metric(
    "call_initiation.feed.event_lag",
    Kind.HISTOGRAM,
    "s",
    "Time from a change's server time, corrected for skew, to our hearing of it.",
    buckets=_LAG,
)
FEED_CLOCK_SKEW: Final = Metric(
    "call_initiation.feed.clock_skew", Kind.GAUGE, "s", "How far the server's clock is ahead of ours."
)
RECORDER_RECORDED: Final = Metric(
    "call_initiation.recorder.recorded",
    Kind.COUNTER,
    "{record}",
    "What each stage was given: recorded = exported + pending + dropped, exactly.",
    ("stage",),
    max_series=7,
)
RECORDER_EXPORTED: Final = Metric(
    "call_initiation.recorder.exported",
    Kind.COUNTER,
    "{record}",
    "What each stage has passed on whole.",
    ("stage",),
    max_series=7,
)
RECORDER_PENDING: Final = Metric(
    "call_initiation.recorder.pending", Kind.GAUGE, "{record}", "What each stage still holds.", ("stage",), max_series=7
)
RECORDER_RECOVERED: Final = Metric(
    "call_initiation.recorder.recovered",
    Kind.GAUGE,
    "{record}",
    "How many of what each stage was given an earlier process had recorded, and left in the journal.",
    ("stage",),
    max_series=2,
)
RECORDER_DROPPED: Final = Metric(
    "call_initiation.recorder.dropped",
    Kind.COUNTER,
    "{record}",
    "What each stage gave up, by reason.",
    ("stage", "reason"),
)
INTERNAL_ERRORS: Final = Metric(
    "call_initiation.internal_errors",
    Kind.COUNTER,
    "{error}",
    "Faults of our own, by the stage that they hit; never the caller's concern.",
    ("stage",),
)
LABEL_OVERFLOW: Final = Metric(
    "call_initiation.label_overflow",
    Kind.COUNTER,
    "{value}",
    "Label values that were folded to `other` because their metric was full, or because they weren't fit to show.",
    ("label",),
    max_series=9,
)
GATEWAY_REFUSALS: Final = Metric(
    "call_initiation.gateway.refusals",
    Kind.COUNTER,
    "{request}",
    "Requests that the gateway itself refused, by the code that it answered with; these are no call starts.",
    ("code",),
    max_series=12,
)
BUILD_INFO: Final = Metric(
    "call_initiation.build_info",
    Kind.GAUGE,
    "",
    "The version that runs, as a label; the value is 1.",
    ("version",),
    max_series=1,
)

METRICS: Final = (
    ATTEMPTS,
    ERROR_CODES,
    DURATION,
    AGENT_STATE_AGE,
    PAYLOAD_FINDINGS,
    STATE_JOINS,
    STATE_JOINS_LATE,
    ASYNC_FAILURES,
    SUSPECTED_DUPLICATES,
    AGENTS,
    AGENT_STATE_CHANGES,
    FEED_UP,
    FEED_RECONNECTS,
    FEED_EVENTS,
    FEED_EVENT_LAG,
    FEED_CLOCK_SKEW,
    RECORDER_RECORDED,
    RECORDER_EXPORTED,
    RECORDER_PENDING,
    RECORDER_RECOVERED,
    RECORDER_DROPPED,
    INTERNAL_ERRORS,
    LABEL_OVERFLOW,
    GATEWAY_REFUSALS,
    BUILD_INFO,
)
"""All metrics, in the order in which they are shown."""

EVENT_NAME: Final = "call_initiation.failure"
"""The name of the event (log record) that each failure sends."""

SCOPE: Final = "call_initiation"
"""The instrumentation scope's name."""

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.37.0"
"""The semantic conventions that OpenTelemetry's own attributes among ours follow."""

ATTRIBUTES: Final = (
    Attribute("http.request.method", "string", "The request's method.", "POST"),
    Attribute("url.template", "string", "Which endpoint was called.", "/api/v2/conversations/calls/user/{userId}"),
    Attribute("server.address", "string", "The host that the request was for.", "api.mypurecloud.ie"),
    Attribute("server.port", "int", "Its port; always set.", "443"),
    Attribute("http.response.status_code", "int", "The answer's status; absent where there was none.", "400"),
    Attribute("error.type", "string", "The status code as text, or the transport failure's kind.", "read_timeout"),
    Attribute("call_initiation.outcome", "string", "What became of the call start.", "rejected"),
    Attribute("call_initiation.error.code", "string", "The most specific code.", "INVALID_AGENT_STATE"),
    Attribute("call_initiation.error.codes", "string[]", "Every code, the most specific first.", "[…]"),
    Attribute("call_initiation.error.category", "string", "Whose concern the failure is.", "agent_state"),
    Attribute("call_initiation.error.message", "string", "The body's message, numbers and secrets masked.", "…"),
    Attribute("call_initiation.correlation_id", "string", "The API's own id of the exchange.", "5b8f…"),
    Attribute("call_initiation.findings", "string[]", "What a check of the request's body found.", "[…]"),
    Attribute("call_initiation.payload.shape", "string", "Which request body was used.", "create_call_request"),
    Attribute("call_initiation.duplicate.suspected", "boolean", "Same agent and destination moments before.", "false"),
    Attribute("call_initiation.response.body", "string", "How much of an error's body was seen.", "whole"),
    Attribute("call_initiation.agent.id", "string", "The agent's user id.", "9d4b…"),
    Attribute("call_initiation.agent.id.source", "string", "Where the id came from.", "path"),
    Attribute("call_initiation.agent.presence", "string", "System presence as of the send.", "BUSY"),
    Attribute("call_initiation.agent.routing_status", "string", "Routing status as of the send.", "INTERACTING"),
    Attribute("call_initiation.agent.on_call", "int", "How many calls the agent was on.", "1"),
    Attribute("call_initiation.agent.wrap_up", "int", "How many calls were in after-call work.", "0"),
    Attribute("call_initiation.agent.station", "string", "The effective station; empty when there was none.", "7c1e…"),
    Attribute("call_initiation.agent.state", "string", "The state as one word, as on the metrics.", "on_call"),
    Attribute("call_initiation.agent.state.age", "double", "Seconds from the last change to the send.", "12.4"),
    Attribute(
        "call_initiation.agent.state.since", "string", "Server time of the last change.", "2026-01-31T09:30:00.000Z"
    ),
    Attribute("call_initiation.agent.state.source", "string", "Who told us the state.", "notification"),
    Attribute("call_initiation.agent.state.certainty", "string", "How far it can be believed.", "known"),
)
"""All attributes, in the order in which they are shown."""
