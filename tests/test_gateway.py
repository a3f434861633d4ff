"""The gateway's life and its doors; what it does under faults and on malformed requests is tested end to end."""

import asyncio
import socket
import struct
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from threading import Event, Thread

import pytest
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import generate_latest

from call_initiation import Exporter
from call_initiation.errors import ListenError
from call_initiation.events import AgentIdSource, Certainty, Outcome, Presence, StateLabel, StateSource
from call_initiation.gateway.admission import Reason, Rules
from call_initiation.gateway.front import Front, Patience, Phase
from call_initiation.gateway.gateway import Gateway, Plan
from call_initiation.gateway.relay import Origin
from gateways import BODY, CALLS, QUICK, Client, ask, call, certified, is_error, post, running, stalled
from servers import PATIENCE, Received, Server, always, answer, chunk, head
from twins import listening

ACCEPTED = answer(202, b"{}")
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"


def test_what_the_dialer_knows_of_the_agent_is_joined() -> None:
    """By two headers: who, and in what state, as a presence or as an object."""
    told = ("X-Call-Initiation-Agent-Id: agent-1", "X-Call-Initiation-Agent-State: On Queue")
    more = (told[0], 'X-Call-Initiation-Agent-State: {"presence": "BUSY", "on_call": 1}')
    with Server(always(ACCEPTED)) as api, running(api) as gateway:
        for headers in (told, more, ("X-Call-Initiation-Agent-State: {nonsense",), ()):
            assert 202 == ask(gateway.port, post(CALLS, BODY, *headers)).status
        first, second, third, fourth = (attempt.agent for attempt in gateway.attempts())
    assert ("agent-1", AgentIdSource.CALLER, Presence.ON_QUEUE) == (first.id, first.id_source, first.state.presence)
    assert (StateLabel.ON_QUEUE, StateLabel.ON_CALL) == (first.label, second.label)
    assert (StateSource.CALLER, Certainty.KNOWN) == (first.state.source, first.state.certainty)
    assert [(None, StateLabel.UNKNOWN)] * 2 == [(agent.id, agent.label) for agent in (third, fourth)]


def test_the_dialers_trace_goes_on() -> None:
    """`traceparent` is the parent of the call's span, and is forwarded as it came."""
    headers = (f"traceparent: 00-{TRACE}-{PARENT}-01", "tracestate: a=b")
    exporter, listed = listening(tracer_provider=TracerProvider(shutdown_on_exit=False))
    with Server(always(ACCEPTED)) as api, exporter, running(api, (exporter, listed)) as gateway:
        for given in (headers, ("traceparent: nonsense",), (headers[0], headers[0]), ()):
            assert 202 == ask(gateway.port, post(CALLS, BODY, *given)).status
        first, *others = (attempt.span for attempt in gateway.attempts())
        assert (headers[0].split(": ")[1], "a=b") == (
            api.received[0].headers["traceparent"],
            api.received[0].headers["tracestate"],
        )
    assert first is not None
    assert (int(TRACE, 16), int(PARENT, 16), True) == (first.trace_id, first.parent_span_id, first.parent_is_remote)
    for other in others:
        assert other is not None
        assert other.parent_span_id is None


@pytest.mark.parametrize(
    "path", [f"{CALLS}/", f"{CALLS}/user/u-1", f"{CALLS}/c-1", f"{CALLS}?a=b", f"{CALLS}/user/u%20%251/"]
)
def test_what_starts_a_call_is_forwarded_as_it_stands(path: str) -> None:
    """Each template, with whatever ids and query."""
    with Server(always(ACCEPTED)) as api, running(api) as gateway:
        assert 202 == ask(gateway.port, post(path)).status
        assert [path] == [received.target for received in api.received]
        assert 1 == len(gateway.attempts())


OTHERS = (
    f"GET {CALLS}",
    f"POST {CALLS}/user/",
    f"POST {CALLS}/c-1/more",
    f"POST {CALLS}x",
    f"POST /gateway{CALLS}",
    f"POST {CALLS}{CALLS}",
    "GET /api/v2/users/me",
    "POST /oauth/token",
    "GET /",
    "GET /metrics",
    "OPTIONS /api/v2/users/me",
)


