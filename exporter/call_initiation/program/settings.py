"""What an operator can choose: from a TOML file, from the environment, from flags; flags win, then the environment.

Laws: each setting has one name everywhere: `settle` in a file, `CALL_INITIATION_SETTLE` in the environment, `--settle`
on the command line; but the client's credentials are `GENESYS_CLIENT_…` in the environment and no flag, which others
could read. A key that isn't known is refused, with the nearest known one; and so is what is meant to keep others out
where it would not: without what it needs, or empty. An error is one sentence that names the key as its source has it,
what was found there (never a secret) and what was expected.

Only `service` and the commands read settings.
"""

import difflib
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from call_initiation.api import regions
from call_initiation.errors import SettingsError

_PREFIX: Final = "CALL_INITIATION_"
_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600}
_SIZE: Final = re.compile(r"(\d{1,6}) ?(MiB|GiB)", re.ASCII)
_BYTES: Final = {"MiB": 2**20, "GiB": 2**30}
_DURATION: Final = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)([smh]?)", re.ASCII)
_ADDRESS: Final = re.compile(r"(?:\[([0-9a-fA-F:.]+(?:%[\w.-]+)?)\]|([^\s:\[\]/]+)):(\d{1,5})", re.ASCII)
_LARGEST_PORT: Final = 65_535

_KUBERNETES: Final = re.compile(r"_SERVICE_HOST$|_SERVICE_PORT(_\w+)?$|_PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?$")
"""What Kubernetes puts into every container's environment for a Service; here for one called `call-initiation-…`."""

_CREDENTIALS: Final = ("genesys_client_id", "genesys_client_secret")
_GUARDS: Final = ("dialer_secret", "client_ca", "web_config")
"""What keeps others out: no variable of theirs is taken for unset because it is empty."""

_SECRET: Final = re.compile(r"[!-~]([ -~]*[!-~])?")
"""What a header can carry as it is (RFC 9110, section 5.5): blanks at its ends, and an end of line, are lost there."""


class Address(NamedTuple):
    """Where to listen."""

    host: str
    port: int


def address(text: object) -> Address:
    """Return `host:port` or `[IPv6]:port` as an address.

    Raises:
        ValueError: It is neither.
    """
    found = _ADDRESS.fullmatch(text) if isinstance(text, str) else None
    if found is None or int(found[3]) > _LARGEST_PORT:
        raise ValueError(text)
    host = found[1] or found[2]
    host.encode("idna")  # as listening does; what no name can be is a UnicodeError, which is a ValueError
    return Address(host, int(found[3]))


def duration(value: object) -> float:
    """Return `60s`, `5m`, `1h`, or plain seconds as text or number, in seconds.

    Raises:
        ValueError: It is none of these.
    """
    found = None if isinstance(value, bool) else _DURATION.fullmatch(str(value))
    if found is None:
        raise ValueError(value)
    return float(found[1]) * _UNITS[found[2]]


def size(value: object) -> int:
    """Return `64MiB` or `1GiB` in bytes.

    Raises:
        ValueError: It is neither.
    """
    found = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(value)
    return int(found[1]) * _BYTES[found[2]]


def region(value: object) -> str:
    """Return what names an API, as `regions.api_url` takes it.

    Raises:
        ValueError: It names none.
    """
    try:
        regions.api_url(str(value))
    except SettingsError as error:
        raise ValueError(value) from error
    return str(value)


def _header_value(secret: SecretStr) -> SecretStr:
    """Return a secret that dialers can send; no other would ever let one in."""
    if _SECRET.fullmatch(secret.get_secret_value()) is None:
        raise ValueError
    return secret


def _named(path: Path) -> Path:
    """Return a path that names something: an empty text means the current folder to `Path`, and to nobody else."""
    if not path.name:
        raise ValueError(path)
    return path


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


_Path = Annotated[Path, AfterValidator(_named)]


