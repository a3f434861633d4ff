"""The dashboards on a real Prometheus that scrapes our exporter under traffic, with an effect planted in it.

Once: a pretend organisation that refuses the calls of agents in meetings, a dialer, an exporter that follows the agents
and exports to a collector, and whatever else a panel may show. Then each query of each panel is asked.
"""

import asyncio
import json
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from math import isnan
from pathlib import Path
from threading import Event
from time import time
from typing import Any

import httpx
import pytest

from boards import (
    BOARDS,
    PROMETHEUS,
    ROOT,
    Target,
    attributes,
    chosen,
    rules,
    targets,
)
from call_initiation import Exporter
from call_initiation.calls.endpoints import CALLS, CALLS_OF_USER
from call_initiation.catalogue import AGENTS as AGENTS_NOW
from call_initiation.catalogue import ATTEMPTS, FEED_RECONNECTS, METRICS, Metric
from call_initiation.events import AgentState, StateLabel
from call_initiation.gateway.gateway import Gateway, Plan
from call_initiation.gateway.relay import Origin
from call_initiation.pages.correlation import Correlation, correlate
from call_initiation.simulator.dialer import Dialer, Mistake, PlannedCall
from call_initiation.simulator.org import (
    CALM,
    CLIENT_ID,
    CLIENT_SECRET,
    INVALID_AGENT_STATE,
    Organisation,
    OrgChange,
    user_token,
)
from call_initiation.simulator.server import Server as OrganisationServer
from call_initiation.simulator.server import ServerThread
from collector import Answer, Collector, free_port, refusing_port
from collector import attributes as plain
from servers import Cut, Received, Server, answer
from watching import Prometheus, alertmanager, paged, prometheus, quickened, until

pytestmark = pytest.mark.untraced

AGENTS = 400
FOLLOWED = 20
ATTEMPTED = 1_600
AT_ONCE = 12
PLANTED = (INVALID_AGENT_STATE, StateLabel.MEETING)
BEHAVIOUR = replace(
    CALM,
    refusals={StateLabel.MEETING: 1.0},
    codes={StateLabel.MEETING: INVALID_AGENT_STATE},
    leg_failures=0.5,
    without_station=0.0,
    rate_limit=100_000,
    pace=30.0,
)
SOON = 20.0
ENOUGH = 10
"""Refusals that must be met, or expected, in a cell before its lift says much."""

BUDGET_LEFT = "job:call_initiation_budget_left:ratio30d"
LIFT, PHI = (f"job_error_code_agent_state:call_initiation_attempts:{name}1h" for name in ("lift", "phi"))
Cells = dict[tuple[str, str], float]


class Telling(Organisation):
    """An organisation that tells an exporter of the agents whom no feed follows."""

    def __init__(self, exporter: Exporter) -> None:
        super().__init__(1, AGENTS, started=time(), behaviour=BEHAVIOUR)
        self._exporter = exporter
        for agent_id in self.agent_ids[FOLLOWED:]:
            self._tell(agent_id, self.state(agent_id), self.now)

    def advance(self, now: float) -> list[OrgChange]:
        """Apply what happens before `now`, and tell it."""
        changes = super().advance(now)
        followed = set(self.agent_ids[:FOLLOWED])
        for change in changes:
            if change.agent_id not in followed:
                self._tell(change.agent_id, change.state, change.at)
        return changes

    def _tell(self, agent_id: str, state: AgentState, since: float) -> None:
        parts = ("presence", "routing_status", "on_call", "wrap_up", "station", "out_of_office")
        self._exporter.agent_state(agent_id, since=since, **{part: getattr(state, part) for part in parts})


@dataclass(frozen=True)
class Observed:
    """What all tests look at.

    Attributes:
        prometheus: It has scraped all that happened.
        sink: It got all that was exported.
        text: The last scrape.
        truth: What the exporter itself says of the dialer's own calls.
        lifts: What Prometheus recorded of them, by code and state.
        phis: The same.
    """

    prometheus: Prometheus
    sink: Collector
    text: str
    truth: Correlation
    lifts: Cells
    phis: Cells


