"""The words of this program: what is said of a call start and of an agent, as closed enums and frozen dataclasses.

Every sink (`prometheus`, `otlp`, `journal`, the page) takes the same `Event` union and matches on it with
`assert_never`, so that a sink which forgets an event is a type error.

Times of day are integers of nanoseconds since the epoch where they end in `_at`; lengths of time are seconds.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

if TYPE_CHECKING:
    from dataclasses import dataclass as of_each_call
else:

    def of_each_call(**options: Any) -> Any:
        """Make a dataclass that is frozen for the type checkers alone: at run time, freezing costs each call 5 µs."""
        return dataclass(**{**options, "frozen": False, "unsafe_hash": True})


class Outcome(StrEnum):
    """What became of one call start, from the caller's point of view."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    UNAUTHORIZED = "unauthorized"
    RATE_LIMITED = "rate_limited"
    FAILED = "failed"
    REDIRECTED = "redirected"
    NOT_SENT = "not_sent"
    AMBIGUOUS = "ambiguous"
    CANCELLED = "cancelled"


_ACCEPTED: Final = Outcome.ACCEPTED
# Here and in other modules that each call passes, members of enums have names of their own: Python 3.11 takes ten times
# as long to find one in its class.


class TransportFailure(StrEnum):
    """Why there was no whole answer; the `error.type` of a call without a status."""

    CONNECT_TIMEOUT = "connect_timeout"
    POOL_TIMEOUT = "pool_timeout"
    READ_TIMEOUT = "read_timeout"
    WRITE_TIMEOUT = "write_timeout"
    NAME_RESOLUTION = "name_resolution"
    CONNECTION_REFUSED = "connection_refused"
    CONNECTION_RESET = "connection_reset"
    CONNECTION_CLOSED = "connection_closed"
    CONNECTION_FAILED = "connection_failed"
    CERTIFICATE_EXPIRED = "certificate_expired"
    CERTIFICATE_HOSTNAME_MISMATCH = "certificate_hostname_mismatch"
    CERTIFICATE_UNTRUSTED = "certificate_untrusted"
    TLS = "tls"
    PROXY = "proxy"
    PROTOCOL = "protocol"
    CANCELLED = "cancelled"
    PROCESS_DIED = "process_died"
    """The dialer's process, or the gateway's, ended during the call; a later one tells of it by the journal."""
    OTHER = "_OTHER"
    """The fallback of OpenTelemetry's semantic conventions for `error.type`."""


class Category(StrEnum):
    """Whose concern a refusal is."""

    AGENT_STATE = "agent_state"
    STATION = "station"
    DESTINATION = "destination"
    SCHEMA = "schema"
    USER_CONTEXT = "user_context"
    PERMISSION = "permission"
    AUTHENTICATION = "authentication"
    RATE_LIMIT = "rate_limit"
    CONFLICT = "conflict"
    PROVIDER = "provider"
    TIMEOUT = "timeout"
    TRANSPORT = "transport"
    UNKNOWN = "unknown"


class BodyState(StrEnum):
    """How much of an answer's body we saw."""

    WHOLE = "whole"
    """Read to its end by the caller."""
    UNREAD = "unread"
    """The caller never read it, or not to its end."""
    TRUNCATED = "truncated"
    """It broke off before its end: the caller got an exception."""
    OVERSIZED = "oversized"
    """An error's, longer than we read; the caller got all of it."""


class PayloadShape(StrEnum):
    """Which of the known request bodies a call start used."""

    CREATE_CALL_REQUEST = "create_call_request"
    """`CreateCallRequest` of the documented API: a flat object with `phoneNumber` and its kin."""
    CALL_COMMAND = "call_command"
    """`CallCommand` of the documented API: places the call of a callback."""
    FROM_TO = "from_to"
    """`{"from": …, "to": […]}`: known from a community thread only, in no documentation."""
    OTHER = "other"
    """A JSON object of another shape, or JSON that is no object."""
    UNREADABLE = "unreadable"
    """No JSON, empty, or a stream that only the transport may read."""


