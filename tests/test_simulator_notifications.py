"""The notification sockets over real ones: what is told, how they end, and the door by which they are disturbed."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from typing import Any

import pytest
from aiohttp import (
    ClientSession,
    ClientTimeout,
    ClientWebSocketResponse,
    ClientWSTimeout,
    WSMsgType,
    WSServerHandshakeError,
)
from aiohttp.test_utils import make_mocked_request

from call_initiation.api.notifications import (
    AsyncFailure,
    Heartbeat,
    Ignored,
    NoLongerSubscribed,
    Notification,
    Notified,
    Pong,
    SocketClosing,
    calls_topic,
    combined_topic,
    read,
)
from call_initiation.simulator.disturbances import FIELDS, STRIKES, Disturbances
from call_initiation.simulator.frames import GARBAGE
from call_initiation.simulator.org import CALM, STARTED, Behaviour, Intervals, Organisation, Part, user_token
from call_initiation.simulator.server import Server
from call_initiation.simulator.sockets import Sockets, is_loopback

CHANNELS = "/api/v2/notifications/channels"
FAULTS = "/simulator/faults"
HALF_HOUR = 1800.0
SOON = 5.0


class Rig:
    """A running server whose clock stands still until told, and a client."""

    def __init__(self, server: Server, session: ClientSession) -> None:
        self.server = server
        self.organisation = server.organisation
        self.session = session
        self.now = STARTED + 1.0
        self.token = user_token(self.organisation.agent_ids[0])

    async def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Ask for something, as the first agent; return the status and the JSON, or the text if it is none."""
        authorization = {"Authorization": f"Bearer {self.token}"}
        async with self.session.request(method, path, json=body, headers=authorization) as response:
            is_json = response.content_type == "application/json"
            return response.status, await (response.json() if is_json else response.text())

    async def disturb(self, **wish: object) -> None:
        """Wish for a disturbance."""
        status, _ = await self.ask("POST", FAULTS, wish)
        assert 200 == status

    async def channel(self) -> Any:
        """Make a channel that hears everything, and return it."""
        _, channel = await self.ask("POST", CHANNELS)
        agent_ids = self.organisation.agent_ids
        topics = [{"id": topic} for one in agent_ids for topic in (combined_topic(one), calls_topic(one))]
        status, _ = await self.ask("PUT", f"{CHANNELS}/{channel['id']}/subscriptions", topics)
        assert 200 == status
        return channel

    async def connect(self, uri: str = "") -> ClientWebSocketResponse:
        """Open a channel's socket, a new one's if none is named."""
        return await self.session.ws_connect(uri or (await self.channel())["connectUri"], max_msg_size=0)

    async def pinged(self, socket: ClientWebSocketResponse) -> list[Notification]:
        """Return all that a socket says up to its pong."""
        await socket.send_str('{"message":"ping"}')
        heard: list[Notification] = []
        while Pong() not in heard:
            heard += read((await socket.receive(SOON)).data)
        return heard


async def ended(socket: ClientWebSocketResponse) -> tuple[list[Notification], int | None]:
    """Return what a socket still says, and the code with which it ends."""
    heard: list[Notification] = []
    while (message := await socket.receive(SOON)).type in {WSMsgType.TEXT, WSMsgType.BINARY}:
        heard += read(message.data)
    return heard, socket.close_code


@asynccontextmanager
async def running(behaviour: Behaviour = CALM, **intervals: float) -> AsyncIterator[Rig]:
    """Run a server with a clock that is the rig's."""
    organisation = Organisation(agents=5, behaviour=behaviour, intervals=Intervals(**intervals))
    rigs: list[Rig] = []
    server = Server(organisation, clock=lambda: rigs[0].now if rigs else STARTED + 1.0, tick=0.002)
    async with server, ClientSession(server.url, timeout=ClientTimeout(SOON)) as session:
        rigs.append(Rig(server, session))
        yield rigs[0]


def run(story: Callable[[Rig], Awaitable[None]], behaviour: Behaviour = CALM, **intervals: float) -> None:
    """Run a story against a server of its own."""

    async def told() -> None:
        async with running(behaviour, **intervals) as rig:
            await story(rig)

    asyncio.run(told())


def test_changes_are_told_without_being_asked_for() -> None:
    """The ticker alone moves the organisation on, and each change is a frame, in order."""

    async def story(rig: Rig) -> None:
        twin = Organisation(agents=5, behaviour=CALM)
        socket = await rig.connect()
        rig.now += HALF_HOUR
        changes = twin.advance(rig.now)
        expected = [(change.agent_id, change.part.value) for change in changes if change.part is not Part.CALLS]
        heard: list[tuple[str, str]] = []
        while len(heard) < len(expected):
            words = read((await socket.receive(SOON)).data)
            heard += [(word.agent_id, word.topic) for word in words if isinstance(word, Notified)]
        assert expected == heard

    run(story)


