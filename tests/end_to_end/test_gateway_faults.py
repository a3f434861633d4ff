"""What the gateway does when a call goes wrong: each call reaches the API at most once, and each is answered.

The dialers are raw sockets and httpx; the API is a server that follows a script. A request's id is counted at the API.
"""

import gzip
import os
import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Event, Thread

import brotli
import httpx
import psutil
import pytest
import trustme

from call_initiation.admission import Host, Rules
from call_initiation.events import BodyState, Outcome, TransportFailure
from call_initiation.relay import Origin
from gateways import BODY, CALLS, Client, Said, ask, post, running
from servers import PATIENCE, Act, Cut, Received, Server, always, answer, chunk, head

ID = "X-Request-Id: 1"
ACCEPTED = answer(202, b'{"id": "c"}', ("Content-Type", "application/json"))


def _call() -> bytes:
    return post(CALLS, BODY, ID)


def _is_error(said: Said, status: int, code: str, outcome: str) -> bool:
    """Tell whether an answer is the gateway's own error, in the API's shape."""
    error = said.error
    assert {"message", "code", "status", "contextId", "messageParams", "details", "errors"} == set(error)
    assert status == error["status"]
    assert 36 == len(error["contextId"])
    return (status, f"call_initiation.gateway.{code}", outcome) == (
        said.status,
        error["code"],
        said.header("X-Call-Initiation-Outcome"),
    )


def test_a_timeout_after_the_send_is_504_and_ambiguous() -> None:
    """C1: an API that says nothing is waited for until the deadline, and asked once."""
    never = Event()
    with Server(always(never)) as api, running(api, deadline=0.3) as gateway:
        assert _is_error(ask(gateway.port, _call()), 504, "timeout", "ambiguous")
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
            assert _is_error(client.send(_call()).answer(), 502, "answer_lost", "ambiguous")
            assert n == api.count("1")
        assert {(Outcome.AMBIGUOUS, kind)} == {(a.outcome, a.error_type) for a in gateway.attempts()}


@pytest.mark.parametrize("cut", [Cut.CLOSE, Cut.RESET])
def test_a_kept_connection_that_ends_is_not_tried_again(cut: Cut) -> None:
    """C3: the API closes when the second request is there: it may have taken it, so it isn't sent again."""

    def script(request: Received) -> tuple[Act, ...]:
        return (cut,) if request.id == "1" else (ACCEPTED,)

    with Server(script) as api, running(api) as gateway, Client(gateway.port) as client:
        assert 202 == client.send(post()).answer().status
        assert _is_error(client.send(_call()).answer(), 502, "answer_lost", "ambiguous")
        assert (1, {0}) == (api.count("1"), {received.connection for received in api.received})


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD", "OPTIONS"])
def test_nothing_is_tried_again_whatever_the_method(method: str) -> None:
    """C3: idempotent methods, too, are the dialer's to repeat."""

    def script(request: Received) -> tuple[Act, ...]:
        return (Cut.CLOSE,) if request.id == "1" else (ACCEPTED,)

    again = f"{method} /api/v2/users/me HTTP/1.1\r\nHost: gateway.test\r\n{ID}\r\n\r\n".encode()
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
        assert 202 == client.send(_call()).answer().status
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


@pytest.mark.parametrize(
    ("host", "kind"),
    [
        ("127.0.0.1", TransportFailure.CONNECTION_REFUSED),
        ("nobody.invalid", TransportFailure.NAME_RESOLUTION),
        ("a" * 70 + ".invalid", TransportFailure.CONNECTION_FAILED),
    ],
)
def test_an_api_that_cannot_be_reached_is_502_at_once(host: str, kind: TransportFailure) -> None:
    """C4: refused, or no such name: nothing was sent, and the dialer is told so."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port: int = closed.getsockname()[1]
    with running(Origin(host, port)) as gateway:
        said = ask(gateway.port, _call())
        assert _is_error(said, 502, "unreachable", "not_sent")
        assert {"reason": kind} == said.error["messageParams"]
        (attempt,) = gateway.attempts()
        assert (Outcome.NOT_SENT, kind, None) == (attempt.outcome, attempt.error_type, attempt.sent_at)


@dataclass
class Full:
    """A port that takes no connection: its queue is full, so a connect stalls."""

    port: int


@pytest.fixture
def stalled() -> Iterator[Full]:
    """A listener whose backlog is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        port: int = listener.getsockname()[1]
        waiting = []
        for _ in range(4):
            one = socket.socket()
            one.settimeout(0)
            with suppress(BlockingIOError):
                one.connect(("127.0.0.1", port))
            waiting.append(one)
        yield Full(port)
        for one in waiting:
            one.close()