class AgentIdSource(StrEnum):
    """Where the agent's id of a call came from, in falling order of trust."""

    PATH = "path"
    CALLER = "caller"
    TOKEN = "token"  # noqa: S105 - the name of a source, no secret
    BODY = "body"
    NONE = "none"


class StateSource(StrEnum):
    """Who told us an agent's state."""

    NOTIFICATION = "notification"
    REST = "rest"
    CALLER = "caller"
    NONE = "none"


class Certainty(StrEnum):
    """How far an agent's state can be believed."""

    KNOWN = "known"
    STALE = "stale"
    UNKNOWN = "unknown"


class _Spelled(StrEnum):
    """An enum of the API whose spelling varies by channel: case, blanks and underscores are folded."""

    @classmethod
    def spelled(cls, text: object) -> Self | None:
        """Return the member that `text` spells, or None where it spells none (never an error)."""
        if isinstance(text, cls):
            return text
        if not isinstance(text, str):
            return None
        folded = text.strip().upper().replace(" ", "").replace("_", "").replace("-", "")
        return next((member for member in cls if member.value.replace("_", "") == folded), None)


class Presence(_Spelled):
    """`presenceDefinition.systemPresence` of the Genesys Cloud API (SDK model `PresenceDefinition`)."""

    AVAILABLE = "AVAILABLE"
    AWAY = "AWAY"
    BREAK = "BREAK"
    BUSY = "BUSY"
    IDLE = "IDLE"
    MEAL = "MEAL"
    MEETING = "MEETING"
    OFFLINE = "OFFLINE"
    ON_QUEUE = "ON_QUEUE"
    TRAINING = "TRAINING"


class RoutingStatus(_Spelled):
    """`routingStatus.status` of the Genesys Cloud API (SDK model `RoutingStatus`)."""

    OFF_QUEUE = "OFF_QUEUE"
    IDLE = "IDLE"
    INTERACTING = "INTERACTING"
    NOT_RESPONDING = "NOT_RESPONDING"
    COMMUNICATING = "COMMUNICATING"


class StateLabel(StrEnum):
    """An agent's state as one word, for metrics; `agents.label` says which word wins."""

    UNKNOWN = "unknown"
    ON_CALL = "on_call"
    WRAP_UP = "wrap_up"
    INTERACTING = "interacting"
    NOT_RESPONDING = "not_responding"
    NO_STATION = "no_station"
    AVAILABLE = "available"
    ON_QUEUE = "on_queue"
    BUSY = "busy"
    AWAY = "away"
    BREAK = "break"
    MEAL = "meal"
    MEETING = "meeting"
    TRAINING = "training"
    IDLE = "idle"
    OFFLINE = "offline"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentState:
    """What is known of an agent at one moment; None says that a part is not known.

    Text for `presence` and `routing_status` is taken in any of the API's spellings; text that spells nothing
    becomes None.

    Attributes:
        presence: The system presence; secondary presences count as the system presence that they map to.
        routing_status: The routing status.
        on_call: How many calls the agent is on.
        wrap_up: How many calls are in after-call work (the API's `acw`; there is no wrap-up presence).
        station: The effective station's id; an empty text where the agent has none.
        out_of_office: Whether the agent is marked as out of office.
        since: Server time of the last change, in seconds since the epoch.
        source: Who said so.
        certainty: How far this can be believed.
    """

    presence: Presence | None = None
    routing_status: RoutingStatus | None = None
    on_call: int | None = None
    wrap_up: int | None = None
    station: str | None = None
    out_of_office: bool | None = None
    since: float | None = None
    source: StateSource = StateSource.CALLER
    certainty: Certainty = Certainty.KNOWN

    def __post_init__(self) -> None:
        """Fold the spellings of the two enums."""
        object.__setattr__(self, "presence", Presence.spelled(self.presence))
        object.__setattr__(self, "routing_status", RoutingStatus.spelled(self.routing_status))

    def __hash__(self) -> int:
        """Return a hash of what differs most, for every call asks twice for what is kept of a state."""
        return hash((self.presence, self.routing_status, self.since))


