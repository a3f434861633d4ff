"""The exporter's health: can the other three dashboards be believed?"""

from typing import Final

from pages import Page, Shelf
from panels import (
    BAD_IF_ANY,
    COUNT,
    GOOD_IF_ALL,
    at_once,
    by_bucket,
    columns,
    counts,
    heat,
    lines,
    number,
    over_time,
    signed_lines,
)
from queries import CHOSEN, STEP, buckets, equal, gauge, increase, quantile, rate, ratio

from call_initiation.catalogue import (
    BUILD_INFO,
    FEED_CLOCK_SKEW,
    FEED_EVENT_LAG,
    FEED_EVENTS,
    FEED_RECONNECTS,
    FEED_UP,
    GATEWAY_REFUSALS,
    INTERNAL_ERRORS,
    LABEL_OVERFLOW,
    RECORDER_DROPPED,
    RECORDER_EXPORTED,
    RECORDER_PENDING,
    RECORDER_RECORDED,
    RECORDER_RECOVERED,
    STATE_JOINS,
    STATE_JOINS_LATE,
)
from call_initiation.events import Certainty

SCRAPED: Final = ",".join(CHOSEN)

DROPPED_NOW: Final = gauge(RECORDER_DROPPED, "stage")
UNACCOUNTED: Final = (
    f"{gauge(RECORDER_RECORDED, 'stage')} - {gauge(RECORDER_EXPORTED, 'stage')} - {gauge(RECORDER_PENDING, 'stage')}"
    f" - ({DROPPED_NOW} or {gauge(RECORDER_PENDING, 'stage')} * 0)"
)

NOW: Final = Shelf(
    5,
    (
        number(
            "Exporters that answer",
            "Do we see all exporters? The share of the scrapes that succeed now.",
            "percentunit",
            over_time(f"avg(up{{{SCRAPED}}})"),
            ((None, "red"), (1, "green")),
        ),
        number(
            "State feed",
            "Do we hear of the agents' states? 1 is yes, by every exporter that follows agents; without a feed there "
            "is no value.",
            COUNT,
            over_time(gauge(FEED_UP, fold="min")),
            ((None, "red"), (1, "green")),
        ),
        number(
            "States that are known",
            "Can the states on calls be trusted? The share of lookups that were certain.",
            "percentunit",
            over_time(ratio(rate(STATE_JOINS, certainty=equal(Certainty.KNOWN)), rate(STATE_JOINS))),
            GOOD_IF_ALL,
        ),
        number(
            "Records dropped",
            "Was anything lost? Records that a stage gave up in the time shown; dropped calls are in no metric.",
            COUNT,
            over_time(f"{increase(RECORDER_DROPPED)} or vector(0)"),
            BAD_IF_ANY,
        ),
        number(
            "Faults of our own",
            "Did our own code fail? Each is counted, and none reached a call.",
            COUNT,
            over_time(f"{increase(INTERNAL_ERRORS)} or vector(0)"),
            BAD_IF_ANY,
        ),
        columns(
            "Versions",
            "Which versions run, and on how many instances?",
            COUNT,
            {"Time": "", "version": "Version", "Value": "Instances"},
            at_once(gauge(BUILD_INFO, "version")),
        ),
    ),
    "Now",
)

FEED: Final = Shelf(
    8,
    (
        lines(
            "State feed, by exporter",
            "Since when has a feed been down? 1 is up, 0 is down.",
            COUNT,
            over_time(gauge(FEED_UP, "instance", fold="min"), "{{instance}}"),
            top=1,
        ),
        heat(
            "Lag of the state feed",
            "How old is news of an agent when we hear it? What is older than the settle time comes too late for a tag.",
            "s",
            by_bucket(buckets(FEED_EVENT_LAG)),
        ),
        lines(
            "Lag of the state feed, quantiles",
            "Does the lag grow? Time from a change at the server to our hearing of it.",
            "s",
            over_time(quantile(0.5, FEED_EVENT_LAG), "50%"),
            over_time(quantile(0.95, FEED_EVENT_LAG), "95%"),
        ),
        signed_lines(
            "Clock skew",
            "Do the server's clock and ours agree? Above 0 the server's is ahead; lookups are corrected for it.",
            "s",
            over_time(gauge(FEED_CLOCK_SKEW, "instance", fold="max"), "{{instance}}"),
        ),
    ),
    "State feed",
)

