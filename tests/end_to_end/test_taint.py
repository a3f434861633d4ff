"""Taint: a token and a phone number go in by every door that there is, and come out by none.

They are looked for in all that leaves: `/metrics` in both formats, the page, what a collector got (as bytes and
decoded), stdout and stderr (where tracebacks of threads end), and every log record of every logger from DEBUG on,
formatted with its traceback.

What is excluded, and why: records of the loggers `httpx`, `httpcore` and `hpack`. These are the caller's own HTTP
library speaking of the caller's own request, as it does without us: httpx logs each URL at INFO (a path may hold a
user's id), httpcore logs an answer's headers at DEBUG. Records of all other loggers count, also those of the libraries
that we chose (`opentelemetry`, `urllib3`, `requests`, `grpc`).
"""

import base64
import json
import logging
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from call_initiation import AgentState, Exporter
from call_initiation.calls.endpoints import CALLS, CALLS_OF_USER
from collector import Collector
from servers import Act, Cut, Received, Server, answer, head
from twins import TRUST

pytestmark = pytest.mark.untraced

TOKEN = "hT9Kd3vQ8mZ2xLp7Rw4Yc1Nb6Fj5Gs0V"
WORDS = "orangutan-lighthouse-quilt"
"""A secret that doesn't look like one: only who knows it can mask it."""
NUMBER = "+33199867530"
DIGITS = "33199867530"
SOON = 60.0

SPELLINGS = {
    "E.164": NUMBER,
    "blanks": "+33 1 99 86 75 30",
    "two zeros": "0033199867530",
    "dashes": "33-1-99-86-75-30",
    "brackets and dots": "(+33) 1.99.86.75.30",
    "tel URI": "tel:+33-1-99-86-75-30",
    "sip URI": "sip:+33199867530@example.com",
    "percent": "%2B33%20199867530",
    "entities": "&#43;3319986&#55;530",
    "full width": NUMBER.translate({code: code + 0xFEE0 for code in range(0x30, 0x3A)}),
    "Arabic-Indic": NUMBER.translate({code: code + 0x0630 for code in range(0x30, 0x3A)}),
    "one by one": "3 3 1 9 9 8 6 7 5 3 0",
    "unseen": "+33\u200b199\u200d8675\u00ad30",
}

TOKENS = {
    "raw": TOKEN,
    "swapped": TOKEN.swapcase(),
    "percent": "".join(f"%{ord(char):02X}" for char in TOKEN),
    "base64": base64.b64encode(TOKEN.encode()).decode(),
    "words": WORDS,
    "percent words": "".join(f"%{ord(char):02X}" for char in WORDS),
}


def body_of(**fields: Any) -> bytes:
    """Return an error body."""
    return json.dumps({"status": 400, "code": "bad.request", "message": "No.", **fields}).encode()


def as_header(text: str) -> str:
    """Return a text as a header may carry it: its UTF-8 bytes."""
    return text.encode().decode("latin-1")


Answers = dict[str, Callable[[str], Sequence[Act]]]

ANSWERS: Answers = {
    "message": lambda said: [answer(400, body_of(message=f"Cannot dial {said} now."))],
    "params": lambda said: [answer(400, body_of(messageWithParams="Cannot dial {n}", messageParams={"n": said}))],
    "code": lambda said: [answer(400, body_of(code=said))],
    "details": lambda said: [answer(400, body_of(details=[{"errorCode": said, "fieldName": said, "entityId": said}]))],
    "text details": lambda said: [answer(400, body_of(details=said, nested={"code": said, "message": said}))],
    "errors": lambda said: [answer(400, body_of(errors=[{"code": said, "message": said}, said]))],
    "contextId": lambda said: [answer(400, body_of(contextId=said, entityId=said, entityName=said))],
    "names": lambda said: [answer(400, body_of(**{said: said}))],
    "header": lambda said: [answer(403, b"", ("ININ-Correlation-Id", as_header(said)), ("X-Echo", as_header(said)))],
    "reason": lambda said: [answer(500, b"oops", reason=as_header(said))],
    "html": lambda said: [answer(502, f"<html><title>{said}</title><h1>{said}</h1></html>".encode())],
    "plain": lambda said: [answer(503, said.encode())],
    "redirect": lambda said: [answer(307, b"", ("Location", f"https://example.com/{quote(said)}"))],
    "OAuth": lambda said: [answer(401, json.dumps({"error": said, "error_description": said}).encode())],
    "encoding": lambda said: [answer(400, said.encode(), ("Content-Encoding", as_header(said)))],
    "type": lambda said: [answer(400, said.encode(), ("Content-Type", as_header(said)))],
    "accepted": lambda said: [answer(202, body_of(id=said), ("Location", as_header(quote(said))))],
    "truncated": lambda said: [head(400, ("Content-Length", "9999")) + said.encode(), Cut.CLOSE],
    "garbage": lambda said: [as_header(said).encode("latin-1") + b"\r\n\r\n", Cut.CLOSE],
    "closed": lambda _: [Cut.CLOSE],
    "reset": lambda _: [Cut.RESET],
}
"""What an API, or something before it, may answer; each is told what to quote."""

