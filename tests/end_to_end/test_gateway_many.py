"""Ten thousand calls through the gateway, whatever goes wrong: none is doubled, none ends differently than promised.

Each call is one row of `ROWS`, drawn by a seed: what the API does with it, and what its dialer gets. The same calls are
placed directly, too, and both results are compared. Where a direct dialer is left with a broken connection, or with
none, the gateway promises an error instead: that is the one difference, and it is held to its words. What reached the
API is counted there, by request id.
"""

import json
import random
import socket
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from threading import Event, get_ident
from typing import Any, NamedTuple

import pytest

from call_initiation import Exporter, Ledger
from call_initiation.events import Outcome
from call_initiation.gateway.front import Patience
from call_initiation.gateway.relay import Origin
from gateways import BODY, CALLS, Client, Running, post, running
from servers import PATIENCE, Act, Cut, Received, Server, answer, chunk, head
from twins import faults, listening

pytestmark = pytest.mark.untraced

COUNT, AT_ONCE, SEED = 10_000, 32, 20
DEADLINE, CONNECT = 5.0, {"stalled": 0.2}  # seconds
LASTING = Patience(idle=3600.0)
"""No gateway closes a connection just when a dialer that seldom calls there takes it up again."""

REFUSED = b'{"code": "bad.request", "status": 400}'
LOST = (502, "answer_lost", "ambiguous")
LATE = (504, "timeout", "ambiguous")
UNREACHED = (502, "unreachable", "not_sent")
NO_CONNECTION = (504, "timeout", "not_sent")

_FRAMING = {"connection", "content-length", "transfer-encoding"}  # belongs to each connection, so is made anew
_RESET = struct.pack("ii", 1, 0)


class Row(NamedTuple):
    """One kind of call.

    Attributes:
        share: How often it is drawn, among all the rows' shares.
        acts: What the API does with it; nothing where it can't come there.
        outcome: How it is to be recorded.
        said: What the gateway says by itself: the status, the error's code and outcome; None where the API answers.
        upstream: By which gateway it goes: to the API, or to where there is none; those after which the API hangs up
            without a word have one of their own, for they can take the next call on that connection with them.
        is_twin: Whether a direct dialer comes to an end by itself.
        leaves: How the dialer leaves once the API has the call; None where it stays.
    """

    share: int
    acts: Callable[["Mishaps"], Iterable[Act]]
    outcome: Outcome
    said: tuple[int, str, str] | None = None
    upstream: str = "api"
    is_twin: bool = True
    leaves: Cut | None = None


@dataclass
class Mishaps:
    """What the API needs to go wrong: an event that never comes while calls are placed."""

    never: Event = field(default_factory=Event)


def _whole(*acts: Act) -> Callable[[Mishaps], Iterable[Act]]:
    return lambda _: acts


def _silent(mishaps: Mishaps) -> Iterable[Act]:
    return (mishaps.never,)


def _endless(mishaps: Mishaps) -> Iterator[Act]:
    yield head(400, ("Content-Length", "1000000"))
    while not mishaps.never.wait(0.05):
        yield b"a"


def _pieces(whole: bytes) -> Callable[[Mishaps], Iterable[Act]]:
    return _whole(*(whole[at : at + 1] for at in range(len(whole))))


ACCEPTED = answer(202, b'{"id": "c"}', ("Content-Type", "application/json"))
REFUSAL = answer(400, REFUSED, ("Content-Type", "application/json"), ("ININ-Correlation-Id", "c"))
CHUNKED = head(400, ("Transfer-Encoding", "chunked")) + chunk(REFUSED[:9]) + chunk(REFUSED[9:]) + chunk(b"")
SHORT = head(202, ("Content-Length", "100")) + b'{"id"'

