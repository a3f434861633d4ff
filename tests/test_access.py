"""Who vouches for the API's hosts: the usual authorities, or one of the operator's own."""

import ssl
from pathlib import Path

import pytest
import trustme

from call_initiation.errors import SettingsError
from call_initiation.feed.access import Access


def test_the_usual_authorities_vouch_for_all_hosts() -> None:
    """Where no other is named."""
    api, sockets = Access.find("mypurecloud.ie", "id", "secret").contexts()
    assert api is sockets
    assert (ssl.CERT_REQUIRED, True) == (api.verify_mode, api.check_hostname)


def test_an_authority_of_ones_own_is_the_only_one_for_the_api(tmp_path: Path) -> None:
    """Whatever becomes of its file later: a forked child may no longer see it."""
    file = tmp_path / "own.pem"
    trustme.CA().cert_pem.write_to_path(str(file))
    access = Access.find("mypurecloud.ie", "id", "secret", file)
    file.unlink()
    api, sockets = access.contexts()
    assert (1, 2) == (len(api.get_ca_certs()), len(sockets.get_ca_certs()))  # certifi has one of the tests' own here
    assert [(ssl.CERT_REQUIRED, True)] * 2 == [(one.verify_mode, one.check_hostname) for one in (api, sockets)]


@pytest.mark.parametrize(("text", "why"), [(None, "No such file"), ("", "Empty"), ("x", "no start line")])
def test_an_authority_that_is_none_is_told_of_at_once(tmp_path: Path, text: str | None, why: str) -> None:
    """Nothing else would say why the API can't be reached."""
    file = tmp_path / "own.pem"
    if text is not None:
        file.write_text(text)
    with pytest.raises(SettingsError, match=rf"^ca: found .*own.pem \(.*{why}.*\), expected a PEM file"):
        Access.find("mypurecloud.ie", "id", "secret", file)
