"""The commands that read files, as the program runs them: what they say, and their exit statuses."""

import json
import re
from pathlib import Path

import pytest

from program import Run, Terminal

README = Path(__file__).parents[1] / "README.md"
PAYLOADS = Path(__file__).parent / "data" / "payloads"
NUMBER = "+33199000000"
BODY = b'{"message": "A station is required to call +33 1 99 00 00 00.", "code": "bad.request"}'
ANSWER = b"HTTP/2 400 \r\nContent-Type: application/json\r\nININ-Correlation-Id: 5b8f1c1e\r\n\r\n" + BODY
ESCAPE = "\x1b"
A_FILE = "expected a file, or - for standard input"
A_START = (
    "expected what starts a call: /api/v2/conversations/calls or /api/v2/conversations/calls/user/{userId} or "
    "/api/v2/conversations/calls/{conversationId}"
)


@pytest.fixture
def answer(tmp_path: Path) -> Path:
    """Return a file with a refusal as `curl -i` writes it."""
    path = tmp_path / "answer.http"
    path.write_bytes(ANSWER)
    return path


@pytest.mark.parametrize(
    ("expected", "name", "said"),
    [
        (0, "plain", "Nothing was found"),
        (0, "thread_question", "0 errors, 2 warnings, 0 notes"),
        (1, "agent_as_callee", "error     several_destinations at phoneNumber, callUserId  (documented)"),
        (1, "list", "error     not_an_object  (documented)"),
    ],
)
def test_check_exits_with_1_for_an_error_alone(run: Run, expected: int, name: str, said: str) -> None:
    """A warning stops no pipeline."""
    status, out, err = run("check", PAYLOADS / f"{name}.json")
    assert (expected, "") == (status, err)
    assert said in out
    assert ESCAPE not in out


def test_check_reads_standard_input(run: Run) -> None:
    """Under the name of `-`; what is too long isn't read to its end."""
    assert 0 == run("check", "-", given=b'{"phoneNumber": "01 99 00 00 00"}')[0]
    status, out, _ = run("check", "-", "--json", given=b"{}".ljust(2_000_000))
    assert (1, ["too_large"]) == (status, [one["finding"] for one in json.loads(out)["findings"]])


@pytest.mark.parametrize(
    ("template", "endpoint"),
    [
        ("/api/v2/conversations/calls", "/api/v2/conversations/calls"),
        ("/api/v2/conversations/calls/user/{userId}", "/api/v2/conversations/calls/user/{userId}"),
        ("/api/v2/conversations/calls/user/{userId}", "/gateway/api/v2/conversations/calls/user/9d4b?x=1"),
        ("/api/v2/conversations/calls/{conversationId}", "https://api.example.com/api/v2/conversations/calls/c-1"),
    ],
)
def test_check_takes_a_template_or_a_path(run: Run, template: str, endpoint: str) -> None:
    """Of what starts a call."""
    said = json.loads(run("check", "-", "--json", "--endpoint", endpoint, given=b'{"callNumber": "1"}')[1])
    assert template == said["endpoint"]
    assert said["ok"] is ("conversationId" in template)


def test_check_knows_the_agent_of_a_path(run: Run) -> None:
    """Who shouldn't call themself."""
    path = "/api/v2/conversations/calls/user/9d4b4c1e-0000-4000-8000-000000000001"
    assert "calls_themself at callUserId" in run("check", PAYLOADS / "themself.json", "--endpoint", path)[1]


def test_on_a_terminal_severities_have_colours(run: Run) -> None:
    """And nowhere else, whatever the environment says."""
    screen = Terminal()
    assert (1, "", "") == run("check", PAYLOADS / "nobody.json", on=screen)
    assert ESCAPE in screen.getvalue()
    assert "no_destination" in screen.getvalue()


@pytest.mark.parametrize("on", [None, Terminal()], ids=["pipe", "terminal"])
def test_no_line_ends_in_blanks(run: Run, on: Terminal | None) -> None:
    """Nor is any more than the report itself written."""
    status, out, _ = run("check", PAYLOADS / "agent_as_callee.json", on=on)
    lines = (out if on is None else on.getvalue()).split("\n")
    assert (1, "") == (status, lines.pop())
    assert [] == [line for line in lines if line != line.rstrip()]
    assert lines[-1].startswith("check ")


def test_explain_reads_what_curl_wrote(run: Run, answer: Path) -> None:
    """Status, correlation id and body; the number that it quotes is masked."""
    status, out, err = run("explain", answer)
    assert (0, "") == (status, err)
    rows = [line.rstrip() for line in out.splitlines()]
    assert "culprit         Likely the agent's station: a documented code or message says so." == rows[0]
    assert "message         A station is required to call +[number]." in rows
    assert "status          400" in rows
    assert "correlation id  5b8f1c1e" in rows
    assert "99 00" not in out
    assert ESCAPE not in out


