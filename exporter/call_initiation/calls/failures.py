"""Why a call got no answer: a transport's exception → one word of a closed list, and whether it can have been sent.

Read off the exception's own class names (httpx and httpx2 share them) and off the system errors in its chain of
causes, so neither library is imported here. Nothing of the exception is kept: it holds the caller's frames.

In doubt a call counts as sent: `not_sent` and `cancelled` are promises that nobody's phone rang.
"""

import errno
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from call_initiation.events import Outcome, TransportFailure

_MAX_CHAIN: Final = 16

_BY_NAME: Final = {
    "ConnectTimeout": TransportFailure.CONNECT_TIMEOUT,
    "PoolTimeout": TransportFailure.POOL_TIMEOUT,
    "ReadTimeout": TransportFailure.READ_TIMEOUT,
    "WriteTimeout": TransportFailure.WRITE_TIMEOUT,
    "ConnectError": TransportFailure.CONNECTION_FAILED,
    "ReadError": TransportFailure.CONNECTION_RESET,
    "WriteError": TransportFailure.CONNECTION_RESET,
    "CloseError": TransportFailure.CONNECTION_RESET,
    "ProxyError": TransportFailure.PROXY,
    "RemoteProtocolError": TransportFailure.CONNECTION_CLOSED,
    "LocalProtocolError": TransportFailure.PROTOCOL,
    "UnsupportedProtocol": TransportFailure.PROTOCOL,
    "ConnectionTimeoutError": TransportFailure.CONNECT_TIMEOUT,
    "ServerTimeoutError": TransportFailure.READ_TIMEOUT,
    "ServerDisconnectedError": TransportFailure.CONNECTION_CLOSED,
    "ClientProxyConnectionError": TransportFailure.PROXY,
    "ClientConnectorError": TransportFailure.CONNECTION_FAILED,
    "ClientConnectionResetError": TransportFailure.CONNECTION_RESET,
    "ClientOSError": TransportFailure.CONNECTION_RESET,
}
"""By the names of httpx's exception classes, then aiohttp's; the first that fits."""

_BEFORE_SENDING: Final = frozenset({
    "ConnectTimeout", "PoolTimeout", "ConnectError", "ProxyError", "LocalProtocolError", "UnsupportedProtocol",
    "ConnectionTimeoutError", "ClientConnectorError",
})  # fmt: skip
"""Exceptions that are raised only while nothing of the request has been written."""

_BY_VERIFY_CODE: Final = {
    9: TransportFailure.CERTIFICATE_EXPIRED,  # X509_V_ERR_CERT_NOT_YET_VALID: outside its time, too
    10: TransportFailure.CERTIFICATE_EXPIRED,
    62: TransportFailure.CERTIFICATE_HOSTNAME_MISMATCH,
    64: TransportFailure.CERTIFICATE_HOSTNAME_MISMATCH,  # X509_V_ERR_IP_ADDRESS_MISMATCH
}
"""OpenSSL's verification results; every other one means that nobody we trust vouches for the certificate."""

_BY_ERRNO: Final = {
    errno.ECONNREFUSED: TransportFailure.CONNECTION_REFUSED,
    errno.ECONNRESET: TransportFailure.CONNECTION_RESET,
    errno.EPIPE: TransportFailure.CONNECTION_RESET,
}


@dataclass(frozen=True, slots=True)
class Failure:
    """What became of a call without a whole answer.

    Attributes:
        outcome: `not_sent`, `cancelled` or `ambiguous`.
        kind: Why.
    """

    outcome: Outcome
    kind: TransportFailure


def failure_of(error: BaseException, *, is_sent: bool | None, is_one_try: bool) -> Failure:
    """Judge the exception that ended a call.

    Args:
        error: What the inner transport raised.
        is_sent: Whether the request had begun to be sent, so far that it could be acted on; None where that can't be
            told.
        is_one_try: Whether the transport is known to send a request once; else what it raises may be about the last
            of several tries, of which an earlier one was sent.
    """
    if not isinstance(error, Exception):  # asyncio's and trio's cancellation, KeyboardInterrupt, SystemExit
        outcome = Outcome.CANCELLED if is_sent is False else Outcome.AMBIGUOUS
        return Failure(outcome, TransportFailure.CANCELLED)
    names = _names(error)
    if error.__cause__ is not None and "ClientConnectionError" in (telling := _names(error.__cause__)):
        names = telling  # httpx-aiohttp says ConnectTimeout of every connection that ends, after the send, too
    is_untold = is_sent is None and not is_one_try
    is_before = not (is_sent or is_untold) and not names.isdisjoint(_BEFORE_SENDING)
    return Failure(Outcome.NOT_SENT if is_before else Outcome.AMBIGUOUS, _kind(error, names))


def _names(error: BaseException) -> set[str]:
    return {cls.__name__ for cls in type(error).__mro__}


def _kind(error: Exception, names: set[str]) -> TransportFailure:
    by_name = next((kind for name, kind in _BY_NAME.items() if name in names), TransportFailure.OTHER)
    if by_name in _FINAL:
        return by_name
    return next((kind for cause in _chain(error) if (kind := _system_kind(cause))), by_name)


_FINAL: Final = frozenset(
    {
        TransportFailure.CONNECT_TIMEOUT,
        TransportFailure.POOL_TIMEOUT,
        TransportFailure.READ_TIMEOUT,
        TransportFailure.WRITE_TIMEOUT,
    }
)
"""Timeouts say all there is to say."""


def _system_kind(cause: BaseException) -> TransportFailure | None:
    match cause:
        case ssl.SSLCertVerificationError():
            return _BY_VERIFY_CODE.get(cause.verify_code, TransportFailure.CERTIFICATE_UNTRUSTED)
        case ssl.SSLError():
            return TransportFailure.TLS
        case socket.gaierror():
            return TransportFailure.NAME_RESOLUTION
        case OSError():
            return _BY_ERRNO.get(cause.errno or 0)
        case _:
            return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and what caused it, groups opened, nearest first, without going round in circles.

    httpcore strips its errors of their causes, but holds each as an argument. Contexts are no causes: a dialer that
    tries again while it handles an exception finds that one there.
    """
    waiting, seen = [error], 0
    while waiting and seen < _MAX_CHAIN:
        cause = waiting.pop(0)
        seen += 1
        yield cause
        if isinstance(cause, BaseExceptionGroup):
            waiting.extend(cause.exceptions)  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType] - the group's members are exceptions, whichever
        waiting += [further for further in (cause.__cause__, *cause.args) if isinstance(further, BaseException)]
