"""The pretend organisation's HTTP door: takes the time, hands the request over, sends the answer's very bytes.

It adds pages of its own, outside the API and without a token: `/` says what this is, `/ledger` shows the truth,
`/simulator/faults` shows and takes what is to go wrong, `/healthy` answers while it runs. Notification sockets are
`sockets`' concern. A request is judged when its body has come in whole, and never waits before that
judgement: a latency delays the answer only.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import Field, asdict
from http import HTTPStatus
from typing import Any, Final, Self

from aiohttp import web

from call_initiation.authority import authority
from call_initiation.errors import CallInitiationError, ListenError
from call_initiation.simulator.disturbances import FIELDS, STRIKES
from call_initiation.simulator.exchange import MAX_REQUEST_BYTES, Answer, Request, stream, user_token, whole
from call_initiation.simulator.ledger import LedgerEntry
from call_initiation.simulator.oauth import CLIENT_ID, CLIENT_SECRET
from call_initiation.simulator.org import Organisation
from call_initiation.simulator.sockets import Sockets
from call_initiation.simulator.teams import Teams

_LONGEST_GAP: Final = 86_400.0
_SHUTDOWN_SECONDS: Final = 1.0
_LEDGER_PAGE: Final = 1000

_NEXT: Final = "\n" + " " * 22
_HELP: Final = """A pretend Genesys Cloud organisation. Nothing here is real, and nothing rings.

Starting a call       POST /api/v2/conversations/calls
                      POST /api/v2/conversations/calls/user/{{userId}}
                      POST /api/v2/conversations/calls/{{conversationId}}
Reading agents        GET /api/v2/users/{{id}}?expand=presence,routingStatus,conversationSummary,station,outOfOffice
                      GET /api/v2/users · /api/v2/users/me · /api/v2/users/presences/purecloud/bulk?id=
Who belongs to what   GET /api/v2/routing/queues/{{queueId}}/members · /api/v2/groups/{{groupId}}/members
A client's token      POST /oauth/token, Basic {client_id}:{client_secret}, form grant_type=client_credentials
Agents, their tokens  {agents}
Queues, groups        {teams}
What truly happened   GET /ledger?last=1000
Whether it runs       GET /healthy
Notifications         POST /api/v2/notifications/channels, then its connectUri (a WebSocket)
                      GET · PUT · POST · DELETE /api/v2/notifications/channels/{{id}}/subscriptions
                      [{{"id": "v2.users.{{id}}?presence&routingStatus&conversationsummary&station"}}]

What goes wrong with reads and notifications: GET and POST /simulator/faults, JSON, from this machine only
{disturbances}
What happens once, to what is there: {{"strike": …}}
{strikes}

Try it:
curl -i {url}/api/v2/conversations/calls -H 'Content-Type: application/json' \\
  -H 'Authorization: Bearer {example}' -d '{{"phoneNumber": "+33199000000"}}'
