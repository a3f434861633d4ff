"""A dashboard as Grafana loads it: the classic JSON model, schema version 42, which Grafana 10 to 13 read.

Laws: the panels of a shelf are equally high and together as wide as the page, so the grid has neither holes nor
overlaps; ids are counted from 1; nothing depends on when or where it is built.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    GridPos,
    Panel,
    VariableOption,
    VariableRefresh,
)
from panels import LOKI, PROMETHEUS, TEMPO

from call_initiation.catalogue import BUILD_INFO

WIDTH: Final = 24
TAG: Final = "call-initiation"
SCHEMA: Final = 42


@dataclass(frozen=True)
class Shelf:
    """Panels side by side, equally wide and equally high; a title opens a new section."""

    height: int
    panels: tuple[Panel, ...]
    title: str = ""


@dataclass(frozen=True)
class Page:
    """One dashboard.

    Attributes:
        uid: Its address.
        title: Its title.
        question: What it answers.
        shelves: What is on it, from the top.
        texts: Text variables: name, label, default.
        since: How far back it looks at first.
        picture: Its picture in `docs/images`, where it has one.
    """

    uid: str
    title: str
    question: str
    shelves: tuple[Shelf, ...]
    texts: tuple[tuple[str, str, str], ...] = ()
    since: str = "now-6h"
    picture: str = ""


def rendered(page: Page) -> str:
    """Return a dashboard's JSON, with a line's end at its end."""
    model = json.loads(json.dumps(_built(page), cls=JSONEncoder))
    model["panels"] = [
        json.loads(json.dumps(panel, cls=JSONEncoder)) | {"id": number}
        for number, panel in enumerate(_placed(page.shelves), 1)
    ]
    model["schemaVersion"] = SCHEMA
    for link in model["links"]:
        link.pop("placement", None)  # a place that older Grafanas don't know
    return json.dumps(model, indent=2, ensure_ascii=False) + "\n"


def _built(page: Page) -> Any:
    built = dashboard.Dashboard(page.title).uid(page.uid).description(page.question).tags([TAG]).readonly()
    built.tooltip(DashboardCursorSync.CROSSHAIR).time(page.since, "now").refresh("1m").timezone("browser")
    built.link(
        dashboard.DashboardLink("Call initiation")
        .type(DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .include_vars(True)  # noqa: FBT003 - the SDK's setters
        .keep_time(True)  # noqa: FBT003 - the SDK's setters
        .as_dropdown(False)  # noqa: FBT003 - the SDK's setters
    )
    for variable in _variables(page):
        built.with_variable(variable)
    return built.build()


def _variables(page: Page) -> Iterator[Any]:
    for source in (PROMETHEUS, TEMPO, LOKI):
        kind = str(source.type_val)
        yield dashboard.DatasourceVariable(f"{kind}_datasource").type(kind).label(f"{kind.title()} data source")
    yield _query("job", "Job", "")
    yield _query("instance", "Instance", '{job=~"$job"}')
    for name, label, default in page.texts:
        chosen = VariableOption(True, default, default)  # noqa: FBT003 - the field `selected`
        yield dashboard.TextBoxVariable(name).label(label).default_value(default).current(chosen)


def _query(name: str, label: str, chosen: str) -> dashboard.QueryVariable:
    query = f"label_values({BUILD_INFO.prometheus_name}{chosen}, {name})"
    variable = dashboard.QueryVariable(name).label(label).datasource(PROMETHEUS).definition(query)
    variable.query({"query": query, "refId": name}).refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
    variable.current(VariableOption(True, ["All"], ["$__all"]))  # noqa: FBT003 - the field `selected`
    return variable.multi(True).include_all(True).all_value(".+")  # noqa: FBT003 - the SDK's setters


def _placed(shelves: tuple[Shelf, ...]) -> Iterator[Any]:
    """Yield the rows and panels, each with its place on the grid."""
    y = 0
    for shelf in shelves:
        if shelf.title:
            yield dashboard.Row(shelf.title).collapsed(False).grid_pos(GridPos(1, WIDTH, 0, y)).build()  # noqa: FBT003 - the SDK's setter
            y += 1
        width = WIDTH // len(shelf.panels)
        for number, panel in enumerate(shelf.panels):
            panel.grid_pos = GridPos(shelf.height, width, number * width, y)
            yield panel
        y += shelf.height