UNKNOWN_STATE = AgentState(source=StateSource.NONE, certainty=Certainty.UNKNOWN)
"""What is said of an agent of whom nothing is known."""


@of_each_call(frozen=True, slots=True, kw_only=True)
class AgentAtSend:
    """The agent of a call and its state strictly before the call was sent.

    Attributes:
        id: The agent's user id, or None where the call named none.
        id_source: Where the id came from.
        state: The state as of the send; `UNKNOWN_STATE` where there is none.
        label: The state as one word.
        age: Seconds from the agent's last change to the send; None where unknown.
    """

    id: str | None = None
    id_source: AgentIdSource = AgentIdSource.NONE
    state: AgentState = UNKNOWN_STATE
    label: StateLabel = StateLabel.UNKNOWN
    age: float | None = None


NO_AGENT = AgentAtSend()


@of_each_call(frozen=True, slots=True, kw_only=True)
class Refusal:
    """What an error's body says, made fit to leave this process: codes folded, message masked.

    Attributes:
        codes: Every code of the body, the most specific first, without repeats; empty where there is none.
        category: Whose concern it is.
        message: The body's message with numbers and secrets masked; None where there is none.
        correlation_id: The API's own id of the exchange (`contextId`, or the header `ININ-Correlation-Id`).
        body: How much of the body we saw.
    """

    codes: tuple[str, ...] = ()
    category: Category = Category.UNKNOWN
    message: str | None = None
    correlation_id: str | None = None
    body: BodyState = BodyState.WHOLE


@of_each_call(frozen=True, slots=True, kw_only=True)
class SpanIds:
    """The place of a call in a trace (W3C Trace Context ids, as OpenTelemetry holds them: integers).

    Attributes:
        trace_id: 128 bits.
        span_id: 64 bits.
        parent_span_id: The caller's span, or None for a root.
        parent_is_remote: Whether the caller's span came from another process.
        sampled: What the head sampler said.
        adopted: The span is another instrumentation's: our attributes were added to it, and we export none of our own.
        trace_state: The W3C `tracestate` header, as text.
    """

    trace_id: int
    span_id: int
    parent_span_id: int | None = None
    parent_is_remote: bool = False
    sampled: bool = True
    adopted: bool = False
    trace_state: str = ""


