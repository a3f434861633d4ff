"""What is known of each finding: a word fit for a label, a sentence, advice, and who says so."""

import re

import pytest

from call_initiation.calls.meanings import Source
from call_initiation.diagnosis.findings import Finding, Severity


@pytest.mark.parametrize("finding", Finding)
def test_each_finding_says_something_and_what_to_do(finding: Finding) -> None:
    """In whole sentences, under a word that is fit to be a label."""
    assert re.fullmatch(r"[a-z]+(?:_[a-z]+)*", finding)
    assert finding is Finding(str(finding))
    assert finding.says.endswith(".")
    assert finding.advice.endswith(".")


def test_what_is_an_error_is_documented() -> None:
    """But for a request that asks for nothing that could be done."""
    undocumented = [
        finding for finding in Finding if finding.severity is Severity.ERROR and finding.source != "documented"
    ]
    assert [Finding.NO_DESTINATION] == undocumented


def test_what_one_thread_claims_is_told_to_be_claimed() -> None:
    """It is no error, and the sentence names the thread."""
    claimed = {finding for finding in Finding if finding.source is Source.CLAIMED}
    assert {Finding.FROM_TYPE_MISSING, Finding.FROM_AGENT_MISSING, Finding.TO_MISSING} == claimed
    assert {Severity.WARNING} == {finding.severity for finding in claimed}
    assert all("thread" in finding.says for finding in claimed)


def test_what_is_not_known_is_said_not_to_be_known() -> None:
    """Whether the API ignores or refuses what its definition doesn't have, nobody has told."""
    unknown = (Finding.UNKNOWN_PROPERTY, Finding.MISSPELT_PROPERTY, Finding.FOREIGN_PROPERTY)
    assert all("isn't known" in finding.says for finding in unknown)
