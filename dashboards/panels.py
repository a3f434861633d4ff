"""The house style of the dashboards' panels: what each kind looks like, whatever it shows.

Laws: every panel has a title, a unit and a description that begins with the question which it answers; every target
names its own data source; ratios are never stacked.
"""

import string
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from grafana_foundation_sdk.builders import (
    barchart,
    common,
    dashboard,
    heatmap,
    logs,
    loki,
    prometheus,
    stat,
    statetimeline,
    table,
    tempo,
    text,
    timeseries,
)
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    DataSourceRef,
    GraphDrawStyle,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    StackingMode,
    TableCellBackgroundDisplayMode,
    TableColoredBackgroundCellOptions,
    TooltipDisplayMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DataTransformerConfig,
    DynamicConfigValue,
    FieldColorModeId,
    Panel,
    Threshold,
    ThresholdsMode,
)
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat
from grafana_foundation_sdk.models.tempo import SearchTableType
from grafana_foundation_sdk.models.text import TextMode

PROMETHEUS, TEMPO, LOKI = (DataSourceRef(kind, f"${{{kind}_datasource}}") for kind in ("prometheus", "tempo", "loki"))

Steps = tuple[tuple[float | None, str], ...]
"""Thresholds: from which value on which colour; the first has no value."""

COUNT: Final = "locale"
"""Grafana's unit of what is counted, with thousands set apart; `increase` may have fractions, and counts have none."""

BAD_SHARE: Final[Steps] = ((None, "green"), (0.05, "orange"), (0.15, "red"))
BAD_IF_ANY: Final[Steps] = ((None, "green"), (1, "red"))
NO_COLOURS: Final[Mapping[str, str]] = MappingProxyType({})
GOOD_IF_ALL: Final[Steps] = ((None, "red"), (0.5, "orange"), (0.9, "green"))


# -- targets ----------------------------------------------------------------------------------------------------------


def over_time(expr: str, legend: str = "", *, exemplar: bool = False) -> prometheus.Dataquery:
    """Return a PromQL query for a panel with a time axis."""
    query = prometheus.Dataquery().expr(expr).legend_format(legend or "__auto").range().exemplar(exemplar)
    return query.format(PromQueryFormat.TIME_SERIES).datasource(PROMETHEUS)


def by_bucket(expr: str, *, exemplar: bool = False) -> prometheus.Dataquery:
    """Return a PromQL query of a histogram's buckets for a heatmap."""
    query = prometheus.Dataquery().expr(expr).legend_format("{{le}}").range().exemplar(exemplar)
    return query.format(PromQueryFormat.HEATMAP).datasource(PROMETHEUS)


def at_once(expr: str) -> prometheus.Dataquery:
    """Return a PromQL query of the present for a table, labels as columns."""
    return prometheus.Dataquery().expr(expr).instant().format(PromQueryFormat.TABLE).datasource(PROMETHEUS)


def highest_first(expr: str) -> prometheus.Dataquery:
    """Return a PromQL query of the present whose highest values are in the first rows and columns of a table."""
    return at_once(f"sort_desc({expr})")


def traces(query: str) -> tempo.Dataquery:
    """Return a TraceQL query, one line for each span."""
    wanted = tempo.Dataquery().query(query).query_type("traceql").limit(200).spss(10)
    return wanted.table_type(SearchTableType.SPANS).datasource(TEMPO)


def events(query: str, legend: str = "") -> loki.Dataquery:
    """Return a LogQL query."""
    return loki.Dataquery().expr(query).legend_format(legend).query_type("range").max_lines(500).datasource(LOKI)


# -- panels -----------------------------------------------------------------------------------------------------------


