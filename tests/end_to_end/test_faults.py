"""At most one dial, whatever goes wrong: the upstream's own count, the caller's own exception, our own record of it."""

import asyncio
import contextlib
import errno
import gc
import itertools
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from threading import Event, Thread, get_ident
from typing import Any

import anyio
import pytest
import trustme

from call_initiation.calls.observation import KEPT_BODY
from call_initiation.events import Attempt, BodyState, Outcome
from servers import Cut, Received, Server, always, answer, chunk, head
from twins import CALLS, DOORS, PAYLOAD, Door, Equip, raised, twins

pytestmark = pytest.mark.parametrize("door", DOORS, ids=str)

_ids = itertools.count()


def call(server: Server | None, **options: Any) -> Callable[[Door, Equip, str], Any]:
    """Return a scenario of one call with an id of its own, which must come to the server once, or never."""

    async def scenario(door: Door, equip: Equip, url: str) -> Any:
        made = {"timeout": 10, **options.get("client", {})}
        client = equip(door.client(base_url=url, **made))
        story = await place(door, client, **options.get("request", {}))
        await door.do(client, "close")
        return story

    async def counted(door: Door, equip: Equip, url: str) -> Any:
        before = len(server.received) if server else 0
        story = await scenario(door, equip, url)
        count = options.get("count", 1 if server else 0)
        if server and count:
            server.wait(before + count)  # a caller may give up before a busy machine has let it read
        ids = [request.id for request in server.received[before:]] if server else []
        assert count == len(ids) == len(set(ids))
        return story

    return counted


async def place(door: Door, client: Any, **options: Any) -> Any:
    """Place one call; return what came of it, exception or answer."""
    headers = {"x-request-id": f"{next(_ids)}"}
    try:
        response = await door.do(client, "post", CALLS, **{"json": PAYLOAD, "headers": headers, **options})
    except door.module.HTTPError as error:
        return raised(error)
    return response.status_code, response.headers.raw, response.content


def outcome(attempt: Attempt) -> tuple[str, str | None]:
    """Return an attempt's outcome and why."""
    return attempt.outcome.value, attempt.error_type


@pytest.mark.parametrize(
    ("acts", "why"),
    [
        ((Event(),), "read_timeout"),
        ((b"HTTP/1.1 202 Acc", Event()), "read_timeout"),
        ((Cut.CLOSE,), "connection_closed"),
        ((b"HTTP/1.1 202 Acc", Cut.CLOSE), "connection_closed"),
        ((Cut.RESET,), "connection_reset"),
        ((b"SSH-2.0-OpenSSH\r\n\r\n",), "connection_closed"),
    ],
    ids=["silent", "half a head", "closed", "torn head", "reset", "garbage"],
)
def test_no_answer_after_the_send(door: Door, acts: tuple[Any, ...], why: str) -> None:
    """It may have rung: never sent again, the caller has httpx's own exception, the record says ambiguous."""
    with Server(always(*acts)) as server:
        is_timed = why == "read_timeout"  # else a busy machine could be late
        options = {"timeout": door.module.Timeout(10, read=0.15)} if is_timed else {}
        (attempt,) = asyncio.run(twins(call(server, client=options), door, server.url))
        for act in acts:
            if isinstance(act, Event):
                act.set()
    assert ("ambiguous", why) == outcome(attempt)
    assert (None, None, True) == (attempt.status_code, attempt.body, attempt.sent_at is not None)


