"""The gateway as a program: settings become a plan, and a signal becomes a clean end."""

import asyncio
import gc
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from threading import Event
from urllib.parse import urlsplit

import bcrypt
import pytest
import trustme

from authorities import encrypted
from call_initiation import Exporter
from call_initiation.errors import SettingsError
from call_initiation.gateway.admission import Rules
from call_initiation.gateway.relay import Origin
from call_initiation.program.settings import load
from call_initiation.program.sidecar import plan, sidecar
from gateways import BODY, CALLS, Client, post
from servers import PATIENCE, Server, always, answer


def test_a_region_is_enough() -> None:
    """It says where calls and logins go, both over TLS that is verified."""
    made = plan(load(flags={"upstream": "mypurecloud.ie"}))
    assert ("api.mypurecloud.ie", 443) == (made.upstream.host, made.upstream.port)
    assert b"api.mypurecloud.ie" == made.upstream.authority
    assert made.login is not None
    assert ("login.mypurecloud.ie", 443) == (made.login.host, made.login.port)
    for origin in (made.upstream, made.login):
        assert origin.tls is not None
        assert (ssl.CERT_REQUIRED, True) == (origin.tls.verify_mode, origin.tls.check_hostname)
    assert (("127.0.0.1", 8080), None, 30.0) == ((made.host, made.port), made.tls, made.deadline)
    assert Rules() == made.rules == Rules(forward_all=False, secret=None, prevent_repeats=False)


@pytest.mark.parametrize("source", ["flag", "environment", "file"])
def test_a_dialer_may_be_kept_from_calling_again(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By any of the ways in which a setting is set, and only where one is."""
    config, flags = tmp_path / "gateway.toml", {"upstream": "mypurecloud.ie"}
    config.write_text("prevent_repeats = true" if source == "file" else "")
    if source == "environment":
        monkeypatch.setenv("CALL_INITIATION_PREVENT_REPEATS", "true")
    more = {"prevent_repeats": True} if source == "flag" else {}
    assert Rules(prevent_repeats=True) == plan(load(config, flags | more)).rules


def test_this_machine_may_be_spoken_to_in_the_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the pretend organisation is; and a secret is taken from the environment."""
    monkeypatch.setenv("CALL_INITIATION_DIALER_SECRET", "open sesame")
    made = plan(load(flags={"upstream": "http://127.0.0.1:8900", "forward_all": True, "deadline": "5s"}))
    assert Origin("127.0.0.1", 8900) == made.upstream == made.login
    assert (b"open sesame", True, 5.0) == (made.rules.secret, made.rules.forward_all, made.deadline)
    assert 80 == plan(load(flags={"upstream": "http://127.0.0.1"})).upstream.port


@pytest.mark.parametrize("key", ["tls_cert", "client_ca", "upstream_ca"])
def test_a_certificate_that_cannot_be_used_is_named(key: str, tmp_path: Path) -> None:
    """With the file and the reason."""
    own, broken = tmp_path / "own.pem", tmp_path / "broken.pem"
    trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(own))
    broken.write_text("nothing")
    for path in (broken, tmp_path / "missing.pem"):
        with pytest.raises(SettingsError, match=rf"{key}: found {path} \(.+\), expected PEM files"):
            plan(load(flags={"upstream": "mypurecloud.ie", "tls_cert": own, key: path}))


def test_a_key_under_a_password_is_told(tmp_path: Path) -> None:
    """Nobody is asked for one: who starts a program isn't there."""
    own, key = tmp_path / "own.pem", tmp_path / "key.pem"
    certificate = trustme.CA().issue_cert("localhost")
    certificate.cert_chain_pems[0].write_to_path(own)
    key.write_bytes(encrypted(certificate.private_key_pem.bytes()))
    with pytest.raises(SettingsError, match=rf"tls_cert: found {own} and {key} \(the key is encrypted\), expected PEM"):
        plan(load(flags={"upstream": "mypurecloud.ie", "tls_cert": own, "tls_key": key}))


def test_a_key_that_is_missing_is_named(tmp_path: Path) -> None:
    """Not the certificate alone, which is there."""
    own, key = tmp_path / "own.pem", tmp_path / "missing.pem"
    trustme.CA().issue_cert("localhost").cert_chain_pems[0].write_to_path(own)
    with pytest.raises(
        SettingsError, match=rf"tls_cert: found {own} and {key} \(No such file or directory\), expected"
    ):
        plan(load(flags={"upstream": "mypurecloud.ie", "tls_cert": own, "tls_key": key}))