def number(title: str, about: str, unit: str, query: prometheus.Dataquery, steps: Steps = ((None, "text"),)) -> Panel:
    """Return one big number, the latest."""
    is_traffic_light = len(steps) > 1
    panel = stat.Panel().graph_mode(BigValueGraphMode.AREA).thresholds(_thresholds(steps))
    panel.color_mode(BigValueColorMode.VALUE if is_traffic_light else BigValueColorMode.NONE)
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    if unit == COUNT:
        panel.decimals(0)
    return _panel(panel, title, about, unit, query)


def lines(  # noqa: PLR0913 - what every panel has, and how its lines look
    title: str,
    about: str,
    unit: str,
    *queries: Any,
    stacked: bool = False,
    top: float | None = None,
    colours: Mapping[str, str] = NO_COLOURS,
) -> Panel:
    """Return lines over time; stacked where their sum means something, and coloured by name where a colour does."""
    panel = _over_time().min(0).fill_opacity(40 if stacked else 8)
    for name, colour in colours.items():
        panel.override_by_name(name, [DynamicConfigValue("color", {"mode": "fixed", "fixedColor": colour})])
    if stacked:
        panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL).group("A"))
    if top is not None:
        panel.max(top)
    return _panel(panel, title, about, unit, *queries)


def counts(title: str, about: str, *queries: Any) -> Panel:
    """Return bars over time, of what is rare and may happen once: a rate hides that; each is of `queries.STEP`."""
    panel = _over_time().min(0).draw_style(GraphDrawStyle.BARS).fill_opacity(80).axis_soft_max(1)
    panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL).group("A"))
    return _panel(panel.interval("1m").max_data_points(60), title, about, COUNT, *queries)


def signed_lines(title: str, about: str, unit: str, *queries: Any) -> Panel:
    """Return lines over time that may be below zero."""
    panel = _over_time().axis_soft_min(-1).axis_soft_max(1)
    return _panel(panel, title, about, unit, *queries)


def heat(title: str, about: str, unit: str, query: prometheus.Dataquery) -> Panel:
    """Return a heatmap of a histogram's buckets over time; exemplars are dots on it."""
    colour = heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Oranges").steps(64)
    panel = heatmap.Panel().color(colour).y_axis(heatmap.YAxisConfig().unit(unit)).calculate(False)  # noqa: FBT003 - the SDK's setter
    return _panel(panel, title, about, unit, query)


def bars(title: str, about: str, field: str, query: prometheus.Dataquery, *, unit_of_order: str = "") -> Panel:
    """Return a share for each value of a label, as bars; in the order of the values where these have a unit."""
    panel = barchart.Panel().x_field(field).legend(_legend(is_shown=False)).tooltip(_tooltip()).min(0).max(1)
    panel.thresholds(_thresholds(BAD_SHARE)).color_scheme(_colours(FieldColorModeId.THRESHOLDS))
    _transform(panel, "organize", excludeByName={"Time": True}, indexByName={}, renameByName={})
    if unit_of_order:
        panel.override_by_name(field, [DynamicConfigValue("unit", unit_of_order)])
        _transform(
            panel, "convertFieldType", conversions=[{"targetField": field, "destinationType": "number"}], fields={}
        )
        _transform(panel, "sortBy", fields={}, sort=[{"field": field, "desc": False}])
        _transform(
            panel, "convertFieldType", conversions=[{"targetField": field, "destinationType": "string"}], fields={}
        )
    return _panel(panel, title, about, "percentunit", query)


def columns(title: str, about: str, unit: str, names: dict[str, str], *queries: Any) -> Panel:
    """Return a table of labels and values; `names` says what a column is called, an empty name hides it."""
    hidden = {column: True for column, name in names.items() if not name}
    renamed = {column: name for column, name in names.items() if name}
    panel = table.Panel().filterable(True).min_width(90)  # noqa: FBT003 - the SDK's setter
    panel.override_by_field_type("number", [DynamicConfigValue("custom.width", 105)])
    if unit == COUNT:
        panel.decimals(0)
    _transform(panel, "merge")
    _transform(panel, "organize", excludeByName=hidden, indexByName={}, renameByName=renamed)
    return _panel(panel, title, about, unit, *queries)