@pytest.fixture(scope="module")
def observed(engine: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    """Run it all, once."""
    home = tmp_path_factory.mktemp("prometheus")
    programs = {name: engine(name) for name in ("prometheus", "promtool")}
    with ExitStack() as stack:
        sink = stack.enter_context(Collector())
        stack.enter_context(_environment(sink))
        _leave(home / "journal")
        exporter = stack.enter_context(Exporter(prometheus_port=0, settle=0.2, journal=home / "journal"))
        Gateway(Plan(upstream=Origin("127.0.0.1", refusing_port())), exporter)  # counts its refusals there, from zero
        organisation = Telling(exporter)
        api = stack.enter_context(ServerThread(OrganisationServer(organisation)))
        target = str(exporter.metrics_url).removeprefix("http://")
        _remember(programs["promtool"], home, target)
        watching = prometheus(
            programs["prometheus"],
            home,
            {"dialer": target},
            [PROMETHEUS / "recording.yaml", PROMETHEUS / "alerts.yaml"],
        )
        seen = stack.enter_context(watching)
        followed = organisation.agent_ids[:FOLLOWED]
        exporter.follow_agents(region=api.url, agent_ids=followed, client_id=CLIENT_ID, client_secret=CLIENT_SECRET)
        until(lambda: _sum(exporter, AGENTS_NOW) - _sum(exporter, AGENTS_NOW, "unknown") >= AGENTS, "agents' states")
        httpx.post(f"{api.url}/simulator/faults", json={"strike": "drop"}, trust_env=False).raise_for_status()
        asyncio.run(_dial(exporter, api.url, organisation.agent_ids))
        _scraped(exporter, seen)
        measured = correlate(exporter.aggregate.snapshot()), _cells(seen, LIFT), _cells(seen, PHI)
        _besides(exporter, sink, api.url, organisation.agent_ids[-1])
        _scraped(exporter, seen)
        until(lambda: seen.now(f"ALERTS{{alertstate='firing'}} and on () {BUDGET_LEFT}"), "an alert")
        text = httpx.get(f"http://{target}/metrics", trust_env=False).text
        yield Observed(seen, sink, text, *measured)


@contextmanager
def _environment(sink: Collector) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", sink.url)
        patch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")
        yield


def _leave(journal: Path) -> None:
    """Leave a refused call in a journal, as a dialer does that ends while its collector is away."""
    with pytest.MonkeyPatch.context() as patch, Server(lambda _: [answer(400)]) as server:
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{refusing_port()}")
        with Exporter(settle=0.0, journal=journal) as exporter:
            _call(exporter, server.url, "nobody")


def _remember(promtool: Path, home: Path, target: str) -> None:
    """Give Prometheus a yesterday: an hour of calls, around the same time."""
    labels = f'job="dialer",instance="{target}",outcome="rejected",error_code="{INVALID_AGENT_STATE}"'
    began = int(time()) - 86_400 - 1_800
    lines = [f"call_initiation_attempts_total{{{labels}}} {step} {began + 15 * step}" for step in range(240)]
    past = home / "yesterday.om"
    past.write_text("\n".join(["# TYPE call_initiation_attempts counter", *lines, "# EOF", ""]), encoding="utf-8")
    command = [promtool, "tsdb", "create-blocks-from", "openmetrics", past, home / "data"]
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - the engine


def _sum(exporter: Exporter, metric: Metric, *labels: str) -> float:
    """Return the sum of a metric's series, or the value of one."""
    return sum(
        number.value
        for family in exporter.aggregate.snapshot()
        if family.metric is metric
        for key, number in family.numbers.items()
        if not labels or key == labels
    )


def _cells(seen: Prometheus, query: str) -> Cells:
    return {
        (sample["metric"]["error_code"], sample["metric"]["agent_state"]): float(sample["value"])
        for sample in seen.now(query)
    }


async def _dial(exporter: Exporter, url: str, agent_ids: list[str]) -> None:
    """Place the dialer's planned calls as fast as they are answered."""
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=SOON) as client:
        dialer = Dialer(exporter.instrument(client), agent_ids, faulty=0.2)
        waiting = asyncio.Semaphore(AT_ONCE)

        async def place(planned: PlannedCall) -> None:
            async with waiting:
                await dialer.place(planned)

        # The state of a user whom nobody knows is unknown: no mistake of the request alone, and no planted effect.
        planned = (one for one in dialer.plan() if one.mistake is not Mistake.UNKNOWN_USER)
        await asyncio.gather(*map(place, islice(planned, ATTEMPTED)))


