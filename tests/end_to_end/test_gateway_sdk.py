"""The official SDKs, unchanged, place calls through the gateway by their own setting for one.

The Python SDK answers a broken connection, and a broken answer, with the same POST again, ten times over; behind the
gateway it gets an answer, and the API gets one POST.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest

from call_initiation.admission import Rules
from call_initiation.relay import Origin
from call_initiation.simulator import server as simulator
from call_initiation.simulator.oauth import CLIENT_ID, CLIENT_SECRET
from call_initiation.simulator.org import STARTED, Organisation, user_token
from gateways import CALLS as PATH
from gateways import Running, running
from servers import Act, Cut, Server, always, answer, chunk, head
from simulated import NOW

SCRIPTS = Path(__file__).parents[1] / "data" / "sdk"
ENGINES = Path(__file__).parents[2] / ".engines"
CALLS = 2  # at each port
JSON = ("Content-Type", "application/json")


def _interpreter(language: str) -> list[str]:
    """Return what runs a language's script, with the SDK at hand."""
    if language == "py" and find_spec("PureCloudPlatformClientV2") is not None:
        return [sys.executable]
    own = {"py": ENGINES / "sdk" / "bin" / "python", "js": ENGINES / "jssdk" / "node_modules"}[language]
    if not own.exists():
        give_up = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        give_up(f"the SDK for {language} isn't installed: `make sdks` does it")
    return [str(own)] if language == "py" else ["node"]


class Sdk(NamedTuple):
    """One of the SDKs."""

    language: str
    command: list[str]
    environment: dict[str, str]

    def place(self, ports: list[int], *credentials: str) -> list[list[dict[str, Any]]]:
        """Place calls at each of some ports; return what came of each."""
        listed = ",".join(str(port) for port in ports)
        done = subprocess.run(  # noqa: S603 - our own script
            [*self.command, listed, str(CALLS), *credentials],
            env=self.environment,
            capture_output=True,
            check=True,
            timeout=60,
        )
        return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def of(tmp_path: Path) -> Callable[[str], Sdk]:
    """Return a lookup of SDKs by language."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "NODE_PATH": str(ENGINES / "jssdk" / "node_modules"),
    }
    return lambda language: Sdk(
        language, [*_interpreter(language), str(SCRIPTS / f"place_calls.{language}")], environment
    )


@pytest.fixture(params=["py", "js"])
def sdk(request: pytest.FixtureRequest, of: Callable[[str], Sdk]) -> Sdk:
    """Return each of the SDKs."""
    return of(request.param)


ANSWERS = (
    answer(202, b'{"id": "c"}', JSON),
    answer(400, b'{"code": "conversation.error.no.user.station", "message": "A station."}', JSON),
    answer(401, b'{"code": "bad.credentials", "message": "No."}', JSON),
    answer(502, b"<html>Bad Gateway</html>", ("Content-Type", "text/html")),
)

BREAKS: tuple[tuple[Act, ...], ...] = (
    (Cut.CLOSE,),
    (Cut.RESET,),
    (head(202, JSON, ("Content-Length", "100")), b'{"id"', Cut.CLOSE),
    (head(202, JSON, ("Transfer-Encoding", "chunked")), chunk(b'{"id"'), Cut.CLOSE),
)


def test_what_an_sdk_gets_is_what_it_gets_directly(sdk: Sdk) -> None:
    """Accepted or refused: the same results from the same requests."""
    with ExitStack() as stack:
        apis = [stack.enter_context(Server(always(raw))) for raw in ANSWERS]
        gateways = [stack.enter_context(running(api)) for api in apis]
        results = sdk.place([*(api.port for api in apis), *(gateway.port for gateway in gateways)], "token")
        assert results[: len(apis)] == results[len(apis) :]
        for api in apis:
            requests = [_of_the_dialer(received.raw) for received in api.received]
            assert requests[:CALLS] == requests[CALLS:]
            assert 2 * CALLS == len(requests)


def _of_the_dialer(request: bytes) -> tuple[list[bytes], bytes]:
    """Return a request's lines but for those of one connection, and its body."""
    top, _, body = request.partition(b"\r\n\r\n")
    ours = (b"connection:", b"host:", b"content-length:")
    return [line for line in top.split(b"\r\n") if not line.lower().startswith(ours)], body


def test_a_lost_answer_rings_nobody_twice(sdk: Sdk) -> None:
    """C1, C2, C11: one POST for each call, and the dialer knows that the call may have been placed."""
    never = Event()
    with ExitStack() as stack:
        apis = [stack.enter_context(Server(always(*acts))) for acts in (*BREAKS, (never,))]
        gateways = [stack.enter_context(running(api, deadline=0.5)) for api in apis]
        results = sdk.place([gateway.port for gateway in gateways], "token")
        never.set()
        assert [[502] * CALLS] * len(BREAKS) + [[504] * CALLS] == [[one["status"] for one in each] for each in results]
        assert [CALLS] * len(apis) == [len(api.received) for api in apis]


def test_without_the_gateway_a_lost_answer_rings_eleven_times(of: Callable[[str], Sdk]) -> None:
    """What the gateway is for; should the Python SDK ever mend its ways, this says so."""
    with ExitStack() as stack:
        apis = [stack.enter_context(Server(always(*acts))) for acts in BREAKS]
        results = of("py").place([api.port for api in apis], "token")
        assert [[{"raised": "MaxRetryError"}] * CALLS] * len(apis) == results
        assert [11 * CALLS] * len(apis) == [len(api.received) for api in apis]


@contextmanager
def _organisation() -> Iterator[tuple[Organisation, int, Running]]:
    """Run a pretend organisation, always the same one, and a gateway to it that forwards all."""
    organisation = Organisation(7, 20, started=STARTED)
    with simulator.ServerThread(simulator.Server(organisation, clock=lambda: NOW)) as thread:
        port = urlsplit(thread.url).port or 0
        with running(Origin("127.0.0.1", port), rules=Rules(forward_all=True)) as gateway:
            yield organisation, port, gateway


def test_a_pretend_organisation_answers_as_directly(sdk: Sdk) -> None:
    """The same agent, the same calls, the same verdicts; and each is recorded with the code that it got."""
    with _organisation() as (organisation, _, gateway):
        agent = organisation.agent_ids[0]
        through = sdk.place([gateway.port] * 2, user_token(agent))
        recorded = [attempt.error_code for attempt in gateway.attempts()]
        assert [entry.error_code or "none" for entry in organisation.ledger] == recorded
        assert 2 * CALLS == len(recorded)
    with _organisation() as (organisation, port, _):
        assert sdk.place([port] * 2, user_token(agent)) == through


def test_a_client_gets_its_token_through_the_gateway(of: Callable[[str], Sdk]) -> None:
    """The login host's paths are forwarded, too; a client has no user, so its calls are refused."""
    with _organisation() as (_, _, gateway):
        (results,) = of("py").place([gateway.port], CLIENT_ID, CLIENT_SECRET)
        assert ["not.a.user"] * CALLS == [json.loads(one["body"])["code"] for one in results]
        assert [PATH] * CALLS == [attempt.endpoint for attempt in gateway.attempts()]
