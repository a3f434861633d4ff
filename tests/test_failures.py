"""What `failures` promises: one word from a closed list, and never `not_sent` or `cancelled` where it may have rung."""

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable

import aiohttp
import httpcore
import httpx
import httpx2
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from call_initiation.calls.failures import Failure, failure_of
from call_initiation.events import Outcome, TransportFailure


def caused(error: BaseException, *causes: BaseException) -> BaseException:
    """Return an exception with a chain of causes, nearest first."""
    for effect, cause in zip((error, *causes), causes, strict=False):
        effect.__cause__ = cause
    return error


def untrusted(code: int) -> ssl.SSLCertVerificationError:
    """Return OpenSSL's error with one of its verification results."""
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code = code
    return error


BEFORE = [
    (httpx.ConnectTimeout("t"), TransportFailure.CONNECT_TIMEOUT),
    (httpx2.ConnectTimeout("t"), TransportFailure.CONNECT_TIMEOUT),
    (caused(httpx.ConnectTimeout("t"), httpcore.ConnectTimeout(), TimeoutError()), TransportFailure.CONNECT_TIMEOUT),
    (httpx.PoolTimeout("t"), TransportFailure.POOL_TIMEOUT),
    (httpx.ConnectError("c"), TransportFailure.CONNECTION_FAILED),
    (httpx.UnsupportedProtocol("p"), TransportFailure.PROTOCOL),
    (httpx.LocalProtocolError("p"), TransportFailure.PROTOCOL),
    (httpx2.ProxyError("407"), TransportFailure.PROXY),
    (
        caused(httpx.ConnectError("c"), httpcore.ConnectError(), ConnectionRefusedError(errno.ECONNREFUSED, "no")),
        TransportFailure.CONNECTION_REFUSED,
    ),
    (caused(httpx.ConnectError("c"), OSError(errno.ENETUNREACH, "no")), TransportFailure.CONNECTION_FAILED),
    (caused(httpx.ConnectError("c"), socket.gaierror(-2, "unknown")), TransportFailure.NAME_RESOLUTION),
    (
        caused(httpx.ConnectError("c"), ExceptionGroup("all", [OSError(errno.ECONNREFUSED, "a"), ValueError()])),
        TransportFailure.CONNECTION_REFUSED,
    ),
    (caused(httpx.ConnectError("c"), untrusted(10)), TransportFailure.CERTIFICATE_EXPIRED),
    (caused(httpx.ConnectError("c"), untrusted(9)), TransportFailure.CERTIFICATE_EXPIRED),
    (caused(httpx.ConnectError("c"), untrusted(62)), TransportFailure.CERTIFICATE_HOSTNAME_MISMATCH),
    (caused(httpx.ConnectError("c"), untrusted(64)), TransportFailure.CERTIFICATE_HOSTNAME_MISMATCH),
    (caused(httpx.ConnectError("c"), untrusted(18)), TransportFailure.CERTIFICATE_UNTRUSTED),
    (caused(httpx.ConnectError("c"), ssl.SSLError(1, "handshake failure")), TransportFailure.TLS),
    (caused(httpx.ConnectTimeout(""), aiohttp.ConnectionTimeoutError()), TransportFailure.CONNECT_TIMEOUT),
    (
        caused(
            httpx.ConnectTimeout(""),
            aiohttp.ClientConnectorError(None, OSError(errno.ECONNREFUSED, "no")),  # type: ignore[arg-type]
        ),
        TransportFailure.CONNECTION_REFUSED,
    ),
]
"""Exceptions that say that nothing was sent."""

AFTER = [
    (httpx.ReadTimeout("t"), TransportFailure.READ_TIMEOUT),
    (httpx2.WriteTimeout("t"), TransportFailure.WRITE_TIMEOUT),
    (caused(httpx.ReadTimeout("t"), ConnectionResetError(errno.ECONNRESET, "r")), TransportFailure.READ_TIMEOUT),
    (httpx.ReadError("r"), TransportFailure.CONNECTION_RESET),
    (httpx.WriteError("w"), TransportFailure.CONNECTION_RESET),
    (httpx.CloseError("c"), TransportFailure.CONNECTION_RESET),
    (httpx.RemoteProtocolError("no answer"), TransportFailure.CONNECTION_CLOSED),
    (caused(httpx.ReadError("r"), ConnectionResetError(errno.ECONNRESET, "r")), TransportFailure.CONNECTION_RESET),
    (caused(httpx.WriteError("w"), BrokenPipeError(errno.EPIPE, "p")), TransportFailure.CONNECTION_RESET),
    (caused(httpx.ConnectTimeout(""), aiohttp.ServerDisconnectedError()), TransportFailure.CONNECTION_CLOSED),
    (caused(httpx.ConnectTimeout(""), aiohttp.ClientOSError()), TransportFailure.CONNECTION_RESET),
    (caused(httpx.ConnectTimeout(""), aiohttp.ClientConnectionResetError()), TransportFailure.CONNECTION_RESET),
    (caused(httpx.ReadTimeout(""), aiohttp.SocketTimeoutError()), TransportFailure.READ_TIMEOUT),
    (caused(httpx.ConnectTimeout(""), aiohttp.ClientConnectionError("closed")), TransportFailure.OTHER),
    (ValueError("the dialer's own"), TransportFailure.OTHER),
    (ExceptionGroup("two", [ValueError(), KeyError()]), TransportFailure.OTHER),
]
"""Exceptions that leave open whether it rang, or worse."""


