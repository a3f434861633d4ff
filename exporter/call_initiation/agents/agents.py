"""What is known of agents: the word for a state, and the state as of a moment of the recent past.

Theory. An agent's state is a handful of *parts*. Each part changes at a moment of the **server's** time and is told to
us at some later moment: out of order, twice, or never. A *change* is what was told: a server time, some parts, and who
said so. Changes are kept in the order of their server time, ties in the order of their arrival, and a state is made by
letting them speak in that order. Times are server time, in seconds since the epoch.

Laws:

1. Last writer wins, per part, by server time; ties by arrival. The order of arrival is otherwise of no consequence, and
   a change that is told twice counts once.
2. As of a send, only changes *strictly before* it speak: a refused call can itself change the state of its agent.
3. `since` is when a part last became what it is; being told again what is known already makes nothing newer.
4. History keeps the newest 16 changes, and of older ones those that still tell a part's value. A send at or before the
   newest of these older ones is `unknown`: what spoke then may have been dropped.
5. A state is `known` only if every part of it is vouched for as of the send: by the feed, from the snapshot that it
   confirmed to the moment since which it may have missed changes; or by the caller, whose word holds until the next
   one. Else it is `stale`. Of what the feed vouched for, the two latest stretches of time are remembered.
6. A change that arrives after 16 newer ones, at the very moment of another one that tells the same part, can't be told
   from a repetition: that part is vouched for by nobody until it is told anew.

For a feed: tell what a snapshot says without a time of its own as of the moment *before* it was asked for (so that a
change which is streamed meanwhile wins), and confirm it as of the moment *after* it was answered.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from math import inf, isfinite
from operator import attrgetter
from typing import Any, Final, NamedTuple

from call_initiation.events import (
    UNKNOWN_STATE,
    AgentState,
    Certainty,
    Presence,
    StateChange,
    StateLabel,
    StateSource,
)

HISTORY: Final = 16
"""How many changes of an agent are kept."""

_KNOWN: Final = Certainty.KNOWN
_STALE: Final = Certainty.STALE
_SENDS: Final = 4  # how many lookups of an agent are remembered, to notice changes that come too late for them
_NO_SENDS: Final = array("d")
_NEVER: Final = (inf, -inf)
_WHOLES: Final = 1024  # how many agents' latest states are kept ready; for all agents it would be 25 MB
_SHARED: Final = 4096  # how many different tellings are shared between agents; most agents are told the same few

_PARTS: Final = ("presence", "routing_status", "on_call", "wrap_up", "station", "out_of_office")
_values_of: Callable[[AgentState], tuple[Any, ...]] = attrgetter(*_PARTS)

_Told = tuple[int, StateSource, Any, Any, Any, Any, Any, Any]
"""One telling: a bit for each part that it tells, who told it, and the parts as in `_PARTS`; None for one not told."""

_PLACES: Final = tuple(
    tuple(2 + part for part in range(len(_PARTS)) if told >> part & 1) for told in range(1 << len(_PARTS))
)  # where in a telling the parts stand that it tells, by its bits


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of the precedence of words: the word, when it holds in a sentence's words, and the same as code."""

    label: StateLabel
    when: str
    holds: Callable[[AgentState], bool]


PRECEDENCE: Final[tuple[Rule, ...]] = (
    Rule(StateLabel.UNKNOWN, "the state is stale or not known", lambda s: s.certainty is not Certainty.KNOWN),
    Rule(StateLabel.ON_CALL, "the agent is on a call", lambda s: (s.on_call or 0) > 0),
    Rule(StateLabel.WRAP_UP, "a call is in after-call work", lambda s: (s.wrap_up or 0) > 0),
    Rule(StateLabel.INTERACTING, "the routing status is INTERACTING", lambda s: s.routing_status == "INTERACTING"),
    Rule(StateLabel.NOT_RESPONDING, "it is NOT_RESPONDING", lambda s: s.routing_status == "NOT_RESPONDING"),
    Rule(StateLabel.NO_STATION, "the agent has no effective station", lambda s: s.station == ""),
)
"""Which word wins, from the top; where no row holds, it is the word of the presence. COMMUNICATING is no row: it says
that the agent speaks to somebody, which need not be a call of the contact centre."""

PRESENCE_LABELS: Final = {presence: StateLabel(presence.value.lower()) for presence in Presence}
"""The word of each presence."""


