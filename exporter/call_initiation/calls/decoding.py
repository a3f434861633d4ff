"""The content of an error's body, from the bytes that were on the wire.

A few hundred bytes can stand for gigabytes, so every layer of encoding is undone in small steps and stops at the
limit, and only that much is handed to the next layer: memory and CPU are bounded by `limit` for each layer, whatever
the sender says. A stream that breaks off, or breaks, gives what could be read before. Nothing here raises.

Brotli and Zstandard are undone where a package for them is installed. A caller who accepts these encodings has one,
for httpx and httpx2 advertise them only then.
"""

import zlib
from collections.abc import Callable, Iterator
from importlib import import_module
from io import BytesIO
from typing import Any, Final

_STEP: Final = 4096
"""How many bytes are fed at once: what precedes a fault in the stream is kept up to the step before."""
_MOST_LAYERS: Final = 4
_MOST_FRAMES: Final = 64
"""How many frames of Zstandard are read: an empty one has eight bytes and costs some microseconds."""
_ZSTD_WINDOW_LOG: Final = 23
"""8 MiB, the window that a Content-Encoding may ask for at most (RFC 9659, section 3)."""

_BROTLI_LARGE_WINDOW: Final = 0b1101
"""Bits that only the first bytes of streams with a window of 8 or 16 MiB share (RFC 7932, section 9.1)."""

Decoder = Callable[[bytes, int], Iterator[bytes]]
"""Encoded bytes and a limit → pieces of content, each at most about as long as the limit."""


def decode(wire: bytes, content_encoding: str, limit: int = 262_144) -> bytes | None:
    """Return at most `limit` bytes of content, or None where there is none to be had.

    Args:
        wire: The body as it came, chunking undone; may break off anywhere.
        content_encoding: The header's value: the codings in the order in which they were applied (RFC 9110, 8.4).
        limit: In bytes.
    """
    if not content_encoding:
        return wire[:limit]
    names = [name for part in content_encoding.lower().split(",") if (name := part.strip()) not in {"", "identity"}]
    if len(names) > _MOST_LAYERS or not _DECODERS.keys() >= set(names):
        return None
    content: bytes | None = wire if names else wire[:limit]
    for name in reversed(names):
        content = _gathered(_DECODERS[name], content, limit) if content else content
    return content


def _gathered(decoder: Decoder, encoded: bytes, limit: int) -> bytes | None:
    content = bytearray()
    try:
        pieces = decoder(encoded, limit)
        while len(content) < limit:
            content += next(pieces)
    except StopIteration:
        pass
    except Exception:  # noqa: BLE001 - each package has errors of its own; a missing one, or a bad stream, is no fault
        return bytes(content[:limit]) or None
    return bytes(content[:limit])


def _steps(encoded: bytes) -> Iterator[bytes]:
    return (encoded[at : at + _STEP] for at in range(0, len(encoded), _STEP))


def _zlib(encoded: bytes, limit: int, window_bits: int) -> Iterator[bytes]:
    stream = zlib.decompressobj(window_bits)
    return (stream.decompress(step, limit) for step in _steps(encoded))


def _gzip(encoded: bytes, limit: int) -> Iterator[bytes]:
    return _zlib(encoded, limit, 16 + zlib.MAX_WBITS)


def _deflate(encoded: bytes, limit: int) -> Iterator[bytes]:
    """Undo `deflate`, which is zlib's format (RFC 9110, 8.4.1.2); some send it without zlib's header."""
    try:
        zlib.decompressobj().decompress(encoded[:2], 1)
    except zlib.error:
        return _zlib(encoded, limit, -zlib.MAX_WBITS)
    return _zlib(encoded, limit, zlib.MAX_WBITS)


def _brotli(encoded: bytes, limit: int) -> Iterator[bytes]:
    if encoded[0] & _BROTLI_LARGE_WINDOW == _BROTLI_LARGE_WINDOW:
        raise ValueError  # such a window alone would cost more memory than all else that is kept of a call
    stream = _installed("brotli", "brotlicffi").Decompressor()
    # A version without this argument can't be bounded: it raises, and counts as missing.
    return (stream.process(step, output_buffer_limit=limit) for step in _steps(encoded))


def _zstd(encoded: bytes, limit: int) -> Iterator[bytes]:
    package = _installed("zstandard", "compression.zstd", "backports.zstd")
    if package.__name__ == "zstandard":
        return _zstandard(package, encoded)
    return _zstd_of_the_standard_library(package, encoded, limit)


def _zstandard(package: Any, encoded: bytes) -> Iterator[bytes]:
    decompressor = package.ZstdDecompressor(max_window_size=1 << _ZSTD_WINDOW_LOG)
    stream = decompressor.stream_reader(BytesIO(encoded), read_across_frames=True)
    while piece := stream.read(_STEP):
        yield piece


def _zstd_of_the_standard_library(package: Any, encoded: bytes, limit: int) -> Iterator[bytes]:
    options = {package.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG}
    for _ in range(_MOST_FRAMES):
        stream = package.ZstdDecompressor(options=options)
        yield stream.decompress(encoded, limit)
        encoded = stream.unused_data
        if not encoded:
            break


def _installed(*names: str) -> Any:
    for name in names:
        try:
            return import_module(name)
        except ImportError:
            continue
    raise ImportError(name=names[0])


_DECODERS: Final[dict[str, Decoder]] = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _deflate,
    "br": _brotli,
    "zstd": _zstd,
}
