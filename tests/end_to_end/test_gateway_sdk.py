"""The official SDKs, unchanged, place calls through the gateway by their own setting for one.

The Python SDK answers a broken connection, and a broken answer, with the same POST again, ten times over; behind the
gateway it gets an answer, and the API gets one POST. It does the same where `Retry-After` allows it, and
both SDKs follow redirects: the gateway passes these on, or prevents it where it is told to.
"""

import json
import os
import re
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest

from call_initiation.gateway.admission import Rules
from call_initiation.gateway.relay import Origin
from call_initiation.simulator import server as simulator
from call_initiation.simulator.oauth import CLIENT_ID, CLIENT_SECRET
from call_initiation.simulator.org import STARTED, Organisation, user_token
from gateways import ACCEPTED, Running, certified, closed, running, stalled
from gateways import CALLS as PATH
from servers import Act, Cut, Received, Script, Server, always, answer, chunk, head
from simulated import NOW

SCRIPTS = Path(__file__).parents[1] / "data" / "sdk"
ENGINES = Path(__file__).parents[2] / ".engines"
CALLS = 2  # at each port
JSON = ("Content-Type", "application/json")
PATIENTLY = ("Retry-After", "0")


def _interpreter(language: str) -> list[str]:
    """Return what runs a language's script, with the SDK at hand."""
    if language == "py" and find_spec("PureCloudPlatformClientV2") is not None:
        return [sys.executable]
    own = {"py": ENGINES / "sdk" / "bin" / "python", "js": ENGINES / "jssdk" / "node_modules"}[language]
    if not own.exists():
        give_up = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        give_up(f"the SDK for {language} isn't installed: `make sdks` does it")
    return [str(own)] if language == "py" else ["node"]


class Python:
    """A process that has the Python SDK imported, and forks for each script that it runs."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, script: str, *arguments: str) -> str:
        """Run a script in a process of its own, and return what it printed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps([script, arguments]), file=self._process.stdin, flush=True)
        status, printed = json.loads(self._process.stdout.readline())
        assert 0 == status
        return str(printed)


@pytest.fixture(scope="module")
def python(environment: dict[str, str]) -> Iterator[Python]:
    """Return a Python that has the SDK imported."""
    command = [*_interpreter("py"), str(SCRIPTS / "forking.py")]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as process:  # noqa: S603 - our own script
        yield Python(process)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return an environment in which no SDK finds settings of somebody's own."""
    home = str(tmp_path_factory.mktemp("home"))
    return {"PATH": os.environ["PATH"], "HOME": home, "NODE_PATH": str(ENGINES / "jssdk" / "node_modules")}


class Sdk(NamedTuple):
    """One of the SDKs: its language, and what runs a script of the same name with some arguments."""

    language: str
    run: Callable[..., str]

    def place(self, ports: list[int], *credentials: str) -> list[list[dict[str, Any]]]:
        """Place calls at each of some ports; return what came of each."""
        listed = ",".join(str(port) for port in ports)
        return [json.loads(line) for line in self.run(listed, str(CALLS), *credentials).splitlines()]


@pytest.fixture
def of(request: pytest.FixtureRequest, environment: dict[str, str]) -> Callable[[str], Sdk]:
    """Return a lookup of SDKs by language."""

    def node(*arguments: str) -> str:
        command = [*_interpreter("js"), str(SCRIPTS / "place_calls.js"), *arguments]
        return subprocess.run(command, env=environment, capture_output=True, check=True, text=True, timeout=110).stdout  # noqa: S603 - our own script

    def lookup(language: str) -> Sdk:
        if language == "js":
            return Sdk(language, node)
        python: Python = request.getfixturevalue("python")
        return Sdk(language, partial(python.run, (SCRIPTS / "place_calls.py").read_text(encoding="utf-8")))

    return lookup


@pytest.fixture(params=["py", "js"])
def sdk(request: pytest.FixtureRequest, of: Callable[[str], Sdk]) -> Sdk:
    """Return each of the SDKs."""
    return of(request.param)


Posts = dict[str, int]
"""How many POSTs an SDK makes of one call, by its language."""

ONE: Posts = {"py": 1, "js": 1}
NONE: Posts = {"py": 0, "js": 0}
AGAIN: Posts = {"py": 11, "js": 1}


