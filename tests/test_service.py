"""What the composition root promises: all parts run together, what is tagged is true, and the end drains everything."""

import asyncio
import os
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from time import time
from urllib.parse import urlsplit

import httpx
import pytest
import trustme

from call_initiation.errors import ListenError, SettingsError
from call_initiation.program import commands, service
from call_initiation.program.service import (
    Demonstration,
    demonstration,
    ended_by_signals,
    is_over,
    serving,
    simulation,
    standings,
)
from call_initiation.program.settings import Address, Settings, load
from call_initiation.simulator.org import CLIENT_ID, CLIENT_SECRET, Organisation, user_token
from call_initiation.simulator.server import Server, ServerThread
from collector import Collector, attributes
from servers import behind_tls

PATIENCE = 30.0


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take what names a collector from the environment."""
    for key in [key for key in os.environ if key.startswith("OTEL_")]:
        monkeypatch.delenv(key)


@pytest.fixture
def settings() -> Settings:
    """Return settings that listen on a free port."""
    return load(flags={"metrics_listen": "127.0.0.1:0"})


@pytest.fixture
def taken() -> Iterator[int]:
    """Yield a port that is taken."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


async def until(is_so: Callable[[], bool]) -> None:
    """Let the loop run until something is so."""
    async with asyncio.timeout(PATIENCE):
        while not is_so():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.01)


async def demonstrated(settings: Settings, calls: int = 0) -> Demonstration:
    """Run a demonstration until so many calls were judged, and return it after its end."""
    async with demonstration(settings, seed=1, rate=200) as running:
        await until(lambda: len(running.organisation.ledger) >= calls)
    return running