curl {url}/simulator/faults -H 'Content-Type: application/json' -d '{{"duplicates": 0.5, "strike": "drop"}}'
"""


class Server:
    """Serves an organisation over HTTP, as an async context manager.

    Args:
        organisation: Whom to serve.
        host: The address to listen on.
        port: The port; 0 takes a free one.
        clock: Where the time comes from, seconds since the epoch.
        latency: The mean of the answers' exponential delay, seconds, drawn from the organisation's seed.
        tick: Seconds between two looks at what has changed, to be told on notification sockets.

    Raises:
        ListenError: On entering, where the address can't be had.
        ValueError: On entering, where the organisation began so long ago that catching up would take minutes.
    """

    def __init__(  # noqa: PLR0913 - independent settings, all but one with a default
        self,
        organisation: Organisation,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        clock: Callable[[], float] = time.time,
        latency: float = 0.0,
        tick: float = 0.05,
    ) -> None:
        self.organisation: Final = organisation
        self.url: str = ""
        self._address = (host, port)
        self._clock = clock
        self._latency = latency
        self._random = stream(organisation.seed, "latency")
        self._runner: web.AppRunner | None = None
        self._sockets = Sockets(organisation, clock, tick)
        self._ticking: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Listen; `url` is set from then on."""
        gap = self._clock() - self.organisation.now
        if gap > _LONGEST_GAP:
            message = f"the organisation began {gap:.0f} s ago: make it with started= the clock's time"
            raise ValueError(message)
        self._runner = web.AppRunner(
            self._application(),
            access_log=None,
            shutdown_timeout=_SHUTDOWN_SECONDS,
            auto_decompress=False,  # a body is what was sent: what is compressed is no JSON
        )
        await self._runner.setup()
        host, port = self._address
        try:
            await web.TCPSite(self._runner, host, port).start()
        except OSError as problem:
            await self._runner.cleanup()
            raise ListenError.of(host, port, problem) from problem
        self.url = f"http://{authority(host, self._runner.addresses[0][1])}"
        self._ticking = asyncio.create_task(self._sockets.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop listening and cut every socket; answers under way have a second to get out."""
        if self._ticking is not None:
            self._ticking.cancel()
            with suppress(asyncio.CancelledError):
                await self._ticking
        if self._runner is not None:
            await self._runner.cleanup()

    def _application(self) -> web.Application:
        application = web.Application()
        application.router.add_get("/", self._help)
        application.router.add_get("/ledger", self._ledger)
        application.router.add_get("/healthy", self._healthy)
        self._sockets.add_routes(application)
        application.router.add_route("*", "/{path:.*}", self._api)
        return application

    async def _api(self, request: web.Request) -> web.Response:
        body = await _body(request)
        path, _, query = request.raw_path.partition("?")
        headers = {name.lower(): value for name, value in request.headers.items()}
        asked = Request(method=request.method, path=path, query=query, headers=headers, body=body)
        answer = self.organisation.answer(asked, self._sockets.advance())
        if self._latency:
            await asyncio.sleep(self._random.expovariate(1.0) * self._latency)
        return _response(answer)

    async def _help(self, _: web.Request) -> web.Response:
        ids = self.organisation.agent_ids[:5]
        text = _HELP.format(
            client_id=CLIENT_ID,
            client_secret=CLIENT_SECRET,
            agents=_NEXT.join(f"{agent_id}  {user_token(agent_id)}" for agent_id in ids),
            teams=_NEXT.join(_teams(self.organisation.teams)),
            url=self.url,
            example=user_token(next(iter(ids), "")),
            disturbances=_table((name, _told(field)) for name, field in FIELDS.items()),
            strikes=_table(STRIKES.items()),
        )
        return web.Response(text=text)

    async def _ledger(self, request: web.Request) -> web.Response:
        last = whole(request.query.get("last", str(_LEDGER_PAGE)))
        if last is None:
            return web.Response(status=HTTPStatus.BAD_REQUEST, text="last: expected a number of entries\n")
        counts = self.organisation.counts
        page = {
            "calls": sum(counts.values()),
            "counts": [
                {"status": status, "error_code": code, "agent_state": label, "calls": calls}
                for (status, code, label), calls in sorted(counts.items())
            ],
            "entries": [_shown(entry) for entry in self.organisation.ledger[-last:][:last]],
        }
        return web.json_response(page)

    async def _healthy(self, _: web.Request) -> web.Response:
        return web.Response(text="healthy\n")


async def _body(request: web.Request) -> bytes:
    """Read the body, and no more of it than one byte past what the API takes."""
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > MAX_REQUEST_BYTES:
            break
    return bytes(body[: MAX_REQUEST_BYTES + 1])


def _response(answer: Answer) -> web.Response:
    return web.Response(status=answer.status, headers=dict(answer.headers), body=answer.body)


def _shown(entry: LedgerEntry) -> dict[str, Any]:
    return {**asdict(entry), "error_code": entry.error_code}


def _teams(teams: Teams) -> Iterator[str]:
    for kind, these in (("queue", teams.queues), ("group", teams.groups)):
        yield from (f"{team.id}  {kind} {team.name}, {len(team.member_ids)} members" for team in these.values())


def _told(disturbance: Field[Any]) -> str:
    return f"{disturbance.metadata['effect']} ({disturbance.metadata['kind'].value})"


def _table(rows: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f"  {name:<18}  {effect}" for name, effect in rows)


class ServerThread:
    """Runs a `Server` in a thread of its own, for code that isn't asynchronous.

    Raises:
        ListenError: On entering, as `Server` does; so does ValueError.
    """

    def __init__(self, server: Server) -> None:
        self.url: str = ""
        self._server = server
        self._ready: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="simulator", daemon=True)

    def __enter__(self) -> Self:
        """Start the thread and wait until it listens."""
        self._thread.start()
        self._loop, self._stop = self._ready.result()
        self.url = self._server.url
        return self

    def __exit__(self, *_: object) -> None:
        """Stop listening, and wait for the thread to end."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    async def _serve(self) -> None:
        stop = asyncio.Event()
        try:
            async with self._server:
                self._ready.set_result((asyncio.get_running_loop(), stop))
                await stop.wait()
        except (CallInitiationError, ValueError) as problem:
            self._ready.set_exception(problem)
