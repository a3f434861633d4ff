"""What the committed dashboards and rules promise: made from the catalogue, loadable, complete, and of one style."""

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from boards import (
    BOARDS,
    PROMETHEUS,
    ROOT,
    RUNBOOKS,
    Target,
    attributes,
    grouping,
    panels,
    rules,
    selectors,
    strings,
    targets,
)
from call_initiation.catalogue import ATTRIBUTES, METRICS, Kind

METRICS_BY_NAME = {metric.prometheus_name: metric for metric in METRICS}
RULES = rules("recording.yaml")
RECORDED = {rule["record"]: rule["expr"] for rule in RULES}
ALERTS = rules("alerts.yaml")
CASES = [
    case
    for path in (PROMETHEUS / "tests").glob("*.yaml")
    for test in yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]
    for case in test.get("alert_rule_test", ())
]
OF_PROMETHEUS = {"up", "scrape_duration_seconds", "scrape_samples_scraped", "ALERTS"}
OF_SCRAPES = {"job", "instance"}
GLOBALS = {"__rate_interval", "__range", "__auto", "__all"}

each_board = pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
each_target = pytest.mark.parametrize("target", targets("prometheus"), ids=lambda target: target.panel)
each_rule = pytest.mark.parametrize("rule", [*RULES, *ALERTS], ids=lambda rule: rule.get("record") or rule["alert"])


def run(*command: object) -> subprocess.CompletedProcess[str]:
    """Run a program and return what it said."""
    return subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)  # noqa: S603 - programs that we chose


# -- made, not written ------------------------------------------------------------------------------------------------


def test_what_is_committed_is_what_would_be_built() -> None:
    """`--check` finds nothing to say."""
    checked = run(sys.executable, ROOT / "dashboards" / "build.py", "--check")
    assert (0, "", "") == (checked.returncode, checked.stdout, checked.stderr)


def test_the_check_finds_what_was_changed_by_hand(tmp_path: Path) -> None:
    """A dashboard that was edited, a rule that is gone and a stranger are named, and nothing is written."""
    shutil.copytree(ROOT / "dashboards", tmp_path / "dashboards")
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    grafana, prometheus = tmp_path / "dashboards" / "grafana", tmp_path / "dashboards" / "prometheus"
    edited = grafana / "call-initiation-overview.json"
    edited.write_text(edited.read_text(encoding="utf-8").replace("now-6h", "now-7h"), encoding="utf-8")
    (prometheus / "alerts.yaml").unlink()
    (grafana / "stranger.json").write_text("{}", encoding="utf-8")
    checked = run(sys.executable, tmp_path / "dashboards" / "build.py", "--check")
    assert 1 == checked.returncode
    expected = ["dashboards/grafana/call-initiation-overview.json", "dashboards/prometheus/alerts.yaml"]
    assert [*expected, "dashboards/grafana/stranger.json"] == [line.split()[0] for line in checked.stdout.splitlines()]
    assert "now-7h" in edited.read_text(encoding="utf-8")


@pytest.mark.filterwarnings("ignore:Prefer using dashboardv2:DeprecationWarning")
@each_board
def test_every_key_survives_grafanas_own_models(board: dict[str, Any]) -> None:
    """A misspelt field, or one that Grafana doesn't know, would be lost on the way."""
    from grafana_foundation_sdk.cog.encoder import JSONEncoder  # noqa: PLC0415 - warns when it is imported
    from grafana_foundation_sdk.cog.plugins import register_default_plugins  # noqa: PLC0415 - the same
    from grafana_foundation_sdk.models.dashboard import Dashboard  # noqa: PLC0415 - the same

    register_default_plugins()
    returned = json.loads(json.dumps(Dashboard.from_json(board), cls=JSONEncoder))
    for link in returned["links"]:
        assert "inControlsMenu" == link.pop("placement")  # the models add it; older Grafanas don't know it
    assert board == returned


# -- the style --------------------------------------------------------------------------------------------------------