@of_each_call(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One call start: as it was sent, as it was answered, and the state its agent was in.

    Attributes:
        endpoint: The URL template, one of `endpoints.TEMPLATES`.
        server_address: The host that the request was for.
        server_port: Its port; the scheme's own where the URL names none.
        started_at: When the transport was asked to send, nanoseconds since the epoch.
        sent_at: When the request's body began to be sent; None where it never was.
        duration: Seconds from start to the answer's headers, or to the failure.
        outcome: What became of it.
        status_code: The answer's status; None where there was none.
        error_type: None when accepted; else the status code as text, or the transport failure's kind.
        refusal: What the error's body says; None when accepted or where there was no answer.
        body: How much of the answer's body the caller got; None where there was no answer.
        agent: Who placed it, and in what state.
        payload_shape: Which request body was used.
        findings: What a check of the payload found, each word of `findings.Finding` once.
        suspected_duplicate: The same agent and destination were called moments before.
        span: Its place in a trace; None where traces are off.
    """

    endpoint: str
    server_address: str
    server_port: int
    started_at: int
    sent_at: int | None
    duration: float
    outcome: Outcome
    status_code: int | None = None
    error_type: str | None = None
    refusal: Refusal | None = None
    body: BodyState | None = None
    agent: AgentAtSend = NO_AGENT
    payload_shape: PayloadShape = PayloadShape.UNREADABLE
    findings: tuple[str, ...] = ()
    suspected_duplicate: bool = False
    span: SpanIds | None = None

    @property
    def is_failure(self) -> bool:
        """Whether anything but an acceptance came of it."""
        return self.outcome is not _ACCEPTED

    @property
    def error_code(self) -> str:
        """The most specific code: `none` when accepted, `unparsed` when there was none to read."""
        if not self.is_failure:
            return "none"
        return self.refusal.codes[0] if self.refusal and self.refusal.codes else "unparsed"

    @property
    def is_traced(self) -> bool:
        """Whether a span of this call is exported, ours or the one that it adopted: only then can a link lead to it."""
        span = self.span
        return span is not None and (span.sampled or (self.is_failure and not span.adopted))

    @property
    def category(self) -> Category | None:
        """Whose concern the failure is; None when accepted."""
        if not self.is_failure:
            return None
        if self.refusal is not None:
            return self.refusal.category
        timed_out = self.error_type is not None and self.error_type.endswith("_timeout")
        return Category.TIMEOUT if timed_out else Category.TRANSPORT


@dataclass(frozen=True, slots=True, kw_only=True)
class StateChange:
    """An agent's state changed, or became known for the first time (then `before` is `unknown`).

    Attributes:
        agent_id: The agent's user id.
        before: The word before.
        after: The word from now on.
        state: The whole state from now on.
        at: Server time of the change, seconds since the epoch.
    """

    agent_id: str
    before: StateLabel
    after: StateLabel
    state: AgentState
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LateChange:
    """A state change arrived after an attempt that it would have changed had been recorded."""

    agent_id: str
    at: float


class FeedState(StrEnum):
    """Whether the state feed can be believed."""

    UP = "up"
    DOWN = "down"


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedChange:
    """The state feed came up or went down.

    Attributes:
        state: What it is from now on.
        reason: Why, from a closed list; empty when it came up for the first time.
        at: Local time, seconds since the epoch.
    """

    state: FeedState
    reason: str = ""
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NotificationTaken:
    """The state feed told us something.

    Attributes:
        topic: The topic's last part, such as `presence`; `ignored` for what isn't understood.
        lag: Seconds from the change to our hearing of it; None where the change carries no time.
    """

    topic: str
    lag: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LegFailure:
    """A call was accepted, and then its agent's own leg failed.

    Attributes:
        agent_id: The agent's user id.
        error_code: Why, made fit to leave this process.
        label: The agent's state before that leg began, which changed it, as one word.
    """

    agent_id: str
    error_code: str
    label: StateLabel


@dataclass(frozen=True, slots=True, kw_only=True)
class SkewChange:
    """The server's clock is found to be so many seconds ahead of ours."""

    seconds: float


Event = Attempt | StateChange | LateChange | FeedChange | NotificationTaken | LegFailure | SkewChange
"""All that a sink can be told. Closed: match on it, and end in `assert_never`."""


class Sink(Protocol):
    """Where recorded events go; called on the recorder's thread only, once for each event."""

    def record(self, event: Event, /) -> None:
        """Take one event; must not block on I/O. What it raises is counted and goes no further."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """One stage's accounts. The law: `recorded == exported + pending + sum(dropped.values())`, exactly.

    Attributes:
        recorded: What the stage was given.
        exported: What it has passed on whole.
        pending: What it still holds.
        dropped: What it gave up, by reason.
        recovered: How many of what it was given an earlier process had recorded, and left in the journal.
    """

    recorded: int = 0
    exported: int = 0
    pending: int = 0
    dropped: dict[str, int] = field(default_factory=dict[str, int])
    recovered: int = 0

    def __add__(self, other: "Ledger") -> "Ledger":
        """Return the accounts of two parts of a stage together."""
        reasons = self.dropped.keys() | other.dropped.keys()
        return Ledger(
            recorded=self.recorded + other.recorded,
            exported=self.exported + other.exported,
            pending=self.pending + other.pending,
            dropped={reason: self.dropped.get(reason, 0) + other.dropped.get(reason, 0) for reason in reasons},
            recovered=self.recovered + other.recovered,
        )
