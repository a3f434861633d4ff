"""The feed in a dialer's process: nothing waits for it, it ends with the exporter, and it learns from calls."""

import asyncio
import logging
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any

import certifi
import httpx
import pytest
import trustme
from aiohttp import web
from aiohttp.test_utils import TestServer
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import generate_latest

from call_initiation import Exporter
from call_initiation.agents.timeline import BLUR
from call_initiation.api.genesys import GenesysApi
from call_initiation.api.pacing import Budget
from call_initiation.api.sockets import LARGEST_MESSAGE, connector
from call_initiation.api.tokens import Tokens
from call_initiation.errors import SettingsError
from call_initiation.events import AgentAtSend, AgentIdSource, Attempt, Certainty, Event, StateLabel, StateSource
from call_initiation.feed.access import Access
from call_initiation.feed.feed import Door
from call_initiation.simulator.org import CALM, CLIENT_ID, CLIENT_SECRET, Organisation, user_token, word
from call_initiation.simulator.server import Server, ServerThread
from servers import behind_tls
from stores import until

PATIENCE = 15.0
CALLS = "/api/v2/conversations/calls"
CREDENTIALS = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
NOBODYS = "canary-nobodys-token"
NUMBER = {"phoneNumber": "+33199000000"}


class Recorded(list[Attempt]):
    """A sink that keeps attempts."""

    def record(self, event: Event) -> None:
        """Keep one."""
        if isinstance(event, Attempt):
            self.append(event)


class Dialer:
    """A dialer with an exporter, and perhaps a pretend organisation to call."""

    def __init__(self, url: str, organisation: Organisation, exporter: Exporter) -> None:
        self.url = url
        self.organisation = organisation
        self.exporter = exporter
        self.recorded = Recorded()
        exporter._sinks["test"] = self.recorded
        self.client = exporter.instrument(httpx.Client(base_url=url, trust_env=False))

    def call(self, path: str = CALLS, token: str = NOBODYS, **extension: Any) -> AgentAtSend:
        """Place a call; return what was recorded of its agent."""
        before = len(self.recorded)
        headers, extensions = {"Authorization": f"Bearer {token}"}, {"call_initiation": extension}
        self.client.post(path, json=NUMBER, headers=headers, extensions=extensions)
        eventually(lambda: len(self.recorded) > before)
        return self.recorded[before].agent

    def knows(self, agent_id: str) -> bool:
        """Return whether an agent's state is known now."""
        return self.exporter.agents.as_of(agent_id, self.exporter.now())[0].certainty is Certainty.KNOWN

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        until = self.exporter.now() + seconds
        eventually(lambda: self.exporter.now() > until)

    def metric(self, name: str, **labels: str) -> float | None:
        """Return a number of the exporter's."""
        return self.exporter.registry.get_sample_value(f"call_initiation_{name}", labels)


def eventually(condition: Callable[[], bool], within: float = PATIENCE) -> None:
    """Wait until another thread has done something."""
    deadline, pause = monotonic() + within, threading.Event()
    while not condition():
        assert monotonic() < deadline, "it never came"
        pause.wait(0.02)


@contextmanager
def dialing() -> Iterator[Dialer]:
    """Yield a dialer that calls a pretend organisation."""
    exporter = Exporter(settle=0.5)
    behaviour = replace(CALM, refusals={}, pace=0.001)
    organisation = Organisation(1, 20, started=exporter.now(), behaviour=behaviour)
    with ServerThread(Server(organisation, clock=exporter.now)) as server, exporter:
        made = Dialer(server.url, organisation, exporter)
        with made.client:
            yield made


@pytest.fixture
def dialer() -> Iterator[Dialer]:
    """Return a dialer that calls a pretend organisation."""
    with dialing() as made:
        yield made


@pytest.fixture
def silence() -> Iterator[str]:
    """Return the URL of a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


# -- following ----------------------------------------------------------------------------------------------------


def test_agents_that_are_named_are_followed(dialer: Dialer) -> None:
    """What was so before a call is what its record says, and the feed's health is on the metrics."""
    agents = dialer.organisation.agent_ids
    dialer.exporter.follow_agents(region=dialer.url, agent_ids=agents, **CREDENTIALS)
    eventually(lambda: dialer.metric("feed_up") == 1.0)
    assert all(map(dialer.knows, agents))
    dialer.wait(2 * BLUR)  # what comes right after a read might have been before it, and would cast doubt
    agent, truth = agents[0], word(dialer.organisation.state(agents[0]))
    said = dialer.call(f"{CALLS}/user/{agent}", user_token(agent))
    assert (truth, Certainty.KNOWN, AgentIdSource.PATH) == (said.label, said.state.certainty, said.id_source)
    eventually(lambda: dialer.exporter.agents.as_of(agent, dialer.exporter.now())[0].on_call == 1)
    assert 0.0 == dialer.metric("feed_clock_skew_seconds")
    assert dialer.metric("feed_events_total", topic="conversationsummary") == 1.0


