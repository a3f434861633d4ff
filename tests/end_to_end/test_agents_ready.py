"""The command for pipelines, against a pretend organisation: statuses, reasons, and one sentence for a mistake."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from call_initiation import cli
from call_initiation.agents.readiness import NOBODY
from call_initiation.events import StateLabel
from call_initiation.simulator.org import CALM, CLIENT_ID, CLIENT_SECRET, STARTED, Disturbances, Organisation, word
from call_initiation.simulator.server import Server, ServerThread

FREE = {StateLabel.AVAILABLE, StateLabel.ON_QUEUE, StateLabel.WRAP_UP}

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def organisation() -> Organisation:
    """Return an organisation in which time stands still."""
    organisation = Organisation(agents=200, behaviour=CALM)
    organisation.advance(STARTED + 60.0)
    return organisation


@pytest.fixture
def run(
    organisation: Organisation, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Run]:
    """Yield a function that asks of agents there, and returns status, output and errors."""
    monkeypatch.setenv("GENESYS_CLIENT_ID", CLIENT_ID)
    monkeypatch.setenv("GENESYS_CLIENT_SECRET", CLIENT_SECRET)
    with ServerThread(Server(organisation, clock=lambda: STARTED + 60.0)) as server:

        def run(*arguments: str, region: str = server.url) -> tuple[int, str, str]:
            monkeypatch.setattr(sys, "argv", ["call-initiation-exporter", "agents", "--region", region, *arguments])
            with pytest.raises(SystemExit) as ended:
                cli.main()
            shown = capsys.readouterr()
            return int(ended.value.code or 0), shown.out, shown.err

        yield run


def those(organisation: Organisation, labels: set[StateLabel]) -> list[str]:
    """Return the agents whose true state is one of these."""
    return [agent for agent in organisation.agent_ids if word(organisation.state(agent)) in labels]


def test_those_who_are_free_are_ready(organisation: Organisation, run: Run) -> None:
    """However many; the table has a row for each, which no narrow pipe breaks."""
    free = those(organisation, FREE)
    status, out, err = run("--ready", *free)
    rows = [row for row in out.splitlines() if row.rstrip().endswith("ready")]
    assert (0, "") == (status, err)
    assert len(free) > 50
    assert free == [row.split()[0] for row in rows if row.split()[0] != "agent"]


def test_one_who_is_not_ready_makes_it_1(organisation: Organisation, run: Run) -> None:
    """Each state has its reason; without --ready it only shows."""
    organisation.disturbances = Disturbances(deleted=frozenset(organisation.agent_ids[-1:]))
    ids = [
        *(those(organisation, {label})[0] for label in (StateLabel.AVAILABLE, StateLabel.NO_STATION, StateLabel.BUSY))
    ]
    ids += [those(organisation, {StateLabel.ON_CALL})[0], organisation.agent_ids[-1], "nobody"]
    status, out, err = run("--ready", "--json", *ids)
    said = json.loads(out)
    assert (1, "", False) == (status, err, said["ready"])
    assert ids == [agent["id"] for agent in said["agents"]]
    expected = [None, "no station", "presence is BUSY", "on a call", NOBODY, NOBODY]
    assert expected == [agent["reason"] for agent in said["agents"]]
    assert 0 == run(*ids)[0]


def test_what_goes_wrong_is_one_sentence(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """1 for the API's answer or none, 2 for a setting; no secret is shown."""
    gone = (1, "", "call-initiation-exporter: POST /oauth/token failed with no answer: ConnectError\n")
    assert gone == run("x", region="http://127.0.0.1:1")
    expected = "expected a region like mypurecloud.ie, or its API's https URL"
    assert (2, "", f"call-initiation-exporter: --region: found 'nowhere', {expected}\n") == run("x", region="nowhere")
    hidden = f"call-initiation-exporter: --region: found a URL that isn't fit, {expected}\n"
    assert (2, "", hidden) == run("x", region="https://user:canary@example.com")
    status, out, err = run("x y")
    assert (2, "", 1) == (status, out, err.count("\n"))
    monkeypatch.setenv("GENESYS_CLIENT_SECRET", "canary")
    refused = (1, "", "call-initiation-exporter: POST /oauth/token failed with status 401: invalid_client\n")
    assert refused == run("x")
    monkeypatch.delenv("GENESYS_CLIENT_SECRET")
    status, out, err = run("x")
    assert (2, "", 1) == (status, out, err.count("\n"))


def test_credentials_may_be_in_files(
    organisation: Organisation, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As containers have them."""
    (tmp_path / "secret").write_text(f"{CLIENT_SECRET}\n", encoding="utf-8")
    monkeypatch.delenv("GENESYS_CLIENT_SECRET")
    monkeypatch.setenv("GENESYS_CLIENT_SECRET_FILE", str(tmp_path / "secret"))
    assert 0 == run("--ready", those(organisation, FREE)[0])[0]


def test_the_help_says_what_is_documented_and_what_is_not(run: Run) -> None:
    """Rule by rule."""
    _, out, _ = run("--help")
    rows = [" ".join(row.split()) for row in out.splitlines()]
    assert "has a station (documented)" in rows
    assert "is on no call (one community thread only)" in rows
    assert "Usage: call-initiation-exporter agents [OPTIONS] {AGENT_ID}..." in rows