def test_a_connect_that_stalls_is_504_and_not_sent(stalled: Full) -> None:
    """C4: the time for a connection is short."""
    with running(Origin("127.0.0.1", stalled.port), connect=0.2) as gateway:
        assert _is_error(ask(gateway.port, _call()), 504, "timeout", "not_sent")
        (attempt,) = gateway.attempts()
        assert (Outcome.NOT_SENT, TransportFailure.CONNECT_TIMEOUT) == (attempt.outcome, attempt.error_type)


def test_a_dialer_that_leaves_before_the_send_has_placed_no_call(stalled: Full) -> None:
    """C6: a call whose dialer is gone is given up, and recorded as cancelled."""
    with running(Origin("127.0.0.1", stalled.port), connect=PATIENCE) as gateway:
        with Client(gateway.port) as client:
            client.send(_call())
            gateway.until(lambda: bool(gateway.gateway._under_way))
        gateway.until(lambda: not gateway.gateway._under_way)
        assert [Outcome.CANCELLED] == [attempt.outcome for attempt in gateway.attempts()]


def _certificate(ca: trustme.CA, name: str, expired: bool) -> trustme.LeafCert:  # noqa: FBT001 - a column of the table
    past = datetime(2020, 1, 1, tzinfo=UTC)
    return ca.issue_cert(name, not_before=past, not_after=past.replace(year=2021)) if expired else ca.issue_cert(name)


@pytest.mark.parametrize(
    ("name", "is_expired", "is_trusted", "kind"),
    [
        ("localhost", True, True, TransportFailure.CERTIFICATE_EXPIRED),
        ("other.test", False, True, TransportFailure.CERTIFICATE_HOSTNAME_MISMATCH),
        ("localhost", False, False, TransportFailure.CERTIFICATE_UNTRUSTED),
        ("localhost", False, True, None),
    ],
)
def test_certificates_are_verified(
    name: str,
    is_expired: bool,  # noqa: FBT001 - a column of the table
    is_trusted: bool,  # noqa: FBT001 - a column of the table
    kind: TransportFailure | None,
) -> None:
    """C5: an API that can't prove who it is gets no call."""
    ca, stranger = trustme.CA(), trustme.CA()
    theirs, ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    _certificate(ca, name, is_expired).configure_cert(theirs)
    (ca if is_trusted else stranger).configure_trust(ours)
    with Server(always(ACCEPTED), tls=theirs) as api, running(Origin("localhost", api.port, ours)) as gateway:
        said = ask(gateway.port, _call())
        (attempt,) = gateway.attempts()
        if kind is None:
            assert (202, 1) == (said.status, api.count("1"))
        else:
            assert _is_error(said, 502, "unreachable", "not_sent")
            assert (Outcome.NOT_SENT, kind, 0) == (attempt.outcome, attempt.error_type, api.count("1"))


@pytest.mark.parametrize("is_reset", [False, True])
def test_a_call_whose_dialer_leaves_after_the_send_comes_to_its_end(is_reset: bool) -> None:  # noqa: FBT001 - a column
    """C7: it is recorded once, with what the API said."""
    gone = Event()
    with Server(always(gone, answer(400, b'{"code": "bad.request"}'))) as api, running(api) as gateway:
        with Client(gateway.port) as client:
            client.send(_call())
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
        client.send(_call())
        api.wait()
        client.socket.shutdown(socket.SHUT_WR)
        gone.set()
        assert (202, b"") == (client.answer().status, client.rest())


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_passed_on(status: int) -> None:
    """C9: a redirect is the dialer's to judge."""
    with Server(always(answer(status, b"", ("Location", CALLS)))) as api, running(api) as gateway:
        said = ask(gateway.port, _call())
        assert (status, CALLS, 1) == (said.status, said.header("Location"), len(api.received))
        assert [Outcome.REDIRECTED] == [attempt.outcome for attempt in gateway.attempts()]


