"""Who may read the metrics: Prometheus's own web-config file, as its exporters take it.

    tls_server_config:
      cert_file: metrics.crt              # relative to this file
      key_file: metrics.key
      client_auth_type: RequireAndVerifyClientCert
      client_ca_file: scrapers.crt
      min_version: TLS12
    basic_auth_users:
      prometheus: $2y$10$…                # htpasswd -nBC 10 prometheus

Laws: a key that isn't known is refused, and so is one whose promise Python's TLS can't keep, for a guard that is only
believed to stand is worse than none; no hash is ever shown. Whether a user exists can't be told by the time that an
answer takes. The files are read again once one of them has changed, so that certificates and passwords can be changed
while calls go on; as long as they can't be used, what stood before stands, and a warning says why. No such change opens
what was guarded: a file that is just being written is empty for a moment.

Source: https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md.
"""

import base64
import binascii
import ssl
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from errno import EACCES
from hashlib import blake2b
from hmac import compare_digest
from pathlib import Path
from secrets import token_bytes
from typing import Annotated, Final, Literal

import bcrypt
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from call_initiation.errors import SettingsError
from call_initiation.pages.pages import Guard, stand_open
from call_initiation.watched import Stamps, Watched, stamps

_MOST_BYTES: Final = 72
"""What bcrypt reads of a password."""
_PEM: Final = "PEM files that belong together"
_VERSIONS: Final = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
_CLIENTS: Final = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}

_Path = Annotated[Path, Field(strict=False, description="the path of a PEM file")]


