"""A real Prometheus and a real Alertmanager on loopback, and somebody to be paged.

Nothing sleeps for its own sake: a test waits for what it expects, and gives up after `PATIENCE`.
"""

import json
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from time import monotonic, time
from typing import Any, Final, TypeVar

import httpx
import yaml

from collector import free_port

PATIENCE: Final = 60.0
"""Seconds after which what a test waits for counts as lost."""

Found = TypeVar("Found")


def until(look: Callable[[], Found], what: str) -> Found:
    """Look again and again, and return the first thing found that isn't empty."""
    pause, deadline = Event(), monotonic() + PATIENCE
    while not (found := look()):
        assert monotonic() < deadline, f"in vain waited for {what}"
        pause.wait(0.1)
    return found


@contextmanager
def running(command: list[object], ready: str, log: Path) -> Iterator[httpx.Client]:
    """Run a server until the end of the block; yield a client of it, once it is ready."""
    base = ready.rsplit("/-/", 1)[0]
    with (
        log.open("wb") as output,
        subprocess.Popen([*map(str, command)], stdout=output, stderr=subprocess.STDOUT) as process,  # noqa: S603 - an engine
        httpx.Client(base_url=base, trust_env=False, timeout=PATIENCE) as client,
    ):
        try:
            until(lambda: _is_ready(process, client, log), ready)
            yield client
        finally:
            process.kill()


def _is_ready(process: subprocess.Popen[bytes], client: httpx.Client, log: Path) -> bool:
    assert process.poll() is None, log.read_text(encoding="utf-8")
    try:
        return client.get("/-/ready").is_success
    except httpx.TransportError:
        return False


@dataclass(frozen=True)
class Prometheus:
    """A running Prometheus."""

    http: httpx.Client

    def now(self, query: str) -> list[dict[str, Any]]:
        """Return an instant query's samples: `metric`, and `value` as text."""
        return [
            {"metric": one["metric"], "value": one["value"][1]} for one in self._get("query", query=query)["result"]
        ]

    def over_time(self, query: str, seconds: float = 60.0, step: float = 1.0) -> list[dict[str, Any]]:
        """Return a range query's series over the last seconds, a value for each step of so many."""
        end = time()
        answer = self._get("query_range", query=query, start=end - seconds, end=end, step=step)
        found: list[dict[str, Any]] = answer["result"]
        return found

    def exemplars(self, query: str) -> list[dict[str, str]]:
        """Return the labels of every exemplar of the last five minutes that belongs to a query."""
        end = time()
        found = self._get("query_exemplars", query=query, start=end - 300, end=end)
        return [exemplar["labels"] for series in found for exemplar in series["exemplars"]]

    def label_values(self, selector: str, label: str) -> list[str]:
        """Return a label's values, as Grafana's `label_values` does."""
        found: list[str] = self._get(f"label/{label}/values", **{"match[]": selector})
        return found

    def number(self, query: str) -> float:
        """Return the sum of an instant query's values."""
        return sum(float(sample["value"]) for sample in self.now(query))

    def _get(self, path: str, **parameters: object) -> Any:
        answer = self.http.get(f"/api/v1/{path}", params={name: str(value) for name, value in parameters.items()})
        assert answer.is_success, answer.text
        return answer.json()["data"]


@contextmanager
def prometheus(
    program: Path, home: Path, targets: Mapping[str, str], rules: list[Path], alertmanager: str = "", **scraping: Any
) -> Iterator[Prometheus]:
    """Run a Prometheus that scrapes twice a second.

    Args:
        program: The engine.
        home: Where its files go; blocks in `home/data` are its past.
        targets: By job, a host and port.
        rules: Files of rules.
        alertmanager: Whom to tell of alerts: a host and port.
        scraping: What else the configuration of each scrape says.
    """
    address = f"127.0.0.1:{free_port()}"
    config: dict[str, Any] = {
        "global": {"scrape_interval": "500ms", "evaluation_interval": "500ms", "scrape_timeout": "400ms"},
        "rule_files": [*map(str, rules)],
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": [target]}], **scraping} for job, target in targets.items()
        ],
    }
    if alertmanager:
        config["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]}
    file = home / "prometheus.json"
    file.write_text(json.dumps(config), encoding="utf-8")
    command = [
        program,
        f"--config.file={file}",
        f"--storage.tsdb.path={home / 'data'}",
        f"--web.listen-address={address}",
        "--enable-feature=exemplar-storage",
        "--log.level=warn",
    ]
    with running(command, f"http://{address}/-/ready", home / "prometheus.log") as client:
        yield Prometheus(client)


@dataclass(frozen=True)
class Pager:
    """Somebody who is told of alerts.

    Attributes:
        address: Where.
        told: By receiver, what came: (status, alert's name), the latest last.
    """

    address: str
    told: dict[str, list[tuple[str, str]]] = field(default_factory=dict[str, list[tuple[str, str]]])

    def has(self, receiver: str, status: str, alert: str) -> bool:
        """Tell whether this has come."""
        return (status, alert) in self.told.get(receiver, [])


@contextmanager
def paged() -> Iterator[Pager]:
    """Listen for an Alertmanager's webhooks."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            told = pager.told.setdefault(message["receiver"], [])
            told += [(alert["status"], alert["labels"]["alertname"]) for alert in message["alerts"]]
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    pager = Pager(f"127.0.0.1:{server.server_port}")
    thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield pager
    finally:
        server.shutdown()
        server.server_close()
        thread.join(PATIENCE)


@contextmanager
def alertmanager(program: Path, home: Path, example: Path, pager: Pager) -> Iterator[str]:
    """Run an Alertmanager by the example's routes, but at once and to our pager; yield its host and port."""
    config = yaml.safe_load(example.read_text(encoding="utf-8"))
    config["route"] |= {"group_wait": "0s", "group_interval": "500ms"}
    for receiver in config["receivers"]:
        for webhook in receiver["webhook_configs"]:
            webhook["url"] = re.sub(r"//[^/]+/", f"//{pager.address}/", webhook["url"])
    file = home / "alertmanager.json"
    file.write_text(json.dumps(config), encoding="utf-8")
    address = f"127.0.0.1:{free_port()}"
    command = [
        program,
        f"--config.file={file}",
        f"--storage.path={home / 'alertmanager'}",
        f"--web.listen-address={address}",
        "--cluster.listen-address=",
        "--log.level=warn",
    ]
    with running(command, f"http://{address}/-/ready", home / "alertmanager.log"):
        yield address


def quickened(rules: Path, home: Path, times: int) -> Path:
    """Return a copy of a file of rules in which all windows and waits are so many times shorter."""
    text = rules.read_text(encoding="utf-8")
    seconds = {"m": 60, "h": 3600, "d": 86_400}

    def shorter(found: re.Match[str]) -> str:
        return f"{found[1]}{int(found[2]) * seconds[found[3]] * 1000 // times}ms"

    copy = home / rules.name
    copy.write_text(re.sub(r"(\[|:|offset |for: )(\d+)([mhd])\b", shorter, text), encoding="utf-8")
    return copy
