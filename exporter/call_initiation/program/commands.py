"""The commands: what each takes, and what it says. The work is `service`'s."""

import asyncio
import json
import os
import sys
import webbrowser
from collections.abc import Callable
from contextlib import closing
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from threading import Thread
from time import monotonic
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import typer
from rich.console import Console
from rich.live import Live

from call_initiation import __version__
from call_initiation.agents import readiness
from call_initiation.authority import authority
from call_initiation.errors import SettingsError
from call_initiation.feed.access import Access
from call_initiation.feed.follow import Following
from call_initiation.program import inquiries, logs, roster, service, settings, terminal
from call_initiation.program.service import Demonstration
from call_initiation.program.settings import Address, Settings
from call_initiation.program.sidecar import Sidecar
from call_initiation.program.terminal import Scene
from call_initiation.simulator.org import user_token
from call_initiation.simulator.server import Server

_REFRESHES: Final = 4  # a second
_LINE_EVERY: Final = 5.0  # seconds
_HEALTH_SECONDS: Final = 3.0

app = typer.Typer(
    name="call-initiation-exporter",
    help="Says why Genesys Cloud refused an outbound call: the error codes, and the state that the agent was in when "
    "the call was sent.\n\nStart with `demo`: it needs nothing else.",
    context_settings={"help_option_names": ["-h", "--help"]},
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _duration(text: str) -> float:
    """Read a length of time; typer's own errors would take a screen to say what is a sentence."""
    try:
        seconds = settings.duration(text)
    except ValueError:
        seconds = 0.0
    if not seconds:
        raise SettingsError("--for", repr(text), "a duration above 0, like 60s, 5m, 1h, or plain seconds")
    return seconds


def _address(text: str) -> Address:
    try:
        return settings.address(text)
    except ValueError:
        raise SettingsError("--listen", repr(text), "an address to listen on, like 127.0.0.1:8900") from None


def _show_version(is_asked: bool) -> None:  # noqa: FBT001 - typer calls it so
    if is_asked:
        typer.echo(f"call-initiation-exporter {__version__}")
        raise typer.Exit


Config = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="Read settings from a TOML file.")]
WebConfig = Annotated[
    Path | None, typer.Option(metavar="FILE", help="TLS and passwords for the metrics, in Prometheus's own format.")
]
LogLevel = Annotated[str | None, typer.Option(metavar="LEVEL", help="debug, info, warning or error.")]
LogFormat = Annotated[str | None, typer.Option(metavar="FORMAT", help="text or json.")]
Settle = Annotated[
    str | None, typer.Option(metavar="DURATION", help="How long a call waits for news of its agent.  [default: 2s]")
]
Preset = Annotated[
    str | None, typer.Option(metavar="NAME", help="Send it to newrelic-us, newrelic-eu or newrelic-fedramp.")
]
Seed = Annotated[int, typer.Option(metavar="N", help="The same seed makes the same agents and the same calls.")]


