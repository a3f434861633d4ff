"""What the command line promises: help that teaches, one sentence for each mistake, and honest exit statuses."""

import io
import os
import re
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import BinaryIO

import pytest
import trustme
from prometheus_client import CollectorRegistry

import call_initiation
from call_initiation import cli, program
from call_initiation.pages.pages import Guard, Listener
from call_initiation.recording.aggregate import Aggregate
from call_initiation.recording.recent import Recent
from program import Run, Terminal

PATIENCE = 30.0
ESCAPE = "\x1b"


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take from the environment what would change what is shown."""
    for key in [key for key in os.environ if key.startswith("OTEL_")]:
        monkeypatch.delenv(key)
    for key in ("DISPLAY", "WAYLAND_DISPLAY", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(key, raising=False)
    for key in ("NEW_RELIC_LICENSE_KEY", "NEW_RELIC_LICENSE_KEY_FILE"):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Return a terminal that can do all."""
    monkeypatch.setenv("TERM", "xterm-256color")
    return Terminal()


@pytest.fixture
def listener() -> Iterator[Listener]:
    """Yield a listener of an exporter."""
    listener = Listener(CollectorRegistry(), Aggregate().snapshot, Recent(dict), "127.0.0.1", 0)
    yield listener
    listener.close()


def test_the_version(run: Run) -> None:
    """As the package has it."""
    assert (0, f"call-initiation-exporter {call_initiation.__version__}\n", "") == run("--version")


def test_the_help_teaches(run: Run) -> None:
    """What it is for, where to start, and each command in a line that isn't cut."""
    status, out, _ = run("--help")
    assert 0 == status
    assert "Start with `demo`" in out
    assert not [row for row in out.splitlines() if row.endswith("...") and "Usage" not in row]
    assert {"demo", "simulate", "agents", "check", "explain", "health"} <= set(out.split())


@pytest.mark.parametrize("command", ["demo", "simulate", "check", "explain", "health"])
def test_each_command_has_help(run: Run, command: str) -> None:
    """With a default or a meaning for each flag."""
    status, out, err = run(command, "--help")
    assert (0, "") == (status, err)
    assert out.startswith(f"Usage: call-initiation-exporter {command} [OPTIONS]")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("demo --for abc", "--for: found 'abc', expected a duration above 0, like 60s, 5m, 1h, or plain seconds"),
        ("demo --for 0", "--for: found '0', expected a duration above 0, like 60s, 5m, 1h, or plain seconds"),
        ("demo --for -5s", "--for: found '-5s', expected a duration above 0, like 60s, 5m, 1h, or plain seconds"),
        ("demo --settle 2m", "--settle: found '2m', expected a duration up to 60s"),
        ("demo --log-level loud", "--log-level: found 'loud', expected debug, info, warning or error"),
        ("demo --preset nr", "--preset: found 'nr', expected newrelic-us, newrelic-eu or newrelic-fedramp"),
        (
            "demo --preset newrelic-us",
            "NEW_RELIC_LICENSE_KEY: found nothing, expected a value, or a file's path in NEW_RELIC_LICENSE_KEY_FILE",
        ),
        (
            "demo --config /nope",
            "--config /nope: found what can't be read (no such file or directory), expected a TOML file",
        ),
        ("simulate --listen 8900", "--listen: found '8900', expected an address to listen on, like 127.0.0.1:8900"),
        ("agents x", "--region: found nothing, expected a region like mypurecloud.ie, or its API's https URL"),
        ("health --url ftp://x", "--url: found 'ftp://x', expected an address like http://127.0.0.1:9464"),
        ("health --url http://x:port", "--url: found 'http://x:port', expected an address like http://127.0.0.1:9464"),
    ],
)
def test_a_setting_that_cannot_be_used_is_one_sentence_and_status_2(run: Run, arguments: str, sentence: str) -> None:
    """Nothing else is written, and nothing is begun."""
    assert (2, "", f"call-initiation-exporter: {sentence}\n") == run(*arguments.split())


@pytest.mark.parametrize("arguments", ["serf", "demo --rate 0", "demo --rate x", "demo --port 65536", "demo --fro 1"])
def test_a_misuse_says_how_to_get_help(run: Run, arguments: str) -> None:
    """With status 2."""
    status, out, err = run(*arguments.split())
    assert (2, "") == (status, out)
    assert "Error: " in err
    assert "-h' for help" in err


