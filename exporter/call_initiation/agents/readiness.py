"""Whether an agent can place a call now, as one read of the API shows it.

Theory. `RULES` are asked in their order, and the first that an agent breaks is the one reason. Only the station is
documented; that states matter besides is claimed by one community thread, and the rest is caution of our own, so each
rule says where it comes from. Laws:

* Pure: the same user has the same standing, whatever the time.
* What isn't shown is never taken for fine: an agent of whom a part isn't known isn't ready.
* Someone in wrap-up is ready whatever the presence and the routing status, which after-call work keeps as they were.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from call_initiation.agents.users import JsonObject, as_text, user_state
from call_initiation.events import UNKNOWN_STATE, AgentState, Presence, RoutingStatus, StateSource

_PARTS: Final = ("presence", "routing_status", "on_call", "wrap_up", "station")
_PRESENCES: Final = frozenset({Presence.AVAILABLE, Presence.ON_QUEUE})
_FREE: Final = frozenset({RoutingStatus.OFF_QUEUE, RoutingStatus.IDLE})

NOBODY: Final = "no such user, or one who is inactive or deleted"


class Origin(StrEnum):
    """Who says that a rule holds."""

    DOCUMENTED = "documented"
    """The official API definition: `conversation.error.no.user.station`."""
    THREAD = "one community thread only"
    CAUTION = "our own caution"


@dataclass(frozen=True, slots=True)
class Rule:
    """What an agent must be or have.

    Attributes:
        claim: The rule in words, after "who".
        origin: Who says so.
        part: The field of `AgentState` that it needs.
        is_met: Tells whether a state keeps it.
        otherwise: Why not; `{0}` is the state.
    """

    claim: str
    origin: Origin
    part: str
    is_met: Callable[[AgentState], bool]
    otherwise: str

    def obstacle(self, state: AgentState) -> str:
        """Return why a state breaks the rule; an empty text where it keeps it."""
        if self.is_met(state):
            return ""
        name = self.part.replace("_", " ")
        return f"{name} is not known" if getattr(state, self.part) is None else self.otherwise.format(state)


RULES: Final = (
    Rule("has a station", Origin.DOCUMENTED, "station", lambda state: bool(state.station), "no station"),
    Rule("is on no call", Origin.THREAD, "on_call", lambda state: state.on_call == 0, "on a call"),
    Rule(
        "is Available or On Queue, or in wrap-up",
        Origin.THREAD,
        "presence",
        lambda state: bool(state.wrap_up) or state.presence in _PRESENCES,
        "presence is {0.presence}",
    ),
    Rule(
        "is Idle or Off Queue in routing, or in wrap-up",
        Origin.CAUTION,
        "routing_status",
        lambda state: bool(state.wrap_up) or state.routing_status in _FREE,
        "routing status is {0.routing_status}",
    ),
)
"""All rules, in the order in which they are asked."""

TOLD: Final = "\n".join(f"  {rule.claim:<47} ({rule.origin})" for rule in RULES)
"""The rules in words, a line each, with who says so."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How an agent stands.

    Attributes:
        agent_id: The agent's user id.
        state: What was shown of its state; `UNKNOWN_STATE` for nobody.
        reason: Why the agent can't place a call; empty where nothing speaks against it.
    """

    agent_id: str
    state: AgentState
    reason: str

    @property
    def is_ready(self) -> bool:
        """Whether nothing speaks against a call."""
        return not self.reason


def standing(agent_id: str, user: JsonObject | None) -> Standing:
    """Return how an agent stands by a user with its expansions (SDK model `User`), or by None where none was given."""
    if user is None:
        return Standing(agent_id, UNKNOWN_STATE, NOBODY)
    if (life := as_text(user.get("state"))) not in {None, "active"}:
        return Standing(agent_id, UNKNOWN_STATE, f"user is {life}")
    state = _whole(user)
    return Standing(agent_id, state, next(filter(None, (rule.obstacle(state) for rule in RULES)), ""))


def _whole(user: JsonObject) -> AgentState:
    """Put the parts that a user shows together; it is since the youngest of them, where that is shown."""
    updates = user_state(user)
    fields = {name: value for one in updates for name in _PARTS if (value := getattr(one.state, name)) is not None}
    since = max((one.at for one in updates if one.at is not None), default=None)
    return AgentState(**fields, since=since, source=StateSource.REST)