def test_an_agent_is_the_same_in_whatever_case_its_id_is_written(dialer: Dialer) -> None:
    """Where it is named, told of by the dialer, in a call's extension and in a call's path."""
    agent, told_of = dialer.organisation.agent_ids[:2]
    dialer.exporter.follow_agents(region=dialer.url, agent_ids=[agent.upper()], **CREDENTIALS)
    dialer.exporter.agent_state(told_of.upper(), presence="BUSY")
    eventually(lambda: dialer.knows(agent))
    dialer.wait(2 * BLUR)
    said = [dialer.call(agent_id=agent.upper()), dialer.call(f"{CALLS}/user/{agent.upper()}", user_token(agent))]
    assert [(agent, Certainty.KNOWN)] * 2 == [(one.id, one.state.certainty) for one in said]
    assert StateLabel.BUSY is dialer.call(agent_id=told_of).label


def test_whoever_calls_is_followed_from_then_on(dialer: Dialer) -> None:
    """Of the first call, what is read afterwards can be told, and isn't vouched for."""
    agent = dialer.organisation.agent_ids[1]
    dialer.exporter.follow_agents(region=dialer.url, as_seen=True, **CREDENTIALS)
    first = dialer.call(agent_id=agent)
    assert (StateLabel.UNKNOWN, AgentIdSource.CALLER) == (first.label, first.id_source)
    assert first.state.certainty is not Certainty.KNOWN
    eventually(lambda: dialer.knows(agent))
    assert dialer.call(agent_id=agent).state.certainty is Certainty.KNOWN


def test_the_first_call_of_somebody_new_tells_what_is_read_in_time(dialer: Dialer) -> None:
    """Presences carry a time, so the one that was before the send is told, as stale."""
    dialer.exporter.follow_agents(region=dialer.url, as_seen=True, **CREDENTIALS)
    dialer.call(agent_id=dialer.organisation.agent_ids[1])
    agent = dialer.organisation.agent_ids[2]
    first = dialer.call(agent_id=agent)
    assert dialer.organisation.state(agent).presence is first.state.presence
    assert (StateSource.REST, Certainty.STALE) == (first.state.source, first.state.certainty)


def test_a_server_whose_clock_is_set_is_noticed_by_its_next_answer(dialer: Dialer) -> None:
    """Its stamps are brought to our time by the new difference, and all is read anew."""
    first, second = dialer.organisation.agent_ids[:2]
    dialer.exporter.follow_agents(region=dialer.url, as_seen=True, **CREDENTIALS)
    dialer.call(agent_id=first)
    eventually(lambda: dialer.knows(first))
    httpx.post(f"{dialer.url}/simulator/faults", json={"skew": 3600.0}, trust_env=False).raise_for_status()
    dialer.call(agent_id=second)
    eventually(lambda: dialer.knows(first) and dialer.knows(second))
    skew = dialer.metric("feed_clock_skew_seconds")
    assert skew is not None
    assert abs(skew - 3600.0) < BLUR


def test_the_user_of_a_calls_token_is_found_and_followed(dialer: Dialer) -> None:
    """By the call's own token, once."""
    agent = dialer.organisation.agent_ids[3]
    dialer.exporter.follow_agents(region=dialer.url, as_seen=True, **CREDENTIALS)
    dialer.call(token=user_token(dialer.organisation.agent_ids[4]))
    eventually(lambda: dialer.knows(dialer.organisation.agent_ids[4]))
    first = dialer.call(token=user_token(agent))
    assert (agent, AgentIdSource.TOKEN) == (first.id, first.id_source)
    eventually(lambda: dialer.knows(agent))
    second = dialer.call(token=user_token(agent))
    assert (AgentIdSource.TOKEN, Certainty.KNOWN) == (second.id_source, second.state.certainty)


def test_a_token_without_a_user_is_nobodys(dialer: Dialer, caplog: pytest.LogCaptureFixture) -> None:
    """And no word of it is logged or shown."""
    caplog.set_level(logging.DEBUG)
    dialer.exporter.follow_agents(region=dialer.url, as_seen=True, **CREDENTIALS)
    assert (None, AgentIdSource.NONE) == (dialer.call().id, dialer.call().id_source)
    shown = caplog.text + generate_latest(dialer.exporter.registry).decode()
    assert "a call's token names no user" in caplog.text
    assert not any(secret in shown for secret in (NOBODYS, CLIENT_SECRET))


