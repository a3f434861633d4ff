"""The dashboard: is it the agents' state, or the request? And since when?

Rates and lift are of metrics, which count every call start; agents and single calls are of failure events, of which
each failure sends one. Spans of accepted calls are sampled, so nothing is divided by them.
"""

from typing import Final

from nrql import (
    AGENT,
    ALL,
    FAILED_PERCENT,
    FAILURES,
    REJECTED,
    REJECTED_PERCENT,
    SERVICE,
    attribute,
    label,
    percent,
    test,
    total,
)
from widgets import Board, Page, Row, Widget, chosen, typed

from call_initiation.catalogue import (
    AGENT_STATE_AGE,
    AGENT_STATE_CHANGES,
    ASYNC_FAILURES,
    ATTEMPTS,
    BUILD_INFO,
    DURATION,
    ERROR_CODES,
    FEED_EVENT_LAG,
    FEED_UP,
    PAYLOAD_FINDINGS,
    RECORDER_DROPPED,
    STATE_JOINS,
    SUSPECTED_DUPLICATES,
)
from call_initiation.events import Certainty, Outcome

STATE: Final = label(ATTEMPTS, "agent_state")
CODE: Final = label(ATTEMPTS, "error_code")
OUTCOME: Final = label(ATTEMPTS, "outcome")
ATTEMPTED: Final = total(ATTEMPTS)
OF_METRICS: Final = f"{ALL} WHERE {SERVICE}"
OF_FAILURES: Final = f"FROM {FAILURES} WHERE {SERVICE}"

TRIED: Final = f"{ALL} SELECT {ATTEMPTED} AS tried WHERE {SERVICE} FACET {STATE} AS tried_state LIMIT MAX"
MET: Final = (
    f"{ALL} JOIN ({TRIED}) ON {STATE} = tried_state SELECT {ATTEMPTED} AS met, latest(tried) AS tried "
    f"WHERE {SERVICE} AND {REJECTED} FACET {CODE} AS met_code, {STATE} AS met_state LIMIT MAX"
)
LIFT: Final = (
    f"{ALL} JOIN ({MET}) ON {CODE} = met_code "
    f"SELECT latest(met) / latest(tried) / ({ATTEMPTED} / (SELECT {ATTEMPTED} {OF_METRICS})) AS 'Lift', "
    f"latest(met) AS 'Refusals', latest(tried) AS 'Call starts in this state' "
    f"WHERE {SERVICE} AND {REJECTED} FACET {CODE}, met_state LIMIT 100"
)
"""How many times as often as on average a code is met in a state: P(code | state) / P(code).

`TRIED` counts the call starts of each state, `MET` the refusals of each code in each state; the
outer query, of which every row is joined with all cells of its code, the refusals of each code in all states. With the
one that counts everything these are three subqueries: as many as NRQL takes.
"""

READ_THIS_FIRST: Final = """\
**Correlation, not cause.** A state with a high refusal rate is a lead.

* *Lift* says how many times as often as on average a code is met in a state. Below some 30 call starts in a state it \
says nothing.
* States are as of the moment strictly before the send. *Known states* says how far they can be believed.
* Accepted calls count, too: rates are of metrics, which see every call start, whatever the sampler says."""

NOW: Final = Row(
    3,
    (
        Widget("Read this first", "markdown", READ_THIS_FIRST, 4),
        Widget(
            "Rejected, against yesterday",
            "billboard",
            f"SELECT {REJECTED_PERCENT} AS 'Rejected' {OF_METRICS} COMPARE WITH 1 day ago",
            2,
            "PERCENTAGE",
        ),
        Widget(
            "Failed by provider, network or us",
            "billboard",
            f"SELECT {FAILED_PERCENT} AS 'Failed' {OF_METRICS} COMPARE WITH 1 day ago",
            2,
            "PERCENTAGE",
            (("WARNING", 1.0), ("CRITICAL", 5.0)),
        ),
        Widget(
            "Call starts, against yesterday",
            "billboard",
            f"SELECT {ATTEMPTED} AS 'Call starts' {OF_METRICS} COMPARE WITH 1 day ago",
            2,
        ),
        Widget(
            "Known states",
            "billboard",
            f"SELECT {percent(STATE_JOINS, 'certainty', Certainty.KNOWN)} AS 'Known' {OF_METRICS}",
            2,
            "PERCENTAGE",
        ),
    ),
)

