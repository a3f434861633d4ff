"""What a witness hears of one agent, and the directory that hears the witness; several test files use them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from call_initiation.agents.agents import label
from call_initiation.agents.legs import Leg
from call_initiation.agents.timeline import Timeline
from call_initiation.agents.users import Part, Update
from call_initiation.api.notifications import LegTimes, Notified
from call_initiation.events import AgentState, Certainty, StateLabel, StateSource
from call_initiation.exporter import Exporter
from call_initiation.feed.witness import Witness
from call_initiation.recording.updates import Suspension, Told

T: Final = 1_790_000_000.0
REST, HEARD = StateSource.REST, StateSource.NOTIFICATION
KNOWN, STALE, UNKNOWN = Certainty.KNOWN, Certainty.STALE, Certainty.UNKNOWN
TOPICS: Final = {
    Part.PRESENCE: "presence",
    Part.ROUTING_STATUS: "routingStatus",
    Part.CONVERSATIONS: "conversationsummary",
    Part.STATION: "station",
    Part.OUT_OF_OFFICE: "outofoffice",
}


def part(name: Part, at: float | None, source: StateSource, **values: Any) -> Update:
    """Return one part of a state."""
    return Update(name, AgentState(since=at, source=source, **values), at)


def shown(
    presence: str | None = "AVAILABLE",
    at: float = T - 600,
    *,
    on_call: int = 0,
    wrap_up: int = 0,
    routing: str = "OFF_QUEUE",
    station: str = "7c1e",
) -> tuple[Update, ...]:
    """Return what a read shows."""
    return (
        part(Part.PRESENCE, at, REST, presence=presence),
        part(Part.ROUTING_STATUS, at, REST, routing_status=routing),
        part(Part.CONVERSATIONS, None, REST, on_call=on_call, wrap_up=wrap_up),
        part(Part.STATION, None, REST, station=station),
        part(Part.OUT_OF_OFFICE, at, REST, out_of_office=False),
    )


@dataclass
class Bench:
    """A witness of one agent, and the directory that hears it."""

    is_full: bool = False
    told: list[Told] = field(default_factory=list)
    timeline: Timeline = field(default_factory=Timeline)
    exporter: Exporter = field(default_factory=Exporter)

    def __post_init__(self) -> None:
        """Make the witness, of one agent."""
        self.witness = Witness(self.tell, self.timeline)
        self.witness.add(["a"], T)

    def tell(self, told: Told) -> bool:
        """Apply what is told."""
        if self.is_full and not isinstance(told, Suspension):
            return False
        self.told.append(told)
        list(self.exporter._apply(told))
        return True

    def read(self, asked: float, *updates: Update, agent_id: str = "a") -> None:
        """Let a read take half a second."""
        self.witness.read([agent_id], {agent_id: updates or shown()}, asked, asked + 0.5)

    def notify(self, received: float, name: Part, at: float | None, **values: Any) -> None:
        """Let a notification arrive."""
        said = Notified(TOPICS[name], "a", part(name, at, HEARD, **values), None)
        self.witness.hear(said, received)

    def summary(self, received: float, on_call: int, wrap_up: int) -> None:
        """Let a conversation summary arrive."""
        self.notify(received, Part.CONVERSATIONS, None, on_call=on_call, wrap_up=wrap_up)

    def leg(self, received: float, *times: float | None, participant_id: str = "p") -> None:
        """Let a call's event arrive, with the times of the agent's leg in the order of `Leg`."""
        self.witness.hear(LegTimes("a", participant_id, Leg(*times)), received)

    def as_of(self, sent: float) -> tuple[StateLabel, Certainty]:
        """Return the word for the agent's state then, and how far it is known."""
        state, _ = self.exporter.agents.as_of("a", sent)
        return label(state), state.certainty

    def all(self, kind: type[Any]) -> list[Any]:
        """Return what was told of one kind."""
        return [one for one in self.told if isinstance(one, kind)]


@contextmanager
def read_whole() -> Iterator[Bench]:
    """Yield a bench whose agent was read whole at T + 2."""
    bench = Bench()
    bench.read(T + 2)
    yield bench
    bench.exporter.close()
