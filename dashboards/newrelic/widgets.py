"""A dashboard as New Relic imports it, from rows of widgets.

Laws: the widgets of a row are equally high and together as wide as the page (12 columns), so there are neither holes
nor overlaps; no account, no guid and no permission is in it: whoever imports it adds their own.
"""

from dataclasses import dataclass, field
from typing import Any, Final

WIDTH: Final = 12

_PLAIN: Final[dict[str, Any]] = {"facet": {"showOtherSeries": False}, "legend": {"enabled": True}}


@dataclass(frozen=True)
class Widget:
    """One widget.

    Attributes:
        title: The question that it answers, in a few words.
        kind: How it is drawn: the end of a visualisation's id.
        query: NRQL; or the text of a markdown widget.
        width: Columns.
        unit: New Relic's name for what the numbers are in.
        thresholds: Severities and the values from which they hold; for billboards.
    """

    title: str
    kind: str
    query: str
    width: int
    unit: str = ""
    thresholds: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Row:
    """Widgets side by side."""

    height: int
    widgets: tuple[Widget, ...]


@dataclass(frozen=True)
class Page:
    """One page."""

    name: str
    description: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Board:
    """A dashboard: pages, and what its reader chooses."""

    name: str
    description: str
    pages: tuple[Page, ...]
    variables: tuple[dict[str, Any], ...] = field(default=())


def rendered(board: Board) -> dict[str, Any]:
    """Return a dashboard's JSON."""
    return {
        "name": board.name,
        "description": board.description,
        "pages": [
            {"name": page.name, "description": page.description, "widgets": _placed(page.rows)} for page in board.pages
        ],
        "variables": list(board.variables),
    }


def chosen(name: str, title: str, query: str) -> dict[str, Any]:
    """Return a variable whose values a query finds; all of them at first."""
    return {
        "name": name,
        "title": title,
        "type": "NRQL",
        "isMultiSelection": True,
        "replacementStrategy": "STRING",
        "defaultValues": [{"value": {"string": "*"}}],
        "nrqlQuery": {"accountIds": [], "query": query},
    }


def typed(name: str, title: str, default: str) -> dict[str, Any]:
    """Return a variable whose value is typed in."""
    return {
        "name": name,
        "title": title,
        "type": "STRING",
        "isMultiSelection": False,
        "replacementStrategy": "STRING",
        "defaultValues": [{"value": {"string": default}}],
    }


def _placed(rows: tuple[Row, ...]) -> list[dict[str, Any]]:
    placed: list[dict[str, Any]] = []
    top = 1
    for row in rows:
        left = 1
        for widget in row.widgets:
            layout = {"column": left, "row": top, "width": widget.width, "height": row.height}
            placed.append(_drawn(widget, layout))
            left += widget.width
        if left != WIDTH + 1:
            message = f"the row of {row.widgets[0].title!r} is {left - 1} columns wide"
            raise ValueError(message)
        top += row.height
    return placed


def _drawn(widget: Widget, layout: dict[str, int]) -> dict[str, Any]:
    return {
        "title": widget.title,
        "layout": layout,
        "linkedEntityGuids": None,
        "visualization": {"id": widget.kind if "." in widget.kind else f"viz.{widget.kind}"},
        "rawConfiguration": _configuration(widget),
    }


def _configuration(widget: Widget) -> dict[str, Any]:
    if widget.kind == "markdown":
        return {"text": widget.query}
    made = {**_PLAIN, "nrqlQueries": [{"accountIds": [], "query": widget.query}]}
    if widget.kind in {"line", "area", "stacked-bar"}:
        made["yAxisLeft"] = {"zero": True}
    if widget.unit:
        made["units"] = {"unit": widget.unit}
    if widget.thresholds:
        made["thresholds"] = [{"alertSeverity": severity, "value": value} for severity, value in widget.thresholds]
    return made