@pytest.mark.parametrize("status", [429, 503])
def test_an_api_that_asks_for_patience_is_quoted(status: int) -> None:
    """C10: `Retry-After` is passed on; nothing waits for it here."""
    with Server(always(answer(status, b"{}", ("Retry-After", "3")))) as api, running(api) as gateway:
        said = ask(gateway.port, _call())
        assert (status, "3", None) == (
            said.status,
            said.header("Retry-After"),
            said.header("X-Call-Initiation-Outcome"),
        )
        assert 1 == api.count("1")


@pytest.mark.parametrize(
    "acts",
    [
        (head(202, ("Content-Length", "100")), b"abc", Cut.CLOSE),
        (head(202, ("Content-Length", "100")), b"abc", Cut.RESET),
        (head(202, ("Transfer-Encoding", "chunked")), chunk(b"abc"), Cut.CLOSE),
        (head(202, ("Transfer-Encoding", "chunked")), b"zz\r\n"),
    ],
    ids=["short of its length", "reset", "short of its last chunk", "no chunk"],
)
def test_a_truncated_answer_is_502_and_recorded_with_its_status(acts: tuple[Act, ...]) -> None:
    """C11: a broken body would have an SDK repeat the call, so the dialer gets a whole error that names the status."""
    with Server(always(*acts)) as api, running(api) as gateway:
        said = ask(gateway.port, _call())
        assert _is_error(said, 502, "answer_lost", "ambiguous")
        assert "202" == said.error["messageParams"]["status"]
        (attempt,) = gateway.attempts()
        assert (202, BodyState.TRUNCATED, 1) == (attempt.status_code, attempt.body, api.count("1"))


def test_a_dripped_answer_ends_at_the_deadline() -> None:
    """C11: an answer that never ends, byte by byte, is given up as a whole."""
    stop = Event()

    def drip(_: Received) -> Iterator[Act]:
        yield head(400, ("Content-Length", "1000000"))
        while not stop.wait(0.01):
            yield b"a"

    with Server(drip) as api, running(api, deadline=0.5) as gateway:
        assert _is_error(ask(gateway.port, _call()), 504, "timeout", "ambiguous")
        (attempt,) = gateway.attempts()
        assert (400, BodyState.TRUNCATED, 1) == (attempt.status_code, attempt.body, api.count("1"))
        stop.set()


LONG = b"0123456789abcdef" * 65_536  # a mebibyte


def test_a_large_answer_that_breaks_off_breaks_off() -> None:
    """C11: an answer larger than any call's is passed on while it comes, and its end can't be mended."""
    with Server(always(head(200, ("Content-Length", "2000000")), LONG, Cut.CLOSE)) as api, running(api) as gateway:
        with Client(gateway.port) as client:
            raw = client.send(_call()).rest()
        assert raw.startswith(b"HTTP/1.1 200 Because\r\nContent-Length: 2000000\r\n\r\n0123")
        assert 2_000_000 > len(raw)


@pytest.mark.parametrize(
    ("framing", "acts", "expected"),
    [
        ("Content-Length: 1048576", (LONG,), LONG),
        ("Transfer-Encoding: chunked", (chunk(LONG), chunk(b"")), None),
        ("X: end of connection", (LONG, Cut.CLOSE), None),
    ],
)
def test_a_large_answer_is_passed_on_whole(framing: str, acts: tuple[Act, ...], expected: bytes | None) -> None:
    """However the API framed it, the dialer gets every byte."""
    name, _, value = framing.partition(": ")
    with Server(always(head(200, (name, value)), *acts)) as api, running(api) as gateway:
        with httpx.Client(trust_env=False) as client:
            response = client.post(f"{gateway.gateway.url}{CALLS}", content=BODY)
        assert LONG == response.content
        assert (expected is not None) == ("content-length" in response.headers)
        with Client(gateway.port) as old:
            raw = old.send(post().replace(b"HTTP/1.1", b"HTTP/1.0")).rest()
        assert LONG == raw.partition(b"\r\n\r\n")[2]


