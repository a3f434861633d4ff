"""What the gateway's HTTP front takes, from raw sockets: one clear request, or a refusal and an end.

The table of malformed requests is made from RFC 9112 (framing, 6.1 to 7.1; request line, 3) and RFC 9110 (fields, 5.5
and 5.6.2; Host, 7.2). The rule for each: refused and closed, with nothing sent to the API.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from math import inf
from threading import Event

import psutil
import pytest

from call_initiation.gateway.admission import Rules
from call_initiation.gateway.front import Patience
from call_initiation.gateway.relay import Origin
from gateways import BODY, CALLS, QUICK, Client, Running, ask, post, running
from servers import Server, always, answer, chunk, head

LINE = f"POST {CALLS} HTTP/1.1".encode()
HOST = b"Host: gateway.test"
CHUNKED = b"Transfer-Encoding: chunked"
CHUNKS = b"3\r\nabc\r\n0\r\n\r\n"
SIZED = b"Content-Length: 3"


def _request(*lines: bytes, body: bytes = b"abc") -> bytes:
    return b"\r\n".join([*lines, b"", b""]) + body


MALFORMED = {
    "both framings, length first": _request(LINE, HOST, SIZED, CHUNKED, body=CHUNKS),
    "both framings, chunked first": _request(LINE, HOST, CHUNKED, SIZED, body=CHUNKS),
    "two codings in two fields": _request(LINE, HOST, CHUNKED, b"Transfer-Encoding: identity", body=CHUNKS),
    "a coding before chunked": _request(LINE, HOST, b"Transfer-Encoding: gzip, chunked", body=CHUNKS),
    "identity before chunked": _request(LINE, HOST, b"Transfer-Encoding: identity, chunked", body=CHUNKS),
    "identity after chunked": _request(LINE, HOST, b"Transfer-Encoding: chunked, identity", body=CHUNKS),
    "chunked twice": _request(LINE, HOST, b"Transfer-Encoding: chunked, chunked", body=CHUNKS),
    "an unknown coding": _request(LINE, HOST, b"Transfer-Encoding: xchunked", body=CHUNKS),
    "a vertical tab before chunked": _request(LINE, HOST, b"Transfer-Encoding: \x0bchunked", body=CHUNKS),
    "chunked on HTTP/1.0": _request(LINE.replace(b"1.1", b"1.0"), HOST, CHUNKED, body=CHUNKS),
    "the length twice": _request(LINE, HOST, SIZED, SIZED),
    "two lengths": _request(LINE, HOST, SIZED, b"Content-Length: 4"),
    "a list of lengths": _request(LINE, HOST, b"Content-Length: 3, 3"),
    "a signed length": _request(LINE, HOST, b"Content-Length: +3"),
    "a negative length": _request(LINE, HOST, b"Content-Length: -3"),
    "a hexadecimal length": _request(LINE, HOST, b"Content-Length: 0x3"),
    "a length beyond 64 bits": _request(LINE, HOST, b"Content-Length: 99999999999999999999999"),
    "an empty length": _request(LINE, HOST, b"Content-Length:"),
    "a length with a blank": _request(LINE, HOST, b"Content-Length: 1 2"),
    "a length in other digits": _request(LINE, HOST, "Content-Length: ٣".encode()),
    "a chunk's size with 0x": _request(LINE, HOST, CHUNKED, body=b"0x3\r\nabc\r\n0\r\n\r\n"),
    "a negative chunk": _request(LINE, HOST, CHUNKED, body=b"-3\r\nabc\r\n0\r\n\r\n"),
    "a chunk beyond 64 bits": _request(LINE, HOST, CHUNKED, body=b"fffffffffffffffff\r\nabc\r\n0\r\n\r\n"),
    "a blank after a chunk's size": _request(LINE, HOST, CHUNKED, body=b"3 \r\nabc\r\n0\r\n\r\n"),
    "chunks ended by bare LF": _request(LINE, HOST, CHUNKED, body=b"3\nabc\n0\n\n"),
    "a chunk without its end": _request(LINE, HOST, CHUNKED, body=b"3\r\nabcX0\r\n\r\n"),
    "a chunk's extension with LF": _request(LINE, HOST, CHUNKED, body=b"3;a\nb\r\nabc\r\n0\r\n\r\n"),
    "a chunk's extension with CR": _request(LINE, HOST, CHUNKED, body=b"3;a\rb\r\nabc\r\n0\r\n\r\n"),
    "a chunk without a size": _request(LINE, HOST, CHUNKED, body=b"\r\nabc\r\n0\r\n\r\n"),
    "a length among the trailers": _request(LINE, HOST, CHUNKED, body=b"0\r\nContent-Length: 9\r\n\r\n"),
    "lines ended by bare LF": _request(LINE, HOST, SIZED).replace(b"\r\n", b"\n"),
    "one line ended by bare LF": LINE + b"\r\n" + HOST + b"\n" + SIZED + b"\r\n\r\nabc",
    "a bare CR between fields": LINE + b"\r\n" + HOST + b"\r" + SIZED + b"\r\n\r\nabc",
    "a bare CR in a value": _request(LINE, HOST, b"X: a\rb", SIZED),
    "a NUL in a value": _request(LINE, HOST, b"X: a\0b", SIZED),
    "a NUL in a name": _request(LINE, HOST, b"X\0: a", SIZED),
    "a control in a value": _request(LINE, HOST, b"X: a\x01b", SIZED),
    "a DEL in a value": _request(LINE, HOST, b"X: a\x7fb", SIZED),
    "a folded value": _request(LINE, HOST, b"X: a\r\n b", SIZED),
    "a fold before the first field": _request(LINE, b" " + HOST, SIZED),
    "a blank before the colon": _request(LINE, HOST, b"Content-Length : 3"),
    "no colon": _request(LINE, HOST, b"Nothing", SIZED),
    "an empty name": _request(LINE, HOST, b": x", SIZED),
    "a name that is no token": _request(LINE, HOST, b"X(y): z", SIZED),
    "the head ended by LF CR": LINE + b"\r\n" + HOST + b"\r\n" + SIZED + b"\r\n\n\rabc",
    "the protocol in small letters": _request(LINE.replace(b"HTTP", b"http"), HOST, SIZED),
    "a version with two digits": _request(LINE.replace(b"1.1", b"1.10"), HOST, SIZED),
    "a version that isn't there yet": _request(LINE.replace(b"1.1", b"1.2"), HOST, SIZED),
    "a tab in the request line": _request(LINE.replace(b" ", b"\t"), HOST, SIZED),
    "a blank before the method": b" " + _request(LINE, HOST, SIZED),
    "a method in small letters": _request(LINE.replace(b"POST", b"post"), HOST, SIZED),
    "a method that is no token": _request(LINE.replace(b"POST", b"P@ST"), HOST, SIZED),
    "TLS on the plain port": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no Host": _request(LINE, SIZED),
    "two Hosts": _request(LINE, HOST, HOST, SIZED),
    "an empty Host": _request(LINE, b"Host:", SIZED),
    "a Host with a user": _request(LINE, b"Host: gateway.test@evil.test", SIZED),
    "a Host with a path": _request(LINE, b"Host: gateway.test/x", SIZED),
    "two Hosts in one": _request(LINE, b"Host: gateway.test, evil.test", SIZED),
    "a Host with a blank": _request(LINE, b"Host: gateway.test evil.test", SIZED),
    "a Host with no port after the colon": _request(LINE, b"Host: gateway.test:", SIZED),
    "a WebSocket upgrade": _request(LINE, HOST, SIZED, b"Connection: Upgrade", b"Upgrade: websocket"),
    "an upgrade to HTTP/2": _request(LINE, HOST, SIZED, b"Connection: Upgrade", b"Upgrade: h2c"),
    "an upgrade that Connection doesn't name": _request(LINE, HOST, SIZED, b"Upgrade: h2c"),
}

TARGETS = (
    f"http://evil.test{CALLS}",
    f"//evil.test{CALLS}",
    f"@evil.test{CALLS}",
    f"/@evil.test/..{CALLS}",
    f"{CALLS}#fragment",
    f"{CALLS}/../calls",
    "/api/v2/./conversations/calls",
    "/api/v2/x/%2e%2e/conversations/calls",
    "/api/v2/x/%2E./conversations/calls",
    "/api/v2/x/..;/conversations/calls",
    f"{CALLS}/user/a%2fb",
    f"{CALLS}/user/a%5Cb",
    f"{CALLS}/user/a\\b",
    f"{CALLS}/user/a%00",
    f"{CALLS}/user/a%0d%0aHost:%20evil.test",
    f"{CALLS}/user/%zz",
    f"{CALLS}/user/\xe9",
    f"{CALLS}//user/a",
    f"{CALLS}?a=\\",
    f'{CALLS}?a="',
    "*",
    CALLS[1:],
)


@pytest.fixture(scope="module")
def upstream() -> Iterator[Server]:
    """An API that accepts all."""
    with Server(always(answer(202, b"{}"))) as server:
        yield server


@pytest.fixture(scope="module")
def gateway(upstream: Server) -> Iterator[Running]:
    """A gateway to it that forwards all."""
    with running(upstream, rules=Rules(forward_all=True), patience=QUICK) as one:
        yield one


def _refused(gateway: Running, upstream: Server, request: bytes) -> int:
    """Send what must be refused; demand one answer, an end, and nothing upstream; return the status."""
    before = len(upstream.received)
    with Client(gateway.port) as client:
        said = client.send(request).answer()
        assert b"" == client.rest()
    assert before == len(upstream.received)
    assert "close" == said.header("Connection")
    assert "not_sent" == said.header("X-Call-Initiation-Outcome")
    assert said.status == said.error["status"]
    assert said.error["code"].startswith("call_initiation.gateway.")
    return said.status


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_no_clear_request_is_refused(gateway: Running, upstream: Server, name: str) -> None:
    """H1, H4, H9: a malformed request is answered 400, the connection ends, and the API hears nothing of it."""
    assert 400 == _refused(gateway, upstream, MALFORMED[name])


@pytest.mark.parametrize("target", TARGETS)
def test_targets_that_could_lead_elsewhere_are_refused(gateway: Running, upstream: Server, target: str) -> None:
    """H3: a target that one reader could take for another host or path goes nowhere."""
    assert 400 == _refused(gateway, upstream, post(target))


@pytest.mark.parametrize("line", ["CONNECT evil.test:443 HTTP/1.1", "TRACE /api/v2/users/me HTTP/1.1"])
def test_tunnels_and_echoes_are_refused(gateway: Running, upstream: Server, line: str) -> None:
    """H3: neither a tunnel nor an echo is to be had."""
    assert _refused(gateway, upstream, f"{line}\r\nHost: gateway.test\r\n\r\n".encode()) in {400, 405}


@pytest.mark.parametrize("version", ["HTTP/2.0", ""])
def test_other_versions_are_refused(gateway: Running, upstream: Server, version: str) -> None:
    """H1: HTTP/2 in HTTP/1's clothes is told so, and so is HTTP/0.9."""
    assert 505 == _refused(gateway, upstream, f"POST {CALLS} {version}".rstrip().encode() + b"\r\nHost: a\r\n\r\n")


