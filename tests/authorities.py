"""One authority to trust, instead of all that certifi has: to read those takes most of the making of a client.

A plugin of pytest, for our own tests and for httpx's. Nothing that tests call has a certificate of such an authority.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import certifi
import pytest
import trustme


def pytest_configure(config: pytest.Config) -> None:
    """Let certifi name a file of one authority, until all is over."""
    folder, patch = TemporaryDirectory(), pytest.MonkeyPatch()
    file = Path(folder.name) / "authority.pem"
    trustme.CA().cert_pem.write_to_path(file)
    patch.setattr(certifi, "where", lambda: str(file))
    config.add_cleanup(patch.undo)
    config.add_cleanup(folder.cleanup)