def _ask(port: int, line: str) -> int:
    with Client(port) as client:
        return client.send(f"{line} HTTP/1.1\r\nHost: gateway.test\r\n\r\n".encode()).answer().status


@pytest.mark.parametrize("line", OTHERS)
def test_nothing_else_is_forwarded(line: str) -> None:
    """A gateway for calls is no way around a firewall."""
    with Server(always(ACCEPTED)) as api, running(api) as gateway:
        assert 404 == _ask(gateway.port, line)
        assert [] == api.received == gateway.attempts()
        assert {"no_such_route": 1} == gateway.refused()


def test_all_of_the_api_is_forwarded_where_asked_for() -> None:
    """With the login host's paths to the login host, with or without `/login` before them; nothing else, nowhere."""

    def script(request: Received) -> tuple[bytes]:
        return (answer(200, request.target.encode()),)

    rules = Rules(forward_all=True)
    with Server(script) as api, Server(script) as login:
        with running(api, login=Origin("127.0.0.1", login.port), rules=rules) as gateway:
            statuses = [_ask(gateway.port, line) for line in OTHERS]
            for path in ("/oauth/token", "/login/oauth/token?a=b", "/login/api/x"):
                assert 200 == ask(gateway.port, post(path)).status
            attempts = gateway.attempts()
        assert [200, 200, 200, 200, 404, 404, 200, 200, 404, 404, 200] == statuses
        assert ["/oauth/token", "/oauth/token", "/oauth/token?a=b", "/login/api/x"] == [
            received.target for received in login.received
        ]
        assert {"/api"} == {received.target[:4] for received in api.received}
        assert [] == attempts


@pytest.mark.parametrize("headers", [(), ("X-Call-Initiation-Secret: wrong",), ("X-Call-Initiation-Secret: caf\xe9",)])
def test_a_stranger_is_refused_where_dialers_share_a_secret(headers: tuple[str, ...]) -> None:
    """And the secret goes no further."""
    with Server(always(ACCEPTED)) as api, running(api, rules=Rules(secret=b"open sesame")) as gateway:
        assert 401 == ask(gateway.port, post(CALLS, BODY, *headers)).status
        assert 202 == ask(gateway.port, post(CALLS, BODY, "X-Call-Initiation-Secret: open sesame")).status
        assert {"unknown_dialer": 1} == gateway.refused()
        (received,) = api.received
        assert b"sesame" not in received.raw


def test_each_reason_to_refuse_is_counted_from_zero() -> None:
    """So that a rate sees the first one, too; and what is forwarded counts as none."""
    with Server(always(ACCEPTED)) as api, running(api) as gateway:
        shown = generate_latest(gateway.exporter.registry).decode()
        assert all(f'call_initiation_gateway_refusals_total{{code="{reason}"}} 0.0\n' in shown for reason in Reason)
        assert 202 == ask(gateway.port, post()).status
        assert 400 == ask(gateway.port, post(f"/{CALLS}")).status
        assert {"malformed": 1} == gateway.refused()


