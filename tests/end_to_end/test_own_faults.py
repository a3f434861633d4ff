"""A bug of ours in any stage: the caller's answer is the same, the fault is counted, and other calls are recorded."""

import asyncio
import subprocess
import sys
from typing import Any

import httpx
import pytest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider

from call_initiation import Exporter
from program import FORKING
from servers import Cut, Server, always, answer
from twins import CALLS, DOORS, PAYLOAD, Door, Equip, Listed, listening, raised, seen

BODY = b'{"code":"conversation.error.no.user.station"}'


class OurFaultError(Exception):
    """What a bug of ours raises."""


def fail(*_: Any, **__: Any) -> Any:
    """Be the bug."""
    raise OurFaultError


STAGES = {
    "call_initiation.calls.endpoints.match": ("observe", 0),
    "call_initiation.calls.observation.time_ns": ("observe", 0),
    "call_initiation.calls.observation._FIRST_ERROR": ("observe", 1),
    "call_initiation.calls.observation.failure_of": ("observe", 1),
    "call_initiation.calls.tracing._started": ("tracing", 1),
    "call_initiation.calls.tracing.OpenSpan.close": ("tracing", 1),
    "call_initiation.recording.recorder.Recorder.submit": ("submit", 0),
    "call_initiation.recording.assessment._attempt": ("assess", 0),
    "call_initiation.calls.endpoints.payload": ("payload", 1),
    "call_initiation.recording.assessment._secret_headers": ("mask", 1),
    "call_initiation.calls.endpoints.told": ("join", 1),
    "call_initiation.calls.endpoints.agent": ("join", 1),
    "call_initiation.agents.agents.Agents.as_of": ("join", 1),
    "call_initiation.recording.assessment.label": ("join", 1),
    "call_initiation.calls.responses.parse": ("parse", 1),
    "call_initiation.calls.decoding.decode": ("parse", 1),
    "call_initiation.calls.endpoints.Duplicates.seen": ("duplicates", 1),
    "call_initiation.privacy.KeyedHash.digest": ("duplicates", 1),
    "call_initiation.diagnosis.diagnosis.examine": ("diagnose", 1),
    "call_initiation.recording.aggregate.Aggregate.record": ("metrics", 1),
    "call_initiation.telemetry.otlp.span_of": ("spans", 1),
    "call_initiation.telemetry.otlp.record_of": ("events", 1),
    "call_initiation.agents.agents.Agents.current": ("tidy", 1),
}
"""Where the bug is; the stage that is counted; how many of the calls are recorded all the same."""

FAILS_ONLY = {"call_initiation.calls.observation.failure_of"}
"""What is used for calls without an answer only."""

ANSWERS_ONLY = {
    "call_initiation.calls.observation._FIRST_ERROR", "call_initiation.calls.responses.parse",
    "call_initiation.calls.decoding.decode",
}  # fmt: skip
"""What is used for answers only."""


async def place(door: Door, equip: Equip, url: str) -> Any:
    """Place one call; return what the caller saw of it."""
    client = equip(door.client(base_url=url))
    extensions = {"call_initiation": {"agent_id": "9d4b"}}
    try:
        response = await door.do(client, "post", CALLS, json=PAYLOAD, extensions=extensions)
    except door.module.HTTPError as error:
        return raised(error)
    finally:
        await door.do(client, "close")
    return seen(response), response.content


def equipped() -> tuple[Exporter, Listed]:
    """Return an exporter with every sink, and a list of what it records."""
    return listening(tracer_provider=TracerProvider(), logger_provider=LoggerProvider(), meter_provider=MeterProvider())


CASES = [
    *((place, True) for place in STAGES if place not in FAILS_ONLY),
    *((place, False) for place in STAGES if place not in ANSWERS_ONLY),
]


