"""Made-up calls that several test files start from; `dataclasses.replace` makes the others."""

from dataclasses import replace
from typing import Final

from call_initiation.calls.endpoints import CALLS_OF_USER
from call_initiation.events import (
    AgentAtSend,
    AgentIdSource,
    AgentState,
    Attempt,
    BodyState,
    Category,
    Outcome,
    PayloadShape,
    Presence,
    Refusal,
    RoutingStatus,
    SpanIds,
    StateLabel,
    StateSource,
)
from call_initiation.journal.slots import Begun, facts

STARTED_AT: Final = 1_790_000_000_000_000_000
"""Nanoseconds since the epoch: 2026-09-21T14:13:20Z."""

SPAN: Final = SpanIds(trace_id=0xABC, span_id=0xDEF, parent_span_id=0x123)

BEGUN: Final = Begun(
    key=7,
    started_at=STARTED_AT,
    span=SPAN,
    server_address="api.example.com",
    server_port=443,
    endpoint=CALLS_OF_USER,
    agent_id="9d4b4c1e-0000-4000-8000-000000000001",
    id_source=AgentIdSource.PATH,
)
"""What is noted of a call before it is sent."""
SHARED: Final = facts(CALLS_OF_USER, "api.example.com", 443, BEGUN.agent_id, AgentIdSource.PATH)
"""The part of it that many calls share."""

AGENT: Final = AgentAtSend(
    id="9d4b4c1e-0000-4000-8000-000000000001",
    id_source=AgentIdSource.PATH,
    state=AgentState(
        presence=Presence.BUSY,
        routing_status=RoutingStatus.INTERACTING,
        on_call=1,
        wrap_up=0,
        station="7c1e",
        since=1_789_999_987.5,
        source=StateSource.NOTIFICATION,
    ),
    label=StateLabel.ON_CALL,
    age=12.5,
)

ACCEPTED: Final = Attempt(
    endpoint=CALLS_OF_USER,
    server_address="api.mypurecloud.ie",
    server_port=443,
    started_at=STARTED_AT,
    sent_at=STARTED_AT + 1_000_000,
    duration=0.2,
    outcome=Outcome.ACCEPTED,
    status_code=202,
    body=BodyState.WHOLE,
    agent=AGENT,
    payload_shape=PayloadShape.CREATE_CALL_REQUEST,
    span=SPAN,
)

REFUSED: Final = replace(
    ACCEPTED,
    outcome=Outcome.REJECTED,
    status_code=400,
    error_type="400",
    refusal=Refusal(
        codes=("conversation.error.no.user.station", "bad.request"),
        category=Category.STATION,
        message="A station is required to place a call.",
        correlation_id="5b8f0f6e-0000-4000-8000-000000000002",
    ),
)
"""A body with two codes."""

UNANSWERED: Final = replace(
    ACCEPTED, outcome=Outcome.AMBIGUOUS, status_code=None, error_type="read_timeout", body=None, duration=30.5
)
"""Sent, and no answer came."""