WHICH: Final = Row(
    4,
    (
        Widget(
            "Which code, in which state?",
            "table",
            f"SELECT {ATTEMPTED} AS 'Refusals' {OF_METRICS} AND {REJECTED} FACET {CODE}, {STATE} LIMIT 100",
            6,
        ),
        Widget("Which code belongs to which state? (lift)", "table", LIFT, 6),
    ),
)

WHERE: Final = Row(
    4,
    (
        Widget(
            "In which state are calls refused, and was it so yesterday?",
            "bar",
            f"SELECT {REJECTED_PERCENT} AS 'Rejected' {OF_METRICS} FACET {STATE} LIMIT 20 COMPARE WITH 1 day ago",
            4,
            "PERCENTAGE",
        ),
        Widget(
            "Is a call refused soon after its agent's state changed?",
            "heatmap",
            f"SELECT histogram({AGENT_STATE_AGE.name}, 1800, 30) {OF_METRICS} "
            f"FACET {label(AGENT_STATE_AGE, 'outcome')}",
            4,
        ),
        Widget(
            "What may be wrong with the requests, and what came of them?",
            "table",
            f"SELECT {total(PAYLOAD_FINDINGS)} AS 'Requests' {OF_METRICS} "
            f"FACET {label(PAYLOAD_FINDINGS, 'finding')}, {label(PAYLOAD_FINDINGS, 'outcome')} LIMIT 100",
            4,
        ),
    ),
)

SINCE: Final = Row(
    4,
    (
        Widget(
            "Since when does which code rise?",
            "area",
            f"SELECT {ATTEMPTED} {OF_METRICS} AND {REJECTED} FACET {CODE} LIMIT 10 TIMESERIES",
            6,
        ),
        Widget(
            "Rejected, today and yesterday",
            "line",
            f"SELECT {REJECTED_PERCENT} AS 'Rejected' {OF_METRICS} TIMESERIES COMPARE WITH 1 day ago",
            6,
            "PERCENTAGE",
        ),
    ),
)

CHANGED: Final = Row(
    4,
    (
        Widget(
            "What do the agents change to?",
            "line",
            f"SELECT {total(AGENT_STATE_CHANGES)} {OF_METRICS} "
            f"FACET {label(AGENT_STATE_CHANGES, 'to_state')} LIMIT 20 TIMESERIES",
            6,
        ),
        Widget(
            "What did we change?",
            "event-feed",
            "SELECT * FROM ChangeTrackingEvent, Deployment LIMIT 50",
            6,
        ),
    ),
)

WHO: Final = Row(
    4,
    (
        Widget(
            "Whose calls fail most?",
            "table",
            f"SELECT count(*) AS 'Failures', uniqueCount({attribute('call_initiation.error.code')}) AS 'Codes', "
            f"latest({attribute('call_initiation.error.code')}) AS 'Latest code', "
            f"latest({attribute('call_initiation.agent.state')}) AS 'Latest state' "
            f"{OF_FAILURES} AND {AGENT} FACET {attribute('call_initiation.agent.id')} LIMIT 20",
            6,
        ),
        Widget(
            "How long after the agent's last change?",
            "bar",
            f"SELECT count(*) AS 'Failures' {OF_FAILURES} AND {AGENT} "
            f"FACET buckets({attribute('call_initiation.agent.state.age')}, 120, 12)",
            6,
        ),
    ),
)

EACH: Final = Row(
    5,
    (
        Widget(
            "Each failure, and its trace",
            "table",
            "SELECT "
            + ", ".join(
                map(
                    attribute,
                    (
                        "call_initiation.outcome",
                        "call_initiation.error.code",
                        "call_initiation.error.category",
                        "call_initiation.error.message",
                        "call_initiation.findings",
                        "call_initiation.agent.id",
                        "call_initiation.agent.state",
                        "call_initiation.agent.presence",
                        "call_initiation.agent.state.age",
                        "call_initiation.agent.state.certainty",
                        "call_initiation.correlation_id",
                    ),
                )
            )
            + f", trace.id {OF_FAILURES} AND {AGENT} LIMIT 100",
            12,
        ),
    ),
)

