"""The alerts: what pages somebody, what opens a ticket, and what says so.

A refusal by validation is often the campaign's fault, and nobody can mend it at night. So the provider's, the network's
and our own failures page, and so does a step in refusals; a single code that rises opens a ticket.
"""

from dataclasses import dataclass
from typing import Final

from queries import equal, grown, selector
from rules import ALL, BUDGET, BY_CODE, CODE_SHARE, REJECTED_SHARE, counted, failed, failed_share

from call_initiation.catalogue import (
    ASYNC_FAILURES,
    ATTEMPTS,
    BUILD_INFO,
    FEED_UP,
    INTERNAL_ERRORS,
    LABEL_OVERFLOW,
    RECORDER_DROPPED,
    RECORDER_EXPORTED,
    RECORDER_PENDING,
    RECORDER_RECORDED,
    STATE_JOINS,
    SUSPECTED_DUPLICATES,
    Metric,
)
from call_initiation.events import Certainty, Outcome


@dataclass(frozen=True)
class Alert:
    """One alert.

    Attributes:
        name: Its name, and its runbook's.
        expr: When it fires.
        lasts: For how long that must hold.
        severity: `critical` pages somebody, `warning` opens a ticket.
        summary: What is wrong, in a few words.
        description: What that means, and what to look at first.
        labels: What tells it from others of its name.
    """

    name: str
    expr: str
    lasts: str
    severity: str
    summary: str
    description: str
    labels: tuple[tuple[str, str], ...] = ()


BURNS: Final = (
    (14.4, "1h", "5m", "2m", "critical"),
    (6, "6h", "30m", "15m", "critical"),
    (3, "1d", "2h", "1h", "warning"),
    (1, "3d", "6h", "3h", "warning"),
)
"""Times the even spending, over which long and short window, for how long, and how bad that is."""


LEAST: Final = 5
"""How many calls a share must be made of: at a quiet hour the only call that fails is 100 % (ibid., "low-traffic")."""


def _burns(times: float, long: str, short: str) -> str:
    bar = f"{times * BUDGET:g}"
    return f"{failed_share(long)} > {bar}\nand {failed_share(short)} > {bar}\nand {failed(long)} >= {LEAST}"


def _above(share: float, part: str, whole: str, least: int = LEAST) -> str:
    return f"{part}\n/ ({whole} > 0) > {share:g}\nand {part} >= {least}"


def _grown(metric: Metric, window: str, *by: str, **tests: str) -> str:
    return f"sum by ({', '.join(('job', 'instance', *by))}) ({grown(selector(metric, tests), window)}) > 0"


USUAL: Final = (
    f"(avg_over_time({REJECTED_SHARE}[1h] offset 20m) and {REJECTED_SHARE} offset 80m\n"
    f"or avg_over_time({REJECTED_SHARE}[7d] offset 80m)\n"
    f"or {REJECTED_SHARE} * 0)"
)
"""The share that was rejected in the hour before, if it began with calls; else in the week before; else none.

Without the week, what is refused from the first call of a shift on would be its own measure.
"""


def _by_stage(metric: Metric) -> str:
    return f"sum by (job, instance, stage) ({metric.prometheus_name})"


BURNING: Final = tuple(
    Alert(
        "CallInitiationBudgetBurn",
        _burns(times, long, short),
        lasts,
        severity,
        "Call starts fail faster than the objective allows",
        f"{{{{ $value | humanizePercentage }}}} of the call starts of {{{{ $labels.job }}}} failed in the last "
        f"{long}, and it goes on: the provider, the network or our side, not validation. The 30 days' budget is spent "
        f"{times:g} times too fast.",
        (("long_window", long), ("short_window", short)),
    )
    for times, long, short, lasts, severity in BURNS
)