def test_the_end_drains_everything(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every call that was judged is recorded, given time; nothing is pending, nothing dropped."""
    monkeypatch.setattr(service, "_DRAIN", PATIENCE)
    ended = asyncio.run(demonstrated(settings, calls=50))
    for stage, ledger in ended.exporter.ledgers().items():
        assert (stage, ledger.recorded, 0, {}) == (stage, ledger.exported, ledger.pending, ledger.dropped)
    assert len(ended.organisation.ledger) == ended.exporter.ledgers()["attempts"].exported


def test_after_the_end_nothing_listens(settings: Settings) -> None:
    """Neither the page nor the organisation."""
    ended = asyncio.run(demonstrated(settings))
    for url in (ended.url, ended.organisation_url):
        with pytest.raises(httpx.ConnectError):
            httpx.get(url, trust_env=False)


def test_while_it_runs_the_page_and_the_organisation_answer(settings: Settings) -> None:
    """Each at its own address."""

    async def statuses() -> set[int]:
        async with demonstration(settings, seed=1, rate=1) as running, httpx.AsyncClient(trust_env=False) as client:
            urls = (running.url, f"{running.url}/metrics", f"{running.url}/-/ready", running.organisation_url)
            return {(await client.get(url)).status_code for url in urls}

    assert {200} == asyncio.run(statuses())


def test_a_chosen_port_that_is_taken_is_an_error(taken: int) -> None:
    """The operator meant that one."""
    with pytest.raises(ListenError, match=rf"127\.0\.0\.1:{taken}"):
        asyncio.run(demonstrated(load(flags={"metrics_listen": f"127.0.0.1:{taken}"})))


def hold(holder: socket.socket, port: int) -> None:
    """Take a port, unless somebody else holds it; one that was held until a moment ago can be had as well."""
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    with suppress(OSError):
        holder.bind(("127.0.0.1", port))
        holder.listen()


def test_a_default_port_that_is_taken_gives_way_to_the_next_free_one() -> None:
    """And the operator is told."""
    with socket.socket() as holder:
        hold(holder, 9464)
        ended = asyncio.run(demonstrated(load()))
    port = urlsplit(ended.url).port or 0
    assert 9464 < port < 9484
    assert (f"Port 9464 is taken, so the metrics are on {port}.",) == ended.notices


def test_where_no_port_is_free_the_first_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the one that the operator knows."""
    monkeypatch.setattr(service, "_PORTS", 2)
    with socket.socket() as one, socket.socket() as other:
        for holder, port in ((one, 9464), (other, 9465)):
            hold(holder, port)
        with pytest.raises(ListenError, match="9464"):
            asyncio.run(demonstrated(load()))


def test_where_it_exports_to_is_said_without_credentials(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """For each signal that is on; without a collector nothing is said."""
    assert () == asyncio.run(demonstrated(settings)).notices
    with Collector() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://user:canary@127.0.0.1:{collector.port}")
        monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
        ended = asyncio.run(demonstrated(settings))
    assert (
        f"OTLP: traces go to 127.0.0.1:{collector.port} too.",
        f"OTLP: logs go to 127.0.0.1:{collector.port} too.",
    ) == ended.notices


def test_a_preset_is_said_to_be_where_it_exports_to(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it decides where, or the operator does; events carry its type."""
    monkeypatch.setenv("NEW_RELIC_LICENSE_KEY", "canary-0000-canary")
    with Collector() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
        ended = asyncio.run(demonstrated(settings.model_copy(update={"preset": "newrelic-eu"}), calls=50))
        collector.wait(lambda: bool(collector.records()))
        sent = attributes(collector.records()[0].attributes)
    assert f"OTLP: traces go to 127.0.0.1:{collector.port} too." == ended.notices[0]
    assert "CallInitiationError" == sent["newrelic.event.type"]
    assert {"canary-0000-canary"} == {headers["api-key"] for headers in collector.headers}


def test_an_organisation_alone_lives_on_and_judges(taken: int) -> None:
    """Its agents change though nobody calls; a call is judged; a port that is taken is an error."""

    async def status() -> int:
        async with simulation(Address("127.0.0.1", 0), seed=1, agents=50) as server:
            began = server.organisation.now
            await until(lambda: server.organisation.now > began)
            token = {"Authorization": f"Bearer {user_token(server.organisation.agent_ids[0])}"}
            async with httpx.AsyncClient(base_url=server.url, trust_env=False, headers=token) as client:
                return (await client.post("/api/v2/conversations/calls", json={"phoneNumber": 1})).status_code

    async def refused() -> None:
        async with simulation(Address("127.0.0.1", taken), seed=1, agents=1):
            """Never gets here."""

    assert 400 == asyncio.run(status())
    with pytest.raises(ListenError):
        asyncio.run(refused())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_it_and_do_nothing_else(number: signal.Signals) -> None:
    """Any number of times."""

    async def ended() -> tuple[bool, bool]:
        with ended_by_signals() as end:
            before = await is_over(end, 0.0)
            for _ in range(3):
                os.kill(os.getpid(), number)
            return before, await is_over(end, PATIENCE)

    assert (False, True) == asyncio.run(ended())


@pytest.mark.parametrize("suffix", ["", "_FILE"])
def test_the_gateway_follows_agents_through_a_store(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With credentials from wherever they are found; one that can't be a store is said to be so, and isn't quoted."""
    for name in ("GENESYS_CLIENT_ID", "GENESYS_CLIENT_SECRET"):
        (tmp_path / name).write_text("made-up")
        monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv(name + suffix, str(tmp_path / name) if suffix else "made-up")
    flags = {"upstream": "http://127.0.0.1:9", "listen": "127.0.0.1:0", "metrics_listen": "127.0.0.1:0"}
    settings = load(None, {**flags, "store": "memcached://canary@127.0.0.1"})

    async def serve() -> None:
        async with serving(settings):
            pytest.fail("it began")

    with pytest.raises(SettingsError, match=r"^store: ") as caught:
        asyncio.run(serve())
    assert "canary" not in str(caught.value)


def test_who_vouches_for_the_upstream_does_so_for_what_follows_agents_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it serves, and for the command that reads agents once; not for another region's hosts."""
    own, file, tls = trustme.CA(), tmp_path / "own.pem", ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    own.cert_pem.write_to_path(str(file))
    own.issue_cert("localhost").configure_cert(tls)
    monkeypatch.setenv("GENESYS_CLIENT_ID", CLIENT_ID)
    monkeypatch.setenv("GENESYS_CLIENT_SECRET", CLIENT_SECRET)
    organisation = Organisation(1, 2, started=time())
    named = [organisation.agent_ids[0], organisation.agent_ids[1].upper()]

    async def serve(pretended: str) -> int:
        async with behind_tls(pretended, tls) as url:
            flags = {"upstream": url, "upstream_ca": file, "listen": "127.0.0.1:0", "metrics_listen": "127.0.0.1:0"}
            chosen = load(flags=flags)
            async with serving(chosen) as running, httpx.AsyncClient(trust_env=False) as client:
                while "call_initiation_feed_up 1" not in (await client.get(f"{running.metrics_url}/metrics")).text:
                    pass
            assert commands._access("mypurecloud.ie", chosen).ca is None
            return sum(one.state.presence is not None for one in await standings(commands._access(None, chosen), named))

    with ServerThread(Server(organisation)) as server:
        assert 2 == asyncio.run(serve(server.url))


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ({"CALL_INITIATION_STORE": "redis://127.0.0.1:1"}, "GENESYS_CLIENT_ID"),
        ({"GENESYS_CLIENT_SECRET": "made-up"}, "GENESYS_CLIENT_ID"),
        ({"GENESYS_CLIENT_SECRET_FILE": "made-up"}, "GENESYS_CLIENT_ID"),
        ({"GENESYS_CLIENT_ID": "made-up"}, "GENESYS_CLIENT_SECRET"),
    ],
)
def test_a_part_of_what_following_takes_is_a_mistake(
    given: dict[str, str], missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else nobody would be followed, and no word said: who set it means to follow."""
    for name in ("GENESYS_CLIENT_ID", "GENESYS_CLIENT_SECRET"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(f"{name}_FILE", raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    flags = {"upstream": "http://127.0.0.1:9", "listen": "127.0.0.1:0", "metrics_listen": "127.0.0.1:0"}

    async def serve() -> None:
        async with serving(load(flags=flags)):
            pytest.fail("it began")

    with pytest.raises(SettingsError, match=rf"^{missing}: found nothing, expected a value"):
        asyncio.run(serve())