def test_a_body_that_nobody_takes(door: Door) -> None:
    """A payload that stops half-way has been sent in part: ambiguous."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        options = {
            "client": {"timeout": door.module.Timeout(10, write=0.15)},
            "request": {"content": b" " * 30_000_000},
        }
        (attempt,) = asyncio.run(twins(call(None, **options), door, url))
    assert ("ambiguous", "write_timeout") == outcome(attempt)


@pytest.mark.parametrize("cut", Cut)
def test_the_keep_alive_race(door: Door, cut: Cut) -> None:
    """A connection that dies with the second request on it: that request isn't sent anew on another one."""

    def script(request: Received) -> list[Any]:
        return [cut] if request.id in doomed else [answer(202)]

    doomed: list[str] = []

    async def scenario(door: Door, equip: Equip, url: str) -> Any:
        client = equip(door.client(base_url=url))
        story = [await place(door, client)]
        doomed.append(f"doomed {next(_ids)}")
        story += [await place(door, client, headers={"x-request-id": doomed[-1]}), await place(door, client)]
        await door.do(client, "close")
        return story

    with Server(script) as server:
        attempts = asyncio.run(twins(scenario, door, server.url))
    assert [1, 1] == [server.count(request_id) for request_id in doomed]
    assert ["accepted", "ambiguous", "accepted"] == [attempt.outcome for attempt in attempts]
    assert [0, 0, 1, 2, 2, 3] == [request.connection for request in server.received]


@contextlib.contextmanager
def clogged() -> Iterator[str]:
    """Give the URL of a server to which no connection gets through: its queue is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        while True:
            filler = stack.enter_context(socket.socket())
            filler.settimeout(0.1)
            if filler.connect_ex(listener.getsockname()) in {errno.EAGAIN, errno.ETIMEDOUT, errno.EINPROGRESS}:
                break
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_a_connection_that_takes_too_long(door: Door) -> None:
    """A connect timeout means that nothing was sent."""
    with clogged() as url:
        timeout = {"timeout": door.module.Timeout(10, connect=0.1)}
        (attempt,) = asyncio.run(twins(call(None, client=timeout), door, url))
    assert ("not_sent", "connect_timeout") == outcome(attempt)


def test_a_closed_port(door: Door) -> None:
    """Nobody listens: refused, nothing sent."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    (attempt,) = asyncio.run(twins(call(None), door, url))
    assert ("not_sent", "connection_refused") == outcome(attempt)


def test_a_name_that_nobody_has(door: Door) -> None:
    """The name can't be resolved (RFC 6761 keeps `invalid` for this): nothing sent."""
    (attempt,) = asyncio.run(twins(call(None), door, "http://nonexistent.invalid"))
    assert ("not_sent", "name_resolution") == outcome(attempt)
    assert ("nonexistent.invalid", 80, None) == (attempt.server_address, attempt.server_port, attempt.sent_at)


def test_a_pool_that_is_full(door: Door) -> None:
    """A call that never got a connection was not sent."""
    never = Event()

    async def scenario(door: Door, equip: Equip, url: str) -> Any:
        options = {"limits": door.module.Limits(max_connections=1), "timeout": door.module.Timeout(10, pool=0.1)}
        client = equip(door.client(base_url=url, **options))
        held = await door.do(client, "send", client.build_request("GET", "/held"), stream=True)
        story = await place(door, client)
        await door.do(held, "close")
        await door.do(client, "close")
        return story

    with Server(always(head(200, ("Content-Length", "9")), never)) as server:
        (attempt,) = asyncio.run(twins(scenario, door, server.url))
        never.set()
    assert ("not_sent", "pool_timeout") == outcome(attempt)
    assert ["/held", "/held"] == [request.target for request in server.received]


# -- TLS ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Return an authority that our client trusts."""
    return trustme.CA()


