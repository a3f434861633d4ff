"""Says why Genesys Cloud refused an outbound call: an instrumented httpx client and what it exports.

Start at `Exporter`: make one, hand it your client with `instrument`, and place calls as before.
"""

from call_initiation.calls.client import AsyncObservedTransport, ObservedTransport
from call_initiation.errors import (
    CallInitiationError,
    InstrumentError,
    ListenError,
    SettingsError,
    UpstreamError,
)
from call_initiation.events import AgentState, Certainty, Ledger, Outcome, Presence, RoutingStatus, StateSource
from call_initiation.exporter import Exporter, __version__

__all__ = [
    "AgentState",
    "AsyncObservedTransport",
    "CallInitiationError",
    "Certainty",
    "Exporter",
    "InstrumentError",
    "Ledger",
    "ListenError",
    "ObservedTransport",
    "Outcome",
    "Presence",
    "RoutingStatus",
    "SettingsError",
    "StateSource",
    "UpstreamError",
    "__version__",
]
