"""Where to look first: is it the agents' states, our payload, or neither? What a correlation says of that, in words.

Theory. Only a rejection (a 400 and its kin) can depend on the agent's state; every other failure has its culprit by
what it is. For each code of rejections the states are ranked by the share of their calls that met it, and cut in two
where chance would least make such a difference: Fisher's exact test, the upper tail of the hypergeometric distribution.
A call has one code, so another one may have been in the way. The doubt speaks for the states: where a code isn't
marked, only calls that no other code kept from it are counted.

Laws:

1. A state is pointed at only where chance alone would do so less than once in a thousand times, over all codes and all
   ways to cut the states in two (Bonferroni's bound), and where the code is met `MARKED` times as often as elsewhere.
2. States are called alike only after `FIRM` refusals, with as many calls outside the state that has the most, where
   most calls were in states that could meet the code, and where not even a suspicion speaks against it. In between,
   nothing is said.
3. `unknown` and `other` are no states, and `other` is no code: nothing is blamed on what isn't known.
4. A lead is no cause, and it is of the calls that it was given: a fault that began while many agents were in one state
   looks like that state's, until more calls are made in others.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import fsum, lgamma, log
from typing import Final, NamedTuple

from call_initiation.calls import codebook
from call_initiation.calls.meanings import CONCERNS, Culprit
from call_initiation.events import Category, Outcome, StateLabel
from call_initiation.pages.correlation import FIRM, Correlation, percent
from call_initiation.privacy import OTHER

MARKED: Final = 1.5
"""How many times as often as elsewhere a code must be met in a state; less makes no difference to speak of."""

TELLING: Final = 5
"""Refusals of a state from which on it may be named: fewer may be one agent's bad moment."""

MOST: Final = 3
"""Leads that are given, and states of one that are named; more are counted."""

_CHANCE: Final = log(0.001)
_SUSPICION: Final = log(0.05)
_NEGLIGIBLE: Final = 1e-12

_ALIKE: Final = ", in all states alike"
_UNTOLD: Final = "; too few calls were made in different known states to tell whether the state matters"

_NO_STATES: Final = frozenset({StateLabel.UNKNOWN.value, OTHER})
_CATEGORIES: Final[Mapping[str, Category]] = {
    Outcome.UNAUTHORIZED: Category.AUTHENTICATION,
    Outcome.RATE_LIMITED: Category.RATE_LIMIT,
    Outcome.FAILED: Category.PROVIDER,
    Outcome.REDIRECTED: Category.TRANSPORT,
    Outcome.NOT_SENT: Category.TRANSPORT,
    Outcome.AMBIGUOUS: Category.TRANSPORT,
    Outcome.CANCELLED: Category.TRANSPORT,
}


@dataclass(frozen=True, slots=True)
class Lead:
    """One thing to look at; its three texts after each other end a sentence that begins with "Look at".

    Attributes:
        before: Who is to blame, as far as that isn't the states; may be empty.
        code: The error code.
        after: What was seen of it.
        refusals: How many refusals this is about.
        states: The states that stand out, those with the most refusals first; none where it isn't the states.
    """

    before: str
    code: str
    after: str
    refusals: int
    states: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return the end of the sentence, without its full stop."""
        return self.before + self.code + self.after


class _Met(NamedTuple):
    """How many of a state's calls met a code; `free` counts those that no other code kept from it."""

    state: str
    hits: int
    attempts: int
    free: int


class _Cut(NamedTuple):
    """States in which a code is marked, the others, and the logarithm of how likely chance makes such a difference."""

    chance: float
    marked: list[_Met]
    others: list[_Met]


def leads(found: Correlation) -> list[Lead]:
    """Return where to look, what is about the most refusals first; nothing where too little was seen to say."""
    codes = sum(outcome == Outcome.REJECTED for outcome, _ in found.causes)
    given = (
        _of_rejections(found, code, codes) if outcome == Outcome.REJECTED else _of_failures(found, outcome, code)
        for outcome, code in found.causes
        if code != OTHER
    )
    return sorted(filter(None, given), key=lambda lead: (-lead.refusals, str(lead)))[:MOST]


