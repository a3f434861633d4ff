"""Who is followed, and what for: who was named or seen, and who belongs to a queue or a group.

A queue or a group is a *team*; its members are looked up again and again. Laws:

* Who was named or seen is followed for good; a member, until no team that is followed has it any more.
* A team that can't be read keeps the members that it had, is asked ever more rarely, and holds up no other one.
* A look is followed by a rest five times as long, and of a minute at least: others need our requests too.
* Who seems to have left is looked for twice: a listing that shifts while it is read page by page may skip somebody.
"""

from collections.abc import Awaitable, Callable, Iterable
from math import inf
from typing import Final

from call_initiation.api.pacing import Backoff

EVERY: Final = 600.0
"""Seconds between looks at a team."""

_RESTS: Final = 5
_SHORTEST_REST: Final = 60.0


class Circle:
    """Whom we follow."""

    def __init__(self) -> None:
        self._kept: set[str] = set()
        self._members: dict[str, set[str]] = {}

    def __contains__(self, agent_id: str) -> bool:
        """Tell whether an agent is followed, whatever for."""
        return agent_id in self._kept or any(agent_id in members for members in self._members.values())

    def keep(self, agent_ids: Iterable[str]) -> list[str]:
        """Follow agents for good; return those who weren't followed."""
        ids = list(dict.fromkeys(agent_ids))
        new = [agent_id for agent_id in ids if agent_id not in self]
        self._kept.update(ids)
        return new

    def members(self, team: str) -> set[str]:
        """Return a team's members as we know them."""
        return self._members.get(team, set())

    def belong(self, team: str, agent_ids: Iterable[str]) -> tuple[list[str], list[str]]:
        """Follow a team's members, and nobody else for its sake; return who is new among all, and who is left out."""
        members, now = self._members.setdefault(team, set()), dict.fromkeys(agent_ids)
        new = [agent_id for agent_id in now if agent_id not in members and agent_id not in self]
        left = members.difference(now)
        members -= left
        members.update(now)  # keeps the strings that there are, and that others share
        return new, [agent_id for agent_id in left if agent_id not in self]


class Team:
    """A queue or a group, and when to look at it.

    Args:
        name: What it is called in the circle and in the log.
        read: Reads its members' ids.
        backoff: How long to wait after a failure.

    Attributes:
        due: When to look at it.
    """

    def __init__(self, name: str, read: Callable[[], Awaitable[list[str]]], backoff: Backoff) -> None:
        self.name = name
        self.due = -inf
        self._read = read
        self._backoff = backoff
        self._rested_at = -inf

    @property
    def is_known(self) -> bool:
        """Whether its members were ever read."""
        return self._rested_at > -inf

    async def look(self, known: Iterable[str], now: Callable[[], float]) -> list[str]:
        """Return the members' ids; `known` are those of the last look.

        Raises:
            UpstreamError: They can't be read.
        """
        began = now()
        try:
            members = await self._read()
            if not set(members).issuperset(known):
                members += await self._read()
        except Exception:
            self.due = now() + self._backoff.next()
            raise
        self._backoff.reset()
        ended = now()
        self._rested_at = ended + max(_RESTS * (ended - began), _SHORTEST_REST)
        self.due = max(ended + EVERY, self._rested_at)
        return members

    def hurry(self) -> None:
        """Look soon: something may have been missed."""
        self.due = min(self.due, self._rested_at)
