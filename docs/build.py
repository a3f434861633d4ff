"""Writes the reference documents from the catalogue: `docs/metrics.md`, `docs/attributes.md` and README's table.

Laws: the catalogue is the only source, so building twice changes nothing; with `--check` nothing is written, and the
exit status is 1 where a document is not what would be written.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from call_initiation.catalogue import ATTRIBUTES, EVENT_NAME, METRICS, Attribute, Kind, Metric

ROOT = Path(__file__).parents[1]
BEGIN = "<!-- metrics:begin -->"
END = "<!-- metrics:end -->"
NOTICE = "<!-- Made by docs/build.py from exporter/call_initiation/catalogue.py; `make docs` makes it anew. -->"


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Return a Markdown table, with the bars in its cells escaped."""
    lines = (head, tuple("---" for _ in head), *rows)
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def code(words: Iterable[str]) -> str:
    """Return the words in code type, with commas between."""
    return ", ".join(f"`{word}`" for word in words)


def samples(metric: Metric) -> int:
    """Return how many samples one scrape may hold of a metric: a histogram has +Inf, `_count` and `_sum` too."""
    series = metric.max_series if metric.labels else 1
    return series * (len(metric.buckets) + 3) if metric.kind is Kind.HISTOGRAM else series


def metrics_table() -> str:
    """Return the short table for the README: one line for each metric."""
    rows = ((f"`{m.prometheus_name}`", m.kind.value, code(m.labels), m.help) for m in METRICS)
    return table(("Metric", "Type", "Labels", "What it says"), rows)


def metric_section(metric: Metric) -> Iterator[str]:
    """Yield the paragraphs about one metric."""
    yield f"## `{metric.prometheus_name}`"
    yield metric.help
    facts = [("Type", metric.kind.value), ("OpenTelemetry's name", f"`{metric.name}`")]
    facts += [("Unit", f"`{metric.unit}`")] if metric.unit else []
    facts += [("Labels", code(metric.labels))] if metric.labels else []
    facts += [("Buckets", ", ".join(f"{bound:g}" for bound in metric.buckets))] if metric.buckets else []
    facts += [("Folded to `other` when full, in this order", code(metric.folds))] if metric.folds else []
    facts += [("Samples at most", f"{samples(metric):,}")]
    yield table(("", ""), facts)


def metrics_document() -> str:
    """Return `docs/metrics.md`."""
    opening = (
        "Each metric has its Prometheus name on `/metrics` and OpenTelemetry's name in OTLP; both show the same "
        "numbers. Label values come from closed sets or are capped. All metrics together hold at most "
        f"{sum(map(samples, METRICS)):,} samples."
    )
    sections = (paragraph for metric in METRICS for paragraph in metric_section(metric))
    return "\n\n".join(("# Metrics", NOTICE, opening, *sections)) + "\n"


def attribute_row(attribute: Attribute) -> tuple[str, ...]:
    """Return one line of the attributes' table."""
    return (f"`{attribute.name}`", attribute.type, attribute.help, f"`{attribute.example}`")


def attributes_document() -> str:
    """Return `docs/attributes.md`."""
    opening = (
        f"The span of every call start and the event `{EVENT_NAME}` of every failed one carry these. An attribute "
        "whose value isn't known is absent. Names without `call_initiation` are OpenTelemetry's semantic conventions."
    )
    rows = table(("Attribute", "Type", "What it says", "Example"), map(attribute_row, ATTRIBUTES))
    return f"# Attributes\n\n{NOTICE}\n\n{opening}\n\n{rows}\n"


def filled(readme: str) -> str:
    """Return the README with the metrics' table between its markers; exit where they aren't there once, in order."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or readme.count(BEGIN) + readme.count(END) != len((BEGIN, END)):
        sys.exit(f"README.md: expected one line {BEGIN} and, after it, one line {END}")
    return f"{before}{BEGIN}\n{metrics_table()}\n{END}{after}"


def documents() -> dict[Path, str]:
    """Return every document's path and text."""
    readme = ROOT / "README.md"
    return {
        ROOT / "docs" / "metrics.md": metrics_document(),
        ROOT / "docs" / "attributes.md": attributes_document(),
        readme: filled(readme.read_text(encoding="utf-8")),
    }


def is_current(path: Path, text: str) -> bool:
    """Tell whether a document holds this text already."""
    return path.is_file() and path.read_text(encoding="utf-8") == text


def main() -> None:
    """Write the documents that aren't current, or name them and exit 1."""
    parser = argparse.ArgumentParser(description="Write the reference documents from the catalogue.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where a document is out of date")
    is_check = parser.parse_args().check
    stale = {path: text for path, text in documents().items() if not is_current(path, text)}
    for path, text in stale.items():
        print(path.relative_to(ROOT), "is out of date; run: make docs" if is_check else "written")
        if not is_check:
            path.write_text(text, encoding="utf-8")
    sys.exit(1 if is_check and stale else 0)


if __name__ == "__main__":
    main()