@lru_cache(maxsize=1024)  # of the few states that most agents are in
def label(state: AgentState) -> StateLabel:
    """Return the one word for `state` that metrics carry, by `PRECEDENCE`; `unknown` unless the state is known."""
    for rule in PRECEDENCE:
        if rule.holds(state):
            return rule.label
    return PRESENCE_LABELS[state.presence] if state.presence else StateLabel.UNKNOWN


@dataclass(frozen=True, slots=True)
class Applied:
    """What telling a change did.

    Attributes:
        change: The change of the agent's current word; None where it stayed the same.
        late: How many of the agent's latest lookups would have been answered differently.
    """

    change: StateChange | None = None
    late: int = 0


_NOTHING: Final = Applied()


class _Composed(NamedTuple):
    """A state made of changes, before anybody asks how far it can be believed."""

    values: tuple[Any, ...]
    since: float
    source: StateSource
    needs_feed: bool  # some part was told by the feed, so the feed has to vouch for it
    is_doubtful: bool  # some part can be vouched for by nobody


class _History:
    """The changes of one agent, in order; the first `folded` are older than the kept ones and tell what still holds.

    There may be 100,000 of these: hence the array, the slots, and tellings that are shared.
    """

    __slots__ = ("confirmed", "epoch", "folded", "label", "needs_feed", "sends", "since",
                 "source", "times", "tolds", "until", "vouched", "whole")  # fmt: skip

    def __init__(self, epoch: int) -> None:
        self.times = array("d")
        self.tolds: list[_Told] = []
        self.folded = 0
        self.since = -inf  # of the state that the folded changes make
        self.source = StateSource.NONE
        self.confirmed = inf  # the feed vouches for the state from here …
        self.until = -inf  # … to here, both included
        self.vouched = _NEVER  # the stretch before that, as far as `until` reaches
        self.epoch = epoch  # which of the directory's suspensions `until` already heeds
        self.label = StateLabel.UNKNOWN
        self.needs_feed = False
        self.sends = _NO_SENDS
        self.whole: _Composed | None = None  # what all changes make, where the directory keeps it

    def add(self, at: float, told: _Told) -> bool:
        """Put one telling in its place; say whether it was a new one."""
        self.whole = None
        first, end = bisect_left(self.times, at), bisect_right(self.times, at)
        if told in self.tolds[first:end]:
            return False
        if first < self.folded and any(told[0] & tied[0] for tied in self.tolds[first:end]):
            told = (told[0], StateSource.NONE, *told[2:])
        if end < self.folded:
            self._add_folded(end, at, told)
        else:
            self._insert(end, at, told)
            self._fold()
        return True

    def as_of(self, sent: float) -> _Composed | None:
        """Return the state strictly before `sent`, or None where nothing is known or kept of that time."""
        count = bisect_left(self.times, sent)
        if count < max(1, self.folded):
            return None
        return self.whole if self.whole and count == len(self.times) else self.compose(count)

    def compose(self, count: int) -> _Composed:
        """Let the first `count` changes speak, at least one and at least the folded ones."""
        values: list[Any] = [None] * (2 + len(_PARTS))
        tellers: dict[int, int] = {}
        changed = 0
        for index, told in enumerate(islice(self.tolds, count)):
            for place in _PLACES[told[0]]:
                if told[place] != values[place]:
                    values[place], changed = told[place], index
                tellers[place] = index
        is_kept = changed >= self.folded
        since, source = (self.times[changed], self.tolds[changed][1]) if is_kept else (self.since, self.source)
        sources = {self.tolds[index][1] for index in tellers.values()}
        needs_feed, is_doubtful = bool(sources - {StateSource.CALLER}), StateSource.NONE in sources
        return _Composed(tuple(values[2:]), since, source, needs_feed, is_doubtful)

    def remember(self, sent: float) -> None:
        """Keep the latest lookups: changes may come too late for them."""
        if len(self.sends) < _SENDS:
            self.sends = array("d", (*self.sends, sent))
        else:
            self.sends.append(sent)
            del self.sends[0]

    def vouch(self, at: float) -> None:
        """Begin another stretch, and remember the last one that there was."""
        last = (self.confirmed, self.until) if self.confirmed <= self.until else self.vouched
        self.vouched = last if last[1] <= self.until else (last[0], self.until)
        self.confirmed, self.until = at, inf

    def is_vouched(self, sent: float) -> bool:
        return sent <= self.until and (sent >= self.confirmed or self.vouched[0] <= sent <= self.vouched[1])

    def _insert(self, index: int, at: float, told: _Told) -> None:
        """Insert one telling; an equal one of the same agent's is shared."""
        self.times.insert(index, at)
        self.tolds.insert(index, next((known for known in self.tolds if known == told), told))

    def _fold(self) -> None:
        """Fold the oldest kept change where more than `HISTORY` are kept."""
        if len(self.times) - self.folded > HISTORY:
            composed = self.compose(self.folded + 1)
            self.since, self.source = composed.since, composed.source
            self.folded += 1
            self._prune()

    def _add_folded(self, index: int, at: float, told: _Told) -> None:
        """Insert one telling among the folded ones."""
        before = self.compose(self.folded).values
        self._insert(index, at, told)
        self.folded += 1
        if at > self.since and self.compose(self.folded).values != before:
            self.since, self.source = at, told[1]
        self._prune()

    def _prune(self) -> None:
        """Drop the folded changes of which every part was told anew by a later folded one."""
        seen = 0
        for index in reversed(range(self.folded)):
            parts = self.tolds[index][0]
            if not parts & ~seen:
                del self.times[index], self.tolds[index]
                self.folded -= 1
            seen |= parts