def _refusal(status: int, *headers: tuple[str, str]) -> bytes:
    return answer(status, json.dumps({"status": status, "code": "made.up"}).encode(), JSON, *headers)


def _redirect(status: int) -> bytes:
    return answer(status, b"", ("Location", PATH))


REDIRECTS: dict[bytes, Posts] = {
    _redirect(301): AGAIN,
    _redirect(302): AGAIN,
    _redirect(303): ONE,
    _redirect(307): {"py": 11, "js": 22},
    _redirect(308): {"py": 11, "js": 22},
}
"""To where the call was; those that are one POST go on as GETs."""

ANSWERS: dict[bytes, Posts] = {
    answer(202, b'{"id": "c"}', JSON): ONE,
    answer(400, b'{"code": "conversation.error.no.user.station", "message": "A station."}', JSON): ONE,
    answer(401, b'{"code": "bad.credentials", "message": "No."}', JSON): ONE,
    answer(502, b"<html>Bad Gateway</html>", ("Content-Type", "text/html")): ONE,
    answer(400, b"\xef\xbb\xbfno JSON", JSON): ONE,
    _refusal(503): ONE,
    **{_refusal(status, PATIENTLY): AGAIN for status in (413, 429, 503)},
    **REDIRECTS,
}

BREAKS: tuple[tuple[Act, ...], ...] = (
    (Cut.CLOSE,),
    (Cut.RESET,),
    (head(202, JSON, ("Content-Length", "100")), b'{"id"', Cut.CLOSE),
    (head(202, JSON, ("Transfer-Encoding", "chunked")), chunk(b'{"id"'), Cut.CLOSE),
)