@pytest.mark.parametrize(("error", "kind"), BEFORE, ids=lambda value: repr(value)[:40])
def test_nothing_was_sent(error: BaseException, kind: TransportFailure) -> None:
    """Failing to connect means not sent, where the stream tells it or there is no earlier try that it may hide."""
    for is_one_try in (True, False):
        assert Failure(Outcome.NOT_SENT, kind) == failure_of(error, is_sent=False, is_one_try=is_one_try)
    assert Failure(Outcome.NOT_SENT, kind) == failure_of(error, is_sent=None, is_one_try=True)
    assert Failure(Outcome.AMBIGUOUS, kind) == failure_of(error, is_sent=None, is_one_try=False)


@pytest.mark.parametrize("is_one_try", [True, False])
@pytest.mark.parametrize(("error", "kind"), BEFORE + AFTER, ids=lambda value: repr(value)[:40])
def test_it_was_sent(error: BaseException, kind: TransportFailure, is_one_try: bool) -> None:  # noqa: FBT001 - a parameter of pytest's
    """Once the body has begun to go out, no exception makes it unsent."""
    assert Failure(Outcome.AMBIGUOUS, kind) == failure_of(error, is_sent=True, is_one_try=is_one_try)


@pytest.mark.parametrize("is_one_try", [True, False])
@pytest.mark.parametrize(("error", "kind"), AFTER, ids=lambda value: repr(value)[:40])
def test_in_doubt_it_was_sent(error: BaseException, kind: TransportFailure, is_one_try: bool) -> None:  # noqa: FBT001 - a parameter of pytest's
    """An exception that doesn't speak of connecting leaves it open, even where the body wasn't seen to go."""
    for is_sent in (False, None):
        assert Failure(Outcome.AMBIGUOUS, kind) == failure_of(error, is_sent=is_sent, is_one_try=is_one_try)


def cancelled_by_trio() -> BaseException:
    """Return trio's own cancellation, which can't be made by hand."""
    caught: list[BaseException] = []

    async def main() -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await trio.sleep_forever()
            except BaseException as error:
                caught.append(error)
                raise

    trio.run(main)
    return caught[0]


@pytest.mark.parametrize(
    "given_up", [asyncio.CancelledError, cancelled_by_trio, KeyboardInterrupt, SystemExit, GeneratorExit]
)
def test_giving_up(given_up: Callable[[], BaseException]) -> None:
    """Only a call whose body is known not to have gone out is cancelled."""
    kind = TransportFailure.CANCELLED
    for is_one_try in (True, False):
        assert Failure(Outcome.CANCELLED, kind) == failure_of(given_up(), is_sent=False, is_one_try=is_one_try)
        assert Failure(Outcome.AMBIGUOUS, kind) == failure_of(given_up(), is_sent=None, is_one_try=is_one_try)
        assert Failure(Outcome.AMBIGUOUS, kind) == failure_of(given_up(), is_sent=True, is_one_try=is_one_try)


def test_a_chain_that_goes_round_in_circles() -> None:
    """Causes that name each other end the search."""
    first, second = httpx.ConnectError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert Failure(Outcome.NOT_SENT, TransportFailure.CONNECTION_FAILED) == failure_of(
        first, is_sent=False, is_one_try=True
    )


def test_a_cause_that_is_an_argument() -> None:
    """Errors of httpcore are raised `from None`, and each holds the system's error as its argument."""
    error = caused(httpx.ConnectError("c"), httpcore.ConnectError(ConnectionRefusedError(errno.ECONNREFUSED, "no")))
    assert TransportFailure.CONNECTION_REFUSED == failure_of(error, is_sent=False, is_one_try=True).kind


def test_what_the_caller_was_handling_is_no_cause() -> None:
    """A dialer may try again while it handles an earlier failure, which says nothing of the later one."""
    later = httpx.RemoteProtocolError("no answer")
    later.__context__ = ConnectionRefusedError(errno.ECONNREFUSED, "the first try")
    assert TransportFailure.CONNECTION_CLOSED == failure_of(later, is_sent=True, is_one_try=True).kind


_ERRORS = st.sampled_from([error for error, _ in BEFORE + AFTER])


@given(error=_ERRORS, is_sent=st.sampled_from([True, None]))
def test_doubt_never_cancels(error: BaseException, is_sent: bool | None) -> None:  # noqa: FBT001 - hypothesis's
    """Whatever happened, a call that may have been sent is never said to be given up before."""
    outcome = failure_of(error, is_sent=is_sent, is_one_try=True).outcome
    assert outcome in {Outcome.AMBIGUOUS, Outcome.NOT_SENT}
    assert not (is_sent and outcome is Outcome.NOT_SENT)
