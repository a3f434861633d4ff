"""Writes the dashboards, Prometheus's rules and their index from the catalogue: `grafana/`, `prometheus/`, `docs/`.

Law: the catalogue and the modules beside this one are the only source, so building twice changes nothing.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import yaml
from agent_timeline import AGENT_TIMELINE
from alerts import ALERTS, Alert
from correlations import CORRELATION
from exporter_health import EXPORTER_HEALTH
from overview import OVERVIEW
from pages import rendered
from rules import RECORDINGS, Recording

sys.path.append(str(Path(__file__).parents[1] / "docs"))
from generated import ROOT, main

GRAFANA = ROOT / "dashboards" / "grafana"
PROMETHEUS = ROOT / "dashboards" / "prometheus"
PAGES = (OVERVIEW, CORRELATION, AGENT_TIMELINE, EXPORTER_HEALTH)
NOTICE = "Made by dashboards/build.py from the catalogue; `make docs` makes it anew."
RUNBOOKS = "https://example.com/call-initiation-exporter/docs/runbooks"
"""Where the runbooks are read; change it to wherever you publish them."""


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as blocks, and indents lists."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002 - the base class's
        super().increase_indent(flow, indentless=False)


def _block(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _block)


def yaml_of(groups: Iterable[Mapping[str, object]]) -> str:
    """Return a file of rules."""
    text = yaml.dump({"groups": list(groups)}, Dumper=_Dumper, sort_keys=False, width=110, allow_unicode=True)
    return f"# {NOTICE}\n{text}"


def recording(rule: Recording) -> dict[str, object]:
    """Return a recorded series as Prometheus reads it."""
    return {"record": rule.record, "expr": rule.expr}


def alerting(alert: Alert) -> dict[str, object]:
    """Return an alert as Prometheus reads it."""
    return {
        "alert": alert.name,
        "expr": alert.expr,
        "for": alert.lasts,
        "labels": {"severity": alert.severity, **dict(alert.labels)},
        "annotations": {
            "summary": alert.summary,
            "description": alert.description,
            "runbook_url": f"{RUNBOOKS}/{alert.name}.md",
        },
    }


def index() -> str:
    """Return `docs/dashboards.md`: the question that each panel answers."""
    template = (ROOT / "dashboards" / "index.md").read_text(encoding="utf-8")
    parts = {"{pictures}": _pictures(), "{questions}": _questions(), "{alerts}": _alerts()}
    for mark, lines in parts.items():
        template = template.replace(mark, "\n".join(lines))
    return f"<!-- {NOTICE} -->\n\n{template}"


def _pictures() -> Iterator[str]:
    for page in (page for page in PAGES if page.picture):
        yield f"### {page.title}\n\n![{page.title}: {page.question}](images/{page.picture})\n"


def _questions() -> Iterator[str]:
    for page in PAGES:
        yield f"### {page.title}\n\n{page.question}\n\n| Panel | The question that it answers |\n| --- | --- |"
        for panel in (panel for shelf in page.shelves for panel in shelf.panels):
            question, mark, _ = str(panel.description).partition("?")
            yield f"| {panel.title} | {question}{mark} |"
        yield ""


def _alerts() -> Iterator[str]:
    seen: set[str] = set()
    for alert in (alert for _, alerts in ALERTS for alert in alerts if alert.name not in seen):
        seen.add(alert.name)
        yield f"| [{alert.name}](runbooks/{alert.name}.md) | {alert.severity} | {alert.summary} |"


def documents() -> dict[Path, str]:
    """Return every file's path and text."""
    recordings = [{"name": group.name, "rules": [*map(recording, group.rules)]} for group in RECORDINGS]
    alerts = [{"name": name, "rules": [*map(alerting, rules)]} for name, rules in ALERTS]
    return {
        **{GRAFANA / f"{page.uid}.json": rendered(page) for page in PAGES},
        PROMETHEUS / "recording.yaml": yaml_of(recordings),
        PROMETHEUS / "alerts.yaml": yaml_of(alerts),
        ROOT / "docs" / "dashboards.md": index(),
    }


if __name__ == "__main__":
    main("Write the dashboards and the rules from the catalogue.", documents(), GRAFANA.glob("*.json"))
