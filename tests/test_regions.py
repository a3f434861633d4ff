"""Which hosts a region has, and where credentials may be sent."""

import pytest

from call_initiation.api.regions import REGIONS, api_url, login_url
from call_initiation.errors import SettingsError


@pytest.mark.parametrize(
    "region",
    [
        "eu_west_1",
        "eu-west-1",
        "EU_WEST_1",
        " mypurecloud.ie ",
        "https://api.mypurecloud.ie",
        "https://api.mypurecloud.ie/",
        "https://login.mypurecloud.ie",
    ],
)
def test_a_region_has_many_spellings(region: str) -> None:
    """Its name, its domain, or either of its hosts."""
    assert ("https://api.mypurecloud.ie", "https://login.mypurecloud.ie") == (api_url(region), login_url(region))


def test_every_region_has_a_domain_of_its_own() -> None:
    """Eighteen regions, and none of them is another one's."""
    assert len(REGIONS) == len(set(REGIONS.values())) == 18
    assert all(api_url(name) == api_url(domain) == f"https://api.{domain}" for name, domain in REGIONS.items())


@pytest.mark.parametrize(
    "base",
    [
        "http://127.0.0.1:8900",
        "http://localhost:8900",
        "http://[::1]:8900",
        "https://gateway.example.com",
        "https://api.example.com:8443",
    ],
)
def test_a_base_url_serves_both(base: str) -> None:
    """This machine by http, and any other by https."""
    assert (base, base) == (api_url(base), login_url(base))


def test_a_region_that_is_not_known_yet_can_be_named_by_its_host() -> None:
    """The login host follows from the API's."""
    assert login_url("https://api.new1.pure.cloud") == "https://login.new1.pure.cloud"


@pytest.mark.parametrize(
    "region",
    [
        "",
        "mars_north_1",
        "mypurecloud.example",
        "http://api.mypurecloud.ie",
        "http://192.0.2.1:8900",
        "https://",
        "https://api.mypurecloud.ie/api/v2",
        "https://api.mypurecloud.ie?x=1",
        "https://api.mypurecloud.ie#x",
        "https://api.mypurecloud.ie:0",
        "https://api.mypurecloud.ie:https",
        "https://[::1",
        "ftp://api.mypurecloud.ie",
    ],
)
def test_anything_else_is_refused_with_what_is_expected(region: str) -> None:
    """Credentials don't go over plain http to another machine, nor to a host that nobody named."""
    with pytest.raises(SettingsError) as caught:
        login_url(region)
    assert caught.value.key == "region"
    assert "eu_west_1 or mypurecloud.ie" in caught.value.expected


def test_a_password_in_a_url_is_not_shown() -> None:
    """It is refused, without being quoted."""
    with pytest.raises(SettingsError) as caught:
        api_url("https://ada:c4n4ry@api.mypurecloud.ie")
    assert "c4n4ry" not in str(caught.value)