ROWS = {
    "accepted": Row(300, _whole(ACCEPTED), Outcome.ACCEPTED),
    "refused by the API": Row(300, _whole(REFUSAL), Outcome.REJECTED),
    "refused in chunks": Row(60, _whole(CHUNKED), Outcome.REJECTED),
    "C1 silence": Row(6, _silent, Outcome.AMBIGUOUS, LATE, is_twin=False),
    "C2 closed": Row(40, _whole(Cut.CLOSE), Outcome.AMBIGUOUS, LOST),
    "C2 reset": Row(40, _whole(Cut.RESET), Outcome.AMBIGUOUS, LOST),
    "C2 half a head": Row(20, _whole(b"HTTP/1.1 20", Cut.CLOSE), Outcome.AMBIGUOUS, LOST),
    "C3 answered, then closed": Row(40, _whole(ACCEPTED, Cut.CLOSE), Outcome.ACCEPTED, upstream="closing"),
    "C4 refused": Row(20, _whole(), Outcome.NOT_SENT, UNREACHED, "nobody", is_twin=False),
    "C4 no such name": Row(4, _whole(), Outcome.NOT_SENT, UNREACHED, "unnamed", is_twin=False),
    "C4 connect timeout": Row(4, _whole(), Outcome.NOT_SENT, NO_CONNECTION, "stalled", is_twin=False),
    "C7 hung up": Row(20, _whole(REFUSAL), Outcome.REJECTED, is_twin=False, leaves=Cut.CLOSE),
    "C7 reset by the dialer": Row(20, _whole(ACCEPTED), Outcome.ACCEPTED, is_twin=False, leaves=Cut.RESET),
    **{
        f"C9 {status}": Row(8, _whole(answer(status, b"", ("Location", CALLS))), Outcome.REDIRECTED)
        for status in (301, 302, 303, 307, 308)
    },
    "C10 429": Row(40, _whole(answer(429, b"{}", ("Retry-After", "3"))), Outcome.RATE_LIMITED),
    "C10 503": Row(40, _whole(answer(503, b"{}", ("Retry-After", "3"))), Outcome.FAILED),
    "C11 truncated": Row(20, _whole(SHORT, Cut.CLOSE), Outcome.ACCEPTED, LOST),
    "C11 truncated by a reset": Row(20, _whole(SHORT, Cut.RESET), Outcome.ACCEPTED, LOST),
    "C11 short of the last chunk": Row(20, _whole(CHUNKED[:-5], Cut.CLOSE), Outcome.REJECTED, LOST),
    "C11 dripped": Row(10, _pieces(REFUSAL), Outcome.REJECTED),
    "C11 dripped without end": Row(3, _endless, Outcome.REJECTED, LATE, is_twin=False),
}


class Result(NamedTuple):
    """What a dialer got, without what belongs to its own connection."""

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def own(self) -> tuple[int, str, str | None] | None:
        """What the gateway said by itself; None where it passed on what the API said."""
        outcome = dict(self.headers).get("X-Call-Initiation-Outcome")
        if outcome is None:
            return None
        error: dict[str, Any] = json.loads(self.body)
        assert self.status == error["status"]
        return self.status, error["code"].removeprefix("call_initiation.gateway."), outcome


Calls = Sequence[str]


class Upstream:
    """An API that does with each call what its row says, and the dialers that wait to leave it."""

    def __init__(self, calls: Calls) -> None:
        self.mishaps = Mishaps()
        self.calls = calls
        self.came = {n: Event() for n, name in enumerate(calls) if ROWS[name].leaves}
        self.gone = {n: Event() for n in self.came}
        self.server = Server(self._script)

    def counts(self) -> Counter[int]:
        """Return how often each call came."""
        return Counter(int(received.id) for received in self.server.received)

    def _script(self, received: Received) -> Iterator[Act]:
        number = int(received.id)
        if number in self.came:
            self.came[number].set()
            yield self.gone[number]
        yield from ROWS[self.calls[number]].acts(self.mishaps)


def placed(connection: HTTPConnection, number: int) -> Result | None:
    """Place a call and return what came of it; None where the connection broke."""
    try:
        connection.request("POST", CALLS, BODY, {"X-Request-Id": str(number)})
        with connection.getresponse() as response:
            body = response.read()
    except (HTTPException, OSError):
        connection.close()
        return None
    headers = tuple((name, value) for name, value in response.getheaders() if name.lower() not in _FRAMING)
    return Result(response.status, response.reason, headers, body)


def left(upstream: Upstream, port: int, number: int, how: Cut) -> None:
    """Place a call and leave once the API has it."""
    with Client(port) as client:
        client.send(post(CALLS, BODY, f"X-Request-Id: {number}"))
        assert upstream.came[number].wait(PATIENCE)
        if how is Cut.RESET:
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    upstream.gone[number].set()


class Dialers:
    """So many dialers, each with connections of its own that it keeps."""

    def __init__(self) -> None:
        self._connections: dict[tuple[int, int], HTTPConnection] = {}

    def connection(self, port: int) -> HTTPConnection:
        """Return the asking dialer's connection."""
        made = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        return self._connections.setdefault((get_ident(), port), made)

    def place(self, numbers: Sequence[int], place: Callable[[int], Result | None]) -> dict[int, Result | None]:
        """Place calls, so many at once, and return what came of each."""
        with ThreadPoolExecutor(AT_ONCE) as threads:
            results = dict(zip(numbers, threads.map(place, numbers), strict=True))
        for connection in self._connections.values():
            connection.close()
        return results


