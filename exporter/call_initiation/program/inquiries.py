"""The commands that answer from files alone: `check`, before a body is sent, and `explain`, after an answer came.

Nothing is called. What is shown has passed the mask, even a file's name.
"""

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.table import Table

from call_initiation.calls import bodies, endpoints
from call_initiation.calls.endpoints import CALLS, TEMPLATES, Endpoint
from call_initiation.diagnosis import diagnosis, explanation
from call_initiation.diagnosis.findings import Remark
from call_initiation.errors import SettingsError
from call_initiation.privacy import Mask
from call_initiation.program import reports, terminal

_MOST_READ: Final = 1_048_576
"""Bytes of a file; the API takes half as many, and answers with less."""
_STDIN: Final = "-"
_A_FILE: Final = "a file, or - for standard input"
_MASK: Final = Mask()

EndpointOption = Annotated[
    str, typer.Option("--endpoint", metavar="TEMPLATE|PATH", help="Where the request is sent: what starts a call.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def check(
    payload: Annotated[str, typer.Argument(metavar="PAYLOAD.json|-", help="The request's body.", show_default=False)],
    *,
    endpoint: EndpointOption = CALLS,
    as_json: JsonOption = False,
) -> None:
    """Tell what may be wrong with a request before it is sent.

    It says of each finding how it is known, and shows no number and no name. Made for pipelines, too: it exits with 1
    if any finding is an error, that is, if the API is documented to refuse the request.
    """
    place, content = _endpoint(endpoint), _content(payload)
    shape, remarks = endpoints.payload(content).shape, _examined(content, place)
    table, document = reports.check_table, reports.check_document
    _print(document(place.template, shape, remarks) if as_json else table(place.template, shape, remarks))
    raise typer.Exit(int(reports.has_errors(remarks)))


def explain(
    response: Annotated[
        str,
        typer.Argument(
            metavar="RESPONSE.json|-", help="The answer's body, or what `curl -i` wrote.", show_default=False
        ),
    ],
    *,
    request: Annotated[
        str | None, typer.Option("--request", metavar="PAYLOAD.json", help="The request's body, to be checked, too.")
    ] = None,
    status: Annotated[
        int | None, typer.Option(min=100, max=599, metavar="N", help="The answer's status, where the file has none.")
    ] = None,
    endpoint: EndpointOption = CALLS,
    as_json: JsonOption = False,
) -> None:
    """Tell what a refusal means, where to look first, and what to do.

    It knows an answer's status and correlation id from what `curl -i` wrote (status line, headers, body), or from the
    body. Numbers and tokens are masked. It exits with 1 if nothing could be read from the answer.
    """
    if request == response == _STDIN:
        raise SettingsError("--request", "standard input, which is the answer already", "a file")
    place, content = _endpoint(endpoint), _content(response)
    sent = None if request is None else _content(request)
    found = explanation.explain(
        content,
        status=status,
        remarks=None if sent is None else _examined(sent, place),
        numbers=endpoints.payload(sent).numbers,
    )
    _print(reports.explanation_document(found) if as_json else reports.explanation_table(found))
    raise typer.Exit(int(found.is_empty))


def _examined(content: bytes, endpoint: Endpoint) -> tuple[Remark, ...]:
    return diagnosis.examine(content, bodies.read(content), endpoint, endpoint.user_id)


def _print(report: Table | dict[str, Any]) -> None:
    if isinstance(report, Table):
        terminal.show(report, terminal.console(is_wide=True))
    else:
        typer.echo(json.dumps(report, indent=2))


def _endpoint(text: str) -> Endpoint:
    """Return what a template or a path stands for; a path may be a whole URL."""
    found = Endpoint(text) if text in TEMPLATES else endpoints.match("POST", os.fsencode(text))
    if found is None:
        raise SettingsError("--endpoint", repr(_MASK.text(text, 200)), f"what starts a call: {' or '.join(TEMPLATES)}")
    return found


def _content(name: str) -> bytes:
    """Return what a file holds, as much of it as counts."""
    if name == _STDIN:
        return sys.stdin.buffer.read(_MOST_READ)
    if not name or name.lstrip().startswith(("{", "[")):
        raise SettingsError("FILE", "JSON itself" if name else "an empty name", _A_FILE)
    try:
        with Path(name).open("rb") as file:
            return file.read(_MOST_READ)
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
    raise SettingsError(_MASK.text(name, 200), f"what can't be read ({reason})", _A_FILE)
