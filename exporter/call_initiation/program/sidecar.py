"""How the gateway runs as a program: made from settings, drained at its end.

Laws: it says that it isn't ready before it stops accepting; calls under way are finished, and then recorded and
exported; the metrics are the last to go. Certificates are always verified, and by what settings say alone.
"""

import gc
import ssl
import sys
from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx

from call_initiation.api import regions
from call_initiation.errors import SettingsError
from call_initiation.exporter import Exporter
from call_initiation.gateway.admission import Rules
from call_initiation.gateway.gateway import Gateway, Plan
from call_initiation.gateway.relay import Origin
from call_initiation.pages.pages import Guard
from call_initiation.pages.webconfig import ask_nobody, guard
from call_initiation.program.settings import Settings
from call_initiation.watched import Stamps, Watched, stamps

_DRAIN: Final = 25.0
_FLUSH: Final = 2.0
_TURN: Final = 0.0005
"""Seconds for which a thread may keep the interpreter from the one that serves calls: a tenth of what Python gives."""


@dataclass(frozen=True, slots=True)
class Sidecar:
    """A running gateway.

    Attributes:
        url: Where dialers send their calls.
        upstream: Where these go.
        metrics_url: Where the page is; `/metrics` is below it.
        notices: What the operator should know besides, one sentence each.
    """

    url: str
    upstream: str
    metrics_url: str
    notices: tuple[str, ...]


@asynccontextmanager
async def sidecar(settings: Settings, exporter: Exporter) -> AsyncGenerator[Sidecar]:
    """Run a gateway as settings say; the exporter is closed at the end.

    Raises:
        ListenError: An address can't be had.
        SettingsError: The upstream isn't set, or a certificate or the web-config file can't be used.
    """
    gateway = Gateway(plan(settings), exporter)
    guarded = guard(settings.web_config)
    with closing(exporter.listener(*settings.metrics_listen, guarded)) as listener, _undisturbed():
        listener.is_ready = False
        await gateway.start()
        listener.is_ready = True
        try:
            yield Sidecar(gateway.url, _api_url(settings), listener.url, tuple(_notices(settings, guarded())))
        finally:
            listener.is_ready = False
            await gateway.drain(_DRAIN)
            await gateway.stop()
            exporter.close(_FLUSH)


@contextmanager
def _undisturbed() -> Generator[None]:
    """Keep what else runs in this process from holding up calls: it is a gateway's own."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(_TURN)  # else a scrape makes each step of a call wait for 5 ms, and a call has several
    gc.collect()
    gc.freeze()  # else the collector stops every call for some 60 ms now and then, to look through all modules
    try:
        yield
    finally:
        gc.unfreeze()
        sys.setswitchinterval(interval)


def plan(settings: Settings) -> Plan:
    """Return how the gateway is to run.

    Raises:
        SettingsError: The upstream isn't set, or a certificate can't be used.
    """
    secret = settings.dialer_secret
    return Plan(
        upstream=_origin(_api_url(settings), settings),
        login=_origin(regions.login_url(settings.upstream or ""), settings),
        host=settings.listen.host,
        port=settings.listen.port,
        tls=_inner_tls(settings),
        rules=Rules(
            forward_all=settings.forward_all,
            secret=secret.get_secret_value().encode() if secret else None,
            prevent_repeats=settings.prevent_repeats,
        ),
        deadline=settings.deadline,
    )


def _api_url(settings: Settings) -> str:
    if settings.upstream is None:
        raise SettingsError("--upstream", "nothing", "a region like mypurecloud.ie, or its API's https URL")
    return regions.api_url(settings.upstream)


def _origin(url: str, settings: Settings) -> Origin:
    parts = urlsplit(url)
    if parts.scheme == "http":
        return Origin(parts.hostname or "", parts.port or 80)
    return Origin(parts.hostname or "", parts.port or 443, _outer_tls(settings.upstream_ca))


def _outer_tls(ca: Path | None) -> ssl.SSLContext:
    """Return how to speak TLS to the API, whose certificate is always verified."""
    try:
        context = ssl.create_default_context(cafile=ca) if ca else httpx.create_ssl_context(trust_env=False)
    except OSError as error:  # ssl's own errors are OSErrors
        raise _unusable("upstream_ca", ca, error) from error
    context.set_alpn_protocols(["http/1.1"])
    return context


def _inner_tls(settings: Settings) -> ssl.SSLContext | None:
    """Return how to speak TLS to dialers, with the files of the moment; None where no certificate is set."""
    certificate = settings.tls_cert
    if certificate is None:
        return None
    watched = Watched("the gateway's TLS", lambda: _read_tls(settings, certificate))
    context = watched()

    # Asked at every handshake, whether a name was sent or not; what it puts there has its own certificates and CAs.
    def renew(connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = watched()

    context.sni_callback = renew
    return context


def _read_tls(settings: Settings, certificate: Path) -> tuple[ssl.SSLContext, Stamps]:
    seen = stamps(certificate, settings.tls_key, settings.client_ca)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificate, settings.tls_key, ask_nobody)
    except OSError as error:  # which doesn't say whether it is about the certificate or the key
        raise _unusable("tls_cert", certificate, error, settings.tls_key) from error
    if settings.client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_verify_locations(settings.client_ca)
        except OSError as error:
            raise _unusable("client_ca", settings.client_ca, error) from error
    return context, seen


def _unusable(key: str, path: Path | None, error: OSError, beside: Path | None = None) -> SettingsError:
    reason = error.strerror or getattr(error, "reason", None) or type(error).__name__
    found = f"{path} and {beside}" if beside else path
    return SettingsError(key, f"{found} ({reason})", "PEM files that belong together")


def _notices(settings: Settings, metrics: Guard) -> Iterator[str]:
    if not _is_loopback(settings.listen.host):
        yield f"The gateway listens on {settings.listen.host}, beyond this machine: " + (
            "dialers' tokens cross the network in the clear; set tls_cert and tls_key."
            if settings.tls_cert is None
            else "see that only dialers reach it; client_ca or dialer_secret keep others out."
        )
    if _is_open(metrics) and not _is_loopback(settings.metrics_listen.host):
        yield (
            f"The metrics are on {settings.metrics_listen.host}, beyond this machine, for whoever asks: the page names "
            "the agents of the last failures; set web_config, and users in it."
        )


def _is_open(metrics: Guard) -> bool:
    """Tell whether neither a password nor a certificate is asked for."""
    return metrics.admits is None and (metrics.tls is None or metrics.tls.verify_mode is not ssl.CERT_REQUIRED)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