REFUSING: Final = (
    Alert(
        "CallInitiationRejectionsStep",
        f"{REJECTED_SHARE} > 2 * {USUAL} + 0.1\nand on (job) {counted(ATTEMPTS, '10m')} >= 30",
        "5m",
        "critical",
        "Validation suddenly refuses many more call starts",
        "{{ $value | humanizePercentage }} of the call starts of {{ $labels.job }} are rejected: more than twice the "
        "usual share, and 10 points. Something was changed: a campaign, a payload, or the agents' states.",
    ),
    Alert(
        "CallInitiationCodeRegression",
        f"{CODE_SHARE} > 3 * ({CODE_SHARE} offset 1d or {CODE_SHARE} * 0) + 0.02\n"
        f"and {BY_CODE} >= 30\n"
        f"and on (job) {ALL} offset 1d >= 30",
        "30m",
        "warning",
        "One error code is met far more often than yesterday",
        "{{ $value | humanizePercentage }} of the call starts of {{ $labels.job }} met {{ $labels.error_code }} in the "
        "last hour: more than three times yesterday's share at this time.",
    ),
    Alert(
        "CallInitiationUnauthorized",
        _above(0.2, counted(ATTEMPTS, "10m", outcome=equal(Outcome.UNAUTHORIZED)), counted(ATTEMPTS, "10m")),
        "5m",
        "critical",
        "The API refuses our credentials or permissions",
        "{{ $value | humanizePercentage }} of the call starts of {{ $labels.job }} are answered with 401 or 403.",
    ),
    Alert(
        "CallInitiationRateLimited",
        _above(0.05, counted(ATTEMPTS, "15m", outcome=equal(Outcome.RATE_LIMITED)), counted(ATTEMPTS, "15m")),
        "15m",
        "warning",
        "The API limits our rate",
        "{{ $value | humanizePercentage }} of the call starts of {{ $labels.job }} are answered with 429.",
    ),
    Alert(
        "CallInitiationSuspectedDuplicates",
        _above(0.01, counted(SUSPECTED_DUPLICATES, "1h"), counted(ATTEMPTS, "1h")),
        "15m",
        "warning",
        "The same destination is called again within seconds",
        "{{ $value | humanizePercentage }} of the call starts of {{ $labels.job }} repeat an earlier one: customers "
        "may be rung twice.",
    ),
    Alert(
        "CallInitiationAgentLegsFail",
        _above(0.1, counted(ASYNC_FAILURES, "30m"), counted(ATTEMPTS, "30m", outcome=equal(Outcome.ACCEPTED)), 10),
        "15m",
        "warning",
        "Accepted calls die at the agent's own leg",
        "{{ $value | humanizePercentage }} of the accepted calls of {{ $labels.job }} failed before they reached the "
        "customer.",
    ),
)

OURSELVES: Final = (
    Alert(
        "CallInitiationExporterDown",
        f"up == 0\nand on (job, instance) last_over_time({BUILD_INFO.prometheus_name}[1d])",
        "5m",
        "critical",
        "An exporter doesn't answer",
        "{{ $labels.instance }} of {{ $labels.job }} has not been scraped for 5 minutes: its dialer may be down, too.",
    ),
    Alert(
        "CallInitiationExporterAbsent",
        f"absent({BUILD_INFO.prometheus_name})",
        "15m",
        "critical",
        "There is no exporter at all",
        "Prometheus has seen no exporter for 15 minutes: none runs, or none is a target.",
    ),
    Alert(
        "CallInitiationFeedDown",
        f"min by (job, instance) ({FEED_UP.prometheus_name}) == 0",
        "5m",
        "critical",
        "The feed of agents' states is down",
        "{{ $labels.instance }} of {{ $labels.job }} has not heard of its agents for 5 minutes: states on calls are "
        "stale, and say so.",
    ),
    Alert(
        "CallInitiationStatesUncertain",
        _above(0.5, counted(STATE_JOINS, "15m", certainty=f'!="{Certainty.KNOWN}"'), counted(STATE_JOINS, "15m"))
        + f"\nand on (job) {counted(STATE_JOINS, '1d', certainty=equal(Certainty.KNOWN))} > 0",
        "15m",
        "warning",
        "Most agents' states are not known",
        "{{ $value | humanizePercentage }} of the lookups of {{ $labels.job }} found a state that is stale or unknown: "
        "don't trust the correlation.",
    ),
    Alert(
        "CallInitiationRecordsDropped",
        _grown(RECORDER_DROPPED, "15m", "stage", "reason"),
        "0m",
        "warning",
        "Telemetry was given up",
        "{{ $labels.instance }} of {{ $labels.job }} dropped records at stage {{ $labels.stage }}: "
        "{{ $labels.reason }}.",
    ),
    Alert(
        "CallInitiationRecordsUnaccounted",
        f"{_by_stage(RECORDER_RECORDED)}\n- {_by_stage(RECORDER_EXPORTED)}\n- {_by_stage(RECORDER_PENDING)}\n"
        f"- ({_by_stage(RECORDER_DROPPED)} or {_by_stage(RECORDER_RECORDED)} * 0)\n!= 0",
        "10m",
        "warning",
        "The books don't balance",
        "At stage {{ $labels.stage }} of {{ $labels.instance }}, {{ $value }} records are neither passed on, nor "
        "waiting, nor dropped. This is a fault of the exporter.",
    ),
    Alert(
        "CallInitiationInternalErrors",
        _grown(INTERNAL_ERRORS, "15m", "stage"),
        "0m",
        "warning",
        "The exporter's own code failed",
        "{{ $labels.instance }} of {{ $labels.job }} counted faults at stage {{ $labels.stage }}. No call was harmed.",
    ),
    Alert(
        "CallInitiationCodesFolded",
        _grown(LABEL_OVERFLOW, "1h", label=equal("error_code")),
        "1h",
        "warning",
        "Error codes are hidden behind “other”",
        "{{ $labels.instance }} of {{ $labels.job }} folds error codes: too many different ones, or codes that aren't "
        "fit to show.",
    ),
)

ALERTS: Final = (
    ("call_initiation_objective_alerts", BURNING),
    ("call_initiation_refusal_alerts", REFUSING),
    ("call_initiation_exporter_alerts", OURSELVES),
)
