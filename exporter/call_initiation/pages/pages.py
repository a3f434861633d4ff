"""What the metrics listener serves: `/metrics`, the correlation page, and health.

It runs on threads of its own, away from the calls, and binds loopback unless told otherwise.

Laws: whoever isn't let in by the guard learns nothing, not even from `/-/healthy`; it only ever answers GET and HEAD,
and HEAD says what GET would; whoever has had ten seconds is cut, however the time was spent; only a few are served at
once. A scraper in trouble must not become the dialer's trouble.
"""

import ssl
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from http import HTTPStatus
from socket import AF_INET, AF_INET6, SHUT_RDWR
from socketserver import TCPServer, ThreadingMixIn
from threading import Thread
from time import monotonic, time
from typing import Any, Final, NamedTuple, cast
from urllib.parse import parse_qs
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from prometheus_client import CollectorRegistry, make_wsgi_app  # pyright: ignore[reportUnknownVariableType] - untyped there

from call_initiation.authority import authority
from call_initiation.errors import ListenError
from call_initiation.pages import landing
from call_initiation.pages.windows import USUAL, WINDOWS
from call_initiation.recording.aggregate import View
from call_initiation.recording.recent import Recent

_AT_ONCE: Final = 8
_PATIENCE: Final = 10.0
_LOOK: Final = 0.1  # seconds between looks at who has had their time, and at whether to stop

_SAFETY: Final = (
    ("Cache-Control", "no-store"),
    ("Referrer-Policy", "no-referrer"),
    ("Server", "call-initiation-exporter"),
    ("X-Content-Type-Options", "nosniff"),
)


class Guard(NamedTuple):
    """Who may read.

    Attributes:
        tls: How to speak TLS; None for plain HTTP.
        admits: Tells whether an Authorization header is right; None where nobody is asked.
    """

    tls: ssl.SSLContext | None = None
    admits: Callable[[str], bool] | None = None


OPEN: Final = Guard()
"""For loopback: plain HTTP, without a password."""


def stand_open() -> Guard:
    """Let in whoever comes."""
    return OPEN


