"""How hosts and ports are written."""

import pytest

from call_initiation.authority import authority


@pytest.mark.parametrize(
    ("expected", "host", "port"),
    [
        ("127.0.0.1:8080", "127.0.0.1", 8080),
        ("api.mypurecloud.ie:0", "api.mypurecloud.ie", 0),
        ("[::1]:8080", "::1", 8080),
        ("localhost", "localhost", None),
        ("[fe80::1]", "fe80::1", None),
    ],
)
def test_a_host_and_a_port_are_written_as_urls_have_them(expected: str, host: str, port: int | None) -> None:
    """An IPv6 address in brackets, else its last part would be the port."""
    assert expected == authority(host, port)