def test_a_placed_call_is_told() -> None:
    """The agent is on the call a moment after it was accepted, and its leg's failure comes later."""

    async def story(rig: Rig) -> None:
        socket = await rig.connect()
        status, call = await rig.ask("POST", "/api/v2/conversations/calls", {"phoneNumber": "+33199000042"})
        assert 202 == status
        rig.now += 0.002
        begun, *_ = [word for word in await rig.pinged(socket) if isinstance(word, Notified)]
        assert (rig.organisation.agent_ids[0], 1) == (begun.agent_id, begun.update.state.on_call)
        rig.now += HALF_HOUR
        failures = {word for word in await rig.pinged(socket) if isinstance(word, AsyncFailure)}
        assert call["id"] in {failure.conversation_id for failure in failures}

    run(story, replace(CALM, refusals={}, leg_failures=1.0))


def test_the_protocol_beats_and_warns_and_ends() -> None:
    """Beats, the notice, and a farewell of the server's."""

    async def story(rig: Rig) -> None:
        socket = await rig.connect()
        rig.now += 31.0
        assert Heartbeat() in await rig.pinged(socket)
        rig.now += 10.0
        assert SocketClosing() in await rig.pinged(socket)
        rig.now += 60.0
        assert 1001 == (await ended(socket))[1]

    run(story, life=100.0)


def test_a_second_socket_takes_the_channel_over() -> None:
    """The first one is told and closed; the second hears."""

    async def story(rig: Rig) -> None:
        channel = await rig.channel()
        first = await rig.connect(channel["connectUri"])
        second = await rig.connect(channel["connectUri"])
        heard, code = await ended(first)
        assert [NoLongerSubscribed(f"v2.system.no_longer_subscribed.{channel['id']}")] == heard
        assert 1001 == code
        assert [Pong()] == await rig.pinged(second)

    run(story)


def test_a_client_may_leave_and_come_back() -> None:
    """Its farewell is answered, and the channel is still there."""

    async def story(rig: Rig) -> None:
        channel = await rig.channel()
        socket = await rig.connect(channel["connectUri"])
        assert await socket.close()
        assert 1000 == socket.close_code
        assert [Pong()] == await rig.pinged(await rig.connect(channel["connectUri"]))

    run(story)


def test_pings_of_the_socket_are_answered_and_other_messages_passed_over() -> None:
    """As RFC 6455 asks for; binary messages and stray pongs mean nothing."""

    async def story(rig: Rig) -> None:
        session = rig.session
        uri = (await rig.channel())["connectUri"]
        socket = await session.ws_connect(uri, autoping=False)
        await socket.send_bytes(b"\x00")
        await socket.pong()
        await socket.ping(b"there?")
        answer = await socket.receive(SOON)
        assert (WSMsgType.PONG, b"there?") == (answer.type, bytes(answer.data))

    run(story)


@pytest.mark.parametrize(("path", "status"), [("/notifications/nobody", 404), ("/notifications/{id}", 503)])
def test_a_socket_may_be_refused(path: str, status: int) -> None:
    """That of no channel, and any while it is down."""

    async def story(rig: Rig) -> None:
        channel = await rig.channel()
        await rig.disturb(down=status == 503)
        with pytest.raises(WSServerHandshakeError) as refused:
            await rig.connect(path.replace("{id}", channel["id"]))
        assert status == refused.value.status

    run(story)


def test_a_plain_request_is_told_to_upgrade() -> None:
    """And takes no channel from anybody."""

    async def story(rig: Rig) -> None:
        channel = await rig.channel()
        socket = await rig.connect(channel["connectUri"])
        async with rig.session.get(f"/notifications/{channel['id']}") as response:
            assert (426, "websocket") == (response.status, response.headers["Upgrade"])
        assert [Pong()] == await rig.pinged(socket)

    run(story)


def test_a_dropped_socket_says_no_farewell() -> None:
    """And the channel can be listened to again."""

    async def story(rig: Rig) -> None:
        channel = await rig.channel()
        socket = await rig.connect(channel["connectUri"])
        await rig.disturb(strike="drop")
        assert ([], 1006) == await ended(socket)
        assert [Pong()] == await rig.pinged(await rig.connect(channel["connectUri"]))

    run(story)


def test_a_half_open_socket_says_nothing() -> None:
    """It answers neither a ping of ours, nor one of the socket's; a socket that is opened later lives."""

    async def story(rig: Rig) -> None:
        socket = await rig.session.ws_connect((await rig.channel())["connectUri"], autoping=False)
        await rig.disturb(strike="half_open")
        await socket.send_str('{"message":"ping"}')
        await socket.ping()
        assert [Pong()] == await rig.pinged(await rig.connect())
        rig.now += HALF_HOUR
        with pytest.raises(TimeoutError):
            await socket.receive(0.05)

    run(story)