@pytest.mark.parametrize(
    ("framing", "body"),
    [
        (SIZED, b"abc"),
        (b"Content-Length:   3  \t", b"abc"),
        (b"content-length: 3", b"abc"),
        (CHUNKED, CHUNKS),
        (b"Transfer-Encoding:\tCHUNKED", CHUNKS),
        (CHUNKED, b"1;a=b\r\na\r\n02;c\r\nbc\r\n0;d\r\n\r\n"),
        (CHUNKED, b"3\r\nabc\r\n0\r\nHost: evil.test\r\nAuthorization: other\r\n\r\n"),
    ],
)
def test_framing_is_made_anew(gateway: Running, upstream: Server, framing: bytes, body: bytes) -> None:
    """H1, H2: however a request was framed, the API gets one Content-Length, and no trailer."""
    before = len(upstream.received)
    said = ask(gateway.port, _request(LINE, HOST, framing, body=body))
    (received,) = upstream.received[before:]
    assert 202 == said.status
    expected = _request(LINE, f"Host: 127.0.0.1:{upstream.port}".encode(), SIZED, body=b"abc")
    assert expected == received.raw


def test_a_request_is_forwarded_as_it_came(gateway: Running, upstream: Server) -> None:
    """H5: order, spelling and repetition of headers stay; nothing is added."""
    headers = ("authorization: Bearer made-up", "X-Custom: b", "ACCEPT: */*", "x-custom: a", "X-Text: caf\xe9  ok")
    before = len(upstream.received)
    assert 202 == ask(gateway.port, post(f"{CALLS}/user/a%20b?x=[1]&y=%2f", BODY, *headers)).status
    (received,) = upstream.received[before:]
    expected = "\r\n".join(
        [
            f"POST {CALLS}/user/a%20b?x=[1]&y=%2f HTTP/1.1",
            f"Host: 127.0.0.1:{upstream.port}",
            *headers,
            f"Content-Length: {len(BODY)}",
            "",
            "",
        ]
    )
    assert expected.encode("latin-1") + BODY == received.raw