def test_what_an_sdk_gets_is_what_it_gets_directly(sdk: Sdk) -> None:
    """C9, C10, C13: accepted, refused, put off or sent elsewhere: the same results from the same requests."""
    with ExitStack() as stack:
        apis = [stack.enter_context(Server(always(raw))) for raw in ANSWERS]
        gateways = [stack.enter_context(running(api, rules=Rules(forward_all=True))) for api in apis]
        results = sdk.place([*(api.port for api in apis), *(gateway.port for gateway in gateways)], "token")
        assert results[: len(apis)] == results[len(apis) :]
        for api, posts in zip(apis, ANSWERS.values(), strict=True):
            requests = [_of_the_dialer(received.raw) for received in api.received]
            assert requests[: len(requests) // 2] == requests[len(requests) // 2 :]
            assert 2 * CALLS * posts[sdk.language] == _posts(api)


def _posts(api: Server) -> int:
    return sum(received.raw.startswith(b"POST ") for received in api.received)


def _of_the_dialer(request: bytes) -> tuple[list[bytes], bytes]:
    """Return a request's lines but for those of one connection, and its body."""
    top, _, body = request.partition(b"\r\n\r\n")
    ours = (b"connection:", b"host:", b"content-length:")
    return [line for line in top.split(b"\r\n") if not line.lower().startswith(ours)], body


class Fault(NamedTuple):
    """What goes wrong with calls, and what an SDK makes of it behind a gateway that prevents repeats.

    Attributes:
        statuses: What the SDK's caller gets for each call; None where that is no status.
        posts: How many POSTs of each call reach the API.
        script: What the API does.
        options: How the gateway is run.
        origin: Where the gateway sends calls, if not to that API.
        tls: How the API speaks TLS, and how the gateway does.
        js: What the JavaScript SDK's caller gets, where that is something else.
    """

    statuses: list[int | None]
    posts: Posts
    script: Script = always()
    options: dict[str, Any] = {}  # noqa: RUF012 - nobody changes it
    origin: Origin | None = None
    tls: tuple[ssl.SSLContext, ssl.SSLContext] | None = None
    js: list[int | None] | None = None


LOST: list[int | None] = [502] * CALLS
LATE: list[int | None] = [504] * CALLS
SOON = {"deadline": 0.5}


def _redirected(raw: bytes) -> Fault:
    """Return a redirect; the JavaScript SDK's error doesn't say which status it was."""
    return Fault([int(raw[9:12])] * CALLS, ONE, always(raw), js=[None] * CALLS)


def _closing_later() -> Script:
    """Accept the first call, and close the connection at the second."""
    turns = count()
    return lambda _: (ACCEPTED,) if next(turns) == 0 else (Cut.CLOSE,)


def _dripping(never: Event) -> Script:
    def drip(_: Received) -> Iterator[Act]:
        yield head(202, JSON, ("Content-Length", "1000000"))
        while not never.wait(0.02):
            yield b" "

    return drip


def _faults(never: Event, full: int) -> dict[str, Fault]:
    """Return the table; `never` is set when all is over, and `full` is a port at which a connect stalls."""
    return {
        "C1: no answer": Fault(LATE, ONE, always(never), SOON),
        "C2: closed": Fault(LOST, ONE, always(*BREAKS[0])),
        "C2: reset": Fault(LOST, ONE, always(*BREAKS[1])),
        "C3: closed when the second call is there": Fault([None, 502], ONE, _closing_later()),
        "C4: refused": Fault(LOST, NONE, origin=Origin("127.0.0.1", closed())),
        "C4: no such name": Fault(LOST, NONE, origin=Origin("nobody.invalid", 443)),
        "C4: a connect that stalls": Fault(LATE, NONE, always(), {"connect": 0.2}, Origin("127.0.0.1", full)),
        "C5: expired": Fault(LOST, NONE, tls=certified(is_expired=True)),
        "C5: another's certificate": Fault(LOST, NONE, tls=certified("other.test")),
        "C5: a stranger's certificate": Fault(LOST, NONE, tls=certified(is_trusted=False)),
        **{f"C9: {raw[9:12].decode()}": _redirected(raw) for raw in REDIRECTS},
        "C10: 413": Fault([413] * CALLS, ONE, always(_refusal(413, PATIENTLY))),
        "C10: 429": Fault([429] * CALLS, ONE, always(_refusal(429, PATIENTLY))),
        "C10: 503": Fault([503] * CALLS, ONE, always(_refusal(503, PATIENTLY))),
        "C11: short of its length": Fault(LOST, ONE, always(*BREAKS[2])),
        "C11: short of its last chunk": Fault(LOST, ONE, always(*BREAKS[3])),
        "C11: dripped": Fault(LATE, ONE, _dripping(never), SOON),
        "C16: no room": Fault([503] * CALLS, NONE, always(ACCEPTED), {"in_flight": 0, "queue": 0}),
    }


def test_no_fault_rings_twice(sdk: Sdk) -> None:
    """One POST of each call at most, whatever goes wrong, and its caller is told."""
    never, rules = Event(), Rules(forward_all=True, prevent_repeats=True)
    with ExitStack() as stack:
        faults = _faults(never, stack.enter_context(stalled()))
        apis = [stack.enter_context(Server(fault.script, fault.tls and fault.tls[0])) for fault in faults.values()]
        origins = [
            fault.origin or Origin("localhost" if fault.tls else "127.0.0.1", api.port, fault.tls and fault.tls[1])
            for fault, api in zip(faults.values(), apis, strict=True)
        ]
        gateways = [
            stack.enter_context(running(origin, rules=rules, **fault.options))
            for fault, origin in zip(faults.values(), origins, strict=True)
        ]
        results = sdk.place([gateway.port for gateway in gateways], "token")
        never.set()
        statuses = [[one.get("status") for one in each] for each in results]
        expected = {
            name: ((sdk.language == "js" and fault.js) or fault.statuses, CALLS * fault.posts[sdk.language])
            for name, fault in faults.items()
        }
        assert expected == dict(zip(faults, zip(statuses, map(_posts, apis), strict=True), strict=True))


GUIDE = Path(__file__).parents[2] / "docs" / "gateway.md"


@pytest.mark.parametrize("raw", [_refusal(503, PATIENTLY), _redirect(307)], ids=["put off", "redirected"])
def test_the_guide_s_lines_make_one_post_of_a_call(python: Python, raw: bytes) -> None:
    """Word for word, with a gateway that passes `Retry-After` on."""
    (lines,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    with Server(always(raw)) as api, running(api) as gateway:
        assert raw[9:12].decode() == python.run(lines.replace("8080", str(gateway.port)) + PLACING).strip()
        assert 1 == len(api.received)


PLACING = """
try:
    PureCloudPlatformClientV2.ConversationsApi(client).post_conversations_calls({"phoneNumber": "+33199000000"})
except PureCloudPlatformClientV2.rest.ApiException as error:
    print(error.status)
"""


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
