"""The compose file's own processes, started by its own command lines, and scraped by its own Prometheus configuration.

There is no container engine: each address of the compose file is replaced by one that is free on this machine, and
nothing else is.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from signal import SIGTERM
from typing import Any

import httpx
import pytest
import yaml

from collector import Collector, free_port
from servers import Cut, Server, always, answer
from watching import Prometheus, running, until

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))["services"]
PROGRAM = Path(sys.executable).with_name("call-initiation-exporter")
PYTHON_SDK = ROOT / ".engines" / "sdk" / "bin" / "python"
ENOUGH = 20
"""Calls, so that several kinds of answers are among them."""


@dataclass(frozen=True)
class Machine:
    """This machine in place of the compose file's network.

    Attributes:
        addresses: What is here in place of what stands there.
        home: Where outputs and data go.
    """

    addresses: dict[str, str]
    home: Path

    def here(self, text: str) -> str:
        """Return a text of the compose file, or of a file that it mounts, with the addresses of this machine."""
        for there, here in self.addresses.items():
            text = text.replace(there, here)
        return text

    @contextmanager
    def service(self, name: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run a service as compose would, until the end of the block or until it has ended."""
        service = SERVICES[name]
        command = [PROGRAM, *service["command"]]
        if "entrypoint" in service:
            script = DEPLOY / service["volumes"][0].partition(":")[0]
            command = [sys.executable, script, *service["command"]]
        own = {key: self.here(value) for key, value in service.get("environment", {}).items()}
        with (
            (self.home / f"{name}.log").open("wb") as output,
            subprocess.Popen(  # noqa: S603 - our own program
                [self.here(str(word)) for word in command], env=_bare() | own, stdout=output, stderr=output
            ) as process,
        ):
            try:
                yield process
            finally:
                process.kill()

    def is_healthy(self, name: str) -> bool:
        """Ask as compose would."""
        _, word, *rest = SERVICES[name]["healthcheck"]["test"]
        command = [str(PROGRAM if word == PROGRAM.name else sys.executable), *map(self.here, rest)]
        url = self.addresses["gateway:9464"]
        command += ["--url", f"http://{url}"] if word == PROGRAM.name else []  # the image's port is the default one
        return subprocess.run(command, env=_bare(), capture_output=True, check=False).returncode == 0  # noqa: S603 - our own


def _bare() -> dict[str, str]:
    return {"PATH": os.environ["PATH"]}


@pytest.fixture
def machine(tmp_path: Path, sink: Collector) -> Machine:
    """Return free addresses for all that the compose file names."""
    organisation, gateway, metrics = (f"127.0.0.1:{free_port()}" for _ in range(3))
    return Machine(
        {
            "127.0.0.1:8900": organisation,
            "127.0.0.1:8080": gateway,
            "0.0.0.0:9464": metrics,
            "gateway:9464": metrics,
            "http://collector:4318": sink.url,
            "/var/lib/call-initiation": str(tmp_path),
            "/etc/prometheus": str(ROOT / "dashboards" / "prometheus"),
            "scrape_interval: 5s": "scrape_interval: 500ms",
        },
        tmp_path,
    )


@contextmanager
def scraping(machine: Machine, program: Path) -> Iterator[Prometheus]:
    """Run a Prometheus with the compose file's configuration and flags."""
    config = machine.home / "prometheus.yml"
    config.write_text(machine.here((DEPLOY / "compose" / "prometheus.yml").read_text(encoding="utf-8")), "utf-8")
    address = f"127.0.0.1:{free_port()}"
    flags = [flag for flag in SERVICES["prometheus"]["command"] if "=/" not in flag]
    command = [
        program,
        *flags,
        f"--config.file={config}",
        f"--storage.tsdb.path={machine.home / 'data'}",
        f"--web.listen-address={address}",
    ]
    with running(command, f"http://{address}/-/ready", machine.home / "prometheus.log") as client:
        yield Prometheus(client)