class _Tls(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    cert_file: _Path
    key_file: _Path
    client_auth_type: Annotated[
        Literal["NoClientCert", "VerifyClientCertIfGiven", "RequireAndVerifyClientCert"],
        Field(description="NoClientCert, VerifyClientCertIfGiven or RequireAndVerifyClientCert"),
    ] = "NoClientCert"
    client_ca_file: _Path | None = None
    min_version: Annotated[Literal["TLS12", "TLS13"], Field(description="TLS12 or TLS13")] = "TLS12"


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    tls_server_config: Annotated[_Tls | None, Field(description="a mapping of cert_file, key_file and so on")] = None
    basic_auth_users: Annotated[dict[str, str], Field(description="names, each with a bcrypt hash")] = {}


def guard(path: Path | None) -> Callable[[], Guard]:
    """Return what says who may read, as a web-config file has it; all may where there is no file.

    Raises:
        SettingsError: The file, or one that it names, can't be used.
    """
    if path is None:
        return stand_open
    locks = _locks(_read(path))
    return Watched(f"the metrics listener's {path}", lambda: _guard(path, locks))


def _locks(found: _File) -> frozenset[str]:
    """Return by what a file keeps anybody out, as the settings are called."""
    asked = found.tls_server_config
    locks: dict[str, object] = {
        "tls_server_config": asked,
        "client_ca_file": asked and asked.client_ca_file,
        "basic_auth_users": found.basic_auth_users,
    }
    return frozenset(lock for lock, setting in locks.items() if setting)


def _guard(path: Path, locks: frozenset[str]) -> tuple[Guard, Stamps]:
    """Return the guard, which must not lack any of the `locks` that there were at the start, and its files' stamps."""
    seen = stamps(path)
    found = _read(path)
    if missing := locks - _locks(found):
        expected = f"{' and '.join(sorted(missing))} as at the start, or a new start without"
        key = f"--web-config {path}"
        raise SettingsError(key, "less than before", expected)
    asked = found.tls_server_config
    named = () if asked is None else (asked.cert_file, asked.key_file, asked.client_ca_file)
    seen |= stamps(*(path.parent / file for file in named if file is not None))
    users = {name: hashed.encode() for name, hashed in found.basic_auth_users.items()}
    for name, hashed in users.items():
        with _usable(f"basic_auth_users.{name} in {path}", "a value that is not shown", "a bcrypt hash"):
            bcrypt.checkpw(b"", hashed)
    tls = None if asked is None else _tls(asked, path)
    return Guard(tls, Passwords(users).are_right if users else None), seen


class Passwords:
    """The users and the hashes of their passwords; a password that was right once is known again without bcrypt."""

    def __init__(self, hashes: Mapping[str, bytes]) -> None:
        self._hashes = hashes
        self._key = token_bytes(32)
        self._known: dict[str, bytes] = {}

    def are_right(self, authorization: str) -> bool:
        """Tell whether an Authorization header names a user and the right password (RFC 7617)."""
        name, password = _credentials(authorization)
        hashed = self._hashes.get(name, next(iter(self._hashes.values())))
        digest = blake2b(password, key=self._key).digest()
        if compare_digest(self._known.get(name, b""), digest):
            return True
        is_right = bcrypt.checkpw(password[:_MOST_BYTES], hashed) and name in self._hashes
        if is_right:
            self._known[name] = digest
        return is_right


def _credentials(authorization: str) -> tuple[str, bytes]:
    scheme, _, encoded = authorization.partition(" ")
    try:
        name, _, password = base64.b64decode(encoded, validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return "", b""
    return (name.decode("utf-8", "replace"), password) if scheme.lower() == "basic" else ("", b"")


def _read(path: Path) -> _File:
    key = f"--web-config {path}"
    with _usable(key, "what can't be read", "a file in Prometheus's web-config format"):
        text = path.read_text(encoding="utf-8")
    with _usable(key, "what is no YAML", "a file in Prometheus's web-config format"):
        content = yaml.safe_load(text)
    try:
        return _File.model_validate({} if content is None else content)
    except ValidationError as error:
        raise _mistake(error, path) from None


def _mistake(error: ValidationError, path: Path) -> SettingsError:
    """Say the first mistake; what was found is shown only where it can be no hash."""
    first = error.errors(include_url=False)[0]
    where = [str(part) for part in first["loc"]]
    if not where:
        return SettingsError(f"--web-config {path}", f"a {type(first['input']).__name__}", "a mapping of settings")
    key = f"{'.'.join(where)} in {path}"
    fields = _Tls.model_fields if where[0] == "tls_server_config" and len(where) > 1 else _File.model_fields
    match first["type"]:
        case "extra_forbidden":
            return SettingsError(key, "a key that isn't known here", f"one of {', '.join(fields)}")
        case "missing":
            found = "nothing"
        case _:
            found = "a value that is not shown" if where[0] == "basic_auth_users" else repr(first["input"])
    name = where[1] if fields is _Tls.model_fields else where[0]
    return SettingsError(key, found, str(fields[name].description or "the path of a PEM file"))


def _tls(asked: _Tls, path: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[asked.min_version]
    context.verify_mode = _CLIENTS[asked.client_auth_type]
    certificate, key = path.parent / asked.cert_file, path.parent / asked.key_file
    with _usable(f"tls_server_config.cert_file in {path}", f"{certificate} and {key}", _PEM):
        context.load_cert_chain(certificate, key, ask_nobody)
    name = f"tls_server_config.client_ca_file in {path}"
    if (asked.client_ca_file is None) is not (context.verify_mode is ssl.CERT_NONE):
        found = "nothing" if asked.client_ca_file is None else "a file"
        raise SettingsError(name, found, f"what goes with client_auth_type {asked.client_auth_type}")
    if asked.client_ca_file is not None:
        with _usable(name, str(asked.client_ca_file), "a PEM file"):
            context.load_verify_locations(path.parent / asked.client_ca_file)
    return context


def ask_nobody() -> bytes:
    """Stand in for OpenSSL's prompt for a key's password, at which a program would wait on its terminal."""
    raise PermissionError(EACCES, "the key is encrypted")


@contextmanager
def _usable(key: str, found: str, expected: str) -> Generator[None]:
    """Say of an error what the operator should know of it; it may quote what isn't to be shown, and is left out."""
    try:
        yield
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "reason", None)
        raise SettingsError(key, f"{found} ({reason})" if reason else found, expected) from None