def _of_rejections(found: Correlation, code: str, codes: int) -> Lead | None:
    hits = found.causes[Outcome.REJECTED, code]
    met = [
        _Met(state, hits[state], attempts, attempts - found.refused.get(state, 0) + hits[state])
        for state, attempts in found.attempts.items()
        if state not in _NO_STATES
    ]
    cut = min(_cuts(met), default=_Cut(0.0, [], []))
    if cut.chance + len(met) * log(2) + log(codes) < _CHANCE:
        return _of_states(code, cut)
    if hits.total() < FIRM:
        return None
    if not _can_compare(met):
        return _of_all(found, Outcome.REJECTED, code, _UNTOLD, "the request and the agents' states")
    return None if cut.chance + log(len(met)) < _SUSPICION else _of_all(found, Outcome.REJECTED, code, _ALIKE)


def _can_compare(met: list[_Met]) -> bool:
    """Tell whether states can be called alike: calls enough could meet the code, in more than one, in most of them."""
    reached = sum(one.attempts for one in met if one.free)
    return (
        sum(one.hits for one in met) >= FIRM
        and sum(sorted(one.free for one in met)[:-1]) >= FIRM
        and 2 * reached >= sum(one.attempts for one in met)
    )


def _of_failures(found: Correlation, outcome: str, code: str) -> Lead | None:
    return _of_all(found, outcome, code) if found.causes[outcome, code].total() >= FIRM else None


def _of_states(code: str, cut: _Cut) -> Lead | None:
    """Return the lead to the states that stand out by themselves, and not only by the company that they are in."""
    named = [one for one in cut.marked if one.hits >= TELLING and _compared([one], cut.others).chance < _CHANCE]
    if not named:
        return None
    hits, attempts = sum(one.hits for one in named), sum(one.attempts for one in named)
    elsewhere = sum(one.hits for one in cut.others) / sum(one.attempts for one in cut.others)
    states = tuple(one.state for one in sorted(named, key=lambda one: -one.hits))
    seen = f"{hits:,} of their {attempts:,} attempts ({percent(hits / attempts)}), elsewhere {percent(elsewhere)}"
    return Lead("", code, f" with agents {_listed(states)}: {seen}", hits, states)


def _listed(states: tuple[str, ...]) -> str:
    names = [*states[:MOST], *([f"{len(states) - MOST} more"] if len(states) > MOST else [])]
    return " or ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _of_all(found: Correlation, outcome: str, code: str, seen: str = "", unnamed: str = "the request") -> Lead:
    """Return the lead to whom a code names, or else to `unnamed`."""
    hits = found.causes[outcome, code].total()
    meaning = codebook.meaning_of(code)
    category = meaning.category if meaning else _CATEGORIES.get(outcome, Category.UNKNOWN)
    culprit = CONCERNS[category].culprit
    who = unnamed if culprit is Culprit.UNKNOWN else culprit.phrase
    share = percent(hits / found.total)
    return Lead(f"{who}: ", code, f" met {hits:,} of {found.total:,} attempts ({share}){seen}", hits)


# -- what chance would make --------------------------------------------------------------------------------------------


def _cuts(met: list[_Met]) -> Iterator[_Cut]:
    """Yield each cut of the states, ranked by how many of their calls met the code."""
    ranked = sorted(met, key=lambda one: -one.hits / one.attempts)
    return (_compared(ranked[:place], ranked[place:]) for place in range(1, len(ranked)))


def _compared(marked: list[_Met], others: list[_Met]) -> _Cut:
    """Return how likely chance makes the difference; 0, a certainty, where there is none to speak of."""
    hits, attempts = sum(one.hits for one in marked), sum(one.attempts for one in marked)
    elsewhere, free = sum(one.hits for one in others), sum(one.free for one in others)
    is_marked = hits and free and hits * free >= MARKED * elsewhere * attempts
    return _Cut(_log_tail(hits, attempts, hits + elsewhere, attempts + free) if is_marked else 0.0, marked, others)


def _log_tail(hits: int, drawn: int, marked: int, total: int) -> float:
    """Return ln P(X >= hits), X being the marked ones of `drawn` calls from `total`; its mean is below `hits`."""
    first = _log_choose(marked, hits) + _log_choose(total - marked, drawn - hits) - _log_choose(total, drawn)
    terms = [1.0]  # in units of the first; above the mean each is smaller than the one before
    for one in range(hits, min(drawn, marked)):
        terms.append(terms[-1] * (marked - one) * (drawn - one) / ((one + 1) * (total - marked - drawn + one + 1)))
        if terms[-1] < _NEGLIGIBLE:
            break
    return min(0.0, first + log(fsum(terms)))


def _log_choose(total: int, chosen: int) -> float:
    return lgamma(total + 1) - lgamma(chosen + 1) - lgamma(total - chosen + 1)