class Settings(BaseSettings):
    """Every setting; a field's description says what is expected of it."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, frozen=True, validate_default=False)

    metrics_listen: Annotated[
        Address, NoDecode, BeforeValidator(address), Field(description="an address to listen on, like 127.0.0.1:9464")
    ] = Address("127.0.0.1", 9464)
    web_config: Annotated[_Path | None, Field(description="the path of a file in Prometheus's web-config format")] = (
        None
    )
    upstream: Annotated[
        str | None, BeforeValidator(region), Field(description="a region like mypurecloud.ie, or its API's https URL")
    ] = None
    listen: Annotated[
        Address, NoDecode, BeforeValidator(address), Field(description="an address to listen on, like 127.0.0.1:8080")
    ] = Address("127.0.0.1", 8080)
    forward_all: Annotated[bool, Field(description="true or false")] = False
    prevent_repeats: Annotated[bool, Field(description="true or false")] = False
    deadline: Annotated[
        float, BeforeValidator(duration), Field(gt=0, le=300, description="a duration above 0, up to 5m")
    ] = 30.0
    dialer_secret: Annotated[
        Annotated[SecretStr, AfterValidator(_header_value)] | None,
        Field(description="a secret that dialers know: printable ASCII, no blank at either end"),
    ] = None
    tls_cert: Annotated[_Path | None, Field(description="the path of a PEM file")] = None
    tls_key: Annotated[_Path | None, Field(description="the path of a PEM file, and tls_cert beside it")] = None
    client_ca: Annotated[_Path | None, Field(description="the path of a PEM file, and tls_cert beside it")] = None
    upstream_ca: Annotated[_Path | None, Field(description="the path of a PEM file")] = None
    settle: Annotated[float, BeforeValidator(duration), Field(le=60, description="a duration up to 60s")] = 2.0
    preset: Annotated[
        Literal["newrelic-us", "newrelic-eu", "newrelic-fedramp"] | None,
        BeforeValidator(_lower),
        Field(description="newrelic-us, newrelic-eu or newrelic-fedramp"),
    ] = None
    journal: Annotated[_Path | None, Field(description="the path of a folder of its own")] = None
    journal_size: Annotated[
        int, BeforeValidator(size), Field(ge=2**20, le=2**36, description="a size from 1MiB to 64GiB")
    ] = 64 * 2**20
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        BeforeValidator(_lower),
        Field(description="debug, info, warning or error"),
    ] = "warning"
    log_format: Annotated[Literal["text", "json"], BeforeValidator(_lower), Field(description="text or json")] = "text"
    genesys_client_id: Annotated[str | None, Field(description="the id of an OAuth client, as text")] = None
    genesys_client_secret: Annotated[SecretStr | None, Field(description="the OAuth client's secret, as text")] = None
    store: Annotated[SecretStr | None, Field(description="the URL of a Redis, as text")] = None

    @field_validator("tls_key", "client_ca")
    @classmethod
    def _has_certificate(cls, path: Path | None, info: ValidationInfo) -> Path | None:
        """Return a file that TLS is spoken with, where TLS is spoken."""
        if info.data.get("tls_cert") is None:
            raise ValueError(path)
        return path

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the names are the base class's
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as above
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as above
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as above
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take values from `load` alone, which knows where each came from."""
        return (init_settings,)


@dataclass(frozen=True, slots=True)
class _Source:
    """Values from one place, and how that place spells a key."""

    values: Mapping[str, Any]
    spell: Callable[[str], str]
    place: str = ""


def load(config: Path | None = None, flags: Mapping[str, object] | None = None) -> Settings:
    """Return the settings.

    Args:
        config: The TOML file; None for none.
        flags: Values from the command line; None values were not given.

    Raises:
        SettingsError: The file can't be read, a key isn't known, or a value can't be used.
    """
    given = {key: value for key, value in (flags or {}).items() if value is not None}
    sources = (
        _Source(_file(config) if config else {}, str, f" in {config}"),
        _Source(_environment(), lambda key: _PREFIX + key.upper()),
        _Source(given, lambda key: f"--{key.replace('_', '-')}"),
    )
    for source in sources:
        _refuse_unknown(source)
    try:
        return Settings(**{key: value for source in sources for key, value in source.values.items()})
    except ValidationError as error:
        key = str(error.errors()[0]["loc"][0])
        source = next(source for source in reversed(sources) if key in source.values)
        raise _unusable(source, key) from None


def _file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))  # some editors begin a file with a mark
    except OSError as error:
        found = f"what can't be read ({(error.strerror or str(error)).lower()})"
    except (ValueError, RecursionError) as error:  # both decoders' errors are ValueErrors
        found = f"what is no TOML ({error})"
    key = f"--config {path}"
    raise SettingsError(key, found, "a TOML file")


def _environment() -> dict[str, Any]:
    """Return the settings that the environment names, and every key of ours that names none."""
    keys = (key.upper().removeprefix(_PREFIX).lower() for key in os.environ if key.upper().startswith(_PREFIX))
    strays = {key: "" for key in keys if key not in Settings.model_fields and not _KUBERNETES.search(key.upper())}
    credentials = {key: os.environ[key.upper()] for key in _CREDENTIALS if os.environ.get(key.upper())}
    found = EnvSettingsSource(Settings)()
    given = {key: value for key, value in found.items() if value or key in _GUARDS}
    return strays | given | credentials


def _refuse_unknown(source: _Source) -> None:
    for key in source.values:
        if key not in Settings.model_fields:
            near = difflib.get_close_matches(key, Settings.model_fields, n=1, cutoff=0.0)[0]
            expected = f"another one, perhaps {source.spell(near)}"
            raise SettingsError(source.spell(key) + source.place, "a key that isn't known", expected)


def _unusable(source: _Source, key: str) -> SettingsError:
    field = Settings.model_fields[key]
    value = source.values[key]
    value = str(value) if isinstance(value, Path) else value
    is_hidden = value and (_is_secret(field.annotation) or "@" in str(value))  # a URL may hold a password
    found = "a value that is not shown" if is_hidden else repr(value)
    return SettingsError(source.spell(key) + source.place, found, str(field.description))


def _is_secret(annotation: object) -> bool:
    return "SecretStr" in str(annotation)