@each_board
def test_a_board_loads_anywhere(board: dict[str, Any]) -> None:
    """Classic schema, no inputs to fill in, not editable, shared crosshair; links keep time and variables."""
    facts = {name: board.get(name) for name in ("schemaVersion", "__inputs", "id", "editable", "graphTooltip")}
    assert {"schemaVersion": 42, "__inputs": None, "id": None, "editable": False, "graphTooltip": 1} == facts
    assert [(True, True, board["tags"])] == [
        (link["keepTime"], link["includeVars"], link["tags"]) for link in board["links"]
    ]


def test_boards_are_told_apart() -> None:
    """Four of them, each with an address and a title of its own."""
    assert 4 == len(BOARDS) == len({board["uid"] for board in BOARDS.values()})
    assert 4 == len({board["title"] for board in BOARDS.values()})
    assert list(BOARDS) == [board["uid"] for board in BOARDS.values()]
    assert all(8 <= len(uid) <= 40 for uid in BOARDS)


@each_board
def test_a_boards_variables(board: dict[str, Any]) -> None:
    """Three data sources, then job and instance: many or all of each, asked for anew with the time range."""
    variables = {variable["name"]: variable for variable in board["templating"]["list"]}
    for kind in ("prometheus", "tempo", "loki"):
        variable = variables[f"{kind}_datasource"]
        expected = ("datasource", kind, f"{kind.title()} data source")
        assert expected == (variable["type"], variable["query"], variable["label"])
    for name in ("job", "instance"):
        variable = variables[name]
        facts = {key: variable[key] for key in ("type", "multi", "includeAll", "allValue", "refresh")}
        assert {"type": "query", "multi": True, "includeAll": True, "allValue": ".+", "refresh": 2} == facts
        assert "${prometheus_datasource}" == variable["datasource"]["uid"]


@each_board
def test_no_text_names_a_variable_that_is_not_there(board: dict[str, Any]) -> None:
    """In queries, titles, legends, links or anywhere."""
    used = {name for text in strings(board) for pair in re.findall(r"\$(\w+)|\$\{(\w+)[^}]*\}", text) for name in pair}
    defined = {variable["name"] for variable in board["templating"]["list"]}
    assert set() == used - defined - GLOBALS - {""}


@each_board
def test_panels_say_what_they_answer(board: dict[str, Any]) -> None:
    """A title of its own, a description that begins with a question, a unit."""
    titles = Counter(panel["title"] for panel in panels(board))
    assert {1} == set(titles.values())
    for panel in panels(board):
        assert re.match(r"[A-Z“φ][^.?!]*\?", panel["description"]), panel["title"]
        assert "text" == panel["type"] or panel["fieldConfig"]["defaults"]["unit"], panel["title"]


@each_board
def test_the_grid_has_neither_holes_nor_overlaps(board: dict[str, Any]) -> None:
    """Every cell from the top to the bottom is covered once; what stands side by side is equally high."""
    places = [panel["gridPos"] for panel in board["panels"]]
    cells = Counter(
        (x, y)
        for place in places
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    )
    bottom = max(place["y"] + place["h"] for place in places)
    assert {(x, y): 1 for x in range(24) for y in range(bottom)} == cells
    heights = {(place["y"], place["h"]) for place in places}
    assert len(heights) == len({y for y, _ in heights})


@each_board
def test_ids_are_counted(board: dict[str, Any]) -> None:
    """Rows have one, too."""
    assert list(range(1, len(board["panels"]) + 1)) == [panel["id"] for panel in board["panels"]]


@each_board
def test_ratios_are_not_stacked(board: dict[str, Any]) -> None:
    """Shares of different wholes don't add up."""
    for panel in panels(board):
        stacking = panel.get("fieldConfig", {}).get("defaults", {}).get("custom", {}).get("stacking", {})
        if panel.get("fieldConfig", {}).get("defaults", {}).get("unit") in {"percentunit", "s", "none"}:
            assert "normal" != stacking.get("mode"), panel["title"]


