"""WebSockets by aiohttp, which comes with the `service` extra and is imported when the first one is opened.

Laws: the environment's proxies and credentials aren't heeded; whatever fails is an `OSError`; a connection that doesn't
answer is given up within moments, for a half-open one never would.
"""

import asyncio
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from call_initiation.api.pacing import is_final
from call_initiation.errors import SettingsError

if TYPE_CHECKING:
    import aiohttp

LARGEST_MESSAGE: Final = 10 * 1024 * 1024
"""Bytes of a frame; a longer one ends the connection."""

_OPENING: Final = 20.0
_SENDING: Final = 5.0
_CLOSING: Final = 0.3


def require_aiohttp() -> None:
    """Make sure that WebSockets can be opened.

    Raises:
        SettingsError: aiohttp isn't installed.
    """
    if find_spec("aiohttp") is None:
        raise SettingsError("follow_agents", "no aiohttp", "pip install 'call-initiation-exporter[service]'")


class WebSocket:
    """An open WebSocket."""

    def __init__(self, socket: "aiohttp.ClientWebSocketResponse") -> None:
        self._socket = socket

    async def send(self, text: str) -> None:
        """Send one text frame.

        Raises:
            OSError: It can't be sent, or not soon.
        """
        async with asyncio.timeout(_SENDING):
            await self._socket.send_str(text)

    async def receive(self) -> str | bytes | None:
        """Return the next frame, or None where the connection was closed, by whomever and for whatever reason."""
        message = await self._socket.receive()
        return message.data if isinstance(message.data, str | bytes) and message.type.value in {1, 2} else None

    async def close(self) -> None:
        """Close the connection, soon."""
        await self._socket.close()


@asynccontextmanager
async def connector(context: ssl.SSLContext) -> AsyncGenerator[Callable[[str], Awaitable[WebSocket]]]:
    """Yield what opens a WebSocket by its URL, verifying hosts by `context`.

    It raises `OSError` when it can't, and of these `ConnectionRefusedError` where it is no use to try that URL again.
    """
    import aiohttp  # noqa: PLC0415 - an extra, and heavy

    timeout = aiohttp.ClientWSTimeout(ws_close=_CLOSING)  # pyright: ignore[reportCallIssue] - attrs
    async with aiohttp.ClientSession(
        trust_env=False, connector=aiohttp.TCPConnector(ssl=context), cookie_jar=aiohttp.DummyCookieJar()
    ) as session:

        async def connect(url: str) -> WebSocket:
            try:
                async with asyncio.timeout(_OPENING):
                    opened = await session.ws_connect(url, timeout=timeout, max_msg_size=LARGEST_MESSAGE)
                    return WebSocket(opened)
            except (aiohttp.ClientError, ValueError, TimeoutError) as error:
                # Not chained: the URL is a secret, and aiohttp's exceptions hold it.
                failure = f"no socket: {type(error).__name__}"
                is_useless = isinstance(error, aiohttp.InvalidURL) or is_final(getattr(error, "status", None))
            raise (ConnectionRefusedError if is_useless else ConnectionError)(failure)

        yield connect
