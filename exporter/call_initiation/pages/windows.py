"""Which attempts the page tells of: those of the last minutes, or all; and how they came, minute by minute.

Laws: a window begins with a whole minute and holds every attempt that began in it; one that began before is in it only
where a later one was recorded first. The minutes of a trend add up to what the last hour's window holds.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from call_initiation import catalogue
from call_initiation.events import Outcome
from call_initiation.pages.correlation import series
from call_initiation.recording.aggregate import View
from call_initiation.recording.recent import MINUTE, Counts, Look

TREND: Final = 61
"""Minutes of a trend: an hour, and the minute that runs."""

_OUTCOME: Final = catalogue.ATTEMPTS.labels.index("outcome")
_CODE: Final = catalogue.ATTEMPTS.labels.index("error_code")


class Window(NamedTuple):
    """A stretch of time up to now: what it is called, and how many minutes it lasts; None for all there was."""

    name: str
    minutes: int | None


WINDOWS: Final = {
    "10m": Window("in the last 10 minutes", 10),
    "1h": Window("in the last hour", 60),
    "all": Window("since the start", None),
}
"""The windows that one can ask for, by the word in the page's address."""

USUAL: Final = "1h"
"""The window of who asks for none: long enough to say something, short enough to tell of tonight."""


def counted_before(window: Window, looks: Sequence[Look], view: View, now: float) -> Counts:
    """Return how the attempts stood when a window began; `now` is in seconds since the epoch."""
    if window.minutes is None:
        return {}
    begin = (int(now) // MINUTE - window.minutes) * MINUTE
    return next((look.counts for look in looks if look.at >= begin), _counts(view))


class Trends(NamedTuple):
    """How many attempts each of the last minutes had.

    Attributes:
        begin: The first of the minutes, in seconds since the epoch.
        attempts: Attempts by minute.
        refused: Those that were not accepted.
        codes: The same by error code.
    """

    begin: int
    attempts: Counter[int]
    refused: Counter[int]
    codes: dict[str, Counter[int]]


def trends(looks: Sequence[Look], view: View, now: float) -> Trends:
    """Return how the attempts of the last hour came; `now` is in seconds since the epoch."""
    begin = (int(now) // MINUTE - TREND + 1) * MINUTE
    found = Trends(begin, Counter(), Counter(), {})
    for look, later in pairwise((*looks, Look(0, _counts(view)))):
        if look.at >= begin:
            _add(found, min((look.at - begin) // MINUTE, TREND - 1), look.counts, later.counts)
    return found


def _add(found: Trends, minute: int, before: Counts, after: Counts) -> None:
    for labels, count in after.items():
        more = int(count - before.get(labels, 0.0))
        if not more:
            continue
        found.attempts[minute] += more
        if labels[_OUTCOME] != Outcome.ACCEPTED:
            found.refused[minute] += more
            found.codes.setdefault(labels[_CODE], Counter())[minute] += more


def _counts(view: View) -> Counts:
    return {labels: number.value for labels, number in series(view, catalogue.ATTEMPTS)}