@pytest.mark.parametrize("command", ["demo --no-browser --port", "simulate --listen"])
def test_an_address_that_is_taken_is_one_sentence_and_status_1(run: Run, command: str) -> None:
    """Free it or choose another one."""
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        *words, flag = command.split()
        status, out, err = run(*words, flag, str(port) if flag == "--port" else f"127.0.0.1:{port}")
    assert (1, "") == (status, out)
    assert err.startswith(f"call-initiation-exporter: cannot listen on 127.0.0.1:{port}: ")
    assert 1 == err.count("\n")


def test_a_collector_that_cannot_be_used_is_one_sentence(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The standard variables are settings, too."""
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "zipkin")
    assert (2, "", "call-initiation-exporter: OTEL_TRACES_EXPORTER: found 'zipkin', expected otlp or none\n") == run(
        "demo"
    )


def test_without_the_service_extra_it_says_how_to_install_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library does without; the program can't."""
    monkeypatch.setitem(sys.modules, "typer", None)
    monkeypatch.delitem(sys.modules, "call_initiation.program.commands", raising=False)
    monkeypatch.delattr(program, "commands", raising=False)
    sentence = "this program needs typer, too: pip install 'call-initiation-exporter[service]'"
    assert (1, "", f"call-initiation-exporter: {sentence}\n") == run("demo")


def test_a_module_of_ours_that_is_missing_is_no_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken installation is told as it is."""
    monkeypatch.setitem(sys.modules, "call_initiation.program.commands", None)
    monkeypatch.delattr(program, "commands", raising=False)
    with pytest.raises(ModuleNotFoundError, match=r"call_initiation\.program\.commands"):
        cli.main()


def test_a_demonstration_without_a_terminal_is_plain(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Addresses, lines now and then, the summary; no codes for terminals, whatever the environment wants."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr("call_initiation.program.commands._LINE_EVERY", 0.05)
    status, out, err = run("demo", "--for", "0.6s", "--port", "0", "--rate", "100")
    assert (0, "") == (status, err)
    assert out.startswith("page          http://127.0.0.1:")
    assert "\n00:00 0 attempts" in out
    assert "\nSeen in 00:00: " in out
    assert " exported + 0 pending + 0 dropped" in out
    assert ESCAPE not in out


def test_a_demonstration_on_a_terminal_is_live(run: Run, terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table is drawn again and again; the summary stays. Without a screen no browser is opened."""
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    assert (0, "", "") == run("demo", "--for", "0.6s", "--port", "0", "--rate", "100", on=terminal)
    shown = terminal.getvalue()
    assert f"{ESCAPE}[" in shown
    assert "Ctrl-C ends it sooner" in shown
    assert re.search(r"Seen in 00:0\d: ", shown)
    assert [] == opened


def test_with_a_screen_the_page_is_opened(run: Run, terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once; and not where it isn't wanted."""
    opened: list[str] = []
    told = Event()
    monkeypatch.setattr("webbrowser.open", lambda url: (opened.append(url), told.set()))
    monkeypatch.setenv("DISPLAY", ":99")
    run("demo", "--for", "0.1s", "--port", "0", "--no-browser", on=terminal)
    run("demo", "--for", "0.1s", "--port", "0", on=terminal)
    assert told.wait(PATIENCE)
    assert [True] == [url in terminal.getvalue() for url in opened]


def test_on_a_dumb_terminal_it_is_plain(run: Run, terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """It couldn't draw anything anew."""
    monkeypatch.setenv("TERM", "dumb")
    run("demo", "--for", "0.1s", "--port", "0", on=terminal)
    assert "Ctrl-C ends it" not in terminal.getvalue()
    assert terminal.getvalue().startswith("page ")


def interrupt(begun: Event) -> None:
    """Press Ctrl-C as soon as something has begun."""

    def press() -> None:
        begun.wait(PATIENCE)
        os.kill(os.getpid(), signal.SIGINT)

    Thread(target=press, daemon=True).start()


@pytest.fixture
def interrupted(terminal: Terminal) -> Terminal:
    """Return a terminal at which Ctrl-C is pressed as soon as something shows."""
    interrupt(terminal.begun)
    return terminal


class Stdout(io.TextIOWrapper):
    """What is no terminal; Ctrl-C is pressed as soon as something is written to it."""

    def __init__(self, file: BinaryIO, encoding: str = "utf-8") -> None:
        super().__init__(file, encoding=encoding)
        self._begun = Event()
        interrupt(self._begun)

    def write(self, text: str) -> int:
        """Tell that it has begun."""
        self._begun.set()
        return super().write(text)


def test_a_demonstration_without_an_end_ends_by_ctrl_c(run: Run, interrupted: Terminal) -> None:
    """With the summary and status 0: it is the normal way."""
    assert (0, "", "") == run("demo", "--port", "0", on=interrupted)
    assert "Seen in 00:00: " in interrupted.getvalue()


def test_an_organisation_alone_says_what_it_is(run: Run, interrupted: Terminal) -> None:
    """Its address and how to start a call; a signal ends it with status 0."""
    assert 0 == run("simulate", "--listen", "127.0.0.1:0", "--agents", "3", "--seed", "7", on=interrupted)[0]
    shown = interrupted.getvalue()
    assert shown.startswith("A pretend Genesys Cloud organisation of 3 agents (seed 7) on http://127.0.0.1:")
    assert "curl -i http://127.0.0.1:" in shown
    assert "-H 'Authorization: Bearer " in shown


def test_a_gateway_says_where_it_is(run: Run, interrupted: Terminal, listener: Listener) -> None:
    """And where its calls go; a signal ends it with status 0."""
    flags = ("--upstream", listener.url, "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0")
    assert (0, "", "") == run("serve", *flags, on=interrupted)
    shown = interrupted.getvalue().splitlines()
    assert shown[0].startswith("gateway       http://127.0.0.1:")
    assert shown[0].endswith(f" → {listener.url}")
    assert shown[1].startswith("metrics       http://127.0.0.1:")


ANYWHERE = ("--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0")


def test_a_gateway_runs_where_its_arrow_cannot_be_spelt(run: Run, listener: Listener) -> None:
    """As in a locale of Latin-1."""
    shown = io.BytesIO()
    stdout = Stdout(shown, "latin-1")
    assert (0, "", "") == run("serve", "--upstream", listener.url, *ANYWHERE, on=stdout)
    assert f" ? {listener.url}\n" in shown.getvalue().decode("latin-1")


def _full() -> BinaryIO:
    return Path("/dev/full").open("wb")


def _unread() -> BinaryIO:
    theirs, ours = os.pipe()
    os.close(theirs)
    return os.fdopen(ours, "wb")


@pytest.mark.parametrize("opened", [_full, _unread])
def test_a_gateway_runs_where_nobody_reads_it(run: Run, listener: Listener, opened: Callable[[], BinaryIO]) -> None:
    """A disk that is full, a reader that has gone; and at the end nothing is left to be written there."""
    with Stdout(opened()) as stdout:
        assert (0, "", "") == run("serve", "--upstream", listener.url, *ANYWHERE, on=stdout)


@pytest.mark.parametrize("command", ["check -", "check - --json", "check --help", "demo --for 1s --port 0"])
def test_what_cannot_be_written_is_one_sentence(run: Run, command: str) -> None:
    """The system's own, with status 1: an answer that nobody got is no success."""
    with io.TextIOWrapper(Path("/dev/full").open("wb", buffering=0), write_through=True) as full:
        ended = run(*command.split(), given=b'{"phoneNumber": "0199000000"}', on=full)
    assert (1, "", "call-initiation-exporter: [Errno 28] No space left on device\n") == ended


def test_streams_that_are_closed_are_the_null_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that was started without them reads nothing and writes nowhere."""
    monkeypatch.setattr(sys, "argv", ["call-initiation-exporter", "check", "-"])
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    with sys.stdin, sys.stdout, sys.stderr:
        assert [os.devnull] * 3 == [stream.name for stream in (sys.stdin, sys.stdout, sys.stderr)]
    assert 1 == ended.value.code  # an empty body is refused


class Interrupting:
    """An import during which Ctrl-C is pressed."""

    def find_spec(self, name: str, *_: object) -> None:
        """Press it."""
        if name == "call_initiation.program.commands":
            signal.raise_signal(signal.SIGINT)


def test_ctrl_c_before_it_has_begun_is_no_traceback(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """And no success: there is no answer, and nothing ran."""
    monkeypatch.delitem(sys.modules, "call_initiation.program.commands", raising=False)
    monkeypatch.delattr(program, "commands", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Interrupting(), *sys.meta_path])
    assert (130, "", "") == run("demo")


def test_health_of_an_exporter_that_runs(run: Run, listener: Listener) -> None:
    """Status 0 and silence; a slash at the end is no matter."""
    assert (0, "", "") == run("health", "--url", listener.url)
    assert (0, "", "") == run("health", "--url", f"{listener.url}/")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "0.0.0.0"])  # noqa: S104 - all of this machine's addresses
@pytest.mark.parametrize("source", ["environment", "file"])
def test_health_is_asked_for_where_settings_have_the_metrics(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, source: str
) -> None:
    """The environment is an image's, so its HEALTHCHECK needs no word more."""
    with closing(Listener(CollectorRegistry(), Aggregate().snapshot, Recent(dict), host, 0)) as listener:
        address = listener.url.removeprefix("http://")
        config = tmp_path / "exporter.toml"
        config.write_text(f'metrics_listen = "{address if source == "file" else "127.0.0.1:1"}"')
        if source == "environment":
            monkeypatch.setenv("CALL_INITIATION_METRICS_LISTEN", address)
        assert (0, "", "") == run("health", "--config", config)


def test_health_of_an_exporter_whose_certificate_is_not_trusted(run: Run) -> None:
    """Status 1, for the URL is right; a URL that isn't TLS's is told so."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(tls)
    listener = Listener(
        CollectorRegistry(), Aggregate().snapshot, Recent(dict), "127.0.0.1", 0, guard=lambda: Guard(tls=tls)
    )
    with closing(listener):
        status, out, err = run("health", "--url", listener.url)
        plain = listener.url.replace("https", "http")
        complaint = f"{plain} is not healthy: it hangs up; where it speaks TLS, --url has to say https\n"
        assert (1, "", complaint) == run("health", "--url", plain)
    assert (1, "") == (status, out)
    assert err.startswith(f"{listener.url} is not healthy: [SSL: CERTIFICATE_VERIFY_FAILED] ")


@pytest.mark.parametrize("url", ["localhost:9464", "ftp://localhost", "http://localhost:port"])
def test_health_of_what_is_no_url(run: Run, url: str) -> None:
    """Status 2: the flag is at fault."""
    sentence = f"--url: found {url!r}, expected an address like http://127.0.0.1:9464"
    assert (2, "", f"call-initiation-exporter: {sentence}\n") == run("health", "--url", url)


def test_health_where_nobody_listens(run: Run, listener: Listener) -> None:
    """Status 1 and the system's reason."""
    listener.close()
    assert (1, "", f"{listener.url} is not healthy: Connection refused\n") == run("health", "--url", listener.url)


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [(b"HTTP/1.0 503 No\r\n\r\n", "it answers with status 503"), (b"nonsense\r\n\r\n", "BadStatusLine")],
)
def test_health_of_something_else(run: Run, answer: bytes, complaint: str) -> None:
    """Status 1 and what came."""

    class Handler(BaseHTTPRequestHandler):
        def handle(self) -> None:
            self.rfile.readline()
            self.wfile.write(answer)

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.handle_request, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        assert (1, "", f"{url} is not healthy: {complaint}\n") == run("health", "--url", url)


def test_health_of_an_exporter_that_asks_for_a_password(run: Run) -> None:
    """Status 0: it runs, and a health check needs to know no more."""
    asking = Guard(admits=lambda authorization: authorization == "the password")
    listener = Listener(CollectorRegistry(), Aggregate().snapshot, Recent(dict), "127.0.0.1", 0, guard=lambda: asking)
    with closing(listener):
        assert (0, "", "") == run("health", "--url", listener.url)


def test_a_file_of_settings_counts(run: Run, tmp_path: Path) -> None:
    """Its mistakes are named, so it was read."""
    (tmp_path / "a.toml").write_text("settle = 61")
    status, _, err = run("demo", "--config", str(tmp_path / "a.toml"))
    assert (2, True) == (status, "settle in " in err)
