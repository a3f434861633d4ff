"""What the web-config file promises: Prometheus's own format, kept to the letter or refused in one sentence."""

import base64
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from os import mkfifo
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

import bcrypt
import httpx
import pytest
import trustme
from prometheus_client import CollectorRegistry

from authorities import encrypted
from call_initiation.errors import SettingsError
from call_initiation.pages.pages import OPEN, Listener
from call_initiation.pages.webconfig import Passwords, guard
from call_initiation.recording.recent import Recent
from servers import PATIENCE

HASH = bcrypt.hashpw(b"open sesame", bcrypt.gensalt(4)).decode()
TLS = "tls_server_config: {cert_file: metrics.crt, key_file: metrics.key"
VERIFY = "client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.crt"
USERS = f"basic_auth_users: {{scraper: '{HASH}'}}"


@pytest.fixture
def ca() -> trustme.CA:
    """Return who vouches for the metrics, and for scrapers."""
    return trustme.CA()


@pytest.fixture
def write(tmp_path: Path, ca: trustme.CA) -> Callable[[str], Path]:
    """Return what writes a web-config file beside a certificate and its key."""
    certificate = ca.issue_cert("localhost")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "metrics.crt")
    certificate.private_key_pem.write_to_path(tmp_path / "metrics.key")
    ca.cert_pem.write_to_path(tmp_path / "ca.crt")

    def written(text: str) -> Path:
        (tmp_path / "web.yml").write_text(text)
        return tmp_path / "web.yml"

    return written


@contextmanager
def listening(path: Path | None) -> Iterator[str]:
    """Run a listener under a web-config file; yield its URL, by name."""
    listener = Listener(CollectorRegistry(), lambda: (), Recent(dict), "127.0.0.1", 0, guard=guard(path))
    with closing(listener):
        yield listener.url.replace("127.0.0.1", "localhost")


@contextmanager
def scraping(url: str, ca: trustme.CA, certificate: trustme.LeafCert | None = None) -> Iterator[httpx.Client]:
    """Yield a scraper that trusts an authority, and may have a certificate of its own."""
    trust = ssl.create_default_context()
    ca.configure_trust(trust)
    if certificate is not None:
        certificate.configure_cert(trust)
    with httpx.Client(base_url=url, verify=trust, trust_env=False, timeout=PATIENCE) as client:
        yield client


def test_without_a_file_it_stands_open() -> None:
    """As the defaults have it: loopback, plain, no password."""
    assert OPEN == guard(None)()


def test_an_empty_file_asks_for_nothing(write: Callable[[str], Path]) -> None:
    """As Prometheus's exporters take it."""
    assert OPEN == guard(write(""))()


@pytest.mark.parametrize("path", ["/", "/metrics", "/-/healthy", "/-/ready", "/nowhere"])
def test_every_page_asks_for_the_password(path: str, write: Callable[[str], Path], ca: trustme.CA) -> None:
    """Without it nothing is told, health included."""
    with listening(write(USERS)) as url, scraping(url, ca) as client:
        for wrong in (None, ("scraper", "open barley"), ("nobody", "open sesame")):
            answer = client.get(path, auth=wrong)
            assert (401, "Basic", "unauthorized\n") == (
                answer.status_code,
                answer.headers["WWW-Authenticate"],
                answer.text,
            )
        assert 401 != client.get(path, auth=("scraper", "open sesame")).status_code


def test_a_head_is_told_as_much_without_a_body(write: Callable[[str], Path]) -> None:
    """Else its bytes would be taken for the next answer's."""
    with listening(write(USERS)) as url:
        host, port = urlsplit(url).hostname, urlsplit(url).port
        with socket.create_connection((str(host), port or 0), PATIENCE) as scraper, scraper.makefile("rb") as said:
            scraper.sendall(b"HEAD /metrics HTTP/1.0\r\n\r\n")
            head = said.read()
    assert head.startswith(b"HTTP/1.0 401 ")
    assert (b"\r\n\r\n", True) == (head[-4:], b"\r\nContent-Length: 13\r\n" in head)


@pytest.mark.parametrize(
    "header",
    ["", "Basic", "Basic !", "Basic \xe9", "Bearer c2NyYXBlcjpvcGVuIHNlc2FtZQ==", "Basic c2NyYXBlcg==", "Basic /zp4"],
)
def test_what_is_no_password_is_not_right(header: str) -> None:
    """Whatever a header says, it raises nothing."""
    assert not Passwords({"scraper": HASH.encode()}).are_right(header)


def test_a_password_is_right_again_and_a_wrong_one_stays_wrong() -> None:
    """Bcrypt reads 72 bytes; what was right once is known again, and only that."""
    long = b"p" * 100
    passwords = Passwords({"scraper": bcrypt.hashpw(long[:72], bcrypt.gensalt(4))})

    def header(password: bytes) -> str:
        return f"basic {base64.b64encode(b'scraper:' + password).decode()}"

    assert [True, True, False] == [passwords.are_right(header(each)) for each in (long, long, b"q")]


