"""What a feed tells of agents, as words that another process can read, and the same summed up for a newcomer.

A word is a short JSON array that begins with a letter. It names agents by their ids, says their states and nothing
else: no call, no number, no token. Moments stay on the speaker's own timeline; a reader moves them all by one `shift`,
so that their order, which may rest on a microsecond, is the speaker's.

A summary tells of each part when it became what it is and when it was last told, for a change that is heard of late
belongs before the one and after the other. It vouches for an agent if the feed does at that moment, and doesn't say
until when it was in doubt: a feed never confirms a time before a doubt that it told.
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from typing import Any, Final, assert_never, cast

from call_initiation import nesting
from call_initiation.agents.users import MOST_CALLS
from call_initiation.events import AgentState, FeedChange, FeedState, Presence, RoutingStatus, StateSource
from call_initiation.recording.updates import Forgotten, Reading, StateUpdate, Suspension

Shared = StateUpdate | Reading | Suspension | Forgotten | FeedChange
"""What all who share a store are told; the rest concerns the one who hears it."""

Word = list[Any]

_LATEST: Final = 1e11
"""Seconds since the epoch: thousands of years."""

_PARTS: Final = ("presence", "routing_status", "on_call", "wrap_up", "station", "out_of_office")


class Garbled(ValueError):  # noqa: N818 - what it was, not an error of ours
    """What was read is no word of ours; it isn't quoted."""


def written(words: list[Word]) -> str:
    """Return words as compact JSON."""
    return json.dumps(words, separators=(",", ":"))


def read(text: str) -> list[Word]:
    """Return the words of a text.

    Raises:
        Garbled: It holds something else.
    """
    try:
        words: Any = nesting.loads(text)
    except ValueError:
        raise Garbled from None
    if not isinstance(words, list):
        raise Garbled
    return cast("list[Word]", words)


def worded(told: Shared) -> Word:
    """Return what is told as a word."""
    match told:
        case StateUpdate():
            return ["u", told.agent_id, float(told.at), _shown(told.state)]
        case Reading():
            changes = [[float(at), _shown(state)] for at, state in told.changes]
            return ["r", told.agent_id, changes, told.confirmed_at, told.lasts]
        case Suspension():
            return ["s", told.since, None if told.agent_ids is None else list(told.agent_ids)]
        case Forgotten():
            return ["x", told.agent_id]
        case FeedChange():
            return ["f", told.state.value, told.reason, told.at]
        case _:
            assert_never(told)


def meant(word: Word, shift: float) -> Shared:
    """Return what a word tells, on a timeline that is `shift` seconds ahead of the speaker's.

    Raises:
        Garbled: It isn't a word.
    """
    try:
        return _meant(word, shift)
    except (AttributeError, LookupError, TypeError, ValueError):
        raise Garbled from None


def _meant(word: Word, shift: float) -> Shared:
    match word:
        case ["u", str(agent_id), at, _]:
            return StateUpdate(agent_id, _state(word[3]), moment(at) + shift)
        case ["r", str(agent_id), _, confirmed, bool(lasts)]:
            told = tuple((moment(at) + shift, _state(state)) for at, state in word[2])
            return Reading(agent_id, told, None if confirmed is None else moment(confirmed) + shift, lasts)
        case ["s", since, ids]:
            return Suspension(moment(since) + shift, None if ids is None else tuple(str(one) for one in ids))
        case ["x", str(agent_id)]:
            return Forgotten(agent_id)
        case ["f", str(state), str(reason), at]:
            return FeedChange(state=FeedState(state), reason=reason, at=moment(at) + shift)
        case _:
            raise Garbled


def moment(value: object) -> float:
    """Return what can be a moment: one that is infinite, no number, or of another age, would be newest for ever.

    Raises:
        Garbled: It can't.
    """
    if not isinstance(value, float) or not abs(value) < _LATEST:
        raise Garbled
    return value


def _shown(state: AgentState) -> dict[str, Any]:
    told = {part: value for part in _PARTS if (value := getattr(state, part)) is not None}
    return {**told, "source": state.source.value}