@each_board
def test_grafana_knows_units_reducers_and_transformations(board: dict[str, Any]) -> None:
    """The registries of `@grafana/data`, kept as data; one transformation is in Grafana's core and in no library."""
    known = json.loads((ROOT / "tests" / "data" / "grafana.json").read_text(encoding="utf-8"))
    for panel in panels(board):
        options = panel.get("options", {})
        calculations = {*options.get("reduceOptions", {}).get("calcs", ()), *options.get("legend", {}).get("calcs", ())}
        transformations = {transformation["id"] for transformation in panel.get("transformations", ())}
        assert calculations <= set(known["reducers"]), panel["title"]
        assert transformations <= {*known["transformations"], "extractFields"}, panel["title"]
        if panel["type"] != "text":
            assert panel["fieldConfig"]["defaults"]["unit"] in known["units"], panel["title"]


@each_board
def test_every_target_names_its_data_source(board: dict[str, Any]) -> None:
    """Through a variable, and the same as its panel's; names of targets don't repeat."""
    for panel in panels(board):
        for target in panel.get("targets", ()):
            assert panel["datasource"] == target["datasource"]
            assert f"${{{target['datasource']['type']}_datasource}}" == target["datasource"]["uid"]
        names = [target["refId"] for target in panel.get("targets", ())]
        assert list("ABCDEFG"[: len(names)]) == names


# -- queries ----------------------------------------------------------------------------------------------------------


@each_target
def test_a_query_names_what_there_is(target: Target) -> None:
    """Metrics and labels of the catalogue, recorded series, or Prometheus's own."""
    known = set(OF_SCRAPES)
    for selected in selectors(target.query):
        if selected.metric in METRICS_BY_NAME:
            metric = METRICS_BY_NAME[selected.metric]
            labels = set(metric.labels) | ({"le"} if metric.kind is Kind.HISTOGRAM else set())
            assert set(selected.matchers) <= labels | OF_SCRAPES
            assert (metric.kind is Kind.HISTOGRAM) == (selected.name != selected.metric)
            known |= labels
        elif selected.name in RECORDED:
            known |= kept(selected.name)
        else:
            assert selected.name in OF_PROMETHEUS
    assert grouping(target.query) <= known


def kept(recorded: str) -> set[str]:
    """Return the labels that a recorded series keeps, by its name."""
    level = recorded.partition(":")[0]
    return {label for label in ("job", "error_code", "agent_state") if label in level}


@each_target
def test_a_query_reads_what_was_chosen(target: Target) -> None:
    """Every selector has job and instance; recorded series and alerts have no instance."""
    for selected in selectors(target.query):
        expected = {"job": ".+", "instance": ".+"}
        if selected.name in RECORDED:
            expected = {"job": ".+"}
        elif selected.name == "ALERTS":
            expected = {"job": ".+|"}
        assert expected == {name: selected.matchers.get(name) for name in expected}, selected.name


@each_target
def test_counters_are_read_as_rates(target: Target) -> None:
    """Only the books, which compare counters with one another, read them as they stand.

    What `increase` can't see, a series' first value, is read beside it.
    """
    increased = {selected.name for selected in selectors(target.query) if "increase" in selected.functions}
    for selected in selectors(target.query):
        if selected.name.endswith("_total") and "Unaccounted for" not in target.panel:
            is_beside = "last_over_time" in selected.functions and selected.name in increased
            assert is_beside or selected.functions & {"rate", "increase"}, selected.name


def test_a_count_has_its_first_value() -> None:
    """`increase` alone would hide what happens once; no board and no rule leaves it at that."""
    queries = [target.query for target in targets("prometheus")] + [rule["expr"] for rule in [*RULES, *ALERTS]]
    for query in queries:
        found = selectors(query)
        increased = [selected.name for selected in found if "increase" in selected.functions]
        seen = [selected.name for selected in found if "last_over_time" in selected.functions]
        assert Counter(2 * increased) <= Counter(seen), query


@each_target
def test_rates_fit_the_scrape_interval(target: Target) -> None:
    """`rate` takes `$__rate_interval`; `increase` takes what the whole board shows, or a bar's time."""
    assert set(re.findall(r"\brate\([^[]*\[([^]]*)\]", target.query)) <= {"$__rate_interval"}
    assert set(re.findall(r"\bincrease\([^[]*\[([^]]*)\]", target.query)) <= {"$__range", "$__rate_interval"}


