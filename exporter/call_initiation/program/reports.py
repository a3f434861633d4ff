"""What `check` and `explain` say: for people as a table, for programs as JSON.

Laws: both say the same; JSON's keys are always there, and null is for what isn't known. What is shown has passed the
mask, and a table heeds no markup in it. What isn't documented is never shown without saying how it is known.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

from rich.table import Table
from rich.text import Text

from call_initiation.calls import codebook
from call_initiation.calls.codes import CODES
from call_initiation.calls.meanings import Source
from call_initiation.diagnosis.explanation import Explanation
from call_initiation.diagnosis.findings import Remark, Severity
from call_initiation.events import PayloadShape

_STYLES: Final = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.NOTE: "cyan"}
_NOTHING: Final = "Nothing was found. That is no promise: the API checks more than is known of it."
_CLAIMED: Final = "claimed by one community thread only"
_UNKNOWN: Final = "This code isn't known: it is in no document that we know of"


def has_errors(remarks: Iterable[Remark]) -> bool:
    """Tell whether any finding is an error."""
    return any(remark.finding.severity is Severity.ERROR for remark in remarks)


def check_table(template: str, shape: PayloadShape, remarks: tuple[Remark, ...]) -> Table:
    """Return what was found in a body, the errors first."""
    rows = _rows()
    rows.add_row("endpoint", Text(f"POST {template}"))
    rows.add_row("body", Text(shape))
    _add_remarks(rows, remarks)
    return rows


def check_document(template: str, shape: PayloadShape, remarks: tuple[Remark, ...]) -> dict[str, Any]:
    """Return the same for JSON."""
    return {
        "endpoint": template,
        "shape": shape,
        "ok": not has_errors(remarks),
        "findings": [_remark_object(remark) for remark in _sorted(remarks)],
    }


def explanation_table(explanation: Explanation) -> Table:
    """Return what an answer says, and where to look first."""
    refusal, verdict = explanation.refusal, explanation.verdict
    rows = _rows()
    rows.add_row("culprit", Text(verdict.sentence, "bold"))
    rows.add_row("what to do", Text(verdict.advice))
    for code in refusal.codes:
        rows.add_row("code", _code_text(code, verdict.advice))
    known = {
        "status": explanation.status,
        "category": explanation.category,
        "message": refusal.message,
        "correlation id": refusal.correlation_id,
    }
    for name, value in known.items():
        if value is not None:
            rows.add_row(name, Text(str(value)))
    if explanation.remarks is not None:
        rows.add_row()
        _add_remarks(rows, explanation.remarks)
    return rows


def explanation_document(explanation: Explanation) -> dict[str, Any]:
    """Return the same for JSON."""
    refusal, verdict, remarks = explanation.refusal, explanation.verdict, explanation.remarks
    return {
        "status": explanation.status,
        "culprit": verdict.culprit,
        "sentence": verdict.sentence,
        "advice": verdict.advice,
        "category": explanation.category,
        "codes": [_code_object(code) for code in refusal.codes],
        "message": refusal.message,
        "correlation_id": refusal.correlation_id,
        "findings": None if remarks is None else [_remark_object(remark) for remark in _sorted(remarks)],
    }


def _rows() -> Table:
    rows = Table.grid(padding=(0, 2, 0, 0))
    rows.add_column(no_wrap=True)
    rows.add_column(overflow="fold")
    return rows


def _known_how(source: Source) -> tuple[str, str]:
    return f"  ({_CLAIMED if source is Source.CLAIMED else source})", "dim"


# -- findings ----------------------------------------------------------------------------------------------------------


def _sorted(remarks: tuple[Remark, ...]) -> list[Remark]:
    return sorted(remarks, key=lambda remark: list(Severity).index(remark.finding.severity))


def _add_remarks(rows: Table, remarks: tuple[Remark, ...]) -> None:
    for remark in _sorted(remarks):
        severity = remark.finding.severity
        rows.add_row(Text(severity, _STYLES[severity]), _remark_text(remark))
    counts = Counter(remark.finding.severity for remark in remarks)
    sums = ", ".join(f"{counts[one]} {one}{'' if counts[one] == 1 else 's'}" for one in Severity)
    rows.add_row("check", Text(sums if remarks else _NOTHING))


def _remark_text(remark: Remark) -> Text:
    finding, path = remark
    where = f" at {path}" if path else ""
    return Text.assemble((finding, "bold"), where, _known_how(finding.source), f"\n{finding.says} {finding.advice}")


def _remark_object(remark: Remark) -> dict[str, Any]:
    finding, path = remark
    return {
        "finding": finding,
        "severity": finding.severity,
        "path": path or None,
        "sentence": finding.says,
        "advice": finding.advice,
        "source": finding.source,
    }


# -- codes -------------------------------------------------------------------------------------------------------------


def _code_text(code: str, said: str) -> Text:
    """Return what a code means, and its advice where that wasn't said already."""
    if meaning := CODES.get(code):
        advice = "" if meaning.advice == said else f" {meaning.advice}"
        return Text.assemble((code, "bold"), _known_how(meaning.source), f"\n{meaning.says}{advice}")
    wording = codebook.meaning_of(code)
    guess = f"; its wording suggests {wording.category}" if wording else ""
    return Text.assemble((code, "bold"), f"\n{_UNKNOWN}{guess}.")


def _code_object(code: str) -> dict[str, Any]:
    meaning = codebook.meaning_of(code)
    return {
        "code": code,
        "known": code in CODES,
        "category": meaning and meaning.category,
        "source": meaning and meaning.source,
        "sentence": (meaning and meaning.says) or None,
        "advice": (meaning and meaning.advice) or None,
    }
