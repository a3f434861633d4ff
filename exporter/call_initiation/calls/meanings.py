"""What can be known of a code or a message: whose concern it is, what to do, where to look first, and how we know."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from call_initiation.events import Category


class Source(StrEnum):
    """How we know something."""

    DOCUMENTED = "documented"
    """Genesys's own material says it of this API."""
    STANDARD = "standard"
    """An RFC defines it."""
    OWN = "own"
    """This program's own gateway says it."""
    OBSERVED = "observed"
    """Seen in public code and forums; in no documentation."""
    CLAIMED = "claimed"
    """Said in one community thread only: must never be shown as the API's documentation."""
    INFERRED = "inferred"
    """Our own reading."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a code or a part of a message means.

    Attributes:
        category: Whose concern it is.
        says: What it says, a sentence; empty where only its wording is known.
        advice: What to do about it, a sentence; empty where nothing better is known than what its concern has.
        source: How we know.
        is_generic: It says little: a code or message that says more goes before it.
    """

    category: Category
    says: str = ""
    advice: str = ""
    source: Source = Source.DOCUMENTED
    is_generic: bool = False

    @property
    def documented(self) -> bool:
        """Whether it may be shown as the API's documentation."""
        return self.source is Source.DOCUMENTED


class Culprit(StrEnum):
    """Where to look first."""

    PAYLOAD = "payload"
    AGENT_STATE = "agent_state"
    STATION = "station"
    TOKEN = "token"  # noqa: S105 - the name of a culprit, no secret
    PATH = "path"
    PACE = "pace"
    CONFLICT = "conflict"
    PLATFORM = "platform"
    NETWORK = "network"
    UNKNOWN = "unknown"

    @property
    def phrase(self) -> str:
        """The same in words."""
        return _PHRASES[self]


_PHRASES: Final[Mapping[Culprit, str]] = {
    Culprit.PAYLOAD: "our payload",
    Culprit.AGENT_STATE: "the agent's state",
    Culprit.STATION: "the agent's station",
    Culprit.TOKEN: "the token or its permissions",
    Culprit.PATH: "the ids in the path",
    Culprit.PACE: "our rate of requests",
    Culprit.CONFLICT: "another change at the same time",
    Culprit.PLATFORM: "the platform",
    Culprit.NETWORK: "the network, or what stands between us and the platform",
    Culprit.UNKNOWN: "nobody that this answer names",
}


@dataclass(frozen=True, slots=True)
class Concern:
    """Who is to look into a category of refusals, and what to do where a code says no more."""

    culprit: Culprit
    advice: str


FIND_THE_CALL: Final = "Don't just repeat it: look first whether the call was placed after all."

CONCERNS: Final[Mapping[Category, Concern]] = {
    Category.AGENT_STATE: Concern(
        Culprit.AGENT_STATE, "Look at the state that the agent was in when the call was sent, and who changed it."
    ),
    Category.STATION: Concern(Culprit.STATION, "Look whether the agent has a station, and whether it is online."),
    Category.DESTINATION: Concern(
        Culprit.PAYLOAD, "Look at whom the request calls: `check` says what is odd about it."
    ),
    Category.SCHEMA: Concern(Culprit.PAYLOAD, "Hold the request's body against the API's definition: `check` does."),
    Category.USER_CONTEXT: Concern(Culprit.TOKEN, "Look whose token it is: calls are placed for its own user."),
    Category.PERMISSION: Concern(Culprit.TOKEN, "Look at the roles and the scope of the token's owner."),
    Category.AUTHENTICATION: Concern(Culprit.TOKEN, "Get a new token, from the login service of the same region."),
    Category.RATE_LIMIT: Concern(Culprit.PACE, "Slow down, and wait as long as `Retry-After` says."),
    Category.CONFLICT: Concern(
        Culprit.CONFLICT, "Look what else was done to the same conversation or agent just then."
    ),
    Category.PROVIDER: Concern(Culprit.PLATFORM, f"Ask Genesys, with the correlation id. {FIND_THE_CALL}"),
    Category.TIMEOUT: Concern(Culprit.NETWORK, FIND_THE_CALL),
    Category.TRANSPORT: Concern(Culprit.NETWORK, FIND_THE_CALL),
    Category.UNKNOWN: Concern(
        Culprit.UNKNOWN, "Look at the agent's state as of the send, and give the request to `explain --request`."
    ),
}
"""Every category, and what is known of it as such."""