@app.callback()
def program(
    *,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Hold what is common to all commands."""


@app.command()
def demo(  # noqa: PLR0913 - one parameter for each flag
    *,
    lasts: Annotated[
        float | None,
        typer.Option(
            "--for", parser=_duration, metavar="DURATION", help="End after 60s, 5m, 1h or so.  [default: by Ctrl-C]"
        ),
    ] = None,
    rate: Annotated[float, typer.Option(min=0.1, max=200, metavar="N", help="Calls a second, on average.")] = 20.0,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, metavar="N", help="Of page and /metrics.  [default: 9464, or the next free]"),
    ] = None,
    web_config: WebConfig = None,
    seed: Seed = 1,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")] = True,
    settle: Settle = None,
    preset: Preset = None,
    config: Config = None,
    log_level: LogLevel = None,
    log_format: LogFormat = None,
) -> None:
    """Show it all on loopback, with pretend agents.

    A dialer places calls on behalf of 500 pretend agents whose states change all the time; a feed follows them, as it
    would follow real ones. Some calls are refused: the table says with which code, and in what state the agent was when
    the call was sent. Nothing real is called. With OTEL_EXPORTER_OTLP_ENDPOINT set, spans, metrics and events go there
    too.
    """
    listen = None if port is None else f"127.0.0.1:{port}"
    flags = {
        "metrics_listen": listen,
        "web_config": web_config,
        "settle": settle,
        "preset": preset,
        "log_level": log_level,
        "log_format": log_format,
    }
    chosen = settings.load(config, flags)
    logs.set_up(chosen.log_level, chosen.log_format)
    asyncio.run(_demo(chosen, seed=seed, rate=rate, lasts=lasts, browser=browser))


async def _demo(chosen: Settings, *, seed: int, rate: float, lasts: float | None, browser: bool) -> None:
    console = terminal.console()
    with service.ended_by_signals() as end:
        async with service.demonstration(chosen, seed=seed, rate=rate) as running:
            if browser and _has_browser(console):
                Thread(target=webbrowser.open, args=(running.url,), daemon=True).start()
            scene = Scene(running.exporter.aggregate.snapshot, _stopwatch(), lasts, _links(running))
            if lasts is not None:  # counted from later on than what is shown, which must not be less at the end
                asyncio.get_running_loop().call_later(lasts, end.set)
            await _watch(console, scene, end)
            elapsed = scene.elapsed()
        console.print(terminal.summary(scene.snapshot(), elapsed), soft_wrap=True)


async def _watch(console: Console, scene: Scene, end: asyncio.Event) -> None:
    """Show how things stand until the end."""
    if console.is_terminal and not console.is_dumb_terminal:
        with Live(scene, console=console, refresh_per_second=_REFRESHES, transient=True):
            await end.wait()
        return
    for link in scene.links:
        console.print(link, soft_wrap=True, markup=False)
    while not await service.is_over(end, _LINE_EVERY):
        console.print(terminal.line(scene.snapshot(), scene.elapsed()), soft_wrap=True, markup=False)


def _stopwatch() -> Callable[[], float]:
    began = monotonic()
    return lambda: monotonic() - began


def _links(running: Demonstration) -> tuple[str, ...]:
    return (
        f"page          {running.url}/",
        f"metrics       {running.url}/metrics",
        f"organisation  {running.organisation_url}/",
        *running.notices,
    )


@app.command()
def simulate(  # noqa: PLR0913 - one parameter for each flag
    *,
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where to listen.")] = "127.0.0.1:8900",
    seed: Seed = 1,
    agents: Annotated[int, typer.Option(min=1, max=100_000, metavar="N", help="How many agents it has.")] = 50,
    config: Config = None,
    log_level: LogLevel = None,
    log_format: LogFormat = None,
) -> None:
    """Run the pretend Genesys Cloud organisation alone.

    Try a dialer on it. It takes the requests that start a call, judges each by its agent's state at that moment, and
    keeps a ledger of what truly happened. Nothing rings. It runs till Ctrl-C.
    """
    chosen = settings.load(config, {"log_level": log_level, "log_format": log_format})
    logs.set_up(chosen.log_level, chosen.log_format)
    asyncio.run(_simulate(_address(listen), seed=seed, agents=agents))


async def _simulate(address: Address, *, seed: int, agents: int) -> None:
    with service.ended_by_signals() as end:
        async with service.simulation(address, seed=seed, agents=agents) as server:
            _announce(_about(server))
            await end.wait()


def _about(server: Server) -> str:
    organisation = server.organisation
    return f"""\
A pretend Genesys Cloud organisation of {len(organisation.agent_ids)} agents (seed {organisation.seed}) on {server.url}
Nothing here is real, and nothing rings. Ctrl-C ends it.

Start a call:
  curl -i {server.url}/api/v2/conversations/calls -H 'Content-Type: application/json' \\
    -H 'Authorization: Bearer {user_token(organisation.agent_ids[0])}' -d '{{"phoneNumber": "+33199000000"}}'

What else it takes     {server.url}/
What truly happened    {server.url}/ledger"""


@app.command()
def serve(  # noqa: PLR0913 - one parameter for each flag
    *,
    upstream: Annotated[
        str | None, typer.Option(metavar="REGION|URL", help="Where calls go, like https://api.mypurecloud.ie.")
    ] = None,
    listen: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Where dialers connect.  [default: 127.0.0.1:8080]")
    ] = None,
    metrics_listen: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="The page and /metrics.  [default: 127.0.0.1:9464]")
    ] = None,
    web_config: WebConfig = None,
    forward_all: Annotated[
        bool | None,
        typer.Option("--forward-all", help="Also forward what starts no call: the rest of the API, and the login."),
    ] = None,
    prevent_repeats: Annotated[
        bool | None,
        typer.Option("--prevent-repeats", help="For SDKs that place a refused call again by themselves."),
    ] = None,
    deadline: Annotated[
        str | None, typer.Option(metavar="DURATION", help="How long a call may take in all.  [default: 30s]")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(metavar="FILE", help="Speak TLS to dialers.")] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="FILE", help="Its key, where that is another file.")] = None,
    client_ca: Annotated[Path | None, typer.Option(metavar="FILE", help="Ask dialers for certificates.")] = None,
    upstream_ca: Annotated[Path | None, typer.Option(metavar="FILE", help="Who vouches for the API.")] = None,
    settle: Settle = None,
    preset: Preset = None,
    journal: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep there what waits for a collector, and calls under way.")
    ] = None,
    journal_size: Annotated[
        str | None, typer.Option(metavar="SIZE", help="How much may wait there.  [default: 64MiB]")
    ] = None,
    config: Config = None,
    log_level: LogLevel = None,
    log_format: LogFormat = None,
) -> None:
    """Forward a dialer's calls, and observe them.

    A gateway beside a dialer in any language: point the dialer, or the gateway setting of its Genesys SDK, at it. Each
    call is sent once and always answered. On SIGTERM it finishes what is under way.
    """
    flags = {
        "upstream": upstream,
        "listen": listen,
        "metrics_listen": metrics_listen,
        "web_config": web_config,
        "forward_all": forward_all,
        "prevent_repeats": prevent_repeats,
        "deadline": deadline,
        "tls_cert": tls_cert,
        "tls_key": tls_key,
        "client_ca": client_ca,
        "upstream_ca": upstream_ca,
        "settle": settle,
        "preset": preset,
        "journal": journal,
        "journal_size": journal_size,
        "log_level": log_level,
        "log_format": log_format,
    }
    chosen = settings.load(config, flags)
    logs.set_up(chosen.log_level, chosen.log_format)
    asyncio.run(_serve(chosen))


async def _serve(chosen: Settings) -> None:
    with service.ended_by_signals() as end:
        async with service.serving(chosen) as running:
            _announce(_routes(running))
            await end.wait()


def _announce(text: str) -> None:
    """Print what a program says as it starts; it serves all the same where nobody reads it.

    What is left to write would fail once more at the end, and change the exit status: it goes to the null device
    (https://docs.python.org/3/library/signal.html#note-on-sigpipe).
    """
    try:
        typer.echo(text)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _routes(running: Sidecar) -> str:
    lines = (f"gateway       {running.url} → {running.upstream}", f"metrics       {running.metrics_url}/metrics")
    return "\n".join([*lines, *running.notices])


_AGENTS: Final = f"""\
Tell whether agents can place a call now.

Made for pipelines: with --ready it exits with 1 unless all of them can. It reads each agent once by the API, and
changes nothing. The OAuth client's id and secret are in GENESYS_CLIENT_ID and GENESYS_CLIENT_SECRET, or in files that
GENESYS_CLIENT_ID_FILE and GENESYS_CLIENT_SECRET_FILE name.

\b
An agent is ready who
{readiness.TOLD}
"""


@app.command(help=_AGENTS)
def agents(
    agent_ids: Annotated[list[str], typer.Argument(metavar="AGENT_ID", help="Their user ids.", show_default=False)],
    *,
    ready: Annotated[bool, typer.Option("--ready", help="Exit with 1 unless all are ready.")] = False,
    region: Annotated[
        str | None,
        typer.Option(metavar="REGION|URL", help="Where they are, like mypurecloud.ie.  [default: the upstream's]"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    config: Config = None,
) -> None:
    """Say how agents stand; the help is `_AGENTS`."""
    chosen = settings.load(config)
    Following(tuple(agent_ids))  # so that what is no id is told before anything is sent
    raise typer.Exit(asyncio.run(_agents(_access(region, chosen), agent_ids, ready=ready, as_json=as_json)))


async def _agents(access: Access, agent_ids: list[str], *, ready: bool, as_json: bool) -> int:
    """Show how agents stand; return the exit status."""
    standings = await service.standings(access, agent_ids)
    if as_json:
        typer.echo(json.dumps(roster.document(standings), indent=2))
    else:
        console = terminal.console(is_wide=True)
        terminal.show(roster.table(standings, console.width), console)
    return int(ready and not all(one.is_ready for one in standings))


def _access(region: str | None, chosen: Settings) -> Access:
    """Return how to come to the API; a URL that isn't fit may hold a password, and isn't shown."""
    named = region or chosen.upstream
    try:
        url = settings.region(named) if named else None
    except ValueError:
        url = None
    if url is None:
        found = "nothing" if not named else "a URL that isn't fit" if "//" in named or "@" in named else repr(named)
        raise SettingsError("--region", found, "a region like mypurecloud.ie, or its API's https URL")
    secret = chosen.genesys_client_secret
    # Who vouches for the upstream says nothing of another region's hosts.
    ca = chosen.upstream_ca if region is None else None
    return Access.find(url, chosen.genesys_client_id, None if secret is None else secret.get_secret_value(), ca)


app.command()(inquiries.check)
app.command()(inquiries.explain)


@app.command()
def health(
    *,
    url: Annotated[
        str | None, typer.Option(metavar="URL", help="Where the metrics are.  [default: where metrics_listen says]")
    ] = None,
    config: Config = None,
) -> None:
    """Tell whether an exporter runs: exit with 0 or 1.

    Made for a container's HEALTHCHECK: it needs no shell and no other program, and no password either: an exporter that
    asks for one runs. Of an https URL, SSL_CERT_FILE names who vouches for it.
    """
    url = url or _metrics_url(settings.load(config).metrics_listen)
    if complaint := _complaint(url):
        typer.echo(f"{url} is not healthy: {complaint}", err=True)
        raise typer.Exit(1)


def _metrics_url(listen: Address) -> str:
    """Return where the metrics are on this machine; an address that means all of its own reaches it as well."""
    return f"http://{authority(*listen)}"


def _complaint(url: str) -> str:
    """Return what is wrong; an empty text for nothing."""
    parts = urlsplit(url)
    makers: dict[str, Any] = {"http": HTTPConnection, "https": HTTPSConnection}
    try:
        with closing(makers[parts.scheme](parts.hostname or "", parts.port, timeout=_HEALTH_SECONDS)) as connection:
            connection.request("GET", f"{parts.path.rstrip('/')}/-/healthy")
            status = connection.getresponse().status
    except ConnectionResetError:
        return "it hangs up; where it speaks TLS, --url has to say https"
    except (OSError, HTTPException) as error:  # before ValueError: a certificate that isn't trusted is both
        return getattr(error, "strerror", None) or type(error).__name__
    except (KeyError, ValueError):
        raise SettingsError("--url", repr(url), "an address like http://127.0.0.1:9464") from None
    return "" if status in {HTTPStatus.OK, HTTPStatus.UNAUTHORIZED} else f"it answers with status {status}"


def _has_browser(console: Console) -> bool:
    """Tell whether there is a screen to open a browser on; a browser of the terminal would take ours away."""
    return console.is_terminal and (
        sys.platform != "linux" or not {"DISPLAY", "WAYLAND_DISPLAY"}.isdisjoint(os.environ)
    )