def test_what_compose_starts_works_together(
    engine: Callable[[str], Path], machine: Machine, sink: Collector, capsys: pytest.CaptureFixture[str]
) -> None:
    """Calls reach the organisation once each, Prometheus sees them with their agents' states, spans are collected."""
    with ExitStack() as stack:
        gateway, organisation = (stack.enter_context(machine.service(name)) for name in ("gateway", "organisation"))
        prometheus = stack.enter_context(scraping(machine, engine("prometheus")))
        until(lambda: machine.is_healthy("gateway"), "the gateway")
        until(lambda: machine.is_healthy("organisation"), "the organisation")
        dialer = stack.enter_context(machine.service("dialer"))

        attempts = 'call_initiation_attempts_total{job="dialer"}'
        until(lambda: prometheus.number(f"sum({attempts})") >= ENOUGH, f"{ENOUGH} attempts")
        until(lambda: prometheus.number(f'sum({attempts[:-1]}, agent_state!="unknown"}})'), "agents' states")
        assert 1 == prometheus.number('up{job="dialer"}')

        _ended(dialer)
        placed = _ledger(machine)
        until(lambda: prometheus.number(f"sum({attempts})") == placed, f"{placed} attempts")
        text = httpx.get(f"http://{machine.addresses['gateway:9464']}/metrics", trust_env=False).text
        counted = sum(map(float, re.findall(r"^call_initiation_attempts_total\{.*\} (\S+)", text, re.MULTILINE)))
        assert placed == counted
        memory = _resident(gateway.pid)
        for process in (gateway, organisation):
            _ended(process)
        assert placed == len(sink.spans())
    with capsys.disabled():
        print(f"\n{placed} calls; the gateway's memory {memory / 1e6:.0f} MB")  # noqa: T201 - that is what was measured


def _ended(process: subprocess.Popen[bytes]) -> None:
    """End a process as compose would."""
    process.send_signal(SIGTERM)
    assert 0 == process.wait(20)


def _ledger(machine: Machine) -> int:
    """Return how many calls the organisation was asked for."""
    url = f"http://{machine.addresses['127.0.0.1:8900']}/ledger?last=0"
    return int(httpx.get(url, trust_env=False).json()["calls"])


def _resident(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


# -- what the guide says of the Python SDK ---------------------------------------------------------------------------

PLACE = """
client.access_token = "token"
request = PureCloudPlatformClientV2.CreateCallRequest()
request.phone_number = "+33199000000"
try:
    PureCloudPlatformClientV2.ConversationsApi(client).post_conversations_calls(request)
except PureCloudPlatformClientV2.rest.ApiException as error:
    print(error.status)
except Exception as error:
    print(type(error).__name__)
"""
OFF = '["retries"] = False'
BUSY = answer(503, b"{}", ("Retry-After", "0"))


def test_the_guide_s_lines_turn_the_python_sdk_s_retries_off() -> None:
    """With them a call is one POST; without the last of them it is eleven."""
    if not PYTHON_SDK.exists():
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("`make sdks` installs the SDK")
    guide = (ROOT / "docs" / "gateway.md").read_text(encoding="utf-8")
    (lines,) = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    kept = "".join(line for line in lines.splitlines(keepends=True) if OFF not in line)
    with ExitStack() as stack:
        servers = [stack.enter_context(Server(always(act))) for act in (BUSY, Cut.CLOSE, BUSY, Cut.CLOSE)]
        scripts = [
            text.replace("8080", str(server.port)) + PLACE
            for text, server in zip((lines, lines, kept, kept), servers, strict=True)
        ]
        command = [PYTHON_SDK, "-c", "".join(scripts)]
        done = subprocess.run(command, env=_bare(), capture_output=True, check=True, timeout=110)  # noqa: S603 - the guide's
        assert ["503", "ProtocolError", "503", "MaxRetryError"] == done.stdout.decode().split()
        assert [1, 1, 11, 11] == [len(server.received) for server in servers]
