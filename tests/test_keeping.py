"""Of what a call carried, nothing that is secret is kept once it is recorded: not by us, and not in a cache of ours."""

import gc
from collections.abc import Iterator
from secrets import randbelow, token_hex
from typing import Any

import httpx

from call_initiation import Exporter
from call_initiation.calls.endpoints import CALLS
from exporting import SOON

TEXTS = (str, bytes, bytearray)


def texts(thing: Any) -> Iterator[Any]:
    """Yield the texts that an object refers to; the collector doesn't list tuples that refer to nothing else."""
    for one in gc.get_referents(thing):
        if isinstance(one, TEXTS):
            yield one
        elif type(one) is tuple and not gc.is_tracked(one):
            yield from texts(one)


def held(needle: str) -> int:
    """Return how many of all texts in the process hold another one, which itself doesn't count."""
    gc.collect()
    encoded = needle.encode()
    found = {id(text): text for thing in gc.get_objects() for text in texts(thing) if text is not needle}
    return sum((needle if isinstance(text, str) else encoded) in text for text in found.values() if text != encoded)


def test_what_is_secret_is_not_kept_once_its_call_is_recorded() -> None:
    """A token and a number pass: while their call waits they are needed for masking, and afterwards for nothing."""
    token, number = token_hex(20), f"{10**12 + randbelow(10**12)}"
    answered = httpx.MockTransport(lambda _: httpx.Response(400, json={"code": "bad.request", "message": "No."}))
    with Exporter(settle=60.0) as exporter, exporter.instrument(httpx.Client(transport=answered)) as client:
        for _ in range(3):
            client.post(
                f"https://api.example.com{CALLS}",
                json={"phoneNumber": number},
                headers={"Authorization": f"Bearer {token}"},
            )
        assert held(token) > 0 < held(number)
        assert exporter.flush(SOON)
        assert 0 == held(token) == held(number)
