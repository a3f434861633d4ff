"""The agent timeline: what happened to this agent? From traces and events, for an agent is never a metric's label."""

from typing import Final

from pages import Page, Shelf
from panels import COUNT, events, lines, over_time, records, spans, states, traces
from queries import equal, rate, ratio

from call_initiation.catalogue import ATTEMPTS, ATTRIBUTES
from call_initiation.events import Outcome

NAMES: Final = {attribute.name for attribute in ATTRIBUTES}
AGENT: Final = "call_initiation.agent.id"


def span(name: str) -> str:
    """Return a span's attribute in TraceQL; one that isn't in the catalogue fails the build."""
    return f"span.{_known(name)}"


def record(name: str) -> str:
    """Return an attribute of a log record as Loki keeps it: underscores for dots."""
    return _known(name).replace(".", "_")


def _known(name: str) -> str:
    if name not in NAMES:
        message = f"{name} is no attribute of the catalogue"
        raise ValueError(message)
    return name


EVENTS: Final = f'{{service_name=~"$service"}} | {record(AGENT)}="$agent"'


def calls(*names: str) -> str:
    """Return the TraceQL of this agent's calls, with these attributes as columns."""
    columns = ", ".join(map(span, ("call_initiation.outcome", *names)))
    return f'{{ {span(AGENT)} = "$agent" }} | select({columns})'


STATE: Final = ("call_initiation.agent.state", "call_initiation.agent.presence", "call_initiation.agent.routing_status")

WHEN: Final = Shelf(
    8,
    (
        lines(
            "This agent's failures by code",
            "When did this agent's calls fail, and with which code? From the events, of which each failure sends one.",
            COUNT,
            events(
                f"sum by ({record('call_initiation.error.code')}) (count_over_time({EVENTS} [$__auto]))",
                f"{{{{{record('call_initiation.error.code')}}}}}",
            ),
            stacked=True,
        ),
        lines(
            "Rejected, all agents",
            "Is it this agent alone, or everybody? The share of all call starts that is refused by validation.",
            "percentunit",
            over_time(ratio(rate(ATTEMPTS, outcome=equal(Outcome.REJECTED)), rate(ATTEMPTS)), "rejected"),
        ),
    ),
    "When",
)

IN_WHICH_STATE: Final = Shelf(
    7,
    (
        states(
            "State at each failed call",
            "In what state was this agent when a call failed? One word as on the metrics, the presence and the "
            "routing status, each as of the send.",
            tuple(map(record, STATE)),
            events(EVENTS),
        ),
    ),
)

CALLS: Final = Shelf(
    10,
    (
        spans(
            "Calls and states",
            "What became of each call, in what state, and can the state be believed? Accepted calls are here as far "
            "as traces are sampled; failures always are.",
            traces(
                calls(
                    "http.response.status_code",
                    "call_initiation.error.code",
                    "call_initiation.error.category",
                    *STATE,
                    "call_initiation.agent.state.age",
                    "call_initiation.agent.state.certainty",
                    "call_initiation.agent.state.source",
                    "call_initiation.correlation_id",
                )
            ),
        ),
    ),
    "Calls",
)

DETAILS: Final = Shelf(
    9,
    (
        spans(
            "The agent, in full",
            "What exactly was known of the agent at each send? Calls, wrap-up, station, and since when.",
            traces(
                calls(
                    "call_initiation.agent.on_call",
                    "call_initiation.agent.wrap_up",
                    "call_initiation.agent.station",
                    "call_initiation.agent.state.since",
                    "call_initiation.agent.id.source",
                )
            ),
        ),
        spans(
            "The request and the answer, in full",
            "What was asked for, and what did the API say? Numbers and secrets in messages are masked.",
            traces(
                calls(
                    "http.request.method",
                    "url.template",
                    "server.address",
                    "server.port",
                    "error.type",
                    "call_initiation.error.codes",
                    "call_initiation.error.message",
                    "call_initiation.payload.shape",
                    "call_initiation.findings",
                    "call_initiation.duplicate.suspected",
                    "call_initiation.response.body",
                )
            ),
        ),
    ),
)

EVENTS_OF_AGENT: Final = Shelf(
    10,
    (
        records(
            "Failures",
            "What does each failure's event say? All of it; its trace is a link.",
            events(EVENTS),
        ),
    ),
    "Events",
)

AGENT_TIMELINE: Final = Page(
    "call-initiation-agent",
    "Call initiation: agent timeline",
    "What happened to this agent?",
    (WHEN, IN_WHICH_STATE, CALLS, DETAILS, EVENTS_OF_AGENT),
    texts=(("agent", "Agent's user id", ""), ("service", "Service (a pattern)", ".+")),
)
