"""When an agent's legs of calls began, ended and were wrapped up, and which of it changed the conversation summary.

A conversation summary counts an agent's calls and carries no time; a call's own event carries the times of its
participants. Theory. Each leg has up to four *moments*, each of which moves one of the counts by one: it begins, it
ends, its after-call work begins, and that ends. A summary that differs from the last one took effect at the moment
that moved it. Laws:

* A moment is certain only if its time is one. Whether a leg counts from its alerting or from its being connected isn't
  known of the API, so where these differ, or it isn't connected yet, it began somewhere in between.
* A change is dated only if what happened to the agent's legs since the last word, up to the last moment that can have
  caused it, adds up to it; if that was more than one moment, all the while between them is in question. So is the
  while since anything that happened if a summary says the same as before.
* Total: any JSON is taken, and nothing is raised. Times are the server's.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from math import inf
from typing import Final, NamedTuple

from call_initiation.agents.users import as_object, as_text, epoch

_KEPT: Final = 16
"""How many legs of an agent are kept: those that were heard of last."""

_AHEAD: Final = 2.0
"""Seconds by which the server's clock may be ahead of what is taken for its time."""

_PURPOSES: Final = frozenset({"agent", "user"})
"""Of participants who talk themselves; whether the legs of those who monitor or coach count isn't known."""

Counts = tuple[int, int]
"""How many calls an agent is on, and how many are in after-call work."""


class Interval(NamedTuple):
    """The first and the last moment at which something can have taken effect."""

    low: float
    high: float


class _Moment(NamedTuple):
    step: Counts
    low: float
    high: float

    def moves(self, step: Counts) -> bool:
        """Tell whether it moves a count the way of `step`."""
        return self.step[0] * step[0] + self.step[1] * step[1] > 0


class Leg(NamedTuple):
    """An agent's own leg of a call: the server's times, each None as long as it hasn't come to that, or isn't told.

    Attributes:
        started: When it began to alert, or to be contacted.
        connected: When it was connected.
        ended: When it ended.
        work_started: When its after-call work began.
        work_ended: When that ended.
    """

    started: float | None = None
    connected: float | None = None
    ended: float | None = None
    work_started: float | None = None
    work_ended: float | None = None

    def moments(self, until: float) -> Iterator[_Moment]:
        """Yield what is known to have happened; what isn't known to be over may happen until `until`."""
        begins = [at for at in (self.started, self.connected) if at is not None]
        if begins:
            ends = begins if self.connected is not None else [until if self.ended is None else self.ended]
            yield _Moment((1, 0), min(begins), max(*begins, *ends))
        for step, at in (((-1, 0), self.ended), ((0, 1), self.work_started), ((0, -1), self.work_ended)):
            if at is not None:
                yield _Moment(step, at, at)


def leg(participant: Mapping[str, object], user_id: str) -> Leg | None:
    """Read a participant of a call (SDK model `ConversationCallEventTopicCallMediaParticipant`).

    Returns:
        None where it is somebody else, or takes no part in the talk.
    """
    is_own = as_object(participant.get("user")).get("id") == user_id
    if not is_own or as_text(participant.get("purpose")) not in _PURPOSES:
        return None
    names = ("startTime", "connectedTime", "endTime", "startAcwTime", "endAcwTime")
    return Leg(*(epoch(participant.get(name)) for name in names))


class Legs:
    """What was last heard of an agent's legs, by their participants' ids."""

    __slots__ = ("_legs",)

    def __init__(self) -> None:
        self._legs: OrderedDict[str, Leg] = OrderedDict()

    def hear(self, participant_id: str, heard: Leg) -> float | None:
        """Take what an event says of a leg; an older one that comes late takes nothing back.

        Returns:
            The earliest time that is new; None where all is known.
        """
        known = self._legs.get(participant_id, Leg())
        news = [new for old, new in zip(known, heard, strict=True) if old is None and new is not None]
        self._legs[participant_id] = Leg(*(new or old for old, new in zip(known, heard, strict=True)))
        self._legs.move_to_end(participant_id)
        if len(self._legs) > _KEPT:
            self._legs.popitem(last=False)
        return min(news, default=None)

    def interval(self, step: Counts, since: float, until: float) -> Interval | None:
        """Return when the counts moved by `step`, after `since` and by `until`; None where the legs don't tell."""
        moments = [moment for one in self._legs.values() for moment in one.moments(until)]
        late = [moment for moment in moments if since < moment.high and moment.low <= until + _AHEAD]
        if step == (0, 0):
            return Interval(min(until, *(moment.low for moment in late)), until) if late else None
        high = max((moment.high for moment in late if moment.moves(step)), default=-inf)
        meanwhile = [moment for moment in late if moment.low <= high]
        new = [moment for moment in meanwhile if moment.low > since]
        if step not in (_sum(meanwhile), _sum(new)):
            return None
        return Interval(min(moment.low for moment in meanwhile), high)


def _sum(moments: Iterable[_Moment]) -> Counts:
    steps = [moment.step for moment in moments]
    return sum(on_call for on_call, _ in steps), sum(wrap_up for _, wrap_up in steps)
