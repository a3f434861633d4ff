"""What is committed for New Relic promises: made from the catalogue, and of the shape that New Relic documents."""

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk._logs import LogRecordLimits
from opentelemetry.sdk.metrics.export import AggregationTemporality
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits

from call_initiation.catalogue import ATTRIBUTES, METRICS, Kind
from call_initiation.events import Refusal, SpanIds
from call_initiation.privacy import Mask
from call_initiation.recording.aggregate import Aggregate, Exemplar
from call_initiation.telemetry import otlp, presets
from nrdb import (
    ALERTS,
    BACKENDS,
    BOARD,
    DERIVED,
    EVENTS,
    ROOT,
    event_types,
    functions,
    is_known,
    logql_names,
    names,
    queries,
    sql,
    traceql_names,
    widgets,
)
from samples import REFUSED

BUILD = ROOT / "dashboards" / "newrelic" / "build.py"
ATTRIBUTE_NAMES = {attribute.name for attribute in ATTRIBUTES}
LABELS = {label for metric in METRICS for label in metric.labels}
METRIC_NAMES = {metric.name for metric in METRICS}
VISUALISATIONS = {
    f"viz.{kind}"
    for kind in (
        *("line", "area", "bar", "stacked-bar", "pie", "table"),
        *("billboard", "histogram", "heatmap", "funnel", "event-feed", "markdown"),
    )
}
MEGABYTE = 10**6

each_query = pytest.mark.parametrize("query", [query for _, query in queries()], ids=[place for place, _ in queries()])
each_widget = pytest.mark.parametrize("widget", widgets(), ids=[widget["title"] for widget in widgets()])
each_condition = pytest.mark.parametrize(
    "condition", ALERTS["conditions"], ids=[c["name"] for c in ALERTS["conditions"]]
)


def strings(value: Any) -> Iterator[str]:
    """Yield every key and every text in a piece of JSON."""
    match value:
        case str():
            yield value
        case dict():
            yield from value
            for inner in value.values():
                yield from strings(inner)
        case list():
            for inner in value:
                yield from strings(inner)
        case _:
            pass


# -- made, not written ------------------------------------------------------------------------------------------------


def test_what_is_committed_is_what_is_made() -> None:
    """From the catalogue and the presets; --check writes nothing."""
    made = subprocess.run([sys.executable, str(BUILD), "--check"], capture_output=True, text=True, check=False)  # noqa: S603 - our own script
    assert (0, "", "") == (made.returncode, made.stdout, made.stderr)


