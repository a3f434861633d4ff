"""What is heard of some agents, and how far it can be trusted: notifications and reads in, messages to tell out.

No socket and no clock: the time is an argument, on our timeline. Theory. Notifications tell each change; reads tell
what is so. An agent is *vouched for* from a read that shows it whole, for as long as nothing casts doubt on what we
hear of it. Whatever does so suspends it at once, and it is read again. Laws:

* A part that can't be read, a stamp that can't be right and an order that can't be known cast doubt.
* A change without a stamp took effect before we heard of it: for the while before, nothing is vouched for. Only the
  beginning of a call counts from when we hear of it, since our own calls begin so; one that somebody else began in
  the moment before a send is missed. Stamps of a clock that has just jumped are as vague.
* A read is asked for `BLUR` after the doubt at the earliest, and counts as of `BLUR` before it was asked for: it wins
  over all that happened before the doubt, and loses to all that is notified after it.
* Where a read shows something else than was notified, and still does when it is read again, the notifications lack
  something: then nothing that they told is trusted any more (`Lost`).
* What the recorder refuses isn't lost silently: then, too, nothing is trusted any more.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice
from operator import attrgetter
from typing import Any, Final

from call_initiation.events import AgentState, NotificationTaken, StateSource
from call_initiation.notifications import AsyncFailure, Ignored, Notification, Notified
from call_initiation.recorder import Forgotten, LegLost, Reading, StateUpdate, Suspension, Told
from call_initiation.timeline import BLUR, Timeline
from call_initiation.users import Part, Update

AT_ONCE: Final = 50
"""How many agents one read shows."""

_LATE: Final = 15.0
"""Seconds; a notification that comes later after its own stamp is a straggler, or the server's clock was set back."""

_PATIENCE: Final = 10.0
"""Seconds that a notification may come after a read that shows its change."""

_INSTANT: Final = 1e-6
_FAILURES: Final = 10_000
_NEEDED: Final = frozenset({Part.PRESENCE, Part.ROUTING_STATUS, Part.CONVERSATIONS, Part.STATION})
"""What makes a reading whole: the parts that are notified. An out-of-office isn't, so it is never told."""

_FIELDS: Final = ("presence", "routing_status", "on_call", "wrap_up", "station")
_values_of: Callable[[AgentState], tuple[Any, ...]] = attrgetter(*_FIELDS)

Answers = Mapping[str, tuple[Update, ...]]
"""What a read showed, by agent; one that isn't among them is no more."""


class Trouble(StrEnum):
    """Why a sound connection isn't trusted any more; a closed list, fit for a label, beside `channel.Reason`."""

    CONTRADICTED = "contradicted"
    """Reads showed what was never notified: the socket lives, and delivers nothing."""
    OVERFLOW = "overflow"
    """The recorder had no room for what was notified."""


class Lost(Exception):  # noqa: N818 - what it says, not an error of ours
    """Changes may have been missed; `reason` is fit for a label."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class _Heard:
    """What was last heard of a part: the server's stamp of it or None, when we heard of it, and when it took effect."""

    stamp: float | None
    heard_at: float
    at: float
    values: tuple[Any, ...]

    def beside(self, stamp: float, at: float) -> float:
        """Return `at`, but on the right side of this one: the offset may have moved between two stamps."""
        if self.stamp is None:
            return at
        if stamp == self.stamp:
            return self.at
        return max(at, self.at + _INSTANT) if stamp > self.stamp else min(at, self.at - _INSTANT)

    def is_before(self, other: "_Heard") -> bool:
        """Tell which of two is older: by the server's stamps, where both have one."""
        if self.stamp is None or other.stamp is None:
            return self.heard_at < other.heard_at
        return self.stamp < other.stamp

    def ends_with(self, change: Update) -> bool:
        """Tell whether a change is one, and not the beginning of a call."""
        begins = (change.state.on_call or 0) > (self.values[_FIELDS.index("on_call")] or 0)
        return self.values != _values_of(change.state) and not begins

    def differs(self, shown: Update) -> bool:
        """Tell whether a read shows something else; one that shows what was before says nothing."""
        is_older = self.stamp is not None and shown.at is not None and shown.at < self.stamp
        return shown.is_whole and not is_older and self.values != _values_of(shown.state)


