"""What is the gateway's own to get wrong: a bug of ours, its scrapes, its end. No call suffers from any of them."""

from threading import Barrier, Event, Thread

import httpx
import pytest
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client.parser import text_string_to_metric_families

from call_initiation import Ledger
from call_initiation.catalogue import GATEWAY_REFUSALS, INTERNAL_ERRORS, METRICS, Kind
from call_initiation.gateway.front import Phase
from call_initiation.recording.aggregate import Aggregate
from collector import Collector
from gateways import ACCEPTED, BODY, CALLS, Client, ask, call, is_error, post, running
from servers import PATIENCE, Server, always, answer
from twins import faults, listening

REFUSED = answer(400, b'{"code": "bad.request"}')
DIALERS, EACH = 4, 50
SCRAPERS = 2

BUGS = {
    "call_initiation.calls.observation.time_ns": "observe",
    "call_initiation.calls.observation._FIRST_ERROR": "observe",
    "call_initiation.calls.tracing._started": "tracing",
    "call_initiation.recording.recorder.Recorder.submit": "submit",
    "call_initiation.recording.assessment._attempt": "assess",
    "call_initiation.calls.endpoints.agent": "join",
    "call_initiation.calls.responses.parse": "parse",
    "call_initiation.recording.aggregate.Aggregate.record": "metrics",
}
"""Where the bug is, and the stage that is counted."""


