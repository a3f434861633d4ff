"""The exporter as a library: one object that observes the calls of any number of httpx clients.

It touches nothing global: no global provider, no default registry, no patched class. Nothing listens unless a port
is asked for, and nothing is sent unless the environment names a collector or a provider is handed over.
"""

import atexit
import os
import weakref
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path
from secrets import token_bytes
from time import monotonic, perf_counter_ns, time_ns
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from opentelemetry import trace
from opentelemetry._logs import LoggerProvider
from opentelemetry.metrics import MeterProvider
from opentelemetry.sdk._logs.export import LogRecordExporter
from opentelemetry.sdk.metrics.export import MetricExporter
from opentelemetry.sdk.trace.export import SpanExporter
from prometheus_client import CollectorRegistry

from call_initiation import catalogue, log
from call_initiation.agents import timeline
from call_initiation.agents.agents import Agents
from call_initiation.agents.users import user_id
from call_initiation.calls import client, endpoints
from call_initiation.calls.endpoints import Duplicates
from call_initiation.calls.observation import Observation, Recording, StreamObservation, Streams
from call_initiation.catalogue import Metric
from call_initiation.errors import ListenError, SettingsError
from call_initiation.events import (
    AgentState,
    Attempt,
    Event,
    Ledger,
    Presence,
    RoutingStatus,
    Sink,
    StateLabel,
)
from call_initiation.journal.backlog import SMALLEST, Files
from call_initiation.journal.in_flight import InFlight
from call_initiation.journal.journal import Journal
from call_initiation.pages.pages import Guard, Listener, stand_open
from call_initiation.privacy import KeyedHash
from call_initiation.recording import updates
from call_initiation.recording.aggregate import Aggregate, Labels
from call_initiation.recording.assessment import Assessor
from call_initiation.recording.recent import Recent
from call_initiation.recording.recorder import Recorder, Takeover
from call_initiation.recording.updates import StateUpdate, Told
from call_initiation.telemetry import collector, presets, prometheus
from call_initiation.telemetry.pipelines import Pipelines

if TYPE_CHECKING:
    from call_initiation.feed.feed import FeedThread, Run

__version__: Final = metadata.version("call-initiation-exporter")

JOURNAL_SIZE: Final = 64 * 1_048_576
"""Bytes that may wait in a journal, unless something else is said."""

Client = TypeVar("Client")

_logger = log.Log()


