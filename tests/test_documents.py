"""What the documents show is so: their Python runs, and their commands, flags, targets and files are there."""

import ast
import inspect
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from time import time
from typing import Any

import pytest
from typer.core import TyperGroup
from typer.main import get_command

import call_initiation
from call_initiation.program.commands import app
from call_initiation.simulator.org import CALM, CLIENT_ID, CLIENT_SECRET, Organisation
from call_initiation.simulator.server import Server, ServerThread

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
README = (ROOT / "README.md").read_text(encoding="utf-8")
OURS: dict[str, Callable[..., object]] = {
    "Exporter": call_initiation.Exporter,
    "instrument": call_initiation.Exporter.instrument,
    "agent_state": call_initiation.Exporter.agent_state,
    "follow_agents": call_initiation.Exporter.follow_agents,
}
"""What the documents' Python calls of ours, by name."""


def shown(text: str, language: str) -> list[str]:
    """Return a document's examples in a language."""
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands() -> Iterator[tuple[str, list[str]]]:
    """Yield each command line of the program that a document shows, with the document's name."""
    for document in DOCUMENTS:
        for line in re.findall(
            r"call-initiation-exporter ((?:[a-z]+)(?: [^`\n]*)?)", document.read_text(encoding="utf-8")
        ):
            yield document.name, shlex.split(line)


@pytest.mark.parametrize("line", [pytest.param(line, id=f"{name}: {line[0]}") for name, line in commands()])
def test_a_command_that_is_shown_takes_the_flags_that_are_shown(line: list[str]) -> None:
    """All that begins with two hyphens, by its full name."""
    program = get_command(app)
    assert isinstance(program, TyperGroup)
    command = program.commands[line[0]]
    known = {flag for parameter in command.params for flag in parameter.opts}
    assert {word for word in line[1:] if word.startswith("--")} <= known


def calls() -> Iterator[ast.Call]:
    """Yield each call of something of ours that a document's Python shows."""
    for document in DOCUMENTS:
        for example in shown(document.read_text(encoding="utf-8"), "python"):
            for node in ast.walk(ast.parse(example)):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in OURS:
                    yield node


@pytest.mark.parametrize("call", [pytest.param(call, id=ast.unparse(call)[:60]) for call in calls()])
def test_python_that_is_shown_names_what_there_is(call: ast.Call) -> None:
    """Every argument; a `with` or two more around an example change nothing of that."""
    assert isinstance(call.func, ast.Attribute)
    named = {keyword.arg or "": ... for keyword in call.keywords}
    itself: list[object] = [] if call.func.attr == "Exporter" else [...]
    inspect.signature(OURS[call.func.attr]).bind(*itself, *([...] * len(call.args)), **named)


def test_the_readmes_python_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Word for word but for what stands for somebody's own: the region, the ids and numbers, and a free port."""
    monkeypatch.setenv("GENESYS_CLIENT_ID", CLIENT_ID)
    monkeypatch.setenv("GENESYS_CLIENT_SECRET", CLIENT_SECRET)
    organisation = Organisation(started=time(), behaviour=CALM)
    agent_id = organisation.agent_ids[0]
    (example,) = shown(README, "python")
    with ServerThread(Server(organisation)) as pretend:
        for theirs, ours in {
            "https://api.mypurecloud.ie": pretend.url,
            'region="mypurecloud.ie"': f'region="{pretend.url}"',
            "9d4b2d5f-…": agent_id,
            'json={"phoneNumber": "…"}': 'json={"phoneNumber": "+33199000000"}',
            "9464": "0",
        }.items():
            assert theirs in example
            example = example.replace(theirs, ours)
        named: dict[str, Any] = {}
        exec(compile(example, "README.md", "exec"), named)  # noqa: S102 - it is ours
        named["client"].close()
    exporter: call_initiation.Exporter = named["exporter"]
    assert 2 == exporter.ledgers()["attempts"].exported
    assert [agent_id, None] == [entry.agent_id for entry in organisation.ledger]


def test_make_has_the_targets_that_are_shown() -> None:
    """As `make help` lists them."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for document in DOCUMENTS:
        assert set(re.findall(r"(?:^|`)make ([a-z-]+)", document.read_text(encoding="utf-8"), re.MULTILINE)) <= targets


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_that_is_named_is_there(document: Path) -> None:
    """From the root of a checkout on."""
    folders = "benchmarks|dashboards|deploy|docs|exporter|requirements|tests"
    named = re.findall(rf"(?<![\w/.])(?:{folders})/[\w./-]*\w", document.read_text(encoding="utf-8"))
    assert [] == [name for name in named if not (ROOT / name).exists()]


@pytest.mark.parametrize("document", [*DOCUMENTS, *ROOT.glob("docs/runbooks/*.md")], ids=lambda path: path.name)
def test_every_link_leads_somewhere(document: Path) -> None:
    """To a file of this checkout, and to a heading in it where one is named."""
    for target, _, heading in re.findall(r"\]\(([^)#:]*)(#?)([^):]*)\)", document.read_text(encoding="utf-8")):
        file = document.parent / target if target else document
        assert file.exists(), target
        headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE) if heading else []
        assert not heading or heading in {re.sub(r"[^\w -]", "", one).lower().replace(" ", "-") for one in headings}