@pytest.mark.parametrize(
    "header",
    [
        "Connection: keep-alive",
        "Keep-Alive: timeout=5",
        "Proxy-Connection: keep-alive",
        "Proxy-Authorization: Basic made-up",
        "TE: trailers",
        "Trailer: X-Sum",
        "HTTP2-Settings: AAMAAABkAAQAAP__",
        "X-Forwarded-Host: evil.test",
        "Forwarded: host=evil.test",
        "X-Original-URL: /api/v2/users",
        "Content_Length: 99",
        "Transfer_Encoding: chunked",
        "X-Call-Initiation-Agent-Id: somebody",
        "X-Call-Initiation-Anything: else",
    ],
)
def test_what_belongs_to_one_connection_or_to_us_stays_here(gateway: Running, upstream: Server, header: str) -> None:
    """H4, H5: hop-by-hop fields, claims about the host, and what was meant for the gateway go no further."""
    before = len(upstream.received)
    assert 202 == ask(gateway.port, post(CALLS, BODY, header)).status
    assert {"host", "content-length"} == set(upstream.received[before].headers)


def test_connection_drops_what_it_names_but_not_the_credentials(gateway: Running, upstream: Server) -> None:
    """H5: `Connection: authorization` would make a call anonymous."""
    before = len(upstream.received)
    headers = ("Connection: X-Hop, AUTHORIZATION, close", "X-Hop: 1", "Authorization: Bearer made-up")
    assert 202 == ask(gateway.port, post(CALLS, BODY, *headers)).status
    assert {"host", "content-length", "authorization"} == set(upstream.received[before].headers)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (post(CALLS, BODY, "X: " + "a" * 20_000), 431),
        (post(CALLS, BODY, *(f"X-{n}: a" for n in range(101))), 431),
        (post(CALLS, BODY, "X: " + "a" * 1_000_000), 431),
        (LINE + b"\r\nX: " + b"a" * 20_000, 431),
        (post(CALLS, BODY, *(f"X-{n}: a" for n in range(10_000))), 431),
        (post(CALLS + "?" + "a" * 5_000), 414),
        (_request(LINE, HOST, b"Content-Length: 1000000000", body=b""), 413),
        (_request(LINE, HOST, b"Content-Length: 512001", body=b""), 413),
        (post(CALLS, b"a" * 512_001), 413),
        (_request(LINE, HOST, CHUNKED, body=chunk(b"a" * 512_001) + chunk(b"")), 413),
    ],
)
def test_what_is_too_large_is_refused_early(gateway: Running, upstream: Server, request_: bytes, status: int) -> None:
    """H7: heads, targets and bodies have their limits, and a declared length is believed."""
    assert status == _refused(gateway, upstream, request_)


