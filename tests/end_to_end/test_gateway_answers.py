"""What the gateway passes on: the API's answers as they came, and an error in place of one that broke off."""

import gzip
from collections.abc import Iterator
from threading import Event

import httpx
import pytest

from call_initiation.events import BodyState, Outcome
from call_initiation.gateway.admission import Rules
from gateways import ACCEPTED, BODY, CALLS, Client, ask, call, is_error, post, running
from servers import Act, Cut, Received, Server, always, answer, chunk, head

LONG = b"0123456789abcdef" * 65_536  # a mebibyte


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_passed_on(status: int) -> None:
    """C9: a redirect is the dialer's to judge."""
    with Server(always(answer(status, b"", ("Location", CALLS)))) as api, running(api) as gateway:
        said = ask(gateway.port, call())
        assert (status, CALLS, 1) == (said.status, said.header("Location"), len(api.received))
        assert [Outcome.REDIRECTED] == [attempt.outcome for attempt in gateway.attempts()]


@pytest.mark.parametrize("status", [429, 503])
def test_an_api_that_asks_for_patience_is_quoted(status: int) -> None:
    """C10: `Retry-After` is passed on; nothing waits for it here."""
    with Server(always(answer(status, b"{}", ("Retry-After", "3")))) as api, running(api) as gateway:
        said = ask(gateway.port, call())
        assert (status, "3", None) == (
            said.status,
            said.header("Retry-After"),
            said.header("X-Call-Initiation-Outcome"),
        )
        assert 1 == api.count("1")


@pytest.mark.parametrize(
    ("status", "code"), [(302, "unparsed"), (307, "unparsed"), *((status, "put.off") for status in (413, 429, 503))]
)
def test_the_advice_to_call_again_can_be_withheld(status: int, code: str) -> None:
    """C9, C10: then a refusal of a call lacks two headers, and all else is told and recorded as it came."""
    more = (("RETRY-after", "3"), ("location", "/api/v2/conversations/calls"), ("inin-ratelimit-reset", "42"))
    headers = (("content-type", "application/json"), *more)
    body = b'{"code": "put.off"}'
    other = b"GET /api/v2/users/me HTTP/1.1\r\nHost: gateway.test\r\n\r\n"
    rules = Rules(forward_all=True, prevent_repeats=True)
    with Server(always(raw := answer(status, body, *headers))) as api, running(api, rules=rules) as gateway:
        told = raw.replace(b"RETRY-after: 3\r\n", b"").replace(b"location: /api/v2/conversations/calls\r\n", b"")
        assert told == ask(gateway.port, call()).raw
        assert raw == ask(gateway.port, other).raw
        (attempt,) = gateway.attempts()
        assert (status, code) == (attempt.status_code, attempt.error_code)


def test_an_accepted_call_keeps_its_headers() -> None:
    """Nobody sends it again for these."""
    raw = answer(202, b"{}", ("Location", "/api/v2/conversations/1"), ("Retry-After", "3"))
    with Server(always(raw)) as api, running(api, rules=Rules(prevent_repeats=True)) as gateway:
        assert raw == ask(gateway.port, call()).raw


def test_a_large_answer_lacks_it_too() -> None:
    """C10: one that is passed on while it comes."""
    with (
        Server(always(answer(503, LONG, ("Retry-After", "3")))) as api,
        running(api, rules=Rules(prevent_repeats=True)) as gateway,
    ):
        assert answer(503, LONG) == ask(gateway.port, call()).raw


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
        said = ask(gateway.port, call())
        assert is_error(said, 502, "answer_lost", "ambiguous")
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
        assert is_error(ask(gateway.port, call()), 504, "timeout", "ambiguous")
        (attempt,) = gateway.attempts()
        assert (400, BodyState.TRUNCATED, 1) == (attempt.status_code, attempt.body, api.count("1"))
        stop.set()


def test_a_large_answer_that_breaks_off_breaks_off() -> None:
    """C11: an answer larger than any call's is passed on while it comes, and its end can't be mended."""
    with Server(always(head(200, ("Content-Length", "2000000")), LONG, Cut.CLOSE)) as api, running(api) as gateway:
        with Client(gateway.port) as client:
            raw = client.send(call()).rest()
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
        assert raw == ask(gateway.port, call()).raw
    with Server(always(dropped.replace(b"Because", b"Quite Bad") + body)) as api, running(api) as gateway:
        assert raw == ask(gateway.port, call()).raw
        assert ["bad.request"] == [attempt.error_code for attempt in gateway.attempts()]


def test_a_length_in_any_spelling_stays_the_only_one() -> None:
    """Two of them could be read in two ways."""
    raw = head(400, ("content-length", "2")) + b"{}"
    with Server(always(raw)) as api, running(api) as gateway, Client(gateway.port) as dialer:
        assert raw == dialer.send(call()).answer().raw


def test_only_who_met_too_many_is_told_when_to_come_again() -> None:
    """What is refused for itself would be refused again, and some SDKs send it again and again if they are told so."""
    with Server(always(ACCEPTED)) as api, running(api) as gateway:
        said = ask(gateway.port, post("/"))
        assert (404, None) == (said.status, said.header("Retry-After"))


def test_a_chunked_answer_gets_a_length() -> None:
    """Framing is made anew: what came in chunks goes out whole."""
    acts = (head(400, ("Transfer-Encoding", "chunked"), ("X", "y")), chunk(b"ab"), chunk(b"c"), b"0\r\nT: z\r\n\r\n")
    with Server(always(*acts)) as api, running(api) as gateway:
        assert b"HTTP/1.1 400 Because\r\nX: y\r\nContent-Length: 3\r\n\r\nabc" == ask(gateway.port, call()).raw


def test_interim_answers_stay_here() -> None:
    """A 103 before the answer is none."""
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    with Server(always(hints + hints + ACCEPTED)) as api, running(api) as gateway:
        assert ACCEPTED == ask(gateway.port, call()).raw


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
