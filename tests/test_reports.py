"""What `check` and `explain` say: for people and for programs the same."""

import io
import json
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from call_initiation.calls.codes import CODES
from call_initiation.calls.endpoints import CALLS
from call_initiation.diagnosis.explanation import explain
from call_initiation.diagnosis.findings import Finding, Remark
from call_initiation.events import PayloadShape
from call_initiation.program.reports import (
    check_document,
    check_table,
    explanation_document,
    explanation_table,
    has_errors,
)

REMARKS = (
    Remark(Finding.QUEUE_PROPERTY, "priority"),
    Remark(Finding.UNKNOWN_PROPERTY, "?"),
    Remark(Finding.NO_DESTINATION),
    Remark(Finding.UNKNOWN_PROPERTY, "participants[0].to"),
)
CLAIMED = (Remark(Finding.FROM_TYPE_MISSING, "from.type"),)
BODY = {
    "message": "[bold]refused[/bold]",
    "code": "bad.request",
    "status": 400,
    "contextId": "5b8f1c1e-0000-4000-8000-00000000000a",
    "errors": [{"code": "conversation.error.no.user.station"}, {"code": "X-7"}, {"code": "x.station"}],
}


def lines(table: Table) -> list[str]:
    """Return what a table shows, without the blanks at the ends."""
    console = Console(file=io.StringIO(), width=400, record=True)
    console.print(table)
    return [line.rstrip() for line in console.export_text().splitlines()]


def document(body: Any, remarks: tuple[Remark, ...] | None = None) -> Any:
    """Return what JSON says of an answer, as a program reads it."""
    return json.loads(json.dumps(explanation_document(explain(json.dumps(body).encode(), remarks=remarks))))


def test_a_table_has_the_errors_first() -> None:
    """Each with its place, how it is known and what to do; then the sums."""
    shown = lines(check_table(CALLS, PayloadShape.CREATE_CALL_REQUEST, REMARKS))
    assert ["endpoint  POST /api/v2/conversations/calls", "body      create_call_request"] == shown[:2]
    assert [
        "error     no_destination  (inferred)",
        "warning   unknown_property at ?  (documented)",
        "warning   unknown_property at participants[0].to  (documented)",
        "note      queue_property at priority  (documented)",
        "check     1 error, 2 warnings, 1 note",
    ] == [line for line in shown[2:] if not line.startswith(" ")]
    assert f"          {Finding.NO_DESTINATION.says} {Finding.NO_DESTINATION.advice}" == shown[3]


def test_nothing_found_is_no_promise() -> None:
    """The API checks more than is known."""
    shown = lines(check_table(CALLS, PayloadShape.CREATE_CALL_REQUEST, ()))
    assert "check     Nothing was found. That is no promise: the API checks more than is known of it." == shown[-1]


def test_a_claim_is_never_shown_as_documentation() -> None:
    """Neither a finding nor a code."""
    shown = lines(check_table(CALLS, PayloadShape.FROM_TO, CLAIMED))
    assert "warning   from_type_missing at from.type  (claimed by one community thread only)" in shown
    told = explanation_table(explain(b'{"code": "INVALID_AGENT_STATE"}'))
    assert "code        INVALID_AGENT_STATE  (claimed by one community thread only)" in lines(told)


def test_json_says_the_same_of_a_body() -> None:
    """With null for the whole body as a place."""
    said = json.loads(json.dumps(check_document(CALLS, PayloadShape.OTHER, REMARKS)))
    assert ["endpoint", "shape", "ok", "findings"] == list(said)
    assert (CALLS, "other", False) == (said["endpoint"], said["shape"], said["ok"])
    assert ["error", "warning", "warning", "note"] == [one["severity"] for one in said["findings"]]
    assert {
        "finding": "no_destination",
        "severity": "error",
        "path": None,
        "sentence": "Nobody is named who could be called.",
        "advice": Finding.NO_DESTINATION.advice,
        "source": "inferred",
    } == said["findings"][0]
    assert "?" == said["findings"][1]["path"]


@pytest.mark.parametrize(("expected", "remarks"), [(True, REMARKS), (False, CLAIMED), (False, ())])
def test_only_errors_are_errors(expected: bool, remarks: tuple[Remark, ...]) -> None:  # noqa: FBT001 - a case
    """A pipeline stops at them alone."""
    assert expected == has_errors(remarks)
    assert expected is not check_document(CALLS, PayloadShape.OTHER, remarks)["ok"]


def test_an_explanation_begins_with_the_culprit() -> None:
    """Then what to do, each code and what is known of it, and what helps to ask Genesys; no markup is heeded."""
    shown = lines(explanation_table(explain(json.dumps(BODY).encode())))
    assert [
        "culprit         Likely the agent's station: a documented code or message says so.",
        "what to do      Have the agent choose a station, or log in to the phone; `agents --ready` shows who has none.",
        "code            conversation.error.no.user.station  (documented)",
        "                The agent has no station, and a call needs one.",
        "code            X-7",
        "                This code isn't known: it is in no document that we know of.",
        "code            x.station",
        "                This code isn't known: it is in no document that we know of; its wording suggests station.",
        "code            bad.request  (documented)",
        f"                {CODES['bad.request'].says} {CODES['bad.request'].advice}",
        "status          400",
        "category        station",
        "message         [bold]refused[/bold]",
        "correlation id  5b8f1c1e-0000-4000-8000-00000000000a",
    ] == shown


def test_what_is_not_known_of_an_answer_has_no_row() -> None:
    """An accepted call has nothing but its status."""
    shown = lines(explanation_table(explain(b"", status=202)))
    assert ["culprit", "what", "status"] == [line.split()[0] for line in shown]


def test_findings_follow_where_the_request_is_given() -> None:
    """Even where there are none."""
    assert "warning     from_type_missing" in "\n".join(lines(explanation_table(explain(b"", remarks=CLAIMED))))
    assert "check       Nothing was found." in "\n".join(lines(explanation_table(explain(b"", remarks=()))))


def test_json_says_the_same_of_an_answer() -> None:
    """Its keys are always there; null is for what isn't known."""
    said = document(BODY, CLAIMED)
    keys = ["status", "culprit", "sentence", "advice", "category", "codes", "message", "correlation_id", "findings"]
    assert keys == list(said) == list(document({}))
    assert (400, "station", "station") == (said["status"], said["culprit"], said["category"])
    assert ["from_type_missing"] == [one["finding"] for one in said["findings"]]
    assert [
        ("conversation.error.no.user.station", True, "station", "documented"),
        ("X-7", False, None, None),
        ("x.station", False, "station", "inferred"),
        ("bad.request", True, "unknown", "documented"),
    ] == [(one["code"], one["known"], one["category"], one["source"]) for one in said["codes"]]
    assert [None, None] == [one["sentence"] for one in said["codes"][1:3]]
    empty = document({})
    assert [None] * 4 == [empty[key] for key in ("status", "message", "correlation_id", "findings")]
    assert ("unknown", []) == (empty["culprit"], empty["codes"])


def test_json_accuses_nobody_of_an_accepted_call() -> None:
    """Its culprit and its category are null."""
    said = document({"status": 202})
    assert (None, None) == (said["culprit"], said["category"])