def test_endless_chunks_end_at_the_limit(gateway: Running, upstream: Server) -> None:
    """H7: a body that never ends is cut at the limit, and memory stays flat."""
    process, before = psutil.Process(os.getpid()), len(upstream.received)
    with Client(gateway.port) as client:
        client.send(_request(LINE, HOST, CHUNKED, body=b""))
        resident = process.memory_info().rss
        with suppress(ConnectionResetError, BrokenPipeError):
            while True:
                client.send(b"8000\r\n" + b"a" * 0x8000 + b"\r\n")
        assert 20_000_000 > process.memory_info().rss - resident
    assert before == len(upstream.received)


def test_endless_extensions_of_chunks_end_at_the_limit(gateway: Running, upstream: Server) -> None:
    """H7: a chunk may say much about itself, but not without end."""
    endless = _request(LINE, HOST, CHUNKED, body=b"1;" + b"a" * 1_100_000)
    assert 413 == _refused(gateway, upstream, endless)


def test_the_largest_body_that_the_api_takes_passes(gateway: Running, upstream: Server) -> None:
    """H7: 512,000 bytes are a request, chunked in single bytes or not."""
    before = len(upstream.received)
    assert 202 == ask(gateway.port, post(CALLS, b"a" * 512_000)).status
    assert b"a" * 512_000 == upstream.received[before].body


def test_a_second_request_before_the_first_answer_is_not_read(gateway: Running, upstream: Server) -> None:
    """H8: of pipelined requests one is answered, and the connection closed: none is sent twice or out of order."""
    before = len(upstream.received)
    with Client(gateway.port) as client:
        said = client.send(post(CALLS + "?n=1") + post(CALLS + "?n=2") + post(CALLS + "?n=3")).answer()
        assert b"" == client.rest()
    assert (202, "close") == (said.status, said.header("Connection"))
    assert [CALLS + "?n=1"] == [received.target for received in upstream.received[before:]]