TOLD: Final = Shelf(
    8,
    (
        counts(
            "Reconnects by reason",
            "Why does the feed reconnect? Expiry and closing notices are routine; silence and drops are not.",
            over_time(increase(FEED_RECONNECTS, "reason", over=STEP), "{{reason}}"),
        ),
        lines(
            "Notifications by topic",
            "Does every topic deliver? One that stops while others go on is a lost subscription.",
            "cps",
            over_time(rate(FEED_EVENTS, "topic"), "{{topic}}"),
            stacked=True,
        ),
        lines(
            "Lookups by certainty",
            "How far can the states on calls be believed, and who told us?",
            "cps",
            over_time(rate(STATE_JOINS, "certainty", "source"), "{{certainty}} ({{source}})"),
            stacked=True,
        ),
        counts(
            "States that came too late",
            "Is the settle time long enough? Changes that arrived after it and would have changed a tag.",
            over_time(increase(STATE_JOINS_LATE, over=STEP), "late"),
        ),
    ),
)

RECORDER: Final = Shelf(
    9,
    (
        lines(
            "Taken and passed on, by stage",
            "Does each stage keep up? Lines above 0 were taken, and those beside them passed on.",
            "cps",
            over_time(rate(RECORDER_RECORDED, "stage"), "{{stage}} taken"),
            over_time(rate(RECORDER_EXPORTED, "stage"), "{{stage}} passed on"),
        ),
        lines(
            "Waiting, by stage",
            "Does anything pile up? A stage that only grows has an end that doesn't take it: look at the collector. "
            "Recovered is what an earlier process had left in the journal.",
            COUNT,
            over_time(gauge(RECORDER_PENDING, "stage"), "{{stage}}"),
            over_time(gauge(RECORDER_RECOVERED, "stage"), "{{stage}} recovered"),
        ),
        counts(
            "Dropped, by stage and reason",
            "What was given up, and why? Stages named spans, events and metrics are the way to the collector.",
            over_time(increase(RECORDER_DROPPED, "stage", "reason", over=STEP), "{{stage}}: {{reason}}"),
        ),
    ),
    "Our own accounts",
)

FAULTS: Final = Shelf(
    8,
    (
        signed_lines(
            "Unaccounted for, by stage",
            "Do the books balance? What was taken, less what was passed on, waits or was dropped: 0, always.",
            COUNT,
            over_time(UNACCOUNTED, "{{stage}}"),
        ),
        counts(
            "Faults of our own, by stage",
            "Where does our own code fail? Please report it, with the log line of that stage.",
            over_time(increase(INTERNAL_ERRORS, "stage", over=STEP), "{{stage}}"),
        ),
        counts(
            "Label values folded to “other”",
            "Are codes or states hidden behind “other”? The metric was full, or the value wasn't fit to show.",
            over_time(increase(LABEL_OVERFLOW, "label", over=STEP), "{{label}}"),
        ),
        counts(
            "Refused by the gateway itself, by code",
            "What do dialers ask that never becomes a call start? `docs/codes.md` says what to do about each code.",
            over_time(increase(GATEWAY_REFUSALS, "code", over=STEP), "{{code}}"),
        ),
    ),
)

SCRAPES: Final = Shelf(
    8,
    (
        lines(
            "Time of a scrape",
            "Is a scrape a burden? It should take well below a second.",
            "s",
            over_time(f"max by (instance) (scrape_duration_seconds{{{SCRAPED}}})", "{{instance}}"),
        ),
        lines(
            "Samples of a scrape",
            "How many samples does an exporter have? Our own are at most about 2,000, whatever codes come.",
            COUNT,
            over_time(f"max by (instance) (scrape_samples_scraped{{{SCRAPED}}})", "{{instance}}"),
        ),
        lines(
            "Scrapes that succeed",
            "Which exporter doesn't answer? 1 is a scrape that succeeded.",
            COUNT,
            over_time(f"min by (instance) (up{{{SCRAPED}}})", "{{instance}}"),
            top=1,
        ),
    ),
    "Scrapes",
)

EXPORTER_HEALTH: Final = Page(
    "call-initiation-health",
    "Call initiation: exporter health",
    "Can the other three dashboards be believed?",
    (NOW, FEED, TOLD, RECORDER, FAULTS, SCRAPES),
    picture="grafana-health.png",
)