def test_a_password_that_was_right_is_known_again() -> None:
    """Bcrypt takes a processor's quarter of a second and more, by intent, and there is a scrape every few seconds."""
    hashes = {"scraper": HASH.encode()}
    passwords = Passwords(hashes)
    header = f"Basic {base64.b64encode(b'scraper:open sesame').decode()}"
    assert passwords.are_right(header)
    hashes["scraper"] = b"what bcrypt would raise at"
    assert passwords.are_right(header)


@pytest.mark.parametrize(("least", "is_served"), [("TLS12", True), ("TLS13", False)])
def test_who_speaks_only_an_older_tls_is_told_nothing(
    least: str,
    is_served: bool,  # noqa: FBT001 - a column of the table
    write: Callable[[str], Path],
    ca: trustme.CA,
) -> None:
    """Only a TLS from `min_version` on is spoken."""
    trust = ssl.create_default_context()
    ca.configure_trust(trust)
    trust.maximum_version = ssl.TLSVersion.TLSv1_2
    client = httpx.Client(verify=trust, trust_env=False, timeout=PATIENCE)
    refusal = nullcontext() if is_served else pytest.raises(httpx.ConnectError)
    with listening(write(f"{TLS}, min_version: {least}}}")) as url, client, refusal:
        assert 200 == client.get(f"{url}/metrics").status_code


def test_tls_is_spoken(write: Callable[[str], Path], ca: trustme.CA) -> None:
    """The paths are relative to the file; whoever speaks no TLS is told nothing, and holds nobody up."""
    with listening(write(f"{TLS}}}\n{USERS}")) as url, scraping(url, ca) as client:
        assert url.startswith("https://")
        with pytest.raises(httpx.RemoteProtocolError), httpx.Client(trust_env=False) as plain:
            plain.get(f"http://localhost:{urlsplit(url).port}/metrics")
        assert (401, 200) == tuple(
            client.get("/metrics", auth=a).status_code for a in (None, ("scraper", "open sesame"))
        )


@pytest.mark.parametrize(
    ("kind", "without", "with_one"),
    [("RequireAndVerifyClientCert", None, 200), ("VerifyClientCertIfGiven", 200, 200)],
)
def test_scrapers_may_have_to_show_certificates(
    kind: str, without: int | None, with_one: int, write: Callable[[str], Path], ca: trustme.CA
) -> None:
    """One of the authority's is taken, none only where none is required, another's never."""
    path = write(f"{TLS}, client_auth_type: {kind}, client_ca_file: ca.crt}}")
    shown = {"none": None, "own": ca.issue_cert("scraper.test"), "another's": trustme.CA().issue_cert("scraper.test")}
    found: dict[str, int | None] = {}
    with listening(path) as url:
        for name, certificate in shown.items():
            with scraping(url, ca, certificate) as client:
                try:
                    found[name] = client.get("/metrics").status_code
                except httpx.TransportError:
                    found[name] = None
    assert {"none": without, "own": with_one, "another's": None} == found


def replace(file: Path, text: str) -> None:
    """Put another file in a file's place, in one step, as mounted secrets are changed."""
    new = file.with_suffix(".new")
    new.write_text(text)
    new.replace(file)


def test_certificates_and_passwords_change_while_it_runs(write: Callable[[str], Path], ca: trustme.CA) -> None:
    """Who trusts the new authority alone, and knows the new password, is let in from the change on, and nobody else."""
    path, later = write(f"{TLS}}}\n{USERS}"), trustme.CA()
    new = later.issue_cert("localhost")
    changed = bcrypt.hashpw(b"open barley", bcrypt.gensalt(4)).decode()
    with listening(path) as url:
        with scraping(url, ca) as client:
            assert 200 == client.get("/metrics", auth=("scraper", "open sesame")).status_code
        replace(path.parent / "metrics.key", new.private_key_pem.bytes().decode())
        replace(path.parent / "metrics.crt", new.cert_chain_pems[0].bytes().decode())
        replace(path, path.read_text().replace(HASH, changed))
        with scraping(url, later) as client:
            found = [client.get("/metrics", auth=("scraper", f"open {word}")) for word in ("sesame", "barley")]
        assert [401, 200] == [answer.status_code for answer in found]
        with scraping(url, ca) as client, pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            client.get("/metrics")


@pytest.mark.parametrize("name", ["web.yml", "metrics.crt", "metrics.key", "ca.crt"])
def test_each_file_is_read_again_once_it_has_changed(name: str, write: Callable[[str], Path]) -> None:
    """A certificate may be renewed under the key that there is, and an authority's list grow by one."""
    path = write(f"{TLS}, {VERIFY}}}")
    watched = guard(path)
    before = watched()
    file = path.parent / name
    replace(file, f"{file.read_text()}\n")
    after = watched()
    assert before is not after is watched()