def test_a_second_request_while_the_first_is_served_is_not_read() -> None:
    """H8: nor is one that comes a little later."""
    hold = Event()
    with Server(always(hold, answer(202))) as upstream, running(upstream) as gateway, Client(gateway.port) as client:
        client.send(post(CALLS + "?n=1"))
        upstream.wait()
        client.send(post(CALLS + "?n=2"))
        gateway.until(lambda: all(front.is_last for front in gateway.gateway._fronts))
        hold.set()
        assert (202, "close") == ((said := client.answer()).status, said.header("Connection"))
        assert b"" == client.rest()
        assert [CALLS + "?n=1"] == [received.target for received in upstream.received]


def test_a_smuggled_request_is_not_read(gateway: Running, upstream: Server) -> None:
    """H1: what follows a body isn't read as a request as long as the first isn't answered."""
    before = len(upstream.received)
    with Client(gateway.port) as client:
        client.send(_request(LINE, HOST, SIZED, body=b"abcGET /api/v2/users/me HTTP/1.1\r\nHost: x\r\n\r\n"))
        assert 202 == client.answer().status
        assert b"" == client.rest()
    assert ["abc"] == [received.body.decode() for received in upstream.received[before:]]


def test_connections_are_kept(gateway: Running, upstream: Server) -> None:
    """One request after another passes on one connection, split as it may be."""
    before = len(upstream.received)
    with Client(gateway.port) as client:
        for n in range(3):
            request = post(f"{CALLS}?n={n}")
            for part in (request[:7], request[7:90], request[90:]):
                client.send(part)
            assert (202, None) == ((said := client.answer()).status, said.header("Connection"))
    assert [f"{CALLS}?n={n}" for n in range(3)] == [received.target for received in upstream.received[before:]]


@pytest.mark.parametrize("wish", [b"close", b"keep-alive"])
def test_a_dialer_of_old_gets_one_answer_a_connection(gateway: Running, wish: bytes) -> None:
    """HTTP/1.0 is served, and its connection closed, whatever it wishes."""
    with Client(gateway.port) as client:
        said = client.send(_request(LINE.replace(b"1.1", b"1.0"), HOST, SIZED, b"Connection: " + wish)).answer()
        assert (202, "close", b"") == (said.status, said.header("Connection"), client.rest())


def test_the_body_is_asked_for_when_the_head_is_fine(gateway: Running) -> None:
    """H9: `100 Continue` comes after the checks, and only then."""
    expecting = post(CALLS, BODY, "Expect: 100-continue").removesuffix(BODY)
    with Client(gateway.port) as client:
        assert 100 == client.send(expecting).answer().status
        assert 202 == client.send(BODY).answer().status
    with Client(gateway.port) as client:
        assert 404 == client.send(expecting.replace(b"/api/", b"/not/")).answer().status


def test_a_refused_head_request_gets_no_body(gateway: Running) -> None:
    """RFC 9110, 9.3.2."""
    with Client(gateway.port) as client:
        assert client.send(b"HEAD / HTTP/1.1\r\n" + HOST + b"\r\n\r\n").rest().endswith(b"\r\n\r\n")


def test_other_expectations_fail(gateway: Running, upstream: Server) -> None:
    """H9: nothing but 100-continue can be expected."""
    assert 417 == _refused(gateway, upstream, post(CALLS, BODY, "Expect: 200-maybe"))


@pytest.mark.parametrize(
    ("part", "status"),
    [(b"", None), (LINE, 408), (_request(LINE, HOST, b"Content-Length: 9", body=b"abc"), 408)],
    ids=["idle", "head", "body"],
)
def test_slow_dialers_are_cut(gateway: Running, upstream: Server, part: bytes, status: int | None) -> None:
    """H6, C8: whoever sends nothing, or half of something, is cut after its time."""
    before = len(upstream.received)
    with Client(gateway.port) as client:
        client.send(part)
        raw = client.rest()
    assert (b"" if status is None else b"HTTP/1.1 408 Request Timeout") == raw.split(b"\r\n")[0]
    assert before == len(upstream.received)


