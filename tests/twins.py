"""Twin runs: the same scenario once with a bare client and once with the exporter around it, compared.

A scenario is written once and runs through four doors: httpx and httpx2, sync and async. It returns all that its
caller could observe; a twin run demands that both runs return the same.
"""

import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import httpx
import httpx2

from call_initiation import Exporter
from call_initiation.events import Attempt, Event

CALLS = "/api/v2/conversations/calls"
OTHER = "/api/v2/users/me"
PAYLOAD = {"phoneNumber": "+33199000000"}


_ADDRESS = re.compile(r"\b(?:0x)?[0-9a-f]{8,}\b")
"""What differs from run to run: where an object lies in memory (anyio's cancellations name their scope so)."""

TRUST = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Trusts nobody; shared, for reading the system's certificates anew for every client takes longer than most tests."""


@dataclass(frozen=True)
class Door:
    """One way into a library: its module, and whether its clients are async."""

    module: ModuleType
    is_async: bool

    def __str__(self) -> str:
        """Name it for pytest."""
        return f"{self.module.__name__}-{'async' if self.is_async else 'sync'}"

    def client(self, **options: Any) -> Any:
        """Return a client that the environment doesn't touch."""
        made = self.module.AsyncClient if self.is_async else self.module.Client
        return made(**{"trust_env": False, "verify": TRUST, **options})

    def transport(self, **options: Any) -> Any:
        """Return the library's own transport."""
        made = self.module.AsyncHTTPTransport if self.is_async else self.module.HTTPTransport
        return made(**{"trust_env": False, "verify": TRUST, **options})

    async def do(self, thing: Any, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method that comes in two colours: `read` is `aread` of an async door, and so on."""
        if not self.is_async:
            return getattr(thing, method)(*args, **kwargs)
        return await getattr(thing, _ASYNC.get(method, method))(*args, **kwargs)

    async def each(self, response: Any, how: str, *args: Any) -> AsyncIterator[Any]:
        """Iterate over a response by `iter_raw` and its kin."""
        if self.is_async:
            async for piece in getattr(response, f"a{how}")(*args):
                yield piece
        else:
            for piece in getattr(response, how)(*args):
                yield piece


_ASYNC = {"read": "aread", "close": "aclose", "__enter__": "__aenter__", "__exit__": "__aexit__"}

DOORS = tuple(Door(module, is_async) for module in (httpx, httpx2) for is_async in (False, True))


@dataclass
class Listed:
    """A sink that keeps what it is told."""

    events: list[Event] = field(default_factory=list[Event])

    def record(self, event: Event) -> None:
        """Take one event."""
        self.events.append(event)

    @property
    def attempts(self) -> list[Attempt]:
        """The calls among them."""
        return [event for event in self.events if isinstance(event, Attempt)]


def listening(**options: Any) -> tuple[Exporter, Listed]:
    """Return an exporter that records at once, and a sink that lists what it recorded."""
    exporter, listed = Exporter(settle=0, **options), Listed()
    exporter._sinks["test"] = listed
    return exporter, listed


Equip = Callable[[Any], Any]
Scenario = Callable[[Door, Equip, str], Awaitable[Any]]


async def twins(scenario: Scenario, door: Door, url: str) -> list[Attempt]:
    """Run a scenario twice, demand that nothing differs, and return what the exporter recorded of the second run."""
    bare = await scenario(door, _bare, url)
    exporter, listed = listening()
    with exporter:
        wrapped = await scenario(door, exporter.instrument, url)
        assert exporter.flush()
        assert bare == wrapped, f"\nbare:    {bare}\nwrapped: {wrapped}"
        assert not faults(exporter)
    return listed.attempts


def faults(exporter: Exporter) -> dict[str, float]:
    """Return how many faults of our own were counted, by stage."""
    (family,) = [f for f in exporter.aggregate.snapshot() if f.metric.name == "call_initiation.internal_errors"] or [
        None
    ]
    return {labels[0]: number.value for labels, number in family.numbers.items()} if family else {}


def _bare(client: Any) -> Any:
    return client


def seen(response: Any) -> dict[str, Any]:
    """Return all that a response says without being read any further."""
    request = response.request
    return {
        "status": (response.status_code, response.reason_phrase, response.http_version),
        "headers": response.headers.raw,
        "url": str(response.url),
        "progress": (response.is_closed, response.is_stream_consumed, response.num_bytes_downloaded),
        "extensions": sorted(response.extensions),
        "encoding": (response.encoding, response.charset_encoding, response.default_encoding),
        "cookies": sorted(response.cookies.items()),
        "links": response.links,
        "history": [seen(earlier) for earlier in response.history],
        "next": response.next_request and (response.next_request.method, str(response.next_request.url)),
        "kinds": (type(response), type(response.stream), type(request), type(request.stream)),
        "request": (request.method, str(request.url), request.headers.raw),
        "request_extensions": request.extensions,
        "content": getattr(response, "_content", None),
        "is_timed": hasattr(response, "_elapsed"),
    }


def raised(error: BaseException | None, depth: int = 6) -> Any:
    """Return all that an exception says, its causes included."""
    if error is None or not depth:
        return None
    request = getattr(error, "_request", None)
    return {
        "type": type(error),
        "args": [_ADDRESS.sub("", str(argument)) for argument in error.args],
        "notes": getattr(error, "__notes__", []),
        "request": request and (request.method, str(request.url), type(request.stream)),
        "cause": raised(error.__cause__, depth - 1),
        "context": raised(error.__context__, depth - 1),
        "suppressed": error.__suppress_context__,
    }
