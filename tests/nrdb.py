"""What is committed for New Relic and other OTLP backends, and the names that its queries use.

NRQL runs nowhere but at New Relic, so the names are found by taking away all that isn't one: texts, keywords,
functions, types of events, aliases and variables. What is left must be somebody's attribute.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).parents[1]
NEW_RELIC: Final = ROOT / "dashboards" / "newrelic"
BOARD: Final[dict[str, Any]] = json.loads((NEW_RELIC / "call-initiation.json").read_text(encoding="utf-8"))
ALERTS: Final[dict[str, Any]] = yaml.safe_load((NEW_RELIC / "alerts.yaml").read_text(encoding="utf-8"))
BACKENDS: Final = (ROOT / "docs" / "otlp-backends.md").read_text(encoding="utf-8")

DERIVED: Final = {
    "metricName": "the name of the OTLP metric, which is a field of its own and no attribute",
    "trace.id": "the record's or the span's trace_id, which is a field of its own and no attribute",
}
"""What New Relic makes of fields of OTLP (docs.newrelic.com, "OpenTelemetry … in New Relic"), and from what."""

EVENTS: Final = {
    "Metric": "every OTLP metric",
    "CallInitiationError": "a log record with newrelic.event.type",
    "ChangeTrackingEvent": "New Relic's own: what its users say that they changed",
    "Deployment": "New Relic's own: the same, of older clients",
    "NrIntegrationError": "New Relic's own: what it refused after it had taken it",
}

# fmt: off
_KEYWORDS: Final = {
    "select", "from", "where", "facet", "as", "and", "or", "in", "like", "not", "is", "null", "since", "until", "ago",
    "limit", "max", "timeseries", "compare", "with", "day", "days", "hour", "hours", "join", "on", "left", "inner",
}
_FUNCTIONS: Final = {
    "sum", "filter", "latest", "min", "count", "uniquecount", "uniques", "percentile", "histogram", "buckets",
}
# fmt: on
_WORD: Final = re.compile(r"[A-Za-z_][\w.]*")


def widgets() -> list[dict[str, Any]]:
    """Return every widget of every page."""
    return [widget for page in BOARD["pages"] for widget in page["widgets"]]


def queries() -> Iterator[tuple[str, str]]:
    """Yield each NRQL query and where it stands: on the board, in its variables, in the conditions."""
    for widget in widgets():
        for query in widget["rawConfiguration"].get("nrqlQueries", ()):
            yield widget["title"], query["query"]
    for variable in BOARD["variables"]:
        if "nrqlQuery" in variable:
            yield variable["name"], variable["nrqlQuery"]["query"]
    for condition in ALERTS["conditions"]:
        yield condition["name"], condition["nrql"]["query"]


def bare(query: str) -> str:
    """Return a query without texts, variables, and the names that it gives."""
    without = re.sub(r"\bAS '[^']*'|'[^']*'|\{\{\w+\}\}", " ", query)
    given = set(re.findall(r"\bAS\s+([A-Za-z_]\w*)", without))
    return re.sub(r"[A-Za-z_][\w.]*", lambda found: "" if found[0] in given else found[0], without)


def functions(query: str) -> set[str]:
    """Return the functions that a query calls."""
    return {name for name in re.findall(r"([A-Za-z_]\w*)\(", bare(query)) if name.lower() not in _KEYWORDS}


def event_types(query: str) -> set[str]:
    """Return what a query asks."""
    lists = re.findall(r"\bFROM\s+((?:\w+\s*,\s*)*\w+)", bare(query))
    return {name.strip() for names in lists for name in names.split(",")}


def names(query: str) -> set[str]:
    """Return the attributes and metrics that a query names."""
    words = set(_WORD.findall(bare(query)))
    known = _KEYWORDS | {name.lower() for name in functions(query)}
    return {word for word in words if word.lower() not in known} - event_types(query)


def is_known(function: str) -> bool:
    """Tell whether NRQL has a function, among those that are used here."""
    return function.lower() in _FUNCTIONS


def traceql_names() -> set[str]:
    """Return the attributes that the documented TraceQL names."""
    return {name for query in _fenced("traceql") for name in re.findall(r"\bspan\.([\w.]+)", _untexted(query))}


def logql_names() -> set[str]:
    """Return the attributes that the documented LogQL names, as Loki has them."""
    return {name for query in _fenced("logql") for name in re.findall(r"\b(call_initiation_\w+)", _untexted(query))}


def _fenced(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)\n```", BACKENDS, flags=re.DOTALL)


def _untexted(query: str) -> str:
    return re.sub(r'"[^"]*"', '""', query)


def sql(query: str) -> str:
    """Return a query that joins as SQLite would have it: the same clauses in another order, facets as columns."""
    found = re.match(r"FROM (\w+) JOIN \(", query)
    if found is None:
        return _clauses(query)
    end = _closing(query, found.end())
    condition, _, rest = query[end + 1 :].partition(" SELECT ")
    return _clauses(f"FROM {found[1]} JOIN ({sql(query[found.end() : end])}){condition} SELECT {rest}")


def _clauses(query: str) -> str:
    """Turn one level of `FROM … SELECT … WHERE … FACET … LIMIT …`; what is in parentheses is left alone."""
    source, what, where, facet = _parts(query)
    what = re.sub(r"AS '([^']*)'", r'AS "\1"', what).replace("latest(", "max(")
    grouped = [each.split(" AS ")[0] for each in facet.split(", ")]
    made = f"SELECT {what}, {facet} FROM {source} WHERE {where} GROUP BY {', '.join(grouped)}"  # noqa: S608 - a committed query
    return made.replace("sum(call_initiation.attempts)", "sum(value)").replace("service.name IN ({{service}})", "true")


def _parts(query: str) -> tuple[str, ...]:
    """Return the contents of the four clauses, which stand at depth 0."""
    contents: list[list[str]] = [[], [], [], [], []]
    depth, at = 0, -1
    for word in re.findall(r"\(|\)|[^\s()]+|\s+", query):
        depth += (word == "(") - (word == ")")
        clauses = ("FROM", "SELECT", "WHERE", "FACET", "LIMIT")
        if depth == 0 and word in clauses:
            at = clauses.index(word)
        else:
            contents[at].append(word)
    return tuple("".join(words).strip() for words in contents[:4])


def _closing(text: str, at: int) -> int:
    """Return where the parenthesis ends that was opened before `at`."""
    depth = 1
    while depth:
        depth += {"(": 1, ")": -1}.get(text[at], 0)
        at += 1
    return at - 1