class Listener:
    """Listens for scrapers and browsers, on a thread of its own.

    Args:
        registry: What `/metrics` shows.
        snapshot: The figures that the page shows.
        recent: What came lately, which it shows too.
        address: The address to listen on.
        port: The port; 0 takes any free one.
        guard: Says who may read; asked for each client anew.
        patience: Seconds after which a client is cut.

    Raises:
        ListenError: The address can't be had.
    """

    def __init__(  # noqa: PLR0913 - what it shows, and where
        self,
        registry: CollectorRegistry,
        snapshot: Callable[[], View],
        recent: Recent,
        address: str,
        port: int,
        *,
        guard: Callable[[], Guard] = stand_open,
        patience: float = _PATIENCE,
    ) -> None:
        self.is_ready = True
        try:
            self._server = _Server((address, port), guard, patience)
        except OSError as error:
            raise ListenError.of(address, port, error) from error
        self._server.set_app(_guarded(application(registry, snapshot, recent, lambda: self.is_ready), guard))
        self.url = f"http{'s' if guard().tls else ''}://{authority(address, self._server.server_port)}"
        Thread(target=self._server.serve_forever, args=(_LOOK,), name="call-initiation-listener", daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self.abandon()

    def abandon(self) -> None:
        """Let go of the socket, as a forked child must: it has no thread that serves it, and its parent has."""
        self._server.server_close()


class _Answer(NamedTuple):
    status: HTTPStatus
    headers: list[tuple[str, str]]
    content: bytes


def application(
    registry: CollectorRegistry,
    snapshot: Callable[[], View],
    recent: Recent,
    is_ready: Callable[[], bool],
) -> WSGIApplication:
    """Return the WSGI application."""
    metrics = cast("WSGIApplication", make_wsgi_app(registry))

    def figures(asked: Mapping[str, list[str]]) -> _Answer:
        name = asked.get("window", [USUAL])[-1]
        if name not in WINDOWS:
            return _NO_WINDOW
        looks = recent.looks()  # first: what a snapshot holds is never less
        return _page(landing.render(snapshot(), recent.failures(), looks, name, time()))

    def answer(environ: WSGIEnvironment) -> _Answer:
        match environ.get("PATH_INFO"):
            case "/":
                return figures(parse_qs(environ.get("QUERY_STRING", "")))
            case "/metrics":
                return _called(metrics, environ)
            case "/-/healthy":
                return _text(HTTPStatus.OK, "healthy\n")
            case "/-/ready" if is_ready():
                return _text(HTTPStatus.OK, "ready\n")
            case "/-/ready":
                return _text(HTTPStatus.SERVICE_UNAVAILABLE, "draining\n")
            case _:
                return _text(HTTPStatus.NOT_FOUND, "not found; try / or /metrics\n")

    def respond(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        is_read = environ["REQUEST_METHOD"] in {"GET", "HEAD"}
        status, headers, content = answer(environ) if is_read else _NOT_ALLOWED
        headers = [*headers, *_SAFETY, ("Content-Length", str(len(content)))]
        start_response(f"{status.value} {status.phrase}", headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [content]

    return respond


def _guarded(inner: WSGIApplication, guard: Callable[[], Guard]) -> WSGIApplication:
    """Return an application that asks for a password before anything else, as Prometheus's own do."""

    def respond(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        admits = guard().admits
        if admits is None or admits(environ.get("HTTP_AUTHORIZATION", "")):
            return inner(environ, start_response)
        start_response("401 Unauthorized", [*_NOBODY.headers, *_SAFETY, ("Content-Length", str(len(_NOBODY.content)))])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [_NOBODY.content]

    return respond


def _text(status: HTTPStatus, body: str, *headers: tuple[str, str]) -> _Answer:
    return _Answer(status, [("Content-Type", "text/plain; charset=utf-8"), *headers], body.encode())


_NOT_ALLOWED: Final = _text(HTTPStatus.METHOD_NOT_ALLOWED, "use GET or HEAD\n", ("Allow", "GET, HEAD"))

_NO_WINDOW: Final = _text(
    HTTPStatus.BAD_REQUEST, f"no such window; try {', '.join(f'/?window={name}' for name in WINDOWS)}\n"
)

_NOBODY: Final = _text(HTTPStatus.UNAUTHORIZED, "unauthorized\n", ("WWW-Authenticate", "Basic"))


def _page(html: str) -> _Answer:
    headers = [("Content-Type", "text/html; charset=utf-8"), ("Content-Security-Policy", landing.POLICY)]
    return _Answer(HTTPStatus.OK, headers, html.encode())


def _called(inner: WSGIApplication, environ: WSGIEnvironment) -> _Answer:
    """Return what another application answers to the request, as if it were a GET."""
    begun: list[tuple[str, list[tuple[str, str]]]] = []
    written: list[bytes] = []

    def start_response(status: str, headers: list[tuple[str, str]], _: object = None, /) -> Callable[[bytes], object]:
        begun.append((status, headers))
        return written.append

    written.extend(inner({**environ, "REQUEST_METHOD": "GET"}, start_response))
    status, headers = begun[-1]
    return _Answer(HTTPStatus(int(status[:3])), headers, b"".join(written))


class _Server(ThreadingMixIn, WSGIServer):
    """Serves each client on a thread, and keeps the time at which each has to be gone."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 64  # those beyond the few are hung up on, and don't wait for seconds to connect

    def __init__(self, address: tuple[str, int], guard: Callable[[], Guard], patience: float) -> None:
        self._guard = guard
        self._patience = patience
        self._deadlines: dict[Any, float] = {}
        self.address_family = AF_INET6 if ":" in address[0] else AF_INET
        super().__init__(address, _RequestHandler)

    def get_request(self) -> tuple[Any, Any]:
        """Take a client; hands are shaken when its own thread first reads, so that nobody waits for it."""
        client, address = super().get_request()
        if (tls := self._guard().tls) is not None:
            client = tls.wrap_socket(client, server_side=True, do_handshake_on_connect=False)
        return client, address

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve on a thread, or hang up where too many are served already."""
        if len(self._deadlines) >= _AT_ONCE:
            self.shutdown_request(request)
            return
        self._deadlines[request] = monotonic() + self._patience
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Give the place back, then hang up."""
        self._deadlines.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Cut whoever has had their time; called every now and then, on the listener's own thread.

        A time limit on each read would let a client that sends a byte now and then keep its place for ever.
        """
        now = monotonic()
        for request, deadline in self._deadlines.copy().items():
            if deadline < now:
                self._deadlines.pop(request, None)
                with suppress(OSError):  # it may have gone by itself
                    request.shutdown(SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that hangs up is none of the dialer's concern."""

    def server_bind(self) -> None:
        """Bind without looking up a name for the address, which can wait on DNS."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "localhost", self.server_address[1]
        self.setup_environ()


class _RequestHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Say nothing: scrapes are no news."""