def test_every_metric_is_shown() -> None:
    """What nobody looks at needn't be counted."""
    shown = {selected.metric for target in targets("prometheus") for selected in selectors(target.query)}
    assert set(METRICS_BY_NAME) == shown & set(METRICS_BY_NAME)


def test_every_attribute_is_shown_and_no_other() -> None:
    """Loki writes an attribute's name with underscores."""
    names = {attribute.name for attribute in ATTRIBUTES}
    in_loki = {name.replace(".", "_"): name for name in names}
    shown = {in_loki.get(name, name) for name in attributes()}
    assert names == shown


def test_an_agent_is_looked_for_in_traces_and_events_only() -> None:
    """It is never a metric's label."""
    assert not [target.panel for target in targets("prometheus") if "$agent" in target.query]
    assert all('agent_id="$agent"' in target.query for target in targets("loki"))
    assert all('call_initiation.agent.id = "$agent"' in target.query for target in targets("tempo"))


# -- rules ------------------------------------------------------------------------------------------------------------


@each_rule
def test_a_rule_names_what_there_is(rule: dict[str, Any]) -> None:
    """Metrics and labels of the catalogue, recorded series, or Prometheus's own."""
    for selected in selectors(rule["expr"]):
        if selected.metric in METRICS_BY_NAME:
            assert set(selected.matchers) <= set(METRICS_BY_NAME[selected.metric].labels)
        else:
            assert selected.name in {*RECORDED, "up"}
    labels = {label for metric in METRICS for label in metric.labels}
    assert grouping(rule["expr"]) <= labels | OF_SCRAPES


@pytest.mark.parametrize("record", RECORDED)
def test_recorded_series_are_named_by_what_they_keep(record: str) -> None:
    """`level:metric:operations`, the level being the labels; each is used by a dashboard, an alert or another rule."""
    assert re.fullmatch(r"job(_error_code)?(_agent_state)?:call_initiation_[a-z_]+:[a-z0-9_]+", record)
    queries = [rule["expr"] for rule in [*RULES, *ALERTS]]
    queries += [target.query for target in targets("prometheus")]
    assert any(record in {selected.name for selected in selectors(query)} for query in queries)


def test_promtool_and_amtool_find_nothing_to_mend(engine: Callable[[str], Path]) -> None:
    """Rules, the example of a scrape, the example of an Alertmanager."""
    for command in (
        (engine("promtool"), "check", "rules", *sorted(PROMETHEUS.glob("*.yaml"))),
        (engine("promtool"), "check", "config", PROMETHEUS / "prometheus.yml"),
        (engine("amtool"), "check-config", ROOT / "dashboards" / "alertmanager.yml"),
    ):
        checked = run(*command)
        assert 0 == checked.returncode, checked.stdout + checked.stderr


@pytest.mark.parametrize(("severity", "receiver"), [("critical", "pager"), ("warning", "tickets")])
def test_who_is_told(severity: str, receiver: str, engine: Callable[[str], Path]) -> None:
    """What is critical pages somebody; the rest opens a ticket."""
    labels = (f"severity={severity}", "alertname=CallInitiationBudgetBurn", "job=dialer")
    config = ("--config.file", ROOT / "dashboards" / "alertmanager.yml")
    assert f"{receiver}\n" == run(engine("amtool"), "config", "routes", "test", *config, *labels).stdout


