"""What a backend wants that isn't OpenTelemetry's default, under one name.

A preset is data: standard `OTEL_*` variables, and what to put on failure events. Laws: a variable that the operator has
set wins; nothing is written to the process's own environment, so no child inherits the key from us; nothing shows the
key.

New Relic's wishes are those of its OTLP page (docs.newrelic.com, "New Relic OTLP endpoint"): HTTP with protobuf, gzip,
deltas, exponential histograms, payloads below 10**6 bytes. A batch of ours stays below that uncompressed, whatever the
calls were. Its limits on attributes (4,095 characters, 64 in an array, 64 to a record) hold for any backend: a message
is cut at 1,000 characters, a body's codes at 16, and there are fewer than 64 attributes.
"""

import os
import re
from collections.abc import Mapping
from typing import Final

from call_initiation.errors import SettingsError
from call_initiation.secret import secret

LICENSE_KEY: Final = "NEW_RELIC_LICENSE_KEY"
"""What New Relic's agents and its guides for OpenTelemetry call the key that data are sent with.

`NEW_RELIC_API_KEY` is another key, a user's, with which its command line and its Terraform provider make dashboards.
"""

HOSTS: Final = {
    "newrelic-us": "https://otlp.nr-data.net",
    "newrelic-eu": "https://otlp.eu01.nr-data.net",
    "newrelic-fedramp": "https://gov-otlp.nr-data.net",
}
"""Where each preset sends to."""

EVENT_TYPE: Final = "CallInitiationError"
"""The type of custom event that each failure becomes in New Relic."""

_HEADERS: Final = "OTEL_EXPORTER_OTLP_HEADERS"
_FIT: Final = re.compile(r"[A-Za-z0-9_-]{8,}")
_USERS: Final = "NRAK-"


class Environment(dict[str, str]):
    """Variables by name; `repr` shows names alone, for some hold keys."""

    def __repr__(self) -> str:
        """Show the names."""
        return f"{type(self).__name__}({', '.join(sorted(self))})"


def variables(name: str) -> dict[str, str]:
    """Return what a preset sets, without the key.

    Raises:
        SettingsError: There is no such preset.
    """
    if name not in HOSTS:
        raise SettingsError("preset", repr(name), f"one of {', '.join(HOSTS)}")
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": HOSTS[name],
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
        "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "delta",
        "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION": "base2_exponential_bucket_histogram",
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "64",
    }


def event_attributes(name: str | None) -> dict[str, str]:
    """Return what a preset puts on failure events."""
    return {} if name is None else {"newrelic.event.type": EVENT_TYPE}


def environment(name: str | None, environ: Mapping[str, str] = os.environ) -> Mapping[str, str]:
    """Return the environment with what a preset sets where it says nothing.

    An empty variable says nothing (OpenTelemetry specification, "Environment Variable Specification"). The key is the
    value of `NEW_RELIC_LICENSE_KEY`, or stands in the file that `NEW_RELIC_LICENSE_KEY_FILE` names; it isn't looked for
    where `OTEL_EXPORTER_OTLP_HEADERS` is set.

    Raises:
        SettingsError: There is no such preset, or no key that could be one.
    """
    if name is None:
        return environ
    wished = variables(name)
    if not environ.get(_HEADERS):
        wished[_HEADERS] = f"api-key={_key(environ)}"
    return Environment({**wished, **{key: value for key, value in environ.items() if value}})


def _key(environ: Mapping[str, str]) -> str:
    key = secret(LICENSE_KEY, environ)
    if key.startswith(_USERS):
        raise SettingsError(LICENSE_KEY, f"a user's key ({_USERS}…)", "a license key, with which data are sent")
    if not _FIT.fullmatch(key):
        raise SettingsError(LICENSE_KEY, "a value that is not shown", "a license key: letters and digits alone")
    return key
