"""The demonstration as its users meet it: the installed command, real sockets, a real terminal, real signals."""

import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import IO

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from collector import black_hole

PROGRAM = Path(sys.executable).with_name("call-initiation-exporter")
OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}
HANGS_AFTER = 25.0  # seconds; OpenTelemetry's own shutdown takes up to 30
"""Seconds; on an idle machine it takes less than one, and 2 where a collector never answers."""


def environment(**more: str) -> dict[str, str]:
    """Return this environment without what would change what is exported or shown."""
    ours = ("OTEL_", "CALL_INITIATION_", "GENESYS_")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
    return {**kept, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24", **more}


@contextmanager
def demo(*arguments: str, stdout: int | IO[str] = subprocess.PIPE, **more: str) -> Iterator[subprocess.Popen[str]]:
    """Run a demonstration on a free port."""
    command = [str(PROGRAM), "demo", "--no-browser", "--port", "0", *arguments]
    with subprocess.Popen(  # noqa: S603 - our own program
        command, stdout=stdout, stderr=subprocess.PIPE, text=True, env=environment(**more)
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def line_with(process: subprocess.Popen[str], word: str) -> str:
    """Return the next line of output that has a word in it."""
    assert process.stdout is not None
    return next(line for line in process.stdout if word in line)


def ended(process: subprocess.Popen[str], began: float) -> tuple[int, str, str]:
    """Return status, output and errors after the end; how long that took is said on stderr."""
    assert process.stderr is not None
    # Not `communicate`, which would miss what the reading of a line has taken from the pipe besides that line.
    out, err = process.stdout.read() if process.stdout else "", process.stderr.read()
    process.wait(HANGS_AFTER)
    took = monotonic() - began
    sys.stderr.write(f"ended within {took:.2f} s\n")
    return process.returncode, out, err


def test_while_it_runs_its_metrics_parse_and_pass_the_linter(engine: Callable[[str], Path]) -> None:
    """Prometheus's own; and they have exemplars."""
    with demo("--rate", "100", "--settle", "0.2s") as process:
        url = line_with(process, "metrics").split()[1]
        families: dict[str, float] = {}
        while not families.get("call_initiation_attempts"):
            text = httpx.get(url, headers=OPENMETRICS, trust_env=False).text
            families = {
                family.name: sum(sample.exemplar is not None for sample in family.samples)
                for family in text_string_to_metric_families(text)
            }
        plain = httpx.get(url, trust_env=False).content
        linted = subprocess.run([engine("promtool"), "check", "metrics"], input=plain, capture_output=True, check=False)  # noqa: S603 - the engine
    assert (0, b"", b"") == (linted.returncode, linted.stdout, linted.stderr)
    assert families["call_initiation_duration_seconds"] > 0


def test_it_shows_refusals_by_agent_state_and_ends_by_itself() -> None:
    """With the summary, and without colours where nobody looks."""
    with demo("--for", "6s", "--rate", "100", "--settle", "0.2s", FORCE_COLOR="1") as process:
        status, out, err = ended(process, monotonic())
    assert (0, "") == (status, err)
    seen = re.search(r"^Seen in 00:(\d\d): \d+ attempts, \d+ accepted, \d+ refused \(\d+%\)\.$", out, re.MULTILINE)
    assert seen is not None
    assert int(seen[1]) >= 6
    assert re.search(r"^ (busy|away|on_call) +\d+ +100% +INVALID_AGENT_STATE \d+", out, re.MULTILINE)
    assert re.search(r"^feed up, [\d,]+ events, lag p95 ≤ [\d.]+ s; states known \d+%, stale", out, re.MULTILINE)
    assert re.search(r"^attempts: (\d+) recorded = \1 exported \+ 0 pending \+ 0 dropped$", out, re.MULTILINE)
    assert "\x1b" not in out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_soon_and_well(number: signal.Signals) -> None:
    """With the summary and status 0."""
    with demo() as process:
        line_with(process, "organisation")
        process.send_signal(number)
        status, out, err = ended(process, monotonic())
    assert (0, "") == (status, err)
    assert "Seen in 00:" in out


def test_a_collector_that_never_answers_holds_up_no_end() -> None:
    """What it did not take is counted as dropped."""
    with black_hole() as port, demo(OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{port}") as process:
        notice = line_with(process, "OTLP")
        line_with(process, "00:10 ")
        process.send_signal(signal.SIGTERM)
        status, out, _ = ended(process, monotonic())
    assert f"OTLP: traces go to 127.0.0.1:{port} too." == notice.strip()
    assert 0 == status
    assert re.search(r"^spans: (\d+) recorded = 0 exported \+ 0 pending \+ \1 dropped", out, re.MULTILINE)


def test_on_a_terminal_ctrl_c_is_the_normal_end() -> None:
    """The live table gives way to the summary; the terminal gets its cursor back."""
    primary, secondary = pty.openpty()
    with os.fdopen(secondary, "w") as stdout, demo(stdout=stdout) as process:
        stdout.close()
        shown = read_until(primary, b"attempts")
        process.send_signal(signal.SIGINT)
        began = monotonic()
        shown += read_until(primary, b"Seen in 00:")
        rest = read_until(primary, None)
        status, _, err = ended(process, began)
    os.close(primary)
    assert (0, "") == (status, err)
    assert b"Ctrl-C ends it" in shown
    assert b"\x1b[?25h" in shown + rest
    assert shown.rindex(b"\x1b[?25l") < shown.rindex(b"Seen in 00:")


def read_until(terminal: int, word: bytes | None) -> bytes:
    """Return what a terminal shows up to a word, or to the end of whoever writes to it."""
    shown = b""
    while word is None or word not in shown:
        try:
            shown += os.read(terminal, 65_536)
        except OSError:  # Linux's word for the end of a terminal
            assert word is None, shown
            break
    return shown