@dataclass(slots=True)
class _Agent:
    """One agent: what was heard last, whether it is vouched for, and what a read contradicted."""

    heard: dict[Part, _Heard] = field(default_factory=dict[Part, _Heard])
    is_vouched: bool = False
    is_read: bool = False
    contradicted: tuple[_Heard, ...] = ()


class Witness:
    """Some agents, and what is heard of them.

    Args:
        tell: Hands a message to the recorder; returns whether it was taken.
        timeline: Brings stamps to our timeline.

    Attributes:
        notified_at: When something was last notified of an agent: silence may have begun then.
    """

    def __init__(self, tell: Callable[[Told], bool], timeline: Timeline) -> None:
        self._tell_recorder = tell
        self._timeline = timeline
        self._agents: dict[str, _Agent] = {}
        self._unread: OrderedDict[str, float] = OrderedDict()
        self._unseen: set[str] = set()
        self._failures: OrderedDict[AsyncFailure, None] = OrderedDict()
        self._turn = 0
        self.notified_at = 0.0

    def __len__(self) -> int:
        """Return how many agents there are."""
        return len(self._agents)

    @property
    def agent_ids(self) -> list[str]:
        """Who they are, in the order in which they came."""
        return list(self._agents)

    # -- who is followed ------------------------------------------------------------------------------------------

    def add(self, agent_ids: Iterable[str], now: float) -> None:
        """Follow more agents: those that are new are to be read."""
        for agent_id in agent_ids:
            if agent_id not in self._agents:
                self._agents[agent_id] = _Agent()
                self._unread[agent_id] = now + BLUR
                self._unseen.add(agent_id)

    def drop(self, agent_ids: Iterable[str]) -> None:
        """Follow some agents no more; nothing of them was vouched for yet."""
        for agent_id in agent_ids:
            self._agents.pop(agent_id, None)
            self._unread.pop(agent_id, None)
            self._unseen.discard(agent_id)

    # -- what is heard --------------------------------------------------------------------------------------------

    def hear(self, said: Notification, received: float) -> None:
        """Take a notification.

        Raises:
            Lost: The recorder has no room for it.
        """
        match said:
            case Notified():
                self._notified(said, received)
            case AsyncFailure():
                self._failed(said, received)
            case Ignored():
                self._tell(NotificationTaken(topic="ignored"))
            case _:
                pass

    def _notified(self, said: Notified, received: float) -> None:
        update, agent = said.update, self._agents.get(said.agent_id)
        at = received if update.at is None else min(self._timeline.local(update.at), received)
        is_possible = update.at is None or self._timeline.observe_stamp(update.at, received)
        lag = None if update.at is None else max(0.0, received - at)
        self._tell(NotificationTaken(topic=said.topic, lag=lag if is_possible else None))
        if agent is None or update.part not in _NEEDED:
            return
        self.notified_at = received
        heard = agent.heard.get(update.part)
        if not (update.is_whole and is_possible and self._is_in_order(heard, update, received)):
            self._doubt(said.agent_id, min(at, received - BLUR), received)
        if update.is_whole and is_possible:
            effective = heard.beside(update.at, at) if heard is not None and update.at is not None else at
            self._change(said.agent_id, agent, update, effective, received)
            self._remember(agent, update, received, effective)

    def _change(self, agent_id: str, agent: _Agent, update: Update, at: float, received: float) -> None:
        """Tell a change; of the while in which it took effect, if that isn't known well, nothing is vouched for.

        A call that begins is the exception: our own calls do that to their agents right after they were sent, and
        what was so before is what is asked for.
        """
        heard = agent.heard.get(update.part)
        is_vague = update.at is None or not self._timeline.is_sharp
        if is_vague and agent.is_vouched and heard is not None and heard.ends_with(update):
            self._tell_recorder(Suspension(at - BLUR, (agent_id,)))
            self._tell(Reading(agent_id, ((at, update.state),), received, lasts=True))
        else:
            self._tell(StateUpdate(agent_id, update.state, at))

    def _is_in_order(self, heard: _Heard | None, update: Update, received: float) -> bool:
        """Tell whether it is sure which of the two is newer, and that nothing was set back."""
        if update.at is None:
            # No stamp: which came first isn't known where they come close together.
            is_close = heard is not None and received - heard.heard_at < BLUR
            return heard is None or not is_close or heard.values == _values_of(update.state)
        is_late = received - self._timeline.local(update.at) > _LATE
        is_far_back = heard is not None and heard.stamp is not None and update.at < heard.stamp - BLUR
        return not is_late and not is_far_back

    @staticmethod
    def _remember(agent: _Agent, update: Update, heard_at: float, at: float) -> None:
        heard, new = agent.heard.get(update.part), _Heard(update.at, heard_at, at, _values_of(update.state))
        if heard is None or not new.is_before(heard):
            agent.heard[update.part] = new

    def _failed(self, failure: AsyncFailure, received: float) -> None:
        """Tell of a leg's failure once, however often a conversation's later events repeat it."""
        self._tell(NotificationTaken(topic="conversations.calls"))
        if failure not in self._failures:
            self._failures[failure] = None
            if len(self._failures) > _FAILURES:
                self._failures.popitem(last=False)
            self._tell(LegLost(failure.agent_id, failure.error_code, received))

    # -- what is read ---------------------------------------------------------------------------------------------

    @property
    def is_settled(self) -> bool:
        """Whether everyone was read since everyone was in doubt; of many busy agents a few always wait to be read."""
        return not self._unseen

    def due(self, now: float) -> list[str]:
        """Return who is to be read now: those in doubt, as many as one read shows."""
        return list(islice((agent_id for agent_id, due in self._unread.items() if due <= now), AT_ONCE))

    def sample(self) -> list[str]:
        """Return the next ones in turn, to see whether reads show what was notified."""
        ids = self.agent_ids
        start = self._turn if self._turn < len(ids) else 0
        self._turn = start + AT_ONCE
        return [agent_id for agent_id in ids[start : self._turn] if agent_id not in self._unread]

    def read(self, asked_for: Iterable[str], answers: Answers, asked: float, answered: float) -> None:
        """Take what a read showed, and the two moments between which it was taken.

        Raises:
            Lost: It contradicts what was notified, or the recorder has no room for it.
        """
        for agent_id in asked_for:
            if (agent := self._agents.get(agent_id)) is None:
                continue
            if agent_id not in answers:
                self._gone(agent_id, agent)
            elif agent.is_vouched:
                self._compare(agent_id, agent, answers[agent_id], asked)
            else:
                self._take(agent_id, agent, answers[agent_id], asked, answered)

    def _gone(self, agent_id: str, agent: _Agent) -> None:
        self._unread.pop(agent_id, None)
        self._unseen.discard(agent_id)
        agent.heard.clear()
        agent.is_vouched = agent.is_read = False
        self._tell(Forgotten(agent_id))

    def _compare(self, agent_id: str, agent: _Agent, shown: tuple[Update, ...], asked: float) -> None:
        """Doubt an agent of whom a read shows something else than was heard; the news may still be under way."""
        heard = [(agent.heard.get(update.part), update) for update in shown if update.part in _NEEDED]
        agent.contradicted = tuple(known for known, update in heard if known and known.differs(update))
        if agent.contradicted:
            self._doubt(agent_id, asked - BLUR, asked + _PATIENCE)

    def _take(self, agent_id: str, agent: _Agent, shown: tuple[Update, ...], asked: float, answered: float) -> None:
        doubted = [(agent.heard.get(update.part), update) for update in shown]
        if any(known in agent.contradicted and known.differs(update) for known, update in doubted if known):
            raise Lost(Trouble.CONTRADICTED)
        agent.contradicted = ()
        whole = whole_of(shown)
        if any(self._is_behind(agent.heard.get(update.part), update) for update in whole):
            self._unread[agent_id] = answered + _PATIENCE
            self._unread.move_to_end(agent_id)
            return
        self._unread.pop(agent_id, None)
        self._unseen.discard(agent_id)
        agent.is_vouched = are_all(whole)
        for update in whole:
            at = asked if update.at is None else self._timeline.local(update.at)
            self._remember(agent, update, asked, min(at, asked))
        changes = tuple(changes_of(whole, self._timeline, asked - BLUR, is_first=not agent.is_read))
        agent.is_read = True
        self._tell(Reading(agent_id, changes, answered if agent.is_vouched else None, lasts=True))

    @staticmethod
    def _is_behind(heard: _Heard | None, shown: Update) -> bool:
        """Tell whether a read shows what was before the last notification: the API's reads may lag."""
        if heard is None or heard.stamp is None or shown.at is None:
            return False
        return shown.at < heard.stamp and heard.values != _values_of(shown.state)

    # -- doubt ----------------------------------------------------------------------------------------------------

    def doubt_all(self, since: float) -> None:
        """Trust nothing that was heard after `since`; `read_all` must follow."""
        ids = self.agent_ids
        for start in range(0, len(ids), AT_ONCE):
            self._tell_recorder(Suspension(since, tuple(ids[start : start + AT_ONCE])))
        for agent in self._agents.values():
            agent.heard.clear()
            agent.is_vouched, agent.contradicted = False, ()

    def read_all(self, now: float) -> None:
        """Have everyone read, now that changes are heard of."""
        self._unread = OrderedDict.fromkeys(self._agents, now + BLUR)
        self._unseen = set(self._agents)

    def _doubt(self, agent_id: str, since: float, now: float) -> None:
        agent = self._agents[agent_id]
        if agent.is_vouched:
            agent.is_vouched = False
            self._tell_recorder(Suspension(since, (agent_id,)))
        self._unread[agent_id] = now + BLUR
        self._unread.move_to_end(agent_id)

    def _tell(self, told: Told) -> None:
        if not self._tell_recorder(told):
            raise Lost(Trouble.OVERFLOW)