def test_an_answer_passes_as_it_came() -> None:
    """The status line, the order and spelling of headers, their repetition, and the bytes of the body are the API's."""
    body = gzip.compress(b'{"code": "bad.request"}')
    headers = (
        ("content-TYPE", "application/json"),
        ("Set-Cookie", "a=1"),
        ("X-B", ""),
        ("Content-Encoding", "gzip"),
        ("Set-Cookie", "b=caf\xe9"),
        ("Content-Length", str(len(body))),
        ("ININ-Correlation-Id", "c"),
    )
    raw = head(400, *headers, reason="Quite Bad") + body
    dropped = head(400, ("Connection", "X-Hop"), ("X-Hop", "1"), ("Keep-Alive", "timeout=5"), *headers)
    with Server(always(raw)) as api, running(api) as gateway:
        assert raw == ask(gateway.port, _call()).raw
    with Server(always(dropped.replace(b"Because", b"Quite Bad") + body)) as api, running(api) as gateway:
        assert raw == ask(gateway.port, _call()).raw
        assert ["bad.request"] == [attempt.error_code for attempt in gateway.attempts()]


def test_a_chunked_answer_gets_a_length() -> None:
    """Framing is made anew: what came in chunks goes out whole."""
    acts = (head(400, ("Transfer-Encoding", "chunked"), ("X", "y")), chunk(b"ab"), chunk(b"c"), b"0\r\nT: z\r\n\r\n")
    with Server(always(*acts)) as api, running(api) as gateway:
        assert b"HTTP/1.1 400 Because\r\nX: y\r\nContent-Length: 3\r\n\r\nabc" == ask(gateway.port, _call()).raw


def test_interim_answers_stay_here() -> None:
    """A 103 before the answer is none."""
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    with Server(always(hints + hints + ACCEPTED)) as api, running(api) as gateway:
        assert ACCEPTED == ask(gateway.port, _call()).raw


@pytest.mark.parametrize(
    ("method", "raw"),
    [
        ("HEAD", head(200, ("Content-Length", "7"))),
        ("GET", head(204, ("X", "y"))),
        ("GET", head(304, ("ETag", '"a"'))),
    ],
)
def test_answers_without_a_body_pass_as_they_came(method: str, raw: bytes) -> None:
    """A HEAD's answer says a length and has no body; 204 and 304 have neither."""
    request = f"{method} /api/v2/users/me HTTP/1.1\r\nHost: gateway.test\r\nConnection: close\r\n\r\n".encode()
    with (
        Server(always(raw)) as api,
        running(api, rules=Rules(forward_all=True)) as gateway,
        Client(gateway.port) as one,
    ):
        assert raw.removesuffix(b"\r\n") + b"Connection: close\r\n\r\n" == one.send(request).rest()


BOMBS: dict[str, Callable[[], bytes]] = {
    "br": lambda: brotli.compress(b"\0" * 200_000_000, quality=4),
    "gzip": lambda: gzip.compress(b"\0" * 100_000_000),
}


@pytest.mark.parametrize("encoding", BOMBS)
def test_a_bomb_passes_unopened(encoding: str) -> None:
    """C12: compressed bytes go by as they are, and our copy opens no more of them than it must."""
    body = BOMBS[encoding]()
    process = psutil.Process(os.getpid())
    with Server(always(answer(400, body, ("Content-Encoding", encoding)))) as api, running(api) as gateway:
        ask(gateway.port, post())  # what is loaded once is no matter of the bomb
        gateway.attempts()
        resident = process.memory_info().rss
        assert body == ask(gateway.port, _call()).body
        assert 1 == api.count("1")
        assert [Outcome.REJECTED] * 2 == [attempt.outcome for attempt in gateway.attempts()]
        assert 10_000_000 > process.memory_info().rss - resident