def test_what_is_out_of_date_is_named_and_mended(tmp_path: Path) -> None:
    """A copy of the tree with one file changed, one missing and one without its marker."""
    docs = [ROOT / "docs" / name for name in ("generated.py", "new-relic.md", "otlp-backends.md")]
    for path in (*BUILD.parent.glob("*"), *docs):
        if path.is_file():
            copy = tmp_path / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    here = tmp_path / "dashboards" / "newrelic"
    (here / "alerts.yaml").unlink()
    (here / "call-initiation.json").write_text("{}")

    def run(*arguments: str) -> tuple[int, str]:
        command = [sys.executable, str(here / "build.py"), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own script
        return done.returncode, done.stdout + done.stderr

    names = ("dashboards/newrelic/call-initiation.json", "dashboards/newrelic/alerts.yaml")
    assert (1, "".join(f"{name} is out of date; run: make docs\n" for name in names)) == run("--check")
    assert (0, "".join(f"{name} written\n" for name in names)) == run()
    assert (0, "") == run("--check")
    (tmp_path / "docs" / "new-relic.md").write_text("no marker")
    status, said = run("--check")
    assert (1, True) == (status, "new-relic.md: expected one line <!-- preset:begin -->" in said)


# -- the board --------------------------------------------------------------------------------------------------------


def test_the_board_has_new_relics_keys_and_nobodys_account() -> None:
    """Whoever imports it adds an account and permissions; no guid is in it."""
    assert ["name", "description", "pages", "variables"] == list(BOARD)
    assert not {"guid", "permissions", "accountId", "id"} & (
        set(BOARD) | {key for page in BOARD["pages"] for key in page}
    )
    for page in BOARD["pages"]:
        assert ["name", "description", "widgets"] == list(page)
    text = json.dumps(BOARD)
    assert text.count('"accountIds": []') == text.count('"accountIds"') > 0


@each_widget
def test_a_widget_has_new_relics_shape(widget: dict[str, Any]) -> None:
    """Keys, visualisation, configuration."""
    assert ["title", "layout", "linkedEntityGuids", "visualization", "rawConfiguration"] == list(widget)
    assert widget["linkedEntityGuids"] is None
    assert widget["visualization"]["id"] in VISUALISATIONS
    configuration = widget["rawConfiguration"]
    if widget["visualization"]["id"] == "viz.markdown":
        assert ["text"] == list(configuration)
        return
    assert set(configuration) <= {"facet", "legend", "nrqlQueries", "yAxisLeft", "units", "thresholds"}
    assert {"facet", "legend", "nrqlQueries"} <= set(configuration)
    assert [["accountIds", "query"]] == [list(query) for query in configuration["nrqlQueries"]]
    assert not {"thresholds"} & set(configuration) or widget["visualization"]["id"] == "viz.billboard"


@pytest.mark.parametrize("page", BOARD["pages"], ids=lambda page: page["name"])
def test_widgets_fill_the_page_without_overlap(page: dict[str, Any]) -> None:
    """Twelve columns; every cell down to the last row is somebody's, and nobody else's."""
    cells = [
        (column, row)
        for widget in page["widgets"]
        for layout in [widget["layout"]]
        for column in range(layout["column"], layout["column"] + layout["width"])
        for row in range(layout["row"], layout["row"] + layout["height"])
    ]
    depth = max(row for _, row in cells)
    assert [(column, row) for column in range(1, 13) for row in range(1, depth + 1)] == sorted(cells)


def test_titles_are_questions_or_facts_and_differ() -> None:
    """On each page."""
    for page in BOARD["pages"]:
        titles = [widget["title"] for widget in page["widgets"]]
        assert len(set(titles)) == len(titles)
        assert all(titles)


def test_each_variable_is_used_and_each_use_is_of_a_variable() -> None:
    """Multi-valued ones in lists only."""
    by_name = {variable["name"]: variable for variable in BOARD["variables"]}
    used: set[str] = set()
    for _, query in queries():
        for name, variable in by_name.items():
            place = "{{" + name + "}}"
            if place in query:
                used.add(name)
                expected = f"IN ({place})" if variable["isMultiSelection"] else f"LIKE {place}"
                assert query.count(place) == query.count(expected)
        assert query.count("{{") == sum(query.count("{{" + name + "}}") for name in by_name)
    assert set(by_name) == used
    keys = {"name", "title", "type", "isMultiSelection", "replacementStrategy", "defaultValues", "nrqlQuery"}
    for variable in by_name.values():
        assert variable["type"] in {"NRQL", "STRING"}
        assert set(variable) == keys if variable["type"] == "NRQL" else keys - {"nrqlQuery"}


@each_query
def test_a_query_uses_what_is_known(query: str) -> None:
    """Types of events, functions, and names: the catalogue's, New Relic's own, or resource attributes."""
    assert event_types(query) <= set(EVENTS)
    assert all(map(is_known, functions(query)))
    assert query.count("(") == query.count(")")
    assert 0 == query.count("'") % 2
    rest = names(query) - ATTRIBUTE_NAMES - LABELS - METRIC_NAMES - set(DERIVED) - {"service.name"}
    assert set() == rest


@each_widget
def test_a_query_fits_its_drawing(widget: dict[str, Any]) -> None:
    """Lines have a time axis, tables and bars have none, a heatmap is a histogram by something."""
    [query] = [each["query"] for each in widget["rawConfiguration"].get("nrqlQueries", [])] or [""]
    kind = widget["visualization"]["id"].removeprefix("viz.")
    assert ("TIMESERIES" in query) == (kind in {"line", "area", "stacked-bar"})
    assert ("histogram(" in query) == (kind == "heatmap")
    if kind in {"bar", "heatmap"}:
        assert " FACET " in query
    if kind == "billboard":
        assert " FACET " not in query


def test_subqueries_are_at_most_three_and_have_neither_time_axis_nor_comparison() -> None:
    """As NRQL's limits say; a joined one has LIMIT MAX, for 10 is the default."""
    joined = [query for _, query in queries() if " JOIN (" in query]
    assert joined
    for query in joined:
        assert 3 >= query.count("(FROM") + query.count("(SELECT")
        assert query.count("JOIN (") == query.count("LIMIT MAX)")
        assert "COMPARE WITH" not in query
        assert "TIMESERIES" not in query


def test_what_dashboards_are_wanted_for_is_there() -> None:
    """Codes by states, rates against yesterday, lift, top agents, time since a change, changes."""
    text = "\n".join(query for _, query in queries())
    for wanted in (
        "FACET error_code, agent_state",
        "FACET agent_state LIMIT 20 COMPARE WITH 1 day ago",
        "AS 'Lift'",
        "FACET call_initiation.agent.id",
        "buckets(call_initiation.agent.state.age",
        "FROM ChangeTrackingEvent, Deployment",
    ):
        assert wanted in text


def test_the_lift_is_what_it_is_said_to_be() -> None:
    """Put into SQL clause by clause, on counts in which one cell is planted: P(code | state) / P(code)."""
    [query] = [query for place, query in queries() if place == "Which code belongs to which state? (lift)"]
    counts = {
        ("accepted", "none", "available"): (400.0, 350.0),
        ("accepted", "none", "busy"): (50.0,),
        ("rejected", "no.station", "available"): (25.0, 15.0),
        ("rejected", "no.station", "busy"): (5.0,),
        ("rejected", "agent.busy", "available"): (10.0,),
        ("rejected", "agent.busy", "busy"): (45.0, 50.0, 50.0),
    }
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute("CREATE TABLE Metric (outcome, error_code, agent_state, value REAL)")
        rows = [(*labels, value) for labels, values in counts.items() for value in values]
        database.executemany("INSERT INTO Metric VALUES (?, ?, ?, ?)", rows)
        found = {(code, state): shown for *shown, code, state in database.execute(sql(query))}
    total = {labels: sum(values) for labels, values in counts.items()}
    every = sum(total.values())
    for (outcome, code, state), refused in total.items():
        if outcome == "rejected":
            tried = sum(count for labels, count in total.items() if labels[2] == state)
            of_code = sum(count for labels, count in total.items() if labels[1] == code)
            assert [pytest.approx(refused / tried / (of_code / every)), refused, tried] == found.pop((code, state))
    assert {} == found


# -- the conditions ---------------------------------------------------------------------------------------------------


@each_condition
def test_a_condition_has_new_relics_shape(condition: dict[str, Any]) -> None:
    """Static or baseline, one term, a signal, and a runbook that is there."""
    of_type = {"BASELINE": ("UPPER_ONLY", None), "STATIC": (None, "SINGLE_VALUE")}[condition["type"]]
    assert of_type == (condition.get("baselineDirection"), condition.get("valueFunction"))
    [term] = condition["terms"]
    assert {"priority", "operator", "threshold", "thresholdDuration", "thresholdOccurrences"} == set(term)
    assert term["priority"] in {"CRITICAL", "WARNING"}
    assert term["operator"] in {"ABOVE", "BELOW"}
    assert 0 == term["thresholdDuration"] % condition["signal"]["aggregationWindow"]
    assert 60 <= term["thresholdDuration"] <= 7200
    assert {"aggregationWindow", "aggregationMethod", "aggregationDelay"} == set(condition["signal"])
    page = condition["runbookUrl"].rpartition("/")[2]
    assert (f"{condition['name']}.md", True) == (page, (ROOT / "docs" / "runbooks" / page).is_file())


@each_condition
def test_a_condition_can_be_evaluated_on_a_stream(condition: dict[str, Any]) -> None:
    """No subquery, no comparison, no time axis, no limit, no variable."""
    query = condition["nrql"]["query"]
    for word in ("TIMESERIES", "COMPARE", "SINCE", "LIMIT", "JOIN", "{{", "(SELECT", "(FROM"):
        assert word not in query


# -- the other backends -----------------------------------------------------------------------------------------------


def test_the_documented_queries_name_attributes_of_the_catalogue() -> None:
    """TraceQL by name, LogQL with underscores; the reference has all."""
    assert traceql_names() <= ATTRIBUTE_NAMES
    assert logql_names() <= {name.replace(".", "_") for name in ATTRIBUTE_NAMES}
    assert min(len(traceql_names()), len(logql_names())) >= 4
    for attribute in ATTRIBUTES:
        row = f"| `{attribute.name}` | `span.{attribute.name}` | `{attribute.name.replace('.', '_')}` |"
        assert row in BACKENDS


# -- New Relic's limits -----------------------------------------------------------------------------------------------


def worst() -> Any:
    """Return the largest call that an answer can make: everything as long as it may become, in four-byte characters."""
    mask = Mask()
    longest = [mask.code(chr(ord("a") + at) * 80) for at in range(16)]
    message = mask.text("\N{PILE OF POO}" * 5000)
    assert (1000, {80}) == (len(message), {len(code or "") for code in longest})
    identifier = mask.identifier("x" * 64)
    return replace(
        REFUSED,
        server_address="x" * 253,
        error_type="certificate_hostname_mismatch",
        refusal=Refusal(codes=tuple(map(str, longest)), message=message, correlation_id=identifier),
        agent=replace(REFUSED.agent, id=identifier, state=replace(REFUSED.agent.state, station=identifier)),
        findings=tuple(f"finding-{at:02}-{'x' * 40}" for at in range(16)),
        span=SpanIds(trace_id=2**128 - 1, span_id=2**64 - 1, parent_span_id=2**64 - 1, trace_state="x=" + "y" * 250),
    )


def test_the_largest_batches_are_within_new_relics_limits() -> None:
    """Below 1 MB before compression; values, arrays and their number within what it takes."""
    call, resource, scope = worst(), Resource({"service.name": "x" * 255}), otlp.scope("1.0")
    given = {**otlp.attributes(call), **presets.event_attributes("newrelic-eu")}
    assert len(given) <= 64
    for value in given.values():
        texts = value if isinstance(value, tuple) else (value,)
        assert len(texts) <= 64
        assert all(len(str(text)) <= 4095 for text in texts)
    most = int(presets.variables("newrelic-eu")["OTEL_BSP_MAX_EXPORT_BATCH_SIZE"])
    span = otlp.span_of(call, given, resource, scope, SpanLimits())
    assert span is not None
    record = otlp.readable(otlp.record_of(call, given), resource, scope, LogRecordLimits())
    assert len(encode_spans([span] * most).SerializeToString()) < MEGABYTE
    assert len(encode_logs([record] * most).SerializeToString()) < MEGABYTE


def test_metrics_at_their_cap_are_within_new_relics_limits() -> None:
    """Every series that there may be, every histogram over its whole width, an exemplar at each: below 1 MB."""
    aggregate = Aggregate(is_exponential=True)
    for metric in METRICS:
        for at in range(metric.max_series if metric.labels else 1):
            labels = tuple(f"{'x' * 76}{at:04}" for _ in metric.labels)
            if metric.kind is Kind.COUNTER:
                aggregate.count(metric, labels)
            elif metric.kind is Kind.GAUGE:
                aggregate.gauge(metric, labels, 1.0)
            else:
                for power in range(-10, 20):
                    aggregate.observe(metric, labels, 2.0**power)
    exemplar, snapshot = Exemplar(1.0, 2**128 - 1, 2**64 - 1, 1e9), aggregate.snapshot()
    for family in snapshot:
        for number in family.numbers.values():
            number.exemplar = exemplar
        for distribution in family.distributions.values():
            distribution.exemplars = dict.fromkeys(range(len(distribution.counts)), exemplar)
    view = otlp.MetricsView(AggregationTemporality.DELTA, Resource({}), "1.0", 1)
    assert len(encode_metrics(view.data(snapshot, 2)).SerializeToString()) < MEGABYTE
