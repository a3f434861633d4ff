"""What is heard of some agents, and how far it can be trusted: notifications and reads in, messages to tell out.

No socket and no clock: the time is an argument, on our timeline. Theory. Notifications tell each change; reads tell
what is so. An agent is *vouched for* from a read that shows it whole, for as long as nothing casts doubt on what we
hear of it. Whatever does so suspends it at once, and it is read again. Laws:

* A part that can't be read, a stamp that can't be right and an order that can't be known cast doubt.
* A conversation summary has no stamp: it is dated by the agent's legs of calls (see `legs`), whichever is heard first.
* A change that can't be dated took effect before we heard of it: for the while before, nothing is vouched for. Only of
  an agent whose legs were never heard of, the beginning of a call counts from when we hear of it, since our own calls
  begin so; one that somebody else began in the moment before a send is missed. Stamps of a clock that has just jumped
  are as vague.
* A read is asked for `BLUR` after the doubt at the earliest, and counts as of `BLUR` before it was asked for: it wins
  over all that happened before the doubt, and loses to all that is notified after it.
* A read that shows something else than was notified casts doubt, until the news that it was ahead of is heard. If it
  still does when it is read again, the notifications lack something: then nothing that they told is trusted any more
  (`Lost`).
* What the recorder refuses isn't lost silently: then, too, nothing is trusted any more.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import islice
from operator import attrgetter
from typing import Any, Final, NamedTuple

from call_initiation.agents.legs import Counts, Interval, Legs
from call_initiation.agents.timeline import BLUR, Timeline
from call_initiation.agents.users import Part, Update
from call_initiation.api.notifications import AsyncFailure, Ignored, LegTimes, Notification, Notified
from call_initiation.events import AgentState, NotificationTaken, StateSource
from call_initiation.recording.updates import Forgotten, LegLost, Reading, StateUpdate, Suspension, Told

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
_COUNTS: Final = slice(2, 4)
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

    def is_after(self, stamp: float, at: float) -> bool:
        """Tell whether it took effect later than something else."""
        return at < self.at if self.stamp is None else stamp < self.stamp

    @property
    def counts(self) -> Counts:
        """How many calls and how much after-call work there were."""
        on_call, wrap_up = self.values[_COUNTS]
        return on_call or 0, wrap_up or 0

    def differs(self, shown: Update) -> bool:
        """Tell whether a read shows something else; one that shows what was before says nothing."""
        is_older = self.stamp is not None and shown.at is not None and shown.at < self.stamp
        return shown.is_whole and not is_older and self.values != _values_of(shown.state)


class _While(NamedTuple):
    """When a change took effect, at the earliest and at the latest, and after when it is vouched for."""

    low: float
    high: float
    known_at: float


class _Undated(NamedTuple):
    """A change that no leg has dated yet, the words before and after it, and since when the agent was vouched for."""

    before: _Heard
    word: _Heard
    update: Update
    vouched_at: float


@dataclass(slots=True)
class _Agent:
    """One agent: what was heard last, since when it is vouched for, and its legs of calls.

    Attributes:
        contradicted: What was heard of which a read showed something else.
        awaited: What that read showed; empty if the news of it would not dispel all doubt.
    """

    heard: dict[Part, _Heard] = field(default_factory=dict[Part, _Heard])
    is_vouched: bool = False
    is_read: bool = False
    vouched_at: float = 0.0
    contradicted: tuple[_Heard, ...] = ()
    awaited: tuple[Update, ...] = ()
    legs: Legs | None = None
    undated: _Undated | None = None


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
            case LegTimes():
                self._leg(said)
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
        if agent is not None and update.part in _NEEDED:
            self.notified_at = received
            self._take_news(said.agent_id, agent, update, received, is_possible=is_possible)

    def _take_news(self, agent_id: str, agent: _Agent, update: Update, received: float, *, is_possible: bool) -> None:
        heard = agent.heard.get(update.part)
        interval = self._interval(agent, heard, update, received)
        dated = update if interval is None else replace(update, at=interval.high)
        effect = self._effect(agent, heard, update, interval, received)
        if not (update.is_whole and is_possible and self._is_in_order(heard, dated, received)):
            self._doubt(agent_id, min(effect.low, received - BLUR), received)
        if update.is_whole and is_possible:
            vouched_at = agent.vouched_at
            self._change(agent_id, agent, update.state, effect)
            self._remember(agent, dated, received, effect.high)
            word = agent.heard[update.part]
            is_undated = update.part is Part.CONVERSATIONS and interval is None and agent.is_vouched
            if is_undated and heard is not None and heard.values != word.values:
                agent.undated = _Undated(heard, word, update, vouched_at)
            self._catch_up(agent_id, agent)

    def _interval(self, agent: _Agent, heard: _Heard | None, update: Update, received: float) -> Interval | None:
        """Return between which two stamps of the server's a summary took effect, if the agent's legs tell."""
        on_call, wrap_up = update.state.on_call, update.state.wrap_up
        if agent.legs is None or heard is None or on_call is None or wrap_up is None or not self._timeline.is_sharp:
            return None
        step = on_call - heard.counts[0], wrap_up - heard.counts[1]
        now = received + self._timeline.offset
        since = heard.at + self._timeline.offset if heard.stamp is None else heard.stamp
        return agent.legs.interval(step, max(since, now - _LATE), now)

    def _effect(
        self, agent: _Agent, heard: _Heard | None, update: Update, interval: Interval | None, received: float
    ) -> _While:
        """Return when a change took effect.

        A call that begins is an exception if the agent's legs are never heard of: our own calls do that to their
        agents right after they were sent, and what was so before is what is asked for.
        """
        stamp = update.at if interval is None else interval.high
        at = received if stamp is None else min(self._timeline.local(stamp), received)
        if heard is not None and stamp is not None:
            at = heard.beside(stamp, at)
        if interval is not None:
            return _While(at if interval.low == interval.high else min(at, self._timeline.local(interval.low)), at, at)
        is_stamped = stamp is not None and self._timeline.is_sharp
        is_same = heard is None or heard.values == _values_of(update.state)
        begins = heard is not None and agent.legs is None and (update.state.on_call or 0) > heard.counts[0]
        return _While(at if is_stamped or is_same or begins else at - BLUR, at, received)

    def _change(self, agent_id: str, agent: _Agent, state: AgentState, effect: _While) -> None:
        """Tell a change; of the while in which it took effect, if that isn't a moment, nothing is vouched for."""
        if effect.low < effect.high and agent.is_vouched:
            self._tell_recorder(Suspension(effect.low, (agent_id,)))
            # At that very moment what was before still counts, and it is that which is in doubt.
            agent.vouched_at, agent.undated = effect.known_at + _INSTANT, None
            self._tell(Reading(agent_id, ((effect.high, state),), agent.vouched_at, lasts=True))
        else:
            agent.awaited = agent.awaited if effect.low == effect.high else ()
            self._tell(StateUpdate(agent_id, state, effect.high))

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

    def _leg(self, said: LegTimes) -> None:
        """Take the times of an agent's leg: they may date the last summary, or tell of something before it."""
        self._tell(NotificationTaken(topic="conversations.calls"))
        agent = self._agents.get(said.agent_id)
        if agent is None:
            return
        agent.legs = agent.legs or Legs()
        news = agent.legs.hear(said.participant_id, said.leg)
        if news is not None and not self._is_dated(said.agent_id, agent):
            self._doubt_past(said.agent_id, agent, news)

    def _is_dated(self, agent_id: str, agent: _Agent) -> bool:
        """Tell the last summary anew if its moment is known only now, as if the agent were vouched for all along."""
        undated = agent.undated
        if undated is None or not agent.is_vouched or agent.heard.get(Part.CONVERSATIONS) is not undated.word:
            return False
        interval = self._interval(agent, undated.before, undated.update, undated.word.heard_at)
        if interval is None:
            return False
        agent.vouched_at, agent.undated = undated.vouched_at, None
        self._vouch_anew(agent_id, agent.vouched_at, agent.vouched_at)
        effect = self._effect(agent, undated.before, undated.update, interval, undated.word.at)
        self._change(agent_id, agent, undated.update.state, effect)
        return True

    def _doubt_past(self, agent_id: str, agent: _Agent, stamp: float) -> None:
        """Vouch for nothing between a moment that no summary has shown and the last summary, which came after it."""
        word = agent.heard.get(Part.CONVERSATIONS)
        if word is None or not word.is_after(stamp, self._timeline.local(stamp)):
            return
        agent.awaited = ()
        if agent.undated is not None and agent.undated.before.is_after(stamp, self._timeline.local(stamp)):
            agent.undated = None
        if agent.is_vouched:
            agent.vouched_at = max(agent.vouched_at, word.at + _INSTANT)
            self._vouch_anew(agent_id, self._timeline.local(stamp), agent.vouched_at)

    def _vouch_anew(self, agent_id: str, until: float, since: float) -> None:
        """Vouch for an agent until one moment, and since another."""
        self._tell_recorder(Suspension(until, (agent_id,)))
        self._tell(Reading(agent_id, (), since, lasts=True))

    def _failed(self, failure: AsyncFailure, received: float) -> None:
        """Tell of a leg's failure once, however often a conversation's later events repeat it."""
        if failure not in self._failures:
            self._failures[failure] = None
            if len(self._failures) > _FAILURES:
                self._failures.popitem(last=False)
            began = received if failure.began is None else min(self._timeline.local(failure.began), received)
            self._tell(LegLost(failure.agent_id, failure.error_code, began))

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
            # Whoever was doubted since it was asked for waits for the next one: this may show what was before.
            if (agent := self._agents.get(agent_id)) is None or self._unread.get(agent_id, asked) > asked:
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
        agent.is_vouched, agent.is_read, agent.awaited = False, False, ()
        self._tell(Forgotten(agent_id))

    def _compare(self, agent_id: str, agent: _Agent, shown: tuple[Update, ...], asked: float) -> None:
        """Doubt an agent of whom a read shows something else than was heard; the news may still be under way."""
        heard = [(agent.heard.get(update.part), update) for update in shown if update.part in _NEEDED]
        if not all(update.is_whole for _, update in heard):
            self._doubt(agent_id, asked - BLUR, asked)
            return
        agent.contradicted = tuple(known for known, update in heard if known and known.differs(update))
        if agent.contradicted:
            self._doubt(agent_id, asked - BLUR, asked + _PATIENCE)
            agent.awaited = tuple(update for known, update in heard if known in agent.contradicted)

    def _catch_up(self, agent_id: str, agent: _Agent) -> None:
        """Vouch for an agent again, as if it had never been in doubt, once we hear what a read was ahead of."""
        if agent.awaited and all(agent.heard[one.part].values == _values_of(one.state) for one in agent.awaited):
            self._unread.pop(agent_id, None)
            agent.is_vouched, agent.contradicted, agent.awaited = True, (), ()
            self._vouch_anew(agent_id, agent.vouched_at, agent.vouched_at)

    def _take(self, agent_id: str, agent: _Agent, shown: tuple[Update, ...], asked: float, answered: float) -> None:
        doubted = [(agent.heard.get(update.part), update) for update in shown]
        if any(known in agent.contradicted and known.differs(update) for known, update in doubted if known):
            raise Lost(Trouble.CONTRADICTED)
        agent.contradicted = agent.awaited = ()
        whole = whole_of(shown)
        behind = [self._is_behind(agent.heard.get(update.part), update, asked - BLUR) for update in whole]
        if any(behind):
            self._unread[agent_id] = max(behind)
            self._unread.move_to_end(agent_id)
            return
        self._unread.pop(agent_id, None)
        self._unseen.discard(agent_id)
        agent.is_vouched = are_all(whole)
        for update in whole:
            at = asked if update.at is None else self._timeline.local(update.at)
            self._remember(agent, update, asked, min(at, asked))
        changes = tuple(changes_of(whole, self._timeline, asked - BLUR, is_first=not agent.is_read))
        agent.is_read, agent.vouched_at = True, answered
        self._tell(Reading(agent_id, changes, answered if agent.is_vouched else None, lasts=True))

    @staticmethod
    def _is_behind(heard: _Heard | None, shown: Update, as_of: float) -> float:
        """Return when to read again, if a read may show what was before the last word, or news be under way; else 0."""
        if heard is None or heard.values == _values_of(shown.state):
            return 0.0
        if heard.stamp is not None and shown.at is not None and shown.at < heard.stamp:
            return as_of + BLUR + _PATIENCE
        return heard.at + BLUR if heard.at > as_of else 0.0

    # -- doubt ----------------------------------------------------------------------------------------------------

    def doubt_all(self, since: float) -> None:
        """Trust nothing that was heard after `since`; `read_all` must follow."""
        ids = self.agent_ids
        for start in range(0, len(ids), AT_ONCE):
            self._tell_recorder(Suspension(since, tuple(ids[start : start + AT_ONCE])))
        for agent in self._agents.values():
            agent.heard.clear()
            agent.is_vouched, agent.contradicted, agent.awaited = False, (), ()

    def read_all(self, now: float) -> None:
        """Have everyone read, now that changes are heard of."""
        self._unread = OrderedDict.fromkeys(self._agents, now + BLUR)
        self._unseen = set(self._agents)

    def _doubt(self, agent_id: str, since: float, now: float) -> None:
        agent = self._agents[agent_id]
        agent.awaited = ()
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
