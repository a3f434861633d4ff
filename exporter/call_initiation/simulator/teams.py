"""The queues and groups of the pretend organisation: which there are, and who belongs to them.

Chance, from the seed, makes some agents members of several and some of none. Whoever disturbs the organisation may say
otherwise, of each by itself, and take it back.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Final

from call_initiation.simulator.exchange import made_up_id, stream

_QUEUES: Final = {"Sales": 0.5, "Service": 0.3, "Renewals": 0.1}
_GROUPS: Final = {"Paris": 0.4, "Lyon": 0.2}
"""By name, the share of the agents that belongs to it."""

_RESTING: Final = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Team:
    """A queue or a group.

    Attributes:
        id: Its id.
        name: Its name.
        member_ids: The agents who belong to it.
        resting: Those of them who take no calls of it at the moment: members of a queue who haven't joined it.
    """

    id: str
    name: str
    member_ids: tuple[str, ...]
    resting: frozenset[str] = frozenset()


class Teams:
    """All queues and groups.

    Attributes:
        queues: By id.
        groups: By id.
    """

    def __init__(self, seed: int, agent_ids: Iterable[str]) -> None:
        random, ids = stream(seed, "teams"), list(agent_ids)
        self.queues: Final = _made(_QUEUES, ids, random)
        self.groups: Final = _made(_GROUPS, ids, random)


def _made(shares: Mapping[str, float], agent_ids: list[str], random: Random) -> dict[str, Team]:
    teams = [_team(name, share, agent_ids, random) for name, share in shares.items()]
    return {team.id: team for team in teams}


def _team(name: str, share: float, agent_ids: list[str], random: Random) -> Team:
    return Team(
        id=made_up_id(random),
        name=name,
        member_ids=tuple(agent_id for agent_id in agent_ids if random.random() < share),
        resting=frozenset(agent_id for agent_id in agent_ids if random.random() < _RESTING),
    )
