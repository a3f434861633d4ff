"""The overview: is dialling healthy, since when, and what is to blame?"""

from typing import Final

from pages import Page, Shelf
from panels import BAD_IF_ANY, BAD_SHARE, COUNT, at_once, by_bucket, columns, counts, heat, lines, number, over_time
from queries import STEP, among, buckets, equal, increase, other_than, quantile, rate, ratio
from rules import BUDGET_LEFT, FIRING

from call_initiation.catalogue import ASYNC_FAILURES, ATTEMPTS, DURATION, ERROR_CODES, SUSPECTED_DUPLICATES
from call_initiation.events import Outcome

REJECTED: Final = equal(Outcome.REJECTED)
NOT_VALIDATION: Final = among(
    Outcome.FAILED, Outcome.AMBIGUOUS, Outcome.NOT_SENT, Outcome.UNAUTHORIZED, Outcome.RATE_LIMITED, Outcome.REDIRECTED
)
COLOURS: Final = {
    Outcome.ACCEPTED: "green",
    Outcome.REJECTED: "orange",
    Outcome.UNAUTHORIZED: "purple",
    Outcome.RATE_LIMITED: "yellow",
    Outcome.FAILED: "red",
    Outcome.AMBIGUOUS: "dark-red",
    Outcome.NOT_SENT: "blue",
    Outcome.REDIRECTED: "light-blue",
    Outcome.CANCELLED: "text",
}
"""Refusals are the caller's to mend, red is the provider's or the network's."""

NOW: Final = Shelf(
    5,
    (
        number(
            "Rejected",
            "What share of the call starts is refused by validation? The caller's requests or the agents' states are "
            "then to blame, and the correlation dashboard tells which.",
            "percentunit",
            over_time(ratio(rate(ATTEMPTS, outcome=REJECTED), rate(ATTEMPTS))),
            BAD_SHARE,
        ),
        number(
            "Call starts",
            "Is anybody dialling? Call starts a second, whatever became of them.",
            "cps",
            over_time(rate(ATTEMPTS)),
        ),
        number(
            "Slowest twentieth",
            "How long does the API take to answer? 95 of 100 call starts are answered sooner.",
            "s",
            over_time(quantile(0.95, DURATION)),
        ),
        number(
            "May have rung",
            "How many calls may have rung somebody without the dialer knowing? They were sent, and no whole answer "
            "came. Dialling them again may ring a customer twice.",
            COUNT,
            over_time(f"{increase(ATTEMPTS, outcome=equal(Outcome.AMBIGUOUS))} or vector(0)"),
            BAD_IF_ANY,
        ),
        number(
            "Error budget left",
            "How much may still fail this month? 100 % is all of the 30 days' budget for failures that validation "
            "can't explain; below 0 it is overspent. All instances of the job.",
            "percentunit",
            over_time(f'min({BUDGET_LEFT}{{job=~"$job"}})'),
            ((None, "red"), (0, "orange"), (0.25, "green")),
        ),
        number(
            "Alerts that fire",
            "Does any alert of ours fire? The table at the end of this page names them.",
            COUNT,
            over_time(f"count({FIRING}) or vector(0)"),
            BAD_IF_ANY,
        ),
    ),
    "Now",
)

ATTEMPTED: Final = Shelf(
    9,
    (
        lines(
            "Call starts by outcome",
            "Since when does it go wrong, and how? Each call start has exactly one outcome.",
            "cps",
            over_time(rate(ATTEMPTS, "outcome"), "{{outcome}}"),
            stacked=True,
            colours=COLOURS,
        ),
        lines(
            "Refusals by code",
            "Which code rises? The most specific code of each refused call. A dot is one call: it opens its trace.",
            "cps",
            over_time(rate(ATTEMPTS, "error_code", error_code=other_than("none")), "{{error_code}}", exemplar=True),
            stacked=True,
        ),
    ),
    "Call starts",
)

LATENCY: Final = Shelf(
    9,
    (
        lines(
            "Time to an answer",
            "Does the API get slower, for all calls or for some? Time from the start of a call start to its answer's "
            "headers, or to its failure. A dot is one call: it opens its trace.",
            "s",
            *(
                over_time(quantile(share, DURATION), f"{share:.0%}", exemplar=share == 0.95)  # noqa: PLR2004 - the one in the middle
                for share in (0.5, 0.95, 0.99)
            ),
        ),
        heat(
            "Time to an answer, all calls",
            "Is everything slower, or only a part? Two bands are two causes: often two endpoints, or timeouts.",
            "s",
            by_bucket(buckets(DURATION), exemplar=True),
        ),
        lines(
            "Slowest twentieth by endpoint",
            "Which endpoint is slow? 95 of 100 call starts are answered sooner.",
            "s",
            over_time(quantile(0.95, DURATION, "endpoint"), "{{endpoint}}"),
        ),
    ),
    "Latency",
)

CODES: Final = Shelf(
    10,
    (
        columns(
            "Codes",
            "What is refused most, and how is each code against the same time yesterday? Counts of the whole time "
            "shown, and of as long a time a day earlier.",
            COUNT,
            {"Time": "", "error_code": "Code", "Value": "Count", "Value #A": "Count", "Value #B": "A day earlier"},
            at_once(f"topk(20, {increase(ATTEMPTS, 'error_code', error_code=other_than('none'))})"),
            at_once(increase(ATTEMPTS, "error_code", offset="1d", error_code=other_than("none"))),
        ),
        lines(
            "Codes by whose concern they are",
            "Whose concern is it? Every code in the bodies of refusals, so a body with three codes counts three times.",
            "cps",
            over_time(rate(ERROR_CODES, "category"), "{{category}}", exemplar=True),
            stacked=True,
        ),
        lines(
            "Failures that validation can't explain",
            "Is it the provider, the network, or our credentials? These spend the error budget, but for refused "
            "credentials and rate limits, which have alerts of their own.",
            "cps",
            over_time(
                rate(ATTEMPTS, "outcome", "status_code", outcome=NOT_VALIDATION),
                "{{outcome}} {{status_code}}",
                exemplar=True,
            ),
            stacked=True,
        ),
    ),
    "Codes",
)

AFTER: Final = Shelf(
    9,
    (
        counts(
            "Accepted, then lost",
            "Do accepted calls die before they ring the customer? The agent's own leg failed; only where agents are "
            "followed by notifications.",
            over_time(increase(ASYNC_FAILURES, "error_code", over=STEP), "{{error_code}}"),
        ),
        counts(
            "Suspected duplicates",
            "Is somebody called twice? The same agent and destination within 10 seconds, by endpoint: often a "
            "client that repeats a call start by itself.",
            over_time(increase(SUSPECTED_DUPLICATES, "endpoint", over=STEP), "{{endpoint}}"),
        ),
        columns(
            "Alerts",
            "What fires, and where? Each alert has a runbook.",
            "none",
            {"Time": "", "Value": "", "__name__": "", "alertstate": "State", "alertname": "Alert"},
            at_once(FIRING),
        ),
    ),
    "Afterwards",
)

OVERVIEW: Final = Page(
    "call-initiation-overview",
    "Call initiation: overview",
    "Is dialling healthy, since when, and what is to blame?",
    (NOW, ATTEMPTED, LATENCY, CODES, AFTER),
    picture="grafana-overview.png",
)
