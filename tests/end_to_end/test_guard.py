"""A real Prometheus, and metrics that a web-config file guards: it scrapes what it may, and no more."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import bcrypt
import pytest
import trustme

from call_initiation import Exporter
from call_initiation.pages.webconfig import guard
from watching import prometheus, until

PASSWORD = "open sesame"
CONFIG = """
tls_server_config:
  cert_file: metrics.crt
  key_file: metrics.key
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: ca.crt
  min_version: TLS13
basic_auth_users:
  scraper: {hashed}
"""


def equip(folder: Path) -> Path:
    """Write certificates for both sides and a web-config file; return the file."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(folder / "ca.crt")
    for name, leaf in (("metrics", ca.issue_cert("localhost")), ("scraper", ca.issue_cert("scraper.test"))):
        leaf.cert_chain_pems[0].write_to_path(folder / f"{name}.crt")
        leaf.private_key_pem.write_to_path(folder / f"{name}.key")
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(10)).decode()
    (folder / "web.yml").write_text(CONFIG.format(hashed=hashed))
    return folder / "web.yml"


@pytest.mark.parametrize(("password", "is_up"), [(PASSWORD, "1"), ("open barley", "0")])
def test_prometheus_scrapes_over_tls_with_its_password(
    password: str, is_up: str, tmp_path: Path, engine: Callable[[str], Path]
) -> None:
    """Both sides prove who they are, and the password is right; with another one the target is down."""
    program, file = engine("prometheus"), equip(tmp_path)
    scraping = {
        "scheme": "https",
        "basic_auth": {"username": "scraper", "password": password},
        "tls_config": {name: str(tmp_path / path) for name, path in _PEMS.items()},
    }
    with Exporter() as exporter, closing(exporter.listener("127.0.0.1", 0, guard(file))) as listener:
        target = f"localhost:{urlsplit(listener.url).port}"
        with prometheus(program, tmp_path, {"dialer": target}, [], **scraping) as watching:
            assert until(lambda: watching.now(f"up == {is_up}"), "such a scrape")


_PEMS = {"ca_file": "ca.crt", "cert_file": "scraper.crt", "key_file": "scraper.key"}
