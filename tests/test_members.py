"""Who is followed, what for, and when queues and groups are looked at."""

import asyncio
from dataclasses import dataclass

import pytest

from call_initiation.api.pacing import Backoff
from call_initiation.errors import UpstreamError
from call_initiation.feed.members import EVERY, Circle, Team


def test_nobody_is_new_twice() -> None:
    """Whoever asks, and however often in one breath."""
    circle = Circle()
    assert ["a", "b"] == circle.keep(["a", "b", "a"])
    assert [] == circle.keep(["b"])
    assert (["c"], []) == circle.belong("queue 1", ["b", "c", "c"])
    assert (["d"], []) == circle.belong("queue 2", ["c", "d"])


def test_a_member_is_let_go_once_nothing_asks_for_it() -> None:
    """Neither a name nor another team."""
    circle = Circle()
    circle.keep(["named"])
    circle.belong("queue 1", ["named", "shared", "alone"])
    circle.belong("group 1", ["shared"])
    assert ([], ["alone"]) == circle.belong("queue 1", [])
    assert [False, True, True] == [one in circle for one in ("alone", "named", "shared")]
    assert ([], ["shared"]) == circle.belong("group 1", [])
    assert (["alone"], []) == circle.belong("queue 1", ["alone"])


def test_who_is_seen_while_a_member_stays_for_good() -> None:
    """It isn't new, and isn't let go."""
    circle = Circle()
    circle.belong("queue 1", ["a"])
    assert [] == circle.keep(["a"])
    assert ([], []) == circle.belong("queue 1", [])
    assert set() == circle.members("queue 1")


@dataclass
class Listing:
    """A queue whose reads take so many seconds each, and its answers in turn; none is a refusal."""

    answers: list[list[str] | None]
    takes: float = 0.0
    now: float = 1000.0

    async def read(self) -> list[str]:
        """Give the next answer."""
        self.now += self.takes
        if (answer := self.answers.pop(0)) is None:
            raise UpstreamError(operation="GET", status_code=404, reason="not.found")
        return answer

    def team(self) -> Team:
        """Return it as one to look at; of all waits, the longest is drawn."""
        return Team("queue 1", self.read, Backoff(1.0, EVERY, lambda: 1.0))

    def look(self, team: Team, *known: str) -> list[str]:
        """Look at it now."""
        return asyncio.run(team.look(known, lambda: self.now))


def test_a_team_is_due_at_once_and_then_every_while() -> None:
    """Ten minutes."""
    listing = Listing([["a", "b"]])
    team = listing.team()
    assert team.due <= listing.now
    assert ["a", "b"] == listing.look(team, "a")
    assert 1600.0 == team.due


def test_who_seems_to_have_left_is_looked_for_twice() -> None:
    """A page that begins anew while the listing shifts may skip one."""
    listing = Listing([["a"], ["b"], ["a"], ["a"]])
    team = listing.team()
    assert {"a", "b"} == set(listing.look(team, "a", "b"))
    assert {"a"} == set(listing.look(team, "a", "b"))
    assert [] == listing.answers


@pytest.mark.parametrize(("takes", "soonest"), [(0.0, 1060.0), (20.0, 1120.0), (200.0, 2200.0)])
def test_a_team_may_be_looked_at_earlier_but_never_without_a_rest(takes: float, soonest: float) -> None:
    """The longer a look took, the longer."""
    listing = Listing([["a"]], takes)
    team = listing.team()
    listing.look(team)
    assert max(soonest, 1600.0 + takes) == team.due
    team.hurry()
    assert soonest == team.due


def test_a_team_that_cannot_be_read_is_asked_ever_more_rarely() -> None:
    """And no more rarely than any other one."""
    listing = Listing([*[None] * 12, [], None])
    team, waits = listing.team(), list[float]()
    for _ in range(12):
        with pytest.raises(UpstreamError):
            listing.look(team)
        waits.append(team.due - listing.now)
    assert [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 600.0, 600.0] == waits
    listing.look(team)
    with pytest.raises(UpstreamError):
        listing.look(team)
    assert 1.0 == team.due - listing.now