def _besides(exporter: Exporter, sink: Collector, url: str, agent: str) -> None:
    """Let happen what else a panel may show, over a few scrapes."""
    pause = Event()
    for number in range(5):
        for fault in (_unfit, lambda _: [answer(503)], lambda _: [Cut.RESET]):
            with Server(fault) as server:
                _call(exporter, server.url, agent)
        _call(exporter, url, agent)
        exporter._recorder.fault("observe")
        exporter.flush(SOON)
        exporter.agent_state(agent, presence="AWAY", since=exporter.now() - 2 - number / 10)
        sink.answer = Answer(400 if number % 2 else 200)
        pause.wait(0.3)
    sink.answer = Answer()
    until(lambda: _sum(exporter, FEED_RECONNECTS), "the feed to come back")
    pause.wait(1.2)


def _unfit(_: Received) -> list[bytes]:
    return [answer(400, json.dumps({"code": "not\nfit", "message": "to show"}).encode())]


def _call(exporter: Exporter, url: str, agent: str) -> None:
    with httpx.Client(base_url=url, trust_env=False) as client, suppress(httpx.TransportError):
        path, token = CALLS_OF_USER.replace("{userId}", agent), user_token(agent)
        payload, headers = {"phoneNumber": "+33199000000"}, {"Authorization": f"Bearer {token}"}
        exporter.instrument(client).post(path, json=payload, headers=headers)


def _scraped(exporter: Exporter, seen: Prometheus) -> None:
    """Wait until Prometheus has seen all that was counted, and has evaluated the rules on it."""
    assert exporter.flush(SOON)
    counted = _sum(exporter, ATTEMPTS)
    until(lambda: seen.number("sum(call_initiation_attempts_total)") == counted, f"{counted} attempts")
    scraped = time()
    until(lambda: seen.number(f"min(timestamp({PHI}))") > scraped, "the rules")


def say(text: str) -> None:
    """Print what was measured; `pytest -s` shows it."""
    print(text)  # noqa: T201 - that is what it is for


def told(target: Target) -> Callable[[Prometheus, str], list[dict[str, Any]]]:
    """Return how a panel asks."""
    return Prometheus.now if target.is_instant else Prometheus.over_time


def numbers(found: Iterable[dict[str, Any]]) -> list[float]:
    """Return the values of an answer that are numbers."""
    values = [float(value) for one in found for value in ([one["value"]] if "value" in one else _values(one))]
    return [value for value in values if not isnan(value)]


def _values(series: dict[str, Any]) -> list[str]:
    return [value for _, value in series["values"]]


@pytest.mark.parametrize("target", targets("prometheus"), ids=lambda target: f"{target.panel} {target.query[:24]}")
def test_every_query_of_every_panel_finds_something(observed: Observed, target: Target) -> None:
    """And exemplars where it asks for them, each of a span that was sent."""
    query = chosen(target.query, window="4s", period="5m")
    assert numbers(told(target)(observed.prometheus, query)), query
    if target.has_exemplars:
        found = {exemplar["trace_id"] for exemplar in observed.prometheus.exemplars(query)}
        sent = {span.trace_id.hex() for span in observed.sink.spans(accepted=False)}
        assert found
        assert found <= sent


@pytest.mark.parametrize(
    ("title", "counted"),
    [
        ("May have rung", 'call_initiation_attempts_total{outcome="ambiguous"}'),
        ("Records dropped", "call_initiation_recorder_dropped_total"),
        ("Faults of our own", "call_initiation_internal_errors_total"),
    ],
)
def test_what_happens_once_is_counted(observed: Observed, title: str, counted: str) -> None:
    """A number that is red at 1 says what the exporter says, and not 0 for a series that begins with it."""
    [target] = [target for target in targets("prometheus") if target.panel.endswith(f": {title}")]
    assert observed.prometheus.number(f"sum({counted})") > 0
    assert 0 == observed.prometheus.number(f"({chosen(target.query)}) - sum({counted})")


def test_every_variable_has_values(observed: Observed) -> None:
    """The job and the instance."""
    for board in BOARDS.values():
        for variable in board["templating"]["list"]:
            if variable["type"] == "query":
                selector, label = (
                    variable["query"]["query"].removeprefix("label_values(").removesuffix(")").rsplit(", ")
                )
                assert observed.prometheus.label_values(chosen(selector), label)


def test_every_recorded_series_is_there(observed: Observed) -> None:
    """Each rule finds what it needs under its names."""
    assert [] == [rule["record"] for rule in rules("recording.yaml") if not observed.prometheus.now(rule["record"])]