def test_a_certificate_alone_asks_dialers_for_none(tmp_path: Path) -> None:
    """TLS is for the tokens' sake; who the dialers are is another setting."""
    own = tmp_path / "own.pem"
    trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(own))
    tls = plan(load(flags={"upstream": "mypurecloud.ie", "tls_cert": own})).tls
    assert tls is not None
    assert ssl.CERT_NONE is tls.verify_mode


def test_an_upstream_is_needed() -> None:
    """There is no default for where calls go."""
    with pytest.raises(SettingsError, match="--upstream: found nothing, expected a region"):
        plan(load())


@pytest.mark.parametrize(
    ("listen", "count"), [("127.0.0.1:0", 0), ("[::1]:0", 0), ("localhost:0", 0), ("0.0.0.0:0", 1)]
)
def test_listening_beyond_this_machine_is_pointed_out(listen: str, count: int) -> None:
    """It is nobody's default."""
    flags = {"upstream": "http://127.0.0.1:9", "metrics_listen": "127.0.0.1:0", "listen": listen}

    async def run() -> tuple[str, ...]:
        async with sidecar(load(flags=flags), Exporter()) as running:
            return running.notices

    notices = asyncio.run(run())
    assert count == len(notices)
    assert all(notice.startswith("The gateway listens on 0.0.0.0, beyond this machine: ") for notice in notices)


TLS = "tls_server_config: {cert_file: own.pem, key_file: own.pem"
ASKS = "client_auth_type: RequireAndVerifyClientCert, client_ca_file: authority.pem"
USERS = f"basic_auth_users: {{scraper: '{bcrypt.hashpw(b'open sesame', bcrypt.gensalt(4)).decode()}'}}"


@pytest.mark.parametrize(
    ("listen", "file", "count"),
    [
        ("127.0.0.1:0", None, 0),
        ("0.0.0.0:0", None, 1),
        ("0.0.0.0:0", f"{TLS}}}", 1),
        ("0.0.0.0:0", f"{TLS}, {ASKS}}}", 0),
        ("0.0.0.0:0", USERS, 0),
    ],
    ids=["loopback", "open", "tls", "certificates", "users"],
)
def test_a_page_for_whoever_asks_is_pointed_out(listen: str, file: str | None, count: int, tmp_path: Path) -> None:
    """It names agents; TLS alone keeps nobody from reading it."""
    ca, config = trustme.CA(), tmp_path / "web.yml"
    ca.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "own.pem"))
    ca.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    flags: dict[str, object] = {"upstream": "http://127.0.0.1:9", "metrics_listen": listen, "listen": "127.0.0.1:0"}
    if file is not None:
        config.write_text(file)
        flags["web_config"] = config

    async def run() -> tuple[str, ...]:
        async with sidecar(load(flags=flags), Exporter()) as running:
            return running.notices

    notices = asyncio.run(run())
    assert count == len(notices)
    assert all(notice.startswith("The metrics are on 0.0.0.0, beyond this machine, ") for notice in notices)


def test_calls_go_before_all_else_that_the_process_does() -> None:
    """As long as it is a gateway, and no longer: threads take short turns, and what was loaded isn't looked through."""
    flags = {"upstream": "http://127.0.0.1:9", "metrics_listen": "127.0.0.1:0", "listen": "127.0.0.1:0"}

    def found() -> tuple[float, bool]:
        return sys.getswitchinterval(), gc.get_freeze_count() > 0

    async def run() -> tuple[float, bool]:
        async with sidecar(load(flags=flags), Exporter()):
            return found()

    before = found()
    turn, is_frozen = asyncio.run(run())
    assert before == found()
    assert is_frozen
    assert turn == pytest.approx(0.0005)
    assert turn < before[0]