@pytest.mark.parametrize("stage", ["observe", "submit"])
def test_a_fault_of_ours_is_not_the_callers(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """C14: a call that can't be observed is placed all the same."""

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    with Server(always(ACCEPTED)) as api, running(api) as gateway:
        target, name = {
            "observe": ("call_initiation.endpoints", "match"),
            "submit": ("call_initiation.recorder.Recorder", "submit"),
        }[stage]
        with monkeypatch.context() as patched:
            patched.setattr(f"{target}.{name}", broken)
            if stage == "submit":
                assert ACCEPTED == ask(gateway.port, _call()).raw
                assert 1 == api.count("1")
        assert 202 == ask(gateway.port, post()).status


def test_a_fault_of_the_gateways_own_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """C14: where the gateway itself fails after the send, the dialer is answered, not cut off."""

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    with Server(always(ACCEPTED)) as api, running(api) as gateway:
        monkeypatch.setattr("call_initiation.answers.whole", broken)
        assert _is_error(ask(gateway.port, _call()), 502, "answer_lost", "ambiguous")
        assert 1 == api.count("1")


def test_overload_is_refused_before_anything_is_sent() -> None:
    """C16: ten times what there is room for: what was sent is answered, the rest is told so and never sent."""
    hold = Event()
    room, queue, dialers = 4, 2, 40
    options = {"in_flight": room, "queue": queue, "queue_seconds": PATIENCE}
    with Server(always(hold, ACCEPTED)) as api, running(api, **options) as gateway:
        clients = [Client(gateway.port) for _ in range(dialers)]
        for n, client in enumerate(clients):
            client.send(post(CALLS, BODY, f"X-Request-Id: {n}"))
        api.wait(room, room)
        gateway.until(lambda: len(gateway.gateway._under_way) <= room + queue)
        hold.set()
        answers = [client.answer() for client in clients]
        for client in clients:
            client.socket.close()
        refused = [said for said in answers if said.status == 503]
        assert dialers - room - queue == len(refused)
        assert all(_is_error(said, 503, "overloaded", "not_sent") for said in refused)
        assert {"1"} == {said.header("Retry-After") for said in refused}
        assert room + queue == len(api.received) == len({received.id for received in api.received})


def test_the_queue_is_short_in_time_too() -> None:
    """C16: who waits too long for room is told so, before anything is sent."""
    hold = Event()
    with Server(always(hold, ACCEPTED)) as api, running(api, in_flight=1, queue_seconds=0.1) as gateway:
        with Client(gateway.port) as first:
            first.send(post())
            api.wait()
            assert _is_error(ask(gateway.port, _call()), 503, "overloaded", "not_sent")
            hold.set()
            assert 202 == first.answer().status
        assert 0 == api.count("1")


def test_draining_finishes_what_is_under_way_and_takes_nothing_more() -> None:
    """C17: calls under way get their answers whole; idle dialers are let go; new ones find the door closed."""
    hold = Event()
    body = b"a" * 200_000
    with Server(always(hold, answer(400, body))) as api, running(api) as gateway, Client(gateway.port) as idle:
        with Client(gateway.port) as busy:
            busy.send(_call())
            api.wait()
            drained: list[bool] = []
            draining = Thread(target=lambda: drained.append(gateway.do(lambda: gateway.gateway.drain(PATIENCE))))
            draining.start()
            assert b"" == idle.rest()
            assert not gateway.gateway.is_ready
            with pytest.raises(ConnectionRefusedError):
                Client(gateway.port)
            hold.set()
            said = busy.answer()
            assert (400, "close", body) == (said.status, said.header("Connection"), said.body)
        draining.join(PATIENCE)
        assert [True] == drained


def test_what_cannot_be_finished_is_answered_all_the_same() -> None:
    """C17: a call that outlasts the drain ends as ambiguous, and its dialer is told so."""
    hold = Event()
    with Server(always(hold)) as api:
        with running(api) as gateway:
            client = Client(gateway.port).send(_call())
            api.wait()
            assert not gateway.do(lambda: gateway.gateway.drain(0.1))
        with client:
            assert _is_error(client.answer(), 502, "answer_lost", "ambiguous")
        hold.set()
        assert 1 == api.count("1")