@pytest.mark.parametrize("place", BUGS)
def test_a_fault_of_ours_is_not_the_callers(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """C14: a call that can't be observed is placed all the same, once, and the stage counts its fault."""

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    observer = listening(tracer_provider=TracerProvider(shutdown_on_exit=False))
    with Server(always(REFUSED)) as api, running(api, observer) as gateway:
        with monkeypatch.context() as patched:
            patched.setattr(place, broken)
            assert REFUSED == ask(gateway.port, call()).raw
            assert gateway.exporter.flush()
        assert 1 == api.count("1")
        assert {BUGS[place]: 1.0} == faults(gateway.exporter)
        assert REFUSED == ask(gateway.port, post()).raw
        assert gateway.exporter.flush()
        assert "bad.request" == gateway.listed.attempts[-1].error_code


@pytest.mark.parametrize("log", ["_quiet_logger", "_broken_log"])
def test_a_fault_of_the_gateways_own_is_answered(
    log: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C14: where the gateway fails after the send, the dialer isn't cut off, even if the log fails, too."""
    request.getfixturevalue(log)

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    with Server(always(ACCEPTED)) as api, running(api) as gateway:
        monkeypatch.setattr("call_initiation.gateway.answers.whole", broken)
        assert is_error(ask(gateway.port, call()), 502, "answer_lost", "ambiguous")
        assert 1 == api.count("1")


def test_a_fault_of_the_gateways_own_before_the_send_says_that_nothing_was_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """C14: a dialer that is told so can place its call again without ringing anybody twice."""

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    with Server(always(ACCEPTED)) as api, running(api) as gateway:
        monkeypatch.setattr("call_initiation.gateway.relay._head", broken)
        assert is_error(ask(gateway.port, call()), 502, "unreachable", "not_sent")
        assert 0 == api.count("1")


def _fill(aggregate: Aggregate) -> None:
    """Give every metric as many series as it takes, but for faults of ours, of which there shall be none.

    And but for the gateway's refusals, which has all of its series from the start.
    """
    for metric in set(METRICS) - {INTERNAL_ERRORS, GATEWAY_REFUSALS}:
        for n in range(metric.max_series if metric.labels else 1):
            labels = tuple(f"{label}-{n}" for label in metric.labels)
            match metric.kind:
                case Kind.HISTOGRAM:
                    aggregate.observe(metric, labels, n / 10)
                case Kind.COUNTER:
                    aggregate.count(metric, labels)
                case Kind.GAUGE:
                    aggregate.gauge(metric, labels, n)


def _dial(port: int) -> dict[bytes, bytes]:
    """Place calls on several connections at once; return the answer to each, by what the call said."""
    found: dict[bytes, bytes] = {}

    def work(dialer: int) -> None:
        with Client(port) as client:
            for n in range(EACH):
                body = b'{"code": "made.up.%d"}' % (dialer * EACH + n)
                found[body] = client.send(post(CALLS, body)).answer().raw

    threads = [Thread(target=work, args=(dialer,)) for dialer in range(DIALERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    return found


def _scrape(url: str, is_over: Event, has_begun: Barrier, samples: list[int]) -> None:
    """Scrape again and again; list how many samples each scrape had."""
    with httpx.Client(trust_env=False, timeout=PATIENCE) as scraper:
        while True:
            text = scraper.get(f"{url}/metrics").raise_for_status().text
            samples.append(sum(len(family.samples) for family in text_string_to_metric_families(text)))
            if len(samples) == 1:
                has_begun.wait(PATIENCE)
            if is_over.is_set():
                return


def test_calls_do_not_suffer_from_scrapes_and_exports(sink: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """C15: all series at their caps, scrapes and exports without a pause: answers are the twin's, all are counted."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", sink.url)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "100")
    exporter, listed = listening(prometheus_port=0)
    _fill(exporter.aggregate)
    is_over, has_begun, scrapes = Event(), Barrier(SCRAPERS + 1), [list[int]() for _ in range(SCRAPERS)]
    with Server(lambda request: (answer(400, request.body),)) as api, running(api, (exporter, listed)) as gateway:
        url = exporter.metrics_url
        scraping = [Thread(target=_scrape, args=(url, is_over, has_begun, samples)) for samples in scrapes]
        for thread in scraping:
            thread.start()
        has_begun.wait(PATIENCE)
        through = _dial(gateway.port)
        is_over.set()
        for thread in scraping:
            thread.join(PATIENCE)
        assert _dial(api.port) == through
        assert DIALERS * EACH == len(through) == len(gateway.attempts())
        books = exporter.ledgers()
        everything = Ledger(recorded=DIALERS * EACH, exported=DIALERS * EACH)
        assert everything == books["attempts"] == books["spans"] == books["events"]
    assert DIALERS * EACH == len(sink.spans()) == len(sink.records())
    assert all(1 < len(samples) and 1_900 < min(samples) for samples in scrapes), scrapes


def test_draining_finishes_what_is_under_way_and_takes_nothing_more() -> None:
    """C17: calls under way get their answers whole; idle dialers are let go; new ones find the door closed."""
    hold = Event()
    body = b"a" * 200_000
    with Server(always(hold, answer(400, body))) as api, running(api) as gateway, Client(gateway.port) as idle:
        with Client(gateway.port) as busy:
            busy.send(call())
            api.wait()
            drained: list[bool] = []
            draining = Thread(target=lambda: drained.append(gateway.do(lambda: gateway.gateway.drain(PATIENCE))))
            draining.start()
            assert b"" == idle.rest()
            assert not gateway.gateway.is_ready
            with pytest.raises(ConnectionRefusedError):
                Client(gateway.port)
            hold.set()
            said = busy.answer()
            assert (400, "close", body) == (said.status, said.header("Connection"), said.body)
        draining.join(PATIENCE)
        assert [True] == drained


def test_what_comes_in_whole_once_the_end_has_begun_is_told_so() -> None:
    """C17: a request that was half in is not sent any more; nobody is told that there were too many."""
    hold = Event()
    with Server(always(hold, ACCEPTED)) as api, running(api) as gateway, Client(gateway.port) as late:
        with Client(gateway.port) as busy:
            whole = post(CALLS, BODY)
            late.send(whole[:-1])
            gateway.until(lambda: Phase.BODY in {front._phase for front in gateway.gateway._fronts})
            busy.send(call())
            api.wait()
            draining = Thread(target=lambda: gateway.do(lambda: gateway.gateway.drain(PATIENCE)))
            draining.start()
            gateway.until(lambda: not gateway.gateway.is_ready)
            assert is_error(late.send(whole[-1:]).answer(), 503, "draining", "not_sent")
            hold.set()
            assert 202 == busy.answer().status
        draining.join(PATIENCE)
        assert {"draining": 1} == gateway.refused()
        assert 1 == len(gateway.attempts())


def test_what_cannot_be_finished_is_answered_all_the_same() -> None:
    """C17: a call that outlasts the drain ends as ambiguous, and its dialer is told so."""
    hold = Event()
    with Server(always(hold)) as api:
        with running(api) as gateway:
            client = Client(gateway.port).send(call())
            api.wait()
            assert not gateway.do(lambda: gateway.gateway.drain(0.1))
        with client:
            assert is_error(client.answer(), 502, "answer_lost", "ambiguous")
        hold.set()
        assert 1 == api.count("1")