@pytest.mark.parametrize(("place_of_bug", "is_answered"), CASES)
@pytest.mark.parametrize("door", DOORS[:2], ids=str)
def test_a_bug_of_ours(
    door: Door,
    place_of_bug: str,
    is_answered: bool,  # noqa: FBT001 - a parameter of pytest's
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The caller's world is the same; the stage is counted; without the bug, all is well again."""
    stage, recorded = STAGES[place_of_bug]
    with Server(always(*([answer(400, BODY)] if is_answered else [Cut.CLOSE]))) as server:
        bare = asyncio.run(place(door, lambda client: client, server.url))
        exporter, listed = equipped()
        with exporter:
            with monkeypatch.context() as patched:
                patched.setattr(place_of_bug, fail)
                wrapped = asyncio.run(place(door, exporter.instrument, server.url))
                exporter.flush()
            assert bare == wrapped
            assert recorded == len(listed.attempts)
            assert 1 <= counted(exporter, stage)
            asyncio.run(place(door, exporter.instrument, server.url))
            exporter.flush()
            assert recorded + 1 == len(listed.attempts)
            ledger = exporter.ledgers()["attempts"]
            assert ledger.recorded == ledger.exported + ledger.pending + sum(ledger.dropped.values())
    assert 3 == len(server.received)


def counted(exporter: Exporter, stage: str) -> float:
    """Return how many faults of a stage `/metrics` shows."""
    return exporter.registry.get_sample_value("call_initiation_internal_errors_total", {"stage": stage}) or 0


def test_a_bug_in_a_sink_is_no_other_sinks() -> None:
    """Those after it hear of the call all the same."""
    exporter, _ = equipped()
    with exporter, Server(always(answer(400, BODY))) as server:
        broken, after = Listed(), Listed()
        broken.record = fail  # type: ignore[method-assign]
        exporter._sinks |= {"broken": broken, "after": after}
        asyncio.run(place(DOORS[0], exporter.instrument, server.url))
        exporter.flush()
        assert 1 == len(after.attempts)
        assert 1.0 == counted(exporter, "broken")


def test_a_bug_in_the_histories(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the dialer tells of an agent may be lost; the dialer isn't."""
    exporter, listed = equipped()
    with exporter:
        with monkeypatch.context() as patched:
            patched.setattr("call_initiation.agents.agents.Agents.apply", fail)
            exporter.agent_state("9d4b", presence="BUSY")
            exporter.flush()
        assert 1.0 == counted(exporter, "apply")
        exporter.agent_state("9d4b", presence="BUSY")
        exporter.flush()
    assert 1 == len(listed.events)
    assert {"internal_error": 1} == exporter.ledgers()["updates"].dropped


def test_no_more_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread can be had, calls go on and wait to be recorded until one can."""
    exporter, listed = equipped()
    client = exporter.instrument(httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(400))))
    with exporter, client:
        with monkeypatch.context() as patched:
            patched.setattr("threading.Thread.start", _no_thread)
            assert 400 == client.post(f"http://example.com{CALLS}").status_code
        assert 1 == exporter.ledgers()["attempts"].pending
        client.post(f"http://example.com{CALLS}")
        exporter.flush()
    assert 2 == len(listed.attempts)


def _no_thread(_thread: object) -> None:
    message = "can't start new thread"
    raise RuntimeError(message)


FORKED = f"""
import os, httpx
from call_initiation import Exporter

def attempts():
    return exporter.flush() and exporter.ledgers()["attempts"].exported, sum(
        sample.value for metric in exporter.registry.collect() for sample in metric.samples
        if sample.name == "call_initiation_attempts_total"
    )

exporter = Exporter(settle=0)
transport = httpx.MockTransport(lambda request: httpx.Response(400, json={{"code": "bad.request"}}))
client = exporter.instrument(httpx.Client(transport=transport))
client.post("http://example.com{CALLS}")
assert (1, 1.0) == attempts()
{{fork}}
client.post("http://example.com{CALLS}")
assert (2, 2.0) == attempts()
exporter.close()
"""

BY_HAND = """
def child():
    assert (0, 0.0) == attempts()
    for count in (1, 2):
        client.post("http://example.com/api/v2/conversations/calls")
        assert (count, float(count)) == attempts()
    return 0

if not (pid := os.fork()):
    os._exit(child())
assert 0 == os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""

BY_MULTIPROCESSING = (
    BY_HAND.partition("if not")[0]
    + """
import multiprocessing
process = multiprocessing.get_context("fork").Process(target=child)
process.start()
process.join()
assert 0 == process.exitcode
"""
)


@pytest.mark.parametrize("fork", [BY_HAND, BY_MULTIPROCESSING], ids=["os", "multiprocessing"])
def test_a_fork(fork: str) -> None:
    """A child begins anew with a thread and counts of its own; the parent goes on with its own."""
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, *FORKING, "-c", FORKED.replace("{fork}", fork)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (0, "") == (done.returncode, done.stderr)
