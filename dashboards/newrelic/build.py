"""Writes New Relic's dashboard and conditions, and the generated parts of two documents, from the catalogue.

Law: the catalogue, the presets and the modules beside this one are the only source, so building twice changes nothing.
"""

import json
import sys
from pathlib import Path
from typing import Final

import yaml
from backends import queries, reference
from conditions import CONDITIONS
from conditions import rendered as condition
from correlation_board import BOARD
from widgets import rendered

from call_initiation.telemetry.presets import EVENT_TYPE, HOSTS, LICENSE_KEY, variables

sys.path.append(str(Path(__file__).parents[2] / "docs"))
from generated import ROOT, filled, main

NOTICE: Final = "Made by dashboards/newrelic/build.py from the catalogue; `make docs` makes it anew."
RUNBOOKS: Final = "https://example.com/call-initiation-exporter/docs/runbooks"
"""Where the runbooks are read; change it to wherever you publish them."""


def dashboard() -> str:
    """Return the dashboard's JSON."""
    return json.dumps(rendered(BOARD), indent=2, ensure_ascii=False) + "\n"


def alerts() -> str:
    """Return the policy and its conditions."""
    policy = {"name": "Call initiation", "incidentPreference": "PER_CONDITION"}
    made = {"policy": policy, "conditions": [condition(one, RUNBOOKS) for one in CONDITIONS]}
    return f"# {NOTICE}\n{yaml.safe_dump(made, sort_keys=False, width=110, allow_unicode=True)}"


def preset() -> str:
    """Return what each preset sets, as Markdown."""
    hosts = [f"| `{name}` | `{host}` |" for name, host in HOSTS.items()]
    settings = [f"| `{key}` | `{value}` |" for key, value in variables("newrelic-us").items() if "ENDPOINT" not in key]
    return "\n".join(
        (
            "| Preset | `OTEL_EXPORTER_OTLP_ENDPOINT` |",
            "|---|---|",
            *hosts,
            "",
            "| All of them set | to |",
            "|---|---|",
            f"| `OTEL_EXPORTER_OTLP_HEADERS` | `api-key=` and what `{LICENSE_KEY}` holds |",
            *settings,
            f"| on each failure event | `newrelic.event.type` = `{EVENT_TYPE}` |",
        )
    )


def documents() -> dict[Path, str]:
    """Return every file's path and text."""
    here, docs = ROOT / "dashboards" / "newrelic", ROOT / "docs"
    return {
        here / "call-initiation.json": dashboard(),
        here / "alerts.yaml": alerts(),
        docs / "new-relic.md": filled("docs/new-relic.md", preset=preset()),
        docs / "otlp-backends.md": filled("docs/otlp-backends.md", queries=queries(), reference=reference()),
    }


if __name__ == "__main__":
    main("Write New Relic's dashboard, conditions and documents.", documents())