CONCERN: Final = Row(
    4,
    (
        Widget(
            "Whose concern is it?",
            "stacked-bar",
            f"SELECT {total(ERROR_CODES)} {OF_METRICS} FACET {label(ERROR_CODES, 'category')} TIMESERIES",
            4,
        ),
        Widget(
            "Which calls may have rung somebody unknown to the dialer?",
            "line",
            f"SELECT {ATTEMPTED} {OF_METRICS} AND {test(ATTEMPTS, 'outcome', Outcome.AMBIGUOUS)} "
            f"FACET {label(ATTEMPTS, 'endpoint')} TIMESERIES",
            4,
        ),
        Widget(
            "Accepted, then lost",
            "line",
            f"SELECT {total(ASYNC_FAILURES)} {OF_METRICS} FACET {label(ASYNC_FAILURES, 'error_code')} TIMESERIES",
            4,
        ),
    ),
)

SPEED: Final = Row(
    4,
    (
        Widget(
            "How long does an answer take?",
            "line",
            f"SELECT percentile({DURATION.name}, 50, 95, 99) {OF_METRICS} TIMESERIES",
            4,
            "SECONDS",
        ),
        Widget(
            "Is a part of the calls slower?",
            "heatmap",
            f"SELECT histogram({DURATION.name}, 5, 25) {OF_METRICS} FACET {label(DURATION, 'outcome')}",
            4,
        ),
        Widget(
            "Is somebody called twice?",
            "line",
            f"SELECT {total(SUSPECTED_DUPLICATES)} {OF_METRICS} "
            f"FACET {label(SUSPECTED_DUPLICATES, 'endpoint')} TIMESERIES",
            4,
        ),
    ),
)

TRUST: Final = Row(
    4,
    (
        Widget(
            "Can the states be believed?",
            "stacked-bar",
            f"SELECT {total(STATE_JOINS)} {OF_METRICS} FACET {label(STATE_JOINS, 'certainty')}, "
            f"{label(STATE_JOINS, 'source')} TIMESERIES",
            4,
        ),
        Widget(
            "Is the state feed up, and how late is its news?",
            "line",
            f"SELECT min({FEED_UP.name}) AS 'Up', percentile({FEED_EVENT_LAG.name}, 95) AS 'Lag (s)' "
            f"{OF_METRICS} TIMESERIES",
            4,
        ),
        Widget(
            "Is telemetry dropped?",
            "line",
            f"SELECT {total(RECORDER_DROPPED)} {OF_METRICS} FACET {label(RECORDER_DROPPED, 'stage')}, "
            f"{label(RECORDER_DROPPED, 'reason')} TIMESERIES",
            4,
        ),
    ),
)

REFUSED: Final = Row(
    4,
    (
        Widget(
            "What did New Relic itself refuse?",
            "table",
            "SELECT * FROM NrIntegrationError LIMIT 50",
            8,
        ),
        Widget(
            "Which versions run?",
            "table",
            f"SELECT latest({BUILD_INFO.name}) {OF_METRICS} FACET {label(BUILD_INFO, 'version')}",
            4,
        ),
    ),
)

BOARD: Final = Board(
    "Call initiation",
    "Why are calls refused, and what state was the agent in when they were sent?",
    (
        Page(
            "Correlation",
            "Is it the agents' state, or the request? And since when?",
            (NOW, WHICH, WHERE, SINCE, CHANGED),
        ),
        Page("Agents and calls", "What happened to this agent, and to each call?", (WHO, EACH)),
        Page(
            "Provider and exporter",
            "Is it the provider, and can the rest be believed?",
            (CONCERN, SPEED, TRUST, REFUSED),
        ),
    ),
    (
        chosen("service", "Service", f"SELECT uniques(service.name) {ALL} WHERE metricName = '{ATTEMPTS.name}'"),
        typed("agent", "Agent's user id (% for all)", "%"),
    ),
)
