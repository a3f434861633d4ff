"""The pretend dialer: its plan is a pure sequence, and what it sends is that plan, each call once."""

import asyncio
import json
from collections import Counter
from dataclasses import replace
from itertools import islice, pairwise
from typing import Any

import httpx
import pytest

from call_initiation.simulator.dialer import CallResult, Dialer, Form, Mistake, PlannedCall
from call_initiation.simulator.org import CALM, STARTED, Organisation, Request, user_token
from call_initiation.simulator.server import Server, ServerThread

AGENTS = ("agent-a", "agent-b", "agent-c")


class NoClient:
    """A client that must not be used."""

    def post(self, path: str, **_: Any) -> httpx.Response:
        """Fail."""
        raise httpx.ConnectError(path)


def plan(calls: int, **settings: Any) -> list[PlannedCall]:
    """Return the first calls of a plan."""
    return list(islice(Dialer(NoClient(), AGENTS, **settings).plan(), calls))


def test_the_same_seed_plans_the_same_calls() -> None:
    """Each time it is asked; another seed plans others."""
    assert plan(200, seed=4) == plan(200, seed=4)
    assert plan(200, seed=4) != plan(200, seed=5)


def test_the_rate_is_kept_on_average_with_exponential_gaps() -> None:
    """5,000 calls at 20 a second take about 250 seconds; the gaps' deviation is about their mean."""
    times = [planned.at for planned in plan(5000)]
    gaps = [after - before for before, after in pairwise(times)]
    mean = sum(gaps) / len(gaps)
    deviation = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert times == sorted(times)
    assert pytest.approx(0.05, rel=0.05) == mean
    assert pytest.approx(mean, rel=0.1) == deviation


def test_all_forms_mistakes_and_agents_occur() -> None:
    """In about their shares."""
    calls = plan(5000)
    forms = Counter(planned.form for planned in calls)
    assert set(Form) == set(forms)
    assert pytest.approx(0.45, abs=0.03) == forms[Form.ON_BEHALF] / 5000
    assert {*Mistake, None} == {planned.mistake for planned in calls}
    assert pytest.approx(0.08, abs=0.02) == sum(planned.mistake is not None for planned in calls) / 5000
    assert set(AGENTS) == {planned.agent_id for planned in calls}


def test_no_request_id_is_used_twice() -> None:
    """So that the ledger can tell each call."""
    assert 2000 == len({planned.request_id for planned in plan(2000)})


def test_the_agent_is_said_where_the_request_cannot_say_it() -> None:
    """By the extension for the plain form and callbacks; else by the path or the body."""
    for planned in plan(300, faulty=0.0):
        said = planned.extensions.get("call_initiation", {}).get("agent_id")
        if planned.form is Form.FROM_TO:
            said = json.loads(planned.body)["from"]["agentId"]
        elif planned.form is Form.ON_BEHALF:
            said = planned.path.rsplit("/", 1)[1]
        assert planned.agent_id == said


def test_all_numbers_are_made_up() -> None:
    """From the range that is kept for fiction."""
    for planned in plan(300, faulty=0.0):
        digits = json.dumps(json.loads(planned.body))
        assert digits.count("+33") == digits.count("+3319900")


def test_a_clients_token_is_for_calls_on_behalf() -> None:
    """All others carry the agent's own."""
    for planned in plan(300, faulty=0.0, token="a-clients-token"):
        expected = "a-clients-token" if planned.form is Form.ON_BEHALF else user_token(planned.agent_id)
        assert f"Bearer {expected}" == planned.headers["Authorization"]