def directly(calls: Calls) -> dict[int, Result | None]:
    """Place the calls that end by themselves without a gateway."""
    upstream, dialers = Upstream(calls), Dialers()

    def place(number: int) -> Result | None:
        connection = dialers.connection(upstream.server.port)
        result = placed(connection, number)
        if ROWS[calls[number]].upstream == "closing":
            connection.close()
        return result

    numbers = [number for number, name in enumerate(calls) if ROWS[name].is_twin]
    with upstream.server:
        results = dialers.place(numbers, place)
    assert dict.fromkeys(numbers, 1) == upstream.counts()
    return results


def through(upstream: Upstream, gateways: dict[str, Running]) -> dict[int, Result | None]:
    """Place all the calls through the gateways."""
    dialers = Dialers()

    def place(number: int) -> Result | None:
        row = ROWS[upstream.calls[number]]
        port = gateways[row.upstream].port
        if row.leaves is not None:
            return left(upstream, port, number, row.leaves)
        return placed(dialers.connection(port), number)

    return dialers.place(range(len(upstream.calls)), place)


@pytest.fixture
def stalled() -> Iterator[int]:
    """Return a port whose queue is full, so that a connect stalls."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, ExitStack() as waiting:
        for _ in range(4):
            one = waiting.enter_context(socket.socket())
            one.settimeout(0)
            with suppress(BlockingIOError):
                one.connect(listener.getsockname())
        port: int = listener.getsockname()[1]
        yield port


def everything(exporter: Exporter) -> Ledger:
    """Return the books of the calls, once all are recorded."""
    assert exporter.flush(PATIENCE)
    assert not faults(exporter)
    return exporter.ledgers()["attempts"]


def test_ten_thousand_calls_are_each_placed_once_and_answered_as_promised(
    stalled: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Duplicates: 0. Results that differ from a direct call's, but where an error is promised: 0. Unrecorded: 0."""
    calls = random.Random(SEED).choices(list(ROWS), [row.share for row in ROWS.values()], k=COUNT)  # noqa: S311 - no secret
    bare = directly(calls)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody: int = closed.getsockname()[1]
    observer, upstream = listening(), Upstream(calls)
    origins = {
        "api": Origin("127.0.0.1", upstream.server.port),
        "closing": Origin("127.0.0.1", upstream.server.port),
        "nobody": Origin("127.0.0.1", nobody),
        "unnamed": Origin("nobody.invalid", 80),
        "stalled": Origin("127.0.0.1", stalled),
    }
    with upstream.server, ExitStack() as stack:
        gateways = {
            name: stack.enter_context(
                running(origin, observer, deadline=DEADLINE, connect=CONNECT.get(name, DEADLINE), patience=LASTING)
            )
            for name, origin in origins.items()
        }
        results = through(upstream, gateways)
        for gateway in gateways.values():
            gateway.until(lambda gateway=gateway: not gateway.gateway._under_way)  # type: ignore[misc]
        books, counts = everything(observer[0]), upstream.counts()
        outcomes = Counter(attempt.outcome for attempt in observer[1].attempts)
        upstream.mishaps.never.set()
    raced = {n for n, name in enumerate(calls) if ROWS[name].upstream == "closing" and not counts[n]}
    sent = {n for n, name in enumerate(calls) if ROWS[name].upstream in {"api", "closing"}} - raced
    doubled = {n: times for n, times in counts.items() if times > 1}
    differing = {n for n in bare if n not in raced and not _is_as_promised(ROWS[calls[n]], bare[n], results[n])}
    with capsys.disabled():
        print(  # noqa: T201 - the figures are what the test is for
            f"\n{COUNT} calls in {len(set(calls))} rows: {len(sent)} reached the API, {len(doubled)} of them twice; "
            f"{len(bare)} compared with a direct call, {len(differing)} differ; {len(raced)} met a closing connection"
        )
    assert {} == doubled
    assert set() == differing
    assert dict.fromkeys(sent, 1) == counts
    assert {LOST} >= {_own(results[n]) for n in raced}
    for number in results.keys() - bare.keys():
        assert _own(results[number]) == ROWS[calls[number]].said, calls[number]
    assert Ledger(recorded=COUNT, exported=COUNT) == books
    expected = Counter(Outcome.AMBIGUOUS if n in raced else ROWS[name].outcome for n, name in enumerate(calls))
    assert expected == outcomes


def _is_as_promised(row: Row, bare: Result | None, result: Result | None) -> bool:
    """Tell whether a result is the direct one, or an error where that one is a broken connection."""
    if row.said is None:
        return bare is not None and bare == result
    return bare is None and _own(result) == row.said


def _own(result: Result | None) -> tuple[int, str, str | None] | None:
    return None if result is None else result.own