PAYLOADS: list[Callable[[str], Any]] = [
    lambda number: {"phoneNumber": number, "label": number, "attributes": {number: number}},
    lambda number: {
        "type": "CALL",
        "from": {"type": "PERSON", "agentId": number, "address": {"phoneNumber": number, "type": "PERSON"}},
        "to": [{"address": {"phoneNumber": number, "type": "PERSON"}}],
    },
]


class Kept(logging.Handler):
    """Keeps every record of ours and of the libraries that we chose, formatted, with its traceback."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(logging.Formatter("%(name)s %(threadName)s %(message)s %(args)r %(pathname)s"))
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record."""
        if record.name.partition(".")[0] not in {"httpx", "httpcore", "hpack"}:
            self.lines.append(self.format(record))


@pytest.fixture
def logs() -> Iterator[Kept]:
    """Keep what is logged, from DEBUG on."""
    root, kept = logging.getLogger(), Kept()
    before = root.level
    root.addHandler(kept)
    root.setLevel(logging.DEBUG)
    yield kept
    root.setLevel(before)
    root.removeHandler(kept)


def leaks(text: str) -> list[str]:
    """Return what of the two secrets can be found in a text, in whatever form."""
    folded, digits = text.casefold(), "".join(_digit(char) for char in unicodedata.normalize("NFKC", text))
    found = [part for secret in (TOKEN, WORDS) for part in _parts(secret.casefold(), 10) if part in folded]
    found += [form for form in (*_forms(TOKEN), *_forms(WORDS), *_forms(NUMBER), *_forms(DIGITS)) if form in text]
    found += [part for part in (DIGITS, DIGITS[2:]) if part in digits]
    return found + [spelled for spelled in SPELLINGS.values() if spelled in text]


def _digit(char: str) -> str:
    value = unicodedata.digit(char, None)
    return "" if value is None else str(value)


def _parts(text: str, size: int) -> list[str]:
    return [text[at : at + size] for at in range(len(text) - size + 1)]


def _forms(secret: str) -> list[str]:
    """Return a secret's encodings; in base64, at each of the three places in which it may begin."""
    encoded = [base64.b64encode(b"x" * lead + secret.encode()).decode()[4 if lead else 0 : -4] for lead in range(3)]
    percents = "".join(f"%{ord(char):02X}" for char in secret)
    return [*encoded, percents, percents.lower(), secret.encode().hex(), secret[::-1], quote(secret, safe="")]


def shown(exporter: Exporter) -> dict[str, str]:
    """Return what the listener serves."""
    url, pages = exporter.metrics_url, {}
    for name, path, accept in [
        ("text", "/metrics", "text/plain"),
        ("OpenMetrics", "/metrics", "application/openmetrics-text; version=1.0.0"),
        ("page", "/", "text/html"),
        ("not found", f"/{DIGITS}", "text/html"),
    ]:
        response = httpx.get(f"{url}{path}", headers={"Accept": accept}, trust_env=False, verify=TRUST)
        pages[name] = f"{response.headers}{response.text}"
    return pages


def sent(sink: Collector) -> dict[str, str]:
    """Return what the collector got, as bytes and decoded."""
    raw = b"\0".join(sink.raw)
    decoded = "\n".join(str(message) for _, message, _ in sink.requests)
    return {"OTLP bytes": raw.decode("latin-1"), "OTLP bytes, UTF-8": raw.decode(errors="replace"), "OTLP": decoded}


def clean(doors: dict[str, str]) -> None:
    """Find nothing at any door."""
    found = {name: leak for name, text in doors.items() if (leak := leaks(text))}
    assert {} == found
    assert all(doors.values()), "a door said nothing at all: was it open?"


def test_the_search_finds_what_it_looks_for() -> None:
    """A search that can't find anything proves nothing."""
    for spelled in SPELLINGS.values():
        assert leaks(f"it said {spelled} there"), spelled
    for form in (*TOKENS.values(), TOKEN.lower(), TOKEN[5:17], *_forms(TOKEN), *_forms(NUMBER)):
        assert leaks(f"it said {form} there"), form
    for lead in ("", "a", "ab"):
        assert leaks(base64.b64encode(f"{lead}{TOKEN} and".encode()).decode())
    assert [] == leaks("30 calls in 75 seconds, at 86.199; trace 0123456789abcdef")


def calls(number: str, payload: Any) -> Iterator[dict[str, Any]]:
    """Yield the arguments of calls by every door that takes a text."""
    said = {"agent_id": number, "agent_state": AgentState(presence="BUSY", station=number)}
    headers = {"Authorization": f"Bearer {TOKEN}", "Cookie": f"session={WORDS}"}
    plain = {"json": payload, "headers": headers}
    yield {"url": CALLS, **plain}
    yield {"url": CALLS_OF_USER.replace("{userId}", quote(number, safe="")), **plain}
    yield {"url": f"{CALLS}/{quote(number, safe='')}", **plain}
    yield {"url": CALLS, **plain, "extensions": {"call_initiation": said}}
    yield {"url": CALLS, **plain, "params": {"token": TOKEN, "number": number}}
    yield {"url": CALLS, "content": iter([json.dumps(payload).encode()]), "headers": plain["headers"]}


