"""The dashboards and rules as they are committed, and what the queries in them name."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import promql_parser
import yaml

ROOT = Path(__file__).parents[1]
GRAFANA = ROOT / "dashboards" / "grafana"
PROMETHEUS = ROOT / "dashboards" / "prometheus"
RUNBOOKS = ROOT / "docs" / "runbooks"
BOARDS: dict[str, dict[str, Any]] = {
    path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(GRAFANA.glob("*.json"))
}


@dataclass(frozen=True)
class Target:
    """One query of one panel.

    Attributes:
        panel: The board's and the panel's name, to find it by.
        kind: Of the data source: `prometheus`, `tempo` or `loki`.
        query: Its text.
        is_instant: It asks for the present alone.
        has_exemplars: It asks for exemplars, too.
    """

    panel: str
    kind: str
    query: str
    is_instant: bool
    has_exemplars: bool


def panels(board: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a board's panels without its rows."""
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def targets(kind: str) -> list[Target]:
    """Return every query to one kind of data source."""
    return [
        Target(
            f"{name}: {panel['title']}",
            target["datasource"]["type"],
            target.get("expr") or target["query"],
            bool(target.get("instant")),
            bool(target.get("exemplar")),
        )
        for name, board in BOARDS.items()
        for panel in panels(board)
        for target in panel.get("targets", ())
        if target["datasource"]["type"] == kind
    ]


def rules(name: str) -> list[dict[str, Any]]:
    """Return the rules of a file."""
    groups = yaml.safe_load((PROMETHEUS / name).read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def chosen(query: str, *, job: str = ".+", instance: str = ".+", window: str = "1m", period: str = "1h") -> str:
    """Return a query with Grafana's variables filled in, as Grafana would."""
    for name, value in (
        ("$__rate_interval", window),
        ("$__range", period),
        ("$job", job),
        ("$instance", instance),
    ):
        query = query.replace(name, value)
    return query


def strings(value: object) -> Iterator[str]:
    """Yield every text in a JSON value, keys too."""
    match value:
        case str():
            yield value
        case list():
            for item in value:
                yield from strings(item)
        case dict():
            for key, item in value.items():
                yield from strings(key)
                yield from strings(item)
        case _:
            pass


def nodes(query: str) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """Yield every node of a PromQL expression with the nodes around it, the outermost first."""
    yield from _nodes(promql_parser.parse(chosen(query)), ())


def _nodes(node: Any, around: tuple[Any, ...]) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    yield node, around
    inner = [getattr(node, name, None) for name in ("lhs", "rhs", "expr", "param", "vector_selector")]
    for child in (*inner, *getattr(node, "args", ())):
        if child is not None:
            yield from _nodes(child, (*around, node))


@dataclass(frozen=True)
class Selected:
    """One selector of a query: what it names, and what is around it."""

    name: str
    matchers: dict[str, str]
    around: tuple[Any, ...]

    @property
    def functions(self) -> set[str]:
        """The functions that it stands in."""
        return {node.func.name for node in self.around if isinstance(node, promql_parser.Call)}

    @property
    def metric(self) -> str:
        """The metric's name without the part of a histogram."""
        return re.sub(r"_(bucket|count|sum)$", "", self.name)


def selectors(query: str) -> list[Selected]:
    """Return every selector of a PromQL expression."""
    return [
        Selected(node.name, {matcher.name: matcher.value for matcher in node.matchers.matchers}, around)
        for node, around in nodes(query)
        if isinstance(node, promql_parser.VectorSelector)
    ]


def grouping(query: str) -> set[str]:
    """Return every label that an expression groups or matches by."""
    found: set[str] = set()
    for node, _ in nodes(query):
        modifier = getattr(node, "modifier", None)
        if modifier is not None:
            labels = modifier.labels if isinstance(node, promql_parser.AggregateExpr) else modifier.matching
            found |= set(labels if isinstance(labels, list) else getattr(labels, "labels", ()))
    return found


def attributes() -> set[str]:
    """Return every attribute that a TraceQL or LogQL query names, as it is written there."""
    of_spans = {name for target in targets("tempo") for name in re.findall(r"\bspan\.([\w.]+)", target.query)}
    of_records = {name for target in targets("loki") for name in re.findall(r"\bcall_initiation_\w+", target.query)}
    fields = {
        name
        for board in BOARDS.values()
        for panel in panels(board)
        for transformation in panel.get("transformations", ())
        for name in strings(transformation["options"])
        if name.startswith("call_initiation_")
    }
    return of_spans | of_records | fields
