"""What our own log lines promise: only ours, at the chosen level, each of them one line of text or of JSON."""

import json
import logging
from collections.abc import Iterator

import pytest

from call_initiation.program import logs

OURS = logging.getLogger("call_initiation")


@pytest.fixture(autouse=True)
def logger_as_found() -> Iterator[None]:
    """Leave the logger as it was."""
    handlers, level, propagate = OURS.handlers, OURS.level, OURS.propagate
    yield
    OURS.handlers, OURS.propagate = handlers, propagate
    OURS.setLevel(level)


def test_text_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    """Time, level, message."""
    logs.set_up("info", "text")
    OURS.info("began on %s", "loopback")
    assert capsys.readouterr().err.endswith(" INFO began on loopback\n")


def test_json_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    """One object a line, a traceback within it."""
    logs.set_up("info", "json")
    OURS.error("failed", exc_info=OSError())
    OURS.info("é")
    failed, plain = map(json.loads, capsys.readouterr().err.splitlines())
    assert ("error", "call_initiation", "failed") == (failed["level"], failed["logger"], failed["message"])
    assert "OSError" == failed["exception"]
    assert {"time", "level", "logger", "message"} == set(plain)
    assert plain["time"].endswith("+00:00")


def test_below_the_level_and_from_others_nothing_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """A library that shows its requests stays silent."""
    logs.set_up("warning", "text")
    OURS.info("detail")
    logging.getLogger("httpx").info("HTTP Request: POST")
    assert "" == capsys.readouterr().err


def test_what_others_warn_of_is_not_shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Though nobody took it: OpenTelemetry's warning of a collector that is down holds its URL, and that may a key."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # as in a process of its own: pytest has put some there
    logs.set_up("warning", "json")
    logging.getLogger("opentelemetry.exporter").warning("Max retries exceeded with url: /v1/metrics?api-key=secret")
    assert "" == capsys.readouterr().err


def test_a_second_time_replaces_the_first(capsys: pytest.CaptureFixture[str]) -> None:
    """No line comes twice."""
    logs.set_up("info", "json")
    logs.set_up("info", "text")
    OURS.info("once")
    assert 1 == capsys.readouterr().err.count("once")


def test_lines_go_to_the_stderr_of_the_moment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A live table puts its own there, so that lines don't tear it."""
    logs.set_up("info", "text")
    written: list[str] = []

    class Table:
        def write(self, text: str) -> None:
            written.append(text)

        def flush(self) -> None:
            written.append("flushed")

    monkeypatch.setattr("sys.stderr", Table())
    OURS.info("above the table")
    monkeypatch.undo()
    assert "above the table" in "".join(written)
    assert "flushed" == written[-1]
    assert "" == capsys.readouterr().err