def certified(certificate: trustme.LeafCert) -> ssl.SSLContext:
    """Return a server's side of TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("none", None),
        ("expired", "certificate_expired"),
        ("not yet", "certificate_expired"),
        ("wrong host", "certificate_hostname_mismatch"),
        ("unknown authority", "certificate_untrusted"),
        ("no tls", "tls"),
    ],
)
def test_tls(door: Door, authority: trustme.CA, fault: str, why: str | None) -> None:
    """A certificate that doesn't hold ends the call before anything is sent; the reason is a word of a closed list."""
    long_ago, last_year, next_year = (datetime(datetime.now(UTC).year + n, 1, 1, tzinfo=UTC) for n in (-9, -1, 2))
    leaf = {
        "expired": lambda: authority.issue_cert("localhost", not_before=long_ago, not_after=last_year),
        "not yet": lambda: authority.issue_cert("localhost", not_before=next_year),
        "wrong host": lambda: authority.issue_cert("elsewhere.example.com"),
        "unknown authority": lambda: trustme.CA().issue_cert("localhost"),
    }.get(fault, lambda: authority.issue_cert("localhost"))()
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    is_plain = fault == "no tls"
    greeting = b"SSH-2.0-OpenSSH\r\n" if is_plain else b""
    with Server(always(answer(202)), tls=None if is_plain else certified(leaf), greeting=greeting) as server:
        scenario = call(server, client={"verify": trusting}, count=0 if why else 1)
        (attempt,) = asyncio.run(twins(scenario, door, f"https://localhost:{server.port}"))
    assert (("not_sent", why) if why else ("accepted", None)) == outcome(attempt)


# -- giving up before the send --------------------------------------------------------------------------------------


@contextlib.contextmanager
def stalled(where: str) -> Iterator[tuple[str, str]]:
    """Give a URL at which a connection stalls, and the event of httpcore's trace that comes right before."""
    if where == "connect":
        with clogged() as url:
            yield url, "connection.connect_tcp.started"
    else:
        with Server(always()) as mute:
            yield f"https://127.0.0.1:{mute.port}", "connection.start_tls.started"
            assert [] == mute.received


@pytest.fixture
def dropped_sockets() -> Iterator[None]:
    """Let sockets be dropped: an interrupted `connect` leaves its own to the garbage collector, with us or without."""
    yield
    gc.collect()


@pytest.mark.usefixtures("dropped_sockets")
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.parametrize("where", ["connect", "tls"])
def test_the_caller_gives_up_before_the_send(door: Door, where: str) -> None:
    """Nothing was sent, nothing is sent later, and the record says cancelled."""
    with stalled(where) as (url, moment):
        scenario = _cancelled(moment) if door.is_async else _interrupted(moment)
        if door.is_async:
            (attempt,) = asyncio.run(twins(scenario, door, url))
        else:
            with pytest.raises(StopIteration) as done:
                twins(scenario, door, url).send(None)  # asyncio has a SIGINT handler of its own
            (attempt,) = done.value.value
    assert ("cancelled", "cancelled") == outcome(attempt)
    assert attempt.sent_at is None


def _cancelled(moment: str) -> Callable[[Door, Equip, str], Any]:
    async def scenario(door: Door, equip: Equip, url: str) -> Any:
        client, reached = equip(door.client(base_url=url)), anyio.Event()

        async def trace(name: str, _info: Any) -> None:
            if name == moment:
                reached.set()

        task = asyncio.create_task(client.post(CALLS, json=PAYLOAD, extensions={"trace": trace}))
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        await client.aclose()
        return raised(caught.value)

    return scenario


def _interrupted(moment: str) -> Callable[[Door, Equip, str], Any]:
    async def scenario(door: Door, equip: Equip, url: str) -> Any:
        client, main = equip(door.client(base_url=url, timeout=2)), get_ident()
        interrupter = Thread(target=lambda: reached.wait() and signal.pthread_kill(main, signal.SIGINT))
        reached = Event()

        def trace(name: str, _info: Any) -> None:
            if name == moment:
                reached.set()

        interrupter.start()
        with pytest.raises(KeyboardInterrupt) as caught:
            client.post(CALLS, json=PAYLOAD, extensions={"trace": trace})
        interrupter.join()
        client.close()
        return raised(caught.value, 1)

    return scenario


# -- answers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_ours_to_follow(door: Door, status: int) -> None:
    """An answer that points back at itself is passed on, once."""
    with Server(always(answer(status, b"", ("Location", CALLS)))) as server:
        (attempt,) = asyncio.run(twins(call(server), door, server.url))
    assert ("redirected", str(status)) == outcome(attempt)


