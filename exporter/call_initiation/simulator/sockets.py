"""The notification sockets of the pretend organisation, and the door by which they are disturbed.

A ticker moves the organisation on and hands to each socket what its `Line` gives out, in that order, through a queue of
its own: a client that doesn't read holds nobody up but itself.
"""

import asyncio
import ipaddress
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from http import HTTPStatus
from typing import Any, Final

from aiohttp import WSCloseCode, WSMessage, WSMsgType, web

from call_initiation import nesting
from call_initiation.simulator.disturbances import DisturbanceError, ordered
from call_initiation.simulator.lines import Ending, Item, Line
from call_initiation.simulator.org import Organisation

_FAREWELL_SECONDS: Final = 1.0
"""How long a client may take to answer our closing."""


@dataclass(eq=False, slots=True)
class _Open:
    """One open socket."""

    line: Line
    request: web.Request
    socket: web.WebSocketResponse
    queue: asyncio.Queue[Item] = field(default_factory=asyncio.Queue[Item])

    def cut(self) -> None:
        """Leave without a word."""
        self.request.protocol.force_close()

    async def write(self) -> None:
        """Send what the queue gives until an end comes, or the client is gone."""
        with suppress(ConnectionError):
            while await self._send(await self.queue.get()):
                pass

    async def _send(self, item: Item) -> bool:
        match item:
            case str():
                await self.socket.send_str(item)
            case bytes():
                await self.socket.send_bytes(item)
            case Ending.CLOSED:
                await self.socket.close(code=WSCloseCode.GOING_AWAY)
            case _:
                self.cut()
        return not isinstance(item, Ending)


class Sockets:
    """All open sockets of an organisation.

    Args:
        organisation: Whose.
        clock: Where the time comes from, seconds since the epoch.
        tick: Seconds between two looks at what has changed.
    """

    def __init__(self, organisation: Organisation, clock: Callable[[], float], tick: float) -> None:
        self._organisation = organisation
        self._clock = clock
        self._tick = tick
        self._open: dict[Line, _Open] = {}

    def add_routes(self, application: web.Application) -> None:
        """Add what is served here."""
        application.router.add_get("/notifications/{channel}", self._listen)
        application.router.add_get("/simulator/faults", self._show)
        application.router.add_post("/simulator/faults", self._change)

    async def run(self) -> None:
        """Tick until cancelled; then cut every socket."""
        try:
            while True:
                self.advance()
                await asyncio.sleep(self._tick)
        finally:
            for one in self._open.values():
                one.cut()

    def advance(self) -> float:
        """Apply what is due, tell it on the sockets, and return the time."""
        now = self._clock()
        self._organisation.channels.advance(self._organisation.advance(now), now)
        self._hand_over(now)
        return now

    def _hand_over(self, now: float) -> None:
        for line, one in self._open.items():
            for item in line.take(now):
                one.queue.put_nowait(item)

    async def _listen(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(timeout=_FAREWELL_SECONDS, autoping=False, autoclose=False)
        if self._organisation.disturbances.down:
            return web.Response(status=HTTPStatus.SERVICE_UNAVAILABLE)
        if not socket.can_prepare(request):
            return web.Response(status=HTTPStatus.UPGRADE_REQUIRED, headers={"Upgrade": "websocket"})
        line = self._organisation.channels.connect(request.match_info["channel"], self.advance())
        if line is None:
            return web.Response(status=HTTPStatus.NOT_FOUND)
        await self._serve(_Open(line, request, socket))
        return socket

    async def _serve(self, one: _Open) -> None:
        self._open[one.line] = one
        try:
            with suppress(ConnectionError):
                await one.socket.prepare(one.request)
                await self._converse(one)
        finally:
            del self._open[one.line]
            self._organisation.channels.disconnect(one.line)

    async def _converse(self, one: _Open) -> None:
        writing = asyncio.create_task(one.write())
        try:
            await self._read(one)
            await self._part(one, writing)
        finally:
            writing.cancel()

    async def _read(self, one: _Open) -> None:
        """Take what the client says, until either side says farewell."""
        async for message in one.socket:
            if not one.line.is_dead:
                await self._take(one, message)

    async def _part(self, one: _Open, writing: asyncio.Task[None]) -> None:
        """Part as the line asks for: a dead one doesn't even answer a farewell."""
        if one.line.is_over:
            await writing
            return
        while one.line.is_dead and one.request.transport is not None:  # noqa: ASYNC110 - aiohttp tells nobody when
            await asyncio.sleep(self._tick)
        await one.socket.close()

    async def _take(self, one: _Open, message: WSMessage) -> None:
        if message.type is WSMsgType.PING:
            await one.socket.pong(message.data)
        elif message.type is WSMsgType.TEXT:
            now = self.advance()
            self._organisation.channels.hear(one.line, message.data, now)
            self._hand_over(now)

    async def _show(self, _: web.Request) -> web.Response:
        return self._shown()

    async def _change(self, request: web.Request) -> web.Response:
        if not is_loopback(request.remote):
            return web.Response(status=HTTPStatus.FORBIDDEN, text="only from this machine\n")
        if request.content_type != "application/json":
            return web.Response(status=HTTPStatus.UNSUPPORTED_MEDIA_TYPE, text="expected application/json\n")
        try:
            disturbances, strike = ordered(self._organisation.disturbances, _parsed(await request.read()))
        except DisturbanceError as problem:
            return web.Response(status=HTTPStatus.BAD_REQUEST, text=f"{problem}\n")
        now = self.advance()
        self._organisation.disturbances = disturbances
        if strike is not None:
            self._organisation.strike(strike, now)
            self._hand_over(now)
        return self._shown()

    def _shown(self) -> web.Response:
        return web.json_response(asdict(self._organisation.disturbances))


def _parsed(body: bytes) -> Any:
    try:
        return nesting.loads(body)
    except ValueError as problem:
        raise DisturbanceError("body", type(problem).__name__, "a JSON object") from problem


def is_loopback(remote: str | None) -> bool:
    """Say whether a client's address is of this machine alone."""
    try:
        return ipaddress.ip_address(remote or "").is_loopback
    except ValueError:
        return False