def test_an_address_that_is_taken_is_named() -> None:
    """So that an operator can free it."""
    with socket.create_server(("127.0.0.1", 0)) as taken, Exporter() as exporter:
        port: int = taken.getsockname()[1]

        async def start() -> None:
            await Gateway(Plan(upstream=Origin("127.0.0.1", 9), port=port), exporter).start()

        with pytest.raises(ListenError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use; "):
            asyncio.run(start())


def test_the_end_closes_idle_connections() -> None:
    """On both sides."""
    with Server(always(ACCEPTED)) as api:
        with running(api) as gateway:
            client = Client(gateway.port).send(post())
            assert 202 == client.answer().status
        with client:
            assert b"" == client.rest()


def test_who_leaves_the_queue_makes_room_in_it() -> None:
    """The next one waits there, and is served; the call of the one that left is not placed."""
    hold = Event()
    options = {"in_flight": 1, "queue": 1, "queue_seconds": PATIENCE}
    with Server(always(hold, ACCEPTED)) as api, running(api, **options) as gateway:
        with Client(gateway.port) as first, Client(gateway.port) as third:
            first.send(post())
            api.wait()
            with Client(gateway.port) as second:
                second.send(call())
                gateway.until(lambda: 2 == len(gateway.gateway._under_way))
            gateway.until(lambda: 1 == len(gateway.gateway._under_way))
            third.send(post())
            gateway.until(lambda: 2 == len(gateway.gateway._under_way))
            hold.set()
            assert (202, 202) == (first.answer().status, third.answer().status)
        assert ({}, 0) == (gateway.refused(), api.count("1"))


@pytest.mark.parametrize("lingering", [(0, 0), (1, 0)], ids=["closed", "reset"])
def test_who_leaves_before_the_send_gives_its_room_back(lingering: tuple[int, int]) -> None:
    """Else each of them would take some for good, and in the end nobody would be served; and its call isn't placed."""
    with stalled() as port:
        upstream = Origin("127.0.0.1", port)
        with running(upstream, in_flight=1, queue=0, connect=0.5) as gateway:
            with Client(gateway.port) as dialer:
                dialer.send(post())
                gateway.until(lambda: 1 == len(gateway.gateway._under_way))
                dialer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", *lingering))
            gateway.until(lambda: not gateway.gateway._under_way)
            assert [Outcome.CANCELLED] == [attempt.outcome for attempt in gateway.attempts()]
            assert is_error(ask(gateway.port, post()), 504, "timeout", "not_sent")
        assert {} == gateway.refused()


def test_a_connection_to_the_api_that_nobody_uses_is_closed() -> None:
    """Though no request comes that would meet it."""
    with Server(always(ACCEPTED)) as api, running(api, idle=0.1) as gateway:
        assert 202 == ask(gateway.port, post()).status
        (idle,) = [upstream._idle for upstream in set(gateway.gateway._upstreams.values()) if upstream._idle]
        gateway.until(lambda: not idle)


def test_a_hundred_fields_are_taken_and_as_many_trailers() -> None:
    """The trailers go no further."""
    fields = b"".join(b"X-Field-%d: a\r\n" % n for n in range(98))
    trailers = b"".join(b"X-Late-%d: a\r\n" % n for n in range(100))
    begin = f"POST {CALLS} HTTP/1.1\r\nHost: gateway.test\r\nTransfer-Encoding: chunked\r\n".encode()
    with Server(always(ACCEPTED)) as api, running(api) as gateway:
        assert 202 == ask(gateway.port, begin + fields + b"\r\n2\r\n{}\r\n0\r\n" + trailers + b"\r\n").status
        (received,) = api.received
        assert (b"{}", 98, 0) == (received.body, received.raw.count(b"X-Field-"), received.raw.count(b"X-Late-"))


def test_a_body_has_a_time_of_its_own() -> None:
    """Whatever is left of the head's."""
    patience = Patience(head=PATIENCE, body=3_600.0)
    with Server(always(ACCEPTED)) as api, running(api, patience=patience) as gateway, Client(gateway.port) as dialer:
        dialer.send(post()[:-1])
        gateway.until(lambda: Phase.BODY in {front._phase for front in gateway.gateway._fronts})
        (front,) = gateway.gateway._fronts
        assert front.deadline > gateway.loop.time() + 3_000.0


def test_a_dialer_that_leaves_its_last_answer_untaken_is_cut() -> None:
    """Also where so little of it is left that nothing waits for room to write the rest."""
    with (
        Server(always(answer(400, b"a" * 50_000))) as api,
        running(api, patience=Patience(reader=0.3)) as gateway,
        socket.socket() as dialer,
    ):
        dialer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        dialer.connect(("127.0.0.1", gateway.port))
        gateway.until(lambda: bool(gateway.gateway._fronts))
        (front,) = gateway.gateway._fronts
        front._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
        dialer.sendall(post(CALLS, BODY, "Connection: close"))
        gateway.until(lambda: front._phase is Phase.LINGERING)
        gateway.until(lambda: not gateway.gateway._fronts)


def test_who_was_refused_learns_it_at_once_and_is_cut_in_the_end() -> None:
    """Its answer ends with our side of the connection; its own is waited for a moment, no longer."""
    patience = Patience(idle=3_600.0, head=3_600.0, lingering=0.3)
    with Server(always(ACCEPTED)) as api:
        with running(api, patience=replace(patience, lingering=3_600.0)) as gateway, Client(gateway.port) as dialer:
            assert dialer.send(b"nonsense\r\n\r\n").rest().startswith(b"HTTP/1.1 400 ")
        with running(api, patience=patience) as gateway, Client(gateway.port) as dialer:
            assert 400 == dialer.send(b"nonsense\r\n\r\n").answer().status
            gateway.until(lambda: not gateway.gateway._fronts)


def test_each_request_of_a_connection_is_judged_by_itself() -> None:
    """By its own size, and by its own method."""
    with (
        Server(always(answer(200))) as api,
        running(api, rules=Rules(forward_all=True)) as gateway,
        Client(gateway.port) as dialer,
    ):
        for _ in range(3):
            assert 200 == dialer.send(post(CALLS, b"a" * 500_000)).answer().status
        assert 200 == dialer.send(b"HEAD /api/v2/users/me HTTP/1.1\r\nHost: gateway.test\r\n\r\n").answer().status
        assert is_error(dialer.send(b"nonsense\r\n\r\n").answer(), 400, "malformed", "not_sent")


def test_an_answer_may_take_longer_than_its_request() -> None:
    """It has the deadline of the way to the API."""
    hold = Event()
    with Server(always(hold, ACCEPTED)) as api, running(api) as gateway, Client(gateway.port) as dialer:
        dialer.send(post())
        api.wait()
        assert [float("inf")] == [front.deadline for front in gateway.gateway._fronts]
        hold.set()
        assert 202 == dialer.answer().status


def test_who_is_not_connected_by_the_end_is_told_that_nothing_was_sent() -> None:
    """It may place its call by another way."""
    with stalled() as port:
        with running(Origin("127.0.0.1", port), connect=PATIENCE) as gateway:
            dialer = Client(gateway.port).send(post())
            gateway.until(lambda: bool(gateway.gateway._under_way))
        with dialer:
            assert is_error(dialer.answer(), 502, "unreachable", "not_sent")


def test_what_nobody_takes_any_more_is_not_fetched() -> None:
    """An answer too long to be held ends with its dialer; the API is left as it is."""

    def endless(_: Received) -> Iterator[bytes]:
        yield head(400, ("Transfer-Encoding", "chunked"))
        while True:
            yield chunk(b"a" * 65_536)

    with Server(endless) as api, running(api) as gateway:
        with Client(gateway.port) as dialer:
            dialer.send(post()).exactly(300_000)
        gateway.until(lambda: not gateway.gateway._under_way)
        assert [Outcome.REJECTED] == [attempt.outcome for attempt in gateway.attempts()]


def test_a_dialer_that_takes_nothing_fills_no_memory() -> None:
    """What can't be passed on isn't taken from the API either, until the dialer has had its time."""
    pieces = count()

    def endless(_: Received) -> Iterator[bytes]:
        yield head(400, ("Transfer-Encoding", "chunked"))
        for _ in pieces:
            yield chunk(b"a" * 65_536)

    patience = Patience(reader=0.5)
    with Server(endless) as api, running(api, patience=patience) as gateway, Client(gateway.port) as dialer:
        dialer.send(post())
        api.wait()
        gateway.until(lambda: not gateway.gateway._under_way)
        assert next(pieces) < 1_000  # what two connections' buffers hold, and no more


def test_a_post_without_a_body_says_so() -> None:
    """RFC 9110, 8.6: some servers answer 411 to one that doesn't; after all else, as where there is one."""
    with Server(always(ACCEPTED)) as api, running(api) as gateway:
        assert 202 == ask(gateway.port, f"POST {CALLS} HTTP/1.1\r\nHost: gateway.test\r\n\r\n".encode()).status
        assert api.received[0].raw.endswith(f"\r\nHost: 127.0.0.1:{api.port}\r\nContent-Length: 0\r\n\r\n".encode())


def test_without_a_queue_there_is_room_all_the_same() -> None:
    """Only nobody waits for it."""
    with Server(always(ACCEPTED)) as api, running(api, queue=0) as gateway:
        assert 202 == ask(gateway.port, post()).status


def test_who_is_let_in_as_the_end_begins_is_told_so_and_let_go() -> None:
    """The kernel had taken its connection by then, and the gateway hadn't; the end waits for no idle dialer."""
    hold, drained = Event(), list[bool]()
    with Server(always(hold, ACCEPTED)) as api, running(api) as gateway, Client(gateway.port) as busy:
        busy.send(post())
        api.wait()
        draining = Thread(target=lambda: drained.append(gateway.do(lambda: gateway.gateway.drain(PATIENCE))))
        draining.start()
        gateway.until(lambda: not gateway.gateway.is_ready)
        with socket.create_server(("127.0.0.1", 0)) as listener, Client(listener.getsockname()[1]) as late:
            taken, _ = listener.accept()
            gateway.do(lambda: gateway.loop.connect_accepted_socket(lambda: Front(gateway.gateway), taken))
            said = late.send(post()).answer()
            assert is_error(said, 503, "draining", "not_sent")
            assert ("close", b"") == (said.header("Connection"), late.rest())
        hold.set()
        assert 202 == busy.answer().status
        draining.join(PATIENCE)
        assert [True] == drained


def test_the_end_waits_for_a_call_whose_dialer_has_left() -> None:
    """And no longer: nobody is there any more whose leaving would be noticed."""
    hold, drained = Event(), list[bool]()
    with Server(always(hold, ACCEPTED)) as api, running(api) as gateway:
        with Client(gateway.port) as dialer:
            dialer.send(post())
            api.wait()
            dialer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # reset, not closed
        gateway.until(lambda: not gateway.gateway._fronts)
        draining = Thread(target=lambda: drained.append(gateway.do(lambda: gateway.gateway.drain(PATIENCE))))
        draining.start()
        gateway.until(lambda: not gateway.gateway.is_ready)
        hold.set()
        draining.join(PATIENCE)
        assert [True] == drained
        assert [Outcome.ACCEPTED] == [attempt.outcome for attempt in gateway.attempts()]


def test_the_end_waits_for_a_dialer_that_has_yet_to_take_its_answer() -> None:
    """The API's part is done by then; what the kernel has no room for is still ours to send."""
    body, drained = b"a" * 250_000, list[bool]()
    with Server(always(answer(400, body))) as api, running(api) as gateway, Client(gateway.port) as dialer:
        gateway.until(lambda: bool(gateway.gateway._fronts))
        (front,) = gateway.gateway._fronts
        gateways = front._transport.get_extra_info("socket")
        gateways.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
        dialer.send(post())
        api.wait()
        gateway.until(lambda: not gateway.gateway._under_way)
        assert not gateway.do(lambda: gateway.gateway.drain(0.1))
        draining = Thread(target=lambda: drained.append(gateway.do(lambda: gateway.gateway.drain(PATIENCE))))
        draining.start()
        assert body == dialer.answer().body
        draining.join(PATIENCE)
        assert [True] == drained


def test_ipv6_is_spoken() -> None:
    """On both sides."""
    with Exporter() as exporter:

        async def call() -> tuple[str, bytes]:
            async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                seen.append(await reader.readuntil(b"\r\n\r\n"))
                writer.write(answer(400))
                writer.close()

            seen: list[bytes] = []
            async with await asyncio.start_server(refuse, "::1", 0) as api:
                port: int = api.sockets[0].getsockname()[1]
                gateway = Gateway(Plan(upstream=Origin("::1", port), host="::1", port=0), exporter)
                await gateway.start()
                reader, writer = await asyncio.open_connection("::1", int(gateway.url.rpartition(":")[2]))
                writer.write(post())
                assert (await reader.readline()).startswith(b"HTTP/1.1 400 ")
                writer.close()
                await gateway.drain()
                await gateway.stop()
                return gateway.url, seen[0].replace(str(port).encode(), b"?")

        url, head = asyncio.run(call())
    assert url.startswith("http://[::1]:")
    assert b"\r\nHost: [::1]:?\r\n" in head


def test_a_refusal_is_told_over_tls_as_well() -> None:
    """Though the dialer sends on; it is counted once, and a dialer that then holds on is cut."""
    theirs, ours = certified()
    with Server(always(ACCEPTED)) as api, running(api, tls=theirs, patience=Patience(lingering=1.0)) as gateway:
        plain = socket.create_connection(("127.0.0.1", gateway.port))
        with ours.wrap_socket(plain, server_hostname="localhost") as dialer:
            head, _, body = post(CALLS, b"x" * 600_000).partition(b"\r\n\r\n")
            dialer.sendall(head + b"\r\n\r\n")
            gateway.until(lambda: bool(gateway.refused()))
            dialer.sendall(body)
            assert dialer.recv(65_536).startswith(b"HTTP/1.1 413 ")
            gateway.until(lambda: not gateway.gateway._fronts)
        assert {"too_large": 1} == gateway.refused()


def test_a_dialer_that_leaves_over_tls_is_no_news(caplog: pytest.LogCaptureFixture) -> None:
    """A connection that is asked to stay half-open there, where none can, is a warning of asyncio's."""
    theirs, ours = certified()
    hold = Event()
    with Server(always(hold, ACCEPTED)) as api, running(api, tls=theirs) as gateway:
        plain = socket.create_connection(("127.0.0.1", gateway.port))
        with ours.wrap_socket(plain, server_hostname="localhost") as dialer:
            dialer.sendall(post())
            api.wait()
            dialer.unwrap().close()
        gateway.until(lambda: not gateway.gateway._fronts)
        hold.set()
        gateway.until(lambda: not gateway.gateway._under_way)
        assert [Outcome.ACCEPTED] == [attempt.outcome for attempt in gateway.attempts()]
    assert [] == caplog.messages


def test_a_dialer_that_leaves_when_its_request_has_come_to_its_end_gives_up_nothing() -> None:
    """Though its connection didn't know that yet; and the next dialer is served."""
    with Server(always(ACCEPTED)) as api, running(api) as gateway, Client(gateway.port) as dialer:
        gateway.until(lambda: bool(gateway.gateway._fronts))
        (front,) = gateway.gateway._fronts
        gateway.gateway.left(front)
        dialer.send(post(CALLS, BODY))
        assert 202 == dialer.answer().status


def test_a_dialer_that_shakes_no_hands_is_cut() -> None:
    """Over TLS it has the time of a head."""
    theirs, _ = certified()
    with (
        Server(always(ACCEPTED)) as api,
        running(api, tls=theirs, patience=QUICK) as gateway,
        Client(gateway.port) as dialer,
    ):
        assert b"" == dialer.rest()


def test_every_call_is_counted_once() -> None:
    """Whatever became of it."""

    def script(request: Received) -> tuple[bytes]:
        return (answer(int(request.target.rpartition("=")[2]), b"{}"),)

    statuses = (200, 202, 400, 401, 429, 500)
    with Server(script) as api, running(api) as gateway, Client(gateway.port) as client:
        for status in statuses:
            assert status == client.send(post(f"{CALLS}?s={status}")).answer().status
        outcomes = [attempt.outcome for attempt in gateway.attempts()]
        assert len(statuses) == gateway.exporter.ledgers()["attempts"].exported
    assert [
        Outcome.ACCEPTED, Outcome.ACCEPTED, Outcome.REJECTED, Outcome.UNAUTHORIZED, Outcome.RATE_LIMITED, Outcome.FAILED
    ] == outcomes  # fmt: skip