def test_the_organisation_finds_every_mistake_and_no_other() -> None:
    """Faultless calls are accepted; each mistake gets its documented, or the thread's, code."""
    organisation = Organisation(behaviour=replace(CALM, refusals={}, rate_limit=10_000))
    expected = {
        None: (202, "none"),
        Mistake.TWO_DESTINATIONS: (400, "too.many.create.conversation.parameters"),
        Mistake.NO_DESTINATION: (400, "bad.request"),
        Mistake.NO_FROM_TYPE: (400, "MISSING_FROM_TYPE"),
        Mistake.WRONG_TYPE: (400, "invalid.value"),
        Mistake.BROKEN_JSON: (400, "bad.request"),
        Mistake.UNKNOWN_USER: (404, "not.found"),
        Mistake.BAD_TOKEN: (401, "bad.credentials"),
    }
    dialer = Dialer(NoClient(), organisation.agent_ids, faulty=0.5)
    for planned in islice(dialer.plan(), 300):
        headers = {name.lower(): value for name, value in planned.headers.items()}
        organisation.answer(
            Request(method="POST", path=planned.path, headers=headers, body=planned.body), STARTED + planned.at
        )
        entry = organisation.ledger[-1]
        assert planned.request_id == entry.request_id
        assert expected[planned.mistake] == (entry.status, entry.error_code)


def until(calls: int, stop: asyncio.Event, results: list[CallResult]) -> Any:
    """Return a callback that keeps results and stops after so many."""

    def keep(result: CallResult) -> None:
        results.append(result)
        if len(results) >= calls:
            stop.set()

    return keep


async def dial(client: Any, calls: int, agent_ids: Any = AGENTS) -> list[CallResult]:
    """Run a very fast dialer until so many calls have come back."""
    stop, results = asyncio.Event(), list[CallResult]()
    await Dialer(client, agent_ids, rate=100_000.0, on_result=until(calls, stop, results)).run(stop)
    return results


def test_what_it_sends_is_its_plan_each_call_once() -> None:
    """The organisation's ledger holds the beginning of the plan, and what came back is what it answered."""
    organisation = Organisation()
    with ServerThread(Server(organisation, clock=lambda: STARTED + 1.0)) as running:

        async def run() -> list[CallResult]:
            async with httpx.AsyncClient(base_url=running.url) as client:
                return await dial(client, 40, organisation.agent_ids)

        results = asyncio.run(run())
    planned = islice(Dialer(NoClient(), organisation.agent_ids, rate=100_000.0).plan(), len(results))
    statuses = {result.planned.request_id: result.answer and result.answer.status_code for result in results}
    assert {one.request_id for one in planned} == set(statuses)
    assert statuses == {entry.request_id: entry.status for entry in organisation.ledger}
    assert len(results) == len(organisation.ledger)


def test_a_client_that_is_not_asynchronous_runs_in_threads() -> None:
    """`httpx.Client` will do."""
    organisation = Organisation()
    server = ServerThread(Server(organisation, clock=lambda: STARTED + 1.0))
    with server as running, httpx.Client(base_url=running.url) as client:
        results = asyncio.run(dial(client, 5, organisation.agent_ids))
    assert len(results) == len(organisation.ledger)
    assert all(result.error is None for result in results)


def test_a_clients_exception_is_a_result_and_nothing_is_sent_again() -> None:
    """Each call fails once, under its own request id."""
    results = asyncio.run(dial(NoClient(), 20))
    assert all(isinstance(result.error, httpx.ConnectError) and result.answer is None for result in results)
    assert len(results) == len({result.planned.request_id for result in results})


def test_one_call_can_be_placed_without_a_callback() -> None:
    """The result is returned as well."""
    dialer = Dialer(NoClient(), AGENTS)
    planned = next(dialer.plan())
    result = asyncio.run(dialer.place(planned))
    assert planned is result.planned


def test_a_dialer_that_is_stopped_sends_nothing() -> None:
    """Even where its first call is due."""

    async def run() -> list[CallResult]:
        stop, results = asyncio.Event(), list[CallResult]()
        stop.set()
        await Dialer(NoClient(), AGENTS, rate=1e9, on_result=results.append).run(stop)
        return results

    assert [] == asyncio.run(run())
