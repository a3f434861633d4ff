"""The composition root: builds what a command runs, starts it, drains it, stops it.

Laws: what was started last is stopped first; no new call is started once the end has come, and the calls under way
are waited for; the recorder closes after the last call and the last state change, so that both are recorded, and
before the organisation that it hears of them from; the listener closes last, so that a scrape may still see them.
"""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, Generator, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from time import time
from typing import Final
from urllib.parse import urlsplit

import httpx
from opentelemetry.sdk.trace import TracerProvider
from pydantic import SecretStr

from call_initiation.agents.readiness import Standing, standing
from call_initiation.agents.users import as_text, user_id
from call_initiation.api.genesys import GenesysApi
from call_initiation.api.pacing import Budget
from call_initiation.api.tokens import Tokens
from call_initiation.errors import ListenError
from call_initiation.exporter import Exporter
from call_initiation.feed.access import Access
from call_initiation.pages.health import feed_health
from call_initiation.pages.pages import Listener
from call_initiation.pages.webconfig import guard
from call_initiation.program.settings import Address, Settings
from call_initiation.program.sidecar import Sidecar, plan, sidecar
from call_initiation.simulator.dialer import Dialer
from call_initiation.simulator.org import CLIENT_ID, CLIENT_SECRET, Behaviour, Organisation
from call_initiation.simulator.server import Server
from call_initiation.telemetry import collector, presets
from call_initiation.telemetry.collector import Signal

AGENTS: Final = 500
"""How many agents the demonstration has: as many as one notification channel tells of, calls included."""

PACE: Final = 10.0
"""How many times faster than real ones they live, so that two of five calls, at 20 a second, find one who is free."""

