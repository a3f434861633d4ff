"""How the pretend organisation behaves, as one value: every rate a test may want to plant.

A share is a probability from 0 to 1. The defaults make a lively picture; `CALM` turns off all that is drawn at random,
so that an answer follows from the request and the agent's state alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from call_initiation.events import StateLabel

READY = frozenset(
    {
        StateLabel.AVAILABLE,
        StateLabel.ON_QUEUE,
        StateLabel.WRAP_UP,
        StateLabel.INTERACTING,
        StateLabel.NOT_RESPONDING,
    }
)
"""From where the community thread has calls accepted: Available, On Queue (whatever its routing status), Wrap Up."""

INVALID_AGENT_STATE = "INVALID_AGENT_STATE"
NO_STATION = "conversation.error.no.user.station"


def _refusals() -> Mapping[StateLabel, float]:
    return MappingProxyType({label: 0.0 if label in READY else 1.0 for label in StateLabel})


def _codes() -> Mapping[StateLabel, str]:
    return MappingProxyType({StateLabel.NO_STATION: NO_STATION})


def _weather() -> Mapping[str, float]:
    return MappingProxyType(
        {
            "providerapi.error.station.no.active.edge": 0.004,
            "providerapi.error.no.station.for.edge": 0.002,
            "internal.server.error": 0.002,
            "service.unavailable": 0.002,
            "request.timeout": 0.001,
            "client.timeout": 0.001,
            "general.conflict": 0.002,
            "too.many.requests.retry.after": 0.002,
        }
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """Every rate of the simulator.

    Attributes:
        refusals: The share of otherwise faultless calls that is refused, by the agent's state; absent is 0.
        codes: The code of such a refusal, by the agent's state; absent is `INVALID_AGENT_STATE`.
        weather: The share of otherwise acceptable calls that meets a fault, by its code (any of `faults.FAULTS`).
        generic: The share of 400s with `bad.request` on top and the specific code in `details`.
        nested: The share of 400s with `bad.request` on top and the specific code in `errors`.
        wild: The share of 400s whose body is shaped like none of the models, as seen in the wild.
        html: The share of errors that an intermediary replaces by a page of HTML.
        echo: The share of errors whose message repeats the dialled number.
        leg_failures: The share of accepted calls whose agent leg then fails.
        unsettled: The share of refused calls that moves a resting agent to another presence right after.
        without_station: The share of agents that begin without a station.
        unpermitted: The share of agents without the permission to place calls.
        rate_limit: Requests a minute and token.
        token_seconds: How long a client's token lives (the API takes 300 to 172,800).
        pace: How many times faster than in a real call centre agents live.
    """

    refusals: Mapping[StateLabel, float] = field(default_factory=_refusals)
    codes: Mapping[StateLabel, str] = field(default_factory=_codes)
    weather: Mapping[str, float] = field(default_factory=_weather)
    generic: float = 0.3
    nested: float = 0.1
    wild: float = 0.05
    html: float = 0.005
    echo: float = 0.1
    leg_failures: float = 0.03
    unsettled: float = 0.05
    without_station: float = 0.06
    unpermitted: float = 0.02
    rate_limit: int = 300
    token_seconds: int = 86_400
    pace: float = 20.0


CALM = Behaviour(
    weather=MappingProxyType({}),
    generic=0.0,
    nested=0.0,
    wild=0.0,
    html=0.0,
    echo=0.0,
    leg_failures=0.0,
    unsettled=0.0,
    unpermitted=0.0,
)
"""No chance but in what agents do: the same request in the same state has the same fate."""
