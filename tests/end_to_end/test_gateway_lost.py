"""What becomes of a call that was sent and whose answer is lost: it reached the API once, and its dialer is answered.

The dialers are raw sockets; the API is a server that follows a script. A request's id is counted at the API.
"""

import socket
import struct
from threading import Event

import pytest

from call_initiation.events import BodyState, Outcome, TransportFailure
from call_initiation.gateway.admission import Host, Rules
from gateways import ACCEPTED, BODY, CALLS, Client, ask, call, is_error, post, running
from servers import Act, Cut, Received, Server, always, answer


def test_a_timeout_after_the_send_is_504_and_ambiguous() -> None:
    """C1: an API that says nothing is waited for until the deadline, and asked once."""
    never = Event()
    with Server(always(never)) as api, running(api, deadline=0.3) as gateway:
        assert is_error(ask(gateway.port, call()), 504, "timeout", "ambiguous")
        assert 1 == api.count("1")
        (attempt,) = gateway.attempts()
        assert (Outcome.AMBIGUOUS, TransportFailure.READ_TIMEOUT) == (attempt.outcome, attempt.error_type)
        assert attempt.sent_at is not None
        never.set()


@pytest.mark.parametrize(
    ("acts", "kind"),
    [
        ((Cut.CLOSE,), TransportFailure.CONNECTION_CLOSED),
        ((Cut.RESET,), TransportFailure.CONNECTION_RESET),
        ((b"HTTP/1.1 20", Cut.CLOSE), TransportFailure.CONNECTION_CLOSED),
        ((b"SSH-2.0-OpenSSH_9.6\r\n",), TransportFailure.CONNECTION_CLOSED),
        ((b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n",), TransportFailure.CONNECTION_CLOSED),
        ((b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",), TransportFailure.CONNECTION_CLOSED),
    ],
    ids=["closed", "reset", "half a head", "no HTTP", "an upgrade", "a huge head"],
)
def test_an_answer_lost_is_502_and_ambiguous(acts: tuple[Act, ...], kind: TransportFailure) -> None:
    """C2: whatever became of the answer, the dialer gets one, on a connection that stays."""
    with Server(always(*acts)) as api, running(api) as gateway, Client(gateway.port) as client:
        for n in (1, 2):
            assert is_error(client.send(call()).answer(), 502, "answer_lost", "ambiguous")
            assert n == api.count("1")
        assert {(Outcome.AMBIGUOUS, kind)} == {(a.outcome, a.error_type) for a in gateway.attempts()}


@pytest.mark.parametrize("cut", [Cut.CLOSE, Cut.RESET])
def test_a_kept_connection_that_ends_is_not_tried_again(cut: Cut) -> None:
    """C3: the API closes when the second request is there: it may have taken it, so it isn't sent again."""

    def script(request: Received) -> tuple[Act, ...]:
        return (cut,) if request.id == "1" else (ACCEPTED,)

    with Server(script) as api, running(api) as gateway, Client(gateway.port) as client:
        assert 202 == client.send(post()).answer().status
        assert is_error(client.send(call()).answer(), 502, "answer_lost", "ambiguous")
        assert (1, {0}) == (api.count("1"), {received.connection for received in api.received})


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD", "OPTIONS"])
def test_nothing_is_tried_again_whatever_the_method(method: str) -> None:
    """C3: idempotent methods, too, are the dialer's to repeat."""

    def script(request: Received) -> tuple[Act, ...]:
        return (Cut.CLOSE,) if request.id == "1" else (ACCEPTED,)

    again = f"{method} /api/v2/users/me HTTP/1.1\r\nHost: gateway.test\r\nX-Request-Id: 1\r\n\r\n".encode()
    with Server(script) as api, running(api, rules=Rules(forward_all=True)) as gateway, Client(gateway.port) as client:
        assert 202 == client.send(post()).answer().status
        assert client.send(again).socket.recv(64).startswith(b"HTTP/1.1 502 ")
        assert 1 == api.count("1")


def test_a_connection_that_the_api_closed_meanwhile_is_not_used() -> None:
    """C3: a call is sent on a connection that is open, and that has been used not long ago."""
    closed = Event()
    with Server(always(ACCEPTED, closed, Cut.CLOSE)) as api, running(api) as gateway, Client(gateway.port) as client:
        assert 202 == client.send(post()).answer().status
        closed.set()
        kept = gateway.gateway._upstreams[Host.API]._idle
        gateway.until(lambda: not any(one.is_usable for one in kept))
        assert 202 == client.send(call()).answer().status
        assert [0, 1] == [received.connection for received in api.received]


def test_an_answer_that_nobody_asked_for_is_nobodys() -> None:
    """C3: two answers to one request: the second must not become the next call's."""
    with Server(always(ACCEPTED + answer(200, b"poison"))) as api, running(api) as gateway:
        with Client(gateway.port) as client:
            assert [ACCEPTED] * 3 == [client.send(post()).answer().raw for _ in range(3)]
        assert [0, 1, 2] == [received.connection for received in api.received]


def test_idle_connections_end_before_the_api_ends_them() -> None:
    """C3: the gateway closes first, so that no call meets a closing connection."""
    with Server(always(ACCEPTED)) as api, running(api, idle=0.0) as gateway, Client(gateway.port) as client:
        for n in range(3):
            assert 202 == client.send(post(CALLS, BODY, f"X-Request-Id: {n}")).answer().status
        assert [0, 1, 2] == [received.connection for received in api.received]


@pytest.mark.parametrize("is_reset", [False, True])
def test_a_call_whose_dialer_leaves_after_the_send_comes_to_its_end(is_reset: bool) -> None:  # noqa: FBT001 - a column
    """C7: it is recorded once, with what the API said."""
    gone = Event()
    with Server(always(gone, answer(400, b'{"code": "bad.request"}'))) as api, running(api) as gateway:
        with Client(gateway.port) as client:
            client.send(call())
            api.wait()
            if is_reset:
                client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        gateway.until(lambda: all(front.is_last for front in gateway.gateway._fronts))
        gone.set()
        gateway.until(lambda: not gateway.gateway._under_way)
        (attempt,) = gateway.attempts()
        assert (Outcome.REJECTED, "bad.request", BodyState.WHOLE) == (attempt.outcome, attempt.error_code, attempt.body)
        assert 1 == api.count("1")


def test_a_dialer_that_only_ends_its_side_after_the_send_is_answered() -> None:
    """C7: a half-closed connection still takes the answer."""
    gone = Event()
    with Server(always(gone, ACCEPTED)) as api, running(api) as gateway, Client(gateway.port) as client:
        client.send(call())
        api.wait()
        client.socket.shutdown(socket.SHUT_WR)
        gone.set()
        assert (202, b"") == (client.answer().status, client.rest())