def test_tokens_are_not_shown_where_that_is_not_wanted(dialer: Dialer) -> None:
    """Then nobody knows who calls."""
    agent = dialer.organisation.agent_ids[3]
    dialer.exporter.follow_agents(region=dialer.url, as_seen=True, resolve_token_users=False, **CREDENTIALS)
    assert dialer.call(token=user_token(agent)).id is None


def test_a_dialer_that_traces_all_requests_does_not_trace_ours(dialer: Dialer) -> None:
    """They are none of its own, and a channel's address is a secret."""
    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    HTTPXClientInstrumentor().instrument(tracer_provider=provider)
    try:
        agent = dialer.organisation.agent_ids[0]
        dialer.exporter.follow_agents(region=dialer.url, agent_ids=[agent], **CREDENTIALS)
        eventually(lambda: dialer.knows(agent))
        httpx.get(dialer.url, trust_env=False)
    finally:
        HTTPXClientInstrumentor().uninstrument()
    assert ["GET"] == [span.name for span in spans.get_finished_spans()]


# -- who vouches for the API ------------------------------------------------------------------------------------------


def test_an_authority_of_ones_own_vouches_for_the_api_and_for_sockets(dialer: Dialer, tmp_path: Path) -> None:
    """In place of the usual ones for the API, which gets our secret, and besides them for sockets."""
    own, file, tls = trustme.CA(), tmp_path / "own.pem", ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    file.write_bytes("# Autorité privée\n".encode() + own.cert_pem.bytes())
    own.issue_cert("localhost").configure_cert(tls)
    agent = dialer.organisation.agent_ids[0]

    async def told() -> tuple[list[object], list[object]]:
        async with behind_tls(dialer.url, tls) as url:
            dialer.exporter.follow_agents(region=url, agent_ids=[agent], ca=file, **CREDENTIALS)
            await until(lambda: dialer.exporter.agents.known(agent))  # by reads: the pretend socket's URL says ws://
            access = Access.find(url, CLIENT_ID, CLIENT_SECRET, file)
            for context in access.contexts():
                async with connector(context) as connect, httpx.AsyncClient(trust_env=False, verify=context) as client:
                    tokens = Tokens(access.credentials, access.login_url, client)
                    channel = await GenesysApi(client, tokens, access.api_url, Budget()).create_channel()
                    await (await connect(channel.connect_uri.replace("ws:", "wss:"))).close()
            await asyncio.to_thread(dialer.exporter.close)
            return [context.get_ca_certs() for context in access.contexts()], usual.get_ca_certs()

    usual = httpx.create_ssl_context(trust_env=False)
    (api, sockets), others = asyncio.run(told())
    assert 1 == len(api)
    assert len(others) + 1 == len(sockets)
    assert all(one in sockets for one in (*others, *api))


# -- nothing waits ------------------------------------------------------------------------------------------------


def test_an_api_that_says_nothing_holds_nobody_up(silence: str, dialer: Dialer) -> None:
    """Not the start, not a call, not the end."""
    dialer.exporter.follow_agents(region=silence, agent_ids=["a"], **CREDENTIALS)
    assert dialer.call(agent_id="a").label is StateLabel.UNKNOWN
    assert dialer.metric("feed_up") == 0.0
    dialer.exporter.close()
    assert not dialer.exporter._feed._thread.is_alive()  # type: ignore[union-attr]


def test_an_api_that_is_not_there_is_tried_again(dialer: Dialer) -> None:
    """And the metrics say that the feed is down."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    dialer.exporter.follow_agents(region=url, agent_ids=["a"], queue_ids=["q"], group_ids=["g"], **CREDENTIALS)
    eventually(lambda: dialer.metric("feed_up") == 0.0)
    assert dialer.metric("internal_errors_total", stage="feed") is None


@pytest.mark.usefixtures("_broken_log")
def test_trouble_that_cannot_be_told_of_ends_no_feed(dialer: Dialer) -> None:
    """A filter of the dialer's that fails: it is counted, and the feed goes on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    dialer.exporter.follow_agents(region=url, agent_ids=["a"], **CREDENTIALS)
    eventually(lambda: (dialer.metric("internal_errors_total", stage="log") or 0.0) >= 1.0)
    dialer.exporter.flush()
    assert dialer.exporter._feed._thread.is_alive()  # type: ignore[union-attr]


