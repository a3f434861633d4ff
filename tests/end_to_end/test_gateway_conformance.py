"""What any HTTP/1.1 server must take, refuse, or wait for: what uNetworking's h1spec demands of one, from raw sockets.

Its 33 requests, with targets moved below the API's path: 15 that have only begun, which nobody may answer yet, and 18
that are whole, each with the classes of answers that are right. The API behind the gateway answers with the request's
own body, as h1spec has it. `test_gateway_http` demands more: here it is only asked whether we keep the common rules.
"""

from collections.abc import Iterator
from itertools import accumulate
from typing import Final

import pytest

from call_initiation.gateway.admission import Rules
from gateways import Client, Running, running
from servers import Received, Server, answer

TARGET = "/api/v2/hello"
HEAD = f"GET {TARGET} HTTP/1.1\r\nHost: example.com\r\n"

PIECES: Final = (
    "G", "ET ", TARGET, " ", "HTTP", "/1.1", "\r", "\n", "Hos", "t:", " ", "localhost", "\r", "\n", "\r",
)  # fmt: skip
"""A request up to its last byte, cut wherever a parser might take it for whole, or for wrong."""
LAST: Final = "\n"

CHUNKS = "c\r\nHellO world1\r\n0\r\n\r\n"

FINE = range(200, 300)
AT_FAULT = range(400, 500)
REFUSED = range(400, 600)
GOES_ON = range(100, 101)
MISSING = range(404, 405)

Demand = tuple[str, tuple[range, ...], str]
"""A request, the statuses that are right, and what the body of a 200 must be."""

DEMANDS: dict[str, Demand] = {
    "a plain request": (f"{HEAD}\r\n", (FINE,), ""),
    "a name in mixed case, a tab, a field with nothing": (
        f"GET {TARGET} HTTP/1.1\r\nhoSt:\texample.com\r\nempty:\r\n\r\n",
        (FINE,),
        "",
    ),
    "a field with a blank only": (f"{HEAD}X-Empty-Header: \r\n\r\n", (FINE,), ""),
    "an expectation": (f"{HEAD}Expect: 100-continue\r\n\r\n", (GOES_ON, FINE), ""),
    "a body with its length": (
        f"POST {TARGET} HTTP/1.1\r\nHost: example.com\r\nContent-Length: 5\r\n\r\nhello",
        (FINE, MISSING),
        "hello",
    ),
    "a body in chunks": (
        f"POST {TARGET} HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS,
        (FINE,),
        "HellO world1",
    ),
    "both framings, in mixed case": (
        f"POST {TARGET} HTTP/1.1\r\nHost: example.com\r\ncontent-LengtH: 5\r\nTransFer-Encoding: chunked\r\n\r\n"
        + CHUNKS,
        (AT_FAULT, FINE),
        "HellO world1",
    ),
    "no version": (f"GET {TARGET} \r\n\r\n", (REFUSED,), ""),
    "a version that never was": (f"GET {TARGET} HTTP/9.9\r\nHost: example.com\r\n\r\n", (REFUSED,), ""),
    "something before the method": (f"Extra line{HEAD}\r\n", (REFUSED,), ""),
    "no Host": (f"GET {TARGET} HTTP/1.1\r\nContent-Length: 5\r\n\r\n", (AT_FAULT,), ""),
    "two Hosts": (f"{HEAD}Host: example.org\r\n\r\n", (AT_FAULT,), ""),
    "brackets in a name": (f"{HEAD}X-Invalid[]: test\r\n\r\n", (AT_FAULT,), ""),
    "a bell in a value": (f"{HEAD}X-Bad-Control-Char: test\x07\r\n\r\n", (AT_FAULT,), ""),
    "a CR where the head ends": (f"{HEAD}\rSome-Header: Test\r\n\r\n", (AT_FAULT,), ""),
    "a length below zero": (f"{HEAD}Content-Length: -1234\r\n\r\n", (AT_FAULT,), ""),
    "a length below any integer": (f"{HEAD}Content-Length: -123456789123456789123456789\r\n\r\n", (AT_FAULT,), ""),
    "a length in letters": (f"{HEAD}Content-Length: abc\r\n\r\n", (AT_FAULT,), ""),
}


@pytest.fixture(scope="module")
def echo() -> Iterator[Server]:
    """An API that answers any request with its body."""

    def script(request: Received) -> tuple[bytes]:
        return (answer(200, request.body),)

    with Server(script) as server:
        yield server


@pytest.fixture(scope="module")
def gateway(echo: Server) -> Iterator[Running]:
    """A gateway to it that forwards all."""
    with running(echo, rules=Rules(forward_all=True)) as one:
        yield one


@pytest.mark.parametrize("begun", list(accumulate(PIECES)), ids=repr)
def test_what_has_only_begun_is_waited_for(gateway: Running, echo: Server, begun: str) -> None:
    """Nothing is said, asked or closed before the last byte; with the rest, it is a request like any other."""
    before = len(echo.received)
    with Client(gateway.port) as client:
        client.send(begun.encode())
        gateway.until(lambda: [len(begun)] == [front._wire_size for front in gateway.gateway._fronts])
        client.socket.setblocking(False)  # noqa: FBT003 - the standard library's
        with pytest.raises(BlockingIOError):
            client.socket.recv(1)
        client.socket.setblocking(True)  # noqa: FBT003 - as above
        assert before == len(echo.received)
        rest = "".join((*PIECES, LAST)).removeprefix(begun)
        assert 200 == client.send(rest.encode()).answer().status


@pytest.mark.parametrize("name", DEMANDS)
def test_what_is_whole_is_answered_as_it_deserves(gateway: Running, echo: Server, name: str) -> None:
    """By a status of the right class; what was refused goes no further."""
    request, right, body = DEMANDS[name]
    before = len(echo.received)
    with Client(gateway.port) as client:
        said = client.send(request.encode()).answer()
        assert any(said.status in statuses for statuses in right)
        assert 200 != said.status or body.encode() == said.body
        assert said.status < 400 or before == len(echo.received)
