"""The gateway: a process beside a dialer in any language, through which its calls are placed and observed.

Promises:

1. At most one send. A request is taken in whole before anything is opened, written once, and never again.
2. A dialer that leaves before its call was sent has placed no call; one that leaves after is not waited with: the call
   comes to its end, and is recorded once.
3. A call that was sent is always answered: 502 or 504 where the API gave no whole answer, never a broken connection,
   which some SDKs answer with the same POST again. Answers are taken in whole before they are passed on; only one
   that is larger than 256 KiB, as no call's is, is passed on while it comes.
4. Overload is refused before anything is sent, and whatever is refused here is counted by its reason.
5. Status, headers and bytes of an answer are the API's own; nothing is added to a request. Only where settings ask
   for it, answers to call starts lose `Retry-After`, which some SDKs obey by placing the call again.
"""

import asyncio
import ssl
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

from call_initiation import catalogue
from call_initiation.authority import authority
from call_initiation.calls.client import AsyncObservedTransport
from call_initiation.calls.failures import Failure
from call_initiation.errors import ListenError
from call_initiation.events import Outcome, TransportFailure
from call_initiation.exporter import Exporter
from call_initiation.gateway.admission import Host, Passage, Reason, Refusal, Rules
from call_initiation.gateway.forwarding import Forwarding
from call_initiation.gateway.front import Front, Patience
from call_initiation.gateway.relay import Origin, Upstream
from call_initiation.log import Log

_TICK: Final = 0.25  # seconds between looks at who has had their time
_OVERLOADED: Final = Refusal(
    HTTPStatus.SERVICE_UNAVAILABLE, Reason.OVERLOADED, "Too many requests are under way: this one was not sent."
)
_DRAINING: Final = Refusal(
    HTTPStatus.SERVICE_UNAVAILABLE, Reason.DRAINING, "This gateway is about to end: this request was not sent."
)

