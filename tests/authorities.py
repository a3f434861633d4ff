"""One authority to trust, instead of all that certifi has: to read those takes most of the making of a client.

A plugin of pytest, for our own tests and for httpx's. Nothing that tests call has a certificate of such an authority.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import certifi
import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)


def pytest_configure(config: pytest.Config) -> None:
    """Let certifi name a file of one authority, until all is over."""
    folder, patch = TemporaryDirectory(), pytest.MonkeyPatch()
    file = Path(folder.name) / "authority.pem"
    trustme.CA().cert_pem.write_to_path(file)
    patch.setattr(certifi, "where", lambda: str(file))
    config.add_cleanup(patch.undo)
    config.add_cleanup(folder.cleanup)


def encrypted(pem: bytes) -> bytes:
    """Return a private key under a password."""
    key = load_pem_private_key(pem, None)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"open sesame"))
