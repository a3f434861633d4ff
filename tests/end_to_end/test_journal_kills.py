"""Fifty kills at random moments: no failure is lost, none is told of twice, and no call is sent again.

Five dialers live side by side, each ten times, one life after another on the same journal. Each life is a process that
is killed (SIGKILL), whatever it is about then: most a while after their first call has ended, some as soon as they have
begun. The truth is what the API got, and what each dialer wrote down itself
before and after each call.
"""

import os
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import pytest

from call_initiation import Exporter, Ledger
from collector import Collector, attributes, free_port
from servers import Act, Received, Server, answer
from twins import TRUST

DIALERS, LIVES = 5, 10
TOKEN = "canary-7f3a91-secret"
NUMBER = "+33199000000"
PROGRAM = Path(sys.executable).with_name("call-initiation-exporter")
SOON = 25.0

# What each life needs is imported once, by the process that they are forked from; it has no exporter of its own.
NURSERY = """
import os, random, signal, ssl, sys, threading, time, uuid

import httpx
import opentelemetry.exporter.otlp.proto.http._log_exporter
import opentelemetry.exporter.otlp.proto.http.trace_exporter
import requests
from call_initiation import Exporter

url, folder, log, lives, number, token = sys.argv[1:7]
chance, trust = random.Random(log), ssl.create_default_context()

def live(seed):
    written = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    exporter = Exporter(journal=folder, settle=0.1)
    def dial(kinds, seed):
        chance = random.Random(seed)
        client = exporter.instrument(httpx.Client(base_url=url, trust_env=False, verify=trust, timeout=60))
        while True:
            kind, agent = chance.choice(kinds), uuid.UUID(int=chance.getrandbits(128), version=4)
            os.write(written, f"begin {agent} {kind}\\n".encode())
            headers = {"X-Request-Id": kind, "Authorization": f"Bearer {token}"}
            path = f"/api/v2/conversations/calls/user/{agent}"
            answer = client.post(path, json={"phoneNumber": number}, headers=headers)
            os.write(written, f"end {agent} {answer.status_code}\\n".encode())
            os.write(first, b"x")
            time.sleep(chance.uniform(0, 0.01))
    for kinds in (["refuse"], ["refuse", "accept"], ["slow", "accept"], ["hang"]):
        threading.Thread(target=dial, args=(kinds, f"{seed} {kinds}")).start()

for life in range(int(lives)):
    ended, first = os.pipe()
    os.set_blocking(first, False)
    child = os.fork()
    if child == 0:
        live(f"{log} {life}")
        signal.pause()
    if life % 5:
        os.read(ended, 1)
    time.sleep(chance.uniform(0, 0.2))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
"""

REFUSED = answer(400, b'{"code":"bad.request"}', ("Content-Type", "application/json"))


@dataclass
class Truth:
    """What dialers wrote down: the kind of each call that began, and the status of each that ended."""

    begun: dict[str, str] = field(default_factory=dict[str, str])
    ended: dict[str, int] = field(default_factory=dict[str, int])

    def read(self, log: Path) -> None:
        """Take in one dialer's log."""
        for word, agent, what in map(str.split, log.read_text().splitlines()):
            if word == "begin":
                self.begun[agent] = what
            else:
                self.ended[agent] = int(what)


def script(over: Event) -> Any:
    """Return how the API answers: at once, after a while, or never."""
    pause = Event()

    def acts(received: Received) -> Iterator[Act]:
        if received.id == "hang":
            yield over
        if received.id == "slow":
            pause.wait(0.03)
        yield answer(202, b"{}") if received.id == "accept" else REFUSED

    return acts


def agent_of(received: Received) -> str:
    """Return whose call a request was."""
    return received.target.rpartition("/")[2]


def told(things: Iterable[Any]) -> dict[str, list[dict[str, Any]]]:
    """Return, by agent, what was told of each failed call; the same thing delivered twice counts as told once."""
    found: dict[str, dict[bytes, dict[str, Any]]] = defaultdict(dict)
    for thing in things:
        given = attributes(thing.attributes)
        if given["call_initiation.outcome"] != "accepted":
            found[given["call_initiation.agent.id"]][thing.trace_id + thing.span_id] = given
    return {agent: list(each.values()) for agent, each in found.items()}


def clean(folder: Path) -> None:
    """See that no file tells a number or a token."""
    for path in folder.iterdir():
        data = path.read_bytes()
        assert [] == [canary for canary in (NUMBER[1:].encode(), TOKEN.encode(), b"phoneNumber") if canary in data]