_LOOK: Final = 0.05  # seconds between looks at whether the agents' states are known
_LAST_NEWS: Final = 0.2  # seconds for what changed up to the last call to be heard of
_PORTS: Final = 20
_CREDENTIALS_FILES: Final = ("GENESYS_CLIENT_ID_FILE", "GENESYS_CLIENT_SECRET_FILE")
_DRAIN: Final = 0.7  # seconds for a collector to take what waits; the whole end may take 2


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A running demonstration.

    Attributes:
        exporter: What observes the calls.
        organisation: What answers them, and knows the truth.
        url: Where the page is; `/metrics` is below it.
        organisation_url: Where the pretend organisation is.
        notices: What the operator should know besides, one sentence each.
    """

    exporter: Exporter
    organisation: Organisation
    url: str
    organisation_url: str
    notices: tuple[str, ...]


@asynccontextmanager
async def demonstration(settings: Settings, *, seed: int, rate: float) -> AsyncGenerator[Demonstration]:
    """Run a pretend organisation, a dialer that places calls there, and an exporter that observes it; all on loopback.

    Raises:
        ListenError: The address for metrics was chosen, and can't be had.
        SettingsError: The web-config file, or one of the standard `OTEL_*` variables, can't be used.
    """
    async with AsyncExitStack() as stack:
        exporter = stack.enter_context(_exporter(settings))
        listener = stack.enter_context(_listening(exporter, settings))
        organisation = Organisation(seed, AGENTS, exporter.now(), behaviour=Behaviour(pace=PACE))
        server = await stack.enter_async_context(Server(organisation, clock=exporter.now))
        stack.push_async_callback(asyncio.to_thread, exporter.close, _DRAIN)
        stack.push_async_callback(asyncio.sleep, _LAST_NEWS)
        _follow(exporter, server)
        client = await stack.enter_async_context(httpx.AsyncClient(base_url=server.url, trust_env=False))
        dialer = Dialer(exporter.instrument(client), organisation.agent_ids, seed, rate)
        await stack.enter_async_context(_dialling(dialer, exporter))
        notices = (*_moved(settings, listener), *_collected(presets.environment(settings.preset)))
        yield Demonstration(exporter, organisation, listener.url, server.url, notices)


@asynccontextmanager
async def simulation(address: Address, *, seed: int, agents: int) -> AsyncGenerator[Server]:
    """Run a pretend organisation alone.

    Raises:
        ListenError: The address can't be had.
    """
    async with Server(Organisation(seed, agents, started=time()), *address) as server:
        yield server


@asynccontextmanager
async def serving(settings: Settings) -> AsyncGenerator[Sidecar]:
    """Run the gateway; it follows the agents who place calls where an OAuth client is set.

    Raises:
        ListenError: An address can't be had.
        SettingsError: The upstream or a part of what following takes isn't set, or a certificate or one of the `OTEL_*`
            variables can't be used.
    """
    plan(settings)  # so that a mistake is told before anything has begun
    with _exporter(settings) as exporter:
        if settings.upstream is not None and _is_to_follow(settings):
            exporter.follow_agents(
                region=settings.upstream,
                as_seen=True,
                client_id=settings.genesys_client_id,
                client_secret=_shown(settings.genesys_client_secret),
                store=_shown(settings.store),
                ca=settings.upstream_ca,
            )
        async with sidecar(settings, exporter) as running:
            yield running


def _is_to_follow(settings: Settings) -> bool:
    """Tell whether anything that only following takes is set: who sets a part of it is told of the other."""
    named = (settings.genesys_client_id, settings.genesys_client_secret, settings.store)
    return any(named) or any(os.environ.get(file) for file in _CREDENTIALS_FILES)


def _shown(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


async def standings(access: Access, agent_ids: Iterable[str]) -> list[Standing]:
    """Read agents once, and return how each stands, in the order in which they are named.

    Raises:
        UpstreamError: They can't be read.
    """
    ids = list(dict.fromkeys(map(user_id, agent_ids)))
    context, _ = access.contexts()
    async with httpx.AsyncClient(trust_env=False, verify=context) as client:
        tokens = Tokens(access.credentials, access.login_url, client)
        api = GenesysApi(client, tokens, access.api_url, Budget())
        users = {as_text(user.get("id")): user async for user in api.users(ids)}
    return [standing(agent_id, users.get(agent_id)) for agent_id in ids]


@contextmanager
def ended_by_signals() -> Generator[asyncio.Event]:
    """Yield an event that SIGINT and SIGTERM set; they do nothing else while the event loop runs."""
    loop, end = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end.set)
    yield end


async def is_over(end: asyncio.Event, within: float) -> bool:
    """Wait for `end` for at most so many seconds; tell whether it has come."""
    with suppress(TimeoutError):
        await asyncio.wait_for(end.wait(), within)
    return end.is_set()


def _exporter(settings: Settings) -> Exporter:
    """Make the exporter; where no collector takes spans they end here, but exemplars still show their ids."""
    environment = presets.environment(settings.preset)
    collector.check(environment)
    is_sent = collector.is_on(Signal.TRACES, environment)
    provider = None if is_sent else TracerProvider(shutdown_on_exit=False)
    return Exporter(
        settle=settings.settle,
        tracer_provider=provider,
        preset=settings.preset,
        journal=settings.journal,
        journal_size=settings.journal_size,
    )


@contextmanager
def _listening(exporter: Exporter, settings: Settings) -> Generator[Listener]:
    listener = _listener(exporter, settings)
    try:
        yield listener
    finally:
        listener.close()


def _listener(exporter: Exporter, settings: Settings) -> Listener:
    """Listen where the operator chose to; where nobody chose, on the next port that is free."""
    (host, port), guarded = settings.metrics_listen, guard(settings.web_config)
    try:
        return exporter.listener(host, port, guarded)
    except ListenError:
        others = () if "metrics_listen" in settings.model_fields_set else range(port + 1, port + _PORTS)
        for other in others:
            with suppress(ListenError):
                return exporter.listener(host, other, guarded)
        raise


def _follow(exporter: Exporter, server: Server) -> None:
    """Follow all agents; each call names its own, so no token has to be asked about."""
    exporter.follow_agents(
        region=server.url,
        agent_ids=server.organisation.agent_ids,
        client_id=CLIENT_ID,
        client_secret=CLIENT_SECRET,
        resolve_token_users=False,
    )


@asynccontextmanager
async def _dialling(dialer: Dialer, exporter: Exporter) -> AsyncGenerator[None]:
    """Place calls once the agents' states are known; at the end, wait for the calls under way."""
    end = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_dial(dialer, exporter, end))
        yield
        end.set()


async def _dial(dialer: Dialer, exporter: Exporter, end: asyncio.Event) -> None:
    while not feed_health(exporter.aggregate.snapshot()).is_up:
        if await is_over(end, _LOOK):
            return
    await dialer.run(end)


def _moved(settings: Settings, listener: Listener) -> Iterator[str]:
    port = settings.metrics_listen.port
    if urlsplit(listener.url).port != port and port:
        yield f"Port {port} is taken, so the metrics are on {urlsplit(listener.url).port}."


def _collected(environment: Mapping[str, str]) -> Iterator[str]:
    """Say what goes to a collector, and where; credentials in its URL are nobody's business."""
    for exported in Signal:
        if collector.is_on(exported, environment):
            keys = (f"OTEL_EXPORTER_OTLP_{exported}_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
            endpoint = urlsplit(next((environment[key] for key in keys if environment.get(key)), ""))
            yield f"OTLP: {exported.lower()} go to {endpoint.netloc.rpartition('@')[2] or 'the default endpoint'} too."
