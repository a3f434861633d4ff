"""What the body of a refusal may be: anything. The dialer gets its very bytes; what can be read of it is recorded.

The API answers with the call's own body, so that the call is as odd as its answer.
"""

import gzip
import json
import os
from collections.abc import Callable, Iterator

import brotli
import httpx
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from call_initiation.events import Attempt, Outcome
from gateways import CALLS, Running, ask, call, post, running
from servers import Received, Server, always, answer
from twins import listening

HEADERS = (("content-TYPE", "application/json; charset=utf-8"), ("X-Odd", "caf\xe9"), ("X-Odd", ""))
CODE = b'{"code": "bad.request"'
DEEP = b"[" * 20_000 + b"]" * 20_000  # within what is kept of a body

ODD: dict[str, tuple[bytes, tuple[str, ...]]] = {
    "nothing": (b"", ()),
    "no JSON": (b"Bad Request", ()),
    "a page": (b"<html><title>502 Bad Gateway</title></html>", ()),
    "JSON that breaks off": (CODE, ("bad.request",)),
    "NaN": (b'{"code": NaN}', ()),
    "NaN and infinity beside a code": (CODE + b', "status": NaN, "limit": -Infinity}', ("bad.request",)),
    "a depth of 20,000": (DEEP, ()),
    "a depth of 20,000 beside a code": (CODE + b', "errors": ' + DEEP + b"}", ("bad.request",)),
    "a depth of 100,000": (b"[" * 100_000 + b"]" * 100_000, ()),
    "a depth of 100,000 that never ends": (b'{"a":' * 100_000, ()),
    "5,000 digits beside a code": (CODE + b', "status": ' + b"9" * 5_000 + b"}", ("bad.request",)),
    "5,000 digits for a code": (b'{"code": ' + b"9" * 5_000 + b"}", ("other",)),
    "bad UTF-8": (CODE + b', "message": "\xff\xfe\xc0\x80"}', ("bad.request",)),
    "bad UTF-8 in a code": (b'{"code": "bad\xff.request"}', ("other",)),
    "a lone surrogate": (CODE + b', "message": "\\udcff \xed\xa0\x80"}', ("bad.request",)),
    "a lone surrogate for a code": (b'{"code": "\\ud800"}', ("other",)),
    "a byte order mark": (b"\xef\xbb\xbf" + CODE + b"}", ("bad.request",)),
    "UTF-16": ('{"code": "bad.request"}'.encode("utf-16"), ("bad.request",)),
    "UTF-16, little end first, unmarked": ('{"code": "bad.request"}'.encode("utf-16-le"), ("bad.request",)),
    "UTF-16, big end first, unmarked": ('{"code": "bad.request"}'.encode("utf-16-be"), ("bad.request",)),
    "UTF-32": ('{"code": "bad.request"}'.encode("utf-32"), ("bad.request",)),
    "wrong types everywhere": (
        b'{"code": {"a": 1}, "status": "x", "errors": 5, "details": true, "nested": [null, 1.5], "message": {}}',
        (),
    ),
    "a code among wrong types": (
        b'{"code": null, "details": [7, null, "x", {"errorCode": "AGENT.BUSY"}], "errors": {"a": 1}}',
        ("AGENT.BUSY",),
    ),
    "a code that is a line of metrics": (b'{"code": "a\\n# TYPE x counter\\nx{y=\\"z\\"} 1"}', ("other",)),
}


def _echo(request: Received) -> tuple[bytes]:
    return (answer(400, request.body, *HEADERS),)


@pytest.fixture(scope="module")
def gateway() -> Iterator[Running]:
    """A gateway to an API that refuses each call with the call's own body."""
    with Server(_echo) as api, running(api, listening(prometheus_port=0)) as one:
        yield one


def _refused(gateway: Running, body: bytes) -> Attempt:
    """Place a call whose answer's body is given; demand that it comes as it is, and return what was recorded."""
    before = len(gateway.attempts())
    assert answer(400, body, *HEADERS) == ask(gateway.port, post(CALLS, body)).raw
    (attempt,) = gateway.attempts()[before:]
    return attempt


def _codes_shown(gateway: Running) -> set[str]:
    """Return the codes that a scrape shows."""
    url = f"{gateway.exporter.metrics_url}/metrics"
    text = httpx.get(url, trust_env=False).raise_for_status().text
    families = text_string_to_metric_families(text)
    return {sample.labels["error_code"] for one in families for sample in one.samples if "error_code" in sample.labels}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_body_passes_and_is_read_as_far_as_it_can_be(gateway: Running, name: str) -> None:
    """C13: the very bytes and headers; its codes or `unparsed`; metrics that parse; no fault of ours."""
    body, codes = ODD[name]
    attempt = _refused(gateway, body)
    assert attempt.refusal is not None
    assert (Outcome.REJECTED, 400, codes) == (attempt.outcome, attempt.status_code, attempt.refusal.codes)
    assert (codes or ("unparsed",))[0] == attempt.error_code
    assert attempt.error_code in _codes_shown(gateway)


KEYS = [
    "code",
    "message",
    "status",
    "errors",
    "details",
    "errorCode",
    "nested",
    "error",
    "contextId",
    "limit",
    "messageParams",
]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)
ENCODINGS = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=64) | st.builds(lambda value, name: json.dumps(value).encode(name), VALUES, ENCODINGS))
def test_any_bytes_pass_and_are_recorded(gateway: Running, body: bytes) -> None:
    """C13: whatever an API may say, from no JSON at all to the API's own keys with any values."""
    assert _refused(gateway, body).error_code in _codes_shown(gateway)


BOMBS: dict[str, Callable[[], bytes]] = {
    "br": lambda: brotli.compress(b"\0" * 200_000_000, quality=4),
    "gzip": lambda: gzip.compress(b"\0" * 100_000_000),
}


@pytest.mark.parametrize("encoding", BOMBS)
def test_a_bomb_passes_unopened(encoding: str) -> None:
    """C12: compressed bytes go by as they are, and our copy opens no more of them than it must."""
    body = BOMBS[encoding]()
    process = psutil.Process(os.getpid())
    with Server(always(answer(400, body, ("Content-Encoding", encoding)))) as api, running(api) as gateway:
        ask(gateway.port, post())  # what is loaded once is no matter of the bomb
        gateway.attempts()
        resident = process.memory_info().rss
        assert body == ask(gateway.port, call()).body
        assert 1 == api.count("1")
        assert [Outcome.REJECTED] * 2 == [attempt.outcome for attempt in gateway.attempts()]
        assert 10_000_000 > process.memory_info().rss - resident