def test_fifty_kills(tmp_path: Path, sink: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each failed call is told of once, as what it was; each that was under way once, as ambiguous; no other is."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", sink.url)
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "60")
    over, truth = Event(), Truth()
    folders = [tmp_path / f"journal-{number}" for number in range(DIALERS)]
    with Server(script(over)) as server:

        def lived(folder: Path) -> None:
            log = folder.with_suffix(".log")
            log.touch()
            command = [sys.executable, "-c", NURSERY, server.url, str(folder), str(log), str(LIVES), NUMBER, TOKEN]
            subprocess.run(command, check=True, timeout=SOON * 4)  # noqa: S603 - our own script
            clean(folder)
            truth.read(log)

        with ThreadPoolExecutor(DIALERS) as pool:
            list(pool.map(lived, folders))
        over.set()
        heirs = [_last_life(folder) for folder in folders]
        received = Counter(agent_of(request) for request in server.received)
    events, spans = told(sink.records()), told(sink.spans())
    assert {1} == set(received.values())
    assert events.keys() == spans.keys()
    assert [] == [agent for agent, each in [*events.items(), *spans.items()] if len(each) != 1]
    outcomes = {agent: each[0]["error.type"] for agent, each in events.items()}
    assert outcomes == {agent: each[0]["error.type"] for agent, each in spans.items()}
    for agent, kind in truth.begun.items():
        _hold(kind, truth.ended.get(agent), outcomes.get(agent), is_sent=agent in received)
    under_way = sum(error == "process_died" for error in outcomes.values())
    print(  # noqa: T201 - the figures are the point
        f"{DIALERS * LIVES} kills, {len(truth.begun)} calls, {len(outcomes)} failures, {under_way} under way, "
        f"{len(sink.records()) - len(events)} delivered twice"
    )
    assert DIALERS * LIVES / 2 < under_way
    assert {0} == {heir["events"].pending for heir in heirs}
    assert [[]] * DIALERS == [list(folder.iterdir()) for folder in folders]


def _hold(kind: str, status: int | None, error: str | None, *, is_sent: bool) -> None:
    """Hold what was told of a call against what its dialer knew, and the API."""
    if status is not None:
        assert (None if status == 202 else str(status)) == error
    elif not is_sent:
        assert error in {None, "process_died"}  # killed on the way to the send
    elif kind == "hang":
        assert "process_died" == error
    elif kind == "accept":
        assert error in {None, "process_died"}  # killed before the answer, or after it
    else:
        assert error in {"400", "process_died"}  # the same


def _last_life(folder: Path) -> dict[str, Ledger]:
    """Deliver what is left; return the books."""
    with Exporter(journal=folder, settle=0.0) as exporter:
        assert exporter.flush(SOON)
        return exporter.ledgers()


# -- the program ----------------------------------------------------------------------------------------------------


@contextmanager
def serving(server: Server, folder: Path, listen: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run the gateway with a journal."""
    command = [PROGRAM, "serve", "--upstream", server.url, "--listen", listen, "--metrics-listen", "127.0.0.1:0"]
    command += ["--journal", str(folder), "--journal-size", "2MiB", "--settle", "0s"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("CALL_INITIATION_")}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:  # noqa: S603 - our own program
        try:
            assert process.stdout is not None
            assert re.match(rb"gateway ", process.stdout.readline())
            yield process
        finally:
            process.kill()


def test_a_gateway_that_was_killed_tells_of_its_calls(
    tmp_path: Path, sink: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its next start: one was refused, one was under way; neither is placed again."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", sink.url)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "60000")
    over, listen = Event(), f"127.0.0.1:{free_port()}"
    with Server(script(over)) as server, ThreadPoolExecutor(1) as pool:
        with (
            serving(server, tmp_path / "journal", listen) as gateway,
            httpx.Client(base_url=f"http://{listen}", trust_env=False, verify=TRUST, timeout=SOON) as client,
        ):
            path, body = "/api/v2/conversations/calls/user/", {"phoneNumber": NUMBER}
            assert 400 == client.post(f"{path}refused", json=body, headers={"X-Request-Id": "refuse"}).status_code
            hung = pool.submit(client.post, f"{path}hung", json=body, headers={"X-Request-Id": "hang"})
            server.wait(2)
            gateway.kill()
            gateway.wait(SOON)
            assert isinstance(hung.exception(SOON), httpx.TransportError)
        over.set()
        clean(tmp_path / "journal")
        with serving(server, tmp_path / "journal", listen) as gateway:
            gateway.terminate()
            assert 0 == gateway.wait(SOON)
        assert 2 == len(server.received)
    assert {"refused": "400", "hung": "process_died"} == {
        agent: each["error.type"] for agent, [each] in told(sink.records()).items()
    }
    assert {"refused", "hung"} == told(sink.spans()).keys()
    assert [] == list((tmp_path / "journal").iterdir())
