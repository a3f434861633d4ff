"""The alert conditions, by the names of the Prometheus alerts that say the same: a runbook serves both.

A refusal by validation is often the campaign's fault: a step in refusals is critical, a single code that rises warns.
New Relic evaluates conditions on a stream: no subquery, no comparison with yesterday and no TIMESERIES is in them;
what is compared with what is usual is a BASELINE.

A share asks for no least number of calls, as its Prometheus alert does: it must hold in every window of `lasts`, and so
a call that fails alone at a quiet hour opens nothing.
"""

from dataclasses import dataclass
from typing import Any, Final

from nrql import ALL, FAILED_PERCENT, REJECTED_PERCENT, label, percent, total

from call_initiation.catalogue import (
    ASYNC_FAILURES,
    ATTEMPTS,
    BUILD_INFO,
    FEED_UP,
    INTERNAL_ERRORS,
    RECORDER_DROPPED,
    STATE_JOINS,
    SUSPECTED_DUPLICATES,
)
from call_initiation.events import Certainty, Outcome


@dataclass(frozen=True)
class Condition:
    """One condition.

    Attributes:
        name: Its name, and its runbook's.
        description: What it means, and what to look at first.
        query: NRQL.
        threshold: What the value must pass; of a baseline, in standard deviations.
        lasts: For how many seconds.
        priority: `CRITICAL` pages somebody, `WARNING` opens a ticket.
        operator: How it is passed.
        is_baseline: Whether it is compared with what is usual.
        window: Seconds that one value is made of.
        silence: Seconds without data after which it opens, too; None where silence means nothing.
    """

    name: str
    description: str
    query: str
    threshold: float
    lasts: int
    priority: str
    operator: str = "ABOVE"
    is_baseline: bool = False
    window: int = 60
    silence: int | None = None


def rendered(condition: Condition, runbooks: str) -> dict[str, Any]:
    """Return a condition as New Relic's API takes it."""
    of_type = {"baselineDirection": "UPPER_ONLY"} if condition.is_baseline else {"valueFunction": "SINGLE_VALUE"}
    expiration = {} if condition.silence is None else {"expiration": _expiration(condition.silence)}
    return {
        "name": condition.name,
        "description": condition.description,
        "type": "BASELINE" if condition.is_baseline else "STATIC",
        **of_type,
        "nrql": {"query": condition.query},
        "terms": [
            {
                "priority": condition.priority,
                "operator": condition.operator,
                "threshold": condition.threshold,
                "thresholdDuration": condition.lasts,
                "thresholdOccurrences": "ALL",
            }
        ],
        "signal": {"aggregationWindow": condition.window, "aggregationMethod": "EVENT_FLOW", "aggregationDelay": 120},
        **expiration,
        "runbookUrl": f"{runbooks}/{condition.name}.md",
        "violationTimeLimitSeconds": 86_400,
    }


def _expiration(seconds: int) -> dict[str, Any]:
    return {"expirationDuration": seconds, "openViolationOnExpiration": True, "closeViolationsOnExpiration": False}


def _outcome(*outcomes: Outcome) -> str:
    return percent(ATTEMPTS, "outcome", *outcomes)


CONDITIONS: Final = (
    Condition(
        "CallInitiationBudgetBurn",
        "More than 14.4 % of the call starts fail: the provider, the network or our side, not validation. The "
        "objective is 99 %, so a month's budget is spent in two days.",
        f"SELECT {FAILED_PERCENT} {ALL}",
        14.4,
        600,
        "CRITICAL",
        window=300,
    ),
    Condition(
        "CallInitiationRejectionsStep",
        "Validation refuses a share of call starts that is far above what is usual at this time. Something was "
        "changed: a campaign, a payload, or the agents' states.",
        f"SELECT {REJECTED_PERCENT} {ALL}",
        3.0,
        600,
        "CRITICAL",
        is_baseline=True,
        window=300,
    ),
    Condition(
        "CallInitiationCodeRegression",
        "One error code is met far more often than is usual at this time.",
        f"SELECT {total(ATTEMPTS)} {ALL} WHERE {label(ATTEMPTS, 'error_code')} != 'none' "
        f"FACET {label(ATTEMPTS, 'error_code')}",
        4.0,
        1800,
        "WARNING",
        is_baseline=True,
        window=300,
    ),
    Condition(
        "CallInitiationUnauthorized",
        "More than a fifth of the call starts are answered with 401 or 403: credentials or permissions.",
        f"SELECT {_outcome(Outcome.UNAUTHORIZED)} {ALL}",
        20.0,
        300,
        "CRITICAL",
    ),
    Condition(
        "CallInitiationRateLimited",
        "More than 5 % of the call starts are answered with 429.",
        f"SELECT {_outcome(Outcome.RATE_LIMITED)} {ALL}",
        5.0,
        900,
        "WARNING",
        window=300,
    ),
    Condition(
        "CallInitiationSuspectedDuplicates",
        "The same destination is called again within seconds: customers may be rung twice.",
        f"SELECT 100 * {total(SUSPECTED_DUPLICATES)} / {total(ATTEMPTS)} {ALL}",
        1.0,
        900,
        "WARNING",
        window=300,
    ),
    Condition(
        "CallInitiationAgentLegsFail",
        "Accepted calls die before the customer is rung.",
        f"SELECT 100 * {total(ASYNC_FAILURES)} / {total(ATTEMPTS)} {ALL}",
        5.0,
        900,
        "WARNING",
        window=300,
    ),
    Condition(
        "CallInitiationFeedDown",
        "The state feed is down: states go stale, and what the dashboards say of them can't be believed.",
        f"SELECT min({FEED_UP.name}) {ALL}",
        1.0,
        300,
        "CRITICAL",
        operator="BELOW",
    ),
    Condition(
        "CallInitiationStatesUncertain",
        "More than a fifth of the calls were sent when their agent's state wasn't known.",
        f"SELECT {percent(STATE_JOINS, 'certainty', Certainty.STALE, Certainty.UNKNOWN)} {ALL}",
        20.0,
        900,
        "WARNING",
        window=300,
    ),
    Condition(
        "CallInitiationExporterAbsent",
        "Nothing comes from any exporter: it is down, or what it sends is refused.",
        f"SELECT latest({BUILD_INFO.name}) {ALL}",
        1.0,
        300,
        "CRITICAL",
        operator="BELOW",
        silence=600,
    ),
    Condition(
        "CallInitiationRecordsDropped",
        "Telemetry is dropped: the dashboards show less than there was. The calls themselves are not touched.",
        f"SELECT {total(RECORDER_DROPPED)} {ALL} FACET {label(RECORDER_DROPPED, 'stage')}",
        0.0,
        300,
        "WARNING",
    ),
    Condition(
        "CallInitiationInternalErrors",
        "The exporter meets faults of its own. The calls themselves are not touched.",
        f"SELECT {total(INTERNAL_ERRORS)} {ALL} FACET {label(INTERNAL_ERRORS, 'stage')}",
        0.0,
        300,
        "WARNING",
    ),
)