@pytest.mark.parametrize("case", sorted((PROMETHEUS / "tests").glob("*.yaml")), ids=lambda case: case.stem)
def test_alerts_fire_when_they_should(case: Path, engine: Callable[[str], Path]) -> None:
    """And are silent when they should be."""
    tested = run(engine("promtool"), "test", "rules", case)
    assert 0 == tested.returncode, tested.stdout + tested.stderr


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: f"{alert['alert']}-{alert['labels'].get('long_window')}")
def test_each_alert_is_tested_firing_and_silent(alert: dict[str, Any]) -> None:
    """Each of its windows fires in some test, and its name is silent in some."""
    cases = [case for case in CASES if case["alertname"] == alert["alert"]]
    fired = [expected["exp_labels"] for case in cases for expected in case["exp_alerts"]]
    assert any(alert["labels"].items() <= labels.items() for labels in fired)
    assert any(not case["exp_alerts"] for case in cases)


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: f"{alert['alert']}-{alert['labels'].get('long_window')}")
def test_an_alert_says_what_to_do(alert: dict[str, Any]) -> None:
    """A severity, three annotations that name only labels which the expression has, and a runbook that is there."""
    assert alert["labels"]["severity"] in {"critical", "warning"}
    annotations = alert["annotations"]
    assert {"summary", "description", "runbook_url"} == set(annotations)
    assert f"{alert['alert']}.md" == annotations["runbook_url"].rsplit("/", 1)[1]
    named = set(re.findall(r"\$labels\.(\w+)", " ".join(annotations.values())))
    assert not named & set(alert["labels"])
    assert not (named and alert["expr"].startswith("absent("))


# -- what people read -------------------------------------------------------------------------------------------------


def test_each_alert_has_a_runbook_and_each_runbook_an_alert() -> None:
    """Neither may be forgotten."""
    assert sorted({alert["alert"] for alert in ALERTS}) == sorted(page.stem for page in RUNBOOKS.glob("*.md"))


@pytest.mark.parametrize("page", sorted(RUNBOOKS.glob("*.md")), ids=lambda page: page.stem)
def test_a_runbook(page: Path) -> None:
    """What it means, what to look at, what to do; it names only what there is."""
    text = page.read_text(encoding="utf-8")
    assert f"# {page.stem}" == text.splitlines()[0]
    assert ["What it means", "What to look at", "What to do"] == re.findall(r"^## (.*)$", text, re.MULTILINE)
    names = set(re.findall(r"call_initiation_\w+", text)) - set(METRICS_BY_NAME)
    known = {name.split(":")[1] for name in RECORDED} | {f"{name}_bucket" for name in METRICS_BY_NAME}
    assert set() == names - known
    titles = {board["title"].removeprefix("Call initiation: ") for board in BOARDS.values()}
    titles |= {panel["title"] for board in BOARDS.values() for panel in board["panels"]}
    assert set() == set(re.findall(r"“([^”]+)”", text)) - titles - {"other"}


def test_the_index_asks_every_panels_question() -> None:
    """One line for each panel, one for each alert."""
    lines = (ROOT / "docs" / "dashboards.md").read_text(encoding="utf-8").splitlines()
    for board in BOARDS.values():
        assert f"### {board['title']}" in lines
        for panel in panels(board):
            question = panel["description"].partition("?")[0]
            assert f"| {panel['title']} | {question}? |" in lines
    for alert in ALERTS:
        assert any(line.startswith(f"| [{alert['alert']}](runbooks/{alert['alert']}.md) |") for line in lines)


def test_data_sources_are_wired_to_one_another() -> None:
    """An exemplar opens its trace, a trace its events, an event its trace."""
    path = ROOT / "dashboards" / "provisioning" / "datasources" / "call-initiation.yaml"
    sources = {source["uid"]: source for source in yaml.safe_load(path.read_text(encoding="utf-8"))["datasources"]}
    assert {"prometheus", "tempo", "loki"} == set(sources)
    [exemplar] = sources["prometheus"]["jsonData"]["exemplarTraceIdDestinations"]
    assert ("trace_id", "tempo") == (exemplar["name"], exemplar["datasourceUid"])
    assert "loki" == sources["tempo"]["jsonData"]["tracesToLogsV2"]["datasourceUid"]
    [field] = sources["loki"]["jsonData"]["derivedFields"]
    assert ("trace_id", "tempo") == (field["matcherRegex"], field["datasourceUid"])
    # Grafana fills in the environment in these files: a dollar of its own is written twice.
    assert not [text for text in strings(list(sources.values())) if "$" in text.replace("$$", "")]