def shown_in_readme(command: str) -> list[str]:
    """Return the words that README shows as a command's output."""
    readme = README.read_text(encoding="utf-8")
    return (
        readme.partition(f"$ call-initiation-exporter {command}\n")[2]
        .partition("\n\n")[0]
        .removesuffix("\n```")
        .split()
    )


def test_readme_shows_what_is_shown(run: Run, tmp_path: Path) -> None:
    """Word for word; lines are broken otherwise."""
    answer = tmp_path / "answer.http"
    body = {
        "message": "A station is required to place a call.",
        "code": "bad.request",
        "contextId": "5b8f1c1e-0000-4000-8000-00000000000a",
        "details": [{"errorCode": "conversation.error.no.user.station"}],
    }
    answer.write_bytes(b"HTTP/2 400 \r\n\r\n" + json.dumps(body).encode())
    (sent,) = re.findall(r"^\$ echo '(.*)' > call.json$", README.read_text(encoding="utf-8"), re.MULTILINE)
    assert shown_in_readme("check call.json") == run("check", "-", given=sent.encode())[1].split()
    assert shown_in_readme("explain answer.http") == run("explain", answer)[1].split()


def test_explain_checks_the_request_too(run: Run, answer: Path) -> None:
    """And masks what the answer quotes of it, however short."""
    quoting = b'{"code": "bad.request", "message": "112233 is busy"}'
    answer.write_bytes(quoting)
    request = answer.with_name("request.json")
    request.write_text('{"phoneNumber": "112233", "callUserId": "112233"}')
    status, out, _ = run("explain", answer, "--request", request, "--json")
    said = json.loads(out)
    assert (0, "payload", "[number] is busy") == (status, said["culprit"], said["message"])
    assert "several_destinations" == said["findings"][0]["finding"]
    assert "112233" not in out


def test_explain_takes_the_endpoint_of_the_request(run: Run, answer: Path) -> None:
    """A callback's body isn't a call's."""
    endpoint = ("--endpoint", "/api/v2/conversations/calls/{conversationId}")
    said = json.loads(run("explain", answer, "--json", "--request", PAYLOADS / "callback.json", *endpoint)[1])
    assert [] == said["findings"]


@pytest.mark.parametrize(
    ("expected", "given", "flags"),
    [
        (0, BODY, ()),
        (0, b"", ("--status", "503")),
        (0, b"HTTP/1.1 202 Accepted\n\n{}", ()),
        (1, b"", ()),
        (1, b"", ("--status", "400")),
        (1, b"\xff\xfe\x00", ()),
    ],
)
def test_explain_exits_with_1_where_nothing_can_be_read(
    run: Run, expected: int, given: bytes, flags: tuple[str, ...]
) -> None:
    """No code, no message and no status that means something."""
    status, out, err = run("explain", "-", *flags, given=given)
    assert (expected, "") == (status, err)
    assert out


@pytest.mark.parametrize(
    ("sentence", "arguments"),
    [
        (
            f"nope.json: found what can't be read (no such file or directory), {A_FILE}",
            ("check", "nope.json"),
        ),
        (
            f"nope-[number].json: found what can't be read (no such file or directory), {A_FILE}",
            ("explain", "nope-33199000000.json"),
        ),
        (f"/: found what can't be read (is a directory), {A_FILE}", ("check", "/")),
        (f"FILE: found an empty name, {A_FILE}", ("check", "")),
        (
            f"FILE: found JSON itself, {A_FILE}",
            ("check", ' {"phoneNumber": "+33199000000"}'),
        ),
        (
            f"nope.json: found what can't be read (no such file or directory), {A_FILE}",
            ("explain", "-", "--request", "nope.json"),
        ),
        (
            "--request: found standard input, which is the answer already, expected a file",
            ("explain", "-", "--request", "-"),
        ),
        (
            f"--endpoint: found '/api/v2/conversations/callbacks', {A_START}",
            ("check", "-", "--endpoint", "/api/v2/conversations/callbacks"),
        ),
    ],
)
def test_what_cannot_be_used_is_one_sentence_and_status_2(run: Run, sentence: str, arguments: tuple[str, ...]) -> None:
    """And shows no number either."""
    assert (2, "", f"call-initiation-exporter: {sentence}\n") == run(*arguments)


@pytest.mark.parametrize("status", ["99", "600", "x"])
def test_a_status_is_a_status(run: Run, status: str) -> None:
    """Anything else is a misuse."""
    assert 2 == run("explain", "-", "--status", status)[0]


@pytest.mark.parametrize("payload", sorted(PAYLOADS.glob("*.json")), ids=lambda path: path.stem)
@pytest.mark.parametrize("flags", [(), ("--json",)], ids=["table", "json"])
def test_no_payload_of_the_table_tells_its_numbers(run: Run, payload: Path, flags: tuple[str, ...]) -> None:
    """All of them are made of the same ones."""
    status, out, err = run("check", payload, *flags)
    assert status in {0, 1}
    assert "33199" not in out + err
    assert "99 00" not in out + err
