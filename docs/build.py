"""Writes what documents say of the code from the code: metrics and attributes, codes and findings, a channel's life.

`docs/metrics.md`, `docs/attributes.md`, `docs/codes.md` and `docs/findings.md` are made whole; README's table of
metrics and the diagram in `docs/feed.md` stand between markers. Law: the code is the only source, so building twice
changes nothing.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from generated import ROOT, filled, main

from call_initiation.api.channel import diagram
from call_initiation.calls.codebook import MESSAGES, PATTERNS
from call_initiation.calls.codes import CODES
from call_initiation.calls.meanings import CONCERNS, Meaning, Source
from call_initiation.catalogue import ATTRIBUTES, EVENT_NAME, METRICS, Attribute, Kind, Metric
from call_initiation.diagnosis.findings import Finding

NOTICE = "<!-- Made by docs/build.py from exporter/call_initiation/{}; `make docs` makes it anew. -->"
SOURCES = {
    Source.DOCUMENTED: "Genesys's own material says it of this API",
    Source.STANDARD: "an RFC defines it; of codes, OAuth's: the login service answers in this form",
    Source.OWN: "this program's own gateway says it",
    Source.OBSERVED: "seen in public code and forums, in no documentation",
    Source.CLAIMED: "**said in one community thread only**: no documentation and no SDK knows it",
    Source.INFERRED: "our own reading, as of how codes are worded",
}


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
    facts += [("Folded to `other` when full (never `none`), in this order", code(metric.folds))] if metric.folds else []
    bound = "Samples at most" + (", but for what fits nowhere" if metric.folds else "")
    facts += [(bound, f"{samples(metric):,}")]
    yield table(("", ""), facts)


def metrics_document() -> str:
    """Return `docs/metrics.md`."""
    opening = (
        "Each metric has its Prometheus name on `/metrics` and OpenTelemetry's name in OTLP; both show the same "
        "numbers. Label values come from closed sets or are capped. All metrics together hold at most "
        f"{sum(map(samples, METRICS)):,} samples."
    )
    sections = (paragraph for metric in METRICS for paragraph in metric_section(metric))
    return "\n\n".join(("# Metrics", NOTICE.format("catalogue.py"), opening, *sections)) + "\n"


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
    return "\n\n".join(("# Attributes", NOTICE.format("catalogue.py"), opening, rows)) + "\n"


def meaning_row(shown: str, meaning: Meaning) -> tuple[str, ...]:
    """Return one line of a table of what codes are known by."""
    return (f"`{shown}`", meaning.category.value, meaning.source.value)


def code_row(shown: str, meaning: Meaning) -> tuple[str, ...]:
    """Return one line of the table of codes."""
    generic = ", generic" if meaning.is_generic else ""
    return (f"`{shown}`", meaning.category.value + generic, meaning.source.value, meaning.says, meaning.advice)


def sources_table() -> str:
    """Return what the words for how we know something mean."""
    return table(("Known how", "Meaning"), ((source.value, SOURCES[source]) for source in Source))


def codes_document() -> str:
    """Return `docs/codes.md`."""
    opening = (
        "What each error code says, what to do about it, and how that is known. The documented ones are a lower bound: "
        "the API sends codes that no document lists. A *generic* code says little, so one that says more goes before "
        "it, and so does the message. A code that isn't here is counted all the same, under the category that its "
        "wording suggests, or `unknown`. *Known how* is of the code and whose concern it is: the sentences are ours. "
        "`call-initiation-exporter explain` looks a saved answer up here."
    )
    head = ("Category", "Known how")
    codes = table(("Code", *head, "What it says", "What to do"), (code_row(*pair) for pair in CODES.items()))
    patterns = table(("Pattern", *head), (meaning_row(*pair) for pair in PATTERNS))
    messages = table(("Words", *head), (meaning_row(*pair) for pair in MESSAGES))
    concerns = table(
        ("Category", "Look first at", "What to do"),
        ((category.value, concern.culprit.phrase, concern.advice) for category, concern in CONCERNS.items()),
    )
    parts = (
        *("# Error codes", NOTICE.format("calls/codes.py"), opening, sources_table(), "## Codes", codes),
        *("## Other codes", "Read in lower case, with dots; the first pattern that is found counts.", patterns),
        *("## Messages", "Where the codes say little; the first words that are found count.", messages),
        *("## Categories", "Where a code says no more than its category.", concerns),
    )
    return "\n\n".join(parts) + "\n"


def finding_row(finding: Finding) -> tuple[str, ...]:
    """Return one line of the table of findings."""
    return (f"`{finding}`", finding.severity.value, finding.source.value, finding.says, finding.advice)


def findings_document() -> str:
    """Return `docs/findings.md`."""
    opening = (
        "What `call-initiation-exporter check` can find in a call start's body. An *error* is documented to be "
        "refused, or asks for nothing that could be done; a *warning* is likely to be refused, or to do something else "
        "than was meant; a *note* is odd. Numbers may be spelt in any way that real dialers use. No value is shown, "
        "only where it stands."
    )
    rows = table(("Finding", "Severity", "Known how", "What it says", "What to do"), map(finding_row, Finding))
    return "\n\n".join(("# Findings", NOTICE.format("diagnosis/findings.py"), opening, rows, sources_table())) + "\n"


def documents() -> dict[Path, str]:
    """Return every document's path and text."""
    return {
        ROOT / "docs" / "metrics.md": metrics_document(),
        ROOT / "docs" / "attributes.md": attributes_document(),
        ROOT / "docs" / "codes.md": codes_document(),
        ROOT / "docs" / "findings.md": findings_document(),
        ROOT / "docs" / "feed.md": filled("docs/feed.md", channel=f"```mermaid\n{diagram()}```"),
        ROOT / "README.md": filled("README.md", metrics=metrics_table()),
    }


if __name__ == "__main__":
    main("Write what documents say of the code.", documents())