@pytest.mark.parametrize("name", ["web.yml", "metrics.crt"])
def test_a_file_that_changes_while_it_is_read_is_read_again(name: str, write: Callable[[str], Path]) -> None:
    """What was read of it is of before the change."""
    path = write(f"{TLS}, {VERIFY}}}")
    watched = guard(path)
    file = path.parent / name
    text = file.read_text()
    file.unlink()
    mkfifo(file)

    def change() -> None:
        with file.open("w") as pipe:  # opens once it is read, whose end is when this one closes
            pipe.write(text)
            replace(file, text)

    changing = Thread(target=change)
    changing.start()
    during = watched()
    changing.join(PATIENCE)
    after = watched()
    assert during is not after is watched()


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("", "basic_auth_users and client_ca_file and tls_server_config"),
        (f"{TLS}, {VERIFY}}}", "basic_auth_users"),
        (f"{TLS}}}\n{USERS}", "client_ca_file"),
        (USERS, "client_ca_file and tls_server_config"),
    ],
    ids=["empty", "no users", "no certificates", "no TLS"],
)
def test_no_change_opens_what_was_guarded(
    text: str, missing: str, write: Callable[[str], Path], caplog: pytest.LogCaptureFixture
) -> None:
    """A file that is just being written is empty, or ends early: what it guarded stays guarded."""
    path = write(f"{TLS}, {VERIFY}}}\n{USERS}")
    watched = guard(path)
    before = watched()
    replace(path, text)
    assert before is watched()
    (said,) = caplog.messages
    assert said.endswith(f"found less than before, expected {missing} as at the start, or a new start without")


PEM = "PEM files that belong together"
FORMAT = "a file in Prometheus's web-config format"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: [", f"--web-config {{path}}: found what is no YAML, expected {FORMAT}"),
        ("[" * 10_000, f"--web-config {{path}}: found what is no YAML, expected {FORMAT}"),
        ("- a", "--web-config {path}: found a list, expected a mapping of settings"),
        (
            "tls: {}",
            "tls in {path}: found a key that isn't known here, expected one of tls_server_config, basic_auth_users",
        ),
        (
            "tls_server_config: 1",
            "tls_server_config in {path}: found 1, expected a mapping of cert_file, key_file and so on",
        ),
        (
            "tls_server_config: {key_file: a}",
            "tls_server_config.cert_file in {path}: found nothing, expected the path of a PEM file",
        ),
        (
            TLS + ", min_version: TLS10}",
            "tls_server_config.min_version in {path}: found 'TLS10', expected TLS12 or TLS13",
        ),
        (
            TLS + ", client_auth_type: RequireAnyClientCert}",
            (
                "tls_server_config.client_auth_type in {path}: found 'RequireAnyClientCert', expected NoClientCert, "
                "VerifyClientCertIfGiven or RequireAndVerifyClientCert"
            ),
        ),
        (
            TLS + ", client_auth_type: RequireAndVerifyClientCert}",
            (
                "tls_server_config.client_ca_file in {path}: found nothing, expected what goes with client_auth_type "
                "RequireAndVerifyClientCert"
            ),
        ),
        (
            TLS + ", client_ca_file: ca.crt}",
            (
                "tls_server_config.client_ca_file in {path}: found a file, expected what goes with client_auth_type "
                "NoClientCert"
            ),
        ),
        (
            TLS + ", client_auth_type: RequireAndVerifyClientCert, client_ca_file: nothing.crt}",
            (
                "tls_server_config.client_ca_file in {path}: found nothing.crt (No such file or directory), "
                "expected a PEM file"
            ),
        ),
        (
            "tls_server_config: {cert_file: metrics.crt, key_file: nothing.key}",
            (
                "tls_server_config.cert_file in {path}: found {folder}/metrics.crt and {folder}/nothing.key "
                f"(No such file or directory), expected {PEM}"
            ),
        ),
        (
            "basic_auth_users: {scraper: plain text}",
            "basic_auth_users.scraper in {path}: found a value that is not shown, expected a bcrypt hash",
        ),
        (
            "basic_auth_users: {scraper: 1}",
            (
                "basic_auth_users.scraper in {path}: found a value that is not shown, "
                "expected names, each with a bcrypt hash"
            ),
        ),
    ],
)
def test_a_mistake_is_told_in_a_sentence(text: str, sentence: str, write: Callable[[str], Path]) -> None:
    """The key, what was found there (never a hash or a password), and what was expected."""
    path = write(text)
    with pytest.raises(SettingsError) as told:
        guard(path)
    assert sentence.format(path=path, folder=path.parent) == str(told.value)


def test_a_key_under_a_password_is_told(write: Callable[[str], Path]) -> None:
    """Nobody is asked for one: who starts a program isn't there."""
    path = write(f"{TLS}}}")
    key = path.parent / "metrics.key"
    key.write_bytes(encrypted(key.read_bytes()))
    with pytest.raises(
        SettingsError, match=r"found .+metrics\.crt and .+metrics\.key \(the key is encrypted\), expected PEM files"
    ):
        guard(path)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    """With the system's reason."""
    with pytest.raises(SettingsError, match=r"nothing\.yml: found what can't be read \(No such file or directory\)"):
        guard(tmp_path / "nothing.yml")
