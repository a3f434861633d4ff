"""How a feed comes to the API: its hosts, our credentials, and who vouches for the hosts."""

import ssl
from dataclasses import dataclass
from pathlib import Path

import httpx

from call_initiation.api import regions
from call_initiation.api.tokens import Credentials
from call_initiation.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Access:
    """How we come to the API.

    Attributes:
        api_url: The API's host.
        login_url: The host that sells tokens.
        credentials: Our OAuth client.
        ca: Who vouches for these hosts in place of the usual authorities, and for sockets besides them: PEM.
    """

    api_url: str
    login_url: str
    credentials: Credentials
    ca: str | None = None

    @classmethod
    def find(cls, region: str, client_id: str | None, client_secret: str | None, ca: Path | None = None) -> "Access":
        """Take the hosts from a region, credentials from the arguments or the environment, and authorities from a file.

        Raises:
            SettingsError: The region isn't one, credentials are missing, or the file can't be used.
        """
        found = Credentials.find(client_id, client_secret)
        return cls(regions.api_url(region), regions.login_url(region), found, None if ca is None else _authorities(ca))

    def contexts(self) -> tuple[ssl.SSLContext, ssl.SSLContext]:
        """Return how to speak TLS to these hosts, and to those of the sockets, which a proxy may not stand before."""
        usual = httpx.create_ssl_context(trust_env=False)
        if self.ca is None:
            return usual, usual
        usual.load_verify_locations(cadata=self.ca)
        return _trusting(self.ca), usual


def _trusting(ca: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=ca)
    return context


def _authorities(file: Path) -> str:
    try:
        text = file.read_text("ascii", errors="ignore")  # there may be names in other letters between certificates
        _trusting(text)
    except (OSError, ValueError) as error:  # ssl's own errors are OSErrors
        reason = getattr(error, "strerror", None) or str(error)
        raise SettingsError("ca", f"{file} ({reason})", "a PEM file of certificates") from error
    return text