@pytest.mark.parametrize(
    ("status", "expected"),
    [(429, Outcome.RATE_LIMITED), (503, Outcome.FAILED), (408, Outcome.FAILED), (413, Outcome.REJECTED)],
)
def test_come_back_later(door: Door, status: int, expected: Outcome) -> None:
    """Retry-After is the caller's to heed: nothing waits, nothing is sent again."""
    with Server(always(answer(status, b'{"code":"too.many"}', ("Retry-After", "0")))) as server:
        (attempt,) = asyncio.run(twins(call(server), door, server.url))
    assert (expected.value, str(status)) == outcome(attempt)
    assert "too.many" == attempt.error_code


BODY = b'{"code":"conversation.error.no.user.station","message":"A station is required to place a call."}'


@pytest.mark.parametrize(
    "acts",
    [
        (head(400, ("Content-Length", "500")), BODY, Cut.CLOSE),
        (head(400, ("Content-Length", "500")), BODY, Cut.RESET),
        (head(400, ("Transfer-Encoding", "chunked")), chunk(BODY), Cut.CLOSE),
    ],
    ids=["short", "reset", "chunked"],
)
def test_a_truncated_answer(door: Door, acts: tuple[Any, ...]) -> None:
    """The caller has the exception that it would have had; the record has the status and that the body broke off."""
    with Server(always(*acts)) as server:
        (attempt,) = asyncio.run(twins(call(server), door, server.url))
    assert ("rejected", "400", BodyState.TRUNCATED) == (*outcome(attempt), attempt.body)
    assert attempt.error_code in {"conversation.error.no.user.station", "unparsed"}  # a reset may drop what was sent


def test_a_dripped_answer(door: Door) -> None:
    """Byte by byte is an answer like any other."""
    drops = [bytes([byte]) for byte in BODY]
    with Server(always(head(400, ("Content-Length", str(len(BODY)))), *drops)) as server:
        (attempt,) = asyncio.run(twins(call(server), door, server.url))
    assert ("conversation.error.no.user.station", BodyState.WHOLE) == (attempt.error_code, attempt.body)


def test_an_accepted_call_whose_answer_breaks_off(door: Door) -> None:
    """A 202 is a 202, though the caller couldn't read what it said."""
    with Server(always(head(202, ("Content-Length", "50")), b"{", Cut.CLOSE)) as server:
        (attempt,) = asyncio.run(twins(call(server), door, server.url))
    assert ("accepted", None, BodyState.TRUNCATED) == (*outcome(attempt), attempt.body)


HOSTILE = {
    "no json": b"<html>Bad Gateway</html>",
    "empty": b"",
    "nan": b'{"code":NaN,"status":Infinity}',
    "deep": b"[" * 100_000,
    "deep objects": b'{"errors":[' * 20_000,
    "long number": b'{"status":' + b"9" * 5_000 + b"}",
    "bad utf-8": b'{"message":"\xff\xfe"}',
    "lone surrogate": b'{"message":"\\ud800"}',
    "wrong types": b'{"code":{},"errors":7,"details":[[],null,"x"],"message":[1],"status":"400"}',
    "null": b"null",
    "text": b'"denied"',
}


@pytest.mark.parametrize("name", HOSTILE)
def test_bodies_that_no_parser_expects(door: Door, name: str) -> None:
    """The caller gets the bytes; the record has no code, and no fault of ours is counted."""
    with Server(always(answer(400, HOSTILE[name]))) as server:
        (attempt,) = asyncio.run(twins(call(server), door, server.url))
    size = BodyState.OVERSIZED if len(HOSTILE[name]) > KEPT_BODY else BodyState.WHOLE
    assert ("rejected", "unparsed", size) == (attempt.outcome, attempt.error_code, attempt.body)


@pytest.mark.parametrize("coding", ["utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
def test_bodies_in_other_encodings(door: Door, coding: str) -> None:
    """A code is found in each of JSON's old encodings, too."""
    with Server(always(answer(400, BODY.decode().encode(coding)))) as server:
        (attempt,) = asyncio.run(twins(call(server), door, server.url))
    assert "conversation.error.no.user.station" == attempt.error_code