def test_dialers_may_be_asked_for_certificates(tmp_path: Path) -> None:
    """TLS in, with and without a certificate of the dialer's; TLS out, verified by an authority of one's own."""
    ca = trustme.CA()
    files = {name: tmp_path / f"{name}.pem" for name in ("tls_cert", "client_ca", "dialer")}
    ca.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(files["tls_cert"]))
    ca.issue_cert("dialer.test").private_key_and_cert_chain_pem.write_to_path(str(files["dialer"]))
    ca.cert_pem.write_to_path(str(files["client_ca"]))
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost").configure_cert(theirs)
    context = ssl.create_default_context(cafile=files["client_ca"])

    async def run(api: Server) -> list[int]:
        flags = {
            "upstream": api.url,
            "upstream_ca": files["client_ca"],
            "metrics_listen": "127.0.0.1:0",
            "listen": "127.0.0.1:0",
            "tls_cert": files["tls_cert"],
            "client_ca": files["client_ca"],
        }
        async with sidecar(load(flags=flags), Exporter(settle=0)) as running:
            port = urlsplit(running.url).port or 0
            assert running.url.startswith("https://")
            first = await asyncio.to_thread(_status, port, context)
            context.load_cert_chain(files["dialer"])
            paths = (CALLS, "/nothing")
            return [first, *[await asyncio.to_thread(_status, port, context, path) for path in paths]]

    with Server(always(answer(202)), tls=theirs) as api:
        assert [0, 202, 404] == asyncio.run(run(api))
        assert 1 == len(api.received)


def test_certificates_change_while_it_runs(tmp_path: Path) -> None:
    """From the change on, who is of the new authority is let in, and nobody else; no call waits for a new start."""
    own, authority = tmp_path / "own.pem", tmp_path / "authority.pem"

    def issue() -> ssl.SSLContext:
        """Let another authority vouch for both sides; return how one of its dialers speaks TLS."""
        ca = trustme.CA()
        ca.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(own))
        ca.cert_pem.write_to_path(str(authority))
        dialer = ssl.create_default_context(cafile=authority)
        ca.issue_cert("dialer.test").configure_cert(dialer)
        return dialer

    async def run(api: Server) -> list[int]:
        before = issue()
        flags = {
            "upstream": api.url,
            "metrics_listen": "127.0.0.1:0",
            "listen": "127.0.0.1:0",
            "tls_cert": own,
            "client_ca": authority,
        }
        async with sidecar(load(flags=flags), Exporter(settle=0)) as running:
            port = urlsplit(running.url).port or 0
            first = await asyncio.to_thread(_status, port, before)
            after = issue()
            return [first, *[await asyncio.to_thread(_status, port, context) for context in (before, after)]]

    with Server(always(answer(202))) as api:
        assert [202, 0, 202] == asyncio.run(run(api))


def _status(port: int, context: ssl.SSLContext, path: str = CALLS) -> int:
    """Place a call over TLS; return its status, or 0 where the gateway hangs up."""
    with closing(HTTPSConnection("localhost", port, timeout=PATIENCE, context=context)) as connection:
        try:
            connection.request("POST", path, BODY)
            return connection.getresponse().status
        except OSError:
            return 0


@contextmanager
def _program(upstream: str, *flags: str) -> Iterator[tuple[subprocess.Popen[str], int, int]]:
    """Run the program; yield it and the ports of its gateway and its metrics."""
    code = "from call_initiation.cli import main; main()"
    command = [sys.executable, "-c", code, "serve", "--upstream", upstream, "--listen", "127.0.0.1:0"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "CALL_INITIATION_"))}
    with subprocess.Popen(  # noqa: S603 - our own program
        [*command, "--metrics-listen", "127.0.0.1:0", *flags], stdout=subprocess.PIPE, env=environment, text=True
    ) as running:
        assert running.stdout is not None
        try:
            gateway, metrics = (running.stdout.readline().split()[1] for _ in range(2))
            yield running, urlsplit(gateway).port or 0, urlsplit(metrics).port or 0
        finally:
            running.kill()


def _ready(port: int) -> int:
    with closing(HTTPConnection("127.0.0.1", port, timeout=PATIENCE)) as connection:
        connection.request("GET", "/-/ready")
        return connection.getresponse().status


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_when_all_is_answered(number: signal.Signals) -> None:
    """C17: no longer ready, no longer listening, the call under way answered whole, and exit status 0."""
    hold, body = Event(), b"a" * 200_000
    with Server(always(hold, answer(400, body))) as api, _program(api.url) as (running, port, metrics):
        assert 200 == _ready(metrics)
        with Client(port) as busy:
            busy.send(post())
            api.wait()
            running.send_signal(number)
            while _ready(metrics) == 200:
                pass
            with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
                pass
            hold.set()
            said = busy.answer()
            assert (400, body, "close") == (said.status, said.body, said.header("Connection"))
        assert 0 == running.wait(PATIENCE)
        assert 1 == len(api.received)
