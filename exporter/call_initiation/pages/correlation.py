"""What goes with what: refusals by error code and agent state, from a snapshot, or from what came after an earlier one.

The page and the terminal read this.

Theory. Every attempt carries exactly one code (`none` when accepted) and one state, so attempts fall into a table, and
every figure here is a ratio of its sums. A code's *lift* in a state is P(code | state) / P(code) over all attempts,
successes included: 1 says that the state makes no difference, 3 that calls sent in it meet the code three times as
often as calls do on average.

Laws: attempts = accepted + refused; the cells' refusals add up to refused, by code and by state; the lifts of a code,
weighted by the states' attempts, have a mean of 1. A state with few attempts says little, so its cells are not `firm`.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from call_initiation import catalogue
from call_initiation.catalogue import Metric
from call_initiation.events import Ledger, Outcome, StateLabel
from call_initiation.recording.aggregate import Labels, Number, View
from call_initiation.recording.recent import Counts

NOTHING: Final[Counts] = {}

FIRM: Final = 30
"""Attempts of a state from which on its rates are worth believing."""

_ORDER: Final = [label.value for label in StateLabel if label is not StateLabel.UNKNOWN]


@dataclass(frozen=True, slots=True)
class Cell:
    """One code in one state.

    Attributes:
        code: The most specific error code.
        state: The agent's state as of the send, as one word.
        refusals: Attempts of the state that met the code.
        attempts: All attempts of the state.
        expected: How many refusals there would be if the state made no difference.
    """

    code: str
    state: str
    refusals: int
    attempts: int
    expected: float

    @property
    def rate(self) -> float:
        """The share of the state's attempts that met the code, 0 to 1."""
        return self.refusals / self.attempts

    @property
    def lift(self) -> float:
        """P(code | state) / P(code)."""
        return self.refusals / self.expected

    @property
    def is_firm(self) -> bool:
        """Whether the state has attempts enough to believe its rates."""
        return self.attempts >= FIRM


@dataclass(frozen=True, slots=True)
class Correlation:
    """The table of attempts by code and state, and its sums.

    Attributes:
        outcomes: Attempts by outcome, the most first.
        attempts: Attempts by state, in the order of `StateLabel`, `unknown` last.
        refused: Refused attempts by state; a state without any isn't there.
        codes: Refusals by code, the most first.
        cells: Refusals by (code, state); a pair that never met isn't there.
        causes: Refusals by (outcome, code), and these by state.
    """

    outcomes: dict[str, int]
    attempts: dict[str, int]
    refused: dict[str, int]
    codes: dict[str, int]
    cells: dict[tuple[str, str], Cell]
    causes: dict[tuple[str, str], Counter[str]]

    @property
    def total(self) -> int:
        """All attempts."""
        return sum(self.attempts.values())

    @property
    def total_refused(self) -> int:
        """All attempts that were not accepted, whatever the reason; the outcomes tell these apart."""
        return sum(self.refused.values())

    @property
    def refusal_rate(self) -> float:
        """The share of attempts that were not accepted, 0 to 1; 0 where there are none."""
        return self.total_refused / self.total if self.total else 0.0

    def state_rate(self, state: str) -> float:
        """Return the share of a state's attempts that were not accepted, 0 to 1."""
        return self.refused.get(state, 0) / self.attempts[state]

    def of_state(self, state: str) -> list[Cell]:
        """Return the cells of a state, the most refusals first."""
        return [self.cells[code, state] for code in self.codes if (code, state) in self.cells]


def correlate(view: View, before: Counts = NOTHING) -> Correlation:
    """Return what a snapshot's attempts say, without those that were counted `before`."""
    outcomes: Counter[str] = Counter()
    attempts: Counter[str] = Counter()
    causes: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for labels, number in series(view, catalogue.ATTEMPTS):
        named = dict(zip(catalogue.ATTEMPTS.labels, labels, strict=True))
        count = int(number.value - before.get(labels, 0.0))
        if not count:
            continue
        outcomes[named["outcome"]] += count
        attempts[named["agent_state"]] += count
        if named["outcome"] != Outcome.ACCEPTED:
            causes[named["outcome"], named["error_code"]][named["agent_state"]] += count
    refusals: Counter[tuple[str, str]] = Counter()
    for (_, code), states in causes.items():
        refusals.update({(code, state): count for state, count in states.items()})
    codes: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    for (code, state), count in refusals.items():
        codes[code] += count
        refused[state] += count
    total = attempts.total()
    return Correlation(
        outcomes=most_first(outcomes),
        attempts={state: attempts[state] for state in sorted(attempts, key=_place)},
        refused=dict(refused),
        codes=most_first(codes),
        cells={
            (code, state): Cell(code, state, count, attempts[state], attempts[state] * codes[code] / total)
            for (code, state), count in refusals.items()
        },
        causes=dict(causes),
    )


def ledgers(view: View) -> dict[str, Ledger]:
    """Return the accounts of each stage, as the snapshot has them."""
    recorded = {labels[0]: int(number.value) for labels, number in series(view, catalogue.RECORDER_RECORDED)}
    exported = {labels[0]: int(number.value) for labels, number in series(view, catalogue.RECORDER_EXPORTED)}
    pending = {labels[0]: int(number.value) for labels, number in series(view, catalogue.RECORDER_PENDING)}
    dropped: dict[str, dict[str, int]] = {stage: {} for stage in recorded}
    for (stage, reason), number in series(view, catalogue.RECORDER_DROPPED):
        dropped[stage][reason] = int(number.value)
    return {
        stage: Ledger(
            recorded=recorded[stage], exported=exported[stage], pending=pending[stage], dropped=dropped[stage]
        )
        for stage in recorded
    }


def sentence(stage: str, ledger: Ledger) -> str:
    """Return a stage's accounts as one line: recorded = exported + pending + dropped, and why."""
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in ledger.dropped.items())
    dropped = f"{sum(ledger.dropped.values()):,} dropped" + (f" ({reasons})" if reasons else "")
    return (
        f"{stage}: {ledger.recorded:,} recorded = {ledger.exported:,} exported + {ledger.pending:,} pending + {dropped}"
    )


def percent(share: float) -> str:
    """Return a share of 1 as text: whole per cents, but never 0% or 100% for what is not quite that."""
    if 0 < share < 0.01:  # noqa: PLR2004 - one per cent
        return "<1%"
    if 0.99 < share < 1:  # noqa: PLR2004 - 99 per cent
        return ">99%"
    return f"{share:.0%}"


def series(view: View, metric: Metric) -> Iterator[tuple[Labels, Number]]:
    """Yield a metric's series; only of a counter or a gauge."""
    for family in view:
        if family.metric is metric:
            yield from family.numbers.items()


def most_first(counts: Counter[str]) -> dict[str, int]:
    """Return counts in falling order, equal ones by name, so that a table doesn't flicker."""
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _place(state: str) -> int:
    """Return a state's place among the columns; `unknown` and `other`, which are no states, go last."""
    return _ORDER.index(state) if state in _ORDER else len(_ORDER)