def test_a_half_open_socket_answers_no_farewell() -> None:
    """Its client gives up waiting for one, and the channel can be listened to again."""

    async def story(rig: Rig) -> None:
        uri = (await rig.channel())["connectUri"]
        socket = await rig.session.ws_connect(uri, timeout=ClientWSTimeout(ws_close=0.05))
        await rig.disturb(strike="half_open")
        await socket.close()
        assert isinstance(socket.exception(), TimeoutError)
        assert [Pong()] == await rig.pinged(await rig.connect(uri))

    run(story)


def test_a_silent_socket_lives_and_tells_nothing() -> None:
    """It beats and answers; reads would have told better."""

    async def story(rig: Rig) -> None:
        socket = await rig.connect()
        await rig.disturb(silent=True)
        rig.now += HALF_HOUR
        assert [Heartbeat(), Pong()] == await rig.pinged(socket)
        await rig.disturb(silent=False)
        rig.now += HALF_HOUR
        assert any(isinstance(word, Notified) for word in await rig.pinged(socket))

    run(story)


def test_garbage_goes_through_a_real_socket() -> None:
    """Every kind of it, and a frame of ten million characters."""

    async def story(rig: Rig) -> None:
        socket = await rig.connect()
        await rig.disturb(garbage=1.0)
        kinds: set[str | bytes] = set()
        while len(kinds) < len(GARBAGE):
            await socket.send_str('{"message":"ping"}')
            kinds.add((await socket.receive(SOON)).data)
            assert Pong() in read((await socket.receive(SOON)).data)
        assert set(GARBAGE) == kinds
        await rig.disturb(garbage=0.0, strike="huge")
        assert [Ignored("oversized"), Pong()] == await rig.pinged(socket)

    run(story)


def test_the_door_shows_what_is_on() -> None:
    """All of it, as JSON; what isn't wished for stays."""

    async def story(rig: Rig) -> None:
        assert (200, json.loads(json.dumps(asdict(Disturbances())))) == await rig.ask("GET", FAULTS)
        await rig.disturb(lag=1.5, deleted=["a"])
        await rig.disturb(skew=-60)
        _, shown = await rig.ask("GET", FAULTS)
        assert (1.5, ["a"], -60) == (shown["lag"], shown["deleted"], shown["skew"])
        assert Disturbances(lag=1.5, deleted=("a",), skew=-60) == rig.organisation.disturbances

    run(story)


@pytest.mark.parametrize(
    ("body", "content_type", "expected"),
    [
        (b"{", "application/json", (400, "body: found JSONDecodeError, expected a JSON object\n")),
        (b"[" * 100_000, "application/json", (400, "body: found ValueError, expected a JSON object\n")),
        (b'{"lag": -1}', "application/json", (400, "lag: found -1, expected a number of seconds, from 0 to a year\n")),
        (b"\xff", "application/json", (400, "body: found UnicodeDecodeError, expected a JSON object\n")),
        (b"[]", "application/json; charset=klingon", (400, "body: found [], expected a JSON object\n")),
        (b"{}", "text/plain", (415, "expected application/json\n")),
    ],
)
def test_a_wrong_wish_changes_nothing(body: bytes, content_type: str, expected: tuple[int, str]) -> None:
    """And says what is wrong with it."""

    async def story(rig: Rig) -> None:
        async with rig.session.post(FAULTS, data=body, headers={"Content-Type": content_type}) as response:
            assert expected == (response.status, await response.text())
        assert Disturbances() == rig.organisation.disturbances

    run(story)


@pytest.mark.parametrize(
    ("remote", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.0.1", True),
        ("::1", True),
        ("192.0.2.1", False),
        ("::", False),
        (None, False),
    ],
)
def test_only_this_machine_is_loopback(remote: str | None, expected: bool) -> None:  # noqa: FBT001 - the expected value
    """Everybody else may look, and not touch."""
    assert expected is is_loopback(remote)


def test_others_may_not_touch() -> None:
    """A wish from another machine is refused."""

    async def story() -> int:
        sockets = Sockets(Organisation(agents=1), lambda: STARTED + 1.0, tick=1.0)
        return (await sockets._change(make_mocked_request("POST", FAULTS).clone(remote="192.0.2.1"))).status

    assert 403 == asyncio.run(story())


def test_the_help_page_explains_every_disturbance() -> None:
    """By its name, with what it does."""

    async def story(rig: Rig) -> None:
        _, page = await rig.ask("GET", "/")
        for name, field in FIELDS.items():
            assert f"{name:<18}  {field.metadata['effect']} ({field.metadata['kind'].value})" in page
        for strike, effect in STRIKES.items():
            assert f"{strike:<18}  {effect}" in page
        assert FAULTS in page

    run(story)


def test_leaving_cuts_every_socket() -> None:
    """At once, even a dead one."""

    async def story() -> tuple[int | None, int | None]:
        async with running() as rig:
            dead = await rig.connect()
            await rig.disturb(strike="half_open")
            live = await rig.connect()
            await rig.server.__aexit__(None, None, None)
            return (await ended(dead))[1], (await ended(live))[1]

    assert (1006, 1006) == asyncio.run(story())
