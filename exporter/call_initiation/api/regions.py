"""The API's regions: which hosts belong to one, and which other hosts our credentials may be sent to.

Law: what is returned is reached over TLS, or is on this machine.
"""

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Final
from urllib.parse import SplitResult, urlsplit

from call_initiation.errors import SettingsError

REGIONS: Final[Mapping[str, str]] = {
    "us_east_1": "mypurecloud.com",
    "us_east_2": "use2.us-gov-pure.cloud",
    "us_west_2": "usw2.pure.cloud",
    "ca_central_1": "cac1.pure.cloud",
    "mx_central_1": "mxc1.pure.cloud",
    "sa_east_1": "sae1.pure.cloud",
    "eu_west_1": "mypurecloud.ie",
    "eu_west_2": "euw2.pure.cloud",
    "eu_central_1": "mypurecloud.de",
    "eu_central_2": "euc2.pure.cloud",
    "eusc_de_east_1": "edee1.eusc-pure.cloud",
    "me_central_1": "mec1.pure.cloud",
    "ap_south_1": "aps1.pure.cloud",
    "ap_southeast_1": "apse1.pure.cloud",
    "ap_southeast_2": "mypurecloud.com.au",
    "ap_northeast_1": "mypurecloud.jp",
    "ap_northeast_2": "apne2.pure.cloud",
    "ap_northeast_3": "apne3.pure.cloud",
}
"""Each region's domain, by the name that the official SDK gives it."""

_EXPECTED: Final = (
    "a region (" + ", ".join(f"{name} or {domain}" for name, domain in REGIONS.items()) + "), "
    "an https URL without a path, or an http URL on this machine"
)


def api_url(region: str) -> str:
    """Return the base URL of a region's API.

    Args:
        region: A region's name (`eu_west_1`, `eu-west-1`), its domain (`mypurecloud.ie`), or a URL: of the region's API
            or login host, of another host by https, or of this machine by http, which then serves both.

    Raises:
        SettingsError: It is none of these.
    """
    return _url("api", region)


def login_url(region: str) -> str:
    """Return the base URL of a region's login host; takes and raises what `api_url` does."""
    return _url("login", region)


def _url(service: str, region: str) -> str:
    wanted = region.strip().lower()
    domain = REGIONS.get(wanted.replace("-", "_"), wanted)
    if domain in REGIONS.values():
        return f"https://{service}.{domain}"
    url = _base_url(wanted)
    if url is None:
        # The text itself isn't shown when it is a URL: it may hold a password.
        found = "a URL that isn't fit" if "//" in wanted or "@" in wanted else repr(region)
        raise SettingsError(key="region", found=found, expected=_EXPECTED)
    host = url.hostname or ""
    own, _, rest = host.partition(".")
    if own in {"api", "login"} and url.port is None:
        return f"https://{service}.{rest}"
    return f"{url.scheme}://{url.netloc}"


def _base_url(text: str) -> SplitResult | None:
    """Return the parts of a URL that credentials may be sent to, or None."""
    try:
        url = urlsplit(text)
        is_whole = bool(url.hostname) and (url.port is None or url.port > 0)
    except ValueError:
        return None
    is_bare = url.path in {"", "/"} and not url.query and not url.fragment and "@" not in url.netloc
    is_safe = url.scheme == "https" or (url.scheme == "http" and _is_loopback(url.hostname or ""))
    return url if is_whole and is_bare and is_safe else None


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
