"""What `decoding` promises: the content where it can be had, never more than the limit, never an error."""

import gzip
import hashlib
import sys
import tracemalloc
import zlib
from collections.abc import Callable
from importlib import import_module

import brotli
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from call_initiation.calls.decoding import decode

STANDARD = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
"""The standard library's way with zstd, and before Python 3.14 the same as a package."""

zstd = import_module(STANDARD)

TEXT = b'{"message":"A station is required to place a call.","code":"conversation.error.no.user.station"}' * 9
NOISE = hashlib.shake_128(b"noise").digest(40_000)


def raw_deflate(content: bytes) -> bytes:
    """Return a deflate stream without zlib's header, as some servers send it."""
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return stream.compress(content) + stream.flush()


ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "Deflate": raw_deflate,
    "br": brotli.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}

each_encoding = pytest.mark.parametrize(("name", "encode"), ENCODERS.items(), ids=["gzip", "zlib", "raw", "br", "zstd"])


@pytest.fixture(params=["zstandard", "standard library"])
def zstd_package(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Leave only one of the two packages for Zstandard within reach."""
    hidden = {"zstandard": STANDARD, "standard library": "zstandard"}[request.param]
    monkeypatch.setitem(sys.modules, hidden, None)
    return str(request.param)


@each_encoding
@pytest.mark.parametrize("content", [TEXT, NOISE, b"x"], ids=["text", "noise", "byte"])
def test_every_encoding_is_undone(name: str, encode: Callable[[bytes], bytes], content: bytes) -> None:
    """The content is what was encoded."""
    assert content == decode(encode(content), name)


@pytest.mark.parametrize("name", ["", "identity", " Identity ", ",", "identity, identity"])
def test_identity_is_cut_at_the_limit(name: str) -> None:
    """No encoding is undone, and the limit holds."""
    assert b"abc" == decode(b"abcdef", name, 3)


@pytest.mark.parametrize(
    ("name", "encoders"),
    [
        ("gzip, br", ("gzip", "br")),
        ("gzip,gzip", ("gzip", "gzip")),
        ("X-GZIP , identity,, deflate", ("gzip", "deflate")),
        ("zstd, br, deflate, gzip", ("zstd", "br", "deflate", "gzip")),
    ],
)
def test_layers_are_undone_last_first(name: str, encoders: tuple[str, ...]) -> None:
    """The header names the codings in the order in which they were applied."""
    wire = TEXT
    for encoder in encoders:
        wire = ENCODERS[encoder](wire)
    assert TEXT == decode(wire, name)


@pytest.mark.parametrize("name", ["compress", "gzip, dcb", "gzip gzip", "br" * 100, "\ud800"])
def test_what_we_do_not_know_is_none(name: str) -> None:
    """An unknown coding is not guessed at."""
    assert None is decode(gzip.compress(TEXT), name)


def test_more_layers_than_anyone_needs_are_none() -> None:
    """Four are undone; a fifth is there only to cost."""
    wire = TEXT
    for _ in range(4):
        wire = gzip.compress(wire)
    assert TEXT == decode(wire, "gzip,gzip,gzip,gzip")
    assert None is decode(gzip.compress(wire), "gzip,gzip,gzip,gzip,gzip")


@each_encoding
def test_nothing_encoded_is_nothing(name: str, encode: Callable[[bytes], bytes]) -> None:
    """An empty body has no content, whatever its header says; an encoded empty one neither."""
    assert b"" == decode(b"", name)
    assert b"" == decode(encode(b""), name)


@each_encoding
def test_a_stream_that_breaks_off_gives_what_came(name: str, encode: Callable[[bytes], bytes]) -> None:
    """At every place, and most of the content where most of it came."""
    wire = encode(NOISE)
    assert all(NOISE.startswith(decode(wire[:length], name) or b"") for length in range(0, len(wire), 997))
    # Zstandard writes whole blocks; the others flow.
    assert name == "zstd" or len(decode(wire[:-2000], name) or b"") > 35_000


@each_encoding
def test_a_stream_that_breaks_gives_what_came_before(name: str, encode: Callable[[bytes], bytes]) -> None:
    """Bytes that are no stream give nothing; a fault later on keeps what was good."""
    wire = encode(NOISE)
    assert None is decode(b"\xff" * 50, name)
    broken = decode(wire[:30_000] + b"\xff" * 9000, name)
    assert broken is None or NOISE.startswith(broken[:20_000])


@pytest.mark.parametrize("name", ["gzip", "deflate"])
def test_a_sum_that_is_wrong_takes_nothing_away_that_came_before(name: str) -> None:
    """It stands at the very end, and a caller may have read what was good by then."""
    content = decode(ENCODERS[name](NOISE)[:-4] + bytes(4), name)
    assert content is not None
    assert len(content) > 35_000
    assert NOISE.startswith(content)


@pytest.mark.parametrize("name", ["gzip", "deflate"])
def test_what_follows_the_stream_is_left_alone(name: str) -> None:
    """Rubbish behind the content doesn't take the content away, as it doesn't from a caller who uses httpx."""
    assert TEXT == decode(ENCODERS[name](TEXT) + b"rubbish" * 2000, name)


def bomb(name: str, layers: int = 1) -> bytes:
    """Return a few bytes that stand for 16 MiB."""
    wire = bytes(1 << 24)
    for _ in range(layers):
        wire = ENCODERS[name](wire)
    return wire


@pytest.mark.parametrize(
    ("name", "layers"), [("gzip", 1), ("gzip", 2), ("deflate", 1), ("br", 1), ("br", 2), ("zstd", 1)]
)
def test_a_bomb_stops_at_the_limit(name: str, layers: int) -> None:
    """Memory is bounded at every layer."""
    wire = bomb(name, layers)
    tracemalloc.start()
    try:
        content = decode(wire, ",".join([name] * layers), 262_144)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert bytes(262_144) == content
    assert peak < 4 << 20


def test_both_packages_for_zstandard_serve(zstd_package: str) -> None:
    """One is what httpx asks for, the other what httpx2 does: frames are joined, and bombs stop at the limit."""
    wire = zstandard.ZstdCompressor().compress(TEXT)
    assert zstd_package
    assert TEXT == decode(wire, "zstd")
    assert TEXT + TEXT == decode(wire + wire, "zstd")
    assert TEXT.startswith(decode(wire[:-3], "zstd") or b"")
    assert bytes(1000) == decode(zstandard.ZstdCompressor().compress(bytes(1 << 24)), "zstd", 1000)


def test_endless_empty_frames_are_not_all_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """With httpx2's package a frame is a new decompressor: a sender doesn't choose how many."""
    monkeypatch.setitem(sys.modules, "zstandard", None)
    compress = zstandard.ZstdCompressor().compress
    assert TEXT == decode(compress(b"") * 63 + compress(TEXT), "zstd")
    assert b"" == decode(compress(b"") * 64 + compress(TEXT), "zstd")


def test_a_window_beyond_the_rule_is_refused(zstd_package: str) -> None:
    """RFC 9659 allows 8 MiB; the sender doesn't choose how much memory we take."""
    options = {zstd.CompressionParameter.window_log: 27, zstd.CompressionParameter.enable_long_distance_matching: 1}
    stream = zstd.ZstdCompressor(options=options)
    wire = stream.compress(NOISE) + stream.flush()
    assert zstd_package
    assert None is decode(wire, "zstd")


@pytest.mark.parametrize("window", range(10, 25))
def test_windows_of_brotli_end_at_4_mebibytes(window: int) -> None:
    """Up to the encoder's own default all are read; the two above would cost 8 and 16 MiB, and are refused."""
    wire = brotli.compress(TEXT, lgwin=window)
    assert (TEXT if window <= 22 else None) == decode(wire, "br")


@pytest.mark.parametrize(
    ("name", "packages"), [("br", ("brotli", "brotlicffi")), ("zstd", ("zstandard", "backports.zstd"))]
)
def test_a_missing_package_is_none(name: str, packages: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a package for it an encoding can't be undone, and a caller wouldn't have asked for it."""
    for package in (*packages, "compression.zstd"):
        monkeypatch.setitem(sys.modules, package, None)
    assert None is decode(ENCODERS[name](TEXT), name)


@given(
    st.binary(max_size=300),
    st.lists(st.sampled_from(["gzip", "deflate", "br", "zstd", "identity", "?"]), max_size=3),
    st.integers(0, 100),
)
def test_it_is_total_and_bounded(wire: bytes, names: list[str], limit: int) -> None:
    """Any bytes under any header give at most the limit, twice the same, and no error."""
    content = decode(wire, ",".join(names), limit)
    assert content is None or len(content) <= limit
    assert content == decode(wire, ",".join(names), limit)