class Exporter:
    """Observes call starts, tags each with its outcome and its agent's state, and exports what it saw.

    Args:
        registry: The Prometheus registry to appear in until it is closed; a registry of its own by default.
        prometheus_port: Where to serve `/metrics`; nothing listens without it. 0 takes any free port.
        prometheus_address: The address to serve it on.
        settle: Seconds that a call waits, after its end, for state changes that took effect before it.
        capacity: How many calls may wait to be recorded.
        tracer_provider: A dialer's own pipeline for spans; else OTLP by the standard `OTEL_*` variables.
        meter_provider: A dialer's own pipeline for metrics; else OTLP by the standard `OTEL_*` variables.
        logger_provider: A dialer's own pipeline for events; else OTLP by the standard `OTEL_*` variables.
        span_exporter: Where our own pipeline sends spans, instead of OTLP; flushed and shut down with us.
        metric_exporter: The same for metrics; the temporality and the histograms that it prefers win over `OTEL_*`.
        log_record_exporter: The same for events.
        event_attributes: Attributes to put on every failure event besides its own.
        preset: What a backend wants, by name: `newrelic-us`, `newrelic-eu` or `newrelic-fedramp`. The standard
            `OTEL_*` variables win over it. The license key is in `NEW_RELIC_LICENSE_KEY`, or in the file that
            `NEW_RELIC_LICENSE_KEY_FILE` names.
        journal: A folder in which failures wait for our own pipelines, and from which a later exporter takes over what
            waits there, and the calls that were under way when a process was killed. Several processes may share it.
        journal_size: How many bytes may wait there, from 1 MiB on; beyond, the oldest are dropped.

    Raises:
        SettingsError: An argument or a standard variable can't be used.
    """

    def __init__(  # noqa: PLR0913 - one keyword for each thing that can be chosen
        self,
        *,
        registry: CollectorRegistry | None = None,
        prometheus_port: int | None = None,
        prometheus_address: str = "127.0.0.1",
        settle: float = 2.0,
        capacity: int = 10_000,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        logger_provider: LoggerProvider | None = None,
        span_exporter: SpanExporter | None = None,
        metric_exporter: MetricExporter | None = None,
        log_record_exporter: LogRecordExporter | None = None,
        event_attributes: dict[str, str] | None = None,
        preset: str | None = None,
        journal: str | os.PathLike[str] | None = None,
        journal_size: int = JOURNAL_SIZE,
    ) -> None:
        _check(settle=settle, capacity=capacity, journal_size=journal_size)
        self.registry = registry or CollectorRegistry()
        environment = presets.environment(preset)
        is_exported = meter_provider is None and collector.metrics(metric_exporter, environment) is not None
        is_exponential = is_exported and collector.is_exponential(environment, metric_exporter)
        self.aggregate = Aggregate(is_exponential=is_exponential)
        self.agents = Agents()
        self._states_shown: set[StateLabel] = set()
        self._offset_ns = timeline.start(time_ns, perf_counter_ns)
        self._recent = Recent(partial(self.aggregate.numbers, catalogue.ATTEMPTS))
        files = None if journal is None else Files(journal_size)
        self._pipelines = Pipelines(self.aggregate.snapshot, environment, __version__, files)
        self._tracing = self._pipelines.spans(tracer_provider, span_exporter)
        extra = presets.event_attributes(preset) | (event_attributes or {})
        self._pipelines.events(logger_provider, log_record_exporter, extra)
        self._pipelines.metrics(meter_provider, metric_exporter)
        self._deliveries = self._pipelines.deliveries
        self._sinks: dict[str, Sink] = {
            "recent": self._recent,  # first: it looks at what the next one counts
            "metrics": self.aggregate,
            **self._pipelines.sinks,
        }
        self._hashes = KeyedHash(token_bytes(32))
        self._assessor = Assessor(self.agents, self._hashes, self._offset_ns, self._count_fault, Duplicates())
        self._feed: FeedThread | None = None
        self._recorder = Recorder(
            self._assess,
            self._apply,
            self._sinks,
            self._count_fault,
            self._tidy,
            settle=settle,
            capacity=capacity,
        )
        self._recording: Recording = self._recorder
        self._collector = prometheus.register(self.registry, self.aggregate.snapshot)
        self._journal: Journal | None = None
        if journal is not None and files is not None:
            self._keep_journal(Path(journal), files)
        self.aggregate.add_source(self._accounts)
        self._is_closed = False
        self._at_exit = _weakly(self, "close")
        atexit.register(self._at_exit)
        os.register_at_fork(after_in_child=_weakly(self, "_after_fork"))
        self._pipelines.start()
        self._listener = self._listen(prometheus_address, prometheus_port)

    # -- for the dialer ---------------------------------------------------------------------------------------------

    def instrument(self, http_client: Client) -> Client:
        """Observe the calls of an httpx or httpx2 client, sync or async; twice is once.

        Returns:
            The same client.

        Raises:
            InstrumentError: It is no such client.
        """
        client.instrument(http_client, self)
        return http_client

    def agent_state(  # noqa: PLR0913 - one keyword for each part of a state
        self,
        agent_id: str,
        *,
        presence: Presence | str | None = None,
        routing_status: RoutingStatus | str | None = None,
        on_call: int | None = None,
        wrap_up: int | None = None,
        station: str | None = None,
        out_of_office: bool | None = None,
        since: float | None = None,
    ) -> None:
        """Tell what the dialer was told of an agent; parts left out stay as they were.

        Args:
            agent_id: The agent's user id.
            presence: The system presence, in any of the API's spellings.
            routing_status: The routing status, in any of the API's spellings.
            on_call: How many calls the agent is on.
            wrap_up: How many calls are in after-call work.
            station: The effective station's id; an empty text for none.
            out_of_office: Whether the agent is marked as out of office.
            since: When the change took effect, seconds since the epoch; now by default.
        """
        state = AgentState(
            presence=Presence.spelled(presence),
            routing_status=RoutingStatus.spelled(routing_status),
            on_call=on_call,
            wrap_up=wrap_up,
            station=station,
            out_of_office=out_of_office,
        )
        self._recorder.update(StateUpdate(user_id(agent_id), state, self.now() if since is None else since))

    def follow_agents(  # noqa: PLR0913 - one keyword for each thing that can be chosen
        self,
        *,
        region: str,
        agent_ids: Iterable[str] = (),
        queue_ids: Iterable[str] = (),
        group_ids: Iterable[str] = (),
        as_seen: bool = False,
        client_id: str | None = None,
        client_secret: str | None = None,
        resolve_token_users: bool = True,
        store: str | None = None,
        ca: str | Path | None = None,
    ) -> None:
        """Keep agents' states current, in a thread of its own: nothing waits for it, and what fails shows in metrics.

        Args:
            region: A region's name, domain or URL, as `regions.api_url` takes it.
            agent_ids: Users to follow.
            queue_ids: Queues whose members to follow.
            group_ids: Groups whose members to follow.
            as_seen: Follow whoever places a call, from the first one on; the first one itself stays `stale`.
            client_id: Of our own OAuth client; else from `GENESYS_CLIENT_ID`, or from a file that
                `GENESYS_CLIENT_ID_FILE` names.
            client_secret: The same with `GENESYS_CLIENT_SECRET`.
            resolve_token_users: Find out who places the calls that name no agent, by reading `users/me` with the
                call's own token. It is sent once, to the very host that the call went to, only if that is the region's
                API, and to nobody else; it isn't kept.
            store: Where Redis or Valkey is (`redis://` or `rediss://`), for exporters that share one set of channels:
                one of them follows for all that name the same store, region and client. Agents' ids and states go
                there, and nothing of calls.
            ca: A PEM file of who vouches for the API's hosts in place of the usual authorities, and for notifications'
                sockets besides them.

        Raises:
            SettingsError: An argument can't be used, credentials are missing, aiohttp (or, for a store, redis) isn't
                installed, agents are followed already, or the exporter is closed.
        """
        from call_initiation.api import sockets  # noqa: PLC0415 - httpx and asyncio, which not every dialer has
        from call_initiation.feed import access, feed, follow  # noqa: PLC0415 - httpx and asyncio, which not every dialer has

        if self._is_closed:
            raise SettingsError("follow_agents", "a closed exporter", "one that is open")
        if self._feed is not None:
            raise SettingsError("follow_agents", "a second call", "one call that names all agents")
        sockets.require_aiohttp()
        following = follow.Following(_listed(agent_ids), _listed(queue_ids), _listed(group_ids), as_seen)
        way = access.Access.find(region, client_id, client_secret, None if ca is None else Path(ca))
        port = feed.Port(self.now, self._tell, self._recorder.fault)
        hashes = self._hashes if resolve_token_users else None
        run = feed.serve if store is None else _sharing(store)
        self._feed = feed.FeedThread(way, following, port, hashes, run)
        self._attend(self._feed)
        self._feed.start()

    def listener(self, address: str, port: int, guard: Callable[[], Guard] = stand_open) -> Listener:
        """Serve `/metrics` and the page there, besides what `prometheus_port` asked for; the caller closes it.

        Raises:
            ListenError: The address can't be had.
        """
        return Listener(self.registry, self.aggregate.snapshot, self._recent, address, port, guard=guard)

    def flush(self, timeout: float = 5.0) -> bool:
        """Record and export all that waits, settled or not; tell whether `timeout` seconds sufficed."""
        deadline = monotonic() + timeout
        is_recorded = self._recorder.flush(timeout)
        # Each has its turn, whatever became of the one before it.
        return all([is_recorded, *(d.flush(max(0.0, deadline - monotonic())) for d in self._deliveries)])

    def close(self, timeout: float = 1.2) -> None:
        """Record and export what `timeout` seconds suffice for; the rest is dropped and counted. Once is enough."""
        if self._is_closed:
            return
        self._is_closed = True
        atexit.unregister(self._at_exit)
        deadline = monotonic() + timeout
        if self._feed is not None:
            self._feed.stop()
        self._recorder.close(timeout / 2)
        for delivery in self._deliveries:
            delivery.hurry()
        for delivery in self._deliveries:
            delivery.close(max(0.0, deadline - monotonic()))
        if self._journal is not None:
            self._journal.close()
        if self._feed is not None:
            self._feed.join(max(0.0, deadline - monotonic()))
        if self._listener is not None:
            self._listener.close()
        self.registry.unregister(self._collector)

    def ledgers(self) -> dict[str, Ledger]:
        """Return the accounts of each stage; for each, `recorded == exported + pending + dropped`."""
        journaled = {} if self._journal is None else {"in_flight": self._journal.ledger()}
        return {**self._recorder.ledgers(), **journaled, **{d.stage: d.ledger() for d in self._deliveries}}

    def now(self) -> float:
        """Return the time on the timeline on which states and sends are compared, in seconds since the epoch."""
        return (self._offset_ns + perf_counter_ns()) / 1e9

    @property
    def metrics_url(self) -> str | None:
        """Where `/metrics` is served; None where nothing listens."""
        return None if self._listener is None else self._listener.url

    def __enter__(self) -> Self:
        """Return the exporter itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    # -- for the transports -------------------------------------------------------------------------------------------

    def observe(self, request: Any, streams: Streams) -> Observation | None:
        """Return the observation of a request, or None for one that starts no call; never raises."""
        try:
            endpoint = endpoints.match(request.method, request.url.raw_path)
            if endpoint is None:
                return None
            kind = streams.of_bytes if isinstance(request.stream, streams.byte_stream) else StreamObservation
            observation = kind(endpoint, request, streams, self._tracing, self._recording)
        except Exception:  # noqa: BLE001 - a fault of ours must not become the call's
            self._recorder.fault("observe")
            return None
        if self._journal is not None:
            self._journal.begin(observation)
        return observation

    # -- how it is put together ---------------------------------------------------------------------------------------

    def _keep_journal(self, folder: Path, files: Files) -> None:
        """Let failures wait in a folder, and note there the calls under way."""
        in_flight = InFlight(self._recorder, self._token_user)
        self._journal = Journal(
            folder,
            files,
            in_flight,
            beside=self._pipelines.journaled,
            resource=self._pipelines.resource,
            take_over=lambda: self._recorder.update(Takeover()),
        )
        self._recording = in_flight
        self._sinks["journal"] = self._journal
        self._journal.open()

    def _token_user(self, observation: Observation) -> str | None:
        """Return whose the token of a call is, where the feed, which may begin later, knows it."""
        return self._assessor.token_user(observation)

    def _assess(self, observation: Observation) -> Attempt:
        if self._journal is not None:
            self._journal.expect(observation)
        return self._assessor.assess(observation)

    def _tidy(self) -> None:
        self._assessor.forget()
        if self._journal is not None:
            self._journal.turn()
        self._pipelines.start()  # what could have no thread before
        self._count_agents()
        for _ in range(log.lost()):
            self._count_fault("log")

    def _listen(self, address: str, port: int | None) -> Listener | None:
        """Serve `/metrics`; a port that is taken is a warning, for the dialer must run on."""
        if port is None:
            return None
        try:
            return self.listener(address, port)
        except ListenError as error:
            _logger.warning("no metrics are served: %s", error)
            return None

    def _apply(self, told: Told | Takeover) -> Iterable[Event]:
        if isinstance(told, Takeover):
            return () if self._journal is None else self._journal.inherited()
        return updates.apply(told, self.agents)

    def _tell(self, told: Told) -> bool:
        """Take what the feed tells, until the end: what it says of its own end concerns nobody any more."""
        return not self._is_closed and self._recorder.update(told)

    def _attend(self, feed: "FeedThread") -> None:
        """Let the feed know of calls, and say whose their tokens are."""
        self._assessor.token_user = feed.callers.of_token
        self._recorder.foresee(feed.notice)

    def _count_agents(self) -> None:
        """Set the gauge of agents by state; on the recorder's thread, which alone may touch them."""
        now = self.agents.current()
        for state in now.keys() | self._states_shown:
            self.aggregate.gauge(catalogue.AGENTS, (state.value,), now[state])
        self._states_shown |= now.keys()

    def _count_fault(self, stage: str) -> None:
        self.aggregate.count(catalogue.INTERNAL_ERRORS, (stage,))

    def _accounts(self) -> Iterable[tuple[Metric, Labels, float]]:
        yield catalogue.BUILD_INFO, (__version__,), 1.0
        for stage, ledger in self.ledgers().items():
            yield catalogue.RECORDER_RECORDED, (stage,), ledger.recorded
            yield catalogue.RECORDER_EXPORTED, (stage,), ledger.exported
            yield catalogue.RECORDER_PENDING, (stage,), ledger.pending
            if ledger.recovered:
                yield catalogue.RECORDER_RECOVERED, (stage,), ledger.recovered
            for reason, count in ledger.dropped.items():
                yield catalogue.RECORDER_DROPPED, (stage, reason), count

    def _after_fork(self) -> None:
        """In a forked child: threads, locks and counts of its own; what the parent holds is the parent's to export."""
        if self._is_closed:
            return
        self.aggregate.reset()
        self._recent.reset()
        self._recorder.reset()
        if self._journal is not None:
            self._journal.reset()
        self._pipelines.reset()
        if self._journal is not None:
            self._journal.retry()  # now, for no call is to wait for it; and last, for it hands on what it finds
        if self._feed is not None:
            # A child's feed begins with its first call: a child that places none needs no channel.
            self.agents.suspend(self.now())
            self._feed = self._feed.anew()
            self._attend(self._feed)
        if self._listener is not None:
            self._listener.abandon()
            self._listener = None


def _listed(ids: Iterable[str]) -> Sequence[str]:
    return ids if isinstance(ids, str) else tuple(ids)


def _sharing(url: str) -> "Run":
    from call_initiation.sharing import keyspace, store  # noqa: PLC0415 - as little as the dialer needs

    keyspace.require_redis(url)
    return store.shared(url)


def _check(*, settle: float, capacity: int, journal_size: int) -> None:
    if not 0 <= settle <= 60:  # noqa: PLR2004 - the bound stands in the message
        raise SettingsError("settle", repr(settle), "seconds from 0 to 60")
    if capacity < 1:
        raise SettingsError("capacity", repr(capacity), "a whole number above 0")
    if journal_size < SMALLEST:
        raise SettingsError("journal_size", repr(journal_size), "bytes from 1 MiB (1048576) on")


def _weakly(exporter: Exporter, method: str) -> Any:
    """Return a function that calls a method as long as the exporter lives, and doesn't keep it alive."""
    reference = weakref.ref(exporter)

    def call() -> None:
        if (alive := reference()) is not None:
            getattr(alive, method)()

    return call
