"""Writes New Relic's dashboard and conditions, and the generated parts of two documents, from the catalogue.

Laws: the catalogue, the presets and the modules beside this one are the only source, so building twice changes
nothing; with `--check` nothing is written, and the exit status is 1 where a file isn't what would be written.
"""

import argparse
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

from call_initiation.presets import EVENT_TYPE, HOSTS, LICENSE_KEY, variables

ROOT: Final = Path(__file__).parents[2]
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


def filled(path: Path, **parts: str) -> str:
    """Return a document with each part between its markers; exit where they aren't there once."""
    text = path.read_text(encoding="utf-8")
    for name, part in parts.items():
        begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
        if (text.count(begin), text.count(end)) != (1, 1):
            sys.exit(f"{path.name}: expected one line {begin} and, after it, one line {end}")
        before, _, rest = text.partition(begin)
        text = f"{before}{begin}\n\n{part}\n\n{end}{rest.partition(end)[2]}"
    return text


def documents() -> dict[Path, str]:
    """Return every file's path and text."""
    here, docs = ROOT / "dashboards" / "newrelic", ROOT / "docs"
    return {
        here / "call-initiation.json": dashboard(),
        here / "alerts.yaml": alerts(),
        docs / "new-relic.md": filled(docs / "new-relic.md", preset=preset()),
        docs / "otlp-backends.md": filled(docs / "otlp-backends.md", queries=queries(), reference=reference()),
    }


def is_current(path: Path, text: str) -> bool:
    """Tell whether a file holds this text already."""
    return path.is_file() and path.read_text(encoding="utf-8") == text


def main() -> None:
    """Write the files that aren't current, or name them and exit 1."""
    parser = argparse.ArgumentParser(description="Write New Relic's dashboard, conditions and documents.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where a file is out of date")
    is_check = parser.parse_args().check
    stale = {path: text for path, text in documents().items() if not is_current(path, text)}
    for path, text in stale.items():
        print(path.relative_to(ROOT), "is out of date; run: make docs" if is_check else "written")
        if not is_check:
            path.write_text(text, encoding="utf-8")
    sys.exit(1 if is_check and stale else 0)


if __name__ == "__main__":
    main()
