"""What the metrics listener serves: `/metrics`, a first page, and health.

It runs on threads of its own, away from the calls, and binds loopback unless told otherwise. Slow clients are cut,
and only a few are served at once: a scraper in trouble must not become the dialer's trouble.
"""

from collections.abc import Callable, Iterable
from http import HTTPStatus
from socket import AF_INET, AF_INET6
from socketserver import TCPServer, ThreadingMixIn
from threading import BoundedSemaphore, Thread
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import StartResponse, WSGIEnvironment

from prometheus_client import CollectorRegistry, make_wsgi_app

from call_initiation.aggregate import View
from call_initiation.errors import ListenError

Application = Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]

_AT_ONCE: Final = 8
_PATIENCE: Final = 10.0


class Listener:
    """Listens for scrapers and browsers, on a thread of its own.

    Args:
        registry: What `/metrics` shows.
        snapshot: What the page shows.
        address: The address to listen on.
        port: The port; 0 takes any free one.

    Raises:
        ListenError: The address can't be had.
    """

    def __init__(self, registry: CollectorRegistry, snapshot: Callable[[], View], address: str, port: int) -> None:
        self.is_ready = True
        try:
            self._server = _Server((address, port), _RequestHandler)
        except OSError as error:
            raise ListenError(f"{address}:{port}", error.strerror or str(error)) from error
        self._server.set_app(application(registry, snapshot, lambda: self.is_ready))
        host = f"[{address}]" if ":" in address else address
        self.url = f"http://{host}:{self._server.server_port}"
        Thread(target=self._server.serve_forever, args=(0.1,), name="call-initiation-listener", daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


def application(registry: CollectorRegistry, snapshot: Callable[[], View], is_ready: Callable[[], bool]) -> Application:
    """Return the WSGI application."""
    metrics = make_wsgi_app(registry)

    def respond(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        match environ.get("PATH_INFO"):
            case "/metrics":
                return metrics(environ, start_response)
            case "/-/healthy":
                return _text(start_response, HTTPStatus.OK, "healthy\n")
            case "/-/ready" if is_ready():
                return _text(start_response, HTTPStatus.OK, "ready\n")
            case "/-/ready":
                return _text(start_response, HTTPStatus.SERVICE_UNAVAILABLE, "draining\n")
            case _:
                return _text(start_response, HTTPStatus.NOT_FOUND, "not found; try / or /metrics\n")

    return respond


def _text(start_response: StartResponse, status: HTTPStatus, body: str) -> Iterable[bytes]:
    content = body.encode()
    headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(content)))]
    start_response(f"{status.value} {status.phrase}", headers)
    return [content]


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], handler: type[WSGIRequestHandler]) -> None:
        self._places = BoundedSemaphore(_AT_ONCE)
        self.address_family = AF_INET6 if ":" in address[0] else AF_INET
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve on a thread, or hang up where too many are served already."""
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve, then give the place back."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that hangs up is none of the dialer's concern."""

    def server_bind(self) -> None:
        """Bind without looking up a name for the address, which can wait on DNS."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "localhost", self.server_address[1]
        self.setup_environ()


class _RequestHandler(WSGIRequestHandler):
    timeout = _PATIENCE

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Say nothing: scrapes are no news."""