@pytest.mark.parametrize("payload", PAYLOADS, ids=["documented body", "thread's body"])
def test_nothing_comes_out_that_went_in(
    payload: Callable[[str], Any],
    sink: Collector,
    logs: Kept,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every spelling of the number, every answer that may quote it, with the token in its spellings besides."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", sink.url)
    spellings, tokens = [*SPELLINGS.values()], [*TOKENS.values()]

    def quoting(received: Received) -> Sequence[Act]:
        kind, number, token = received.id.split()
        return ANSWERS[kind.replace("_", " ")](f"{spellings[int(number)]} or {tokens[int(token)]}")

    placed = 0
    with (
        Server(quoting) as server,
        Exporter(prometheus_port=0, settle=0.0, event_attributes={"team": "dialers"}) as exporter,
        httpx.Client(base_url=server.url, trust_env=False, verify=TRUST) as client,
    ):
        exporter.instrument(client)
        for number, spelled in enumerate(spellings):
            exporter.agent_state(spelled, presence="BUSY", station=spelled)
            ways = [*calls(NUMBER if number % 2 else spelled, payload(NUMBER if number % 3 else spelled))]
            for at, kind in enumerate(ANSWERS):
                way = ways[at % len(ways)]
                headers = {**way["headers"], "X-Request-Id": f"{kind.replace(' ', '_')} {number} {at % len(tokens)}"}
                if "content" in way:
                    way = {**way, "content": iter([json.dumps(payload(spelled)).encode()])}
                with suppress(httpx.TransportError):
                    client.post(**{**way, "headers": headers})
                placed += 1
        assert exporter.flush(SOON)
        assert placed == exporter.ledgers()["attempts"].exported == exporter.ledgers()["spans"].exported
        pages = shown(exporter)
    out, err = capfd.readouterr()
    assert "" == out + err
    assert 'outcome="rejected"' in pages["text"]
    clean({**pages, **sent(sink), "logs": "\n".join(logs.lines)})


class Quoting(SpanExporter):
    """An exporter of the dialer's own whose exception quotes what it shouldn't."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:  # noqa: ARG002 - the interface
        """Fail."""
        raise ValueError(NUMBER, TOKEN)


def test_no_exception_carries_it_out(
    sink: Collector, logs: Kept, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Transports', sinks', exporters' and our own stages' exceptions quote it; they are counted, not quoted."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", sink.url)
    raised: list[Exception] = [
        *(kind(f"{NUMBER} {TOKEN}") for kind in (httpx.ReadTimeout, httpx.ConnectError, httpx.ProxyError, OSError)),
        ExceptionGroup(f"{NUMBER} {TOKEN}", [ValueError(TOKEN), ConnectionResetError(NUMBER)]),
        UnicodeDecodeError("utf-8", f"{NUMBER} {TOKEN}".encode(), 0, 1, TOKEN),
    ]

    def fail(given: Any) -> Any:
        raise ValueError(NUMBER, TOKEN, given)

    def answering(request: httpx.Request) -> httpx.Response:
        if (number := int(request.headers["X-Request-Id"])) < len(raised):
            raise raised[number]
        return httpx.Response(400, json={"code": "bad.request", "message": NUMBER})

    with (
        Exporter(prometheus_port=0, settle=0.0, span_exporter=Quoting()) as exporter,
        httpx.Client(transport=httpx.MockTransport(answering), base_url="https://api.example.com") as client,
    ):
        exporter.instrument(client)

        def place(number: int) -> None:
            headers = {"Authorization": f"Bearer {TOKEN}", "X-Request-Id": str(number)}
            client.post(CALLS, json=PAYLOADS[0](NUMBER), headers=headers)

        for number, error in enumerate(raised):
            with pytest.raises(type(error)) as caught:
                place(number)
            assert error is caught.value
        exporter._sinks["broken"] = type("Broken", (), {"record": staticmethod(fail)})()
        place(99)
        assert exporter.flush(SOON)
        exporter._recorder._apply = fail
        exporter.agent_state(NUMBER, presence="BUSY", station=NUMBER)
        exporter.observe(NUMBER, fail)  # type: ignore[arg-type]
        exporter._recorder._assess = fail
        place(99)
        assert exporter.flush(SOON)
        ledgers = exporter.ledgers()
        pages = shown(exporter)
    out, err = capfd.readouterr()
    assert "" == out + err
    assert (1, 1) == (ledgers["attempts"].dropped["internal_error"], ledgers["updates"].dropped["internal_error"])
    assert len(raised) + 1 == ledgers["spans"].dropped["refused"]
    stages = {*re.findall(r'internal_errors_total{stage="(\w+)"}', pages["text"])}
    assert {"assess", "apply", "broken", "observe"} == stages
    clean({**pages, **sent(sink), "logs": "\n".join(logs.lines)})