def _state(shown: dict[str, Any]) -> AgentState:
    """Return a state, if each part is of its kind."""
    presence, routing = shown.get("presence"), shown.get("routing_status")
    on_call, wrap_up, station, away = (shown.get(part) for part in _PARTS[2:])
    if not (
        all(isinstance(count, int | None) and 0 <= (count or 0) <= MOST_CALLS for count in (on_call, wrap_up))
        and isinstance(station, str | None)
        and isinstance(away, bool | None)
    ):
        raise Garbled
    return AgentState(
        presence=None if presence is None else Presence(presence),
        routing_status=None if routing is None else RoutingStatus(routing),
        on_call=on_call,
        wrap_up=wrap_up,
        station=station,
        out_of_office=away,
        source=StateSource(shown["source"]),
    )


@dataclass(slots=True)
class _Part:
    """One part of an agent's state: since when it is so, and when that was last told, each with who said so."""

    value: Any
    since: float
    said_by: StateSource
    at: float
    told_by: StateSource

    def take(self, value: Any, at: float, source: StateSource) -> None:
        """Let another telling speak: the newest wins, of two at once the later one."""
        if at >= self.at:
            if value != self.value:
                self.value, self.since, self.said_by = value, at, source
            self.at, self.told_by = at, source
        elif at >= self.since and value != self.value:
            self.since, self.said_by = self.at, self.told_by


class _Summary:
    """One agent: its parts, and how long the feed vouches for them, by the rules of `agents`."""

    __slots__ = ("_confirmed", "_until", "parts")

    def __init__(self) -> None:
        self.parts: dict[str, _Part] = {}
        self._confirmed = self._until = -inf

    @property
    def confirmed_at(self) -> float | None:
        return self._confirmed if self._until == inf else None

    def take(self, at: float, state: AgentState) -> None:
        for name in _PARTS:
            if (value := getattr(state, name)) is None:
                continue
            if name in self.parts:
                self.parts[name].take(value, at, state.source)
            else:
                self.parts[name] = _Part(value, at, state.source, at, state.source)

    def confirm(self, reading: Reading) -> None:
        at = reading.confirmed_at
        if at is None or not self.parts:
            return
        if at >= self._until:
            self._confirmed, self._until = at, inf
        if not reading.lasts:
            self.suspend(at)

    def suspend(self, since: float) -> None:
        self._until = min(self._until, since)

    def changes(self) -> Iterator[tuple[float, AgentState]]:
        tellings: defaultdict[tuple[float, StateSource], dict[str, Any]] = defaultdict(dict)
        for name, part in self.parts.items():
            tellings[part.since, part.said_by][name] = part.value
            tellings[part.at, part.told_by][name] = part.value
        for at, source in sorted(tellings):
            yield at, AgentState(**tellings[at, source], source=source)


class Summaries:
    """What has been told of each agent, in short."""

    def __init__(self) -> None:
        self._agents: dict[str, _Summary] = {}

    def take(self, told: Shared) -> tuple[str, ...]:
        """Take in what was told; return the agents of whom the summary is another one now."""
        match told:
            case StateUpdate():
                self._of(told.agent_id).take(told.at, told.state)
                return (told.agent_id,)
            case Reading():
                summary = self._of(told.agent_id)
                for at, state in told.changes:
                    summary.take(at, state)
                summary.confirm(told)
                return (told.agent_id,)
            case Suspension():
                return self._suspend(told.since, tuple(self._agents) if told.agent_ids is None else told.agent_ids)
            case Forgotten():
                self._agents.pop(told.agent_id, None)
                return (told.agent_id,)
            case FeedChange():
                return ()
            case _:
                assert_never(told)

    def of(self, agent_id: str) -> Reading | None:
        """Return an agent's summary, or None where nothing is known."""
        if (summary := self._agents.get(agent_id)) is None:
            return None
        return Reading(agent_id, tuple(summary.changes()), summary.confirmed_at, lasts=True)

    def _of(self, agent_id: str) -> _Summary:
        return self._agents.setdefault(agent_id, _Summary())

    def _suspend(self, since: float, agent_ids: tuple[str, ...]) -> tuple[str, ...]:
        touched = tuple(agent_id for agent_id in agent_ids if agent_id in self._agents)
        for agent_id in touched:
            self._agents[agent_id].suspend(since)
        return touched