def test_the_planted_effect_stands_out(observed: Observed) -> None:
    """Its lift and its φ are the highest; every other pair is near 1 and 0, where it isn't too rare to say.

    Not so the planted code with another state: it is there only where the state changed while the call was under way.
    """
    cells, lifts, phis = observed.truth.cells, observed.lifts, observed.phis
    others = {cell: lift for cell, lift in lifts.items() if cell != PLANTED and cells[cell].expected >= ENOUGH}
    say(f"planted: {cells[PLANTED].refusals} refusals, lift {lifts[PLANTED]:.1f}, phi {phis[PLANTED]:.2f}")
    say(
        f"others: lift {min(others.values()):.2f} to {max(others.values()):.2f}, phi to {sorted(phis.values())[-2]:.2f}"
    )
    assert PLANTED == max(phis, key=phis.__getitem__)
    assert PLANTED == max((cell for cell in lifts if cells[cell].refusals >= ENOUGH), key=lifts.__getitem__)
    assert lifts[PLANTED] > 4
    assert phis[PLANTED] > 0.5
    assert len(others) >= 3
    assert all((0.0 if code == PLANTED[0] else 0.15) < lift < 2.5 for (code, _), lift in others.items()), others
    assert all(abs(phi) < 0.25 for cell, phi in phis.items() if cell != PLANTED), phis


def test_prometheus_and_the_exporters_own_page_say_the_same(observed: Observed) -> None:
    """The recorded lift of each cell is the exporter's own, for the same cells: those with calls enough."""
    expected = {key: cell.lift for key, cell in observed.truth.cells.items() if cell.is_firm}
    assert pytest.approx(expected) == observed.lifts


def test_what_the_exporter_fills_is_what_the_boards_show(observed: Observed) -> None:
    """Every metric has a sample."""
    unfilled = {metric.prometheus_name for metric in METRICS if f"\n{metric.prometheus_name}" not in observed.text}
    assert set() == unfilled


def test_every_attribute_that_a_query_names_was_sent(observed: Observed) -> None:
    """Spans have those of TraceQL; events those of LogQL, where Loki writes underscores for dots."""
    on_spans = {name for span in observed.sink.spans() for name in plain(span.attributes)}
    on_events = {name.replace(".", "_") for record in observed.sink.records() for name in plain(record.attributes)}
    assert set() == attributes() - on_spans - on_events


# -- alerts -----------------------------------------------------------------------------------------------------------

QUICKER = 120
"""How many times faster than in earnest windows and waits pass: an hour in half a minute."""


def test_alerts_fire_when_a_fault_is_injected_and_resolve_after_it(
    engine: Callable[[str], Path], tmp_path: Path
) -> None:
    """The provider fails, then the exporter goes: each pages, and each page is taken back."""
    port, is_failing, is_over = free_port(), Event(), Event()
    files = [quickened(PROMETHEUS / name, tmp_path, QUICKER) for name in ("recording.yaml", "alerts.yaml")]
    with ExitStack() as stack:
        pager = stack.enter_context(paged())
        told = stack.enter_context(
            alertmanager(engine("prometheus-alertmanager"), tmp_path, ROOT / "dashboards" / "alertmanager.yml", pager)
        )
        server = stack.enter_context(Server(lambda _: [answer(503 if is_failing.is_set() else 202, b"{}")]))
        seen = stack.enter_context(
            prometheus(engine("prometheus"), tmp_path, {"dialer": f"127.0.0.1:{port}"}, files, told)
        )

        def dial(pause: float = 0.02) -> bool:
            client.post(CALLS, json={"phoneNumber": "+33199000000"})
            return is_over.wait(pause)

        def meanwhile(come: Callable[[], bool]) -> Callable[[], bool]:
            return lambda: dial() or come()

        wait = partial(pager.has, "pager")
        with (
            Exporter(prometheus_port=port, settle=0.0) as exporter,
            httpx.Client(base_url=server.url, trust_env=False) as client,
        ):
            exporter.instrument(client)
            until(
                meanwhile(lambda: seen.number("job:call_initiation_failures:ratio_rate1h == bool 0") == 1),
                "a good time",
            )
            assert {} == {receiver: alerts for receiver, alerts in pager.told.items() if receiver == "pager"}
            is_failing.set()
            until(meanwhile(lambda: wait("firing", "CallInitiationBudgetBurn")), "a page for the failures")
            is_failing.clear()
            until(meanwhile(lambda: wait("resolved", "CallInitiationBudgetBurn")), "its end")
        until(lambda: wait("firing", "CallInitiationExporterDown"), "a page for the exporter")
        with Exporter(prometheus_port=port, settle=0.0):
            until(lambda: wait("resolved", "CallInitiationExporterDown"), "its end")