def test_members_are_followed(dialer: Dialer) -> None:
    """A queue that isn't there fails, and is asked for again; it holds up nobody else."""
    agent = dialer.organisation.agent_ids[0]
    dialer.exporter.follow_agents(region=dialer.url, agent_ids=[agent], queue_ids=["q"], **CREDENTIALS)
    eventually(lambda: dialer.knows(agent))


def test_a_feed_ends_with_its_exporter(dialer: Dialer) -> None:
    """And leaves no thread behind."""
    dialer.exporter.follow_agents(region=dialer.url, agent_ids=dialer.organisation.agent_ids, **CREDENTIALS)
    eventually(lambda: dialer.metric("feed_up") == 1.0)
    dialer.exporter.close()
    assert "call-initiation-feed" not in {thread.name for thread in threading.enumerate()}


def test_a_feed_that_has_not_begun_ends_at_once(dialer: Dialer) -> None:
    """As in a forked child that places no call."""
    dialer.exporter.follow_agents(region=dialer.url, as_seen=True, **CREDENTIALS)
    feed = dialer.exporter._feed
    assert feed is not None
    another = feed.anew()
    another.stop()
    another.join(PATIENCE)
    assert (True, False) == (feed._thread is not None, another._thread is not None)


def test_a_feed_that_cannot_begin_is_begun_again(dialer: Dialer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as where no file may be opened at that moment; until then the metrics say that it is down."""
    agent = dialer.organisation.agent_ids[0]
    with monkeypatch.context() as patch:
        patch.setattr(certifi, "where", lambda: "/nowhere/authority.pem")
        dialer.exporter.follow_agents(region=dialer.url, agent_ids=[agent], **CREDENTIALS)
        eventually(lambda: dialer.metric("feed_up") == 0.0)
    eventually(lambda: dialer.knows(agent))
    assert (dialer.metric("internal_errors_total", stage="feed") or 0.0) > 0


def forked() -> int:
    """Fork while a feed runs; return 0 where parent and child know what each should."""
    with dialing() as dialer:
        agent = dialer.organisation.agent_ids[0]
        dialer.exporter.follow_agents(region=dialer.url, agent_ids=[agent], **CREDENTIALS)
        eventually(lambda: dialer.knows(agent))
        if child := os.fork():
            _, status = os.waitpid(child, 0)
            return os.waitstatus_to_exitcode(status) or int(not dialer.knows(agent))
        try:
            assert not dialer.knows(agent)
            assert dialer.exporter._feed._thread is None  # type: ignore[union-attr]
            dialer.client = dialer.exporter.instrument(httpx.Client(base_url=dialer.url, trust_env=False))
            dialer.call(agent_id=agent)
            eventually(lambda: dialer.knows(agent))
            os._exit(0)
        finally:
            os._exit(1)


def test_a_forked_child_has_a_feed_of_its_own_once_it_calls() -> None:
    """Nothing is known there at first, and no channel is made for a child that places no call."""
    script = "import sys; sys.path.insert(0, sys.argv[1]); import test_feed; sys.exit(test_feed.forked())"
    here = Path(__file__).parent
    done = subprocess.run([sys.executable, "-c", script, here], timeout=100, check=False)  # noqa: S603 - ourselves
    assert 0 == done.returncode


# -- settings -----------------------------------------------------------------------------------------------------


def test_settings_that_cannot_be_used_are_said_at_once(dialer: Dialer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each in a sentence that names the key."""
    for name in ("GENESYS_CLIENT_ID", "GENESYS_CLIENT_SECRET"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(f"{name}_FILE", raising=False)
    with pytest.raises(SettingsError, match="GENESYS_CLIENT_ID: found nothing"):
        dialer.exporter.follow_agents(region="mypurecloud.ie", as_seen=True)
    with pytest.raises(SettingsError, match="region: found 'nowhere'"):
        dialer.exporter.follow_agents(region="nowhere", as_seen=True, **CREDENTIALS)
    with pytest.raises(SettingsError, match="found nobody"):
        dialer.exporter.follow_agents(region="mypurecloud.ie", **CREDENTIALS)
    dialer.exporter.follow_agents(region=dialer.url, as_seen=True, **CREDENTIALS)
    with pytest.raises(SettingsError, match="found a second call"):
        dialer.exporter.follow_agents(region=dialer.url, as_seen=True, **CREDENTIALS)
    dialer.exporter.close()
    with pytest.raises(SettingsError, match="found a closed exporter"):
        dialer.exporter.follow_agents(region=dialer.url, as_seen=True, **CREDENTIALS)


@pytest.mark.parametrize("name", ["agent_ids", "queue_ids", "group_ids"])
def test_one_id_is_not_taken_by_the_letter(dialer: Dialer, name: str) -> None:
    """A text is a sequence of texts, too."""
    ids: Any = {name: "a1b2"}
    with pytest.raises(SettingsError, match=f"{name}: found one text, expected a list of ids"):
        dialer.exporter.follow_agents(region=dialer.url, **ids, **CREDENTIALS)


def test_without_aiohttp_it_is_said_what_to_install(dialer: Dialer, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes with an extra."""
    monkeypatch.setattr("call_initiation.api.sockets.find_spec", lambda _: None)
    with pytest.raises(SettingsError, match=r"no aiohttp, expected pip install 'call-initiation-exporter\[service\]'"):
        dialer.exporter.follow_agents(region=dialer.url, as_seen=True, **CREDENTIALS)


# -- the door -----------------------------------------------------------------------------------------------------


def test_an_agent_is_seen_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until so many are known that it begins anew; who was dropped is no longer known, and is seen again."""
    monkeypatch.setattr("call_initiation.feed.feed._KNOWN", 2)
    door = Door()
    for agent in ("a", "a", "b", "c", "a", "a"):
        door.seen(agent)
    assert ([], ["c", "a"]) == asyncio.run(door.knocked())
    door.seen("b")
    assert ([], ["b"]) == asyncio.run(door.knocked())
    door.seen("d")  # nobody listens any more


def test_all_who_are_seen_while_nobody_listens_are_told_of_in_the_end() -> None:
    """However many they are: whoever is known isn't told of again."""
    door, agents = Door(), [f"agent-{number}" for number in range(5_000)]
    for agent in agents:
        door.seen(agent)
    assert ([], agents) == asyncio.run(door.knocked())


# -- sockets ------------------------------------------------------------------------------------------------------


def test_a_socket_gives_text_and_bytes_and_ends_with_a_frame_that_is_too_long() -> None:
    """Beyond ten mebibytes nobody reads on."""

    async def say(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str(await socket.receive_str())
        await socket.send_bytes(b"bytes")
        with suppress(ConnectionError):
            await socket.send_str("x" * (LARGEST_MESSAGE + 1))
        return socket

    async def told() -> list[str | bytes | None]:
        application = web.Application()
        application.router.add_get("/", say)
        async with TestServer(application) as server, connector(httpx.create_ssl_context()) as connect:
            opened = await connect(str(server.make_url("/")))
            await opened.send("text")
            heard = [await opened.receive() for _ in range(3)]
            await opened.close()
            return heard

    assert ["text", b"bytes", None] == asyncio.run(told())


@pytest.mark.parametrize(
    ("url", "failure"),
    [("ws://127.0.0.1:1/canary-secret", ConnectionError), ("nonsense", ConnectionRefusedError)],
)
def test_a_socket_that_cannot_be_opened_keeps_its_url_to_itself(url: str, failure: type[Exception]) -> None:
    """Who knows it can listen."""
    caught = unopened(url)
    assert failure is type(caught)
    assert "canary" not in str(caught)
    assert (None, True) == (caught.__cause__, caught.__context__ is None)


@pytest.mark.parametrize(("status", "failure"), [(404, ConnectionRefusedError), (503, ConnectionError)])
def test_a_socket_that_is_refused_says_whether_it_is_any_use_to_try_again(
    status: int, failure: type[Exception]
) -> None:
    """A channel may be no more, or its host may have trouble."""

    async def refuse(_: web.Request) -> web.Response:
        return web.Response(status=status)

    async def told() -> type[Exception]:
        application = web.Application()
        application.router.add_get("/", refuse)
        async with TestServer(application) as server, connector(httpx.create_ssl_context()) as connect:
            with pytest.raises(ConnectionError) as caught:
                await connect(str(server.make_url("/")))
            return caught.type

    assert failure is asyncio.run(told())


def test_a_socket_that_is_not_opened_in_time_says_so(silence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log has to name a reason."""
    monkeypatch.setattr("call_initiation.api.sockets._OPENING", 0.05)
    assert "no socket: TimeoutError" == str(unopened(silence))


def unopened(url: str) -> Exception:
    """Return why no socket can be opened."""

    async def told() -> None:
        async with connector(httpx.create_ssl_context()) as connect:
            await connect(url)

    with pytest.raises(ConnectionError) as caught:
        asyncio.run(told())
    return caught.value