def whole_of(shown: Iterable[Update]) -> list[Update]:
    """Return those of the parts that a read shows which can be read, and are told."""
    return [update for update in shown if update.is_whole and update.part in _NEEDED]


def are_all(whole: Iterable[Update]) -> bool:
    """Return whether these are all parts that there are to tell."""
    return _NEEDED.issubset(update.part for update in whole)


def changes_of(
    whole: Iterable[Update], timeline: Timeline, as_of: float, *, is_first: bool
) -> Iterable[tuple[float, AgentState]]:
    """Yield what a read tells: each part as of its own stamp, then all of them as of `as_of`.

    The second telling wins over what was heard before, whatever the stamps say; where it repeats the first, it makes
    nothing newer. What has no stamp is as old as can be at a first read, so that it doesn't pass for a change.
    """
    parts = list(whole)
    stamped = [(at, one.state) for one in parts if one.at is not None and (at := timeline.local(one.at)) < as_of]
    yield from stamped
    if is_first and stamped:
        eldest = min(at for at, _ in stamped)
        yield from ((eldest, one.state) for one in parts if one.at is None)
    if parts:
        told = {name: value for one in parts for name in _FIELDS if (value := getattr(one.state, name)) is not None}
        yield as_of, AgentState(**told, source=StateSource.REST)
