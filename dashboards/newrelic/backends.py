"""Queries for any OTLP backend, as data: TraceQL for spans, LogQL for failure events.

Tempo keeps a span's attributes by their names; Loki keeps a record's attributes as structured metadata, with
underscores for dots, and makes `service.name` a label.
"""

from collections.abc import Iterator
from typing import Final

from nrql import attribute

from call_initiation.catalogue import ATTRIBUTES
from call_initiation.events import Certainty, Outcome


def span(name: str) -> str:
    """Return a span's attribute in TraceQL."""
    return f"span.{attribute(name)}"


def record(name: str) -> str:
    """Return a record's attribute as Loki keeps it."""
    return attribute(name).replace(".", "_")


OUTCOME: Final = "call_initiation.outcome"
CODE: Final = "call_initiation.error.code"
STATE: Final = "call_initiation.agent.state"
AGENT: Final = "call_initiation.agent.id"
CERTAINTY: Final = "call_initiation.agent.state.certainty"
AN_AGENT: Final = "9d4b4c1e-0000-4000-8000-000000000001"

_FAILURES: Final = f'{{service_name=~".+"}} | {record(OUTCOME)}!=""'
_REJECTED: Final = f'{{service_name=~".+"}} | {record(OUTCOME)}="{Outcome.REJECTED}"'

TRACEQL: Final = (
    (
        "Every call of an agent",
        f'{{ {span(AGENT)} = "{AN_AGENT}" }} | select({span(OUTCOME)}, {span(CODE)}, {span(STATE)})',
    ),
    (
        "Refusals while the agent was on a call",
        f'{{ {span(OUTCOME)} = "{Outcome.REJECTED}" && {span(STATE)} = "on_call" }}',
    ),
    (
        "Refusals within 5 seconds of the agent's last change",
        f'{{ {span(OUTCOME)} = "{Outcome.REJECTED}" && {span("call_initiation.agent.state.age")} < 5 }}',
    ),
    (
        "Refusals of agents whose state isn't known for certain",
        f'{{ {span(OUTCOME)} = "{Outcome.REJECTED}" && {span(CERTAINTY)} != "{Certainty.KNOWN}" }}',
    ),
    (
        "Calls that may have rung somebody unknown to the dialer",
        f'{{ {span(OUTCOME)} = "{Outcome.AMBIGUOUS}" }} | select({span("error.type")}, {span("server.address")})',
    ),
    (
        "Refusals over time, by code and state (TraceQL metrics)",
        f'{{ {span(OUTCOME)} = "{Outcome.REJECTED}" }} | rate() by ({span(CODE)}, {span(STATE)})',
    ),
    (
        "The exchange that Genesys speaks of by its correlation id",
        f'{{ {span("call_initiation.correlation_id")} = "5b8f0f6e-0000-4000-8000-000000000002" }}',
    ),
)

LOGQL: Final = (
    ("Every failure of an agent", f'{{service_name=~".+"}} | {record(AGENT)}="{AN_AGENT}"'),
    (
        "Refusals by code and state",
        f"sum by ({record(CODE)}, {record(STATE)}) (count_over_time({_REJECTED} [1h]))",
    ),
    ("Whose calls fail most", f"topk(10, sum by ({record(AGENT)}) (count_over_time({_FAILURES} [1h])))"),
    (
        "Whose concern the failures are",
        f"sum by ({record('call_initiation.error.category')}) (count_over_time({_FAILURES} [5m]))",
    ),
    (
        "What the API said, masked",
        f"{_REJECTED} | line_format `{{{{.{record(CODE)}}}}} {{{{.{record('call_initiation.error.message')}}}}}`",
    ),
)


def queries() -> str:
    """Return both languages' queries as Markdown."""
    return "\n".join(_section("TraceQL", "traceql", TRACEQL) + _section("LogQL", "logql", LOGQL)).rstrip("\n")


def _section(title: str, language: str, pairs: tuple[tuple[str, str], ...]) -> list[str]:
    lines = [f"### {title}", ""]
    for question, query in pairs:
        lines += [f"{question}:", "", f"```{language}", query, "```", ""]
    return lines


def reference() -> str:
    """Return every attribute as Markdown: its name in OTLP and TraceQL, and its name in Loki."""
    head = ("| OTLP, NRQL | TraceQL | LogQL | Type | What it says |", "|---|---|---|---|---|")
    return "\n".join((*head, *_rows()))


def _rows() -> Iterator[str]:
    for known in ATTRIBUTES:
        names = " | ".join(f"`{name}`" for name in (known.name, span(known.name), record(known.name)))
        yield f"| {names} | {known.type} | {known.help} |"