def test_a_byte_now_and_then_buys_no_time(gateway: Running) -> None:
    """H6: a head has its time from its first byte on, however it is dripped."""
    drip = iter(LINE + b"\r\n" + b"X: " + b"a" * 1_000)
    with Client(gateway.port) as client:
        client.socket.settimeout(0.02)
        answered = b""
        for byte in drip:
            client.send(bytes([byte]))
            try:
                answered = client.socket.recv(4_096)
                break
            except TimeoutError:
                continue
    assert answered.startswith(b"HTTP/1.1 408 ")


def test_a_dialer_that_takes_no_answer_is_cut() -> None:
    """H6: an answer that nobody reads holds nothing for long."""
    large = answer(200, b"a" * 30_000_000)
    with (
        Server(always(large)) as upstream,
        running(upstream, patience=QUICK) as gateway,
        Client(gateway.port) as client,
    ):
        client.send(post())
        upstream.wait()
        gateway.until(lambda: not gateway.gateway._fronts and not gateway.gateway._under_way)
        assert len(large) > len(client.rest())


def _take_little(gateway: Running) -> None:
    """Have the system take little at once of what dialers that connect from now on don't read."""
    gateway.gateway._server.sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)


def test_a_dialer_that_takes_most_of_its_last_answer_is_cut() -> None:
    """H6: the rest of it holds nothing for long, either."""
    whole = answer(200, b"a" * 200_000)
    patience = Patience(reader=1.0)
    with Server(always(whole)) as upstream, running(upstream, patience=patience) as gateway, socket.socket() as dialer:
        _take_little(gateway)
        dialer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        dialer.connect(("127.0.0.1", gateway.port))
        dialer.sendall(post(CALLS, BODY, "Connection: close"))
        gateway.until(lambda: any(front._transport.get_write_buffer_size() for front in gateway.gateway._fronts))
        (front,) = gateway.gateway._fronts
        while front._writable is not None:
            dialer.recv(1_024)
        gateway.until(lambda: not gateway.gateway._fronts)


def test_a_dialer_that_takes_no_answer_places_no_second_call() -> None:
    """H6, H7: until it does; so one answer is all that waits for it."""
    whole = answer(200, b"a" * 200_000)
    with Server(always(whole)) as upstream, running(upstream) as gateway:
        _take_little(gateway)
        with Client(gateway.port) as dialer:
            dialer.send(post(f"{CALLS}?n=1"))
            gateway.until(lambda: any(front._writable is not None for front in gateway.gateway._fronts))
            dialer.send(post(f"{CALLS}?n=2"))
            assert 200 == ask(gateway.port, post(f"{CALLS}?n=3")).status
            assert [200, 200] == [dialer.answer().status, dialer.answer().status]
        assert ["1", "3", "2"] == [received.target[-1] for received in upstream.received]


def test_a_slow_api_does_not_make_a_slow_dialer() -> None:
    """H6: a dialer that took what was there isn't cut while the API thinks."""
    hold, part = Event(), b"a" * 16_000_000
    acts = (head(200, ("Content-Length", str(len(part) + 1))), part, hold, b"b")
    with Server(always(*acts)) as upstream, running(upstream) as gateway, Client(gateway.port) as client:
        fronts = gateway.gateway._fronts
        client.send(post())
        gateway.until(lambda: any(front._writable is not None for front in fronts))
        assert all(front.deadline < inf for front in fronts)
        client.exactly(len(part))
        gateway.until(lambda: all(front._writable is None for front in fronts))
        assert [inf] == [front.deadline for front in fronts]
        hold.set()
        assert client.exactly(len(acts[0]) + 1).endswith(b"ab")


def test_connections_have_a_limit(upstream: Server) -> None:
    """H6: beyond the limit a dialer is told so, and those within are served."""
    with running(upstream, connections=1) as gateway, Client(gateway.port) as first:
        assert 202 == first.send(post()).answer().status
        with Client(gateway.port) as second:
            said = second.answer()
            assert (503, "1", "not_sent") == (
                said.status,
                said.header("Retry-After"),
                said.header("X-Call-Initiation-Outcome"),
            )
            assert b"" == second.rest()
        assert 202 == first.send(post()).answer().status


def test_the_environment_changes_nothing(upstream: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """H10: neither a proxy nor certificates of the environment come between."""
    with socket.create_server(("127.0.0.1", 0)) as nowhere:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{nowhere.getsockname()[1]}")
        monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/at/all.pem")
        with running(Origin("127.0.0.1", upstream.port)) as gateway:
            assert 202 == ask(gateway.port, post()).status
