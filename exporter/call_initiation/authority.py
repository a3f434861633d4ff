"""How a host and a port are written as one: in URLs, in headers, and for people (RFC 3986, section 3.2)."""


def authority(host: str, port: int | None = None) -> str:
    """Return `host:port`, or the host alone without a port; an IPv6 address stands in brackets."""
    shown = f"[{host}]" if ":" in host else host
    return shown if port is None else f"{shown}:{port}"