_logger = Log("call_initiation.gateway")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a gateway is to run.

    Attributes:
        upstream: Where calls go.
        login: Where the login host's paths go, with `forward_all`.
        host: The address to listen on.
        port: The port; 0 takes any free one.
        tls: How to speak TLS to dialers; None for plain HTTP.
        rules: What is let through.
        patience: How long dialers are waited for, in seconds.
        deadline: Seconds from a request to the end of its answer.
        connect: Seconds for a connection to the API.
        idle: Seconds after which an unused connection to the API is closed.
        in_flight: How many requests may be under way at once.
        queue: How many more may wait for that.
        queue_seconds: How long each of them may wait.
        connections: How many dialers may be connected at once.
    """

    upstream: Origin
    login: Origin | None = None
    host: str = "127.0.0.1"
    port: int = 8080
    tls: ssl.SSLContext | None = None
    rules: Rules = field(default_factory=Rules)
    patience: Patience = field(default_factory=Patience)
    deadline: float = 30.0
    connect: float = 5.0
    idle: float = 10.0
    in_flight: int = 256
    queue: int = 64
    queue_seconds: float = 1.0
    connections: int = 1024


class Gateway:
    """Takes in dialers' requests and forwards them, observed by an exporter.

    Args:
        plan: How to run.
        exporter: What observes the calls; it belongs to the caller, and is to be closed after `stop`.
    """

    def __init__(self, plan: Plan, exporter: Exporter) -> None:
        self.rules, self.patience = plan.rules, plan.patience
        self.url = ""
        self.is_ready = False
        self._plan = plan
        self._origins = {Host.API: plan.upstream, Host.LOGIN: plan.login or plan.upstream}
        self._upstreams = {
            host: Upstream(origin, deadline=plan.deadline, connect=plan.connect, idle=plan.idle)
            for host, origin in self._origins.items()
        }
        self._transports = {host: AsyncObservedTransport(one, exporter) for host, one in self._upstreams.items()}
        self._room = asyncio.Semaphore(plan.in_flight)
        self._queued = 0
        self._fronts: set[Front] = set()
        self._under_way: dict[Front, Forwarding] = {}
        self._changed = asyncio.Event()
        self._aggregate = exporter.aggregate
        for reason in Reason:  # so that the first of each is a rise, too
            self._aggregate.count(catalogue.GATEWAY_REFUSALS, (reason,), 0)

    # -- its life -----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen; `url` is set from then on.

        Raises:
            ListenError: The address can't be had.
        """
        plan, loop = self._plan, asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                lambda: Front(self),
                plan.host,
                plan.port,
                backlog=512,
                ssl=plan.tls,
                ssl_handshake_timeout=plan.patience.head if plan.tls else None,
            )
        except OSError as error:
            raise ListenError.of(plan.host, plan.port, error) from error
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"http{'s' if plan.tls else ''}://{authority(plan.host, port)}"
        self._sweeping = loop.create_task(self._sweep())
        self.is_ready = True

    async def drain(self, within: float = 25.0) -> bool:
        """Accept nothing more and finish what is under way; tell whether `within` seconds sufficed."""
        self.is_ready = False
        self._server.close()
        for front in list(self._fronts):
            front.wind_up()
        try:
            async with asyncio.timeout(within):
                while self._fronts or self._under_way:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    async def stop(self) -> None:
        """End at once what is still under way, telling each dialer so, and close every connection."""
        self.is_ready = False
        self._server.close()
        self._sweeping.cancel()
        tasks = [forwarding.task for forwarding in self._under_way.values()]
        for forwarding in list(self._under_way.values()):
            forwarding.give_up()
        await asyncio.gather(*tasks, self._sweeping, return_exceptions=True)
        for front in list(self._fronts):
            front.close()
        for upstream in self._upstreams.values():
            await upstream.aclose()

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_TICK)
            now = loop.time()
            for front in list(self._fronts):
                front.sweep(now)
            for upstream in self._upstreams.values():
                upstream.sweep(now)

    # -- for the connections ------------------------------------------------------------------------------------------

    def opened(self, front: Front) -> bool:
        """Take note of a connection; tell whether there is room for it."""
        self._fronts.add(front)
        return len(self._fronts) <= self._plan.connections

    def closed(self, front: Front) -> None:
        """Take note that a connection is gone."""
        self._fronts.discard(front)
        self._changed.set()

    def left(self, front: Front) -> None:
        """Give up the request of a dialer that left, unless it was sent: then it comes to its end."""
        if (forwarding := self._under_way.get(front)) is not None:
            forwarding.leave()

    def refused(self, refusal: Refusal) -> None:
        """Count a refusal."""
        self._aggregate.count(catalogue.GATEWAY_REFUSALS, (refusal.code,))

    def serve(self, front: Front, passage: Passage, content: bytes) -> None:
        """Serve a whole request in a task of its own, which a leaving dialer doesn't end."""
        forwarding = self._under_way[front] = Forwarding(front, passage, content)
        front.is_last |= not self.is_ready
        forwarding.task = asyncio.get_running_loop().create_task(self._serve(forwarding))
        forwarding.task.add_done_callback(lambda _: self._served(front))

    def _served(self, front: Front) -> None:
        self._under_way.pop(front).end()
        self._changed.set()

    async def _serve(self, forwarding: Forwarding) -> None:
        refusal = None if self.is_ready else _DRAINING
        if refusal is None and not await self._has_room():
            refusal = _OVERLOADED
        if refusal is not None:
            self.refused(refusal)
            forwarding.refuse(refusal)
            return
        host = forwarding.passage.host
        try:
            await forwarding.run(self._transports[host], self._origins[host])
        except Exception as error:  # noqa: BLE001 - whatever is wrong with us, the dialer must not send its call again
            _logger.error("a fault of the gateway's own, answered with 502: %s", type(error).__name__)  # noqa: TRY400 - a traceback could show what the dialer sent
            outcome = Outcome.AMBIGUOUS if forwarding.is_sent else Outcome.NOT_SENT
            forwarding.fail(Failure(outcome, TransportFailure.OTHER))
        finally:
            self._room.release()

    async def _has_room(self) -> bool:
        """Wait for a place among those under way where the queue is short; the caller is to give it back."""
        if self._room.locked() and self._queued >= self._plan.queue:
            return False
        if not self._room.locked():
            return await self._room.acquire()
        self._queued += 1
        try:
            async with asyncio.timeout(self._plan.queue_seconds):
                return await self._room.acquire()
        except TimeoutError:
            return False
        finally:
            self._queued -= 1