def matrix(  # noqa: PLR0913 - what every panel has, its axes and colours
    title: str, about: str, unit: str, axes: tuple[str, str], query: prometheus.Dataquery, *, steps: Steps
) -> Panel:
    """Return a table of one label's values (rows) against another's (columns); a pair that never met is empty."""
    panel = table.Panel().thresholds(_thresholds(steps)).decimals(0 if unit == COUNT else 2)
    panel.cell_options(TableColoredBackgroundCellOptions(mode=TableCellBackgroundDisplayMode.BASIC))
    panel.color_scheme(_colours(FieldColorModeId.THRESHOLDS)).min_width(96)
    panel.override_by_field_type("string", [DynamicConfigValue("custom.width", 290)])
    _transform(panel, "groupingToMatrix", columnField=axes[1], rowField=axes[0], valueField="Value", emptyValue="null")
    return _panel(panel, title, about, unit, query)


def spans(title: str, about: str, query: tempo.Dataquery) -> Panel:
    """Return a table of spans, each with a link to its trace."""
    return _panel(table.Panel().filterable(True), title, about, "none", query)  # noqa: FBT003 - the SDK's setter


def records(title: str, about: str, query: loki.Dataquery) -> Panel:
    """Return log records, the newest first, with all that they carry."""
    panel = logs.Panel().show_time(True).enable_log_details(True).wrap_log_message(True)  # noqa: FBT003 - the SDK's setters
    return _panel(panel, title, about, "none", query)


def states(title: str, about: str, fields: Sequence[str], query: loki.Dataquery) -> Panel:
    """Return how attributes of log records changed, one band for each."""
    panel = statetimeline.Panel().legend(_legend(is_shown=False)).tooltip(_tooltip()).merge_values(True)  # noqa: FBT003 - the SDK's setter
    _transform(panel, "extractFields", source="labels", format="json", keepTime=True, replace=True)
    _transform(panel, "filterFieldsByName", include={"names": ["Time", *fields]})
    _transform(panel, "sortBy", fields={}, sort=[{"field": "Time", "desc": False}])
    return _panel(panel, title, about, "none", query)


def words(title: str, about: str, content: str) -> Panel:
    """Return a text in Markdown."""
    panel = text.Panel().mode(TextMode.MARKDOWN).content(content).build()
    panel.title, panel.description = title, about
    return panel


def _over_time() -> timeseries.Panel:
    panel = timeseries.Panel().legend(_legend()).tooltip(_tooltip()).line_width(1)
    return panel.color_scheme(_colours(FieldColorModeId.PALETTE_CLASSIC))


def _colours(mode: FieldColorModeId) -> dashboard.FieldColor:
    return dashboard.FieldColor().mode(mode)


def _panel(panel: Any, title: str, about: str, unit: str, *queries: Any) -> Panel:
    for name, query in zip(string.ascii_uppercase, queries, strict=False):
        query.ref_id(name)
    panel.title(title).description(about).unit(unit).targets(list(queries))
    built: Panel = panel.datasource(queries[0].build().datasource).build()
    return built


def _transform(panel: Any, name: str, **options: object) -> None:
    panel.with_transformation(DataTransformerConfig(name, options=options))


def _thresholds(steps: Steps) -> dashboard.ThresholdsConfig:
    config = dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE)
    return config.steps([Threshold(value, colour) for value, colour in steps])


def _legend(*, is_shown: bool = True) -> common.VizLegendOptions:
    legend = common.VizLegendOptions().show_legend(is_shown).placement(LegendPlacement.BOTTOM)
    legend.display_mode(LegendDisplayMode.TABLE).calcs(["max", "lastNotNull"])
    return legend.sort_by("Max").sort_desc(True)  # noqa: FBT003 - the SDK's setter


def _tooltip() -> common.VizTooltipOptions:
    return common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING)