class Agents:
    """The directory: what is known of each agent, now and as of the recent past. Used by one thread.

    Attributes:
        evicted: How many agents were forgotten because there were more than `limit`.
    """

    def __init__(self, *, limit: int = 100_000) -> None:
        """Make an empty directory.

        Args:
            limit: How many agents are kept; beyond it the one that was touched least recently is forgotten.
        """
        self.evicted = 0
        self._limit = limit
        self._histories: OrderedDict[str, _History] = OrderedDict()
        self._shared: dict[_Told, _Told] = {}
        self._epoch = 0
        self._suspensions: deque[float] = deque(maxlen=HISTORY)  # those of all agents; the last one is number `_epoch`
        self._labels: Counter[StateLabel] = Counter()
        self._fed: Counter[StateLabel] = Counter()  # those of `_labels` that a suspension turns to `unknown`
        self._wholes: deque[_History] = deque()

    def __len__(self) -> int:
        """Return how many agents are kept."""
        return len(self._histories)

    def known(self, agent_id: str) -> bool:
        """Return whether anything was ever told of an agent that is still kept."""
        return agent_id in self._histories

    def apply(self, agent_id: str, update: AgentState, *, at: float) -> Applied:
        """Take in that some parts of an agent's state changed.

        Args:
            agent_id: The agent's user id.
            update: The parts that are told; None where a part is not. Its `since` is not looked at. What isn't `known`
                to the teller is not told.
            at: Server time of the change, seconds since the epoch; a change without a time (not finite) is not told.
        """
        told = self._telling(update)
        if not told[0] or update.certainty is not Certainty.KNOWN or not isfinite(at):
            return _NOTHING
        history = self._find(agent_id) or self._add(agent_id)
        sends = [sent for sent in history.sends if at < sent]
        before = [history.as_of(sent) for sent in sends]
        if not history.add(at, told):
            return _NOTHING
        after = [history.as_of(sent) for sent in sends]
        late = sum(bool(new and (not old or new.values != old.values)) for old, new in zip(before, after, strict=True))
        return Applied(self._relabel(agent_id, history, at), late)

    def confirm(self, agent_id: str, at: float) -> StateChange | None:
        """Vouch for an agent's state: all of it, as of server time `at`, was told, and so will be all changes after it.

        It holds until the next suspension, and adds nothing while an earlier one holds. A confirmation of an earlier
        time than the last suspension's is void. Returns the change of the agent's current word, if any.
        """
        history = self._find(agent_id)
        if history is None or at < history.until:
            return None
        history.vouch(at)
        return self._relabel(agent_id, history, at)

    def suspend(self, since: float, agent_ids: Iterable[str] | None = None) -> None:
        """Doubt what the feed told: from server time `since` on it may have missed changes.

        Args:
            since: The last moment at which it certainly missed nothing (its last sign of life).
            agent_ids: Of whom; None for all. A suspension of all costs the same however many there are.
        """
        if agent_ids is None:
            self._suspend_all(since)
        for agent_id in agent_ids or ():
            if history := self._find(agent_id):
                history.until = min(history.until, since)
                self._relabel(agent_id, history, since)

    def as_of(self, agent_id: str, sent: float) -> tuple[AgentState, float | None]:
        """Return an agent's state strictly before `sent` (server time), and its age then in seconds.

        `UNKNOWN_STATE` and None where nothing is known of that time.
        """
        history = self._find(agent_id)
        if history is None:
            return UNKNOWN_STATE, None
        history.remember(sent)
        composed = history.as_of(sent)
        if composed is None:
            return UNKNOWN_STATE, None
        return self._state(history, composed, sent), sent - composed.since

    def current(self) -> Counter[StateLabel]:
        """Return how many agents are in which state now; not a scan."""
        return +self._labels

    def forget(self, agent_id: str) -> None:
        """Drop all that is known of an agent: a deleted user is `unknown`."""
        if history := self._find(agent_id):
            self._count(history, -1)
            del self._histories[agent_id]

    def _telling(self, update: AgentState) -> _Told:
        """Return the parts that `update` tells, shared with all who tell the same but for a station's id."""
        values = _values_of(update)
        parts = sum(1 << part for part, value in enumerate(values) if value is not None)
        told: _Told = (parts, update.source, *values)
        is_own = update.station or len(self._shared) >= _SHARED
        return self._shared.get(told, told) if is_own else self._shared.setdefault(told, told)

    def _find(self, agent_id: str) -> _History | None:
        """Return an agent's history, up to date with what was suspended, and touch it."""
        history = self._histories.get(agent_id)
        if history is not None:
            self._histories.move_to_end(agent_id)
            self._heed_suspensions(history)
        return history

    def _add(self, agent_id: str) -> _History:
        """Return an empty history for a new agent; where there are too many, forget another one."""
        if len(self._histories) >= self._limit:
            self.forget(next(iter(self._histories)))
            self.evicted += 1
        history = self._histories[agent_id] = _History(self._epoch)
        self._count(history, 1)
        return history

    def _suspend_all(self, since: float) -> None:
        """Doubt everything the feed told: in the count at once, for each agent when it is next looked at."""
        self._epoch += 1
        self._suspensions.append(since)
        self._labels.subtract(self._fed)
        self._labels[StateLabel.UNKNOWN] += self._fed.total()
        self._fed.clear()

    def _heed_suspensions(self, history: _History) -> None:
        """Let the suspensions of all agents end what the feed vouches for; if they were too many to keep, all of it."""
        missed = self._epoch - history.epoch
        if not missed:
            return
        count = len(self._suspensions)
        since = islice(self._suspensions, count - missed, None) if missed <= count else (-inf,)
        history.until = min(history.until, *since)
        history.epoch = self._epoch
        if history.needs_feed:
            history.label = StateLabel.UNKNOWN

    def _state(self, history: _History, composed: _Composed, sent: float) -> AgentState:
        """Return the state, with how far it can be believed as of `sent`."""
        is_fed = history.is_vouched(sent) or not composed.needs_feed
        certainty = _KNOWN if is_fed and not composed.is_doubtful else _STALE
        return _stated(composed.values, composed.since, composed.source, certainty)

    def _relabel(self, agent_id: str, history: _History, at: float) -> StateChange | None:
        """Bring an agent's current word and the count of words up to date; return the change of the word, if any."""
        composed = self._whole(history)
        state = self._state(history, composed, inf)
        before, after = history.label, label(state)
        self._count(history, -1)
        history.label, history.needs_feed = after, composed.needs_feed
        self._count(history, 1)
        if before == after:
            return None
        return StateChange(agent_id=agent_id, before=before, after=after, state=state, at=at)

    def _whole(self, history: _History) -> _Composed:
        """Return the state that all changes make, and keep it: the next question is likely to be about it."""
        if history.whole is None:
            if len(self._wholes) >= _WHOLES:
                self._wholes.popleft().whole = None
            self._wholes.append(history)
            history.whole = history.compose(len(history.times))
        return history.whole

    def _count(self, history: _History, step: int) -> None:
        """Count an agent's word, or take it back."""
        self._labels[history.label] += step
        if history.needs_feed and history.label is not StateLabel.UNKNOWN:
            self._fed[history.label] += step


@lru_cache(maxsize=1024)  # the same agents call again and again
def _stated(values: tuple[Any, ...], since: float, source: StateSource, certainty: Certainty) -> AgentState:
    parts = dict(zip(_PARTS, values, strict=True))
    return AgentState(**parts, since=since, source=source, certainty=certainty)
